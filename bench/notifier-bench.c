/* SPDX-License-Identifier: MIT */
/*
 * What the notifier costs: a read section, a change that misses, one that hits,
 * against what a driver would write by hand: plain loads, a mutex.
 */
#include "bench.h"

#include <pthread.h>
#include <stdbool.h>

#include <mmn/notifier.h>

#include "notifier/state.h"

#define MANY 100000
#define FEW 1000
#define MILLION 1000000
#define NR_MISSES 4096

struct fixture {
	struct mmn_state *state;
	struct mmn_range_subscription *subs;
	pthread_mutex_t driver;
	pthread_mutex_t mutex;
	uint64_t words[2];
	uintptr_t start;
	uintptr_t last;
	uint64_t calls;
};

static struct fixture fixture = {
	.driver = PTHREAD_MUTEX_INITIALIZER,
	.mutex = PTHREAD_MUTEX_INITIALIZER,
};

static bool invalidate(struct mmn_range_subscription *sub,
		       const struct mmn_invalidate_desc *desc, uint64_t cur_seq)
{
	(void)desc;
	fixture.calls++;
	mmn_range_set_seq(sub, cur_seq);
	return true;
}

static const struct mmn_range_ops ops = { .invalidate = invalidate };

static void insert(struct mmn_range_subscription *sub, uintptr_t start,
		   uintptr_t last)
{
	struct mmn_range_config config = {
		.size = sizeof(config),
		.flags = MMN_RANGE_INTERRUPTIBLE,
		.ops = &ops,
	};

	if (mmn_range_subscription_init(sub, &config) ||
	    mmn_range_subscription_insert(sub, fixture.state, start, last))
		abort();
}

/* Of one subscription: are its callbacks run with signals blocked? */
static void block_signals(size_t i, bool block)
{
	range_of(&fixture.subs[i])->lock.reserved =
		block ? 0 : MMN_RANGE_INTERRUPTIBLE;
}

static void read_sections(void *arg, uint64_t n)
{
	struct mmn_range_subscription *sub = arg;

	while (n--) {
		uint64_t seq = mmn_range_read_begin(sub);

		bench_use(seq);
		if (mmn_range_read_retry(sub, seq))
			abort();
	}
}

/* What a reader could do at the very least, called the same way. */
__attribute__((noinline)) static uint64_t load_word(volatile uint64_t *word)
{
	return *word;
}

static void plain_loads(void *arg, uint64_t n)
{
	struct fixture *f = arg;

	while (n--) {
		uint64_t a = load_word(&f->words[0]);

		bench_use(a);
		if (load_word(&f->words[1]) != a)
			abort();
	}
}

static void changes(void *arg, uint64_t n)
{
	struct fixture *f = arg;
	struct mmn_invalidate_desc desc;

	while (n--) {
		mmn_invalidate_desc_init(&desc, f->state, MMN_EVENT_UNMAP,
					 f->start, f->last);
		if (mmn_invalidate_start(&desc) || mmn_invalidate_end(&desc))
			abort();
	}
}

static uint64_t seed = 1;

static uint64_t random_bits(void)
{
	seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	return seed >> 20;
}

/* Somewhere in 128 TiB, page by page. */
static uintptr_t random_page(void)
{
	return (uintptr_t)(random_bits() % (UINT64_C(1) << 35)) << 12;
}

/* Changes at many places, so that what they look at is not in the cache. */
static void changes_all_over(void *arg, uint64_t n)
{
	const uintptr_t *starts = arg;
	struct mmn_invalidate_desc desc;

	while (n--) {
		uintptr_t start = starts[n % NR_MISSES];

		mmn_invalidate_desc_init(&desc, fixture.state, MMN_EVENT_UNMAP,
					 start, start + 4095);
		if (mmn_invalidate_start(&desc) || mmn_invalidate_end(&desc))
			abort();
	}
}

static void mutex_pairs(void *arg, uint64_t n)
{
	struct fixture *f = arg;

	while (n--) {
		pthread_mutex_lock(&f->mutex);
		bench_use(f);
		pthread_mutex_unlock(&f->mutex);
	}
}

static void inserts(void *arg, uint64_t n)
{
	struct mmn_range_subscription *sub = arg;

	while (n--) {
		if (mmn_range_subscription_insert(sub, fixture.state, 1000,
						  1999) ||
		    mmn_range_subscription_remove(sub))
			abort();
	}
}

static void inserts_in_section(void *arg, uint64_t n)
{
	struct mmn_signal_section section;

	mmn_signal_section_begin(&section);
	inserts(arg, n);
	mmn_signal_section_end(&section);
}

/* Back and forth between two ranges, to see what one resize costs. */
static void resizes(void *arg, uint64_t n)
{
	struct mmn_range_subscription *sub = arg;

	while (n--)
		if (mmn_range_subscription_resize(sub, 1000,
						  n % 2 ? 1999 : 2999))
			abort();
}

/* The same by hand: nobody watches in between. */
static void removes_and_inserts(void *arg, uint64_t n)
{
	struct mmn_range_subscription *sub = arg;

	while (n--)
		if (mmn_range_subscription_remove(sub) ||
		    mmn_range_subscription_insert(sub, fixture.state, 1000,
						  n % 2 ? 1999 : 2999))
			abort();
}

static void resizes_in_section(void *arg, uint64_t n)
{
	struct mmn_signal_section section;

	mmn_signal_section_begin(&section);
	resizes(arg, n);
	mmn_signal_section_end(&section);
}

static void range_stats(void *arg, uint64_t n)
{
	struct mmn_range_stats stats = { .size = sizeof(stats) };

	while (n--) {
		if (mmn_range_get_stats(arg, &stats))
			abort();
		bench_use(stats.callbacks);
	}
}

static void state_stats(void *arg, uint64_t n)
{
	struct mmn_state_stats stats = { .size = sizeof(stats) };
	struct fixture *f = arg;

	while (n--) {
		if (mmn_state_get_stats(f->state, &stats))
			abort();
		bench_use(stats.hits);
	}
}

/* ------------------------------------------------------------------ */
/* The same in another thread at the same time                        */
/* ------------------------------------------------------------------ */

struct companion {
	void (*run)(void *arg, uint64_t n);
	void *arg;
	bool stop;
	pthread_t thread;
};

static void *keep_company(void *arg)
{
	struct companion *companion = arg;

	/* relaxed: a flag */
	while (!mmn_load_relaxed(&companion->stop))
		companion->run(companion->arg, 100);
	return NULL;
}

static struct bench_result measure_beside(void (*run)(void *, uint64_t),
					  void *arg,
					  void (*other)(void *, uint64_t),
					  void *other_arg, unsigned int ms)
{
	struct companion companion = { .run = other, .arg = other_arg };
	struct bench_result result;

	if (pthread_create(&companion.thread, NULL, keep_company, &companion))
		abort();
	result = bench_measure(run, arg, ms);
	/* relaxed: a flag */
	mmn_store_relaxed(&companion.stop, true);
	pthread_join(companion.thread, NULL);
	return result;
}

/* ------------------------------------------------------------------ */
/* With a million subscriptions                                       */
/* ------------------------------------------------------------------ */

/* 4 KiB each: side by side with gaps, far apart, or anywhere. */
struct layout {
	const char *name;
	unsigned int distance;
	uintptr_t gap;
};

static const struct layout layouts[] = {
	{ "16 KiB apart", 14, 8192 },
	{ "1 MiB apart", 20, 1 << 19 },
	{ "at random", 0, 0 },
};

/* One of them is resized, and what was counted is asked for. */
static void measure_resize(struct mmn_range_subscription *sub, unsigned int ms,
			   struct bench_result loads, struct bench_result pair)
{
	struct bench_result by_hand;

	by_hand = bench_measure(removes_and_inserts, sub, ms);
	bench_line("resize, among 100000", bench_measure(resizes, sub, ms),
		   "remove+insert", by_hand);
	bench_line("resize in a section, among 100000",
		   bench_measure(resizes_in_section, sub, ms), "remove+insert",
		   by_hand);
	bench_line("statistics of a subscription",
		   bench_measure(range_stats, sub, ms), "two calls that load",
		   loads);
	bench_line("statistics of a state with 100000",
		   bench_measure(state_stats, &fixture, ms), "mutex pair",
		   pair);
}

static void measure_million(const struct layout *layout, unsigned int ms,
			    struct bench_result pair)
{
	struct mmn_range_subscription *subs;
	static uintptr_t starts[NR_MISSES];
	struct bench_result result;
	char what[80];
	int i;

	subs = aligned_alloc(64, MILLION * sizeof(*subs));
	if (!subs)
		abort();
	for (i = 1; i < MILLION; i++) {
		uintptr_t start = layout->distance
					  ? (uintptr_t)i << layout->distance
					  : random_page();

		insert(&subs[i], start, start + 4095);
	}
	for (i = 0; i < NR_MISSES; i++)
		starts[i] = layout->distance ? (random_bits() % MILLION
						<< layout->distance) +
						       layout->gap
					     : random_page();
	snprintf(what, sizeof(what), "start+end, between 1000000 %s",
		 layout->name);
	result = bench_measure(changes_all_over, starts, ms);
	bench_line(what, result, "mutex pair", pair);
	insert(&subs[0], 1000, 1999);
	mmn_range_subscription_remove(&subs[0]);
	snprintf(what, sizeof(what), "insert+remove, 1000000 %s", layout->name);
	result = bench_measure(inserts, &subs[0], ms);
	bench_line(what, result, "mutex pair", pair);
	snprintf(what, sizeof(what), "insert+remove in a section, 1000000 %s",
		 layout->name);
	result = bench_measure(inserts_in_section, &subs[0], ms);
	bench_line(what, result, "mutex pair", pair);
	printf("{\"bytes of the filter for each of 1000000 %s\": %.1f}\n",
	       layout->name,
	       (double)filter_bytes(&fixture.state->filter) / MILLION);
	for (i = 1; i < MILLION; i++)
		mmn_range_subscription_remove(&subs[i]);
	free(subs);
}

int main(int argc, char **argv)
{
	unsigned int ms = bench_begin("notifier", argc, argv);
	struct bench_result loads, pair, pair2, result;
	struct fixture other;
	int i;

	if (mmn_state_create(&fixture.state))
		abort();
	fixture.subs = aligned_alloc(64, MANY * sizeof(*fixture.subs));
	if (!fixture.subs)
		abort();
	printf("{\"bytes\": {\"subscription\": %zu, \"change\": %zu, "
	       "\"state\": %zu}}\n",
	       sizeof(struct mmn_range_subscription),
	       sizeof(struct mmn_invalidate_desc), sizeof(struct mmn_state));

	loads = bench_measure(plain_loads, &fixture, ms);
	pair = bench_measure(mutex_pairs, &fixture, ms);
	pair2 = measure_beside(mutex_pairs, &fixture, mutex_pairs, &fixture,
			       ms);

	fixture.start = 1 << 20;
	fixture.last = fixture.start + 4095;
	result = bench_measure(changes, &fixture, ms);
	bench_line("start+end, nobody subscribed", result, "mutex pair", pair);
	other = fixture;
	other.start += 1 << 20;
	other.last += 1 << 20;
	result = measure_beside(changes, &fixture, changes, &other, ms);
	bench_line("start+end, nobody subscribed, 2 threads", result,
		   "mutex pair, 2 threads", pair2);

	insert(&fixture.subs[0], 1000, 1999);
	result = bench_measure(read_sections, &fixture.subs[0], ms);
	bench_line("read_begin+read_retry, idle", result, "two calls that load",
		   loads);
	result = measure_beside(read_sections, &fixture.subs[0], changes,
				&other, ms);
	bench_line("read_begin+read_retry, other thread changes elsewhere",
		   result, "two calls that load", loads);
	result = bench_measure(changes, &fixture, ms);
	bench_line("start+end, outside of the hull", result, "mutex pair",
		   pair);
	mmn_range_subscription_remove(&fixture.subs[0]);
	result = bench_measure(inserts, &fixture.subs[0], ms);
	bench_line("insert+remove, nothing else", result, "mutex pair", pair);
	result = bench_measure(inserts_in_section, &fixture.subs[0], ms);
	bench_line("insert+remove in a section, nothing else", result,
		   "mutex pair", pair);

	for (i = 0; i < FEW; i++)
		insert(&fixture.subs[i], (uintptr_t)i << 20,
		       ((uintptr_t)i << 20) + 4095);
	fixture.start = ((uintptr_t)(FEW / 2) << 20) + (1 << 19);
	fixture.last = fixture.start + 4095;
	result = bench_measure(changes, &fixture, ms);
	bench_line("start+end, between 1000", result, "mutex pair", pair);
	for (i = 0; i < FEW; i++)
		mmn_range_subscription_remove(&fixture.subs[i]);

	for (i = 0; i < MANY; i++)
		insert(&fixture.subs[i], (uintptr_t)i << 14,
		       ((uintptr_t)i << 14) + 4095);
	fixture.start = (uintptr_t)(MANY / 2) << 14;
	fixture.last = fixture.start;
	result = bench_measure(changes, &fixture, ms);
	bench_line("start+end, one hit of 100000", result, "mutex pair", pair);
	block_signals(fixture.start >> 14, true);
	result = bench_measure(changes, &fixture, ms);
	bench_line("start+end, one hit of 100000, signals blocked around it",
		   result, "mutex pair", pair);
	block_signals(fixture.start >> 14, false);
	fixture.last = fixture.start + ((uintptr_t)255 << 14);
	result = bench_measure(changes, &fixture, ms);
	bench_line("start+end, 256 hits of 100000", result, "mutex pair", pair);
	fixture.last = fixture.start;
	other.start = (uintptr_t)(MANY / 3) << 14;
	other.last = other.start;
	result = measure_beside(changes, &fixture, changes, &other, ms);
	bench_line("start+end, one hit of 100000, 2 threads", result,
		   "mutex pair, 2 threads", pair2);
	fixture.start += 8192;
	fixture.last = fixture.start + 4095;
	result = bench_measure(changes, &fixture, ms);
	bench_line("start+end, close to one of 100000", result, "mutex pair",
		   pair);
	measure_resize(&fixture.subs[0], ms, loads, pair);
	for (i = 0; i < MANY; i++)
		mmn_range_subscription_remove(&fixture.subs[i]);
	free(fixture.subs);
	for (i = 0; i < 3; i++)
		measure_million(&layouts[i], ms, pair);
	mmn_state_put(fixture.state);
	return 0;
}
