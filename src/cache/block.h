/* SPDX-License-Identifier: MIT */
#ifndef MMN_CACHE_BLOCK_H
#define MMN_CACHE_BLOCK_H
/*
 * Blocks: one subscription for all the regions of a part of the address space.
 *
 * Subscribing costs more than all the rest of a miss, and a change over many
 * regions calls back once for each, from memory that is in no cache of the
 * processor.  So small regions that lie in one aligned block of 8192 pages share a
 * subscription, which stays when they go.  Its callback finds them by itself: there
 * is a bit for each page in which a region begins; one word above them says in
 * which groups of 256 pages there may be some, and how many callbacks look.
 *
 *	CPU0: get                            CPU1: a change
 *
 *	[W] slot, bit, PENDING               open changes + 1    (the notifier)
 *	[RMW] word: group                    [RMW] word: callers + 1
 *	[R] open changes: none?              bit?  mark the region, hide it
 *	register                             [RMW] word: callers - 1
 *	LIVE, if there is no mark            the change is made
 *
 * Of two read-modify-writes of one word one comes first: either the callback
 * finds the bit, or the get finds the change open, unless it has ended.
 *
 * A change that is open somewhere in the block says nothing about the region.  It
 * is not waited for: the region is then subscribed for itself as well, and waits
 * for what overlaps it.  So are those that no block has room for: they are large,
 * cross the end of one, or take the place of others.  No region waits, or
 * collides, because of a change elsewhere; who gives a registration up waits until
 * no callback looks into the block.
 *
 * The bit goes when the region can not be found any more, before anybody may
 * begin another one there; what a callback has found stays a region until the
 * callback is over:
 *
 *	CPU0: the region goes                CPU1: a callback
 *
 *	hidden                               [RMW] word: callers + 1
 *	[W] no bit                           bit?  mark the region, hide it
 *	[RMW] word: callers                  [RMW] word: callers - 1
 *	none: it may be another one
 *
 * Callbacks that come behind the last step do not find it, those before it are
 * counted.  There are two counts, so that those that come meanwhile can be told
 * to use the other one and are not waited for.
 *
 * Only caches whose changes do not wait for fences and tell nobody use blocks:
 * then all that is to be done about a region is to mark it, once.
 */
#include <stdbool.h>
#include <stdint.h>

#include <mmn/notifier.h>

#include "base/compiler.h"
#include "base/list.h"

struct mmn_cache;
struct region;

/* The explorer has smaller ones. */
#ifndef GROUP_PAGES
#define GROUP_PAGES 256
#endif
#define BLOCK_PAGES (32 * GROUP_PAGES)
/* Of one word of bits. */
#define WORD_PAGES 32
/* Of one region: what begins before a change is looked for that far. */
#define BLOCK_REGION_PAGES 32

/* block->word: a bit per group, and above them two counts of up to 65535 each. */
#define BLOCK_CALLER(phase) (UINT64_C(1) << (32 + 16 * ((phase)&1)))
#define BLOCK_CALLERS(phase) (BLOCK_CALLER(phase) * UINT64_C(0xffff))

/*
 * struct block - its memory is a block's for the life of the cache
 *
 * B1  bit n of begins[m] is set  =>  slots[32 m + n] tells of a region that begins
 *     in that page, has this block, and is PENDING, or LIVE or DYING and not
 *     buried yet; and the bit of its group in word is set.
 * B2  nr_regions is the number of regions that have this block: from PENDING
 *     until they are FREE.
 * B3  It is on blocks->idle  <=>  it is in the table, inserted, and nr_regions is 0.
 */
struct block {
	/* atomic: groups: set under lock; BLOCK_CALLERS: by callbacks */
	uint64_t word;
	/* const while it is in the table */
	struct mmn_cache *cache;
	uintptr_t start;
	/* atomic: written under lock: pages of the largest there ever was */
	uint32_t longest;
	/* atomic: while it is idle, calls until it is worn out; 0 while used */
	uint32_t calls_left;
	/* lock, all of these. B2, B3 */
	uint32_t nr_regions;
	/* The subscription may be looked at by others than its founder. */
	bool is_open;
	/* the founder, until it is open; then lock */
	bool is_inserted;
	/* block number and one, 0 for the end: in its place of the table */
	uint32_t next;
	struct list_head link;
	struct mmn_range_subscription sub;
	/* atomic: bits of pages: set under lock, cleared by block_leave() */
	uint32_t begins[BLOCK_PAGES / WORD_PAGES];
	/* atomic: written under lock before the bit: slot_of_region() */
	uint32_t slots[BLOCK_PAGES];
};

/* struct blocks - those of a cache; under its lock but for the phase */
struct blocks {
	/* const after create */
	struct block *all;
	/* atomic: which count callbacks use, its lowest bit */
	uint32_t phase;
	/* atomic: set by callbacks: the state was released, nothing is got */
	uint32_t released;
	/* atomic: idle ones that are worn out; for a moment one too few, or -1 */
	uint32_t nr_worn;
	/* numbers and one, by hash */
	uint32_t *table;
	uint32_t nr_all;
	uint32_t hash_shift;
	/* all[nr_fresh..] were never used */
	uint32_t nr_fresh;
	uint32_t nr_idle;
	struct list_head idle;
	struct list_head free;
};

/* -ENOMEM, and then blocks_fini(). */
int blocks_init(struct blocks *blocks, uint32_t nr_regions);

/* All subscriptions are removed. */
void blocks_fini(struct blocks *blocks);

/*
 * A PENDING region enters the block that it lies in, if it may: then it has
 * region->block, and region->founds if that is new.  Lock held.
 */
void block_enter(struct region *region);

/* Insert the subscription of one that is new; not with the lock held. */
int block_subscribe(struct block *block);

/* Others may use it; by its founder, at the next opportunity; lock held. */
void block_open(struct region *region);

/*
 * The first region of a new block was not registered: its subscription goes too.
 * By the founder, instead of block_open(); not with the lock held.
 */
void block_abandon(struct region *region);

/* The region can not be found any more, or never could. */
void block_leave(struct region *region);

/*
 * Wait until callbacks that may have found one that has left are over: they neither
 * sleep nor wait, but handlers may interrupt them.  Not with the lock held.
 */
void block_await_callbacks(struct block *block);

/* The region has it no more; lock held. */
void block_put(struct region *region);

/*
 * Remove the subscriptions of idle blocks: of the oldest where there are many, and of
 * those that changes have called in vain too often; or @all.
 */
void blocks_trim(struct mmn_cache *cache, bool all);

#endif
