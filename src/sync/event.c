/* SPDX-License-Identifier: MIT */
#include "sync/event.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "base/compiler.h"
#include "base/inject.h"
#include "base/syscall.h"
#include "base/text.h"

int event_open(enum event_kind kind, int *ret_fd)
{
	int flags = EFD_CLOEXEC | EFD_NONBLOCK;
	long fd;

	if (MMN_INJECT(MMN_INJECT_ALLOC))
		return -ENOMEM;
	if (kind == EVENT_STICKY)
		flags |= EFD_SEMAPHORE;
	fd = mmn_syscall2(__NR_eventfd2, 0, flags);
	if (fd < 0)
		return (int)fd;
	*ret_fd = (int)fd;
	return 0;
}

/* Refused when it would overflow: then it is readable. */
static void write_count(int fd, uint64_t count)
{
	mmn_syscall3(__NR_write, fd, &count, sizeof(count));
}

void event_raise(int fd, enum event_kind kind)
{
	write_count(fd, kind == EVENT_STICKY ? UINT64_MAX - 1 : 1);
}

void event_clear(int fd)
{
	uint64_t count;

	mmn_syscall3(__NR_read, fd, &count, sizeof(count));
}

void event_close(int fd)
{
	if (fd >= 0)
		mmn_syscall1(__NR_close, fd);
}

/* Where there is no /proc, the caller is believed.  Threads may differ in files. */
static bool is_eventfd(int fd)
{
	static const char eventfd[] = "anon_inode:[eventfd]";
	char link[sizeof(eventfd)];
	struct mmn_text path;
	long length;

	mmn_text_init(&path);
	mmn_text_add(&path, "/proc/thread-self/fd/");
	mmn_text_add_number(&path, (uint64_t)fd);
	length = mmn_syscall4(__NR_readlinkat, AT_FDCWD, path.buffer, link,
			      sizeof(link));
	if (length < 0)
		return true;
	return length == sizeof(eventfd) - 1 &&
	       !memcmp(link, eventfd, (size_t)length);
}

int event_adopt(int fd, int *ret_fd)
{
	long copy = mmn_syscall3(__NR_fcntl, fd, F_DUPFD_CLOEXEC, 0);

	if (copy < 0)
		return (int)copy;
	if (!is_eventfd((int)copy)) {
		event_close((int)copy);
		return -EINVAL;
	}
	*ret_fd = (int)copy;
	return 0;
}

void event_add(int fd)
{
	struct pollfd room = { .fd = fd, .events = POLLOUT };
	struct timespec now = { 0, 0 };

	/* The descriptor is the caller's: it may block. */
	if (mmn_syscall6(__NR_ppoll, &room, 1, &now, 0, 0, 0) == 1 &&
	    room.revents & POLLOUT)
		write_count(fd, 1);
}
