/* SPDX-License-Identifier: MIT */
/*
 * Which memory is the agent's own?
 *
 * The device never holds it: a device that reads the lock that is held while
 * its reading is checked never sees what the checker sees.  Own is what the
 * process has more after the agent's beginning than before it, and the data of
 * the libraries that it brought along.  Everything that the agent needs later
 * comes out of that.
 */
#include "agent.h"

#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#define MAX_OWN 64u
#define MAX_BEFORE 256u

struct interval {
	uintptr_t start;
	uintptr_t last;
};

static struct interval own[MAX_OWN];
static unsigned int nr_own;
static struct interval before[MAX_BEFORE];
static unsigned int nr_before;
static char *heap_mark;

static void add_own(uintptr_t start, uintptr_t last)
{
	if (nr_own < MAX_OWN)
		own[nr_own++] = (struct interval){ start, last };
}

bool own_overlaps(uintptr_t start, uintptr_t last)
{
	unsigned int i;

	for (i = 0; i < nr_own; i++)
		if (start <= own[i].last && last >= own[i].start)
			return true;
	return false;
}

static int add_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	const ElfW(Phdr) * phdr;
	uintptr_t start, end, page = mmn_page_size();
	unsigned int i;

	if (!strstr(info->dlpi_name, "/libmmn") &&
	    !strstr(info->dlpi_name, "/liburcu"))
		return 0;
	for (i = 0; i < info->dlpi_phnum; i++) {
		phdr = &info->dlpi_phdr[i];
		if (phdr->p_type != PT_LOAD || !(phdr->p_flags & PF_W))
			continue;
		start = info->dlpi_addr + phdr->p_vaddr;
		end = (start + phdr->p_memsz + page - 1) & ~(page - 1);
		add_own(start & ~(page - 1), end - 1);
	}
	return 0;
}

/*
 * What the heap gives out between own_before() and own_after(), for threads and
 * devices: a young heap gives out one block after the other.
 */
static void add_heap(char *from, char *to)
{
	uintptr_t page = mmn_page_size();

	if (from && to && to > from && to - from < 1 << 20)
		add_own((uintptr_t)from & ~(page - 1),
			((uintptr_t)to + page) | (page - 1));
}

void own_before(void)
{
	struct mmn_pages *pages;
	struct mmn_region region;
	uintptr_t addr = 0;

	heap_mark = malloc(1);
	if (mmn_pages_open(NULL, &pages))
		return;
	while (nr_before < MAX_BEFORE &&
	       !mmn_pages_region(pages, addr, &region)) {
		addr = region.last + 1;
		/* The library's arena came with what is used to look. */
		if (region.start <= (uintptr_t)pages &&
		    region.last >= (uintptr_t)pages)
			continue;
		before[nr_before++] =
			(struct interval){ region.start, region.last };
	}
	mmn_pages_close(pages);
}

/* What of [start, last] was not there before? */
static void add_new(uintptr_t start, uintptr_t last)
{
	unsigned int i;

	for (i = 0; i < nr_before && start <= last; i++) {
		if (before[i].last < start || before[i].start > last)
			continue;
		if (before[i].start > start)
			add_own(start, before[i].start - 1);
		if (before[i].last >= last)
			return;
		start = before[i].last + 1;
	}
	if (start <= last)
		add_own(start, last);
}

void own_after(void)
{
	struct mmn_pages *pages;
	struct mmn_region region;
	uintptr_t addr = 0, heap_end;
	char *mark = malloc(1);

	add_heap(heap_mark, mark);
	free(heap_mark);
	free(mark);
	dl_iterate_phdr(add_object, NULL);
	add_own((uintptr_t)agent.area, (uintptr_t)(agent.area + 1) - 1);
	if (mmn_pages_open(NULL, &pages))
		return;
	heap_end = (uintptr_t)raw_syscall(__NR_brk, 0, 0, 0, 0, 0, 0);
	while (!mmn_pages_region(pages, addr, &region)) {
		addr = region.last + 1;
		/* The heap is the program's, whoever let it grow first. */
		if ((region.flags & MMN_REGION_WRITE) && addr != heap_end)
			add_new(region.start, region.last);
	}
	mmn_pages_close(pages);
}
