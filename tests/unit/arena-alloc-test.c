/* SPDX-License-Identifier: MIT */
/* Memory that callbacks may allocate. */
#include "t/tap.h"

#include <errno.h>
#include <mmn/inject.h>
#include <mmn/memory.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/atomic.h"
#include "base/compiler.h"
#include "unit/answer-syscall.h"

/* Every block carries its own address and length, so that no two overlap. */
static void fill(void *block, size_t size)
{
	unsigned char seed = (unsigned char)((uintptr_t)block >> 4 ^ size);
	unsigned char *bytes = block;
	size_t i;

	for (i = 0; i < size; i++)
		bytes[i] = (unsigned char)(seed + i);
}

static bool is_filled(const void *block, size_t size)
{
	unsigned char seed = (unsigned char)((uintptr_t)block >> 4 ^ size);
	const unsigned char *bytes = block;
	size_t i;

	for (i = 0; i < size; i++)
		if (bytes[i] != (unsigned char)(seed + i))
			return false;
	return true;
}

static uint64_t next_random(uint64_t *state)
{
	*state = *state * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return *state >> 33;
}

TEST(blocks_of_all_sizes_are_aligned_and_apart)
{
	enum { NR = 3000 };
	static void *blocks[NR];
	size_t used = mmn_callback_in_use();
	size_t i;

	for (i = 0; i < NR; i++) {
		blocks[i] = mmn_callback_alloc(i * 23);
		t_ok(blocks[i]);
		t_eq((uintptr_t)blocks[i] % 16, 0);
		fill(blocks[i], i * 23);
	}
	for (i = 0; i < NR; i++)
		t_ok(is_filled(blocks[i], i * 23));
	for (i = 0; i < NR; i++)
		mmn_callback_free(blocks[i]);
	t_eq(mmn_callback_in_use(), used);
}

TEST(cost_is_as_documented)
{
	/* size, cost */
	static const size_t table[][2] = {
		{ 0, 32 },	  { 1, 32 },	      { 16, 32 },
		{ 17, 64 },	  { 48, 64 },	      { 49, 128 },
		{ 1008, 1024 },	  { 1009, 2048 },     { 32752, 32768 },
		{ 32753, 36864 }, { 100000, 102400 },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(table); i++) {
		size_t used = mmn_callback_in_use();
		void *block = mmn_callback_alloc(table[i][0]);

		t_eq(mmn_callback_in_use() - used, table[i][1]);
		mmn_callback_free(block);
		t_eq(mmn_callback_in_use(), used);
	}
}

TEST(freed_memory_is_used_again)
{
	void *first = mmn_callback_alloc(100);
	size_t footprint = mmn_callback_footprint();
	int i;

	mmn_callback_free(first);
	for (i = 0; i < 100000; i++) {
		void *block = mmn_callback_alloc(100);

		t_ok(block == first);
		mmn_callback_free(block);
	}
	t_eq(mmn_callback_footprint(), footprint);
}

TEST(large_blocks_go_back_to_the_kernel)
{
	size_t footprint = mmn_callback_footprint();
	size_t size = (size_t)64 << 20;
	char *block = mmn_callback_alloc(size);

	t_ok(block);
	t_ge(mmn_callback_footprint(), footprint + size);
	block[0] = 1;
	block[size - 1] = 1;
	mmn_callback_free(block);
	t_eq(mmn_callback_footprint(), footprint);
}

TEST(impossible_sizes_get_nothing)
{
	t_ok(!mmn_callback_alloc(SIZE_MAX));
	t_ok(!mmn_callback_alloc(SIZE_MAX - 4096));
	t_ok(!mmn_callback_alloc(SIZE_MAX / 2));
}

TEST(zeroed_blocks_are_zero_when_used_again)
{
	static const char zeroes[200];
	void *block = mmn_callback_alloc(200);

	fill(block, 200);
	mmn_callback_free(block);
	block = mmn_callback_zalloc(200);
	t_memeq(block, zeroes, 200);
	mmn_callback_free(block);
}

TEST(free_of_nothing_is_harmless)
{
	size_t used = mmn_callback_in_use();

	mmn_callback_free(NULL);
	t_eq(mmn_callback_in_use(), used);
}

TEST(second_free_is_reported_and_has_no_effect)
{
	void *block = mmn_callback_alloc(100);
	void *a;
	void *b;

	t_bug_expected("freed twice");
	mmn_callback_free(block);
	mmn_callback_free(block);
	a = mmn_callback_alloc(100);
	b = mmn_callback_alloc(100);
	t_ok(a != b);
	mmn_callback_free(a);
	mmn_callback_free(b);
}

TEST(injected_failure_is_a_failed_allocation)
{
	t_err(mmn_inject_set(MMN_INJECT_ALLOC, 1, 0), 0);
	t_ok(!mmn_callback_alloc(10));
	t_err(mmn_callback_reserve(10), -ENOMEM);
	t_eq(mmn_inject_hits(MMN_INJECT_ALLOC), 2);
	mmn_inject_clear();
}

/* Page faults without I/O of this process. */
static long nr_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

static void use_what_is_reserved(void)
{
	enum { NR = 3 << 10 };
	static char *blocks[NR];
	size_t footprint;
	long faults;
	size_t i;

	t_err(mmn_callback_reserve((size_t)NR << 10), 0);
	footprint = mmn_callback_footprint();
	faults = nr_faults();
	for (i = 0; i < NR; i++) {
		blocks[i] = mmn_callback_alloc(1000);
		blocks[i][0] = 1;
		blocks[i][999] = 1;
	}
	faults = nr_faults() - faults;
	t_eq(mmn_callback_footprint(), footprint);
	/* NR blocks are 768 pages; shadow memory and emulators fault too. */
	if (!MMN_ASAN && !MMN_TSAN && !t_is_emulated())
		t_lt(faults, 16);
	for (i = 0; i < NR; i++)
		mmn_callback_free(blocks[i]);
}

TEST(reserved_memory_is_there_without_the_kernel)
{
	use_what_is_reserved();
}

TEST(reserved_memory_is_there_where_the_kernel_cannot_populate)
{
	answer_syscall_if(SYS_madvise, 2, 23 /* POPULATE_WRITE */, EINVAL);
	use_what_is_reserved();
}

TEST(reserve_of_the_largest_blocks_counts_what_chunk_ends_lose)
{
	enum { NR = 100 };
	void *blocks[NR];
	size_t footprint;
	size_t i;

	/* Not at the beginning of a chunk. */
	mmn_callback_free(mmn_callback_alloc(1));
	t_err(mmn_callback_reserve((size_t)NR << 15), 0);
	footprint = mmn_callback_footprint();
	for (i = 0; i < NR; i++) {
		blocks[i] = mmn_callback_alloc(32000);
		t_ok(blocks[i]);
	}
	t_eq(mmn_callback_footprint(), footprint);
	for (i = 0; i < NR; i++)
		mmn_callback_free(blocks[i]);
}

TEST(memory_that_the_kernel_refuses_is_an_error)
{
	struct rlimit limit;
	void *block;

	if (MMN_ASAN || MMN_TSAN)
		t_skip("needs a limit on address space");
	t_need_kernel("no limit on address space");
	limit.rlim_cur = (rlim_t)256 << 20;
	limit.rlim_max = limit.rlim_cur;
	t_err(setrlimit(RLIMIT_AS, &limit), 0);
	t_err(mmn_callback_reserve((size_t)1 << 30), -ENOMEM);
	block = mmn_callback_alloc(100);
	t_ok(block);
	t_ok(!mmn_callback_alloc((size_t)1 << 30));
	mmn_callback_free(block);
}

struct worker {
	pthread_t thread;
	uint64_t random;
	uint32_t nr_bad;
};

/* Blocks wait here for whichever thread frees them. */
#define NR_SHELVES 64
static struct shelf {
	void *block;
	size_t size;
} shelves[NR_SHELVES];
static pthread_mutex_t shelf_lock = PTHREAD_MUTEX_INITIALIZER;

static struct shelf swap_shelf(unsigned int nr, struct shelf new)
{
	struct shelf old;

	pthread_mutex_lock(&shelf_lock);
	old = shelves[nr];
	shelves[nr] = new;
	pthread_mutex_unlock(&shelf_lock);
	return old;
}

static void *churn(void *arg)
{
	enum { NR_OWN = 16, ROUNDS = MMN_TSAN ? 20000 : 100000 };
	struct shelf own[NR_OWN] = { { NULL, 0 } };
	struct worker *worker = arg;
	int round;
	int i;

	for (round = 0; round < ROUNDS; round++) {
		struct shelf *at = &own[next_random(&worker->random) % NR_OWN];

		if (at->block && !is_filled(at->block, at->size))
			worker->nr_bad++;
		mmn_callback_free(at->block);
		at->size = next_random(&worker->random) % 300;
		at->block = mmn_callback_alloc(at->size);
		fill(at->block, at->size);
		if (round % 4 == 0)
			*at = swap_shelf(
				next_random(&worker->random) % NR_SHELVES, *at);
	}
	for (i = 0; i < NR_OWN; i++) {
		if (own[i].block && !is_filled(own[i].block, own[i].size))
			worker->nr_bad++;
		mmn_callback_free(own[i].block);
	}
	return NULL;
}

TEST(threads_never_share_a_block)
{
	enum { NR = 4 };
	struct worker workers[NR] = { { .random = 0 } };
	size_t used = mmn_callback_in_use();
	int i;

	for (i = 0; i < NR; i++) {
		workers[i].random = (uint64_t)i * 7919 + 1;
		t_err(pthread_create(&workers[i].thread, NULL, churn,
				     &workers[i]),
		      0);
	}
	for (i = 0; i < NR; i++) {
		pthread_join(workers[i].thread, NULL);
		t_eq(workers[i].nr_bad, 0);
	}
	for (i = 0; i < NR_SHELVES; i++)
		mmn_callback_free(shelves[i].block);
	t_eq(mmn_callback_in_use(), used);
}

static volatile sig_atomic_t nr_handled;
static volatile sig_atomic_t nr_handler_bad;

static void allocate_in_handler(int signal)
{
	void *blocks[8];
	int i;

	(void)signal;
	for (i = 0; i < 8; i++) {
		blocks[i] = mmn_callback_alloc(40);
		fill(blocks[i], 40);
	}
	for (i = 0; i < 8; i++) {
		if (!is_filled(blocks[i], 40))
			nr_handler_bad = nr_handler_bad + 1;
		mmn_callback_free(blocks[i]);
	}
	nr_handled = nr_handled + 1;
}

TEST(handler_that_interrupts_an_allocation_allocates_too)
{
	struct sigaction action = { .sa_handler = allocate_in_handler };
	struct itimerval often = { { 0, 50 }, { 0, 50 } };
	struct itimerval never = { { 0, 0 }, { 0, 0 } };
	size_t used = mmn_callback_in_use();
	uint32_t nr_bad = 0;
	void *blocks[4];
	int i;

	sigaction(SIGALRM, &action, NULL);
	t_err(setitimer(ITIMER_REAL, &often, NULL), 0);
	while (nr_handled < 2000) {
		for (i = 0; i < 4; i++) {
			blocks[i] = mmn_callback_alloc(40);
			fill(blocks[i], 40);
		}
		for (i = 0; i < 4; i++) {
			nr_bad += !is_filled(blocks[i], 40);
			mmn_callback_free(blocks[i]);
		}
	}
	t_err(setitimer(ITIMER_REAL, &never, NULL), 0);
	t_eq(nr_bad, 0);
	t_eq(nr_handler_bad, 0);
	t_eq(mmn_callback_in_use(), used);
}

static bool stop_forking;

static void *churn_until_told(void *arg)
{
	(void)arg;
	while (!mmn_load_relaxed(&stop_forking)) {
		void *a = mmn_callback_alloc(40);
		void *b = mmn_callback_alloc(40);

		mmn_callback_free(a);
		mmn_callback_free(b);
	}
	return NULL;
}

static int use_in_child(void)
{
	void *blocks[200];
	int bad = 0;
	int i;

	for (i = 0; i < 200; i++) {
		blocks[i] = mmn_callback_alloc(40);
		fill(blocks[i], 40);
	}
	for (i = 0; i < 200; i++) {
		bad |= !is_filled(blocks[i], 40);
		mmn_callback_free(blocks[i]);
	}
	return bad;
}

TEST(fork_child_finds_a_whole_arena)
{
	pthread_t thread;
	int i;

	t_err(pthread_create(&thread, NULL, churn_until_told, NULL), 0);
	for (i = 0; i < 50; i++) {
		pid_t pid = fork();
		int status;

		if (!pid)
			_exit(use_in_child());
		t_eq(waitpid(pid, &status, 0), pid);
		t_eq(status, 0);
	}
	mmn_store_relaxed(&stop_forking, true);
	pthread_join(thread, NULL);
}

TEST(reserve_of_more_than_the_arena_holds_is_refused)
{
	size_t footprint = mmn_callback_footprint();

	t_err(mmn_callback_reserve((size_t)4 << 30), -ENOMEM);
	t_err(mmn_callback_reserve(SIZE_MAX), -ENOMEM);
	t_eq(mmn_callback_footprint(), footprint);
}
