/* SPDX-License-Identifier: MIT */
#ifndef MMN_SPINLOCK_H
#define MMN_SPINLOCK_H
/*
 * The short lock that fences of one timeline share: what spinlock_t is to the
 * kernel.
 *
 * It takes turns spinning and sleeping, because in user space the holder may
 * have lost its processor.  One word; nobody waiting means no system call.
 */
#include <mmn/common.h>

MMN_BEGIN_DECLS

/**
 * struct spinlock - a lock of one word
 * @word: private
 *
 * The tag is the kernel's, so that a shim needs one typedef.  All zero is
 * unlocked.  It may be freed as soon as nobody can take it any more.
 */
struct spinlock {
	uint32_t word;
};

/* clang-format off */
#define MMN_SPINLOCK_INIT { 0 }
/* clang-format on */

/**
 * mmn_spin_init - make it unlocked
 * @lock: not in use
 *
 * Context: any.
 */
MMN_PUBLIC
void mmn_spin_init(struct spinlock *lock);

/**
 * mmn_spin_lock - take it
 * @lock: not held by the caller
 *
 * Context: any but signal handlers; sleeps as long as the holder does.
 * Ordering: what the last holder wrote is visible.
 */
MMN_PUBLIC
void mmn_spin_lock(struct spinlock *lock);

/**
 * mmn_spin_trylock - take it if that needs no waiting
 * @lock: may be held by anybody
 *
 * Context: any.
 * Return: true when the caller has it now.
 */
MMN_PUBLIC
MMN_MUST_CHECK bool mmn_spin_trylock(struct spinlock *lock);

/**
 * mmn_spin_unlock - give it back
 * @lock: held by the caller
 *
 * Context: any.
 * Ordering: what the caller wrote is visible to the next holder.
 */
MMN_PUBLIC
void mmn_spin_unlock(struct spinlock *lock);

MMN_END_DECLS

#endif
