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

#define MIN_SHIFT 5
#define MAX_SHIFT 15
#define NR_CLASSES (MAX_SHIFT - MIN_SHIFT + 1)

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

_Static_assert(sizeof(struct header) == 16, "documented cost of a block");

/* atomic: NULL, then constant */
static char *chunks[NR_CHUNKS];
/* atomic: first position that was never handed out */
static uint64_t frontier;
/* atomic: (changes << TOP_BITS) | (unit + 1), or 0 in the low bits for none */
static uint64_t tops[NR_CLASSES];
/* atomic: bytes mapped */
static uint64_t footprint;

static void *map_pages(uint64_t bytes, int more_flags)
{
	long ret = mmn_syscall6(__NR_mmap, 0, bytes, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | more_flags, -1,
				0);

	if (mmn_syscall_failed(ret))
		return NULL;
	/* relaxed: a count */
	mmn_fetch_add_relaxed(&footprint, bytes);
	return (void *)ret;
}

static void unmap_pages(void *pages, uint64_t bytes)
{
	mmn_syscall2(__NR_munmap, pages, bytes);
	/* relaxed: a count */
	mmn_fetch_sub_relaxed(&footprint, bytes);
}

/* The chunk's memory; mapped by whoever needs it first. */
static char *get_chunk(uint32_t nr, int more_flags)
{
	char *found = NULL;
	char *chunk;

	/* relaxed: the address is all there is; the kernel made the zeroes */
	chunk = mmn_load_relaxed(&chunks[nr]);
	if (chunk)
		return chunk;
	chunk = map_pages(CHUNK_BYTES, more_flags);
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

/* A block that was never used. */
static struct header *take_frontier(uint32_t class)
{
	uint64_t bytes = UINT64_C(1) << (class + MIN_SHIFT);
	struct header *header;
	uint64_t position;
	uint64_t at;

	/* relaxed: only says who owns which position */
	at = mmn_load_relaxed(&frontier);
	do {
		/* Aligned to its size, so no block crosses chunks. */
		position = (at + bytes - 1) & ~(bytes - 1);
		if (position >> CHUNK_SHIFT >= NR_CHUNKS)
			return NULL;
		if (!get_chunk((uint32_t)(position >> CHUNK_SHIFT), 0))
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

	/*
	 * pair(arena_stack): acquire, with the release in push().  Without
	 * it the successor may be read as it was before the push.
	 */
	old = mmn_load_acquire(top);
	do {
		if (!(old & TOP_MASK))
			return NULL;
		header = unit_header((uint32_t)(old & TOP_MASK) - 1);
		/* relaxed: stale if another pop came first; the count tells */
		new = ((old >> TOP_BITS) + 1) << TOP_BITS |
		      mmn_load_relaxed(&header->next);
		/*
		 * pair(arena_stack): acquire, with the release in push().
		 * Without it the last writes of the previous owner may come
		 * after ours.
		 */
	} while (!mmn_cmpxchg_acquire(top, &old, new));
	return header;
}

static void *alloc_large(size_t size)
{
	uint64_t bytes = (uint64_t)size + sizeof(struct header);
	struct header *header;

	if (bytes < size || bytes > UINT64_MAX - 4095)
		return NULL;
	bytes = (bytes + 4095) & ~UINT64_C(4095);
	header = map_pages(bytes, 0);
	if (!header)
		return NULL;
	header->state = STATE_LARGE;
	header->length = bytes;
	return header + 1;
}

static uint32_t class_of(size_t size)
{
	size_t bytes = size + sizeof(struct header);
	uint32_t class = 0;

	while (((size_t)1 << (class + MIN_SHIFT)) < bytes)
		class++;
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
	if (size > ((size_t)1 << MAX_SHIFT) - sizeof(struct header))
		return alloc_large(size);
	class = class_of(size);
	header = pop(class);
	if (!header)
		header = take_frontier(class);
	if (!header)
		return NULL;
	/* relaxed: the block is ours alone */
	mmn_store_relaxed(&header->state, STATE_USED);
	return header + 1;
}

void *mmn_callback_zalloc(size_t size)
{
	char *block = mmn_callback_alloc(size);
	size_t i;

	/* Not memset(): a sanitizer's or a program's may do anything. */
	for (i = 0; block && i < size; i++)
		block[i] = 0;
	return block;
}

void mmn_callback_free(void *block)
{
	struct header *header = (struct header *)block - 1;
	uint32_t used = STATE_USED;

	if (!block)
		return;
	/* relaxed: constant while the block is in use */
	if (mmn_load_relaxed(&header->state) == STATE_LARGE) {
		unmap_pages(header, header->length);
		return;
	}
	/* relaxed: decides which of two frees is the first */
	if (!mmn_cmpxchg_relaxed(&header->state, &used, STATE_FREE)) {
		mmn_bug("callback memory is freed twice, or never was ours");
		return;
	}
	push(header);
}

int mmn_callback_reserve(size_t bytes)
{
	uint64_t first;
	uint64_t nr;
	uint64_t i;

	if (bytes > NR_CHUNKS * CHUNK_BYTES)
		return -ENOMEM;
	/* relaxed: others may move it at any time, as documented */
	first = mmn_load_relaxed(&frontier) >> CHUNK_SHIFT;
	nr = (bytes + CHUNK_BYTES - 1) >> CHUNK_SHIFT;
	for (i = first; i <= first + nr; i++)
		if (i >= NR_CHUNKS || !get_chunk((uint32_t)i, MAP_POPULATE))
			return -ENOMEM;
	return 0;
}

size_t mmn_callback_footprint(void)
{
	/* relaxed: a count */
	return mmn_load_relaxed(&footprint);
}
