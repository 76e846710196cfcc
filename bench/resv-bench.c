/* SPDX-License-Identifier: MIT */
/*
 * What it costs to ask whether a buffer is idle that has four fences, all
 * signalled: against taking a reference to each of them, with one thread and with
 * two, and against two threads that ask about buffers of their own.  And what it
 * costs a writer.
 */
#include <mmn/dma-resv.h>
#include <pthread.h>

#include "bench.h"

enum { NR_FENCES = 4 };

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

/* On lines of their own. */
struct buffer {
	_Alignas(128) struct dma_resv obj;
	_Alignas(128) struct dma_fence fences[NR_FENCES];
	struct dma_fence *slots[NR_FENCES];
};

static void init_buffer(struct buffer *buffer, bool signaled)
{
	unsigned int i;

	dma_resv_init(&buffer->obj);
	bench_use(dma_resv_lock(&buffer->obj, NULL));
	bench_use(dma_resv_reserve_fences(&buffer->obj, NR_FENCES));
	for (i = 0; i < NR_FENCES; i++) {
		struct dma_fence *fence = &buffer->fences[i];

		dma_fence_init(fence, &ops, NULL, i + 1, 1);
		dma_resv_add_fence(&buffer->obj, fence, DMA_RESV_USAGE_READ);
		buffer->slots[i] = fence;
	}
	dma_resv_unlock(&buffer->obj);
	for (i = 0; signaled && i < NR_FENCES; i++)
		dma_fence_signal(&buffer->fences[i]);
}

static void test(void *arg, uint64_t n)
{
	struct buffer *buffer = arg;
	uint64_t i;

	for (i = 0; i < n; i++)
		bench_use(dma_resv_test_signaled(&buffer->obj,
						 DMA_RESV_USAGE_READ));
}

static void test_strict(void *arg, uint64_t n)
{
	struct buffer *buffer = arg;
	uint64_t i;

	for (i = 0; i < n; i++)
		bench_use(dma_resv_test_signaled_strict(&buffer->obj,
							DMA_RESV_USAGE_READ));
}

/* As Linux does: each fence with a reference, found in its place. */
static void test_with_references(void *arg, uint64_t n)
{
	struct buffer *buffer = arg;
	uint64_t i;
	int k;

	for (i = 0; i < n; i++) {
		bool done = true;

		dma_fence_read_begin();
		for (k = 0; done && k < NR_FENCES; k++) {
			struct dma_fence *fence =
				dma_fence_get_rcu_safe(&buffer->slots[k]);

			done = dma_fence_is_signaled(fence);
			dma_fence_put(fence);
		}
		dma_fence_read_end();
		bench_use(done);
	}
}

static void test_with_lock(void *arg, uint64_t n)
{
	struct buffer *buffer = arg;
	uint64_t i;

	for (i = 0; i < n; i++) {
		bench_use(dma_resv_lock(&buffer->obj, NULL));
		bench_use(dma_resv_test_signaled(&buffer->obj,
						 DMA_RESV_USAGE_READ));
		dma_resv_unlock(&buffer->obj);
	}
}

/* A job on one timeline after the other: lock, reserve, add, unlock, signal. */
static void submit(void *arg, uint64_t n)
{
	struct buffer *buffer = arg;
	uint64_t i;

	for (i = 0; i < n; i++) {
		struct dma_fence *fence = &buffer->fences[i % NR_FENCES];

		bench_use(dma_resv_lock(&buffer->obj, NULL));
		bench_use(dma_resv_reserve_fences(&buffer->obj, 1));
		dma_fence_init(fence, &ops, NULL, 9, i);
		dma_resv_add_fence(&buffer->obj, fence, DMA_RESV_USAGE_READ);
		dma_resv_unlock(&buffer->obj);
		dma_fence_signal(fence);
	}
}

static void fence_and_lock(void *arg, uint64_t n)
{
	struct buffer *buffer = arg;
	uint64_t i;

	for (i = 0; i < n; i++) {
		struct dma_fence *fence = &buffer->fences[i % NR_FENCES];

		bench_use(dma_resv_lock(&buffer->obj, NULL));
		dma_fence_init(fence, &ops, NULL, 9, i);
		dma_resv_unlock(&buffer->obj);
		dma_fence_signal(fence);
	}
}

/* The same by two threads at once, on one buffer or on one each. */
struct crowd {
	void (*run)(void *arg, uint64_t n);
	void *own;
	void *others;
	uint64_t n;
};

static void *run_beside(void *arg)
{
	struct crowd *crowd = arg;

	crowd->run(crowd->others, crowd->n);
	return NULL;
}

static void run_twice(void *arg, uint64_t n)
{
	struct crowd *crowd = arg;
	pthread_t thread;

	crowd->n = n;
	pthread_create(&thread, NULL, run_beside, crowd);
	crowd->run(crowd->own, n);
	pthread_join(thread, NULL);
}

static struct bench_result by_two(void (*run)(void *arg, uint64_t n),
				  struct buffer *own, struct buffer *others,
				  unsigned int ms)
{
	struct crowd crowd = { run, own, others, 0 };

	return bench_measure(run_twice, &crowd, ms);
}

int main(int argc, char **argv)
{
	unsigned int ms = bench_begin("resv", argc, argv);
	static struct buffer a, b, pending, busy;
	struct bench_result references;

	init_buffer(&a, true);
	init_buffer(&b, true);
	init_buffer(&pending, false);
	dma_resv_init(&busy.obj);
	references = bench_measure(test_with_references, &a, ms);
	bench_line("test of 4 signalled fences", bench_measure(test, &a, ms),
		   "with references", references);
	bench_line("strict test of 4 signalled fences",
		   bench_measure(test_strict, &a, ms), "with references",
		   references);
	bench_line("test of 4 pending fences",
		   bench_measure(test, &pending, ms), "with references",
		   bench_measure(test_with_references, &pending, ms));
	bench_line("test of 4, two threads, one buffer",
		   by_two(test, &a, &a, ms), "a buffer each",
		   by_two(test, &a, &b, ms));
	bench_line("test of 4, two threads, one buffer",
		   by_two(test, &a, &a, ms), "with references",
		   by_two(test_with_references, &a, &a, ms));
	bench_line("test of 4 signalled fences", bench_measure(test, &a, ms),
		   "with the lock", bench_measure(test_with_lock, &a, ms));
	bench_line("lock, reserve, add, unlock, signal",
		   bench_measure(submit, &busy, ms), "lock, unlock, signal",
		   bench_measure(fence_and_lock, &busy, ms));
	return 0;
}
