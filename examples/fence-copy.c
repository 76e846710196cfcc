/* SPDX-License-Identifier: MIT */
/*
 * A device copies a buffer and signals a fence; its user waits for that, after
 * having done something else meanwhile.  The device does not know who waits.
 *
 * prints:
 *	submitted
 *	the copy is there: hello
 */
#include <mmn/dma-fence.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct copy {
	/* first: without a release op the library frees the whole block */
	struct dma_fence done;
	char from[16];
	char to[16];
};

static const char *driver_name(struct dma_fence *fence)
{
	(void)fence;
	return "example";
}

static const char *timeline_name(struct dma_fence *fence)
{
	(void)fence;
	return "copies";
}

static const struct dma_fence_ops ops = {
	.get_driver_name = driver_name,
	.get_timeline_name = timeline_name,
};

static void *device(void *arg)
{
	struct copy *copy = arg;

	memcpy(copy->to, copy->from, sizeof(copy->to));
	dma_fence_signal(&copy->done);
	dma_fence_put(&copy->done);
	return NULL;
}

int main(void)
{
	struct copy *copy = calloc(1, sizeof(*copy));
	pthread_t thread;
	long left;

	if (!copy)
		return 1;
	strcpy(copy->from, "hello");
	dma_fence_init(&copy->done, &ops, NULL, dma_fence_context_alloc(1), 1);
	/* The device has a reference of its own. */
	dma_fence_get(&copy->done);
	if (pthread_create(&thread, NULL, device, copy))
		return 1;
	puts("submitted");

	left = dma_fence_wait_timeout(&copy->done, false, 10000);
	if (left <= 0)
		return 1;
	printf("the copy is there: %s\n", copy->to);

	dma_fence_put(&copy->done);
	pthread_join(thread, NULL);
	return 0;
}
