/* SPDX-License-Identifier: MIT */
/* Fences of reservation objects as sync files, and back. */
#include <mmn/dma-fence-unwrap.h>

#include "sync/sync.h"

static bool is_access(uint32_t access)
{
	return access && !(access & ~(MMN_ACCESS_READ | MMN_ACCESS_WRITE));
}

int mmn_resv_export_file(struct dma_resv *resv, uint32_t access,
			 struct mmn_sync_file **ret_file)
{
	struct dma_fence *fence;
	int ret;

	if (!resv || !is_access(access) || !ret_file)
		return -EINVAL;
	ret = dma_resv_get_singleton(
		resv, dma_resv_usage_rw(access & MMN_ACCESS_WRITE), &fence);
	if (ret)
		return ret;
	if (!fence)
		fence = dma_fence_get_stub();
	ret = mmn_sync_file_create(fence, NULL, ret_file);
	dma_fence_put(fence);
	return ret;
}

static unsigned int count_leaves(struct dma_fence *fence)
{
	struct dma_fence_unwrap cursor;
	struct dma_fence *leaf;
	unsigned int nr = 0;

	dma_fence_unwrap_for_each(leaf, &cursor, fence) nr++;
	return nr;
}

/* Counted before, there are at most as many now. */
static void add_leaves(struct dma_resv *resv, struct dma_fence *fence,
		       enum dma_resv_usage usage)
{
	struct dma_fence_unwrap cursor;
	struct dma_fence *leaf;

	dma_fence_unwrap_for_each(leaf, &cursor, fence)
		dma_resv_add_fence(resv, leaf, usage);
}

static int add_fence(struct dma_resv *resv, struct dma_fence *fence,
		     enum dma_resv_usage usage)
{
	unsigned int nr = count_leaves(fence);
	int ret;

	if (dma_resv_held(resv))
		return -EBUSY;
	ret = dma_resv_lock(resv, NULL);
	if (ret)
		return ret;
	ret = dma_resv_reserve_fences(resv, nr);
	if (!ret)
		add_leaves(resv, fence, usage);
	dma_resv_unlock(resv);
	return ret;
}

int mmn_resv_import_file(struct dma_resv *resv, uint32_t access,
			 struct mmn_sync_file *file)
{
	enum dma_resv_usage usage = access & MMN_ACCESS_WRITE
					    ? DMA_RESV_USAGE_WRITE
					    : DMA_RESV_USAGE_READ;
	struct dma_fence *fence;
	int ret;

	if (!resv || !is_access(access) || !file)
		return -EINVAL;
	fence = mmn_sync_file_get_fence(file);
	if (!fence)
		return -ESTALE;
	ret = add_fence(resv, fence, usage);
	dma_fence_put(fence);
	return ret;
}
