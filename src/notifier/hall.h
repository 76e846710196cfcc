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
#include "base/compiler.h"
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
	/* own thread: counted in hall->waiting */
	bool is_waiting;
};

void hall_init(struct hall *hall);
void hall_fini(struct hall *hall);

/*
 * @door is used by nobody else meanwhile, and in the range that the writer looks
 * at.  Context: any, also signal handlers, also inside a pass of the same
 * thread; waits for a writer that is inside.  Until hall_leave(): do not sleep,
 * do not call back, do not become a writer.
 */
void hall_enter(struct hall *hall, struct hall_pass *pass, uint32_t *door);
void hall_leave(struct hall_pass *pass);

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
	 * pair(hall): the writer's load, with the store in raise_door().
	 * Without it as there.
	 * pair(hall_leave): acquire, with the release in lower_own().  Without
	 * it as there.
	 */
	if (unlikely(mmn_load_seq_cst(door) >= DOOR_INSIDE))
		hall_await_slowly(door);
}

#endif
