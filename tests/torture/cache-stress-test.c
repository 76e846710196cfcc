/* SPDX-License-Identifier: MIT */
/*
 * Four threads get, two unmap, and a shadow of the memory tells whether anybody
 * was handed a region that is older than the memory.
 *
 * Each page has an age, raised inside each change of it.  To register a region is
 * to note the ages that are found; a region that is handed out must have none that
 * is lower than what its getter read before.  What is deregistered is cleared and
 * freed, for the sanitizers to see who still looks.
 *
 * The unmapping threads keep step with the getters, one change for sixteen gets,
 * so that there are hits as well.  T_OPERATIONS in the environment is the number
 * of gets.
 */
#include "cache/cache.h"
#include "unit/cache-help.h"

/* Half of them in one block of the cache, half in the next. */
#define AREA (BASE + (BLOCK_PAGES - PAGES / 2) * PAGE)

enum {
	PAGES = 64,
	GETTERS = 4,
	CHANGERS = 2,
	GETS_FOR_A_CHANGE = 16,
	/* How far the getters may be ahead. */
	LEAD = 1000,
};

struct shadow {
	uint64_t age[PAGES];
};

static struct world {
	struct mmn_state *state;
	struct mmn_cache *cache;
	uint64_t gets_each;
	_Atomic uint64_t age[PAGES];
	_Atomic uint64_t gets;
	_Atomic uint64_t changes;
	_Atomic uint64_t stale;
	_Atomic int getters;
	/* Registrations: in a block, beside a change there, in none. */
	_Atomic uint64_t shared;
	_Atomic uint64_t beside;
	_Atomic uint64_t single;
} world;

static uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static size_t page_of(uintptr_t addr)
{
	return (addr - AREA) / PAGE;
}

static void note_subscription(const struct region *region)
{
	if (!region->block)
		world.single++;
	else if (region->subscribed)
		world.beside++;
	else
		world.shared++;
}

static int note_ages(void *arg, struct mmn_cache_region *region)
{
	struct shadow *shadow = calloc(1, sizeof(*shadow));
	size_t i;

	(void)arg;
	if (!shadow)
		return -ENOMEM;
	note_subscription(region_of(region));
	for (i = page_of(region->start); i <= page_of(region->last); i++)
		/* relaxed: what orders it is what is being tested */
		shadow->age[i] = atomic_load_explicit(&world.age[i],
						      memory_order_relaxed);
	region->data = shadow;
	return 0;
}

static struct dma_fence *forget_ages(void *arg, struct mmn_cache_region *region)
{
	struct shadow *shadow = region->data;

	(void)arg;
	memset(shadow, 0, sizeof(*shadow));
	free(shadow);
	return NULL;
}

static const struct mmn_cache_ops shadow_ops = {
	.register_region = note_ages,
	.deregister_region = forget_ages,
};

static void get_some(uint64_t random)
{
	struct mmn_cache_region *region = NULL;
	/* Mostly in one of sixteen buffers; now and then they are merged. */
	size_t first = random % (PAGES - 3) & ~(random >> 20 & 15 ? 3u : 0u);
	size_t nr = 1 + (random >> 32) % 4, i;
	const struct shadow *shadow;
	uint64_t before[4];

	for (i = 0; i < nr; i++)
		/* relaxed: what orders it is what is being tested */
		before[i] = atomic_load_explicit(&world.age[first + i],
						 memory_order_relaxed);
	if (mmn_cache_get(world.cache, AREA + first * PAGE, nr * PAGE,
			  READ << ((random >> 40) & 1), &region))
		abort();
	shadow = region->data;
	for (i = 0; i < nr; i++)
		if (shadow->age[first + i] < before[i])
			world.stale++;
	mmn_cache_put(world.cache, region);
}

static void *getter(void *arg)
{
	uint64_t seed = (uintptr_t)arg, i;

	for (i = 0; i < world.gets_each; i++) {
		until(world.gets < world.changes * GETS_FOR_A_CHANGE + LEAD);
		get_some(next_random(&seed));
		/* relaxed: a count; it only keeps step */
		atomic_fetch_add_explicit(&world.gets, 1, memory_order_relaxed);
	}
	world.getters--;
	return NULL;
}

/* One in four of what nobody gets, in the same blocks. */
static void change_some(uint64_t random)
{
	struct mmn_invalidate_desc desc;
	bool elsewhere = !(random >> 40 & 3);
	size_t first = random % (PAGES - 2), nr = 1 + (random >> 32) % 3, i;
	uintptr_t start = AREA + (first + (elsewhere ? PAGES : 0)) * PAGE;

	mmn_invalidate_desc_init(&desc, world.state, MMN_EVENT_UNMAP, start,
				 start + nr * PAGE - 1);
	if (mmn_invalidate_start(&desc))
		abort();
	for (i = 0; i < nr && !elsewhere; i++)
		/* relaxed: what orders it is what is being tested */
		atomic_fetch_add_explicit(&world.age[first + i], 1,
					  memory_order_relaxed);
	if (mmn_invalidate_end(&desc))
		abort();
	world.changes++;
}

static void *changer(void *arg)
{
	uint64_t seed = (uintptr_t)arg;

	while (world.getters) {
		if (world.changes * GETS_FOR_A_CHANGE > world.gets)
			sched_yield();
		else
			change_some(next_random(&seed));
	}
	return NULL;
}

static void run_threads(void)
{
	pthread_t threads[GETTERS + CHANGERS];
	uintptr_t i;

	world.getters = GETTERS;
	for (i = 0; i < GETTERS + CHANGERS; i++)
		t_err(pthread_create(&threads[i], NULL,
				     i < GETTERS ? getter : changer,
				     (void *)(88172645463325252 + i)),
		      0);
	for (i = 0; i < GETTERS + CHANGERS; i++)
		t_err(pthread_join(threads[i], NULL), 0);
}

TEST(nobody_is_handed_a_region_that_is_older_than_the_memory, .timeout = 3600)
{
	const char *given = getenv("T_OPERATIONS");
	struct mmn_cache_config config = { .size = sizeof(config),
					   .ops = &shadow_ops,
					   .max_regions = 256,
					   .timeout_ns = FOR_EVER,
					   .merge_bytes = 6 * PAGE };
	struct mmn_cache_stats stats = { .size = sizeof(stats) };

	t_may_keep_mapped(24 << 20, "the arena for callbacks, a thread of RCU");
	world.gets_each = (given ? strtoull(given, NULL, 10) : 20000) / GETTERS;
	t_err(mmn_state_create(&world.state), 0);
	t_err(mmn_cache_create(world.state, &config, &world.cache), 0);
	run_threads();
	t_err(mmn_cache_get_stats(world.cache, &stats), 0);
	t_note("%llu gets, %llu changes, %llu registrations, %llu collisions, "
	       "%llu invalidated, %llu stale",
	       (unsigned long long)world.gets,
	       (unsigned long long)world.changes,
	       (unsigned long long)stats.registered,
	       (unsigned long long)stats.collisions,
	       (unsigned long long)stats.invalidated,
	       (unsigned long long)world.stale);
	t_note("%llu shared, %llu beside a change, %llu single",
	       (unsigned long long)world.shared,
	       (unsigned long long)world.beside,
	       (unsigned long long)world.single);
	t_eq(world.stale, 0);
	t_gt(world.shared, 0);
	t_gt(world.single, 0);
	t_gt(stats.invalidated, 0);
	mmn_cache_destroy(world.cache);
	mmn_state_put(world.state);
}
