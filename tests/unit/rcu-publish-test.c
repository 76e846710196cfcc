/* SPDX-License-Identifier: MIT */
/*
 * Publication and reclaim.  Objects are poisoned after their grace period: a
 * reader that sees poison was not waited for.  Under ThreadSanitizer the test
 * also shows that the annotations of base/rcu.h leave no false report.
 */
#include "t/tap.h"

#include <dirent.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/lock.h"
#include "base/rcu.h"

enum { NR_READERS = 2, NR_UPDATES = 300, POISON = 0x5a5a };

struct object {
	int a;
	int b;
	struct mmn_rcu_head rcu;
};

static struct object *slot;
static bool stop;
static pthread_barrier_t all_running;

struct reader {
	pthread_t thread;
	uint64_t nr_bad;
};

static struct object *make(int value)
{
	struct object *object = malloc(sizeof(*object));

	object->a = value;
	object->b = -value;
	return object;
}

static void *read_objects(void *arg)
{
	struct reader *reader = arg;

	pthread_barrier_wait(&all_running);
	/* relaxed: a flag without data */
	while (!mmn_load_relaxed(&stop)) {
		const struct object *object;

		mmn_rcu_read_lock();
		mmn_rcu_read_lock();
		/*
		 * pair(rcu_publish): acquire, with the release in publish().
		 * Without it the members may be read before they are written.
		 */
		object = mmn_rcu_dereference(slot);
		if (object->a != -object->b)
			reader->nr_bad++;
		mmn_rcu_read_unlock();
		if (object->a == POISON)
			reader->nr_bad++;
		mmn_rcu_read_unlock();
	}
	return NULL;
}

static struct object *publish(struct object *new)
{
	struct object *old = slot;

	/*
	 * pair(rcu_publish): release, with the acquire in read_objects().
	 * Without it a reader sees an object that is not filled in.
	 */
	mmn_rcu_publish(slot, new);
	return old;
}

static void poison_and_free(struct object *object)
{
	object->a = POISON;
	object->b = POISON;
	free(object);
}

static void free_deferred(struct mmn_rcu_head *head)
{
	poison_and_free(container_of(head, struct object, rcu));
}

static void run(bool deferred)
{
	struct reader readers[NR_READERS] = { { .nr_bad = 0 } };
	int i;

	pthread_barrier_init(&all_running, NULL, NR_READERS + 1);
	slot = make(0);
	for (i = 0; i < NR_READERS; i++)
		t_err(pthread_create(&readers[i].thread, NULL, read_objects,
				     &readers[i]),
		      0);
	pthread_barrier_wait(&all_running);
	for (i = 1; i <= NR_UPDATES; i++) {
		struct object *old = publish(make(i));

		if (deferred) {
			mmn_rcu_defer(&old->rcu, free_deferred);
			continue;
		}
		/* So that readers see many of the objects. */
		sched_yield();
#ifndef BUSTED_grace_period
		mmn_rcu_synchronize();
#endif
		poison_and_free(old);
	}
	if (deferred)
		mmn_rcu_barrier();
	mmn_store_relaxed(&stop, true);
	for (i = 0; i < NR_READERS; i++) {
		pthread_join(readers[i].thread, NULL);
		t_eq(readers[i].nr_bad, 0);
	}
	free(slot);
	pthread_barrier_destroy(&all_running);
}

TEST(readers_are_waited_for)
{
	run(false);
}

TEST(deferred_functions_run_after_the_readers)
{
	t_may_keep_mapped(64 << 20, "the thread that runs them stays");
	run(true);
}

TEST(waiting_inside_a_section_is_reported)
{
	t_bug_expected("inside a read section");
	mmn_rcu_read_lock();
	mmn_rcu_synchronize();
	mmn_rcu_read_unlock();
	t_eq(t_bugs_seen(), 1);
}

static void have_a_section(int number)
{
	mmn_rcu_read_lock();
	mmn_rcu_read_unlock();
}

/* atomic: 1 when its sections are over */
static uint32_t had_sections;

static void *begin_to_read(void *arg)
{
	int i;

	pthread_barrier_wait(&all_running);
	for (i = 0; i < 100; i++)
		have_a_section(0);
	/* relaxed: a flag without data */
	mmn_store_relaxed(&had_sections, 1);
	pthread_barrier_wait(&all_running);
	return NULL;
}

TEST(the_first_section_of_a_thread_may_be_interrupted)
{
	struct sigaction action = { .sa_handler = have_a_section };
	pthread_t thread;
	int i;

	t_eq(sigaction(SIGUSR1, &action, NULL), 0);
	pthread_barrier_init(&all_running, NULL, 2);
	for (i = 0; i < 60; i++) {
		mmn_store_relaxed(&had_sections, 0);
		pthread_create(&thread, NULL, begin_to_read, NULL);
		pthread_barrier_wait(&all_running);
		/* relaxed: a flag without data */
		while (!mmn_load_relaxed(&had_sections))
			pthread_kill(thread, SIGUSR1);
		pthread_barrier_wait(&all_running);
		pthread_join(thread, NULL);
	}
	pthread_barrier_destroy(&all_running);
}

static void *stay_in_a_section(void *arg)
{
	mmn_rcu_read_lock();
	pthread_barrier_wait(&all_running);
	pthread_barrier_wait(&all_running);
	mmn_rcu_read_unlock();
	return NULL;
}

static void do_nothing(struct mmn_rcu_head *head)
{
	free(head);
}

static void defer_something(void)
{
	mmn_rcu_defer(calloc(1, sizeof(struct mmn_rcu_head)), do_nothing);
}

/* With a reader that the child does not have, and something deferred there. */
static void fork_and_wait(void)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		alarm(10);
		mmn_rcu_read_lock();
		mmn_rcu_read_unlock();
		mmn_rcu_synchronize();
		defer_something();
		mmn_rcu_barrier();
		_exit(0);
	}
	t_eq(waitpid(pid, &status, 0), pid);
	t_ok(WIFEXITED(status));
}

TEST(a_fork_child_waits_for_nobody_of_its_parent)
{
	pthread_t thread;

	t_may_keep_mapped(64 << 20, "the thread that frees stays");
	pthread_barrier_init(&all_running, NULL, 2);
	pthread_create(&thread, NULL, stay_in_a_section, NULL);
	pthread_barrier_wait(&all_running);
	defer_something();
	fork_and_wait();
	pthread_barrier_wait(&all_running);
	pthread_join(thread, NULL);
	mmn_rcu_barrier();
	pthread_barrier_destroy(&all_running);
}

TEST(a_fork_does_not_claim_the_thread_for_the_library)
{
	int status;
	pid_t pid;

	t_may_keep_mapped(64 << 20, "the thread that frees stays");
	t_err(mmn_rcu_prepare(), 0);
	pid = fork();
	if (!pid)
		_exit(0);
	t_eq(waitpid(pid, &status, 0), pid);
	/* Twice would be the end of the process. */
	urcu_memb_register_thread();
	have_a_section(0);
	urcu_memb_unregister_thread();
	t_eq(status, 0);
}

/* Set before a section of the program ends. */
static uint32_t section_is_over;

/* The program uses liburcu itself, and the thread belongs to it first. */
static void *read_beside_program(void *arg)
{
	urcu_memb_register_thread();
	have_a_section(0);
	urcu_memb_read_lock();
	pthread_barrier_wait(&all_running);
	sched_yield();
	/* relaxed: the grace period orders it */
	mmn_store_relaxed(&section_is_over, 1);
	urcu_memb_read_unlock();
	pthread_barrier_wait(&all_running);
	urcu_memb_unregister_thread();
	return NULL;
}

TEST(a_thread_may_be_registered_with_liburcu_already)
{
	pthread_t thread;
	int i;

	pthread_barrier_init(&all_running, NULL, 2);
	/* The second thread gets the memory of the first. */
	for (i = 0; i < 2; i++) {
		/* relaxed, both: the grace period orders it */
		mmn_store_relaxed(&section_is_over, 0);
		pthread_create(&thread, NULL, read_beside_program, NULL);
		pthread_barrier_wait(&all_running);
		mmn_rcu_synchronize();
		t_eq(mmn_load_relaxed(&section_is_over), 1);
		pthread_barrier_wait(&all_running);
		pthread_join(thread, NULL);
		mmn_rcu_synchronize();
	}
	pthread_barrier_destroy(&all_running);
}

/* atomic: how many deferred functions have been called */
static uint32_t nr_called;

static void count_late(struct mmn_rcu_head *head)
{
	struct timespec some = { 0, 20000000 };

	nanosleep(&some, NULL);
	/* relaxed: a count */
	mmn_fetch_add_relaxed(&nr_called, 1);
	free(head);
}

/* With a thread of its own for them, as each processor may have one. */
static void *defer_elsewhere(void *its)
{
	urcu_memb_set_thread_call_rcu_data(its);
	mmn_rcu_defer(calloc(1, sizeof(struct mmn_rcu_head)), count_late);
	t_ok(urcu_memb_get_thread_call_rcu_data() == its);
	return NULL;
}

TEST(what_is_deferred_is_waited_for_though_liburcu_has_many_threads)
{
	struct call_rcu_data *its = urcu_memb_create_call_rcu_data(0, -1);
	pthread_t thread;
	int i;

	t_may_keep_mapped(128 << 20, "the threads that run them stay");
	for (i = 1; i <= 2; i++) {
		pthread_create(&thread, NULL, defer_elsewhere, its);
		pthread_join(thread, NULL);
		mmn_rcu_barrier();
		/* relaxed: a count */
		t_eq(mmn_load_relaxed(&nr_called), i);
	}
}

static unsigned int nr_threads(void)
{
	DIR *tasks = opendir("/proc/self/task");
	const struct dirent *entry;
	unsigned int nr = 0;

	t_ok(tasks);
	while ((entry = readdir(tasks)))
		nr += entry->d_name[0] != '.';
	closedir(tasks);
	return nr;
}

/* Later a fork may have the heap locked, and wait for who defers. */
TEST(the_thread_for_what_is_deferred_can_be_started_before)
{
	unsigned int before = nr_threads(), nr;

	t_may_keep_mapped(64 << 20, "the thread that frees stays");
	t_err(mmn_rcu_prepare(), 0);
	/* ThreadSanitizer has started one of its own, too. */
	nr = nr_threads();
	t_gt(nr, before);
	defer_something();
	t_eq(nr_threads(), nr);
	mmn_rcu_barrier();
}

/* As in a change; setuid() waits for a signal of libc's own in every thread. */
TEST(the_thread_may_be_started_with_all_signals_blocked)
{
	struct mmn_sigmask saved;

	t_may_keep_mapped(64 << 20, "the thread that frees stays");
	mmn_signals_block(&saved);
	defer_something();
	mmn_signals_restore(&saved);
	t_eq(setuid(getuid()), 0);
	mmn_rcu_barrier();
}

/* Of a program that tells liburcu of its forks: other threads are freed there. */
TEST(a_fork_child_defers_nothing_to_a_thread_that_liburcu_has_freed)
{
	int status;
	pid_t pid;

	if (MMN_TSAN || t_is_emulated())
		t_skip("ThreadSanitizer and qemu bear no thread in a fork child");
	t_may_keep_mapped(64 << 20, "the threads that free stay");
	mallopt(M_PERTURB, 0xa5);
	defer_something();
	mmn_rcu_barrier();
	urcu_memb_call_rcu_before_fork();
	pid = fork();
	if (!pid) {
		alarm(20);
		urcu_memb_call_rcu_after_fork_child();
		defer_something();
		mmn_rcu_barrier();
		_exit(0);
	}
	urcu_memb_call_rcu_after_fork_parent();
	t_eq(waitpid(pid, &status, 0), pid);
	t_eq(status, 0);
}
