/* SPDX-License-Identifier: MIT */
#ifndef MMN_LADDER_ENGINE_H
#define MMN_LADDER_ENGINE_H
/*
 * What the files of the explorer share: one exploration at a time, in one
 * thread, so there is one engine.
 */
#include "ladder/fiber.h"
#include "ladder/graph.h"
#include "ladder/ladder.h"
#include "ladder/site.h"

#define STACK_SIZE ((size_t)128 << 10)
#define HEAP_SIZE ((size_t)1 << 20)

enum op_kind { OP_LOAD, OP_STORE, OP_RMW };

/* What an RMW makes of the old value; false: it writes nothing. */
struct op;
typedef bool rmw_function(const struct op *op, uint64_t old, uint64_t *ret_new);

/* struct op - an atomic access that a thread is about to make */
struct op {
	enum op_kind kind;
	uint64_t address;
	uint8_t size;
	uint8_t order;
	/* of an RMW that writes nothing */
	uint8_t order_failed;
	/* what is stored, or the operand of @function */
	uint64_t value;
	/* what an exchange compares with */
	uint64_t expected;
	rmw_function *function;
	/* NULL, or what the ladder calls it */
	const char *what;
};

enum thread_state { THREAD_RUNNING, THREAD_BLOCKED, THREAD_ENDED };

struct thread {
	struct fiber fiber;
	enum thread_state state;
	/* why it is blocked: a word of the report */
	const char *waits_for;
	bool sleeps;
	/* it would go on when any word that it has read lately changes */
	bool spins;
	/* not 0: goes on when nobody else can, the lowest one first */
	uint64_t quiet;
	/* events of it that were executed in this run */
	uint16_t done;
	/* the other half of an RMW comes next */
	bool in_rmw;
	struct clock hb;
	const struct access_site *site;
	/* a plain store that is not yet visible to the explorer */
	uint64_t stored;
	uint64_t stored_size;
	uint32_t stored_line;
	/* initial-exec TLS while it does not run */
	void *tls;
};

enum engine_mode {
	MODE_OFF,
	MODE_ALONE,  /* setup and check: accesses go straight to memory */
	MODE_REPLAY, /* what the graph has */
	MODE_EXTEND, /* what comes after it */
};

struct pending {
	struct pending *next;
	struct graph *graph;
};

/* The explorer itself: setup and check run as it. */
#define NO_THREAD LADDER_MAX_THREADS

struct engine {
	const struct ladder_scenario *scenario;
	const struct ladder_options *options;
	struct ladder_result *result;
	enum engine_mode mode;
	uint8_t nr_threads;
	uint8_t current;
	/* nobody else can go on */
	bool quiet;
	struct fiber home;
	/* of its stack: what is below belongs to the exploration */
	uint64_t home_top;
	/* TLS as it was found */
	void *initial_tls;
	struct thread threads[LADDER_MAX_THREADS + 1];
	struct graph *graph;
	struct pending *todo;
	bool out_of_memory;

	/* the replay: which event comes when, and where we are */
	uint16_t order[MAX_EVENTS];
	uint16_t nr_ordered;
	uint16_t position;
	/* newest write executed, by location */
	uint16_t newest[MAX_LOCATIONS];

	/* how this run ended before its time */
	bool stopped;
	enum ladder_failure failure;
	char text[200];
	uint8_t failed_thread;
	/* the other party of a race */
	uint8_t other_thread;
	uint16_t other_done;

	/* the shortest so far */
	uint64_t more;
	struct graph *shortest;
	uint8_t shortest_thread;
	uint8_t shortest_other;
	uint32_t shortest_length;
	struct ladder_trace *trace;
	/* somebody could have seen it happen so, one step after the other */
	bool trace_is_sequential;
};

extern struct engine *engine;

static inline struct thread *this_thread(void)
{
	return &engine->threads[engine->current];
}

/* ---- explore.c ---- */

/* Make the access; the value read.  *ret_written: an RMW wrote. */
uint64_t engine_access(const struct op *op, bool *ret_written);
void engine_fence(uint8_t order);
/* The calling thread cannot go on unless what it read last changes. */
void engine_block(const char *waits_for, bool sleeps);
/* Wait until nobody goes on who does not wait here with a lower number. */
void engine_await_quiet(uint64_t number);
/* What the calling thread accesses next in the graph; 0: nothing. */
uint64_t engine_next_address(void);
/*
 * Has the calling thread, at the end of the body of a loop, just written, or read
 * something else than before?
 */
bool engine_may_go_round(void);
/* End the run: there is no such execution. */
void engine_discard(void) __attribute__((noreturn));
/* End the run with a failure; does not return in a thread. */
void engine_fail(enum ladder_failure failure, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* A plain access is about to be made. */
void engine_plain(uint64_t address, uint64_t size, bool write);

/* ---- memory.c ---- */

int memory_init(void);
void memory_fini(void);
/* Everything as it was at memory_init(), or at the last run's beginning. */
void memory_reset(void);
void *memory_stack(uint8_t thread);
void *memory_alloc(uint64_t size, uint64_t align);
void memory_free(void *block);
/* Report an access to memory that is not there. */
void memory_check(uint64_t address, uint64_t size, bool write);
/* What it is when it has no name. */
void memory_describe(uint64_t address, char *buffer, size_t size);
/* Is it the calling thread's alone, by its address? */
bool memory_is_private(uint64_t address);
/* Remember what is there before the program writes. */
void memory_save(uint64_t address, uint64_t size);
/* Report an access that races with an earlier one. */
void memory_race(uint64_t address, uint64_t size, bool write, bool atomic);
void memory_put(uint64_t address, uint8_t size, uint64_t value);
uint64_t memory_get(uint64_t address, uint8_t size);

/* Exchange the thread-local storage of the program. */
size_t memory_tls_size(void);
void memory_tls_load(const void *image);
void memory_tls_save(void *image);

/* ---- trace.c ---- */

void trace_begin(void);
/* An event was executed; NULL otherwise. */
void trace_event(const struct event *e, bool stale, uint64_t newest);
uint32_t trace_plain(uint64_t address, uint64_t size, bool write);
void trace_value(uint32_t line, uint64_t value);
void trace_note(uint8_t thread, const char *text);
void trace_end(void);

/* ---- names.c ---- */
const char *name_of(uint64_t address, const struct access_site *site,
		    char *buffer, size_t size);
void names_reset(void);

/* ---- base.c ---- */

/* A word that is never written, and whose reads are no events. */
bool base_is_constant(uint64_t address);

void base_reset(void);

/* ---- rcu.c ---- */

void rcu_reset(void);
/* What MEMBARRIER_CMD_PRIVATE_EXPEDITED does. */
void engine_membarrier(void);

/* ---- pairs.c ---- */
uint8_t weakened_order(const struct access_site *site, uint8_t order);

#endif
