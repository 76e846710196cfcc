/* SPDX-License-Identifier: MIT */
/*
 * The arena behind <mmn/memory.h>.
 *
 * Blocks of a power of two come from chunks of 1 MiB, which are mapped one after
 * the other and never given back.  "Position" is the offset of a block in the
 * sequence of chunks, so that 32 bits name every block of 4 GiB:
 *
 *	chunks[0]            chunks[1]            chunks[2]
 *	+--------------------+--------------------+-----
 *	| used | used | free | used |  never used |
 *	+--------------------+--------------------+-----
 *	                             ^ frontier
 *
 * Freed blocks of one size form a stack.  Its top is one word, the position of
 * the first block and a count of all changes so far, changed by compare and
 * exchange: no lock, so a signal handler may interrupt an allocation anywhere,
 * and the child of a fork finds a whole arena.
 *
 * Why the count: between a thread's look at the top's successor and its exchange
 * others may take the top, take the successor, and put the top back; the word
 * would compare equal and the successor, now in use, would become free again.
 * The count makes it differ.  It has 36 bits (positions are in units of 32
 * bytes, 27 bits, plus one for "none"): it would take 2^36 changes of one stack
 * while one thread stands between two instructions.
 *
 * A block is preceded by a header that is never part of the user's memory, so
 * that a look at the successor of a block that somebody else has just got reads
 * a word of ours, and no more than a stale one.
 */
#include "base/arena.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/atomic.h"
#include "base/bug.h"
#include "base/compiler.h"
#include "base/inject.h"
#include "base/syscall.h"

#define CHUNK_SHIFT 20
#define CHUNK_BYTES (UINT64_C(1) << CHUNK_SHIFT)
#define NR_CHUNKS 4096
#define ARENA_BYTES (NR_CHUNKS * CHUNK_BYTES)

#define MIN_SHIFT 5
#define MAX_SHIFT 15
#define MAX_BLOCK (UINT64_C(1) << MAX_SHIFT)
#define PAGE_BYTES UINT64_C(4096)
#define NR_CLASSES (MAX_SHIFT - MIN_SHIFT + 1)

#define HEADER_BYTES 16

#define TOP_BITS 28
#define TOP_MASK ((UINT64_C(1) << TOP_BITS) - 1)

#define STATE_USED UINT32_C(0x55534544)
#define STATE_FREE UINT32_C(0x46524545)
#define STATE_LARGE UINT32_C(0x4c415247)

/*
 * struct header - the 16 bytes before a block
 *
 * A1  A block on a stack has the state FREE, any other block that was ever
 *     handed out has USED or LARGE.
 */
struct header {
	/* atomic: A1 */
	uint32_t state;
	/* atomic: what the top of the stack said when this block was pushed */
	uint32_t next;
	union {
		/* const: of a block in a chunk */
		struct {
			uint32_t unit;
			uint32_t class;
		};
		/* const: bytes of the mapping of a large block */
		uint64_t length;
	};
};

_Static_assert(sizeof(struct header) == HEADER_BYTES,
	       "documented cost of a block");

/* atomic: NULL, then constant */
static char *chunks[NR_CHUNKS];
/* atomic: first position that was never handed out */
static uint64_t frontier;
/* atomic: (changes << TOP_BITS) | (unit + 1), or 0 in the low bits for none */
static uint64_t tops[NR_CLASSES];
/* atomic: bytes mapped */
static uint64_t footprint;
/* atomic: what the blocks that are handed out cost */
static uint64_t in_use;

/*
 * AddressSanitizer sees a block's exact size and its end; the leak sanitizer
 * looks into blocks for pointers to the heap.
 */
#if MMN_ASAN
void __asan_poison_memory_region(const volatile void *start, size_t size);
void __asan_unpoison_memory_region(const volatile void *start, size_t size);
void __lsan_register_root_region(const void *start, size_t size);
void __lsan_unregister_root_region(const void *start, size_t size);

static void watch_pages(void *pages, uint64_t bytes)
{
	__lsan_register_root_region(pages, bytes);
}

static void unwatch_pages(void *pages, uint64_t bytes)
{
	__lsan_unregister_root_region(pages, bytes);
}

static void allow_access(void *block, size_t size, uint64_t cost)
{
	__asan_poison_memory_region(block, cost - HEADER_BYTES);
	__asan_unpoison_memory_region(block, size);
}
#else
static void watch_pages(void *pages, uint64_t bytes)
{
	(void)pages;
	(void)bytes;
}

static void unwatch_pages(void *pages, uint64_t bytes)
{
	(void)pages;
	(void)bytes;
}

static void allow_access(void *block, size_t size, uint64_t cost)
{
	(void)block;
	(void)size;
	(void)cost;
}
#endif

static void *map_pages(uint64_t bytes)
{
	long ret = mmn_syscall6(__NR_mmap, 0, bytes, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mmn_syscall_failed(ret))
		return NULL;
	/* relaxed: a count */
	mmn_fetch_add_relaxed(&footprint, bytes);
	watch_pages((void *)ret, bytes);
	return (void *)ret;
}

static void unmap_pages(void *pages, uint64_t bytes)
{
	unwatch_pages(pages, bytes);
	mmn_syscall2(__NR_munmap, pages, bytes);
	/* relaxed: a count */
	mmn_fetch_sub_relaxed(&footprint, bytes);
}

/* The memory of chunk @nr; mapped by whoever needs it first. */
static char *get_chunk(uint32_t nr)
{
	char *found = NULL;
	char *chunk;

	/* relaxed: the address is all there is; the kernel made the zeroes */
	chunk = mmn_load_relaxed(&chunks[nr]);
	if (chunk)
		return chunk;
	chunk = map_pages(CHUNK_BYTES);
	if (!chunk)
		return NULL;
	/* relaxed: as above */
	if (mmn_cmpxchg_relaxed(&chunks[nr], &found, chunk))
		return chunk;
	/* Another thread, or the code we interrupted, was faster. */
	unmap_pages(chunk, CHUNK_BYTES);
	return found;
}

static struct header *unit_header(uint32_t unit)
{
	uint64_t position = (uint64_t)unit << MIN_SHIFT;
	/* relaxed: as in get_chunk(); not NULL because the block exists */
	char *chunk = mmn_load_relaxed(&chunks[position >> CHUNK_SHIFT]);

	return (struct header *)(chunk + (position & (CHUNK_BYTES - 1)));
}

static uint64_t class_cost(uint32_t class)
{
	return UINT64_C(1) << (class + MIN_SHIFT);
}

/* Where the next block goes: no block crosses the end of a chunk. */
static uint64_t place(uint64_t at, uint64_t bytes)
{
	uint64_t end = (at | (CHUNK_BYTES - 1)) + 1;

	return end - at < bytes ? end : at;
}

/* A block that was never used. */
static struct header *take_frontier(uint32_t class)
{
	uint64_t bytes = class_cost(class);
	struct header *header;
	uint64_t position;
	uint64_t at;

	/* relaxed: only says who owns which position */
	at = mmn_load_relaxed(&frontier);
	do {
		position = place(at, bytes);
		if (position >= ARENA_BYTES)
			return NULL;
		if (!get_chunk((uint32_t)(position >> CHUNK_SHIFT)))
			return NULL;
	} while (!mmn_cmpxchg_relaxed(&frontier, &at, position + bytes));

	header = unit_header((uint32_t)(position >> MIN_SHIFT));
	header->unit = (uint32_t)(position >> MIN_SHIFT);
	header->class = class;
	return header;
}

static void push(struct header *header)
{
	uint64_t *top = &tops[header->class];
	uint64_t old;
	uint64_t new;

	/* relaxed: the exchange below checks it */
	old = mmn_load_relaxed(top);
	do {
		/* relaxed: published by the exchange */
		mmn_store_relaxed(&header->next, (uint32_t)(old & TOP_MASK));
		new = ((old >> TOP_BITS) + 1) << TOP_BITS | (header->unit + 1);
		/*
		 * pair(arena_stack): release, with the acquire in pop().
		 * Without it the next owner's first writes may be overwritten
		 * by the last ones of the previous owner.
		 */
	} while (!mmn_cmpxchg_release(top, &old, new));
}

static struct header *pop(uint32_t class)
{
	uint64_t *top = &tops[class];
	struct header *header;
	uint64_t old;
	uint64_t new;

	do {
		/*
		 * pair(arena_stack): acquire, with the release in push().
		 * Without it the successor may be read as it was before the
		 * push, and the last writes of the previous owner may come
		 * after ours.  Also the second time, so it is loaded anew.
		 */
		old = mmn_load_acquire(top);
		if (!(old & TOP_MASK))
			return NULL;
		header = unit_header((uint32_t)(old & TOP_MASK) - 1);
		/* relaxed: stale if another pop came first; the count tells */
		new = ((old >> TOP_BITS) + 1) << TOP_BITS |
		      mmn_load_relaxed(&header->next);
		/* relaxed: it finds what was loaded above, or nothing is done */
	} while (!mmn_cmpxchg_relaxed(top, &old, new));
	return header;
}

static void *alloc_large(size_t size)
{
	uint64_t bytes;
	struct header *header;

	if (size > PTRDIFF_MAX)
		return NULL;
	bytes = (size + sizeof(*header) + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
	header = map_pages(bytes);
	if (!header)
		return NULL;
	header->state = STATE_LARGE;
	header->length = bytes;
	/* relaxed: a count */
	mmn_fetch_add_relaxed(&in_use, bytes);
	allow_access(header + 1, size, bytes);
	return header + 1;
}

static uint32_t class_of(size_t size)
{
	size_t bytes = size + sizeof(struct header);
	uint32_t class = 0;

	while (class_cost(class) < bytes)
		class ++;
	return class;
}

void *mmn_callback_alloc(size_t size)
{
	struct header *header;
	uint32_t class;

	if (MMN_INJECT(MMN_INJECT_ALLOC))
		return NULL;
	if (!size)
		size = 1;
	if (size > MAX_BLOCK - sizeof(struct header))
		return alloc_large(size);
	class = class_of(size);
	header = pop(class);
	if (header)
		/* relaxed: the block is ours alone.  A1 */
		mmn_check(mmn_load_relaxed(&header->state) == STATE_FREE);
	else
		header = take_frontier(class);
	if (!header)
		return NULL;
	/* relaxed: the block is ours alone; a count */
	mmn_store_relaxed(&header->state, STATE_USED);
	mmn_fetch_add_relaxed(&in_use, class_cost(class));
	allow_access(header + 1, size, class_cost(class));
	return header + 1;
}

void *mmn_callback_zalloc(size_t size)
{
	char *block = mmn_callback_alloc(size);
	size_t i;

	/* The kernel has done it: a large block is a mapping of its own. */
	if (block && size > MAX_BLOCK - sizeof(struct header))
		return block;
	/* Not memset(): a sanitizer's or a program's may do anything. */
	for (i = 0; block && i < size; i++)
		block[i] = 0;
	return block;
}

void mmn_callback_free(void *block)
{
	uint32_t used = STATE_USED;
	struct header *header;

	if (!block)
		return;
	header = (struct header *)block - 1;
	/* relaxed: constant while the block is in use */
	if (mmn_load_relaxed(&header->state) == STATE_LARGE) {
		/* relaxed: a count */
		mmn_fetch_sub_relaxed(&in_use, header->length);
		unmap_pages(header, header->length);
		return;
	}
	/* relaxed: decides which of two frees is the first */
	if (!mmn_cmpxchg_relaxed(&header->state, &used, STATE_FREE)) {
		mmn_bug("callback memory is freed twice, or never was ours");
		return;
	}
	/* relaxed: a count */
	mmn_fetch_sub_relaxed(&in_use, class_cost(header->class));
	allow_access(block, 0, class_cost(header->class));
	push(header);
}

/* Write, and change nothing that the owner of the word could notice. */
static void touch(uint32_t *word)
{
	uint32_t was = mmn_load_relaxed(word); /* relaxed: any value will do */

	/* relaxed: likewise.  Of "or 0", for one, clang makes a load. */
	mmn_cmpxchg_relaxed(word, &was, was);
}

/* Have the kernel put pages behind [@start, @start + @bytes). */
static int populate(char *start, uint64_t bytes)
{
	uint64_t skew = (uintptr_t)start & (PAGE_BYTES - 1);
	uint64_t i;
	long ret;

	start -= skew;
	bytes += skew;
	ret = mmn_syscall3(__NR_madvise, start, bytes, MADV_POPULATE_WRITE);
	if (!ret)
		return 0;
	if (ret != -EINVAL)
		return -ENOMEM;
	/* Before Linux 5.14. */
	for (i = 0; i < bytes; i += PAGE_BYTES)
		touch((uint32_t *)(start + i));
	return 0;
}

/*
 * How far the frontier may get, from @at, when blocks that cost @bytes together
 * are taken: the end of each chunk may be lost to a block that does not fit.
 */
static uint64_t furthest(uint64_t at, uint64_t bytes)
{
	uint64_t loss = MAX_BLOCK - class_cost(0);

	for (;;) {
		uint64_t end = (at | (CHUNK_BYTES - 1)) + 1;
		uint64_t room = end - at > loss ? end - at - loss : 0;

		if (bytes <= room)
			return at + bytes;
		bytes -= room;
		at = end;
	}
}

int mmn_callback_reserve(size_t bytes)
{
	uint64_t until;
	uint64_t at;

	if (MMN_INJECT(MMN_INJECT_ALLOC))
		return -ENOMEM;
	if (bytes > ARENA_BYTES)
		return -ENOMEM;
	/* relaxed: others may move it at any time, as documented */
	at = mmn_load_relaxed(&frontier);
	until = furthest(at, bytes);
	if (until > ARENA_BYTES)
		return -ENOMEM;
	while (at < until) {
		uint64_t end = (at | (CHUNK_BYTES - 1)) + 1;
		char *chunk = get_chunk((uint32_t)(at >> CHUNK_SHIFT));

		if (end > until)
			end = until;
		if (!chunk ||
		    populate(chunk + (at & (CHUNK_BYTES - 1)), end - at))
			return -ENOMEM;
		at = end;
	}
	return 0;
}

size_t mmn_callback_footprint(void)
{
	/* relaxed: a count */
	return mmn_load_relaxed(&footprint);
}

size_t mmn_callback_in_use(void)
{
	/* relaxed: a count */
	return mmn_load_relaxed(&in_use);
}
