/* SPDX-License-Identifier: MIT */
/*
 * Arrays, chains, and what is inside of them.  The numbers in comments are those
 * of the conformance cases.
 */
#include "t/tap.h"

#include <mmn/dma-fence-array.h>
#include <mmn/dma-fence-chain.h>
#include <mmn/dma-fence-unwrap.h>
#include <mmn/inject.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

static const char *name(struct dma_fence *fence)
{
	return "test";
}

static unsigned int nr_released;

static void release(struct dma_fence *fence)
{
	__atomic_fetch_add(&nr_released, 1, __ATOMIC_SEQ_CST);
	dma_fence_free(fence);
}

static int64_t last_deadline;

static void note_deadline(struct dma_fence *fence, int64_t at)
{
	last_deadline = at;
}

static const struct dma_fence_ops ops = {
	.get_driver_name = name,
	.get_timeline_name = name,
	.release = release,
	.set_deadline = note_deadline,
};

static struct dma_fence *make(uint64_t context, uint64_t seqno)
{
	struct dma_fence *fence = malloc(sizeof(*fence));

	dma_fence_init(fence, &ops, NULL, context, seqno);
	return fence;
}

static void begin(void)
{
	t_may_keep_mapped(64 << 20, "the thread that frees stays");
}

/* Everything made has gone. */
static void end(unsigned int nr_made)
{
	t_eq(nr_released, nr_made);
	dma_fence_barrier();
}

static unsigned int nr_calls;

static void count(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	__atomic_fetch_add(&nr_calls, 1, __ATOMIC_SEQ_CST);
}

/* An array of n new fences; the caller gets a reference to each as well. */
static struct dma_fence *make_array(struct dma_fence **members, int n, bool any)
{
	struct dma_fence **vector = calloc((size_t)n, sizeof(*vector));
	int i;

	for (i = 0; i < n; i++) {
		members[i] = make(10 + (uint64_t)i, 1);
		vector[i] = dma_fence_get(members[i]);
	}
	return &dma_fence_array_create(n, vector, 99, 1, any)->base;
}

static void put_all(struct dma_fence **fences, int n)
{
	int i;

	for (i = 0; i < n; i++)
		dma_fence_put(fences[i]);
}

/* 48, 55, 54 */
TEST(an_array_signals_after_its_last_member)
{
	struct dma_fence *m[3], *array, *each;
	unsigned int i, enabled;

	begin();
	for (enabled = 0; enabled < 2; enabled++) {
		array = make_array(m, 3, false);
		if (enabled)
			dma_fence_enable_sw_signaling(array);
		t_ok(dma_fence_is_array(array));
		t_ok(dma_fence_is_container(array));
		t_ok(!dma_fence_is_array(m[0]));
		t_ok(!dma_fence_is_container(NULL));
		dma_fence_array_for_each(each, i, array) t_ok(each == m[i]);
		t_eq(i, 3);
		dma_fence_array_for_each(each, i, m[0]) t_ok(each == m[0]);
		t_eq(i, 1);
		dma_fence_set_deadline(array, 5 + enabled);
		t_eq(last_deadline, 5 + enabled);
		t_ok(!dma_fence_match_context(array, 10));
		t_ok(dma_fence_match_context(m[0], 10));
		dma_fence_signal(m[2]);
		t_ok(!dma_fence_is_signaled(array));
		dma_fence_signal(m[0]);
		t_ok(!dma_fence_is_signaled(array));
		dma_fence_signal(m[1]);
		t_eq(dma_fence_test_signaled_flag(array), enabled);
		t_ok(dma_fence_is_signaled(array));
		t_eq(dma_fence_get_status(array), 1);
		put_all(m, 3);
		dma_fence_put(array);
	}
	end(6);
}

TEST(an_array_of_one_timeline_matches_it)
{
	struct dma_fence **vector = calloc(2, sizeof(*vector));
	struct dma_fence_array *array;

	begin();
	vector[0] = make(7, 1);
	vector[1] = make(7, 2);
	array = dma_fence_array_create(2, vector, 8, 1, false);
	t_ok(dma_fence_match_context(&array->base, 7));
	t_ok(!dma_fence_match_context(&array->base, 8));
	t_ok(to_dma_fence_array(&array->base) == array);
	t_ok(!to_dma_fence_array(vector[0]));
	dma_fence_put(&array->base);
	end(2);
}

/* 49, 50 */
TEST(members_that_have_signalled_count)
{
	struct dma_fence *m[2], *array;
	struct dma_fence_cb cb;

	begin();
	array = make_array(m, 2, false);
	dma_fence_signal(m[0]);
	nr_calls = 0;
	t_err(dma_fence_add_callback(array, &cb, count), 0);
	dma_fence_signal(m[1]);
	t_eq(nr_calls, 1);
	put_all(m, 2);
	dma_fence_put(array);
	array = make_array(m, 2, false);
	dma_fence_signal(m[0]);
	dma_fence_signal(m[1]);
	t_err(dma_fence_add_callback(array, &cb, count), -ENOENT);
	t_eq(nr_calls, 1);
	t_eq(dma_fence_get_status(array), 1);
	put_all(m, 2);
	dma_fence_put(array);
	end(4);
}

/* 51 */
TEST(an_array_fails_as_its_first_member_did)
{
	struct dma_fence *m[3], *array;
	int enabled;

	begin();
	for (enabled = 0; enabled < 2; enabled++) {
		array = make_array(m, 3, false);
		if (enabled)
			dma_fence_enable_sw_signaling(array);
		dma_fence_set_error(m[0], -EINVAL);
		dma_fence_set_error(m[2], -EIO);
		dma_fence_signal_timestamp(m[2], 100);
		t_eq(dma_fence_get_status(array), 0);
		dma_fence_signal_timestamp(m[0], 200);
		dma_fence_signal_timestamp(m[1], 300);
		t_err(dma_fence_get_status(array), -EIO);
		put_all(m, 3);
		dma_fence_put(array);
	}
	end(6);
}

TEST(any_member_may_be_enough)
{
	struct dma_fence *m[3], *array;
	int enabled;

	begin();
	for (enabled = 0; enabled < 2; enabled++) {
		array = make_array(m, 3, true);
		if (enabled)
			dma_fence_enable_sw_signaling(array);
		t_ok(!dma_fence_is_signaled(array));
		dma_fence_signal(m[1]);
		t_ok(dma_fence_is_signaled(array));
		dma_fence_put(array);
		dma_fence_signal(m[0]);
		dma_fence_signal(m[2]);
		put_all(m, 3);
	}
	array = make_array(m, 3, true);
	dma_fence_signal(m[0]);
	dma_fence_signal(m[2]);
	dma_fence_enable_sw_signaling(array);
	t_ok(dma_fence_test_signaled_flag(array));
	dma_fence_put(array);
	dma_fence_signal(m[1]);
	put_all(m, 3);
	end(9);
}

TEST(what_fails_after_the_array_does_not_change_it)
{
	struct dma_fence *m[2], *array;
	int enabled;

	begin();
	for (enabled = 0; enabled < 2; enabled++) {
		array = make_array(m, 2, true);
		if (enabled)
			dma_fence_enable_sw_signaling(array);
		dma_fence_signal(m[0]);
		t_eq(dma_fence_get_status(array), 1);
		t_eq(array->error, 0);
		dma_fence_set_error(m[1], -EIO);
		dma_fence_signal(m[1]);
		t_eq(dma_fence_get_status(array), 1);
		put_all(m, 2);
		dma_fence_put(array);
	}
	end(4);
}

static void *fail(void *arg)
{
	struct dma_fence *member = arg;

	dma_fence_set_error(member, -EIO);
	dma_fence_signal(member);
	return NULL;
}

TEST(an_array_has_one_status_while_members_fail)
{
	struct dma_fence *m[3], *array;
	pthread_t threads[2];
	unsigned int round;
	int i, status;

	begin();
	for (round = 0; round < 100; round++) {
		array = make_array(m, 3, true);
		dma_fence_enable_sw_signaling(array);
		for (i = 0; i < 2; i++)
			pthread_create(&threads[i], NULL, fail, m[i]);
		dma_fence_signal(m[2]);
		t_eq(dma_fence_wait(array, false), 0);
		status = dma_fence_get_status(array);
		t_ok(status == 1 || status == -EIO);
		for (i = 0; i < 2; i++)
			pthread_join(threads[i], NULL);
		t_eq(dma_fence_get_status(array), status);
		put_all(m, 3);
		dma_fence_put(array);
	}
	end(300);
}

/* 52 */
TEST(an_array_lives_until_its_members_are_done)
{
	struct dma_fence *m[2], *array;

	begin();
	array = make_array(m, 2, false);
	dma_fence_enable_sw_signaling(array);
	dma_fence_put(array);
	dma_fence_signal(m[0]);
	dma_fence_barrier();
	t_eq(array->seqno, 1);
	dma_fence_signal(m[1]);
	put_all(m, 2);
	end(2);
	/* Not enabled: it goes at once, and takes its references along. */
	array = make_array(m, 2, false);
	dma_fence_put(array);
	put_all(m, 2);
	end(4);
}

/* 53 */
TEST(containers_are_not_nested)
{
	struct dma_fence *m[1], **vector = calloc(1, sizeof(*vector));
	struct dma_fence_chain *inner = dma_fence_chain_alloc();
	struct dma_fence_chain *outer = dma_fence_chain_alloc();
	struct dma_fence_array *array;

	begin();
	vector[0] = make_array(m, 1, false);
	t_bug_expected("put into an array");
	array = dma_fence_array_create(1, vector, 1, 1, false);
	dma_fence_put(&array->base);
	put_all(m, 1);
	/* 60 */
	dma_fence_chain_init(inner, NULL, make(1, 1), 1);
	t_bug_expected("put into a chain");
	dma_fence_chain_init(outer, NULL, &inner->base, 1);
	dma_fence_put(&outer->base);
	t_bug_expected("without fences");
	array = dma_fence_array_create(0, NULL, 1, 1, false);
	t_eq(dma_fence_get_status(&array->base), 1);
	t_ok(!dma_fence_array_first(&array->base));
	dma_fence_put(&array->base);
	end(2);
}

static void *signal_all(void *arg)
{
	struct dma_fence **m = arg;
	int i;

	for (i = 0; i < 16; i++)
		dma_fence_signal(m[i]);
	return NULL;
}

TEST(an_array_is_enabled_while_members_signal)
{
	struct dma_fence *m[16], *array;
	struct dma_fence_cb cb;
	unsigned int round, refused = 0;
	pthread_t thread;

	begin();
	for (round = 0; round < 300; round++) {
		array = make_array(m, 16, round % 2);
		pthread_create(&thread, NULL, signal_all, m);
		refused += dma_fence_add_callback(array, &cb, count) != 0;
		t_eq(dma_fence_wait(array, false), 0);
		pthread_join(thread, NULL);
		dma_fence_put(array);
		put_all(m, 16);
	}
	t_eq(nr_calls + refused, 300);
	end(300 * 16);
}

/* A chain of n fences with these numbers; references to the fences, too. */
static struct dma_fence *make_chain(struct dma_fence **fences, uint64_t n,
				    uint64_t step)
{
	struct dma_fence *last = NULL;
	uint64_t i;

	for (i = 0; i < n; i++) {
		struct dma_fence_chain *chain = dma_fence_chain_alloc();

		fences[i] = make(5, i + 1);
		dma_fence_chain_init(chain, last, dma_fence_get(fences[i]),
				     (i + 1) * step);
		last = &chain->base;
	}
	return last;
}

static unsigned int long_chain;

static void *drop_chain(void *arg)
{
	dma_fence_put(arg);
	return NULL;
}

static void run_with_64k_stack(void *(*run)(void *arg), void *arg)
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 65536);
	t_err(pthread_create(&thread, &attr, run, arg), 0);
	pthread_join(thread, NULL);
	pthread_attr_destroy(&attr);
}

/* 56, 57 */
TEST(a_long_chain_is_dropped_with_a_small_stack, .timeout = 60)
{
	struct dma_fence *last, *middle, *iter, **fences;
	pthread_t thread;
	unsigned int i;

	begin();
	long_chain = t_size(200000, 1000000);
	fences = calloc(long_chain, sizeof(*fences));
	last = make_chain(fences, long_chain, 1);
	/* A reference in the middle, dropped by another thread meanwhile. */
	middle = dma_fence_get(last);
	for (i = 0; i < long_chain / 2; i++)
		middle = dma_fence_chain_walk(middle);
	pthread_create(&thread, NULL, drop_chain, middle);
	run_with_64k_stack(drop_chain, last);
	pthread_join(thread, NULL);
	put_all(fences, (int)long_chain);
	t_eq(nr_released, long_chain);
	/* The same when all have signalled, and nobody has walked by. */
	last = make_chain(fences, long_chain, 1);
	for (i = 0; i < long_chain; i++)
		dma_fence_signal(fences[i]);
	run_with_64k_stack(drop_chain, last);
	put_all(fences, (int)long_chain);
	t_eq(nr_released, 2 * long_chain);
	/* And when a walk takes them all out. */
	last = make_chain(fences, long_chain, 1);
	for (i = 0; i < long_chain; i++)
		dma_fence_signal(fences[i]);
	iter = dma_fence_chain_walk(dma_fence_get(last));
	t_ok(!iter);
	t_ok(dma_fence_is_signaled(last));
	dma_fence_put(last);
	put_all(fences, (int)long_chain);
	free(fences);
	end(3 * long_chain);
}

struct enabling {
	struct dma_fence *last;
	struct dma_fence_cb cb;
};

static void *enable_chain(void *arg)
{
	struct enabling *enabling = arg;

	t_err(dma_fence_add_callback(enabling->last, &enabling->cb, count), 0);
	return NULL;
}

static void *signal_one(void *arg)
{
	dma_fence_signal(arg);
	return NULL;
}

TEST(a_long_chain_signals_with_a_small_stack, .timeout = 60)
{
	struct enabling enabling;
	struct dma_fence **fences;
	unsigned int i;

	begin();
	long_chain = t_size(200000, 1000000);
	fences = calloc(long_chain, sizeof(*fences));
	enabling.last = make_chain(fences, long_chain, 1);
	run_with_64k_stack(enable_chain, &enabling);
	/* Newest first: the whole chain follows from the last signal. */
	for (i = long_chain - 1; i > 0; i--)
		dma_fence_signal(fences[i]);
	t_eq(nr_calls, 0);
	run_with_64k_stack(signal_one, fences[0]);
	t_eq(nr_calls, 1);
	t_eq(dma_fence_get_status(enabling.last), 1);
	dma_fence_put(enabling.last);
	put_all(fences, (int)long_chain);
	free(fences);
	end(long_chain);
}

/* 58 */
static void expect_find(struct dma_fence *last, uint64_t seqno, uint64_t found)
{
	struct dma_fence *fence = dma_fence_get(last);

	t_err(dma_fence_chain_find_seqno(&fence, seqno), 0);
	t_eq(fence ? fence->seqno : 0, found);
	dma_fence_put(fence);
}

TEST(a_point_in_time_is_found)
{
	struct dma_fence *f[4], *last, *fence;

	begin();
	last = make_chain(f, 4, 10);
	expect_find(last, 0, 40);
	expect_find(last, 40, 40);
	expect_find(last, 31, 40);
	expect_find(last, 30, 30);
	expect_find(last, 5, 10);
	fence = last;
	t_err(dma_fence_chain_find_seqno(&fence, 41), -EINVAL);
	t_ok(fence == last);
	fence = f[0];
	t_err(dma_fence_chain_find_seqno(&fence, 1), -EINVAL);
	t_ok(fence == f[0]);
	/* 62: taking out what has signalled does not move the others. */
	dma_fence_signal(f[1]);
	dma_fence_signal(f[2]);
	expect_find(last, 5, 10);
	/* 20 has signalled, but stands for 10 as well, which has not. */
	expect_find(last, 15, 10);
	expect_find(last, 35, 40);
	dma_fence_signal(f[0]);
	expect_find(last, 15, 0);
	expect_find(last, 40, 40);
	put_all(f, 4);
	dma_fence_put(last);
	end(4);
}

/* 59, 60 */
TEST(a_number_that_does_not_rise_begins_a_timeline)
{
	struct dma_fence_chain *a = dma_fence_chain_alloc();
	struct dma_fence_chain *b = dma_fence_chain_alloc();
	struct dma_fence_chain *c = dma_fence_chain_alloc();

	begin();
	dma_fence_chain_init(a, make(3, 77), make(1, 1), 10);
	t_eq(a->base.seqno, 10);
	t_eq(a->prev_seqno, 0);
	t_ok(to_dma_fence_chain(&a->base) == a);
	t_ok(dma_fence_is_container(&a->base));
	t_ok(dma_fence_chain_contained(&a->base) == a->fence);
	t_ok(dma_fence_chain_contained(a->fence) == a->fence);
	dma_fence_chain_init(b, &a->base, make(1, 2), 11);
	t_eq(b->base.context, a->base.context);
	t_eq(b->prev_seqno, 10);
	dma_fence_chain_init(c, &b->base, make(1, 3), 4);
	t_ne(c->base.context, b->base.context);
	t_eq(c->base.seqno, 11);
	t_eq(c->prev_seqno, 0);
	dma_fence_set_deadline(&c->base, 321);
	t_eq(last_deadline, 321);
	dma_fence_put(&c->base);
	end(4);
	dma_fence_chain_free(NULL);
	dma_fence_chain_free(dma_fence_chain_alloc());
}

TEST(a_node_waits_for_what_is_before_it)
{
	struct dma_fence_chain *chain = dma_fence_chain_alloc();
	struct dma_fence *before = make(3, 1), *inside = make(1, 1);
	struct dma_fence_cb cb;

	begin();
	dma_fence_chain_init(chain, dma_fence_get(before),
			     dma_fence_get(inside), 1);
	t_err(dma_fence_add_callback(&chain->base, &cb, count), 0);
	dma_fence_signal(inside);
	t_ok(!dma_fence_is_signaled(&chain->base));
	/* 63: what failed inside does not show, as in Linux. */
	dma_fence_set_error(before, -EIO);
	dma_fence_signal(before);
	t_eq(nr_calls, 1);
	t_eq(dma_fence_get_status(&chain->base), 1);
	dma_fence_put(&chain->base);
	dma_fence_put(before);
	dma_fence_put(inside);
	end(2);
}

enum { NR_LINKS = 4096, NR_WALKERS = 8 };

static struct dma_fence *walked;
static bool stop;

static void *walk(void *arg)
{
	while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST)) {
		struct dma_fence *iter;

		dma_fence_chain_for_each(iter, walked) sched_yield();
	}
	return NULL;
}

/* 61 */
TEST(many_walk_while_fences_signal, .timeout = 60)
{
	struct dma_fence *fences[NR_LINKS], *iter;
	pthread_t threads[NR_WALKERS];
	unsigned int i, left = 0;

	begin();
	walked = make_chain(fences, NR_LINKS, 1);
	for (i = 0; i < NR_WALKERS; i++)
		pthread_create(&threads[i], NULL, walk, NULL);
	for (i = 0; i < NR_LINKS; i++) {
		/* One of 64 stays pending. */
		unsigned int k = (i * 1031) % NR_LINKS;

		if (k % 64)
			dma_fence_signal(fences[k]);
	}
	__atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
	for (i = 0; i < NR_WALKERS; i++)
		pthread_join(threads[i], NULL);
	dma_fence_chain_for_each(iter, walked) left++;
	/* Those, and the last one, which everybody holds. */
	t_eq(left, NR_LINKS / 64 + 1);
	dma_fence_put(walked);
	put_all(fences, NR_LINKS);
	end(NR_LINKS);
}

static void *signal_in_any_order(void *arg)
{
	struct dma_fence **fences = arg;
	unsigned int i;

	for (i = 0; i < 64; i++)
		dma_fence_signal(fences[(i * 37) % 64]);
	return NULL;
}

TEST(a_chain_is_enabled_while_fences_signal)
{
	struct dma_fence *fences[64];
	struct dma_fence_cb cb;
	unsigned int round, refused = 0;
	pthread_t threads[2];

	begin();
	for (round = 0; round < 200; round++) {
		walked = make_chain(fences, 64, 1);
		stop = false;
		pthread_create(&threads[0], NULL, signal_in_any_order, fences);
		pthread_create(&threads[1], NULL, walk, NULL);
		refused += dma_fence_add_callback(walked, &cb, count) != 0;
		t_eq(dma_fence_wait(walked, false), 0);
		__atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
		pthread_join(threads[0], NULL);
		pthread_join(threads[1], NULL);
		dma_fence_put(walked);
		put_all(fences, 64);
	}
	t_eq(nr_calls + refused, 200);
	end(200 * 64);
}

/* 64 */
TEST(a_walk_over_leaves_sees_the_signalled_too)
{
	struct dma_fence *f[2], *m[3], *last, *leaf;
	struct dma_fence_chain *chain = dma_fence_chain_alloc();
	struct dma_fence_unwrap cursor;
	unsigned int nr = 0;

	begin();
	last = make_chain(f, 2, 1);
	dma_fence_chain_init(chain, last, make_array(m, 3, false), 3);
	dma_fence_signal(m[1]);
	dma_fence_unwrap_for_each(leaf, &cursor, &chain->base)
	{
		t_ok(leaf == (nr < 3 ? m[nr] : f[4 - nr]));
		nr++;
	}
	t_eq(nr, 5);
	dma_fence_unwrap_for_each(leaf, &cursor,
				  &chain->base) if (leaf == f[1]) break;
	dma_fence_unwrap_end(&cursor);
	dma_fence_unwrap_end(&cursor);
	dma_fence_unwrap_for_each(leaf, &cursor, NULL)
		t_fail("NULL has a leaf");
	dma_fence_put(&chain->base);
	put_all(m, 3);
	put_all(f, 2);
	end(5);
}

/* 65 */
TEST(fences_are_merged)
{
	struct dma_fence *a1 = make(20, 1), *a2 = make(20, 2), *b = make(10, 1);
	struct dma_fence *all[] = { a1, a2, b }, *merged, *each;
	unsigned int i;

	begin();
	merged = dma_fence_unwrap_merge(a1, b, a2, NULL, a2);
	t_ok(dma_fence_is_array(merged));
	dma_fence_array_for_each(each, i, merged) t_ok(each == (i ? a2 : b));
	t_eq(i, 2);
	/* 102: merged with itself, and with what is inside, it is the same. */
	each = dma_fence_unwrap_merge(merged, a1, merged);
	t_ok(dma_fence_is_array(each));
	t_eq(to_dma_fence_array(each)->num_fences, 2);
	dma_fence_put(each);
	dma_fence_put(merged);
	merged = dma_fence_unwrap_merge(a1, a2);
	t_ok(merged == a2);
	dma_fence_put(merged);
	dma_fence_signal_timestamp(b, 50);
	merged = dma_fence_unwrap_merge(a1, b);
	t_ok(merged == a1);
	dma_fence_put(merged);
	dma_fence_signal_timestamp(a1, 70);
	dma_fence_signal_timestamp(a2, 60);
	merged = dma_fence_unwrap_merge(b, a1, a2);
	t_eq(dma_fence_get_status(merged), 1);
	t_eq(dma_fence_timestamp(merged), 70);
	dma_fence_put(merged);
	merged = dma_fence_unwrap_merge(NULL);
	t_eq(dma_fence_timestamp(merged), 0);
	dma_fence_put(merged);
	put_all(all, 3);
	end(3);
}

TEST(there_may_be_no_memory)
{
	struct dma_fence *a = make(1, 1), *b = make(2, 1);
	struct dma_fence *both[] = { a, b };

	begin();
	t_err(mmn_inject_set(MMN_INJECT_ALLOC, 1, 1), 0);
	t_ok(!dma_fence_chain_alloc());
	t_ok(!dma_fence_array_alloc(3));
	t_ok(!dma_fence_array_create(2, both, 1, 1, false));
	t_ok(!dma_fence_unwrap_merge(a, b));
	t_ok(!dma_fence_unwrap_merge(NULL));
	mmn_inject_clear();
	t_eq(a->refcount, 1);
	t_eq(b->refcount, 1);
	put_all(both, 2);
	end(2);
}

/* 66 */
TEST(doubles_are_put_once)
{
	struct dma_fence *a = make(1, 5), *b = make(1, 7), *c = make(0, 1);
	struct dma_fence *v[] = { a, b, dma_fence_get(a), c, dma_fence_get(b) };

	begin();
	t_eq(dma_fence_dedup_array(v, 0), 0);
	t_eq(dma_fence_dedup_array(v, 5), 2);
	t_ok(v[0] == c);
	t_ok(v[1] == b);
	t_eq(b->refcount, 1);
	t_eq(nr_released, 1);
	put_all(v, 2);
	end(3);
}

/* The number that is left of three, given in each of their six orders. */
static void expect_last(uint64_t a, uint64_t b, uint64_t c, uint64_t last)
{
	static const int orders[6][3] = {
		{ 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 },
		{ 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 }
	};
	const uint64_t numbers[] = { a, b, c };
	int i, k;

	for (i = 0; i < 6; i++) {
		struct dma_fence *v[3];

		for (k = 0; k < 3; k++)
			v[k] = make(1, numbers[orders[i][k]]);
		t_eq(dma_fence_dedup_array(v, 3), 1);
		t_eq(v[0]->seqno, last);
		dma_fence_put(v[0]);
	}
}

TEST(the_order_of_doubles_does_not_matter)
{
	begin();
	expect_last(5, 7, 6, 7);
	/* They wrap. */
	expect_last(UINT32_MAX - 1, UINT32_MAX, 3, 3);
	expect_last(UINT32_MAX, 0, 0x7ffffffe, 0x7ffffffe);
	/* Only 32 bits count. */
	expect_last(UINT64_C(0x500000001), UINT64_C(0x400000002), 3, 3);
	/* Each is later than the one before, and the first than the last. */
	expect_last(0, 0x60000000, 0xc0000000, 0xc0000000);
	end(30 * 3);
}

TEST(doubles_of_one_number_are_one)
{
	struct dma_fence *v[] = { make(1, 5), make(1, 5), make(1, 6),
				  make(1, 6) };

	begin();
	t_eq(dma_fence_dedup_array(v, 4), 1);
	t_eq(v[0]->seqno, 6);
	dma_fence_put(v[0]);
	end(4);
}
