/* SPDX-License-Identifier: MIT */
#include "notifier/filter.h"

#include <string.h>

/* The level of a range, FILTER_LEVELS when it is too large for all. */
static uint32_t level_of(uintptr_t start, uintptr_t last)
{
	uint32_t i;

	for (i = 0; i < FILTER_LEVELS; i++) {
		uint32_t shift = filter_shift(i);

		if ((last >> shift) - (start >> shift) < FILTER_MAX_ADDED)
			break;
	}
	return i;
}

static void store_bound(uintptr_t *bound, uintptr_t value)
{
	/*
	 * pair(open_insert): the insert's stores, with the loads in
	 * filter_overlaps().  Without it the insert may look at the slots before
	 * a change that opens at the same time can see it.
	 */
	if (*bound != value)
		mmn_store_seq_cst(bound, value);
}

static void set_used(struct filter *filter, uint32_t level)
{
	uint32_t used = filter->used | 1u << level;

	/*
	 * pair(open_insert): as in store_bound(), with filter_overlaps().
	 * Without it as there.
	 */
	if (used != filter->used)
		mmn_store_seq_cst(&filter->used, used);
}

static void set_unused(struct filter *filter, uint32_t level)
{
	/* relaxed: a change that still sees it takes a lock for nothing */
	mmn_store_relaxed(&filter->used, filter->used & ~(1u << level));
}

static void set_bit(struct filter_level *level, uint32_t index)
{
	uint64_t *word = &level->bits[index / 64];
	uint64_t bit = UINT64_C(1) << (index % 64);

	if (*word & bit)
		return;
	/*
	 * pair(open_insert): as in store_bound(), with filter_looks_up().
	 * Without it as there.
	 */
	mmn_store_seq_cst(word, *word | bit);
}

static void clear_bit(struct filter_level *level, uint32_t index)
{
	uint64_t *word = &level->bits[index / 64];

	/* relaxed: a change that still sees it takes a lock for nothing */
	mmn_store_relaxed(word, *word & ~(UINT64_C(1) << (index % 64)));
}

void filter_init(struct filter *filter)
{
	memset(filter, 0, sizeof(*filter));
	filter->hull_lo = UINTPTR_MAX;
	filter->wide_lo = UINTPTR_MAX;
}

void filter_set_hull(struct filter *filter, uintptr_t lo, uintptr_t hi)
{
	store_bound(&filter->hull_lo, lo);
	store_bound(&filter->hull_hi, hi);
}

static void widen(struct filter *filter, uintptr_t start, uintptr_t last)
{
	filter->nr_wide++;
	if (start < filter->wide_lo)
		store_bound(&filter->wide_lo, start);
	if (last > filter->wide_hi)
		store_bound(&filter->wide_hi, last);
}

void filter_add(struct filter *filter, uintptr_t start, uintptr_t last)
{
	uint32_t i = level_of(start, last);
	struct filter_level *level = &filter->levels[i];
	uintptr_t granule;

	if (i == FILTER_LEVELS) {
		widen(filter, start, last);
		return;
	}
	for (granule = start >> filter_shift(i);
	     granule <= last >> filter_shift(i); granule++) {
		uint32_t index = granule % FILTER_BITS;

		if (level->counts[index] < UINT8_MAX)
			level->counts[index]++;
		if (level->counts[index] == UINT8_MAX)
			level->stuck = true;
		set_bit(level, index);
	}
	level->nr++;
	set_used(filter, i);
}

/* The last one has gone, and with it what stayed because of F2. */
static void clear_level(struct filter_level *level)
{
	uint32_t i;

	for (i = 0; i < FILTER_WORDS; i++)
		/* relaxed: as in clear_bit() */
		mmn_store_relaxed(&level->bits[i], 0);
	memset(level->counts, 0, sizeof(level->counts));
	level->stuck = false;
}

static void drop_granules(struct filter_level *level, uintptr_t first,
			  uintptr_t last)
{
	uintptr_t granule;

	for (granule = first; granule <= last; granule++) {
		uint32_t index = granule % FILTER_BITS;

		if (level->counts[index] < UINT8_MAX &&
		    --level->counts[index] == 0)
			clear_bit(level, index);
	}
}

void filter_remove(struct filter *filter, uintptr_t start, uintptr_t last)
{
	uint32_t i = level_of(start, last);

	if (i < FILTER_LEVELS) {
		struct filter_level *level = &filter->levels[i];

		drop_granules(level, start >> filter_shift(i),
			      last >> filter_shift(i));
		if (--level->nr)
			return;
		set_unused(filter, i);
		if (level->stuck)
			clear_level(level);
		return;
	}
	if (--filter->nr_wide)
		return;
	store_bound(&filter->wide_lo, UINTPTR_MAX);
	store_bound(&filter->wide_hi, 0);
}

bool filter_contains(struct filter *filter, uintptr_t start, uintptr_t last)
{
	return filter_overlaps(filter, start, start) &&
	       filter_overlaps(filter, last, last) &&
	       filter_overlaps(filter, start, last);
}
