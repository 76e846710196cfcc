/* SPDX-License-Identifier: MIT */
/*
 * The memory of a scenario: its stacks and its heap, what has to be undone after
 * a run, who may touch what, and which plain accesses race.
 *
 * All addresses are the same in every run: a thread's allocations come from a
 * part of the heap of its own, in sequence, and are never reused within a run,
 * so that every use after free is seen as such.
 */
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "ladder/engine.h"

/* Any place that is likely to be free will do. */
#define AREA_ADDRESS ((void *)UINT64_C(0x6d6d00000000))
/* One more part than threads: for setup and check. */
#define NR_PARTS (LADDER_MAX_THREADS + 1)
#define RED_ZONE 16
#define FRESH 0xd5

struct block {
	uint64_t start, size;
	bool freed;
};

#define MAX_BLOCKS 256

struct part {
	uint64_t used;
	uint32_t nr_blocks;
	struct block blocks[MAX_BLOCKS];
};

struct undo {
	uint64_t address;
	uint64_t old;
};

/* struct access - somebody has touched these bytes of a word */
struct access {
	uint64_t word;
	uint16_t next;
	/* events of the thread before it */
	uint16_t done;
	uint8_t mask;
	uint8_t thread;
	bool write;
	bool atomic;
};

#define MAX_ACCESSES 32000
#define NR_BUCKETS 4096

static struct {
	char *stacks;
	char *heap;
	size_t size;
	struct part parts[NR_PARTS];
	/* the access that is looked at is a free() */
	bool freeing;

	struct undo *undo;
	size_t nr_undo, max_undo;

	struct access *accesses;
	uint16_t nr_accesses;
	uint16_t buckets[NR_BUCKETS];

	char *tls;
	size_t tls_size;
} memory;

/* ------------------------------------------------------------------ */
/* The area                                                           */
/* ------------------------------------------------------------------ */

/* The thread-local storage of the program itself is the first module. */
static int find_tls(struct dl_phdr_info *info, size_t size, void *unused)
{
	int i;

	for (i = 0; i < info->dlpi_phnum; i++) {
		if (info->dlpi_phdr[i].p_type != PT_TLS)
			continue;
		memory.tls = info->dlpi_tls_data;
		memory.tls_size = info->dlpi_phdr[i].p_memsz;
	}
	return 1;
}

int memory_init(void)
{
	size_t stacks = STACK_SIZE * LADDER_MAX_THREADS;

	memset(&memory, 0, sizeof(memory));
	dl_iterate_phdr(find_tls, NULL);
	memory.size = stacks + HEAP_SIZE * NR_PARTS;
	memory.stacks =
		mmap(AREA_ADDRESS, memory.size, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory.stacks == MAP_FAILED) {
		memory.stacks = NULL;
		return -ENOMEM;
	}
	memory.heap = memory.stacks + stacks;
	memory.accesses = malloc(MAX_ACCESSES * sizeof(*memory.accesses));
	if (memory.accesses)
		return 0;
	memory_fini();
	return -ENOMEM;
}

void memory_fini(void)
{
	memory_reset();
	if (memory.stacks)
		munmap(memory.stacks, memory.size);
	free(memory.accesses);
	free(memory.undo);
	memset(&memory, 0, sizeof(memory));
}

void *memory_stack(uint8_t thread)
{
	return memory.stacks + thread * STACK_SIZE;
}

size_t memory_tls_size(void)
{
	return memory.tls_size;
}

void memory_tls_load(const void *image)
{
	if (memory.tls_size)
		memcpy(memory.tls, image, memory.tls_size);
}

void memory_tls_save(void *image)
{
	if (memory.tls_size)
		memcpy(image, memory.tls, memory.tls_size);
}

void memory_put(uint64_t address, uint8_t size, uint64_t value)
{
	memcpy((void *)(uintptr_t)address, &value, size);
}

uint64_t memory_get(uint64_t address, uint8_t size)
{
	uint64_t value = 0;

	memcpy(&value, (const void *)(uintptr_t)address, size);
	return value;
}

/* ------------------------------------------------------------------ */
/* What a run leaves                                                  */
/* ------------------------------------------------------------------ */

static bool is_tls(uint64_t address)
{
	uint64_t tls = (uintptr_t)memory.tls;

	return address >= tls && address < tls + memory.tls_size;
}

static bool is_stack(uint64_t address)
{
	uint64_t stacks = (uintptr_t)memory.stacks;

	return address >= stacks &&
	       address < stacks + STACK_SIZE * LADDER_MAX_THREADS;
}

static bool is_heap(uint64_t address)
{
	uint64_t heap = (uintptr_t)memory.heap;

	return address >= heap && address < heap + HEAP_SIZE * NR_PARTS;
}

/* A local variable of setup or check, which is gone with them. */
static bool is_home_stack(uint64_t address)
{
	return engine->current == NO_THREAD && address < engine->home_top &&
	       address >= (uintptr_t)__builtin_frame_address(0);
}

bool memory_is_private(uint64_t address)
{
	return is_tls(address);
}

static bool save_byte(uint64_t address, uint64_t old)
{
	if (memory.nr_undo == memory.max_undo) {
		size_t max = memory.max_undo * 2 + 1024;
		struct undo *undo = realloc(memory.undo, max * sizeof(*undo));

		if (!undo)
			return false;
		memory.undo = undo;
		memory.max_undo = max;
	}
	memory.undo[memory.nr_undo].address = address;
	memory.undo[memory.nr_undo++].old = old;
	return true;
}

void memory_save(uint64_t address, uint64_t size)
{
	uint64_t i;

	if (is_stack(address) || is_heap(address) || is_tls(address) ||
	    is_home_stack(address))
		return;
	for (i = 0; i < size; i++)
		if (!save_byte(address + i, memory_get(address + i, 1)))
			engine->out_of_memory = true;
}

void memory_reset(void)
{
	unsigned int i;

	while (memory.nr_undo) {
		const struct undo *undo = &memory.undo[--memory.nr_undo];

		memory_put(undo->address, 1, undo->old);
	}
	for (i = 0; i < NR_PARTS; i++) {
		memory.parts[i].used = 0;
		memory.parts[i].nr_blocks = 0;
	}
	memory.freeing = false;
	memory.nr_accesses = 0;
	memset(memory.buckets, 0xff, sizeof(memory.buckets));
}

/* ------------------------------------------------------------------ */
/* The heap                                                           */
/* ------------------------------------------------------------------ */

void *memory_alloc(uint64_t size, uint64_t align)
{
	struct part *part = &memory.parts[engine->current];
	uint64_t base = (uintptr_t)memory.heap + engine->current * HEAP_SIZE;
	uint64_t start = base + part->used + RED_ZONE;
	struct block *block;

	if (align < 16)
		align = 16;
	start = (start + align - 1) & ~(align - 1);
	if (part->nr_blocks == MAX_BLOCKS || size > HEAP_SIZE ||
	    start + size + RED_ZONE > base + HEAP_SIZE) {
		engine_fail(LADDER_UNSUPPORTED, "the heap is used up");
		return NULL;
	}
	block = &part->blocks[part->nr_blocks++];
	block->start = start;
	block->size = size;
	block->freed = false;
	part->used = start + size - base;
	memset((void *)(uintptr_t)start, FRESH, size);
	return (void *)(uintptr_t)start;
}

static struct block *find_block(uint64_t address)
{
	uint64_t offset = address - (uintptr_t)memory.heap;
	struct part *part = &memory.parts[offset / HEAP_SIZE];
	uint32_t low = 0, high = part->nr_blocks;

	while (low < high) {
		uint32_t middle = (low + high) / 2;
		struct block *block = &part->blocks[middle];

		if (address < block->start)
			high = middle;
		else if (address >= block->start + block->size)
			low = middle + 1;
		else
			return block;
	}
	return NULL;
}

void memory_check(uint64_t address, uint64_t size, bool write)
{
	const struct block *block;
	char name[64];
	bool inside;

	if (!is_heap(address))
		return;
	block = find_block(address);
	inside = block && address + size <= block->start + block->size;
	if (inside && !block->freed)
		return;
	name_of(address, NULL, name, sizeof(name));
	engine_fail(LADDER_USE_AFTER_FREE, "%s is %s %s", name,
		    write ? "written" : "read",
		    inside ? "after it was freed"
			   : "outside of what was allocated");
}

void memory_describe(uint64_t address, char *buffer, size_t size)
{
	const struct block *block =
		is_heap(address) ? find_block(address) : NULL;
	uint64_t offset;

	if (is_stack(address)) {
		offset = address - (uintptr_t)memory.stacks;
		snprintf(buffer, size, "a local variable of CPU%u",
			 (unsigned int)(offset / STACK_SIZE));
		return;
	}
	if (!block) {
		snprintf(buffer, size, "the word at 0x%llx",
			 (unsigned long long)address);
		return;
	}
	snprintf(buffer, size, "byte %u of an object of %u",
		 (unsigned int)(address - block->start),
		 (unsigned int)block->size);
}

void memory_free(void *pointer)
{
	uint64_t address = (uintptr_t)pointer;
	struct block *block;

	if (!pointer)
		return;
	block = is_heap(address) ? find_block(address) : NULL;
	if (!block || block->start != address) {
		engine_fail(LADDER_BAD_FREE,
			    "what is freed was never allocated");
		return;
	}
	if (block->freed) {
		engine_fail(LADDER_BAD_FREE, "freed twice");
		return;
	}
	memory.freeing = true;
	memory_race(address, block->size, true, false);
	memory.freeing = false;
	block->freed = true;
}

/* ------------------------------------------------------------------ */
/* Races                                                              */
/* ------------------------------------------------------------------ */

static uint16_t *bucket_of(uint64_t word)
{
	uint64_t hash = word * UINT64_C(0x9e3779b97f4a7c15);

	return &memory.buckets[hash >> 52];
}

static bool is_racing(const struct access *a, uint8_t mask, bool write,
		      bool atomic)
{
	return (a->mask & mask) && a->thread != engine->current &&
	       (a->write || write) && !(a->atomic && atomic) &&
	       this_thread()->hb.at[a->thread] <= a->done;
}

static void report_race(const struct access *a, uint64_t address, bool write)
{
	char name[64];

	engine->other_thread = a->thread;
	engine->other_done = a->done;
	name_of(address, NULL, name, sizeof(name));
	if (memory.freeing)
		engine_fail(LADDER_USE_AFTER_FREE,
			    "%s is %s by CPU%u, and CPU%u may free it before",
			    name, a->write ? "written" : "read", a->thread,
			    engine->current);
	engine_fail(LADDER_RACE,
		    "%s is %s%s by CPU%u and %s by CPU%u with nothing between",
		    name, a->atomic ? "atomically " : "",
		    a->write ? "written" : "read", a->thread,
		    write ? "written" : "read", engine->current);
}

static void race_word(uint64_t word, uint8_t mask, bool write, bool atomic)
{
	uint16_t *bucket = bucket_of(word);
	uint16_t done = this_thread()->done;
	struct access *a, *mine = NULL;
	uint16_t i;

	/* An event is counted before it is looked at here. */
	if (atomic)
		done--;
	for (i = *bucket; i != UINT16_MAX; i = a->next) {
		a = &memory.accesses[i];
		if (a->word != word)
			continue;
		if (is_racing(a, mask, write, atomic))
			report_race(a,
				    word + (uint64_t)__builtin_ctz(a->mask &
								   mask),
				    write);
		if (a->thread == engine->current && a->mask == mask &&
		    a->write == write && a->atomic == atomic)
			mine = a;
	}
	if (!mine) {
		if (memory.nr_accesses == MAX_ACCESSES) {
			engine_fail(LADDER_UNSUPPORTED,
				    "too many words are accessed");
			return;
		}
		mine = &memory.accesses[memory.nr_accesses];
		mine->word = word;
		mine->mask = mask;
		mine->thread = engine->current;
		mine->write = write;
		mine->atomic = atomic;
		mine->next = *bucket;
		*bucket = memory.nr_accesses++;
	}
	mine->done = done;
}

void memory_race(uint64_t address, uint64_t size, bool write, bool atomic)
{
	if (engine->current == NO_THREAD)
		return;
	while (size) {
		uint64_t offset = address % 8;
		uint64_t part = size < 8 - offset ? size : 8 - offset;

		race_word(address - offset,
			  (uint8_t)(((1u << part) - 1) << offset), write,
			  atomic);
		address += part;
		size -= part;
	}
}
