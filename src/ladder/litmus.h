/* SPDX-License-Identifier: MIT */
#ifndef MMN_LADDER_LITMUS_H
#define MMN_LADDER_LITMUS_H
/*
 * Litmus tests: programs of a few accesses whose verdicts are published, to see
 * that the explorer means the same by a memory model as everybody else.
 *
 * A program is text.  Threads are separated by "||", their steps by ";":
 *
 *	x = 1 rel		a store; orders are rlx (or nothing), acq, rel, ar,
 *				sc, and na for a plain access
 *	a = x acq		a load into a register
 *	a = add x 1 ar		an RMW; also xchg
 *	a = cas x 0 1 ar	compare with 0, exchange for 1; relaxed if it fails
 *	fence sc
 *	membar			MEMBARRIER_CMD_PRIVATE_EXPEDITED
 *	light			a barrier of the compiler
 *	if a			the thread goes on only when a is not 0
 *
 * x, y, z, w are shared and begin as 0; a to h are registers.  The outcome is a
 * row of "name=value"; after the threads, shared names stand for what is left.
 */
#include "ladder/ladder.h"

enum { LITMUS_C11, LITMUS_TSO, LITMUS_SC, LITMUS_NR_MODELS };

struct litmus {
	const char *name;
	const char *outcome;
	/* one letter for C11, TSO, SC: Allowed, Forbidden, Race; or L, see table */
	const char *verdicts;
	const char *program;
	/* why, and who says so */
	const char *reason;
};

/* The last one has no name. */
extern const struct litmus litmus_tests[];

const struct litmus *litmus_find(const char *name);

/*
 * litmus_run - what does the explorer say?
 *
 * Return: 'A', 'F' or 'R' as in litmus->verdicts, '?' when it cannot tell; with
 * *ret_result to be finished.
 */
char litmus_run(const struct litmus *litmus,
		const struct ladder_options *options,
		struct ladder_result *ret_result);

#endif
