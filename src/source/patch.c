/* SPDX-License-Identifier: MIT */
/*
 * Rewriting code that may be running.  See patch.h.
 *
 * Nothing here goes through libc: the places being written are libc's.
 */
#include "source/patch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <mmn/source.h>
#include <string.h>
#include <sys/mman.h>

#include "base/syscall.h"
#include "source/classify.h"
#include "source/entry.h"
#include "source/lookup.h"

#define CACHE_LINE 64u

/* A jump reaches 2 GiB; what is allotted stays well below. */
#define REACH 0x7c000000ul
#define STEP 0x10000ul

#define FLAG_FIXED_NOREPLACE 0x100000

/* At the start of each block: where the stubs' calls lead. */
struct stub_header {
	void (*entry)(void);
	void (*leave)(void);
	uint64_t pad[14];
};

_Static_assert(sizeof(struct stub_header) == MMN_STUB_SIZE,
	       "takes the place of one stub");

/* ---- threads ---- */

struct directory_entry {
	uint64_t inode;
	uint64_t offset;
	uint16_t length;
	uint8_t type;
	char name[];
};

bool mmn_patch_has_threads(void)
{
	const struct directory_entry *entry;
	uint64_t buffer[64];
	long fd, got, at;
	uint32_t nr = 0;

	fd = mmn_syscall4(SYS_openat, AT_FDCWD, "/proc/self/task",
			  O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (fd < 0)
		return true;
	for (;;) {
		got = mmn_syscall3(SYS_getdents64, fd, buffer, sizeof(buffer));
		if (got <= 0)
			break;
		for (at = 0; at < got; at += entry->length) {
			entry = (const void *)((const char *)buffer + at);
			if (entry->name[0] != '.')
				nr++;
		}
	}
	mmn_syscall1(SYS_close, fd);
	return got < 0 || nr != 1;
}

/* ---- protection ---- */

/*
 * Is a segment to be written that the patch before is not in?  Of patches that
 * are left alone the object may be gone, and the memory be the program's by now.
 */
static bool is_new_text(const struct mmn_patch *patches, uint32_t i)
{
	const struct mmn_patch *patch = &patches[i];

	if (patch->reason)
		return false;
	while (i-- && patches[i].reason)
		;
	return i == UINT32_MAX || patches[i].text_start != patch->text_start ||
	       patches[i].text_last != patch->text_last;
}

static long protect(const struct mmn_patch *patch, int prot)
{
	return mmn_syscall3(SYS_mprotect, patch->text_start,
			    patch->text_last - patch->text_start + 1, prot);
}

static void lock_text(const struct mmn_patch *patches, uint32_t nr)
{
	uint32_t i;

	for (i = 0; i < nr; i++)
		if (is_new_text(patches, i))
			protect(&patches[i],
				PROT_READ | PROT_EXEC | patches[i].text_prot);
}

/* Whole segments: no mapping is split, and one call is enough for each. */
static int unlock_text(const struct mmn_patch *patches, uint32_t nr, int prot)
{
	uint32_t i;

	for (i = 0; i < nr; i++) {
		if (!is_new_text(patches, i))
			continue;
		if (protect(&patches[i], prot)) {
			lock_text(patches, i);
			return -EPERM;
		}
	}
	return 0;
}

/* ---- with one thread ---- */

static int write_by_proc(const struct mmn_patch *patches, uint32_t nr)
{
	long fd, ret = MMN_PATCH_BYTES;
	uint32_t i;

	fd = mmn_syscall4(SYS_openat, AT_FDCWD, "/proc/self/mem",
			  O_RDWR | O_CLOEXEC, 0);
	if (fd < 0)
		return -EPERM;
	for (i = 0; i < nr; i++) {
		if (patches[i].reason)
			continue;
		ret = mmn_syscall4(SYS_pwrite64, fd, patches[i].new,
				   MMN_PATCH_BYTES, patches[i].at);
		if (ret != MMN_PATCH_BYTES)
			break;
	}
	/* Put back what was written before it failed. */
	if (i < nr)
		while (i--)
			if (!patches[i].reason)
				mmn_syscall4(SYS_pwrite64, fd, patches[i].old,
					     MMN_PATCH_BYTES, patches[i].at);
	mmn_syscall1(SYS_close, fd);
	return ret == MMN_PATCH_BYTES ? 0 : -EPERM;
}

/*
 * Not executable while it is writable, unless this very code is in there (a
 * static program).
 */
static int write_by_mprotect(const struct mmn_patch *patches, uint32_t nr)
{
	uintptr_t self = (uintptr_t)write_by_mprotect;
	int prot = PROT_READ | PROT_WRITE;
	uint32_t i;

	for (i = 0; i < nr; i++)
		if (!patches[i].reason && self >= patches[i].text_start &&
		    self <= patches[i].text_last)
			prot |= PROT_EXEC;
	if (unlock_text(patches, nr, prot))
		return -EPERM;
	/* Byte by byte, here: memcpy() is libc's, and not executable now. */
	for (i = 0; i < nr; i++) {
		volatile uint8_t *to = patches[i].at;
		uint32_t j;

		if (patches[i].reason)
			continue;
		for (j = 0; j < MMN_PATCH_BYTES; j++)
			to[j] = patches[i].new[j];
	}
	lock_text(patches, nr);
	return 0;
}

/* ---- under threads ---- */

static long core_sync(void)
{
	return mmn_syscall3(SYS_membarrier,
			    MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
}

/* Indivisible for any address within a cache line: xchg is a locked store. */
static void store_head(uint8_t *at, uint8_t first, uint8_t second)
{
	uint16_t value = (uint16_t)(first | second << 8);

	__asm__ volatile("xchgw %0, %1"
			 : "+r"(value), "+m"(*(uint16_t *)at)
			 :
			 : "memory");
}

static int write_live(const struct mmn_patch *patches, uint32_t nr)
{
	uint32_t i, j;

	if (mmn_syscall3(SYS_membarrier,
			 MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0,
			 0) < 0 ||
	    core_sync() < 0)
		return -ENOTSUP;
	if (unlock_text(patches, nr, PROT_READ | PROT_WRITE | PROT_EXEC))
		return -EPERM;

	for (i = 0; i < nr; i++)
		if (!patches[i].reason)
			store_head(patches[i].at, 0xeb, 0xfe);
	core_sync();
	for (i = 0; i < nr; i++) {
		volatile uint8_t *to = patches[i].at;

		if (patches[i].reason)
			continue;
		for (j = 2; j < MMN_PATCH_BYTES; j++)
			to[j] = patches[i].new[j];
	}
	core_sync();
	for (i = 0; i < nr; i++)
		if (!patches[i].reason)
			store_head(patches[i].at, patches[i].new[0],
				   patches[i].new[1]);
	core_sync();
	lock_text(patches, nr);
	return 0;
}

static bool is_equal(const uint8_t *a, const uint8_t *b)
{
	uint32_t i;

	for (i = 0; i < MMN_PATCH_BYTES; i++)
		if (a[i] != b[i])
			return false;
	return true;
}

bool mmn_patch_read(const uint8_t *at, uint8_t bytes[MMN_PATCH_BYTES])
{
	int ret = mmn_lookup_peek((uintptr_t)at, bytes, MMN_PATCH_BYTES);
	uint32_t i;

	if (ret == -EFAULT)
		return false;
	if (ret)
		/* A sandbox: whoever calls this has seen the object. */
		for (i = 0; i < MMN_PATCH_BYTES; i++)
			bytes[i] = ((const volatile uint8_t *)at)[i];
	return true;
}

int mmn_patch_write(struct mmn_patch *patches, uint32_t nr, bool live,
		    uint32_t *ret_write_mode)
{
	uint8_t now[MMN_PATCH_BYTES];
	uint32_t i;
	int ret;

	for (i = 0; i < nr; i++) {
		patches[i].reason = MMN_REFUSE_NONE;
		if (!mmn_patch_read(patches[i].at, now) ||
		    !is_equal(now, patches[i].old))
			patches[i].reason = MMN_REFUSE_WRITE;
		else if (live && (uintptr_t)patches[i].at % CACHE_LINE ==
					 CACHE_LINE - 1)
			patches[i].reason = MMN_REFUSE_CACHE_LINE;
	}
	if (live) {
		ret = write_live(patches, nr);
		if (!ret)
			*ret_write_mode = MMN_WRITE_MPROTECT;
		return ret;
	}
	ret = write_by_proc(patches, nr);
	if (!ret) {
		*ret_write_mode = MMN_WRITE_PROC_MEM;
		return 0;
	}
	ret = write_by_mprotect(patches, nr);
	if (!ret)
		*ret_write_mode = MMN_WRITE_MPROTECT;
	return ret;
}

/* ---- stubs ---- */

static uintptr_t block_size(uint32_t nr)
{
	uintptr_t size = (nr + 1ul) * MMN_STUB_SIZE;

	return (size + MMN_PAGE_SIZE - 1) & ~(MMN_PAGE_SIZE - 1);
}

static bool is_in_reach(uintptr_t block, uintptr_t size, uintptr_t start,
			uintptr_t last)
{
	uintptr_t low = block < start ? block : start;
	uintptr_t high = block + size > last ? block + size : last;

	return high - low < REACH;
}

static uint8_t *try_block(uintptr_t addr, uintptr_t size)
{
	long got =
		mmn_syscall6(SYS_mmap, addr, size, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | FLAG_FIXED_NOREPLACE,
			     -1, 0);

	if (mmn_syscall_failed(got))
		return NULL;
	if ((uintptr_t)got != addr) {
		/* A kernel that takes the address for a hint only. */
		mmn_syscall2(SYS_munmap, got, size);
		return NULL;
	}
	return (uint8_t *)addr;
}

/*
 * Below the object first: above a program begins its heap, which must be able
 * to grow.
 */
uint8_t *mmn_patch_alloc_stubs(uintptr_t start, uintptr_t last, uint32_t nr)
{
	uintptr_t size = block_size(nr), addr;
	struct stub_header *header;
	uint8_t *block = NULL;

	for (addr = (start & ~(STEP - 1)) - STEP;
	     addr >= STEP && addr < start && !block &&
	     is_in_reach(addr, size, start, last);
	     addr -= STEP)
		block = try_block(addr, size);
	for (addr = (last & ~(STEP - 1)) + STEP;
	     addr > last && !block && is_in_reach(addr, size, start, last);
	     addr += STEP)
		block = try_block(addr, size);
	if (!block)
		return NULL;
	header = (struct stub_header *)block;
	header->entry = mmn_intercept_entry;
	header->leave = mmn_intercept_leave;
	return block;
}

int mmn_patch_seal(uint8_t *stubs, uint32_t nr)
{
	return mmn_syscall3(SYS_mprotect, stubs, block_size(nr),
			    PROT_READ | PROT_EXEC)
		       ? -EPERM
		       : 0;
}

void mmn_patch_free_stubs(uint8_t *stubs, uint32_t nr)
{
	if (stubs)
		mmn_syscall2(SYS_munmap, stubs, block_size(nr));
}

struct emitter {
	uint8_t *to;
};

static void emit(struct emitter *e, const void *bytes, uint32_t length)
{
	memcpy(e->to, bytes, length);
	e->to += length;
}

/* An opcode whose last four bytes are the distance to @target. */
static void emit_relative(struct emitter *e, const void *opcode,
			  uint32_t length, const void *target)
{
	int32_t distance;

	emit(e, opcode, length);
	distance = (int32_t)((intptr_t)target - (intptr_t)(e->to + 4));
	emit(e, &distance, sizeof(distance));
}

void mmn_patch_jump(uint8_t bytes[MMN_PATCH_BYTES], const uint8_t *at,
		    const uint8_t *stub)
{
	int32_t distance =
		(int32_t)((intptr_t)stub - (intptr_t)(at + MMN_PATCH_BYTES));

	bytes[0] = 0xe9;
	memcpy(bytes + 1, &distance, sizeof(distance));
}

#define STEP_OVER_RED_ZONE "\x48\x8d\x64\x24\x80"    /* lea -128(%rsp),%rsp */
#define STEP_BACK "\x48\x8d\xa4\x24\x80\x00\x00\x00" /* lea 128(%rsp),%rsp */
#define CALL_POINTER "\xff\x15"			     /* call *x(%rip) */
#define JUMP "\xe9"				     /* jmp x */
#define JUMP_IF_RCX_ZERO 0xe3			     /* jrcxz */
#define DECREMENT_RCX "\x48\x8d\x49\xff"	     /* lea -1(%rcx),%rcx */
#define SYSTEM_CALL "\x0f\x05"

#define EMIT(e, text) emit((e), (text), sizeof(text) - 1)

/*
 * 1	what was replaced
 *	lea	-128(%rsp),%rsp
 *	call	*entry
 *	jrcxz	done			verdict DONE
 *	lea	-1(%rcx),%rcx
 *	jrcxz	pass			verdict PASS
 *	lea	128(%rsp),%rsp		verdict BRACKET
 *	syscall
 *	lea	-128(%rsp),%rsp
 *	call	*leave
 * done:lea	128(%rsp),%rsp
 *	jmp	back
 * pass:lea	128(%rsp),%rsp
 *	syscall
 *	jmp	back
 */
uint8_t *mmn_patch_emit(uint8_t *stubs, uint32_t index,
			const struct mmn_found *site)
{
	const struct stub_header *header = (const void *)stubs;
	uint8_t *stub = stubs + (index + 1ul) * MMN_STUB_SIZE;
	uint8_t *to_done, *to_pass;
	struct emitter e = { stub };

	emit(&e, site->moved, site->nr_moved);
	EMIT(&e, STEP_OVER_RED_ZONE);
	emit_relative(&e, CALL_POINTER, 2, &header->entry);
	*e.to++ = JUMP_IF_RCX_ZERO;
	to_done = e.to++;
	EMIT(&e, DECREMENT_RCX);
	*e.to++ = JUMP_IF_RCX_ZERO;
	to_pass = e.to++;
	EMIT(&e, STEP_BACK);
	EMIT(&e, SYSTEM_CALL);
	EMIT(&e, STEP_OVER_RED_ZONE);
	emit_relative(&e, CALL_POINTER, 2, &header->leave);
	*to_done = (uint8_t)(e.to - (to_done + 1));
	EMIT(&e, STEP_BACK);
	emit_relative(&e, JUMP, 1, site->resume);
	*to_pass = (uint8_t)(e.to - (to_pass + 1));
	EMIT(&e, STEP_BACK);
	EMIT(&e, SYSTEM_CALL);
	emit_relative(&e, JUMP, 1, site->resume);
	return stub;
}

/* moved + 5 + 6 + 2 + 4 + 2 + 8 + 2 + 5 + 6 + 8 + 5 + 8 + 2 + 5 */
_Static_assert(MMN_MAX_MOVED + 68 <= MMN_STUB_SIZE, "a stub fits");
