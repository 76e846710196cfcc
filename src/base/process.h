/* SPDX-License-Identifier: MIT */
#ifndef MMN_BASE_PROCESS_H
#define MMN_BASE_PROCESS_H
/*
 * Is this the process that loaded the library, or a fork child of it?
 *
 * A child's copy of every object is inert: it describes memory that the child
 * does not share, and threads that it does not have.  The kernel tells: one page
 * is marked MADV_WIPEONFORK, holds a magic word, and reads as zero in a
 * child, however it was made.  A child that shares the address space (vfork,
 * CLONE_VM) is not a copy and sees the word.
 *
 * Where the kernel does not know MADV_WIPEONFORK (before 4.14), pthread_atfork()
 * does the same for children made through libc.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/compiler.h"

#define MMN_PROCESS_MAGIC UINT32_C(0x6d6d6e31)

/*
 * Constant after the library's first constructor; before it, it points to a
 * word in the data segment that holds the magic.
 */
extern uint32_t *mmn_process_word __attribute__((visibility("hidden")));

/* Context: any, also signal handlers; general registers only. */
static inline bool mmn_process_is_owner(void)
{
	/* relaxed: written while the process has one thread, by fork */
	return likely(mmn_load_relaxed(mmn_process_word) == MMN_PROCESS_MAGIC);
}

#endif
