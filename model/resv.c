/* SPDX-License-Identifier: MIT */
/*
 * The protocol of reservation objects for GenMC (model checker for C11), by hand
 * from src/resv/: same names, same order of accesses, two places, two lists.
 *
 *	genmc --rc11 -- -DSCENARIO=1 resv.c
 *
 * SCENARIO picks the threads (bottom of the file).  Each order is a macro, so
 * that one -D weakens it; BUG=n does a step otherwise.  model/run.py runs them all
 * and compares with the verdicts it expects.  Writers have the lock, which is
 * therefore not here: one thread writes.
 *
 * P1  a fence that is found has been made.
 * P2  who is told that the buffer is idle sees what the device wrote.
 * P3  the test is not true while a fence is there that was there when it began.
 * P4  the strict test is not true if there was a pending fence at any moment.
 * P5  a fence in recycled memory is not taken for another.
 * P6  a walk finds a fence that is there from its beginning to its end.
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

#ifndef O_WORDSET /* set_word() */
#define O_WORDSET memory_order_release
#endif
#ifndef O_WORDGET /* load_word() */
#define O_WORDGET memory_order_acquire
#endif
#ifndef O_DROP /* prune() */
#define O_DROP memory_order_release
#endif
#ifndef O_NUMSET /* set_num() */
#define O_NUMSET memory_order_release
#endif
#ifndef O_NUMGET /* load_num() */
#define O_NUMGET memory_order_acquire
#endif
#ifndef O_SEQEND /* end_put() */
#define O_SEQEND memory_order_release
#endif
#ifndef O_SEQGET /* dma_resv_test_signaled_strict() */
#define O_SEQGET memory_order_acquire
#endif
#ifndef O_LOOK /* word_look() */
#define O_LOOK memory_order_acquire
#endif
#ifndef O_SIGNAL /* mark_signaled() */
#define O_SIGNAL memory_order_release
#endif
#ifndef O_PUBLISH /* mmn_rcu_publish() */
#define O_PUBLISH memory_order_release
#endif
#ifndef O_DEREF /* mmn_rcu_dereference() */
#define O_DEREF memory_order_acquire
#endif
#ifndef O_REBIRTH /* fence_init(), flags */
#define O_REBIRTH memory_order_release
#endif
#ifndef O_GET /* dma_fence_get_rcu() */
#define O_GET memory_order_acquire
#endif
#ifndef O_BIRTH /* fence_init(), refcount */
#define O_BIRTH memory_order_release
#endif

#define rlx memory_order_relaxed
#define ld(x, o) atomic_load_explicit(&(x), o)
#define st(x, v, o) atomic_store_explicit(&(x), v, o)

enum { NONE, A, B, C, NR_FENCES, LIFE = 16 };
enum { PLACES = 2 };

/* A word is the number of a fence and, times LIFE, the life that is meant. */
struct list {
	atomic_int num;
	atomic_int table[PLACES];
	/* not atomic: whether it was filled in */
	int made;
};

static struct list lists[2];
static atomic_int list, seq;
static atomic_int signaled[NR_FENCES], life[NR_FENCES], refcount[NR_FENCES];
/* not synchronised by themselves */
static int made[NR_FENCES], data, context[NR_FENCES];

enum state { DONE, PENDING, GONE };

static int fence_of(int word)
{
	return word % LIFE;
}

static struct list *deref(void)
{
	struct list *found = &lists[ld(list, O_DEREF)];

	assert(found->made);
	return found;
}

static enum state look(struct list *from, int i, int word)
{
	int fence = fence_of(word);
	int done;

	assert(made[fence]);
	done = ld(signaled[fence], O_LOOK);
	if (BUG == 7) {
		if (ld(from->table[i], rlx) != word)
			return GONE;
	} else if (BUG != 6 && ld(life[fence], rlx) != word / LIFE) {
		return GONE;
	}
	return done ? DONE : PENDING;
}

static int test(void)
{
	struct list *from = deref();
	int i;

	for (i = 0; i < ld(from->num, O_NUMGET); i++) {
		int word = ld(from->table[i], O_WORDGET);

		if (word && look(from, i, word) != DONE)
			return 0;
	}
	return 1;
}

static int test_strict(void)
{
	int before = ld(seq, O_SEQGET);

	if ((before & 1) && BUG != 3)
		return 0;
	if (!test())
		return 0;
	return BUG == 4 || ld(seq, rlx) == before;
}

/* One step of a walk after the other: each looks at the list that is there. */
static int walk_finds(int fence)
{
	int i, found = 0;

	for (i = 0; i < PLACES; i++) {
		struct list *from = deref();

		if (i < ld(from->num, O_NUMGET) &&
		    fence_of(ld(from->table[i], O_WORDGET)) == fence)
			found = 1;
	}
	return found;
}

static int get_ref(int word)
{
	int fence = fence_of(word);
	int count = ld(refcount[fence], rlx);

	if (!count)
		return 0;
	/* One that fails ends the attempt: what it has read is of no use. */
	if (!atomic_compare_exchange_strong_explicit(&refcount[fence], &count,
						     count + 1, O_GET, rlx))
		return 0;
	return BUG == 6 || ld(life[fence], rlx) == word / LIFE;
}

static void begin_put(void)
{
	if (BUG != 1)
		st(seq, ld(seq, rlx) + (BUG == 2 ? 2 : 1), rlx);
}

static void end_put(void)
{
	if (BUG != 2)
		st(seq, ld(seq, rlx) + (BUG == 1 ? 2 : 1), O_SEQEND);
}

static void make(int fence)
{
	made[fence] = 1;
}

static void set_word(int i, int word)
{
	struct list *own = &lists[ld(list, rlx)];

	begin_put();
	st(own->table[i], word, O_WORDSET);
	if (i >= ld(own->num, rlx))
		st(own->num, i + 1, O_NUMSET);
	end_put();
}

/* A is dropped if it has signalled; @is_last: the list gets shorter. */
static void prune(int is_last)
{
	if (!ld(signaled[A], O_LOOK))
		return;
	st(lists[0].table[0], 0, O_DROP);
	if (is_last)
		st(lists[0].num, 0, O_NUMSET);
}

static void signal_fence(int fence)
{
	st(signaled[fence], 1, O_SIGNAL);
}

/* The list is replaced by one that has the same words, or other ones. */
static void fill(int first, int second)
{
	lists[1].made = 1;
	st(lists[1].table[0], first, rlx);
	st(lists[1].table[1], second, rlx);
	st(lists[1].num, second ? 2 : 1, rlx);
}

static void publish(void)
{
	st(list, 1, O_PUBLISH);
}

static void put_all(int first, int second)
{
	fill(first, second);
	begin_put();
	publish();
	end_put();
}

/* The last reference to A goes, and its memory is a stranger at once. */
static void recycle(void)
{
	if (atomic_fetch_sub_explicit(&refcount[A], 1, memory_order_acq_rel) !=
	    1)
		return;
	st(life[A], 2, rlx);
	context[A] = 20;
	st(signaled[A], SCENARIO == 6, O_REBIRTH);
	st(refcount[A], 1, O_BIRTH);
}

/* What is there at first. */
#if SCENARIO == 1
enum { FIRST = NONE, SECOND = NONE };
#elif SCENARIO == 8
enum { FIRST = NONE, SECOND = A };
#elif SCENARIO == 9
enum { FIRST = C, SECOND = A };
#elif SCENARIO == 10
enum { FIRST = A, SECOND = B };
#else
enum { FIRST = A, SECOND = NONE };
#endif

static void begin(void)
{
	int i;

	for (i = 0; i < NR_FENCES; i++) {
		atomic_init(&signaled[i], 0);
		atomic_init(&life[i], 1);
		atomic_init(&refcount[i], 1);
		context[i] = 10;
	}
	atomic_init(&list, 0);
	atomic_init(&seq, 0);
	lists[0].made = 1;
	atomic_init(&lists[0].num, SECOND ? 2 : 1);
	atomic_init(&lists[0].table[0], FIRST ? FIRST + LIFE : 0);
	atomic_init(&lists[0].table[1], SECOND ? SECOND + LIFE : 0);
	made[FIRST] = 1;
	made[SECOND] = 1;
}

#define THREAD(name, body)           \
	static void *name(void *arg) \
	{                            \
		(void)arg;           \
		body;                \
		return NULL;         \
	}

#define W(fence) ((fence) + LIFE)

#if SCENARIO == 1 /* a fence is made, added and found */
THREAD(t1, make(B); set_word(0, W(B)))
THREAD(t2, test())
#elif SCENARIO == 2  /* the device writes, the fence signals */
THREAD(t1, data = 1; signal_fence(A))
THREAD(t2, if (test()) assert(data))
#elif SCENARIO == 3  /* one takes the place of another, which then signals */
THREAD(t1, make(B); set_word(0, W(B)); signal_fence(A))
THREAD(t2, assert(!test_strict()))
#elif SCENARIO == 4  /* likewise, signalled by a third who has seen that */
THREAD(t1, make(B); set_word(0, W(B)))
THREAD(t2, assert(!test_strict()))
THREAD(t3,
       __VERIFIER_assume(ld(lists[0].table[0], memory_order_acquire) == W(B));
       signal_fence(A))
#elif SCENARIO == 5  /* one is added behind, in a list that has grown */
THREAD(t1, make(B); fill(W(A), 0); publish(); set_word(1, W(B));
       signal_fence(A))
THREAD(t2, assert(!test_strict()))
#elif SCENARIO == 6  /* an old list, and its fence is another that signals */
THREAD(t1, make(B); fill(W(A), 0); publish(); set_word(0, W(B)); recycle())
THREAD(t2, assert(!test()))
#elif SCENARIO == 7  /* a reference to what was in the place */
THREAD(t1, make(B); set_word(0, W(B)); recycle())
THREAD(t2, int word = ld(lists[0].table[0], O_WORDGET);
       if (word == W(A) && get_ref(word)) assert(context[A] == 10))
#elif SCENARIO == 8  /* a later fence of the same timeline, nobody signals */
THREAD(
	t1, make(B); if (BUG == 5) {
		set_word(0, W(B));
		set_word(1, 0);
	} else set_word(1, W(B)))
THREAD(t2, assert(!test()))
#elif SCENARIO == 9  /* a copy that has one fence in common */
THREAD(t1, make(B); if (BUG == 8) put_all(W(A), W(B)); else put_all(W(B), W(A)))
THREAD(t2, assert(walk_finds(A)))
#elif SCENARIO == 10 /* the first one has signalled and leaves */
THREAD(
	t1, signal_fence(A); st(lists[0].table[0], 0, O_DROP); if (BUG == 9) {
		set_word(0, W(B));
		set_word(1, 0);
	})
THREAD(t2, assert(!test()))
#elif SCENARIO == 11 /* one is added behind, the first one signals */
THREAD(t1, make(B); set_word(1, W(B)); signal_fence(A))
THREAD(t2, assert(!test_strict()))
#elif SCENARIO == 12 /* one after the other, never none */
THREAD(t1, make(B); make(C); set_word(1, W(B)); signal_fence(A);
       set_word(0, W(C)); signal_fence(B))
THREAD(t2, assert(!test_strict()))
#elif SCENARIO == 13 /* one has signalled, and a third drops it */
THREAD(t1, data = 1; signal_fence(A))
THREAD(t2, if (test()) assert(data))
THREAD(t3, prune(1))
#elif SCENARIO == 14 /* likewise, and the list stays as long */
THREAD(t1, data = 1; signal_fence(A))
THREAD(t2, if (test()) assert(data))
THREAD(t3, prune(0))
#endif

int main(void)
{
	pthread_t a, b, c;

	begin();
	pthread_create(&a, NULL, t1, NULL);
	pthread_create(&b, NULL, t2, NULL);
#if SCENARIO == 4 || SCENARIO >= 13
	pthread_create(&c, NULL, t3, NULL);
	pthread_join(c, NULL);
#endif
	(void)c;
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	return 0;
}
