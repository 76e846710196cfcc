/* SPDX-License-Identifier: MIT */
/*
 * Getting and putting: hits, misses, merging, access, collisions, errors.
 */
#include "unit/cache-help.h"

TEST(a_second_get_finds_the_first_one)
{
	struct fixture x;
	struct mmn_cache_region *a, *b;

	set_up(&x);
	a = get(&x, 1, 4, READ);
	b = get(&x, 2, 1, READ);
	t_ok(a == b);
	t_eq(a->start, BASE + PAGE);
	t_eq(a->last, BASE + 5 * PAGE - 1);
	t_eq(a->access, READ);
	t_ok(mmn_cache_region_is_valid(a));
	t_eq(x.registered, 1);
	mmn_cache_put(x.cache, a);
	mmn_cache_put(x.cache, b);
	t_eq(touch(&x, 1, 4, READ), 1);
	t_eq(stats_of(&x).regions, 1);
	t_eq(stats_of(&x).cached_bytes, 4 * PAGE);
	tear_down(&x);
}

TEST(requests_are_rounded_to_pages)
{
	struct fixture x;
	struct mmn_cache_region *region;

	set_up(&x);
	t_err(mmn_cache_get(x.cache, BASE + 100, PAGE, READ, &region), 0);
	t_eq(region->start, BASE);
	t_eq(region->last, BASE + 2 * PAGE - 1);
	mmn_cache_put(x.cache, region);
	t_err(mmn_cache_get(x.cache, BASE + 2 * PAGE - 1, 1, READ, &region), 0);
	t_eq(x.registered, 1);
	mmn_cache_put(x.cache, region);
	mmn_cache_put(x.cache, NULL);
	tear_down(&x);
}

/* Every byte of it is found, and none beside it, whatever the size. */
TEST(regions_of_every_size_are_found)
{
	static const size_t sizes[] = { 1,  3,	4,    5,    16,	    17,
					64, 65, 1000, 4096, 100000, 1 << 24 };
	struct mmn_cache_region *region;
	struct fixture x;
	uintptr_t at = 7;
	uint64_t key;
	size_t i, j;

	set_up(&x);
	for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		key = touch(&x, at, sizes[i], READ);
		for (j = 0; j < 300; j++)
			t_eq(touch(&x, at + j * (sizes[i] - 1) / 299, 1, READ),
			     key);
		at += sizes[i] + 3;
	}
	t_eq(x.registered, i);
	t_err(mmn_cache_get(x.cache, BASE + 7 * PAGE - 1, 1, READ, &region), 0);
	t_eq(x.registered, i + 1);
	mmn_cache_put(x.cache, region);
	tear_down(&x);
}

TEST(a_change_makes_a_region_unreachable)
{
	struct mmn_cache_region *region;
	struct fixture x;

	set_up(&x);
	region = get(&x, 0, 8, READ);
	unmap(&x, 8, 1);
	t_ok(mmn_cache_region_is_valid(region));
	unmap(&x, 7, 1);
	t_ok(!mmn_cache_region_is_valid(region));
	settle(&x);
	/* Held: its pages stay. */
	t_eq(x.deregistered, 0);
	t_eq(stats_of(&x).quarantined_bytes, 8 * PAGE);
	t_eq(touch(&x, 0, 1, READ), 2);
	mmn_cache_put(x.cache, region);
	until(x.deregistered == 1);
	until(stats_of(&x).quarantined_bytes == 0);
	t_eq(stats_of(&x).invalidated, 1);
	tear_down(&x);
}

TEST(an_idle_region_is_deregistered_without_another_call)
{
	struct fixture x;

	set_up(&x);
	touch(&x, 0, 8, READ);
	unmap(&x, 0, 1);
	until(x.deregistered == 1);
	t_eq(x.pinned, 0);
	tear_down(&x);
}

/* Another thread's put counts as well. */
static void *put_it(void *arg)
{
	struct fixture *x = arg;

	mmn_cache_put(x->cache, x->arg);
	return NULL;
}

static void *get_it(void *arg)
{
	struct fixture *x = arg;

	x->arg = get(x, 0, 1, READ);
	/* And a second one, so that what an ending thread leaves is moved. */
	get(x, 0, 1, READ);
	return NULL;
}

TEST(references_may_be_put_by_other_threads)
{
	struct mmn_cache_region *region;
	struct fixture x;
	pthread_t thread;

	set_up(&x);
	region = get(&x, 0, 1, READ);
	unmap(&x, 0, 1);
	settle(&x);
	t_eq(x.deregistered, 0);
	x.arg = region;
	t_err(pthread_create(&thread, NULL, put_it, &x), 0);
	t_err(pthread_join(thread, NULL), 0);
	until(x.deregistered == 1);

	t_err(pthread_create(&thread, NULL, get_it, &x), 0);
	t_err(pthread_join(thread, NULL), 0);
	unmap(&x, 0, 1);
	settle(&x);
	t_eq(x.deregistered, 1);
	mmn_cache_put(x.cache, x.arg);
	settle(&x);
	t_eq(x.deregistered, 1);
	mmn_cache_put(x.cache, x.arg);
	until(x.deregistered == 2);
	tear_down(&x);
}

/* More than a thread has places for, and more of one than a place counts. */
TEST(a_thread_may_hold_many_references)
{
	enum { REGIONS = 500, TIMES = 20000 };
	static struct mmn_cache_region *held[REGIONS];
	struct fixture x;
	int i;

	set_up(&x);
	for (i = 0; i < REGIONS; i++)
		held[i] = get(&x, 2 * i, 1, READ);
	for (i = 0; i < TIMES; i++)
		t_ok(get(&x, 0, 1, READ) == held[0]);
	unmap(&x, 0, 2 * REGIONS);
	settle(&x);
	t_eq(x.deregistered, 0);
	for (i = 1; i < REGIONS; i++)
		mmn_cache_put(x.cache, held[i]);
	settle(&x);
	until(x.deregistered == REGIONS - 1);
	for (i = 0; i < TIMES; i++)
		mmn_cache_put(x.cache, held[0]);
	settle(&x);
	t_eq(x.deregistered, REGIONS - 1);
	mmn_cache_put(x.cache, held[0]);
	until(x.deregistered == REGIONS);
	tear_down(&x);
}

TEST(overlapping_requests_are_merged)
{
	struct mmn_cache_region *old, *region;
	struct fixture x;

	set_up(&x);
	old = get(&x, 0, 4, READ);
	touch(&x, 10, 2, READ);
	/* Beside it is not overlapping. */
	touch(&x, 4, 2, READ);
	t_eq(stats_of(&x).regions, 3);
	region = get(&x, 3, 8, READ);
	t_eq(region->start, BASE);
	t_eq(region->last, BASE + 12 * PAGE - 1);
	t_eq(stats_of(&x).regions, 1);
	t_eq(stats_of(&x).replaced, 3);
	/* Who has the old one goes on. */
	t_ok(!mmn_cache_region_is_valid(old));
	settle(&x);
	t_eq(x.deregistered, 2);
	mmn_cache_put(x.cache, old);
	mmn_cache_put(x.cache, region);
	until(x.deregistered == 3);
	tear_down(&x);
}

TEST(merging_is_limited)
{
	struct mmn_cache_config config = { .merge_bytes = 8 * PAGE };
	struct mmn_cache_region *region;
	struct fixture x;

	set_up_with(&x, &config);
	touch(&x, 0, 4, READ);
	region = get(&x, 3, 5, READ);
	t_eq(region->start, BASE);
	mmn_cache_put(x.cache, region);
	region = get(&x, 7, 2, READ);
	t_eq(region->start, BASE + 7 * PAGE);
	t_eq(region->last, BASE + 9 * PAGE - 1);
	mmn_cache_put(x.cache, region);
	/* The one it overlapped has given way. */
	t_eq(stats_of(&x).regions, 1);
	tear_down(&x);
}

/* As a device does that cannot hold page 4 for writing. */
static int page_4_is_read_only(struct fixture *x,
			       struct mmn_cache_region *region)
{
	(void)x;
	if ((region->access & WRITE) && region->start <= BASE + 4 * PAGE &&
	    region->last >= BASE + 4 * PAGE)
		return -EFAULT;
	return 0;
}

TEST(what_cannot_be_merged_is_split)
{
	struct mmn_cache_region *region;
	struct fixture x;

	set_up(&x);
	x.script.in_register = page_4_is_read_only;
	touch(&x, 0, 4, WRITE);
	region = get(&x, 3, 2, READ);
	t_eq(region->start, BASE + 3 * PAGE);
	t_eq(region->last, BASE + 5 * PAGE - 1);
	t_eq(region->access, READ);
	t_eq(stats_of(&x).regions, 1);
	t_eq(stats_of(&x).failed, 1);
	mmn_cache_put(x.cache, region);
	tear_down(&x);
}

TEST(more_access_replaces_the_region)
{
	struct mmn_cache_region *region;
	struct fixture x;

	set_up(&x);
	t_eq(touch(&x, 0, 8, READ), 1);
	region = get(&x, 2, 1, WRITE);
	t_eq(region->access, READ | WRITE);
	t_eq(region->start, BASE);
	t_eq(region->last, BASE + 8 * PAGE - 1);
	mmn_cache_put(x.cache, region);
	t_eq(touch(&x, 0, 8, READ), 2);
	t_eq(touch(&x, 0, 8, READ | WRITE), 2);
	t_eq(stats_of(&x).replaced, 1);
	tear_down(&x);
}

TEST(loss_of_write_permission_concerns_writable_regions_only)
{
	struct fixture x;

	set_up(&x);
	touch(&x, 0, 4, READ);
	touch(&x, 4, 4, WRITE);
	change(&x, MMN_EVENT_PROTECTION_VMA, 0, 8);
	t_eq(touch(&x, 0, 4, READ), 1);
	t_eq(touch(&x, 4, 4, WRITE), 3);
	/* Fork and soft-dirty tracking leave pinned pages alone. */
	change(&x, MMN_EVENT_PROTECTION_PAGE, 0, 8);
	change(&x, MMN_EVENT_SOFT_DIRTY, 0, 8);
	t_eq(touch(&x, 0, 4, READ), 1);
	t_eq(touch(&x, 4, 4, WRITE), 3);
	change(&x, MMN_EVENT_CLEAR, 0, 8);
	t_eq(touch(&x, 0, 4, READ), 4);
	tear_down(&x);
}

TEST(fork_concerns_those_who_say_so)
{
	struct mmn_cache_config config = { .flags = MMN_CACHE_FORK };
	struct fixture x;

	set_up_with(&x, &config);
	touch(&x, 0, 4, READ);
	change(&x, MMN_EVENT_PROTECTION_PAGE, 0, 8);
	t_eq(touch(&x, 0, 4, READ), 2);
	change(&x, MMN_EVENT_PROTECTION_VMA, 0, 8);
	t_eq(touch(&x, 0, 4, READ), 2);
	tear_down(&x);
}

TEST(who_changes_memory_hears_what_that_invalidates)
{
	struct mmn_cache_config config = { .ops = &telling_ops };
	struct fixture x;

	set_up_with(&x, &config);
	touch(&x, 0, 4, READ);
	touch(&x, 8, 2, READ);
	unmap(&x, 4, 4);
	t_eq(x.told, 0);
	unmap(&x, 9, 1);
	t_eq(x.told, 1);
	t_eq(x.told_start, BASE + 8 * PAGE);
	t_eq(x.told_last, BASE + 10 * PAGE - 1);
	/* No more than once, and not of what others take away. */
	unmap(&x, 8, 2);
	t_err(mmn_cache_purge(x.cache, BASE, BASE), 0);
	unmap(&x, 0, 4);
	t_eq(x.told, 1);
	tear_down(&x);
}

/* libfabric's race: the mapping changes while it is being registered. */
static int change_once(struct fixture *x, struct mmn_cache_region *region)
{
	(void)region;
	if (atomic_fetch_add(&x->step, 1) == 0)
		unmap(x, 1, 1);
	return 0;
}

TEST(a_change_inside_a_registration_makes_it_start_over)
{
	struct mmn_cache_region *region;
	struct fixture x;

	set_up(&x);
	x.script.in_register = change_once;
	region = get(&x, 0, 4, READ);
	t_eq(region->key, 2);
	t_ok(mmn_cache_region_is_valid(region));
	t_eq(stats_of(&x).collisions, 1);
	until(x.deregistered == 1);
	t_eq(touch(&x, 0, 4, READ), 2);
	mmn_cache_put(x.cache, region);
	tear_down(&x);
}

/* UCX's: the one whose registration collided gets the stale region. */
static int change_always(struct fixture *x, struct mmn_cache_region *region)
{
	(void)region;
	atomic_fetch_add(&x->step, 1);
	unmap(x, 1, 1);
	return 0;
}

TEST(nobody_gets_a_region_that_collided)
{
	struct mmn_cache_region *region = NULL;
	struct fixture x;

	set_up(&x);
	x.script.in_register = change_always;
	/* The budget is over: one attempt. */
	t_err(mmn_cache_get_until(x.cache, BASE, 4 * PAGE, READ, 1, &region),
	      -ETIMEDOUT);
	t_ok(region == NULL);
	t_eq(x.step, 1);
	t_eq(stats_of(&x).regions, 0);
	t_eq(stats_of(&x).collisions, 1);
	x.script.in_register = NULL;
	t_eq(touch(&x, 0, 4, READ), 2);
	tear_down(&x);
}

TEST(the_whole_budget_is_one)
{
	struct mmn_cache_config config = { .timeout_ns = 20 * MS };
	struct mmn_cache_region *region = NULL;
	struct fixture x;

	set_up_with(&x, &config);
	x.script.in_register = change_always;
	t_err(mmn_cache_get(x.cache, BASE, PAGE * 2, READ, &region),
	      -ETIMEDOUT);
	t_ge(x.step, 1);
	tear_down(&x);
}

static void *end_change(void *arg)
{
	struct fixture *x = arg;

	until(x->step);
	t_err(mmn_invalidate_end(x->arg), 0);
	return NULL;
}

TEST(a_get_waits_for_open_changes)
{
	struct mmn_cache_region *region = NULL;
	struct mmn_invalidate_desc desc;
	struct fixture x;
	pthread_t thread;

	set_up(&x);
	t_err(pthread_create(&thread, NULL, end_change, &x), 0);
	mmn_invalidate_desc_init(&desc, x.state, MMN_EVENT_UNMAP, BASE,
				 BASE + PAGE - 1);
	/* Opened for the other thread, which ends it. */
	x.arg = &desc;
	t_err(mmn_invalidate_start(&desc), 0);
	/* Another range is not held up. */
	touch(&x, 1, 1, READ);
	x.step = 1;
	t_err(pthread_join(thread, NULL), 0);
	t_err(mmn_cache_get(x.cache, BASE, PAGE, READ, &region), 0);
	mmn_cache_put(x.cache, region);
	tear_down(&x);
}

TEST(bad_arguments)
{
	struct mmn_cache_region *region;
	struct fixture x;

	set_up(&x);
	t_err(mmn_cache_get(x.cache, BASE, 0, READ, &region), -EINVAL);
	t_err(mmn_cache_get(x.cache, BASE, 1, 0, &region), -EINVAL);
	t_err(mmn_cache_get(x.cache, BASE, 1, 4, &region), -EINVAL);
	touch(&x, 0, 1, READ);
	t_err(mmn_cache_get(x.cache, BASE, 1, 0, &region), -EINVAL);
	t_err(mmn_cache_get(x.cache, BASE, 1, 4, &region), -EINVAL);
	t_err(mmn_cache_get(x.cache, BASE, 1, READ | 8, &region), -EINVAL);
	t_err(mmn_cache_get(x.cache, BASE, 0, READ, &region), -EINVAL);
	t_err(mmn_cache_get(x.cache, UINTPTR_MAX, 2, READ, &region),
	      -EOVERFLOW);
	t_err(mmn_cache_get_until(x.cache, 0, SIZE_MAX, READ, 1, &region),
	      -EINVAL);
	t_eq(x.registered, 1);
	tear_down(&x);
}

TEST(unknown_access_is_refused_where_there_is_a_region)
{
	struct mmn_cache_region *region = NULL;
	uintptr_t addr = BASE + PAGE;
	struct fixture x;

	set_up(&x);
	touch(&x, 1, 1, READ);
	/* These bits are set in the address. */
	t_err(mmn_cache_get(x.cache, addr, 1, READ | (uint32_t)PAGE, &region),
	      -EINVAL);
	t_err(mmn_cache_get_until(x.cache, addr, 1, READ | (uint32_t)PAGE,
				  FOR_EVER, &region),
	      -EINVAL);
	t_ok(!region);
	tear_down(&x);
}
