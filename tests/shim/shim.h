/* SPDX-License-Identifier: MIT */
#ifndef SHIM_SHIM_H
#define SHIM_SHIM_H
/*
 * Drivers in the manner of two generations of the kernel.  Each function returns
 * NULL, or what was not as it should be.
 */
const char *v612_jobs(void);
const char *v612_buffers(void);
const char *v612_containers(void);
const char *v612_two_buffers(void);
const char *v612_names(void);

const char *v2026_jobs(void);
const char *v2026_detached(void);
const char *v2026_containers(void);

#define EXPECT(condition)                  \
	do {                               \
		if (!(condition))          \
			return #condition; \
	} while (0)

#endif
