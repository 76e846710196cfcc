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
#ifndef O_HULL /* filter_overlaps(), the hull */
#define O_HULL memory_order_seq_cst
#endif
#ifndef O_SETHULL /* filter_set_hull() */
#define O_SETHULL memory_order_seq_cst
#endif
#ifndef O_SHRINK /* filter_set_hull() from a remove */
#define O_SHRINK memory_order_seq_cst
#endif
#ifndef O_MAP /* filter_overlaps(), the address of the map */
#define O_MAP memory_order_seq_cst
#endif
#ifndef O_BITS /* filter_block_has(), filter_guess_misses() */
#define O_BITS memory_order_seq_cst
#endif
#ifndef O_SETBITS /* set_bit() */
#define O_SETBITS memory_order_seq_cst
#endif
#ifndef O_PUBLISHMAP /* publish() */
#define O_PUBLISHMAP memory_order_seq_cst
#endif
#ifndef O_QUIET /* forget_lookers() */
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
#ifndef O_COUNT /* add_call() */
#define O_COUNT memory_order_relaxed
#endif
#ifndef O_UNCOUNT /* range_uncount() */
#define O_UNCOUNT memory_order_release
#endif
#ifndef O_UNBIT /* range_uncount(), the waiter bit */
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

#ifndef O_RAISE /* raise_door() */
#define O_RAISE memory_order_seq_cst
#endif
#ifndef O_PHASE /* hall_phase() */
#define O_PHASE memory_order_seq_cst
#endif
#ifndef O_HALLCLOSE /* hall_close() */
#define O_HALLCLOSE memory_order_seq_cst
#endif
#ifndef O_AWAIT /* hall_await_door() */
#define O_AWAIT memory_order_seq_cst
#endif
#ifndef O_LOWER /* hall_lower_own(), lower_shared() */
#define O_LOWER memory_order_release
#endif
#ifndef O_HALLOPEN /* hall_open() */
#define O_HALLOPEN memory_order_release
#endif
#ifndef O_FREE /* free_slot() */
#define O_FREE memory_order_release
#endif
#ifndef O_CALLING /* state_count_calls(), load */
#define O_CALLING memory_order_acquire
#endif
#ifndef O_COUNTCALL /* state_count_calls(), exchange */
#define O_COUNTCALL memory_order_relaxed
#endif
#ifndef O_STOP /* stop_calling() */
#define O_STOP memory_order_release
#endif
#ifndef O_DROP /* drop_running() */
#define O_DROP memory_order_acq_rel
#endif
#ifndef O_IDLE /* wait_idle() */
#define O_IDLE memory_order_acquire
#endif

#define rlx memory_order_relaxed
#define ld(x, o) atomic_load_explicit(&(x), o)
#define st(x, v, o) atomic_store_explicit(&(x), v, o)
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

enum { NONE = 0, OLD = 1 };
enum { X = 1, Y = 2 };
enum { HELD = 1, COUNTED = 2, OVER = 3, CHANGE = 4 };
enum { WAITER = 1, ONE = 2 };
enum { CALLING = 1, CALL_COUNTED = 2 };
/* running_A: who comes to 0 releases, the count, and who is counting */
enum { DEFERRED = 1, RUN = 2, REMOVER = 1 << 16 };
enum { NO_SLOT = 0, SLOT = 1 };

static pthread_mutex_t writer, overflow_lock, D;
/* the hall S, with the door of the slot and the common one */
static atomic_int phase, slot_door, common_door;
/* slot: 0, or CHANGE * change, with HELD, COUNTED or OVER */
static atomic_int slot;
static atomic_int next_seq, calling[3], running_A;
static atomic_int hull_lo, hull_hi;
static atomic_int open_A, seq_A, pte;
static atomic_int slept, woke;
/* SCENARIO 14 to 17: which map is looked at, and A's bit in each */
static atomic_int map, bits[2];
static int freed_map[2];

/* S: read inside, written by the writer */
static int in_tree, birth_A;
/* S: written by the owner inside, or by the writer; told: the cursor */
static int id[3], told[3];
/* overflow_lock inside, or the writer */
static int listed[3];
/* under D */
static int shadow;
/* not synchronised by themselves */
static int desc_start[3], desc_last[3], my_slot[3], freed_A;
static atomic_int released_A;

/* S: A is [4, 5], or elsewhere; where the hull is empty it is [9, 0]. */
static int A_start = 4, A_last = 5;

static void touch_A(void)
{
	assert(!freed_A);
}

static int overlaps_A(int c)
{
	return desc_start[c] <= A_last && desc_last[c] >= A_start;
}

/* Executions in which somebody would have to wait are dropped. */
static void enter(int c)
{
	if (my_slot[c])
		st(slot_door, 1, O_RAISE);
	else
		atomic_fetch_add_explicit(&common_door, 1, O_RAISE);
	__VERIFIER_assume(!(ld(phase, O_PHASE) & 1));
}

static void leave(int c)
{
	if (my_slot[c])
		atomic_exchange_explicit(&slot_door, 0, O_LOWER);
	else
		atomic_fetch_sub_explicit(&common_door, 1, O_LOWER);
}

static void state_lock(void)
{
	pthread_mutex_lock(&writer);
	st(phase, ld(phase, rlx) + 1, O_HALLCLOSE);
	if (BUG != 18)
		__VERIFIER_assume(!ld(slot_door, O_AWAIT));
	if (BUG != 19)
		__VERIFIER_assume(!ld(common_door, O_AWAIT));
}

static void state_unlock(void)
{
	st(phase, ld(phase, rlx) + 1, O_HALLOPEN);
	pthread_mutex_unlock(&writer);
}

static int new_id(void)
{
	return atomic_fetch_add_explicit(&next_seq, 2, rlx) + 2;
}

static void begin_counting(int c)
{
	told[c] = 0;
	st(calling[c], 0, rlx);
	id[c] = new_id();
}

static void change_count(int c)
{
	begin_counting(c);
	if (my_slot[c]) {
		st(slot, CHANGE * c + COUNTED, rlx);
		return;
	}
	pthread_mutex_lock(&overflow_lock);
	listed[c] = 1;
	pthread_mutex_unlock(&overflow_lock);
}

/* By the writer. */
static int is_counted(int c)
{
	return listed[c] || ld(slot, rlx) == CHANGE * c + COUNTED;
}

/* change_counts(): inside, or the writer. */
static int counts_on_A(int c)
{
	return overlaps_A(c) && (birth_A > id[c] || told[c]);
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
	if (!cas(slot, &free, CHANGE * c, O_CLAIM))
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
		/* What a failing one has read is of no use. */
		atomic_compare_exchange_strong_explicit(&seq_A, &seq, id[c],
							O_SETSEQ, rlx);
	if (BUG != 3)
		shadow = NONE;
	pthread_mutex_unlock(&D);
}

static void drop_running(int what)
{
	if (atomic_fetch_sub_explicit(&running_A, what, O_DROP) !=
	    (what | DEFERRED))
		return;
	/* release(): the memory is used for something else */
	freed_A = 1;
	st(released_A, 1, rlx);
}

static void stop_calling(int c)
{
	touch_A();
	if (atomic_exchange_explicit(&calling[c], 0, O_STOP) == CALL_COUNTED)
		drop_running(RUN);
}

static void change_notify(int c)
{
	int call;

	enter(c);
	call = in_tree && overlaps_A(c) && (!id[c] || birth_A < id[c]);
	if (!call && my_slot[c]) {
		leave(c);
		return;
	}
	if (!id[c])
		change_count(c);
	if (call) {
		touch_A();
		told[c] = 1;
		if (BUG != 1)
			atomic_fetch_add_explicit(&open_A, ONE, O_COUNT);
		if (BUG != 11)
			st(calling[c], CALLING, rlx);
	}
	leave(c);
	if (!call)
		return;
	callback_A(c);
	stop_calling(c);
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
	int mine = CHANGE * c;

	if (my_slot[c] && cas(slot, &mine, 0, O_CLOSE))
		goto out;
	enter(c);
	if (id[c] && in_tree && counts_on_A(c))
		uncount_A();
	if (my_slot[c] && (id[c] || BUG != 21)) {
		st(slot, CHANGE * c + OVER, rlx);
	} else if (!my_slot[c]) {
		pthread_mutex_lock(&overflow_lock);
		listed[c] = 0;
		pthread_mutex_unlock(&overflow_lock);
	}
	id[c] = 0;
	if (BUG == 22 && my_slot[c])
		st(slot, 0, O_FREE);
	leave(c);
	if (BUG != 22 && my_slot[c])
		st(slot, 0, O_FREE);
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
	if (!word || word % CHANGE)
		return;
	if (BUG == 4) {
		/* the range is read before the slot is held */
		c = word / CHANGE;
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
	c = word / CHANGE;
	if (overlaps_A(c) && BUG != 5) {
		begin_counting(c);
		st(slot, CHANGE * c + COUNTED, rlx);
	} else {
		st(slot, CHANGE * c, O_RESTORE);
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
	freed_map[0] = 1;
}

static void grow(void)
{
	state_lock();
	grow_map();
	free_map();
	state_unlock();
}

static int is_open_over_A(int c)
{
	return is_counted(c) && counts_on_A(c);
}

static void insert_A_at(int start, int last)
{
	state_lock();
	A_start = start;
	A_last = last;
	if (GROWS)
		st(bits[ld(map, rlx)], 1, O_SETBITS);
	if (BUG == 6) {
		adopt_slot();
		set_hull(A_start, A_last, O_SETHULL);
	} else {
		set_hull(A_start, A_last, O_SETHULL);
		adopt_slot();
	}
	birth_A = new_id();
	in_tree = 1;
	st(open_A,
	   BUG == 7 ? 0 : ONE * is_open_over_A(X) + ONE * is_open_over_A(Y),
	   rlx);
	st(seq_A, birth_A, rlx);
	state_unlock();
}

static void insert_A(void)
{
	insert_A_at(4, 5);
}

/* state_count_calls() */
static void count_call(int c)
{
	int one = CALLING;

	if (!is_counted(c) || ld(calling[c], O_CALLING) != CALLING)
		return;
	atomic_fetch_add_explicit(&running_A, RUN, rlx);
	if (cas(calling[c], &one, CALL_COUNTED, O_COUNTCALL))
		return;
	atomic_fetch_sub_explicit(&running_A, RUN, rlx);
	ld(calling[c], O_CALLING);
}

static void unlink_A(int flags)
{
	state_lock();
	in_tree = 0;
	if (BUG != 13)
		set_hull(9, 0, O_SHRINK);
	st(seq_A, 0, rlx);
	if (atomic_exchange_explicit(&open_A, 0, O_DISMISS) & WAITER)
		st(woke, 1, rlx);
	atomic_fetch_add_explicit(&running_A, flags, rlx);
	if (BUG != 8) {
		count_call(X);
		count_call(Y);
	}
	state_unlock();
}

static void remove_A(void)
{
	unlink_A(0);
	__VERIFIER_assume(ld(running_A, O_IDLE) < RUN);
}

static void remove_deferred_A(void)
{
	int self = BUG == 24 ? RUN : REMOVER;

	unlink_A(BUG == 23 ? DEFERRED : DEFERRED + self);
	if (BUG != 23)
		drop_running(self);
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
	if (change_open(c, 4, 5))
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
	pthread_mutex_init(&writer, NULL);
	pthread_mutex_init(&overflow_lock, NULL);
	pthread_mutex_init(&D, NULL);
	atomic_init(&next_seq, inserted ? 3 : 1);
	if (inserted) {
		birth_A = 3;
		in_tree = 1;
	}
	atomic_init(&phase, 0);
	atomic_init(&slot_door, 0);
	atomic_init(&common_door, 0);
	atomic_init(&running_A, 0);
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
	assert(!listed[X] && !listed[Y] && ld(running_A, rlx) < RUN);
	assert(!ld(slot_door, rlx) && !ld(common_door, rlx));
	assert(SCENARIO != 18 || ld(released_A, rlx));
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
#elif SCENARIO == 18 /* removed while two are called: the last one releases */
#undef INSERTED
#define INSERTED 1
THREAD(t1, change(X, 2, 0))
THREAD(t2, remove_deferred_A())
THREAD(t3, change(Y, 3, 0))
#define THREADS 3
#elif SCENARIO == 19 /* held by one insert, over when the next one looks */
THREAD(t1, change_beside(X))
THREAD(t2, insert_A(); remove_A(); insert_A_at(6, 6))
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
