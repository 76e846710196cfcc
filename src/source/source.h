/* SPDX-License-Identifier: MIT */
#ifndef MMN_SOURCE_SOURCE_H
#define MMN_SOURCE_SOURCE_H
/*
 * What the parts of the intercept source share.
 *
 * One direction: intercept.c (install, remove, report) uses scan.c (find the
 * places), patch.c (rewrite them) and dispatch.c (turn the source on and off);
 * dispatch.c (one call) uses classify.c and lookup.c (which bytes) and calls back
 * into intercept.c for one thing only, code that a call has just mapped.
 */
#include <mmn/source.h>
#include <stdbool.h>
#include <stdint.h>

#include "source/entry.h"

/*
 * struct mmn_source - where intercepted calls go
 *
 * Written before it is published with mmn_dispatch_on(), constant from then to
 * the end of mmn_dispatch_off(); when that timed out, as long as calls are under
 * way, but for older.
 */
struct mmn_source {
	struct mmn_state *state;
	void (*observe)(void *arg, const struct mmn_call_event *event);
	void *observe_arg;
	/* 1 << MMN_CALL_* */
	uint32_t observe_calls;
	/* Look into files that are mapped executable. */
	bool follow;
	/* Who runs the program; children that share our memory differ. */
	int32_t pid;
	/* mmn_process_adopt(); the source is inert where it differs. */
	uint32_t generation;
	/* install_lock of intercept.c: another one that is off */
	struct mmn_source *older;
};

/* ---- dispatch.c ---- */

/* From now on calls go to @source. */
void mmn_dispatch_on(const struct mmn_source *source);

/*
 * From now on calls pass.  Waits until those under way are over, @timeout_ns at
 * most.
 * Return: 0 or -ETIMEDOUT.
 */
int mmn_dispatch_off(uint64_t timeout_ns);

/* Is the calling thread inside an intercepted call or an observer? */
bool mmn_dispatch_is_inside(void);

void mmn_dispatch_get_stats(struct mmn_intercept_stats *stats);

/* ---- intercept.c ---- */

/*
 * The calling thread, in the middle of a call, has mapped part of a file as
 * code that nobody runs yet.
 */
void mmn_intercept_follow(uintptr_t start, uintptr_t last, int fd,
			  uint64_t offset);

#endif
