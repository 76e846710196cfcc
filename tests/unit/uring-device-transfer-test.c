/* SPDX-License-Identifier: MIT */
/*
 * The io_uring device moves the right bytes, all of them, and says so once.
 */
#include "unit/uring-device.h"

static unsigned char pattern(size_t i)
{
	return (unsigned char)(i * 7 + i / 251);
}

static void fill(unsigned char *memory, size_t bytes)
{
	size_t i;

	for (i = 0; i < bytes; i++)
		memory[i] = pattern(i);
}

TEST(read_and_write_move_the_bytes_of_the_map)
{
	struct mmn_device *device = new_device(NULL);
	unsigned char *memory = new_pages(2);
	struct mmn_device_map *map = hold_pages(device, memory, 2);
	unsigned char buffer[PAGE];

	fill(memory, 2 * PAGE);
	t_eq(device_reads(map, 100, buffer, PAGE), PAGE);
	t_memeq(buffer, memory + 100, PAGE);
	memset(buffer, 'w', PAGE);
	t_eq(device_writes(map, 4000, buffer, 200), 200);
	t_memeq(memory + 4000, buffer, 200);
	t_eq(memory[3999], pattern(3999));
	t_eq(memory[4200], pattern(4200));
	let_go(map);
	free_pages(memory, 2);
	mmn_device_destroy(device);
}

TEST(a_transfer_longer_than_a_pipe_is_whole)
{
	struct mmn_device *device = new_device(NULL);
	const size_t nr = 300, bytes = nr * PAGE - 77;
	unsigned char *memory = new_pages(nr);
	unsigned char *buffer = new_pages(nr);
	struct mmn_device_map *map = hold_pages(device, memory, nr);

	fill(memory, nr * PAGE);
	t_eq(device_reads(map, 33, buffer, bytes), bytes);
	t_memeq(buffer, memory + 33, bytes);
	memset(memory, 0, nr * PAGE);
	t_eq(device_writes(map, 44, buffer, bytes), bytes);
	t_memeq(memory + 44, buffer, bytes);
	t_eq(memory[43], 0);
	t_eq(memory[44 + bytes], 0);
	let_go(map);
	free_pages(memory, nr);
	free_pages(buffer, nr);
	mmn_device_destroy(device);
}

TEST(the_queue_takes_as_many_as_configured_and_then_says_busy)
{
	struct mmn_uring_config config = { .size = sizeof(config),
					   .queue_depth = 5 };
	struct mmn_device *device = new_device(&config);
	unsigned char *memory = new_pages(1);
	struct mmn_device_map *map = hold_pages(device, memory, 1);
	unsigned char buffers[6][64];
	struct watched w[6];
	int i;

	fill(memory, PAGE);
	t_err(mmn_uring_device_hold(device), 0);
	for (i = 0; i < 5; i++)
		t_err(start(&w[i], map, MMN_DEVICE_READ, (size_t)i * 64,
			    buffers[i], 64),
		      0);
	t_err(start(&w[5], map, MMN_DEVICE_READ, 0, buffers[5], 64), -EBUSY);
	t_eq(mmn_device_poll(device), 0);
	t_eq(stats_of(device).nr_transfers, 5);
	for (i = 0; i < 5; i++)
		t_ok(!is_done(&w[i]));
	t_err(mmn_uring_device_release(device), 0);
	for (i = 0; i < 5; i++) {
		t_eq(result_of(&w[i]), 64);
		t_memeq(buffers[i], memory + i * 64, 64);
	}
	t_ok(!is_done(&w[5]));
	t_eq(device_reads(map, 0, buffers[5], 64), 64);
	t_eq(stats_of(device).transfers, 6);
	t_eq(stats_of(device).read_bytes, 6 * 64);
	let_go(map);
	free_pages(memory, 1);
	mmn_device_destroy(device);
}

TEST(held_transfers_of_both_directions_end_whole_after_release)
{
	struct mmn_device *device = new_device(NULL);
	unsigned char *memory = new_pages(64);
	unsigned char *in = new_pages(32), *out = new_pages(32);
	struct mmn_device_map *map = hold_pages(device, memory, 64);
	struct watched r, w;

	fill(memory, 32 * PAGE);
	memset(out, 'o', 32 * PAGE);
	t_err(mmn_uring_device_hold(device), 0);
	t_err(start(&r, map, MMN_DEVICE_READ, 0, in, 32 * PAGE), 0);
	t_err(start(&w, map, MMN_DEVICE_WRITE, 32 * PAGE, out, 32 * PAGE), 0);
	sleep_ms(20);
	t_ok(!is_done(&r) && !is_done(&w));
	t_eq(memory[32 * PAGE], 0);
	t_err(mmn_uring_device_release(device), 0);
	t_eq(result_of(&r), 32 * PAGE);
	t_eq(result_of(&w), 32 * PAGE);
	t_memeq(in, memory, 32 * PAGE);
	t_memeq(out, memory + 32 * PAGE, 32 * PAGE);
	let_go(map);
	free_pages(memory, 64);
	free_pages(in, 32);
	free_pages(out, 32);
	mmn_device_destroy(device);
}

TEST(a_bad_buffer_is_an_error_of_that_transfer_alone)
{
	struct mmn_device *device = new_device(NULL);
	unsigned char *memory = new_pages(2);
	unsigned char *gone = new_pages(1);
	struct mmn_device_map *map = hold_pages(device, memory, 2);
	unsigned char buffer[PAGE];
	struct watched w;
	int i;

	fill(memory, 2 * PAGE);
	free_pages(gone, 1);
	/* Twice the lanes: none may be left dirty or lost. */
	for (i = 0; i < 64; i++) {
		t_eq(device_reads(map, 0, gone, PAGE), -EFAULT);
		t_eq(device_writes(map, 0, gone, PAGE), -EFAULT);
		t_eq(device_reads(map, 50, buffer, PAGE), PAGE);
		t_memeq(buffer, memory + 50, PAGE);
	}
	t_err(mmn_uring_device_hold(device), 0);
	t_err(start(&w, map, MMN_DEVICE_WRITE, 0, gone, PAGE), 0);
	t_err(mmn_uring_device_release(device), 0);
	t_eq(result_of(&w), -EFAULT);
	t_eq(memory[1], pattern(1));
	t_eq(device_writes(map, 0, buffer, PAGE), PAGE);
	t_memeq(buffer, memory, PAGE);
	let_go(map);
	free_pages(memory, 2);
	mmn_device_destroy(device);
}

TEST(a_transfer_outside_the_map_or_against_its_access_is_refused)
{
	struct mmn_device *device = new_device(NULL);
	unsigned char *memory = new_pages(1);
	struct mmn_device_map *map;
	unsigned char buffer[64];

	t_err(mmn_device_map(device, (uintptr_t)memory,
			     (uintptr_t)memory + PAGE - 1, MMN_DEVICE_READ,
			     &map),
	      0);
	t_eq(device_reads(map, PAGE - 63, buffer, 64), -EINVAL);
	t_eq(device_reads(map, PAGE, buffer, 1), -EINVAL);
	t_eq(device_reads(map, 0, buffer, 0), -EINVAL);
	t_eq(device_writes(map, 0, buffer, 64), -EINVAL);
	t_eq(device_reads(map, PAGE - 64, buffer, 64), 64);
	let_go(map);
	free_pages(memory, 1);
	mmn_device_destroy(device);
}

struct chain {
	struct watched w;
	int left;
	int error;
};

static void again(struct mmn_device_transfer *transfer)
{
	struct chain *chain = (struct chain *)(void *)transfer;
	int ret;

	if (transfer->result != (int64_t)transfer->length)
		chain->error = (int)transfer->result;
	if (chain->error || !chain->left--) {
		note_done(transfer);
		return;
	}
	ret = mmn_device_submit(transfer);
	if (ret) {
		chain->error = ret;
		note_done(transfer);
	}
}

TEST(a_done_function_may_submit_again)
{
	struct mmn_uring_config config = { .size = sizeof(config),
					   .queue_depth = 1 };
	struct mmn_device *device = new_device(&config);
	unsigned char *memory = new_pages(1);
	struct mmn_device_map *map = hold_pages(device, memory, 1);
	unsigned char buffer[64];
	struct chain chain = { .left = 1000 };

	chain.w.transfer = (struct mmn_device_transfer){
		.map = map,
		.length = 64,
		.access = MMN_DEVICE_READ,
		.buffer = buffer,
		.done = again,
	};
	t_err(mmn_device_submit(&chain.w.transfer), 0);
	t_eq(result_of(&chain.w), 64);
	t_eq(chain.error, 0);
	t_eq(chain.left, -1);
	let_go(map);
	t_eq(stats_of(device).transfers, 1001);
	free_pages(memory, 1);
	mmn_device_destroy(device);
}

struct bold {
	struct watched w;
	int map_error;
	int hold_error;
	int release_error;
};

static void ask_for_more(struct mmn_device_transfer *transfer)
{
	struct bold *bold = (struct bold *)(void *)transfer;
	struct mmn_device *device = transfer->map->device;
	struct mmn_device_map *map;

	bold->map_error =
		mmn_device_map(device, transfer->map->start,
			       transfer->map->last, MMN_DEVICE_READ, &map);
	bold->hold_error = mmn_uring_device_hold(device);
	bold->release_error = mmn_uring_device_release(device);
	note_done(transfer);
}

TEST(what_would_wait_for_the_service_thread_is_refused_in_it)
{
	struct mmn_device *device = new_device(NULL);
	unsigned char *memory = new_pages(1);
	struct mmn_device_map *map = hold_pages(device, memory, 1);
	unsigned char buffer[64];
	struct bold bold = { .map_error = 0 };

	bold.w.transfer = (struct mmn_device_transfer){
		.map = map,
		.length = 64,
		.access = MMN_DEVICE_READ,
		.buffer = buffer,
		.done = ask_for_more,
	};
	t_err(mmn_device_submit(&bold.w.transfer), 0);
	t_eq(result_of(&bold.w), 64);
	t_eq(bold.map_error, -EDEADLK);
	t_eq(bold.hold_error, -EDEADLK);
	t_eq(bold.release_error, -EDEADLK);
	let_go(map);
	free_pages(memory, 1);
	mmn_device_destroy(device);
}

TEST(an_end_of_the_device_waits_for_what_is_under_way)
{
	struct mmn_device *device = new_device(NULL);
	unsigned char *memory = new_pages(32);
	unsigned char *buffer = new_pages(32);
	struct mmn_device_map *map = hold_pages(device, memory, 32);
	struct watched w;

	fill(memory, 32 * PAGE);
	t_err(mmn_uring_device_hold(device), 0);
	t_err(start(&w, map, MMN_DEVICE_READ, 0, buffer, 32 * PAGE), 0);
	mmn_device_unmap_begin(map);
	mmn_device_destroy(device);
	t_ok(is_done(&w));
	t_gt(w.transfer.result, 0);
	t_memeq(buffer, memory, (size_t)w.transfer.result);
	t_eq(status_kb("VmPin:"), 0);
	free_pages(memory, 32);
	free_pages(buffer, 32);
}
