/* SPDX-License-Identifier: MIT */
#ifndef MMN_LADDER_GRAPH_H
#define MMN_LADDER_GRAPH_H
/*
 * Execution graphs, and what a memory model says about them.
 *
 * An execution is not an interleaving: it is the set of its accesses (events)
 * with three relations.  Program order: the events of a thread in sequence.
 * Reads-from: which write each read got its value from.  Modification order:
 * the writes of one location in a row.  A memory model is a predicate over such
 * graphs.  All of them here have in common
 *
 *	coherence	no event is ordered against rf, mo, or "from-reads" of
 *			its own location by what happens before it
 *	atomicity	nothing comes in mo between a read-modify-write and what
 *			it read
 *	no thin air	po and rf together have no cycle: events are added in
 *			such an order (so there is no load buffering)
 *
 * and they differ in what happens-before is and in one axiom more:
 *
 *	C11	release/acquire, fences, and release sequences (of C++20: a
 *		write and the RMWs that follow it) synchronise; RC11's psc, the
 *		partial order of the seq_cst events, has no cycle
 *	TSO	po without write-to-read, external rf, mo, fr, and full fences
 *		together have no cycle
 *	SC	po, rf, mo, fr together have no cycle
 *
 * Sources: Lahav et al., Repairing sequential consistency in C/C++11, PLDI
 * 2017 (RC11 and psc); Alglave et al., Herding cats, TOPLAS 2014 (TSO).
 */
#include <stdbool.h>
#include <stdint.h>

#include "ladder/ladder.h"

#define NO_EVENT UINT16_MAX

/* As compilers number __ATOMIC_RELAXED and so on in calls to a sanitizer. */
enum order {
	ORDER_RELAXED,
	ORDER_CONSUME,
	ORDER_ACQUIRE,
	ORDER_RELEASE,
	ORDER_ACQ_REL,
	ORDER_SEQ_CST,
};

static inline bool is_acquire(unsigned int order)
{
	return order == ORDER_CONSUME || order == ORDER_ACQUIRE ||
	       order >= ORDER_ACQ_REL;
}

static inline bool is_release(unsigned int order)
{
	return order >= ORDER_RELEASE;
}

/* How many events of each thread are included. */
struct clock {
	uint16_t at[LADDER_MAX_THREADS];
};

static inline void clock_join(struct clock *a, const struct clock *b)
{
	int i;

	for (i = 0; i < LADDER_MAX_THREADS; i++)
		if (b->at[i] > a->at[i])
			a->at[i] = b->at[i];
}

enum event_kind { EVENT_READ, EVENT_WRITE, EVENT_FENCE, EVENT_CHOICE };

/*
 * struct event - one access of one thread
 *
 * E1  index counts the events of its thread from 1.
 * E2  rf of a read is a write of the same location in the graph, or NO_EVENT:
 *     the initial value.
 * E3  mo numbers the writes of a location from 1 without gaps; the initial
 *     value is 0.
 * E4  the write half of an RMW stands right behind its read half in the thread.
 */
struct event {
	uint8_t kind;
	uint8_t thread;
	uint8_t order;
	/* of a locked instruction of x86: also RMWs that did not write */
	bool locked;
	/* write half of an RMW */
	bool rmw;
	/* a plain store to a location that is otherwise atomic */
	bool plain;
	/* of a read: the order of an RMW that writes nothing */
	uint8_t order_failed;
	uint16_t index;
	uint16_t loc;
	uint16_t rf;
	uint16_t mo;
	/* written or read; of a choice, what was chosen */
	uint64_t value;
	const struct access_site *site;
	/* "lock", "futex wait"; NULL for accesses of the program */
	const char *what;

	/* what happens before the end of the event, itself included */
	struct clock hb;
	/* what an acquire fence would add */
	struct clock acquirable;
	/* what a relaxed write of this thread publishes, since a release fence */
	struct clock released;
	/* of a write: what its acquiring reader gets */
	struct clock message;
	/* po and rf, all of them: what the event depends on */
	struct clock past;
};

struct location {
	uint64_t address;
	uint64_t initial;
	uint8_t size;
};

struct graph {
	enum ladder_model model;
	uint16_t nr_events;
	uint16_t nr_locations;
	/* in the order in which they were added */
	struct event *events;
	struct location *locations;
};

#define MAX_EVENTS LADDER_MAX_EVENTS
#define MAX_LOCATIONS 300

struct graph *graph_create(enum ladder_model model);
/* A copy just large enough; NULL when there is no memory. */
struct graph *graph_copy(const struct graph *graph);
/* @to was made by graph_create(). */
void graph_assign(struct graph *to, const struct graph *from);
void graph_destroy(struct graph *graph);

uint16_t graph_find(const struct graph *graph, uint8_t thread, uint16_t index);
uint16_t graph_location(const struct graph *graph, uint64_t address);
/* The write at a place of mo; NO_EVENT for 0. */
uint16_t graph_write_at(const struct graph *graph, uint16_t loc, uint16_t mo);
uint16_t graph_nr_writes(const struct graph *graph, uint16_t loc);
uint64_t graph_value(const struct graph *graph, uint16_t loc, uint16_t write);

static inline uint16_t graph_rank(const struct graph *graph, uint16_t write)
{
	return write == NO_EVENT ? 0 : graph->events[write].mo;
}

static inline bool event_in(const struct event *e, const struct clock *clock)
{
	return e->index <= clock->at[e->thread];
}

/* Fill in the clocks of an event from its predecessor and its rf. */
void graph_set_clocks(struct graph *graph, uint16_t id);
/* Make room at @mo and put the write there. */
void graph_place(struct graph *graph, uint16_t id, uint16_t mo);
/* What remains when only events with keep[] are kept. */
void graph_restrict(struct graph *graph, const bool *keep);

/* The first place of mo that coherence leaves to the event. */
uint16_t graph_first_rank(const struct graph *graph, uint16_t id);
/* Does anything read-modify-write the write at @mo? */
bool graph_is_taken(const struct graph *graph, uint16_t loc, uint16_t mo);
/* The model's own axiom. */
bool graph_is_allowed(const struct graph *graph);
/* All axioms, with all clocks computed anew: for changed orders. */
bool graph_recheck(struct graph *graph);

/*
 * An order of execution: every event after what it depends on.  graph_sort()
 * does it fast; graph_sort_plainly() such that reads read the newest write as far
 * as that is possible, with few changes from one thread to another, and tells
 * whether all do.
 */
void graph_sort(const struct graph *graph, uint16_t *ret_order);
bool graph_sort_plainly(const struct graph *graph, uint16_t *ret_order);

#endif
