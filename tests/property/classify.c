/* SPDX-License-Identifier: MIT */
/*
 * Which pages a system call changes, against the manual pages.
 *
 * Bytes are the number of a call and its six arguments.  The model answers for
 * one page at a time, and knows of no ranges: may this call change what is there?
 * It calculates with numbers that do not wrap.  Each page next to something that
 * is said in the arguments, or in the answer, is asked for:
 *
 *   - a page that may change must be in the answer;
 *   - a page in the answer may change, or lies where the answer is allowed to
 *     be larger, which is_allowed() names one by one.
 *
 * Pages are those of the address space, or for changes of a file those of the
 * file; where the answer says that something has to be looked up first, the
 * pages are those that the look-up starts from.
 */
#include <linux/falloc.h>
#include <mmn/notifier.h>
#include <mmn/source.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>

#include "property/property.h"
#include "source/classify.h"

typedef unsigned __int128 wide;

#define PAGE ((wide)4096)
/* No system has user addresses from here on. */
#define LIMIT ((wide)1 << 56)
/* What some processors ignore in addresses, and the kernel with them. */
#define TAG (UINT64_C(0x3f) << 57)
/* More pages than there are. */
#define NR_PAGES ((wide)1 << 52)

#define KILO ((wide)1024)

/* A fault which the property must notice; see tests/neg. */
#ifdef BUSTED_classify
#define BUSTED_BYTE 1
#else
#define BUSTED_BYTE 0
#endif

struct call {
	uint64_t nr;
	uint64_t a[6];
};

/* ------------------------------------------------------------------ */
/* The model                                                          */
/* ------------------------------------------------------------------ */

/* How large a page of the mapping is: huge ones are allowed somewhere. */
static const wide page_sizes[] = { PAGE, 2 * KILO *KILO, KILO *KILO *KILO };
#define NR_PAGE_SIZES 3

static wide up(wide length, wide unit)
{
	return (length + unit - 1) / unit * unit;
}

static bool is_multiple(uint64_t addr, wide unit)
{
	return addr % unit == 0;
}

/* Is any byte of the page in [start, start + length)? */
static bool touches(wide page, wide start, wide length)
{
	return length && page * PAGE < start + length &&
	       (page + 1) * PAGE > start;
}

/* [addr, addr + length), which has to be in the address space. */
static bool in_range(wide page, wide addr, wide length)
{
	return addr + length <= LIMIT && touches(page, addr, length);
}

static uint64_t untagged(uint64_t addr)
{
	return addr & ~TAG;
}

/* munmap: whole pages from the start of one. */
static bool munmap_changes(const struct call *call, wide page)
{
	uint64_t addr = untagged(call->a[0]);

	return is_multiple(addr, PAGE) &&
	       in_range(page, addr, up(call->a[1], PAGE));
}

/* The same, as far as there are addresses; but the sum must be a number. */
static bool is_passed(wide page, uint64_t tagged, uint64_t length)
{
	wide addr = untagged(tagged);

	return is_multiple(tagged, PAGE) &&
	       addr + up(length, PAGE) <= UINT64_MAX && page * PAGE < LIMIT &&
	       touches(page, addr, up(length, PAGE));
}

/* Does mmap() put something there?  Not if it was to find a place itself. */
static bool mmap_replaces(const struct call *call)
{
	uint64_t flags = (uint32_t)call->a[3];

	return flags & MAP_FIXED && !(flags & MAP_FIXED_NOREPLACE) &&
	       is_multiple(call->a[5], PAGE);
}

/*
 * It rounds the length up to the pages of what is mapped.  Which size those of a
 * file have is looked up: need_of().
 */
static bool mmap_changes(const struct call *call, wide page, wide size)
{
	uint64_t addr = call->a[0], flags = (uint32_t)call->a[3];

	if (!mmap_replaces(call) || !is_multiple(addr, size))
		return false;
	if (size > PAGE && !(flags & MAP_ANONYMOUS && flags & MAP_HUGETLB))
		return false;
	return in_range(page, addr, up(call->a[1] + BUSTED_BYTE, size));
}

static bool may_be_huge_file(const struct call *call)
{
	wide length = up(call->a[1], PAGE), addr = call->a[0];
	unsigned int i;

	if (!mmap_replaces(call) || call->a[3] & MAP_ANONYMOUS)
		return false;
	for (i = 1; i < NR_PAGE_SIZES; i++)
		if (is_multiple(call->a[0], page_sizes[i]) &&
		    addr + up(length, page_sizes[i]) <= LIMIT &&
		    up(length, page_sizes[i]) != length)
			return true;
	return false;
}

static bool mremap_is_refused(const struct call *call, wide size)
{
	uint64_t flags = call->a[3];
	wide old_length = up(call->a[1], size), length = up(call->a[2], size);

	if (flags & ~UINT64_C(7) || !length || length > LIMIT ||
	    (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) &&
	     !(flags & MREMAP_MAYMOVE)))
		return true;
	if (flags & MREMAP_DONTUNMAP &&
	    up(call->a[1], PAGE) != up(call->a[2], PAGE))
		return true;
	if (flags & MREMAP_FIXED &&
	    (!is_multiple(call->a[4], size) || call->a[4] + length > LIMIT))
		return true;
	/* A mapping of huge pages does not grow, nor leave an empty one behind. */
	return !is_multiple(untagged(call->a[0]), size) ||
	       (size > PAGE &&
		(length > old_length || flags & MREMAP_DONTUNMAP));
}

static bool mremap_changes(const struct call *call, wide page, wide size)
{
	uint64_t old = untagged(call->a[0]), flags = call->a[3];
	wide old_length = up(call->a[1], size), length = up(call->a[2], size);

	if (mremap_is_refused(call, size) || old + old_length > LIMIT)
		return false;
	if (flags & MREMAP_FIXED && touches(page, call->a[4], length))
		return true;
	if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP))
		return touches(page, old, old_length);
	if (length <= old_length)
		return touches(page, old + length, old_length - length);
	/* To where it is going nothing was; it may as well stay. */
	return flags & MREMAP_MAYMOVE && touches(page, old, old_length);
}

static bool madvise_changes(uint64_t advice)
{
	static const uint8_t harmless[] = {
		MADV_NORMAL,
		MADV_RANDOM,
		MADV_SEQUENTIAL,
		MADV_WILLNEED,
		MADV_DONTFORK,
		MADV_DOFORK,
		MADV_MERGEABLE,
		MADV_HUGEPAGE,
		MADV_NOHUGEPAGE,
		MADV_DONTDUMP,
		MADV_DODUMP,
		MADV_WIPEONFORK,
		MADV_KEEPONFORK,
		20 /* COLD */,
		22 /* POPULATE_READ */,
		23 /* POPULATE_WRITE */,
		103 /* GUARD_REMOVE */,
	};
	uint32_t known = (uint32_t)advice;

	/* One that does not exist yet may do anything. */
	return known > UINT8_MAX ||
	       !memchr(harmless, (int)known, sizeof(harmless));
}

/* Offsets in a file: nothing moves if it only grows. */
static bool fallocate_changes(const struct call *call, wide page)
{
	uint32_t mode = (uint32_t)call->a[1];
	wide offset = call->a[2], length = call->a[3];
	bool shifts =
		mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE);

	if (!(mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_UNSHARE_RANGE)))
		return false;
	if (offset > INT64_MAX || length > INT64_MAX ||
	    offset + length > INT64_MAX || !length)
		return false;
	return shifts ? (page + 1) * PAGE > offset
		      : touches(page, offset, length);
}

static bool changes_with(const struct call *call, wide page, wide size)
{
	const uint64_t *a = call->a;

	switch (call->nr) {
	case SYS_munmap:
		return munmap_changes(call, page);
	case SYS_mprotect:
	case SYS_pkey_mprotect:
		return is_passed(page, a[0], a[1]);
	case SYS_madvise:
		return madvise_changes(a[2]) && is_passed(page, a[0], a[1]);
	case SYS_mmap:
		return mmap_changes(call, page, size);
	case SYS_mremap:
		return mremap_changes(call, page, size);
	case SYS_remap_file_pages:
		return in_range(page, a[0] / PAGE * PAGE, a[1] / PAGE * PAGE) &&
		       !a[2];
	case SYS_brk:
		/* up to where the break is, in whole pages */
		return a[0] && a[0] < LIMIT && page >= up(a[0], PAGE) / PAGE;
	case SYS_shmdt:
		return is_multiple(a[0], PAGE) && a[0] < LIMIT &&
		       page >= a[0] / PAGE;
	case SYS_shmat:
		return a[2] & SHM_REMAP && a[1] >= PAGE && a[1] < LIMIT &&
		       (a[2] & SHM_RND || is_multiple(a[1], PAGE)) &&
		       page >= a[1] / PAGE;
	case SYS_fallocate:
		return fallocate_changes(call, page);
	case SYS_truncate:
	case SYS_ftruncate:
		return a[1] <= INT64_MAX && (page + 1) * PAGE > a[1];
	case SYS_process_madvise:
		return madvise_changes(a[3]) && a[2] && !a[4];
	case SYS_clone:
		return !(a[0] & CLONE_VM);
	case SYS_clone3:
	case SYS_fork:
	case SYS_execve:
	case SYS_execveat:
		return true;
	}
	return false;
}

/* May the call change what is at the page? */
static bool changes(const struct call *call, wide page)
{
	unsigned int i;

	for (i = 0; i < NR_PAGE_SIZES; i++)
		if (changes_with(call, page, page_sizes[i]))
			return true;
	return false;
}

/*
 * Mappings of huge pages move and go as a whole, and whether some are there is not
 * known: wherever they could be all of the last one counts.
 */
static bool mremap_is_allowed(const struct call *call, wide page)
{
	uint64_t old = untagged(call->a[0]), fixed = call->a[3] & MREMAP_FIXED;
	wide rest = up(call->a[2], PAGE), size;
	unsigned int i;

	for (i = 0; i < NR_PAGE_SIZES; i++) {
		size = page_sizes[i];
		if (!is_multiple(old, size) ||
		    (fixed && !is_multiple(call->a[4], size)))
			continue;
		if (!fixed && up(call->a[1], PAGE) > rest &&
		    touches(page, old + rest, up(call->a[1], size) - rest))
			return true;
		if (fixed && (touches(page, old, up(call->a[1], size)) ||
			      touches(page, call->a[4], up(call->a[2], size))))
			return true;
	}
	return false;
}

/*
 * Where the answer may be larger than the truth: calls that the kernel refuses
 * for more than one reason, of which not all are looked at.
 */
static bool is_allowed(const struct call *call, wide page)
{
	struct call other = *call;

	switch (call->nr) {
	case SYS_mmap:
		/* not aligned for the huge pages that were asked for */
		other.a[3] &= ~(uint64_t)MAP_HUGETLB;
		return changes(&other, page);
	case SYS_mremap:
		return mremap_is_allowed(call, page);
	case SYS_mprotect:
	case SYS_pkey_mprotect:
	case SYS_madvise:
		/* it would begin again at 0 */
		return page * PAGE >= untagged(call->a[0]) &&
		       page * PAGE < LIMIT &&
		       (wide)untagged(call->a[0]) + call->a[1] >
			       UINT64_MAX - PAGE;
	case SYS_remap_file_pages:
		/* a protection, or a tag */
		other.a[2] = 0;
		other.a[0] = untagged(call->a[0]);
		return changes(&other, page);
	case SYS_brk:
	case SYS_shmat:
		/* the rest of the first page; an address that is rounded to 0 */
		return page >= call->a[call->nr == SYS_shmat] / PAGE;
	case SYS_process_madvise:
		/* flags that do not exist */
		return true;
	}
	return false;
}

/* What has to be looked up. */
static uint32_t need_of(const struct call *call)
{
	switch (call->nr) {
	case SYS_mmap:
		return may_be_huge_file(call) ? MMN_NEED_FILE_PAGES
					      : MMN_NEED_NOTHING;
	case SYS_madvise:
		/* out of the file, wherever that is mapped */
		return (uint32_t)call->a[2] == MADV_REMOVE ? MMN_NEED_ALIASES
							   : MMN_NEED_NOTHING;
	case SYS_mprotect:
	case SYS_pkey_mprotect:
		return call->a[2] & PROT_GROWSDOWN ? MMN_NEED_GROWSDOWN
						   : MMN_NEED_NOTHING;
	case SYS_brk:
		return MMN_NEED_BREAK;
	case SYS_shmdt:
		return MMN_NEED_SHMDT;
	case SYS_shmat:
		return MMN_NEED_SHMAT;
	case SYS_fallocate:
		return MMN_NEED_FILE;
	case SYS_truncate:
		return MMN_NEED_PATH_SHRINK;
	case SYS_ftruncate:
		return MMN_NEED_FILE_SHRINK;
	case SYS_process_madvise:
		return (uint32_t)call->a[3] == MADV_REMOVE
			       ? MMN_NEED_IOVEC_ALIASES
			       : MMN_NEED_IOVEC;
	case SYS_clone3:
		return MMN_NEED_CLONE_ARGS;
	case SYS_execve:
	case SYS_execveat:
		return MMN_NEED_PROGRAM;
	}
	return MMN_NEED_NOTHING;
}

/* ------------------------------------------------------------------ */
/* The comparison                                                     */
/* ------------------------------------------------------------------ */

static struct mmn_change answer;
static bool is_change;

static bool is_in_answer(wide page)
{
	uint32_t i;

	for (i = 0; is_change && i < answer.nr_spans; i++)
		if (touches(page, answer.span[i].start,
			    (wide)answer.span[i].last - answer.span[i].start +
				    1))
			return true;
	return false;
}

static void check_page(const struct call *call, wide page)
{
	bool is_in = is_in_answer(page);

	if (page >= NR_PAGES)
		return;
	hold(is_in || !changes(call, page), "page %lx is missing",
	     (uint64_t)page);
	hold(!is_in || changes(call, page) || is_allowed(call, page),
	     "page %lx is too many", (uint64_t)page);
}

/* The page of the address, and those beside it. */
static void check_around(const struct call *call, wide addr)
{
	wide page = addr / PAGE;

	if (page)
		check_page(call, page - 1);
	check_page(call, page);
	check_page(call, page + 1);
}

static void check_pages(const struct call *call)
{
	unsigned int i, j, k;

	check_around(call, 0);
	check_around(call, LIMIT);
	check_around(call, UINT64_MAX);
	for (i = 0; i < 6; i++) {
		check_around(call, call->a[i]);
		check_around(call, untagged(call->a[i]));
		for (j = 0; j < 6; j++)
			for (k = 0; k < NR_PAGE_SIZES; k++) {
				wide length = up(call->a[j], page_sizes[k]);

				check_around(call, call->a[i] + length);
				check_around(call,
					     untagged(call->a[i]) + length);
			}
	}
	for (i = 0; is_change && i < answer.nr_spans; i++) {
		check_around(call, answer.span[i].start);
		check_around(call, answer.span[i].last);
	}
}

/* What the source relies on, whatever the call is. */
static void check_form(const struct call *call)
{
	uint32_t i;

	hold(mmn_classify_is_candidate(call->nr), "call %lu", call->nr);
	hold(answer.nr_spans && answer.nr_spans <= 2, "%u spans",
	     answer.nr_spans);
	hold(answer.need == MMN_NEED_NOTHING || answer.nr_spans == 1,
	     "%u spans", answer.nr_spans);
	hold(answer.need == need_of(call), "%u", answer.need);
	hold(answer.event < MMN_NR_EVENTS && answer.call < MMN_NR_CALLS &&
		     answer.call != MMN_CALL_MAP,
	     "event %u of call %u", answer.event, answer.call);
	hold(answer.flags == (call->nr == SYS_madvise &&
					      (uint32_t)call->a[2] == MADV_FREE
				      ? MMN_INVALIDATE_LAZY
			      : call->nr == SYS_process_madvise
				      ? answer.flags & MMN_INVALIDATE_LAZY
				      : 0),
	     "flags %x", answer.flags);
	for (i = 0; i < answer.nr_spans; i++)
		hold(answer.span[i].start <= answer.span[i].last, "%lx to %lx",
		     answer.span[i].start, answer.span[i].last);
}

/* ------------------------------------------------------------------ */
/* Bytes                                                              */
/* ------------------------------------------------------------------ */

/* Numbers that mean something are near each other; see each case. */
static uint64_t next_argument(struct bytes *input)
{
	uint8_t kind = next_byte(input);
	uint64_t word;

	switch (kind & 15) {
	case 0:
		return next_byte(input);
	case 1: /* a page */
		return next_byte(input) * 4096ul;
	case 2: /* near a page */
		word = next_byte(input) * 4096ul;
		return word + (int8_t)next_byte(input);
	case 3: /* near a power of 2 */
		return (UINT64_C(1) << (kind >> 4 << 2)) +
		       (int8_t)next_byte(input);
	case 4:
		return (UINT64_C(1) << (next_byte(input) & 63)) -
		       4096ul * (kind >> 4);
	case 5: /* just below the end */
		return -(uint64_t)next_byte(input) * (kind & 16 ? 4096 : 1);
	case 6: /* a tag */
		return next_word(input, 2) * 4096 | (uint64_t)(kind >> 4) << 57;
	case 7: /* huge pages, and not quite */
		return (uint64_t)(next_byte(input) & 15)
			       << (kind & 16 ? 21 : 30) |
		       (kind >> 5) * 4096ul;
	case 8: /* flags */
		return next_word(input, 4);
	case 9: /* flags of mmap */
		return MAP_FIXED | next_word(input, 1) |
		       (kind & 16 ? MAP_ANONYMOUS : 0) |
		       (kind & 32 ? MAP_HUGETLB : 0) |
		       (kind & 64 ? MAP_FIXED_NOREPLACE : 0);
	case 10:
		return next_word(input, 8);
	default:
		return next_byte(input) & 7;
	}
}

static uint64_t next_number(struct bytes *input)
{
	static const uint16_t numbers[] = {
		SYS_munmap,
		SYS_mmap,
		SYS_mremap,
		SYS_madvise,
		SYS_mprotect,
		SYS_pkey_mprotect,
		SYS_brk,
		SYS_shmdt,
		SYS_shmat,
		SYS_fallocate,
		SYS_truncate,
		SYS_ftruncate,
		SYS_clone,
		SYS_clone3,
		SYS_fork,
		SYS_vfork,
		SYS_execve,
		SYS_execveat,
		SYS_process_madvise,
		SYS_remap_file_pages,
	};
	uint8_t which = next_byte(input);

	/* Those with the longest rules more often than others. */
	if (which >= 0xe0)
		return which & 1 ? SYS_mmap : SYS_mremap;
	if (which >= 0xd0)
		return next_word(input, which & 7);
	return numbers[which % (sizeof(numbers) / sizeof(numbers[0]))];
}

void property(const uint8_t *data, size_t size)
{
	struct bytes input = { data, data + size };
	struct call call;
	unsigned int i;

	call.nr = next_number(&input);
	for (i = 0; i < 6; i++)
		call.a[i] = next_argument(&input);
	is_change = mmn_classify(call.nr, call.a, &answer);
	say("call %lu of %lx %lx %lx %lx %lx %lx", call.nr, call.a[0],
	    call.a[1], call.a[2], call.a[3], call.a[4], call.a[5]);
	if (is_change) {
		for (i = 0; i < answer.nr_spans; i++)
			say("%lx to %lx", answer.span[i].start,
			    answer.span[i].last);
		check_form(&call);
	}
	check_pages(&call);
}

const bool property_keeps_a_thread = false;
const unsigned int property_nr_random = 40000;
const unsigned int property_random_size = 40;

const struct property_example property_examples[] = {
	{ "nothing", "" },
	{ "mmap of huge pages, shorter than one of them",
	  "01 1702 0101 0f03 3902 0000 0000" },
	{ "mmap of a file that may have such",
	  "01 1702 0101 0f03 0902 0000 0000" },
	{ "mremap that takes the second of two huge pages, by a byte",
	  "02 1702 3701 1701 0000" },
	{ "mremap that moves less than a huge page over another",
	  "02 1702 0101 0101 0f03 1705" },
	{ "mremap far above the address space, which looks like a tag",
	  "02 0a7fffffffffff1000 0a00000000000ff000 0a0000000000089000 0000" },
	{ "mremap of no length to a place", "02 0101 0000 0101 0f03 0109" },
	{ "munmap that wraps when it is rounded", "00 0101 0501" },
	{ "munmap of nothing", "00 0101 0000" },
	{ "munmap up to the end of the address space", "00 0438 0801000000" },
	{ "madvise that does not exist yet", "03 0101 0101 00fa" },
	{ "fallocate that collapses, at an odd place",
	  "09 0003 0f01 0008 0203ff" },
	{ NULL, NULL },
};
