/* SPDX-License-Identifier: MIT */
/* Conformance group VI: removal, and everything it may race with. */
#include "unit/conformance.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

/* case 70 */
TEST(removed_subscription_is_not_called_and_its_memory_is_free)
{
	struct mmn_state *state = new_state();
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	driver_remove(&a);
	t_eq(driver_calls(&a), 0);
	memset(&a, 0xa5, sizeof(a));
	change(state, 0, 99);
	change(state, EVERYTHING);
	mmn_state_put(state);
}

/* case 71: the kernel waits for the end. */
TEST(remove_does_not_wait_for_a_change_whose_callback_is_over)
{
	struct mmn_state *state = new_state();
	struct changer changer;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	changer_start(&changer, state, 0, 99);
	t_err(changer_join(&changer), 0);
	t_eq(driver_calls(&a), 1);
	driver_remove(&a);
	memset(&a, 0xa5, sizeof(a));
	change(state, 0, 99);
	change_end(&changer.desc);
	mmn_state_put(state);
}

static void stop_at_gate(struct driver *driver,
			 const struct mmn_invalidate_desc *desc)
{
	gate_pass(driver->arg);
}

/* case 72 */
TEST(remove_waits_for_a_callback_that_runs)
{
	struct mmn_state *state = new_state();
	struct gate gate = GATE_INITIALIZER;
	struct driver *a = aligned_alloc(64, sizeof(*a));
	struct changer changer;
	struct remover remover;

	t_ne(a, NULL);
	driver_add(a, NULL, state, 0, 99);
	a->hook = stop_at_gate;
	a->arg = &gate;
	changer_start(&changer, state, 0, 99);
	gate_wait_arrived(&gate, 1);
	remover_start(&remover, &a->sub);
	remover_expect_asleep(&remover);
	/* It is gone for everybody else already. */
	change(state, 0, 99);
	t_err(mmn_range_subscription_remove(&a->sub), -ENOENT);
	gate_open(&gate);
	t_err(remover_join(&remover), 0);
	memset(a, 0xa5, sizeof(*a));
	free(a);
	t_err(changer_join(&changer), 0);
	change_end(&changer.desc);
	mmn_state_put(state);
}

TEST(remove_does_not_wait_for_the_callback_of_another)
{
	struct mmn_state *state = new_state();
	struct gate gate = GATE_INITIALIZER;
	struct changer changer;
	struct driver a, b;

	driver_add(&a, NULL, state, 0, 99);
	driver_add(&b, "b", state, 0, 99);
	a.hook = stop_at_gate;
	a.arg = &gate;
	changer_start(&changer, state, 0, 99);
	gate_wait_arrived(&gate, 1);
	/* B is next in this very walk. */
	driver_remove(&b);
	memset(&b, 0xa5, sizeof(b));
	gate_open(&gate);
	t_err(changer_join(&changer), 0);
	change_end(&changer.desc);
	t_streq(journal(), "");
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(remove_waits_for_the_second_pass)
{
	struct mmn_state *state = new_state();
	struct gate gate = GATE_INITIALIZER;
	struct changer changer;
	struct remover remover;
	struct driver a, b;

	/* B's first pass stops between A's first and second. */
	driver_init_two_pass(&a, "a");
	driver_insert(&a, state, 0, 99);
	driver_add(&b, "b", state, 100, 199);
	b.hook = stop_at_gate;
	b.arg = &gate;
	changer_start(&changer, state, 0, 199);
	gate_wait_arrived(&gate, 1);
	remover_start(&remover, &a.sub);
	remover_expect_asleep(&remover);
	gate_open(&gate);
	t_err(remover_join(&remover), 0);
	t_streq(journal(), "a.start b a.finish");
	t_err(changer_join(&changer), 0);
	change_end(&changer.desc);
	driver_remove(&b);
	mmn_state_put(state);
}

static void remove_arg_deferred(struct driver *driver,
				const struct mmn_invalidate_desc *desc)
{
	struct driver *victim = driver->arg;

	driver->hook = NULL;
	t_err(mmn_range_subscription_remove_deferred(&victim->sub), 0);
	if (victim == driver)
		t_eq(count_of(&victim->releases), 0);
	t_err(mmn_range_subscription_remove_deferred(&victim->sub), -ENOENT);
}

/* case 73 */
TEST(callback_may_remove_its_own_subscription_deferred)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	a.hook = remove_arg_deferred;
	a.arg = &a;
	change_open(&desc, state, 0, 99);
	t_eq(count_of(&a.releases), 1);
	t_eq(driver_calls(&a), 1);
	memset(&a.sub, 0xa5, sizeof(a.sub));
	change(state, 0, 99);
	change_end(&desc);
	t_eq(driver_calls(&a), 0);
	t_eq(count_of(&a.releases), 1);
	mmn_state_put(state);
}

static void remove_arg(struct driver *driver,
		       const struct mmn_invalidate_desc *desc)
{
	struct driver *victim = driver->arg;

	report_expected("remove in a callback");
	t_err(mmn_range_subscription_remove(&victim->sub), -EDEADLK);
}

/* case 73, the plain form */
TEST(plain_remove_in_its_own_callback_is_refused_and_reported)
{
	struct mmn_state *state = new_state();
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	a.hook = remove_arg;
	a.arg = &a;
	change(state, 0, 99);
	t_eq(driver_calls(&a), 1);
	/* It had no effect. */
	a.hook = NULL;
	change(state, 0, 99);
	t_eq(driver_calls(&a), 1);
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 73, removing somebody else the plain way */
TEST(plain_remove_of_another_in_a_callback_is_refused_and_reported)
{
	struct mmn_state *state = new_state();
	struct driver a, b;

	driver_add(&a, NULL, state, 0, 99);
	driver_add(&b, NULL, state, 200, 299);
	a.hook = remove_arg;
	a.arg = &b;
	change(state, 0, 99);
	change(state, 200, 299);
	t_eq(driver_calls(&b), 1);
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}

/* case 74 */
TEST(callback_may_remove_the_next_of_the_walk)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a, b, c;

	driver_add(&a, "a", state, 0, 99);
	driver_add(&b, "b", state, 50, 149);
	driver_add(&c, "c", state, 100, 199);
	a.hook = remove_arg_deferred;
	a.arg = &b;
	change_open(&desc, state, 0, 199);
	/* No callback of B starts after the removal. */
	t_streq(journal(), "a c");
	t_eq(count_of(&b.releases), 1);
	memset(&b.sub, 0xa5, sizeof(b.sub));
	change(state, 0, 199);
	t_streq(journal(), "a c a c");
	change_end(&desc);
	t_ok(!must_wait(&a));
	t_ok(!must_wait(&c));
	driver_remove(&a);
	driver_remove(&c);
	mmn_state_put(state);
}

/* case 74, backwards: the cursor of the walk has passed B, or stands on it. */
TEST(callback_may_remove_those_the_walk_has_passed)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a, b, c;

	driver_add(&a, "a", state, 0, 99);
	driver_add(&b, "b", state, 50, 149);
	driver_add(&c, "c", state, 100, 199);
	b.hook = remove_arg_deferred;
	b.arg = &a;
	change_open(&desc, state, 0, 199);
	t_streq(journal(), "a b c");
	t_eq(count_of(&a.releases), 1);
	memset(&a.sub, 0xa5, sizeof(a.sub));
	change_end(&desc);

	b.hook = remove_arg_deferred;
	b.arg = &b;
	journal_clear();
	change_open(&desc, state, 0, 199);
	t_streq(journal(), "b c");
	t_eq(count_of(&b.releases), 1);
	memset(&b.sub, 0xa5, sizeof(b.sub));
	t_ok(must_wait(&c));
	change_end(&desc);
	t_ok(!must_wait(&c));
	driver_remove(&c);
	mmn_state_put(state);
}

/* case 73: the callback runs in two threads, the second is the last. */
TEST(deferred_release_comes_when_the_last_callback_is_over)
{
	struct mmn_state *state = new_state();
	struct gate gate = GATE_INITIALIZER;
	struct changer one, two;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	a.hook = stop_at_gate;
	a.arg = &gate;
	changer_start(&one, state, 0, 99);
	changer_start(&two, state, 0, 99);
	gate_wait_arrived(&gate, 2);
	t_err(mmn_range_subscription_remove_deferred(&a.sub), 0);
	t_eq(count_of(&a.releases), 0);
	t_err(mmn_range_subscription_remove_deferred(&a.sub), -ENOENT);
	t_err(mmn_range_subscription_remove(&a.sub), -ENOENT);
	/* Gone for new changes. */
	change(state, 0, 99);
	gate_open(&gate);
	t_err(changer_join(&one), 0);
	t_err(changer_join(&two), 0);
	t_eq(count_of(&a.releases), 1);
	change_end(&one.desc);
	change_end(&two.desc);
	t_eq(count_of(&a.releases), 1);
	mmn_state_put(state);
}

TEST(deferred_remove_when_idle_releases_at_once)
{
	struct mmn_state *state = new_state();
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	t_err(mmn_range_subscription_remove_deferred(&a.sub), 0);
	t_eq(count_of(&a.releases), 1);
	change(state, 0, 99);
	t_eq(driver_calls(&a), 0);
	mmn_state_put(state);
}

TEST(deferred_release_waits_for_the_second_pass)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a, b;

	driver_init_two_pass(&a, "a");
	driver_insert(&a, state, 0, 99);
	driver_add(&b, "b", state, 100, 199);
	/* B removes A between A's passes. */
	b.hook = remove_arg_deferred;
	b.arg = &a;
	change_open(&desc, state, 0, 199);
	t_streq(journal(), "a.start b a.finish");
	t_eq(a.finishes, 1);
	t_eq(count_of(&a.releases), 1);
	change_end(&desc);
	driver_remove(&b);
	mmn_state_put(state);
}

static bool accept(struct mmn_range_subscription *sub,
		   const struct mmn_invalidate_desc *desc, uint64_t cur_seq)
{
	return true;
}

TEST(deferred_remove_without_a_release_op_is_refused)
{
	static const struct mmn_range_ops ops = { .invalidate = accept };
	struct mmn_range_config config = { .size = sizeof(config),
					   .ops = &ops };
	struct mmn_range_subscription sub;
	struct mmn_state *state = new_state();

	t_err(mmn_range_subscription_init(&sub, &config), 0);
	t_err(mmn_range_subscription_insert(&sub, state, 0, 99), 0);
	t_err(mmn_range_subscription_remove_deferred(&sub), -EINVAL);
	/* It is still there. */
	t_err(mmn_range_subscription_remove(&sub), 0);
	mmn_state_put(state);
}

static void release_and_free(struct mmn_range_subscription *sub)
{
	memset(sub, 0xa5, sizeof(*sub));
	free(sub);
}

TEST(release_op_may_free_the_subscription)
{
	static const struct mmn_range_ops ops = {
		.invalidate = accept,
		.release = release_and_free,
	};
	struct mmn_range_config config = { .size = sizeof(config),
					   .ops = &ops };
	struct mmn_state *state = new_state();

	for (int i = 0; i < 100; i++) {
		struct mmn_range_subscription *sub =
			aligned_alloc(64, sizeof(*sub));

		t_err(mmn_range_subscription_init(sub, &config), 0);
		t_err(mmn_range_subscription_insert(sub, state, i, 99), 0);
		t_err(mmn_range_subscription_remove_deferred(sub), 0);
		change(state, 0, 99);
	}
	mmn_state_put(state);
}

TEST(release_of_the_last_subscription_may_free_the_state)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	a.hook = remove_arg_deferred;
	a.arg = &a;
	change_open(&desc, state, 0, 99);
	t_eq(count_of(&a.releases), 1);
	change_end(&desc);
	mmn_state_put(state);
}

/* case 75: a self-wait in the kernel; here there is nothing to wait for. */
TEST(remove_inside_an_own_change_returns)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a, b;

	driver_add(&a, NULL, state, 0, 99);
	driver_add(&b, NULL, state, 0, 99);
	change_open(&desc, state, 0, 99);
	driver_remove(&a);
	memset(&a, 0xa5, sizeof(a));
	t_ok(must_wait(&b));
	change_end(&desc);
	t_ok(!must_wait(&b));
	driver_remove(&b);
	mmn_state_put(state);
}

struct self_waiter {
	struct actor actor;
	struct driver *driver;
	struct mmn_state *state;
	struct mmn_invalidate_desc desc;
	struct gate opened;
};

static void open_and_read(void *arg)
{
	struct self_waiter *waiter = arg;

	change_open(&waiter->desc, waiter->state, 0, 99);
	gate_pass(&waiter->opened);
	mmn_range_read_begin(&waiter->driver->sub);
}

/* case 75, the wait that is one: a reader inside its own change. */
TEST(reader_inside_an_own_change_is_reported)
{
	struct self_waiter waiter = { .opened = GATE_INITIALIZER };
	struct driver a;

	waiter.state = new_state();
	waiter.driver = &a;
	driver_add(&a, NULL, waiter.state, 0, 99);
	report_expected("inside an own change");
	actor_start(&waiter.actor, open_and_read, &waiter);
	gate_wait_arrived(&waiter.opened, 1);
	gate_open(&waiter.opened);
	/* If it waits, it waits for this. */
	while (mmn_debug_is_enabled() && !t_bugs_seen())
		sched_yield();
	change_end(&waiter.desc);
	actor_join(&waiter.actor);
	t_ok(!must_wait(&a));
	driver_remove(&a);
	mmn_state_put(waiter.state);
}

/* case 76: the kernel would have deferred the insert to the end. */
TEST(insert_and_remove_inside_one_change_leave_nothing)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a, b;

	driver_add(&b, NULL, state, 0, 999);
	change_open(&desc, state, 0, 99);
	driver_add(&a, NULL, state, 50, 149);
	driver_remove(&a);
	t_eq(driver_calls(&a), 0);
	memset(&a, 0xa5, sizeof(a));
	change_end(&desc);
	change(state, 0, 999);
	t_ok(!must_wait(&b));
	driver_remove(&b);
	mmn_state_put(state);
}

/* case 77 */
TEST(insert_remove_insert_inside_one_change_takes_effect)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a, b;
	uint64_t seq;

	driver_add(&b, NULL, state, 0, 999);
	change_open(&desc, state, 0, 99);
	driver_add(&a, NULL, state, 50, 149);
	driver_remove(&a);
	driver_insert(&a, state, 50, 149);
	t_ok(must_wait(&a));
	driver_remove(&a);
	driver_insert(&a, state, 100, 149);
	t_ok(!must_wait(&a));
	change(state, 100, 100);
	t_eq(driver_calls(&a), 1);
	change_end(&desc);
	seq = begin(&a);
	change(state, 149, 149);
	t_ok(driver_retry(&a, seq));
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}

struct race {
	pthread_barrier_t barrier;
	struct driver *driver;
	struct mmn_state *state;
	/* atomic */
	uint32_t removed, absent, deferred;
};

enum { RACES = 2000 };

static void count_result(struct race *race, int err)
{
	if (!err)
		count_up(&race->removed);
	else if (err == -ENOENT)
		count_up(&race->absent);
	else
		t_fail("remove returned %d", err);
}

static void *remove_in_rounds(void *arg)
{
	struct race *race = arg;

	for (int i = 0; i < RACES; i++) {
		pthread_barrier_wait(&race->barrier);
		count_result(race,
			     mmn_range_subscription_remove(&race->driver->sub));
		pthread_barrier_wait(&race->barrier);
	}
	return NULL;
}

/* case 78 */
TEST(two_threads_that_remove_get_one_success)
{
	struct race race = { .state = new_state() };
	pthread_t thread;
	struct driver a;

	race.driver = &a;
	driver_init(&a, NULL);
	pthread_barrier_init(&race.barrier, NULL, 2);
	t_eq(pthread_create(&thread, NULL, remove_in_rounds, &race), 0);
	for (int i = 0; i < RACES; i++) {
		driver_insert(&a, race.state, 0, 99);
		pthread_barrier_wait(&race.barrier);
		count_result(&race, mmn_range_subscription_remove(&a.sub));
		pthread_barrier_wait(&race.barrier);
		t_eq(count_of(&race.removed), i + 1);
		t_eq(count_of(&race.absent), i + 1);
	}
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&race.barrier);
	mmn_state_put(race.state);
}

/* case 78, with the deferred form as the rival */
TEST(plain_and_deferred_remove_get_one_success)
{
	struct race race = { .state = new_state() };
	pthread_t thread;
	struct driver a;

	race.driver = &a;
	driver_init(&a, NULL);
	pthread_barrier_init(&race.barrier, NULL, 2);
	t_eq(pthread_create(&thread, NULL, remove_in_rounds, &race), 0);
	for (int i = 0; i < RACES; i++) {
		int err;

		driver_insert(&a, race.state, 0, 99);
		pthread_barrier_wait(&race.barrier);
		err = mmn_range_subscription_remove_deferred(&a.sub);
		count_result(&race, err);
		if (!err)
			race.deferred++;
		pthread_barrier_wait(&race.barrier);
		t_eq(count_of(&race.removed), i + 1);
		t_eq(count_of(&a.releases), race.deferred);
	}
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&race.barrier);
	mmn_state_put(race.state);
}

struct flood {
	struct mmn_state *state;
	/* atomic */
	uint32_t stop, changes;
};

static void *flood_main(void *arg)
{
	struct flood *flood = arg;

	while (!count_of(&flood->stop)) {
		change(flood->state, 0, 99);
		count_up(&flood->changes);
	}
	return NULL;
}

/* case 79, in small: freed and poisoned while changes close. */
TEST(memory_of_a_removed_subscription_is_not_touched_again)
{
	struct flood flood = { .state = new_state() };
	pthread_t thread;
	struct driver *last = NULL;

	t_eq(pthread_create(&thread, NULL, flood_main, &flood), 0);
	while (!count_of(&flood.changes))
		;
	for (int i = 0; i < 10 * 1000; i++) {
		struct driver *a = aligned_alloc(64, sizeof(*a));

		t_ne(a, NULL);
		driver_add(a, NULL, flood.state, i % 100, 99);
		driver_remove(a);
		memset(a, 0xa5, sizeof(*a));
		/* Freed one round later, so that poison stays in place. */
		if (last)
			for (size_t n = 0; n < sizeof(last->sub); n++)
				if (((unsigned char *)&last->sub)[n] != 0xa5)
					t_fail("byte %zu was written", n);
		free(last);
		last = a;
	}
	free(last);
	count_up(&flood.stop);
	pthread_join(thread, NULL);
	t_gt(flood.changes, 0);
	mmn_state_put(flood.state);
}

/* case 80 */
TEST(remove_wakes_a_sleeping_reader_with_zero_and_reports_it)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct reader reader;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	change_open(&desc, state, 0, 99);
	reader_start(&reader, &a.sub);
	reader_expect_asleep(&reader);
	report_expected("a reader sleeps");
	driver_remove(&a);
	t_eq(reader_join(&reader), 0);
	t_ok(driver_retry(&a, reader.seq));
	change_end(&desc);
	mmn_state_put(state);
}

/* case 81 */
TEST(subscription_moved_to_another_range_matches_only_there)
{
	struct mmn_state *state = new_state();
	uint64_t old, seq;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	old = begin(&a);
	driver_remove(&a);
	t_ok(mmn_range_check_retry(&a.sub, old));
	t_ok(driver_retry(&a, old));
	driver_insert(&a, state, 1000, 1099);
	/* What was read from the old range is worth nothing in the new. */
	t_ok(mmn_range_check_retry(&a.sub, old));
	t_ok(driver_retry(&a, old));
	t_eq(mmn_range_subscription_start(&a.sub), 1000);
	t_eq(mmn_range_subscription_last(&a.sub), 1099);
	change(state, 0, 99);
	t_eq(driver_calls(&a), 0);
	change(state, 1000, 1000);
	t_eq(driver_calls(&a), 1);
	seq = begin(&a);
	t_ne(seq, old);
	t_ok(!driver_retry(&a, seq));
	t_ok(driver_retry(&a, old));
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 81, where a fresh state could begin to count anew */
TEST(sequence_of_another_state_is_not_good_here)
{
	struct mmn_state *one = new_state(), *two = new_state();
	uint64_t old;
	struct driver a;

	driver_add(&a, NULL, one, 0, 99);
	old = begin(&a);
	driver_remove(&a);
	driver_insert(&a, two, 0, 99);
	t_ok(driver_retry(&a, old));
	t_ok(mmn_range_check_retry(&a.sub, old));
	driver_remove(&a);
	mmn_state_put(one);
	mmn_state_put(two);
}

/* case 82 */
TEST(twin_of_a_removed_subscription_is_still_called)
{
	struct mmn_state *state = new_state();
	struct driver a, b;

	driver_add(&a, NULL, state, 0, 99);
	driver_add(&b, NULL, state, 0, 99);
	driver_remove(&a);
	change(state, 0, 99);
	t_eq(driver_calls(&a), 0);
	t_eq(driver_calls(&b), 1);
	driver_insert(&a, state, 0, 99);
	driver_remove(&b);
	change(state, 0, 99);
	t_eq(driver_calls(&a), 1);
	t_eq(driver_calls(&b), 0);
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 83 */
TEST(remove_gets_through_a_flood_of_changes)
{
	struct flood flood = { .state = new_state() };
	pthread_t thread[2];
	unsigned int called = 0;
	struct driver a;

	for (int i = 0; i < 2; i++)
		t_eq(pthread_create(&thread[i], NULL, flood_main, &flood), 0);
	driver_init(&a, NULL);
	for (int i = 0; i < 200; i++) {
		unsigned int calls;

		driver_insert(&a, flood.state, 0, 99);
		while (!(calls = driver_calls(&a)))
			sched_yield();
		called += calls;
		driver_remove(&a);
		driver_calls(&a);
	}
	count_up(&flood.stop);
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	t_ge(called, 200);
	mmn_state_put(flood.state);
}

TEST(open_change_forgets_a_subscription_that_was_removed)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a;

	/* Same memory, same range, while the change that hit it is open. */
	driver_add(&a, NULL, state, 0, 99);
	change_open(&desc, state, 0, 99);
	driver_remove(&a);
	driver_insert(&a, state, 0, 99);
	t_ok(must_wait(&a));
	t_eq(driver_calls(&a), 1);
	change_end(&desc);
	t_ok(!must_wait(&a));

	change_open(&desc, state, 0, 99);
	driver_remove(&a);
	driver_insert(&a, state, 100, 199);
	t_ok(!must_wait(&a));
	change_end(&desc);
	t_ok(!must_wait(&a));
	t_ok(!driver_retry(&a, begin(&a)));
	driver_remove(&a);
	mmn_state_put(state);
}
