/* SPDX-License-Identifier: MIT */
#ifndef MMN_RESV_RESV_H
#define MMN_RESV_RESV_H
/*
 * The inside of reservation objects.
 *
 * The set is a list of words: a fence, how it is used (lower two bits), and which
 * life of its memory is meant (upper sixteen).  Writers have the lock.  Readers
 * without it follow dma_resv.fences in a read section and load words.
 *
 *	a word		changes to
 *	-------		---------------------------------------------------
 *	0 (empty)	a fence, when one is added
 *	a fence		0, once it has signalled
 *			a fence that is later on the same timeline
 *			a fence that replaces its timeline
 *
 * Invariants:
 *
 * V1  a fence stays at its index while it is in the object, also when the list is
 *     replaced by a longer one or by a copy.
 * V2  a list that has been replaced is not changed any more.
 * V3  each word that is not 0 owns a reference.
 * V4  num_fences <= max_fences; words from num_fences on are 0.
 * V5  seq is odd exactly while a fence is being put somewhere.
 * V6  while the lock is held there are nr_reserved empty words or more.
 *
 * Because of V1 and V2 a reader who goes once over the list that he found, old or
 * not, has seen each fence that was there all the time: nothing makes him start
 * over.  doc/RESV.md says what he may conclude, model/resv.c checks it.
 */
#include <mmn/dma-resv.h>

#include "base/rcu.h"
#include "fence/fence.h"

enum { INLINE_FENCES = 4, USAGE_MASK = 3, LIFE_SHIFT = 48 };

/* How often a reader tries before it does without. */
enum { MAX_TRIES = 16 };

#define POINTER_MASK (((UINT64_C(1) << LIFE_SHIFT) - 1) & ~(uint64_t)USAGE_MASK)

struct dma_resv_list {
	/* atomic, changed with the lock. V4 */
	uint32_t num_fences;
	/* const */
	uint32_t max_fences;
	/* atomic, changed with the lock */
	uint64_t table[];
};

static inline uint64_t word_of(struct dma_fence *fence,
			       enum dma_resv_usage usage)
{
	/* relaxed: constant for whoever has a reference */
	uint64_t life = mmn_load_relaxed(&fence->life);

	return (uint64_t)(uintptr_t)fence | usage | life << LIFE_SHIFT;
}

static inline struct dma_fence *word_fence(uint64_t word)
{
	return (struct dma_fence *)(uintptr_t)(word & POINTER_MASK);
}

static inline enum dma_resv_usage word_usage(uint64_t word)
{
	return (enum dma_resv_usage)(word & USAGE_MASK);
}

static inline bool word_is_wanted(uint64_t word, enum dma_resv_usage usage)
{
	return word && word_usage(word) <= usage;
}

/* The list, for who has the lock. */
static inline struct dma_resv_list *own_list(const struct dma_resv *obj)
{
	/* relaxed: the lock orders it */
	return mmn_load_relaxed(&obj->fences);
}

static inline uint32_t list_num(const struct dma_resv_list *list)
{
	/* relaxed: the lock orders it */
	return mmn_load_relaxed(&list->num_fences);
}

/* The count, for who has not got the lock; in a read section. */
static inline uint32_t load_num(const struct dma_resv_list *list)
{
	/*
	 * pair(resv_num): acquire, with the release in set_num().  Without it
	 * a reader who does not come to a fence any more, because that has
	 * signalled and was dropped, reads what the device wrote from before.
	 */
	return mmn_load_acquire(&list->num_fences);
}

static inline uint64_t own_word(const struct dma_resv_list *list, uint32_t i)
{
	/* relaxed: the lock orders it */
	return mmn_load_relaxed(&list->table[i]);
}

/* A word, for who has not got the lock; in a read section. */
static inline uint64_t load_word(const struct dma_resv_list *list, uint32_t i)
{
	/*
	 * pair(resv_word): acquire, with the release in set_word() and prune().
	 * Without it the fence may be looked at before it is made; a strict
	 * reader may find the sequence number as it was before the fence was
	 * put there; and who finds the place empty may read what the device
	 * wrote from before.
	 */
	return mmn_load_acquire(&list->table[i]);
}

/* What a word says that was found without the lock. */
enum word_state {
	/* the fence has signalled */
	WORD_DONE,
	/* it has not, as far as the flags know */
	WORD_PENDING,
	/* the fence is being released, or its memory is another fence: it has left
	 * its place, look there again */
	WORD_GONE
};

/* The lock is about to be given back. */
void resv_end_of_lock(struct dma_resv *obj);

/* The flags were read with acquire, or the caller has a reference. */
static inline bool word_is_same_life(struct dma_fence *fence, uint64_t word)
{
	/* relaxed: ordered behind the flags or the reference */
	uint16_t life = (uint16_t)mmn_load_relaxed(&fence->life);

	return life == (uint16_t)(word >> LIFE_SHIFT);
}

/* In a read section; writes nothing. */
static inline enum word_state word_look(uint64_t word)
{
	struct dma_fence *fence = word_fence(word);
	unsigned long flags;

	/*
	 * pair(fence_signal): acquire, with the release in mark_signaled().
	 * Without it who is told that the buffer is idle reads what the device
	 * was to write from before.
	 *
	 * pair(fence_rebirth): acquire, with the release in fence_init().
	 * Without it the flags may be those of the next life of the memory, and
	 * the count still that of this one.
	 */
	flags = mmn_load_acquire(&fence->flags);
	if (unlikely(flags & FENCE_BIT(RECYCLED)) &&
	    !word_is_same_life(fence, word))
		return WORD_GONE;
	return flags & FENCE_BIT(SIGNALED) ? WORD_DONE : WORD_PENDING;
}

/* Likewise, and takes a reference when it is pending. */
enum word_state word_get_pending(uint64_t word);

#endif
