/* SPDX-License-Identifier: MIT */
/*
 * Every error of the calls for fixed buffers.
 */
#include "unit/uring-help.h"

#include <fcntl.h>
#include <sys/resource.h>

#include "unit/answer-syscall.h"

/* What every attempt to attach with these options says. */
static int attach_with(struct mmn_uring_options *options)
{
	struct mmn_uring *uring;
	struct mmn_state *state;
	struct io_uring ring;
	int ret;

	t_may_keep_mapped(24 << 20, "the arena for callbacks, a thread of RCU");
	t_err(mmn_state_create(&state), 0);
	make_ring(&ring, 0);
	ret = mmn_uring_attach(state, &ring, options, &uring);
	io_uring_queue_exit(&ring);
	mmn_state_put(state);
	return ret;
}

TEST(options_are_checked)
{
	struct {
		struct mmn_uring_options options;
		uint64_t more;
	} newer = { .options.size = sizeof(newer) };
	struct mmn_uring_options good = { .size = sizeof(good) };
	struct mmn_uring_options bad;

	bad = good;
	bad.size--;
	t_err(attach_with(&bad), -EINVAL);
	bad = good;
	bad.flags = 2;
	t_err(attach_with(&bad), -EINVAL);
	bad = good;
	bad.nr_slots = MMN_URING_MAX_SLOTS + 1;
	t_err(attach_with(&bad), -EINVAL);
	bad = good;
	bad.first_slot = 1;
	t_err(attach_with(&bad), -EINVAL);
	bad.flags = MMN_URING_HAS_TABLE;
	bad.nr_slots = MMN_URING_MAX_SLOTS;
	t_err(attach_with(&bad), -EINVAL);
	bad = good;
	bad.user_data = 1;
	t_err(attach_with(&bad), -EINVAL);
	newer.more = 1;
	t_err(attach_with(&newer.options), -E2BIG);
}

TEST(there_must_be_something_to_attach_to)
{
	struct mmn_uring *uring;
	struct io_uring ring;
	struct loop loop;

	set_up(&loop);
	t_err(mmn_uring_attach(NULL, &loop.ring, NULL, &uring), -EINVAL);
	t_err(mmn_uring_attach(loop.state, NULL, NULL, &uring), -EINVAL);
	t_err(mmn_uring_attach(loop.state, &loop.ring, NULL, NULL), -EINVAL);
	t_err(mmn_uring_attach(loop.state, &loop.ring, NULL, &uring), -EBUSY);
	t_err(mmn_uring_detach(NULL), 0);
	/* As rings without a descriptor, and of old kernels, look. */
	make_ring(&ring, 0);
	ring.flags |= 1u << 15;
	t_err(mmn_uring_attach(loop.state, &ring, NULL, &uring), -ENOTSUP);
	ring.flags &= ~(1u << 15);
	ring.features &= ~IORING_FEAT_RSRC_TAGS;
	t_err(mmn_uring_attach(loop.state, &ring, NULL, &uring), -ENOTSUP);
	io_uring_queue_exit(&ring);
	tear_down(&loop);
}

static long register_with(struct io_uring *ring, unsigned int op, void *arg,
			  unsigned int nr)
{
	return syscall(SYS_io_uring_register, ring->ring_fd, op, arg, nr);
}

TEST(a_restricted_ring_is_refused)
{
	struct io_uring_restriction only = {
		.opcode = IORING_RESTRICTION_REGISTER_OP,
		.register_op = IORING_REGISTER_ENABLE_RINGS,
	};
	struct mmn_uring *uring;
	struct loop loop;
	struct io_uring ring;

	set_up(&loop);
	make_ring(&ring, IORING_SETUP_R_DISABLED);
	t_err(register_with(&ring, IORING_REGISTER_RESTRICTIONS, &only, 1), 0);
	t_err(register_with(&ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0), 0);
	t_err(mmn_uring_attach(loop.state, &ring, NULL, &uring), -EACCES);
	io_uring_queue_exit(&ring);
	tear_down(&loop);
}

TEST(a_kernel_that_refuses_is_quoted)
{
	struct mmn_uring_options options = { .size = sizeof(options) };

	answer_syscall_if(SYS_io_uring_register, 1, IORING_REGISTER_BUFFERS2,
			  EINVAL);
	t_err(attach_with(&options), -ENOTSUP);
}

TEST(there_may_be_no_memory_for_the_table)
{
	struct mmn_uring_options options = { .size = sizeof(options) };

	answer_syscall_if(SYS_io_uring_register, 1, IORING_REGISTER_BUFFERS2,
			  ENOMEM);
	t_err(attach_with(&options), -ENOMEM);
}

static void attach_in_vain(void)
{
	struct mmn_uring_options options = { .size = sizeof(options) };

	t_err(attach_with(&options), -EAGAIN);
}

TEST(there_may_be_no_thread_and_later_be_one)
{
	struct loop loop;

	run_without_threads(attach_in_vain);
	set_up(&loop);
	tear_down(&loop);
}

TEST(requests_are_checked)
{
	struct mmn_cache_region *region = NULL;
	struct io_uring_sqe sqe = { .len = 7 };
	struct dma_fence *fence = NULL;
	struct loop loop;
	char *memory;

	set_up(&loop);
	memory = new_pages_at(NULL, 1);
	t_err(mmn_uring_get(loop.uring, memory, 0, BOTH, &region), -EINVAL);
	t_err(mmn_uring_get(loop.uring, memory, 1, 0, &region), -EINVAL);
	t_err(mmn_uring_get(loop.uring, memory, 1, 4, &region), -EINVAL);
	t_err(mmn_uring_get(loop.uring, (void *)UINTPTR_MAX, 2, BOTH, &region),
	      -EOVERFLOW);
	t_err(mmn_uring_get(loop.uring, memory, MMN_URING_MAX_BUFFER + 1, BOTH,
			    &region),
	      -E2BIG);
	t_err(mmn_uring_prep_read(loop.uring, &sqe, 0, memory, 0, 0, &fence),
	      -EINVAL);
	t_err(mmn_uring_prep_write(loop.uring, &sqe, 0, memory, 0, 0, &fence),
	      -EINVAL);
	free_pages(memory, 1);
	t_err(mmn_uring_get(loop.uring, memory, 1, BOTH, &region), -EFAULT);
	t_err(mmn_uring_prep_read(loop.uring, &sqe, 0, memory, 1, 0, &fence),
	      -EFAULT);
	t_err(mmn_uring_prep_write(loop.uring, &sqe, 0, memory, 1, 0, &fence),
	      -EFAULT);
	t_ok(!region && !fence);
	t_eq(sqe.len, 7);
	mmn_uring_put(loop.uring, NULL);
	tear_down(&loop);
}

TEST(memory_must_be_such_that_it_can_be_pinned)
{
	struct mmn_cache_region *region;
	struct loop loop;
	char *memory;
	int fd;

	set_up(&loop);
	memory = new_pages_at(NULL, 1);
	t_eq(mprotect(memory, PAGE, PROT_READ), 0);
	t_err(mmn_uring_get(loop.uring, memory, 1, MMN_CACHE_READ, &region),
	      -EFAULT);
	free_pages(memory, 1);
	/* Private pages of a file are the process's own. */
	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	t_ge(fd, 0);
	memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	t_ne(memory, MAP_FAILED);
	touch(&loop, memory, 1);
	free_pages(memory, 1);
	close(fd);
	/* So are those of memory files, shared or not. */
	fd = memfd_create("test", MFD_CLOEXEC);
	t_eq(ftruncate(fd, (off_t)PAGE), 0);
	memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	t_ne(memory, MAP_FAILED);
	touch(&loop, memory, 1);
	free_pages(memory, 1);
	close(fd);
	tear_down(&loop);
}

struct holder {
	struct loop *loop;
	char *memory;
	/* atomic: 1 the change is open, 2 it may end */
	int step;
};

static void *hold_a_change_open(void *arg)
{
	struct holder *holder = arg;
	struct mmn_invalidate_desc desc;

	change_begin(holder->loop->state, &desc, MMN_EVENT_UNMAP,
		     holder->memory, 1);
	__atomic_store_n(&holder->step, 1, __ATOMIC_RELEASE);
	until(__atomic_load_n(&holder->step, __ATOMIC_ACQUIRE) == 2);
	t_err(mmn_invalidate_end(&desc), 0);
	return NULL;
}

TEST(an_open_change_is_waited_for_until_the_end_of_the_budget)
{
	struct mmn_uring_options options = { .timeout_ns = 1 };
	struct mmn_cache_region *region;
	struct io_uring_sqe sqe;
	struct dma_fence *fence;
	struct loop loop;
	struct holder holder = { .loop = &loop };
	pthread_t thread;

	set_up_with(&loop, 0, &options);
	holder.memory = new_pages_at(NULL, 1);
	t_err(pthread_create(&thread, NULL, hold_a_change_open, &holder), 0);
	until(__atomic_load_n(&holder.step, __ATOMIC_ACQUIRE) == 1);
	t_err(mmn_uring_get(loop.uring, holder.memory, 1, BOTH, &region),
	      -ETIMEDOUT);
	t_err(mmn_uring_prep_read(loop.uring, &sqe, 0, holder.memory, 1, 0,
				  &fence),
	      -ETIMEDOUT);
	__atomic_store_n(&holder.step, 2, __ATOMIC_RELEASE);
	t_err(pthread_join(thread, NULL), 0);
	touch(&loop, holder.memory, 1);
	free_pages(holder.memory, 1);
	tear_down(&loop);
}

struct nosy {
	struct mmn_range_subscription sub;
	pthread_mutex_t *lock;
	struct loop *loop;
	char *memory;
	int found;
	int missed;
};

static bool get_in_callback(struct mmn_range_subscription *sub,
			    const struct mmn_invalidate_desc *desc,
			    uint64_t cur_seq)
{
	struct nosy *nosy = container_of(sub, struct nosy, sub);
	struct mmn_cache_region *region;

	(void)desc;
	pthread_mutex_lock(nosy->lock);
	mmn_range_set_seq(sub, cur_seq);
	pthread_mutex_unlock(nosy->lock);
	nosy->found = mmn_uring_get(nosy->loop->uring, nosy->memory, 1, BOTH,
				    &region);
	mmn_uring_put(nosy->loop->uring, region);
	nosy->missed = mmn_uring_get(nosy->loop->uring, nosy->memory + PAGE, 1,
				     BOTH, &region);
	return true;
}

TEST(callbacks_may_only_find)
{
	static const struct mmn_range_ops ops = {
		.invalidate = get_in_callback,
	};
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct mmn_range_config config = {
		.size = sizeof(config),
		.ops = &ops,
		.lock = mmn_driver_mutex(&lock),
	};
	struct loop loop;
	struct nosy nosy = { .loop = &loop, .lock = &lock };
	char *memory;

	set_up(&loop);
	nosy.memory = new_pages_at(NULL, 2);
	memory = new_pages_at(NULL, 1);
	touch(&loop, nosy.memory, 1);
	t_err(mmn_range_subscription_init(&nosy.sub, &config), 0);
	t_err(mmn_range_subscription_insert(&nosy.sub, loop.state,
					    (uintptr_t)memory,
					    (uintptr_t)memory + PAGE - 1),
	      0);
	unmap_and_map(loop.state, memory, 1);
	t_eq(nosy.found, 0);
	t_err(nosy.missed, -EDEADLK);
	mmn_range_subscription_remove(&nosy.sub);
	free_pages(memory, 1);
	free_pages(nosy.memory, 2);
	tear_down(&loop);
}

static void *be_another_thread(void *arg)
{
	struct loop *loop = arg;
	struct mmn_cache_region *region;
	struct mmn_uring *uring;
	struct io_uring_sqe sqe;
	struct dma_fence *fence;
	char *memory = new_pages_at(NULL, 1);

	t_err(mmn_uring_get(loop->uring, memory, 1, BOTH, &region), -EEXIST);
	t_err(mmn_uring_prep_write(loop->uring, &sqe, 1, memory, 1, 0, &fence),
	      -EEXIST);
	t_err(mmn_uring_attach(loop->state, &loop->ring, NULL, &uring),
	      -EEXIST);
	free_pages(memory, 1);
	return NULL;
}

static void *detach_elsewhere(void *arg)
{
	struct loop *loop = arg;

	t_err(mmn_uring_detach(loop->uring), -EEXIST);
	return NULL;
}

static void in_thread(void *(*function)(void *), void *arg)
{
	pthread_t thread;

	t_err(pthread_create(&thread, NULL, function, arg), 0);
	t_err(pthread_join(thread, NULL), 0);
}

TEST(a_single_issuer_is_the_only_one)
{
	struct mmn_uring_options options = { .nr_slots = 4 };
	struct loop loop;
	char *memory;

	set_up_with(&loop, IORING_SETUP_SINGLE_ISSUER, &options);
	memory = new_pages_at(NULL, 1);
	touch(&loop, memory, 1);
	in_thread(be_another_thread, &loop);
	in_thread(detach_elsewhere, &loop);
	free_pages(memory, 1);
	tear_down(&loop);
}

TEST(an_issuer_that_cannot_be_woken_finds_what_is_to_be_cleared)
{
	struct mmn_uring_options options = { .nr_slots = 4 };
	struct loop loop;
	char *memory;
	size_t i;

	set_up_with(&loop, IORING_SETUP_SINGLE_ISSUER, &options);
	memory = new_pages_at(NULL, 3);
	for (i = 0; i < 3; i++)
		touch(&loop, memory + i * PAGE, 1);
	answer_syscall_if(__NR_io_uring_enter, 1, 1, ENOMEM);
	unmap_and_map(loop.state, memory, 3);
	tear_down(&loop);
	t_eq(loop.nr_tags, 3);
	free_pages(memory, 3);
}

TEST(detaching_waits_for_what_is_under_way)
{
	struct mmn_cache_region *region;
	struct dma_fence *fence;
	struct loop loop;
	char *memory;
	int pipe_fds[2];

	set_up(&loop);
	t_eq(pipe(pipe_fds), 0);
	memory = new_pages_at(NULL, 1);
	start_read(&loop, pipe_fds[0], memory, 1);
	t_err(mmn_uring_detach(loop.uring), -EBUSY);
	t_err(mmn_uring_get(loop.uring, memory, 1, BOTH, &region), -ENOSPC);
	fence = NULL;
	t_err(mmn_uring_prep_read(loop.uring, NULL, 0, memory, 1, 0, &fence),
	      -ENOSPC);
	t_eq(write(pipe_fds[1], "x", 1), 1);
	t_eq(end_one(&loop), 1);
	free_pages(memory, 1);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	tear_down(&loop);
}

/* Who does so has lost the ring's pages anyway; nothing hangs. */
TEST(a_ring_that_was_closed_too_early_does_not_hang)
{
	struct mmn_cache_region *region;
	struct loop loop;
	char *memory;

	set_up(&loop);
	memory = new_pages_at(NULL, 2);
	touch(&loop, memory, 1);
	close(loop.ring.ring_fd);
	t_err(mmn_uring_get(loop.uring, memory + PAGE, 1, BOTH, &region),
	      -EBADF);
	t_err(mmn_uring_detach(loop.uring), 0);
	loop.ring.ring_fd = -1;
	io_uring_queue_exit(&loop.ring);
	mmn_state_put(loop.state);
	free_pages(memory, 2);
}
