/* SPDX-License-Identifier: MIT */
/*
 * The software device: it holds pages and not addresses, and the calls that all
 * devices share check their arguments.
 */
#include <dirent.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <mmn/inject.h>

#include "unit/answer-syscall.h"
#include "unit/mirror-help.h"

#define READ MMN_DEVICE_READ
#define WRITE MMN_DEVICE_WRITE

static struct mmn_device *soft_create(uint64_t transfer_ns)
{
	struct mmn_soft_config config = {
		.size = sizeof(config),
		.transfer_ns = transfer_ns,
	};
	struct mmn_device *device = NULL;

	keep_arena();
	t_err(mmn_soft_device_create(&config, &device), 0);
	t_streq(device->ops->name, "soft");
	return device;
}

static struct mmn_device_map *map(struct mmn_device *device, void *start,
				  size_t pages, uint32_t access)
{
	struct mmn_device_map *m = NULL;

	t_err(mmn_device_map(device, (uintptr_t)start, last_of(start, pages),
			     access, &m),
	      0);
	return m;
}

static void unmap(struct mmn_device_map *m)
{
	mmn_device_unmap_begin(m);
	mmn_device_unmap_finish(m);
}

static int64_t transfer(struct mmn_device_map *m, size_t offset,
			uint32_t access, void *buffer, size_t length)
{
	struct waited_transfer waited;

	waited_init(&waited, access, buffer, length);
	waited.transfer.map = m;
	waited.transfer.offset = offset;
	t_err(mmn_device_submit(&waited.transfer), 0);
	return waited_wait(&waited);
}

/* Page i is filled with 'a' + i % 23. */
static void fill_pattern(char *p, size_t pages)
{
	size_t i;

	for (i = 0; i < pages; i++)
		memset(p + i * page(), 'a' + (int)(i % 23), page());
}

TEST(the_device_is_made_and_given_back)
{
	struct mmn_device *device = soft_create(0);

	t_eq(mmn_device_poll(device), 0);
	mmn_device_destroy(device);
	mmn_device_destroy(NULL);
}

/* libc stops every thread for this, by a signal of its own. */
TEST(a_program_with_the_device_may_change_its_user)
{
	struct mmn_device *device = soft_create(0);

	t_eq(setuid(getuid()), 0);
	mmn_device_destroy(device);
}

TEST(a_read_gets_the_bytes_at_any_offset_and_length)
{
	enum { PAGES = 150 };
	struct mmn_device *device = soft_create(0);
	char *p = map_private(PAGES);
	char *buffer = malloc(PAGES * page());
	struct mmn_device_map *m;
	size_t bytes = PAGES * page();
	unsigned int seed = 5;
	size_t i;

	fill_pattern(p, PAGES);
	for (i = 0; i < bytes; i += 97)
		p[i] = (char)i;
	m = map(device, p, PAGES, READ);
	t_eq(transfer(m, 0, READ, buffer, bytes), bytes);
	t_memeq(buffer, p, bytes);
	for (i = 0; i < 200; i++) {
		size_t offset = (size_t)rand_r(&seed) % bytes;
		size_t length = 1 + (size_t)rand_r(&seed) % (bytes - offset);

		if (i % 2)
			length = 1 + length % 100;
		if (length > bytes - offset)
			length = bytes - offset;
		memset(buffer, 0, length);
		t_eq(transfer(m, offset, READ, buffer, length), length);
		t_memeq(buffer, p + offset, length);
	}
	unmap(m);
	munmap(p, bytes);
	free(buffer);
	mmn_device_destroy(device);
}

TEST(a_live_map_sees_later_writes_of_the_program)
{
	struct mmn_device *device = soft_create(0);
	char *p = map_private(3);
	volatile char zero = p[page()];
	struct mmn_device_map *m;
	char got[2];

	/* page 0 never touched, page 1 only read, page 2 written */
	(void)zero;
	p[2 * page()] = 'x';
	m = map(device, p, 3, READ);
	p[0] = 'A';
	p[page()] = 'B';
	p[2 * page()] = 'C';
	t_eq(transfer(m, 0, READ, got, 1), 1);
	t_eq(got[0], 'A');
	t_eq(transfer(m, page(), READ, got, 1), 1);
	t_eq(got[0], 'B');
	t_eq(transfer(m, 2 * page(), READ, got, 1), 1);
	t_eq(got[0], 'C');
	unmap(m);
	munmap(p, 3 * page());
	mmn_device_destroy(device);
}

TEST(a_map_of_pages_once_shared_with_a_child_sees_later_writes)
{
	struct mmn_device *device = soft_create(0);
	char *p = map_private(1);
	struct mmn_device_map *m;
	char got;
	pid_t child;

	p[0] = 'a';
	child = fork();
	if (!child)
		_exit(0);
	waitpid(child, NULL, 0);
	/* mapped once again, but still write-protected */
	m = map(device, p, 1, READ);
	p[0] = 'b';
	t_eq(transfer(m, 0, READ, &got, 1), 1);
	t_eq(got, 'b');
	unmap(m);
	munmap(p, page());
	mmn_device_destroy(device);
}

TEST(an_entry_that_was_not_torn_down_is_really_stale)
{
	struct mmn_device *device = soft_create(0);
	char *p = map_private(2);
	struct mmn_device_map *m;
	char got;

	memset(p, 'o', 2 * page());
	m = map(device, p, 2, READ);
	/* in place, at the same address */
	t_eq(madvise(p, page(), MADV_DONTNEED), 0);
	p[0] = 'n';
	t_ok(mmap(p + page(), page(), PROT_READ | PROT_WRITE,
		  MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1,
		  0) != MAP_FAILED);
	p[page()] = 'n';
	t_eq(transfer(m, 0, READ, &got, 1), 1);
	t_eq(got, 'o');
	t_eq(transfer(m, page(), READ, &got, 1), 1);
	t_eq(got, 'o');
	unmap(m);
	munmap(p, 2 * page());
	mmn_device_destroy(device);
}

TEST(writes_reach_shared_memory_and_its_file_and_go_stale_too)
{
	struct mmn_device *device = soft_create(0);
	int fd = memfd_create("shared", MFD_CLOEXEC);
	struct mmn_device_map *m;
	char got[8] = "";
	char *p;

	t_eq(ftruncate(fd, 4 * (off_t)page()), 0);
	p = mmap(NULL, 4 * page(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	t_ok(p != MAP_FAILED);
	m = map(device, p, 4, READ | WRITE);
	t_eq(transfer(m, page() + 3, WRITE, (char[]){ "hello" }, 5), 5);
	t_memeq(p + page() + 3, "hello", 5);
	t_eq(pread(fd, got, 5, (off_t)page() + 3), 5);
	t_memeq(got, "hello", 5);
	t_eq(transfer(m, page() + 3, READ, got, 5), 5);
	t_memeq(got, "hello", 5);
	/* the address means something else now; the device does not know */
	t_ok(mmap(p, 4 * page(), PROT_READ | PROT_WRITE,
		  MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1,
		  0) != MAP_FAILED);
	t_eq(transfer(m, 0, WRITE, (char[]){ "stale" }, 5), 5);
	t_eq(p[0], 0);
	t_eq(pread(fd, got, 5, 0), 5);
	t_memeq(got, "stale", 5);
	/* a file that was cut is an error of the transfer, not of the process */
	t_eq(ftruncate(fd, 0), 0);
	t_eq(transfer(m, 0, WRITE, (char[]){ "x" }, 1), -EFAULT);
	unmap(m);
	munmap(p, 4 * page());
	close(fd);
	mmn_device_destroy(device);
}

TEST(memory_that_cannot_be_held_is_refused)
{
	struct mmn_device *device = soft_create(0);
	struct mmn_device_map *m = NULL;
	char *p = map_private(4);
	char *shared = map_pages(4, PROT_READ | PROT_WRITE, MAP_SHARED);
	char *first = p, *hole = p + page();

#define REFUSED(start, pages, access)                                  \
	t_err(mmn_device_map(device, (uintptr_t)(start),               \
			     last_of((start), (pages)), (access), &m), \
	      -EFAULT)
	/* private memory for writing */
	REFUSED(first, 1, WRITE);
	REFUSED(first, 1, READ | WRITE);
	t_eq(munmap(hole, page()), 0);
	REFUSED(hole, 1, READ);
	/* a hole in the middle */
	REFUSED(first, 3, READ);
	t_eq(mprotect(p + 3 * page(), page(), PROT_NONE), 0);
	REFUSED(p + 3 * page(), 1, READ);
	/* shared, but partly read-only */
	t_eq(mprotect(shared + 2 * page(), page(), PROT_READ), 0);
	REFUSED(shared, 4, WRITE);
	t_ok(!m);
	m = map(device, shared, 4, READ);
	unmap(m);
	munmap(p, page());
	munmap(p + 2 * page(), 2 * page());
	munmap(shared, 4 * page());
	mmn_device_destroy(device);
}

TEST(bad_arguments_are_refused)
{
	struct mmn_soft_config config = { .size = sizeof(config), .flags = 1 };
	struct {
		struct mmn_soft_config config;
		uint64_t newer;
	} big = { .newer = 1 };
	struct mmn_device *device = NULL;
	struct mmn_device_map *m = NULL;
	struct waited_transfer w;
	char *p = map_private(2);
	uintptr_t start = (uintptr_t)p;
	uintptr_t last = last_of(p, 2);
	char buffer[16];

	keep_arena();
	t_err(mmn_soft_device_create(NULL, NULL), -EINVAL);
	t_err(mmn_soft_device_create(&config, &device), -EINVAL);
	config.flags = 0;
	config.size = 4;
	t_err(mmn_soft_device_create(&config, &device), -EINVAL);
	big.config.size = sizeof(big);
	t_err(mmn_soft_device_create(&big.config, &device), -E2BIG);
	t_ok(!device);
	t_err(mmn_soft_device_create(NULL, &device), 0);

	t_err(mmn_device_map(NULL, start, last, READ, &m), -EINVAL);
	t_err(mmn_device_map(device, start, last, READ, NULL), -EINVAL);
	t_err(mmn_device_map(device, start + 1, last, READ, &m), -EINVAL);
	t_err(mmn_device_map(device, start, last - 1, READ, &m), -EINVAL);
	t_err(mmn_device_map(device, start, start - 1, READ, &m), -EINVAL);
	t_err(mmn_device_map(device, start, last, 0, &m), -EINVAL);
	t_err(mmn_device_map(device, start, last, 4, &m), -EINVAL);
	t_ok(!m);

	m = map(device, p, 2, READ);
	waited_init(&w, READ, buffer, sizeof(buffer));
	t_err(mmn_device_submit(NULL), -EINVAL);
	t_err(mmn_device_submit(&w.transfer), -EINVAL);
	w.transfer.map = m;
	w.transfer.length = 0;
	t_err(mmn_device_submit(&w.transfer), -EINVAL);
	w.transfer.length = 2 * page() + 1;
	t_err(mmn_device_submit(&w.transfer), -EINVAL);
	w.transfer.length = 16;
	w.transfer.offset = 2 * page() - 15;
	t_err(mmn_device_submit(&w.transfer), -EINVAL);
	w.transfer.offset = SIZE_MAX;
	t_err(mmn_device_submit(&w.transfer), -EINVAL);
	w.transfer.offset = 0;
	w.transfer.access = WRITE;
	t_err(mmn_device_submit(&w.transfer), -EINVAL);
	w.transfer.access = READ | WRITE;
	t_err(mmn_device_submit(&w.transfer), -EINVAL);
	w.transfer.access = READ;
	w.transfer.done = NULL;
	t_err(mmn_device_submit(&w.transfer), -EINVAL);
	w.transfer.done = waited_done;
	w.transfer.buffer = NULL;
	t_err(mmn_device_submit(&w.transfer), -EINVAL);
	/* an address that is not there is found out by the transfer */
	t_eq(transfer(m, 0, READ, (void *)page(), 16), -EFAULT);
	/* and leaves nothing behind that the next one would read */
	p[7] = '7';
	t_eq(transfer(m, 7, READ, buffer, 1), 1);
	t_eq(buffer[0], '7');
	unmap(m);
	munmap(p, 2 * page());
	mmn_device_destroy(device);
}

TEST(a_map_that_is_going_takes_no_transfer_and_waits_for_its_last)
{
	struct mmn_device *device = soft_create(50 * 1000 * 1000);
	char *p = map_private(2);
	struct waited_transfer under_way, waiting, late;
	struct mmn_device_map *m, *other;
	char a = 0, b = 0, c = 0;
	uint64_t begin;

	memset(p, 'p', 2 * page());
	m = map(device, p, 1, READ);
	waited_init(&under_way, READ, &a, 1);
	waited_init(&waiting, READ, &b, 1);
	waited_init(&late, READ, &c, 1);
	under_way.transfer.map = m;
	waiting.transfer.map = m;
	late.transfer.map = m;
	begin = now_ns();
	t_err(mmn_device_submit(&under_way.transfer), 0);
	usleep(5000);
	t_err(mmn_device_submit(&waiting.transfer), 0);
	/* another map is made meanwhile: commands do not wait for transfers */
	other = map(device, p + page(), 1, READ);
	t_ok(!atomic_load(&under_way.done));
	mmn_device_unmap_begin(m);
	t_err(mmn_device_submit(&late.transfer), -ESTALE);
	mmn_device_unmap_finish(m);
	t_ge(now_ns() - begin, 50 * 1000 * 1000);
	t_ok(atomic_load(&under_way.done));
	t_eq(under_way.transfer.result, 1);
	t_eq(a, 'p');
	/* the one in the queue was not begun */
	t_ok(atomic_load(&waiting.done));
	t_eq(waiting.transfer.result, -ESTALE);
	t_eq(b, 0);
	t_ok(!atomic_load(&late.done));
	unmap(other);
	munmap(p, 2 * page());
	mmn_device_destroy(device);
}

TEST(a_full_queue_says_so)
{
	struct mmn_soft_config config = {
		.size = sizeof(config),
		.queue_depth = 2,
		.transfer_ns = 30 * 1000 * 1000,
	};
	struct mmn_device *device = NULL;
	struct waited_transfer w[4];
	struct mmn_device_map *m;
	char *p = map_private(1);
	char got[4];
	int i;

	keep_arena();
	t_err(mmn_soft_device_create(&config, &device), 0);
	m = map(device, p, 1, READ);
	for (i = 0; i < 4; i++) {
		waited_init(&w[i], READ, &got[i], 1);
		w[i].transfer.map = m;
	}
	t_err(mmn_device_submit(&w[0].transfer), 0);
	/* the first leaves the queue when it is begun */
	usleep(10000);
	t_err(mmn_device_submit(&w[1].transfer), 0);
	t_err(mmn_device_submit(&w[2].transfer), 0);
	t_err(mmn_device_submit(&w[3].transfer), -EBUSY);
	for (i = 0; i < 3; i++)
		t_eq(waited_wait(&w[i]), 1);
	unmap(m);
	munmap(p, page());
	mmn_device_destroy(device);
}

/* done submits the next one, from the device's thread */
struct chained {
	struct mmn_device_transfer transfer;
	_Atomic int left;
};

static void chained_done(struct mmn_device_transfer *t)
{
	struct chained *chained = (struct chained *)t;

	if (t->result == 1 && atomic_fetch_sub(&chained->left, 1) > 1 &&
	    mmn_device_submit(t))
		atomic_store(&chained->left, -1);
}

TEST(a_finished_transfer_may_submit_again_from_done)
{
	struct mmn_device *device = soft_create(0);
	char *p = map_private(1);
	struct mmn_device_map *m = map(device, p, 1, READ);
	char got;
	struct chained chained = {
		.transfer = {
			.map = m,
			.length = 1,
			.access = READ,
			.buffer = &got,
			.done = chained_done,
		},
		.left = 100,
	};

	t_err(mmn_device_submit(&chained.transfer), 0);
	while (atomic_load(&chained.left) > 0)
		usleep(100);
	t_eq(atomic_load(&chained.left), 0);
	unmap(m);
	munmap(p, page());
	mmn_device_destroy(device);
}

static unsigned int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

TEST(the_process_sees_none_of_its_descriptors_and_children_get_none)
{
	unsigned int before = count_fds();
	struct mmn_device *device = soft_create(0);
	char *p = map_private(64);
	struct mmn_device_map *m = map(device, p, 64, READ);
	int status, fds[2];
	char byte;
	pid_t child;

	t_eq(count_fds(), before);
	/* nor does the device keep the program's pipes open */
	mmn_device_unmap_begin(m);
	mmn_device_unmap_finish(m);
	mmn_device_destroy(device);
	t_eq(pipe(fds), 0);
	device = soft_create(0);
	close(fds[1]);
	t_eq(read(fds[0], &byte, 1), 0);
	close(fds[0]);
	m = map(device, p, 64, READ);
	child = fork();
	if (!child)
		_exit(count_fds() == before ? 0 : 1);
	t_eq(waitpid(child, &status, 0), child);
	t_eq(status, 0);
	unmap(m);
	munmap(p, 64 * page());
	mmn_device_destroy(device);
}

TEST(a_fork_childs_copy_is_inert_and_a_new_device_works_there)
{
	struct mmn_device *device;
	struct mmn_device_map *m;
	char *p;
	struct waited_transfer w;
	char got = 0;
	int status;
	pid_t child;

	if (MMN_TSAN)
		t_skip("ThreadSanitizer allows no threads in fork children");
	device = soft_create(0);
	p = map_private(1);
	m = map(device, p, 1, READ);
	p[0] = 'p';
	child = fork();
	if (!child) {
		struct mmn_device *own = NULL;
		struct mmn_device_map *own_map = NULL;

		waited_init(&w, READ, &got, 1);
		w.transfer.map = m;
		if (mmn_device_submit(&w.transfer) != -ESTALE ||
		    mmn_device_map(device, (uintptr_t)p, last_of(p, 1), READ,
				   &own_map) != -ESTALE)
			_exit(1);
		unmap(m);
		mmn_device_destroy(device);
		if (mmn_soft_device_create(NULL, &own) ||
		    mmn_device_map(own, (uintptr_t)p, last_of(p, 1), READ,
				   &own_map))
			_exit(2);
		p[0] = 'c';
		if (transfer(own_map, 0, READ, &got, 1) != 1 || got != 'c')
			_exit(3);
		unmap(own_map);
		mmn_device_destroy(own);
		_exit(0);
	}
	t_eq(waitpid(child, &status, 0), child);
	t_eq(status, 0);
	unmap(m);
	munmap(p, page());
	mmn_device_destroy(device);
}

TEST(pages_that_were_given_up_are_given_back)
{
	enum { PAGES = 512 };
	struct mmn_device *device = soft_create(0);
	size_t i;

	/* more in total than descriptors or pipe slots would allow to leak */
	for (i = 0; i < 300; i++) {
		char *p = map_private(PAGES);
		struct mmn_device_map *m = map(device, p, PAGES, READ);

		unmap(m);
		munmap(p, PAGES * page());
	}
	t_eq(i, 300);
	mmn_device_destroy(device);
}

TEST(no_room_for_a_map_is_an_error_and_leaves_nothing)
{
	struct rlimit old, few;
	struct mmn_device *device;
	struct mmn_device_map *m = NULL;
	char *p = map_private(64 * 40);

	t_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = old;
	device = soft_create(0);
	few.rlim_cur = 20;
	t_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	t_err(mmn_device_map(device, (uintptr_t)p, last_of(p, 64 * 40), READ,
			     &m),
	      -ENOSPC);
	t_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
	t_ok(!m);
	m = map(device, p, 64 * 40, READ);
	unmap(m);
	munmap(p, 64 * 40 * page());
	mmn_device_destroy(device);
}

static void limit(int what, rlim_t value)
{
	struct rlimit l;

	/* The soft one: it can be raised again. */
	t_eq(getrlimit((__rlimit_resource_t)what, &l), 0);
	l.rlim_cur = value < l.rlim_max ? value : l.rlim_max;
	t_eq(setrlimit((__rlimit_resource_t)what, &l), 0);
}

static void become_nobody(void)
{
	t_eq(setgroups(0, NULL), 0);
	t_eq(setresgid(65534, 65534, 65534), 0);
	t_eq(setresuid(65534, 65534, 65534), 0);
	/* Who changed the user may not look at /proc otherwise. */
	t_eq(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), 0);
}

static long pipe_pages_of_a_user(void)
{
	FILE *file = fopen("/proc/sys/fs/pipe-user-pages-soft", "re");
	long nr = 0;

	if (file) {
		if (fscanf(file, "%ld", &nr) != 1)
			nr = 0;
		fclose(file);
	}
	return nr;
}

static int create_default(void)
{
	struct mmn_device *device = NULL;
	int err;

	keep_arena();
	err = mmn_soft_device_create(NULL, &device);
	if (err)
		t_ok(!device);
	else
		mmn_device_destroy(device);
	return err;
}

TEST(more_pinned_pages_than_a_user_may_have_are_refused)
{
	struct mmn_device *device;
	struct mmn_device_map *m = NULL;
	long nr = pipe_pages_of_a_user();
	char *p;

	if (getuid())
		t_skip("other processes of the user would be in the way");
	if (nr <= 0 || nr > 16384)
		t_skip("this system has no such limit, or a high one");
	p = map_private((size_t)nr + 128);
	become_nobody();
	device = soft_create(0);
	t_err(mmn_device_map(device, (uintptr_t)p, last_of(p, (size_t)nr + 128),
			     READ, &m),
	      -EDQUOT);
	t_ok(!m);
	/* What was held before the limit was met has been given back. */
	m = map(device, p, (size_t)nr / 2, READ);
	unmap(m);
	munmap(p, ((size_t)nr + 128) * page());
	mmn_device_destroy(device);
}

TEST(a_map_without_memory_is_an_error)
{
	struct mmn_device *device = soft_create(0);
	struct mmn_device_map *m = NULL;
	char *p = map_private(1);

	t_err(mmn_inject_set(MMN_INJECT_ALLOC, 1, 1), 0);
	t_err(mmn_device_map(device, (uintptr_t)p, last_of(p, 1), READ, &m),
	      -ENOMEM);
	mmn_inject_clear();
	t_ok(!m);
	munmap(p, page());
	mmn_device_destroy(device);
}

TEST(a_device_without_memory_is_an_error)
{
	t_err(mmn_inject_set(MMN_INJECT_ALLOC, 1, 1), 0);
	t_err(create_default(), -ENOMEM);
	mmn_inject_clear();
	t_err(create_default(), 0);
}

TEST(a_device_without_a_thread_is_an_error)
{
	if (getuid())
		t_skip("other processes of the user would be in the way");
	become_nobody();
	limit(RLIMIT_NPROC, 0);
	t_err(create_default(), -EAGAIN);
	limit(RLIMIT_NPROC, RLIM_INFINITY);
	t_err(create_default(), 0);
}

TEST(a_device_without_descriptors_of_its_own_is_an_error)
{
	t_err(create_default(), 0);
	answer_syscall(SYS_unshare, EPERM);
	t_err(create_default(), -EPERM);
	answer_syscall(SYS_unshare, ENOMEM);
	t_err(create_default(), -ENOMEM);
}

TEST(a_device_whose_thread_gets_no_descriptors_is_an_error)
{
	limit(RLIMIT_NOFILE, 0);
	t_err(create_default(), -EMFILE);
	limit(RLIMIT_NOFILE, 1);
	t_err(create_default(), -ENOSPC);
	limit(RLIMIT_NOFILE, 3);
	t_err(create_default(), -EMFILE);
	limit(RLIMIT_NOFILE, 1024);
	t_err(create_default(), 0);
}

TEST(a_device_that_may_have_no_pipe_is_an_error)
{
	answer_syscall_if(SYS_fcntl, 1, F_SETPIPE_SZ, EPERM);
	t_err(create_default(), -EDQUOT);
}
