/* SPDX-License-Identifier: MIT */
/*
 * Waiting for fences that may not be there yet.
 *
 *	CPU0: waits                        CPU1: replaces the fence
 *
 *	seen = word
 *	lock, entry not found, unlock
 *	                                   lock
 *	                                   fence = new
 *	                                   entry->fence = new, off the list
 *	                                   word++, wake
 *	                                   unlock
 *	sleeps while word == seen: no
 *
 * The thread leaves by taking its entries off the lists, under the lock, and by
 * removing its callbacks; then nobody knows its stack.
 */
#include <stdlib.h>

#include "base/inject.h"
#include "sync/syncobj.h"

enum { NR_ON_STACK = 16 };

#define WAITS_FOR_MORE \
	(MMN_SYNCOBJ_WAIT_FOR_SUBMIT | MMN_SYNCOBJ_WAIT_AVAILABLE)
#define ALL_FLAGS \
	(WAITS_FOR_MORE | MMN_SYNCOBJ_WAIT_ALL | MMN_SYNCOBJ_WAIT_DEADLINE)

void syncobj_find_entries(struct mmn_syncobj *object)
{
	struct syncobj_entry *entry, *next;

	list_for_each_safe (entry, next, &object->waiters, link) {
		if (!syncobj_has_point(object->fence, entry->point))
			continue;
		list_del(&entry->link);
		entry->fence = dma_fence_get(object->fence);
		fence_sleeper_wake(entry->sleeper);
	}
}

/* False if it is not there and the caller does not wait for that. */
static bool enter(struct syncobj_entry *entry, bool may_wait)
{
	struct mmn_syncobj *object = entry->object;
	bool there;

	mmn_spin_lock(&object->lock);
	there = syncobj_has_point(object->fence, entry->point);
	if (there)
		entry->fence = dma_fence_get(object->fence);
	else if (may_wait)
		list_add_tail(&entry->link, &object->waiters);
	mmn_spin_unlock(&object->lock);
	return there || may_wait;
}

static void leave(struct syncobj_entry *entry)
{
	mmn_spin_lock(&entry->object->lock);
	list_del(&entry->link);
	mmn_spin_unlock(&entry->object->lock);
	if (entry->attached)
		dma_fence_remove_callback(entry->fence, &entry->cb);
	dma_fence_put(entry->fence);
}

/* Is the fence there?  After the first time it is the one of the point. */
static bool is_there(struct syncobj_entry *entry)
{
	bool there;

	if (entry->resolved)
		return true;
	mmn_spin_lock(&entry->object->lock);
	there = entry->fence;
	mmn_spin_unlock(&entry->object->lock);
	if (!there)
		return false;
	syncobj_resolve(&entry->fence, entry->point);
	entry->resolved = true;
	return true;
}

static void wake_entry(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	(void)fence;
	fence_sleeper_wake(container_of(cb, struct syncobj_entry, cb)->sleeper);
}

static bool has_signaled(struct syncobj_entry *entry)
{
	if (dma_fence_is_signaled(entry->fence))
		return true;
	if (entry->attached)
		return false;
	entry->attached =
		!dma_fence_add_callback(entry->fence, &entry->cb, wake_entry);
	return !entry->attached;
}

struct wait {
	struct syncobj_entry *entries;
	uint32_t count;
	/* how many have been entered */
	uint32_t nr_entered;
	uint32_t flags;
	int64_t deadline;
	int64_t hint;
	struct fence_sleeper sleeper;
};

static bool is_done(const struct wait *wait, struct syncobj_entry *entry)
{
	bool first = !entry->resolved;

	if (!is_there(entry))
		return false;
	if (first && wait->flags & MMN_SYNCOBJ_WAIT_DEADLINE)
		dma_fence_set_deadline(entry->fence, wait->hint);
	if (wait->flags & MMN_SYNCOBJ_WAIT_AVAILABLE)
		return true;
	return has_signaled(entry);
}

/* Looks at all of them, so that all are attached; *@ret_first is the lowest. */
static bool is_over(const struct wait *wait, uint32_t *ret_first)
{
	uint32_t i, nr_done = 0, first = wait->count;

	for (i = 0; i < wait->count; i++) {
		if (!is_done(wait, &wait->entries[i]))
			continue;
		if (!nr_done++)
			first = i;
	}
	if (wait->flags & MMN_SYNCOBJ_WAIT_ALL)
		return nr_done == wait->count;
	*ret_first = first;
	return nr_done;
}

static int sleep_until_over(struct wait *wait, uint32_t *ret_first)
{
	bool late = false;

	for (;;) {
		uint32_t seen = fence_sleeper_look(&wait->sleeper);

		if (is_over(wait, ret_first))
			return 0;
		if (fence_sleeper_is_cancelled(&wait->sleeper))
			return -ERESTARTSYS;
		if (late)
			return -ETIMEDOUT;
		late = fence_sleeper_sleep(&wait->sleeper, seen,
					   wait->deadline) == -ETIMEDOUT;
	}
}

static int enter_all(struct wait *wait)
{
	bool may_wait = wait->flags & WAITS_FOR_MORE;

	for (; wait->nr_entered < wait->count; wait->nr_entered++)
		if (!enter(&wait->entries[wait->nr_entered], may_wait))
			return -EINVAL;
	return 0;
}

static int run_wait(struct wait *wait, uint32_t *ret_first)
{
	uint32_t i;
	int ret;

	dma_fence_might_wait();
	fence_sleeper_init(&wait->sleeper, true);
	for (i = 0; i < wait->count; i++)
		wait->entries[i].sleeper = &wait->sleeper;
	ret = enter_all(wait);
	if (!ret)
		ret = sleep_until_over(wait, ret_first);
	for (i = 0; i < wait->nr_entered; i++)
		leave(&wait->entries[i]);
	return ret;
}

static void init_entry(struct syncobj_entry *entry, struct mmn_syncobj *object,
		       uint64_t point)
{
	memset(entry, 0, sizeof(*entry));
	list_init(&entry->link);
	entry->object = object;
	entry->point = point;
}

static int check_objects(const struct mmn_syncobj_wait *args)
{
	uint32_t i;

	if (args->count && !args->objects)
		return -EINVAL;
	for (i = 0; i < args->count; i++) {
		if (!args->objects[i])
			return -EINVAL;
		if (sync_ref_is_stale(&args->objects[i]->ref))
			return -ESTALE;
	}
	return 0;
}

static int check_args(const struct mmn_syncobj_wait *args)
{
	int ret;

	if (!args)
		return -EINVAL;
	ret = sync_check_size(args, sizeof(*args));
	if (ret)
		return ret;
	if (args->flags & ~ALL_FLAGS)
		return -EINVAL;
	return check_objects(args);
}

static struct syncobj_entry *allocate_entries(struct syncobj_entry *on_stack,
					      uint32_t count)
{
	if (count <= NR_ON_STACK)
		return on_stack;
	if (MMN_INJECT(MMN_INJECT_ALLOC))
		return NULL;
	return calloc(count, sizeof(struct syncobj_entry));
}

int mmn_syncobj_wait(struct mmn_syncobj_wait *args)
{
	struct syncobj_entry on_stack[NR_ON_STACK];
	struct wait wait = { .entries = on_stack };
	uint32_t i, first = 0;
	int ret;

	ret = check_args(args);
	if (ret || !args->count)
		return ret;
	wait.entries = allocate_entries(on_stack, args->count);
	if (!wait.entries)
		return -ENOMEM;
	wait.count = args->count;
	wait.flags = args->flags;
	wait.deadline = args->deadline;
	wait.hint = args->hint;
	for (i = 0; i < args->count; i++)
		init_entry(&wait.entries[i], args->objects[i],
			   args->points ? args->points[i] : 0);
	ret = run_wait(&wait, &first);
	if (!ret && !(args->flags & MMN_SYNCOBJ_WAIT_ALL))
		args->first = first;
	if (wait.entries != on_stack)
		free(wait.entries);
	return ret;
}

/* A wait for one that is to be there; the fence stays the caller's. */
static int wait_for_fence(struct mmn_syncobj *object, uint64_t point,
			  int64_t deadline, struct dma_fence **ret_fence)
{
	struct syncobj_entry entry;
	struct wait wait = {
		.entries = &entry,
		.count = 1,
		.flags = MMN_SYNCOBJ_WAIT_AVAILABLE,
		.deadline = deadline,
	};
	uint32_t first;
	int ret;

	init_entry(&entry, object, point);
	dma_fence_might_wait();
	fence_sleeper_init(&wait.sleeper, true);
	entry.sleeper = &wait.sleeper;
	enter(&entry, true);
	ret = sleep_until_over(&wait, &first);
	if (!ret) {
		*ret_fence = entry.fence;
		entry.fence = NULL;
	}
	leave(&entry);
	return ret;
}

static int find_now(struct mmn_syncobj *object, uint64_t point,
		    struct dma_fence **ret_fence)
{
	struct dma_fence *fence = NULL;

	mmn_spin_lock(&object->lock);
	if (syncobj_has_point(object->fence, point))
		fence = dma_fence_get(object->fence);
	mmn_spin_unlock(&object->lock);
	if (!fence)
		return -EINVAL;
	syncobj_resolve(&fence, point);
	*ret_fence = fence;
	return 0;
}

int mmn_syncobj_find_fence(struct mmn_syncobj *object, uint64_t point,
			   uint32_t flags, int64_t deadline,
			   struct dma_fence **ret_fence)
{
	if (!object || flags & ~MMN_SYNCOBJ_WAIT_FOR_SUBMIT || !ret_fence)
		return -EINVAL;
	if (sync_ref_is_stale(&object->ref))
		return -ESTALE;
	if (flags)
		return wait_for_fence(object, point, deadline, ret_fence);
	return find_now(object, point, ret_fence);
}
