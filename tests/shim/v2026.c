/* SPDX-License-Identifier: MIT */
/*
 * A driver as one would write it for the kernel of 2026: no lock of its own, no
 * release, so that its fences let go of it when they signal.
 */
#include <linux/dma-fence-array.h>
#include <linux/dma-fence.h>
#include <linux/dma-resv.h>
#include <linux/slab.h>

#include "shim.h"

/* An array of this generation waits for all members. */
#define dma_fence_array_create(nr, members, context, seqno) \
	((dma_fence_array_create)((nr), (members), (context), (seqno), false))

static const char *queue_driver_name(struct dma_fence *fence)
{
	return "queue";
}

static const char *queue_timeline_name(struct dma_fence *fence)
{
	return "user-queue";
}

static const struct dma_fence_ops queue_ops = {
	.get_driver_name = queue_driver_name,
	.get_timeline_name = queue_timeline_name,
};

static struct dma_fence *queue_submit(u64 context, u64 seqno)
{
	struct dma_fence *fence = kzalloc(sizeof(*fence), GFP_KERNEL);

	if (!fence || dma_fence_was_initialized(fence))
		return NULL;
	dma_fence_init64(fence, &queue_ops, NULL, context, seqno);
	return fence;
}

const char *v2026_jobs(void)
{
	u64 context = dma_fence_context_alloc(1);
	struct dma_fence *early = queue_submit(context, 1);
	struct dma_fence *late = queue_submit(context, UINT64_C(1) << 33);
	unsigned long flags;

	EXPECT(dma_fence_was_initialized(early));
	EXPECT(dma_fence_is_later(late, early));
	dma_fence_enable_signaling(early);
	EXPECT(!dma_fence_test_signaled_flag(early));
	EXPECT(!dma_fence_check_and_signal(early));
	EXPECT(dma_fence_check_and_signal(early));
	dma_fence_lock_irqsave(late, flags);
	EXPECT(!dma_fence_is_signaled_locked(late));
	EXPECT(!dma_fence_check_and_signal_locked(late));
	dma_fence_unlock_irqrestore(late, flags);
	EXPECT(dma_fence_test_signaled_flag(late));
	dma_fence_put(early);
	dma_fence_put(late);
	return NULL;
}

const char *v2026_detached(void)
{
	struct dma_fence *fence = queue_submit(dma_fence_context_alloc(1), 1);

	EXPECT(rcu_dereference_protected(fence->ops, true) == &queue_ops);
	rcu_read_lock();
	EXPECT(!strcmp(dma_fence_driver_name(fence), "queue"));
	EXPECT(!strcmp(dma_fence_timeline_name(fence), "user-queue"));
	rcu_read_unlock();
	dma_fence_signal(fence);
	synchronize_rcu();
	EXPECT(!rcu_dereference_protected(fence->ops, true));
	rcu_read_lock();
	EXPECT(!strcmp(dma_fence_driver_name(fence), "detached-driver"));
	EXPECT(!strcmp(dma_fence_timeline_name(fence), "signaled-timeline"));
	rcu_read_unlock();
	dma_fence_put(fence);
	return NULL;
}

const char *v2026_containers(void)
{
	struct dma_fence **members =
		kmalloc_array(2, sizeof(*members), GFP_KERNEL);
	struct dma_fence_array *array;
	struct dma_fence *single;
	struct dma_resv resv;
	unsigned int i;

	dma_resv_init(&resv);
	dma_resv_lock(&resv, NULL);
	EXPECT(dma_resv_reserve_fences(&resv, 2) == 0);
	for (i = 0; i < 2; i++) {
		members[i] = queue_submit(dma_fence_context_alloc(1), 1);
		dma_resv_add_fence(&resv, members[i], DMA_RESV_USAGE_READ);
	}
	dma_resv_unlock(&resv);
	array = dma_fence_array_create(2, members, dma_fence_context_alloc(1),
				       1);
	EXPECT(array);
	EXPECT(dma_resv_get_singleton(&resv, DMA_RESV_USAGE_READ, &single) ==
	       0);
	EXPECT(dma_fence_is_array(single));
	for (i = 0; i < 2; i++)
		dma_fence_signal(members[i]);
	EXPECT(dma_fence_is_signaled(single));
	EXPECT(dma_fence_is_signaled(&array->base));
	EXPECT(dma_resv_test_signaled(&resv, DMA_RESV_USAGE_READ));
	dma_fence_put(single);
	dma_fence_put(&array->base);
	dma_resv_fini(&resv);
	return NULL;
}
