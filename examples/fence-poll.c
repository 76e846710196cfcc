/* SPDX-License-Identifier: MIT */
/*
 * An event loop waits for a fence as it does for a socket.
 *
 * prints:
 *	not readable
 *	readable
 */
#include <mmn/sync.h>
#include <poll.h>
#include <stdio.h>

static void tell(int fd)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };

	puts(poll(&pollfd, 1, 0) == 1 ? "readable" : "not readable");
}

int main(void)
{
	struct mmn_sw_sync *device;
	struct mmn_sync_file *file;
	struct dma_fence *fence;
	int fd;

	/* In place of a device: its fence signals at step 1. */
	if (mmn_sw_sync_create("device", &device) ||
	    mmn_sw_sync_create_fence(device, 1, &fence) ||
	    mmn_sync_file_create(fence, NULL, &file) ||
	    mmn_sync_file_get_fd(file, &fd))
		return 1;

	tell(fd);
	mmn_sw_sync_inc(device, 1);
	tell(fd);

	/* The descriptor belongs to the file, and goes with it. */
	mmn_sync_file_put(file);
	dma_fence_put(fence);
	mmn_sw_sync_destroy(device);
	return 0;
}
