/* SPDX-License-Identifier: MIT */
#ifndef MMN_CMD_AGENT_AGENT_H
#define MMN_CMD_AGENT_AGENT_H
/*
 * The agent: what `mmn run` loads into a program.
 *
 *	the program's threads                     the agent's thread
 *
 *	change of memory                          picks windows of memory,
 *	  -> intercept -> callbacks of the        has the device hold them,
 *	     cache: device lets go                submits reads of them,
 *	  -> the change                           checks each when it is done
 *	  -> observe(): count, remember
 *
 * The agent's thread has a descriptor table of its own, blocks all signals,
 * uses no heap and no stdio.  Windows and everything about the device belong to
 * it alone; what the program's threads touch is counted atomically.
 */
#include <mmn/device.h>
#include <mmn/mirror.h>
#include <mmn/notifier.h>
#include <mmn/source.h>

#include <stdbool.h>
#include <stdint.h>

#include "../area.h"

struct dma_fence;
struct mmn_cache_region;

#define MAX_WINDOWS 48u
#define MAX_RUNS 8u
#define WINDOW_PAGES 64u
/* A change takes the whole map from the device that it touches a page of. */
#define MAP_PAGES 64u
/* One transfer, so that a change never waits for long. */
#define TRANSFER_PAGES 16u
#define QUEUE 8u

#define RECENT 128u

/* A change that was seen, or a new mapping. */
struct recent {
	uint32_t call;
	uint32_t reserved;
	uintptr_t start;
	uintptr_t last;
	uint64_t ns;
};

struct agent {
	struct area *area;
	/* What to write figures into; a spare when there is no slot. */
	struct area_slot *slot;
	struct mmn_state *state;
	struct mmn_device *device;
	/* Bytes that may be pinned. */
	uint64_t budget;
	/* Of the shared file, while the thread takes its own copy. */
	int area_fd;
	/* There is a thread, which can be asked for silence. */
	bool is_running;
	/* Of the process that is followed: a copy of it has another one. */
	long pid;
	/* futex: READY_*, what has become of the thread */
	uint32_t ready;
	/* futex: what is the agent's own has been found out */
	uint32_t go;
	/* futex: leave the process alone (WANTED), that has been done (KEPT) */
	uint32_t silence;
	/* atomic: changes seen so far, and the last RECENT of them */
	uint64_t nr_recent;
	struct recent recent[RECENT];
};

/* It keeps the slot; or could not begin, and has ended. */
enum { READY_NOT, READY_HOLDS_SLOT, READY_FAILED };
enum { SILENCE_NONE, SILENCE_WANTED, SILENCE_KEPT };

extern struct agent agent;

/* Is this the agent's thread, and did the change under way meet what is held? */
extern __thread bool in_agent __attribute__((tls_model("initial-exec")));
extern __thread bool met_mirror __attribute__((tls_model("initial-exec")));

/* threads.c: libc's count of the threads that keep the process alive. */
void threads_find(void);
void threads_leave_out(unsigned int nr);
void threads_put_back(unsigned int nr);

/* meet.c: in the agent's thread, READY_* */
void meet_tell(uint32_t how);
void meet_await_go(void);
bool meet_silence_is_wanted(void);
/* Nothing of the agent makes a system call after this. */
void meet_keep_silence(void);
/* In the program's: false if the thread could not begin. */
bool meet_await_thread(void);
void meet_let_go(void);
/* Returns when the agent has made its last system call. */
void meet_ask_silence(void);

/* policy.c: the thread; its argument is not used. */
bool agent_must_stop(void);
void *policy_main(void *arg);

/* window.c */

/*
 * struct window - a piece of the program's memory that is held for a while
 *
 * W1  made_ns != 0  =>  start <= last, page aligned, at most WINDOW_PAGES
 */
struct window {
	uintptr_t start;
	uintptr_t last;
	/* 0: there is none here */
	uint64_t made_ns;
	uint64_t filled_ns;
	/* Pages that were held when it was last looked at. */
	uint64_t pages;
	/* What of it the device is to hold. */
	struct {
		uintptr_t start;
		uintptr_t last;
	} runs[MAX_RUNS];
	unsigned int nr_runs;
	/* Something has been taken away since it was filled. */
	bool torn;
	/* Transfers under way on it. */
	unsigned int busy;
};

extern struct window windows[MAX_WINDOWS];

/* Hold part of the program around @addr: true if a window was made. */
bool window_make(uintptr_t addr, uintptr_t limit);
void window_drop(struct window *window);
/* Bring back what changes have taken away. */
void window_fill(struct window *window);
/* Has any of it been taken away? */
bool window_is_torn(struct window *window);
struct window *window_oldest(void);
uint64_t window_pinned(void);

/* hold.c */

bool hold_open(void);
void hold_close(void);
/* A region with [start, last], if there is one; with a reference. */
struct mmn_cache_region *hold_find(uintptr_t start, uintptr_t last);
/* Likewise, or it is registered within @ns; or NULL. */
struct mmn_cache_region *hold_get(uintptr_t start, uintptr_t last, uint64_t ns);
void hold_put(struct mmn_cache_region *region);
/* Nothing of it is held afterwards but what is in use. */
void hold_forget(uintptr_t start, uintptr_t last);
/*
 * No change of the region is made before hold_end().  NULL: one has been, or too
 * much is under way there.
 */
struct dma_fence *hold_begin(struct mmn_cache_region *region);
void hold_end(struct dma_fence *fence);
int hold_submit(struct mmn_cache_region *region, uintptr_t addr,
		struct mmn_device_transfer *transfer);
/* Which page the device has hold of there, as mmn_range_fault() says it. */
uint64_t hold_word(const struct mmn_cache_region *region, uintptr_t addr);
void hold_count(void);

/* check.c */

struct transfer {
	struct mmn_device_transfer transfer;
	struct window *window;
	struct mmn_cache_region *region;
	/* Signalled when the device is done. */
	struct dma_fence *fence;
	uintptr_t addr;
	char *buffer;
	/* device's thread: 0 free or under way, 1 done */
	uint32_t done;
	bool busy;
};

bool check_open(void);
void check_close(void);
/* Keep the device busy: @count transfers on this window. */
void check_submit(struct window *window, unsigned int count);
/* Look at what is done; true if there was any. */
bool check_reap(void);
/* Until nothing is under way. */
void check_drain(void);
/* What went wrong, once in the slot's text. */
void check_found_stale(uintptr_t addr, const char *what);
/* The next end of a transfer, or @ns have passed. */
void check_sleep(uint64_t ns);
/* With addr and transfer filled in; false: a change was there first. */
bool check_start(struct transfer *transfer, struct mmn_cache_region *region);
bool check_is_done(const struct transfer *transfer);
/* It is done and has been seen. */
void check_end(struct transfer *transfer);
void check_done(struct mmn_device_transfer *transfer);

/* own.c: own_before() and own_after() around everything the agent sets up */
void own_before(void);
void own_after(void);
bool own_overlaps(uintptr_t start, uintptr_t last);

/* play.c */
bool play_owns(const struct mmn_region *region);
bool play_contains(uintptr_t addr);
void play_open(void);
void play_round(void);
void play_close(void);

/* raw.c: what may be used everywhere */
long raw_syscall(long nr, long a, long b, long c, long d, long e, long f);
uint64_t raw_now(void);
uint64_t raw_cpu(void);
uint64_t raw_random(void);
void raw_wait(uint32_t *word, uint32_t seen, uint64_t ns);
void raw_wake(uint32_t *word);

struct line {
	char *text;
	size_t size;
	size_t used;
};

void line_add(struct line *line, const char *text);
void line_number(struct line *line, uint64_t value);
void line_hex(struct line *line, uint64_t value);
void set_text(char *text, size_t size, const char *value);
/* @value and the name of a negative errno. */
void set_error(char *text, size_t size, const char *value, int error);

extern struct mmn_pages *agent_pages;
extern int agent_pagemap;

#endif
