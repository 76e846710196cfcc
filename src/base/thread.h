/* SPDX-License-Identifier: MIT */
#ifndef MMN_BASE_THREAD_H
#define MMN_BASE_THREAD_H
/*
 * Threads of the library itself, in a program that does not know of them.
 */
#include <pthread.h>

#include "base/lock.h"

/*
 * mmn_thread_mask - the signal mask that a thread of the library begins with
 * @saved: for mmn_signals_restore()
 *
 * A thread has that of its creator.  No handler of the program runs in it, but for
 * what an op of the program itself brings about there: a fault that comes while
 * its signal is blocked is the end of the process, whatever the program would have
 * done about it.  (Where the creator has one of these blocked it stays so: another
 * process may have sent it, and its handler does not belong here.)  Nor are libc's
 * own two signals blocked, as they are in a creator that has blocked all by the
 * system call: setuid() in the program would wait for ever for a thread that blocks
 * them, and not every libc opens them in new ones.
 */
void mmn_thread_mask(struct mmn_sigmask *saved);

/* pthread_create() with that mask; 0 or a negative errno. */
int mmn_thread_create(pthread_t *thread, const pthread_attr_t *attr,
		      void *(*run)(void *arg), void *arg);

#endif
