/* SPDX-License-Identifier: MIT */
/*
 * The fence that is here at present.  The numbers in comments are those of the
 * conformance cases.
 */
#include "t/tap.h"

#include <fcntl.h>
#include <mmn/dma-fence-chain.h>
#include <mmn/inject.h>
#include <mmn/sync.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ALL MMN_SYNCOBJ_WAIT_ALL
#define FOR_SUBMIT MMN_SYNCOBJ_WAIT_FOR_SUBMIT
#define AVAILABLE MMN_SYNCOBJ_WAIT_AVAILABLE

static struct mmn_sw_sync *timeline;
static struct mmn_syncobj *object;

static void begin(void)
{
	t_may_keep_mapped(64 << 20, "the thread that frees stays");
	t_err(mmn_sw_sync_create("time", &timeline), 0);
	t_err(mmn_syncobj_create(0, &object), 0);
}

static void end(void)
{
	mmn_syncobj_put(object);
	mmn_sw_sync_destroy(timeline);
	dma_fence_barrier();
}

static void advance(uint32_t steps)
{
	t_err(mmn_sw_sync_inc(timeline, steps), 0);
}

static struct dma_fence *at(uint32_t value)
{
	struct dma_fence *fence = NULL;

	t_err(mmn_sw_sync_create_fence(timeline, value, &fence), 0);
	return fence;
}

/* Put the fence of a value there. */
static void replace(struct mmn_syncobj *there, uint32_t value)
{
	struct dma_fence *fence = at(value);

	t_err(mmn_syncobj_replace_fence(there, fence), 0);
	dma_fence_put(fence);
}

static void add_point(struct mmn_syncobj *there, uint64_t point, uint32_t value)
{
	struct dma_fence *fence = at(value);

	t_err(mmn_syncobj_add_point(there, point, fence), 0);
	dma_fence_put(fence);
}

static int wait_for(uint32_t flags, uint64_t point, int64_t deadline)
{
	struct mmn_syncobj_wait wait = {
		.size = sizeof(wait),
		.flags = flags,
		.objects = &object,
		.points = &point,
		.count = 1,
		.deadline = deadline,
		.first = 77,
	};
	int ret = mmn_syncobj_wait(&wait);

	t_eq(wait.first, ret || flags & ALL ? 77 : 0);
	return ret;
}

static uint64_t query(uint32_t flags)
{
	uint64_t point = 12345;

	t_err(mmn_syncobj_query(object, flags, &point), 0);
	return point;
}

static int64_t in_ms(int ms)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec +
	       ms * INT64_C(1000000);
}

/* 106 */
TEST(nothing_is_there)
{
	struct dma_fence *fence = NULL;

	begin();
	t_err(wait_for(0, 0, DMA_FENCE_NEVER), -EINVAL);
	t_err(wait_for(0, 1, DMA_FENCE_NEVER), -EINVAL);
	t_err(wait_for(FOR_SUBMIT, 0, 0), -ETIMEDOUT);
	t_err(wait_for(FOR_SUBMIT, 0, in_ms(5)), -ETIMEDOUT);
	t_err(wait_for(AVAILABLE, 0, 0), -ETIMEDOUT);
	t_err(wait_for(FOR_SUBMIT | ALL, 3, -5), -ETIMEDOUT);
	t_err(mmn_syncobj_find_fence(object, 0, 0, 0, &fence), -EINVAL);
	t_err(mmn_syncobj_find_fence(object, 0, FOR_SUBMIT, in_ms(5), &fence),
	      -ETIMEDOUT);
	t_ok(!fence);
	t_eq(query(0), 0);
	t_eq(query(MMN_SYNCOBJ_QUERY_LAST_SUBMITTED), 0);
	end();
}

TEST(made_signalled)
{
	struct mmn_syncobj *done;
	struct dma_fence *fence;

	begin();
	t_err(mmn_syncobj_create(MMN_SYNCOBJ_SIGNALED, &done), 0);
	t_err(mmn_syncobj_find_fence(done, 0, 0, 0, &fence), 0);
	t_ok(dma_fence_test_signaled_flag(fence));
	dma_fence_put(fence);
	mmn_syncobj_put(done);
	end();
}

TEST(a_binary_object_is_as_far_as_its_fence)
{
	begin();
	replace(object, 1);
	t_err(wait_for(0, 0, 0), -ETIMEDOUT);
	t_err(wait_for(AVAILABLE, 0, 0), 0);
	/* It has no points. */
	t_err(wait_for(0, 1, 0), -EINVAL);
	t_eq(query(0), 0);
	advance(1);
	t_err(wait_for(0, 0, 0), 0);
	t_err(wait_for(ALL, 0, 0), 0);
	t_err(mmn_syncobj_reset(object), 0);
	t_err(wait_for(0, 0, 0), -EINVAL);
	t_err(mmn_syncobj_signal(object), 0);
	t_err(wait_for(0, 0, 0), 0);
	end();
}

TEST(a_signal_has_the_time_of_now)
{
	struct dma_fence *fence;
	int64_t before, after;

	begin();
	before = in_ms(0);
	t_err(mmn_syncobj_signal(object), 0);
	after = in_ms(0);
	t_err(mmn_syncobj_find_fence(object, 0, 0, 0, &fence), 0);
	t_ge(dma_fence_timestamp(fence), before);
	t_le(dma_fence_timestamp(fence), after);
	dma_fence_put(fence);
	end();
}

struct waiter {
	pthread_t thread;
	uint32_t flags;
	uint64_t point;
};

static void *wait_for_ever(void *arg)
{
	struct waiter *waiter = arg;

	t_err(wait_for(waiter->flags, waiter->point, DMA_FENCE_NEVER), 0);
	return NULL;
}

static void start(struct waiter *waiter)
{
	t_err(pthread_create(&waiter->thread, NULL, wait_for_ever, waiter), 0);
}

static void finish(struct waiter *waiter)
{
	pthread_join(waiter->thread, NULL);
}

/* 106 */
TEST(a_wait_for_what_is_submitted_later)
{
	struct waiter binary = { .flags = FOR_SUBMIT };
	struct waiter point = { .flags = FOR_SUBMIT | ALL, .point = 2 };
	struct waiter there = { .flags = AVAILABLE, .point = 2 };

	begin();
	start(&binary);
	start(&point);
	start(&there);
	usleep(2000);
	replace(object, 1);
	advance(1);
	finish(&binary);
	add_point(object, 1, 2);
	add_point(object, 2, 3);
	finish(&there);
	advance(2);
	finish(&point);
	end();
}

/* 106: what was found is waited for, whatever comes after */
TEST(a_wait_is_for_what_it_has_found)
{
	struct waiter waiter = { .flags = FOR_SUBMIT };
	struct dma_fence *found;

	begin();
	replace(object, 1);
	t_err(mmn_syncobj_find_fence(object, 0, 0, 0, &found), 0);
	start(&waiter);
	usleep(2000);
	/* Found the first, or comes too late and finds the second: both end. */
	replace(object, 2);
	t_err(mmn_syncobj_reset(object), 0);
	t_eq(dma_fence_get_status(found), 0);
	replace(object, 3);
	advance(3);
	finish(&waiter);
	dma_fence_put(found);
	end();
}

/* 106 */
TEST(a_reset_does_not_end_a_wait)
{
	struct mmn_syncobj_wait wait = { .size = sizeof(wait),
					 .flags = FOR_SUBMIT,
					 .objects = &object,
					 .count = 1 };

	begin();
	replace(object, 1);
	t_err(mmn_syncobj_reset(object), 0);
	t_err(mmn_syncobj_wait(&wait), -ETIMEDOUT);
	replace(object, 2);
	wait.deadline = in_ms(1);
	t_err(mmn_syncobj_wait(&wait), -ETIMEDOUT);
	end();
}

enum { NR_OBJECTS = 40 };

/* 106: any gives the right index, all waits for all; more than fit on a stack */
TEST(any_and_all_of_many)
{
	struct mmn_syncobj *objects[NR_OBJECTS];
	struct mmn_syncobj_wait wait = { .size = sizeof(wait),
					 .objects = objects,
					 .count = NR_OBJECTS };
	uint32_t i;

	begin();
	for (i = 0; i < NR_OBJECTS; i++) {
		t_err(mmn_syncobj_create(0, &objects[i]), 0);
		replace(objects[i], NR_OBJECTS - i);
	}
	t_err(mmn_syncobj_wait(&wait), -ETIMEDOUT);
	advance(1);
	t_err(mmn_syncobj_wait(&wait), 0);
	t_eq(wait.first, NR_OBJECTS - 1);
	advance(4);
	t_err(mmn_syncobj_wait(&wait), 0);
	t_eq(wait.first, NR_OBJECTS - 5);
	wait.flags = ALL;
	t_err(mmn_syncobj_wait(&wait), -ETIMEDOUT);
	wait.flags = ALL | AVAILABLE;
	t_err(mmn_syncobj_wait(&wait), 0);
	wait.flags = ALL;
	advance(NR_OBJECTS);
	t_err(mmn_syncobj_wait(&wait), 0);
	t_err(mmn_syncobj_reset(objects[7]), 0);
	t_err(mmn_syncobj_wait(&wait), -EINVAL);
	wait.flags = ALL | FOR_SUBMIT;
	t_err(mmn_syncobj_wait(&wait), -ETIMEDOUT);
	wait.flags = FOR_SUBMIT;
	t_err(mmn_syncobj_wait(&wait), 0);
	t_eq(wait.first, 0);
	t_err(mmn_inject_set(MMN_INJECT_ALLOC, 1, 1), 0);
	t_err(mmn_syncobj_wait(&wait), -ENOMEM);
	mmn_inject_clear();
	wait.count = 0;
	wait.objects = NULL;
	t_err(mmn_syncobj_wait(&wait), 0);
	for (i = 0; i < NR_OBJECTS; i++)
		mmn_syncobj_put(objects[i]);
	end();
}

TEST(a_wait_tells_producers_its_hint)
{
	struct mmn_syncobj_wait wait = { .size = sizeof(wait),
					 .flags = MMN_SYNCOBJ_WAIT_DEADLINE,
					 .objects = &object,
					 .count = 1,
					 .hint = 99 };
	struct dma_fence *fence;
	int64_t deadline;

	begin();
	fence = at(1);
	t_err(mmn_syncobj_replace_fence(object, fence), 0);
	t_err(mmn_syncobj_wait(&wait), -ETIMEDOUT);
	t_err(mmn_sw_sync_get_deadline(fence, &deadline), 0);
	t_eq(deadline, 99);
	dma_fence_put(fence);
	end();
}

TEST(a_wait_can_be_cancelled)
{
	struct dma_fence_cancel cancel = { 0 };
	struct dma_fence *fence;

	begin();
	dma_fence_cancel_bind(&cancel);
	dma_fence_cancel_raise(&cancel);
	t_err(wait_for(FOR_SUBMIT, 0, DMA_FENCE_NEVER), -ERESTARTSYS);
	t_err(mmn_syncobj_find_fence(object, 1, FOR_SUBMIT, DMA_FENCE_NEVER,
				     &fence),
	      -ERESTARTSYS);
	replace(object, 1);
	t_err(wait_for(0, 0, DMA_FENCE_NEVER), -ERESTARTSYS);
	advance(1);
	/* What has signalled is a success all the same. */
	t_err(wait_for(0, 0, DMA_FENCE_NEVER), 0);
	dma_fence_cancel_bind(NULL);
	end();
}

/* 108 */
TEST(points_that_come_in_no_order)
{
	static const uint64_t points[] = { 1, 5, 3, 6, 7 };
	int i;

	begin();
	for (i = 0; i < 5; i++)
		add_point(object, points[i], i + 1);
	t_eq(query(MMN_SYNCOBJ_QUERY_LAST_SUBMITTED), 7);
	t_eq(query(0), 0);
	advance(3);
	t_eq(query(0), 5);
	advance(1);
	t_eq(query(0), 6);
	advance(1);
	t_eq(query(0), 7);
	end();
}

/* 108: what the host signals is hidden until all before has signalled */
TEST(a_point_waits_for_those_before)
{
	uint64_t point;

	begin();
	for (point = 1; point <= 5; point++)
		add_point(object, point, (uint32_t)point);
	t_err(mmn_syncobj_timeline_signal(object, 8), 0);
	t_eq(query(MMN_SYNCOBJ_QUERY_LAST_SUBMITTED), 8);
	t_eq(query(0), 0);
	t_err(wait_for(0, 8, 0), -ETIMEDOUT);
	t_err(wait_for(0, 9, 0), -EINVAL);
	advance(4);
	t_eq(query(0), 4);
	t_err(wait_for(0, 4, 0), 0);
	t_err(wait_for(0, 5, 0), -ETIMEDOUT);
	t_err(wait_for(0, 7, 0), -ETIMEDOUT);
	advance(1);
	t_eq(query(0), 8);
	t_err(wait_for(0, 8, 0), 0);
	t_err(wait_for(0, 2, 0), 0);
	end();
}

/* 108 */
TEST(points_are_64_bits)
{
	begin();
	add_point(object, UINT64_C(0x7fffffff), 1);
	add_point(object, UINT64_C(0x180000000), 2);
	add_point(object, UINT64_MAX, 3);
	advance(1);
	t_eq(query(0), UINT64_C(0x7fffffff));
	t_err(wait_for(0, UINT64_C(0x80000000), 0), -ETIMEDOUT);
	advance(1);
	t_eq(query(0), UINT64_C(0x180000000));
	t_err(wait_for(0, UINT64_MAX, 0), -ETIMEDOUT);
	advance(1);
	t_eq(query(0), UINT64_MAX);
	end();
}

/* 109 */
TEST(point_0_is_binary)
{
	begin();
	t_err(mmn_syncobj_timeline_signal(object, 0), 0);
	t_eq(query(0), 0);
	t_err(wait_for(0, 0, 0), 0);
	/* Of a timeline it is the last one. */
	add_point(object, 1, 1);
	add_point(object, 2, 2);
	advance(1);
	t_err(wait_for(0, 0, 0), -ETIMEDOUT);
	advance(1);
	t_err(wait_for(0, 0, 0), 0);
	end();
}

TEST(a_point_that_was_collected_has_signalled)
{
	struct dma_fence *fence;

	begin();
	add_point(object, 1, 1);
	add_point(object, 2, 2);
	advance(1);
	add_point(object, 3, 9);
	t_eq(query(0), 1);
	t_err(mmn_syncobj_find_fence(object, 1, 0, 0, &fence), 0);
	t_ok(dma_fence_is_signaled(fence));
	dma_fence_put(fence);
	end();
}

static const char *name(struct dma_fence *fence)
{
	return "test";
}

static void release(struct dma_fence *fence)
{
}

/* A stranger's fence may have any number, also that of the timeline. */
TEST(a_timeline_that_begins_with_a_binary_fence)
{
	static const struct dma_fence_ops ops = {
		.get_driver_name = name,
		.get_timeline_name = name,
		.release = release,
	};
	struct dma_fence first, *node;

	begin();
	dma_fence_init(&first, &ops, NULL, 0, 1);
	t_err(mmn_syncobj_replace_fence(object, &first), 0);
	add_point(object, 4, 1);
	t_err(mmn_syncobj_find_fence(object, 0, 0, 0, &node), 0);
	first.context = node->context;
	dma_fence_put(node);
	t_eq(query(0), 0);
	advance(1);
	t_eq(query(0), 0);
	t_err(dma_fence_signal(&first), 0);
	t_eq(query(0), 4);
	end();
}

/* What has signalled does not pile up behind the newest. */
TEST(a_timeline_stays_short)
{
	struct dma_fence *head, *iter;
	uint32_t i, length = 0;

	begin();
	for (i = 1; i <= 1000; i++) {
		add_point(object, i, i);
		if (i > 3)
			advance(1);
	}
	t_err(mmn_syncobj_find_fence(object, 0, 0, 0, &head), 0);
	for (iter = head; to_dma_fence_chain(iter);
	     iter = to_dma_fence_chain(iter)->prev)
		length++;
	t_le(length, 8);
	dma_fence_put(head);
	end();
}

static struct mmn_syncobj_transfer from_to(struct mmn_syncobj *from,
					   uint64_t from_point,
					   struct mmn_syncobj *to,
					   uint64_t to_point)
{
	return (struct mmn_syncobj_transfer){
		.size = sizeof(struct mmn_syncobj_transfer),
		.from = from,
		.from_point = from_point,
		.to = to,
		.to_point = to_point,
	};
}

TEST(fences_are_transferred)
{
	struct mmn_syncobj_transfer transfer;
	struct mmn_syncobj *binary, *copy;
	struct dma_fence *fence;

	begin();
	t_err(mmn_syncobj_create(0, &binary), 0);
	t_err(mmn_syncobj_create(0, &copy), 0);
	add_point(object, 1, 1);
	add_point(object, 2, 2);
	/* A point becomes the fence of another object, */
	transfer = from_to(object, 1, binary, 0);
	t_err(mmn_syncobj_transfer(&transfer), 0);
	/* and a point there, */
	transfer = from_to(object, 2, copy, 10);
	t_err(mmn_syncobj_transfer(&transfer), 0);
	/* without its chain. */
	t_err(mmn_syncobj_find_fence(copy, 10, 0, 0, &fence), 0);
	t_ok(!dma_fence_is_chain(to_dma_fence_chain(fence)->fence));
	t_eq(dma_fence_get_status(fence), 0);
	advance(1);
	t_eq(dma_fence_get_status(fence), 0);
	mmn_syncobj_put(object);
	object = binary;
	t_err(wait_for(0, 0, 0), 0);
	advance(1);
	t_eq(dma_fence_get_status(fence), 1);
	dma_fence_put(fence);
	/* and from a binary one to a point. */
	transfer = from_to(binary, 0, copy, 11);
	t_err(mmn_syncobj_transfer(&transfer), 0);
	mmn_syncobj_put(object);
	object = copy;
	t_eq(query(0), 11);
	end();
}

TEST(a_transfer_may_wait_for_what_is_to_come)
{
	struct mmn_syncobj_transfer transfer;
	struct waiter waiter = { .flags = FOR_SUBMIT, .point = 3 };
	struct mmn_syncobj *from;

	begin();
	t_err(mmn_syncobj_create(0, &from), 0);
	transfer = from_to(from, 1, object, 3);
	t_err(mmn_syncobj_transfer(&transfer), -EINVAL);
	transfer.flags = FOR_SUBMIT;
	t_err(mmn_syncobj_transfer(&transfer), -ETIMEDOUT);
	start(&waiter);
	t_err(mmn_syncobj_timeline_signal(from, 1), 0);
	transfer.deadline = DMA_FENCE_NEVER;
	t_err(mmn_syncobj_transfer(&transfer), 0);
	finish(&waiter);
	mmn_syncobj_put(from);
	end();
}

/* 105 */
TEST(sync_files_come_and_go)
{
	struct mmn_sync_file *file;
	struct dma_fence *fence;

	begin();
	t_err(mmn_syncobj_export_file(object, 0, &file), -EINVAL);
	replace(object, 1);
	t_err(mmn_syncobj_export_file(object, 0, &file), 0);
	/* It does not follow the object. */
	t_err(mmn_syncobj_reset(object), 0);
	fence = mmn_sync_file_get_fence(file);
	t_eq(dma_fence_get_status(fence), 0);
	dma_fence_put(fence);
	t_err(mmn_syncobj_import_file(object, 4, file), 0);
	t_err(mmn_syncobj_import_file(object, 0, file), 0);
	t_err(wait_for(0, 0, 0), -ETIMEDOUT);
	mmn_sync_file_put(file);
	advance(1);
	t_err(wait_for(0, 0, 0), 0);
	add_point(object, 7, 2);
	t_err(mmn_syncobj_export_file(object, 7, &file), 0);
	/* A chain is flattened on its way in. */
	t_err(mmn_syncobj_import_file(object, 8, file), 0);
	mmn_sync_file_put(file);
	advance(1);
	t_eq(query(0), 8);
	end();
}

static uint64_t count_of(int fd)
{
	uint64_t count = 0;

	if (read(fd, &count, sizeof(count)) < 0)
		t_eq(errno, EAGAIN);
	return count;
}

static int make_eventfd(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	t_ge(fd, 0);
	return fd;
}

/* 107 */
TEST(an_eventfd_is_told_once)
{
	int done, there;

	begin();
	done = make_eventfd();
	there = make_eventfd();
	/* before there is a fence, */
	t_err(mmn_syncobj_eventfd(object, 0, 0, done), 0);
	t_err(mmn_syncobj_eventfd(object, 0, AVAILABLE, there), 0);
	t_eq(count_of(done), 0);
	t_eq(count_of(there), 0);
	replace(object, 1);
	t_eq(count_of(done), 0);
	t_eq(count_of(there), 1);
	advance(1);
	t_eq(count_of(done), 1);
	/* only once, */
	replace(object, 2);
	advance(1);
	t_eq(count_of(done), 0);
	t_eq(count_of(there), 0);
	/* and after. */
	replace(object, 3);
	t_err(mmn_syncobj_eventfd(object, 0, 0, done), 0);
	t_err(mmn_syncobj_eventfd(object, 0, AVAILABLE, there), 0);
	t_eq(count_of(done), 0);
	t_eq(count_of(there), 1);
	advance(1);
	t_eq(count_of(done), 1);
	t_err(mmn_syncobj_eventfd(object, 0, 0, done), 0);
	t_eq(count_of(done), 1);
	close(done);
	close(there);
	end();
}

/* 107 */
TEST(eventfds_of_points)
{
	int fds[4], i;

	begin();
	for (i = 0; i < 4; i++) {
		fds[i] = make_eventfd();
		t_err(mmn_syncobj_eventfd(object, (uint64_t)i + 1, 0, fds[i]),
		      0);
	}
	add_point(object, 2, 1);
	add_point(object, 3, 2);
	advance(1);
	t_eq(count_of(fds[0]), 1);
	t_eq(count_of(fds[1]), 1);
	t_eq(count_of(fds[2]), 0);
	advance(1);
	t_eq(count_of(fds[2]), 1);
	t_eq(count_of(fds[3]), 0);
	t_err(mmn_syncobj_timeline_signal(object, 4), 0);
	t_eq(count_of(fds[3]), 1);
	for (i = 0; i < 4; i++)
		close(fds[i]);
	end();
}

/* 107 */
TEST(an_object_that_goes_forgets_its_eventfds)
{
	int fd;

	begin();
	fd = make_eventfd();
	t_err(mmn_syncobj_eventfd(object, 5, 0, fd), 0);
	replace(object, 1);
	t_err(mmn_syncobj_eventfd(object, 0, 0, fd), 0);
	t_ok(mmn_syncobj_get(object) == object);
	mmn_syncobj_put(object);
	mmn_syncobj_put(object);
	object = NULL;
	advance(1);
	t_eq(count_of(fd), 0);
	close(fd);
	end();
}

TEST(the_caller_may_close_his_own)
{
	int fd, copy;

	begin();
	fd = make_eventfd();
	copy = dup(fd);
	replace(object, 1);
	t_err(mmn_syncobj_eventfd(object, 0, 0, fd), 0);
	close(fd);
	/* The number is used again, for something else. */
	t_eq(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), fd);
	advance(1);
	t_eq(count_of(fd), 0);
	t_eq(count_of(copy), 1);
	close(fd);
	close(copy);
	end();
}

TEST(a_full_eventfd_does_not_block)
{
	uint64_t full = UINT64_MAX - 1;
	int fd;

	begin();
	fd = eventfd(0, EFD_CLOEXEC);
	t_eq(write(fd, &full, sizeof(full)), 8);
	replace(object, 1);
	t_err(mmn_syncobj_eventfd(object, 0, 0, fd), 0);
	advance(1);
	t_eq(count_of(fd), full);
	close(fd);
	end();
}

TEST(only_eventfds_are_told)
{
	struct rlimit limit, none;
	int pipes[2], fd;

	begin();
	t_eq(pipe(pipes), 0);
	t_err(mmn_syncobj_eventfd(object, 0, 0, pipes[1]), -EINVAL);
	close(pipes[0]);
	close(pipes[1]);
	t_err(mmn_syncobj_eventfd(object, 0, 0, pipes[1]), -EBADF);
	t_err(mmn_syncobj_eventfd(object, 0, 0, -1), -EBADF);
	fd = make_eventfd();
	t_err(mmn_syncobj_eventfd(NULL, 0, 0, fd), -EINVAL);
	t_err(mmn_syncobj_eventfd(object, 0, FOR_SUBMIT, fd), -EINVAL);
	t_err(mmn_inject_set(MMN_INJECT_ALLOC, 1, 1), 0);
	t_err(mmn_syncobj_eventfd(object, 0, 0, fd), -ENOMEM);
	mmn_inject_clear();
	t_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = (rlim_t)fd + 1;
	t_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	t_err(mmn_syncobj_eventfd(object, 0, 0, fd), -EMFILE);
	t_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	replace(object, 1);
	advance(1);
	t_eq(count_of(fd), 0);
	close(fd);
	end();
}

TEST(what_is_not_there_is_refused)
{
	struct mmn_syncobj_wait wait = { .size = sizeof(wait), .count = 1 };
	struct mmn_syncobj_transfer transfer;
	struct mmn_syncobj *none = NULL;
	struct mmn_sync_file *file = NULL;
	struct dma_fence *fence;
	uint64_t point;

	begin();
	fence = at(1);
	transfer = from_to(object, 0, NULL, 0);
	t_err(mmn_syncobj_create(2, &none), -EINVAL);
	t_err(mmn_syncobj_create(0, NULL), -EINVAL);
	t_err(mmn_syncobj_replace_fence(NULL, fence), -EINVAL);
	t_err(mmn_syncobj_reset(NULL), -EINVAL);
	t_err(mmn_syncobj_signal(NULL), -EINVAL);
	t_err(mmn_syncobj_timeline_signal(NULL, 1), -EINVAL);
	t_err(mmn_syncobj_add_point(NULL, 1, fence), -EINVAL);
	t_err(mmn_syncobj_add_point(object, 0, fence), -EINVAL);
	t_err(mmn_syncobj_add_point(object, 1, NULL), -EINVAL);
	t_err(mmn_syncobj_query(NULL, 0, &point), -EINVAL);
	t_err(mmn_syncobj_query(object, 2, &point), -EINVAL);
	t_err(mmn_syncobj_query(object, 0, NULL), -EINVAL);
	t_err(mmn_syncobj_find_fence(NULL, 0, 0, 0, &fence), -EINVAL);
	t_err(mmn_syncobj_find_fence(object, 0, ALL, 0, &fence), -EINVAL);
	t_err(mmn_syncobj_find_fence(object, 0, 0, 0, NULL), -EINVAL);
	t_err(mmn_syncobj_transfer(NULL), -EINVAL);
	t_err(mmn_syncobj_transfer(&transfer), -EINVAL);
	transfer = from_to(NULL, 0, object, 0);
	t_err(mmn_syncobj_transfer(&transfer), -EINVAL);
	transfer.size--;
	t_err(mmn_syncobj_transfer(&transfer), -EINVAL);
	t_err(mmn_syncobj_import_file(object, 0, NULL), -EINVAL);
	t_err(mmn_syncobj_import_file(NULL, 0, file), -EINVAL);
	t_err(mmn_syncobj_export_file(NULL, 0, &file), -EINVAL);
	t_err(mmn_syncobj_export_file(object, 0, NULL), -EINVAL);
	t_err(mmn_syncobj_wait(NULL), -EINVAL);
	t_err(mmn_syncobj_wait(&wait), -EINVAL);
	wait.objects = &none;
	t_err(mmn_syncobj_wait(&wait), -EINVAL);
	wait.objects = &object;
	wait.flags = 16;
	t_err(mmn_syncobj_wait(&wait), -EINVAL);
	wait.flags = 0;
	wait.size--;
	t_err(mmn_syncobj_wait(&wait), -EINVAL);
	/* A node of a chain is not put into another. */
	t_err(mmn_syncobj_add_point(object, 1, fence), 0);
	dma_fence_put(fence);
	t_err(mmn_syncobj_find_fence(object, 1, 0, 0, &fence), 0);
	t_err(mmn_syncobj_add_point(object, 2, fence), -EINVAL);
	dma_fence_put(fence);
	t_ok(!mmn_syncobj_get(NULL));
	mmn_syncobj_put(NULL);
	end();
}

TEST(a_newer_caller_is_told)
{
	struct {
		struct mmn_syncobj_wait wait;
		uint64_t more;
	} wait = { { .size = sizeof(wait) }, 1 };
	struct {
		struct mmn_syncobj_transfer transfer;
		uint64_t more;
	} transfer = { { .size = sizeof(transfer) }, 1 };

	begin();
	transfer.transfer.from = object;
	transfer.transfer.to = object;
	t_err(mmn_syncobj_wait(&wait.wait), -E2BIG);
	t_err(mmn_syncobj_transfer(&transfer.transfer), -E2BIG);
	wait.more = 0;
	transfer.more = 0;
	t_err(mmn_syncobj_signal(object), 0);
	t_err(mmn_syncobj_wait(&wait.wait), 0);
	t_err(mmn_syncobj_transfer(&transfer.transfer), 0);
	end();
}

TEST(without_memory_nothing_changes)
{
	struct mmn_syncobj_transfer transfer;
	struct mmn_syncobj *ret = NULL;
	struct mmn_sync_file *file = NULL, *ret_file = NULL;
	struct dma_fence *fence;

	begin();
	fence = at(1);
	t_err(mmn_sync_file_create(fence, NULL, &file), 0);
	t_err(mmn_syncobj_add_point(object, 1, fence), 0);
	transfer = from_to(object, 1, object, 2);
	t_err(mmn_inject_set(MMN_INJECT_ALLOC, 1, 1), 0);
	t_err(mmn_syncobj_create(0, &ret), -ENOMEM);
	t_err(mmn_syncobj_signal(object), -ENOMEM);
	t_err(mmn_syncobj_timeline_signal(object, 2), -ENOMEM);
	t_err(mmn_syncobj_add_point(object, 2, fence), -ENOMEM);
	t_err(mmn_syncobj_transfer(&transfer), -ENOMEM);
	t_err(mmn_syncobj_import_file(object, 2, file), -ENOMEM);
	t_err(mmn_syncobj_export_file(object, 1, &ret_file), -ENOMEM);
	mmn_inject_clear();
	t_ok(!ret);
	t_ok(!ret_file);
	t_eq(query(MMN_SYNCOBJ_QUERY_LAST_SUBMITTED), 1);
	mmn_sync_file_put(file);
	dma_fence_put(fence);
	end();
}

static void in_child(struct mmn_sync_file *file, int fd)
{
	struct mmn_syncobj_transfer transfer = from_to(object, 0, object, 0);
	struct mmn_sync_file *ret_file;
	struct dma_fence *fence;
	uint64_t point;

	t_err(mmn_syncobj_signal(object), -ESTALE);
	t_err(mmn_syncobj_reset(object), -ESTALE);
	t_err(mmn_syncobj_timeline_signal(object, 3), -ESTALE);
	t_err(mmn_syncobj_query(object, 0, &point), -ESTALE);
	t_err(wait_for(FOR_SUBMIT, 0, DMA_FENCE_NEVER), -ESTALE);
	t_err(mmn_syncobj_find_fence(object, 0, 0, 0, &fence), -ESTALE);
	t_err(mmn_syncobj_transfer(&transfer), -ESTALE);
	t_err(mmn_syncobj_import_file(object, 0, file), -ESTALE);
	t_err(mmn_syncobj_export_file(object, 0, &ret_file), -ESTALE);
	t_err(mmn_syncobj_eventfd(object, 0, 0, fd), -ESTALE);
	fence = dma_fence_get_stub();
	t_err(mmn_syncobj_replace_fence(object, fence), -ESTALE);
	t_err(mmn_syncobj_add_point(object, 3, fence), -ESTALE);
	dma_fence_put(fence);
	mmn_syncobj_put(object);
}

TEST(in_a_fork_child_it_is_inert)
{
	struct mmn_sync_file *file;
	struct dma_fence *fence;
	int fd, status;
	pid_t child;

	begin();
	fd = make_eventfd();
	fence = at(1);
	t_err(mmn_syncobj_replace_fence(object, fence), 0);
	t_err(mmn_sync_file_create(fence, NULL, &file), 0);
	t_err(mmn_syncobj_eventfd(object, 0, 0, fd), 0);
	t_err(mmn_syncobj_eventfd(object, 5, 0, fd), 0);
	child = fork();
	if (!child) {
		/* The copy signals: the parent's eventfd does not hear of it. */
		dma_fence_signal(fence);
		in_child(file, fd);
		_exit(0);
	}
	t_eq(waitpid(child, &status, 0), child);
	t_eq(status, 0);
	t_eq(count_of(fd), 0);
	advance(1);
	t_eq(count_of(fd), 1);
	mmn_sync_file_put(file);
	dma_fence_put(fence);
	close(fd);
	end();
}
