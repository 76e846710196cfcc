/* SPDX-License-Identifier: MIT */
/*
 * Writers of reservation objects: they have the lock.
 *
 * A fence that is put where another was takes its place with one store.  It
 * must be the same place: were the older fence of a timeline dropped in one place
 * and the later one added in another, a reader could miss both.
 *
 *	CPU0: has A at 1, adds B later     CPU1: goes over the list
 *
 *	                                   table[0]: empty
 *	table[0] = B
 *	table[1] = 0
 *	                                   table[1]: empty
 *	                                   [idle, but both are pending]
 *
 * For the same reason the list is never closed up.  Places that have become empty
 * are the first to be used again.
 */
#include <stdlib.h>

#include "base/inject.h"
#include "resv/resv.h"

_Static_assert(sizeof(void *) == 8, "there is room beside a pointer");
_Static_assert(sizeof(((struct dma_resv *)NULL)->room) >=
		       sizeof(struct dma_resv_list) +
			       INLINE_FENCES * sizeof(uint64_t),
	       "the public struct has room for a list");
_Static_assert(_Alignof(struct dma_fence) > USAGE_MASK,
	       "a pointer has room for the usage");

/* A list that does not fit into the object. */
struct spilled {
	struct mmn_rcu_head rcu;
	struct dma_resv_list list;
};

static struct dma_resv_list *inline_list(struct dma_resv *obj)
{
	return (struct dma_resv_list *)(void *)obj->room;
}

static void free_spilled(struct mmn_rcu_head *head)
{
	free(container_of(head, struct spilled, rcu));
}

/* The list is not found any more; the references in it are not its own. */
static void retire_list(struct dma_resv *obj, struct dma_resv_list *list)
{
	struct spilled *spilled = container_of(list, struct spilled, list);

	if (list != inline_list(obj))
		mmn_rcu_defer(&spilled->rcu, free_spilled);
}

static struct dma_resv_list *allocate_list(size_t max_fences)
{
	struct spilled *spilled = NULL;
	size_t size = sizeof(*spilled) + max_fences * sizeof(uint64_t);

	if (max_fences <= UINT32_MAX && !MMN_INJECT(MMN_INJECT_ALLOC))
		spilled = calloc(1, size);
	if (!spilled)
		return NULL;
	spilled->list.max_fences = (uint32_t)max_fences;
	return &spilled->list;
}

static uint32_t count_free(const struct dma_resv_list *list)
{
	uint32_t nr = list->max_fences - list_num(list);
	uint32_t i;

	for (i = 0; i < list_num(list); i++)
		nr += !own_word(list, i);
	return nr;
}

/* V4 to V6; the rest cannot be seen from here. */
static bool list_check(const struct dma_resv *obj)
{
	const struct dma_resv_list *list = own_list(obj);
	uint32_t i;

	for (i = list_num(list); i < list->max_fences; i++)
		if (own_word(list, i))
			return false;
	return list_num(list) <= list->max_fences && !(obj->seq & 1) &&
	       obj->nr_reserved <= count_free(list);
}

void dma_resv_init(struct dma_resv *obj)
{
	struct dma_resv_list *list = inline_list(obj);
	uint32_t i;

	ww_mutex_init(&obj->lock, &reservation_ww_class);
	list->num_fences = 0;
	list->max_fences = INLINE_FENCES;
	for (i = 0; i < INLINE_FENCES; i++)
		list->table[i] = 0;
	obj->fences = list;
	obj->seq = 0;
	obj->nr_reserved = 0;
}

/* Put what the list owned; it is not found any more, or about to be empty. */
static void put_all(const struct dma_resv_list *list)
{
	uint32_t i;

	for (i = 0; i < list_num(list); i++)
		dma_fence_put(word_fence(own_word(list, i)));
}

void dma_resv_fini(struct dma_resv *obj)
{
	struct dma_resv_list *list = own_list(obj);

	put_all(list);
	retire_list(obj, list);
	ww_mutex_destroy(&obj->lock);
}

void resv_end_of_lock(struct dma_resv *obj)
{
	mmn_check(list_check(obj));
	obj->nr_reserved = 0;
}

/*
 * Between these two fences are put somewhere, and nobody is called.
 *
 * relaxed: the release of what is stored next carries the odd number
 */
static void begin_put(struct dma_resv *obj)
{
	mmn_store_relaxed(&obj->seq, obj->seq + 1);
}

static void end_put(struct dma_resv *obj)
{
	/*
	 * pair(resv_seq): release, with the acquire in
	 * dma_resv_test_signaled_strict().  Without it a reader who begins after
	 * the fence was put there may miss it.
	 */
	mmn_store_release(&obj->seq, obj->seq + 1);
}

static void set_num(struct dma_resv_list *list, uint32_t num)
{
	/*
	 * pair(resv_num): release, with the acquire in load_num().  Without it
	 * a reader may not come to a fence that was dropped, and yet not see
	 * what the device wrote before that signalled, as the writer has.
	 */
	mmn_store_release(&list->num_fences, num);
}

/* Gives back what was there. */
static uint64_t set_word(struct dma_resv *obj, uint32_t i, uint64_t word)
{
	struct dma_resv_list *list = own_list(obj);
	uint64_t old = own_word(list, i);

	begin_put(obj);
	/*
	 * pair(resv_word): release, with the acquire in load_word().  Without
	 * it the fence may be found before it is made, or before the sequence
	 * number says so.
	 */
	mmn_store_release(&list->table[i], word);
	/* A reader who does not see it comes before the fence. */
	if (i >= list_num(list))
		set_num(list, i + 1);
	end_put(obj);
	return old;
}

/* Empty places at the end are not gone to. */
static void trim(struct dma_resv_list *list)
{
	uint32_t num = list_num(list);

	while (num && !own_word(list, num - 1))
		num--;
	/* A reader who does not see it finds empty words. */
	if (num != list_num(list))
		set_num(list, num);
}

/*
 * Drop what has signalled.  Not between begin_put() and end_put(): a reader who
 * misses a fence that has signalled misses nothing but the order, which he gets
 * from here.
 */
static uint32_t prune(struct dma_resv *obj)
{
	struct dma_resv_list *list = own_list(obj);
	uint32_t i, nr = 0;

	for (i = 0; i < list_num(list); i++) {
		struct dma_fence *fence = word_fence(own_word(list, i));

		if (!fence || !dma_fence_is_signaled(fence))
			continue;
		/*
		 * pair(resv_word): release, with the acquire in load_word().
		 * Without it who finds the place empty takes the buffer for
		 * idle, and reads what the device wrote from before.
		 */
		mmn_store_release(&list->table[i], 0);
		dma_fence_put(fence);
		nr++;
	}
	trim(list);
	return nr;
}

/* The same words at the same places, and then the reader finds more of them. */
static int grow(struct dma_resv *obj, uint32_t nr_more)
{
	struct dma_resv_list *old = own_list(obj);
	size_t max = (size_t)list_num(old) + nr_more;
	struct dma_resv_list *list;
	uint32_t i;

	if (max < 2 * (size_t)old->max_fences)
		max = 2 * (size_t)old->max_fences;
	list = allocate_list(max);
	if (!list)
		return -ENOMEM;
	list->num_fences = list_num(old);
	for (i = 0; i < list->num_fences; i++)
		list->table[i] = own_word(old, i);
	mmn_rcu_publish(obj->fences, list);
	retire_list(obj, old);
	return 0;
}

int dma_resv_reserve_fences(struct dma_resv *obj, unsigned int num_fences)
{
	dma_resv_assert_held(obj);
	mmn_bug_on(!num_fences, "no fences are reserved");
	if (!num_fences)
		return -EINVAL;
	prune(obj);
	if (count_free(own_list(obj)) < num_fences && grow(obj, num_fences))
		return -ENOMEM;
	if (obj->nr_reserved < num_fences)
		obj->nr_reserved = num_fences;
	return 0;
}

/* Who waits for @fence as a @usage has waited for @old as what it is. */
static bool is_covered(uint64_t old, struct dma_fence *fence,
		       enum dma_resv_usage usage)
{
	struct dma_fence *before = word_fence(old);

	return before && before->context == fence->context &&
	       word_usage(old) >= usage &&
	       dma_fence_is_later_or_same(fence, before);
}

/* The place of a covered fence, or max_fences. */
static uint32_t find_covered(const struct dma_resv_list *list,
			     struct dma_fence *fence, enum dma_resv_usage usage)
{
	uint32_t i;

	for (i = 0; i < list_num(list); i++)
		if (is_covered(own_word(list, i), fence, usage))
			return i;
	return list->max_fences;
}

/* The first empty place, or max_fences. */
static uint32_t find_empty(const struct dma_resv_list *list)
{
	uint32_t i = 0;

	while (i < list_num(list) && own_word(list, i))
		i++;
	return i;
}

/*
 * Nothing was reserved and the list is full.  The fence must not be lost: whoever
 * frees the buffer waits for it.
 */
static void make_room(struct dma_resv *obj)
{
	mmn_bug("a fence is added without a reservation");
	if (!grow(obj, 1))
		return;
	while (!count_free(own_list(obj))) {
		dma_fence_wait(word_fence(own_word(own_list(obj), 0)), false);
		prune(obj);
	}
}

static void take_reservation(struct dma_resv *obj)
{
	mmn_bug_on(!obj->nr_reserved, "a fence is added without a reservation");
	if (obj->nr_reserved)
		obj->nr_reserved--;
}

/* An empty place for one more fence. */
static uint32_t take_place(struct dma_resv *obj, bool pruned)
{
	if (!count_free(own_list(obj)))
		make_room(obj);
	else if (!pruned)
		take_reservation(obj);
	return find_empty(own_list(obj));
}

static void check_fence(struct dma_fence *fence)
{
	mmn_bug_on(!fence, "NULL is put into a reservation object");
	mmn_bug_on(dma_fence_is_container(fence),
		   "an array or a chain is put into a reservation object");
}

void dma_resv_add_fence(struct dma_resv *obj, struct dma_fence *fence,
			enum dma_resv_usage usage)
{
	uint32_t i, nr_pruned;
	uint64_t old;

	dma_resv_assert_held(obj);
	check_fence(fence);
	if (!fence)
		return;
	nr_pruned = prune(obj);
	i = find_covered(own_list(obj), fence, usage);
	if (i == own_list(obj)->max_fences)
		i = take_place(obj, nr_pruned != 0);
	old = set_word(obj, i, word_of(dma_fence_get(fence), usage));
	dma_fence_put(word_fence(old));
}

void dma_resv_replace_fences(struct dma_resv *obj, uint64_t context,
			     struct dma_fence *fence, enum dma_resv_usage usage)
{
	uint32_t i;

	dma_resv_assert_held(obj);
	check_fence(fence);
	if (!fence)
		return;
	for (i = 0; i < list_num(own_list(obj)); i++) {
		struct dma_fence *old = word_fence(own_word(own_list(obj), i));

		if (!old || old->context != context)
			continue;
		set_word(obj, i, word_of(dma_fence_get(fence), usage));
		dma_fence_put(old);
	}
}

/* A copy. */

/* What @src has pending, with references: words, and how many. */
struct collected {
	uint64_t *words;
	uint32_t nr;
};

static int collect(struct dma_resv *src, struct collected *collected)
{
	struct dma_resv_iter cursor;
	struct dma_fence *fence;
	int ret = 0;

	collected->words = NULL;
	collected->nr = 0;
	dma_resv_iter_begin(&cursor, src, DMA_RESV_USAGE_BOOKKEEP);
	dma_resv_for_each_fence_unlocked(&cursor, fence)
	{
		if (!collected->words && !MMN_INJECT(MMN_INJECT_ALLOC))
			collected->words =
				calloc(cursor.num_fences, sizeof(uint64_t));
		if (!collected->words) {
			ret = -ENOMEM;
			break;
		}
		collected->words[collected->nr++] = word_of(
			dma_fence_get(fence), dma_resv_iter_usage(&cursor));
	}
	dma_resv_iter_end(&cursor);
	return ret;
}

static void put_collected(const struct collected *collected)
{
	uint32_t i;

	for (i = 0; i < collected->nr; i++)
		dma_fence_put(word_fence(collected->words[i]));
}

/* Where @old has the same, and @list nothing yet; or its end. */
static uint32_t find_same(const struct dma_resv_list *list,
			  const struct dma_resv_list *old, uint64_t word,
			  uint64_t mask)
{
	uint32_t i;

	for (i = 0; i < list_num(old); i++)
		if (!list->table[i] && !((own_word(old, i) ^ word) & mask))
			break;
	return i;
}

/* Put each word where @old has it; what was placed is 0 afterwards. */
static void place_same(struct dma_resv_list *list,
		       const struct dma_resv_list *old,
		       struct collected *collected, uint64_t mask)
{
	uint32_t k;

	for (k = 0; k < collected->nr; k++) {
		uint64_t word = collected->words[k];
		uint32_t i =
			word ? find_same(list, old, word, mask) : list_num(old);

		if (i == list_num(old))
			continue;
		list->table[i] = word;
		collected->words[k] = 0;
	}
}

/* Put the others wherever there is nothing. */
static void place_others(struct dma_resv_list *list,
			 const struct collected *collected)
{
	uint32_t i = 0, k;

	for (k = 0; k < collected->nr; k++) {
		if (!collected->words[k])
			continue;
		while (list->table[i])
			i++;
		list->table[i] = collected->words[k];
	}
}

/* V1: what stays keeps its place; with the same usage, if it is there twice. */
static void fill_copy(struct dma_resv_list *list,
		      const struct dma_resv_list *old,
		      struct collected *collected)
{
	place_same(list, old, collected, UINT64_MAX);
	place_same(list, old, collected, ~(uint64_t)USAGE_MASK);
	place_others(list, collected);
	list->num_fences = list->max_fences;
	trim(list);
}

static void drop_all(struct dma_resv *obj)
{
	uint32_t i;

	for (i = 0; i < list_num(own_list(obj)); i++)
		dma_fence_put(word_fence(set_word(obj, i, 0)));
	trim(own_list(obj));
}

static int replace_list(struct dma_resv *obj, struct collected *collected)
{
	struct dma_resv_list *old = own_list(obj);
	size_t max = (size_t)list_num(old) + collected->nr;
	struct dma_resv_list *list;

	if (!collected->nr) {
		drop_all(obj);
		return 0;
	}
	list = allocate_list(max > INLINE_FENCES ? max : INLINE_FENCES);
	if (!list)
		return -ENOMEM;
	fill_copy(list, old, collected);
	begin_put(obj);
	mmn_rcu_publish(obj->fences, list);
	end_put(obj);
	put_all(old);
	retire_list(obj, old);
	return 0;
}

int dma_resv_copy_fences(struct dma_resv *dst, struct dma_resv *src)
{
	struct collected collected;
	int ret;

	dma_resv_assert_held(dst);
	ret = collect(src, &collected);
	if (!ret)
		ret = replace_list(dst, &collected);
	if (ret)
		put_collected(&collected);
	else
		dst->nr_reserved = 0;
	free(collected.words);
	return ret;
}
