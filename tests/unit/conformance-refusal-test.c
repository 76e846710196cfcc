/* SPDX-License-Identifier: MIT */
/* Conformance group V: changes that must not sleep, and those who refuse. */
#include "unit/conformance.h"

/* case 56 */
TEST(nonblocking_change_that_nobody_refuses_is_open)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct reader reader;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	t_err(change_open_nonblock(&desc, state, 0, 99), 0);
	t_eq(driver_calls(&a), 1);
	t_ok(!mmn_invalidate_is_blockable(&a.seen));
	t_eq(a.seen_at, &desc);
	reader_start(&reader, &a.sub);
	reader_expect_asleep(&reader);
	change_end(&desc);
	t_ok(!driver_retry(&a, reader_join(&reader)));
	driver_remove(&a);
	mmn_state_put(state);
}

static void hold_lock(void *arg)
{
	void **args = arg;
	struct driver *driver = args[0];

	pthread_mutex_lock(&driver->lock);
	gate_pass(args[1]);
	pthread_mutex_unlock(&driver->lock);
}

/* case 57 */
TEST(refused_change_is_closed_and_holds_no_reader)
{
	struct mmn_state *state = new_state();
	struct gate gate = GATE_INITIALIZER;
	struct mmn_invalidate_desc desc;
	struct driver a;
	void *args[] = { &a, &gate };
	struct actor holder;

	driver_add(&a, NULL, state, 0, 99);
	a.tries = true;
	actor_start(&holder, hold_lock, args);
	gate_wait_arrived(&gate, 1);
	t_err(change_open_nonblock(&desc, state, 0, 99), -EAGAIN);
	begin(&a);
	gate_open(&gate);
	actor_join(&holder);

	/* It is closed: there is nothing to end. */
	report_expected("ended that is not open");
	t_err(mmn_invalidate_end(&desc), -EINVAL);
	t_ok(!must_wait(&a));
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 58 */
TEST(subscriber_before_the_one_that_refuses_stays_invalidated)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a, b;
	uint64_t seq_a, seq_b;

	driver_add(&a, NULL, state, 0, 99);
	driver_add(&b, NULL, state, 100, 199);
	seq_a = begin(&a);
	seq_b = begin(&b);
	t_ok(driver_install(&a, seq_a));
	b.refuses = true;
	t_err(change_open_nonblock(&desc, state, 0, 199), -EAGAIN);
	/* Called once; nobody tells it that it was for nothing. */
	t_eq(driver_calls(&a), 1);
	t_ok(!driver_has_entry(&a));
	t_ok(driver_retry(&a, seq_a));
	t_ok(!driver_retry(&b, seq_b));
	t_ok(!must_wait(&a));
	t_ok(!must_wait(&b));

	/* It stays usable. */
	t_ok(driver_install(&a, begin(&a)));
	change(state, 0, 0);
	t_eq(driver_calls(&a), 1);
	t_ok(!driver_has_entry(&a));
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}

/* case 59 */
TEST(subscriber_after_the_one_that_refuses_is_not_called)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a, b;
	uint64_t seq;

	driver_add(&b, "b", state, 100, 199);
	driver_add(&a, "a", state, 0, 99);
	seq = begin(&b);
	a.refuses = true;
	t_err(change_open_nonblock(&desc, state, 0, 199), -EAGAIN);
	t_streq(journal(), "a");
	t_ok(!driver_retry(&b, seq));
	t_ok(!must_wait(&b));
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}

/* case 60 */
TEST(blocking_change_right_after_a_refusal_works)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a;
	uint64_t seq;

	driver_add(&a, NULL, state, 0, 99);
	a.refuses = true;
	t_err(change_open_nonblock(&desc, state, 0, 99), -EAGAIN);
	t_eq(driver_calls(&a), 1);
	a.refuses = false;
	seq = begin(&a);
	change_open(&desc, state, 0, 99);
	t_eq(driver_calls(&a), 1);
	t_ok(must_wait(&a));
	change_end(&desc);
	t_ok(!must_wait(&a));
	t_ok(driver_retry(&a, seq));
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 61 */
TEST(refusal_of_a_blocking_change_is_reported_and_overruled)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a, b;

	driver_add(&a, "a", state, 0, 99);
	driver_add(&b, "b", state, 100, 199);
	a.refuses = true;
	report_expected("may sleep was refused");
	mmn_invalidate_desc_init(&desc, state, MMN_EVENT_UNMAP, 0, 199);
	t_err(mmn_invalidate_start(&desc), 0);
	t_streq(journal(), "a b");
	t_ok(must_wait(&a));
	t_ok(must_wait(&b));
	change_end(&desc);
	t_ok(!must_wait(&a));
	t_ok(!must_wait(&b));
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}

/* case 62 */
TEST(second_pass_runs_for_those_who_started_before_a_refusal)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a, b, c;

	driver_init_two_pass(&a, "a");
	driver_insert(&a, state, 0, 99);
	driver_init_two_pass(&b, "b");
	driver_insert(&b, state, 100, 199);
	driver_init_two_pass(&c, "c");
	driver_insert(&c, state, 200, 299);
	b.refuses = true;
	b.wants_finish = false;
	t_err(change_open_nonblock(&desc, state, 0, 299), -EAGAIN);
	t_streq(journal(), "a.start b.start a.finish");
	t_ok(!must_wait(&a));
	t_ok(!must_wait(&b));
	t_ok(!must_wait(&c));
	driver_remove(&a);
	driver_remove(&b);
	driver_remove(&c);
	mmn_state_put(state);
}

/* case 63 */
TEST(second_pass_asked_for_by_the_one_that_refuses_is_dropped)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a;

	driver_init_two_pass(&a, "a");
	driver_insert(&a, state, 0, 99);
	a.refuses = true;
	t_err(change_open_nonblock(&desc, state, 0, 99), -EAGAIN);
	t_streq(journal(), "a.start");
	t_eq(a.finishes, 0);
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 64 */
TEST(classic_subscribers_that_accepted_get_their_end_when_one_refuses)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct classic x, y, z;

	classic_add(&x, NULL, &classic_ops, state);
	classic_add(&y, NULL, &classic_refusing_ops, state);
	classic_add(&z, NULL, &classic_ops, state);
	y.answer = -EAGAIN;
	t_err(change_open_nonblock(&desc, state, 0, 99), -EAGAIN);
	/* All are asked, also those after the refusal. */
	t_eq(count_of(&x.starts), 1);
	t_eq(count_of(&y.starts), 1);
	t_eq(count_of(&z.starts), 1);
	t_eq(count_of(&x.ends), 1);
	t_eq(count_of(&z.ends), 1);
	report_expected("ended that is not open");
	t_err(mmn_invalidate_end(&desc), -EINVAL);
	t_eq(count_of(&x.ends), 1);

	y.answer = 0;
	t_err(change_open_nonblock(&desc, state, 0, 99), 0);
	t_eq(count_of(&x.ends), 1);
	change_end(&desc);
	t_eq(count_of(&x.ends), 2);
	t_err(mmn_subscription_unregister(&x.sub), 0);
	t_err(mmn_subscription_unregister(&y.sub), 0);
	t_err(mmn_subscription_unregister(&z.sub), 0);
	mmn_state_put(state);
}

/* case 65 */
TEST(classic_subscriber_with_an_end_that_refuses_is_reported)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct classic x;

	classic_add(&x, NULL, &classic_ops, state);
	x.answer = -EAGAIN;
	report_expected("wants ends has refused");
	t_err(change_open_nonblock(&desc, state, 0, 99), -EAGAIN);
	/* An end only for a start that was accepted. */
	t_eq(count_of(&x.ends), 0);
	t_err(mmn_subscription_unregister(&x.sub), 0);
	mmn_state_put(state);
}

TEST(classic_refusal_of_a_blocking_change_is_reported_and_overruled)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct classic x, y;

	classic_add(&x, NULL, &classic_refusing_ops, state);
	classic_add(&y, NULL, &classic_ops, state);
	x.answer = -EAGAIN;
	report_expected("may sleep was refused");
	mmn_invalidate_desc_init(&desc, state, MMN_EVENT_UNMAP, 0, 99);
	t_err(mmn_invalidate_start(&desc), 0);
	t_eq(count_of(&y.starts), 1);
	t_eq(count_of(&y.ends), 0);
	change_end(&desc);
	t_eq(count_of(&y.ends), 1);
	t_err(mmn_subscription_unregister(&x.sub), 0);
	t_err(mmn_subscription_unregister(&y.sub), 0);
	mmn_state_put(state);
}

/* case 66: the kernel leaves the interval side open here, for good. */
TEST(classic_refusal_closes_the_range_side_too)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct classic y;
	struct driver a;
	uint64_t seq;

	driver_add(&a, NULL, state, 0, 99);
	classic_add(&y, NULL, &classic_refusing_ops, state);
	seq = begin(&a);
	y.answer = -EAGAIN;
	for (int i = 0; i < 10; i++) {
		t_err(change_open_nonblock(&desc, state, 0, 99), -EAGAIN);
		t_eq(driver_calls(&a), 1);
		t_ok(!must_wait(&a));
	}
	t_ok(driver_retry(&a, seq));
	t_ok(!driver_retry(&a, begin(&a)));
	t_err(mmn_subscription_unregister(&y.sub), 0);
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(range_refusal_is_not_told_to_classic_subscribers)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct classic x;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	classic_add(&x, NULL, &classic_ops, state);
	a.refuses = true;
	t_err(change_open_nonblock(&desc, state, 0, 99), -EAGAIN);
	t_eq(count_of(&x.starts), count_of(&x.ends));
	t_err(mmn_subscription_unregister(&x.sub), 0);
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 68 */
TEST(nonblocking_change_by_the_holder_of_the_drivers_lock_is_refused)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	a.tries = true;
	pthread_mutex_lock(&a.lock);
	t_err(change_open_nonblock(&desc, state, 0, 99), -EAGAIN);
	pthread_mutex_unlock(&a.lock);
	t_ok(!must_wait(&a));
	t_err(change_open_nonblock(&desc, state, 0, 99), 0);
	change_end(&desc);
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 69, a tenth of it here */
TEST(refused_and_accepted_in_turn_leave_no_trace)
{
	enum { TIMES = 100 * 1000 };
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a, b;

	driver_add(&a, NULL, state, 0, 99);
	driver_add(&b, NULL, state, 100, 199);
	for (int i = 0; i < TIMES; i++) {
		b.refuses = i & 1;
		if (b.refuses) {
			t_err(change_open_nonblock(&desc, state, 0, 199),
			      -EAGAIN);
			continue;
		}
		t_err(change_open_nonblock(&desc, state, 0, 199), 0);
		change_end(&desc);
	}
	t_eq(driver_calls(&a), TIMES);
	t_eq(driver_calls(&b), TIMES);
	t_ok(!must_wait(&a));
	t_ok(!must_wait(&b));
	b.refuses = false;
	change(state, 0, 199);
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}

TEST(nonblocking_change_leaves_the_flag_cleared)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;

	t_err(change_open_nonblock(&desc, state, 0, 99), 0);
	t_eq(desc.flags & MMN_INVALIDATE_BLOCKABLE, 0);
	change_end(&desc);
	mmn_state_put(state);
}

TEST(second_half_of_a_nonblocking_start_is_refused_too)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	a.refuses = true;
	mmn_invalidate_desc_init(&desc, state, MMN_EVENT_UNMAP, 0, 99);
	desc.flags &= ~MMN_INVALIDATE_BLOCKABLE;
	t_ok(mmn_invalidate_open(&desc));
	t_err(mmn_invalidate_notify(&desc), -EAGAIN);
	t_ok(!must_wait(&a));
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(change_that_others_hold_open_survives_a_refusal)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc open, refused;
	struct reader reader;
	struct driver a, b;

	driver_add(&a, NULL, state, 0, 99);
	driver_add(&b, NULL, state, 50, 149);
	change_open(&open, state, 60, 60);
	b.refuses = true;
	t_err(change_open_nonblock(&refused, state, 0, 149), -EAGAIN);
	t_ok(must_wait(&a));
	t_ok(must_wait(&b));
	reader_start(&reader, &b.sub);
	reader_expect_asleep(&reader);
	change_end(&open);
	reader_join(&reader);
	t_ok(!must_wait(&a));
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}
