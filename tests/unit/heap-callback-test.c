/* SPDX-License-Identifier: MIT */
/* A debug build catches each call into the heap that a callback makes. */
#include "t/tap.h"

#include <malloc.h>
#include <mmn/memory.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "base/context.h"
#include "config.h"

/* As src/base/meson.build decides. */
#define HEAP_IS_CHECKED (MMN_SELFCHECK && !MMN_ASAN && !MMN_TSAN)

static struct mmn_callback_frame frame;
static int sub;

static void need_heap_check(void)
{
	t_need_kernel("may have a malloc() of its own");
	if (!HEAP_IS_CHECKED)
		t_skip("the heap is checked in debug builds without sanitizers");
}

static void enter(void)
{
	mmn_context_enter_callback(&frame, &sub, true);
}

static void leave(void)
{
	mmn_context_leave_callback(&frame);
}

/* Keeps the compiler from leaving a pair of calls out. */
static void *volatile block;

TEST(malloc_in_a_callback_is_reported_and_works)
{
	need_heap_check();
	t_bug_expected("malloc() in a callback");
	enter();
	block = malloc(100);
	leave();
	t_ok(block);
	memset(block, 1, 100);
	free(block);
}

TEST(calloc_in_a_callback_is_reported_and_works)
{
	static const char zeroes[100];

	need_heap_check();
	t_bug_expected("calloc() in a callback");
	enter();
	block = calloc(10, 10);
	leave();
	t_memeq(block, zeroes, 100);
	free(block);
}

TEST(realloc_in_a_callback_is_reported_and_works)
{
	need_heap_check();
	t_bug_expected("realloc() in a callback");
	block = malloc(4);
	memcpy(block, "abc", 4);
	enter();
	block = realloc(block, 100000);
	leave();
	t_streq((const char *)block, "abc");
	free(block);
}

TEST(free_in_a_callback_is_reported)
{
	need_heap_check();
	t_bug_expected("free() in a callback");
	block = malloc(100);
	enter();
	free(block);
	leave();
	t_eq(t_bugs_seen(), 1);
}

TEST(aligned_allocation_in_a_callback_is_reported_and_aligned)
{
	void *aligned = NULL;

	need_heap_check();
	t_bug_expected("posix_memalign() in a callback");
	t_bug_expected("aligned_alloc() in a callback");
	t_bug_expected("memalign() in a callback");
	enter();
	t_err(posix_memalign(&aligned, 4096, 100), 0);
	leave();
	t_eq((uintptr_t)aligned % 4096, 0);
	free(aligned);
	enter();
	block = aligned_alloc(512, 1024);
	leave();
	t_eq((uintptr_t)block % 512, 0);
	free(block);
	enter();
	block = memalign(256, 1000);
	leave();
	t_eq((uintptr_t)block % 256, 0);
	free(block);
}

TEST(allocation_inside_libc_is_reported)
{
	need_heap_check();
	t_bug_expected("malloc() in a callback");
	enter();
	block = strdup("libc calls malloc()");
	leave();
	free(block);
}

TEST(free_of_nothing_is_harmless)
{
	enter();
	free(NULL);
	leave();
	t_eq(t_bugs_seen(), 0);
}

TEST(bad_alignment_is_refused_as_libc_does)
{
	void *aligned = NULL;
	size_t not_a_power = 24;

	need_heap_check();
	t_eq(posix_memalign(&aligned, not_a_power, 100), EINVAL);
	t_ok(!aligned);
}

TEST(heap_outside_of_callbacks_is_silent)
{
	enter();
	leave();
	block = malloc(100);
	t_ok(block);
	free(block);
	t_eq(t_bugs_seen(), 0);
}

TEST(callback_memory_in_a_callback_is_silent)
{
	enter();
	block = mmn_callback_alloc(100);
	t_ok(block);
	mmn_callback_free(block);
	leave();
	t_eq(t_bugs_seen(), 0);
}
