/* SPDX-License-Identifier: MIT */
/* The lock checker finds what it is there to find, and nothing else. */
#include "t/tap.h"

#include <mmn/debug.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/lock.h"
#include "base/wait.h"

/* Most of what is here is wrong on purpose. */
#ifdef __clang__
#pragma clang diagnostic ignored "-Wthread-safety-analysis"
#endif

static struct mmn_mutex mirror = MMN_MUTEX_INIT(MMN_RANK_MIRROR);
static struct mmn_mutex state = MMN_MUTEX_INIT(MMN_RANK_STATE);
static struct mmn_mutex other_state = MMN_MUTEX_INIT(MMN_RANK_STATE);
static struct mmn_mutex arena = MMN_MUTEX_INIT(MMN_RANK_ARENA);

static unsigned int nr_reports;
static char last_text[512];

static void record(const struct mmn_debug_report *report)
{
	nr_reports++;
	strncpy(last_text, report->text, sizeof(last_text) - 1);
}

TEST(ascending_ranks_are_silent)
{
	mmn_mutex_lock(&mirror);
	mmn_mutex_lock(&state);
	mmn_mutex_lock(&arena);
	mmn_mutex_unlock(&arena);
	mmn_mutex_unlock(&state);
	mmn_mutex_unlock(&mirror);
	mmn_mutex_lock(&mirror);
	mmn_mutex_unlock(&mirror);
	t_eq(t_bugs_seen(), 0);
}

TEST(locks_may_be_released_in_any_order)
{
	mmn_mutex_lock(&mirror);
	mmn_mutex_lock(&state);
	mmn_mutex_unlock(&mirror);
	mmn_mutex_lock(&arena);
	mmn_mutex_unlock(&state);
	mmn_mutex_unlock(&arena);
	mmn_mutex_lock(&mirror);
	mmn_mutex_unlock(&mirror);
	t_eq(t_bugs_seen(), 0);
}

TEST(descending_ranks_are_reported_without_a_deadlock)
{
	t_bug_expected("lock order");
	mmn_mutex_lock(&arena);
	mmn_mutex_lock(&state);
	t_eq(t_bugs_seen(), 1);
	mmn_mutex_unlock(&state);
	mmn_mutex_unlock(&arena);
}

TEST(order_is_checked_against_every_held_lock)
{
	t_bug_expected("lock order");
	mmn_mutex_lock(&state);
	t_ok(mmn_mutex_trylock(&mirror));
	mmn_mutex_lock(&other_state);
	mmn_mutex_unlock(&other_state);
	mmn_mutex_unlock(&mirror);
	mmn_mutex_unlock(&state);
}

TEST(equal_ranks_are_reported)
{
	t_bug_expected("lock order");
	mmn_mutex_lock(&state);
	mmn_mutex_lock(&other_state);
	mmn_mutex_unlock(&other_state);
	mmn_mutex_unlock(&state);
}

TEST(trylock_cannot_deadlock_and_is_silent)
{
	mmn_mutex_lock(&arena);
	t_ok(mmn_mutex_trylock(&state));
	mmn_mutex_unlock(&state);
	mmn_mutex_unlock(&arena);
}

TEST(report_names_both_places)
{
	char first[64];
	char second[64];

	t_need_selfcheck();
	mmn_debug_set_handler(record);
	/* clang-format off */
	mmn_mutex_lock(&arena); snprintf(first, 64, "lock-rank-test.c:%d (rank 160)", __LINE__);
	mmn_mutex_lock(&state); snprintf(second, 64, "lock-rank-test.c:%d (rank 140)", __LINE__);
	/* clang-format on */
	t_eq(nr_reports, 1);
	t_note("%s", last_text);
	t_ok(strstr(last_text, first));
	t_ok(strstr(last_text, second));
	mmn_mutex_unlock(&state);
	mmn_mutex_unlock(&arena);
}

TEST(one_pair_of_places_is_reported_once)
{
	int i;

	t_need_selfcheck();
	mmn_debug_set_handler(record);
	for (i = 0; i < 10; i++) {
		mmn_mutex_lock(&arena);
		mmn_mutex_lock(&state);
		mmn_mutex_unlock(&state);
		mmn_mutex_unlock(&arena);
	}
	t_eq(nr_reports, 1);
	mmn_mutex_lock(&arena);
	mmn_mutex_lock(&state);
	t_eq(nr_reports, 2);
	mmn_mutex_unlock(&state);
	mmn_mutex_unlock(&arena);
}

static void *lock_twice(void *unused)
{
	mmn_mutex_lock(&state);
	mmn_mutex_lock(&state);
	return unused;
}

/* A handler that does not return: the second lock would never be taken. */
static void end_thread(const struct mmn_debug_report *report)
{
	record(report);
	pthread_exit(NULL);
}

TEST(second_lock_by_the_holder_is_reported_before_it_hangs)
{
	pthread_t thread;

	t_need_selfcheck();
	mmn_debug_set_handler(end_thread);
	t_err(pthread_create(&thread, NULL, lock_twice, NULL), 0);
	pthread_join(thread, NULL);
	t_eq(nr_reports, 1);
	t_ok(strstr(last_text, "taken twice"));
}

TEST(unlock_without_lock_is_reported)
{
	t_bug_expected("does not hold it");
	mmn_mutex_unlock(&state);
	t_eq(t_bugs_seen(), 1);
}

static void *ask_whether_held(void *result)
{
	*(bool *)result = mmn_mutex_is_held(&state);
	return NULL;
}

TEST(holding_is_known_to_the_holder_only)
{
	pthread_t thread;
	bool held = true;

	t_need_selfcheck();
	t_ok(!mmn_mutex_is_held(&state));
	mmn_mutex_lock(&state);
	t_ok(mmn_mutex_is_held(&state));
	t_err(pthread_create(&thread, NULL, ask_whether_held, &held), 0);
	pthread_join(thread, NULL);
	t_ok(!held);
	mmn_mutex_unlock(&state);
	t_ok(!mmn_mutex_is_held(&state));
}

TEST(trylock_fails_on_a_held_lock)
{
	struct mmn_mutex m;

	mmn_mutex_init(&m, MMN_RANK_LEAF);
	t_ok(mmn_mutex_trylock(&m));
	t_ok(!mmn_mutex_trylock(&m));
	mmn_mutex_unlock(&m);
	mmn_mutex_fini(&m);
}

TEST(sleeping_with_a_short_lock_is_reported)
{
	uint32_t word = 0;

	t_bug_expected("sleeps with a short lock held");
	mmn_mutex_lock(&state);
	t_err(mmn_wait_on(&word, 1, NULL), 0);
	mmn_mutex_unlock(&state);
}

TEST(sleeping_with_a_long_lock_is_silent)
{
	uint32_t word = 0;

	mmn_mutex_lock(&mirror);
	t_err(mmn_wait_on(&word, 1, NULL), 0);
	mmn_mutex_unlock(&mirror);
}

TEST(sleeping_in_a_callback_that_must_not_is_reported)
{
	struct mmn_callback_frame frame;
	uint32_t word = 0;

	t_bug_expected("sleeps in a callback that must not");
	mmn_context_enter_callback(&frame, &word, false);
	t_err(mmn_wait_on(&word, 1, NULL), 0);
	mmn_context_leave_callback(&frame);
}

TEST(blocking_lock_in_a_callback_that_must_not_sleep_is_reported)
{
	struct mmn_callback_frame frame;

	t_bug_expected("a blocking lock in a callback that must not sleep");
	mmn_context_enter_callback(&frame, &state, false);
	mmn_mutex_lock(&mirror);
	mmn_mutex_unlock(&mirror);
	mmn_context_leave_callback(&frame);
}

TEST(short_lock_in_a_callback_that_must_not_sleep_is_silent)
{
	struct mmn_callback_frame frame;

	mmn_context_enter_callback(&frame, &state, false);
	mmn_mutex_lock(&state);
	mmn_mutex_unlock(&state);
	mmn_context_leave_callback(&frame);
	t_ok(!mmn_context_in_callback());
}

TEST(callbacks_nest_and_not_sleeping_is_inherited)
{
	struct mmn_callback_frame outer;
	struct mmn_callback_frame inner;
	int a;
	int b;

	t_ok(!mmn_context_in_callback());
	mmn_context_enter_callback(&outer, &a, false);
	mmn_context_enter_callback(&inner, &b, true);
	t_ok(mmn_context_in_callback_of(&a));
	t_ok(mmn_context_in_callback_of(&b));
	t_ok(mmn_context_in_nonblocking_callback());
	mmn_context_leave_callback(&inner);
	t_ok(!mmn_context_in_callback_of(&b));
	t_ok(mmn_context_in_callback_of(&a));
	mmn_context_leave_callback(&outer);
	t_ok(!mmn_context_in_callback());
	mmn_context_enter_callback(&outer, &a, true);
	t_ok(!mmn_context_in_nonblocking_callback());
	mmn_context_leave_callback(&outer);
}

TEST(open_changes_are_counted_per_thread)
{
	t_eq(mmn_context_open_changes(), 0);
	mmn_context_change_opened();
	mmn_context_change_opened();
	t_eq(mmn_context_open_changes(), 2);
	mmn_context_change_closed();
	mmn_context_change_closed();
	/* Ended here, opened elsewhere: no effect on this thread's count. */
	mmn_context_change_closed();
	t_eq(mmn_context_open_changes(), 0);
}

static volatile sig_atomic_t nr_signals;

static void count_signal(int signal)
{
	(void)signal;
	nr_signals = nr_signals + 1;
}

TEST(blocked_signals_come_when_they_are_restored)
{
	struct mmn_sigmask outer;
	struct mmn_sigmask inner;

	signal(SIGUSR1, count_signal);
	mmn_signals_block(&outer);
	mmn_signals_block(&inner);
	raise(SIGUSR1);
	mmn_signals_restore(&inner);
	t_eq(nr_signals, 0);
	mmn_signals_restore(&outer);
	/* ThreadSanitizer keeps signals back until a call that it knows. */
	usleep(1);
	t_eq(nr_signals, 1);
}

struct counter {
	struct mmn_mutex lock;
	uint64_t count;
};

static void *count_up(void *arg)
{
	struct counter *counter = arg;
	int i;

	for (i = 0; i < 20000; i++) {
		mmn_mutex_lock(&counter->lock);
		counter->count++;
		mmn_mutex_unlock(&counter->lock);
	}
	return NULL;
}

TEST(mutex_excludes)
{
	enum { NR = 4 };
	struct counter counter = { .count = 0 };
	pthread_t threads[NR];
	int i;

	mmn_mutex_init(&counter.lock, MMN_RANK_LEAF);
	for (i = 0; i < NR; i++)
		t_err(pthread_create(&threads[i], NULL, count_up, &counter), 0);
	for (i = 0; i < NR; i++)
		pthread_join(threads[i], NULL);
	t_eq(counter.count, NR * 20000);
	mmn_mutex_fini(&counter.lock);
}
