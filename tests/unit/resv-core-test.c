/* SPDX-License-Identifier: MIT */
/*
 * Reservation objects: what writers do, and what is asked when nobody writes.  The
 * numbers in comments are those of the conformance cases.
 */
#include "t/tap.h"

#include <mmn/debug.h>
#include <mmn/dma-fence-array.h>
#include <mmn/dma-fence-chain.h>
#include <mmn/inject.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "resv.h"

static const enum dma_resv_usage usages[] = { KERNEL, WRITE, READ, BOOKKEEP };

TEST(a_new_object_is_unlocked_and_empty)
{
	struct dma_resv obj;

	dma_resv_init(&obj);
	t_ok(!dma_resv_is_locked(&obj));
	t_ok(!dma_resv_held(&obj));
	t_ok(!dma_resv_locking_ctx(&obj));
	t_eq(count(&obj, BOOKKEEP), 0);
	t_eq(count_pending(&obj, BOOKKEEP), 0);
	lock(&obj);
	t_ok(dma_resv_is_locked(&obj));
	t_ok(dma_resv_held(&obj));
	dma_resv_assert_held(&obj);
	t_ok(!dma_resv_trylock(&obj));
	dma_resv_unlock(&obj);
	t_ok(dma_resv_trylock(&obj));
	dma_resv_unlock(&obj);
	finish(&obj);
}

TEST(writers_wait_for_readers_and_readers_for_writers)
{
	t_eq(dma_resv_usage_rw(true), READ);
	t_eq(dma_resv_usage_rw(false), WRITE);
}

/* 67 */
TEST(no_fences_cannot_be_reserved)
{
	struct dma_resv obj;

	dma_resv_init(&obj);
	lock(&obj);
	t_bug_expected("no fences are reserved");
	t_err(dma_resv_reserve_fences(&obj, 0), -EINVAL);
	dma_resv_unlock(&obj);
	finish(&obj);
}

/* 68 */
TEST(as_many_fences_as_were_reserved_can_be_added)
{
	struct dma_resv obj;
	unsigned int i, n;

	dma_resv_init(&obj);
	for (n = 1; n <= 65; n += 16) {
		lock(&obj);
		t_err(dma_resv_reserve_fences(&obj, n), 0);
		mmn_inject_set(MMN_INJECT_ALLOC, 1, 0);
		for (i = 0; i < n; i++) {
			struct dma_fence *fence = make(n, i);

			fence->context = dma_fence_context_alloc(1);
			dma_resv_add_fence(&obj, fence, READ);
			dma_fence_put(fence);
		}
		mmn_inject_clear();
		dma_resv_unlock(&obj);
	}
	t_eq(count(&obj, BOOKKEEP), 1 + 17 + 33 + 49 + 65);
	finish(&obj);
	t_eq(released(), 1 + 17 + 33 + 49 + 65);
}

/* 68 */
TEST(one_more_than_was_reserved_is_reported_and_kept)
{
	struct dma_resv obj;
	unsigned int i;

	dma_resv_init(&obj);
	for (i = 0; i < 4; i++)
		add(&obj, make(10 + i, 1), READ);
	lock(&obj);
	t_err(dma_resv_reserve_fences(&obj, 1), 0);
	for (i = 0; i < 2; i++) {
		struct dma_fence *fence = make(20 + i, 1);

		if (i == 1)
			t_bug_expected("without a reservation");
		dma_resv_add_fence(&obj, fence, READ);
		dma_fence_put(fence);
	}
	dma_resv_unlock(&obj);
	t_eq(count(&obj, BOOKKEEP), 6);
	finish(&obj);
}

static void *signal_soon(void *arg)
{
	struct dma_fence *fence = arg;

	/* The adder enables signalling before it sleeps. */
	while (!(__atomic_load_n(&fence->flags, __ATOMIC_SEQ_CST) &
		 (1ul << DMA_FENCE_FLAG_ENABLE_SIGNAL_BIT)))
		nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
	dma_fence_signal(fence);
	return NULL;
}

/* 68 */
TEST(without_reservation_and_memory_a_place_is_waited_for)
{
	struct dma_fence *oldest = make(1, 1), *extra = make(99, 1);
	struct dma_resv obj;
	pthread_t thread;
	unsigned int i;

	dma_resv_init(&obj);
	add(&obj, dma_fence_get(oldest), READ);
	for (i = 0; i < 3; i++)
		add(&obj, make(10 + i, 1), READ);
	pthread_create(&thread, NULL, signal_soon, oldest);
	lock(&obj);
	mmn_inject_set(MMN_INJECT_ALLOC, 1, 0);
	t_bug_expected("without a reservation");
	dma_resv_add_fence(&obj, extra, READ);
	mmn_inject_clear();
	dma_resv_unlock(&obj);
	pthread_join(thread, NULL);
	t_eq(extra->refcount, 2);
	t_eq(count(&obj, BOOKKEEP), 4);
	dma_fence_put(oldest);
	dma_fence_put(extra);
	finish(&obj);
}

/* 68 */
TEST(a_reservation_ends_with_the_lock)
{
	struct dma_fence *fence = make(1, 1);
	struct dma_resv obj;

	dma_resv_init(&obj);
	lock(&obj);
	t_err(dma_resv_reserve_fences(&obj, 3), 0);
	dma_resv_unlock(&obj);
	lock(&obj);
	t_bug_expected("without a reservation");
	dma_resv_add_fence(&obj, fence, READ);
	dma_resv_unlock(&obj);
	t_eq(count(&obj, BOOKKEEP), 1);
	dma_fence_put(fence);
	finish(&obj);
}

/* 69 */
TEST(reservations_do_not_add_up)
{
	struct dma_fence *a = make(1, 1), *b = make(2, 1);
	struct dma_resv obj;

	dma_resv_init(&obj);
	lock(&obj);
	t_err(dma_resv_reserve_fences(&obj, 1), 0);
	t_err(dma_resv_reserve_fences(&obj, 1), 0);
	dma_resv_add_fence(&obj, a, READ);
	t_bug_expected("without a reservation");
	dma_resv_add_fence(&obj, b, READ);
	dma_resv_unlock(&obj);
	dma_fence_put(a);
	dma_fence_put(b);
	finish(&obj);
}

TEST(a_reservation_without_memory_changes_nothing)
{
	struct dma_resv obj;

	dma_resv_init(&obj);
	add(&obj, make(1, 1), READ);
	lock(&obj);
	mmn_inject_set(MMN_INJECT_ALLOC, 1, 0);
	t_err(dma_resv_reserve_fences(&obj, 3), 0);
	t_err(dma_resv_reserve_fences(&obj, 4), -ENOMEM);
	mmn_inject_clear();
	t_err(dma_resv_reserve_fences(&obj, UINT32_MAX), -ENOMEM);
	dma_resv_unlock(&obj);
	t_eq(count(&obj, BOOKKEEP), 1);
	finish(&obj);
}

/* 70 */
TEST(growing_drops_what_has_signalled_and_keeps_the_rest)
{
	struct dma_fence *fences[8], *fence;
	struct dma_resv_iter cursor;
	struct dma_resv obj;
	unsigned int i;

	dma_resv_init(&obj);
	for (i = 0; i < 8; i++) {
		fences[i] = make(10 + i, 1);
		add(&obj, dma_fence_get(fences[i]), usages[i % 4]);
	}
	for (i = 0; i < 8; i += 2)
		dma_fence_signal(fences[i]);
	lock(&obj);
	t_err(dma_resv_reserve_fences(&obj, 100), 0);
	i = 1;
	dma_resv_for_each_fence(&cursor, &obj, BOOKKEEP, fence)
	{
		t_ok(fence == fences[i]);
		t_eq(dma_resv_iter_usage(&cursor), usages[i % 4]);
		i += 2;
	}
	dma_resv_unlock(&obj);
	t_eq(i, 9);
	for (i = 0; i < 8; i++) {
		t_eq(fences[i]->refcount, 1 + i % 2);
		dma_fence_put(fences[i]);
	}
	finish(&obj);
	t_eq(released(), 8);
}

/* 71 */
TEST(a_later_fence_of_a_timeline_takes_the_place)
{
	struct dma_fence *early = make(1, 1), *late = make(1, 2);
	struct dma_resv obj;

	dma_resv_init(&obj);
	add(&obj, dma_fence_get(early), READ);
	add(&obj, dma_fence_get(late), READ);
	t_eq(count(&obj, BOOKKEEP), 1);
	t_eq(early->refcount, 1);
	t_eq(late->refcount, 2);
	/* and an earlier one does not */
	add(&obj, dma_fence_get(early), READ);
	t_eq(count(&obj, BOOKKEEP), 2);
	/* the same again is there already */
	add(&obj, dma_fence_get(late), READ);
	t_eq(count(&obj, BOOKKEEP), 2);
	dma_fence_put(early);
	dma_fence_put(late);
	finish(&obj);
}

/* 71 */
TEST(timelines_may_wrap_at_32_bits)
{
	struct dma_fence *before = make(1, UINT32_MAX), *after = make(1, 1);
	struct dma_resv obj;

	dma_resv_init(&obj);
	add(&obj, dma_fence_get(before), READ);
	add(&obj, dma_fence_get(after), READ);
	t_eq(count(&obj, BOOKKEEP), 1);
	t_eq(before->refcount, 1);
	dma_fence_put(before);
	dma_fence_put(after);
	finish(&obj);
}

/* 72 */
TEST(a_question_is_about_one_usage_and_all_before_it)
{
	unsigned int stored, asked;

	for (stored = 0; stored < 4; stored++) {
		struct dma_resv obj;

		dma_resv_init(&obj);
		add(&obj, make(1, 1), usages[stored]);
		for (asked = 0; asked < 4; asked++) {
			bool hit = stored <= asked;

			t_eq(count(&obj, usages[asked]), hit);
			t_eq(count_pending(&obj, usages[asked]), hit);
			t_eq(dma_resv_test_signaled(&obj, usages[asked]), !hit);
			t_eq(dma_resv_test_signaled_strict(&obj, usages[asked]),
			     !hit);
			t_eq(dma_resv_test_signaled_flag(&obj, usages[asked]),
			     !hit);
			t_eq(dma_resv_wait_timeout(&obj, usages[asked], false,
						   0),
			     !hit);
		}
		finish(&obj);
	}
}

/* 72 */
TEST(a_fence_is_promoted_but_not_demoted)
{
	struct dma_fence *fence = make(1, 1);
	struct dma_resv obj;

	dma_resv_init(&obj);
	add(&obj, dma_fence_get(fence), BOOKKEEP);
	add(&obj, dma_fence_get(fence), READ);
	t_eq(count(&obj, BOOKKEEP), 1);
	t_eq(count(&obj, READ), 1);
	add(&obj, dma_fence_get(fence), WRITE);
	t_eq(count(&obj, BOOKKEEP), 1);
	t_eq(count(&obj, WRITE), 1);
	add(&obj, dma_fence_get(fence), BOOKKEEP);
	t_eq(count(&obj, BOOKKEEP), 2);
	t_eq(count(&obj, READ), 1);
	dma_fence_put(fence);
	finish(&obj);
}

/* 73 */
TEST(the_place_of_a_signalled_fence_costs_no_reservation)
{
	struct dma_fence *done = make(1, 1), *a = make(2, 1), *b = make(3, 1);
	struct dma_resv obj;

	dma_resv_init(&obj);
	add(&obj, dma_fence_get(done), READ);
	lock(&obj);
	t_err(dma_resv_reserve_fences(&obj, 1), 0);
	dma_fence_signal(done);
	dma_resv_add_fence(&obj, a, READ);
	t_eq(done->refcount, 1);
	dma_resv_add_fence(&obj, b, READ);
	dma_resv_unlock(&obj);
	t_eq(count(&obj, BOOKKEEP), 2);
	dma_fence_put(done);
	dma_fence_put(a);
	dma_fence_put(b);
	finish(&obj);
}

TEST(signalled_fences_leave_when_one_is_added)
{
	struct dma_fence *fences[6];
	struct dma_resv obj;
	unsigned int i;

	dma_resv_init(&obj);
	for (i = 0; i < 6; i++) {
		fences[i] = make(10 + i, 1);
		add(&obj, dma_fence_get(fences[i]), READ);
	}
	for (i = 0; i < 6; i++)
		dma_fence_signal(fences[i]);
	add(&obj, make(1, 1), READ);
	t_eq(count(&obj, BOOKKEEP), 1);
	for (i = 0; i < 6; i++) {
		t_eq(fences[i]->refcount, 1);
		dma_fence_put(fences[i]);
	}
	finish(&obj);
}

/* 74 */
TEST(an_array_in_an_object_is_reported)
{
	struct dma_fence **members = malloc(sizeof(*members));
	struct dma_fence_array *array;
	struct dma_resv obj;

	members[0] = make(1, 1);
	array = dma_fence_array_create(1, members, 5, 1, false);
	dma_resv_init(&obj);
	lock(&obj);
	t_err(dma_resv_reserve_fences(&obj, 1), 0);
	t_bug_expected("an array or a chain is put into");
	dma_resv_add_fence(&obj, &array->base, READ);
	dma_resv_unlock(&obj);
	t_eq(count(&obj, BOOKKEEP), 1);
	dma_fence_signal(members[0]);
	dma_fence_put(&array->base);
	finish(&obj);
}

/* 74 */
TEST(a_chain_in_an_object_is_reported)
{
	struct dma_fence_chain *chain = dma_fence_chain_alloc();
	struct dma_resv obj;

	dma_fence_chain_init(chain, NULL, make(1, 1), 1);
	dma_resv_init(&obj);
	lock(&obj);
	t_err(dma_resv_reserve_fences(&obj, 1), 0);
	t_bug_expected("an array or a chain is put into");
	dma_resv_add_fence(&obj, &chain->base, READ);
	dma_resv_unlock(&obj);
	dma_fence_put(&chain->base);
	finish(&obj);
}

TEST(null_in_an_object_is_reported_and_ignored)
{
	struct dma_resv obj;

	dma_resv_init(&obj);
	lock(&obj);
	t_bug_expected("NULL is put into");
	dma_resv_add_fence(&obj, NULL, READ);
	dma_resv_unlock(&obj);
	lock(&obj);
	t_bug_expected("NULL is put into");
	dma_resv_replace_fences(&obj, 1, NULL, READ);
	dma_resv_unlock(&obj);
	t_eq(count(&obj, BOOKKEEP), 0);
	finish(&obj);
}

/* 75 */
TEST(replacing_hits_one_timeline_everywhere)
{
	struct dma_fence *early = make(1, 1), *late = make(1, 2);
	struct dma_fence *other = make(2, 1), *instead = make(3, 1);
	struct dma_resv obj;

	dma_resv_init(&obj);
	add(&obj, dma_fence_get(late), READ);
	add(&obj, dma_fence_get(other), READ);
	add(&obj, dma_fence_get(early), BOOKKEEP);
	lock(&obj);
	dma_resv_replace_fences(&obj, 77, instead, WRITE);
	t_eq(instead->refcount, 1);
	dma_resv_replace_fences(&obj, 1, instead, WRITE);
	dma_resv_unlock(&obj);
	t_eq(early->refcount, 1);
	t_eq(late->refcount, 1);
	t_eq(other->refcount, 2);
	t_eq(instead->refcount, 3);
	t_eq(count(&obj, WRITE), 2);
	t_eq(count(&obj, BOOKKEEP), 3);
	dma_fence_put(early);
	dma_fence_put(late);
	dma_fence_put(other);
	dma_fence_put(instead);
	finish(&obj);
	t_eq(released(), 4);
}

/* 76 */
TEST(an_object_is_idle_when_its_fences_have_signalled)
{
	struct dma_fence *writer = make(1, 1), *reader = make(2, 1);
	struct dma_resv obj;

	dma_resv_init(&obj);
	t_ok(dma_resv_test_signaled(&obj, BOOKKEEP));
	add(&obj, dma_fence_get(writer), WRITE);
	add(&obj, dma_fence_get(reader), READ);
	t_ok(dma_resv_test_signaled(&obj, KERNEL));
	t_ok(!dma_resv_test_signaled(&obj, WRITE));
	dma_fence_signal(writer);
	t_ok(dma_resv_test_signaled(&obj, WRITE));
	t_ok(!dma_resv_test_signaled(&obj, READ));
	dma_fence_signal(reader);
	t_ok(dma_resv_test_signaled(&obj, BOOKKEEP));
	dma_fence_put(writer);
	dma_fence_put(reader);
	finish(&obj);
}

/* A producer that is asked. */
static bool says;
static unsigned int nr_asked;

static bool say(struct dma_fence *fence)
{
	(void)fence;
	nr_asked++;
	return says;
}

static const struct dma_fence_ops asked_ops = {
	.get_driver_name = test_name,
	.get_timeline_name = test_name,
	.signaled = say,
	.release = test_release,
};

TEST(a_producer_is_asked_unless_only_flags_are_wanted)
{
	struct dma_fence *fence = malloc(sizeof(*fence));
	struct dma_resv obj;

	dma_fence_init(fence, &asked_ops, NULL, 1, 1);
	dma_resv_init(&obj);
	add(&obj, dma_fence_get(fence), READ);
	nr_asked = 0;
	says = true;
	t_ok(!dma_resv_test_signaled_flag(&obj, READ));
	t_eq(nr_asked, 0);
	says = false;
	t_ok(!dma_resv_test_signaled(&obj, READ));
	t_eq(nr_asked, 1);
	says = true;
	t_ok(dma_resv_test_signaled_strict(&obj, READ));
	t_ok(dma_resv_test_signaled_flag(&obj, READ));
	t_eq(fence->refcount, 2);
	dma_fence_put(fence);
	finish(&obj);
}

/* 82 */
TEST(a_copy_has_what_is_pending_and_nothing_else)
{
	struct dma_fence *done = make(1, 1), *pending = make(2, 1);
	struct dma_fence *own = make(3, 1), *both = make(4, 1), *fence;
	struct dma_resv src, dst;
	struct dma_resv_iter cursor;
	unsigned int i;

	dma_resv_init(&src);
	dma_resv_init(&dst);
	add(&src, dma_fence_get(done), WRITE);
	add(&src, dma_fence_get(pending), READ);
	add(&src, dma_fence_get(both), KERNEL);
	add(&dst, dma_fence_get(own), WRITE);
	add(&dst, dma_fence_get(both), BOOKKEEP);
	dma_fence_signal(done);
	lock(&dst);
	t_err(dma_resv_copy_fences(&dst, &src), 0);
	i = 0;
	dma_resv_for_each_fence(&cursor, &dst, BOOKKEEP, fence)
	{
		bool is_both = fence == both;

		t_ok(is_both || fence == pending);
		t_eq(dma_resv_iter_usage(&cursor), is_both ? KERNEL : READ);
		i++;
	}
	dma_resv_unlock(&dst);
	t_eq(i, 2);
	t_eq(done->refcount, 2);
	t_eq(own->refcount, 1);
	t_eq(both->refcount, 3);
	dma_fence_put(done);
	dma_fence_put(pending);
	dma_fence_put(own);
	dma_fence_put(both);
	finish(&src);
	finish(&dst);
	t_eq(released(), 4);
}

/* 82 */
TEST(a_copy_of_nothing_empties)
{
	struct dma_fence *own = make(1, 1);
	struct dma_resv src, dst;

	dma_resv_init(&src);
	dma_resv_init(&dst);
	add(&dst, dma_fence_get(own), WRITE);
	lock(&dst);
	mmn_inject_set(MMN_INJECT_ALLOC, 1, 0);
	t_err(dma_resv_copy_fences(&dst, &src), 0);
	mmn_inject_clear();
	dma_resv_unlock(&dst);
	t_eq(count(&dst, BOOKKEEP), 0);
	t_eq(own->refcount, 1);
	dma_fence_put(own);
	finish(&src);
	finish(&dst);
}

/* 82 */
TEST(a_copy_without_memory_changes_nothing)
{
	struct dma_fence *own = make(1, 1), *wanted = make(2, 1);
	struct dma_resv src, dst;
	int i, failed = 0;

	dma_resv_init(&src);
	dma_resv_init(&dst);
	add(&src, dma_fence_get(wanted), READ);
	add(&dst, dma_fence_get(own), WRITE);
	for (i = 0; i < 64; i++) {
		int ret;

		lock(&dst);
		mmn_inject_set(MMN_INJECT_ALLOC, 2, (uint64_t)i);
		ret = dma_resv_copy_fences(&dst, &src);
		mmn_inject_clear();
		dma_resv_unlock(&dst);
		t_eq(count(&dst, BOOKKEEP), 1);
		if (ret) {
			t_err(ret, -ENOMEM);
			failed++;
			t_eq(own->refcount, 2);
			t_eq(wanted->refcount, 2);
			continue;
		}
		t_eq(own->refcount, 1);
		t_eq(wanted->refcount, 3);
		lock(&dst);
		dma_resv_replace_fences(&dst, 2, own, WRITE);
		dma_resv_unlock(&dst);
	}
	t_gt(failed, 0);
	t_lt(failed, 64);
	dma_fence_put(own);
	dma_fence_put(wanted);
	finish(&src);
	finish(&dst);
}

/* 83 */
TEST(a_singleton_is_nothing_the_fence_or_an_array)
{
	struct dma_fence *a = make(1, 1), *b = make(2, 1), *got = a;
	struct dma_resv obj;

	dma_resv_init(&obj);
	t_err(dma_resv_get_singleton(&obj, READ, &got), 0);
	t_ok(!got);
	add(&obj, dma_fence_get(a), READ);
	t_err(dma_resv_get_singleton(&obj, READ, &got), 0);
	t_ok(got == a);
	t_eq(a->refcount, 3);
	dma_fence_put(got);
	add(&obj, dma_fence_get(b), WRITE);
	t_err(dma_resv_get_singleton(&obj, READ, &got), 0);
	t_ok(dma_fence_is_array(got));
	t_ok(!dma_fence_is_signaled(got));
	dma_fence_signal(a);
	t_ok(!dma_fence_is_signaled(got));
	dma_fence_signal(b);
	t_ok(dma_fence_is_signaled(got));
	dma_fence_put(got);
	dma_fence_put(a);
	dma_fence_put(b);
	finish(&obj);
	t_eq(released(), 2);
}

/* 81, 83 */
TEST(without_memory_no_fences_are_got_and_none_are_lost)
{
	struct dma_fence *a = make(1, 1), *b = make(2, 1), *one = NULL;
	struct dma_fence **several = NULL;
	unsigned int nr = 77;
	struct dma_resv obj;
	int i;

	dma_resv_init(&obj);
	add(&obj, dma_fence_get(a), READ);
	add(&obj, dma_fence_get(b), READ);
	mmn_inject_set(MMN_INJECT_ALLOC, 1, 0);
	t_err(dma_resv_get_fences(&obj, READ, &nr, &several), -ENOMEM);
	mmn_inject_clear();
	t_eq(nr, 77);
	t_ok(!several);
	for (i = 0; i < 32; i++) {
		int ret;

		mmn_inject_set(MMN_INJECT_ALLOC, 2, (uint64_t)i);
		ret = dma_resv_get_singleton(&obj, READ, &one);
		mmn_inject_clear();
		if (!ret)
			dma_fence_put(one);
		t_eq(a->refcount, 2);
		t_eq(b->refcount, 2);
	}
	dma_fence_put(a);
	dma_fence_put(b);
	finish(&obj);
}

TEST(all_pending_fences_are_got)
{
	struct dma_fence *fences[6], **got;
	struct dma_resv obj;
	unsigned int i, nr;

	dma_resv_init(&obj);
	t_err(dma_resv_get_fences(&obj, READ, &nr, &got), 0);
	t_eq(nr, 0);
	t_ok(!got);
	for (i = 0; i < 6; i++) {
		fences[i] = make(10 + i, 1);
		add(&obj, fences[i], i < 4 ? READ : BOOKKEEP);
	}
	dma_fence_signal(fences[1]);
	t_err(dma_resv_get_fences(&obj, READ, &nr, &got), 0);
	t_eq(nr, 3);
	t_ok(got[0] == fences[0]);
	t_ok(got[1] == fences[2]);
	t_ok(got[2] == fences[3]);
	for (i = 0; i < nr; i++)
		dma_fence_put(got[i]);
	free(got);
	finish(&obj);
	t_eq(released(), 6);
}

static int64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

/* 84 */
TEST(a_wait_of_nothing_has_its_time_left)
{
	struct dma_resv obj;

	dma_resv_init(&obj);
	t_eq(dma_resv_wait_timeout(&obj, READ, false, 0), 1);
	t_eq(dma_resv_wait_timeout(&obj, READ, true, 1000), 1000);
	t_eq(dma_resv_wait_timeout(&obj, READ, true, ULONG_MAX), LONG_MAX);
	finish(&obj);
}

/* 84 */
TEST(a_wait_for_no_time_asks)
{
	struct dma_fence *fence = make(1, 1);
	struct dma_resv obj;

	dma_resv_init(&obj);
	add(&obj, dma_fence_get(fence), READ);
	t_eq(dma_resv_wait_timeout(&obj, READ, false, 0), 0);
	t_ok(fence->flags & (1ul << DMA_FENCE_FLAG_ENABLE_SIGNAL_BIT));
	dma_fence_signal(fence);
	t_eq(dma_resv_wait_timeout(&obj, READ, false, 0), 1);
	dma_fence_put(fence);
	finish(&obj);
}

/* 84 */
TEST(the_time_is_for_all_fences_together)
{
	struct dma_resv obj;
	unsigned int i;
	int64_t began;

	dma_resv_init(&obj);
	for (i = 0; i < 16; i++)
		add(&obj, make(10 + i, 1), READ);
	began = now();
	t_eq(dma_resv_wait_timeout(&obj, READ, false, 20), 0);
	t_ge(now() - began, 20 * 1000000);
	finish(&obj);
}

static void *signal_in_turn(void *arg)
{
	struct dma_fence **fences = arg;
	int i;

	for (i = 0; i < 4; i++) {
		while (!(__atomic_load_n(&fences[i]->flags, __ATOMIC_SEQ_CST) &
			 (1ul << DMA_FENCE_FLAG_ENABLE_SIGNAL_BIT)))
			nanosleep(&(struct timespec){ .tv_nsec = 100000 },
				  NULL);
		dma_fence_signal(fences[i]);
	}
	return NULL;
}

TEST(a_wait_lasts_until_the_last_fence)
{
	struct dma_fence *fences[4];
	struct dma_resv obj;
	pthread_t thread;
	unsigned int i;

	dma_resv_init(&obj);
	for (i = 0; i < 4; i++) {
		fences[i] = make(10 + i, 1);
		add(&obj, dma_fence_get(fences[i]), READ);
	}
	pthread_create(&thread, NULL, signal_in_turn, fences);
	t_gt(dma_resv_wait_timeout(&obj, READ, false, DMA_FENCE_TIMEOUT_MAX),
	     0);
	t_ok(dma_resv_test_signaled(&obj, READ));
	pthread_join(thread, NULL);
	for (i = 0; i < 4; i++)
		dma_fence_put(fences[i]);
	finish(&obj);
}

TEST(a_cancelled_wait_says_so)
{
	struct dma_fence_cancel cancel = { 0 };
	struct dma_resv obj;

	dma_resv_init(&obj);
	add(&obj, make(1, 1), READ);
	dma_fence_cancel_bind(&cancel);
	dma_fence_cancel_raise(&cancel);
	t_eq(dma_resv_wait_timeout(&obj, READ, true, 100000), -ERESTARTSYS);
	t_eq(dma_resv_wait_timeout(&obj, READ, true, 0), -ERESTARTSYS);
	t_eq(dma_resv_wait_timeout(&obj, READ, false, 0), 0);
	dma_fence_cancel_bind(NULL);
	finish(&obj);
}

/* A producer that notes deadlines. */
static unsigned int nr_deadlines;
static int64_t last_deadline;

static void note_deadline(struct dma_fence *fence, int64_t deadline)
{
	(void)fence;
	nr_deadlines++;
	last_deadline = deadline;
}

static const struct dma_fence_ops deadline_ops = {
	.get_driver_name = test_name,
	.get_timeline_name = test_name,
	.set_deadline = note_deadline,
	.release = test_release,
};

/* 85 */
TEST(a_deadline_reaches_each_fence_once)
{
	struct dma_resv obj;
	unsigned int i;

	dma_resv_init(&obj);
	for (i = 0; i < 6; i++) {
		struct dma_fence *fence = malloc(sizeof(*fence));

		dma_fence_init(fence, &deadline_ops, NULL, 10 + i, 1);
		add(&obj, fence, i < 5 ? READ : BOOKKEEP);
	}
	dma_resv_set_deadline(&obj, READ, 4711);
	t_eq(nr_deadlines, 5);
	t_eq(last_deadline, 4711);
	finish(&obj);
}

/* 86 */
TEST(a_description_leaves_bookkeeping_out)
{
	char text[400] = "";
	struct seq_file seq = { .buf = text, .size = sizeof(text) };
	struct dma_resv obj;
	unsigned int i;

	dma_resv_init(&obj);
	for (i = 0; i < 4; i++)
		add(&obj, make(10 + i, 5), usages[i]);
	lock(&obj);
	dma_resv_describe(&obj, &seq);
	dma_resv_unlock(&obj);
	t_streq(text, "\tkernel fence: 10:5 test test unsignalled\n"
		      "\twrite fence: 11:5 test test unsignalled\n"
		      "\t"
		      "read fence: 12:5 test test unsignalled\n");
	finish(&obj);
}

/* 88 */
TEST(the_end_drops_every_reference)
{
	struct dma_fence *fences[9];
	struct dma_resv obj;
	unsigned int i;

	dma_resv_init(&obj);
	for (i = 0; i < 9; i++) {
		fences[i] = make(10 + i, 1);
		add(&obj, dma_fence_get(fences[i]), usages[i % 4]);
	}
	dma_resv_fini(&obj);
	for (i = 0; i < 9; i++) {
		t_eq(fences[i]->refcount, 1);
		dma_fence_put(fences[i]);
	}
	t_may_keep_mapped(64 << 20, "the thread that frees stays");
	dma_fence_barrier();
	t_eq(released(), 9);
}

/* 97 */
TEST(a_writer_without_the_lock_is_reported)
{
	struct dma_fence *fence = make(1, 1);
	char text[80];
	struct seq_file seq = { .buf = text, .size = sizeof(text) };
	struct dma_resv obj, other;

	dma_resv_init(&obj);
	dma_resv_init(&other);
	t_bug_expected("without its lock");
	dma_resv_assert_held(&obj);
	t_bug_expected("without its lock");
	t_err(dma_resv_reserve_fences(&obj, 1), 0);
	t_bug_expected("without its lock");
	dma_resv_add_fence(&obj, fence, READ);
	t_bug_expected("without its lock");
	dma_resv_replace_fences(&obj, 5, fence, READ);
	t_bug_expected("without its lock");
	t_err(dma_resv_copy_fences(&other, &obj), 0);
	t_bug_expected("without its lock");
	t_bug_expected("without its lock");
	dma_resv_describe(&other, &seq);
	t_eq(t_bugs_seen(), 7);
	dma_fence_put(fence);
	finish(&obj);
	finish(&other);
}

TEST(a_locked_walk_yields_signalled_fences_too)
{
	struct dma_fence *fences[5], *fence;
	struct dma_resv_iter cursor;
	struct dma_resv obj;
	unsigned int i;

	dma_resv_init(&obj);
	for (i = 0; i < 5; i++) {
		fences[i] = make(10 + i, 1);
		add(&obj, fences[i], usages[i % 4]);
	}
	dma_fence_signal(fences[1]);
	i = 0;
	lock(&obj);
	dma_resv_for_each_fence(&cursor, &obj, BOOKKEEP, fence)
	{
		t_ok(fence == fences[i]);
		t_eq(dma_resv_iter_usage(&cursor), usages[i % 4]);
		t_eq(dma_resv_iter_is_restarted(&cursor), i == 0);
		t_eq(fence->refcount, 1);
		i++;
	}
	dma_resv_iter_end(&cursor);
	dma_resv_unlock(&obj);
	t_eq(i, 5);
	finish(&obj);
}

TEST(an_unlocked_walk_yields_references_to_pending_fences)
{
	struct dma_fence *fences[6], *fence;
	struct dma_resv_iter cursor;
	struct dma_resv obj;
	unsigned int i;

	dma_resv_init(&obj);
	for (i = 0; i < 6; i++) {
		fences[i] = make(10 + i, 1);
		add(&obj, fences[i], READ);
	}
	dma_fence_signal(fences[0]);
	dma_fence_signal(fences[3]);
	i = 1;
	dma_resv_iter_begin(&cursor, &obj, READ);
	dma_resv_for_each_fence_unlocked(&cursor, fence)
	{
		t_ok(fence == fences[i]);
		t_eq(fence->refcount, 2);
		t_eq(dma_resv_iter_is_restarted(&cursor), i == 1);
		i += i == 2 ? 2 : 1;
		if (i == 5)
			break;
	}
	/* left early: the end gives the reference back */
	dma_resv_iter_end(&cursor);
	for (i = 1; i < 6; i++)
		t_eq(fences[i]->refcount, 1);
	finish(&obj);
}

TEST(objects_are_locked_together)
{
	struct ww_acquire_ctx ctx;
	struct dma_resv a, b;

	dma_resv_init(&a);
	dma_resv_init(&b);
	ww_acquire_init(&ctx, &reservation_ww_class);
	t_err(dma_resv_lock(&a, &ctx), 0);
	t_ok(dma_resv_locking_ctx(&a) == &ctx);
	/* 89 */
	t_err(dma_resv_lock(&a, &ctx), -EALREADY);
	t_ok(!dma_resv_trylock(&a));
	/* 90, 96: told to back off */
	t_err(mmn_inject_set(MMN_INJECT_WW_DEADLOCK, 1, 0), 0);
	t_err(dma_resv_lock(&b, &ctx), -EDEADLK);
	mmn_inject_clear();
	dma_resv_unlock(&a);
	dma_resv_lock_slow(&b, &ctx);
	t_err(dma_resv_lock_interruptible(&a, &ctx), 0);
	ww_acquire_done(&ctx);
	t_ok(dma_resv_held(&a));
	t_ok(dma_resv_held(&b));
	dma_resv_unlock(&a);
	dma_resv_unlock(&b);
	ww_acquire_fini(&ctx);
	finish(&a);
	finish(&b);
}

static struct dma_resv contended;
static pthread_barrier_t locked, tried;

static void *hold_contended(void *unused)
{
	(void)unused;
	lock(&contended);
	pthread_barrier_wait(&locked);
	pthread_barrier_wait(&tried);
	dma_resv_unlock(&contended);
	return NULL;
}

TEST(waiting_for_a_lock_is_interrupted)
{
	struct dma_fence_cancel cancel = { 0 };
	struct ww_acquire_ctx ctx;
	struct dma_resv other;
	pthread_t thread;

	dma_resv_init(&contended);
	dma_resv_init(&other);
	pthread_barrier_init(&locked, NULL, 2);
	pthread_barrier_init(&tried, NULL, 2);
	pthread_create(&thread, NULL, hold_contended, NULL);
	pthread_barrier_wait(&locked);
	dma_fence_cancel_bind(&cancel);
	dma_fence_cancel_raise(&cancel);
	t_err(dma_resv_lock_interruptible(&contended, NULL), -EINTR);
	t_ok(!dma_resv_held(&contended));
	ww_acquire_init(&ctx, &reservation_ww_class);
	t_err(dma_resv_lock(&other, &ctx), 0);
	t_err(mmn_inject_set(MMN_INJECT_WW_DEADLOCK, 1, 0), 0);
	t_err(dma_resv_lock(&contended, &ctx), -EDEADLK);
	mmn_inject_clear();
	dma_resv_unlock(&other);
	t_err(dma_resv_lock_slow_interruptible(&contended, &ctx), -EINTR);
	ww_acquire_fini(&ctx);
	dma_fence_cancel_bind(NULL);
	pthread_barrier_wait(&tried);
	pthread_join(thread, NULL);
	t_ok(!dma_resv_is_locked(&contended));
	finish(&contended);
	finish(&other);
}

/* 97 */
TEST(a_context_of_another_class_is_refused)
{
	static DEFINE_WD_CLASS(class);
	struct ww_acquire_ctx ctx;
	struct dma_resv obj;

	dma_resv_init(&obj);
	ww_acquire_init(&ctx, &class);
	t_bug_expected("of two classes");
	t_err(dma_resv_lock(&obj, &ctx), -EINVAL);
	t_ok(!dma_resv_is_locked(&obj));
	ww_acquire_fini(&ctx);
	finish(&obj);
}

/* 97 */
TEST(an_unlock_by_another_thread_is_reported)
{
	pthread_t thread;

	dma_resv_init(&contended);
	pthread_barrier_init(&locked, NULL, 2);
	pthread_barrier_init(&tried, NULL, 2);
	pthread_create(&thread, NULL, hold_contended, NULL);
	pthread_barrier_wait(&locked);
	t_bug_expected("does not hold it");
	dma_resv_unlock(&contended);
	t_ok(dma_resv_is_locked(&contended));
	pthread_barrier_wait(&tried);
	pthread_join(thread, NULL);
	finish(&contended);
}
