/* SPDX-License-Identifier: MIT */
/*
 * A handler of reports is set while a report is made: base/bug.c itself, under
 * another name, because reports of code under the explorer go to the explorer, and
 * tests have handlers of their own.
 */
#define mmn_bug_report bug_report_
#define mmn_debug_is_enabled debug_is_enabled_
#define mmn_debug_set_handler debug_set_handler_
/* NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "base/bug.c"

#include "ladder/gallery/gallery.h"
#include "ladder/gallery/help.h"
#include "ladder/scenario.h"

static uint32_t told, wanted;

static void ignore(const struct mmn_debug_report *report)
{
}

static void count(const struct mmn_debug_report *report)
{
	told += wanted;
}

static void set_up(void)
{
	told = 0;
	wanted = 0;
	mmn_debug_set_handler(ignore);
	ladder_name(&report_handler, "handler");
	ladder_name(&wanted, "what it wants");
}

static void set_handler(void)
{
	wanted = 1;
	mmn_debug_set_handler(count);
}

static void report_one(void)
{
	bug_report_("here", 1, "report", "something");
}

const struct ladder_scenario report_handler_set = {
	.name = "report-handler",
	.what = "a handler of reports is set while something is reported",
	.explanation = "The handler finds what was prepared for it.",
	.setup = set_up,
	.each = number_thread,
	.threads = { set_handler, report_one },
	.titles = { "set", "report" },
};
