/* SPDX-License-Identifier: MIT */
/*
 * Finding a fence without a lock: linux-dri-devel, June 2021.
 *
 * Memory of fences may be used again at once (the kernel's SLAB_TYPESAFE_BY_RCU,
 * here dma_fence_pool).  Who looks at a fence that he has found in a slot looks at
 * memory that may be another fence by now.
 *
 *	CPU0: looks                        CPU1: the producer
 *
 *	f = slot: A
 *	                                   slot = B, a later one
 *	                                   put A, the last reference
 *	                                   A's memory: C, of another timeline
 *	get a reference to A
 *	[it is C]
 *
 * L1  who finds a fence in the slot finds one of the slot's own timeline.
 * L2  the slot's timeline always has a pending fence: it is never idle.
 */
#include <mmn/dma-fence-pool.h>
#include <mmn/dma-fence.h>
#include <stdlib.h>

#include "base/atomic.h"
#include "base/rcu.h"
#include "fence/fence.h"
#include "ladder/gallery/gallery.h"
#include "ladder/gallery/help.h"
#include "ladder/scenario.h"

enum { OURS = 1, THEIRS = 2 };

static struct {
	struct dma_fence_pool *pool;
	/* two that are pending, on our timeline */
	struct dma_fence *a, *b;
	/* memory for another one that has been something else */
	struct dma_fence *fresh;
	/* atomic: the newest of our timeline, as a pointer */
	struct dma_fence *newest;
	/* and as a slot that counts lives */
	struct dma_fence_slot slot;
} lookup;

static void name_all(void)
{
	ladder_name(&lookup.a->flags, "a.flags");
	ladder_name(&lookup.a->refcount, "a.refcount");
	ladder_name(&lookup.a->context, "a.context");
	ladder_name(&lookup.a->life, "a.life");
	ladder_name(&lookup.b->flags, "b.flags");
	ladder_name(&lookup.b->refcount, "b.refcount");
	ladder_name(&lookup.b->context, "b.context");
	ladder_name(&lookup.b->life, "b.life");
	ladder_name(&lookup.newest, "newest");
	ladder_name(&lookup.slot.word, "slot");
}

static struct dma_fence *recycled(uint64_t context, uint64_t seqno)
{
	struct dma_fence *fence = dma_fence_pool_alloc(lookup.pool);

	ladder_assert(fence);
	dma_fence_pool_init(fence, &gallery_ops, NULL, context, seqno);
	return fence;
}

/* What was in it keeps the reference. */
static void set_slot(struct dma_fence *fence)
{
	struct dma_fence *old = dma_fence_slot_set(&lookup.slot, fence);

	ladder_assert(!old || old == lookup.a);
}

static void set_up(void)
{
	ladder_assert(
		!dma_fence_pool_create(sizeof(struct dma_fence), &lookup.pool));
	lookup.a = recycled(OURS, 1);
	lookup.b = recycled(OURS, 2);
	lookup.fresh = malloc(sizeof(*lookup.fresh));
	memset(lookup.fresh, 0xff, sizeof(*lookup.fresh));
	lookup.newest = lookup.a;
	lookup.slot.word = 0;
	set_slot(lookup.a);
	name_all();
}

/* One that is the last of its memory before the count of lives begins anew. */
static void set_up_last_life(void)
{
	ladder_assert(
		!dma_fence_pool_create(sizeof(struct dma_fence), &lookup.pool));
	lookup.a = dma_fence_pool_alloc(lookup.pool);
	lookup.a->life = UINT16_MAX - 1;
	dma_fence_pool_init(lookup.a, &gallery_ops, NULL, OURS, 1);
	ladder_name(&lookup.a->refcount, "a.refcount");
}

static void set_up_freed(void)
{
	lookup.a = make_fence(&gallery_ops, OURS, 1);
	lookup.b = make_fence(&gallery_ops, OURS, 2);
	lookup.newest = lookup.a;
	name_all();
}

static void set_up_done(void)
{
	set_up();
	dma_fence_signal(lookup.a);
	dma_fence_signal(lookup.b);
}

/* ---- who looks ---- */

static void expect_ours(struct dma_fence *fence)
{
	/* relaxed: constant for one life */
	ladder_assert(mmn_load_relaxed(&fence->context) == OURS);
	dma_fence_put(fence);
}

static void look_naively(void)
{
	struct dma_fence *fence;

	ladder_note("get_rcu()");
	dma_fence_read_begin();
	fence = mmn_rcu_dereference(lookup.newest);
	fence = dma_fence_get_rcu(fence);
	dma_fence_read_end();
	if (fence)
		expect_ours(fence);
}

static void look_safely(void)
{
	struct dma_fence *fence;

	ladder_note("get_rcu_safe()");
	dma_fence_read_begin();
	fence = dma_fence_get_rcu_safe(&lookup.newest);
	dma_fence_read_end();
	expect_ours(fence);
}

static void look_in_slot(void)
{
	ladder_note("slot_get()");
	expect_ours(dma_fence_slot_get(&lookup.slot));
}

/* The four lines of the mail: is our timeline idle? */
static void ask_in_four_lines(void)
{
	struct dma_fence *fence;
	bool idle;

	dma_fence_read_begin();
	fence = mmn_rcu_dereference(lookup.newest);
	idle = !fence || dma_fence_test_signaled_flag(fence);
	dma_fence_read_end();
	ladder_assert(!idle);
}

/* As it is, or as it was: whatever is in the slot has signalled. */
static void ask_slot_done(void)
{
	ladder_note("slot_test_signaled()");
	ladder_assert(dma_fence_slot_test_signaled(&lookup.slot));
}

static void ask_slot(void)
{
	ladder_note("slot_test_signaled()");
	ladder_assert(!dma_fence_slot_test_signaled(&lookup.slot));
}

/* ---- the producer ---- */

static void publish(struct dma_fence *fence)
{
	ladder_note("a later fence");
	/*
	 * pair(fence_slot): release, with the acquire in
	 * dma_fence_get_rcu_safe().  Without it the fence may be seen before it
	 * is made.
	 */
	mmn_store_release(&lookup.newest, fence);
}

static struct dma_fence *use_memory_again(void)
{
	dma_fence_put(lookup.a);
	ladder_note("A's memory: another's");
	return recycled(THEIRS, 1);
}

static void replace_and_recycle(void)
{
	publish(lookup.b);
	use_memory_again();
}

static void replace_and_signal(void)
{
	publish(lookup.b);
	dma_fence_signal(use_memory_again());
}

/* A fence that is made now, in fresh memory. */
static void make_and_publish(void)
{
	dma_fence_init(lookup.fresh, &gallery_ops, NULL, OURS, 3);
	publish(lookup.fresh);
}

static void free_without_signal(void)
{
	publish(lookup.b);
	dma_fence_put(lookup.a);
}

static void replace_in_slot(void)
{
	set_slot(lookup.b);
	use_memory_again();
}

static void make_in_slot(void)
{
	dma_fence_init(lookup.fresh, &gallery_ops, NULL, OURS, 3);
	set_slot(lookup.fresh);
}

static void signal_outside_slot(void)
{
	set_slot(lookup.b);
	dma_fence_signal(use_memory_again());
}

/* ---- the end of a pool ---- */

static void drop_last(void)
{
	ladder_note("drops the last fence");
	dma_fence_put(lookup.a);
}

static void destroy_pool(void)
{
	ladder_note("destroys the pool");
	dma_fence_pool_destroy(lookup.pool);
}

const struct ladder_scenario fence_naive = {
	.name = "fence-naive",
	.what = "a fence is found without a lock, and get_rcu() is all",
	.explanation =
		"The slot is read, then the fence leaves it, and its memory "
		"becomes a fence of\nanother timeline.  A reference count that "
		"is not 0 says that there is a fence, not\nwhich one.  No "
		"barrier helps: look at the slot again when the reference is "
		"there\n(fence-safe).",
	.fails = true,
	.setup = set_up,
	.threads = { look_naively, replace_and_recycle },
	.titles = { "get_rcu", "producer" },
};

const struct ladder_scenario fence_safe = {
	.name = "fence-safe",
	.what = "the same with dma_fence_get_rcu_safe()",
	.explanation =
		"The slot has a reference of its own.  So what is still in it "
		"when the reader's\nreference is there has been the right fence "
		"all the time, or is again.",
	.setup = set_up,
	.threads = { look_safely, replace_and_recycle },
	.titles = { "get_rcu_safe", "producer" },
};

const struct ladder_scenario fence_safe_made = {
	.name = "fence-safe-made",
	.what = "the same while a fence is made in fresh memory",
	.explanation = "The pointer to a fence is published behind the fence, "
		       "and read before it.",
	.setup = set_up,
	.threads = { look_safely, make_and_publish },
	.titles = { "get_rcu_safe", "producer" },
};

const struct ladder_scenario fence_four_lines = {
	.name = "fence-four-lines",
	.what = "mail 003: is the fence in the slot signalled? four lines",
	.explanation =
		"rcu_read_lock(), a pointer, a bit, rcu_read_unlock(): the mail "
		"asks whether that\nis right.  It is not when memory of fences "
		"is used again inside of a grace period:\nthe bit is that of "
		"the next fence there, and the timeline looks idle though "
		"each\nof its fences is pending.",
	.fails = true,
	.setup = set_up,
	.threads = { ask_in_four_lines, replace_and_signal },
	.titles = { "four lines", "producer" },
};

const struct ladder_scenario fence_four_lines_rcu = {
	.name = "fence-four-lines-rcu",
	.what = "the same four lines, fences are freed after a grace period",
	.explanation =
		"What the pointer leads to stays what it is until the end of "
		"the read section,\nand a bit that is set once is never "
		"unset: the four lines are right, if all\nproducers keep to "
		"that.",
	.setup = set_up_freed,
	.threads = { ask_in_four_lines, free_without_signal,
		     ladder_call_deferred },
	.titles = { "four lines", "producer", "deferred" },
};

const struct ladder_scenario fence_slot_get = {
	.name = "fence-slot-get",
	.what = "a slot that counts lives: a reference to what is in it",
	.explanation = "The word of the slot has the pointer and the count of "
		       "lives: likewise.",
	.setup = set_up,
	.threads = { look_in_slot, replace_in_slot },
	.titles = { "slot_get", "producer" },
};

const struct ladder_scenario fence_slot_made = {
	.name = "fence-slot-made",
	.what = "the same while a fence is made in fresh memory",
	.explanation = "The word of the slot is published behind the fence.",
	.setup = set_up,
	.threads = { look_in_slot, make_in_slot },
	.titles = { "slot_get", "producer" },
};

const struct ladder_scenario fence_slot_test = {
	.name = "fence-slot-test",
	.what = "the same: is it signalled? without taking a reference",
	.explanation =
		"The bit is believed when the slot has the same pointer and the "
		"same life\nafterwards: nobody writes, no references are fought "
		"for.",
	.setup = set_up,
	.threads = { ask_slot, signal_outside_slot },
	.titles = { "slot_test", "producer" },
};

const struct ladder_scenario fence_slot_test_done = {
	.name = "fence-slot-test-done",
	.what = "the same, and all that is ever in the slot has signalled",
	.explanation = "The next life of the memory, which is pending, is not "
		       "taken for the last one.",
	.setup = set_up_done,
	.threads = { ask_slot_done, replace_in_slot },
	.titles = { "slot_test", "producer" },
};

const struct ladder_scenario fence_slot_test_made = {
	.name = "fence-slot-test-made",
	.what = "the same while a fence is made in fresh memory",
	.explanation = "The word of the slot is published behind the fence.",
	.setup = set_up,
	.threads = { ask_slot, make_in_slot },
	.titles = { "slot_test", "producer" },
};

const struct ladder_scenario fence_pool_end = {
	.name = "fence-pool-end",
	.what = "a pool is destroyed while its last fence is dropped",
	.explanation =
		"Memory that has to rest for a grace period is given back "
		"behind that.  The pool\nlearns of it when that is on its way, "
		"and goes behind it.",
	.setup = set_up_last_life,
	.threads = { drop_last, destroy_pool, ladder_call_deferred },
	.titles = { "drops", "destroys", "deferred" },
};
