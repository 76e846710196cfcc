/* SPDX-License-Identifier: MIT */
/*
 * The cache's thread: everything is deregistered here.
 *
 * Neither the thread that makes a change nor the one that signals a fence can
 * do it: the first may be inside free(), the second must not sleep, and whether
 * anybody holds a region is known only after a grace period.
 */
#include <limits.h>
#include <sys/prctl.h>

#include <mmn/dma-fence.h>

#include "base/bug.h"
#include "base/time.h"
#include "base/wait.h"
#include "cache/cache.h"

/*
 * How long changes of idle regions are collected after some were deregistered:
 * waking this thread costs as much as all the rest of a change, and waiting for
 * sections is paid once for all of them.
 */
#define NAP_NS (100 * UINT64_C(1000))

/* How many regions are taken out in one step, while changes wait. */
#define BATCH 32

static void nap(struct mmn_cache *cache)
{
	struct timespec until;
	uint32_t was;

	/*
	 * relaxed: nothing is looked at before sleep_until_rung(), whose exchange
	 * sees through this one what was rung for
	 */
	was = mmn_xchg_relaxed(&cache->asleep, WORKER_NAPPING);
	if (was & WORKER_HURRIED)
		return;
	until = mmn_timespec(mmn_now_ns() + NAP_NS);
	mmn_wait_on(&cache->asleep, WORKER_NAPPING, &until);
}

/* @stopping: that the cache is to end is known. */
static void sleep_until_rung(struct mmn_cache *cache, bool stopping)
{
	/*
	 * pair(cache_asleep): acquire, with the releases in cache_ring() and
	 * cache_ring_soon().  Without it a region needs this thread, which
	 * sleeps.
	 */
	mmn_xchg_acquire(&cache->asleep, WORKER_ASLEEP);
	/* relaxed: the exchange orders them after whatever was rung for */
	if (!mmn_load_relaxed(&cache->kicked) &&
	    !mmn_load_relaxed(&cache->dead) &&
	    !mmn_load_relaxed(&cache->blocks.nr_worn) &&
	    mmn_load_relaxed(&cache->stop) == stopping &&
	    mmn_load_relaxed(&cache->nr_retired) == cache->nr_examined)
		mmn_wait_on(&cache->asleep, WORKER_ASLEEP, NULL);
	/*
	 * relaxed: who has rung has woken it, or comes before the next nap, whose
	 * exchange sees through this one what was rung for.  An exchange would do;
	 * clang makes a store of one whose result nobody uses, and through that
	 * nothing is seen.
	 */
	mmn_fetch_and_relaxed(&cache->asleep,
			      ~(uint32_t)(WORKER_ASLEEP | WORKER_HURRIED));
}

/* A fence that a user put on the reservation object himself. */
static bool watch_resv(struct region *region)
{
	struct dma_resv_iter cursor;
	struct dma_fence *fence;
	bool watched = false;

	dma_resv_iter_begin(&cursor, &region->resv, DMA_RESV_USAGE_BOOKKEEP);
	dma_resv_for_each_fence_unlocked(&cursor, fence)
	{
		watched = region_watch(region, &region->watch, fence);
		if (watched)
			break;
	}
	dma_resv_iter_end(&cursor);
	return watched;
}

/*
 * struct round - what became of the regions that are looked at
 *
 * They leave the address space together, because each step of the notifier holds
 * up all changes.
 */
struct round {
	struct mmn_cache *cache;
	/* deregistered, the subscription is still there */
	struct list_head leaving;
	uint32_t nr_leaving;
	/* over, but for callbacks of their blocks */
	struct list_head done;
};

static void round_init(struct round *round, struct mmn_cache *cache)
{
	round->cache = cache;
	list_init(&round->leaving);
	round->nr_leaving = 0;
	list_init(&round->done);
}

/* Nothing of the registration is left; lock held. */
static void account(struct region *region)
{
	struct mmn_cache *cache = region->cache;

	cache->stats.quarantined--;
	cache->stats.quarantined_bytes -= region_bytes(region);
	cache->stats.deregistered++;
	/* relaxed: who reads the old number looks at the region */
	mmn_store_relaxed(&cache->nr_dying, cache->stats.quarantined);
	block_put(region);
	region_free(region);
}

static void finish(struct round *round, struct region *region)
{
	dma_fence_put(region->last_fence);
	region->last_fence = NULL;
	region->settled = false;
	dma_resv_fini(&region->resv);
	list_add_tail(&region->link, &round->done);
}

static void unsubscribe(struct round *round)
{
	struct mmn_range_edit edits[BATCH];
	struct list_head *link;
	struct region *region;
	uint32_t nr = 0;

	list_for_each_link (link, &round->leaving) {
		region = list_entry(link, struct region, link);
		if (!region->subscribed)
			continue;
		region->subscribed = false;
		edits[nr++] = (struct mmn_range_edit){
			.op = MMN_RANGE_REMOVE,
			.sub = &region->sub,
		};
	}
	if (nr)
		cache_unsubscribe(round->cache, edits, nr);
}

/* All of them have left before. */
static void await_callbacks(struct round *round)
{
	const struct block *before = NULL;
	struct list_head *link;
	struct region *region;

	list_for_each_link (link, &round->done) {
		region = list_entry(link, struct region, link);
		if (region->block && region->block != before)
			block_await_callbacks(region->block);
		before = region->block;
	}
}

static void round_flush(struct round *round)
{
	struct mmn_cache *cache = round->cache;
	struct region *region;

	unsubscribe(round);
	while (!list_is_empty(&round->leaving)) {
		region = list_first_entry(&round->leaving, struct region, link);
		list_del(&region->link);
		/* relaxed: this thread wrote it */
		if (mmn_load_relaxed(&region->state) == REGION_DRAINING &&
		    (!region->last_fence ||
		     !region_watch(region, &region->watch, region->last_fence)))
			finish(round, region);
	}
	round->nr_leaving = 0;
	await_callbacks(round);
	cache_lock_quietly(cache);
	while (!list_is_empty(&round->done)) {
		region = list_first_entry(&round->done, struct region, link);
		list_del(&region->link);
		account(region);
	}
	mmn_mutex_unlock(&cache->lock);
}

static void leave(struct round *round, struct region *region)
{
	list_add_tail(&region->link, &round->leaving);
	if (++round->nr_leaving == BATCH)
		round_flush(round);
}

static void deregister(struct round *round, struct region *region)
{
	const struct mmn_cache_config *config = &round->cache->config;

	region->last_fence =
		config->ops->deregister_region(config->arg, &region->public);
	/* relaxed: only fence_done() and this thread look for it */
	mmn_store_relaxed(&region->state, REGION_DRAINING);
	leave(round, region);
}

/*
 * One that is only held need not hear of changes: no transfer is under way, nor
 * is one accepted any more.  As many as are held over one range, so many callbacks
 * each change there would make.
 */
static void look_at_dying(struct round *round, struct region *region)
{
	if (region_in_flight(region) || watch_resv(region))
		return;
	if (!hold_sum(region))
		deregister(round, region);
	else if (region->subscribed)
		leave(round, region);
}

/* As far as it goes: whoever holds it up kicks it again. Once in a round. */
static void look_at(struct round *round, struct region *region)
{
	/* relaxed: only this thread changes DYING and DRAINING */
	switch (mmn_load_relaxed(&region->state)) {
	case REGION_DYING:
		look_at_dying(round, region);
		break;
	case REGION_DRAINING:
		if (!region_in_flight(region))
			finish(round, region);
		break;
	default:
		break;
	}
}

/* Those that have become DYING since the last time. */
static void look_at_retired(struct mmn_cache *cache)
{
	struct list_head retired;
	struct region *region;
	struct round round;
	uint32_t examined;

	list_init(&retired);
	round_init(&round, cache);
	cache_lock_quietly(cache);
	examined = cache->nr_retired;
	list_splice_tail(&cache->retired, &retired);
	mmn_mutex_unlock(&cache->lock);
	if (list_is_empty(&retired))
		return;
	hold_synchronize();
	while (!list_is_empty(&retired)) {
		region = list_first_entry(&retired, struct region, link);
		list_del(&region->link);
		region->settled = true;
		look_at(&round, region);
	}
	round_flush(&round);
	cache_lock_quietly(cache);
	cache->nr_examined = examined;
	mmn_mutex_unlock(&cache->lock);
}

static void look_again(struct mmn_cache *cache)
{
	struct region *region, *next;
	struct round round;

	round_init(&round, cache);
	/*
	 * pair(cache_kicked): acquire, with the release in push().  Without it a
	 * link is followed that is not there yet.
	 */
	region = mmn_xchg_acquire(&cache->kicked, NULL);
	for (; region; region = next) {
		next = region->next_kicked;
		/*
		 * pair(cache_queued): release and acquire, with the exchange
		 * in push().  Without it what happened before the last kick is not seen.
		 */
		mmn_xchg_acq_rel(&region->queued, 0);
		if (region->settled)
			look_at(&round, region);
	}
	round_flush(&round);
}

static bool is_over(struct mmn_cache *cache, bool *ret_stopping)
{
	bool over;

	cache_lock_quietly(cache);
	/* relaxed: set before the last ring */
	*ret_stopping = mmn_load_relaxed(&cache->stop);
	over = *ret_stopping && !cache->stats.quarantined &&
	       !cache->stats.regions;
	mmn_mutex_unlock(&cache->lock);
	return over;
}

static void work_off(struct mmn_cache *cache)
{
	look_at_retired(cache);
	look_again(cache);
	blocks_trim(cache, false);
	cache_lock_quietly(cache);
	cache_progress(cache);
	cache_check(cache);
	mmn_mutex_unlock(&cache->lock);
}

void *cache_worker(void *arg)
{
	struct mmn_cache *cache = arg;
	bool stopping;

	prctl(PR_SET_NAME, "mmn-cache");
	cache_lock_quietly(cache);
	cache->worker_self = mmn_context_self();
	mmn_mutex_unlock(&cache->lock);
	while (!is_over(cache, &stopping)) {
		nap(cache);
		sleep_until_rung(cache, stopping);
		work_off(cache);
	}
	blocks_trim(cache, true);
	return NULL;
}
