/* SPDX-License-Identifier: MIT */
#ifndef MMN_BASE_TIME_H
#define MMN_BASE_TIME_H
/*
 * Monotonic time in nanoseconds, and the deadlines that mmn_wait_on() takes.
 */
#include <stdint.h>
#include <time.h>

#define MMN_NSEC_PER_SEC UINT64_C(1000000000)

static inline uint64_t mmn_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * MMN_NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

static inline struct timespec mmn_timespec(uint64_t ns)
{
	struct timespec ts = {
		.tv_sec = (time_t)(ns / MMN_NSEC_PER_SEC),
		.tv_nsec = (long)(ns % MMN_NSEC_PER_SEC),
	};

	return ts;
}

/* The moment @timeout_ns from now, the far future when that overflows. */
static inline struct timespec mmn_deadline(uint64_t timeout_ns)
{
	uint64_t now = mmn_now_ns();
	uint64_t limit = (uint64_t)INT64_MAX;

	if (timeout_ns > limit - now)
		return mmn_timespec(limit);
	return mmn_timespec(now + timeout_ns);
}

#endif
