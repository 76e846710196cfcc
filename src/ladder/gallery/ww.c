/* SPDX-License-Identifier: MIT */
/* Locks that are taken in any order, and who backs off. */
#include <mmn/dma-fence.h>
#include <mmn/ww-mutex.h>

#include "ladder/gallery/gallery.h"
#include "ladder/gallery/help.h"
#include "ladder/scenario.h"

static DEFINE_WD_CLASS(die_class);
static DEFINE_WW_CLASS(wound_class);

static struct {
	struct ww_mutex a, b;
	struct ww_class *class;
	/* a */
	int count;
	/* raised */
	struct dma_fence_cancel cancel;
} ww;

static void set_up_class(struct ww_class *class)
{
	ww.class = class;
	ww_mutex_init(&ww.a, class);
	ww_mutex_init(&ww.b, class);
	ww.count = 0;
	ladder_name(&ww.a.word, "a.word");
	ladder_name(&ww.b.word, "b.word");
	ladder_name(&ww.a.guard, "a.guard");
	ladder_name(&ww.b.guard, "b.guard");
	ladder_name(&ww.count, "count");
}

static void set_up(void)
{
	set_up_class(&die_class);
}

static void set_up_wound(void)
{
	set_up_class(&wound_class);
}

static void count_once(void)
{
	ladder_assert(!ww_mutex_lock(&ww.a, NULL));
	ww.count++;
	ww_mutex_unlock(&ww.a);
}

static void set_up_cancelled(void)
{
	set_up();
	dma_fence_cancel_raise(&ww.cancel);
}

/* Waits as long as it may, which is not at all, and tries once more. */
static void count_if_free(void)
{
	dma_fence_cancel_bind(&ww.cancel);
	if (ww_mutex_lock_interruptible(&ww.a, NULL) &&
	    !ww_mutex_trylock(&ww.a, NULL))
		return;
	ww.count++;
	ww_mutex_unlock(&ww.a);
}

/* One try: who has to back off gives up. */
static void take_both(struct ww_mutex *first, struct ww_mutex *second)
{
	struct ww_acquire_ctx ctx;

	ww_acquire_init(&ctx, ww.class);
	ladder_assert(!ww_mutex_lock(first, &ctx));
	if (!ww_mutex_lock(second, &ctx)) {
		ww.count++;
		ww_mutex_unlock(second);
	}
	ww_mutex_unlock(first);
	ww_acquire_fini(&ctx);
	/* The memory is something else now. */
	memset(&ctx, 0, sizeof(ctx));
}

static void take_a_b(void)
{
	take_both(&ww.a, &ww.b);
}

static void take_b_a(void)
{
	take_both(&ww.b, &ww.a);
}

static void somebody_got_both(void)
{
	ladder_assert(ww.count);
}

const struct ladder_scenario ww_hand_over = {
	.name = "ww-lock",
	.what = "two threads take a lock that is handed over",
	.explanation = "Who waits gets the lock from who gives it back, and "
		       "sees what he wrote.",
	.setup = set_up,
	.each = number_thread,
	.threads = { count_once, count_once },
	.titles = { "counts", "counts" },
};

const struct ladder_scenario ww_cancel = {
	.name = "ww-cancel",
	.what = "who waits for a lock is cancelled, and tries once more",
	.explanation = "The lock is handed to nobody then, and who finds it "
		       "free sees what its last\nholder wrote.",
	.setup = set_up_cancelled,
	.each = number_thread,
	.threads = { count_once, count_if_free },
	.titles = { "counts", "cancelled" },
};

const struct ladder_scenario ww_die = {
	.name = "ww-die",
	.what = "two threads take two locks in opposite order: wait-die",
	.explanation = "The younger one backs off, the older one gets both.",
	.setup = set_up,
	.each = number_thread,
	.threads = { take_a_b, take_b_a },
	.titles = { "a, b", "b, a" },
	.check = somebody_got_both,
};

const struct ladder_scenario ww_wound = {
	.name = "ww-wound",
	.what = "two threads take two locks in opposite order: wound-wait",
	.explanation = "The older one wounds the younger, which backs off when "
		       "it has to wait.",
	.setup = set_up_wound,
	.each = number_thread,
	.threads = { take_a_b, take_b_a },
	.titles = { "a, b", "b, a" },
	.check = somebody_got_both,
};
