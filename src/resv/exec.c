/* SPDX-License-Identifier: MIT */
/*
 * A set of locks that is taken with back-off.
 *
 *	contended	retake		what mmn_exec_lock() does
 *	---------	------		----------------------------------------
 *	NULL		NULL		locks
 *	lock		NULL		fails: the body has to begin again
 *	NULL		lock		locks that one first, by the slow path
 *
 * mmn_exec_cleanup() leads from the second row to the third, with everything
 * unlocked.  The slow path is left to the next mmn_exec_lock(), which can return
 * an error to the body.
 */
#include <mmn/exec.h>

#include <stdlib.h>
#include <string.h>

#include "base/bug.h"
#include "base/compiler.h"
#include "base/inject.h"
#include "resv/ww-mutex.h"

/* An entry is a lock, and whether it is that of a reservation object. */
enum { IS_RESV = 1 };

static const uint32_t known_flags =
	MMN_EXEC_INTERRUPTIBLE | MMN_EXEC_IGNORE_DUPLICATES;

static struct ww_mutex *entry_lock(unsigned long entry)
{
	return (struct ww_mutex *)(entry & ~(unsigned long)IS_RESV);
}

static void unlock_entry(unsigned long entry)
{
	struct ww_mutex *lock = entry_lock(entry);

	if (entry & IS_RESV)
		dma_resv_unlock(container_of(lock, struct dma_resv, lock));
	else
		ww_mutex_unlock(lock);
}

static bool exec_check(const struct mmn_exec *exec)
{
	return exec->num_locks <= exec->max_locks &&
	       exec->num_locks == exec->ticket.acquired &&
	       !(exec->contended && exec->retake);
}

void mmn_exec_init(struct mmn_exec *exec, struct ww_class *ww_class,
		   uint32_t flags)
{
	mmn_bug_on(flags & ~known_flags, "an unknown flag");
	memset(exec, 0, sizeof(*exec));
	ww_acquire_init(&exec->ticket, ww_class);
	exec->flags = flags & known_flags;
	exec->locks = exec->inline_locks;
	exec->max_locks = MMN_EXEC_NR_INLINE;
}

static void unlock_all(struct mmn_exec *exec)
{
	mmn_check(exec_check(exec));
	while (exec->num_locks)
		unlock_entry(exec->locks[--exec->num_locks]);
	exec->prelocked = 0;
}

void mmn_exec_fini(struct mmn_exec *exec)
{
	if (!exec->max_locks)
		return;
	unlock_all(exec);
	ww_acquire_fini(&exec->ticket);
	if (exec->locks != exec->inline_locks)
		free(exec->locks);
	exec->max_locks = 0;
}

bool mmn_exec_cleanup(struct mmn_exec *exec)
{
	if (exec->contended) {
		unlock_all(exec);
		exec->retake = exec->contended;
		exec->contended = 0;
		return true;
	}
	if (!exec->begun) {
		exec->begun = true;
		return true;
	}
	ww_acquire_done(&exec->ticket);
	return false;
}

bool mmn_exec_is_contended(const struct mmn_exec *exec)
{
	return exec->contended;
}

/* Before locking, so that nothing has to be undone. */
static int make_room(struct mmn_exec *exec)
{
	uint32_t max = exec->max_locks * 2;
	unsigned long *locks;

	if (exec->num_locks < exec->max_locks)
		return 0;
	if (MMN_INJECT(MMN_INJECT_ALLOC))
		return -ENOMEM;
	locks = calloc(max, sizeof(*locks));
	if (!locks)
		return -ENOMEM;
	memcpy(locks, exec->locks, exec->num_locks * sizeof(*locks));
	if (exec->locks != exec->inline_locks)
		free(exec->locks);
	exec->locks = locks;
	exec->max_locks = max;
	return 0;
}

static int lock_first_by_slow_path(struct mmn_exec *exec)
{
	struct ww_mutex *lock = entry_lock(exec->retake);
	int ret = 0;

	if (!lock)
		return 0;
	if (exec->flags & MMN_EXEC_INTERRUPTIBLE)
		ret = ww_mutex_lock_slow_interruptible(lock, &exec->ticket);
	else
		ww_mutex_lock_slow(lock, &exec->ticket);
	if (ret)
		return ret;
	exec->prelocked = exec->retake;
	exec->locks[exec->num_locks++] = exec->retake;
	exec->retake = 0;
	return 0;
}

static int lock_another(struct mmn_exec *exec, unsigned long entry)
{
	struct ww_mutex *lock = entry_lock(entry);
	int ret;

	if (exec->flags & MMN_EXEC_INTERRUPTIBLE)
		ret = ww_mutex_lock_interruptible(lock, &exec->ticket);
	else
		ret = ww_mutex_lock(lock, &exec->ticket);
	if (!ret)
		exec->locks[exec->num_locks++] = entry;
	if (ret == -EDEADLK)
		exec->contended = entry;
	if (ret == -EALREADY && ww_mutex_locking_ctx(lock) == &exec->ticket &&
	    (exec->flags & MMN_EXEC_IGNORE_DUPLICATES))
		return 0;
	return ret;
}

static int lock_entry(struct mmn_exec *exec, unsigned long entry)
{
	int ret;

	if (exec->contended)
		return -EDEADLK;
	ret = lock_first_by_slow_path(exec);
	if (ret)
		return ret;
	if (exec->prelocked == entry) {
		exec->prelocked = 0;
		return 0;
	}
	ret = make_room(exec);
	return ret ?: lock_another(exec, entry);
}

int mmn_exec_lock(struct mmn_exec *exec, struct ww_mutex *lock)
{
	return lock_entry(exec, (unsigned long)lock);
}

int mmn_exec_lock_resv(struct mmn_exec *exec, struct dma_resv *obj)
{
	return lock_entry(exec, (unsigned long)&obj->lock | IS_RESV);
}

void mmn_exec_unlock(struct mmn_exec *exec, struct ww_mutex *lock)
{
	uint32_t i = exec->num_locks;
	unsigned long entry;

	while (i && entry_lock(exec->locks[i - 1]) != lock)
		i--;
	mmn_bug_on(!i, "a lock that is not in the set is taken out of it");
	if (!i)
		return;
	entry = exec->locks[i - 1];
	for (; i < exec->num_locks; i++)
		exec->locks[i - 1] = exec->locks[i];
	exec->num_locks--;
	if (exec->prelocked == entry)
		exec->prelocked = 0;
	unlock_entry(entry);
}

int mmn_exec_prepare(struct mmn_exec *exec, struct dma_resv *obj,
		     unsigned int num_fences)
{
	uint32_t num_before = exec->num_locks;
	int ret = mmn_exec_lock_resv(exec, obj);

	if (ret)
		return ret;
	ret = dma_resv_reserve_fences(obj, num_fences);
	/* What was a duplicate stays locked. */
	if (ret && exec->num_locks > num_before)
		mmn_exec_unlock(exec, &obj->lock);
	return ret;
}

int mmn_exec_prepare_array(struct mmn_exec *exec, struct dma_resv **objs,
			   uint32_t count, unsigned int num_fences)
{
	uint32_t i;
	int ret = 0;

	for (i = 0; i < count && !ret; i++)
		ret = mmn_exec_prepare(exec, objs[i], num_fences);
	return ret;
}
