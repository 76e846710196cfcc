/* SPDX-License-Identifier: MIT */
/* The explorer agrees with what is published about litmus tests. */
#include "t/tap.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "ladder/litmus.h"

static void expect_verdicts(enum ladder_model model)
{
	const struct ladder_options options = { .model = model,
						.verdict_only = true };
	const struct litmus *litmus;
	struct ladder_result result;

	for (litmus = litmus_tests; litmus->name; litmus++) {
		char wanted = litmus->verdicts[model];
		char got = litmus_run(litmus, &options, &result);

		/* Allowed by C11 by load buffering only. */
		if (wanted == 'L')
			wanted = 'F';
		if (got != wanted)
			printf("# %s: %c, not %c\n", litmus->name, got, wanted);
		t_eq(got, wanted);
		ladder_result_fini(&result);
	}
}

TEST(the_verdicts_under_c11_are_those_published)
{
	expect_verdicts(LADDER_C11);
}

TEST(the_verdicts_under_tso_are_those_published)
{
	expect_verdicts(LADDER_TSO);
}

TEST(the_verdicts_under_sc_are_those_published)
{
	expect_verdicts(LADDER_SC);
}

/* A stronger model allows no more than a weaker one. */
TEST(the_table_is_consistent)
{
	const struct litmus *litmus, *other;
	unsigned int nr = 0;

	for (litmus = litmus_tests; litmus->name; litmus++, nr++) {
		const char *v = litmus->verdicts;

		t_eq(strlen(v), 3);
		t_ok(strlen(litmus->reason) > 5);
		if (v[LITMUS_SC] == 'A')
			t_eq(v[LITMUS_TSO], 'A');
		if (v[LITMUS_TSO] == 'A')
			t_eq(v[LITMUS_C11], 'A');
		for (other = litmus + 1; other->name; other++)
			t_ok(strcmp(litmus->name, other->name));
	}
	t_ok(nr >= 40);
}

/* Each allowed outcome can be shown. */
TEST(an_allowed_outcome_has_a_ladder)
{
	const struct ladder_options options = { .max_more = 100 };
	struct ladder_result result;

	t_eq(litmus_run(litmus_find("IRIW"), &options, &result), 'A');
	t_ok(result.trace != NULL);
	ladder_result_fini(&result);
	t_ok(!litmus_find("no such test"));
}
