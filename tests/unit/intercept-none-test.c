/* SPDX-License-Identifier: MIT */
/*
 * Where call sites cannot be rewritten: each call says so and does nothing, and
 * a program that brings its own source has the rest of the library.
 */
#include "t/tap.h"

#include <errno.h>
#include <mmn/notifier.h>
#include <mmn/source.h>

TEST(starting_is_not_supported)
{
	struct mmn_intercept_report report = { .size = sizeof(report) };
	struct mmn_state *state;

	t_err(mmn_state_create(&state), 0);
	t_err(mmn_intercept_start(state, NULL, &report), -ENOTSUP);
	t_err(mmn_intercept_start(NULL, NULL, NULL), -EINVAL);
	t_err(mmn_intercept_stop(), -ENOENT);
	mmn_state_put(state);
}

TEST(there_is_nothing_to_report)
{
	struct mmn_intercept_report report = { .size = sizeof(report) };
	struct mmn_intercept_stats stats = { .size = sizeof(stats) };
	struct mmn_intercept_object object = { .size = sizeof(object) };

	t_err(mmn_intercept_get_report(&report), -ENOENT);
	t_err(mmn_intercept_get_report(NULL), -EINVAL);
	t_err(mmn_intercept_get_object(0, &object), -ENOENT);
	t_err(mmn_intercept_get_object(0, NULL), -EINVAL);
	t_err(mmn_intercept_get_stats(&stats), -ENOTSUP);
}

TEST(kinds_of_call_have_names_everywhere)
{
	uint32_t i;

	for (i = 0; i < MMN_NR_CALLS; i++)
		t_ok(mmn_call_name(i));
	t_ok(!mmn_call_name(MMN_NR_CALLS));
	for (i = 0; i < MMN_NR_CHECKS; i++)
		t_ok(mmn_check_name(i));
	t_ok(!mmn_check_name(MMN_NR_CHECKS));
}
