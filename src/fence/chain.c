/* SPDX-License-Identifier: MIT */
/*
 * Timelines made of other fences.
 *
 * A node that somebody waits for is armed: it has a callback on the fence inside
 * and one on the node before it, which is armed, too.  When both were called it
 * signals, and the callback on it tells the node behind it.  So each link costs two
 * callbacks, in whatever order the fences signal; Linux arms only the last node and
 * moves its one callback from fence to fence, which is n steps for each of n
 * waiters when the newest signals first.
 *
 * Arming goes back in time in a loop, not by the nodes enabling each other, and
 * signalling comes forward through the thread's queue of signals: both need the
 * same small stack for a million nodes.  So does freeing, see chain_release().
 *
 * C1  an armed node has a reference to itself until both callbacks were called.
 * C2  nr_pending is 2 for the callbacks and 1 for whoever is arming; it becomes 0
 *     once.
 * C3  prev is replaced only by what was before it, after it has signalled.
 */
#include <mmn/dma-fence-chain.h>

#include <stdlib.h>

#include "base/inject.h"
#include "fence/fence.h"

struct dead_list {
	bool busy;
	struct dma_fence_chain *first;
};

static __thread struct dead_list dead
	__attribute__((tls_model("initial-exec")));

static const char *chain_driver_name(struct dma_fence *fence)
{
	(void)fence;
	return "dma_fence_chain";
}

static const char *chain_timeline_name(struct dma_fence *fence)
{
	(void)fence;
	return "unbound";
}

static struct dma_fence *get_prev(struct dma_fence_chain *chain)
{
	struct dma_fence *prev;

	mmn_rcu_read_lock();
	prev = dma_fence_get_rcu_safe(&chain->prev);
	mmn_rcu_read_unlock();
	return prev;
}

static bool drop_pending(struct dma_fence_chain *chain)
{
	/*
	 * pair(chain_pending): release and acquire, with itself in
	 * drop_pending() of another thread.  Without it the node signals before
	 * what the other fence's producer wrote is visible.
	 */
	return mmn_fetch_sub_acq_rel(&chain->nr_pending, 1) == 1;
}

static void signal_if_complete(struct dma_fence_chain *chain)
{
	if (!drop_pending(chain))
		return;
	dma_fence_signal(&chain->base);
	dma_fence_put(&chain->base);
}

static void own_signaled(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	(void)fence;
	signal_if_complete(container_of(cb, struct dma_fence_chain, cb));
}

static void prev_signaled(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	(void)fence;
	signal_if_complete(container_of(cb, struct dma_fence_chain, prev_cb));
}

/* True when a callback on @prev will come; *@ret_claimed: the caller arms it. */
static bool watch_prev(struct dma_fence_chain *chain, struct dma_fence *prev,
		       bool *ret_claimed)
{
	*ret_claimed = false;
	if (!dma_fence_is_chain(prev))
		return !dma_fence_add_callback(prev, &chain->prev_cb,
					       prev_signaled);
	*ret_claimed = fence_claim_enable(prev);
	return fence_append_callback(prev, &chain->prev_cb, prev_signaled);
}

/*
 * Whoever calls it takes off the third of nr_pending.  The node before it, with a
 * reference, if that is to be armed next.
 */
static struct dma_fence_chain *arm(struct dma_fence_chain *chain)
{
	struct dma_fence *prev;
	bool claimed;

	/* relaxed: no callback is there yet */
	mmn_store_relaxed(&chain->nr_pending, 3);
	dma_fence_get(&chain->base);
	if (dma_fence_add_callback(chain->fence, &chain->cb, own_signaled))
		drop_pending(chain);
	prev = get_prev(chain);
	if (!prev || !watch_prev(chain, prev, &claimed))
		drop_pending(chain);
	if (prev && claimed)
		return to_dma_fence_chain(prev);
	dma_fence_put(prev);
	return NULL;
}

static bool chain_enable_signaling(struct dma_fence *fence)
{
	struct dma_fence_chain *last = to_dma_fence_chain(fence);
	struct dma_fence_chain *chain = arm(last);

	while (chain) {
		struct dma_fence_chain *older = arm(chain);

		fence_end_enable(&chain->base);
		signal_if_complete(chain);
		dma_fence_put(&chain->base);
		chain = older;
	}
	if (!drop_pending(last))
		return true;
	/* The caller has another reference, and signals. */
	dma_fence_put(fence);
	return false;
}

static bool chain_signaled(struct dma_fence *fence)
{
	struct dma_fence *iter;

	dma_fence_chain_for_each(iter, fence)
	{
		if (dma_fence_is_signaled(dma_fence_chain_contained(iter)))
			continue;
		dma_fence_put(iter);
		return false;
	}
	return true;
}

/*
 * A node has a reference to the one before it, which may be the last one, and so
 * on.  Only the outermost release of a thread works; those inside leave their node
 * on its list.
 */
static void chain_release(struct dma_fence *fence)
{
	struct dma_fence_chain *chain =
		container_of(fence, struct dma_fence_chain, base);

	chain->next_dead = dead.first;
	dead.first = chain;
	if (dead.busy)
		return;
	dead.busy = true;
	while ((chain = dead.first)) {
		dead.first = chain->next_dead;
		dma_fence_put(chain->prev);
		dma_fence_put(chain->fence);
		dma_fence_free(&chain->base);
	}
	dead.busy = false;
}

static void chain_set_deadline(struct dma_fence *fence, int64_t deadline)
{
	struct dma_fence *iter;

	dma_fence_chain_for_each(iter, fence) dma_fence_set_deadline(
		dma_fence_chain_contained(iter), deadline);
}

static const struct dma_fence_ops chain_ops = {
	.use_64bit_seqno = true,
	.get_driver_name = chain_driver_name,
	.get_timeline_name = chain_timeline_name,
	.enable_signaling = chain_enable_signaling,
	.signaled = chain_signaled,
	.release = chain_release,
	.set_deadline = chain_set_deadline,
};

bool dma_fence_is_chain(struct dma_fence *fence)
{
	return fence && fence_ops(fence) == &chain_ops;
}

bool dma_fence_is_container(struct dma_fence *fence)
{
	return dma_fence_is_chain(fence) || dma_fence_is_array(fence);
}

struct dma_fence_chain *to_dma_fence_chain(struct dma_fence *fence)
{
	if (!dma_fence_is_chain(fence))
		return NULL;
	return container_of(fence, struct dma_fence_chain, base);
}

struct dma_fence *dma_fence_chain_contained(struct dma_fence *fence)
{
	struct dma_fence_chain *chain = to_dma_fence_chain(fence);

	return chain ? chain->fence : fence;
}

struct dma_fence_chain *dma_fence_chain_alloc(void)
{
	if (MMN_INJECT(MMN_INJECT_ALLOC))
		return NULL;
	return malloc(sizeof(struct dma_fence_chain));
}

void dma_fence_chain_free(struct dma_fence_chain *chain)
{
	free(chain);
}

void dma_fence_chain_init(struct dma_fence_chain *chain, struct dma_fence *prev,
			  struct dma_fence *fence, uint64_t seqno)
{
	struct dma_fence_chain *prev_chain = to_dma_fence_chain(prev);
	uint64_t context;

	mmn_bug_on(dma_fence_is_chain(fence), "a chain is put into a chain");
	if (prev_chain && seqno > prev->seqno) {
		context = prev->context;
		chain->prev_seqno = prev->seqno;
	} else {
		context = dma_fence_context_alloc(1);
		chain->prev_seqno = 0;
		if (prev_chain && prev->seqno > seqno)
			seqno = prev->seqno;
	}
	chain->prev = prev;
	chain->fence = fence;
	dma_fence_init(&chain->base, &chain_ops, NULL, context, seqno);
}

/* What may take the place of @prev; false while it is needed itself. */
static bool find_replacement(struct dma_fence *prev,
			     struct dma_fence **ret_replacement)
{
	struct dma_fence_chain *chain = to_dma_fence_chain(prev);

	if (!dma_fence_is_signaled(chain ? chain->fence : prev))
		return false;
	*ret_replacement = chain ? get_prev(chain) : NULL;
	return true;
}

static void splice(struct dma_fence_chain *chain, struct dma_fence *prev,
		   struct dma_fence *replacement)
{
	struct dma_fence *found = prev;

	/*
	 * pair(fence_slot): release, with the acquire in
	 * dma_fence_get_rcu_safe().  Without it who does not find @prev here
	 * any more takes it for signalled, and reads what its producer wrote
	 * from before.
	 */
	if (mmn_cmpxchg_release(&chain->prev, &found, replacement))
		dma_fence_put(prev);
	else
		dma_fence_put(replacement);
}

struct dma_fence *dma_fence_chain_walk(struct dma_fence *fence)
{
	struct dma_fence_chain *chain = to_dma_fence_chain(fence);
	struct dma_fence *prev = NULL, *replacement;

	while (chain && (prev = get_prev(chain)) &&
	       find_replacement(prev, &replacement)) {
		splice(chain, prev, replacement);
		dma_fence_put(prev);
	}
	dma_fence_put(fence);
	return prev;
}

/* Is it the first one that is not before @seqno? */
static bool stands_for(struct dma_fence *fence, uint64_t context,
		       uint64_t seqno)
{
	struct dma_fence_chain *chain = to_dma_fence_chain(fence);

	return !chain || fence->context != context || chain->prev_seqno < seqno;
}

int dma_fence_chain_find_seqno(struct dma_fence **pfence, uint64_t seqno)
{
	struct dma_fence_chain *chain;
	struct dma_fence *iter;

	if (!seqno)
		return 0;
	chain = to_dma_fence_chain(*pfence);
	if (!chain || chain->base.seqno < seqno)
		return -EINVAL;
	dma_fence_chain_for_each(
		iter, &chain->base) if (stands_for(iter, chain->base.context,
						   seqno)) break;
	*pfence = iter;
	dma_fence_put(&chain->base);
	return 0;
}
