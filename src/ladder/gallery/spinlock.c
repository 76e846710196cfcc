/* SPDX-License-Identifier: MIT */
/*
 * The library's own spin lock.  Other scenarios have the explorer's, which is one
 * event, and may be so because this holds.  It does not spin here but sleeps at
 * once; a loop that spins does not end in another way than by sleeping.
 */
#define mmn_spin_init own_spin_init
#define mmn_spin_trylock own_spin_trylock
#define mmn_spin_lock own_spin_lock
#define mmn_spin_unlock own_spin_unlock
#define NR_SPINS 0
/* NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "fence/spinlock.c"

#include "ladder/gallery/gallery.h"
#include "ladder/scenario.h"

static struct {
	struct spinlock lock;
	/* lock */
	int count;
} own;

static void set_up(void)
{
	mmn_spin_init(&own.lock);
	own.count = 0;
	ladder_name(&own.lock, "lock");
	ladder_name(&own.count, "count");
}

static void count_once(void)
{
	mmn_spin_lock(&own.lock);
	own.count++;
	mmn_spin_unlock(&own.lock);
}

const struct ladder_scenario spin_lock = {
	.name = "spin-lock",
	.what = "two threads count under the library's spin lock",
	.explanation =
		"The lock knows in its one word whether somebody sleeps, "
		"so that no wake-up is lost.",
	.setup = set_up,
	.threads = { count_once, count_once },
	.titles = { "counts", "counts" },
};
