/* SPDX-License-Identifier: MIT */
#ifndef MMN_BASE_LOCK_H
#define MMN_BASE_LOCK_H
/*
 * Ranked mutexes, signal masks, and the question whether a driver's lock is
 * held.
 *
 * Every lock of the library has a rank and a thread takes locks in ascending
 * rank only.  Builds with self-checks keep a per-thread stack of what is held
 * and report, once per pair of places, both places of a wrong order; they do so
 * the first time the order is wrong, not the first time it deadlocks.  The idea
 * of ranks in one enum is jemalloc's witness.h.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/context.h"
#include "base/lock-order.h"
#include "base/syscall.h"
#include "config.h"

struct mmn_driver_lock;

/*
 * Order matters: who holds a lock may take only locks further down.
 *
 * Locks from MMN_RANK_SHORT on are short: held for a bounded number of
 * instructions, with all signals blocked, never while sleeping.  Only those may
 * be taken in a callback that must not sleep.
 */
enum mmn_lock_rank {
	MMN_RANK_RESERVATION = 5,     /* struct ww_mutex: of the program */
	MMN_RANK_RUN = 10,	      /* a tool built on the library */
	MMN_RANK_SOURCE_INSTALL = 20, /* installing and removing a source */
	MMN_RANK_MIRROR = 30,	      /* one mirror's requests */
	MMN_RANK_DRIVER = 40,	      /* the lock bound to subscriptions */
	MMN_RANK_DEVICE = 50,	      /* one device's maps and queue */
	MMN_RANK_SUBSCRIBE = 60,      /* making shared subscriptions */
	MMN_RANK_GRACE = 70,	      /* waiting for callbacks of a cache */

	MMN_RANK_SHORT = 100,
	MMN_RANK_SOURCE_TABLE = 110, /* a source's table of sites */
	MMN_RANK_REGISTRY = 120,     /* the list of all states */
	MMN_RANK_SHARED = 130,	     /* subscriptions shared per (state, ops) */
	MMN_RANK_STATE = 140,	     /* one address space: S */
	MMN_RANK_DEVICE_MAP = 150,   /* counters of one device map */
	MMN_RANK_ARENA = 160,	     /* memory for callbacks */
	MMN_RANK_LEAF = 170,	     /* nothing is taken inside */
};

struct MMN_CAPABILITY("mutex") mmn_mutex {
	pthread_mutex_t mutex;
	/* const after init */
	uint32_t rank;
#if MMN_SELFCHECK
	/* atomic: mmn_context_self() of the holder, stored under the lock */
	const void *owner;
#endif
};

#define MMN_MUTEX_INIT(r)                                        \
	{                                                        \
		.mutex = PTHREAD_MUTEX_INITIALIZER, .rank = (r), \
	}

void mmn_mutex_init(struct mmn_mutex *m, enum mmn_lock_rank rank);
void mmn_mutex_fini(struct mmn_mutex *m);

#if MMN_SELFCHECK

void mmn_mutex_lock_at(struct mmn_mutex *m, const struct mmn_site *site)
	MMN_ACQUIRES(*m);
bool mmn_mutex_trylock_at(struct mmn_mutex *m, const struct mmn_site *site)
	MMN_TRY_ACQUIRES(*m);
void mmn_mutex_unlock(struct mmn_mutex *m) MMN_RELEASES(*m);
bool mmn_mutex_is_held(const struct mmn_mutex *m);

#define mmn_mutex_lock(m) mmn_mutex_lock_at((m), MMN_SITE())
#define mmn_mutex_trylock(m) mmn_mutex_trylock_at((m), MMN_SITE())
#define mmn_might_sleep() mmn_order_sleeping(MMN_SITE())

#else

static inline void mmn_mutex_lock(struct mmn_mutex *m)
	MMN_ACQUIRES(*m) MMN_NO_LOCK_ANALYSIS
{
	pthread_mutex_lock(&m->mutex);
}

static inline bool mmn_mutex_trylock(struct mmn_mutex *m)
	MMN_TRY_ACQUIRES(*m) MMN_NO_LOCK_ANALYSIS
{
	return pthread_mutex_trylock(&m->mutex) == 0;
}

static inline void mmn_mutex_unlock(struct mmn_mutex *m)
	MMN_RELEASES(*m) MMN_NO_LOCK_ANALYSIS
{
	pthread_mutex_unlock(&m->mutex);
}

/* Only ever asked inside mmn_bug_on() and mmn_check(). */
static inline bool mmn_mutex_is_held(const struct mmn_mutex *m)
{
	(void)m;
	return true;
}

#define mmn_might_sleep() ((void)0)

#endif

/* The kernel's signal set: one bit per signal, 1 to 64. */
struct mmn_sigmask {
	uint64_t bits;
};

/*
 * Block every signal, those of libc's own use included.  A handler of the
 * program may change memory and so enter the library again: it must not find
 * this thread with a lock held.
 */
static inline void mmn_signals_block(struct mmn_sigmask *saved)
{
	struct mmn_sigmask all = { ~UINT64_C(0) };

	mmn_syscall4(__NR_rt_sigprocmask, 0 /* SIG_BLOCK */, &all, saved,
		     sizeof(all));
}

static inline void mmn_signals_restore(const struct mmn_sigmask *saved)
{
	mmn_syscall4(__NR_rt_sigprocmask, 2 /* SIG_SETMASK */, saved, 0,
		     sizeof(*saved));
}

/*
 * The same, known to the thread's context: whoever comes to this point again
 * meanwhile saves the system call.
 */
static inline void mmn_signals_hold(struct mmn_sigmask *saved)
{
	if (!mmn_context.signals_blocked)
		mmn_signals_block(saved);
	mmn_context.signals_blocked++;
}

static inline void mmn_signals_release(const struct mmn_sigmask *saved)
{
	if (!--mmn_context.signals_blocked)
		mmn_signals_restore(saved);
}

static inline bool mmn_signals_are_held(void)
{
	return mmn_context.signals_blocked;
}

/*
 * Does the calling thread hold the lock bound to a subscription?  For asserts:
 * where it cannot be known (kind NONE, no glibc, an elided mutex) the answer is
 * true.  A rwlock held for reading by anybody counts as held, because it does
 * not say by whom; the exclusive form does not accept it.
 */
bool mmn_driver_lock_is_held(const struct mmn_driver_lock *lock);
bool mmn_driver_lock_is_held_exclusive(const struct mmn_driver_lock *lock);

/*
 * Does the calling thread certainly hold it?  The opposite default: false where
 * it cannot be known.  For "must not be held here".
 */
bool mmn_driver_lock_is_surely_held(const struct mmn_driver_lock *lock);

#endif
