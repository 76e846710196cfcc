/* SPDX-License-Identifier: MIT */
/*
 * The agent's threads do not keep the program alive.
 *
 * A process ends when the last of its threads does, and libc knows the last one
 * by a count.  It is the program's last thread that must find itself to be the
 * last: it calls exit() then, which writes out what stdio still holds through
 * the program's own descriptors.  So ours are taken out of the count.  Before
 * one of them ends it is put back, because libc will subtract it.
 *
 * The count is what debuggers look at to know the threads of a process.  Where
 * libc has none, a program whose main() ends by pthread_exit() goes on until it
 * is ended by something else.
 */
#include <dlfcn.h>

#include "agent.h"
#include "base/atomic.h"

static unsigned int *counted;

void threads_find(void)
{
	counted = dlsym(RTLD_DEFAULT, "__nptl_nthreads");
}

void threads_leave_out(unsigned int nr)
{
	/* relaxed: a count, which libc changes by exchanges too */
	if (counted)
		mmn_fetch_add_relaxed(counted, -nr);
}

void threads_put_back(unsigned int nr)
{
	/* relaxed: as above */
	if (counted)
		mmn_fetch_add_relaxed(counted, nr);
}
