/* SPDX-License-Identifier: MIT */
/* Faults on request. */
#include "t/tap.h"

#include <pthread.h>

#include "base/inject.h"

static uint64_t pattern_of(uint32_t point, int passes)
{
	uint64_t pattern = 0;
	int i;

	for (i = 0; i < passes; i++)
		pattern = pattern << 1 | MMN_INJECT(point);
	return pattern;
}

TEST(nothing_fires_unless_armed)
{
	uint32_t point;

	for (point = 0; point < MMN_NR_INJECT_POINTS; point++) {
		t_ok(!MMN_INJECT(point));
		t_eq(mmn_inject_passes(point), 0);
	}
}

TEST(one_in_one_fires_always)
{
	t_err(mmn_inject_set(MMN_INJECT_RETRY, 1, 42), 0);
	t_eq(pattern_of(MMN_INJECT_RETRY, 64), UINT64_MAX);
	t_eq(mmn_inject_hits(MMN_INJECT_RETRY), 64);
	t_eq(mmn_inject_passes(MMN_INJECT_RETRY), 64);
}

TEST(arming_one_point_leaves_the_others_alone)
{
	t_err(mmn_inject_set(MMN_INJECT_RETRY, 1, 0), 0);
	t_ok(!MMN_INJECT(MMN_INJECT_ALLOC));
	t_ok(!MMN_INJECT(MMN_INJECT_END_EARLY));
	t_ok(MMN_INJECT(MMN_INJECT_RETRY));
}

TEST(rate_is_what_was_asked_for)
{
	int i;

	t_err(mmn_inject_set(MMN_INJECT_DELAY, 10, 1), 0);
	for (i = 0; i < 100000; i++)
		(void)MMN_INJECT(MMN_INJECT_DELAY);
	t_gt(mmn_inject_hits(MMN_INJECT_DELAY), 9500);
	t_lt(mmn_inject_hits(MMN_INJECT_DELAY), 10500);
}

TEST(equal_seeds_give_equal_faults)
{
	uint64_t first;

	t_err(mmn_inject_set(MMN_INJECT_RETRY, 3, 7), 0);
	first = pattern_of(MMN_INJECT_RETRY, 64);
	t_err(mmn_inject_set(MMN_INJECT_RETRY, 3, 7), 0);
	t_eq(mmn_inject_hits(MMN_INJECT_RETRY), 0);
	t_eq(pattern_of(MMN_INJECT_RETRY, 64), first);
	t_err(mmn_inject_set(MMN_INJECT_RETRY, 3, 8), 0);
	t_ne(pattern_of(MMN_INJECT_RETRY, 64), first);
}

TEST(clear_disarms_and_keeps_the_counts)
{
	t_err(mmn_inject_set(MMN_INJECT_REFUSE, 1, 0), 0);
	t_ok(MMN_INJECT(MMN_INJECT_REFUSE));
	mmn_inject_clear();
	t_ok(!MMN_INJECT(MMN_INJECT_REFUSE));
	t_eq(mmn_inject_hits(MMN_INJECT_REFUSE), 1);
	t_eq(mmn_inject_passes(MMN_INJECT_REFUSE), 1);
}

TEST(bad_arguments_are_refused_without_effect)
{
	t_err(mmn_inject_set(MMN_NR_INJECT_POINTS, 1, 0), -EINVAL);
	t_err(mmn_inject_set(UINT32_MAX, 1, 0), -EINVAL);
	t_err(mmn_inject_set(MMN_INJECT_RETRY, 0, 0), -EINVAL);
	t_eq(mmn_inject_armed, 0);
	t_eq(mmn_inject_hits(MMN_NR_INJECT_POINTS), 0);
	t_eq(mmn_inject_passes(UINT32_MAX), 0);
}

TEST(names_and_points_belong_together)
{
	uint32_t point;

	for (point = 0; point < MMN_NR_INJECT_POINTS; point++)
		t_eq(mmn_inject_find(mmn_inject_name(point)), point);
	t_eq(mmn_inject_find("retry-skip"), MMN_INJECT_RETRY_SKIP);
	t_ok(!mmn_inject_name(MMN_NR_INJECT_POINTS));
	t_err(mmn_inject_find("retry-ski"), -ENOENT);
	t_err(mmn_inject_find("retry-skipp"), -ENOENT);
	t_err(mmn_inject_find(""), -ENOENT);
	t_err(mmn_inject_find(NULL), -EINVAL);
}

TEST(pause_fires_and_ends)
{
	int i;

	t_err(mmn_inject_set(MMN_INJECT_DELAY, 1, 0), 0);
	for (i = 0; i < 20; i++)
		MMN_INJECT_PAUSE();
	t_eq(mmn_inject_hits(MMN_INJECT_DELAY), 20);
}

static void *pass_often(void *arg)
{
	uint64_t *hits = arg;
	int i;

	for (i = 0; i < 10000; i++)
		*hits += MMN_INJECT(MMN_INJECT_RETRY);
	return NULL;
}

TEST(every_hit_of_every_thread_is_counted)
{
	enum { NR = 4 };
	pthread_t threads[NR];
	uint64_t hits[NR] = { 0 };
	uint64_t sum = 0;
	int i;

	t_err(mmn_inject_set(MMN_INJECT_RETRY, 5, 3), 0);
	for (i = 0; i < NR; i++)
		t_err(pthread_create(&threads[i], NULL, pass_often, &hits[i]),
		      0);
	for (i = 0; i < NR; i++) {
		pthread_join(threads[i], NULL);
		sum += hits[i];
	}
	t_eq(mmn_inject_hits(MMN_INJECT_RETRY), sum);
	t_eq(mmn_inject_passes(MMN_INJECT_RETRY), NR * 10000);
}
