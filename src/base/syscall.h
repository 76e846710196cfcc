/* SPDX-License-Identifier: MIT */
#ifndef MMN_BASE_SYSCALL_H
#define MMN_BASE_SYSCALL_H
/*
 * System calls without libc.
 *
 * The library must not call itself: once it is installed as an event source,
 * libc's memory calls lead into it.  A system call made here has its own
 * instruction, which no source ever rewrites (it is marked, see below), touches
 * neither errno nor the cancellation state of the thread, and uses general
 * registers only.
 */
#include <sys/syscall.h>

#if defined(MMN_LADDER)

/* The explorer's: it knows the few calls that code under test makes. */
long mmn_syscall(long nr, long a0, long a1, long a2, long a3, long a4, long a5)
	__attribute__((visibility("hidden")));

#elif defined(__x86_64__)

/*
 * The no-op behind the instruction has a number in it that the intercept source
 * knows (source/scan.h): in a static program these calls stand among others.
 */
static inline long mmn_syscall(long nr, long a0, long a1, long a2, long a3,
			       long a4, long a5)
{
	register long r10 __asm__("r10") = a3;
	register long r8 __asm__("r8") = a4;
	register long r9 __asm__("r9") = a5;
	long ret;

	__asm__ __volatile__("syscall\n\tnopl 0x6d6d6e(%%rax)"
			     : "=a"(ret)
			     : "a"(nr), "D"(a0), "S"(a1), "d"(a2), "r"(r10),
			       "r"(r8), "r"(r9)
			     : "rcx", "r11", "memory");
	return ret;
}

#elif defined(__aarch64__)

static inline long mmn_syscall(long nr, long a0, long a1, long a2, long a3,
			       long a4, long a5)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a0;
	register long x1 __asm__("x1") = a1;
	register long x2 __asm__("x2") = a2;
	register long x3 __asm__("x3") = a3;
	register long x4 __asm__("x4") = a4;
	register long x5 __asm__("x5") = a5;

	__asm__ __volatile__("svc #0"
			     : "+r"(x0)
			     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4),
			       "r"(x5)
			     : "memory");
	return x0;
}

#else
#error "libmmn: no system call sequence for this architecture"
#endif

/* The same with fewer arguments; each returns the result or -errno. */
#define mmn_syscall0(nr) mmn_syscall((nr), 0, 0, 0, 0, 0, 0)
#define mmn_syscall1(nr, a0) mmn_syscall((nr), (long)(a0), 0, 0, 0, 0, 0)
#define mmn_syscall2(nr, a0, a1) \
	mmn_syscall((nr), (long)(a0), (long)(a1), 0, 0, 0, 0)
#define mmn_syscall3(nr, a0, a1, a2) \
	mmn_syscall((nr), (long)(a0), (long)(a1), (long)(a2), 0, 0, 0)
#define mmn_syscall4(nr, a0, a1, a2, a3) \
	mmn_syscall((nr), (long)(a0), (long)(a1), (long)(a2), (long)(a3), 0, 0)
#define mmn_syscall6(nr, a0, a1, a2, a3, a4, a5)                          \
	mmn_syscall((nr), (long)(a0), (long)(a1), (long)(a2), (long)(a3), \
		    (long)(a4), (long)(a5))

/* Did a system call that returns an address fail? */
static inline int mmn_syscall_failed(long ret)
{
	return (unsigned long)ret > -4096UL;
}

#endif
