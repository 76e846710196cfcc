/* SPDX-License-Identifier: MIT */
/*
 * Conformance group IX: what a reader sees, signals, and deadlines.
 *
 * The races here are found by ThreadSanitizer in the build that has it, and by
 * plain mismatch, rarely, in the others.
 */
#include "unit/conformance.h"

#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/atomic.h"

struct memory {
	struct driver driver;
	struct mmn_state *state;
	/* Plain: ordered by the library alone. */
	uint64_t payload[8];
	/* atomic */
	uint32_t done;
};

enum { CHANGES = 3000 };

/*
 * One writer changes the payload inside changes; the reader waits with
 * read_begin, so that what it reads has been ordered by it, or collides.
 */
static void *payload_writer(void *arg)
{
	struct memory *memory = arg;

	for (uint64_t n = 1; n <= CHANGES; n++) {
		struct mmn_invalidate_desc desc;

		change_open(&desc, memory->state, 0, 99);
		for (int i = 0; i < 8; i++)
			mmn_store_relaxed(&memory->payload[i], n);
		change_end(&desc);
	}
	count_up(&memory->done);
	return NULL;
}

/* case 94 */
TEST(reader_that_does_not_collide_sees_one_state_of_the_memory, .timeout = 60)
{
	struct memory memory = { .state = new_state() };
	unsigned int good = 0, collided = 0;
	pthread_t thread;
	uint64_t newest = 0;

	driver_add(&memory.driver, NULL, memory.state, 0, 99);
	t_eq(pthread_create(&thread, NULL, payload_writer, &memory), 0);
	while (!count_of(&memory.done) || !good) {
		uint64_t seq = begin(&memory.driver), seen[8];

		for (int i = 0; i < 8; i++)
			seen[i] = mmn_load_relaxed(&memory.payload[i]);
		if (driver_retry(&memory.driver, seq)) {
			collided++;
			continue;
		}
		good++;
		for (int i = 1; i < 8; i++)
			t_eq(seen[i], seen[0]);
		t_ge(seen[0], newest);
		newest = seen[0];
	}
	pthread_join(thread, NULL);
	t_note("%u sections were good, %u collided", good, collided);
	driver_remove(&memory.driver);
	mmn_state_put(memory.state);
}

static void *plain_writer(void *arg)
{
	struct memory *memory = arg;
	struct mmn_invalidate_desc desc;

	change_open(&desc, memory->state, 0, 99);
	for (int i = 0; i < 8; i++)
		memory->payload[i] = 42;
	count_up(&memory->done);
	change_end(&desc);
	return NULL;
}

/*
 * case 94 with plain accesses, which ThreadSanitizer judges: the end is the
 * release, read_begin the acquire.
 */
TEST(change_happens_before_the_reader_that_waited_for_it)
{
	for (int round = 0; round < 50; round++) {
		struct memory memory = { .state = new_state() };
		pthread_t thread;
		uint64_t seq;

		driver_add(&memory.driver, NULL, memory.state, 0, 99);
		t_eq(pthread_create(&thread, NULL, plain_writer, &memory), 0);
		/* relaxed: only whether it was opened, nothing is read by it */
		while (!mmn_load_relaxed(&memory.done))
			sched_yield();
		seq = begin(&memory.driver);
		for (int i = 0; i < 8; i++)
			t_eq(memory.payload[i], 42);
		t_ok(!driver_retry(&memory.driver, seq));
		pthread_join(thread, NULL);
		driver_remove(&memory.driver);
		mmn_state_put(memory.state);
	}
}

/* The same, found by asking again and again instead of waiting. */
TEST(change_happens_before_the_try_that_succeeds)
{
	for (int round = 0; round < 50; round++) {
		struct memory memory = { .state = new_state() };
		pthread_t thread;
		uint64_t seq = 0;

		driver_add(&memory.driver, NULL, memory.state, 0, 99);
		t_eq(pthread_create(&thread, NULL, plain_writer, &memory), 0);
		/* relaxed: as above */
		while (!mmn_load_relaxed(&memory.done))
			sched_yield();
		while (mmn_range_read_begin_try(&memory.driver.sub, &seq))
			sched_yield();
		for (int i = 0; i < 8; i++)
			t_eq(memory.payload[i], 42);
		pthread_join(thread, NULL);
		driver_remove(&memory.driver);
		mmn_state_put(memory.state);
	}
}

static void look_at_payload(struct driver *driver,
			    const struct mmn_invalidate_desc *desc)
{
	struct memory *memory = driver->arg;

	t_eq(memory->payload[0], 7);
	memory->payload[1] = 8;
}

static void insert_in_thread(void *arg)
{
	struct memory *memory = arg;

	memory->payload[0] = 7;
	driver_init(&memory->driver, NULL);
	memory->driver.hook = look_at_payload;
	memory->driver.arg = memory;
	driver_insert(&memory->driver, memory->state, 0, 99);
	pause();
}

/* case 97: nothing but the insert orders the object before its callback. */
TEST(subscription_is_complete_when_its_first_callback_runs)
{
	struct memory memory = { .state = new_state() };
	struct mmn_invalidate_desc desc;
	struct actor actor;

	actor_start(&actor, insert_in_thread, &memory);
	/* Until one of these changes comes after the insert and calls back. */
	do {
		change_open(&desc, memory.state, 0, 99);
		change_end(&desc);
		sched_yield();
	} while (!memory.payload[1]);
	t_eq(memory.payload[1], 8);
	driver_remove(&memory.driver);
	pthread_cancel(actor.thread);
	actor_join(&actor);
	mmn_state_put(memory.state);
}

/* case 95 */
TEST(no_install_survives_a_teardown_it_raced_with, .timeout = 60)
{
	struct memory memory = { .state = new_state() };
	unsigned int installs = 0;
	pthread_t thread;

	driver_add(&memory.driver, NULL, memory.state, 0, 99);
	t_eq(pthread_create(&thread, NULL, payload_writer, &memory), 0);
	while (!count_of(&memory.done)) {
		uint64_t seq = begin(&memory.driver);
		uint64_t seen = mmn_load_relaxed(&memory.payload[0]);

		if (!driver_install(&memory.driver, seq))
			continue;
		installs++;
		pthread_mutex_lock(&memory.driver.lock);
		if (memory.driver.entry)
			t_eq(seen, mmn_load_relaxed(&memory.payload[0]));
		pthread_mutex_unlock(&memory.driver.lock);
	}
	pthread_join(thread, NULL);
	t_note("%u installs", installs);
	driver_remove(&memory.driver);
	mmn_state_put(memory.state);
}

struct checker {
	struct driver *driver;
	/* atomic */
	uint32_t stop;
	uint64_t seq;
};

static void *check_monotonic(void *arg)
{
	struct checker *checker = arg;
	bool collided = false;

	do {
		bool now = mmn_range_check_retry(&checker->driver->sub,
						 checker->seq);

		if (collided && !now)
			t_fail("it was true, and is not any more");
		collided = now;
	} while (!count_of(&checker->stop) || !collided);
	t_ok(collided);
	return NULL;
}

/* case 96 */
TEST(early_check_never_goes_back_to_false)
{
	struct mmn_state *state = new_state();
	pthread_t thread;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	for (int round = 0; round < 20; round++) {
		struct checker checker = { .driver = &a, .seq = begin(&a) };

		t_eq(pthread_create(&thread, NULL, check_monotonic, &checker),
		     0);
		for (int i = 0; i < 200; i++)
			change(state, 0, 99);
		count_up(&checker.stop);
		pthread_join(thread, NULL);
	}
	driver_remove(&a);
	mmn_state_put(state);
}

/* atomic */
static uint32_t signals_seen;

static void on_signal(int signal)
{
	count_up(&signals_seen);
}

static void catch_signals(void)
{
	/* No SA_RESTART: the wait must see EINTR. */
	struct sigaction action = { .sa_handler = on_signal };

	t_eq(sigaction(SIGUSR1, &action, NULL), 0);
}

/*
 * Each signal is for a thread that sleeps.  A signal that comes before the next
 * sleep is, under ThreadSanitizer, kept for the next call that it intercepts,
 * which comes when the sleep is over.
 */
static void disturb(struct actor *actor)
{
	for (int i = 1; i <= 20; i++) {
		unsigned int before = count_of(&signals_seen);

		actor_expect_asleep(actor);
		t_eq(pthread_kill(actor->thread, SIGUSR1), 0);
		while (count_of(&signals_seen) == before)
			sched_yield();
	}
	actor_expect_asleep(actor);
}

/* case 98 */
TEST(signal_does_not_end_the_wait_of_a_reader)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct reader reader;
	struct driver a;

	catch_signals();
	driver_add(&a, NULL, state, 0, 99);
	change_open(&desc, state, 0, 99);
	reader_start(&reader, &a.sub);
	reader_expect_asleep(&reader);
	disturb(&reader.actor);
	change_end(&desc);
	t_ok(!driver_retry(&a, reader_join(&reader)));
	driver_remove(&a);
	mmn_state_put(state);
}

static void stop_at_gate(struct driver *driver,
			 const struct mmn_invalidate_desc *desc)
{
	gate_pass(driver->arg);
}

/* case 98 */
TEST(signal_does_not_end_the_wait_of_a_remove)
{
	struct mmn_state *state = new_state();
	struct gate gate = GATE_INITIALIZER;
	struct changer changer;
	struct remover remover;
	struct driver a;

	catch_signals();
	driver_add(&a, NULL, state, 0, 99);
	a.hook = stop_at_gate;
	a.arg = &gate;
	changer_start(&changer, state, 0, 99);
	gate_wait_arrived(&gate, 1);
	remover_start(&remover, &a.sub);
	remover_expect_asleep(&remover);
	disturb(&remover.actor);
	gate_open(&gate);
	t_err(remover_join(&remover), 0);
	t_err(changer_join(&changer), 0);
	change_end(&changer.desc);
	mmn_state_put(state);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * UINT64_C(1000000000) + now.tv_nsec;
}

/* case 99 */
TEST(deadline_ends_the_wait_and_leaves_no_waiter)
{
	struct mmn_state *state = new_state();
	uint64_t seq = 5, deadline;
	struct changer changer;
	struct reader reader;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	changer_start(&changer, state, 0, 99);
	t_err(changer_join(&changer), 0);
	t_err(mmn_range_read_begin_timed(&a.sub, 0, &seq), -ETIMEDOUT);
	t_err(mmn_range_read_begin_timed(&a.sub, now_ns(), &seq), -ETIMEDOUT);
	deadline = now_ns() + 20 * 1000 * 1000;
	t_err(mmn_range_read_begin_timed(&a.sub, deadline, &seq), -ETIMEDOUT);
	t_ge(now_ns(), deadline);
	t_eq(seq, 5);

	/* One that comes after it is woken as ever. */
	reader_start(&reader, &a.sub);
	reader_expect_asleep(&reader);
	t_err(mmn_range_read_begin_timed(&a.sub, now_ns() + 1000, &seq),
	      -ETIMEDOUT);
	change_end(&changer.desc);
	t_ok(!driver_retry(&a, reader_join(&reader)));
	/* The subscription can be freed, and nobody is said to sleep on it. */
	driver_remove(&a);
	memset(&a, 0xa5, sizeof(a));
	change(state, 0, 99);
	mmn_state_put(state);
}

/* case 99: whoever went away is not said to sleep there. */
TEST(reader_whose_deadline_passed_does_not_bother_remove)
{
	struct mmn_state *state = new_state();
	struct changer changer;
	struct driver a;
	uint64_t seq;

	driver_add(&a, NULL, state, 0, 99);
	changer_start(&changer, state, 0, 99);
	t_err(changer_join(&changer), 0);
	t_err(mmn_range_read_begin_timed(&a.sub, 0, &seq), -ETIMEDOUT);
	driver_remove(&a);
	memset(&a, 0xa5, sizeof(a));
	change_end(&changer.desc);
	mmn_state_put(state);
}

/* case 99: not even when the deadline is long over. */
TEST(success_is_never_reported_as_a_timeout)
{
	struct mmn_state *state = new_state();
	struct driver a;
	uint64_t seq = 0;

	driver_add(&a, NULL, state, 0, 99);
	t_err(mmn_range_read_begin_timed(&a.sub, 0, &seq), 0);
	t_ok(!driver_retry(&a, seq));
	change(state, 0, 99);
	t_err(mmn_range_read_begin_timed(&a.sub, 0, &seq), 0);
	t_ok(!driver_retry(&a, seq));
	driver_remove(&a);
	mmn_state_put(state);
}

struct timed {
	struct actor actor;
	struct driver *driver;
	uint64_t seq;
	int result;
};

static void timed_run(void *arg)
{
	struct timed *timed = arg;

	timed->result = mmn_range_read_begin_timed(&timed->driver->sub,
						   UINT64_MAX, &timed->seq);
}

/* case 99: the largest deadline is for ever, not an overflow. */
TEST(deadline_in_the_far_future_waits_like_none)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a;
	struct timed timed = { .driver = &a };

	driver_add(&a, NULL, state, 0, 99);
	change_open(&desc, state, 0, 99);
	actor_start(&timed.actor, timed_run, &timed);
	actor_expect_asleep(&timed.actor);
	change_end(&desc);
	actor_join(&timed.actor);
	t_err(timed.result, 0);
	t_ok(!driver_retry(&a, timed.seq));
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 100: a change outlives its thread; whoever knows it can end it. */
TEST(change_of_a_thread_that_died_can_be_ended_by_another)
{
	struct mmn_state *state = new_state();
	struct changer changer;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	changer_start(&changer, state, 0, 99);
	t_err(changer_join(&changer), 0);
	t_ok(must_wait(&a));
	change_end(&changer.desc);
	t_ok(!must_wait(&a));
	driver_remove(&a);
	mmn_state_put(state);
}

static struct mmn_state *handler_state;
static volatile sig_atomic_t handler_changes;

static void change_in_handler(int signal)
{
	change(handler_state, 0, 99);
	handler_changes++;
}

/*
 * ThreadSanitizer keeps signals back and runs their handlers when the program
 * takes a lock: it does not know that the library has blocked them.
 */
static void need_prompt_signals(void)
{
#if defined(__SANITIZE_THREAD__)
	t_skip("the thread sanitizer runs handlers where signals are blocked");
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
	t_skip("the thread sanitizer runs handlers where signals are blocked");
#endif
#endif
}

/*
 * A handler of the program may change memory in the middle of any call of the
 * library.  The signals come from a timer, so that they hit everywhere.
 */
TEST(signal_handler_may_change_memory_in_the_middle_of_anything)
{
	struct sigaction action = { .sa_handler = change_in_handler };
	struct itimerspec every = { .it_interval = { .tv_nsec = 150 * 1000 },
				    .it_value = { .tv_nsec = 150 * 1000 } };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL,
				  .sigev_signo = SIGUSR2 };
	struct driver a, b;
	timer_t timer;

	need_prompt_signals();
	handler_state = new_state();
	driver_add(&a, NULL, handler_state, 0, 99);
	driver_init(&b, NULL);
	t_eq(sigaction(SIGUSR2, &action, NULL), 0);
	t_eq(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
	t_eq(timer_settime(timer, 0, &every, NULL), 0);
	while (handler_changes < 300) {
		struct mmn_invalidate_desc desc;
		uint64_t seq;

		driver_insert(&b, handler_state, 50, 149);
		seq = mmn_range_read_begin(&a.sub);
		t_ok(seq & 1);
		change_open(&desc, handler_state, 0, 199);
		change_end(&desc);
		t_ok(mmn_range_check_retry(&a.sub, seq));
		change(handler_state, 500, 599);
		driver_remove(&b);
	}
	timer_delete(timer);
	t_ok(!must_wait(&a));
	driver_remove(&a);
	mmn_state_put(handler_state);
}

/* A change in a handler, inside a change of the interrupted code. */
TEST(signal_handler_may_change_memory_inside_a_change)
{
	struct sigaction action = { .sa_handler = change_in_handler };
	struct mmn_invalidate_desc desc;
	struct driver a;

	need_prompt_signals();
	handler_state = new_state();
	driver_add(&a, NULL, handler_state, 0, 99);
	t_eq(sigaction(SIGUSR2, &action, NULL), 0);
	change_open(&desc, handler_state, 0, 99);
	raise(SIGUSR2);
	t_eq(driver_calls(&a), 2);
	t_ok(must_wait(&a));
	change_end(&desc);
	t_ok(!must_wait(&a));
	driver_remove(&a);
	mmn_state_put(handler_state);
}

static void ask_for_signal_mask(struct driver *driver,
				const struct mmn_invalidate_desc *desc)
{
	t_eq(pthread_sigmask(SIG_BLOCK, NULL, driver->arg), 0);
}

TEST(signals_are_blocked_in_callbacks_and_restored_after)
{
	struct mmn_state *state = new_state();
	sigset_t before, inside, after;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	a.hook = ask_for_signal_mask;
	a.arg = &inside;
	sigemptyset(&before);
	sigaddset(&before, SIGHUP);
	t_eq(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
	change(state, 0, 99);
	t_eq(pthread_sigmask(SIG_BLOCK, NULL, &after), 0);
	t_ok(sigismember(&inside, SIGUSR1));
	t_ok(sigismember(&inside, SIGALRM));
	t_ok(sigismember(&inside, SIGSEGV));
	for (int sig = 1; sig < 32; sig++)
		t_eq(sigismember(&after, sig), sig == SIGHUP);
	driver_remove(&a);
	mmn_state_put(state);
}
