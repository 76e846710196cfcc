/* SPDX-License-Identifier: MIT */
/*
 * Reservation objects and their locks.
 *
 *	CPU0: tests                        CPU1
 *
 *	table[0]: A
 *	                                   table[0] = B, pending
 *	                                   A signals
 *	A has signalled
 *	[idle, but there was always one pending]
 */
#include <mmn/dma-resv.h>
#include <stdlib.h>

#include "fence/fence.h"
#include "ladder/gallery/gallery.h"
#include "ladder/gallery/help.h"
#include "ladder/scenario.h"

static struct {
	struct dma_resv obj;
	/* both on one timeline */
	struct dma_fence *a, *b;
	/* of the producer's, before A signals */
	int data;
} resv;

static void add(struct dma_fence *fence)
{
	ladder_assert(!dma_resv_lock(&resv.obj, NULL));
	ladder_assert(!dma_resv_reserve_fences(&resv.obj, 1));
	dma_resv_add_fence(&resv.obj, fence, DMA_RESV_USAGE_WRITE);
	dma_resv_unlock(&resv.obj);
}

static void set_up_empty(void)
{
	dma_resv_init(&resv.obj);
	resv.a = make_fence(&gallery_ops, 1, 1);
	resv.b = make_fence(&gallery_ops, 1, 2);
	resv.data = 0;
	ladder_name(&resv.obj.seq, "seq");
	ladder_name(&resv.obj.fences, "list");
	ladder_name(&resv.obj.lock, "lock");
	ladder_name(&resv.a->flags, "a.flags");
	ladder_name(&resv.b->flags, "b.flags");
	ladder_name(&resv.data, "data");
}

static void set_up(void)
{
	set_up_empty();
	add(resv.a);
}

/* B, which is to take the place of A, is not made: its memory was something else. */
static void set_up_unmade(void)
{
	set_up();
	memset(resv.b, 0x01, sizeof(*resv.b));
}

static void make_and_add(void)
{
	dma_fence_init(resv.b, &gallery_ops, NULL, 1, 2);
	add(resv.b);
}

static void walk(void)
{
	struct dma_resv_iter cursor;
	struct dma_fence *fence;

	dma_resv_iter_begin(&cursor, &resv.obj, DMA_RESV_USAGE_READ);
	fence = dma_resv_iter_first_unlocked(&cursor);
	if (fence)
		/* relaxed: constant for one life */
		ladder_assert(mmn_load_relaxed(&fence->context) == 1);
	dma_resv_iter_end(&cursor);
}

/* There is a pending fence all the time. */
static void replace_and_signal(void)
{
	ladder_note("B for A, then A signals");
	add(resv.b);
	dma_fence_signal(resv.a);
}

static void signal_a(void)
{
	resv.data = 1;
	dma_fence_signal(resv.a);
}

static void test(void)
{
	ladder_note("is it idle?");
	ladder_assert(!dma_resv_test_signaled(&resv.obj, DMA_RESV_USAGE_READ));
}

static void test_strictly(void)
{
	ladder_note("is it idle? strictly");
	ladder_assert(
		!dma_resv_test_signaled_strict(&resv.obj, DMA_RESV_USAGE_READ));
}

static void read_if_idle(void)
{
	if (dma_resv_test_signaled(&resv.obj, DMA_RESV_USAGE_READ))
		ladder_assert(resv.data == 1);
}

/* Takes A out if it has signalled. */
static void reserve(void)
{
	ladder_assert(!dma_resv_lock(&resv.obj, NULL));
	ladder_assert(!dma_resv_reserve_fences(&resv.obj, 1));
	dma_resv_unlock(&resv.obj);
}

/* B, which is pending, is behind A, so that the list does not get shorter. */
static void set_up_two(void)
{
	set_up();
	resv.b->context = 2;
	add(resv.b);
}

static void read_if_left(void)
{
	struct dma_resv_iter cursor;

	dma_resv_iter_begin(&cursor, &resv.obj, DMA_RESV_USAGE_READ);
	if (dma_resv_iter_first_unlocked(&cursor) == resv.b)
		ladder_assert(resv.data == 1);
	dma_resv_iter_end(&cursor);
}

const struct ladder_scenario resv_test = {
	.name = "resv-test",
	.what = "is a buffer idle? one walk over its fences, without the lock",
	.explanation =
		"A later fence takes the place of A, and then A signals.  Who "
		"has found A before\nsays idle, though a fence was pending at "
		"each moment.  No barrier helps: the walk\nhas to learn that the "
		"list was changed meanwhile (resv-strict).",
	.fails = true,
	.setup = set_up,
	.each = number_thread,
	.threads = { test, replace_and_signal },
	.titles = { "tests", "adds, signals" },
};

const struct ladder_scenario resv_strict = {
	.name = "resv-strict",
	.what = "the same with the strict test",
	.explanation =
		"A number is odd while a fence is put somewhere.  If it is the "
		"same even number\nbefore and after the walk, nothing was put "
		"anywhere meanwhile.",
	.setup = set_up,
	.each = number_thread,
	.threads = { test_strictly, replace_and_signal },
	.titles = { "tests", "adds, signals" },
};

const struct ladder_scenario resv_idle = {
	.name = "resv-idle",
	.what = "who finds a buffer idle reads what the device wrote",
	.explanation = "The flag of the fence is read with acquire, also "
		       "without a reference.",
	.setup = set_up,
	.each = number_thread,
	.threads = { signal_a, read_if_idle },
	.titles = { "producer", "tests" },
};

const struct ladder_scenario resv_made = {
	.name = "resv-made",
	.what = "a buffer gets a fence while somebody walks over its fences",
	.explanation = "Who finds the fence finds it made.",
	.setup = set_up_unmade,
	.each = number_thread,
	.threads = { walk, make_and_add },
	.titles = { "walks", "adds" },
};

const struct ladder_scenario resv_dropped = {
	.name = "resv-dropped",
	.what = "the same when a writer has taken the fence out meanwhile",
	.explanation = "The writer has seen the signal, and hands that on "
		       "with the list that is shorter.",
	.setup = set_up,
	.each = number_thread,
	.threads = { signal_a, read_if_idle, reserve },
	.titles = { "producer", "tests", "reserves" },
};

const struct ladder_scenario resv_emptied = {
	.name = "resv-emptied",
	.what = "a walk comes to the place of a fence that was taken out",
	.explanation = "The writer has seen the signal, and hands that on "
		       "with the empty place.",
	.setup = set_up_two,
	.each = number_thread,
	.threads = { signal_a, read_if_left, reserve },
	.titles = { "producer", "walks", "reserves" },
};
