/* SPDX-License-Identifier: MIT */
#ifndef MMN_BASE_CONTEXT_H
#define MMN_BASE_CONTEXT_H
/*
 * What the calling thread is in the middle of.
 *
 * One object per thread in initial-exec TLS: usable in every thread at every
 * moment (also those that were not made by pthread_create() of this process's
 * libc, as long as they have a TLS), with no allocation and no call.  Only the
 * thread itself touches it; a signal handler that interrupts the thread leaves
 * it as it found it, because everything here nests.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"
#include "config.h"

struct hall_pass;

/* A place in the library; or, if there is a caller, where that called it from. */
struct mmn_site {
	const char *file;
	const char *function;
	uint32_t line;
	const void *caller;
};

#define MMN_SITE()                                                         \
	__extension__({                                                    \
		static const struct mmn_site site_ = { __FILE__, __func__, \
						       __LINE__, NULL };   \
		&site_;                                                    \
	})

/* Where a lock was taken: a line of a file, or without that an address. */
struct mmn_place {
	const char *file;
	uintptr_t line;
};

/*
 * struct mmn_held_lock - what base/lock-order.h knows of a lock that is held
 *
 * Of locks that are taken together, in any order, only the first has an entry:
 * its lock is what they have in common.
 */
struct mmn_held_lock {
	const void *lock;
	/* Whose order against waits for fences is judged; NULL for nobody's. */
	const void *kind;
	struct mmn_place place;
	/* 0 for a lock of the program */
	uint32_t rank;
	/* locks that are taken together and not released yet */
	uint32_t count;
};

/*
 * struct mmn_callback_frame - one callback of a subscriber is running
 *
 * On the stack of whoever calls it, from mmn_context_enter_callback() to
 * mmn_context_leave_callback().
 */
struct mmn_callback_frame {
	struct mmn_callback_frame *outer;
	const void *sub;
	/* This one or one around it may not sleep. */
	bool nonblocking;
	/* A signal handler may interrupt it and make changes of its own. */
	bool interruptible;
};

/* As often as this, it is no handler that interrupts a callback any more. */
#define MMN_MAX_INTERRUPTED 8

#define MMN_MAX_HELD_LOCKS 24

struct mmn_context {
	/* Innermost callback, NULL outside of callbacks. */
	struct mmn_callback_frame *callback;
	/* Innermost way through a hall, see notifier/hall.h. */
	struct hall_pass *pass;
	/*
	 * How many parts of the library have blocked all signals, for longer
	 * than a lock is held.
	 */
	uint32_t signals_blocked;
	/* Changes this thread has opened and not ended. */
	uint32_t open_changes;
	/* A report is being made: what the handler does is not judged. */
	bool reporting;
	/* mmn_context_self(), 0 before the first question */
	uint64_t serial;
#if MMN_SELFCHECK
	/* It is on the way to the signal of a fence. */
	bool signalling;
	uint32_t nr_held;
	struct mmn_held_lock held[MMN_MAX_HELD_LOCKS];
#endif
};

extern __thread struct mmn_context mmn_context
	__attribute__((tls_model("initial-exec"), visibility("hidden")));

/* atomic: threads that were given a name so far */
extern uint64_t mmn_context_last_serial __attribute__((visibility("hidden")));

/*
 * A name for the calling thread that no other thread has or will have.  Not an
 * address: what a thread leaves behind, an open change for one, outlives it, and
 * the next thread gets the same stack.
 */
static inline const void *mmn_context_self(void)
{
	if (!mmn_context.serial)
		/* relaxed: a number for each, nothing is ordered by it */
		mmn_context.serial =
			mmn_fetch_add_relaxed(&mmn_context_last_serial, 1) + 1;
	return (const void *)(uintptr_t)mmn_context.serial;
}

static inline void
mmn_context_enter_any_callback(struct mmn_callback_frame *frame,
			       const void *sub, bool blockable,
			       bool interruptible)
{
	struct mmn_callback_frame *outer = mmn_context.callback;

	frame->outer = outer;
	frame->sub = sub;
	frame->nonblocking = !blockable || (outer && outer->nonblocking);
	frame->interruptible = interruptible;
	/* A signal handler must not find a frame that is half filled in. */
	mmn_barrier();
	mmn_context.callback = frame;
	/* The compiler knows that malloc() does not read it: ours does. */
	mmn_barrier();
}

/* With all signals blocked. */
static inline void mmn_context_enter_callback(struct mmn_callback_frame *frame,
					      const void *sub, bool blockable)
{
	mmn_context_enter_any_callback(frame, sub, blockable, false);
}

static inline void mmn_context_leave_callback(struct mmn_callback_frame *frame)
{
	mmn_barrier();
	mmn_context.callback = frame->outer;
	mmn_barrier();
}

static inline bool mmn_context_in_callback(void)
{
	return mmn_context.callback != NULL;
}

static inline bool mmn_context_in_nonblocking_callback(void)
{
	return mmn_context.callback && mmn_context.callback->nonblocking;
}

/*
 * Is this thread in a callback of @sub, which has called us?  A handler that
 * has interrupted one is not called by it, and stands beside it like another
 * thread.
 */
static inline bool mmn_context_in_callback_of(const void *sub)
{
	const struct mmn_callback_frame *frame;
	uint32_t interrupted = 0;

	for (frame = mmn_context.callback; frame; frame = frame->outer)
		if (frame->sub == sub && (!frame->interruptible ||
					  ++interrupted == MMN_MAX_INTERRUPTED))
			return true;
	return false;
}

/* In a callback, and certainly not in a handler that has interrupted it? */
static inline bool mmn_context_in_uninterruptible_callback(void)
{
	return mmn_context.callback && !mmn_context.callback->interruptible;
}

/*
 * Changes of this thread.  One that is ended by another thread is not known
 * here: who needs that compares mmn_context_self() of the opener, kept in the
 * change, with its own.
 */
static inline void mmn_context_change_opened(void)
{
	mmn_context.open_changes++;
}

static inline void mmn_context_change_closed(void)
{
	if (mmn_context.open_changes)
		mmn_context.open_changes--;
}

static inline uint32_t mmn_context_open_changes(void)
{
	return mmn_context.open_changes;
}

#endif
