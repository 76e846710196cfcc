/* SPDX-License-Identifier: MIT */
#ifndef MMN_DMA_FENCE_POOL_H
#define MMN_DMA_FENCE_POOL_H
/*
 * Fences in memory that is used again at once.
 *
 * Fences otherwise wait for a grace period before their memory goes back.  A
 * producer that makes very many may take them from a pool instead: a fence that
 * is dropped is the next one to be made.  The memory stays fences, so that a late
 * reader finds a fence; but which one?  A pointer found in a shared place may
 * stand for another fence a moment later, so that the four lines of
 * <mmn/dma-fence.h> are wrong for it.  The ways in are:
 *
 * - dma_fence_get_rcu_safe(), for plain pointers: takes a reference and then looks
 *   whether it is still the one;
 * - struct dma_fence_slot, which carries a count of the lives of its fence beside
 *   the pointer: dma_fence_slot_get(), and dma_fence_slot_test_signaled() that
 *   writes nothing.
 *
 * Slots hold fences of any origin.
 */
#include <mmn/dma-fence.h>

MMN_BEGIN_DECLS

struct dma_fence_pool;

/**
 * dma_fence_pool_create - a pool of equal objects
 * @object_size: bytes; each begins with its struct dma_fence
 * @ret_pool: where it goes
 *
 * The first one of a process starts the thread that frees fences.
 *
 * Context: uses the heap.
 * Return: 0; -EINVAL (smaller than a fence, or larger than 64 KiB); -ENOMEM;
 * -EAGAIN (no thread is to be had).
 */
MMN_PUBLIC
MMN_MUST_CHECK int dma_fence_pool_create(size_t object_size,
					 struct dma_fence_pool **ret_pool);

/**
 * dma_fence_pool_destroy - give the memory back, after a grace period
 * @pool: all of its fences have been released, or it is reported and the memory
 *	is kept; or NULL
 *
 * Context: any but signal handlers.
 */
MMN_PUBLIC
void dma_fence_pool_destroy(struct dma_fence_pool *pool);

/**
 * dma_fence_pool_alloc - memory for one fence
 * @pool: where from
 *
 * What is behind the struct dma_fence is as the last owner left it, zero at first;
 * readers without a reference may still be looking at it.  The fence itself is
 * dead until dma_fence_pool_init().
 *
 * Context: any but signal handlers; uses the heap when the pool is empty.
 * Return: the object, or NULL when there is no memory.
 */
MMN_PUBLIC
struct dma_fence *dma_fence_pool_alloc(struct dma_fence_pool *pool);

/**
 * dma_fence_pool_init - make a fence in memory of a pool
 * @fence: from dma_fence_pool_alloc()
 * @ops: see dma_fence_init(); release, if there is one, ends with
 *	dma_fence_pool_free()
 * @lock: see dma_fence_init()
 * @context: see dma_fence_init()
 * @seqno: see dma_fence_init()
 *
 * Begins another life of that memory.  Sequence numbers wrap at 32 bits unless
 * @ops says else.
 *
 * Context: any.
 */
MMN_PUBLIC
void dma_fence_pool_init(struct dma_fence *fence,
			 const struct dma_fence_ops *ops, struct spinlock *lock,
			 uint64_t context, uint64_t seqno);

/**
 * dma_fence_pool_free - the memory may be used again at once
 * @fence: from dma_fence_pool_alloc(), without references; or NULL
 *
 * Fences of a pool whose ops have no release come here by themselves.
 *
 * Context: any but signal handlers.
 */
MMN_PUBLIC
void dma_fence_pool_free(struct dma_fence *fence);

/**
 * struct dma_fence_slot - a shared place for one fence
 * @word: private
 *
 * All zero is empty.  It holds a reference to its fence.
 */
struct dma_fence_slot {
	uint64_t word;
};

/**
 * dma_fence_slot_set - put another fence there
 * @slot: one writer at a time
 * @fence: whose reference the slot takes over; or NULL
 *
 * Context: any.
 * Ordering: what was written before is visible to whoever finds @fence there.
 * Return: what was there, with the slot's reference, or NULL.
 */
MMN_PUBLIC
MMN_MUST_CHECK struct dma_fence *dma_fence_slot_set(struct dma_fence_slot *slot,
						    struct dma_fence *fence);

/**
 * dma_fence_slot_get - a reference to the fence that is there
 * @slot: any number of readers
 *
 * Context: any but signal handlers; a read section is taken inside.  May run the
 * release of a fence that was replaced meanwhile.
 * Return: a fence that was there during the call, or NULL.
 */
MMN_PUBLIC
struct dma_fence *dma_fence_slot_get(struct dma_fence_slot *slot);

/**
 * dma_fence_slot_test_signaled - has the fence that is there signalled?
 * @slot: any number of readers
 *
 * Takes no reference and writes nothing.  There was a moment during the call when
 * the fence in the slot was what is returned.
 *
 * No fence is mistaken for another that was in its memory: they are counted, and
 * before the count, of 16 bits, begins anew the memory rests for a grace period.
 *
 * Context: any but signal handlers; a read section is taken inside.
 * Ordering: true: what the producer wrote before it signalled is visible.
 * Return: true also when the slot is empty.
 */
MMN_PUBLIC
bool dma_fence_slot_test_signaled(struct dma_fence_slot *slot);

MMN_END_DECLS

#endif
