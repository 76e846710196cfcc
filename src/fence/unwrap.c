/* SPDX-License-Identifier: MIT */
/* Leaves of containers, and fences merged into one. */
#include <mmn/dma-fence-unwrap.h>

#include <mmn/dma-fence-array.h>
#include <mmn/dma-fence-chain.h>
#include <stdlib.h>

#include "base/inject.h"
#include "fence/fence.h"

/* The first leaf from here on; a node may have none. */
static struct dma_fence *enter_node(struct dma_fence_unwrap *cursor)
{
	struct dma_fence *leaf;

	for (;;) {
		cursor->array = dma_fence_chain_contained(cursor->chain);
		cursor->index = 0;
		leaf = dma_fence_array_first(cursor->array);
		if (leaf || !cursor->chain)
			return leaf;
		cursor->chain = dma_fence_chain_walk(cursor->chain);
	}
}

struct dma_fence *dma_fence_unwrap_first(struct dma_fence *head,
					 struct dma_fence_unwrap *cursor)
{
	cursor->chain = dma_fence_get(head);
	return enter_node(cursor);
}

struct dma_fence *dma_fence_unwrap_next(struct dma_fence_unwrap *cursor)
{
	struct dma_fence *leaf;

	cursor->index++;
	leaf = dma_fence_array_next(cursor->array, cursor->index);
	if (leaf)
		return leaf;
	cursor->chain = dma_fence_chain_walk(cursor->chain);
	return enter_node(cursor);
}

void dma_fence_unwrap_end(struct dma_fence_unwrap *cursor)
{
	dma_fence_put(cursor->chain);
	cursor->chain = NULL;
	cursor->array = NULL;
}

static int compare_numbers(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

/* As far as it counts. */
static uint64_t number_of(const struct dma_fence *fence)
{
	/* relaxed: constant for whoever has a reference */
	unsigned long flags = mmn_load_relaxed(&fence->flags);

	return flags & FENCE_BIT(SEQNO64) ? fence->seqno
					  : (uint32_t)fence->seqno;
}

/*
 * By timeline and plain number.  Which one is later cannot be asked here: with 32
 * bits that goes round in a circle, and qsort() needs an order.
 */
static int compare(const void *a, const void *b)
{
	const struct dma_fence *one = *(struct dma_fence *const *)a;
	const struct dma_fence *other = *(struct dma_fence *const *)b;

	return compare_numbers(one->context, other->context)
		       ?: compare_numbers(number_of(one), number_of(other));
}

/* Of @nr fences of one timeline, by number: the last one. */
static int find_last(struct dma_fence **fences, int nr)
{
	int i;

	/* The first that is later than the next: there the numbers wrap. */
	for (i = 0; i < nr - 1; i++)
		if (dma_fence_is_later(fences[i], fences[i + 1]))
			break;
	return i;
}

/* Puts the others. */
static struct dma_fence *keep_last(struct dma_fence **fences, int nr)
{
	int i, last = find_last(fences, nr);
	struct dma_fence *kept = fences[last];

	for (i = 0; i < nr; i++)
		if (i != last)
			dma_fence_put(fences[i]);
	return kept;
}

int dma_fence_dedup_array(struct dma_fence **fences, int num_fences)
{
	int i, begin, nr = 0;

	if (num_fences <= 0)
		return 0;
	qsort(fences, (size_t)num_fences, sizeof(*fences), compare);
	for (begin = 0; begin < num_fences; begin = i) {
		uint64_t context = fences[begin]->context;

		for (i = begin + 1; i < num_fences; i++)
			if (fences[i]->context != context)
				break;
		fences[nr++] = keep_last(&fences[begin], i - begin);
	}
	return nr;
}

/* What is collected for a merge. */
struct collection {
	/* NULL: only count */
	struct dma_fence **fences;
	unsigned int room;
	unsigned int nr;
	/* the latest one of those that have signalled */
	int64_t timestamp;
};

static void collect_leaf(struct collection *collection, struct dma_fence *leaf)
{
	int64_t timestamp;

	if (!dma_fence_is_signaled(leaf)) {
		if (collection->fences && collection->nr < collection->room)
			collection->fences[collection->nr] =
				dma_fence_get(leaf);
		collection->nr++;
		return;
	}
	timestamp = dma_fence_timestamp(leaf);
	if (timestamp > collection->timestamp)
		collection->timestamp = timestamp;
}

/* The second time there are at most as many as the first time. */
static void collect(struct collection *collection, unsigned int num_fences,
		    struct dma_fence **fences, struct dma_fence_unwrap *cursors)
{
	struct dma_fence *leaf;
	unsigned int i;

	for (i = 0; i < num_fences; i++)
		dma_fence_unwrap_for_each(leaf, &cursors[i], fences[i])
			collect_leaf(collection, leaf);
	if (collection->fences && collection->nr > collection->room)
		collection->nr = collection->room;
}

static struct dma_fence *make_array(struct dma_fence **fences, unsigned int nr)
{
	struct dma_fence_array *array = dma_fence_array_create(
		(int)nr, fences, dma_fence_context_alloc(1), 1, false);
	unsigned int i;

	if (array)
		return &array->base;
	for (i = 0; i < nr; i++)
		dma_fence_put(fences[i]);
	free(fences);
	return NULL;
}

struct dma_fence *dma_fence_unwrap_merge_array(unsigned int num_fences,
					       struct dma_fence **fences,
					       struct dma_fence_unwrap *cursors)
{
	struct collection count = { .timestamp = 0 };
	struct collection pending = { .timestamp = 0 };
	struct dma_fence *only;

	collect(&count, num_fences, fences, cursors);
	if (!count.nr)
		return dma_fence_allocate_private_stub(count.timestamp);
	if (!MMN_INJECT(MMN_INJECT_ALLOC))
		pending.fences = calloc(count.nr, sizeof(*pending.fences));
	if (!pending.fences)
		return NULL;
	pending.room = count.nr;
	collect(&pending, num_fences, fences, cursors);
	pending.nr = (unsigned int)dma_fence_dedup_array(pending.fences,
							 (int)pending.nr);
	if (pending.nr > 1)
		return make_array(pending.fences, pending.nr);
	only = pending.nr ? pending.fences[0] : NULL;
	free(pending.fences);
	/* All have signalled meanwhile: now the times are known. */
	return only ?: dma_fence_allocate_private_stub(pending.timestamp);
}
