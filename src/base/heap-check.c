/* SPDX-License-Identifier: MIT */
/*
 * Catches callbacks that use the heap.
 *
 * A callback may run inside free() of the changing thread, with the allocator's
 * lock held: a malloc() there deadlocks, but only on the day when the allocator
 * happened to hold that lock.  Builds with self-checks therefore export malloc
 * and its relatives themselves, report each call that is made inside a callback,
 * and pass everything on to whoever would have been called without us (glibc, or
 * another allocator further down the line).
 *
 * The same goes for memory on the way to the signal of a fence: whoever changes
 * memory may be waiting for that very fence, with the allocator's lock held.
 *
 * The library comes before libc in the search order of a program that links it,
 * so its definitions are the ones that everybody gets, libc included.  They carry
 * no symbol version: a program linked against this build runs with a release
 * build as well.  A program that brings an allocator of its own keeps it, and has
 * no heap check.  Not in release builds; not with sanitizers, which do the same
 * for their own ends.
 */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>

#include "base/atomic.h"
#include "base/bug.h"
#include "base/context.h"

#define EXPORT __attribute__((visibility("default")))

/* glibc's own, for what dlsym() itself may allocate. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t nr, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *block);

/*
 * Who would have been called; atomic.  Written by the first callers, each of
 * which finds the same; free last.
 */
static struct {
	void *(*malloc)(size_t size);
	void *(*calloc)(size_t nr, size_t size);
	void *(*realloc)(void *block, size_t size);
	void *(*memalign)(size_t align, size_t size);
	void (*free)(void *block);
} next;

static __thread bool resolving __attribute__((tls_model("initial-exec")));

static void *find(const char *name, void *otherwise)
{
	void *found = dlsym(RTLD_NEXT, name);

	return found ? found : otherwise;
}

/* False while dlsym() is under way in this thread. */
static bool resolve(void)
{
	/*
	 * pair(heap_next): acquire, with the release below in resolve().
	 * Without it another member may still be NULL.
	 */
	if (likely(mmn_load_acquire(&next.free) != NULL))
		return true;
	if (resolving)
		return false;
	resolving = true;
	/* relaxed, here and where they are called: free is ordered */
	mmn_store_relaxed(&next.malloc, find("malloc", __libc_malloc));
	mmn_store_relaxed(&next.calloc, find("calloc", __libc_calloc));
	mmn_store_relaxed(&next.realloc, find("realloc", __libc_realloc));
	mmn_store_relaxed(&next.memalign, find("memalign", __libc_memalign));
	/*
	 * pair(heap_next): release, with the acquire above in resolve().
	 * Without it another thread calls a member that is still NULL.
	 */
	mmn_store_release(&next.free, find("free", __libc_free));
	resolving = false;
	return true;
}

static inline void check_callback(const char *text)
{
	if (unlikely(mmn_context_in_callback()))
		mmn_bug(text);
}

/* free() is in order on the way to a signal: it waits for nothing. */
static inline void check(const char *callback_text, const char *signal_text)
{
	check_callback(callback_text);
	if (unlikely(mmn_context.signalling))
		mmn_bug(signal_text);
}

EXPORT void *malloc(size_t size)
{
	check("malloc() in a callback: use mmn_callback_alloc()",
	      "malloc() on the way to a signal");
	/* relaxed: see resolve() */
	return resolve() ? mmn_load_relaxed(&next.malloc)(size)
			 : __libc_malloc(size);
}

EXPORT void *calloc(size_t nr, size_t size)
{
	check("calloc() in a callback: use mmn_callback_alloc()",
	      "calloc() on the way to a signal");
	/* relaxed: see resolve() */
	return resolve() ? mmn_load_relaxed(&next.calloc)(nr, size)
			 : __libc_calloc(nr, size);
}

EXPORT void *realloc(void *block, size_t size)
{
	check("realloc() in a callback: use mmn_callback_alloc()",
	      "realloc() on the way to a signal");
	/* relaxed: see resolve() */
	return resolve() ? mmn_load_relaxed(&next.realloc)(block, size)
			 : __libc_realloc(block, size);
}

EXPORT void free(void *block)
{
	if (!block)
		return;
	check_callback("free() in a callback: use mmn_callback_free()");
	/* relaxed: see resolve() */
	if (resolve())
		(*mmn_load_relaxed(&next.free))(block);
	else
		__libc_free(block);
}

static void *aligned(size_t align, size_t size)
{
	/* relaxed: see resolve() */
	return resolve() ? mmn_load_relaxed(&next.memalign)(align, size)
			 : __libc_memalign(align, size);
}

EXPORT void *memalign(size_t align, size_t size)
{
	check("memalign() in a callback: use mmn_callback_alloc()",
	      "memalign() on the way to a signal");
	return aligned(align, size);
}

EXPORT void *aligned_alloc(size_t align, size_t size)
{
	check("aligned_alloc() in a callback: use mmn_callback_alloc()",
	      "aligned_alloc() on the way to a signal");
	return aligned(align, size);
}

EXPORT int posix_memalign(void **ret_block, size_t align, size_t size)
{
	void *block;

	check("posix_memalign() in a callback: use mmn_callback_alloc()",
	      "posix_memalign() on the way to a signal");
	if (!align || align % sizeof(void *) || (align & (align - 1)))
		return EINVAL;
	block = aligned(align, size);
	if (!block)
		return ENOMEM;
	*ret_block = block;
	return 0;
}
