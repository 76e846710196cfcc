/* SPDX-License-Identifier: MIT */
/*
 * Which bytes of the address space does a system call change?
 *
 * x86-64 numbers and constants are spelled out here where the headers of the
 * oldest supported system lack them: what a program may ask of a newer kernel
 * does not depend on the headers that libmmn was built with.
 */
#include "source/classify.h"

#include <linux/falloc.h>
#include <mmn/notifier.h>
#include <mmn/source.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>

/* Above every user address, with five-level page tables too. */
#define ADDRESS_LIMIT (1ul << 56)
/* Tag bits that the kernel ignores when address masking is on. */
#define ADDRESS_TAG (0x3ful << 57)

/* What a page can be, other than MMN_PAGE_SIZE. */
#define HUGE_PAGE_SIZE (1ul << 21)
#define GIANT_PAGE_SIZE (1ul << 30)

#define FLAG_FIXED_NOREPLACE 0x100000u
#define FLAG_MREMAP_DONTUNMAP 4u
#define FLAG_GROWSDOWN 0x01000000u
#define FLAG_HUGETLB 0x40000u

#define ADVICE_REMOVE 9u

#define BIT(nr) (1ull << ((nr) % 64))

static uint64_t round_up(uint64_t length)
{
	return (length + MMN_PAGE_SIZE - 1) & ~(MMN_PAGE_SIZE - 1);
}

static bool is_aligned(uint64_t addr)
{
	return !(addr & (MMN_PAGE_SIZE - 1));
}

uint64_t mmn_classify_round_up(uint64_t addr, uint64_t length)
{
	uint64_t size = MMN_PAGE_SIZE;

	if (!(addr & (HUGE_PAGE_SIZE - 1)))
		size = HUGE_PAGE_SIZE;
	if (!(addr & (GIANT_PAGE_SIZE - 1)))
		size = GIANT_PAGE_SIZE;
	return (length + size - 1) & ~(size - 1);
}

bool mmn_classify_is_candidate(uint64_t nr)
{
	static const uint64_t table[8] = {
		[0] = BIT(SYS_mmap) | BIT(SYS_mprotect) | BIT(SYS_munmap) |
		      BIT(SYS_brk) | BIT(SYS_mremap) | BIT(SYS_madvise) |
		      BIT(SYS_shmat) | BIT(SYS_clone) | BIT(SYS_fork) |
		      BIT(SYS_vfork) | BIT(SYS_execve),
		[1] = BIT(SYS_shmdt) | BIT(SYS_truncate) | BIT(SYS_ftruncate),
		[3] = BIT(SYS_remap_file_pages),
		[4] = BIT(SYS_fallocate),
		[5] = BIT(SYS_execveat) | BIT(SYS_pkey_mprotect),
		[6] = BIT(SYS_clone3) | BIT(SYS_process_madvise),
	};

	return nr < 512 && (table[nr / 64] & BIT(nr));
}

_Static_assert(SYS_execve < 64 && SYS_shmdt >= 64 && SYS_truncate < 128 &&
		       SYS_ftruncate < 128 && SYS_remap_file_pages / 64 == 3 &&
		       SYS_fallocate / 64 == 4 && SYS_execveat / 64 == 5 &&
		       SYS_pkey_mprotect / 64 == 5 && SYS_clone3 / 64 == 6 &&
		       SYS_process_madvise / 64 == 6,
	       "the rows of the table above");

void mmn_change_whole(struct mmn_change *change)
{
	change->nr_spans = 1;
	change->span[0].start = 0;
	change->span[0].last = UINTPTR_MAX;
}

void mmn_change_add(struct mmn_change *change, uintptr_t start, uintptr_t last)
{
	struct mmn_span *span;

	if (change->nr_spans < MMN_MAX_SPANS) {
		span = &change->span[change->nr_spans++];
		span->start = start;
		span->last = last;
		return;
	}
	span = &change->span[MMN_MAX_SPANS - 1];
	if (start < span->start)
		span->start = start;
	if (last > span->last)
		span->last = last;
}

bool mmn_classify_span(uint64_t addr, uint64_t length, struct mmn_span *ret)
{
	addr &= ~ADDRESS_TAG;
	if (!is_aligned(addr) || !length || length > ADDRESS_LIMIT)
		return false;
	length = round_up(length);
	if (addr >= ADDRESS_LIMIT || length > ADDRESS_LIMIT - addr)
		return false;
	ret->start = addr;
	ret->last = addr + length - 1;
	return true;
}

/*
 * The same for calls that go as far as there are mappings, however much they are
 * asked for.
 */
bool mmn_classify_reach(uint64_t addr, uint64_t length, struct mmn_span *ret)
{
	addr &= ~ADDRESS_TAG;
	length = round_up(length);
	if (addr < ADDRESS_LIMIT && length > ADDRESS_LIMIT - addr)
		length = ADDRESS_LIMIT - addr;
	return mmn_classify_span(addr, length, ret);
}

bool mmn_classify_advice(uint64_t advice, uint32_t *ret_event,
			 uint32_t *ret_flags)
{
	*ret_event = MMN_EVENT_CLEAR;
	*ret_flags = 0;
	switch ((uint32_t)advice) {
	case 0:	  /* NORMAL */
	case 1:	  /* RANDOM */
	case 2:	  /* SEQUENTIAL */
	case 3:	  /* WILLNEED */
	case 10:  /* DONTFORK */
	case 11:  /* DOFORK */
	case 12:  /* MERGEABLE: what the kernel merges later is its own doing */
	case 14:  /* HUGEPAGE */
	case 15:  /* NOHUGEPAGE */
	case 16:  /* DONTDUMP */
	case 17:  /* DODUMP */
	case 18:  /* WIPEONFORK */
	case 19:  /* KEEPONFORK */
	case 20:  /* COLD */
	case 22:  /* POPULATE_READ */
	case 23:  /* POPULATE_WRITE: like the writes it stands for */
	case 103: /* GUARD_REMOVE: nothing is mapped at a guard */
		return false;
	case 8: /* FREE */
		*ret_flags = MMN_INVALIDATE_LAZY;
		return true;
	default: /* DONTNEED, REMOVE, PAGEOUT, ..., and what is not known yet */
		return true;
	}
}

static bool classify_mmap(const uint64_t args[6], struct mmn_change *change)
{
	uint32_t flags = (uint32_t)args[3];
	uint64_t length = args[1];

	if (!(flags & MAP_FIXED) || (flags & FLAG_FIXED_NOREPLACE))
		return false;
	/* No tags here, and an offset inside a page is refused. */
	if ((args[0] & ADDRESS_TAG) || !is_aligned(args[5]) ||
	    args[1] > ADDRESS_LIMIT)
		return false;
	/* The file may be one of huge pages as well: then its size counts. */
	if (!(flags & MAP_ANONYMOUS) &&
	    mmn_classify_round_up(args[0], args[1]) != round_up(args[1])) {
		change->need = MMN_NEED_FILE_PAGES;
		change->id = args[4];
	} else if (flags & FLAG_HUGETLB) {
		length = mmn_classify_round_up(args[0], args[1]);
	}
	change->call = MMN_CALL_MMAP_FIXED;
	change->nr_spans = 1;
	return mmn_classify_span(args[0], length, &change->span[0]);
}

/*
 * Old range: given up when it moves, its tail when it shrinks in place, nothing
 * when it grows in place or its length is 0 (a second view of shared memory).
 * New range: only MREMAP_FIXED puts it over something.
 * Of huge pages whole ones move and go; they cannot grow.
 */
static bool classify_mremap(const uint64_t args[6], struct mmn_change *change)
{
	uint64_t old = args[0] & ~ADDRESS_TAG, flags = args[3];
	uint64_t old_len, new_len, whole;
	struct mmn_span span;
	bool fixed = flags & MREMAP_FIXED;
	bool dontunmap = flags & FLAG_MREMAP_DONTUNMAP;
	bool may_move = flags & MREMAP_MAYMOVE;

	change->call = MMN_CALL_MREMAP;
	if (flags &
	    ~(uint64_t)(MREMAP_MAYMOVE | MREMAP_FIXED | FLAG_MREMAP_DONTUNMAP))
		return false;
	if ((fixed || dontunmap) && !may_move)
		return false;
	if (!is_aligned(old) || old >= ADDRESS_LIMIT ||
	    args[1] > ADDRESS_LIMIT || args[2] > ADDRESS_LIMIT)
		return false;
	old_len = round_up(args[1]);
	new_len = round_up(args[2]);
	if (!new_len || (dontunmap && old_len != new_len))
		return false;

	if (fixed) {
		whole = mmn_classify_round_up(old | args[4], new_len);
		if ((args[4] & ADDRESS_TAG) ||
		    !mmn_classify_span(args[4], whole, &span))
			return false;
		mmn_change_add(change, span.start, span.last);
		old_len = mmn_classify_round_up(old | args[4], old_len);
	}
	if (!fixed && !dontunmap && old_len >= new_len) {
		if (old_len > new_len)
			old_len = mmn_classify_round_up(old, old_len);
		if (mmn_classify_span(old + new_len, old_len - new_len, &span))
			mmn_change_add(change, span.start, span.last);
	} else if (may_move) {
		if (mmn_classify_span(old, old_len, &span))
			mmn_change_add(change, span.start, span.last);
	}
	return change->nr_spans;
}

static bool classify_madvise(const uint64_t args[6], struct mmn_change *change)
{
	change->call = MMN_CALL_MADVISE;
	change->nr_spans = 1;
	if ((uint32_t)args[2] == ADVICE_REMOVE)
		change->need = MMN_NEED_ALIASES;
	return mmn_classify_advice(args[2], &change->event, &change->flags) &&
	       mmn_classify_reach(args[0], args[1], &change->span[0]);
}

static bool classify_process_madvise(const uint64_t args[6],
				     struct mmn_change *change)
{
	if (!mmn_classify_advice(args[3], &change->event, &change->flags) ||
	    !args[2])
		return false;
	change->call = MMN_CALL_PROCESS_MADVISE;
	change->need = (uint32_t)args[3] == ADVICE_REMOVE
			       ? MMN_NEED_IOVEC_ALIASES
			       : MMN_NEED_IOVEC;
	mmn_change_whole(change);
	return true;
}

static bool classify_mprotect(const uint64_t args[6], struct mmn_change *change)
{
	change->call = MMN_CALL_MPROTECT;
	change->event = MMN_EVENT_PROTECTION_VMA;
	change->nr_spans = 1;
	if (!mmn_classify_reach(args[0], args[1], &change->span[0]))
		return false;
	if (args[2] & FLAG_GROWSDOWN)
		change->need = MMN_NEED_GROWSDOWN;
	return true;
}

static bool classify_shmat(const uint64_t args[6], struct mmn_change *change)
{
	uint64_t addr = args[1], flags = args[2];

	if (!(flags & SHM_REMAP) || !addr || addr >= ADDRESS_LIMIT)
		return false;
	if (!is_aligned(addr)) {
		if (!(flags & SHM_RND))
			return false;
		addr &= ~(MMN_PAGE_SIZE - 1);
	}
	change->call = MMN_CALL_SHMAT;
	change->need = MMN_NEED_SHMAT;
	change->id = args[0];
	change->nr_spans = 1;
	change->span[0].start = addr;
	change->span[0].last = UINTPTR_MAX;
	return true;
}

/* Unlike the others this call rounds down. */
static bool classify_remap_file_pages(const uint64_t args[6],
				      struct mmn_change *change)
{
	change->call = MMN_CALL_REMAP_FILE_PAGES;
	change->nr_spans = 1;
	return mmn_classify_span(args[0] & ~(MMN_PAGE_SIZE - 1),
				 args[1] & ~(MMN_PAGE_SIZE - 1),
				 &change->span[0]);
}

/*
 * File offsets, not addresses.  A page that is partly cut keeps its place but
 * loses contents: it counts.
 */
static bool classify_fallocate(const uint64_t args[6],
			       struct mmn_change *change)
{
	const uint32_t harmless = FALLOC_FL_KEEP_SIZE | FALLOC_FL_UNSHARE_RANGE;
	const uint32_t shifting =
		FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE;
	uint32_t mode = (uint32_t)args[1];
	uint64_t offset = args[2], length = args[3];

	if (!(mode & ~harmless) || (int64_t)offset < 0 ||
	    (int64_t)length <= 0 || offset + length > (uint64_t)INT64_MAX)
		return false;
	change->call = MMN_CALL_FALLOCATE;
	change->event = MMN_EVENT_CLEAR;
	change->need = MMN_NEED_FILE;
	change->id = args[0];
	change->nr_spans = 1;
	change->span[0].start = offset & ~(MMN_PAGE_SIZE - 1);
	change->span[0].last =
		mode & shifting ? UINTPTR_MAX : round_up(offset + length) - 1;
	return true;
}

static bool classify_truncate(uint64_t nr, const uint64_t args[6],
			      struct mmn_change *change)
{
	if ((int64_t)args[1] < 0)
		return false;
	change->call = MMN_CALL_TRUNCATE;
	change->event = MMN_EVENT_CLEAR;
	change->need = nr == SYS_truncate ? MMN_NEED_PATH_SHRINK
					  : MMN_NEED_FILE_SHRINK;
	change->id = args[0];
	change->nr_spans = 1;
	change->span[0].start = args[1];
	change->span[0].last = UINTPTR_MAX;
	return true;
}

static bool classify_fork(uint64_t nr, const uint64_t args[6],
			  struct mmn_change *change)
{
	if (nr == SYS_vfork || (nr == SYS_clone && (args[0] & CLONE_VM)))
		return false;
	change->call = MMN_CALL_FORK;
	change->event = MMN_EVENT_PROTECTION_PAGE;
	mmn_change_whole(change);
	if (nr == SYS_clone3) {
		change->need = MMN_NEED_CLONE_ARGS;
		change->id = args[0];
	}
	return true;
}

bool mmn_classify(uint64_t nr, const uint64_t args[6],
		  struct mmn_change *change)
{
	change->event = MMN_EVENT_UNMAP;
	change->flags = 0;
	change->need = MMN_NEED_NOTHING;
	change->id = 0;
	change->nr_spans = 0;

	switch (nr) {
	case SYS_munmap:
		change->call = MMN_CALL_MUNMAP;
		change->nr_spans = 1;
		return mmn_classify_span(args[0], args[1], &change->span[0]);
	case SYS_mmap:
		return classify_mmap(args, change);
	case SYS_mremap:
		return classify_mremap(args, change);
	case SYS_madvise:
		return classify_madvise(args, change);
	case SYS_process_madvise:
		return classify_process_madvise(args, change);
	case SYS_mprotect:
	case SYS_pkey_mprotect:
		return classify_mprotect(args, change);
	case SYS_brk:
		change->call = MMN_CALL_BRK;
		change->need = MMN_NEED_BREAK;
		change->nr_spans = 1;
		change->span[0].start = args[0];
		change->span[0].last = UINTPTR_MAX;
		return args[0] && args[0] < ADDRESS_LIMIT;
	case SYS_shmdt:
		change->call = MMN_CALL_SHMDT;
		change->need = MMN_NEED_SHMDT;
		change->nr_spans = 1;
		change->span[0].start = args[0];
		change->span[0].last = UINTPTR_MAX;
		return is_aligned(args[0]) && args[0] < ADDRESS_LIMIT;
	case SYS_shmat:
		return classify_shmat(args, change);
	case SYS_remap_file_pages:
		return classify_remap_file_pages(args, change);
	case SYS_fallocate:
		return classify_fallocate(args, change);
	case SYS_truncate:
	case SYS_ftruncate:
		return classify_truncate(nr, args, change);
	case SYS_clone:
	case SYS_clone3:
	case SYS_fork:
	case SYS_vfork:
		return classify_fork(nr, args, change);
	case SYS_execve:
	case SYS_execveat:
		change->call = MMN_CALL_EXEC;
		change->need = MMN_NEED_PROGRAM;
		mmn_change_whole(change);
		return true;
	}
	return false;
}

bool mmn_classify_maps_code(uint64_t nr, const uint64_t args[6])
{
	return nr == SYS_mmap && (args[2] & PROT_EXEC) &&
	       !(args[3] & MAP_ANONYMOUS) &&
	       (args[3] & MAP_TYPE) == MAP_PRIVATE;
}
