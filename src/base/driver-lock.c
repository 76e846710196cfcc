/* SPDX-License-Identifier: MIT */
/*
 * Is the driver's lock held by the calling thread?
 *
 * Asked by asserts of debug builds only.  pthreads has no such question, so the
 * members that glibc keeps for its own error checks are read:
 *
 *   mutex   __owner is the holder's kernel thread id, for every type but one:
 *           an elided lock (TSX) leaves it 0.
 *   rwlock  __cur_writer is the id of the thread that holds it for writing.
 *           Readers are only counted: __readers >> 3, and they hold the lock
 *           while the write-phase bit (1) is clear.
 *
 * What cannot be known is answered with UNKNOWN, and the caller of the asking
 * functions gets the answer that does not complain.
 */
#include <mmn/notifier.h>

#include <pthread.h>

#include "base/atomic.h"
#include "base/lock.h"
#include "base/syscall.h"

enum held { HELD_NO, HELD_READ, HELD_WRITE, HELD_UNKNOWN };

#ifdef __GLIBC__

#define MUTEX_ELISION 256 /* PTHREAD_MUTEX_ELISION_NP */
#define RWLOCK_WRITE_PHASE 1u
#define RWLOCK_READER_SHIFT 3

static enum held mutex_held(pthread_mutex_t *mutex)
{
	int tid = (int)mmn_syscall0(__NR_gettid);

	/* relaxed: constant for the life of the mutex */
	if (mmn_load_relaxed(&mutex->__data.__kind) & MUTEX_ELISION)
		return HELD_UNKNOWN;
	/* relaxed: equal to our own id only if we stored it ourselves */
	if (mmn_load_relaxed(&mutex->__data.__owner) == tid)
		return HELD_WRITE;
	return HELD_NO;
}

static enum held rwlock_held(pthread_rwlock_t *rwlock)
{
	int tid = (int)mmn_syscall0(__NR_gettid);
	unsigned int readers;

	/* relaxed: equal to our own id only if we stored it ourselves */
	if (mmn_load_relaxed(&rwlock->__data.__cur_writer) == tid)
		return HELD_WRITE;
	/* relaxed: if we are a reader our own count keeps it above 0 */
	readers = mmn_load_relaxed(&rwlock->__data.__readers);
	if (readers >> RWLOCK_READER_SHIFT && !(readers & RWLOCK_WRITE_PHASE))
		return HELD_READ;
	return HELD_NO;
}

#else

static enum held mutex_held(pthread_mutex_t *mutex)
{
	(void)mutex;
	return HELD_UNKNOWN;
}

static enum held rwlock_held(pthread_rwlock_t *rwlock)
{
	(void)rwlock;
	return HELD_UNKNOWN;
}

#endif

static enum held driver_lock_held(const struct mmn_driver_lock *lock)
{
	switch (lock->kind) {
	case MMN_DRIVER_LOCK_MUTEX:
		return mutex_held((pthread_mutex_t *)lock->lock);
	case MMN_DRIVER_LOCK_RWLOCK:
		return rwlock_held((pthread_rwlock_t *)lock->lock);
	case MMN_DRIVER_LOCK_PREDICATE:
		return lock->is_held(lock->lock) ? HELD_WRITE : HELD_NO;
	default:
		return HELD_UNKNOWN;
	}
}

bool mmn_driver_lock_is_held(const struct mmn_driver_lock *lock)
{
	return driver_lock_held(lock) != HELD_NO;
}

bool mmn_driver_lock_is_held_exclusive(const struct mmn_driver_lock *lock)
{
	enum held held = driver_lock_held(lock);

	return held == HELD_WRITE || held == HELD_UNKNOWN;
}

bool mmn_driver_lock_is_surely_held(const struct mmn_driver_lock *lock)
{
	return driver_lock_held(lock) == HELD_WRITE;
}
