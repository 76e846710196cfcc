/* SPDX-License-Identifier: MIT */
#ifndef LADDER_SEEDED_H
#define LADDER_SEEDED_H
/*
 * Programs with faults put into them, and the same without: what the explorer
 * has to find and what it must not.  Compiled for the explorer.
 */
#include "ladder/ladder.h"

/* Each with the failure that is right, LADDER_NONE for those without fault. */
struct seeded {
	struct ladder_scenario scenario;
	enum ladder_failure failure;
	/* complete executions, where the number is known; 0: not asked */
	uint64_t executions;
};

/* The last one has no name. */
extern const struct seeded seeded_programs[];

const struct seeded *seeded_find(const char *name);

/* Written by every execution of "undone". */
extern int seeded_trace_of_runs;

#endif
