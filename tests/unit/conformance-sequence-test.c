/* SPDX-License-Identifier: MIT */
/*
 * Conformance group VIII: the arithmetic of sequences, white-box where 2^64 has
 * to be near.
 */
#include "unit/conformance.h"

#include "notifier/state.h"

/* The state, with so many numbers left before the counter wraps. */
static struct mmn_state *new_state_near_wrap(uint64_t left)
{
	struct mmn_state *state = new_state();

	state->next_seq = UINT64_MAX - 2 * left;
	t_ok(state->next_seq & 1);
	return state;
}

/* case 89 */
TEST(sequences_go_on_across_the_wrap_of_the_counter)
{
	struct driver a, b;

	/* Each place of the wrap among these operations. */
	for (uint64_t left = 0; left < 12; left++) {
		struct mmn_state *state = new_state_near_wrap(left);
		struct mmn_invalidate_desc desc;
		struct reader reader;
		uint64_t seq;

		driver_add(&a, NULL, state, 0, 99);
		for (int i = 0; i < 4; i++) {
			seq = begin(&a);
			t_ne(seq, 0);
			t_ok(!driver_retry(&a, seq));
			change_open(&desc, state, 0, 99);
			t_eq(driver_calls(&a), 1);
			t_ok(driver_retry(&a, seq));
			t_ok(must_wait(&a));
			/* One born inside the change is held, not called. */
			driver_add(&b, NULL, state, 50, 59);
			t_ok(must_wait(&b));
			t_eq(driver_calls(&b), 0);
			reader_start(&reader, &a.sub);
			reader_expect_asleep(&reader);
			change_end(&desc);
			t_ne(reader_join(&reader), seq);
			t_ok(!driver_retry(&a, reader.seq));
			t_ok(!driver_retry(&b, begin(&b)));
			change(state, 50, 50);
			t_eq(driver_calls(&a), 1);
			t_eq(driver_calls(&b), 1);
			driver_remove(&b);
		}
		driver_remove(&a);
		mmn_state_put(state);
	}
}

/* case 89, for the list of classic subscribers and their ends */
TEST(classic_subscribers_keep_their_order_across_the_wrap)
{
	for (uint64_t left = 0; left < 6; left++) {
		struct mmn_state *state = new_state_near_wrap(left);
		struct classic x, y;

		journal_clear();
		classic_add(&x, "x", &classic_ops, state);
		change(state, 0, 99);
		classic_add(&y, "y", &classic_ops, state);
		t_streq(journal(), "x.start x.end");
		change(state, 0, 99);
		t_eq(count_of(&x.starts), 2);
		t_eq(count_of(&x.ends), 2);
		t_eq(count_of(&y.starts), 1);
		t_eq(count_of(&y.ends), 1);
		t_err(mmn_subscription_unregister(&x.sub), 0);
		t_err(mmn_subscription_unregister(&y.sub), 0);
		mmn_state_put(state);
	}
}

/*
 * case 90: the kernel compares the number of a subscription with that of the
 * address space, and waits when they are equal by wrap.  Nothing compares them
 * here: an unrelated change of the same number holds nobody.
 */
TEST(unrelated_change_with_the_same_number_holds_no_reader)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a, b;
	uint64_t seq;

	driver_add(&a, NULL, state, 0, 99);
	driver_add(&b, NULL, state, 200, 299);
	seq = state->next_seq + 2;
	range_of(&a.sub)->seq = seq;
	t_eq(begin(&a), seq);
	change_open(&desc, state, 200, 299);
	t_eq(b.cur_seq, seq);
	t_eq(begin(&a), seq);
	t_ok(!driver_retry(&a, seq));
	change_end(&desc);
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}

/* case 91 */
TEST(very_many_changes_between_begin_and_retry_collide)
{
	struct mmn_state *state = new_state();
	struct driver a;
	uint64_t seq;

	driver_add(&a, NULL, state, 0, 99);
	seq = begin(&a);
	for (int i = 0; i < 1 << 18; i++)
		change(state, 0, 0);
	t_ok(mmn_range_check_retry(&a.sub, seq));
	t_ok(driver_retry(&a, seq));
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 92 */
TEST(sequences_are_odd_and_never_come_again)
{
	struct mmn_state *state = new_state();
	uint64_t last = 0;
	struct driver a;

	driver_init(&a, NULL);
	for (int i = 0; i < 1000; i++) {
		uint64_t seq;

		driver_insert(&a, state, 0, 99);
		seq = begin(&a);
		t_ok(seq & 1);
		t_ok(last == 0 || (int64_t)(seq - last) > 0);
		change(state, 0, 99);
		last = begin(&a);
		t_ok(last & 1);
		t_gt((int64_t)(last - seq), 0);
		driver_remove(&a);
	}
	mmn_state_put(state);
}

/* case 93 */
TEST(two_changes_at_once_each_make_earlier_readers_start_over)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc one, two;
	uint64_t before, after;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	before = begin(&a);
	change_open(&one, state, 0, 49);
	t_ok(driver_retry(&a, before));
	change_open(&two, state, 50, 99);
	t_ok(driver_retry(&a, before));
	change_end(&one);
	t_ok(driver_retry(&a, before));
	change_end(&two);
	after = begin(&a);
	t_ok(!driver_retry(&a, after));
	t_ok(driver_retry(&a, before));
	driver_remove(&a);
	mmn_state_put(state);
}

static struct mmn_subscription counted;

static int counted_alloc(struct mmn_state *state,
			 struct mmn_subscription **ret_sub)
{
	*ret_sub = &counted;
	return 0;
}

static unsigned int counted_frees;

static void counted_free(struct mmn_subscription *sub)
{
	counted_frees++;
}

/* case 113, the end of the count */
TEST(shared_subscription_with_too_many_users_overflows)
{
	static const struct mmn_subscription_ops ops = {
		.alloc_subscription = counted_alloc,
		.free_subscription = counted_free,
	};
	struct mmn_state *state = new_state();
	struct mmn_subscription *sub = NULL, *none = NULL;

	t_err(mmn_subscription_get(&ops, state, &sub), 0);
	classic_of(sub)->users = UINT32_MAX - 1;
	t_err(mmn_subscription_get(&ops, state, &sub), 0);
	t_err(mmn_subscription_get(&ops, state, &none), -EOVERFLOW);
	t_eq(none, NULL);
	t_eq(classic_of(sub)->users, UINT32_MAX);
	t_err(mmn_subscription_put(sub), 0);
	t_eq(counted_frees, 0);
	classic_of(sub)->users = 1;
	t_err(mmn_subscription_put(sub), 0);
	t_err(mmn_subscription_synchronize(), 0);
	t_eq(counted_frees, 1);
	mmn_state_put(state);
}

static void sleep_here(struct driver *driver,
		       const struct mmn_invalidate_desc *desc)
{
	report_expected("sleep");
	mmn_might_sleep();
}

/* case 67, for range subscribers: the kernel checks classic ones only. */
TEST(sleep_in_a_nonblocking_callback_is_reported)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a;

	t_need_selfcheck();
	driver_add(&a, NULL, state, 0, 99);
	a.hook = sleep_here;
	t_err(change_open_nonblock(&desc, state, 0, 99), 0);
	change_end(&desc);
	t_eq(t_bugs_seen(), 1);
	driver_remove(&a);
	mmn_state_put(state);
}

static void sleep_if_allowed(struct driver *driver,
			     const struct mmn_invalidate_desc *desc)
{
	if (mmn_invalidate_is_blockable(desc))
		mmn_might_sleep();
}

static void classic_sleep_here(struct classic *classic,
			       const struct mmn_invalidate_desc *desc)
{
	sleep_here(NULL, desc);
}

/* case 67, for classic subscribers */
TEST(sleep_in_a_nonblocking_classic_callback_is_reported)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct classic x;

	t_need_selfcheck();
	classic_add(&x, NULL, &classic_ops, state);
	x.hook = classic_sleep_here;
	t_err(change_open_nonblock(&desc, state, 0, 99), 0);
	x.hook = NULL;
	change_end(&desc);
	t_eq(t_bugs_seen(), 1);
	t_err(mmn_subscription_unregister(&x.sub), 0);
	mmn_state_put(state);
}

/* case 67, the other half: where it may sleep nobody complains. */
TEST(sleep_in_a_blocking_callback_is_not_reported)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	a.hook = sleep_if_allowed;
	change(state, 0, 99);
	t_err(change_open_nonblock(&desc, state, 0, 99), 0);
	change_end(&desc);
	t_eq(driver_calls(&a), 2);
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 109: the counters of the copy are as the parent left them; no matter. */
TEST(copy_in_a_fork_child_is_told_apart_by_its_generation)
{
	struct mmn_state *state = new_state();

	t_ok(state_is_live(state));
	state->generation++;
	t_ok(!state_is_live(state));
	state->generation--;
	mmn_state_put(state);
}
