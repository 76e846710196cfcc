/* SPDX-License-Identifier: MIT */
/*
 * The filter in front of the lock: it may let through too much, never too
 * little.
 */
#include "t/tap.h"

#include <stdlib.h>

#include "notifier/filter.h"

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

		t_ok(!filter_overlaps(&filter, span.start, span.last));
	}
}

TEST(a_change_that_overlaps_always_passes)
{
	struct span in[64];
	int round, i, j;

	open_hull();
	for (i = 0; i < 64; i++) {
		in[i] = random_span();
		filter_add(&filter, in[i].start, in[i].last);
	}
	for (round = 0; round < 20000; round++) {
		struct span span = random_span();

		for (j = 0; j < 64; j++)
			if (span.start <= in[j].last &&
			    span.last >= in[j].start)
				t_ok(filter_overlaps(&filter, span.start,
						     span.last));
		i = (int)(random_bits() % 64);
		t_ok(filter_contains(&filter, in[i].start, in[i].last));
		filter_remove(&filter, in[i].start, in[i].last);
		in[i] = random_span();
		filter_add(&filter, in[i].start, in[i].last);
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
		filter_add(&filter, in[i].start, in[i].last);
	}
	for (i = 0; i < 2000; i++)
		filter_remove(&filter, in[i].start, in[i].last);
	for (i = 0; i < 1000; i++) {
		struct span span = random_span();

		t_ok(!filter_overlaps(&filter, span.start, span.last));
	}
}

TEST(a_count_at_its_end_does_not_lose_a_range)
{
	int i;

	open_hull();
	for (i = 0; i < 600; i++)
		filter_add(&filter, 0x10000, 0x10fff);
	for (i = 0; i < 599; i++)
		filter_remove(&filter, 0x10000, 0x10fff);
	t_ok(filter_overlaps(&filter, 0x10800, 0x10800));
	filter_remove(&filter, 0x10000, 0x10fff);
	t_ok(!filter_overlaps(&filter, 0x10800, 0x10800));
	filter_add(&filter, 0x20000, 0x20fff);
	t_ok(!filter_overlaps(&filter, 0x10800, 0x10800));
	t_ok(filter_overlaps(&filter, 0x20800, 0x20800));
}

TEST(a_count_that_just_reached_its_end_goes_with_the_last_range)
{
	int i;

	open_hull();
	for (i = 0; i < UINT8_MAX; i++)
		filter_add(&filter, 0x10000, 0x10fff);
	for (i = 0; i < UINT8_MAX; i++)
		filter_remove(&filter, 0x10000, 0x10fff);
	filter_add(&filter, 0x20000, 0x20fff);
	t_ok(!filter_overlaps(&filter, 0x10800, 0x10800));
}

TEST(a_change_between_two_ranges_does_not_pass)
{
	open_hull();
	filter_add(&filter, 0x7f0000000000, 0x7f00000fffff);
	filter_add(&filter, 0x7f0010000000, 0x7f00100fffff);
	t_ok(!filter_overlaps(&filter, 0x7f0004000000, 0x7f0004200fff));
	t_ok(filter_overlaps(&filter, 0x7f00000fffff, 0x7f0004200fff));
}
