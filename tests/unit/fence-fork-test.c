/* SPDX-License-Identifier: MIT */
/*
 * Fences in a fork child: copies, beside locks whose holders did not come along.
 * This is fence/pool.c itself, so that its lock can be held.
 */
#include "t/tap.h"

#include <sys/wait.h>
#include <unistd.h>

/* NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "fence/pool.c"

static const char *name(struct dma_fence *fence)
{
	return "test";
}

static const struct dma_fence_ops ops = {
	.get_driver_name = name,
	.get_timeline_name = name,
};

static struct dma_fence_pool *pool;

static struct dma_fence *make(void)
{
	struct dma_fence *fence = dma_fence_pool_alloc(pool);

	t_ok(fence);
	dma_fence_pool_init(fence, &ops, NULL, 1, 1);
	return fence;
}

static void drop_in_child(struct dma_fence *fence)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		alarm(20);
		dma_fence_put(fence);
		dma_fence_pool_destroy(pool);
		_exit(0);
	}
	t_eq(waitpid(pid, &status, 0), pid);
	t_ok(WIFEXITED(status));
}

TEST(a_fork_child_drops_fences_of_a_pool_that_was_in_use)
{
	struct dma_fence *fence;

	t_may_keep_mapped(64 << 20, "the thread that frees stays");
	t_err(dma_fence_pool_create(sizeof(struct dma_fence), &pool), 0);
	fence = make();
	mmn_spin_lock(&pool->lock);
	drop_in_child(fence);
	mmn_spin_unlock(&pool->lock);
	t_ok(!dma_fence_test_signaled_flag(fence));
	dma_fence_put(fence);
	dma_fence_pool_destroy(pool);
	dma_fence_barrier();
}

TEST(a_fork_child_may_use_a_pool_that_was_not)
{
	struct dma_fence *fence;
	int status;
	pid_t pid;

	t_may_keep_mapped(64 << 20, "the thread that frees stays");
	t_err(dma_fence_pool_create(sizeof(struct dma_fence), &pool), 0);
	fence = make();
	pid = fork();
	if (!pid) {
		struct dma_fence *again;

		dma_fence_put(fence);
		again = dma_fence_pool_alloc(pool);
		_exit(again != fence);
	}
	t_eq(waitpid(pid, &status, 0), pid);
	t_eq(status, 0);
	dma_fence_put(fence);
	dma_fence_pool_destroy(pool);
	dma_fence_barrier();
}
