/* SPDX-License-Identifier: MIT */
#ifndef MMN_CACHE_INDEX_H
#define MMN_CACHE_INDEX_H
/*
 * Which region contains [addr, last]?  Asked by everybody without a lock,
 * changed under the cache's lock; only hiding needs none.
 *
 * A hash table of granules.  A region of up to 4 pages is entered under each of
 * its pages, one of up to 16 under each piece of 4 pages that it touches, and so
 * on: never more than five entries, and levels that nobody uses are not looked at.
 * An entry holds all that decides, so that a hit reads one line:
 *
 *	where	start of the region, access in the lowest bits
 *	what	number of the region and one, pages; 0 for no entry
 *
 * What allows nothing, or has no pages, is found by nobody.  The life of an entry:
 *
 *	index_insert()	allows nothing	lock held
 *	index_show()	allows @access	lock held
 *	index_hide()	has no pages	anybody, also twice, also a signal handler
 *	index_remove()	is free		lock held
 *
 * Hiding is one exchange of one word that only this region has there, so it meets
 * with nobody; shown after that it still has no pages.
 *
 * A bucket is one line, versioned: odd while it is being written.  Full ones
 * overflow into the next; passed counts entries that went on from here.  The
 * table has two buckets for each region and never grows.
 *
 *	CPU0: index_find()                 CPU1: index_remove(), lock held
 *
 *	                                   [W] seq = odd
 *	s = [R] seq, even                  [W] what = 0      (release)
 *	[R] where, what    (acquire)       [W] seq = even    (release)
 *	[R] seq == s ?
 *
 * Who reads an entry half written reads, by its acquire, the odd number in the
 * second look.
 *
 * Several threads may look for a region while it is taken out: each finds it or
 * not.  Whoever looks after the lock was dropped does not find it.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/compiler.h"

#define INDEX_NONE UINT32_MAX
#define INDEX_BUSY (UINT32_MAX - 1)

/* Of one region: pages have 32 bits in an entry. */
#define INDEX_MAX_PAGES UINT64_C(0xffffffff)
#define ENTRY_FLAGS UINT64_C(0xfff)
#define ENTRIES 3
#define LEVEL_BITS 2
#define NR_LEVELS 24
#define LOOKS 64
/* index->first: the shift, and from this bit on the level */
#define FIRST_LEVEL 8

struct entry {
	/* atomic, both */
	uint64_t where;
	uint64_t what;
};

struct bucket {
	/* atomic, both */
	uint32_t seq;
	uint32_t passed;
	struct entry entries[ENTRIES];
} __attribute__((aligned(64)));

struct index {
	/* const after init */
	struct bucket *buckets;
	uint32_t mask;
	uint32_t hash_shift;
	uint32_t page_shift;
	/* atomic: bit n: there are regions of level n */
	uint32_t levels;
	/* atomic: the lowest of them, and the shift that belongs to it */
	uint32_t first;
	/* lock */
	uint32_t nr_at[NR_LEVELS];
};

static inline uint32_t granule_hash(const struct index *index, uint64_t granule)
{
	return (uint32_t)((granule * UINT64_C(0x9e3779b97f4a7c15)) >>
			  index->hash_shift);
}

static inline uint32_t index_hash(const struct index *index, uintptr_t addr,
				  uint32_t level)
{
	uint64_t granule =
		(uint64_t)addr >> (index->page_shift + LEVEL_BITS * level);

	return granule_hash(index, granule + level);
}

static inline bool entry_contains(const struct index *index, uint64_t where,
				  uint64_t what, uintptr_t addr, uintptr_t last,
				  uint32_t access)
{
	uint64_t start = where & ~ENTRY_FLAGS;
	uint64_t bytes = (what & UINT32_MAX) << index->page_shift;

	/* A last below the start wraps. */
	return last - start < bytes && addr >= start && !(access & ~where);
}

static inline uint32_t entry_number(uint64_t what)
{
	return (uint32_t)(what >> 32) - 1;
}

/* The number of a region, INDEX_NONE, or INDEX_BUSY: it was being written. */
static inline uint32_t bucket_find(const struct index *index,
				   const struct bucket *bucket, uintptr_t addr,
				   uintptr_t last, uint32_t access)
{
	uint32_t found = INDEX_NONE;
	uint64_t where, what;
	uint32_t seq, i;

	/*
	 * pair(cache_bucket): acquire, with the release that makes it even in
	 * bucket_write().  Without it the entries are older than the number.
	 */
	seq = mmn_load_acquire(&bucket->seq);
#pragma GCC unroll 3
	for (i = 0; i < ENTRIES; i++) {
		/*
		 * pair(cache_entry): acquire, with the release in
		 * index_show().  Without it start and length of two regions
		 * make a third one.
		 */
		where = mmn_load_acquire(&bucket->entries[i].where);
		/*
		 * pair(cache_entry): acquire, with the release in
		 * bucket_write().  Without it likewise: the second look at the
		 * number misses that the entry was half written.
		 */
		what = mmn_load_acquire(&bucket->entries[i].what);
		if (entry_contains(index, where, what, addr, last, access)) {
			found = entry_number(what);
			break;
		}
	}
	/* relaxed: the acquires above order it after what they read */
	if (unlikely(seq & 1) ||
	    unlikely(mmn_load_relaxed(&bucket->seq) != seq))
		return INDEX_BUSY;
	return found;
}

/*
 * The number of a region that contains [addr, last] and allows @access, or
 * INDEX_NONE, also when the table was being changed all the time.  Inside
 * hold_enter() or with the lock held.
 */
uint32_t index_search(const struct index *index, uintptr_t addr, uintptr_t last,
		      uint32_t access);

/*
 * The first bucket only, which is the right one most of the time: INDEX_NONE and
 * INDEX_BUSY say nothing.
 */
static inline uint32_t index_find_fast(const struct index *index,
				       uintptr_t addr, uintptr_t last,
				       uint32_t access)
{
	/* relaxed: who misses a level that is new misses its regions */
	uint32_t first = mmn_load_relaxed(&index->first);
	uint64_t granule = (uint64_t)addr >> (first & 63);
	uint32_t at = granule_hash(index, granule + (first >> FIRST_LEVEL));

	return bucket_find(index, &index->buckets[at], addr, last, access);
}

/* @buckets: zeroed, a power of two, twice as many as there may be regions */
void index_init(struct index *index, struct bucket *buckets, uint32_t nr,
		uint32_t page_shift);

/* Where the entries of a region are. */
struct index_places {
	struct entry *entries[5];
	uint32_t nr;
};

/*
 * Lock held; the range is not in it.  Start, last are page aligned.  Nobody finds
 * it before it is shown.
 */
void index_insert(struct index *index, uintptr_t start, uintptr_t last,
		  uint32_t number, struct index_places *ret_places);

/* The lock is held since then; @start as it was inserted. */
void index_show(const struct index_places *places, uintptr_t start,
		uint32_t access);

/*
 * Nobody who looks for it later finds it.  As it was inserted, not removed, and
 * it is not removed meanwhile, unless by a caller that has hidden it before.
 * Context: any; no lock is needed.
 */
void index_hide(const struct index *index, uintptr_t start, uintptr_t last,
		uint32_t number);

/* Lock held; as it was inserted. */
void index_remove(struct index *index, uintptr_t start, uintptr_t last,
		  uint32_t number);

/* Nothing is entered. */
bool index_is_empty(const struct index *index);

#endif
