/* SPDX-License-Identifier: MIT */
/*
 * Windows: pieces of the program's memory that are mirrored for a while.
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

/* In the callback, with the mirror's lock held. */
static void torn_down(void *arg, const struct mmn_invalidate_desc *desc,
		      uintptr_t start, uintptr_t last)
{
	struct window *window = arg;

	window->generation++;
	met_mirror = true;
}

static const struct mmn_mirror_hooks hooks = { .torn_down = torn_down };

static struct window *window_free(void)
{
	unsigned int i;

	for (i = 0; i < MAX_WINDOWS; i++)
		if (!windows[i].mirror)
			return &windows[i];
	return NULL;
}

struct window *window_oldest(void)
{
	struct window *oldest = NULL;
	unsigned int i;

	for (i = 0; i < MAX_WINDOWS; i++)
		if (windows[i].mirror && !windows[i].busy &&
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
		if (windows[i].mirror && start <= windows[i].last &&
		    last >= windows[i].start)
			return true;
	return false;
}

uint64_t window_pinned(void)
{
	uint64_t pages = 0;
	unsigned int i;

	for (i = 0; i < MAX_WINDOWS; i++)
		if (windows[i].mirror)
			pages += windows[i].pages;
	return pages * mmn_page_size();
}

void window_count(struct window *window)
{
	struct mmn_mirror_stats stats = { .size = sizeof(stats) };
	struct area_slot *slot = agent.slot;
	uint64_t pinned;

	if (mmn_mirror_get_stats(window->mirror, &stats))
		return;
	slot->collisions += stats.collisions - window->seen_collisions;
	slot->torn_pages += stats.invalidated_pages - window->seen_torn;
	slot->filled_pages += stats.filled_pages - window->seen_filled;
	window->seen_collisions = stats.collisions;
	window->seen_torn = stats.invalidated_pages;
	window->seen_filled = stats.filled_pages;
	window->pages = stats.pages;
	pinned = window_pinned();
	slot->pinned = pinned;
	if (slot->pinned_peak < pinned)
		slot->pinned_peak = pinned;
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

void window_fill(struct window *window)
{
	size_t page = mmn_page_size();
	struct mmn_mirror_fill fill;
	struct mmn_mirror_access access;
	unsigned int i, end;
	uint64_t own;

	mmn_mirror_access_begin(window->mirror, &access);
	window->filled_generation = window->generation;
	mmn_mirror_access_end(&access);
	window->filled_ns = raw_now();
	own = own_pages(window->start, window->last);
	for (i = 0; i < WINDOW_PAGES; i = end) {
		if (!(own >> i & 1)) {
			end = i + 1;
			continue;
		}
		for (end = i + 1; end < WINDOW_PAGES && (own >> end & 1) &&
				  end - i < MAP_PAGES;
		     end++)
			;
		memset(&fill, 0, sizeof(fill));
		fill.size = sizeof(fill);
		fill.flags = MMN_MIRROR_FILL_PRESENT;
		fill.start = window->start + i * page;
		fill.last = window->start + end * page - 1;
		fill.budget_ns = FILL_NS;
		/* No room, or a change that took long: another time. */
		if (mmn_mirror_fill(window->mirror, agent_pages, &fill))
			break;
	}
	window_count(window);
}

void window_drop(struct window *window)
{
	struct mmn_mirror *mirror = window->mirror;

	window_count(window);
	mmn_mirror_destroy(mirror);
	memset(window, 0, sizeof(*window));
	agent.slot->pinned = window_pinned();
}

bool window_make(uintptr_t addr, uintptr_t limit)
{
	uint64_t break_delay = agent.area->header.want_break ? 300000 : 0;
	struct mmn_mirror_config config = {
		.size = sizeof(config),
		.flags = MMN_MIRROR_WORDS_AFTER,
		.device = agent.device,
		.access = MMN_DEVICE_READ,
		.run_pages = MAP_PAGES,
		.hooks = &hooks,
		/* Makes collisions likely, which a broken build must miss. */
		.install_delay_ns = break_delay,
	};
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
	config.hooks_arg = window;
	if (mmn_mirror_create(agent.state, start, last, &config,
			      &window->mirror)) {
		window->mirror = NULL;
		return false;
	}
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
