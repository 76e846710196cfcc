/* SPDX-License-Identifier: MIT */
#ifndef COMPAT_LINUX_H
#define COMPAT_LINUX_H
/*
 * The few primitives of the kernel that the drivers here use, beside the
 * notifiers: what somebody who ports a driver brings along.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <mmn/memory.h>

#define PAGE_SHIFT 12
#define PAGE_SIZE (1ul << PAGE_SHIFT)
#define PAGE_MASK (~(PAGE_SIZE - 1))

#define container_of(ptr, type, member) \
	((type *)((char *)(ptr)-offsetof(type, member)))
#define READ_ONCE(x) __atomic_load_n(&(x), __ATOMIC_RELAXED)
#define WRITE_ONCE(x, v) __atomic_store_n(&(x), (v), __ATOMIC_RELAXED)
#define smp_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define smp_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define max(a, b) ((a) > (b) ? (a) : (b))
#define min(a, b) ((a) < (b) ? (a) : (b))

struct mutex {
	pthread_mutex_t lock;
};

static inline void mutex_init(struct mutex *mutex)
{
	pthread_mutex_init(&mutex->lock, NULL);
}

static inline void mutex_lock(struct mutex *mutex)
{
	pthread_mutex_lock(&mutex->lock);
}

static inline bool mutex_trylock(struct mutex *mutex)
{
	return !pthread_mutex_trylock(&mutex->lock);
}

static inline void mutex_unlock(struct mutex *mutex)
{
	pthread_mutex_unlock(&mutex->lock);
}

/* The kernel frees in callbacks, so its allocator is the one that is allowed to. */
static inline void *kzalloc(size_t size)
{
	void *memory = mmn_callback_alloc(size);

	return memory ? memset(memory, 0, size) : NULL;
}

static inline void kfree(void *memory)
{
	mmn_callback_free(memory);
}

static inline void *ERR_PTR(long error)
{
	return (void *)error;
}

static inline long PTR_ERR(const void *ptr)
{
	return (long)ptr;
}

static inline bool IS_ERR(const void *ptr)
{
	return (uintptr_t)ptr >= (uintptr_t)-4095;
}

/*
 * The memory manager: one word per page that says what is there, written
 * between start and end of a change only.  A driver that uses a stale word
 * holds a value that the page does not have any more.
 */
#define VM_PAGES 64
#define VM_BASE (1ul << 30)

struct vm {
	struct mm_struct *mm;
	unsigned long page[VM_PAGES];
};

static inline unsigned long vm_read(struct vm *vm, unsigned long addr)
{
	return __atomic_load_n(&vm->page[(addr - VM_BASE) >> PAGE_SHIFT],
			       __ATOMIC_RELAXED);
}

#endif
