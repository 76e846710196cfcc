/* SPDX-License-Identifier: MIT */
#ifndef UNIT_URING_DEVICE_H
#define UNIT_URING_DEVICE_H
/*
 * What the tests of the io_uring device share.
 */
#include <mmn/uring-device.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/compiler.h"
#include "t/tap.h"
#include "unit/answer-syscall.h"

#define PAGE ((size_t)4096)

/* A test that cannot have an io_uring says so. */
static inline struct mmn_device *
new_device(const struct mmn_uring_config *config)
{
	struct mmn_device *device;
	int ret = mmn_uring_device_create(config, &device);

	if (ret == -EPERM || ret == -ENOSYS || ret == -ENOTSUP)
		t_skip("no io_uring here: %s", strerror(-ret));
	t_err(ret, 0);
	return device;
}

static inline void *new_pages_at(void *where, size_t nr)
{
	void *memory =
		mmap(where, nr * PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | (where ? MAP_FIXED : 0), -1,
		     0);

	t_ne(memory, MAP_FAILED);
	return memory;
}

static inline void *new_pages(size_t nr)
{
	return new_pages_at(NULL, nr);
}

static inline void free_pages(void *memory, size_t nr)
{
	t_eq(munmap(memory, nr * PAGE), 0);
}

static inline int try_to_hold(struct mmn_device *device, void *memory,
			      size_t nr, struct mmn_device_map **ret_map)
{
	uintptr_t start = (uintptr_t)memory;

	return mmn_device_map(device, start, start + nr * PAGE - 1,
			      MMN_DEVICE_READ | MMN_DEVICE_WRITE, ret_map);
}

static inline struct mmn_device_map *hold_pages(struct mmn_device *device,
						void *memory, size_t nr)
{
	struct mmn_device_map *map;

	t_err(try_to_hold(device, memory, nr, &map), 0);
	return map;
}

static inline void let_go(struct mmn_device_map *map)
{
	mmn_device_unmap_begin(map);
	mmn_device_unmap_finish(map);
}

/* A transfer whose end can be seen and waited for. */
struct watched {
	struct mmn_device_transfer transfer;
	int is_done;
};

static inline void note_done(struct mmn_device_transfer *transfer)
{
	struct watched *w = (struct watched *)(void *)transfer;

	__atomic_store_n(&w->is_done, 1, __ATOMIC_RELEASE);
}

static inline bool is_done(struct watched *w)
{
	return __atomic_load_n(&w->is_done, __ATOMIC_ACQUIRE);
}

static inline void sleep_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&ts, NULL);
}

static inline int64_t result_of(struct watched *w)
{
	struct timespec ts = { 0, 20000 };

	while (!is_done(w))
		nanosleep(&ts, NULL);
	return w->transfer.result;
}

static inline int start(struct watched *w, struct mmn_device_map *map,
			uint32_t access, size_t offset, void *buffer,
			size_t length)
{
	memset(w, 0, sizeof(*w));
	w->transfer.map = map;
	w->transfer.offset = offset;
	w->transfer.length = length;
	w->transfer.access = access;
	w->transfer.buffer = buffer;
	w->transfer.done = note_done;
	return mmn_device_submit(&w->transfer);
}

static inline int64_t device_reads(struct mmn_device_map *map, size_t offset,
				   void *buffer, size_t length)
{
	struct watched w;
	int ret = start(&w, map, MMN_DEVICE_READ, offset, buffer, length);

	return ret ? ret : result_of(&w);
}

static inline int64_t device_writes(struct mmn_device_map *map, size_t offset,
				    const void *buffer, size_t length)
{
	struct watched w;
	int ret = start(&w, map, MMN_DEVICE_WRITE, offset, (void *)buffer,
			length);

	return ret ? ret : result_of(&w);
}

static inline struct mmn_uring_stats stats_of(struct mmn_device *device)
{
	struct mmn_uring_stats stats = { .size = sizeof(stats) };

	t_err(mmn_uring_device_stats(device, &stats), 0);
	return stats;
}

/* A figure of /proc/self/status in kB, such as "VmPin:". */
static inline long status_kb(const char *key)
{
	FILE *file = fopen("/proc/self/status", "re");
	char line[256];
	long kb = -1;

	t_ok(file != NULL);
	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, key, strlen(key)))
			kb = strtol(line + strlen(key), NULL, 10);
	fclose(file);
	return kb;
}

#endif
