/* SPDX-License-Identifier: MIT */
#ifndef MMN_NOTIFIER_STATE_H
#define MMN_NOTIFIER_STATE_H
/*
 * The inside of <mmn/notifier.h>: what a state, a subscription and a change
 * consist of, and who may touch which part.  The protocol, its ladders and what
 * was rejected are in doc/DESIGN.md, chapter "The notifier".
 */
#include <mmn/notifier.h>

#include "base/atomic.h"
#include "base/bug.h"
#include "base/compiler.h"
#include "base/context.h"
#include "base/list.h"
#include "base/lock.h"
#include "base/process.h"
#include "notifier/filter.h"
#include "notifier/hall.h"
#include "tree/itree.h"

#define CACHE_LINE 64

/* ------------------------------------------------------------------ */
/* A change                                                           */
/* ------------------------------------------------------------------ */

/* change->phase.  Odd patterns, so that memory never initialised has none. */
#define PHASE_READY UINT32_C(0x6d6e4301) /* initialised or ended */
#define PHASE_OPEN UINT32_C(0x6d6e4302)	 /* opened, nobody was told */
#define PHASE_TOLD UINT32_C(0x6d6e4303)	 /* opened and everybody was told */

#define NO_SLOT UINT16_C(0xffff)

/* change->calling: a remover has counted the callback in sub->running. */
#define CALLING_COUNTED ((uintptr_t)1)

/* change->again: somebody who was to be called has moved past the walk */
#define AGAIN_WANTED 1u
/* change->again: this is for them, the first round is over */
#define AGAIN_ROUND 2u

/*
 * struct change - the private part of struct mmn_invalidate_desc
 *
 * Life: READY -> OPEN -> TOLD -> READY.  Between OPEN and the end it is in a
 * slot; or, where all slots were taken, on state->overflow from notify on.  It is
 * counted ("a counted change") while subscriptions depend on its end: its slot
 * says SLOT_COUNTED, or it is on state->overflow.
 *
 * "S" is the state's hall: who reads has entered it, who writes has closed it.
 *
 * C1  id != 0  <=>  it is counted.
 * C2  id, once given, is odd, unique, above the birth of every subscription
 *     there is and below that of every later one.
 * C3  A subscription that it overlaps, and that cares, counts it in open if and
 *     only if it is younger than the change, or at or below the cursor: see
 *     change_counts().
 */
struct change {
	/* state->overflow_lock */
	struct list_head link;
	/* S: written by its owner inside, or by a writer. C1, C2 */
	uint64_t id;
	/* const while open: mmn_context_self() of who started, NULL unknown */
	const void *opener;
	/* S: the key of the last one called so far, all 0 for none. C3 */
	uintptr_t cursor_start;
	uint64_t cursor_birth;
	/*
	 * atomic: the range subscription whose callback is under way, stored
	 * inside S and taken away without, with CALLING_COUNTED
	 */
	uintptr_t calling;
	/* owner thread */
	uint32_t phase;
	/* owner thread: index in state->slots, or NO_SLOT */
	uint16_t slot;
	/* owner thread: classic subscriptions were told, and want the end */
	bool classic_told;
	/* S: AGAIN_* */
	uint8_t again;
};

_Static_assert(sizeof(struct change) <=
		       sizeof(((struct mmn_invalidate_desc *)0)->private_),
	       "struct change must fit");

static inline struct change *change_of(struct mmn_invalidate_desc *desc)
{
	return (struct change *)desc->private_;
}

static inline struct mmn_invalidate_desc *desc_of(struct change *change)
{
	return container_of((uint64_t *)change, struct mmn_invalidate_desc,
			    private_[0]);
}

/*
 * A slot holds one open change: 0, or the address of its descriptor and at most
 * one of the bits below.
 *
 *	FREE -> OPEN		mmn_invalidate_open(), any thread
 *	OPEN -> FREE		mmn_invalidate_close(), the owner
 *	OPEN -> HELD -> OPEN	insert, S closed: does not overlap
 *	OPEN -> HELD -> COUNTED	insert, S closed: on behalf of the owner
 *	OPEN -> COUNTED		notify, the owner, inside S
 *	OPEN, COUNTED -> OVER	end, the owner, inside S: nobody depends on it
 *	OVER -> FREE		end, the owner, outside, its door lowered
 *
 * Nothing in a descriptor is read before its slot is HELD or COUNTED: until then
 * its owner may close it and reuse the memory.  A slot that is closed and opened
 * again by the same descriptor in between holds a good change as well, so the
 * word needs no version.
 *
 * With the slot goes its door: the way of its owner into S.
 */
#define SLOT_HELD ((uintptr_t)1)
#define SLOT_COUNTED ((uintptr_t)2)
#define SLOT_OVER ((uintptr_t)4)
#define SLOT_FLAGS ((uintptr_t)7)
/* Fewer where every execution is looked at: the code is the same. */
#ifndef NR_SLOTS
#define NR_SLOTS 32u
#endif
/* As bits. */
#define ALL_SLOTS (UINT32_MAX >> (32 - NR_SLOTS))

/* Ids that a slot takes from the state at once. */
#define SLOT_IDS 64u

struct slot {
	/* atomic */
	uintptr_t word;
	/* atomic; see notifier/hall.h */
	uint32_t door;
	/* owner, inside S: ids left from the last time, valid in that version */
	uint32_t nr_ids;
	uint64_t last_id;
	uint64_t version;
	/* owner, inside S, in the same version: the only one called, or NULL */
	struct range_sub *only;
	/* atomic: stored by the owner: statistics, of all that were in it */
	uint64_t nr_hits;
	uint64_t nr_callbacks;
} __attribute__((aligned(CACHE_LINE)));

/* ------------------------------------------------------------------ */
/* A range subscription                                               */
/* ------------------------------------------------------------------ */

/* status of subscriptions of both kinds; again, odd patterns. */
#define SUB_IDLE UINT32_C(0x6d6e5301)	  /* initialised, not inserted */
#define SUB_BUSY UINT32_C(0x6d6e5302)	  /* being inserted */
#define SUB_INSERTED UINT32_C(0x6d6e5303) /* inserted */
#define SUB_LEAVING UINT32_C(0x6d6e5304)  /* its remover waits */
#define SUB_DEFERRED UINT32_C(0x6d6e5305) /* the last callback releases it */
#define SUB_RELEASED UINT32_C(0x6d6e5306) /* mmn_state_release() has it */
#define SUB_EDITED UINT32_C(0x6d6e5307)	  /* inserted; S is held for it */

/*
 * sub->open: the count in units of OPEN_ONE, one bit, and above both the last bits
 * of the number of callbacks, which the same addition counts in units of
 * OPEN_CALL: what carries out of them is lost, and counted for itself.
 */
#define OPEN_WAITER UINT32_C(1)
#define OPEN_ONE UINT32_C(2)
#define OPEN_COUNT UINT32_C(0x01fffffe)
#define OPEN_CALL UINT32_C(0x02000000)

/* sub->running: the count in units of RUNNING_ONE, and who waits for 0. */
#define RUNNING_LEAVING UINT32_C(1)  /* remove sleeps */
#define RUNNING_DEFERRED UINT32_C(2) /* whoever comes to 0 releases */
#define RUNNING_ONE UINT32_C(4)
/*
 * The remover itself, while it counts: more than all callbacks.  One that was
 * counted may be taken off before it is put on, on machines where relaxed
 * exchanges of two words change places; nobody must come to 0 by that.
 */
#define RUNNING_REMOVER UINT32_C(0x80000000)

/*
 * struct range_sub - struct mmn_range_subscription
 *
 * Life: IDLE -> BUSY -> INSERTED -> LEAVING or DEFERRED -> IDLE; for short
 * moments INSERTED -> EDITED and back, or on to LEAVING or DEFERRED.
 *
 * R1  in the tree: seq is odd; else it is 0.
 * R2  in the tree: open_count(open) is the number of counted changes for which
 *     change_counts() holds.
 * R3  While a callback of it is under way either the change says so in calling,
 *     or running counts it; a pending second pass is counted.  The object is not
 *     given back before neither is the case.
 * R4  in the tree: since is not after the birth.  Changes with an id in between
 *     call it back although it is counted by them from its birth on: it was there
 *     before, or one that it took over from.
 * R5  half_turns is how often the uppermost bit of open has changed; it may be
 *     behind while a callback is about to begin.
 */
struct range_sub {
	/* atomic: stored by the callback under the driver's lock. R1 */
	uint64_t seq;
	/* atomic: count changed inside S, OPEN_WAITER set by readers. R2 */
	uint32_t open;
	/* const while inserted: of the process, see base/process.h */
	uint32_t generation;
	/* const after init; lock.reserved holds the flags of the config */
	const struct mmn_range_ops *ops;
	struct mmn_driver_lock lock;
	const void *owner;
	/* const while inserted */
	struct mmn_state *state;

	/* S; the key and the ends are const while inserted */
	struct itree_node node __attribute__((aligned(CACHE_LINE)));
	/* S: changes with a smaller id are not told to it. R4 */
	uint64_t since;

	/* atomic. R3 */
	uint32_t running __attribute__((aligned(CACHE_LINE)));
	/* atomic */
	uint32_t status;
	/* atomic: readers asleep, for the report of dismiss_readers() */
	uint32_t sleepers;
	/* thread of visit->leaving */
	struct range_sub *leaving_next;
	/* atomic: statistics. R5 */
	uint64_t half_turns;
	uint64_t nr_retries;
	uint64_t nr_waits;
	uint64_t longest_wait_ns;
};

_Static_assert(sizeof(struct range_sub) ==
		       sizeof(struct mmn_range_subscription),
	       "the public and the private struct are one object");

static inline struct range_sub *
range_of(const struct mmn_range_subscription *sub)
{
	return (struct range_sub *)sub;
}

static inline struct mmn_range_subscription *public_range(struct range_sub *sub)
{
	return (struct mmn_range_subscription *)sub;
}

static inline uint32_t open_count(uint32_t open)
{
	return (open & OPEN_COUNT) / OPEN_ONE;
}

static inline bool range_is_interruptible(const struct range_sub *sub)
{
	return sub->lock.reserved & MMN_RANGE_INTERRUPTIBLE;
}

static inline struct range_sub *range_of_node(struct itree_node *node)
{
	return container_of(node, struct range_sub, node);
}

/*
 * struct herd - what overlaps a change, in ascending order; inside S
 *
 * Each one is in lines of its own, and each exchange in between holds up what is
 * loaded behind it.  Found several at a time they are there when their turn
 * comes.  Good as long as no writer comes.
 */
#define HERD_SIZE 16u
struct herd {
	struct itree_iter iter;
	/* of those found last */
	uint32_t at;
	uint32_t nr;
	struct itree_node *nodes[HERD_SIZE];
};

/* Go on above the cursor, of which nothing need be there. */
static inline void herd_seek(struct herd *herd, const struct itree *tree,
			     uintptr_t cursor_start, uint64_t cursor_birth)
{
	itree_iter_seek(&herd->iter, tree, cursor_start, cursor_birth);
	/* None at hand, and there may be more. */
	herd->at = herd->nr = HERD_SIZE;
}

static inline void herd_init(struct herd *herd, const struct itree *tree,
			     const struct mmn_invalidate_desc *desc)
{
	itree_iter_init(&herd->iter, tree, desc->start, desc->last);
	herd->at = herd->nr = HERD_SIZE;
}

/* Those that come next, and the first of them. */
struct range_sub *herd_fetch(struct herd *herd);

static inline struct range_sub *herd_next(struct herd *herd)
{
	if (likely(herd->at < herd->nr))
		return range_of_node(herd->nodes[herd->at++]);
	/* There were less than it could have been: that was all. */
	return herd->nr == HERD_SIZE ? herd_fetch(herd) : NULL;
}

/* ------------------------------------------------------------------ */
/* A classic subscription                                             */
/* ------------------------------------------------------------------ */

/*
 * struct classic_sub - struct mmn_subscription
 *
 * Life: as a range subscription; all zero counts as IDLE.  Objects of
 * mmn_subscription_get() have users; the last one takes the object off the list,
 * and whoever finds it off the list and not running frees it.
 */
struct classic_sub {
	/* the caller's, const from registration on */
	const struct mmn_subscription_ops *ops;
	/* S */
	struct list_head link;
	/* const while registered, or while there are users */
	struct mmn_state *state;
	/* S: changes with a smaller id are not told to it */
	uint64_t birth;
	/* atomic: nor are the ends of changes up to this id */
	uint64_t ends_after;
	/* atomic: changed inside S */
	uint32_t running;
	/* atomic */
	uint32_t status;
	/* atomic; from mmn_subscription_get() */
	uint32_t users;
	/* const while registered: of the process */
	uint32_t generation;
	/* S: the last user has gone; which round of frees it belongs to */
	bool orphan;
	bool counted;
	uint8_t round;
};

_Static_assert(sizeof(struct classic_sub) <= sizeof(struct mmn_subscription),
	       "struct classic_sub must fit");

static inline struct classic_sub *classic_of(struct mmn_subscription *sub)
{
	return (struct classic_sub *)sub;
}

static inline struct mmn_subscription *public_classic(struct classic_sub *sub)
{
	return (struct mmn_subscription *)sub;
}

/* ------------------------------------------------------------------ */
/* A state                                                            */
/* ------------------------------------------------------------------ */

/*
 * struct mmn_state - everything subscribed to one address space
 *
 * S1  next_seq is odd and grows by 2; no id or birth is given twice (within
 *     2^63 of them, which is as long as "before" has a meaning).
 * S2  The filter lets through every change that overlaps a subscription in the
 *     tree, and every change at all while a classic subscription cares for
 *     them; its hull is empty when nobody is there.
 * S3  C1 for every change in a slot or on overflow.
 * S4  classics is in ascending order of birth.
 * S5  R2 for every subscription in the tree.
 * S6  The bit of a slot in lookers is set unless the slot was free at some moment
 *     after the newest of the retired maps was; with no bit none is retired.
 *
 * state_check() states S1 to S5 and the end of S6 as code; builds with self-checks
 * run it whenever a writer leaves: then nobody is inside.
 *
 * Changes are readers of S: notify, end, and the walk between callbacks.  Who
 * adds or takes away a subscription of either kind is a writer.  A signal handler
 * may make changes, so a writer has all signals blocked, and a thread that comes
 * here inside a callback or a handler must not be a reader then: hall_enter().
 */
struct mmn_state {
	/* const: of the process that made it, see base/process.h */
	uint32_t generation;
	/* Who could be concerned, for those without the lock. S2 */
	struct filter filter;

	/* atomic */
	uint32_t refs __attribute__((aligned(CACHE_LINE)));
	/* const: what mmn_callback_alloc() returned */
	void *block;
	/* atomic: a statistic */
	uint64_t longest_wait_ns;

	/* Rank MMN_RANK_SUBSCRIBE: one mmn_subscription_get() at a time. */
	struct mmn_mutex get_lock;
	/* Called S.  Looked at by every reader, written by writers only. */
	struct hall hall __attribute__((aligned(CACHE_LINE)));

	/* S */
	struct itree tree __attribute__((aligned(CACHE_LINE)));
	/* S: how many of the classics have a start or an end */
	uint32_t nr_watching;
	/* S: who waits for old changes to end or classics to leave */
	uint32_t nr_draining;
	/* S: slots whose changes may look at a map that is retired. S6 */
	uint32_t lookers;
	/* S: maps that nobody looks at; whoever opens S frees them */
	struct filter_map *unused;
	/* atomic: moves whenever a writer comes, or ids must not be kept */
	uint64_t version;
	/* S. S4 */
	struct list_head classics;
	/* S: mmn_state_release() was called */
	bool released;

	/* atomic: moved inside S. S1 */
	uint64_t next_seq __attribute__((aligned(CACHE_LINE)));
	/* atomic: bumped as changes end and classics leave */
	uint32_t drain;
	/* Rank MMN_RANK_LEAF, inside S, with signals blocked. */
	struct mmn_mutex overflow_lock;
	/* overflow_lock, or S closed. S3 */
	struct list_head overflow;
	/* overflow_lock: statistics, of changes without a slot */
	uint64_t nr_hits;
	uint64_t nr_callbacks;

	struct slot slots[NR_SLOTS];
};

/* Made by this process, not by the one it was forked from? */
static inline bool state_is_live(const struct mmn_state *state)
{
	return likely(state->generation == mmn_process_generation());
}

static inline bool range_is_live(const struct range_sub *sub)
{
	return likely(sub->generation == mmn_process_generation());
}

/* Is id a older than id b?  Right across the wrap of the counter. */
static inline bool id_before(uint64_t a, uint64_t b)
{
	return (int64_t)(a - b) < 0;
}

static inline uint64_t new_id(struct mmn_state *state)
{
	/* relaxed: a number for each; S orders it with births */
	return mmn_fetch_add_relaxed(&state->next_seq, 2) + 2;
}

/*
 * The writer's side of S.  It is closed with the signals blocked and opened
 * before they are restored.
 */
void state_lock(struct mmn_state *state, struct mmn_sigmask *saved);
void state_unlock(struct mmn_state *state, const struct mmn_sigmask *saved);

/* In between, around a callback or a sleep: signals stay as they are. */
void state_relock(struct mmn_state *state);
void state_drop(struct mmn_state *state);

/*
 * struct visit - the reader's side of S: who goes in and out
 *
 * @slot is that of the visitor's own open change.  Without one it goes through
 * the common door, with all signals blocked from visit_begin() to visit_end().
 * Signals are blocked earlier than that, and until then, around callbacks that a
 * handler must not interrupt: visit_block().
 */
struct visit {
	struct mmn_state *state;
	struct slot *slot;
	struct hall_pass pass;
	bool is_blocked;
	struct mmn_sigmask saved;
	/* own thread: to be removed as soon as it is not inside any more */
	struct range_sub *leaving;
};

/* Remove the chain; not inside. */
void ranges_leave(struct range_sub *leaving);

static inline void visit_enter(struct visit *visit)
{
	hall_enter(&visit->state->hall, &visit->pass,
		   visit->slot ? &visit->slot->door : NULL);
}

/* After visit_leave(). */
static inline void visit_reenter(struct visit *visit)
{
	hall_reenter(&visit->pass);
}

static inline void visit_leave(struct visit *visit)
{
	struct range_sub *leaving;

	hall_leave(&visit->pass);
	leaving = visit->leaving;
	if (likely(!leaving))
		return;
	visit->leaving = NULL;
	ranges_leave(leaving);
}

/* Not inside. */
static inline void visit_block(struct visit *visit)
{
	if (visit->is_blocked)
		return;
	mmn_signals_hold(&visit->saved);
	visit->is_blocked = true;
}

/* Enters. */
static inline void visit_begin(struct visit *visit, struct mmn_state *state,
			       struct slot *slot)
{
	visit->state = state;
	visit->slot = slot;
	visit->is_blocked = false;
	visit->leaving = NULL;
	if (!slot)
		visit_block(visit);
	visit_enter(visit);
}

/* Left already. */
static inline void visit_end(struct visit *visit)
{
	if (visit->is_blocked)
		mmn_signals_release(&visit->saved);
}

static inline struct slot *slot_of(struct mmn_state *state,
				   const struct change *change)
{
	return change->slot == NO_SLOT ? NULL : &state->slots[change->slot];
}

/* Inside S. */
static inline uint64_t state_version(struct mmn_state *state)
{
	/* relaxed: S orders it */
	return mmn_load_relaxed(&state->version);
}

/* S5, S2 and the order of the lists; for selfcheck builds. */
bool state_check(struct mmn_state *state);

/*
 * S2 before something comes and after it has gone; S held.  When the tree has
 * followed, state_filter_tend() keeps the size of the filter right.
 */
void state_filter_add(struct mmn_state *state, uintptr_t start, uintptr_t last,
		      uint32_t *ret_mark);
void state_filter_remove(struct mmn_state *state, uintptr_t start,
			 uintptr_t last, uint32_t mark);
void state_filter_tend(struct mmn_state *state);
void state_update_hull(struct mmn_state *state);

/*
 * Make every open change within [start, last] a registered one, so that it is
 * counted and its end will look at the tree; S held, filter already set.
 */
void state_adopt_slots(struct mmn_state *state, uintptr_t start,
		       uintptr_t last);

/*
 * A change is over or a classic subscription has left its list; inside S, or S
 * held.
 */
void state_wake_drain(struct mmn_state *state);

/*
 * Give the change an id and make it a counted one, from which on its end looks
 * at the tree; inside S, or S held.
 */
void change_count(struct mmn_state *state, struct mmn_invalidate_desc *desc);

/* Open it, without a slot, and tell range subscriptions only. */
void change_tell_ranges(struct mmn_invalidate_desc *desc);

/*
 * How many changes @sub has to begin with in sub->open, S held, its birth
 * given, its range in the filter, the slots adopted.
 */
uint32_t state_count_open(struct mmn_state *state, struct range_sub *sub);

/*
 * The callbacks of @sub that are under way are counted in sub->running from now
 * on; S held, @sub not in the tree any more.
 */
void state_count_calls(struct mmn_state *state, struct range_sub *sub);

/* All counted changes, first those in slots; S held. */
struct counted {
	struct mmn_state *state;
	uint32_t i;
	struct list_head *link;
};

struct mmn_invalidate_desc *counted_next(struct counted *at);

/* One more change has called @nr range subscriptions; not inside. */
void state_note_hit(struct mmn_state *state, struct slot *slot, uint64_t nr);

/* Is a change open and counted that is older than @birth?  S held. */
bool state_has_change_before(struct mmn_state *state, uint64_t birth);

/* Has this thread an open change, known to be its own, over the range? */
bool state_thread_has_change(struct mmn_state *state, uintptr_t start,
			     uintptr_t last);

static inline bool state_is_idle(struct mmn_state *state)
{
	uint32_t i;

	for (i = 0; i < NR_SLOTS; i++)
		/* relaxed: nobody else has the state any more */
		if (mmn_load_relaxed(&state->slots[i].word))
			return false;
	return list_is_empty(&state->overflow);
}

static inline bool change_overlaps(const struct mmn_invalidate_desc *desc,
				   uintptr_t start, uintptr_t last)
{
	return desc->start <= last && desc->last >= start;
}

/* Is @sub, which overlaps it, told of @desc and made to wait for it? */
static inline bool range_cares(const struct range_sub *sub,
			       const struct mmn_invalidate_desc *desc)
{
	return !desc->owner || desc->owner != sub->owner;
}

/*
 * C3.  A counted change that is still on its way, or has found nobody, counts on
 * those that it has come to; and an insert counts it on what is younger.
 */
static inline bool change_counts(const struct change *change,
				 const struct range_sub *sub)
{
	return !id_before(sub->node.birth, change->id) ||
	       !itree_is_above(&sub->node, change->cursor_start,
			       change->cursor_birth);
}

/* The object is taken: inserted, or on its way in or out. */
static inline bool range_status_is_taken(uint32_t status)
{
	return (status >= SUB_BUSY && status <= SUB_DEFERRED) ||
	       status == SUB_EDITED;
}

/*
 * What insert and remove consist of, for edits.  S is held.  Link and move take
 * a birth; their range is in the filter and the slots are adopted.  The tree
 * follows, the filter's hull does not.  @running is how the remover waits.
 */
void range_link(struct mmn_state *state, struct range_sub *sub);
void range_move(struct mmn_state *state, struct range_sub *sub, uintptr_t start,
		uintptr_t last, uint32_t mark);
void range_unlink(struct mmn_state *state, struct range_sub *sub,
		  uint32_t running);

/* The rest of a removal with RUNNING_LEAVING, or of a deferred one; S dropped. */
void range_await(struct range_sub *sub);
void range_let_go(struct range_sub *sub);

/* In a fork child that goes on by itself: forget what the parent waited for. */
void classics_adopt(uint32_t generation);

/*
 * The callbacks of one start, from @sub on, the first that is concerned or
 * NULL; the visitor is inside on entry and not inside on return.  False when it
 * was refused.
 */
bool ranges_tell(struct visit *visit, struct mmn_invalidate_desc *desc,
		 struct herd *herd, struct range_sub *sub);

/* The next one to be told of the change; inside S. */
struct range_sub *ranges_next(struct herd *herd,
			      struct mmn_invalidate_desc *desc);

/* How often @sub was called since it was initialised; any context. */
uint64_t range_nr_callbacks(const struct range_sub *sub);

/* The end of one range subscription's share in a change; inside S. */
void range_uncount(struct range_sub *sub);

/*
 * Classic subscribers: ask them all; the visitor is not inside.  False when the
 * change may not sleep and one refused; those that accepted have had their end
 * then.
 */
bool classics_tell_start(struct visit *visit, struct mmn_invalidate_desc *desc,
			 uint64_t id);
void classics_tell_end(struct visit *visit, struct mmn_invalidate_desc *desc,
		       uint64_t id);
/* S held. */
void classics_release(struct mmn_state *state);

#endif
