/* SPDX-License-Identifier: MIT */
/*
 * What the io_uring device takes hold of, what it refuses, and with which error.
 */
#include "unit/uring-device.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>

static int create(const struct mmn_uring_config *config)
{
	struct mmn_device *device;
	int ret = mmn_uring_device_create(config, &device);

	if (!ret)
		mmn_device_destroy(device);
	return ret;
}

static struct mmn_uring_config sized_config(void)
{
	return (struct mmn_uring_config){ .size = sizeof(
						  struct mmn_uring_config) };
}

TEST(the_configuration_is_checked)
{
	struct {
		struct mmn_uring_config config;
		uint64_t of_a_newer_version;
	} big = { .of_a_newer_version = 0 };
	struct mmn_uring_config config;

	mmn_device_destroy(new_device(NULL));
	t_err(mmn_uring_device_create(NULL, NULL), -EINVAL);
	config = sized_config();
	t_err(create(&config), 0);
	config.size -= 8;
	t_err(create(&config), -EINVAL);
	config.size = 0;
	t_err(create(&config), -EINVAL);
	config = sized_config();
	config.flags = 1u << 31;
	t_err(create(&config), -EINVAL);
	config = sized_config();
	config.nr_maps = MMN_URING_MAX_MAPS + 1;
	t_err(create(&config), -EINVAL);
	config = sized_config();
	config.queue_depth = MMN_URING_MAX_DEPTH + 1;
	t_err(create(&config), -EINVAL);

	big.config.size = sizeof(big);
	t_err(create(&big.config), 0);
	big.of_a_newer_version = 1;
	t_err(create(&big.config), -E2BIG);
}

TEST(the_largest_device_works)
{
	struct mmn_uring_config config = sized_config();
	struct mmn_device *device;
	void *memory = new_pages(1);

	config.nr_maps = MMN_URING_MAX_MAPS;
	config.queue_depth = MMN_URING_MAX_DEPTH;
	device = new_device(&config);
	let_go(hold_pages(device, memory, 1));
	free_pages(memory, 1);
	mmn_device_destroy(device);
}

TEST(statistics_fill_what_the_caller_has_room_for)
{
	struct mmn_device *device = new_device(NULL);
	struct mmn_device other = { 0 };
	struct mmn_uring_stats stats;

	memset(&stats, 0x55, sizeof(stats));
	stats.size = 8;
	t_err(mmn_uring_device_stats(device, &stats), 0);
	t_eq(stats.size, 8);
	t_eq(stats.private_files, 1);
	t_eq(stats.nr_maps, 0x55555555);
	stats.size = 7;
	t_err(mmn_uring_device_stats(device, &stats), -EINVAL);
	t_err(mmn_uring_device_stats(device, NULL), -EINVAL);
	t_err(mmn_uring_device_stats(NULL, &stats), -EINVAL);
	t_err(mmn_uring_device_stats(&other, &stats), -EINVAL);
	t_err(mmn_uring_device_hold(&other), -EINVAL);
	t_err(mmn_uring_device_hold(NULL), -EINVAL);
	t_err(mmn_uring_device_release(&other), -EINVAL);
	mmn_device_destroy(device);
}

TEST(memory_that_is_not_there_or_not_writable_is_a_fault)
{
	struct mmn_device *device = new_device(NULL);
	struct mmn_device_map *map = NULL;
	unsigned char *memory = new_pages(4);

	free_pages(memory + 2 * PAGE, 1);
	t_err(try_to_hold(device, memory, 3, &map), -EFAULT);
	t_eq(mprotect(memory, PAGE, PROT_READ), 0);
	t_err(try_to_hold(device, memory, 1, &map), -EFAULT);
	t_eq(mprotect(memory, PAGE, PROT_NONE), 0);
	t_err(try_to_hold(device, memory, 1, &map), -EFAULT);
	/* The kernel's half of the address space. */
	t_err(try_to_hold(device, (void *)0xffff800000000000, 1, &map),
	      -EFAULT);
	t_err(mmn_device_map(device, (uintptr_t)memory, (uintptr_t)memory,
			     MMN_DEVICE_READ, &map),
	      -EINVAL);
	t_ok(map == NULL);
	t_eq(status_kb("VmPin:"), 0);
	let_go(hold_pages(device, memory + PAGE, 1));
	free_pages(memory, 4);
	mmn_device_destroy(device);
}

TEST(a_file_in_memory_can_be_held_and_one_on_a_disk_not)
{
	struct mmn_device *device = new_device(NULL);
	struct mmn_device_map *map;
	char path[] = "mmn-uring-device-XXXXXX";
	int memory_fd = memfd_create("held", MFD_CLOEXEC);
	int disk_fd = mkostemp(path, O_CLOEXEC);
	struct statfs fs;
	void *at;

	t_ge(memory_fd, 0);
	t_eq(ftruncate(memory_fd, (off_t)PAGE), 0);
	at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0);
	t_ne(at, MAP_FAILED);
	let_go(hold_pages(device, at, 1));
	free_pages(at, 1);
	close(memory_fd);

	t_ge(disk_fd, 0);
	t_eq(unlink(path), 0);
	t_eq(ftruncate(disk_fd, (off_t)PAGE), 0);
	t_eq(fstatfs(disk_fd, &fs), 0);
	at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, disk_fd, 0);
	t_ne(at, MAP_FAILED);
	close(disk_fd);
	if (fs.f_type == 0x01021994 /* tmpfs */)
		t_note("the working directory is in memory");
	else
		t_err(try_to_hold(device, at, 1, &map), -EFAULT);
	free_pages(at, 1);
	mmn_device_destroy(device);
}

TEST(a_full_table_refuses_and_takes_again_after_an_unmap)
{
	struct mmn_uring_config config = sized_config();
	struct mmn_device_map *maps[4], *map;
	struct mmn_device *device;
	void *memory = new_pages(1);
	int round, i;

	config.nr_maps = 4;
	device = new_device(&config);
	for (round = 0; round < 3; round++) {
		for (i = 0; i < 4; i++)
			maps[i] = hold_pages(device, memory, 1);
		t_err(try_to_hold(device, memory, 1, &map), -ENOSPC);
		mmn_device_unmap_begin(maps[0]);
		t_err(try_to_hold(device, memory, 1, &map), -ENOSPC);
		mmn_device_unmap_finish(maps[0]);
		maps[0] = hold_pages(device, memory, 1);
		for (i = 0; i < 4; i++)
			let_go(maps[i]);
	}
	t_eq(stats_of(device).maps, 15);
	free_pages(memory, 1);
	mmn_device_destroy(device);
}

TEST(more_than_the_kernel_takes_in_one_map_is_refused)
{
	struct mmn_device *device = new_device(NULL);
	struct mmn_device_map *map;

	t_err(mmn_device_map(device, PAGE,
			     PAGE + MMN_URING_MAX_MAP_BYTES + PAGE - 1,
			     MMN_DEVICE_READ, &map),
	      -ENOSPC);
	mmn_device_destroy(device);
}

TEST(the_budget_of_the_configuration_is_kept)
{
	struct mmn_uring_config config = sized_config();
	struct mmn_device_map *a, *b;
	struct mmn_device *device;
	char *memory = new_pages(9);

	config.max_pinned = 8 * PAGE;
	device = new_device(&config);
	t_err(try_to_hold(device, memory, 9, &a), -EDQUOT);
	a = hold_pages(device, memory, 5);
	t_err(try_to_hold(device, memory + 5 * PAGE, 4, &b), -EDQUOT);
	b = hold_pages(device, memory + 5 * PAGE, 3);
	let_go(a);
	a = hold_pages(device, memory, 5);
	let_go(a);
	let_go(b);
	free_pages(memory, 9);
	mmn_device_destroy(device);
}

static void become_nobody(void)
{
	if (getuid())
		return;
	t_eq(setgroups(0, NULL), 0);
	t_eq(setresgid(65534, 65534, 65534), 0);
	t_eq(setresuid(65534, 65534, 65534), 0);
}

/* Its ring is small, for newer kernels charge that too. */
static struct mmn_uring_config small_config(void)
{
	struct mmn_uring_config config = sized_config();

	config.nr_maps = 8;
	config.queue_depth = 2;
	return config;
}

static bool page_is_present(void *page)
{
	unsigned char present;

	t_eq(mincore(page, PAGE, &present), 0);
	return present & 1;
}

static void limit(int what, rlim_t value)
{
	struct rlimit l;

	/* The soft one: it can be raised again. */
	t_eq(getrlimit((__rlimit_resource_t)what, &l), 0);
	l.rlim_cur = value < l.rlim_max ? value : l.rlim_max;
	t_eq(setrlimit((__rlimit_resource_t)what, &l), 0);
}

TEST(memlock_is_respected_without_privilege)
{
	struct mmn_uring_config config = small_config();
	struct mmn_device *device;
	struct mmn_device_map *map, *other;
	char *memory = new_pages(200);

	become_nobody();
	limit(RLIMIT_MEMLOCK, 100 * PAGE);
	device = new_device(&config);
	t_err(try_to_hold(device, memory, 101, &map), -EDQUOT);
	/* Not even touched. */
	t_eq(page_is_present(memory), false);
	map = hold_pages(device, memory, 60);
	t_err(try_to_hold(device, memory + 60 * PAGE, 60, &other), -EDQUOT);
	let_go(map);
	map = hold_pages(device, memory, 80);
	let_go(map);
	limit(RLIMIT_MEMLOCK, 0);
	t_err(try_to_hold(device, memory, 1, &map), -EDQUOT);
	t_err(create(&config), -EDQUOT);
	free_pages(memory, 200);
	mmn_device_destroy(device);
}

TEST(what_others_of_the_user_have_pinned_counts_too)
{
	struct mmn_uring_config config = small_config();
	struct mmn_device *device, *other;
	struct mmn_device_map *map, *refused;
	char *memory = new_pages(120);

	become_nobody();
	limit(RLIMIT_MEMLOCK, 100 * PAGE);
	device = new_device(&config);
	other = new_device(&config);
	map = hold_pages(other, memory, 60);
	/* This device knows only of itself; the kernel knows of both. */
	t_err(try_to_hold(device, memory + 60 * PAGE, 60, &refused), -EDQUOT);
	let_go(map);
	free_pages(memory, 120);
	mmn_device_destroy(device);
	mmn_device_destroy(other);
}

TEST(privilege_lifts_memlock)
{
	struct mmn_device *device;
	char *memory = new_pages(40);

	if (getuid())
		t_skip("needs CAP_IPC_LOCK");
	limit(RLIMIT_MEMLOCK, PAGE);
	device = new_device(NULL);
	let_go(hold_pages(device, memory, 40));
	free_pages(memory, 40);
	mmn_device_destroy(device);
}

TEST(a_forbidden_io_uring_is_a_clear_error)
{
	mmn_device_destroy(new_device(NULL));
	answer_syscall(SYS_io_uring_setup, EPERM);
	t_err(create(NULL), -EPERM);
}

TEST(a_kernel_without_io_uring_is_a_clear_error)
{
	mmn_device_destroy(new_device(NULL));
	answer_syscall(SYS_io_uring_setup, ENOSYS);
	t_err(create(NULL), -ENOSYS);
}

TEST(a_kernel_without_sparse_tables_is_a_clear_error)
{
	mmn_device_destroy(new_device(NULL));
	answer_syscall(SYS_io_uring_register, EINVAL);
	t_err(create(NULL), -ENOTSUP);
}

TEST(no_descriptors_left_is_a_clear_error)
{
	mmn_device_destroy(new_device(NULL));
	limit(RLIMIT_NOFILE, 20);
	t_err(create(NULL), -EMFILE);
	limit(RLIMIT_NOFILE, 3);
	t_err(create(NULL), -EMFILE);
	limit(RLIMIT_NOFILE, RLIM_INFINITY);
}

TEST(no_descriptors_left_in_the_system_is_a_clear_error)
{
	mmn_device_destroy(new_device(NULL));
	answer_syscall(SYS_pipe2, ENFILE);
	t_err(create(NULL), -ENFILE);
}

TEST(no_threads_left_is_a_clear_error)
{
	mmn_device_destroy(new_device(NULL));
	if (getuid())
		t_skip("other processes of the user would be in the way");
	become_nobody();
	limit(RLIMIT_NPROC, 0);
	t_err(create(NULL), -EAGAIN);
	limit(RLIMIT_NPROC, RLIM_INFINITY);
}

TEST(no_memory_left_is_a_clear_error)
{
	mmn_device_destroy(new_device(NULL));
	if (MMN_ASAN || MMN_TSAN)
		t_skip("a sanitizer needs memory at any moment");
	answer_syscall(SYS_mmap, ENOMEM);
	t_err(create(NULL), -ENOMEM);
}

static int nr_open(void)
{
	int i, nr = 0;

	for (i = 0; i < 4096; i++)
		nr += fcntl(i, F_GETFD) >= 0;
	return nr;
}

/* Ten at a time, so that the service thread has something to do. */
static void map_and_unmap(struct mmn_device *device, char *memory, int nr)
{
	struct mmn_device_map *maps[10];
	int i, j;

	for (i = 0; i < nr / 10; i++) {
		for (j = 0; j < 10; j++)
			maps[j] = hold_pages(device, memory, 1 + (size_t)j % 8);
		for (j = 0; j < 10; j++)
			mmn_device_unmap_begin(maps[j]);
		for (j = 0; j < 10; j++)
			mmn_device_unmap_finish(maps[j]);
	}
}

TEST(a_hundred_thousand_maps_leave_nothing_behind, .timeout = 60)
{
	struct mmn_uring_config config = sized_config();
	struct mmn_device *device;
	char *memory = new_pages(8);
	long rss_before, rss_after;
	int i, open_before;

	config.nr_maps = 16;
	device = new_device(&config);
	map_and_unmap(device, memory, 100);
	open_before = nr_open();
	rss_before = status_kb("VmRSS:");
	for (i = 0; i < 100; i++)
		map_and_unmap(device, memory, 1000);
	rss_after = status_kb("VmRSS:");
	t_eq(status_kb("VmPin:"), 0);
	t_eq(nr_open(), open_before);
	/* A sanitizer remembers what is gone. */
	if (!MMN_ASAN && !MMN_TSAN)
		t_le(rss_after, rss_before + 512);
	t_eq(stats_of(device).maps, 100100);
	t_eq(stats_of(device).unmaps, 100100);
	t_eq(stats_of(device).pinned, 0);
	free_pages(memory, 8);
	mmn_device_destroy(device);
}

TEST(a_hundred_devices_leave_nothing_behind)
{
	char *memory = new_pages(1);
	int i, open_before = nr_open();

	for (i = 0; i < 100; i++) {
		struct mmn_device *device = new_device(NULL);

		let_go(hold_pages(device, memory, 1));
		mmn_device_destroy(device);
	}
	t_eq(nr_open(), open_before);
	t_eq(status_kb("VmPin:"), 0);
	mmn_device_destroy(NULL);
	free_pages(memory, 1);
}
