/* SPDX-License-Identifier: MIT */
#ifndef MMN_BASE_PROCESS_H
#define MMN_BASE_PROCESS_H
/*
 * Which process an object belongs to: the one that made it, or a fork child that
 * got a copy.
 *
 * A copy describes memory that the child does not share and threads that it
 * does not have: it must be inert.  The kernel tells: one page is marked
 * MADV_WIPEONFORK and holds the generation of the process; in a child, however
 * it was made, it reads as 0.  A child that shares the address space (vfork,
 * CLONE_VM) is not a copy and sees the parent's.
 *
 * A child that makes objects of its own, like a daemon that forks before it
 * begins, takes a generation that none of its ancestors had.  An object
 * remembers the generation it was made in and is live while they are equal:
 *
 *	parent           generation 1: objects of 1 live
 *	  fork
 *	child            generation 0: nothing is live
 *	  mmn_process_adopt()
 *	child            generation 2: objects of 2 live, copies of 1 inert
 *
 * Where the kernel does not know MADV_WIPEONFORK (before 4.14), or an emulator
 * only pretends to, pthread_atfork() does the same for children made through
 * libc.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/compiler.h"

/*
 * Constant after the library's first constructor; before it, it points to a
 * word in the data segment that holds the first generation.
 */
extern uint32_t *mmn_process_word __attribute__((visibility("hidden")));

/*
 * The generation of this process, 0 in a fork child that made nothing yet.
 * Context: any, also signal handlers; general registers only.
 */
static inline uint32_t mmn_process_generation(void)
{
	/* relaxed: between forks it changes once, from 0, and guards no data */
	return mmn_load_relaxed(mmn_process_word);
}

/* Is this not a fork child, or one that has made objects of its own? */
static inline bool mmn_process_is_owner(void)
{
	return likely(mmn_process_generation() != 0);
}

/*
 * The generation for an object that is made now; never 0.
 * Context: any, also signal handlers; general registers only.
 */
uint32_t mmn_process_adopt(void);

#endif
