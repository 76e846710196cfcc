/* SPDX-License-Identifier: MIT */
/*
 * An event loop waits until a buffer may be read.
 *
 * prints:
 *	being written
 *	free to be read
 */
#include <mmn/sync.h>
#include <poll.h>
#include <stdio.h>

/* A device begins to write; the fence says when it is done. */
static int begin_write(struct dma_resv *buffer, struct dma_fence *fence)
{
	int ret = dma_resv_lock(buffer, NULL);

	if (ret)
		return ret;
	ret = dma_resv_reserve_fences(buffer, 1);
	if (!ret)
		dma_resv_add_fence(buffer, fence, DMA_RESV_USAGE_WRITE);
	dma_resv_unlock(buffer);
	return ret;
}

int main(void)
{
	struct mmn_resv_poller *poller;
	struct mmn_sw_sync *device;
	struct pollfd pollfd = { .events = POLLIN };
	struct dma_fence *fence;
	struct dma_resv buffer;
	uint32_t access;

	dma_resv_init(&buffer);
	if (mmn_sw_sync_create("device", &device) ||
	    mmn_sw_sync_create_fence(device, 1, &fence) ||
	    begin_write(&buffer, fence) ||
	    mmn_resv_poller_create(&buffer, MMN_ACCESS_READ, &poller) ||
	    mmn_resv_poller_get_fd(poller, &pollfd.fd))
		return 1;

	while (!mmn_resv_poller_arm(poller, &access) && !access) {
		puts("being written");
		/* What the device would do in another thread. */
		mmn_sw_sync_inc(device, 1);
		poll(&pollfd, 1, -1);
	}
	puts("free to be read");

	mmn_resv_poller_destroy(poller);
	dma_fence_put(fence);
	mmn_sw_sync_destroy(device);
	dma_resv_fini(&buffer);
	return 0;
}
