/* SPDX-License-Identifier: MIT */
/*
 * Fences: signalling them, and everything that comes at the same time.
 *
 * What the producer has written before the signal is there for who learns of it,
 * in whatever way he does: plain words, so that anything missing is a race.
 */
#include <mmn/dma-fence-array.h>
#include <mmn/dma-fence-chain.h>
#include <stdlib.h>

#include "fence/fence.h"
#include "ladder/gallery/gallery.h"
#include "ladder/gallery/help.h"
#include "ladder/scenario.h"

static struct {
	struct dma_fence *a, *b;
	/* of the producer's: written before A, and B, signal */
	int data_a, data_b;
	/* what the enable op uses until the fence has signalled */
	int *engine;
	/* of a producer that leaves */
	struct dma_fence_ops *ops;
	struct dma_fence *whole, *middle;
	struct dma_fence_cb cb;
	/* atomic: how often it was called */
	int called;
	bool added;
	/* what the callback uses */
	int *object;
} fences;

static void name_fence(struct dma_fence *fence, const char *flags,
		       const char *list_lock)
{
	ladder_name(&fence->flags, flags);
	ladder_name(&fence->list_lock, list_lock);
}

static void set_up_fences(const struct dma_fence_ops *fence_ops)
{
	fences.a = make_fence(fence_ops, 1, 1);
	fences.b = make_fence(fence_ops, 1, 2);
	fences.data_a = 0;
	fences.data_b = 0;
	fences.called = 0;
	fences.added = false;
	name_fence(fences.a, "a.flags", "a.list_lock");
	name_fence(fences.b, "b.flags", "b.list_lock");
	ladder_name(&fences.data_a, "data of a");
	ladder_name(&fences.data_b, "data of b");
	ladder_name(&fences.called, "called");
}

static void set_up(void)
{
	set_up_fences(&gallery_ops);
}

/* ---- producers ---- */

static void signal_a(void)
{
	ladder_note("writes, signals A");
	fences.data_a = 1;
	ladder_assert(!dma_fence_signal(fences.a));
}

static void signal_b(void)
{
	ladder_note("writes, signals B");
	fences.data_b = 1;
	ladder_assert(!dma_fence_signal(fences.b));
}

/* ---- who learns of it ---- */

static void ask(void)
{
	if (!dma_fence_test_signaled_flag(fences.a))
		return;
	ladder_assert(fences.data_a == 1);
	ladder_assert(dma_fence_timestamp(fences.a) == 1000000000);
}

static void count_call(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	(void)fence;
	(void)cb;
	ladder_note("callback");
	ladder_assert(fences.data_a == 1);
	/* relaxed: read when all is over */
	mmn_fetch_add_relaxed(&fences.called, 1);
}

static void add(void)
{
	ladder_note("add_callback()");
	fences.added =
		!dma_fence_add_callback(fences.a, &fences.cb, count_call);
	if (!fences.added)
		ladder_assert(fences.data_a == 1);
}

static void called_if_added(void)
{
	ladder_assert(fences.called == fences.added);
}

static void use_object(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	(void)fence;
	(void)cb;
	ladder_note("callback");
	*fences.object = 1;
}

static void set_up_object(void)
{
	set_up();
	fences.object = calloc(1, sizeof(*fences.object));
	ladder_assert(
		!dma_fence_add_callback(fences.a, &fences.cb, use_object));
	ladder_name(fences.object, "object");
}

static void remove_and_free(void)
{
	ladder_note("remove_callback()");
	dma_fence_remove_callback(fences.a, &fences.cb);
	free(fences.object);
}

static void wait_for_a(void)
{
	ladder_note("wait()");
	ladder_assert(!dma_fence_wait(fences.a, false));
	ladder_assert(fences.data_a == 1);
}

static void wait_for_any(void)
{
	struct dma_fence *both[] = { fences.a, fences.b };
	uint32_t first;

	ladder_note("wait_any()");
	ladder_assert(dma_fence_wait_any_timeout(both, 2, false,
						 DMA_FENCE_TIMEOUT_MAX,
						 &first) > 0);
	ladder_assert(first == 0);
	ladder_assert(fences.data_a == 1);
}

/* ---- the enable op ---- */

static bool start_engine(struct dma_fence *fence)
{
	(void)fence;
	ladder_note("enable op");
	*fences.engine = 1;
	return true;
}

static const struct dma_fence_ops enabled_ops = {
	.get_driver_name = gallery_name,
	.get_timeline_name = gallery_name,
	.enable_signaling = start_engine,
};

static void set_up_engine(void)
{
	set_up_fences(&enabled_ops);
	fences.engine = calloc(1, sizeof(*fences.engine));
	ladder_name(fences.engine, "engine");
}

static void enable(void)
{
	ladder_note("enable");
	dma_fence_enable_sw_signaling(fences.a);
}

static void signal_and_leave(void)
{
	signal_a();
	ladder_note("the producer leaves");
	free(fences.engine);
}

/* ---- the producer leaves after a consumer has signalled ---- */

static bool says_signaled(struct dma_fence *fence)
{
	(void)fence;
	return true;
}

static void set_up_leaving(void)
{
	fences.ops = malloc(sizeof(*fences.ops));
	*fences.ops = gallery_ops;
	fences.ops->signaled = says_signaled;
	set_up_fences(fences.ops);
	ladder_name(&fences.a->ops, "a.ops");
	ladder_name(fences.ops, "ops");
}

static void ask_producer(void)
{
	ladder_note("is it signalled?");
	dma_fence_is_signaled(fences.a);
}

static void leave(void)
{
	ladder_note("signals, waits, leaves");
	dma_fence_signal_sync(fences.a);
	free(fences.ops);
}

static void read_name(void)
{
	ladder_note("reads the name");
	dma_fence_read_begin();
	ladder_assert(dma_fence_driver_name(fences.a));
	dma_fence_read_end();
}

/* ---- references ---- */

static void free_at_once(struct dma_fence *fence)
{
	free(fence);
}

static const struct dma_fence_ops freed_ops = {
	.get_driver_name = gallery_name,
	.get_timeline_name = gallery_name,
	.release = free_at_once,
};

static void set_up_shared(void)
{
	set_up_fences(&freed_ops);
	dma_fence_get(fences.a);
}

static void use_and_put(void)
{
	ladder_assert(!fences.a->error);
	dma_fence_put(fences.a);
}

static void drop(void)
{
	dma_fence_put(fences.a);
}

/* ---- arrays and chains: both have signalled ---- */

static void expect_both(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	(void)fence;
	(void)cb;
	ladder_note("the whole: callback");
	ladder_assert(fences.data_a == 1 && fences.data_b == 1);
	/* relaxed: read when all is over */
	mmn_fetch_add_relaxed(&fences.called, 1);
}

static void make_array(void)
{
	struct dma_fence **members = malloc(2 * sizeof(*members));
	struct dma_fence_array *array;

	set_up();
	members[0] = dma_fence_get(fences.a);
	members[1] = dma_fence_get(fences.b);
	array = dma_fence_array_create(2, members, 2, 1, false);
	fences.whole = &array->base;
	name_fence(fences.whole, "array.flags", "array.list_lock");
	ladder_name(&array->num_pending, "array.pending");
}

static void make_chain(void)
{
	struct dma_fence_chain *older = dma_fence_chain_alloc();
	struct dma_fence_chain *newer = dma_fence_chain_alloc();

	set_up();
	dma_fence_chain_init(older, NULL, dma_fence_get(fences.a), 1);
	dma_fence_chain_init(newer, &older->base, dma_fence_get(fences.b), 2);
	fences.whole = &newer->base;
	name_fence(&older->base, "older.flags", "older.list_lock");
	name_fence(fences.whole, "newer.flags", "newer.list_lock");
	ladder_name(&older->nr_pending, "older.pending");
	ladder_name(&newer->nr_pending, "newer.pending");
}

/* Three links; the fence of the one in the middle has signalled. */
static void make_long_chain(void)
{
	struct dma_fence_chain *newest = dma_fence_chain_alloc();

	make_chain();
	signal_b();
	dma_fence_chain_init(newest, fences.whole,
			     make_fence(&gallery_ops, 1, 3), 3);
	fences.middle = fences.whole;
	fences.whole = &newest->base;
	ladder_name(&newest->prev, "newest.prev");
	ladder_name(&fences.middle->refcount, "middle.refcount");
}

/* One link, behind A itself; the fence inside has signalled. */
static void make_short_chain(void)
{
	struct dma_fence_chain *link = dma_fence_chain_alloc();

	set_up();
	signal_b();
	dma_fence_chain_init(link, dma_fence_get(fences.a),
			     dma_fence_get(fences.b), 1);
	fences.whole = &link->base;
	ladder_name(&link->prev, "prev");
	ladder_name(&link->base.flags, "link.flags");
}

/* Takes A out if it has signalled. */
static void walk_short(void)
{
	dma_fence_put(dma_fence_chain_walk(dma_fence_get(fences.whole)));
}

/* Is A still before the link? */
static void look_before_short(void)
{
	struct dma_fence_chain *link = to_dma_fence_chain(fences.whole);
	struct dma_fence *before;

	dma_fence_read_begin();
	before = dma_fence_get_rcu_safe(&link->prev);
	dma_fence_read_end();
	if (!before)
		ladder_assert(fences.data_a == 1);
	dma_fence_put(before);
}

/* From the newest link; the one in the middle is taken out. */
static void walk(void)
{
	struct dma_fence *link;

	link = dma_fence_chain_walk(dma_fence_get(fences.whole));
	ladder_assert(dma_fence_chain_contained(link) == fences.a);
	dma_fence_put(link);
}

/* Looks at what is before the newest link, in a read section. */
static void look_before(void)
{
	struct dma_fence_chain *newest = to_dma_fence_chain(fences.whole);
	struct dma_fence *link;

	dma_fence_read_begin();
	link = dma_fence_get_rcu_safe(&newest->prev);
	dma_fence_read_end();
	ladder_assert(dma_fence_is_chain(link));
	dma_fence_put(link);
}

static void watch_whole(void)
{
	ladder_assert(
		!dma_fence_add_callback(fences.whole, &fences.cb, expect_both));
}

static void set_up_array(void)
{
	make_array();
	watch_whole();
}

static void set_up_chain(void)
{
	make_chain();
	watch_whole();
}

static void set_up_array_b_done(void)
{
	set_up_array();
	signal_b();
}

static void ask_whole(void)
{
	if (dma_fence_is_signaled(fences.whole))
		ladder_assert(fences.data_a == 1 && fences.data_b == 1);
}

static void whole_called_once(void)
{
	ladder_assert(fences.called == 1);
}

static void arm_whole(void)
{
	ladder_note("add_callback() to the whole");
	fences.added =
		!dma_fence_add_callback(fences.whole, &fences.cb, expect_both);
	if (!fences.added)
		ladder_assert(fences.data_a == 1 && fences.data_b == 1);
}

static void make_array_b_done(void)
{
	make_array();
	signal_b();
}

static void make_chain_b_done(void)
{
	make_chain();
	signal_b();
}

const struct ladder_scenario fence_signal = {
	.name = "fence-signal",
	.what = "a signal, and who sees the flag",
	.explanation = "Who sees the flag sees what was written before the "
		       "signal, and when it was.",
	.setup = set_up,
	.threads = { signal_a, ask },
	.titles = { "producer", "asks" },
};

const struct ladder_scenario fence_callback = {
	.name = "fence-callback",
	.what = "a signal while a callback is added",
	.explanation =
		"Both change the same word.  Whoever is second sees the other: "
		"either the signal\ncalls the callback, or who adds it is told "
		"that it is too late, and never both\nor neither.",
	.setup = set_up,
	.each = number_thread,
	.threads = { signal_a, add },
	.titles = { "producer", "adds" },
	.check = called_if_added,
};

const struct ladder_scenario fence_remove = {
	.name = "fence-remove",
	.what = "a signal while a callback is removed, and its object freed",
	.explanation =
		"A callback that is being called is waited for: afterwards "
		"nobody uses the object.",
	.setup = set_up_object,
	.each = number_thread,
	.threads = { signal_a, remove_and_free },
	.titles = { "producer", "removes" },
};

const struct ladder_scenario fence_sleeper = {
	.name = "fence-sleeper",
	.what = "a signal while somebody goes to sleep for it",
	.explanation =
		"The sleeper says so in the word that the signal changes, and "
		"sleeps on that word:\nthere is nothing between the two that "
		"could be lost.",
	.setup = set_up,
	.each = number_thread,
	.threads = { signal_a, wait_for_a },
	.titles = { "producer", "waits" },
};

const struct ladder_scenario fence_wait_any = {
	.name = "fence-wait-any",
	.what = "a signal while somebody goes to sleep for one of two fences",
	.explanation =
		"A callback on each fence moves a word, and the sleeper looks "
		"at the word first,\nthen at the fences, then sleeps on what "
		"the word was.",
	.setup = set_up,
	.each = number_thread,
	.threads = { signal_a, wait_for_any },
	.titles = { "producer", "waits" },
};

const struct ladder_scenario fence_enable_op = {
	.name = "fence-enable",
	.what = "a signal while the enable op runs; then the producer leaves",
	.explanation = "The signal waits for an enable op that is running, "
		       "and no other is called.",
	.setup = set_up_engine,
	.each = number_thread,
	.threads = { signal_and_leave, enable },
	.titles = { "producer", "enables" },
};

const struct ladder_scenario fence_leave = {
	.name = "fence-leave",
	.what = "a consumer signals on behalf of a producer that leaves",
	.explanation =
		"The flag comes before the ops are taken away.  Who still finds "
		"the ops looks at\nthe flag: the producer may have gone by it, "
		"and by a grace period, already.",
	.setup = set_up_leaving,
	.each = number_thread,
	.threads = { ask_producer, leave, read_name },
	.titles = { "consumer", "producer", "reads" },
};

const struct ladder_scenario fence_last_put = {
	.name = "fence-put",
	.what = "two references are dropped, and the fence is freed",
	.explanation = "The last one comes behind what was done with the "
		       "others.",
	.setup = set_up_shared,
	.each = number_thread,
	.threads = { use_and_put, drop },
	.titles = { "uses it", "drops it" },
};

const struct ladder_scenario fence_array_signal = {
	.name = "fence-array",
	.what = "the two members of an array signal",
	.explanation =
		"The last of them signals the array, once, and what both "
		"wrote is there.",
	.setup = set_up_array,
	.each = number_thread,
	.threads = { signal_a, signal_b },
	.titles = { "producer of A", "producer of B" },
	.check = whole_called_once,
};

const struct ladder_scenario fence_array_ask = {
	.name = "fence-array-ask",
	.what = "the last member of an array signals, somebody asks the array",
	.explanation = "Who finds nothing pending sees what the members' "
		       "producers wrote.",
	.setup = set_up_array_b_done,
	.each = number_thread,
	.threads = { signal_a, ask_whole },
	.titles = { "producer of A", "asks" },
};

const struct ladder_scenario fence_array_arm = {
	.name = "fence-array-arm",
	.what = "a member of an array signals while the array is armed",
	.explanation = "Arming counts as a member that is pending, so that no "
		       "callback signals the array\nbefore all are there.",
	.setup = make_array_b_done,
	.each = number_thread,
	.threads = { signal_a, arm_whole },
	.titles = { "producer of A", "arms" },
	.check = called_if_added,
};

const struct ladder_scenario fence_chain_signal = {
	.name = "fence-chain",
	.what = "the fences of two links of a chain signal",
	.explanation = "Each link signals behind its own fence and the link "
		       "before it.",
	.setup = set_up_chain,
	.each = number_thread,
	.threads = { signal_a, signal_b },
	.titles = { "producer of A", "producer of B" },
	.check = whole_called_once,
};

const struct ladder_scenario fence_chain_arm = {
	.name = "fence-chain-arm",
	.what = "a fence of a chain signals while the chain is armed",
	.explanation = "Who arms a link counts as one that is pending.",
	.setup = make_chain_b_done,
	.each = number_thread,
	.threads = { signal_a, arm_whole },
	.titles = { "producer of A", "arms" },
	.check = called_if_added,
};

const struct ladder_scenario fence_chain_walk = {
	.name = "fence-chain-walk",
	.what = "a link is taken out of a chain while somebody looks at it",
	.explanation =
		"The link is freed when no read section that may have found it "
		"is left.",
	.setup = make_long_chain,
	.each = number_thread,
	.threads = { walk, look_before, ladder_call_deferred },
	.titles = { "walks", "looks", "deferred" },
};

const struct ladder_scenario fence_chain_past = {
	.name = "fence-chain-past",
	.what = "a fence is taken out of a chain, somebody else goes past it",
	.explanation = "Who took it out has seen its signal, and hands that on "
		       "with what is put in its place.",
	.setup = make_short_chain,
	.each = number_thread,
	.threads = { signal_a, walk_short, look_before_short },
	.titles = { "producer of A", "walks", "looks" },
};
