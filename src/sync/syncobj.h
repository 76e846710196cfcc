/* SPDX-License-Identifier: MIT */
#ifndef MMN_SYNC_SYNCOBJ_H
#define MMN_SYNC_SYNCOBJ_H
/*
 * The inside of syncobjs: who waits for a fence to be here.
 *
 * O1  fence has a reference.
 * O2  an entry is on waiters exactly while its fence is NULL.
 * O3  a notice is on pending exactly while its fence is NULL; on attached until
 *     its callback has run; then on used_up, where nobody else knows it.
 * O4  under the lock nothing foreign runs: no fence is asked, enabled or put.
 */
#include "base/list.h"
#include "sync/sync.h"

struct mmn_syncobj {
	struct sync_ref ref;
	/* guards what is below; leaf */
	struct spinlock lock;
	/* or NULL.  O1 */
	struct dma_fence *fence;
	/* struct syncobj_entry.  O2 */
	struct list_head waiters;
	/* struct syncobj_notice.  O3 */
	struct list_head pending;
	struct list_head attached;
	struct list_head used_up;
	/* points appended since the timeline was last walked, and left then */
	uint32_t nr_new;
	uint32_t nr_left;
};

/* One object that a thread waits for; on its stack. */
struct syncobj_entry {
	/* on waiters, by itself otherwise */
	struct list_head link;
	struct mmn_syncobj *object;
	uint64_t point;
	/*
	 * With a reference, or NULL; the object's lock until it is not.  The
	 * node that was there, or, once resolved, the one of the point.
	 */
	struct dma_fence *fence;
	/* the thread's own, both: */
	bool resolved;
	bool attached;
	struct dma_fence_cb cb;
	struct fence_sleeper *sleeper;
};

/* One eventfd to be told. */
struct syncobj_notice {
	/* on one of the object's lists, or of whoever has it in transit */
	struct list_head link;
	struct mmn_syncobj *object;
	uint64_t point;
	/* with a reference, or NULL */
	struct dma_fence *fence;
	struct dma_fence_cb cb;
	/* a duplicate of our own */
	int fd;
	bool only_available;
};

/*
 * Is the point there, when @fence is?  Which node it is takes a walk, but not
 * this.
 */
static inline bool syncobj_has_point(struct dma_fence *fence, uint64_t point)
{
	if (!fence || !point)
		return fence;
	return dma_fence_is_chain(fence) && fence->seqno >= point;
}

/* Replace the node that was there by the one of the point; no lock is held. */
void syncobj_resolve(struct dma_fence **fence, uint64_t point);

/* The fence has changed: find entries and notices whose point is there. */
void syncobj_find_entries(struct mmn_syncobj *object);
/* The notices go to @found, which is for syncobj_attach_notices(). */
void syncobj_find_notices(struct mmn_syncobj *object, struct list_head *found);

/* No lock is held, the caller has a reference. */
void syncobj_attach_notices(struct list_head *found);

/* Nobody has a reference any more. */
void syncobj_drop_notices(struct mmn_syncobj *object);

#endif
