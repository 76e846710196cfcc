/* SPDX-License-Identifier: MIT */
/*
 * The case that began it: linux-mm, May 2019, a bool "valid" per range.
 *
 *	CPU0: device page fault   CPU1: change over it    CPU2: change elsewhere
 *
 *	                          start:
 *	                            valid = false
 *	                            lock(driver)
 *	                            wipe the device's
 *	                              entry
 *	                            unlock(driver)
 *	                                                  start
 *	                                                  end:
 *	                                                    valid = true
 *	wait until valid
 *	read the page table
 *	                            change the page table
 *	lock(driver)
 *	if (valid)
 *	  fill the device's entry   [stale]
 *	unlock(driver)
 *	                          end:
 *	                            valid = true
 *
 * P1  while a change is open and its subscriber was told, no entry is filled.
 * P2  after the end of a change no entry is older than it.
 *
 * With a count of open changes, so that only the last end makes it valid, P1
 * holds: that was the answer in the mail.  P2 does not, even with one change:
 * when the end sets valid, what the reader has read may be older than the start.
 * When the reader sets valid, under the lock and when nothing is open, both hold.
 */
#include "base/atomic.h"
#include "base/lock.h"
#include "ladder/gallery/gallery.h"
#include "ladder/gallery/help.h"
#include "ladder/scenario.h"

enum scheme { BOOL_ALONE, END_COUNTS, READER_COUNTS };

struct rules {
	enum scheme scheme;
	bool p1, p2;
};

static struct {
	/* hmm->lock */
	struct mmn_mutex lock;
	/* driver->update */
	struct mmn_mutex driver;
	/* atomic: waited for without the lock */
	uint32_t valid;
	/* atomic: the program's page table */
	uint32_t pte;
	/* lock */
	uint32_t notifiers;
	/* driver */
	uint32_t shadow;
} mail;

static const struct rules *rules(void)
{
	return ladder_data();
}

static void set_up(void)
{
	mmn_mutex_init(&mail.lock, MMN_RANK_LEAF);
	mmn_mutex_init(&mail.driver, MMN_RANK_DRIVER);
	mail.valid = rules()->scheme != READER_COUNTS;
	mail.pte = OLD;
	mail.notifiers = 0;
	mail.shadow = NONE;
	ladder_name(&mail.lock, "S");
	ladder_name(&mail.driver, "driver");
	ladder_name(&mail.valid, "valid");
	ladder_name(&mail.pte, "pte");
	ladder_name(&mail.notifiers, "notifiers");
	ladder_name(&mail.shadow, "device entry");
}

static void change_start(bool overlaps)
{
	mmn_mutex_lock(&mail.lock);
	mail.notifiers++;
	if (overlaps)
		/* relaxed: read again under the driver's lock, taken below */
		mmn_store_relaxed(&mail.valid, false);
	mmn_mutex_unlock(&mail.lock);
	if (!overlaps)
		return;
	mmn_mutex_lock(&mail.driver);
	mail.shadow = NONE;
	mmn_mutex_unlock(&mail.driver);
}

static void change_end(void)
{
	bool last;

	mmn_mutex_lock(&mail.lock);
	last = --mail.notifiers == 0;
	if (rules()->scheme == BOOL_ALONE ||
	    (rules()->scheme == END_COUNTS && last))
		/*
		 * pair(mail_valid): release, with the acquire in
		 * wait_until_valid().  Without it the reader sees the page
		 * table as it was before the change.
		 */
		mmn_store_release(&mail.valid, true);
	mmn_mutex_unlock(&mail.lock);
}

static void change_over(void)
{
	ladder_note("a change over the range");
	change_start(true);
	/* relaxed: a page table is read by hardware, in any order */
	mmn_store_relaxed(&mail.pte, NEW);
	if (rules()->p1) {
		mmn_mutex_lock(&mail.driver);
		ladder_assert(mail.shadow == NONE);
		mmn_mutex_unlock(&mail.driver);
	}
	ladder_note("its end");
	change_end();
}

static void change_elsewhere(void)
{
	ladder_note("a change elsewhere");
	change_start(false);
	change_end();
}

/* False: something is open; a caller would try again. */
static bool make_valid(void)
{
	bool idle;

	mmn_mutex_lock(&mail.lock);
	idle = !mail.notifiers;
	if (idle)
		/* relaxed: the lock orders it */
		mmn_store_relaxed(&mail.valid, true);
	mmn_mutex_unlock(&mail.lock);
	return idle;
}

static bool wait_until_valid(void)
{
	if (rules()->scheme == READER_COUNTS)
		return make_valid();
	/*
	 * pair(mail_valid): acquire, with the release in change_end().  Without
	 * it the page table may be read as it was before the change.
	 */
	while (!mmn_load_acquire(&mail.valid))
		mmn_cpu_relax();
	return true;
}

static void fault(void)
{
	uint32_t pte;

	ladder_note("a device page fault");
	if (!wait_until_valid())
		return;
	/* relaxed: a page table is read by hardware, in any order */
	pte = mmn_load_relaxed(&mail.pte);
	mmn_mutex_lock(&mail.driver);
	/* relaxed: under the driver's lock, which the change takes as well */
	if (mmn_load_relaxed(&mail.valid))
		mail.shadow = pte;
	mmn_mutex_unlock(&mail.driver);
}

static void check(void)
{
	if (rules()->p2)
		ladder_assert(mail.shadow != OLD);
}

const struct ladder_scenario bool_valid = {
	.name = "bool-valid",
	.what = "mail 001: a bool per range says whether it may be mirrored",
	.explanation =
		"A change elsewhere ends while the one over the range is still "
		"open, and its end\nsets the bool that the open change had "
		"cleared.  No barrier helps: a bool cannot\ntell two changes "
		"from one.",
	.fails = true,
	.setup = set_up,
	.threads = { fault, change_over, change_elsewhere },
	.titles = { "device fault", "change", "elsewhere" },
	.check = check,
	.data = &(const struct rules){ BOOL_ALONE, true, false },
};

const struct ladder_scenario bool_counter = {
	.name = "bool-counter",
	.what = "the same with a count of open changes: nothing is mirrored "
		"meanwhile",
	.explanation = "Only the end of the last open change makes the range "
		       "valid.",
	.setup = set_up,
	.threads = { fault, change_over, change_elsewhere },
	.titles = { "device fault", "change", "elsewhere" },
	.check = check,
	.data = &(const struct rules){ END_COUNTS, true, false },
};

const struct ladder_scenario bool_counter_stale = {
	.name = "bool-counter-stale",
	.what = "the same: is nothing mirrored that is older than the change?",
	.explanation =
		"The reader waits, reads the page table, and is then overtaken "
		"by a whole change:\nstart, new page table, end.  The end makes "
		"the range valid again, and the reader\nfinds it valid.  It "
		"holds what it read before.  A sequence number would have told.",
	.fails = true,
	.setup = set_up,
	.threads = { fault, change_over },
	.titles = { "device fault", "change" },
	.check = check,
	.data = &(const struct rules){ END_COUNTS, true, true },
};

/* The change was begun by somebody who needs no column: before. */
static void set_up_begun(void)
{
	set_up();
	mail.valid = false;
	mail.notifiers = 1;
}

static void end_of_change(void)
{
	ladder_note("the page table, then the end");
	/* relaxed: a page table is read by hardware, in any order */
	mmn_store_relaxed(&mail.pte, NEW);
	change_end();
}

const struct ladder_scenario bool_wait = {
	.name = "bool-wait",
	.what = "who waits for the end of a change sees what it changed",
	.explanation = "The end stores the bool with release, the waiter reads "
		       "it with acquire.",
	.setup = set_up_begun,
	.threads = { fault, end_of_change },
	.titles = { "device fault", "change" },
	.check = check,
	.data = &(const struct rules){ END_COUNTS, true, true },
};

const struct ladder_scenario bool_reader = {
	.name = "bool-reader",
	.what = "the reader makes it valid, when nothing is open",
	.explanation =
		"Valid now means: no change has begun since a reader looked.  "
		"That is a\nsequence number of one bit, good for one reader at a "
		"time.",
	.setup = set_up,
	.threads = { fault, change_over, change_elsewhere },
	.titles = { "device fault", "change", "elsewhere" },
	.check = check,
	.data = &(const struct rules){ READER_COUNTS, true, true },
};
