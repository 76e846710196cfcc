/* SPDX-License-Identifier: MIT */
/*
 * The heap's next owner is looked for, by two threads at once:
 * base/heap-check.c itself, under other names.
 */
#include <dlfcn.h>
#include <malloc.h>
#include <stdlib.h>

#include "base/context.h"
#include "ladder/gallery/gallery.h"
#include "ladder/gallery/help.h"
#include "ladder/scenario.h"

/* A member that was not looked for yet: instead of NULL. */
static void *nothing(size_t size)
{
	ladder_fail(LADDER_ASSERTION, "what is called is not known yet");
}

static void *of_somebody(size_t size)
{
	return NULL;
}

static void *look_up(void *handle, const char *symbol)
{
	return (void *)of_somebody;
}

/* A book of the self-checks, which are not explored: nobody signals. */
static const struct {
	bool signalling;
} own_context;

#undef malloc
#undef calloc
#undef aligned_alloc
#undef free
#define malloc heap_malloc
#define calloc heap_calloc
#define realloc heap_realloc
#define memalign heap_memalign
#define aligned_alloc heap_aligned_alloc
#define posix_memalign heap_posix_memalign
#define free heap_free
#define mmn_context own_context
#define dlsym look_up
#define __libc_malloc of_libc_malloc
#define __libc_calloc of_libc_calloc
#define __libc_realloc of_libc_realloc
#define __libc_memalign of_libc_memalign
#define __libc_free of_libc_free

void *heap_malloc(size_t size);
void *heap_calloc(size_t nr, size_t size);
void *heap_realloc(void *block, size_t size);
void *heap_memalign(size_t align, size_t size);
void *heap_aligned_alloc(size_t align, size_t size);
int heap_posix_memalign(void **ret_block, size_t align, size_t size);
void heap_free(void *block);

/* NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "base/heap-check.c"

/* For what a look-up may allocate: here it allocates nothing. */
void *__libc_malloc(size_t size)
{
	return nothing(size);
}

void *__libc_calloc(size_t nr, size_t size)
{
	return nothing(nr * size);
}

void *__libc_realloc(void *block, size_t size)
{
	return nothing(size);
}

void *__libc_memalign(size_t align, size_t size)
{
	return nothing(size);
}

void __libc_free(void *block)
{
	nothing(0);
}

static void set_up(void)
{
	next.malloc = nothing;
	next.free = NULL;
	ladder_name(&next.malloc, "next.malloc");
	ladder_name(&next.free, "next.free");
}

static void allocate(void)
{
	ladder_assert(!heap_malloc(1));
}

const struct ladder_scenario heap_first = {
	.name = "heap-first",
	.what = "two threads make their first calls of malloc(), where calls "
		"are checked",
	.explanation = "Who finds that somebody has looked finds what he has "
		       "found.",
	.setup = set_up,
	.each = number_thread,
	.threads = { allocate, allocate },
	.titles = { "malloc", "malloc" },
};
