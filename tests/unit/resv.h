/* SPDX-License-Identifier: MIT */
#ifndef TEST_RESV_H
#define TEST_RESV_H
/* Fences for tests of reservation objects, from the heap. */
#include <mmn/dma-fence.h>
#include <mmn/dma-resv.h>
#include <stdlib.h>

#define KERNEL DMA_RESV_USAGE_KERNEL
#define WRITE DMA_RESV_USAGE_WRITE
#define READ DMA_RESV_USAGE_READ
#define BOOKKEEP DMA_RESV_USAGE_BOOKKEEP

static unsigned int nr_released;

static inline const char *test_name(struct dma_fence *fence)
{
	(void)fence;
	return "test";
}

static inline void test_release(struct dma_fence *fence)
{
	__atomic_fetch_add(&nr_released, 1, __ATOMIC_SEQ_CST);
	dma_fence_free(fence);
}

static const struct dma_fence_ops test_ops = {
	.get_driver_name = test_name,
	.get_timeline_name = test_name,
	.release = test_release,
};

static inline unsigned int released(void)
{
	return __atomic_load_n(&nr_released, __ATOMIC_SEQ_CST);
}

static inline struct dma_fence *make(uint64_t context, uint64_t seqno)
{
	struct dma_fence *fence = malloc(sizeof(*fence));

	dma_fence_init(fence, &test_ops, NULL, context, seqno);
	return fence;
}

static inline void signal_and_put(struct dma_fence *fence)
{
	dma_fence_signal(fence);
	dma_fence_put(fence);
}

static inline void lock(struct dma_resv *obj)
{
	t_err(dma_resv_lock(obj, NULL), 0);
}

/* Locks, adds, unlocks; the object gets the only reference. */
static inline void add(struct dma_resv *obj, struct dma_fence *fence,
		       enum dma_resv_usage usage)
{
	lock(obj);
	t_err(dma_resv_reserve_fences(obj, 1), 0);
	dma_resv_add_fence(obj, fence, usage);
	dma_resv_unlock(obj);
	dma_fence_put(fence);
}

/* How many fences a locked walk finds. */
static inline unsigned int count(struct dma_resv *obj,
				 enum dma_resv_usage usage)
{
	struct dma_resv_iter cursor;
	struct dma_fence *fence;
	unsigned int nr = 0;

	lock(obj);
	dma_resv_for_each_fence(&cursor, obj, usage, fence) nr++;
	dma_resv_unlock(obj);
	return nr;
}

/* And how many an unlocked one. */
static inline unsigned int count_pending(struct dma_resv *obj,
					 enum dma_resv_usage usage)
{
	struct dma_resv_iter cursor;
	struct dma_fence *fence;
	unsigned int nr = 0;

	dma_resv_iter_begin(&cursor, obj, usage);
	dma_resv_for_each_fence_unlocked(&cursor, fence)
	{
		if (dma_resv_iter_is_restarted(&cursor))
			nr = 0;
		nr++;
	}
	dma_resv_iter_end(&cursor);
	return nr;
}

/* Signals everything, so that nothing is left behind. */
static inline void finish(struct dma_resv *obj)
{
	struct dma_resv_iter cursor;
	struct dma_fence *fence;

	lock(obj);
	dma_resv_for_each_fence(&cursor, obj, BOOKKEEP, fence)
		dma_fence_signal(fence);
	dma_resv_unlock(obj);
	dma_resv_fini(obj);
	t_may_keep_mapped(64 << 20, "the thread that frees stays");
	dma_fence_barrier();
}

#endif
