/* SPDX-License-Identifier: MIT */
/* Sleeping until a word changes. */
#include "t/tap.h"

#include <mmn/debug.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/syscall.h"
#include "base/time.h"
#include "base/wait.h"
#include "unit/answer-syscall.h"

static const uint64_t MS = 1000000;

TEST(word_that_has_changed_already_is_not_waited_for)
{
	uint32_t word = 5;

	t_err(mmn_wait_on(&word, 4, NULL), 0);
}

/* Right at any moment; mostly when somebody sleeps on it. */
static void *wake_later(void *arg)
{
	uint32_t *word = arg;

	usleep(1000);
	/* relaxed: nothing else is read */
	mmn_fetch_add_relaxed(word, 1);
	mmn_wake(word, 1);
	return NULL;
}

static void wait_for_either(uint32_t *a, uint32_t *b, uint32_t *moved)
{
	uint32_t seen_a = mmn_load_relaxed(a);
	uint32_t seen_b = mmn_load_relaxed(b);
	pthread_t thread;

	t_err(pthread_create(&thread, NULL, wake_later, moved), 0);
	while (mmn_load_relaxed(a) == seen_a && mmn_load_relaxed(b) == seen_b)
		mmn_wait_on_two(a, seen_a, b, seen_b);
	t_err(pthread_join(thread, NULL), 0);
	t_ne(mmn_load_relaxed(moved), moved == a ? seen_a : seen_b);
}

TEST(either_of_two_words_ends_a_wait)
{
	uint32_t a = 5;
	uint32_t b = 6;

	mmn_wait_on_two(&a, 4, &b, 6);
	mmn_wait_on_two(&a, 5, &b, 7);
	wait_for_either(&a, &b, &a);
	wait_for_either(&a, &b, &b);
}

TEST(either_of_two_words_ends_a_wait_on_old_systems)
{
	uint32_t a = 5;
	uint32_t b = 6;

	answer_syscall(SYS_futex_waitv, ENOSYS);
	mmn_wait_on_two(&a, 4, &b, 6);
	wait_for_either(&a, &b, &a);
	wait_for_either(&a, &b, &b);
}

/* Older ones say so with this. */
TEST(a_sandbox_that_forbids_to_wait_for_two_does_not_make_it_spin)
{
	uint32_t a = 5;
	uint32_t b = 6;
	uint64_t began;

	answer_syscall(SYS_futex_waitv, EPERM);
	began = mmn_now_ns();
	mmn_wait_on_two(&a, 5, &b, 6);
	t_ge(mmn_now_ns() - began, 5 * MS);
	wait_for_either(&a, &b, &a);
	wait_for_either(&a, &b, &b);
}

TEST(deadline_in_the_past_times_out_at_once)
{
	struct timespec deadline = mmn_deadline(0);
	uint32_t word = 5;

	t_err(mmn_wait_on(&word, 5, &deadline), -ETIMEDOUT);
}

TEST(wait_times_out_at_the_deadline_and_not_before)
{
	uint64_t begin = mmn_now_ns();
	struct timespec deadline = mmn_timespec(begin + 20 * MS);
	uint32_t word = 5;

	t_err(mmn_wait_on(&word, 5, &deadline), -ETIMEDOUT);
	t_ge(mmn_now_ns() - begin, 20 * MS);
}

TEST(errno_is_not_touched)
{
	struct timespec deadline = mmn_deadline(0);
	uint32_t word = 5;

	errno = 4711;
	t_err(mmn_wait_on(&word, 5, &deadline), -ETIMEDOUT);
	t_err(mmn_wait_on(&word, 4, NULL), 0);
	t_eq(errno, 4711);
}

TEST(deadline_that_would_overflow_is_the_far_future)
{
	struct timespec deadline = mmn_deadline(UINT64_MAX);

	t_gt(deadline.tv_sec, mmn_timespec(mmn_now_ns()).tv_sec);
	t_ge(deadline.tv_nsec, 0);
	t_lt(deadline.tv_nsec, 1000000000);
}

struct sleeper {
	uint32_t word;
	/* Threads that are about to sleep. */
	uint32_t nr_ready;
	uint32_t nr_done;
};

static void *sleep_on_word(void *arg)
{
	struct sleeper *sleeper = arg;

	mmn_fetch_add_relaxed(&sleeper->nr_ready, 1);
	while (!mmn_load_relaxed(&sleeper->word))
		mmn_wait_on(&sleeper->word, 0, NULL);
	mmn_fetch_add_relaxed(&sleeper->nr_done, 1);
	return NULL;
}

TEST(change_and_wake_is_never_missed)
{
	enum { NR = 4, ROUNDS = 200 };
	int round;
	int i;

	for (round = 0; round < ROUNDS; round++) {
		struct sleeper sleeper = { .word = 0 };
		pthread_t threads[NR];

		for (i = 0; i < NR; i++)
			t_err(pthread_create(&threads[i], NULL, sleep_on_word,
					     &sleeper),
			      0);
		/* At a different moment in each round. */
		while (mmn_load_relaxed(&sleeper.nr_ready) <
		       (uint32_t)(round % (NR + 1)))
			mmn_syscall0(__NR_sched_yield);
		mmn_store_relaxed(&sleeper.word, 1);
		mmn_wake(&sleeper.word, NR);
		for (i = 0; i < NR; i++)
			pthread_join(threads[i], NULL);
		t_eq(sleeper.nr_done, NR);
	}
}

TEST(wake_tells_how_many_it_woke)
{
	uint32_t word = 0;

	t_eq(mmn_wake(&word, 1), 0);
}

static void interrupt(int signal)
{
	(void)signal;
}

struct disturber {
	pthread_t sleeper;
	uint32_t stop;
};

/* Again and again: the first one may come before the sleep. */
static void *interrupt_sleeper(void *arg)
{
	struct disturber *disturber = arg;

	/* relaxed: the thread is joined */
	while (!mmn_load_relaxed(&disturber->stop)) {
		pthread_kill(disturber->sleeper, SIGUSR1);
		usleep(5000);
	}
	return NULL;
}

TEST(signal_ends_the_wait_without_an_error)
{
	struct sigaction action = { .sa_handler = interrupt };
	struct timespec deadline = mmn_deadline(10000 * MS);
	struct disturber disturber = { .sleeper = pthread_self() };
	pthread_t thread;
	uint32_t word = 0;

	sigaction(SIGUSR1, &action, NULL);
	t_err(pthread_create(&thread, NULL, interrupt_sleeper, &disturber), 0);
	t_err(mmn_wait_on(&word, 0, &deadline), 0);
	mmn_store_relaxed(&disturber.stop, 1); /* relaxed: as above */
	pthread_join(thread, NULL);
}

struct giver {
	sem_t go;
	uint32_t given;
};

static void set_real_time(int priority)
{
	struct sched_param param = { .sched_priority = priority };

	if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &param))
		t_skip("real-time policies are not allowed");
}

static void *give(void *arg)
{
	struct giver *giver = arg;

	sem_wait(&giver->go);
	/* relaxed: nothing else is read */
	mmn_store_relaxed(&giver->given, 1);
	return NULL;
}

/* On one processor; a thread that only yields has it for ever. */
TEST(who_gives_way_lets_those_of_lower_priority_run)
{
	struct giver giver = { .given = 0 };
	pthread_t thread;
	uint32_t turn = 0;
	cpu_set_t one;

	t_need_kernel("priorities");
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	t_err(pthread_setaffinity_np(pthread_self(), sizeof(one), &one), 0);
	set_real_time(1);
	t_err(sem_init(&giver.go, 0, 0), 0);
	t_err(pthread_create(&thread, NULL, give, &giver), 0);
	set_real_time(2);
	sem_post(&giver.go);
	/* relaxed: nothing else is read */
	while (!mmn_load_relaxed(&giver.given))
		mmn_give_way(turn++);
	t_err(pthread_join(thread, NULL), 0);
	sem_destroy(&giver.go);
}
