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

static void sleep_until_rung(struct mmn_cache *cache)
{
	/*
	 * pair(cache_asleep): release and acquire, with the exchange in
	 * cache_ring().
	 * Without it a region needs this thread, which sleeps.
	 */
	mmn_xchg_acq_rel(&cache->asleep, 1);
	/* relaxed: the exchange orders them after whatever was rung for */
	if (!mmn_load_relaxed(&cache->kicked) &&
	    !mmn_load_relaxed(&cache->stop) &&
	    mmn_load_relaxed(&cache->nr_retired) == cache->nr_examined)
		mmn_wait_on(&cache->asleep, 1, NULL);
	mmn_xchg_relaxed(&cache->asleep, 0); /* relaxed: nobody waits for it */
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

/* True when the device has let go already. */
static bool deregister(struct region *region)
{
	struct mmn_cache *cache = region->cache;
	const struct mmn_cache_config *config = &cache->config;
	struct dma_fence *fence;

	fence = config->ops->deregister_region(config->arg, &region->public);
	mmn_range_subscription_remove(&region->sub);
	region->last_fence = fence;
	/* relaxed: only the callback below and this thread look for it */
	mmn_store_relaxed(&region->state, REGION_DRAINING);
	return !fence || !region_watch(region, &region->watch, fence);
}

static void finish(struct region *region)
{
	struct mmn_cache *cache = region->cache;

	dma_fence_put(region->last_fence);
	region->last_fence = NULL;
	region->settled = false;
	dma_resv_fini(&region->resv);
	mmn_mutex_lock(&cache->lock);
	cache->stats.quarantined--;
	cache->stats.quarantined_bytes -= region_bytes(region);
	cache->stats.deregistered++;
	/* relaxed: who reads the old number looks at the region */
	mmn_store_relaxed(&cache->nr_dying, cache->stats.quarantined);
	region_free(region);
	mmn_mutex_unlock(&cache->lock);
}

/* As far as it goes: whoever holds it up kicks it again. */
static void look_at(struct region *region)
{
	/* relaxed: only this thread changes DYING and DRAINING */
	switch (mmn_load_relaxed(&region->state)) {
	case REGION_DYING:
		if (hold_sum(region) || region_in_flight(region) ||
		    watch_resv(region) || !deregister(region))
			return;
		break;
	case REGION_DRAINING:
		if (region_in_flight(region))
			return;
		break;
	default:
		return;
	}
	finish(region);
}

/* Those that have become DYING since the last time. */
static void look_at_retired(struct mmn_cache *cache)
{
	struct list_head retired;
	struct region *region;
	uint32_t examined;

	list_init(&retired);
	mmn_mutex_lock(&cache->lock);
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
		look_at(region);
	}
	mmn_mutex_lock(&cache->lock);
	cache->nr_examined = examined;
	mmn_mutex_unlock(&cache->lock);
}

static void look_again(struct mmn_cache *cache)
{
	struct region *region, *next;

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
			look_at(region);
	}
}

static bool is_over(struct mmn_cache *cache)
{
	bool over;

	mmn_mutex_lock(&cache->lock);
	/* relaxed: set before the last ring */
	over = mmn_load_relaxed(&cache->stop) && !cache->stats.quarantined &&
	       !cache->stats.regions;
	mmn_mutex_unlock(&cache->lock);
	return over;
}

void *cache_worker(void *arg)
{
	struct mmn_cache *cache = arg;

	prctl(PR_SET_NAME, "mmn-cache");
	mmn_mutex_lock(&cache->lock);
	cache->worker_self = mmn_context_self();
	mmn_mutex_unlock(&cache->lock);
	while (!is_over(cache)) {
		sleep_until_rung(cache);
		look_at_retired(cache);
		look_again(cache);
		mmn_mutex_lock(&cache->lock);
		cache_progress(cache);
		cache_check(cache);
		mmn_mutex_unlock(&cache->lock);
	}
	return NULL;
}
