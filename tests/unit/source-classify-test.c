/* SPDX-License-Identifier: MIT */
/*
 * Which bytes does a call change?  One table per call, the kernel's rules.
 */
#include <linux/falloc.h>
#include <mmn/notifier.h>
#include <mmn/source.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>

#include "source/classify.h"
#include "source/scan.h"
#include "t/tap.h"

#define A 0x10000ul
#define P 4096ul
/* Where a huge page may be mapped, and a giant one. */
#define H 0x40200000ul
#define G 0x80000000ul
#define HUGE (1ul << 21)
#define GIANT (1ul << 30)
#define END (1ul << 56)
#define HUGETLB 0x40000
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define NOREPLACE 0x100000
#define DONTUNMAP 4
#define ALL UINTPTR_MAX

struct row {
	const char *what;
	uint64_t nr;
	uint64_t args[6];
	bool is_change;
	uint32_t call;
	uint32_t event;
	uint32_t need;
	uint32_t nr_spans;
	struct mmn_span span[2];
};

static void check_rows(const struct row *rows, size_t count)
{
	struct mmn_change change;
	const struct row *row;
	uint32_t i;

	for (row = rows; row < rows + count; row++) {
		bool is_change = mmn_classify(row->nr, row->args, &change);

		t_note("%s", row->what);
		t_eq(is_change, row->is_change);
		if (!is_change)
			continue;
		t_ok(mmn_classify_is_candidate(row->nr));
		t_eq(change.call, row->call);
		t_eq(change.event, row->event);
		t_eq(change.need, row->need);
		t_eq(change.nr_spans, row->nr_spans);
		for (i = 0; i < row->nr_spans; i++) {
			t_eq(change.span[i].start, row->span[i].start);
			t_eq(change.span[i].last, row->span[i].last);
		}
	}
}

#define CHECK_ROWS(rows) check_rows((rows), sizeof(rows) / sizeof((rows)[0]))

#define NO(text, number, ...)                                     \
	{                                                         \
		text, number, { __VA_ARGS__ }, .is_change = false \
	}
#define YES(text, number, arguments, c, e, n, ...)                        \
	{                                                                 \
		.what = text, .nr = number, .args = arguments,            \
		.is_change = true, .call = MMN_CALL_##c,                  \
		.event = MMN_EVENT_##e, .need = MMN_NEED_##n, __VA_ARGS__ \
	}
#define ARGS(...)           \
	{                   \
		__VA_ARGS__ \
	}
#define ONE(a, b) .nr_spans = 1, .span = { { (a), (b) } }
#define TWO(a, b, c, d) .nr_spans = 2, .span = { { (a), (b) }, { (c), (d) } }

TEST(munmap_takes_whole_pages)
{
	static const struct row rows[] = {
		YES("one byte", SYS_munmap, ARGS(A, 1), MUNMAP, UNMAP, NOTHING,
		    ONE(A, A + P - 1)),
		YES("a page and a byte", SYS_munmap, ARGS(A, P + 1), MUNMAP,
		    UNMAP, NOTHING, ONE(A, A + 2 * P - 1)),
		YES("page 0", SYS_munmap, ARGS(0, P), MUNMAP, UNMAP, NOTHING,
		    ONE(0, P - 1)),
		YES("a tagged address", SYS_munmap, ARGS(A | 1ul << 57, P),
		    MUNMAP, UNMAP, NOTHING, ONE(A, A + P - 1)),
		NO("unaligned", SYS_munmap, A + 1, P),
		NO("empty", SYS_munmap, A, 0),
		NO("wraps when rounded", SYS_munmap, A, UINT64_MAX),
		NO("beyond the address space", SYS_munmap, 1ul << 56, P),
		NO("into the kernel", SYS_munmap, UINT64_MAX - P + 1, P),
	};

	CHECK_ROWS(rows);
}

TEST(mmap_is_a_change_only_when_it_may_replace_something)
{
	static const struct row rows[] = {
		YES("fixed", SYS_mmap, ARGS(A, P + 1, 0, ANON | MAP_FIXED),
		    MMAP_FIXED, UNMAP, NOTHING, ONE(A, A + 2 * P - 1)),
		YES("a huge page", SYS_mmap,
		    ARGS(H, P, 0, ANON | MAP_FIXED | HUGETLB), MMAP_FIXED,
		    UNMAP, NOTHING, ONE(H, H + HUGE - 1)),
		YES("a giant page", SYS_mmap,
		    ARGS(G, P, 0, ANON | MAP_FIXED | HUGETLB), MMAP_FIXED,
		    UNMAP, NOTHING, ONE(G, G + GIANT - 1)),
		YES("a small page at such an address", SYS_mmap,
		    ARGS(H, P, 0, ANON | MAP_FIXED), MMAP_FIXED, UNMAP, NOTHING,
		    ONE(H, H + P - 1)),
		YES("a file, perhaps of huge pages", SYS_mmap,
		    ARGS(H, P, 0, MAP_SHARED | MAP_FIXED, 3, 0), MMAP_FIXED,
		    UNMAP, FILE_PAGES, ONE(H, H + P - 1)),
		YES("a file of pages of any size", SYS_mmap,
		    ARGS(H, HUGE, 0, MAP_SHARED | MAP_FIXED, 3, 0), MMAP_FIXED,
		    UNMAP, NOTHING, ONE(H, H + HUGE - 1)),
		NO("a hint", SYS_mmap, A, P, 0, ANON),
		NO("fixed, but replaces nothing", SYS_mmap, A, P, 0,
		   ANON | MAP_FIXED | NOREPLACE),
		NO("replaces nothing", SYS_mmap, A, P, 0, ANON | NOREPLACE),
		NO("unaligned", SYS_mmap, A + 8, P, 0, ANON | MAP_FIXED),
		NO("empty", SYS_mmap, A, 0, 0, ANON | MAP_FIXED),
		NO("offset inside a page", SYS_mmap, A, P, 0,
		   MAP_PRIVATE | MAP_FIXED, 3, 1),
	};

	CHECK_ROWS(rows);
}

TEST(mremap_names_what_is_left_and_what_is_covered)
{
	const uint64_t move = MREMAP_MAYMOVE, fix = move | MREMAP_FIXED;
	const uint64_t b = 0x80000;
	const struct row rows[] = {
		YES("shrinks in place", SYS_mremap, ARGS(A, 4 * P, P, 0),
		    MREMAP, UNMAP, NOTHING, ONE(A + P, A + 4 * P - 1)),
		YES("shrinks in place, may move", SYS_mremap,
		    ARGS(A, 4 * P, P + 1, move), MREMAP, UNMAP, NOTHING,
		    ONE(A + 2 * P, A + 4 * P - 1)),
		YES("grows, may move", SYS_mremap, ARGS(A, P, 4 * P, move),
		    MREMAP, UNMAP, NOTHING, ONE(A, A + P - 1)),
		YES("to a place", SYS_mremap, ARGS(A, P, 2 * P, fix, b), MREMAP,
		    UNMAP, NOTHING, TWO(b, b + 2 * P - 1, A, A + P - 1)),
		YES("shrinks to a place", SYS_mremap, ARGS(A, 2 * P, P, fix, b),
		    MREMAP, UNMAP, NOTHING,
		    TWO(b, b + P - 1, A, A + 2 * P - 1)),
		YES("leaves the old mapping empty", SYS_mremap,
		    ARGS(A, P, P, move | DONTUNMAP), MREMAP, UNMAP, NOTHING,
		    ONE(A, A + P - 1)),
		YES("a second view at a place", SYS_mremap,
		    ARGS(A, 0, P, fix, b), MREMAP, UNMAP, NOTHING,
		    ONE(b, b + P - 1)),
		YES("huge pages to a place", SYS_mremap,
		    ARGS(H, P, P, fix, H + 4 * HUGE), MREMAP, UNMAP, NOTHING,
		    TWO(H + 4 * HUGE, H + 5 * HUGE - 1, H, H + HUGE - 1)),
		YES("to a place where no huge page may be", SYS_mremap,
		    ARGS(H, P, P, fix, b), MREMAP, UNMAP, NOTHING,
		    TWO(b, b + P - 1, H, H + P - 1)),
		YES("the last of huge pages", SYS_mremap,
		    ARGS(H, HUGE + P, P, 0), MREMAP, UNMAP, NOTHING,
		    ONE(H + P, H + 2 * HUGE - 1)),
		NO("a second view", SYS_mremap, A, 0, P, move),
		NO("grows in place", SYS_mremap, A, P, 2 * P, 0),
		NO("same length", SYS_mremap, A, P, P, 0),
		NO("same pages", SYS_mremap, A, P, P - 5, move),
		NO("to nothing", SYS_mremap, A, P, 0, 0),
		NO("unaligned", SYS_mremap, A + 1, P, 2 * P, move),
		NO("fixed without may move", SYS_mremap, A, P, P, MREMAP_FIXED,
		   b),
		NO("far above the address space", SYS_mremap,
		   0x01fffffffffff000, 0xff000, 0x89000, 0),
		NO("unknown flag", SYS_mremap, A, 2 * P, P, 8),
		NO("to an unaligned place", SYS_mremap, A, P, P, fix, b + 1),
		NO("dontunmap of another length", SYS_mremap, A, P, 2 * P,
		   move | DONTUNMAP),
	};

	CHECK_ROWS(rows);
}

/* ---- functions that cannot be read to their end ---- */

#define HEADER 0x100u
#define ENTRY 0x200u
#define CODE 0x400u

static const uint8_t call_munmap[] = { 0xb8, 0x0b, 0, 0, 0, 0x0f, 0x05 };

struct places {
	uint32_t nr;
	uint32_t nr_written;
	uint32_t nr_unknown;
};

static void count_place(void *arg, const struct mmn_found *site)
{
	struct places *places = arg;

	places->nr++;
	places->nr_written += site->reason == MMN_REFUSE_NONE;
	places->nr_unknown += site->is_unknown;
}

static void put(uint8_t *image, uint32_t at, uint32_t value)
{
	memcpy(image + at, &value, sizeof(value));
}

/* An object of one function, with its entry in .eh_frame_hdr. */
static struct places scan(const uint8_t *code, uint32_t size)
{
	static const uint8_t encodings[] = { 1, 0x1b, 0x03, 0x3b };
	static uint8_t bytes[4096];
	struct mmn_image image = {
		.nr_segments = 1,
		.segment = { { .size = sizeof(bytes),
			       .bytes = bytes,
			       .is_exec = true } },
		.unwind_vaddr = HEADER,
	};
	struct places places = { 0 };

	memset(bytes, 0, sizeof(bytes));
	memcpy(bytes + HEADER, encodings, sizeof(encodings));
	put(bytes, HEADER + 8, 1);
	put(bytes, HEADER + 12, CODE - HEADER);
	put(bytes, HEADER + 16, ENTRY - HEADER);
	put(bytes, ENTRY + 8, CODE - (ENTRY + 8));
	put(bytes, ENTRY + 12, size);
	memcpy(bytes + CODE, code, size);
	mmn_scan_image(&image, count_place, &places);
	return places;
}

TEST(calls_behind_what_is_no_instruction_are_counted)
{
	uint8_t code[32] = { 0 };
	struct places places;

	memcpy(code, call_munmap, 7);
	memcpy(code + 8, call_munmap, 7);
	memset(code + 15, 0xc3, sizeof(code) - 15);
	code[7] = 0x90;
	places = scan(code, sizeof(code));
	t_eq(places.nr, 2);
	t_eq(places.nr_written, 2);
	/* there is none with this first byte; what follows may lead anywhere */
	code[7] = 0x06;
	places = scan(code, sizeof(code));
	t_eq(places.nr, 2);
	t_eq(places.nr_written, 0);
	t_eq(places.nr_unknown, 1);
}

TEST(calls_of_a_function_that_makes_too_many_are_counted)
{
	uint8_t code[40 * sizeof(call_munmap) + 1];
	struct places places;
	uint32_t i;

	for (i = 0; i < 40; i++)
		memcpy(code + 7ul * i, call_munmap, 7);
	code[sizeof(code) - 1] = 0xc3;
	places = scan(code, sizeof(code));
	t_eq(places.nr, 40);
	t_ge(places.nr_written, 20);
	t_eq(places.nr_written + places.nr_unknown, 40);
}

TEST(madvise_is_a_change_by_its_advice)
{
	static const uint8_t none[] = { 0,  1,	2,  3,	10, 11, 12, 14, 15,
					16, 17, 18, 19, 20, 22, 23, 103 };
	uint64_t args[6] = { A, P }, advice;
	struct mmn_change change;

	for (advice = 0; advice < 200; advice++) {
		args[2] = advice;
		t_eq(mmn_classify(SYS_madvise, args, &change),
		     !memchr(none, (int)advice, sizeof(none)));
	}
	args[2] = MADV_FREE;
	t_ok(mmn_classify(SYS_madvise, args, &change));
	t_eq(change.flags, MMN_INVALIDATE_LAZY);
	t_eq(change.event, MMN_EVENT_CLEAR);
	args[2] = MADV_DONTNEED;
	t_ok(mmn_classify(SYS_madvise, args, &change));
	t_eq(change.flags, 0);
	t_eq(change.span[0].start, A);
	t_eq(change.span[0].last, A + P - 1);
	args[0] = A + 1;
	t_ok(!mmn_classify(SYS_madvise, args, &change));
	args[0] = A;
	args[1] = 0;
	t_ok(!mmn_classify(SYS_madvise, args, &change));
}

TEST(protection_changes_are_told_as_such)
{
	static const struct row rows[] = {
		YES("mprotect", SYS_mprotect, ARGS(A, 1, PROT_READ), MPROTECT,
		    PROTECTION_VMA, NOTHING, ONE(A, A + P - 1)),
		YES("pkey_mprotect", SYS_pkey_mprotect, ARGS(A, P, 0, 1),
		    MPROTECT, PROTECTION_VMA, NOTHING, ONE(A, A + P - 1)),
		YES("of a stack", SYS_mprotect,
		    ARGS(A, P, PROT_READ | PROT_GROWSDOWN), MPROTECT,
		    PROTECTION_VMA, GROWSDOWN, ONE(A, A + P - 1)),
		YES("further than there is memory", SYS_mprotect,
		    ARGS(A, 1ul << 60, PROT_READ), MPROTECT, PROTECTION_VMA,
		    NOTHING, ONE(A, END - 1)),
		NO("so far that it wraps", SYS_mprotect, A, UINT64_MAX,
		   PROT_READ),
		NO("empty", SYS_mprotect, A, 0, PROT_READ),
		NO("unaligned", SYS_mprotect, A + 1, P, PROT_READ),
	};

	CHECK_ROWS(rows);
}

TEST(calls_whose_ranges_are_elsewhere_say_what_to_look_up)
{
	static const struct row rows[] = {
		YES("brk", SYS_brk, ARGS(A), BRK, UNMAP, BREAK, ONE(A, ALL)),
		NO("brk that only asks", SYS_brk, 0),
		YES("shmdt", SYS_shmdt, ARGS(A), SHMDT, UNMAP, SHMDT,
		    ONE(A, ALL)),
		NO("shmdt, unaligned", SYS_shmdt, A + 1),
		YES("shmat over", SYS_shmat, ARGS(7, A, SHM_REMAP), SHMAT,
		    UNMAP, SHMAT, ONE(A, ALL)),
		YES("shmat over, rounded", SYS_shmat,
		    ARGS(7, A + 5, SHM_REMAP | SHM_RND), SHMAT, UNMAP, SHMAT,
		    ONE(A, ALL)),
		NO("shmat over, unaligned", SYS_shmat, 7, A + 5, SHM_REMAP),
		NO("shmat over nothing", SYS_shmat, 7, 0, SHM_REMAP),
		NO("shmat", SYS_shmat, 7, A, 0),
		YES("process_madvise", SYS_process_madvise,
		    ARGS(3, A, 1, MADV_PAGEOUT), PROCESS_MADVISE, CLEAR, IOVEC,
		    ONE(0, ALL)),
		NO("process_madvise of no range", SYS_process_madvise, 3, A, 0,
		   MADV_PAGEOUT),
		NO("process_madvise cold", SYS_process_madvise, 3, A, 1, 20),
	};

	CHECK_ROWS(rows);
}

TEST(remap_file_pages_rounds_down)
{
	static const struct row rows[] = {
		YES("inside pages", SYS_remap_file_pages,
		    ARGS(A + 5, 2 * P + 5), REMAP_FILE_PAGES, UNMAP, NOTHING,
		    ONE(A, A + 2 * P - 1)),
		NO("less than a page", SYS_remap_file_pages, A, P - 1),
	};

	CHECK_ROWS(rows);
}

TEST(file_changes_count_when_they_take_pages_out)
{
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	const struct row rows[] = {
		YES("punch", SYS_fallocate, ARGS(3, punch, P + 1, P), FALLOCATE,
		    CLEAR, FILE, ONE(P, 3 * P - 1)),
		YES("zero", SYS_fallocate, ARGS(3, FALLOC_FL_ZERO_RANGE, 0, P),
		    FALLOCATE, CLEAR, FILE, ONE(0, P - 1)),
		YES("collapse", SYS_fallocate,
		    ARGS(3, FALLOC_FL_COLLAPSE_RANGE, P, P), FALLOCATE, CLEAR,
		    FILE, ONE(P, ALL)),
		YES("insert", SYS_fallocate,
		    ARGS(3, FALLOC_FL_INSERT_RANGE, P, P), FALLOCATE, CLEAR,
		    FILE, ONE(P, ALL)),
		YES("a mode of the future", SYS_fallocate, ARGS(3, 0x80, 0, P),
		    FALLOCATE, CLEAR, FILE, ONE(0, P - 1)),
		NO("allocate", SYS_fallocate, 3, 0, 0, P),
		NO("keep size", SYS_fallocate, 3, FALLOC_FL_KEEP_SIZE, 0, P),
		NO("negative", SYS_fallocate, 3, punch, UINT64_MAX, P),
		NO("empty", SYS_fallocate, 3, punch, 0, 0),
		YES("ftruncate", SYS_ftruncate, ARGS(3, 5), TRUNCATE, CLEAR,
		    FILE_SHRINK, ONE(5, ALL)),
		YES("truncate", SYS_truncate, ARGS(A, 5), TRUNCATE, CLEAR,
		    PATH_SHRINK, ONE(5, ALL)),
		NO("ftruncate, negative", SYS_ftruncate, 3, UINT64_MAX),
	};

	CHECK_ROWS(rows);
}

TEST(copies_of_the_process_are_forks_and_sharers_are_not)
{
	static const struct row rows[] = {
		YES("fork", SYS_fork, ARGS(0), FORK, PROTECTION_PAGE, NOTHING,
		    ONE(0, ALL)),
		YES("clone", SYS_clone, ARGS(17), FORK, PROTECTION_PAGE,
		    NOTHING, ONE(0, ALL)),
		YES("clone3", SYS_clone3, ARGS(A, 88), FORK, PROTECTION_PAGE,
		    CLONE_ARGS, ONE(0, ALL)),
		NO("vfork", SYS_vfork, 0),
		NO("a thread", SYS_clone, CLONE_VM | CLONE_THREAD),
		NO("posix_spawn", SYS_clone, CLONE_VM | CLONE_VFORK | 17),
		YES("execve", SYS_execve, ARGS(A), EXEC, UNMAP, PROGRAM,
		    ONE(0, ALL)),
		YES("execveat", SYS_execveat, ARGS(3, A), EXEC, UNMAP, PROGRAM,
		    ONE(0, ALL)),
	};

	CHECK_ROWS(rows);
}

TEST(other_calls_are_no_candidates)
{
	static const uint64_t nrs[] = {
		SYS_read,
		SYS_write,
		SYS_futex,
		SYS_exit_group,
		SYS_rt_sigreturn,
		SYS_mlock,
		SYS_msync,
		511,
		512,
		4096,
		UINT32_MAX,
		SYS_mmap + 0x40000000ul,
	};
	const uint64_t args[6] = { A, P };
	struct mmn_change change;
	size_t i;

	for (i = 0; i < sizeof(nrs) / sizeof(nrs[0]); i++) {
		t_ok(!mmn_classify_is_candidate(nrs[i]));
		t_ok(!mmn_classify(nrs[i], args, &change));
	}
}

TEST(too_many_ranges_become_one_around_them)
{
	struct mmn_change change = { .nr_spans = 0 };
	uintptr_t i;

	for (i = 0; i < MMN_MAX_SPANS + 3; i++)
		mmn_change_add(&change, (10 - i) * A, (10 - i) * A + P - 1);
	t_eq(change.nr_spans, MMN_MAX_SPANS);
	t_eq(change.span[0].start, 10 * A);
	t_eq(change.span[MMN_MAX_SPANS - 1].start, (10 - (i - 1)) * A);
	t_eq(change.span[MMN_MAX_SPANS - 1].last,
	     (10 - MMN_MAX_SPANS + 1) * A + P - 1);
	mmn_change_whole(&change);
	t_eq(change.nr_spans, 1);
	t_eq(change.span[0].start, 0);
	t_eq(change.span[0].last, ALL);
}
