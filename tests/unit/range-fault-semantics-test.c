/* SPDX-License-Identifier: MIT */
/*
 * The range fault: which word each kind of page gets under each request, errors,
 * collisions, and the same with every facility of newer kernels refused.
 */
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <mmn/inject.h>

#include "unit/answer-syscall.h"
#include "unit/mirror-help.h"

#define FAULT MMN_PFN_REQ_FAULT
#define WRITE MMN_PFN_REQ_WRITE
#define MARKS MMN_PFN_STICKY

/* Every combination of facilities must give the same answers. */
static const uint32_t without[] = {
	0,
	MMN_PAGES_NO_QUERY,
	MMN_PAGES_NO_SCAN,
	MMN_PAGES_NO_POPULATE,
	MMN_PAGES_NO_QUERY | MMN_PAGES_NO_SCAN | MMN_PAGES_NO_POPULATE,
};

enum { NR_WITHOUT = sizeof(without) / sizeof(without[0]) };

static struct mmn_pages *open_without(uint32_t flags)
{
	struct mmn_pages_config config = { sizeof(config), flags };
	struct mmn_pages *pages = NULL;

	keep_arena();
	t_err(mmn_pages_open(&config, &pages), 0);
	t_eq(mmn_pages_missing(pages) & flags, flags);
	return pages;
}

static int fault(struct mmn_pages *pages, void *start, size_t nr,
		 uint64_t *words, uint64_t request, uintptr_t *ret_next)
{
	struct mmn_range_fault f = {
		.size = sizeof(f),
		.start = (uintptr_t)start,
		.last = last_of(start, nr),
		.words = words,
		.default_flags = request,
	};
	int err = mmn_range_fault(pages, &f);

	if (ret_next)
		*ret_next = f.next;
	return err;
}

/* A word without frame and order, which depend on the machine. */
static uint64_t state_of(uint64_t word)
{
	return word & ~(MMN_PFN_FRAME_MASK | MMN_PFN_ORDER_MASK);
}

static uint64_t resident(void *start, size_t nr)
{
	unsigned char vec[64];
	uint64_t count = 0;
	size_t i;

	t_le(nr, 64);
	t_eq(mincore(start, nr * page(), vec), 0);
	for (i = 0; i < nr; i++)
		count += vec[i] & 1;
	return count;
}

/*
 * Pages: 0 hole, 1 PROT_NONE, 2 empty, 3 zero page, 4 written and read-only,
 * 5 written, 6 PROT_NONE but written before, 7 shared
 */
enum { HOLE, NONE, EMPTY, ZERO, RO, RW, HIDDEN, SHARED, NR_KINDS };

static char *map_kinds(void)
{
	char *p = map_private(NR_KINDS);
	volatile char byte;

	memset(p + RO * page(), 'r', page());
	memset(p + RW * page(), 'w', page());
	memset(p + HIDDEN * page(), 'h', page());
	byte = p[ZERO * page()];
	(void)byte;
	t_ok(mmap(p + SHARED * page(), page(), PROT_READ | PROT_WRITE,
		  MAP_FIXED | MAP_SHARED | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
	p[SHARED * page()] = 's';
	t_eq(mprotect(p + NONE * page(), page(), PROT_NONE), 0);
	t_eq(mprotect(p + RO * page(), page(), PROT_READ), 0);
	t_eq(mprotect(p + HIDDEN * page(), page(), PROT_NONE), 0);
	t_eq(munmap(p + HOLE * page(), page()), 0);
	return p;
}

static void unmap_kinds(char *p)
{
	t_eq(munmap(p, NR_KINDS * page()), 0);
}

TEST(a_snapshot_tells_every_kind_apart_and_faults_nothing)
{
	static const uint64_t want[NR_KINDS] = {
		[HOLE] = MMN_PFN_ERROR,
		[NONE] = MMN_PFN_ERROR,
		[EMPTY] = 0,
		[ZERO] = MMN_PFN_VALID,
		[RO] = MMN_PFN_VALID,
		[RW] = MMN_PFN_VALID | MMN_PFN_WRITE,
		[HIDDEN] = MMN_PFN_ERROR,
		[SHARED] = MMN_PFN_VALID | MMN_PFN_WRITE,
	};
	size_t i, k;

	for (i = 0; i < NR_WITHOUT; i++) {
		struct mmn_pages *pages = open_without(without[i]);
		uint64_t words[NR_KINDS] = { 0 };
		uint64_t before, after;
		struct rusage usage;
		char *p = map_kinds();
		uintptr_t next;

		getrusage(RUSAGE_SELF, &usage);
		before = resident(p + EMPTY * page(), 1);
		t_err(fault(pages, p, NR_KINDS, words, 0, &next), 0);
		after = resident(p + EMPTY * page(), 1);
		t_eq(before, after);
		t_eq(next, (uintptr_t)p + NR_KINDS * page());
		for (k = 0; k < NR_KINDS; k++)
			t_eq(state_of(words[k]), want[k]);
		if (mmn_pages_pfn_visible(pages))
			t_ne(mmn_pfn_frame(words[RW]), 0);
		else
			t_eq(mmn_pfn_frame(words[RW]), 0);
		unmap_kinds(p);
		mmn_pages_close(pages);
	}
}

struct outcome {
	int err;
	uint64_t state;
};

TEST(a_request_gives_each_kind_of_page_its_due)
{
	static const struct {
		uint64_t request;
		struct outcome want[NR_KINDS];
	} rows[] = {
		{ FAULT,
		  { [HOLE] = { -EFAULT, 0 },
		    [NONE] = { -EFAULT, 0 },
		    [EMPTY] = { 0, MMN_PFN_VALID },
		    [ZERO] = { 0, MMN_PFN_VALID },
		    [RO] = { 0, MMN_PFN_VALID },
		    [RW] = { 0, MMN_PFN_VALID | MMN_PFN_WRITE },
		    [HIDDEN] = { -EFAULT, 0 },
		    [SHARED] = { 0, MMN_PFN_VALID | MMN_PFN_WRITE } } },
		{ FAULT | WRITE,
		  { [HOLE] = { -EFAULT, 0 },
		    [NONE] = { -EFAULT, 0 },
		    [EMPTY] = { 0, MMN_PFN_VALID | MMN_PFN_WRITE },
		    [ZERO] = { 0, MMN_PFN_VALID | MMN_PFN_WRITE },
		    [RO] = { -EPERM, 0 },
		    [RW] = { 0, MMN_PFN_VALID | MMN_PFN_WRITE },
		    [HIDDEN] = { -EFAULT, 0 },
		    [SHARED] = { 0, MMN_PFN_VALID | MMN_PFN_WRITE } } },
	};
	size_t i, r, k;

	for (i = 0; i < NR_WITHOUT; i++) {
		struct mmn_pages *pages = open_without(without[i]);

		for (r = 0; r < 2; r++) {
			char *p = map_kinds();

			for (k = 0; k < NR_KINDS; k++) {
				const struct outcome *o = &rows[r].want[k];
				uint64_t word = 0;
				uintptr_t next;

				t_err(fault(pages, p + k * page(), 1, &word,
					    rows[r].request, &next),
				      o->err);
				t_eq(state_of(word), o->state);
				t_eq(next,
				     (uintptr_t)p + (k + !o->err) * page());
			}
			/* contents are what they were */
			t_eq(p[EMPTY * page()], 0);
			t_eq(p[RO * page()], 'r');
			t_eq(p[RW * page()], 'w');
			t_eq(p[SHARED * page()], 's');
			unmap_kinds(p);
		}
		mmn_pages_close(pages);
	}
}

TEST(mask_and_default_decide_page_by_page)
{
	size_t i;

	for (i = 0; i < NR_WITHOUT; i++) {
		struct mmn_pages *pages = open_without(without[i]);
		char *p = map_private(6);
		uint64_t words[6] = { FAULT | WRITE, FAULT, 0,
				      FAULT | WRITE, FAULT, WRITE };
		struct mmn_range_fault f = {
			.size = sizeof(f),
			.start = (uintptr_t)p,
			.last = last_of(p, 6),
			.words = words,
			.flags_mask = FAULT | WRITE,
		};

		t_err(mmn_range_fault(pages, &f), 0);
		t_eq(state_of(words[0]), MMN_PFN_VALID | MMN_PFN_WRITE);
		t_eq(state_of(words[1]), MMN_PFN_VALID);
		t_eq(words[2], 0);
		t_eq(state_of(words[3]), MMN_PFN_VALID | MMN_PFN_WRITE);
		t_eq(state_of(words[4]), MMN_PFN_VALID);
		/* write alone is no request */
		t_eq(words[5], 0);
		t_eq(f.faults, 4);

		/* fault all, some for write */
		memset(words, 0, sizeof(words));
		words[2] = WRITE;
		f.default_flags = FAULT;
		f.flags_mask = WRITE;
		t_err(mmn_range_fault(pages, &f), 0);
		t_eq(state_of(words[2]), MMN_PFN_VALID | MMN_PFN_WRITE);
		t_eq(state_of(words[5]), MMN_PFN_VALID);

		/* mask 0: what the words ask for does not count */
		t_eq(madvise(p, 6 * page(), MADV_DONTNEED), 0);
		words[0] = words[1] = FAULT | WRITE;
		f.default_flags = 0;
		f.flags_mask = 0;
		t_err(mmn_range_fault(pages, &f), 0);
		t_eq(words[0], 0);
		t_eq(words[1], 0);
		munmap(p, 6 * page());
		mmn_pages_close(pages);
	}
}

TEST(sticky_marks_are_copied_and_nothing_else_is)
{
	struct mmn_pages *pages = open_without(0);
	char *p = map_private(3);
	uint64_t words[3] = { ~0ull, MMN_PFN_MARK1, ~0ull };

	p[0] = 1;
	t_eq(munmap(p + 2 * page(), page()), 0);
	t_err(fault(pages, p, 3, words, 0, NULL), 0);
	t_eq(state_of(words[0]), MMN_PFN_VALID | MMN_PFN_WRITE | MARKS);
	t_eq(words[1], MMN_PFN_MARK1);
	t_eq(words[2], MMN_PFN_ERROR | MARKS);
	munmap(p, 2 * page());
	mmn_pages_close(pages);
}

TEST(words_from_the_failing_page_on_still_hold_their_inputs)
{
	size_t i, k;

	for (i = 0; i < NR_WITHOUT; i++) {
		struct mmn_pages *pages = open_without(without[i]);
		char *p = map_private(8);
		uint64_t words[8];
		uintptr_t next;

		t_eq(mprotect(p + 5 * page(), page(), PROT_READ), 0);
		for (k = 0; k < 8; k++)
			words[k] = MMN_PFN_MARK2 | k;
		t_err(fault(pages, p, 8, words, FAULT | WRITE, &next), -EPERM);
		t_eq(next, (uintptr_t)p + 5 * page());
		for (k = 0; k < 5; k++)
			t_eq(state_of(words[k]),
			     MMN_PFN_VALID | MMN_PFN_WRITE | MMN_PFN_MARK2);
		for (k = 5; k < 8; k++)
			t_eq(words[k], MMN_PFN_MARK2 | k);
		munmap(p, 8 * page());
		mmn_pages_close(pages);
	}
}

TEST(a_request_in_a_hole_fails_at_its_page_and_not_before)
{
	struct mmn_pages *pages = open_without(0);
	char *p = map_private(6);
	uint64_t words[6] = { 0, 0, 0, FAULT, 0, FAULT };
	struct mmn_range_fault f = {
		.size = sizeof(f),
		.start = (uintptr_t)p,
		.last = last_of(p, 6),
		.words = words,
		.flags_mask = FAULT,
	};

	t_eq(munmap(p + page(), 4 * page()), 0);
	t_err(mmn_range_fault(pages, &f), -EFAULT);
	t_eq(f.next, (uintptr_t)p + 3 * page());
	t_eq(words[0], 0);
	t_eq(words[1], MMN_PFN_ERROR);
	t_eq(words[2], MMN_PFN_ERROR);
	t_eq(words[3], FAULT);
	t_eq(words[4], 0);
	munmap(p, page());
	munmap(p + 5 * page(), page());
	mmn_pages_close(pages);
}

TEST(a_page_beyond_the_end_of_its_file_is_absent_and_cannot_be_had)
{
	size_t i;

	for (i = 0; i < NR_WITHOUT; i++) {
		struct mmn_pages *pages = open_without(without[i]);
		int fd = memfd_create("short", MFD_CLOEXEC);
		uint64_t words[4] = { 0 };
		uintptr_t next;
		char *p;

		t_eq(ftruncate(fd, 2 * (off_t)page()), 0);
		p = mmap(NULL, 4 * page(), PROT_READ | PROT_WRITE, MAP_SHARED,
			 fd, 0);
		t_ok(p != MAP_FAILED);
		p[0] = 1;
		t_err(fault(pages, p, 4, words, 0, NULL), 0);
		t_eq(state_of(words[0]), MMN_PFN_VALID | MMN_PFN_WRITE);
		t_eq(words[1], 0);
		t_eq(words[3], 0);
		t_err(fault(pages, p, 4, words, FAULT, &next), -EFAULT);
		t_eq(next, (uintptr_t)p + 2 * page());
		munmap(p, 4 * page());
		close(fd);
		mmn_pages_close(pages);
	}
}

TEST(a_guard_page_is_an_error)
{
	struct mmn_pages *pages = open_without(0);
	char *p = map_private(2);
	uint64_t words[2] = { 0 };

	if (madvise(p, page(), 102 /* MADV_GUARD_INSTALL */)) {
		munmap(p, 2 * page());
		mmn_pages_close(pages);
		t_skip("no MADV_GUARD_INSTALL (Linux 6.13)");
	}
	t_err(fault(pages, p, 1, words, FAULT, NULL), -EFAULT);
	t_err(fault(pages, p, 2, words, 0, NULL), 0);
	t_eq(words[0], MMN_PFN_ERROR);
	t_eq(words[1], 0);
	munmap(p, 2 * page());
	mmn_pages_close(pages);
}

TEST(a_private_file_page_is_readable_and_a_write_request_copies_it)
{
	size_t i;

	for (i = 0; i < NR_WITHOUT; i++) {
		struct mmn_pages *pages = open_without(without[i]);
		int fd = memfd_create("file", MFD_CLOEXEC);
		uint64_t before = 0, after = 0;
		char byte = 'f';
		char *p;

		t_eq(pwrite(fd, &byte, 1, 0), 1);
		p = mmap(NULL, page(), PROT_READ | PROT_WRITE, MAP_PRIVATE, fd,
			 0);
		t_ok(p != MAP_FAILED);
		t_err(fault(pages, p, 1, &before, FAULT, NULL), 0);
		t_eq(state_of(before), MMN_PFN_VALID);
		t_err(fault(pages, p, 1, &after, FAULT | WRITE, NULL), 0);
		t_eq(state_of(after), MMN_PFN_VALID | MMN_PFN_WRITE);
		if (mmn_pages_pfn_visible(pages))
			t_ne(mmn_pfn_frame(before), mmn_pfn_frame(after));
		t_eq(p[0], 'f');
		munmap(p, page());
		close(fd);
		mmn_pages_close(pages);
	}
}

TEST(settling_makes_private_pages_the_own_ones_before_they_are_held)
{
	struct mmn_pages *pages = open_without(0);
	char *p = map_private(2);
	uint64_t words[2] = { 0 };
	struct mmn_range_fault f = {
		.size = sizeof(f),
		.flags = MMN_FAULT_SETTLE,
		.start = (uintptr_t)p,
		.last = last_of(p, 2),
		.words = words,
		.default_flags = FAULT,
	};
	uint64_t frame;

	t_eq(mprotect(p + page(), page(), PROT_READ), 0);
	t_err(mmn_range_fault(pages, &f), 0);
	t_eq(state_of(words[0]), MMN_PFN_VALID | MMN_PFN_WRITE);
	/* a read-only mapping has nothing to settle, and is no error */
	t_eq(state_of(words[1]), MMN_PFN_VALID);
	frame = mmn_pfn_frame(words[0]);
	p[0] = 'x';
	t_err(mmn_range_fault(pages, &f), 0);
	t_eq(mmn_pfn_frame(words[0]), frame);
	munmap(p, 2 * page());
	mmn_pages_close(pages);
}

TEST(a_page_shared_with_a_child_is_not_writable_until_asked_for)
{
	struct mmn_pages *pages = open_without(0);
	char *p = map_private(1);
	uint64_t word = 0;
	pid_t child;

	p[0] = 'a';
	child = fork();
	if (!child) {
		pause();
		_exit(0);
	}
	t_err(fault(pages, p, 1, &word, 0, NULL), 0);
	t_eq(state_of(word), MMN_PFN_VALID);
	t_err(fault(pages, p, 1, &word, FAULT | WRITE, NULL), 0);
	t_eq(state_of(word), MMN_PFN_VALID | MMN_PFN_WRITE);
	t_eq(p[0], 'a');
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	munmap(p, page());
	mmn_pages_close(pages);
}

static void huge_page(char *p, size_t bytes, struct mmn_pages *pages)
{
	unsigned int order = (unsigned int)__builtin_ctzl(bytes / page());
	uint64_t words[4] = { 0 };

	/* in the middle: the order tells of the whole mapping all the same */
	t_err(fault(pages, p + 8 * page(), 4, words, FAULT | WRITE, NULL), 0);
	t_eq(mmn_pfn_order(words[0]), order);
	t_eq(mmn_pfn_order(words[3]), order);
	if (mmn_pages_pfn_visible(pages))
		t_eq(mmn_pfn_frame(words[3]), mmn_pfn_frame(words[0]) + 3);
	t_eq(mprotect(p, bytes, PROT_READ), 0);
	memset(words, 0, sizeof(words));
	t_err(fault(pages, p + 8 * page(), 4, words, 0, NULL), 0);
	t_eq(mmn_pfn_order(words[0]), order);
	t_eq(state_of(words[0]), MMN_PFN_VALID);
}

TEST(the_order_of_a_transparent_huge_page_is_told)
{
	struct mmn_pages *pages = open_without(0);
	size_t bytes = page() * (page() / 8);
	char *all = mmap(NULL, 2 * bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *p = (char *)(((uintptr_t)all + bytes - 1) & ~(bytes - 1));
	const char *why = NULL;
	uint64_t word = 0;

	t_ok(all != MAP_FAILED);
	madvise(p, bytes, MADV_HUGEPAGE);
	p[0] = 1;
	t_err(fault(pages, p, 1, &word, 0, NULL), 0);
	if (mmn_pages_missing(pages) & MMN_PAGES_NO_SCAN)
		why = "no PAGEMAP_SCAN (Linux 6.7)";
	else if (!mmn_pfn_order(word))
		why = "no transparent huge page to be had";
	else
		huge_page(p, bytes, pages);
	munmap(all, 2 * bytes);
	mmn_pages_close(pages);
	if (why)
		t_skip("%s", why);
}

TEST(the_order_of_a_hugetlb_page_is_told)
{
	struct mmn_pages *pages = open_without(0);
	size_t bytes = page() * (page() / 8);
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	const char *why = NULL;

	if (p == MAP_FAILED)
		why = "no hugetlb pages reserved (vm.nr_hugepages)";
	else if (mmn_pages_missing(pages) & MMN_PAGES_NO_QUERY)
		why = "no PROCMAP_QUERY (Linux 6.11)";
	else
		huge_page(p, bytes, pages);
	if (p != MAP_FAILED)
		munmap(p, bytes);
	mmn_pages_close(pages);
	if (why)
		t_skip("%s", why);
}

TEST(large_and_sparse_ranges_are_walked_right)
{
	enum { NR = 5000 };
	static uint64_t words[NR];
	size_t i, k;

	for (i = 0; i < NR_WITHOUT; i++) {
		struct mmn_pages *pages = open_without(without[i]);
		char *p = map_private(NR);

		/* single pages, a stretch, and mappings split by permission */
		p[7 * page()] = 1;
		p[2600 * page()] = 1;
		memset(p + 3000 * page(), 1, 700 * page());
		p[4999 * page()] = 1;
		t_eq(mprotect(p + 3100 * page(), page(), PROT_READ), 0);
		t_eq(munmap(p + 4000 * page(), 3 * page()), 0);
		memset(words, 0, sizeof(words));
		t_err(fault(pages, p, NR, words, 0, NULL), 0);
		for (k = 0; k < NR; k++) {
			uint64_t want = 0;

			if (k == 7 || k == 2600 || k == 4999 ||
			    (k >= 3000 && k < 3700))
				want = MMN_PFN_VALID | MMN_PFN_WRITE;
			if (k == 3100)
				want = MMN_PFN_VALID;
			if (k >= 4000 && k < 4003)
				want = MMN_PFN_ERROR;
			if (state_of(words[k]) != want)
				t_fail("page %zu: %#llx, want %#llx", k,
				       (unsigned long long)words[k],
				       (unsigned long long)want);
		}
		munmap(p, NR * page());
		mmn_pages_close(pages);
	}
	t_ok(i == NR_WITHOUT);
}

TEST(regions_are_found_in_both_ways_with_the_same_answer)
{
	struct mmn_pages *new_way = open_without(0);
	struct mmn_pages *old_way = open_without(MMN_PAGES_NO_QUERY);
	struct mmn_region a, b;
	uintptr_t addr = 0;
	unsigned int nr = 0;
	int err;

	/* the gate page above is in the text only */
	while (addr < (uintptr_t)INTPTR_MAX) {
		err = mmn_pages_region(new_way, addr, &a);
		if (err)
			break;
		t_err(mmn_pages_region(old_way, addr, &b), 0);
		t_eq(a.start, b.start);
		t_eq(a.last, b.last);
		t_eq(a.flags, b.flags);
		t_eq(a.inode, b.inode);
		t_eq(a.offset, b.offset);
		t_eq(a.dev_major, b.dev_major);
		t_eq(a.dev_minor, b.dev_minor);
		addr = a.last + 1;
		nr++;
	}
	t_err(err, -ENOENT);
	t_gt(nr, 10);
	t_err(mmn_pages_region(old_way, UINTPTR_MAX, &b), -ENOENT);
	mmn_pages_close(new_way);
	mmn_pages_close(old_way);
}

TEST(special_mappings_of_the_kernel_are_marked_and_give_errors)
{
	struct mmn_pages *pages = open_without(0);
	struct mmn_region region;
	uintptr_t addr = 0;
	uint64_t word = 0;
	bool found = false;

	while (!found && !mmn_pages_region(pages, addr, &region)) {
		found = region.flags & MMN_REGION_SPECIAL;
		addr = region.last + 1;
	}
	if (!found) {
		mmn_pages_close(pages);
		t_skip("this kernel maps no [vvar]");
	}
	t_err(fault(pages, (void *)region.start, 1, &word, 0, NULL), 0);
	t_eq(word, MMN_PFN_ERROR);
	t_err(fault(pages, (void *)region.start, 1, &word, FAULT, NULL),
	      -EFAULT);
	mmn_pages_close(pages);
}

/* A subscription without a driver behind it. */
static bool only_set_seq(struct mmn_range_subscription *sub,
			 const struct mmn_invalidate_desc *desc,
			 uint64_t cur_seq)
{
	mmn_range_set_seq(sub, cur_seq);
	return true;
}

static const struct mmn_range_ops seq_ops = { .invalidate = only_set_seq };

static void subscribe(struct mmn_range_subscription *sub,
		      struct mmn_state *state, void *start, size_t nr)
{
	struct mmn_range_config config = {
		.size = sizeof(config),
		.ops = &seq_ops,
		.lock = mmn_driver_no_lock(),
	};

	t_err(mmn_range_subscription_init(sub, &config), 0);
	t_err(mmn_range_subscription_insert(sub, state, (uintptr_t)start,
					    last_of(start, nr)),
	      0);
}

TEST(a_collision_ends_the_walk_and_a_clean_section_does_not)
{
	struct mmn_pages *pages = open_without(0);
	struct mmn_range_subscription sub;
	struct mmn_state *state;
	char *p = map_private(4);
	uint64_t words[4] = { 1, 2, 3, 4 };
	struct mmn_range_fault f = {
		.size = sizeof(f),
		.start = (uintptr_t)p,
		.last = last_of(p, 4),
		.words = words,
		.default_flags = FAULT,
		.sub = &sub,
	};

	t_err(mmn_state_create(&state), 0);
	subscribe(&sub, state, p, 4);
	f.seq = mmn_range_read_begin(&sub);
	announced_discard(state, p, 1);
	t_err(mmn_range_fault(pages, &f), -EBUSY);
	t_eq(f.next, f.start);
	t_eq(words[0], 1);
	t_eq(words[3], 4);
	f.seq = mmn_range_read_begin(&sub);
	t_err(mmn_range_fault(pages, &f), 0);
	t_ok(!mmn_range_read_retry(&sub, f.seq));
	/* 0 is no sequence */
	f.seq = 0;
	t_err(mmn_range_fault(pages, &f), -EBUSY);
	mmn_range_subscription_remove(&sub);
	mmn_state_put(state);
	munmap(p, 4 * page());
	mmn_pages_close(pages);
}

TEST(the_first_sequence_covers_a_look_in_several_steps)
{
	struct mmn_pages *pages = open_without(0);
	struct mmn_range_subscription sub;
	struct mmn_state *state;
	char *p = map_private(2);
	uint64_t words[2] = { 0 };
	struct mmn_range_fault f = {
		.size = sizeof(f),
		.start = (uintptr_t)p,
		.last = last_of(p, 1),
		.words = words,
		.default_flags = FAULT,
		.sub = &sub,
	};
	uint64_t first, second;

	t_err(mmn_state_create(&state), 0);
	subscribe(&sub, state, p, 2);
	first = mmn_range_read_begin(&sub);
	f.seq = first;
	t_err(mmn_range_fault(pages, &f), 0);
	announced_discard(state, p, 1);
	/* a begin for the second step alone would hide what happened */
	second = mmn_range_read_begin(&sub);
	f.start = (uintptr_t)p + page();
	f.last = last_of(p, 2);
	f.words = &words[1];
	f.seq = second;
	t_err(mmn_range_fault(pages, &f), 0);
	t_ok(!mmn_range_read_retry(&sub, second));
	t_ok(mmn_range_read_retry(&sub, first));
	/* with the first value the second step does not even begin */
	f.seq = first;
	t_err(mmn_range_fault(pages, &f), -EBUSY);
	mmn_range_subscription_remove(&sub);
	mmn_state_put(state);
	munmap(p, 2 * page());
	mmn_pages_close(pages);
}

TEST(bad_arguments_are_refused_without_a_look)
{
	struct mmn_pages *pages = open_without(0);
	struct mmn_range_subscription sub;
	struct mmn_state *state;
	char *p = map_private(4);
	uint64_t words[5] = { 9, 9, 9, 9, 9 };
	struct {
		struct mmn_range_fault f;
		uint64_t newer;
	} big;
	struct mmn_range_fault good = {
		.size = sizeof(good),
		.start = (uintptr_t)p,
		.last = last_of(p, 2),
		.words = words,
	};
	struct mmn_range_fault f;

	t_err(mmn_state_create(&state), 0);
	subscribe(&sub, state, p, 2);
	t_err(mmn_range_fault(NULL, &good), -EINVAL);
	t_err(mmn_range_fault(pages, NULL), -EINVAL);
#define BAD(member, value)                                  \
	do {                                                \
		f = good;                                   \
		f.member = (value);                         \
		t_err(mmn_range_fault(pages, &f), -EINVAL); \
		t_eq(words[0], 9);                          \
	} while (0)
	BAD(size, 8);
	BAD(flags, 2);
	BAD(start, good.start + 1);
	BAD(last, good.last - 1);
	BAD(last, good.last + 1);
	BAD(last, good.start - 1);
	BAD(words, NULL);
	BAD(default_flags, WRITE);
	/* outside of the subscription */
	f = good;
	f.sub = &sub;
	f.seq = mmn_range_read_begin(&sub);
	f.last = last_of(p, 3);
	t_err(mmn_range_fault(pages, &f), -EINVAL);
	f.start = (uintptr_t)p - page();
	f.last = last_of(p, 1);
	t_err(mmn_range_fault(pages, &f), -EINVAL);
	t_eq(words[0], 9);
	/* a newer caller that asks for nothing new, and one that does */
	big.f = good;
	big.f.size = sizeof(big);
	big.newer = 0;
	t_err(mmn_range_fault(pages, &big.f), 0);
	big.newer = 1;
	t_err(mmn_range_fault(pages, &big.f), -E2BIG);
	mmn_range_subscription_remove(&sub);
	mmn_state_put(state);
	munmap(p, 4 * page());
	mmn_pages_close(pages);
}

TEST(opening_refuses_bad_configs_and_closing_takes_null)
{
	struct mmn_pages_config config = { sizeof(config), 1u << 31 };
	struct {
		struct mmn_pages_config config;
		uint64_t newer;
	} big = { { sizeof(big), 0 }, 1 };
	struct mmn_pages *pages = NULL;

	keep_arena();
	t_err(mmn_pages_open(NULL, NULL), -EINVAL);
	t_err(mmn_pages_open(&config, &pages), -EINVAL);
	config.flags = 0;
	config.size = 2;
	t_err(mmn_pages_open(&config, &pages), -EINVAL);
	t_err(mmn_pages_open(&big.config, &pages), -E2BIG);
	t_ok(!pages);
	mmn_pages_close(NULL);
	t_err(mmn_pages_open(NULL, &pages), 0);
	mmn_pages_close(pages);
}

TEST(opening_without_descriptors_to_be_had_says_so)
{
	struct rlimit none = { 0, 0 }, old;
	struct mmn_pages *pages = NULL;

	keep_arena();
	t_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
	none.rlim_max = old.rlim_max;
	t_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	t_err(mmn_pages_open(NULL, &pages), -EMFILE);
	t_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
	t_ok(!pages);
}

static void open_where_openat_says(int error)
{
	struct mmn_pages *pages = NULL;
	int status;
	pid_t child = fork();

	/* A child, for the test's own end opens files. */
	if (!child) {
		answer_syscall(SYS_openat, error);
		_exit(mmn_pages_open(NULL, &pages) == -error && !pages ? 0 : 1);
	}
	t_eq(waitpid(child, &status, 0), child);
	t_eq(status, 0);
}

TEST(opening_says_what_opening_proc_says)
{
	open_where_openat_says(ENOENT);
	open_where_openat_says(EACCES);
}

TEST(opening_without_memory_says_so)
{
	struct mmn_pages *pages = NULL;

	keep_arena();
	t_err(mmn_inject_set(MMN_INJECT_ALLOC, 1, 1), 0);
	t_err(mmn_pages_open(NULL, &pages), -ENOMEM);
	mmn_inject_clear();
	t_ok(!pages);
}

TEST(opening_where_no_page_can_be_faulted_in_says_so)
{
	struct mmn_pages *pages;

	/* A kernel before 5.14, and a sandbox. */
	mmn_pages_close(open_without(MMN_PAGES_NO_POPULATE));
	answer_syscall(SYS_process_vm_readv, EPERM);
	mmn_pages_close(open_without(0));
	answer_syscall(SYS_madvise, EINVAL);
	t_err(mmn_pages_open(NULL, &pages), -ENOTSUP);
}

TEST(a_page_map_that_ends_before_the_page_is_an_error)
{
	struct mmn_pages *pages;

	keep_arena();
	answer_syscall(SYS_pread64, 0);
	t_err(mmn_pages_open(NULL, &pages), -EIO);
}

TEST(an_answer_of_the_kernel_that_makes_no_sense_is_an_error)
{
	struct mmn_pages *pages = open_without(0);
	struct mmn_region region = { .start = 9 };
	char *p = map_private(1);
	uint64_t word = 9;

	if (mmn_pages_missing(pages) & MMN_PAGES_NO_QUERY)
		t_skip("this kernel cannot be asked about a mapping");
	answer_syscall(SYS_ioctl, 0);
	t_err(mmn_pages_region(pages, (uintptr_t)p, &region), -EIO);
	t_eq(region.start, 9);
	t_err(fault(pages, p, 1, &word, FAULT, NULL), -EIO);
	t_eq(munmap(p, page()), 0);
	mmn_pages_close(pages);
}

TEST(no_memory_to_fault_in_is_an_error)
{
	struct mmn_pages *pages = open_without(0);
	char *p = map_private(1);
	uint64_t word = 0;

	if (mmn_pages_missing(pages) & MMN_PAGES_NO_POPULATE)
		t_skip("this kernel faults nothing in on request");
	answer_syscall(SYS_madvise, ENOMEM);
	t_err(fault(pages, p, 1, &word, FAULT, NULL), -ENOMEM);
	t_eq(munmap(p, page()), 0);
	mmn_pages_close(pages);
}

TEST(a_page_that_vanishes_as_fast_as_it_comes_is_an_error)
{
	struct mmn_pages *pages = open_without(0);
	char *p = map_private(1);
	uint64_t word = 0;

	if (mmn_pages_missing(pages) & MMN_PAGES_NO_POPULATE)
		t_skip("this kernel faults nothing in on request");
	answer_syscall(SYS_madvise, 0);
	t_err(fault(pages, p, 1, &word, FAULT, NULL), -ENOMEM);
	t_eq(munmap(p, page()), 0);
	mmn_pages_close(pages);
}

TEST(a_fork_child_cannot_use_the_parents_object_and_opens_its_own)
{
	struct mmn_pages *pages = open_without(0);
	char *p = map_private(1);
	uint64_t word = 0;
	int status;
	pid_t child;

	child = fork();
	if (!child) {
		struct mmn_pages *own = NULL;
		struct mmn_region region;

		if (fault(pages, p, 1, &word, 0, NULL) != -ESTALE ||
		    mmn_pages_region(pages, 0, &region) != -ESTALE)
			_exit(1);
		p[0] = 'c';
		if (mmn_pages_open(NULL, &own) ||
		    fault(own, p, 1, &word, 0, NULL) ||
		    state_of(word) != (MMN_PFN_VALID | MMN_PFN_WRITE))
			_exit(2);
		mmn_pages_close(own);
		_exit(0);
	}
	t_eq(waitpid(child, &status, 0), child);
	t_eq(status, 0);
	t_err(fault(pages, p, 1, &word, 0, NULL), 0);
	t_eq(word, 0);
	munmap(p, page());
	mmn_pages_close(pages);
}

TEST(a_thread_with_its_own_descriptor_table_looks_as_well)
{
	pid_t child = fork();
	int status;

	/* a process of its own, so that the runner keeps its descriptors */
	if (!child) {
		struct mmn_pages *pages = NULL;
		char *p = map_private(1);
		uint64_t word = 0;

		if (unshare(CLONE_FILES) || mmn_pages_open(NULL, &pages) ||
		    fault(pages, p, 1, &word, FAULT | WRITE, NULL) ||
		    state_of(word) != (MMN_PFN_VALID | MMN_PFN_WRITE))
			_exit(1);
		mmn_pages_close(pages);
		_exit(0);
	}
	t_eq(waitpid(child, &status, 0), child);
	t_eq(status, 0);
}

TEST(frames_are_hidden_from_who_may_not_see_them)
{
	struct mmn_pages *pages = NULL;
	uint64_t word = 0;
	char *p = map_private(1);
	int status;
	pid_t child = fork();

	if (!child) {
		/* pagemap of a process that changed its user is not its own */
		if (setresuid(65534, 65534, 65534) || prctl(PR_SET_DUMPABLE, 1))
			_exit(2);
		p[0] = 1;
		if (mmn_pages_open(NULL, &pages) ||
		    mmn_pages_pfn_visible(pages) ||
		    fault(pages, p, 1, &word, 0, NULL) ||
		    word != (MMN_PFN_VALID | MMN_PFN_WRITE))
			_exit(1);
		mmn_pages_close(pages);
		_exit(0);
	}
	t_eq(waitpid(child, &status, 0), child);
	munmap(p, page());
	if (WEXITSTATUS(status) == 2)
		t_skip("cannot become another user");
	t_eq(status, 0);
}

/*
 * Changes that nobody announces: the answer may be old, but the walk must end,
 * never crash, and give for each page a word that was true at some time.
 */
static _Atomic bool stop_mutating;

static void *mutate(void *arg)
{
	char *p = arg;
	unsigned int i;

	for (i = 0; !atomic_load(&stop_mutating); i++) {
		char *at = p + (i * 7 % 64) * page();

		switch (i % 4) {
		case 0:
			madvise(at, 4 * page(), MADV_DONTNEED);
			break;
		case 1:
			mprotect(at, page(), PROT_READ);
			break;
		case 2:
			mprotect(at, page(), PROT_READ | PROT_WRITE);
			break;
		default:
			mmap(at, page(), PROT_READ | PROT_WRITE,
			     MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			break;
		}
	}
	return NULL;
}

TEST(unannounced_changes_do_no_harm)
{
	char *p = map_private(128);
	pthread_t thread;
	size_t i, k, n;

	atomic_store(&stop_mutating, false);
	t_eq(pthread_create(&thread, NULL, mutate, p), 0);
	for (i = 0; i < NR_WITHOUT; i++) {
		struct mmn_pages *pages = open_without(without[i]);

		for (n = 0; n < 200; n++) {
			uint64_t words[64] = { 0 };
			int err = fault(pages, p, 64, words, FAULT, NULL);

			if (err && err != -ENOMEM && err != -EFAULT)
				t_fail("%d", err);
			for (k = 0; !err && k < 64; k++)
				t_ok(words[k] & MMN_PFN_VALID);
		}
		mmn_pages_close(pages);
	}
	atomic_store(&stop_mutating, true);
	pthread_join(thread, NULL);
	munmap(p, 128 * page());
}
