/* SPDX-License-Identifier: MIT */
/*
 * The software device: a page-table walker that really holds its pages.
 *
 * What makes an entry of a real device stale is that the device goes on using
 * the page while the address means another one.  To act that, a map must hold
 * physical pages, not addresses.  vmsplice() does it without privileges: it puts
 * references to the pages of a range into a pipe; tee() copies references from
 * one pipe to another without consuming them, and reading the copy reads the
 * page that is held, whatever is mapped at its old address.
 *
 *	map:       pages --vmsplice--> held pipe (64 pages each)
 *	transfer:  held pipe --tee--> work pipe --splice--> /dev/null (offset)
 *	                              work pipe --read--> buffer
 *
 * A pipe cannot be written through, so device writes go through a second mapping
 * of the same object, which mremap() with an old size of 0 makes of shared
 * mappings.  It stays when the first mapping goes, so it is stale in the same
 * way.
 *
 * vmsplice() looks pages up for reading.  A page that is shared by copy-on-write
 * would be replaced by the program's next write, so pages of writable private
 * mappings are made the program's own before.
 *
 * Rejected: keeping a copy of the page (is never stale in the way that matters),
 * reading /proc/self/mem (reads addresses), mapping the page frames from
 * /dev/mem (privileged).
 *
 * One thread does everything that needs descriptors, and has a table of its own
 * for them.  Others hand it commands, which live on their stacks, and transfers,
 * which are the callers'.  Commands overtake transfers.  A transfer under
 * way ends at its time; the unmap command of its map waits for that, others
 * do not.
 *
 *	map: LIVE --unmap_begin--> DYING --unmap command--> gone
 *	  DYING: submit says -ESTALE, queued transfers are done with -ESTALE
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include <mmn/device.h>

#include "base/arena.h"
#include "base/bug.h"
#include "base/list.h"
#include "base/lock.h"
#include "base/process.h"
#include "base/rcu.h"
#include "base/thread.h"
#include "base/time.h"
#include "base/wait.h"
#include "mirror/config.h"
#include "mirror/pages.h"

enum {
	QUEUE_DEPTH_DEFAULT = 1024,
	SEGMENT_PAGES = 64,
	STACK_BYTES = 256 * 1024,
};

enum command_kind { COMMAND_MAP, COMMAND_UNMAP, COMMAND_STOP };

/* On the stack of the thread that waits for it. */
struct command {
	struct list_head link;
	enum command_kind kind;
	struct soft_map *map;
	/* written under the lock, with the last word of the worker: @done */
	int result;
	uint32_t done;
};

struct soft_map {
	struct mmn_device_map map;
	/* under the lock */
	bool dying;
	/* the worker's: */
	/* second mapping, 0 for none */
	uintptr_t alias;
	uint32_t nr_segments;
	/* read ends of the pipes, -1 where there is none */
	int segments[];
};

/* How the library keeps a transfer in a queue: in its private words. */
struct queued {
	struct list_head link;
};

_Static_assert(sizeof(struct queued) <=
		       sizeof(((struct mmn_device_transfer *)0)->private_),
	       "a transfer has room for the queue");

/*
 * struct soft_device
 *
 * D1  nr_queued is the length of transfers, and at most queue_depth.
 */
struct soft_device {
	struct mmn_device device;
	/* const after create */
	uint32_t queue_depth;
	uint32_t generation;
	uint64_t transfer_ns;
	pthread_t thread;

	/* Short: signals blocked, nothing called inside. */
	struct mmn_mutex lock;
	/* under @lock; the worker sleeps on it: changes with each of the next */
	uint32_t bell;
	struct list_head commands;
	struct list_head transfers;
	uint32_t nr_queued;
	uint32_t nr_maps;
	/* The transfer that takes its time, written by the worker. */
	struct mmn_device_transfer *current;
	uint32_t started;
	int start_error;

	/* the worker's: */
	uint64_t current_end;
	struct mmn_pages *pages;
	int work_in;
	int work_out;
	int null;
	bool stopped;
};

static struct soft_device *soft_of(struct mmn_device *device)
{
	return container_of(device, struct soft_device, device);
}

static struct soft_map *map_of(struct mmn_device_map *map)
{
	return container_of(map, struct soft_map, map);
}

static struct queued *queued_of(struct mmn_device_transfer *transfer)
{
	return (struct queued *)(void *)transfer->private_;
}

static struct mmn_device_transfer *transfer_of(struct list_head *link)
{
	return container_of((void *)container_of(link, struct queued, link),
			    struct mmn_device_transfer, private_);
}

static bool soft_is_live(const struct soft_device *soft)
{
	return soft->generation == mmn_process_generation();
}

static void soft_lock(struct soft_device *soft,
		      struct mmn_sigmask *saved) MMN_NO_LOCK_ANALYSIS
{
	mmn_signals_block(saved);
	mmn_mutex_lock(&soft->lock);
}

static void soft_unlock(struct soft_device *soft,
			const struct mmn_sigmask *saved) MMN_NO_LOCK_ANALYSIS
{
	mmn_check(soft->nr_queued <= soft->queue_depth); /* D1 */
	mmn_mutex_unlock(&soft->lock);
	mmn_signals_restore(saved);
}

/* ------------------------------------------------------------------ */
/* The worker: maps                                                   */
/* ------------------------------------------------------------------ */

static void close_file(int *fd)
{
	if (*fd >= 0)
		mmn_syscall1(__NR_close, *fd);
	*fd = -1;
}

/* A pipe that holds @nr pages. */
static int open_pipe(uint32_t nr, int fds[2])
{
	long ret = mmn_syscall2(__NR_pipe2, fds, O_CLOEXEC | O_NONBLOCK);

	if (ret == -EMFILE || ret == -ENFILE)
		return -ENOSPC;
	if (ret)
		return (int)ret;
	ret = mmn_syscall3(__NR_fcntl, fds[1], F_SETPIPE_SZ,
			   nr * mmn_page_size());
	if (ret >= 0)
		return 0;
	close_file(&fds[0]);
	close_file(&fds[1]);
	/* too much for an unprivileged user's pipes altogether */
	return ret == -EPERM ? -EDQUOT : (int)ret;
}

/* Take references to [start, start + bytes). */
static int hold_segment(uintptr_t start, size_t bytes, int *ret_fd)
{
	struct iovec pages = { (void *)start, bytes };
	int fds[2];
	long got;
	int err;

	err = open_pipe((uint32_t)(bytes / mmn_page_size()), fds);
	if (err)
		return err;
	while (!err && pages.iov_len) {
		got = mmn_syscall4(__NR_vmsplice, fds[1], &pages, 1,
				   SPLICE_F_NONBLOCK);
		if (got > 0) {
			pages.iov_base = (char *)pages.iov_base + got;
			pages.iov_len -= (size_t)got;
		} else if (got != -EINTR) {
			err = got == -ENOMEM   ? -ENOMEM
			      : got == -EAGAIN ? -ENOSPC
					       : -EFAULT;
		}
	}
	close_file(&fds[1]);
	if (err)
		close_file(&fds[0]);
	else
		*ret_fd = fds[0];
	return err;
}

/*
 * Fault the pages in; writable private ones so that no later write replaces
 * them.  Writing by the device needs one shared mapping all along.
 */
static int settle(struct soft_device *soft, const struct mmn_device_map *map)
{
	const uint32_t shared = MMN_REGION_SHARED | MMN_REGION_WRITE;
	struct mmn_region region;
	uintptr_t pos = map->start;
	uintptr_t last;
	int err;

	pages_rewind(soft->pages);
	for (;;) {
		err = pages_lookup(soft->pages, pos, &region);
		if (err || region.start > pos)
			return -EFAULT;
		last = region.last < map->last ? region.last : map->last;
		if ((map->access & MMN_DEVICE_WRITE) &&
		    ((region.flags & shared) != shared || last != map->last ||
		     pos != map->start))
			return -EFAULT;
		err = pages_populate(soft->pages, pos, last,
				     (region.flags & shared) ==
					     MMN_REGION_WRITE);
		if (err)
			return err == -ENOMEM ? -ENOMEM : -EFAULT;
		if (last == map->last)
			return 0;
		pos = last + 1;
	}
}

static int make_alias(struct soft_map *map)
{
	size_t bytes = map->map.last - map->map.start + 1;
	long alias;

	alias = mmn_syscall6(__NR_mremap, map->map.start, 0, bytes,
			     MREMAP_MAYMOVE, 0, 0);
	if (mmn_syscall_failed(alias))
		return alias == -ENOMEM ? -ENOMEM : -EFAULT;
	map->alias = (uintptr_t)alias;
	/* Children have no use for it. */
	mmn_syscall3(__NR_madvise, alias, bytes, MADV_DONTFORK);
	return 0;
}

static void release_pages(struct soft_map *map)
{
	uint32_t i;

	for (i = 0; i < map->nr_segments; i++)
		close_file(&map->segments[i]);
	if (map->alias)
		mmn_syscall2(__NR_munmap, map->alias,
			     map->map.last - map->map.start + 1);
	map->alias = 0;
}

static int hold_pages(struct soft_device *soft, struct soft_map *map)
{
	size_t segment = SEGMENT_PAGES * mmn_page_size();
	uintptr_t start;
	size_t bytes;
	uint32_t i;
	int err;

	err = settle(soft, &map->map);
	for (i = 0; !err && i < map->nr_segments; i++) {
		start = map->map.start + i * segment;
		bytes = map->map.last - start + 1;
		if (bytes > segment)
			bytes = segment;
		err = hold_segment(start, bytes, &map->segments[i]);
	}
	if (!err && (map->map.access & MMN_DEVICE_WRITE))
		err = make_alias(map);
	if (err)
		release_pages(map);
	return err;
}

/* ------------------------------------------------------------------ */
/* The worker: transfers                                              */
/* ------------------------------------------------------------------ */

/* Drop @bytes of what is in the work pipe. */
static int work_discard(struct soft_device *soft, size_t bytes)
{
	long got;

	while (bytes) {
		got = mmn_syscall6(__NR_splice, soft->work_in, 0, soft->null, 0,
				   bytes, SPLICE_F_NONBLOCK);
		if (got == -EINTR)
			continue;
		if (got <= 0)
			return got ? (int)got : -EIO;
		bytes -= (size_t)got;
	}
	return 0;
}

/* Bytes [@offset, @offset + @length) of the pages that @held holds. */
static int read_held(struct soft_device *soft, int held, size_t offset,
		     char *buffer, size_t length)
{
	size_t left = offset + length;
	long got;
	int err;

	got = mmn_syscall4(__NR_tee, held, soft->work_out, left,
			   SPLICE_F_NONBLOCK);
	if (got != (long)left)
		err = got < 0 ? (int)got : -EIO;
	else
		err = work_discard(soft, offset);
	while (!err && length) {
		got = mmn_syscall3(__NR_read, soft->work_in, buffer, length);
		if (got > 0) {
			buffer += got;
			length -= (size_t)got;
		} else if (got != -EINTR) {
			err = got ? (int)got : -EIO;
		}
	}
	/* Leave the work pipe empty, whatever happened: until "no data". */
	if (err)
		work_discard(soft, SIZE_MAX);
	return err;
}

static int64_t device_read(struct soft_device *soft,
			   const struct mmn_device_transfer *transfer)
{
	const struct soft_map *map = map_of(transfer->map);
	size_t segment = SEGMENT_PAGES * mmn_page_size();
	size_t pos = transfer->offset;
	size_t end = pos + transfer->length;
	char *buffer = transfer->buffer;
	size_t bytes;
	int err;

	while (pos < end) {
		bytes = segment - pos % segment;
		if (bytes > end - pos)
			bytes = end - pos;
		err = read_held(soft, map->segments[pos / segment],
				pos % segment, buffer, bytes);
		if (err)
			return err;
		pos += bytes;
		buffer += bytes;
	}
	return (int64_t)transfer->length;
}

static int64_t device_write(struct soft_device *soft,
			    const struct mmn_device_transfer *transfer)
{
	const struct soft_map *map = map_of(transfer->map);
	struct iovec from = { transfer->buffer, transfer->length };
	struct iovec to = { (void *)(map->alias + transfer->offset),
			    transfer->length };

	/* A store could raise SIGBUS if the file was cut. */
	return mmn_syscall6(__NR_process_vm_writev, soft->pages->pid, &from, 1,
			    &to, 1, 0);
}

static void complete(struct mmn_device_transfer *transfer, int64_t result)
{
	transfer->result = result;
	transfer->done(transfer);
}

static void run_transfer(struct soft_device *soft)
{
	struct mmn_device_transfer *transfer = soft->current;
	struct mmn_sigmask saved;
	int64_t result;

	if (transfer->access == MMN_DEVICE_READ)
		result = device_read(soft, transfer);
	else
		result = device_write(soft, transfer);
	/* Only then may the map go: unmap_finish() waits for done, too. */
	complete(transfer, result);
	soft_lock(soft, &saved);
	soft->current = NULL;
	soft_unlock(soft, &saved);
}

/* A transfer of @map that waits in the queue, taken out; any if @map is NULL. */
static struct mmn_device_transfer *take_queued(struct soft_device *soft,
					       const struct soft_map *map)
{
	struct mmn_device_transfer *transfer;
	struct list_head *link;

	for (link = soft->transfers.next; link != &soft->transfers;
	     link = link->next) {
		transfer = transfer_of(link);
		if (map && transfer->map != &map->map)
			continue;
		list_del(link);
		soft->nr_queued--;
		return transfer;
	}
	return NULL;
}

static void cancel_queued(struct soft_device *soft, const struct soft_map *map)
{
	struct mmn_device_transfer *transfer;
	struct mmn_sigmask saved;

	for (;;) {
		soft_lock(soft, &saved);
		transfer = take_queued(soft, map);
		soft_unlock(soft, &saved);
		if (!transfer)
			return;
		complete(transfer, -ESTALE);
	}
}

/* ------------------------------------------------------------------ */
/* The worker: its loop                                               */
/* ------------------------------------------------------------------ */

static void run_command(struct soft_device *soft, struct command *command)
{
	struct mmn_sigmask saved;
	uint32_t *done = &command->done;
	int result = 0;

	switch (command->kind) {
	case COMMAND_MAP:
		result = hold_pages(soft, command->map);
		break;
	case COMMAND_UNMAP:
		cancel_queued(soft, command->map);
		release_pages(command->map);
		break;
	case COMMAND_STOP:
		soft->stopped = true;
		break;
	}
	soft_lock(soft, &saved);
	command->result = result;
	/* relaxed: the lock orders it */
	mmn_store_relaxed(done, 1);
	soft_unlock(soft, &saved);
	/* The stack of the waiter may be something else by now: no harm. */
	mmn_wake(done, 1);
}

/* Lock held.  The first that can be carried out now. */
static struct command *take_command(struct soft_device *soft)
{
	struct command *command;

	list_for_each (command, &soft->commands, link) {
		if (command->kind == COMMAND_UNMAP && soft->current &&
		    soft->current->map == &command->map->map)
			continue;
		list_del(&command->link);
		return command;
	}
	return NULL;
}

static void sleep_until(struct soft_device *soft, uint32_t seen)
{
	struct timespec end = mmn_timespec(soft->current_end);

	mmn_wait_on(&soft->bell, seen, soft->current ? &end : NULL);
}

static void work(struct soft_device *soft)
{
	struct command *command;
	struct mmn_sigmask saved;
	uint32_t seen;
	bool begun;

	while (!soft->stopped) {
		soft_lock(soft, &saved);
		/* relaxed: the lock orders it */
		seen = mmn_load_relaxed(&soft->bell);
		command = take_command(soft);
		begun = false;
		if (!command && !soft->current) {
			soft->current = take_queued(soft, NULL);
			begun = soft->current;
		}
		soft_unlock(soft, &saved);

		if (command)
			run_command(soft, command);
		else if (begun && soft->transfer_ns)
			soft->current_end = mmn_now_ns() + soft->transfer_ns;
		else if (soft->current && (!soft->transfer_ns ||
					   mmn_now_ns() >= soft->current_end))
			run_transfer(soft);
		else
			sleep_until(soft, seen);
	}
}

/* Whatever the process has open is not the worker's business. */
static void close_inherited(void)
{
	struct rlimit limit = { 65536, 65536 };
	rlim_t fd;

#ifdef __NR_close_range
	if (mmn_syscall3(__NR_close_range, 0, ~0U, 0) == 0)
		return;
#endif
	getrlimit(RLIMIT_NOFILE, &limit);
	for (fd = 0; fd < limit.rlim_cur && fd < 65536; fd++)
		mmn_syscall1(__NR_close, fd);
}

static int set_up(struct soft_device *soft)
{
	int fds[2];
	long ret;
	int err;

	ret = mmn_syscall1(__NR_unshare, CLONE_FILES);
	if (ret)
		return (int)ret;
	close_inherited();
	ret = mmn_syscall4(__NR_openat, AT_FDCWD, "/dev/null",
			   O_WRONLY | O_CLOEXEC, 0);
	if (ret < 0)
		return (int)ret;
	soft->null = (int)ret;
	err = open_pipe(SEGMENT_PAGES, fds);
	if (err)
		return err;
	soft->work_in = fds[0];
	soft->work_out = fds[1];
	return mmn_pages_open(NULL, &soft->pages);
}

static void *worker(void *arg)
{
	struct soft_device *soft = arg;
	struct mmn_sigmask saved;
	int err;

	mmn_syscall2(__NR_prctl, PR_SET_NAME, "mmn-soft");
	/* What a first section needs of libc: later a fork may have its locks. */
	mmn_rcu_read_lock();
	mmn_rcu_read_unlock();
	err = set_up(soft);
	soft_lock(soft, &saved);
	soft->start_error = err;
	/* relaxed: the lock orders it */
	mmn_store_relaxed(&soft->started, 1);
	soft_unlock(soft, &saved);
	mmn_wake(&soft->started, 1);
	if (!err)
		work(soft);
	mmn_pages_close(soft->pages);
	close_file(&soft->work_in);
	close_file(&soft->work_out);
	close_file(&soft->null);
	return NULL;
}

/* ------------------------------------------------------------------ */
/* The other threads                                                  */
/* ------------------------------------------------------------------ */

/* Sleep until @word, which is written under the lock, is not 0. */
static void wait_for(struct soft_device *soft, uint32_t *word)
{
	struct mmn_sigmask saved;
	bool done;

	for (;;) {
		soft_lock(soft, &saved);
		/* relaxed: the lock orders it */
		done = mmn_load_relaxed(word);
		soft_unlock(soft, &saved);
		if (done)
			return;
		mmn_wait_on(word, 0, NULL);
	}
}

/* Lock held: something for the worker has been queued. */
static void ring(struct soft_device *soft)
{
	/* relaxed: the lock orders it */
	mmn_store_relaxed(&soft->bell, soft->bell + 1);
}

/* Hand a command to the worker and wait until it is carried out. */
static int command_run(struct soft_device *soft, enum command_kind kind,
		       struct soft_map *map)
{
	struct command command = { .kind = kind, .map = map };
	struct mmn_sigmask saved;

	soft_lock(soft, &saved);
	list_add_tail(&command.link, &soft->commands);
	ring(soft);
	soft_unlock(soft, &saved);
	mmn_wake(&soft->bell, 1);
	wait_for(soft, &command.done);
	return command.result;
}

static int soft_map(struct mmn_device *device, uintptr_t start, uintptr_t last,
		    uint32_t access, struct mmn_device_map **ret_map)
{
	struct soft_device *soft = soft_of(device);
	size_t segment = SEGMENT_PAGES * mmn_page_size();
	size_t nr_segments = (last - start) / segment + 1;
	struct mmn_sigmask saved;
	struct soft_map *map;
	size_t i;
	int err;

	if (!soft_is_live(soft))
		return -ESTALE;
	/* Far beyond what descriptors there are. */
	if (nr_segments > UINT16_MAX)
		return -ENOSPC;
	map = mmn_callback_zalloc(sizeof(*map) +
				  nr_segments * sizeof(map->segments[0]));
	if (!map)
		return -ENOMEM;
	map->map = (struct mmn_device_map){
		.device = device,
		.start = start,
		.last = last,
		.access = access,
	};
	map->nr_segments = (uint32_t)nr_segments;
	for (i = 0; i < nr_segments; i++)
		map->segments[i] = -1;
	err = command_run(soft, COMMAND_MAP, map);
	if (err) {
		mmn_callback_free(map);
		return err;
	}
	soft_lock(soft, &saved);
	soft->nr_maps++;
	soft_unlock(soft, &saved);
	*ret_map = &map->map;
	return 0;
}

static void soft_unmap_begin(struct mmn_device_map *public_map)
{
	struct soft_device *soft = soft_of(public_map->device);
	struct soft_map *map = map_of(public_map);
	struct mmn_sigmask saved;

	if (!soft_is_live(soft))
		return;
	soft_lock(soft, &saved);
	mmn_bug_on(map->dying, "device map taken away twice");
	map->dying = true;
	soft_unlock(soft, &saved);
}

static void soft_unmap_finish(struct mmn_device_map *public_map)
{
	struct soft_device *soft = soft_of(public_map->device);
	struct soft_map *map = map_of(public_map);
	struct mmn_sigmask saved;

	if (soft_is_live(soft)) {
		command_run(soft, COMMAND_UNMAP, map);
		soft_lock(soft, &saved);
		soft->nr_maps--;
		soft_unlock(soft, &saved);
	}
	mmn_callback_free(map);
}

static int soft_submit(struct mmn_device_transfer *transfer)
{
	struct soft_device *soft = soft_of(transfer->map->device);
	struct mmn_sigmask saved;
	int err = 0;

	if (!soft_is_live(soft))
		return -ESTALE;
	soft_lock(soft, &saved);
	if (map_of(transfer->map)->dying) {
		err = -ESTALE;
	} else if (soft->nr_queued == soft->queue_depth) {
		err = -EBUSY;
	} else {
		list_add_tail(&queued_of(transfer)->link, &soft->transfers);
		soft->nr_queued++;
		ring(soft);
	}
	soft_unlock(soft, &saved);
	if (!err)
		mmn_wake(&soft->bell, 1);
	return err;
}

static void soft_free(struct soft_device *soft)
{
	mmn_mutex_fini(&soft->lock);
	mmn_callback_free(soft);
}

static void soft_destroy(struct mmn_device *device)
{
	struct soft_device *soft = soft_of(device);

	if (soft_is_live(soft)) {
		mmn_bug_on(soft->nr_maps, "device destroyed with maps");
		command_run(soft, COMMAND_STOP, NULL);
		pthread_join(soft->thread, NULL);
	}
	soft_free(soft);
}

static const struct mmn_device_ops soft_ops = {
	.name = "soft",
	.map = soft_map,
	.unmap_begin = soft_unmap_begin,
	.unmap_finish = soft_unmap_finish,
	.submit = soft_submit,
	.destroy = soft_destroy,
};

static int start_worker(struct soft_device *soft)
{
	pthread_attr_t attr;
	int err;

	err = pthread_attr_init(&attr);
	if (err)
		return -ENOMEM;
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	err = mmn_thread_create(&soft->thread, &attr, worker, soft);
	pthread_attr_destroy(&attr);
	if (err)
		return err;
	wait_for(soft, &soft->started);
	if (soft->start_error)
		pthread_join(soft->thread, NULL);
	return soft->start_error;
}

int mmn_soft_device_create(const struct mmn_soft_config *config,
			   struct mmn_device **ret_device)
{
	struct mmn_soft_config c = { .size = sizeof(c) };
	struct soft_device *soft;
	int err;

	if (!ret_device)
		return -EINVAL;
	if (config) {
		err = config_copy(&c, sizeof(c), sizeof(c), config,
				  config->size);
		if (err)
			return err;
	}
	if (c.flags || c.reserved)
		return -EINVAL;
	soft = mmn_callback_zalloc(sizeof(*soft));
	if (!soft)
		return -ENOMEM;
	soft->device.ops = &soft_ops;
	soft->queue_depth = c.queue_depth ? c.queue_depth : QUEUE_DEPTH_DEFAULT;
	soft->transfer_ns = c.transfer_ns;
	soft->generation = mmn_process_adopt();
	mmn_mutex_init(&soft->lock, MMN_RANK_DEVICE_MAP);
	list_init(&soft->commands);
	list_init(&soft->transfers);
	soft->work_in = -1;
	soft->work_out = -1;
	soft->null = -1;
	err = start_worker(soft);
	if (err)
		soft_free(soft);
	else
		*ret_device = &soft->device;
	return err;
}
