/* SPDX-License-Identifier: MIT */
/*
 * The calls that every kind of device shares: checks of what the caller gave,
 * so that each device may rely on them, and the way to its ops.
 */
#include <errno.h>

#include <mmn/device.h>
#include <mmn/mirror.h>

#define ACCESS_ALL (MMN_DEVICE_READ | MMN_DEVICE_WRITE)

int mmn_device_map(struct mmn_device *device, uintptr_t start, uintptr_t last,
		   uint32_t access, struct mmn_device_map **ret_map)
{
	uintptr_t in_page = mmn_page_size() - 1;

	if (!device || !ret_map)
		return -EINVAL;
	if ((start & in_page) || (last & in_page) != in_page || last < start)
		return -EINVAL;
	if (!access || (access & ~ACCESS_ALL))
		return -EINVAL;
	return device->ops->map(device, start, last, access, ret_map);
}

void mmn_device_unmap_begin(struct mmn_device_map *map)
{
	map->device->ops->unmap_begin(map);
}

void mmn_device_unmap_finish(struct mmn_device_map *map)
{
	map->device->ops->unmap_finish(map);
}

int mmn_device_submit(struct mmn_device_transfer *transfer)
{
	const struct mmn_device_map *map;
	size_t bytes;

	if (!transfer || !transfer->map || !transfer->buffer || !transfer->done)
		return -EINVAL;
	map = transfer->map;
	/* One direction at a time, and one that the map was made for. */
	if (transfer->access != MMN_DEVICE_READ &&
	    transfer->access != MMN_DEVICE_WRITE)
		return -EINVAL;
	if (!(map->access & transfer->access))
		return -EINVAL;
	/* One less than its size: a map of everything has 2^64 bytes. */
	bytes = map->last - map->start;
	if (!transfer->length || transfer->offset > bytes ||
	    transfer->length - 1 > bytes - transfer->offset)
		return -EINVAL;
	return map->device->ops->submit(transfer);
}

int mmn_device_poll(struct mmn_device *device)
{
	if (!device->ops->poll)
		return 0;
	return device->ops->poll(device);
}

void mmn_device_destroy(struct mmn_device *device)
{
	if (device)
		device->ops->destroy(device);
}
