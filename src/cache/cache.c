/* SPDX-License-Identifier: MIT */
/*
 * A cache as a whole: made, purged, counted, given back.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/bug.h"
#include "base/syscall.h"
#include "base/thread.h"
#include "base/time.h"
#include "base/wait.h"
#include "cache/cache.h"

#define REGIONS_DEFAULT UINT32_C(65536)
#define REGIONS_MAX (UINT32_C(1) << 24)
#define TIMEOUT_DEFAULT MMN_NSEC_PER_SEC
#define HUGE_BYTES (UINT64_C(2) << 20)

void cache_check(struct mmn_cache *cache)
{
#if MMN_SELFCHECK
	const struct mmn_cache_stats *stats = &cache->stats;

	mmn_check(stats->regions == cache->live.nr);
	mmn_check(!stats->regions == list_is_empty(&cache->lru));
	mmn_check(!stats->regions == !stats->cached_bytes);
	mmn_check(!cache->nr_pending == list_is_empty(&cache->pending));
	mmn_check(!stats->quarantined == !stats->quarantined_bytes);
	mmn_check(!cache->blocks.nr_idle == list_is_empty(&cache->blocks.idle));
	mmn_check(stats->cached_bytes + stats->quarantined_bytes +
			  cache->pending_bytes <=
		  cache->config.max_bytes);
#else
	(void)cache;
#endif
}

void cache_progress(struct mmn_cache *cache)
{
	/* relaxed: the lock orders what has moved */
	mmn_store_relaxed(&cache->progress, cache->progress + 1);
	if (cache->nr_sleepers)
		mmn_wake(&cache->progress, INT_MAX);
}

int cache_sleep(struct mmn_cache *cache, struct mmn_sigmask *saved,
		uint64_t deadline_ns)
{
	struct timespec until = mmn_timespec(deadline_ns);
	uint32_t seen = cache->progress;
	int err;

	cache->nr_sleepers++;
	cache_unlock(cache, saved);
	cache_ring(cache);
	err = mmn_wait_on(&cache->progress, seen,
			  deadline_ns == UINT64_MAX ? NULL : &until);
	cache_lock(cache, saved);
	cache->nr_sleepers--;
	return err;
}

/* ------------------------------------------------------------------ */
/* Making one                                                         */
/* ------------------------------------------------------------------ */

void *cache_map(uint64_t bytes)
{
	long ret = mmn_syscall6(__NR_mmap, 0, bytes, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
				0);

	return ret < 0 && ret >= -4095 ? NULL : (void *)ret;
}

/* What is used all over, if much is used. */
static void *map_huge(uint64_t bytes)
{
	void *memory = cache_map(bytes);

	/* A hint: of no matter when the kernel has no huge pages. */
	if (memory && bytes >= HUGE_BYTES)
		mmn_syscall3(__NR_madvise, memory, bytes, MADV_HUGEPAGE);
	return memory;
}

void cache_unmap(void *memory, uint64_t bytes)
{
	if (memory)
		mmn_syscall2(__NR_munmap, memory, bytes);
}

static uint32_t nr_buckets(uint32_t nr_slots)
{
	uint32_t nr = 16;

	while (nr < 2 * nr_slots)
		nr *= 2;
	return nr;
}

static void unmap_all(struct mmn_cache *cache)
{
	uint32_t nr = cache->nr_slots;

	cache_unmap(cache->regions, nr * (uint64_t)sizeof(struct region));
	cache_unmap(cache->used, nr);
	cache_unmap(cache->index.buckets,
		    nr_buckets(nr) * (uint64_t)sizeof(struct bucket));
	blocks_fini(&cache->blocks);
}

static int map_all(struct mmn_cache *cache)
{
	uint32_t nr = cache->nr_slots;
	struct bucket *buckets;

	cache->regions = map_huge(nr * (uint64_t)sizeof(struct region));
	cache->used = map_huge(nr);
	buckets = map_huge(nr_buckets(nr) * (uint64_t)sizeof(*buckets));
	index_init(&cache->index, buckets, nr_buckets(nr),
		   (uint32_t)__builtin_ctzl(cache->page_mask + 1));
	if (!blocks_init(&cache->blocks, nr) && cache->regions && cache->used &&
	    buckets)
		return 0;
	unmap_all(cache);
	return -ENOMEM;
}

static uint64_t or_no_limit(uint64_t limit)
{
	return limit ? limit : MMN_CACHE_NO_LIMIT;
}

static uint64_t memlock_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) ||
	    limit.rlim_cur == RLIM_INFINITY)
		return MMN_CACHE_NO_LIMIT;
	return limit.rlim_cur;
}

/* As other structs whose first member is their size. */
static int read_config(struct mmn_cache_config *to,
		       const struct mmn_cache_config *from)
{
	const unsigned char *bytes = (const unsigned char *)from;
	uint64_t limit;
	size_t i;

	if (!from || from->size < sizeof(*to))
		return -EINVAL;
	for (i = sizeof(*to); i < from->size; i++)
		if (bytes[i])
			return -E2BIG;
	*to = *from;
	if (!to->ops || !to->ops->register_region ||
	    !to->ops->deregister_region ||
	    (to->flags & ~(MMN_CACHE_MEMLOCK | MMN_CACHE_FORK)) ||
	    to->reserved || to->max_regions > REGIONS_MAX)
		return -EINVAL;
	to->max_bytes = or_no_limit(to->max_bytes);
	to->merge_bytes = or_no_limit(to->merge_bytes);
	if (!to->max_regions)
		to->max_regions = REGIONS_DEFAULT;
	if (!to->timeout_ns)
		to->timeout_ns = TIMEOUT_DEFAULT;
	if (to->flags & MMN_CACHE_MEMLOCK) {
		limit = memlock_limit();
		if (limit < to->max_bytes)
			to->max_bytes = limit;
	}
	return 0;
}

static void init(struct mmn_cache *cache)
{
	cache->generation = mmn_process_adopt();
	cache->nr_slots = cache->config.max_regions;
	cache->page_mask = (uintptr_t)sysconf(_SC_PAGESIZE) - 1;
	mmn_mutex_init(&cache->lock, MMN_RANK_LEAF);
	mmn_mutex_init(&cache->grace, MMN_RANK_GRACE);
	list_init(&cache->lru);
	list_init(&cache->pending);
	list_init(&cache->waiting);
	list_init(&cache->retired);
	list_init(&cache->free);
	itree_init(&cache->live);
}

int mmn_cache_create(struct mmn_state *state,
		     const struct mmn_cache_config *config,
		     struct mmn_cache **ret_cache)
{
	struct mmn_cache_config read;
	struct mmn_cache *cache;
	int err;

	if (!state || !ret_cache)
		return -EINVAL;
	err = read_config(&read, config);
	if (err)
		return err;
	/* Aligned for the lines of its own: whole pages. */
	cache = cache_map(sizeof(*cache));
	if (!cache)
		return -ENOMEM;
	cache->config = read;
	hold_init();
	init(cache);
	err = map_all(cache);
	if (err)
		goto out_cache;
	cache->state = mmn_state_get(state);
	err = mmn_thread_create(&cache->thread, NULL, cache_worker, cache);
	if (err)
		goto out_state;
	*ret_cache = cache;
	return 0;

out_state:
	mmn_state_put(cache->state);
	unmap_all(cache);
out_cache:
	mmn_mutex_fini(&cache->grace);
	mmn_mutex_fini(&cache->lock);
	cache_unmap(cache, sizeof(*cache));
	return err;
}

/* ------------------------------------------------------------------ */
/* Emptying                                                           */
/* ------------------------------------------------------------------ */

/* Lock held. */
static void retire_all(struct mmn_cache *cache, uintptr_t start, uintptr_t last)
{
	struct itree_node *node;
	struct list_head *link;
	struct region *region;

	/* By the key of one that has left the tree the next is found. */
	itree_for_each_overlap (node, &cache->live, start, last)
		region_retire(container_of(node, struct region, node));
	list_for_each_link (link, &cache->pending) {
		region = list_entry(link, struct region, link);
		if (region->public.start <= last &&
		    region->public.last >= start)
			region->purged = true;
	}
}

/*
 * Is one of the first @births there?  When all were retired, only those that a
 * change in another thread has marked and not handed over yet.
 */
static bool is_any_left(struct mmn_cache *cache, uintptr_t start,
			uintptr_t last, uint64_t births)
{
	struct itree_node *node;

	itree_for_each_overlap (node, &cache->live, start, last)
		if (node->birth <= births)
			return true;
	return false;
}

int mmn_cache_purge(struct mmn_cache *cache, uintptr_t start, uintptr_t last)
{
	struct mmn_sigmask saved;
	uint64_t births;
	uint32_t target;
	int err = 0;

	if (!cache || last < start)
		return -EINVAL;
	if (!cache_is_live(cache))
		return -ESTALE;
	if (mmn_context_in_callback())
		return -EDEADLK;
	cache_lock(cache, &saved);
	if (cache->worker_self == mmn_context_self()) {
		err = -EDEADLK;
		goto out;
	}
	retire_all(cache, start, last);
	cache_check(cache);
	births = cache->births;
	while (is_any_left(cache, start, last, births))
		cache_sleep(cache, &saved, UINT64_MAX);
	target = cache->nr_retired;
	while ((int32_t)(cache->nr_examined - target) < 0)
		cache_sleep(cache, &saved, UINT64_MAX);
out:
	cache_unlock(cache, &saved);
	return err;
}

void mmn_cache_destroy(struct mmn_cache *cache)
{
	struct mmn_sigmask saved;

	if (!cache || !cache_is_live(cache))
		return;
	mmn_bug_on(mmn_context_in_callback(),
		   "a cache is destroyed in a callback");
	cache_lock(cache, &saved);
	retire_all(cache, 0, UINTPTR_MAX);
	/* relaxed: the ring orders it */
	mmn_store_relaxed(&cache->stop, 1);
	cache_unlock(cache, &saved);
	cache_ring(cache);
	pthread_join(cache->thread, NULL);
	/* Who put the last references may be on the way out of there. */
	hold_synchronize();
	mmn_check(index_is_empty(&cache->index));
	mmn_state_put(cache->state);
	unmap_all(cache);
	mmn_mutex_fini(&cache->grace);
	mmn_mutex_fini(&cache->lock);
	cache_unmap(cache, sizeof(*cache));
}

int mmn_cache_get_stats(struct mmn_cache *cache,
			struct mmn_cache_stats *ret_stats)
{
	struct mmn_sigmask saved;
	struct mmn_cache_stats stats;

	if (!cache || !ret_stats || ret_stats->size != sizeof(stats))
		return -EINVAL;
	if (!cache_is_live(cache))
		return -ESTALE;
	cache_lock(cache, &saved);
	stats = cache->stats;
	stats.pinned_bytes = stats.cached_bytes + stats.quarantined_bytes +
			     cache->pending_bytes;
	/* relaxed: a statistic */
	stats.timed_out = mmn_load_relaxed(&cache->timed_out);
	cache_unlock(cache, &saved);
	stats.size = sizeof(stats);
	*ret_stats = stats;
	return 0;
}
