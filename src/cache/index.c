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

/* Put (where, what) in place @i; lock held. */
static void bucket_write(struct bucket *bucket, uint32_t i, uint64_t where,
			 uint64_t what)
{
	uint32_t seq = bucket->seq;

	/* relaxed: the releases below order it before what they write */
	mmn_store_relaxed(&bucket->seq, seq + 1);
	/*
	 * pair(cache_entry): release, with the acquires in bucket_find().
	 * Without it who reads the new value may read the old number twice.
	 */
	mmn_store_release(&bucket->entries[i].where, where);
	/*
	 * pair(cache_entry): release, with the acquires in bucket_find().
	 * Without it likewise.
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

static void enter(struct index *index, uint32_t at, uint64_t where,
		  uint64_t what)
{
	struct bucket *bucket;
	uint32_t i;

	for (;; at = (at + 1) & index->mask) {
		bucket = &index->buckets[at];
		for (i = 0; i < ENTRIES; i++)
			if (!bucket->entries[i].what) {
				bucket_write(bucket, i, where, what);
				return;
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
			if (bucket->entries[i].what &&
			    bucket->entries[i].what >> 32 == number) {
				bucket_write(bucket, i, 0, 0);
				return;
			}
		mmn_bug_on(!bucket->passed, "a region is not in the index");
		bucket_pass(bucket, (uint32_t)-1);
	}
}

void index_insert(struct index *index, uintptr_t start, uintptr_t last,
		  uint32_t access, uint32_t number)
{
	uint32_t level = level_of(index, start, last);
	uint32_t shift = index->page_shift + LEVEL_BITS * level;
	uint64_t where = (uint64_t)start | access;
	uint64_t what = (uint64_t)number << 32;
	uintptr_t granule;

	what |= ((last - start) >> index->page_shift) + 1;
	for (granule = start >> shift; granule <= last >> shift; granule++)
		enter(index, index_hash(index, granule << shift, level), where,
		      what);
	/* relaxed: who misses the bit misses the region */
	if (!index->nr_at[level]++)
		mmn_store_relaxed(&index->levels,
				  index->levels | UINT32_C(1) << level);
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
	/* relaxed: the bit says where to look, not what is there */
	if (!--index->nr_at[level])
		mmn_store_relaxed(&index->levels,
				  index->levels & ~(UINT32_C(1) << level));
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
