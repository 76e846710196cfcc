/* SPDX-License-Identifier: MIT */
/*
 * What the device holds: a registration cache of the program's memory.
 *
 * The library's cache decides what is held and for how long; a region of it is a
 * map of the device, and the page frames that the map took hold of.  A transfer
 * has a reference to its region and a fence on it; so has a check:
 *
 *	the agent's thread                  a thread of the program
 *
 *	fence on the region: refused if a
 *	  change has overlapped it          change: the region is out of reach
 *	transfer, or check of a transfer    wait for the fences of the region
 *	fence signals                 --->  the change is made
 *
 * So whatever happens under a fence that was not refused happens to the memory
 * that was registered.
 *
 * No heap: the fences are those of the region's own record.  Three are as many as
 * the reservation object has room for without asking for more.  A record's fence
 * is on no other object, and whoever looks at that without a reference, the
 * cache's thread, does so when nobody has a reference to the region.  So a fence
 * can begin anew as soon as its last reference is gone.
 */
#include "agent.h"

#include <mmn/cache.h>
#include <mmn/dma-fence.h>
#include <mmn/dma-resv.h>
#include <mmn/spinlock.h>

#include <errno.h>
#include <sys/syscall.h>
#include <time.h>

#define MAX_HOLDS 512u
#define FENCES 3u
/* Makes collisions likely, which a broken build must miss. */
#define BREAK_DELAY_NS 300000

struct hold_fence {
	/* first */
	struct dma_fence fence;
	/* lock */
	bool taken;
};

struct hold {
	struct mmn_device_map *map;
	uint64_t words[MAP_PAGES];
	struct hold_fence fences[FENCES];
	/* lock: taken by the agent's thread, given back by the cache's */
	bool taken;
};

static struct hold holds[MAX_HOLDS];
/* What is taken; never taken by threads of the program. */
static struct spinlock lock = MMN_SPINLOCK_INIT;
static struct mmn_cache *cache;
/* Of the agent's thread: what is not there may be registered. */
static bool may_register;

/* ------------------------------------------------------------------ */
/* Fences                                                             */
/* ------------------------------------------------------------------ */

static const char *fence_name(struct dma_fence *fence)
{
	return "mmn-run";
}

/* The first that is free is taken; @step: bytes from one to the next. */
static bool take(bool *taken, size_t step, unsigned int nr, unsigned int *ret)
{
	unsigned int i;

	mmn_spin_lock(&lock);
	for (i = 0; i < nr; i++)
		if (!*(bool *)((char *)taken + i * step))
			break;
	if (i < nr)
		*(bool *)((char *)taken + i * step) = true;
	mmn_spin_unlock(&lock);
	*ret = i;
	return i < nr;
}

static void give_back(bool *taken)
{
	mmn_spin_lock(&lock);
	*taken = false;
	mmn_spin_unlock(&lock);
}

static void release_fence(struct dma_fence *fence)
{
	give_back(&((struct hold_fence *)(void *)fence)->taken);
}

static const struct dma_fence_ops fence_ops = {
	.get_driver_name = fence_name,
	.get_timeline_name = fence_name,
	.release = release_fence,
};

static struct dma_fence *new_fence(struct hold *hold)
{
	struct dma_fence *fence;
	unsigned int i;

	if (!take(&hold->fences[0].taken, sizeof(hold->fences[0]), FENCES, &i))
		return NULL;
	fence = &hold->fences[i].fence;
	dma_fence_init(fence, &fence_ops, NULL, dma_fence_context_alloc(1), 1);
	return fence;
}

/* Signalled fences stay where they are until somebody reserves a place. */
static void drop_signalled(struct dma_resv *resv)
{
	dma_resv_lock(resv, NULL);
	dma_resv_reserve_fences(resv, 1);
	dma_resv_unlock(resv);
}

struct dma_fence *hold_begin(struct mmn_cache_region *region)
{
	struct dma_fence *fence = new_fence(region->data);

	if (!fence) {
		drop_signalled(region->resv);
		fence = new_fence(region->data);
	}
	if (!fence)
		return NULL;
	if (!mmn_cache_add_fence(cache, region, fence, DMA_RESV_USAGE_BOOKKEEP))
		return fence;
	hold_end(fence);
	return NULL;
}

void hold_end(struct dma_fence *fence)
{
	dma_fence_signal(fence);
	dma_fence_put(fence);
}

/* ------------------------------------------------------------------ */
/* The cache's ops                                                    */
/* ------------------------------------------------------------------ */

static struct hold *take_hold(void)
{
	unsigned int i;

	if (!take(&holds[0].taken, sizeof(holds[0]), MAX_HOLDS, &i))
		return NULL;
	return &holds[i];
}

static void pause_for_break(void)
{
	struct timespec pause = { 0, BREAK_DELAY_NS };

	if (agent.area->header.want_break)
		raw_syscall(__NR_nanosleep, (long)&pause, 0, 0, 0, 0, 0);
}

static int register_region(void *arg, struct mmn_cache_region *region)
{
	struct mmn_range_fault look = {
		.size = sizeof(look),
		.start = region->start,
		.last = region->last,
	};
	uint32_t access = MMN_DEVICE_READ;
	struct hold *hold;
	int ret;

	if (!may_register)
		return -ENOENT;
	hold = take_hold();
	if (!hold)
		return -ENOSPC;
	look.words = hold->words;
	if (play_contains(region->start))
		access |= MMN_DEVICE_WRITE;
	ret = mmn_device_map(agent.device, region->start, region->last, access,
			     &hold->map);
	if (ret)
		goto fail;
	/* Which pages it has hold of, if no change comes in between. */
	ret = mmn_range_fault(agent_pages, &look);
	if (ret) {
		mmn_device_unmap_begin(hold->map);
		mmn_device_unmap_finish(hold->map);
		goto fail;
	}
	pause_for_break();
	region->data = hold;
	area_count(&agent.slot->filled_pages,
		   (region->last - region->start + 1) / mmn_page_size());
	return 0;

fail:
	give_back(&hold->taken);
	return ret;
}

static struct dma_fence *deregister_region(void *arg,
					   struct mmn_cache_region *region)
{
	struct hold *hold = region->data;

	mmn_device_unmap_begin(hold->map);
	mmn_device_unmap_finish(hold->map);
	give_back(&hold->taken);
	return NULL;
}

static void invalidated(void *arg, uintptr_t start, uintptr_t last)
{
	area_count(&agent.slot->torn_pages,
		   (last - start + 1) / mmn_page_size());
	met_mirror = true;
}

static const struct mmn_cache_ops hold_ops = {
	.register_region = register_region,
	.deregister_region = deregister_region,
	.invalidated = invalidated,
};

/* ------------------------------------------------------------------ */
/* For the other files                                                */
/* ------------------------------------------------------------------ */

bool hold_open(void)
{
	const struct mmn_cache_config config = {
		.size = sizeof(config),
		/* Else fork would have to copy what is pinned. */
		.flags = MMN_CACHE_FORK,
		.ops = &hold_ops,
		.max_bytes = agent.budget,
		.max_regions = MAX_HOLDS,
		.wait_ns = MMN_CACHE_NO_LIMIT,
		.merge_bytes = MAP_PAGES * mmn_page_size(),
	};

	if (mmn_cache_create(agent.state, &config, &cache))
		return false;
	threads_leave_out(1);
	return true;
}

void hold_close(void)
{
	if (!cache)
		return;
	threads_put_back(1);
	mmn_cache_destroy(cache);
	cache = NULL;
}

/* Both ways: loss of the permission to read is told as loss of any. */
static struct mmn_cache_region *get(uintptr_t start, uintptr_t last,
				    uint64_t deadline_ns)
{
	struct mmn_cache_region *region;

	if (mmn_cache_get_until(cache, start, last - start + 1,
				MMN_CACHE_READ | MMN_CACHE_WRITE, deadline_ns,
				&region))
		return NULL;
	return region;
}

struct mmn_cache_region *hold_find(uintptr_t start, uintptr_t last)
{
	return get(start, last, 1);
}

struct mmn_cache_region *hold_get(uintptr_t start, uintptr_t last, uint64_t ns)
{
	struct mmn_cache_region *region;

	may_register = true;
	region = get(start, last, raw_now() + ns);
	may_register = false;
	return region;
}

void hold_put(struct mmn_cache_region *region)
{
	mmn_cache_put(cache, region);
}

void hold_forget(uintptr_t start, uintptr_t last)
{
	mmn_cache_purge(cache, start, last);
}

int hold_submit(struct mmn_cache_region *region, uintptr_t addr,
		struct mmn_device_transfer *transfer)
{
	struct hold *hold = region->data;

	transfer->map = hold->map;
	transfer->offset = addr - region->start;
	return mmn_device_submit(transfer);
}

uint64_t hold_word(const struct mmn_cache_region *region, uintptr_t addr)
{
	const struct hold *hold = region->data;

	return hold->words[(addr - region->start) / mmn_page_size()];
}

void hold_count(void)
{
	static uint64_t seen_collisions;
	struct mmn_cache_stats stats = { .size = sizeof(stats) };
	struct area_slot *slot = agent.slot;

	if (!cache || mmn_cache_get_stats(cache, &stats))
		return;
	slot->collisions += stats.collisions - seen_collisions;
	seen_collisions = stats.collisions;
	slot->pinned = stats.pinned_bytes;
	if (slot->pinned_peak < stats.pinned_bytes)
		slot->pinned_peak = stats.pinned_bytes;
}
