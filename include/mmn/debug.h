/* SPDX-License-Identifier: MIT */
#ifndef MMN_DEBUG_H
#define MMN_DEBUG_H
/*
 * Reports of wrong use.
 *
 * Wrong use that is cheap to see is an error code in every build.  Builds with
 * self-checks (-Dselfcheck=enabled, the default unless the build type is
 * release) also see what an error code cannot tell: a lock that is not held
 * where it must be, locks taken in the wrong order, a callback that uses the
 * heap or sleeps where it may not, a broken invariant.  Each such finding is one
 * report.
 */
#include <mmn/common.h>

MMN_BEGIN_DECLS

/**
 * struct mmn_debug_report - one finding
 * @text: what was wrong, one line without its end
 * @file: source file of the library that noticed
 * @function: function that noticed
 * @line: line in @file
 *
 * Valid during the call of the handler only.
 */
struct mmn_debug_report {
	const char *text;
	const char *file;
	const char *function;
	uint32_t line;
	uint32_t reserved;
};

/**
 * mmn_debug_set_handler - who is told about wrong use
 * @handler: called with each report, in the thread that did it; NULL for the
 *	default, which writes one line to descriptor 2 and aborts
 *
 * A handler may return: the library then goes on as a build without self-checks
 * would.  Findings made while a handler runs, by the same thread, are dropped,
 * so that it may use the heap and stdio even though a callback is on the stack
 * below it; it must not wait for a lock that the reporting thread may hold.
 *
 * Context: any, also callbacks and signal handlers.
 * Ordering: what was written before is visible to the handler when it is called.
 */
MMN_PUBLIC
void mmn_debug_set_handler(
	void (*handler)(const struct mmn_debug_report *report));

/**
 * mmn_debug_is_enabled - was the library built with self-checks?
 *
 * Context: any.
 * Return: false when no report will ever be made.
 */
MMN_PUBLIC
bool mmn_debug_is_enabled(void);

MMN_END_DECLS

#endif
