/* SPDX-License-Identifier: MIT */
/*
 * Waiting for fences.  The numbers in comments are those of the conformance
 * cases.
 */
#include "t/tap.h"

#include <mmn/dma-fence.h>
#include <mmn/inject.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define BIT(name) (1ul << DMA_FENCE_FLAG_##name##_BIT)

static const char *name(struct dma_fence *fence)
{
	return "test";
}

static void release(struct dma_fence *fence)
{
}

static unsigned int nr_enabled;

static bool enable(struct dma_fence *fence)
{
	nr_enabled++;
	return true;
}

static const struct dma_fence_ops ops = {
	.get_driver_name = name,
	.get_timeline_name = name,
	.enable_signaling = enable,
	.release = release,
};

static int64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

struct later {
	pthread_t thread;
	struct dma_fence *fence;
	struct dma_fence_cancel *cancel;
	unsigned int us;
};

static void *act_later(void *arg)
{
	struct later *later = arg;

	usleep(later->us);
	if (later->fence)
		dma_fence_signal(later->fence);
	if (later->cancel)
		dma_fence_cancel_raise(later->cancel);
	return NULL;
}

static void begin_later(struct later *later)
{
	t_err(pthread_create(&later->thread, NULL, act_later, later), 0);
}

/* 35, 36, 37 */
TEST(a_wait_that_need_not_sleep)
{
	struct dma_fence fence;

	dma_fence_init(&fence, &ops, NULL, 1, 1);
	t_eq(dma_fence_wait_timeout(&fence, false, 0), 0);
	t_eq(nr_enabled, 1);
	t_err(dma_fence_wait_until(&fence, false, 0), -ETIMEDOUT);
	t_err(dma_fence_signal(&fence), 0);
	t_eq(dma_fence_wait_timeout(&fence, false, 0), 1);
	t_eq(dma_fence_wait_timeout(&fence, false, 1234), 1234);
	t_eq(dma_fence_default_wait(&fence, false, 5), 5);
	t_eq(dma_fence_wait(&fence, false), 0);
	t_err(dma_fence_wait_until(&fence, false, 0), 0);
	t_bug_expected("negative time");
	t_err(dma_fence_wait_timeout(&fence, false, -1), -EINVAL);
	t_bug_expected("negative time");
	t_err(dma_fence_default_wait(&fence, false, LONG_MIN), -EINVAL);
}

/* 38 */
TEST(a_timeout_takes_its_time)
{
	struct dma_fence fence;
	int64_t began = now();

	dma_fence_init(&fence, &ops, NULL, 1, 1);
	t_eq(dma_fence_wait_timeout(&fence, false, 20), 0);
	t_ge(now() - began, 20000000);
	began = now();
	t_err(dma_fence_wait_until(&fence, false, began + 5000000), -ETIMEDOUT);
	t_ge(now() - began, 5000000);
}

/* 39 */
TEST(a_signal_in_time_leaves_the_rest)
{
	struct dma_fence fence;
	struct later later = { .fence = &fence, .us = 10000 };
	long left;

	dma_fence_init(&fence, &ops, NULL, 1, 1);
	begin_later(&later);
	left = dma_fence_wait_timeout(&fence, false, 10000);
	t_gt(left, 0);
	t_lt(left, 10000);
	pthread_join(later.thread, NULL);
	dma_fence_init(&fence, &ops, NULL, 1, 2);
	begin_later(&later);
	t_eq(dma_fence_wait(&fence, true), 0);
	pthread_join(later.thread, NULL);
	dma_fence_init(&fence, &ops, NULL, 1, 3);
	begin_later(&later);
	t_err(dma_fence_wait_until(&fence, false, DMA_FENCE_NEVER), 0);
	pthread_join(later.thread, NULL);
}

/* 40 */
TEST(a_success_is_never_a_timeout)
{
	int i, in_time = 0;

	for (i = 0; i < 300; i++) {
		struct dma_fence fence;
		struct later later = { .fence = &fence, .us = 900 };
		int64_t ended;
		long left;

		dma_fence_init(&fence, &ops, NULL, 1, 1);
		begin_later(&later);
		left = dma_fence_wait_timeout(&fence, false, 1);
		ended = now();
		pthread_join(later.thread, NULL);
		in_time += left > 0;
		if (!left)
			t_ge(dma_fence_timestamp(&fence) + 1000000000, ended);
		/* What had signalled long before the end is a success. */
		if (dma_fence_timestamp(&fence) < ended - 500000000)
			t_gt(left, 0);
	}
	t_note("%d of 300 in time", in_time);
}

/* 41, 42 */
TEST(a_cancelled_wait)
{
	struct dma_fence_cancel cancel = { 0 };
	struct dma_fence fence, *array[2] = { &fence, &fence };
	struct later raise = { .cancel = &cancel, .us = 10000 };
	struct later finish = { .fence = &fence, .us = 10000 };

	dma_fence_init(&fence, &ops, NULL, 1, 1);
	t_ok(!dma_fence_cancel_bind(&cancel));
	begin_later(&raise);
	t_err(dma_fence_wait(&fence, true), -ERESTARTSYS);
	pthread_join(raise.thread, NULL);
	/* It stays raised, and is looked at before a poll gives up. */
	t_err(dma_fence_wait_timeout(&fence, true, 0), -ERESTARTSYS);
	t_err(dma_fence_wait_timeout(&fence, true, 1000), -ERESTARTSYS);
	t_err(dma_fence_wait_until(&fence, true, DMA_FENCE_NEVER),
	      -ERESTARTSYS);
	t_err(dma_fence_wait_any_timeout(array, 2, true, 1000, NULL),
	      -ERESTARTSYS);
	t_err(dma_fence_wait_all_timeout(array, 2, true, 1000), -ERESTARTSYS);
	/* Who does not want to hear of it does not. */
	t_eq(dma_fence_wait_timeout(&fence, false, 1), 0);
	begin_later(&finish);
	t_eq(dma_fence_wait(&fence, false), 0);
	pthread_join(finish.thread, NULL);
	/* What has signalled is a success all the same. */
	t_eq(dma_fence_wait(&fence, true), 0);
	t_eq(dma_fence_wait_timeout(&fence, true, 7), 7);
	t_ok(dma_fence_cancel_clear(&cancel));
	t_ok(!dma_fence_cancel_clear(&cancel));
	/* A thread with one bound sleeps by callback: that works, too. */
	dma_fence_init(&fence, &ops, NULL, 1, 2);
	begin_later(&finish);
	t_gt(dma_fence_wait_timeout(&fence, true, 10000), 0);
	pthread_join(finish.thread, NULL);
	t_ok(dma_fence_cancel_bind(NULL) == &cancel);
}

/* 43 */
TEST(a_wait_enables_even_what_has_signalled)
{
	struct dma_fence fence;

	dma_fence_init(&fence, &ops, NULL, 1, 1);
	t_err(dma_fence_signal(&fence), 0);
	t_eq(fence.flags & BIT(ENABLE_SIGNAL), 0);
	t_eq(dma_fence_wait(&fence, false), 0);
	t_ne(fence.flags & BIT(ENABLE_SIGNAL), 0);
	t_eq(nr_enabled, 0);
}

static void *wait_for(void *arg)
{
	return (void *)dma_fence_wait(arg, false);
}

/* 44 */
TEST(one_signal_wakes_everybody)
{
	struct dma_fence fence;
	pthread_t threads[64];
	void *ret;
	int i;

	dma_fence_init(&fence, &ops, NULL, 1, 1);
	for (i = 0; i < 64; i++)
		t_err(pthread_create(&threads[i], NULL, wait_for, &fence), 0);
	usleep(10000);
	t_err(dma_fence_signal(&fence), 0);
	for (i = 0; i < 64; i++) {
		pthread_join(threads[i], &ret);
		t_eq((long)ret, 0);
	}
}

/* 45 */
TEST(waiting_for_any_of_several)
{
	enum { NR = 100 };
	struct dma_fence *fences[NR], storage[NR];
	struct later later = { .fence = &storage[70], .us = 10000 };
	uint32_t index = 99;
	int i;

	for (i = 0; i < NR; i++) {
		fences[i] = &storage[i];
		dma_fence_init(fences[i], &ops, NULL, 1, (uint64_t)i);
	}
	t_err(dma_fence_wait_any_timeout(fences, 0, false, 1, &index), -EINVAL);
	t_err(dma_fence_wait_any_timeout(NULL, 3, false, 1, &index), -EINVAL);
	t_err(dma_fence_wait_any_timeout(fences, 3, false, -1, &index),
	      -EINVAL);
	t_eq(dma_fence_wait_any_timeout(fences, 3, false, 0, &index), 0);
	t_eq(dma_fence_wait_any_timeout(fences, 3, false, 2, NULL), 0);
	t_eq(index, 99);
	begin_later(&later);
	t_gt(dma_fence_wait_any_timeout(fences, NR, false, 10000, &index), 0);
	t_eq(index, 70);
	pthread_join(later.thread, NULL);
	t_err(dma_fence_signal(fences[5]), 0);
	t_err(dma_fence_signal(fences[3]), 0);
	t_eq(dma_fence_wait_any_timeout(fences, 8, false, 44, &index), 44);
	t_eq(index, 3);
	t_eq(dma_fence_wait_any_timeout(fences, 8, false, 0, &index), 1);
	t_eq(dma_fence_wait_any_timeout(fences, 8, false, 9, NULL), 9);
	/* No callback is left: a put would report it. */
	for (i = 0; i < NR; i++)
		dma_fence_put(fences[i]);
	t_eq(t_bugs_seen(), 0);
}

TEST(what_has_signalled_is_found_before_others_are_troubled)
{
	struct dma_fence storage[3], *fences[3];
	uint32_t index;
	int i;

	for (i = 0; i < 3; i++) {
		fences[i] = &storage[i];
		dma_fence_init(fences[i], &ops, NULL, 1, (uint64_t)i);
	}
	t_err(dma_fence_signal(fences[2]), 0);
	t_eq(dma_fence_wait_any_timeout(fences, 3, false, 5, &index), 5);
	t_eq(index, 2);
	t_eq(nr_enabled, 0);
}

TEST(waiting_for_many_may_lack_memory)
{
	struct dma_fence fence, *fences[65];
	int i;

	dma_fence_init(&fence, &ops, NULL, 1, 1);
	for (i = 0; i < 65; i++)
		fences[i] = &fence;
	t_err(mmn_inject_set(MMN_INJECT_ALLOC, 1, 1), 0);
	t_err(dma_fence_wait_any_timeout(fences, 65, false, 1, NULL), -ENOMEM);
	t_eq(dma_fence_wait_any_timeout(fences, 64, false, 1, NULL), 0);
	t_ok(!dma_fence_allocate_private_stub(1));
	mmn_inject_clear();
}

TEST(waiting_for_all_of_several)
{
	struct dma_fence storage[3], *fences[3];
	struct later later[3];
	int i;

	for (i = 0; i < 3; i++) {
		fences[i] = &storage[i];
		later[i].fence = fences[i];
		later[i].cancel = NULL;
		later[i].us = 3000u * (unsigned int)(3 - i);
		dma_fence_init(fences[i], &ops, NULL, 1, (uint64_t)i);
	}
	t_eq(dma_fence_wait_all_timeout(fences, 3, false, 0), 0);
	t_eq(dma_fence_wait_all_timeout(fences, 3, false, 5), 0);
	t_err(dma_fence_wait_all_timeout(fences, 3, false, -1), -EINVAL);
	t_err(dma_fence_wait_all_timeout(NULL, 1, false, 1), -EINVAL);
	t_eq(dma_fence_wait_all_timeout(NULL, 0, false, 6), 6);
	for (i = 0; i < 3; i++)
		begin_later(&later[i]);
	t_gt(dma_fence_wait_all_timeout(fences, 3, false, 10000), 0);
	for (i = 0; i < 3; i++) {
		t_ok(dma_fence_test_signaled_flag(fences[i]));
		pthread_join(later[i].thread, NULL);
	}
	t_eq(dma_fence_wait_all_timeout(fences, 3, false, 0), 1);
	t_eq(dma_fence_wait_all_timeout(fences, 3, false, 8), 8);
}

static long wait_op_timeout;

static long own_wait(struct dma_fence *fence, bool intr, long timeout)
{
	wait_op_timeout = timeout;
	return timeout > 50 ? 3 : 0;
}

static const struct dma_fence_ops wait_ops = {
	.get_driver_name = name,
	.get_timeline_name = name,
	.wait = own_wait,
	.release = release,
};

TEST(a_producer_may_wait_in_its_own_way)
{
	struct dma_fence fence;

	dma_fence_init(&fence, &wait_ops, NULL, 1, 1);
	t_eq(dma_fence_wait_timeout(&fence, false, 99), 3);
	t_eq(wait_op_timeout, 99);
	t_eq(dma_fence_wait(&fence, false), 0);
	t_err(dma_fence_wait_until(&fence, false, DMA_FENCE_NEVER), 0);
	t_err(dma_fence_wait_until(&fence, false, now() + 1000), -ETIMEDOUT);
	t_err(dma_fence_wait_until(&fence, false, 0), -ETIMEDOUT);
	t_eq(wait_op_timeout, 0);
}

/* 46 */
TEST(waiting_on_the_way_to_a_signal_is_reported)
{
	struct dma_fence fence;
	bool outer, inner;

	t_need_selfcheck();
	dma_fence_init(&fence, &ops, NULL, 1, 1);
	outer = dma_fence_begin_signalling();
	inner = dma_fence_begin_signalling();
	t_ok(!outer);
	t_ok(inner);
	t_bug_expected("waits on the way to a signal");
	dma_fence_wait_timeout(&fence, false, 0);
	dma_fence_end_signalling(inner);
	t_bug_expected("waits on the way to a signal");
	dma_fence_might_wait();
	t_bug_expected("waits on the way to a signal");
	dma_fence_wait_all_timeout(NULL, 0, false, 0);
	dma_fence_end_signalling(outer);
	dma_fence_might_wait();
	t_eq(t_bugs_seen(), 3);
	t_bug_expected("outside one");
	dma_fence_end_signalling(outer);
	mmn_spin_lock(fence.lock);
	t_bug_expected("with a spin lock held");
	dma_fence_might_wait();
	mmn_spin_unlock(fence.lock);
}

/* 47 */
TEST(a_lock_that_is_held_and_needed_is_reported_once)
{
	static const int A, B;
	bool cookie;
	int i;

	t_need_selfcheck();
	t_bug_expected("producer.c:20 is held across a wait, taken at "
		       "consumer.c:10");
	for (i = 0; i < 2; i++) {
		dma_fence_lock_acquired(&A, "consumer.c", 10);
		dma_fence_might_wait();
		dma_fence_lock_released(&A);
		cookie = dma_fence_begin_signalling();
		dma_fence_lock_acquired(&A, "producer.c", 20);
		dma_fence_lock_released(&A);
		dma_fence_end_signalling(cookie);
	}
	t_eq(t_bugs_seen(), 1);
	/* The other order, on another lock; and a lock that is let go first. */
	cookie = dma_fence_begin_signalling();
	dma_fence_lock_acquired(&B, "producer.c", 30);
	dma_fence_lock_released(&B);
	dma_fence_end_signalling(cookie);
	dma_fence_lock_acquired(&B, "consumer.c", 40);
	dma_fence_lock_released(&B);
	dma_fence_might_wait();
	t_eq(t_bugs_seen(), 1);
	t_bug_expected("producer.c:30 is held across a wait, taken at "
		       "consumer.c:50");
	dma_fence_lock_acquired(&B, "consumer.c", 50);
	dma_fence_might_wait();
	dma_fence_lock_released(&B);
}
