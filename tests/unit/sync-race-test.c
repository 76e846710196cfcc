/* SPDX-License-Identifier: MIT */
/* Objects under threads that replace, wait, watch, signal and tear down. */
#include "t/tap.h"

#include <mmn/inject.h>
#include <mmn/sync.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { NR_ROUNDS = T_TSAN ? 150 : 600, NR_POINTS = T_TSAN ? 300 : 1500 };

static struct mmn_sw_sync *timeline;
static struct mmn_syncobj *object;

static void begin(void)
{
	t_may_keep_mapped(64 << 20, "the thread that frees stays");
	t_err(mmn_sw_sync_create("time", &timeline), 0);
	t_err(mmn_syncobj_create(0, &object), 0);
	t_err(mmn_inject_set(MMN_INJECT_DELAY, 3, 1), 0);
}

static void end(void)
{
	mmn_inject_clear();
	mmn_syncobj_put(object);
	mmn_sw_sync_destroy(timeline);
	dma_fence_barrier();
}

static struct dma_fence *at(uint32_t value)
{
	struct dma_fence *fence = NULL;

	t_err(mmn_sw_sync_create_fence(timeline, value, &fence), 0);
	return fence;
}

static void *submit(void *arg)
{
	uint32_t i;

	for (i = 1; i <= NR_POINTS; i++) {
		struct dma_fence *fence = at(i);

		t_err(mmn_syncobj_add_point(object, i, fence), 0);
		dma_fence_put(fence);
	}
	return NULL;
}

static void *signal_all(void *arg)
{
	int i;

	for (i = 0; i < NR_POINTS; i++)
		t_err(mmn_sw_sync_inc(timeline, 1), 0);
	return NULL;
}

/* Each point is waited for before and after it is there. */
static void *wait_for_points(void *arg)
{
	uint64_t point, step = *(uint64_t *)arg;
	uint64_t reached = 0, last = 0;

	for (point = step; point <= NR_POINTS; point += step) {
		struct mmn_syncobj_wait wait = {
			.size = sizeof(wait),
			.flags = MMN_SYNCOBJ_WAIT_FOR_SUBMIT,
			.objects = &object,
			.points = &point,
			.count = 1,
			.deadline = DMA_FENCE_NEVER,
		};

		t_err(mmn_syncobj_wait(&wait), 0);
		t_err(mmn_syncobj_query(object, 0, &reached), 0);
		t_ge(reached, point);
		t_ge(reached, last);
		last = reached;
	}
	return NULL;
}

TEST(points_are_submitted_signalled_and_waited_for, .timeout = 60)
{
	static uint64_t steps[2] = { 1, 7 };
	pthread_t threads[4];
	int i;

	begin();
	t_err(pthread_create(&threads[0], NULL, wait_for_points, &steps[0]), 0);
	t_err(pthread_create(&threads[1], NULL, wait_for_points, &steps[1]), 0);
	t_err(pthread_create(&threads[2], NULL, submit, NULL), 0);
	t_err(pthread_create(&threads[3], NULL, signal_all, NULL), 0);
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	end();
}

static bool stop;

static void *replace_and_reset(void *arg)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		struct dma_fence *fence = at(1);

		t_err(mmn_syncobj_replace_fence(object, fence), 0);
		t_err(mmn_syncobj_reset(object), 0);
		t_err(mmn_syncobj_signal(object), 0);
		dma_fence_put(fence);
	}
	return NULL;
}

/* A wait ends however it likes, and leaves nothing behind. */
static void *wait_shortly(void *arg)
{
	struct mmn_syncobj *both[2] = { object, object };
	uint32_t i;

	for (i = 0; i < NR_ROUNDS; i++) {
		struct mmn_syncobj_wait wait = {
			.size = sizeof(wait),
			.flags = i % 8,
			.objects = both,
			.count = 2,
		};
		int ret = mmn_syncobj_wait(&wait);

		t_ok(!ret || ret == -ETIMEDOUT || ret == -EINVAL);
	}
	return NULL;
}

static void *watch_shortly(void *arg)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	uint32_t i;

	for (i = 0; i < NR_ROUNDS; i++)
		t_err(mmn_syncobj_eventfd(object, 0, i % 2 ? 4 : 0, fd), 0);
	close(fd);
	return NULL;
}

TEST(waits_and_eventfds_while_fences_are_replaced, .timeout = 60)
{
	pthread_t threads[4];
	int i;

	begin();
	t_err(pthread_create(&threads[0], NULL, replace_and_reset, NULL), 0);
	t_err(pthread_create(&threads[1], NULL, wait_shortly, NULL), 0);
	t_err(pthread_create(&threads[2], NULL, wait_shortly, NULL), 0);
	t_err(pthread_create(&threads[3], NULL, watch_shortly, NULL), 0);
	for (i = 1; i < 4; i++)
		pthread_join(threads[i], NULL);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(threads[0], NULL);
	/* The notices that were left wait for a fence of the timeline. */
	t_err(mmn_sw_sync_inc(timeline, 1), 0);
	end();
}

static pthread_barrier_t barrier;

static void *signal_once(void *arg)
{
	int i;

	for (i = 0; i < NR_ROUNDS; i++) {
		pthread_barrier_wait(&barrier);
		t_err(mmn_sw_sync_inc(timeline, 1), 0);
		pthread_barrier_wait(&barrier);
	}
	return NULL;
}

/* The object goes while its eventfd is told. */
TEST(an_object_goes_while_its_fence_signals, .timeout = 60)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_t thread;
	int i, nr_told = 0;

	begin();
	t_eq(pthread_barrier_init(&barrier, NULL, 2), 0);
	t_err(pthread_create(&thread, NULL, signal_once, NULL), 0);
	for (i = 1; i <= NR_ROUNDS; i++) {
		struct dma_fence *fence = at((uint32_t)i);
		struct mmn_syncobj *shortly;
		uint64_t count = 0;

		t_err(mmn_syncobj_create(0, &shortly), 0);
		t_err(mmn_syncobj_eventfd(shortly, 0, 0, fd), 0);
		t_err(mmn_syncobj_replace_fence(shortly, fence), 0);
		dma_fence_put(fence);
		pthread_barrier_wait(&barrier);
		mmn_syncobj_put(shortly);
		pthread_barrier_wait(&barrier);
		if (read(fd, &count, sizeof(count)) == sizeof(count))
			t_eq(count, 1);
		nr_told += (int)count;
	}
	pthread_join(thread, NULL);
	t_note("told %d of %d", nr_told, (int)NR_ROUNDS);
	pthread_barrier_destroy(&barrier);
	close(fd);
	end();
}
