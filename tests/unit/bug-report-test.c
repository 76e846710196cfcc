/* SPDX-License-Identifier: MIT */
/* What happens to reports of wrong use. */
#include "t/tap.h"

#include <mmn/debug.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bug.h"

static unsigned int nr_reports;
static struct mmn_debug_report last;

static void record(const struct mmn_debug_report *report)
{
	nr_reports++;
	last = *report;
}

static bool evaluated;

static bool note_evaluation(void)
{
	evaluated = true;
	return false;
}

TEST(report_says_what_and_where)
{
	t_need_selfcheck();
	mmn_debug_set_handler(record);
	mmn_bug("the text");
	t_eq(last.line, __LINE__ - 1);
	t_streq(last.text, "the text");
	t_streq(last.function, __func__);
	t_ok(strstr(last.file, "bug-report-test.c"));
	t_eq(nr_reports, 1);
}

TEST(only_a_true_condition_is_reported)
{
	t_need_selfcheck();
	mmn_debug_set_handler(record);
	mmn_bug_on(false, "no");
	t_eq(nr_reports, 0);
	mmn_bug_on(true, "yes");
	t_eq(nr_reports, 1);
}

TEST(broken_invariant_is_reported_with_its_text)
{
	int one = 1;

	t_need_selfcheck();
	mmn_debug_set_handler(record);
	mmn_check(one == 1);
	t_eq(nr_reports, 0);
	mmn_check(one == 2);
	t_eq(nr_reports, 1);
	t_streq(last.text, "invariant: one == 2");
}

TEST(condition_is_evaluated_in_selfcheck_builds_only)
{
	mmn_bug_on(note_evaluation(), "never");
	t_eq(evaluated, mmn_debug_is_enabled());
}

static void report_again(const struct mmn_debug_report *report)
{
	record(report);
	mmn_bug("found by the handler itself");
}

TEST(findings_inside_the_handler_are_dropped)
{
	t_need_selfcheck();
	mmn_debug_set_handler(report_again);
	mmn_bug("first");
	mmn_bug("second");
	t_eq(nr_reports, 2);
	t_streq(last.text, "second");
}

static void return_from_signal(int signal)
{
	(void)signal;
}

static void check_default(bool handle_abort)
{
	char line[256] = "";
	int pipe_ends[2];
	int status;
	pid_t pid;

	t_err(pipe(pipe_ends), 0);
	pid = fork();
	if (!pid) {
		dup2(pipe_ends[1], STDERR_FILENO);
		if (handle_abort)
			signal(SIGABRT, return_from_signal);
		mmn_debug_set_handler(NULL);
		mmn_bug("not allowed");
		_exit(0);
	}
	close(pipe_ends[1]);
	t_eq(waitpid(pid, &status, 0), pid);
	t_ok(WIFSIGNALED(status));
	t_eq(WTERMSIG(status), SIGABRT);
	t_gt(read(pipe_ends[0], line, sizeof(line) - 1), 0);
	close(pipe_ends[0]);
	t_ok(strstr(line, "libmmn: not allowed (check_default, "));
	t_ok(strstr(line, "bug-report-test.c:"));
	t_eq(strchr(line, '\n'), line + strlen(line) - 1);
}

TEST(default_is_one_line_and_an_abort)
{
	t_need_selfcheck();
	t_need_kernel("has a line of its own for an abort");
	check_default(false);
}

TEST(default_aborts_even_if_the_program_catches_it)
{
	t_need_selfcheck();
	t_need_kernel("has a line of its own for an abort");
	check_default(true);
}
