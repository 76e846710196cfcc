/* SPDX-License-Identifier: MIT */
#ifndef MMN_LADDER_SUBJECT_H
#define MMN_LADDER_SUBJECT_H
/*
 * Included before everything else in code that is compiled for the explorer:
 * what such code calls in libc comes to the explorer instead, and each access
 * through base/atomic.h says where it stands.
 */
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "config.h"
#include "ladder/site.h"

/*
 * Self-checks keep books of their own, which would be explored and printed too;
 * scenarios call the invariants that they want.
 */
#undef MMN_SELFCHECK
#define MMN_SELFCHECK 0

/* Nobody traces, and nothing is injected. */
#undef MMN_HAVE_SDT
#define MMN_HAVE_SDT 0
#define MMN_BASE_INJECT_H
#define MMN_INJECT(point) 0
#define MMN_INJECT_PAUSE() ((void)0)

#define MMN_ATOMIC_SITE(name, p)                                 \
	__extension__({                                          \
		static const struct access_site site_ = {        \
			__FILE__, __func__, __LINE__, #name, #p, \
		};                                               \
		ladder_at(&site_);                               \
	})

/* The library beside it has the same names, and keeps to its own. */
#define MMN_PUBLIC __attribute__((visibility("hidden")))
#pragma GCC visibility push(hidden)

int ladder_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *unused);
int ladder_mutex_destroy(pthread_mutex_t *m);
int ladder_mutex_lock(pthread_mutex_t *m);
int ladder_mutex_trylock(pthread_mutex_t *m);
int ladder_mutex_unlock(pthread_mutex_t *m);
#define pthread_mutex_init ladder_mutex_init
#define pthread_mutex_destroy ladder_mutex_destroy
#define pthread_mutex_lock ladder_mutex_lock
#define pthread_mutex_trylock ladder_mutex_trylock
#define pthread_mutex_unlock ladder_mutex_unlock

void *ladder_malloc(size_t size);
void *ladder_calloc(size_t nr, size_t size);
void *ladder_aligned_alloc(size_t align, size_t size);
void ladder_free(void *p);
#define malloc ladder_malloc
#define calloc ladder_calloc
#define aligned_alloc ladder_aligned_alloc
#define free ladder_free

void *ladder_memcpy(void *to, const void *from, size_t size);
void *ladder_memmove(void *to, const void *from, size_t size);
void *ladder_memset(void *to, int byte, size_t size);
#define memcpy ladder_memcpy
#define memmove ladder_memmove
#define memset ladder_memset

/*
 * The body of a loop that spins: the calling thread waits until what it read
 * last is written again.
 */
void ladder_spin(void);
#define sched_yield() ladder_spin()

/* Read sections and grace periods are those of rcu.c here. */
#define MMN_LADDER_RCU

/* Time stands still. */
int ladder_clock_gettime(clockid_t clock, struct timespec *ret_now);
#define clock_gettime ladder_clock_gettime

#pragma GCC visibility pop

#endif
