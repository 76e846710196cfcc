/* SPDX-License-Identifier: MIT */
#ifndef MMN_SOURCE_PATCH_H
#define MMN_SOURCE_PATCH_H
/*
 * Rewriting code that may be running.
 *
 * Each patch replaces the first five bytes of one instruction.  With a single
 * thread they are simply written.  With several, in steps, so that every thread
 * finds whole instructions at every moment:
 *
 *	this thread                          a thread at the place
 *
 *	b8 0b | 00 00 00                     runs the old instruction, or
 *	eb fe | 00 00 00    (one store)      loops at `jmp .`
 *	core sync                            ... fetches anew
 *	eb fe | r1 r2 r3                     loops
 *	core sync                            ... fetches anew
 *	e9 r0 | r1 r2 r3    (one store)      runs the new instruction
 *	core sync
 *
 * "core sync" is membarrier(PRIVATE_EXPEDITED_SYNC_CORE): when it returns every
 * thread of the process has executed a serialising instruction.  No signal is
 * involved, so it does not matter what a thread has blocked.  Two bytes are
 * changed by one locked store, which is indivisible within a cache line; a
 * place whose first two bytes lie in two lines is refused while threads run.
 *
 * The idea of a short loop as the parking place is that of Windows' hot patching;
 * Linux itself uses a trap instruction, which would need a signal here.
 */
#include <stdbool.h>
#include <stdint.h>

#include "source/scan.h"

#define MMN_PATCH_BYTES 5u

/* Bytes that a stub takes, at most. */
#define MMN_STUB_SIZE 128u

struct mmn_patch {
	uint8_t *at;
	uint8_t old[MMN_PATCH_BYTES];
	uint8_t new[MMN_PATCH_BYTES];
	/* the segment around it, whole pages */
	uintptr_t text_start;
	uintptr_t text_last;
	/* PROT_WRITE where it is always writable, else 0 */
	int text_prot;
	/* MMN_REFUSE_NONE: written.  Only meaningful after success. */
	uint32_t reason;
};

/*
 * Are there other threads?  When it cannot be found out: yes.
 */
bool mmn_patch_has_threads(void);

/*
 * Writes all of them.  Places that do not hold @old any more are left alone
 * (MMN_REFUSE_WRITE), as are those that cannot be changed under threads
 * (MMN_REFUSE_CACHE_LINE).
 *
 * Context: signals blocked, since a handler could run into a place that is
 * parked; no lock that is held across an intercepted call.
 * Return: 0; -EPERM (text cannot be written), -ENOTSUP (threads, and a kernel
 * that cannot synchronise them): nothing has been written.
 */
int mmn_patch_write(struct mmn_patch *patches, uint32_t nr, bool live,
		    uint32_t *ret_write_mode);

/*
 * Room for @nr stubs within reach of a jump from anywhere in [start, last],
 * writable until mmn_patch_seal().
 * Return: NULL when there is none.
 */
uint8_t *mmn_patch_alloc_stubs(uintptr_t start, uintptr_t last, uint32_t nr);

/* Return: 0 or -EPERM (memory may not be made executable). */
int mmn_patch_seal(uint8_t *stubs, uint32_t nr);

void mmn_patch_free_stubs(uint8_t *stubs, uint32_t nr);

/* Writes the stub number @index of the block @stubs; returns its address. */
uint8_t *mmn_patch_emit(uint8_t *stubs, uint32_t index,
			const struct mmn_found *site);

/* The jump from @at to @stub. */
void mmn_patch_jump(uint8_t bytes[MMN_PATCH_BYTES], const uint8_t *at,
		    const uint8_t *stub);

/* Return: false when the bytes cannot be read any more. */
bool mmn_patch_read(const uint8_t *at, uint8_t bytes[MMN_PATCH_BYTES]);

#endif
