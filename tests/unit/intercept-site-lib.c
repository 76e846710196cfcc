/* SPDX-License-Identifier: MIT */
/*
 * An object with system calls of its own, loaded by intercept-live-test.
 */
#include <sys/syscall.h>

__attribute__((visibility("default"))) long site_munmap(void *p,
							unsigned long length);

long site_munmap(void *p, unsigned long length)
{
	long ret;

	__asm__ volatile("mov %1, %%eax\n\tsyscall"
			 : "=&a"(ret)
			 : "i"(SYS_munmap), "D"(p), "S"(length)
			 : "rcx", "r11", "memory");
	return ret;
}
