/* SPDX-License-Identifier: MIT */
/*
 * One region: from room to registration, out of reach, and through its fences.
 */
#include <errno.h>
#include <limits.h>

#include <mmn/dma-fence.h>

#include "base/arena.h"
#include "base/bug.h"
#include "base/inject.h"
#include "base/time.h"
#include "base/wait.h"
#include "cache/cache.h"

/* ------------------------------------------------------------------ */
/* The worker's stack                                                 */
/* ------------------------------------------------------------------ */

static void push(struct region *region)
{
	struct mmn_cache *cache = region->cache;
	struct region *top;

	/*
	 * pair(cache_queued): release and acquire, with the exchange in
	 * look_again().  Without it the worker looks at a region without what this thread has
	 * changed, and nobody rings again.
	 */
	if (mmn_xchg_acq_rel(&region->queued, 1))
		return;
	top = mmn_load_relaxed(&cache->kicked); /* relaxed: a guess */
	do {
		region->next_kicked = top;
		/*
		 * pair(cache_kicked): release, with the acquire in look_again().
		 * Without it the worker follows a link that is not there yet.
		 */
	} while (!mmn_cmpxchg_release(&cache->kicked, &top, region));
}

/* Who has made it DYING, and nobody else. */
static void push_dead(struct region *region)
{
	struct mmn_cache *cache = region->cache;
	struct region *top;

	top = mmn_load_relaxed(&cache->dead); /* relaxed: a guess */
	do {
		region->next_dead = top;
		/*
		 * pair(cache_dead): release, with the acquire in cache_bury().
		 * Without it who takes the lock follows a link that is not there
		 * yet.
		 */
	} while (!mmn_cmpxchg_release(&cache->dead, &top, region));
}

void cache_ring(struct mmn_cache *cache)
{
	/*
	 * pair(cache_asleep): release, with the acquire in sleep_until_rung().
	 * Without it the worker may sleep on: either this finds it asleep, or
	 * its exchange comes behind and sees what it is rung for.
	 */
	if (mmn_xchg_release(&cache->asleep, WORKER_HURRIED) &
	    (WORKER_ASLEEP | WORKER_NAPPING))
		mmn_wake(&cache->asleep, 1);
}

void cache_ring_soon(struct mmn_cache *cache)
{
	/*
	 * pair(cache_asleep): release, with the acquire in sleep_until_rung().
	 * Without it the worker may sleep on.
	 */
	if (mmn_fetch_and_release(&cache->asleep, ~(uint32_t)WORKER_ASLEEP) &
	    WORKER_ASLEEP)
		mmn_wake(&cache->asleep, 1);
}

void region_kick(struct region *region)
{
	push(region);
	cache_ring(region->cache);
}

void region_kick_soon(struct region *region)
{
	push(region);
	cache_ring_soon(region->cache);
}

/* ------------------------------------------------------------------ */
/* In and out                                                         */
/* ------------------------------------------------------------------ */

struct region *region_take(struct mmn_cache *cache)
{
	struct region *region =
		list_first_entry(&cache->free, struct region, link);

	if (region) {
		list_del(&region->link);
	} else if (cache->nr_fresh < cache->nr_slots) {
		region = &cache->regions[cache->nr_fresh++];
		region->cache = cache;
		list_init(&region->link);
	}
	return region;
}

void region_free(struct region *region)
{
	/* relaxed: under the lock; others look for LIVE or DYING */
	mmn_store_relaxed(&region->state, REGION_FREE);
	list_add(&region->link, &region->cache->free);
}

/* DYING, and nobody finds it: take note of that.  Lock held. */
static void bury(struct region *region)
{
	struct mmn_cache *cache = region->cache;
	uint64_t bytes = region_bytes(region);

	index_remove(&cache->index, region->public.start, region->public.last,
		     region_index(region));
	if (region->block)
		block_leave(region);
	list_del(&region->link);
	cache->stats.quarantined_bytes += bytes;
	cache->stats.quarantined++;
	list_add_tail(&region->link, &cache->retired);
	/* relaxed: the ring orders it for the worker */
	mmn_store_relaxed(&cache->nr_retired, cache->nr_retired + 1);
	/* relaxed: the grace period orders it for those who put */
	mmn_store_relaxed(&cache->nr_dying, cache->stats.quarantined);
}

static void bury_live(struct region *region)
{
	struct mmn_cache *cache = region->cache;

	itree_remove(&cache->live, &region->node);
	cache->stats.cached_bytes -= region_bytes(region);
	cache->stats.regions--;
	bury(region);
}

void cache_bury(struct mmn_cache *cache)
{
	struct region *region, *next;

	/*
	 * pair(cache_dead): acquire, with the release in push_dead().  Without
	 * it a link is followed that is not there yet.
	 */
	region = mmn_xchg_acquire(&cache->dead, NULL);
	for (; region; region = next) {
		next = region->next_dead;
		cache->stats.invalidated++;
		bury_live(region);
	}
}

static void hide(const struct region *region)
{
	index_hide(&region->cache->index, region->public.start,
		   region->public.last, region_index(region));
}

/*
 * True when it was LIVE.  In either case nobody who looks for it later finds it,
 * and none that is PENDING becomes LIVE.
 */
static bool kill(struct region *region)
{
	uint32_t was;

	/*
	 * pair(cache_gone): acquire, with the release in region_publish().
	 * Without it this one finds nothing in the index to hide, and it is
	 * shown there later.
	 * pair(cache_mark): release, with the acquire in begin_reading().
	 * Without it a change whose mark is taken off there is not found open,
	 * and the registration begins in its middle.
	 * pair(cache_fence): acquire, with the release in mmn_cache_add_fence().
	 * Without it a change looks for fences before one is added, and who
	 * adds it finds the region LIVE.
	 */
	was = mmn_fetch_or_acq_rel(&region->state, REGION_GONE);
	/* Who was first may be interrupted, also by us. */
	if (was == REGION_LIVE || was == REGION_DYING)
		hide(region);
	return was == REGION_LIVE;
}

bool region_retire(struct region *region)
{
	if (!kill(region))
		return false;
	bury_live(region);
	return true;
}

static void make_live(struct region *region)
{
	struct mmn_cache *cache = region->cache;

	list_del(&region->link);
	list_add_tail(&region->link, &cache->lru);
	cache->stats.cached_bytes += region_bytes(region);
	cache->stats.regions++;
	region->node.start = region->public.start;
	region->node.last = region->public.last;
	region->node.birth = ++cache->births;
	itree_insert(&cache->live, &region->node);
	/* relaxed: a hint */
	mmn_store_relaxed(&cache->used[region_index(region)], 0);
	/* The worker sums up after the lock. */
	hold_get(hold_mine, region);
}

/* Those that it overlaps make place; lock held. */
static void replace(const struct region *region)
{
	struct mmn_cache *cache = region->cache;
	struct itree_node *node;

	/* By the key of one that has left the tree the next is found. */
	itree_for_each_overlap (node, &cache->live, region->public.start,
				region->public.last)
		cache->stats.replaced +=
			region_retire(container_of(node, struct region, node));
}

/*
 *	CPU0: region_publish()             CPU1: kill()
 *
 *	[W] index, not shown               [RMW] state | GONE
 *	[RMW] state: PENDING to LIVE       it was LIVE: hide it in the index
 *	it was GONE: DYING
 *	else show it in the index
 *
 * Of two that change one word one comes first: either it is seen here that the
 * region is gone, or all of its entries are there to be hidden, and showing what
 * is hidden shows nothing.
 */
bool region_publish(struct region *region, uint64_t seq)
{
	struct mmn_cache *cache = region->cache;
	uint32_t pending = REGION_PENDING;
	struct index_places places;

	index_insert(&cache->index, region->public.start, region->public.last,
		     region_index(region), &places);
	cache->pending_bytes -= region_bytes(region);
	cache->nr_pending--;
	/* As a driver that does not look; relaxed: the next one orders it. */
	if (MMN_INJECT(MMN_INJECT_RETRY_SKIP))
		mmn_fetch_and_relaxed(&region->state, ~(uint32_t)REGION_GONE);
	/*
	 * The sequence tells of a fork: in the child nobody calls back.
	 *
	 * pair(cache_gone): release, with the acquire in kill().  Without it as
	 * there.
	 */
	if (!region->purged && !mmn_range_read_retry(region_sub(region), seq) &&
	    mmn_cmpxchg_release(&region->state, &pending, REGION_LIVE)) {
		if (region->crowded)
			replace(region);
		index_show(&places, region->public.start,
			   region->public.access);
		make_live(region);
		return true;
	}
	/* relaxed: nobody finds it; a mark that comes beside it is in it */
	mmn_store_relaxed(&region->state, REGION_DYING);
	bury(region);
	return false;
}

/* ------------------------------------------------------------------ */
/* Fences                                                             */
/* ------------------------------------------------------------------ */

/* In an RCU read section: after the last one the region may be anything. */
static void land(struct region *region)
{
	uint32_t state, was;

	/*
	 * pair(cache_flight): release, with the acquires in wait_for_flight()
	 * and region_in_flight().  Without it the change is made, or the region
	 * deregistered, while the device's last accesses are under way.
	 */
	was = mmn_fetch_sub_release(&region->in_flight, FLIGHT_ONE);
	if (was == (FLIGHT_ONE | FLIGHT_WAITER)) {
		/* relaxed: who reads this one reads on from the release */
		mmn_fetch_and_relaxed(&region->in_flight, ~FLIGHT_WAITER);
		mmn_wake(&region->in_flight, INT_MAX);
	}
	/* relaxed: ordered by the grace period, as in hold.h */
	state = mmn_load_relaxed(&region->state);
	if (was / FLIGHT_ONE == 1 &&
	    (state == REGION_DYING || state == REGION_DRAINING))
		region_kick(region);
}

static void fence_done(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	struct watch *watch = container_of(cb, struct watch, cb);
	struct region *region = watch->region;

	(void)fence;
	if (watch != &region->watch)
		mmn_callback_free(watch);
	mmn_rcu_read_lock();
	land(region);
	mmn_rcu_read_unlock();
}

bool region_watch(struct region *region, struct watch *watch,
		  struct dma_fence *fence)
{
	watch->region = region;
	/* relaxed: who adds it has a reference, or is the worker */
	mmn_fetch_add_relaxed(&region->in_flight, FLIGHT_ONE);
	if (!dma_fence_add_callback(fence, &watch->cb, fence_done))
		return true;
	mmn_rcu_read_lock();
	land(region);
	mmn_rcu_read_unlock();
	return false;
}

bool region_in_flight(const struct region *region)
{
	/*
	 * pair(cache_flight): acquire, with the release in land().  Without it
	 * what the device did comes after the deregistration.
	 */
	return mmn_load_acquire(&region->in_flight) >= FLIGHT_ONE;
}

static int add_to_resv(struct dma_resv *resv, struct dma_fence *fence,
		       uint32_t usage)
{
	int err;

	dma_resv_lock(resv, NULL);
	err = dma_resv_reserve_fences(resv, 1);
	if (!err)
		dma_resv_add_fence(resv, fence, (enum dma_resv_usage)usage);
	dma_resv_unlock(resv);
	return err;
}

int mmn_cache_add_fence(struct mmn_cache *cache,
			struct mmn_cache_region *public,
			struct dma_fence *fence, uint32_t usage)
{
	struct region *region;
	struct watch *watch;
	int err;

	if (!cache || !public || !fence || usage > DMA_RESV_USAGE_BOOKKEEP)
		return -EINVAL;
	if (!cache_is_live(cache) || !mmn_cache_region_is_valid(public))
		return -ESTALE;
	region = region_of(public);
	watch = mmn_callback_alloc(sizeof(*watch));
	if (!watch)
		return -ENOMEM;
	err = add_to_resv(&region->resv, fence, usage);
	if (err) {
		mmn_callback_free(watch);
		return err;
	}
	if (!region_watch(region, watch, fence))
		mmn_callback_free(watch);
	/*
	 * pair(cache_fence): release, with the acquire in kill().  Without it a
	 * change overlooks the fence, and this overlooks that the region is
	 * dying.
	 */
	if (mmn_fetch_or_release(&region->state, 0) != REGION_LIVE)
		return -ESTALE;
	return 0;
}

bool mmn_cache_region_is_valid(const struct mmn_cache_region *region)
{
	/* relaxed: a hint, by contract */
	return region &&
	       mmn_load_relaxed(&region_of(region)->state) == REGION_LIVE &&
	       cache_is_live(region_of(region)->cache);
}

/* ------------------------------------------------------------------ */
/* Changes                                                            */
/* ------------------------------------------------------------------ */

/* The second pass of a change: wait for the fences of one region. */
struct flight_wait {
	struct mmn_range_finish finish;
	struct region *region;
	uint64_t deadline_ns;
};

static void wait_for_flight(struct region *region, uint64_t deadline_ns)
{
	struct timespec until = mmn_timespec(deadline_ns);
	uint32_t seen;
	int err = 0;

	for (;;) {
		/*
		 * pair(cache_flight): acquire, with the release in land().
		 * Without it the change is made while the device's last
		 * accesses are under way.
		 */
		seen = mmn_load_acquire(&region->in_flight);
		if (seen < FLIGHT_ONE)
			return;
		if (err)
			break;
		/* relaxed: the bit orders nothing, it asks to be woken */
		if (!(seen & FLIGHT_WAITER) &&
		    !mmn_cmpxchg_relaxed(&region->in_flight, &seen,
					 seen | FLIGHT_WAITER))
			continue;
		err = mmn_wait_on(&region->in_flight, seen | FLIGHT_WAITER,
				  deadline_ns == UINT64_MAX ? NULL : &until);
	}
	/* relaxed: a statistic */
	mmn_fetch_add_relaxed(&region->cache->timed_out, 1);
}

static void invalidate_finish(struct mmn_range_finish *finish)
{
	struct flight_wait *wait =
		container_of(finish, struct flight_wait, finish);

	wait_for_flight(wait->region, wait->deadline_ns);
	mmn_callback_free(wait);
}

static void wait_later(struct region *region,
		       struct mmn_range_finish **ret_finish)
{
	uint64_t wait_ns = region->cache->config.wait_ns;
	uint64_t now = mmn_now_ns();
	uint64_t deadline =
		wait_ns > UINT64_MAX - now ? UINT64_MAX : now + wait_ns;
	struct flight_wait *wait = mmn_callback_alloc(sizeof(*wait));

	if (!wait) {
		wait_for_flight(region, deadline);
		return;
	}
	wait->region = region;
	wait->deadline_ns = deadline;
	*ret_finish = &wait->finish;
}

/*
 * A permission that is lost bars the device from writing; that one is gained
 * cannot be told from it.  Fork leaves pinned pages where they are.
 */
bool region_is_concerned(const struct mmn_cache *cache, bool writable,
			 const struct mmn_invalidate_desc *desc)
{
	switch (desc->event) {
	case MMN_EVENT_PROTECTION_VMA:
		return writable;
	case MMN_EVENT_PROTECTION_PAGE:
	case MMN_EVENT_SOFT_DIRTY:
		return cache->config.flags & MMN_CACHE_FORK;
	default:
		return true;
	}
}

bool region_invalidate(struct region *region)
{
	/* As a driver that does not tell; relaxed: about what is broken. */
	if (MMN_INJECT(MMN_INJECT_SEQ_SKIP) &&
	    mmn_load_relaxed(&region->state) == REGION_PENDING)
		return false;
	if (!kill(region))
		return false;
	push_dead(region);
	cache_ring_soon(region->cache);
	return true;
}

/*
 * One that is subscribed for itself.  The number of the change is not needed,
 * because the state says that one has been here.
 */
static bool invalidate_start(struct mmn_range_subscription *sub,
			     const struct mmn_invalidate_desc *desc,
			     uint64_t cur_seq,
			     struct mmn_range_finish **ret_finish)
{
	struct region *region = container_of(sub, struct region, sub);
	const struct mmn_cache_config *config = &region->cache->config;

	(void)cur_seq;
	if (!region_is_concerned(region->cache,
				 region->public.access & MMN_CACHE_WRITE, desc))
		return true;
	if (region_invalidate(region) && config->ops->invalidated)
		config->ops->invalidated(config->arg, region->public.start,
					 region->public.last);
	if (!config->wait_ns || !region_in_flight(region))
		return true;
	if (!mmn_invalidate_is_blockable(desc))
		return false;
	wait_later(region, ret_finish);
	return true;
}

static const struct mmn_range_ops region_ops = {
	.invalidate_start = invalidate_start,
	.invalidate_finish = invalidate_finish,
};

int cache_subscribe(struct mmn_cache *cache, struct mmn_range_subscription *sub,
		    const struct mmn_range_ops *ops, uintptr_t start,
		    uintptr_t last)
{
	struct mmn_range_config config = {
		.size = sizeof(config),
		/* What the user does in it is his. */
		.flags = cache->config.ops->invalidated
				 ? 0
				 : MMN_RANGE_INTERRUPTIBLE,
		.ops = ops,
		/* The states of the regions take its place. */
		.lock = mmn_driver_no_lock(),
	};
	int err = mmn_range_subscription_init(sub, &config);

	return err ? err
		   : mmn_range_subscription_insert(sub, cache->state, start,
						   last);
}

void cache_unsubscribe(struct mmn_cache *cache,
		       const struct mmn_range_edit *removals, uint32_t nr)
{
	uint32_t i;

	if (!mmn_range_subscription_edit(cache->state, removals, nr))
		return;
	/* One of them is not there any more: as far as it goes. */
	for (i = 0; i < nr; i++)
		mmn_range_subscription_remove(removals[i].sub);
}

struct mmn_range_subscription *region_sub(struct region *region)
{
	return region->subscribed ? &region->sub : &region->block->sub;
}

int region_subscribe(struct region *region)
{
	int err = cache_subscribe(region->cache, &region->sub, &region_ops,
				  region->public.start, region->public.last);

	region->subscribed = !err;
	return err;
}
