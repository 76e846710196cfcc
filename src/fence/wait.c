/* SPDX-License-Identifier: MIT */
/*
 * Sleeping until fences signal.
 *
 * One fence: the sleeper sets SLEEPER in the fence's flags and sleeps on them,
 * which is one futex and no callback.  Several fences, or a wait that can be
 * cancelled: each fence gets a callback that moves one word, and the sleeper
 * sleeps on that; a raised cancel moves the same word.
 *
 * Every loop looks at the fences after the clock, so that a fence that signalled
 * just in time is a success.
 */
#include <limits.h>
#include <stdlib.h>

#include "base/inject.h"
#include "base/probe.h"
#include "base/time.h"
#include "base/wait.h"
#include "fence/fence.h"

/* dma_fence_cancel.word: whether it is raised, and a count that wakes. */
enum { RAISED = 1, MOVE = 2 };

enum { NR_ON_STACK = 64, NS_PER_MS = 1000000 };

static __thread struct dma_fence_cancel *bound_cancel
	__attribute__((tls_model("initial-exec")));

struct dma_fence_cancel *dma_fence_cancel_bind(struct dma_fence_cancel *cancel)
{
	struct dma_fence_cancel *before = bound_cancel;

	bound_cancel = cancel;
	return before;
}

struct dma_fence_cancel *fence_bound_cancel(void)
{
	return bound_cancel;
}

void dma_fence_cancel_raise(struct dma_fence_cancel *cancel)
{
	/* relaxed: a flag without data */
	mmn_fetch_or_relaxed(&cancel->word, RAISED);
	mmn_wake(&cancel->word, INT_MAX);
}

bool dma_fence_cancel_clear(struct dma_fence_cancel *cancel)
{
	/* relaxed: a flag without data */
	return mmn_fetch_and_relaxed(&cancel->word, ~(uint32_t)RAISED) & RAISED;
}

/* relaxed, here and below: a flag without data */
static bool is_cancelled(const struct dma_fence_cancel *cancel)
{
	return cancel &&
	       fence_cancel_is_raised(mmn_load_relaxed(&cancel->word));
}

/* When to give up. */
struct limit {
	bool never;
	struct timespec at;
};

static const struct timespec *limit_deadline(const struct limit *limit)
{
	return limit->never ? NULL : &limit->at;
}

static struct limit limit_at(int64_t deadline)
{
	struct limit limit = { .never = deadline == DMA_FENCE_NEVER };

	limit.at = mmn_timespec(deadline > 0 ? (uint64_t)deadline : 0);
	return limit;
}

int64_t fence_deadline_of(long timeout)
{
	int64_t now = (int64_t)mmn_now_ns();

	if (timeout >= (INT64_MAX - now) / NS_PER_MS)
		return DMA_FENCE_NEVER;
	return now + (int64_t)timeout * NS_PER_MS;
}

long fence_remaining_time(int ret, long timeout, int64_t deadline)
{
	int64_t left;

	if (ret == -ETIMEDOUT)
		return 0;
	if (ret)
		return ret;
	if (deadline == DMA_FENCE_NEVER)
		return timeout;
	left = (deadline - (int64_t)mmn_now_ns()) / NS_PER_MS;
	return left > 0 ? (long)left : 1;
}

static int sleep_on_flags(struct dma_fence *fence, const struct limit *limit)
{
	bool late = false;

	for (;;) {
		unsigned long flags = fence_flags_acquire(fence);

		if (flags & FENCE_BIT(SIGNALED))
			return 0;
		if (late)
			return -ETIMEDOUT;
		/* relaxed: in the word itself that the signal changes */
		if (!(flags & FENCE_BIT(SLEEPER)) &&
		    !mmn_cmpxchg_relaxed(&fence->flags, &flags,
					 flags | FENCE_BIT(SLEEPER)))
			continue;
		late = mmn_wait_on(fence_futex(fence),
				   (uint32_t)(flags | FENCE_BIT(SLEEPER)),
				   limit_deadline(limit)) == -ETIMEDOUT;
	}
}

void fence_sleeper_init(struct fence_sleeper *sleeper, bool intr)
{
	struct dma_fence_cancel *cancel = intr ? bound_cancel : NULL;

	sleeper->own_word = 0;
	sleeper->cancel = cancel;
	sleeper->word = cancel ? &cancel->word : &sleeper->own_word;
}

void fence_sleeper_wake(struct fence_sleeper *sleeper)
{
	uint32_t *word = sleeper->word;

	/*
	 * pair(sleeper_word): release, with the acquire in
	 * fence_sleeper_look().  Without it the sleeper sees the word moved,
	 * but not yet the fence signalled, and sleeps on the moved word.
	 */
	mmn_fetch_add_release(word, MOVE);
	mmn_wake(word, INT_MAX);
}

bool fence_sleeper_is_cancelled(const struct fence_sleeper *sleeper)
{
	return is_cancelled(sleeper->cancel);
}

uint32_t fence_sleeper_look(const struct fence_sleeper *sleeper)
{
	/*
	 * pair(sleeper_word): acquire, with the release in
	 * fence_sleeper_wake().  Without it the fence may be looked at before
	 * the word, and the sleeper sleeps on a word that was moved between.
	 */
	return mmn_load_acquire(sleeper->word);
}

int fence_sleeper_sleep(struct fence_sleeper *sleeper, uint32_t seen,
			int64_t deadline)
{
	struct limit limit = limit_at(deadline);

	return mmn_wait_on(sleeper->word, seen, limit_deadline(&limit));
}

/* A callback that moves the word its sleeper sleeps on. */
struct wake_up {
	struct dma_fence_cb cb;
	struct fence_sleeper *sleeper;
};

static void wake_up(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	(void)fence;
	fence_sleeper_wake(container_of(cb, struct wake_up, cb)->sleeper);
}

struct several {
	struct dma_fence **fences;
	struct wake_up *wakers;
	uint32_t count;
	/* how many wakers were added; a fence that refused its own ends it */
	uint32_t nr_added;
};

/* The lowest one that has signalled, or count. */
static uint32_t find_signaled(const struct several *several)
{
	uint32_t i;

	for (i = 0; i < several->count; i++)
		if (dma_fence_test_signaled_flag(several->fences[i]))
			break;
	return i;
}

static void add_wakers(struct several *several, struct fence_sleeper *sleeper)
{
	uint32_t i;

	for (i = 0; i < several->count; i++) {
		several->wakers[i].sleeper = sleeper;
		if (dma_fence_add_callback(several->fences[i],
					   &several->wakers[i].cb, wake_up))
			break;
	}
	several->nr_added = i;
}

static void remove_wakers(struct several *several)
{
	uint32_t i;

	for (i = 0; i < several->nr_added; i++)
		dma_fence_remove_callback(several->fences[i],
					  &several->wakers[i].cb);
}

/*
 * Why a move of the word cannot be missed: the word is read before the fences,
 * and a fence's flag is set before its callback moves the word.
 */
static int sleep_on_word(struct several *several, struct fence_sleeper *sleeper,
			 int64_t deadline, uint32_t *ret_index)
{
	bool late = false;

	for (;;) {
		uint32_t seen = fence_sleeper_look(sleeper);
		uint32_t index = find_signaled(several);

		if (index < several->count) {
			*ret_index = index;
			return 0;
		}
		if (fence_sleeper_is_cancelled(sleeper))
			return -ERESTARTSYS;
		if (late)
			return -ETIMEDOUT;
		late = fence_sleeper_sleep(sleeper, seen, deadline) ==
		       -ETIMEDOUT;
	}
}

/* Any of several, signalling not yet enabled. */
static int wait_for_any(struct several *several, bool intr, int64_t deadline,
			uint32_t *ret_index)
{
	struct fence_sleeper sleeper;
	int ret;

	fence_sleeper_init(&sleeper, intr);
	add_wakers(several, &sleeper);
	if (several->nr_added < several->count) {
		*ret_index = several->nr_added;
		ret = 0;
	} else {
		ret = sleep_on_word(several, &sleeper, deadline, ret_index);
	}
	remove_wakers(several);
	return ret;
}

/* One fence, signalling enabled. */
static int wait_for_one(struct dma_fence *fence, bool intr, int64_t deadline)
{
	struct limit limit = limit_at(deadline);
	struct wake_up waker;
	struct several one = { &fence, &waker, 1, 0 };
	uint32_t index;

	if (intr && bound_cancel)
		return wait_for_any(&one, intr, deadline, &index);
	return sleep_on_flags(fence, &limit);
}

long dma_fence_default_wait(struct dma_fence *fence, bool intr, long timeout)
{
	int64_t deadline;
	int ret;

	mmn_bug_on(timeout < 0, "waits for a negative time");
	if (timeout < 0)
		return -EINVAL;
	if (dma_fence_test_signaled_flag(fence))
		return timeout ?: 1;
	if (intr && is_cancelled(bound_cancel))
		return -ERESTARTSYS;
	if (!timeout)
		return 0;
	deadline = fence_deadline_of(timeout);
	ret = wait_for_one(fence, intr, deadline);
	return fence_remaining_time(ret, timeout, deadline);
}

typedef long (*wait_op)(struct dma_fence *fence, bool intr, long timeout);

/* Ops with a wait stay, so that it may be called outside of read sections. */
static wait_op custom_wait(struct dma_fence *fence)
{
	const struct dma_fence_ops *ops;
	wait_op wait;

	mmn_rcu_read_lock();
	ops = fence_ops(fence);
	wait = ops ? ops->wait : NULL;
	mmn_rcu_read_unlock();
	return wait;
}

static void begin_wait(struct dma_fence *fence)
{
	dma_fence_might_wait();
	MMN_PROBE(fence_wait_start, fence);
	fence_enable(fence);
}

long dma_fence_wait_timeout(struct dma_fence *fence, bool intr, long timeout)
{
	wait_op wait;
	long ret;

	mmn_bug_on(timeout < 0, "waits for a negative time");
	if (timeout < 0)
		return -EINVAL;
	begin_wait(fence);
	wait = custom_wait(fence);
	ret = (wait ?: dma_fence_default_wait)(fence, intr, timeout);
	MMN_PROBE(fence_wait_end, fence, ret);
	return ret;
}

long dma_fence_wait(struct dma_fence *fence, bool intr)
{
	long ret = dma_fence_wait_timeout(fence, intr, DMA_FENCE_TIMEOUT_MAX);

	return ret < 0 ? ret : 0;
}

/* The wait op knows milliseconds from now; at least the whole time. */
static int wait_until_by_op(struct dma_fence *fence, bool intr,
			    int64_t deadline, wait_op wait)
{
	int64_t now = (int64_t)mmn_now_ns();
	long timeout = DMA_FENCE_TIMEOUT_MAX;
	long ret;

	if (deadline <= now)
		timeout = 0;
	else if (deadline != DMA_FENCE_NEVER)
		timeout = (long)((deadline - now) / NS_PER_MS) + 1;
	ret = wait(fence, intr, timeout);
	if (ret < 0)
		return (int)ret;
	return ret || dma_fence_test_signaled_flag(fence) ? 0 : -ETIMEDOUT;
}

int dma_fence_wait_until(struct dma_fence *fence, bool intr, int64_t deadline)
{
	wait_op wait;

	begin_wait(fence);
	wait = custom_wait(fence);
	if (wait)
		return wait_until_by_op(fence, intr, deadline, wait);
	if (dma_fence_test_signaled_flag(fence))
		return 0;
	if (intr && is_cancelled(bound_cancel))
		return -ERESTARTSYS;
	return wait_for_one(fence, intr, deadline);
}

static bool all_are_there(struct dma_fence **fences, uint32_t count)
{
	uint32_t i;

	if (!fences)
		return !count;
	for (i = 0; i < count; i++)
		if (!fences[i])
			return false;
	return true;
}

/* Without sleeping, in the order of the array; this asks the producers. */
static bool ask_any(struct dma_fence **fences, uint32_t count,
		    uint32_t *ret_index)
{
	uint32_t i;

	for (i = 0; i < count; i++) {
		if (!dma_fence_is_signaled(fences[i]))
			continue;
		*ret_index = i;
		return true;
	}
	return false;
}

static struct wake_up *allocate_wakers(struct wake_up *on_stack, uint32_t count)
{
	if (count <= NR_ON_STACK)
		return on_stack;
	if (MMN_INJECT(MMN_INJECT_ALLOC))
		return NULL;
	return calloc(count, sizeof(struct wake_up));
}

static long wait_any(struct dma_fence **fences, uint32_t count, bool intr,
		     long timeout, uint32_t *ret_index)
{
	struct several several = { fences, NULL, count, 0 };
	struct wake_up on_stack[NR_ON_STACK];
	int64_t deadline;
	bool refused;
	int ret;

	/* One look at each is cheap beside a callback on each. */
	*ret_index = find_signaled(&several);
	if (*ret_index < count)
		return timeout;
	deadline = fence_deadline_of(timeout);
	several.wakers = allocate_wakers(on_stack, count);
	if (!several.wakers)
		return -ENOMEM;
	ret = wait_for_any(&several, intr, deadline, ret_index);
	/* One that had signalled before costs no time. */
	refused = several.nr_added < count;
	if (several.wakers != on_stack)
		free(several.wakers);
	return refused ? timeout : fence_remaining_time(ret, timeout, deadline);
}

long dma_fence_wait_any_timeout(struct dma_fence **fences, uint32_t count,
				bool intr, long timeout, uint32_t *idx)
{
	uint32_t index = 0;
	long ret;

	if (!count || timeout < 0 || !all_are_there(fences, count))
		return -EINVAL;
	dma_fence_might_wait();
	if (!timeout)
		ret = ask_any(fences, count, &index);
	else
		ret = wait_any(fences, count, intr, timeout, &index);
	if (ret > 0 && idx)
		*idx = index;
	return ret;
}

int fence_wait_part(struct dma_fence *fence, bool intr, long timeout,
		    int64_t deadline)
{
	long ret;

	if (timeout)
		return dma_fence_wait_until(fence, intr, deadline);
	ret = dma_fence_wait_timeout(fence, intr, 0);
	if (ret < 0)
		return (int)ret;
	return ret ? 0 : -ETIMEDOUT;
}

long dma_fence_wait_all_timeout(struct dma_fence **fences, uint32_t count,
				bool intr, long timeout)
{
	int64_t deadline;
	bool slept = false;
	uint32_t i;

	if (timeout < 0 || !all_are_there(fences, count))
		return -EINVAL;
	dma_fence_might_wait();
	deadline = fence_deadline_of(timeout);
	for (i = 0; i < count; i++) {
		int ret;

		if (dma_fence_is_signaled(fences[i]))
			continue;
		slept = timeout > 0;
		ret = fence_wait_part(fences[i], intr, timeout, deadline);
		if (ret)
			return ret == -ETIMEDOUT ? 0 : ret;
	}
	return slept ? fence_remaining_time(0, timeout, deadline) : timeout ?: 1;
}
