/* SPDX-License-Identifier: MIT */
#ifndef MMN_BASE_PROBE_H
#define MMN_BASE_PROBE_H
/*
 * Trace probes: MMN_PROBE(name, argument...) is one USDT probe mmn:name with up
 * to six integer or pointer arguments.  Nobody attached: one nop.  Built without
 * sys/sdt.h: nothing, but the arguments are still type-checked.
 *
 * The arguments must be cheap and without side effects.  General registers only.
 */
#include "config.h"

/* sparse does not know what sys/sdt.h asks of the compiler */
#if MMN_HAVE_SDT && !defined(__CHECKER__)

#define SDT_USE_VARIADIC 1
#include <sys/sdt.h>

#define MMN_PROBE(...) STAP_PROBEV(mmn, __VA_ARGS__)

#else

static inline void mmn_probe_nothing(int first, ...)
{
	(void)first;
}

#define MMN_PROBE(name, ...)                                 \
	do {                                                 \
		if (0)                                       \
			mmn_probe_nothing(0, ##__VA_ARGS__); \
	} while (0)

#endif

#endif
