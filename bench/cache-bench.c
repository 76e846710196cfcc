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
 * each: two processors may share a core.  Both are measured in short slices, in
 * turn, and compared slice by slice, because the machine changes meanwhile.
 *
 * A change is not over with its end: what it took out has to be deregistered, and
 * some leave that to the next get.  So there are also a change and getting again what
 * it took out, by the clock; and the processor time that this costs all threads.
 */
#define BENCH_REPETITIONS 15
#include "bench.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

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
/* For what is not deregistered yet: others have no limit. */
#define ROOM 16384
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
		.max_regions = (uint32_t)regions + ROOM,
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

static const struct contestant mmn_contestant = {
	"libmmn", mmn_create, mmn_get, mmn_put, mmn_change, mmn_destroy, false
};
static const struct contestant locked_contestant = {
	"mutex and tree", locked_create,  locked_get, locked_put,
	locked_change,	  locked_destroy, false
};
static const struct contestant nothing_contestant = {
	"nothing",	nothing_create,	 nothing_get, nothing_put,
	nothing_change, nothing_destroy, false
};

/* The first one is compared with the last one. */
static const struct contestant *const contestants[] = {
	&mmn_contestant,	&nothing_contestant, &locked_contestant,
#if HAVE_UCX
	&ucx_prompt_contestant, &ucx_contestant,
#endif
};

#define NR_CONTESTANTS (sizeof(contestants) / sizeof(*contestants))

/* ------------------------------------------------------------------ */

static uint32_t picks[NR_PICKS];
static FILE *table;

/* The repetitions of one figure; of some contestants none. */
struct figure {
	double ns[NR_CONTESTANTS][BENCH_REPETITIONS];
};

static bool takes_part(const struct figure *figure, size_t c)
{
	return figure->ns[c][0] != 0;
}

/* One line of what is printed, and a point for each in the table. */
static void show(const char *what, const char *name, uint64_t x,
		 struct figure *figure)
{
	struct bench_result results[NR_CONTESTANTS];
	size_t c;

	printf("%-34s %8llu", what, (unsigned long long)x);
	for (c = 0; c < NR_CONTESTANTS; c++) {
		if (!takes_part(figure, c)) {
			printf(" %17s", "-");
			continue;
		}
		results[c] = bench_sort(figure->ns[c]);
		printf(" %9.2f (%.2f)", results[c].median, results[c].min);
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
	/* where it goes on in picks */
	uint64_t at;
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
					     picks[(job->at + i) % NR_PICKS] *
						     STRIDE,
				     512));
	job->at += n;
}

/* So many slices of each kind in one repetition. */
#define SLICES 31
#define SLICE_NS 300000

/* Two threads that do the same at the same time. */
struct duo {
	const struct contestant *by;
	/* of each thread: its own, and the common one */
	void *caches[2][2];
	uint64_t n;
	_Atomic uint32_t arrived;
	double ns[2][2][SLICES];
};

struct duo_member {
	struct duo *duo;
	int me;
};

/* Both are there: no sleep, which one of the two would notice later. */
static void meet(struct duo *duo, uint32_t meeting)
{
	atomic_fetch_add_explicit(&duo->arrived, 1, memory_order_acq_rel);
	while (atomic_load_explicit(&duo->arrived, memory_order_acquire) <
	       2 * meeting)
		sched_yield();
}

static void *duo_thread(void *arg)
{
	struct duo_member *member = arg;
	struct duo *duo = member->duo;
	int me = member->me, slice, kind;
	/* Not the regions that the other one has just brought in. */
	struct job jobs[2] = {
		{ duo->by, duo->caches[me][0], (uint64_t)me * NR_PICKS / 2 },
		{ duo->by, duo->caches[me][1], (uint64_t)me * NR_PICKS / 2 },
	};
	uint32_t meeting = 0;
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(me, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
	/* The first look at each costs more. */
	hit(&jobs[0], 1000);
	hit(&jobs[1], 1000);
	for (slice = 0; slice < SLICES; slice++)
		for (kind = 0; kind < 2; kind++) {
			meet(duo, ++meeting);
			duo->ns[kind][me][slice] =
				bench_once(hit, &jobs[kind], duo->n);
		}
	return NULL;
}

static double median(double *values)
{
	qsort(values, SLICES, sizeof(*values), bench_compare);
	return values[SLICES / 2];
}

/* One repetition: the medians of both kinds, and that of their ratios. */
static void two_threads(const struct contestant *by, void *a, void *b,
			double ns, double *ret_each, double *ret_shared,
			double *ret_ratio)
{
	struct duo duo = { .by = by,
			   .caches = { { a, a }, { b, a } },
			   .n = (uint64_t)(SLICE_NS / ns) + 1 };
	struct duo_member members[2] = { { &duo, 0 }, { &duo, 1 } };
	double kinds[2][SLICES], ratios[SLICES];
	pthread_t threads[2];
	int k, i;

	for (k = 0; k < 2; k++)
		if (pthread_create(&threads[k], NULL, duo_thread, &members[k]))
			abort();
	for (k = 0; k < 2; k++)
		pthread_join(threads[k], NULL);
	for (i = 0; i < SLICES; i++) {
		for (k = 0; k < 2; k++)
			kinds[k][i] = (duo.ns[k][0][i] + duo.ns[k][1][i]) / 2;
		ratios[i] = kinds[1][i] / kinds[0][i];
	}
	*ret_each = median(kinds[0]);
	*ret_shared = median(kinds[1]);
	*ret_ratio = median(ratios);
}

static void fill(const struct contestant *by, void *cache, uint64_t first,
		 uint64_t nr)
{
	uint64_t i;

	for (i = first; i < first + nr; i++)
		by->put(cache, by->get(cache, BASE + i * STRIDE, SIZE));
}

static double processor_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* What a change costs, one with getting again, and all threads. */
enum { CHANGE, CYCLE, PROCESSOR, NR_COSTS };

/* Changes over @k of @regions regions: 0: over the hole behind one. */
static void changes(const struct contestant *by, void *cache, uint64_t regions,
		    uint64_t k, unsigned int turn, double *ret_costs)
{
	unsigned int i, nr = k > 16 ? CHANGES / 16 : CHANGES;
	uint64_t began, ended, first, change = 0, cycle = 0;
	double processor = processor_ns();

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
		ended = bench_now();
		fill(by, cache, first, k);
		cycle += bench_now() - began;
		change += ended - began;
	}
	/* What is left to a thread of its own is done in a moment. */
	usleep(1000);
	ret_costs[CHANGE] = (double)change / nr;
	ret_costs[CYCLE] = (double)cycle / nr;
	ret_costs[PROCESSOR] = (processor_ns() - processor) / nr;
}

/* ------------------------------------------------------------------ */

static const uint64_t over[] = { 0, 1, 16, 256 };

#define NR_OVER (sizeof(over) / sizeof(*over))

static struct figure costs_of[NR_OVER][NR_COSTS];

/* Those whose hits are measured, or the others. */
static void measure_changes(void **caches, uint64_t regions, bool changes_only)
{
	double costs[NR_COSTS];
	unsigned int i, cost;
	size_t k, c;

	for (k = 0; k < NR_OVER && over[k] <= regions; k++)
		for (i = 0; i < BENCH_REPETITIONS; i++)
			for (c = 0; c < NR_CONTESTANTS; c++) {
				if (contestants[c]->changes_only !=
				    changes_only)
					continue;
				changes(contestants[c], caches[c], regions,
					over[k], i, costs);
				for (cost = 0; cost < NR_COSTS; cost++)
					costs_of[k][cost].ns[c][i] =
						costs[cost];
			}
}

static void show_changes(uint64_t regions)
{
	static const char *const names[NR_COSTS] = { "cache-change",
						     "cache-cycle",
						     "cache-processor" };
	unsigned int cost;
	char what[64];
	size_t k;

	for (k = 0; k < NR_OVER && over[k] <= regions; k++)
		for (cost = 0; cost < (over[k] ? NR_COSTS : 1); cost++) {
			if (cost == CYCLE)
				strcpy(what, "  and getting them again");
			else if (cost == PROCESSOR)
				strcpy(what, "  processor time of that");
			else
				snprintf(what, sizeof(what),
					 "change over %u regions",
					 (unsigned int)over[k]);
			show(what, over[k] == 1 ? names[cost] : NULL, regions,
			     &costs_of[k][cost]);
		}
}

static void show_hits(void **a, void **b, uint64_t regions, unsigned int ms)
{
	static struct figure one, each, shared, ratio;
	struct job job;
	unsigned int i;
	uint64_t n[NR_CONTESTANTS];
	size_t c;

	for (c = 0; c < NR_CONTESTANTS; c++) {
		if (contestants[c]->changes_only)
			continue;
		job = (struct job){ contestants[c], a[c], 0 };
		n[c] = bench_calibrate(hit, &job, ms);
	}
	for (i = 0; i < BENCH_REPETITIONS; i++)
		for (c = 0; c < NR_CONTESTANTS; c++) {
			if (contestants[c]->changes_only)
				continue;
			job = (struct job){ contestants[c], a[c], 0 };
			one.ns[c][i] = bench_once(hit, &job, n[c]);
			two_threads(contestants[c], a[c], b[c], one.ns[c][i],
				    &each.ns[c][i], &shared.ns[c][i],
				    &ratio.ns[c][i]);
		}
	show("hit, one thread", "cache-hit", regions, &one);
	show("hit, two threads, a cache each", "cache-hit-each", regions,
	     &each);
	show("hit, two threads, one cache", "cache-hit-shared", regions,
	     &shared);
	show("  one cache / a cache each", "cache-ratio", regions, &ratio);
}

static void open_caches(void **caches, uint64_t regions, bool changes_only)
{
	size_t c;

	for (c = 0; c < NR_CONTESTANTS; c++) {
		if (contestants[c]->changes_only != changes_only)
			continue;
		caches[c] = contestants[c]->create(regions);
		fill(contestants[c], caches[c], 0, regions);
	}
}

static void close_caches(void **caches, bool changes_only)
{
	size_t c;

	for (c = 0; c < NR_CONTESTANTS; c++)
		if (contestants[c]->changes_only == changes_only)
			contestants[c]->destroy(caches[c]);
}

static void contest(uint64_t regions, unsigned int ms)
{
	void *a[NR_CONTESTANTS], *b[NR_CONTESTANTS];
	uint64_t seed = 88172645463325252;
	uint32_t i;

	for (i = 0; i < NR_PICKS; i++) {
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		picks[i] = (uint32_t)(seed % regions);
	}
	open_caches(a, regions, false);
	open_caches(b, regions, false);
	show_hits(a, b, regions, ms);
	close_caches(b, false);
	measure_changes(a, regions, false);
	close_caches(a, false);
	/* Apart, because all caches of UCX in a process hear of all changes. */
	open_caches(a, regions, true);
	measure_changes(a, regions, true);
	close_caches(a, true);
	show_changes(regions);
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
