/* SPDX-License-Identifier: MIT */
#ifndef MMN_CACHE_CACHE_H
#define MMN_CACHE_CACHE_H
/*
 * The inside of <mmn/cache.h>.  States, races and what was rejected are in
 * doc/CACHE.md.
 */
#include <mmn/cache.h>
#include <mmn/dma-resv.h>
#include <mmn/notifier.h>

#include "base/atomic.h"
#include "base/compiler.h"
#include "base/list.h"
#include "base/lock.h"
#include "base/process.h"
#include "base/rcu.h"
#include "cache/block.h"
#include "cache/hold.h"
#include "cache/index.h"
#include "tree/itree.h"

#define CACHE_LINE 64

/*
 * Where a region stands.
 *
 *	        get             published           a change, eviction,
 *	FREE ---------> PENDING ---------> LIVE --- purge, replacement --+
 *	  ^               |  |                                           |
 *	  |  not          |  | collision                                 v
 *	  +--registered---+  +---------------------------------------> DYING
 *	  |                                                              |
 *	  +--- the device has let go --- DRAINING <--- deregistered -----+
 */
enum region_state {
	REGION_FREE = 0,
	REGION_PENDING = 1,
	REGION_LIVE = 2,
	/* set by changes, which do not ask first what it is */
	REGION_GONE = 4,
	REGION_DYING = REGION_LIVE | REGION_GONE,
	REGION_DRAINING = 8 | REGION_GONE,
};

/*
 * What the worker does when there is nothing to do.  Bits, so that a ring that
 * has time takes one off and leaves the others.
 */
enum worker_rest {
	WORKER_BUSY = 0,
	/* until it is rung for */
	WORKER_ASLEEP = 1,
	/* for NAP_NS, unless it is urgent */
	WORKER_NAPPING = 2,
	/* busy, and not to nap: somebody waits */
	WORKER_HURRIED = 4,
};

/* in_flight: fences in units of FLIGHT_ONE, and a bit for who waits for 0. */
#define FLIGHT_WAITER UINT32_C(1)
#define FLIGHT_ONE UINT32_C(2)

/* One callback on one fence that uses a region. */
struct watch {
	struct dma_fence_cb cb;
	struct region *region;
};

/*
 * struct region - one registration, or room for one
 *
 * Its memory is a region's for the life of the cache, so that whoever was about
 * to ring for one that is gone rings for nothing, and no worse.
 *
 * G1  LIVE  =>  shown in the index, in cache->live and on cache->lru; not LIVE any
 *     more and the lock taken since  =>  neither.
 * G2  PENDING, GONE or not  <=>  on cache->pending; no two of those overlap.
 * G3  Nobody holds a region that is FREE or PENDING, and in_flight is 0 then.
 * G4  From the first grace period after DYING on, references only go down.
 * G5  PENDING or LIVE  =>  changes of its range are told to it: by its block, or
 *     because it is subscribed for itself.
 */
struct region {
	/* const from LIVE on */
	struct mmn_cache_region public;
	/* const */
	struct mmn_cache *cache;
	/*
	 * atomic: written under lock; GONE set by changes, and taken off by the
	 * get while PENDING; DRAINING by the worker. enum region_state
	 */
	uint32_t state;
	/*
	 * atomic: references that no thread counts for itself, may be < 0; goes
	 * on from one registration to the next, as the threads' counts do
	 */
	int32_t shared;
	/* atomic, futex. Counts what keeps a DYING one from going on */
	uint32_t in_flight;
	/* atomic: on cache->kicked, or about to be */
	uint32_t queued;
	/* who set queued; then the worker */
	struct region *next_kicked;
	/* the change that has made it DYING; then who takes the lock */
	struct region *next_dead;

	/* lock: on lru, pending, retired or the free list */
	struct list_head link;
	/* lock: in cache->live */
	struct itree_node node;
	/* const while PENDING: it overlaps LIVE ones; no others can come */
	bool crowded;
	/* lock: PENDING and to be thrown away */
	bool purged;
	/* worker: a grace period has passed since it is DYING */
	bool settled;
	/* who gets it; then the worker: it is subscribed for itself */
	bool subscribed;
	/* lock: its block is new, and nobody else may use it yet */
	bool founds;
	/* const while PENDING, LIVE or DYING; NULL for none */
	struct block *block;
	/* const while PENDING: whose get */
	const void *getter;
	/* worker: what deregister_region returned */
	struct dma_fence *last_fence;
	/* worker: on last_fence, or on a fence that a user added to resv */
	struct watch watch;

	struct dma_resv resv;
	struct mmn_range_subscription sub;
} __attribute__((aligned(CACHE_LINE)));

/*
 * struct mmn_cache
 *
 * K1  stats.cached_bytes, stats.quarantined_bytes and pending_bytes are the sums
 *     over the regions that are LIVE, DYING or DRAINING, and PENDING, and never
 *     more than max_bytes together.
 * K2  nr_dying is the number of DYING and DRAINING regions.
 *
 * A region that a change has made DYING counts as LIVE in both until it is buried.
 */
struct mmn_cache {
	/* const after create */
	uint32_t generation;
	uint32_t nr_slots;
	uintptr_t page_mask;
	struct region *regions;
	/* atomic: one byte per region, set by those who get it */
	uint8_t *used;
	/* see index.h: written under lock, read by everybody */
	struct index index;
	/* atomic: written under lock. K2 */
	uint32_t nr_dying;

	/* const after create */
	struct mmn_cache_config config __attribute__((aligned(CACHE_LINE)));
	struct mmn_state *state;
	pthread_t thread;

	/*
	 * Rank MMN_RANK_LEAF.  Held for short sections, signals blocked, never
	 * across an op, and not by changes.
	 */
	struct mmn_mutex lock __attribute__((aligned(CACHE_LINE)));
	/* lock, all of these. G1, G2, K1 */
	struct itree live;
	struct list_head lru;
	struct list_head pending;
	struct list_head waiting; /* requests, for a PENDING one */
	struct list_head retired; /* DYING, the worker has not looked yet */
	struct list_head free;
	struct blocks blocks;
	uint32_t nr_fresh; /* regions[nr_fresh..] were never used */
	uint32_t nr_sleepers;
	uint64_t births;
	uint64_t pending_bytes;
	uint32_t nr_pending;
	/* lock for writers, atomic: regions that became DYING so far */
	uint32_t nr_retired;
	/* lock: of these, those that the worker has looked at */
	uint32_t nr_examined;
	struct mmn_cache_stats stats;
	/* lock for writers, futex: something has moved */
	uint32_t progress;

	/* Rank MMN_RANK_GRACE.  Who waits for callbacks, see block.h. */
	struct mmn_mutex grace;

	/* atomic: stack of DYING regions that the worker is to look at again */
	struct region *kicked __attribute__((aligned(CACHE_LINE)));
	/* atomic: stack of those that changes have made so, see cache_bury() */
	struct region *dead;
	/* atomic: for the statistics */
	uint64_t timed_out;
	/* atomic, futex: enum worker_rest */
	uint32_t asleep;
	/* atomic: the worker is to end */
	uint32_t stop;
	/* const once the worker runs: mmn_context_self() of it */
	const void *worker_self;
};

static inline struct region *region_of(const struct mmn_cache_region *region)
{
	return (struct region *)region;
}

static inline uint64_t region_bytes(const struct region *region)
{
	return (uint64_t)(region->public.last - region->public.start) + 1;
}

static inline uint32_t region_index(const struct region *region)
{
	return (uint32_t)(region - region->cache->regions);
}

static inline bool cache_is_live(const struct mmn_cache *cache)
{
	return likely(cache->generation == mmn_process_generation());
}

/* Take note of what changes have made DYING; lock held. */
void cache_bury(struct mmn_cache *cache);

/* In the worker, which has them blocked. */
static inline void cache_lock_quietly(struct mmn_cache *cache)
	MMN_ACQUIRES(cache->lock)
{
	mmn_mutex_lock(&cache->lock);
	/* relaxed: a change that is over is known to who cares */
	if (mmn_load_relaxed(&cache->dead))
		cache_bury(cache);
}

static inline void cache_lock(struct mmn_cache *cache,
			      struct mmn_sigmask *saved) MMN_NO_LOCK_ANALYSIS
{
	mmn_signals_hold(saved);
	cache_lock_quietly(cache);
}

static inline void
cache_unlock(struct mmn_cache *cache,
	     const struct mmn_sigmask *saved) MMN_NO_LOCK_ANALYSIS
{
	mmn_mutex_unlock(&cache->lock);
	mmn_signals_release(saved);
}

/* K1, and the ends of G1, G2 and B3; lock held, selfcheck builds. */
void cache_check(struct mmn_cache *cache);

/* Something has moved: wake those who wait for room or for others; lock held. */
void cache_progress(struct mmn_cache *cache);

/*
 * Sleep until something has moved since the lock was taken, which is dropped
 * meanwhile.  -ETIMEDOUT when @deadline_ns has passed.
 */
int cache_sleep(struct mmn_cache *cache, struct mmn_sigmask *saved,
		uint64_t deadline_ns);

/* Not by libc: the changes of libmmn's own memory concern nobody.  Zeroed. */
void *cache_map(uint64_t bytes);
void cache_unmap(void *memory, uint64_t bytes);

/* region.c */

/* Make room for one more; NULL when there is none.  Lock held. */
struct region *region_take(struct mmn_cache *cache);

/* FREE again; lock held, no subscription. */
void region_free(struct region *region);

/* What tells a PENDING one of changes that begin, and of those that are open. */
struct mmn_range_subscription *region_sub(struct region *region);

/* For itself; not with the lock held. */
int region_subscribe(struct region *region);

/* A new one, that needs no lock in its callback; not with the lock held. */
int cache_subscribe(struct mmn_cache *cache, struct mmn_range_subscription *sub,
		    const struct mmn_range_ops *ops, uintptr_t start,
		    uintptr_t last);

/* Several subscriptions, in one step that holds up changes; likewise. */
void cache_unsubscribe(struct mmn_cache *cache,
		       const struct mmn_range_edit *removals, uint32_t nr);

/* Does a change concern one that the device may write, or may not? */
bool region_is_concerned(const struct mmn_cache *cache, bool writable,
			 const struct mmn_invalidate_desc *desc);

/*
 * Because of a change, no get finds it any more, and it does not become LIVE.  True
 * for the first one.  Without a lock: a handler may make a change in the middle
 * of this, which comes here again.
 */
bool region_invalidate(struct region *region);

/* Count @fence as in flight; false when it has signalled already. */
bool region_watch(struct region *region, struct watch *watch,
		  struct dma_fence *fence);

/* Do fences keep it? */
bool region_in_flight(const struct region *region);

/*
 * LIVE -> DYING; false when a change has just done so.  Lock held.  Call
 * cache_ring_soon() after unlocking, or cache_ring() when somebody waits for it.
 */
bool region_retire(struct region *region);

/*
 * PENDING -> LIVE, and in the index; or PENDING -> DYING: false.  With a reference
 * for this thread.  Lock held.
 */
bool region_publish(struct region *region, uint64_t seq);

/* Have the worker look at it; any context but signal handlers. */
void region_kick(struct region *region);
void region_kick_soon(struct region *region);

/* Wake the worker; soon: not when it will have woken by itself in a moment. */
void cache_ring(struct mmn_cache *cache);
void cache_ring_soon(struct mmn_cache *cache);

/* worker.c */
void *cache_worker(void *cache);

#endif
