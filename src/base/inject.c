/* SPDX-License-Identifier: MIT */
#include "base/inject.h"

#include <errno.h>
#include <time.h>

#include "base/syscall.h"

/* One point; all zero until it is armed for the first time. */
struct point {
	/* atomic: passes since armed; the number of a pass is its value */
	uint64_t passes;
	/* atomic */
	uint64_t hits;
	/* atomic: set before the point is armed */
	uint64_t seed;
	/* atomic: set before the point is armed; 0 before the first time */
	uint32_t one_in;
};

_Static_assert(MMN_NR_INJECT_POINTS <= 64, "one bit per point");

uint64_t mmn_inject_armed;
static struct point points[MMN_NR_INJECT_POINTS];

#define POINT_NAME(point, name, text) name,
static const char *const point_names[] = { MMN_INJECT_POINTS(POINT_NAME) };

/*
 * The output function of splitmix64 (S. Vigna, public domain): every pass has a
 * number, and equal numbers give equal answers in every thread.
 */
static uint64_t mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

int mmn_inject_set(uint32_t nr, uint32_t one_in, uint64_t seed)
{
	struct point *point;

	if (nr >= MMN_NR_INJECT_POINTS || !one_in)
		return -EINVAL;
	point = &points[nr];
	/*
	 * relaxed, all of them: a pass under way while a point is armed anew
	 * may use either setting, which a test must expect anyway.
	 */
	mmn_store_relaxed(&point->one_in, one_in);
	mmn_store_relaxed(&point->seed, seed);
	mmn_store_relaxed(&point->passes, 0);
	mmn_store_relaxed(&point->hits, 0);
	/*
	 * pair(inject_armed): release, with the acquire in mmn_inject_fire().
	 * Without it the first passes use the seed of the time before.
	 */
	mmn_fetch_or_release(&mmn_inject_armed, UINT64_C(1) << nr);
	return 0;
}

void mmn_inject_clear(void)
{
	/* relaxed: a pass that comes too late to see it fires once more */
	mmn_store_relaxed(&mmn_inject_armed, 0);
}

bool mmn_inject_fire(uint32_t nr)
{
	struct point *point = &points[nr];
	uint64_t pass;
	uint32_t one_in;

	/*
	 * pair(inject_armed): acquire, with the release in mmn_inject_set().
	 * Without it the settings may be read before the bit that says they
	 * are there, and one_in is 0.
	 */
	if (!(mmn_load_acquire(&mmn_inject_armed) >> nr & 1))
		return false;
	/* relaxed: counts, and settings made visible by the acquire above */
	one_in = mmn_load_relaxed(&point->one_in);
	pass = mmn_fetch_add_relaxed(&point->passes, 1);
	if (mix(mmn_load_relaxed(&point->seed) + mix(pass)) % one_in)
		return false;
	mmn_fetch_add_relaxed(&point->hits, 1);
	return true;
}

void mmn_inject_pause(void)
{
	struct timespec pause = { 0, 0 };
	/* relaxed: any number will do */
	uint64_t hits = mmn_load_relaxed(&points[MMN_INJECT_DELAY].hits);

	if (hits & 1) {
		mmn_syscall0(__NR_sched_yield);
		return;
	}
	pause.tv_nsec = (long)(1000 + (mix(hits) & 0xffff));
	mmn_syscall2(__NR_nanosleep, &pause, 0);
}

uint64_t mmn_inject_hits(uint32_t nr)
{
	if (nr >= MMN_NR_INJECT_POINTS)
		return 0;
	/* relaxed: a count */
	return mmn_load_relaxed(&points[nr].hits);
}

uint64_t mmn_inject_passes(uint32_t nr)
{
	if (nr >= MMN_NR_INJECT_POINTS)
		return 0;
	/* relaxed: a count */
	return mmn_load_relaxed(&points[nr].passes);
}

const char *mmn_inject_name(uint32_t nr)
{
	return nr < MMN_NR_INJECT_POINTS ? point_names[nr] : NULL;
}

static bool same_name(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

int mmn_inject_find(const char *name)
{
	int nr;

	if (!name)
		return -EINVAL;
	for (nr = 0; nr < MMN_NR_INJECT_POINTS; nr++)
		if (same_name(name, point_names[nr]))
			return nr;
	return -ENOENT;
}
