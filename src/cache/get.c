/* SPDX-License-Identifier: MIT */
/*
 * Getting a region: found in a few loads, or registered.
 *
 *	CPU0: get                            CPU1: a change
 *
 *	room, PENDING; block or subscribe
 *	read_begin(sub)
 *	register_region()
 *	                                     callback: GONE
 *	lock; PENDING to LIVE?               the change is made
 *	  GONE: DYING; again
 *	unlock
 *
 * The other way round the region is LIVE before the callback has marked it, and
 * the callback hides it.  A region in between is PENDING: others who want
 * part of its range wait, so nothing is registered twice.
 */
#include <errno.h>

#include "base/bug.h"
#include "base/inject.h"
#include "base/time.h"
#include "base/wait.h"
#include "cache/cache.h"

/* internal: what was registered is of no use, start over */
#define AGAIN 1
/* internal: let others have the lock, then go on */
#define GO_ON 2

/* Regions that eviction looks at before others have the lock. */
#ifndef LOOKS_AT_ONCE
#define LOOKS_AT_ONCE 512
#endif

/* struct request - one get that did not find its region */
struct request {
	struct mmn_cache *cache;
	/* whole pages */
	uintptr_t start;
	uintptr_t last;
	uint32_t access;
	uint64_t deadline_ns;
	/* The union with those it overlaps may be tried. */
	bool may_merge;
	/* There are some. */
	bool crowded;
	/* What is being tried is a union. */
	bool merged;
	/* The pressure op was asked. */
	bool pressed;
	/* Regions that were looked at, since one was found to evict. */
	uint64_t looks;
	/* While it waits for a registration, on cache->waiting; lock. */
	struct list_head link;
	const struct region *awaited;
	const void *thread;
	/* cache->progress then: who waits with an older one will look again */
	uint32_t seen;
};

/* ------------------------------------------------------------------ */
/* The way of a hit                                                   */
/* ------------------------------------------------------------------ */

static inline void mark_used(struct mmn_cache *cache, uint32_t number)
{
	/* relaxed: a hint for the choice of what to evict */
	if (unlikely(!mmn_load_relaxed(&cache->used[number])))
		mmn_store_relaxed(&cache->used[number], 1);
}

/* Some, and none that is unknown: in an entry the other bits are the address. */
static inline bool is_access(uint32_t access)
{
	return access - 1 < (MMN_CACHE_READ | MMN_CACHE_WRITE);
}

/* One bucket, one place, no call; NULL when that is not enough. */
static inline struct region *find_fast(struct mmn_cache *cache, uintptr_t addr,
				       uintptr_t last, uint32_t access)
{
	struct holder *holder = hold_mine;
	struct region *region = NULL;
	uint32_t number;

	if (unlikely(!holder) || !hold_enter_fast(holder))
		return NULL;
	number = index_find_fast(&cache->index, addr, last, access);
	if (likely(number < INDEX_BUSY)) {
		region = &cache->regions[number];
		if (likely(hold_get_fast(holder, region)))
			mark_used(cache, number);
		else
			region = NULL;
	}
	hold_leave(holder);
	return region;
}

/* All buckets and places. */
static struct region *find(struct mmn_cache *cache, uintptr_t addr,
			   uintptr_t last, uint32_t access)
{
	struct holder *holder = hold_mine;
	struct region *region = NULL;
	uint32_t number;

	hold_enter(holder);
	number = index_search(&cache->index, addr, last, access);
	if (number != INDEX_NONE) {
		region = &cache->regions[number];
		hold_get(holder, region);
		mark_used(cache, number);
	}
	hold_leave(holder);
	return region;
}

/* Inside a section, or a read section of RCU. */
static inline void kick_if_dying(struct mmn_cache *cache, struct region *region)
{
	/* relaxed, both: hold_synchronize() orders them, see hold.h */
	if (mmn_load_relaxed(&cache->nr_dying) &&
	    mmn_load_relaxed(&region->state) == REGION_DYING)
		region_kick_soon(region);
}

static __attribute__((noinline)) void put_slowly(struct mmn_cache *cache,
						 struct region *region)
{
	struct holder *holder = hold_mine;

	if (!holder)
		holder = hold_join();
	if (holder) {
		hold_enter(holder);
		hold_put(holder, region);
		kick_if_dying(cache, region);
		hold_leave(holder);
		return;
	}
	/* A thread that has no memory for a table. */
	mmn_rcu_read_lock();
	hold_put_shared(region);
	kick_if_dying(cache, region);
	mmn_rcu_read_unlock();
}

static __attribute__((noinline)) void kick_and_leave(struct mmn_cache *cache,
						     struct region *region)
{
	kick_if_dying(cache, region);
	hold_leave(hold_mine);
}

void mmn_cache_put(struct mmn_cache *cache, struct mmn_cache_region *public)
{
	struct region *region = region_of(public);
	struct holder *holder = hold_mine;

	if (unlikely(!public || !cache_is_live(cache)))
		return;
	if (unlikely(!holder) || !hold_enter_fast(holder)) {
		put_slowly(cache, region);
		return;
	}
	if (unlikely(!hold_put_fast(holder, region))) {
		hold_leave(holder);
		put_slowly(cache, region);
		return;
	}
	/* relaxed: hold_synchronize() orders it, see hold.h */
	if (unlikely(mmn_load_relaxed(&cache->nr_dying))) {
		kick_and_leave(cache, region);
		return;
	}
	hold_leave(holder);
}

/* ------------------------------------------------------------------ */
/* Room                                                               */
/* ------------------------------------------------------------------ */

static uint64_t bytes_pinned(const struct mmn_cache *cache)
{
	return cache->stats.cached_bytes + cache->stats.quarantined_bytes +
	       cache->pending_bytes;
}

/*
 * Lock held.  The longest that it looks is LOOKS_AT_ONCE; *@looks goes up by how
 * many those were.
 */
static uint32_t evict(struct mmn_cache *cache, uint32_t nr, uint64_t bytes,
		      uint64_t *looks)
{
	uint64_t evicted_bytes = 0;
	struct region *region;
	uint32_t evicted = 0, i;
	uint8_t *used;

	for (i = 0; i < LOOKS_AT_ONCE; i++) {
		if ((evicted >= nr && evicted_bytes >= bytes) ||
		    list_is_empty(&cache->lru))
			break;
		++*looks;
		region = list_first_entry(&cache->lru, struct region, link);
		list_del(&region->link);
		list_add_tail(&region->link, &cache->lru);
		used = &cache->used[region_index(region)];
		/* relaxed: hints */
		if (mmn_load_relaxed(used)) {
			mmn_store_relaxed(used, 0);
			continue;
		}
		if (hold_sum(region) || !region_retire(region))
			continue;
		evicted_bytes += region_bytes(region);
		evicted++;
		cache->stats.evicted++;
	}
	return evicted;
}

/* How many to evict at a time: a grace period is paid for each time. */
static uint32_t batch(const struct mmn_cache *cache)
{
	uint32_t nr = cache->stats.regions / 16;

	return nr < 1 ? 1 : nr > 64 ? 64 : nr;
}

/* Is this the thread that makes room?  Lock held. */
static bool is_worker(const struct mmn_cache *cache)
{
	return cache->worker_self == mmn_context_self();
}

/* Is this thread registering something of this cache?  Lock held. */
static bool is_registering(struct mmn_cache *cache)
{
	struct list_head *link;

	list_for_each_link (link, &cache->pending)
		if (list_entry(link, struct region, link)->getter ==
		    mmn_context_self())
			return true;
	return false;
}

/*
 * Retire idle regions, the least recently used ones first; lock held.  The first
 * time around takes the marks off.  0, GO_ON, -ENOSPC: there are none.
 */
static int evict_some(struct request *req, uint64_t bytes)
{
	struct mmn_cache *cache = req->cache;

	if (evict(cache, batch(cache), bytes, &req->looks)) {
		req->looks = 0;
		return 0;
	}
	if (req->looks < 2 * (uint64_t)cache->stats.regions)
		return GO_ON;
	req->looks = 0;
	return -ENOSPC;
}

/*
 * Lock held.  0, GO_ON, -EAGAIN: wait for progress, -ENOSPC: nothing will come, or
 * only by the doing of this thread.
 */
static int make_room(struct request *req, uint64_t bytes)
{
	struct mmn_cache *cache = req->cache;
	const struct mmn_cache_config *config = &cache->config;
	uint64_t pinned = bytes_pinned(cache);
	uint32_t taken = cache->stats.regions + cache->stats.quarantined +
			 cache->nr_pending;
	uint64_t over = 0;
	int err;

	if (bytes > config->max_bytes)
		return -ENOSPC;
	if (pinned > config->max_bytes - bytes)
		over = pinned - (config->max_bytes - bytes);
	if (!over && taken < cache->nr_slots)
		return 0;
	if (is_worker(cache))
		return -ENOSPC;
	/* What is on its way out will do, perhaps. */
	if (cache->nr_retired != cache->nr_examined)
		return -EAGAIN;
	err = evict_some(req, over);
	if (err != -ENOSPC)
		return err ? err : -EAGAIN;
	if (cache->stats.quarantined ||
	    (cache->nr_pending && !is_registering(cache)))
		return -EAGAIN;
	return -ENOSPC;
}

/* ------------------------------------------------------------------ */
/* A miss                                                             */
/* ------------------------------------------------------------------ */

static bool overlaps(const struct region *region, uintptr_t start,
		     uintptr_t last)
{
	return region->public.start <= last && region->public.last >= start;
}

static struct region *live_of(struct itree_node *node)
{
	return node ? container_of(node, struct region, node) : NULL;
}

/* Lock held; a change may make it DYING all the same. */
static bool is_live(const struct region *region)
{
	/* relaxed: who is late finds it as one that is got before the change */
	return mmn_load_relaxed(&region->state) == REGION_LIVE;
}

static bool contains(const struct region *region, const struct request *req)
{
	return region->public.start <= req->start &&
	       region->public.last >= req->last &&
	       !(req->access & ~region->public.access);
}

/*
 * The region that will do, or NULL, and the smallest one around all that overlap.
 * Lock held.
 */
static struct region *look_around(struct request *req,
				  struct mmn_cache_region *around)
{
	struct itree_node *node;
	struct itree_iter iter;
	struct region *region;

	around->start = req->start;
	around->last = req->last;
	around->access = req->access;
	req->crowded = false;
	itree_iter_init(&iter, &req->cache->live, req->start, req->last);
	while ((node = itree_iter_next(&iter))) {
		region = live_of(node);
		if (!is_live(region))
			continue;
		if (contains(region, req))
			return region;
		if (region->public.start < around->start)
			around->start = region->public.start;
		if (region->public.last > around->last)
			around->last = region->public.last;
		around->access |= region->public.access;
		req->crowded = true;
	}
	return NULL;
}

/* What to register: @want is what is around all, see look_around(). */
static void choose_range(struct request *req, struct mmn_cache_region *want)
{
	struct mmn_cache *cache = req->cache;
	uintptr_t bytes = want->last - want->start;

	req->merged = req->may_merge &&
		      (want->start != req->start || want->last != req->last ||
		       want->access != req->access) &&
		      bytes < cache->config.merge_bytes &&
		      bytes < cache->config.max_bytes &&
		      bytes < INDEX_MAX_PAGES * (cache->page_mask + 1);
	if (req->merged)
		return;
	want->start = req->start;
	want->last = req->last;
	want->access = req->access;
}

/* Is somebody registering part of it?  Lock held. */
static struct region *find_pending(struct mmn_cache *cache, uintptr_t start,
				   uintptr_t last)
{
	struct list_head *link;
	struct region *region;

	list_for_each_link (link, &cache->pending) {
		region = list_entry(link, struct region, link);
		if (overlaps(region, start, last))
			return region;
	}
	return NULL;
}

/* Lock held; room was made. */
static struct region *start_pending(const struct request *req,
				    const struct mmn_cache_region *want)
{
	struct mmn_cache *cache = req->cache;
	struct region *region = region_take(cache);

	region->public = *want;
	region->getter = mmn_context_self();
	region->crowded = req->crowded;
	region->purged = false;
	region->subscribed = false;
	/* relaxed: under the lock; others look for LIVE or DYING */
	mmn_store_relaxed(&region->state, REGION_PENDING);
	list_add(&region->link, &cache->pending);
	cache->pending_bytes += region_bytes(region);
	cache->nr_pending++;
	block_enter(region);
	return region;
}

static const struct region *awaited_by(struct mmn_cache *cache,
				       const void *thread)
{
	const struct request *waiter;

	list_for_each (waiter, &cache->waiting, link)
		if (waiter->thread == thread && waiter->seen == cache->progress)
			return waiter->awaited;
	return NULL;
}

/*
 * Does whoever registers @region wait for this thread?  Each who waits is on the
 * list with what it waits for.  Entries from before the last progress do not count:
 * their owners are about to look again, and the last one of a circle to do so
 * finds the others as they stay.  Lock held.
 */
static bool waits_for_us(struct mmn_cache *cache, const struct region *region)
{
	uint32_t hops = cache->nr_pending;

	for (; region && hops; hops--) {
		if (region->getter == mmn_context_self())
			return true;
		region = awaited_by(cache, region->getter);
	}
	return false;
}

/*
 * One step under the lock: *@ret_region is the region, with a reference and
 * *@ret_live, or a PENDING one.  -EAGAIN: wait; GO_ON.
 */
static int step(struct request *req, struct region **ret_region, bool *ret_live)
{
	struct mmn_cache_region want = { .reserved = 0 };
	struct mmn_cache *cache = req->cache;
	struct region *pending;
	int err;

	req->awaited = NULL;
	*ret_region = look_around(req, &want);
	*ret_live = *ret_region;
	if (*ret_live) {
		/* The worker sums up after the lock. */
		hold_get(hold_mine, *ret_region);
		return 0;
	}
	/* relaxed: under the lock */
	if (mmn_load_relaxed(&cache->stop))
		return -ESTALE;
	choose_range(req, &want);
	pending = find_pending(cache, want.start, want.last);
	if (pending) {
		if (is_worker(cache) || waits_for_us(cache, pending))
			return -EDEADLK;
		req->awaited = pending;
		return -EAGAIN;
	}
	err = make_room(req, (want.last - want.start) + 1);
	if (err == -ENOSPC && req->merged) {
		req->may_merge = false;
		return step(req, ret_region, ret_live);
	}
	if (!err)
		*ret_region = start_pending(req, &want);
	return err;
}

/* Until something has moved; lock held, dropped meanwhile. */
static int await(struct request *req, struct mmn_sigmask *saved)
{
	struct mmn_cache *cache = req->cache;
	bool listed = req->awaited;
	int err;

	if (listed) {
		req->thread = mmn_context_self();
		req->seen = cache->progress;
		list_add(&req->link, &cache->waiting);
	}
	err = cache_sleep(cache, saved, req->deadline_ns);
	if (listed)
		list_del(&req->link);
	return err;
}

/* The registration did not come about. */
static void give_up(struct region *region, bool failed)
{
	struct mmn_cache *cache = region->cache;
	struct mmn_sigmask saved;

	if (region->subscribed)
		mmn_range_subscription_remove(&region->sub);
	if (region->block) {
		block_leave(region);
		block_await_callbacks(region->block);
		block_abandon(region);
	}
	dma_resv_fini(&region->resv);
	cache_lock(cache, &saved);
	block_put(region);
	list_del(&region->link);
	cache->pending_bytes -= region_bytes(region);
	cache->nr_pending--;
	if (failed)
		cache->stats.failed++;
	region_free(region);
	cache_progress(cache);
	cache_unlock(cache, &saved);
}

static int subscribe(struct region *region)
{
	dma_resv_init(&region->resv);
	region->public.resv = &region->resv;
	if (!region->block)
		return region_subscribe(region);
	return region->founds ? block_subscribe(region->block) : 0;
}

/*
 * Until there is a region, or a PENDING one.  That is subscribed in the same
 * section without signals: each costs two system calls.
 */
static int begin(struct request *req, struct region **ret_region,
		 bool *ret_live) MMN_NO_LOCK_ANALYSIS
{
	struct mmn_cache *cache = req->cache;
	struct mmn_sigmask saved;
	bool retired;
	int err;

	cache_lock(cache, &saved);
	for (;;) {
		err = step(req, ret_region, ret_live);
		if (err == GO_ON) {
			cache_unlock(cache, &saved);
			cache_lock(cache, &saved);
			continue;
		}
		if (err != -EAGAIN)
			break;
		err = await(req, &saved);
		if (err)
			break;
	}
	cache_check(cache);
	retired = cache->nr_retired != cache->nr_examined;
	mmn_mutex_unlock(&cache->lock);
	if (!err && !*ret_live) {
		err = subscribe(*ret_region);
		if (err)
			give_up(*ret_region, false);
	}
	mmn_signals_release(&saved);
	if (retired)
		cache_ring_soon(cache);
	return err;
}

/* What was registered: is it still right? */
static int end(struct region *region, uint64_t seq)
{
	struct mmn_cache *cache = region->cache;
	struct mmn_sigmask saved;
	bool retired;
	int err = 0;

	cache_lock(cache, &saved);
	block_open(region);
	cache->stats.registered++;
	if (!region_publish(region, seq)) {
		cache->stats.collisions++;
		err = AGAIN;
	}
	cache_progress(cache);
	cache_check(cache);
	retired = cache->nr_retired != cache->nr_examined;
	cache_unlock(cache, &saved);
	if (retired)
		cache_ring_soon(cache);
	return err;
}

/*
 * No change is open in the block that did not find the region, and none has marked
 * it; nor was the last one the end of the state, after which subscribing fails.
 */
static bool may_read_in_block(struct region *region, uint64_t *ret_seq)
{
	return !mmn_range_read_begin_try(&region->block->sub, ret_seq) &&
	       /* None: in a fork child. */
	       *ret_seq &&
	       /* relaxed: the word orders it, as it does the mark */
	       !mmn_load_relaxed(&region->cache->blocks.released) &&
	       /* relaxed: to save a registration that is in vain */
	       mmn_load_relaxed(&region->state) == REGION_PENDING;
}

/*
 * The changes that are open are waited for; whatever comes from here on is a
 * collision, even if it is over before the registration begins.
 */
static int begin_reading(struct request *req, struct region *region,
			 uint64_t *ret_seq)
{
	uint32_t marked;
	int err;

	if (!region->subscribed) {
		if (may_read_in_block(region, ret_seq))
			return 0;
		err = region_subscribe(region);
		if (err)
			return err;
	}
	do {
		marked = REGION_PENDING | REGION_GONE;
		/*
		 * pair(cache_mark): acquire, with the release in kill().  Without
		 * it a change whose mark is taken off here is not found open, and
		 * the registration begins in its middle.
		 */
		mmn_cmpxchg_acquire(&region->state, &marked, REGION_PENDING);
		err = mmn_range_read_begin_timed(&region->sub, req->deadline_ns,
						 ret_seq);
		/* relaxed: to save a registration that is in vain */
	} while (!err && mmn_load_relaxed(&region->state) != REGION_PENDING);
	return err;
}

/* A PENDING region: register it.  AGAIN: it is gone, start over. */
static int attempt(struct request *req, struct region *region)
{
	struct mmn_cache *cache = req->cache;
	uint64_t seq;
	int err;

	err = begin_reading(req, region, &seq);
	if (err) {
		give_up(region, false);
		return err;
	}
	err = cache->config.ops->register_region(cache->config.arg,
						 &region->public);
	if (!err)
		return end(region, seq);
	give_up(region, true);
	/* Only 0 and negative codes mean something. */
	return err > 0 ? -EINVAL : err;
}

/* Retire idle regions and wait until they are gone; false when there are none. */
static bool evict_and_wait(struct request *req)
{
	struct mmn_cache *cache = req->cache;
	struct mmn_sigmask saved;
	uint32_t target;
	bool some;

	cache_lock(cache, &saved);
	while (!is_worker(cache) && evict_some(req, 0) == GO_ON) {
		cache_unlock(cache, &saved);
		cache_lock(cache, &saved);
	}
	target = cache->nr_retired;
	some = !is_worker(cache) && target != cache->nr_examined;
	while (some && (int32_t)(cache->nr_examined - target) < 0)
		if (cache_sleep(cache, &saved, req->deadline_ns))
			break;
	cache_unlock(cache, &saved);
	return some;
}

/* The device or the kernel has no room: make some.  False to give up. */
static bool relieve(struct request *req)
{
	const struct mmn_cache_config *config = &req->cache->config;

	if (evict_and_wait(req))
		return true;
	if (req->pressed || !config->ops->pressure)
		return false;
	req->pressed = true;
	return config->ops->pressure(config->arg, req->last - req->start + 1);
}

/* What to do about an error of attempt() or begin(): 0 to start over. */
static int recover(struct request *req, int err)
{
	if (err == AGAIN) {
		err = 0;
	} else if (req->merged && req->may_merge && err != -ETIMEDOUT &&
		   err != -EDEADLK && err != -ESTALE) {
		req->may_merge = false;
		err = 0;
	} else if (err == -ENOMEM || err == -EAGAIN || err == -ENOSPC) {
		err = relieve(req) ? 0 : err;
	}
	if (!err && mmn_now_ns() >= req->deadline_ns)
		err = -ETIMEDOUT;
	return err;
}

static int get_slowly(struct request *req, struct region **ret_region)
{
	bool live = false;
	int err;

	for (;;) {
		err = begin(req, ret_region, &live);
		if (!err && live)
			return 0;
		if (!err)
			err = attempt(req, *ret_region);
		if (!err)
			return 0;
		err = recover(req, err);
		if (err)
			return err;
	}
}

static __attribute__((noinline)) int
get_until(struct mmn_cache *cache, uintptr_t addr, size_t length,
	  uint32_t access, uint64_t deadline_ns,
	  struct mmn_cache_region **ret_region)
{
	struct region *region;
	struct request req = {
		.cache = cache,
		.access = access,
		.deadline_ns = deadline_ns,
		.may_merge = true,
	};
	int err;

	if (!is_access(access))
		return -EINVAL;
	err = mmn_range_last(addr, length, &req.last);
	if (err)
		return err;
	if (!cache_is_live(cache))
		return -ESTALE;
	if (!hold_mine && !hold_join())
		return -ENOMEM;
	region = find(cache, addr, req.last, access);
	if (region) {
		*ret_region = &region->public;
		return 0;
	}
	if (mmn_context_in_callback())
		return -EDEADLK;
	req.start = addr & ~cache->page_mask;
	req.last |= cache->page_mask;
	if (req.last - req.start >= INDEX_MAX_PAGES * (cache->page_mask + 1))
		return -EINVAL;
	if (req.last - req.start >= cache->config.max_bytes)
		return -ENOSPC;
	err = get_slowly(&req, &region);
	if (!err)
		*ret_region = &region->public;
	return err;
}

static uint64_t default_deadline(const struct mmn_cache *cache)
{
	uint64_t now = mmn_now_ns();
	uint64_t timeout = cache->config.timeout_ns;

	return timeout > UINT64_MAX - now ? UINT64_MAX : now + timeout;
}

static __attribute__((noinline)) int
get_by_default(struct mmn_cache *cache, uintptr_t addr, size_t length,
	       uint32_t access, struct mmn_cache_region **ret_region)
{
	return get_until(cache, addr, length, access, default_deadline(cache),
			 ret_region);
}

int mmn_cache_get(struct mmn_cache *cache, uintptr_t addr, size_t length,
		  uint32_t access, struct mmn_cache_region **ret_region)
{
	uintptr_t last = addr + length - 1;
	struct region *region;

	/* last < addr: it wraps, or the length is 0 */
	if (likely(last >= addr && is_access(access) && cache_is_live(cache))) {
		region = find_fast(cache, addr, last, access);
		if (likely(region != NULL)) {
			*ret_region = &region->public;
			return 0;
		}
	}
	return get_by_default(cache, addr, length, access, ret_region);
}

int mmn_cache_get_until(struct mmn_cache *cache, uintptr_t addr, size_t length,
			uint32_t access, uint64_t deadline_ns,
			struct mmn_cache_region **ret_region)
{
	uintptr_t last = addr + length - 1;
	struct region *region;

	if (likely(last >= addr && is_access(access) && cache_is_live(cache))) {
		region = find_fast(cache, addr, last, access);
		if (likely(region != NULL)) {
			*ret_region = &region->public;
			return 0;
		}
	}
	return get_until(cache, addr, length, access, deadline_ns, ret_region);
}
