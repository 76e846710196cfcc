/* SPDX-License-Identifier: MIT */
#ifndef MMN_DMA_FENCE_ARRAY_H
#define MMN_DMA_FENCE_ARRAY_H
/*
 * Several fences as one.
 *
 * An array signals when all of its members have, or one of them has.  Its error is
 * that of the member that failed first.  A member's callback signals the array
 * directly; nothing is handed to another thread.
 */
#include <mmn/dma-fence.h>

MMN_BEGIN_DECLS

struct dma_fence_array;

/* Private: one member's callback. */
struct dma_fence_array_cb {
	struct dma_fence_cb cb;
	struct dma_fence_array *array;
};

/**
 * struct dma_fence_array - several fences
 * @base: the fence it is
 * @num_fences: how many members
 * @num_pending: private
 * @fences: the members, constant
 * @callbacks: private
 */
struct dma_fence_array {
	struct dma_fence base;
	unsigned int num_fences;
	int num_pending;
	struct dma_fence **fences;
	struct dma_fence_array_cb *callbacks;
};

/**
 * dma_fence_array_alloc - memory for an array
 * @num_fences: how many members it will have
 *
 * Context: uses the heap.
 * Return: free() takes it until it is initialised; NULL when there is no memory.
 */
MMN_PUBLIC
struct dma_fence_array *dma_fence_array_alloc(int num_fences);

/**
 * dma_fence_array_init - make an array of it
 * @array: from dma_fence_array_alloc()
 * @num_fences: as given there; 0 is reported, and such an array has signalled as
 *	soon as it is asked
 * @fences: from malloc(); the array takes it over, and a reference to each
 * @context: see dma_fence_init()
 * @seqno: see dma_fence_init()
 * @signal_on_any: one is enough
 *
 * A member that is an array or a chain itself is reported: the merge of
 * <mmn/dma-fence-unwrap.h> does not nest them.
 *
 * Context: any.
 */
MMN_PUBLIC
void dma_fence_array_init(struct dma_fence_array *array, int num_fences,
			  struct dma_fence **fences, uint64_t context,
			  unsigned int seqno, bool signal_on_any);

/**
 * dma_fence_array_create - allocate and initialise an array
 * @num_fences: see dma_fence_array_init()
 * @fences: see dma_fence_array_init(); stays the caller's if it fails
 * @context: see dma_fence_init()
 * @seqno: see dma_fence_init()
 * @signal_on_any: see dma_fence_array_init()
 *
 * Context: uses the heap.
 * Return: a reference, or NULL when there is no memory.
 */
MMN_PUBLIC
struct dma_fence_array *dma_fence_array_create(int num_fences,
					       struct dma_fence **fences,
					       uint64_t context,
					       unsigned int seqno,
					       bool signal_on_any);

/**
 * to_dma_fence_array - the array that a fence is
 * @fence: or NULL
 *
 * Context: any.
 * Return: NULL if it is none.
 */
MMN_PUBLIC
struct dma_fence_array *to_dma_fence_array(struct dma_fence *fence);

/**
 * dma_fence_match_context - is it all of one timeline?
 * @fence: of an array every member counts
 * @context: the timeline
 *
 * Context: any.
 * Return: true when it is.
 */
MMN_PUBLIC
bool dma_fence_match_context(struct dma_fence *fence, uint64_t context);

/**
 * dma_fence_array_first - the first member
 * @head: an array; another fence counts as its own member; or NULL
 *
 * Context: any.
 * Return: without a reference of its own; NULL if there is none.
 */
MMN_PUBLIC
struct dma_fence *dma_fence_array_first(struct dma_fence *head);

/**
 * dma_fence_array_next - a member
 * @head: see dma_fence_array_first()
 * @index: from 1
 *
 * Context: any.
 * Return: without a reference of its own; NULL behind the last one.
 */
MMN_PUBLIC
struct dma_fence *dma_fence_array_next(struct dma_fence *head,
				       unsigned int index);

/* Every member of @head in order; @index counts them. */
#define dma_fence_array_for_each(fence, index, head)                      \
	for ((index) = 0, (fence) = dma_fence_array_first(head); (fence); \
	     ++(index), (fence) = dma_fence_array_next((head), (index)))

MMN_END_DECLS

#endif
