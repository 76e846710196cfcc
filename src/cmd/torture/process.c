/* SPDX-License-Identifier: MIT */
/*
 * A mirror of memory of this very process, whose changes are intercepted.
 *
 * Changers replace, discard, protect and write pages of a window, by system
 * calls that nobody announces but the intercept (where there is none, and under
 * sanitizers, they are announced by hand).  Each page begins with a number that only grows; it is
 * written into a page after that has been changed, and known to others then.
 * Readers bring pages into the mirror of a device in software, which holds the
 * physical pages, and have the device read them: what it reads must be as new as
 * what was known when the transfer was submitted, or the device holds a page that
 * the process has lost.
 */
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <sys/mman.h>

#include <mmn/mirror.h>
#include <mmn/source.h>

#include "torture.h"

enum {
	PAGES = 64,
	/* Pages that are changed by one changer at a time. */
	GROUP = 8,
	GROUPS = PAGES / GROUP,
	MAX_CHANGED = 4,
	RUN_PAGES = 4,
	INSTALL_DELAY_NS = 20000,
	BUDGET_NS = 2000000,
};

/* The runtime of a sanitizer cannot be entered in the middle of its own calls. */
#define IS_SANITIZED 0
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#undef IS_SANITIZED
#define IS_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#undef IS_SANITIZED
#define IS_SANITIZED 1
#endif

enum {
	EVENT_LOST = 1 << 0,
	END_EARLY = 1 << 1,
};

static const struct flavour flavours[] = {
	{ .name = "event-lost",
	  .what = "the source drops one change in four",
	  .bits = EVENT_LOST,
	  .point = MMN_INJECT_EVENT_LOST,
	  .one_in = 4 },
	{ .name = "end-early",
	  .what = "the source ends changes before they are made",
	  .bits = END_EARLY,
	  .point = MMN_INJECT_END_EARLY,
	  .one_in = 1 },
	BROKEN_LIBRARY("retry-skip", "the library does not report collisions",
		       MMN_INJECT_RETRY_SKIP, 1),
	BROKEN_LIBRARY("seq-skip", "the library does not set the sequence",
		       MMN_INJECT_SEQ_SKIP, 1),
	{ 0 },
};

enum {
	CHANGES,
	WRITES,
	FILLS,
	TRANSFERS,
	NOT_FILLED,
	NOT_MIRRORED,
};

static struct world {
	struct mmn_state *state;
	struct mmn_device *device;
	struct mmn_mirror *mirror;
	bool is_intercepted;
	size_t page;
	char *base;
	pthread_mutex_t group_lock[GROUPS];
	pthread_mutex_t lock;
	/* lock: 0 while it is being changed */
	uint64_t number[PAGES];
	uint64_t next_number;
} world;

static __thread struct mmn_pages *pages;

static char *address(uint32_t page)
{
	return world.base + page * world.page;
}

/* --- changers ------------------------------------------------------------- */

static void know(uint32_t first, uint32_t last, uint64_t number)
{
	uint32_t i;

	pthread_mutex_lock(&world.lock);
	for (i = first; i <= last; i++)
		world.number[i] = number;
	pthread_mutex_unlock(&world.lock);
}

static uint64_t new_number(void)
{
	uint64_t number;

	pthread_mutex_lock(&world.lock);
	number = ++world.next_number;
	pthread_mutex_unlock(&world.lock);
	return number;
}

static void write_numbers(uint32_t first, uint32_t last, uint64_t number)
{
	uint32_t i;

	note_range("write", first, last, number);
	for (i = first; i <= last; i++)
		/* relaxed: the lock of know() orders it */
		mmn_store_relaxed((uint64_t *)address(i), number);
}

static void *map_at(void *where, size_t size, int flags)
{
	return mmap(where, size, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

/* One of the ways in which a process loses pages; false: it has not. */
static bool change_pages(char *start, size_t size)
{
	void *other;

	switch (below(4)) {
	case 0:
		return !madvise(start, size, MADV_DONTNEED);
	case 1:
		return map_at(start, size, MAP_FIXED) != MAP_FAILED;
	case 2:
		other = map_at(NULL, size, 0);
		if (other == MAP_FAILED)
			return false;
		if (mremap(other, size, size, MREMAP_MAYMOVE | MREMAP_FIXED,
			   start) != MAP_FAILED)
			return true;
		munmap(other, size);
		return false;
	default:
		return !mprotect(start, size, PROT_READ) &&
		       !mprotect(start, size, PROT_READ | PROT_WRITE);
	}
}

static bool change_announced(char *start, size_t size)
{
	struct mmn_invalidate_desc desc;
	bool is_lost = is_broken(EVENT_LOST) && one_in(4), done;

	mmn_invalidate_desc_init(&desc, world.state, MMN_EVENT_UNMAP,
				 (uintptr_t)start, (uintptr_t)start + size - 1);
	if (!is_lost)
		must(!mmn_invalidate_start(&desc));
	if (!is_lost && is_broken(END_EARLY))
		must(!mmn_invalidate_end(&desc));
	done = change_pages(start, size);
	if (!is_lost && !is_broken(END_EARLY))
		must(!mmn_invalidate_end(&desc));
	return done;
}

static void change(uint32_t first, uint32_t last)
{
	size_t size = (last - first + 1) * world.page;

	know(first, last, 0);
	note_range("change", first, last, NO_VALUE);
	if (world.is_intercepted)
		must(change_pages(address(first), size));
	else
		must(change_announced(address(first), size));
	note_range("changed", first, last, NO_VALUE);
	tally(CHANGES);
	linger();
}

static void changer(void)
{
	uint32_t group = below(GROUPS), first = group * GROUP + below(GROUP);
	uint32_t last = first + below(MAX_CHANGED);
	uint64_t number;

	if (last > group * GROUP + GROUP - 1)
		last = group * GROUP + GROUP - 1;
	pthread_mutex_lock(&world.group_lock[group]);
	if (one_in(4))
		tally(WRITES);
	else
		change(first, last);
	number = new_number();
	write_numbers(first, last, number);
	know(first, last, number);
	pthread_mutex_unlock(&world.group_lock[group]);
	linger();
}

/* --- readers -------------------------------------------------------------- */

struct transfer {
	struct mmn_device_transfer transfer;
	sem_t is_done;
	uint64_t word;
};

static void transfer_done(struct mmn_device_transfer *transfer)
{
	sem_post(&((struct transfer *)transfer)->is_done);
}

/* Submitted with the number that was known then in @ret_number; or not. */
static bool submit(struct transfer *transfer, uint32_t page,
		   uint64_t *ret_number)
{
	struct mmn_mirror_access access;
	int err;

	memset(transfer, 0, sizeof(*transfer));
	sem_init(&transfer->is_done, 0, 0);
	transfer->transfer.access = MMN_DEVICE_READ;
	transfer->transfer.length = sizeof(transfer->word);
	transfer->transfer.buffer = &transfer->word;
	transfer->transfer.done = transfer_done;
	mmn_mirror_access_begin(world.mirror, &access);
	pthread_mutex_lock(&world.lock);
	*ret_number = world.number[page];
	pthread_mutex_unlock(&world.lock);
	err = mmn_mirror_submit_locked(world.mirror, (uintptr_t)address(page),
				       &transfer->transfer);
	mmn_mirror_access_end(&access);
	if (err)
		sem_destroy(&transfer->is_done);
	return !err;
}

static void read_page(uint32_t page)
{
	struct transfer transfer;
	uint64_t number;

	if (!submit(&transfer, page, &number)) {
		tally(NOT_MIRRORED);
		return;
	}
	while (sem_wait(&transfer.is_done) && errno == EINTR)
		;
	sem_destroy(&transfer.is_done);
	if (transfer.transfer.result != sizeof(transfer.word))
		return;
	tally(TRANSFERS);
	note("read", page, transfer.word);
	note_lag(transfer.word < number ? number - transfer.word : 0);
	if (transfer.word < number)
		fail(page, "page %u was read with %llu, it had %llu", page,
		     (unsigned long long)transfer.word,
		     (unsigned long long)number);
}

static bool fill(uint32_t first, uint32_t last)
{
	struct mmn_mirror_fill fill = {
		.size = sizeof(fill),
		.flags = MMN_MIRROR_FILL_PRESENT,
		.start = (uintptr_t)address(first),
		.last = (uintptr_t)address(last) + world.page - 1,
		.budget_ns = BUDGET_NS,
	};
	int err = mmn_mirror_fill(world.mirror, pages, &fill);

	must(err != -EINVAL && err != -E2BIG && err != -ESTALE);
	if (!err)
		note_range("fill", first, last, NO_VALUE);
	tally(err ? NOT_FILLED : FILLS);
	return !err;
}

static void reader(void)
{
	uint32_t first = below(PAGES - RUN_PAGES), i;

	if (!pages && mmn_pages_open(NULL, &pages))
		return;
	if (!fill(first, first + RUN_PAGES - 1))
		return;
	for (i = 0; i < 2 * RUN_PAGES; i++) {
		linger();
		read_page(first + below(RUN_PAGES));
	}
}

static void reader_leaves(void)
{
	mmn_pages_close(pages);
	pages = NULL;
}

/* --- beginning and end ---------------------------------------------------- */

static int create_mirror(void)
{
	struct mmn_mirror_config config = {
		.size = sizeof(config),
		.access = MMN_DEVICE_READ,
		.run_pages = RUN_PAGES,
		.install_delay_ns = INSTALL_DELAY_NS,
	};
	int err = mmn_soft_device_create(NULL, &world.device);

	if (err)
		return err;
	config.device = world.device;
	return mmn_mirror_create(world.state, (uintptr_t)world.base,
				 (uintptr_t)world.base + PAGES * world.page - 1,
				 &config, &world.mirror);
}

static int set_up(void)
{
	uint32_t i;
	int err;

	memset(&world, 0, sizeof(world));
	world.page = mmn_page_size();
	world.base = map_at(NULL, PAGES * world.page, 0);
	if (world.base == MAP_FAILED)
		return -ENOMEM;
	/* Whole pages of base size are what is changed. */
	madvise(world.base, PAGES * world.page, MADV_NOHUGEPAGE);
	pthread_mutex_init(&world.lock, NULL);
	for (i = 0; i < GROUPS; i++)
		pthread_mutex_init(&world.group_lock[i], NULL);
	err = mmn_state_create(&world.state);
	if (!err)
		err = create_mirror();
	if (err)
		return err;
	world.is_intercepted =
		!IS_SANITIZED && !mmn_intercept_start(world.state, NULL, NULL);
	printf("torture: changes are %s\n",
	       world.is_intercepted ? "intercepted" : "announced by hand");
	return 0;
}

static void tear_down(void)
{
	uint32_t i;

	if (world.is_intercepted)
		must(!mmn_intercept_stop());
	mmn_mirror_destroy(world.mirror);
	mmn_device_destroy(world.device);
	mmn_state_put(world.state);
	munmap(world.base, PAGES * world.page);
	pthread_mutex_destroy(&world.lock);
	for (i = 0; i < GROUPS; i++)
		pthread_mutex_destroy(&world.group_lock[i]);
}

const struct scenario process_scenario = {
	.name = "process",
	.what = "a mirror of this process, whose changes are intercepted",
	.place = "page",
	.flavours = flavours,
	.roles = { ROLE("changer", 3, changer, NULL),
		   ROLE("reader", 3, reader, reader_leaves) },
	.counters = { "changes", "writes", "fills", "transfers", "not-filled",
		      "not-mirrored" },
	.nr_musts = TRANSFERS + 1,
	.set_up = set_up,
	.tear_down = tear_down,
};
