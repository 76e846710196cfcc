/* SPDX-License-Identifier: MIT */
/*
 * What the kernel tells a process about its own memory, and how a page is
 * faulted in.
 *
 *	question		asked of		before that existed
 *	------------------------------------------------------------------
 *	which mapping		PROCMAP_QUERY, 6.11	/proc/PID/maps as text
 *	what is present		pagemap			-
 *	skip what is empty	PAGEMAP_SCAN, 6.7	pagemap, all of it
 *	huge mapping?		PAGEMAP_SCAN, 6.7	"no"
 *	fault in		MADV_POPULATE, 5.14	see below
 *
 * pagemap answers for present pages, because it alone tells the frame and
 * whether the page is mapped exclusively; PAGEMAP_SCAN costs half as much again
 * per present page but next to nothing for empty ones, so it is asked where
 * nothing was found.
 *
 * Faulting in without MADV_POPULATE must not be able to raise SIGSEGV or SIGBUS,
 * because the mapping may go away at any moment, and must not change contents,
 * because another thread may be writing.  To read, process_vm_readv() fetches
 * one byte of the page: it looks pages up as the kernel does for a device, and
 * refuses I/O memory.  To write, FUTEX_WAKE_OP lets the kernel OR 0 into the
 * first word, atomically, with the fault handled inside.  (It may wake a thread
 * that sleeps on a futex in that very word; sleepers on futexes expect that.)
 *
 * All descriptors are used by the thread that opened them, and all calls are raw
 * system calls: the thread may have a descriptor table of its own, and may be
 * inside a callback.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/uio.h>

#include "base/arena.h"
#include "base/syscall.h"
#include "mirror/config.h"
#include "mirror/kernel-abi.h"
#include "mirror/pages.h"

#define MISSING_ALL \
	(MMN_PAGES_NO_QUERY | MMN_PAGES_NO_SCAN | MMN_PAGES_NO_POPULATE)

/* The file position of pagemap is signed and the top half is the kernel's. */
#define USER_LAST ((uintptr_t)INTPTR_MAX)

/* ------------------------------------------------------------------ */
/* Which mapping                                                      */
/* ------------------------------------------------------------------ */

void pages_rewind(struct mmn_pages *pages)
{
	pages->text.has_region = false;
	pages->text.length = 0;
	pages->text.pos = 0;
}

/* Mappings that consist of no pages, by the names the kernel gives them. */
static bool name_is_special(const char *name)
{
	return !strncmp(name, "[vvar", 5) || !strncmp(name, "[vsyscall", 9);
}

/* A byte of the maps text; 0 at its end; -errno. */
static int text_byte(struct mmn_pages *pages)
{
	struct maps_text *text = &pages->text;
	long got;

	if (text->pos == text->length) {
		do {
			got = mmn_syscall3(__NR_read, pages->maps_fd,
					   text->bytes, sizeof(text->bytes));
		} while (got == -EINTR);
		if (got <= 0)
			return (int)got;
		text->length = (uint32_t)got;
		text->pos = 0;
	}
	return (unsigned char)text->bytes[text->pos++];
}

static int digit_of(int c, unsigned int base)
{
	unsigned int digit = 99;

	if (c >= '0' && c <= '9')
		digit = (unsigned int)(c - '0');
	else if (c >= 'a' && c <= 'f')
		digit = (unsigned int)(c - 'a') + 10;
	return digit < base ? (int)digit : -1;
}

/* Parse a number; returns the byte after it, which is not a digit. */
static int text_number(struct mmn_pages *pages, unsigned int base,
		       uint64_t *ret_number)
{
	uint64_t number = 0;
	int c;

	for (;;) {
		c = text_byte(pages);
		if (c < 0 || digit_of(c, base) < 0)
			break;
		number = number * base + (uint64_t)digit_of(c, base);
	}
	*ret_number = number;
	return c;
}

/* "start-end rwxs offset major:minor inode   name\n" */
static int text_region(struct mmn_pages *pages, struct mmn_region *region)
{
	uint64_t start, end, offset, major, minor, inode;
	char name[16] = "";
	uint32_t flags = 0;
	uint32_t i;
	int c;

	c = text_number(pages, 16, &start);
	if (c <= 0)
		return c ? c : -ENOENT;
	if (c != '-' || text_number(pages, 16, &end) != ' ' || end <= start)
		return -EIO;
	for (i = 0; i < 4; i++) {
		c = text_byte(pages);
		flags |= c == 'r'   ? MMN_REGION_READ
			 : c == 'w' ? MMN_REGION_WRITE
			 : c == 'x' ? MMN_REGION_EXEC
			 : c == 's' ? MMN_REGION_SHARED
				    : 0;
	}
	if (text_byte(pages) != ' ' || text_number(pages, 16, &offset) != ' ' ||
	    text_number(pages, 16, &major) != ':' ||
	    text_number(pages, 16, &minor) != ' ')
		return -EIO;
	c = text_number(pages, 10, &inode);
	while (c == ' ')
		c = text_byte(pages);
	for (i = 0; c > 0 && c != '\n'; c = text_byte(pages))
		if (i < sizeof(name) - 1)
			name[i++] = (char)c;
	if (c <= 0)
		return c ? c : -EIO;
	if (!inode && name_is_special(name))
		flags |= MMN_REGION_SPECIAL;
	*region = (struct mmn_region){
		.start = start,
		.last = end - 1,
		.flags = flags,
		.page_shift = pages->page_shift,
		.offset = offset,
		.inode = inode,
		.dev_major = (uint32_t)major,
		.dev_minor = (uint32_t)minor,
	};
	return 0;
}

static int lookup_text(struct mmn_pages *pages, uintptr_t addr,
		       struct mmn_region *ret_region)
{
	struct maps_text *text = &pages->text;
	long ret;
	int err;

	if (!text->has_region || addr < text->region.start) {
		pages_rewind(pages);
		ret = mmn_syscall3(__NR_lseek, pages->maps_fd, 0, 0);
		if (ret < 0)
			return (int)ret;
	}
	while (!text->has_region || text->region.last < addr) {
		err = text_region(pages, &text->region);
		text->has_region = !err;
		if (err)
			return err;
	}
	*ret_region = text->region;
	return 0;
}

/* Only a mapping that no file backs and nobody can write may be special. */
static bool query_is_special(struct mmn_pages *pages,
			     const struct mmn_region *region)
{
	char name[32] = "";
	struct maps_query query = {
		.size = sizeof(query),
		.query_addr = region->start,
		.vma_name_addr = (uintptr_t)name,
		.vma_name_size = sizeof(name),
	};

	if (region->inode ||
	    (region->flags & (MMN_REGION_WRITE | MMN_REGION_SHARED)))
		return false;
	if (mmn_syscall3(__NR_ioctl, pages->maps_fd, MAPS_QUERY_IOCTL, &query))
		return false;
	return name_is_special(name);
}

static uint32_t log2_of(uint64_t power_of_two)
{
	return (uint32_t)__builtin_ctzll(power_of_two);
}

static int lookup_query(struct mmn_pages *pages, uintptr_t addr,
			struct mmn_region *ret_region)
{
	struct maps_query query = {
		.size = sizeof(query),
		.query_flags = MAPS_QUERY_COVERING_OR_NEXT,
		.query_addr = addr,
	};
	struct mmn_region region;
	long ret;

	do {
		ret = mmn_syscall3(__NR_ioctl, pages->maps_fd, MAPS_QUERY_IOCTL,
				   &query);
	} while (ret == -EINTR);
	if (ret)
		return (int)ret;
	if (query.vma_end <= addr || query.vma_end <= query.vma_start ||
	    !query.vma_page_size)
		return -EIO;
	region = (struct mmn_region){
		.start = query.vma_start,
		.last = query.vma_end - 1,
		.page_shift = log2_of(query.vma_page_size),
		.offset = query.vma_offset,
		.inode = query.inode,
		.dev_major = query.dev_major,
		.dev_minor = query.dev_minor,
	};
	if (query.vma_flags & MAPS_QUERY_READABLE)
		region.flags |= MMN_REGION_READ;
	if (query.vma_flags & MAPS_QUERY_WRITABLE)
		region.flags |= MMN_REGION_WRITE;
	if (query.vma_flags & MAPS_QUERY_EXECUTABLE)
		region.flags |= MMN_REGION_EXEC;
	if (query.vma_flags & MAPS_QUERY_SHARED)
		region.flags |= MMN_REGION_SHARED;
	if (query_is_special(pages, &region))
		region.flags |= MMN_REGION_SPECIAL;
	*ret_region = region;
	return 0;
}

int pages_lookup(struct mmn_pages *pages, uintptr_t addr,
		 struct mmn_region *ret_region)
{
	if (pages->missing & MMN_PAGES_NO_QUERY)
		return lookup_text(pages, addr, ret_region);
	return lookup_query(pages, addr, ret_region);
}

/* ------------------------------------------------------------------ */
/* What is present                                                    */
/* ------------------------------------------------------------------ */

int pages_read_entries(struct mmn_pages *pages, uintptr_t addr, uint32_t nr)
{
	size_t bytes = (size_t)nr * sizeof(pages->entries[0]);
	size_t done = 0;
	uint64_t pos;
	long got;

	/* Nothing of a process lies there; pagemap would say "end of file". */
	if (addr > USER_LAST) {
		memset(pages->entries, 0, bytes);
		return 0;
	}
	pos = ((uint64_t)addr >> pages->page_shift) * sizeof(uint64_t);
	while (done < bytes) {
		got = mmn_syscall4(__NR_pread64, pages->pagemap_fd,
				   (char *)pages->entries + done, bytes - done,
				   pos + done);
		if (got == -EINTR)
			continue;
		if (got < 0)
			return (int)got;
		if (!got) {
			memset((char *)pages->entries + done, 0, bytes - done);
			break;
		}
		done += (size_t)got;
	}
	return 0;
}

/* The first page in [start, end) that is in one of the categories. */
static long scan(struct mmn_pages *pages, uint64_t start, uint64_t end,
		 uint64_t categories, struct pagemap_region *region)
{
	struct pagemap_scan arg = {
		.size = sizeof(arg),
		.start = start,
		.end = end,
		.regions = (uintptr_t)region,
		.nr_regions = 1,
		.max_pages = 1,
		.category_anyof_mask = categories,
		.return_mask = categories,
	};
	long ret;

	do {
		ret = mmn_syscall3(__NR_ioctl, pages->pagemap_fd,
				   PAGEMAP_SCAN_IOCTL, &arg);
	} while (ret == -EINTR);
	return ret;
}

int pages_skip_empty(struct mmn_pages *pages, uintptr_t addr, uintptr_t last,
		     uintptr_t *ret_addr)
{
	struct pagemap_region region;
	long found;

	*ret_addr = addr;
	if ((pages->missing & MMN_PAGES_NO_SCAN) || last >= USER_LAST)
		return 0;
	found = scan(pages, addr, (uint64_t)last + 1,
		     PAGE_IS_PRESENT_BIT | PAGE_IS_SWAPPED_BIT, &region);
	if (found < 0)
		return (int)found;
	*ret_addr = found ? region.start : last + 1;
	return 0;
}

bool pages_is_huge(struct mmn_pages *pages, uintptr_t addr)
{
	struct pagemap_region region;

	if (pages->missing & MMN_PAGES_NO_SCAN)
		return false;
	return scan(pages, addr, (uint64_t)addr + (1ull << pages->page_shift),
		    PAGE_IS_HUGE_BIT, &region) == 1;
}

/* ------------------------------------------------------------------ */
/* Faulting in                                                        */
/* ------------------------------------------------------------------ */

static int populate_by_advice(uintptr_t start, uintptr_t last, bool write)
{
	long ret = mmn_syscall3(__NR_madvise, start, last - start + 1,
				write ? ADVICE_POPULATE_WRITE
				      : ADVICE_POPULATE_READ);

	switch (ret) {
	case 0:
		return 0;
	case -EINTR:
	case -EAGAIN:
	case -EBUSY:
		return -EAGAIN;
	case -ENOMEM:
		return -ENOMEM;
	default:
		/* permission, special mappings, beyond the file, poison */
		return -EFAULT;
	}
}

/* Fetch a byte of the page; -EFAULT when there is none to be had. */
static int touch_for_read(struct mmn_pages *pages, uintptr_t addr)
{
	char byte;
	struct iovec local = { &byte, 1 };
	struct iovec remote = { (void *)addr, 1 };
	long got = mmn_syscall6(__NR_process_vm_readv, pages->pid, &local, 1,
				&remote, 1, 0);

	if (got == 1)
		return 0;
	return got == -ENOMEM ? -ENOMEM : -EFAULT;
}

/* Let the kernel OR 0 into the first word of the page. */
static int touch_for_write(uintptr_t addr)
{
	uint32_t unused = 0;
	long ret =
		mmn_syscall6(__NR_futex, &unused,
			     FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0, 0, addr,
			     FUTEX_OP(FUTEX_OP_OR, 0, FUTEX_OP_CMP_LT, -2048));

	if (ret >= 0)
		return 0;
	return ret == -ENOMEM || ret == -EAGAIN ? (int)ret : -EFAULT;
}

static int populate_by_touch(struct mmn_pages *pages, uintptr_t start,
			     uintptr_t last, bool write)
{
	uintptr_t addr = start;
	int err;

	for (;;) {
		/* First as a device would look: that keeps off I/O memory. */
		err = touch_for_read(pages, addr);
		if (!err && write)
			err = touch_for_write(addr);
		if (err)
			return err;
		if (((last - addr) >> pages->page_shift) == 0)
			return 0;
		addr += (uintptr_t)1 << pages->page_shift;
	}
}

int pages_populate(struct mmn_pages *pages, uintptr_t start, uintptr_t last,
		   bool write)
{
	if (pages->missing & MMN_PAGES_NO_POPULATE)
		return populate_by_touch(pages, start, last, write);
	return populate_by_advice(start, last, write);
}

/* ------------------------------------------------------------------ */
/* The object                                                         */
/* ------------------------------------------------------------------ */

/* Ask about the object itself: its memory is there and private. */
static int probe(struct mmn_pages *pages)
{
	uintptr_t page = (uintptr_t)1 << pages->page_shift;
	uintptr_t here = (uintptr_t)pages & ~(page - 1);
	struct pagemap_region region;
	struct mmn_region mapping;
	int err;

	err = pages_read_entries(pages, here, 1);
	if (err)
		return err;
	if (!(pages->entries[0] & PAGEMAP_PRESENT))
		return -EIO;
	pages->pfn_visible = pages->entries[0] & PAGEMAP_FRAME;

	if (!(pages->missing & MMN_PAGES_NO_QUERY) &&
	    lookup_query(pages, here, &mapping))
		pages->missing |= MMN_PAGES_NO_QUERY;
	if (!(pages->missing & MMN_PAGES_NO_SCAN) &&
	    scan(pages, here, here + page, PAGE_IS_PRESENT_BIT, &region) != 1)
		pages->missing |= MMN_PAGES_NO_SCAN;
	if (!(pages->missing & MMN_PAGES_NO_POPULATE) &&
	    populate_by_advice(here, here + page - 1, false))
		pages->missing |= MMN_PAGES_NO_POPULATE;
	if ((pages->missing & MMN_PAGES_NO_POPULATE) &&
	    populate_by_touch(pages, here, here + page - 1, true))
		return -ENOTSUP;
	return 0;
}

static int open_file(const char *path, int *ret_fd)
{
	long fd = mmn_syscall4(__NR_openat, AT_FDCWD, path,
			       O_RDONLY | O_CLOEXEC, 0);

	if (fd < 0)
		return (int)fd;
	*ret_fd = (int)fd;
	return 0;
}

static void close_file(int fd)
{
	if (fd >= 0)
		mmn_syscall1(__NR_close, fd);
}

static struct mmn_pages *pages_alloc(uint32_t flags)
{
	size_t page = mmn_page_size();
	size_t step_pages = page / sizeof(uint64_t);
	struct mmn_pages *pages;

	if (step_pages > PAGES_PER_STEP_MAX)
		step_pages = PAGES_PER_STEP_MAX;
	pages = mmn_callback_zalloc(sizeof(*pages) +
				    step_pages * sizeof(pages->entries[0]));
	if (!pages)
		return NULL;
	pages->pagemap_fd = -1;
	pages->maps_fd = -1;
	pages->missing = flags;
	pages->page_shift = log2_of(page);
	pages->step_pages = (uint32_t)step_pages;
	pages->generation = mmn_process_adopt();
	pages->pid = mmn_syscall0(__NR_getpid);
	return pages;
}

int mmn_pages_open(const struct mmn_pages_config *config,
		   struct mmn_pages **ret_pages)
{
	struct mmn_pages_config c = { sizeof(c), 0 };
	struct mmn_pages *pages;
	int err;

	if (!ret_pages)
		return -EINVAL;
	if (config) {
		err = config_copy(&c, sizeof(c), sizeof(c), config,
				  config->size);
		if (err)
			return err;
	}
	if (c.flags & ~MISSING_ALL)
		return -EINVAL;
	pages = pages_alloc(c.flags);
	if (!pages)
		return -ENOMEM;
	err = open_file("/proc/thread-self/pagemap", &pages->pagemap_fd);
	if (!err)
		err = open_file("/proc/thread-self/maps", &pages->maps_fd);
	if (!err)
		err = probe(pages);
	if (err)
		mmn_pages_close(pages);
	else
		*ret_pages = pages;
	return err;
}

void mmn_pages_close(struct mmn_pages *pages)
{
	if (!pages)
		return;
	close_file(pages->pagemap_fd);
	close_file(pages->maps_fd);
	mmn_callback_free(pages);
}

uint32_t mmn_pages_missing(const struct mmn_pages *pages)
{
	return pages->missing;
}

bool mmn_pages_pfn_visible(const struct mmn_pages *pages)
{
	return pages->pfn_visible;
}

int mmn_pages_region(struct mmn_pages *pages, uintptr_t addr,
		     struct mmn_region *ret_region)
{
	if (!pages_is_live(pages))
		return -ESTALE;
	pages_rewind(pages);
	return pages_lookup(pages, addr, ret_region);
}
