/* SPDX-License-Identifier: MIT */
#ifndef MMN_SOURCE_CLASSIFY_H
#define MMN_SOURCE_CLASSIFY_H
/*
 * Which bytes of the address space does a system call change?
 *
 * Pure arithmetic on the registers of the call: no memory of the program is
 * read, nothing is asked of the kernel.  Where the registers do not tell, @need
 * says what has to be looked up (lookup.h).
 *
 * The rules are the kernel's: lengths are rounded up to pages, calls that it is
 * going to refuse change nothing.  Where it is not certain that a call will
 * be refused it counts as a change: an event too many costs time, one too few
 * is a stale entry.
 */
#include <stdbool.h>
#include <stdint.h>

#define MMN_PAGE_SIZE 4096ul

/* More ranges in one call than this are told as one around all of them. */
#define MMN_MAX_SPANS 4u

/* What has to be looked up before the ranges are known. */
enum mmn_need {
	MMN_NEED_NOTHING,
	/* where the break is now; span[0].start is where it is to go */
	MMN_NEED_BREAK,
	/* the extent of the segment attached at span[0].start */
	MMN_NEED_SHMDT,
	/* the size of segment @id, to be attached at span[0].start */
	MMN_NEED_SHMAT,
	/* mappings of open file @id, from file offset span[0].start to .last */
	MMN_NEED_FILE,
	/* same if it is longer than span[0].start */
	MMN_NEED_FILE_SHRINK,
	/* same, of the file with the name at address @id */
	MMN_NEED_PATH_SHRINK,
	/* where the mapping that grows down around span[0] starts */
	MMN_NEED_GROWSDOWN,
	/* the ranges are in memory, and the process may be another */
	MMN_NEED_IOVEC,
	/* the same, and what MMN_NEED_ALIASES needs */
	MMN_NEED_IOVEC_ALIASES,
	/* where else the files are mapped that are mapped in span[0] */
	MMN_NEED_ALIASES,
	/* the size of the pages of open file @id: span[0] is in small ones */
	MMN_NEED_FILE_PAGES,
	/* the flags are in memory at address @id */
	MMN_NEED_CLONE_ARGS,
	/* whether there is such a program at all */
	MMN_NEED_PROGRAM,
};

struct mmn_span {
	uintptr_t start;
	uintptr_t last;
};

struct mmn_change {
	/* MMN_CALL_* */
	uint32_t call;
	/* MMN_EVENT_* */
	uint32_t event;
	/* MMN_INVALIDATE_LAZY or 0 */
	uint32_t flags;
	/* enum mmn_need */
	uint32_t need;
	uint64_t id;
	uint32_t nr_spans;
	struct mmn_span span[MMN_MAX_SPANS];
};

/* Could a call with this number change memory?  One bit test. */
bool mmn_classify_is_candidate(uint64_t nr);

/*
 * True when the call may change memory; then *@change is filled in.  False: let
 * it pass.  MMN_CALL_MAP is never the answer.
 */
bool mmn_classify(uint64_t nr, const uint64_t args[6],
		  struct mmn_change *change);

/* Does this mmap() make code of a file appear, in a copy of our own? */
bool mmn_classify_maps_code(uint64_t nr, const uint64_t args[6]);

/* Does madvise() with this advice change what is mapped? */
bool mmn_classify_advice(uint64_t advice, uint32_t *ret_event,
			 uint32_t *ret_flags);

/*
 * [addr, addr + length) in whole pages.  False when the kernel refuses such a
 * range, or does nothing with it.
 */
bool mmn_classify_span(uint64_t addr, uint64_t length, struct mmn_span *ret);

/* As mmn_classify_span(), for calls that do what they can before they fail. */
bool mmn_classify_reach(uint64_t addr, uint64_t length, struct mmn_span *ret);

/*
 * @length in whole pages of the largest size that may be mapped at @addr: the
 * kernel rounds like this where huge pages are reserved (hugetlbfs), and at such
 * addresses only.
 */
uint64_t mmn_classify_round_up(uint64_t addr, uint64_t length);

/* Adds a range; the last slot takes the hull of what does not fit. */
void mmn_change_add(struct mmn_change *change, uintptr_t start, uintptr_t last);

/* All of the address space. */
void mmn_change_whole(struct mmn_change *change);

#endif
