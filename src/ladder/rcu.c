/* SPDX-License-Identifier: MIT */
/*
 * Who waits for all others: read-copy-update for code under test, in place of
 * base/rcu.c, and membarrier().
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
 *
 * membarrier() is the same with sections that are points: the barriers of the
 * compiler.  For each of them, what is before it comes before the end of the
 * call, or what is behind it comes behind the beginning; doc/LADDER.md has the
 * reasons.  Besides it is a full fence of its own thread.
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
int mmn_rcu_prepare(void);
void mmn_rcu_defer(struct mmn_rcu_head *head,
		   void (*function)(struct mmn_rcu_head *head));
void mmn_rcu_barrier(void);

#define MAX_PERIODS 16
#define MAX_SECTIONS 32

/* What has happened in this run, in one thread. */
struct section_log {
	/* how many periods each section has seen begin */
	uint64_t seen[MAX_SECTIONS];
	uint64_t nr;
	uint32_t nested;
	/* a period has ended that did not wait for later sections than these */
	uint64_t period, nr_awaited;
};

/* struct domain - sections, and periods that wait for them */
struct domain {
	struct section_log logs[LADDER_MAX_THREADS + 1];
	/* the explorer's words: periods that began, sections that are over */
	uint64_t periods;
	uint64_t left[LADDER_MAX_THREADS];
	const char *waits_for;
	/* for engine_await_quiet(): the order of those that wait */
	uint64_t turn;
};

/* A barrier of the kernel first: there may be read sections behind it. */
static struct domain rcu = { .waits_for = "a grace period",
			     .turn = MAX_PERIODS };
static struct domain barriers = { .waits_for = "a barrier", .turn = 0 };

static struct {
	struct mmn_rcu_head *head;
	bool called;
} deferred[MAX_PERIODS + 1];

static uint64_t queued[MAX_PERIODS + 1];

void rcu_reset(void)
{
	static const char *const reads[LADDER_MAX_THREADS] = {
		"CPU0's reads", "CPU1's reads", "CPU2's reads",
		"CPU3's reads", "CPU4's reads", "CPU5's reads",
	};
	static const char *const points[LADDER_MAX_THREADS] = {
		"CPU0's barriers", "CPU1's barriers", "CPU2's barriers",
		"CPU3's barriers", "CPU4's barriers", "CPU5's barriers",
	};
	uint8_t t;

	memset(rcu.logs, 0, sizeof(rcu.logs));
	memset(barriers.logs, 0, sizeof(barriers.logs));
	memset(deferred, 0, sizeof(deferred));
	ladder_name(&rcu.periods, "grace periods");
	ladder_name(&barriers.periods, "membarriers");
	ladder_name(&queued, "deferred");
	for (t = 0; t < engine->nr_threads; t++) {
		ladder_name(&rcu.left[t], reads[t]);
		ladder_name(&barriers.left[t], points[t]);
	}
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

static void begin_section(struct domain *domain)
{
	struct section_log *log = &domain->logs[engine->current];
	uint64_t seen;

	if (log->nr == MAX_SECTIONS)
		engine_fail(LADDER_UNSUPPORTED,
			    "more than %d sections to wait for", MAX_SECTIONS);
	/* Others go on inside, and must not find it half logged. */
	seen = load(&domain->periods);
	log->seen[log->nr++] = seen;
}

/* Has a period ended already that should have waited for this section? */
static bool is_late(const struct section_log *log)
{
	return log->seen[log->nr - 1] < log->period &&
	       log->nr > log->nr_awaited;
}

void mmn_rcu_read_lock(void)
{
	struct section_log *log = &rcu.logs[engine->current];

	if (log->nested++ || is_alone())
		return;
	begin_section(&rcu);
	if (is_late(log))
		engine_discard();
}

void mmn_rcu_read_unlock(void)
{
	struct section_log *log = &rcu.logs[engine->current];

	if (--log->nested || is_alone())
		return;
	store(&rcu.left[engine->current], log->nr);
}

void ladder_compiler_barrier(void)
{
	struct section_log *log;

	if (!engine || is_alone() || !engine->scenario->membarrier)
		return;
	log = &barriers.logs[engine->current];
	begin_section(&barriers);
	store(&barriers.left[engine->current], log->nr);
	/* Not before the store: the period may read it. */
	if (is_late(log))
		engine_discard();
}

/* ------------------------------------------------------------------ */
/* Grace periods                                                      */
/* ------------------------------------------------------------------ */

static uint64_t begin_period(struct domain *domain)
{
	struct op op = {
		.kind = OP_RMW,
		.address = (uintptr_t)&domain->periods,
		.size = sizeof(domain->periods),
		.order = ORDER_RELEASE,
		.function = one_more,
		.value = 1,
	};
	bool unused;
	uint64_t period = engine_access(&op, &unused) + 1;

	if (period > MAX_PERIODS)
		engine_fail(LADDER_UNSUPPORTED, "more than %d periods",
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

static void end_period(struct domain *domain, uint64_t period)
{
	uint8_t t;

	for (t = 0; t < engine->nr_threads; t++) {
		struct section_log *log = &domain->logs[t];
		uint64_t nr;

		if (t == engine->current)
			continue;
		engine_await_quiet(domain->turn + period);
		nr = load(&domain->left[t]);
		if (nr < last_before(log, period))
			engine_block(domain->waits_for, false);
		if (period > log->period) {
			log->period = period;
			log->nr_awaited = nr;
		}
	}
}

void mmn_rcu_synchronize(void)
{
	if (rcu.logs[engine->current].nested)
		ladder_fail(LADDER_DEADLOCK,
			    "waits for a grace period inside a read section");
	if (!is_alone())
		end_period(&rcu, begin_period(&rcu));
}

void engine_membarrier(void)
{
	if (is_alone())
		return;
	engine_fence(ORDER_SEQ_CST);
	end_period(&barriers, begin_period(&barriers));
	engine_fence(ORDER_SEQ_CST);
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
	period = begin_period(&rcu);
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
		engine_await_quiet(2 * MAX_PERIODS + 1);
		period = next_deferred();
		if (!period)
			return;
		if (!load(&queued[period]))
			engine_block("a deferred function", false);
		deferred[period].called = true;
		end_period(&rcu, period);
		engine_plain((uintptr_t)deferred[period].head,
			     sizeof(*deferred[period].head), false);
		deferred[period].head->function(deferred[period].head);
	}
}

/* Its thread is the scenario's. */
int mmn_rcu_prepare(void)
{
	return 0;
}

void mmn_rcu_barrier(void)
{
	engine_fail(LADDER_UNSUPPORTED, "waits for deferred functions");
}
