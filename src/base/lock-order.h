/* SPDX-License-Identifier: MIT */
#ifndef MMN_BASE_LOCK_ORDER_H
#define MMN_BASE_LOCK_ORDER_H
/*
 * What the calling thread holds, and in which order it may take more.
 *
 * Every lock of the library tells here when it is taken and released, and so may
 * locks of the program.  Two things are judged, both before anything hangs:
 * ranks (base/lock.h), and what is held while waiting for a fence against what is
 * taken on the way to a signal:
 *
 *	CPU0: consumer                     CPU1: producer
 *
 *	lock A
 *	wait for the fence                 begin signalling
 *	                                   lock A          waits for CPU0
 *	                                   signal
 *
 * Nothing goes wrong as long as the two never meet.  So each kind of lock that is
 * held across a wait is remembered, each that is taken on the way to a signal
 * too, and the second of the two is reported with the place of the first.  The
 * idea, and that of the cookie, is lockdep's use in Linux.
 *
 * Builds without self-checks keep nothing.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/context.h"
#include "config.h"

static inline struct mmn_place mmn_place(const struct mmn_site *site)
{
	if (site->caller)
		return (struct mmn_place){ NULL, (uintptr_t)site->caller };
	return (struct mmn_place){ site->file, site->line };
}

#if MMN_SELFCHECK

/* Before waiting for a lock.  One that is tried only is in order anywhere. */
void mmn_order_taking(const struct mmn_held_lock *lock,
		      const struct mmn_site *site);

/* Right after; adds to the count if the lock has an entry. */
void mmn_order_taken(const struct mmn_held_lock *lock,
		     const struct mmn_site *site);

/* Right before; drops the entry with the last one. */
void mmn_order_released(const void *lock);

/*
 * The caller is about to sleep for an unbounded time: reported when it holds a
 * short lock or is in a callback that must not.
 */
void mmn_order_sleeping(const struct mmn_site *site);

/* The caller is about to wait for a fence. */
void mmn_order_waiting(const struct mmn_site *site);

/* Say so where the same two places are to be reported once. */
bool mmn_order_is_news(struct mmn_place a, struct mmn_place b);

static inline bool mmn_order_signalling(void)
{
	return mmn_context.signalling;
}

static inline void mmn_order_set_signalling(bool signalling)
{
	/* The compiler knows that malloc() does not read it: ours does. */
	mmn_barrier();
	mmn_context.signalling = signalling;
	mmn_barrier();
}

#else

static inline bool mmn_order_signalling(void)
{
	return false;
}

static inline void mmn_order_set_signalling(bool signalling)
{
	(void)signalling;
}

#endif

#endif
