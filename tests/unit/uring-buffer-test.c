/* SPDX-License-Identifier: MIT */
/*
 * Fixed buffers for any memory: transfers, changes under them, slots and limits.
 */
#include "unit/uring-help.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

TEST(a_slot_is_good_for_fixed_transfers)
{
	struct dma_fence *fence;
	struct loop loop;
	char *memory, back[100];
	int pipe_fds[2];

	set_up(&loop);
	t_eq(pipe(pipe_fds), 0);
	memory = new_pages_at(NULL, 2);
	memset(memory, 'w', 2 * PAGE);
	fence = dma_fence_get(
		start_write(&loop, pipe_fds[1], memory + PAGE - 50, 100));
	t_eq(end_one(&loop), 100);
	t_ok(dma_fence_is_signaled(fence));
	t_eq(dma_fence_get_status(fence), 1);
	dma_fence_put(fence);
	t_eq(read(pipe_fds[0], back, 100), 100);
	t_memeq(back, memory, 100);

	memset(back, 'r', 100);
	t_eq(write(pipe_fds[1], back, 100), 100);
	start_read(&loop, pipe_fds[0], memory + 10, 100);
	t_eq(end_one(&loop), 100);
	t_memeq(memory + 10, back, 100);
	/* The second was found, with more access. */
	t_le(stats_of(&loop).registered, 2);
	free_pages(memory, 2);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	tear_down(&loop);
}

TEST(the_error_of_a_transfer_is_the_fences)
{
	struct dma_fence *fence;
	struct loop loop;
	char *memory;

	set_up(&loop);
	memory = new_pages_at(NULL, 1);
	fence = dma_fence_get(start_read(&loop, -1, memory, PAGE));
	t_eq(end_one(&loop), -EBADF);
	t_eq(dma_fence_get_status(fence), -EBADF);
	dma_fence_put(fence);
	mmn_uring_complete(NULL, 0);
	free_pages(memory, 1);
	tear_down(&loop);
}

TEST(memory_is_registered_once)
{
	struct loop loop;
	char *memory;
	int slot;

	set_up(&loop);
	memory = new_pages_at(NULL, 8);
	slot = touch(&loop, memory, 8);
	t_eq(slot, 0);
	t_eq(touch(&loop, memory + 2 * PAGE, 1), slot);
	t_eq(touch(&loop, memory, 8), slot);
	t_eq(stats_of(&loop).registered, 1);
	t_eq(pinned_kb(), 32);
	free_pages(memory, 8);
	tear_down(&loop);
	t_eq(pinned_kb(), 0);
}

/*
 * The device is in the middle of it when the memory goes: a read from an empty
 * pipe.  What is mapped there next is untouched, and nothing stays pinned.
 */
static void park_across_a_change(uint32_t ring_flags)
{
	struct mmn_uring_options options = { .nr_slots = 4 };
	struct completion cqe;
	struct dma_fence *fence;
	struct loop loop;
	char *memory, data[PAGE], zeroes[PAGE] = { 0 };
	int pipe_fds[2];

	set_up_with(&loop, ring_flags, &options);
	t_eq(pipe(pipe_fds), 0);
	memory = new_pages_at(NULL, 1);
	fence = dma_fence_get(start_read(&loop, pipe_fds[0], memory, PAGE));
	t_eq(pinned_kb(), 4);
	unmap_and_map(loop.state, memory, 1);

	/* Out of reach, and still the device's. */
	t_err(mmn_cache_purge(mmn_uring_cache(loop.uring), 0, 0), 0);
	t_eq(stats_of(&loop).regions, 0);
	t_eq(stats_of(&loop).quarantined_bytes, PAGE);
	t_ok(!dma_fence_is_signaled(fence));
	t_eq(pinned_kb(), 4);
	t_eq(io_uring_cq_ready(&loop.ring), 0);

	memset(data, 'd', sizeof(data));
	t_eq(write(pipe_fds[1], data, PAGE), (ssize_t)PAGE);
	t_eq(end_one(&loop), (int)PAGE);
	t_ok(dma_fence_is_signaled(fence));
	t_memeq(memory, zeroes, PAGE);
	/* By the completion alone, apart from the kernel's tag. */
	if (ring_flags & IORING_SETUP_SINGLE_ISSUER)
		t_ok(take_one(&loop, &cqe));
	t_ok(take_one(&loop, &cqe));
	until(stats_of(&loop).quarantined == 0);
	until(pinned_kb() == 0);
	t_eq(stats_of(&loop).pinned_bytes, 0);
	dma_fence_put(fence);

	/* And once more, with what is there now. */
	t_eq(write(pipe_fds[1], data, PAGE), (ssize_t)PAGE);
	start_read(&loop, pipe_fds[0], memory, PAGE);
	t_eq(end_one(&loop), (int)PAGE);
	t_memeq(memory, data, PAGE);
	free_pages(memory, 1);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	tear_down(&loop);
}

TEST(a_transfer_under_way_ends_in_the_pages_it_began_with)
{
	park_across_a_change(0);
}

TEST(so_it_does_with_a_single_issuer)
{
	park_across_a_change(IORING_SETUP_SINGLE_ISSUER);
}

TEST(so_it_does_with_deferred_work)
{
	park_across_a_change(IORING_SETUP_SINGLE_ISSUER |
			     IORING_SETUP_DEFER_TASKRUN);
}

/* The slot is held by a reference alone. */
TEST(a_reference_keeps_the_slot)
{
	struct mmn_cache_region *region;
	struct io_uring_sqe *sqe;
	struct completion cqe;
	struct loop loop;
	char *memory, zero = 0;
	int pipe_fds[2], slot;

	set_up(&loop);
	t_eq(pipe(pipe_fds), 0);
	memory = new_pages_at(NULL, 1);
	slot = mmn_uring_get(loop.uring, memory, 1, MMN_CACHE_WRITE, &region);
	t_ge(slot, 0);
	unmap_and_map(loop.state, memory, 1);
	/* Submitted afterwards: to nobody's pages. */
	sqe = io_uring_get_sqe(&loop.ring);
	io_uring_prep_read_fixed(sqe, pipe_fds[0], memory, 1, 0, slot);
	sqe->user_data = 7;
	t_eq(io_uring_submit(&loop.ring), 1);
	t_ne(touch(&loop, memory, 1), slot);
	t_eq(write(pipe_fds[1], "x", 1), 1);
	cqe = take_own(&loop);
	t_eq(cqe.user_data, 7);
	t_eq(cqe.res, 1);
	t_memeq(memory, &zero, 1);
	mmn_uring_put(loop.uring, region);
	free_pages(memory, 1);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	tear_down(&loop);
}

struct changer {
	struct loop *loop;
	char *memory;
	int changed;
};

static void *change_memory(void *arg)
{
	struct changer *c = arg;

	unmap_and_map(c->loop->state, c->memory, 1);
	__atomic_store_n(&c->changed, 1, __ATOMIC_RELEASE);
	return NULL;
}

TEST(a_change_waits_for_transfers_if_told_to)
{
	struct mmn_uring_options options = { .wait_ns = MMN_CACHE_NO_LIMIT };
	struct loop loop;
	struct changer c = { .loop = &loop };
	pthread_t thread;
	int pipe_fds[2];

	set_up_with(&loop, 0, &options);
	t_eq(pipe(pipe_fds), 0);
	c.memory = new_pages_at(NULL, 1);
	start_read(&loop, pipe_fds[0], c.memory, 1);
	t_err(pthread_create(&thread, NULL, change_memory, &c), 0);
	/* It has got as far as to take the region away. */
	until(stats_of(&loop).invalidated == 1);
	t_eq(__atomic_load_n(&c.changed, __ATOMIC_ACQUIRE), 0);
	t_eq(write(pipe_fds[1], "x", 1), 1);
	t_eq(__atomic_load_n(&c.changed, __ATOMIC_ACQUIRE), 0);
	t_eq(end_one(&loop), 1);
	t_err(pthread_join(thread, NULL), 0);
	t_eq(stats_of(&loop).timed_out, 0);
	free_pages(c.memory, 1);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	tear_down(&loop);
}

TEST(slots_are_recycled)
{
	struct mmn_uring_options options = { .nr_slots = 2 };
	struct loop loop;
	char *memory;
	int i;

	set_up_with(&loop, 0, &options);
	memory = new_pages_at(NULL, 16);
	/* Nobody reads completions meanwhile. */
	for (i = 0; i < 8; i++)
		t_lt(touch(&loop, memory + (size_t)(2 * i) * PAGE, 1), 2);
	t_ge(stats_of(&loop).evicted, 6);
	free_pages(memory, 16);
	tear_down(&loop);
}

/* The bytes that are to be free again wait in the ring of the one who waits. */
static void be_short_of_bytes(uint32_t ring_flags)
{
	struct mmn_uring_options options = { .max_bytes = PAGE };
	struct loop loop;
	char *memory;
	int i;

	set_up_with(&loop, ring_flags, &options);
	memory = new_pages_at(NULL, 2);
	for (i = 0; i < 10; i++)
		touch(&loop, memory + (size_t)(i % 2) * PAGE, 1);
	t_eq(loop.nr_tags, 0);
	t_eq(stats_of(&loop).registered, 10);
	t_le(stats_of(&loop).pinned_bytes, PAGE);
	free_pages(memory, 2);
	tear_down(&loop);
}

TEST(a_get_finds_tags_that_nobody_has_read)
{
	be_short_of_bytes(0);
}

TEST(an_issuer_makes_room_for_itself)
{
	be_short_of_bytes(IORING_SETUP_SINGLE_ISSUER);
}

TEST(so_it_does_in_rings_of_long_completions)
{
	be_short_of_bytes(IORING_SETUP_CQE32);
}

TEST(everything_may_be_in_use)
{
	struct mmn_uring_options options = { .nr_slots = 2 };
	struct mmn_cache_region *a, *b, *c;
	struct loop loop;
	char *memory;

	set_up_with(&loop, 0, &options);
	memory = new_pages_at(NULL, 5);
	t_eq(mmn_uring_get(loop.uring, memory, 1, BOTH, &a), 0);
	t_eq(mmn_uring_get(loop.uring, memory + 2 * PAGE, 1, BOTH, &b), 1);
	t_err(mmn_uring_get(loop.uring, memory + 4 * PAGE, 1, BOTH, &c),
	      -ENOSPC);
	mmn_uring_put(loop.uring, a);
	t_eq(mmn_uring_get(loop.uring, memory + 4 * PAGE, 1, BOTH, &c), 0);
	mmn_uring_put(loop.uring, b);
	mmn_uring_put(loop.uring, c);
	free_pages(memory, 5);
	tear_down(&loop);
}

TEST(all_slots_of_a_ring_can_be_used)
{
	struct mmn_uring_options options = { .nr_slots = MMN_URING_MAX_SLOTS };
	struct rlimit limit;
	struct loop loop;
	uint32_t i;
	char *memory;

	t_eq(getrlimit(RLIMIT_MEMLOCK, &limit), 0);
	if (geteuid() && limit.rlim_cur < 80 << 20)
		t_skip("RLIMIT_MEMLOCK is too low");
	set_up_with(&loop, 0, &options);
	memory = new_pages_at(NULL, MMN_URING_MAX_SLOTS);
	for (i = 0; i < MMN_URING_MAX_SLOTS; i++)
		t_eq(touch(&loop, memory + i * PAGE, 1), (int)i);
	t_eq(stats_of(&loop).evicted, 0);
	t_eq(pinned_kb(), MMN_URING_MAX_SLOTS * 4);
	/* One more is one less. */
	touch(&loop, new_pages_at(NULL, 1), 1);
	t_ge(stats_of(&loop).evicted, 1);
	free_pages(memory, MMN_URING_MAX_SLOTS);
	tear_down(&loop);
}

static void become_nobody(uint64_t memlock)
{
	struct rlimit limit = { memlock, memlock };

	t_eq(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
	if (!geteuid()) {
		t_eq(setgroups(0, NULL), 0);
		t_eq(setresgid(65534, 65534, 65534), 0);
		t_eq(setresuid(65534, 65534, 65534), 0);
		/* As it is for files of one's own. */
		prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	}
}

/* The account is the user's: others may be charged to it at the same time. */
TEST(memlock_is_no_obstacle)
{
	enum { MIB = 256 };
	struct mmn_uring_options options = { .nr_slots = 64 };
	struct loop loop;
	char *memory;
	size_t i;

	become_nobody(8 << 20);
	set_up_with(&loop, 0, &options);
	memory = new_pages_at(NULL, 16 * 2 * MIB);
	for (i = 0; i < 16; i++)
		touch(&loop, memory + i * 2 * MIB * PAGE, MIB);
	t_ge(stats_of(&loop).evicted, 8);
	t_ge(stats_of(&loop).failed, 1);
	free_pages(memory, 16 * 2 * MIB);
	tear_down(&loop);
}

TEST(memlock_may_be_too_low)
{
	struct mmn_cache_region *region;
	struct loop loop;
	char *memory;

	become_nobody(1 << 20);
	set_up(&loop);
	memory = new_pages_at(NULL, 512);
	t_err(mmn_uring_get(loop.uring, memory, 512 * PAGE, BOTH, &region),
	      -ENOMEM);
	touch(&loop, memory, 8);
	free_pages(memory, 512);
	tear_down(&loop);
}

TEST(rings_have_buffers_of_their_own)
{
	struct mmn_uring_options options = { .nr_slots = 4,
					     .size = sizeof(options) };
	struct loop a, b;
	char *memory;

	set_up(&a);
	b = a;
	b.nr_tags = 0;
	make_ring(&b.ring, 0);
	t_err(mmn_uring_attach(b.state, &b.ring, &options, &b.uring), 0);
	memory = new_pages_at(NULL, 4);
	touch(&a, memory, 4);
	touch(&b, memory, 4);
	unmap_and_map(a.state, memory, 4);
	t_eq(stats_of(&a).invalidated, 1);
	t_eq(stats_of(&b).invalidated, 1);
	touch(&b, memory, 4);
	t_eq(stats_of(&b).registered, 2);
	free_pages(memory, 4);
	detach(&b);
	io_uring_queue_exit(&b.ring);
	tear_down(&a);
}

TEST(a_table_may_be_shared_with_the_caller)
{
	struct mmn_uring_options options = {
		.size = sizeof(options),
		.flags = MMN_URING_HAS_TABLE,
		.first_slot = 3,
		.nr_slots = 2,
		.timeout_ns = 600 * 1000 * NS_PER_MS,
	};
	struct loop loop = { .nr_tags = 0 };
	struct iovec iov = { .iov_len = PAGE };
	struct mmn_uring *other;
	char *memory;
	__u64 tag = 0;
	int i;

	t_may_keep_mapped(24 << 20, "the arena for callbacks, a thread of RCU");
	t_err(mmn_state_create(&loop.state), 0);
	make_ring(&loop.ring, 0);
	t_err(mmn_uring_attach(loop.state, &loop.ring, &options, &loop.uring),
	      -EINVAL);
	t_err(io_uring_register_buffers_sparse(&loop.ring, 5), 0);
	options.flags = 0;
	options.first_slot = 0;
	t_err(mmn_uring_attach(loop.state, &loop.ring, &options, &other),
	      -EBUSY);
	options.flags = MMN_URING_HAS_TABLE;
	options.first_slot = 4;
	t_err(mmn_uring_attach(loop.state, &loop.ring, &options, &other),
	      -EINVAL);
	options.first_slot = 3;
	memory = new_pages_at(NULL, 8);
	iov.iov_base = memory;
	for (i = 0; i < 3; i++)
		t_eq(io_uring_register_buffers_update_tag(&loop.ring, i, &iov,
							  &tag, 1),
		     1);
	t_err(mmn_uring_attach(loop.state, &loop.ring, &options, &loop.uring),
	      0);
	for (i = 0; i < 8; i++)
		t_ge(touch(&loop, memory + (size_t)i * PAGE, 1), 3);
	free_pages(memory, 8);
	detach(&loop);
	/* It is there, with what the caller put into it. */
	t_eq(pinned_kb(), 4 * 3);
	t_err(io_uring_unregister_buffers(&loop.ring), 0);
	io_uring_queue_exit(&loop.ring);
	mmn_state_put(loop.state);
}

/* Who empties slots that are not his gets them back in order. */
TEST(a_slot_that_the_caller_clears_is_given_up)
{
	struct iovec iov = { .iov_len = 0 };
	struct completion cqe;
	struct loop loop;
	__u64 tag = 0;
	char *memory;
	int slot;

	set_up(&loop);
	memory = new_pages_at(NULL, 1);
	slot = touch(&loop, memory, 1);
	t_eq(io_uring_register_buffers_update_tag(&loop.ring, (unsigned)slot,
						  &iov, &tag, 1),
	     1);
	t_ok(take_one(&loop, &cqe));
	unmap_and_map(loop.state, memory, 1);
	until(stats_of(&loop).deregistered == 1);
	t_eq(touch(&loop, memory, 1), slot);
	free_pages(memory, 1);
	tear_down(&loop);
}

TEST(completions_of_the_caller_are_left_alone)
{
	struct mmn_uring_options options = {
		.user_data = UINT64_C(0xfeed) << 48,
	};
	struct loop loop;

	set_up(&loop);
	t_ok(!mmn_uring_cqe(loop.uring, 0));
	t_ok(!mmn_uring_cqe(loop.uring, (uintptr_t)&loop));
	t_ok(!mmn_uring_cqe(loop.uring, UINT64_MAX));
	/* Neither old ones nor ones that never were hurt. */
	t_ok(mmn_uring_cqe(loop.uring, MMN_URING_USER_DATA));
	t_ok(mmn_uring_cqe(loop.uring, MMN_URING_USER_DATA | 5));
	t_ok(mmn_uring_cqe(loop.uring, MMN_URING_USER_DATA | 0x1ffff));
	tear_down(&loop);

	set_up_with(&loop, 0, &options);
	t_ok(!mmn_uring_cqe(loop.uring, MMN_URING_USER_DATA));
	t_ok(mmn_uring_cqe(loop.uring, options.user_data));
	tear_down(&loop);
}

TEST(losing_the_permission_to_write_concerns_reads_only)
{
	struct mmn_invalidate_desc desc;
	struct mmn_cache_region *region;
	struct loop loop;
	char *memory;

	set_up(&loop);
	memory = new_pages_at(NULL, 3);
	t_eq(mmn_uring_get(loop.uring, memory, PAGE, MMN_CACHE_READ, &region),
	     0);
	mmn_uring_put(loop.uring, region);
	t_eq(mmn_uring_get(loop.uring, memory + 2 * PAGE, PAGE, MMN_CACHE_WRITE,
			   &region),
	     1);
	mmn_uring_put(loop.uring, region);
	change_begin(loop.state, &desc, MMN_EVENT_PROTECTION_VMA, memory, 3);
	t_eq(mprotect(memory, 3 * PAGE, PROT_READ), 0);
	t_err(mmn_invalidate_end(&desc), 0);
	t_eq(mmn_uring_get(loop.uring, memory, PAGE, MMN_CACHE_READ, &region),
	     0);
	mmn_uring_put(loop.uring, region);
	t_err(mmn_uring_get(loop.uring, memory + 2 * PAGE, PAGE,
			    MMN_CACHE_WRITE, &region),
	      -EFAULT);
	free_pages(memory, 3);
	tear_down(&loop);
}

TEST(a_fork_child_has_nothing)
{
	struct mmn_cache_region *region;
	struct dma_fence *fence;
	struct io_uring_sqe sqe = { .len = 7 };
	struct loop loop;
	char *memory;
	int status;
	pid_t pid;

	set_up(&loop);
	memory = new_pages_at(NULL, 1);
	touch(&loop, memory, 1);
	pid = fork();
	t_ge(pid, 0);
	if (!pid) {
		bool ok = mmn_uring_get(loop.uring, memory, 1, BOTH, &region) ==
				  -ESTALE &&
			  mmn_uring_prep_write(loop.uring, &sqe, 1, memory, 1,
					       0, &fence) == -ESTALE &&
			  sqe.len == 7 &&
			  mmn_uring_cqe(loop.uring, MMN_URING_USER_DATA | 1) &&
			  mmn_uring_detach(loop.uring) == -ESTALE;

		_exit(ok ? 0 : 1);
	}
	t_eq(waitpid(pid, &status, 0), pid);
	t_eq(status, 0);
	t_eq(touch(&loop, memory, 1), 0);
	t_eq(stats_of(&loop).registered, 1);
	free_pages(memory, 1);
	tear_down(&loop);
}
