/* SPDX-License-Identifier: MIT */
#include "cache/index.h"

#include "base/bug.h"

void index_init(struct index *index, struct bucket *buckets, uint32_t nr,
		uint32_t page_shift)
{
	index->buckets = buckets;
	index->mask = nr - 1;
	index->hash_shift = 64 - (uint32_t)__builtin_ctz(nr);
	index->page_shift = page_shift;
	index->first = page_shift;
}

uint32_t index_search(const struct index *index, uintptr_t addr, uintptr_t last,
		      uint32_t access)
{
	/* relaxed: who misses a level that is new misses its regions */
	uint32_t levels = mmn_load_relaxed(&index->levels);
	uint32_t looks = 0;
	uint32_t found, at, passed;

	for (; levels; levels &= levels - 1) {
		at = index_hash(index, addr, (uint32_t)__builtin_ctz(levels));
		do {
			found = bucket_find(index, &index->buckets[at], addr,
					    last, access);
			if (likely(found < INDEX_BUSY))
				return found;
			if (unlikely(++looks == LOOKS))
				return INDEX_NONE;
			if (found == INDEX_BUSY) {
				mmn_cpu_relax();
				passed = 1;
				continue;
			}
			/*
			 * relaxed: a search that ends before the bucket that
			 * it should go on to is a miss
			 */
			passed = mmn_load_relaxed(&index->buckets[at].passed);
			at = (at + 1) & index->mask;
		} while (passed);
	}
	return INDEX_NONE;
}

static uint32_t level_of(const struct index *index, uintptr_t start,
			 uintptr_t last)
{
	uint64_t pages = (last - start) >> index->page_shift;
	uint32_t level = 0;

	while (pages >> (LEVEL_BITS * (level + 1)))
		level++;
	return level;
}

static void set_levels(struct index *index, uint32_t levels)
{
	/* No level at all: any bucket will do. */
	uint32_t first = levels ? (uint32_t)__builtin_ctz(levels) : 0;

	/* relaxed, both: who misses a level misses its regions */
	mmn_store_relaxed(&index->levels, levels);
	mmn_store_relaxed(&index->first,
			  (index->page_shift + LEVEL_BITS * first) |
				  first << FIRST_LEVEL);
}

/* Put (where, what) in place @i; lock held. */
static void bucket_write(struct bucket *bucket, uint32_t i, uint64_t where,
			 uint64_t what)
{
	uint32_t seq = bucket->seq;

	/* relaxed: the release below orders it before what it writes */
	mmn_store_relaxed(&bucket->seq, seq + 1);
	/* relaxed: it allows nothing, so whoever reads it finds nothing */
	mmn_store_relaxed(&bucket->entries[i].where, where);
	/*
	 * pair(cache_entry): release, with the acquire in bucket_find().
	 * Without it who reads the new value may read the old number twice.
	 */
	mmn_store_release(&bucket->entries[i].what, what);
	/*
	 * pair(cache_bucket): release, with the acquire in bucket_find().
	 * Without it the number is even before the entry is whole, and what the
	 * register op wrote may not be there.
	 */
	mmn_store_release(&bucket->seq, seq + 2);
}

static void bucket_pass(struct bucket *bucket, uint32_t by)
{
	/* relaxed: who misses it misses what lies behind, and no worse */
	mmn_store_relaxed(&bucket->passed, bucket->passed + by);
}

/* Somebody may be hiding what @what stands for: the number stays. */
static bool entry_is(uint64_t what, uint32_t number)
{
	return what && entry_number(what) == number;
}

static struct entry *enter(struct index *index, uint32_t at, uint64_t where,
			   uint64_t what)
{
	struct bucket *bucket;
	uint32_t i;

	for (;; at = (at + 1) & index->mask) {
		bucket = &index->buckets[at];
		for (i = 0; i < ENTRIES; i++)
			/* relaxed: what is free stays so under the lock */
			if (!mmn_load_relaxed(&bucket->entries[i].what)) {
				bucket_write(bucket, i, where, what);
				return &bucket->entries[i];
			}
		bucket_pass(bucket, 1);
	}
}

static void leave(struct index *index, uint32_t at, uint32_t number)
{
	struct bucket *bucket;
	uint32_t i;

	for (;; at = (at + 1) & index->mask) {
		bucket = &index->buckets[at];
		for (i = 0; i < ENTRIES; i++)
			/* relaxed: numbers change under the lock */
			if (entry_is(mmn_load_relaxed(&bucket->entries[i].what),
				     number)) {
				bucket_write(bucket, i, 0, 0);
				return;
			}
		mmn_bug_on(!bucket->passed, "a region is not in the index");
		bucket_pass(bucket, (uint32_t)-1);
	}
}

/*
 * An exchange and no store: when another has hidden it, and the lock was taken
 * since, the place may be another region's.
 */
static bool entry_hide(struct entry *entry, uint32_t number)
{
	/* relaxed: whoever may call this has seen it inserted, or removed */
	uint64_t what = mmn_load_relaxed(&entry->what);

	/* What is hidden has no pages; another of the region may be behind it. */
	if (!entry_is(what, number) || !(what & UINT32_MAX))
		return false;
	/*
	 * relaxed: those who look later, because they know that it is hidden,
	 * read this one or the next
	 */
	mmn_cmpxchg_relaxed(&entry->what, &what, what & ~(uint64_t)UINT32_MAX);
	return true;
}

/*
 * One entry of the region, perhaps not the one that was entered from here: what it
 * leaves lies further on in the way of that one, whose own turn finds it.
 */
static void hide(const struct index *index, uint32_t at, uint32_t number)
{
	struct bucket *bucket;
	uint32_t looks, i;

	/* Removed meanwhile, by those who have hidden it before: not to be found. */
	for (looks = 0; looks <= index->mask; looks++) {
		bucket = &index->buckets[at];
		for (i = 0; i < ENTRIES; i++)
			if (entry_hide(&bucket->entries[i], number))
				return;
		/* relaxed: it counts this entry until that is removed */
		if (!mmn_load_relaxed(&bucket->passed))
			return;
		at = (at + 1) & index->mask;
	}
}

void index_insert(struct index *index, uintptr_t start, uintptr_t last,
		  uint32_t number, struct index_places *ret_places)
{
	uint32_t level = level_of(index, start, last);
	uint32_t shift = index->page_shift + LEVEL_BITS * level;
	uint64_t what = ((uint64_t)number + 1) << 32;
	uintptr_t granule;

	ret_places->nr = 0;
	what |= ((last - start) >> index->page_shift) + 1;
	for (granule = start >> shift; granule <= last >> shift; granule++)
		ret_places->entries[ret_places->nr++] =
			enter(index, index_hash(index, granule << shift, level),
			      start, what);
	if (!index->nr_at[level]++)
		set_levels(index, index->levels | UINT32_C(1) << level);
}

void index_show(const struct index_places *places, uintptr_t start,
		uint32_t access)
{
	uint32_t i;

	for (i = 0; i < places->nr; i++)
		/*
		 * pair(cache_entry): release, with the acquire in
		 * bucket_find().  Without it who reads the new start may read
		 * the number and the length of the last region here.
		 */
		mmn_store_release(&places->entries[i]->where,
				  (uint64_t)start | access);
}

void index_hide(const struct index *index, uintptr_t start, uintptr_t last,
		uint32_t number)
{
	uint32_t level = level_of(index, start, last);
	uint32_t shift = index->page_shift + LEVEL_BITS * level;
	uintptr_t granule;

	for (granule = start >> shift; granule <= last >> shift; granule++)
		hide(index, index_hash(index, granule << shift, level), number);
}

void index_remove(struct index *index, uintptr_t start, uintptr_t last,
		  uint32_t number)
{
	uint32_t level = level_of(index, start, last);
	uint32_t shift = index->page_shift + LEVEL_BITS * level;
	uintptr_t granule;

	for (granule = start >> shift; granule <= last >> shift; granule++)
		leave(index, index_hash(index, granule << shift, level),
		      number);
	if (!--index->nr_at[level])
		set_levels(index, index->levels & ~(UINT32_C(1) << level));
}

bool index_is_empty(const struct index *index)
{
	uint32_t i;

	for (i = 0; i <= index->mask; i++)
		if (index->buckets[i].passed ||
		    index->buckets[i].entries[0].what ||
		    index->buckets[i].entries[1].what ||
		    index->buckets[i].entries[2].what)
			return false;
	return true;
}
