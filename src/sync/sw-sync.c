/* SPDX-License-Identifier: MIT */
/*
 * A timeline that is advanced by hand.
 *
 * W1  pending is in the order of the values, all of them ahead of value.
 * W2  a point on it has no reference from there: its release takes it off.
 * W3  a point has a reference to the timeline until it is released.
 *
 * What a callback does may drop the last reference of a point, and its release
 * takes the lock: callbacks, and the references that are taken here, wait until it
 * is free.
 */
#include <limits.h>
#include <stdlib.h>

#include "base/inject.h"
#include "base/list.h"
#include "sync/sync.h"

struct mmn_sw_sync {
	struct sync_ref ref;
	/* guards what is below, and deadlines; leaf */
	struct spinlock lock;
	uint32_t value;
	/* W1, W2 */
	struct list_head pending;
	/* const after create */
	uint64_t context;
	char name[MMN_SYNC_NAME_SIZE];
};

struct point {
	/* first: the fence is freed by its address */
	struct dma_fence base;
	/* on pending, or with a reference on the list of whoever signals it */
	struct list_head link;
	struct mmn_sw_sync *timeline;
	/* the earliest one; DMA_FENCE_NEVER if there is none */
	int64_t deadline;
};

static struct point *to_point(struct dma_fence *fence)
{
	return container_of(fence, struct point, base);
}

static void put_timeline(struct mmn_sw_sync *timeline)
{
	if (sync_ref_put(&timeline->ref))
		free(timeline);
}

static const char *driver_name(struct dma_fence *fence)
{
	(void)fence;
	return "sw_sync";
}

static const char *timeline_name(struct dma_fence *fence)
{
	return to_point(fence)->timeline->name;
}

static void release_point(struct dma_fence *fence)
{
	struct point *point = to_point(fence);
	struct mmn_sw_sync *timeline = point->timeline;

	/* In a fork child the lock may be held by nobody. */
	if (sync_ref_is_stale(&timeline->ref))
		return;
	mmn_spin_lock(&timeline->lock);
	list_del(&point->link);
	mmn_spin_unlock(&timeline->lock);
	put_timeline(timeline);
	dma_fence_free(fence);
}

static void set_deadline(struct dma_fence *fence, int64_t deadline)
{
	struct point *point = to_point(fence);
	struct mmn_sw_sync *timeline = point->timeline;

	if (sync_ref_is_stale(&timeline->ref))
		return;
	mmn_spin_lock(&timeline->lock);
	if (deadline < point->deadline)
		point->deadline = deadline;
	mmn_spin_unlock(&timeline->lock);
}

static const struct dma_fence_ops point_ops = {
	.get_driver_name = driver_name,
	.get_timeline_name = timeline_name,
	.release = release_point,
	.set_deadline = set_deadline,
};

int mmn_sw_sync_create(const char *name, struct mmn_sw_sync **ret_timeline)
{
	struct mmn_sw_sync *timeline = NULL;
	int err;

	if (!name || !ret_timeline)
		return -EINVAL;
	err = mmn_rcu_prepare();
	if (err)
		return err;
	if (!MMN_INJECT(MMN_INJECT_ALLOC))
		timeline = calloc(1, sizeof(*timeline));
	if (!timeline)
		return -ENOMEM;
	sync_ref_init(&timeline->ref);
	mmn_spin_init(&timeline->lock);
	list_init(&timeline->pending);
	timeline->context = dma_fence_context_alloc(1);
	sync_name_copy(timeline->name, name);
	*ret_timeline = timeline;
	return 0;
}

static bool is_reached(const struct mmn_sw_sync *timeline, uint32_t value)
{
	return (int32_t)(value - timeline->value) <= 0;
}

/*
 * Signal what is reached, or with an error all of it.  The points go to @done,
 * with references.  The lock is held and callbacks are, too.
 */
static void signal_points(struct mmn_sw_sync *timeline, int error,
			  struct list_head *done)
{
	struct point *point, *next;

	list_for_each_safe (point, next, &timeline->pending, link) {
		if (!error &&
		    !is_reached(timeline, (uint32_t)point->base.seqno))
			break;
		/* One that is being released takes itself off. */
		if (!dma_fence_get_rcu(&point->base))
			continue;
		list_del(&point->link);
		list_add_tail(&point->link, done);
		if (error)
			dma_fence_set_error(&point->base, error);
		dma_fence_signal(&point->base);
	}
}

/* Without the lock. */
static void put_points(struct list_head *done)
{
	struct point *point, *next;

	list_for_each_safe (point, next, done, link) {
		list_del(&point->link);
		dma_fence_put(&point->base);
	}
}

/* More than INT_MAX steps at once would look like steps back. */
static void advance(struct mmn_sw_sync *timeline, uint32_t steps,
		    struct list_head *done)
{
	while (steps > INT_MAX) {
		timeline->value += INT_MAX;
		steps -= INT_MAX;
		signal_points(timeline, 0, done);
	}
	timeline->value += steps;
	signal_points(timeline, 0, done);
}

int mmn_sw_sync_inc(struct mmn_sw_sync *timeline, uint32_t steps)
{
	struct list_head done;
	bool outermost;

	if (!timeline)
		return -EINVAL;
	if (sync_ref_is_stale(&timeline->ref))
		return -ESTALE;
	list_init(&done);
	outermost = fence_hold_callbacks();
	mmn_spin_lock(&timeline->lock);
	advance(timeline, steps, &done);
	mmn_spin_unlock(&timeline->lock);
	fence_run_callbacks(outermost);
	put_points(&done);
	return 0;
}

void mmn_sw_sync_destroy(struct mmn_sw_sync *timeline)
{
	struct list_head done;
	bool outermost;

	if (!timeline || sync_ref_is_stale(&timeline->ref))
		return;
	list_init(&done);
	outermost = fence_hold_callbacks();
	mmn_spin_lock(&timeline->lock);
	signal_points(timeline, -ENOENT, &done);
	mmn_spin_unlock(&timeline->lock);
	fence_run_callbacks(outermost);
	put_points(&done);
	put_timeline(timeline);
}

/*
 * The last point that is not behind @value, or the head of the list.  Most are
 * made in order, so from the end.  The lock is held.
 */
static struct list_head *find_place(struct mmn_sw_sync *timeline,
				    uint32_t value)
{
	struct list_head *link = timeline->pending.prev;

	while (link != &timeline->pending) {
		struct point *point = list_entry(link, struct point, link);

		if ((int32_t)((uint32_t)point->base.seqno - value) <= 0)
			break;
		link = link->prev;
	}
	return link;
}

/* A reference to a pending one with this value, or NULL.  The lock is held. */
static struct dma_fence *find_alive(struct mmn_sw_sync *timeline,
				    struct list_head *link, uint32_t value)
{
	while (link != &timeline->pending) {
		struct point *point = list_entry(link, struct point, link);

		if ((uint32_t)point->base.seqno != value)
			break;
		if (dma_fence_get_rcu(&point->base))
			return &point->base;
		link = link->prev;
	}
	return NULL;
}

/* @point becomes the fence of @value, or an existing one is. */
static struct dma_fence *insert(struct mmn_sw_sync *timeline,
				struct point *point, uint32_t value,
				bool *ret_reached)
{
	struct list_head *place = find_place(timeline, value);
	struct dma_fence *found = find_alive(timeline, place, value);

	if (found)
		return found;
	*ret_reached = is_reached(timeline, value);
	point->timeline = timeline;
	point->deadline = DMA_FENCE_NEVER;
	list_init(&point->link);
	dma_fence_init(&point->base, &point_ops, NULL, timeline->context,
		       value);
	if (!*ret_reached)
		list_add(&point->link, place);
	sync_ref_get(&timeline->ref);
	return &point->base;
}

int mmn_sw_sync_create_fence(struct mmn_sw_sync *timeline, uint32_t value,
			     struct dma_fence **ret_fence)
{
	struct point *point = NULL;
	struct dma_fence *fence;
	bool reached = false;

	if (!timeline || !ret_fence)
		return -EINVAL;
	if (sync_ref_is_stale(&timeline->ref))
		return -ESTALE;
	if (!MMN_INJECT(MMN_INJECT_ALLOC))
		point = malloc(sizeof(*point));
	if (!point)
		return -ENOMEM;
	mmn_spin_lock(&timeline->lock);
	fence = insert(timeline, point, value, &reached);
	mmn_spin_unlock(&timeline->lock);
	if (fence != &point->base)
		free(point);
	if (reached)
		dma_fence_signal(fence);
	*ret_fence = fence;
	return 0;
}

int mmn_sw_sync_get_deadline(struct dma_fence *fence, int64_t *ret_deadline)
{
	struct mmn_sw_sync *timeline;
	int64_t deadline;

	if (!fence || !ret_deadline || fence_ops(fence) != &point_ops)
		return -EINVAL;
	timeline = to_point(fence)->timeline;
	if (sync_ref_is_stale(&timeline->ref))
		return -ESTALE;
	mmn_spin_lock(&timeline->lock);
	deadline = to_point(fence)->deadline;
	mmn_spin_unlock(&timeline->lock);
	if (deadline == DMA_FENCE_NEVER)
		return -ENOENT;
	*ret_deadline = deadline;
	return 0;
}
