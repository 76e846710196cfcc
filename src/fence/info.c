/* SPDX-License-Identifier: MIT */
/* Order, names, and fences that are ready made. */
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/inject.h"
#include "base/time.h"
#include "fence/fence.h"

uint64_t dma_fence_context_alloc(unsigned int num)
{
	/* 0 is the stub's */
	static uint64_t next = 1;

	mmn_bug_on(!num, "no contexts are allocated");
	/* relaxed: only that no two are equal */
	return mmn_fetch_add_relaxed(&next, num);
}

static bool seqno_is_later(uint64_t a, uint64_t b, bool wide)
{
	if (wide)
		return a > b;
	return (int32_t)((uint32_t)a - (uint32_t)b) > 0;
}

bool dma_fence_seqno_is_later(uint64_t f1, uint64_t f2,
			      const struct dma_fence_ops *ops)
{
	return seqno_is_later(f1, f2, ops && ops->use_64bit_seqno);
}

static bool is_later(const struct dma_fence *a, const struct dma_fence *b)
{
	/* relaxed: constant for whoever has a reference */
	unsigned long flags = mmn_load_relaxed(&a->flags);

	return seqno_is_later(a->seqno, b->seqno, flags & FENCE_BIT(SEQNO64));
}

static bool are_comparable(const struct dma_fence *a, const struct dma_fence *b)
{
	bool same = a->context == b->context;

	mmn_bug_on(!same, "fences of two contexts are compared");
	return same;
}

bool dma_fence_is_later(struct dma_fence *f1, struct dma_fence *f2)
{
	return are_comparable(f1, f2) && is_later(f1, f2);
}

bool dma_fence_is_later_or_same(struct dma_fence *f1, struct dma_fence *f2)
{
	return f1 == f2 || dma_fence_is_later(f1, f2);
}

struct dma_fence *dma_fence_later(struct dma_fence *f1, struct dma_fence *f2)
{
	struct dma_fence *later;

	if (!are_comparable(f1, f2))
		return NULL;
	later = is_later(f1, f2) ? f1 : f2;
	return dma_fence_is_signaled(later) ? NULL : later;
}

static const char *stub_name(struct dma_fence *fence)
{
	(void)fence;
	return "stub";
}

static void release_global(struct dma_fence *fence)
{
	(void)fence;
	mmn_bug("the stub is put more often than it was got");
}

static const struct dma_fence_ops global_ops = {
	.get_driver_name = stub_name,
	.get_timeline_name = stub_name,
	.release = release_global,
};

static const struct dma_fence_ops private_ops = {
	.get_driver_name = stub_name,
	.get_timeline_name = stub_name,
};

static struct dma_fence global_stub;

static void init_global_stub(void)
{
	dma_fence_init(&global_stub, &global_ops, NULL, 0, 0);
	fence_init_signaled(&global_stub, (int64_t)mmn_now_ns());
}

struct dma_fence *dma_fence_get_stub(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, init_global_stub);
	return dma_fence_get(&global_stub);
}

struct dma_fence *dma_fence_allocate_private_stub(int64_t timestamp)
{
	struct dma_fence *fence = NULL;

	if (!MMN_INJECT(MMN_INJECT_ALLOC))
		fence = malloc(sizeof(*fence));
	if (!fence)
		return NULL;
	dma_fence_init(fence, &private_ops, NULL, 0, 0);
	fence_init_signaled(fence, timestamp);
	return fence;
}

const char *dma_fence_driver_name(struct dma_fence *fence)
{
	const struct dma_fence_ops *ops = fence_ops(fence);

	return ops ? ops->get_driver_name(fence) : "detached-driver";
}

const char *dma_fence_timeline_name(struct dma_fence *fence)
{
	const struct dma_fence_ops *ops = fence_ops(fence);

	return ops ? ops->get_timeline_name(fence) : "signaled-timeline";
}

void fence_print(struct seq_file *seq, const char *format, ...)
{
	size_t room = seq->size - seq->count;
	va_list args;
	int length;

	if (!room)
		return;
	va_start(args, format);
	length = vsnprintf(seq->buf + seq->count, room, format, args);
	va_end(args);
	if (length >= 0)
		seq->count += (size_t)length < room ? (size_t)length : room;
}

void dma_fence_describe(struct dma_fence *fence, struct seq_file *seq)
{
	bool done = dma_fence_is_signaled(fence);

	mmn_rcu_read_lock();
	fence_print(seq, "%" PRIu64 ":%" PRIu64 " %s %s %ssignalled\n",
		    fence->context, fence->seqno,
		    dma_fence_timeline_name(fence),
		    dma_fence_driver_name(fence), done ? "" : "un");
	mmn_rcu_read_unlock();
}

void dma_fence_set_deadline(struct dma_fence *fence, int64_t deadline)
{
	const struct dma_fence_ops *ops;

	mmn_rcu_read_lock();
	ops = fence_ops(fence);
	if (ops && ops->set_deadline && !dma_fence_test_signaled_flag(fence))
		ops->set_deadline(fence, deadline);
	mmn_rcu_read_unlock();
}
