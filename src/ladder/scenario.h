/* SPDX-License-Identifier: MIT */
#ifndef MMN_LADDER_SCENARIO_H
#define MMN_LADDER_SCENARIO_H
/*
 * What a scenario may call.  Code under the explorer uses the library's own
 * atomics, locks, and waits, or those of C11, and besides:
 */
#include "ladder/ladder.h"

/* What scenario->data points to. */
const void *ladder_data(void);

/* The execution fails when @cond is false. */
#define ladder_assert(cond) ladder_assert_at((cond), #cond, __FILE__, __LINE__)
void ladder_assert_at(bool cond, const char *text, const char *file, int line);
__attribute__((noreturn)) void ladder_fail(enum ladder_failure failure,
					   const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* A remark in the column of the calling thread. */
void ladder_note(const char *text);

/* How the ladder calls a word; without it, as the source does. */
#define ladder_name(p, name) ladder_name_at((p), sizeof(*(p)), (name))
void ladder_name_at(const volatile void *p, size_t size, const char *name);

/*
 * A thread that calls what was deferred (mmn_rcu_defer()), each after a grace
 * period; without it among the threads, nothing deferred is called.
 */
void ladder_call_deferred(void);

/* A number below @n, every one in some execution. */
uint32_t ladder_choose(uint32_t n);

/* Count executions with an outcome; for litmus tests, from check(). */
void ladder_outcome(bool seen);

#endif
