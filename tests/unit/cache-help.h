/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_CACHE_HELP_H
#define TESTS_UNIT_CACHE_HELP_H
/*
 * What the tests of the cache share: a device of numbers, and a cache over it.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <mmn/cache.h>
#include <mmn/dma-fence.h>
#include <mmn/dma-resv.h>
#include <mmn/notifier.h>

#include "t/tap.h"

/* Counts of a test: the order that a plain `++` has is good enough. */
#ifdef __clang__
#pragma clang diagnostic ignored "-Watomic-implicit-seq-cst"
#endif

#define READ MMN_CACHE_READ
#define WRITE MMN_CACHE_WRITE
#define PAGE ((uintptr_t)4096)
/* Addresses that nobody maps: the device of numbers does not look. */
#define BASE ((uintptr_t)0x100000000)
#define MS UINT64_C(1000000)
#define FOR_EVER MMN_CACHE_NO_LIMIT

struct fixture;

/* What a test may have the ops do. */
struct script {
	/* In register_region, before it returns. */
	int (*in_register)(struct fixture *x, struct mmn_cache_region *region);
	struct dma_fence *(*in_deregister)(struct fixture *x,
					   struct mmn_cache_region *region);
	bool (*in_pressure)(struct fixture *x, uint64_t bytes);
};

struct fixture {
	struct mmn_state *state;
	struct mmn_cache *cache;
	struct script script;
	_Atomic uint64_t registered;
	_Atomic uint64_t deregistered;
	_Atomic uint64_t pressures;
	/* Invalidations that it was told of, and the last one. */
	_Atomic uint64_t told;
	_Atomic uintptr_t told_start;
	_Atomic uintptr_t told_last;
	/* Bytes the device holds. */
	_Atomic uint64_t pinned;
	/* For scripts. */
	_Atomic int step;
	void *arg;
};

static inline int fake_register(void *arg, struct mmn_cache_region *region)
{
	struct fixture *x = arg;
	int err;

	if (x->script.in_register) {
		err = x->script.in_register(x, region);
		if (err)
			return err;
	}
	region->key = atomic_fetch_add(&x->registered, 1) + 1;
	region->data = x;
	atomic_fetch_add(&x->pinned, region->last - region->start + 1);
	return 0;
}

static inline struct dma_fence *fake_deregister(void *arg,
						struct mmn_cache_region *region)
{
	struct fixture *x = arg;
	struct dma_fence *fence = NULL;

	t_ok(region->data == x);
	if (x->script.in_deregister)
		fence = x->script.in_deregister(x, region);
	atomic_fetch_sub(&x->pinned, region->last - region->start + 1);
	atomic_fetch_add(&x->deregistered, 1);
	return fence;
}

static inline bool fake_pressure(void *arg, uint64_t bytes)
{
	struct fixture *x = arg;

	atomic_fetch_add(&x->pressures, 1);
	return x->script.in_pressure && x->script.in_pressure(x, bytes);
}

static inline void fake_invalidated(void *arg, uintptr_t start, uintptr_t last)
{
	struct fixture *x = arg;

	x->told_start = start;
	x->told_last = last;
	atomic_fetch_add(&x->told, 1);
}

/* Its small regions share subscriptions. */
static const struct mmn_cache_ops fake_ops = {
	.register_region = fake_register,
	.deregister_region = fake_deregister,
	.pressure = fake_pressure,
};

/* Those of this one have one each, as who changes memory is told of them. */
static const struct mmn_cache_ops telling_ops = {
	.register_region = fake_register,
	.deregister_region = fake_deregister,
	.pressure = fake_pressure,
	.invalidated = fake_invalidated,
};

static inline void set_up_with(struct fixture *x,
			       struct mmn_cache_config *config)
{
	memset(x, 0, sizeof(*x));
	t_may_keep_mapped(24 << 20, "the arena for callbacks, a thread of RCU");
	t_err(mmn_state_create(&x->state), 0);
	config->size = sizeof(*config);
	if (!config->ops)
		config->ops = &fake_ops;
	config->arg = x;
	t_err(mmn_cache_create(x->state, config, &x->cache), 0);
}

static inline void set_up(struct fixture *x)
{
	struct mmn_cache_config config = { .timeout_ns = 600 * 1000 * MS };

	set_up_with(x, &config);
}

static inline struct mmn_cache_stats stats_of(struct fixture *x)
{
	struct mmn_cache_stats stats = { .size = sizeof(stats) };

	t_err(mmn_cache_get_stats(x->cache, &stats), 0);
	return stats;
}

/* Whatever was registered was deregistered. */
static inline void tear_down(struct fixture *x)
{
	mmn_cache_destroy(x->cache);
	t_eq(x->registered, x->deregistered);
	t_eq(x->pinned, 0);
	mmn_state_put(x->state);
}

static inline struct mmn_cache_region *get(struct fixture *x, uintptr_t first,
					   size_t pages, uint32_t access)
{
	struct mmn_cache_region *region = NULL;

	t_err(mmn_cache_get(x->cache, BASE + first * PAGE, pages * PAGE, access,
			    &region),
	      0);
	t_ok(region->start <= BASE + first * PAGE);
	t_ok(region->last >= BASE + (first + pages) * PAGE - 1);
	t_eq(access & ~region->access, 0);
	return region;
}

/* Get and put; the number of the registration. */
static inline uint64_t touch(struct fixture *x, uintptr_t first, size_t pages,
			     uint32_t access)
{
	struct mmn_cache_region *region = get(x, first, pages, access);
	uint64_t key = region->key;

	mmn_cache_put(x->cache, region);
	return key;
}

static inline void change_begin(struct fixture *x,
				struct mmn_invalidate_desc *desc,
				uint32_t event, uintptr_t first, size_t pages)
{
	mmn_invalidate_desc_init(desc, x->state, event, BASE + first * PAGE,
				 BASE + (first + pages) * PAGE - 1);
	t_err(mmn_invalidate_start(desc), 0);
}

static inline void change(struct fixture *x, uint32_t event, uintptr_t first,
			  size_t pages)
{
	struct mmn_invalidate_desc desc;

	change_begin(x, &desc, event, first, pages);
	t_err(mmn_invalidate_end(&desc), 0);
}

static inline void unmap(struct fixture *x, uintptr_t first, size_t pages)
{
	change(x, MMN_EVENT_UNMAP, first, pages);
}

/* Everything that is on its way out is gone, apart from what is held. */
static inline void settle(struct fixture *x)
{
	t_err(mmn_cache_purge(x->cache, 0, 0), 0);
}

/* Until it happens; the test's time limit is the only one. */
#define until(condition)               \
	do {                           \
		while (!(condition))   \
			sched_yield(); \
	} while (0)

/* A fence of the test. */
static inline const char *fence_name(struct dma_fence *fence)
{
	(void)fence;
	return "test";
}

static const struct dma_fence_ops fence_ops = {
	.get_driver_name = fence_name,
	.get_timeline_name = fence_name,
};

static inline struct dma_fence *new_fence(void)
{
	struct dma_fence *fence = calloc(1, sizeof(*fence));

	t_ok(fence != NULL);
	dma_fence_init(fence, &fence_ops, NULL, dma_fence_context_alloc(1), 1);
	return fence;
}

static inline void signal_and_put(struct dma_fence *fence)
{
	t_err(dma_fence_signal(fence), 0);
	dma_fence_put(fence);
}

#endif
