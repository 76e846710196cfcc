/* SPDX-License-Identifier: MIT */
#ifndef MMN_LADDER_LADDER_H
#define MMN_LADDER_LADDER_H
/*
 * The ladder: an explorer of small concurrent C programs.
 *
 * A scenario is a handful of functions, one per CPU, that share memory.  The
 * explorer runs them again and again, in one thread of one process, until every
 * execution that a memory model allows has been seen once; it finds failed
 * assertions, data races, deadlocks, lost wake-ups, and use after free, and
 * prints the shortest failing execution as a ladder.
 *
 * The code under test is compiled for it (see doc/LADDER.md) and otherwise the
 * very code of the library.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define LADDER_MAX_THREADS 6
/* of all threads together, in one execution */
#define LADDER_MAX_EVENTS 1500

enum ladder_model {
	LADDER_C11, /* RC11: C11 without values out of thin air */
	LADDER_TSO, /* x86: each thread has a store buffer */
	LADDER_SC,  /* one interleaving of all */
};

/*
 * struct ladder_scenario - a program to explore
 *
 * @setup runs first and alone, then @threads side by side, then, when all have
 * ended, @check alone.  All memory that they write and all that they allocate is
 * as it was when the next execution begins.
 */
struct ladder_scenario {
	const char *name;
	/* one line */
	const char *what;
	/* for --explain; may be NULL */
	const char *explanation;
	/* the verdict that is right: does an execution fail? */
	bool fails;
	/* the kernel has membarrier(); otherwise that returns -ENOSYS */
	bool membarrier;
	void (*setup)(void);
	void (*threads[LADDER_MAX_THREADS])(void);
	/* heads of the columns; may be NULL */
	const char *titles[LADDER_MAX_THREADS];
	void (*check)(void);
	/* runs alone, once as each of the threads; may be NULL */
	void (*each)(void);
	/* handed to ladder_data() */
	const void *data;
};

/* An order that is weakened to relaxed; NULL members fit everything. */
struct ladder_weakening {
	/* of the pair(tag) */
	const char *tag;
	/* "acquire", "release", "seq_cst", or NULL: all of it */
	const char *side;
	/*
	 * the function that the access stands in; "function.2": only the
	 * second access of the tag there
	 */
	const char *function;
};

struct ladder_options {
	enum ladder_model model;
	struct ladder_weakening weaken;
	/* 0: no bound */
	uint64_t max_executions;
	/* of one thread; 0: 400 */
	uint32_t max_events;
	/* after the first failure: how many more to look for a shorter one */
	uint64_t max_more;
	/* do not look for a shorter one, do not keep a ladder */
	bool verdict_only;
};

enum ladder_failure {
	LADDER_NONE,
	LADDER_ASSERTION,
	LADDER_RACE,
	LADDER_DEADLOCK,
	LADDER_LOST_WAKEUP,
	LADDER_USE_AFTER_FREE,
	LADDER_BAD_FREE,
	LADDER_UNSUPPORTED, /* the scenario does what the explorer cannot */
	LADDER_NR_FAILURES,
};

struct ladder_result {
	enum ladder_failure failure;
	char text[200];
	/* complete, without a failure */
	uint64_t executions;
	/* in which somebody waits for what another execution brings */
	uint64_t blocked;
	/* that ended at max_events */
	uint64_t cut;
	uint64_t failing;
	/* of the program, whatever they came to */
	uint64_t runs;
	uint64_t ns;
	/* every execution was seen, none was cut */
	bool complete;
	/* how often ladder_outcome() was called with true */
	uint64_t outcomes;
	/* accesses that the weakening fitted */
	uint64_t weakened;
	/* the shortest failing execution, for ladder_print(); or NULL */
	struct ladder_trace *trace;
};

/*
 * ladder_explore - explore @scenario
 *
 * Return: 0 with *ret_result, to be given to ladder_result_fini(), whether or
 * not something fails; -ENOMEM.
 */
int ladder_explore(const struct ladder_scenario *scenario,
		   const struct ladder_options *options,
		   struct ladder_result *ret_result);
void ladder_result_fini(struct ladder_result *result);

/* Is there an access in the library or the gallery that it would weaken? */
bool ladder_weakening_fits(const struct ladder_weakening *weaken);

const char *ladder_failure_name(enum ladder_failure failure);
const char *ladder_model_name(enum ladder_model model);

/* The trace of a failing result, as text of at most 80 columns or as SVG. */
void ladder_print(const struct ladder_result *result, FILE *to);
void ladder_print_svg(const struct ladder_result *result, FILE *to);
/* What would forbid the execution; see doc/LADDER.md. */
void ladder_print_remedy(const struct ladder_result *result, FILE *to);

/* ---- the gallery ---- */

extern const struct ladder_scenario *const ladder_gallery[];

#endif
