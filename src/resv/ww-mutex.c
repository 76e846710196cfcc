/* SPDX-License-Identifier: MIT */
/*
 * Mutexes with acquire contexts.
 *
 * The lock word is the context that holds the lock, and two flags:
 *
 *	word			meaning
 *	0			free
 *	ctx | HELD		held, nobody waits
 *	ctx | HELD | QUEUED	held, there is a queue
 *
 * (ctx is 0 for a holder without one.)  Taking a free lock and giving back one
 * without a queue is one exchange each.  Everything else happens under the guard
 * of the queue.  Because the holder's context comes and goes with the lock, in
 * one word, who queues up knows whom he waits for, and the holder cannot go
 * without seeing the queue:
 *
 *	CPU0: wants the lock               CPU1: takes or gives it back
 *
 *	lock the guard
 *	word |= QUEUED, finds ctx          word: ctx | HELD -> 0 fails,
 *	compare with ctx, or wound it        lock the guard (waits for CPU0)
 *	link into the queue                  hand over to the first
 *	unlock the guard
 *
 * With the context in a word of its own both sides need a full barrier between
 * the two, and the context may be gone while it is looked at.
 *
 * Invariants, whenever the guard is free:
 *
 * W1  QUEUED is set exactly while the queue is not empty.
 * W2  QUEUED implies HELD: a lock with a queue is handed over, never let go.
 * W3  the waiters with a context are in the order of their stamps.
 * W4  wait-die: a waiter that holds locks has no waiter with a context before it
 *     and no older holder, or it has been told to LOOK.
 * W5  wound-wait: a holder that is younger than a waiter which holds locks is
 *     WOUNDED.
 *
 * W3 and handing over keep W4 and W5 when the lock changes hands: the first
 * waiter is the oldest.  So nothing is looked at again then.
 *
 * A waiter with a context sleeps on a word in the context, so that it is woken
 * wherever it waits when it is wounded for another lock:
 *
 *	GRANTED		the lock is yours; you are in no queue any more
 *	LOOK		look around, something has changed
 *	WOUNDED		back off if you hold anything
 *
 * The lock is granted after the guard was released: that is the last that the
 * old holder does with it.  WOUNDED is set under the guard of a lock that the
 * wounded one holds, and a lock with a queue is given back under the guard; so
 * a context that holds nothing is not wounded and will not be.
 *
 * The rules of who backs off are those of Linux (and of Rosenkrantz, Stearns,
 * Lewis: System Level Concurrency Control for Distributed Database Systems,
 * 1978).
 */
#include "resv/ww-mutex.h"

#include "base/bug.h"
#include "base/inject.h"
#include "base/lock.h"
#include "base/wait.h"
#include "fence/fence.h"

/* ww_acquire_ctx.state */
enum { GRANTED = 1, LOOK = 2, WOUNDED = 4 };

/* struct ww_waiter - on the stack of who waits; the queue is circular */
struct ww_waiter {
	struct ww_waiter *next;
	struct ww_waiter *prev;
	struct ww_acquire_ctx *ctx;
	/* what it sleeps on: in the context, or its own */
	uint32_t *state;
	uint32_t own_state;
	/* guard */
	bool queued;
};

_Static_assert(_Alignof(struct ww_acquire_ctx) > WW_FLAGS,
	       "flags fit beside the pointer");

void ww_mutex_init(struct ww_mutex *lock, struct ww_class *ww_class)
{
	*lock = (struct ww_mutex)WW_MUTEX_INIT(ww_class);
}

void ww_mutex_destroy(struct ww_mutex *lock)
{
	mmn_bug_on(lock && ww_mutex_is_locked(lock),
		   "a lock is destroyed while held");
}

void ww_acquire_init(struct ww_acquire_ctx *ctx, struct ww_class *ww_class)
{
	*ctx = (struct ww_acquire_ctx){
		/* relaxed: a number for each, nothing is ordered by it */
		.stamp = mmn_fetch_add_relaxed(&ww_class->stamp, 1) + 1,
		.ww_class = ww_class,
		.owner = mmn_context_self(),
	};
}

void ww_acquire_done(struct ww_acquire_ctx *ctx)
{
	mmn_bug_on(ctx->owner != mmn_context_self(),
		   "another thread's acquire context is used");
	mmn_bug_on(ctx->done, "an acquire context is done twice");
	ctx->done = true;
}

void ww_acquire_fini(struct ww_acquire_ctx *ctx)
{
	mmn_bug_on(ctx->owner != mmn_context_self(),
		   "another thread's acquire context is used");
	mmn_bug_on(ctx->acquired, "an acquire context ends with locks held");
	/* A lock that is taken with it after this is refused. */
	ctx->ww_class = NULL;
}

#if MMN_SELFCHECK

/* Locks of one context have one entry: they are taken in any order. */
static const void *held_as(const struct ww_mutex *lock,
			   const struct ww_acquire_ctx *ctx)
{
	return ctx ? (const void *)ctx : lock;
}

static struct mmn_held_lock held_lock(const struct ww_mutex *lock,
				      const struct ww_acquire_ctx *ctx,
				      const struct mmn_site *site)
{
	return (struct mmn_held_lock){
		.lock = held_as(lock, ctx),
		.kind = lock->ww_class,
		.place = mmn_place(site),
		.rank = MMN_RANK_RESERVATION,
	};
}

/*
 * Fences are waited for with these locks held, that is what they are for, and
 * memory is changed.  One wrong place is enough to tell.
 */
static void check_place(const struct mmn_site *site)
{
	struct mmn_place place = mmn_place(site);

	if (mmn_order_signalling() && mmn_order_is_news(place, place))
		mmn_bug("a lock of a set is taken on the way to a signal");
	if (mmn_context_in_callback() && mmn_order_is_news(place, place))
		mmn_bug("a lock of a set is taken in a callback");
}

static void order_taking(const struct ww_mutex *lock,
			 const struct ww_acquire_ctx *ctx,
			 const struct mmn_site *site)
{
	struct mmn_held_lock held = held_lock(lock, ctx, site);

	mmn_order_sleeping(site);
	check_place(site);
	if (!mmn_order_signalling())
		mmn_order_taking(&held, site);
}

static void order_taken(const struct ww_mutex *lock,
			const struct ww_acquire_ctx *ctx,
			const struct mmn_site *site)
{
	struct mmn_held_lock held = held_lock(lock, ctx, site);

	mmn_order_taken(&held, site);
}

static void order_released(const struct ww_mutex *lock,
			   const struct ww_acquire_ctx *ctx)
{
	mmn_order_released(held_as(lock, ctx));
}

#else

static void order_taking(const struct ww_mutex *lock,
			 const struct ww_acquire_ctx *ctx,
			 const struct mmn_site *site)
{
}

static void order_taken(const struct ww_mutex *lock,
			const struct ww_acquire_ctx *ctx,
			const struct mmn_site *site)
{
}

static void order_released(const struct ww_mutex *lock,
			   const struct ww_acquire_ctx *ctx)
{
}

#endif

/* Where the caller of a public function took a lock. */
#define CALLER()                                           \
	(&(struct mmn_site){ __FILE__, __func__, __LINE__, \
			     __builtin_return_address(0) })

static bool is_older(const struct ww_acquire_ctx *a,
		     const struct ww_acquire_ctx *b)
{
	return a->stamp < b->stamp;
}

/* Before @place, or last. */
static void enqueue(struct ww_mutex *lock, struct ww_waiter *waiter,
		    struct ww_waiter *place)
{
	struct ww_waiter *next = place ?: lock->queue;

	waiter->queued = true;
	if (!next) {
		waiter->next = waiter;
		waiter->prev = waiter;
	} else {
		waiter->next = next;
		waiter->prev = next->prev;
		next->prev->next = waiter;
		next->prev = waiter;
	}
	if (!lock->queue || place == lock->queue)
		lock->queue = waiter;
}

static void dequeue(struct ww_mutex *lock, struct ww_waiter *waiter)
{
	waiter->queued = false;
	waiter->prev->next = waiter->next;
	waiter->next->prev = waiter->prev;
	if (lock->queue == waiter)
		lock->queue = waiter->next == waiter ? NULL : waiter->next;
}

/* The one behind @waiter, NULL after the last. */
static struct ww_waiter *next_waiter(const struct ww_mutex *lock,
				     const struct ww_waiter *waiter)
{
	return waiter->next == lock->queue ? NULL : waiter->next;
}

/* The one before @waiter, NULL before the first. */
static struct ww_waiter *prev_waiter(const struct ww_mutex *lock,
				     const struct ww_waiter *waiter)
{
	return waiter == lock->queue ? NULL : waiter->prev;
}

/* Guarded.  The invariants above as far as they are about the lock alone. */
static bool queue_check(const struct ww_mutex *lock)
{
	/* relaxed: does not change while there is a queue, but by the guard */
	unsigned long word = mmn_load_relaxed(&lock->word);
	const struct ww_acquire_ctx *last = NULL;
	const struct ww_waiter *waiter;

	if (!(word & WW_QUEUED) != !lock->queue)
		return false;
	if ((word & WW_QUEUED) && !(word & WW_HELD))
		return false;
	for (waiter = lock->queue; waiter; waiter = next_waiter(lock, waiter)) {
		if (!waiter->ctx)
			continue;
		if (last && is_older(waiter->ctx, last))
			return false;
		last = waiter->ctx;
	}
	return true;
}

static void guard_lock(struct ww_mutex *lock)
{
	mmn_spin_lock(&lock->guard);
	mmn_check(queue_check(lock));
}

static void guard_unlock(struct ww_mutex *lock)
{
	mmn_check(queue_check(lock));
	mmn_spin_unlock(&lock->guard);
}

static void tell(uint32_t *state, uint32_t what)
{
	/*
	 * pair(ww_granted): release, with the acquire in was_told().  Without
	 * it the new holder may not see what the old one wrote.
	 */
	if (!(mmn_fetch_or_release(state, what) & what))
		mmn_wake(state, 1);
}

static uint32_t was_told(const struct ww_waiter *waiter)
{
	/*
	 * pair(ww_granted): acquire, with the release in tell().  Without it
	 * the new holder may read what the old one had not written yet.
	 */
	return mmn_load_acquire(waiter->state);
}

/* False when it is held. */
static bool take_free(struct ww_mutex *lock, struct ww_acquire_ctx *ctx)
{
	unsigned long found = 0;

	/*
	 * pair(ww_lock): acquire, with the release in ww_mutex_unlock() and
	 * hand_over().  Without it the holder reads what the last one had not
	 * written yet.
	 *
	 * pair(ww_holder): release, with the acquire in announce().  Without
	 * it who queues up may read the age of the context from before it was
	 * begun, and wait for who waits for it.
	 */
	return mmn_cmpxchg_acq_rel(&lock->word, &found,
				   (unsigned long)ctx | WW_HELD);
}

static void note_taken(struct ww_mutex *lock, struct ww_acquire_ctx *ctx,
		       const struct mmn_site *site)
{
	order_taken(lock, ctx, site);
	/* relaxed: read by others only to compare with themselves */
	mmn_store_relaxed(&lock->owner, mmn_context_self());
	if (!ctx)
		return;
	ctx->acquired++;
	ctx->contending_lock = NULL;
}

/*
 * Guarded.  Have the holder know that there is a queue, or take the lock when
 * there is none.
 */
static bool announce(struct ww_mutex *lock, struct ww_acquire_ctx *ctx)
{
	/* relaxed: the exchanges decide */
	unsigned long word = mmn_load_relaxed(&lock->word);

	while (!(word & WW_QUEUED)) {
		if (!(word & WW_HELD) && take_free(lock, ctx))
			return true;
		/*
		 * pair(ww_holder): acquire, with the release in take_free().
		 * Without it the age of the holder's context may be read from
		 * before it was begun.
		 */
		if ((word & WW_HELD) &&
		    mmn_cmpxchg_acquire(&lock->word, &word, word | WW_QUEUED))
			return false;
		/* relaxed: as above */
		word = mmn_load_relaxed(&lock->word);
	}
	return false;
}

/* Wait-Die: @waiter need not wait any more if it holds anything. */
static void disturb(const struct ww_waiter *waiter)
{
	if (waiter->ctx->ww_class->is_wait_die && waiter->ctx->acquired)
		tell(waiter->state, LOOK);
}

/* Wound-Wait: the holder is in the way of somebody older. */
static void wound_holder(struct ww_mutex *lock, const struct ww_waiter *waiter)
{
	struct ww_acquire_ctx *holder = ww_mutex_locking_ctx(lock);

	if (waiter->ctx->ww_class->is_wait_die || !waiter->ctx->acquired)
		return;
	if (holder && is_older(waiter->ctx, holder))
		tell(&holder->state, WOUNDED);
}

/* Guarded.  The oldest first; who has no context is not moved. */
static void join_queue(struct ww_mutex *lock, struct ww_waiter *waiter)
{
	struct ww_waiter *other = lock->queue ? lock->queue->prev : NULL;
	struct ww_waiter *place = NULL;

	if (!waiter->ctx) {
		enqueue(lock, waiter, NULL);
		return;
	}
	for (; other; other = prev_waiter(lock, other)) {
		if (!other->ctx)
			continue;
		if (!is_older(waiter->ctx, other->ctx))
			break;
		place = other;
		disturb(other);
	}
	enqueue(lock, waiter, place);
	wound_holder(lock, waiter);
}

/* Guarded. */
static void leave_queue(struct ww_mutex *lock, struct ww_waiter *waiter)
{
	dequeue(lock, waiter);
	/*
	 * pair(ww_left): release, with the acquire in ww_mutex_unlock().
	 * Without it the holder may end its context, and use the memory for
	 * something else, while who left still looks at it.
	 */
	if (!lock->queue)
		mmn_fetch_and_release(&lock->word, ~(unsigned long)WW_QUEUED);
}

/* Guarded.  Is waiting any longer how a deadlock would begin? */
static bool must_back_off(const struct ww_mutex *lock,
			  const struct ww_waiter *waiter)
{
	const struct ww_acquire_ctx *ctx = waiter->ctx;
	const struct ww_acquire_ctx *holder = ww_mutex_locking_ctx(lock);
	const struct ww_waiter *other = waiter;

	if (!ctx || !ctx->acquired)
		return false;
	if (!ctx->ww_class->is_wait_die)
		/* relaxed: a flag without data */
		return mmn_load_relaxed(&ctx->state) & WOUNDED;
	if (holder && is_older(holder, ctx))
		return true;
	/* Who is before us with a context is older and will be the holder. */
	while ((other = prev_waiter(lock, other)))
		if (other->ctx)
			return true;
	return false;
}

/* relaxed, here and below: a flag without data */
static bool is_cancelled(const struct dma_fence_cancel *cancel)
{
	return cancel &&
	       fence_cancel_is_raised(mmn_load_relaxed(&cancel->word));
}

static void sleep_until_told(const struct ww_waiter *waiter,
			     struct dma_fence_cancel *cancel)
{
	uint32_t seen;

	if (!cancel) {
		mmn_wait_on(waiter->state, 0, NULL);
		return;
	}
	/* relaxed: a flag without data */
	seen = mmn_load_relaxed(&cancel->word);
	if (!fence_cancel_is_raised(seen))
		mmn_wait_on_two(waiter->state, 0, &cancel->word, seen);
}

/* It was taken from the queue: the old holder is about to say so. */
static void await_grant(const struct ww_waiter *waiter)
{
	uint32_t told;

	while (!((told = was_told(waiter)) & GRANTED))
		mmn_wait_on(waiter->state, told, NULL);
}

/* Guarded, and released on return. */
static int wait_in_queue(struct ww_mutex *lock, struct ww_waiter *waiter,
			 struct dma_fence_cancel *cancel)
{
	while (waiter->queued) {
		bool back_off = must_back_off(lock, waiter);

		if (back_off || is_cancelled(cancel)) {
			leave_queue(lock, waiter);
			guard_unlock(lock);
			return back_off ? -EDEADLK : -EINTR;
		}
		guard_unlock(lock);
		sleep_until_told(waiter, cancel);
		if (was_told(waiter) & GRANTED)
			return 0;
		guard_lock(lock);
		/* relaxed: whoever tells it something has the guard */
		mmn_fetch_and_relaxed(waiter->state, ~(uint32_t)LOOK);
	}
	guard_unlock(lock);
	await_grant(waiter);
	return 0;
}

static int lock_contended(struct ww_mutex *lock, struct ww_acquire_ctx *ctx,
			  struct dma_fence_cancel *cancel)
{
	struct ww_waiter waiter = { .ctx = ctx };

	waiter.state = ctx ? &ctx->state : &waiter.own_state;
	/* relaxed: left from the last time, and nobody has us in a queue */
	mmn_fetch_and_relaxed(waiter.state, (uint32_t)WOUNDED);
	guard_lock(lock);
	if (announce(lock, ctx)) {
		guard_unlock(lock);
		return 0;
	}
	join_queue(lock, &waiter);
	return wait_in_queue(lock, &waiter, cancel);
}

static bool ctx_is_valid(const struct ww_mutex *lock,
			 const struct ww_acquire_ctx *ctx)
{
	bool wrong_class = ctx->ww_class != lock->ww_class;
	bool wrong_thread = ctx->owner != mmn_context_self();

	mmn_bug_on(wrong_class, "a lock and its context are of two classes, or "
				"the context has ended");
	mmn_bug_on(wrong_thread, "another thread's acquire context is used");
	mmn_bug_on(ctx->done, "a lock is taken with a context that is done");
	return !wrong_class && !wrong_thread && !ctx->done;
}

static void check_back_off(const struct ww_mutex *lock,
			   const struct ww_acquire_ctx *ctx)
{
	mmn_bug_on(
		ctx->contending_lock && ctx->contending_lock != lock,
		"after -EDEADLK another lock than the contended one is taken");
	mmn_bug_on(
		ctx->contending_lock && ctx->acquired,
		"after -EDEADLK the contended lock is taken with locks held");
}

/* What can be told before looking at the lock; 0 to go on. */
static int check_ctx(struct ww_mutex *lock, struct ww_acquire_ctx *ctx)
{
	if (!ctx_is_valid(lock, ctx))
		return -EINVAL;
	if (ww_mutex_locking_ctx(lock) == ctx)
		return -EALREADY;
	check_back_off(lock, ctx);
	if (!ctx->acquired)
		/* relaxed: who holds nothing is not wounded by anybody */
		mmn_store_relaxed(&ctx->state, 0);
	else if (MMN_INJECT(MMN_INJECT_WW_DEADLOCK))
		return -EDEADLK;
	return 0;
}

/* In the order that tells most: a lock held already is not waited for. */
static int lock_checked(struct ww_mutex *lock, struct ww_acquire_ctx *ctx,
			struct dma_fence_cancel *cancel)
{
	int ret = ctx ? check_ctx(lock, ctx) : 0;
	bool twice = !ret && ww_mutex_is_held(lock);

	mmn_bug_on(twice, "a lock is taken twice, with two contexts or none");
	if (twice)
		return -EALREADY;
	if (!ret && !take_free(lock, ctx))
		ret = lock_contended(lock, ctx, cancel);
	return ret;
}

static int lock_any(struct ww_mutex *lock, struct ww_acquire_ctx *ctx,
		    struct dma_fence_cancel *cancel,
		    const struct mmn_site *site)
{
	int ret;

	order_taking(lock, ctx, site);
	ret = lock_checked(lock, ctx, cancel);
	if (!ret)
		note_taken(lock, ctx, site);
	if (ret == -EDEADLK)
		ctx->contending_lock = lock;
	return ret;
}

int ww_mutex_lock(struct ww_mutex *lock, struct ww_acquire_ctx *ctx)
{
	return lock_any(lock, ctx, NULL, CALLER());
}

int ww_mutex_lock_interruptible(struct ww_mutex *lock,
				struct ww_acquire_ctx *ctx)
{
	return lock_any(lock, ctx, fence_bound_cancel(), CALLER());
}

static void check_slow(const struct ww_acquire_ctx *ctx)
{
	mmn_bug_on(!ctx->contending_lock,
		   "a slow lock without -EDEADLK before it");
	mmn_bug_on(ctx->acquired, "a slow lock with locks held");
}

void ww_mutex_lock_slow(struct ww_mutex *lock, struct ww_acquire_ctx *ctx)
{
	int ret;

	check_slow(ctx);
	ret = lock_any(lock, ctx, NULL, CALLER());
	mmn_bug_on(ret, "a slow lock fails");
}

int ww_mutex_lock_slow_interruptible(struct ww_mutex *lock,
				     struct ww_acquire_ctx *ctx)
{
	check_slow(ctx);
	return lock_any(lock, ctx, fence_bound_cancel(), CALLER());
}

int ww_mutex_trylock(struct ww_mutex *lock, struct ww_acquire_ctx *ctx)
{
	if (ctx && !ctx_is_valid(lock, ctx))
		return 0;
	if (ctx && !ctx->acquired)
		/* relaxed: who holds nothing is not wounded by anybody */
		mmn_store_relaxed(&ctx->state, 0);
	if (!take_free(lock, ctx))
		return 0;
	note_taken(lock, ctx, CALLER());
	return 1;
}

/* To the first of the queue, or to nobody when that has just left. */
static void hand_over(struct ww_mutex *lock)
{
	struct ww_waiter *first;
	unsigned long word = 0;
	uint32_t *state = NULL;

	guard_lock(lock);
	first = lock->queue;
	if (first) {
		dequeue(lock, first);
		state = first->state;
		word = (unsigned long)first->ctx | WW_HELD;
		word |= lock->queue ? WW_QUEUED : 0;
	}
	/*
	 * pair(ww_lock): release, with the acquire in take_free().  Without it
	 * the next holder may not see what this one wrote.
	 */
	mmn_store_release(&lock->word, word);
	guard_unlock(lock);
	if (state)
		tell(state, GRANTED);
}

void ww_mutex_unlock(struct ww_mutex *lock)
{
	bool held = ww_mutex_is_held(lock);
	struct ww_acquire_ctx *ctx = ww_mutex_locking_ctx(lock);
	unsigned long word = (unsigned long)ctx | WW_HELD;

	mmn_bug_on(!held,
		   "a lock is released by a thread that does not hold it");
	if (!held)
		return;
	order_released(lock, ctx);
	if (ctx)
		ctx->acquired--;
	/* relaxed: read by others only to compare with themselves */
	mmn_store_relaxed(&lock->owner, NULL);
	/*
	 * pair(ww_lock): release, with the acquire in take_free().  Without it
	 * the next holder may not see what this one wrote.
	 *
	 * pair(ww_left): acquire, with the release in leave_queue().  Without
	 * it the caller may end the context, and use its memory for something
	 * else, while somebody who has just left the queue still looks at it.
	 */
	if (unlikely(!mmn_cmpxchg_acq_rel(&lock->word, &word, 0)))
		hand_over(lock);
}

bool ww_mutex_is_locked(struct ww_mutex *lock)
{
	/* relaxed: a hint for others, certain for the holder */
	return mmn_load_relaxed(&lock->word) != 0;
}
