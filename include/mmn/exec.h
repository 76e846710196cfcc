/* SPDX-License-Identifier: MIT */
#ifndef MMN_EXEC_H
#define MMN_EXEC_H
/*
 * Lock a set of objects, whatever their order and whoever else wants them.
 *
 *	struct mmn_exec exec;
 *	int ret = 0;
 *
 *	mmn_exec_init(&exec, &reservation_ww_class, 0);
 *	mmn_exec_until_all_locked(&exec) {
 *		for (i = 0; i < n && !ret; i++)
 *			ret = mmn_exec_prepare(&exec, &buffers[i].resv, 1);
 *		mmn_exec_retry_on_contention(&exec);
 *		if (ret)
 *			break;
 *	}
 *	if (!ret)
 *		use them;
 *	mmn_exec_fini(&exec);
 *
 * The body is run from its beginning as often as the set is contended: each time
 * everything is unlocked, and what was contended is waited for and locked first.
 * So it must not have effects that cannot be repeated, and it may lock another set
 * than the last time.  What it locks is not known before, only found out on the
 * way: that is what this is for, and what drm_exec is to the kernel.
 */
#include <mmn/common.h>
#include <mmn/dma-resv.h>
#include <mmn/ww-mutex.h>

MMN_BEGIN_DECLS

/* Locks may be interrupted by the thread's dma_fence_cancel. */
#define MMN_EXEC_INTERRUPTIBLE 1u
/* Locking what is locked already is a success. */
#define MMN_EXEC_IGNORE_DUPLICATES 2u

/* Locks for which no memory is allocated. */
#define MMN_EXEC_NR_INLINE 16

/**
 * struct mmn_exec - a set of locks that is being taken
 * @ticket: the context that holds them
 * @flags: private
 * @begun: private
 * @num_locks: locks held
 * @max_locks: private
 * @locks: private: the locks held
 * @contended: private: what the last lock failed for
 * @retake: private: what to lock before anything else
 * @prelocked: private: what was locked that way and is not asked for yet
 * @inline_locks: private
 *
 * On the stack of the thread that locks.
 */
struct mmn_exec {
	struct ww_acquire_ctx ticket;
	uint32_t flags;
	uint32_t begun;
	uint32_t num_locks;
	uint32_t max_locks;
	unsigned long *locks;
	unsigned long contended;
	unsigned long retake;
	unsigned long prelocked;
	unsigned long inline_locks[MMN_EXEC_NR_INLINE];
};

/**
 * mmn_exec_init - begin with an empty set
 * @exec: memory of the caller
 * @ww_class: of all locks; &reservation_ww_class for reservation objects
 * @flags: MMN_EXEC_*; others are reported and ignored
 *
 * Context: any.
 */
MMN_PUBLIC
void mmn_exec_init(struct mmn_exec *exec, struct ww_class *ww_class,
		   uint32_t flags);

/**
 * mmn_exec_fini - unlock everything, the last one first
 * @exec: all zero, or from mmn_exec_init()
 *
 * Context: the thread of the set.
 */
MMN_PUBLIC
void mmn_exec_fini(struct mmn_exec *exec);

/**
 * mmn_exec_cleanup - what mmn_exec_until_all_locked() is made of
 * @exec: from mmn_exec_init()
 *
 * Context: the thread of the set.
 * Return: true when the set is to be locked, for the first time or again.
 */
MMN_PUBLIC
MMN_MUST_CHECK bool mmn_exec_cleanup(struct mmn_exec *exec);

/* Run the body until it is through without contention; break gives up. */
#define mmn_exec_until_all_locked(exec) while (mmn_exec_cleanup(exec))

/* In the body, in no loop within it: begin again if something is contended. */
#define mmn_exec_retry_on_contention(exec) \
	if (mmn_exec_is_contended(exec))   \
	continue

/**
 * mmn_exec_is_contended - must the body be left, to begin again?
 * @exec: from mmn_exec_init()
 *
 * Context: the thread of the set.
 */
MMN_PUBLIC
bool mmn_exec_is_contended(const struct mmn_exec *exec);

/**
 * mmn_exec_lock - lock one of the set
 * @exec: inside mmn_exec_until_all_locked()
 * @lock: of the set's class; stays until mmn_exec_fini()
 *
 * After -EDEADLK every further call is -EDEADLK without effect, until the body
 * begins again.
 *
 * Context: as ww_mutex_lock(); uses the heap for more than MMN_EXEC_NR_INLINE.
 * Return: 0; -EDEADLK (begin again); -EALREADY (locked already, without
 * MMN_EXEC_IGNORE_DUPLICATES); -EINTR (with MMN_EXEC_INTERRUPTIBLE); -ENOMEM;
 * -EINVAL (of another class, another thread, or after the loop; reported).
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_exec_lock(struct mmn_exec *exec, struct ww_mutex *lock);

/**
 * mmn_exec_lock_resv - likewise for a reservation object
 * @exec: inside mmn_exec_until_all_locked()
 * @obj: stays until mmn_exec_fini()
 *
 * Context: as mmn_exec_lock().
 * Return: as mmn_exec_lock().
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_exec_lock_resv(struct mmn_exec *exec,
				      struct dma_resv *obj);

/**
 * mmn_exec_unlock - take one out of the set
 * @exec: from mmn_exec_init()
 * @lock: locked with it (otherwise reported, without effect); of a reservation
 *	object its @lock
 *
 * Context: the thread of the set.
 */
MMN_PUBLIC
void mmn_exec_unlock(struct mmn_exec *exec, struct ww_mutex *lock);

/**
 * mmn_exec_prepare - lock a reservation object and make room in it
 * @exec: inside mmn_exec_until_all_locked()
 * @obj: stays until mmn_exec_fini()
 * @num_fences: see dma_resv_reserve_fences(), at least 1
 *
 * Context: as mmn_exec_lock(); uses the heap.
 * Return: as mmn_exec_lock(), with nothing locked by this call on errors; -EINVAL
 * also for @num_fences of 0.
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_exec_prepare(struct mmn_exec *exec, struct dma_resv *obj,
				    unsigned int num_fences);

/**
 * mmn_exec_prepare_array - likewise for several
 * @exec: inside mmn_exec_until_all_locked()
 * @objs: stay until mmn_exec_fini()
 * @count: may be 0
 * @num_fences: see dma_resv_reserve_fences(), at least 1
 *
 * Context: as mmn_exec_prepare().
 * Return: 0, or what mmn_exec_prepare() returned for the first that failed; those
 * before it stay locked.
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_exec_prepare_array(struct mmn_exec *exec,
					  struct dma_resv **objs,
					  uint32_t count,
					  unsigned int num_fences);

MMN_END_DECLS

#endif
