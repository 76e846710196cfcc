/* SPDX-License-Identifier: MIT */
/*
 * A device writes a buffer and another one reads it: who may touch it when.
 *
 * prints:
 *	written: a reader waits, a writer waits
 *	read: a reader goes on, a writer waits
 *	idle: a reader goes on, a writer goes on
 */
#include <mmn/dma-resv.h>

#include <stdio.h>

static const char *name(struct dma_fence *fence)
{
	(void)fence;
	return "example";
}

/* These two live on the stack: nothing to release. */
static void release(struct dma_fence *fence)
{
	(void)fence;
}

static const struct dma_fence_ops ops = {
	.get_driver_name = name,
	.get_timeline_name = name,
	.release = release,
};

static int submit(struct dma_resv *buffer, struct dma_fence *fence,
		  enum dma_resv_usage usage)
{
	int ret = dma_resv_lock(buffer, NULL);

	if (ret)
		return ret;
	ret = dma_resv_reserve_fences(buffer, 1);
	if (!ret) {
		dma_fence_init(fence, &ops, NULL, dma_fence_context_alloc(1),
			       1);
		dma_resv_add_fence(buffer, fence, usage);
	}
	dma_resv_unlock(buffer);
	return ret;
}

static const char *may(struct dma_resv *buffer, bool write)
{
	bool idle = dma_resv_test_signaled(buffer, dma_resv_usage_rw(write));

	return idle ? "goes on" : "waits";
}

static void tell(const char *when, struct dma_resv *buffer)
{
	printf("%s: a reader %s, a writer %s\n", when, may(buffer, false),
	       may(buffer, true));
}

int main(void)
{
	struct dma_fence written, read;
	struct dma_resv buffer;

	dma_resv_init(&buffer);
	if (submit(&buffer, &written, DMA_RESV_USAGE_WRITE) ||
	    submit(&buffer, &read, DMA_RESV_USAGE_READ))
		return 1;
	tell("written", &buffer);
	dma_fence_signal(&written);
	tell("read", &buffer);
	dma_fence_signal(&read);
	tell("idle", &buffer);
	dma_resv_fini(&buffer);
	return 0;
}
