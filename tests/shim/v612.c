/* SPDX-License-Identifier: MIT */
/*
 * A driver for a copy engine as one would write it for Linux 6.12: a shared lock
 * for the timeline, its own enable and signaled ops, jobs on several buffers.
 */
#include <linux/dma-fence-array.h>
#include <linux/dma-fence-chain.h>
#include <linux/dma-fence-unwrap.h>
#include <linux/dma-fence.h>
#include <linux/dma-resv.h>
#include <linux/ktime.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/ww_mutex.h>

#include "shim.h"

struct engine {
	spinlock_t lock;
	u64 context;
	u64 last;
	/* as the hardware would write it */
	u64 done;
	unsigned int irq_enabled;
	ktime_t deadline;
};

#define JOB_HAS_DEADLINE_BIT DMA_FENCE_FLAG_USER_BITS

struct job {
	struct dma_fence base;
	struct engine *engine;
};

static struct job *to_job(struct dma_fence *fence)
{
	return container_of(fence, struct job, base);
}

static const char *job_driver_name(struct dma_fence *fence)
{
	return "copy-engine";
}

static const char *job_timeline_name(struct dma_fence *fence)
{
	return "ring0";
}

static bool job_has_passed(struct job *job)
{
	return !__dma_fence_is_later(job->base.seqno, job->engine->done,
				     job->base.ops);
}

static bool job_enable_signaling(struct dma_fence *fence)
{
	struct job *job = to_job(fence);

	if (job_has_passed(job))
		return false;
	job->engine->irq_enabled++;
	return true;
}

static bool job_signaled(struct dma_fence *fence)
{
	return job_has_passed(to_job(fence));
}

static void job_set_deadline(struct dma_fence *fence, ktime_t deadline)
{
	if (!test_and_set_bit(JOB_HAS_DEADLINE_BIT, &fence->flags))
		to_job(fence)->engine->deadline = deadline;
}

static void job_release(struct dma_fence *fence)
{
	dma_fence_free(fence);
}

static const struct dma_fence_ops job_ops = {
	.get_driver_name = job_driver_name,
	.get_timeline_name = job_timeline_name,
	.enable_signaling = job_enable_signaling,
	.signaled = job_signaled,
	.wait = dma_fence_default_wait,
	.release = job_release,
	.set_deadline = job_set_deadline,
};

static void engine_init(struct engine *engine)
{
	memset(engine, 0, sizeof(*engine));
	spin_lock_init(&engine->lock);
	engine->context = dma_fence_context_alloc(1);
}

static struct dma_fence *engine_submit(struct engine *engine)
{
	struct job *job = kzalloc(sizeof(*job), GFP_KERNEL);

	if (!job)
		return NULL;
	job->engine = engine;
	dma_fence_init(&job->base, &job_ops, &engine->lock, engine->context,
		       ++engine->last);
	return &job->base;
}

/* The interrupt: the driver has the lock already. */
static int engine_complete(struct engine *engine, struct dma_fence *fence)
{
	unsigned long flags;
	int ret;

	spin_lock_irqsave(fence->lock, flags);
	engine->done = fence->seqno;
	ret = dma_fence_signal_locked(fence);
	spin_unlock_irqrestore(fence->lock, flags);
	return ret;
}

struct waiter {
	struct dma_fence_cb cb;
	unsigned int calls;
};

static void waiter_wake(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	container_of(cb, struct waiter, cb)->calls++;
}

const char *v612_jobs(void)
{
	struct dma_fence *fence, __rcu *slot;
	struct waiter waiter = { .calls = 0 };
	struct engine engine;

	engine_init(&engine);
	fence = engine_submit(&engine);
	EXPECT(fence->lock == &engine.lock);
	EXPECT(!test_bit(DMA_FENCE_FLAG_SIGNALED_BIT, &fence->flags));
	EXPECT(dma_fence_add_callback(fence, &waiter.cb, waiter_wake) == 0);
	EXPECT(engine.irq_enabled == 1);
	EXPECT(dma_fence_wait_timeout(fence, false, 0) == 0);
	dma_fence_set_deadline(fence, ns_to_ktime(4711));
	EXPECT(engine.deadline == 4711);
	EXPECT(engine_complete(&engine, fence) == 0);
	EXPECT(waiter.calls == 1);
	EXPECT(!dma_fence_remove_callback(fence, &waiter.cb));
	EXPECT(dma_fence_signal(fence) == -EINVAL);
	EXPECT(dma_fence_get_status(fence) == 1);
	EXPECT(dma_fence_wait(fence, true) == 0);
	EXPECT(dma_fence_add_callback(fence, &waiter.cb, waiter_wake) ==
	       -ENOENT);
	EXPECT(dma_fence_timestamp(fence) <= ktime_get());

	slot = NULL;
	rcu_assign_pointer(slot, dma_fence_get(fence));
	rcu_read_lock();
	EXPECT(dma_fence_get_rcu_safe(&slot) == fence);
	rcu_read_unlock();
	dma_fence_put(fence);
	dma_fence_put(slot);
	dma_fence_put(fence);
	dma_fence_put(NULL);
	return NULL;
}

const char *v612_buffers(void)
{
	struct dma_fence **fences, *fence, *single;
	struct dma_resv_iter cursor;
	unsigned int count, seen = 0;
	struct engine engine;
	struct dma_resv resv;

	engine_init(&engine);
	dma_resv_init(&resv);
	dma_resv_lock(&resv, NULL);
	dma_resv_assert_held(&resv);
	EXPECT(dma_resv_reserve_fences(&resv, 1) == 0);
	fence = engine_submit(&engine);
	dma_resv_add_fence(&resv, fence, DMA_RESV_USAGE_WRITE);
	dma_resv_for_each_fence(&cursor, &resv, DMA_RESV_USAGE_READ, single)
		EXPECT(single == fence &&
		       dma_resv_iter_usage(&cursor) == DMA_RESV_USAGE_WRITE);
	dma_resv_unlock(&resv);

	EXPECT(!dma_resv_test_signaled(&resv, dma_resv_usage_rw(false)));
	EXPECT(dma_resv_wait_timeout(&resv, DMA_RESV_USAGE_READ, false,
				     msecs_to_jiffies(1)) == 0);
	dma_resv_iter_begin(&cursor, &resv, DMA_RESV_USAGE_BOOKKEEP);
	dma_resv_for_each_fence_unlocked(&cursor, single)
	{
		EXPECT(dma_resv_iter_is_restarted(&cursor));
		/* start over, once */
		if (seen++ == 0)
			cursor.fences = (void *)~0ul;
	}
	dma_resv_iter_end(&cursor);
	EXPECT(seen == 2);

	EXPECT(dma_resv_get_fences(&resv, DMA_RESV_USAGE_WRITE, &count,
				   &fences) == 0);
	EXPECT(count == 1 && fences[0] == fence);
	dma_fence_put(fences[0]);
	kfree(fences);
	EXPECT(dma_resv_get_singleton(&resv, DMA_RESV_USAGE_WRITE, &single) ==
	       0);
	EXPECT(single == fence);
	dma_fence_put(single);

	/* nobody told the fence: the driver is asked */
	engine.done = fence->seqno;
	EXPECT(dma_resv_test_signaled(&resv, DMA_RESV_USAGE_WRITE));
	EXPECT(test_bit(DMA_FENCE_FLAG_SIGNALED_BIT, &fence->flags));
	EXPECT(dma_resv_wait_timeout(&resv, DMA_RESV_USAGE_WRITE, true,
				     MAX_SCHEDULE_TIMEOUT) > 0);
	dma_fence_put(fence);
	dma_resv_fini(&resv);
	return NULL;
}

const char *v612_containers(void)
{
	struct dma_fence *one, *two, *merged, *leaf, *point;
	struct dma_fence_array *array;
	struct dma_fence_chain *chain;
	struct dma_fence_unwrap cursor;
	struct dma_fence **members;
	struct engine a, b;
	unsigned int leaves = 0;

	engine_init(&a);
	engine_init(&b);
	one = engine_submit(&a);
	two = engine_submit(&b);
	members = kmalloc_array(2, sizeof(*members), GFP_KERNEL);
	members[0] = dma_fence_get(one);
	members[1] = dma_fence_get(two);
	array = dma_fence_array_create(2, members, dma_fence_context_alloc(1),
				       1, false);
	EXPECT(array);
	EXPECT(dma_fence_is_container(&array->base));

	chain = dma_fence_chain_alloc();
	dma_fence_chain_init(chain, NULL, &array->base, 5);
	dma_fence_unwrap_for_each(leaf, &cursor, &chain->base) leaves +=
		leaf == one || leaf == two;
	EXPECT(leaves == 2);
	merged = dma_fence_unwrap_merge(one, two);
	EXPECT(merged && !dma_fence_is_signaled(merged));

	point = dma_fence_get(&chain->base);
	EXPECT(dma_fence_chain_find_seqno(&point, 5) == 0);
	EXPECT(point == &chain->base);
	EXPECT(dma_fence_chain_find_seqno(&point, 6) == -EINVAL);

	EXPECT(engine_complete(&a, one) == 0);
	EXPECT(!dma_fence_is_signaled(point));
	EXPECT(engine_complete(&b, two) == 0);
	EXPECT(dma_fence_is_signaled(point));
	EXPECT(dma_fence_is_signaled(merged));
	dma_fence_put(point);
	dma_fence_put(merged);
	dma_fence_put(&chain->base);
	dma_fence_put(one);
	dma_fence_put(two);
	return NULL;
}

/* One job on two buffers, locked together, with back-off. */
static int lock_both(struct dma_resv *a, struct dma_resv *b,
		     struct ww_acquire_ctx *ctx)
{
	struct dma_resv *first = a, *second = b;
	int ret;

	ww_acquire_init(ctx, &reservation_ww_class);
	ret = dma_resv_lock(first, ctx);
	while (!ret) {
		struct dma_resv *held = first;

		ret = dma_resv_lock_interruptible(second, ctx);
		if (ret != -EDEADLK)
			break;
		dma_resv_unlock(held);
		dma_resv_lock_slow(second, ctx);
		first = second;
		second = held;
		ret = 0;
	}
	ww_acquire_done(ctx);
	return ret;
}

const char *v612_two_buffers(void)
{
	struct dma_fence *stub = dma_fence_get_stub(), *fence;
	struct dma_resv source, target;
	struct ww_acquire_ctx ctx;
	struct engine engine;

	engine_init(&engine);
	dma_resv_init(&source);
	dma_resv_init(&target);
	EXPECT(lock_both(&source, &target, &ctx) == 0);
	EXPECT(dma_resv_locking_ctx(&source) == &ctx);
	EXPECT(dma_resv_reserve_fences(&source, 1) == 0);
	EXPECT(dma_resv_reserve_fences(&target, 1) == 0);
	fence = engine_submit(&engine);
	dma_resv_add_fence(&source, fence, DMA_RESV_USAGE_READ);
	dma_resv_add_fence(&target, fence, DMA_RESV_USAGE_WRITE);
	dma_resv_unlock(&source);
	dma_resv_unlock(&target);
	ww_acquire_fini(&ctx);

	EXPECT(dma_resv_test_signaled(&source, dma_resv_usage_rw(false)));
	EXPECT(!dma_resv_test_signaled(&source, dma_resv_usage_rw(true)));
	EXPECT(!dma_resv_test_signaled(&target, dma_resv_usage_rw(false)));
	EXPECT(dma_resv_trylock(&target));
	EXPECT(dma_resv_copy_fences(&target, &source) == 0);
	EXPECT(dma_resv_test_signaled(&target, DMA_RESV_USAGE_WRITE));
	dma_resv_replace_fences(&target, engine.context, stub,
				DMA_RESV_USAGE_BOOKKEEP);
	dma_resv_unlock(&target);
	EXPECT(dma_resv_test_signaled(&target, DMA_RESV_USAGE_BOOKKEEP));
	EXPECT(engine_complete(&engine, fence) == 0);
	dma_fence_put(stub);
	dma_fence_put(fence);
	dma_resv_fini(&source);
	dma_resv_fini(&target);
	return NULL;
}

/* Functions of a test module may have the names of the structs. */
static const char *dma_fence(void)
{
	return sizeof(struct dma_fence) ? NULL : "no fence";
}

static const char *dma_resv(void)
{
	return sizeof(struct dma_resv) ? NULL : "no object";
}

const char *v612_names(void)
{
	return dma_fence() ?: dma_resv();
}
