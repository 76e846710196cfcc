/* SPDX-License-Identifier: MIT */
/*
 * The registration cache against others that keep the same regions: get and put
 * of what is there, with one thread and with two, changes over some regions, and
 * what a change costs when many regions wait to be deregistered.
 *
 * usage: cache-bench [MILLISECONDS [TABLE]]
 *
 * TABLE gets one line for each point, for scripts/plot.py.
 *
 * Every repetition measures all contestants, one after the other.  What is written
 * when there is no library is a balanced tree and a reference count under one
 * mutex; UCX's cache takes part where libucx-dev is installed; and one that
 * does nothing shows what calling costs, for it is in all the others too.
 *
 * With two threads the figure to compare with is that of two threads with a cache
 * each: two processors may share a core.
 */
#define BENCH_REPETITIONS 15
#include "bench.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include <mmn/cache.h>
#include <mmn/notifier.h>

#include "cache-contestant.h"
#include "tree/itree.h"

#define BASE UINT64_C(0x100000000)
#define STRIDE UINT64_C(8192)
#define SIZE 4096
#define NR_PICKS (1u << 16)
#define MOST UINT64_C(1000000)
#define PENDING UINT64_C(64000)
/* One figure is the mean of so many changes. */
#define CHANGES 64

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

/* ------------------------------------------------------------------ */

static void *nothing_create(uint64_t regions)
{
	(void)regions;
	return NULL;
}

static void *nothing_get(void *cache, uintptr_t addr, size_t length)
{
	(void)cache;
	(void)length;
	return (void *)addr;
}

static void nothing_put(void *cache, void *region)
{
	(void)cache;
	(void)region;
}

static void nothing_change(void *cache, uintptr_t addr, size_t length)
{
	(void)cache;
	(void)addr;
	(void)length;
}

static void nothing_destroy(void *cache)
{
	(void)cache;
}

static const struct contestant mmn_contestant = { "libmmn",   mmn_create,
						  mmn_get,    mmn_put,
						  mmn_change, mmn_destroy };
static const struct contestant locked_contestant = {
	"mutex and tree", locked_create, locked_get,
	locked_put,	  locked_change, locked_destroy
};
static const struct contestant nothing_contestant = {
	"nothing",   nothing_create, nothing_get,
	nothing_put, nothing_change, nothing_destroy
};

/* The first one is compared with the last one. */
static const struct contestant *const contestants[] = {
	&mmn_contestant,
	&nothing_contestant,
	&locked_contestant,
#if HAVE_UCX
	&ucx_contestant,
#endif
};

#define NR_CONTESTANTS (sizeof(contestants) / sizeof(*contestants))

/* ------------------------------------------------------------------ */

static uint32_t picks[NR_PICKS];
static FILE *table;

/* The repetitions of one figure. */
struct figure {
	double ns[NR_CONTESTANTS][BENCH_REPETITIONS];
};

/* One line of what is printed, and a point for each in the table. */
static void show(const char *what, const char *name, uint64_t x,
		 struct figure *figure)
{
	struct bench_result results[NR_CONTESTANTS];
	size_t c;

	printf("%-34s %8llu", what, (unsigned long long)x);
	for (c = 0; c < NR_CONTESTANTS; c++) {
		results[c] = bench_sort(figure->ns[c]);
		printf(" %9.1f (%.1f)", results[c].median, results[c].min);
		if (table && name)
			fprintf(table, "%s\t%s\t%llu\t%.2f\t%.2f\t%.2f\n", name,
				contestants[c]->name, (unsigned long long)x,
				results[c].median, results[c].min,
				results[c].max);
	}
	printf("  ratio %.2f (%.2f)\n",
	       results[0].median / results[NR_CONTESTANTS - 1].median,
	       results[0].min / results[NR_CONTESTANTS - 1].min);
	fflush(stdout);
}

struct job {
	const struct contestant *by;
	void *cache;
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
				     BASE + 64 + picks[i % NR_PICKS] * STRIDE,
				     512));
}

static void *hit_thread(void *arg)
{
	struct job *job = arg;
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(job->cpu, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
	/* The first look at each costs more. */
	hit(job, 1000);
	pthread_barrier_wait(job->start);
	job->ns = bench_once(hit, job, job->n);
	return NULL;
}

/* Both threads at once; the mean of the two. */
static double two_threads(const struct contestant *by, void *a, void *b,
			  uint64_t n)
{
	struct job jobs[2] = { { .by = by, .cache = a },
			       { .by = by, .cache = b } };
	pthread_barrier_t start;
	pthread_t threads[2];
	int k;

	pthread_barrier_init(&start, NULL, 2);
	for (k = 0; k < 2; k++) {
		jobs[k].n = n;
		jobs[k].cpu = k;
		jobs[k].start = &start;
		if (pthread_create(&threads[k], NULL, hit_thread, &jobs[k]))
			abort();
	}
	for (k = 0; k < 2; k++)
		pthread_join(threads[k], NULL);
	return (jobs[0].ns + jobs[1].ns) / 2;
}

static void fill(const struct contestant *by, void *cache, uint64_t first,
		 uint64_t nr)
{
	uint64_t i;

	for (i = first; i < first + nr; i++)
		by->put(cache, by->get(cache, BASE + i * STRIDE, SIZE));
}

/* Changes over @k of @regions regions: 0: over the hole behind one. */
static double changes(const struct contestant *by, void *cache,
		      uint64_t regions, uint64_t k, unsigned int turn)
{
	uint64_t began, first, sum = 0;
	unsigned int i, nr = k > 16 ? CHANGES / 16 : CHANGES;

	for (i = 0; i < nr; i++) {
		first = picks[(turn * CHANGES + i) % NR_PICKS];
		if (first + k > regions)
			first = regions - k;
		began = bench_now();
		if (k)
			by->change(cache, BASE + first * STRIDE,
				   (k - 1) * STRIDE + SIZE);
		else
			by->change(cache, BASE + first * STRIDE + SIZE, SIZE);
		sum += bench_now() - began;
		fill(by, cache, first, k);
	}
	return (double)sum / nr;
}

/* ------------------------------------------------------------------ */

static void show_changes(void **caches, uint64_t regions)
{
	static const uint64_t over[] = { 0, 1, 16, 256 };
	struct figure figure;
	char what[64];
	unsigned int i;
	size_t k, c;

	for (k = 0; k < sizeof(over) / sizeof(*over); k++) {
		if (over[k] > regions)
			continue;
		for (i = 0; i < BENCH_REPETITIONS; i++)
			for (c = 0; c < NR_CONTESTANTS; c++)
				figure.ns[c][i] =
					changes(contestants[c], caches[c],
						regions, over[k], i);
		snprintf(what, sizeof(what), "change over %u regions",
			 (unsigned int)over[k]);
		show(what, over[k] == 1 ? "cache-change" : NULL, regions,
		     &figure);
	}
}

static void show_hits(void **a, void **b, uint64_t regions, unsigned int ms)
{
	struct figure one, each, shared;
	uint64_t n[NR_CONTESTANTS];
	struct job job;
	unsigned int i;
	size_t c;

	for (c = 0; c < NR_CONTESTANTS; c++) {
		job = (struct job){ .by = contestants[c], .cache = a[c] };
		n[c] = bench_calibrate(hit, &job, ms);
	}
	for (i = 0; i < BENCH_REPETITIONS; i++)
		for (c = 0; c < NR_CONTESTANTS; c++) {
			job = (struct job){ .by = contestants[c],
					    .cache = a[c] };
			one.ns[c][i] = bench_once(hit, &job, n[c]);
			each.ns[c][i] =
				two_threads(contestants[c], a[c], b[c], n[c]);
			shared.ns[c][i] =
				two_threads(contestants[c], a[c], a[c], n[c]);
		}
	show("hit, one thread", "cache-hit", regions, &one);
	show("hit, two threads, a cache each", "cache-hit-each", regions,
	     &each);
	show("hit, two threads, one cache", "cache-hit-shared", regions,
	     &shared);
}

static void contest(uint64_t regions, unsigned int ms)
{
	void *a[NR_CONTESTANTS], *b[NR_CONTESTANTS];
	uint64_t seed = 88172645463325252;
	uint32_t i;
	size_t c;

	for (i = 0; i < NR_PICKS; i++) {
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		picks[i] = (uint32_t)(seed % regions);
	}
	for (c = 0; c < NR_CONTESTANTS; c++) {
		a[c] = contestants[c]->create(regions);
		b[c] = contestants[c]->create(regions);
		fill(contestants[c], a[c], 0, regions);
		fill(contestants[c], b[c], 0, regions);
	}
	show_hits(a, b, regions, ms);
	for (c = 0; c < NR_CONTESTANTS; c++)
		contestants[c]->destroy(b[c]);
	show_changes(a, regions);
	for (c = 0; c < NR_CONTESTANTS; c++)
		contestants[c]->destroy(a[c]);
}

/*
 * Changes of disjoint ranges, each over a region that somebody holds, so that none
 * can be deregistered; or over none at all.  The mean of the first and of the last
 * thousand.
 */
static void pend(const struct contestant *by, bool held, double *ret_first,
		 double *ret_last)
{
	void **regions = calloc(PENDING, sizeof(*regions));
	void *cache = by->create(PENDING);
	uint64_t i, began;

	if (!regions)
		abort();
	for (i = 0; held && i < PENDING; i++)
		regions[i] = by->get(cache, BASE + i * STRIDE, SIZE);
	*ret_first = *ret_last = 0;
	for (i = 0; i < PENDING; i++) {
		began = bench_now();
		by->change(cache, BASE + i * STRIDE, SIZE);
		if (i < 1000)
			*ret_first += (double)(bench_now() - began) / 1000;
		if (i >= PENDING - 1000)
			*ret_last += (double)(bench_now() - began) / 1000;
	}
	for (i = 0; held && i < PENDING; i++)
		by->put(cache, regions[i]);
	by->destroy(cache);
	free(regions);
}

static void show_pending(bool held)
{
	struct figure first, last;
	unsigned int i;
	size_t c;

	for (i = 0; i < BENCH_REPETITIONS; i++)
		for (c = 0; c < NR_CONTESTANTS; c++)
			pend(contestants[c], held, &first.ns[c][i],
			     &last.ns[c][i]);
	show(held ? "change over a held region, first"
		  : "change over nothing, first",
	     held ? "cache-pending" : NULL, 1000, &first);
	show(held ? "change over a held region, last"
		  : "change over nothing, last",
	     held ? "cache-pending" : NULL, PENDING, &last);
}

int main(int argc, char **argv)
{
	static const uint64_t sizes[] = { 1, 100, 10000, 100000, MOST };
	unsigned int ms;
	size_t s, c;

#if HAVE_UCX
	ucx_prepare(argv);
#endif
	ms = bench_begin("cache", argc, argv);
#if !HAVE_UCX
	printf("UCX does not take part: libucx-dev is not installed\n");
#endif
	if (argc > 2) {
		table = fopen(argv[2], "w");
		if (!table) {
			perror(argv[2]);
			return 1;
		}
		fprintf(table, "figure\tseries\tx\tns\tmin\tmax\n");
	}
	/* Nothing else shall be there. */
	if (mmap((void *)BASE, (MOST + 1) * STRIDE, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
			 MAP_FIXED_NOREPLACE,
		 -1, 0) == MAP_FAILED)
		abort();
	if (mmn_state_create(&state))
		abort();
	printf("ns, median (fastest)%*s regions", 13, "");
	for (c = 0; c < NR_CONTESTANTS; c++)
		printf(" %16s", contestants[c]->name);
	printf("  libmmn / %s\n", contestants[NR_CONTESTANTS - 1]->name);
	for (s = 0; s < sizeof(sizes) / sizeof(*sizes); s++)
		contest(sizes[s], ms);
	show_pending(false);
	show_pending(true);
	mmn_state_put(state);
	if (table && fclose(table))
		return 1;
	return 0;
}
