/* SPDX-License-Identifier: MIT */
#ifndef MMN_CMD_ATOMIC_H
#define MMN_CMD_ATOMIC_H
/*
 * The memory orders of the command, which sees installed headers only and so
 * not those of src/base/atomic.h.  The rules are the same.
 */
#define load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define fetch_add_relaxed(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define cmpxchg_relaxed(p, seen, v)                                        \
	__atomic_compare_exchange_n((p), (seen), (v), 0, __ATOMIC_RELAXED, \
				    __ATOMIC_RELAXED)

#endif
