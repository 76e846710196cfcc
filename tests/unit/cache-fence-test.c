/* SPDX-License-Identifier: MIT */
/*
 * Transfers in flight when the memory changes: waited for, or quarantined.
 */
#include "unit/cache-help.h"

#define USE DMA_RESV_USAGE_WRITE

TEST(a_parked_fence_quarantines_the_region)
{
	struct mmn_cache_region *region;
	struct dma_fence *fence;
	struct fixture x;

	set_up(&x);
	fence = new_fence();
	region = get(&x, 0, 4, WRITE);
	t_err(mmn_cache_add_fence(x.cache, region, fence, USE), 0);
	t_ok(!dma_resv_test_signaled(region->resv, DMA_RESV_USAGE_BOOKKEEP));
	mmn_cache_put(x.cache, region);
	/* The change goes on, and the new mapping is another region. */
	unmap(&x, 0, 4);
	settle(&x);
	t_eq(x.deregistered, 0);
	t_eq(stats_of(&x).quarantined_bytes, 4 * PAGE);
	t_eq(touch(&x, 0, 4, WRITE), 2);
	t_eq(stats_of(&x).pinned_bytes, 8 * PAGE);
	/* The completion alone has it deregistered. */
	signal_and_put(fence);
	until(x.deregistered == 1);
	until(stats_of(&x).quarantined_bytes == 0);
	t_eq(stats_of(&x).cached_bytes, 4 * PAGE);
	tear_down(&x);
}

TEST(references_and_fences_are_both_waited_for)
{
	struct mmn_cache_region *region;
	struct dma_fence *a, *b;
	struct fixture x;

	set_up(&x);
	a = new_fence();
	b = new_fence();
	region = get(&x, 0, 4, WRITE);
	t_err(mmn_cache_add_fence(x.cache, region, a, USE), 0);
	t_err(mmn_cache_add_fence(x.cache, region, b, USE), 0);
	unmap(&x, 0, 1);
	signal_and_put(b);
	settle(&x);
	t_eq(x.deregistered, 0);
	mmn_cache_put(x.cache, region);
	settle(&x);
	t_eq(x.deregistered, 0);
	signal_and_put(a);
	until(x.deregistered == 1);
	tear_down(&x);
}

TEST(fences_that_were_added_directly_are_waited_for)
{
	struct mmn_cache_region *region;
	struct dma_fence *a, *b;
	struct fixture x;

	set_up(&x);
	a = new_fence();
	b = new_fence();
	region = get(&x, 0, 4, WRITE);
	t_err(dma_resv_lock(region->resv, NULL), 0);
	t_err(dma_resv_reserve_fences(region->resv, 2), 0);
	dma_resv_add_fence(region->resv, a, DMA_RESV_USAGE_BOOKKEEP);
	dma_resv_add_fence(region->resv, b, DMA_RESV_USAGE_READ);
	dma_resv_unlock(region->resv);
	mmn_cache_put(x.cache, region);
	unmap(&x, 0, 1);
	settle(&x);
	signal_and_put(a);
	settle(&x);
	t_eq(x.deregistered, 0);
	signal_and_put(b);
	until(x.deregistered == 1);
	tear_down(&x);
}

TEST(a_fence_comes_too_late_for_memory_that_has_changed)
{
	struct mmn_cache_region *region;
	struct dma_fence *fence;
	struct fixture x;

	set_up(&x);
	fence = new_fence();
	region = get(&x, 0, 4, WRITE);
	t_err(mmn_cache_add_fence(x.cache, region, NULL, USE), -EINVAL);
	t_err(mmn_cache_add_fence(x.cache, region, fence, 4), -EINVAL);
	t_err(mmn_cache_add_fence(x.cache, NULL, fence, USE), -EINVAL);
	unmap(&x, 0, 1);
	t_err(mmn_cache_add_fence(x.cache, region, fence, USE), -ESTALE);
	mmn_cache_put(x.cache, region);
	signal_and_put(fence);
	tear_down(&x);
}

TEST(a_signalled_fence_keeps_nothing)
{
	struct mmn_cache_region *region;
	struct dma_fence *fence;
	struct fixture x;

	set_up(&x);
	fence = new_fence();
	t_err(dma_fence_signal(fence), 0);
	region = get(&x, 0, 4, WRITE);
	t_err(mmn_cache_add_fence(x.cache, region, fence, USE), 0);
	mmn_cache_put(x.cache, region);
	unmap(&x, 0, 1);
	until(x.deregistered == 1);
	dma_fence_put(fence);
	tear_down(&x);
}

struct changer {
	struct fixture *x;
	pthread_t thread;
	_Atomic int done;
};

static void *change_it(void *arg)
{
	struct changer *changer = arg;

	unmap(changer->x, 0, 8);
	changer->done = 1;
	return NULL;
}

TEST(a_change_waits_for_the_fences)
{
	struct mmn_cache_config config = { .wait_ns = FOR_EVER };
	struct mmn_cache_region *a, *b;
	struct dma_fence *fa, *fb;
	struct changer changer = { .x = NULL };
	struct fixture x;

	set_up_with(&x, &config);
	changer.x = &x;
	fa = new_fence();
	fb = new_fence();
	a = get(&x, 0, 2, WRITE);
	b = get(&x, 4, 2, WRITE);
	t_err(mmn_cache_add_fence(x.cache, a, fa, USE), 0);
	t_err(mmn_cache_add_fence(x.cache, b, fb, USE), 0);
	t_err(pthread_create(&changer.thread, NULL, change_it, &changer), 0);
	until(!mmn_cache_region_is_valid(a) && !mmn_cache_region_is_valid(b));
	t_ok(!changer.done);
	signal_and_put(fb);
	t_ok(!changer.done);
	signal_and_put(fa);
	/* References do not hold it up. */
	t_err(pthread_join(changer.thread, NULL), 0);
	t_eq(stats_of(&x).timed_out, 0);
	t_eq(x.deregistered, 0);
	mmn_cache_put(x.cache, a);
	mmn_cache_put(x.cache, b);
	until(x.deregistered == 2);
	tear_down(&x);
}

TEST(a_change_waits_so_long_and_no_longer)
{
	struct mmn_cache_config config = { .wait_ns = 2 * MS };
	struct mmn_cache_region *region;
	struct dma_fence *fence;
	struct fixture x;

	set_up_with(&x, &config);
	fence = new_fence();
	region = get(&x, 0, 2, WRITE);
	t_err(mmn_cache_add_fence(x.cache, region, fence, USE), 0);
	mmn_cache_put(x.cache, region);
	unmap(&x, 0, 1);
	t_eq(stats_of(&x).timed_out, 1);
	t_eq(stats_of(&x).quarantined, 1);
	/* So does the next one over the pages that the device still uses. */
	unmap(&x, 1, 1);
	t_eq(stats_of(&x).timed_out, 2);
	signal_and_put(fence);
	until(x.deregistered == 1);
	tear_down(&x);
}

TEST(a_change_that_may_not_wait_is_refused)
{
	struct mmn_cache_config config = { .wait_ns = FOR_EVER };
	struct mmn_cache_region *region;
	struct mmn_invalidate_desc desc;
	struct dma_fence *fence;
	struct fixture x;

	set_up_with(&x, &config);
	fence = new_fence();
	region = get(&x, 0, 2, WRITE);
	t_err(mmn_cache_add_fence(x.cache, region, fence, USE), 0);
	mmn_invalidate_desc_init(&desc, x.state, MMN_EVENT_UNMAP, BASE,
				 BASE + PAGE - 1);
	t_err(mmn_invalidate_start_nonblock(&desc), -EAGAIN);
	signal_and_put(fence);
	mmn_cache_put(x.cache, region);
	t_err(mmn_invalidate_start_nonblock(&desc), 0);
	t_err(mmn_invalidate_end(&desc), 0);
	tear_down(&x);
}

static struct dma_fence *hand_out(struct fixture *x,
				  struct mmn_cache_region *region)
{
	(void)region;
	return x->arg ? dma_fence_get(x->arg) : NULL;
}

/* As io_uring's slots: let go when the kernel says so. */
TEST(deregistration_may_end_with_a_fence)
{
	struct mmn_cache_config config = { .max_regions = 2,
					   .timeout_ns = 2 * MS };
	struct mmn_cache_region *region;
	struct dma_fence *fence;
	struct fixture x;

	set_up_with(&x, &config);
	x.script.in_deregister = hand_out;
	fence = new_fence();
	x.arg = fence;
	touch(&x, 0, 1, READ);
	unmap(&x, 0, 1);
	until(x.deregistered == 1);
	settle(&x);
	t_eq(stats_of(&x).quarantined, 1);
	t_eq(stats_of(&x).deregistered, 0);
	x.arg = NULL;
	region = get(&x, 2, 1, READ);
	t_err(mmn_cache_get(x.cache, BASE + 4 * PAGE, 1, READ, &region),
	      -ETIMEDOUT);
	signal_and_put(fence);
	until(stats_of(&x).deregistered == 1);
	t_err(mmn_cache_get(x.cache, BASE + 4 * PAGE, 1, READ, &region), 0);
	mmn_cache_put(x.cache, region);
	t_err(mmn_cache_get(x.cache, BASE + 2 * PAGE, 1, READ, &region), 0);
	mmn_cache_put(x.cache, region);
	mmn_cache_put(x.cache, region);
	tear_down(&x);
}
