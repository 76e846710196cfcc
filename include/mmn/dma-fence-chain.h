/* SPDX-License-Identifier: MIT */
#ifndef MMN_DMA_FENCE_CHAIN_H
#define MMN_DMA_FENCE_CHAIN_H
/*
 * A timeline made of other people's fences.
 *
 * Each node has a fence and the node before it, and signals when its own fence and
 * all earlier ones have.  As in Linux the errors of the fences inside do not show
 * in the node.  Nodes whose fence has signalled are taken out by whoever walks by.
 *
 * Unlike in Linux, a node that somebody waits for has the earlier ones enabled at
 * once, so that signalling n of them costs n steps in whatever order; and chains
 * of any length are freed with the same small stack.
 */
#include <mmn/dma-fence.h>

MMN_BEGIN_DECLS

/**
 * struct dma_fence_chain - one node
 * @base: the fence it is
 * @prev: the node or fence before it; changes, use dma_fence_chain_walk()
 * @prev_seqno: the number of what was before it at first
 * @fence: the fence inside, constant
 * @cb: private
 * @prev_cb: private
 * @next_dead: private
 * @nr_pending: private
 */
struct dma_fence_chain {
	struct dma_fence base;
	struct dma_fence *prev;
	uint64_t prev_seqno;
	struct dma_fence *fence;
	struct dma_fence_cb cb;
	struct dma_fence_cb prev_cb;
	struct dma_fence_chain *next_dead;
	uint32_t nr_pending;
};

/**
 * dma_fence_chain_alloc - memory for a node
 *
 * Context: uses the heap.
 * Return: NULL when there is no memory.
 */
MMN_PUBLIC
struct dma_fence_chain *dma_fence_chain_alloc(void);

/**
 * dma_fence_chain_free - of a node that was not initialised
 * @chain: from dma_fence_chain_alloc(), or NULL
 *
 * Context: uses the heap.
 */
MMN_PUBLIC
void dma_fence_chain_free(struct dma_fence_chain *chain);

/**
 * dma_fence_chain_init - append a node
 * @chain: from dma_fence_chain_alloc(); the caller gets a reference
 * @prev: what is before it, a node or any other fence, or NULL; the reference is
 *	taken over
 * @fence: what is inside; the reference is taken over; a chain is reported
 * @seqno: its number; if it is not above that of @prev a new timeline begins
 *
 * Context: any.
 */
MMN_PUBLIC
void dma_fence_chain_init(struct dma_fence_chain *chain, struct dma_fence *prev,
			  struct dma_fence *fence, uint64_t seqno);

/**
 * to_dma_fence_chain - the node that a fence is
 * @fence: or NULL
 *
 * Context: any.
 * Return: NULL if it is none.
 */
MMN_PUBLIC
struct dma_fence_chain *to_dma_fence_chain(struct dma_fence *fence);

/**
 * dma_fence_chain_contained - what is inside
 * @fence: a node, or another fence that stands for itself; or NULL
 *
 * Context: any.
 * Return: without a reference of its own.
 */
MMN_PUBLIC
struct dma_fence *dma_fence_chain_contained(struct dma_fence *fence);

/**
 * dma_fence_chain_walk - one step back in time
 * @fence: the reference is given up; or NULL
 *
 * Takes out what has signalled.  Any number of threads may walk.
 *
 * Context: as dma_fence_is_signaled().
 * Return: a reference to what is before it, or NULL.
 */
MMN_PUBLIC
struct dma_fence *dma_fence_chain_walk(struct dma_fence *fence);

/* Back in time from @head.  To leave early, put @iter. */
#define dma_fence_chain_for_each(iter, head)       \
	for ((iter) = dma_fence_get(head); (iter); \
	     (iter) = dma_fence_chain_walk(iter))

/**
 * dma_fence_chain_find_seqno - the node that stands for a point in time
 * @pfence: a reference to the last node; replaced by one to the first node that
 *	is not before @seqno, or, where that has been taken out, by one to the
 *	last before it that has not; NULL if everything up to there has signalled
 * @seqno: 0 changes nothing
 *
 * Context: as dma_fence_is_signaled().
 * Return: 0; -EINVAL (no chain, or @seqno has not been reached; *@pfence stays).
 */
MMN_PUBLIC
int dma_fence_chain_find_seqno(struct dma_fence **pfence, uint64_t seqno);

MMN_END_DECLS

#endif
