/* SPDX-License-Identifier: MIT */
/*
 * The tables of references of the cache, one per thread: how they come and go.
 * cache/hold.c itself; gallery/cache.c counts with them.
 */
#include <pthread.h>

/* Keys would be those of the explorer's one thread; the scenarios call leave(). */
#define pthread_once(once, function) ((void)(once), (void)(function))
#define pthread_setspecific(key, value) ((void)(key), (void)(value))
/* NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "cache/hold.c"

#include "ladder/gallery/gallery.h"
#include "ladder/scenario.h"

static struct {
	/* for its count only */
	struct region region;
	/* with which the first thread begins, or NULL */
	struct holder *begins;
	uint32_t nr_threads;
} hold;

static void set_up(void)
{
	hold.begins = NULL;
	hold.nr_threads = 0;
	hold.region.shared = 0;
	hold.region.state = REGION_LIVE;
	holders = NULL;
	generation = mmn_process_adopt();
	hold_own_barriers = 0;
	ladder_name(&holders, "holders");
	ladder_name(&generation, "generation");
	ladder_name(&hold.region.shared, "shared count");
}

/* The oldest table, with one reference. */
static void set_up_holder(void)
{
	struct holder *holder;

	set_up();
	holder = hold_join();
	hold_get(holder, &hold.region);
	hold.begins = holder;
	ladder_name(&holder->places[hold_home(&hold.region)], "place");
	ladder_name(&holder->section, "section");
	ladder_name(&holder->taken, "taken");
}

static void each(void)
{
	mmn_context_self();
	hold_mine = hold.nr_threads++ ? NULL : hold.begins;
}

static void join(void)
{
	ladder_note("a thread's first section");
	ladder_assert(hold_join() != NULL);
	hold_enter(hold_mine);
	hold_get(hold_mine, &hold.region);
	hold_leave(hold_mine);
}

static void sum_twice(void)
{
	int64_t sum;

	ladder_note("counts, waits for sections, and counts");
	sum = hold_sum(&hold.region);
	ladder_assert(sum == 0 || sum == 1);
	hold_synchronize();
	ladder_assert(hold_sum(&hold.region) >= sum);
}

static void check_one(void)
{
	ladder_assert(hold_sum(&hold.region) == 1);
}

const struct ladder_scenario hold_list = {
	.name = "hold-list",
	.what = "a thread makes its table of references while others are read",
	.explanation = "Who finds the table finds it filled in.",
	.setup = set_up,
	.each = each,
	.threads = { join, sum_twice },
	.titles = { "join", "worker" },
	.check = check_one,
};

static void check_two(void)
{
	ladder_assert(hold_sum(&hold.region) == 2);
}

const struct ladder_scenario hold_lists = {
	.name = "hold-lists",
	.what = "two threads make their tables of references",
	.explanation = "Each has its own.",
	.setup = set_up,
	.each = each,
	.threads = { join, join },
	.titles = { "join", "join" },
	.check = check_two,
};

static void end_thread(void)
{
	ladder_note("a thread ends with a reference");
	leave(hold_mine);
}

static void sum(void)
{
	ladder_note("the worker counts");
	ladder_assert(hold_sum(&hold.region) >= 1);
}

const struct ladder_scenario hold_ended = {
	.name = "hold-end",
	.what = "a thread ends with a reference while the worker counts",
	.explanation = "What is moved from one place to another is counted "
		       "once or twice, never not at all.",
	.setup = set_up_holder,
	.each = each,
	.threads = { end_thread, sum },
	.titles = { "ends", "worker" },
	.check = check_one,
};

const struct ladder_scenario hold_taken = {
	.name = "hold-taken",
	.what = "a thread ends, and a new one takes its table over",
	.explanation = "The references of the one are counted elsewhere before "
		       "the other counts in their\nplace.",
	.setup = set_up_holder,
	.each = each,
	.threads = { end_thread, join },
	.titles = { "ends", "begins" },
	.check = check_two,
};

/* The copy of a section of a thread that the child does not have. */
static void set_up_child(void)
{
	set_up_holder();
	hold.begins->section = 1;
	generation = mmn_process_adopt() - 1;
}

static void init_and_enter(void)
{
	ladder_note("the thread that forked");
	hold_init();
	hold_enter(hold_mine);
}

static void init(void)
{
	ladder_note("a new one");
	hold_init();
}

/* It has not left. */
static void check_inside(void)
{
	ladder_assert(hold.begins->section == 1);
}

const struct ladder_scenario hold_child = {
	.name = "hold-child",
	.what = "two threads of a fork child make the first caches",
	.explanation = "Sections that were copied are closed once, before the "
		       "first one of the child begins.",
	.setup = set_up_child,
	.each = each,
	.threads = { init_and_enter, init },
	.titles = { "create, get", "create" },
	.check = check_inside,
};
