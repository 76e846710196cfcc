/* SPDX-License-Identifier: MIT */
/*
 * The few tools of the agent: no heap, no stdio, no errno, no library call that
 * the program could have replaced.
 */
#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "agent.h"

#if !defined(__x86_64__) && !defined(__aarch64__)
#error "raw system calls of this machine"
#endif

long raw_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
#ifdef __x86_64__
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8),
			   "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
#else
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
#endif
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now = { 0, 0 };

	raw_syscall(__NR_clock_gettime, clock, (long)&now, 0, 0, 0, 0);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t raw_now(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

uint64_t raw_cpu(void)
{
	return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* xorshift64*, S. Vigna; used by one thread. */
uint64_t raw_random(void)
{
	static uint64_t x;

	if (!x)
		x = raw_now() | 1;
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	return x * UINT64_C(0x2545f4914f6cdd1d);
}

void raw_wait(uint32_t *word, uint32_t seen, uint64_t ns)
{
	struct timespec limit = { (time_t)(ns / 1000000000),
				  (long)(ns % 1000000000) };

	raw_syscall(__NR_futex, (long)word, FUTEX_WAIT_PRIVATE, seen,
		    (long)&limit, 0, 0);
}

void raw_wake(uint32_t *word)
{
	raw_syscall(__NR_futex, (long)word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}

void line_add(struct line *line, const char *text)
{
	for (; *text && line->used + 1 < line->size; text++)
		line->text[line->used++] = *text;
	line->text[line->used] = '\0';
}

static void line_digits(struct line *line, uint64_t value, unsigned int base)
{
	char digits[24];
	unsigned int i = sizeof(digits) - 1;

	digits[i] = '\0';
	do {
		digits[--i] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	line_add(line, digits + i);
}

void line_number(struct line *line, uint64_t value)
{
	line_digits(line, value, 10);
}

void line_hex(struct line *line, uint64_t value)
{
	line_add(line, "0x");
	line_digits(line, value, 16);
}

void set_text(char *text, size_t size, const char *value)
{
	struct line line = { text, size, 0 };

	line_add(&line, value);
}

void set_error(char *text, size_t size, const char *value, int error)
{
	struct line line = { text, size, 0 };
	const char *name = strerrordesc_np(-error);

	line_add(&line, value);
	line_add(&line, ": ");
	line_add(&line, name ? name : "unknown error");
}
