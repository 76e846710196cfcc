/* SPDX-License-Identifier: MIT */
#ifndef SHIM_LINUX_SHIM_H
#define SHIM_LINUX_SHIM_H
/*
 * Kernel primitives for code that was written against the kernel's fences: nothing
 * here knows a fence or a reservation object, those are the library's.
 */
#include <mmn/dma-fence.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;
typedef int64_t ktime_t;
typedef struct spinlock spinlock_t;

#define __rcu
#define __must_check __attribute__((warn_unused_result))

#define spin_lock_init(lock) mmn_spin_init(lock)
#define spin_lock(lock) mmn_spin_lock(lock)
#define spin_unlock(lock) mmn_spin_unlock(lock)
#define spin_lock_irqsave(lock, flags) ((flags) = 0, mmn_spin_lock(lock))
#define spin_unlock_irqrestore(lock, flags) \
	((void)(flags), mmn_spin_unlock(lock))

#define rcu_read_lock() dma_fence_read_begin()
#define rcu_read_unlock() dma_fence_read_end()
#define synchronize_rcu() dma_fence_synchronize()
#define rcu_dereference(slot) __atomic_load_n(&(slot), __ATOMIC_ACQUIRE)
#define rcu_dereference_protected(slot, held) ((void)(held), (slot))
#define rcu_assign_pointer(slot, to) \
	__atomic_store_n(&(slot), (to), __ATOMIC_RELEASE)

#define GFP_KERNEL 0
#define kzalloc(size, gfp) ((void)(gfp), calloc(1, (size)))
#define kmalloc_array(nr, size, gfp) ((void)(gfp), calloc((nr), (size)))
#define kfree(memory) free(memory)

#define HZ DMA_FENCE_HZ
#define MAX_SCHEDULE_TIMEOUT DMA_FENCE_TIMEOUT_MAX
#define msecs_to_jiffies(ms) ((unsigned long)(ms))
#define ns_to_ktime(ns) ((ktime_t)(ns))

static inline ktime_t ktime_get(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

#define container_of(member_, type, member) \
	((type *)(void *)((char *)(member_)-offsetof(type, member)))

static inline bool test_bit(unsigned int bit, const unsigned long *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE) >> bit & 1;
}

static inline bool test_and_set_bit(unsigned int bit, unsigned long *word)
{
	return __atomic_fetch_or(word, 1ul << bit, __ATOMIC_ACQ_REL) >> bit & 1;
}

#endif
