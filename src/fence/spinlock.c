/* SPDX-License-Identifier: MIT */
#include <mmn/spinlock.h>

#include <limits.h>
#include <linux/futex.h>

#include "base/atomic.h"
#include "base/bug.h"
#include "base/compiler.h"
#include "base/syscall.h"
#include "fence/signalling.h"

/*
 * Three states, so that an unlock knows whether to wake: Ulrich Drepper, "Futexes
 * Are Tricky", mutex 2.
 */
enum { FREE, HELD, AWAITED };

/* Longer than a callback list takes, shorter than a switch of threads. */
#ifndef NR_SPINS
#define NR_SPINS 100
#endif

void mmn_spin_init(struct spinlock *lock)
{
	lock->word = FREE;
}

bool mmn_spin_trylock(struct spinlock *lock)
{
	uint32_t found = FREE;

	/*
	 * pair(spinlock): acquire, with the release in mmn_spin_unlock().
	 * Without it the holder reads what the last one had not written yet.
	 */
	if (!mmn_cmpxchg_acquire(&lock->word, &found, HELD))
		return false;
	signalling_spin_taken();
	return true;
}

static bool spin_for_it(struct spinlock *lock)
{
	int i;

	for (i = 0; i < NR_SPINS; i++) {
		/* relaxed: a hint, the exchange decides */
		if (mmn_load_relaxed(&lock->word) == FREE &&
		    mmn_spin_trylock(lock))
			return true;
		mmn_cpu_relax();
	}
	return false;
}

static void sleep_for_it(struct spinlock *lock)
{
	/*
	 * pair(spinlock): acquire, with the release in mmn_spin_unlock().
	 * Without it the holder reads what the last one had not written yet.
	 */
	while (mmn_xchg_acquire(&lock->word, AWAITED) != FREE)
		mmn_syscall4(__NR_futex, &lock->word, FUTEX_WAIT_PRIVATE,
			     AWAITED, NULL);
	signalling_spin_taken();
}

void mmn_spin_lock(struct spinlock *lock)
{
	if (likely(mmn_spin_trylock(lock)) || spin_for_it(lock))
		return;
	sleep_for_it(lock);
}

void mmn_spin_unlock(struct spinlock *lock)
{
	uint32_t was;

	signalling_spin_released();
	/*
	 * pair(spinlock): release, with the acquire in mmn_spin_trylock() and
	 * sleep_for_it().  Without it the next holder may not see what this one
	 * wrote.
	 */
	was = mmn_xchg_release(&lock->word, FREE);
	mmn_bug_on(was == FREE, "a spin lock is released that is not held");
	if (unlikely(was == AWAITED))
		mmn_syscall3(__NR_futex, &lock->word, FUTEX_WAKE_PRIVATE, 1);
}
