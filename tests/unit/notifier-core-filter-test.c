/* SPDX-License-Identifier: MIT */
/*
 * The filter in front of the lock: it may let through too much, never too
 * little.
 */
#include "t/tap.h"

#include <stdlib.h>

#include <mmn/inject.h>

#include "base/arena.h"
#include "notifier/filter.h"
#include "tree/itree.h"

static struct filter filter;

static uint64_t seed = 1;

static uint64_t random_bits(void)
{
	seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	return seed >> 20;
}

struct span {
	uintptr_t start;
	uintptr_t last;
};

/* Of every order of magnitude, anywhere. */
static struct span random_span(void)
{
	uint64_t length =
		random_bits() & ((UINT64_C(1) << random_bits() % 44) - 1);
	struct span span;

	span.start = random_bits() << random_bits() % 20;
	span.last = span.start + length;
	if (span.last < span.start)
		span.last = UINTPTR_MAX;
	return span;
}

/* For tests where the map is never replaced, so that marks do not matter. */
static void add(uintptr_t start, uintptr_t last)
{
	uint32_t mark;

	filter_add(&filter, start, last, &mark);
}

static void drop(uintptr_t start, uintptr_t last)
{
	filter_remove(&filter, start, last, 0);
}

static void open_hull(void)
{
	filter_init(&filter);
	filter_set_hull(&filter, 0, UINTPTR_MAX);
}

TEST(nothing_passes_an_empty_filter)
{
	int i;

	open_hull();
	for (i = 0; i < 1000; i++) {
		struct span span = random_span();

		t_ok(!filter_passes(&filter, span.start, span.last));
	}
}

TEST(a_change_of_everything_does_not_pass_where_nobody_is)
{
	uint32_t mark;

	filter_init(&filter);
	t_ok(!filter_passes(&filter, 0, UINTPTR_MAX));
	filter_add(&filter, 0, UINTPTR_MAX, &mark);
	filter_set_hull(&filter, 0, UINTPTR_MAX);
	t_ok(filter_passes(&filter, 0, UINTPTR_MAX));
	filter_remove(&filter, 0, UINTPTR_MAX, mark);
	filter_set_hull(&filter, UINTPTR_MAX, 0);
	t_ok(!filter_passes(&filter, 0, UINTPTR_MAX));
	/* the first and the last byte are somebody's, too */
	filter_add(&filter, 0, 0, &mark);
	filter_set_hull(&filter, 0, 0);
	t_ok(filter_passes(&filter, 0, UINTPTR_MAX));
	filter_remove(&filter, 0, 0, mark);
	filter_add(&filter, UINTPTR_MAX, UINTPTR_MAX, &mark);
	filter_set_hull(&filter, UINTPTR_MAX, UINTPTR_MAX);
	t_ok(filter_passes(&filter, 0, UINTPTR_MAX));
}

TEST(a_change_that_overlaps_always_passes)
{
	struct span in[64];
	int round, i, j;

	open_hull();
	for (i = 0; i < 64; i++) {
		in[i] = random_span();
		add(in[i].start, in[i].last);
	}
	for (round = 0; round < 20000; round++) {
		struct span span = random_span();

		for (j = 0; j < 64; j++)
			if (span.start <= in[j].last &&
			    span.last >= in[j].start)
				t_ok(filter_passes(&filter, span.start,
						   span.last));
		i = (int)(random_bits() % 64);
		t_ok(filter_contains(&filter, in[i].start, in[i].last));
		drop(in[i].start, in[i].last);
		in[i] = random_span();
		add(in[i].start, in[i].last);
		t_ok(filter_contains(&filter, in[i].start, in[i].last));
	}
}

TEST(what_was_added_and_removed_leaves_nothing)
{
	static struct span in[2000];
	int i;

	open_hull();
	for (i = 0; i < 2000; i++) {
		in[i] = random_span();
		add(in[i].start, in[i].last);
	}
	for (i = 0; i < 2000; i++)
		drop(in[i].start, in[i].last);
	for (i = 0; i < 1000; i++) {
		struct span span = random_span();

		t_ok(!filter_passes(&filter, span.start, span.last));
	}
}

TEST(a_count_at_its_end_does_not_lose_a_range)
{
	int i;

	open_hull();
	for (i = 0; i < 600; i++)
		add(0x10000, 0x10fff);
	for (i = 0; i < 599; i++)
		drop(0x10000, 0x10fff);
	t_ok(filter_passes(&filter, 0x10800, 0x10800));
	drop(0x10000, 0x10fff);
	t_ok(!filter_passes(&filter, 0x10800, 0x10800));
	add(0x20000, 0x20fff);
	t_ok(!filter_passes(&filter, 0x10800, 0x10800));
	t_ok(filter_passes(&filter, 0x20800, 0x20800));
}

TEST(a_count_that_just_reached_its_end_goes_with_the_last_range)
{
	int i;

	open_hull();
	for (i = 0; i < 15; i++)
		add(0x10000, 0x10fff);
	for (i = 0; i < 15; i++)
		drop(0x10000, 0x10fff);
	add(0x20000, 0x20fff);
	t_ok(!filter_passes(&filter, 0x10800, 0x10800));
}

TEST(a_change_between_two_ranges_does_not_pass)
{
	open_hull();
	add(0x7f0000000000, 0x7f00000fffff);
	add(0x7f0010000000, 0x7f00100fffff);
	t_ok(!filter_passes(&filter, 0x7f0004000000, 0x7f0004200fff));
	t_ok(filter_passes(&filter, 0x7f00000fffff, 0x7f0004200fff));
}

/* ------------------------------------------------------------------ */
/* Maps that grow and shrink                                          */
/* ------------------------------------------------------------------ */

#define MANY 20000

static struct itree tree;
static struct itree_node nodes[MANY];

static void link_node(struct itree_node *node, uintptr_t start, uintptr_t last)
{
	node->start = start;
	node->last = last;
	node->birth = (uint64_t)(node - nodes) * 2 + 1;
	filter_add(&filter, start, last, &node->mark);
	itree_insert(&tree, node);
	filter_tend(&filter, &tree);
}

static void unlink_node(struct itree_node *node)
{
	itree_remove(&tree, node);
	filter_remove(&filter, node->start, node->last, node->mark);
	filter_tend(&filter, &tree);
}

static void free_retired(void)
{
	filter_free_maps(filter_take_retired(&filter));
}

static void begin_tree(void)
{
	t_may_keep_mapped(16 << 20, "memory for callbacks is kept for reuse");
	open_hull();
	itree_init(&tree);
}

/* 4 KiB each, so many bytes apart. */
static void link_apart(uintptr_t distance)
{
	uintptr_t i;

	for (i = 0; i < MANY; i++)
		link_node(&nodes[i], i * distance, i * distance + 4095);
}

static int passing_between_apart(uintptr_t distance)
{
	uintptr_t i;
	int nr = 0;

	for (i = 0; i < MANY; i++) {
		uintptr_t start = i * distance + distance / 2;

		nr += filter_passes(&filter, start, start + 4095);
	}
	return nr;
}

static void link_scattered(void)
{
	link_apart(1 << 20);
}

static int passing_between(void)
{
	return passing_between_apart(1 << 20);
}

TEST(many_scattered_ranges_leave_the_gaps_alone)
{
	int i;

	begin_tree();
	link_scattered();
	t_ok(filter_check(&filter, &tree));
	for (i = 0; i < MANY; i++)
		t_ok(filter_contains(&filter, nodes[i].start, nodes[i].last));
	/* 16 bits for each granule, three looked at: one in 200 at the most */
	t_ok(passing_between() < MANY / 200);
	filter_fini(&filter);
}

TEST(many_ranges_side_by_side_leave_the_gaps_alone)
{
	begin_tree();
	link_apart(1 << 14);
	t_ok(passing_between_apart(1 << 14) < MANY / 200);
	filter_fini(&filter);
}

/* Whether they are looked up one by one or in one go. */
TEST(a_change_over_many_granules_finds_one_of_them)
{
	uintptr_t first, last;

	open_hull();
	add(0x7f0012345000, 0x7f0012345fff);
	for (first = 0; first < 300; first += 7)
		for (last = 0; last < 300; last += 11)
			t_ok(filter_passes(&filter,
					   0x7f0012345000 - first * 4096,
					   0x7f0012345fff + last * 4096));
	t_ok(!filter_passes(&filter, 0x7f0012346000, 0x7f0012366fff));
	t_ok(!filter_passes(&filter, 0x7f0012325000, 0x7f0012344fff));
	filter_fini(&filter);
}

TEST(nothing_is_lost_while_a_map_is_filled)
{
	int i, n;

	begin_tree();
	for (i = 0; i < 3000; i++) {
		uintptr_t where = random_bits() << 12;

		link_node(&nodes[i], where, where + 0xffff);
		for (n = 0; n < 4; n++) {
			struct itree_node *node =
				&nodes[random_bits() % (uint64_t)(i + 1)];
			uintptr_t start = random_bits() << 12;

			t_ok(filter_contains(&filter, node->start, node->last));
			/* elsewhere: before the cursor, or behind it */
			unlink_node(node);
			link_node(node, start, start + 4095);
			t_ok(filter_contains(&filter, start, start + 4095));
		}
		t_ok(filter_check(&filter, &tree));
		if (random_bits() % 64 == 0)
			free_retired();
	}
	for (i = 0; i < 3000; i++)
		t_ok(filter_contains(&filter, nodes[i].start, nodes[i].last));
	filter_fini(&filter);
}

TEST(maps_are_given_back_as_ranges_go)
{
	size_t before, full;
	int i;

	begin_tree();
	before = mmn_callback_in_use();
	link_scattered();
	free_retired();
	full = filter_bytes(&filter);
	t_ok(full >= (size_t)MANY * 2 * 2);
	t_ok(full <= (size_t)MANY * 2 * 2 * 5 * 2 + 8192);
	for (i = 0; i < MANY; i++) {
		unlink_node(&nodes[i]);
		free_retired();
		if (i == MANY - MANY / 50)
			t_ok(filter_bytes(&filter) <= full / 4);
	}
	t_ok(filter.current == &filter.small && !filter.next);
	t_eq(passing_between(), 0);
	t_eq(mmn_callback_in_use(), before);
	filter_fini(&filter);
}

TEST(maps_stay_bounded_while_somebody_looks_at_an_old_one)
{
	size_t most;
	int i, round;

	begin_tree();
	link_scattered();
	most = filter_bytes(&filter);
	t_ok(filter.retired != NULL);
	/* nothing is freed: the change that looks never ends */
	for (round = 0; round < 3; round++) {
		for (i = 0; i < MANY; i++)
			unlink_node(&nodes[i]);
		link_scattered();
	}
	t_ok(filter_bytes(&filter) <= 2 * most);
	filter_fini(&filter);
}

TEST(worn_bits_go_with_the_next_map)
{
	struct filter_map *map;
	int i, round;

	begin_tree();
	for (i = 0; i < 2000; i++)
		link_node(&nodes[i], (uintptr_t)i << 20,
			  ((uintptr_t)i << 20) + 4095);
	free_retired();
	map = filter.current;
	/* stacks of 20 ranges on one page, each gone before the next comes */
	for (round = 0; round < 2000 && filter.current == map; round++) {
		uintptr_t start =
			(UINT64_C(1) << 40) + ((uintptr_t)round << 20);

		for (i = 2000; i < 2020; i++)
			link_node(&nodes[i], start, start + 4095);
		for (i = 2000; i < 2020; i++)
			unlink_node(&nodes[i]);
	}
	t_ok(filter.current != map);
	/* those of the stacks that came while it was filled */
	t_ok(filter.current->nr_stuck < 64);
	t_ok(filter_check(&filter, &tree));
	filter_fini(&filter);
}

TEST(refused_memory_leaves_the_small_map_in_use)
{
	int i;

	begin_tree();
	t_err(mmn_inject_set(MMN_INJECT_ALLOC, 1, 1), 0);
	for (i = 0; i < 3000; i++)
		link_node(&nodes[i], (uintptr_t)i << 20,
			  ((uintptr_t)i << 20) + 4095);
	t_ok(filter.current == &filter.small);
	for (i = 0; i < 3000; i++)
		t_ok(filter_passes(&filter, nodes[i].start, nodes[i].start));
	mmn_inject_clear();
	for (; i < 6000; i++)
		link_node(&nodes[i], (uintptr_t)i << 20,
			  ((uintptr_t)i << 20) + 4095);
	t_ok(filter.current != &filter.small);
	for (i = 0; i < 6000; i++)
		t_ok(filter_passes(&filter, nodes[i].start, nodes[i].start));
	t_ok(filter_check(&filter, &tree));
	filter_fini(&filter);
}
