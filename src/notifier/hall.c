/* SPDX-License-Identifier: MIT */
#include "notifier/hall.h"

#include "base/bug.h"
#include "base/context.h"
#include "base/inject.h"
#include "base/wait.h"

void hall_init(struct hall *hall)
{
	hall->phase = 0;
	hall->waiting = 0;
	hall->common = 0;
	mmn_mutex_init(&hall->mutex, MMN_RANK_STATE);
}

void hall_fini(struct hall *hall)
{
	mmn_mutex_fini(&hall->mutex);
}

/* ------------------------------------------------------------------ */
/* Doors                                                              */
/* ------------------------------------------------------------------ */

void hall_wake_writer(uint32_t *door)
{
	mmn_wake(door, INT32_MAX);
}

static void lower_shared(uint32_t *door)
{
	/*
	 * pair(hall_leave): release, with the acquire in await_few().  Without
	 * it as in hall_lower_own().
	 */
	if (!(mmn_fetch_sub_release(door, DOOR_INSIDE) & DOOR_WAITER))
		return;
	/*
	 * relaxed: the bit asks for a wake-up only; a writer that reads this one
	 * reads on from the release above
	 */
	mmn_fetch_and_relaxed(door, ~DOOR_WAITER);
	mmn_wake(door, INT32_MAX);
}

static void raise_door(struct hall *hall, uint32_t *door)
{
	if (door)
		hall_raise_own(door);
	else
		/*
		 * pair(hall): the reader's store, with the writer's load in
		 * hall_await_door().  Without it as in hall_raise_own().
		 */
		mmn_fetch_add_seq_cst(&hall->common, DOOR_INSIDE);
}

static void lower_door(struct hall *hall, uint32_t *door)
{
	if (door)
		hall_lower_own(door);
	else
		lower_shared(&hall->common);
}

/* ------------------------------------------------------------------ */
/* Readers                                                            */
/* ------------------------------------------------------------------ */

struct hall_pass *hall_own_pass(struct hall *hall)
{
	struct hall_pass *pass, *own = NULL;

	for (pass = mmn_context.pass; pass; pass = pass->outer)
		if (pass->hall == hall && pass->is_inside && !pass->is_undone)
			own = pass;
	return own;
}

/*
 * What a handler has interrupted on its way in or out begins again: no writer
 * shall wait for it.  Its door may be lowered already and the writer not woken
 * yet, who sleeps then until the handler returns, which waits for the writer.
 */
static void undo_outer(struct hall *hall, struct hall_pass *outer)
{
	for (; outer; outer = outer->outer) {
		if (outer->hall != hall || !outer->door ||
		    (outer->is_inside && !outer->is_undone))
			continue;
		outer->is_undone = true;
		hall_lower_own(outer->door);
		hall_wake_writer(outer->door);
	}
}

/* The hall is closed: may this thread pass, because it is inside already? */
static bool is_nested(struct hall_pass *pass)
{
	undo_outer(pass->hall, pass->outer);
	return pass->outer && hall_own_pass(pass->hall);
}

static void await_open(struct hall *hall)
{
	uint32_t phase;

	while ((phase = hall_phase(hall)) & 1)
		mmn_wait_briefly(&hall->phase, phase);
}

/* The door is raised and the hall was open, or is for us. */
static bool is_inside_now(struct hall_pass *pass)
{
	pass->is_inside = true;
	mmn_barrier();
	if (likely(!pass->is_undone))
		return true;
	pass->is_inside = false;
	mmn_barrier();
	pass->is_undone = false;
	return false;
}

/* The door is raised; it is lowered when the hall is closed. */
static bool pass_door(struct hall_pass *pass)
{
	struct hall *hall = pass->hall;

	while (!(hall_phase(hall) & 1) || is_nested(pass)) {
		if (is_inside_now(pass))
			return true;
		/*
		 * A handler has lowered it, or came before it was raised; then
		 * a writer may have marked it by now.
		 */
		lower_door(hall, pass->door);
		raise_door(hall, pass->door);
	}
	lower_door(hall, pass->door);
	return false;
}

void hall_enter_slowly(struct hall_pass *pass)
{
	struct hall *hall = pass->hall;

	if (pass_door(pass))
		return;
	/* First: a handler that becomes the writer must not wait for us. */
	pass->is_waiting = true;
	/*
	 * pair(hall_wait): the reader's store, with the load in hall_open().
	 * Without it the writer wakes nobody, and the reader goes to sleep
	 * having seen the hall closed.
	 */
	mmn_fetch_add_seq_cst(&hall->waiting, DOOR_INSIDE);
	do {
		await_open(hall);
		raise_door(hall, pass->door);
	} while (!pass_door(pass));
	pass->is_waiting = false;
	lower_shared(&hall->waiting);
}

void hall_enter_common(struct hall_pass *pass)
{
	raise_door(pass->hall, NULL);
	hall_enter_slowly(pass);
}

void hall_leave_common(struct hall *hall)
{
	lower_shared(&hall->common);
}

/* ------------------------------------------------------------------ */
/* The writer                                                         */
/* ------------------------------------------------------------------ */

/* Readers are short: they are gone soon unless they have lost their CPU. */
#define SPINS 100

static void await_few(uint32_t *door, uint32_t few)
{
	uint32_t spins = 0, inside;

	for (;;) {
		/*
		 * pair(hall_leave): acquire, with the release in
		 * hall_lower_own() and lower_shared().  Without it as there.
		 *
		 * Not seq_cst: hall_await_door() has looked before.  Who raises
		 * the door after what it has read there finds the hall closed.
		 * await_waiting() needs no order: whom it misses only loses his
		 * turn.
		 */
		inside = mmn_load_acquire(door);
		if (likely(inside < few + DOOR_INSIDE))
			return;
		if (spins++ < SPINS) {
			mmn_cpu_relax();
			continue;
		}
		/* relaxed: the bit asks for a wake-up only */
		if (inside & DOOR_WAITER ||
		    mmn_cmpxchg_relaxed(door, &inside, inside | DOOR_WAITER))
			mmn_wait_briefly(door, inside | DOOR_WAITER);
	}
}

void hall_await_slowly(uint32_t *door)
{
	await_few(door, 0);
}

/* Ourselves, in what we have interrupted, are not waited for. */
static void await_waiting(struct hall *hall)
{
	struct hall_pass *pass;
	uint32_t own = 0;

	for (pass = mmn_context.pass; pass; pass = pass->outer)
		if (pass->hall == hall && pass->is_waiting)
			own += DOOR_INSIDE;
	await_few(&hall->waiting, own);
}

void hall_await_common(struct hall *hall)
{
	hall_await_door(&hall->common);
}

void hall_close(struct hall *hall)
{
	mmn_bug_on(hall_own_pass(hall), "a reader becomes the writer");
	undo_outer(hall, mmn_context.pass);
	mmn_mutex_lock(&hall->mutex);
	/* Those who waited for the writer before us go first. */
	await_waiting(hall);
	/*
	 * pair(hall): the writer's store, with the reader's load in hall_phase().
	 * Without it as in hall_raise_own().
	 */
	mmn_store_seq_cst(&hall->phase, hall->phase + 1);
	MMN_INJECT_PAUSE();
}

void hall_open(struct hall *hall)
{
	/*
	 * pair(hall_open): release, with the acquire in hall_phase().  Without it
	 * as there.
	 * pair(hall_wait): the writer's store, with the load in hall_phase().
	 * Without it the writer wakes nobody, and the reader has seen the hall
	 * closed.
	 */
	mmn_store_seq_cst(&hall->phase, hall->phase + 1);
	/*
	 * pair(hall_wait): the writer's load, with the store in hall_enter_slowly().
	 * Without it as there.
	 */
	if (mmn_load_seq_cst(&hall->waiting) >= DOOR_INSIDE)
		mmn_wake(&hall->phase, INT32_MAX);
	mmn_mutex_unlock(&hall->mutex);
}
