/* SPDX-License-Identifier: MIT */
/*
 * The opponent of the benchmarks keeps the kernel's contract, and has the
 * kernel's waits: otherwise it would prove nothing.
 */
#include "../bench/kernel-style.h"

#include <pthread.h>
#include <sched.h>

#include "base/atomic.h"
#include "t/tap.h"

struct driver {
	struct kernel_style_sub sub;
	pthread_mutex_t lock;
	unsigned int calls;
	uint64_t entry; /* what was read from the page, 0 for nothing */
	bool refuse;
};

static struct kernel_style state;

static bool tear_down(struct kernel_style_sub *sub,
		      const struct kernel_style_desc *desc, uint64_t cur_seq)
{
	struct driver *driver = (struct driver *)sub;

	if (driver->refuse)
		return false;
	pthread_mutex_lock(&driver->lock);
	kernel_style_set_seq(sub, cur_seq);
	driver->calls++;
	driver->entry = 0;
	pthread_mutex_unlock(&driver->lock);
	return true;
}

static struct driver a = { .lock = PTHREAD_MUTEX_INITIALIZER };
static struct driver b = { .lock = PTHREAD_MUTEX_INITIALIZER };
static const struct kernel_style_desc over_a = { 100, 199, true };
static const struct kernel_style_desc over_b = { 300, 399, true };
static const struct kernel_style_desc over_none = { 200, 299, true };

static void begin(void)
{
	kernel_style_init(&state);
	kernel_style_insert(&state, &a.sub, 100, 199, tear_down);
	kernel_style_insert(&state, &b.sub, 300, 399, tear_down);
}

static void finish(void)
{
	kernel_style_remove(&state, &a.sub);
	kernel_style_remove(&state, &b.sub);
	t_ok(itree_is_empty(&state.tree));
	kernel_style_destroy(&state);
}

TEST(changes_call_those_that_they_overlap)
{
	uint64_t seq;

	begin();
	seq = kernel_style_read_begin(&state, &a.sub);
	t_ok(seq & 1);
	t_ok(kernel_style_start(&state, &over_none));
	kernel_style_end(&state, &over_none);
	t_ok(kernel_style_start(&state, &over_b));
	kernel_style_end(&state, &over_b);
	t_eq(a.calls, 0);
	t_eq(b.calls, 1);
	t_ok(!kernel_style_read_retry(&a.sub, seq));
	t_ok(kernel_style_start(&state, &over_a));
	kernel_style_end(&state, &over_a);
	t_ok(kernel_style_read_retry(&a.sub, seq));
	finish();
}

TEST(a_refused_change_is_closed)
{
	struct kernel_style_desc desc = over_a;

	begin();
	desc.blockable = false;
	a.refuse = true;
	t_ok(!kernel_style_start(&state, &desc));
	t_eq(state.open, 0);
	t_ok(!(state.seq & 1));
	finish();
}

TEST(inserts_and_removes_are_put_off_while_a_change_that_hit_is_open)
{
	struct driver late = { .lock = PTHREAD_MUTEX_INITIALIZER };

	begin();
	t_ok(kernel_style_start(&state, &over_a));
	kernel_style_insert(&state, &late.sub, 500, 599, tear_down);
	t_ok(!late.sub.in_tree && late.sub.is_deferred);
	kernel_style_remove(&state, &late.sub);
	t_ok(!late.sub.is_deferred);
	kernel_style_insert(&state, &late.sub, 500, 599, tear_down);
	kernel_style_end(&state, &over_a);
	t_ok(late.sub.in_tree && !late.sub.is_deferred);
	kernel_style_remove(&state, &late.sub);
	t_ok(!late.sub.in_tree);
	finish();
}

TEST(an_insert_while_nobody_is_hit_holds_its_reader_up)
{
	struct driver late = { .lock = PTHREAD_MUTEX_INITIALIZER };

	begin();
	t_ok(kernel_style_start(&state, &over_none));
	kernel_style_insert(&state, &late.sub, 500, 599, tear_down);
	t_ok(late.sub.in_tree);
	t_eq(late.sub.seq, state.seq);
	kernel_style_end(&state, &over_none);
	t_ok(kernel_style_read_begin(&state, &late.sub) & 1);
	kernel_style_remove(&state, &late.sub);
	finish();
}

struct reader {
	bool has_begun;
	uint64_t open; /* changes, when it came back */
};

static void *read_a(void *arg)
{
	struct reader *reader = arg;

	/* relaxed: a hint */
	mmn_store_relaxed(&reader->has_begun, true);
	kernel_style_read_begin(&state, &a.sub);
	pthread_mutex_lock(&state.lock);
	reader->open = state.open;
	pthread_mutex_unlock(&state.lock);
	return NULL;
}

TEST(a_reader_that_was_hit_waits_for_unrelated_changes)
{
	struct reader reader = { .open = 1 };
	pthread_t thread;
	int i;

	begin();
	t_ok(kernel_style_start(&state, &over_b));
	t_ok(kernel_style_start(&state, &over_a));
	kernel_style_end(&state, &over_a);
	t_eq(a.sub.seq, state.seq);
	t_eq(pthread_create(&thread, NULL, read_a, &reader), 0);
	/* relaxed: a hint; a reader that does not wait gets the time to. */
	while (!mmn_load_relaxed(&reader.has_begun))
		sched_yield();
	for (i = 0; i < 1000; i++)
		sched_yield();
	kernel_style_end(&state, &over_b);
	pthread_join(thread, NULL);
	t_eq(reader.open, 0);
	finish();
}

struct counter {
	struct kernel_style_classic classic;
	unsigned int starts;
	unsigned int ends;
};

static void count_start(struct kernel_style_classic *classic,
			const struct kernel_style_desc *desc)
{
	((struct counter *)classic)->starts++;
}

static void count_end(struct kernel_style_classic *classic,
		      const struct kernel_style_desc *desc)
{
	((struct counter *)classic)->ends++;
}

TEST(classic_subscribers_are_called_whatever_the_range)
{
	struct counter one = { .classic = { count_start, count_end, NULL } };
	struct counter two = { .classic = { count_start, NULL, NULL } };

	begin();
	kernel_style_register(&state, &one.classic);
	kernel_style_register(&state, &two.classic);
	t_ok(kernel_style_start(&state, &over_none));
	kernel_style_end(&state, &over_none);
	kernel_style_unregister(&state, &one.classic);
	t_ok(kernel_style_start(&state, &over_a));
	kernel_style_end(&state, &over_a);
	kernel_style_unregister(&state, &two.classic);
	t_eq(one.starts, 1);
	t_eq(one.ends, 1);
	t_eq(two.starts, 2);
	finish();
}

static uint64_t page = 1;
static bool stop;

static void *keep_installing(void *arg)
{
	/* relaxed: a flag */
	while (!mmn_load_relaxed(&stop)) {
		uint64_t seq = kernel_style_read_begin(&state, &a.sub);
		/* relaxed: optimistic, read_retry() tells */
		uint64_t word = mmn_load_relaxed(&page);

		pthread_mutex_lock(&a.lock);
		if (!kernel_style_read_retry(&a.sub, seq))
			a.entry = word;
		pthread_mutex_unlock(&a.lock);
	}
	return NULL;
}

TEST(no_stale_entry_survives_a_change)
{
	pthread_t thread;
	int i;

	begin();
	t_eq(pthread_create(&thread, NULL, keep_installing, NULL), 0);
	for (i = 0; i < 5000; i++) {
		t_ok(kernel_style_start(&state, &over_a));
		pthread_mutex_lock(&a.lock);
		t_eq(a.entry, 0);
		pthread_mutex_unlock(&a.lock);
		/* relaxed: read optimistically */
		mmn_store_relaxed(&page, page + 1);
		kernel_style_end(&state, &over_a);
	}
	/* relaxed: a flag */
	mmn_store_relaxed(&stop, true);
	pthread_join(thread, NULL);
	t_ok(!a.entry || a.entry == page);
	finish();
}
