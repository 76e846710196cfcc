/* SPDX-License-Identifier: MIT */
/*
 * What producers and consumers know of each other: order, names, deadlines,
 * stubs, and producers that leave.  The numbers in comments are those of the
 * conformance cases.
 */
#include "t/tap.h"

#include <mmn/dma-fence.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char *driver(struct dma_fence *fence)
{
	return "driver";
}

static const char *timeline(struct dma_fence *fence)
{
	return "timeline";
}

static void release(struct dma_fence *fence)
{
}

static int64_t deadline = INT64_MAX;
static unsigned int nr_deadlines;

static void keep_earliest(struct dma_fence *fence, int64_t at)
{
	int64_t old = __atomic_load_n(&deadline, __ATOMIC_SEQ_CST);

	while (at < old &&
	       !__atomic_compare_exchange_n(&deadline, &old, at, false,
					    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
	__atomic_fetch_add(&nr_deadlines, 1, __ATOMIC_SEQ_CST);
}

static const struct dma_fence_ops kept_ops = {
	.get_driver_name = driver,
	.get_timeline_name = timeline,
	.release = release,
	.set_deadline = keep_earliest,
};

static const struct dma_fence_ops leaving_ops = {
	.get_driver_name = driver,
	.get_timeline_name = timeline,
};

static const struct dma_fence_ops wide_ops = {
	.use_64bit_seqno = true,
	.get_driver_name = driver,
	.get_timeline_name = timeline,
	.release = release,
};

static bool is_later(uint64_t a, uint64_t b, const struct dma_fence_ops *ops)
{
	struct dma_fence one, other;

	dma_fence_init(&one, ops, NULL, 5, a);
	dma_fence_init(&other, ops, NULL, 5, b);
	t_eq(dma_fence_is_later(&one, &other), __dma_fence_is_later(a, b, ops));
	return dma_fence_is_later(&one, &other);
}

static void *use_stub(void *arg)
{
	long bad = 0;
	int i;

	for (i = 0; i < 100000; i++) {
		struct dma_fence *stub = dma_fence_get_stub();

		bad += !dma_fence_test_signaled_flag(stub) || stub->context;
		dma_fence_put(stub);
	}
	return (void *)bad;
}

/* 24 */
TEST(the_stub_has_always_signalled)
{
	struct dma_fence *stub = dma_fence_get_stub();
	pthread_t threads[8];
	void *bad;
	int i;

	t_eq(dma_fence_get_status(stub), 1);
	t_eq(stub->seqno, 0);
	t_gt(dma_fence_timestamp(stub), 0);
	for (i = 0; i < 8; i++)
		pthread_create(&threads[i], NULL, use_stub, NULL);
	for (i = 0; i < 8; i++) {
		pthread_join(threads[i], &bad);
		t_eq((long)bad, 0);
	}
	dma_fence_put(stub);
	t_bug_expected("more often than");
	dma_fence_put(stub);
}

/* 25 */
TEST(a_private_stub_has_its_own_time)
{
	struct dma_fence *one = dma_fence_allocate_private_stub(77);
	struct dma_fence *other = dma_fence_allocate_private_stub(78);

	t_may_keep_mapped(64 << 20, "the thread that frees stays");
	t_ok(one && other && one != other);
	t_eq(dma_fence_get_status(one), 1);
	t_eq(dma_fence_timestamp(one), 77);
	t_eq(dma_fence_timestamp(other), 78);
	dma_fence_put(one);
	dma_fence_put(other);
	dma_fence_barrier();
}

enum { NR_CONTEXTS = 100000 };

static void *alloc_contexts(void *arg)
{
	uint64_t *ids = arg;
	int i;

	for (i = 0; i < NR_CONTEXTS; i++)
		ids[i] = dma_fence_context_alloc(1);
	return NULL;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* 26 */
TEST(contexts_are_unique)
{
	uint64_t first = dma_fence_context_alloc(3);
	uint64_t *ids = calloc(8 * NR_CONTEXTS, sizeof(*ids));
	pthread_t threads[8];
	int i, twice = 0;

	t_ne(first, 0);
	t_eq(dma_fence_context_alloc(1), first + 3);
	for (i = 0; i < 8; i++)
		pthread_create(&threads[i], NULL, alloc_contexts,
			       &ids[i * NR_CONTEXTS]);
	for (i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	qsort(ids, 8 * NR_CONTEXTS, sizeof(*ids), compare);
	for (i = 1; i < 8 * NR_CONTEXTS; i++)
		twice += ids[i] == ids[i - 1];
	t_eq(twice, 0);
	t_gt(ids[0], first + 3);
	free(ids);
	t_bug_expected("no contexts");
	dma_fence_context_alloc(0);
}

/* 27 */
TEST(sequence_numbers_wrap_unless_they_do_not)
{
	struct dma_fence wide, wider;

	t_ok(is_later(1, 0xffffffff, &kept_ops));
	t_ok(!is_later(0x80000001, 1, &kept_ops));
	t_ok(!is_later(4, 4, &kept_ops));
	t_ok(is_later(UINT64_C(1) << 33, 1, &wide_ops));
	t_ok(!is_later(1, UINT64_C(1) << 33, &wide_ops));
	t_ok(!is_later(4, 4, &wide_ops));
	dma_fence_init64(&wide, &kept_ops, NULL, 5, 1);
	dma_fence_init64(&wider, &kept_ops, NULL, 5, UINT64_C(1) << 33);
	t_ok(dma_fence_is_later(&wider, &wide));
	t_ok(!dma_fence_is_later(&wide, &wider));
}

/* 28, 29, 30 */
TEST(the_later_of_two)
{
	struct dma_fence a, b, c;

	dma_fence_init(&a, &kept_ops, NULL, 5, 1);
	dma_fence_init(&b, &kept_ops, NULL, 5, 2);
	dma_fence_init(&c, &kept_ops, NULL, 6, 3);
	t_bug_expected("two contexts");
	t_ok(!dma_fence_is_later(&c, &a));
	t_bug_expected("two contexts");
	t_ok(!dma_fence_later(&c, &a));
	t_ok(dma_fence_later(&a, &b) == &b);
	t_ok(dma_fence_later(&b, &a) == &b);
	t_ok(dma_fence_is_later_or_same(&a, &a));
	t_ok(dma_fence_is_later_or_same(&b, &a));
	t_ok(!dma_fence_is_later_or_same(&a, &b));
	t_err(dma_fence_signal(&b), 0);
	t_ok(!dma_fence_later(&a, &b));
}

/* 31 */
TEST(a_fence_describes_itself)
{
	char text[128], small[8];
	struct seq_file seq = { text, sizeof(text), 0 };
	struct seq_file tight = { small, sizeof(small), 0 };
	struct dma_fence fence;

	dma_fence_init(&fence, &kept_ops, NULL, 5, 12);
	dma_fence_describe(&fence, &seq);
	t_streq(text, "5:12 timeline driver unsignalled\n");
	t_eq(seq.count, strlen(text));
	dma_fence_signal(&fence);
	seq.count = 0;
	dma_fence_describe(&fence, &seq);
	t_streq(text, "5:12 timeline driver signalled\n");
	dma_fence_describe(&fence, &tight);
	t_eq(tight.count, tight.size);
	t_streq(small, "5:12 ti");
	dma_fence_describe(&fence, &tight);
	t_streq(small, "5:12 ti");
}

static void *want_at(void *arg)
{
	struct dma_fence *fence = arg;
	int64_t i;

	for (i = 1000; i > 0; i--)
		dma_fence_set_deadline(fence, i);
	return NULL;
}

/* 32 */
TEST(the_producer_hears_of_deadlines)
{
	struct dma_fence fence;
	pthread_t threads[2];

	dma_fence_init(&fence, &kept_ops, NULL, 5, 1);
	pthread_create(&threads[0], NULL, want_at, &fence);
	pthread_create(&threads[1], NULL, want_at, &fence);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	t_eq(deadline, 1);
	t_eq(nr_deadlines, 2000);
	dma_fence_signal(&fence);
	dma_fence_set_deadline(&fence, 0);
	t_eq(nr_deadlines, 2000);
	dma_fence_init(&fence, &wide_ops, NULL, 5, 1);
	dma_fence_set_deadline(&fence, 0);
	t_eq(nr_deadlines, 2000);
}

/* 33 */
TEST(a_signalled_fence_lets_its_producer_go)
{
	struct dma_fence *fence = malloc(sizeof(*fence));
	struct dma_fence kept;
	char text[128];
	struct seq_file seq = { text, sizeof(text), 0 };

	t_may_keep_mapped(64 << 20, "the thread that frees stays");
	dma_fence_init(fence, &leaving_ops, NULL, 5, 1);
	dma_fence_read_begin();
	t_streq(dma_fence_driver_name(fence), "driver");
	t_streq(dma_fence_timeline_name(fence), "timeline");
	dma_fence_signal(fence);
	t_ok(!fence->ops);
	t_streq(dma_fence_driver_name(fence), "detached-driver");
	t_streq(dma_fence_timeline_name(fence), "signaled-timeline");
	dma_fence_read_end();
	dma_fence_describe(fence, &seq);
	t_streq(text, "5:1 signaled-timeline detached-driver signalled\n");
	t_eq(dma_fence_wait_timeout(fence, false, 3), 3);
	dma_fence_put(fence);
	dma_fence_init(&kept, &kept_ops, NULL, 5, 1);
	dma_fence_signal(&kept);
	t_ok(kept.ops == &kept_ops);
	dma_fence_barrier();
}

/* 34: the ops, the lock and the strings lie in a page that goes away. */
struct producer {
	struct dma_fence_ops ops;
	struct spinlock lock;
	char name[16];
};

/* What a consumer holds: the fence survives its producer. */
struct job {
	struct dma_fence base;
	struct producer *producer;
};

static struct dma_fence *shared;
static bool stop;

static struct producer *producer_of(struct dma_fence *fence)
{
	return ((struct job *)fence)->producer;
}

static const char *page_name(struct dma_fence *fence)
{
	return producer_of(fence)->name;
}

static bool page_signaled(struct dma_fence *fence)
{
	return producer_of(fence)->name[0] != 'd';
}

static bool page_enable(struct dma_fence *fence)
{
	return producer_of(fence)->name[0] == 'd';
}

static void do_nothing(struct dma_fence *fence, struct dma_fence_cb *cb)
{
}

static void *consume(void *arg)
{
	char text[128];

	while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST)) {
		struct seq_file seq = { text, sizeof(text), 0 };
		struct dma_fence *fence;
		struct dma_fence_cb cb;

		dma_fence_read_begin();
		fence = dma_fence_get_rcu_safe(&shared);
		dma_fence_read_end();
		dma_fence_is_signaled(fence);
		dma_fence_describe(fence, &seq);
		dma_fence_set_deadline(fence, 1);
		dma_fence_wait_timeout(fence, false, 0);
		if (!dma_fence_add_callback(fence, &cb, do_nothing))
			dma_fence_remove_callback(fence, &cb);
		dma_fence_put(fence);
	}
	return NULL;
}

static struct dma_fence *make_in_page(void)
{
	struct job *job = malloc(sizeof(*job));
	struct producer *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	t_ok(page != MAP_FAILED);
	page->ops.get_driver_name = page_name;
	page->ops.get_timeline_name = page_name;
	page->ops.signaled = page_signaled;
	page->ops.enable_signaling = page_enable;
	strcpy(page->name, "device");
	job->producer = page;
	dma_fence_init(&job->base, &page->ops, &page->lock, 9, 1);
	return &job->base;
}

TEST(after_the_grace_period_the_producer_is_gone)
{
	pthread_t threads[2];
	int i;

	t_may_keep_mapped(64 << 20, "the thread that frees stays");
	shared = make_in_page();
	for (i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, consume, NULL);
	for (i = 0; i < 100; i++) {
		struct dma_fence *old = shared;

		usleep(100);
		t_err(dma_fence_signal_sync(old), 0);
		t_err(dma_fence_signal_sync(old), -EINVAL);
		/* A late visitor of the page dies. */
		munmap(producer_of(old), 4096);
		__atomic_store_n(&shared, make_in_page(), __ATOMIC_RELEASE);
		dma_fence_put(old);
	}
	__atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	dma_fence_signal_sync(shared);
	munmap(producer_of(shared), 4096);
	dma_fence_put(shared);
	dma_fence_synchronize();
	dma_fence_barrier();
	t_eq(t_bugs_seen(), 0);
}
