/* SPDX-License-Identifier: MIT */
/*
 * The coverage table of doc/SOURCES.md, row by row: each change is announced
 * before it is made and ended after it.
 *
 * A classic subscriber looks at the memory itself, at its start and at its end
 * call: that shows on which side of the change they run.  All of its state is
 * volatile: libc's headers promise the compiler that munmap() and free() call
 * nothing back into this file.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <mmn/notifier.h>
#include <mmn/source.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/syscall.h"
#include "t/tap.h"
#include "unit/answer-syscall.h"

#define PAGE 4096ul
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

#define MADVISE_GUARD_INSTALL 102

struct seen {
	int starts;
	int ends;
	uint32_t event;
	uint32_t flags;
	uintptr_t start;
	uintptr_t last;
	/* first byte of the watched memory, -1 when it is not mapped */
	int before;
	int after;
};

static volatile struct seen seen;
static char *volatile watched;
static volatile size_t watched_size;

static struct mmn_state *state;
static struct mmn_subscription classic;

static int look(const char *at)
{
	struct iovec local, remote = { (void *)at, 1 };
	unsigned char byte;

	local.iov_base = &byte;
	local.iov_len = 1;
	if (mmn_syscall6(SYS_process_vm_readv, mmn_syscall0(SYS_getpid), &local,
			 1, &remote, 1, 0) != 1)
		return -1;
	return byte;
}

static bool concerns_us(const struct mmn_invalidate_desc *desc)
{
	return watched && desc->start < (uintptr_t)watched + watched_size &&
	       desc->last >= (uintptr_t)watched;
}

static int on_start(struct mmn_subscription *sub,
		    const struct mmn_invalidate_desc *desc)
{
	(void)sub;
	if (!concerns_us(desc))
		return 0;
	seen.starts++;
	seen.event = desc->event;
	seen.flags = desc->flags;
	seen.start = desc->start;
	seen.last = desc->last;
	seen.before = look(watched);
	return 0;
}

static void on_end(struct mmn_subscription *sub,
		   const struct mmn_invalidate_desc *desc)
{
	(void)sub;
	if (!concerns_us(desc))
		return;
	seen.ends++;
	seen.after = look(watched);
}

static const struct mmn_subscription_ops classic_ops = {
	.invalidate_range_start = on_start,
	.invalidate_range_end = on_end,
};

static void skip_under_tsan(void)
{
	if (T_TSAN)
		t_skip("ThreadSanitizer cannot be entered in a system call");
}

static void intercept(void)
{
	skip_under_tsan();
	t_err(mmn_state_create(&state), 0);
	t_err(mmn_intercept_start(state, NULL, NULL), 0);
	classic.ops = &classic_ops;
	t_err(mmn_subscription_register(&classic, state), 0);
	t_may_keep_mapped(4 << 20, "stubs and the arena stay");
}

/* For what libc does; AddressSanitizer does it instead, by itself. */
static void intercept_libc(void)
{
	if (T_ASAN)
		t_skip("AddressSanitizer has its own malloc and threads");
	intercept();
}

static void release(void)
{
	watched = NULL;
	t_err(mmn_subscription_unregister(&classic), 0);
	t_err(mmn_intercept_stop(), 0);
	mmn_state_put(state);
}

static void watch(void *p, size_t size)
{
	memset((void *)&seen, 0, sizeof(seen));
	seen.before = seen.after = -2;
	watched_size = size;
	watched = p;
}

/* One page of anonymous memory that holds 7, watched. */
static char *page(void)
{
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, ANON, -1, 0);

	t_ne(p, MAP_FAILED);
	*p = 7;
	watch(p, PAGE);
	return p;
}

/* What must have been seen, and nothing since. */
static void expect_range(uint32_t event, int before, int after, uintptr_t start,
			 uintptr_t last)
{
	watched = NULL;
	t_eq(seen.starts, 1);
	t_eq(seen.ends, 1);
	t_eq(seen.event, event);
	t_eq(seen.start, start);
	t_eq(seen.last, last);
	t_eq(seen.before, before);
	t_eq(seen.after, after);
}

static void expect(uint32_t event, int before, int after)
{
	uintptr_t start = (uintptr_t)watched;

	expect_range(event, before, after, start, start + watched_size - 1);
}

static void expect_some(int before, int after)
{
	watched = NULL;
	t_ge(seen.starts, 1);
	t_eq(seen.starts, seen.ends);
	t_eq(seen.before, before);
	t_eq(seen.after, after);
}

static void expect_nothing(void)
{
	watched = NULL;
	t_eq(seen.starts, 0);
	t_eq(seen.ends, 0);
}

TEST(munmap_is_announced_before_and_ended_after)
{
	char *p;

	intercept();
	p = page();
	t_err(munmap(p, 1), 0);
	expect(MMN_EVENT_UNMAP, 7, -1);
	release();
}

TEST(mmap_over_a_mapping_is_announced)
{
	char *p;

	intercept();
	p = page();
	t_eq(mmap(p, PAGE, PROT_READ, ANON | MAP_FIXED, -1, 0), p);
	expect(MMN_EVENT_UNMAP, 7, 0);
	munmap(p, PAGE);
	release();
}

TEST(a_new_mapping_is_no_change)
{
	char *p;

	intercept();
	watch((void *)PAGE, 1ul << 46);
	p = mmap(NULL, PAGE, PROT_READ, ANON, -1, 0);
	expect_nothing();
	munmap(p, PAGE);
	release();
}

TEST(mremap_that_moves_gives_up_the_old_range)
{
	char *p, *q, *block;

	intercept();
	/* something behind it, so that it must move */
	block = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, ANON, -1, 0);
	p = block;
	*p = 7;
	watch(p, PAGE);
	q = mremap(p, PAGE, 4 * PAGE, MREMAP_MAYMOVE);
	t_ne(q, MAP_FAILED);
	expect(MMN_EVENT_UNMAP, 7, -1);
	munmap(q, 4 * PAGE);
	munmap(block + PAGE, PAGE);
	release();
}

TEST(mremap_that_shrinks_gives_up_the_tail_only)
{
	char *p;

	intercept();
	p = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, ANON, -1, 0);
	watch(p, PAGE);
	t_eq(mremap(p, 3 * PAGE, PAGE, 0), p);
	expect_nothing();
	munmap(p, PAGE);
	release();
}

TEST(mremap_over_a_mapping_announces_both_ends)
{
	char *p, *q;

	intercept();
	q = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, ANON, -1, 0);
	*q = 9;
	p = page();
	t_eq(mremap(q, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p), p);
	expect(MMN_EVENT_UNMAP, 7, 9);

	q = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, ANON, -1, 0);
	watch(p, PAGE);
	t_eq(mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q), q);
	expect(MMN_EVENT_UNMAP, 9, -1);
	munmap(q, PAGE);
	release();
}

TEST(madvise_that_discards_is_announced)
{
	char *p;

	intercept();
	p = page();
	t_err(madvise(p, PAGE, MADV_DONTNEED), 0);
	expect(MMN_EVENT_CLEAR, 7, 0);
	*p = 7;
	watch(p, PAGE);
	t_err(madvise(p, PAGE, MADV_FREE), 0);
	watched = NULL;
	t_ok(seen.flags & MMN_INVALIDATE_LAZY);
	t_eq(seen.before, 7);
	t_eq(seen.starts, 1);
	t_eq(seen.ends, 1);
	*p = 7;
	watch(p, PAGE);
	t_err(madvise(p, PAGE, MADV_WILLNEED), 0);
	expect_nothing();
	watch(p, PAGE);
	if (!madvise(p, PAGE, MADV_PAGEOUT))
		expect_some(7, 7);
	*p = 7;
	watch(p, PAGE);
	if (!madvise(p, PAGE, MADVISE_GUARD_INSTALL))
		expect(MMN_EVENT_CLEAR, 7, -1);
	munmap(p, PAGE);
	release();
}

TEST(madvise_remove_of_shared_memory_is_announced)
{
	char *p;

	intercept();
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		 -1, 0);
	*p = 7;
	watch(p, PAGE);
	t_err(madvise(p, PAGE, MADV_REMOVE), 0);
	expect(MMN_EVENT_CLEAR, 7, 0);
	munmap(p, PAGE);
	release();
}

/* A file of four pages in memory, each holding 7, mapped. */
static char *file(int *ret_fd)
{
	int fd = memfd_create("events", MFD_CLOEXEC);
	char *p;

	t_ge(fd, 0);
	t_err(ftruncate(fd, 4 * PAGE), 0);
	p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	t_ne(p, MAP_FAILED);
	memset(p, 7, 4 * PAGE);
	*ret_fd = fd;
	return p;
}

TEST(madvise_remove_is_announced_wherever_the_file_is_mapped)
{
	struct iovec iov = { NULL, PAGE };
	char *p, *q;
	int fd, self;

	intercept();
	p = file(&fd);
	q = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, PAGE);
	t_ne(q, MAP_FAILED);
	watch(q + PAGE, PAGE);
	t_err(madvise(p + 2 * PAGE, PAGE, MADV_REMOVE), 0);
	expect(MMN_EVENT_CLEAR, 7, 0);
	p[2 * PAGE] = 7;
	watch(p + 2 * PAGE, PAGE);
	t_err(madvise(q + PAGE, PAGE, MADV_REMOVE), 0);
	expect(MMN_EVENT_CLEAR, 7, 0);
	/* of ourselves, Linux 6.13 */
	iov.iov_base = p + PAGE;
	self = (int)syscall(SYS_pidfd_open, getpid(), 0);
	t_ge(self, 0);
	watch(q, PAGE);
	if (process_madvise(self, &iov, 1, MADV_REMOVE, 0) == PAGE)
		expect(MMN_EVENT_CLEAR, 7, 0);
	close(self);
	close(fd);
	munmap(p, 4 * PAGE);
	munmap(q, 2 * PAGE);
	release();
}

TEST(process_madvise_of_ourselves_is_announced)
{
	struct iovec iov = { NULL, PAGE };
	char *p;
	int fd;

	intercept();
	p = page();
	iov.iov_base = p;
	fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	t_ge(fd, 0);
	t_eq(process_madvise(fd, &iov, 1, MADV_PAGEOUT, 0), PAGE);
	expect(MMN_EVENT_CLEAR, 7, 7);
	watch(p, PAGE);
	t_eq(process_madvise(fd, (void *)8, 1, MADV_PAGEOUT, 0), -1);
	t_eq(errno, EFAULT);
	expect_nothing();
	close(fd);
	/* "this process", Linux 6.17 */
	watch(p, PAGE);
	if (process_madvise(-10001, &iov, 1, MADV_PAGEOUT, 0) == PAGE)
		expect(MMN_EVENT_CLEAR, 7, 7);
	munmap(p, PAGE);
	release();
}

TEST(mprotect_that_fails_behind_what_it_changed_is_announced)
{
	char *p;

	intercept();
	p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, ANON, -1, 0);
	t_ne(p, MAP_FAILED);
	*p = 7;
	t_err(munmap(p + PAGE, PAGE), 0);
	watch(p, PAGE);
	t_eq(mprotect(p, 1ul << 60, PROT_NONE), -1);
	t_eq(errno, ENOMEM);
	expect_some(7, -1);
	munmap(p, PAGE);
	release();
}

/* Room for a huge page, and one behind it, at an address for one. */
static char *huge_room(size_t huge)
{
	char *p = mmap(NULL, 4 * huge, PROT_READ | PROT_WRITE,
		       ANON | MAP_NORESERVE, -1, 0);

	t_ne(p, MAP_FAILED);
	return p + (-(uintptr_t)p & (huge - 1));
}

/* The kernel maps whole huge pages, whatever length it is asked for. */
TEST(huge_pages_are_announced_whole)
{
	const int flags = ANON | MAP_FIXED | MAP_HUGETLB | MAP_NORESERVE;
	const size_t huge = 1ul << 21;
	char *p, *q;
	int fd;

	intercept();
	p = huge_room(huge);
	p[huge - PAGE] = 7;
	watch(p + huge - PAGE, PAGE);
	if (mmap(p, PAGE, PROT_READ, flags | 21 << MAP_HUGE_SHIFT, -1, 0) != p)
		t_skip("no huge pages");
	expect_some(7, -1);
	q = huge_room(huge);
	q[huge - PAGE] = 7;
	watch(q + huge - PAGE, PAGE);
	/* Linux before 5.16 does not move them */
	if (mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q) == q)
		expect_some(7, -1);
	fd = memfd_create("huge", MFD_HUGETLB | 21u << MAP_HUGE_SHIFT);
	t_ge(fd, 0);
	t_err(ftruncate(fd, (off_t)huge), 0);
	p = huge_room(huge);
	p[huge - PAGE] = 7;
	watch(p + huge - PAGE, PAGE);
	t_eq(mmap(p, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
		  fd, 0),
	     p);
	expect_some(7, -1);
	close(fd);
	t_may_keep_mapped(32 << 20, "the room for huge pages");
	release();
}

TEST(mprotect_and_pkey_mprotect_are_announced)
{
	char *p;

	intercept();
	p = page();
	t_err(mprotect(p, PAGE, PROT_READ), 0);
	expect(MMN_EVENT_PROTECTION_VMA, 7, 7);
	watch(p, PAGE);
	t_eq(syscall(SYS_pkey_mprotect, p, PAGE, PROT_READ | PROT_WRITE, -1),
	     0);
	expect(MMN_EVENT_PROTECTION_VMA, 7, 7);
	watch(p, PAGE);
	t_err(pkey_mprotect(p, PAGE, PROT_READ, -1), 0);
	expect(MMN_EVENT_PROTECTION_VMA, 7, 7);
	munmap(p, PAGE);
	release();
}

TEST(a_shrinking_break_is_announced_and_a_growing_one_is_not)
{
	char *p;

	intercept();
	p = sbrk(0);
	p += -(uintptr_t)p % PAGE;
	t_err(brk(p), 0);
	watch(p, PAGE);
	t_ne(sbrk(PAGE), (void *)-1);
	expect_nothing();
	*p = 7;
	watch(p, PAGE);
	t_ne(sbrk(-(intptr_t)PAGE), (void *)-1);
	expect(MMN_EVENT_UNMAP, 7, -1);
	release();
}

/* A segment of three pages, which goes with its attachment. */
static char *segment(int *ret_id)
{
	char *p;

	*ret_id = shmget(IPC_PRIVATE, 3 * PAGE, IPC_CREAT | 0600);
	t_ge(*ret_id, 0);
	p = shmat(*ret_id, NULL, 0);
	t_ne(p, (char *)-1);
	shmctl(*ret_id, IPC_RMID, NULL);
	return p;
}

static void expect_shmdt(char *p)
{
	*p = 7;
	watch(p, 3 * PAGE);
	t_err(shmdt(p), 0);
	expect(MMN_EVENT_UNMAP, 7, -1);
}

TEST(shmdt_is_announced_with_its_true_size)
{
	int id;

	intercept();
	expect_shmdt(segment(&id));
	release();
}

/* The number of the first segment is 0, and so is the inode it is shown with. */
TEST(shmdt_of_the_first_segment_is_announced)
{
	char *p;
	int id;

	if (unshare(CLONE_NEWIPC) && unshare(CLONE_NEWUSER | CLONE_NEWIPC))
		t_skip("no namespace of its own");
	intercept();
	/* Linux before 6.11 */
	answer_syscall(SYS_ioctl, ENOTTY);
	p = segment(&id);
	t_eq(id, 0);
	expect_shmdt(p);
	release();
}

TEST(shmdt_is_announced_where_a_file_has_taken_the_place_of_a_part)
{
	char *p, *q;
	int id, fd;

	intercept();
	q = file(&fd);
	p = segment(&id);
	p[PAGE] = 7;
	t_eq(mmap(p, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0), p);
	watch(p + PAGE, 2 * PAGE);
	t_err(shmdt(p), 0);
	expect_some(7, -1);
	close(fd);
	munmap(p, PAGE);
	munmap(q, 4 * PAGE);
	release();
}

TEST(shmat_over_a_mapping_is_announced_with_its_true_size)
{
	char *p;
	int id;

	intercept();
	p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, ANON, -1, 0);
	*p = 7;
	id = shmget(IPC_PRIVATE, 3 * PAGE, IPC_CREAT | 0600);
	t_ge(id, 0);
	watch(p, 3 * PAGE);
	t_eq(shmat(id, p, SHM_REMAP), p);
	expect(MMN_EVENT_UNMAP, 7, 0);
	shmctl(id, IPC_RMID, NULL);
	shmdt(p);
	munmap(p + 3 * PAGE, PAGE);
	release();
}

TEST(remap_file_pages_is_announced)
{
	char *p;
	int fd;

	intercept();
	p = file(&fd);
	p[2 * PAGE] = 9;
	watch(p, PAGE);
	t_err(remap_file_pages(p, PAGE, 0, 2, 0), 0);
	expect(MMN_EVENT_UNMAP, 7, 9);
	close(fd);
	munmap(p, 4 * PAGE);
	release();
}

TEST(holes_punched_into_a_mapped_file_are_announced_where_it_is_mapped)
{
	char *p, *q;
	int fd;

	intercept();
	p = file(&fd);
	q = mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, PAGE);
	watch(p + PAGE, PAGE);
	t_err(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE,
			PAGE),
	      0);
	expect(MMN_EVENT_CLEAR, 7, 0);

	p[2 * PAGE] = 7;
	watch(q + PAGE, PAGE);
	t_err(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			2 * PAGE, PAGE),
	      0);
	expect(MMN_EVENT_CLEAR, 7, 0);
	watch(p, 4 * PAGE);
	t_err(fallocate(fd, 0, 0, 4 * PAGE), 0);
	expect_nothing();
	close(fd);
	munmap(p, 4 * PAGE);
	munmap(q, 2 * PAGE);
	release();
}

TEST(a_shrinking_file_is_announced_where_it_is_mapped)
{
	char path[] = "/tmp/mmn-events-XXXXXX";
	char *p;
	int fd;

	intercept();
	p = file(&fd);
	watch(p + 2 * PAGE, 2 * PAGE);
	t_err(ftruncate(fd, 4 * PAGE), 0);
	t_err(ftruncate(fd, 8 * PAGE), 0);
	expect_nothing();
	watch(p + 2 * PAGE, 2 * PAGE);
	t_err(ftruncate(fd, 2 * PAGE), 0);
	expect(MMN_EVENT_CLEAR, 7, -1);
	close(fd);
	munmap(p, 4 * PAGE);

	fd = mkstemp(path);
	t_ge(fd, 0);
	t_err(ftruncate(fd, 2 * PAGE), 0);
	p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	p[PAGE] = 7;
	watch(p + PAGE, PAGE);
	t_err(truncate(path, PAGE), 0);
	expect(MMN_EVENT_CLEAR, 7, -1);
	unlink(path);
	close(fd);
	munmap(p, 2 * PAGE);
	release();
}

TEST(calls_that_the_kernel_refuses_are_no_change)
{
	char *p;

	intercept();
	p = page();
	t_eq(munmap(p + 1, PAGE), -1);
	t_eq(errno, EINVAL);
	t_eq(munmap(p, 0), -1);
	t_eq(mprotect(p, 0, PROT_READ), 0);
	t_eq(madvise(p + 1, PAGE, MADV_DONTNEED), -1);
	t_eq(shmdt(p + 1), -1);
	t_eq(ftruncate(-1, 0), -1);
	t_eq(errno, EBADF);
	t_eq(truncate((char *)8, 0), -1);
	t_eq(errno, EFAULT);
	t_eq(fallocate(-1, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE),
	     -1);
	t_eq(errno, EBADF);
	expect_nothing();
	munmap(p, PAGE);
	release();
}

/* ---- who makes the call ---- */

TEST(free_of_a_large_block_is_announced)
{
	char *volatile block;

	intercept_libc();
	block = malloc(64 << 20);
	block[8192] = 7;
	watch(block + 8192, 1);
	free(block);
	expect_some(7, -1);
	release();
}

TEST(realloc_that_moves_a_large_block_is_announced)
{
	char *volatile block, *volatile next;

	intercept_libc();
	block = malloc(64 << 20);
	block[8192] = 7;
	/* fill the hole behind it, if there is one */
	next = mmap(block - 16 + (64 << 20) + PAGE, PAGE, PROT_READ, ANON, -1,
		    0);
	watch(block + 8192, 1);
	block = realloc(block, 256 << 20);
	t_ok(block);
	watched = NULL;
	t_eq(seen.starts, 1);
	t_eq(seen.ends, 1);
	munmap(next, PAGE);
	free(block);
	release();
}

TEST(memory_that_malloc_gives_back_is_announced)
{
	char *block[200], *last = NULL;
	int i;

	intercept_libc();
	for (i = 0; i < 200; i++) {
		block[i] = malloc(60000);
		memset(block[i], 7, 60000);
		if (block[i] > last)
			last = block[i];
	}
	watch(last, 1);
	for (i = 0; i < 200; i++)
		free(block[i]);
	malloc_trim(0);
	watched = NULL;
	t_ge(seen.starts, 1);
	t_eq(seen.starts, seen.ends);
	release();
}

static void *watch_stack(void *arg)
{
	pthread_attr_t attr;
	size_t size;
	void *low;

	(void)arg;
	pthread_getattr_np(pthread_self(), &attr);
	pthread_attr_getstack(&attr, &low, &size);
	pthread_attr_destroy(&attr);
	watch((char *)low + size - 16384, 1);
	return NULL;
}

TEST(the_stack_of_an_ended_thread_is_announced)
{
	pthread_attr_t attr;
	pthread_t thread;

	intercept_libc();
	pthread_attr_init(&attr);
	/* more than libc keeps for later threads */
	pthread_attr_setstacksize(&attr, 64 << 20);
	t_err(pthread_create(&thread, &attr, watch_stack, NULL), 0);
	t_err(pthread_join(thread, NULL), 0);
	watched = NULL;
	t_ge(seen.starts, 1);
	t_eq(seen.after, -1);
	pthread_attr_destroy(&attr);
	release();
}

TEST(dlclose_is_announced)
{
	const struct link_map *map;
	void *handle;

	intercept();
	handle = dlopen("libutil.so.1", RTLD_NOW);
	if (!handle)
		t_skip("no libutil.so.1");
	t_err(dlinfo(handle, RTLD_DI_LINKMAP, &map), 0);
	watch(map->l_ld, 1);
	t_err(dlclose(handle), 0);
	watched = NULL;
	t_ge(seen.starts, 1);
	t_ge(seen.before, 0);
	t_eq(seen.after, -1);
	release();
}

TEST(the_syscall_function_is_announced)
{
	char *p;

	intercept();
	p = page();
	t_eq(syscall(SYS_munmap, p, PAGE), 0);
	expect(MMN_EVENT_UNMAP, 7, -1);
	t_eq(syscall(SYS_getpid), getpid());
	t_eq(syscall(SYS_munmap, 1, PAGE), -1);
	t_eq(errno, EINVAL);
	t_eq(syscall(100000), -1);
	t_eq(errno, ENOSYS);
	release();
}

/* ---- in which thread ---- */

static char *volatile gift;

static void *unmap_gift(void *block_signals)
{
	sigset_t all;

	if (block_signals) {
		sigfillset(&all);
		pthread_sigmask(SIG_BLOCK, &all, NULL);
	}
	while (!gift)
		sched_yield();
	munmap(gift, PAGE);
	return NULL;
}

static void check_older_thread(bool block_signals)
{
	pthread_t thread;

	gift = NULL;
	t_err(pthread_create(&thread, NULL, unmap_gift,
			     block_signals ? &thread : NULL),
	      0);
	intercept();
	gift = page();
	t_err(pthread_join(thread, NULL), 0);
	watched = NULL;
	t_eq(seen.starts, 1);
	t_eq(seen.before, 7);
	release();
}

TEST(threads_older_than_the_source_are_seen)
{
	check_older_thread(false);
}

TEST(threads_that_block_all_signals_are_seen)
{
	check_older_thread(true);
}

static void unmap_in_handler(int sig)
{
	(void)sig;
	munmap(watched, PAGE);
}

TEST(a_signal_handler_with_a_full_mask_is_seen)
{
	struct sigaction action = { .sa_handler = unmap_in_handler };

	intercept();
	sigfillset(&action.sa_mask);
	t_err(sigaction(SIGUSR1, &action, NULL), 0);
	page();
	raise(SIGUSR1);
	expect(MMN_EVENT_UNMAP, 7, -1);
	release();
}

TEST(ignored_or_reset_sigsys_does_not_matter)
{
	char *p;

	intercept();
	signal(SIGSYS, SIG_IGN);
	p = page();
	t_err(munmap(p, PAGE), 0);
	expect(MMN_EVENT_UNMAP, 7, -1);
	signal(SIGSYS, SIG_DFL);
	p = page();
	t_err(munmap(p, PAGE), 0);
	expect(MMN_EVENT_UNMAP, 7, -1);
	release();
}

static void *unmap_now(void *p)
{
	munmap(p, PAGE);
	return NULL;
}

TEST(a_thread_with_the_smallest_stack_survives)
{
	pthread_attr_t attr;
	pthread_t thread;
	char *p;

	intercept_libc();
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 16384);
	p = page();
	t_err(pthread_create(&thread, &attr, unmap_now, p), 0);
	t_err(pthread_join(thread, NULL), 0);
	watched = NULL;
	t_eq(seen.starts, 1);
	pthread_attr_destroy(&attr);
	release();
}

/* ---- processes ---- */

static int wait_for(pid_t pid)
{
	int status = -1;

	t_eq(waitpid(pid, &status, 0), pid);
	return status;
}

TEST(fork_is_announced_and_the_child_is_left_alone)
{
	char *p, *q;
	pid_t pid;

	intercept();
	p = page();
	pid = fork();
	if (!pid) {
		seen.starts = 0;
		q = malloc(8 << 20);
		free(q);
		munmap(p, PAGE);
		/* its own objects are inert, its own calls work */
		_exit(seen.starts == 0 && mmn_intercept_stop() == -ESTALE &&
				      mmn_intercept_start(state, NULL, NULL) ==
					      -ESTALE
			      ? 3
			      : 4);
	}
	t_gt(pid, 0);
	expect_range(MMN_EVENT_PROTECTION_PAGE, 7, 7, 0, UINTPTR_MAX);
	t_eq(wait_for(pid), 3 << 8);
	munmap(p, PAGE);
	release();
}

TEST(a_fork_child_has_the_signal_mask_of_its_parent)
{
	sigset_t now;
	pid_t pid;
	int sig;

	intercept();
	pid = fork();
	if (!pid) {
		sigprocmask(SIG_BLOCK, NULL, &now);
		for (sig = 1; sig < 32; sig++)
			if (sigismember(&now, sig))
				_exit(sig);
		_exit(0);
	}
	t_eq(wait_for(pid), 0);
	sigprocmask(SIG_BLOCK, NULL, &now);
	t_eq(sigismember(&now, SIGTERM), 0);
	release();
}

TEST(clone3_that_copies_is_announced_and_a_new_stack_is_fine)
{
	struct {
		uint64_t flags, pidfd, child_tid, parent_tid, exit_signal,
			stack, stack_size, tls;
	} args = { .exit_signal = SIGCHLD };
	char *p;
	long pid;

	intercept();
	p = page();
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (!pid)
		_exit(5);
	t_gt(pid, 0);
	expect_range(MMN_EVENT_PROTECTION_PAGE, 7, 7, 0, UINTPTR_MAX);
	t_eq(wait_for((pid_t)pid), 5 << 8);
	watch(p, PAGE);
	t_eq(syscall(SYS_clone3, 8, sizeof(args)), -1);
	t_eq(errno, EFAULT);
	expect_nothing();
	munmap(p, PAGE);
	release();
}

static int clone_main(void *arg)
{
	return arg ? 6 : 7;
}

TEST(clone_onto_another_stack_is_announced)
{
	char *stack;
	char *p;
	int pid;

	intercept();
	stack = malloc(65536);
	p = page();
	pid = clone(clone_main, stack + 65536, SIGCHLD, stack);
	t_gt(pid, 0);
	expect_range(MMN_EVENT_PROTECTION_PAGE, 7, 7, 0, UINTPTR_MAX);
	t_eq(wait_for(pid), 6 << 8);
	free(stack);
	munmap(p, PAGE);
	release();
}

TEST(vfork_is_no_change_but_what_its_child_unmaps_is)
{
	char *p;
	pid_t pid;

	intercept();
	p = page();
	pid = vfork();
	if (!pid) {
		munmap(p, PAGE);
		execl("/nonexistent", "x", NULL);
		_exit(8);
	}
	t_gt(pid, 0);
	expect(MMN_EVENT_UNMAP, 7, -1);
	t_eq(wait_for(pid), 8 << 8);
	release();
}

TEST(a_vfork_child_executes_without_a_change_of_its_parent)
{
	char *p;
	pid_t pid;

	intercept();
	p = page();
	pid = vfork();
	if (!pid) {
		execl("/bin/true", "true", NULL);
		_exit(9);
	}
	t_gt(pid, 0);
	expect_nothing();
	t_eq(wait_for(pid), 0);
	munmap(p, PAGE);
	release();
}

TEST(a_spawned_program_lives)
{
	char *const argv[] = { (char *)"sh", (char *)"-c", (char *)"exit 4",
			       NULL };
	char *p;
	pid_t pid;

	intercept();
	p = page();
	t_err(posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ), 0);
	expect_nothing();
	t_eq(wait_for(pid), 4 << 8);
	t_eq(system("exit 5"), 5 << 8);
	munmap(p, PAGE);
	release();
}

TEST(an_executed_program_lives_with_the_mask_of_before)
{
	pid_t pid;

	intercept();
	pid = fork();
	if (!pid) {
		execl("/bin/sh", "sh", "-c",
		      "grep -q 'SigBlk:[[:space:]]*0000000000000000' "
		      "/proc/self/status",
		      NULL);
		_exit(9);
	}
	t_eq(wait_for(pid), 0);
	release();
}

TEST(exec_is_announced_when_there_is_such_a_program)
{
	char *const argv[] = { NULL };
	char *p;
	int fd;

	intercept();
	p = page();
	t_eq(execv("/nonexistent", argv), -1);
	t_eq(errno, ENOENT);
	t_eq(execv("/etc/passwd", argv), -1);
	t_eq(syscall(SYS_execve, 8, argv, NULL), -1);
	t_eq(errno, EFAULT);
	expect_nothing();
	fd = memfd_create("no program", MFD_CLOEXEC);
	fchmod(fd, 0700);
	watch(p, PAGE);
	t_eq(fexecve(fd, argv, environ), -1);
	t_eq(errno, ENOEXEC);
	expect_range(MMN_EVENT_UNMAP, 7, 7, 0, UINTPTR_MAX);
	close(fd);
	munmap(p, PAGE);
	release();
}

TEST(a_program_that_executes_another_one_becomes_it)
{
	pid_t pid;
	int pipes[2];
	char text[3] = "";

	skip_under_tsan();
	t_err(pipe(pipes), 0);
	pid = fork();
	if (!pid) {
		struct mmn_state *own;

		/* the child is a process of its own and intercepts itself */
		if (mmn_state_create(&own) ||
		    mmn_intercept_start(own, NULL, NULL))
			_exit(1);
		classic.ops = &classic_ops;
		if (mmn_subscription_register(&classic, own))
			_exit(2);
		dup2(pipes[1], 1);
		execl("/bin/echo", "echo", "ok", NULL);
		_exit(3);
	}
	t_eq(wait_for(pid), 0);
	t_eq(read(pipes[0], text, 2), 2);
	t_streq(text, "ok");
	close(pipes[0]);
	close(pipes[1]);
}
