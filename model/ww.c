/* SPDX-License-Identifier: MIT */
/*
 * The protocol of locks with contexts for GenMC (model checker for C11), by hand
 * from src/resv/ww-mutex.c: same names, same order of accesses.
 *
 *	genmc --rc11 --check-liveness -- -DSCENARIO=1 ww.c
 *
 * SCENARIO picks the threads (bottom of the file).  Each order is a macro, so
 * that one -D weakens it; BUG=n changes a step.  model/run.py runs them all and
 * compares with the verdicts it expects.  A sleeper is a loop on his word: one that
 * nobody ends is found by --check-liveness.
 *
 * P1  a lock has one holder, who sees what the last one wrote.
 * P2  nobody waits for ever.
 * P3  the oldest context never backs off.
 * P4  a context is not looked at after its thread has ended it.
 * P5  a lock is not touched by the last holder after he has given it away.
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

#ifndef SCENARIO
#define SCENARIO 1
#endif
#ifndef BUG
#define BUG 0
#endif
#ifndef WAIT_DIE
#define WAIT_DIE (SCENARIO != 4)
#endif

#ifndef O_TAKE /* take_free() */
#define O_TAKE memory_order_acq_rel
#endif
#ifndef O_ANNOUNCE /* announce() */
#define O_ANNOUNCE memory_order_acquire
#endif
#ifndef O_UNLOCK /* ww_mutex_unlock() */
#define O_UNLOCK memory_order_acq_rel
#endif
#ifndef O_HAND /* hand_over() */
#define O_HAND memory_order_release
#endif
#ifndef O_LEAVE /* leave_queue() */
#define O_LEAVE memory_order_release
#endif
#ifndef O_TELL /* tell() */
#define O_TELL memory_order_release
#endif
#ifndef O_TOLD /* was_told() */
#define O_TOLD memory_order_acquire
#endif

#define rlx memory_order_relaxed
#define ld(x, o) atomic_load_explicit(&(x), o)
#define st(x, v, o) atomic_store_explicit(&(x), v, o)

enum { HELD = 1, QUEUED = 2, FLAGS = 4 };
enum { GRANTED = 1, LOOK = 2, WOUNDED = 4 };
enum { A, B, NR_LOCKS, NR_THREADS = 3, EDEADLK = 1 };

/* The context of thread n; a holder without one is 0 in the word. */
struct ctx {
	/* not synchronised by themselves; 0 for none */
	int stamp;
	int acquired;
	atomic_int state;
	/* guard */
	int queued;
};

struct lock {
	atomic_int word;
	pthread_mutex_t guard;
	/* guard: threads */
	int queue[2];
	int nr_queued;
	/* what it protects; not synchronised by itself */
	int data;
	/* whether its memory is still that of a lock, likewise */
	int is_gone;
};

static struct ctx ctxs[NR_THREADS];
static struct lock locks[NR_LOCKS];

static int word_of(int me)
{
	return ctxs[me].stamp ? (me + 1) * FLAGS | HELD : HELD;
}

static struct ctx *holder_of(struct lock *lock)
{
	int word = ld(lock->word, rlx);

	return word >= FLAGS ? &ctxs[word / FLAGS - 1] : NULL;
}

static void tell(struct ctx *ctx, int what)
{
	atomic_fetch_or_explicit(&ctx->state, what, O_TELL);
}

static int take_free(struct lock *lock, int me)
{
	int found = 0;

	/* The checker gives an exchange that fails the order of one that does not. */
	if (ld(lock->word, rlx))
		return 0;
	return atomic_compare_exchange_strong_explicit(
		&lock->word, &found, word_of(me), O_TAKE, rlx);
}

static int announce(struct lock *lock, int me)
{
	int word = ld(lock->word, rlx);
	int i;

	/* Counted, or the checker takes it for somebody who waits. */
	for (i = 0; !(word & QUEUED); i++) {
		assert(i < 8);
		if (!(word & HELD) && take_free(lock, me))
			return 1;
		if (BUG == 2)
			return 0;
		if ((word & HELD) &&
		    atomic_compare_exchange_strong_explicit(
			    &lock->word, &word, word | QUEUED, O_ANNOUNCE, rlx))
			return 0;
		word = ld(lock->word, rlx);
	}
	return 0;
}

static void join_queue(struct lock *lock, int me)
{
	struct ctx *ctx = &ctxs[me];
	struct ctx *holder = holder_of(lock);
	int place = lock->nr_queued;

	if (place && ctx->stamp) {
		struct ctx *other = &ctxs[lock->queue[0]];

		if (other->stamp && ctx->stamp < other->stamp) {
			lock->queue[1] = lock->queue[0];
			place = 0;
			if (BUG != 3 && WAIT_DIE && other->acquired)
				tell(other, LOOK);
		}
	}
	lock->queue[place] = me;
	lock->nr_queued++;
	ctx->queued = 1;
	if (BUG != 4 && !WAIT_DIE && ctx->stamp && ctx->acquired && holder &&
	    ctx->stamp < holder->stamp)
		tell(holder, WOUNDED);
}

static void dequeue(struct lock *lock, int me)
{
	if (lock->queue[0] == me)
		lock->queue[0] = lock->queue[1];
	lock->nr_queued--;
	ctxs[me].queued = 0;
}

static int must_back_off(struct lock *lock, int me)
{
	struct ctx *ctx = &ctxs[me];
	struct ctx *holder = holder_of(lock);

	if (BUG == 5 || !ctx->stamp || !ctx->acquired)
		return 0;
	if (!WAIT_DIE)
		return ld(ctx->state, rlx) & WOUNDED;
	if (holder && holder->stamp < ctx->stamp)
		return 1;
	return lock->queue[0] != me && ctxs[lock->queue[0]].stamp;
}

static int wait_in_queue(struct lock *lock, int me)
{
	struct ctx *ctx = &ctxs[me];
	int told;

	while (ctx->queued || BUG == 6) {
		if (must_back_off(lock, me) || !ctx->queued) {
			dequeue(lock, me);
			if (!lock->nr_queued)
				atomic_fetch_and_explicit(&lock->word, ~QUEUED,
							  O_LEAVE);
			pthread_mutex_unlock(&lock->guard);
			return EDEADLK;
		}
		pthread_mutex_unlock(&lock->guard);
		while (!(told = ld(ctx->state, O_TOLD)))
			;
		if (told & GRANTED)
			return 0;
		pthread_mutex_lock(&lock->guard);
		atomic_fetch_and_explicit(&ctx->state, ~LOOK, rlx);
	}
	pthread_mutex_unlock(&lock->guard);
	while (!(ld(ctx->state, O_TOLD) & GRANTED))
		;
	return 0;
}

static int lock_contended(struct lock *lock, int me)
{
	atomic_fetch_and_explicit(&ctxs[me].state, WOUNDED, rlx);
	pthread_mutex_lock(&lock->guard);
	if (announce(lock, me)) {
		pthread_mutex_unlock(&lock->guard);
		return 0;
	}
	join_queue(lock, me);
	return wait_in_queue(lock, me);
}

static int ww_lock(int nr, int me)
{
	struct lock *lock = &locks[nr];
	int ret = 0;

	if (!ctxs[me].acquired)
		st(ctxs[me].state, 0, rlx);
	if (!take_free(lock, me))
		ret = lock_contended(lock, me);
	if (!ret)
		ctxs[me].acquired++;
	return ret;
}

static void hand_over(struct lock *lock)
{
	int next = -1;
	int word = 0;

	pthread_mutex_lock(&lock->guard);
	if (lock->nr_queued) {
		next = lock->queue[0];
		dequeue(lock, next);
		word = word_of(next) | (lock->nr_queued ? QUEUED : 0);
	}
	st(lock->word, word, O_HAND);
	if (BUG == 1 && next >= 0)
		tell(&ctxs[next], GRANTED);
	assert(!lock->is_gone);
	pthread_mutex_unlock(&lock->guard);
	if (BUG != 1 && next >= 0)
		tell(&ctxs[next], GRANTED);
}

static void ww_unlock(int nr, int me)
{
	struct lock *lock = &locks[nr];
	int word = word_of(me);

	ctxs[me].acquired--;
	if (!atomic_compare_exchange_strong_explicit(&lock->word, &word, 0,
						     O_UNLOCK, rlx))
		hand_over(lock);
}

static void begin_ctx(int me, int stamp)
{
	ctxs[me].stamp = stamp;
}

/* Its memory is used for something else. */
static void end_ctx(int me)
{
	assert(!ctxs[me].acquired);
	ctxs[me].stamp = 0;
}

static void use(int nr)
{
	locks[nr].data++;
}

static void lock_once(int nr, int me)
{
	assert(!ww_lock(nr, me));
	use(nr);
	ww_unlock(nr, me);
}

/* Both, and back off as told. */
static int lock_both(int first, int second, int me)
{
	int backed_off = 0;

	assert(!ww_lock(first, me));
	if (ww_lock(second, me)) {
		backed_off = 1;
		ww_unlock(first, me);
		assert(!ww_lock(second, me));
	} else {
		use(first);
		ww_unlock(first, me);
	}
	use(second);
	ww_unlock(second, me);
	return backed_off;
}

#define THREAD(name, body)           \
	static void *name(void *arg) \
	{                            \
		(void)arg;           \
		body;                \
		return NULL;         \
	}

#if SCENARIO == 1 /* a plain mutex */
THREAD(t1, lock_once(A, 0))
THREAD(t2, lock_once(A, 1))
#elif SCENARIO == 2		     /* contexts that end */
THREAD(t1, begin_ctx(0, 1); lock_once(A, 0); end_ctx(0))
THREAD(t2, begin_ctx(1, 2); lock_once(A, 1); end_ctx(1))
#elif SCENARIO == 3 || SCENARIO == 4 /* two locks, crosswise */
THREAD(t1, begin_ctx(0, 1); assert(!lock_both(A, B, 0)); end_ctx(0))
THREAD(t2, begin_ctx(1, 2); lock_both(B, A, 1); end_ctx(1))
#elif SCENARIO == 5		     /* who backs off, and a holder who goes */
THREAD(t1, begin_ctx(0, 1); lock_once(A, 0); end_ctx(0))
THREAD(t2, begin_ctx(1, 2); lock_both(B, A, 1); end_ctx(1))
#elif SCENARIO == 6		     /* the next holder frees the lock */
THREAD(t1, use(A); ww_unlock(A, 0))
THREAD(t2, assert(!ww_lock(A, 1)); locks[A].is_gone = 1)
#elif SCENARIO == 7 /* an older one comes while a younger one waits */
THREAD(t1, use(A); ww_unlock(A, 0))
THREAD(t2, begin_ctx(1, 2); lock_both(B, A, 1); end_ctx(1))
THREAD(t3, begin_ctx(2, 1); assert(!lock_both(A, B, 2)); end_ctx(2))
#elif SCENARIO == 8 /* likewise, and is done before the younger one looks */
THREAD(t1, use(A); ww_unlock(A, 0))
THREAD(t2, begin_ctx(1, 2); lock_both(B, A, 1); end_ctx(1))
THREAD(t3, begin_ctx(2, 1); lock_once(A, 2); end_ctx(2))
#endif

int main(void)
{
	pthread_t a, b, c;
	int i;

	for (i = 0; i < NR_LOCKS; i++)
		pthread_mutex_init(&locks[i].guard, NULL);
	if (SCENARIO >= 6) {
		st(locks[A].word, HELD, rlx);
		ctxs[0].acquired = 1;
	}
	pthread_create(&a, NULL, t1, NULL);
	pthread_create(&b, NULL, t2, NULL);
#if SCENARIO >= 7
	pthread_create(&c, NULL, t3, NULL);
	pthread_join(c, NULL);
#endif
	(void)c;
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	for (i = 0; i < NR_LOCKS; i++)
		assert(locks[i].is_gone || !ld(locks[i].word, rlx));
	if (SCENARIO == 6)
		assert(locks[A].is_gone);
	return 0;
}
