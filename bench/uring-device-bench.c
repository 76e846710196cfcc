/* SPDX-License-Identifier: MIT */
/*
 * The io_uring device against the same operations made inline, on a ring of the
 * measuring thread: what it costs that the ring is out of the program's reach.
 */
#include "bench.h"

#include <errno.h>
#include <liburing.h>
#include <mmn/uring-device.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096
#define DEPTH 32

struct fixture;

struct read_of {
	struct mmn_device_transfer transfer;
	struct fixture *fixture;
};

struct fixture {
	struct mmn_device *device;
	struct mmn_device_map *map;
	struct read_of reads[DEPTH];
	int nr_done;
	struct io_uring ring;
	int pipe[2];
	char *memory;
	char *buffer;
};

static void die(const char *what, int error)
{
	fprintf(stderr, "%s: error %d\n", what, error);
	exit(error == -EPERM || error == -ENOSYS || error == -ENOTSUP ? 77 : 1);
}

static void must(const char *what, int ret)
{
	if (ret < 0)
		die(what, ret);
}

static struct mmn_device_map *device_map(struct fixture *f)
{
	struct mmn_device_map *map;
	uintptr_t start = (uintptr_t)f->memory;

	must("map", mmn_device_map(f->device, start, start + PAGE - 1,
				   MMN_DEVICE_READ | MMN_DEVICE_WRITE, &map));
	return map;
}

static void device_map_unmap(void *arg, uint64_t n)
{
	struct fixture *f = arg;

	while (n--) {
		struct mmn_device_map *map = device_map(f);

		mmn_device_unmap_begin(map);
		mmn_device_unmap_finish(map);
	}
}

static void take_completion(struct fixture *f)
{
	struct io_uring_cqe *cqe;

	must("wait", io_uring_wait_cqe(&f->ring, &cqe));
	must("completion", cqe->res);
	io_uring_cqe_seen(&f->ring, cqe);
}

static void set_slot(struct fixture *f, unsigned int slot, void *base,
		     size_t bytes, __u64 tag)
{
	struct iovec iov = { base, bytes };

	must("update", io_uring_register_buffers_update_tag(&f->ring, slot,
							    &iov, &tag, 1));
}

static void inline_map_unmap(void *arg, uint64_t n)
{
	struct fixture *f = arg;

	while (n--) {
		set_slot(f, 1, f->memory, PAGE, 7);
		set_slot(f, 1, NULL, 0, 0);
		take_completion(f);
	}
}

static void count_done(struct mmn_device_transfer *transfer)
{
	struct fixture *f = ((struct read_of *)(void *)transfer)->fixture;

	must("transfer", (int)transfer->result);
	__atomic_fetch_add(&f->nr_done, 1, __ATOMIC_RELEASE);
}

static void device_reads(struct fixture *f, int nr)
{
	int i;

	__atomic_store_n(&f->nr_done, 0, __ATOMIC_RELAXED);
	for (i = 0; i < nr; i++) {
		f->reads[i].fixture = f;
		f->reads[i].transfer = (struct mmn_device_transfer){
			.map = f->map,
			.length = PAGE,
			.access = MMN_DEVICE_READ,
			.buffer = f->buffer,
			.done = count_done,
		};
		must("submit", mmn_device_submit(&f->reads[i].transfer));
	}
	while (__atomic_load_n(&f->nr_done, __ATOMIC_ACQUIRE) != nr)
		sched_yield();
}

static void device_read_one(void *arg, uint64_t n)
{
	while (n--)
		device_reads(arg, 1);
}

static void device_read_many(void *arg, uint64_t n)
{
	for (; n > DEPTH; n -= DEPTH)
		device_reads(arg, DEPTH);
	device_reads(arg, (int)n);
}

static void inline_read(void *arg, uint64_t n)
{
	struct fixture *f = arg;
	struct io_uring_sqe *sqe;

	while (n--) {
		sqe = io_uring_get_sqe(&f->ring);
		io_uring_prep_write_fixed(sqe, f->pipe[1], f->memory, PAGE, 0,
					  0);
		must("submit", io_uring_submit(&f->ring));
		take_completion(f);
		must("read", (int)read(f->pipe[0], f->buffer, PAGE));
	}
}

static void *pages(void)
{
	void *memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (memory == MAP_FAILED)
		die("mmap", -ENOMEM);
	return memory;
}

int main(int argc, char **argv)
{
	unsigned int ms = bench_begin("uring-device", argc, argv);
	struct bench_result alone;
	struct fixture f = { .nr_done = 0 };

	must("device", mmn_uring_device_create(NULL, &f.device));
	must("ring", io_uring_queue_init(DEPTH, &f.ring, 0));
	must("table", io_uring_register_buffers_sparse(&f.ring, 2));
	must("pipe", pipe(f.pipe));
	f.memory = pages();
	f.buffer = pages();
	f.map = device_map(&f);
	set_slot(&f, 0, f.memory, PAGE, 0);

	bench_line("map+unmap of a page",
		   bench_measure(device_map_unmap, &f, ms), "inline",
		   bench_measure(inline_map_unmap, &f, ms));
	alone = bench_measure(inline_read, &f, ms);
	bench_line("read of 4 KiB, one at a time",
		   bench_measure(device_read_one, &f, ms), "inline", alone);
	bench_line("read of 4 KiB, 32 at a time",
		   bench_measure(device_read_many, &f, ms), "inline", alone);

	mmn_device_unmap_begin(f.map);
	mmn_device_unmap_finish(f.map);
	mmn_device_destroy(f.device);
	io_uring_queue_exit(&f.ring);
	return 0;
}
