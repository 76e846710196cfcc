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

TEST(every_scenario_has_its_verdict)
{
	const struct ladder_scenario *const *scenario;

	for (scenario = ladder_gallery; *scenario; scenario++)
		expect_verdict(*scenario, LADDER_C11);
}

/* What holds under the weakest model holds under all. */
TEST(what_holds_under_c11_holds_under_sc)
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

static const struct ladder_scenario *find(const char *name)
{
	const struct ladder_scenario *const *scenario = ladder_gallery;

	while (*scenario && strcmp((*scenario)->name, name))
		scenario++;
	t_ok(*scenario != NULL);
	return *scenario;
}

/* In the library's own code, one order at a time. */
TEST(an_order_that_is_needed_is_missed)
{
	static const struct {
		const char *scenario, *tag, *side;
	} twins[] = {
		{ "notifier-fault", "range_seq", "acquire" },
		{ "notifier-fault", "range_seq", "release" },
		{ "notifier-fault", "open_count", "acquire" },
		{ "notifier-fault", "open_count", "release" },
		{ "notifier-insert", "open_insert", "acquire" },
		{ "notifier-insert", "open_insert", "release" },
		{ "notifier-insert", "close_insert", "acquire" },
		{ "notifier-insert", "close_insert", "release" },
		{ "notifier-remove", "hall", "acquire" },
		{ "notifier-remove", "hall", "release" },
		{ "notifier-remove", "hall_open", "acquire" },
		{ "notifier-remove", "hall_open", "release" },
		{ "notifier-remove", "hall_leave", "acquire" },
		{ "notifier-remove", "hall_leave", "release" },
		{ "notifier-remove", "range_running", "acquire" },
		{ "notifier-remove", "range_running", "release" },
	};
	struct ladder_options options = { .verdict_only = true };
	struct ladder_result result;
	size_t i;

	for (i = 0; i < sizeof(twins) / sizeof(twins[0]); i++) {
		options.weaken.tag = twins[i].tag;
		options.weaken.side = twins[i].side;
		t_err(ladder_explore(find(twins[i].scenario), &options,
				     &result),
		      0);
		printf("# %s without the %s of pair(%s): %s: %s\n",
		       twins[i].scenario, twins[i].side, twins[i].tag,
		       ladder_failure_name(result.failure), result.text);
		t_ok(result.weakened > 0);
		t_ok(result.failure != LADDER_NONE);
		t_ok(result.failure != LADDER_UNSUPPORTED);
		ladder_result_fini(&result);
	}
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
