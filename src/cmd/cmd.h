/* SPDX-License-Identifier: MIT */
#ifndef MMN_CMD_CMD_H
#define MMN_CMD_CMD_H
/* What the files of the mmn command share. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include <mmn/common.h>

#include "area.h"

/* Exit codes of mmn itself; see mmn(1). */
enum {
	EXIT_LADDER_FAILS = 1,
	EXIT_TORTURE_FAILS = 1,
	EXIT_USAGE = 2,
	EXIT_STALE = 3,
	EXIT_LADDER_BOUND = 4,
	EXIT_INTERNAL = 125,
	EXIT_NOT_RUNNABLE = 126,
	EXIT_NOT_FOUND = 127,
};

int run_main(int argc, char **argv);
void run_usage(FILE *to);

/* ladder.c, which builds under ThreadSanitizer do not have */
int ladder_main(int argc, char **argv);
void ladder_usage(FILE *to);

/* torture/main.c, in a library of its own */
MMN_PUBLIC
int torture_main(int argc, char **argv);
MMN_PUBLIC
void torture_usage(FILE *to);

/* complain.c */
__attribute__((format(printf, 1, 2))) void complain(const char *format, ...);

/* program.c */

/*
 * Can the agent be loaded into this program?  Scripts are followed to their
 * interpreter.  0 with the path to execute in @path (of PATH_MAX bytes), or an
 * exit code after a message.
 */
int program_find(const char *name, char *path);
/* Where the preloaded library is; same result. */
int program_find_agent(char *path);

/* report.c */

/* One process, or the sum of them all. */
struct figures {
	struct area_slot slot;
	/* The owner of the slot is gone: these are the last figures. */
	bool ended;
};

struct report {
	const struct area_header *options;
	char **argv;
	/* As waitpid() gave it. */
	int status;
	uint64_t elapsed_ns;
	uint64_t user_ns;
	uint64_t system_ns;
	const struct figures *processes;
	unsigned int nr_processes;
	uint64_t nr_lost_figures;
	uint64_t overflow;
	/* Lines about processes that went on without the agent. */
	char **remarks;
	unsigned int nr_remarks;
};

extern const char *const break_names[NR_BREAKS];

void report_sum(const struct report *report, struct area_slot *sum);
void report_text(const struct report *report, FILE *to);
void report_json(const struct report *report, FILE *to);
/* One line without its end, at most @width columns. */
void report_status(const struct report *report, char *line, size_t width);

#endif
