/* SPDX-License-Identifier: MIT */
/*
 * What an intercepted call costs, against the same call of libc with the source
 * off.
 *
 * The source is switched on and off in rounds, because the machine changes more
 * from one moment to the next than the two differ.
 */
#include <mmn/notifier.h>
#include <mmn/source.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/syscall.h"
#include "bench.h"

#define PAGE 4096ul
/* Small, so that most of them run without an interruption. */
#define BATCH 32
#define MAX_BATCHES 8192
#define NR_ROUNDS 16

static char *touched_page(void)
{
	char *p =
		(char *)mmn_syscall6(SYS_mmap, 0, PAGE, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*(volatile char *)p = 1;
	return p;
}

static void unmap_refused(uint64_t n)
{
	while (n--)
		munmap((void *)1, 1);
}

static void unmap_nothing(uint64_t n)
{
	while (n--)
		munmap((void *)(16 * PAGE), PAGE);
}

static void discard(uint64_t n)
{
	char *p = touched_page();

	while (n--) {
		*(volatile char *)p = 1;
		madvise(p, PAGE, MADV_DONTNEED);
	}
	mmn_syscall2(SYS_munmap, p, PAGE);
}

/* Only the munmap is timed: the mapping and the touch are done before. */
static double time_munmap(void)
{
	char *p[BATCH], *block;
	uint64_t began;
	int i;

	/* Each second page of a block, so that no mappings merge or split. */
	block = (char *)mmn_syscall6(SYS_mmap, 0, 2 * BATCH * PAGE, PROT_NONE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (i = 0; i < BATCH; i++) {
		p[i] = block + 2 * (size_t)i * PAGE;
		mmn_syscall3(SYS_mprotect, p[i], PAGE, PROT_READ | PROT_WRITE);
		*(volatile char *)p[i] = 1;
	}
	began = bench_now();
	for (i = 0; i < BATCH; i++)
		munmap(p[i], PAGE);
	began = bench_now() - began;
	mmn_syscall2(SYS_munmap, block, 2 * BATCH * PAGE);
	return (double)began / BATCH;
}

static double time_refused(void)
{
	uint64_t began = bench_now();

	unmap_refused(BATCH);
	return (double)(bench_now() - began) / BATCH;
}

static double time_nothing(void)
{
	uint64_t began = bench_now();

	unmap_nothing(BATCH);
	return (double)(bench_now() - began) / BATCH;
}

static double time_discard(void)
{
	uint64_t began = bench_now();

	discard(BATCH);
	return (double)(bench_now() - began) / BATCH;
}

static struct mmn_state *state;
static double on[MAX_BATCHES], off[MAX_BATCHES];

static int fill(double *ns, int nr, int end, double (*once)(void),
		unsigned int ms)
{
	uint64_t until = bench_now() + ms * UINT64_C(500000);

	once();
	while (nr < end && bench_now() < until)
		ns[nr++] = once();
	return nr;
}

/* Half of the time on, half of it off, in turns. */
static void run(const char *what, double (*once)(void), unsigned int ms)
{
	int round, nr_on = 0, nr_off = 0, end;
	double a, b;

	for (round = 1; round <= NR_ROUNDS; round++) {
		end = MAX_BATCHES / NR_ROUNDS * round;
		nr_off = fill(off, nr_off, end, once, ms);
		if (mmn_intercept_start(state, NULL, NULL))
			exit(1);
		nr_on = fill(on, nr_on, end, once, ms);
		mmn_intercept_stop();
	}
	qsort(on, (size_t)nr_on, sizeof(*on), bench_compare);
	qsort(off, (size_t)nr_off, sizeof(*off), bench_compare);
	a = on[nr_on / 2];
	b = off[nr_off / 2];
	printf("{\"what\": \"%s\", \"ns\": %.1f, \"against\": \"source off\", "
	       "\"against_ns\": %.1f, \"ratio\": %.3f, "
	       "\"quarter_ratio\": %.3f, \"batches\": %d}\n",
	       what, a, b, a / b, on[nr_on / 4] / off[nr_off / 4], nr_on);
	fflush(stdout);
}

static bool ignore(struct mmn_range_subscription *sub,
		   const struct mmn_invalidate_desc *desc, uint64_t seq)
{
	(void)desc;
	mmn_range_set_seq(sub, seq);
	return true;
}

static int install_times(void)
{
	struct mmn_intercept_report found = { .size = sizeof(found) };
	double us[7];
	size_t i;

	for (i = 0; i < 7; i++) {
		if (mmn_intercept_start(state, NULL, &found))
			return 1;
		us[i] = (double)found.install_ns / 1000;
		mmn_intercept_stop();
	}
	printf("{\"what\": \"install\", \"first_us\": %.0f, ", us[0]);
	qsort(us, 7, sizeof(us[0]), bench_compare);
	printf("\"median_us\": %.0f, \"places\": %u, \"objects\": %u}\n", us[3],
	       found.nr_patched, found.nr_objects);
	return 0;
}

int main(int argc, char **argv)
{
	unsigned int ms = bench_begin("intercept", argc, argv);
	static const struct mmn_range_ops ops = { .invalidate = ignore };
	const struct mmn_range_config config = {
		.size = sizeof(config),
		.ops = &ops,
		.lock = mmn_driver_no_lock(),
	};
	struct mmn_range_subscription far, all;

	if (mmn_state_create(&state) || install_times() ||
	    mmn_range_subscription_init(&far, &config) ||
	    mmn_range_subscription_init(&all, &config))
		return 1;
	run("munmap of a touched page, nobody subscribed", time_munmap, ms);
	if (mmn_range_subscription_insert(&far, state, 1ul << 60,
					  (1ul << 60) + PAGE))
		return 1;
	run("munmap of a touched page, somebody elsewhere", time_munmap, ms);
	run("munmap of nothing, delivery alone", time_nothing, ms);
	run("munmap that is refused, passed on", time_refused, ms);
	run("fault and madvise DONTNEED of a page", time_discard, ms);
	if (mmn_range_subscription_insert(&all, state, 0, UINTPTR_MAX >> 1))
		return 1;
	run("munmap of a touched page, one callback", time_munmap, ms);
	mmn_range_subscription_remove(&all);
	mmn_range_subscription_remove(&far);
	mmn_state_put(state);
	return 0;
}
