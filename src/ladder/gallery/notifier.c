/* SPDX-License-Identifier: MIT */
/*
 * The library's own notifier: a subscription over one page, a device that mirrors
 * it under the driver's lock, and changes of the page.
 *
 * P1  while a change is open and its subscriber was told, no entry is filled.
 * P2  after the end of a change no entry is older than it.
 * P4  a subscription that was removed is not touched.
 *
 * The page table is relaxed: what orders it is the library alone.
 */
#include <mmn/notifier.h>

#include "base/atomic.h"
#include "base/lock.h"
#include "ladder/gallery/gallery.h"
#include "ladder/gallery/help.h"
#include "ladder/scenario.h"
#include "notifier/state.h"

#define PAGE UINT64_C(0x10000)
#define PAGE_LAST (PAGE + 4095)

static struct {
	struct mmn_state *state;
	struct mmn_range_subscription *sub;
	/* the driver's lock */
	struct mmn_mutex driver;
	/* atomic: the program's page table */
	uint32_t pte;
	/* driver: the entry, and whether a change is open that was told */
	uint32_t shadow;
	bool told;
	/* a change that set_up_changing() has opened */
	struct mmn_invalidate_desc desc;
} device;

static bool invalidate(struct mmn_range_subscription *sub,
		       const struct mmn_invalidate_desc *desc, uint64_t seq)
{
	mmn_mutex_lock(&device.driver);
	mmn_range_set_seq(sub, seq);
	device.shadow = NONE;
	device.told = true;
	mmn_mutex_unlock(&device.driver);
	return true;
}

static const struct mmn_range_ops ops = { .invalidate = invalidate };

static void name_all(void)
{
	struct range_sub *sub = range_of(device.sub);
	struct mmn_state *state = device.state;

	ladder_name(&device.driver, "driver");
	ladder_name(&device.pte, "pte");
	ladder_name(&device.shadow, "device entry");
	ladder_name(&sub->seq, "sub.seq");
	ladder_name(&sub->open, "sub.open");
	ladder_name(&state->hall.phase, "hall.phase");
	ladder_name(&state->hall.waiting, "hall.waiting");
	ladder_name(&state->hall.common, "hall.common");
	ladder_name(&state->hall.mutex, "S");
	ladder_name(&state->slots[0].word, "slot[0]");
	ladder_name(&state->slots[1].word, "slot[1]");
}

static void set_up(void)
{
	struct mmn_range_config config = { .size = sizeof(config),
					   .ops = &ops };

	mmn_mutex_init(&device.driver, MMN_RANK_DRIVER);
	device.pte = OLD;
	device.shadow = NONE;
	device.told = false;
	device.sub = calloc(1, sizeof(*device.sub));
	ladder_assert(!mmn_state_create(&device.state));
	ladder_assert(!mmn_range_subscription_init(device.sub, &config));
	name_all();
}

/* Others are there, below and above: what the filter spans stays the same. */
static void set_up_between(void)
{
	struct mmn_range_config config = { .size = sizeof(config),
					   .ops = &ops };
	static const uintptr_t at[] = { PAGE / 2, 2 * PAGE };
	struct mmn_range_subscription *other;
	int i;

	set_up();
	for (i = 0; i < 2; i++) {
		other = calloc(1, sizeof(*other));
		ladder_assert(!mmn_range_subscription_init(other, &config));
		ladder_assert(!mmn_range_subscription_insert(
			other, device.state, at[i], at[i] + 4095));
	}
}

static void insert(void)
{
	ladder_assert(!mmn_range_subscription_insert(device.sub, device.state,
						     PAGE, PAGE_LAST));
}

static void set_up_inserted(void)
{
	set_up();
	insert();
}

static void fault(void)
{
	uint64_t seq;
	uint32_t pte;

	ladder_note("a device page fault");
	seq = mmn_range_read_begin(device.sub);
	/* relaxed: a page table is read by hardware, in any order */
	pte = mmn_load_relaxed(&device.pte);
	mmn_mutex_lock(&device.driver);
	if (!mmn_range_read_retry(device.sub, seq))
		device.shadow = pte;
	mmn_mutex_unlock(&device.driver);
}

static void change(void)
{
	struct mmn_invalidate_desc desc;

	ladder_note("a change of the page");
	mmn_invalidate_desc_init(&desc, device.state, MMN_EVENT_UNMAP, PAGE,
				 PAGE_LAST);
	ladder_assert(!mmn_invalidate_start(&desc));
	/* relaxed: a page table is read by hardware, in any order */
	mmn_store_relaxed(&device.pte, NEW);
	mmn_mutex_lock(&device.driver);
	ladder_assert(!device.told || device.shadow == NONE);
	device.told = false;
	mmn_mutex_unlock(&device.driver);
	ladder_note("its end");
	ladder_assert(!mmn_invalidate_end(&desc));
}

static void change_elsewhere(void)
{
	struct mmn_invalidate_desc desc;

	ladder_note("a change elsewhere");
	mmn_invalidate_desc_init(&desc, device.state, MMN_EVENT_UNMAP,
				 16 * PAGE, 16 * PAGE + 4095);
	ladder_assert(!mmn_invalidate_start(&desc));
	ladder_assert(!mmn_invalidate_end(&desc));
}

static void insert_then_fault(void)
{
	ladder_note("a fresh subscription");
	insert();
	fault();
}

/* Both slots are in use: the next change has none, nor a door. */
static void set_up_crowded(void)
{
	static struct mmn_invalidate_desc open[NR_SLOTS];
	uint32_t i;

	set_up_inserted();
	for (i = 0; i < NR_SLOTS; i++) {
		mmn_invalidate_desc_init(&open[i], device.state,
					 MMN_EVENT_UNMAP, (32 + i) * PAGE,
					 (32 + i) * PAGE + 4095);
		ladder_assert(!mmn_invalidate_open(&open[i]));
	}
}

/* A change of the page is open and told; the subscription is elsewhere. */
static void set_up_changing(void)
{
	set_up();
	ladder_assert(!mmn_range_subscription_insert(
		device.sub, device.state, 16 * PAGE, 16 * PAGE + 4095));
	mmn_invalidate_desc_init(&device.desc, device.state, MMN_EVENT_UNMAP,
				 PAGE, PAGE_LAST);
	ladder_assert(!mmn_invalidate_start(&device.desc));
}

static void move_then_change(void)
{
	ladder_note("moves it to the page");
	ladder_assert(
		!mmn_range_subscription_resize(device.sub, PAGE, PAGE_LAST));
	mmn_mutex_lock(&device.driver);
	device.shadow = NONE;
	mmn_mutex_unlock(&device.driver);
	ladder_note("the page changes");
	/* relaxed: a page table is read by hardware, in any order */
	mmn_store_relaxed(&device.pte, NEW);
	ladder_assert(!mmn_invalidate_end(&device.desc));
}

static void remove_and_free(void)
{
	ladder_note("removes and frees it");
	ladder_assert(!mmn_range_subscription_remove(device.sub));
	free(device.sub);
}

static void check(void)
{
	ladder_assert(device.shadow != OLD);
}

const struct ladder_scenario notifier_fault = {
	.name = "notifier-fault",
	.what = "a device page fault against a change of the page",
	.explanation = "read_begin() waits while a change is open, and what "
		       "was read is thrown away when the\nsequence has moved.",
	.setup = set_up_inserted,
	.each = number_thread,
	.threads = { fault, change },
	.titles = { "device fault", "change" },
	.check = check,
};

const struct ladder_scenario notifier_insert = {
	.name = "notifier-insert",
	.what = "a subscription is made while the page changes, then a fault",
	.explanation =
		"Either the change finds the subscription, or the insert "
		"finds the change in its slot.",
	.setup = set_up_between,
	.each = number_thread,
	.threads = { insert_then_fault, change },
	.titles = { "insert, fault", "change" },
	.check = check,
};

const struct ladder_scenario notifier_remove = {
	.name = "notifier-remove",
	.what = "a subscription is removed and freed while the page changes",
	.explanation = "The remover waits for callbacks on their way.",
	.setup = set_up_inserted,
	.each = number_thread,
	.threads = { remove_and_free, change },
	.titles = { "remove", "change" },
};

const struct ladder_scenario notifier_crowded = {
	.name = "notifier-crowded",
	.what = "the same when all slots are in use",
	.explanation = "Changes without a slot go by a door that they share.",
	.setup = set_up_crowded,
	.each = number_thread,
	.threads = { remove_and_free, change },
	.titles = { "remove", "change" },
};

const struct ladder_scenario notifier_move = {
	.name = "notifier-move",
	.what = "a subscription is moved to a page that changes, beside a fault",
	.explanation = "A reader that has the new sequence sees that a change "
		       "is open.",
	.setup = set_up_changing,
	.each = number_thread,
	.threads = { fault, move_then_change },
	.titles = { "device fault", "move, change" },
	.check = check,
};

const struct ladder_scenario notifier_mail = {
	.name = "notifier-mail",
	.what = "the three CPUs of the mail, and a word for each range",
	.explanation =
		"The reader takes no lock and waits for changes of its own "
		"range only; the change\nelsewhere meets nobody.",
	.setup = set_up_inserted,
	.each = number_thread,
	.threads = { fault, change, change_elsewhere },
	.titles = { "device fault", "change", "elsewhere" },
	.check = check,
};
