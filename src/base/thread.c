/* SPDX-License-Identifier: MIT */
#include "base/thread.h"

#include <signal.h>

void mmn_thread_mask(struct mmn_sigmask *saved)
{
	static const int faults[] = { SIGSEGV, SIGBUS,	SIGFPE,
				      SIGILL,  SIGTRAP, SIGSYS };
	sigset_t others;
	size_t i;

	mmn_signals_block(saved);
	sigfillset(&others);
	for (i = 0; i < sizeof(faults) / sizeof(*faults); i++)
		if (!(saved->bits >> (faults[i] - 1) & 1))
			sigdelset(&others, faults[i]);
	/* Not by the system call: this one leaves out what is libc's own. */
	pthread_sigmask(SIG_SETMASK, &others, NULL);
}

int mmn_thread_create(pthread_t *thread, const pthread_attr_t *attr,
		      void *(*run)(void *arg), void *arg)
{
	struct mmn_sigmask saved;
	int err;

	mmn_thread_mask(&saved);
	err = pthread_create(thread, attr, run, arg);
	mmn_signals_restore(&saved);
	return -err;
}
