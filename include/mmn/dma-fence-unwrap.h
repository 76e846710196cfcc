/* SPDX-License-Identifier: MIT */
#ifndef MMN_DMA_FENCE_UNWRAP_H
#define MMN_DMA_FENCE_UNWRAP_H
/*
 * What is inside of chains and arrays, and fences merged into one.
 */
#include <mmn/dma-fence.h>

MMN_BEGIN_DECLS

/**
 * struct dma_fence_unwrap - where a walk over leaves is
 * @chain: the node, with a reference
 * @array: what is in it
 * @index: which member
 */
struct dma_fence_unwrap {
	struct dma_fence *chain;
	struct dma_fence *array;
	unsigned int index;
};

/**
 * dma_fence_unwrap_first - begin a walk
 * @head: a chain of arrays, or less; the caller has a reference; or NULL
 * @cursor: takes a reference to @head
 *
 * Context: as dma_fence_is_signaled().
 * Return: the first leaf, valid until the next step; NULL if there is none.
 */
MMN_PUBLIC
struct dma_fence *dma_fence_unwrap_first(struct dma_fence *head,
					 struct dma_fence_unwrap *cursor);

/**
 * dma_fence_unwrap_next - one step
 * @cursor: begun
 *
 * Context: as dma_fence_is_signaled().
 * Return: the next leaf, also if it has signalled; NULL at the end, where the
 * cursor has no reference any more.
 */
MMN_PUBLIC
struct dma_fence *dma_fence_unwrap_next(struct dma_fence_unwrap *cursor);

/**
 * dma_fence_unwrap_end - leave a walk before its end
 * @cursor: begun; harmless at the end
 *
 * Context: any but signal handlers.
 */
MMN_PUBLIC
void dma_fence_unwrap_end(struct dma_fence_unwrap *cursor);

/* Every leaf of @head.  To leave early, call dma_fence_unwrap_end(). */
#define dma_fence_unwrap_for_each(fence, cursor, head)                    \
	for ((fence) = dma_fence_unwrap_first((head), (cursor)); (fence); \
	     (fence) = dma_fence_unwrap_next(cursor))

/**
 * dma_fence_dedup_array - keep the last fence of each timeline
 * @fences: with references; sorted by timeline; those left out are put
 * @num_fences: may be 0
 *
 * Numbers of 32 bits that lie more than half of all numbers apart, so that each is
 * later than another one, have no last one; of these the highest stays.
 *
 * Context: any but signal handlers.
 * Return: how many are left.
 */
MMN_PUBLIC
int dma_fence_dedup_array(struct dma_fence **fences, int num_fences);

/**
 * dma_fence_unwrap_merge_array - one fence for several
 * @num_fences: how many
 * @fences: the caller keeps his references; NULL ones are skipped
 * @cursors: room for as many
 *
 * The kernel's __dma_fence_unwrap_merge().  Only leaves count that have not
 * signalled, one of each timeline.
 *
 * Context: uses the heap.
 * Return: a reference to the only one, to an array of them, or, if all have
 * signalled, to a new fence that has, at the latest of their times; NULL when
 * there is no memory.
 */
MMN_PUBLIC
struct dma_fence *
dma_fence_unwrap_merge_array(unsigned int num_fences, struct dma_fence **fences,
			     struct dma_fence_unwrap *cursors);

#define __dma_fence_unwrap_merge(num_fences, fences, cursors) \
	dma_fence_unwrap_merge_array((num_fences), (fences), (cursors))

/* The same for a list of arguments. */
#define dma_fence_unwrap_merge(...)                                          \
	__extension__({                                                      \
		struct dma_fence *merged_[] = { __VA_ARGS__ };               \
		enum { nr_merged_ = sizeof(merged_) / sizeof(merged_[0]) };  \
		struct dma_fence_unwrap cursors_[nr_merged_];                \
		dma_fence_unwrap_merge_array(nr_merged_, merged_, cursors_); \
	})

MMN_END_DECLS

#endif
