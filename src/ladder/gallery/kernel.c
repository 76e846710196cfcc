/* SPDX-License-Identifier: MIT */
/*
 * The case of the mail (mail.c) with one sequence number and one lock for a whole
 * address space, which is how Linux answered it; notifier.c has ours for the
 * same three CPUs.
 *
 *	change, start			odd while something is open that was told;
 *					the callback gives its number to the range
 *	change, end			the last one makes it even
 *	reader, begin			takes the range's number; if that is the
 *					present one a change is open: wait for it
 *	reader, under the driver's lock	has the range another number by now?
 *
 * The wait is without the lock.  When its loads order nothing, the reader may
 * see the end and then the page table as it was before: nothing else on its way
 * takes a lock that the end held.  Reading the number once more under the lock,
 * or loads that acquire, are enough.
 */
#include "base/atomic.h"
#include "base/lock.h"
#include "ladder/gallery/gallery.h"
#include "ladder/gallery/help.h"
#include "ladder/scenario.h"

/* How the reader waits. */
enum way { ACQUIRES, PLAINLY, UNDER_LOCK };

static struct {
	/* of the address space */
	struct mmn_mutex lock;
	/* the driver's */
	struct mmn_mutex driver;
	/* atomic: stored under the lock, waited for without */
	uint64_t seq;
	/* lock: open changes */
	uint32_t active;
	/* atomic: stored under the driver's lock, read in begin without */
	uint64_t range_seq;
	/* atomic: the program's page table */
	uint32_t pte;
	/* driver: the entry, and whether a change is open that was told */
	uint32_t shadow;
	bool told;
} space;

static enum way way(void)
{
	return *(const enum way *)ladder_data();
}

static void set_up(void)
{
	mmn_mutex_init(&space.lock, MMN_RANK_LEAF);
	mmn_mutex_init(&space.driver, MMN_RANK_DRIVER);
	space.seq = 2;
	space.active = 0;
	space.range_seq = 1;
	space.pte = OLD;
	space.shadow = NONE;
	space.told = false;
	ladder_name(&space.lock, "S");
	ladder_name(&space.driver, "driver");
	ladder_name(&space.seq, "seq");
	ladder_name(&space.active, "active");
	ladder_name(&space.range_seq, "range.seq");
	ladder_name(&space.pte, "pte");
	ladder_name(&space.shadow, "device entry");
}

static void call_back(uint64_t seq)
{
	mmn_mutex_lock(&space.driver);
	/* relaxed: begin reads it under S, which the start has held before */
	mmn_store_relaxed(&space.range_seq, seq);
	space.shadow = NONE;
	space.told = true;
	mmn_mutex_unlock(&space.driver);
}

static void start(bool hits)
{
	uint64_t seq;

	mmn_mutex_lock(&space.lock);
	space.active++;
	/* relaxed, both: S is held */
	seq = mmn_load_relaxed(&space.seq) | 1;
	if (hits)
		mmn_store_relaxed(&space.seq, seq);
	mmn_mutex_unlock(&space.lock);
	if (hits)
		call_back(seq);
}

static void end(void)
{
	uint64_t seq;

	mmn_mutex_lock(&space.lock);
	/* relaxed: S is held */
	seq = mmn_load_relaxed(&space.seq);
	if (!--space.active && seq & 1)
		/*
		 * pair(kernel_wait): release, with the acquire in
		 * wait_until_over().  Without it the reader sees the page table
		 * as it was before the change.
		 */
		mmn_store_release(&space.seq, seq + 1);
	mmn_mutex_unlock(&space.lock);
}

static void change_over(void)
{
	ladder_note("a change over the range");
	start(true);
	/* relaxed: a page table is read by hardware, in any order */
	mmn_store_relaxed(&space.pte, NEW);
	mmn_mutex_lock(&space.driver);
	ladder_assert(!space.told || space.shadow == NONE);
	space.told = false;
	mmn_mutex_unlock(&space.driver);
	ladder_note("its end");
	end();
}

static void change_elsewhere(void)
{
	ladder_note("a change elsewhere");
	start(false);
	end();
}

static void wait_under_lock(uint64_t seq)
{
	bool over;

	mmn_mutex_lock(&space.lock);
	/* relaxed: S is held */
	over = mmn_load_relaxed(&space.seq) != seq;
	mmn_mutex_unlock(&space.lock);
	ladder_assert(over);
}

static void wait_until_over(uint64_t seq)
{
	if (way() == ACQUIRES) {
		/*
		 * pair(kernel_wait): acquire, with the release in end().
		 * Without it the page table may be read as it was before the
		 * change.
		 */
		while (mmn_load_acquire(&space.seq) == seq)
			mmn_cpu_relax();
		return;
	}
	/* relaxed: what this is about */
	while (mmn_load_relaxed(&space.seq) == seq)
		mmn_cpu_relax();
	if (way() == UNDER_LOCK)
		wait_under_lock(seq);
}

static uint64_t begin(void)
{
	uint64_t seq;
	bool open;

	mmn_mutex_lock(&space.lock);
	/* relaxed, both: see call_back() */
	seq = mmn_load_relaxed(&space.range_seq);
	open = mmn_load_relaxed(&space.seq) == seq;
	mmn_mutex_unlock(&space.lock);
	if (open)
		wait_until_over(seq);
	return seq;
}

static void fault(void)
{
	uint64_t seq;
	uint32_t pte;

	ladder_note("a device page fault");
	seq = begin();
	/* relaxed: a page table is read by hardware, in any order */
	pte = mmn_load_relaxed(&space.pte);
	mmn_mutex_lock(&space.driver);
	/* relaxed: the driver's lock orders it */
	if (mmn_load_relaxed(&space.range_seq) == seq)
		space.shadow = pte;
	mmn_mutex_unlock(&space.driver);
}

static void check(void)
{
	ladder_assert(space.shadow != OLD);
}

const struct ladder_scenario kernel_seq = {
	.name = "kernel-seq",
	.what = "one sequence and one lock for all: the three CPUs of the mail",
	.explanation =
		"A number tells one change from the next, which a bool could "
		"not.  The price: readers\ntake the lock of the address space, "
		"and who began during one change waits for all\nthat overlap it "
		"in time, wherever they are.",
	.setup = set_up,
	.threads = { fault, change_over, change_elsewhere },
	.titles = { "device fault", "change", "elsewhere" },
	.check = check,
	.data = &(const enum way){ ACQUIRES },
};

const struct ladder_scenario kernel_seq_plain = {
	.name = "kernel-seq-plain",
	.what = "the same, where the wait has no order: fails under C11, not on "
		"x86",
	.explanation =
		"The reader has waited for the end and reads the page table "
		"from before: nothing\nordered the two loads.  No test on x86 "
		"shows it; --model tso holds.",
	.fails = true,
	.setup = set_up,
	.threads = { fault, change_over },
	.titles = { "device fault", "change" },
	.check = check,
	.data = &(const enum way){ PLAINLY },
};

const struct ladder_scenario kernel_seq_locked = {
	.name = "kernel-seq-locked",
	.what = "the same, and the number is read again under the lock",
	.explanation = "The lock orders what the wait did not.",
	.setup = set_up,
	.threads = { fault, change_over },
	.titles = { "device fault", "change" },
	.check = check,
	.data = &(const enum way){ UNDER_LOCK },
};
