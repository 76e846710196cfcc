/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "base/atomic.h"
#include "base/bug.h"
#include "base/wait.h"
#include "cache/cache.h"

/*
 * Idle ones that are kept: getting again what was changed is what they are for.  The
 * explorer has fewer.
 */
#ifndef IDLE_BLOCKS
#define IDLE_BLOCKS 256
#endif

/* Changes that call an idle one in vain before it is removed. */
#define IDLE_CALLS 64

/* How many are removed in one step, while changes wait. */
#ifndef TRIM_BATCH
#define TRIM_BATCH 32
#endif

/*
 * Room for those that are idle or on their way out, and for some that are used: a
 * block takes as much memory as 60 regions.
 */
static uint32_t nr_blocks(uint32_t nr_regions)
{
	return nr_regions / 64 + IDLE_BLOCKS + 2 * TRIM_BATCH;
}

/* A slot: number of the region, pages less one, and whether it may be written. */
#define SLOT_WRITABLE UINT32_C(1)
#define SLOT_PAGES_SHIFT 1
#define SLOT_NUMBER_SHIFT 6

static uint32_t slot_of_region(const struct region *region, uint32_t pages)
{
	uint32_t slot = region_index(region) << SLOT_NUMBER_SHIFT |
			(pages - 1) << SLOT_PAGES_SHIFT;

	return region->public.access & MMN_CACHE_WRITE ? slot | SLOT_WRITABLE
						       : slot;
}

static uint32_t slot_pages(uint32_t slot)
{
	return (slot >> SLOT_PAGES_SHIFT & (BLOCK_REGION_PAGES - 1)) + 1;
}

static uintptr_t block_mask(const struct mmn_cache *cache)
{
	return BLOCK_PAGES * (cache->page_mask + 1) - 1;
}

static uintptr_t block_last(const struct block *block)
{
	return block->start | block_mask(block->cache);
}

static uint32_t page_of(const struct block *block, uintptr_t addr)
{
	return (uint32_t)((addr - block->start) >>
			  block->cache->index.page_shift);
}

/* ------------------------------------------------------------------ */
/* The callback                                                       */
/* ------------------------------------------------------------------ */

/* The region that begins in @page, if a change from @first page on concerns it. */
static void invalidate_at(struct block *block, uint32_t page, uint32_t first,
			  const struct mmn_invalidate_desc *desc)
{
	struct mmn_cache *cache = block->cache;
	/*
	 * relaxed: it comes with the bit; one that is newer is of a region that
	 * finds this change open
	 */
	uint32_t slot = mmn_load_relaxed(&block->slots[page]);

	if (page + slot_pages(slot) > first &&
	    region_is_concerned(cache, slot & SLOT_WRITABLE, desc))
		region_invalidate(&cache->regions[slot >> SLOT_NUMBER_SHIFT]);
}

/* Bits of a word that stand for pages @first to @last, of which it has some. */
static uint32_t bits_in(uint32_t word, uint32_t first, uint32_t last)
{
	uint32_t begin = word * WORD_PAGES, bits = UINT32_MAX;

	if (first > begin)
		bits <<= first - begin;
	if (last < begin + WORD_PAGES - 1)
		bits &= UINT32_MAX >> (begin + WORD_PAGES - 1 - last);
	return bits;
}

/* struct pages - those of a block that a change is about */
struct pages {
	/* from here on a region may begin that reaches into them */
	uint32_t from;
	uint32_t first;
	uint32_t last;
};

static void invalidate_in_word(struct block *block, uint32_t word,
			       const struct pages *pages,
			       const struct mmn_invalidate_desc *desc)
{
	/*
	 * pair(cache_left): acquire, with the release in block_leave().  Without
	 * it the region is found by who gets it behind this callback.
	 * pair(cache_begins): acquire, with the release in block_enter().
	 * Without it a region that has entered since the word was read has the
	 * number of another one that was there before, and that one goes,
	 * wherever it is now.
	 */
	uint32_t bits = mmn_load_acquire(&block->begins[word]);

	bits &= bits_in(word, pages->from, pages->last);
	for (; bits; bits &= bits - 1)
		invalidate_at(block,
			      word * WORD_PAGES + (uint32_t)__builtin_ctz(bits),
			      pages->first, desc);
}

static struct pages pages_of(const struct block *block,
			     const struct mmn_invalidate_desc *desc)
{
	struct pages pages = { .first = 0, .last = BLOCK_PAGES - 1 };
	uint32_t before;

	if (desc->start > block->start)
		pages.first = page_of(block, desc->start);
	if (desc->last < block_last(block))
		pages.last = page_of(block, desc->last);
	/* relaxed: the bit of one that is longer comes with it */
	before = mmn_load_relaxed(&block->longest) - 1;
	pages.from = pages.first > before ? pages.first - before : 0;
	return pages;
}

static void invalidate_in(struct block *block, uint32_t groups,
			  const struct mmn_invalidate_desc *desc)
{
	struct pages pages = pages_of(block, desc);
	uint32_t word = pages.from / WORD_PAGES;

	while (word <= pages.last / WORD_PAGES) {
		if (groups >> word * WORD_PAGES / GROUP_PAGES & 1)
			invalidate_in_word(block, word++, &pages, desc);
		else
			word = (word / (GROUP_PAGES / WORD_PAGES) + 1) *
			       (GROUP_PAGES / WORD_PAGES);
	}
}

/* Called while it is idle: there was nothing to be told. */
static void wear(struct block *block)
{
	struct mmn_cache *cache = block->cache;
	/* relaxed, all: counted only, and exact because it is exchanged */
	uint32_t left = mmn_load_relaxed(&block->calls_left);

	if (likely(!left) ||
	    !mmn_cmpxchg_relaxed(&block->calls_left, &left, left - 1) ||
	    left > 1)
		return;
	mmn_fetch_add_relaxed(&cache->blocks.nr_worn, 1);
	cache_ring_soon(cache);
}

/* Used again, or removed; lock held. */
static void leave_idle(struct block *block)
{
	struct blocks *blocks = &block->cache->blocks;

	list_del(&block->link);
	blocks->nr_idle--;
	/* relaxed, both: see wear() */
	if (!mmn_xchg_relaxed(&block->calls_left, 0))
		mmn_fetch_sub_relaxed(&blocks->nr_worn, 1);
}

static bool invalidate(struct mmn_range_subscription *sub,
		       const struct mmn_invalidate_desc *desc, uint64_t cur_seq)
{
	struct block *block = container_of(sub, struct block, sub);
	uint64_t caller, word;

	(void)cur_seq;
	/* A fork, for most: nobody has to find it open. */
	if (!region_is_concerned(block->cache, true, desc))
		return true;
	/* relaxed: ordered for a get as the mark is, by the word */
	if (desc->event == MMN_EVENT_RELEASE)
		mmn_store_relaxed(&block->cache->blocks.released, 1);
	/* relaxed: either count will do, both are waited for */
	caller = BLOCK_CALLER(mmn_load_relaxed(&block->cache->blocks.phase));
	/*
	 * pair(cache_block): acquire, with the release in block_enter().
	 * Without it the region is not there yet.
	 * pair(cache_block): release, with the acquire in block_enter().
	 * Without it the get that comes behind does not find the change open.
	 * pair(cache_callers): acquire, with the release in
	 * block_await_callbacks().  Without it a region is found that has become
	 * another one.
	 */
	word = mmn_fetch_add_acq_rel(&block->word, caller);
	invalidate_in(block, (uint32_t)word, desc);
	/* Before the count: what was found keeps it from being idle until then. */
	wear(block);
	/*
	 * pair(cache_callers): release, with the acquires in has_callers() and
	 * block_await_callbacks().  Without it the region becomes another one
	 * while this callback hides it.
	 */
	mmn_fetch_sub_release(&block->word, caller);
	return true;
}

static const struct mmn_range_ops block_ops = {
	.invalidate = invalidate,
};

static bool has_callers(const struct block *block, uint32_t phase)
{
	/*
	 * pair(cache_callers): acquire, with the release in invalidate().
	 * Without it as there.
	 */
	return mmn_load_acquire(&block->word) & BLOCK_CALLERS(phase);
}

void block_await_callbacks(struct block *block)
{
	struct mmn_cache *cache = block->cache;
	struct blocks *blocks = &cache->blocks;
	struct mmn_sigmask saved;
	uint32_t i, old, turn = 0;

	/* Who was in one at a fork is not in the child. */
	if (!cache_is_live(cache))
		return;
	/*
	 * Those who come behind this do not find what has left before.
	 *
	 * pair(cache_callers): release and acquire, with the acquire and the
	 * release in invalidate().  Without them as there.
	 */
	if (mmn_fetch_or_acq_rel(&block->word, 0) <= UINT32_MAX)
		return;
	/* A change of a handler may wait for who waits for this lock. */
	mmn_signals_hold(&saved);
	mmn_mutex_lock(&cache->grace);
	for (i = 0; i < 2; i++) {
		old = blocks->phase;
		/* relaxed: who is late is waited for a little longer */
		mmn_store_relaxed(&blocks->phase, old + 1);
		while (has_callers(block, old))
			mmn_give_way(turn++);
	}
	mmn_mutex_unlock(&cache->grace);
	mmn_signals_release(&saved);
}

/* ------------------------------------------------------------------ */
/* The table                                                          */
/* ------------------------------------------------------------------ */

static uint32_t *place_of(struct mmn_cache *cache, uintptr_t start)
{
	uint64_t number = start / (block_mask(cache) + 1);

	return &cache->blocks.table[number * UINT64_C(0x9e3779b97f4a7c15) >>
				    cache->blocks.hash_shift];
}

static struct block *find_block(struct mmn_cache *cache, uintptr_t start)
{
	struct block *all = cache->blocks.all;
	uint32_t next = *place_of(cache, start);

	while (next && all[next - 1].start != start)
		next = all[next - 1].next;
	return next ? &all[next - 1] : NULL;
}

static struct block *add_block(struct mmn_cache *cache, uintptr_t start)
{
	struct blocks *blocks = &cache->blocks;
	uint32_t *place = place_of(cache, start);
	struct block *block;

	block = list_first_entry(&blocks->free, struct block, link);
	if (block) {
		list_del(&block->link);
	} else {
		if (blocks->nr_fresh == blocks->nr_all)
			return NULL;
		block = &blocks->all[blocks->nr_fresh++];
		block->cache = cache;
		list_init(&block->link);
	}
	block->start = start;
	/* relaxed, both: nobody looks before it is inserted */
	mmn_store_relaxed(&block->word, 0);
	mmn_store_relaxed(&block->longest, 1);
	block->next = *place;
	*place = (uint32_t)(block - blocks->all) + 1;
	return block;
}

/* B1, where nothing begins. */
static bool is_empty(const struct block *block)
{
	uint32_t i;

	for (i = 0; i < BLOCK_PAGES / WORD_PAGES; i++)
		/* relaxed: those that have left were accounted under the lock */
		if (mmn_load_relaxed(&block->begins[i]))
			return false;
	return !block->nr_regions;
}

/* Nobody has it, and it is not inserted. */
static void free_block(struct block *block)
{
	mmn_check(is_empty(block));
	list_add(&block->link, &block->cache->blocks.free);
}

static void remove_block(struct block *block)
{
	struct blocks *blocks = &block->cache->blocks;
	uint32_t number = (uint32_t)(block - blocks->all) + 1;
	uint32_t *next = place_of(block->cache, block->start);

	while (*next != number)
		next = &blocks->all[*next - 1].next;
	*next = block->next;
	block->is_open = false;
}

/* ------------------------------------------------------------------ */
/* In and out                                                         */
/* ------------------------------------------------------------------ */

static bool may_share(const struct region *region)
{
	const struct mmn_cache_config *config = &region->cache->config;
	uint64_t bytes = BLOCK_REGION_PAGES * (region->cache->page_mask + 1);

	return !region->crowded && !config->wait_ns &&
	       !config->ops->invalidated && region_bytes(region) <= bytes;
}

static bool begins_at(const struct block *block, uint32_t page)
{
	/* relaxed: the lock orders those that are in its way */
	return mmn_load_relaxed(&block->begins[page / WORD_PAGES]) >>
		       page % WORD_PAGES &
	       1;
}

/* The block that a region may enter, a new one if need be; NULL for none. */
static struct block *block_for(struct region *region)
{
	struct mmn_cache *cache = region->cache;
	uintptr_t start = region->public.start & ~block_mask(cache);
	struct block *block;

	if (!may_share(region) ||
	    region->public.last - start > block_mask(cache))
		return NULL;
	block = find_block(cache, start);
	if (!block) {
		block = add_block(cache, start);
		region->founds = block;
		return block;
	}
	/* A change may still be about to hide one that begins there. */
	if (!block->is_open ||
	    begins_at(block, page_of(block, region->public.start)))
		return NULL;
	return block;
}

void block_enter(struct region *region)
{
	struct block *block;
	uint32_t page, pages;

	region->founds = false;
	block = block_for(region);
	region->block = block;
	if (!block)
		return;
	if (!block->nr_regions++ && !region->founds)
		leave_idle(block);
	page = page_of(block, region->public.start);
	pages = page_of(block, region->public.last) - page + 1;
	/* relaxed, all: the word orders them, the bit the slot besides */
	if (pages > mmn_load_relaxed(&block->longest))
		mmn_store_relaxed(&block->longest, pages);
	mmn_store_relaxed(&block->slots[page], slot_of_region(region, pages));
	/*
	 * pair(cache_begins): release, with the acquire in invalidate_in_word().
	 * Without it as there.
	 */
	mmn_fetch_or_release(&block->begins[page / WORD_PAGES],
			     UINT32_C(1) << page % WORD_PAGES);
	/*
	 * pair(cache_block): release, with the acquire in invalidate().  Without
	 * it as there.
	 * pair(cache_block): acquire, with the release in invalidate().  Without
	 * it the registration begins in the middle of a change that has not found
	 * the region.
	 */
	mmn_fetch_or_acq_rel(&block->word, UINT64_C(1) << page / GROUP_PAGES);
}

void block_leave(struct region *region)
{
	struct block *block = region->block;
	uint32_t page = page_of(block, region->public.start);

	/*
	 * pair(cache_left): release, with the acquire in invalidate_in_word().
	 * Without it as there.
	 */
	mmn_fetch_and_release(&block->begins[page / WORD_PAGES],
			      ~(UINT32_C(1) << page % WORD_PAGES));
}

int block_subscribe(struct block *block)
{
	int err = cache_subscribe(block->cache, &block->sub, &block_ops,
				  block->start, block_last(block));

	block->is_inserted = !err;
	return err;
}

void block_open(struct region *region)
{
	if (!region->founds)
		return;
	region->founds = false;
	region->block->is_open = region->block->is_inserted;
}

void block_abandon(struct region *region)
{
	struct block *block = region->block;

	/* Nobody else has looked at it. */
	if (!region->founds || !block->is_inserted)
		return;
	mmn_range_subscription_remove(&block->sub);
	block->is_inserted = false;
}

void block_put(struct region *region)
{
	struct block *block = region->block;
	struct blocks *blocks = &region->cache->blocks;

	region->block = NULL;
	if (!block || --block->nr_regions)
		return;
	if (block->is_inserted) {
		list_add_tail(&block->link, &blocks->idle);
		blocks->nr_idle++;
		/* relaxed: see wear() */
		mmn_store_relaxed(&block->calls_left, IDLE_CALLS);
	} else {
		remove_block(block);
		free_block(block);
	}
}

/* ------------------------------------------------------------------ */
/* All of them                                                        */
/* ------------------------------------------------------------------ */

static uint32_t nr_places(uint32_t nr)
{
	uint32_t places = 16;

	while (places < nr)
		places *= 2;
	return places;
}

int blocks_init(struct blocks *blocks, uint32_t nr_regions)
{
	uint32_t nr = nr_blocks(nr_regions), places = nr_places(nr);

	list_init(&blocks->idle);
	list_init(&blocks->free);
	blocks->nr_all = nr;
	blocks->hash_shift = 64 - (uint32_t)__builtin_ctz(places);
	blocks->all = cache_map(nr * (uint64_t)sizeof(struct block));
	blocks->table = cache_map(places * (uint64_t)sizeof(uint32_t));
	return blocks->all && blocks->table ? 0 : -ENOMEM;
}

void blocks_fini(struct blocks *blocks)
{
	uint32_t nr = blocks->nr_all;

	cache_unmap(blocks->all, nr * (uint64_t)sizeof(struct block));
	cache_unmap(blocks->table, nr_places(nr) * (uint64_t)sizeof(uint32_t));
}

/*
 * Out of the table: those that are worn out, and of the others the longest idle
 * ones; lock held.
 */
static uint32_t take_idle(struct mmn_cache *cache, uint32_t keep,
			  struct block **taken)
{
	struct blocks *blocks = &cache->blocks;
	struct list_head *link, *next;
	struct block *block;
	uint32_t nr = 0;

	/* relaxed, both: the worker does not sleep before there are none */
	if (blocks->nr_idle <= keep && !mmn_load_relaxed(&blocks->nr_worn))
		return 0;
	for (link = blocks->idle.next; link != &blocks->idle; link = next) {
		next = link->next;
		block = list_entry(link, struct block, link);
		if (nr == TRIM_BATCH)
			break;
		if (blocks->nr_idle <= keep &&
		    mmn_load_relaxed(&block->calls_left))
			continue;
		leave_idle(block);
		remove_block(block);
		taken[nr++] = block;
	}
	return nr;
}

static void unsubscribe(struct mmn_cache *cache, struct block **taken,
			uint32_t nr)
{
	struct mmn_range_edit edits[TRIM_BATCH];
	uint32_t i;

	for (i = 0; i < nr; i++) {
		taken[i]->is_inserted = false;
		edits[i] = (struct mmn_range_edit){
			.op = MMN_RANGE_REMOVE,
			.sub = &taken[i]->sub,
		};
	}
	cache_unsubscribe(cache, edits, nr);
}

void blocks_trim(struct mmn_cache *cache, bool all)
{
	struct block *taken[TRIM_BATCH];
	uint32_t nr, i;

	do {
		cache_lock_quietly(cache);
		nr = take_idle(cache, all ? 0 : IDLE_BLOCKS, taken);
		mmn_mutex_unlock(&cache->lock);
		if (!nr)
			return;
		unsubscribe(cache, taken, nr);
		cache_lock_quietly(cache);
		for (i = 0; i < nr; i++)
			free_block(taken[i]);
		mmn_mutex_unlock(&cache->lock);
	} while (nr == TRIM_BATCH);
}
