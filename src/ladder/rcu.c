/* SPDX-License-Identifier: MIT */
/*
 * Read-copy-update for code under test, in place of base/rcu.c.
 *
 * What a grace period guarantees is one of two things for each read section: the
 * section sees what was done before the period began, or the period ends after
 * the section.  Both are orders between two events, and which of them it is is a
 * choice of the execution:
 *
 *	section                            grace period
 *
 *	begin: read periods (acquire)      begin: periods++ (release)
 *	...                                for each thread: read left (acquire),
 *	end: left++ (release)                until no section is left that has
 *	                                     read a smaller number of periods
 *
 * A section that reads the number of this period, or a later one, is behind its
 * beginning.  All others are waited for.  Sections order nothing among each other,
 * so that no missing barrier is hidden.
 *
 * A period ends as late as it can: when nobody else can go on, and then the one
 * that began first.  So the sections that it waits for are all there.
 *
 * Deferred functions are called by a thread of the scenario,
 * ladder_call_deferred(); without one they are not called.
 */
#include <string.h>

#include "ladder/engine.h"
#include "ladder/scenario.h"

/* As base/rcu.h has it for code under test. */
struct mmn_rcu_head {
	void (*function)(struct mmn_rcu_head *head);
};

void mmn_rcu_read_lock(void);
void mmn_rcu_read_unlock(void);
void mmn_rcu_synchronize(void);
void mmn_rcu_defer(struct mmn_rcu_head *head,
		   void (*function)(struct mmn_rcu_head *head));
void mmn_rcu_barrier(void);

#define MAX_PERIODS 16
#define MAX_SECTIONS 32

/* What has happened in this run. */
struct section_log {
	/* how many periods each section has seen begin */
	uint64_t seen[MAX_SECTIONS];
	uint64_t nr;
	uint32_t nested;
	/* a period has ended that did not wait for later sections than these */
	uint64_t period, nr_awaited;
};

static struct section_log logs[LADDER_MAX_THREADS + 1];

static struct {
	struct mmn_rcu_head *head;
	bool called;
} deferred[MAX_PERIODS + 1];

/* The explorer's words. */
static uint64_t periods;
static uint64_t left[LADDER_MAX_THREADS];
static uint64_t queued[MAX_PERIODS + 1];

void rcu_reset(void)
{
	static const char *const names[LADDER_MAX_THREADS] = {
		"CPU0's reads", "CPU1's reads", "CPU2's reads",
		"CPU3's reads", "CPU4's reads", "CPU5's reads",
	};
	uint8_t t;

	memset(logs, 0, sizeof(logs));
	memset(deferred, 0, sizeof(deferred));
	ladder_name(&periods, "grace periods");
	ladder_name(&queued, "deferred");
	for (t = 0; t < engine->nr_threads; t++)
		ladder_name(&left[t], names[t]);
}

static uint64_t load(uint64_t *word)
{
	struct op op = {
		.kind = OP_LOAD,
		.address = (uintptr_t)word,
		.size = sizeof(*word),
		.order = ORDER_ACQUIRE,
	};
	bool unused;

	return engine_access(&op, &unused);
}

static void store(uint64_t *word, uint64_t value)
{
	struct op op = {
		.kind = OP_STORE,
		.address = (uintptr_t)word,
		.size = sizeof(*word),
		.order = ORDER_RELEASE,
		.value = value,
	};
	bool unused;

	engine_access(&op, &unused);
}

static bool one_more(const struct op *op, uint64_t old, uint64_t *ret_new)
{
	*ret_new = old + op->value;
	return true;
}

static bool is_alone(void)
{
	return engine->mode == MODE_ALONE;
}

/* ------------------------------------------------------------------ */
/* Sections                                                           */
/* ------------------------------------------------------------------ */

void mmn_rcu_read_lock(void)
{
	struct section_log *log = &logs[engine->current];

	if (log->nested++ || is_alone())
		return;
	if (log->nr == MAX_SECTIONS)
		engine_fail(LADDER_UNSUPPORTED, "more than %d read sections",
			    MAX_SECTIONS);
	log->seen[log->nr++] = load(&periods);
	/* A period has ended already that should have waited for it. */
	if (log->seen[log->nr - 1] < log->period && log->nr > log->nr_awaited)
		engine_discard();
}

void mmn_rcu_read_unlock(void)
{
	struct section_log *log = &logs[engine->current];

	if (--log->nested || is_alone())
		return;
	store(&left[engine->current], log->nr);
}

/* ------------------------------------------------------------------ */
/* Grace periods                                                      */
/* ------------------------------------------------------------------ */

static uint64_t begin_period(void)
{
	struct op op = {
		.kind = OP_RMW,
		.address = (uintptr_t)&periods,
		.size = sizeof(periods),
		.order = ORDER_RELEASE,
		.function = one_more,
		.value = 1,
	};
	bool unused;
	uint64_t period = engine_access(&op, &unused) + 1;

	if (period > MAX_PERIODS)
		engine_fail(LADDER_UNSUPPORTED, "more than %d grace periods",
			    MAX_PERIODS);
	return period;
}

/* The number of the last section of @log that @period has to wait for. */
static uint64_t last_before(const struct section_log *log, uint64_t period)
{
	uint64_t nr = log->nr;

	while (nr && log->seen[nr - 1] >= period)
		nr--;
	return nr;
}

static void end_period(uint64_t period)
{
	uint8_t t;

	for (t = 0; t < engine->nr_threads; t++) {
		struct section_log *log = &logs[t];
		uint64_t nr;

		if (t == engine->current)
			continue;
		engine_await_quiet(period);
		nr = load(&left[t]);
		if (nr < last_before(log, period))
			engine_block("a grace period", false);
		if (period > log->period) {
			log->period = period;
			log->nr_awaited = nr;
		}
	}
}

void mmn_rcu_synchronize(void)
{
	if (logs[engine->current].nested)
		ladder_fail(LADDER_DEADLOCK,
			    "waits for a grace period inside a read section");
	if (!is_alone())
		end_period(begin_period());
}

void mmn_rcu_defer(struct mmn_rcu_head *head,
		   void (*function)(struct mmn_rcu_head *head))
{
	uint64_t period;

	if (is_alone()) {
		function(head);
		return;
	}
	engine_plain((uintptr_t)head, sizeof(*head), true);
	head->function = function;
	period = begin_period();
	deferred[period].head = head;
	store(&queued[period], 1);
}

/* The next one in the graph, or else the first that is left; 0: none. */
static uint64_t next_deferred(void)
{
	uint64_t address = engine_next_address();
	uint64_t i;

	if (address)
		return (address - (uintptr_t)queued) / sizeof(*queued);
	for (i = 1; i <= MAX_PERIODS; i++)
		if (deferred[i].head && !deferred[i].called)
			return i;
	return 0;
}

void ladder_call_deferred(void)
{
	uint64_t period;

	for (;;) {
		engine_await_quiet(MAX_PERIODS + 1);
		period = next_deferred();
		if (!period)
			return;
		if (!load(&queued[period]))
			engine_block("a deferred function", false);
		deferred[period].called = true;
		end_period(period);
		engine_plain((uintptr_t)deferred[period].head,
			     sizeof(*deferred[period].head), false);
		deferred[period].head->function(deferred[period].head);
	}
}

void mmn_rcu_barrier(void)
{
	engine_fail(LADDER_UNSUPPORTED, "waits for deferred functions");
}
