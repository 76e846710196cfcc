/* SPDX-License-Identifier: MIT */
/*
 * The registration cache against others that keep the same regions: get and put
 * of what is there, with one thread and with two, and one change over one region.
 *
 * usage: cache-bench [MILLISECONDS]
 *
 * A contestant is a table of functions; the one here is what is usually written:
 * a balanced tree and a reference count under one mutex.
 *
 * With two threads the figure to compare with is that of two threads with a cache
 * each: two processors may share a core.
 */
#define BENCH_REPETITIONS 15
#include "bench.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>

#include <mmn/cache.h>
#include <mmn/notifier.h>

#include "tree/itree.h"

#define BASE UINT64_C(0x100000000)
#define STRIDE UINT64_C(8192)
#define SIZE 4096
#define NR_PICKS (1u << 16)

struct contestant {
	const char *name;
	void *(*create)(uint64_t regions);
	void *(*get)(void *cache, uintptr_t addr, size_t length);
	void (*put)(void *cache, void *region);
	/* A change of the memory at @addr, from its start to its end. */
	void (*change)(void *cache, uintptr_t addr, size_t length);
	void (*destroy)(void *cache);
};

/* ------------------------------------------------------------------ */

static struct mmn_state *state;

static int do_register(void *arg, struct mmn_cache_region *region)
{
	(void)arg;
	region->key = region->start;
	return 0;
}

static struct dma_fence *do_deregister(void *arg,
				       struct mmn_cache_region *region)
{
	(void)arg;
	(void)region;
	return NULL;
}

static const struct mmn_cache_ops ops = {
	.register_region = do_register,
	.deregister_region = do_deregister,
};

static void *mmn_create(uint64_t regions)
{
	struct mmn_cache_config config = {
		.size = sizeof(config),
		.ops = &ops,
		.max_regions = (uint32_t)regions + 1024,
	};
	struct mmn_cache *cache;

	if (mmn_cache_create(state, &config, &cache))
		abort();
	return cache;
}

static void *mmn_get(void *cache, uintptr_t addr, size_t length)
{
	struct mmn_cache_region *region;

	if (mmn_cache_get(cache, addr, length, MMN_CACHE_READ | MMN_CACHE_WRITE,
			  &region))
		abort();
	return region;
}

static void mmn_put(void *cache, void *region)
{
	mmn_cache_put(cache, region);
}

static void mmn_change(void *cache, uintptr_t addr, size_t length)
{
	struct mmn_invalidate_desc desc;

	(void)cache;
	mmn_invalidate_desc_init(&desc, state, MMN_EVENT_UNMAP, addr,
				 addr + length - 1);
	if (mmn_invalidate_start(&desc) || mmn_invalidate_end(&desc))
		abort();
}

static void mmn_destroy(void *cache)
{
	mmn_cache_destroy(cache);
}

/* ------------------------------------------------------------------ */

struct locked_region {
	struct itree_node node;
	uint32_t refs;
};

struct locked_cache {
	pthread_mutex_t mutex;
	struct itree tree;
};

static void *locked_create(uint64_t regions)
{
	struct locked_cache *cache = calloc(1, sizeof(*cache));

	(void)regions;
	if (!cache)
		abort();
	pthread_mutex_init(&cache->mutex, NULL);
	return cache;
}

static void *locked_get(void *arg, uintptr_t addr, size_t length)
{
	struct locked_cache *cache = arg;
	struct locked_region *region;

	pthread_mutex_lock(&cache->mutex);
	region = (struct locked_region *)itree_first_overlap(&cache->tree, addr,
							     addr + length - 1);
	if (!region) {
		region = calloc(1, sizeof(*region));
		if (!region)
			abort();
		region->node.start = addr;
		region->node.last = addr + length - 1;
		itree_insert(&cache->tree, &region->node);
	}
	region->refs++;
	pthread_mutex_unlock(&cache->mutex);
	return region;
}

static void locked_put(void *arg, void *region)
{
	struct locked_cache *cache = arg;

	pthread_mutex_lock(&cache->mutex);
	((struct locked_region *)region)->refs--;
	pthread_mutex_unlock(&cache->mutex);
}

static void locked_change(void *arg, uintptr_t addr, size_t length)
{
	struct locked_cache *cache = arg;
	struct itree_node *node;

	pthread_mutex_lock(&cache->mutex);
	for (;;) {
		node = itree_first_overlap(&cache->tree, addr,
					   addr + length - 1);
		if (!node)
			break;
		itree_remove(&cache->tree, node);
		free(node);
	}
	pthread_mutex_unlock(&cache->mutex);
}

static void locked_destroy(void *arg)
{
	locked_change(arg, 0, SIZE_MAX);
	free(arg);
}

static const struct contestant contestants[] = {
	{ "libmmn", mmn_create, mmn_get, mmn_put, mmn_change, mmn_destroy },
	{ "mutex and tree", locked_create, locked_get, locked_put,
	  locked_change, locked_destroy },
};

#define NR_CONTESTANTS (sizeof(contestants) / sizeof(*contestants))

/* ------------------------------------------------------------------ */

struct job {
	const struct contestant *by;
	void *cache;
	const uint32_t *picks;
	uint64_t n;
	int cpu;
	double ns;
	pthread_barrier_t *start;
};

static void hit(void *arg, uint64_t n)
{
	struct job *job = arg;
	uint64_t i;

	for (i = 0; i < n; i++)
		job->by->put(
			job->cache,
			job->by->get(job->cache,
				     BASE + 64 +
					     job->picks[i % NR_PICKS] * STRIDE,
				     512));
}

static void *hit_thread(void *arg)
{
	struct job *job = arg;
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(job->cpu, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
	pthread_barrier_wait(job->start);
	job->ns = bench_once(hit, job, job->n);
	return NULL;
}

/* Both threads at once; the mean of the two. */
static struct bench_result two_threads(const struct job *like, void *a, void *b,
				       uint64_t n)
{
	double ns[BENCH_REPETITIONS];
	unsigned int i, k;

	for (i = 0; i < BENCH_REPETITIONS; i++) {
		struct job jobs[2] = { *like, *like };
		pthread_barrier_t start;
		pthread_t threads[2];

		pthread_barrier_init(&start, NULL, 2);
		jobs[0].cache = a;
		jobs[1].cache = b;
		for (k = 0; k < 2; k++) {
			jobs[k].n = n;
			jobs[k].cpu = (int)k;
			jobs[k].start = &start;
			if (pthread_create(&threads[k], NULL, hit_thread,
					   &jobs[k]))
				abort();
		}
		for (k = 0; k < 2; k++)
			pthread_join(threads[k], NULL);
		ns[i] = (jobs[0].ns + jobs[1].ns) / 2;
	}
	return bench_sort(ns);
}

static void fill(const struct contestant *by, void *cache, uint64_t regions)
{
	uint64_t i;

	for (i = 0; i < regions; i++)
		by->put(cache, by->get(cache, BASE + i * STRIDE, SIZE));
}

static struct bench_result changes(const struct contestant *by, void *cache,
				   const uint32_t *picks)
{
	double ns[BENCH_REPETITIONS];
	unsigned int i, k;
	uint64_t began, sum;
	uintptr_t addr;

	for (i = 0; i < BENCH_REPETITIONS; i++) {
		sum = 0;
		for (k = 0; k < 64; k++) {
			addr = BASE + picks[i * 64 + k] * STRIDE;
			began = bench_now();
			by->change(cache, addr, SIZE);
			sum += bench_now() - began;
			by->put(cache, by->get(cache, addr, SIZE));
		}
		ns[i] = (double)sum / 64;
	}
	return bench_sort(ns);
}

static void line(const char *name, const char *what, uint64_t regions,
		 struct bench_result r)
{
	printf("{ \"cache\": \"%s\", \"what\": \"%s\", \"regions\": %llu, "
	       "\"ns\": [%.1f, %.1f, %.1f] }\n",
	       name, what, (unsigned long long)regions, r.min, r.median, r.max);
	fflush(stdout);
}

static void contest(const struct contestant *by, uint64_t regions,
		    unsigned int ms, const uint32_t *picks)
{
	struct job job = { .by = by, .picks = picks };
	double ns[BENCH_REPETITIONS];
	void *a = by->create(regions), *b = by->create(regions);
	unsigned int i;
	uint64_t n;

	fill(by, a, regions);
	fill(by, b, regions);
	job.cache = a;
	n = bench_calibrate(hit, &job, ms);
	for (i = 0; i < BENCH_REPETITIONS; i++)
		ns[i] = bench_once(hit, &job, n);
	line(by->name, "hit, one thread", regions, bench_sort(ns));
	line(by->name, "hit, two threads, a cache each", regions,
	     two_threads(&job, a, b, n));
	line(by->name, "hit, two threads, one cache", regions,
	     two_threads(&job, a, a, n));
	by->destroy(b);
	line(by->name, "change over one region", regions,
	     changes(by, a, picks));
	by->destroy(a);
}

int main(int argc, char **argv)
{
	static const uint64_t sizes[] = { 1, 100, 10000, 100000, 1000000 };
	unsigned int ms = bench_begin("cache", argc, argv);
	static uint32_t picks[NR_PICKS];
	uint64_t seed = 88172645463325252;
	size_t s, c;
	uint32_t i;

	if (mmn_state_create(&state))
		abort();
	for (s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
		for (i = 0; i < NR_PICKS; i++) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			picks[i] = (uint32_t)(seed % sizes[s]);
		}
		for (c = 0; c < NR_CONTESTANTS; c++)
			contest(&contestants[c], sizes[s], ms, picks);
	}
	mmn_state_put(state);
	return 0;
}
