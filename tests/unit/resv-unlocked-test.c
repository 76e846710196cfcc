/* SPDX-License-Identifier: MIT */
/*
 * Reservation objects: readers without the lock.  The numbers in comments are those
 * of the conformance cases.
 *
 * A producer that is asked while an object is tested can do anything meanwhile:
 * that is how the schedules below are made, without a clock.
 *
 * BUSTED_sequence: the strict test without its sequence number, which is the other
 * one; the test of the schedule must fail.
 */
#include "t/tap.h"

#include <mmn/dma-fence-pool.h>
#include <mmn/inject.h>
#include <pthread.h>
#include <sched.h>

#include "resv.h"

#ifdef BUSTED_sequence
#define test_strict dma_resv_test_signaled
#else
#define test_strict dma_resv_test_signaled_strict
#endif

enum { NR_ROUNDS = 2000 };

/* What happens when the producer of the gate is asked; once. */
static void (*meanwhile)(void);
static bool gate_answer;

static bool gate_signaled(struct dma_fence *fence)
{
	void (*act)(void) = meanwhile;

	(void)fence;
	meanwhile = NULL;
	if (act)
		act();
	return gate_answer;
}

static const struct dma_fence_ops gate_ops = {
	.get_driver_name = test_name,
	.get_timeline_name = test_name,
	.signaled = gate_signaled,
	.release = test_release,
};

static struct dma_fence *make_gate(uint64_t context, uint64_t seqno)
{
	struct dma_fence *fence = malloc(sizeof(*fence));

	dma_fence_init(fence, &gate_ops, NULL, context, seqno);
	return fence;
}

static struct dma_resv obj;
static struct dma_fence *first, *second;

/* In another thread, as a writer is. */
static void by_another_thread(void *(*run)(void *arg))
{
	pthread_t thread;

	pthread_create(&thread, NULL, run, NULL);
	pthread_join(thread, NULL);
}

static void *replace_and_signal(void *unused)
{
	(void)unused;
	gate_answer = false;
	add(&obj, dma_fence_get(second), READ);
	gate_answer = true;
	dma_fence_signal(first);
	return NULL;
}

static void take_the_place_and_signal(void)
{
	by_another_thread(replace_and_signal);
}

static void begin_overlap(void)
{
	dma_resv_init(&obj);
	first = make_gate(1, 1);
	second = make(1, 2);
	add(&obj, dma_fence_get(first), READ);
	meanwhile = take_the_place_and_signal;
}

static void end_overlap(void)
{
	t_eq(first->refcount, 1);
	t_ok(!dma_fence_is_signaled(second));
	dma_fence_put(first);
	dma_fence_put(second);
	finish(&obj);
}

/* 78 */
TEST(the_strict_test_sees_that_there_was_always_one_pending)
{
	begin_overlap();
	t_ok(!test_strict(&obj, READ));
	t_ok(!meanwhile);
	end_overlap();
}

/* 78: this is what the other one does not promise */
TEST(the_usual_test_may_miss_that)
{
	begin_overlap();
	t_ok(dma_resv_test_signaled(&obj, READ));
	t_ok(!meanwhile);
	end_overlap();
}

/* Each time it is asked another fence comes, and the one before signals. */
static unsigned int nr_to_come;

static void add_another(void)
{
	struct dma_fence *last = second;
	bool held = dma_resv_held(&obj);

	second = make_gate(1, last->seqno + 1);
	gate_answer = false;
	if (!held)
		lock(&obj);
	t_err(dma_resv_reserve_fences(&obj, 1), 0);
	dma_resv_add_fence(&obj, second, READ);
	if (!held)
		dma_resv_unlock(&obj);
	signal_and_put(last);
	gate_answer = true;
	if (--nr_to_come)
		meanwhile = add_another;
}

static void begin_coming(unsigned int nr)
{
	dma_resv_init(&obj);
	second = make_gate(1, 1);
	add(&obj, dma_fence_get(second), READ);
	gate_answer = true;
	nr_to_come = nr;
	meanwhile = add_another;
}

TEST(the_strict_test_takes_the_lock_when_fences_come_all_the_time)
{
	begin_coming(16);
	t_ok(test_strict(&obj, READ));
	t_eq(nr_to_come, 0);
	t_ok(dma_fence_test_signaled_flag(second));
	t_ok(!dma_resv_is_locked(&obj));
	dma_fence_put(second);
	finish(&obj);
}

TEST(the_strict_test_does_not_wait_for_the_lock)
{
	begin_coming(100);
	lock(&obj);
	t_ok(!test_strict(&obj, READ));
	dma_resv_unlock(&obj);
	t_eq(nr_to_come, 100 - 16);
	meanwhile = NULL;
	dma_fence_put(second);
	finish(&obj);
}

/* A pool's fence leaves, and its memory is another one that signals. */
static struct dma_fence_pool *pool;

static const struct dma_fence_ops pool_ops = {
	.get_driver_name = test_name,
	.get_timeline_name = test_name,
};

static struct dma_fence *make_in_pool(uint64_t context, uint64_t seqno)
{
	struct dma_fence *fence = dma_fence_pool_alloc(pool);

	dma_fence_pool_init(fence, &pool_ops, NULL, context, seqno);
	return fence;
}

static void *recycle(void *unused)
{
	struct dma_fence *stranger;

	(void)unused;
	lock(&obj);
	/* The reader is going over what is an old list after this. */
	gate_answer = false;
	t_err(dma_resv_reserve_fences(&obj, 100), 0);
	dma_resv_add_fence(&obj, second, READ);
	gate_answer = true;
	dma_resv_unlock(&obj);
	stranger = make_in_pool(77, 1);
	t_ok(stranger == first);
	dma_fence_signal(stranger);
	return NULL;
}

static void recycle_meanwhile(void)
{
	by_another_thread(recycle);
}

static void test_recycled(bool (*test)(struct dma_resv *object,
				       enum dma_resv_usage usage))
{
	t_err(dma_fence_pool_create(sizeof(struct dma_fence), &pool), 0);
	dma_resv_init(&obj);
	first = make_in_pool(1, 1);
	second = make(1, 2);
	add(&obj, make_gate(5, 1), READ);
	add(&obj, first, READ);
	meanwhile = recycle_meanwhile;
	t_ok(!test(&obj, READ));
	t_ok(!meanwhile);
	t_ok(dma_fence_test_signaled_flag(first));
	t_ok(!dma_fence_is_signaled(second));
	dma_fence_put(first);
	dma_fence_put(second);
	finish(&obj);
	dma_fence_pool_destroy(pool);
	dma_fence_barrier();
}

TEST(a_recycled_fence_in_an_old_list_is_not_taken_for_another)
{
	test_recycled(dma_resv_test_signaled);
}

TEST(nor_by_the_strict_test)
{
	test_recycled(dma_resv_test_signaled_strict);
}

static void *replace_list_often(void *unused)
{
	struct dma_resv other;
	int i;

	(void)unused;
	gate_answer = false;
	dma_resv_init(&other);
	add(&other, dma_fence_get(second), READ);
	for (i = 0; i < 1000; i++) {
		lock(&obj);
		t_err(dma_resv_copy_fences(&obj, &other), 0);
		dma_resv_unlock(&obj);
	}
	dma_resv_fini(&other);
	gate_answer = true;
	return NULL;
}

static void replace_list_meanwhile(void)
{
	by_another_thread(replace_list_often);
}

/* 87 */
TEST(a_reader_inside_goes_on_with_an_old_list)
{
	struct dma_fence *fences[20];
	unsigned int i;

	dma_resv_init(&obj);
	second = make(9, 1);
	add(&obj, make_gate(1, 1), READ);
	for (i = 0; i < 20; i++) {
		fences[i] = make(10 + i, 1);
		add(&obj, fences[i], READ);
	}
	for (i = 0; i < 20; i++)
		dma_fence_signal(fences[i]);
	meanwhile = replace_list_meanwhile;
	t_ok(dma_resv_test_signaled(&obj, READ));
	t_eq(released(), 21);
	t_ok(!dma_resv_test_signaled(&obj, READ));
	dma_fence_put(second);
	finish(&obj);
}

/* 80 */
TEST(another_token_makes_a_walk_start_over)
{
	struct dma_fence *fence, *fences[3];
	struct dma_resv_iter cursor;
	unsigned int i, nr = 0;

	dma_resv_init(&obj);
	for (i = 0; i < 3; i++) {
		fences[i] = make(10 + i, 1);
		add(&obj, fences[i], READ);
	}
	dma_resv_iter_begin(&cursor, &obj, READ);
	dma_resv_for_each_fence_unlocked(&cursor, fence)
	{
		t_ok(fence == fences[nr < 2 ? nr : nr - 2]);
		t_eq(dma_resv_iter_is_restarted(&cursor), nr == 0 || nr == 2);
		if (++nr == 2)
			cursor.fences = (struct dma_resv_list *)~(uintptr_t)0;
	}
	dma_resv_iter_end(&cursor);
	t_eq(nr, 5);
	finish(&obj);
}

/* 79 */
TEST(a_walk_goes_on_while_the_list_grows)
{
	struct dma_fence *fence, *fences[3];
	struct dma_resv_iter cursor;
	unsigned int i, nr = 0;

	dma_resv_init(&obj);
	for (i = 0; i < 3; i++) {
		fences[i] = make(10 + i, 1);
		add(&obj, fences[i], READ);
	}
	dma_resv_iter_begin(&cursor, &obj, READ);
	dma_resv_for_each_fence_unlocked(&cursor, fence)
	{
		t_eq(dma_resv_iter_is_restarted(&cursor), nr == 0);
		t_ok(fence == fences[nr++]);
		for (i = 0; i < 8; i++)
			add(&obj, make(100 * nr + i, 1), READ);
	}
	dma_resv_iter_end(&cursor);
	t_eq(nr, 3);
	finish(&obj);
}

/*
 * A writer that never rests: adds fences, a few of one timeline among them, and
 * signals what it has added, so that places empty and fill, and the list grows and
 * is copied over.
 */
enum { NR_BURST = 12 };

static uint32_t writer_is_done;

static void write_burst(struct dma_resv *other, unsigned int round)
{
	struct dma_fence *fences[NR_BURST];
	unsigned int i;

	lock(&obj);
	t_err(dma_resv_reserve_fences(&obj, NR_BURST), 0);
	for (i = 0; i < NR_BURST; i++) {
		fences[i] = make(i % 4 ? 50 + i : 1000 + round, i);
		dma_resv_add_fence(&obj, fences[i], i % 2 ? READ : WRITE);
	}
	if (round % 8 == 0) {
		t_ok(dma_resv_trylock(other));
		t_err(dma_resv_copy_fences(other, &obj), 0);
		t_err(dma_resv_copy_fences(&obj, other), 0);
		dma_resv_unlock(other);
	}
	dma_resv_unlock(&obj);
	for (i = 0; i < NR_BURST; i++)
		signal_and_put(fences[i]);
}

static void *write_all_the_time(void *unused)
{
	struct dma_resv other;
	unsigned int i;

	(void)unused;
	dma_resv_init(&other);
	for (i = 0; i < NR_ROUNDS / 4; i++)
		write_burst(&other, i);
	__atomic_store_n(&writer_is_done, 1, __ATOMIC_SEQ_CST);
	dma_resv_fini(&other);
	return NULL;
}

static bool writes(void)
{
	return !__atomic_load_n(&writer_is_done, __ATOMIC_SEQ_CST);
}

enum { NR_ANCHORS = 3 };

static struct dma_fence *anchors[NR_ANCHORS];
static pthread_t writer;

/* Some fences stay from beginning to end. */
static void begin_writing(void)
{
	unsigned int i;

	dma_resv_init(&obj);
	for (i = 0; i < NR_ANCHORS; i++) {
		anchors[i] = make(10 + i, 1);
		add(&obj, dma_fence_get(anchors[i]), READ);
	}
	pthread_create(&writer, NULL, write_all_the_time, NULL);
}

static void end_writing(void)
{
	unsigned int i;

	pthread_join(writer, NULL);
	for (i = 0; i < NR_ANCHORS; i++) {
		t_eq(anchors[i]->refcount, 2);
		dma_fence_put(anchors[i]);
	}
	finish(&obj);
	t_eq(released(), NR_ANCHORS + NR_ROUNDS / 4 * NR_BURST);
}

static unsigned int count_anchors(struct dma_fence **fences, unsigned int nr)
{
	unsigned int i, k, found = 0;

	for (i = 0; i < nr; i++)
		for (k = 0; k < NR_ANCHORS; k++)
			found += fences[i] == anchors[k];
	return found;
}

/* 77 */
TEST(an_object_with_a_pending_fence_is_never_idle)
{
	begin_writing();
	do {
		t_ok(!dma_resv_test_signaled(&obj, READ));
		t_ok(!dma_resv_test_signaled_flag(&obj, READ));
		t_ok(!dma_resv_test_signaled_strict(&obj, READ));
		t_eq(dma_resv_wait_timeout(&obj, READ, false, 0), 0);
	} while (writes());
	end_writing();
}

/* 79 */
TEST(a_walk_finds_what_is_there_all_the_time_once)
{
	struct dma_resv_iter cursor;
	struct dma_fence *fence;
	unsigned int found, restarts;

	begin_writing();
	do {
		found = 0;
		restarts = 0;
		dma_resv_iter_begin(&cursor, &obj, READ);
		dma_resv_for_each_fence_unlocked(&cursor, fence)
		{
			found += count_anchors(&fence, 1);
			restarts += dma_resv_iter_is_restarted(&cursor);
		}
		dma_resv_iter_end(&cursor);
		t_eq(found, NR_ANCHORS);
		t_eq(restarts, 1);
	} while (writes());
	end_writing();
}

/* 81 */
TEST(fences_are_got_from_under_a_writer)
{
	begin_writing();
	do {
		struct dma_fence **fences;
		unsigned int i, nr;

		t_err(dma_resv_get_fences(&obj, READ, &nr, &fences), 0);
		t_eq(count_anchors(fences, nr), NR_ANCHORS);
		for (i = 0; i < nr; i++) {
			t_gt(__atomic_load_n(&fences[i]->refcount,
					     __ATOMIC_RELAXED),
			     0);
			dma_fence_put(fences[i]);
		}
		free(fences);
	} while (writes());
	end_writing();
}

/* 82 */
TEST(fences_are_copied_from_under_a_writer)
{
	struct dma_resv copy;

	dma_resv_init(&copy);
	begin_writing();
	do {
		struct dma_resv_iter cursor;
		struct dma_fence *fence;
		unsigned int found = 0;

		lock(&copy);
		t_err(dma_resv_copy_fences(&copy, &obj), 0);
		dma_resv_for_each_fence(&cursor, &copy, READ, fence) found +=
			count_anchors(&fence, 1);
		dma_resv_unlock(&copy);
		t_eq(found, NR_ANCHORS);
	} while (writes());
	dma_resv_fini(&copy);
	end_writing();
}

/* There is always one pending, each takes the place of the one before. */
static void *overlap_all_the_time(void *arg)
{
	struct dma_fence *last = arg;
	unsigned int i;

	for (i = 0; i < NR_ROUNDS; i++) {
		struct dma_fence *next = make_in_pool(1, i + 2), *stranger;

		add(&obj, dma_fence_get(next), READ);
		signal_and_put(last);
		stranger = make_in_pool(2, i);
		signal_and_put(stranger);
		last = next;
	}
	__atomic_store_n(&writer_is_done, 1, __ATOMIC_SEQ_CST);
	dma_fence_put(last);
	return NULL;
}

/* 77, 78 */
TEST(the_strict_test_is_never_true_when_recycled_fences_overlap)
{
	struct dma_fence *fence;

	t_err(dma_fence_pool_create(sizeof(struct dma_fence), &pool), 0);
	dma_resv_init(&obj);
	fence = make_in_pool(1, 1);
	add(&obj, dma_fence_get(fence), READ);
	pthread_create(&writer, NULL, overlap_all_the_time, fence);
	do {
		struct dma_fence **fences;
		unsigned int nr;

		t_ok(!dma_resv_test_signaled_strict(&obj, READ));
		t_err(dma_resv_get_fences(&obj, READ, &nr, &fences), 0);
		while (nr) {
			t_eq(fences[--nr]->context, 1);
			dma_fence_put(fences[nr]);
		}
		free(fences);
	} while (writes());
	pthread_join(writer, NULL);
	finish(&obj);
	dma_fence_pool_destroy(pool);
	dma_fence_barrier();
}
