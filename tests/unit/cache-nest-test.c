/* SPDX-License-Identifier: MIT */
/*
 * Ops and callbacks that change memory, get and put themselves.
 */
#include "unit/cache-help.h"

static int get_another(struct fixture *x, struct mmn_cache_region *region)
{
	uintptr_t first = (region->start - BASE) / PAGE;

	/* Each registers the one after it, ten deep. */
	if (first < 100)
		touch(x, first + 10, 1, READ);
	return 0;
}

TEST(registering_may_get_other_regions)
{
	struct fixture x;

	set_up(&x);
	x.script.in_register = get_another;
	touch(&x, 0, 1, READ);
	t_eq(stats_of(&x).regions, 11);
	tear_down(&x);
}

static int get_the_same(struct fixture *x, struct mmn_cache_region *region)
{
	struct mmn_cache_region *again = NULL;

	t_err(mmn_cache_get(x->cache, region->last, 2, READ, &again), -EDEADLK);
	t_ok(!again);
	return 0;
}

TEST(registering_may_not_get_what_is_being_registered)
{
	struct fixture x;

	set_up(&x);
	x.script.in_register = get_the_same;
	touch(&x, 0, 1, READ);
	tear_down(&x);
}

static int change_others(struct fixture *x, struct mmn_cache_region *region)
{
	if (region->start == BASE)
		unmap(x, 10, 1);
	return 0;
}

TEST(registering_may_change_other_regions)
{
	struct fixture x;

	set_up(&x);
	x.script.in_register = change_others;
	touch(&x, 10, 1, READ);
	touch(&x, 0, 1, READ);
	t_eq(stats_of(&x).invalidated, 1);
	t_eq(stats_of(&x).collisions, 0);
	tear_down(&x);
}

/* In the cache's own thread: changes, gets, puts, and asks what it must not. */
static struct dma_fence *busy_deregister(struct fixture *x,
					 struct mmn_cache_region *region)
{
	if (region->start != BASE)
		return NULL;
	t_err(mmn_cache_purge(x->cache, 0, 0), -EDEADLK);
	unmap(x, 10, 1);
	unmap(x, 0, 1);
	touch(x, 20, 1, READ);
	return NULL;
}

TEST(deregistering_may_change_get_and_put)
{
	struct fixture x;

	set_up(&x);
	x.script.in_deregister = busy_deregister;
	touch(&x, 0, 1, READ);
	touch(&x, 10, 1, READ);
	unmap(&x, 0, 1);
	until(x.deregistered == 2);
	settle(&x);
	t_eq(stats_of(&x).regions, 1);
	tear_down(&x);
}

/* A subscriber beside the cache, in the middle of a change. */
struct bystander {
	struct mmn_range_subscription sub;
	struct fixture *x;
	int calls;
};

static bool get_in_callback(struct mmn_range_subscription *sub,
			    const struct mmn_invalidate_desc *desc,
			    uint64_t cur_seq)
{
	struct bystander *b = (struct bystander *)sub;
	struct mmn_cache_region *region = NULL;

	(void)desc;
	mmn_range_set_seq(sub, cur_seq);
	b->calls++;
	t_err(mmn_cache_get(b->x->cache, BASE, 1, READ, &region), 0);
	mmn_cache_put(b->x->cache, region);
	t_err(mmn_cache_get(b->x->cache, BASE + 50 * PAGE, 1, READ, &region),
	      -EDEADLK);
	t_err(mmn_cache_purge(b->x->cache, 0, 0), -EDEADLK);
	return true;
}

static const struct mmn_range_ops bystander_ops = {
	.invalidate = get_in_callback,
};

TEST(callbacks_get_what_is_there)
{
	struct mmn_range_config config = { .size = sizeof(config),
					   .ops = &bystander_ops,
					   .lock = mmn_driver_no_lock() };
	struct bystander b = { .calls = 0 };
	struct fixture x;

	set_up(&x);
	b.x = &x;
	touch(&x, 0, 1, READ);
	t_err(mmn_range_subscription_init(&b.sub, &config), 0);
	t_err(mmn_range_subscription_insert(&b.sub, x.state, BASE + 30 * PAGE,
					    BASE + 31 * PAGE),
	      0);
	unmap(&x, 30, 1);
	t_eq(b.calls, 1);
	t_err(mmn_range_subscription_remove(&b.sub), 0);
	tear_down(&x);
}

/* What the last get inside an op returned; it puts what it got. */
static _Atomic int nested_err;

static int get_inside(struct fixture *x, uintptr_t page)
{
	struct mmn_cache_region *region = NULL;
	int err;

	err = mmn_cache_get(x->cache, BASE + page * PAGE, PAGE, READ, &region);
	mmn_cache_put(x->cache, region);
	nested_err = err;
	return err;
}

static struct dma_fence *get_ten_further(struct fixture *x,
					 struct mmn_cache_region *region)
{
	get_inside(x, ((region->start - BASE) / PAGE + 10) % 100);
	return NULL;
}

TEST(deregistering_waits_for_no_room_that_only_it_can_make)
{
	struct mmn_cache_config config = { .max_regions = 1,
					   .timeout_ns = FOR_EVER };
	struct fixture x;

	set_up_with(&x, &config);
	nested_err = 0;
	x.script.in_deregister = get_ten_further;
	touch(&x, 0, 1, READ);
	unmap(&x, 0, 1);
	until(x.deregistered == 1);
	t_err(nested_err, -ENOSPC);
	tear_down(&x);
}

TEST(a_cache_is_destroyed_whose_op_gets_more)
{
	struct fixture x;

	set_up(&x);
	nested_err = 0;
	x.script.in_deregister = get_ten_further;
	touch(&x, 0, 1, READ);
	tear_down(&x);
	t_err(nested_err, -ESTALE);
}

static int get_second(struct fixture *x, struct mmn_cache_region *region)
{
	if (region->start == BASE)
		get_inside(x, 30);
	return 0;
}

TEST(registering_waits_for_no_room_that_it_takes_itself)
{
	struct mmn_cache_config config = { .max_regions = 1,
					   .timeout_ns = FOR_EVER };
	struct fixture x;

	set_up_with(&x, &config);
	nested_err = 0;
	x.script.in_register = get_second;
	touch(&x, 0, 1, READ);
	t_err(nested_err, -ENOSPC);
	t_eq(stats_of(&x).regions, 1);
	tear_down(&x);
}

/* Registers page 10 until the deregistration of page 0 has asked for it. */
static _Atomic int registering, asked;

static int wait_until_asked(struct fixture *x, struct mmn_cache_region *region)
{
	(void)x;
	if (region->start != BASE + 10 * PAGE)
		return 0;
	registering = 1;
	until(asked);
	return 0;
}

static struct dma_fence *ask(struct fixture *x, struct mmn_cache_region *region)
{
	if (region->start != BASE)
		return NULL;
	get_inside(x, 10);
	asked = 1;
	return NULL;
}

static void *touch_ten(void *x)
{
	touch(x, 10, 1, READ);
	return NULL;
}

TEST(deregistering_waits_for_nobody_who_registers)
{
	pthread_t thread;
	struct fixture x;

	set_up(&x);
	registering = asked = nested_err = 0;
	x.script.in_register = wait_until_asked;
	x.script.in_deregister = ask;
	touch(&x, 0, 1, READ);
	t_err(pthread_create(&thread, NULL, touch_ten, &x), 0);
	until(registering);
	unmap(&x, 0, 1);
	t_err(pthread_join(thread, NULL), 0);
	t_err(nested_err, -EDEADLK);
	tear_down(&x);
}

/* Each registration asks for the page of the next one, once all have begun. */
enum { CIRCLE = 3 };
static _Atomic int circle_begun, circle_refused;

static int ask_for_next(struct fixture *x, struct mmn_cache_region *region)
{
	uintptr_t page = (region->start - BASE) / PAGE;

	circle_begun++;
	until(circle_begun >= CIRCLE);
	if (get_inside(x, (page + 10) % (CIRCLE * 10)) == -EDEADLK)
		circle_refused++;
	return 0;
}

struct circle_member {
	struct fixture *x;
	pthread_t thread;
	uintptr_t page;
};

static void *be_in_circle(void *arg)
{
	struct circle_member *member = arg;

	touch(member->x, member->page, 1, READ);
	return NULL;
}

TEST(registrations_do_not_wait_for_each_other_in_a_circle)
{
	struct mmn_cache_config config = { .timeout_ns = FOR_EVER };
	struct circle_member members[CIRCLE];
	struct fixture x;
	int i;

	set_up_with(&x, &config);
	circle_begun = circle_refused = 0;
	x.script.in_register = ask_for_next;
	for (i = 0; i < CIRCLE; i++) {
		members[i] = (struct circle_member){ .x = &x, .page = i * 10 };
		t_err(pthread_create(&members[i].thread, NULL, be_in_circle,
				     &members[i]),
		      0);
	}
	for (i = 0; i < CIRCLE; i++)
		t_err(pthread_join(members[i].thread, NULL), 0);
	t_eq(circle_refused, 1);
	t_eq(stats_of(&x).regions, CIRCLE);
	tear_down(&x);
}
