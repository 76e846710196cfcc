/* SPDX-License-Identifier: MIT */
#ifndef MMN_SOURCE_SELF_CHECK_H
#define MMN_SOURCE_SELF_CHECK_H
/*
 * Does every kind of change arrive?  Tried on scratch memory, through libc, in a
 * program about which nothing is known: what cannot be tried without a trace
 * stays untested.
 */
#include <stdint.h>

struct mmn_state;

/* Fills in MMN_NR_CHECKS results.  The source is on, for @state. */
void mmn_self_check(struct mmn_state *state, uint8_t *results);

#endif
