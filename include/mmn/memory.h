/* SPDX-License-Identifier: MIT */
#ifndef MMN_MEMORY_H
#define MMN_MEMORY_H
/*
 * Memory for callbacks.
 *
 * A callback runs in the middle of whatever the changing thread was doing,
 * perhaps inside free() with the allocator's lock held, so it must not use the
 * heap.  This is the memory it may use: an arena of its own, taken from the
 * kernel directly.  No call here takes a lock, so none waits for another thread
 * and each may interrupt any other in the same thread.
 *
 * A block costs its size plus 16 bytes, rounded up to a power of two, at least
 * 32 bytes; above 32 KiB it is its own mapping.  Memory of freed blocks is used
 * again for blocks of the same cost; mappings are given back.
 */
#include <mmn/common.h>

MMN_BEGIN_DECLS

/**
 * mmn_callback_alloc - memory that callbacks may allocate
 * @size: bytes; 0 counts as 1
 *
 * Context: any, also callbacks and signal handlers; never waits; errno is not
 * touched.
 * Return: memory aligned to 16 bytes with undefined contents, or NULL when the
 * kernel has none (-ENOMEM would be the code).
 */
MMN_PUBLIC
void *mmn_callback_alloc(size_t size) MMN_MUST_CHECK;

/**
 * mmn_callback_free - give a block back
 * @block: from mmn_callback_alloc(), or NULL
 *
 * A second free of the same block, as long as nobody got it again, has no effect
 * and is reported in debug builds.
 *
 * Context: any, also callbacks and signal handlers; never waits.
 */
MMN_PUBLIC
void mmn_callback_free(void *block);

/**
 * mmn_callback_reserve - fetch memory from the kernel in advance
 * @bytes: the sum of what the blocks will cost; each at most 32 KiB
 *
 * On return that much memory that no block has used yet is mapped and populated,
 * so that allocating it does not fail and does not enter the kernel.  Others may
 * allocate it first: it is not set aside for the caller.
 *
 * Context: any; enters the kernel.
 * Return: 0; -ENOMEM (no memory, or more than the arena can hold: 4 GiB).
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_callback_reserve(size_t bytes);

/**
 * mmn_callback_footprint - bytes the arena has mapped
 *
 * Context: any.
 * Return: bytes of address space, used or not.
 */
MMN_PUBLIC
size_t mmn_callback_footprint(void);

/**
 * mmn_callback_in_use - bytes that are allocated and not freed
 *
 * By cost, not by size: see the head of this file.
 *
 * Context: any.
 * Return: bytes; the library's own use is included.
 */
MMN_PUBLIC
size_t mmn_callback_in_use(void);

MMN_END_DECLS

#endif
