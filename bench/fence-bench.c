/* SPDX-License-Identifier: MIT */
/*
 * What a fence costs when nobody waits for it, against what cannot be saved: one
 * reference pair and one look at the clock.  What a look at it costs, against
 * doing it with a reference.  What waking costs, against a bare futex.  Whether a
 * chain minds the order of its signals.
 */
#include <linux/futex.h>
#include <mmn/dma-fence-chain.h>
#include <mmn/dma-fence.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"

static const char *name(struct dma_fence *fence)
{
	(void)fence;
	return "bench";
}

static void release(struct dma_fence *fence)
{
	(void)fence;
}

static const struct dma_fence_ops ops = {
	.get_driver_name = name,
	.get_timeline_name = name,
	.release = release,
};

static void life(void *arg, uint64_t n)
{
	struct dma_fence *fence = arg;
	uint64_t i;

	for (i = 0; i < n; i++) {
		dma_fence_init(fence, &ops, NULL, 1, i);
		dma_fence_signal(fence);
		dma_fence_put(fence);
	}
}

static void reference_and_clock(void *arg, uint64_t n)
{
	struct dma_fence *fence = arg;
	uint64_t i;

	dma_fence_init(fence, &ops, NULL, 1, 1);
	for (i = 0; i < n; i++) {
		dma_fence_get(fence);
		bench_use(bench_now());
		dma_fence_put(fence);
	}
}

static void callback(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	(void)fence;
	bench_use(cb);
}

static void life_with_callback(void *arg, uint64_t n)
{
	struct dma_fence *fence = arg;
	struct dma_fence_cb cb;
	uint64_t i;

	for (i = 0; i < n; i++) {
		dma_fence_init(fence, &ops, NULL, 1, i);
		bench_use(dma_fence_add_callback(fence, &cb, callback));
		dma_fence_signal(fence);
		dma_fence_put(fence);
	}
}

static void look(void *arg, uint64_t n)
{
	uint64_t i;

	for (i = 0; i < n; i++) {
		dma_fence_read_begin();
		bench_use(dma_fence_test_signaled_flag(arg));
		dma_fence_read_end();
	}
}

static void look_with_reference(void *arg, uint64_t n)
{
	uint64_t i;

	for (i = 0; i < n; i++) {
		dma_fence_read_begin();
		bench_use(dma_fence_get_rcu(arg));
		dma_fence_read_end();
		bench_use(dma_fence_test_signaled_flag(arg));
		dma_fence_put(arg);
	}
}

/* Two threads wake each other in turns: there and back is one operation. */
struct turns {
	uint64_t n;
	struct dma_fence *there;
	struct dma_fence *back;
	uint32_t word;
};

static void init_all(struct dma_fence *fences, uint64_t n)
{
	uint64_t i;

	for (i = 0; i < n; i++)
		dma_fence_init(&fences[i], &ops, NULL, 1, i);
}

static void *answer_fences(void *arg)
{
	struct turns *turns = arg;
	uint64_t i;

	for (i = 0; i < turns->n; i++) {
		dma_fence_wait(&turns->there[i], false);
		dma_fence_signal(&turns->back[i]);
	}
	return NULL;
}

static void wake_fences(void *arg, uint64_t n)
{
	struct turns turns = { .n = n };
	pthread_t thread;
	uint64_t i;

	(void)arg;
	turns.there = calloc(n, sizeof(*turns.there));
	turns.back = calloc(n, sizeof(*turns.back));
	init_all(turns.there, n);
	init_all(turns.back, n);
	pthread_create(&thread, NULL, answer_fences, &turns);
	for (i = 0; i < n; i++) {
		dma_fence_signal(&turns.there[i]);
		dma_fence_wait(&turns.back[i], false);
	}
	pthread_join(thread, NULL);
	free(turns.there);
	free(turns.back);
}

static void await_word(uint32_t *word, uint32_t value)
{
	uint32_t seen;

	while ((seen = __atomic_load_n(word, __ATOMIC_ACQUIRE)) != value)
		syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL);
}

static void set_word(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1);
}

static void *answer_futex(void *arg)
{
	struct turns *turns = arg;
	uint32_t i;

	for (i = 0; i < turns->n; i++) {
		await_word(&turns->word, 2 * i + 1);
		set_word(&turns->word, 2 * i + 2);
	}
	return NULL;
}

static void wake_futex(void *arg, uint64_t n)
{
	struct turns turns = { .n = n };
	pthread_t thread;
	uint32_t i;

	(void)arg;
	pthread_create(&thread, NULL, answer_futex, &turns);
	for (i = 0; i < n; i++) {
		set_word(&turns.word, 2 * i + 1);
		await_word(&turns.word, 2 * i + 2);
	}
	pthread_join(thread, NULL);
}

static void poll_64_signaled_last(void *arg, uint64_t n)
{
	struct dma_fence fences[64], *pointers[64];
	uint32_t index;
	uint64_t i;

	(void)arg;
	for (i = 0; i < 64; i++) {
		pointers[i] = &fences[i];
		dma_fence_init(&fences[i], &ops, NULL, 1, i);
	}
	dma_fence_signal(&fences[63]);
	for (i = 0; i < n; i++)
		bench_use(dma_fence_wait_any_timeout(pointers, 64, false, 1000,
						     &index));
}

static void look_64_times(void *arg, uint64_t n)
{
	uint64_t i;
	int j;

	for (i = 0; i < n; i++)
		for (j = 0; j < 64; j++)
			bench_use(dma_fence_test_signaled_flag(arg));
}

/* The same by two threads at once. */
struct crowd {
	void (*run)(void *arg, uint64_t n);
	void *arg;
	uint64_t n;
};

static void *run_beside(void *arg)
{
	struct crowd *crowd = arg;

	crowd->run(crowd->arg, crowd->n);
	return NULL;
}

static void run_twice(void *arg, uint64_t n)
{
	struct crowd *crowd = arg;
	pthread_t thread;

	crowd->n = n;
	pthread_create(&thread, NULL, run_beside, crowd);
	crowd->run(crowd->arg, n);
	pthread_join(thread, NULL);
}

enum { NR_LINKS = 4096 };

/* Make a chain, wait at each node, signal all: in one order or the other. */
static void signal_chain(void *arg, uint64_t n)
{
	static struct dma_fence fences[NR_LINKS];
	static struct dma_fence_cb cbs[NR_LINKS];
	const bool *newest_first = arg;
	uint64_t i, k;

	for (i = 0; i < n; i++) {
		struct dma_fence *last = NULL;

		for (k = 0; k < NR_LINKS; k++) {
			struct dma_fence_chain *chain = dma_fence_chain_alloc();

			dma_fence_init(&fences[k], &ops, NULL, 1, k);
			dma_fence_chain_init(chain, last, &fences[k], k + 1);
			last = &chain->base;
			bench_use(dma_fence_add_callback(last, &cbs[k],
							 callback));
		}
		for (k = 0; k < NR_LINKS; k++)
			dma_fence_signal(
				&fences[*newest_first ? NR_LINKS - 1 - k : k]);
		dma_fence_put(last);
		dma_fence_barrier();
	}
}

int main(int argc, char **argv)
{
	unsigned int ms = bench_begin("fence", argc, argv);
	struct dma_fence fence;
	struct bench_result floor;

	floor = bench_measure(reference_and_clock, &fence, ms);
	bench_line("init, signal, put", bench_measure(life, &fence, ms),
		   "reference pair and clock", floor);
	bench_line("init, add callback, signal, put",
		   bench_measure(life_with_callback, &fence, ms),
		   "reference pair and clock", floor);
	dma_fence_init(&fence, &ops, NULL, 1, 1);
	bench_line("look under RCU", bench_measure(look, &fence, ms),
		   "look with a reference",
		   bench_measure(look_with_reference, &fence, ms));
	bench_line(
		"look under RCU, two threads",
		bench_measure(run_twice, &(struct crowd){ look, &fence, 0 },
			      ms),
		"look with a reference, two threads",
		bench_measure(run_twice,
			      &(struct crowd){ look_with_reference, &fence, 0 },
			      ms));
	bench_line("chain of 4096, newest first",
		   bench_measure(signal_chain, &(bool){ true }, ms),
		   "oldest first",
		   bench_measure(signal_chain, &(bool){ false }, ms));
	bench_line("wait any of 64, last one done",
		   bench_measure(poll_64_signaled_last, &fence, ms), "64 looks",
		   bench_measure(look_64_times, &fence, ms));
	bench_line("wake and be woken by fences",
		   bench_measure(wake_fences, NULL, ms), "by futexes",
		   bench_measure(wake_futex, NULL, ms));
	return 0;
}
