/* SPDX-License-Identifier: MIT */
/*
 * Machines whose call sites libmmn cannot rewrite: every call says so.
 */
#include <errno.h>
#include <mmn/source.h>
#include <stddef.h>

int mmn_intercept_start(struct mmn_state *state,
			const struct mmn_intercept_options *options,
			struct mmn_intercept_report *ret_report)
{
	(void)options;
	(void)ret_report;
	return state ? -ENOTSUP : -EINVAL;
}

int mmn_intercept_stop(void)
{
	return -ENOENT;
}

int mmn_intercept_get_report(struct mmn_intercept_report *ret_report)
{
	return ret_report ? -ENOENT : -EINVAL;
}

int mmn_intercept_get_object(uint32_t index,
			     struct mmn_intercept_object *ret_object)
{
	(void)index;
	return ret_object ? -ENOENT : -EINVAL;
}

int mmn_intercept_get_stats(struct mmn_intercept_stats *ret_stats)
{
	(void)ret_stats;
	return -ENOTSUP;
}
