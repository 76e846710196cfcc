/* SPDX-License-Identifier: MIT */
/*
 * One address space: its lock, its references, its end.
 */
#include "notifier/state.h"

#include <errno.h>

#include "base/arena.h"
#include "base/inject.h"
#include "base/probe.h"
#include "base/wait.h"

/* lo > hi when nobody is there. */
static void hull_of(struct mmn_state *state, uintptr_t *ret_lo,
		    uintptr_t *ret_hi)
{
	*ret_lo = state->nr_watching ? 0 : UINTPTR_MAX;
	*ret_hi = state->nr_watching ? UINTPTR_MAX : 0;
	if (!state->nr_watching)
		itree_hull(&state->tree, ret_lo, ret_hi);
}

static bool hull_is_right(struct mmn_state *state)
{
	uintptr_t lo, hi;

	hull_of(state, &lo, &hi);
	return state->filter.hull_lo == lo && state->filter.hull_hi == hi;
}

/* ------------------------------------------------------------------ */
/* Counted changes                                                    */
/* ------------------------------------------------------------------ */

struct mmn_invalidate_desc *counted_next(struct counted *at)
{
	while (at->i < NR_SLOTS) {
		/* relaxed: S orders it when it is a counted one */
		uintptr_t word =
			mmn_load_relaxed(&at->state->slots[at->i++].word);

		if (word & SLOT_COUNTED)
			return (struct mmn_invalidate_desc *)(word &
							      ~SLOT_FLAGS);
	}
	at->link = at->link ? at->link->next : at->state->overflow.next;
	if (at->link == &at->state->overflow)
		return NULL;
	return desc_of(container_of(at->link, struct change, link));
}

uint32_t state_count_open(struct mmn_state *state, struct range_sub *sub)
{
	struct counted at = { .state = state };
	struct mmn_invalidate_desc *desc;
	uint32_t nr = 0;

	while ((desc = counted_next(&at)))
		nr += change_overlaps(desc, sub->node.start, sub->node.last) &&
		      range_cares(sub, desc) &&
		      change_counts(change_of(desc), sub);
	return nr;
}

bool state_has_change_before(struct mmn_state *state, uint64_t birth)
{
	struct counted at = { .state = state };
	struct mmn_invalidate_desc *desc;

	while ((desc = counted_next(&at)))
		if (id_before(change_of(desc)->id, birth))
			return true;
	return false;
}

void state_count_calls(struct mmn_state *state, struct range_sub *sub)
{
	struct counted at = { .state = state };
	struct mmn_invalidate_desc *desc;

	while ((desc = counted_next(&at))) {
		uintptr_t *calling = &change_of(desc)->calling;
		uintptr_t word = (uintptr_t)sub;

		/*
		 * pair(range_calling): acquire, with the release in
		 * stop_calling().  Without it the object is given back while
		 * what its callback did is still on the way.
		 */
		if (mmn_load_acquire(calling) != word)
			continue;
		/* relaxed: see below */
		mmn_fetch_add_relaxed(&sub->running, RUNNING_ONE);
		/*
		 * relaxed: who takes it off before it is put on leaves the sum
		 * as it must be, and nobody acts on it before we look
		 */
		if (mmn_cmpxchg_relaxed(calling, &word, word | CALLING_COUNTED))
			continue;
		/* relaxed: our own, nobody has seen it */
		mmn_fetch_sub_relaxed(&sub->running, RUNNING_ONE);
		/*
		 * pair(range_calling): acquire, with the release in
		 * stop_calling().  Without it as above.
		 */
		mmn_load_acquire(calling);
	}
}

/* ------------------------------------------------------------------ */
/* Self-checks                                                        */
/* ------------------------------------------------------------------ */

/* Checking costs its square: only small states are checked in full. */
#define CHECKED_NODES 16

static bool counts_are_right(struct mmn_state *state)
{
	struct itree_node *node;

	if (state->tree.nr > CHECKED_NODES)
		return true;
	itree_for_each (node, &state->tree) {
		struct range_sub *sub = range_of_node(node);

		/* relaxed: the count moves inside S only */
		if (open_count(mmn_load_relaxed(&sub->open)) !=
			    state_count_open(state, sub) ||
		    id_before(node->birth, sub->since) ||
		    !filter_contains(&state->filter, node->start, node->last))
			return false;
	}
	return itree_check(&state->tree) &&
	       filter_check(&state->filter, &state->tree);
}

static bool lists_are_right(struct mmn_state *state)
{
	struct counted at = { .state = state };
	struct mmn_invalidate_desc *desc;
	struct classic_sub *classic;
	uint64_t last_birth = 0;

	while ((desc = counted_next(&at)))
		if (!change_of(desc)->id)
			return false;
	list_for_each (classic, &state->classics, link) {
		if (last_birth && !id_before(last_birth, classic->birth))
			return false;
		last_birth = classic->birth;
	}
	return true;
}

bool state_check(struct mmn_state *state)
{
	/* relaxed: S is held */
	return (mmn_load_relaxed(&state->next_seq) & 1) &&
	       (state->lookers || !state->filter.retired) &&
	       hull_is_right(state) && lists_are_right(state) &&
	       counts_are_right(state);
}

/* ------------------------------------------------------------------ */
/* The writer's side of S                                             */
/* ------------------------------------------------------------------ */

void state_relock(struct mmn_state *state) MMN_NO_LOCK_ANALYSIS
{
	uint32_t i;

	hall_close(&state->hall);
	for (i = 0; i < NR_SLOTS; i++)
		hall_await_door(&state->slots[i].door);
	hall_await_common(&state->hall);
	/* relaxed: S orders it; readers compare */
	mmn_fetch_add_relaxed(&state->version, 1);
}

void state_drop(struct mmn_state *state) MMN_NO_LOCK_ANALYSIS
{
	mmn_check(state_check(state));
	hall_open(&state->hall);
}

void state_lock(struct mmn_state *state, struct mmn_sigmask *saved)
{
	mmn_signals_hold(saved);
	state_relock(state);
}

void state_unlock(struct mmn_state *state, const struct mmn_sigmask *saved)
{
	struct filter_map *unused = state->unused;

	state->unused = NULL;
	state_drop(state);
	mmn_signals_release(saved);
	filter_free_maps(unused);
}

_Static_assert(sizeof(struct mmn_sigmask) == sizeof(struct mmn_signal_section),
	       "the public and the private mask are one object");

void mmn_signal_section_begin(struct mmn_signal_section *section)
{
	mmn_signals_hold((struct mmn_sigmask *)section);
}

void mmn_signal_section_end(const struct mmn_signal_section *section)
{
	if (!mmn_signals_are_held()) {
		mmn_bug("a signal section ends that has not begun");
		return;
	}
	mmn_signals_release((const struct mmn_sigmask *)section);
}

void state_update_hull(struct mmn_state *state)
{
	uintptr_t lo, hi;

	hull_of(state, &lo, &hi);
	filter_set_hull(&state->filter, lo, hi);
}

void state_filter_add(struct mmn_state *state, uintptr_t start, uintptr_t last,
		      uint32_t *ret_mark)
{
	struct filter *filter = &state->filter;

	filter_set_hull(filter,
			start < filter->hull_lo ? start : filter->hull_lo,
			last > filter->hull_hi ? last : filter->hull_hi);
	filter_add(filter, start, last, ret_mark);
}

void state_filter_remove(struct mmn_state *state, uintptr_t start,
			 uintptr_t last, uint32_t mark)
{
	filter_remove(&state->filter, start, last, mark);
	state_update_hull(state);
}

/*
 * Slots that were free since the newest map was retired: who was in one then is
 * done with filter_overlaps(), and who comes sees a newer map.
 */
static void forget_lookers(struct mmn_state *state)
{
	uint32_t i;

	for (i = 0; i < NR_SLOTS; i++)
		/*
		 * pair(open_insert): with the store in claim_slot(): whoever
		 * claims a slot that was free here sees the new map.  Without
		 * it he may look at the old one, which is freed.
		 * pair(close_insert): acquire, with mmn_invalidate_close() and
		 * free_slot().
		 * Without it his last look may come after the free.
		 */
		if (state->lookers & UINT32_C(1) << i &&
		    !mmn_load_seq_cst(&state->slots[i].word))
			state->lookers &= ~(UINT32_C(1) << i);
}

void state_filter_tend(struct mmn_state *state)
{
	if (filter_tend(&state->filter, &state->tree))
		state->lookers = ALL_SLOTS;
	if (likely(!state->lookers))
		return;
	forget_lookers(state);
	if (!state->lookers)
		state->unused = filter_take_retired(&state->filter);
}

/* ------------------------------------------------------------------ */
/* Changes that become counted ones                                   */
/* ------------------------------------------------------------------ */

/*
 * Threads that make changes at the same time do not meet at the counter: each
 * slot takes some ids ahead.  They are good as long as no writer has come, and
 * taken a birth.
 */
static uint64_t take_id(struct mmn_state *state, struct slot *slot)
{
	uint64_t version = state_version(state);

	if (!slot->nr_ids || slot->version != version) {
		/* relaxed: as in new_id() */
		slot->last_id =
			mmn_fetch_add_relaxed(&state->next_seq, 2 * SLOT_IDS);
		slot->nr_ids = SLOT_IDS;
		slot->version = version;
	}
	slot->nr_ids--;
	slot->last_id += 2;
	return slot->last_id;
}

static void mark_counted(struct slot *slot, struct mmn_invalidate_desc *desc)
{
	/*
	 * relaxed: writers look at it when S is closed, and a close that fails
	 * for it enters S first
	 */
	mmn_store_relaxed(&slot->word, (uintptr_t)desc | SLOT_COUNTED);
}

static void begin_counting(struct change *change, uint64_t id)
{
	change->again = 0;
	change->cursor_start = 0;
	change->cursor_birth = 0;
	/* relaxed: nobody is called yet */
	mmn_store_relaxed(&change->calling, 0);
	change->id = id;
}

void change_count(struct mmn_state *state, struct mmn_invalidate_desc *desc)
{
	struct change *change = change_of(desc);
	struct slot *slot = slot_of(state, change);

	if (slot) {
		begin_counting(change, take_id(state, slot));
		mark_counted(slot, desc);
		return;
	}
	begin_counting(change, new_id(state));
	mmn_mutex_lock(&state->overflow_lock);
	list_add_tail(&change->link, &state->overflow);
	mmn_mutex_unlock(&state->overflow_lock);
}

static void add_to(uint64_t *statistic, uint64_t nr)
{
	/* relaxed, both: only the owner of the slot writes there */
	uint64_t before = mmn_load_relaxed(statistic);

	mmn_store_relaxed(statistic, before + nr);
}

void state_note_hit(struct mmn_state *state, struct slot *slot, uint64_t nr)
{
	if (likely(slot)) {
		add_to(&slot->nr_hits, 1);
		add_to(&slot->nr_callbacks, nr);
		return;
	}
	mmn_mutex_lock(&state->overflow_lock);
	state->nr_hits++;
	state->nr_callbacks += nr;
	mmn_mutex_unlock(&state->overflow_lock);
}

void state_wake_drain(struct mmn_state *state)
{
	if (!state->nr_draining)
		return;
	/* relaxed: whoever sleeps has looked with S closed */
	mmn_fetch_add_relaxed(&state->drain, 1);
	mmn_wake(&state->drain, INT32_MAX);
}

/*
 * Take a slot away from its owner for a moment; NULL when no change is in it or
 * one that is counted, or was.
 */
static struct mmn_invalidate_desc *hold_slot(struct slot *slot)
{
	for (;;) {
		/*
		 * pair(open_insert): the insert's loads, with the store in
		 * claim_slot().  Without it the change there is not seen.
		 * pair(close_insert): acquire, with the release in
		 * mmn_invalidate_close().  Without it readers of the new
		 * subscription see old memory.
		 */
		uintptr_t word = mmn_load_seq_cst(&slot->word);

		if (!word || word & (SLOT_COUNTED | SLOT_OVER))
			return NULL;
		/*
		 * pair(slot_range): acquire, with the release in claim_slot().
		 * Without it the range in the descriptor is not yet there.
		 */
		if (mmn_cmpxchg_acquire(&slot->word, &word, word | SLOT_HELD))
			return (struct mmn_invalidate_desc *)word;
	}
}

static void restore_slot(struct slot *slot, uintptr_t word)
{
	/*
	 * pair(slot_restore): release, with the acquire in
	 * mmn_invalidate_close().  Without it the owner may reuse the
	 * descriptor's memory while the holder of the slot still reads it.
	 */
	mmn_store_release(&slot->word, word);
}

void state_adopt_slots(struct mmn_state *state, uintptr_t start, uintptr_t last)
{
	uint32_t i;

	for (i = 0; i < NR_SLOTS; i++) {
		struct slot *slot = &state->slots[i];
		struct mmn_invalidate_desc *desc = hold_slot(slot);
		bool adopt;

		if (!desc)
			continue;
		MMN_INJECT_PAUSE();
		adopt = change_overlaps(desc, start, last);
		if (adopt) {
			begin_counting(change_of(desc), new_id(state));
			mark_counted(slot, desc);
		} else {
			restore_slot(slot, (uintptr_t)desc);
		}
	}
}

static bool is_own_change(struct mmn_invalidate_desc *desc, uintptr_t start,
			  uintptr_t last)
{
	return change_of(desc)->opener == mmn_context_self() &&
	       change_overlaps(desc, start, last);
}

bool state_thread_has_change(struct mmn_state *state, uintptr_t start,
			     uintptr_t last)
{
	struct counted at = { .state = state };
	struct mmn_invalidate_desc *desc;
	bool own = false;
	uint32_t i;

	while ((desc = counted_next(&at)))
		own |= is_own_change(desc, start, last);
	for (i = 0; i < NR_SLOTS && !own; i++) {
		desc = hold_slot(&state->slots[i]);
		if (!desc)
			continue;
		own = is_own_change(desc, start, last);
		restore_slot(&state->slots[i], (uintptr_t)desc);
	}
	return own;
}

/*
 * Far from the numbers of every other state, so that a subscription that moves
 * from one to another does not find the sequence it had there: multiples of the
 * golden ratio leave gaps of 2^64 / 3n between n states.
 */
static uint64_t first_seq(void)
{
	/* atomic: states made so far */
	static uint64_t nr_states;
	/* relaxed: a number for each, nothing is ordered by it */
	uint64_t n = mmn_fetch_add_relaxed(&nr_states, 1);

	return (n * UINT64_C(0x9e3779b97f4a7c15)) | 1;
}

int mmn_state_create(struct mmn_state **ret_state)
{
	struct mmn_state *state;
	void *block;

	/* The arena aligns to less than a cache line. */
	block = mmn_callback_zalloc(sizeof(*state) + CACHE_LINE);
	if (!block)
		return -ENOMEM;
	state = (struct mmn_state *)(((uintptr_t)block + CACHE_LINE - 1) &
				     ~(uintptr_t)(CACHE_LINE - 1));
	state->block = block;
	state->generation = mmn_process_adopt();
	classics_adopt(state->generation);
	state->refs = 1;
	state->next_seq = first_seq();
	hall_init(&state->hall);
	mmn_mutex_init(&state->overflow_lock, MMN_RANK_LEAF);
	mmn_mutex_init(&state->get_lock, MMN_RANK_SUBSCRIBE);
	list_init(&state->overflow);
	list_init(&state->classics);
	itree_init(&state->tree);
	filter_init(&state->filter);
	*ret_state = state;
	return 0;
}

struct mmn_state *mmn_state_get(struct mmn_state *state)
{
	/* relaxed: the caller has a reference, which orders everything */
	mmn_fetch_add_relaxed(&state->refs, 1);
	return state;
}

void mmn_state_put(struct mmn_state *state)
{
	/* A fork child's copy may have locks held by threads it has not. */
	if (!state || !state_is_live(state))
		return;
	/*
	 * pair(state_refs): release and acquire, with itself in
	 * mmn_state_put() of other threads.  Without it memory is freed that
	 * another thread still writes.
	 */
	if (mmn_fetch_sub_acq_rel(&state->refs, 1) != 1)
		return;
	mmn_bug_on(!state_is_idle(state),
		   "the last reference to a state is put inside a change");
	filter_fini(&state->filter);
	mmn_mutex_fini(&state->get_lock);
	mmn_mutex_fini(&state->overflow_lock);
	hall_fini(&state->hall);
	mmn_callback_free(state->block);
}

int mmn_state_release(struct mmn_state *state)
{
	struct mmn_invalidate_desc desc;
	struct mmn_sigmask saved;
	bool again;

	if (!state_is_live(state))
		return 0;
	mmn_bug_on(mmn_context_in_callback(),
		   "mmn_state_release() in a callback");
	state_lock(state, &saved);
	again = state->released;
	state->released = true;
	state_unlock(state, &saved);
	if (again)
		return -EALREADY;

	mmn_invalidate_desc_init(&desc, state, MMN_EVENT_RELEASE, 0,
				 UINTPTR_MAX);
	change_of(&desc)->opener = mmn_context_self();
	MMN_PROBE(state_release, state);
	change_tell_ranges(&desc);
	mmn_invalidate_end(&desc);

	state_lock(state, &saved);
	classics_release(state);
	state_unlock(state, &saved);
	return 0;
}
