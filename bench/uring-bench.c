/* SPDX-License-Identifier: MIT */
/*
 * Reads into a buffer that mmn_uring_get() finds against plain reads, for which
 * the kernel pins the pages each time; and what finding, a fence and registering
 * cost by themselves.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <mmn/dma-fence.h>
#include <mmn/notifier.h>
#include <mmn/uring.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define FILE_BYTES ((size_t)16 << 20)
#define DEPTH 32

struct fixture {
	struct mmn_state *state;
	struct mmn_uring *uring;
	struct io_uring ring;
	char *memory;
	size_t bytes;
	uint64_t at;
	int file;
};

static void die(const char *what, int error)
{
	fprintf(stderr, "%s: %s\n", what, strerror(-error));
	exit(error == -EPERM || error == -ENOSYS || error == -ENOTSUP ? 77 : 1);
}

static void must(const char *what, int ret)
{
	if (ret < 0)
		die(what, ret);
}

static uint64_t next_offset(struct fixture *f)
{
	f->at = (f->at + f->bytes) % (FILE_BYTES - f->bytes + 1) / f->bytes *
		f->bytes;
	return f->at;
}

/* What has ended, apart from the library's own. */
static void reap(struct fixture *f, uint64_t nr)
{
	struct io_uring_cqe *cqe;

	while (nr) {
		must("wait", io_uring_wait_cqe(&f->ring, &cqe));
		if (!mmn_uring_cqe(f->uring, cqe->user_data)) {
			must("read", cqe->res);
			mmn_uring_complete(io_uring_cqe_get_data(cqe), 0);
			nr--;
		}
		io_uring_cqe_seen(&f->ring, cqe);
	}
}

typedef void submitter(struct fixture *f, struct io_uring_sqe *sqe, char *to);

static void in_batches(struct fixture *f, uint64_t n, submitter *submit)
{
	struct io_uring_sqe *sqe;
	uint64_t batch, i;

	for (; n; n -= batch) {
		batch = n < DEPTH ? n : DEPTH;
		for (i = 0; i < batch; i++) {
			sqe = io_uring_get_sqe(&f->ring);
			submit(f, sqe, f->memory + i * f->bytes);
		}
		must("submit", io_uring_submit(&f->ring));
		reap(f, batch);
	}
}

static void submit_plain(struct fixture *f, struct io_uring_sqe *sqe, char *to)
{
	io_uring_prep_read(sqe, f->file, to, (unsigned int)f->bytes,
			   next_offset(f));
	io_uring_sqe_set_data(sqe, NULL);
}

static void submit_get(struct fixture *f, struct io_uring_sqe *sqe, char *to)
{
	struct mmn_cache_region *region;
	int slot;

	slot = mmn_uring_get(f->uring, to, f->bytes, MMN_CACHE_WRITE, &region);
	must("get", slot);
	io_uring_prep_read_fixed(sqe, f->file, to, (unsigned int)f->bytes,
				 next_offset(f), slot);
	io_uring_sqe_set_data(sqe, NULL);
	mmn_uring_put(f->uring, region);
}

static void submit_prep(struct fixture *f, struct io_uring_sqe *sqe, char *to)
{
	struct dma_fence *fence;

	must("prepare",
	     mmn_uring_prep_read(f->uring, sqe, f->file, to, (uint32_t)f->bytes,
				 next_offset(f), &fence));
	io_uring_sqe_set_data(sqe, fence);
}

static void read_plain(void *arg, uint64_t n)
{
	in_batches(arg, n, submit_plain);
}

static void read_get(void *arg, uint64_t n)
{
	in_batches(arg, n, submit_get);
}

static void read_prep(void *arg, uint64_t n)
{
	in_batches(arg, n, submit_prep);
}

static void get_and_put(void *arg, uint64_t n)
{
	struct fixture *f = arg;
	struct mmn_cache_region *region;

	while (n--) {
		must("get", mmn_uring_get(f->uring, f->memory, f->bytes,
					  MMN_CACHE_WRITE, &region));
		mmn_uring_put(f->uring, region);
	}
}

static void prepare_and_complete(void *arg, uint64_t n)
{
	struct fixture *f = arg;
	struct dma_fence *fence;
	struct io_uring_sqe sqe;

	while (n--) {
		must("prepare",
		     mmn_uring_prep_read(f->uring, &sqe, f->file, f->memory,
					 (uint32_t)f->bytes, 0, &fence));
		mmn_uring_complete(fence, 0);
	}
}

/* What would be done without a cache: fill a slot, and clear it. */
static void fill_and_clear(void *arg, uint64_t n)
{
	struct fixture *f = arg;
	struct iovec iov;
	__u64 tag = 0;

	while (n--) {
		iov = (struct iovec){ f->memory, f->bytes };
		must("fill", io_uring_register_buffers_update_tag(
				     &f->ring, 1, &iov, &tag, 1));
		iov = (struct iovec){ NULL, 0 };
		must("clear", io_uring_register_buffers_update_tag(
				      &f->ring, 1, &iov, &tag, 1));
	}
}

/* For reads that reach the device: the page cache needs no pinning. */
static int open_file(void)
{
	char name[] = "uring-bench-XXXXXX";
	char *block = calloc(1, FILE_BYTES);
	int fd, direct;

	fd = mkostemp(name, O_CLOEXEC);
	must(name, fd < 0 ? -errno : 0);
	direct = open(name, O_RDONLY | O_CLOEXEC | O_DIRECT);
	unlink(name);
	if (!block || direct < 0 ||
	    pwrite(fd, block, FILE_BYTES, 0) != (ssize_t)FILE_BYTES) {
		fprintf(stderr, "no O_DIRECT here\n");
		exit(77);
	}
	fsync(fd);
	close(fd);
	free(block);
	return direct;
}

static void measure(struct fixture *f, size_t bytes, unsigned int ms)
{
	struct bench_result plain;
	char what[80];

	f->bytes = bytes;
	f->at = 0;
	plain = bench_measure(read_plain, f, ms);
	snprintf(what, sizeof(what), "O_DIRECT read of %zu KiB, found slot",
		 bytes / 1024);
	bench_line(what, bench_measure(read_get, f, ms), "plain read", plain);
	snprintf(what, sizeof(what), "O_DIRECT read of %zu KiB, with fence",
		 bytes / 1024);
	bench_line(what, bench_measure(read_prep, f, ms), "plain read", plain);
}

int main(int argc, char **argv)
{
	static const size_t sizes[] = { 4096, 16384, 65536, 262144 };
	const struct mmn_uring_options options = {
		.size = sizeof(options),
		.flags = MMN_URING_HAS_TABLE,
		.first_slot = 2,
	};
	unsigned int ms = bench_begin("uring", argc, argv);
	struct fixture f = { .bytes = PAGE };
	struct bench_result registered;
	size_t i;

	f.file = open_file();
	must("state", mmn_state_create(&f.state));
	must("ring", io_uring_queue_init(2 * DEPTH, &f.ring, 0));
	must("table", io_uring_register_buffers_sparse(&f.ring, 1026));
	must("attach", mmn_uring_attach(f.state, &f.ring, &options, &f.uring));
	f.memory = mmap(NULL, DEPTH * sizes[3], PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	must("mmap", f.memory == MAP_FAILED ? -ENOMEM : 0);

	registered = bench_measure(fill_and_clear, &f, ms);
	bench_line("get+put of a page, found",
		   bench_measure(get_and_put, &f, ms), "fill+clear",
		   registered);
	bench_line("prepare+complete",
		   bench_measure(prepare_and_complete, &f, ms), "fill+clear",
		   registered);
	for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		measure(&f, sizes[i], ms);

	while (mmn_uring_detach(f.uring) == -EBUSY) {
		struct io_uring_cqe *cqe;

		must("wait", io_uring_wait_cqe(&f.ring, &cqe));
		if (!mmn_uring_cqe(f.uring, cqe->user_data))
			die("completion", -EIO);
		io_uring_cqe_seen(&f.ring, cqe);
	}
	io_uring_queue_exit(&f.ring);
	mmn_state_put(f.state);
	return 0;
}
