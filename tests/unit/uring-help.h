/* SPDX-License-Identifier: MIT */
#ifndef UNIT_URING_HELP_H
#define UNIT_URING_HELP_H
/*
 * What the tests of fixed buffers share: a ring, its table, and a loop.
 */
#include <mmn/dma-fence.h>
#include <mmn/notifier.h>
#include <mmn/uring.h>

#include <liburing.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/compiler.h"
#include "t/tap.h"

#define PAGE ((size_t)4096)
#define BOTH (MMN_CACHE_READ | MMN_CACHE_WRITE)
#define NS_PER_MS UINT64_C(1000000)

struct loop {
	struct mmn_state *state;
	struct io_uring ring;
	struct mmn_uring *uring;
	/* Tags of the library that were taken out of the completions. */
	uint32_t nr_tags;
};

static inline void make_ring(struct io_uring *ring, uint32_t flags)
{
	struct io_uring_params params = { .flags = flags };
	int ret = io_uring_queue_init_params(64, ring, &params);

	if (ret == -EPERM || ret == -ENOSYS)
		t_skip("no io_uring here: %s", strerror(-ret));
	if (ret == -EINVAL && flags)
		t_skip("no such rings here");
	t_err(ret, 0);
}

/* Patient, whatever the machine does. */
static inline void set_up_with(struct loop *loop, uint32_t ring_flags,
			       struct mmn_uring_options *options)
{
	int ret;

	memset(loop, 0, sizeof(*loop));
	t_may_keep_mapped(24 << 20, "the arena for callbacks, a thread of RCU");
	t_err(mmn_state_create(&loop->state), 0);
	make_ring(&loop->ring, ring_flags);
	options->size = sizeof(*options);
	if (!options->timeout_ns)
		options->timeout_ns = 600 * 1000 * NS_PER_MS;
	ret = mmn_uring_attach(loop->state, &loop->ring, options, &loop->uring);
	if (ret == -ENOTSUP)
		t_skip("no sparse tables here");
	t_err(ret, 0);
}

static inline void set_up(struct loop *loop)
{
	struct mmn_uring_options options = { .nr_slots = 64 };

	set_up_with(loop, 0, &options);
}

static inline struct mmn_cache_stats stats_of(struct loop *loop)
{
	struct mmn_cache_stats stats = { .size = sizeof(stats) };

	t_err(mmn_cache_get_stats(mmn_uring_cache(loop->uring), &stats), 0);
	return stats;
}

struct completion {
	uint64_t user_data;
	int res;
};

/* One completion; true when it was the library's. */
static inline bool take_one(struct loop *loop, struct completion *ret)
{
	struct io_uring_cqe *cqe;
	bool ours;

	t_err(io_uring_wait_cqe(&loop->ring, &cqe), 0);
	ret->user_data = cqe->user_data;
	ret->res = cqe->res;
	ours = mmn_uring_cqe(loop->uring, cqe->user_data);
	loop->nr_tags += ours;
	io_uring_cqe_seen(&loop->ring, cqe);
	return ours;
}

/* The next completion of the test's own. */
static inline struct completion take_own(struct loop *loop)
{
	struct completion cqe;

	while (take_one(loop, &cqe))
		;
	return cqe;
}

static inline void detach(struct loop *loop)
{
	struct completion cqe;

	while (mmn_uring_detach(loop->uring) == -EBUSY)
		t_ok(take_one(loop, &cqe));
}

static inline void tear_down(struct loop *loop)
{
	detach(loop);
	io_uring_queue_exit(&loop->ring);
	mmn_state_put(loop->state);
}

static inline char *new_pages_at(void *where, size_t nr)
{
	char *memory =
		mmap(where, nr * PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | (where ? MAP_FIXED : 0), -1,
		     0);

	t_ne(memory, MAP_FAILED);
	return memory;
}

static inline void free_pages(void *memory, size_t nr)
{
	t_eq(munmap(memory, nr * PAGE), 0);
}

/* What an event source does around the system call. */
static inline void change_begin(struct mmn_state *state,
				struct mmn_invalidate_desc *desc,
				uint32_t event, void *memory, size_t nr)
{
	mmn_invalidate_desc_init(desc, state, event, (uintptr_t)memory,
				 (uintptr_t)memory + nr * PAGE - 1);
	t_err(mmn_invalidate_start(desc), 0);
}

static inline void unmap_and_map(struct mmn_state *state, void *memory,
				 size_t nr)
{
	struct mmn_invalidate_desc desc;

	change_begin(state, &desc, MMN_EVENT_UNMAP, memory, nr);
	/* In one step, or another thread's mapping could come in between. */
	t_ok(new_pages_at(memory, nr) == memory);
	t_err(mmn_invalidate_end(&desc), 0);
}

/* Get and put; the slot. */
static inline int touch(struct loop *loop, void *memory, size_t nr)
{
	struct mmn_cache_region *region;
	int slot;

	slot = mmn_uring_get(loop->uring, memory, nr * PAGE, BOTH, &region);
	t_ge(slot, 0);
	t_eq(region->key, (uint64_t)slot);
	mmn_uring_put(loop->uring, region);
	return slot;
}

static inline struct dma_fence *start_read(struct loop *loop, int fd,
					   void *addr, size_t length)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);
	struct dma_fence *fence = NULL;

	t_err(mmn_uring_prep_read(loop->uring, sqe, fd, addr, (uint32_t)length,
				  0, &fence),
	      0);
	io_uring_sqe_set_data(sqe, fence);
	t_eq(io_uring_submit(&loop->ring), 1);
	return fence;
}

static inline struct dma_fence *start_write(struct loop *loop, int fd,
					    const void *addr, size_t length)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);
	struct dma_fence *fence = NULL;

	t_err(mmn_uring_prep_write(loop->uring, sqe, fd, addr, (uint32_t)length,
				   0, &fence),
	      0);
	io_uring_sqe_set_data(sqe, fence);
	t_eq(io_uring_submit(&loop->ring), 1);
	return fence;
}

/* The next transfer that ends; its result. */
static inline int end_one(struct loop *loop)
{
	struct completion cqe = take_own(loop);

	mmn_uring_complete((void *)(uintptr_t)cqe.user_data, cqe.res);
	return cqe.res;
}

/* kB of this process that are pinned. */
static inline long pinned_kb(void)
{
	FILE *file = fopen("/proc/self/status", "re");
	char line[200];
	long kb = -1;

	t_ok(file != NULL);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "VmPin: %ld", &kb) == 1)
			break;
	fclose(file);
	t_ge(kb, 0);
	return kb;
}

/* Until it happens; the test's time limit is the only one. */
#define until(condition)               \
	do {                           \
		while (!(condition))   \
			sched_yield(); \
	} while (0)

#endif
