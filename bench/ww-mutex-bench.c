/* SPDX-License-Identifier: MIT */
/*
 * Locks of a set against pthread mutexes, which know neither order nor contexts:
 * alone, as sets, and where two threads want the same.
 */
#include "bench/bench.h"

#include <mmn/exec.h>
#include <mmn/ww-mutex.h>
#include <pthread.h>

enum { SET = 8 };

static DEFINE_WD_CLASS(bench_class);
static struct ww_mutex locks[SET];
static pthread_mutex_t mutexes[SET];
static uint64_t count;

static void lock_alone(void *arg, uint64_t n)
{
	while (n--) {
		bench_use(ww_mutex_lock(&locks[0], NULL));
		ww_mutex_unlock(&locks[0]);
	}
}

static void mutex_alone(void *arg, uint64_t n)
{
	while (n--) {
		pthread_mutex_lock(&mutexes[0]);
		bench_use(n);
		pthread_mutex_unlock(&mutexes[0]);
	}
}

static void lock_with_context(void *arg, uint64_t n)
{
	struct ww_acquire_ctx ctx;

	ww_acquire_init(&ctx, &bench_class);
	while (n--) {
		bench_use(ww_mutex_lock(&locks[0], &ctx));
		ww_mutex_unlock(&locks[0]);
	}
	ww_acquire_fini(&ctx);
}

static void lock_set(void *arg, uint64_t n)
{
	struct mmn_exec exec;
	int i;

	while (n--) {
		mmn_exec_init(&exec, &bench_class, 0);
		mmn_exec_until_all_locked(&exec) for (i = 0; i < SET; i++)
			bench_use(mmn_exec_lock(&exec, &locks[i]));
		mmn_exec_fini(&exec);
	}
}

static void mutex_set(void *arg, uint64_t n)
{
	int i;

	while (n--) {
		for (i = 0; i < SET; i++)
			pthread_mutex_lock(&mutexes[i]);
		bench_use(n);
		for (i = SET; i > 0; i--)
			pthread_mutex_unlock(&mutexes[i - 1]);
	}
}

struct half {
	void (*run)(void *arg, uint64_t n);
	uint64_t n;
};

static void *run_half(void *arg)
{
	struct half *half = arg;

	half->run(NULL, half->n);
	return NULL;
}

/* The same lock from two threads; n of both together. */
static void run_twice(void *arg, uint64_t n)
{
	struct half half = *(struct half *)arg;
	pthread_t thread;

	half.n = n / 2;
	if (pthread_create(&thread, NULL, run_half, &half))
		abort();
	run_half(&half);
	pthread_join(thread, NULL);
}

static void hold(void)
{
	int i;

	for (i = 0; i < 300; i++)
		bench_use(count++);
}

static void lock_and_hold(void *arg, uint64_t n)
{
	struct ww_acquire_ctx ctx;

	while (n--) {
		ww_acquire_init(&ctx, &bench_class);
		bench_use(ww_mutex_lock(&locks[0], &ctx));
		hold();
		ww_mutex_unlock(&locks[0]);
		ww_acquire_fini(&ctx);
	}
}

static void mutex_and_hold(void *arg, uint64_t n)
{
	while (n--) {
		pthread_mutex_lock(&mutexes[0]);
		hold();
		pthread_mutex_unlock(&mutexes[0]);
	}
}

int main(int argc, char **argv)
{
	unsigned int ms = bench_begin("ww-mutex", argc, argv);
	struct bench_result alone;
	int i;

	for (i = 0; i < SET; i++) {
		ww_mutex_init(&locks[i], &bench_class);
		pthread_mutex_init(&mutexes[i], NULL);
	}
	alone = bench_measure(mutex_alone, NULL, ms);
	bench_line("lock, unlock", bench_measure(lock_alone, NULL, ms),
		   "pthread mutex", alone);
	bench_line("lock, unlock with a context",
		   bench_measure(lock_with_context, NULL, ms), "pthread mutex",
		   alone);
	bench_line("a set of 8", bench_measure(lock_set, NULL, ms),
		   "8 pthread mutexes", bench_measure(mutex_set, NULL, ms));
	bench_line("two threads, a lock that is held for a while",
		   bench_measure(run_twice, &(struct half){ lock_and_hold, 0 },
				 ms),
		   "pthread mutex",
		   bench_measure(run_twice, &(struct half){ mutex_and_hold, 0 },
				 ms));
	return 0;
}
