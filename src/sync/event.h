/* SPDX-License-Identifier: MIT */
#ifndef MMN_SYNC_EVENT_H
#define MMN_SYNC_EVENT_H
/*
 * Descriptors that become readable: eventfds, by raw system calls, so that they
 * can be used in callbacks.
 */
#include <stdbool.h>

enum event_kind {
	/* Readable for good once raised, whatever is read. */
	EVENT_STICKY,
	/* Until it is cleared. */
	EVENT_PLAIN,
};

/* 0; -EMFILE, -ENFILE, -ENOMEM. */
int event_open(enum event_kind kind, int *ret_fd);

/* None of these blocks, any context. */
void event_raise(int fd, enum event_kind kind);
void event_clear(int fd);
void event_close(int fd);

/*
 * A duplicate of a caller's eventfd, for event_add().
 * 0; -EBADF, -EINVAL (something else), -EMFILE.
 */
int event_adopt(int fd, int *ret_fd);
/* Add 1; skipped if it is full, and so readable already. */
void event_add(int fd);

#endif
