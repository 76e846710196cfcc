/* SPDX-License-Identifier: MIT */
/*
 * What would have forbidden a failing execution?
 *
 * Its graph is judged again with stronger orders, from little to much: one
 * reads-from edge made release and acquire; all of them; everything seq_cst.
 * The first that the model forbids is told.  An execution that is an interleaving
 * is forbidden by no order.
 */
#include <string.h>

#include "ladder/pairs.h"
#include "ladder/trace.h"

static uint8_t strengthened(uint8_t order, uint8_t side)
{
	if (order == ORDER_RELAXED || order == ORDER_CONSUME)
		return side;
	return order == side || order >= ORDER_ACQ_REL ? order : ORDER_ACQ_REL;
}

static void strengthen_edge(struct graph *graph, uint16_t read)
{
	struct event *r = &graph->events[read];
	struct event *w = &graph->events[r->rf];

	r->order = strengthened(r->order, ORDER_ACQUIRE);
	w->order = strengthened(w->order, ORDER_RELEASE);
}

static bool is_foreign_edge(const struct graph *graph, uint16_t read)
{
	const struct event *r = &graph->events[read];

	return r->kind == EVENT_READ && r->rf != NO_EVENT &&
	       graph->events[r->rf].thread != r->thread &&
	       !graph->events[r->rf].plain;
}

/* Is the first access of a race now before the second one? */
static bool is_race_over(const struct ladder_trace *trace,
			 const struct graph *graph)
{
	uint16_t i;

	for (i = 0; i < graph->nr_events; i++)
		if (graph->events[i].thread == trace->second &&
		    graph->events[i].hb.at[trace->first] > trace->first_done)
			return true;
	return false;
}

static bool is_forbidden(const struct ladder_trace *trace, struct graph *graph,
			 enum ladder_failure failure)
{
	return !graph_recheck(graph) ||
	       (failure == LADDER_RACE && is_race_over(trace, graph));
}

static bool is_interleaving(const struct ladder_trace *trace,
			    struct graph *graph)
{
	bool sequential;

	graph_assign(graph, trace->graph);
	graph->model = LADDER_SC;
	sequential = graph_is_allowed(graph);
	graph->model = trace->model;
	return sequential;
}

static void print_access(FILE *to, const struct event *e)
{
	const char *side = e->kind == EVENT_READ ? "acquire" : "release";
	const struct pair *pair;

	fprintf(to, "\t%s: ", side);
	if (!e->site) {
		fprintf(to, "CPU%u's %s\n", e->thread,
			e->kind == EVENT_READ ? "load" : "store");
		return;
	}
	pair = pair_of(e->site, NULL);
	fprintf(to, "CPU%u, %s(): %s(%s)", e->thread, e->site->function,
		e->site->macro, e->site->word);
	if (pair)
		fprintf(to, ", pair(%s)", pair->tag);
	fputc('\n', to);
}

static bool try_one_edge(const struct ladder_result *result,
			 struct graph *graph, FILE *to)
{
	const struct ladder_trace *trace = result->trace;
	uint16_t i;

	for (i = 0; i < trace->graph->nr_events; i++) {
		const struct event *r = &trace->graph->events[i];

		if (!is_foreign_edge(trace->graph, i))
			continue;
		graph_assign(graph, trace->graph);
		strengthen_edge(graph, i);
		if (!is_forbidden(trace, graph, result->failure))
			continue;
		fprintf(to, "One pair would forbid it:\n");
		print_access(to, &trace->graph->events[r->rf]);
		print_access(to, r);
		return true;
	}
	return false;
}

static bool try_all_edges(const struct ladder_result *result,
			  struct graph *graph, FILE *to)
{
	const struct ladder_trace *trace = result->trace;
	uint16_t i;

	graph_assign(graph, trace->graph);
	for (i = 0; i < graph->nr_events; i++)
		if (is_foreign_edge(graph, i))
			strengthen_edge(graph, i);
	if (!is_forbidden(trace, graph, result->failure))
		return false;
	fprintf(to, "Release and acquire would forbid it, at more than one "
		    "pair of accesses.\n");
	return true;
}

static bool try_seq_cst(const struct ladder_result *result, struct graph *graph,
			FILE *to)
{
	const struct ladder_trace *trace = result->trace;
	uint16_t i;

	graph_assign(graph, trace->graph);
	for (i = 0; i < graph->nr_events; i++)
		if (graph->events[i].kind != EVENT_CHOICE)
			graph->events[i].order = ORDER_SEQ_CST;
	if (!is_forbidden(trace, graph, result->failure))
		return false;
	fprintf(to,
		"Release and acquire do not forbid it: a store is overtaken by "
		"a later load.\nIt takes seq_cst, or a full fence between the "
		"two, in each thread.\n");
	return true;
}

void ladder_print_remedy(const struct ladder_result *result, FILE *to)
{
	const struct ladder_trace *trace = result->trace;
	struct graph *graph;

	if (!trace || !trace->graph)
		return;
	graph = graph_create(trace->model);
	if (!graph)
		return;
	if (result->failure != LADDER_RACE && is_interleaving(trace, graph))
		fprintf(to, "No barrier would forbid it: the steps may happen "
			    "in this order on any machine.\n");
	else if (!try_one_edge(result, graph, to) &&
		 !try_all_edges(result, graph, to) &&
		 !try_seq_cst(result, graph, to))
		fprintf(to, "No order of the accesses that are there would "
			    "forbid it.\n");
	graph_destroy(graph);
}
