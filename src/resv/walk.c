/* SPDX-License-Identifier: MIT */
/*
 * Walks over the fences of a reservation object.
 *
 * Without the lock a fence is looked at before a reference is taken: those that
 * have signalled, which are most, cost two loads.
 *
 *	CPU0: walks                        CPU1: has the lock
 *
 *	word = table[i]: A
 *	A is pending
 *	                                   table[i] = B, put A, the last one
 *	get_rcu(A) fails
 *	table[i] again: B
 *
 * Only this place is looked at again, in the list that is there now: an older one
 * has A for ever.  Linux starts over at the first place, and does so also
 * whenever the list has grown.
 *
 * The memory of a fence from a pool may be another fence by now.  Its count of
 * lives tells, read after the flags or with a reference.  That the word is still in
 * its place would not: an old list is not changed any more.
 */
#include <sched.h>

#include "resv/resv.h"

enum word_state word_get_pending(uint64_t word)
{
	struct dma_fence *fence = word_fence(word);
	enum word_state state = word_look(word);

	if (state != WORD_PENDING)
		return state;
	if (!dma_fence_get_rcu(fence))
		return WORD_GONE;
	if (word_is_same_life(fence, word))
		return WORD_PENDING;
	dma_fence_put(fence);
	return WORD_GONE;
}

void dma_resv_iter_begin(struct dma_resv_iter *cursor, struct dma_resv *obj,
			 enum dma_resv_usage usage)
{
	cursor->obj = obj;
	cursor->usage = usage;
	cursor->fence = NULL;
	cursor->fence_usage = DMA_RESV_USAGE_KERNEL;
	cursor->index = 0;
	cursor->fences = NULL;
	cursor->num_fences = 0;
	cursor->is_restarted = false;
}

void dma_resv_iter_end(struct dma_resv_iter *cursor)
{
	dma_fence_put(cursor->fence);
	cursor->fence = NULL;
}

enum dma_resv_usage dma_resv_iter_usage(struct dma_resv_iter *cursor)
{
	return cursor->fence_usage;
}

bool dma_resv_iter_is_restarted(struct dma_resv_iter *cursor)
{
	return cursor->is_restarted;
}

/* With the lock. */

static struct dma_fence *next_locked(struct dma_resv_iter *cursor)
{
	const struct dma_resv_list *list = own_list(cursor->obj);

	while (cursor->index < list_num(list)) {
		uint64_t word = own_word(list, cursor->index++);

		if (!word_is_wanted(word, cursor->usage))
			continue;
		cursor->fence_usage = word_usage(word);
		return word_fence(word);
	}
	return NULL;
}

struct dma_fence *dma_resv_iter_first(struct dma_resv_iter *cursor)
{
	dma_resv_assert_held(cursor->obj);
	cursor->index = 0;
	cursor->is_restarted = true;
	return next_locked(cursor);
}

struct dma_fence *dma_resv_iter_next(struct dma_resv_iter *cursor)
{
	dma_resv_assert_held(cursor->obj);
	cursor->is_restarted = false;
	return next_locked(cursor);
}

/* Without. */

/* Places are never numbered anew, so the object stands for their numbering. */
static struct dma_resv_list *numbering_of(struct dma_resv *obj)
{
	return (struct dma_resv_list *)(void *)obj;
}

static void restart(struct dma_resv_iter *cursor)
{
	struct dma_resv *obj = cursor->obj;
	struct dma_resv_list *list;

	mmn_rcu_read_lock();
	list = mmn_rcu_dereference(obj->fences);
	cursor->num_fences = load_num(list);
	mmn_rcu_read_unlock();
	cursor->fences = numbering_of(obj);
	cursor->index = 0;
	cursor->is_restarted = true;
}

/* How many places are left to go to; the list may be shorter now. */
static uint32_t last_place(const struct dma_resv_iter *cursor,
			   const struct dma_resv_list *list)
{
	uint32_t num = load_num(list);

	return num < cursor->num_fences ? num : cursor->num_fences;
}

/* In a read section: a reference to the next fence that is not known as done. */
static struct dma_fence *get_next(struct dma_resv_iter *cursor)
{
	struct dma_resv *obj = cursor->obj;
	struct dma_resv_list *list = mmn_rcu_dereference(obj->fences);
	unsigned int nr_gone = 0;

	while (cursor->index < last_place(cursor, list)) {
		uint64_t word = load_word(list, cursor->index);
		enum word_state state = WORD_DONE;

		if (word_is_wanted(word, cursor->usage))
			state = word_get_pending(word);
		if (state == WORD_GONE) {
			list = mmn_rcu_dereference(obj->fences);
			/* A writer is at this very place: let him get on. */
			if (++nr_gone % MAX_TRIES == 0)
				sched_yield();
			continue;
		}
		cursor->index++;
		if (state == WORD_DONE)
			continue;
		cursor->fence_usage = word_usage(word);
		return word_fence(word);
	}
	return NULL;
}

/* Callbacks that the question runs are not inside the read section. */
static struct dma_fence *next_unlocked(struct dma_resv_iter *cursor)
{
	struct dma_fence *fence;

	for (;;) {
		mmn_rcu_read_lock();
		fence = get_next(cursor);
		mmn_rcu_read_unlock();
		if (!fence || !dma_fence_is_signaled(fence))
			break;
		dma_fence_put(fence);
	}
	cursor->fence = fence;
	return fence;
}

struct dma_fence *dma_resv_iter_first_unlocked(struct dma_resv_iter *cursor)
{
	dma_resv_iter_end(cursor);
	restart(cursor);
	return next_unlocked(cursor);
}

struct dma_fence *dma_resv_iter_next_unlocked(struct dma_resv_iter *cursor)
{
	dma_resv_iter_end(cursor);
	cursor->is_restarted = false;
	if (cursor->fences != numbering_of(cursor->obj))
		restart(cursor);
	return next_unlocked(cursor);
}
