/* SPDX-License-Identifier: MIT */
#ifndef MMN_LADDER_TRACE_H
#define MMN_LADDER_TRACE_H
/* One failing execution, line by line: what print.c and svg.c draw. */
#include "ladder/graph.h"

#define TRACE_TEXT 96
#define MAX_TRACE_LINES 600

/* struct trace_line - what one thread did in one step */
struct trace_line {
	uint8_t thread;
	bool note;
	/* it read what somebody else had overwritten */
	bool stale;
	/* the line of the write that it read from, UINT32_MAX: none */
	uint32_t from;
	/* the event behind it, NO_EVENT: a plain access */
	uint16_t event;
	const struct access_site *site;
	char text[TRACE_TEXT];
};

struct ladder_trace {
	const struct ladder_scenario *scenario;
	enum ladder_model model;
	uint8_t nr_threads;
	bool sequential;
	uint32_t nr_lines;
	struct trace_line lines[MAX_TRACE_LINES];
	/* the execution, for the remedy; its orders may be changed */
	struct graph *graph;
	/* of a race: who came second, who first, and behind how many events */
	uint8_t second, first;
	uint16_t first_done;
};

/* The head of a column. */
const char *trace_title(const struct ladder_trace *trace, uint8_t thread);

#endif
