/* SPDX-License-Identifier: MIT */
/* Who owns what after a fork. */
#include "t/tap.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/process.h"
#include "base/syscall.h"

static uint32_t generation_before;
static uint32_t generation_at_start;

/* Runs before the constructors without a priority, the test's own included. */
__attribute__((constructor(102))) static void ask_early(void)
{
	generation_at_start = mmn_process_generation();
}

static void wait_for(long pid)
{
	int status;

	t_eq(waitpid((pid_t)pid, &status, 0), pid);
	t_eq(status, 0);
}

TEST(generation_is_there_before_other_constructors)
{
	t_ne(generation_at_start, 0);
}

TEST(adopting_twice_gives_the_same_generation)
{
	uint32_t generation = mmn_process_adopt();

	t_ne(generation, 0);
	t_eq(mmn_process_adopt(), generation);
	t_eq(mmn_process_generation(), generation);
	t_ok(mmn_process_is_owner());
}

static void check_child(void)
{
	uint32_t generation;

	t_ok(!mmn_process_is_owner());
	t_eq(mmn_process_generation(), 0);
	generation = mmn_process_adopt();
	t_gt(generation, generation_before);
	t_ok(mmn_process_is_owner());
	t_eq(mmn_process_generation(), generation);
	_exit(0);
}

TEST(fork_child_owns_nothing_until_it_adopts)
{
	pid_t pid;

	generation_before = mmn_process_adopt();
	pid = fork();
	if (!pid)
		check_child();
	wait_for(pid);
	t_eq(mmn_process_generation(), generation_before);
}

TEST(child_of_a_raw_clone_owns_nothing)
{
	long pid;

	t_need_kernel("no MADV_WIPEONFORK");
	generation_before = mmn_process_adopt();
	pid = mmn_syscall2(__NR_clone, SIGCHLD, 0);
	if (!pid)
		mmn_syscall1(__NR_exit_group, mmn_process_is_owner());
	wait_for(pid);
}

TEST(grandchild_takes_a_generation_no_ancestor_had)
{
	pid_t pid;

	generation_before = mmn_process_adopt();
	pid = fork();
	if (!pid) {
		uint32_t child = mmn_process_adopt();

		t_gt(child, generation_before);
		generation_before = child;
		pid = fork();
		if (!pid)
			check_child();
		wait_for(pid);
		_exit(0);
	}
	wait_for(pid);
}

static int ask_in_shared_memory(void *result)
{
	*(uint32_t *)result = mmn_process_generation();
	return 0;
}

TEST(child_that_shares_the_memory_is_no_copy)
{
	static char stack[65536] __attribute__((aligned(16)));
	uint32_t result = 0;
	int pid;

	if (MMN_TSAN)
		t_skip("ThreadSanitizer cannot follow clone(CLONE_VM)");
	t_need_kernel("vfork is a fork");
	generation_before = mmn_process_adopt();
	pid = clone(ask_in_shared_memory, stack + sizeof(stack),
		    CLONE_VM | CLONE_VFORK | SIGCHLD, &result);
	wait_for(pid);
	t_eq(result, generation_before);
}

static void *adopt(void *result)
{
	*(uint32_t *)result = mmn_process_adopt();
	return NULL;
}

TEST(threads_that_adopt_at_once_agree)
{
	pid_t pid = fork();

	if (!pid) {
		enum { NR = 8 };
		pthread_t threads[NR];
		uint32_t results[NR];
		int i;

		for (i = 0; i < NR; i++)
			t_err(pthread_create(&threads[i], NULL, adopt,
					     &results[i]),
			      0);
		for (i = 0; i < NR; i++)
			pthread_join(threads[i], NULL);
		for (i = 0; i < NR; i++)
			t_eq(results[i], mmn_process_generation());
		_exit(0);
	}
	wait_for(pid);
}
