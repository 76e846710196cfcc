/* SPDX-License-Identifier: MIT */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H
/*
 * A benchmark measures a thing and its alternative in one process and prints
 * the ratio: the figures of one machine mean nothing on another, ratios do.
 *
 * Each measurement is the median of several repetitions after a warm-up, in
 * nanoseconds for one operation.  With an argument on the command line it takes
 * so many milliseconds for one repetition, 20 without.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <time.h>

#ifndef BENCH_REPETITIONS
#define BENCH_REPETITIONS 7
#endif

/* Keep the compiler from doing away with what is measured. */
#define bench_use(value) __asm__ __volatile__("" : : "r"(value) : "memory")

struct bench_result {
	double min;
	double median;
	double max;
};

static inline uint64_t bench_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static inline int bench_compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static inline struct bench_result bench_sort(double *ns)
{
	struct bench_result result;

	qsort(ns, BENCH_REPETITIONS, sizeof(*ns), bench_compare);
	result.min = ns[0];
	result.median = ns[BENCH_REPETITIONS / 2];
	result.max = ns[BENCH_REPETITIONS - 1];
	return result;
}

static inline double bench_once(void (*run)(void *arg, uint64_t n), void *arg,
				uint64_t n)
{
	uint64_t began = bench_now();

	run(arg, n);
	return (double)(bench_now() - began) / (double)n;
}

/* How many operations fill @ms milliseconds. */
static inline uint64_t bench_calibrate(void (*run)(void *arg, uint64_t n),
				       void *arg, unsigned int ms)
{
	uint64_t n = 16;
	double ns;

	for (;;) {
		ns = bench_once(run, arg, n);
		if (ns * (double)n > 1e6 || n > UINT64_C(1) << 30)
			break;
		n *= 4;
	}
	return (uint64_t)((double)ms * 1e6 / (ns > 0.1 ? ns : 0.1)) + 1;
}

static inline struct bench_result
bench_measure(void (*run)(void *arg, uint64_t n), void *arg, unsigned int ms)
{
	uint64_t n = bench_calibrate(run, arg, ms);
	double ns[BENCH_REPETITIONS];
	int i;

	for (i = 0; i < BENCH_REPETITIONS; i++)
		ns[i] = bench_once(run, arg, n);
	return bench_sort(ns);
}

static inline void bench_line(const char *what, struct bench_result ours,
			      const char *alternative,
			      struct bench_result theirs)
{
	printf("{\"what\": \"%s\", \"ns\": %.2f, \"min\": %.2f, \"max\": %.2f, "
	       "\"against\": \"%s\", \"against_ns\": %.2f, \"ratio\": %.2f}\n",
	       what, ours.median, ours.min, ours.max, alternative,
	       theirs.median, ours.median / theirs.median);
	fflush(stdout);
}

static inline unsigned int bench_begin(const char *name, int argc, char **argv)
{
	unsigned int ms = argc > 1 ? (unsigned int)atoi(argv[1]) : 20;
	struct utsname host;

	uname(&host);
	printf("{\"bench\": \"%s\", \"machine\": \"%s\", \"kernel\": \"%s\", "
	       "\"compiler\": \"%s\", \"ms\": %u}\n",
	       name, host.machine, host.release, __VERSION__, ms);
	return ms ? ms : 1;
}

#endif
