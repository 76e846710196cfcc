/* SPDX-License-Identifier: MIT */
/*
 * The agent's thread: which memory is held, and for how long.
 *
 * Each turn takes a new window, by turns from where the program has changed
 * something lately and from a walk through all of its memory, in exchange for
 * the oldest one when there is no more room; brings back what changes have taken
 * away; and keeps the device busy with reads.  Then it sleeps: the program's
 * processors are the program's.
 */
#include "agent.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>

/* Pauses between turns: at the beginning, later, and when nothing changes. */
#define PAUSE_NS UINT64_C(2000000)
#define PAUSE_LATER_NS UINT64_C(4000000)
#define PAUSE_IDLE_NS UINT64_C(10000000)
#define BEGINNING_NS UINT64_C(300000000)
#define IDLE_NS UINT64_C(200000000)

/* A window that changes all the time is brought back only so often. */
#define REFILL_NS UINT64_C(4000000)

/* Regions looked at in one turn of the walk. */
#define WALK_STEPS 8u

struct mmn_pages *agent_pages;
int agent_pagemap = -1;

struct policy {
	uint64_t begin_ns;
	/* Changes that have been looked at. */
	uint64_t nr_seen;
	uint64_t last_change_ns;
	uintptr_t cursor;
	unsigned int turn;
	unsigned int next_window;
	bool broken;
};

/* ------------------------------------------------------------------ */
/* The thread's own descriptors                                       */
/* ------------------------------------------------------------------ */

static bool close_others(int keep)
{
	if (raw_syscall(__NR_unshare, CLONE_FILES | CLONE_FS, 0, 0, 0, 0, 0))
		return false;
	if (keep > 0 && raw_syscall(__NR_close_range, 0, keep - 1, 0, 0, 0, 0))
		return false;
	return !raw_syscall(__NR_close_range, keep + 1, (long)~0u, 0, 0, 0, 0);
}

static bool open_all(void)
{
	agent_pagemap = (int)raw_syscall(__NR_openat, AT_FDCWD,
					 (long)"/proc/self/pagemap",
					 O_RDONLY | O_CLOEXEC, 0, 0, 0);
	if (agent_pagemap < 0 || mmn_pages_open(NULL, &agent_pages))
		return false;
	return check_open() && (!agent.device || hold_open());
}

/* ------------------------------------------------------------------ */
/* Choosing memory                                                    */
/* ------------------------------------------------------------------ */

static bool has_room(void)
{
	uint64_t window = WINDOW_PAGES * mmn_page_size();

	return window_pinned() + window <= agent.budget;
}

static void make_room(void)
{
	struct window *oldest;
	unsigned int i, used = 0;

	for (i = 0; i < MAX_WINDOWS; i++)
		used += windows[i].made_ns != 0;
	if (used < MAX_WINDOWS && has_room())
		return;
	oldest = window_oldest();
	if (oldest)
		window_drop(oldest);
}

/* Somewhere in a piece of memory, at a multiple of a window. */
static uintptr_t somewhere(uintptr_t start, uintptr_t last)
{
	uintptr_t window = WINDOW_PAGES * mmn_page_size();
	uintptr_t windows_in = (last - start) / window + 1;

	return start + raw_random() % windows_in * window;
}

/* Where has the program changed something lately? */
static bool choose_recent(struct policy *policy)
{
	uint64_t nr = area_read(&agent.nr_recent);
	unsigned int depth = nr < RECENT ? (unsigned int)nr : RECENT;
	const struct recent *entry;
	unsigned int tries;
	uintptr_t start, last;

	if (!depth)
		return false;
	for (tries = 0; tries < 4; tries++) {
		entry = &agent.recent[(nr - 1 - raw_random() % depth) % RECENT];
		start = entry->start & ~(uintptr_t)(mmn_page_size() - 1);
		last = entry->last;
		if (last <= start)
			continue;
		if (window_make(somewhere(start, last), last))
			return true;
	}
	return false;
}

/* The next memory that can be held, in order of address. */
static bool choose_next(struct policy *policy)
{
	struct mmn_region region;
	unsigned int step;
	uintptr_t addr;

	for (step = 0; step < WALK_STEPS; step++) {
		if (mmn_pages_region(agent_pages, policy->cursor, &region)) {
			policy->cursor = 0;
			return false;
		}
		policy->cursor = region.last + 1;
		if (!(region.flags & MMN_REGION_WRITE))
			continue;
		addr = somewhere(region.start, region.last);
		if (window_make(addr, region.last))
			return true;
		/* A stack grows down: what is there is at its end. */
		if (region.last - region.start >
			    WINDOW_PAGES * mmn_page_size() &&
		    window_make(region.last + 1 -
					WINDOW_PAGES * mmn_page_size(),
				region.last))
			return true;
	}
	return false;
}

static void choose(struct policy *policy)
{
	bool made = false;

	make_room();
	if (!has_room())
		return;
	if (policy->turn % 2)
		made = choose_recent(policy);
	if (!made)
		choose_next(policy);
}

/* ------------------------------------------------------------------ */
/* Turns                                                              */
/* ------------------------------------------------------------------ */

static void refill(struct policy *policy)
{
	uint64_t now = raw_now();
	struct window *window;
	unsigned int i;

	for (i = 0; i < MAX_WINDOWS; i++) {
		window = &windows[i];
		if (!window->made_ns)
			continue;
		window->torn |= window_is_torn(window);
		if (!window->torn)
			continue;
		if (!policy->broken && now - window->filled_ns < REFILL_NS)
			continue;
		window_fill(window);
		if (policy->broken && window->pages)
			check_submit(window, 2);
		if (!window->pages && !window->busy)
			window_drop(window);
	}
}

static void work(struct policy *policy, unsigned int count)
{
	struct window *window;
	unsigned int i;

	for (i = 0; i < MAX_WINDOWS && count; i++) {
		window = &windows[policy->next_window++ % MAX_WINDOWS];
		if (!window->made_ns)
			continue;
		check_submit(window, 2);
		count = count > 2 ? count - 2 : 0;
	}
}

static uint64_t pause_length(struct policy *policy)
{
	uint64_t nr = area_read(&agent.nr_recent);
	uint64_t now = raw_now();

	agent.slot->end_ns = now;
	agent.slot->agent_ns = raw_cpu();
	if (nr != policy->nr_seen) {
		policy->nr_seen = nr;
		policy->last_change_ns = now;
	}
	if (policy->broken)
		return PAUSE_NS / 20;
	if (now - policy->begin_ns < BEGINNING_NS)
		return PAUSE_NS;
	if (now - policy->last_change_ns > IDLE_NS)
		return PAUSE_IDLE_NS;
	return PAUSE_LATER_NS;
}

static void turn(struct policy *policy)
{
	choose(policy);
	refill(policy);
	work(policy, policy->broken ? QUEUE : QUEUE / 2);
	if (policy->turn % 8 == 4)
		play_round();
	check_reap();
	policy->turn++;
}

static void destroy_device(void)
{
	if (!agent.device)
		return;
	threads_put_back(1);
	mmn_device_destroy(agent.device);
	agent.device = NULL;
}

/* Give everything back: nothing is held after this. */
static void let_go(void)
{
	unsigned int i;

	if (!agent.device)
		return;
	check_drain();
	for (i = 0; i < MAX_WINDOWS; i++)
		if (windows[i].made_ns)
			window_drop(&windows[i]);
	play_close();
	hold_close();
	destroy_device();
	agent.slot->pinned = 0;
}

static void stop_checking(const char *why)
{
	let_go();
	set_text(agent.slot->reason, sizeof(agent.slot->reason), why);
	agent.slot->state = SLOT_COUNTED;
}

/* Has the time for checking ended? */
bool agent_must_stop(void)
{
	uint64_t stop = agent.area->header.stop_ns;

	return stop && raw_now() >= stop;
}

/* Nothing of the agent will make a system call after this. */
static void be_silent(bool has_device)
{
	static struct area_slot unused;
	static const char why[] = "it installed a system call filter; nothing "
				  "was followed from there on";

	if (has_device)
		stop_checking(why);
	else
		set_text(agent.slot->reason, sizeof(agent.slot->reason), why);
	mmn_intercept_stop();
	agent.slot->end_ns = raw_now();
	agent.slot = &unused;
	meet_keep_silence();
}

void *policy_main(void *arg)
{
	struct policy policy = { .begin_ns = raw_now() };

	in_agent = true;
	policy.broken = agent.area->header.want_break;
	if (!close_others(agent.area_fd) || !open_all()) {
		set_text(agent.slot->reason, sizeof(agent.slot->reason),
			 "no descriptor table or no /proc of its own");
		agent.slot->state = SLOT_NOT_FOLLOWED;
		destroy_device();
		meet_tell(READY_FAILED);
		threads_put_back(1);
		return NULL;
	}
	if (agent.device)
		play_open();
	meet_tell(READY_HOLDS_SLOT);
	meet_await_go();
	while (!agent_must_stop()) {
		if (meet_silence_is_wanted()) {
			be_silent(true);
			threads_put_back(1);
			return NULL;
		}
		turn(&policy);
		check_sleep(pause_length(&policy));
		check_reap();
	}
	stop_checking("checking ended with --seconds; changes were counted on");
	while (!meet_silence_is_wanted()) {
		agent.slot->end_ns = raw_now();
		agent.slot->agent_ns = raw_cpu();
		raw_wait(&agent.silence, SILENCE_NONE, 50000000);
	}
	be_silent(false);
	threads_put_back(1);
	return NULL;
}
