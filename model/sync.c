/* SPDX-License-Identifier: MIT */
/*
 * Objects made of fences for GenMC, by hand from src/sync/: same names, same order
 * of accesses, one fence, one entry or notice.
 *
 *	genmc --rc11 -- -DSCENARIO=1 sync.c
 *
 * SCENARIO picks the threads (bottom of the file).  Each order is a macro, so
 * that one -D weakens it; BUG=n removes a step.  model/run.py runs them all and
 * compares with the verdicts it expects.
 *
 * P1  nobody sleeps for ever.
 * P2  memory that was given back is not touched, nor a descriptor that was closed.
 * P3  a notice is told once, if its object lives.
 * P4  a point of a timeline is released once.
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

void __VERIFIER_assume(_Bool);

#ifndef SCENARIO
#define SCENARIO 1
#endif
#ifndef BUG
#define BUG 0
#endif

#ifndef O_WAKE /* fence_sleeper_wake() */
#define O_WAKE memory_order_release
#endif
#ifndef O_LOOK /* fence_sleeper_look() */
#define O_LOOK memory_order_acquire
#endif
#ifndef O_PUT /* sync_ref_put() */
#define O_PUT memory_order_acq_rel
#endif
#ifndef O_CLAIM /* claim() of a poller */
#define O_CLAIM memory_order_acquire
#endif
#ifndef O_LETGO /* let_go() of a poller */
#define O_LETGO memory_order_release
#endif

#define rlx memory_order_relaxed
#define ld(x, o) atomic_load_explicit(&(x), o)
#define st(x, v, o) atomic_store_explicit(&(x), v, o)
#define add(x, v, o) atomic_fetch_add_explicit(&(x), v, o)
/* One that fails only looks: the checker would give it the order of success. */
#define cas(x, pe, v, o)                                                 \
	({                                                               \
		int found_ = ld(x, rlx), hit_ = found_ == *(pe);         \
                                                                         \
		if (hit_)                                                \
			__VERIFIER_assume(                               \
				atomic_compare_exchange_strong_explicit( \
					&(x), pe, v, o, rlx));           \
		else                                                     \
			*(pe) = found_;                                  \
		hit_;                                                    \
	})

enum { NOWHERE, PENDING, ATTACHED, USED_UP };

/* of the object, and of the fence's list */
static pthread_mutex_t lock, list_lock;
static atomic_int word, signaled, refcount, fence_refs, busy;
/* under the object's lock */
static int place, found;
/* under the list's lock */
static int queued, running;
/* not synchronised by themselves */
static int stack_alive, object, notice, fd, told, fence, parts[2], released;
static int slept, slept_at;

static void sleep_if(int seen)
{
	/* the kernel compares with the newest value */
	if (add(word, 0, rlx) == seen) {
		slept = 1;
		slept_at = seen;
	}
}

static void wake(void)
{
	add(word, 1, O_WAKE);
}

/* A sleeper on several fences, one of which signals. */
static void signal_and_wake(void)
{
	st(signaled, 1, memory_order_release);
	wake();
}

static void look_and_sleep(void)
{
	int seen = ld(word, O_LOOK);

	if (!ld(signaled, memory_order_acquire))
		sleep_if(seen);
}

/* An entry that waits for a fence to be there. */
static void replace(void)
{
	pthread_mutex_lock(&lock);
	if (place == PENDING) {
		place = NOWHERE;
		found = 1;
		assert(stack_alive);
		if (BUG != 2)
			wake();
	}
	pthread_mutex_unlock(&lock);
}

static void wait_for_entry(void)
{
	int seen = BUG == 1 ? -1 : ld(word, O_LOOK);
	int is_there;

	pthread_mutex_lock(&lock);
	is_there = found;
	pthread_mutex_unlock(&lock);
	if (BUG == 1)
		seen = ld(word, O_LOOK);
	if (!is_there)
		sleep_if(seen);
}

static void leave(void)
{
	if (BUG != 3) {
		pthread_mutex_lock(&lock);
		place = NOWHERE;
		pthread_mutex_unlock(&lock);
	}
	stack_alive = 0;
}

/* Two use their own part, the last one frees both. */
static void use_and_put(int i)
{
	parts[i] = 1;
	if (atomic_fetch_sub_explicit(&refcount, 1, O_PUT) != 1)
		return;
	parts[0] = parts[1] = 0;
}

static void arm(void)
{
	int expected = 0;

	if (BUG != 4 && !cas(busy, &expected, 1, O_CLAIM))
		return;
	fence++;
	st(busy, 0, O_LETGO);
}

/* A notice: one eventfd to be told. */
static void use_up(void)
{
	assert(notice);
	pthread_mutex_lock(&lock);
	if (place == ATTACHED || BUG == 6) {
		assert(object && fd);
		place = USED_UP;
		told++;
		fd = 0;
	}
	pthread_mutex_unlock(&lock);
}

static void put_fence(void)
{
	if (atomic_fetch_sub_explicit(&fence_refs, 1, memory_order_acq_rel) ==
	    1)
		fence = -1;
}

static void signal_fence(void)
{
	int call;

	pthread_mutex_lock(&list_lock);
	st(signaled, 1, rlx);
	call = queued;
	queued = 0;
	running = call;
	pthread_mutex_unlock(&list_lock);
	if (call) {
		use_up();
		pthread_mutex_lock(&list_lock);
		running = 0;
		pthread_mutex_unlock(&list_lock);
	}
	put_fence();
}

static void remove_callback(void)
{
	pthread_mutex_lock(&list_lock);
	__VERIFIER_assume(queued || !running);
	queued = 0;
	pthread_mutex_unlock(&list_lock);
}

/* The object's last reference. */
static void drop_object(void)
{
	int taken;

	pthread_mutex_lock(&lock);
	taken = place == ATTACHED;
	if (taken)
		place = NOWHERE;
	pthread_mutex_unlock(&lock);
	if (taken) {
		if (BUG != 5)
			remove_callback();
		fd = 0;
	}
	/* its own, and what is on the list of those used up */
	assert(taken + (place == USED_UP) == 1);
	notice = 0;
	object = 0;
}

static int add_callback(void)
{
	int added;

	pthread_mutex_lock(&list_lock);
	added = !ld(signaled, rlx);
	queued = added;
	pthread_mutex_unlock(&list_lock);
	/* its unlock is an access, too */
	assert(fence >= 0);
	return added;
}

static void link_notice(void)
{
	pthread_mutex_lock(&lock);
	place = ATTACHED;
	pthread_mutex_unlock(&lock);
}

static void attach(void)
{
	if (BUG != 7)
		link_notice();
	if (BUG != 8)
		add(fence_refs, 1, rlx);
	if (!add_callback())
		use_up();
	if (BUG == 7)
		link_notice();
	if (BUG != 8)
		put_fence();
}

/* The next call that may frees what was used up. */
static void reap(void)
{
	int taken;

	pthread_mutex_lock(&lock);
	taken = place == USED_UP;
	if (taken)
		place = NOWHERE;
	pthread_mutex_unlock(&lock);
	if (taken) {
		notice = 0;
		put_fence();
	}
}

/* A point of a timeline; place: on the list, which has no reference. */
static void release_point(int holds_lock)
{
	assert(!holds_lock);
	pthread_mutex_lock(&lock);
	place = NOWHERE;
	pthread_mutex_unlock(&lock);
	released++;
	fence = -1;
}

static void put_point(int holds_lock)
{
	if (atomic_fetch_sub_explicit(&fence_refs, 1, memory_order_acq_rel) ==
	    1)
		release_point(holds_lock);
}

static int get_point(void)
{
	int count = ld(fence_refs, rlx);

	if (BUG == 9)
		return add(fence_refs, 1, rlx) >= 0;
	if (!count)
		return 0;
	/* one attempt: the other thread drops its reference once */
	if (cas(fence_refs, &count, count + 1, memory_order_acquire))
		return 1;
	return count &&
	       cas(fence_refs, &count, count + 1, memory_order_acquire);
}

static void inc(void)
{
	int got = 0;

	pthread_mutex_lock(&lock);
	if (place == PENDING) {
		assert(fence >= 0);
		got = get_point();
		if (got)
			place = NOWHERE;
	}
	if (BUG == 10 && got) {
		put_point(1);
		got = 0;
	}
	pthread_mutex_unlock(&lock);
	if (got)
		put_point(0);
}

static void begin(void)
{
	pthread_mutex_init(&lock, NULL);
	pthread_mutex_init(&list_lock, NULL);
	atomic_init(&word, 0);
	atomic_init(&signaled, 0);
	atomic_init(&refcount, 2);
	/* the notice's and the signaller's; the user's of a point */
	atomic_init(&fence_refs, SCENARIO == 8 ? 1 : 2);
	atomic_init(&busy, 0);
	place = SCENARIO == 6 ? ATTACHED : SCENARIO == 7 ? NOWHERE : PENDING;
	queued = SCENARIO == 6;
	stack_alive = object = notice = fd = 1;
}

#define THREAD(name, body)           \
	static void *name(void *arg) \
	{                            \
		(void)arg;           \
		body;                \
		return NULL;         \
	}

#if SCENARIO == 1 /* a sleeper on several fences, one signals */
THREAD(t1, signal_and_wake())
THREAD(t2, look_and_sleep())
#elif SCENARIO == 2 /* a sleeper for what is not there yet, and it comes */
THREAD(t1, replace())
THREAD(t2, wait_for_entry())
#elif SCENARIO == 3 /* a sleeper leaves while it comes */
THREAD(t1, replace())
THREAD(t2, leave())
#elif SCENARIO == 4 /* two put, one frees */
THREAD(t1, use_and_put(0))
THREAD(t2, use_and_put(1))
#elif SCENARIO == 5 /* two arm one poller */
THREAD(t1, arm())
THREAD(t2, arm())
#elif SCENARIO == 6 /* an object goes while its notice is told */
THREAD(t1, signal_fence())
THREAD(t2, drop_object())
#elif SCENARIO == 7 /* a notice is attached, told and freed */
THREAD(t1, attach())
THREAD(t2, signal_fence(); reap())
#elif SCENARIO == 8 /* a timeline goes on while a point goes */
THREAD(t1, inc())
THREAD(t2, put_point(0))
#endif

int main(void)
{
	pthread_t a, b;

	begin();
	pthread_create(&a, NULL, t1, NULL);
	pthread_create(&b, NULL, t2, NULL);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	assert(!slept || ld(word, rlx) != slept_at);
	if (SCENARIO == 7)
		assert(told == 1);
	if (SCENARIO == 8)
		assert(released == 1 && place == NOWHERE);
	return 0;
}
