/* SPDX-License-Identifier: MIT */
/*
 * Many threads, one io_uring device, and every byte where it belongs.
 */
#include "unit/uring-device.h"

#include <pthread.h>

enum { NR_THREADS = 4, NR_PAGES = 20, AT_A_TIME = 4 };

struct worker {
	pthread_t thread;
	struct mmn_device *device;
	unsigned int seed;
	uint64_t deadline_ms;
	uint64_t rounds;
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static unsigned int pick(struct worker *w, unsigned int below)
{
	return (unsigned int)rand_r(&w->seed) % below;
}

static void retry_submit(struct watched *t, struct mmn_device_map *map,
			 uint32_t access, size_t offset, void *buffer,
			 size_t length)
{
	int ret;

	while ((ret = start(t, map, access, offset, buffer, length)) == -EBUSY)
		sched_yield();
	t_err(ret, 0);
}

/* Memory changes under the map, which the device must not notice too late. */
static void one_round(struct worker *w, unsigned char *memory)
{
	size_t piece = NR_PAGES * PAGE / AT_A_TIME;
	unsigned char *buffer = new_pages(NR_PAGES);
	int tag = 1 + (int)pick(w, 255);
	struct watched t[AT_A_TIME], late;
	struct mmn_device_map *map;
	uint32_t access;
	size_t i;

	memset(memory, tag, NR_PAGES * PAGE);
	memset(buffer, tag ^ 0xff, NR_PAGES * PAGE);
	access = pick(w, 2) ? MMN_DEVICE_READ : MMN_DEVICE_WRITE;
	map = hold_pages(w->device, memory, NR_PAGES);
	for (i = 0; i < AT_A_TIME; i++)
		retry_submit(&t[i], map, access, i * piece, buffer + i * piece,
			     piece);
	/* Most are under way when the map is taken away. */
	if (pick(w, 2))
		result_of(&t[pick(w, AT_A_TIME)]);
	mmn_device_unmap_begin(map);
	t_lt(start(&late, map, access, 0, buffer, 1), 0);
	mmn_device_unmap_finish(map);
	for (i = 0; i < AT_A_TIME; i++) {
		size_t moved;

		t_ok(is_done(&t[i]));
		t_gt(t[i].transfer.result, 0);
		moved = (size_t)t[i].transfer.result;
		t_memeq(memory + i * piece, buffer + i * piece, moved);
	}
	/* In one step, or another thread's mapping could come in between. */
	new_pages_at(memory, NR_PAGES);
	t_eq(memory[0], 0);
	free_pages(buffer, NR_PAGES);
	w->rounds++;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	unsigned char *memory = new_pages(NR_PAGES);

	while (now_ms() < w->deadline_ms)
		one_round(w, memory);
	free_pages(memory, NR_PAGES);
	return NULL;
}

static void stress(uint32_t flags)
{
	struct mmn_uring_config config = { .size = sizeof(config),
					   .flags = flags,
					   .nr_maps = NR_THREADS,
					   .queue_depth = 6 };
	struct mmn_device *device = new_device(&config);
	struct worker workers[NR_THREADS];
	uint64_t rounds = 0;
	int i;

	for (i = 0; i < NR_THREADS; i++) {
		workers[i] = (struct worker){ .device = device,
					      .seed = (unsigned int)i + 1,
					      .deadline_ms = now_ms() + 1000 };
		t_eq(pthread_create(&workers[i].thread, NULL, work,
				    &workers[i]),
		     0);
	}
	for (i = 0; i < NR_THREADS; i++) {
		t_eq(pthread_join(workers[i].thread, NULL), 0);
		rounds += workers[i].rounds;
	}
	t_note("%llu rounds", (unsigned long long)rounds);
	t_gt(rounds, 0);
	t_eq(status_kb("VmPin:"), 0);
	t_eq(stats_of(device).nr_maps, 0);
	t_eq(stats_of(device).nr_transfers, 0);
	mmn_device_destroy(device);
}

TEST(four_threads_map_transfer_and_unmap)
{
	stress(0);
}

TEST(four_threads_map_transfer_and_unmap_with_shared_descriptors)
{
	stress(MMN_URING_SHARED_FILES);
}
