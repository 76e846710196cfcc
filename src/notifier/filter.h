/* SPDX-License-Identifier: MIT */
#ifndef MMN_NOTIFIER_FILTER_H
#define MMN_NOTIFIER_FILTER_H
/*
 * Could a change concern anybody?  Answered without a lock.
 *
 * False is certain, true is a guess.  Three sieves, each with its own words:
 *
 *   hull   from the first subscribed byte to the last one;
 *   wide   the hull of the subscriptions that are too large for all levels;
 *   map    a set of granules, hashed.  Level i cuts the address space into
 *          granules of 2^(12 + 4i) bytes.  A subscription is on the first level
 *          where it touches few granules, and on the one above it: a small change
 *          is looked up among the small granules, a large one among the large
 *          ones, and both have to say yes where both are few enough.
 *
 * The map is a Bloom filter of three bits, each in another cache line.  What lies
 * side by side in memory does so in the map: 64 granules, a block, are one word,
 * eight blocks, a tract, one line, and 64 tracts one page.  So one look tells
 * about all of a block, and changes all over a region that is full of
 * subscriptions find what they look at in their cache.
 *
 *	hash(level, tract / 64, i) = line, word, rotation
 *	tract t of the 64 is in line ^ t % 64, its block b in word ^ b % 8,
 *	granule g of the block is bit (g + rotation) % 64
 *
 * The second line is looked at when the first one has the bit, the third when
 * both have.
 *
 * It has at least 16 bits for each granule, and is replaced by a larger or a
 * smaller one as subscriptions come and go.  The next map is filled in small
 * steps by those who insert and remove, which is why no call holds S for long;
 * then its address is stored.  The old one is freed when nobody can look at it.
 *
 * The words are changed under S and looked at without it.  F1 is what the race
 * between an insert and a change rests on; see mmn_invalidate_open():
 *
 * F1  For each range that was added there is, for each change that overlaps it,
 *     a word of each sieve that lets the change through, and it was stored
 *     before filter_add() returned.  The address of the map is such a word.
 * F2  A count of COUNT_END stays, and so does its bit, until the map is replaced
 *     or has no granule left.
 * F3  While there is a next map, it holds the ranges whose mark is the epoch.
 * F4  All maps together are at most four times the size of the largest of them.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/compiler.h"

struct itree;

/* The last level is there for what is on the one before it. */
#define FILTER_LEVELS 9u
/* A range of more granules than this belongs to the next level. */
#define FILTER_MAX_ADDED 16u
/* A change of more granules than this is not looked up. */
#define FILTER_MAX_LOOKED_UP 256u

#define FILTER_LINE 64u
#define FILTER_LINE_WORDS (FILTER_LINE / 8)
#define FILTER_LINE_BITS (FILTER_LINE * 8)
/* How many granules a line is made for: 16 bits for each. */
#define FILTER_LINE_GRANULES (FILTER_LINE_BITS / 16)
/* One half byte of count for each bit. */
#define FILTER_LINE_COUNTS (FILTER_LINE_BITS / 2)
/* Tracts that lie side by side in the map, and lines for each granule. */
#define FILTER_PAGE_TRACTS 64u
#define FILTER_LOOKS 3u
/* The map in the filter itself has 2^FILTER_MIN_ORDER lines; 1 at least. */
#ifndef FILTER_MIN_ORDER
#define FILTER_MIN_ORDER 3u
#endif
#define FILTER_MAX_ORDER 24u

struct filter_line {
	/* atomic: stored under S. F1 */
	uint64_t words[FILTER_LINE_WORDS];
} __attribute__((aligned(FILTER_LINE)));

/*
 * struct filter_map - one map, as those see it who change it, under S
 */
struct filter_map {
	struct filter_line *lines;
	/* F2 */
	uint8_t *counts;
	/* of the granules in it, and of those taken out since it was made */
	size_t nr;
	size_t nr_removed;
	/* how many counts have reached their end */
	size_t nr_stuck;
	/* what was allocated, NULL for the one inside the filter; bytes */
	void *block;
	size_t bytes;
	/* of those that are no longer looked at */
	struct filter_map *older;
	/* the logarithm of the number of lines */
	uint32_t order;
};

struct filter {
	/* atomic: stored under S. F1 */
	uintptr_t hull_lo;
	uintptr_t hull_hi;
	uintptr_t wide_lo;
	uintptr_t wide_hi;
	/* atomic: stored under S: the lines, and the order in the low bits. F1 */
	uintptr_t map;
	/* atomic: stored under S: one bit for each level that is not empty. F1 */
	uint32_t used;
	/* S: the number of the map that was made last. F3 */
	uint32_t epoch;
	/* S */
	size_t nr_wide;
	size_t nr_on[FILTER_LEVELS];
	/* S: in use, being filled or NULL, no longer looked up */
	struct filter_map *current;
	struct filter_map *next;
	struct filter_map *retired;
	/* S: the next map is filled up to this key */
	uintptr_t cursor_start;
	uint64_t cursor_birth;
	/* S: when memory for a map was refused: how many granules there were */
	size_t refused_at;

	struct filter_map small;
	uint8_t small_counts[FILTER_LINE_COUNTS << FILTER_MIN_ORDER];
	struct filter_line small_lines[1 << FILTER_MIN_ORDER];
};

static inline uint32_t filter_shift(uint32_t level)
{
	return 12 + 4 * level;
}

void filter_init(struct filter *filter);
void filter_fini(struct filter *filter);

/*
 * S held.  The hull is stored by filter_set_hull(), which see.  The mark belongs
 * to the range: what add wrote there remove is given.
 */
void filter_add(struct filter *filter, uintptr_t start, uintptr_t last,
		uint32_t *ret_mark);
void filter_remove(struct filter *filter, uintptr_t start, uintptr_t last,
		   uint32_t mark);

/*
 * S held, after every few adds and removes: a step on the way to a map of the
 * right size; true when it was the last one, and the old map is retired.  What is
 * in the tree, with its mark in the node, is what was added and is not wide.
 */
bool filter_tend(struct filter *filter, struct itree *tree);

/*
 * S held, and nobody can be looking at a map that was retired.  They are freed
 * when S is open again: the kernel takes milliseconds for the largest.
 */
struct filter_map *filter_take_retired(struct filter *filter);
void filter_free_maps(struct filter_map *maps);

/* S held: what the subscriptions in the tree span; lo > hi for none. */
void filter_set_hull(struct filter *filter, uintptr_t lo, uintptr_t hi);

/* S held: F1 for one range. */
bool filter_contains(struct filter *filter, uintptr_t start, uintptr_t last);

/* S held: the maps count what is in the tree. F3; O(n) */
bool filter_check(struct filter *filter, struct itree *tree);

/* S held: what the maps have allocated. */
size_t filter_bytes(const struct filter *filter);

/*
 * Of the first look at a block: the line in the uppermost bits; word and
 * rotation from bit 13 on.  It is the same for all blocks of a page.
 */
static inline uint64_t filter_hash(uint32_t level, uint64_t block)
{
	uint64_t page = block / (FILTER_LINE_WORDS * FILTER_PAGE_TRACTS);

	return (page << 4 | level) * UINT64_C(0x9e3779b97f4a7c15);
}

/* Of the next look.  Pages that shared a line until now do so no more. */
static inline uint64_t filter_hash_again(uint64_t hash)
{
	return (hash ^ hash >> 32) * UINT64_C(0xd6e8feb86659fd93);
}

static inline uint32_t filter_rotation(uint64_t hash)
{
	return hash >> 16 & 63;
}

static inline uint64_t *filter_word_of(uintptr_t map, uint64_t hash,
				       uint64_t block)
{
	uintptr_t order = map % FILTER_LINE;
	struct filter_line *lines = (struct filter_line *)(map - order);
	uint64_t tract = block / FILTER_LINE_WORDS % FILTER_PAGE_TRACTS;
	uint64_t line =
		(hash >> (64 - order) ^ tract) & ((UINT64_C(1) << order) - 1);

	return &lines[line].words[(hash >> 13 ^ block) % FILTER_LINE_WORDS];
}

/* May one of the granules of a block be there?  Bit i of @mask for granule i. */
static inline bool filter_block_has(uintptr_t map, uint32_t level,
				    uint64_t block, uint64_t mask)
{
	uint64_t hash = filter_hash(level, block);
	uint32_t i;

	for (i = 0; i < FILTER_LOOKS; i++, hash = filter_hash_again(hash)) {
		uint32_t rotation = filter_rotation(hash);
		uint64_t word;

		/*
		 * pair(open_insert): the opener's loads, with the stores in
		 * set_bit().  Without it as in filter_overlaps().
		 */
		word = mmn_load_seq_cst(filter_word_of(map, hash, block));
		mask &= word >> rotation | word << (-rotation & 63);
		if (!mask)
			return false;
	}
	return true;
}

/* The granules from @first to @last that are in the block. */
static inline uint64_t filter_mask(uint64_t block, uint64_t first,
				   uint64_t last)
{
	uint64_t mask = ~UINT64_C(0);

	if (block == first / 64)
		mask <<= first % 64;
	if (block == last / 64)
		mask &= ~UINT64_C(0) >> (63 - last % 64);
	return mask;
}

static inline bool filter_looks_up(uintptr_t map, uint32_t level,
				   uint64_t first, uint64_t last)
{
	uint64_t block;

	for (block = first / 64; block <= last / 64; block++)
		if (filter_block_has(map, level, block,
				     filter_mask(block, first, last)))
			return true;
	return false;
}

/* One of the levels that ranges are on, and the one above it. */
static inline bool filter_level_overlaps(uintptr_t map, uint32_t level,
					 uintptr_t start, uintptr_t last)
{
	uint32_t fine = filter_shift(level), coarse = filter_shift(level + 1);
	uintptr_t nr = (last >> fine) - (start >> fine);

	if (nr < 64 &&
	    !filter_looks_up(map, level, start >> fine, last >> fine))
		return false;
	if ((last >> coarse) - (start >> coarse) >= FILTER_MAX_LOOKED_UP)
		return true;
	if (!filter_looks_up(map, level + 1, start >> coarse, last >> coarse))
		return false;
	return nr < 64 || nr >= FILTER_MAX_LOOKED_UP ||
	       filter_looks_up(map, level, start >> fine, last >> fine);
}

/*
 * struct filter_guess - what filter_overlaps() will look at first
 *
 * Worked out before the change is in its slot, while the processor has nothing
 * better to do, and fetched into the cache.  The map may be an old one, and its
 * memory somebody else's: until @map turns out to be the one in use nothing is
 * read there.
 */
struct filter_guess {
	/* no bit for no guess */
	uint32_t used;
	uintptr_t map;
	/* of the first look: nobody is there when all of these bits are 0 */
	uint64_t mask;
	uint64_t *word;
};

static inline struct filter_guess filter_guess(struct filter *filter,
					       uintptr_t start, uintptr_t last)
{
	struct filter_guess guess = { .used = 0 };
	uint32_t used, level, rotation;
	uint64_t first, hash;

	/* relaxed, all: a guess */
	used = mmn_load_relaxed(&filter->used);
	if (!used || mmn_load_relaxed(&filter->hull_lo) > last ||
	    mmn_load_relaxed(&filter->hull_hi) < start)
		return guess;
	level = (uint32_t)__builtin_ctz(used);
	first = start >> filter_shift(level);
	last >>= filter_shift(level);
	if (first / 64 != last / 64)
		return guess;
	guess.used = used;
	hash = filter_hash(level, first / 64);
	rotation = filter_rotation(hash);
	guess.mask = filter_mask(first / 64, first, last);
	guess.mask = guess.mask << rotation | guess.mask >> (-rotation & 63);
	/* relaxed: a guess */
	guess.map = mmn_load_relaxed(&filter->map);
	guess.word = filter_word_of(guess.map, hash, first / 64);
	__builtin_prefetch(guess.word);
	return guess;
}

/* Did we guess well, and is nobody on the first level? */
static inline bool filter_guess_misses(const struct filter_guess *guess,
				       uintptr_t map, uint32_t used)
{
	if (guess->used != used || guess->map != map)
		return false;
	/*
	 * pair(open_insert): the opener's load, with the stores in set_bit().
	 * Without it as in filter_overlaps().
	 */
	return !(mmn_load_seq_cst(guess->word) & guess->mask);
}

/* The levels of @used.  Context: as filter_overlaps(). */
bool filter_levels_overlap(uintptr_t map, uint32_t used, uintptr_t start,
			   uintptr_t last);

/*
 * Context: any, also signal handlers; general registers only; never waits.
 * Somebody who is between these loads is in a slot or on the list of changes:
 * that keeps the map.
 */
static inline bool filter_overlaps(struct filter *filter,
				   const struct filter_guess *guess,
				   uintptr_t start, uintptr_t last)
{
	uintptr_t lo, hi, map;
	uint32_t used;

	/*
	 * pair(open_insert): the opener's loads, with the stores in
	 * store_bound().  Without it they are satisfied before the slot is
	 * visible, and a change and an insert miss each other.
	 */
	lo = mmn_load_seq_cst(&filter->hull_lo);
	if (lo > last)
		return false;
	/*
	 * F1 goes for each bound: when lo > hi nobody is there, or one of them
	 * was looked at before an insert that will find the slot.
	 * pair(open_insert): the same, with store_bound().  Without it as above.
	 */
	hi = mmn_load_seq_cst(&filter->hull_hi);
	if (hi < start || hi < lo)
		return false;
	/*
	 * pair(open_insert): the same, with store_bound(), for subscriptions
	 * without a level.  Without it as above.
	 */
	if (mmn_load_seq_cst(&filter->wide_lo) <= last &&
	    mmn_load_seq_cst(&filter->wide_hi) >= start)
		return true;
	/*
	 * pair(open_insert): the same, with publish(), for those that are in
	 * the new map only.  Without it as above.
	 * pair(filter_map): acquire, with publish().  Without it the map's
	 * words may be those from before it was filled.
	 */
	map = mmn_load_seq_cst(&filter->map);
	/*
	 * pair(open_insert): the same, with set_used(), for the first one of a
	 * level.  Without it as above.
	 */
	used = mmn_load_seq_cst(&filter->used);
	if (used && filter_guess_misses(guess, map, used))
		used &= used - 1;
	return used && filter_levels_overlap(map, used, start, last);
}

/* The same in one go. */
static inline bool filter_passes(struct filter *filter, uintptr_t start,
				 uintptr_t last)
{
	struct filter_guess guess = filter_guess(filter, start, last);

	return filter_overlaps(filter, &guess, start, last);
}

#endif
