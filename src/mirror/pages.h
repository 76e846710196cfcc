/* SPDX-License-Identifier: MIT */
#ifndef MMN_MIRROR_PAGES_H
#define MMN_MIRROR_PAGES_H
/*
 * The inside of struct mmn_pages: what the range fault asks the kernel.
 *
 * Every call may be overtaken by a change of the memory; none may harm the
 * process for that reason (no access that could raise a signal), and what they
 * say is checked by the read section around them.
 */
#include <stdbool.h>
#include <stdint.h>

#include <mmn/mirror.h>

#include "base/process.h"

/*
 * Pages looked at in one step: what one page of page-table entries maps, so that
 * a step is at most one huge page.
 */
#define PAGES_PER_STEP_MAX 8192

enum { MAPS_TEXT_BYTES = 4096 };

/* /proc/PID/maps as text, read line by line. */
struct maps_text {
	/* The region parsed last; what follows it is still to come. */
	struct mmn_region region;
	bool has_region;
	uint32_t length;
	uint32_t pos;
	char bytes[MAPS_TEXT_BYTES];
};

/*
 * struct mmn_pages - const after open, but for what one call leaves behind for
 * itself (@text, @entries): one thread at a time
 */
struct mmn_pages {
	int pagemap_fd;
	int maps_fd;
	uint32_t missing;
	bool pfn_visible;
	/* log2 of the bytes of a base page */
	uint32_t page_shift;
	/* Pages per step; a power of two. */
	uint32_t step_pages;
	/* of the process that opened it */
	uint32_t generation;
	long pid;
	struct maps_text text;
	/* @step_pages words of pagemap */
	uint64_t entries[];
};

/* A fork child's copy looks at the parent's memory and is of no use. */
static inline bool pages_is_live(const struct mmn_pages *pages)
{
	return pages->generation == mmn_process_generation();
}

/* Forget what is remembered of the mappings: the next lookup starts anew. */
void pages_rewind(struct mmn_pages *pages);

/*
 * As mmn_pages_region(); addresses that ascend since the last pages_rewind() are
 * cheap even where the maps must be parsed.
 */
int pages_lookup(struct mmn_pages *pages, uintptr_t addr,
		 struct mmn_region *ret_region);

/* Read @nr pagemap words from the page at @addr on into pages->entries. */
int pages_read_entries(struct mmn_pages *pages, uintptr_t addr, uint32_t nr);

/*
 * The first page in [@addr, @last] that is not empty, or @last + 1 when all are;
 * @addr itself when the kernel cannot say.
 */
int pages_skip_empty(struct mmn_pages *pages, uintptr_t addr, uintptr_t last,
		     uintptr_t *ret_addr);

/* Is the page at @addr mapped as part of a huge page? */
bool pages_is_huge(struct mmn_pages *pages, uintptr_t addr);

/*
 * Fault in [@start, @last], for writing if @write, without changing contents.
 * Return: 0; -EFAULT (can never be: not mapped, not permitted, beyond the
 * file); -ENOMEM; -EAGAIN (look again).  Which page failed is not told.
 */
int pages_populate(struct mmn_pages *pages, uintptr_t start, uintptr_t last,
		   bool write);

#endif
