/* SPDX-License-Identifier: MIT */
#ifndef MMN_BASE_COMPILER_H
#define MMN_BASE_COMPILER_H
/*
 * Words that the compiler understands and C lacks.
 */
#include <stddef.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define container_of(ptr, type, member) \
	((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

#ifdef __has_feature
#define MMN_HAS_FEATURE(x) __has_feature(x)
#else
#define MMN_HAS_FEATURE(x) 0
#endif

#if defined(__SANITIZE_THREAD__) || MMN_HAS_FEATURE(thread_sanitizer)
#define MMN_TSAN 1
#else
#define MMN_TSAN 0
#endif

#if defined(__SANITIZE_ADDRESS__) || MMN_HAS_FEATURE(address_sanitizer)
#define MMN_ASAN 1
#else
#define MMN_ASAN 0
#endif

/* clang's -Wthread-safety; works on functions, not on members, in C. */
#ifdef __clang__
#define MMN_CAPABILITY(name) __attribute__((capability(name)))
#define MMN_ACQUIRES(lock) __attribute__((acquire_capability(lock)))
#define MMN_TRY_ACQUIRES(lock) __attribute__((try_acquire_capability(1, lock)))
#define MMN_RELEASES(lock) __attribute__((release_capability(lock)))
#define MMN_REQUIRES(lock) __attribute__((requires_capability(lock)))
#define MMN_NO_LOCK_ANALYSIS __attribute__((no_thread_safety_analysis))
#else
#define MMN_CAPABILITY(name)
#define MMN_ACQUIRES(lock)
#define MMN_TRY_ACQUIRES(lock)
#define MMN_RELEASES(lock)
#define MMN_REQUIRES(lock)
#define MMN_NO_LOCK_ANALYSIS
#endif

#endif
