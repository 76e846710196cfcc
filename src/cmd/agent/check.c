/* SPDX-License-Identifier: MIT */
/*
 * Transfers, and the check of each.
 *
 * When a transfer is done, another fence is put on its region.  If that is not
 * refused, no change has been made since the region was registered, and none can
 * be before the fence signals, and the page that the device read must be the page
 * that the program has mapped there:
 *
 *   by page frame   the frame in the page table now is the frame that the device
 *                   took hold of.  The device pins its pages, so this frame
 *                   cannot have been given to anybody else in between: equal
 *                   frames are the same page.
 *   by contents     where frames are not shown (without CAP_SYS_ADMIN): what the
 *                   device read is what memory holds.  The program may write
 *                   at any time, so a difference is only believed when it stays:
 *                   a byte that the device reads with one value again and again
 *                   while memory holds another one is a byte of another page.
 *
 * A page that is swapped out, or that the kernel moves, is no page lost by the
 * program; such an access stays undecided.
 */
#include "agent.h"

#include <mmn/cache.h>
#include <mmn/dma-fence.h>
#include <mmn/memory.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define TRANSFER_BYTES (TRANSFER_PAGES * 4096u)

/* Rounds of contents that must agree before a difference is believed. */
#define ROUNDS 24u
/* A device that does not answer for so long is given up on. */
#define DEVICE_NS UINT64_C(2000000000)

/* Bits of a word of /proc/self/pagemap. */
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_SWAPPED (UINT64_C(1) << 62)
#define PAGEMAP_FRAME ((UINT64_C(1) << 55) - 1)

enum verdict { FINE, OVERTAKEN, UNDECIDED, DIFFERENT, STALE };

static struct transfer transfers[QUEUE];
/* For memory as the program sees it, and which bytes differ. */
static char *memory_bytes, *device_bytes, *first_bytes, *suspects;
/* futex: ends of transfers so far */
static uint32_t ends;
/* Which access also gets its contents compared. */
static uint64_t nr_compared;

bool check_open(void)
{
	unsigned int i;
	char *buffers;

	buffers = mmn_callback_alloc((size_t)(QUEUE + 4) * TRANSFER_BYTES);
	if (!buffers)
		return false;
	for (i = 0; i < QUEUE; i++)
		transfers[i].buffer = buffers + (size_t)i * TRANSFER_BYTES;
	memory_bytes = buffers + (size_t)QUEUE * TRANSFER_BYTES;
	device_bytes = memory_bytes + TRANSFER_BYTES;
	first_bytes = device_bytes + TRANSFER_BYTES;
	suspects = first_bytes + TRANSFER_BYTES;
	return true;
}

void check_close(void)
{
	mmn_callback_free(transfers[0].buffer);
	transfers[0].buffer = NULL;
}

/* In the device's thread. */
void check_done(struct mmn_device_transfer *device_transfer)
{
	struct transfer *transfer = (struct transfer *)device_transfer;

	/* Changes need not wait for the check. */
	dma_fence_signal(transfer->fence);
	/*
	 * pair(run_done): release, with the acquire in check_is_done().  Without
	 * it the buffer may still show the transfer before.
	 */
	mmn_store_release(&transfer->done, 1);
	/* relaxed: the system call looks again */
	mmn_fetch_add_relaxed(&ends, 1);
	raw_wake(&ends);
}

void check_sleep(uint64_t ns)
{
	/* relaxed: the system call looks again */
	raw_wait(&ends, mmn_load_relaxed(&ends), ns);
}

bool check_is_done(const struct transfer *transfer)
{
	/*
	 * pair(run_done): acquire, with the release in check_done().  Without
	 * it the buffer may still show the transfer before.
	 */
	return mmn_load_acquire(&transfer->done);
}

static const struct recent *last_change(uintptr_t addr)
{
	uint64_t nr = area_read(&agent.nr_recent);
	const struct recent *entry;
	unsigned int i;

	for (i = 1; i <= RECENT && i <= nr; i++) {
		entry = &agent.recent[(nr - i) % RECENT];
		if (entry->call != MMN_CALL_MAP && entry->start <= addr &&
		    entry->last >= addr)
			return entry;
	}
	return NULL;
}

void check_found_stale(uintptr_t addr, const char *what)
{
	struct area_slot *slot = agent.slot;
	struct line line = { slot->stale_text, sizeof(slot->stale_text), 0 };
	const struct recent *change;

	slot->stale++;
	if (slot->stale > 1)
		return;
	slot->stale_addr = addr;
	line_add(&line, "page ");
	line_hex(&line, addr);
	line_add(&line, ": ");
	line_add(&line, what);
	change = last_change(addr);
	if (!change) {
		line_add(&line, "; no change there was seen lately");
		return;
	}
	line_add(&line, "; last change there: ");
	line_add(&line, mmn_call_name(change->call));
	line_add(&line, ", ");
	line_number(&line, (raw_now() - change->ns) / 1000);
	line_add(&line, " us ago");
}

/* ------------------------------------------------------------------ */
/* Submitting                                                         */
/* ------------------------------------------------------------------ */

static struct transfer *transfer_free(void)
{
	unsigned int i;

	for (i = 0; i < QUEUE; i++)
		if (!transfers[i].busy)
			return &transfers[i];
	return NULL;
}

bool check_start(struct transfer *transfer, struct mmn_cache_region *region)
{
	transfer->done = 0;
	transfer->fence = hold_begin(region);
	if (!transfer->fence)
		return false;
	if (!hold_submit(region, transfer->addr, &transfer->transfer))
		return true;
	hold_end(transfer->fence);
	return false;
}

void check_end(struct transfer *transfer)
{
	hold_end(transfer->fence);
	transfer->fence = NULL;
}

/* Read some of a region, whose reference is the transfer's from here on. */
static bool submit(struct window *window, struct transfer *transfer,
		   struct mmn_cache_region *region, uintptr_t addr,
		   uintptr_t last)
{
	struct mmn_device_transfer *work = &transfer->transfer;
	size_t length = last - addr + 1;

	if (length > TRANSFER_BYTES) {
		addr += raw_random() %
			((length - TRANSFER_BYTES) / mmn_page_size() + 1) *
			mmn_page_size();
		length = TRANSFER_BYTES;
	}
	memset(work, 0, sizeof(*work));
	work->length = length;
	work->access = MMN_DEVICE_READ;
	work->buffer = transfer->buffer;
	work->done = check_done;
	transfer->window = window;
	transfer->region = region;
	transfer->addr = addr;
	if (!check_start(transfer, region)) {
		hold_put(region);
		return false;
	}
	transfer->busy = true;
	window->busy++;
	return true;
}

void check_submit(struct window *window, unsigned int count)
{
	struct mmn_cache_region *region;
	struct transfer *transfer;
	unsigned int first, run, i;

	/* Begin anywhere, so that all runs get their turn. */
	first = (unsigned int)raw_random();
	for (i = 0; i < window->nr_runs && count; i++) {
		run = (first + i) % window->nr_runs;
		transfer = transfer_free();
		if (!transfer)
			return;
		region = hold_find(window->runs[run].start,
				   window->runs[run].last);
		if (!region ||
		    !submit(window, transfer, region, window->runs[run].start,
			    window->runs[run].last))
			continue;
		agent.slot->transfers++;
		count--;
	}
}

/* ------------------------------------------------------------------ */
/* Checking                                                           */
/* ------------------------------------------------------------------ */

static bool read_pagemap(uintptr_t addr, unsigned int count, uint64_t *words)
{
	size_t bytes = count * sizeof(*words);

	return raw_syscall(__NR_pread64, agent_pagemap, (long)words,
			   (long)bytes,
			   (long)(addr / mmn_page_size() * sizeof(*words)), 0,
			   0) == (long)bytes;
}

/* Under a fence. */
static enum verdict check_frames(const struct mmn_cache_region *region,
				 uintptr_t addr, unsigned int count,
				 uintptr_t *ret_bad)
{
	size_t page = mmn_page_size();
	uint64_t now[TRANSFER_PAGES];
	enum verdict verdict = FINE;
	uint64_t frame, word;
	unsigned int i;

	if (!read_pagemap(addr, count, now))
		return UNDECIDED;
	for (i = 0; i < count; i++) {
		word = hold_word(region, addr + i * page);
		if (!(word & MMN_PFN_VALID))
			continue;
		frame = mmn_pfn_frame(word);
		*ret_bad = addr + i * page;
		if (now[i] & PAGEMAP_SWAPPED) {
			verdict = UNDECIDED;
			continue;
		}
		if (!(now[i] & PAGEMAP_PRESENT))
			return STALE;
		if (frame && frame != (now[i] & PAGEMAP_FRAME))
			return STALE;
	}
	return verdict;
}

/* Memory as the program sees it; nothing is faulted in: the pages are there. */
static long read_memory(uintptr_t addr, char *to, size_t length)
{
	struct iovec local = { to, length };
	struct iovec remote = { (void *)addr, length };

	return raw_syscall(__NR_process_vm_readv,
			   raw_syscall(__NR_getpid, 0, 0, 0, 0, 0, 0),
			   (long)&local, 1, (long)&remote, 1, 0);
}

static enum verdict check_contents(const struct transfer *transfer,
				   const char *device, size_t length)
{
	long got = read_memory(transfer->addr, memory_bytes, length);

	if (got == -EFAULT || (got >= 0 && (size_t)got < length))
		return STALE;
	if (got < 0)
		return UNDECIDED;
	return memcmp(memory_bytes, device, length) ? DIFFERENT : FINE;
}

/* The device reads the same again; false if it may not. */
static bool read_again(struct transfer *transfer)
{
	struct mmn_device_transfer *work = &transfer->transfer;
	uint64_t until = raw_now() + DEVICE_NS;

	work->result = 0;
	if (!check_start(transfer, transfer->region))
		return false;
	agent.slot->transfers++;
	while (!check_is_done(transfer)) {
		mmn_device_poll(agent.device);
		check_sleep(1000000);
		/* Nothing can be done about it: the buffer is the device's. */
		if (raw_now() > until)
			set_text(agent.slot->remark, sizeof(agent.slot->remark),
				 "the device does not answer");
	}
	check_end(transfer);
	if (work->result != (int64_t)work->length)
		return false;
	agent.slot->read_bytes += (uint64_t)work->result;
	return true;
}

/*
 * Device and memory differ: because the program writes, or for good?  A byte
 * stays suspect as long as each round finds it different, and each side the same
 * as in the round before.
 */
static enum verdict settle(struct transfer *transfer, size_t length,
			   uintptr_t *ret_bad)
{
	struct dma_fence *fence;
	enum verdict verdict;
	unsigned int round;
	bool any = true;
	size_t i;

	memcpy(device_bytes, transfer->buffer, length);
	memcpy(first_bytes, memory_bytes, length);
	for (i = 0; i < length; i++)
		suspects[i] = device_bytes[i] != first_bytes[i];
	for (round = 0; round < ROUNDS && any; round++) {
		/* Out of step with whatever the program does in a loop. */
		check_sleep(raw_random() % 50000);
		if (!read_again(transfer))
			return OVERTAKEN;
		fence = hold_begin(transfer->region);
		if (!fence)
			return OVERTAKEN;
		verdict = check_contents(transfer, transfer->buffer, length);
		hold_end(fence);
		if (verdict != DIFFERENT)
			return verdict;
		any = false;
		for (i = 0; i < length; i++) {
			if (!suspects[i])
				continue;
			suspects[i] = memory_bytes[i] == first_bytes[i] &&
				      transfer->buffer[i] == device_bytes[i];
			any |= suspects[i];
			if (suspects[i])
				*ret_bad = transfer->addr + i;
		}
	}
	return any ? STALE : FINE;
}

/* "...: byte 0x7f.. is 3 there and 5 here" */
static void describe_contents(const struct transfer *transfer, uintptr_t addr,
			      char *text, size_t size)
{
	struct line line = { text, size, 0 };
	size_t at = addr - transfer->addr;

	line_add(&line, "the device reads ");
	line_hex(&line, (unsigned char)transfer->buffer[at]);
	line_add(&line, " at byte ");
	line_number(&line, addr & (mmn_page_size() - 1));
	line_add(&line, ", the program has ");
	line_hex(&line, (unsigned char)memory_bytes[at]);
}

/* Under a fence. */
static enum verdict check_held(struct transfer *transfer, bool *ret_contents,
			       bool *ret_frames, uintptr_t *ret_bad)
{
	size_t length = (size_t)transfer->transfer.result;
	enum verdict verdict;
	unsigned int count;

	*ret_bad = transfer->addr;
	count = (unsigned int)(length / mmn_page_size());
	verdict =
		check_frames(transfer->region, transfer->addr, count, ret_bad);
	*ret_frames = mmn_pages_pfn_visible(agent_pages);
	if (verdict != FINE)
		return verdict;
	/* Frames are proof enough; a sample shows that the device reads them. */
	if (*ret_frames && nr_compared++ % 16)
		return FINE;
	*ret_contents = true;
	verdict = check_contents(transfer, transfer->buffer, length);
	if (verdict == STALE)
		*ret_bad = transfer->addr;
	return verdict;
}

static void check_one(struct transfer *transfer)
{
	struct area_slot *slot = agent.slot;
	struct mmn_device_transfer *work = &transfer->transfer;
	bool contents = false, frames = false;
	enum verdict verdict = OVERTAKEN;
	struct dma_fence *fence;
	uintptr_t bad = 0;
	char text[100];

	if (work->result > 0)
		slot->read_bytes += (uint64_t)work->result;
	if (work->result != (int64_t)work->length) {
		slot->ended_by_change++;
		return;
	}
	fence = hold_begin(transfer->region);
	if (fence) {
		verdict = check_held(transfer, &contents, &frames, &bad);
		hold_end(fence);
	}
	if (verdict == DIFFERENT)
		verdict = settle(transfer, work->length, &bad);
	if (verdict == OVERTAKEN) {
		slot->overtaken++;
		return;
	}
	if (verdict == UNDECIDED) {
		slot->undecided++;
		return;
	}
	slot->checked++;
	slot->checked_frames += frames;
	slot->checked_contents += contents;
	if (verdict != STALE)
		return;
	if (contents)
		describe_contents(transfer, bad, text, sizeof(text));
	else
		set_text(text, sizeof(text),
			 "the device holds another page than the program has");
	check_found_stale(bad & ~(uintptr_t)(mmn_page_size() - 1), text);
}

bool check_reap(void)
{
	struct transfer *transfer;
	bool any = false;
	unsigned int i;

	mmn_device_poll(agent.device);
	for (i = 0; i < QUEUE; i++) {
		transfer = &transfers[i];
		if (!transfer->busy || !check_is_done(transfer))
			continue;
		check_end(transfer);
		check_one(transfer);
		hold_put(transfer->region);
		transfer->busy = false;
		transfer->window->busy--;
		any = true;
	}
	return any;
}

void check_drain(void)
{
	bool busy = true;
	unsigned int i;

	while (busy) {
		check_reap();
		busy = false;
		for (i = 0; i < QUEUE; i++)
			busy |= transfers[i].busy;
		if (busy)
			check_sleep(1000000);
	}
}
