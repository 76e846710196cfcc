/* SPDX-License-Identifier: MIT */
/*
 * What must hold after so many operations that nothing can have added up.
 *
 * Threads at random are what 'mmn torture notifier' is for; these do the same
 * thing over and over, for a second, or as often as T_OPERATIONS in the
 * environment says.
 */
#include "t/tap.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <mmn/notifier.h>

#include "base/atomic.h"

enum {
	PAGES = 256,
	PAGE = 4096,
	DEVICES = 12,
	/* Pages of the largest window. */
	WINDOW = 24,
	POISON = 0xa5,
};

struct device {
	struct mmn_range_subscription sub;
	pthread_mutex_t lock;
	unsigned int first;
};

static struct mmn_state *state;
static struct device *devices;
static uint64_t seed = 1;

static unsigned int below(unsigned int limit)
{
	/* xorshift64 */
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed >> 33) % limit;
}

static bool told(struct mmn_range_subscription *sub,
		 const struct mmn_invalidate_desc *desc, uint64_t cur_seq)
{
	struct device *device = (struct device *)sub;

	if (mmn_invalidate_is_blockable(desc))
		pthread_mutex_lock(&device->lock);
	else if (pthread_mutex_trylock(&device->lock))
		return false;
	mmn_range_set_seq(sub, cur_seq);
	pthread_mutex_unlock(&device->lock);
	return true;
}

static const struct mmn_range_ops ops = { .invalidate = told };

static void insert(struct device *device)
{
	struct mmn_range_config config = {
		.size = sizeof(config),
		.ops = &ops,
		.lock = mmn_driver_mutex(&device->lock),
	};
	unsigned int pages = 1 + below(WINDOW);

	device->first = below(PAGES - pages);
	t_err(mmn_range_subscription_init(&device->sub, &config), 0);
	t_err(mmn_range_subscription_insert(
		      &device->sub, state, (uintptr_t)device->first * PAGE,
		      (uintptr_t)(device->first + pages) * PAGE - 1),
	      0);
}

static void take_out(struct device *device)
{
	t_err(mmn_range_subscription_remove(&device->sub), 0);
	t_err(mmn_range_subscription_remove(&device->sub), -ENOENT);
	memset(&device->sub, POISON, sizeof(device->sub));
}

static void world_init(void)
{
	t_may_keep_mapped(8u << 20, "memory for callbacks is kept");
	t_err(mmn_state_create(&state), 0);
	devices = aligned_alloc(_Alignof(struct device),
				DEVICES * sizeof(*devices));
	t_ne(devices, NULL);
	memset(devices, 0, DEVICES * sizeof(*devices));
	for (int i = 0; i < DEVICES; i++) {
		pthread_mutex_init(&devices[i].lock, NULL);
		insert(&devices[i]);
	}
}

static void world_fini(void)
{
	uint64_t seq;

	for (int i = 0; i < DEVICES; i++) {
		/* Nothing is left open. */
		t_err(mmn_range_read_begin_try(&devices[i].sub, &seq), 0);
		t_err(mmn_range_subscription_remove(&devices[i].sub), 0);
	}
	mmn_state_put(state);
	free(devices);
}

/* So many as are asked for, or a second of them. */
static bool go_on(unsigned long round)
{
	const char *given = getenv("T_OPERATIONS");
	static struct timespec start;
	struct timespec now;

	if (given)
		return round < strtoul(given, NULL, 0);
	if (round % 64)
		return true;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (!round)
		start = now;
	return now.tv_sec - start.tv_sec + (now.tv_nsec - start.tv_nsec) / 1e9 <
	       1;
}

static void all_pages(struct mmn_invalidate_desc *desc)
{
	mmn_invalidate_desc_init(desc, state, MMN_EVENT_CLEAR, 0,
				 (uintptr_t)PAGES * PAGE - 1);
}

/* atomic */
static uint32_t stop;

static void *flood_main(void *arg)
{
	/* relaxed: a hint to finish */
	while (!mmn_load_relaxed(&stop)) {
		struct mmn_invalidate_desc desc;

		all_pages(&desc);
		t_err(mmn_invalidate_start(&desc), 0);
		t_err(mmn_invalidate_end(&desc), 0);
	}
	return NULL;
}

static void expect_poison(const struct device *device)
{
	const unsigned char *bytes = (const unsigned char *)&device->sub;

	for (size_t i = 0; i < sizeof(device->sub); i++)
		if (bytes[i] != POISON)
			t_fail("byte %zu was written after remove", i);
}

/*
 * case 79 in full: each round inserts one device and removes another, which is
 * poisoned and looked at again a round later.
 */
TEST(nothing_is_written_to_a_device_after_its_removal, .timeout = 24 * 3600)
{
	pthread_t flood;

	world_init();
	take_out(&devices[0]);
	take_out(&devices[1]);
	t_eq(pthread_create(&flood, NULL, flood_main, NULL), 0);
	for (unsigned long i = 0; go_on(i); i++) {
		expect_poison(&devices[i % 2]);
		insert(&devices[i % 2]);
		expect_poison(&devices[!(i % 2)]);
		take_out(&devices[i % 2]);
	}
	/* relaxed: a hint to finish */
	mmn_store_relaxed(&stop, 1);
	pthread_join(flood, NULL);
	insert(&devices[0]);
	insert(&devices[1]);
	world_fini();
}

/* case 69 in full: as many refusals as acceptances, and nothing adds up. */
TEST(refusals_leave_no_trace_however_many, .timeout = 24 * 3600)
{
	struct mmn_invalidate_desc desc;
	unsigned long refused = 0, i;

	world_init();
	for (i = 0; go_on(i); i++) {
		struct device *device = &devices[below(DEVICES)];

		if (i & 1)
			pthread_mutex_lock(&device->lock);
		all_pages(&desc);
		if (mmn_invalidate_start_nonblock(&desc))
			refused++;
		else
			t_err(mmn_invalidate_end(&desc), 0);
		if (i & 1)
			pthread_mutex_unlock(&device->lock);
	}
	t_eq(refused, i / 2);
	world_fini();
}

static unsigned long pages_mapped(void)
{
	unsigned long pages = 0;
	FILE *file = fopen("/proc/self/statm", "r");

	t_ne(file, NULL);
	t_eq(fscanf(file, "%lu", &pages), 1);
	fclose(file);
	return pages;
}

/* Nobody else is there: insert, many changes of both kinds, remove. */
static void many_operations(unsigned long nr)
{
	struct mmn_invalidate_desc desc[2];
	struct device *device;
	unsigned long i;

	for (i = 0; i < nr; i += 8) {
		device = &devices[i / 8 % DEVICES];
		take_out(device);
		insert(device);
		for (int n = 0; n < 2; n++) {
			mmn_invalidate_desc_init(
				&desc[n], state, MMN_EVENT_CLEAR,
				(uintptr_t)device->first * PAGE,
				(uintptr_t)device->first * PAGE + n);
			t_err(mmn_invalidate_start(&desc[n]), 0);
		}
		for (int n = 0; n < 2; n++)
			t_err(mmn_invalidate_end(&desc[n]), 0);
		mmn_invalidate_desc_init(&desc[0], state, MMN_EVENT_CLEAR,
					 (uintptr_t)PAGES * PAGE,
					 (uintptr_t)PAGES * PAGE);
		t_err(mmn_invalidate_start(&desc[0]), 0);
		t_err(mmn_invalidate_end(&desc[0]), 0);
	}
}

TEST(many_operations_leave_nothing_behind, .timeout = 24 * 3600)
{
	const char *given = getenv("T_OPERATIONS");
	unsigned long nr = given ? strtoul(given, NULL, 0) : 40000;
	unsigned long pages;

	world_init();
	many_operations(nr / 16);
	pages = pages_mapped();
	many_operations(nr);
	t_le(pages_mapped(), pages);
	world_fini();
}
