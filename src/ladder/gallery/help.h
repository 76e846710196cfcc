/* SPDX-License-Identifier: MIT */
#ifndef MMN_LADDER_GALLERY_HELP_H
#define MMN_LADDER_GALLERY_HELP_H
/* What scenarios have in common. */
#include <mmn/dma-fence.h>

/* What a page table says, or a device holds. */
enum { NONE = 0, OLD = 1, NEW = 2 };

/* For .each: threads that are asked who they are have been asked before. */
void number_thread(void);

/* Fences of nobody in particular. */
const char *gallery_name(struct dma_fence *fence);
extern const struct dma_fence_ops gallery_ops;

/* A pending one, in memory that it gives back after a grace period. */
struct dma_fence *make_fence(const struct dma_fence_ops *ops, uint64_t context,
			     uint64_t seqno);

#endif
