/* SPDX-License-Identifier: MIT */
/*
 * The index of a cache against a plain table, in so few buckets that most entries
 * overflow.
 */
#include "t/tap.h"

#include <stdlib.h>
#include <string.h>

#include "cache/index.h"

#define SHIFT 12
#define NR_BUCKETS 16
#define MAX_REGIONS (NR_BUCKETS / 2)
#define ACCESS 3u

static struct index table;
static struct bucket *buckets;

static void set_up(void)
{
	size_t bytes = NR_BUCKETS * sizeof(*buckets);

	buckets = aligned_alloc(sizeof(*buckets), bytes);
	t_ok(buckets);
	memset(buckets, 0, bytes);
	memset(&table, 0, sizeof(table));
	index_init(&table, buckets, NR_BUCKETS, SHIFT);
}

static void tear_down(void)
{
	t_ok(index_is_empty(&table));
	free(buckets);
}

struct range {
	uintptr_t start;
	uintptr_t last;
	bool is_there;
	bool is_hidden;
};

static struct range pages(uintptr_t first, uintptr_t nr)
{
	struct range range = {
		.start = first << SHIFT,
		.last = ((first + nr) << SHIFT) - 1,
	};

	return range;
}

static void enter(struct range *range, uint32_t number)
{
	struct index_places places;

	index_insert(&table, range->start, range->last, number, &places);
	index_show(&places, range->start, ACCESS);
	range->is_there = true;
	range->is_hidden = false;
}

static void hide(struct range *range, uint32_t number)
{
	index_hide(&table, range->start, range->last, number);
	range->is_hidden = true;
}

static void leave(struct range *range, uint32_t number)
{
	index_remove(&table, range->start, range->last, number);
	range->is_there = false;
}

/* By each of its pages. */
static void expect(const struct range *range, uint32_t number)
{
	uintptr_t page;

	for (page = range->start; page < range->last; page += 1 << SHIFT)
		t_eq(index_search(&table, page, page, ACCESS), number);
}

/* Three pages fill the bucket where the last page of the region belongs. */
TEST(a_region_with_two_entries_in_one_chain_is_hidden_whole)
{
	static const uintptr_t others[] = { 2, 36, 44, 15, 28, 49 };
	struct range ranges[7];
	uint32_t i;

	set_up();
	for (i = 0; i < 6; i++) {
		ranges[i] = pages(others[i], 1);
		enter(&ranges[i], i);
	}
	ranges[6] = pages(20, 4);
	enter(&ranges[6], 6);
	expect(&ranges[6], 6);
	hide(&ranges[6], 6);
	expect(&ranges[6], INDEX_NONE);
	for (i = 0; i < 6; i++)
		expect(&ranges[i], i);
	for (i = 0; i < 7; i++)
		leave(&ranges[i], i);
	tear_down();
}

static uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static bool overlaps_any(const struct range *ranges, const struct range *range)
{
	int i;

	for (i = 0; i < MAX_REGIONS; i++)
		if (ranges[i].is_there && ranges[i].start <= range->last &&
		    ranges[i].last >= range->start)
			return true;
	return false;
}

static void step(struct range *ranges, uint32_t number, uint64_t random)
{
	struct range *range = &ranges[number], fresh;

	if (!range->is_there) {
		/* Mostly with four or five entries; three levels. */
		fresh = pages(random % 4096,
			      random >> 63 ? 4 : 1 + (random >> 32) % 20);
		if (overlaps_any(ranges, &fresh))
			return;
		*range = fresh;
		enter(range, number);
	} else if (!range->is_hidden || random & 1) {
		hide(range, number);
	} else {
		leave(range, number);
	}
}

TEST(what_is_shown_is_found_and_what_is_hidden_is_not)
{
	struct range ranges[MAX_REGIONS];
	uint64_t seed = 88172645463325252;
	uint32_t i, number;

	set_up();
	memset(ranges, 0, sizeof(ranges));
	for (i = 0; i < 50000; i++) {
		number = next_random(&seed) % MAX_REGIONS;
		step(ranges, number, next_random(&seed));
		for (number = 0; number < MAX_REGIONS; number++)
			if (ranges[number].is_there)
				expect(&ranges[number], ranges[number].is_hidden
								? INDEX_NONE
								: number);
	}
	for (number = 0; number < MAX_REGIONS; number++)
		if (ranges[number].is_there)
			leave(&ranges[number], number);
	tear_down();
}
