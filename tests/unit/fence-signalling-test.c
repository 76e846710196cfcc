/* SPDX-License-Identifier: MIT */
/*
 * The library's own locks, the heap and the locks of sets are judged on the way to
 * a signal.  The numbers in comments are those of the conformance cases.
 */
#include "t/tap.h"

#include <mmn/dma-fence.h>
#include <mmn/memory.h>
#include <mmn/ww-mutex.h>
#include <stdlib.h>

#include "base/compiler.h"
#include "base/lock.h"
#include "config.h"

/* As src/base/meson.build decides. */
#define HEAP_IS_CHECKED (MMN_SELFCHECK && !MMN_ASAN && !MMN_TSAN)

static struct mmn_mutex mirror = MMN_MUTEX_INIT(MMN_RANK_MIRROR);
static struct mmn_mutex device = MMN_MUTEX_INIT(MMN_RANK_DEVICE);
static DEFINE_WD_CLASS(wait_die);
static DEFINE_WW_MUTEX(lock, &wait_die);

static void wait_with_it(struct mmn_mutex *m)
{
	mmn_mutex_lock(m);
	dma_fence_might_wait();
	mmn_mutex_unlock(m);
}

static void take_it_on_the_way(struct mmn_mutex *m)
{
	bool cookie = dma_fence_begin_signalling();

	mmn_mutex_lock(m);
	mmn_mutex_unlock(m);
	dma_fence_end_signalling(cookie);
}

/* 47 */
TEST(a_lock_of_the_library_that_is_held_and_needed_is_reported_once)
{
	t_bug_expected(
		"is held across a wait, taken at fence-signalling-test.c:");
	wait_with_it(&mirror);
	t_eq(t_bugs_seen(), 0);
	take_it_on_the_way(&mirror);
	t_eq(t_bugs_seen(), 1);
	wait_with_it(&mirror);
	take_it_on_the_way(&mirror);
	t_eq(t_bugs_seen(), 1);
}

/* 47 */
TEST(a_lock_of_the_library_that_is_needed_and_held_is_reported_once)
{
	t_bug_expected(
		"is held across a wait, taken at fence-signalling-test.c:");
	take_it_on_the_way(&device);
	t_eq(t_bugs_seen(), 0);
	wait_with_it(&device);
	t_eq(t_bugs_seen(), 1);
	wait_with_it(&device);
	take_it_on_the_way(&device);
	t_eq(t_bugs_seen(), 1);
}

TEST(a_lock_that_is_only_tried_may_be_taken_on_the_way)
{
	bool cookie, taken;

	wait_with_it(&mirror);
	cookie = dma_fence_begin_signalling();
	taken = mmn_mutex_trylock(&mirror);
	if (taken)
		mmn_mutex_unlock(&mirror);
	dma_fence_end_signalling(cookie);
	t_ok(taken);
	t_eq(t_bugs_seen(), 0);
}

TEST(allocating_on_the_way_to_a_signal_is_reported)
{
	/* Keeps the compiler from leaving a pair of calls out. */
	static void *volatile block;
	bool cookie;

	if (!HEAP_IS_CHECKED)
		t_skip("the heap is checked in debug builds without sanitizers");
	t_need_kernel("may have a malloc() of its own");
	t_bug_expected("malloc() on the way to a signal");
	cookie = dma_fence_begin_signalling();
	block = malloc(100);
	t_ok(block);
	free(block);
	block = mmn_callback_alloc(100);
	t_ok(block);
	mmn_callback_free(block);
	dma_fence_end_signalling(cookie);
	block = malloc(100);
	free(block);
	t_eq(t_bugs_seen(), 1);
}

/* One place, whatever the compiler makes of the loop around it. */
static __attribute__((noinline)) void take_and_leave(void)
{
	t_err(ww_mutex_lock(&lock, NULL), 0);
	ww_mutex_unlock(&lock);
}

TEST(a_lock_of_a_set_on_the_way_to_a_signal_is_reported)
{
	bool cookie;
	int i;

	t_bug_expected("a lock of a set is taken on the way to a signal");
	cookie = dma_fence_begin_signalling();
	for (i = 0; i < 2; i++) {
		take_and_leave();
		t_eq(t_bugs_seen(), 1);
	}
	t_eq(ww_mutex_trylock(&lock, NULL), 1);
	ww_mutex_unlock(&lock);
	dma_fence_end_signalling(cookie);
	/* Waiting with it is what it is for. */
	t_err(ww_mutex_lock(&lock, NULL), 0);
	dma_fence_might_wait();
	ww_mutex_unlock(&lock);
	t_eq(t_bugs_seen(), 1);
}

TEST(a_lock_of_a_set_in_a_callback_is_reported)
{
	struct mmn_callback_frame frame;

	t_bug_expected("a lock of a set is taken in a callback");
	mmn_context_enter_callback(&frame, &frame, true);
	t_err(ww_mutex_lock(&lock, NULL), 0);
	ww_mutex_unlock(&lock);
	mmn_context_leave_callback(&frame);
}

TEST(locks_of_the_library_come_after_those_of_a_set)
{
	t_bug_expected("lock order");
	t_err(ww_mutex_lock(&lock, NULL), 0);
	mmn_mutex_lock(&device);
	mmn_mutex_unlock(&device);
	ww_mutex_unlock(&lock);
	t_eq(t_bugs_seen(), 0);
	mmn_mutex_lock(&device);
	t_err(ww_mutex_lock(&lock, NULL), 0);
	ww_mutex_unlock(&lock);
	mmn_mutex_unlock(&device);
}
