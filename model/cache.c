/* SPDX-License-Identifier: MIT */
/*
 * The protocol of the cache for GenMC (model checker for C11), by hand from
 * src/cache/: same names, same order of accesses, one region.
 *
 *	genmc --rc11 -- -DSCENARIO=1 cache.c
 *
 * SCENARIO picks the threads (bottom of the file).  Each order is a macro, so
 * that one -D weakens it; BUG=n removes a step.  model/run.py runs them all and
 * compares with the verdicts it expects.
 *
 * The barrier that the kernel puts into the other threads (membarrier) is a fence
 * in each of them here.
 *
 * P1  a region that somebody holds is not deregistered.
 * P2  a region that nobody holds is deregistered, or somebody has kicked it.
 * P3  a fence that was added without -ESTALE is seen by the change.
 * P4  what is found in the index is one region, whole.
 * P5  the worker does not sleep while there is something for it to look at.
 * P6  what the device did comes before the change and the deregistration.
 * P7  after a change has started nobody finds the region.
 * P8  a region that is found describes the memory after the last change.
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

#ifndef O_BUCKET /* bucket_write(), even */
#define O_BUCKET memory_order_release
#endif
#ifndef O_BUCKETGET /* bucket_find(), first look */
#define O_BUCKETGET memory_order_acquire
#endif
#ifndef O_ENTRY /* bucket_write(), entries */
#define O_ENTRY memory_order_release
#endif
#ifndef O_ENTRYGET /* bucket_find(), entries */
#define O_ENTRYGET memory_order_acquire
#endif
#ifndef O_LEAVE /* hold_leave() */
#define O_LEAVE memory_order_release
#endif
#ifndef O_WAIT /* wait_for_section() */
#define O_WAIT memory_order_acquire
#endif
#ifndef O_PUT /* hold_set(), move_place(), hold_put_shared() */
#define O_PUT memory_order_release
#endif
#ifndef O_SUM /* count_in(), hold_sum() */
#define O_SUM memory_order_acquire
#endif
#ifndef O_RETIRE /* kill(), against mmn_cache_add_fence() */
#define O_RETIRE memory_order_acquire
#endif
#ifndef O_KILL /* kill(), against region_publish() and begin_reading() */
#define O_KILL memory_order_acq_rel
#endif
#ifndef O_PUBLISH /* region_publish() */
#define O_PUBLISH memory_order_release
#endif
#ifndef O_MARK /* begin_reading() */
#define O_MARK memory_order_acquire
#endif
#ifndef O_SHOW /* index_show() */
#define O_SHOW memory_order_release
#endif
#ifndef O_DEAD /* push_dead() */
#define O_DEAD memory_order_release
#endif
#ifndef O_BURY /* cache_bury() */
#define O_BURY memory_order_acquire
#endif
#ifndef O_ADD /* mmn_cache_add_fence() */
#define O_ADD memory_order_release
#endif
#ifndef O_ASLEEP /* sleep_until_rung() */
#define O_ASLEEP memory_order_acquire
#endif
#ifndef O_RING /* cache_ring(), cache_ring_soon() */
#define O_RING memory_order_release
#endif
#ifndef O_QUEUE /* push() */
#define O_QUEUE memory_order_acq_rel
#endif
#ifndef O_UNQUEUE /* look_again() */
#define O_UNQUEUE memory_order_acq_rel
#endif
#ifndef O_LAND /* land() */
#define O_LAND memory_order_release
#endif
#ifndef O_FLIGHT /* wait_for_flight(), region_in_flight() */
#define O_FLIGHT memory_order_acquire
#endif
#ifndef O_KERNEL /* the membarrier, in hold_enter() and hold_synchronize() */
#define O_KERNEL memory_order_seq_cst
#endif

#define rlx memory_order_relaxed
#define ld(x, o) atomic_load_explicit(&(x), o)
#define st(x, v, o) atomic_store_explicit(&(x), v, o)
#define add(x, v, o) atomic_fetch_add_explicit(&(x), v, o)
#define fetch_or(x, v, o) atomic_fetch_or_explicit(&(x), v, o)
#define xchg(x, v, o) atomic_exchange_explicit(&(x), v, o)
#define cas(x, e, v, o) \
	atomic_compare_exchange_strong_explicit(&(x), e, v, o, rlx)

enum { FREE, PENDING, LIVE, GONE = 4, DYING = LIVE | GONE };

static atomic_int state, section, place, shared, nr_dying, kicked;
static atomic_int seq, where, what, in_flight, asleep, queued, work, x;
static atomic_int open, memory, dead;
/* not synchronised by themselves */
static int data, freed, submitted, changed, held, slept, napped, looked;
static int published, hidden, next_dead;

/* ------------------------------------------------------------------ */

static void enter(void)
{
	if (BUG == 1)
		return;
	st(section, 1, rlx);
	atomic_thread_fence(O_KERNEL);
}

static void leave(void)
{
	if (BUG != 1)
		st(section, 0, O_LEAVE);
}

static void entry_write(int w1, int w2)
{
	int s = ld(seq, rlx);

	if (BUG != 2)
		st(seq, s + 1, rlx);
	st(where, w1, O_ENTRY);
	st(what, w2, O_ENTRY);
	st(seq, s + 2, O_BUCKET);
}

/* 0 for nothing; one look, as find_fast(). */
static int entry_find(void)
{
	int s = ld(seq, O_BUCKETGET);
	int w1 = ld(where, O_ENTRYGET);
	int w2 = ld(what, O_ENTRYGET);

	if ((s & 1) || (BUG != 3 && ld(seq, rlx) != s))
		return 0;
	assert(w1 == w2);
	return w1;
}

static void kick_if_dying(void)
{
	if (BUG == 4)
		return;
	if (ld(nr_dying, rlx) && ld(state, rlx) == DYING)
		st(kicked, 1, rlx);
}

static void put(void)
{
	enter();
	st(place, ld(place, rlx) - 1, O_PUT);
	kick_if_dying();
	leave();
}

static void *getter(void *unused)
{
	int found;

	enter();
	found = entry_find();
	if (found)
		st(place, ld(place, rlx) + 1, O_PUT);
	leave();
	if (found) {
		assert(data == found);
		put();
	}
	return unused;
}

static void *putter(void *unused)
{
	assert(data == 1);
	put();
	return unused;
}

static int sum(void)
{
	int count;

	if (BUG == 6)
		count = ld(shared, O_SUM);
	else
		count = ld(place, O_SUM);
	return count + (BUG == 6 ? ld(place, O_SUM) : ld(shared, O_SUM));
}

static void synchronize(void)
{
	if (BUG == 5)
		return;
	atomic_thread_fence(O_KERNEL);
	__VERIFIER_assume(ld(section, O_WAIT) == 0);
}

static void *worker(void *unused)
{
	entry_write(0, 0);
	st(nr_dying, 1, rlx);
	xchg(state, DYING, O_RETIRE);
	synchronize();
	if (sum() == 0) {
		data = 0;
		freed = 1;
	}
	return unused;
}

/* After the wait: no barrier comes from the kernel any more. */
static void *late_putter(void *unused)
{
	assert(data == 1);
	st(place, 0, O_PUT);
	return unused;
}

static void *second_look(void *unused)
{
	if (sum() == 0)
		data = 0;
	return unused;
}

/* ------------------------------------------------------------------ */

static void *retirer(void *unused)
{
	xchg(state, DYING, O_RETIRE);
	if (!ld(in_flight, O_FLIGHT))
		changed = 1;
	return unused;
}

static void *fencer(void *unused)
{
	if (BUG == 7 && ld(state, rlx) != LIVE)
		return unused;
	add(in_flight, 1, rlx);
	if (BUG == 7 || fetch_or(state, 0, O_ADD) == LIVE)
		submitted = 1;
	return unused;
}

static void *writer(void *unused)
{
	entry_write(0, 0);
	entry_write(2, 2);
	return unused;
}

static void *finder(void *unused)
{
	int found = entry_find();

	if (found == 2)
		assert(data == 2);
	return unused;
}

static void *registrar(void *unused)
{
	data = 2;
	entry_write(2, 2);
	return unused;
}

enum { BUSY, ASLEEP, NAPPING, HURRIED = 4 };

/* A nap, which ends by itself or because of a ring, and then sleep. */
static void *sleeper(void *unused)
{
	if (!(xchg(asleep, NAPPING, rlx) & HURRIED))
		napped = !ld(work, rlx);
	if (BUG != 8)
		xchg(asleep, ASLEEP, O_ASLEEP);
	if (!ld(work, rlx))
		slept = 1;
	if (BUG == 8)
		xchg(asleep, ASLEEP, O_ASLEEP);
	return unused;
}

/* held: woken */
static void *ringer(void *unused)
{
	st(work, 1, rlx);
	if (xchg(asleep, HURRIED, O_RING) & (ASLEEP | NAPPING))
		held = 1;
	return unused;
}

static void *soon_ringer(void *unused)
{
	int was;

	st(work, 1, rlx);
	if (BUG == 11) {
		was = ld(asleep, rlx);
		if (was & ASLEEP)
			st(asleep, BUSY, rlx);
	} else {
		was = atomic_fetch_and_explicit(&asleep, ~ASLEEP, O_RING);
	}
	if (was & ASLEEP)
		held = 1;
	return unused;
}

static void *kicker(void *unused)
{
	st(x, 1, rlx);
	if (!xchg(queued, 1, O_QUEUE))
		st(work, 1, rlx);
	return unused;
}

/* It was kicked before; another kick comes while it is looked at. */
static void *looker(void *unused)
{
	if (BUG == 9)
		looked = ld(x, rlx);
	xchg(queued, 0, O_UNQUEUE);
	if (BUG != 9)
		looked = ld(x, rlx);
	return unused;
}

/* A thread ends; its reference is somebody else's. */
static void *ender(void *unused)
{
	if (BUG == 10)
		st(place, 0, O_PUT);
	add(shared, 1, rlx);
	st(place, 0, O_PUT);
	return unused;
}

static void *summer(void *unused)
{
	assert(sum() >= 1);
	return unused;
}

static void *lander(void *unused)
{
	data = 2;
	add(in_flight, -1, O_LAND);
	return unused;
}

static void *changer(void *unused)
{
	if (ld(in_flight, O_FLIGHT) == 0)
		assert(data == 2);
	return unused;
}

/* ------------------------------------------------------------------ */

/*
 * An entry in its life: where does not allow anything, then it does; what has
 * pages, then it has not.
 */
enum { OLD = 5, BARRED = 1, SHOWN = 2, WHOLE = 1, HIDDEN = 3 };

static int is_found(void)
{
	int s = ld(seq, O_BUCKETGET);
	int w1 = ld(where, O_ENTRYGET);
	int w2 = ld(what, O_ENTRYGET);

	if ((s & 1) || ld(seq, rlx) != s)
		return 0;
	assert(w1 != SHOWN || w2 != OLD);
	return w1 == SHOWN && w2 == WHOLE;
}

static void publish(void)
{
	int pending = PENDING;

	if (BUG == 12)
		entry_write(SHOWN, WHOLE);
	else
		entry_write(BARRED, WHOLE);
	if (!cas(state, &pending, LIVE, O_PUBLISH)) {
		st(state, DYING, rlx);
		entry_write(0, 0);
		return;
	}
	if (BUG != 12)
		st(where, SHOWN, O_SHOW);
	published = 1;
}

static void hide(void)
{
	int whole = WHOLE;

	cas(what, &whole, HIDDEN, rlx);
}

/* True for who was first. */
static int kill_it(void)
{
	int was = fetch_or(state, GONE, O_KILL);

	if (was == LIVE || (was == DYING && BUG != 13))
		hide();
	return was == LIVE;
}

static void *publisher(void *unused)
{
	publish();
	return unused;
}

static void *killer(void *unused)
{
	kill_it();
	assert(!is_found());
	return unused;
}

static void *replacer(void *unused)
{
	entry_write(0, 0);
	entry_write(BARRED, WHOLE);
	st(where, SHOWN, O_SHOW);
	return unused;
}

static void *peeker(void *unused)
{
	is_found();
	return unused;
}

static void take_mark_off(void)
{
	int marked = PENDING | GONE;

	cas(state, &marked, PENDING, O_MARK);
}

static void *reader(void *unused)
{
	if (BUG != 14)
		take_mark_off();
	__VERIFIER_assume(ld(open, memory_order_acquire) == 0);
	if (BUG == 14)
		take_mark_off();
	looked = ld(memory, rlx);
	publish();
	return unused;
}

/* A change from its start to its end. */
static void *whole_change(void *unused)
{
	add(open, 1, rlx);
	hidden = kill_it();
	st(memory, 2, rlx);
	add(open, -1, memory_order_release);
	return unused;
}

static void *pusher(void *unused)
{
	next_dead = 7;
	st(dead, 1, O_DEAD);
	return unused;
}

static void *burier(void *unused)
{
	if (xchg(dead, 0, O_BURY))
		assert(next_dead == 7);
	return unused;
}

/* ------------------------------------------------------------------ */

int main(void)
{
	pthread_t a, b;

#if SCENARIO == 1
	data = 1;
	where = what = 1;
	state = LIVE;
	pthread_create(&a, NULL, getter, NULL);
	pthread_create(&b, NULL, worker, NULL);
#elif SCENARIO == 2
	data = 1;
	place = 1;
	where = what = 1;
	state = LIVE;
	pthread_create(&a, NULL, putter, NULL);
	pthread_create(&b, NULL, worker, NULL);
#elif SCENARIO == 3
	state = LIVE;
	pthread_create(&a, NULL, fencer, NULL);
	pthread_create(&b, NULL, retirer, NULL);
#elif SCENARIO == 4
	where = what = 1;
	data = 2;
	pthread_create(&a, NULL, finder, NULL);
	pthread_create(&b, NULL, writer, NULL);
#elif SCENARIO == 5
	pthread_create(&a, NULL, finder, NULL);
	pthread_create(&b, NULL, registrar, NULL);
#elif SCENARIO == 6
	pthread_create(&a, NULL, sleeper, NULL);
	pthread_create(&b, NULL, ringer, NULL);
#elif SCENARIO == 7
	queued = 1;
	pthread_create(&a, NULL, kicker, NULL);
	pthread_create(&b, NULL, looker, NULL);
#elif SCENARIO == 8
	place = 1;
	pthread_create(&a, NULL, ender, NULL);
	pthread_create(&b, NULL, summer, NULL);
#elif SCENARIO == 9
	data = 1;
	in_flight = 1;
	pthread_create(&a, NULL, lander, NULL);
	pthread_create(&b, NULL, changer, NULL);
#elif SCENARIO == 10
	data = 1;
	place = 1;
	pthread_create(&a, NULL, late_putter, NULL);
	pthread_create(&b, NULL, second_look, NULL);
#elif SCENARIO == 11
	pthread_create(&a, NULL, sleeper, NULL);
	pthread_create(&b, NULL, soon_ringer, NULL);
#elif SCENARIO == 12
	state = PENDING;
	pthread_create(&a, NULL, publisher, NULL);
	pthread_create(&b, NULL, killer, NULL);
#elif SCENARIO == 13
	where = SHOWN;
	what = WHOLE;
	state = LIVE;
	pthread_create(&a, NULL, killer, NULL);
	pthread_create(&b, NULL, killer, NULL);
#elif SCENARIO == 14
	where = what = OLD;
	pthread_create(&a, NULL, peeker, NULL);
	pthread_create(&b, NULL, replacer, NULL);
#elif SCENARIO == 15
	state = PENDING;
	pthread_create(&a, NULL, reader, NULL);
	pthread_create(&b, NULL, whole_change, NULL);
#elif SCENARIO == 16
	pthread_create(&a, NULL, pusher, NULL);
	pthread_create(&b, NULL, burier, NULL);
#else
#error "no such scenario"
#endif
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	if (SCENARIO <= 2)
		assert(freed || ld(kicked, rlx));
	if (SCENARIO == 3)
		assert(!(submitted && changed));
	if (SCENARIO == 12)
		assert(!is_found());
	if (SCENARIO == 15)
		assert(!published || hidden || looked == 2);
	/* Who is woken, or finds another value, does not sleep on. */
	if (SCENARIO == 6)
		assert(!napped || held);
	if (SCENARIO == 6 || SCENARIO == 11)
		assert(!slept || (held && ld(asleep, rlx) != ASLEEP));
	if (SCENARIO == 7)
		assert(looked || ld(work, rlx));
	return 0;
}
