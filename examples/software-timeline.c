/* SPDX-License-Identifier: MIT */
/*
 * A thread that makes frames tells how far it is.
 *
 * prints:
 *	frame 1: done, frame 3: pending
 *	frame 1: done, frame 3: done
 */
#include <mmn/sync.h>
#include <stdio.h>

static const char *state(struct dma_fence *fence)
{
	return dma_fence_is_signaled(fence) ? "done" : "pending";
}

int main(void)
{
	struct dma_fence *first, *third;
	struct mmn_sw_sync *frames;

	if (mmn_sw_sync_create("frames", &frames) ||
	    mmn_sw_sync_create_fence(frames, 1, &first) ||
	    mmn_sw_sync_create_fence(frames, 3, &third))
		return 1;

	mmn_sw_sync_inc(frames, 1);
	printf("frame 1: %s, frame 3: %s\n", state(first), state(third));
	mmn_sw_sync_inc(frames, 2);
	printf("frame 1: %s, frame 3: %s\n", state(first), state(third));

	dma_fence_put(first);
	dma_fence_put(third);
	mmn_sw_sync_destroy(frames);
	return 0;
}
