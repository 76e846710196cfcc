/* SPDX-License-Identifier: MIT */
/*
 * Windows: pieces of the program's memory that are held for a while.
 *
 * Only pages go in that are there already and are the process's own, so that
 * pinning them neither allocates nor copies anything: the program's memory is
 * what it would be without the agent.
 */
#include "agent.h"

#include <string.h>

/* Patience for one fill; changes come and go in microseconds. */
#define FILL_NS UINT64_C(5000000)

struct window windows[MAX_WINDOWS];

static uintptr_t page_down(uintptr_t addr)
{
	return addr & ~(uintptr_t)(mmn_page_size() - 1);
}

static struct window *window_free(void)
{
	unsigned int i;

	for (i = 0; i < MAX_WINDOWS; i++)
		if (!windows[i].made_ns)
			return &windows[i];
	return NULL;
}

struct window *window_oldest(void)
{
	struct window *oldest = NULL;
	unsigned int i;

	for (i = 0; i < MAX_WINDOWS; i++)
		if (windows[i].made_ns && !windows[i].busy &&
		    (!oldest || windows[i].made_ns < oldest->made_ns))
			oldest = &windows[i];
	return oldest;
}

static bool is_covered(uintptr_t start, uintptr_t last)
{
	unsigned int i;

	if (own_overlaps(start, last))
		return true;
	for (i = 0; i < MAX_WINDOWS; i++)
		if (windows[i].made_ns && start <= windows[i].last &&
		    last >= windows[i].start)
			return true;
	return false;
}

uint64_t window_pinned(void)
{
	uint64_t pages = 0;
	unsigned int i;

	for (i = 0; i < MAX_WINDOWS; i++)
		if (windows[i].made_ns)
			pages += windows[i].pages;
	return pages * mmn_page_size();
}

/* Private memory that can be written, or memory of a tmpfs. */
static bool is_wanted(const struct mmn_region *region)
{
	uint32_t must = MMN_REGION_READ | MMN_REGION_WRITE;

	return (region->flags & must) == must && !play_owns(region) &&
	       !(region->flags & MMN_REGION_SPECIAL) &&
	       (1u << region->page_shift) == mmn_page_size();
}

/*
 * What is there and the process's own, as a bitmap of the window; 0 if nothing
 * is.  The look needs no read section: a page that changes afterwards is left
 * out by the fill, or costs a page that the program would have got anyway.
 */
static uint64_t own_pages(uintptr_t start, uintptr_t last)
{
	uint64_t words[WINDOW_PAGES] = { 0 };
	struct mmn_range_fault look = {
		.size = sizeof(look),
		.start = start,
		.last = last,
		.words = words,
	};
	struct mmn_region region;
	unsigned int i, count;
	uint64_t own = 0;

	/* Other memory may have come to where a window was made. */
	if (mmn_pages_region(agent_pages, start, &region) ||
	    region.start > start || region.last < last || !is_wanted(&region) ||
	    own_overlaps(start, last))
		return 0;
	if (mmn_range_fault(agent_pages, &look))
		return 0;
	count = (unsigned int)((last - start + 1) / mmn_page_size());
	for (i = 0; i < count; i++)
		if ((words[i] & MMN_PFN_VALID) && (words[i] & MMN_PFN_WRITE))
			own |= UINT64_C(1) << i;
	return own;
}

/* Look at the runs: what is still held? */
static uint64_t pages_held(const struct window *window)
{
	struct mmn_cache_region *region;
	uint64_t bytes = 0;
	unsigned int i;

	for (i = 0; i < window->nr_runs; i++) {
		region = hold_find(window->runs[i].start, window->runs[i].last);
		if (!region)
			continue;
		hold_put(region);
		bytes += window->runs[i].last - window->runs[i].start + 1;
	}
	return bytes / mmn_page_size();
}

bool window_is_torn(struct window *window)
{
	uint64_t pages = pages_held(window);
	bool torn = pages != window->pages;

	window->pages = pages;
	return torn;
}

static void add_run(struct window *window, unsigned int first, unsigned int end)
{
	size_t page = mmn_page_size();
	uintptr_t start = window->start + first * page;
	uintptr_t last = window->start + end * page - 1;
	struct mmn_cache_region *region;

	/* No room, or a change that took long: another time. */
	region = hold_get(start, last, FILL_NS);
	if (!region)
		return;
	hold_put(region);
	window->runs[window->nr_runs].start = start;
	window->runs[window->nr_runs].last = last;
	window->nr_runs++;
}

void window_fill(struct window *window)
{
	unsigned int i, end;
	uint64_t own;

	window->filled_ns = raw_now();
	window->nr_runs = 0;
	window->torn = false;
	own = own_pages(window->start, window->last);
	for (i = 0; i < WINDOW_PAGES && window->nr_runs < MAX_RUNS; i = end) {
		end = i + 1;
		if (!(own >> i & 1))
			continue;
		while (end < WINDOW_PAGES && (own >> end & 1) &&
		       end - i < MAP_PAGES)
			end++;
		add_run(window, i, end);
	}
	window->pages = pages_held(window);
	hold_count();
}

void window_drop(struct window *window)
{
	hold_forget(window->start, window->last);
	memset(window, 0, sizeof(*window));
	hold_count();
}

bool window_make(uintptr_t addr, uintptr_t limit)
{
	struct window *window = window_free();
	struct mmn_region region;
	uintptr_t start, last;

	if (!window || mmn_pages_region(agent_pages, addr, &region) ||
	    !is_wanted(&region))
		return false;
	start = page_down(addr > region.start ? addr : region.start);
	last = region.last;
	if (start > limit)
		return false;
	if (last - start >= WINDOW_PAGES * mmn_page_size())
		last = start + WINDOW_PAGES * mmn_page_size() - 1;
	if (is_covered(start, last) || !own_pages(start, last))
		return false;
	window->start = start;
	window->last = last;
	window->made_ns = raw_now();
	window_fill(window);
	if (!window->pages) {
		window_drop(window);
		return false;
	}
	agent.slot->windows++;
	return true;
}
