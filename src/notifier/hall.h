/* SPDX-License-Identifier: MIT */
#ifndef MMN_NOTIFIER_HALL_H
#define MMN_NOTIFIER_HALL_H
/*
 * A lock for many readers and few writers; called S where a state has one.
 *
 * Readers do not meet: each has a door of its own, a word on its own cache line
 * that says "inside".  A writer closes the hall and then waits until nobody is
 * behind any door.
 *
 *	CPU0: hall_enter()                CPU1: hall_close()
 *
 *	[W] door = inside                 [W] phase = odd
 *	MB                                MB
 *	[R] phase                         [R] door
 *
 * Not both may read what was there before.  If CPU0 sees the hall closed it
 * steps back and waits; if CPU1 sees somebody inside it waits.
 *
 * Fair in phases: a writer does not close the hall before those who waited for
 * the writer before it are inside, and nobody who comes after it has closed goes
 * in before it.  So a reader waits for two writers at most, because one may close
 * the hall while it goes to wait for another, and a writer for those inside.
 *
 * Signals.  A handler of the program may interrupt a reader anywhere and become
 * a reader itself.  Passes are on the stack of who entered and chained per
 * thread.  Who finds the hall closed looks at them:
 *
 *	one that is inside this hall	the writer waits for our own thread: go in
 *	one on its way in or out	its door is lowered for it, so that the
 *					writer gets past; it notices and begins
 *					again when the handler returns
 *
 * A writer has its signals blocked.  A pass must not be left by a jump.
 *
 * G1  phase is odd from hall_close() to hall_open(), and grows.
 * G2  no reader is inside between the end of hall_close() and hall_open().
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/bug.h"
#include "base/compiler.h"
#include "base/context.h"
#include "base/lock.h"

/* A door: how many are inside, and whether a writer sleeps until it is none. */
#define DOOR_WAITER UINT32_C(1)
#define DOOR_INSIDE UINT32_C(2)

struct hall {
	/* atomic: stored by the writer. G1 */
	uint32_t phase;
	/* atomic, as a door: readers that wait for the writer to leave */
	uint32_t waiting;
	/* atomic, as a door: the one for readers without a door of their own */
	uint32_t common;
	/* Rank MMN_RANK_STATE: one writer at a time. */
	struct mmn_mutex mutex;
};

/* A reader on its way through the hall; see the head of the file. */
struct hall_pass {
	struct hall_pass *outer;
	struct hall *hall;
	/* NULL: the common door, with all signals blocked by the caller */
	uint32_t *door;
	/* own thread and its handlers */
	bool is_inside;
	/* own thread and its handlers: a handler has lowered the door */
	bool is_undone;
	/* own thread: counted in hall->waiting, or about to be */
	bool is_waiting;
};

void hall_init(struct hall *hall);
void hall_fini(struct hall *hall);

/* What a walk does between two callbacks is inline; the rest is in hall.c. */
void hall_enter_slowly(struct hall_pass *pass);
void hall_enter_common(struct hall_pass *pass);
void hall_leave_common(struct hall *hall);
void hall_wake_writer(uint32_t *door);

static inline void hall_raise_own(uint32_t *door)
{
	/*
	 * pair(hall): the reader's store, with the writer's load in
	 * hall_await_door().  Without it the writer finds the door empty, and
	 * the reader the hall open: both are inside.
	 */
	mmn_store_seq_cst(door, DOOR_INSIDE);
}

/* Own doors hold one reader: lowering one twice does no harm. */
static inline void hall_lower_own(uint32_t *door)
{
	/*
	 * pair(hall_leave): release, with the acquire in await_few().
	 * Without it the writer changes what the reader still reads, and does
	 * not see what it counted.
	 */
	if (unlikely(mmn_xchg_release(door, 0) & DOOR_WAITER))
		hall_wake_writer(door);
}

static inline uint32_t hall_phase(struct hall *hall)
{
	/*
	 * pair(hall): the reader's load, with the store in hall_close().
	 * Without it as in hall_raise_own().
	 * pair(hall_open): acquire, with the release in hall_open().  Without
	 * it the reader walks a tree that is half changed.
	 * pair(hall_wait): the reader's load, with the store in hall_open().
	 * Without it the reader goes to sleep having seen the hall closed, and
	 * the writer wakes nobody.
	 */
	return mmn_load_seq_cst(&hall->phase);
}

static inline void hall_go_in(struct hall_pass *pass)
{
	pass->is_undone = false;
	/* A handler must find a complete pass or none. */
	mmn_barrier();
	mmn_context.pass = pass;
	mmn_barrier();
	if (unlikely(!pass->door)) {
		hall_enter_common(pass);
		return;
	}
	hall_raise_own(pass->door);
	if (likely(!(hall_phase(pass->hall) & 1))) {
		pass->is_inside = true;
		mmn_barrier();
		if (likely(!pass->is_undone))
			return;
	}
	hall_enter_slowly(pass);
}

/*
 * @door is used by nobody else meanwhile, and in the range that the writer looks
 * at.  Context: any, also signal handlers, also inside a pass of the same
 * thread; waits for a writer that is inside.  Until hall_leave(): do not sleep,
 * do not call back, do not become a writer.
 */
static inline void hall_enter(struct hall *hall, struct hall_pass *pass,
			      uint32_t *door)
{
	mmn_bug_on(MMN_SELFCHECK && mmn_mutex_is_held(&hall->mutex),
		   "a writer becomes a reader");
	pass->hall = hall;
	pass->door = door;
	pass->is_inside = false;
	pass->is_waiting = false;
	pass->outer = mmn_context.pass;
	hall_go_in(pass);
}

/* After hall_leave(), where hall_enter() was. */
static inline void hall_reenter(struct hall_pass *pass)
{
	mmn_bug_on(MMN_SELFCHECK && mmn_mutex_is_held(&pass->hall->mutex),
		   "a writer becomes a reader");
	mmn_bug_on(pass->outer != mmn_context.pass,
		   "a reader comes back somewhere else");
	hall_go_in(pass);
}

static inline void hall_leave(struct hall_pass *pass)
{
	pass->is_inside = false;
	mmn_barrier();
	if (likely(pass->door))
		hall_lower_own(pass->door);
	else
		hall_leave_common(pass->hall);
	mmn_barrier();
	mmn_context.pass = pass->outer;
	mmn_barrier();
}

/*
 * The outermost pass that this thread has inside @hall, NULL for none: then it
 * may become the writer.  In a handler that has interrupted a reader it may not.
 */
struct hall_pass *hall_own_pass(struct hall *hall);

/* Become the writer; signals are blocked.  The doors come after that. */
void hall_close(struct hall *hall) MMN_NO_LOCK_ANALYSIS;
void hall_await_slowly(uint32_t *door);
void hall_await_common(struct hall *hall);
void hall_open(struct hall *hall) MMN_NO_LOCK_ANALYSIS;

/* Wait until nobody is behind @door; between hall_close() and hall_open(). */
static inline void hall_await_door(uint32_t *door)
{
	/*
	 * pair(hall): the writer's load, with the store in hall_raise_own().
	 * Without it as there.
	 * pair(hall_leave): acquire, with the release in hall_lower_own().  Without
	 * it as there.
	 */
	if (unlikely(mmn_load_seq_cst(door) >= DOOR_INSIDE))
		hall_await_slowly(door);
}

#endif
