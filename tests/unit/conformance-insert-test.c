/* SPDX-License-Identifier: MIT */
/* Conformance group I: insertion, and what it refuses. */
#include "unit/conformance.h"

#include <stdlib.h>

/* case 1 */
TEST(insert_refuses_an_empty_range)
{
	struct mmn_state *state = new_state();
	struct driver a;
	uintptr_t last = 7;

	t_err(mmn_range_last(4096, 0, &last), -EINVAL);
	t_eq(last, 7);

	driver_init(&a, NULL);
	t_err(mmn_range_subscription_insert(&a.sub, state, 100, 99), -EINVAL);
	change(state, EVERYTHING);
	t_eq(driver_calls(&a), 0);
	t_err(mmn_range_subscription_remove(&a.sub), -ENOENT);
	mmn_state_put(state);
}

/* case 2 */
TEST(range_that_wraps_is_an_overflow)
{
	uintptr_t last = 7;

	t_err(mmn_range_last(UINTPTR_MAX, 2, &last), -EOVERFLOW);
	t_err(mmn_range_last(2, UINTPTR_MAX, &last), -EOVERFLOW);
	t_err(mmn_range_last(UINTPTR_MAX, UINTPTR_MAX, &last), -EOVERFLOW);
	t_eq(last, 7);
}

/* case 3 */
TEST(last_byte_of_the_address_space_can_be_subscribed)
{
	struct mmn_state *state = new_state();
	struct driver a;
	uintptr_t last;

	t_err(mmn_range_last(UINTPTR_MAX, 1, &last), 0);
	t_eq(last, UINTPTR_MAX);
	driver_add(&a, NULL, state, UINTPTR_MAX, last);

	change(state, EVERYTHING);
	t_eq(driver_calls(&a), 1);
	change(state, UINTPTR_MAX, UINTPTR_MAX);
	t_eq(driver_calls(&a), 1);
	change(state, 0, UINTPTR_MAX - 1);
	t_eq(driver_calls(&a), 0);
	t_err(mmn_state_release(state), 0);
	t_eq(driver_calls(&a), 1);

	driver_remove(&a);
	mmn_state_put(state);
}

/* case 4 */
TEST(range_of_nearly_everything_is_called_once)
{
	struct mmn_state *state = new_state();
	struct driver a;
	uintptr_t last;

	t_err(mmn_range_last(0, UINTPTR_MAX, &last), 0);
	t_eq(last, UINTPTR_MAX - 1);
	driver_add(&a, NULL, state, 0, last);
	change(state, 0, 4095);
	t_eq(driver_calls(&a), 1);
	change(state, UINTPTR_MAX, UINTPTR_MAX);
	t_eq(driver_calls(&a), 0);
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 5 */
TEST(range_that_ends_with_the_address_space_covers_its_last_byte)
{
	struct mmn_state *state = new_state();
	struct driver a;
	uintptr_t last;

	t_err(mmn_range_last(4096, (size_t)0 - 4096, &last), 0);
	t_eq(last, UINTPTR_MAX);
	driver_add(&a, NULL, state, 4096, last);
	change(state, UINTPTR_MAX, UINTPTR_MAX);
	t_eq(driver_calls(&a), 1);
	change(state, 0, 4095);
	t_eq(driver_calls(&a), 0);
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(range_of_one_byte_has_equal_ends)
{
	uintptr_t last = 0;

	t_err(mmn_range_last(100, 1, &last), 0);
	t_eq(last, 100);
	t_err(mmn_range_last(0, 1, &last), 0);
	t_eq(last, 0);
}

/* case 6 */
TEST(insert_into_a_released_state_is_refused)
{
	struct mmn_state *state = new_state();
	struct driver a;

	t_err(mmn_state_release(state), 0);
	driver_init(&a, NULL);
	t_err(mmn_range_subscription_insert(&a.sub, state, 0, 99), -EINVAL);
	change(state, EVERYTHING);
	t_eq(driver_calls(&a), 0);
	t_eq(mmn_range_read_begin(&a.sub), 0);
	t_err(mmn_range_subscription_remove(&a.sub), -ENOENT);
	mmn_state_put(state);
}

static bool one_pass(struct mmn_range_subscription *sub,
		     const struct mmn_invalidate_desc *desc, uint64_t cur_seq)
{
	return true;
}

static bool first_pass(struct mmn_range_subscription *sub,
		       const struct mmn_invalidate_desc *desc, uint64_t cur_seq,
		       struct mmn_range_finish **ret_finish)
{
	return true;
}

static void second_pass(struct mmn_range_finish *finish)
{
}

static void nothing_to_release(struct mmn_range_subscription *sub)
{
}

static int init_with_ops(const struct mmn_range_ops *ops)
{
	struct mmn_range_config config = {
		.size = sizeof(config),
		.ops = ops,
	};
	struct mmn_range_subscription sub;

	return mmn_range_subscription_init(&sub, &config);
}

/* case 7 */
TEST(init_wants_exactly_one_whole_form_of_callback)
{
	t_err(init_with_ops(NULL), -EINVAL);
	t_err(init_with_ops(&(struct mmn_range_ops){ 0 }), -EINVAL);
	t_err(init_with_ops(
		      &(struct mmn_range_ops){ .release = nothing_to_release }),
	      -EINVAL);
	t_err(init_with_ops(&(struct mmn_range_ops){ .invalidate_start =
							     first_pass }),
	      -EINVAL);
	t_err(init_with_ops(&(struct mmn_range_ops){ .invalidate_finish =
							     second_pass }),
	      -EINVAL);
	t_err(init_with_ops(&(struct mmn_range_ops){
		      .invalidate = one_pass,
		      .invalidate_start = first_pass,
		      .invalidate_finish = second_pass }),
	      -EINVAL);
	t_err(init_with_ops(&(struct mmn_range_ops){ .invalidate = one_pass,
						     .invalidate_finish =
							     second_pass }),
	      -EINVAL);
	t_err(init_with_ops(&(struct mmn_range_ops){
		      .invalidate = one_pass, .invalidate_start = first_pass }),
	      -EINVAL);

	t_err(init_with_ops(&(struct mmn_range_ops){ .invalidate = one_pass }),
	      0);
	t_err(init_with_ops(&(struct mmn_range_ops){
		      .invalidate_start = first_pass,
		      .invalidate_finish = second_pass }),
	      0);
}

/* case 8 */
TEST(second_insert_of_the_same_object_is_refused)
{
	struct mmn_state *state = new_state(), *other = new_state();
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	t_err(mmn_range_subscription_insert(&a.sub, state, 0, 99), -EEXIST);
	t_err(mmn_range_subscription_insert(&a.sub, state, 200, 299), -EEXIST);
	t_err(mmn_range_subscription_insert(&a.sub, other, 0, 99), -EEXIST);

	/* ... and has no effect. */
	change(other, EVERYTHING);
	change(state, 200, 299);
	t_eq(driver_calls(&a), 0);
	change(state, EVERYTHING);
	t_eq(driver_calls(&a), 1);
	t_eq(mmn_range_subscription_start(&a.sub), 0);
	t_eq(mmn_range_subscription_last(&a.sub), 99);

	driver_remove(&a);
	t_err(mmn_range_subscription_remove(&a.sub), -ENOENT);
	mmn_state_put(state);
	mmn_state_put(other);
}

/* case 9 */
TEST(same_range_twice_calls_both_once)
{
	struct mmn_state *state = new_state();
	struct driver a, b;

	driver_add(&a, NULL, state, 0, 99);
	driver_add(&b, NULL, state, 0, 99);
	change(state, 10, 19);
	t_eq(driver_calls(&a), 1);
	t_eq(driver_calls(&b), 1);
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}

/* case 10 */
TEST(nested_ranges_are_called_where_they_overlap)
{
	struct mmn_state *state = new_state();
	struct driver a, b;

	driver_add(&a, NULL, state, 0, 99);
	driver_add(&b, NULL, state, 40, 59);
	change(state, 50, 50);
	t_eq(driver_calls(&a), 1);
	t_eq(driver_calls(&b), 1);
	change(state, 10, 10);
	t_eq(driver_calls(&a), 1);
	t_eq(driver_calls(&b), 0);
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}

/* case 11 */
TEST(new_subscription_can_be_read_at_once)
{
	struct mmn_state *state = new_state();
	struct driver a;
	uint64_t seq;

	driver_add(&a, NULL, state, 0, 99);
	seq = begin(&a);
	t_ok(!driver_retry(&a, seq));
	driver_remove(&a);
	mmn_state_put(state);
}

/* A callback that only counts, for objects without a driver around them. */
static unsigned int bare_calls;

static bool count_bare_call(struct mmn_range_subscription *sub,
			    const struct mmn_invalidate_desc *desc,
			    uint64_t cur_seq)
{
	bare_calls++;
	return true;
}

static const struct mmn_range_ops bare_ops = { .invalidate = count_bare_call };

/* case 12 */
TEST(one_point_among_very_many_ranges_calls_exactly_one)
{
	enum { COUNT = 100 * 1000 };
	struct mmn_range_config config = { .size = sizeof(config),
					   .ops = &bare_ops };
	struct mmn_state *state = new_state();
	struct mmn_range_subscription *subs;

	subs = aligned_alloc(_Alignof(struct mmn_range_subscription),
			     COUNT * sizeof(*subs));
	t_ne(subs, NULL);
	for (uintptr_t i = 0; i < COUNT; i++) {
		/* Neither ascending nor descending. */
		uintptr_t start = i * 7919 % COUNT * 100;

		t_err(mmn_range_subscription_init(&subs[i], &config), 0);
		t_err(mmn_range_subscription_insert(&subs[i], state, start,
						    start + 99),
		      0);
	}
	for (uintptr_t i = 0; i < COUNT; i += 997) {
		bare_calls = 0;
		change(state, i * 100 + 50, i * 100 + 50);
		t_eq(bare_calls, 1);
	}
	bare_calls = 0;
	change(state, EVERYTHING);
	t_eq(bare_calls, COUNT);
	for (uintptr_t i = 0; i < COUNT; i++)
		t_err(mmn_range_subscription_remove(&subs[i]), 0);
	bare_calls = 0;
	change(state, EVERYTHING);
	t_eq(bare_calls, 0);
	free(subs);
	mmn_state_put(state);
}

/* case 13 */
TEST(remove_after_a_failed_insert_is_harmless)
{
	struct mmn_state *state = new_state();
	struct driver a;

	driver_init(&a, NULL);
	for (int i = 0; i < 100; i++) {
		t_err(mmn_range_subscription_insert(&a.sub, state, 100, 99),
		      -EINVAL);
		t_err(mmn_range_subscription_remove(&a.sub), -ENOENT);
		t_err(mmn_range_subscription_remove_deferred(&a.sub), -ENOENT);
	}
	t_eq(count_of(&a.releases), 0);
	/* No reference was lost: the state is alive, and the object as new. */
	driver_insert(&a, state, 0, 99);
	change(state, 0, 0);
	t_eq(driver_calls(&a), 1);
	driver_remove(&a);
	mmn_state_put(state);
}

static struct mmn_state *hook_state;

static void insert_another(struct driver *a,
			   const struct mmn_invalidate_desc *desc)
{
	struct driver *b = a->arg;

	driver_insert(b, hook_state, 50, 149);
	/* The change that inserted it is open, and overlaps it. */
	t_ok(must_wait(b));
	a->hook = NULL;
}

/* case 14 */
TEST(callback_may_insert_another_subscription)
{
	struct mmn_invalidate_desc desc;
	struct driver a, b;
	uint64_t seq;

	hook_state = new_state();
	driver_add(&a, NULL, hook_state, 0, 99);
	driver_init(&b, NULL);
	a.hook = insert_another;
	a.arg = &b;

	change_open(&desc, hook_state, 0, 59);
	t_eq(driver_calls(&a), 1);
	/* Not told of the change it was born in, but held back by it. */
	t_eq(driver_calls(&b), 0);
	t_ok(must_wait(&b));
	change_end(&desc);

	seq = begin(&b);
	t_ok(!driver_retry(&b, seq));
	change(hook_state, 100, 100);
	t_eq(driver_calls(&a), 0);
	t_eq(driver_calls(&b), 1);
	t_ok(driver_retry(&b, seq));
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(hook_state);
}

static pthread_mutex_t space_lock = PTHREAD_MUTEX_INITIALIZER;
static struct gate in_callback = GATE_INITIALIZER;

static void wait_for_the_space_lock(struct driver *driver,
				    const struct mmn_invalidate_desc *desc)
{
	gate_pass(&in_callback);
	pthread_mutex_lock(&space_lock);
	pthread_mutex_unlock(&space_lock);
}

/*
 * case 15: the caller has a lock for its address space, and a callback waits
 * for it.
 */
TEST(insert_works_while_a_callback_waits_for_the_callers_lock)
{
	struct mmn_state *state = new_state();
	struct changer changer;
	struct driver a, b;

	driver_add(&a, NULL, state, 0, 99);
	a.hook = wait_for_the_space_lock;
	gate_open(&in_callback);

	pthread_mutex_lock(&space_lock);
	changer_start(&changer, state, 0, 9);
	gate_wait_arrived(&in_callback, 1);
	changer_expect_asleep(&changer);
	driver_add(&b, NULL, state, 50, 149);
	t_ok(!must_wait(&b));
	driver_remove(&b);
	pthread_mutex_unlock(&space_lock);

	t_err(changer_join(&changer), 0);
	change_end(&changer.desc);
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(insert_of_an_object_that_was_not_initialised_is_refused)
{
	struct mmn_range_subscription sub = { 0 };
	struct mmn_state *state = new_state();

	t_err(mmn_range_subscription_insert(&sub, state, 0, 99), -EINVAL);
	t_err(mmn_range_subscription_remove(&sub), -ENOENT);
	t_eq(mmn_range_read_begin(&sub), 0);
	change(state, EVERYTHING);
	mmn_state_put(state);
}

TEST(subscription_holds_the_state)
{
	struct mmn_state *state = new_state();
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	mmn_state_put(state);
	/* The state lives as long as it has a subscription. */
	change(state, 0, 0);
	t_eq(driver_calls(&a), 1);
	driver_remove(&a);
}
