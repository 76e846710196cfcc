/* SPDX-License-Identifier: MIT */
/*
 * Copy a file with O_DIRECT and fixed buffers, through memory that is mapped and
 * unmapped all the time.
 *
 * An allocator that gives memory back is what makes fixed buffers dangerous: the
 * kernel goes on using the pages that were registered.  Here each block is read
 * into a place that has just been mapped, often where another block was, written
 * from there, and unmapped, while the blocks beside it are under way.  Nothing in
 * the loop knows of it: the changes are intercepted.
 *
 * prints:
 *	copied 200 blocks through 8 places, equal to the byte
 *	at most 8 blocks were pinned, and none is left
 */
#include <mmn/dma-fence.h>
#include <mmn/notifier.h>
#include <mmn/source.h>
#include <mmn/uring.h>

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOCK ((size_t)16384)
#define BLOCKS 200
#define PLACES 8

struct place {
	char *memory;
	struct dma_fence *fence;
	int block;
	int writing;
};

static struct mmn_state *state;
static struct mmn_uring *uring;
static struct io_uring ring;
static struct place places[PLACES];
static int from, to, next_block, under_way;

static void must(int ret, const char *what)
{
	if (ret >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(-ret));
	exit(ret == -EPERM || ret == -ENOSYS || ret == -ENOTSUP ? 77 : 1);
}

static void map(struct place *place)
{
	place->memory = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (place->memory == MAP_FAILED)
		must(-errno, "mmap");
}

static void submit(struct place *place)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
	uint64_t at = (uint64_t)place->block * BLOCK;

	if (place->writing)
		must(mmn_uring_prep_write(uring, sqe, to, place->memory, BLOCK,
					  at, &place->fence),
		     "prepare a write");
	else
		must(mmn_uring_prep_read(uring, sqe, from, place->memory, BLOCK,
					 at, &place->fence),
		     "prepare a read");
	io_uring_sqe_set_data(sqe, place);
	must(io_uring_submit(&ring), "submit");
}

static void begin(struct place *place)
{
	if (next_block == BLOCKS)
		return;
	map(place);
	place->block = next_block++;
	place->writing = 0;
	under_way++;
	submit(place);
}

static void go_on(struct place *place, int result)
{
	mmn_uring_complete(place->fence, result);
	if (result != (int)BLOCK)
		must(result < 0 ? result : -EIO, "transfer");
	if (!place->writing) {
		place->writing = 1;
		submit(place);
		return;
	}
	munmap(place->memory, BLOCK);
	under_way--;
	begin(place);
}

static void take_completion(void)
{
	struct io_uring_cqe *cqe;
	struct place *place = NULL;
	int result;

	must(io_uring_wait_cqe(&ring, &cqe), "wait");
	result = cqe->res;
	if (!mmn_uring_cqe(uring, cqe->user_data))
		place = io_uring_cqe_get_data(cqe);
	io_uring_cqe_seen(&ring, cqe);
	if (place)
		go_on(place, result);
}

/* Without a name; no O_DIRECT here: nothing to show. */
static int open_direct(char *name)
{
	int fd, direct;

	fd = mkostemp(name, O_CLOEXEC);
	must(fd < 0 ? -errno : 0, name);
	direct = open(name, O_RDWR | O_CLOEXEC | O_DIRECT);
	unlink(name);
	close(fd);
	if (direct < 0) {
		fprintf(stderr, "this file system has no O_DIRECT\n");
		exit(77);
	}
	return direct;
}

static void fill_or_compare(int fd, int compare)
{
	unsigned int *words = aligned_alloc(4096, BLOCK), value = 1;
	size_t i, j;

	if (!words)
		must(-ENOMEM, "buffer");
	for (i = 0; i < BLOCKS; i++) {
		if (compare && pread(fd, words, BLOCK, (off_t)(i * BLOCK)) !=
				       (ssize_t)BLOCK)
			must(-EIO, "read back");
		for (j = 0; j < BLOCK / sizeof(*words); j++) {
			value = value * 1664525 + 1013904223;
			if (!compare)
				words[j] = value;
			else if (words[j] != value)
				must(-EILSEQ, "the copy differs");
		}
		if (!compare && pwrite(fd, words, BLOCK, (off_t)(i * BLOCK)) !=
					(ssize_t)BLOCK)
			must(-EINVAL, "write");
	}
	free(words);
}

static void detach(void)
{
	int ret;

	while ((ret = mmn_uring_detach(uring)) == -EBUSY)
		take_completion();
	must(ret, "detach");
}

int main(void)
{
	char name_from[] = "direct-copy-XXXXXX";
	char name_to[] = "direct-copy-XXXXXX";
	const struct mmn_uring_options options = {
		.size = sizeof(options),
		.nr_slots = PLACES,
		.max_bytes = PLACES * BLOCK,
	};
	struct mmn_intercept_report report = { .size = sizeof(report) };
	struct mmn_cache_stats stats = { .size = sizeof(stats) };
	int i;

	from = open_direct(name_from);
	to = open_direct(name_to);
	fill_or_compare(from, 0);
	must(mmn_state_create(&state), "state");
	must(mmn_intercept_start(state, NULL, &report), "intercept");
	must(io_uring_queue_init(64, &ring, 0), "ring");
	must(mmn_uring_attach(state, &ring, &options, &uring), "attach");

	for (i = 0; i < PLACES; i++)
		begin(&places[i]);
	while (under_way)
		take_completion();
	fill_or_compare(to, 1);
	printf("copied %d blocks through %d places, equal to the byte\n",
	       BLOCKS, PLACES);

	must(mmn_cache_purge(mmn_uring_cache(uring), 0, UINTPTR_MAX), "purge");
	must(mmn_cache_get_stats(mmn_uring_cache(uring), &stats), "figures");
	detach();
	printf("at most %d blocks were pinned, and %s is left\n", PLACES,
	       stats.regions ? "one" : "none");
	io_uring_queue_exit(&ring);
	mmn_intercept_stop();
	mmn_state_put(state);
	return 0;
}
