/* SPDX-License-Identifier: MIT */
#ifndef MMN_NOTIFIER_FILTER_H
#define MMN_NOTIFIER_FILTER_H
/*
 * Could a change concern anybody?  Answered without a lock.
 *
 * False is certain, true is a guess.  Three sieves, each with its own words:
 *
 *   hull    from the first subscribed byte to the last one;
 *   wide    the hull of the subscriptions that are too large for the levels;
 *   levels  address space cut into granules, one bit for each (modulo the size
 *           of the map), set where a subscription touches the granule.  Small
 *           subscriptions are on the level of small granules.
 *
 * The words are changed under S and looked at without it.  F1 is what the race
 * between an insert and a change rests on; see mmn_invalidate_open():
 *
 * F1  For each range that was added there is, for each change that overlaps it,
 *     a word of each sieve that lets the change through, and it was stored
 *     before filter_add() returned.
 * F2  A count of 255 stays, and so does its bit, until the level is empty.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/compiler.h"

#define FILTER_LEVELS 2
#define FILTER_BITS 4096u
#define FILTER_WORDS (FILTER_BITS / 64)
/* A range of more granules than this belongs to the next level. */
#define FILTER_MAX_ADDED 64u
/* A change of more granules than this is not looked up. */
#define FILTER_MAX_LOOKED_UP 256u

struct filter_level {
	/* atomic: stored under S. F1 */
	uint64_t bits[FILTER_WORDS];
	/* S. F2 */
	uint8_t counts[FILTER_BITS];
	/* S: how many ranges are on this level; has a count reached its end? */
	size_t nr;
	bool stuck;
};

struct filter {
	/* atomic: stored under S. F1 */
	uintptr_t hull_lo;
	uintptr_t hull_hi;
	uintptr_t wide_lo;
	uintptr_t wide_hi;
	/* atomic: stored under S: one bit for each level that is not empty. F1 */
	uint32_t used;
	/* S */
	size_t nr_wide;
	struct filter_level levels[FILTER_LEVELS];
};

static inline uint32_t filter_shift(uint32_t level)
{
	return level ? 24 : 16;
}

void filter_init(struct filter *filter);

/* S held.  The hull is stored by filter_set_hull(), which see. */
void filter_add(struct filter *filter, uintptr_t start, uintptr_t last);
void filter_remove(struct filter *filter, uintptr_t start, uintptr_t last);

/* S held: what the subscriptions in the tree span; lo > hi for none. */
void filter_set_hull(struct filter *filter, uintptr_t lo, uintptr_t hi);

/* S held: F1 for one range. */
bool filter_contains(struct filter *filter, uintptr_t start, uintptr_t last);

static inline bool filter_looks_up(struct filter_level *level, uintptr_t first,
				   uintptr_t last)
{
	uintptr_t granule, next;

	if (last - first >= FILTER_MAX_LOOKED_UP)
		return true;
	for (granule = first; granule <= last; granule = next) {
		uint64_t mask = ~UINT64_C(0) << (granule % 64);
		uint64_t *word = &level->bits[granule / 64 % FILTER_WORDS];

		next = (granule | 63) + 1;
		if (next > last)
			mask &= ~UINT64_C(0) >> (63 - last % 64);
		/*
		 * pair(open_insert): the opener's loads, with the stores in
		 * set_bit().  Without it as in filter_overlaps().
		 */
		if (mmn_load_seq_cst(word) & mask)
			return true;
	}
	return false;
}

/*
 * Context: any, also signal handlers; general registers only; never waits.
 */
static inline bool filter_overlaps(struct filter *filter, uintptr_t start,
				   uintptr_t last)
{
	uint32_t used, i;

	/*
	 * pair(open_insert): the opener's loads, with the stores in
	 * store_bound().  Without it they are satisfied before the slot is
	 * visible, and a change and an insert miss each other.
	 */
	if (mmn_load_seq_cst(&filter->hull_lo) > last ||
	    mmn_load_seq_cst(&filter->hull_hi) < start)
		return false;
	/*
	 * pair(open_insert): the same, with store_bound(), for subscriptions
	 * without a level.  Without it as above.
	 */
	if (mmn_load_seq_cst(&filter->wide_lo) <= last &&
	    mmn_load_seq_cst(&filter->wide_hi) >= start)
		return true;
	/*
	 * pair(open_insert): the same, with set_used(), for the first one of a
	 * level.  Without it as above.
	 */
	used = mmn_load_seq_cst(&filter->used);
	for (i = 0; i < FILTER_LEVELS; i++) {
		uint32_t shift = filter_shift(i);

		if ((used >> i & 1) &&
		    filter_looks_up(&filter->levels[i], start >> shift,
				    last >> shift))
			return true;
	}
	return false;
}

#endif
