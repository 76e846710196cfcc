/* SPDX-License-Identifier: MIT */
/*
 * How long things live: subscriptions that one thread makes and another takes
 * down, slots and states that go from hand to hand.
 *
 * The objects are plain memory: who looks at one too early or too late makes a
 * data race, or uses what is freed.
 */
#include <errno.h>

#include <mmn/notifier.h>

#include "base/atomic.h"
#include "base/lock.h"
#include "ladder/gallery/gallery.h"
#include "ladder/gallery/help.h"
#include "ladder/scenario.h"
#include "notifier/state.h"

#define PAGE UINT64_C(0x10000)
#define PAGE_LAST (PAGE + 4095)
#define OTHER UINT64_C(0x40000)
#define OTHER_LAST (OTHER + 4095)

static struct {
	struct mmn_state *state;
	struct mmn_state *elsewhere;
	struct mmn_range_subscription *sub;
	struct mmn_subscription *classic;
	/* descriptors in one page: both have the same slot in mind */
	struct mmn_invalidate_desc descs[2];
	/* plain: what callbacks and users write, each its own */
	uint32_t written[2];
	uint32_t released;
	uint32_t freed;
	/* const: a page that is subscribed from the beginning */
	uintptr_t old;
	/* const: where another one comes */
	uintptr_t start, last;
	/* plain: the change has found that there may be somebody */
	bool hit;
	/* atomic: the program's page table */
	uint32_t pte;
	/* plain: what the device holds, if anything */
	uint32_t shadow;
} life;

static bool invalidate(struct mmn_range_subscription *sub,
		       const struct mmn_invalidate_desc *desc, uint64_t seq)
{
	mmn_range_set_seq(sub, seq);
	return true;
}

static const struct mmn_range_ops range_ops = { .invalidate = invalidate };

static void name_state(void)
{
	struct mmn_state *state = life.state;

	ladder_name(&state->hall.phase, "hall.phase");
	ladder_name(&state->hall.waiting, "hall.waiting");
	ladder_name(&state->hall.common, "hall.common");
	ladder_name(&state->hall.mutex, "S");
	ladder_name(&state->slots[0].word, "slot[0]");
	ladder_name(&state->slots[1].word, "slot[1]");
	ladder_name(&state->slots[0].door, "door[0]");
	ladder_name(&state->slots[1].door, "door[1]");
	ladder_name(&state->refs, "state.refs");
	ladder_name(&life.descs[0].start, "desc[0].start");
	ladder_name(&life.written[0], "written[0]");
	ladder_name(&life.written[1], "written[1]");
	ladder_name(&life.released, "released");
	ladder_name(&life.freed, "freed");
}

static void set_up(void)
{
	struct mmn_range_config config = { .size = sizeof(config),
					   .ops = &range_ops };

	life.sub = calloc(1, sizeof(*life.sub));
	ladder_assert(!mmn_state_create(&life.state));
	ladder_assert(!mmn_range_subscription_init(life.sub, &config));
	name_state();
	ladder_name(&range_of(life.sub)->status, "sub.status");
	ladder_name(&range_of(life.sub)->seq, "sub.seq");
	ladder_name(&range_of(life.sub)->open, "sub.open");
}

/* ------------------------------------------------------------------ */
/* Range subscriptions                                                */
/* ------------------------------------------------------------------ */

static void insert(void)
{
	int ret = mmn_range_subscription_insert(life.sub, life.state, PAGE,
						PAGE_LAST);

	ladder_assert(!ret || ret == -EEXIST);
}

static void set_up_inserted(void)
{
	set_up();
	insert();
}

static void insert_it(void)
{
	ladder_note("inserts");
	insert();
}

static void remove_it(void)
{
	int ret;

	ladder_note("removes");
	ret = mmn_range_subscription_remove(life.sub);
	ladder_assert(!ret || ret == -ENOENT);
}

const struct ladder_scenario range_life = {
	.name = "range-life",
	.what = "a subscription is inserted by one thread, removed by another",
	.explanation = "Who finds it inserted finds all of it.",
	.setup = set_up,
	.each = number_thread,
	.threads = { insert_it, remove_it },
	.titles = { "insert", "remove" },
};

const struct ladder_scenario range_again = {
	.name = "range-again",
	.what = "a subscription is removed by one thread, inserted by another",
	.explanation = "Who finds it idle has it alone.",
	.setup = set_up_inserted,
	.each = number_thread,
	.threads = { remove_it, insert_it },
	.titles = { "remove", "insert" },
};

static void insert_by_edit(void)
{
	struct mmn_range_edit edit = {
		.op = MMN_RANGE_INSERT,
		.sub = life.sub,
		.start = PAGE,
		.last = PAGE_LAST,
	};
	int ret;

	ladder_note("inserts, as one step of several");
	ret = mmn_range_subscription_edit(life.state, &edit, 1);
	ladder_assert(!ret || ret == -EEXIST);
}

static void resize_it(void)
{
	int ret;

	ladder_note("resizes");
	ret = mmn_range_subscription_resize(life.sub, OTHER, OTHER_LAST);
	ladder_assert(!ret || ret == -ENOENT);
}

const struct ladder_scenario range_edit = {
	.name = "range-edit",
	.what = "a subscription is inserted by an edit, removed by another",
	.explanation = "Who finds it inserted finds all of it.",
	.setup = set_up,
	.each = number_thread,
	.threads = { insert_by_edit, remove_it },
	.titles = { "edit", "remove" },
};

const struct ladder_scenario range_edit_again = {
	.name = "range-edit-again",
	.what = "a subscription is removed by one thread, inserted by an edit",
	.explanation = "Who finds it idle has it alone.",
	.setup = set_up_inserted,
	.each = number_thread,
	.threads = { remove_it, insert_by_edit },
	.titles = { "remove", "edit" },
};

static void set_up_two_states(void)
{
	set_up();
	ladder_assert(!mmn_state_create(&life.elsewhere));
}

static void insert_elsewhere(void)
{
	ladder_assert(!mmn_range_subscription_insert(life.sub, life.elsewhere,
						     PAGE, PAGE_LAST));
}

static void insert_elsewhere_twice(void)
{
	ladder_note("inserts into another state");
	insert_elsewhere();
	ladder_note("removes and inserts again");
	ladder_assert(!mmn_range_subscription_remove(life.sub));
	insert_elsewhere();
}

static void remove_by_edit(void)
{
	struct mmn_range_edit edit = {
		.op = MMN_RANGE_REMOVE,
		.sub = life.sub,
	};

	ladder_note("removes it from a state that it is not in");
	ladder_assert(mmn_range_subscription_edit(life.state, &edit, 1) ==
		      -ENOENT);
}

const struct ladder_scenario range_elsewhere = {
	.name = "range-elsewhere",
	.what = "an edit of one state, while it comes to another and goes",
	.explanation = "Who finds it inserted finds where.",
	.setup = set_up_two_states,
	.each = number_thread,
	.threads = { insert_elsewhere_twice, remove_by_edit },
	.titles = { "insert", "edit" },
};

const struct ladder_scenario range_resize = {
	.name = "range-resize",
	.what = "a subscription is inserted by one thread, resized by another",
	.explanation = "Who finds it inserted finds all of it.",
	.setup = set_up,
	.each = number_thread,
	.threads = { insert_it, resize_it },
	.titles = { "insert", "resize" },
};

/* ------------------------------------------------------------------ */
/* Removed without waiting for its callbacks                          */
/* ------------------------------------------------------------------ */

static bool write_down(struct mmn_range_subscription *sub,
		       const struct mmn_invalidate_desc *desc, uint64_t seq)
{
	mmn_range_set_seq(sub, seq);
	life.written[0] = 1;
	return true;
}

static void release_range(struct mmn_range_subscription *sub)
{
	life.released = life.written[0] + 1;
	free(sub);
}

static const struct mmn_range_ops leaving_ops = {
	.invalidate = write_down,
	.release = release_range,
};

static void set_up_leaving(void)
{
	struct mmn_range_config config = { .size = sizeof(config),
					   .ops = &leaving_ops };

	set_up();
	life.written[0] = 0;
	ladder_assert(!mmn_range_subscription_init(life.sub, &config));
	insert();
}

static void leave(void)
{
	ladder_note("removes it, and goes on");
	ladder_assert(!mmn_range_subscription_remove_deferred(life.sub));
}

/* ------------------------------------------------------------------ */
/* Slots                                                              */
/* ------------------------------------------------------------------ */

static void change(struct mmn_invalidate_desc *desc, uintptr_t start)
{
	mmn_invalidate_desc_init(desc, life.state, MMN_EVENT_UNMAP, start,
				 start + 4095);
	ladder_assert(!mmn_invalidate_start(desc));
	ladder_assert(!mmn_invalidate_end(desc));
}

static void change_page(void)
{
	ladder_note("a change of the page");
	change(&life.descs[0], PAGE);
}

static void change_again(void)
{
	ladder_note("another one");
	change(&life.descs[1], PAGE);
}

const struct ladder_scenario slot_again = {
	.name = "slot-again",
	.what = "two changes of one page, one slot after the other's",
	.explanation = "The next owner of a slot goes on with its ids.",
	.setup = set_up_inserted,
	.each = number_thread,
	.threads = { change_page, change_again },
	.titles = { "change", "change" },
};

static void insert_looks(void)
{
	ladder_note("inserts elsewhere");
	ladder_assert(!mmn_range_subscription_insert(life.sub, life.state,
						     OTHER, OTHER_LAST));
}

static void change_then_reuse(void)
{
	struct mmn_invalidate_desc *desc = &life.descs[0];

	ladder_note("a change of the page");
	change(desc, PAGE);
	ladder_note("its descriptor is used for something else");
	desc->start = 1;
}

const struct ladder_scenario slot_look = {
	.name = "slot-look",
	.what = "an insert looks at a change that is none of its business",
	.explanation = "The owner does not have its descriptor back before the "
		       "insert has let go of it.",
	.setup = set_up,
	.each = number_thread,
	.threads = { insert_looks, change_then_reuse },
	.titles = { "insert", "change" },
};

static void change_twice(void)
{
	ladder_note("a change, and another one with its descriptor");
	change(&life.descs[0], PAGE);
	change(&life.descs[0], OTHER + 0x10000);
}

const struct ladder_scenario slot_twice = {
	.name = "slot-twice",
	.what = "an insert looks at a change that is over, and followed by "
		"another",
	.explanation = "The slot may hold the same descriptor with another "
		       "range by now; taking the slot makes\nthat one visible.",
	.setup = set_up,
	.each = number_thread,
	.threads = { insert_looks, change_twice },
	.titles = { "insert", "changes" },
};

/* ------------------------------------------------------------------ */
/* The filter                                                         */
/* ------------------------------------------------------------------ */

static struct mmn_range_subscription *make_sub(void)
{
	struct mmn_range_config config = { .size = sizeof(config),
					   .ops = &range_ops };
	struct mmn_range_subscription *sub = calloc(1, sizeof(*sub));

	ladder_assert(!mmn_range_subscription_init(sub, &config));
	return sub;
}

static void insert_at(struct mmn_range_subscription *sub, uintptr_t start,
		      uintptr_t last)
{
	ladder_assert(
		!mmn_range_subscription_insert(sub, life.state, start, last));
}

#define STEP UINT64_C(0x100000)
#define FAR (UINT64_C(1) << 46)

/* The map is filled in steps; the next insert publishes it. */
static void set_up_growing(void)
{
	struct filter *filter;
	uintptr_t at = PAGE;

	set_up_inserted();
	filter = &life.state->filter;
	while (!filter->next) {
		at += STEP;
		insert_at(make_sub(), at, at + 4095);
	}
	/* Only the last one is missing in it; nobody asks for the others. */
	filter->cursor_start = at - STEP;
	filter->cursor_birth = UINT64_MAX;
	life.old = at;
	life.sub = make_sub();
	ladder_name(&filter->map, "filter.map");
}

/* What is replaced is not a part of the filter, but allocated. */
static void set_up_growing_again(void)
{
	struct filter *filter;

	set_up_growing();
	filter = &life.state->filter;
	while (filter->next || !filter->current->block) {
		life.old += STEP;
		insert_at(make_sub(), life.old, life.old + 4095);
	}
	while (!filter->next) {
		life.old += STEP;
		insert_at(make_sub(), life.old, life.old + 4095);
	}
	filter->cursor_start = life.old - STEP;
	filter->cursor_birth = UINT64_MAX;
}

static void open_old(void)
{
	struct mmn_invalidate_desc *desc = &life.descs[0];

	ladder_note("a change of a page that was always subscribed");
	mmn_invalidate_desc_init(desc, life.state, MMN_EVENT_UNMAP, life.old,
				 life.old + 4095);
	ladder_assert(mmn_invalidate_open(desc));
}

/* Nobody is there, and nobody comes. */
static void change_beside(void)
{
	struct mmn_invalidate_desc *desc = &life.descs[0];

	ladder_note("a change of a page that nobody subscribes to");
	mmn_invalidate_desc_init(desc, life.state, MMN_EVENT_UNMAP,
				 life.old - STEP / 2,
				 life.old - STEP / 2 + 4095);
	if (mmn_invalidate_open(desc))
		return;
	ladder_assert(mmn_invalidate_close(desc) || !mmn_invalidate_end(desc));
}

/* ---- change and insert: one of them finds the other ---- */

static void set_up_first(void)
{
	set_up();
	life.hit = false;
	life.start = PAGE;
	life.last = PAGE_LAST;
	life.pte = OLD;
	life.shadow = NONE;
}

/* There are some below and above, so that the hull does not change. */
static void set_up_between(void)
{
	set_up_first();
	insert_at(make_sub(), PAGE, PAGE_LAST);
	insert_at(make_sub(), FAR, FAR + 4095);
	life.start = OTHER;
	life.last = OTHER_LAST;
}

/* So large that it is on no level. */
static void set_up_wide(void)
{
	set_up_between();
	life.start = 2 * PAGE;
	life.last = FAR - 1;
}

static void set_up_new_map(void)
{
	set_up_growing();
	life.hit = false;
	life.start = life.old - STEP / 2;
	life.last = life.start + 4095;
}

static void insert_between(void)
{
	ladder_note("inserts");
	insert_at(life.sub, life.start, life.last);
}

/* The first one publishes the map, the second one is in no other. */
static void insert_two(void)
{
	ladder_note("inserts, the map is replaced");
	insert_at(make_sub(), life.old - STEP - STEP / 2,
		  life.old - STEP - STEP / 2 + 4095);
	insert_between();
}

static void open_between(void)
{
	struct mmn_invalidate_desc *desc = &life.descs[0];

	ladder_note("a change begins");
	mmn_invalidate_desc_init(desc, life.state, MMN_EVENT_UNMAP, life.start,
				 life.start + 4095);
	life.hit = mmn_invalidate_open(desc);
}

static void hit_or_counted(void)
{
	ladder_assert(life.hit || open_count(range_of(life.sub)->open));
}

static void insert_and_read(void)
{
	insert_between();
	/* relaxed: what our own insert has counted stays open */
	if (open_count(mmn_load_relaxed(&range_of(life.sub)->open)))
		return;
	ladder_note("reads the page");
	/* relaxed: a page table is read by hardware, in any order */
	life.shadow = mmn_load_relaxed(&life.pte);
}

static void change_if_missed(void)
{
	open_between();
	/* relaxed: a page table is read by hardware, in any order */
	if (!life.hit)
		mmn_store_relaxed(&life.pte, NEW);
	/* One that somebody counts stays open, so that nobody has to wait. */
	if (mmn_invalidate_close(&life.descs[0]))
		ladder_note("nobody has counted it");
}

static void hit_or_new(void)
{
	ladder_assert(life.hit || life.shadow != OLD);
}

const struct ladder_scenario insert_first = {
	.name = "insert-first",
	.what = "a change begins while the first subscription is inserted",
	.explanation = "Either the change sees the filter's bounds, or the "
		       "insert sees the slot.",
	.setup = set_up_first,
	.each = number_thread,
	.threads = { insert_between, open_between },
	.titles = { "insert", "change" },
	.check = hit_or_counted,
};

const struct ladder_scenario insert_after = {
	.name = "insert-after",
	.what = "the same, and the change may be over by then",
	.explanation = "An insert that finds the slot free again sees what was "
		       "changed.",
	.setup = set_up_first,
	.each = number_thread,
	.threads = { insert_and_read, change_if_missed },
	.titles = { "insert, read", "change" },
	.check = hit_or_new,
};

const struct ladder_scenario insert_granule = {
	.name = "insert-granule",
	.what = "a change begins while a subscription is inserted amidst others",
	.explanation = "Either the change sees its bits in the map, or the "
		       "insert sees the slot.",
	.setup = set_up_between,
	.each = number_thread,
	.threads = { insert_between, open_between },
	.titles = { "insert", "change" },
	.check = hit_or_counted,
};

const struct ladder_scenario insert_wide = {
	.name = "insert-wide",
	.what = "the same with one that is too large for the map",
	.explanation = "Either the change sees its bounds, or the insert sees "
		       "the slot.",
	.setup = set_up_wide,
	.each = number_thread,
	.threads = { insert_between, open_between },
	.titles = { "insert", "change" },
	.check = hit_or_counted,
};

const struct ladder_scenario insert_new_map = {
	.name = "insert-new-map",
	.what = "the same with one that is in the new map only",
	.explanation = "Either the change sees the new map, or the insert sees "
		       "the slot.",
	.setup = set_up_new_map,
	.each = number_thread,
	.threads = { insert_two, open_between },
	.titles = { "inserts", "change" },
	.check = hit_or_counted,
};

const struct ladder_scenario filter_free = {
	.name = "filter-free",
	.what = "an insert replaces the filter's map while a page changes",
	.explanation = "The old map is freed when no change is open that may "
		       "look at it.",
	.setup = set_up_growing_again,
	.each = number_thread,
	.threads = { insert_looks, change_beside },
	.titles = { "insert", "change" },
};

const struct ladder_scenario filter_grow = {
	.name = "filter-grow",
	.what = "an insert publishes a larger filter while a page changes",
	.explanation = "Whichever map the change sees is filled.",
	.setup = set_up_growing,
	.each = number_thread,
	.threads = { insert_looks, open_old },
	.titles = { "insert", "change" },
};

/* ------------------------------------------------------------------ */
/* The state                                                          */
/* ------------------------------------------------------------------ */

static void set_up_two_references(void)
{
	ladder_assert(!mmn_state_create(&life.state));
	mmn_state_get(life.state);
	name_state();
}

static void look_and_put(void)
{
	ladder_note("a last look, and the reference");
	ladder_assert(!mmn_state_has_subscriptions(life.state));
	mmn_state_put(life.state);
}

const struct ladder_scenario state_put = {
	.name = "state-put",
	.what = "two threads put the last references to a state",
	.explanation = "The second one frees it behind the first one's look.",
	.setup = set_up_two_references,
	.each = number_thread,
	.threads = { look_and_put, look_and_put },
	.titles = { "put", "put" },
};

/* ------------------------------------------------------------------ */
/* Classic subscriptions                                              */
/* ------------------------------------------------------------------ */

static void classic_release(struct mmn_subscription *sub,
			    struct mmn_state *state)
{
	life.released++;
}

static int alloc_classic(struct mmn_state *state,
			 struct mmn_subscription **ret_sub)
{
	*ret_sub = calloc(1, sizeof(**ret_sub));
	return *ret_sub ? 0 : -ENOMEM;
}

static void free_classic(struct mmn_subscription *sub)
{
	life.freed = life.written[0] + life.written[1] + 1;
	free(sub);
}

static int start_of_change(struct mmn_subscription *sub,
			   const struct mmn_invalidate_desc *desc)
{
	life.written[desc - life.descs] = 1;
	/* The first one stops using it in the middle. */
	if (ladder_data() && desc == &life.descs[0])
		ladder_assert(!mmn_subscription_put(sub));
	return 0;
}

static const struct mmn_subscription_ops quiet_ops = {
	.release = classic_release,
	.alloc_subscription = alloc_classic,
	.free_subscription = free_classic,
};

static const struct mmn_subscription_ops watching_ops = {
	.alloc_subscription = alloc_classic,
	.free_subscription = free_classic,
	.invalidate_range_start = start_of_change,
};

static void set_up_classic(void)
{
	ladder_assert(!mmn_state_create(&life.state));
	name_state();
	life.written[0] = 0;
	life.written[1] = 0;
	life.released = 0;
	life.freed = 0;
	life.classic = calloc(1, sizeof(*life.classic));
	life.classic->ops = &quiet_ops;
}

static void set_up_registered(void)
{
	set_up_classic();
	ladder_assert(!mmn_subscription_register(life.classic, life.state));
}

static void register_it(void)
{
	int ret;

	ladder_note("registers");
	ret = mmn_subscription_register(life.classic, life.state);
	ladder_assert(!ret || ret == -EEXIST);
}

static void unregister_it(void)
{
	int ret;

	ladder_note("unregisters");
	ret = mmn_subscription_unregister(life.classic);
	ladder_assert(!ret || ret == -ENOENT);
}

const struct ladder_scenario classic_life = {
	.name = "classic-life",
	.what = "a classic subscription is registered by one thread, and "
		"unregistered by another",
	.explanation = "Who finds it registered finds all of it.",
	.setup = set_up_classic,
	.each = number_thread,
	.threads = { register_it, unregister_it },
	.titles = { "register", "unregister" },
};

static void release_state(void)
{
	struct mmn_sigmask saved;

	ladder_note("the address space ends");
	/* As in mmn_state_release(), after the change over all of it. */
	state_lock(life.state, &saved);
	classics_release(life.state);
	state_unlock(life.state, &saved);
}

/* On return its release op is over, whoever has called it. */
static void unregister_and_look(void)
{
	unregister_it();
	ladder_assert(life.released == 1);
	free(life.classic);
}

const struct ladder_scenario classic_released = {
	.name = "classic-released",
	.what = "an address space ends while its subscriber unregisters",
	.explanation = "One of the two calls the release op, and both return "
		       "when that is over.",
	.setup = set_up_registered,
	.each = number_thread,
	.threads = { release_state, unregister_and_look },
	.titles = { "release", "unregister" },
};

static void set_up_users(const struct mmn_subscription_ops *ops, int nr)
{
	set_up_classic();
	while (nr--)
		ladder_assert(
			!mmn_subscription_get(ops, life.state, &life.classic));
}

static void set_up_two_users(void)
{
	set_up_users(&quiet_ops, 2);
}

static void use_and_put_first(void)
{
	life.written[0] = 1;
	ladder_assert(!mmn_subscription_put(life.classic));
}

static void use_and_put_second(void)
{
	life.written[1] = 1;
	ladder_assert(!mmn_subscription_put(life.classic));
}

const struct ladder_scenario shared_put = {
	.name = "shared-put",
	.what = "two users put a shared subscription, the last one frees it",
	.explanation = "The free sees what both have done.",
	.setup = set_up_two_users,
	.each = number_thread,
	.threads = { use_and_put_first, use_and_put_second },
	.titles = { "user", "user" },
};

static void set_up_watching_user(void)
{
	set_up_users(&watching_ops, 1);
}

static void change_first(void)
{
	ladder_note("a change");
	change(&life.descs[0], PAGE);
}

static void start_change(struct mmn_invalidate_desc *desc)
{
	ladder_note("a change starts");
	mmn_invalidate_desc_init(desc, life.state, MMN_EVENT_UNMAP, PAGE,
				 PAGE_LAST);
	ladder_assert(!mmn_invalidate_start(desc));
}

static void start_first(void)
{
	start_change(&life.descs[0]);
}

static void start_second(void)
{
	start_change(&life.descs[1]);
}

const struct ladder_scenario shared_last = {
	.name = "shared-last",
	.what = "a shared subscription is put in a callback, beside another",
	.explanation = "Whose callback is over last frees it.",
	.setup = set_up_watching_user,
	.each = number_thread,
	.threads = { start_first, start_second },
	.titles = { "change, put", "change" },
	.data = &watching_ops,
};

const struct ladder_scenario range_leaves = {
	.name = "range-leaves",
	.what = "a subscription is removed, deferred, while it is called",
	.explanation = "Who is done with it last releases it.",
	.setup = set_up_leaving,
	.each = number_thread,
	.threads = { leave, start_first },
	.titles = { "remove", "change" },
};

static void put_and_wait(void)
{
	ladder_note("puts, and waits until it is freed");
	ladder_assert(!mmn_subscription_put(life.classic));
	ladder_assert(!mmn_subscription_synchronize());
	ladder_assert(life.freed);
}

const struct ladder_scenario shared_free = {
	.name = "shared-free",
	.what = "a shared subscription is put while it is called, and waited "
		"for",
	.explanation = "When synchronize returns, what was put is freed.",
	.setup = set_up_watching_user,
	.each = number_thread,
	.threads = { put_and_wait, change_first },
	.titles = { "put", "change" },
};
