/* SPDX-License-Identifier: MIT */
#include "ladder-seeded.h"

#include <stdatomic.h>

#include "base/lock.h"
#include "base/rcu.h"
#include "base/wait.h"
#include "ladder/scenario.h"

static atomic_int x, y;
static int plain;
static struct mmn_mutex a, b;
static uint32_t word;
static int *_Atomic pointer;

static void clear(void)
{
	atomic_init(&x, 0);
	atomic_init(&y, 0);
	plain = 0;
	word = 0;
	atomic_init(&pointer, NULL);
	mmn_mutex_init(&a, MMN_RANK_LEAF);
	mmn_mutex_init(&b, MMN_RANK_LEAF);
	ladder_name(&x, "x");
	ladder_name(&y, "y");
	ladder_name(&plain, "plain");
	ladder_name(&a, "lock a");
	ladder_name(&b, "lock b");
	ladder_name(&word, "word");
	ladder_name(&pointer, "pointer");
}

/* ---- data races ---- */

static void increment(void)
{
	plain++;
}

static void increment_locked(void)
{
	mmn_mutex_lock(&a);
	plain++;
	mmn_mutex_unlock(&a);
}

static void two_counted(void)
{
	ladder_assert(plain == 2);
}

static void publish_relaxed(void)
{
	plain = 1;
	atomic_store_explicit(&x, 1, memory_order_relaxed);
}

static void publish(void)
{
	plain = 1;
	atomic_store_explicit(&x, 1, memory_order_release);
}

static void receive(void)
{
	if (atomic_load_explicit(&x, memory_order_acquire))
		ladder_assert(plain == 1);
}

/* A word that is atomic most of the time, made new by its owner. */
static void reuse(void)
{
	atomic_store_explicit(&x, 1, memory_order_relaxed);
	*(volatile int *)&x = 2;
	atomic_fetch_add_explicit(&x, 1, memory_order_release);
}

static void see_reuse(void)
{
	if (atomic_load_explicit(&y, memory_order_acquire))
		ladder_assert(atomic_load(&x) == 3);
}

static void reuse_and_tell(void)
{
	reuse();
	atomic_store_explicit(&y, 1, memory_order_release);
}

static void look_at_reuse(void)
{
	atomic_load_explicit(&x, memory_order_acquire);
}

/* ---- assertions ---- */

static int seen_x, seen_y;

static void store_x_load_y(void)
{
	atomic_store_explicit(&x, 1, memory_order_release);
	seen_y = atomic_load_explicit(&y, memory_order_acquire);
}

static void store_y_load_x(void)
{
	atomic_store_explicit(&y, 1, memory_order_release);
	seen_x = atomic_load_explicit(&x, memory_order_acquire);
}

static void one_saw(void)
{
	ladder_assert(seen_x || seen_y);
}

static void add_one(void)
{
	atomic_fetch_add_explicit(&x, 1, memory_order_relaxed);
}

static void store_x(void)
{
	atomic_store_explicit(&x, 1, memory_order_relaxed);
}

static void load_x(void)
{
	atomic_load_explicit(&x, memory_order_relaxed);
}

static void choose_of_three(void)
{
	ladder_assert(ladder_choose(3) != 2);
}

static void choose_twice(void)
{
	ladder_choose(3);
	ladder_choose(2);
}

/* ---- locks ---- */

static void a_then_b(void)
{
	mmn_mutex_lock(&a);
	mmn_mutex_lock(&b);
	mmn_mutex_unlock(&b);
	mmn_mutex_unlock(&a);
}

static void b_then_a(void)
{
	mmn_mutex_lock(&b);
	mmn_mutex_lock(&a);
	mmn_mutex_unlock(&a);
	mmn_mutex_unlock(&b);
}

static void a_twice(void) MMN_NO_LOCK_ANALYSIS
{
	mmn_mutex_lock(&a);
	mmn_mutex_lock(&a);
}

static void try_a(void)
{
	if (!mmn_mutex_trylock(&a))
		return;
	plain++;
	mmn_mutex_unlock(&a);
}

/* ---- waits ---- */

static void sleep_until_set(void)
{
	uint32_t seen;

	while (!(seen = __atomic_load_n(&word, __ATOMIC_ACQUIRE)))
		mmn_wait_on(&word, seen, NULL);
	ladder_assert(plain == 1);
}

static void set_and_wake(void)
{
	plain = 1;
	__atomic_store_n(&word, 1, __ATOMIC_RELEASE);
	mmn_wake(&word, 1);
}

static void set_and_forget(void)
{
	plain = 1;
	__atomic_store_n(&word, 1, __ATOMIC_RELEASE);
}

static void wake_and_set(void)
{
	plain = 1;
	mmn_wake(&word, 1);
	__atomic_store_n(&word, 1, __ATOMIC_RELEASE);
}

/* The waiter announces itself in one word and looks at another. */
static void announce_and_sleep(void)
{
	atomic_store_explicit(&x, 1, memory_order_release);
	if (!atomic_load_explicit(&y, memory_order_acquire))
		mmn_wait_on(&word, 0, NULL);
}

static void store_and_look(void)
{
	atomic_store_explicit(&y, 1, memory_order_release);
	if (!atomic_load_explicit(&x, memory_order_acquire))
		return;
	__atomic_store_n(&word, 1, __ATOMIC_RELEASE);
	mmn_wake(&word, 1);
}

static void announce_and_sleep_sc(void)
{
	atomic_store(&x, 1);
	if (!atomic_load(&y))
		mmn_wait_on(&word, 0, NULL);
}

static void store_and_look_sc(void)
{
	atomic_store(&y, 1);
	if (!atomic_load(&x))
		return;
	__atomic_store_n(&word, 1, __ATOMIC_RELEASE);
	mmn_wake(&word, 1);
}

static void sleep_with_deadline(void)
{
	struct timespec deadline = { 0 };

	mmn_wait_on(&word, 0, &deadline);
}

static void spin_until_set(void)
{
	while (!atomic_load_explicit(&x, memory_order_acquire))
		mmn_cpu_relax();
	ladder_assert(plain == 1);
}

static void never_ends(void)
{
	for (;;)
		atomic_fetch_add(&x, 1);
}

/* ---- the heap ---- */

static void make_object(void)
{
	int *object = calloc(1, sizeof(*object));

	atomic_store_explicit(&pointer, object, memory_order_release);
}

static void clear_and_make(void)
{
	clear();
	make_object();
}

static void use_object(void)
{
	int *object = atomic_load_explicit(&pointer, memory_order_acquire);

	if (object)
		ladder_assert(*object == 0);
}

static void drop_object(void)
{
	int *object = atomic_exchange(&pointer, NULL);

	free(object);
}

static void free_twice(void)
{
	void *p = malloc(8);

	free(p);
	free(p);
}

static void use_own_after_free(void)
{
	volatile char *p = malloc(8);

	free((void *)p);
	*p = 1;
}

static void write_behind_the_end(void)
{
	volatile char *p = malloc(8);

	p[8] = 1;
}

static void free_what_was_not_allocated(void)
{
	free(&plain);
}

/* Who takes it frees it. */
static void take_and_free(void)
{
	int *object = atomic_exchange(&pointer, NULL);

	if (!object)
		return;
	(*object)++;
	free(object);
}

/* ---- grace periods ---- */

struct shared {
	struct mmn_rcu_head rcu;
	int value;
};

static struct shared *shared;

static void make_shared(void)
{
	clear();
	shared = calloc(1, sizeof(*shared));
	ladder_name(&shared, "shared");
}

static void read_in_section(void)
{
	struct shared *p;

	mmn_rcu_read_lock();
	p = mmn_rcu_dereference(shared);
	ladder_assert(!p || !p->value);
	mmn_rcu_read_unlock();
}

static void read_behind_section(void)
{
	struct shared *p;

	mmn_rcu_read_lock();
	p = mmn_rcu_dereference(shared);
	mmn_rcu_read_unlock();
	ladder_assert(!p || !p->value);
}

static struct shared *unpublish(void)
{
	struct shared *p = shared;

	mmn_rcu_publish(shared, NULL);
	return p;
}

static void free_after_grace(void)
{
	struct shared *p = unpublish();

	mmn_rcu_synchronize();
	free(p);
}

static void free_at_once(void)
{
	free(unpublish());
}

static void free_before_unpublishing(void)
{
	struct shared *p = shared;

	mmn_rcu_synchronize();
	unpublish();
	free(p);
}

static void free_shared(struct mmn_rcu_head *head)
{
	free(head);
}

static void free_deferred(void)
{
	mmn_rcu_defer(&unpublish()->rcu, free_shared);
}

static void use_deferred(void)
{
	struct shared *p = unpublish();

	mmn_rcu_defer(&p->rcu, free_shared);
	ladder_assert(!p->value);
}

static void synchronize_in_section(void)
{
	mmn_rcu_read_lock();
	mmn_rcu_synchronize();
	mmn_rcu_read_unlock();
}

static void read_twice_and_wait(void)
{
	read_in_section();
	mmn_rcu_synchronize();
	read_in_section();
}

/* ---- runs leave nothing behind ---- */

int seeded_trace_of_runs = 7;

static void change_everything(void)
{
	ladder_assert(seeded_trace_of_runs == 7);
	seeded_trace_of_runs++;
	add_one();
}

#define THREADS(...)        \
	{                   \
		__VA_ARGS__ \
	}
#define PROGRAM(text, wrong, nr, after, ...)                   \
	{                                                      \
		.scenario = { .name = (text),                  \
			      .what = (text),                  \
			      .setup = clear,                  \
			      .threads = THREADS(__VA_ARGS__), \
			      .check = (after) },              \
		.failure = (wrong), .executions = (nr),        \
	}

const struct seeded seeded_programs[] = {
	PROGRAM("plain counter", LADDER_RACE, 0, NULL, increment, increment),
	PROGRAM("locked counter", LADDER_NONE, 2, two_counted, increment_locked,
		increment_locked),
	PROGRAM("relaxed publication", LADDER_RACE, 0, NULL, publish_relaxed,
		receive),
	PROGRAM("release publication", LADDER_NONE, 2, NULL, publish, receive),
	PROGRAM("plain store to an atomic word", LADDER_NONE, 0, NULL,
		reuse_and_tell, see_reuse),
	PROGRAM("plain store beside an atomic load", LADDER_RACE, 0, NULL,
		reuse, look_at_reuse),
	PROGRAM("store buffering", LADDER_ASSERTION, 0, one_saw, store_x_load_y,
		store_y_load_x),
	/* Known numbers: n! orders of n RMWs, 2^n of n readers. */
	PROGRAM("3 adders", LADDER_NONE, 6, NULL, add_one, add_one, add_one),
	PROGRAM("5 adders", LADDER_NONE, 120, NULL, add_one, add_one, add_one,
		add_one, add_one),
	PROGRAM("3 writers", LADDER_NONE, 6, NULL, store_x, store_x, store_x),
	PROGRAM("5 readers", LADDER_NONE, 32, NULL, store_x, load_x, load_x,
		load_x, load_x, load_x),
	PROGRAM("wrong choice", LADDER_ASSERTION, 0, NULL, choose_of_three),
	PROGRAM("choices", LADDER_NONE, 36, NULL, choose_twice, choose_twice),
	PROGRAM("lock order", LADDER_DEADLOCK, 0, NULL, a_then_b, b_then_a),
	PROGRAM("same lock order", LADDER_NONE, 2, NULL, a_then_b, a_then_b),
	PROGRAM("lock taken twice", LADDER_DEADLOCK, 0, NULL, a_twice),
	PROGRAM("try lock", LADDER_NONE, 0, NULL, try_a, try_a),
	PROGRAM("wake-up", LADDER_NONE, 0, NULL, sleep_until_set, set_and_wake),
	PROGRAM("forgotten wake-up", LADDER_LOST_WAKEUP, 0, NULL,
		sleep_until_set, set_and_forget),
	PROGRAM("wake-up before the store", LADDER_LOST_WAKEUP, 0, NULL,
		sleep_until_set, wake_and_set),
	PROGRAM("announced too weakly", LADDER_LOST_WAKEUP, 0, NULL,
		announce_and_sleep, store_and_look),
	PROGRAM("announced", LADDER_NONE, 0, NULL, announce_and_sleep_sc,
		store_and_look_sc),
	PROGRAM("deadline", LADDER_NONE, 0, NULL, sleep_with_deadline),
	PROGRAM("spinning", LADDER_NONE, 1, NULL, spin_until_set, publish),
	PROGRAM("spinning for ever", LADDER_DEADLOCK, 0, NULL, spin_until_set),
	PROGRAM("taken once", LADDER_NONE, 0, NULL, make_object, take_and_free,
		take_and_free),
	PROGRAM("freed twice", LADDER_BAD_FREE, 0, NULL, free_twice),
	PROGRAM("freed without need", LADDER_BAD_FREE, 0, NULL,
		free_what_was_not_allocated),
	PROGRAM("own use after free", LADDER_USE_AFTER_FREE, 0, NULL,
		use_own_after_free),
	PROGRAM("out of bounds", LADDER_USE_AFTER_FREE, 0, NULL,
		write_behind_the_end),
	{ .scenario = { .name = "use after free",
			.what = "a reader without a reference",
			.setup = clear_and_make,
			.threads = { use_object, drop_object } },
	  .failure = LADDER_USE_AFTER_FREE },
#define SHARED(text, wrong, ...)                                 \
	{                                                        \
		.scenario = { .name = (text),                    \
			      .what = (text),                    \
			      .setup = make_shared,              \
			      .threads = THREADS(__VA_ARGS__) }, \
		.failure = (wrong),                              \
	}
	SHARED("grace period", LADDER_NONE, read_in_section, free_after_grace),
	SHARED("grace period for two", LADDER_NONE, read_in_section,
	       read_in_section, free_after_grace),
	SHARED("grace periods that overlap", LADDER_NONE, read_twice_and_wait,
	       free_after_grace),
	SHARED("no grace period", LADDER_USE_AFTER_FREE, read_in_section,
	       free_at_once),
	SHARED("grace period too early", LADDER_USE_AFTER_FREE, read_in_section,
	       free_before_unpublishing),
	SHARED("use behind the section", LADDER_USE_AFTER_FREE,
	       read_behind_section, free_after_grace),
	SHARED("deferred", LADDER_NONE, read_in_section, free_deferred,
	       ladder_call_deferred),
	SHARED("deferred, used behind the section", LADDER_USE_AFTER_FREE,
	       read_behind_section, free_deferred, ladder_call_deferred),
	SHARED("deferred and used", LADDER_USE_AFTER_FREE, use_deferred,
	       ladder_call_deferred),
	SHARED("grace period in a section", LADDER_DEADLOCK,
	       synchronize_in_section),
	PROGRAM("undone", LADDER_NONE, 2, NULL, change_everything, add_one),
	PROGRAM("endless", LADDER_NONE, 0, NULL, never_ends),
	{ .scenario = { .name = NULL } },
};
