/* SPDX-License-Identifier: MIT */
/*
 * The hall of src/notifier/hall.c with a signal handler, for GenMC: one reader
 * with a door of its own, a handler of its thread that becomes a reader itself
 * at one point of the way (HANDLER), and one writer.
 *
 *	genmc --rc11 -- -DSCENARIO=1 hall.c
 *
 * P1  what a reader reads inside belongs together.
 * P2  a handler does not wait for a writer that waits for its own thread.
 * P3  in the end nobody is inside.
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
#ifndef O_RAISE /* raise_door() */
#define O_RAISE memory_order_seq_cst
#endif
#ifndef O_PHASE /* hall_phase() */
#define O_PHASE memory_order_seq_cst
#endif
#ifndef O_CLOSE /* hall_close() */
#define O_CLOSE memory_order_seq_cst
#endif
#ifndef O_AWAIT /* hall_await_door() */
#define O_AWAIT memory_order_seq_cst
#endif
#ifndef O_LOWER /* hall_lower_own() */
#define O_LOWER memory_order_release
#endif
#ifndef O_OPEN /* hall_open() */
#define O_OPEN memory_order_release
#endif

#define rlx memory_order_relaxed
#define ld(x, o) atomic_load_explicit(&(x), o)
#define st(x, v, o) atomic_store_explicit(&(x), v, o)

struct pass {
	int is_inside, is_undone;
	/* a sleeping writer is to be woken, by who has lowered the door */
	int owes_wake;
};

static pthread_mutex_t mutex;
static atomic_int phase, door[2];
/* in a door, beside 1: a writer sleeps */
#define MARK 2
/* under the hall */
static int left, right;
/* own thread and its handler */
static struct pass pass[2];

static void handler(int point);

static void lower(int i)
{
	if (!(atomic_exchange_explicit(&door[i], 0, O_LOWER) & MARK))
		return;
	pass[i].owes_wake = 1;
	if (!i)
		handler(10);
	pass[i].owes_wake = 0;
}

/* Only the handler, 1, has an outer one. */
static int is_nested(int i)
{
	if (!i)
		return 0;
	if (pass[0].is_inside && !pass[0].is_undone)
		return 1;
	if (BUG == 1)
		return 1;
	if (BUG != 2) {
		pass[0].is_undone = 1;
		lower(0);
		if (BUG != 5)
			pass[0].owes_wake = 0;
	}
	return 0;
}

static int try_enter(int i)
{
	for (int n = 0; n < 2; n++) {
		if (!i)
			handler(1);
		st(door[i], 1, O_RAISE);
		if (!i)
			handler(2);
		if ((ld(phase, O_PHASE) & 1) && !is_nested(i)) {
			if (!i)
				handler(3);
			lower(i);
			return 0;
		}
		if (!i)
			handler(4);
		pass[i].is_inside = 1;
		if (!i)
			handler(5);
		if (BUG == 3 || !pass[i].is_undone)
			return 1;
		pass[i].is_inside = 0;
		pass[i].is_undone = 0;
		/* It may be raised after all, and marked by a writer. */
		lower(i);
	}
	__VERIFIER_assume(0);
	return 0;
}

static void enter(int i)
{
	if (try_enter(i))
		return;
	/* Where it would sleep, its thread keeps no writer waiting. */
	assert(!i || (!ld(door[0], rlx) && !pass[0].owes_wake));
	__VERIFIER_assume(try_enter(i));
}

static void leave(int i)
{
	if (BUG != 4)
		pass[i].is_inside = 0;
	if (!i)
		handler(8);
	lower(i);
	if (!i)
		handler(9);
}

static void visit(int i)
{
	int seen;

	pass[i].is_inside = 0;
	pass[i].is_undone = 0;
	pass[i].owes_wake = 0;
	enter(i);
	if (!i)
		handler(6);
	seen = left;
	if (!i)
		handler(7);
	assert(seen == right);
	leave(i);
}

/* One signal; its handler runs between two steps of the reader. */
static int handled;

static void handler(int point)
{
	if (point != SCENARIO || handled)
		return;
	handled = 1;
	visit(1);
}

static void *reader(void *arg)
{
	(void)arg;
	visit(0);
	return NULL;
}

/* It sleeps until it is woken: P2 sees to that. */
static void await_door(int i)
{
	int inside = ld(door[i], O_AWAIT);

	if (!inside)
		return;
	atomic_compare_exchange_strong_explicit(&door[i], &inside,
						inside | MARK, rlx, rlx);
	__VERIFIER_assume(!ld(door[i], memory_order_acquire));
}

static void *write_both(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&mutex);
	st(phase, ld(phase, rlx) + 1, O_CLOSE);
	await_door(0);
	await_door(1);
	left++;
	right++;
	st(phase, ld(phase, rlx) + 1, O_OPEN);
	pthread_mutex_unlock(&mutex);
	return NULL;
}

int main(void)
{
	pthread_t a, b, c;

	pthread_mutex_init(&mutex, NULL);
	atomic_init(&phase, 0);
	atomic_init(&door[0], 0);
	atomic_init(&door[1], 0);
	pthread_create(&a, NULL, reader, NULL);
	pthread_create(&b, NULL, write_both, NULL);
	pthread_create(&c, NULL, write_both, NULL);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	pthread_join(c, NULL);
	assert(!ld(door[0], rlx) && !ld(door[1], rlx));
	assert(left == 2 && right == 2);
	return 0;
}
