/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_ANSWER_SYSCALL_H
#define TESTS_UNIT_ANSWER_SYSCALL_H
/*
 * A kernel that says no: from here on it answers one system call of this thread,
 * and of the threads that it makes, without carrying it out.  Where several
 * answers fit, the last one is given.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "t/tap.h"

static inline void add_filter(const struct sock_fprog *program,
			      unsigned int flags)
{
	t_need_kernel("no filter of system calls");
	t_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	t_eq(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, program), 0);
}

/* Answer system call @nr with @error.  Error 0 is "done", though nothing was. */
static inline void answer_syscall(long nr, int error)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { 4, filter };

	add_filter(&program, 0);
}

static inline void *refuse_threads(void *run)
{
	answer_syscall(SYS_clone3, EAGAIN);
	answer_syscall(SYS_clone, EAGAIN);
	((void (*)(void))run)();
	return NULL;
}

/* In a thread of its own: LeakSanitizer makes one at the end of the main thread. */
static inline void run_without_threads(void (*run)(void))
{
	pthread_t thread;

	t_may_keep_mapped(64 << 20, "libc keeps the stack of a thread");
	t_err(pthread_create(&thread, NULL, refuse_threads, (void *)run), 0);
	t_err(pthread_join(thread, NULL), 0);
}

/*
 * The same where the lower half of argument @index is @value, and for all
 * threads, those that run included.
 */
static inline void answer_syscall_if(long nr, unsigned int index,
				     uint32_t value, int error)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 (uint32_t)offsetof(struct seccomp_data, args) +
				 8 * index),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { 6, filter };

	add_filter(&program, SECCOMP_FILTER_FLAG_TSYNC);
}

#endif
