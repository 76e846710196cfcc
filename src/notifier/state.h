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
#include "tree/itree.h"

#define CACHE_LINE 64

/* ------------------------------------------------------------------ */
/* A change                                                           */
/* ------------------------------------------------------------------ */

/* change->phase.  Odd patterns, so that memory never initialised has none. */
#define PHASE_READY UINT32_C(0x6d6e4301) /* initialised or ended */
#define PHASE_OPEN UINT32_C(0x6d6e4302)	 /* opened, nobody was told */
#define PHASE_TOLD UINT32_C(0x6d6e4303)	 /* opened and everybody was told */

#define NO_SLOT UINT32_C(0xffffffff)

/*
 * struct change - the private part of struct mmn_invalidate_desc
 *
 * Life: READY -> OPEN -> TOLD -> READY.  Between OPEN and the end it is either
 * in a slot, or on state->changes ("registered"), or, only while it is between
 * mmn_invalidate_open() and mmn_invalidate_notify(), in neither because all
 * slots were taken.
 *
 * C1  id != 0  <=>  it is on state->changes.
 * C2  id, once given, is odd, unique, and above every id given before.
 */
struct change {
	/* lock */
	struct list_head link;
	/* lock. C1, C2 */
	uint64_t id;
	/* const while open: mmn_context_self() of who started, NULL unknown */
	const void *opener;
	/* owner thread */
	uint32_t phase;
	/* owner thread: index in state->slots, or NO_SLOT */
	uint32_t slot;
	/* owner thread: classic subscriptions were told, and want the end */
	bool classic_told;
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
 * A slot holds one open change that nobody depends on yet: 0, or the address
 * of its descriptor, with SLOT_HELD set while an insert looks at it.
 *
 *	FREE -> OPEN		mmn_invalidate_open(), any thread
 *	OPEN -> FREE		mmn_invalidate_close() and end, the owner;
 *				notify, the owner, with the lock
 *	OPEN -> HELD -> OPEN	insert, with the lock: does not overlap
 *	OPEN -> HELD -> FREE	insert, with the lock: registers the change
 *
 * Nothing in a descriptor is read before its slot is HELD: until then its owner
 * may close it and reuse the memory.  A slot that is closed and opened again by
 * the same descriptor in between holds a good change as well, so the word needs
 * no version.
 */
#define SLOT_HELD ((uintptr_t)1)
#define NR_SLOTS 32u

struct slot {
	/* atomic */
	uintptr_t word;
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

/* sub->open: the count in units of OPEN_ONE, and one bit. */
#define OPEN_WAITER UINT32_C(1)
#define OPEN_ONE UINT32_C(2)

/*
 * struct range_sub - struct mmn_range_subscription
 *
 * Life: IDLE -> BUSY -> INSERTED -> LEAVING or DEFERRED -> IDLE.
 *
 * R1  in the tree: seq is odd; else it is 0.
 * R2  in the tree: open / OPEN_ONE is the number of registered changes that
 *     overlap [start, last] and are not of the same non-NULL owner.
 * R3  running counts the callbacks under way, a pending second pass included;
 *     the object is not given back before it is 0.
 */
struct range_sub {
	/* atomic: stored by the callback under the driver's lock. R1 */
	uint64_t seq;
	/* atomic: count changed under lock, OPEN_WAITER set by readers. R2 */
	uint32_t open;
	/* const while inserted: of the process, see base/process.h */
	uint32_t generation;
	/* const after init */
	const struct mmn_range_ops *ops;
	struct mmn_driver_lock lock;
	const void *owner;
	/* const while inserted */
	struct mmn_state *state;

	/* lock; the key and the ends are const while inserted */
	struct itree_node node __attribute__((aligned(CACHE_LINE)));

	/* lock for writers, atomic for the remover's sleep. R3 */
	uint32_t running __attribute__((aligned(CACHE_LINE)));
	/* atomic */
	uint32_t status;
	/* atomic: readers asleep, for the report of dismiss_readers() */
	uint32_t sleepers;
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

static inline struct range_sub *range_of_node(struct itree_node *node)
{
	return node ? container_of(node, struct range_sub, node) : NULL;
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
	/* lock */
	struct list_head link;
	/* const while registered, or while there are users */
	struct mmn_state *state;
	/* lock: changes with a smaller id are not told to it */
	uint64_t birth;
	/* lock: nor are the ends of changes up to this id */
	uint64_t ends_after;
	/* lock for writers, atomic for the sleep of who waits */
	uint32_t running;
	/* atomic */
	uint32_t status;
	/* atomic; from mmn_subscription_get() */
	uint32_t users;
	/* const while registered: of the process */
	uint32_t generation;
	/* lock: the last user has gone; which round of frees it belongs to */
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
 * S3  changes is in ascending order of id.
 * S4  classics is in ascending order of birth.
 * S5  R2 for every subscription in the tree.
 *
 * state_check() states S1 to S5 as code; builds with self-checks run it at each
 * unlock.
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

	/* Rank MMN_RANK_SUBSCRIBE: one mmn_subscription_get() at a time. */
	struct mmn_mutex get_lock;
	/* Rank MMN_RANK_STATE; called S.  Signals are blocked inside. */
	struct mmn_mutex lock __attribute__((aligned(CACHE_LINE)));
	/* lock. S1 */
	uint64_t next_seq;
	/* lock. S3 */
	struct list_head changes;
	/* lock. S4 */
	struct list_head classics;
	/* lock: how many of them have a start or an end */
	uint32_t nr_watching;
	/* lock: who waits for old changes to end or classics to leave */
	uint32_t nr_draining;
	/* lock for writers, atomic for the sleep: bumped as they do */
	uint32_t drain;
	/* lock: mmn_state_release() was called */
	bool released;

	/* lock */
	struct itree tree __attribute__((aligned(CACHE_LINE)));

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
	state->next_seq += 2;
	return state->next_seq;
}

/* S is taken with the signals blocked and dropped before they are restored. */
void state_lock(struct mmn_state *state, struct mmn_sigmask *saved);
void state_unlock(struct mmn_state *state, const struct mmn_sigmask *saved);

/* In between, around a callback or a sleep: signals stay as they are. */
void state_relock(struct mmn_state *state);
void state_drop(struct mmn_state *state);

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

/*
 * Make every open change within [start, last] a registered one, so that it is
 * counted and its end will look at the tree; S held, filter already set.
 */
void state_adopt_slots(struct mmn_state *state, uintptr_t start,
		       uintptr_t last);

/* A change or a classic subscription has left its list; S held. */
void state_wake_drain(struct mmn_state *state);

/* Put a change on the list and count it where it overlaps; S held. */
void change_register(struct mmn_state *state, struct mmn_invalidate_desc *desc);

/* Has this thread an open change, known to be its own, over the range? */
bool state_thread_has_change(struct mmn_state *state, uintptr_t start,
			     uintptr_t last);

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

/* In a fork child that goes on by itself: forget what the parent waited for. */
void classics_adopt(uint32_t generation);

/* The callbacks of one start: false when it was refused. */
bool ranges_tell(struct mmn_state *state, struct mmn_invalidate_desc *desc,
		 uint64_t id);

/*
 * Classic subscribers: ask them all, S held.  False when the change may not
 * sleep and one refused; those that accepted have had their end then.
 */
bool classics_tell_start(struct mmn_state *state,
			 struct mmn_invalidate_desc *desc, uint64_t id);
void classics_tell_end(struct mmn_state *state,
		       struct mmn_invalidate_desc *desc, uint64_t id);
void classics_release(struct mmn_state *state);

#endif
