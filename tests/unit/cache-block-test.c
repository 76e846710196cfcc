/* SPDX-License-Identifier: MIT */
/*
 * Blocks of the cache: who shares a subscription, which regions a change takes, and
 * that nothing is left behind.
 */
#include <signal.h>

#include "cache/cache.h"
#include "unit/cache-help.h"

enum {
	/* As in block.c. */
	IDLE_LIMIT = 256,
	IDLE_CALLS = 64,
};

/* Subscriptions of the address space. */
static uint64_t subscriptions(struct fixture *x)
{
	struct mmn_state_stats stats = { .size = sizeof(stats) };

	t_err(mmn_state_get_stats(x->state, &stats), 0);
	return stats.ranges;
}

static uint32_t nr_idle(struct fixture *x)
{
	struct mmn_sigmask saved;
	uint32_t nr;

	cache_lock(x->cache, &saved);
	nr = x->cache->blocks.nr_idle;
	cache_unlock(x->cache, &saved);
	return nr;
}

static struct block *block_of(const struct mmn_cache_region *region)
{
	return region_of(region)->block;
}

static uint32_t nr_regions(struct fixture *x, const struct block *block)
{
	struct mmn_sigmask saved;
	uint32_t nr;

	cache_lock(x->cache, &saved);
	nr = block->nr_regions;
	cache_unlock(x->cache, &saved);
	return nr;
}

static bool is_single(const struct mmn_cache_region *region)
{
	return region_of(region)->subscribed;
}

/* Gone, and not only out of reach. */
static void unmap_and_settle(struct fixture *x, uintptr_t first, size_t pages)
{
	unmap(x, first, pages);
	settle(x);
}

/* B2 and B3, of blocks that were ever used. */
static void check_blocks(struct fixture *x)
{
	struct blocks *blocks = &x->cache->blocks;
	uint32_t i, nr = 0, inserted = 0, idle = 0;
	struct mmn_sigmask saved;

	cache_lock(x->cache, &saved);
	for (i = 0; i < blocks->nr_fresh; i++) {
		nr += blocks->all[i].nr_regions;
		inserted += blocks->all[i].is_inserted;
		idle += blocks->all[i].is_inserted &&
			!blocks->all[i].nr_regions;
	}
	for (i = 0; i < x->cache->nr_fresh; i++)
		nr -= !!x->cache->regions[i].block;
	t_eq(nr, 0);
	t_eq(idle, blocks->nr_idle);
	cache_unlock(x->cache, &saved);
	t_le(inserted, subscriptions(x));
}

/* ------------------------------------------------------------------ */
/* Who shares                                                         */
/* ------------------------------------------------------------------ */

TEST(regions_of_one_block_share_a_subscription)
{
	struct mmn_cache_region *regions[5];
	struct fixture x;
	size_t i;

	set_up(&x);
	regions[0] = get(&x, 0, 1, READ);
	t_eq(subscriptions(&x), 1);
	regions[1] = get(&x, 1, 7, READ | WRITE);
	regions[2] = get(&x, 100, BLOCK_REGION_PAGES, READ);
	regions[3] = get(&x, BLOCK_PAGES - 1, 1, WRITE);
	t_eq(subscriptions(&x), 1);
	regions[4] = get(&x, BLOCK_PAGES, 1, READ);
	t_eq(subscriptions(&x), 2);
	for (i = 0; i < 5; i++) {
		t_ok(!is_single(regions[i]));
		t_eq(block_of(regions[i]) == block_of(regions[0]), i < 4);
	}
	t_eq(nr_regions(&x, block_of(regions[0])), 4);
	check_blocks(&x);
	for (i = 0; i < 5; i++)
		mmn_cache_put(x.cache, regions[i]);
	/* The subscription stays, for those who come again. */
	unmap_and_settle(&x, 0, BLOCK_PAGES + 1);
	t_eq(stats_of(&x).regions, 0);
	t_eq(subscriptions(&x), 2);
	t_eq(nr_idle(&x), 2);
	touch(&x, 9, 1, READ);
	t_eq(subscriptions(&x), 2);
	t_eq(nr_idle(&x), 1);
	check_blocks(&x);
	tear_down(&x);
}

static void expect_single(struct fixture *x, uintptr_t first, size_t pages,
			  uint32_t access)
{
	uint64_t before = subscriptions(x);
	struct mmn_cache_region *region = get(x, first, pages, access);

	t_ok(is_single(region));
	t_ok(!block_of(region));
	t_eq(subscriptions(x), before + 1);
	mmn_cache_put(x->cache, region);
	unmap_and_settle(x, first, pages);
	t_eq(subscriptions(x), before);
}

TEST(what_no_block_has_room_for_is_subscribed_for_itself)
{
	struct fixture x;

	set_up(&x);
	/* Across the end of one; large; both. */
	expect_single(&x, BLOCK_PAGES - 1, 2, READ);
	expect_single(&x, 5, BLOCK_REGION_PAGES + 1, READ);
	expect_single(&x, 5, 3 * BLOCK_PAGES, READ);
	t_eq(x.cache->blocks.nr_fresh, 0);
	tear_down(&x);
}

TEST(where_there_is_no_block_more_regions_are_subscribed_for_themselves)
{
	struct mmn_cache_config config = { .max_regions = 600 };
	struct mmn_cache_region *region;
	uintptr_t i, nr, single = 0;
	struct fixture x;

	set_up_with(&x, &config);
	nr = x.cache->blocks.nr_all;
	t_gt(nr, IDLE_LIMIT);
	t_gt(config.max_regions, nr);
	for (i = 0; i < config.max_regions; i++) {
		region = get(&x, i * BLOCK_PAGES, 1, READ);
		t_eq(is_single(region), i >= nr);
		single += is_single(region);
		mmn_cache_put(x.cache, region);
	}
	t_eq(subscriptions(&x), config.max_regions);
	unmap_and_settle(&x, 0, config.max_regions * BLOCK_PAGES);
	t_eq(stats_of(&x).invalidated, config.max_regions);
	t_eq(single, config.max_regions - nr);
	/* The worker removes the others. */
	until(subscriptions(&x) == IDLE_LIMIT);
	check_blocks(&x);
	tear_down(&x);
}

TEST(what_takes_the_place_of_others_is_subscribed_for_itself)
{
	struct mmn_cache_region *region;
	struct fixture x;

	set_up(&x);
	touch(&x, 0, 2, READ);
	/* Merged, and with more access. */
	region = get(&x, 1, 2, READ);
	t_eq(region->start, BASE);
	t_ok(is_single(region));
	t_ok(!block_of(region));
	mmn_cache_put(x.cache, region);
	touch(&x, 10, 1, READ);
	region = get(&x, 10, 1, WRITE);
	t_eq(region->access, READ | WRITE);
	t_ok(is_single(region));
	t_ok(!block_of(region));
	mmn_cache_put(x.cache, region);
	/* Where nobody else begins. */
	touch(&x, 20, 2, READ);
	region = get(&x, 19, 2, READ);
	t_eq(region->last, BASE + 22 * PAGE - 1);
	t_ok(is_single(region));
	t_ok(!block_of(region));
	mmn_cache_put(x.cache, region);
	t_eq(stats_of(&x).replaced, 3);
	unmap_and_settle(&x, 1, 20);
	t_eq(stats_of(&x).invalidated, 3);
	/* Nobody is in the way any more. */
	region = get(&x, 1, 2, READ);
	t_ok(!is_single(region));
	mmn_cache_put(x.cache, region);
	t_eq(subscriptions(&x), 1);
	check_blocks(&x);
	tear_down(&x);
}

/* The op of the founder gets another page, which it keeps in x->arg. */
static int get_another(struct fixture *x, struct mmn_cache_region *region)
{
	int step = x->step;

	(void)region;
	if (x->arg)
		return 0;
	/* Not again in the get inside. */
	x->arg = x;
	x->arg = get(x, 8, 2, READ);
	t_ok(is_single(x->arg));
	t_ok(!block_of(x->arg));
	return step;
}

static void found_and_get_another(int err)
{
	struct mmn_cache_region *founder = NULL, *other;
	struct fixture x;

	set_up(&x);
	x.script.in_register = get_another;
	x.step = err;
	t_err(mmn_cache_get(x.cache, BASE, PAGE, READ, &founder), err);
	other = x.arg;
	t_eq(subscriptions(&x), err ? 1 : 2);
	unmap(&x, 7, 1);
	unmap(&x, 10, 1);
	t_ok(mmn_cache_region_is_valid(other));
	unmap(&x, 8, 1);
	t_ok(!mmn_cache_region_is_valid(other));
	mmn_cache_put(x.cache, other);
	mmn_cache_put(x.cache, founder);
	/* From now on there is room. */
	touch(&x, 16, 1, READ);
	other = get(&x, 8, 2, READ);
	t_ok(!is_single(other));
	mmn_cache_put(x.cache, other);
	check_blocks(&x);
	tear_down(&x);
}

TEST(who_comes_while_the_founder_registers_is_subscribed_for_itself)
{
	found_and_get_another(0);
	found_and_get_another(-EIO);
}

static void expect_singles(struct mmn_cache_config *config)
{
	struct fixture x;

	set_up_with(&x, config);
	expect_single(&x, 0, 1, READ);
	touch(&x, 0, 1, READ);
	touch(&x, 1, 1, READ);
	touch(&x, 40, BLOCK_REGION_PAGES, READ);
	t_eq(subscriptions(&x), 3);
	t_eq(x.cache->blocks.nr_fresh, 0);
	tear_down(&x);
}

TEST(regions_of_a_cache_that_waits_for_fences_are_subscribed_for_themselves)
{
	struct mmn_cache_config config = { .wait_ns = 1,
					   .timeout_ns = FOR_EVER };

	expect_singles(&config);
}

TEST(regions_of_a_cache_that_tells_are_subscribed_for_themselves)
{
	struct mmn_cache_config config = { .ops = &telling_ops,
					   .timeout_ns = FOR_EVER };

	expect_singles(&config);
}

/* ------------------------------------------------------------------ */
/* What a change takes                                                */
/* ------------------------------------------------------------------ */

/* One region, and changes all around it. */
static void change_around(struct fixture *x, uintptr_t first, size_t pages,
			  size_t width)
{
	uintptr_t at = first > width ? first - width - 1 : 0;
	uintptr_t end = first + pages + 1;
	uint64_t key = touch(x, first, pages, READ);

	for (; at <= end; at++) {
		unmap(x, at, width);
		if (at < first + pages && at + width > first) {
			t_eq(stats_of(x).regions, 0);
			key++;
		}
		t_eq(touch(x, first, pages, READ), key);
	}
	unmap(x, first, pages);
}

TEST(a_change_takes_a_region_if_and_only_if_it_overlaps_it)
{
	static const size_t sizes[] = { 1, 2, 7, BLOCK_REGION_PAGES };
	static const uintptr_t ends[] = {
		0,
		WORD_PAGES - 1,
		WORD_PAGES,
		WORD_PAGES + 1,
		2 * WORD_PAGES,
		GROUP_PAGES,
		3 * GROUP_PAGES - 1,
		BLOCK_PAGES - GROUP_PAGES,
		BLOCK_PAGES,
		2 * BLOCK_PAGES,
	};
	struct fixture x;
	size_t i, j;

	set_up(&x);
	for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		for (j = 0; j < sizeof(ends) / sizeof(*ends); j++) {
			/* To begin at a border, to end there, to cross it. */
			change_around(&x, ends[j], sizes[i], 1);
			if (ends[j] < sizes[i])
				continue;
			change_around(&x, ends[j] - sizes[i], sizes[i], 1);
			change_around(&x, ends[j] - sizes[i] / 2, sizes[i], 3);
		}
	tear_down(&x);
}

TEST(a_change_that_is_wider_than_the_block_takes_all_of_it)
{
	static const struct {
		uintptr_t first;
		size_t pages;
	} changes[] = {
		{ BLOCK_PAGES, BLOCK_PAGES },	  { 0, 4 * BLOCK_PAGES },
		{ BLOCK_PAGES - 1, BLOCK_PAGES }, { 1, 2 * BLOCK_PAGES - 1 },
		{ BLOCK_PAGES, 5 * BLOCK_PAGES },
	};
	struct fixture x;
	size_t i;

	set_up(&x);
	for (i = 0; i < sizeof(changes) / sizeof(*changes); i++) {
		touch(&x, BLOCK_PAGES, 7, READ);
		touch(&x, BLOCK_PAGES + 600, 1, READ);
		touch(&x, 2 * BLOCK_PAGES - 2, 1, READ);
		t_eq(stats_of(&x).regions, 3);
		unmap(&x, changes[i].first, changes[i].pages);
		t_eq(stats_of(&x).regions, 0);
	}
	tear_down(&x);
}

/* What should be there: a list. */
enum { LISTED = 48, AREA = 3 * BLOCK_PAGES };

static struct mmn_cache_region *listed[LISTED];
static size_t nr_listed;

static uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static bool overlaps(const struct mmn_cache_region *region, uintptr_t first,
		     size_t pages)
{
	return region->start <= BASE + (first + pages) * PAGE - 1 &&
	       region->last >= BASE + first * PAGE;
}

/* Mostly around borders of words, groups and blocks, so that they come close. */
static uintptr_t random_page(uint64_t random)
{
	static const uintptr_t borders[] = {
		WORD_PAGES,
		GROUP_PAGES,
		BLOCK_PAGES - GROUP_PAGES,
		BLOCK_PAGES,
		BLOCK_PAGES + GROUP_PAGES,
		2 * BLOCK_PAGES,
	};

	if (!(random >> 40 & 7))
		return random % AREA;
	return borders[(random >> 33) % ARRAY_SIZE(borders)] - WORD_PAGES +
	       (random >> 44) % 72;
}

static void list_one(struct fixture *x, uint64_t random)
{
	static const size_t sizes[] = { 1, 2, 7, BLOCK_REGION_PAGES };
	size_t pages = sizes[random >> 50 & 3], i;
	uintptr_t first = random_page(random);

	if (nr_listed == LISTED)
		return;
	for (i = 0; i < nr_listed; i++)
		if (overlaps(listed[i], first, pages))
			return;
	listed[nr_listed++] =
		get(x, first, pages, random >> 52 & 1 ? READ : READ | WRITE);
}

static void change_listed(struct fixture *x, uint64_t random)
{
	uint32_t event =
		random >> 51 & 1 ? MMN_EVENT_UNMAP : MMN_EVENT_PROTECTION_VMA;
	uintptr_t first = random_page(random >> 3);
	size_t pages, i, kept = 0;

	switch (random >> 54 & 63) {
	case 0:
		pages = BLOCK_PAGES + (random >> 32) % (2 * BLOCK_PAGES);
		break;
	case 1 ... 7:
		pages = 1 + (random >> 32) % 70;
		break;
	default:
		pages = 1 + (random >> 32) % 3;
	}
	change(x, event, first, pages);
	for (i = 0; i < nr_listed; i++) {
		bool gone =
			overlaps(listed[i], first, pages) &&
			(event == MMN_EVENT_UNMAP || listed[i]->access & WRITE);

		t_eq(mmn_cache_region_is_valid(listed[i]), !gone);
		if (gone)
			mmn_cache_put(x->cache, listed[i]);
		else
			listed[kept++] = listed[i];
	}
	nr_listed = kept;
	t_eq(stats_of(x).regions, nr_listed);
}

TEST(changes_at_random_take_what_a_list_says)
{
	struct mmn_cache_config config = { .max_regions = 4096,
					   .timeout_ns = FOR_EVER };
	uint64_t seed = 88172645463325252;
	struct fixture x;
	int i;

	set_up_with(&x, &config);
	nr_listed = 0;
	for (i = 0; i < 3000; i++) {
		list_one(&x, next_random(&seed));
		list_one(&x, next_random(&seed));
		change_listed(&x, next_random(&seed));
	}
	t_gt(stats_of(&x).invalidated, 500);
	t_eq(stats_of(&x).collisions, 0);
	check_blocks(&x);
	while (nr_listed)
		mmn_cache_put(x.cache, listed[--nr_listed]);
	tear_down(&x);
}

TEST(a_lost_permission_takes_the_regions_of_a_block_that_may_be_written)
{
	struct mmn_cache_region *regions[3];
	struct fixture x;
	size_t i;

	set_up(&x);
	regions[0] = get(&x, 0, 3, READ);
	regions[1] = get(&x, 3, 3, WRITE);
	regions[2] = get(&x, 6, 3, READ | WRITE);
	change(&x, MMN_EVENT_PROTECTION_VMA, 0, 3);
	change(&x, MMN_EVENT_PROTECTION_PAGE, 0, BLOCK_PAGES);
	change(&x, MMN_EVENT_SOFT_DIRTY, 0, BLOCK_PAGES);
	t_eq(stats_of(&x).regions, 3);
	change(&x, MMN_EVENT_PROTECTION_VMA, 0, 6);
	t_ok(mmn_cache_region_is_valid(regions[0]));
	t_ok(!mmn_cache_region_is_valid(regions[1]));
	t_ok(mmn_cache_region_is_valid(regions[2]));
	change(&x, MMN_EVENT_PROTECTION_VMA, 0, BLOCK_PAGES);
	t_ok(mmn_cache_region_is_valid(regions[0]));
	t_ok(!mmn_cache_region_is_valid(regions[2]));
	for (i = 0; i < 3; i++)
		mmn_cache_put(x.cache, regions[i]);
	/* The same page, with less access: what is noted of it is new. */
	unmap_and_settle(&x, 0, 9);
	t_eq(touch(&x, 3, 3, READ), 4);
	change(&x, MMN_EVENT_PROTECTION_VMA, 0, BLOCK_PAGES);
	t_eq(touch(&x, 3, 3, READ), 4);
	tear_down(&x);
}

/* ------------------------------------------------------------------ */
/* Changes that are open                                              */
/* ------------------------------------------------------------------ */

static void get_beside_a_change(struct fixture *x, uintptr_t first)
{
	struct mmn_cache_region *left, *right;
	struct mmn_invalidate_desc desc;
	struct block *block;

	change_begin(x, &desc, MMN_EVENT_UNMAP, first + 10, 1);
	left = get(x, first + 8, 2, READ);
	right = get(x, first + 11, 2, READ);
	t_ok(is_single(left));
	t_ok(is_single(right));
	block = block_of(left);
	t_ok(block);
	/* While it is open, and afterwards. */
	unmap(x, first + 10, 1);
	unmap(x, first + 7, 1);
	unmap(x, first + 13, 1);
	t_ok(mmn_cache_region_is_valid(left));
	t_ok(mmn_cache_region_is_valid(right));
	unmap(x, first + 9, 1);
	t_ok(!mmn_cache_region_is_valid(left));
	t_err(mmn_invalidate_end(&desc), 0);
	unmap(x, first + 10, 1);
	t_ok(mmn_cache_region_is_valid(right));
	unmap(x, first + 11, 1);
	t_ok(!mmn_cache_region_is_valid(right));
	mmn_cache_put(x->cache, left);
	mmn_cache_put(x->cache, right);
	settle(x);
	until(stats_of(x).quarantined == 0);
	/* Again without one: shared. */
	left = get(x, first + 8, 2, READ);
	t_ok(!is_single(left));
	t_ok(block_of(left) == block);
	mmn_cache_put(x->cache, left);
}

TEST(a_get_beside_an_open_change_is_subscribed_for_itself_at_once)
{
	struct fixture x;

	set_up(&x);
	touch(&x, 0, 1, READ);
	get_beside_a_change(&x, 0);
	t_eq(subscriptions(&x), 1);
	/* Where the block is new. */
	get_beside_a_change(&x, BLOCK_PAGES);
	t_eq(subscriptions(&x), 2);
	t_eq(stats_of(&x).collisions, 0);
	t_eq(stats_of(&x).failed, 0);
	check_blocks(&x);
	tear_down(&x);
}

struct change_to_make {
	uintptr_t first;
	size_t pages;
};

/* The first time only. */
static int change_inside(struct fixture *x, struct mmn_cache_region *region)
{
	const struct change_to_make *what = x->arg;

	(void)region;
	if (atomic_fetch_add(&x->step, 1) == 0)
		unmap(x, what->first, what->pages);
	return 0;
}

static void get_with_change_inside(struct fixture *x, uintptr_t first,
				   struct change_to_make what, bool collides)
{
	uint64_t before = stats_of(x).collisions;
	struct mmn_cache_region *region;

	x->script.in_register = change_inside;
	x->arg = &what;
	x->step = 0;
	region = get(x, first, 4, READ);
	t_eq(stats_of(x).collisions - before, collides);
	t_eq(x->step, 1 + collides);
	t_ok(mmn_cache_region_is_valid(region));
	x->script.in_register = NULL;
	unmap(x, first + 3, 1);
	t_ok(!mmn_cache_region_is_valid(region));
	mmn_cache_put(x->cache, region);
	settle(x);
}

TEST(only_a_change_of_its_own_pages_makes_a_registration_start_over)
{
	struct mmn_invalidate_desc desc;
	struct fixture x;
	int i;

	set_up(&x);
	for (i = 0; i < 3; i++) {
		uintptr_t first = 40;

		/* New blocks first, then one that is there. */
		get_with_change_inside(&x, first + i % 2 * BLOCK_PAGES,
				       (struct change_to_make){ 39, 1 }, false);
		get_with_change_inside(
			&x, first, (struct change_to_make){ 44, 600 }, false);
		get_with_change_inside(&x, first,
				       (struct change_to_make){ 43, 1 }, true);
		get_with_change_inside(&x, first,
				       (struct change_to_make){ 0, 41 }, true);
		get_with_change_inside(
			&x, first,
			(struct change_to_make){ 0, 2 * BLOCK_PAGES }, true);
	}
	get_with_change_inside(
		&x, 5 * BLOCK_PAGES + 40,
		(struct change_to_make){ 5 * BLOCK_PAGES + 40, 1 }, true);
	/* The same of one that is subscribed for itself besides. */
	change_begin(&x, &desc, MMN_EVENT_UNMAP, 900, 1);
	get_with_change_inside(&x, 40, (struct change_to_make){ 44, 1 }, false);
	get_with_change_inside(&x, 40, (struct change_to_make){ 42, 1 }, true);
	t_err(mmn_invalidate_end(&desc), 0);
	check_blocks(&x);
	tear_down(&x);
}

/* ------------------------------------------------------------------ */
/* Failures                                                           */
/* ------------------------------------------------------------------ */

static int fail_to_register(struct fixture *x, struct mmn_cache_region *region)
{
	(void)x;
	(void)region;
	return -EIO;
}

static void fail_to_get(struct fixture *x, uintptr_t first, size_t pages)
{
	struct mmn_cache_region *region = NULL;

	x->script.in_register = fail_to_register;
	t_err(mmn_cache_get(x->cache, BASE + first * PAGE, pages * PAGE, READ,
			    &region),
	      -EIO);
	t_ok(!region);
	x->script.in_register = NULL;
}

TEST(a_registration_that_fails_leaves_nothing_behind)
{
	struct mmn_cache_region *first, *second;
	struct mmn_invalidate_desc desc;
	struct fixture x;

	set_up(&x);
	/* Who founds the block. */
	fail_to_get(&x, 3, 2);
	t_eq(nr_idle(&x), 0);
	t_eq(subscriptions(&x), 0);
	check_blocks(&x);
	fail_to_get(&x, 3, 2);
	first = get(&x, 3, 2, READ);
	t_ok(!is_single(first));
	t_eq(subscriptions(&x), 1);
	t_eq(nr_regions(&x, block_of(first)), 1);
	/* Who comes to it. */
	fail_to_get(&x, 0, 3);
	fail_to_get(&x, 5, BLOCK_REGION_PAGES);
	t_eq(nr_regions(&x, block_of(first)), 1);
	change_begin(&x, &desc, MMN_EVENT_UNMAP, 900, 1);
	fail_to_get(&x, 0, 3);
	t_err(mmn_invalidate_end(&desc), 0);
	t_eq(nr_regions(&x, block_of(first)), 1);
	t_eq(mmn_load_relaxed(&block_of(first)->begins[0]), 1 << 3);
	t_eq(mmn_load_relaxed(&block_of(first)->begins[1]), 0);
	second = get(&x, 0, 1, READ);
	t_ok(!is_single(second));
	t_eq(nr_regions(&x, block_of(second)), 2);
	t_eq(subscriptions(&x), 1);
	/* The page of one that failed: nobody is marked by it. */
	unmap(&x, 1, 2);
	unmap(&x, 5, 60);
	t_ok(mmn_cache_region_is_valid(first));
	t_ok(mmn_cache_region_is_valid(second));
	t_eq(stats_of(&x).failed, 5);
	check_blocks(&x);
	mmn_cache_put(x.cache, first);
	mmn_cache_put(x.cache, second);
	tear_down(&x);
}

TEST(nothing_is_got_in_a_state_that_was_released)
{
	struct mmn_cache_region *held, *region = NULL;
	struct fixture x;

	set_up(&x);
	touch(&x, 0, 1, READ);
	unmap_and_settle(&x, 0, 1);
	held = get(&x, BLOCK_PAGES, 1, READ);
	t_eq(nr_idle(&x), 1);
	t_err(mmn_state_release(x.state), 0);
	/* In a block that is idle, in one that is used, in a new one. */
	t_err(mmn_cache_get(x.cache, BASE, PAGE, READ, &region), -EINVAL);
	t_err(mmn_cache_get(x.cache, BASE + (BLOCK_PAGES + 1) * PAGE, PAGE,
			    READ, &region),
	      -EINVAL);
	t_err(mmn_cache_get(x.cache, BASE + 2 * BLOCK_PAGES * PAGE, PAGE, READ,
			    &region),
	      -EINVAL);
	t_ok(!region);
	t_eq(x.registered, 2);
	t_eq(stats_of(&x).pinned_bytes, PAGE);
	t_eq(nr_regions(&x, block_of(held)), 1);
	t_eq(nr_idle(&x), 1);
	check_blocks(&x);
	mmn_cache_put(x.cache, held);
	until(nr_idle(&x) == 2);
	tear_down(&x);
}

static int release_state(struct fixture *x, struct mmn_cache_region *region)
{
	(void)region;
	if (atomic_fetch_add(&x->step, 1) == 0)
		t_err(mmn_state_release(x->state), 0);
	return 0;
}

/* Nobody calls back for it: the number of the sequence tells. */
TEST(a_state_that_is_released_inside_a_registration_spoils_it)
{
	struct mmn_cache_region *region = NULL;
	struct fixture x;

	set_up(&x);
	touch(&x, 0, 1, READ);
	x.script.in_register = release_state;
	t_err(mmn_cache_get(x.cache, BASE + 5 * PAGE, PAGE, READ, &region),
	      -EINVAL);
	t_eq(x.step, 1);
	t_eq(stats_of(&x).collisions, 1);
	tear_down(&x);
}

/* ------------------------------------------------------------------ */
/* Idle blocks                                                        */
/* ------------------------------------------------------------------ */

/* Does a get there find the subscription of the block? */
static bool finds_block(struct fixture *x, uintptr_t block)
{
	uint64_t before = subscriptions(x);

	touch(x, block * BLOCK_PAGES, 1, READ);
	return subscriptions(x) == before;
}

TEST(idle_blocks_are_kept_up_to_a_limit_and_the_oldest_go_first)
{
	struct mmn_state *state;
	uintptr_t i, nr = IDLE_LIMIT + 44;
	struct fixture x;

	set_up(&x);
	for (i = 0; i < nr; i++) {
		touch(&x, i * BLOCK_PAGES, 1, READ);
		unmap_and_settle(&x, i * BLOCK_PAGES, 1);
		t_le(nr_idle(&x), i + 1);
	}
	until(nr_idle(&x) == IDLE_LIMIT);
	until(subscriptions(&x) == IDLE_LIMIT);
	check_blocks(&x);
	t_ok(finds_block(&x, nr - 1));
	t_ok(finds_block(&x, nr - IDLE_LIMIT));
	t_ok(!finds_block(&x, nr - IDLE_LIMIT - 1));
	t_ok(!finds_block(&x, 0));
	t_eq(nr_idle(&x), IDLE_LIMIT - 2);
	/* Those that are used are no idle ones: all of them may stay. */
	for (i = 0; i < nr; i++)
		touch(&x, i * BLOCK_PAGES, 1, READ);
	t_eq(nr_idle(&x), 0);
	t_eq(subscriptions(&x), nr);
	/* Those that are removed are used again. */
	t_le(x.cache->blocks.nr_fresh, nr + 1);
	state = mmn_state_get(x.state);
	tear_down(&x);
	x.state = state;
	t_eq(subscriptions(&x), 0);
	mmn_state_put(state);
}

static uint32_t nr_worn(struct fixture *x)
{
	/* relaxed: looked at only */
	return mmn_load_relaxed(&x->cache->blocks.nr_worn);
}

static void change_in_vain(struct fixture *x, uint32_t times)
{
	while (times--)
		unmap(x, 500, 3);
}

TEST(an_idle_block_that_changes_call_in_vain_goes)
{
	struct fixture x;
	int i;

	set_up(&x);
	touch(&x, 0, 1, READ);
	change_in_vain(&x, 3 * IDLE_CALLS);
	unmap_and_settle(&x, 0, 1);
	change_in_vain(&x, IDLE_CALLS - 1);
	t_eq(subscriptions(&x), 1);
	/* Used again, and again called in vain. */
	touch(&x, 9, 1, READ);
	unmap_and_settle(&x, 9, 1);
	change_in_vain(&x, IDLE_CALLS - 1);
	t_eq(nr_idle(&x), 1);
	change_in_vain(&x, 1);
	until(!subscriptions(&x));
	t_eq(nr_idle(&x), 0);
	t_eq(nr_worn(&x), 0);
	check_blocks(&x);
	/* One of several, and one that is used before the worker comes. */
	for (i = 0; i < 5; i++)
		touch(&x, (uintptr_t)i * BLOCK_PAGES, 1, READ);
	unmap_and_settle(&x, 0, 5 * BLOCK_PAGES);
	t_eq(nr_idle(&x), 5);
	change_in_vain(&x, IDLE_CALLS);
	touch(&x, 0, 1, READ);
	until(subscriptions(&x) == 5 && !nr_worn(&x));
	t_eq(nr_idle(&x), 4);
	check_blocks(&x);
	tear_down(&x);
}

TEST(registrations_that_fail_do_not_pile_up_blocks)
{
	struct fixture x;
	uintptr_t i;

	set_up(&x);
	for (i = 0; i < 2 * IDLE_LIMIT; i++)
		fail_to_get(&x, i * BLOCK_PAGES, 1);
	t_le(nr_idle(&x), IDLE_LIMIT);
	t_le(subscriptions(&x), IDLE_LIMIT);
	tear_down(&x);
}

/* One that may have few regions has room for idle blocks all the same. */
TEST(idle_blocks_are_in_nobodys_way)
{
	struct mmn_cache_config config = { .max_regions = 4,
					   .timeout_ns = FOR_EVER };
	struct mmn_cache_region *region;
	struct fixture x;
	uintptr_t i;

	set_up_with(&x, &config);
	for (i = 0; i < 3 * IDLE_LIMIT; i++) {
		region = get(&x, i * BLOCK_PAGES, 1, READ);
		t_ok(block_of(region));
		mmn_cache_put(x.cache, region);
		unmap_and_settle(&x, i * BLOCK_PAGES, 1);
	}
	until(subscriptions(&x) == IDLE_LIMIT);
	tear_down(&x);
}

/* ------------------------------------------------------------------ */
/* Pages and numbers that are used again                              */
/* ------------------------------------------------------------------ */

TEST(a_page_may_be_got_again_while_what_began_there_is_held)
{
	struct mmn_cache_region *first, *second, *third;
	struct fixture x;

	set_up(&x);
	first = get(&x, 8, BLOCK_REGION_PAGES, READ);
	unmap(&x, 39, 1);
	t_ok(!mmn_cache_region_is_valid(first));
	second = get(&x, 8, 2, READ);
	t_ok(second != first);
	t_ok(block_of(second) == block_of(first));
	t_ok(!is_single(second));
	t_eq(nr_regions(&x, block_of(first)), 2);
	/* Pages of the first one only. */
	unmap(&x, 10, 30);
	t_ok(mmn_cache_region_is_valid(second));
	unmap(&x, 9, 1);
	t_ok(!mmn_cache_region_is_valid(second));
	third = get(&x, 8, 1, READ);
	unmap(&x, 9, 1);
	t_ok(mmn_cache_region_is_valid(third));
	unmap(&x, 8, 1);
	settle(&x);
	t_eq(x.deregistered, 0);
	t_eq(stats_of(&x).quarantined, 3);
	t_eq(mmn_load_relaxed(&block_of(first)->begins[0]), 0);
	mmn_cache_put(x.cache, third);
	mmn_cache_put(x.cache, first);
	mmn_cache_put(x.cache, second);
	until(x.deregistered == 3);
	until(nr_idle(&x) == 1);
	t_eq(stats_of(&x).invalidated, 3);
	check_blocks(&x);
	tear_down(&x);
}

/* A change that was interrupted as it has marked a region: first half, second. */
static void mark(struct mmn_cache_region *region)
{
	struct region *marked = region_of(region);

	t_eq(mmn_fetch_or_acq_rel(&marked->state, REGION_GONE), REGION_LIVE);
	index_hide(&marked->cache->index, region->start, region->last,
		   region_index(marked));
}

static void hand_over(struct mmn_cache_region *region)
{
	struct region *marked = region_of(region), *top = NULL;

	marked->next_dead = NULL;
	t_ok(mmn_cmpxchg_release(&marked->cache->dead, &top, marked));
	cache_ring(marked->cache);
}

TEST(a_page_may_be_got_again_before_what_began_there_has_left)
{
	struct mmn_cache_region *first, *second;
	struct fixture x;

	set_up(&x);
	first = get(&x, 8, 4, READ);
	mark(first);
	second = get(&x, 8, 2, READ);
	t_ok(second != first);
	t_ok(is_single(second));
	t_ok(!block_of(second));
	hand_over(first);
	mmn_cache_put(x.cache, first);
	until(x.deregistered == 1);
	t_ok(mmn_cache_region_is_valid(second));
	unmap(&x, 10, 2);
	t_ok(mmn_cache_region_is_valid(second));
	unmap(&x, 9, 1);
	t_ok(!mmn_cache_region_is_valid(second));
	mmn_cache_put(x.cache, second);
	t_eq(stats_of(&x).invalidated, 2);
	check_blocks(&x);
	tear_down(&x);
}

/* Of the same number there is one region only. */
static void move_region(struct fixture *x, uintptr_t from, uintptr_t to)
{
	struct mmn_cache_region *old = get(x, from, 2, READ), *region;

	mmn_cache_put(x->cache, old);
	unmap_and_settle(x, from + 1, 1);
	region = get(x, to, 2, READ);
	t_ok(region == old);
	unmap(x, from, 2);
	unmap(x, from - 1, 4);
	t_ok(mmn_cache_region_is_valid(region));
	unmap(x, to + 1, 1);
	t_ok(!mmn_cache_region_is_valid(region));
	mmn_cache_put(x->cache, region);
	settle(x);
}

TEST(a_number_that_is_used_again_is_not_hit_at_its_old_place)
{
	struct mmn_cache_config config = { .max_regions = 1,
					   .timeout_ns = FOR_EVER };
	struct fixture x;

	set_up_with(&x, &config);
	move_region(&x, 40, BLOCK_PAGES + 40);
	move_region(&x, 40, 80);
	/* Back, and to where it is subscribed for itself. */
	move_region(&x, BLOCK_PAGES + 40, 40);
	move_region(&x, 40, 2 * BLOCK_PAGES - 1);
	check_blocks(&x);
	tear_down(&x);
}

/* ------------------------------------------------------------------ */
/* Threads                                                            */
/* ------------------------------------------------------------------ */

enum {
	THREAD_PAGES = 96,
	GETTERS = 2,
	CHANGERS = 2,
	GETS = 8000,
	/* For each change, and how far the getters may be ahead. */
	GETS_FOR_A_CHANGE = 4,
	LEAD = 40,
};

struct ages {
	uint64_t age[THREAD_PAGES];
};

static struct world {
	struct fixture x;
	/* Raised inside each change. */
	_Atomic uint64_t age[THREAD_PAGES];
	_Atomic uint64_t gets;
	_Atomic uint64_t changes;
	_Atomic int getters;
	_Atomic uint64_t stale;
	/* Registrations: in a block, beside a change there, in none. */
	_Atomic uint64_t shared;
	_Atomic uint64_t beside;
	_Atomic uint64_t single;
} world;

static size_t world_page(uintptr_t addr)
{
	return (addr - BASE) / PAGE;
}

static int note_ages(void *arg, struct mmn_cache_region *region)
{
	struct ages *ages = calloc(1, sizeof(*ages));
	size_t i;

	(void)arg;
	if (!ages)
		return -ENOMEM;
	if (!block_of(region))
		world.single++;
	else if (is_single(region))
		world.beside++;
	else
		world.shared++;
	for (i = world_page(region->start); i <= world_page(region->last); i++)
		/* relaxed: what orders it is what is being tested */
		ages->age[i] = atomic_load_explicit(&world.age[i],
						    memory_order_relaxed);
	region->data = ages;
	/* For changes to come in between. */
	if (ages->age[world_page(region->start)] % 4 == 1)
		sched_yield();
	return 0;
}

static struct dma_fence *forget_ages(void *arg, struct mmn_cache_region *region)
{
	(void)arg;
	memset(region->data, 0, sizeof(struct ages));
	free(region->data);
	return NULL;
}

static const struct mmn_cache_ops aging_ops = {
	.register_region = note_ages,
	.deregister_region = forget_ages,
};

/* One of twelve places of eight pages; now and then they are merged. */
static void get_one(uint64_t random)
{
	size_t pages = 1 + (random >> 32) % 8, i;
	size_t first = random % 12 * 8 + (random >> 20 & 31 ? 0 : 5);
	struct mmn_cache_region *region = NULL;
	uint64_t before[8];
	const struct ages *ages;

	if (first + pages > THREAD_PAGES)
		pages = THREAD_PAGES - first;
	for (i = 0; i < pages; i++)
		/* relaxed: what orders it is what is being tested */
		before[i] = atomic_load_explicit(&world.age[first + i],
						 memory_order_relaxed);
	t_err(mmn_cache_get(world.x.cache, BASE + first * PAGE, pages * PAGE,
			    READ, &region),
	      0);
	ages = region->data;
	for (i = 0; i < pages; i++)
		if (ages->age[first + i] < before[i])
			world.stale++;
	mmn_cache_put(world.x.cache, region);
}

/* Every other one is where nothing is, in the same block. */
static void change_one(uint64_t random)
{
	size_t pages = 1 + (random >> 32) % 3, i;
	size_t first = random % (THREAD_PAGES - 2);
	struct mmn_invalidate_desc desc;
	bool elsewhere = random >> 40 & 1;

	change_begin(&world.x, &desc, MMN_EVENT_UNMAP,
		     first + (elsewhere ? THREAD_PAGES : 0), pages);
	/* For gets to come in between. */
	if (!(random >> 41 & 3))
		sched_yield();
	for (i = 0; i < pages && !elsewhere; i++)
		/* relaxed: what orders it is what is being tested */
		atomic_fetch_add_explicit(&world.age[first + i], 1,
					  memory_order_relaxed);
	t_err(mmn_invalidate_end(&desc), 0);
}

static void *get_many(void *arg)
{
	uint64_t seed = (uintptr_t)arg;
	int i;

	for (i = 0; i < GETS; i++) {
		until(world.gets < world.changes * GETS_FOR_A_CHANGE + LEAD);
		get_one(next_random(&seed));
		world.gets++;
	}
	world.getters--;
	return NULL;
}

static void *change_many(void *arg)
{
	uint64_t seed = (uintptr_t)arg;

	while (world.getters) {
		if (world.changes * GETS_FOR_A_CHANGE > world.gets) {
			sched_yield();
			continue;
		}
		change_one(next_random(&seed));
		world.changes++;
	}
	return NULL;
}

TEST(what_threads_get_in_one_block_is_never_older_than_the_memory)
{
	struct mmn_cache_config config = { .size = sizeof(config),
					   .ops = &aging_ops,
					   .max_regions = 64,
					   .timeout_ns = FOR_EVER };
	pthread_t threads[GETTERS + CHANGERS];
	struct fixture *x = &world.x;
	uintptr_t i;

	memset(&world, 0, sizeof(world));
	set_up_with(x, &config);
	world.getters = GETTERS;
	for (i = 0; i < GETTERS + CHANGERS; i++)
		t_err(pthread_create(&threads[i], NULL,
				     i < GETTERS ? get_many : change_many,
				     (void *)(88172645463325252 + i)),
		      0);
	for (i = 0; i < GETTERS + CHANGERS; i++)
		t_err(pthread_join(threads[i], NULL), 0);
	t_note("%llu shared, %llu beside a change, %llu single, "
	       "%llu collisions, %llu invalidated",
	       (unsigned long long)world.shared,
	       (unsigned long long)world.beside,
	       (unsigned long long)world.single,
	       (unsigned long long)stats_of(x).collisions,
	       (unsigned long long)stats_of(x).invalidated);
	t_eq(world.stale, 0);
	t_gt(world.shared, 0);
	t_gt(world.single, 0);
	unmap_and_settle(x, 0, THREAD_PAGES);
	t_eq(stats_of(x).quarantined, 0);
	t_eq(stats_of(x).registered, stats_of(x).deregistered);
	t_eq(subscriptions(x), 1);
	t_eq(nr_idle(x), 1);
	check_blocks(x);
	tear_down(x);
}

/* ------------------------------------------------------------------ */
/* Waiting for callbacks                                              */
/* ------------------------------------------------------------------ */

static struct waiting {
	struct fixture x;
	struct mmn_range_subscription sub;
	struct mmn_mutex lock;
	_Atomic uint32_t called;
} waiting;

static bool take_driver_lock(struct mmn_range_subscription *sub,
			     const struct mmn_invalidate_desc *desc,
			     uint64_t cur_seq)
{
	(void)desc;
	mmn_mutex_lock(&waiting.lock);
	mmn_range_set_seq(sub, cur_seq);
	mmn_mutex_unlock(&waiting.lock);
	waiting.called++;
	return true;
}

static const struct mmn_range_ops driver_ops = {
	.invalidate = take_driver_lock,
};

static void subscribe_driver(struct fixture *x)
{
	struct mmn_range_config config = {
		.size = sizeof(config),
		.flags = MMN_RANGE_INTERRUPTIBLE,
		.ops = &driver_ops,
		.lock = mmn_driver_no_lock(),
	};

	mmn_mutex_init(&waiting.lock, MMN_RANK_DRIVER);
	t_err(mmn_range_subscription_init(&waiting.sub, &config), 0);
	t_err(mmn_range_subscription_insert(&waiting.sub, x->state,
					    BASE + 8 * BLOCK_PAGES * PAGE,
					    BASE + 9 * BLOCK_PAGES * PAGE - 1),
	      0);
}

static void change_elsewhere(int signal)
{
	struct mmn_invalidate_desc desc;

	(void)signal;
	mmn_invalidate_desc_init(&desc, waiting.x.state, MMN_EVENT_UNMAP,
				 BASE + 8 * BLOCK_PAGES * PAGE,
				 BASE + (8 * BLOCK_PAGES + 1) * PAGE - 1);
	if (mmn_invalidate_start(&desc) || mmn_invalidate_end(&desc))
		abort();
}

static void *fail_in_a_thread(void *arg)
{
	fail_to_get(arg, 5, 1);
	return NULL;
}

/*
 * A callback that does not end, by its count.  The handler is a subscriber's way
 * into a lock that is above the one that is held by who waits.
 */
TEST(a_handler_may_interrupt_who_waits_for_callbacks)
{
	struct sigaction action = { .sa_handler = change_elsewhere };
	struct fixture *x = &waiting.x;
	struct mmn_cache_region *held;
	struct block *block;
	pthread_t thread;
	int i;

	if (T_TSAN)
		t_skip("it runs handlers where all signals are blocked");
	set_up(x);
	subscribe_driver(x);
	t_eq(sigaction(SIGUSR1, &action, NULL), 0);
	held = get(x, 0, 1, READ);
	block = block_of(held);
	mmn_fetch_add_acq_rel(&block->word, BLOCK_CALLER(0));
	t_err(pthread_create(&thread, NULL, fail_in_a_thread, x), 0);
	until(mmn_load_relaxed(&x->cache->blocks.phase));
	t_err(pthread_kill(thread, SIGUSR1), 0);
	for (i = 0; i < 100 && !waiting.called; i++)
		sched_yield();
	/* It waits as long as that. */
	t_eq(nr_regions(x, block), 2);
	mmn_fetch_sub_release(&block->word, BLOCK_CALLER(0));
	t_err(pthread_join(thread, NULL), 0);
	t_eq(waiting.called, 1);
	t_eq(nr_regions(x, block), 1);
	mmn_cache_put(x->cache, held);
	t_err(mmn_range_subscription_remove(&waiting.sub), 0);
	mmn_mutex_fini(&waiting.lock);
	tear_down(x);
}
