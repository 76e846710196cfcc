/* SPDX-License-Identifier: MIT */
/*
 * The protocol of fences for GenMC (model checker for C11), by hand from
 * src/fence/: same names, same order of accesses, one fence, one callback.
 *
 *	genmc --rc11 -- -DSCENARIO=1 fence.c
 *
 * SCENARIO picks the threads (bottom of the file).  Each order is a macro, so
 * that one -D weakens it; BUG=n removes a step.  model/run.py runs them all and
 * compares with the verdicts it expects.
 *
 * P1  whoever sees the fence signalled sees what was written before.
 * P2  a callback that was added is called once; one that was refused is not.
 * P3  after a removal the callback does not run.
 * P4  after a signal has returned the enable op does not run.
 * P5  nobody sleeps for ever.
 * P6  memory that was given back is not touched, or is known to be another life.
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

#ifndef O_SIGNAL /* mark_signaled() */
#define O_SIGNAL memory_order_acq_rel
#endif
#ifndef O_TEST /* fence_flags_acquire() */
#define O_TEST memory_order_acquire
#endif
#ifndef O_APPEND /* append_callback() */
#define O_APPEND memory_order_acquire
#endif
#ifndef O_TIME /* mark_signaled(), TIMESTAMP */
#define O_TIME memory_order_release
#endif
#ifndef O_GETTIME /* await_flags(), TIMESTAMP */
#define O_GETTIME memory_order_acquire
#endif
#ifndef O_ENDENABLE /* fence_end_enable() */
#define O_ENDENABLE memory_order_release
#endif
#ifndef O_AWAIT /* await_flags(), ENABLING */
#define O_AWAIT memory_order_acquire
#endif
#ifndef O_PUT /* dma_fence_put() */
#define O_PUT memory_order_acq_rel
#endif
#ifndef O_GET /* dma_fence_get_rcu() */
#define O_GET memory_order_acquire
#endif
#ifndef O_BIRTH /* fence_init(), refcount */
#define O_BIRTH memory_order_release
#endif
#ifndef O_REBIRTH /* fence_init(), flags */
#define O_REBIRTH memory_order_release
#endif
#ifndef O_LOOK /* test_slot(), flags */
#define O_LOOK memory_order_acquire
#endif
#ifndef O_SLOTSET /* dma_fence_slot_set() */
#define O_SLOTSET memory_order_release
#endif
#ifndef O_SLOTGET /* get_from_slot(), test_slot() */
#define O_SLOTGET memory_order_acquire
#endif
#ifndef O_PENDING /* drop_pending() of arrays and chains */
#define O_PENDING memory_order_acq_rel
#endif

#define rlx memory_order_relaxed
#define ld(x, o) atomic_load_explicit(&(x), o)
#define st(x, v, o) atomic_store_explicit(&(x), v, o)
#define fetch_or(x, v, o) atomic_fetch_or_explicit(&(x), v, o)
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

enum {
	SIGNALED = 1,
	TIMESTAMP = 2,
	ENABLE = 4,
	CALLBACK = 8,
	SLEEPER = 16,
	ENABLING = 32
};
enum { MINE = 10, FOREIGN = 20 };

static pthread_mutex_t list_lock;
static atomic_int flags, refcount, pending, slot, slept, woke;
/* under the list's lock */
static int queued, running;
/* not synchronised by themselves */
static int data, timestamp, op_state, context, freed, calls, array_data[2];

static void call_back(void)
{
	assert(!freed);
	assert(data == 1 || SCENARIO == 5);
	calls++;
}

static void run_callbacks(void)
{
	int call;

	pthread_mutex_lock(&list_lock);
	call = queued;
	queued = 0;
	running = BUG != 3 && call;
	pthread_mutex_unlock(&list_lock);
	if (!call)
		return;
	call_back();
	pthread_mutex_lock(&list_lock);
	running = 0;
	pthread_mutex_unlock(&list_lock);
}

static void signal_fence(int at)
{
	int was = fetch_or(flags, SIGNALED, O_SIGNAL);

	if (was & SIGNALED)
		return;
	timestamp = at;
	fetch_or(flags, TIMESTAMP, O_TIME);
	if (was & SLEEPER)
		st(woke, 1, rlx);
	if ((was & ENABLING) && BUG != 4)
		__VERIFIER_assume(!(ld(flags, O_AWAIT) & ENABLING));
	if (was & CALLBACK)
		run_callbacks();
}

/* True when it was added. */
static int add_callback(void)
{
	int was, added;

	pthread_mutex_lock(&list_lock);
	was = BUG == 1 ? ld(flags, rlx) : fetch_or(flags, CALLBACK, O_APPEND);
	added = !(was & SIGNALED);
	if (added)
		queued = 1;
	if (BUG == 1)
		fetch_or(flags, CALLBACK, O_APPEND);
	pthread_mutex_unlock(&list_lock);
	return added;
}

static void remove_callback(void)
{
	pthread_mutex_lock(&list_lock);
	queued = 0;
	__VERIFIER_assume(!running);
	pthread_mutex_unlock(&list_lock);
}

static void enable(void)
{
	int seen = ld(flags, rlx);

	if (seen & (ENABLE | SIGNALED))
		return;
	if (!cas(flags, &seen, seen | ENABLE | (BUG == 5 ? 0 : ENABLING), rlx))
		return;
	op_state++;
	atomic_fetch_and_explicit(&flags, ~ENABLING, O_ENDENABLE);
}

static void sleep_on_flags(void)
{
	int seen = ld(flags, O_TEST);

	if (!(seen & SIGNALED)) {
		if (BUG == 2)
			st(slept, 1, rlx);
		else if (cas(flags, &seen, seen | SLEEPER, rlx))
			st(slept, 1, rlx);
		__VERIFIER_assume(ld(flags, O_TEST) & SIGNALED);
	}
	assert(data == 1);
}

static void get_timestamp(void)
{
	if (!(ld(flags, O_TEST) & SIGNALED))
		return;
	__VERIFIER_assume(ld(flags, O_GETTIME) & TIMESTAMP);
	assert(timestamp);
}

/* Life and death.  The fence's memory is used again at once. */
static void remove_and_free(void)
{
	if (!add_callback())
		return;
	remove_callback();
	freed = 1;
}

static void put(int reborn)
{
	if (atomic_fetch_sub_explicit(&refcount, 1, O_PUT) != 1 || !reborn)
		return;
	context = FOREIGN;
	st(flags, 0, O_REBIRTH);
	st(refcount, 1, O_BIRTH);
	/* the stranger signals, or stays pending */
	if (SCENARIO != 9)
		fetch_or(flags, SIGNALED, O_SIGNAL);
}

static void get_rcu_safe(void)
{
	int count;

	if (ld(slot, O_SLOTGET) != 1)
		return;
	count = ld(refcount, rlx);
	if (!count || !cas(refcount, &count, count + 1, O_GET))
		return;
	if (BUG == 6 || ld(slot, rlx) == 1)
		assert(context == MINE);
	put(0);
}

/* The fence in the slot is pending (8) or has signalled (9). */
static void test_slot(void)
{
	int seen;

	if (ld(slot, O_SLOTGET) != 1)
		return;
	seen = ld(flags, O_LOOK) & SIGNALED;
	if (BUG != 7 && ld(slot, rlx) != 1)
		return;
	assert(SCENARIO == 9 ? seen : !seen);
}

static void replace(void)
{
	st(slot, 2, O_SLOTSET);
	put(1);
}

static void publish(void)
{
	context = MINE;
	st(flags, 0, rlx);
	st(refcount, 1, rlx);
	st(slot, 1, O_SLOTSET);
}

static void read_published(void)
{
	if (ld(slot, O_SLOTGET) == 1)
		assert(context == MINE);
}

/* Two have a reference and use their own part; the last one frees both. */
static void use_and_put(int i)
{
	array_data[i] = 1;
	if (atomic_fetch_sub_explicit(&refcount, 1, O_PUT) != 1)
		return;
	array_data[0] = array_data[1] = 0;
}

static void member(int i)
{
	array_data[i] = 1;
	if (atomic_fetch_sub_explicit(&pending, 1, O_PENDING) != 1)
		return;
	assert(array_data[0] && array_data[1]);
	calls++;
}

static void produce(void)
{
	data = 1;
	signal_fence(5);
}

/* Ready made: a slot with fence 1 in it. */
static void begin(void)
{
	pthread_mutex_init(&list_lock, NULL);
	atomic_init(&flags, SCENARIO == 9 ? SIGNALED : 0);
	atomic_init(&refcount, SCENARIO == 11 ? 2 : 1);
	atomic_init(&pending, 2);
	atomic_init(&slot, SCENARIO == 10 ? 2 : 1);
	atomic_init(&slept, 0);
	atomic_init(&woke, 0);
	context = MINE;
	data = 0;
}

#define THREAD(name, body)           \
	static void *name(void *arg) \
	{                            \
		(void)arg;           \
		body;                \
		return NULL;         \
	}

static int was_added;

#if SCENARIO == 1 /* a callback is added while the fence signals */
THREAD(t1, produce())
THREAD(t2, was_added = add_callback(); if (!was_added) assert(data == 1))
#elif SCENARIO == 2 /* a callback is removed and freed meanwhile */
THREAD(t1, produce())
THREAD(t2, remove_and_free())
#elif SCENARIO == 3 /* somebody goes to sleep */
THREAD(t1, produce())
THREAD(t2, sleep_on_flags())
#elif SCENARIO == 4 /* the enable op, and the producer who leaves */
THREAD(t1, produce(); op_state = -1)
THREAD(t2, enable())
#elif SCENARIO == 5 /* two signal, the time is that of one */
THREAD(t1, signal_fence(5); get_timestamp())
THREAD(t2, signal_fence(6); get_timestamp())
#elif SCENARIO == 6 /* a look, with data */
THREAD(t1, produce())
THREAD(t2, if (ld(flags, O_TEST) & SIGNALED) assert(data == 1))
#elif SCENARIO == 7 /* a safe reference to recycled memory */
THREAD(t1, replace())
THREAD(t2, get_rcu_safe())
#elif SCENARIO == 8 || SCENARIO == 9 /* a look without a reference */
THREAD(t1, replace())
THREAD(t2, test_slot())
#elif SCENARIO == 10		     /* a fence is put into a slot */
THREAD(t1, publish())
THREAD(t2, read_published())
#elif SCENARIO == 11		     /* two put, one frees */
THREAD(t1, use_and_put(0))
THREAD(t2, use_and_put(1))
#elif SCENARIO == 12		     /* the last member signals the array */
THREAD(t1, member(0))
THREAD(t2, member(1))
#endif

int main(void)
{
	pthread_t a, b;

	begin();
	pthread_create(&a, NULL, t1, NULL);
	pthread_create(&b, NULL, t2, NULL);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	if (SCENARIO == 1)
		assert(calls == was_added);
	assert(!ld(slept, rlx) || ld(woke, rlx));
	if (SCENARIO == 12)
		assert(calls == 1);
	return 0;
}
