/* SPDX-License-Identifier: MIT */
/*
 * The notifier against a model of it: arrays, a clock, and what the manual says.
 *
 * Bytes are a sequence of calls: subscriptions of both kinds come, go, move and
 * are edited; changes are started, in one call or in two, with and without
 * sleeping, and ended in any order; readers begin and end sections; questions
 * are asked; arguments are wrong.  What a callback answers, and what it does
 * itself, are bytes as well, so that calls happen in the middle of calls.
 *
 * After each step all that can be asked is compared: who was called, in which
 * order, how often; what waits; whose section has collided; the statistics; and
 * the result.  A call that fails changes nothing.
 *
 * One thread: what several do to each other is the business of the explorer
 * (doc/LADDER.md).  So no step may wait, and what would wait for ever is left
 * out, as is what the manual forbids without a promise what comes of it.
 */
#include <mmn/debug.h>
#include <mmn/notifier.h>

#include <errno.h>
#include <string.h>

#include "property/property.h"

/* Builds with a fault, which the property must notice; see tests/neg. */
#ifdef BUSTED_notifier
#include <mmn/inject.h>
#endif

#define NR_STATES 2
#define NR_RANGES 6
#define NR_CLASSICS 3
#define NR_SHARED 2
#define NR_FINISHES 32
/* More than the library has slots for. */
#define NR_CHANGES 40
/* So many changes are found by an insert before they are notified. */
#define NR_FOUND 32
/* A callback may make changes, whose callbacks may. */
#define MAX_WALKS 4
#define MAX_EDITS 4

/* ------------------------------------------------------------------ */
/* The model                                                          */
/* ------------------------------------------------------------------ */

struct space {
	struct mmn_state *state;
	bool is_released;
	uint64_t hits;
	uint64_t callbacks;
};

/* A range subscription. */
struct range {
	struct mmn_range_subscription sub;
	/* NULL: it is not inserted */
	struct space *space;
	uintptr_t start;
	uintptr_t last;
	/* when it came or moved; with its start the order of calls */
	uint64_t birth;
	/* changes from before that do not call it */
	uint64_t since;
	/* moves when readers have to start over */
	uint64_t epoch;
	/* removed, not given back: a callback or a second pass is to come back */
	bool is_leaving;
	unsigned int nr_callbacks;
	unsigned int nr_running;
	bool is_locked;
	/* what the last reader got */
	uint64_t seq;
	uint64_t seq_epoch;
	/* statistics */
	uint64_t callbacks;
	uint64_t retries;
	uint64_t waits;
};

/* A classic one, or one that is shared. */
struct classic {
	struct mmn_subscription sub;
	struct space *space;
	uint64_t birth;
	bool is_young;
	unsigned int releases;
	/* of shared ones */
	unsigned int nr_users;
	unsigned int frees;
};

enum phase {
	READY,
	/* opened, nobody was told */
	OPEN,
	/* on its way along the subscribers */
	WALKING,
	TOLD
};

enum stage { STARTS, FINISHES, CLASSIC_STARTS, CLASSIC_ENDS };

struct change {
	/* not that of a release: the library has its own */
	struct mmn_invalidate_desc desc;
	enum phase phase;
	struct space *space;
	uintptr_t start;
	uintptr_t last;
	uint32_t event;
	uint32_t flags;
	const void *owner;
	/* when it was opened, and when its walk began */
	uint64_t opened;
	uint64_t began;
	/* an insert finds it before it is notified */
	bool is_found;
	/* started in one step: the library knows who has it */
	bool is_own;
	/* what mmn_invalidate_open() said */
	bool must_notify;

	/* The walk. */
	struct change *outer;
	enum stage stage;
	/* somebody has moved since: then the order is open */
	bool has_moves;
	bool was_called;
	uintptr_t at_start;
	uint64_t at_birth;
	/* whose callback is under way */
	struct range *calling;
	/* who has to be called yet, and who was called */
	bool owes[NR_RANGES];
	bool has_called[NR_RANGES];
	unsigned int nr_called;
	bool is_refused;
	struct finish *first_finish;
	struct finish **end_finish;
	uint64_t at_classic;
	/* whom it has told, and who wants to hear of the end */
	bool has_told[NR_CLASSICS + NR_SHARED];
	bool wants_end[NR_CLASSICS + NR_SHARED];
};

struct finish {
	struct mmn_range_finish finish;
	struct range *range;
	struct finish *next;
	bool is_used;
};

static struct world {
	struct bytes input;
	uint64_t clock;
	struct space space[NR_STATES];
	struct range range[NR_RANGES];
	struct classic classic[NR_CLASSICS + NR_SHARED];
	struct change change[NR_CHANGES];
	struct finish finish[NR_FINISHES];
	/* the innermost walk */
	struct change *walk;
	unsigned int nr_walks;
	/* callbacks that have not returned */
	unsigned int depth;
	/* ... and may not be told of further changes */
	unsigned int nr_classic_calls;
	unsigned int reports;
	unsigned int reports_expected;
	struct classic *allocated;
} w;

static const char owners[2];

static uint64_t tick(void)
{
	return ++w.clock;
}

static unsigned int index_of(const struct range *range)
{
	return (unsigned int)(range - w.range);
}

static bool is_in_callback(void)
{
	return w.depth;
}

static void hear_report(const struct mmn_debug_report *report)
{
	w.reports++;
	say("  reported: %s", report->text);
	hold(w.reports <= w.reports_expected, "%s", report->text);
}

/* The call that comes is wrong use, which builds with self-checks report. */
static void expect_report(void)
{
	w.reports_expected += mmn_debug_is_enabled();
}

static bool overlaps(const struct range *range, uintptr_t start, uintptr_t last)
{
	return range->start <= last && start <= range->last;
}

/* The ranges of a kind: by index. */
static const void *owner_of(const struct range *range)
{
	unsigned int i = index_of(range);

	return i == 2 ? &owners[0] : i == 5 ? &owners[1] : NULL;
}

static bool is_two_pass(const struct range *range)
{
	return index_of(range) == 1 || index_of(range) == 5;
}

static bool can_release(const struct range *range)
{
	return index_of(range) != 4;
}

static bool concerns(const struct change *change, const struct range *range)
{
	return range->space == change->space &&
	       overlaps(range, change->start, change->last) &&
	       (!change->owner || change->owner != owner_of(range));
}

static bool key_before(uintptr_t start, uint64_t birth, uintptr_t other_start,
		       uint64_t other_birth)
{
	return start < other_start ||
	       (start == other_start && birth < other_birth);
}

static bool is_behind(const struct change *change, const struct range *range)
{
	return change->was_called &&
	       !key_before(change->at_start, change->at_birth, range->start,
			   range->birth);
}

/*
 * How many open changes readers of @range wait for, at least and at most.  Both
 * are the same unless a change that concerns it is just on its way.
 */
static void count_open(const struct range *range, unsigned int *least,
		       unsigned int *most)
{
	const struct change *change;
	bool surely;

	*least = *most = 0;
	if (!range->space)
		return;
	for (change = w.walk; change; change = change->outer) {
		if (change->phase != WALKING || !concerns(change, range))
			continue;
		*least += range->birth > change->began ||
			  change->has_called[index_of(range)];
		*most += 1;
	}
	for (change = w.change; change < w.change + NR_CHANGES; change++) {
		if ((change->phase != OPEN && change->phase != TOLD) ||
		    !concerns(change, range))
			continue;
		surely = change->phase == TOLD ||
			 (change->is_found && range->birth > change->opened);
		*least += surely;
		*most += surely;
	}
}

/* ------------------------------------------------------------------ */
/* All that can be asked                                              */
/* ------------------------------------------------------------------ */

static void check_sections(struct range *range, uint32_t open)
{
	uint64_t seq = ~UINT64_C(0);
	int ret;

	ret = mmn_range_read_begin_try(&range->sub, &seq);
	if (open) {
		hold(ret == -EAGAIN && !~seq, "%d, seq %lx", ret, seq);
	} else if (!range->space) {
		hold(!ret && !seq, "%d, seq %lx", ret, seq);
	} else {
		hold(!ret && seq & 1, "%d, seq %lx", ret, seq);
		hold(!range->seq || (seq == range->seq) ==
					    (range->epoch == range->seq_epoch),
		     "%lx then, %lx now", range->seq, seq);
	}
	hold(mmn_range_check_retry(&range->sub, range->seq) ==
		     (!range->space || !range->seq ||
		      range->epoch != range->seq_epoch),
	     "seq %lx", range->seq);
}

static void check_range(struct range *range)
{
	struct mmn_range_stats stats = { .size = sizeof(stats) };
	unsigned int least, most;

	hold(!mmn_range_get_stats(&range->sub, &stats), "range %u",
	     index_of(range));
	count_open(range, &least, &most);
	hold(stats.open >= least && stats.open <= most,
	     "range %u has %u open, not %u to %u", index_of(range), stats.open,
	     least, most);
	hold(stats.callbacks == range->callbacks, "range %u: %lu, not %lu",
	     index_of(range), stats.callbacks, range->callbacks);
	hold(stats.retries == range->retries && stats.waits == range->waits,
	     "range %u: %lu %lu", index_of(range), stats.retries, stats.waits);
	if (range->space) {
		hold(mmn_range_subscription_start(&range->sub) ==
				     range->start &&
			     mmn_range_subscription_last(&range->sub) ==
				     range->last,
		     "range %u", index_of(range));
	}
	hold(range->is_leaving == (range->nr_running && !range->space),
	     "range %u was not released", index_of(range));
	check_sections(range, stats.open);
}

static bool watches(const struct classic *classic)
{
	return classic - w.classic != 2;
}

static void check_space(struct space *space)
{
	struct mmn_state_stats stats = { .size = sizeof(stats) };
	unsigned int ranges = 0, classics = 0, open = 0, untold = 0, i;
	unsigned int hits = 0, callbacks = 0;
	struct change *change;
	bool is_watched = false;

	for (i = 0; i < NR_RANGES; i++)
		ranges += w.range[i].space == space;
	for (i = 0; i < NR_CLASSICS + NR_SHARED; i++) {
		if (w.classic[i].space != space)
			continue;
		classics++;
		is_watched |= watches(&w.classic[i]);
	}
	for (i = 0; i < NR_CHANGES; i++) {
		change = &w.change[i];
		if (change->space != space || change->phase == READY)
			continue;
		open++;
		untold += change->phase == OPEN && !change->is_found;
	}
	/* What a change has called is counted when it is through. */
	for (change = w.walk; change; change = change->outer) {
		if (change->space != space)
			continue;
		open += change->event == MMN_EVENT_RELEASE;
		hits += change->nr_called != 0;
		callbacks += change->nr_called;
	}
	hold(!mmn_state_get_stats(space->state, &stats), "space");
	hold(stats.open <= open && stats.open >= open - untold,
	     "%u open, not %u, %u of them perhaps", stats.open, open, untold);
	hold(stats.ranges == ranges && stats.classics == classics,
	     "%lu ranges, %lu classics", stats.ranges, stats.classics);
	hold(stats.hits <= space->hits && stats.hits >= space->hits - hits &&
		     stats.callbacks <= space->callbacks &&
		     stats.callbacks >= space->callbacks - callbacks,
	     "%lu hits, not %lu; %lu callbacks, not %lu", stats.hits,
	     space->hits, stats.callbacks, space->callbacks);
	hold(mmn_state_has_subscriptions(space->state) ==
		     (ranges || is_watched),
	     "%u ranges", ranges);
}

static void check_all(void)
{
	unsigned int i;

	hold(w.reports == w.reports_expected, "%u of %u reports", w.reports,
	     w.reports_expected);
	for (i = 0; i < NR_RANGES; i++)
		check_range(&w.range[i]);
	for (i = 0; i < NR_STATES; i++)
		check_space(&w.space[i]);
}

/* ------------------------------------------------------------------ */
/* Callbacks                                                          */
/* ------------------------------------------------------------------ */

static void step(void);

/* What else happens in a callback. */
static void steps_inside(unsigned int nr)
{
	while (nr-- && bytes_left(&w.input))
		step();
}

static struct change *told_now(const struct mmn_invalidate_desc *desc)
{
	struct change *change = w.walk;

	hold(change && change->phase == WALKING, "called without a change");
	hold(desc->start == change->start && desc->last == change->last &&
		     desc->event == change->event &&
		     desc->flags == change->flags &&
		     desc->owner == change->owner &&
		     desc->state == change->space->state,
	     "another change");
	hold(change->event == MMN_EVENT_RELEASE || desc == &change->desc,
	     "a copy of the change");
	return change;
}

static void check_turn(struct change *change, struct range *range)
{
	unsigned int i;

	hold(!change->is_refused && change->stage == STARTS, "range %u",
	     index_of(range));
	hold(concerns(change, range), "range %u", index_of(range));
	hold(range->since < change->began, "range %u is younger",
	     index_of(range));
	if (change->has_moves)
		return;
	hold(!is_behind(change, range), "range %u", index_of(range));
	for (i = 0; i < NR_RANGES; i++)
		hold(!change->owes[i] || &w.range[i] == range ||
			     key_before(range->start, range->birth,
					w.range[i].start, w.range[i].birth),
		     "range %u before range %u", index_of(range), i);
}

static struct change *begin_call(struct range *range,
				 const struct mmn_invalidate_desc *desc)
{
	struct change *change = told_now(desc);

	say("  range %u is called", index_of(range));
	check_turn(change, range);
	change->was_called = true;
	change->at_start = range->start;
	change->at_birth = range->birth;
	change->owes[index_of(range)] = false;
	change->has_called[index_of(range)] = true;
	if (!change->nr_called++)
		change->space->hits++;
	change->space->callbacks++;
	change->calling = range;
	range->callbacks++;
	range->nr_running++;
	range->nr_callbacks++;
	w.depth++;
	return change;
}

static void end_call(struct change *change, struct range *range)
{
	w.depth--;
	range->nr_callbacks--;
	range->nr_running--;
	change->calling = NULL;
}

static void set_seq(struct range *range, uint64_t birth, uint64_t cur_seq)
{
	hold(cur_seq & 1, "%lx", cur_seq);
	range->is_locked = true;
	mmn_range_set_seq(&range->sub, cur_seq);
	range->is_locked = false;
	/* Who has moved has a newer number already. */
	if (range->birth == birth)
		range->epoch++;
}

/*
 * One byte: what it answers, when it tells its readers, whether it wants a second
 * pass, and how much it does itself.
 */
static bool answer(struct range *range, struct change *change, uint8_t how,
		   uint64_t cur_seq)
{
	bool can_sleep = change->flags & MMN_INVALIDATE_BLOCKABLE;
	uint64_t birth = range->birth;

	if (!(how & 0x24))
		set_seq(range, birth, cur_seq);
	if (how & 0x10)
		steps_inside(1 + (how >> 6));
	if ((how & 0x24) == 0x20)
		set_seq(range, birth, cur_seq);
	if ((how & 3) != 3)
		return true;
	if (!can_sleep) {
		change->is_refused = true;
		return false;
	}
	if (how & 4)
		return true;
	expect_report();
	return false;
}

static bool invalidate(struct mmn_range_subscription *sub,
		       const struct mmn_invalidate_desc *desc, uint64_t cur_seq)
{
	struct range *range = (struct range *)sub;
	struct change *change = begin_call(range, desc);
	bool accepted;

	hold(!is_two_pass(range), "range %u", index_of(range));
	accepted = answer(range, change, next_byte(&w.input), cur_seq);
	end_call(change, range);
	return accepted;
}

static struct finish *new_finish(struct range *range)
{
	struct finish *finish;

	for (finish = w.finish; finish < w.finish + NR_FINISHES; finish++) {
		if (finish->is_used)
			continue;
		finish->is_used = true;
		finish->range = range;
		finish->next = NULL;
		return finish;
	}
	return NULL;
}

static struct finish *first_finish(const struct change *change,
				   const struct range *range)
{
	struct finish *finish = change->first_finish;

	while (finish && finish->range != range)
		finish = finish->next;
	return finish;
}

static bool invalidate_start(struct mmn_range_subscription *sub,
			     const struct mmn_invalidate_desc *desc,
			     uint64_t cur_seq,
			     struct mmn_range_finish **ret_finish)
{
	struct range *range = (struct range *)sub;
	struct change *change = begin_call(range, desc);
	struct finish *finish = NULL;
	uint8_t how = next_byte(&w.input);
	bool accepted;

	hold(is_two_pass(range) && !*ret_finish, "range %u", index_of(range));
	accepted = answer(range, change, how, cur_seq);
	if (!(how & 1))
		finish = how & 8 ? first_finish(change, range) : NULL;
	if (finish) {
		/* Called again because it has moved: one pass will do. */
		*ret_finish = &finish->finish;
		end_call(change, range);
		return accepted;
	}
	if (!(how & 1))
		finish = new_finish(range);
	if (finish) {
		*ret_finish = &finish->finish;
		*change->end_finish = finish;
		change->end_finish = &finish->next;
		range->nr_running++;
	} else if (!accepted && how & 0x40) {
		/* Dropped together with what it came with. */
		*ret_finish = &w.finish[NR_FINISHES - 1].finish;
	}
	end_call(change, range);
	return accepted;
}

static void invalidate_finish(struct mmn_range_finish *public_finish)
{
	struct finish *finish = (struct finish *)public_finish;
	struct change *change = w.walk;
	struct range *range = finish->range;
	uint8_t how;

	say("  range %u is finished", index_of(range));
	hold(change && (change->stage == STARTS || change->stage == FINISHES),
	     "range %u", index_of(range));
	change->stage = FINISHES;
	hold(change->first_finish == finish &&
		     public_finish->sub == &range->sub,
	     "range %u: not its turn", index_of(range));
	change->first_finish = finish->next;
	finish->is_used = false;
	w.depth++;
	range->nr_callbacks++;
	how = next_byte(&w.input);
	if (how & 0x10)
		steps_inside(1 + (how >> 6));
	range->nr_callbacks--;
	range->nr_running--;
	w.depth--;
}

static void insert_into(struct range *range, struct space *space,
			uintptr_t start, uintptr_t last);

static void release(struct mmn_range_subscription *sub)
{
	struct range *range = (struct range *)sub;
	uint8_t how;

	say("  range %u is released", index_of(range));
	hold(range->is_leaving && !range->nr_running && can_release(range),
	     "range %u", index_of(range));
	range->is_leaving = false;
	how = next_byte(&w.input);
	if (!(how & 0x10))
		return;
	insert_into(range, &w.space[how & 1], how * 0x1000ul,
		    how * 0x1000ul + 0x3fff);
}

static bool is_locked(void *lock)
{
	return ((struct range *)lock)->is_locked;
}

/* ---- classic ones ---- */

static struct classic *classic_of(struct mmn_subscription *sub)
{
	return (struct classic *)sub;
}

static void check_classic_turn(struct change *change,
			       const struct classic *classic, enum stage stage)
{
	hold(!change->first_finish, "second passes are left");
	if (change->stage != stage) {
		hold(change->stage < stage, "stage %d", change->stage);
		change->stage = stage;
		change->at_classic = 0;
	}
	hold(classic->birth > change->at_classic, "not its turn");
	change->at_classic = classic->birth;
}

static int classic_start(struct mmn_subscription *sub,
			 const struct mmn_invalidate_desc *desc)
{
	struct classic *classic = classic_of(sub);
	unsigned int i = (unsigned int)(classic - w.classic);
	struct change *change = told_now(desc);
	uint8_t how = next_byte(&w.input);

	say("  classic %u is called", i);
	hold(classic->space == change->space && !change->has_told[i],
	     "classic %u", i);
	check_classic_turn(change, classic, CLASSIC_STARTS);
	change->has_told[i] = true;
	change->wants_end[i] = i != 1;
	w.depth++;
	w.nr_classic_calls++;
	if (how & 0x10)
		steps_inside(1 + (how >> 6));
	w.nr_classic_calls--;
	w.depth--;
	if (i != 1 || !(how & 1) || change->flags & MMN_INVALIDATE_BLOCKABLE)
		return 0;
	change->is_refused = true;
	return -EAGAIN;
}

static void classic_end(struct mmn_subscription *sub,
			const struct mmn_invalidate_desc *desc)
{
	struct classic *classic = classic_of(sub);
	unsigned int i = (unsigned int)(classic - w.classic);
	struct change *change = told_now(desc);

	say("  classic %u hears the end", i);
	hold(classic->space == change->space && change->wants_end[i],
	     "classic %u", i);
	check_classic_turn(change, classic, CLASSIC_ENDS);
	change->wants_end[i] = false;
}

static void classic_release(struct mmn_subscription *sub,
			    struct mmn_state *state)
{
	struct classic *classic = classic_of(sub);

	hold(classic->space && classic->space->state == state,
	     "a stranger is released");
	classic->releases++;
}

static bool clear_young(struct mmn_subscription *sub, struct mmn_state *state,
			uintptr_t start, uintptr_t last)
{
	struct classic *classic = classic_of(sub);
	bool was_young = classic->is_young;

	hold(classic->space && classic->space->state == state && start <= last,
	     "a stranger is asked");
	classic->is_young = false;
	return was_young;
}

static bool test_young(struct mmn_subscription *sub, struct mmn_state *state,
		       uintptr_t addr)
{
	(void)state;
	(void)addr;
	return classic_of(sub)->is_young;
}

static unsigned int flushes;

static void flush_tlbs(struct mmn_subscription *sub, struct mmn_state *state,
		       uintptr_t start, uintptr_t last)
{
	hold(classic_of(sub)->space->state == state && start <= last,
	     "a stranger is flushed");
	flushes++;
}

static int alloc_shared(struct mmn_state *state,
			struct mmn_subscription **ret_sub)
{
	(void)state;
	if (!w.allocated)
		return -ENOMEM;
	*ret_sub = &w.allocated->sub;
	return 0;
}

static void free_shared(struct mmn_subscription *sub)
{
	classic_of(sub)->frees++;
}

static const struct mmn_range_ops one_pass = { .invalidate = invalidate,
					       .release = release };
static const struct mmn_range_ops unreleased = { .invalidate = invalidate };
static const struct mmn_range_ops two_pass = {
	.invalidate_start = invalidate_start,
	.invalidate_finish = invalidate_finish,
	.release = release,
};
static const struct mmn_subscription_ops watching = {
	.release = classic_release,
	.invalidate_range_start = classic_start,
	.invalidate_range_end = classic_end,
};
static const struct mmn_subscription_ops refusing = {
	.release = classic_release,
	.invalidate_range_start = classic_start,
};
static const struct mmn_subscription_ops ageing = {
	.release = classic_release,
	.clear_flush_young = clear_young,
	.clear_young = clear_young,
	.test_young = test_young,
	.invalidate_secondary_tlbs = flush_tlbs,
};
static const struct mmn_subscription_ops shared = {
	.invalidate_range_start = classic_start,
	.invalidate_range_end = classic_end,
	.alloc_subscription = alloc_shared,
	.free_subscription = free_shared,
};

/* ------------------------------------------------------------------ */
/* Arguments                                                          */
/* ------------------------------------------------------------------ */

static struct space *next_space(uint8_t byte)
{
	/* Mostly the first one: then they meet. */
	return &w.space[(byte & 7) == 7];
}

static struct range *next_range(void)
{
	return &w.range[next_byte(&w.input) % NR_RANGES];
}

/* One of the first ones, which come up again; of all; or one that is not open. */
static struct change *next_change(void)
{
	uint8_t byte = next_byte(&w.input);
	unsigned int i = byte & 0x80 ? byte % NR_CHANGES : byte % 4;

	if (byte & 0x40)
		while (i < NR_CHANGES - 1 && w.change[i].phase != READY)
			i++;
	return &w.change[i];
}

/*
 * Mostly some pages, so that they meet; and of all sizes, since the filter looks
 * at each size otherwise: in units of a page, a byte, 2 MiB, 64 GiB; and the ends.
 */
static uintptr_t next_address(void)
{
	static const unsigned int shift[4] = { 12, 0, 21, 36 };
	uint8_t byte = next_byte(&w.input);

	if (byte == 0xff)
		return UINTPTR_MAX;
	if (byte == 0xfe)
		return UINTPTR_MAX - 0xfff;
	if (byte < 0xc0)
		return (byte & 0x1f) * 0x1000ul;
	return (uintptr_t)(byte & 0x0f) << shift[byte >> 4 & 3];
}

/* Now and then the wrong way around. */
static void next_addresses(uintptr_t *start, uintptr_t *last)
{
	uintptr_t end;
	uint8_t how;

	*start = next_address();
	how = next_byte(&w.input);
	if (how >= 0xe0) {
		*last = next_address();
		return;
	}
	end = *start + how * 0x200ul;
	*last = end < *start ? UINTPTR_MAX : end;
}

/* ------------------------------------------------------------------ */
/* Subscriptions come and go                                          */
/* ------------------------------------------------------------------ */

/* Where it comes or goes to, an older walk must not call it in its callback. */
static bool may_be_at(const struct range *range, const struct space *space,
		      uintptr_t start, uintptr_t last)
{
	const struct change *change;

	if (!range->nr_callbacks)
		return true;
	for (change = w.walk; change; change = change->outer)
		if (change->space == space && change->calling != range &&
		    start <= change->last && change->start <= last)
			return false;
	return true;
}

static void link(struct range *range, struct space *space, uintptr_t start,
		 uintptr_t last)
{
	range->space = space;
	range->start = start;
	range->last = last;
	range->birth = tick();
	range->epoch++;
}

static void unlink(struct range *range)
{
	struct change *change;

	for (change = w.walk; change; change = change->outer)
		change->owes[index_of(range)] = false;
	range->space = NULL;
	range->epoch++;
}

static int may_insert(const struct range *range, const struct space *space,
		      uintptr_t start, uintptr_t last)
{
	if (last < start)
		return -EINVAL;
	if (range->space || range->is_leaving)
		return -EEXIST;
	return space->is_released ? -EINVAL : 0;
}

static void insert_into(struct range *range, struct space *space,
			uintptr_t start, uintptr_t last)
{
	int want = may_insert(range, space, start, last);

	say("insert range %u at %lx-%lx: %d", index_of(range), start, last,
	    want);
	hold(mmn_range_subscription_insert(&range->sub, space->state, start,
					   last) == want,
	     "not %d", want);
	if (want)
		return;
	link(range, space, start, last);
	range->since = range->birth;
}

static void step_insert(void)
{
	uint8_t which = next_byte(&w.input);
	struct range *range = &w.range[which % NR_RANGES];
	uintptr_t start, last;

	next_addresses(&start, &last);
	insert_into(range, next_space(which >> 3), start, last);
}

static void step_remove(void)
{
	struct range *range = next_range();
	int want = range->space ? 0 : -ENOENT;

	if (is_in_callback()) {
		want = -EDEADLK;
		expect_report();
	}
	say("remove range %u: %d", index_of(range), want);
	hold(mmn_range_subscription_remove(&range->sub) == want, "not %d",
	     want);
	if (!want)
		unlink(range);
}

static void step_remove_deferred(void)
{
	struct range *range = next_range();
	int want = 0;

	if (!range->space)
		want = -ENOENT;
	else if (!can_release(range))
		want = -EINVAL;
	say("remove range %u deferred: %d", index_of(range), want);
	if (!want) {
		unlink(range);
		range->is_leaving = true;
	}
	hold(mmn_range_subscription_remove_deferred(&range->sub) == want,
	     "not %d", want);
}

/* ---- edits ---- */

struct part {
	struct range *range;
	uint32_t op;
	struct space *old_space;
	uintptr_t old_start;
	uintptr_t old_last;
	uint64_t old_since;
	uintptr_t start;
	uintptr_t last;
	bool is_removal;
};

/*
 * Changes under way that would have called an old range call the new one, where
 * both have bytes in common.
 */
static void take_over(struct change *change, const bool owed[NR_RANGES],
		      const struct part *part, const struct part *old)
{
	unsigned int to = index_of(part->range), from = index_of(old->range);

	if (owed[from] || (change->calling == old->range && to != from))
		change->owes[to] |= concerns(change, part->range);
}

static bool have_common(const struct part *part, const struct part *old)
{
	return !part->is_removal && old->op != MMN_RANGE_INSERT &&
	       old->old_start <= part->last && part->start <= old->old_last;
}

static void hand_over(struct change *change, const struct part *parts,
		      unsigned int nr)
{
	bool owed[NR_RANGES];
	unsigned int i, j;

	memcpy(owed, change->owes, sizeof(owed));
	for (i = 0; i < nr; i++)
		change->owes[index_of(parts[i].range)] = false;
	for (i = 0; i < nr; i++)
		for (j = 0; j < nr; j++)
			if (have_common(&parts[i], &parts[j]))
				take_over(change, owed, &parts[i], &parts[j]);
	change->has_moves = true;
}

static void apply_part(struct part *part, struct space *space)
{
	struct range *range = part->range;

	if (part->is_removal) {
		range->space = NULL;
		range->epoch++;
		range->is_leaving = part->op == MMN_RANGE_REMOVE_DEFERRED;
		return;
	}
	link(range, space, part->start, part->last);
	if (part->op == MMN_RANGE_INSERT)
		range->since = range->birth;
}

static void apply(struct space *space, struct part *parts, unsigned int nr)
{
	struct change *change;
	unsigned int i, j;

	for (i = 0; i < nr; i++) {
		parts[i].old_start = parts[i].range->start;
		parts[i].old_last = parts[i].range->last;
		parts[i].old_since = parts[i].range->since;
	}
	for (i = 0; i < nr; i++)
		apply_part(&parts[i], space);
	for (i = 0; i < nr; i++)
		for (j = 0; j < nr; j++)
			if (have_common(&parts[i], &parts[j]) &&
			    parts[j].old_since < parts[i].range->since)
				parts[i].range->since = parts[j].old_since;
	for (change = w.walk; change; change = change->outer)
		if (change->space == space)
			hand_over(change, parts, nr);
	for (change = w.change; change < w.change + NR_CHANGES; change++)
		change->has_moves |= change->space == space;
}

/* The first mistake counts; those that can be seen in the arguments come first. */
static int check_arguments(const struct mmn_range_edit *edits, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		const struct mmn_range_edit *edit = &edits[i];

		if (!edit->sub || edit->op > MMN_RANGE_RESIZE || edit->flags)
			return -EINVAL;
		if ((edit->op == MMN_RANGE_INSERT ||
		     edit->op == MMN_RANGE_RESIZE) &&
		    edit->last < edit->start)
			return -EINVAL;
		if (edit->op == MMN_RANGE_REMOVE && is_in_callback()) {
			expect_report();
			return -EDEADLK;
		}
	}
	return 0;
}

static int check_part(const struct space *space, const struct part *parts,
		      unsigned int i)
{
	const struct range *range = parts[i].range;
	unsigned int j;

	for (j = 0; j < i; j++)
		if (parts[j].range == range)
			return -EINVAL;
	if (parts[i].op == MMN_RANGE_INSERT)
		return space->is_released		   ? -EINVAL
		       : range->space || range->is_leaving ? -EEXIST
							   : 0;
	if (range->space != space)
		return -ENOENT;
	return parts[i].op == MMN_RANGE_REMOVE_DEFERRED && !can_release(range)
		       ? -EINVAL
		       : 0;
}

static int check_edit(const struct space *space,
		      const struct mmn_range_edit *edits,
		      const struct part *parts, unsigned int nr)
{
	int want = check_arguments(edits, nr);
	unsigned int i;

	for (i = 0; i < nr && !want; i++)
		want = check_part(space, parts, i);
	return want;
}

static void next_part(struct mmn_range_edit *edit, struct part *part)
{
	uint8_t what = next_byte(&w.input);

	part->range = &w.range[what % NR_RANGES];
	part->op = what >> 3 & 3;
	*edit = (struct mmn_range_edit){
		.op = part->op,
		.sub = &part->range->sub,
	};
	part->is_removal = part->op == MMN_RANGE_REMOVE ||
			   part->op == MMN_RANGE_REMOVE_DEFERRED;
	if (!part->is_removal)
		next_addresses(&edit->start, &edit->last);
	part->start = edit->start;
	part->last = edit->last;
	if (what == 0xff)
		edit->flags = 1;
	else if (what == 0xfe)
		edit->op = MMN_RANGE_RESIZE + 1;
	else if (what == 0xfd)
		edit->sub = NULL;
}

static void step_edit(void)
{
	struct mmn_range_edit edits[MAX_EDITS];
	struct part parts[MAX_EDITS];
	uint8_t how = next_byte(&w.input);
	struct space *space = next_space(how >> 2);
	unsigned int nr = how % (MAX_EDITS + 1), i;
	int want;

	for (i = 0; i < nr; i++) {
		next_part(&edits[i], &parts[i]);
		if (!parts[i].is_removal &&
		    !may_be_at(parts[i].range, space, parts[i].start,
			       parts[i].last))
			return;
	}
	want = check_edit(space, edits, parts, nr);
	for (i = 0; i < nr; i++)
		say("edit %u of %u: op %u range %u %lx-%lx: %d", i, nr,
		    edits[i].op, index_of(parts[i].range), edits[i].start,
		    edits[i].last, want);
	if (!want)
		apply(space, parts, nr);
	hold(mmn_range_subscription_edit(space->state, edits, nr) == want,
	     "not %d", want);
}

static void step_resize(void)
{
	struct range *range = next_range();
	struct part part = { .range = range, .op = MMN_RANGE_RESIZE };
	int want = 0;

	next_addresses(&part.start, &part.last);
	if (part.last < part.start)
		want = -EINVAL;
	else if (!range->space)
		want = -ENOENT;
	else if (!may_be_at(range, range->space, part.start, part.last))
		return;
	say("resize range %u to %lx-%lx: %d", index_of(range), part.start,
	    part.last, want);
	if (!want)
		apply(range->space, &part, 1);
	hold(mmn_range_subscription_resize(&range->sub, part.start,
					   part.last) == want,
	     "not %d", want);
}

/* ------------------------------------------------------------------ */
/* Changes                                                            */
/* ------------------------------------------------------------------ */

static bool is_watched(const struct space *space)
{
	unsigned int i;

	for (i = 0; i < NR_CLASSICS + NR_SHARED; i++)
		if (w.classic[i].space == space && watches(&w.classic[i]))
			return true;
	return false;
}

/* Would it call somebody who is just being called? */
static bool is_allowed(const struct change *change)
{
	unsigned int i;

	if (w.nr_walks == MAX_WALKS || w.nr_classic_calls)
		return false;
	for (i = 0; i < NR_RANGES; i++)
		if (w.range[i].nr_callbacks && concerns(change, &w.range[i]))
			return false;
	return true;
}

static bool must_not_sleep(void)
{
	const struct change *change;

	for (change = w.walk; change; change = change->outer)
		if (!(change->flags & MMN_INVALIDATE_BLOCKABLE))
			return true;
	return false;
}

/* Is there room among those that inserts look through? */
static bool is_room(const struct space *space)
{
	const struct change *change;
	unsigned int nr = 0;

	for (change = w.change; change < w.change + NR_CHANGES; change++)
		nr += change->space == space && change->phase != READY &&
		      change->is_found;
	return nr < NR_FOUND;
}

static void begin_walk(struct change *change)
{
	unsigned int i;

	change->phase = WALKING;
	change->began = tick();
	change->outer = w.walk;
	w.walk = change;
	w.nr_walks++;
	change->stage = STARTS;
	change->was_called = false;
	change->calling = NULL;
	change->nr_called = 0;
	change->is_refused = false;
	change->first_finish = NULL;
	change->end_finish = &change->first_finish;
	memset(change->has_called, 0, sizeof(change->has_called));
	memset(change->has_told, 0, sizeof(change->has_told));
	memset(change->wants_end, 0, sizeof(change->wants_end));
	for (i = 0; i < NR_RANGES; i++)
		change->owes[i] = concerns(change, &w.range[i]) &&
				  w.range[i].since < change->opened;
}

static void check_told(const struct change *change)
{
	bool is_due = change->event != MMN_EVENT_RELEASE &&
		      !(change->is_refused && change->stage < CLASSIC_STARTS);
	unsigned int i;

	hold(!change->first_finish, "second passes are left");
	for (i = 0; i < NR_RANGES; i++)
		hold(change->is_refused || !change->owes[i],
		     "range %u was not called", i);
	for (i = 0; i < NR_CLASSICS + NR_SHARED; i++) {
		hold(change->has_told[i] ==
			     (is_due && watches(&w.classic[i]) &&
			      w.classic[i].space == change->space),
		     "classic %u", i);
		hold(!change->is_refused || !change->wants_end[i],
		     "classic %u heard of no end", i);
	}
}

/* What the call has to return. */
static int end_walk(struct change *change)
{
	hold(w.walk == change, "walks cross");
	w.walk = change->outer;
	w.nr_walks--;
	check_told(change);
	change->phase = change->is_refused ? READY : TOLD;
	return change->is_refused ? -EAGAIN : 0;
}

/*
 * Two bytes and a range: where it is, who makes it, what it is, and whether it
 * may sleep.
 */
static void next_desc(struct change *change)
{
	uint8_t how = next_byte(&w.input), what = next_byte(&w.input);
	struct space *space = next_space(how);
	uintptr_t start, last;
	uint32_t event;

	next_addresses(&start, &last);
	event = what % (MMN_NR_EVENTS - 1);
	event += event >= MMN_EVENT_RELEASE;
	if (what == 0xff)
		event = MMN_NR_EVENTS;
	mmn_invalidate_desc_init(&change->desc, space->state, event, start,
				 last);
	if (what == 0xfe)
		change->desc.state = NULL;
	change->desc.owner = (how & 0x48) == 0x48 ? &owners[how >> 7] : NULL;
	if (how & 0x20)
		change->desc.flags |= MMN_INVALIDATE_LAZY;
	if (how & 0x10 || must_not_sleep())
		change->desc.flags &= ~MMN_INVALIDATE_BLOCKABLE;
	change->space = space;
	change->start = start;
	change->last = last;
	change->event = event;
	change->flags = change->desc.flags;
	change->owner = change->desc.owner;
}

static bool is_valid(const struct change *change)
{
	return change->desc.state && change->start <= change->last &&
	       change->event < MMN_NR_EVENTS;
}

static void be_open(struct change *change, bool is_own)
{
	change->is_found = is_room(change->space);
	change->is_own = is_own;
	change->has_moves = false;
	change->opened = tick();
	change->phase = OPEN;
}

/* What may not sleep says so by the function's name or by the flag. */
static int start(struct change *change, bool in_words)
{
	if (!in_words)
		return mmn_invalidate_start(&change->desc);
	return mmn_invalidate_start_nonblock(&change->desc);
}

static void step_start(void)
{
	struct change *change = next_change();
	bool in_words;
	int ret, want;

	if (change->phase != READY) {
		say("start change %zd, which is open", change - w.change);
		hold(mmn_invalidate_start(&change->desc) == -EINVAL, "open");
		return;
	}
	next_desc(change);
	in_words = !(change->flags & MMN_INVALIDATE_BLOCKABLE) &&
		   change->flags & MMN_INVALIDATE_LAZY;
	say("start change %zd over %lx-%lx, event %u, flags %x, owner %d",
	    change - w.change, change->start, change->last, change->event,
	    change->flags, !!change->owner);
	if (!is_valid(change)) {
		hold(start(change, in_words) == -EINVAL, "wrong");
		return;
	}
	if (!is_allowed(change))
		return;
	be_open(change, true);
	begin_walk(change);
	ret = start(change, in_words);
	want = end_walk(change);
	hold(ret == want, "%d, not %d", ret, want);
}

static void open_change(struct change *change)
{
	unsigned int i;

	next_desc(change);
	say("open change %zd over %lx-%lx", change - w.change, change->start,
	    change->last);
	/* The event is looked at by who is told of it. */
	if (!change->desc.state || change->start > change->last) {
		hold(mmn_invalidate_open(&change->desc), "wrong");
		hold(mmn_invalidate_notify(&change->desc) == -EINVAL, "wrong");
		return;
	}
	if (!is_valid(change))
		return;
	be_open(change, false);
	change->must_notify = mmn_invalidate_open(&change->desc);
	if (change->must_notify)
		return;
	hold(!is_watched(change->space), "nobody is told");
	for (i = 0; i < NR_RANGES; i++)
		hold(!concerns(change, &w.range[i]), "range %u is not told", i);
}

static void step_open(void)
{
	struct change *change = next_change();

	if (change->phase != READY) {
		hold(mmn_invalidate_open(&change->desc), "it is open");
		return;
	}
	open_change(change);
}

/* More than there are slots. */
static void step_open_many(void)
{
	unsigned int nr = next_byte(&w.input) % NR_CHANGES, i;
	struct bytes input = w.input;

	for (i = 0; i < nr; i++) {
		if (w.change[i].phase != READY)
			continue;
		/* All the same. */
		w.input = input;
		open_change(&w.change[i]);
	}
}

static void step_notify(void)
{
	struct change *change = next_change();
	int ret, want;

	say("notify change %zd", change - w.change);
	/* One that nobody had to be told of is none of these. */
	if (change->phase == READY || change->phase == WALKING ||
	    (change->phase == TOLD && change->nr_called)) {
		hold(mmn_invalidate_notify(&change->desc) == -EINVAL,
		     "it is not open, or told");
		return;
	}
	if (change->phase != OPEN)
		return;
	if (!change->must_notify || !is_allowed(change))
		return;
	if (must_not_sleep() && change->flags & MMN_INVALIDATE_BLOCKABLE)
		return;
	begin_walk(change);
	ret = mmn_invalidate_notify(&change->desc);
	want = end_walk(change);
	hold(ret == want, "%d, not %d", ret, want);
}

static bool wants_end(const struct change *change)
{
	unsigned int i;

	for (i = 0; i < NR_CLASSICS + NR_SHARED; i++)
		if (change->phase == TOLD && change->wants_end[i])
			return true;
	return false;
}

static void step_close(void)
{
	struct change *change = next_change();
	unsigned int i;

	if (change->phase == WALKING)
		return;
	if (!mmn_invalidate_close(&change->desc)) {
		say("close change %zd: false", change - w.change);
		return;
	}
	say("close change %zd: true", change - w.change);
	hold(change->phase != READY && !wants_end(change), "");
	for (i = 0; i < NR_RANGES; i++)
		hold(!concerns(change, &w.range[i]) ||
			     (change->phase == OPEN &&
			      w.range[i].birth < change->opened),
		     "readers of range %u wait for it", i);
	change->phase = READY;
}

static void end_change(struct change *change)
{
	unsigned int i;

	say("end change %zd", change - w.change);
	if (change->phase == OPEN)
		memset(change->wants_end, 0, sizeof(change->wants_end));
	change->phase = WALKING;
	change->outer = w.walk;
	w.walk = change;
	change->first_finish = NULL;
	change->stage = CLASSIC_STARTS;
	hold(!mmn_invalidate_end(&change->desc), "it is open");
	for (i = 0; i < NR_CLASSICS + NR_SHARED; i++)
		hold(!change->wants_end[i], "classic %u", i);
	w.walk = change->outer;
	change->phase = READY;
}

/* Its end would go through those who are just being called. */
static bool was_told(const struct change *change)
{
	unsigned int i;

	for (i = 0; i < NR_CLASSICS + NR_SHARED; i++)
		if (change->phase == TOLD && change->has_told[i])
			return true;
	return false;
}

static void step_end(void)
{
	struct change *change = next_change();

	if (change->phase == READY) {
		say("end change %zd, which is not open", change - w.change);
		expect_report();
		hold(mmn_invalidate_end(&change->desc) == -EINVAL, "ready");
		return;
	}
	if (change->phase == WALKING ||
	    (w.nr_classic_calls && was_told(change)))
		return;
	end_change(change);
}

static void step_end_all(void)
{
	struct change *change;

	if (w.nr_classic_calls)
		return;
	for (change = w.change; change < w.change + NR_CHANGES; change++)
		if (change->phase == OPEN || change->phase == TOLD)
			end_change(change);
}

static void step_abandon(void)
{
	struct change *change = next_change();

	if (change->phase != READY && change->phase != OPEN)
		return;
	say("abandon change %zd", change - w.change);
	mmn_invalidate_abandon(&change->desc);
	change->phase = READY;
}

/* ------------------------------------------------------------------ */
/* Readers                                                            */
/* ------------------------------------------------------------------ */

static void step_begin(void)
{
	struct range *range = next_range();
	uint64_t seq;

	if (mmn_range_read_begin_try(&range->sub, &seq))
		return;
	say("range %u is read, %lx", index_of(range), seq);
	range->seq = seq;
	range->seq_epoch = range->epoch;
}

/* Does the library know that it waits for itself? */
static bool is_own(const struct range *range)
{
	const struct change *change;

	for (change = w.change; change < w.change + NR_CHANGES; change++)
		if (change->space == range->space && change->is_own &&
		    change->phase == TOLD &&
		    overlaps(range, change->start, change->last))
			return true;
	return false;
}

static void wait_in_vain(struct range *range)
{
	uint64_t seq = 1;
	int ret;

	if (is_in_callback())
		return;
	if (is_own(range))
		expect_report();
	ret = mmn_range_read_begin_timed(&range->sub, 1, &seq);
	say("range %u is waited for in vain", index_of(range));
	hold(ret == -ETIMEDOUT && seq == 1, "%d", ret);
	range->waits++;
}

static void step_begin_slowly(void)
{
	struct range *range = next_range();
	unsigned int least, most;
	uint64_t seq;

	count_open(range, &least, &most);
	if (most) {
		wait_in_vain(range);
		return;
	}
	if (is_in_callback())
		expect_report();
	if (next_byte(&w.input) & 1)
		seq = mmn_range_read_begin(&range->sub);
	else
		hold(!mmn_range_read_begin_timed(&range->sub, 1, &seq),
		     "nobody is in the way");
	say("range %u is read, %lx", index_of(range), seq);
	range->seq = seq;
	range->seq_epoch = range->epoch;
}

static void step_retry(void)
{
	uint8_t which = next_byte(&w.input);
	struct range *range = &w.range[which % NR_RANGES];
	bool want = !range->space || !range->seq ||
		    range->epoch != range->seq_epoch;

	range->is_locked = !(which & 0x80);
	if (!range->is_locked)
		expect_report();
	say("range %u is retried: %d", index_of(range), want);
	hold(mmn_range_read_retry(&range->sub, range->seq) == want, "not %d",
	     want);
	range->is_locked = false;
	range->retries += want;
}

/* ------------------------------------------------------------------ */
/* Classic subscriptions                                              */
/* ------------------------------------------------------------------ */

static bool has_change(const struct space *space, bool own)
{
	const struct change *change;

	for (change = w.change; change < w.change + NR_CHANGES; change++)
		if (change->space == space && change->phase != READY &&
		    (!own || change->is_own))
			return true;
	return false;
}

static void enlist(struct classic *classic, struct space *space)
{
	classic->space = space;
	classic->birth = tick();
}

static void forget(struct classic *classic)
{
	struct change *change;

	for (change = w.change; change < w.change + NR_CHANGES; change++)
		change->wants_end[classic - w.classic] = false;
	classic->space = NULL;
}

static void step_register(void)
{
	uint8_t which = next_byte(&w.input);
	struct classic *classic = &w.classic[which % NR_CLASSICS];
	struct space *space = next_space(which >> 2);
	int want = 0;

	if (is_in_callback()) {
		want = -EDEADLK;
		expect_report();
	} else if (classic->space) {
		want = -EEXIST;
	} else if (space->is_released) {
		want = -EINVAL;
	} else if (has_change(space, true)) {
		want = -EDEADLK;
	} else if (has_change(space, false)) {
		/* It would wait for it. */
		return;
	}
	say("register classic %zd: %d", classic - w.classic, want);
	hold(mmn_subscription_register(&classic->sub, space->state) == want,
	     "not %d", want);
	if (!want)
		enlist(classic, space);
}

static void step_unregister(void)
{
	struct classic *classic = &w.classic[next_byte(&w.input) % NR_CLASSICS];
	unsigned int releases = classic->releases;
	int want = classic->space ? 0 : -ENOENT;

	if (is_in_callback()) {
		want = -EDEADLK;
		expect_report();
	}
	say("unregister classic %zd: %d", classic - w.classic, want);
	hold(mmn_subscription_unregister(&classic->sub) == want, "not %d",
	     want);
	hold(classic->releases == releases + !want, "%u releases",
	     classic->releases);
	if (!want)
		forget(classic);
}

static struct classic *shared_of(struct space *space)
{
	return &w.classic[NR_CLASSICS + (space - w.space)];
}

static void step_get(void)
{
	uint8_t which = next_byte(&w.input);
	struct space *space = next_space(which);
	struct classic *classic = shared_of(space);
	struct mmn_subscription *got = NULL;
	int want = 0;

	w.allocated = NULL;
	if (is_in_callback()) {
		want = -EDEADLK;
		expect_report();
	} else if (has_change(space, true)) {
		want = -EDEADLK;
	} else if (!classic->space && has_change(space, false)) {
		return;
	} else if (!classic->space) {
		if (classic->nr_users || space->is_released || which & 0x80)
			want = -ENOMEM;
		else
			w.allocated = classic;
	}
	if (w.allocated)
		memset(&classic->sub, 0, sizeof(classic->sub));
	say("get: %d", want);
	hold(mmn_subscription_get(&shared, space->state, &got) == want,
	     "not %d", want);
	hold(got == (want ? NULL : &classic->sub), "not the shared one");
	if (want)
		return;
	if (w.allocated)
		enlist(classic, space);
	classic->nr_users++;
}

static void put_shared(struct classic *classic)
{
	unsigned int frees = classic->frees;

	classic->nr_users--;
	say("put, %u left", classic->nr_users);
	hold(!mmn_subscription_put(&classic->sub), "there was a user");
	hold(classic->frees == frees + !classic->nr_users, "%u frees",
	     classic->frees);
	if (!classic->nr_users)
		forget(classic);
}

static void step_put(void)
{
	struct classic *classic = shared_of(next_space(next_byte(&w.input)));

	/* Who is not there is not put: that is use after free. */
	if (classic->nr_users && !is_in_callback())
		put_shared(classic);
}

static void step_ask(void)
{
	uint8_t how = next_byte(&w.input);
	struct space *space = next_space(how >> 4);
	struct classic *classic = &w.classic[2];
	bool is_there = classic->space == space;
	bool young = is_there && classic->is_young;
	unsigned int before = flushes;
	uintptr_t start, last;

	next_addresses(&start, &last);
	if (last < start)
		last = start;
	switch (how & 7) {
	case 0:
		hold(mmn_clear_flush_young(space->state, start, last) == young,
		     "young");
		break;
	case 1:
		hold(mmn_clear_young(space->state, start, last) == young,
		     "young");
		break;
	case 2:
		hold(mmn_test_young(space->state, start) == young, "young");
		return;
	case 3:
		mmn_invalidate_secondary_tlbs(space->state, start, last);
		hold(flushes == before + is_there, "%u flushes", flushes);
		return;
	default:
		classic->is_young = true;
		return;
	}
	hold(!is_there || !classic->is_young, "it was not asked");
}

/* ------------------------------------------------------------------ */
/* The rest                                                           */
/* ------------------------------------------------------------------ */

static void step_release(void)
{
	struct change change = { .event = MMN_EVENT_RELEASE };
	uint8_t how = next_byte(&w.input);
	struct space *space = next_space(how);
	struct classic *classic;

	/* Seldom, since not much is left to be done afterwards. */
	if (is_in_callback() || (how & 0x38) != 0x38)
		return;
	say("release: %d", space->is_released ? -EALREADY : 0);
	if (space->is_released) {
		hold(mmn_state_release(space->state) == -EALREADY, "again");
		return;
	}
	space->is_released = true;
	change.space = space;
	change.last = UINTPTR_MAX;
	change.flags = MMN_INVALIDATE_BLOCKABLE;
	change.opened = tick();
	begin_walk(&change);
	hold(!mmn_state_release(space->state), "for the first time");
	end_walk(&change);
	for (classic = w.classic; classic < w.classic + NR_CLASSICS; classic++)
		if (classic->space == space) {
			hold(classic->releases, "it was not released");
			forget(classic);
		}
	classic = shared_of(space);
	if (classic->space)
		forget(classic);
}

static void good_config(const struct range *range,
			struct mmn_range_config *config)
{
	*config = (struct mmn_range_config){
		.size = sizeof(*config),
		.flags = index_of(range) == 3 ? MMN_RANGE_INTERRUPTIBLE : 0,
		.ops = is_two_pass(range)   ? &two_pass
		       : can_release(range) ? &one_pass
					    : &unreleased,
		.lock = mmn_driver_predicate(is_locked, (void *)range),
		.owner = owner_of(range),
	};
}

/* What is wrong with it; 0 for nothing. */
static int spoil(struct mmn_range_config *config, struct mmn_range_ops *ops,
		 uint8_t how)
{
	switch (how >> 4) {
	case 0:
		config->ops = NULL;
		return -EINVAL;
	case 1:
		ops->invalidate = NULL;
		ops->invalidate_start = NULL;
		return -EINVAL;
	case 2:
		ops->invalidate = invalidate;
		ops->invalidate_start = invalidate_start;
		return -EINVAL;
	case 3:
		ops->invalidate_finish =
			ops->invalidate_finish ? NULL : invalidate_finish;
		return -EINVAL;
	case 4:
		config->flags |= 2;
		return -EINVAL;
	case 5:
		config->lock.kind = MMN_DRIVER_LOCK_PREDICATE + 1;
		return -EINVAL;
	case 6:
		config->lock.is_held = NULL;
		return -EINVAL;
	case 7:
		config->size = offsetof(struct mmn_range_config, lock) - 1;
		return -EINVAL;
	case 8:
		config->size += 8;
		return -E2BIG;
	default:
		return 0;
	}
}

static void step_init(void)
{
	struct {
		struct mmn_range_config config;
		uint64_t newer;
	} config = { .newer = 1 };
	uint8_t how = next_byte(&w.input);
	struct range *range = &w.range[how % NR_RANGES];
	struct mmn_range_ops ops;
	int want;

	if (range->space || range->is_leaving)
		return;
	good_config(range, &config.config);
	ops = *config.config.ops;
	config.config.ops = &ops;
	want = spoil(&config.config, &ops, how);
	if (!want)
		good_config(range, &config.config);
	say("init range %u: %d", index_of(range), want);
	hold(mmn_range_subscription_init(&range->sub, &config.config) == want,
	     "not %d", want);
	if (want)
		return;
	range->callbacks = 0;
	range->retries = 0;
	range->waits = 0;
}

/* Nothing is written past the size that the caller gives, and nothing is lost. */
static void step_stats(void)
{
	union {
		struct mmn_range_stats range;
		struct mmn_state_stats space;
		uint8_t bytes[128];
	} stats;
	uint8_t how = next_byte(&w.input);
	uint32_t size = how & 0x3f, i;
	int ret;

	memset(&stats, 0xa5, sizeof(stats));
	stats.range.size = size;
	if (how & 0x80)
		ret = mmn_range_get_stats(&w.range[0].sub, &stats.range);
	else
		ret = mmn_state_get_stats(w.space[0].state, &stats.space);
	hold(ret == (size < 4 ? -EINVAL : 0) && stats.range.size == size,
	     "%d for %u bytes", ret, size);
	for (i = size < 4 ? 4 : size; i < sizeof(stats); i++)
		hold(stats.bytes[i] == 0xa5, "byte %u of %u", i, size);
	hold(mmn_range_get_stats(NULL, &stats.range) == -EINVAL &&
		     mmn_range_get_stats(&w.range[0].sub, NULL) == -EINVAL &&
		     mmn_state_get_stats(NULL, &stats.space) == -EINVAL &&
		     mmn_state_get_stats(w.space[0].state, NULL) == -EINVAL,
	     "nothing");
}

static void step_last(void)
{
	uintptr_t start = next_address(), length = next_address(), last = 7;
	bool wraps = length && length - 1 > UINTPTR_MAX - start;
	int ret = mmn_range_last(start, length, &last);

	hold(ret == (!length ? -EINVAL : wraps ? -EOVERFLOW : 0), "%d", ret);
	hold(ret ? last == 7 : last - start == length - 1, "%lx", last);
}

/* Signals are the same afterwards, so nothing is compared but that it works. */
static void step_section(void)
{
	struct mmn_signal_section section;

	mmn_signal_section_begin(&section);
	if (bytes_left(&w.input))
		step();
	mmn_signal_section_end(&section);
}

static void step(void)
{
	/* Several times: without these the others are idle. */
	static void (*const steps[])(void) = {
		step_insert,
		step_insert,
		step_insert,
		step_insert,
		step_insert,
		step_start,
		step_start,
		step_start,
		step_start,
		step_start,
		step_start,
		step_end,
		step_end,
		step_end,
		step_end,
		step_remove,
		step_remove_deferred,
		step_resize,
		step_resize,
		step_edit,
		step_edit,
		step_edit,
		step_open,
		step_open,
		step_notify,
		step_notify,
		step_close,
		step_abandon,
		step_begin,
		step_begin,
		step_begin,
		step_begin,
		step_begin_slowly,
		step_retry,
		step_retry,
		step_open_many,
		step_end_all,
		step_register,
		step_unregister,
		step_get,
		step_put,
		step_ask,
		step_release,
		step_init,
		step_stats,
		step_last,
		step_section,
	};

	steps[next_byte(&w.input) % (sizeof(steps) / sizeof(steps[0]))]();
	check_all();
}

static void begin(const uint8_t *data, size_t size)
{
	struct mmn_range_config config;
	unsigned int i;

	memset(&w, 0, sizeof(w));
	w.input.at = data;
	w.input.end = data + size;
	mmn_debug_set_handler(hear_report);
	for (i = 0; i < NR_STATES; i++)
		hold(!mmn_state_create(&w.space[i].state), "no memory");
	for (i = 0; i < NR_RANGES; i++) {
		good_config(&w.range[i], &config);
		hold(!mmn_range_subscription_init(&w.range[i].sub, &config),
		     "a good one");
	}
	for (i = 0; i < NR_CHANGES; i++) {
		mmn_invalidate_desc_init(&w.change[i].desc, NULL, 0, 0, 0);
		w.change[i].space = &w.space[0];
	}
	w.classic[0].sub.ops = &watching;
	w.classic[1].sub.ops = &refusing;
	w.classic[2].sub.ops = &ageing;
}

/* Everything goes, and can. */
static void end(void)
{
	unsigned int i;

	step_end_all();
	for (i = 0; i < NR_RANGES; i++) {
		if (!w.range[i].space)
			continue;
		hold(!mmn_range_subscription_remove(&w.range[i].sub),
		     "range %u", i);
		unlink(&w.range[i]);
	}
	for (i = 0; i < NR_CLASSICS; i++) {
		if (!w.classic[i].space)
			continue;
		hold(!mmn_subscription_unregister(&w.classic[i].sub),
		     "classic %u", i);
		forget(&w.classic[i]);
	}
	for (; i < NR_CLASSICS + NR_SHARED; i++)
		while (w.classic[i].nr_users)
			put_shared(&w.classic[i]);
	check_all();
	for (i = 0; i < NR_STATES; i++)
		mmn_state_put(w.space[i].state);
}

void property(const uint8_t *data, size_t size)
{
#ifdef BUSTED_notifier
	mmn_inject_set(MMN_INJECT_SEQ_SKIP, 1, 1);
#endif
	begin(data, size);
	while (bytes_left(&w.input))
		step();
	end();
}

const bool property_keeps_a_thread = false;
const unsigned int property_nr_random = 5000;
const unsigned int property_random_size = 300;

const struct property_example property_examples[] = {
	{ "nothing", "" },
	{ "a change without a state is abandoned", "16 00 00 fe 00 00 1b 00" },
	{ "an edit names one subscription twice: insert, insert",
	  "13 02 00 00 02 00 00 04" },
	{ "insert, remove", "13 02 00 00 02 0c" },
	{ "resize, insert, of one that is inserted",
	  "00 00 00 10 13 02 18 00 02 00 00 04" },
	{ "remove, resize", "00 00 00 10 13 02 0c 18 00 02" },
	{ "somebody moves to address 0 between the two halves of a start",
	  "00 01 01 04 16 03 00 00 00 20 11 01 00 20 18 03 00" },
	{ "a callback removes its own subscription before the second pass",
	  "00 01 01 04 05 00 00 00 00 20 10 10 01 00" },
	{ "more changes than an insert looks at, some of them told later",
	  "23 27 00 00 00 20 00 00 01 04 18 00 18 9f 00" },
	{ "one takes over from another behind the change that is under way",
	  "00 00 01 10 00 01 05 10 05 00 00 00 00 40 10 13 02 13 02 00 40" },
	{ "a refusal after somebody who wants a second pass",
	  "00 01 01 10 00 00 05 10 05 00 10 00 00 40 00 03 00" },
	{ "a classic subscriber refuses after one that wants the end",
	  "25 00 25 01 05 00 10 00 00 40 00 01" },
	{ "the last byte there is",
	  "00 00 fe 08 00 03 ff 00 05 00 00 00 ff 00" },
	{ "the address space ends",
	  "00 00 01 10 25 00 25 02 27 00 2a 38 00 00 00 01 10 28 00 0f 00" },
	{ NULL, NULL },
};
