/* SPDX-License-Identifier: MIT */
#include "ladder/graph.h"

#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ */
/* The object                                                         */
/* ------------------------------------------------------------------ */

static struct graph *alloc_graph(enum ladder_model model, size_t nr_events,
				 size_t nr_locations)
{
	struct graph *graph =
		malloc(sizeof(*graph) + nr_events * sizeof(*graph->events) +
		       nr_locations * sizeof(*graph->locations));

	if (!graph)
		return NULL;
	graph->model = model;
	graph->nr_events = 0;
	graph->nr_locations = 0;
	graph->events = (struct event *)(graph + 1);
	graph->locations = (struct location *)(graph->events + nr_events);
	return graph;
}

struct graph *graph_create(enum ladder_model model)
{
	return alloc_graph(model, MAX_EVENTS, MAX_LOCATIONS);
}

void graph_assign(struct graph *to, const struct graph *from)
{
	to->model = from->model;
	to->nr_events = from->nr_events;
	to->nr_locations = from->nr_locations;
	memcpy(to->events, from->events,
	       from->nr_events * sizeof(*from->events));
	memcpy(to->locations, from->locations,
	       from->nr_locations * sizeof(*from->locations));
}

struct graph *graph_copy(const struct graph *graph)
{
	struct graph *copy = alloc_graph(graph->model, graph->nr_events,
					 graph->nr_locations);

	if (copy)
		graph_assign(copy, graph);
	return copy;
}

void graph_destroy(struct graph *graph)
{
	free(graph);
}

uint16_t graph_find(const struct graph *graph, uint8_t thread, uint16_t index)
{
	uint16_t i;

	for (i = 0; i < graph->nr_events; i++)
		if (graph->events[i].thread == thread &&
		    graph->events[i].index == index)
			return i;
	return NO_EVENT;
}

uint16_t graph_location(const struct graph *graph, uint64_t address)
{
	uint16_t i;

	for (i = 0; i < graph->nr_locations; i++)
		if (graph->locations[i].address == address)
			return i;
	return NO_EVENT;
}

static bool is_write_to(const struct event *e, uint16_t loc)
{
	return e->kind == EVENT_WRITE && e->loc == loc;
}

static bool is_read_of(const struct event *e, uint16_t loc)
{
	return e->kind == EVENT_READ && e->loc == loc;
}

uint16_t graph_write_at(const struct graph *graph, uint16_t loc, uint16_t mo)
{
	uint16_t i;

	for (i = 0; mo && i < graph->nr_events; i++)
		if (is_write_to(&graph->events[i], loc) &&
		    graph->events[i].mo == mo)
			return i;
	return NO_EVENT;
}

uint16_t graph_nr_writes(const struct graph *graph, uint16_t loc)
{
	uint16_t i, nr = 0;

	for (i = 0; i < graph->nr_events; i++)
		nr += is_write_to(&graph->events[i], loc);
	return nr;
}

uint64_t graph_value(const struct graph *graph, uint16_t loc, uint16_t write)
{
	return write == NO_EVENT ? graph->locations[loc].initial
				 : graph->events[write].value;
}

/* ------------------------------------------------------------------ */
/* Clocks                                                             */
/* ------------------------------------------------------------------ */

void graph_set_clocks(struct graph *graph, uint16_t id)
{
	/* On x86, and in an interleaving, every reads-from synchronises. */
	bool strong = graph->model != LADDER_C11;
	struct event *e = &graph->events[id];
	const struct event *rf = NULL;
	uint16_t before;

	memset(&e->hb, 0, 5 * sizeof(e->hb));
	if (e->index > 1) {
		before = graph_find(graph, e->thread, e->index - 1);
		e->hb = graph->events[before].hb;
		e->acquirable = graph->events[before].acquirable;
		e->released = graph->events[before].released;
		e->past = graph->events[before].past;
		/* The release sequence goes on through the RMW. */
		if (e->rmw && graph->events[before].rf != NO_EVENT)
			e->message =
				graph->events[graph->events[before].rf].message;
	}
	e->hb.at[e->thread] = e->index;
	e->past.at[e->thread] = e->index;
	if (e->kind == EVENT_READ && e->rf != NO_EVENT)
		rf = &graph->events[e->rf];
	if (rf) {
		clock_join(&e->past, &rf->past);
		clock_join(&e->acquirable, &rf->message);
		if (strong || is_acquire(e->order))
			clock_join(&e->hb, &rf->message);
	}
	if (e->kind == EVENT_FENCE && is_acquire(e->order))
		clock_join(&e->hb, &e->acquirable);
	clock_join(&e->acquirable, &e->hb);
	if (e->kind == EVENT_FENCE && is_release(e->order))
		e->released = e->hb;
	if (e->kind == EVENT_WRITE)
		clock_join(&e->message, strong || is_release(e->order)
						? &e->hb
						: &e->released);
}

/* ------------------------------------------------------------------ */
/* Changes                                                            */
/* ------------------------------------------------------------------ */

void graph_place(struct graph *graph, uint16_t id, uint16_t mo)
{
	struct event *e = &graph->events[id];
	uint16_t i;

	for (i = 0; i < graph->nr_events; i++)
		if (i != id && is_write_to(&graph->events[i], e->loc) &&
		    graph->events[i].mo >= mo)
			graph->events[i].mo++;
	e->mo = mo;
}

/* A location that nobody accesses has no initial value yet. */
static void drop_locations(struct graph *graph)
{
	uint16_t name[MAX_LOCATIONS];
	uint16_t i, nr = 0;

	memset(name, 0, sizeof(name));
	for (i = 0; i < graph->nr_events; i++)
		if (graph->events[i].loc != NO_EVENT)
			name[graph->events[i].loc] = 1;
	for (i = 0; i < graph->nr_locations; i++) {
		if (!name[i])
			continue;
		graph->locations[nr] = graph->locations[i];
		name[i] = nr++;
	}
	graph->nr_locations = nr;
	for (i = 0; i < graph->nr_events; i++)
		if (graph->events[i].loc != NO_EVENT)
			graph->events[i].loc = name[graph->events[i].loc];
}

void graph_restrict(struct graph *graph, const bool *keep)
{
	uint16_t name[MAX_EVENTS];
	uint16_t i, j, nr = 0;

	for (i = 0; i < graph->nr_events; i++) {
		struct event *e = &graph->events[i];

		if (keep[i] || e->kind != EVENT_WRITE)
			continue;
		for (j = 0; j < graph->nr_events; j++)
			if (is_write_to(&graph->events[j], e->loc) &&
			    graph->events[j].mo > e->mo)
				graph->events[j].mo--;
	}
	for (i = 0; i < graph->nr_events; i++) {
		name[i] = keep[i] ? nr : NO_EVENT;
		if (keep[i])
			graph->events[nr++] = graph->events[i];
	}
	graph->nr_events = nr;
	for (i = 0; i < nr; i++)
		if (graph->events[i].rf != NO_EVENT)
			graph->events[i].rf = name[graph->events[i].rf];
	drop_locations(graph);
}

/* ------------------------------------------------------------------ */
/* Coherence and atomicity                                            */
/* ------------------------------------------------------------------ */

uint16_t graph_first_rank(const struct graph *graph, uint16_t id)
{
	const struct event *e = &graph->events[id];
	uint16_t first = 0;
	uint16_t i;

	for (i = 0; i < graph->nr_events; i++) {
		const struct event *b = &graph->events[i];
		uint16_t rank;

		if (i == id || b->loc != e->loc || !event_in(b, &e->hb) ||
		    (b->kind != EVENT_READ && b->kind != EVENT_WRITE))
			continue;
		rank = b->kind == EVENT_WRITE ? b->mo
					      : graph_rank(graph, b->rf);
		if (rank > first)
			first = rank;
	}
	/* Reads may read it, writes come after it. */
	return e->kind == EVENT_WRITE ? first + 1 : first;
}

bool graph_is_taken(const struct graph *graph, uint16_t loc, uint16_t mo)
{
	uint16_t next = graph_write_at(graph, loc, mo + 1);

	return next != NO_EVENT && graph->events[next].rmw;
}

static bool is_coherent(const struct graph *graph)
{
	uint16_t i;

	for (i = 0; i < graph->nr_events; i++) {
		const struct event *e = &graph->events[i];
		uint16_t rank;

		if (e->kind != EVENT_READ && e->kind != EVENT_WRITE)
			continue;
		rank = e->kind == EVENT_WRITE ? e->mo
					      : graph_rank(graph, e->rf);
		if (rank < graph_first_rank(graph, i))
			return false;
	}
	return true;
}

/* ------------------------------------------------------------------ */
/* Cycles                                                             */
/* ------------------------------------------------------------------ */

#define WORDS (MAX_EVENTS / 64 + 1)

/* Sets of events; only the first words are used, see words_of(). */
struct rows {
	uint64_t row[MAX_EVENTS][WORDS];
};

static unsigned int words_of(const struct graph *graph)
{
	return graph->nr_events / 64 + 1;
}

static void set_bit(uint64_t *row, uint16_t i)
{
	row[i / 64] |= UINT64_C(1) << (i % 64);
}

static void join_row(uint64_t *to, const uint64_t *from, unsigned int words)
{
	unsigned int i;

	for (i = 0; i < words; i++)
		to[i] |= from[i];
}

/* The members of a row in turn, NO_EVENT at the end. */
static uint16_t next_bit(const uint64_t *row, uint16_t from, unsigned int words)
{
	unsigned int word = from / 64;
	uint64_t bits;

	if (word >= words)
		return NO_EVENT;
	bits = row[word] & (~UINT64_C(0) << (from % 64));
	while (!bits) {
		if (++word == words)
			return NO_EVENT;
		bits = row[word];
	}
	return (uint16_t)(word * 64 + (unsigned int)__builtin_ctzll(bits));
}

#define for_each_bit(i, row, words)                              \
	for ((i) = next_bit((row), 0, (words)); (i) != NO_EVENT; \
	     (i) = next_bit((row), (i) + 1, (words)))

static void clear_rows(const struct graph *graph, struct rows *rows)
{
	uint16_t i;

	for (i = 0; i < graph->nr_events; i++)
		memset(rows->row[i], 0, words_of(graph) * sizeof(uint64_t));
}

/* Depth first, without recursion: graphs may be deep. */
static bool has_cycle(const struct graph *graph, const struct rows *edges)
{
	static uint8_t state[MAX_EVENTS];
	static uint16_t stack[MAX_EVENTS], at[MAX_EVENTS];
	unsigned int words = words_of(graph);
	uint16_t depth, root;

	memset(state, 0, graph->nr_events);
	for (root = 0; root < graph->nr_events; root++) {
		if (state[root])
			continue;
		depth = 0;
		stack[0] = root;
		at[0] = 0;
		state[root] = 1;
		for (;;) {
			uint16_t node = stack[depth];
			uint16_t next =
				next_bit(edges->row[node], at[depth], words);

			if (next == NO_EVENT) {
				state[node] = 2;
				if (!depth--)
					break;
				continue;
			}
			if (state[next] == 1)
				return true;
			at[depth] = next + 1;
			if (state[next])
				continue;
			state[next] = 1;
			depth++;
			stack[depth] = next;
			at[depth] = 0;
		}
	}
	return false;
}

/* mo and fr to the next write only: the rest follows. */
static void add_communication(const struct graph *graph, struct rows *edges,
			      bool internal_rf)
{
	uint16_t i;

	for (i = 0; i < graph->nr_events; i++) {
		const struct event *e = &graph->events[i];
		uint16_t rank, next;

		if (e->kind != EVENT_READ && e->kind != EVENT_WRITE)
			continue;
		if (e->kind == EVENT_READ && e->rf != NO_EVENT &&
		    (internal_rf || graph->events[e->rf].thread != e->thread))
			set_bit(edges->row[e->rf], i);
		rank = e->kind == EVENT_WRITE ? e->mo
					      : graph_rank(graph, e->rf);
		next = graph_write_at(graph, e->loc, rank + 1);
		/* An RMW is not before itself. */
		if (next != NO_EVENT && next != i)
			set_bit(edges->row[i], next);
	}
}

/* ------------------------------------------------------------------ */
/* SC and TSO                                                         */
/* ------------------------------------------------------------------ */

static void add_edge(struct rows *edges, uint16_t from, uint16_t to)
{
	if (from != NO_EVENT)
		set_bit(edges->row[from], to);
}

static void add_program_order(const struct graph *graph, struct rows *edges)
{
	uint16_t last[LADDER_MAX_THREADS];
	uint16_t i;

	memset(last, 0xff, sizeof(last));
	for (i = 0; i < graph->nr_events; i++) {
		add_edge(edges, last[graph->events[i].thread], i);
		last[graph->events[i].thread] = i;
	}
}

/* What x86 keeps of it: everything but a write before a later read. */
struct tso_thread {
	uint16_t read, write, fence;
};

static bool is_full_fence(const struct event *e)
{
	if (e->kind == EVENT_FENCE)
		return e->order == ORDER_SEQ_CST;
	return e->locked ||
	       (e->kind == EVENT_WRITE && e->order == ORDER_SEQ_CST);
}

static void add_tso_order(const struct graph *graph, struct rows *edges)
{
	struct tso_thread threads[LADDER_MAX_THREADS];
	uint16_t i;

	memset(threads, 0xff, sizeof(threads));
	for (i = 0; i < graph->nr_events; i++) {
		const struct event *e = &graph->events[i];
		struct tso_thread *last = &threads[e->thread];
		bool fence = is_full_fence(e);

		if (e->kind == EVENT_CHOICE ||
		    (e->kind == EVENT_FENCE && !fence))
			continue;
		add_edge(edges, last->read, i);
		add_edge(edges, last->fence, i);
		if (e->kind == EVENT_WRITE || fence)
			add_edge(edges, last->write, i);
		if (e->kind == EVENT_READ)
			last->read = i;
		if (e->kind == EVENT_WRITE)
			last->write = i;
		if (fence)
			last->fence = i;
	}
}

static struct rows *edges_buffer(const struct graph *graph)
{
	static struct rows rows;

	clear_rows(graph, &rows);
	return &rows;
}

static bool is_tso(const struct graph *graph)
{
	struct rows *edges = edges_buffer(graph);

	add_tso_order(graph, edges);
	add_communication(graph, edges, false);
	return !has_cycle(graph, edges);
}

static bool is_sc(const struct graph *graph)
{
	struct rows *edges = edges_buffer(graph);

	add_program_order(graph, edges);
	add_communication(graph, edges, true);
	return !has_cycle(graph, edges);
}

/* ------------------------------------------------------------------ */
/* RC11's psc                                                         */
/* ------------------------------------------------------------------ */

/*
 *	eco  = (rf | mo | fr)+
 *	scb  = po | po_other;hb;po_other | hb_same | mo | fr
 *	base = ([SC] | [Fsc];hb?) ; scb ; ([SC] | hb?;[Fsc])
 *	F    = [Fsc] ; (hb | hb;eco;hb) ; [Fsc]
 *	psc  = base | F			has no cycle
 *
 * where po_other relates events of different locations and hb_same those of one.
 */
struct psc {
	struct rows hb, other, scb, eco, via, psc;
	uint64_t sc[WORDS], fences[WORDS];
	unsigned int words;
	/* the events of each thread in sequence, and each with all behind it */
	uint16_t by_thread[LADDER_MAX_THREADS][MAX_EVENTS];
	uint16_t nr[LADDER_MAX_THREADS];
	struct rows from;
	/* the accesses of each location */
	uint64_t same[MAX_LOCATIONS][WORDS];
};

static bool is_access(const struct event *e)
{
	return e->kind == EVENT_READ || e->kind == EVENT_WRITE;
}

/* What happens-before reaches of a thread are all its events from one on. */
static void psc_index(const struct graph *graph, struct psc *p)
{
	uint16_t i;
	int t;

	memset(p->nr, 0, sizeof(p->nr));
	for (i = 0; i < graph->nr_locations; i++)
		memset(p->same[i], 0, p->words * sizeof(uint64_t));
	for (i = 0; i < graph->nr_events; i++) {
		const struct event *e = &graph->events[i];

		p->by_thread[e->thread][p->nr[e->thread]++] = i;
		if (is_access(e))
			set_bit(p->same[e->loc], i);
		if (e->order != ORDER_SEQ_CST)
			continue;
		set_bit(p->sc, i);
		if (e->kind == EVENT_FENCE)
			set_bit(p->fences, i);
	}
	for (t = 0; t < LADDER_MAX_THREADS; t++) {
		i = p->nr[t];
		while (i-- > 0) {
			uint64_t *row = p->from.row[p->by_thread[t][i]];

			if (i + 1 < p->nr[t])
				join_row(row,
					 p->from.row[p->by_thread[t][i + 1]],
					 p->words);
			set_bit(row, p->by_thread[t][i]);
		}
	}
}

/* The first event of a thread that the event happens before. */
static uint16_t first_after(const struct graph *graph, const struct psc *p,
			    const struct event *e, int thread)
{
	uint16_t low = 0, high = p->nr[thread];

	if (thread == e->thread)
		low = e->index;
	while (low < high) {
		uint16_t middle = (low + high) / 2;
		uint16_t id = p->by_thread[thread][middle];

		if (event_in(e, &graph->events[id].hb))
			high = middle;
		else
			low = middle + 1;
	}
	return low < p->nr[thread] ? p->by_thread[thread][low] : NO_EVENT;
}

static void psc_relations(const struct graph *graph, struct psc *p)
{
	unsigned int w;
	uint16_t i, j;
	int t;

	for (i = 0; i < graph->nr_events; i++) {
		const struct event *e = &graph->events[i];

		for (t = 0; t < LADDER_MAX_THREADS; t++) {
			j = first_after(graph, p, e, t);
			if (j == NO_EVENT)
				continue;
			join_row(p->hb.row[i], p->from.row[j], p->words);
			if (t != e->thread)
				continue;
			join_row(p->other.row[i], p->from.row[j], p->words);
			join_row(p->scb.row[i], p->from.row[j], p->words);
		}
		for (w = 0; is_access(e) && w < p->words; w++) {
			uint64_t same = p->same[e->loc][w];

			p->other.row[i][w] &= ~same;
			p->scb.row[i][w] |= p->hb.row[i][w] & same;
		}
	}
}

/* mo and fr in full into scb, and with rf behind them into eco. */
static void psc_communication(const struct graph *graph, struct psc *p)
{
	uint16_t i, j;

	for (i = 0; i < graph->nr_events; i++) {
		const struct event *a = &graph->events[i];
		uint16_t rank;

		if (!is_access(a))
			continue;
		rank = a->kind == EVENT_WRITE ? a->mo
					      : graph_rank(graph, a->rf);
		for_each_bit(j, p->same[a->loc], p->words)
		{
			const struct event *b = &graph->events[j];

			if (i == j)
				continue;
			if (b->kind == EVENT_WRITE && b->mo > rank) {
				set_bit(p->scb.row[i], j);
				set_bit(p->eco.row[i], j);
			}
			if (b->kind == EVENT_READ &&
			    (b->rf == i || graph_rank(graph, b->rf) > rank))
				set_bit(p->eco.row[i], j);
		}
	}
}

static void psc_finish_scb(const struct graph *graph, struct psc *p)
{
	uint16_t i, j;

	for (i = 0; i < graph->nr_events; i++)
		for_each_bit(j, p->hb.row[i], p->words)
			join_row(p->via.row[i], p->other.row[j], p->words);
	for (i = 0; i < graph->nr_events; i++)
		for_each_bit(j, p->other.row[i], p->words)
			join_row(p->scb.row[i], p->via.row[j], p->words);
}

/* Add to psc what an scb edge out of @from, on behalf of @node, leads to. */
static void psc_base(struct psc *p, uint16_t node, uint16_t from)
{
	uint64_t *to = p->psc.row[node];
	unsigned int w;
	uint16_t x;

	for_each_bit(x, p->scb.row[from], p->words)
	{
		if (p->sc[x / 64] >> (x % 64) & 1)
			set_bit(to, x);
		for (w = 0; w < p->words; w++)
			to[w] |= p->hb.row[x][w] & p->fences[w];
	}
}

static void psc_fence(struct psc *p, uint16_t node)
{
	uint64_t *to = p->psc.row[node];
	uint16_t x, y;
	unsigned int w;

	for (w = 0; w < p->words; w++)
		to[w] |= p->hb.row[node][w] & p->fences[w];
	for_each_bit(x, p->hb.row[node], p->words)
		for_each_bit(y, p->eco.row[x],
			     p->words) for (w = 0; w < p->words; w++) to[w] |=
		p->hb.row[y][w] & p->fences[w];
}

static bool is_psc_acyclic(const struct graph *graph)
{
	static struct psc p;
	unsigned int nr = 0;
	uint16_t i, x;

	for (i = 0; i < graph->nr_events; i++)
		nr += graph->events[i].order == ORDER_SEQ_CST;
	if (nr < 2)
		return true;
	p.words = words_of(graph);
	memset(p.sc, 0, sizeof(p.sc));
	memset(p.fences, 0, sizeof(p.fences));
	clear_rows(graph, &p.hb);
	clear_rows(graph, &p.other);
	clear_rows(graph, &p.scb);
	clear_rows(graph, &p.eco);
	clear_rows(graph, &p.via);
	clear_rows(graph, &p.psc);
	clear_rows(graph, &p.from);
	psc_index(graph, &p);
	psc_relations(graph, &p);
	psc_communication(graph, &p);
	psc_finish_scb(graph, &p);
	for_each_bit(i, p.sc, p.words)
	{
		psc_base(&p, i, i);
		if (graph->events[i].kind != EVENT_FENCE)
			continue;
		for_each_bit(x, p.hb.row[i], p.words) psc_base(&p, i, x);
		psc_fence(&p, i);
	}
	return !has_cycle(graph, &p.psc);
}

bool graph_is_allowed(const struct graph *graph)
{
	switch (graph->model) {
	case LADDER_SC:
		return is_sc(graph);
	case LADDER_TSO:
		return is_tso(graph);
	case LADDER_C11:
		break;
	}
	return is_psc_acyclic(graph);
}

bool graph_recheck(struct graph *graph)
{
	uint16_t order[MAX_EVENTS];
	uint16_t i;

	graph_sort(graph, order);
	for (i = 0; i < graph->nr_events; i++)
		graph_set_clocks(graph, order[i]);
	return is_coherent(graph) && graph_is_allowed(graph);
}

/* ------------------------------------------------------------------ */
/* Orders of execution                                                */
/* ------------------------------------------------------------------ */

struct sorting {
	const struct graph *graph;
	bool done[MAX_EVENTS];
	uint16_t next[LADDER_MAX_THREADS];
	uint16_t by_thread[LADDER_MAX_THREADS][MAX_EVENTS];
	uint16_t nr[LADDER_MAX_THREADS];
};

static struct sorting *sorting_begin(const struct graph *graph)
{
	static struct sorting s;
	uint16_t i;

	s.graph = graph;
	memset(s.done, 0, sizeof(s.done));
	memset(s.next, 0, sizeof(s.next));
	memset(s.nr, 0, sizeof(s.nr));
	for (i = 0; i < graph->nr_events; i++) {
		const struct event *e = &graph->events[i];

		s.by_thread[e->thread][e->index - 1] = i;
		s.nr[e->thread]++;
	}
	return &s;
}

static bool can_go(const struct sorting *s, uint8_t thread)
{
	const struct event *e;

	if (s->next[thread] == s->nr[thread])
		return false;
	e = &s->graph->events[s->by_thread[thread][s->next[thread]]];
	return e->kind != EVENT_READ || e->rf == NO_EVENT || s->done[e->rf];
}

static uint16_t go(struct sorting *s, uint8_t thread)
{
	uint16_t id = s->by_thread[thread][s->next[thread]++];

	s->done[id] = true;
	return id;
}

void graph_sort(const struct graph *graph, uint16_t *ret_order)
{
	struct sorting *s = sorting_begin(graph);
	uint16_t nr = 0;
	uint8_t t;

	while (nr < graph->nr_events)
		for (t = 0; t < LADDER_MAX_THREADS; t++)
			while (can_go(s, t))
				ret_order[nr++] = go(s, t);
}

/* Would everything that mo and fr put before the event be done? */
static bool is_in_sequence(const struct sorting *s, uint8_t thread)
{
	const struct graph *graph = s->graph;
	const struct event *e;
	uint16_t rank, i;

	e = &graph->events[s->by_thread[thread][s->next[thread]]];
	if (!is_access(e))
		return true;
	rank = e->kind == EVENT_WRITE ? e->mo : graph_rank(graph, e->rf) + 1;
	for (i = 0; i < graph->nr_events; i++) {
		const struct event *b = &graph->events[i];

		if (e->kind == EVENT_READ && is_write_to(b, e->loc) &&
		    b->mo >= rank && s->done[i])
			return false;
		if (e->kind != EVENT_WRITE || s->done[i] || b == e)
			continue;
		if (is_write_to(b, e->loc) && b->mo < rank)
			return false;
		if (is_read_of(b, e->loc) && graph_rank(graph, b->rf) < rank)
			return false;
	}
	return true;
}

static bool choose_thread(const struct sorting *s, uint8_t now,
			  uint8_t *ret_thread)
{
	uint8_t i, t, any = LADDER_MAX_THREADS;

	for (i = 0; i < LADDER_MAX_THREADS; i++) {
		t = (now + i) % LADDER_MAX_THREADS;
		if (!can_go(s, t))
			continue;
		if (is_in_sequence(s, t)) {
			*ret_thread = t;
			return true;
		}
		if (any == LADDER_MAX_THREADS)
			any = t;
	}
	*ret_thread = any;
	return false;
}

bool graph_sort_plainly(const struct graph *graph, uint16_t *ret_order)
{
	struct sorting *s = sorting_begin(graph);
	bool plain = true;
	uint16_t nr = 0;
	uint8_t now = 0;

	while (nr < graph->nr_events) {
		if (!choose_thread(s, now, &now))
			plain = false;
		ret_order[nr++] = go(s, now);
		/* The halves of an RMW stay together. */
		if (s->next[now] < s->nr[now] &&
		    graph->events[s->by_thread[now][s->next[now]]].rmw)
			ret_order[nr++] = go(s, now);
	}
	return plain;
}
