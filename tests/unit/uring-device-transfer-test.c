/* SPDX-License-Identifier: MIT */
/*
 * The io_uring device moves the right bytes, and says no to what it cannot do.
 */
#include "unit/uring-device.h"

TEST(read_and_write_move_the_bytes_of_the_map)
{
	struct mmn_device *device = new_device(NULL);
	unsigned char *memory = new_pages(2);
	struct mmn_device_map *map = hold_pages(device, memory, 2);
	unsigned char buffer[PAGE];
	size_t i;

	for (i = 0; i < 2 * PAGE; i++)
		memory[i] = (unsigned char)(i * 7 + i / 251);
	t_eq(device_reads(map, 100, buffer, PAGE), PAGE);
	t_memeq(buffer, memory + 100, PAGE);
	memset(buffer, 'w', PAGE);
	t_eq(device_writes(map, 4000, buffer, 200), 200);
	t_memeq(memory + 4000, buffer, 200);
	t_eq(memory[3999], (unsigned char)(3999 * 7 + 3999 / 251));
	t_eq(memory[4200], (unsigned char)(4200 * 7 + 4200 / 251));
	let_go(map);
	free_pages(memory, 2);
	mmn_device_destroy(device);
}
