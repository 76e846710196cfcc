/* SPDX-License-Identifier: MIT */
/*
 * What is counted for a subscription and for a state.
 */
#include "unit/conformance.h"

#include <sched.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/time.h"
#include "notifier/state.h"

static struct mmn_range_stats stats_of(const struct driver *driver)
{
	struct mmn_range_stats stats = { .size = sizeof(stats) };

	t_err(mmn_range_get_stats(&driver->sub, &stats), 0);
	t_eq(stats.size, sizeof(stats));
	return stats;
}

static struct mmn_state_stats state_stats(struct mmn_state *state)
{
	struct mmn_state_stats stats = { .size = sizeof(stats) };

	t_err(mmn_state_get_stats(state, &stats), 0);
	t_eq(stats.size, sizeof(stats));
	return stats;
}

/* ------------------------------------------------------------------ */
/* Callbacks                                                          */
/* ------------------------------------------------------------------ */

TEST(callbacks_are_counted_for_the_subscription_and_the_state)
{
	struct mmn_state *state = new_state();
	struct driver a, b;
	int i;

	driver_add(&a, NULL, state, 1000, 1999);
	driver_add(&b, NULL, state, 1500, 2999);
	change(state, 1000, 1000);
	change(state, 1999, 2000);
	/* one between them, one outside of all */
	change(state, 3000, 3000);
	change(state, 0, 999);
	t_eq(stats_of(&a).callbacks, 2);
	t_eq(stats_of(&b).callbacks, 1);
	t_eq(state_stats(state).hits, 2);
	t_eq(state_stats(state).callbacks, 3);
	/* more than the bits beside the count of open changes hold */
	for (i = 3; i <= 600; i++) {
		change(state, 1000, 1000);
		t_eq(stats_of(&a).callbacks, (uint64_t)i);
	}
	t_eq(stats_of(&a).open, 0);
	driver_remove(&b);
	driver_remove(&a);
	t_eq(state_stats(state).hits, 600);
	t_eq(state_stats(state).callbacks, 601);
	mmn_state_put(state);
}

TEST(a_refusal_is_a_callback_and_a_second_pass_is_not)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a, b;

	driver_init_two_pass(&a, NULL);
	a.wants_finish = true;
	driver_insert(&a, state, 1000, 1999);
	driver_init(&b, NULL);
	b.refuses = true;
	driver_insert(&b, state, 1500, 1999);
	change(state, 1000, 1000);
	t_eq(a.finishes, 1);
	t_err(change_open_nonblock(&desc, state, 1000, 1999), -EAGAIN);
	t_eq(stats_of(&a).callbacks, 2);
	t_eq(stats_of(&b).callbacks, 1);
	t_eq(state_stats(state).hits, 2);
	t_eq(state_stats(state).callbacks, 3);
	t_eq(state_stats(state).open, 0);
	driver_remove(&b);
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(a_subscription_keeps_its_numbers_until_it_is_initialised_again)
{
	struct mmn_state *state = new_state();
	struct driver a;
	uint64_t seq;

	driver_add(&a, NULL, state, 1000, 1999);
	seq = begin(&a);
	change(state, 1000, 1000);
	t_ok(driver_retry(&a, seq));
	t_err(mmn_range_subscription_resize(&a.sub, 2000, 2999), 0);
	change(state, 2000, 2000);
	driver_remove(&a);
	t_eq(stats_of(&a).callbacks, 2);
	driver_insert(&a, state, 1000, 1999);
	change(state, 1000, 1000);
	t_eq(stats_of(&a).callbacks, 3);
	t_eq(stats_of(&a).retries, 1);
	driver_remove(&a);
	driver_init(&a, NULL);
	t_eq(stats_of(&a).callbacks, 0);
	t_eq(stats_of(&a).retries, 0);
	mmn_state_put(state);
}

static void look_inside(struct driver *driver,
			const struct mmn_invalidate_desc *desc)
{
	(void)desc;
	t_eq(stats_of(driver).callbacks, 1);
	t_eq(stats_of(driver).open, 1);
	t_eq(state_stats(driver->arg).open, 1);
	t_eq(state_stats(driver->arg).ranges, 1);
}

TEST(numbers_are_read_in_callbacks_too)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a;

	driver_add(&a, NULL, state, 1000, 1999);
	a.hook = look_inside;
	a.arg = state;
	t_err(change_open_nonblock(&desc, state, 1000, 1000), 0);
	change_end(&desc);
	t_eq(driver_calls(&a), 1);
	driver_remove(&a);
	mmn_state_put(state);
}

/* ------------------------------------------------------------------ */
/* Readers                                                            */
/* ------------------------------------------------------------------ */

TEST(a_retry_is_counted_when_it_is_final)
{
	struct mmn_state *state = new_state();
	struct driver a;
	uint64_t seq;

	driver_add(&a, NULL, state, 1000, 1999);
	seq = begin(&a);
	t_ok(!driver_retry(&a, seq));
	t_eq(stats_of(&a).retries, 0);
	change(state, 1000, 1000);
	/* a hint is not */
	t_ok(mmn_range_check_retry(&a.sub, seq));
	t_eq(stats_of(&a).retries, 0);
	t_ok(driver_retry(&a, seq));
	t_eq(stats_of(&a).retries, 1);
	t_eq(stats_of(&a).waits, 0);
	t_eq(stats_of(&a).longest_wait_ns, 0);
	driver_remove(&a);
	mmn_state_put(state);
}

/* It sleeps until the change ends; how long it has done so at least. */
static uint64_t let_wait(struct driver *driver, struct mmn_state *state)
{
	struct mmn_invalidate_desc desc;
	struct reader reader;
	uint64_t asleep;

	change_open(&desc, state, 1000, 1000);
	reader_start(&reader, &driver->sub);
	/* relaxed: counted when its time is running */
	while (!mmn_load_relaxed(&range_of(&driver->sub)->sleepers))
		sched_yield();
	asleep = mmn_now_ns();
	reader_expect_asleep(&reader);
	asleep = mmn_now_ns() - asleep;
	change_end(&desc);
	t_ok(reader_join(&reader) & 1);
	return asleep;
}

TEST(waits_are_counted_and_the_longest_is_kept)
{
	struct mmn_state *state = new_state();
	struct driver a, b;
	uint64_t asleep, longest;

	driver_add(&a, NULL, state, 1000, 1999);
	driver_add(&b, NULL, state, 1000, 1999);
	asleep = let_wait(&a, state);
	longest = stats_of(&a).longest_wait_ns;
	t_eq(stats_of(&a).waits, 1);
	t_ge(longest, asleep);
	t_gt(longest, 0);
	t_eq(state_stats(state).longest_wait_ns, longest);
	let_wait(&a, state);
	t_eq(stats_of(&a).waits, 2);
	t_ge(stats_of(&a).longest_wait_ns, longest);
	longest = stats_of(&a).longest_wait_ns;
	t_eq(stats_of(&b).waits, 0);
	let_wait(&b, state);
	t_eq(stats_of(&b).waits, 1);
	t_gt(stats_of(&b).longest_wait_ns, 0);
	if (longest < stats_of(&b).longest_wait_ns)
		longest = stats_of(&b).longest_wait_ns;
	driver_remove(&b);
	driver_remove(&a);
	t_eq(state_stats(state).longest_wait_ns, longest);
	mmn_state_put(state);
}

TEST(a_wait_that_times_out_is_one)
{
	struct mmn_state *state = new_state();
	struct changer other;
	struct driver a;
	uint64_t seq;

	driver_add(&a, NULL, state, 1000, 1999);
	changer_start(&other, state, 1000, 1000);
	t_err(changer_join(&other), 0);
	t_err(mmn_range_read_begin_try(&a.sub, &seq), -EAGAIN);
	t_eq(stats_of(&a).waits, 0);
	t_err(mmn_range_read_begin_timed(&a.sub, 1, &seq), -ETIMEDOUT);
	t_eq(stats_of(&a).waits, 1);
	t_eq(state_stats(state).longest_wait_ns, stats_of(&a).longest_wait_ns);
	change_end(&other.desc);
	t_err(mmn_range_read_begin_timed(&a.sub, 1, &seq), 0);
	t_eq(stats_of(&a).waits, 1);
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(a_reader_whose_subscription_goes_while_it_waits_needs_no_state)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct reader reader;
	struct driver a;

	report_expected("removed while a reader sleeps");
	driver_add(&a, NULL, state, 1000, 1999);
	change_open(&desc, state, 1000, 1000);
	reader_start(&reader, &a.sub);
	reader_expect_asleep(&reader);
	driver_remove(&a);
	change_end(&desc);
	mmn_state_put(state);
	t_eq(reader_join(&reader), 0);
	t_eq(stats_of(&a).waits, 1);
}

/* ------------------------------------------------------------------ */
/* What is there now                                                  */
/* ------------------------------------------------------------------ */

#define NR_OPEN (NR_SLOTS + 8)

TEST(open_changes_are_counted_in_slots_and_beyond)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc[NR_OPEN];
	struct driver a;
	uint32_t i;

	driver_add(&a, NULL, state, 1000, 1999);
	for (i = 0; i < NR_OPEN; i++) {
		t_eq(state_stats(state).open, i);
		t_eq(stats_of(&a).open, i);
		change_open(&desc[i], state, 1000, 1000);
	}
	for (i = 0; i < NR_OPEN; i++)
		change_end(&desc[i]);
	t_eq(state_stats(state).open, 0);
	t_eq(state_stats(state).hits, NR_OPEN);
	t_eq(state_stats(state).callbacks, NR_OPEN);
	t_eq(stats_of(&a).callbacks, NR_OPEN);
	/* those that concern nobody are open as well */
	change_open(&desc[0], state, 5000, 5000);
	t_eq(state_stats(state).open, 1);
	t_eq(stats_of(&a).open, 0);
	change_end(&desc[0]);
	driver_remove(&a);
	mmn_state_put(state);
}

#define NR_DRIVERS 1000

TEST(subscriptions_and_memory_are_told)
{
	static struct driver drivers[NR_DRIVERS];
	struct mmn_state *state = new_state();
	uint64_t memory = state_stats(state).memory_bytes;
	struct classic classic;
	uint32_t i;

	t_ge(memory, sizeof(struct mmn_state));
	t_may_keep_mapped(4 << 20, "memory for callbacks is kept for reuse");
	for (i = 0; i < NR_DRIVERS; i++)
		driver_add(&drivers[i], NULL, state, (uintptr_t)i << 20,
			   ((uintptr_t)i << 20) + 4095);
	classic_add(&classic, NULL, &classic_ops, state);
	t_eq(state_stats(state).ranges, NR_DRIVERS);
	t_eq(state_stats(state).classics, 1);
	/* at least 16 bits for each of two granules of each */
	t_ge(state_stats(state).memory_bytes, memory + NR_DRIVERS * 4);
	t_err(mmn_subscription_unregister(&classic.sub), 0);
	for (i = 0; i < NR_DRIVERS; i++)
		driver_remove(&drivers[i]);
	t_eq(state_stats(state).ranges, 0);
	t_eq(state_stats(state).classics, 0);
	mmn_state_put(state);
}

/* ------------------------------------------------------------------ */
/* Sizes and errors                                                   */
/* ------------------------------------------------------------------ */

TEST(as_much_is_written_as_the_caller_knows)
{
	struct mmn_state *state = new_state();
	struct {
		struct mmn_range_stats stats;
		uint64_t more[2];
	} range;
	struct {
		struct mmn_state_stats stats;
		uint64_t more[2];
	} whole;
	struct driver a;

	driver_add(&a, NULL, state, 1000, 1999);
	change(state, 1000, 1000);
	memset(&range, 0xff, sizeof(range));
	range.stats.size = offsetof(struct mmn_range_stats, callbacks);
	t_err(mmn_range_get_stats(&a.sub, &range.stats), 0);
	t_eq(range.stats.open, 0);
	t_eq(range.stats.callbacks, UINT64_MAX);
	range.stats.size = sizeof(range.stats) + sizeof(range.more[0]);
	t_err(mmn_range_get_stats(&a.sub, &range.stats), 0);
	t_eq(range.stats.callbacks, 1);
	t_eq(range.more[0], 0);
	t_eq(range.more[1], UINT64_MAX);

	memset(&whole, 0xff, sizeof(whole));
	whole.stats.size = offsetof(struct mmn_state_stats, hits);
	t_err(mmn_state_get_stats(state, &whole.stats), 0);
	t_eq(whole.stats.ranges, 1);
	t_eq(whole.stats.hits, UINT64_MAX);
	whole.stats.size = sizeof(whole.stats) + sizeof(whole.more[0]);
	t_err(mmn_state_get_stats(state, &whole.stats), 0);
	t_eq(whole.stats.hits, 1);
	t_eq(whole.more[0], 0);
	t_eq(whole.more[1], UINT64_MAX);
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(what_is_no_subscription_has_no_statistics)
{
	struct mmn_state *state = new_state();
	struct mmn_range_stats range = { .size = sizeof(range) };
	struct mmn_state_stats whole = { .size = sizeof(whole) };
	struct driver a;

	memset(&a, 0, sizeof(a));
	t_err(mmn_range_get_stats(&a.sub, &range), -EINVAL);
	driver_init(&a, NULL);
	t_err(mmn_range_get_stats(&a.sub, &range), 0);
	t_err(mmn_range_get_stats(NULL, &range), -EINVAL);
	t_err(mmn_range_get_stats(&a.sub, NULL), -EINVAL);
	range.size = sizeof(range.size) - 1;
	t_err(mmn_range_get_stats(&a.sub, &range), -EINVAL);

	t_err(mmn_state_get_stats(NULL, &whole), -EINVAL);
	t_err(mmn_state_get_stats(state, NULL), -EINVAL);
	whole.size = sizeof(whole.size) - 1;
	t_err(mmn_state_get_stats(state, &whole), -EINVAL);
	mmn_state_put(state);
}

TEST(a_fork_child_has_no_statistics)
{
	struct mmn_state *state = new_state();
	struct driver a;
	int status;
	pid_t pid;

	driver_add(&a, NULL, state, 1000, 1999);
	pid = fork();
	if (!pid) {
		struct mmn_range_stats range = { .size = sizeof(range) };
		struct mmn_state_stats whole = { .size = sizeof(whole) };

		_exit(mmn_range_get_stats(&a.sub, &range) == -ESTALE &&
				      mmn_state_get_stats(state, &whole) ==
					      -ESTALE
			      ? 0
			      : 1);
	}
	t_eq(waitpid(pid, &status, 0), pid);
	t_eq(status, 0);
	driver_remove(&a);
	mmn_state_put(state);
}

/* ------------------------------------------------------------------ */
/* Races                                                              */
/* ------------------------------------------------------------------ */

#define NR_THREADS 3
#define NR_CHANGES 1500

static struct {
	struct mmn_state *state;
	struct driver both, own[NR_THREADS];
	/* atomic */
	uint32_t nr_running;
} race;

static void *make_changes(void *arg)
{
	uintptr_t start = ((uintptr_t)arg + 1) << 20;
	int i;

	for (i = 0; i < NR_CHANGES; i++) {
		/* all of them, and its own */
		change(race.state, 0, 99);
		change(race.state, start, start);
	}
	/* relaxed: a flag */
	mmn_fetch_sub_relaxed(&race.nr_running, 1);
	return NULL;
}

static void come_and_go(void)
{
	struct driver other;
	int i;

	driver_init(&other, NULL);
	for (i = 0; i < 20; i++) {
		driver_insert(&other, race.state, 0, UINTPTR_MAX);
		driver_remove(&other);
	}
	t_le(stats_of(&other).callbacks, 2 * NR_THREADS * NR_CHANGES);
}

TEST(nothing_is_lost_when_changes_are_counted_at_once)
{
	pthread_t threads[NR_THREADS];
	uintptr_t i;

	race.state = new_state();
	race.nr_running = NR_THREADS;
	driver_add(&race.both, NULL, race.state, 0, 99);
	for (i = 0; i < NR_THREADS; i++)
		driver_add(&race.own[i], NULL, race.state, (i + 1) << 20,
			   ((i + 1) << 20) + 9);
	for (i = 0; i < NR_THREADS; i++)
		t_eq(pthread_create(&threads[i], NULL, make_changes, (void *)i),
		     0);
	come_and_go();
	/* relaxed: a flag */
	while (mmn_load_relaxed(&race.nr_running)) {
		t_le(stats_of(&race.both).open, NR_THREADS);
		t_eq(state_stats(race.state).ranges, NR_THREADS + 1);
	}
	for (i = 0; i < NR_THREADS; i++)
		t_eq(pthread_join(threads[i], NULL), 0);
	t_eq(state_stats(race.state).open, 0);
	t_eq(stats_of(&race.both).open, 0);
	t_eq(stats_of(&race.both).callbacks, NR_THREADS * NR_CHANGES);
	t_eq(stats_of(&race.both).callbacks, race.both.calls);
	t_eq(state_stats(race.state).hits, 2 * NR_THREADS * NR_CHANGES);
	for (i = 0; i < NR_THREADS; i++) {
		t_eq(stats_of(&race.own[i]).callbacks, NR_CHANGES);
		driver_remove(&race.own[i]);
	}
	driver_remove(&race.both);
	mmn_state_put(race.state);
}
