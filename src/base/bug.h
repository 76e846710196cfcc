/* SPDX-License-Identifier: MIT */
#ifndef MMN_BASE_BUG_H
#define MMN_BASE_BUG_H
/*
 * Reports of misuse, and invariants as code.
 *
 * In builds with -Dselfcheck the condition is evaluated and a violation goes to
 * the report handler of <mmn/debug.h>.  In others it is compiled, so that it
 * cannot rot, and never evaluated.  Code behind a report must therefore be
 * harmless on its own: the handler may return.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "config.h"

void mmn_bug_report(const char *file, uint32_t line, const char *function,
		    const char *text) __attribute__((cold));

#if MMN_SELFCHECK

#define mmn_bug_on(cond, text)                                                \
	do {                                                                  \
		if (unlikely(cond))                                           \
			mmn_bug_report(__FILE__, __LINE__, __func__, (text)); \
	} while (0)

#else

#define mmn_bug_on(cond, text)        \
	do {                          \
		if (0 && (cond))      \
			(void)(text); \
	} while (0)

#endif

/* Misuse was found, whatever the condition was. */
#define mmn_bug(text) mmn_bug_on(true, text)

/* A numbered invariant, or an x_check() that stands for several. */
#define mmn_check(invariant) mmn_bug_on(!(invariant), "invariant: " #invariant)

#endif
