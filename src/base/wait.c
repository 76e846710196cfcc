/* SPDX-License-Identifier: MIT */
#include "base/wait.h"

#include <errno.h>
#include <linux/futex.h>

#include "base/lock.h"
#include "base/syscall.h"
#include "base/time.h"

static long futex_wait(uint32_t *word, uint32_t seen,
		       const struct timespec *deadline)
{
	/* The bitset form is the one that takes an absolute monotonic time. */
	return mmn_syscall6(__NR_futex, word, FUTEX_WAIT_BITSET_PRIVATE, seen,
			    deadline, 0, FUTEX_BITSET_MATCH_ANY);
}

int mmn_wait_on(uint32_t *word, uint32_t seen, const struct timespec *deadline)
{
	long ret;

	mmn_might_sleep();
	ret = futex_wait(word, seen, deadline);
	return ret == -ETIMEDOUT ? -ETIMEDOUT : 0;
}

#ifndef __NR_futex_waitv
#define __NR_futex_waitv 449
#endif

/* As the kernel defines them; its headers may be older than it is. */
struct wait_entry {
	uint64_t seen;
	uint64_t address;
	uint32_t flags;
	uint32_t reserved;
};
enum { WAIT_ENTRY_32_BITS = 2 };

static struct wait_entry wait_entry(uint32_t *word, uint32_t seen)
{
	return (struct wait_entry){
		.seen = seen,
		.address = (uintptr_t)word,
		.flags = WAIT_ENTRY_32_BITS | FUTEX_PRIVATE_FLAG,
	};
}

void mmn_wait_on_two(uint32_t *a, uint32_t seen_a, uint32_t *b, uint32_t seen_b)
{
	struct wait_entry both[] = { wait_entry(a, seen_a),
				     wait_entry(b, seen_b) };
	struct timespec soon;
	long ret;

	mmn_might_sleep();
	ret = mmn_syscall6(__NR_futex_waitv, both, 2, 0, NULL, 0, 0);
	if (ret >= 0 || ret == -EAGAIN || ret == -EINTR)
		return;
	/* Not there: -ENOSYS; or forbidden, in a sandbox that is older. */
	soon = mmn_deadline(10 * 1000 * 1000);
	mmn_wait_on(a, seen_a, &soon);
}

void mmn_wait_briefly(uint32_t *word, uint32_t seen)
{
	futex_wait(word, seen, NULL);
}

/* Who has a processor is done by then. */
#define YIELDS 32
#define PAUSE_NS 50000

void mmn_give_way(uint32_t turn)
{
	const struct timespec pause = { .tv_nsec = PAUSE_NS };

	if (turn < YIELDS)
		mmn_syscall0(__NR_sched_yield);
	else
		mmn_syscall2(__NR_nanosleep, &pause, NULL);
}

int mmn_wake(uint32_t *word, int nr)
{
	long ret = mmn_syscall3(__NR_futex, word, FUTEX_WAKE_PRIVATE, nr);

	return ret < 0 ? 0 : (int)ret;
}
