/* SPDX-License-Identifier: MIT */
/*
 * A driver in small, on a real device and a real source: the program changes its
 * memory with plain calls of libc, the callback takes the page away from the
 * device first, and the device never works on a page that the program has lost.
 */
#include <mmn/notifier.h>
#include <mmn/source.h>

#include "unit/uring-device.h"

#include <pthread.h>

struct driver {
	struct mmn_device *device;
	struct mmn_state *state;
	struct mmn_range_subscription sub;
	struct mmn_range_finish finish;
	pthread_mutex_t lock;
	/* under lock: what the device holds, and what it is about to lose */
	struct mmn_device_map *map;
	struct mmn_device_map *dying;
	char *memory;
	uint64_t invalidated;
	uint64_t collided;
	int stop;
};

static bool begin_to_invalidate(struct mmn_range_subscription *sub,
				const struct mmn_invalidate_desc *desc,
				uint64_t cur_seq,
				struct mmn_range_finish **ret_finish)
{
	struct driver *d = container_of(sub, struct driver, sub);

	pthread_mutex_lock(&d->lock);
	mmn_range_set_seq(sub, cur_seq);
	if (d->map) {
		mmn_device_unmap_begin(d->map);
		d->dying = d->map;
		d->map = NULL;
		*ret_finish = &d->finish;
	}
	d->invalidated++;
	pthread_mutex_unlock(&d->lock);
	return true;
}

static void finish_invalidation(struct mmn_range_finish *finish)
{
	struct driver *d = container_of(finish, struct driver, finish);

	mmn_device_unmap_finish(d->dying);
}

static const struct mmn_range_ops driver_ops = {
	.invalidate_start = begin_to_invalidate,
	.invalidate_finish = finish_invalidation,
};

static struct driver *new_driver(size_t pages)
{
	struct driver *d = aligned_alloc(64, sizeof(*d));
	struct mmn_range_config config = { .size = sizeof(config),
					   .ops = &driver_ops };

	t_ok(d != NULL);
	memset(d, 0, sizeof(*d));
	pthread_mutex_init(&d->lock, NULL);
	config.lock = mmn_driver_mutex(&d->lock);
	d->device = new_device(NULL);
	d->memory = new_pages(pages);
	t_err(mmn_state_create(&d->state), 0);
	t_err(mmn_range_subscription_init(&d->sub, &config), 0);
	t_err(mmn_range_subscription_insert(
		      &d->sub, d->state, (uintptr_t)d->memory,
		      (uintptr_t)d->memory + pages * PAGE - 1),
	      0);
	return d;
}

static void end_driver(struct driver *d)
{
	t_may_keep_mapped(4 << 20, "stubs and the arena stay");
	t_err(mmn_range_subscription_remove(&d->sub), 0);
	if (d->map)
		let_go(d->map);
	t_eq(stats_of(d->device).nr_maps, 0);
	t_eq(status_kb("VmPin:"), 0);
	mmn_state_put(d->state);
	mmn_device_destroy(d->device);
	free(d);
}

/* The device fault.  Returns with the lock held and the page in the device. */
static bool fault(struct driver *d)
{
	struct mmn_device_map *map;
	uint64_t seq;
	int ret;

	for (;;) {
		seq = mmn_range_read_begin(&d->sub);
		ret = try_to_hold(d->device, d->memory, 1, &map);
		if (ret == -EFAULT)
			return false;
		t_err(ret, 0);
		pthread_mutex_lock(&d->lock);
		if (!mmn_range_read_retry(&d->sub, seq))
			break;
		d->collided++;
		pthread_mutex_unlock(&d->lock);
		let_go(map);
	}
	t_ok(!d->map);
	d->map = map;
	return true;
}

TEST(the_device_loses_the_page_before_the_program_does)
{
	struct driver *d = new_driver(1);
	int i;

	t_err(mmn_intercept_start(d->state, NULL, NULL), 0);
	for (i = 0; i < 100; i++) {
		t_ok(fault(d));
		t_eq(device_writes(d->map, 0, "old", 4), 4);
		t_streq(d->memory, "old");
		pthread_mutex_unlock(&d->lock);
		/* Any of these lets the page go. */
		switch (i % 3) {
		case 0:
			new_pages_at(d->memory, 1);
			break;
		case 1:
			free_pages(d->memory, 1);
			t_ok(!fault(d));
			new_pages_at(d->memory, 1);
			break;
		default:
			t_eq(madvise(d->memory, PAGE, MADV_DONTNEED), 0);
		}
		t_ok(!d->map);
		t_eq(status_kb("VmPin:"), 0);
		t_eq(d->memory[0], 0);
	}
	t_ge(d->invalidated, 100);
	free_pages(d->memory, 1);
	t_err(mmn_intercept_stop(), 0);
	end_driver(d);
}

/* Change the page again and again, while the other thread uses the device. */
static void *churn(void *arg)
{
	struct driver *d = arg;
	int i;

	for (i = 0; i < 4000; i++) {
		new_pages_at(d->memory, 1);
		d->memory[PAGE - 1] = 'c';
		if (i % 16 == 0)
			madvise(d->memory, PAGE, MADV_DONTNEED);
	}
	__atomic_store_n(&d->stop, 1, __ATOMIC_RELEASE);
	return NULL;
}

TEST(what_the_device_writes_under_the_lock_is_what_the_program_sees)
{
	struct driver *d = new_driver(1);
	pthread_t thread;
	struct mmn_device_map *map;
	uint64_t checked = 0;
	uint32_t token = 1, seen;

	t_err(mmn_intercept_start(d->state, NULL, NULL), 0);
	t_eq(pthread_create(&thread, NULL, churn, d), 0);
	while (!__atomic_load_n(&d->stop, __ATOMIC_ACQUIRE)) {
		t_ok(fault(d));
		/* The change waits for the lock: this page is that page. */
		t_eq(device_writes(d->map, 64, &token, sizeof(token)),
		     sizeof(token));
		memcpy(&seen, d->memory + 64, sizeof(seen));
		t_eq(seen, token);
		t_eq(device_reads(d->map, 64, &seen, sizeof(seen)),
		     sizeof(seen));
		t_eq(seen, token);
		token++;
		checked++;
		map = d->map;
		d->map = NULL;
		mmn_device_unmap_begin(map);
		pthread_mutex_unlock(&d->lock);
		mmn_device_unmap_finish(map);
	}
	t_eq(pthread_join(thread, NULL), 0);
	t_note("%llu checked, %llu collided, %llu invalidated",
	       (unsigned long long)checked, (unsigned long long)d->collided,
	       (unsigned long long)d->invalidated);
	t_gt(checked, 0);
	free_pages(d->memory, 1);
	t_err(mmn_intercept_stop(), 0);
	end_driver(d);
}
