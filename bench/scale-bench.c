/* SPDX-License-Identifier: MIT */
/*
 * How the cost grows with the number of subscriptions and of threads, here and
 * with the kernel's scheme (kernel-style.c), in one run.
 *
 * usage: scale-bench [MILLISECONDS [TABLE]]
 *
 * TABLE gets one line for each point: figure, series, x, nanoseconds (median,
 * smallest, largest).  scripts/plot.py draws it.
 */
/* Many short ones: some of them are not disturbed. */
#define BENCH_REPETITIONS 25
#include "bench.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include <mmn/notifier.h>

#include "base/atomic.h"
#include "kernel-style.h"

#define MOST 1000000
#define STRIDE (UINT64_C(1) << 14)
#define SIZE 4096

static FILE *table;
static unsigned int ms;

/* One point of one figure. */
struct point {
	const char *figure;
	const char *series;
	uint64_t x;
	struct bench_result result;
};

static struct point points[256];
static unsigned int nr_points;

static void point(const char *figure, const char *series, uint64_t x,
		  struct bench_result result)
{
	if (nr_points == sizeof(points) / sizeof(*points))
		abort();
	points[nr_points++] = (struct point){ figure, series, x, result };
	if (table)
		fprintf(table, "%s\t%s\t%llu\t%.2f\t%.2f\t%.2f\n", figure,
			series, (unsigned long long)x, result.median,
			result.min, result.max);
}

/* Other work on the machine makes things slower, never faster. */
static struct bench_result undisturbed(struct bench_result result)
{
	result.median = result.min;
	return result;
}

/*
 * Each point of libmmn against the others at the same place: the fastest
 * repetition of each.
 */
static void print_ratios(void)
{
	unsigned int i, j;
	char what[64];

	for (i = 0; i < nr_points; i++) {
		const struct point *a = &points[i];

		if (strcmp(a->series, "libmmn") != 0)
			continue;
		snprintf(what, sizeof(what), "%s %llu", a->figure,
			 (unsigned long long)a->x);
		for (j = 0; j < nr_points; j++) {
			const struct point *b = &points[j];

			if (strcmp(a->series, b->series) != 0 &&
			    !strcmp(a->figure, b->figure) && a->x == b->x)
				bench_line(what, undisturbed(a->result),
					   b->series, undisturbed(b->result));
		}
	}
}

/* ------------------------------------------------------------------ */
/* Both schemes behind one interface                                  */
/* ------------------------------------------------------------------ */

struct word {
	uint64_t value;
	uint64_t other;
} __attribute__((aligned(64)));

/*
 * struct side - one scheme
 * @insert, @remove: subscription number @i
 * @read_sections: @n begin+retry of subscription @i
 * @changes: @n start+end
 */
struct side {
	const char *name;
	void (*begin)(void);
	void (*finish)(void);
	void (*insert)(uint32_t i, uintptr_t start, uintptr_t last);
	void (*remove)(uint32_t i);
	void (*read_sections)(uint32_t i, uint64_t n);
	void (*changes)(uintptr_t start, uintptr_t last, uint64_t n);
	/* a thread; its argument is a struct holder */
	void *(*hold_open)(void *arg);
};

static struct mmn_state *state;
static struct mmn_range_subscription *subs;
static struct kernel_style kernel;
static struct kernel_style_sub *kernel_subs;

static uintptr_t start_of(uint32_t i)
{
	return (uintptr_t)i * STRIDE;
}

static bool invalidate(struct mmn_range_subscription *sub,
		       const struct mmn_invalidate_desc *desc, uint64_t cur_seq)
{
	(void)desc;
	mmn_range_set_seq(sub, cur_seq);
	return true;
}

static const struct mmn_range_ops ops = { .invalidate = invalidate };

static void *alloc(size_t size)
{
	void *memory = aligned_alloc(64, size);

	if (!memory)
		abort();
	/* Page faults are not what is measured. */
	return memset(memory, 0, size);
}

static void ours_begin(void)
{
	/* The callback takes no lock that a handler could find taken. */
	struct mmn_range_config config = { .size = sizeof(config),
					   .flags = MMN_RANGE_INTERRUPTIBLE,
					   .ops = &ops };
	uint32_t i;

	subs = alloc((MOST + 8) * sizeof(*subs));
	if (mmn_state_create(&state))
		abort();
	for (i = 0; i < MOST + 8; i++) {
		if (mmn_range_subscription_init(&subs[i], &config))
			abort();
	}
}

static void ours_finish(void)
{
	mmn_state_put(state);
	free(subs);
}

static void ours_insert(uint32_t i, uintptr_t start, uintptr_t last)
{
	if (mmn_range_subscription_insert(&subs[i], state, start, last))
		abort();
}

static void ours_remove(uint32_t i)
{
	if (mmn_range_subscription_remove(&subs[i]))
		abort();
}

static void ours_read_sections(uint32_t i, uint64_t n)
{
	while (n--) {
		uint64_t seq = mmn_range_read_begin(&subs[i]);

		bench_use(seq);
		bench_use(mmn_range_read_retry(&subs[i], seq));
	}
}

static void ours_changes(uintptr_t start, uintptr_t last, uint64_t n)
{
	struct mmn_invalidate_desc desc;

	while (n--) {
		mmn_invalidate_desc_init(&desc, state, MMN_EVENT_UNMAP, start,
					 last);
		if (mmn_invalidate_start(&desc) || mmn_invalidate_end(&desc))
			abort();
	}
}

static bool kernel_invalidate(struct kernel_style_sub *sub,
			      const struct kernel_style_desc *desc,
			      uint64_t cur_seq)
{
	(void)desc;
	kernel_style_set_seq(sub, cur_seq);
	return true;
}

static void kernel_begin(void)
{
	kernel_subs = alloc((MOST + 8) * sizeof(*kernel_subs));
	kernel_style_init(&kernel);
}

static void kernel_finish(void)
{
	kernel_style_destroy(&kernel);
	free(kernel_subs);
}

static void kernel_insert(uint32_t i, uintptr_t start, uintptr_t last)
{
	kernel_style_insert(&kernel, &kernel_subs[i], start, last,
			    kernel_invalidate);
}

static void kernel_remove(uint32_t i)
{
	kernel_style_remove(&kernel, &kernel_subs[i]);
}

static void kernel_read_sections(uint32_t i, uint64_t n)
{
	while (n--) {
		uint64_t seq =
			kernel_style_read_begin(&kernel, &kernel_subs[i]);

		bench_use(seq);
		bench_use(kernel_style_read_retry(&kernel_subs[i], seq));
	}
}

static void kernel_changes(uintptr_t start, uintptr_t last, uint64_t n)
{
	struct kernel_style_desc desc = { start, last, true };

	while (n--) {
		if (!kernel_style_start(&kernel, &desc))
			abort();
		kernel_style_end(&kernel, &desc);
	}
}

/* ------------------------------------------------------------------ */
/* A change that is held open by another thread                       */
/* ------------------------------------------------------------------ */

/* Subscription 0 is hit inside of a change over subscription 1. */
struct holder {
	uint32_t hold_ms;
	uint32_t is_open;
};

static void sleep_ms(uint32_t hold_ms)
{
	struct timespec time = { .tv_sec = hold_ms / 1000,
				 .tv_nsec = hold_ms % 1000 * 1000000L };

	nanosleep(&time, NULL);
}

static void say_open(struct holder *holder)
{
	/* release: the change is open */
	mmn_store_release(&holder->is_open, 1);
	sleep_ms(holder->hold_ms);
}

static void *ours_hold_open(void *arg)
{
	struct mmn_invalidate_desc desc;

	mmn_invalidate_desc_init(&desc, state, MMN_EVENT_UNMAP, start_of(1),
				 start_of(1));
	if (mmn_invalidate_start(&desc))
		abort();
	ours_changes(start_of(0), start_of(0), 1);
	say_open(arg);
	mmn_invalidate_end(&desc);
	return NULL;
}

static void *kernel_hold_open(void *arg)
{
	struct kernel_style_desc desc = { start_of(1), start_of(1), true };

	kernel_style_start(&kernel, &desc);
	kernel_changes(start_of(0), start_of(0), 1);
	say_open(arg);
	kernel_style_end(&kernel, &desc);
	return NULL;
}

static double one_wait(const struct side *side, uint32_t hold_ms)
{
	struct holder holder = { .hold_ms = hold_ms };
	pthread_t thread;
	uint64_t began;
	double ns;

	if (pthread_create(&thread, NULL, side->hold_open, &holder))
		abort();
	/* acquire: the change is open */
	while (!mmn_load_acquire(&holder.is_open))
		sched_yield();
	began = bench_now();
	side->read_sections(0, 1);
	ns = (double)(bench_now() - began);
	pthread_join(thread, NULL);
	return ns;
}

static void measure_waits(const struct side *side)
{
	static const uint32_t hold_ms[] = { 1, 5, 20, 50 };
	double ns[BENCH_REPETITIONS];
	unsigned int i, j;

	for (i = 0; i < sizeof(hold_ms) / sizeof(*hold_ms); i++) {
		for (j = 0; j < BENCH_REPETITIONS; j++)
			ns[j] = one_wait(side, hold_ms[i]);
		point("wait", side->name, hold_ms[i], bench_sort(ns));
	}
}

/* ------------------------------------------------------------------ */
/* Against the number of subscriptions                                */
/* ------------------------------------------------------------------ */

struct work {
	const struct side *side;
	uint32_t i;
	uintptr_t start;
	uintptr_t last;
};

static void run_changes(void *arg, uint64_t n)
{
	struct work *work = arg;

	work->side->changes(work->start, work->last, n);
}

/* Another place each time: what is not in the cache counts too. */
static void run_scattered_changes(void *arg, uint64_t n)
{
	/* Goes on, or each repetition would find its places in the cache. */
	static uint64_t random = 1;
	struct work *work = arg;

	while (n--) {
		uintptr_t start;

		random = random * UINT64_C(6364136223846793005) + 1;
		start = work->start +
			start_of((uint32_t)((random >> 33) * work->i >> 31));
		work->side->changes(start, start + work->last - work->start, 1);
	}
}

static void run_sections(void *arg, uint64_t n)
{
	struct work *work = arg;

	work->side->read_sections(work->i, n);
}

static void run_inserts(void *arg, uint64_t n)
{
	struct work *work = arg;

	while (n--) {
		work->side->insert(work->i, work->start, work->last);
		work->side->remove(work->i);
	}
}

static void run_inserts_in_section(void *arg, uint64_t n)
{
	struct mmn_signal_section section;

	mmn_signal_section_begin(&section);
	run_inserts(arg, n);
	mmn_signal_section_end(&section);
}

static void measure_size(const struct side *side, uint32_t n)
{
	struct work work = { .side = side };
	uint32_t middle = n / 2;

	work.start = start_of(middle) + SIZE + 64;
	work.last = work.start + SIZE - 1;
	point("miss", side->name, n, bench_measure(run_changes, &work, ms));

	work.start = start_of(MOST + 2);
	work.last = work.start + SIZE - 1;
	point("outside", side->name, n, bench_measure(run_changes, &work, ms));

	work.start = start_of(middle);
	work.last = work.start;
	point("hit", side->name, n, bench_measure(run_changes, &work, ms));

	work.i = n;
	work.start = SIZE + 64;
	work.last = work.start + SIZE - 1;
	point("miss-scattered", side->name, n,
	      bench_measure(run_scattered_changes, &work, ms));
	work.start = work.last = 0;
	point("hit-scattered", side->name, n,
	      bench_measure(run_scattered_changes, &work, ms));

	work.i = MOST + 1;
	work.start = start_of(middle) + 2 * SIZE;
	work.last = work.start + SIZE - 1;
	point("insert", side->name, n, bench_measure(run_inserts, &work, ms));
	if (side->insert == ours_insert)
		point("insert", "libmmn, in a section", n,
		      bench_measure(run_inserts_in_section, &work, ms));

	if (n == 100000) {
		work.start = start_of(middle);
		work.last = start_of(middle + 255);
		point("hit256", side->name, n,
		      bench_measure(run_changes, &work, ms));
	}
}

/* In an order that is neither that of memory nor that of addresses. */
static uint32_t scattered(uint32_t i)
{
	return (uint32_t)((uint64_t)i * 611953 % MOST);
}

static void measure_sizes(const struct side *side)
{
	uint32_t n, have = 0;

	for (n = 1; n <= MOST; n *= 10) {
		for (; have < n; have++)
			side->insert(scattered(have), start_of(have),
				     start_of(have) + SIZE - 1);
		measure_size(side, n);
	}
	while (have--)
		side->remove(scattered(have));
}

/* ------------------------------------------------------------------ */
/* Against the number of threads                                      */
/* ------------------------------------------------------------------ */

#define THREADS 4

struct runner {
	void (*run)(void *arg, uint64_t n);
	void *arg;
	uint64_t done;
	/* of the processor, without the time that others had it */
	uint64_t cpu_ns;
	pthread_t thread;
} __attribute__((aligned(64)));

static uint32_t go, stop;

static uint64_t cpu_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void *run_until_stopped(void *arg)
{
	struct runner *runner = arg;
	uint64_t done = 0, began;

	/* acquire: all are there */
	while (!mmn_load_acquire(&go))
		sched_yield();
	began = cpu_now();
	/* relaxed: a flag */
	do {
		runner->run(runner->arg, 256);
		done += 256;
	} while (!mmn_load_relaxed(&stop));
	runner->cpu_ns = cpu_now() - began;
	runner->done = done;
	return NULL;
}

/* Nanoseconds of one thread for one operation, in the mean of all. */
static double run_together(struct runner *runners, unsigned int threads)
{
	uint64_t began, took, done = 0;
	unsigned int i;

	go = stop = 0;
	for (i = 0; i < threads; i++) {
		if (pthread_create(&runners[i].thread, NULL, run_until_stopped,
				   &runners[i]))
			abort();
	}
	sleep_ms(1);
	began = bench_now();
	/* release: all are there */
	mmn_store_release(&go, 1);
	sleep_ms(5 * ms);
	/* relaxed: a flag */
	mmn_store_relaxed(&stop, 1);
	for (i = 0; i < threads; i++)
		pthread_join(runners[i].thread, NULL);
	took = bench_now() - began;
	for (i = 0; i < threads; i++)
		done += runners[i].done;
	return (double)took * threads / (double)done;
}

static void measure_together(const char *figure, const char *series,
			     struct runner *runners)
{
	double ns[BENCH_REPETITIONS];
	unsigned int threads, i;

	for (threads = 1; threads <= THREADS; threads *= 2) {
		for (i = 0; i < BENCH_REPETITIONS; i++)
			ns[i] = run_together(runners, threads);
		point(figure, series, threads, bench_sort(ns));
	}
}

/* What a reader could do at the very least, called the same way. */
__attribute__((noinline)) static uint64_t load_word(volatile uint64_t *word)
{
	return *word;
}

static void plain_loads(void *arg, uint64_t n)
{
	struct word *word = arg;

	while (n--) {
		uint64_t value = load_word(&word->value);

		bench_use(value);
		bench_use(load_word(&word->other) != value);
	}
}

static void init_control(struct runner *runners)
{
	static struct word words[THREADS];
	int i;

	for (i = 0; i < THREADS; i++) {
		runners[i].arg = &words[i];
		runners[i].run = plain_loads;
	}
}

/* The same of the processor's time: for what never waits. */
static double cpu_together(struct runner *runners, unsigned int threads,
			   double *ret_ns)
{
	uint64_t cpu_ns = 0, done = 0;
	unsigned int i;

	*ret_ns = run_together(runners, threads);
	for (i = 0; i < threads; i++) {
		cpu_ns += runners[i].cpu_ns;
		done += runners[i].done;
	}
	return (double)cpu_ns / (double)done;
}

/*
 * Readers against those that share nothing, in turns: what disturbs one slice
 * mostly disturbs the next one too, and two figures taken a minute apart say more
 * about other work on the machine than about each other.  Neither of them ever
 * waits, so time that others had the processor does not count.  The ratio is the
 * median of those of neighbouring slices.
 */
static void measure_readers(const struct side *side, struct runner *runners)
{
	double ns[BENCH_REPETITIONS], control_ns[BENCH_REPETITIONS];
	struct runner control[THREADS] = { 0 };
	double ratios[BENCH_REPETITIONS];
	struct bench_result ratio;
	unsigned int threads, i;

	init_control(control);
	for (threads = 1; threads <= THREADS; threads *= 2) {
		for (i = 0; i < BENCH_REPETITIONS; i++) {
			double theirs =
				cpu_together(control, threads, &control_ns[i]);

			ratios[i] =
				cpu_together(runners, threads, &ns[i]) / theirs;
		}
		point("begin-threads", side->name, threads, bench_sort(ns));
		point("begin-threads", "two loads, nothing shared", threads,
		      bench_sort(control_ns));
		ratio = bench_sort(ratios);
		printf("{\"what\": \"begin-threads %u, slice by slice\", "
		       "\"against\": \"two loads, nothing shared\", "
		       "\"ratio\": %.2f, \"min\": %.2f, \"max\": %.2f}\n",
		       threads, ratio.median, ratio.min, ratio.max);
		fflush(stdout);
	}
}

static void measure_threads(const struct side *side)
{
	struct runner runners[THREADS] = { 0 };
	struct work work[THREADS];
	uint32_t i;

	for (i = 0; i < 1000; i++)
		side->insert(i, start_of(i), start_of(i) + SIZE - 1);
	for (i = 0; i < THREADS; i++) {
		work[i] = (struct work){ .side = side, .i = i * 250 };
		runners[i].arg = &work[i];
		runners[i].run = run_sections;
	}
	if (side->insert == ours_insert)
		measure_readers(side, runners);
	else
		measure_together("begin-threads", side->name, runners);
	for (i = 0; i < THREADS; i++) {
		work[i].start = work[i].last = start_of(i * 250);
		runners[i].run = run_changes;
	}
	measure_together("hit-threads", side->name, runners);
	for (i = 0; i < THREADS; i++) {
		work[i].start = start_of(i * 250) + SIZE + 64;
		work[i].last = work[i].start + SIZE - 1;
	}
	measure_together("miss-threads", side->name, runners);
	for (i = 0; i < 1000; i++)
		side->remove(i);
}

static const struct side sides[] = {
	{ "libmmn", ours_begin, ours_finish, ours_insert, ours_remove,
	  ours_read_sections, ours_changes, ours_hold_open },
	{ "kernel-style", kernel_begin, kernel_finish, kernel_insert,
	  kernel_remove, kernel_read_sections, kernel_changes,
	  kernel_hold_open },
};

int main(int argc, char **argv)
{
	unsigned int i;

	ms = bench_begin("scale", argc > 1 ? 2 : 1, argv);
	if (argc > 2) {
		table = fopen(argv[2], "w");
		if (!table) {
			perror(argv[2]);
			return 1;
		}
		fputs("figure\tseries\tx\tns\tmin\tmax\n", table);
	}
	for (i = 0; i < 2; i++) {
		const struct side *side = &sides[i];

		side->begin();
		measure_threads(side);
		side->insert(0, start_of(0), start_of(0) + SIZE - 1);
		side->insert(1, start_of(1), start_of(1) + SIZE - 1);
		measure_waits(side);
		side->remove(0);
		side->remove(1);
		measure_sizes(side);
		side->finish();
	}
	print_ratios();
	return table && fclose(table) ? 1 : 0;
}
