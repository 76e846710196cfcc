/* SPDX-License-Identifier: MIT */
/* Conformance group II: which changes are told to whom, and in which order. */
#include "unit/conformance.h"

#include <stdio.h>
#include <string.h>

/* case 16 */
TEST(change_that_ends_just_below_is_not_told)
{
	struct mmn_state *state = new_state();
	struct driver a;

	driver_add(&a, NULL, state, 100, 199);
	change(state, 0, 99);
	t_eq(driver_calls(&a), 0);
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 17 */
TEST(change_that_starts_just_above_is_not_told)
{
	struct mmn_state *state = new_state();
	struct driver a;

	driver_add(&a, NULL, state, 100, 199);
	change(state, 200, 299);
	t_eq(driver_calls(&a), 0);
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 18 */
TEST(change_that_shares_one_byte_is_told)
{
	struct mmn_state *state = new_state();
	struct driver a;

	driver_add(&a, NULL, state, 100, 199);
	change(state, 199, 199);
	t_eq(driver_calls(&a), 1);
	change(state, 100, 100);
	t_eq(driver_calls(&a), 1);
	change(state, 0, 100);
	t_eq(driver_calls(&a), 1);
	change(state, 199, 999);
	t_eq(driver_calls(&a), 1);
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 19 */
TEST(change_of_exactly_the_range_is_told_once)
{
	struct mmn_state *state = new_state();
	struct driver a;

	driver_add(&a, NULL, state, 100, 199);
	change(state, 100, 199);
	t_eq(driver_calls(&a), 1);
	driver_remove(&a);
	mmn_state_put(state);
}

/* Starting it fails, and nothing is open afterwards. */
static void expect_refused(struct mmn_state *state, uint32_t event,
			   uintptr_t start, uintptr_t last)
{
	struct mmn_invalidate_desc desc;

	mmn_invalidate_desc_init(&desc, state, event, start, last);
	t_err(mmn_invalidate_start(&desc), -EINVAL);
	mmn_invalidate_desc_init(&desc, state, event, start, last);
	t_err(mmn_invalidate_start_nonblock(&desc), -EINVAL);
}

/* case 20 */
TEST(empty_change_inside_a_range_is_refused_without_a_callback)
{
	struct mmn_state *state = new_state();
	struct driver a;

	driver_add(&a, NULL, state, 100, 199);
	expect_refused(state, MMN_EVENT_UNMAP, 150, 149);
	t_eq(driver_calls(&a), 0);
	t_ok(!must_wait(&a));
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 21: nothing at address 0 has no inclusive end; the helper says so. */
TEST(empty_change_at_address_zero_cannot_be_described)
{
	uintptr_t last = 7;

	t_err(mmn_range_last(0, 0, &last), -EINVAL);
	t_eq(last, 7);
}

/* case 22 */
TEST(change_with_swapped_ends_is_refused)
{
	struct mmn_state *state = new_state();
	struct driver a;

	driver_add(&a, NULL, state, 0, 999);
	expect_refused(state, MMN_EVENT_UNMAP, 200, 100);
	expect_refused(state, MMN_EVENT_UNMAP, UINTPTR_MAX, 0);
	t_eq(driver_calls(&a), 0);
	t_ok(!must_wait(&a));
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 23 */
TEST(adjacent_ranges_share_no_byte)
{
	struct mmn_state *state = new_state();
	struct driver a, b;

	driver_add(&a, NULL, state, 0, 99);
	driver_add(&b, NULL, state, 100, 199);
	change(state, 99, 100);
	t_eq(driver_calls(&a), 1);
	t_eq(driver_calls(&b), 1);
	change(state, 99, 99);
	t_eq(driver_calls(&a), 1);
	t_eq(driver_calls(&b), 0);
	change(state, 100, 100);
	t_eq(driver_calls(&a), 0);
	t_eq(driver_calls(&b), 1);
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}

/* case 24 */
TEST(callbacks_come_in_ascending_order_each_once)
{
	/* In the order of insertion; the change is [100, 599]. */
	static const struct {
		const char *name;
		uintptr_t start, last;
	} range[] = {
		{ "300", 300, 309 }, { "0", 0, 999 },	   { "599", 599, 700 },
		{ "600", 600, 700 }, { "300b", 300, 900 }, { "50", 50, 99 },
		{ "100", 100, 100 }, { "300c", 300, 300 }, { "5", 5, 100 },
		{ "200", 200, 250 },
	};
	enum { COUNT = sizeof(range) / sizeof(*range) };
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver drivers[COUNT];
	unsigned int called = 0;

	for (int i = 0; i < COUNT; i++)
		driver_add(&drivers[i], range[i].name, state, range[i].start,
			   range[i].last);
	change_open(&desc, state, 100, 599);
	t_streq(journal(), "0 5 100 200 300 300b 300c 599");
	for (int i = 0; i < COUNT; i++) {
		if (!driver_calls(&drivers[i]))
			continue;
		called++;
		t_eq(drivers[i].seen_at, &desc);
		t_eq(drivers[i].seen.start, 100);
		t_eq(drivers[i].seen.last, 599);
		t_eq(drivers[i].cur_seq, drivers[1].cur_seq);
	}
	t_eq(called, 8);
	change_end(&desc);
	for (int i = 0; i < COUNT; i++)
		driver_remove(&drivers[i]);
	mmn_state_put(state);
}

/* case 25 */
TEST(callback_sees_the_description_unchanged)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a;
	int owner;

	driver_add(&a, NULL, state, 100, 199);
	for (uint32_t event = 0; event < MMN_NR_EVENTS; event++) {
		mmn_invalidate_desc_init(&desc, state, event, 90, 110);
		t_eq(desc.owner, NULL);
		t_eq(desc.flags, MMN_INVALIDATE_BLOCKABLE);
		t_err(mmn_invalidate_start(&desc), 0);
		t_eq(a.seen_at, &desc);
		t_eq(a.seen.state, state);
		t_eq(a.seen.start, 90);
		t_eq(a.seen.last, 110);
		t_eq(a.seen.event, event);
		t_eq(a.seen.flags, MMN_INVALIDATE_BLOCKABLE);
		t_eq(a.seen.owner, NULL);
		change_end(&desc);
		t_eq(driver_calls(&a), 1);
	}

	mmn_invalidate_desc_init(&desc, state, MMN_EVENT_CLEAR, 0, 100);
	desc.owner = &owner;
	desc.flags |= MMN_INVALIDATE_LAZY;
	t_err(mmn_invalidate_start(&desc), 0);
	t_eq(a.seen.owner, &owner);
	t_eq(a.seen.flags, MMN_INVALIDATE_BLOCKABLE | MMN_INVALIDATE_LAZY);
	t_ok(mmn_invalidate_is_blockable(&a.seen));
	change_end(&desc);

	mmn_invalidate_desc_init(&desc, state, MMN_EVENT_CLEAR, 0, 100);
	t_err(mmn_invalidate_start_nonblock(&desc), 0);
	t_eq(a.seen.flags, 0);
	t_ok(!mmn_invalidate_is_blockable(&a.seen));
	change_end(&desc);

	driver_remove(&a);
	mmn_state_put(state);
}

TEST(change_by_the_owner_of_a_subscription_is_kept_from_it)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	int me, somebody_else;
	struct driver a, b;
	uint64_t seq;

	driver_init_owned(&a, NULL, &me);
	driver_insert(&a, state, 0, 99);
	driver_add(&b, NULL, state, 0, 99);
	seq = begin(&a);

	mmn_invalidate_desc_init(&desc, state, MMN_EVENT_MIGRATE, 0, 99);
	desc.owner = &me;
	t_err(mmn_invalidate_start(&desc), 0);
	/* No callback, no wait, no retry; everybody else is told. */
	t_eq(driver_calls(&a), 0);
	t_eq(driver_calls(&b), 1);
	t_ok(!must_wait(&a));
	t_ok(must_wait(&b));
	t_ok(!driver_retry(&a, seq));
	change_end(&desc);
	t_ok(!driver_retry(&a, seq));

	mmn_invalidate_desc_init(&desc, state, MMN_EVENT_MIGRATE, 0, 99);
	desc.owner = &somebody_else;
	t_err(mmn_invalidate_start(&desc), 0);
	t_eq(driver_calls(&a), 1);
	t_ok(must_wait(&a));
	t_ok(driver_retry(&a, seq));
	change_end(&desc);
	t_ok(!must_wait(&a));

	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}

TEST(change_of_its_owner_that_was_open_before_does_not_hold_an_insert_back)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a, b, c;
	int me;

	/* Somebody to make the change known, and nobody. */
	for (int hit = 0; hit < 2; hit++) {
		if (hit)
			driver_add(&c, NULL, state, 0, 999);
		mmn_invalidate_desc_init(&desc, state, MMN_EVENT_MIGRATE, 0,
					 99);
		desc.owner = &me;
		t_err(mmn_invalidate_start(&desc), 0);
		driver_init_owned(&a, NULL, &me);
		driver_insert(&a, state, 0, 99);
		driver_add(&b, NULL, state, 0, 99);
		t_ok(!must_wait(&a));
		t_ok(must_wait(&b));
		change_end(&desc);
		t_ok(!must_wait(&a));
		t_ok(!must_wait(&b));
		driver_remove(&a);
		driver_remove(&b);
	}
	driver_remove(&c);
	mmn_state_put(state);
}

TEST(unknown_event_is_refused)
{
	struct mmn_state *state = new_state();
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	expect_refused(state, MMN_NR_EVENTS, 0, 99);
	expect_refused(state, UINT32_MAX, 0, 99);
	t_eq(driver_calls(&a), 0);
	t_ok(!must_wait(&a));
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(change_without_a_state_is_refused)
{
	struct mmn_invalidate_desc desc;

	mmn_invalidate_desc_init(&desc, NULL, MMN_EVENT_UNMAP, 0, 99);
	t_err(mmn_invalidate_start(&desc), -EINVAL);
	mmn_invalidate_desc_init(&desc, NULL, MMN_EVENT_UNMAP, 0, 99);
	t_err(mmn_invalidate_start_nonblock(&desc), -EINVAL);
}

TEST(second_start_of_an_open_change_is_refused)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc hit, miss;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	change_open(&hit, state, 0, 99);
	change_open(&miss, state, 200, 299);
	t_eq(driver_calls(&a), 1);
	t_err(mmn_invalidate_start(&hit), -EINVAL);
	t_err(mmn_invalidate_start(&miss), -EINVAL);
	t_err(mmn_invalidate_start_nonblock(&hit), -EINVAL);
	t_eq(driver_calls(&a), 0);
	/* They are open still, once. */
	t_ok(must_wait(&a));
	change_end(&miss);
	t_ok(must_wait(&a));
	change_end(&hit);
	t_ok(!must_wait(&a));
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(ended_change_can_be_started_again)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	mmn_invalidate_desc_init(&desc, state, MMN_EVENT_UNMAP, 0, 99);
	for (int i = 0; i < 3; i++) {
		t_err(mmn_invalidate_start(&desc), 0);
		t_eq(driver_calls(&a), 1);
		t_ok(must_wait(&a));
		change_end(&desc);
		t_ok(!must_wait(&a));
	}
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(two_halves_of_start_tell_a_hit_from_a_miss)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc hit, miss;
	struct driver a;

	t_ok(!mmn_state_has_subscriptions(state));
	driver_add(&a, NULL, state, 100, 199);
	t_ok(mmn_state_has_subscriptions(state));

	mmn_invalidate_desc_init(&miss, state, MMN_EVENT_UNMAP, 1000, 1999);
	t_ok(!mmn_invalidate_open(&miss));
	mmn_invalidate_desc_init(&hit, state, MMN_EVENT_UNMAP, 150, 150);
	t_ok(mmn_invalidate_open(&hit));
	t_eq(driver_calls(&a), 0);
	t_err(mmn_invalidate_notify(&hit), 0);
	t_eq(driver_calls(&a), 1);
	t_err(mmn_invalidate_notify(&hit), -EINVAL);
	t_eq(driver_calls(&a), 0);

	/* A change somebody heard of is not closed by the short way. */
	t_ok(!mmn_invalidate_close(&hit));
	t_ok(must_wait(&a));
	change_end(&hit);
	t_ok(!must_wait(&a));
	t_ok(mmn_invalidate_close(&miss));
	driver_remove(&a);
	t_ok(!mmn_state_has_subscriptions(state));
	mmn_state_put(state);
}

TEST(notify_of_a_change_that_is_not_open_is_refused)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	mmn_invalidate_desc_init(&desc, state, MMN_EVENT_UNMAP, 0, 99);
	t_err(mmn_invalidate_notify(&desc), -EINVAL);
	t_eq(driver_calls(&a), 0);
	t_ok(!must_wait(&a));
	change_open(&desc, state, 0, 99);
	change_end(&desc);
	t_eq(driver_calls(&a), 1);
	t_err(mmn_invalidate_notify(&desc), -EINVAL);
	t_eq(driver_calls(&a), 0);
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(miss_that_an_insert_made_a_hit_is_closed_the_long_way)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a;

	mmn_invalidate_desc_init(&desc, state, MMN_EVENT_UNMAP, 0, 99);
	t_ok(!mmn_invalidate_open(&desc));
	driver_add(&a, NULL, state, 0, 99);
	t_eq(driver_calls(&a), 0);
	t_ok(must_wait(&a));
	t_ok(!mmn_invalidate_close(&desc));
	t_ok(must_wait(&a));
	change_end(&desc);
	t_ok(!must_wait(&a));
	driver_remove(&a);
	mmn_state_put(state);
}

/* As far as a thread may have come before it left by a jump. */
enum stage { INITIALISED, OPENED, ADOPTED, HIT, HIT_ADOPTED, CLOSED, STAGES };

static void come_to(enum stage stage, struct mmn_invalidate_desc *desc,
		    struct mmn_state *state, struct driver *a, struct driver *b)
{
	driver_init(a, NULL);
	driver_init(b, NULL);
	mmn_invalidate_desc_init(desc, state, MMN_EVENT_UNMAP, 0, 99);
	if (stage == HIT || stage == HIT_ADOPTED)
		driver_insert(a, state, 0, 99);
	if (stage != INITIALISED)
		t_eq(mmn_invalidate_open(desc),
		     stage == HIT || stage == HIT_ADOPTED);
	if (stage == ADOPTED || stage == HIT_ADOPTED) {
		driver_insert(b, state, 50, 149);
		t_ok(must_wait(b));
	}
	if (stage == CLOSED)
		t_ok(mmn_invalidate_close(desc));
}

TEST(change_that_was_described_wrongly_can_be_abandoned)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;

	mmn_invalidate_desc_init(&desc, NULL, MMN_EVENT_UNMAP, 0, 99);
	t_ok(mmn_invalidate_open(&desc));
	mmn_invalidate_abandon(&desc);
	desc.state = state;
	t_err(mmn_invalidate_start(&desc), 0);
	change_end(&desc);
	mmn_state_put(state);
}

TEST(abandoned_change_is_closed_whatever_had_become_of_it)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a, b, c;
	uint64_t seq;

	for (enum stage stage = 0; stage < STAGES; stage++) {
		come_to(stage, &desc, state, &a, &b);
		mmn_invalidate_abandon(&desc);
		t_eq(driver_calls(&a), 0);
		t_err(mmn_range_read_begin_try(&a.sub, &seq), 0);
		t_err(mmn_range_read_begin_try(&b.sub, &seq), 0);
		/* Nobody who comes later finds it, either. */
		driver_add(&c, NULL, state, 0, 99);
		t_ok(!must_wait(&c));

		/* The descriptor is as good as new. */
		t_err(mmn_invalidate_start(&desc), 0);
		t_eq(driver_calls(&c), 1);
		t_ok(must_wait(&c));
		change_end(&desc);
		t_ok(!must_wait(&c));
		mmn_range_subscription_remove(&a.sub);
		mmn_range_subscription_remove(&b.sub);
		driver_remove(&c);
	}
	mmn_state_put(state);
}
