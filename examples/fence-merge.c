/* SPDX-License-Identifier: MIT */
/*
 * Two devices work on one buffer; it may be used when both have finished.
 *
 * prints:
 *	one of two: pending
 *	two of two: done
 */
#include <mmn/dma-fence-unwrap.h>

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

static void tell(const char *when, struct dma_fence *fence)
{
	printf("%s: %s\n", when,
	       dma_fence_is_signaled(fence) ? "done" : "pending");
}

int main(void)
{
	struct dma_fence one, two, *both;
	uint64_t context = dma_fence_context_alloc(2);

	dma_fence_init(&one, &ops, NULL, context, 1);
	dma_fence_init(&two, &ops, NULL, context + 1, 1);
	both = dma_fence_unwrap_merge(&one, &two);
	if (!both)
		return 1;

	dma_fence_signal(&one);
	tell("one of two", both);
	dma_fence_signal(&two);
	tell("two of two", both);

	dma_fence_put(both);
	dma_fence_put(&one);
	dma_fence_put(&two);
	return 0;
}
