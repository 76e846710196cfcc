/* SPDX-License-Identifier: MIT */
/*
 * Getting a region: found in a few loads, or registered.
 *
 *	CPU0: get                            CPU1: a change
 *
 *	room, PENDING; subscribe
 *	seq = read_begin(sub)
 *	register_region()
 *	                                     callback, lock: set_seq
 *	lock; read_retry(sub, seq)           the change is made
 *	  true: DYING; again
 *	unlock
 *
 * The other way round the region is LIVE before the callback has the lock, and
 * the callback takes it out.  A region in between is PENDING: others who want
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
	/* What is being tried is a union. */
	bool merged;
	/* The pressure op was asked. */
	bool pressed;
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

uint32_t cache_evict(struct mmn_cache *cache, uint32_t nr, uint64_t bytes)
{
	/* Twice around: the first time takes the marks off. */
	uint64_t looks = 2 * (uint64_t)cache->stats.regions;
	uint64_t evicted_bytes = 0;
	uint32_t evicted = 0;
	struct region *region;
	uint8_t *used;

	for (; looks && (evicted < nr || evicted_bytes < bytes); looks--) {
		region = list_first_entry(&cache->lru, struct region, link);
		if (!region)
			break;
		list_del(&region->link);
		list_add_tail(&region->link, &cache->lru);
		used = &cache->used[region_index(region)];
		/* relaxed: hints */
		if (mmn_load_relaxed(used)) {
			mmn_store_relaxed(used, 0);
			continue;
		}
		if (hold_sum(region))
			continue;
		evicted_bytes += region_bytes(region);
		evicted++;
		cache->stats.evicted++;
		region_retire(region);
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

	/* By links: the head is no region, not even by its alignment. */
	for (link = cache->pending.next; link != &cache->pending;
	     link = link->next)
		if (list_entry(link, struct region, link)->getter ==
		    mmn_context_self())
			return true;
	return false;
}

/*
 * Lock held.  0, -EAGAIN: wait for progress, -ENOSPC: nothing will come, or only
 * by the doing of this thread.
 */
static int make_room(struct mmn_cache *cache, uint64_t bytes)
{
	const struct mmn_cache_config *config = &cache->config;
	uint64_t pinned = bytes_pinned(cache);
	uint32_t taken = cache->stats.regions + cache->stats.quarantined +
			 cache->nr_pending;
	uint64_t over = 0;

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
	if (cache_evict(cache, batch(cache), over))
		return -EAGAIN;
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

/* The range to register, and with what access.  Lock held. */
static void choose_range(struct request *req, struct mmn_cache_region *want)
{
	struct mmn_cache *cache = req->cache;
	uintptr_t start = req->start, last = req->last;
	uint32_t access = req->access;
	struct itree_node *node;
	struct region *region;

	itree_for_each_overlap (node, &cache->live, req->start, req->last) {
		region = live_of(node);
		if (region->public.start < start)
			start = region->public.start;
		if (region->public.last > last)
			last = region->public.last;
		access |= region->public.access;
	}
	req->merged = req->may_merge &&
		      (start != req->start || last != req->last ||
		       access != req->access) &&
		      last - start < cache->config.merge_bytes &&
		      last - start < cache->config.max_bytes &&
		      last - start < INDEX_MAX_PAGES * (cache->page_mask + 1);
	want->start = req->merged ? start : req->start;
	want->last = req->merged ? last : req->last;
	want->access = req->merged ? access : req->access;
}

static struct region *find_locked(struct request *req)
{
	struct region *region = live_of(
		itree_first_overlap(&req->cache->live, req->start, req->last));

	if (!region || region->public.start > req->start ||
	    region->public.last < req->last ||
	    (req->access & ~region->public.access))
		return NULL;
	hold_get(hold_mine, region);
	return region;
}

/* Is somebody registering part of it?  Lock held. */
static struct region *find_pending(struct mmn_cache *cache, uintptr_t start,
				   uintptr_t last)
{
	struct list_head *link;
	struct region *region;

	/* By links: the head is no region, not even by its alignment. */
	for (link = cache->pending.next; link != &cache->pending;
	     link = link->next) {
		region = list_entry(link, struct region, link);
		if (overlaps(region, start, last))
			return region;
	}
	return NULL;
}

/* Lock held; room was made. */
static struct region *start_pending(struct mmn_cache *cache,
				    const struct mmn_cache_region *want)
{
	struct region *region = region_take(cache);

	region->public = *want;
	region->getter = mmn_context_self();
	region->purged = false;
	/* relaxed: under the lock; others look for LIVE or DYING */
	mmn_store_relaxed(&region->state, REGION_PENDING);
	list_add(&region->link, &cache->pending);
	cache->pending_bytes += region_bytes(region);
	cache->nr_pending++;
	return region;
}

/*
 * One step under the lock: *@ret_region is the region, with a reference, or a
 * PENDING one.  -EAGAIN: wait.
 */
static int step(struct request *req, struct region **ret_region)
{
	struct mmn_cache_region want = { .reserved = 0 };
	struct region *pending;
	int err;

	*ret_region = find_locked(req);
	if (*ret_region)
		return 0;
	/* relaxed: under the lock */
	if (mmn_load_relaxed(&req->cache->stop))
		return -ESTALE;
	choose_range(req, &want);
	pending = find_pending(req->cache, want.start, want.last);
	if (pending)
		return pending->getter == mmn_context_self() ||
				       is_worker(req->cache)
			       ? -EDEADLK
			       : -EAGAIN;
	err = make_room(req->cache, (want.last - want.start) + 1);
	if (err == -ENOSPC && req->merged) {
		req->may_merge = false;
		return step(req, ret_region);
	}
	if (!err)
		*ret_region = start_pending(req->cache, &want);
	return err;
}

/* Until there is a region or a PENDING one. */
static int begin(struct request *req, struct region **ret_region,
		 bool *ret_live)
{
	struct mmn_cache *cache = req->cache;
	struct mmn_sigmask saved;
	bool retired;
	int err;

	cache_lock(cache, &saved);
	for (;;) {
		err = step(req, ret_region);
		if (err != -EAGAIN)
			break;
		err = cache_sleep(cache, &saved, req->deadline_ns);
		if (err)
			break;
	}
	if (!err)
		/* relaxed: under the lock */
		*ret_live =
			mmn_load_relaxed(&(*ret_region)->state) == REGION_LIVE;
	cache_check(cache);
	retired = cache->nr_retired != cache->nr_examined;
	cache_unlock(cache, &saved);
	if (retired)
		cache_ring_soon(cache);
	return err;
}

/* The registration did not come about. */
static void give_up(struct region *region, bool failed)
{
	struct mmn_cache *cache = region->cache;
	struct mmn_sigmask saved;

	dma_resv_fini(&region->resv);
	cache_lock(cache, &saved);
	list_del(&region->link);
	cache->pending_bytes -= region_bytes(region);
	cache->nr_pending--;
	if (failed)
		cache->stats.failed++;
	region_free(region);
	cache_progress(cache);
	cache_unlock(cache, &saved);
}

/* PENDING -> LIVE; those it overlaps make place.  Lock held. */
static void publish(struct region *region)
{
	struct mmn_cache *cache = region->cache;
	uint32_t number = region_index(region);
	struct region *old;

	for (;;) {
		old = live_of(itree_first_overlap(&cache->live,
						  region->public.start,
						  region->public.last));
		if (!old)
			break;
		cache->stats.replaced++;
		region_retire(old);
	}
	list_del(&region->link);
	cache->pending_bytes -= region_bytes(region);
	cache->nr_pending--;
	list_add_tail(&region->link, &cache->lru);
	cache->stats.cached_bytes += region_bytes(region);
	cache->stats.regions++;
	region->node.start = region->public.start;
	region->node.last = region->public.last;
	region->node.birth = ++cache->births;
	itree_insert(&cache->live, &region->node);
	/* relaxed: a hint */
	mmn_store_relaxed(&cache->used[number], 0);
	/* relaxed: those without the lock come by the index or look for DYING */
	mmn_store_relaxed(&region->state, REGION_LIVE);
	hold_get(hold_mine, region);
	index_insert(&cache->index, region->public.start, region->public.last,
		     region->public.access, number);
}

/* What was registered: is it still right? */
static int end(struct region *region, uint64_t seq)
{
	struct mmn_cache *cache = region->cache;
	struct mmn_sigmask saved;
	bool retired;
	int err = 0;

	cache_lock(cache, &saved);
	cache->stats.registered++;
	if (mmn_range_read_retry(&region->sub, seq) || region->purged) {
		cache->stats.collisions++;
		region_retire(region);
		err = AGAIN;
	} else {
		publish(region);
	}
	cache_progress(cache);
	cache_check(cache);
	retired = cache->nr_retired != cache->nr_examined;
	cache_unlock(cache, &saved);
	if (retired)
		cache_ring_soon(cache);
	return err;
}

/* A PENDING region: register it.  AGAIN: it is gone, start over. */
static int attempt(struct request *req, struct region *region)
{
	struct mmn_cache *cache = req->cache;
	uint64_t seq = 0;
	int err;

	err = region_init(region);
	if (!err)
		err = mmn_range_subscription_insert(&region->sub, cache->state,
						    region->public.start,
						    region->public.last);
	if (err) {
		give_up(region, false);
		return err;
	}
	err = mmn_range_read_begin_timed(&region->sub, req->deadline_ns, &seq);
	if (!err) {
		err = cache->config.ops->register_region(cache->config.arg,
							 &region->public);
		if (!err)
			return end(region, seq);
		/* Only 0 and negative codes mean something. */
		if (err > 0)
			err = -EINVAL;
	}
	mmn_range_subscription_remove(&region->sub);
	give_up(region, seq != 0);
	return err;
}

/* Retire idle regions and wait until they are gone; false when there are none. */
static bool evict_and_wait(struct request *req)
{
	struct mmn_cache *cache = req->cache;
	struct mmn_sigmask saved;
	uint32_t target;
	bool some;

	cache_lock(cache, &saved);
	if (!is_worker(cache))
		cache_evict(cache, batch(cache), 0);
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
