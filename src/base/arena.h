/* SPDX-License-Identifier: MIT */
#ifndef MMN_BASE_ARENA_H
#define MMN_BASE_ARENA_H
/*
 * The library's own memory for everything that lives while callbacks may run;
 * see <mmn/memory.h> for the calls.
 */
#include <mmn/memory.h>

/* The same, with contents of zero. */
void *mmn_callback_zalloc(size_t size);

#endif
