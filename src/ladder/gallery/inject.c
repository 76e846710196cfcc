/* SPDX-License-Identifier: MIT */
/*
 * A point of fault injection is armed while somebody passes it: base/inject.c
 * itself, which code under the explorer has not.
 */
#undef MMN_BASE_INJECT_H
#undef MMN_INJECT
#undef MMN_INJECT_PAUSE
#define mmn_inject_clear inject_clear_
#define mmn_inject_find inject_find_
#define mmn_inject_hits inject_hits_
#define mmn_inject_name inject_name_
#define mmn_inject_passes inject_passes_
#define mmn_inject_set inject_set_
/* NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "base/inject.c"

#include "ladder/gallery/gallery.h"
#include "ladder/scenario.h"

/* It was armed before, to fire hardly ever. */
static void set_up(void)
{
	ladder_assert(!mmn_inject_set(0, UINT32_MAX, 0));
	mmn_inject_clear();
	ladder_name(&mmn_inject_armed, "armed");
	ladder_name(&points[0].one_in, "one_in");
	ladder_name(&points[0].seed, "seed");
}

static void arm(void)
{
	ladder_assert(!mmn_inject_set(0, 1, 7));
}

static void pass(void)
{
	/* relaxed: as MMN_INJECT() looks */
	if (mmn_load_relaxed(&mmn_inject_armed) & 1)
		ladder_assert(mmn_inject_fire(0));
}

const struct ladder_scenario inject_armed = {
	.name = "inject-armed",
	.what = "a point that always fires is armed while somebody passes it",
	.explanation = "Who sees it armed sees how.",
	.setup = set_up,
	.threads = { arm, pass },
	.titles = { "arm", "pass" },
};
