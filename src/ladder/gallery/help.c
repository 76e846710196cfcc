/* SPDX-License-Identifier: MIT */
#include "ladder/gallery/help.h"

#include <stdlib.h>

#include "base/context.h"

void number_thread(void)
{
	mmn_context_self();
}

const char *gallery_name(struct dma_fence *fence)
{
	(void)fence;
	return "gallery";
}

const struct dma_fence_ops gallery_ops = {
	.get_driver_name = gallery_name,
	.get_timeline_name = gallery_name,
};

struct dma_fence *make_fence(const struct dma_fence_ops *ops, uint64_t context,
			     uint64_t seqno)
{
	struct dma_fence *fence = malloc(sizeof(*fence));

	dma_fence_init(fence, ops, NULL, context, seqno);
	return fence;
}
