/* SPDX-License-Identifier: MIT */
/*
 * Fences: life, signal, callbacks.  The numbers in comments are those of the
 * conformance cases.
 */
#include "t/tap.h"

#include <mmn/dma-fence.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BIT(name) (1ul << DMA_FENCE_FLAG_##name##_BIT)

static const char *name(struct dma_fence *fence)
{
	return "test";
}

static const struct dma_fence_ops plain_ops = {
	.get_driver_name = name,
	.get_timeline_name = name,
};

static unsigned int nr_released;

static void release(struct dma_fence *fence)
{
	__atomic_fetch_add(&nr_released, 1, __ATOMIC_SEQ_CST);
}

/* For fences on the stack and in arrays. */
static const struct dma_fence_ops kept_ops = {
	.get_driver_name = name,
	.get_timeline_name = name,
	.release = release,
};

static int64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static unsigned long flags_of(struct dma_fence *fence)
{
	return __atomic_load_n(&fence->flags, __ATOMIC_SEQ_CST);
}

/* A callback that counts, and remembers the order. */
struct counter {
	struct dma_fence_cb cb;
	unsigned int calls;
	unsigned int place;
	int status;
	bool was_queued;
};

static unsigned int nr_calls;

static void count(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	struct counter *counter = (struct counter *)cb;

	counter->calls++;
	counter->was_queued = cb->node.next != &cb->node;
	counter->status = dma_fence_get_status(fence);
	counter->place = __atomic_fetch_add(&nr_calls, 1, __ATOMIC_SEQ_CST);
}

/* 1 */
TEST(a_fresh_fence_is_pending)
{
	struct dma_fence fence;

	dma_fence_init(&fence, &kept_ops, NULL, 7, 9);
	t_ok(dma_fence_was_initialized(&fence));
	t_ok(!dma_fence_was_initialized(NULL));
	t_ok(!dma_fence_is_signaled(&fence));
	t_ok(!dma_fence_test_signaled_flag(&fence));
	t_eq(dma_fence_get_status(&fence), 0);
	t_eq(flags_of(&fence) & (BIT(SIGNALED) | BIT(TIMESTAMP)), 0);
	t_eq(fence.refcount, 1);
	t_eq(fence.context, 7);
	t_eq(fence.seqno, 9);
	t_ok(fence.lock == &fence.inline_lock);
	dma_fence_put(&fence);
	t_eq(nr_released, 1);
}

/* 2 */
TEST(only_the_first_signal_counts)
{
	struct dma_fence fence;
	int64_t time;

	dma_fence_init(&fence, &kept_ops, NULL, 1, 1);
	t_err(dma_fence_signal(&fence), 0);
	time = dma_fence_timestamp(&fence);
	t_err(dma_fence_signal(&fence), -EINVAL);
	t_err(dma_fence_signal_timestamp(&fence, 5), -EINVAL);
	t_ok(dma_fence_check_and_signal(&fence));
	t_eq(dma_fence_timestamp(&fence), time);
	dma_fence_init(&fence, &kept_ops, NULL, 1, 2);
	t_ok(!dma_fence_check_and_signal(&fence));
	t_ok(dma_fence_check_and_signal(&fence));
	mmn_spin_lock(fence.lock);
	t_ok(dma_fence_check_and_signal_locked(&fence));
	t_err(dma_fence_signal_locked(&fence), -EINVAL);
	t_err(dma_fence_signal_timestamp_locked(&fence, 1), -EINVAL);
	mmn_spin_unlock(fence.lock);
}

/* 3 */
TEST(signalling_null_is_reported)
{
	t_bug_expected("NULL is signalled");
	t_err(dma_fence_signal(NULL), -EINVAL);
	t_eq(t_bugs_seen(), 1);
}

/* 4 */
TEST(the_timestamp_is_the_one_given_or_the_present)
{
	struct dma_fence fence;
	int64_t before;

	dma_fence_init(&fence, &kept_ops, NULL, 1, 1);
	t_err(dma_fence_signal_timestamp(&fence, 4711), 0);
	t_eq(dma_fence_timestamp(&fence), 4711);
	t_ok(flags_of(&fence) & BIT(TIMESTAMP));
	dma_fence_init(&fence, &kept_ops, NULL, 1, 2);
	before = now();
	t_err(dma_fence_signal(&fence), 0);
	t_ge(dma_fence_timestamp(&fence), before);
	t_le(dma_fence_timestamp(&fence), now());
}

TEST(the_time_of_a_pending_fence_is_reported)
{
	struct dma_fence fence;
	int64_t before = now();

	dma_fence_init(&fence, &kept_ops, NULL, 1, 1);
	t_bug_expected("has not been");
	t_ge(dma_fence_timestamp(&fence), before);
}

/* 5 */
TEST(an_error_is_the_status)
{
	struct dma_fence fence;

	dma_fence_init(&fence, &kept_ops, NULL, 1, 1);
	dma_fence_set_error(&fence, -EIO);
	t_eq(dma_fence_get_status(&fence), 0);
	t_err(dma_fence_signal(&fence), 0);
	t_err(dma_fence_get_status(&fence), -EIO);
	mmn_spin_lock(fence.lock);
	t_err(dma_fence_get_status_locked(&fence), -EIO);
	mmn_spin_unlock(fence.lock);
	t_bug_expected("after the signal");
	dma_fence_set_error(&fence, -EINVAL);
	t_err(dma_fence_get_status(&fence), -EIO);
}

/* 6 */
TEST(errors_that_are_none_are_reported)
{
	static const int wrong[] = { 0, 5, -5000 };
	struct dma_fence fence;
	size_t i;

	dma_fence_init(&fence, &kept_ops, NULL, 1, 1);
	for (i = 0; i < 3; i++) {
		t_bug_expected("-4095");
		dma_fence_set_error(&fence, wrong[i]);
	}
	t_eq(t_bugs_seen(), 3);
	t_err(dma_fence_signal(&fence), 0);
	t_eq(dma_fence_get_status(&fence), 1);
}

static bool producer_done;
static unsigned int nr_enabled;
static int enable_error;

static bool says_done(struct dma_fence *fence)
{
	return __atomic_load_n(&producer_done, __ATOMIC_SEQ_CST);
}

static bool enable(struct dma_fence *fence)
{
	__atomic_fetch_add(&nr_enabled, 1, __ATOMIC_SEQ_CST);
	if (!enable_error)
		return true;
	fence->error = enable_error;
	return false;
}

static const struct dma_fence_ops asked_ops = {
	.get_driver_name = name,
	.get_timeline_name = name,
	.signaled = says_done,
	.enable_signaling = enable,
	.release = release,
};

/* 7 */
TEST(asking_the_producer_signals)
{
	struct counter counter = { .calls = 0 };
	struct dma_fence fence;
	int64_t before = now();

	dma_fence_init(&fence, &asked_ops, NULL, 1, 1);
	t_err(dma_fence_add_callback(&fence, &counter.cb, count), 0);
	t_ok(!dma_fence_is_signaled(&fence));
	producer_done = true;
	t_ok(!dma_fence_test_signaled_flag(&fence));
	t_ok(dma_fence_is_signaled(&fence));
	t_ok(dma_fence_test_signaled_flag(&fence));
	t_eq(counter.calls, 1);
	t_ge(dma_fence_timestamp(&fence), before);
	dma_fence_init(&fence, &asked_ops, NULL, 1, 2);
	t_ok(dma_fence_is_signaled(&fence));
	dma_fence_init(&fence, &asked_ops, NULL, 1, 3);
	mmn_spin_lock(fence.lock);
	t_ok(dma_fence_is_signaled_locked(&fence));
	t_eq(dma_fence_get_status_locked(&fence), 1);
	mmn_spin_unlock(fence.lock);
}

/* 8 */
TEST(asking_enables_nothing)
{
	struct dma_fence fence;
	int i, hits = 0;

	dma_fence_init(&fence, &asked_ops, NULL, 1, 1);
	for (i = 0; i < 1000000; i++)
		hits += dma_fence_is_signaled(&fence);
	t_eq(hits, 0);
	t_eq(nr_enabled, 0);
	t_eq(flags_of(&fence) & BIT(ENABLE_SIGNAL), 0);
}

/* 9 */
TEST(an_enable_that_fails_signals)
{
	struct counter counter = { .calls = 0 };
	struct dma_fence fence;

	enable_error = -ENODEV;
	dma_fence_init(&fence, &asked_ops, NULL, 1, 1);
	t_err(dma_fence_add_callback(&fence, &counter.cb, count), -ENOENT);
	t_ok(dma_fence_test_signaled_flag(&fence));
	t_err(dma_fence_get_status(&fence), -ENODEV);
	t_eq(counter.calls, 0);
	t_eq(nr_enabled, 1);
	t_ok(counter.cb.node.next == &counter.cb.node);
}

static struct dma_fence raced;
static pthread_barrier_t start;

static void *enable_somehow(void *arg)
{
	struct counter *counter = arg;

	pthread_barrier_wait(&start);
	if ((uintptr_t)counter % (2 * sizeof(*counter)) < sizeof(*counter))
		dma_fence_enable_sw_signaling(&raced);
	else
		dma_fence_wait_timeout(&raced, false, 0);
	dma_fence_add_callback(&raced, &counter->cb, count);
	return NULL;
}

/* 10 */
TEST(enabling_happens_once)
{
	pthread_t threads[8];
	int round, i;

	pthread_barrier_init(&start, NULL, 8);
	for (round = 0; round < 50; round++) {
		struct counter counters[8] = { { .calls = 0 } };

		nr_enabled = 0;
		dma_fence_init(&raced, &asked_ops, NULL, 1, 1);
		for (i = 0; i < 8; i++)
			pthread_create(&threads[i], NULL, enable_somehow,
				       &counters[i]);
		for (i = 0; i < 8; i++)
			pthread_join(threads[i], NULL);
		t_eq(nr_enabled, 1);
		t_err(dma_fence_signal(&raced), 0);
		for (i = 0; i < 8; i++)
			t_eq(counters[i].calls, 1);
	}
	pthread_barrier_destroy(&start);
}

/* The library's calls come here as well. */
static __thread unsigned int nr_yields;

__attribute__((visibility("default"))) int sched_yield(void)
{
	nr_yields++;
	return (int)syscall(SYS_sched_yield);
}

static bool op_is_running, op_has_returned;

static bool enable_slowly(struct dma_fence *fence)
{
	struct timespec some = { 0, 5000000 };

	__atomic_store_n(&op_is_running, true, __ATOMIC_SEQ_CST);
	nanosleep(&some, NULL);
	/* No order of its own: the signal has to see it. */
	op_has_returned = true;
	return true;
}

static const struct dma_fence_ops slow_ops = {
	.get_driver_name = name,
	.get_timeline_name = name,
	.enable_signaling = enable_slowly,
	.release = release,
};

static void *enable_raced(void *arg)
{
	dma_fence_enable_sw_signaling(&raced);
	return NULL;
}

TEST(a_signal_outlasts_the_enable_op)
{
	pthread_t thread;
	int twice;

	for (twice = 0; twice < 2; twice++) {
		op_is_running = false;
		op_has_returned = false;
		dma_fence_init(&raced, &slow_ops, NULL, 1, 1);
		pthread_create(&thread, NULL, enable_raced, NULL);
		while (!__atomic_load_n(&op_is_running, __ATOMIC_SEQ_CST))
			sched_yield();
		/* Also when somebody else was first, who need not wait. */
		if (twice)
			dma_fence_signal_locked(&raced);
		nr_yields = 0;
		t_err(dma_fence_signal(&raced), twice ? -EINVAL : 0);
		t_ok(op_has_returned);
		/* It sleeps: the op's thread may have a lower priority. */
		t_eq(nr_yields, 0);
		pthread_join(thread, NULL);
	}
}

/* 11 */
TEST(after_the_signal_nothing_is_enabled)
{
	struct counter counter = { .calls = 0 };
	struct dma_fence fence;

	dma_fence_init(&fence, &asked_ops, NULL, 1, 1);
	t_err(dma_fence_signal(&fence), 0);
	t_err(dma_fence_add_callback(&fence, &counter.cb, count), -ENOENT);
	dma_fence_enable_signaling(&fence);
	t_eq(nr_enabled, 0);
	t_eq(counter.calls, 0);
}

/* 12 */
TEST(callbacks_run_in_the_order_of_adding)
{
	static struct counter counters[1000];
	struct dma_fence fence;
	unsigned int i;

	dma_fence_init(&fence, &kept_ops, NULL, 1, 1);
	for (i = 0; i < 1000; i++)
		t_err(dma_fence_add_callback(&fence, &counters[i].cb, count),
		      0);
	t_err(dma_fence_signal(&fence), 0);
	for (i = 0; i < 1000; i++) {
		t_eq(counters[i].calls, 1);
		t_eq(counters[i].place, i);
		t_eq(counters[i].status, 1);
		t_ok(!counters[i].was_queued);
	}
}

TEST(with_the_lock_held_callbacks_run_at_once)
{
	struct spinlock lock = MMN_SPINLOCK_INIT;
	struct counter counter = { .calls = 0 };
	struct dma_fence fence;

	dma_fence_init(&fence, &kept_ops, &lock, 1, 1);
	t_ok(fence.lock == &lock);
	t_err(dma_fence_add_callback(&fence, &counter.cb, count), 0);
	mmn_spin_lock(&lock);
	t_ok(!mmn_spin_trylock(&lock));
	t_err(dma_fence_signal_locked(&fence), 0);
	t_eq(counter.calls, 1);
	mmn_spin_unlock(&lock);
	t_ok(mmn_spin_trylock(&lock));
	mmn_spin_unlock(&lock);
}

struct dropper {
	struct dma_fence_cb cb;
	struct dma_fence *victim;
};

static void drop(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	dma_fence_put(((struct dropper *)cb)->victim);
}

/* 13 */
TEST(a_callback_may_drop_the_last_reference_to_another)
{
	struct spinlock lock = MMN_SPINLOCK_INIT;
	struct counter counter = { .calls = 0 };
	struct dropper dropper;
	struct dma_fence one, other;

	dma_fence_init(&one, &kept_ops, &lock, 1, 1);
	dma_fence_init(&other, &kept_ops, &lock, 1, 2);
	dropper.victim = &other;
	t_err(dma_fence_add_callback(&one, &dropper.cb, drop), 0);
	t_err(dma_fence_add_callback(&other, &counter.cb, count), 0);
	t_bug_expected("callbacks wait");
	t_err(dma_fence_signal(&one), 0);
	t_eq(counter.calls, 1);
	t_err(counter.status, -EDEADLK);
	t_eq(nr_released, 1);
}

TEST(a_callback_that_drops_its_own_fence_is_reported)
{
	struct dropper dropper;
	struct dma_fence fence;

	dma_fence_init(&fence, &kept_ops, NULL, 1, 1);
	dropper.victim = &fence;
	t_err(dma_fence_add_callback(&fence, &dropper.cb, drop), 0);
	t_bug_expected("its own fence");
	t_err(dma_fence_signal(&fence), 0);
	t_eq(nr_released, 1);
}

/* 14, 15 */
struct raced_cb {
	struct dma_fence_cb cb;
	/* written by the callback, read by the remover, no order of their own */
	int written;
};

static void write_slowly(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	struct raced_cb *mine = (struct raced_cb *)cb;

	mine->written = 1;
	sched_yield();
	mine->written = 2;
}

static struct dma_fence *race_fences;
static unsigned int nr_removals;

static void *signal_each(void *arg)
{
	unsigned int i;

	for (i = 0; i < nr_removals; i++) {
		pthread_barrier_wait(&start);
		dma_fence_signal(&race_fences[i]);
	}
	return NULL;
}

TEST(after_removal_a_callback_does_not_run, .timeout = 60)
{
	unsigned int removed = 0, ran = 0, i;
	pthread_t thread;

	nr_removals = t_size(20000, 1000000);
	pthread_barrier_init(&start, NULL, 2);
	race_fences = calloc(nr_removals, sizeof(*race_fences));
	for (i = 0; i < nr_removals; i++)
		dma_fence_init(&race_fences[i], &kept_ops, NULL, 1, i);
	pthread_create(&thread, NULL, signal_each, NULL);
	for (i = 0; i < nr_removals; i++) {
		struct raced_cb *mine = calloc(1, sizeof(*mine));

		t_err(dma_fence_add_callback(&race_fences[i], &mine->cb,
					     write_slowly),
		      0);
		pthread_barrier_wait(&start);
		if (i % 3 == 0)
			sched_yield();
		if (dma_fence_remove_callback(&race_fences[i], &mine->cb)) {
			t_eq(mine->written, 0);
			removed++;
		} else {
			t_eq(mine->written, 2);
			ran++;
		}
		/* Freed at once: who still ran it would write to it. */
		memset(mine, 0xa5, sizeof(*mine));
		free(mine);
	}
	pthread_join(thread, NULL);
	t_note("%u removed, %u ran", removed, ran);
	t_eq(removed + ran, nr_removals);
	free(race_fences);
	pthread_barrier_destroy(&start);
}

static bool removed_inside;

static void remove_itself(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	removed_inside = dma_fence_remove_callback(fence, cb);
	nr_calls++;
}

TEST(a_callback_may_remove_itself)
{
	struct dma_fence_cb cb;
	struct dma_fence fence;

	dma_fence_init(&fence, &kept_ops, NULL, 1, 1);
	removed_inside = true;
	t_err(dma_fence_add_callback(&fence, &cb, remove_itself), 0);
	t_err(dma_fence_signal(&fence), 0);
	t_eq(nr_calls, 1);
	t_ok(!removed_inside);
}

TEST(a_removed_callback_is_not_called)
{
	struct counter one = { .calls = 0 }, two = { .calls = 0 };
	struct dma_fence fence;

	dma_fence_init(&fence, &kept_ops, NULL, 1, 1);
	t_err(dma_fence_add_callback(&fence, &one.cb, count), 0);
	t_err(dma_fence_add_callback(&fence, &two.cb, count), 0);
	t_ok(dma_fence_remove_callback(&fence, &one.cb));
	t_ok(!dma_fence_remove_callback(&fence, &one.cb));
	t_err(dma_fence_signal(&fence), 0);
	t_eq(one.calls, 0);
	t_eq(two.calls, 1);
	t_ok(!dma_fence_remove_callback(&fence, &two.cb));
}

/* 16 */
TEST(a_callback_that_is_none_is_refused)
{
	struct dma_fence fence;
	struct dma_fence_cb cb;

	dma_fence_init(&fence, &asked_ops, NULL, 1, 1);
	t_bug_expected("callback without");
	t_err(dma_fence_add_callback(&fence, &cb, NULL), -EINVAL);
	t_bug_expected("callback without");
	t_err(dma_fence_add_callback(NULL, &cb, count), -EINVAL);
	t_eq(nr_enabled, 0);
	t_eq(flags_of(&fence) & BIT(ENABLE_SIGNAL), 0);
}

/* 17 */
TEST(a_fence_dropped_with_callbacks_fails)
{
	struct counter counter = { .calls = 0 };
	struct dma_fence fence;

	dma_fence_init(&fence, &kept_ops, NULL, 1, 1);
	t_err(dma_fence_add_callback(&fence, &counter.cb, count), 0);
	t_bug_expected("callbacks wait");
	dma_fence_put(&fence);
	t_eq(counter.calls, 1);
	t_err(counter.status, -EDEADLK);
	t_eq(nr_released, 1);
}

static void get_and_put(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	dma_fence_put(dma_fence_get(fence));
}

TEST(callbacks_of_a_dropped_fence_may_take_references)
{
	struct dma_fence_cb first, second;
	struct dma_fence fence;

	dma_fence_init(&fence, &kept_ops, NULL, 1, 1);
	t_err(dma_fence_add_callback(&fence, &first, get_and_put), 0);
	t_err(dma_fence_add_callback(&fence, &second, get_and_put), 0);
	t_bug_expected("callbacks wait");
	dma_fence_put(&fence);
	t_eq(nr_released, 1);
}

/* 18 */
TEST(a_fence_dropped_without_callbacks_is_freed_silently)
{
	struct dma_fence *fence = malloc(sizeof(*fence));

	t_may_keep_mapped(64 << 20, "the thread that frees stays");
	dma_fence_init(fence, &plain_ops, NULL, 1, 1);
	dma_fence_enable_sw_signaling(fence);
	dma_fence_put(fence);
	dma_fence_put(NULL);
	dma_fence_barrier();
	t_eq(t_bugs_seen(), 0);
}

/* 19: mail 003's four lines, for a fence that somebody drops meanwhile. */
static struct dma_fence *slot;
static bool slot_dropped;

static void *drop_slot(void *arg)
{
	struct dma_fence *fence = slot;

	__atomic_store_n(&slot, NULL, __ATOMIC_RELEASE);
	dma_fence_put(fence);
	__atomic_store_n(&slot_dropped, true, __ATOMIC_SEQ_CST);
	return NULL;
}

/* What the library does not do: free at once.  The memory stays readable. */
static void free_at_once(struct dma_fence *fence)
{
	memset(fence, 0xfe, sizeof(*fence));
}

static const struct dma_fence_ops naive_ops = {
	.get_driver_name = name,
	.get_timeline_name = name,
	.release = free_at_once,
};

/* The context that a reader sees after the last reference was dropped. */
static uint64_t context_seen_late(void)
{
	struct timespec some = { 0, 20000000 };
	struct dma_fence *fence;
	pthread_t thread;
	uint64_t context;

	slot_dropped = false;
	dma_fence_read_begin();
	fence = __atomic_load_n(&slot, __ATOMIC_ACQUIRE);
	t_err(pthread_create(&thread, NULL, drop_slot, NULL), 0);
	while (!__atomic_load_n(&slot_dropped, __ATOMIC_SEQ_CST))
		sched_yield();
	nanosleep(&some, NULL);
	context = fence->context;
	t_ok(!dma_fence_get_rcu(fence) || context != 42);
	dma_fence_read_end();
	pthread_join(thread, NULL);
	return context;
}

TEST(a_reader_keeps_the_memory_of_a_fence)
{
	static struct dma_fence naive;

	t_may_keep_mapped(64 << 20, "the thread that frees stays");
	slot = malloc(sizeof(*slot));
	dma_fence_init(slot, &plain_ops, NULL, 42, 1);
	t_eq(context_seen_late(), 42);
	dma_fence_barrier();
	/* The same with a release that does not wait: the reader is misled. */
	slot = &naive;
	dma_fence_init(slot, &naive_ops, NULL, 42, 1);
	t_ne(context_seen_late(), 42);
}

/* 20 */
TEST(the_dead_are_not_revived)
{
	struct dma_fence fence;

	dma_fence_init(&fence, &kept_ops, NULL, 1, 1);
	t_ok(dma_fence_get_rcu(&fence) == &fence);
	t_eq(fence.refcount, 2);
	dma_fence_put(&fence);
	dma_fence_put(&fence);
	t_eq(nr_released, 1);
	t_ok(!dma_fence_get_rcu(&fence));
	t_eq(fence.refcount, 0);
}

struct signaller {
	struct dma_fence_cb cb;
	struct dma_fence *next;
};

static uintptr_t lowest_stack = UINTPTR_MAX, highest_stack;

static void signal_next(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);

	if (here < lowest_stack)
		lowest_stack = here;
	if (here > highest_stack)
		highest_stack = here;
	nr_calls++;
	dma_fence_signal(((struct signaller *)cb)->next);
}

TEST(a_cascade_of_signals_needs_no_stack)
{
	enum { NR = 10000 };
	struct dma_fence *fences = calloc(NR + 1, sizeof(*fences));
	struct signaller *links = calloc(NR, sizeof(*links));
	struct spinlock lock = MMN_SPINLOCK_INIT;
	uint64_t i;

	for (i = 0; i <= NR; i++)
		dma_fence_init(&fences[i], &kept_ops, &lock, 1, i);
	for (i = 0; i < NR; i++) {
		links[i].next = &fences[i + 1];
		t_err(dma_fence_add_callback(&fences[i], &links[i].cb,
					     signal_next),
		      0);
	}
	t_err(dma_fence_signal(&fences[0]), 0);
	t_eq(nr_calls, NR);
	t_ok(dma_fence_test_signaled_flag(&fences[NR]));
	t_lt(highest_stack - lowest_stack, 4096);
	free(links);
	free(fences);
}

TEST(a_fence_without_ops_is_reported_and_has_failed)
{
	struct dma_fence fence;

	t_bug_expected("without ops");
	dma_fence_init(&fence, NULL, NULL, 1, 1);
	t_err(dma_fence_get_status(&fence), -EINVAL);
	dma_fence_put(&fence);
}

static void *lock_and_add(void *arg)
{
	unsigned int i;

	for (i = 0; i < 20000; i++) {
		mmn_spin_lock(&raced.inline_lock);
		(*(unsigned long *)arg)++;
		mmn_spin_unlock(&raced.inline_lock);
	}
	return NULL;
}

TEST(a_spin_lock_excludes)
{
	unsigned long sum = 0;
	pthread_t threads[4];
	int i;

	mmn_spin_init(&raced.inline_lock);
	for (i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, lock_and_add, &sum);
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	t_eq(sum, 80000);
}
