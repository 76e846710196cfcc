/* SPDX-License-Identifier: MIT */
/* Life and death of fences. */
#include "fence/fence.h"

#include <mmn/dma-fence-pool.h>
#include <stdlib.h>
#include <string.h>

#include "base/probe.h"

_Static_assert(sizeof(struct mmn_rcu_head) <=
		       sizeof(((union dma_fence_stage *)NULL)->rcu),
	       "the public struct has room for an RCU head");
_Static_assert(_Alignof(struct mmn_rcu_head) <= _Alignof(uint64_t),
	       "and it is aligned");
_Static_assert(DMA_FENCE_FLAG_USER_BITS <= 32, "one futex sees all bits");

static const char *invalid_name(struct dma_fence *fence)
{
	(void)fence;
	return "invalid";
}

/* Nobody knows what memory it is in: it is kept. */
static void keep(struct dma_fence *fence)
{
	(void)fence;
}

static const struct dma_fence_ops invalid_ops = {
	.get_driver_name = invalid_name,
	.get_timeline_name = invalid_name,
	.release = keep,
};

static bool ops_are_valid(const struct dma_fence_ops *ops)
{
	return ops && ops->get_driver_name && ops->get_timeline_name;
}

/*
 * The memory may be recycled and somebody may look at it, so that no store is
 * torn; the reference count comes last, and makes it a fence.
 */
void fence_init(struct dma_fence *fence, const struct dma_fence_ops *ops,
		struct spinlock *lock, uint64_t context, uint64_t seqno,
		unsigned long flags, uint32_t life)
{
	bool valid = ops_are_valid(ops);

	mmn_bug_on(!valid, "a fence without ops or without names");
	if (!valid)
		ops = &invalid_ops;
	if (ops->use_64bit_seqno)
		flags |= FENCE_BIT(SEQNO64);
	if (ops->release || ops->wait)
		flags |= FENCE_BIT(KEEP_OPS);
	if (ops->enable_signaling)
		flags |= FENCE_BIT(ENABLE_OP);
	if (!lock) {
		mmn_spin_init(&fence->inline_lock);
		lock = &fence->inline_lock;
		flags |= FENCE_BIT(INLINE_LOCK);
	}
	fence->lock = lock;
	link_init(&fence->stage.live.cb_list);
	fence->stage.live.run = NULL;
	mmn_spin_init(&fence->list_lock);
	fence->stage.live.next = NULL;
	fence->turn = 0;
	fence->error = valid ? 0 : -EINVAL;
	fence->timestamp = 0;
	/* relaxed, all: the flags and the reference count publish them */
	mmn_store_relaxed(&fence->life, life);
	mmn_store_relaxed(&fence->context, context);
	mmn_store_relaxed(&fence->seqno, seqno);
	mmn_store_relaxed(&fence->ops, ops);
	/*
	 * pair(fence_rebirth): release, with the acquire in test_slot().
	 * Without it a reader of the last life takes the flags of this one for
	 * those of that one, which has left its slot.
	 */
	mmn_store_release(&fence->flags, flags | FENCE_BIT(INITIALIZED));
	/*
	 * pair(fence_birth): release, with the acquire in dma_fence_get_rcu().
	 * Without it a reader of recycled memory gets a reference and then sees
	 * the flags and the context of the fence that was there before.
	 */
	mmn_store_release(&fence->refcount, 1);
	MMN_PROBE(fence_init, fence, context, seqno);
	if (!valid)
		fence_init_signaled(fence, 0);
}

void dma_fence_init(struct dma_fence *fence, const struct dma_fence_ops *ops,
		    struct spinlock *lock, uint64_t context, uint64_t seqno)
{
	fence_init(fence, ops, lock, context, seqno, 0, 0);
}

void dma_fence_init64(struct dma_fence *fence, const struct dma_fence_ops *ops,
		      struct spinlock *lock, uint64_t context, uint64_t seqno)
{
	fence_init(fence, ops, lock, context, seqno, FENCE_BIT(SEQNO64), 0);
}

bool dma_fence_was_initialized(struct dma_fence *fence)
{
	/* relaxed: says nothing about the rest */
	return fence &&
	       mmn_load_relaxed(&fence->flags) & FENCE_BIT(INITIALIZED);
}

struct dma_fence *dma_fence_get(struct dma_fence *fence)
{
	uint32_t was;

	if (!fence)
		return NULL;
	/* relaxed: the caller has a reference already */
	was = mmn_fetch_add_relaxed(&fence->refcount, 1);
	mmn_bug_on(!was, "a reference to a fence without references");
	return fence;
}

struct dma_fence *dma_fence_get_rcu(struct dma_fence *fence)
{
	/* relaxed: the exchange decides */
	uint32_t count = mmn_load_relaxed(&fence->refcount);

	do {
		if (!count)
			return NULL;
		/*
		 * pair(fence_birth): acquire, with the release in fence_init().
		 * Without it the reference may be to a fence whose members are
		 * still those of the one before; and the slot may be looked at
		 * again before the reference is there.
		 */
	} while (!mmn_cmpxchg_acquire(&fence->refcount, &count, count + 1));
	return fence;
}

/*
 * That the slot still holds it after the reference was taken is enough, even if
 * it left and came back in between: the slot's own reference makes what is there
 * now the right fence, and ours is to the same memory in the same life.
 */
struct dma_fence *dma_fence_get_rcu_safe(struct dma_fence **slot)
{
	for (;;) {
		struct dma_fence *fence;

		/*
		 * pair(fence_slot): acquire, with the release of a store of the
		 * producer, as in publish(), and in splice().  Without it a
		 * fence may be seen before it is made, and who does not come to
		 * one that splice() took out may miss what its producer wrote.
		 */
		fence = mmn_load_acquire(slot);
		if (!fence)
			return NULL;
		if (!dma_fence_get_rcu(fence)) {
			mmn_cpu_relax();
			continue;
		}
		/* relaxed: ordered behind the reference by its acquire */
		if (fence == mmn_load_relaxed(slot))
			return fence;
		dma_fence_put(fence);
	}
}

static bool has_callbacks(struct dma_fence *fence)
{
	/* relaxed: there are no references, nobody changes them any more */
	unsigned long flags = mmn_load_relaxed(&fence->flags);

	return (flags & FENCE_BIT(CALLBACK)) && !(flags & FENCE_BIT(SIGNALED));
}

void dma_fence_put(struct dma_fence *fence)
{
	uint32_t was;

	if (!fence)
		return;
	/*
	 * pair(fence_put): release and acquire, with itself in dma_fence_put()
	 * of another thread.  Without it the fence is freed under the last
	 * accesses of whoever dropped his reference before.
	 */
	was = mmn_fetch_sub_acq_rel(&fence->refcount, 1);
	mmn_bug_on(!was, "a fence without references is put");
	if (was != 1)
		return;
	if (unlikely(has_callbacks(fence)))
		fence_signal_dying(fence);
	else
		fence_complete_release(fence);
}

static bool is_recycled(struct dma_fence *fence)
{
	/* relaxed: constant for one life */
	return mmn_load_relaxed(&fence->flags) & FENCE_BIT(RECYCLED);
}

void fence_complete_release(struct dma_fence *fence)
{
	const struct dma_fence_ops *ops = fence_ops(fence);

	mmn_bug_on(fence->stage.live.run,
		   "a callback drops the last reference to its own fence");
	mmn_check(!link_is_queued(&fence->stage.live.cb_list));
	MMN_PROBE(fence_destroy, fence);
	if (ops && ops->release)
		ops->release(fence);
	else if (is_recycled(fence))
		dma_fence_pool_free(fence);
	else
		dma_fence_free(fence);
}

static void free_fence(struct mmn_rcu_head *head)
{
	struct dma_fence *fence = container_of((union dma_fence_stage *)head,
					       struct dma_fence, stage);

#if MMN_SELFCHECK
	/* Whoever still looks shall notice. */
	memset(fence, 0xfe, sizeof(*fence));
#endif
	free(fence);
}

void dma_fence_free(struct dma_fence *fence)
{
	if (fence)
		mmn_rcu_defer((struct mmn_rcu_head *)(void *)&fence->stage,
			      free_fence);
}

void dma_fence_read_begin(void)
{
	mmn_rcu_read_lock();
}

void dma_fence_read_end(void)
{
	mmn_rcu_read_unlock();
}

void dma_fence_synchronize(void)
{
	mmn_rcu_synchronize();
}

void dma_fence_barrier(void)
{
	mmn_rcu_barrier();
}
