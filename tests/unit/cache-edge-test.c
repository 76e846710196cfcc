/* SPDX-License-Identifier: MIT */
/*
 * The edges of the registration cache: the ends of the address space, two caches
 * of one, replacements that do not come about, crowds.
 */
#include "unit/cache-help.h"

#define TOP_PAGE (UINTPTR_MAX & ~(PAGE - 1))

static struct mmn_cache_region *get_bytes(struct fixture *x, uintptr_t addr,
					  size_t length)
{
	struct mmn_cache_region *region = NULL;

	t_err(mmn_cache_get(x->cache, addr, length, READ, &region), 0);
	return region;
}

TEST(the_first_and_the_last_byte_there_are)
{
	struct mmn_cache_region *first, *last, *both;
	struct mmn_invalidate_desc desc;
	struct fixture x;

	set_up(&x);
	first = get_bytes(&x, 0, 1);
	t_eq(first->start, 0);
	last = get_bytes(&x, UINTPTR_MAX, 1);
	t_eq(last->start, TOP_PAGE);
	t_eq(last->last, UINTPTR_MAX);
	t_ok(get_bytes(&x, UINTPTR_MAX - 7, 8) == last);
	mmn_cache_put(x.cache, last);
	/* Merged with what comes before it. */
	both = get_bytes(&x, TOP_PAGE - 1, 2);
	t_eq(both->start, TOP_PAGE - PAGE);
	t_eq(both->last, UINTPTR_MAX);
	t_ok(!mmn_cache_region_is_valid(last));
	mmn_invalidate_desc_init(&desc, x.state, MMN_EVENT_UNMAP, UINTPTR_MAX,
				 UINTPTR_MAX);
	t_err(mmn_invalidate_start(&desc), 0);
	t_err(mmn_invalidate_end(&desc), 0);
	t_ok(!mmn_cache_region_is_valid(both));
	t_ok(mmn_cache_region_is_valid(first));
	mmn_cache_put(x.cache, first);
	mmn_cache_put(x.cache, last);
	mmn_cache_put(x.cache, both);
	tear_down(&x);
}

/* The end of what is asked for would lie inside a region that is there. */
TEST(a_range_that_wraps_finds_nothing)
{
	struct mmn_cache_region *region = NULL;
	struct fixture x;

	set_up(&x);
	mmn_cache_put(x.cache, get_bytes(&x, 0, PAGE));
	mmn_cache_put(x.cache, get_bytes(&x, BASE, 2 * PAGE));
	t_err(mmn_cache_get(x.cache, BASE + PAGE, SIZE_MAX - 7, READ, &region),
	      -EOVERFLOW);
	t_err(mmn_cache_get(x.cache, BASE + PAGE, SIZE_MAX, READ, &region),
	      -EOVERFLOW);
	t_err(mmn_cache_get(x.cache, UINTPTR_MAX - 7, 16, READ, &region),
	      -EOVERFLOW);
	t_err(mmn_cache_get(x.cache, UINTPTR_MAX, SIZE_MAX, READ, &region),
	      -EOVERFLOW);
	t_err(mmn_cache_get(x.cache, BASE, 0, READ, &region), -EINVAL);
	t_ok(!region);
	t_eq(x.registered, 2);
	tear_down(&x);
}

/* Two devices: what is one's is not the other's, the memory is both's. */
TEST(two_caches_of_one_address_space)
{
	struct mmn_cache_config config = { .size = sizeof(config),
					   .ops = &fake_ops };
	struct mmn_cache_region *a, *b;
	struct fixture x, y;

	set_up(&x);
	memset(&y, 0, sizeof(y));
	y.state = x.state;
	config.arg = &y;
	t_err(mmn_cache_create(y.state, &config, &y.cache), 0);
	a = get(&x, 0, 4, READ);
	b = get(&y, 0, 8, READ);
	t_ok(a != b);
	t_ok(a->data == &x);
	t_ok(b->data == &y);
	unmap(&x, 6, 1);
	t_ok(mmn_cache_region_is_valid(a));
	t_ok(!mmn_cache_region_is_valid(b));
	t_eq(touch(&y, 0, 8, READ), 2);
	unmap(&x, 0, 1);
	t_ok(!mmn_cache_region_is_valid(a));
	t_eq(stats_of(&y).regions, 0);
	mmn_cache_put(x.cache, a);
	mmn_cache_put(y.cache, b);
	t_eq(touch(&y, 0, 1, READ), 3);
	t_eq(touch(&x, 0, 1, READ), 2);
	/* One goes, the other stays. */
	mmn_cache_destroy(y.cache);
	t_eq(y.registered, y.deregistered);
	t_eq(touch(&x, 0, 1, READ), 2);
	unmap(&x, 0, 1);
	until(x.deregistered == 2);
	tear_down(&x);
}

static int read_only(struct fixture *x, struct mmn_cache_region *region)
{
	(void)x;
	return region->access & WRITE ? -EFAULT : 0;
}

static int unmap_once(struct fixture *x, struct mmn_cache_region *region)
{
	if ((region->access & WRITE) && atomic_fetch_add(&x->step, 1) == 0)
		unmap(x, 7, 1);
	return 0;
}

TEST(what_there_is_stays_until_there_is_more)
{
	struct mmn_cache_region *old, *region = NULL;
	struct fixture x;

	set_up(&x);
	old = get(&x, 0, 4, READ);
	x.script.in_register = read_only;
	t_err(mmn_cache_get(x.cache, BASE, PAGE, WRITE, &region), -EFAULT);
	t_ok(mmn_cache_region_is_valid(old));
	t_eq(stats_of(&x).replaced, 0);
	/* One that collides replaces nothing; the next one does. */
	x.script.in_register = unmap_once;
	region = get(&x, 2, 6, WRITE);
	t_eq(x.step, 2);
	t_eq(region->start, BASE);
	t_eq(region->access, READ | WRITE);
	t_eq(stats_of(&x).collisions, 1);
	t_eq(stats_of(&x).replaced, 1);
	t_ok(!mmn_cache_region_is_valid(old));
	mmn_cache_put(x.cache, region);
	/* Who has it goes on, and it counts. */
	settle(&x);
	t_eq(stats_of(&x).quarantined_bytes, 4 * PAGE);
	mmn_cache_put(x.cache, old);
	until(stats_of(&x).quarantined == 0);
	tear_down(&x);
}

static uint64_t nr_subscriptions(struct fixture *x)
{
	struct mmn_state_stats stats = { .size = sizeof(stats) };

	t_err(mmn_state_get_stats(x->state, &stats), 0);
	return stats.ranges;
}

/* A buffer that is held each time, changed, and registered anew. */
TEST(what_is_only_held_hears_of_no_changes)
{
	enum { TIMES = 100 };
	struct mmn_cache_config config = { .ops = &telling_ops };
	struct mmn_cache_region *held[TIMES];
	struct fixture x;
	int i;

	set_up_with(&x, &config);
	for (i = 0; i < TIMES; i++) {
		held[i] = get(&x, 0, 2, READ);
		unmap(&x, 1, 1);
	}
	settle(&x);
	t_eq(nr_subscriptions(&x), 0);
	t_eq(stats_of(&x).quarantined, TIMES);
	t_eq(x.deregistered, 0);
	for (i = 0; i < TIMES; i++)
		mmn_cache_put(x.cache, held[i]);
	until(x.deregistered == TIMES);
	tear_down(&x);
}

/* More than eviction looks at in one go, and all of it held. */
TEST(where_all_is_held_a_get_is_told_so)
{
	enum { ROOM = 1500 };
	struct mmn_cache_config config = { .max_regions = ROOM };
	static struct mmn_cache_region *held[ROOM];
	struct mmn_cache_region *region = NULL;
	struct fixture x;
	int i;

	set_up_with(&x, &config);
	for (i = 0; i < ROOM; i++)
		held[i] = get(&x, 2 * i, 1, READ);
	t_err(mmn_cache_get(x.cache, BASE + 2 * ROOM * PAGE, 1, READ, &region),
	      -ENOSPC);
	t_eq(stats_of(&x).evicted, 0);
	/* The one that is not held is found, wherever it is. */
	mmn_cache_put(x.cache, held[ROOM - 100]);
	touch(&x, 2 * ROOM, 1, READ);
	t_eq(stats_of(&x).evicted, 1);
	t_ok(mmn_cache_region_is_valid(held[0]));
	for (i = 0; i < ROOM; i++)
		if (i != ROOM - 100)
			mmn_cache_put(x.cache, held[i]);
	tear_down(&x);
}
