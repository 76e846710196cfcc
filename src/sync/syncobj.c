/* SPDX-License-Identifier: MIT */
/* The fence that is here at present. */
#include "sync/syncobj.h"

#include <mmn/dma-fence-chain.h>
#include <mmn/dma-fence-unwrap.h>
#include <stdlib.h>

#include "base/inject.h"
#include "base/time.h"

static struct mmn_syncobj *allocate(void)
{
	struct mmn_syncobj *object;

	if (MMN_INJECT(MMN_INJECT_ALLOC))
		return NULL;
	object = calloc(1, sizeof(*object));
	if (!object)
		return NULL;
	sync_ref_init(&object->ref);
	mmn_spin_init(&object->lock);
	list_init(&object->waiters);
	list_init(&object->pending);
	list_init(&object->attached);
	list_init(&object->used_up);
	return object;
}

int mmn_syncobj_create(uint32_t flags, struct mmn_syncobj **ret_object)
{
	struct mmn_syncobj *object;

	if (flags & ~MMN_SYNCOBJ_SIGNALED || !ret_object)
		return -EINVAL;
	object = allocate();
	if (!object)
		return -ENOMEM;
	if (flags & MMN_SYNCOBJ_SIGNALED)
		object->fence = dma_fence_get_stub();
	*ret_object = object;
	return 0;
}

struct mmn_syncobj *mmn_syncobj_get(struct mmn_syncobj *object)
{
	if (object)
		sync_ref_get(&object->ref);
	return object;
}

void mmn_syncobj_put(struct mmn_syncobj *object)
{
	if (!object || !sync_ref_put(&object->ref))
		return;
	syncobj_drop_notices(object);
	if (sync_ref_is_stale(&object->ref))
		return;
	mmn_check(list_is_empty(&object->waiters));
	dma_fence_put(object->fence);
	free(object);
}

void syncobj_resolve(struct dma_fence **fence, uint64_t point)
{
	int ret = dma_fence_chain_find_seqno(fence, point);

	mmn_bug_on(ret, "a point that was there is not");
	/* All up to there was collected: it has signalled. */
	if (!*fence)
		*fence = dma_fence_get_stub();
}

/* Takes over the reference to @fence; the lock is held, the old one is gone. */
static void publish(struct mmn_syncobj *object, struct dma_fence *fence,
		    struct list_head *found)
{
	object->fence = fence;
	syncobj_find_entries(object);
	syncobj_find_notices(object, found);
}

static void replace(struct mmn_syncobj *object, struct dma_fence *fence)
{
	struct dma_fence *old;
	struct list_head found;

	list_init(&found);
	mmn_spin_lock(&object->lock);
	old = object->fence;
	publish(object, fence, &found);
	mmn_spin_unlock(&object->lock);
	syncobj_attach_notices(&found);
	dma_fence_put(old);
}

int mmn_syncobj_replace_fence(struct mmn_syncobj *object,
			      struct dma_fence *fence)
{
	if (!object)
		return -EINVAL;
	if (sync_ref_is_stale(&object->ref))
		return -ESTALE;
	replace(object, dma_fence_get(fence));
	return 0;
}

int mmn_syncobj_reset(struct mmn_syncobj *object)
{
	return mmn_syncobj_replace_fence(object, NULL);
}

static struct dma_fence *signaled_now(void)
{
	return dma_fence_allocate_private_stub((int64_t)mmn_now_ns());
}

int mmn_syncobj_signal(struct mmn_syncobj *object)
{
	struct dma_fence *fence;

	if (!object)
		return -EINVAL;
	if (sync_ref_is_stale(&object->ref))
		return -ESTALE;
	fence = signaled_now();
	if (!fence)
		return -ENOMEM;
	replace(object, fence);
	return 0;
}

/* A walk takes out what has signalled. */
static uint32_t count_left(struct dma_fence *head)
{
	struct dma_fence *iter;
	uint32_t nr = 0;

	dma_fence_chain_for_each(iter, head) nr++;
	return nr;
}

/*
 * Walking after each point, as Linux does, costs n steps each while n are pending.
 * Doing so when there are twice as many as were left costs two, and the timeline is
 * at most that long.
 */
static void collect(struct mmn_syncobj *object, struct dma_fence *head)
{
	uint32_t nr_left = count_left(head);

	mmn_spin_lock(&object->lock);
	object->nr_left = nr_left;
	object->nr_new = 0;
	mmn_spin_unlock(&object->lock);
}

/* @chain is memory for the node; takes over the reference to @fence. */
static void append(struct mmn_syncobj *object, struct dma_fence_chain *chain,
		   struct dma_fence *fence, uint64_t point)
{
	struct list_head found;
	bool is_long;

	list_init(&found);
	mmn_spin_lock(&object->lock);
	dma_fence_chain_init(chain, object->fence, fence, point);
	dma_fence_get(&chain->base);
	publish(object, &chain->base, &found);
	is_long = ++object->nr_new > object->nr_left;
	mmn_spin_unlock(&object->lock);
	syncobj_attach_notices(&found);
	if (is_long)
		collect(object, &chain->base);
	dma_fence_put(&chain->base);
}

int mmn_syncobj_add_point(struct mmn_syncobj *object, uint64_t point,
			  struct dma_fence *fence)
{
	struct dma_fence_chain *chain;

	if (!object || !point || !fence || dma_fence_is_chain(fence))
		return -EINVAL;
	if (sync_ref_is_stale(&object->ref))
		return -ESTALE;
	chain = dma_fence_chain_alloc();
	if (!chain)
		return -ENOMEM;
	append(object, chain, dma_fence_get(fence), point);
	return 0;
}

/* What @point means: append, or replace if it is 0. */
static int put_at(struct mmn_syncobj *object, uint64_t point,
		  struct dma_fence *fence)
{
	struct dma_fence *flat;
	int ret;

	if (!point)
		return mmn_syncobj_replace_fence(object, fence);
	if (!dma_fence_is_chain(fence))
		return mmn_syncobj_add_point(object, point, fence);
	flat = dma_fence_unwrap_merge(fence);
	if (!flat)
		return -ENOMEM;
	ret = mmn_syncobj_add_point(object, point, flat);
	dma_fence_put(flat);
	return ret;
}

int mmn_syncobj_timeline_signal(struct mmn_syncobj *object, uint64_t point)
{
	struct dma_fence *fence;
	int ret;

	if (!object)
		return -EINVAL;
	if (sync_ref_is_stale(&object->ref))
		return -ESTALE;
	fence = signaled_now();
	if (!fence)
		return -ENOMEM;
	ret = put_at(object, point, fence);
	dma_fence_put(fence);
	return ret;
}

static struct dma_fence *get_fence(struct mmn_syncobj *object)
{
	struct dma_fence *fence;

	mmn_spin_lock(&object->lock);
	fence = dma_fence_get(object->fence);
	mmn_spin_unlock(&object->lock);
	return fence;
}

/*
 * A walk takes out what has signalled, so the oldest node that it meets is the
 * first that has not; what came before that one has.  A new timeline begins where
 * a point was not above the one before: the numbers are not followed past it.
 */
static uint64_t last_signaled(struct dma_fence *head)
{
	struct dma_fence *iter, *oldest = dma_fence_get(head);
	uint64_t point;

	dma_fence_chain_for_each(iter, head)
	{
		if (!dma_fence_is_chain(iter) ||
		    iter->context != head->context) {
			dma_fence_put(iter);
			break;
		}
		dma_fence_put(oldest);
		oldest = dma_fence_get(iter);
	}
	if (dma_fence_is_signaled(oldest))
		point = oldest->seqno;
	else
		point = to_dma_fence_chain(oldest)->prev_seqno;
	dma_fence_put(oldest);
	return point;
}

int mmn_syncobj_query(struct mmn_syncobj *object, uint32_t flags,
		      uint64_t *ret_point)
{
	struct dma_fence *head;

	if (!object || flags & ~MMN_SYNCOBJ_QUERY_LAST_SUBMITTED || !ret_point)
		return -EINVAL;
	if (sync_ref_is_stale(&object->ref))
		return -ESTALE;
	head = get_fence(object);
	if (!dma_fence_is_chain(head))
		*ret_point = 0;
	else if (flags)
		*ret_point = head->seqno;
	else
		*ret_point = last_signaled(head);
	dma_fence_put(head);
	return 0;
}

int mmn_syncobj_transfer(const struct mmn_syncobj_transfer *transfer)
{
	struct dma_fence *fence;
	int ret;

	if (!transfer)
		return -EINVAL;
	ret = sync_check_size(transfer, sizeof(*transfer));
	if (ret)
		return ret;
	if (!transfer->to)
		return -EINVAL;
	ret = mmn_syncobj_find_fence(transfer->from, transfer->from_point,
				     transfer->flags, transfer->deadline,
				     &fence);
	if (ret)
		return ret;
	ret = put_at(transfer->to, transfer->to_point, fence);
	dma_fence_put(fence);
	return ret;
}

int mmn_syncobj_import_file(struct mmn_syncobj *object, uint64_t point,
			    struct mmn_sync_file *file)
{
	struct dma_fence *fence;
	int ret;

	if (!object || !file)
		return -EINVAL;
	fence = mmn_sync_file_get_fence(file);
	if (!fence)
		return -ESTALE;
	ret = put_at(object, point, fence);
	dma_fence_put(fence);
	return ret;
}

int mmn_syncobj_export_file(struct mmn_syncobj *object, uint64_t point,
			    struct mmn_sync_file **ret_file)
{
	struct dma_fence *fence;
	int ret;

	if (!ret_file)
		return -EINVAL;
	ret = mmn_syncobj_find_fence(object, point, 0, 0, &fence);
	if (ret)
		return ret;
	ret = mmn_sync_file_create(fence, NULL, ret_file);
	dma_fence_put(fence);
	return ret;
}
