/* SPDX-License-Identifier: MIT */
/*
 * Buffers that share a reservation object are destroyed by a thread that holds
 * locks, without waiting.  The numbers in comments are those of the conformance
 * cases.
 */
#include "t/tap.h"

#include <mmn/debug.h>
#include <mmn/inject.h>
#include <mmn/reaper.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/atomic.h"
#include "unit/answer-syscall.h"

struct buffer {
	struct mmn_reaper_entry entry;
	struct dma_resv own;
};

static struct mmn_reaper *reaper;
static struct dma_resv shared;
/* atomic */
static unsigned int nr_released;

static const char *name(struct dma_fence *fence)
{
	return "test";
}

static const struct dma_fence_ops ops = { .get_driver_name = name,
					  .get_timeline_name = name };

static void begin(void)
{
	t_may_keep_mapped(64 << 20, "the thread that frees stays");
	t_err(mmn_reaper_create(&reaper), 0);
	dma_resv_init(&shared);
}

static void end(void)
{
	mmn_reaper_destroy(reaper);
	dma_resv_fini(&shared);
}

static struct dma_fence *make_fence(void)
{
	struct dma_fence *fence = calloc(1, sizeof(*fence));

	t_ok(fence);
	dma_fence_init(fence, &ops, NULL, dma_fence_context_alloc(1), 1);
	return fence;
}

static struct dma_fence *add_fence(struct dma_resv *obj,
				   enum dma_resv_usage usage)
{
	struct dma_fence *fence = make_fence();

	t_err(dma_resv_lock(obj, NULL), 0);
	t_err(dma_resv_reserve_fences(obj, 1), 0);
	dma_resv_add_fence(obj, fence, usage);
	dma_resv_unlock(obj);
	return fence;
}

static void signal_and_put(struct dma_fence *fence)
{
	t_err(dma_fence_signal(fence), 0);
	dma_fence_put(fence);
}

static void release(struct mmn_reaper_entry *entry)
{
	/* the entry is the first member */
	struct buffer *buffer = (struct buffer *)entry;

	dma_resv_fini(&buffer->own);
	free(buffer);
	/* relaxed: a count; who needs more has flushed */
	mmn_fetch_add_relaxed(&nr_released, 1);
}

static unsigned int released(void)
{
	/* relaxed: as in release() */
	return mmn_load_relaxed(&nr_released);
}

static struct buffer *make_buffer(void)
{
	struct buffer *buffer = malloc(sizeof(*buffer));

	t_ok(buffer);
	dma_resv_init(&buffer->own);
	return buffer;
}

static bool destroy(struct buffer *buffer, struct dma_resv *obj)
{
	return mmn_reaper_add(reaper, &buffer->entry, &buffer->own, obj,
			      release);
}

static void flush(void)
{
	t_err(mmn_reaper_flush(reaper, DMA_FENCE_NEVER), 0);
}

TEST(an_idle_buffer_is_released_at_once)
{
	struct buffer *alone = make_buffer();

	begin();
	t_ok(destroy(make_buffer(), &shared));
	t_ok(destroy(make_buffer(), NULL));
	t_ok(destroy(alone, &alone->own));
	t_eq(released(), 3);
	end();
}

TEST(a_buffer_is_released_after_the_last_of_its_fences)
{
	struct dma_fence *fences[6];
	int i;

	begin();
	for (i = 0; i < 6; i++)
		fences[i] = add_fence(&shared, DMA_RESV_USAGE_BOOKKEEP);
	t_ok(!destroy(make_buffer(), &shared));
	/* Neither in the order of adding nor against it. */
	for (i = 0; i < 6; i++) {
		t_eq(released(), 0);
		t_err(mmn_reaper_flush(reaper, 0), -ETIMEDOUT);
		signal_and_put(fences[(i * 5 + 2) % 6]);
	}
	flush();
	t_eq(released(), 1);
	end();
}

TEST(fences_that_are_added_later_are_not_waited_for)
{
	struct dma_fence *before;
	struct dma_fence *after;

	begin();
	before = add_fence(&shared, DMA_RESV_USAGE_READ);
	t_ok(!destroy(make_buffer(), &shared));
	after = add_fence(&shared, DMA_RESV_USAGE_READ);
	signal_and_put(before);
	flush();
	t_eq(released(), 1);
	signal_and_put(after);
	end();
}

TEST(a_buffer_does_not_wait_for_another_one)
{
	struct buffer *slow = make_buffer();
	struct buffer *fast = make_buffer();
	struct dma_fence *slow_fence;
	struct dma_fence *fast_fence;

	begin();
	slow_fence = add_fence(&slow->own, DMA_RESV_USAGE_WRITE);
	fast_fence = add_fence(&fast->own, DMA_RESV_USAGE_WRITE);
	t_ok(!destroy(slow, NULL));
	t_ok(!destroy(fast, NULL));
	signal_and_put(fast_fence);
	while (released() < 1)
		sched_yield();
	/* It was added after the slow one, so flushing does not tell. */
	t_err(mmn_reaper_flush(reaper, 0), -ETIMEDOUT);
	signal_and_put(slow_fence);
	flush();
	t_eq(released(), 2);
	end();
}

/* 110 */
TEST(a_thousand_buffers_go_while_locks_are_held)
{
	struct ww_acquire_ctx ctx;
	struct dma_resv unrelated[2];
	struct dma_fence *fence;
	int i;

	begin();
	dma_resv_init(&unrelated[0]);
	dma_resv_init(&unrelated[1]);
	fence = add_fence(&shared, DMA_RESV_USAGE_WRITE);
	ww_acquire_init(&ctx, &reservation_ww_class);
	t_err(dma_resv_lock(&unrelated[0], &ctx), 0);
	t_err(dma_resv_lock(&unrelated[1], &ctx), 0);
	t_err(dma_resv_lock(&shared, &ctx), 0);
	/* Also while somebody who has an older context wants what we hold. */
	for (i = 0; i < 1000; i++)
		t_ok(!destroy(make_buffer(), &shared));
	t_eq(released(), 0);
	t_err(mmn_reaper_flush(reaper, 0), -ETIMEDOUT);
	signal_and_put(fence);
	flush();
	t_eq(released(), 1000);
	dma_resv_unlock(&shared);
	dma_resv_unlock(&unrelated[1]);
	dma_resv_unlock(&unrelated[0]);
	ww_acquire_fini(&ctx);
	dma_resv_fini(&unrelated[0]);
	dma_resv_fini(&unrelated[1]);
	end();
}

static void *hold_shared(void *arg)
{
	uint32_t *turn = arg;

	t_err(dma_resv_lock(&shared, NULL), 0);
	/* release, acquire: pairs with the test itself */
	mmn_store_release(&turn[0], 1);
	while (!mmn_load_acquire(&turn[1]))
		sched_yield();
	dma_resv_unlock(&shared);
	return NULL;
}

/* 110 */
TEST(a_buffer_goes_while_another_thread_has_the_shared_lock)
{
	uint32_t turn[2] = { 0, 0 };
	struct dma_fence *fence;
	pthread_t thread;

	begin();
	fence = add_fence(&shared, DMA_RESV_USAGE_KERNEL);
	t_err(pthread_create(&thread, NULL, hold_shared, turn), 0);
	while (!mmn_load_acquire(&turn[0]))
		sched_yield();
	t_ok(!destroy(make_buffer(), &shared));
	signal_and_put(fence);
	flush();
	t_eq(released(), 1);
	mmn_store_release(&turn[1], 1);
	t_err(pthread_join(thread, NULL), 0);
	end();
}

/* More fences than fit into an object without memory. */
TEST(without_memory_the_shared_object_is_watched)
{
	struct dma_fence *fences[10];
	struct dma_fence *later;
	int i;

	begin();
	for (i = 0; i < 10; i++)
		fences[i] = add_fence(&shared, DMA_RESV_USAGE_READ);
	t_err(mmn_inject_set(MMN_INJECT_ALLOC, 1, 0), 0);
	t_ok(!destroy(make_buffer(), &shared));
	/* All of these are waited for: the last one is not signalled yet. */
	for (i = 0; i < 9; i++)
		signal_and_put(fences[i]);
	t_err(mmn_reaper_flush(reaper, 0), -ETIMEDOUT);
	t_eq(released(), 0);
	mmn_inject_clear();
	later = add_fence(&shared, DMA_RESV_USAGE_READ);
	signal_and_put(fences[9]);
	signal_and_put(later);
	flush();
	t_eq(released(), 1);
	end();
}

TEST(a_reaper_that_is_destroyed_releases_all_first)
{
	struct dma_fence *fence;

	begin();
	fence = add_fence(&shared, DMA_RESV_USAGE_WRITE);
	t_ok(!destroy(make_buffer(), &shared));
	signal_and_put(fence);
	mmn_reaper_destroy(reaper);
	mmn_reaper_destroy(NULL);
	t_eq(released(), 1);
	dma_resv_fini(&shared);
}

static struct dma_fence *second_fence;

/* The memory moves to another buffer, as in a ghost of it. */
static void release_and_add(struct mmn_reaper_entry *entry)
{
	t_ok(!destroy(make_buffer(), &shared));
	release(entry);
}

static void *signal_second(void *arg)
{
	while (!released())
		sched_yield();
	sched_yield();
	signal_and_put(second_fence);
	return arg;
}

TEST(what_a_release_function_adds_is_released_before_the_end)
{
	struct buffer *buffer = make_buffer();
	struct dma_fence *fence;
	pthread_t thread;

	begin();
	fence = add_fence(&buffer->own, DMA_RESV_USAGE_WRITE);
	second_fence = add_fence(&shared, DMA_RESV_USAGE_WRITE);
	t_ok(!mmn_reaper_add(reaper, &buffer->entry, &buffer->own, NULL,
			     release_and_add));
	t_err(pthread_create(&thread, NULL, signal_second, NULL), 0);
	signal_and_put(fence);
	mmn_reaper_destroy(reaper);
	t_eq(released(), 2);
	pthread_join(thread, NULL);
	dma_resv_fini(&shared);
}

TEST(a_fork_child_releases_nothing)
{
	struct dma_fence *fence;
	int status;
	pid_t pid;

	begin();
	fence = add_fence(&shared, DMA_RESV_USAGE_WRITE);
	t_ok(!destroy(make_buffer(), &shared));
	pid = fork();
	if (!pid) {
		alarm(10);
		t_ok(!destroy(make_buffer(), NULL));
		t_err(mmn_reaper_flush(reaper, DMA_FENCE_NEVER), -ESTALE);
		mmn_reaper_destroy(reaper);
		_exit(released() != 0);
	}
	t_eq(waitpid(pid, &status, 0), pid);
	t_eq(status, 0);
	signal_and_put(fence);
	end();
	t_eq(released(), 1);
}

static void flush_inside(struct mmn_reaper_entry *entry)
{
	t_err(mmn_reaper_flush(reaper, DMA_FENCE_NEVER), -EDEADLK);
	if (mmn_debug_is_enabled())
		t_bug_expected("destroyed in a release function");
	mmn_reaper_destroy(reaper);
	release(entry);
}

TEST(a_release_function_cannot_flush)
{
	struct buffer *buffer = make_buffer();
	struct dma_fence *fence;

	begin();
	fence = add_fence(&buffer->own, DMA_RESV_USAGE_WRITE);
	t_ok(!mmn_reaper_add(reaper, &buffer->entry, &buffer->own, NULL,
			     flush_inside));
	signal_and_put(fence);
	flush();
	t_eq(released(), 1);
	end();
}

/* atomic */
static unsigned int nr_reports;

static void count_report(const struct mmn_debug_report *report)
{
	/* relaxed: a count */
	mmn_fetch_add_relaxed(&nr_reports, 1);
}

TEST(an_own_object_that_somebody_locks_is_reported)
{
	struct buffer *buffer = make_buffer();
	struct dma_fence *fence;

	t_need_selfcheck();
	mmn_debug_set_handler(count_report);
	begin();
	fence = add_fence(&shared, DMA_RESV_USAGE_WRITE);
	t_err(dma_resv_lock(&buffer->own, NULL), 0);
	t_ok(!destroy(buffer, &shared));
	/* relaxed: the thread of the reaper may add another one */
	t_ge(mmn_load_relaxed(&nr_reports), 1);
	dma_resv_unlock(&buffer->own);
	signal_and_put(fence);
	flush();
	t_eq(released(), 1);
	end();
}

/* libc stops every thread for this, by a signal of its own. */
TEST(a_program_with_a_reaper_may_change_its_user)
{
	begin();
	t_eq(setuid(getuid()), 0);
	end();
}

TEST(a_reaper_without_memory_is_not_made)
{
	struct mmn_reaper *none = NULL;

	t_err(mmn_inject_set(MMN_INJECT_ALLOC, 1, 0), 0);
	t_err(mmn_reaper_create(&none), -ENOMEM);
	mmn_inject_clear();
	t_ok(!none);
}

static void create_none(void)
{
	struct mmn_reaper *none = NULL;

	t_err(mmn_reaper_create(&none), -EAGAIN);
	t_ok(!none);
}

TEST(a_reaper_without_a_thread_is_not_made)
{
	run_without_threads(create_none);
}
