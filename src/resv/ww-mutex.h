/* SPDX-License-Identifier: MIT */
#ifndef MMN_RESV_WW_MUTEX_H
#define MMN_RESV_WW_MUTEX_H
/*
 * What reservation objects ask of their locks.
 */
#include <mmn/ww-mutex.h>

#include "base/atomic.h"
#include "base/context.h"

/* Flags of ww_mutex.word beside the context, which is aligned. */
enum { WW_HELD = 1, WW_QUEUED = 2, WW_FLAGS = 3 };

static inline struct ww_acquire_ctx *ww_word_ctx(unsigned long word)
{
	return (struct ww_acquire_ctx *)(word & ~(unsigned long)WW_FLAGS);
}

/* Does the calling thread hold it?  In every build. */
static inline bool ww_mutex_is_held(const struct ww_mutex *lock)
{
	/* relaxed: equal to our own name only if we stored it ourselves */
	return mmn_load_relaxed(&lock->owner) == mmn_context_self();
}

/* The context that holds it, NULL for none; a hint unless it is the caller's. */
static inline struct ww_acquire_ctx *
ww_mutex_locking_ctx(const struct ww_mutex *lock)
{
	/* relaxed: the caller compares, or holds the lock */
	return ww_word_ctx(mmn_load_relaxed(&lock->word));
}

#endif
