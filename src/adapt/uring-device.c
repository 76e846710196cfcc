/* SPDX-License-Identifier: MIT */
/*
 * A device made of an io_uring.
 *
 * One thread, the service thread, does everything that touches the ring, its
 * descriptors, the free slots and the lanes.  All others hand it requests
 * through a lock-free inbox and, if they need the answer, sleep on a word of
 * the request:
 *
 *	any thread                         service thread
 *	push request on inbox
 *	ring the bell; ASLEEP ? wake       take the inbox, work
 *	sleep on request->answered  <---   answered = ANSWERED, wake
 *
 * That path has no lock, no heap and no libc in it, because unmap_begin() and
 * unmap_finish() run in invalidation callbacks of arbitrary program threads, in
 * vfork children that share the memory but not the descriptors, and with
 * half-finished library calls of the program underneath.
 *
 * The life of a map (struct uring_map), one per slot of the ring's table of
 * buffers:
 *
 *	FREE --map()--> LIVE --unmap_begin()--> DYING --tag, last done()--> GONE
 *	  ^                                                                  |
 *	  '------------------------- unmap_finish() -------------------------'
 *
 * A map is given to the kernel with a tag.  Clearing the slot drops the
 * table's reference to the pinned pages, each transfer in the kernel has one of
 * its own, and the kernel posts the tag when the last is dropped: the fence.
 *
 * A transfer goes through a pipe of the device (a lane): for READ the kernel
 * writes the pinned pages into the pipe (WRITE_FIXED) and the service thread
 * reads the pipe into the caller's buffer; WRITE is the mirror image.  Pipes
 * were chosen over a memfd as the other end because the kernel moves pipe data
 * at once where it hands tmpfs to a worker thread (2 us against 10 us for a
 * page), because a full or an empty pipe holds a transfer in the kernel for as
 * long as a test wants, and because a bad @buffer is an -EFAULT and not a
 * SIGSEGV in the service thread.
 *
 * Waiting: with nothing in the ring the service thread sleeps on the bell.
 * Otherwise it sleeps in the ring, which since Linux 6.7 can wait for the bell
 * too (IORING_OP_FUTEX_WAIT); before, it looks at the inbox every POLL_NS.
 */
#include <mmn/dma-fence.h>
#include <mmn/uring-device.h>

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/compiler.h"
#include "base/syscall.h"
#include "base/time.h"

#define DEFAULT_MAPS 1024u
#define DEFAULT_DEPTH 32u
#define STACK_BYTES ((size_t)256 * 1024)
#define POLL_NS 200000
#define RETRY_NS 1000000

/* Of newer kernels than the headers that Debian 12 builds with. */
#define OP_FUTEX_WAIT 51
#define FUTEX2_U32_PRIVATE (2 | FUTEX_PRIVATE_FLAG)
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Flags of the bell: the service thread sleeps or is about to; somebody rang. */
#define BELL_ASLEEP 1u
#define BELL_RUNG 2u

/* The word that the asker of a request sleeps on. */
#define ANSWER_NONE 0u
#define ANSWER_GIVEN 1u
#define ANSWER_SLEEPER 2u

/* struct uring_map, use: a flag and the number of its transfers */
#define USE_DYING 1u
#define USE_TRANSFER 2u

/* What a completion belongs to, in the upper half of its user_data. */
#define OF_NOTHING UINT64_C(0)
#define OF_LANE (UINT64_C(1) << 32)
#define OF_SLOT (UINT64_C(2) << 32)
#define OF_BELL (UINT64_C(3) << 32)
#define OF_MASK (UINT64_C(3) << 32)

enum request_kind {
	REQUEST_MAP,
	REQUEST_CLEAR,
	REQUEST_TRANSFER,
	REQUEST_HOLD,
	REQUEST_RELEASE,
	REQUEST_STOP,
};

/* The sender's until it is on the inbox, the service thread's from there on. */
struct request {
	struct request *next;
	uint32_t kind;
	uint32_t reserved;
};

/* A request whose sender waits for it, on the sender's stack. */
struct call {
	struct request request;
	/* atomic: ANSWER_*, futex */
	uint32_t answered;
	int result;
	/* For REQUEST_MAP. */
	uintptr_t start;
	uintptr_t last;
	uint32_t access;
	struct uring_map *map;
};

/* struct mmn_device_transfer, private_ */
struct work {
	struct request request;
	uint64_t moved;
};

/*
 * struct uring_map - a slot of the ring's table
 *
 * M1: a slot is on one of device->free, device->given_back, or in use.
 * M2: use counts the transfers between submit() and done(); with USE_DYING set
 *     it only goes down, and only the service thread lowers it.
 * M3: gone becomes ANSWER_GIVEN once, after the tag of the slot has
 *     arrived and the last done() has returned.
 */
struct uring_map {
	/* written by the service thread while nobody has the map */
	struct mmn_device_map map;
	/* of unmap_begin() */
	struct request clear;
	/* atomic */
	uint32_t use;
	/* atomic: ANSWER_*, futex */
	uint32_t gone;
	/* const after init */
	uint32_t slot;
	/* service thread: the tag has arrived */
	bool unpinned;
	/* service thread: when the slot was cleared, 0 before */
	uint64_t cleared_ns;
	/* next on free (service thread) or on given_back (atomic) */
	struct uring_map *next;
};

/*
 * struct lane - the way of one transfer through the kernel
 *
 * Of the service thread.  L1: at most one entry in the ring per lane.  L2: an
 * idle lane's pipe is empty.
 */
struct lane {
	struct mmn_device_transfer *transfer;
	int read_fd;
	int write_fd;
	/* Bytes of the transfer in the pipe (WRITE). */
	uint32_t filled;
	/* Bytes in the pipe that keep a READ waiting. */
	uint32_t filler;
	/* Held and in the kernel. */
	bool parked;
	/* What the transfer ends with when the kernel cancels it. */
	int error;
	struct lane *next;
};

/* Written by the service thread with relaxed stores, read with relaxed loads. */
struct counters {
	uint64_t nr_maps;
	uint64_t pinned;
	uint64_t maps;
	uint64_t unmaps;
	uint64_t transfers;
	uint64_t read_bytes;
	uint64_t written_bytes;
	uint64_t fence_ns_max;
	uint64_t fence_ns_total;
};

struct uring_device {
	struct mmn_device device;
	/*
	 * 1, in a page that reads as 0 in fork children, which have a copy of
	 * the device and nobody who serves it.
	 */
	uint32_t *alive;
	pthread_t thread;

	/* atomic: newest first */
	struct request *inbox;
	/* atomic: BELL_*, futex */
	uint32_t bell;
	/* atomic: transfers between submit() and done(), up to nr_lanes */
	uint32_t nr_transfers;
	/* atomic: slots whose unmap_finish() has returned */
	struct uring_map *given_back;

	/* const after create */
	struct mmn_uring_config config;
	struct uring_map *maps;
	size_t maps_bytes;
	pid_t service_tid;
	bool private_files;
	bool can_wait_for_bell;
	/* The kernel charges pinned pages against RLIMIT_MEMLOCK. */
	bool charged;
	uint32_t pipe_bytes;

	/* service thread */
	struct io_uring ring;
	struct lane *lanes;
	struct lane *free_lanes;
	struct uring_map *free;
	uint32_t nr_in_ring;
	bool bell_in_ring;
	bool held;
	bool stopping;
	/* The program has closed the ring (shared descriptors only). */
	bool broken;
	/* pipe_bytes that nobody reads */
	char *sink;
	struct counters counters;
};

static struct uring_device *to_uring(const struct mmn_device *device)
{
	return container_of(device, struct uring_device, device);
}

static struct uring_map *to_map(const struct mmn_device_map *map)
{
	return container_of(map, struct uring_map, map);
}

static struct work *to_work(struct mmn_device_transfer *transfer)
{
	_Static_assert(sizeof(struct work) <= sizeof(transfer->private_),
		       "fits");
	return (struct work *)(void *)transfer->private_;
}

static bool is_alive(const struct uring_device *d)
{
	/* relaxed: set before the device is known to anybody, wiped by fork */
	return mmn_load_relaxed(d->alive) != 0;
}

/* One writer: no read-modify-write is needed. */
static void count(uint64_t *counter, uint64_t more)
{
	/* relaxed: a figure for reports */
	mmn_store_relaxed(counter, *counter + more);
}

/*
 * Words to sleep on.  Private futexes need the memory only, not a descriptor:
 * they work from every thread and from vfork children.
 */

static void futex_sleep(uint32_t *word, uint32_t seen)
{
	mmn_syscall4(__NR_futex, word, FUTEX_WAIT_PRIVATE, seen, 0);
}

static void futex_wake(uint32_t *word)
{
	mmn_syscall3(__NR_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX);
}

static void answer(uint32_t *word)
{
	/*
	 * pair(uring_answer): release, with the acquire in await_answer().
	 * Without it the sender could go on before it sees the result, or
	 * reuse a map that the service thread still writes to.
	 *
	 * The word may be gone right after: the wake uses its address only.
	 */
	if (mmn_xchg_release(word, ANSWER_GIVEN) == ANSWER_SLEEPER)
		futex_wake(word);
}

static void await_answer(uint32_t *word)
{
	uint32_t seen;

	for (;;) {
		/*
		 * pair(uring_answer): acquire, with the release in answer().
		 * Without it what was written before the answer could be read
		 * from before it.
		 */
		seen = mmn_load_acquire(word);
		if (seen == ANSWER_GIVEN)
			return;
		/* relaxed: the load above orders what counts */
		if (seen == ANSWER_NONE &&
		    !mmn_cmpxchg_relaxed(word, &seen, ANSWER_SLEEPER))
			continue;
		futex_sleep(word, ANSWER_SLEEPER);
	}
}

/*
 * The inbox.  A sender pushes and then rings; the service thread, before it
 * sleeps, says so and then looks.  Both steps on the bell are exchanges, so one
 * of the two comes first:
 *
 *	SENDER                          SERVICE
 *	push(request)
 *	fetch_or(bell, RUNG)            xchg(bell, ASLEEP)
 *	  & ASLEEP: wake                load(inbox)
 *	                                  == empty: sleep(bell, ASLEEP)
 *
 * sender first: the service thread's exchange reads RUNG and with it the push;
 * service thread first: the sender reads ASLEEP and wakes, and a sleep
 * that begins later finds the bell RUNG.  [never: asleep with a request pushed]
 *
 * Every sender that finds ASLEEP wakes, also one that finds RUNG beside it: who
 * rang before may be the thread that this one's signal handler has interrupted
 * between its ringing and its waking, and it waits for us.
 */
static void post(struct uring_device *d, struct request *request,
		 enum request_kind kind)
{
	struct request *top;

	request->kind = kind;
	/* relaxed: only compared, the exchange below publishes */
	top = mmn_load_relaxed(&d->inbox);
	do {
		request->next = top;
		/*
		 * pair(uring_inbox): release, with the acquire in
		 * take_inbox().  Without it the service thread could see the
		 * request before its contents.
		 */
	} while (!mmn_cmpxchg_release(&d->inbox, &top, request));
	/*
	 * pair(uring_bell): release, with the acquire in fall_asleep().
	 * Without it the service thread could read RUNG, then an inbox
	 * without this request, and sleep on it.
	 */
	if (mmn_fetch_or_release(&d->bell, BELL_RUNG) & BELL_ASLEEP)
		futex_wake(&d->bell);
}

static int call_service(struct uring_device *d, struct call *call,
			enum request_kind kind)
{
	post(d, &call->request, kind);
	await_answer(&call->answered);
	return call->result;
}

/* All that was posted, oldest first. */
static struct request *take_inbox(struct uring_device *d)
{
	struct request *request, *next, *oldest = NULL;

	/*
	 * pair(uring_inbox): acquire, with the release in post().  Without it
	 * a request could be read before it was filled in.
	 */
	request = mmn_xchg_acquire(&d->inbox, NULL);
	for (; request; request = next) {
		next = request->next;
		request->next = oldest;
		oldest = request;
	}
	return oldest;
}

/* Before sleeping.  True: the inbox is empty, and whoever fills it will wake. */
static bool fall_asleep(struct uring_device *d)
{
	/*
	 * pair(uring_bell): acquire, with the release in post().  Without it
	 * the inbox could be read as it was before a request whose sender has
	 * already found the bell rung.
	 */
	mmn_xchg_acquire(&d->bell, BELL_ASLEEP);
	/* relaxed: only whether there is something; take_inbox() orders */
	return !mmn_load_relaxed(&d->inbox);
}

static void wake_up(struct uring_device *d)
{
	/*
	 * Spares senders the waking.  relaxed: who has rung stays in the word,
	 * and fall_asleep() meets him there.
	 */
	mmn_fetch_and_relaxed(&d->bell, ~BELL_ASLEEP);
}

/* The ring */

/* There is room: one entry per lane and one for the bell. */
static struct io_uring_sqe *next_entry(struct uring_device *d, uint64_t of)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&d->ring);

	if (!sqe)
		__builtin_unreachable();
	memset(sqe, 0, sizeof(*sqe));
	sqe->user_data = of;
	d->nr_in_ring++;
	return sqe;
}

static void note_broken(struct uring_device *d, int ret)
{
	/* A number that is closed, or something else of the program by now. */
	if (ret == -EBADF || ret == -EOPNOTSUPP)
		d->broken = true;
}

static void submit_entries(struct uring_device *d)
{
	note_broken(d, io_uring_submit(&d->ring));
}

static void put_bell_in_ring(struct uring_device *d)
{
	struct io_uring_sqe *sqe = next_entry(d, OF_BELL);

	sqe->opcode = OP_FUTEX_WAIT;
	sqe->fd = FUTEX2_U32_PRIVATE;
	sqe->addr = (uintptr_t)&d->bell;
	sqe->off = BELL_ASLEEP;
	sqe->addr3 = FUTEX_BITSET_MATCH_ANY;
	d->bell_in_ring = true;
}

/* Returns the kernel's answer to the new contents of a slot. */
static int update_slot(struct uring_device *d, uint32_t slot, uintptr_t start,
		       size_t bytes, uint64_t tag)
{
	struct iovec iov = { .iov_base = (void *)start, .iov_len = bytes };
	__u64 tags = tag;
	int ret;

	ret = io_uring_register_buffers_update_tag(&d->ring, slot, &iov, &tags,
						   1);
	return ret < 0 ? ret : 0;
}

/* Maps, as the service thread sees them */

/* Bytes that RLIMIT_MEMLOCK leaves to the device at this moment. */
static uint64_t memlock_limit(const struct uring_device *d)
{
	struct rlimit limit;

	if (!d->charged ||
	    mmn_syscall4(__NR_prlimit64, 0, RLIMIT_MEMLOCK, 0, &limit))
		return UINT64_MAX;
	return limit.rlim_cur;
}

static bool fits_budget(const struct uring_device *d, uint64_t bytes)
{
	/* relaxed: the service thread decides by its own writes */
	uint64_t pinned = mmn_load_relaxed(&d->counters.pinned);
	uint64_t limit = memlock_limit(d);

	if (d->config.max_pinned && d->config.max_pinned < limit)
		limit = d->config.max_pinned;
	return bytes <= limit && pinned <= limit - bytes;
}

static struct uring_map *take_slot(struct uring_device *d)
{
	struct uring_map *m;

	if (!d->free)
		/*
		 * pair(uring_slot): acquire, with the release in give_back().
		 * Without it the slot could be filled while the thread that
		 * gave it back still reads it.
		 */
		d->free = mmn_xchg_acquire(&d->given_back, NULL);
	m = d->free;
	if (m)
		d->free = m->next;
	return m;
}

/* By the thread that unmaps: the slot can be used again. */
static void give_back(struct uring_device *d, struct uring_map *m)
{
	/* relaxed: only compared, the exchange below publishes */
	m->next = mmn_load_relaxed(&d->given_back);
	/*
	 * pair(uring_slot): release, with the acquire in take_slot().  Without
	 * it the next owner's values could be overwritten by ours.
	 */
	while (!mmn_cmpxchg_release(&d->given_back, &m->next, m))
		;
}

static int map_error(const struct uring_device *d, int error)
{
	switch (error) {
	case -ENOMEM:
		/*
		 * Other processes of the same user are charged to the same
		 * account, which nobody can read in advance.
		 */
		return d->charged ? -EDQUOT : -ENOMEM;
	case -EOPNOTSUPP: /* a file, on older kernels */
	case -EINVAL:
		return -EFAULT;
	default:
		return error;
	}
}

static int make_map(struct uring_device *d, struct call *call)
{
	size_t bytes = call->last - call->start + 1;
	struct uring_map *m;
	int ret;

	if (d->broken)
		return -EIO;
	if (!fits_budget(d, bytes))
		return -EDQUOT;
	m = take_slot(d);
	if (!m)
		return -ENOSPC;
	ret = update_slot(d, m->slot, call->start, bytes, OF_SLOT | m->slot);
	if (ret) {
		m->next = d->free;
		d->free = m;
		return map_error(d, ret);
	}
	m->map = (struct mmn_device_map){
		.device = &d->device,
		.start = call->start,
		.last = call->last,
		.access = call->access,
	};
	m->unpinned = false;
	m->cleared_ns = 0;
	/* relaxed: the answer to the caller of map() publishes them */
	mmn_store_relaxed(&m->use, 0);
	mmn_store_relaxed(&m->gone, ANSWER_NONE);
	count(&d->counters.maps, 1);
	count(&d->counters.nr_maps, 1);
	count(&d->counters.pinned, bytes);
	call->map = m;
	return 0;
}

/* M3; after each of the two things it waits for. */
static void finish_map(struct uring_device *d, struct uring_map *m)
{
	/* relaxed: what lowers it is this thread (M2) */
	if (!m->unpinned || mmn_load_relaxed(&m->use) != USE_DYING)
		return;
	count(&d->counters.nr_maps, (uint64_t)-1);
	count(&d->counters.unmaps, 1);
	answer(&m->gone);
}

static void tag_arrived(struct uring_device *d, struct uring_map *m)
{
	uint64_t took = mmn_now_ns() - m->cleared_ns;

	m->unpinned = true;
	count(&d->counters.pinned, -(m->map.last - m->map.start + 1));
	count(&d->counters.fence_ns_total, took);
	/* relaxed: a figure for reports, written by this thread only */
	if (took > d->counters.fence_ns_max)
		mmn_store_relaxed(&d->counters.fence_ns_max, took);
	finish_map(d, m);
}

static void clear_map(struct uring_device *d, struct uring_map *m)
{
	struct timespec pause = mmn_timespec(RETRY_NS);
	int ret;

	/* What was submitted before finds the pages: it is under way. */
	submit_entries(d);
	m->cleared_ns = mmn_now_ns();
	/* The one call that must not fail: wait for memory. */
	do {
		ret = d->broken ? -EBADF : update_slot(d, m->slot, 0, 0, 0);
		if (ret == -ENOMEM)
			nanosleep(&pause, NULL);
	} while (ret == -ENOMEM || ret == -EINTR);
	if (!ret) {
		d->nr_in_ring++;
		return;
	}
	/* The ring has gone, and no tag of it will come. */
	d->broken = true;
	tag_arrived(d, m);
}

static bool is_dying(const struct uring_map *m)
{
	/* relaxed: early or late, the kernel's reference keeps the pages */
	return mmn_load_relaxed(&m->use) & USE_DYING;
}

/* Transfers, as the service thread sees them */

static void drain(struct uring_device *d, struct lane *lane, uint32_t bytes)
{
	long got;

	while (bytes && !d->broken) {
		got = mmn_syscall3(__NR_read, lane->read_fd, d->sink, bytes);
		if (got == -EINTR)
			continue;
		if (got <= 0)
			return;
		bytes -= (uint32_t)got;
	}
}

static void finish_transfer(struct uring_device *d,
			    struct mmn_device_transfer *t, int64_t result)
{
	struct uring_map *m = to_map(t->map);

	if (result > 0)
		count(t->access == MMN_DEVICE_READ ? &d->counters.read_bytes
						   : &d->counters.written_bytes,
		      (uint64_t)result);
	count(&d->counters.transfers, 1);
	t->result = result;
	/* relaxed: a limit; done() may submit the next at once */
	mmn_fetch_sub_relaxed(&d->nr_transfers, 1);
	t->done(t);
	/* relaxed: answer() publishes the last one */
	mmn_fetch_sub_relaxed(&m->use, USE_TRANSFER);
	finish_map(d, m);
}

static void finish_lane(struct uring_device *d, struct lane *lane,
			int64_t error)
{
	struct mmn_device_transfer *t = lane->transfer;
	uint64_t moved = to_work(t)->moved;

	drain(d, lane, lane->filled);
	lane->filled = 0;
	lane->parked = false;
	lane->error = 0;
	lane->transfer = NULL;
	lane->next = d->free_lanes;
	d->free_lanes = lane;
	finish_transfer(d, t, moved ? (int64_t)moved : error);
}

static uint32_t next_piece(const struct uring_device *d,
			   struct mmn_device_transfer *t)
{
	uint64_t left = t->length - to_work(t)->moved;

	return left < d->pipe_bytes ? (uint32_t)left : d->pipe_bytes;
}

/* WRITE: the next piece of the buffer into the pipe. */
static int fill_lane(struct uring_device *d, struct lane *lane)
{
	struct mmn_device_transfer *t = lane->transfer;
	long put;

	put = mmn_syscall3(__NR_write, lane->write_fd,
			   (char *)t->buffer + to_work(t)->moved,
			   next_piece(d, t));
	if (put <= 0)
		return put ? (int)put : -EIO;
	lane->filled = (uint32_t)put;
	return 0;
}

/* READ: what the kernel has put into the pipe goes to the buffer. */
static int empty_lane(struct uring_device *d, struct lane *lane, uint32_t bytes)
{
	struct mmn_device_transfer *t = lane->transfer;
	struct work *work = to_work(t);
	long got;

	while (bytes) {
		got = mmn_syscall3(__NR_read, lane->read_fd,
				   (char *)t->buffer + work->moved, bytes);
		if (got == -EINTR)
			continue;
		if (got <= 0) {
			drain(d, lane, bytes);
			return got ? (int)got : -EIO;
		}
		work->moved += (uint64_t)got;
		bytes -= (uint32_t)got;
	}
	return 0;
}

/* Make the next WRITE_FIXED of a READ wait: no room in the pipe. */
static void stuff_lane(struct uring_device *d, struct lane *lane)
{
	static const char page[4096];
	long put;

	while (lane->filler < d->pipe_bytes) {
		put = mmn_syscall3(__NR_write, lane->write_fd, page,
				   sizeof(page));
		if (put <= 0)
			return;
		lane->filler += (uint32_t)put;
	}
}

static void start_piece(struct uring_device *d, struct lane *lane)
{
	struct mmn_device_transfer *t = lane->transfer;
	struct uring_map *m = to_map(t->map);
	bool is_read = t->access == MMN_DEVICE_READ;
	uint32_t bytes = next_piece(d, t);
	struct io_uring_sqe *sqe;
	int ret;

	if (d->held) {
		lane->parked = true;
		if (is_read)
			stuff_lane(d, lane);
	} else if (!is_read && !lane->filled) {
		ret = fill_lane(d, lane);
		if (ret) {
			finish_lane(d, lane, ret);
			return;
		}
	}
	if (!is_read && lane->filled)
		bytes = lane->filled;
	sqe = next_entry(d, OF_LANE | (uint64_t)(lane - d->lanes));
	sqe->opcode = is_read ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED;
	sqe->fd = is_read ? lane->write_fd : lane->read_fd;
	sqe->addr = m->map.start + t->offset + to_work(t)->moved;
	sqe->len = bytes;
	sqe->buf_index = (uint16_t)m->slot;
}

static void start_transfer(struct uring_device *d,
			   struct mmn_device_transfer *t)
{
	struct lane *lane;

	to_work(t)->moved = 0;
	/*
	 * Requests come in the order of their sending.  One that was sent
	 * before unmap_begin() is under way, and the slot is still filled.
	 */
	if (d->broken || to_map(t->map)->cleared_ns) {
		finish_transfer(d, t, d->broken ? -EIO : -ESTALE);
		return;
	}
	lane = d->free_lanes;
	d->free_lanes = lane->next;
	lane->transfer = t;
	start_piece(d, lane);
}

static void piece_done(struct uring_device *d, struct lane *lane, int res)
{
	struct mmn_device_transfer *t = lane->transfer;
	int ret = 0;

	lane->parked = false;
	if (res <= 0) {
		if (lane->error)
			res = lane->error;
		finish_lane(d, lane, res ? res : -EIO);
		return;
	}
	if (t->access == MMN_DEVICE_READ) {
		ret = empty_lane(d, lane, (uint32_t)res);
	} else {
		lane->filled -= (uint32_t)res;
		to_work(t)->moved += (uint64_t)res;
	}
	if (ret || to_work(t)->moved == t->length || is_dying(to_map(t->map)) ||
	    d->broken)
		finish_lane(d, lane, ret);
	else
		start_piece(d, lane);
}

/* Nothing will come that could end it. */
static void cancel_lane(struct uring_device *d, const struct lane *lane)
{
	struct io_uring_sqe *sqe = next_entry(d, OF_NOTHING);

	sqe->opcode = IORING_OP_ASYNC_CANCEL;
	sqe->fd = -1;
	sqe->addr = OF_LANE | (uint64_t)(lane - d->lanes);
}

static void release(struct uring_device *d)
{
	struct lane *lane;
	uint32_t i;

	d->held = false;
	for (i = 0; i < d->config.queue_depth; i++) {
		lane = &d->lanes[i];
		drain(d, lane, lane->filler);
		lane->filler = 0;
		if (!lane->parked || lane->transfer->access != MMN_DEVICE_WRITE)
			continue;
		lane->error = fill_lane(d, lane);
		if (lane->error)
			cancel_lane(d, lane);
	}
}

/* The service thread */

static void serve_request(struct uring_device *d, struct request *request)
{
	struct call *call = container_of(request, struct call, request);

	switch ((enum request_kind)request->kind) {
	case REQUEST_CLEAR:
		clear_map(d, container_of(request, struct uring_map, clear));
		return;
	case REQUEST_TRANSFER:
		start_transfer(d, container_of((void *)request,
					       struct mmn_device_transfer,
					       private_));
		return;
	case REQUEST_MAP:
		call->result = make_map(d, call);
		break;
	case REQUEST_HOLD:
		d->held = true;
		break;
	case REQUEST_STOP:
		d->stopping = true;
		release(d);
		break;
	case REQUEST_RELEASE:
		release(d);
		break;
	}
	answer(&call->answered);
}

static void serve_completion(struct uring_device *d, uint64_t of, int res)
{
	uint32_t index = (uint32_t)of;

	d->nr_in_ring--;
	switch (of & OF_MASK) {
	case OF_LANE:
		piece_done(d, &d->lanes[index], res);
		break;
	case OF_SLOT:
		tag_arrived(d, &d->maps[index]);
		break;
	case OF_BELL:
		d->bell_in_ring = false;
		break;
	}
}

static bool serve_completions(struct uring_device *d)
{
	struct io_uring_cqe *cqe;
	bool some = false;
	uint64_t of;
	int res;

	while (!io_uring_peek_cqe(&d->ring, &cqe)) {
		of = cqe->user_data;
		res = cqe->res;
		io_uring_cqe_seen(&d->ring, cqe);
		serve_completion(d, of, res);
		some = true;
	}
	return some;
}

static bool serve_inbox(struct uring_device *d)
{
	struct request *request, *next;
	bool some = false;

	for (request = take_inbox(d); request; request = next) {
		next = request->next;
		serve_request(d, request);
		some = true;
	}
	return some;
}

static void sleep_in_ring(struct uring_device *d)
{
	struct __kernel_timespec poll = { .tv_nsec = POLL_NS };
	struct io_uring_cqe *cqe;

	if (!d->can_wait_for_bell) {
		io_uring_wait_cqe_timeout(&d->ring, &cqe, &poll);
		return;
	}
	if (!d->bell_in_ring)
		put_bell_in_ring(d);
	note_broken(d, io_uring_submit_and_wait(&d->ring, 1));
}

static void sleep_until_something(struct uring_device *d)
{
	if (fall_asleep(d)) {
		if (d->nr_in_ring)
			sleep_in_ring(d);
		else
			futex_sleep(&d->bell, BELL_ASLEEP);
	}
	wake_up(d);
}

/* Nothing in the ring will ever complete. */
static void give_up_ring(struct uring_device *d)
{
	uint32_t i;

	d->nr_in_ring = 0;
	d->bell_in_ring = false;
	for (i = 0; i < d->config.queue_depth; i++)
		if (d->lanes[i].transfer)
			finish_lane(d, &d->lanes[i], -EIO);
	for (i = 0; i < d->config.nr_maps; i++)
		if (d->maps[i].cleared_ns && !d->maps[i].unpinned)
			tag_arrived(d, &d->maps[i]);
}

static void serve(struct uring_device *d)
{
	bool busy;

	while (!d->stopping || d->nr_in_ring > d->bell_in_ring) {
		busy = serve_inbox(d);
		submit_entries(d);
		busy |= serve_completions(d);
		if (unlikely(d->broken && d->nr_in_ring))
			give_up_ring(d);
		if (!busy)
			sleep_until_something(d);
	}
}

/* The descriptors of the service thread */

/*
 * A table of its own, empty.  CLOSE_RANGE_UNSHARE does not even copy what it is
 * about to close: no pipe of the program is held open for a moment.
 */
static bool leave_program_files(void)
{
	return !mmn_syscall3(__NR_close_range, 0, UINT_MAX,
			     CLOSE_RANGE_UNSHARE);
}

/*
 * The lowest number for a descriptor of the device.  In a table of its own that
 * is above the standard three, so that a message of a done() function to the
 * standard error is lost rather than written into a lane; in the
 * program's it is where programs do not look for theirs.
 */
static int lowest_fd(const struct uring_device *d)
{
	uint64_t need = 2 * d->config.queue_depth + 2;
	struct rlimit limit;

	if (d->private_files || getrlimit(RLIMIT_NOFILE, &limit))
		return STDERR_FILENO + 1;
	/* A table is as long as its highest number. */
	if (limit.rlim_cur > 4096)
		limit.rlim_cur = 4096;
	if (limit.rlim_cur < need + STDERR_FILENO + 1)
		return STDERR_FILENO + 1;
	return (int)(limit.rlim_cur - need);
}

static int raise_fd(const struct uring_device *d, int *fd)
{
	int raised = fcntl(*fd, F_DUPFD_CLOEXEC, lowest_fd(d));

	if (raised < 0)
		return errno == EINVAL ? -EMFILE : -errno;
	close(*fd);
	*fd = raised;
	return 0;
}

static int open_lane(struct uring_device *d, struct lane *lane)
{
	int fds[2];
	int ret, bytes;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	ret = raise_fd(d, &fds[0]);
	if (!ret)
		ret = raise_fd(d, &fds[1]);
	if (ret) {
		close(fds[0]);
		close(fds[1]);
		return ret;
	}
	lane->read_fd = fds[0];
	lane->write_fd = fds[1];
	/* Users with many pipes get small ones. */
	bytes = fcntl(lane->write_fd, F_GETPIPE_SZ);
	if (bytes > 0 && (uint32_t)bytes < d->pipe_bytes)
		d->pipe_bytes = (uint32_t)bytes;
	lane->next = d->free_lanes;
	d->free_lanes = lane;
	return 0;
}

static void close_lanes(struct uring_device *d)
{
	struct lane *lane;

	if (d->broken)
		return;
	for (lane = d->free_lanes; lane; lane = lane->next) {
		close(lane->read_fd);
		close(lane->write_fd);
	}
	d->free_lanes = NULL;
}

static int open_lanes(struct uring_device *d)
{
	uint32_t i;
	int ret;

	for (i = d->config.queue_depth; i > 0; i--) {
		ret = open_lane(d, &d->lanes[i - 1]);
		if (ret) {
			close_lanes(d);
			return ret;
		}
	}
	return 0;
}

static bool has_ipc_lock(void)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2];

	if (mmn_syscall2(__NR_capget, &header, data))
		return false;
	return data[0].effective & (1u << CAP_IPC_LOCK);
}

static bool can_wait_for_bell(struct uring_device *d)
{
	union {
		struct io_uring_probe probe;
		char bytes[sizeof(struct io_uring_probe) +
			   64 * sizeof(struct io_uring_probe_op)];
	} room;

	memset(&room, 0, sizeof(room));
	if (io_uring_register_probe(&d->ring, &room.probe, 64))
		return false;
	return room.probe.ops_len > OP_FUTEX_WAIT &&
	       (room.probe.ops[OP_FUTEX_WAIT].flags & IO_URING_OP_SUPPORTED);
}

static int open_ring(struct uring_device *d)
{
	/* A lane has one entry and may need one to cancel it; the bell. */
	unsigned int entries = 2 * d->config.queue_depth + 1;
	struct io_uring_params params = {
		.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
		/* All tags, all lanes and the bell at once: no overflow. */
		.cq_entries = d->config.nr_maps + entries,
	};
	int ret;

	/* The kernel decides when the ring is made whom it charges. */
	d->charged = !has_ipc_lock();
	ret = io_uring_queue_init_params(entries, &d->ring, &params);
	if (ret)
		/* Newer kernels charge the memory of the ring as well. */
		return ret == -ENOMEM && d->charged ? -EDQUOT : ret;
	ret = -ENOTSUP;
	if (!(params.features & IORING_FEAT_RSRC_TAGS))
		goto out;
	ret = io_uring_register_buffers_sparse(&d->ring, d->config.nr_maps);
	if (ret) {
		ret = ret == -EINVAL ? -ENOTSUP : ret;
		goto out;
	}
	ret = raise_fd(d, &d->ring.ring_fd);
	if (ret)
		goto out;
	d->ring.enter_ring_fd = d->ring.ring_fd;
	/* A child has no use for it, and must not ring in it. */
	ret = io_uring_ring_dontfork(&d->ring);
	if (ret)
		goto out;
	d->can_wait_for_bell = can_wait_for_bell(d);
	return 0;
out:
	io_uring_queue_exit(&d->ring);
	return ret;
}

struct birth {
	struct uring_device *d;
	struct call call;
};

static int open_device(struct uring_device *d)
{
	int ret;

	d->service_tid = (pid_t)mmn_syscall0(__NR_gettid);
	prctl(PR_SET_NAME, "mmn-uring");
	/*
	 * What a first section needs of libc is got now: a fork that waits for
	 * this thread has libc's locks.
	 */
	dma_fence_read_begin();
	dma_fence_read_end();
	if (!(d->config.flags & MMN_URING_SHARED_FILES))
		d->private_files = leave_program_files();
	ret = open_ring(d);
	if (ret)
		return ret;
	ret = open_lanes(d);
	if (ret)
		io_uring_queue_exit(&d->ring);
	return ret;
}

static void *service_thread(void *arg)
{
	struct birth *birth = arg;
	struct uring_device *d = birth->d;
	int ret;

	ret = open_device(d);
	birth->call.result = ret;
	answer(&birth->call.answered);
	if (ret)
		return NULL;
	serve(d);
	close_lanes(d);
	if (d->broken)
		d->ring.ring_fd = -1;
	io_uring_queue_exit(&d->ring);
	return NULL;
}

/* The operations, in the caller's thread */

/*
 * Let the faults happen in the thread that asks for the map: one that takes
 * long (a userfaultfd handler, a slow disk) must not keep the service
 * thread from answering the invalidations of others.  Whether it worked
 * is for the kernel's own look at the pages to say.
 */
static void populate(uintptr_t start, uintptr_t last)
{
	mmn_syscall3(__NR_madvise, start, last - start + 1,
		     MADV_POPULATE_WRITE);
}

static bool is_service_thread(const struct uring_device *d)
{
	return mmn_syscall0(__NR_gettid) == d->service_tid;
}

static int uring_map(struct mmn_device *device, uintptr_t start, uintptr_t last,
		     uint32_t access, struct mmn_device_map **ret_map)
{
	struct uring_device *d = to_uring(device);
	struct call call = {
		.start = start,
		.last = last,
		.access = access,
	};
	int ret;

	if (!is_alive(d))
		return -ESTALE;
	if (is_service_thread(d))
		return -EDEADLK;
	if (last - start >= MMN_URING_MAX_MAP_BYTES)
		return -ENOSPC;
	if (!fits_budget(d, last - start + 1))
		return -EDQUOT;
	populate(start, last);
	ret = call_service(d, &call, REQUEST_MAP);
	if (ret)
		return ret;
	*ret_map = &call.map->map;
	return 0;
}

static void uring_unmap_begin(struct mmn_device_map *map)
{
	struct uring_device *d = to_uring(map->device);
	struct uring_map *m = to_map(map);

	if (!is_alive(d))
		return;
	/* relaxed: post() orders it before whatever is posted later */
	if (mmn_fetch_or_relaxed(&m->use, USE_DYING) & USE_DYING)
		return;
	post(d, &m->clear, REQUEST_CLEAR);
}

static void uring_unmap_finish(struct mmn_device_map *map)
{
	struct uring_device *d = to_uring(map->device);
	struct uring_map *m = to_map(map);

	if (!is_alive(d))
		return;
	await_answer(&m->gone);
	give_back(d, m);
}

static int take_transfer(struct uring_device *d)
{
	/* relaxed: a limit, it guards no data */
	uint32_t n = mmn_load_relaxed(&d->nr_transfers);

	do {
		if (n == d->config.queue_depth)
			return -EBUSY;
		/* relaxed: as above */
	} while (!mmn_cmpxchg_relaxed(&d->nr_transfers, &n, n + 1));
	return 0;
}

static int use_map(struct uring_map *m)
{
	/* relaxed: M2 is about this word only; post() orders the rest */
	uint32_t use = mmn_load_relaxed(&m->use);

	do {
		if (use & USE_DYING)
			return -ESTALE;
		/* relaxed: as above */
	} while (!mmn_cmpxchg_relaxed(&m->use, &use, use + USE_TRANSFER));
	return 0;
}

static int uring_submit(struct mmn_device_transfer *transfer)
{
	struct uring_device *d = to_uring(transfer->map->device);
	int ret;

	if (!is_alive(d))
		return -ESTALE;
	ret = take_transfer(d);
	if (ret)
		return ret;
	ret = use_map(to_map(transfer->map));
	if (ret) {
		/* relaxed: a limit */
		mmn_fetch_sub_relaxed(&d->nr_transfers, 1);
		return ret;
	}
	post(d, &to_work(transfer)->request, REQUEST_TRANSFER);
	return 0;
}

static void free_device(struct uring_device *d)
{
	if (d->maps)
		munmap(d->maps, d->maps_bytes);
	if (d->alive)
		munmap(d->alive, (size_t)sysconf(_SC_PAGESIZE));
	free(d->lanes);
	free(d->sink);
	free(d);
}

static void uring_destroy(struct mmn_device *device)
{
	struct uring_device *d = to_uring(device);
	struct call call = { .result = 0 };

	if (is_alive(d)) {
		call_service(d, &call, REQUEST_STOP);
		pthread_join(d->thread, NULL);
	}
	free_device(d);
}

static const struct mmn_device_ops uring_ops = {
	.name = "uring",
	.map = uring_map,
	.unmap_begin = uring_unmap_begin,
	.unmap_finish = uring_unmap_finish,
	.submit = uring_submit,
	.destroy = uring_destroy,
};

/* Making one */

static int read_config(const struct mmn_uring_config *given,
		       struct mmn_uring_config *config)
{
	const char *newer;
	size_t i;

	memset(config, 0, sizeof(*config));
	if (given) {
		newer = (const char *)given + sizeof(*config);
		if (given->size < sizeof(*config))
			return -EINVAL;
		for (i = 0; i < given->size - sizeof(*config); i++)
			if (newer[i])
				return -E2BIG;
		*config = *given;
	}
	if (config->flags & ~MMN_URING_SHARED_FILES)
		return -EINVAL;
	if (!config->nr_maps)
		config->nr_maps = DEFAULT_MAPS;
	if (!config->queue_depth)
		config->queue_depth = DEFAULT_DEPTH;
	if (config->nr_maps > MMN_URING_MAX_MAPS ||
	    config->queue_depth > MMN_URING_MAX_DEPTH)
		return -EINVAL;
	return 0;
}

static void *map_memory(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static int allocate(struct uring_device *d)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct uring_map *m;
	uint32_t i;

	d->pipe_bytes = 16 * (uint32_t)page;
	d->sink = malloc(d->pipe_bytes);
	d->lanes = calloc(d->config.queue_depth, sizeof(*d->lanes));
	d->maps_bytes = d->config.nr_maps * sizeof(*d->maps);
	d->maps = map_memory(d->maps_bytes);
	d->alive = map_memory(page);
	if (!d->sink || !d->lanes || !d->maps || !d->alive)
		return -ENOMEM;
	if (madvise(d->alive, page, MADV_WIPEONFORK))
		return -ENOTSUP;
	*d->alive = 1;
	for (i = d->config.nr_maps; i > 0; i--) {
		m = &d->maps[i - 1];
		m->slot = i - 1;
		m->next = d->free;
		d->free = m;
	}
	return 0;
}

/*
 * All signals that can be blocked are, for good: no handler of the program runs
 * in the service thread.  By pthread_sigmask() and not by the system call: libc
 * keeps two signals for itself, and setuid() in the program would wait for ever
 * for a thread that blocks them.
 */
static int start_thread(struct uring_device *d)
{
	struct birth birth = { .d = d };
	pthread_attr_t attr;
	sigset_t all, saved;
	int ret;

	ret = pthread_attr_init(&attr);
	if (ret)
		return -ret;
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	ret = pthread_create(&d->thread, &attr, service_thread, &birth);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	pthread_attr_destroy(&attr);
	if (ret)
		return -ret;
	await_answer(&birth.call.answered);
	if (birth.call.result)
		pthread_join(d->thread, NULL);
	return birth.call.result;
}

int mmn_uring_device_create(const struct mmn_uring_config *config,
			    struct mmn_device **ret_device)
{
	struct mmn_uring_config read;
	struct uring_device *d;
	int ret;

	if (!ret_device)
		return -EINVAL;
	ret = read_config(config, &read);
	if (ret)
		return ret;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->device.ops = &uring_ops;
	d->config = read;
	ret = allocate(d);
	if (!ret)
		ret = start_thread(d);
	if (ret) {
		free_device(d);
		return ret;
	}
	*ret_device = &d->device;
	return 0;
}

/* Beyond struct mmn_device_ops */

static int check_device(const struct mmn_device *device)
{
	if (!device || device->ops != &uring_ops)
		return -EINVAL;
	return is_alive(to_uring(device)) ? 0 : -ESTALE;
}

int mmn_uring_device_stats(const struct mmn_device *device,
			   struct mmn_uring_stats *stats)
{
	const struct uring_device *d;
	const struct counters *c;
	struct mmn_uring_stats now;
	uint32_t size;
	int ret;

	ret = check_device(device);
	if (ret)
		return ret;
	if (!stats || stats->size < offsetof(struct mmn_uring_stats, nr_maps))
		return -EINVAL;
	d = to_uring(device);
	c = &d->counters;
	size = stats->size < sizeof(now) ? stats->size : sizeof(now);
	/* relaxed: each figure stands for itself */
	now = (struct mmn_uring_stats){
		.size = stats->size,
		.private_files = d->private_files,
		.nr_maps = (uint32_t)mmn_load_relaxed(&c->nr_maps),
		.nr_transfers = mmn_load_relaxed(&d->nr_transfers),
		.pinned = mmn_load_relaxed(&c->pinned),
		.maps = mmn_load_relaxed(&c->maps),
		.unmaps = mmn_load_relaxed(&c->unmaps),
		.transfers = mmn_load_relaxed(&c->transfers),
		.read_bytes = mmn_load_relaxed(&c->read_bytes),
		.written_bytes = mmn_load_relaxed(&c->written_bytes),
		.fence_ns_max = mmn_load_relaxed(&c->fence_ns_max),
		.fence_ns_total = mmn_load_relaxed(&c->fence_ns_total),
	};
	memcpy(stats, &now, size);
	return 0;
}

static int set_held(struct mmn_device *device, enum request_kind kind)
{
	struct call call = { .result = 0 };
	int ret;

	ret = check_device(device);
	if (ret)
		return ret;
	if (is_service_thread(to_uring(device)))
		return -EDEADLK;
	return call_service(to_uring(device), &call, kind);
}

int mmn_uring_device_hold(struct mmn_device *device)
{
	return set_held(device, REQUEST_HOLD);
}

int mmn_uring_device_release(struct mmn_device *device)
{
	return set_held(device, REQUEST_RELEASE);
}
