/* SPDX-License-Identifier: MIT */
#include "base/process.h"

#include <pthread.h>
#include <sys/mman.h>

#include "base/syscall.h"

#define PAGE_BYTES 65536 /* the largest page of any supported machine */

#define FIRST_GENERATION 1u

static uint32_t boot_word = FIRST_GENERATION;
uint32_t *mmn_process_word = &boot_word;

/* atomic: the highest generation of this process and its ancestors */
static uint32_t last_generation = FIRST_GENERATION;

uint32_t mmn_process_adopt(void)
{
	uint32_t generation = mmn_process_generation();
	uint32_t fresh;

	if (likely(generation))
		return generation;
	/*
	 * relaxed: the number is all there is.  It is taken before it is in
	 * use, so a fork in between cannot give it away a second time.
	 */
	fresh = mmn_fetch_add_relaxed(&last_generation, 1) + 1;
	if (mmn_cmpxchg_relaxed(mmn_process_word, &generation, fresh))
		return fresh;
	return generation;
}

/* In the child, on kernels without MADV_WIPEONFORK. */
static void disown_child(void)
{
	/* relaxed: the child has one thread */
	mmn_store_relaxed(mmn_process_word, 0);
}

/* First of all constructors that may ask for a priority (101). */
__attribute__((constructor(101))) static void mark_owner(void)
{
	uint32_t *word;
	long page;

	page = mmn_syscall6(__NR_mmap, 0, PAGE_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mmn_syscall_failed(page))
		goto fallback;
	if (mmn_syscall3(__NR_madvise, page, PAGE_BYTES, MADV_WIPEONFORK)) {
		mmn_syscall2(__NR_munmap, page, PAGE_BYTES);
		goto fallback;
	}
	word = (uint32_t *)page;
	*word = FIRST_GENERATION;
	mmn_process_word = word;
	return;

fallback:
	pthread_atfork(NULL, NULL, disown_child);
}
