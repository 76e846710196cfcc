/* SPDX-License-Identifier: MIT */
/*
 * Questions about the fences of a reservation object.
 *
 * The test goes once over the list it finds.  What it may conclude is weaker than
 * it looks:
 *
 *	CPU0: tests                        CPU1
 *
 *	table[0]: A
 *	                                   table[0] = B, pending
 *	                                   A signals
 *	A has signalled
 *	[idle, but there was always one pending]
 *
 * The strict test has a number that is odd while a fence is being put somewhere.
 * One change of the number is not enough: before the store it may have changed
 * already when the test begins, after it not yet when the test ends.
 */
#include <limits.h>
#include <mmn/dma-fence-array.h>
#include <stdlib.h>

#include "base/inject.h"
#include "resv/resv.h"

static bool has_signaled_op(struct dma_fence *fence)
{
	const struct dma_fence_ops *ops = fence_ops(fence);

	return ops && ops->signaled;
}

/* The flags say pending; the producer may know better. */
static __attribute__((noinline)) enum word_state ask_producer(uint64_t word)
{
	struct dma_fence *fence = word_fence(word);
	enum word_state state;

	if (!has_signaled_op(fence))
		return WORD_PENDING;
	state = word_get_pending(word);
	if (state != WORD_PENDING)
		return state;
	if (dma_fence_is_signaled(fence))
		state = WORD_DONE;
	dma_fence_put(fence);
	return state;
}

/* In a read section: from place @i of @list on, with all that may be needed. */
static __attribute__((noinline)) bool
finish_test(struct dma_resv *obj, struct dma_resv_list *list, uint32_t i,
	    enum dma_resv_usage usage, bool ask)
{
	unsigned int nr_gone = 0;

	while (i < load_num(list)) {
		uint64_t word = load_word(list, i);
		enum word_state state = WORD_DONE;

		if (word_is_wanted(word, usage))
			state = word_look(word);
		if (state == WORD_PENDING && ask)
			state = ask_producer(word);
		if (state == WORD_DONE) {
			i++;
			continue;
		}
		if (state == WORD_PENDING || ++nr_gone > MAX_TRIES)
			return false;
		list = mmn_rcu_dereference(obj->fences);
	}
	return true;
}

/* Most often all have signalled, and nothing is called to see that. */
static inline bool all_done(struct dma_resv *obj, enum dma_resv_usage usage,
			    bool ask)
{
	struct dma_resv_list *list = mmn_rcu_dereference(obj->fences);
	uint32_t i;

	for (i = 0; i < load_num(list); i++) {
		uint64_t word = load_word(list, i);

		if (word_is_wanted(word, usage) &&
		    unlikely(word_look(word) != WORD_DONE))
			return finish_test(obj, list, i, usage, ask);
	}
	return true;
}

static inline bool test_signaled(struct dma_resv *obj,
				 enum dma_resv_usage usage, bool ask)
{
	bool done;

	mmn_rcu_read_lock();
	done = all_done(obj, usage, ask);
	mmn_rcu_read_unlock();
	return done;
}

bool dma_resv_test_signaled(struct dma_resv *obj, enum dma_resv_usage usage)
{
	return test_signaled(obj, usage, true);
}

bool dma_resv_test_signaled_flag(struct dma_resv *obj,
				 enum dma_resv_usage usage)
{
	return test_signaled(obj, usage, false);
}

/*
 * Nobody may wait for the lock here: the caller may hold others in a context, or be
 * on the way to a signal that the holder of this one waits for.
 */
static bool test_with_lock(struct dma_resv *obj, enum dma_resv_usage usage)
{
	bool done;

	if (!dma_resv_trylock(obj))
		return false;
	done = test_signaled(obj, usage, true);
	dma_resv_unlock(obj);
	return done;
}

bool dma_resv_test_signaled_strict(struct dma_resv *obj,
				   enum dma_resv_usage usage)
{
	int i;

	for (i = 0; i < MAX_TRIES; i++) {
		uint64_t seq;

		/*
		 * pair(resv_seq): acquire, with the release in end_put().
		 * Without it a fence may be missed that was put there before.
		 */
		seq = mmn_load_acquire(&obj->seq);
		if (!(seq & 1)) {
			if (!test_signaled(obj, usage, true))
				return false;
			/* relaxed: ordered behind words and flags by their acquire */
			if (mmn_load_relaxed(&obj->seq) == seq)
				return true;
		}
		mmn_cpu_relax();
	}
	return test_with_lock(obj, usage);
}

/* Puts and frees what was got. */
static void put_fences(struct dma_fence **fences, unsigned int nr)
{
	while (nr)
		dma_fence_put(fences[--nr]);
	free(fences);
}

static struct dma_fence **allocate_fences(unsigned int nr)
{
	if (MMN_INJECT(MMN_INJECT_ALLOC))
		return NULL;
	return calloc(nr, sizeof(struct dma_fence *));
}

/* A pass has num_fences steps at most; what an unfinished one got goes back. */
int dma_resv_get_fences(struct dma_resv *obj, enum dma_resv_usage usage,
			unsigned int *num_fences, struct dma_fence ***fences)
{
	struct dma_fence **found = NULL;
	struct dma_resv_iter cursor;
	struct dma_fence *fence;
	unsigned int nr = 0;

	dma_resv_iter_begin(&cursor, obj, usage);
	dma_resv_for_each_fence_unlocked(&cursor, fence)
	{
		if (!found)
			found = allocate_fences(cursor.num_fences);
		if (!found) {
			dma_resv_iter_end(&cursor);
			return -ENOMEM;
		}
		found[nr++] = dma_fence_get(fence);
	}
	dma_resv_iter_end(&cursor);
	*num_fences = nr;
	*fences = found;
	return 0;
}

int dma_resv_get_singleton(struct dma_resv *obj, enum dma_resv_usage usage,
			   struct dma_fence **fence)
{
	struct dma_fence_array *array;
	struct dma_fence **fences;
	unsigned int nr;

	if (dma_resv_get_fences(obj, usage, &nr, &fences))
		return -ENOMEM;
	if (nr < 2) {
		*fence = nr ? fences[0] : NULL;
		free(fences);
		return 0;
	}
	array = dma_fence_array_create((int)nr, fences,
				       dma_fence_context_alloc(1), 1, false);
	if (!array) {
		put_fences(fences, nr);
		return -ENOMEM;
	}
	*fence = &array->base;
	return 0;
}

long dma_resv_wait_timeout(struct dma_resv *obj, enum dma_resv_usage usage,
			   bool intr, unsigned long timeout)
{
	long limit = timeout < LONG_MAX ? (long)timeout : LONG_MAX;
	int64_t deadline = fence_deadline_of(limit);
	struct dma_resv_iter cursor;
	struct dma_fence *fence;
	bool waited = false;
	int ret = 0;

	dma_resv_iter_begin(&cursor, obj, usage);
	dma_resv_for_each_fence_unlocked(&cursor, fence)
	{
		waited = true;
		ret = fence_wait_part(fence, intr, limit, deadline);
		if (ret)
			break;
	}
	dma_resv_iter_end(&cursor);
	return waited ? fence_remaining_time(ret, limit, deadline) : limit ?: 1;
}

void dma_resv_set_deadline(struct dma_resv *obj, enum dma_resv_usage usage,
			   int64_t deadline)
{
	struct dma_resv_iter cursor;
	struct dma_fence *fence;

	dma_resv_iter_begin(&cursor, obj, usage);
	dma_resv_for_each_fence_unlocked(&cursor, fence)
		dma_fence_set_deadline(fence, deadline);
	dma_resv_iter_end(&cursor);
}

enum dma_resv_usage dma_resv_usage_rw(bool write)
{
	return write ? DMA_RESV_USAGE_READ : DMA_RESV_USAGE_WRITE;
}

void dma_resv_describe(struct dma_resv *obj, struct seq_file *seq)
{
	static const char *const names[] = {
		[DMA_RESV_USAGE_KERNEL] = "kernel",
		[DMA_RESV_USAGE_WRITE] = "write",
		[DMA_RESV_USAGE_READ] = "read",
	};
	struct dma_resv_iter cursor;
	struct dma_fence *fence;

	dma_resv_for_each_fence(&cursor, obj, DMA_RESV_USAGE_READ, fence)
	{
		fence_print(seq, "\t%s fence: ",
			    names[dma_resv_iter_usage(&cursor)]);
		dma_fence_describe(fence, seq);
	}
}
