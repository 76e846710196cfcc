/* SPDX-License-Identifier: MIT */
/*
 * Rings that go on while memory is exchanged under them: no transfer that begins
 * after a change sees what was there before it.
 */
#include "unit/uring-help.h"

#define PIECES 8
#define PIECE_PAGES 2
#define RINGS 2
#define CHANGES 300
#define TRANSFERS 1500

struct world {
	struct mmn_state *state;
	char *pieces[PIECES];
	/* What has been put there at least; every word of a piece says more. */
	uint64_t versions[PIECES];
	uint32_t flags;
};

static void fill(char *memory, uint64_t version)
{
	uint64_t *words = (uint64_t *)(void *)memory;
	size_t i;

	for (i = 0; i < PIECE_PAGES * PAGE / sizeof(*words); i++)
		words[i] = version;
}

/*
 * By moving other pages there.  What they leave is unmapped by a call that
 * ThreadSanitizer sees: else it takes the next who gets that place for the old.
 */
static void exchange(struct world *world, unsigned int at, uint64_t version)
{
	struct mmn_invalidate_desc desc;
	char *piece = world->pieces[at];
	char *next = new_pages_at(NULL, PIECE_PAGES);

	fill(next, version);
	change_begin(world->state, &desc, MMN_EVENT_UNMAP, piece, PIECE_PAGES);
	t_ok(mremap(next, PIECE_PAGES * PAGE, PIECE_PAGES * PAGE,
		    MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
		    piece) == piece);
	t_err(mmn_invalidate_end(&desc), 0);
	free_pages(next, PIECE_PAGES);
	__atomic_store_n(&world->versions[at], version, __ATOMIC_RELEASE);
}

static void *change_pieces(void *arg)
{
	struct world *world = arg;
	uint64_t version;

	for (version = 1; version <= CHANGES; version++)
		exchange(world, (unsigned int)(version * 5 % PIECES), version);
	return NULL;
}

static void *write_pieces(void *arg)
{
	struct world *world = arg;
	struct mmn_uring_options options = {
		.size = sizeof(options),
		/* Fewer than there are pieces. */
		.nr_slots = PIECES - 2,
		.timeout_ns = 600 * 1000 * NS_PER_MS,
	};
	struct loop loop = { .state = world->state };
	uint64_t words[8], least;
	int i, j, pipe_fds[2];
	unsigned int at;
	size_t offset;

	t_eq(pipe(pipe_fds), 0);
	make_ring(&loop.ring, world->flags);
	t_err(mmn_uring_attach(loop.state, &loop.ring, &options, &loop.uring),
	      0);
	for (i = 0; i < TRANSFERS; i++) {
		at = (unsigned int)(i * 7 + i / 50) % PIECES;
		offset = (size_t)(i * 13) %
			 (PIECE_PAGES * PAGE / sizeof(words)) * sizeof(words);
		least = __atomic_load_n(&world->versions[at], __ATOMIC_ACQUIRE);
		start_write(&loop, pipe_fds[1], world->pieces[at] + offset,
			    sizeof(words));
		t_eq(end_one(&loop), (int)sizeof(words));
		t_eq(read(pipe_fds[0], words, sizeof(words)),
		     (ssize_t)sizeof(words));
		for (j = 0; j < 8; j++)
			t_ge(words[j], least);
	}
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	detach(&loop);
	io_uring_queue_exit(&loop.ring);
	return NULL;
}

static void exchange_under_rings(uint32_t flags)
{
	struct world world = { .flags = flags };
	pthread_t threads[RINGS], changer;
	struct io_uring ring;
	int i;

	/* Is there one at all? */
	make_ring(&ring, flags);
	io_uring_queue_exit(&ring);
	t_may_keep_mapped(24 << 20, "the arena for callbacks, a thread of RCU");
	t_err(mmn_state_create(&world.state), 0);
	for (i = 0; i < PIECES; i++)
		world.pieces[i] = new_pages_at(NULL, PIECE_PAGES);
	for (i = 0; i < RINGS; i++)
		t_err(pthread_create(&threads[i], NULL, write_pieces, &world),
		      0);
	t_err(pthread_create(&changer, NULL, change_pieces, &world), 0);
	for (i = 0; i < RINGS; i++)
		t_err(pthread_join(threads[i], NULL), 0);
	t_err(pthread_join(changer, NULL), 0);
	for (i = 0; i < PIECES; i++)
		free_pages(world.pieces[i], PIECE_PAGES);
	mmn_state_put(world.state);
	until(pinned_kb() == 0);
}

TEST(no_transfer_sees_what_was_there_before)
{
	exchange_under_rings(0);
}

TEST(nor_does_one_of_a_single_issuer)
{
	exchange_under_rings(IORING_SETUP_SINGLE_ISSUER |
			     IORING_SETUP_DEFER_TASKRUN);
}
