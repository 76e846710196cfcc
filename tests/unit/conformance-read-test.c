/* SPDX-License-Identifier: MIT */
/* Conformance group III: the reader's side when all goes well. */
#include "unit/conformance.h"

/* case 26 */
TEST(section_without_a_change_does_not_collide)
{
	struct mmn_state *state = new_state();
	struct driver a;
	uint64_t seq;

	driver_add(&a, NULL, state, 0, 99);
	/* Sections that are begun and never ended cost nothing. */
	for (int i = 0; i < 1000; i++)
		begin(&a);
	seq = begin(&a);
	t_ok(!mmn_range_check_retry(&a.sub, seq));
	t_ok(!driver_retry(&a, seq));
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 27 */
TEST(change_in_a_section_collides_and_the_next_section_is_new)
{
	struct mmn_state *state = new_state();
	uint64_t first, second;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	first = begin(&a);
	change(state, 50, 50);
	t_ok(driver_retry(&a, first));
	second = begin(&a);
	t_ne(second, first);
	t_ok(!driver_retry(&a, second));
	t_ok(driver_retry(&a, first));
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 28 */
TEST(change_elsewhere_does_not_collide)
{
	struct mmn_state *state = new_state();
	struct driver a, b;
	uint64_t seq;

	driver_add(&a, NULL, state, 0, 99);
	driver_add(&b, NULL, state, 100, 199);
	seq = begin(&a);
	change(state, 100, 199);
	change(state, 5000, 6000);
	t_eq(driver_calls(&b), 1);
	t_ok(!mmn_range_check_retry(&a.sub, seq));
	t_ok(!driver_retry(&a, seq));
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}

/* case 29 */
TEST(early_check_says_true_for_good)
{
	struct mmn_state *state = new_state();
	struct driver a;
	uint64_t seq;

	driver_add(&a, NULL, state, 0, 99);
	seq = begin(&a);
	t_ok(!mmn_range_check_retry(&a.sub, seq));
	change(state, 0, 0);
	for (int i = 0; i < 100; i++) {
		t_ok(mmn_range_check_retry(&a.sub, seq));
		t_ok(mmn_range_check_retry(&a.sub, seq));
		change(state, i, i);
	}
	t_ok(driver_retry(&a, seq));
	seq = begin(&a);
	t_ok(!mmn_range_check_retry(&a.sub, seq));
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 30 */
TEST(change_that_is_still_open_collides)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a;
	uint64_t seq;

	driver_add(&a, NULL, state, 0, 99);
	seq = begin(&a);
	change_open(&desc, state, 0, 0);
	t_ok(mmn_range_check_retry(&a.sub, seq));
	t_ok(driver_retry(&a, seq));
	change_end(&desc);
	t_ok(driver_retry(&a, seq));
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 31 */
TEST(reader_sleeps_until_the_change_ends)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct reader reader;
	struct driver a;
	uint64_t seq;

	driver_add(&a, NULL, state, 0, 99);
	change_open(&desc, state, 99, 99);
	t_ok(must_wait(&a));
	reader_start(&reader, &a.sub);
	reader_expect_asleep(&reader);
	change_end(&desc);
	seq = reader_join(&reader);
	t_ok(seq & 1);
	t_ok(!driver_retry(&a, seq));
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 32 */
TEST(reader_does_not_wait_for_a_change_elsewhere)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc touching, far;
	struct driver a;
	uint64_t seq;

	driver_add(&a, NULL, state, 100, 199);
	change_open(&touching, state, 200, 299);
	change_open(&far, state, 5000, 6000);
	seq = begin(&a);
	t_ok(!driver_retry(&a, seq));
	change_end(&far);
	change_end(&touching);
	t_ok(!driver_retry(&a, seq));
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 33 */
TEST(install_before_the_callback_got_the_lock_is_torn_down)
{
	struct mmn_state *state = new_state();
	struct changer changer;
	struct driver a;
	uint64_t seq;

	driver_add(&a, NULL, state, 0, 99);
	seq = begin(&a);
	pthread_mutex_lock(&a.lock);
	t_ok(!mmn_range_read_retry(&a.sub, seq));
	changer_start(&changer, state, 0, 99);
	changer_expect_asleep(&changer);
	t_ok(!mmn_range_read_retry(&a.sub, seq));
	a.entry = true;
	pthread_mutex_unlock(&a.lock);
	t_err(changer_join(&changer), 0);
	/* start has returned: the entry is gone. */
	t_ok(!driver_has_entry(&a));
	change_end(&changer.desc);
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 34 */
TEST(install_after_the_callback_had_the_lock_is_refused)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a;
	uint64_t seq;

	driver_add(&a, NULL, state, 0, 99);
	seq = begin(&a);
	change_open(&desc, state, 0, 99);
	t_ok(!driver_install(&a, seq));
	t_ok(!driver_has_entry(&a));
	change_end(&desc);
	t_ok(!driver_install(&a, seq));
	t_ok(!driver_has_entry(&a));
	t_ok(driver_install(&a, begin(&a)));
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 35 */
TEST(last_good_sequence_stays_good_without_a_change)
{
	struct mmn_state *state = new_state();
	struct driver a, b;
	uint64_t seq;

	driver_add(&a, NULL, state, 0, 99);
	driver_add(&b, NULL, state, 200, 299);
	seq = begin(&a);
	for (int i = 0; i < 1000; i++) {
		t_ok(!driver_retry(&a, seq));
		t_eq(begin(&a), seq);
		change(state, 200, 299);
	}
	t_ok(!driver_retry(&a, seq));
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}

/* case 36 */
TEST(zero_is_never_a_good_sequence)
{
	struct mmn_state *state = new_state();
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	t_ok(mmn_range_check_retry(&a.sub, 0));
	t_ok(driver_retry(&a, 0));
	change(state, 0, 99);
	t_ok(mmn_range_check_retry(&a.sub, 0));
	t_ok(driver_retry(&a, 0));
	driver_remove(&a);
	t_ok(mmn_range_check_retry(&a.sub, 0));
	t_ok(driver_retry(&a, 0));
	mmn_state_put(state);
}

/* case 37 */
TEST(section_may_end_in_another_thread)
{
	struct mmn_state *state = new_state();
	struct reader reader;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	reader_start(&reader, &a.sub);
	t_ok(!driver_retry(&a, reader_join(&reader)));
	change(state, 0, 0);
	t_ok(driver_retry(&a, reader.seq));
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 38 */
TEST(one_change_collides_with_every_reader)
{
	struct mmn_state *state = new_state();
	struct reader one, two;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	reader_start(&one, &a.sub);
	reader_start(&two, &a.sub);
	reader_join(&one);
	reader_join(&two);
	change(state, 0, 0);
	t_ok(driver_retry(&a, one.seq));
	t_ok(driver_retry(&a, two.seq));
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 39 */
TEST(callback_that_filters_makes_nobody_start_over)
{
	struct mmn_state *state = new_state();
	struct driver a;
	uint64_t seq;

	driver_add(&a, NULL, state, 0, 99);
	seq = begin(&a);
	a.filters = true;
	change(state, 0, 99);
	t_eq(driver_calls(&a), 1);
	t_ok(!mmn_range_check_retry(&a.sub, seq));
	t_ok(!driver_retry(&a, seq));
	a.filters = false;
	change(state, 0, 99);
	t_ok(driver_retry(&a, seq));
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 40 */
TEST(snapshot_in_steps_is_checked_by_its_first_sequence)
{
	struct mmn_state *state = new_state();
	uint64_t first, second;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	first = begin(&a);
	/* Step 1 reads [0, 49], then step 2 begins, then step 1's part goes. */
	second = begin(&a);
	t_eq(second, first);
	change(state, 0, 49);
	t_ok(driver_retry(&a, first));

	/* The same with the change between the steps. */
	first = begin(&a);
	change(state, 0, 49);
	second = begin(&a);
	t_ok(!driver_retry(&a, second));
	t_ok(driver_retry(&a, first));
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(try_form_needs_no_wait_and_agrees_with_begin)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	uint64_t seq = 0, untouched = 5;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	t_err(mmn_range_read_begin_try(&a.sub, &seq), 0);
	t_eq(seq, begin(&a));
	t_ok(!driver_retry(&a, seq));
	change_open(&desc, state, 0, 99);
	t_err(mmn_range_read_begin_try(&a.sub, &untouched), -EAGAIN);
	t_eq(untouched, 5);
	change_end(&desc);
	t_err(mmn_range_read_begin_try(&a.sub, &seq), 0);
	t_ok(!driver_retry(&a, seq));
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(reader_of_a_subscription_that_is_not_inserted_gets_zero)
{
	uint64_t seq = 5, later = 5;
	struct driver a;

	driver_init(&a, NULL);
	t_eq(mmn_range_read_begin(&a.sub), 0);
	t_err(mmn_range_read_begin_try(&a.sub, &seq), 0);
	t_eq(seq, 0);
	t_err(mmn_range_read_begin_timed(&a.sub, 0, &later), 0);
	t_eq(later, 0);
	t_ok(mmn_range_check_retry(&a.sub, 1));
	t_ok(driver_retry(&a, 1));
}
