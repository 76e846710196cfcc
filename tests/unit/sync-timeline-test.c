/* SPDX-License-Identifier: MIT */
/*
 * A timeline that is advanced by hand.  The numbers in comments are those of the
 * conformance cases.
 */
#include "t/tap.h"
#include "unit/answer-syscall.h"

#include <limits.h>
#include <mmn/inject.h>
#include <mmn/sync.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static struct mmn_sw_sync *create(void)
{
	struct mmn_sw_sync *timeline = NULL;

	t_may_keep_mapped(64 << 20, "the thread that frees stays");
	t_err(mmn_sw_sync_create("time", &timeline), 0);
	return timeline;
}

static struct dma_fence *at(struct mmn_sw_sync *timeline, uint32_t value)
{
	struct dma_fence *fence = NULL;

	t_err(mmn_sw_sync_create_fence(timeline, value, &fence), 0);
	return fence;
}

static void destroy(struct mmn_sw_sync *timeline)
{
	mmn_sw_sync_destroy(timeline);
	dma_fence_barrier();
}

TEST(a_fence_signals_at_its_value)
{
	struct mmn_sw_sync *timeline = create();
	struct dma_fence *one = at(timeline, 1), *three = at(timeline, 3);
	struct dma_fence *two = at(timeline, 2), *none = at(timeline, 0);

	t_eq(dma_fence_get_status(none), 1);
	t_err(mmn_sw_sync_inc(timeline, 0), 0);
	t_eq(dma_fence_get_status(one), 0);
	t_err(mmn_sw_sync_inc(timeline, 2), 0);
	t_eq(dma_fence_get_status(one), 1);
	t_eq(dma_fence_get_status(two), 1);
	t_eq(dma_fence_get_status(three), 0);
	t_ok(dma_fence_is_later(three, two));
	t_eq(one->context, three->context);
	t_err(mmn_sw_sync_inc(timeline, 100), 0);
	t_eq(dma_fence_get_status(three), 1);
	dma_fence_put(none);
	dma_fence_put(one);
	dma_fence_put(two);
	dma_fence_put(three);
	destroy(timeline);
}

/* 98 */
TEST(values_wrap)
{
	struct mmn_sw_sync *timeline = create();
	struct dma_fence *far = at(timeline, INT_MAX), *past, *wrapped;
	struct dma_fence *behind = at(timeline, 0x80000000u);

	t_eq(dma_fence_get_status(behind), 1);
	dma_fence_put(behind);
	t_err(mmn_sw_sync_inc(timeline, INT_MAX), 0);
	t_eq(dma_fence_get_status(far), 1);
	past = at(timeline, 0x80000001u);
	t_eq(dma_fence_get_status(past), 0);
	t_err(mmn_sw_sync_inc(timeline, 0x7ffffff0u), 0);
	t_eq(dma_fence_get_status(past), 1);
	wrapped = at(timeline, 1);
	t_eq(dma_fence_get_status(wrapped), 0);
	t_err(mmn_sw_sync_inc(timeline, 17), 0);
	t_eq(dma_fence_get_status(wrapped), 0);
	t_err(mmn_sw_sync_inc(timeline, 1), 0);
	t_eq(dma_fence_get_status(wrapped), 1);
	dma_fence_put(far);
	dma_fence_put(past);
	dma_fence_put(wrapped);
	destroy(timeline);
}

/* 98: more steps at once than a difference can hold */
TEST(no_step_is_too_long)
{
	struct mmn_sw_sync *timeline = create();
	struct dma_fence *near = at(timeline, 1);
	struct dma_fence *far = at(timeline, INT_MAX);

	t_err(mmn_sw_sync_inc(timeline, UINT32_MAX), 0);
	t_eq(dma_fence_get_status(near), 1);
	t_eq(dma_fence_get_status(far), 1);
	dma_fence_put(near);
	near = at(timeline, 0);
	t_eq(dma_fence_get_status(near), 0);
	t_err(mmn_sw_sync_inc(timeline, 1), 0);
	t_eq(dma_fence_get_status(near), 1);
	dma_fence_put(near);
	dma_fence_put(far);
	destroy(timeline);
}

/* 99 */
TEST(the_same_value_is_the_same_fence)
{
	struct mmn_sw_sync *timeline = create();
	struct dma_fence *fence = at(timeline, 5), *later = at(timeline, 7);
	struct dma_fence *again = at(timeline, 5), *fresh;

	t_ok(fence == again);
	dma_fence_put(again);
	dma_fence_put(fence);
	/* That one is gone, and not found any more. */
	fence = at(timeline, 5);
	t_eq(dma_fence_get_status(fence), 0);
	t_err(mmn_sw_sync_inc(timeline, 5), 0);
	t_eq(dma_fence_get_status(fence), 1);
	fresh = at(timeline, 5);
	t_ok(fresh != fence);
	t_eq(dma_fence_get_status(fresh), 1);
	dma_fence_put(fresh);
	dma_fence_put(fence);
	dma_fence_put(later);
	destroy(timeline);
}

static void *wait_for(void *arg)
{
	t_eq(dma_fence_wait(arg, false), 0);
	return NULL;
}

/* 100 */
TEST(without_its_timeline_a_fence_fails)
{
	struct mmn_sw_sync *timeline = create();
	struct dma_fence *done = at(timeline, 1), *pending = at(timeline, 2);
	pthread_t thread;

	t_err(mmn_sw_sync_inc(timeline, 1), 0);
	t_err(pthread_create(&thread, NULL, wait_for, pending), 0);
	mmn_sw_sync_destroy(timeline);
	pthread_join(thread, NULL);
	t_eq(dma_fence_get_status(done), 1);
	t_eq(dma_fence_get_status(pending), -ENOENT);
	/* The name outlives the timeline, too. */
	dma_fence_read_begin();
	t_streq(dma_fence_timeline_name(pending), "time");
	t_streq(dma_fence_driver_name(pending), "sw_sync");
	dma_fence_read_end();
	dma_fence_put(done);
	dma_fence_put(pending);
	mmn_sw_sync_destroy(NULL);
	dma_fence_barrier();
}

struct dropper {
	struct dma_fence_cb cb;
	struct dma_fence *other;
};

static void drop(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	struct dropper *dropper = (struct dropper *)cb;

	dma_fence_put(dropper->other);
	dropper->other = NULL;
}

/* 101 */
TEST(a_callback_drops_the_last_reference)
{
	struct mmn_sw_sync *timeline = create();
	struct dropper before = { .other = at(timeline, 2) };
	struct dropper after = { .other = at(timeline, 9) };
	struct dropper own;
	struct dma_fence *fence = at(timeline, 1);

	own.other = dma_fence_get(fence);
	t_err(dma_fence_add_callback(fence, &before.cb, drop), 0);
	t_err(dma_fence_add_callback(fence, &after.cb, drop), 0);
	t_err(dma_fence_add_callback(fence, &own.cb, drop), 0);
	dma_fence_put(fence);
	t_err(mmn_sw_sync_inc(timeline, 2), 0);
	t_ok(!before.other);
	t_ok(!after.other);
	t_ok(!own.other);
	destroy(timeline);
}

struct stepper {
	struct dma_fence_cb cb;
	struct mmn_sw_sync *timeline;
};

static void step(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	t_err(mmn_sw_sync_inc(((struct stepper *)cb)->timeline, 1), 0);
}

TEST(a_callback_advances_its_own_timeline)
{
	struct mmn_sw_sync *timeline = create();
	struct stepper stepper = { .timeline = timeline };
	struct dma_fence *one = at(timeline, 1), *two = at(timeline, 2);

	t_err(dma_fence_add_callback(one, &stepper.cb, step), 0);
	t_err(mmn_sw_sync_inc(timeline, 1), 0);
	t_eq(dma_fence_get_status(two), 1);
	dma_fence_put(one);
	dma_fence_put(two);
	destroy(timeline);
}

static uint64_t order[8];
static unsigned int nr_called;

static void note_order(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	order[nr_called++] = fence->seqno;
}

TEST(fences_signal_in_the_order_of_their_values)
{
	static const uint32_t values[8] = { 5, 1, 8, 3, 2, 7, 6, 4 };
	struct mmn_sw_sync *timeline = create();
	struct dma_fence *fences[8];
	struct dma_fence_cb cbs[8];
	int i;

	for (i = 0; i < 8; i++) {
		fences[i] = at(timeline, values[i]);
		t_err(dma_fence_add_callback(fences[i], &cbs[i], note_order),
		      0);
	}
	t_err(mmn_sw_sync_inc(timeline, 8), 0);
	t_eq(nr_called, 8);
	for (i = 0; i < 8; i++)
		t_eq(order[i], i + 1);
	for (i = 0; i < 8; i++)
		dma_fence_put(fences[i]);
	destroy(timeline);
}

static const char *name(struct dma_fence *fence)
{
	return "test";
}

static void release(struct dma_fence *fence)
{
}

TEST(the_earliest_deadline_is_kept)
{
	static const struct dma_fence_ops ops = {
		.get_driver_name = name,
		.get_timeline_name = name,
		.release = release,
	};
	struct mmn_sw_sync *timeline = create();
	struct dma_fence *fence = at(timeline, 1), stranger;
	int64_t deadline = -1;

	dma_fence_init(&stranger, &ops, NULL, 1, 1);
	t_err(mmn_sw_sync_get_deadline(fence, &deadline), -ENOENT);
	dma_fence_set_deadline(fence, 300);
	dma_fence_set_deadline(fence, 200);
	dma_fence_set_deadline(fence, 400);
	t_err(mmn_sw_sync_get_deadline(fence, &deadline), 0);
	t_eq(deadline, 200);
	t_err(mmn_sw_sync_get_deadline(&stranger, &deadline), -EINVAL);
	t_err(mmn_sw_sync_get_deadline(NULL, &deadline), -EINVAL);
	t_err(mmn_sw_sync_get_deadline(fence, NULL), -EINVAL);
	dma_fence_put(fence);
	destroy(timeline);
}

TEST(what_is_not_there_is_refused)
{
	struct mmn_sw_sync *timeline = create(), *none = NULL;
	struct dma_fence *fence = NULL;

	t_err(mmn_sw_sync_create(NULL, &none), -EINVAL);
	t_err(mmn_sw_sync_create("", NULL), -EINVAL);
	t_err(mmn_sw_sync_create_fence(NULL, 1, &fence), -EINVAL);
	t_err(mmn_sw_sync_create_fence(timeline, 1, NULL), -EINVAL);
	t_err(mmn_sw_sync_inc(NULL, 1), -EINVAL);
	t_err(mmn_inject_set(MMN_INJECT_ALLOC, 1, 1), 0);
	t_err(mmn_sw_sync_create("", &none), -ENOMEM);
	t_err(mmn_sw_sync_create_fence(timeline, 1, &fence), -ENOMEM);
	mmn_inject_clear();
	t_ok(!none);
	t_ok(!fence);
	destroy(timeline);
}

static void create_none(void)
{
	struct mmn_sw_sync *none = NULL;

	t_err(mmn_sw_sync_create("", &none), -EAGAIN);
	t_ok(!none);
}

TEST(a_timeline_without_a_thread_is_not_made)
{
	run_without_threads(create_none);
}

static void in_child(struct mmn_sw_sync *timeline, struct dma_fence *fence)
{
	struct mmn_sw_sync *own;
	struct dma_fence *ret;
	int64_t deadline;

	t_err(mmn_sw_sync_inc(timeline, 1), -ESTALE);
	t_err(mmn_sw_sync_create_fence(timeline, 2, &ret), -ESTALE);
	t_err(mmn_sw_sync_get_deadline(fence, &deadline), -ESTALE);
	dma_fence_set_deadline(fence, 1);
	mmn_sw_sync_destroy(timeline);
	t_eq(dma_fence_get_status(fence), 0);
	dma_fence_put(fence);
	/* What the child makes is its own. */
	own = create();
	ret = at(own, 1);
	t_err(mmn_sw_sync_inc(own, 1), 0);
	t_eq(dma_fence_get_status(ret), 1);
	dma_fence_put(ret);
	mmn_sw_sync_destroy(own);
	t_err(mmn_sw_sync_inc(timeline, 1), -ESTALE);
}

TEST(in_a_fork_child_it_is_inert)
{
	struct mmn_sw_sync *timeline = create();
	struct dma_fence *fence = at(timeline, 1);
	pid_t child = fork();
	int status;

	if (!child) {
		in_child(timeline, fence);
		_exit(0);
	}
	t_eq(waitpid(child, &status, 0), child);
	t_eq(status, 0);
	t_err(mmn_sw_sync_inc(timeline, 1), 0);
	t_eq(dma_fence_get_status(fence), 1);
	dma_fence_put(fence);
	destroy(timeline);
}

enum { NR_STEPS = 2000 };

static void *advance(void *arg)
{
	int i;

	for (i = 0; i < NR_STEPS; i++)
		t_err(mmn_sw_sync_inc(arg, 1), 0);
	return NULL;
}

/* Points are found, dropped and signalled by different threads. */
static void *make_and_drop(void *arg)
{
	uint32_t i;

	for (i = 0; i < NR_STEPS; i++) {
		struct dma_fence *fence = at(arg, i * 2 + 1);
		struct dma_fence *next = at(arg, i * 2 + 2);

		dma_fence_put(fence);
		if (dma_fence_is_signaled(next))
			t_eq(dma_fence_get_status(next), 1);
		dma_fence_put(next);
	}
	return NULL;
}

TEST(points_come_and_go_while_time_passes)
{
	struct mmn_sw_sync *timeline = create();
	pthread_t threads[4];
	struct dma_fence *last = at(timeline, 2 * NR_STEPS);
	int i;

	for (i = 0; i < 4; i++)
		t_err(pthread_create(&threads[i], NULL,
				     i < 2 ? advance : make_and_drop, timeline),
		      0);
	t_eq(dma_fence_wait(last, false), 0);
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	dma_fence_put(last);
	destroy(timeline);
}
