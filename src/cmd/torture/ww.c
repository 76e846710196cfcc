/* SPDX-License-Identifier: MIT */
/*
 * Sets of ww_mutexes, of both classes.
 *
 * Behind each lock are two numbers that are equal whenever nobody holds it.
 * Whoever holds it compares them, raises one, lingers, and raises the other, so
 * that two holders find each other out.  Sets are taken in random order and given
 * up when the library says so; that everybody gets on shows that it says so
 * often enough.
 */
#include <sched.h>
#include <string.h>

#include <mmn/exec.h>

#include "torture.h"

enum {
	LOCKS = 6,
	CLASSES = 2,
};

enum {
	NO_LOCK = 1 << 0,
	UNLOCK_EARLY = 1 << 1,
	NO_BACKOFF = 1 << 2,
};

static const struct flavour flavours[] = {
	BROKEN("no-lock", "the last lock of a set is not taken", NO_LOCK),
	BROKEN("unlock-early", "locks are given back in the middle",
	       UNLOCK_EARLY),
	BROKEN("no-backoff", "nobody gives up what he holds", NO_BACKOFF),
	{ 0 },
};

enum {
	SETS,
	SINGLES,
	TRIES,
	BACKOFFS,
};

struct guarded {
	struct ww_mutex lock;
	/* atomic */
	uint64_t first, second;
};

static struct world {
	struct ww_class classes[CLASSES];
	struct guarded guarded[CLASSES][LOCKS];
} world;

/* A random set, in random order, and how many of it are held. */
struct set {
	struct ww_acquire_ctx ctx;
	struct ww_class *ww_class;
	struct guarded *base;
	struct guarded *members[LOCKS];
	uint32_t nr;
	uint32_t nr_held;
};

static uint32_t place_of(const struct guarded *guarded)
{
	return (uint32_t)(guarded - &world.guarded[0][0]);
}

/* Held, or the flavour is broken. */
static void work_on(struct guarded *guarded)
{
	/* relaxed, all of them: the lock orders them, which is tested */
	uint64_t first = mmn_load_relaxed(&guarded->first);
	uint64_t second = mmn_load_relaxed(&guarded->second);
	uint32_t place = place_of(guarded);

	note("find", place, first);
	note_lag(first - second);
	if (first != second)
		fail(place, "lock %u: two hold it, at %llu and %llu", place,
		     (unsigned long long)first, (unsigned long long)second);
	mmn_store_relaxed(&guarded->first, first + 1);
	linger();
	mmn_store_relaxed(&guarded->second, first + 1);
	note("write", place, first + 1);
}

static void unlock(struct guarded *guarded)
{
	note("unlock", place_of(guarded), NO_VALUE);
	ww_mutex_unlock(&guarded->lock);
}

static void swap(struct set *set, uint32_t i, uint32_t j)
{
	struct guarded *other = set->members[i];

	set->members[i] = set->members[j];
	set->members[j] = other;
}

static void choose(struct set *set)
{
	uint32_t which = below(CLASSES), i;

	set->ww_class = &world.classes[which];
	set->base = world.guarded[which];
	for (i = 0; i < LOCKS; i++)
		set->members[i] = &set->base[i];
	for (i = 0; i < LOCKS; i++)
		swap(set, i, i + below(LOCKS - i));
	set->nr = 2 + below(LOCKS - 1);
	set->nr_held = 0;
}

static void unlock_all(struct set *set)
{
	while (set->nr_held)
		unlock(set->members[--set->nr_held]);
}

/* The contended one, which is next, becomes the first. */
static void back_off(struct set *set)
{
	uint32_t contended = set->nr_held;

	tally(BACKOFFS);
	note("back off", place_of(set->members[contended]), NO_VALUE);
	unlock_all(set);
	swap(set, 0, contended);
	ww_mutex_lock_slow(&set->members[0]->lock, &set->ctx);
	set->nr_held = 1;
}

/* False when it is given up because the run is over. */
static bool lock_all(struct set *set)
{
	struct guarded *next;
	int err;

	while (set->nr_held < set->nr) {
		next = set->members[set->nr_held];
		err = ww_mutex_lock(&next->lock, &set->ctx);
		if (!err) {
			note("lock", place_of(next), NO_VALUE);
			set->nr_held++;
			linger();
			continue;
		}
		must(err == -EDEADLK);
		if (!is_broken(NO_BACKOFF))
			back_off(set);
		else if (is_over())
			return false;
	}
	return true;
}

static void work_on_set(struct set *set)
{
	uint32_t i;

	for (i = 0; i < set->nr; i++)
		work_on(set->members[i]);
	if (is_broken(NO_LOCK))
		work_on(set->members[set->nr]);
}

static void take_set(void)
{
	struct set set;

	choose(&set);
	if (is_broken(NO_LOCK))
		set.nr--;
	ww_acquire_init(&set.ctx, set.ww_class);
	if (lock_all(&set)) {
		ww_acquire_done(&set.ctx);
		if (is_broken(UNLOCK_EARLY))
			unlock_all(&set);
		work_on_set(&set);
		tally(SETS);
	}
	unlock_all(&set);
	ww_acquire_fini(&set.ctx);
}

static void taker(void)
{
	take_set();
	linger();
}

/* The same by the helper that drivers have. */
static void executor(void)
{
	struct mmn_exec exec;
	struct set set;
	uint32_t i;
	int err = 0;

	choose(&set);
	mmn_exec_init(&exec, set.ww_class, 0);
	mmn_exec_until_all_locked(&exec)
	{
		err = 0;
		for (i = 0; i < set.nr && !err; i++)
			err = mmn_exec_lock(&exec, &set.members[i]->lock);
		mmn_exec_retry_on_contention(&exec);
		if (err)
			break;
	}
	if (must(!err))
		for (i = 0; i < set.nr; i++)
			work_on(set.members[i]);
	tally(SETS);
	mmn_exec_fini(&exec);
	linger();
}

/* One without a context, which is never told to back off. */
static void single(void)
{
	struct guarded *guarded = &world.guarded[below(CLASSES)][below(LOCKS)];

	if (one_in(2)) {
		must(!ww_mutex_lock(&guarded->lock, NULL));
		tally(SINGLES);
	} else if (ww_mutex_trylock(&guarded->lock, NULL)) {
		tally(TRIES);
	} else {
		sched_yield();
		return;
	}
	note("lock", place_of(guarded), NO_VALUE);
	work_on(guarded);
	unlock(guarded);
}

static int set_up(void)
{
	static const struct ww_class classes[CLASSES] = {
		WW_CLASS_INIT_(torture_wound_wait, 0),
		WW_CLASS_INIT_(torture_wait_die, 1),
	};
	uint32_t i, j;

	memset(&world, 0, sizeof(world));
	for (i = 0; i < CLASSES; i++) {
		world.classes[i] = classes[i];
		for (j = 0; j < LOCKS; j++)
			ww_mutex_init(&world.guarded[i][j].lock,
				      &world.classes[i]);
	}
	return 0;
}

static void tear_down(void)
{
	uint32_t i, j;

	for (i = 0; i < CLASSES; i++)
		for (j = 0; j < LOCKS; j++)
			ww_mutex_destroy(&world.guarded[i][j].lock);
}

const struct scenario ww_scenario = {
	.name = "ww_mutex",
	.what = "sets of locks in any order, and what they guard",
	.place = "lock",
	.flavours = flavours,
	.roles = { ROLE("taker", 4, taker, NULL),
		   ROLE("executor", 2, executor, NULL),
		   ROLE("single", 2, single, NULL) },
	.counters = { "sets", "singles", "tries", "backoffs" },
	.nr_musts = BACKOFFS + 1,
	.set_up = set_up,
	.tear_down = tear_down,
};
