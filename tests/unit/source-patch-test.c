/* SPDX-License-Identifier: MIT */
/*
 * What writes the places and what finds the mappings, looked at from inside:
 * which places are refused, which way is taken where the usual one is closed, and
 * that an error leaves every byte as it was.
 */
#include <fcntl.h>
#include <mmn/source.h>
#include <string.h>
#include <sys/mman.h>

#include "source/lookup.h"
#include "source/patch.h"
#include "t/tap.h"
#include "unit/answer-syscall.h"

#define PAGE 4096ul
#define LINE 64u
#define WRITABLE (PROT_READ | PROT_WRITE)

static const uint8_t before[MMN_PATCH_BYTES] = { 0xb8, 0x0b, 0, 0, 0 };
static const uint8_t after[MMN_PATCH_BYTES] = { 0xe9, 1, 2, 3, 4 };

/* A page of text with a place at each of the offsets. */
static uint8_t *make_text(struct mmn_patch *patches, const size_t *offsets,
			  uint32_t nr)
{
	uint8_t *text =
		mmap(NULL, PAGE, WRITABLE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint32_t i;

	t_ne(text, MAP_FAILED);
	for (i = 0; i < nr; i++) {
		memset(&patches[i], 0, sizeof(patches[i]));
		patches[i].at = text + offsets[i];
		patches[i].text_start = (uintptr_t)text;
		patches[i].text_last = (uintptr_t)text + PAGE - 1;
		memcpy(patches[i].old, before, sizeof(before));
		memcpy(patches[i].new, after, sizeof(after));
		memcpy(patches[i].at, before, sizeof(before));
	}
	t_eq(mprotect(text, PAGE, PROT_READ | PROT_EXEC), 0);
	return text;
}

static void close_proc_mem(void)
{
	answer_syscall_if(SYS_openat, 2, O_RDWR | O_CLOEXEC, EACCES);
}

static void close_mprotect(void)
{
	answer_syscall_if(SYS_mprotect, 2, WRITABLE, EACCES);
	answer_syscall_if(SYS_mprotect, 2, WRITABLE | PROT_EXEC, EACCES);
}

TEST(a_place_across_two_cache_lines_is_refused_only_under_threads)
{
	static const size_t offsets[] = { LINE - 1, 2 * LINE, 4 * LINE - 2 };
	struct mmn_patch patches[3];
	uint8_t *text = make_text(patches, offsets, 3);
	uint32_t mode = 0;

	t_err(mmn_patch_write(patches, 3, true, &mode), 0);
	t_eq(mode, MMN_WRITE_MPROTECT);
	t_eq(patches[0].reason, MMN_REFUSE_CACHE_LINE);
	t_memeq(patches[0].at, before, sizeof(before));
	/* The two bytes that one store changes are in one line here. */
	t_eq(patches[1].reason, MMN_REFUSE_NONE);
	t_memeq(patches[1].at, after, sizeof(after));
	t_eq(patches[2].reason, MMN_REFUSE_NONE);
	t_memeq(patches[2].at, after, sizeof(after));

	t_err(mmn_patch_write(patches, 1, false, &mode), 0);
	t_eq(mode, MMN_WRITE_PROC_MEM);
	t_eq(patches[0].reason, MMN_REFUSE_NONE);
	t_memeq(patches[0].at, after, sizeof(after));
	t_eq(munmap(text, PAGE), 0);
}

TEST(a_place_that_somebody_else_has_rewritten_is_left_to_them)
{
	static const size_t offsets[] = { 0, LINE };
	static const uint8_t theirs[MMN_PATCH_BYTES] = { 0xcc, 0x0b, 0, 0, 0 };
	struct mmn_patch patches[2];
	uint8_t *text = make_text(patches, offsets, 2);
	uint32_t mode;

	t_eq(mprotect(text, PAGE, WRITABLE), 0);
	memcpy(patches[0].at, theirs, sizeof(theirs));
	t_eq(mprotect(text, PAGE, PROT_READ | PROT_EXEC), 0);
	t_err(mmn_patch_write(patches, 2, false, &mode), 0);
	t_eq(patches[0].reason, MMN_REFUSE_WRITE);
	t_memeq(patches[0].at, theirs, sizeof(theirs));
	t_eq(patches[1].reason, MMN_REFUSE_NONE);
	t_memeq(patches[1].at, after, sizeof(after));
	t_eq(munmap(text, PAGE), 0);
}

TEST(where_proc_mem_is_closed_one_thread_writes_by_mprotect)
{
	static const size_t offsets[] = { 0, LINE - 1 };
	struct mmn_patch patches[2];
	uint8_t *text = make_text(patches, offsets, 2);
	uint32_t mode = 0;

	close_proc_mem();
	t_err(mmn_patch_write(patches, 2, false, &mode), 0);
	t_eq(mode, MMN_WRITE_MPROTECT);
	t_memeq(patches[0].at, after, sizeof(after));
	t_memeq(patches[1].at, after, sizeof(after));
	t_eq(munmap(text, PAGE), 0);
}

TEST(text_that_cannot_be_written_in_any_way_is_an_error_without_effect)
{
	static const size_t offsets[] = { 0, LINE };
	struct mmn_patch patches[2];
	uint8_t *text = make_text(patches, offsets, 2);
	uint32_t mode = 9;

	close_proc_mem();
	close_mprotect();
	t_err(mmn_patch_write(patches, 2, false, &mode), -EPERM);
	t_err(mmn_patch_write(patches, 2, true, &mode), -EPERM);
	t_eq(mode, 9);
	t_memeq(patches[0].at, before, sizeof(before));
	t_memeq(patches[1].at, before, sizeof(before));
	t_eq(munmap(text, PAGE), 0);
}

TEST(a_write_that_stops_in_the_middle_falls_back_and_is_complete)
{
	static const size_t offsets[] = { 0, LINE, 2 * LINE };
	struct mmn_patch patches[3];
	uint8_t *text = make_text(patches, offsets, 3);
	uint32_t mode = 0, i;

	/* The second place, through /proc/self/mem. */
	answer_syscall_if(SYS_pwrite64, 3, (uint32_t)(uintptr_t)patches[1].at,
			  EIO);
	t_err(mmn_patch_write(patches, 3, false, &mode), 0);
	t_eq(mode, MMN_WRITE_MPROTECT);
	for (i = 0; i < 3; i++)
		t_memeq(patches[i].at, after, sizeof(after));
	t_eq(munmap(text, PAGE), 0);
}

TEST(a_write_that_stops_in_the_middle_is_undone)
{
	static const size_t offsets[] = { 0, LINE, 2 * LINE };
	struct mmn_patch patches[3];
	uint8_t *text = make_text(patches, offsets, 3);
	uint32_t mode, i;

	answer_syscall_if(SYS_pwrite64, 3, (uint32_t)(uintptr_t)patches[1].at,
			  EIO);
	close_mprotect();
	t_err(mmn_patch_write(patches, 3, false, &mode), -EPERM);
	for (i = 0; i < 3; i++)
		t_memeq(patches[i].at, before, sizeof(before));
	t_eq(munmap(text, PAGE), 0);
}

TEST(text_that_was_always_writable_stays_so)
{
	static const size_t offsets[] = { LINE };
	struct mmn_patch patch;
	uint8_t *text = make_text(&patch, offsets, 1);
	uint32_t mode;

	patch.text_prot = PROT_WRITE;
	t_eq(mprotect(text, PAGE, WRITABLE | PROT_EXEC), 0);
	t_err(mmn_patch_write(&patch, 1, true, &mode), 0);
	t_memeq(patch.at, after, sizeof(after));
	*(volatile uint8_t *)text = 1;
	t_eq(munmap(text, PAGE), 0);
}

TEST(text_of_places_that_are_left_alone_keeps_its_protection)
{
	static const size_t offsets[] = { LINE };
	struct mmn_patch patch;
	uint8_t *text = make_text(&patch, offsets, 1);
	uint32_t mode;

	t_eq(mprotect(text, PAGE, WRITABLE), 0);
	*patch.at = 0;
	t_err(mmn_patch_write(&patch, 1, true, &mode), 0);
	t_eq(patch.reason, MMN_REFUSE_WRITE);
	*(volatile uint8_t *)text = 1;
	t_err(mmn_patch_write(&patch, 1, false, &mode), 0);
	*(volatile uint8_t *)text = 1;
	t_eq(munmap(text, PAGE), 0);
}

TEST(threads_that_cannot_be_synchronised_are_an_error_without_effect)
{
	static const size_t offsets[] = { 0 };
	struct mmn_patch patch;
	uint8_t *text = make_text(&patch, offsets, 1);
	uint32_t mode;

	answer_syscall(SYS_membarrier, ENOSYS);
	t_err(mmn_patch_write(&patch, 1, true, &mode), -ENOTSUP);
	t_memeq(patch.at, before, sizeof(before));
	t_eq(munmap(text, PAGE), 0);
}

/* ---- the mappings ---- */

struct seen {
	uintptr_t from;
	uintptr_t last;
	uint32_t nr;
	struct mmn_vma vma[16];
};

static bool note_vma(void *arg, const struct mmn_vma *vma)
{
	struct seen *seen = arg;

	if (vma->start > seen->last)
		return false;
	seen->vma[seen->nr++] = *vma;
	return seen->nr < 16;
}

static void walk(struct seen *seen, uint8_t *from, bool only_files)
{
	memset(seen, 0, sizeof(*seen));
	seen->last = (uintptr_t)from + 8 * PAGE - 1;
	t_err(mmn_lookup_walk((uintptr_t)from, only_files, note_vma, seen), 0);
}

static void is_same(const struct seen *a, const struct seen *b)
{
	uint32_t i;

	t_eq(a->nr, b->nr);
	for (i = 0; i < a->nr; i++) {
		t_eq(a->vma[i].start, b->vma[i].start);
		t_eq(a->vma[i].last, b->vma[i].last);
		t_eq(a->vma[i].offset, b->vma[i].offset);
		t_eq(a->vma[i].inode, b->vma[i].inode);
		t_eq(a->vma[i].is_exec, b->vma[i].is_exec);
	}
}

TEST(the_text_of_the_mappings_says_what_the_query_says)
{
	struct seen query[2], text[2];
	uint8_t *p = mmap(NULL, 8 * PAGE, WRITABLE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	t_ne(p, MAP_FAILED);
	t_ge(fd, 0);
	/* anonymous, text, a hole, a file at an offset, a hole, anonymous */
	t_eq(mprotect(p + PAGE, PAGE, PROT_READ | PROT_EXEC), 0);
	t_eq(munmap(p + 2 * PAGE, PAGE), 0);
	t_ne(mmap(p + 3 * PAGE, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED,
		  fd, (off_t)(2 * PAGE)),
	     MAP_FAILED);
	t_eq(munmap(p + 5 * PAGE, PAGE), 0);
	close(fd);
	walk(&query[0], p, false);
	walk(&query[1], p, true);
	t_eq(query[0].nr, 4);
	t_eq(query[1].nr, 1);
	/* Linux before 6.11 */
	answer_syscall(SYS_ioctl, ENOTTY);
	walk(&text[0], p, false);
	walk(&text[1], p, true);
	is_same(&query[0], &text[0]);
	is_same(&query[1], &text[1]);
	t_eq(text[0].vma[1].is_exec, true);
	t_eq(text[1].vma[0].start, (uintptr_t)p + 3 * PAGE);
	t_eq(text[1].vma[0].offset, 2 * PAGE);
	t_eq(munmap(p, 8 * PAGE), 0);
}
