/* SPDX-License-Identifier: MIT */
/*
 * Sections with signals blocked, and what the library saves in them.
 */
#include "unit/conformance.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t nr_handled;

static void count_signal(int nr)
{
	(void)nr;
	nr_handled++;
}

static void catch_signal(void)
{
	struct sigaction action = { .sa_handler = count_signal };

	t_err(sigaction(SIGUSR1, &action, NULL), 0);
}

static void signal_self(void)
{
	t_err(pthread_kill(pthread_self(), SIGUSR1), 0);
}

/* At once, except for sanitizers, which wait for one of the next calls. */
static void expect_handled(void)
{
	while (!nr_handled)
		usleep(100);
	t_eq(nr_handled, 1);
}

TEST(signals_wait_for_the_end_of_a_section)
{
	struct mmn_signal_section section;

	catch_signal();
	mmn_signal_section_begin(&section);
	signal_self();
	t_eq(nr_handled, 0);
	mmn_signal_section_end(&section);
	expect_handled();
}

TEST(sections_nest_and_the_outermost_one_decides)
{
	struct mmn_signal_section outer, inner;

	catch_signal();
	mmn_signal_section_begin(&outer);
	mmn_signal_section_begin(&inner);
	signal_self();
	mmn_signal_section_end(&inner);
	t_eq(nr_handled, 0);
	mmn_signal_section_end(&outer);
	expect_handled();
}

TEST(what_was_blocked_before_a_section_stays_blocked)
{
	struct mmn_signal_section section;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	t_err(pthread_sigmask(SIG_SETMASK, &set, NULL), 0);
	mmn_signal_section_begin(&section);
	mmn_signal_section_end(&section);
	t_err(pthread_sigmask(SIG_SETMASK, NULL, &set), 0);
	t_eq(sigismember(&set, SIGUSR2), 1);
	t_eq(sigismember(&set, SIGUSR1), 0);
}

TEST(inserts_changes_and_removes_work_in_a_section)
{
	struct mmn_state *state = new_state();
	struct mmn_signal_section section;
	struct driver a;

	catch_signal();
	mmn_signal_section_begin(&section);
	driver_add(&a, NULL, state, 1000, 1999);
	signal_self();
	change(state, 1000, 1000);
	t_eq(driver_calls(&a), 1);
	t_err(mmn_range_subscription_remove(&a.sub), 0);
	change(state, 1000, 1000);
	t_eq(driver_calls(&a), 0);
	t_eq(nr_handled, 0);
	mmn_signal_section_end(&section);
	expect_handled();
	mmn_state_put(state);
}

TEST(an_end_without_a_section_has_no_effect)
{
	struct mmn_signal_section section = { 0 };

	catch_signal();
	report_expected("a signal section ends that has not begun");
	mmn_signal_section_end(&section);
	mmn_signal_section_begin(&section);
	signal_self();
	t_eq(nr_handled, 0);
	mmn_signal_section_end(&section);
	expect_handled();
}

/* From here on a change of the signal mask ends the process. */
static bool forbid_masks(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_rt_sigprocmask, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(*code), code };

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

enum { SAVED = 0, NO_SECCOMP = 2 };

/* In a child of its own, with objects that it makes itself. */
__attribute__((noreturn)) static void insert_and_remove_without_masks(void)
{
	struct mmn_signal_section section;
	struct mmn_state *state;
	struct driver a;
	int i;

	state = new_state();
	mmn_signal_section_begin(&section);
	if (!forbid_masks())
		_exit(NO_SECCOMP);
	for (i = 0; i < 10; i++) {
		driver_add(&a, NULL, state, 1000, 1999);
		change(state, 1000, 1000);
		mmn_range_subscription_remove(&a.sub);
	}
	_exit(SAVED);
}

TEST(no_system_call_is_made_for_signals_in_a_section)
{
	pid_t child;
	int status;

	t_need_kernel("has system calls of its own");
	if (T_TSAN)
		t_skip("its runtime changes the mask");
	child = fork();
	if (!child)
		insert_and_remove_without_masks();
	t_eq(waitpid(child, &status, 0), child);
	t_ok(WIFEXITED(status));
	if (WEXITSTATUS(status) == NO_SECCOMP)
		t_skip("no seccomp");
	t_eq(WEXITSTATUS(status), SAVED);
}
