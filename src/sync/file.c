/* SPDX-License-Identifier: MIT */
/*
 * A fence as an object with a descriptor.
 *
 *	no fd --get_fd()--> fd, callback added --signal--> readable for good
 *
 * The callback uses the file without a reference: the last mmn_sync_file_put()
 * removes it before anything is closed or freed.
 *
 * S1  fd is -1 or open, and changes once.
 * S2  the callback was added if armed is set; whoever made fd sets it, before it
 *     drops its reference.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/inject.h"
#include "sync/event.h"
#include "sync/sync.h"

#include <mmn/dma-fence-unwrap.h>

struct mmn_sync_file {
	struct sync_ref ref;
	/* guards fd while it is made */
	struct spinlock lock;
	int fd;
	bool armed;
	struct dma_fence_cb cb;
	/* const after create */
	struct dma_fence *fence;
	/* of the caller, or empty; const after create */
	char name[MMN_SYNC_NAME_SIZE];
};

int mmn_sync_file_create(struct dma_fence *fence, const char *name,
			 struct mmn_sync_file **ret_file)
{
	struct mmn_sync_file *file = NULL;

	if (!fence || !ret_file)
		return -EINVAL;
	if (!MMN_INJECT(MMN_INJECT_ALLOC))
		file = calloc(1, sizeof(*file));
	if (!file)
		return -ENOMEM;
	sync_ref_init(&file->ref);
	mmn_spin_init(&file->lock);
	file->fd = -1;
	file->fence = dma_fence_get(fence);
	sync_name_copy(file->name, name);
	*ret_file = file;
	return 0;
}

struct mmn_sync_file *mmn_sync_file_get(struct mmn_sync_file *file)
{
	if (file)
		sync_ref_get(&file->ref);
	return file;
}

void mmn_sync_file_put(struct mmn_sync_file *file)
{
	if (!file || !sync_ref_put(&file->ref))
		return;
	if (sync_ref_is_stale(&file->ref)) {
		event_close(file->fd);
		return;
	}
	if (file->armed)
		dma_fence_remove_callback(file->fence, &file->cb);
	event_close(file->fd);
	dma_fence_put(file->fence);
	free(file);
}

struct dma_fence *mmn_sync_file_get_fence(struct mmn_sync_file *file)
{
	if (!file || sync_ref_is_stale(&file->ref))
		return NULL;
	return dma_fence_get(file->fence);
}

static void raise_file(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	struct mmn_sync_file *file = container_of(cb, struct mmn_sync_file, cb);

	(void)fence;
	if (!sync_ref_is_stale(&file->ref))
		event_raise(file->fd, EVENT_STICKY);
}

/* *@ret_new: this call made it. */
static int open_once(struct mmn_sync_file *file, int *ret_fd, bool *ret_new)
{
	int ret = 0;

	mmn_spin_lock(&file->lock);
	*ret_new = file->fd < 0;
	if (file->fd < 0)
		ret = event_open(EVENT_STICKY, &file->fd);
	if (!ret)
		*ret_fd = file->fd;
	mmn_spin_unlock(&file->lock);
	return ret;
}

int mmn_sync_file_get_fd(struct mmn_sync_file *file, int *ret_fd)
{
	bool new;
	int ret;

	if (!file || !ret_fd)
		return -EINVAL;
	if (sync_ref_is_stale(&file->ref))
		return -ESTALE;
	ret = open_once(file, ret_fd, &new);
	if (ret || !new)
		return ret;
	if (dma_fence_add_callback(file->fence, &file->cb, raise_file))
		event_raise(file->fd, EVENT_STICKY);
	else
		file->armed = true;
	return 0;
}

int mmn_sync_file_merge(const char *name, struct mmn_sync_file *a,
			struct mmn_sync_file *b,
			struct mmn_sync_file **ret_file)
{
	struct dma_fence *merged;
	int ret;

	if (!a || !b || !ret_file)
		return -EINVAL;
	if (sync_ref_is_stale(&a->ref) || sync_ref_is_stale(&b->ref))
		return -ESTALE;
	merged = dma_fence_unwrap_merge(a->fence, b->fence);
	if (!merged)
		return -ENOMEM;
	ret = mmn_sync_file_create(merged, name, ret_file);
	dma_fence_put(merged);
	return ret;
}

int mmn_sync_file_set_deadline(struct mmn_sync_file *file, int64_t deadline)
{
	if (!file)
		return -EINVAL;
	if (sync_ref_is_stale(&file->ref))
		return -ESTALE;
	dma_fence_set_deadline(file->fence, deadline);
	return 0;
}

/* In a read section. */
static void copy_name(struct mmn_sync_file *file, char name[MMN_SYNC_NAME_SIZE])
{
	struct dma_fence *fence = file->fence;

	if (file->name[0]) {
		memcpy(name, file->name, MMN_SYNC_NAME_SIZE);
		return;
	}
	memset(name, 0, MMN_SYNC_NAME_SIZE);
	snprintf(name, MMN_SYNC_NAME_SIZE, "%s-%s%" PRIu64 "-%" PRIu64,
		 dma_fence_driver_name(fence), dma_fence_timeline_name(fence),
		 fence->context, fence->seqno);
}

static void describe_leaf(struct dma_fence *leaf,
			  struct mmn_sync_fence_info *info)
{
	memset(info, 0, sizeof(*info));
	info->status = dma_fence_get_status(leaf);
	if (info->status)
		info->timestamp = dma_fence_timestamp(leaf);
	mmn_rcu_read_lock();
	sync_name_copy(info->driver, dma_fence_driver_name(leaf));
	sync_name_copy(info->timeline, dma_fence_timeline_name(leaf));
	mmn_rcu_read_unlock();
}

/* The first one that is not done counts; pending hides what comes after it. */
static int32_t combine_status(int32_t so_far, int32_t next)
{
	return so_far <= 0 ? so_far : next;
}

/* How many leaves, and their status; those that fit in @room are described. */
static uint32_t walk_leaves(struct dma_fence *fence,
			    struct mmn_sync_fence_info *infos, uint32_t room,
			    int32_t *ret_status)
{
	struct dma_fence_unwrap cursor;
	struct dma_fence *leaf;
	int32_t status = 1;
	uint32_t nr = 0;

	dma_fence_unwrap_for_each(leaf, &cursor, fence)
	{
		struct mmn_sync_fence_info info;

		describe_leaf(leaf, &info);
		status = combine_status(status, info.status);
		if (nr < room)
			infos[nr] = info;
		nr++;
	}
	*ret_status = status;
	return nr;
}

/* A walk takes out what has signalled: the second one never finds more. */
static int fill_fences(struct mmn_sync_file *file,
		       struct mmn_sync_file_info *info, int32_t *ret_status,
		       uint32_t *ret_nr)
{
	uint32_t nr = walk_leaves(file->fence, NULL, 0, ret_status);

	if (info->num_fences) {
		if (info->num_fences < nr || !info->fences)
			return -EINVAL;
		nr = walk_leaves(file->fence, info->fences, nr, ret_status);
	}
	*ret_nr = nr;
	return 0;
}

int mmn_sync_file_get_info(struct mmn_sync_file *file,
			   struct mmn_sync_file_info *info)
{
	int32_t status;
	uint32_t nr;
	int ret;

	if (!file || !info)
		return -EINVAL;
	ret = sync_check_size(info, sizeof(*info));
	if (ret)
		return ret;
	if (sync_ref_is_stale(&file->ref))
		return -ESTALE;
	ret = fill_fences(file, info, &status, &nr);
	if (ret)
		return ret;
	info->num_fences = nr;
	info->status = status;
	info->reserved = 0;
	mmn_rcu_read_lock();
	copy_name(file, info->name);
	mmn_rcu_read_unlock();
	return 0;
}
