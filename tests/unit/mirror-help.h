/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_MIRROR_HELP_H
#define TESTS_UNIT_MIRROR_HELP_H
/*
 * What the tests of range faults, devices and mirrors share: memory to look at,
 * and changes of it that are announced by hand.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <mmn/mirror.h>

#include "base/compiler.h"
#include "t/tap.h"

/* Once per test: the arena of callback memory keeps what it has mapped. */
static inline void keep_arena(void)
{
	static bool said;

	if (!said)
		t_may_keep_mapped(8 << 20, "the arena for callbacks");
	said = true;
}

static inline size_t page(void)
{
	return mmn_page_size();
}

static inline uintptr_t last_of(const void *start, size_t pages)
{
	return (uintptr_t)start + pages * page() - 1;
}

static inline char *map_pages(size_t pages, int prot, int flags)
{
	void *memory =
		mmap(NULL, pages * page(), prot, flags | MAP_ANONYMOUS, -1, 0);

	t_ok(memory != MAP_FAILED);
	/* no huge pages where the tests count pages */
	madvise(memory, pages * page(), MADV_NOHUGEPAGE);
	return memory;
}

static inline char *map_private(size_t pages)
{
	return map_pages(pages, PROT_READ | PROT_WRITE, MAP_PRIVATE);
}

static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* The manual source: open and end a change of [start, start + pages). */
static inline void change_begin(struct mmn_invalidate_desc *desc,
				struct mmn_state *state, uint32_t event,
				const void *start, size_t pages)
{
	mmn_invalidate_desc_init(desc, state, event, (uintptr_t)start,
				 last_of(start, pages));
	t_err(mmn_invalidate_start(desc), 0);
}

static inline void change_end(struct mmn_invalidate_desc *desc)
{
	t_err(mmn_invalidate_end(desc), 0);
}

static inline void announced_munmap(struct mmn_state *state, void *start,
				    size_t pages)
{
	struct mmn_invalidate_desc desc;

	change_begin(&desc, state, MMN_EVENT_UNMAP, start, pages);
	t_eq(munmap(start, pages * page()), 0);
	change_end(&desc);
}

static inline void announced_discard(struct mmn_state *state, void *start,
				     size_t pages)
{
	struct mmn_invalidate_desc desc;

	change_begin(&desc, state, MMN_EVENT_CLEAR, start, pages);
	t_eq(madvise(start, pages * page(), MADV_DONTNEED), 0);
	change_end(&desc);
}

static inline void announced_mprotect(struct mmn_state *state, void *start,
				      size_t pages, int prot)
{
	struct mmn_invalidate_desc desc;

	change_begin(&desc, state, MMN_EVENT_PROTECTION_VMA, start, pages);
	t_eq(mprotect(start, pages * page(), prot), 0);
	change_end(&desc);
}

/* A transfer that one can wait for. */
struct waited_transfer {
	struct mmn_device_transfer transfer;
	_Atomic int done;
};

static inline void waited_done(struct mmn_device_transfer *transfer)
{
	struct waited_transfer *waited = (struct waited_transfer *)transfer;

	atomic_store(&waited->done, 1);
}

static inline void waited_init(struct waited_transfer *waited, uint32_t access,
			       void *buffer, size_t length)
{
	memset(waited, 0, sizeof(*waited));
	waited->transfer.access = access;
	waited->transfer.buffer = buffer;
	waited->transfer.length = length;
	waited->transfer.done = waited_done;
}

static inline int64_t waited_wait(struct waited_transfer *waited)
{
	while (!atomic_load(&waited->done))
		usleep(50);
	return waited->transfer.result;
}

#endif
