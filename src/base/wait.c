/* SPDX-License-Identifier: MIT */
#include "base/wait.h"

#include <errno.h>
#include <linux/futex.h>

#include "base/lock.h"
#include "base/syscall.h"

int mmn_wait_on(uint32_t *word, uint32_t seen, const struct timespec *deadline)
{
	long ret;

	mmn_might_sleep();
	/* The bitset form is the one that takes an absolute monotonic time. */
	ret = mmn_syscall6(__NR_futex, word, FUTEX_WAIT_BITSET_PRIVATE, seen,
			   deadline, 0, FUTEX_BITSET_MATCH_ANY);
	return ret == -ETIMEDOUT ? -ETIMEDOUT : 0;
}

int mmn_wake(uint32_t *word, int nr)
{
	long ret = mmn_syscall3(__NR_futex, word, FUTEX_WAKE_PRIVATE, nr);

	return ret < 0 ? 0 : (int)ret;
}
