/* SPDX-License-Identifier: MIT */
/*
 * A map of the io_uring device is a hold on pages: it outlives the mapping, and
 * is given up when the kernel says that nobody uses the pages any more.
 */
#include "unit/uring-device.h"

#include <linux/io_uring.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

/* Replace the page at @memory by another that holds @with. */
static void change_page(unsigned char *memory, int with)
{
	/* In one step, or another thread's mapping could come in between. */
	new_pages_at(memory, 1);
	memset(memory, with, PAGE);
}

TEST(without_unmap_the_device_works_on_the_lost_page)
{
	struct mmn_device *device = new_device(NULL);
	unsigned char *memory = new_pages(1);
	struct mmn_device_map *map = hold_pages(device, memory, 1);
	unsigned char seen;

	memset(memory, 'A', PAGE);
	change_page(memory, 'N');
	t_eq(device_reads(map, 0, &seen, 1), 1);
	t_eq(seen, 'A');
	t_eq(device_writes(map, 0, "D", 1), 1);
	t_eq(memory[0], 'N');
	t_eq(device_reads(map, 0, &seen, 1), 1);
	t_eq(seen, 'D');
	let_go(map);
	free_pages(memory, 1);
	mmn_device_destroy(device);
}

TEST(with_unmap_before_the_change_a_new_map_sees_the_new_page)
{
	struct mmn_device *device = new_device(NULL);
	unsigned char *memory = new_pages(1);
	struct mmn_device_map *map = hold_pages(device, memory, 1);
	unsigned char seen;

	memset(memory, 'A', PAGE);
	let_go(map);
	change_page(memory, 'N');
	map = hold_pages(device, memory, 1);
	t_eq(device_reads(map, 0, &seen, 1), 1);
	t_eq(seen, 'N');
	t_eq(device_writes(map, 0, "D", 1), 1);
	t_eq(memory[0], 'D');
	let_go(map);
	free_pages(memory, 1);
	mmn_device_destroy(device);
}

TEST(pages_stay_pinned_until_unmap_finish)
{
	struct mmn_device *device = new_device(NULL);
	void *memory = new_pages(256);
	struct mmn_device_map *map = hold_pages(device, memory, 256);

	t_eq(status_kb("VmPin:"), 1024);
	t_eq(stats_of(device).pinned, 256 * PAGE);
	free_pages(memory, 256);
	t_eq(status_kb("VmPin:"), 1024);
	let_go(map);
	t_eq(status_kb("VmPin:"), 0);
	t_eq(stats_of(device).pinned, 0);
	t_eq(stats_of(device).nr_maps, 0);
	mmn_device_destroy(device);
}

struct finisher {
	pthread_t thread;
	struct mmn_device_map *map;
	int finished;
};

static void *finish(void *arg)
{
	struct finisher *f = arg;

	mmn_device_unmap_finish(f->map);
	__atomic_store_n(&f->finished, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void begin_to_finish(struct finisher *f, struct mmn_device_map *map)
{
	*f = (struct finisher){ .map = map };
	t_eq(pthread_create(&f->thread, NULL, finish, f), 0);
}

static bool has_finished(struct finisher *f)
{
	return __atomic_load_n(&f->finished, __ATOMIC_ACQUIRE);
}

static void cross_a_change(uint32_t access)
{
	struct mmn_device *device = new_device(NULL);
	unsigned char *memory = new_pages(1);
	struct mmn_device_map *map = hold_pages(device, memory, 1);
	unsigned char buffer[16];
	struct finisher finisher;
	struct watched w;

	memset(memory, 'A', PAGE);
	memset(buffer, 'D', sizeof(buffer));
	t_err(mmn_uring_device_hold(device), 0);
	t_err(start(&w, map, access, 0, buffer, sizeof(buffer)), 0);
	mmn_device_unmap_begin(map);
	begin_to_finish(&finisher, map);
	change_page(memory, 'N');
	sleep_ms(50);
	t_ok(!is_done(&w));
	t_ok(!has_finished(&finisher));
	t_eq(status_kb("VmPin:"), 4);

	t_err(mmn_uring_device_release(device), 0);
	t_eq(pthread_join(finisher.thread, NULL), 0);
	t_ok(is_done(&w));
	t_eq(w.transfer.result, sizeof(buffer));
	t_eq(status_kb("VmPin:"), 0);
	/* It was the old page that was read, or written. */
	t_eq(buffer[0], access == MMN_DEVICE_READ ? 'A' : 'D');
	t_eq(memory[0], 'N');
	t_eq(memory[PAGE - 1], 'N');
	t_ge(stats_of(device).fence_ns_max, 1);
	free_pages(memory, 1);
	mmn_device_destroy(device);
}

TEST(a_read_under_way_withholds_the_fence_and_sees_the_old_page)
{
	cross_a_change(MMN_DEVICE_READ);
}

TEST(a_write_under_way_withholds_the_fence_and_misses_the_new_page)
{
	cross_a_change(MMN_DEVICE_WRITE);
}

TEST(no_transfer_is_taken_after_unmap_begin)
{
	struct mmn_device *device = new_device(NULL);
	unsigned char *memory = new_pages(1);
	struct mmn_device_map *map = hold_pages(device, memory, 1);
	struct watched held;
	char byte, other;

	t_err(mmn_uring_device_hold(device), 0);
	t_err(start(&held, map, MMN_DEVICE_READ, 0, &byte, 1), 0);
	mmn_device_unmap_begin(map);
	t_eq(device_reads(map, 0, &other, 1), -ESTALE);
	t_eq(device_writes(map, 0, &other, 1), -ESTALE);
	t_err(mmn_uring_device_release(device), 0);
	mmn_device_unmap_finish(map);
	t_eq(result_of(&held), 1);
	t_eq(stats_of(device).transfers, 1);
	free_pages(memory, 1);
	mmn_device_destroy(device);
}

TEST(a_fence_waits_for_the_transfers_of_its_own_map_only)
{
	struct mmn_device *device = new_device(NULL);
	unsigned char *memory = new_pages(2);
	struct mmn_device_map *busy = hold_pages(device, memory, 1);
	struct mmn_device_map *idle = hold_pages(device, memory + PAGE, 1);
	struct watched held;
	struct utsname name;
	int major = 0, minor = 0;
	char byte;

	t_eq(uname(&name), 0);
	sscanf(name.release, "%d.%d", &major, &minor);
	if (major < 6 || (major == 6 && minor < 13))
		t_skip("before Linux 6.13 tags come in the order of clearing");
	t_err(mmn_uring_device_hold(device), 0);
	t_err(start(&held, busy, MMN_DEVICE_READ, 0, &byte, 1), 0);
	let_go(idle);
	t_ok(!is_done(&held));
	/* The device is of use to others meanwhile. */
	let_go(hold_pages(device, memory + PAGE, 1));
	t_err(mmn_uring_device_release(device), 0);
	let_go(busy);
	t_eq(result_of(&held), 1);
	free_pages(memory, 2);
	mmn_device_destroy(device);
}

TEST(requests_are_served_beside_a_held_transfer_on_older_kernels_too)
{
	struct mmn_device *device;
	unsigned char *memory = new_pages(2);
	struct mmn_device_map *busy, *other;
	struct watched held;
	int i;
	char byte;

	mmn_device_destroy(new_device(NULL));
	/* What the ring can wait for cannot be asked: as before Linux 6.7. */
	answer_syscall_if(SYS_io_uring_register, 1, IORING_REGISTER_PROBE,
			  EINVAL);
	device = new_device(NULL);
	busy = hold_pages(device, memory, 1);
	t_err(mmn_uring_device_hold(device), 0);
	t_err(start(&held, busy, MMN_DEVICE_READ, 0, &byte, 1), 0);
	for (i = 0; i < 20; i++) {
		other = hold_pages(device, memory + PAGE, 1);
		sleep_ms(1);
		mmn_device_unmap_begin(other);
		mmn_device_unmap_finish(other);
	}
	t_ok(!is_done(&held));
	mmn_device_unmap_begin(busy);
	t_err(mmn_uring_device_release(device), 0);
	mmn_device_unmap_finish(busy);
	t_eq(result_of(&held), 1);
	free_pages(memory, 2);
	mmn_device_destroy(device);
}

TEST(a_long_transfer_ends_short_when_its_map_is_taken_away)
{
	struct mmn_device *device = new_device(NULL);
	unsigned char *memory = new_pages(512);
	unsigned char *buffer = new_pages(512);
	struct mmn_device_map *map = hold_pages(device, memory, 512);
	struct watched w;

	memset(memory, 'A', 512 * PAGE);
	t_err(mmn_uring_device_hold(device), 0);
	t_err(start(&w, map, MMN_DEVICE_READ, 0, buffer, 512 * PAGE), 0);
	mmn_device_unmap_begin(map);
	t_err(mmn_uring_device_release(device), 0);
	mmn_device_unmap_finish(map);
	t_ok(is_done(&w));
	t_gt(w.transfer.result, 0);
	t_lt(w.transfer.result, 512 * PAGE);
	t_memeq(buffer, memory, (size_t)w.transfer.result);
	t_eq(buffer[w.transfer.result], 0);
	free_pages(memory, 512);
	free_pages(buffer, 512);
	mmn_device_destroy(device);
}

TEST(unmap_begin_of_many_maps_then_finish_of_all)
{
	struct mmn_device *device = new_device(NULL);
	enum { NR = 300 };
	unsigned char *memory = new_pages(NR);
	struct mmn_device_map *maps[NR];
	int i;

	for (i = 0; i < NR; i++)
		maps[i] = hold_pages(device, memory + i * PAGE, 1);
	t_eq(stats_of(device).nr_maps, NR);
	for (i = 0; i < NR; i++)
		mmn_device_unmap_begin(maps[i]);
	for (i = NR - 1; i >= 0; i--)
		mmn_device_unmap_finish(maps[i]);
	t_eq(stats_of(device).nr_maps, 0);
	t_eq(stats_of(device).unmaps, NR);
	t_eq(status_kb("VmPin:"), 0);
	free_pages(memory, NR);
	mmn_device_destroy(device);
}
