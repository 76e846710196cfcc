/* SPDX-License-Identifier: MIT */
/*
 * Does every kind of change arrive?  See self-check.h.
 *
 * Each row makes one change of scratch memory through libc and looks whether
 * a subscription over it was called.  What a row may not do: leave anything
 * behind, run code of the program, or disturb threads that know nothing of it.
 * Hence brk is tried with a single thread only (another one could move it
 * meanwhile), a thread is made only where there are threads already (a process
 * never becomes single-threaded again for libc), the copying of the process is
 * tried with flags that the kernel refuses, and exec with a file that is no
 * program.  remap_file_pages() is not tried: the kernel logs a warning.
 */
#include "source/self-check.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <mmn/notifier.h>
#include <mmn/source.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/atomic.h"
#include "source/classify.h"
#include "source/patch.h"

/* More than any malloc() takes from its heap. */
#define LARGE_BLOCK (64ul << 20)
/* More than libc keeps of the stacks of ended threads. */
#define LARGE_STACK (64ul << 20)

struct probe {
	struct mmn_range_subscription sub;
	struct mmn_state *state;
	/* atomic: also counted in other threads */
	uint32_t count;
};

static bool count_event(struct mmn_range_subscription *sub,
			const struct mmn_invalidate_desc *desc, uint64_t seq)
{
	struct probe *probe = (struct probe *)sub;

	(void)desc;
	(void)seq;
	/* relaxed: read by the thread that made the change, or after a join */
	mmn_fetch_add_relaxed(&probe->count, 1);
	return true;
}

static const struct mmn_range_ops count_ops = { .invalidate = count_event };

static bool watch(struct probe *probe, const void *start, size_t length)
{
	/* relaxed: nobody counts yet */
	mmn_store_relaxed(&probe->count, 0);
	return !mmn_range_subscription_insert(&probe->sub, probe->state,
					      (uintptr_t)start,
					      (uintptr_t)start + length - 1);
}

/* @done: the change was really made, so its event must have come. */
static uint8_t judge(struct probe *probe, bool done)
{
	mmn_range_subscription_remove(&probe->sub);
	/* relaxed: as above */
	if (mmn_load_relaxed(&probe->count))
		return MMN_CHECK_DELIVERED;
	return done ? MMN_CHECK_MISSING : MMN_CHECK_UNTESTED;
}

static void *scratch(struct probe *probe, int flags, int fd)
{
	void *p = mmap(NULL, 2 * MMN_PAGE_SIZE, PROT_READ | PROT_WRITE, flags,
		       fd, 0);

	if (p == MAP_FAILED)
		return NULL;
	if (!watch(probe, p, 2 * MMN_PAGE_SIZE)) {
		munmap(p, 2 * MMN_PAGE_SIZE);
		return NULL;
	}
	return p;
}

static void *anonymous(struct probe *probe)
{
	return scratch(probe, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

static uint8_t finish(struct probe *probe, void *p, bool done)
{
	uint8_t result = judge(probe, done);

	munmap(p, 2 * MMN_PAGE_SIZE);
	return result;
}

static uint8_t check_munmap(struct probe *probe)
{
	void *p = anonymous(probe);

	if (!p)
		return MMN_CHECK_UNTESTED;
	return judge(probe, !munmap(p, 2 * MMN_PAGE_SIZE));
}

static uint8_t check_syscall(struct probe *probe)
{
	void *p = anonymous(probe);

	if (!p)
		return MMN_CHECK_UNTESTED;
	return judge(probe, !syscall(SYS_munmap, p, 2 * MMN_PAGE_SIZE));
}

static uint8_t check_mmap_fixed(struct probe *probe)
{
	void *p = anonymous(probe), *got;

	if (!p)
		return MMN_CHECK_UNTESTED;
	got = mmap(p, MMN_PAGE_SIZE, PROT_READ,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	return finish(probe, p, got == p);
}

static uint8_t check_mremap(struct probe *probe)
{
	void *p = anonymous(probe), *got;

	if (!p)
		return MMN_CHECK_UNTESTED;
	got = mremap(p, 2 * MMN_PAGE_SIZE, MMN_PAGE_SIZE, 0);
	return finish(probe, p, got == p);
}

static uint8_t check_madvise(struct probe *probe)
{
	void *p = anonymous(probe);

	if (!p)
		return MMN_CHECK_UNTESTED;
	return finish(probe, p, !madvise(p, MMN_PAGE_SIZE, MADV_DONTNEED));
}

static uint8_t check_process_madvise(struct probe *probe)
{
	struct iovec iov = { NULL, MMN_PAGE_SIZE };
	void *p = anonymous(probe);
	bool done;
	int fd;

	if (!p)
		return MMN_CHECK_UNTESTED;
	fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	iov.iov_base = p;
	done = syscall(SYS_process_madvise, fd, &iov, 1, MADV_PAGEOUT, 0) > 0;
	if (fd >= 0)
		close(fd);
	return finish(probe, p, done);
}

static uint8_t check_mprotect(struct probe *probe)
{
	void *p = anonymous(probe);

	if (!p)
		return MMN_CHECK_UNTESTED;
	return finish(probe, p, !mprotect(p, MMN_PAGE_SIZE, PROT_READ));
}

static uint8_t check_brk(struct probe *probe)
{
	uintptr_t end;
	bool done;

	if (mmn_patch_has_threads())
		return MMN_CHECK_UNTESTED;
	if (sbrk(2 * MMN_PAGE_SIZE) == (void *)-1)
		return MMN_CHECK_UNTESTED;
	end = (uintptr_t)sbrk(0);
	if (!watch(probe, (void *)(end - 2 * MMN_PAGE_SIZE),
		   2 * MMN_PAGE_SIZE)) {
		sbrk(-2 * (intptr_t)MMN_PAGE_SIZE);
		return MMN_CHECK_UNTESTED;
	}
	done = sbrk(-2 * (intptr_t)MMN_PAGE_SIZE) != (void *)-1;
	return judge(probe, done);
}

static uint8_t check_shmdt(struct probe *probe)
{
	int id = shmget(IPC_PRIVATE, MMN_PAGE_SIZE, IPC_CREAT | 0600);
	void *p;

	if (id < 0)
		return MMN_CHECK_UNTESTED;
	p = shmat(id, NULL, 0);
	shmctl(id, IPC_RMID, NULL);
	if (p == (void *)-1)
		return MMN_CHECK_UNTESTED;
	if (!watch(probe, p, MMN_PAGE_SIZE)) {
		shmdt(p);
		return MMN_CHECK_UNTESTED;
	}
	return judge(probe, !shmdt(p));
}

static uint8_t check_shmat(struct probe *probe)
{
	int id = shmget(IPC_PRIVATE, MMN_PAGE_SIZE, IPC_CREAT | 0600);
	void *p, *got;

	if (id < 0)
		return MMN_CHECK_UNTESTED;
	p = anonymous(probe);
	got = p ? shmat(id, p, SHM_REMAP) : (void *)-1;
	shmctl(id, IPC_RMID, NULL);
	return p ? finish(probe, p, got == p) : MMN_CHECK_UNTESTED;
}

/* A file of two pages in memory, mapped and watched. */
static void *file(struct probe *probe, int *ret_fd)
{
	int fd = memfd_create("mmn-self-check", MFD_CLOEXEC);
	void *p;

	if (fd < 0)
		return NULL;
	p = ftruncate(fd, 2 * MMN_PAGE_SIZE) ? NULL
					     : scratch(probe, MAP_SHARED, fd);
	if (!p) {
		close(fd);
		return NULL;
	}
	*ret_fd = fd;
	return p;
}

static uint8_t check_fallocate(struct probe *probe)
{
	bool done;
	void *p;
	int fd;

	p = file(probe, &fd);
	if (!p)
		return MMN_CHECK_UNTESTED;
	done = !fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			  MMN_PAGE_SIZE);
	close(fd);
	return finish(probe, p, done);
}

static uint8_t check_truncate(struct probe *probe)
{
	bool done;
	void *p;
	int fd;

	p = file(probe, &fd);
	if (!p)
		return MMN_CHECK_UNTESTED;
	done = !ftruncate(fd, MMN_PAGE_SIZE);
	close(fd);
	return finish(probe, p, done);
}

/* CLONE_SIGHAND without CLONE_VM: the kernel refuses before it does anything. */
static uint8_t check_fork(struct probe *probe)
{
	void *p = anonymous(probe);

	if (!p)
		return MMN_CHECK_UNTESTED;
	syscall(SYS_clone, CLONE_SIGHAND, 0, 0, 0, 0);
	return finish(probe, p, true);
}

static uint8_t check_exec(struct probe *probe)
{
	char *const argv[] = { NULL };
	void *p = anonymous(probe);
	bool tried = false;
	int fd;

	if (!p)
		return MMN_CHECK_UNTESTED;
	fd = memfd_create("mmn-self-check", MFD_CLOEXEC);
	if (fd >= 0) {
		fchmod(fd, 0700);
		fexecve(fd, argv, environ);
		tried = errno == ENOEXEC;
		close(fd);
	}
	return finish(probe, p, tried);
}

/* An allocator of the program's own may keep the block. */
static uint8_t check_free(struct probe *probe)
{
	unsigned char resident;
	uintptr_t page;
	void *volatile block = malloc(LARGE_BLOCK);

	if (!block)
		return MMN_CHECK_UNTESTED;
	page = ((uintptr_t)block + 2 * MMN_PAGE_SIZE) & ~(MMN_PAGE_SIZE - 1);
	if (!watch(probe, (void *)page, MMN_PAGE_SIZE)) {
		free(block);
		return MMN_CHECK_UNTESTED;
	}
	free(block);
	return judge(probe, mincore((void *)page, MMN_PAGE_SIZE, &resident) &&
				    errno == ENOMEM);
}

struct check_thread {
	struct probe *probe;
	bool watched;
};

static void *watch_own_stack(void *arg)
{
	struct check_thread *check = arg;
	pthread_attr_t attr;
	size_t size;
	void *low;

	if (pthread_getattr_np(pthread_self(), &attr))
		return NULL;
	if (!pthread_attr_getstack(&attr, &low, &size))
		check->watched = watch(check->probe, low, MMN_PAGE_SIZE);
	pthread_attr_destroy(&attr);
	return NULL;
}

static uint8_t check_thread_exit(struct probe *probe)
{
	struct check_thread check = { .probe = probe };
	pthread_attr_t attr;
	pthread_t thread;
	bool made;

	if (!mmn_patch_has_threads() || pthread_attr_init(&attr))
		return MMN_CHECK_UNTESTED;
	made = !pthread_attr_setstacksize(&attr, LARGE_STACK) &&
	       !pthread_create(&thread, &attr, watch_own_stack, &check);
	pthread_attr_destroy(&attr);
	if (!made)
		return MMN_CHECK_UNTESTED;
	pthread_join(thread, NULL);
	return check.watched ? judge(probe, true) : MMN_CHECK_UNTESTED;
}

/* Parts of libc that are empty today, and that hardly anybody has loaded. */
static uint8_t check_dlclose(struct probe *probe)
{
	static const char *const names[] = { "libutil.so.1", "librt.so.1",
					     "libanl.so.1" };
	const struct link_map *map;
	void *handle = NULL;
	uintptr_t page;
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]) && !handle; i++) {
		void *loaded = dlopen(names[i], RTLD_NOW | RTLD_NOLOAD);

		if (loaded)
			dlclose(loaded);
		else
			handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
	}
	if (!handle)
		return MMN_CHECK_UNTESTED;
	if (dlinfo(handle, RTLD_DI_LINKMAP, &map)) {
		dlclose(handle);
		return MMN_CHECK_UNTESTED;
	}
	page = (uintptr_t)map->l_ld & ~(MMN_PAGE_SIZE - 1);
	if (!watch(probe, (void *)page, MMN_PAGE_SIZE)) {
		dlclose(handle);
		return MMN_CHECK_UNTESTED;
	}
	return judge(probe, !dlclose(handle));
}

void mmn_self_check(struct mmn_state *state, uint8_t *results)
{
	static uint8_t (*const checks[MMN_NR_CHECKS])(struct probe * probe) = {
		[MMN_CALL_MUNMAP] = check_munmap,
		[MMN_CALL_MMAP_FIXED] = check_mmap_fixed,
		[MMN_CALL_MREMAP] = check_mremap,
		[MMN_CALL_MADVISE] = check_madvise,
		[MMN_CALL_PROCESS_MADVISE] = check_process_madvise,
		[MMN_CALL_MPROTECT] = check_mprotect,
		[MMN_CALL_BRK] = check_brk,
		[MMN_CALL_SHMDT] = check_shmdt,
		[MMN_CALL_SHMAT] = check_shmat,
		[MMN_CALL_FALLOCATE] = check_fallocate,
		[MMN_CALL_TRUNCATE] = check_truncate,
		[MMN_CALL_FORK] = check_fork,
		[MMN_CALL_EXEC] = check_exec,
		[MMN_CHECK_FREE] = check_free,
		[MMN_CHECK_THREAD_EXIT] = check_thread_exit,
		[MMN_CHECK_DLCLOSE] = check_dlclose,
		[MMN_CHECK_SYSCALL] = check_syscall,
	};
	const struct mmn_range_config config = {
		.size = sizeof(config),
		.ops = &count_ops,
		.lock = mmn_driver_no_lock(),
	};
	struct probe probe = { .state = state };
	int saved_errno = errno;
	uint32_t i;

	mmn_range_subscription_init(&probe.sub, &config);
	for (i = 0; i < MMN_NR_CHECKS; i++)
		results[i] = checks[i] ? checks[i](&probe) : MMN_CHECK_UNTESTED;
	errno = saved_errno;
}
