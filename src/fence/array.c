/* SPDX-License-Identifier: MIT */
/*
 * Several fences as one.
 *
 * num_pending counts the members that are still wanted.  While the enable op is
 * adding callbacks it is larger by ENABLING, so that no member's callback brings
 * it to 0 in between: a callback that signalled the array then would have to wait
 * for the op, which may want a lock that the callback's caller holds.
 *
 * While members may still set it base.error is NO_ERROR_YET, which whoever finds the
 * array complete replaces before it signals: where one member is enough, another one
 * that fails afterwards must not change what the array signalled with.
 *
 * A1  each callback that is on a member has a reference to the array.
 * A2  num_pending becomes 0 once: in the op, or in one callback.
 * A3  base.error changes once, from NO_ERROR_YET, before the array signals.
 */
#include <mmn/dma-fence-array.h>

#include <stdlib.h>

#include "base/inject.h"
#include "fence/fence.h"

/* Of a fence that is known to be an array. */
static struct dma_fence_array *array_of(struct dma_fence *fence)
{
	return container_of(fence, struct dma_fence_array, base);
}

enum { ENABLING = 1 << 30, NO_ERROR_YET = 1 };

static const char *array_driver_name(struct dma_fence *fence)
{
	(void)fence;
	return "dma_fence_array";
}

static const char *array_timeline_name(struct dma_fence *fence)
{
	(void)fence;
	return "unbound";
}

/* The first one stays. */
static void settle_error(struct dma_fence_array *array, int error)
{
	int none = NO_ERROR_YET;

	/* relaxed: num_pending, and the signal, carry it to readers */
	mmn_cmpxchg_relaxed(&array->base.error, &none, error);
}

static void merge_error(struct dma_fence_array *array, struct dma_fence *member)
{
	if (member->error)
		settle_error(array, member->error);
}

static int drop_pending(struct dma_fence_array *array, int by)
{
	/*
	 * pair(array_pending): release and acquire, with itself in
	 * drop_pending() of another thread.  Without it the array signals
	 * before what an earlier member's producer wrote is visible.
	 */
	return mmn_fetch_sub_acq_rel(&array->num_pending, by) - by;
}

static void member_signaled(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	struct dma_fence_array *array =
		container_of(cb, struct dma_fence_array_cb, cb)->array;

	merge_error(array, fence);
	if (!drop_pending(array, 1)) {
		settle_error(array, 0);
		dma_fence_signal(&array->base);
	}
	dma_fence_put(&array->base);
}

static void watch_member(struct dma_fence_array *array, unsigned int i)
{
	struct dma_fence_array_cb *cb = &array->callbacks[i];

	cb->array = array;
	dma_fence_get(&array->base);
	if (!dma_fence_add_callback(array->fences[i], &cb->cb, member_signaled))
		return;
	merge_error(array, array->fences[i]);
	drop_pending(array, 1);
	dma_fence_put(&array->base);
}

static bool array_enable_signaling(struct dma_fence *fence)
{
	struct dma_fence_array *array = array_of(fence);
	unsigned int i;

	/* relaxed: no callback is there yet */
	mmn_fetch_add_relaxed(&array->num_pending, ENABLING);
	for (i = 0; i < array->num_fences; i++)
		watch_member(array, i);
	if (drop_pending(array, ENABLING) > 0)
		return true;
	settle_error(array, 0);
	return false;
}

static unsigned int count_signaled(const struct dma_fence_array *array)
{
	unsigned int i, nr = 0;

	for (i = 0; i < array->num_fences; i++)
		nr += dma_fence_is_signaled(array->fences[i]);
	return nr;
}

/* All have signalled and no callback saw it: who failed first by the clock? */
static void merge_errors_by_time(struct dma_fence_array *array)
{
	struct dma_fence *first = NULL;
	unsigned int i;

	for (i = 0; i < array->num_fences; i++) {
		struct dma_fence *member = array->fences[i];

		if (!dma_fence_test_signaled_flag(member) || !member->error)
			continue;
		if (!first ||
		    dma_fence_timestamp(member) < dma_fence_timestamp(first))
			first = member;
	}
	if (first)
		merge_error(array, first);
}

/* The count is of use only when callbacks change it. */
static bool array_signaled(struct dma_fence *fence)
{
	struct dma_fence_array *array = array_of(fence);
	int pending;

	/*
	 * pair(array_pending): acquire, with the release in drop_pending().
	 * Without it the array signals before what a member's producer wrote is
	 * visible.
	 */
	pending = mmn_load_acquire(&array->num_pending);
	if (pending <= 0) {
		settle_error(array, 0);
		return true;
	}
	if (fence_flags_acquire(fence) & FENCE_BIT(ENABLE_SIGNAL))
		return false;
	/* Nobody counts: pending is what it was at first. */
	if (count_signaled(array) < (unsigned int)pending)
		return false;
	merge_errors_by_time(array);
	settle_error(array, 0);
	return true;
}

static void array_release(struct dma_fence *fence)
{
	struct dma_fence_array *array = array_of(fence);
	unsigned int i;

	for (i = 0; i < array->num_fences; i++)
		dma_fence_put(array->fences[i]);
	free(array->fences);
	dma_fence_free(fence);
}

static void array_set_deadline(struct dma_fence *fence, int64_t deadline)
{
	struct dma_fence_array *array = array_of(fence);
	unsigned int i;

	for (i = 0; i < array->num_fences; i++)
		dma_fence_set_deadline(array->fences[i], deadline);
}

static const struct dma_fence_ops array_ops = {
	.get_driver_name = array_driver_name,
	.get_timeline_name = array_timeline_name,
	.enable_signaling = array_enable_signaling,
	.signaled = array_signaled,
	.release = array_release,
	.set_deadline = array_set_deadline,
};

bool dma_fence_is_array(struct dma_fence *fence)
{
	return fence && fence_ops(fence) == &array_ops;
}

struct dma_fence_array *to_dma_fence_array(struct dma_fence *fence)
{
	if (!dma_fence_is_array(fence))
		return NULL;
	return array_of(fence);
}

/* The callbacks lie behind the array, in the same block. */
struct dma_fence_array *dma_fence_array_alloc(int num_fences)
{
	size_t nr = num_fences > 0 ? (size_t)num_fences : 0;
	struct dma_fence_array *array;

	if (MMN_INJECT(MMN_INJECT_ALLOC))
		return NULL;
	array = malloc(sizeof(*array) + nr * sizeof(*array->callbacks));
	if (array)
		array->callbacks = (struct dma_fence_array_cb *)(array + 1);
	return array;
}

static void check_members(const struct dma_fence_array *array)
{
	unsigned int i;

	for (i = 0; i < array->num_fences; i++)
		mmn_bug_on(dma_fence_is_container(array->fences[i]),
			   "an array or a chain is put into an array");
}

void dma_fence_array_init(struct dma_fence_array *array, int num_fences,
			  struct dma_fence **fences, uint64_t context,
			  unsigned int seqno, bool signal_on_any)
{
	bool valid = num_fences > 0 && fences;

	mmn_bug_on(!valid, "an array without fences");
	array->num_fences = valid ? (unsigned int)num_fences : 0;
	array->num_pending = valid ? num_fences : 0;
	if (valid && signal_on_any)
		array->num_pending = 1;
	array->fences = fences;
	dma_fence_init(&array->base, &array_ops, NULL, context, seqno);
	array->base.error = NO_ERROR_YET;
	check_members(array);
}

struct dma_fence_array *
dma_fence_array_create(int num_fences, struct dma_fence **fences,
		       uint64_t context, unsigned int seqno, bool signal_on_any)
{
	struct dma_fence_array *array = dma_fence_array_alloc(num_fences);

	if (array)
		dma_fence_array_init(array, num_fences, fences, context, seqno,
				     signal_on_any);
	return array;
}

bool dma_fence_match_context(struct dma_fence *fence, uint64_t context)
{
	struct dma_fence_array *array = to_dma_fence_array(fence);
	unsigned int i;

	if (!array)
		return fence->context == context;
	for (i = 0; i < array->num_fences; i++)
		if (array->fences[i]->context != context)
			return false;
	return true;
}

struct dma_fence *dma_fence_array_first(struct dma_fence *head)
{
	struct dma_fence_array *array = to_dma_fence_array(head);

	if (!array)
		return head;
	return array->num_fences ? array->fences[0] : NULL;
}

struct dma_fence *dma_fence_array_next(struct dma_fence *head,
				       unsigned int index)
{
	struct dma_fence_array *array = to_dma_fence_array(head);

	if (!array || index >= array->num_fences)
		return NULL;
	return array->fences[index];
}
