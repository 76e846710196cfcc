/* SPDX-License-Identifier: MIT */
/*
 * Eventfds that are told once.
 *
 *	pending --the point is there--> in transit --> attached --> used up
 *
 * In transit a notice belongs to the thread that made the point available, which
 * has a reference to the object.  It goes on the list of attached ones before its
 * callback is added, because that may run at once.
 *
 * The callback runs where nothing may be freed: it leaves the notice to the next
 * call that may.  The unlock is the last thing that it does to the object, so the
 * last reference need not wait for more than the callback that it finds on the
 * list:
 *
 *	CPU0: last reference               CPU1: signals
 *
 *	                                   callback, not yet at the lock
 *	lock, off `attached`, unlock
 *	remove_callback: waits             lock, not on a list, unlock
 *	free it                            returns
 */
#include <stdlib.h>

#include "base/inject.h"
#include "sync/event.h"
#include "sync/syncobj.h"

void syncobj_find_notices(struct mmn_syncobj *object, struct list_head *found)
{
	struct syncobj_notice *notice, *next;

	list_for_each_safe (notice, next, &object->pending, link) {
		if (!syncobj_has_point(object->fence, notice->point))
			continue;
		list_del(&notice->link);
		notice->fence = dma_fence_get(object->fence);
		list_add_tail(&notice->link, found);
	}
}

/* Tell, if nobody has taken it off the list before. */
static void use_up(struct syncobj_notice *notice)
{
	struct mmn_syncobj *object = notice->object;

	mmn_spin_lock(&object->lock);
	if (!list_is_empty(&notice->link)) {
		list_del(&notice->link);
		list_add_tail(&notice->link, &object->used_up);
		event_add(notice->fd);
		event_close(notice->fd);
		notice->fd = -1;
	}
	mmn_spin_unlock(&object->lock);
}

static void signaled(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	struct syncobj_notice *notice =
		container_of(cb, struct syncobj_notice, cb);

	(void)fence;
	if (!sync_ref_is_stale(&notice->object->ref))
		use_up(notice);
}

/*
 * Once the callback was added the notice is not touched, and the fence only by a
 * reference of our own: it may have been used up, and freed by another thread.
 */
static void attach(struct syncobj_notice *notice)
{
	struct mmn_syncobj *object = notice->object;
	struct dma_fence *fence;

	syncobj_resolve(&notice->fence, notice->point);
	fence = dma_fence_get(notice->fence);
	mmn_spin_lock(&object->lock);
	list_add_tail(&notice->link, &object->attached);
	mmn_spin_unlock(&object->lock);
	if (notice->only_available ||
	    dma_fence_add_callback(fence, &notice->cb, signaled))
		use_up(notice);
	dma_fence_put(fence);
}

void syncobj_attach_notices(struct list_head *found)
{
	struct syncobj_notice *notice, *next;

	list_for_each_safe (notice, next, found, link) {
		list_del(&notice->link);
		attach(notice);
	}
}

static void free_notice(struct syncobj_notice *notice)
{
	event_close(notice->fd);
	dma_fence_put(notice->fence);
	free(notice);
}

static void free_notices(struct list_head *notices)
{
	struct syncobj_notice *notice, *next;

	list_for_each_safe (notice, next, notices, link) {
		list_del(&notice->link);
		free_notice(notice);
	}
}

static struct syncobj_notice *take_attached(struct mmn_syncobj *object)
{
	struct syncobj_notice *notice;

	mmn_spin_lock(&object->lock);
	notice = list_first_entry(&object->attached, struct syncobj_notice,
				  link);
	if (notice)
		list_del(&notice->link);
	mmn_spin_unlock(&object->lock);
	return notice;
}

static void close_all(struct list_head *notices)
{
	struct syncobj_notice *notice;

	list_for_each (notice, notices, link)
		event_close(notice->fd);
}

/*
 * In a fork child the copies of the descriptors are its own, the rest is not.  If
 * the lock was held at the fork, by a thread that the child has not got, the lists
 * may be half changed: then the descriptors stay.
 */
static void close_copies(struct mmn_syncobj *object)
{
	if (!mmn_spin_trylock(&object->lock))
		return;
	close_all(&object->pending);
	close_all(&object->attached);
	mmn_spin_unlock(&object->lock);
}

void syncobj_drop_notices(struct mmn_syncobj *object)
{
	struct syncobj_notice *notice;

	if (sync_ref_is_stale(&object->ref)) {
		close_copies(object);
		return;
	}
	while ((notice = take_attached(object))) {
		dma_fence_remove_callback(notice->fence, &notice->cb);
		free_notice(notice);
	}
	free_notices(&object->pending);
	free_notices(&object->used_up);
}

static struct syncobj_notice *allocate(struct mmn_syncobj *object,
				       uint64_t point, uint32_t flags)
{
	struct syncobj_notice *notice;

	if (MMN_INJECT(MMN_INJECT_ALLOC))
		return NULL;
	notice = calloc(1, sizeof(*notice));
	if (!notice)
		return NULL;
	list_init(&notice->link);
	notice->object = object;
	notice->point = point;
	notice->only_available = flags & MMN_SYNCOBJ_WAIT_AVAILABLE;
	notice->fd = -1;
	return notice;
}

/* Also frees what was used up so far. */
static void insert(struct mmn_syncobj *object, struct syncobj_notice *notice)
{
	struct list_head found, used_up;

	list_init(&found);
	list_init(&used_up);
	mmn_spin_lock(&object->lock);
	list_splice_tail(&object->used_up, &used_up);
	list_add_tail(&notice->link, &object->pending);
	syncobj_find_notices(object, &found);
	mmn_spin_unlock(&object->lock);
	syncobj_attach_notices(&found);
	free_notices(&used_up);
}

int mmn_syncobj_eventfd(struct mmn_syncobj *object, uint64_t point,
			uint32_t flags, int fd)
{
	struct syncobj_notice *notice;
	int ret;

	if (!object || flags & ~MMN_SYNCOBJ_WAIT_AVAILABLE)
		return -EINVAL;
	if (sync_ref_is_stale(&object->ref))
		return -ESTALE;
	notice = allocate(object, point, flags);
	if (!notice)
		return -ENOMEM;
	ret = event_adopt(fd, &notice->fd);
	if (ret) {
		free(notice);
		return ret;
	}
	insert(object, notice);
	return 0;
}
