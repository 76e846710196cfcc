/* SPDX-License-Identifier: MIT */
/*
 * The exploration: TruSt, stateless and optimal.
 *
 * Kokologiannakis, Marmanis, Gladstein, Vafeiadis: Truly stateless, optimal
 * dynamic partial order reduction, POPL 2022.  Every execution graph that the
 * model allows is visited exactly once, with memory for a few graphs only:
 *
 *	A read is added with each write that it may read from.  A write is added
 *	at each place of mo.  In addition a write revisits the reads that were
 *	added before it and could have read it: what was added after such a
 *	read, and is not needed for the write, is taken out of the graph, and
 *	the read reads from the write.  The same graph would come about from
 *	several that differ in what is taken out; so only the one is used in
 *	which all of that is "maximal", see is_maximal().
 *
 * The program has no state that could be saved: what is still to be done are
 * graphs (engine->todo), and each begins a run in which the threads are led
 * through the events of the graph (replay) before they add their own (extend).
 * In both phases the real code runs, on the real memory; only the values of its
 * atomic reads are given to it.
 *
 * Two things follow for the code under test.  It must be deterministic: what it
 * does next depends on what it has read only.  And plain accesses need no
 * events: if two that conflict are not ordered by the graph that is a data race,
 * reported as such, and else any order of execution that respects the graph
 * gives them the same values.
 */
#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ladder/engine.h"
#include "ladder/scenario.h"

#define DEFAULT_MAX_EVENTS 400

struct engine *engine;

static jmp_buf out_of_home;

/* ------------------------------------------------------------------ */
/* Graphs still to be visited                                         */
/* ------------------------------------------------------------------ */

/* Takes the graph over. */
static void push(struct graph *graph)
{
	struct pending *pending = malloc(sizeof(*pending));

	if (!pending) {
		graph_destroy(graph);
		engine->out_of_memory = true;
		return;
	}
	pending->graph = graph;
	pending->next = engine->todo;
	engine->todo = pending;
}

static bool pop(struct graph *to)
{
	struct pending *pending = engine->todo;

	if (!pending)
		return false;
	engine->todo = pending->next;
	graph_assign(to, pending->graph);
	graph_destroy(pending->graph);
	free(pending);
	return true;
}

static struct graph *copy_of(const struct graph *graph)
{
	struct graph *copy = graph_copy(graph);

	if (!copy)
		engine->out_of_memory = true;
	return copy;
}

/* ------------------------------------------------------------------ */
/* Ends of runs                                                       */
/* ------------------------------------------------------------------ */

static void go_home(void)
{
	struct thread *thread = this_thread();

	fiber_switch(&thread->fiber, &engine->home);
}

/* End this run; does not return. */
static void stop_run(void)
{
	engine->stopped = true;
	if (engine->current == NO_THREAD)
		longjmp(out_of_home, 1);
	for (;;)
		go_home();
}

void engine_discard(void)
{
	engine->result->blocked++;
	stop_run();
	__builtin_unreachable();
}

void engine_fail(enum ladder_failure failure, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(engine->text, sizeof(engine->text), format, args);
	va_end(args);
	engine->failure = failure;
	engine->failed_thread = engine->current;
	stop_run();
}

void engine_block(const char *waits_for, bool sleeps)
{
	struct thread *thread = this_thread();

	if (engine->current == NO_THREAD)
		engine_fail(LADDER_DEADLOCK, "waits for %s, alone", waits_for);
	thread->waits_for = waits_for;
	thread->sleeps = sleeps;
	thread->state = THREAD_BLOCKED;
	for (;;)
		go_home();
}

/* ------------------------------------------------------------------ */
/* Adding events                                                      */
/* ------------------------------------------------------------------ */

static struct event *new_event(enum event_kind kind, const struct op *op)
{
	struct graph *graph = engine->graph;
	struct event *e;

	if (graph->nr_events == MAX_EVENTS)
		engine_fail(LADDER_UNSUPPORTED, "more than %d events",
			    MAX_EVENTS);
	e = &graph->events[graph->nr_events++];
	memset(e, 0, sizeof(*e));
	e->kind = kind;
	e->thread = engine->current;
	e->index = this_thread()->done + 1;
	e->rf = NO_EVENT;
	e->loc = NO_EVENT;
	e->site = this_thread()->site;
	if (op) {
		e->order = op->order;
		e->what = op->what;
	}
	return e;
}

static uint16_t location_of(const struct op *op)
{
	struct graph *graph = engine->graph;
	uint16_t i = graph_location(graph, op->address);
	struct location *loc;

	if (i != NO_EVENT) {
		if (graph->locations[i].size != op->size)
			engine_fail(LADDER_UNSUPPORTED,
				    "one word is accessed as %u and %u bytes",
				    graph->locations[i].size, op->size);
		return i;
	}
	if (graph->nr_locations == MAX_LOCATIONS)
		engine_fail(LADDER_UNSUPPORTED, "more than %d atomic words",
			    MAX_LOCATIONS);
	i = graph->nr_locations++;
	loc = &graph->locations[i];
	loc->address = op->address;
	loc->size = op->size;
	loc->initial = memory_get(op->address, op->size);
	engine->newest[i] = NO_EVENT;
	return i;
}

/* The value a read sees, and with it the order that an RMW has. */
static void settle_read(const struct op *op, uint16_t id)
{
	struct event *e = &engine->graph->events[id];
	uint64_t new;

	e->value = graph_value(engine->graph, e->loc, e->rf);
	e->order = op->order;
	if (op->kind == OP_RMW && !op->function(op, e->value, &new))
		e->order = op->order_failed;
	graph_set_clocks(engine->graph, id);
}

/*
 * Reading from the newest write is always allowed, as is a write that becomes
 * the newest, and a fence: no relation leads out of the new event, so that it is
 * on no cycle.  Only the others are judged.
 */
static uint16_t add_read(const struct op *op)
{
	struct graph *graph = engine->graph;
	struct event *e = new_event(EVENT_READ, op);
	uint16_t id = graph->nr_events - 1;
	uint16_t first, rank, newest;

	e->loc = location_of(op);
	e->locked = op->kind == OP_RMW;
	e->order_failed = op->kind == OP_RMW ? op->order_failed : op->order;
	graph_set_clocks(graph, id);
	first = graph_first_rank(graph, id);
	newest = graph_nr_writes(graph, e->loc);
	for (rank = first; rank < newest; rank++) {
		struct graph *copy;

		e->rf = graph_write_at(graph, e->loc, rank);
		settle_read(op, id);
		if (!graph_is_allowed(graph))
			continue;
		copy = copy_of(graph);
		if (copy)
			push(copy);
	}
	e->rf = graph_write_at(graph, e->loc, newest);
	settle_read(op, id);
	return id;
}

/* ------------------------------------------------------------------ */
/* Adding writes, and revisits                                        */
/* ------------------------------------------------------------------ */

/* The places of mo that coherence and atomicity leave to a new write. */
static bool may_stand_at(const struct graph *graph, uint16_t id, uint16_t mo)
{
	const struct event *e = &graph->events[id];
	uint16_t read;

	if (graph_is_taken(graph, e->loc, mo - 1))
		return false;
	if (!e->rmw)
		return true;
	read = graph_find(graph, e->thread, e->index - 1);
	return mo == graph_rank(graph, graph->events[read].rf) + 1;
}

/* Copies of the graph with the write at each place but one: for later. */
static void push_places(const struct graph *graph, uint16_t id, uint16_t read,
			uint16_t but)
{
	const struct event *e = &graph->events[id];
	uint16_t mo = graph_nr_writes(graph, e->loc);
	uint16_t first = graph_first_rank(graph, id);

	for (; mo >= first; mo--) {
		struct graph *copy;

		if (mo == but || !may_stand_at(graph, id, mo))
			continue;
		copy = copy_of(graph);
		if (!copy)
			return;
		graph_place(copy, id, mo);
		if (read != NO_EVENT)
			graph_set_clocks(copy, read);
		if ((read == NO_EVENT || mo >= graph_first_rank(copy, read)) &&
		    graph_is_allowed(copy))
			push(copy);
		else
			graph_destroy(copy);
	}
}

/* What is added before @e, or needed for @write. */
static bool is_previous(const struct graph *graph, uint16_t other, uint16_t e,
			const struct event *write)
{
	return other <= e || event_in(&graph->events[other], &write->past);
}

/*
 * Was the event added as the exploration adds it of itself, when nobody
 * revisits: a read from the newest write, a write as the newest and read by
 * nobody then?
 */
static bool is_maximal(const struct graph *graph, uint16_t id,
		       const struct event *write)
{
	const struct event *e = &graph->events[id];
	uint16_t i, rank;

	if (e->kind == EVENT_CHOICE)
		return e->value == 0;
	if (e->kind == EVENT_FENCE)
		return true;
	if (e->kind == EVENT_READ && e->rf != NO_EVENT &&
	    !is_previous(graph, e->rf, id, write))
		return false;
	rank = e->kind == EVENT_WRITE ? e->mo : graph_rank(graph, e->rf);
	for (i = 0; i < graph->nr_events; i++) {
		const struct event *b = &graph->events[i];

		if (b == write || b->loc != e->loc ||
		    !is_previous(graph, i, id, write))
			continue;
		if (b->kind == EVENT_WRITE && b->mo > rank)
			return false;
		if (e->kind == EVENT_WRITE && b->kind == EVENT_READ &&
		    b->rf == id)
			return false;
	}
	return true;
}

/* The write is the last event; it has no place in mo yet. */
static void revisit(const struct graph *graph, uint16_t read)
{
	uint16_t id = graph->nr_events - 1;
	const struct event *write = &graph->events[id];
	bool keep[MAX_EVENTS];
	struct graph *copy;
	uint16_t i;

	for (i = 0; i < id; i++) {
		keep[i] = is_previous(graph, i, read, write);
		if ((!keep[i] || i == read) && !is_maximal(graph, i, write))
			return;
	}
	keep[id] = true;
	copy = copy_of(graph);
	if (!copy)
		return;
	/* Out of the way of the others' numbers. */
	copy->events[id].mo = UINT16_MAX;
	graph_restrict(copy, keep);
	id = copy->nr_events - 1;
	read = graph_find(copy, graph->events[read].thread,
			  graph->events[read].index);
	copy->events[read].rf = id;
	copy->events[read].order = copy->events[read].order_failed;
	copy->events[id].mo = 0;
	push_places(copy, id, read, 0);
	graph_destroy(copy);
}

static uint16_t add_write(const struct op *op, uint64_t value, bool rmw)
{
	struct graph *graph = engine->graph;
	struct event *e = new_event(EVENT_WRITE, op);
	uint16_t id = graph->nr_events - 1;
	uint16_t last, i;

	e->loc = location_of(op);
	/* Sums are computed with more bits than the word has. */
	e->value = value & (~UINT64_C(0) >> (64 - 8 * op->size));
	e->rmw = rmw;
	e->locked = rmw;
	graph_set_clocks(graph, id);
	for (i = 0; i < id; i++)
		if (graph->events[i].kind == EVENT_READ &&
		    graph->events[i].loc == e->loc &&
		    !event_in(&graph->events[i], &e->past))
			revisit(graph, i);
	/* With itself not yet placed, the number counts it: the last place. */
	last = graph_nr_writes(graph, e->loc);
	push_places(graph, id, NO_EVENT, last);
	if (!may_stand_at(graph, id, last))
		stop_run();
	graph_place(graph, id, last);
	return id;
}

/* ------------------------------------------------------------------ */
/* Executing events                                                   */
/* ------------------------------------------------------------------ */

static uint16_t next_in_graph(void)
{
	return graph_find(engine->graph, engine->current,
			  this_thread()->done + 1);
}

/* Wait until the thread's next event is due; NO_EVENT: it may add one. */
static uint16_t await_turn(void)
{
	uint16_t id = next_in_graph();

	while (id != NO_EVENT && engine->order[engine->position] != id)
		go_home();
	while (id == NO_EVENT && engine->mode != MODE_EXTEND)
		go_home();
	if (id == NO_EVENT &&
	    this_thread()->done >= (engine->options->max_events
					    ? engine->options->max_events
					    : DEFAULT_MAX_EVENTS)) {
		engine->result->cut++;
		stop_run();
	}
	return id;
}

void engine_await_quiet(uint64_t number)
{
	struct thread *thread = this_thread();

	thread->quiet = number;
	while (next_in_graph() == NO_EVENT &&
	       !(engine->mode == MODE_EXTEND && engine->quiet))
		go_home();
	thread->quiet = 0;
	engine->quiet = false;
}

uint64_t engine_next_address(void)
{
	const struct graph *graph = engine->graph;
	uint16_t id = next_in_graph();

	return id == NO_EVENT ? 0
			      : graph->locations[graph->events[id].loc].address;
}

bool engine_may_go_round(void)
{
	const struct event *last, *e;
	uint16_t id, index = this_thread()->done;

	id = graph_find(engine->graph, engine->current, index);
	if (id == NO_EVENT)
		return false;
	last = &engine->graph->events[id];
	if (last->kind == EVENT_WRITE)
		return true;
	while (--index) {
		id = graph_find(engine->graph, engine->current, index);
		e = &engine->graph->events[id];
		if (e->kind == EVENT_READ && e->loc == last->loc)
			return e->rf != last->rf;
	}
	return false;
}

static void expect_event(uint16_t id, enum event_kind kind, const struct op *op)
{
	const struct event *e = &engine->graph->events[id];

	if (e->kind == kind &&
	    (!op || engine->graph->locations[e->loc].address == op->address))
		return;
	engine_fail(LADDER_UNSUPPORTED,
		    "CPU%u does not do the same again: it depends on something "
		    "that the explorer does not know",
		    engine->current);
}

static void store_value(uint16_t id)
{
	const struct event *e = &engine->graph->events[id];
	const struct location *loc = &engine->graph->locations[e->loc];
	uint16_t *newest = &engine->newest[e->loc];

	if (*newest != NO_EVENT && graph_rank(engine->graph, *newest) > e->mo)
		return;
	*newest = id;
	if (e->plain)
		return;
	memory_save(loc->address, loc->size);
	memory_put(loc->address, loc->size, e->value);
}

static void executed(uint16_t id)
{
	struct thread *thread = this_thread();
	struct event *e = &engine->graph->events[id];
	const struct location *loc = NULL;
	uint16_t newest = NO_EVENT;

	thread->done++;
	thread->hb = e->hb;
	if (e->loc != NO_EVENT) {
		loc = &engine->graph->locations[e->loc];
		newest = engine->newest[e->loc];
	}
	/* The ladder tells about a read that does not see the newest. */
	if (engine->trace && !e->plain)
		trace_event(e,
			    e->kind == EVENT_READ && newest != NO_EVENT &&
				    graph_rank(engine->graph, newest) >
					    graph_rank(engine->graph, e->rf),
			    loc ? graph_value(engine->graph, e->loc, newest)
				: 0);
	if (loc && !e->plain)
		memory_race(loc->address, loc->size, e->kind == EVENT_WRITE,
			    true);
	if (e->kind == EVENT_WRITE)
		store_value(id);
	if (engine->mode != MODE_REPLAY)
		return;
	engine->position++;
	/* In a ladder, what comes next is done when its turn has come. */
	if (engine->trace &&
	    (engine->position == engine->nr_ordered ||
	     engine->graph->events[engine->order[engine->position]].thread !=
		     engine->current))
		go_home();
}

static uint64_t do_read(const struct op *op)
{
	uint16_t id = await_turn();
	struct event *e;

	if (id == NO_EVENT) {
		id = add_read(op);
	} else {
		expect_event(id, EVENT_READ, op);
		e = &engine->graph->events[id];
		/* A revisit does not know which order it makes of it. */
		if (graph_find(engine->graph, e->thread, e->index + 1) ==
		    NO_EVENT) {
			settle_read(op, id);
			if (graph_rank(engine->graph, e->rf) <
				    graph_first_rank(engine->graph, id) ||
			    !graph_is_allowed(engine->graph))
				stop_run();
		}
	}
	executed(id);
	return engine->graph->events[id].value;
}

static void do_write(const struct op *op, uint64_t value, bool rmw)
{
	uint16_t id = await_turn();

	if (id == NO_EVENT)
		id = add_write(op, value, rmw);
	else
		expect_event(id, EVENT_WRITE, op);
	executed(id);
}

/* ------------------------------------------------------------------ */
/* Plain stores to words that are otherwise atomic                    */
/* ------------------------------------------------------------------ */

/* Was the word accessed atomically before, as far as this thread can know? */
static bool was_atomic(uint16_t loc)
{
	const struct graph *graph = engine->graph;
	uint16_t i;

	for (i = 0; i < graph->nr_events; i++)
		if (graph->events[i].loc == loc &&
		    event_in(&graph->events[i], &this_thread()->hb))
			return true;
	return false;
}

static uint16_t add_plain_write(const struct op *op)
{
	struct graph *graph = engine->graph;
	struct event *e = new_event(EVENT_WRITE, op);
	uint16_t id = graph->nr_events - 1;

	e->loc = location_of(op);
	e->value = op->value;
	e->plain = true;
	graph_set_clocks(graph, id);
	/* No race: what was there is before it, what comes is behind it. */
	graph_place(graph, id, graph_nr_writes(graph, e->loc));
	return id;
}

static void do_plain_write(const struct op *op)
{
	uint16_t id = await_turn();

	if (id == NO_EVENT)
		id = add_plain_write(op);
	else
		expect_event(id, EVENT_WRITE, op);
	executed(id);
}

/* The compiler tells of a store before it is made: look at it now. */
static void finish_plain_store(void)
{
	struct thread *thread = this_thread();
	uint64_t start = thread->stored, size = thread->stored_size;
	uint16_t i;

	if (!size)
		return;
	thread->stored_size = 0;
	if (engine->trace && thread->stored_line && size <= 8)
		trace_value(thread->stored_line,
			    memory_get(start, (uint8_t)size));
	thread->stored_line = 0;
	for (i = 0; i < engine->graph->nr_locations; i++) {
		const struct location *loc = &engine->graph->locations[i];
		struct op op = {
			.kind = OP_STORE,
			.address = loc->address,
			.size = loc->size,
		};

		if (loc->address + loc->size <= start ||
		    loc->address >= start + size || !was_atomic(i))
			continue;
		op.value = memory_get(loc->address, loc->size);
		do_plain_write(&op);
	}
}

void engine_plain(uint64_t address, uint64_t size, bool write)
{
	struct thread *thread;

	if (!engine || engine->mode == MODE_OFF || memory_is_private(address))
		return;
	thread = this_thread();
	if (engine->mode != MODE_ALONE)
		finish_plain_store();
	memory_check(address, size, write);
	if (write)
		memory_save(address, size);
	if (engine->mode == MODE_ALONE)
		return;
	if (engine->trace)
		thread->stored_line = trace_plain(address, size, write);
	memory_race(address, size, write, false);
	if (!write)
		return;
	thread->stored = address;
	thread->stored_size = size;
}

/* ------------------------------------------------------------------ */
/* Accesses                                                           */
/* ------------------------------------------------------------------ */

static uint64_t access_alone(const struct op *op, bool *ret_written)
{
	uint64_t old = memory_get(op->address, op->size), new = op->value;
	bool write = op->kind != OP_LOAD;

	if (op->kind == OP_RMW)
		write = op->function(op, old, &new);
	if (write) {
		memory_save(op->address, op->size);
		memory_put(op->address, op->size, new);
	}
	*ret_written = write;
	return old;
}

static uint64_t access_rmw(const struct op *op, bool *ret_written)
{
	struct thread *thread = this_thread();
	const struct access_site *site = thread->site;
	uint64_t old, new;

	old = do_read(op);
	*ret_written = op->function(op, old, &new);
	if (!*ret_written)
		return old;
	thread->in_rmw = true;
	thread->site = site;
	do_write(op, new, true);
	thread->in_rmw = false;
	return old;
}

uint64_t engine_access(const struct op *given, bool *ret_written)
{
	struct thread *thread = this_thread();
	struct op op = *given;
	uint64_t value = 0;

	memory_check(op.address, op.size, op.kind != OP_LOAD);
	if (engine->mode == MODE_ALONE || base_is_constant(op.address)) {
		thread->site = NULL;
		return access_alone(&op, ret_written);
	}
	finish_plain_store();
	op.order = weakened_order(thread->site, op.order);
	*ret_written = op.kind == OP_STORE;
	if (op.kind == OP_LOAD)
		value = do_read(&op);
	else if (op.kind == OP_STORE)
		do_write(&op, op.value, false);
	else
		value = access_rmw(&op, ret_written);
	thread->site = NULL;
	return value;
}

void engine_fence(uint8_t order)
{
	struct op op = { .order = order };
	uint16_t id;

	if (engine->mode == MODE_ALONE)
		return;
	finish_plain_store();
	op.order = weakened_order(this_thread()->site, order);
	id = await_turn();
	if (id == NO_EVENT) {
		new_event(EVENT_FENCE, &op);
		id = engine->graph->nr_events - 1;
		graph_set_clocks(engine->graph, id);
		if (!graph_is_allowed(engine->graph))
			stop_run();
	} else {
		expect_event(id, EVENT_FENCE, NULL);
	}
	executed(id);
	this_thread()->site = NULL;
}

uint32_t ladder_choose(uint32_t n)
{
	uint16_t id;
	uint32_t i;

	if (engine->mode == MODE_ALONE)
		return 0;
	finish_plain_store();
	id = await_turn();
	if (id != NO_EVENT) {
		expect_event(id, EVENT_CHOICE, NULL);
	} else {
		struct event *e = new_event(EVENT_CHOICE, NULL);

		id = engine->graph->nr_events - 1;
		graph_set_clocks(engine->graph, id);
		for (i = 1; i < n; i++) {
			struct graph *copy;

			e->value = i;
			copy = copy_of(engine->graph);
			if (copy)
				push(copy);
		}
		e->value = 0;
	}
	executed(id);
	return (uint32_t)engine->graph->events[id].value;
}

/* ------------------------------------------------------------------ */
/* One run                                                            */
/* ------------------------------------------------------------------ */

static void thread_main(void)
{
	engine->scenario->threads[engine->current]();
	finish_plain_store();
	this_thread()->state = THREAD_ENDED;
	for (;;)
		go_home();
}

static void resume(uint8_t t)
{
	struct thread *home = &engine->threads[NO_THREAD];
	struct thread *thread = &engine->threads[t];

	memory_tls_save(home->tls);
	memory_tls_load(thread->tls);
	engine->current = t;
	fiber_switch(&engine->home, &thread->fiber);
	engine->current = NO_THREAD;
	memory_tls_save(thread->tls);
	memory_tls_load(home->tls);
}

static void run_alone(void (*function)(void))
{
	engine->mode = MODE_ALONE;
	if (function && !setjmp(out_of_home))
		function();
	engine->mode = MODE_OFF;
}

static void prepare_thread(uint8_t t)
{
	struct thread *home = &engine->threads[NO_THREAD];
	struct thread *thread = &engine->threads[t];
	void *tls = thread->tls;

	memset(thread, 0, sizeof(*thread));
	thread->tls = tls;
	fiber_start(&thread->fiber, memory_stack(t), STACK_SIZE, thread_main);
	if (engine->scenario->each) {
		memory_tls_save(home->tls);
		run_alone(engine->scenario->each);
		memory_tls_save(thread->tls);
		memory_tls_load(home->tls);
	} else {
		memory_tls_save(thread->tls);
	}
}

static void replay(void)
{
	engine->mode = MODE_REPLAY;
	while (engine->position < engine->nr_ordered && !engine->stopped) {
		uint16_t id = engine->order[engine->position];
		uint16_t position = engine->position;
		uint8_t t = engine->graph->events[id].thread;

		if (engine->threads[t].state == THREAD_RUNNING)
			resume(t);
		if (engine->stopped || engine->position != position)
			continue;
		engine->current = t;
		engine->failure = LADDER_UNSUPPORTED;
		engine->failed_thread = t;
		engine->current = NO_THREAD;
		snprintf(engine->text, sizeof(engine->text),
			 "CPU%u does not do the same again", t);
		engine->stopped = true;
	}
}

static uint8_t who_is_next(void)
{
	uint64_t lowest = UINT64_MAX;
	uint8_t t, next = NO_THREAD;

	for (t = 0; t < engine->nr_threads; t++)
		if (engine->threads[t].in_rmw)
			return t;
	for (t = 0; t < engine->nr_threads; t++)
		if (engine->threads[t].state == THREAD_RUNNING &&
		    engine->threads[t].quiet < lowest) {
			next = t;
			lowest = engine->threads[t].quiet;
		}
	engine->quiet = next != NO_THREAD && lowest;
	return next;
}

static void extend(void)
{
	uint8_t t;

	engine->mode = MODE_EXTEND;
	while (!engine->stopped && (t = who_is_next()) != NO_THREAD)
		resume(t);
}

/* Is it no read, or one of the newest write? */
static bool is_last_word(uint16_t id)
{
	const struct graph *graph = engine->graph;
	const struct event *e = &graph->events[id];

	return e->kind != EVENT_READ ||
	       graph_rank(graph, e->rf) == graph_nr_writes(graph, e->loc);
}

/*
 * Will the thread never be woken: is what it read the last word on it?  Who spins
 * may have read several words in the body of his loop, and written none.
 */
static bool is_stuck(uint8_t t)
{
	const struct thread *thread = &engine->threads[t];
	uint16_t id, index = thread->done;

	do {
		id = graph_find(engine->graph, t, index--);
		if (id == NO_EVENT ||
		    engine->graph->events[id].kind == EVENT_WRITE)
			return true;
		if (!is_last_word(id))
			return false;
	} while (thread->spins);
	return true;
}

static void judge_blocked(void)
{
	const struct thread *stuck = NULL;
	uint8_t t, first = 0;

	for (t = 0; t < engine->nr_threads; t++) {
		const struct thread *thread = &engine->threads[t];

		if (thread->state != THREAD_BLOCKED)
			continue;
		if (!is_stuck(t)) {
			engine->result->blocked++;
			engine->stopped = true;
			return;
		}
		if (!stuck || (thread->sleeps && !stuck->sleeps)) {
			stuck = thread;
			first = t;
		}
	}
	if (!stuck)
		return;
	engine->stopped = true;
	engine->failed_thread = NO_THREAD;
	engine->failure = stuck->sleeps ? LADDER_LOST_WAKEUP : LADDER_DEADLOCK;
	snprintf(engine->text, sizeof(engine->text),
		 "CPU%u %s for ever, for %s", first,
		 stuck->sleeps ? "sleeps" : "waits", stuck->waits_for);
}

static void begin_run(void)
{
	uint8_t t;

	memory_reset();
	names_reset();
	rcu_reset();
	memory_tls_load(engine->initial_tls);
	engine->stopped = false;
	engine->failure = LADDER_NONE;
	engine->position = 0;
	engine->other_thread = NO_THREAD;
	engine->current = NO_THREAD;
	memset(engine->newest, 0xff, sizeof(engine->newest));
	engine->result->runs++;
	run_alone(engine->scenario->setup);
	for (t = 0; t < engine->nr_threads && !engine->stopped; t++)
		prepare_thread(t);
}

static void run_graph(void)
{
	graph_sort(engine->graph, engine->order);
	engine->nr_ordered = engine->graph->nr_events;
	begin_run();
	if (!engine->stopped)
		replay();
	if (!engine->stopped)
		extend();
	if (!engine->stopped)
		judge_blocked();
	if (!engine->stopped)
		run_alone(engine->scenario->check);
	engine->mode = MODE_OFF;
	if (!engine->stopped)
		engine->result->executions++;
}

/* ------------------------------------------------------------------ */
/* The shortest failing execution                                     */
/* ------------------------------------------------------------------ */

/* What the failure depends on: as many events of each thread. */
static void events_needed(uint16_t *ret_done)
{
	const struct graph *graph = engine->graph;
	struct clock past;
	uint8_t t, involved[2];
	uint16_t id, i;

	memset(&past, 0, sizeof(past));
	involved[0] = engine->failed_thread;
	involved[1] = engine->other_thread;
	for (i = 0; i < graph->nr_events; i++)
		if (involved[0] == NO_THREAD)
			clock_join(&past, &graph->events[i].past);
	for (i = 0; i < 2 && involved[0] != NO_THREAD; i++) {
		t = involved[i];
		if (t == NO_THREAD)
			continue;
		id = graph_find(graph, t,
				i ? engine->other_done
				  : engine->threads[t].done);
		if (id != NO_EVENT)
			clock_join(&past, &graph->events[id].past);
	}
	for (t = 0; t < LADDER_MAX_THREADS; t++)
		ret_done[t] = past.at[t];
}

static void keep_shortest(void)
{
	uint16_t done[LADDER_MAX_THREADS];
	bool keep[MAX_EVENTS];
	uint32_t length = 0;
	uint16_t i;

	events_needed(done);
	for (i = 0; i < LADDER_MAX_THREADS; i++)
		length += done[i];
	if (engine->shortest && length >= engine->shortest_length)
		return;
	graph_destroy(engine->shortest);
	for (i = 0; i < engine->graph->nr_events; i++) {
		const struct event *e = &engine->graph->events[i];

		keep[i] = e->index <= done[e->thread];
	}
	engine->shortest = copy_of(engine->graph);
	if (!engine->shortest)
		return;
	graph_restrict(engine->shortest, keep);
	engine->shortest_length = length;
	engine->shortest_thread = engine->failed_thread;
	engine->shortest_other = engine->other_thread;
	engine->result->failure = engine->failure;
	memcpy(engine->result->text, engine->text, sizeof(engine->text));
}

/* Run it once more, for the ladder, in the order that is easiest to read. */
static void run_for_trace(void)
{
	uint8_t t, last = engine->shortest_thread;

	graph_assign(engine->graph, engine->shortest);
	engine->nr_ordered = engine->graph->nr_events;
	trace_begin();
	if (!engine->trace)
		return;
	engine->trace_is_sequential =
		graph_sort_plainly(engine->graph, engine->order);
	begin_run();
	if (!engine->stopped)
		replay();
	/* What the failing threads do behind their last events. */
	for (t = 0; t < engine->nr_threads && !engine->stopped; t++)
		if (t == engine->shortest_other || last == NO_THREAD)
			resume(t);
	if (last != NO_THREAD && !engine->stopped)
		resume(last);
	if (last == NO_THREAD && !engine->stopped)
		judge_blocked();
	if (last == NO_THREAD && !engine->stopped)
		run_alone(engine->scenario->check);
	trace_end();
	engine->mode = MODE_OFF;
}

/* ------------------------------------------------------------------ */
/* All of them                                                        */
/* ------------------------------------------------------------------ */

static bool go_on(void)
{
	const struct ladder_options *options = engine->options;
	struct ladder_result *result = engine->result;

	if (engine->out_of_memory || result->failure == LADDER_UNSUPPORTED)
		return false;
	if (options->max_executions && result->runs >= options->max_executions)
		return false;
	if (!result->failing)
		return true;
	return !options->verdict_only && engine->more++ < options->max_more;
}

static void explore_all(void)
{
	struct graph *first = graph_create(engine->options->model);

	if (!first) {
		engine->out_of_memory = true;
		return;
	}
	push(first);
	while (go_on() && pop(engine->graph)) {
		run_graph();
		if (engine->failure == LADDER_NONE)
			continue;
		engine->result->failing++;
		keep_shortest();
	}
	engine->result->complete = !engine->todo && !engine->result->cut;
	if (engine->shortest && !engine->options->verdict_only)
		run_for_trace();
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) +
	       (uint64_t)now.tv_nsec;
}

static bool alloc_images(void)
{
	size_t size = memory_tls_size() + 1;
	uint8_t t;

	engine->initial_tls = malloc(size);
	if (!engine->initial_tls)
		return false;
	memory_tls_save(engine->initial_tls);
	for (t = 0; t <= NO_THREAD; t++) {
		engine->threads[t].tls = malloc(size);
		if (!engine->threads[t].tls)
			return false;
	}
	return true;
}

static void engine_fini(void)
{
	uint8_t t;

	if (engine->initial_tls)
		memory_tls_load(engine->initial_tls);
	memory_fini();
	while (pop(engine->graph))
		;
	graph_destroy(engine->graph);
	graph_destroy(engine->shortest);
	free(engine->initial_tls);
	for (t = 0; t <= NO_THREAD; t++)
		free(engine->threads[t].tls);
	free(engine);
	engine = NULL;
#ifdef __GLIBC__
	/* What was freed are many small pieces: give the pages back too. */
	malloc_trim(0);
#endif
}

int ladder_explore(const struct ladder_scenario *scenario,
		   const struct ladder_options *options,
		   struct ladder_result *ret_result)
{
	uint64_t began = now_ns();
	struct ladder_result result = { 0 };
	int ret = -ENOMEM;

	engine = calloc(1, sizeof(*engine));
	if (!engine)
		return -ENOMEM;
	engine->scenario = scenario;
	engine->options = options;
	engine->result = &result;
	engine->current = NO_THREAD;
	engine->home_top = (uintptr_t)__builtin_frame_address(0);
	base_reset();
	while (engine->nr_threads < LADDER_MAX_THREADS &&
	       scenario->threads[engine->nr_threads])
		engine->nr_threads++;
	engine->graph = graph_create(options->model);
	if (!engine->graph || memory_init() < 0 || !alloc_images())
		goto out;
	explore_all();
	if (engine->out_of_memory)
		goto out;
	result.trace = engine->trace;
	engine->trace = NULL;
	result.ns = now_ns() - began;
	*ret_result = result;
	ret = 0;
out:
	free(engine->trace);
	engine_fini();
	return ret;
}
