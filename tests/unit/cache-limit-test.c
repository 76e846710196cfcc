/* SPDX-License-Identifier: MIT */
/*
 * Limits, eviction, pressure, failing registrations, purge, errors, fork.
 */
#include <sys/resource.h>

#include "unit/answer-syscall.h"
#include <mmn/inject.h>

#include "unit/cache-help.h"

TEST(the_least_recently_used_region_is_evicted)
{
	struct mmn_cache_config config = { .max_regions = 3 };
	struct fixture x;

	set_up_with(&x, &config);
	touch(&x, 0, 1, READ);
	touch(&x, 2, 1, READ);
	touch(&x, 4, 1, READ);
	/* A hit: the second one is the oldest now. */
	t_eq(touch(&x, 0, 1, READ), 1);
	t_eq(touch(&x, 6, 1, READ), 4);
	t_eq(stats_of(&x).evicted, 1);
	t_eq(touch(&x, 0, 1, READ), 1);
	t_eq(touch(&x, 4, 1, READ), 3);
	t_eq(touch(&x, 2, 1, READ), 5);
	t_le(stats_of(&x).regions, 3);
	tear_down(&x);
}

TEST(bytes_are_limited_too)
{
	struct mmn_cache_config config = { .max_bytes = 8 * PAGE };
	struct mmn_cache_region *held, *region = NULL;
	struct fixture x;

	set_up_with(&x, &config);
	held = get(&x, 0, 4, READ);
	touch(&x, 10, 3, READ);
	touch(&x, 20, 4, READ);
	t_eq(stats_of(&x).evicted, 1);
	t_le(x.pinned, 8 * PAGE);
	/* More than there is, ever, and more than there is beside what is held. */
	t_err(mmn_cache_get(x.cache, BASE, 9 * PAGE, READ, &region), -ENOSPC);
	t_err(mmn_cache_get(x.cache, BASE + 40 * PAGE, 5 * PAGE, READ, &region),
	      -ENOSPC);
	t_ge(x.pressures, 1);
	t_ok(mmn_cache_region_is_valid(held));
	mmn_cache_put(x.cache, held);
	touch(&x, 40, 5, READ);
	t_le(x.pinned, 8 * PAGE);
	tear_down(&x);
}

/* Pinned memory that the device does not get rid of yet counts. */
TEST(quarantine_counts_against_the_limit)
{
	struct mmn_cache_config config = { .max_bytes = 4 * PAGE,
					   .timeout_ns = 5 * MS };
	struct mmn_cache_region *held, *region = NULL;
	struct fixture x;

	set_up_with(&x, &config);
	held = get(&x, 0, 4, READ);
	unmap(&x, 0, 1);
	settle(&x);
	t_err(mmn_cache_get(x.cache, BASE, PAGE, READ, &region), -ETIMEDOUT);
	mmn_cache_put(x.cache, held);
	settle(&x);
	until(x.deregistered == 1);
	touch(&x, 0, 4, READ);
	tear_down(&x);
}

static bool put_held(struct fixture *x, uint64_t bytes)
{
	t_eq(bytes, 2 * PAGE);
	if (!x->arg)
		return false;
	mmn_cache_put(x->cache, x->arg);
	x->arg = NULL;
	return true;
}

TEST(the_pressure_op_may_put_regions)
{
	struct mmn_cache_config config = { .max_bytes = 4 * PAGE };
	struct mmn_cache_region *region;
	struct fixture x;

	set_up_with(&x, &config);
	x.script.in_pressure = put_held;
	x.arg = get(&x, 0, 4, READ);
	region = get(&x, 10, 2, READ);
	t_eq(x.pressures, 1);
	t_eq(stats_of(&x).evicted, 1);
	x.arg = NULL;
	mmn_cache_put(x.cache, region);
	tear_down(&x);
}

/* A kernel that lets this device pin 8 pages. */
static int eight_pages(struct fixture *x, struct mmn_cache_region *region)
{
	uint64_t bytes = region->last - region->start + 1;

	return x->pinned + bytes > 8 * PAGE ? x->step : 0;
}

static void evict_for(int error)
{
	struct mmn_cache_region *region = NULL, *held;
	struct fixture x;

	set_up(&x);
	x.script.in_register = eight_pages;
	x.step = error;
	touch(&x, 0, 4, READ);
	touch(&x, 10, 4, READ);
	touch(&x, 20, 4, READ);
	t_eq(stats_of(&x).evicted, 1);
	t_ge(stats_of(&x).failed, 1);
	held = get(&x, 20, 4, READ);
	/* Not even with everything else gone. */
	t_err(mmn_cache_get(x.cache, BASE + 40 * PAGE, 5 * PAGE, READ, &region),
	      error);
	t_eq(stats_of(&x).regions, 1);
	t_eq(x.pressures, 1);
	mmn_cache_put(x.cache, held);
	tear_down(&x);
}

TEST(a_failed_registration_evicts_and_tries_again)
{
	evict_for(-ENOMEM);
	evict_for(-EAGAIN);
}

static int no_such_memory(struct fixture *x, struct mmn_cache_region *region)
{
	(void)x;
	(void)region;
	return -EFAULT;
}

TEST(other_errors_are_handed_on)
{
	struct mmn_cache_region *region = NULL;
	struct fixture x;

	set_up(&x);
	touch(&x, 10, 1, READ);
	x.script.in_register = no_such_memory;
	t_err(mmn_cache_get(x.cache, BASE, PAGE, READ, &region), -EFAULT);
	t_eq(stats_of(&x).failed, 1);
	t_eq(stats_of(&x).regions, 1);
	t_eq(stats_of(&x).pinned_bytes, PAGE);
	tear_down(&x);
}

TEST(memlock_is_respected)
{
	struct mmn_cache_config config = { .flags = MMN_CACHE_MEMLOCK };
	struct rlimit limit = { .rlim_cur = 4 * PAGE, .rlim_max = 4 * PAGE };
	struct mmn_cache_region *region = NULL;
	struct fixture x;

	t_eq(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
	set_up_with(&x, &config);
	touch(&x, 0, 3, READ);
	touch(&x, 10, 3, READ);
	t_eq(stats_of(&x).evicted, 1);
	t_err(mmn_cache_get(x.cache, BASE, 5 * PAGE, READ, &region), -ENOSPC);
	tear_down(&x);
}

TEST(purge_deregisters_what_is_idle)
{
	struct mmn_cache_region *held;
	struct fixture x;

	set_up(&x);
	touch(&x, 0, 4, READ);
	touch(&x, 10, 4, READ);
	held = get(&x, 20, 4, READ);
	t_err(mmn_cache_purge(x.cache, BASE + 3 * PAGE, BASE + 9 * PAGE), 0);
	t_eq(x.deregistered, 1);
	t_err(mmn_cache_purge(x.cache, 0, UINTPTR_MAX), 0);
	t_eq(x.deregistered, 2);
	t_eq(stats_of(&x).regions, 0);
	t_eq(stats_of(&x).quarantined, 1);
	t_err(mmn_cache_purge(x.cache, 1, 0), -EINVAL);
	mmn_cache_put(x.cache, held);
	until(x.deregistered == 3);
	tear_down(&x);
}

static int purge_once(struct fixture *x, struct mmn_cache_region *region)
{
	if (atomic_fetch_add(&x->step, 1) == 0)
		t_err(mmn_cache_purge(x->cache, region->last, region->last), 0);
	return 0;
}

TEST(purge_reaches_what_is_being_registered)
{
	struct fixture x;

	set_up(&x);
	x.script.in_register = purge_once;
	t_eq(touch(&x, 0, 1, READ), 2);
	t_eq(stats_of(&x).collisions, 1);
	tear_down(&x);
}

TEST(bad_configs)
{
	static const struct mmn_cache_ops half = {
		.register_region = fake_register,
	};
	struct {
		struct mmn_cache_config config;
		uint64_t more;
	} newer = { .config = { .size = sizeof(newer), .ops = &fake_ops } };
	struct mmn_cache_config good = { .size = sizeof(good),
					 .ops = &fake_ops };
	struct mmn_cache_config bad;
	struct mmn_cache *cache = NULL;
	struct mmn_state *state;

	t_may_keep_mapped(24 << 20, "the arena for callbacks, a thread of RCU");
	t_err(mmn_state_create(&state), 0);
	t_err(mmn_cache_create(NULL, &good, &cache), -EINVAL);
	t_err(mmn_cache_create(state, NULL, &cache), -EINVAL);
	bad = good;
	bad.size = 8;
	t_err(mmn_cache_create(state, &bad, &cache), -EINVAL);
	bad = good;
	bad.ops = NULL;
	t_err(mmn_cache_create(state, &bad, &cache), -EINVAL);
	bad = good;
	bad.ops = &half;
	t_err(mmn_cache_create(state, &bad, &cache), -EINVAL);
	bad = good;
	bad.flags = 4;
	t_err(mmn_cache_create(state, &bad, &cache), -EINVAL);
	bad = good;
	bad.max_regions = (1u << 24) + 1;
	t_err(mmn_cache_create(state, &bad, &cache), -EINVAL);
	newer.more = 1;
	t_err(mmn_cache_create(state, &newer.config, &cache), -E2BIG);
	t_ok(!cache);
	newer.more = 0;
	t_err(mmn_cache_create(state, &newer.config, &cache), 0);
	mmn_cache_destroy(cache);
	mmn_cache_destroy(NULL);
	mmn_state_put(state);
}

TEST(a_kernel_without_memory_or_threads)
{
	struct mmn_cache_config config = { .size = sizeof(config),
					   .ops = &fake_ops };
	struct mmn_cache *cache = NULL;
	struct mmn_state *state;

	if (T_TSAN || T_ASAN)
		t_skip("the runtime of the sanitizer needs these calls");
	t_may_keep_mapped(24 << 20, "the arena for callbacks, a thread of RCU");
	t_err(mmn_state_create(&state), 0);
	answer_syscall(SYS_clone, EAGAIN);
	answer_syscall(SYS_clone3, EAGAIN);
	t_err(mmn_cache_create(state, &config, &cache), -EAGAIN);
	answer_syscall(SYS_mmap, ENOMEM);
	t_err(mmn_cache_create(state, &config, &cache), -ENOMEM);
	t_ok(!cache);
	mmn_state_put(state);
}

TEST(a_state_that_was_released)
{
	struct mmn_cache_region *region = NULL;
	struct fixture x;

	set_up(&x);
	touch(&x, 0, 1, READ);
	t_err(mmn_state_release(x.state), 0);
	until(x.deregistered == 1);
	t_err(mmn_cache_get(x.cache, BASE, PAGE, READ, &region), -EINVAL);
	tear_down(&x);
}

static void in_child(struct fixture *x, struct mmn_cache_region *held)
{
	struct mmn_cache_stats stats = { .size = sizeof(stats) };
	struct mmn_cache_region *region;
	struct dma_fence *fence = new_fence();
	struct fixture own;

	t_ok(!mmn_cache_region_is_valid(held));
	t_err(mmn_cache_get(x->cache, BASE, PAGE, READ, &region), -ESTALE);
	t_err(mmn_cache_add_fence(x->cache, held, fence, DMA_RESV_USAGE_READ),
	      -ESTALE);
	t_err(mmn_cache_purge(x->cache, 0, UINTPTR_MAX), -ESTALE);
	t_err(mmn_cache_get_stats(x->cache, &stats), -ESTALE);
	mmn_cache_put(x->cache, held);
	mmn_cache_destroy(x->cache);
	signal_and_put(fence);
	/* One of its own works, also where it uses what the parent had. */
	set_up(&own);
	region = get(&own, 0, 1, READ);
	unmap(&own, 0, 1);
	settle(&own);
	t_eq(own.deregistered, 0);
	mmn_cache_put(own.cache, region);
	until(own.deregistered == 1);
	tear_down(&own);
}

TEST(a_fork_child_sees_nothing_valid)
{
	struct mmn_cache_region *held;
	struct fixture x;
	int status;
	pid_t child;

	t_need_kernel("a fork of a program with threads is not whole");
	if (T_TSAN)
		t_skip("threads in a fork child");
	set_up(&x);
	held = get(&x, 0, 1, READ);
	child = fork();
	t_ge(child, 0);
	if (!child) {
		in_child(&x, held);
		_exit(0);
	}
	t_eq(waitpid(child, &status, 0), child);
	t_ok(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	/* The parent is not affected. */
	t_ok(mmn_cache_region_is_valid(held));
	t_eq(touch(&x, 0, 1, READ), 1);
	mmn_cache_put(x.cache, held);
	tear_down(&x);
}

/* The first time only. */
static int fork_inside(struct fixture *x, struct mmn_cache_region *region)
{
	(void)region;
	if (x->step++ == 0)
		*(pid_t *)x->arg = fork();
	return 0;
}

/* The child comes back from the op as well. */
TEST(a_fork_inside_the_op_leaves_the_get_to_the_parent)
{
	struct mmn_cache_region *region = NULL;
	struct fixture x;
	pid_t child = -1;
	int status, err;

	t_need_kernel("a fork of a program with threads is not whole");
	if (T_TSAN)
		t_skip("threads in a fork child");
	set_up(&x);
	touch(&x, 0, 1, READ);
	x.script.in_register = fork_inside;
	x.arg = &child;
	err = mmn_cache_get(x.cache, BASE + 5 * PAGE, PAGE, READ, &region);
	if (!child)
		_exit(err != -ESTALE || x.step != 1);
	t_err(err, 0);
	t_eq(waitpid(child, &status, 0), child);
	t_ok(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	mmn_cache_put(x.cache, region);
	tear_down(&x);
}

TEST(a_request_that_can_never_fit_evicts_nothing)
{
	struct mmn_cache_config config = { .max_bytes = 4 * PAGE };
	struct mmn_cache_region *region = NULL;
	struct fixture x;

	set_up_with(&x, &config);
	touch(&x, 0, 1, READ);
	touch(&x, 10, 1, READ);
	t_err(mmn_cache_get(x.cache, BASE, 5 * PAGE, READ, &region), -ENOSPC);
	t_eq(stats_of(&x).evicted, 0);
	t_eq(stats_of(&x).regions, 2);
	tear_down(&x);
}

static int two_pages_at_most(struct fixture *x, struct mmn_cache_region *region)
{
	(void)x;
	return region->last - region->start < 2 * PAGE ? 0 : -ENOMEM;
}

TEST(before_others_are_evicted_the_request_is_tried_alone)
{
	struct fixture x;

	set_up(&x);
	x.script.in_register = two_pages_at_most;
	touch(&x, 50, 1, READ);
	touch(&x, 0, 2, READ);
	touch(&x, 1, 2, READ);
	t_eq(stats_of(&x).evicted, 0);
	t_eq(stats_of(&x).regions, 2);
	tear_down(&x);
}

static void *join_without_memory(void *arg)
{
	struct mmn_cache_region *region = NULL;
	struct fixture *x = arg;

	t_err(mmn_inject_set(MMN_INJECT_ALLOC, 1, 1), 0);
	t_err(mmn_cache_get(x->cache, BASE, PAGE, READ, &region), -ENOMEM);
	mmn_inject_clear();
	t_ok(!region);
	return NULL;
}

TEST(no_memory_for_a_thread_or_a_fence)
{
	struct mmn_cache_region *region;
	struct dma_fence *fence;
	pthread_t thread;
	struct fixture x;

	set_up(&x);
	region = get(&x, 0, 1, READ);
	t_err(pthread_create(&thread, NULL, join_without_memory, &x), 0);
	t_err(pthread_join(thread, NULL), 0);
	fence = new_fence();
	t_err(mmn_inject_set(MMN_INJECT_ALLOC, 1, 1), 0);
	t_err(mmn_cache_add_fence(x.cache, region, fence, DMA_RESV_USAGE_READ),
	      -ENOMEM);
	mmn_inject_clear();
	mmn_cache_put(x.cache, region);
	/* Nobody waits for a fence that was not added. */
	unmap(&x, 0, 1);
	until(x.deregistered == 1);
	signal_and_put(fence);
	tear_down(&x);
}
