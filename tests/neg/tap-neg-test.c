/* SPDX-License-Identifier: MIT */
/*
 * Tests that must fail, and a few that must not, to test the test runner.
 * check-tap.py knows what has to come out of each of them.
 */
#include "t/tap.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

TEST(good_passes)
{
	int x = 3;

	t_ok(x == 3);
	t_eq(x, 3u);
	t_eq(&x, &x);
	t_ne(-1, UINT64_MAX);
	t_lt(-1, 0u);
	t_le(x, 3);
	t_gt(UINT64_MAX, -1);
	t_ge(x, 3L);
	t_err(-EINVAL, -EINVAL);
	t_streq("a", "a");
	t_memeq("ab", "ab", 2);
}

TEST(good_skips)
{
	t_skip("there is no %s here", "device");
}

static void *nothing(void *unused)
{
	return unused;
}

TEST(good_threads_leave_no_stack)
{
	pthread_t thread;

	for (int i = 0; i < 4; i++) {
		t_err(pthread_create(&thread, NULL, nothing, NULL), 0);
		pthread_join(thread, NULL);
	}
}

TEST(good_detached_thread_leaves_no_stack)
{
	pthread_t thread;

	t_err(pthread_create(&thread, NULL, nothing, NULL), 0);
	pthread_detach(thread);
	usleep(50000);
	t_err(pthread_create(&thread, NULL, nothing, NULL), 0);
	pthread_join(thread, NULL);
}

TEST(good_keeps_what_it_announced)
{
	t_may_keep_mapped(4096, "to see that it may");
	t_may_keep_open(1, "to see that it may");
	t_ok(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
	     MAP_FAILED);
	t_ge(open("/dev/null", O_RDONLY), 0);
}

TEST(good_announced_misuse)
{
	t_bug_expected("first");
	t_bug_expected("second");
	t_bug_report("the second mistake");
	t_eq(t_bugs_seen(), 1);
	t_bug_report("the first mistake");
	t_eq(t_bugs_seen(), 2);
}

TEST(bad_expression)
{
	t_ok(1 + 1 == 3);
}

TEST(bad_values)
{
	int two = 2;

	t_eq(two, -7);
}

TEST(bad_errno)
{
	t_err(-EINVAL, -ENOENT);
}

TEST(bad_string)
{
	t_streq("pear", "apple");
}

TEST(bad_bytes)
{
	t_memeq("abc", "abd", 3);
}

static void *expect_too_much(void *unused)
{
	t_ok(unused != NULL);
	return NULL;
}

TEST(bad_in_a_thread)
{
	pthread_t thread;

	pthread_create(&thread, NULL, expect_too_much, NULL);
	pthread_join(thread, NULL);
	t_ok(true);
}

TEST(bad_in_a_child)
{
	pid_t pid = fork();

	if (!pid)
		t_ok(false);
	waitpid(pid, NULL, 0);
	t_ok(true);
}

TEST(bad_child_returns)
{
	pid_t pid = fork();

	t_ge(pid, 0);
	if (pid)
		waitpid(pid, NULL, 0);
}

TEST(bad_segfault)
{
	t_ok(true);
	raise(SIGSEGV);
}

TEST(bad_abort)
{
	t_ok(true);
	abort();
}

TEST(bad_exit)
{
	t_ok(true);
	exit(0);
}

TEST(bad_exit_status)
{
	t_ok(true);
	_exit(42);
}

TEST(bad_hang, .timeout = 1)
{
	t_ok(true);
	for (;;)
		pause();
}

TEST(bad_hang_with_signals_blocked, .timeout = 1)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	t_ok(true);
	for (;;)
		pause();
}

TEST(bad_leaked_descriptor)
{
	t_ge(open("/dev/null", O_RDONLY), 0);
}

TEST(bad_closed_descriptor)
{
	t_err(close(STDIN_FILENO), 0);
}

TEST(bad_leaked_page)
{
	t_ok(mmap(NULL, 4096, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
}

/* An address where nothing is mapped unless somebody asks for it. */
static char *const lonely = (char *)0x7ea000000000;

/* One page, before any snapshot is taken. */
__attribute__((constructor)) static void map_neighbour(void)
{
	mmap(lonely, 4096, PROT_READ,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
}

/* The kernel makes one mapping of the old page and the leaked one. */
TEST(bad_leaked_page_that_merged)
{
	t_eq(mmap(lonely + 4096, 4096, PROT_READ,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
	     lonely + 4096);
}

TEST(bad_leaked_big_malloc)
{
	void *volatile p = malloc(1 << 22);

	t_ok(p != NULL);
}

static void *sleep_on(void *unused)
{
	pause();
	return unused;
}

TEST(bad_leaked_thread)
{
	pthread_t thread;

	t_err(pthread_create(&thread, NULL, sleep_on, NULL), 0);
}

TEST(bad_expects_nothing)
{
}

TEST(bad_misuse)
{
	t_ok(true);
	t_bug_report("a mistake");
}

TEST(bad_missing_misuse)
{
	t_bug_expected("a mistake");
	t_ok(true);
}

TEST(bad_misuse_of_another_kind)
{
	t_bug_expected("a mistake");
	t_bug_report("another one");
}
