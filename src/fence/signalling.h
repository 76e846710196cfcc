/* SPDX-License-Identifier: MIT */
#ifndef MMN_FENCE_SIGNALLING_H
#define MMN_FENCE_SIGNALLING_H
/*
 * Who may wait where: the inside of dma_fence_begin_signalling().
 *
 * Builds without self-checks keep nothing.
 */
#include <mmn/dma-fence.h>

#include "config.h"

#if MMN_SELFCHECK

/* Spin locks that this thread holds: it must not sleep meanwhile. */
extern __thread uint32_t signalling_nr_spins
	__attribute__((tls_model("initial-exec"), visibility("hidden")));

static inline void signalling_spin_taken(void)
{
	signalling_nr_spins++;
}

static inline void signalling_spin_released(void)
{
	if (signalling_nr_spins)
		signalling_nr_spins--;
}

#define signalling_begin() dma_fence_begin_signalling()
#define signalling_end(cookie) dma_fence_end_signalling(cookie)

#else

static inline void signalling_spin_taken(void)
{
}

static inline void signalling_spin_released(void)
{
}

/* Without the calls that the public ones are. */
#define signalling_begin() true
#define signalling_end(cookie) ((void)(cookie))

#endif

#endif
