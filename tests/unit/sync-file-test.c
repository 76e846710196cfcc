/* SPDX-License-Identifier: MIT */
/*
 * A fence as an object with a descriptor.  The numbers in comments are those of
 * the conformance cases.
 */
#include "t/tap.h"

#include <fcntl.h>
#include <mmn/dma-fence-array.h>
#include <mmn/inject.h>
#include <mmn/sync.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit/answer-syscall.h"

static struct mmn_sw_sync *timeline;
static struct dma_fence *fence;
static struct mmn_sync_file *file;

static void begin_again(void)
{
	t_err(mmn_sw_sync_create("time", &timeline), 0);
	t_err(mmn_sw_sync_create_fence(timeline, 1, &fence), 0);
	t_err(mmn_sync_file_create(fence, "name", &file), 0);
}

static void begin(void)
{
	t_may_keep_mapped(64 << 20, "the thread that frees stays");
	begin_again();
}

static void end_again(void)
{
	mmn_sync_file_put(file);
	dma_fence_put(fence);
	mmn_sw_sync_destroy(timeline);
}

static void end(void)
{
	end_again();
	dma_fence_barrier();
}

static int get_fd(struct mmn_sync_file *of)
{
	int fd = -1;

	t_err(mmn_sync_file_get_fd(of, &fd), 0);
	return fd;
}

static bool is_readable(int fd)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };

	return poll(&pollfd, 1, 0) == 1;
}

TEST(a_descriptor_is_readable_once_the_fence_has_signalled)
{
	int fd;

	begin();
	fd = get_fd(file);
	t_eq(get_fd(file), fd);
	t_ok(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	t_ok(!is_readable(fd));
	t_err(mmn_sw_sync_inc(timeline, 1), 0);
	t_ok(is_readable(fd));
	end();
}

TEST(a_descriptor_of_what_has_signalled_is_readable)
{
	begin();
	t_err(mmn_sw_sync_inc(timeline, 1), 0);
	t_ok(is_readable(get_fd(file)));
	end();
}

TEST(a_failed_fence_is_readable_too)
{
	int fd;

	begin();
	fd = get_fd(file);
	mmn_sw_sync_destroy(timeline);
	timeline = NULL;
	t_ok(is_readable(fd));
	t_eq(dma_fence_get_status(fence), -ENOENT);
	end();
}

TEST(a_reader_does_not_take_it_from_other_pollers)
{
	uint64_t count;
	int fd, i;

	begin();
	fd = get_fd(file);
	t_eq(read(fd, &count, sizeof(count)), -1);
	t_eq(errno, EAGAIN);
	t_err(mmn_sw_sync_inc(timeline, 1), 0);
	for (i = 0; i < 1000; i++)
		t_eq(read(fd, &count, sizeof(count)), 8);
	t_ok(is_readable(fd));
	end();
}

static void *poll_for_ever(void *arg)
{
	struct pollfd pollfd = { .fd = *(int *)arg, .events = POLLIN };

	t_eq(poll(&pollfd, 1, -1), 1);
	t_eq(pollfd.revents, POLLIN);
	return NULL;
}

TEST(all_pollers_wake)
{
	pthread_t threads[4];
	int fd, i;

	begin();
	fd = get_fd(file);
	for (i = 0; i < 4; i++)
		t_err(pthread_create(&threads[i], NULL, poll_for_ever, &fd), 0);
	t_err(mmn_sw_sync_inc(timeline, 1), 0);
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	end();
}

static int watch(int fd, uint32_t events)
{
	struct epoll_event event = { .events = events };
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	t_ge(epoll, 0);
	t_eq(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), 0);
	return epoll;
}

TEST(epoll_by_level_and_by_edge)
{
	struct epoll_event event;
	int level, edge;

	begin();
	level = watch(get_fd(file), EPOLLIN);
	edge = watch(get_fd(file), EPOLLIN | EPOLLET);
	t_eq(epoll_wait(level, &event, 1, 0), 0);
	t_eq(epoll_wait(edge, &event, 1, 0), 0);
	t_err(mmn_sw_sync_inc(timeline, 1), 0);
	t_eq(epoll_wait(level, &event, 1, 0), 1);
	t_eq(epoll_wait(level, &event, 1, 0), 1);
	t_eq(epoll_wait(edge, &event, 1, 0), 1);
	t_eq(epoll_wait(edge, &event, 1, 0), 0);
	close(level);
	close(edge);
	end();
}

TEST(a_file_that_goes_takes_its_callback_along)
{
	begin();
	get_fd(file);
	mmn_sync_file_put(file);
	file = NULL;
	t_err(mmn_sw_sync_inc(timeline, 1), 0);
	mmn_sync_file_put(NULL);
	end();
}

TEST(a_file_keeps_its_fence)
{
	struct dma_fence *found;

	begin();
	found = mmn_sync_file_get_fence(file);
	t_ok(found == fence);
	dma_fence_put(found);
	dma_fence_put(fence);
	t_ok(mmn_sync_file_get(file) == file);
	mmn_sync_file_put(file);
	found = mmn_sync_file_get_fence(file);
	t_eq(dma_fence_get_status(found), 0);
	fence = found;
	t_ok(!mmn_sync_file_get_fence(NULL));
	t_ok(!mmn_sync_file_get(NULL));
	end();
}

/* 102 */
TEST(merged_with_itself_it_is_one_leaf)
{
	struct mmn_sync_file_info info = { .size = sizeof(info) };
	struct mmn_sync_file *merged;

	begin();
	t_err(mmn_sync_file_merge("both", file, file, &merged), 0);
	t_err(mmn_sync_file_get_info(merged, &info), 0);
	t_eq(info.num_fences, 1);
	t_eq(info.status, 0);
	t_streq(info.name, "both");
	mmn_sync_file_put(merged);
	end();
}

TEST(merged_it_has_signalled_when_both_have)
{
	struct mmn_sync_file *other_file, *merged;
	struct mmn_sw_sync *other;
	struct dma_fence *second;
	int fd;

	begin();
	t_err(mmn_sw_sync_create("other", &other), 0);
	t_err(mmn_sw_sync_create_fence(other, 1, &second), 0);
	t_err(mmn_sync_file_create(second, NULL, &other_file), 0);
	t_err(mmn_sync_file_merge(NULL, file, other_file, &merged), 0);
	fd = get_fd(merged);
	t_err(mmn_sw_sync_inc(timeline, 1), 0);
	t_ok(!is_readable(fd));
	t_err(mmn_sw_sync_inc(other, 1), 0);
	t_ok(is_readable(fd));
	mmn_sync_file_put(merged);
	mmn_sync_file_put(other_file);
	dma_fence_put(second);
	mmn_sw_sync_destroy(other);
	end();
}

/* 103 */
TEST(information_about_two_fences)
{
	struct mmn_sync_fence_info fences[3];
	struct mmn_sync_file_info info = { .size = sizeof(info) };
	struct mmn_sync_file *other_file, *merged;
	struct mmn_sw_sync *other;
	struct dma_fence *second;

	begin();
	t_err(mmn_sw_sync_create("other", &other), 0);
	t_err(mmn_sw_sync_create_fence(other, 1, &second), 0);
	t_err(mmn_sync_file_create(second, NULL, &other_file), 0);
	t_err(mmn_sync_file_merge(NULL, file, other_file, &merged), 0);
	t_err(mmn_sync_file_get_info(merged, &info), 0);
	t_eq(info.num_fences, 2);
	t_eq(info.status, 0);
	info.num_fences = 1;
	info.fences = fences;
	t_err(mmn_sync_file_get_info(merged, &info), -EINVAL);
	mmn_sw_sync_destroy(timeline);
	timeline = NULL;
	info.num_fences = 3;
	memset(fences, 0xff, sizeof(fences));
	t_err(mmn_sync_file_get_info(merged, &info), 0);
	t_eq(info.num_fences, 2);
	t_eq(info.status, -ENOENT);
	t_streq(fences[0].driver, "sw_sync");
	t_streq(fences[0].timeline, "time");
	t_eq(fences[0].status, -ENOENT);
	t_gt(fences[0].timestamp, 0);
	t_streq(fences[1].timeline, "other");
	t_eq(fences[1].status, 0);
	t_eq(fences[1].timestamp, 0);
	t_eq(fences[2].status, -1);
	mmn_sync_file_put(merged);
	mmn_sync_file_put(other_file);
	dma_fence_put(second);
	mmn_sw_sync_destroy(other);
	end();
}

TEST(what_has_signalled_is_done)
{
	struct mmn_sync_fence_info one;
	struct mmn_sync_file_info info = { .size = sizeof(info),
					   .num_fences = 1,
					   .fences = &one };

	begin();
	t_err(mmn_sw_sync_inc(timeline, 1), 0);
	t_err(mmn_sync_file_get_info(file, &info), 0);
	t_eq(info.status, 1);
	t_eq(one.status, 1);
	t_eq(one.timestamp, dma_fence_timestamp(fence));
	end();
}

TEST(a_name_is_made_or_cut_off)
{
	struct mmn_sync_file_info info = { .size = sizeof(info) };
	struct mmn_sync_file *named;

	begin();
	t_err(mmn_sync_file_create(fence, NULL, &named), 0);
	t_err(mmn_sync_file_get_info(named, &info), 0);
	t_ok(!strncmp(info.name, "sw_sync-time", 12));
	mmn_sync_file_put(named);
	t_err(mmn_sync_file_create(
		      fence,
		      "a name that is longer than what there is room for",
		      &named),
	      0);
	info.num_fences = 0;
	t_err(mmn_sync_file_get_info(named, &info), 0);
	t_streq(info.name, "a name that is longer than what");
	mmn_sync_file_put(named);
	end();
}

TEST(a_deadline_reaches_the_producer)
{
	int64_t deadline = 0;

	begin();
	t_err(mmn_sync_file_set_deadline(file, 500), 0);
	t_err(mmn_sw_sync_get_deadline(fence, &deadline), 0);
	t_eq(deadline, 500);
	end();
}

TEST(what_is_not_there_is_refused)
{
	struct newer {
		struct mmn_sync_file_info info;
		uint32_t more[2];
	} newer = { .info.size = sizeof(newer) };
	struct mmn_sync_file_info info = { .size = sizeof(info) - 1 };
	struct mmn_sync_file *ret = NULL;
	int fd = -1;

	begin();
	t_err(mmn_sync_file_create(NULL, "", &ret), -EINVAL);
	t_err(mmn_sync_file_create(fence, "", NULL), -EINVAL);
	t_err(mmn_sync_file_get_fd(NULL, &fd), -EINVAL);
	t_err(mmn_sync_file_get_fd(file, NULL), -EINVAL);
	t_err(mmn_sync_file_merge(NULL, file, NULL, &ret), -EINVAL);
	t_err(mmn_sync_file_merge(NULL, NULL, file, &ret), -EINVAL);
	t_err(mmn_sync_file_merge(NULL, file, file, NULL), -EINVAL);
	t_err(mmn_sync_file_set_deadline(NULL, 0), -EINVAL);
	t_err(mmn_sync_file_get_info(NULL, &info), -EINVAL);
	t_err(mmn_sync_file_get_info(file, NULL), -EINVAL);
	t_err(mmn_sync_file_get_info(file, &info), -EINVAL);
	info.size = sizeof(info);
	info.num_fences = 1;
	t_err(mmn_sync_file_get_info(file, &info), -EINVAL);
	newer.more[1] = 1;
	t_err(mmn_sync_file_get_info(file, &newer.info), -E2BIG);
	newer.more[1] = 0;
	t_err(mmn_sync_file_get_info(file, &newer.info), 0);
	t_ok(!ret);
	t_eq(fd, -1);
	end();
}

TEST(without_memory_nothing_is_made)
{
	struct mmn_sync_file *ret = NULL;
	int fd = -1;

	begin();
	t_err(mmn_inject_set(MMN_INJECT_ALLOC, 1, 1), 0);
	t_err(mmn_sync_file_create(fence, "", &ret), -ENOMEM);
	t_err(mmn_sync_file_merge(NULL, file, file, &ret), -ENOMEM);
	t_err(mmn_sync_file_get_fd(file, &fd), -ENOMEM);
	mmn_inject_clear();
	t_ok(!ret);
	t_eq(fd, -1);
	t_ok(!is_readable(get_fd(file)));
	end();
}

TEST(without_descriptors_it_can_be_asked_again)
{
	struct rlimit limit, none;
	int fd = -1;

	begin();
	t_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = 0;
	t_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	t_err(mmn_sync_file_get_fd(file, &fd), -EMFILE);
	t_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	t_eq(fd, -1);
	t_ok(!is_readable(get_fd(file)));
	end();
}

TEST(without_descriptors_in_the_system_it_can_be_told)
{
	int fd = -1;

	t_need_kernel("no seccomp");
	begin();
	answer_syscall(SYS_eventfd2, ENFILE);
	t_err(mmn_sync_file_get_fd(file, &fd), -ENFILE);
	t_eq(fd, -1);
	end();
}

static void in_child(int fd)
{
	struct mmn_sync_file_info info = { .size = sizeof(info) };
	struct mmn_sync_file *ret;

	t_err(mmn_sync_file_get_fd(file, &fd), -ESTALE);
	t_err(mmn_sync_file_merge(NULL, file, file, &ret), -ESTALE);
	t_err(mmn_sync_file_get_info(file, &info), -ESTALE);
	t_err(mmn_sync_file_set_deadline(file, 0), -ESTALE);
	t_ok(!mmn_sync_file_get_fence(file));
	/* A signal of the copy does not reach the parent's pollers. */
	dma_fence_signal(fence);
	mmn_sync_file_put(file);
	t_eq(fcntl(fd, F_GETFD), -1);
}

TEST(in_a_fork_child_it_is_inert)
{
	int fd, status;
	pid_t child;

	begin();
	fd = get_fd(file);
	child = fork();
	if (!child) {
		in_child(fd);
		_exit(0);
	}
	t_eq(waitpid(child, &status, 0), child);
	t_eq(status, 0);
	t_ok(!is_readable(fd));
	t_err(mmn_sw_sync_inc(timeline, 1), 0);
	t_ok(is_readable(fd));
	end();
}

TEST(a_fork_child_may_poll_what_it_has_inherited)
{
	int fd, status;
	pid_t child;

	begin();
	fd = get_fd(file);
	child = fork();
	if (!child) {
		poll_for_ever(&fd);
		_exit(0);
	}
	t_err(mmn_sw_sync_inc(timeline, 1), 0);
	t_eq(waitpid(child, &status, 0), child);
	t_eq(status, 0);
	end();
}

struct racer {
	struct mmn_sync_file *file;
	pthread_barrier_t *barrier;
};

static void *drop(void *arg)
{
	struct racer *racer = arg;

	pthread_barrier_wait(racer->barrier);
	get_fd(racer->file);
	mmn_sync_file_put(racer->file);
	return NULL;
}

TEST(files_go_while_their_fence_signals)
{
	pthread_barrier_t barrier;
	struct racer racer = { .barrier = &barrier };
	pthread_t threads[2];
	int i, j;

	t_may_keep_mapped(64 << 20, "the thread that frees stays");
	t_eq(pthread_barrier_init(&barrier, NULL, 3), 0);
	for (i = 0; i < 300; i++) {
		begin_again();
		racer.file = file;
		mmn_sync_file_get(file);
		for (j = 0; j < 2; j++)
			t_err(pthread_create(&threads[j], NULL, drop, &racer),
			      0);
		pthread_barrier_wait(&barrier);
		t_err(mmn_sw_sync_inc(timeline, 1), 0);
		for (j = 0; j < 2; j++)
			pthread_join(threads[j], NULL);
		file = NULL;
		end_again();
	}
	dma_fence_barrier();
	pthread_barrier_destroy(&barrier);
}
