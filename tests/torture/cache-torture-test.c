/* SPDX-License-Identifier: MIT */
/*
 * Threads that get and threads that change, against a shadow of the memory.
 *
 * The shadow has one number per page, raised inside each change of it.  The
 * register op notes the numbers it finds; a region that is handed out must have
 * been registered after every change that was over when the get began, so none of
 * its numbers may be lower than what the getter read before.
 *
 * CACHE_TORTURE_GETS in the environment sets the number of gets.
 */
#include "unit/cache-help.h"

#define PAGES 64
#define GETTERS 4
#define CHANGERS 2
#define GETS_DEFAULT 20000

struct shadow {
	uint64_t pages[PAGES];
};

struct torture {
	struct fixture x;
	_Atomic uint64_t now[PAGES];
	_Atomic uint64_t stale;
	_Atomic uint64_t gets;
	_Atomic uint64_t gone;
	_Atomic uint32_t getters;
	uint64_t nr;
	pthread_barrier_t start;
};

static struct torture torture;

static uint64_t next(uint64_t *seed)
{
	uint64_t v = *seed;

	v ^= v << 13;
	v ^= v >> 7;
	v ^= v << 17;
	return *seed = v;
}

static int note_shadow(void *arg, struct mmn_cache_region *region)
{
	struct torture *t = arg;
	struct shadow *shadow = calloc(1, sizeof(*shadow));
	size_t i;

	t_ok(shadow != NULL);
	for (i = 0; i < PAGES; i++)
		shadow->pages[i] = t->now[i];
	region->data = shadow;
	/* Registering takes long: others come in between. */
	sched_yield();
	atomic_fetch_add(&t->x.registered, 1);
	/* As a device that is short of memory now and then. */
	if (t->x.registered % 64 == 0) {
		free(shadow);
		atomic_fetch_sub(&t->x.registered, 1);
		atomic_fetch_add(&t->gone, 1);
		if (t->gone % 2)
			return -ENOMEM;
		return -EFAULT;
	}
	return 0;
}

static struct dma_fence *free_shadow(void *arg, struct mmn_cache_region *region)
{
	struct torture *t = arg;

	/* Who still reads it finds nonsense. */
	memset(region->data, 0, sizeof(struct shadow));
	free(region->data);
	region->data = NULL;
	atomic_fetch_add(&t->x.deregistered, 1);
	return NULL;
}

static const struct mmn_cache_ops shadow_ops = {
	.register_region = note_shadow,
	.deregister_region = free_shadow,
};

static void *change_pages(void *arg)
{
	uint64_t seed = (uintptr_t)arg * 7919 + 1;
	struct mmn_invalidate_desc desc;
	size_t first, nr, i;

	pthread_barrier_wait(&torture.start);
	while (torture.getters) {
		first = next(&seed) % PAGES;
		nr = 1 + next(&seed) % 3;
		if (first + nr > PAGES)
			nr = PAGES - first;
		change_begin(&torture.x, &desc, MMN_EVENT_UNMAP, first, nr);
		for (i = first; i < first + nr; i++)
			atomic_fetch_add(&torture.now[i], 1);
		t_err(mmn_invalidate_end(&desc), 0);
		sched_yield();
	}
	return NULL;
}

static void get_once(uint64_t *seed, struct dma_fence **parked)
{
	size_t first = next(seed) % PAGES, nr = 1 + next(seed) % 4, i;
	uint32_t access = 1 + (uint32_t)(next(seed) % 3);
	struct mmn_cache_region *region = NULL;
	const struct shadow *shadow;
	uint64_t before[PAGES];
	int err;

	if (first + nr > PAGES)
		nr = PAGES - first;
	for (i = first; i < first + nr; i++)
		before[i] = torture.now[i];
	err = mmn_cache_get(torture.x.cache, BASE + first * PAGE, nr * PAGE,
			    access, &region);
	if (err) {
		t_ok(err == -EFAULT || err == -ENOMEM || err == -ENOSPC);
		return;
	}
	shadow = region->data;
	for (i = first; i < first + nr; i++)
		if (shadow->pages[i] < before[i])
			atomic_fetch_add(&torture.stale, 1);
	/* One processor: a getter would use up its time finding one region. */
	if (next(seed) % 32 == 0)
		sched_yield();
	if (next(seed) % 16 == 0) {
		if (*parked)
			signal_and_put(*parked);
		*parked = new_fence();
		err = mmn_cache_add_fence(torture.x.cache, region, *parked,
					  DMA_RESV_USAGE_WRITE);
		t_ok(!err || err == -ESTALE);
	}
	mmn_cache_put(torture.x.cache, region);
}

static void *get_regions(void *arg)
{
	uint64_t seed = (uintptr_t)arg * 104729 + 3;
	struct dma_fence *parked = NULL;

	pthread_barrier_wait(&torture.start);
	while (atomic_fetch_add(&torture.gets, 1) < torture.nr)
		get_once(&seed, &parked);
	if (parked)
		signal_and_put(parked);
	atomic_fetch_sub(&torture.getters, 1);
	return NULL;
}

static void run(struct mmn_cache_config *config)
{
	pthread_t getters[GETTERS], changers[CHANGERS];
	const char *wanted = getenv("CACHE_TORTURE_GETS");
	struct mmn_cache_stats stats;
	uintptr_t i;

	memset(&torture, 0, sizeof(torture));
	torture.nr = wanted ? strtoull(wanted, NULL, 0) : GETS_DEFAULT;
	torture.getters = GETTERS;
	pthread_barrier_init(&torture.start, NULL, GETTERS + CHANGERS);
	t_may_keep_mapped(64 << 20, "the arena for callbacks, a thread of RCU");
	t_err(mmn_state_create(&torture.x.state), 0);
	config->size = sizeof(*config);
	config->ops = &shadow_ops;
	config->arg = &torture;
	config->timeout_ns = FOR_EVER;
	t_err(mmn_cache_create(torture.x.state, config, &torture.x.cache), 0);
	for (i = 0; i < GETTERS; i++)
		t_err(pthread_create(&getters[i], NULL, get_regions, (void *)i),
		      0);
	for (i = 0; i < CHANGERS; i++)
		t_err(pthread_create(&changers[i], NULL, change_pages,
				     (void *)i),
		      0);
	for (i = 0; i < GETTERS; i++)
		t_err(pthread_join(getters[i], NULL), 0);
	for (i = 0; i < CHANGERS; i++)
		t_err(pthread_join(changers[i], NULL), 0);
	stats = stats_of(&torture.x);
	t_note("%llu gets, %llu registered, %llu collisions, %llu evicted",
	       (unsigned long long)torture.nr,
	       (unsigned long long)stats.registered,
	       (unsigned long long)stats.collisions,
	       (unsigned long long)stats.evicted);
	t_eq(torture.stale, 0);
	mmn_cache_destroy(torture.x.cache);
	t_eq(torture.x.registered, torture.x.deregistered);
	mmn_state_put(torture.x.state);
}

TEST(no_region_is_stale, .timeout = 1200)
{
	struct mmn_cache_config config = { .max_regions = 256,
					   .merge_bytes = 6 * PAGE };

	run(&config);
}

TEST(no_region_is_stale_with_little_room, .timeout = 1200)
{
	struct mmn_cache_config config = { .max_regions = 12,
					   .max_bytes = 24 * PAGE,
					   .merge_bytes = 6 * PAGE };

	run(&config);
}
