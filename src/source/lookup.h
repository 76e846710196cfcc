/* SPDX-License-Identifier: MIT */
#ifndef MMN_SOURCE_LOOKUP_H
#define MMN_SOURCE_LOOKUP_H
/*
 * Ranges that the registers of a call do not tell.
 *
 * Everything is asked of the kernel, by the library's own system calls, never by
 * touching the program's pointers: a bad pointer must come out of the call as
 * the error that the kernel makes of it.  What cannot be found out (no /proc, no
 * free descriptor, a sandbox) counts as a change of the whole address space.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "source/classify.h"

#define MMN_MAX_IOVECS 16u

/* process_madvise() gets this copy, so that nobody can change it meanwhile. */
struct mmn_iovec_copy {
	uint32_t count;
	struct iovec iov[MMN_MAX_IOVECS];
};

/*
 * Replaces the ranges of @change by the true ones; none when the call will
 * change nothing.  False when they cannot be found out: then the range is
 * everything.
 *
 * Context: may sleep; allocates nothing; some 2 KiB of stack.
 */
bool mmn_lookup_spans(struct mmn_change *change, uint64_t nr,
		      const uint64_t args[6], struct mmn_iovec_copy *copy);

/* General registers only.  False when brk() to there does not shrink. */
bool mmn_lookup_break(struct mmn_change *change);

/*
 * Reads the program's memory; general registers only.
 * Return: 0 or a negative errno (-EFAULT where a load would have crashed).
 */
int mmn_lookup_peek(uint64_t addr, void *to, size_t length);

/* One mapping, as the kernel describes it. */
struct mmn_vma {
	uintptr_t start;
	uintptr_t last;
	uint64_t offset;
	uint64_t inode;
	bool is_exec;
};

/*
 * Walks the mappings at and above @addr in ascending order.  @visit returns
 * false to stop.  @only_files leaves out what has no file.
 * Return: 0, or a negative errno when the mappings cannot be read.
 */
int mmn_lookup_walk(uintptr_t addr, bool only_files,
		    bool (*visit)(void *arg, const struct mmn_vma *vma),
		    void *arg);

#endif
