/* SPDX-License-Identifier: MIT */
/* The explorer finds the faults of ladder-seeded.c and no others. */
#include "t/tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ladder-seeded.h"

static void explore(const struct seeded *seeded,
		    const struct ladder_options *options,
		    struct ladder_result *result)
{
	t_err(ladder_explore(&seeded->scenario, options, result), 0);
}

static const struct seeded *find(const char *name)
{
	const struct seeded *seeded = seeded_programs;

	while (seeded->scenario.name && strcmp(seeded->scenario.name, name))
		seeded++;
	t_ok(seeded->scenario.name != NULL);
	return seeded;
}

/* All programs with this failure; false positives count as well. */
static void expect_failure(enum ladder_failure failure)
{
	const struct ladder_options options = { .max_more = 1000,
						.max_executions = 5000 };
	const struct seeded *seeded;
	struct ladder_result result;

	for (seeded = seeded_programs; seeded->scenario.name; seeded++) {
		if (seeded->failure != failure)
			continue;
		explore(seeded, &options, &result);
		if (result.failure != failure)
			printf("# %s: %s: %s\n", seeded->scenario.name,
			       ladder_failure_name(result.failure),
			       result.text);
		t_eq(result.failure, failure);
		t_ok(failure == LADDER_NONE || result.trace);
		if (seeded->executions)
			t_eq(result.executions, seeded->executions);
		ladder_result_fini(&result);
	}
}

TEST(finds_data_races)
{
	expect_failure(LADDER_RACE);
}

TEST(finds_failed_assertions)
{
	expect_failure(LADDER_ASSERTION);
}

TEST(finds_deadlocks)
{
	expect_failure(LADDER_DEADLOCK);
}

TEST(finds_lost_wakeups)
{
	expect_failure(LADDER_LOST_WAKEUP);
}

TEST(finds_use_after_free)
{
	expect_failure(LADDER_USE_AFTER_FREE);
}

TEST(finds_bad_frees)
{
	expect_failure(LADDER_BAD_FREE);
}

TEST(accepts_what_is_right_and_sees_each_execution_once)
{
	expect_failure(LADDER_NONE);
}

TEST(a_bound_is_told)
{
	const struct ladder_options events = { .max_events = 10 };
	const struct ladder_options runs = { .max_executions = 3 };
	struct ladder_result result;

	explore(find("endless"), &events, &result);
	t_eq(result.failure, LADDER_NONE);
	t_eq(result.cut, 1);
	t_ok(!result.complete);
	ladder_result_fini(&result);

	explore(find("5 adders"), &runs, &result);
	t_eq(result.runs, 3);
	t_ok(!result.complete);
	ladder_result_fini(&result);
}

TEST(a_relaxed_publication_is_a_race_in_c11_only)
{
	struct ladder_options options = { .model = LADDER_TSO };
	struct ladder_result result;

	explore(find("relaxed publication"), &options, &result);
	t_eq(result.failure, LADDER_NONE);
	options.model = LADDER_SC;
	explore(find("relaxed publication"), &options, &result);
	t_eq(result.failure, LADDER_NONE);
}

TEST(store_buffering_is_not_found_under_sc)
{
	struct ladder_options options = { .model = LADDER_TSO };
	struct ladder_result result;

	explore(find("store buffering"), &options, &result);
	t_eq(result.failure, LADDER_ASSERTION);
	ladder_result_fini(&result);
	options.model = LADDER_SC;
	explore(find("store buffering"), &options, &result);
	t_eq(result.failure, LADDER_NONE);
	t_ok(result.complete);
}

TEST(an_exploration_leaves_memory_as_it_was)
{
	const struct ladder_options options = { 0 };
	struct ladder_result result;

	explore(find("undone"), &options, &result);
	t_eq(result.failure, LADDER_NONE);
	t_eq(seeded_trace_of_runs, 7);
}

/* What is printed: into memory. */
static char *printed(const struct ladder_result *result,
		     void (*print)(const struct ladder_result *result,
				   FILE *to))
{
	char *text = NULL;
	size_t size;
	FILE *to = open_memstream(&text, &size);

	t_ok(to != NULL);
	print(result, to);
	t_eq(fclose(to), 0);
	return text;
}

static void expect_text(const struct ladder_result *result,
			void (*print)(const struct ladder_result *result,
				      FILE *to),
			const char *wanted)
{
	char *text = printed(result, print);

	if (!strstr(text, wanted))
		printf("# no \"%s\" in:\n%s\n", wanted, text);
	t_ok(strstr(text, wanted) != NULL);
	free(text);
}

static void expect_narrow(const struct ladder_result *result)
{
	char *text = printed(result, ladder_print), *line, *rest = text;

	while ((line = strsep(&rest, "\n")))
		t_ok(strlen(line) <= 80);
	free(text);
}

TEST(the_ladder_shows_values_and_what_was_old)
{
	const struct ladder_options options = { .max_more = 1000 };
	struct ladder_result result;

	explore(find("store buffering"), &options, &result);
	expect_text(&result, ladder_print, "[W.rel] x = 1");
	expect_text(&result, ladder_print, "(old: is 1)");
	expect_text(&result, ladder_print, "*** assertion");
	expect_text(&result, ladder_print_svg, "</svg>");
	expect_text(&result, ladder_print_svg, "class=\"stale\"");
	expect_text(&result, ladder_print_remedy, "seq_cst");
	expect_narrow(&result);
	ladder_result_fini(&result);

	explore(find("relaxed publication"), &options, &result);
	expect_text(&result, ladder_print_remedy, "One pair");
	expect_text(&result, ladder_print_remedy, "release: CPU0");
	ladder_result_fini(&result);

	explore(find("lock order"), &options, &result);
	expect_text(&result, ladder_print, "lock lock a");
	expect_text(&result, ladder_print_remedy, "No barrier");
	ladder_result_fini(&result);
}

TEST(the_shortest_failing_execution_is_shown)
{
	const struct ladder_options options = { .max_more = 1000 };
	struct ladder_result result;

	/* One thread alone, with one step, though there is another one. */
	explore(find("freed twice"), &options, &result);
	expect_text(&result, ladder_print, "freed twice");
	ladder_result_fini(&result);
}
