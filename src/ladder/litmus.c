/* SPDX-License-Identifier: MIT */
#include "ladder/litmus.h"

#include <stdlib.h>
#include <string.h>

#include "ladder/engine.h"
#include "ladder/scenario.h"

#define NR_WORDS 4
#define NR_REGISTERS 8
#define MAX_STEPS 12
#define MAX_TOKENS 8

struct step {
	unsigned int nr;
	char token[MAX_TOKENS][8];
};

struct program {
	unsigned int nr_threads;
	unsigned int nr_steps[LADDER_MAX_THREADS];
	struct step steps[LADDER_MAX_THREADS][MAX_STEPS];
	const struct litmus *litmus;
};

static struct program program;
static uint32_t words[NR_WORDS];
static uint32_t registers[NR_REGISTERS];

/* ------------------------------------------------------------------ */
/* Reading the program                                                */
/* ------------------------------------------------------------------ */

static bool parse_step(const char *text, size_t length, struct step *step)
{
	size_t i = 0, n;

	step->nr = 0;
	while (i < length) {
		if (text[i] == ' ') {
			i++;
			continue;
		}
		n = 0;
		if (step->nr == MAX_TOKENS)
			return false;
		while (i < length && text[i] != ' ' && n < 7)
			step->token[step->nr][n++] = text[i++];
		step->token[step->nr++][n] = 0;
	}
	return true;
}

static bool parse_program(const struct litmus *litmus)
{
	const char *text = litmus->program;
	unsigned int thread = 0;

	memset(&program, 0, sizeof(program));
	program.litmus = litmus;
	for (;;) {
		size_t length = strcspn(text, ";|");
		unsigned int nr = program.nr_steps[thread];

		if (nr == MAX_STEPS ||
		    !parse_step(text, length, &program.steps[thread][nr]))
			return false;
		program.nr_steps[thread]++;
		text += length;
		if (!*text)
			break;
		if (*text++ == '|') {
			text++;
			if (++thread == LADDER_MAX_THREADS)
				return false;
		}
	}
	program.nr_threads = thread + 1;
	return true;
}

/* ------------------------------------------------------------------ */
/* Running it                                                         */
/* ------------------------------------------------------------------ */

static uint32_t *word_named(const char *name)
{
	static const char all[] = "xyzw";
	const char *at = strchr(all, *name);

	return at && *at && !name[1] ? &words[at - all] : NULL;
}

static uint32_t *register_named(const char *name)
{
	if (*name < 'a' || *name >= 'a' + NR_REGISTERS || name[1])
		return NULL;
	return &registers[*name - 'a'];
}

static int order_named(const char *name)
{
	static const struct {
		const char *name;
		int order;
	} orders[] = {
		{ "", ORDER_RELAXED },	  { "rlx", ORDER_RELAXED },
		{ "acq", ORDER_ACQUIRE }, { "rel", ORDER_RELEASE },
		{ "ar", ORDER_ACQ_REL },  { "sc", ORDER_SEQ_CST },
	};
	unsigned int i;

	for (i = 0; i < sizeof(orders) / sizeof(orders[0]); i++)
		if (!strcmp(orders[i].name, name))
			return orders[i].order;
	return -1;
}

static uint32_t access(struct op *op, const char *word, const char *order)
{
	bool written;

	if (!word_named(word) || order_named(order) < 0)
		engine_fail(LADDER_UNSUPPORTED, "litmus: %s %s", word, order);
	op->address = (uintptr_t)word_named(word);
	op->size = sizeof(uint32_t);
	op->order = (uint8_t)order_named(order);
	return (uint32_t)engine_access(op, &written);
}

static bool op_add(const struct op *op, uint64_t old, uint64_t *ret_new)
{
	*ret_new = old + op->value;
	return true;
}

static bool op_xchg(const struct op *op, uint64_t old, uint64_t *ret_new)
{
	*ret_new = op->value;
	return true;
}

static bool op_cas(const struct op *op, uint64_t old, uint64_t *ret_new)
{
	*ret_new = op->value;
	return old == op->expected;
}

static uint32_t number(const char *text)
{
	return (uint32_t)strtoul(text, NULL, 10);
}

static uint32_t run_rmw(const struct step *step)
{
	struct op op = { .kind = OP_RMW };

	op.value = number(step->token[4]);
	op.function = op_add;
	if (!strcmp(step->token[2], "xchg"))
		op.function = op_xchg;
	if (strcmp(step->token[2], "cas"))
		return access(&op, step->token[3], step->token[5]);
	op.function = op_cas;
	op.expected = op.value;
	op.value = number(step->token[5]);
	return access(&op, step->token[3], step->token[6]);
}

static void run_store(const struct step *step, uint32_t *word)
{
	struct op op = { .kind = OP_STORE };

	op.value = number(step->token[2]);
	if (strcmp(step->token[3], "na")) {
		(void)access(&op, step->token[0], step->token[3]);
		return;
	}
	engine_plain((uintptr_t)word, sizeof(*word), true);
	*word = (uint32_t)op.value;
}

static uint32_t run_load(const struct step *step, const uint32_t *word)
{
	struct op op = { .kind = OP_LOAD };

	if (strcmp(step->token[3], "na"))
		return access(&op, step->token[2], step->token[3]);
	engine_plain((uintptr_t)word, sizeof(*word), false);
	return *word;
}

/* False: the thread ends here. */
static bool run_step(const struct step *step)
{
	uint32_t *target = register_named(step->token[0]);
	uint32_t *asked = register_named(step->token[1]);
	uint32_t *word;

	if (!strcmp(step->token[0], "if"))
		return asked && *asked;
	if (!strcmp(step->token[0], "fence"))
		engine_fence((uint8_t)order_named(step->token[1]));
	else if (!strcmp(step->token[0], "membar"))
		engine_membarrier();
	else if (!strcmp(step->token[0], "light"))
		ladder_compiler_barrier();
	else if ((word = word_named(step->token[0])))
		run_store(step, word);
	else if (target && (word = word_named(step->token[2])))
		*target = run_load(step, word);
	else if (target)
		*target = run_rmw(step);
	return true;
}

static void run_thread(void)
{
	uint8_t t = engine->current;
	unsigned int i;

	for (i = 0; i < program.nr_steps[t]; i++)
		if (!run_step(&program.steps[t][i]))
			return;
}

static void set_up(void)
{
	static const char *const word_names[] = { "x", "y", "z", "w" };
	unsigned int i;

	memset(words, 0, sizeof(words));
	memset(registers, 0, sizeof(registers));
	for (i = 0; i < NR_WORDS; i++)
		ladder_name_at(&words[i], sizeof(words[i]), word_names[i]);
}

static void compare_outcome(void)
{
	const char *at = program.litmus->outcome;
	bool seen = true;

	while (*at) {
		char name[2] = { *at, 0 };
		const uint32_t *value = word_named(name);

		if (!value)
			value = register_named(name);
		seen = seen && value && *value == number(at + 2);
		at += strcspn(at, " ");
		at += *at == ' ';
	}
	ladder_outcome(seen);
	/* So that there is a ladder for it. */
	if (seen && !engine->options->verdict_only)
		engine_fail(LADDER_ASSERTION, "the outcome is %s",
			    program.litmus->outcome);
}

/* ------------------------------------------------------------------ */
/* Verdicts                                                           */
/* ------------------------------------------------------------------ */

const struct litmus *litmus_find(const char *name)
{
	const struct litmus *litmus;

	for (litmus = litmus_tests; litmus->name; litmus++)
		if (!strcmp(litmus->name, name))
			return litmus;
	return NULL;
}

char litmus_run(const struct litmus *litmus,
		const struct ladder_options *options,
		struct ladder_result *ret_result)
{
	struct ladder_scenario scenario = {
		.name = litmus->name,
		.what = litmus->program,
		.membarrier = strstr(litmus->program, "membar") != NULL,
		.setup = set_up,
		.check = compare_outcome,
	};
	unsigned int i;

	memset(ret_result, 0, sizeof(*ret_result));
	if (!parse_program(litmus))
		return '?';
	for (i = 0; i < program.nr_threads; i++)
		scenario.threads[i] = run_thread;
	if (ladder_explore(&scenario, options, ret_result) < 0)
		return '?';
	if (ret_result->failure == LADDER_RACE)
		return 'R';
	if (ret_result->outcomes)
		return 'A';
	return ret_result->failure == LADDER_NONE && ret_result->complete ? 'F'
									  : '?';
}
