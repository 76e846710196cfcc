/* SPDX-License-Identifier: MIT */
#ifndef MMN_LADDER_FIBER_H
#define MMN_LADDER_FIBER_H
/*
 * Stacks to run the threads of a scenario on, and the jump between them.
 */

#include <stddef.h>

/* Where a stack stopped. */
struct fiber {
	void *sp;
};

/* Stop in @from, go on in @to. */
void fiber_switch(struct fiber *from, const struct fiber *to);

/* Let @fiber begin with @entry(), which must not return. */
void fiber_start(struct fiber *fiber, void *stack, size_t size,
		 void (*entry)(void));

#endif
