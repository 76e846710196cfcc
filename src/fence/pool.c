/* SPDX-License-Identifier: MIT */
/*
 * Fences in memory that is used again at once, and slots that can tell.
 *
 * A slot is one word: the pointer, and in its upper bits the count of lives of
 * that memory.
 *
 *	CPU0: slot_test_signaled           CPU1
 *
 *	word = slot: A, life 1
 *	                                   slot = B, put A
 *	                                   A begins life 2 elsewhere
 *	                                   signal A
 *	A is signalled
 *	word != slot: again
 *
 * and if A was put into the same slot again, the count tells them apart.  Linux
 * takes a reference instead, which two processors then fight for.
 *
 * The count has 16 bits.  Before it begins anew the memory rests for a grace period:
 * a reader, who is in a read section, never meets one number in two lives.
 *
 * Invariants: L1 a free object has no references.  L2 memory of a pool is objects
 * until a grace period after the pool is destroyed.  L3 between two lives whose
 * numbers are equal in the lower 16 bits there is a grace period.
 */
#include <mmn/dma-fence-pool.h>

#include <stdlib.h>
#include <string.h>

#include "base/inject.h"
#include "base/process.h"
#include "fence/fence.h"

enum { OBJECTS_PER_CHUNK = 32, MAX_OBJECT_SIZE = 65536 };
enum { CACHE_LINE = 64, LIFE_SHIFT = 48 };

#define POINTER_MASK ((UINT64_C(1) << LIFE_SHIFT) - 1)

_Static_assert(sizeof(void *) == 8, "there is room beside a pointer");

/* In front of each fence, so that its life is not touched by what is free. */
struct object {
	struct dma_fence_pool *pool;
	struct object *next_free;
	struct dma_fence fence;
};

struct chunk {
	struct chunk *next;
	_Alignas(CACHE_LINE) char objects[];
};

struct dma_fence_pool {
	struct mmn_rcu_head rcu;
	/* const after create, both */
	size_t stride;
	uint32_t generation;
	/* protects what follows */
	struct spinlock lock;
	struct object *free;
	struct chunk *chunks;
	size_t nr_used;
};

static struct object *object_of(struct dma_fence *fence)
{
	return container_of(fence, struct object, fence);
}

/*
 * For what a fork child may do, too.  There the lock may be held by a thread that
 * did not come along, and what it guards half changed: false, it stays as it is.
 */
static bool enter_pool(struct dma_fence_pool *pool)
{
	if (unlikely(pool->generation != mmn_process_generation()))
		return mmn_spin_trylock(&pool->lock);
	mmn_spin_lock(&pool->lock);
	return true;
}

int dma_fence_pool_create(size_t object_size, struct dma_fence_pool **ret_pool)
{
	struct dma_fence_pool *pool = NULL;
	size_t size = object_size + offsetof(struct object, fence);
	int err;

	if (object_size < sizeof(struct dma_fence) ||
	    object_size > MAX_OBJECT_SIZE || !ret_pool)
		return -EINVAL;
	err = mmn_rcu_prepare();
	if (err)
		return err;
	if (!MMN_INJECT(MMN_INJECT_ALLOC))
		pool = calloc(1, sizeof(*pool));
	if (!pool)
		return -ENOMEM;
	pool->generation = mmn_process_adopt();
	pool->stride = (size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
	*ret_pool = pool;
	return 0;
}

static void free_pool(struct mmn_rcu_head *head)
{
	struct dma_fence_pool *pool =
		container_of(head, struct dma_fence_pool, rcu);

	while (pool->chunks) {
		struct chunk *chunk = pool->chunks;

		pool->chunks = chunk->next;
		free(chunk);
	}
	free(pool);
}

void dma_fence_pool_destroy(struct dma_fence_pool *pool)
{
	bool used;

	if (!pool || !enter_pool(pool))
		return;
	used = pool->nr_used != 0;
	mmn_spin_unlock(&pool->lock);
	mmn_bug_on(used, "a pool is destroyed while fences of it are in use");
	if (!used)
		mmn_rcu_defer(&pool->rcu, free_pool);
}

static struct chunk *allocate_chunk(const struct dma_fence_pool *pool)
{
	size_t size = sizeof(struct chunk) + OBJECTS_PER_CHUNK * pool->stride;
	struct chunk *chunk;

	if (MMN_INJECT(MMN_INJECT_ALLOC))
		return NULL;
	size = (size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
	chunk = aligned_alloc(CACHE_LINE, size);
	/* No references, no lives: zero is a dead fence. */
	return chunk ? memset(chunk, 0, size) : NULL;
}

/* The pool is locked. */
static void add_chunk(struct dma_fence_pool *pool, struct chunk *chunk)
{
	size_t i;

	chunk->next = pool->chunks;
	pool->chunks = chunk;
	for (i = OBJECTS_PER_CHUNK; i > 0; i--) {
		char *place = chunk->objects + (i - 1) * pool->stride;
		struct object *object = (struct object *)(void *)place;

		object->pool = pool;
		object->next_free = pool->free;
		pool->free = object;
	}
}

static struct object *take_free(struct dma_fence_pool *pool,
				struct chunk *chunk)
{
	struct object *object;

	mmn_spin_lock(&pool->lock);
	if (chunk)
		add_chunk(pool, chunk);
	object = pool->free;
	if (object) {
		pool->free = object->next_free;
		pool->nr_used++;
	}
	mmn_spin_unlock(&pool->lock);
	return object;
}

struct dma_fence *dma_fence_pool_alloc(struct dma_fence_pool *pool)
{
	struct object *object = take_free(pool, NULL);

	if (!object) {
		struct chunk *chunk = allocate_chunk(pool);

		object = chunk ? take_free(pool, chunk) : NULL;
	}
	return object ? &object->fence : NULL;
}

void dma_fence_pool_init(struct dma_fence *fence,
			 const struct dma_fence_ops *ops, struct spinlock *lock,
			 uint64_t context, uint64_t seqno)
{
	/* relaxed: nobody else changes it while the fence is dead */
	uint32_t life = mmn_load_relaxed(&fence->life) + 1;

	fence_init(fence, ops, lock, context, seqno, FENCE_BIT(RECYCLED), life);
}

static void add_free(struct dma_fence *fence, bool was_used)
{
	struct object *object = object_of(fence);
	struct dma_fence_pool *pool = object->pool;

	if (!enter_pool(pool))
		return;
	object->next_free = pool->free;
	pool->free = object;
	pool->nr_used -= was_used;
	mmn_spin_unlock(&pool->lock);
}

static void add_later(struct mmn_rcu_head *head)
{
	add_free(container_of((union dma_fence_stage *)head, struct dma_fence,
			      stage),
		 false);
}

/*
 * It is not used, but not free either.  Deferred before the pool may be found
 * unused, and so called before the pool goes: deferred functions keep their order.
 */
static void rest(struct dma_fence *fence)
{
	struct dma_fence_pool *pool = object_of(fence)->pool;

	mmn_rcu_defer((struct mmn_rcu_head *)(void *)&fence->stage, add_later);
	if (!enter_pool(pool))
		return;
	pool->nr_used--;
	mmn_spin_unlock(&pool->lock);
}

/* Will the next life have a number that a slot may have had before? */
static bool numbers_are_used_up(const struct dma_fence *fence)
{
	/* relaxed: nobody else changes it while the fence is dead */
	return (uint16_t)(mmn_load_relaxed(&fence->life) + 1) == 0;
}

void dma_fence_pool_free(struct dma_fence *fence)
{
	if (!fence)
		return;
	/* relaxed: only to find misuse */
	mmn_bug_on(mmn_load_relaxed(&fence->refcount),
		   "a fence with references goes back to its pool");
	if (unlikely(numbers_are_used_up(fence)))
		rest(fence);
	else
		add_free(fence, true);
}

static uint64_t word_of(struct dma_fence *fence)
{
	/* relaxed: constant for whoever has a reference */
	uint64_t life = fence ? mmn_load_relaxed(&fence->life) : 0;

	return (uint64_t)(uintptr_t)fence | life << LIFE_SHIFT;
}

static struct dma_fence *fence_of(uint64_t word)
{
	return (struct dma_fence *)(uintptr_t)(word & POINTER_MASK);
}

struct dma_fence *dma_fence_slot_set(struct dma_fence_slot *slot,
				     struct dma_fence *fence)
{
	uint64_t word = word_of(fence);

	mmn_bug_on((uintptr_t)fence & ~POINTER_MASK,
		   "a pointer has no room for the count of lives");
	/*
	 * pair(fence_in_slot): release, with the acquire in get_from_slot() and
	 * test_slot().  Without it a reader finds a fence that is not made yet.
	 */
	return fence_of(mmn_xchg_release(&slot->word, word));
}

/* False when the slot changed under the reader. */
static bool get_from_slot(struct dma_fence_slot *slot,
			  struct dma_fence **ret_fence)
{
	struct dma_fence *fence;
	uint64_t word;

	/*
	 * pair(fence_in_slot): acquire, with the release in
	 * dma_fence_slot_set().  Without it the fence may be read before it is
	 * made.
	 */
	word = mmn_load_acquire(&slot->word);
	fence = fence_of(word);
	*ret_fence = fence;
	if (!fence)
		return true;
	if (!dma_fence_get_rcu(fence))
		return false;
	/* relaxed: ordered behind the reference by its acquire */
	if (mmn_load_relaxed(&slot->word) == word)
		return true;
	dma_fence_put(fence);
	return false;
}

struct dma_fence *dma_fence_slot_get(struct dma_fence_slot *slot)
{
	struct dma_fence *fence;

	mmn_rcu_read_lock();
	while (!get_from_slot(slot, &fence))
		mmn_cpu_relax();
	mmn_rcu_read_unlock();
	return fence;
}

/* False when the slot changed under the reader. */
static bool test_slot(struct dma_fence_slot *slot, bool *ret_signaled)
{
	struct dma_fence *fence;
	uint64_t word;

	/*
	 * pair(fence_in_slot): acquire, with the release in
	 * dma_fence_slot_set().  Without it the fence may be read before it is
	 * made.
	 */
	word = mmn_load_acquire(&slot->word);
	fence = fence_of(word);
	/*
	 * pair(fence_rebirth): acquire, with the release in fence_init().
	 * Without it the flags may be those of the next life, and the slot
	 * looks as if it were still this one.
	 */
	*ret_signaled = !fence ||
			(mmn_load_acquire(&fence->flags) & FENCE_BIT(SIGNALED));
	/* relaxed: ordered behind the flags by their acquire */
	return mmn_load_relaxed(&slot->word) == word;
}

bool dma_fence_slot_test_signaled(struct dma_fence_slot *slot)
{
	bool signaled;

	mmn_rcu_read_lock();
	while (!test_slot(slot, &signaled))
		mmn_cpu_relax();
	mmn_rcu_read_unlock();
	return signaled;
}
