/* SPDX-License-Identifier: MIT */
#include <mmn/debug.h>

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/bug.h"
#include "base/context.h"
#include "base/syscall.h"
#include "base/text.h"

static void (*report_handler)(const struct mmn_debug_report *report);

bool mmn_debug_is_enabled(void)
{
	return MMN_SELFCHECK;
}

void mmn_debug_set_handler(
	void (*handler)(const struct mmn_debug_report *report))
{
	/*
	 * pair(debug_handler): release, with the acquire in mmn_bug_report().
	 * Without it a handler runs before the data it was set up with is
	 * visible to the reporting thread.
	 */
	mmn_store_release(&report_handler, handler);
}

/* abort() of libc takes locks; this is the part of it that matters. */
static void die(void)
{
	uint64_t abort_only = UINT64_C(1) << (SIGABRT - 1);
	long tid = mmn_syscall0(__NR_gettid);
	long pid = mmn_syscall0(__NR_getpid);

	mmn_syscall3(__NR_tgkill, pid, tid, SIGABRT);
	mmn_syscall4(__NR_rt_sigprocmask, SIG_UNBLOCK, &abort_only, NULL,
		     sizeof(abort_only));
	/* A handler of the program that returned does not save it. */
	signal(SIGABRT, SIG_DFL);
	mmn_syscall3(__NR_tgkill, pid, tid, SIGABRT);
	mmn_syscall1(__NR_exit_group, 127);
}

static void default_handler(const struct mmn_debug_report *report)
{
	struct mmn_text text;

	mmn_text_init(&text);
	mmn_text_add(&text, "libmmn: ");
	mmn_text_add(&text, report->text);
	mmn_text_add(&text, " (");
	mmn_text_add(&text, report->function);
	mmn_text_add(&text, ", ");
	mmn_text_add_place(&text, report->file, report->line);
	mmn_text_add(&text, ")\n");
	mmn_syscall3(__NR_write, STDERR_FILENO, text.buffer, text.length);
	die();
}

void mmn_bug_report(const char *file, uint32_t line, const char *function,
		    const char *text)
{
	struct mmn_debug_report report = {
		.text = text,
		.file = file,
		.function = function,
		.line = line,
	};
	void (*handler)(const struct mmn_debug_report *report);

	if (mmn_context.reporting)
		return;
	mmn_context.reporting = true;
	mmn_barrier();
	/*
	 * pair(debug_handler): acquire, with the release in
	 * mmn_debug_set_handler().  Without it the handler may read its data
	 * as it was before it was set up.
	 */
	handler = mmn_load_acquire(&report_handler);
	if (!handler)
		handler = default_handler;
	handler(&report);
	mmn_barrier();
	mmn_context.reporting = false;
}
