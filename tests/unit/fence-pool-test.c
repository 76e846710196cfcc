/* SPDX-License-Identifier: MIT */
/*
 * Fences whose memory is used again at once.  What is right for other fences is
 * shown to be wrong for these, and the ways in to be right.  The numbers in
 * comments are those of the conformance cases.
 */
#include "t/tap.h"
#include "unit/answer-syscall.h"

#include <mmn/dma-fence-pool.h>
#include <mmn/inject.h>
#include <pthread.h>
#include <stdlib.h>

enum { MINE = 10, FOREIGN = 20 };

struct job {
	struct dma_fence base;
	/* who made it; written before the fence is born */
	uint64_t owner;
};

static const char *name(struct dma_fence *fence)
{
	return "pool";
}

static const struct dma_fence_ops ops = {
	.get_driver_name = name,
	.get_timeline_name = name,
};

static unsigned int nr_released;

static void release(struct dma_fence *fence)
{
	__atomic_fetch_add(&nr_released, 1, __ATOMIC_SEQ_CST);
	dma_fence_pool_free(fence);
}

static const struct dma_fence_ops release_ops = {
	.get_driver_name = name,
	.get_timeline_name = name,
	.release = release,
};

static struct dma_fence_pool *pool;

static struct dma_fence *make(uint64_t owner)
{
	struct dma_fence *fence = dma_fence_pool_alloc(pool);

	t_ok(fence);
	__atomic_store_n(&((struct job *)fence)->owner, owner,
			 __ATOMIC_RELAXED);
	dma_fence_pool_init(fence, &ops, NULL, owner, 1);
	return fence;
}

static void begin(void)
{
	t_may_keep_mapped(64 << 20, "the thread that frees stays");
	t_err(dma_fence_pool_create(sizeof(struct job), &pool), 0);
}

static void end(void)
{
	dma_fence_pool_destroy(pool);
	dma_fence_barrier();
}

TEST(memory_is_used_again_at_once)
{
	struct dma_fence *fence, *again;

	begin();
	fence = make(MINE);
	dma_fence_put(fence);
	t_ok(!dma_fence_get_rcu(fence));
	again = make(FOREIGN);
	t_ok(again == fence);
	t_eq(again->context, FOREIGN);
	t_eq(again->refcount, 1);
	t_ok(!dma_fence_is_signaled(again));
	dma_fence_put(again);
	end();
}

/* Mail 003: what the naive reader does, in the order that misleads him. */
TEST(a_naive_reference_is_to_a_stranger)
{
	struct dma_fence *slot, *found, *stranger;

	begin();
	slot = make(MINE);
	/* The reader loads the slot; then the writer replaces it. */
	found = slot;
	slot = dma_fence_get_stub();
	dma_fence_put(found);
	stranger = make(FOREIGN);
	/* The reader goes on, gets a reference, and has a stranger. */
	t_ok(dma_fence_get_rcu(found) == stranger);
	t_eq(found->context, FOREIGN);
	dma_fence_put(found);
	/* The safe way finds what is in the slot. */
	dma_fence_read_begin();
	found = dma_fence_get_rcu_safe(&slot);
	dma_fence_read_end();
	t_ok(found == slot);
	dma_fence_put(found);
	dma_fence_put(slot);
	dma_fence_put(stranger);
	end();
}

TEST(a_naive_look_sees_a_stranger)
{
	struct dma_fence_slot slot = { 0 };
	struct dma_fence *found, *stranger;

	begin();
	t_ok(dma_fence_slot_test_signaled(&slot));
	found = make(MINE);
	t_ok(!dma_fence_slot_set(&slot, found));
	/* The reader has loaded the pointer when the writer replaces it. */
	dma_fence_put(dma_fence_slot_set(&slot, make(MINE)));
	stranger = make(FOREIGN);
	t_ok(stranger == found);
	dma_fence_signal(stranger);
	/* Nothing of the reader's has ever signalled. */
	t_ok(dma_fence_test_signaled_flag(found));
	t_ok(!dma_fence_slot_test_signaled(&slot));
	dma_fence_put(dma_fence_slot_set(&slot, NULL));
	dma_fence_put(stranger);
	end();
}

TEST(a_slot_tells_two_lives_of_one_memory_apart)
{
	struct dma_fence_slot slot = { 0 };
	struct dma_fence *fence;
	uint64_t before;

	begin();
	fence = make(MINE);
	t_ok(!dma_fence_slot_set(&slot, fence));
	before = slot.word;
	dma_fence_put(dma_fence_slot_set(&slot, NULL));
	t_ok(!dma_fence_slot_get(&slot));
	t_ok(make(MINE) == fence);
	t_ok(!dma_fence_slot_set(&slot, fence));
	t_ne(slot.word, before);
	t_ok(dma_fence_slot_get(&slot) == fence);
	t_eq(fence->refcount, 2);
	dma_fence_put(fence);
	dma_fence_put(dma_fence_slot_set(&slot, NULL));
	end();
}

/* A reader may be held up in the middle of a look for as long as it pleases. */
TEST(a_number_does_not_come_back_under_a_reader)
{
	struct dma_fence_slot slot = { 0 };
	struct dma_fence *fence, *again[4];
	unsigned int i, nr_same = 0;
	uint64_t before;

	begin();
	dma_fence_read_begin();
	fence = make(MINE);
	t_ok(!dma_fence_slot_set(&slot, fence));
	before = slot.word;
	for (i = 0; i < 3 * 65536; i++) {
		dma_fence_put(dma_fence_slot_set(&slot, NULL));
		t_ok(!dma_fence_slot_set(&slot, make(MINE)));
		nr_same += slot.word == before;
	}
	t_eq(nr_same, 0);
	t_ok((slot.word ^ before) << 16);
	dma_fence_read_end();
	dma_fence_put(dma_fence_slot_set(&slot, NULL));
	/* The first ones have rested, and are used again. */
	dma_fence_barrier();
	for (i = 0; i < 4; i++) {
		again[i] = make(MINE);
		nr_same += again[i] == fence;
	}
	t_eq(nr_same, 1);
	for (i = 0; i < 4; i++)
		dma_fence_put(again[i]);
	end();
}

static struct dma_fence *plain_slot;
static struct dma_fence_slot tagged_slot;
static bool stop;

struct reader {
	pthread_t thread;
	uint64_t nr_found;
	uint64_t nr_strangers;
	uint64_t nr_signaled;
};

static void note_fence(struct reader *reader, struct dma_fence *fence)
{
	struct job *job = (struct job *)fence;

	if (!fence)
		return;
	reader->nr_found++;
	reader->nr_strangers += fence->context != MINE || job->owner != MINE;
	dma_fence_put(fence);
}

static void *read_slots(void *arg)
{
	struct reader *reader = arg;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		struct dma_fence *fence;

		dma_fence_read_begin();
		fence = dma_fence_get_rcu_safe(&plain_slot);
		dma_fence_read_end();
		note_fence(reader, fence);
		note_fence(reader, dma_fence_slot_get(&tagged_slot));
		reader->nr_signaled +=
			dma_fence_slot_test_signaled(&tagged_slot);
	}
	return NULL;
}

/* As a stranger the memory signals at once; in a slot it never does. */
static void be_a_stranger(void)
{
	struct dma_fence *stranger = make(FOREIGN);

	dma_fence_signal(stranger);
	dma_fence_put(stranger);
}

static void replace_once(void)
{
	struct dma_fence *old = plain_slot;

	__atomic_store_n(&plain_slot, make(MINE), __ATOMIC_RELEASE);
	dma_fence_put(old);
	be_a_stranger();
	dma_fence_put(dma_fence_slot_set(&tagged_slot, make(MINE)));
	be_a_stranger();
}

/* 21, 22, 23 */
TEST(readers_find_what_was_in_the_slot, .timeout = 60)
{
	struct reader readers[2] = { { .nr_found = 0 } };
	unsigned int i, nr_replaced = t_size(300000, 10000000);
	struct dma_fence *null_slot = NULL;

	begin();
	dma_fence_read_begin();
	t_ok(!dma_fence_get_rcu_safe(&null_slot));
	dma_fence_read_end();
	plain_slot = make(MINE);
	t_ok(!dma_fence_slot_set(&tagged_slot, make(MINE)));
	for (i = 0; i < 2; i++)
		t_err(pthread_create(&readers[i].thread, NULL, read_slots,
				     &readers[i]),
		      0);
	for (i = 0; i < nr_replaced; i++)
		replace_once();
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < 2; i++) {
		pthread_join(readers[i].thread, NULL);
		t_note("%llu found", (unsigned long long)readers[i].nr_found);
		t_eq(readers[i].nr_strangers, 0);
		t_eq(readers[i].nr_signaled, 0);
	}
	dma_fence_put(plain_slot);
	dma_fence_put(dma_fence_slot_set(&tagged_slot, NULL));
	end();
}

/* 23 */
TEST(the_producers_release_is_called)
{
	struct dma_fence *fence;

	begin();
	fence = dma_fence_pool_alloc(pool);
	dma_fence_pool_init(fence, &release_ops, NULL, MINE, 1);
	dma_fence_put(fence);
	t_eq(nr_released, 1);
	dma_fence_pool_free(NULL);
	dma_fence_pool_destroy(NULL);
	end();
}

TEST(a_pool_may_be_refused)
{
	begin();
	t_err(dma_fence_pool_create(sizeof(struct dma_fence) - 1, &pool),
	      -EINVAL);
	t_err(dma_fence_pool_create(65537, &pool), -EINVAL);
	t_err(dma_fence_pool_create(1024, NULL), -EINVAL);
	t_err(mmn_inject_set(MMN_INJECT_ALLOC, 1, 1), 0);
	t_ok(!dma_fence_pool_alloc(pool));
	t_err(dma_fence_pool_create(1024, &pool), -ENOMEM);
	mmn_inject_clear();
	end();
}

static void create_none(void)
{
	struct dma_fence_pool *none = NULL;

	t_err(dma_fence_pool_create(1024, &none), -EAGAIN);
	t_ok(!none);
}

TEST(a_pool_without_a_thread_is_not_made)
{
	run_without_threads(create_none);
}

TEST(many_fences_lie_side_by_side)
{
	struct dma_fence *fences[100];
	int i;

	begin();
	for (i = 0; i < 100; i++)
		fences[i] = make((uint64_t)i);
	for (i = 0; i < 100; i++) {
		t_eq(fences[i]->context, i);
		t_eq((uintptr_t)fences[i] % 16, 0);
		dma_fence_put(fences[i]);
	}
	end();
}

TEST(a_pool_in_use_is_not_destroyed)
{
	struct dma_fence *fence;

	begin();
	fence = make(MINE);
	t_bug_expected("while fences of it are in use");
	dma_fence_pool_destroy(pool);
	t_eq(fence->context, MINE);
	dma_fence_put(fence);
	end();
}
