/* SPDX-License-Identifier: MIT */
/* Every scenario of the gallery has the verdict that it says it has. */
#include "t/tap.h"

#include <stdio.h>
#include <string.h>

#include "ladder/ladder.h"

static void expect_verdict(const struct ladder_scenario *scenario,
			   enum ladder_model model)
{
	const struct ladder_options options = { .model = model,
						.verdict_only = true };
	struct ladder_result result;
	bool fails;

	t_err(ladder_explore(scenario, &options, &result), 0);
	fails = result.failure != LADDER_NONE;
	printf("# %s, %s: %llu executions, %llu runs, %.3f s\n", scenario->name,
	       ladder_model_name(model),
	       (unsigned long long)(result.executions + result.blocked +
				    result.failing),
	       (unsigned long long)result.runs, (double)result.ns / 1e9);
	if (fails != scenario->fails)
		printf("# %s: %s: %s\n", scenario->name,
		       ladder_failure_name(result.failure), result.text);
	t_eq(fails, scenario->fails);
	t_ok(fails || result.complete);
	ladder_result_fini(&result);
}

TEST(every_scenario_has_its_verdict, .timeout = 100)
{
	const struct ladder_scenario *const *scenario;

	for (scenario = ladder_gallery; *scenario; scenario++)
		expect_verdict(*scenario, LADDER_C11);
}

/* What holds under the weakest model holds under all. */
TEST(what_holds_under_c11_holds_under_sc, .timeout = 100)
{
	const struct ladder_scenario *const *scenario;

	for (scenario = ladder_gallery; *scenario; scenario++)
		if (!(*scenario)->fails)
			expect_verdict(*scenario, LADDER_SC);
}

TEST(every_scenario_is_described)
{
	const struct ladder_scenario *const *scenario, *const *other;

	for (scenario = ladder_gallery; *scenario; scenario++) {
		t_ok(strlen((*scenario)->what) > 10);
		t_ok((*scenario)->explanation != NULL);
		for (other = scenario + 1; *other; other++)
			t_ok(strcmp((*scenario)->name, (*other)->name));
	}
}

/* The case of the mail: no order helps, it is the scheme. */
TEST(the_bool_fails_under_every_model)
{
	enum ladder_model model;

	t_streq(ladder_gallery[0]->name, "bool-valid");
	for (model = LADDER_C11; model <= LADDER_SC; model++)
		expect_verdict(ladder_gallery[0], model);
}

TEST(a_weakening_of_no_pair_fits_nothing)
{
	const struct ladder_weakening none = { .tag = "no_such_tag" };
	const struct ladder_weakening mail = { .tag = "mail_valid" };
	const struct ladder_weakening elsewhere = { .tag = "mail_valid",
						    .function = "fault" };

	t_ok(!ladder_weakening_fits(&none));
	t_ok(ladder_weakening_fits(&mail));
	t_ok(!ladder_weakening_fits(&elsewhere));
}
