/* SPDX-License-Identifier: MIT */
/*
 * One thread waits for point 2 of a timeline before anybody has submitted the
 * work; another one submits it.
 *
 * prints:
 *	point 2 has signalled
 */
#include <mmn/sync.h>
#include <pthread.h>
#include <stdio.h>

static void *submit(void *arg)
{
	struct mmn_syncobj *object = arg;
	struct mmn_sw_sync *device;
	struct dma_fence *fence;
	uint32_t i;

	if (mmn_sw_sync_create("device", &device))
		return NULL;
	for (i = 1; i <= 2; i++) {
		if (mmn_sw_sync_create_fence(device, i, &fence))
			return NULL;
		mmn_syncobj_add_point(object, i, fence);
		dma_fence_put(fence);
	}
	mmn_sw_sync_inc(device, 2);
	mmn_sw_sync_destroy(device);
	return NULL;
}

int main(void)
{
	struct mmn_syncobj *object;
	uint64_t point = 2;
	struct mmn_syncobj_wait wait = {
		.size = sizeof(wait),
		.flags = MMN_SYNCOBJ_WAIT_FOR_SUBMIT,
		.objects = &object,
		.points = &point,
		.count = 1,
		.deadline = DMA_FENCE_NEVER,
	};
	pthread_t thread;

	if (mmn_syncobj_create(0, &object) ||
	    pthread_create(&thread, NULL, submit, object))
		return 1;
	if (!mmn_syncobj_wait(&wait))
		puts("point 2 has signalled");
	pthread_join(thread, NULL);
	mmn_syncobj_put(object);
	return 0;
}
