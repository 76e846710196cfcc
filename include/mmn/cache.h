/* SPDX-License-Identifier: MIT */
#ifndef MMN_CACHE_H
#define MMN_CACHE_H
/*
 * The registration cache: pinned memory that can be trusted.
 *
 * Registering memory with a device costs microseconds, using a registration
 * costs nothing, so every communication library keeps registrations for later.
 * This one forgets them the moment the memory changes:
 *
 *	mmn_cache_get(cache, buffer, length, MMN_CACHE_WRITE, &region);
 *	mmn_cache_add_fence(cache, region, fence, usage);   -ESTALE: get again
 *	submit a transfer with region->key; the device signals fence
 *	mmn_cache_put(cache, region);
 *
 * What holds:
 *
 *   - A region that get hands out described the memory at a moment after its
 *     registration began.  A mapping that changes while it is being registered is
 *     registered again, within one time budget.
 *   - Once mmn_invalidate_start() has returned for a change, no get hands out a
 *     region that the change overlaps.
 *   - A region is deregistered when it can not be got any more, nobody has a
 *     reference, and every fence on it has signalled; then at once, by the
 *     cache's own thread, not when somebody happens to call.  Until then its
 *     pages stay pinned and count as quarantined.
 *   - A change waits for the fences of the regions it overlaps for as long as
 *     the config says, then goes on and leaves them in quarantine.  It never
 *     waits for references.
 *   - No lock is held while an op runs, and an op may map, unmap, get and put.
 *   - A get that finds its region, and the put after it, write no memory that
 *     other threads read.
 *
 * Regions of one cache do not overlap.  A request that overlaps some without
 * lying in one of them is merged: the smallest range around all of them is
 * registered with the access of all, and takes their place.  If that fails, or is
 * larger than merge_bytes, the request is registered alone and takes the place of
 * those it overlaps.  Either way those who have references to old ones go on using
 * them until they put them.
 *
 * A change of permission (MMN_EVENT_PROTECTION_VMA) invalidates the regions that
 * the device may write; fork does not invalidate, unless the config says so: pinned
 * pages stay with the parent.  The fork child's copy of a cache is inert.
 */
#include <mmn/common.h>

MMN_BEGIN_DECLS

struct dma_fence;
struct dma_resv;
struct mmn_cache;
struct mmn_state;

/* What the device may do with a region; the values of MMN_DEVICE_*. */
#define MMN_CACHE_READ (1u << 0)  /* it reads memory of the process */
#define MMN_CACHE_WRITE (1u << 1) /* it writes memory of the process */

/* For limits and times: none. */
#define MMN_CACHE_NO_LIMIT UINT64_MAX

/* config.flags: never pin more than RLIMIT_MEMLOCK allows at creation. */
#define MMN_CACHE_MEMLOCK (1u << 0)
/*
 * config.flags: registering does not pin, or pinned pages are a burden to fork:
 * it invalidates, as other changes page by page do.
 */
#define MMN_CACHE_FORK (1u << 1)

/**
 * struct mmn_cache_region - one registration
 * @start: first byte, page aligned
 * @last: last byte, end of a page, inclusive
 * @access: what the device may do
 * @reserved: 0
 * @resv: its reservation object: what the device still does with it
 * @data: for the register op to set
 * @key: for the register op to set
 *
 * The cache's memory; constant from the return of the register op to the
 * deregister op.
 */
struct mmn_cache_region {
	uintptr_t start;
	uintptr_t last;
	uint32_t access;
	uint32_t reserved;
	struct dma_resv *resv;
	void *data;
	uint64_t key;
};

/**
 * struct mmn_cache_ops - how memory is registered with the device
 *
 * The ops are called without any lock of the cache, may change memory, and may
 * get and put regions of this and other caches, but not wait for the cache's own
 * thread: no mmn_cache_purge(), no mmn_cache_destroy().
 *
 * @register_region: pin @region->start to @region->last as they are now and set
 *	data and key.  Whether that is still right when it returns is for the
 *	cache to tell.  Runs in the thread that gets.  A private mapping must be
 *	pinned so that later copies on write stay with its owner, as the kernel
 *	does for io_uring and RDMA.  Return 0; -ENOMEM or -EAGAIN when room would
 *	help: idle regions are then evicted and it is called again; any other
 *	negative errno is what get returns.
 * @deregister_region: undo it; nobody uses @region any more.  Runs in the
 *	cache's thread, with all signals blocked but those of faults that were
 *	not blocked when the cache was created.  Return
 *	NULL when it is done, or a reference to a fence that signals when the
 *	device has let go: until then the region counts as quarantined, and is
 *	not used for another range.
 * @pressure: may be NULL; nothing is left to evict and @bytes are wanted, by a
 *	get in this thread.  Return true when the caller has put regions or freed
 *	pinned memory of its own and another attempt is worth it.
 * @invalidated: may be NULL; the region from @start to @last can not be got any
 *	more, because of a change that is about to be made.  Runs in the thread
 *	that makes it, with the rules for invalidation callbacks.
 */
struct mmn_cache_ops {
	int (*register_region)(void *arg, struct mmn_cache_region *region);
	struct dma_fence *(*deregister_region)(void *arg,
					       struct mmn_cache_region *region);
	bool (*pressure)(void *arg, uint64_t bytes);
	void (*invalidated)(void *arg, uintptr_t start, uintptr_t last);
};

/**
 * struct mmn_cache_config - how a cache behaves
 * @size: sizeof(struct mmn_cache_config)
 * @flags: MMN_CACHE_MEMLOCK, MMN_CACHE_FORK
 * @ops: what to do; must outlive the cache
 * @arg: handed to the ops
 * @max_bytes: most bytes pinned at once, quarantined ones included; 0 for
 *	MMN_CACHE_NO_LIMIT
 * @max_regions: most regions at once, quarantined ones included; at most
 *	1 << 24; 0 for 65536
 * @reserved: 0
 * @wait_ns: how long a change waits for the fences of a region; 0: not at all;
 *	MMN_CACHE_NO_LIMIT: until they signal
 * @timeout_ns: the time budget of mmn_cache_get(); 0 for one second
 * @merge_bytes: the largest region that merging may make; 0 for
 *	MMN_CACHE_NO_LIMIT; 1 for no merging
 */
struct mmn_cache_config {
	uint32_t size;
	uint32_t flags;
	const struct mmn_cache_ops *ops;
	void *arg;
	uint64_t max_bytes;
	uint32_t max_regions;
	uint32_t reserved;
	uint64_t wait_ns;
	uint64_t timeout_ns;
	uint64_t merge_bytes;
};

/**
 * struct mmn_cache_stats - what a cache has and did
 * @size: sizeof(struct mmn_cache_stats), set by the caller
 * @regions: that can be got
 * @quarantined: regions that can not, and are not deregistered yet
 * @reserved: 0
 * @cached_bytes: of regions that can be got
 * @quarantined_bytes: of those that can not
 * @pinned_bytes: the sum of both, and of what is being registered
 * @registered: calls of register_region that succeeded
 * @deregistered: deregistrations that are over
 * @failed: calls of register_region that failed
 * @collisions: registrations thrown away because the memory changed meanwhile
 * @invalidated: regions that changes made unreachable
 * @evicted: regions that limits or failed registrations made unreachable
 * @replaced: regions that merging, splitting or more access made unreachable
 * @timed_out: waits for fences that ended before the fences had signalled
 */
struct mmn_cache_stats {
	uint32_t size;
	uint32_t regions;
	uint32_t quarantined;
	uint32_t reserved;
	uint64_t cached_bytes;
	uint64_t quarantined_bytes;
	uint64_t pinned_bytes;
	uint64_t registered;
	uint64_t deregistered;
	uint64_t failed;
	uint64_t collisions;
	uint64_t invalidated;
	uint64_t evicted;
	uint64_t replaced;
	uint64_t timed_out;
};

/**
 * mmn_cache_create - make a cache for memory of an address space
 * @state: the address space; a reference is kept
 * @config: copied
 * @ret_cache: the cache
 *
 * Starts one thread, which deregisters.
 *
 * Context: may sleep; not from callbacks.
 * Return: 0; -EINVAL (no state, no ops, unknown flags, too many regions); -E2BIG
 * (@config is newer than the library and asks for something); -ENOMEM;
 * -EAGAIN (no thread is to be had).
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_cache_create(struct mmn_state *state,
				    const struct mmn_cache_config *config,
				    struct mmn_cache **ret_cache);

/**
 * mmn_cache_destroy - deregister everything and free the cache
 * @cache: nobody calls get any more; or NULL
 *
 * Waits until all references are put and all fences on regions have signalled.
 * In a fork child: no effect, the copy stays where it is.
 *
 * Context: may sleep; not from callbacks or ops, nor between
 * dma_fence_read_begin() and dma_fence_read_end(), for whose end it waits.
 */
MMN_PUBLIC
void mmn_cache_destroy(struct mmn_cache *cache);

/**
 * mmn_cache_get - a region that contains a buffer
 * @cache: the cache
 * @addr: first byte of the buffer
 * @length: bytes, at least 1
 * @access: MMN_CACHE_READ, MMN_CACHE_WRITE or both
 * @ret_region: the region, with a reference for the caller
 *
 * Waits for open changes over the range, and for others who are registering parts
 * of it, no longer than the cache's timeout_ns.
 *
 * Context: may sleep, unless the region is there; calls the ops.  From
 * invalidation callbacks only regions that are there are given.  Not in signal
 * handlers, not inside a change of the range that this thread has open, and
 * without locks that ops or callbacks take.
 * Ordering: what the register op did is visible; what was done to the memory
 * before a change ended that began before is too.
 * Return: 0; -EINVAL (@length is 0 or more than 2^32 pages, bad @access, the
 * state was released); -EOVERFLOW (the range wraps); -ETIMEDOUT (until the end
 * of the budget changes kept colliding or were open, or there was no room);
 * -ENOSPC (it is larger than max_bytes, or the limits are reached and
 * everything is in use, or only this thread could make room, because it is inside
 * an op); -EDEADLK (not there, and called from a callback, from the registration of
 * the same range, from one that others wait for who are registering this range, or
 * from the deregister op while others register it); -ESTALE (in
 * a fork child; or not there, and the cache is being destroyed); -ENOMEM (no
 * memory for this thread's first reference); or what register_region returned.
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_cache_get(struct mmn_cache *cache, uintptr_t addr,
				 size_t length, uint32_t access,
				 struct mmn_cache_region **ret_region);

/**
 * mmn_cache_get_until - mmn_cache_get() with a deadline of its own
 * @cache: the cache
 * @addr: first byte of the buffer
 * @length: bytes, at least 1
 * @access: MMN_CACHE_READ, MMN_CACHE_WRITE or both
 * @deadline_ns: on CLOCK_MONOTONIC; MMN_CACHE_NO_LIMIT for none.  One that has
 *	passed allows one attempt that does not wait.
 * @ret_region: the region, with a reference for the caller
 *
 * Context: as mmn_cache_get().
 * Return: as mmn_cache_get().
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_cache_get_until(struct mmn_cache *cache, uintptr_t addr,
				       size_t length, uint32_t access,
				       uint64_t deadline_ns,
				       struct mmn_cache_region **ret_region);

/**
 * mmn_cache_put - give a reference back
 * @cache: the cache
 * @region: from a get of @cache, in any thread; or NULL
 *
 * The thread that got it puts it without touching memory that others read.
 *
 * Context: any but signal handlers; never sleeps.  In a fork child: no effect.
 */
MMN_PUBLIC
void mmn_cache_put(struct mmn_cache *cache, struct mmn_cache_region *region);

/**
 * mmn_cache_add_fence - say that a transfer will use a region
 * @cache: the cache
 * @region: the caller has a reference
 * @fence: signals when the transfer is over; the cache takes a reference
 * @usage: enum dma_resv_usage: DMA_RESV_USAGE_READ, _WRITE and so on
 *
 * Adds @fence to @region->resv in a way that no change overlooks: either the
 * change waits for it or it is refused here.  Call it before the transfer is
 * submitted.  The reference may be put as soon as this returns.  Fences may be
 * added to @region->resv directly as well: then they delay deregistration, but a
 * change that is under way may not wait for them.
 *
 * Context: may sleep; uses the heap; takes @region->resv's lock; not from
 * callbacks.
 * Return: 0; -EINVAL (no fence, unknown usage); -ENOMEM; -ESTALE (the memory
 * has changed since, or in a fork child: do not submit; @fence may have been
 * added all the same, and must signal).
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_cache_add_fence(struct mmn_cache *cache,
				       struct mmn_cache_region *region,
				       struct dma_fence *fence, uint32_t usage);

/**
 * mmn_cache_region_is_valid - could this region still be got?
 * @region: the caller has a reference
 *
 * False is final.  True is a hint: mmn_cache_add_fence() is the one to ask
 * before a transfer.
 *
 * Context: any; never sleeps.
 */
MMN_PUBLIC
bool mmn_cache_region_is_valid(const struct mmn_cache_region *region);

/**
 * mmn_cache_purge - forget regions and deregister the idle ones
 * @cache: the cache
 * @start: first byte
 * @last: last byte, inclusive
 *
 * Every region that overlaps [start, last] can not be got any more.  Waits until
 * those that are idle are deregistered; the others stay in quarantine.
 *
 * Context: may sleep; not from callbacks or ops, nor between
 * dma_fence_read_begin() and dma_fence_read_end(), for whose end it waits.
 * Return: 0; -EINVAL (@last < @start); -EDEADLK (from a callback, or in the
 * cache's thread); -ESTALE (in a fork child).
 */
MMN_PUBLIC
int mmn_cache_purge(struct mmn_cache *cache, uintptr_t start, uintptr_t last);

/**
 * mmn_cache_get_stats - what the cache has and did
 * @cache: the cache
 * @ret_stats: its size set; what follows it is written
 *
 * One consistent picture.
 *
 * Context: does not sleep.
 * Return: 0; -EINVAL (unknown size); -ESTALE (in a fork child).
 */
MMN_PUBLIC
int mmn_cache_get_stats(struct mmn_cache *cache,
			struct mmn_cache_stats *ret_stats);

MMN_END_DECLS

#endif
