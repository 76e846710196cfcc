/* SPDX-License-Identifier: MIT */
/*
 * hmm_range_fault() for user space.
 *
 * The range is walked in steps.  A step lies in one mapping and in one page of
 * page-table entries (512 pages), and is all or nothing for the caller's array:
 *
 *	collided?  -> -EBUSY
 *	which mapping?  none or unreadable: ERROR, or -EFAULT when requested
 *	fault in what is to be written, in runs
 *	look: one read of pagemap
 *	fault in what is requested and was not there, and look again
 *	turn what was seen into words; @next moves on
 *
 * A request that cannot be met in the middle of a step shortens the step to
 * what lies before it, so that the next step begins with it and fails there:
 * @next is then exact without any other bookkeeping.
 *
 * Rejected: trusting "mapped exclusively" for REQ_WRITE.  A page that was shared
 * with a child that has exited is mapped once and still write-protected; the
 * write that follows copies it if anybody holds a reference, and a device that
 * has just taken hold does.  So REQ_WRITE always asks the kernel to make the
 * page writable, which costs little where it is.
 */
#include <errno.h>

#include "base/bug.h"
#include "mirror/config.h"
#include "mirror/kernel-abi.h"
#include "mirror/pages.h"

#define REQUESTS (MMN_PFN_REQ_FAULT | MMN_PFN_REQ_WRITE)
#define FAULT_FLAGS MMN_FAULT_SETTLE

/* Pages that vanish again so often are given up on. */
enum { MAX_TRIES = 8 };

/* One step: @nr pages from fault->next on, all in walk->region. */
struct walk {
	struct mmn_pages *pages;
	struct mmn_range_fault *fault;
	struct mmn_region region;
	bool has_region;
	/* The step before this one found nothing: look how far that goes. */
	bool sparse;
	uint32_t nr;
};

static bool collided(const struct walk *walk)
{
	const struct mmn_range_fault *fault = walk->fault;

	return fault->sub && mmn_range_check_retry(fault->sub, fault->seq);
}

static uint64_t *word_at(const struct walk *walk, uintptr_t addr)
{
	return &walk->fault->words[(addr - walk->fault->start) >>
				   walk->pages->page_shift];
}

static uintptr_t page_bytes(const struct walk *walk)
{
	return (uintptr_t)1 << walk->pages->page_shift;
}

static uintptr_t page_addr(const struct walk *walk, uint32_t i)
{
	return walk->fault->next + ((uintptr_t)i << walk->pages->page_shift);
}

/* What is asked for page @i of the step. */
static uint64_t request_of(const struct walk *walk, uint32_t i)
{
	const struct mmn_range_fault *fault = walk->fault;
	const uint32_t settled = MMN_REGION_WRITE | MMN_REGION_SHARED;
	uint64_t request;

	request = *word_at(walk, page_addr(walk, i)) & fault->flags_mask;
	request = (request | fault->default_flags) & REQUESTS;
	if (!(request & MMN_PFN_REQ_FAULT))
		return 0;
	if ((fault->flags & MMN_FAULT_SETTLE) && walk->has_region &&
	    (walk->region.flags & settled) == MMN_REGION_WRITE)
		request |= MMN_PFN_REQ_WRITE;
	return request;
}

static bool may_request(const struct mmn_range_fault *fault)
{
	return (fault->default_flags | fault->flags_mask) & MMN_PFN_REQ_FAULT;
}

/* The same output for every page below @end, which may be 0 for "the last". */
static void put_all(struct walk *walk, uintptr_t end, uint64_t output)
{
	uint64_t *words = word_at(walk, walk->fault->next);
	size_t nr = (end - walk->fault->next) >> walk->pages->page_shift;
	size_t i;

	for (i = 0; i < nr; i++)
		words[i] = output | (words[i] & MMN_PFN_STICKY);
	walk->fault->next = end;
}

/* ------------------------------------------------------------------ */
/* From what the kernel says to words                                 */
/* ------------------------------------------------------------------ */

static bool entry_is_writable(const struct mmn_region *region, uint64_t entry)
{
	if (!(region->flags & MMN_REGION_WRITE) || (entry & PAGEMAP_UFFD_WP))
		return false;
	if (region->flags & MMN_REGION_SHARED)
		return true;
	/* The zero page is not exclusive; a page of the file is not ours. */
	return (entry & PAGEMAP_EXCLUSIVE) && !(entry & PAGEMAP_FILE);
}

static uint64_t word_of(const struct walk *walk, uint64_t entry, bool written)
{
	uint64_t word;

	if (!(entry & PAGEMAP_PRESENT))
		return entry & PAGEMAP_GUARD ? MMN_PFN_ERROR : 0;
	word = MMN_PFN_VALID | (entry & PAGEMAP_FRAME & MMN_PFN_FRAME_MASK);
	if (written || entry_is_writable(&walk->region, entry))
		word |= MMN_PFN_WRITE;
	return word;
}

/* Could the step be part of one huge page?  Cheap, and says no mostly. */
static bool may_be_huge(const struct walk *walk)
{
	const uint64_t *entries = walk->pages->entries;
	uintptr_t huge = page_bytes(walk) * walk->pages->step_pages;
	uintptr_t first = walk->fault->next & ~(huge - 1);
	uint64_t in_huge;
	uint32_t i;

	if (first < walk->region.start || walk->region.last - first < huge - 1)
		return false;
	for (i = 0; i < walk->nr; i++)
		if (!(entries[i] & PAGEMAP_PRESENT))
			return false;
	if (!walk->pages->pfn_visible)
		return true;
	in_huge = (walk->fault->next - first) >> walk->pages->page_shift;
	if (((entries[0] & PAGEMAP_FRAME) & (walk->pages->step_pages - 1)) !=
	    in_huge)
		return false;
	for (i = 1; i < walk->nr; i++)
		if ((entries[i] & PAGEMAP_FRAME) !=
		    (entries[i - 1] & PAGEMAP_FRAME) + 1)
			return false;
	return true;
}

static uint64_t order_of_step(const struct walk *walk)
{
	uint32_t order = 0;

	if (walk->region.page_shift > walk->pages->page_shift)
		order = walk->region.page_shift - walk->pages->page_shift;
	else if (may_be_huge(walk) &&
		 pages_is_huge(walk->pages, walk->fault->next))
		order = (uint32_t)__builtin_ctz(walk->pages->step_pages);
	return (uint64_t)order << MMN_PFN_ORDER_SHIFT;
}

static void put_words(struct walk *walk)
{
	const uint64_t *entries = walk->pages->entries;
	const bool requests = may_request(walk->fault);
	uint64_t *words = word_at(walk, walk->fault->next);
	uint64_t order = order_of_step(walk);
	uint32_t nr = walk->nr;
	uint64_t seen = 0;
	uint64_t word;
	uint32_t i;

	for (i = 0; i < nr; i++) {
		bool written =
			requests && (request_of(walk, i) & MMN_PFN_REQ_WRITE);

		word = word_of(walk, entries[i], written);
		if (word & MMN_PFN_VALID)
			word |= order;
		seen |= word;
		words[i] = word | (words[i] & MMN_PFN_STICKY);
	}
	walk->fault->next = page_addr(walk, nr);
	walk->sparse = !seen;
}

/* ------------------------------------------------------------------ */
/* Steps                                                              */
/* ------------------------------------------------------------------ */

/* Nothing can ever be had in [next, last]. */
static int step_error(struct walk *walk, uintptr_t last)
{
	const struct mmn_range_fault *fault = walk->fault;
	uintptr_t end = last + 1;
	uintptr_t addr = fault->next;

	if (fault->default_flags & MMN_PFN_REQ_FAULT)
		return -EFAULT;
	if (fault->flags_mask & MMN_PFN_REQ_FAULT)
		while (addr != end &&
		       !(*word_at(walk, addr) & MMN_PFN_REQ_FAULT))
			addr += page_bytes(walk);
	else
		addr = end;
	put_all(walk, addr, MMN_PFN_ERROR);
	return addr == end ? 0 : -EFAULT;
}

static int step_snapshot(struct walk *walk, uintptr_t last)
{
	uintptr_t present = walk->fault->next;
	int err;

	if (walk->sparse) {
		err = pages_skip_empty(walk->pages, present, last, &present);
		if (err)
			return err;
	}
	if (present != walk->fault->next) {
		put_all(walk, present, 0);
		walk->sparse = false;
		return 0;
	}
	err = pages_read_entries(walk->pages, walk->fault->next, walk->nr);
	if (!err)
		put_words(walk);
	return err;
}

/*
 * The kernel refused something in the mapping that was looked up.  If it is not
 * the mapping any more, nobody is to blame: look again.
 */
static int refused(struct walk *walk, int err)
{
	struct mmn_region region;

	if (collided(walk))
		return -EBUSY;
	if (err == -EAGAIN)
		return -EAGAIN;
	pages_rewind(walk->pages);
	if (pages_lookup(walk->pages, walk->fault->next, &region) ||
	    region.start != walk->region.start ||
	    region.last != walk->region.last ||
	    region.flags != walk->region.flags ||
	    region.inode != walk->region.inode)
		return -EAGAIN;
	return err;
}

/*
 * Fault in pages [first, end) of the step.  When that fails, find the page that
 * is to blame, and shorten the step to what lies before it.
 */
static int populate_run(struct walk *walk, uint32_t first, uint32_t end,
			bool write)
{
	uintptr_t in_page = page_bytes(walk) - 1;
	int err;

	if (collided(walk))
		return -EBUSY;
	err = pages_populate(walk->pages, page_addr(walk, first),
			     page_addr(walk, end - 1) + in_page, write);
	if (!err)
		return 0;
	for (; first < end; first++) {
		err = pages_populate(walk->pages, page_addr(walk, first),
				     page_addr(walk, first) + in_page, write);
		if (err)
			break;
	}
	if (!err)
		return 0;
	if (first == 0)
		return refused(walk, err);
	walk->nr = first;
	return 0;
}

/*
 * Fault in, in runs, every page of the step that asks for exactly @want; with
 * @absent_only, those that pagemap did not show.
 */
static int populate_requested(struct walk *walk, uint64_t want,
			      bool absent_only, bool *ret_any)
{
	const bool write = want & MMN_PFN_REQ_WRITE;
	uint32_t first, end;
	int err;

	for (first = 0; first < walk->nr; first = end + 1) {
		for (end = first; end < walk->nr; end++) {
			if (request_of(walk, end) != want)
				break;
			if (absent_only &&
			    (walk->pages->entries[end] & PAGEMAP_PRESENT))
				break;
		}
		if (end == first)
			continue;
		err = populate_run(walk, first, end, write);
		if (err)
			return err;
		*ret_any = true;
	}
	return 0;
}

/* Does every page of the step have what it asks for, as far as one can see? */
static bool is_satisfied(const struct walk *walk)
{
	uint32_t i;

	for (i = 0; i < walk->nr; i++)
		if (request_of(walk, i) &&
		    !(walk->pages->entries[i] & PAGEMAP_PRESENT))
			return false;
	return true;
}

/* Shorten the step so that what it asks for is permitted. */
static int check_permission(struct walk *walk)
{
	uint32_t i;

	if (walk->region.flags & MMN_REGION_WRITE)
		return 0;
	for (i = 0; i < walk->nr; i++)
		if (request_of(walk, i) & MMN_PFN_REQ_WRITE)
			break;
	if (i == 0)
		return -EPERM;
	walk->nr = i;
	return 0;
}

static uint64_t count_requests(const struct walk *walk)
{
	uint64_t count = 0;
	uint32_t i;

	for (i = 0; i < walk->nr; i++) {
		uint64_t request = request_of(walk, i);

		count += (request & MMN_PFN_REQ_WRITE) ||
			 (request &&
			  !(walk->pages->entries[i] & PAGEMAP_PRESENT));
	}
	return count;
}

static int step_request(struct walk *walk)
{
	uint64_t faults = 0;
	uint32_t tries;
	bool any;
	int err;

	err = check_permission(walk);
	if (err)
		return err;
	for (tries = 0; tries < MAX_TRIES; tries++) {
		any = false;
		err = populate_requested(walk, REQUESTS, false, &any);
		if (err)
			return err;
		if (collided(walk))
			return -EBUSY;
		err = pages_read_entries(walk->pages, walk->fault->next,
					 walk->nr);
		if (err)
			return err;
		if (!tries)
			faults = count_requests(walk);
		if (is_satisfied(walk)) {
			walk->fault->faults += faults;
			put_words(walk);
			return 0;
		}
		err = populate_requested(walk, MMN_PFN_REQ_FAULT, true, &any);
		if (err)
			return err;
	}
	return -ENOMEM;
}

/* How far the step at @next reaches: the mapping, the huge page, the range. */
static void size_step(struct walk *walk, uintptr_t last)
{
	uintptr_t next = walk->fault->next;
	uintptr_t left = ((last - next) >> walk->pages->page_shift) + 1;
	uint32_t index = (uint32_t)(next >> walk->pages->page_shift) &
			 (walk->pages->step_pages - 1);

	walk->nr = walk->pages->step_pages - index;
	if (left < walk->nr)
		walk->nr = (uint32_t)left;
}

static int find_region(struct walk *walk)
{
	uintptr_t next = walk->fault->next;
	int err;

	if (walk->has_region && walk->region.start <= next &&
	    next <= walk->region.last)
		return 0;
	err = pages_lookup(walk->pages, next, &walk->region);
	walk->has_region = !err;
	return err == -ENOENT ? 0 : err;
}

static int step(struct walk *walk)
{
	struct mmn_range_fault *fault = walk->fault;
	const struct mmn_region *region = &walk->region;
	uintptr_t last = fault->last;
	int err;

	if (collided(walk))
		return -EBUSY;
	err = find_region(walk);
	if (err)
		return err;
	if (!walk->has_region)
		return step_error(walk, last);
	if (region->start > fault->next)
		return step_error(
			walk, last < region->start ? last : region->start - 1);
	if (region->last < last)
		last = region->last;
	if (!(region->flags & MMN_REGION_READ) ||
	    (region->flags & MMN_REGION_SPECIAL))
		return step_error(walk, last);
	size_step(walk, last);
	if (may_request(fault))
		return step_request(walk);
	return step_snapshot(walk, last);
}

/* ------------------------------------------------------------------ */
/* The call                                                           */
/* ------------------------------------------------------------------ */

static int check_arguments(const struct mmn_range_fault *fault)
{
	uintptr_t in_page = mmn_page_size() - 1;
	struct mmn_range_fault known;
	int err;

	err = config_copy(&known, sizeof(known), sizeof(known), fault,
			  fault->size);
	if (err)
		return err;
	if ((fault->flags & ~FAULT_FLAGS) || !fault->words)
		return -EINVAL;
	if ((fault->start & in_page) || (fault->last & in_page) != in_page ||
	    fault->last < fault->start)
		return -EINVAL;
	if ((fault->default_flags & REQUESTS) == MMN_PFN_REQ_WRITE)
		return -EINVAL;
	if (fault->sub &&
	    (fault->start < mmn_range_subscription_start(fault->sub) ||
	     fault->last > mmn_range_subscription_last(fault->sub)))
		return -EINVAL;
	return 0;
}

int mmn_range_fault(struct mmn_pages *pages, struct mmn_range_fault *fault)
{
	struct walk walk = { .pages = pages, .fault = fault };
	uintptr_t end;
	int err;

	if (!pages || !fault)
		return -EINVAL;
	err = check_arguments(fault);
	if (err)
		return err;
	if (!pages_is_live(pages))
		return -ESTALE;
	fault->next = fault->start;
	fault->faults = 0;
	pages_rewind(pages);
	/* 0 for a range that ends where the address space does */
	end = fault->last + 1;
	do {
		err = step(&walk);
		if (err == -EAGAIN) {
			pages_rewind(pages);
			walk.has_region = false;
			err = 0;
		}
	} while (!err && fault->next != end);
	return err;
}
