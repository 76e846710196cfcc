/* SPDX-License-Identifier: MIT */
/*
 * The notifier's protocol for GenMC (model checker for C11), by hand from
 * src/notifier/: same names, same order of accesses, one slot, one
 * subscription A, up to two changes X and Y.
 *
 *	genmc --rc11 -- -DSCENARIO=1 notifier.c
 *
 * SCENARIO picks the threads (bottom of the file).  Each order is a macro, so
 * that one -D weakens it; BUG=n removes a step.  model/run.py runs them all and
 * compares with the verdicts it expects.
 *
 * P1  while a change over A is open and told, no entry is mirrored.
 * P2  after its end, no entry from before it is.
 * P3  in the end nothing is counted, listed, or left in a slot.
 * P4  memory that was given back is not touched.
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

/* The orders of the code; see doc/DESIGN.md for the table of weakenings. */
#ifndef O_CLAIM /* claim_slot() */
#define O_CLAIM memory_order_seq_cst
#endif
#ifndef O_HULL /* hull_overlaps() */
#define O_HULL memory_order_seq_cst
#endif
#ifndef O_SETHULL /* set_hull() */
#define O_SETHULL memory_order_seq_cst
#endif
#ifndef O_SHRINK /* set_hull() from a remove */
#define O_SHRINK memory_order_seq_cst
#endif
#ifndef O_MAP /* filter_overlaps(), the address of the map */
#define O_MAP memory_order_seq_cst
#endif
#ifndef O_BITS /* filter_looks_up() */
#define O_BITS memory_order_seq_cst
#endif
#ifndef O_SETBITS /* set_bit() */
#define O_SETBITS memory_order_seq_cst
#endif
#ifndef O_PUBLISHMAP /* publish_map() */
#define O_PUBLISHMAP memory_order_seq_cst
#endif
#ifndef O_QUIET /* state_is_quiet() */
#define O_QUIET memory_order_seq_cst
#endif
#ifndef O_SCAN /* hold_slot(), load */
#define O_SCAN memory_order_seq_cst
#endif
#ifndef O_HOLD /* hold_slot(), exchange */
#define O_HOLD memory_order_acquire
#endif
#ifndef O_RESTORE /* restore_slot() */
#define O_RESTORE memory_order_release
#endif
#ifndef O_CLOSE /* mmn_invalidate_close() */
#define O_CLOSE memory_order_acq_rel
#endif
#ifndef O_COUNT /* count_change() */
#define O_COUNT memory_order_relaxed
#endif
#ifndef O_UNCOUNT /* uncount_range() */
#define O_UNCOUNT memory_order_release
#endif
#ifndef O_UNBIT /* uncount_range(), the waiter bit */
#define O_UNBIT memory_order_relaxed
#endif
#ifndef O_DISMISS /* dismiss_readers() */
#define O_DISMISS memory_order_relaxed
#endif
#ifndef O_SETSEQ /* mmn_range_set_seq() */
#define O_SETSEQ memory_order_release
#endif
#ifndef O_SEQ /* read_begin() */
#define O_SEQ memory_order_acquire
#endif
#ifndef O_OPEN /* read_begin() */
#define O_OPEN memory_order_acquire
#endif
#ifndef O_RETRY /* seq_moved() */
#define O_RETRY memory_order_relaxed
#endif
#ifndef O_WAITER /* read_wait() */
#define O_WAITER memory_order_relaxed
#endif

#define rlx memory_order_relaxed
#define ld(x, o) atomic_load_explicit(&(x), o)
#define st(x, v, o) atomic_store_explicit(&(x), v, o)
#define cas(x, pe, v, o) \
	atomic_compare_exchange_strong_explicit(&(x), pe, v, o, rlx)

enum { NONE = 0, OLD = 1 };
enum { X = 1, Y = 2 };
enum { HELD = 1, WAITER = 1, ONE = 2 };
enum { NO_SLOT = 0, SLOT = 1 };

static pthread_mutex_t S, D;
/* slot: 0, or 2 * change, with HELD */
static atomic_int slot;
static atomic_int hull_lo, hull_hi;
static atomic_int open_A, seq_A, pte;
static atomic_int slept, woke;
/* SCENARIO 14 to 17: which map is looked at, and A's bit in each */
static atomic_int map, bits[2];
static int freed_map[2];

/* under S */
static int next_seq, in_tree, birth_A, running_A, listed[3], id[3];
/* under D */
static int shadow;
/* not synchronised by themselves */
static int desc_start[3], desc_last[3], my_slot[3], freed_A;

/* A is [4, 5]; where the hull is empty it is [9, 0]. */
static const int A_start = 4, A_last = 5;

static void touch_A(void)
{
	assert(!freed_A);
}

static int overlaps_A(int c)
{
	return desc_start[c] <= A_last && desc_last[c] >= A_start;
}

static void change_register(int c)
{
	next_seq += 2;
	id[c] = next_seq;
	listed[c] = 1;
	if (in_tree && overlaps_A(c) && BUG != 1) {
		touch_A();
		atomic_fetch_add_explicit(&open_A, ONE, O_COUNT);
	}
}

#define GROWS (SCENARIO >= 14 && SCENARIO <= 17)

/* Only changes over A look at the map here, so its bit is all there is to it. */
static int map_overlaps(void)
{
	int m;

	if (!GROWS)
		return 1;
	m = ld(map, O_MAP);
	assert(!freed_map[m]);
	return ld(bits[m], O_BITS);
}

static int change_open(int c, int start, int last)
{
	int free = 0;

	desc_start[c] = start;
	desc_last[c] = last;
	id[c] = 0;
	my_slot[c] = NO_SLOT;
	if (!cas(slot, &free, 2 * c, O_CLAIM))
		return 1;
	my_slot[c] = SLOT;
	return ld(hull_lo, O_HULL) <= last && ld(hull_hi, O_HULL) >= start &&
	       map_overlaps();
}

static void callback_A(int c)
{
	int seq;

	pthread_mutex_lock(&D);
	touch_A();
	seq = ld(seq_A, rlx);
	if (BUG == 12)
		st(seq_A, id[c], O_SETSEQ);
	else if (seq && BUG != 2)
		cas(seq_A, &seq, id[c], O_SETSEQ);
	if (BUG != 3)
		shadow = NONE;
	pthread_mutex_unlock(&D);
}

static void change_notify(int c)
{
	int call;

	pthread_mutex_lock(&S);
	if (!listed[c]) {
		int stays = my_slot[c] && !(in_tree && overlaps_A(c));

		if (stays) {
			pthread_mutex_unlock(&S);
			return;
		}
		if (my_slot[c])
			st(slot, 0, rlx);
		change_register(c);
	}
	my_slot[c] = NO_SLOT;
	call = in_tree && overlaps_A(c) && birth_A < id[c];
	if (call && BUG != 11)
		running_A++;
	pthread_mutex_unlock(&S);
	if (!call)
		return;
	callback_A(c);
	pthread_mutex_lock(&S);
	touch_A();
	if (BUG != 11)
		running_A--;
	pthread_mutex_unlock(&S);
}

static void uncount_A(void)
{
	int open;

	touch_A();
	open = atomic_fetch_sub_explicit(&open_A, ONE, O_UNCOUNT);
	if (open != (ONE | WAITER))
		return;
	atomic_fetch_and_explicit(&open_A, ~WAITER, O_UNBIT);
	st(woke, 1, rlx);
}

static void change_end(int c)
{
	int mine = 2 * c;

	if (my_slot[c] && cas(slot, &mine, 0, O_CLOSE))
		goto out;
	pthread_mutex_lock(&S);
	if (listed[c]) {
		listed[c] = 0;
		if (in_tree && overlaps_A(c))
			uncount_A();
	} else if (my_slot[c]) {
		assert(ld(slot, rlx) == 2 * c);
		st(slot, 0, rlx);
	}
	pthread_mutex_unlock(&S);
out:
	/* the descriptor's memory is used for something else */
	desc_start[c] = 7;
	desc_last[c] = 7;
}

static void adopt_slot(void)
{
	int word, c;

	/* GenMC explores each outcome of the race for the slot */
	word = ld(slot, O_SCAN);
	if (!word)
		return;
	if (BUG == 4) {
		/* the range is read before the slot is held */
		c = word / 2;
		if (!overlaps_A(c))
			return;
	}
	if (!cas(slot, &word, word | HELD, O_HOLD)) {
		/* closed, or closed and claimed again: look again, once */
		word = ld(slot, O_SCAN);
		if (!word)
			return;
		__VERIFIER_assume(cas(slot, &word, word | HELD, O_HOLD));
	}
	c = word / 2;
	if (overlaps_A(c)) {
		if (BUG != 5)
			change_register(c);
		st(slot, 0, O_RESTORE);
	} else {
		st(slot, 2 * c, O_RESTORE);
	}
}

static void set_hull(int lo, int hi, memory_order order)
{
	if (lo != ld(hull_lo, rlx))
		st(hull_lo, lo, order);
	if (hi != ld(hull_hi, rlx))
		st(hull_hi, hi, order);
}

/* S held: the map is replaced; the old one is freed when nobody looks at it. */
static void grow_map(void)
{
	if (BUG == 15)
		st(map, 1, O_PUBLISHMAP);
	st(bits[1], ld(bits[0], rlx), rlx);
	if (BUG != 15)
		st(map, 1, O_PUBLISHMAP);
}

static void free_map(void)
{
	if (BUG != 16 && ld(slot, O_QUIET))
		return;
	if (BUG != 17 && (listed[X] || listed[Y]))
		return;
	freed_map[0] = 1;
}

static void grow(void)
{
	pthread_mutex_lock(&S);
	grow_map();
	free_map();
	pthread_mutex_unlock(&S);
}

static void insert_A(void)
{
	pthread_mutex_lock(&S);
	if (GROWS)
		st(bits[ld(map, rlx)], 1, O_SETBITS);
	if (BUG == 6) {
		adopt_slot();
		set_hull(A_start, A_last, O_SETHULL);
	} else {
		set_hull(A_start, A_last, O_SETHULL);
		adopt_slot();
	}
	next_seq += 2;
	birth_A = next_seq;
	in_tree = 1;
	st(open_A,
	   BUG == 7 ? 0
		    : ONE * (listed[X] && overlaps_A(X)) +
			      ONE * (listed[Y] && overlaps_A(Y)),
	   rlx);
	st(seq_A, birth_A, rlx);
	pthread_mutex_unlock(&S);
}

static void remove_A(void)
{
	int running;

	pthread_mutex_lock(&S);
	in_tree = 0;
	if (BUG != 13)
		set_hull(9, 0, O_SHRINK);
	st(seq_A, 0, rlx);
	if (atomic_exchange_explicit(&open_A, 0, O_DISMISS) & WAITER)
		st(woke, 1, rlx);
	running = running_A;
	pthread_mutex_unlock(&S);
	if (BUG == 8)
		return;
	if (running) {
		pthread_mutex_lock(&S);
		running = running_A;
		pthread_mutex_unlock(&S);
		__VERIFIER_assume(!running);
	}
}

static int look(int *open)
{
	int seq;

	if (BUG == 9) {
		*open = ld(open_A, O_OPEN);
		return ld(seq_A, O_SEQ);
	}
	seq = ld(seq_A, O_SEQ);
	*open = ld(open_A, O_OPEN);
	return seq;
}

static void mirror(int seq)
{
	int seen = ld(pte, rlx);

	pthread_mutex_lock(&D);
	if (ld(seq_A, O_RETRY) == seq)
		shadow = seen;
	pthread_mutex_unlock(&D);
}

/* One device fault.  GenMC drops the executions that would have to wait. */
static void fault_A(void)
{
	int open, seq = look(&open);

	if (BUG != 10)
		__VERIFIER_assume(open < ONE);
	if (seq)
		mirror(seq);
}

/* The same with the wait: who goes to sleep must be woken. */
static void sleepy_fault_A(void)
{
	int open, seq = look(&open);

	if (open >= ONE) {
		if (BUG == 14 || cas(open_A, &open, open | WAITER, O_WAITER))
			st(slept, 1, rlx);
		seq = look(&open);
		__VERIFIER_assume(open < ONE);
	}
	mirror(seq);
}

/* Look for entries that must not be there. */
static void check_shadow(int after_end)
{
	pthread_mutex_lock(&D);
	assert(after_end ? shadow != OLD : shadow == NONE);
	pthread_mutex_unlock(&D);
}

static void change(int c, int value, int check)
{
	if (change_open(c, A_start, A_last))
		change_notify(c);
	st(pte, value, rlx);
	if (check)
		check_shadow(0);
	change_end(c);
	if (check)
		check_shadow(1);
}

/* A change beside A. */
static void change_beside(int c)
{
	if (change_open(c, 6, 6))
		change_notify(c);
	change_end(c);
}

static void begin(int inserted)
{
	pthread_mutex_init(&S, NULL);
	pthread_mutex_init(&D, NULL);
	next_seq = 1;
	if (inserted) {
		next_seq = birth_A = 3;
		in_tree = 1;
	}
	/* where maps grow they decide, not the hull */
	atomic_init(&hull_lo, inserted || GROWS ? A_start : 9);
	atomic_init(&hull_hi, inserted || GROWS ? A_last : 0);
	atomic_init(&seq_A, inserted ? birth_A : 0);
	atomic_init(&open_A, 0);
	atomic_init(&slot, 0);
	atomic_init(&pte, OLD);
	atomic_init(&bits[0], inserted);
	atomic_init(&slept, 0);
	atomic_init(&woke, 0);
}

static void finish(void)
{
	assert(shadow == NONE || (shadow == ld(pte, rlx) && SCENARIO != 12));
	assert(!listed[X] && !listed[Y] && !running_A);
	assert(ld(slot, rlx) == 0);
	assert(ld(open_A, rlx) / ONE == 0);
	assert(!ld(slept, rlx) || ld(woke, rlx));
}

#define THREAD(name, body)           \
	static void *name(void *arg) \
	{                            \
		(void)arg;           \
		body;                \
		return NULL;         \
	}

#define INSERTED 0
#if SCENARIO == 1 /* insert against an open that misses; promotion; end */
THREAD(t1, change(X, 2, 1))
THREAD(t2, insert_A(); fault_A())
#define THREADS 2
#elif SCENARIO == 2 /* a reader against a change */
#undef INSERTED
#define INSERTED 1
THREAD(t1, change(X, 2, 1))
THREAD(t2, fault_A())
#define THREADS 2
#elif SCENARIO == 3 /* the slot changes hands while an insert looks at it */
THREAD(t1, change(X, 2, 0))
THREAD(t2, insert_A(); fault_A())
THREAD(t3, change(Y, 3, 0))
#define THREADS 3
#elif SCENARIO == 4 /* the same descriptor twice: A-B-A in the slot */
THREAD(t1, change(X, 2, 1); change(X, 3, 1))
THREAD(t2, insert_A(); fault_A())
#define THREADS 2
#elif SCENARIO == 5 /* a slot that is held and restored, its memory reused */
THREAD(t1, change_beside(X))
THREAD(t2, insert_A())
#define THREADS 2
#elif SCENARIO == 6 /* remove against a callback, memory freed after it */
#undef INSERTED
#define INSERTED 1
THREAD(t1, change(X, 2, 0))
THREAD(t2, remove_A(); freed_A = 1)
#define THREADS 2
#elif SCENARIO == 7 /* the hull shrinks and grows again */
#undef INSERTED
#define INSERTED 1
THREAD(t1, change(X, 2, 1))
THREAD(t2, remove_A(); insert_A(); fault_A())
#define THREADS 2
#elif SCENARIO == 8 /* two changes set the sequence in any order */
#undef INSERTED
#define INSERTED 1
THREAD(t1, change(X, 2, 1))
THREAD(t2, fault_A())
THREAD(t3, change(Y, 3, 1))
#define THREADS 3
#elif SCENARIO == 9 /* the waiter's bit against the end */
#undef INSERTED
#define INSERTED 1
THREAD(t1, change(X, 2, 0))
THREAD(t2, sleepy_fault_A())
#define THREADS 2
#elif SCENARIO == 10 /* the waiter's bit against two ends */
#undef INSERTED
#define INSERTED 1
THREAD(t1, change(X, 2, 0))
THREAD(t2, sleepy_fault_A())
THREAD(t3, change(Y, 3, 0))
#define THREADS 3
#elif SCENARIO == 11 /* a fresh subscription that another thread reads */
static atomic_int published;
#ifndef O_PUBLISH
#define O_PUBLISH memory_order_release
#endif
static void fault_published(void)
{
	__VERIFIER_assume(ld(published, memory_order_acquire));
	fault_A();
}
THREAD(t1, change(X, 2, 1))
THREAD(t2, insert_A(); st(published, 1, O_PUBLISH))
THREAD(t3, fault_published())
#define THREADS 3
#elif SCENARIO == 12 /* removed and torn down, with a reader that goes on */
#undef INSERTED
#define INSERTED 1
THREAD(t1, change(X, 2, 0))
THREAD(t2, remove_A(); pthread_mutex_lock(&D); shadow = NONE;
       pthread_mutex_unlock(&D))
THREAD(t3, fault_A())
#define THREADS 3
#elif SCENARIO == 13 /* two inserts in a row hold the same slot */
THREAD(t1, change(X, 2, 1))
THREAD(t2, insert_A(); remove_A(); insert_A(); fault_A())
#define THREADS 2
#elif SCENARIO == 14 /* the filter's map is replaced, then an insert */
THREAD(t1, change(X, 2, 1))
THREAD(t2, grow(); insert_A(); fault_A())
#define THREADS 2
#elif SCENARIO == 15 /* it is replaced with A in it */
#undef INSERTED
#define INSERTED 1
THREAD(t1, change(X, 2, 1))
THREAD(t2, grow(); fault_A())
#define THREADS 2
#elif SCENARIO == 16 /* after an insert that may have adopted the change */
THREAD(t1, change(X, 2, 1))
THREAD(t2, insert_A(); grow(); fault_A())
#define THREADS 2
#elif SCENARIO == 17 /* against two changes, one after the other */
#undef INSERTED
#define INSERTED 1
THREAD(t1, change(X, 2, 1); change(Y, 3, 1))
THREAD(t2, grow(); fault_A())
#define THREADS 2
#endif

int main(void)
{
	pthread_t a, b;

	begin(INSERTED);
	pthread_create(&a, NULL, t1, NULL);
	pthread_create(&b, NULL, t2, NULL);
#if THREADS == 3
	pthread_t c;

	pthread_create(&c, NULL, t3, NULL);
	pthread_join(c, NULL);
#endif
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	finish();
	return 0;
}
