/* SPDX-License-Identifier: MIT */
/*
 * Range subscriptions: insert and remove, the read side, and the walk that
 * calls them back.
 */
#include "notifier/state.h"

#include <errno.h>
#include <string.h>

#include "base/inject.h"
#include "base/probe.h"
#include "base/time.h"
#include "base/wait.h"

int mmn_range_last(uintptr_t start, size_t length, uintptr_t *ret_last)
{
	if (!length)
		return -EINVAL;
	if (length - 1 > UINTPTR_MAX - start)
		return -EOVERFLOW;
	*ret_last = start + (length - 1);
	return 0;
}

/* ------------------------------------------------------------------ */
/* Init                                                               */
/* ------------------------------------------------------------------ */

static bool ops_are_valid(const struct mmn_range_ops *ops)
{
	if (!ops)
		return false;
	if (ops->invalidate)
		return !ops->invalidate_start && !ops->invalidate_finish;
	return ops->invalidate_start && ops->invalidate_finish;
}

static bool lock_is_valid(const struct mmn_driver_lock *lock)
{
	switch (lock->kind) {
	case MMN_DRIVER_LOCK_NONE:
		return true;
	case MMN_DRIVER_LOCK_MUTEX:
	case MMN_DRIVER_LOCK_RWLOCK:
		return lock->lock;
	case MMN_DRIVER_LOCK_PREDICATE:
		return lock->is_held;
	default:
		return false;
	}
}

/* openat2()'s rule: what a shorter one lacks is 0, what we do not know must be. */
static int read_config(struct mmn_range_config *copy,
		       const struct mmn_range_config *config)
{
	size_t known = sizeof(*copy), i;

	if (!config || config->size < offsetof(struct mmn_range_config, lock))
		return -EINVAL;
	if (config->size < known)
		known = config->size;
	for (i = known; i < config->size; i++)
		if (((const char *)config)[i])
			return -E2BIG;
	memset(copy, 0, sizeof(*copy));
	memcpy(copy, config, known);
	return 0;
}

int mmn_range_subscription_init(struct mmn_range_subscription *public_sub,
				const struct mmn_range_config *public_config)
{
	struct range_sub *sub = range_of(public_sub);
	struct mmn_range_config config;
	int ret;

	if (!sub)
		return -EINVAL;
	ret = read_config(&config, public_config);
	if (ret)
		return ret;
	if ((config.flags & ~MMN_RANGE_INTERRUPTIBLE) ||
	    !ops_are_valid(config.ops) || !lock_is_valid(&config.lock))
		return -EINVAL;
	memset(sub, 0, sizeof(*sub));
	sub->ops = config.ops;
	sub->lock = config.lock;
	sub->lock.reserved = config.flags;
	sub->owner = config.owner;
	sub->generation = mmn_process_generation();
	sub->status = SUB_IDLE;
	return 0;
}

/* ------------------------------------------------------------------ */
/* Insert                                                             */
/* ------------------------------------------------------------------ */

/*
 * The order matters: first the filter, then the slots, see mmn_invalidate_open().
 * The birth is given after the changes found in the slots got their ids, so that
 * they count as older: they are waited for, but do not call back.
 */
static void link_range(struct mmn_state *state, struct range_sub *sub)
{
	state_filter_add(state, sub->node.start, sub->node.last,
			 &sub->node.mark);
	state_adopt_slots(state, sub->node.start, sub->node.last);
	range_link(state, sub);
	sub->since = sub->node.birth;
	state_filter_tend(state);
}

/* S is closed: only readers write there, the bit.  Returns what it was. */
static uint32_t set_open_count(struct range_sub *sub, uint32_t nr)
{
	/* relaxed: the exchange decides */
	uint32_t open = mmn_load_relaxed(&sub->open);

	/* relaxed: who has to see it gets the sequence that is stored after it */
	while (!mmn_cmpxchg_relaxed(&sub->open, &open,
				    (open & ~(OPEN_COUNT | OPEN_WAITER)) |
					    OPEN_ONE * nr))
		;
	return open;
}

void range_link(struct mmn_state *state, struct range_sub *sub)
{
	sub->node.birth = new_id(state);
	itree_insert(&state->tree, &sub->node);
	set_open_count(sub, state_count_open(state, sub));
	/*
	 * relaxed: nobody reads it before the caller has published the
	 * subscription, and whoever ends a change enters S first
	 */
	mmn_store_relaxed(&sub->seq, sub->node.birth);
}

/*
 * Readers are there.  One that gets the new sequence sees the new count, or a
 * later one; one that got the old sequence starts over, whatever it saw.
 *
 * The changes that are open and overlap are counted from here on.  So when such
 * a change calls back, no reader has begun that it has to turn away, and its
 * number is not needed: it must not come back, either, after readers have begun
 * with it while the subscription was elsewhere; see mmn_range_set_seq().
 */
void range_move(struct mmn_state *state, struct range_sub *sub, uintptr_t start,
		uintptr_t last, uint32_t mark)
{
	uint32_t open;

	itree_remove(&state->tree, &sub->node);
	filter_remove(&state->filter, sub->node.start, sub->node.last,
		      sub->node.mark);
	sub->node.start = start;
	sub->node.last = last;
	sub->node.mark = mark;
	/* relaxed: see mmn_range_set_seq() */
	mmn_store_relaxed(&sub->node.birth, new_id(state));
	itree_insert(&state->tree, &sub->node);
	open = set_open_count(sub, state_count_open(state, sub));
	/*
	 * pair(range_seq): release, with the acquire in read_begin().  Without
	 * it a reader gets this sequence together with the old count, and reads
	 * in the middle of a change.
	 */
	mmn_store_release(&sub->seq, sub->node.birth);
	if (open & OPEN_WAITER)
		mmn_wake(&sub->open, INT32_MAX);
	MMN_PROBE(range_resize, sub, start, last, sub->node.birth);
}

static int insert_locked(struct mmn_state *state, struct range_sub *sub,
			 uintptr_t start, uintptr_t last)
{
	if (state->released)
		return -EINVAL;
	sub->state = mmn_state_get(state);
	sub->generation = state->generation;
	sub->node.start = start;
	sub->node.last = last;
	link_range(state, sub);
	MMN_PROBE(range_insert, sub, start, last, sub->node.birth);
	return 0;
}

int mmn_range_subscription_insert(struct mmn_range_subscription *public_sub,
				  struct mmn_state *state, uintptr_t start,
				  uintptr_t last)
{
	struct range_sub *sub = range_of(public_sub);
	uint32_t status = SUB_IDLE;
	struct mmn_sigmask saved;
	int ret;

	if (!sub || !state || last < start)
		return -EINVAL;
	if (!state_is_live(state))
		return -ESTALE;
	if (hall_own_pass(&state->hall))
		return -EDEADLK;
	/*
	 * pair(range_status): acquire, with the release in give_back() when it
	 * was inserted before.  Without it what was last written then may land
	 * in its next life.
	 */
	if (!mmn_cmpxchg_acquire(&sub->status, &status, SUB_BUSY))
		return range_status_is_taken(status) ? -EEXIST : -EINVAL;
	state_lock(state, &saved);
	ret = insert_locked(state, sub, start, last);
	/*
	 * pair(range_status): release, with the acquire in claim_removal().
	 * Without it a remover may not see the state it has to lock.
	 */
	mmn_store_release(&sub->status, ret ? SUB_IDLE : SUB_INSERTED);
	state_unlock(state, &saved);
	return ret;
}

/* ------------------------------------------------------------------ */
/* Remove                                                             */
/* ------------------------------------------------------------------ */

/*
 * One remover wins before any lock is taken: the loser must not touch the state,
 * which may be gone with the last of its references.
 */
static bool claim_removal(struct range_sub *sub, uint32_t status)
{
	uint32_t inserted, turn = 0;

	do {
		inserted = SUB_INSERTED;
		/*
		 * pair(range_status): acquire, with the release in
		 * mmn_range_subscription_insert().  Without it sub->state is
		 * not there.
		 */
		if (mmn_cmpxchg_acquire(&sub->status, &inserted, status))
			return true;
		/* An edit has it; it may still come to nothing. */
		if (inserted == SUB_EDITED)
			mmn_give_way(turn++);
	} while (inserted == SUB_EDITED);
	return false;
}

/* Nobody sleeps on a subscription that is gone; S held. */
static void dismiss_readers(struct range_sub *sub)
{
	uint32_t open;

	/*
	 * relaxed: readers that see the old one are caught when they retry;
	 * callbacks that still run put no other sequence in its place
	 */
	mmn_store_relaxed(&sub->seq, 0);
	open = set_open_count(sub, 0);
	if (!(open & OPEN_WAITER))
		return;
	/* The bit alone may be left from one whose deadline passed. */
	mmn_bug_on(mmn_load_relaxed(&sub->sleepers), /* relaxed: a report */
		   "a subscription is removed while a reader sleeps in "
		   "read_begin");
	mmn_wake(&sub->open, INT32_MAX);
}

void range_unlink(struct mmn_state *state, struct range_sub *sub,
		  uint32_t running)
{
	itree_remove(&state->tree, &sub->node);
	filter_remove(&state->filter, sub->node.start, sub->node.last,
		      sub->node.mark);
	dismiss_readers(sub);
	MMN_PROBE(range_remove, sub, sub->node.start, sub->node.last);
	/* relaxed: the exchanges on it stand in one order */
	mmn_fetch_add_relaxed(&sub->running, running);
	state_count_calls(state, sub);
}

static void unlink_range(struct mmn_state *state, struct range_sub *sub,
			 uint32_t running)
{
	struct mmn_sigmask saved;

	state_lock(state, &saved);
	range_unlink(state, sub, running);
	/* Most are in the middle: the hull does not depend on them. */
	if (sub->node.start <= state->filter.hull_lo ||
	    sub->node.last >= state->filter.hull_hi)
		state_update_hull(state);
	state_filter_tend(state);
	state_unlock(state, &saved);
}

/* The object is its owner's again.  Nothing of it may be touched afterwards. */
static void give_back(struct range_sub *sub)
{
	/*
	 * pair(range_status): release, with the acquire in
	 * mmn_range_subscription_insert().  Without it the next life may see
	 * writes of this one.
	 */
	mmn_store_release(&sub->status, SUB_IDLE);
}

/* No new callbacks come; S is not held. */
static void wait_idle(struct range_sub *sub)
{
	uint32_t running;

	/*
	 * pair(range_running): acquire, with the release in drop_running().
	 * Without it the caller frees what a callback still writes.
	 */
	while ((running = mmn_load_acquire(&sub->running)) >= RUNNING_ONE)
		mmn_wait_on(&sub->running, running, NULL);
	/* relaxed: it is ours alone */
	mmn_store_relaxed(&sub->running, 0);
}

void range_await(struct range_sub *sub)
{
	struct mmn_state *state = sub->state;

	wait_idle(sub);
	give_back(sub);
	mmn_state_put(state);
}

int mmn_range_subscription_remove(struct mmn_range_subscription *public_sub)
{
	struct range_sub *sub = range_of(public_sub);
	struct mmn_state *state;

	if (!sub)
		return -ENOENT;
	if (mmn_context_in_callback()) {
		mmn_bug("remove in a callback: use remove_deferred");
		return -EDEADLK;
	}
	if (!claim_removal(sub, SUB_LEAVING))
		return -ENOENT;
	mmn_bug_on(mmn_driver_lock_is_surely_held(&sub->lock),
		   "remove with the driver's lock held");
	state = sub->state;
	if (!range_is_live(sub)) {
		give_back(sub);
		return 0;
	}
	unlink_range(state, sub, RUNNING_LEAVING);
	range_await(sub);
	return 0;
}

/* The last one has left a subscription that is removed for good. */
static void release_range(struct range_sub *sub)
{
	const struct mmn_range_ops *ops = sub->ops;
	struct mmn_state *state = sub->state;

	/* relaxed: it is ours alone */
	mmn_store_relaxed(&sub->running, 0);
	give_back(sub);
	ops->release(public_range(sub));
	mmn_state_put(state);
}

/* Returns what it was before; the object may be gone unless it was more. */
static uint32_t drop_running(struct range_sub *sub, uint32_t what)
{
	/*
	 * pair(range_running): release and acquire, with the acquire in
	 * wait_idle(), and with itself in drop_running() of whoever comes to 0.
	 * Without it the object is given back while a callback still writes it.
	 */
	return mmn_fetch_sub_acq_rel(&sub->running, what);
}

/* All callbacks are counted. */
void range_let_go(struct range_sub *sub)
{
	if (drop_running(sub, RUNNING_REMOVER) ==
	    (RUNNING_DEFERRED | RUNNING_REMOVER))
		release_range(sub);
}

/* Status is taken, S is not. */
static void leave_deferred(struct range_sub *sub)
{
	unlink_range(sub->state, sub, RUNNING_DEFERRED + RUNNING_REMOVER);
	range_let_go(sub);
}

/*
 * In a handler that has interrupted a reader: it goes when the reader does.
 * False when there is none.
 */
static bool leave_with_reader(struct range_sub *sub)
{
	struct hall_pass *pass = hall_own_pass(&sub->state->hall);
	struct visit *visit;

	if (!pass)
		return false;
	visit = container_of(pass, struct visit, pass);
	sub->leaving_next = visit->leaving;
	visit->leaving = sub;
	return true;
}

void ranges_leave(struct range_sub *leaving)
{
	while (leaving) {
		struct range_sub *next = leaving->leaving_next;

		leave_deferred(leaving);
		leaving = next;
	}
}

int mmn_range_subscription_remove_deferred(
	struct mmn_range_subscription *public_sub)
{
	struct range_sub *sub = range_of(public_sub);

	if (!sub)
		return -ENOENT;
	/* relaxed: whoever may call this knows that it was inserted */
	if (mmn_load_relaxed(&sub->status) == SUB_INSERTED &&
	    !sub->ops->release)
		return -EINVAL;
	if (!claim_removal(sub, SUB_DEFERRED))
		return -ENOENT;
	if (range_is_live(sub) && !leave_with_reader(sub))
		leave_deferred(sub);
	return 0;
}

uintptr_t mmn_range_subscription_start(const struct mmn_range_subscription *sub)
{
	return range_of(sub)->node.start;
}

uintptr_t mmn_range_subscription_last(const struct mmn_range_subscription *sub)
{
	return range_of(sub)->node.last;
}

/* ------------------------------------------------------------------ */
/* The read side                                                      */
/* ------------------------------------------------------------------ */

/*
 * One look.  True, and the sequence, when nothing is open.
 *
 *	CPU0: a change                    CPU1: read_begin
 *
 *	open++			(a)
 *	callback: seq = id	(b)
 *	                                  [R] seq
 *	memory changes		(c)
 *	open--			(d)
 *	                                  [R] open == 0
 *
 * The reader that got (b) sees (a) or something later, so it waits for (d), and
 * then it sees (c).  The one that got an older sequence is told to start over.
 * Reading open first would lose: 0 from before (a), the sequence from after (b).
 */
static bool read_begin(const struct range_sub *sub, uint64_t *seq,
		       uint32_t *open)
{
	/*
	 * pair(range_seq): acquire, with the release in mmn_range_set_seq().
	 * Without it the count may be one from before the change whose sequence
	 * this is, and what is read in the section one from before its end.
	 */
	*seq = mmn_load_acquire(&sub->seq);
	/*
	 * pair(open_count): acquire, with the release in range_uncount().
	 * Without it the reader sees memory as it was before the change.
	 */
	*open = mmn_load_acquire(&sub->open);
	return !(*open & OPEN_COUNT) || !*seq;
}

#if MMN_SELFCHECK
/* The sleep that would never end. */
static void check_own_change(const struct range_sub *sub)
{
	struct mmn_sigmask saved;
	bool own;

	if (mmn_context_in_callback())
		return;
	state_lock(sub->state, &saved);
	/* relaxed: S is held, and the caller keeps it inserted */
	own = mmn_load_relaxed(&sub->status) == SUB_INSERTED &&
	      state_thread_has_change(sub->state, sub->node.start,
				      sub->node.last);
	state_unlock(sub->state, &saved);
	mmn_bug_on(own, "read_begin inside an own change over the range");
}
#else
static void check_own_change(const struct range_sub *sub)
{
	(void)sub;
}
#endif

/* Sleep until the count may have moved; -ETIMEDOUT, or 0 to look again. */
static int read_wait(struct range_sub *sub, uint32_t open,
		     const struct timespec *deadline)
{
	int ret;

	/*
	 * relaxed: the bit asks for a wake-up only; the count is read again
	 * with its order
	 */
	if (!(open & OPEN_WAITER) &&
	    !mmn_cmpxchg_relaxed(&sub->open, &open, open | OPEN_WAITER))
		return 0;
	MMN_PROBE(read_wait, sub, open);
	/* relaxed, both: the count is for a report only */
	mmn_fetch_add_relaxed(&sub->sleepers, 1);
	ret = mmn_wait_on(&sub->open, open | OPEN_WAITER, deadline);
	mmn_fetch_sub_relaxed(&sub->sleepers, 1);
	return ret;
}

static void raise_to(uint64_t *longest, uint64_t ns)
{
	/* relaxed, both: a statistic */
	uint64_t known = mmn_load_relaxed(longest);

	while (known < ns && !mmn_cmpxchg_relaxed(longest, &known, ns))
		;
}

/* The subscription may be removed meanwhile, and the state go with it. */
static int wait_for_count(struct range_sub *sub, uint32_t open,
			  const struct timespec *deadline, uint64_t *ret_seq)
{
	struct mmn_state *state = mmn_state_get(sub->state);
	uint64_t began = mmn_now_ns(), seq, ns;
	bool begun;
	int ret;

	do {
		ret = read_wait(sub, open, deadline);
		/* Also when the time is over: success is never a time-out. */
		begun = read_begin(sub, &seq, &open);
	} while (!begun && !ret);
	ns = mmn_now_ns() - began;
	/* relaxed: a statistic */
	mmn_fetch_add_relaxed(&sub->nr_waits, 1);
	raise_to(&sub->longest_wait_ns, ns);
	raise_to(&state->longest_wait_ns, ns);
	mmn_state_put(state);
	if (!begun)
		return ret;
	*ret_seq = seq;
	return 0;
}

static int read_begin_until(const struct range_sub *sub,
			    const struct timespec *deadline, uint64_t *ret_seq)
{
	uint32_t open;
	uint64_t seq;

	if (!read_begin(sub, &seq, &open)) {
		check_own_change(sub);
		return wait_for_count((struct range_sub *)sub, open, deadline,
				      ret_seq);
	}
	*ret_seq = seq;
	return 0;
}

/* What would wait for itself, whether or not it has to wait this time. */
static void check_reader(const struct range_sub *sub)
{
	mmn_bug_on(mmn_context_in_callback(), "read_begin in a callback");
	mmn_bug_on(mmn_driver_lock_is_surely_held(&sub->lock),
		   "read_begin with the driver's lock held");
}

uint64_t mmn_range_read_begin(const struct mmn_range_subscription *public_sub)
{
	const struct range_sub *sub = range_of(public_sub);
	uint32_t open;
	uint64_t seq;

	check_reader(sub);
	if (unlikely(!range_is_live(sub)))
		return 0;
	if (likely(read_begin(sub, &seq, &open)))
		return seq;
	read_begin_until(sub, NULL, &seq);
	return seq;
}

int mmn_range_read_begin_try(const struct mmn_range_subscription *public_sub,
			     uint64_t *ret_seq)
{
	uint32_t open;
	uint64_t seq;

	if (unlikely(!range_is_live(range_of(public_sub))))
		seq = 0;
	else if (!read_begin(range_of(public_sub), &seq, &open))
		return -EAGAIN;
	*ret_seq = seq;
	return 0;
}

int mmn_range_read_begin_timed(const struct mmn_range_subscription *public_sub,
			       uint64_t deadline_ns, uint64_t *ret_seq)
{
	struct timespec deadline = mmn_timespec(deadline_ns);

	check_reader(range_of(public_sub));
	if (unlikely(!range_is_live(range_of(public_sub)))) {
		*ret_seq = 0;
		return 0;
	}
	return read_begin_until(range_of(public_sub), &deadline, ret_seq);
}

static bool seq_moved(const struct range_sub *sub, uint64_t seq)
{
	/* relaxed: the driver's lock orders it; without that it is a hint */
	return mmn_load_relaxed(&sub->seq) != seq || !seq ||
	       !range_is_live(sub);
}

bool mmn_range_read_retry(const struct mmn_range_subscription *public_sub,
			  uint64_t seq)
{
	const struct range_sub *sub = range_of(public_sub);

	mmn_bug_on(!mmn_driver_lock_is_held(&sub->lock),
		   "read_retry without the driver's lock");
	if (MMN_INJECT(MMN_INJECT_RETRY_SKIP))
		return false;
	if (!seq_moved(sub, seq) && !MMN_INJECT(MMN_INJECT_RETRY))
		return false;
	/* relaxed: a statistic */
	mmn_fetch_add_relaxed(&range_of(public_sub)->nr_retries, 1);
	MMN_PROBE(read_collision, sub, seq);
	return true;
}

bool mmn_range_check_retry(const struct mmn_range_subscription *sub,
			   uint64_t seq)
{
	return seq_moved(range_of(sub), seq);
}

void mmn_range_set_seq(struct mmn_range_subscription *public_sub,
		       uint64_t cur_seq)
{
	struct range_sub *sub = range_of(public_sub);
	/* relaxed: only removal writes it without the driver's lock */
	uint64_t seq = mmn_load_relaxed(&sub->seq);

	mmn_bug_on(!mmn_driver_lock_is_held_exclusive(&sub->lock),
		   "set_seq without the driver's lock");
	if (MMN_INJECT(MMN_INJECT_SEQ_SKIP))
		return;
	/*
	 * It has moved since the change began, see range_move().
	 * relaxed: a move that makes this change call once more is seen through
	 * S; with any other it does not matter which number is there
	 */
	if (id_before(cur_seq, mmn_load_relaxed(&sub->node.birth)))
		return;
	/*
	 * A subscription that was removed meanwhile keeps its 0.
	 *
	 * pair(range_seq): release, with the acquire in read_begin().  Without
	 * it a reader may get this sequence together with a count from before
	 * the change, and read in the middle of it.
	 */
	if (seq)
		mmn_cmpxchg_release(&sub->seq, &seq, cur_seq);
}

void range_uncount(struct range_sub *sub)
{
	uint32_t open;

	/*
	 * pair(open_count): release, with the acquire in read_begin().  Without
	 * it a reader sees no change open and memory as it was before.
	 */
	open = mmn_fetch_sub_release(&sub->open, OPEN_ONE);
	if ((open & (OPEN_COUNT | OPEN_WAITER)) != (OPEN_ONE | OPEN_WAITER))
		return;
	/*
	 * Nobody sets the bit while the count is 0; one that another change has
	 * brought up meanwhile is looked at again by whoever is woken.
	 * relaxed: a reader that reads this one reads on from the release above
	 */
	mmn_fetch_and_relaxed(&sub->open, ~OPEN_WAITER);
	mmn_wake(&sub->open, INT32_MAX);
}

/* ------------------------------------------------------------------ */
/* The walk                                                           */
/* ------------------------------------------------------------------ */

/*
 * struct walk - one change on its way along the subscriptions
 *
 * The visitor is inside S in between and leaves for each callback.  What keeps
 * the walk on its way is the key of the last subscription, not the node: that
 * may be gone by then.  What keeps the subscription is that change->calling names
 * it.  Subscriptions that come after the change got its id are not called, so
 * the last one is known as such before it is called, unless a writer comes.
 *
 * Subscriptions that were there and have moved since (R4) are called where the
 * walk comes to them, and once more from the beginning when one may have moved
 * past it.
 */
struct walk {
	struct visit *visit;
	struct mmn_invalidate_desc *desc;
	struct change *change;
	struct herd *herd;
	/* the key of the last one called, in this round */
	uintptr_t at_start;
	uint64_t at_birth;
	bool blockable;
	struct mmn_range_finish *first;
	struct mmn_range_finish **end;
	/* callbacks so far */
	uint64_t nr;
};

/* Was it there when the change came; in the second round: and has moved? */
static bool is_to_be_told(const struct range_sub *sub,
			  const struct change *change)
{
	if (!change->id)
		return true;
	return id_before(sub->since, change->id) &&
	       (!(change->again & AGAIN_ROUND) ||
		id_before(change->id, sub->node.birth));
}

struct range_sub *herd_fetch(struct herd *herd)
{
	uint32_t i;

	herd->at = 0;
	herd->nr = itree_iter_take(&herd->iter, herd->nodes, HERD_SIZE);
	for (i = 0; i < herd->nr; i++)
		/* Its sequence and its count are written soon. */
		__builtin_prefetch(range_of_node(herd->nodes[i]), 1);
	return herd->nr ? range_of_node(herd->nodes[herd->at++]) : NULL;
}

static inline struct range_sub *next_to_tell(struct herd *herd,
					     struct mmn_invalidate_desc *desc)
{
	const struct change *change = change_of(desc);
	struct range_sub *sub;

	while ((sub = herd_next(herd)))
		if (range_cares(sub, desc) && is_to_be_told(sub, change))
			break;
	return sub;
}

struct range_sub *ranges_next(struct herd *herd,
			      struct mmn_invalidate_desc *desc)
{
	return next_to_tell(herd, desc);
}

/* A callback that was counted is over. */
static void call_ends(struct walk *walk, struct range_sub *sub)
{
	uint32_t running = drop_running(sub, RUNNING_ONE);
	struct mmn_callback_frame frame;

	if (running == (RUNNING_LEAVING | RUNNING_ONE))
		/* The object may be gone; waking looks at the address only. */
		mmn_wake(&sub->running, 1);
	if (running == (RUNNING_DEFERRED | RUNNING_ONE)) {
		visit_block(walk->visit);
		mmn_context_enter_callback(&frame, NULL, walk->blockable);
		release_range(sub);
		mmn_context_leave_callback(&frame);
	}
}

/* The callback is over; S may be closed. */
static void stop_calling(struct walk *walk, struct range_sub *sub)
{
	/*
	 * pair(range_calling): release, with the acquire in
	 * state_count_calls().  Without it the object is given back while what
	 * the callback did is still on the way.
	 */
	if (mmn_xchg_release(&walk->change->calling, 0) & CALLING_COUNTED)
		call_ends(walk, sub);
}

/* The same on the way to the next one; enters. */
static void stop_calling_inside(struct walk *walk, struct range_sub *sub)
{
	visit_reenter(walk->visit);
	/* relaxed, both: S orders it with the removers */
	if (likely(!(mmn_load_relaxed(&walk->change->calling) &
		     CALLING_COUNTED))) {
		mmn_store_relaxed(&walk->change->calling, 0);
		return;
	}
	visit_leave(walk->visit);
	stop_calling(walk, sub);
	visit_reenter(walk->visit);
}

static bool call_op(struct walk *walk, struct range_sub *sub,
		    struct mmn_range_finish **finish)
{
	uint64_t id = walk->change->id;

	if (MMN_INJECT(MMN_INJECT_REFUSE) && !walk->blockable)
		return false;
	if (sub->ops->invalidate)
		return sub->ops->invalidate(public_range(sub), walk->desc, id);
	return sub->ops->invalidate_start(public_range(sub), walk->desc, id,
					  finish);
}

/*
 * A handler that interrupts the callback must not find the driver's lock taken
 * by its own thread.  Who says that it does no harm does not pay for it.
 */
static void enter_callback(struct walk *walk, struct range_sub *sub,
			   struct mmn_callback_frame *frame)
{
	if (!range_is_interruptible(sub))
		visit_block(walk->visit);
	mmn_context_enter_any_callback(frame, sub, walk->blockable,
				       !mmn_signals_are_held());
}

/*
 * Who has moved since the change came may be called twice, and ask with the same
 * object: one second pass comes after both.
 */
static bool is_chained(const struct walk *walk, const struct range_sub *sub,
		       const struct mmn_range_finish *finish)
{
	const struct mmn_range_finish *at = walk->first;

	/* relaxed: that it has moved was seen inside S, before this call */
	if (id_before(mmn_load_relaxed(&sub->node.birth), walk->change->id))
		return false;
	while (at && at != finish)
		at = at->next;
	return at;
}

/* First pass of one subscriber; not inside. */
static bool call_range(struct walk *walk, struct range_sub *sub)
{
	struct mmn_range_finish *finish = NULL;
	struct mmn_callback_frame frame;
	bool accepted;

	if (mmn_context_in_callback_of(sub)) {
		mmn_bug("a change over a range whose callback makes it");
		return true;
	}
	mmn_bug_on(walk->blockable &&
			   mmn_driver_lock_is_surely_held(&sub->lock),
		   "a change is made with the lock of its subscriber held");
	MMN_INJECT_PAUSE();
	enter_callback(walk, sub, &frame);
	accepted = call_op(walk, sub, &finish);
	mmn_context_leave_callback(&frame);
	MMN_PROBE(range_called, sub, walk->desc, walk->change->id, accepted);
	if (!accepted) {
		mmn_bug_on(walk->blockable,
			   "a change that may sleep was refused");
		return walk->blockable;
	}
	if (finish && !is_chained(walk, sub, finish)) {
		/* relaxed: before we stop calling it */
		mmn_fetch_add_relaxed(&sub->running, RUNNING_ONE);
		finish->sub = public_range(sub);
		finish->next = NULL;
		*walk->end = finish;
		walk->end = &finish->next;
	}
	return true;
}

/*
 * Counts the callback in open, and with it what @add says.
 *
 * relaxed: a reader that must see it has read the sequence that the callback
 * stores later; see mmn_range_set_seq()
 */
static void add_call(struct range_sub *sub, uint32_t add)
{
	uint32_t open = mmn_fetch_add_relaxed(&sub->open, add + OPEN_CALL);

	/* relaxed: a statistic */
	if (unlikely((open ^ (open + add + OPEN_CALL)) >> 31))
		mmn_fetch_add_relaxed(&sub->half_turns, 1);
}

uint64_t range_nr_callbacks(const struct range_sub *sub)
{
	/* relaxed, both: exact as soon as no callback is about to begin */
	uint64_t half_turns = mmn_load_relaxed(&sub->half_turns);
	uint32_t open = mmn_load_relaxed(&sub->open);

	/* The last one is seen in open, and not yet there. R5 */
	half_turns += (half_turns ^ open >> 31) & 1;
	return half_turns / 2 * ((UINT64_C(1) << 32) / OPEN_CALL) +
	       open / OPEN_CALL;
}

/* Readers of it wait from here on, if they do not already; inside S. */
static void begin_calling(struct walk *walk, struct range_sub *sub)
{
	struct change *change = walk->change;

	walk->at_start = sub->node.start;
	walk->at_birth = sub->node.birth;
	if (!(change->again & AGAIN_ROUND)) {
		change->cursor_start = sub->node.start;
		change->cursor_birth = sub->node.birth;
	}
	add_call(sub, id_before(sub->node.birth, change->id) ? OPEN_ONE : 0);
	walk->nr++;
	/* relaxed: S orders it with the removers */
	mmn_store_relaxed(&change->calling, (uintptr_t)sub);
}

/* The only one: when nobody comes or goes the end need not look for it. */
static void note_only(struct walk *walk, struct range_sub *sub)
{
	struct slot *slot = walk->visit->slot;

	if (slot && slot->version == state_version(walk->visit->state))
		slot->only = sub;
}

/* The first one of another round; inside S. */
static struct range_sub *next_round(struct walk *walk)
{
	struct change *change = walk->change;

	if (!(change->again & AGAIN_WANTED))
		return NULL;
	change->again = AGAIN_ROUND;
	herd_init(walk->herd, &walk->visit->state->tree, walk->desc);
	return next_to_tell(walk->herd, walk->desc);
}

/* First pass over all; inside on entry, not on return. */
static bool walk_starts(struct walk *walk, struct range_sub *sub)
{
	struct mmn_state *state = walk->visit->state;
	struct range_sub *first = sub, *next;
	bool accepted, is_last;

	for (;;) {
		uint64_t version = state_version(state);

		next = next_to_tell(walk->herd, walk->desc);
		is_last = !next && !(walk->change->again & AGAIN_WANTED);
		if (!next && sub == first)
			note_only(walk, sub);
		begin_calling(walk, sub);
		visit_leave(walk->visit);
		accepted = call_range(walk, sub);
		/*
		 * Who handed this one over did it under the driver's lock,
		 * before the callback had it: then we see the version.
		 */
		if (!accepted || (is_last && state_version(state) == version)) {
			stop_calling(walk, sub);
			return accepted;
		}
		stop_calling_inside(walk, sub);
		if (unlikely(state_version(state) != version)) {
			herd_seek(walk->herd, &state->tree, walk->at_start,
				  walk->at_birth);
			next = next_to_tell(walk->herd, walk->desc);
		}
		if (!next)
			next = next_round(walk);
		if (!next) {
			visit_leave(walk->visit);
			return true;
		}
		sub = next;
	}
}

/* Second pass, in the order of the first; not inside. */
static void walk_finishes(struct walk *walk)
{
	while (walk->first) {
		struct mmn_range_finish *finish = walk->first;
		struct range_sub *sub = range_of(finish->sub);
		struct mmn_callback_frame frame;

		/* the object is the subscriber's again once it is called */
		walk->first = finish->next;
		enter_callback(walk, sub, &frame);
		sub->ops->invalidate_finish(finish);
		mmn_context_leave_callback(&frame);
		call_ends(walk, sub);
	}
}

bool ranges_tell(struct visit *visit, struct mmn_invalidate_desc *desc,
		 struct herd *herd, struct range_sub *sub)
{
	struct walk walk = {
		.visit = visit,
		.desc = desc,
		.change = change_of(desc),
		.herd = herd,
		.blockable = mmn_invalidate_is_blockable(desc),
	};
	bool accepted;

	if (!sub) {
		visit_leave(visit);
		return true;
	}
	walk.end = &walk.first;
	accepted = walk_starts(&walk, sub);
	walk_finishes(&walk);
	state_note_hit(visit->state, visit->slot, walk.nr);
	return accepted;
}
