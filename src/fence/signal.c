/* SPDX-License-Identifier: MIT */
/*
 * Signalling and callbacks.
 *
 * Callbacks run without the list's lock.  The guarantee of
 * dma_fence_remove_callback() is kept by telling, under it, which one is running:
 *
 *	CPU0: signals                      CPU1: removes cb
 *
 *	lock
 *	take cb from the list
 *	run->cb = cb
 *	unlock
 *	cb->func()                         lock
 *	                                   not on the list, run->cb == cb:
 *	                                     run->awaited = true
 *	                                     unlock, sleep on turn
 *	lock
 *	run->cb = NULL
 *	awaited: turn++, wake              [the function has returned]
 *	unlock                             lock, look again
 *
 * A callback may signal another fence, whose callbacks may signal a third.  Only
 * the outermost signal of a thread works: others put their fence on the thread's
 * queue.  So the stack stays small and no lock is held inside another, and an
 * array or a chain needs no thread to be signalled by.
 */
#include <limits.h>

#include "base/context.h"
#include "base/probe.h"
#include "base/time.h"
#include "base/wait.h"
#include "fence/fence.h"
#include "fence/signalling.h"

struct signal_queue {
	/* a signal of this thread is working */
	bool busy;
	struct dma_fence *first;
	struct dma_fence *last;
};

static __thread struct signal_queue queue
	__attribute__((tls_model("initial-exec")));

/*
 * True for the one who did it; *@ret_was is what the flags were, with a sleeper
 * who waits for the time.
 */
static bool mark_signaled(struct dma_fence *fence, int64_t timestamp,
			  unsigned long *ret_was)
{
	unsigned long was;

	/*
	 * pair(fence_signal): release, with the acquire in
	 * fence_flags_acquire() and append_callback().  Without it somebody
	 * who sees the fence signalled reads the error, or the data that the
	 * device was to write, from before.
	 *
	 * pair(fence_enabled): acquire, with the release in
	 * fence_end_enable().  Without it the producer may take down what its
	 * enable op, which has just returned, was writing to.
	 */
	was = mmn_fetch_or_acq_rel(&fence->flags, FENCE_BIT(SIGNALED));
	if (was & FENCE_BIT(SIGNALED))
		return false;
	/*
	 * relaxed: readers look at the flag too.  The ops themselves may be
	 * gone already if this is not the producer.
	 */
	if (!(was & FENCE_BIT(KEEP_OPS)))
		mmn_store_relaxed(&fence->ops, NULL);
	fence->timestamp = timestamp;
	/*
	 * pair(fence_time): release, with the acquire in await_flags().
	 * Without it the time may be read before it is there.
	 */
	was |= mmn_fetch_or_release(&fence->flags, FENCE_BIT(TIMESTAMP)) &
	       FENCE_BIT(SLEEPER);
	MMN_PROBE(fence_signaled, fence, fence->context, fence->seqno);
	*ret_was = was;
	return true;
}

static struct dma_fence_cb *first_callback(struct dma_fence *fence)
{
	struct dma_fence_link *list = &fence->stage.live.cb_list;

	if (!link_is_queued(list))
		return NULL;
	return container_of(list->next, struct dma_fence_cb, node);
}

static void run_callbacks(struct dma_fence *fence)
{
	struct callback_run run = { .thread = mmn_context_self() };
	struct dma_fence_cb *cb;

	mmn_spin_lock(&fence->list_lock);
	fence->stage.live.run = &run;
	while ((cb = first_callback(fence))) {
		link_del(&cb->node);
		run.cb = cb;
		mmn_spin_unlock(&fence->list_lock);
		cb->func(fence, cb);
		mmn_spin_lock(&fence->list_lock);
		run.cb = NULL;
		if (!run.awaited)
			continue;
		run.awaited = false;
		/* relaxed: the lock orders it, sleepers only compare */
		mmn_store_relaxed(&fence->turn, fence->turn + 1);
		mmn_wake(&fence->turn, INT_MAX);
	}
	fence->stage.live.run = NULL;
	mmn_spin_unlock(&fence->list_lock);
}

static void enqueue(struct dma_fence *fence)
{
	fence->stage.live.next = NULL;
	if (queue.last)
		queue.last->stage.live.next = fence;
	else
		queue.first = fence;
	queue.last = fence;
}

static struct dma_fence *dequeue(void)
{
	struct dma_fence *fence = queue.first;

	if (!fence)
		return NULL;
	queue.first = fence->stage.live.next;
	if (!queue.first)
		queue.last = NULL;
	return fence;
}

static void work_off_queue(void)
{
	struct dma_fence *fence;

	while ((fence = dequeue())) {
		run_callbacks(fence);
		dma_fence_put(fence);
	}
	queue.busy = false;
}

static void run_or_queue(struct dma_fence *fence)
{
	if (queue.busy) {
		enqueue(dma_fence_get(fence));
		return;
	}
	queue.busy = true;
	run_callbacks(fence);
	work_off_queue();
}

/*
 * It has signalled: sleep until @bit is as @wanted.  Not spin: who is to change it
 * may be waiting for this very processor, below our priority.
 */
static void await_flags(struct dma_fence *fence, unsigned long bit, bool wanted)
{
	unsigned long flags;

	for (;;) {
		/*
		 * pair(fence_enabled): acquire, with the release in
		 * fence_end_enable().  Without it the producer may take down
		 * what its enable op is still writing to.
		 *
		 * pair(fence_time): acquire, with the release in
		 * mark_signaled().  Without it the time may be read before it
		 * is there.
		 */
		flags = mmn_load_acquire(&fence->flags);
		if (!!(flags & bit) == wanted)
			return;
		/* relaxed: in the word itself that changes */
		if (flags & FENCE_BIT(SLEEPER) ||
		    mmn_cmpxchg_relaxed(&fence->flags, &flags,
					flags | FENCE_BIT(SLEEPER)))
			mmn_wait_briefly(fence_futex(fence),
					 (uint32_t)(flags |
						    FENCE_BIT(SLEEPER)));
	}
}

static void await_enable_op(struct dma_fence *fence)
{
	await_flags(fence, FENCE_BIT(ENABLING), false);
}

static bool signal_fence(struct dma_fence *fence, int64_t timestamp,
			 bool locked)
{
	unsigned long was;

	if (!mark_signaled(fence, timestamp, &was))
		return false;
	if (unlikely(was & FENCE_BIT(SLEEPER)))
		mmn_wake(fence_futex(fence), INT_MAX);
	/* Who holds the lock keeps the op out, or is the op. */
	if (unlikely(was & FENCE_BIT(ENABLING)) && !locked)
		await_enable_op(fence);
	if (unlikely(was & FENCE_BIT(CALLBACK)))
		run_or_queue(fence);
	return true;
}

/* Somebody else has; that is over only when the enable op is, too. */
static bool was_signaled(struct dma_fence *fence, bool locked)
{
	unsigned long flags = fence_flags_acquire(fence);

	if (!(flags & FENCE_BIT(SIGNALED)))
		return false;
	if (unlikely(flags & FENCE_BIT(ENABLING)) && !locked)
		await_enable_op(fence);
	return true;
}

static int signal_now(struct dma_fence *fence, bool locked)
{
	bool cookie;
	bool done;

	mmn_bug_on(!fence, "NULL is signalled");
	if (!fence || was_signaled(fence, locked))
		return -EINVAL;
	cookie = signalling_begin();
	done = signal_fence(fence, (int64_t)mmn_now_ns(), locked);
	signalling_end(cookie);
	if (done)
		return 0;
	was_signaled(fence, locked);
	return -EINVAL;
}

static int signal_at(struct dma_fence *fence, int64_t timestamp, bool locked)
{
	mmn_bug_on(!fence, "NULL is signalled");
	if (!fence || was_signaled(fence, locked))
		return -EINVAL;
	if (signal_fence(fence, timestamp, locked))
		return 0;
	was_signaled(fence, locked);
	return -EINVAL;
}

int dma_fence_signal(struct dma_fence *fence)
{
	return signal_now(fence, false);
}

int dma_fence_signal_locked(struct dma_fence *fence)
{
	return signal_now(fence, true);
}

int dma_fence_signal_timestamp(struct dma_fence *fence, int64_t timestamp)
{
	return signal_at(fence, timestamp, false);
}

int dma_fence_signal_timestamp_locked(struct dma_fence *fence,
				      int64_t timestamp)
{
	return signal_at(fence, timestamp, true);
}

bool dma_fence_check_and_signal(struct dma_fence *fence)
{
	return signal_now(fence, false) < 0;
}

bool dma_fence_check_and_signal_locked(struct dma_fence *fence)
{
	return signal_now(fence, true) < 0;
}

int dma_fence_signal_sync(struct dma_fence *fence)
{
	int ret = dma_fence_signal(fence);

	mmn_rcu_synchronize();
	return ret;
}

void fence_init_signaled(struct dma_fence *fence, int64_t timestamp)
{
	fence->timestamp = timestamp;
	/* relaxed: nobody else has it yet */
	mmn_fetch_or_relaxed(&fence->flags, FENCE_BIT(ENABLE_SIGNAL) |
						    FENCE_BIT(SIGNALED) |
						    FENCE_BIT(TIMESTAMP));
}

void fence_signal_dying(struct dma_fence *fence)
{
	unsigned long was;

	mmn_bug("the last reference to a fence is dropped, but callbacks wait");
	fence->error = -EDEADLK;
	if (!mark_signaled(fence, (int64_t)mmn_now_ns(), &was))
		return;
	/*
	 * The queue's: callbacks may take references and drop them.
	 * relaxed: nobody else changes it while it is 0
	 */
	mmn_store_relaxed(&fence->refcount, 1);
	enqueue(fence);
	if (queue.busy)
		return;
	queue.busy = true;
	work_off_queue();
}

void dma_fence_set_error(struct dma_fence *fence, int error)
{
	bool late = dma_fence_test_signaled_flag(fence);
	bool valid = error < 0 && error >= -4095;

	mmn_bug_on(late, "an error is set after the signal");
	mmn_bug_on(!valid, "an error is not between -4095 and -1");
	if (!late && valid)
		fence->error = error;
}

bool dma_fence_test_signaled_flag(struct dma_fence *fence)
{
	return fence_flags_acquire(fence) & FENCE_BIT(SIGNALED);
}

/* Does the producer know more than the flag? */
static bool producer_says_signaled(struct dma_fence *fence)
{
	const struct dma_fence_ops *ops;
	bool hit;

	mmn_rcu_read_lock();
	ops = fence_ops(fence);
	hit = ops && ops->signaled && ops->signaled(fence);
	mmn_rcu_read_unlock();
	return hit;
}

bool dma_fence_is_signaled(struct dma_fence *fence)
{
	if (dma_fence_test_signaled_flag(fence))
		return true;
	if (!producer_says_signaled(fence))
		return false;
	signal_now(fence, false);
	return true;
}

bool dma_fence_is_signaled_locked(struct dma_fence *fence)
{
	if (dma_fence_test_signaled_flag(fence))
		return true;
	if (!producer_says_signaled(fence))
		return false;
	signal_now(fence, true);
	return true;
}

/* It has signalled. */
static int final_status(struct dma_fence *fence)
{
	/* relaxed: set before the flag; an array's perhaps by another member's thread */
	return mmn_load_relaxed(&fence->error) ?: 1;
}

int dma_fence_get_status(struct dma_fence *fence)
{
	return dma_fence_is_signaled(fence) ? final_status(fence) : 0;
}

int dma_fence_get_status_locked(struct dma_fence *fence)
{
	return dma_fence_is_signaled_locked(fence) ? final_status(fence) : 0;
}

int64_t dma_fence_timestamp(struct dma_fence *fence)
{
	bool late = dma_fence_test_signaled_flag(fence);

	mmn_bug_on(!late, "the time of a signal that has not been");
	if (!late)
		return (int64_t)mmn_now_ns();
	await_flags(fence, FENCE_BIT(TIMESTAMP), true);
	return fence->timestamp;
}

/*
 * ENABLE_SIGNAL and ENABLING come in one step: after a signal has returned, the
 * enable op has returned or will not be called.
 */
bool fence_claim_enable(struct dma_fence *fence)
{
	/* relaxed, all: who gets it is decided in this word */
	unsigned long flags = mmn_load_relaxed(&fence->flags);
	unsigned long next;

	do {
		if (flags & FENCE_BIT(ENABLE_SIGNAL))
			return false;
		next = flags | FENCE_BIT(ENABLE_SIGNAL);
		if (!(flags & FENCE_BIT(SIGNALED)))
			next |= FENCE_BIT(ENABLING);
	} while (!mmn_cmpxchg_relaxed(&fence->flags, &flags, next));
	return next & FENCE_BIT(ENABLING);
}

void fence_end_enable(struct dma_fence *fence)
{
	unsigned long was;

	/*
	 * pair(fence_enabled): release, with the acquire in await_flags() and
	 * mark_signaled().  Without it the producer may take down what its
	 * enable op is still writing to.
	 */
	was = mmn_fetch_and_release(&fence->flags, ~FENCE_BIT(ENABLING));
	/* Before the signal it is the fence that they sleep for. */
	if (unlikely(was & FENCE_BIT(SIGNALED)) && was & FENCE_BIT(SLEEPER))
		mmn_wake(fence_futex(fence), INT_MAX);
}

/* Has the producer got it under way? */
static bool enable_locked(struct dma_fence *fence)
{
	const struct dma_fence_ops *ops;
	bool under_way = true;

	if (!fence_claim_enable(fence))
		return true;
	ops = fence_ops(fence);
	if (ops && ops->enable_signaling) {
		MMN_PROBE(fence_enable_signal, fence);
		under_way = ops->enable_signaling(fence);
	}
	fence_end_enable(fence);
	return under_way;
}

/* The lock may be the producer's: it is there if the fence is pending here. */
static bool enable_in_section(struct dma_fence *fence)
{
	bool under_way;

	if (dma_fence_test_signaled_flag(fence)) {
		/* relaxed: says only that somebody wanted to know */
		mmn_fetch_or_relaxed(&fence->flags, FENCE_BIT(ENABLE_SIGNAL));
		return true;
	}
	mmn_spin_lock(fence->lock);
	under_way = enable_locked(fence);
	mmn_spin_unlock(fence->lock);
	return under_way;
}

bool fence_hold_callbacks(void)
{
	bool outermost = !queue.busy;

	queue.busy = true;
	return outermost;
}

void fence_run_callbacks(bool outermost)
{
	if (outermost)
		work_off_queue();
}

/* What an op signals runs its callbacks after the lock is released. */
static bool enable_by_op(struct dma_fence *fence)
{
	bool outermost = fence_hold_callbacks();
	bool under_way;

	mmn_rcu_read_lock();
	under_way = enable_in_section(fence);
	mmn_rcu_read_unlock();
	if (!under_way)
		signal_now(fence, false);
	fence_run_callbacks(outermost);
	return !dma_fence_test_signaled_flag(fence);
}

bool fence_enable(struct dma_fence *fence)
{
	unsigned long flags = fence_flags_acquire(fence);

	if (flags & FENCE_BIT(ENABLE_SIGNAL))
		return !(flags & FENCE_BIT(SIGNALED));
	if (flags & FENCE_BIT(ENABLE_OP))
		return enable_by_op(fence);
	/* relaxed: nobody is called, and nobody else looks at it */
	mmn_fetch_or_relaxed(&fence->flags, FENCE_BIT(ENABLE_SIGNAL));
	return !(flags & FENCE_BIT(SIGNALED));
}

void dma_fence_enable_sw_signaling(struct dma_fence *fence)
{
	fence_enable(fence);
}

static bool append_callback(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	unsigned long was;

	/*
	 * pair(fence_signal): acquire, with the release in mark_signaled().
	 * Without it who is told that the fence has signalled may read the
	 * error, or the data, from before.
	 */
	was = mmn_fetch_or_acquire(&fence->flags, FENCE_BIT(CALLBACK));
	if (was & FENCE_BIT(SIGNALED))
		return false;
	link_add_tail(&cb->node, &fence->stage.live.cb_list);
	return true;
}

bool fence_append_callback(struct dma_fence *fence, struct dma_fence_cb *cb,
			   dma_fence_func_t func)
{
	bool added;

	link_init(&cb->node);
	cb->func = func;
	mmn_spin_lock(&fence->list_lock);
	added = append_callback(fence, cb);
	mmn_spin_unlock(&fence->list_lock);
	return added;
}

int dma_fence_add_callback(struct dma_fence *fence, struct dma_fence_cb *cb,
			   dma_fence_func_t func)
{
	bool valid = fence && cb && func;

	mmn_bug_on(!valid, "a callback without a fence or a function");
	if (!valid)
		return -EINVAL;
	link_init(&cb->node);
	if (dma_fence_test_signaled_flag(fence) || !fence_enable(fence))
		return -ENOENT;
	return fence_append_callback(fence, cb, func) ? 0 : -ENOENT;
}

/* The list is locked.  Is @cb being called by another thread? */
static bool is_running_elsewhere(struct dma_fence *fence,
				 const struct dma_fence_cb *cb)
{
	struct callback_run *run = fence->stage.live.run;

	if (!run || run->cb != cb || run->thread == mmn_context_self())
		return false;
	run->awaited = true;
	return true;
}

static void forget_empty_list(struct dma_fence *fence)
{
	if (!first_callback(fence))
		/* relaxed: guards nothing, the list's lock does */
		mmn_fetch_and_relaxed(&fence->flags, ~FENCE_BIT(CALLBACK));
}

bool dma_fence_remove_callback(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	bool queued;

	mmn_spin_lock(&fence->list_lock);
	while (!(queued = link_is_queued(&cb->node)) &&
	       is_running_elsewhere(fence, cb)) {
		uint32_t turn = fence->turn;

		mmn_spin_unlock(&fence->list_lock);
		mmn_wait_on(&fence->turn, turn, NULL);
		mmn_spin_lock(&fence->list_lock);
	}
	if (queued) {
		link_del(&cb->node);
		forget_empty_list(fence);
	}
	mmn_spin_unlock(&fence->list_lock);
	return queued;
}
