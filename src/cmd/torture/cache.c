/* SPDX-License-Identifier: MIT */
/*
 * The registration cache, against a shadow of the memory.
 *
 * Each page has an age, raised inside each change of it.  To register a region is
 * to note the ages that are found; a region that is handed out must have been
 * registered after every change that was over when the get began, so none of
 * its ages may be lower than what the getter read before.  What is deregistered
 * is poisoned with ages of 0.
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include <mmn/cache.h>
#include <mmn/dma-resv.h>
#include <mmn/notifier.h>

#include "torture.h"

enum {
	PAGES = 64,
	PAGE = 4096,
	/* Room for everything, or for so little that getters are in the way. */
	MUCH_ROOM = 256,
	LITTLE_ROOM = 12,
};

/* Addresses that nobody maps: the device of numbers does not look. */
#define BASE ((uintptr_t)0x100000000)

enum {
	NO_NOTIFY = 1 << 0,
	END_EARLY = 1 << 1,
	USE_AFTER_PUT = 1 << 2,
};

static const struct flavour flavours[] = {
	BROKEN("no-notify", "the cache is not told of changes", NO_NOTIFY),
	BROKEN("end-early", "changes are ended before they are made",
	       END_EARLY),
	BROKEN("use-after-put", "a region is used that was given back",
	       USE_AFTER_PUT),
	{ 0 },
};

enum {
	CHANGES,
	GETS,
	USES,
	FENCES,
	FAILED,
};

/* Kept when it is not in use: who still looks finds poison. */
struct shadow {
	struct shadow *next;
	/* atomic */
	uint64_t age[PAGES];
};

static struct world {
	struct mmn_state *state;
	struct mmn_cache *cache;
	pthread_mutex_t lock;
	/* lock */
	struct shadow *spare;
	/* atomic: what the pages hold */
	uint64_t age[PAGES];
	/* atomic */
	uint64_t nr_registered, nr_deregistered;
} world;

static uint64_t age_of(uint32_t page)
{
	/* relaxed: what orders it is what is being tested */
	return mmn_load_relaxed(&world.age[page]);
}

/* --- the device ----------------------------------------------------------- */

static struct shadow *new_shadow(void)
{
	struct shadow *shadow;

	pthread_mutex_lock(&world.lock);
	shadow = world.spare;
	if (shadow)
		world.spare = shadow->next;
	pthread_mutex_unlock(&world.lock);
	return shadow ? shadow : calloc(1, sizeof(*shadow));
}

static void drop_shadow(struct shadow *shadow)
{
	uint32_t i;

	for (i = 0; i < PAGES; i++)
		/* relaxed: nobody should look */
		mmn_store_relaxed(&shadow->age[i], 0);
	pthread_mutex_lock(&world.lock);
	shadow->next = world.spare;
	world.spare = shadow;
	pthread_mutex_unlock(&world.lock);
}

static uint32_t page_of(uintptr_t addr)
{
	return (uint32_t)((addr - BASE) / PAGE);
}

static int register_region(void *arg, struct mmn_cache_region *region)
{
	uint32_t first = page_of(region->start), last = page_of(region->last);
	struct shadow *shadow;
	uint32_t i;

	(void)arg;
	/* As a device that is short of memory now and then. */
	shadow = one_in(64) ? NULL : new_shadow();
	if (!shadow)
		return one_in(2) ? -ENOMEM : -EFAULT;
	note_range("register", first, last, NO_VALUE);
	for (i = first; i <= last; i++)
		/* relaxed: the cache orders it */
		mmn_store_relaxed(&shadow->age[i], age_of(i));
	/* Registering takes long: others come in between. */
	linger();
	region->data = shadow;
	/* relaxed: compared when everybody is gone */
	mmn_fetch_add_relaxed(&world.nr_registered, 1);
	return 0;
}

static struct dma_fence *deregister_region(void *arg,
					   struct mmn_cache_region *region)
{
	(void)arg;
	drop_shadow(region->data);
	region->data = NULL;
	/* relaxed: as in register_region() */
	mmn_fetch_add_relaxed(&world.nr_deregistered, 1);
	return NULL;
}

static const struct mmn_cache_ops ops = {
	.register_region = register_region,
	.deregister_region = deregister_region,
};

/* --- the actors ----------------------------------------------------------- */

static void grow(uint32_t first, uint32_t last)
{
	uint32_t i;

	linger();
	note_range("change", first, last, NO_VALUE);
	for (i = first; i <= last; i++)
		/* relaxed: as in age_of() */
		mmn_fetch_add_relaxed(&world.age[i], 1);
	linger();
}

static void changer(void)
{
	uint32_t first = below(PAGES), last = first + below(3);
	struct mmn_invalidate_desc desc;

	if (last >= PAGES)
		last = PAGES - 1;
	mmn_invalidate_desc_init(&desc, world.state, MMN_EVENT_UNMAP,
				 BASE + (uintptr_t)first * PAGE,
				 BASE + (uintptr_t)last * PAGE + PAGE - 1);
	note_range("start", first, last, NO_VALUE);
	if (!is_broken(NO_NOTIFY))
		must(!mmn_invalidate_start(&desc));
	if (is_broken(END_EARLY))
		must(!mmn_invalidate_end(&desc));
	grow(first, last);
	if (!is_broken(NO_NOTIFY | END_EARLY))
		must(!mmn_invalidate_end(&desc));
	note_range("end", first, last, NO_VALUE);
	tally(CHANGES);
}

static void use(const struct shadow *shadow, uint32_t first, uint32_t last,
		const uint64_t *before)
{
	uint64_t age;
	uint32_t i;

	for (i = first; i <= last; i++) {
		/* relaxed: the cache orders it */
		age = mmn_load_relaxed(&shadow->age[i]);
		note("use", i, age);
		note_lag(age < before[i] ? before[i] - age : 0);
		tally(USES);
		if (age < before[i])
			fail(i, "page %u was used with age %llu, it had %llu",
			     i, (unsigned long long)age,
			     (unsigned long long)before[i]);
	}
}

static const char *name(struct dma_fence *fence)
{
	(void)fence;
	return "torture";
}

static const struct dma_fence_ops fence_ops = {
	.get_driver_name = name,
	.get_timeline_name = name,
};

/* A transfer that ends at once. */
static void transfer(struct mmn_cache_region *region)
{
	struct dma_fence *fence = calloc(1, sizeof(*fence));
	int err;

	if (!fence)
		return;
	dma_fence_init(fence, &fence_ops, NULL, dma_fence_context_alloc(1), 1);
	err = mmn_cache_add_fence(world.cache, region, fence,
				  DMA_RESV_USAGE_WRITE);
	must(!err || err == -ESTALE || err == -ENOMEM);
	linger();
	must(!dma_fence_signal(fence));
	dma_fence_put(fence);
	tally(FENCES);
}

static void put(struct mmn_cache_region *region, uint32_t first, uint32_t last,
		const uint64_t *before)
{
	const struct shadow *shadow = region->data;

	mmn_cache_put(world.cache, region);
	if (!is_broken(USE_AFTER_PUT))
		return;
	mmn_cache_purge(world.cache, BASE, BASE + PAGES * PAGE - 1);
	use(shadow, first, last, before);
}

static void getter(void)
{
	uint32_t first = below(PAGES), last = first + below(4), i;
	struct mmn_cache_region *region = NULL;
	uint64_t before[PAGES];
	int err;

	if (last >= PAGES)
		last = PAGES - 1;
	for (i = first; i <= last; i++)
		before[i] = age_of(i);
	err = mmn_cache_get(world.cache, BASE + (uintptr_t)first * PAGE,
			    (size_t)(last - first + 1) * PAGE, 1 + below(3),
			    &region);
	if (err) {
		must(err == -EFAULT || err == -ENOMEM || err == -ENOSPC);
		tally(FAILED);
		return;
	}
	tally(GETS);
	use(region->data, first, last, before);
	linger();
	if (one_in(16))
		transfer(region);
	put(region, first, last, before);
}

/* --- beginning and end ---------------------------------------------------- */

static int set_up(void)
{
	bool is_narrow = one_in(2);
	const struct mmn_cache_config config = {
		.size = sizeof(config),
		.ops = &ops,
		.max_regions = is_narrow ? LITTLE_ROOM : MUCH_ROOM,
		.max_bytes = is_narrow ? 2 * LITTLE_ROOM * PAGE : 0,
		.timeout_ns = MMN_CACHE_NO_LIMIT,
		.merge_bytes = 6 * PAGE,
	};
	uint32_t i;
	int err;

	memset(&world, 0, sizeof(world));
	pthread_mutex_init(&world.lock, NULL);
	for (i = 0; i < PAGES; i++)
		world.age[i] = 1;
	printf("torture: room for %u regions\n", config.max_regions);
	err = mmn_state_create(&world.state);
	if (err)
		return err;
	return mmn_cache_create(world.state, &config, &world.cache);
}

static void tear_down(void)
{
	struct shadow *shadow;

	mmn_cache_destroy(world.cache);
	must(world.nr_registered == world.nr_deregistered);
	mmn_state_put(world.state);
	while ((shadow = world.spare)) {
		world.spare = shadow->next;
		free(shadow);
	}
	pthread_mutex_destroy(&world.lock);
	dma_fence_barrier();
}

const struct scenario cache_scenario = {
	.name = "cache",
	.what = "registrations, against what the memory was when they were made",
	.place = "page",
	.flavours = flavours,
	.roles = { ROLE("changer", 2, changer, NULL),
		   ROLE("getter", 4, getter, NULL) },
	.counters = { "changes", "gets", "uses", "fences", "failed" },
	.nr_musts = FENCES + 1,
	.set_up = set_up,
	.tear_down = tear_down,
};
