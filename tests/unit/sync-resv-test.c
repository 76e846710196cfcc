/* SPDX-License-Identifier: MIT */
/*
 * Descriptors of reservation objects.  The numbers in comments are those of the
 * conformance cases.
 */
#include "t/tap.h"

#include <fcntl.h>
#include <mmn/dma-fence-array.h>
#include <mmn/inject.h>
#include <mmn/sync.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit/answer-syscall.h"

#define READ MMN_ACCESS_READ
#define WRITE MMN_ACCESS_WRITE

static struct dma_resv resv;
static struct mmn_sw_sync *timeline;

static void begin(void)
{
	t_may_keep_mapped(64 << 20, "the thread that frees stays");
	dma_resv_init(&resv);
	t_err(mmn_sw_sync_create("time", &timeline), 0);
}

static void end(void)
{
	mmn_sw_sync_destroy(timeline);
	dma_resv_fini(&resv);
	dma_fence_barrier();
}

static void advance(void)
{
	t_err(mmn_sw_sync_inc(timeline, 1), 0);
}

/* A use of the buffer that ends at a value. */
static void use(enum dma_resv_usage usage, uint32_t value)
{
	struct dma_fence *fence;

	t_err(mmn_sw_sync_create_fence(timeline, value, &fence), 0);
	t_err(dma_resv_lock(&resv, NULL), 0);
	t_err(dma_resv_reserve_fences(&resv, 1), 0);
	dma_resv_add_fence(&resv, fence, usage);
	dma_resv_unlock(&resv);
	dma_fence_put(fence);
}

static struct mmn_resv_poller *create(uint32_t access)
{
	struct mmn_resv_poller *poller = NULL;

	t_err(mmn_resv_poller_create(&resv, access, &poller), 0);
	return poller;
}

static uint32_t arm(struct mmn_resv_poller *poller)
{
	uint32_t access = 77;

	t_err(mmn_resv_poller_arm(poller, &access), 0);
	return access;
}

static int fd_of(struct mmn_resv_poller *poller)
{
	int fd = -1;

	t_err(mmn_resv_poller_get_fd(poller, &fd), 0);
	return fd;
}

static bool is_readable(struct mmn_resv_poller *poller)
{
	struct pollfd pollfd = { .fd = fd_of(poller), .events = POLLIN };

	return poll(&pollfd, 1, 0) == 1;
}

/* 104 */
TEST(which_fences_forbid_which_access)
{
	static const uint32_t allowed[] = {
		[DMA_RESV_USAGE_KERNEL] = 0,
		[DMA_RESV_USAGE_WRITE] = 0,
		[DMA_RESV_USAGE_READ] = READ,
		[DMA_RESV_USAGE_BOOKKEEP] = READ | WRITE,
	};
	uint32_t usage, access;

	for (usage = 0; usage < 4; usage++) {
		for (access = READ; access <= (READ | WRITE); access++) {
			struct mmn_resv_poller *poller;
			uint32_t expected = allowed[usage] & access;

			begin();
			poller = create(access);
			t_eq(arm(poller), access);
			t_ok(is_readable(poller));
			use(usage, 1);
			t_eq(arm(poller), expected);
			t_eq(is_readable(poller), expected != 0);
			advance();
			t_ok(is_readable(poller));
			t_eq(arm(poller), access);
			mmn_resv_poller_destroy(poller);
			end();
		}
	}
}

/* 104: each poller has what he waits for */
TEST(pollers_of_different_access)
{
	struct mmn_resv_poller *reader, *other, *writer;

	begin();
	reader = create(READ);
	other = create(READ);
	writer = create(WRITE);
	use(DMA_RESV_USAGE_WRITE, 1);
	t_eq(arm(reader), 0);
	t_eq(arm(writer), 0);
	use(DMA_RESV_USAGE_READ, 2);
	t_eq(arm(other), 0);
	advance();
	t_ok(is_readable(reader));
	t_ok(is_readable(other));
	/* What he waits for was there when he was armed; now there is more. */
	t_ok(is_readable(writer));
	t_eq(arm(reader), READ);
	t_eq(arm(other), READ);
	t_eq(arm(writer), 0);
	t_ok(!is_readable(writer));
	advance();
	t_ok(is_readable(writer));
	t_eq(arm(writer), WRITE);
	mmn_resv_poller_destroy(reader);
	mmn_resv_poller_destroy(other);
	mmn_resv_poller_destroy(writer);
	end();
}

/* 104 */
TEST(a_fence_that_comes_after_is_found_by_the_next_look)
{
	struct mmn_resv_poller *poller;
	uint32_t i;

	begin();
	poller = create(READ);
	use(DMA_RESV_USAGE_WRITE, 1);
	for (i = 1; i <= 5; i++) {
		t_eq(arm(poller), 0);
		use(DMA_RESV_USAGE_WRITE, i + 1);
		t_ok(!is_readable(poller));
		advance();
		t_ok(is_readable(poller));
	}
	t_eq(arm(poller), 0);
	advance();
	t_eq(arm(poller), READ);
	/* Ready, then busy again. */
	use(DMA_RESV_USAGE_WRITE, 7);
	t_ok(is_readable(poller));
	t_eq(arm(poller), 0);
	t_ok(!is_readable(poller));
	mmn_resv_poller_destroy(poller);
	end();
}

/* One wake-up for all that is pending, not one for each. */
TEST(all_that_is_pending_is_one_event)
{
	struct mmn_resv_poller *poller;
	struct mmn_sw_sync *others[6];
	struct dma_fence *fence;
	int i;

	begin();
	poller = create(WRITE);
	for (i = 0; i < 6; i++) {
		t_err(mmn_sw_sync_create("other", &others[i]), 0);
		t_err(mmn_sw_sync_create_fence(others[i], 1, &fence), 0);
		t_err(dma_resv_lock(&resv, NULL), 0);
		t_err(dma_resv_reserve_fences(&resv, 1), 0);
		dma_resv_add_fence(&resv, fence, DMA_RESV_USAGE_READ);
		dma_resv_unlock(&resv);
		dma_fence_put(fence);
	}
	t_eq(arm(poller), 0);
	for (i = 0; i < 6; i++) {
		t_ok(!is_readable(poller));
		t_err(mmn_sw_sync_inc(others[i], 1), 0);
	}
	t_ok(is_readable(poller));
	t_eq(arm(poller), WRITE);
	for (i = 0; i < 6; i++)
		mmn_sw_sync_destroy(others[i]);
	mmn_resv_poller_destroy(poller);
	end();
}

/* 104: closed while armed */
TEST(a_poller_that_goes_takes_its_callback_along)
{
	struct mmn_resv_poller *poller;
	int fd;

	begin();
	poller = create(READ);
	fd = fd_of(poller);
	t_ok(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	use(DMA_RESV_USAGE_WRITE, 1);
	t_eq(arm(poller), 0);
	mmn_resv_poller_destroy(poller);
	t_eq(fcntl(fd, F_GETFD), -1);
	advance();
	mmn_resv_poller_destroy(NULL);
	end();
}

TEST(a_reader_of_the_descriptor_loses_nothing)
{
	struct mmn_resv_poller *poller;
	uint64_t count;

	begin();
	poller = create(READ);
	use(DMA_RESV_USAGE_WRITE, 1);
	t_eq(arm(poller), 0);
	advance();
	t_eq(read(fd_of(poller), &count, sizeof(count)), 8);
	t_ok(!is_readable(poller));
	t_eq(arm(poller), READ);
	t_ok(is_readable(poller));
	mmn_resv_poller_destroy(poller);
	end();
}

TEST(epoll_by_edge)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	struct mmn_resv_poller *poller;
	uint32_t i;
	int epoll;

	begin();
	poller = create(READ);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	t_eq(epoll_ctl(epoll, EPOLL_CTL_ADD, fd_of(poller), &event), 0);
	for (i = 1; i <= 3; i++) {
		use(DMA_RESV_USAGE_WRITE, i);
		t_eq(arm(poller), 0);
		t_eq(epoll_wait(epoll, &event, 1, 0), 0);
		advance();
		t_eq(epoll_wait(epoll, &event, 1, 0), 1);
		t_eq(epoll_wait(epoll, &event, 1, 0), 0);
	}
	close(epoll);
	mmn_resv_poller_destroy(poller);
	end();
}

/* The caller, or another thread, may hold the lock. */
TEST(it_can_be_armed_while_the_object_is_locked)
{
	struct mmn_resv_poller *poller;

	begin();
	poller = create(READ);
	t_err(dma_resv_lock(&resv, NULL), 0);
	t_eq(arm(poller), READ);
	dma_resv_unlock(&resv);
	use(DMA_RESV_USAGE_WRITE, 1);
	t_err(dma_resv_lock(&resv, NULL), 0);
	t_eq(arm(poller), 0);
	advance();
	t_eq(arm(poller), READ);
	dma_resv_unlock(&resv);
	mmn_resv_poller_destroy(poller);
	end();
}

/* 105 */
TEST(what_is_exported_does_not_follow_the_object)
{
	struct mmn_sync_file *for_reader, *for_writer;
	struct dma_fence *fence;

	begin();
	use(DMA_RESV_USAGE_READ, 1);
	use(DMA_RESV_USAGE_BOOKKEEP, 9);
	t_err(mmn_resv_export_file(&resv, READ, &for_reader), 0);
	t_err(mmn_resv_export_file(&resv, WRITE, &for_writer), 0);
	fence = mmn_sync_file_get_fence(for_reader);
	t_eq(dma_fence_get_status(fence), 1);
	dma_fence_put(fence);
	fence = mmn_sync_file_get_fence(for_writer);
	t_eq(dma_fence_get_status(fence), 0);
	use(DMA_RESV_USAGE_WRITE, 2);
	advance();
	t_eq(dma_fence_get_status(fence), 1);
	dma_fence_put(fence);
	mmn_sync_file_put(for_reader);
	mmn_sync_file_put(for_writer);
	end();
}

/* 105: a merged file becomes one fence for each timeline */
TEST(what_is_imported_is_waited_for)
{
	struct mmn_sync_file *file, *other_file, *both;
	struct mmn_resv_poller *reader, *writer;
	struct mmn_sw_sync *other;
	struct dma_fence *fence;
	struct dma_fence **fences;
	unsigned int nr;

	begin();
	reader = create(READ);
	writer = create(WRITE);
	t_err(mmn_sw_sync_create("other", &other), 0);
	t_err(mmn_sw_sync_create_fence(timeline, 1, &fence), 0);
	t_err(mmn_sync_file_create(fence, NULL, &file), 0);
	dma_fence_put(fence);
	t_err(mmn_sw_sync_create_fence(other, 1, &fence), 0);
	t_err(mmn_sync_file_create(fence, NULL, &other_file), 0);
	dma_fence_put(fence);
	t_err(mmn_sync_file_merge(NULL, file, other_file, &both), 0);
	t_err(mmn_resv_import_file(&resv, READ, both), 0);
	t_err(dma_resv_get_fences(&resv, DMA_RESV_USAGE_READ, &nr, &fences), 0);
	t_eq(nr, 2);
	t_ok(!dma_fence_is_container(fences[0]));
	dma_fence_put(fences[0]);
	dma_fence_put(fences[1]);
	free(fences);
	t_eq(arm(reader), READ);
	t_eq(arm(writer), 0);
	t_err(mmn_resv_import_file(&resv, READ | WRITE, file), 0);
	t_eq(arm(reader), 0);
	advance();
	t_eq(arm(reader), READ);
	t_err(mmn_sw_sync_inc(other, 1), 0);
	t_eq(arm(writer), WRITE);
	mmn_sync_file_put(both);
	mmn_sync_file_put(other_file);
	mmn_sync_file_put(file);
	mmn_sw_sync_destroy(other);
	mmn_resv_poller_destroy(reader);
	mmn_resv_poller_destroy(writer);
	end();
}

/* 105 */
TEST(what_is_not_there_is_refused)
{
	struct mmn_resv_poller *poller, *none = NULL;
	struct mmn_sync_file *file = NULL;
	uint32_t access = 77;
	int fd = -1;

	begin();
	poller = create(READ);
	t_err(mmn_resv_poller_create(NULL, READ, &none), -EINVAL);
	t_err(mmn_resv_poller_create(&resv, 0, &none), -EINVAL);
	t_err(mmn_resv_poller_create(&resv, 4, &none), -EINVAL);
	t_err(mmn_resv_poller_create(&resv, READ, NULL), -EINVAL);
	t_err(mmn_resv_poller_get_fd(NULL, &fd), -EINVAL);
	t_err(mmn_resv_poller_get_fd(poller, NULL), -EINVAL);
	t_err(mmn_resv_poller_arm(NULL, &access), -EINVAL);
	t_err(mmn_resv_poller_arm(poller, NULL), -EINVAL);
	t_err(mmn_resv_export_file(NULL, READ, &file), -EINVAL);
	t_err(mmn_resv_export_file(&resv, 0, &file), -EINVAL);
	t_err(mmn_resv_export_file(&resv, 4, &file), -EINVAL);
	t_err(mmn_resv_export_file(&resv, READ, NULL), -EINVAL);
	t_ok(!file);
	t_err(mmn_resv_export_file(&resv, READ, &file), 0);
	t_err(mmn_resv_import_file(NULL, READ, file), -EINVAL);
	t_err(mmn_resv_import_file(&resv, 0, file), -EINVAL);
	t_err(mmn_resv_import_file(&resv, 4, file), -EINVAL);
	t_err(mmn_resv_import_file(&resv, READ, NULL), -EINVAL);
	t_err(dma_resv_lock(&resv, NULL), 0);
	t_err(mmn_resv_import_file(&resv, READ, file), -EBUSY);
	dma_resv_unlock(&resv);
	mmn_sync_file_put(file);
	t_ok(!none);
	t_eq(fd, -1);
	t_eq(access, 77);
	mmn_resv_poller_destroy(poller);
	end();
}

TEST(without_memory_there_is_an_error)
{
	struct mmn_resv_poller *poller, *none = NULL;
	struct mmn_sync_file *file, *ret_file = NULL;
	struct mmn_sw_sync *others[8];
	struct rlimit limit, no_files;
	uint32_t access = 77;
	struct dma_fence *fence;
	uint32_t i;

	begin();
	poller = create(READ);
	use(DMA_RESV_USAGE_WRITE, 1);
	t_err(mmn_sw_sync_create_fence(timeline, 2, &fence), 0);
	t_err(mmn_sync_file_create(fence, NULL, &file), 0);
	dma_fence_put(fence);
	t_eq(arm(poller), 0);
	t_err(mmn_inject_set(MMN_INJECT_ALLOC, 1, 1), 0);
	t_err(mmn_resv_poller_create(&resv, READ, &none), -ENOMEM);
	t_err(mmn_resv_poller_arm(poller, &access), -ENOMEM);
	t_err(mmn_resv_export_file(&resv, READ, &ret_file), -ENOMEM);
	mmn_inject_clear();
	t_eq(access, 77);
	/* It says: look again. */
	t_ok(is_readable(poller));
	t_eq(arm(poller), 0);
	t_ok(!is_readable(poller));
	/* More timelines than there is room for. */
	for (i = 0; i < 8; i++) {
		struct mmn_sw_sync *other;
		struct mmn_sync_file *more, *merged;

		t_err(mmn_sw_sync_create("other", &other), 0);
		t_err(mmn_sw_sync_create_fence(other, 1, &fence), 0);
		t_err(mmn_sync_file_create(fence, NULL, &more), 0);
		t_err(mmn_sync_file_merge(NULL, file, more, &merged), 0);
		mmn_sync_file_put(more);
		mmn_sync_file_put(file);
		file = merged;
		others[i] = other;
		dma_fence_put(fence);
	}
	t_err(mmn_inject_set(MMN_INJECT_ALLOC, 1, 1), 0);
	t_err(mmn_resv_import_file(&resv, READ, file), -ENOMEM);
	mmn_inject_clear();
	t_err(mmn_resv_import_file(&resv, READ, file), 0);
	for (i = 0; i < 8; i++)
		mmn_sw_sync_destroy(others[i]);
	t_ok(!ret_file);
	t_ok(!none);
	t_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	no_files = limit;
	no_files.rlim_cur = 0;
	t_eq(setrlimit(RLIMIT_NOFILE, &no_files), 0);
	t_err(mmn_resv_poller_create(&resv, READ, &none), -EMFILE);
	t_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	mmn_sync_file_put(file);
	mmn_resv_poller_destroy(poller);
	end();
}

TEST(without_descriptors_in_the_system_no_poller_is_made)
{
	struct mmn_resv_poller *none = NULL;

	t_need_kernel("no seccomp");
	begin();
	answer_syscall(SYS_eventfd2, ENFILE);
	t_err(mmn_resv_poller_create(&resv, READ, &none), -ENFILE);
	t_ok(!none);
	end();
}

/* A fence whose producer arms the poller that is just looking at it. */
static struct mmn_resv_poller *own_poller;
static int nested_ret = 1;

static const char *name(struct dma_fence *fence)
{
	return "test";
}

static void release(struct dma_fence *fence)
{
}

static bool enable_and_arm(struct dma_fence *fence)
{
	uint32_t access;

	nested_ret = mmn_resv_poller_arm(own_poller, &access);
	return true;
}

static const struct dma_fence_ops nesting_ops = {
	.get_driver_name = name,
	.get_timeline_name = name,
	.enable_signaling = enable_and_arm,
	.release = release,
};

TEST(one_that_is_being_armed_is_busy)
{
	struct dma_fence fence;

	begin();
	own_poller = create(READ);
	dma_fence_init(&fence, &nesting_ops, NULL, 1, 1);
	t_err(dma_resv_lock(&resv, NULL), 0);
	t_err(dma_resv_reserve_fences(&resv, 1), 0);
	dma_resv_add_fence(&resv, &fence, DMA_RESV_USAGE_WRITE);
	dma_resv_unlock(&resv);
	t_eq(arm(own_poller), 0);
	t_err(nested_ret, -EBUSY);
	t_err(dma_fence_signal(&fence), 0);
	t_eq(arm(own_poller), READ);
	mmn_resv_poller_destroy(own_poller);
	end();
}

static bool enable_and_destroy(struct dma_fence *fence)
{
	mmn_resv_poller_destroy(own_poller);
	return true;
}

static const struct dma_fence_ops destroying_ops = {
	.get_driver_name = name,
	.get_timeline_name = name,
	.enable_signaling = enable_and_destroy,
	.release = release,
};

TEST(one_that_is_being_armed_is_not_destroyed)
{
	struct dma_fence fence;

	t_bug_expected("destroyed while it is armed");
	begin();
	own_poller = create(READ);
	dma_fence_init(&fence, &destroying_ops, NULL, 1, 1);
	t_err(dma_resv_lock(&resv, NULL), 0);
	t_err(dma_resv_reserve_fences(&resv, 1), 0);
	dma_resv_add_fence(&resv, &fence, DMA_RESV_USAGE_WRITE);
	dma_resv_unlock(&resv);
	t_eq(arm(own_poller), 0);
	t_err(dma_fence_signal(&fence), 0);
	t_ok(is_readable(own_poller));
	mmn_resv_poller_destroy(own_poller);
	end();
}

TEST(in_a_fork_child_it_is_inert)
{
	struct mmn_resv_poller *poller;
	struct mmn_sync_file *file;
	uint32_t access;
	int fd, status;
	pid_t child;

	begin();
	poller = create(READ);
	fd = fd_of(poller);
	t_err(mmn_resv_export_file(&resv, READ, &file), 0);
	use(DMA_RESV_USAGE_WRITE, 1);
	t_eq(arm(poller), 0);
	child = fork();
	if (!child) {
		t_err(mmn_resv_poller_arm(poller, &access), -ESTALE);
		t_err(mmn_resv_poller_get_fd(poller, &fd), -ESTALE);
		t_err(mmn_resv_import_file(&resv, READ, file), -ESTALE);
		mmn_resv_poller_destroy(poller);
		t_eq(fcntl(fd, F_GETFD), -1);
		_exit(0);
	}
	t_eq(waitpid(child, &status, 0), child);
	t_eq(status, 0);
	t_ok(!is_readable(poller));
	advance();
	t_ok(is_readable(poller));
	mmn_sync_file_put(file);
	mmn_resv_poller_destroy(poller);
	end();
}

enum { NR_STEPS = T_TSAN ? 200 : 1000 };

/* Keeps the buffer busy, in steps. */
static void *work(void *arg)
{
	uint32_t i;

	for (i = 1; i <= NR_STEPS; i++) {
		use(i % 2 ? DMA_RESV_USAGE_WRITE : DMA_RESV_USAGE_READ, i);
		advance();
	}
	return NULL;
}

/* Never sleeps for good, and what it is told is so at the end. */
static void *poll_while_busy(void *arg)
{
	struct mmn_resv_poller *poller = create(*(uint32_t *)arg);
	struct pollfd pollfd = { .fd = fd_of(poller), .events = POLLIN };
	int i;

	for (i = 0; i < NR_STEPS; i++) {
		if (!arm(poller))
			t_eq(poll(&pollfd, 1, -1), 1);
	}
	mmn_resv_poller_destroy(poller);
	return NULL;
}

TEST(pollers_of_a_busy_buffer_are_always_woken, .timeout = 60)
{
	static uint32_t access[3] = { READ, WRITE, READ | WRITE };
	pthread_t threads[4];
	int i;

	begin();
	for (i = 0; i < 3; i++)
		t_err(pthread_create(&threads[i], NULL, poll_while_busy,
				     &access[i]),
		      0);
	t_err(pthread_create(&threads[3], NULL, work, NULL), 0);
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	end();
}

static pthread_barrier_t barrier;

static void *advance_once(void *arg)
{
	int i;

	for (i = 0; i < NR_STEPS; i++) {
		pthread_barrier_wait(&barrier);
		advance();
		pthread_barrier_wait(&barrier);
	}
	return NULL;
}

/* 104: it goes while it is told */
TEST(a_poller_goes_while_its_fence_signals, .timeout = 60)
{
	pthread_t thread;
	uint32_t i;

	begin();
	t_eq(pthread_barrier_init(&barrier, NULL, 2), 0);
	t_err(pthread_create(&thread, NULL, advance_once, NULL), 0);
	for (i = 1; i <= NR_STEPS; i++) {
		struct mmn_resv_poller *poller = create(WRITE);

		use(DMA_RESV_USAGE_READ, i);
		t_eq(arm(poller), 0);
		pthread_barrier_wait(&barrier);
		if (i % 2)
			arm(poller);
		mmn_resv_poller_destroy(poller);
		pthread_barrier_wait(&barrier);
	}
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&barrier);
	end();
}
