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

/* atomic: the generation of the last one who called fork() */
static uint32_t forking_generation;

static void remember_parent(void)
{
	/* relaxed, both: who forks at the same time is of the same generation */
	mmn_store_relaxed(&forking_generation, mmn_process_generation());
}

/*
 * In the child, for kernels without MADV_WIPEONFORK and for emulators that
 * accept the advice and do not follow it.  Where the page was wiped, another
 * handler may have adopted a generation already.
 */
static void disown_child(void)
{
	/* relaxed, both: the child has one thread */
	if (mmn_process_generation() == mmn_load_relaxed(&forking_generation))
		mmn_store_relaxed(mmn_process_word, 0);
}

/* First of all constructors that may ask for a priority (101). */
__attribute__((constructor(101))) static void mark_owner(void)
{
	uint32_t *word;
	long page;

	pthread_atfork(remember_parent, NULL, disown_child);
	page = mmn_syscall6(__NR_mmap, 0, PAGE_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mmn_syscall_failed(page))
		return;
	if (mmn_syscall3(__NR_madvise, page, PAGE_BYTES, MADV_WIPEONFORK)) {
		mmn_syscall2(__NR_munmap, page, PAGE_BYTES);
		return;
	}
	word = (uint32_t *)page;
	*word = FIRST_GENERATION;
	mmn_process_word = word;
}
