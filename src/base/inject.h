/* SPDX-License-Identifier: MIT */
#ifndef MMN_BASE_INJECT_H
#define MMN_BASE_INJECT_H
/*
 * The inside of <mmn/inject.h>.
 *
 *	if (MMN_INJECT(MMN_INJECT_ALLOC))
 *		return NULL;
 *
 * General registers only, any context.
 */
#include <mmn/inject.h>

#include "base/atomic.h"
#include "base/compiler.h"

/* One bit per armed point. */
extern uint64_t mmn_inject_armed __attribute__((visibility("hidden")));

bool mmn_inject_fire(uint32_t point) __attribute__((cold));

/* relaxed: a pass that misses the arming is one pass earlier */
#define MMN_INJECT(point)                                              \
	(unlikely(mmn_load_relaxed(&mmn_inject_armed) >> (point)&1) && \
	 mmn_inject_fire(point))

void mmn_inject_pause(void) __attribute__((cold));

/* Widen a race window: gives the processor away or sleeps some microseconds. */
#define MMN_INJECT_PAUSE()                        \
	do {                                      \
		if (MMN_INJECT(MMN_INJECT_DELAY)) \
			mmn_inject_pause();       \
	} while (0)

#endif
