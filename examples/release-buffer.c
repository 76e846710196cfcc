/* SPDX-License-Identifier: MIT */
/*
 * Buffers of a job share one reservation object.  One of them is destroyed while
 * the device still uses it: the destroyer goes on at once, the memory goes when the
 * device is done.
 *
 * prints:
 *	destroyed
 *	the device is done
 *	the memory is free
 */
#include <mmn/reaper.h>

#include <stdio.h>
#include <stdlib.h>

struct buffer {
	struct mmn_reaper_entry entry;
	struct dma_resv own;
	char memory[100];
};

static const char *name(struct dma_fence *fence)
{
	(void)fence;
	return "example";
}

static const struct dma_fence_ops ops = { .get_driver_name = name,
					  .get_timeline_name = name };

static void free_buffer(struct mmn_reaper_entry *entry)
{
	/* the entry is the first member */
	struct buffer *buffer = (struct buffer *)entry;

	dma_resv_fini(&buffer->own);
	free(buffer);
	puts("the memory is free");
}

int main(void)
{
	struct buffer *buffer = calloc(1, sizeof(*buffer));
	struct dma_fence *job = calloc(1, sizeof(*job));
	struct mmn_reaper *reaper;
	struct dma_resv shared;

	if (!buffer || !job || mmn_reaper_create(&reaper))
		return 1;
	dma_resv_init(&shared);
	dma_resv_init(&buffer->own);
	dma_fence_init(job, &ops, NULL, dma_fence_context_alloc(1), 1);

	/* The device gets a job that uses the buffers. */
	if (dma_resv_lock(&shared, NULL) || dma_resv_reserve_fences(&shared, 1))
		return 1;
	dma_resv_add_fence(&shared, job, DMA_RESV_USAGE_WRITE);

	/* The lock is held, and the buffer goes nevertheless. */
	mmn_reaper_add(reaper, &buffer->entry, &buffer->own, &shared,
		       free_buffer);
	puts("destroyed");
	dma_resv_unlock(&shared);

	puts("the device is done");
	dma_fence_signal(job);
	dma_fence_put(job);
	if (mmn_reaper_flush(reaper, DMA_FENCE_NEVER))
		return 1;
	mmn_reaper_destroy(reaper);
	dma_resv_fini(&shared);
	return 0;
}
