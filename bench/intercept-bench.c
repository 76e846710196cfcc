/* SPDX-License-Identifier: MIT */
/*
 * What an intercepted call costs when nobody is subscribed where it changes
 * memory, against the same system call made directly, past the rewritten place.
 *
 * The two alternate in small batches, because the machine changes more from one
 * moment to the next than they differ.
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
#define MAX_BATCHES 4096

static char *touched_page(void)
{
	char *p = (char *)mmn_syscall6(SYS_mmap, 0, PAGE,
				       PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*(volatile char *)p = 1;
	return p;
}

static void libc_refused(uint64_t n)
{
	while (n--)
		munmap((void *)1, 1);
}

static void raw_refused(uint64_t n)
{
	while (n--)
		mmn_syscall2(SYS_munmap, 1, 1);
}

static void libc_nothing(uint64_t n)
{
	while (n--)
		munmap((void *)(16 * PAGE), PAGE);
}

static void raw_nothing(uint64_t n)
{
	while (n--)
		mmn_syscall2(SYS_munmap, 16 * PAGE, PAGE);
}

static void libc_dontneed(uint64_t n)
{
	char *p = touched_page();

	while (n--) {
		*(volatile char *)p = 1;
		madvise(p, PAGE, MADV_DONTNEED);
	}
	mmn_syscall2(SYS_munmap, p, PAGE);
}

static void raw_dontneed(uint64_t n)
{
	char *p = touched_page();

	while (n--) {
		*(volatile char *)p = 1;
		mmn_syscall3(SYS_madvise, p, PAGE, MADV_DONTNEED);
	}
	mmn_syscall2(SYS_munmap, p, PAGE);
}

/* Only the munmap is timed: the mapping and the touch are done before. */
static double one_munmap(bool libc)
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
	if (libc)
		for (i = 0; i < BATCH; i++)
			munmap(p[i], PAGE);
	else
		for (i = 0; i < BATCH; i++)
			mmn_syscall2(SYS_munmap, p[i], PAGE);
	began = bench_now() - began;
	mmn_syscall2(SYS_munmap, block, 2 * BATCH * PAGE);
	return (double)began / BATCH;
}

static void report(const char *what, double *ours, double *theirs, int nr)
{
	double a, b;

	qsort(ours, (size_t)nr, sizeof(*ours), bench_compare);
	qsort(theirs, (size_t)nr, sizeof(*theirs), bench_compare);
	a = ours[nr / 2];
	b = theirs[nr / 2];
	printf("{\"what\": \"%s\", \"ns\": %.1f, \"against\": \"the system call\", "
	       "\"against_ns\": %.1f, \"ratio\": %.3f, \"quarter_ratio\": %.3f, "
	       "\"batches\": %d}\n",
	       what, a, b, a / b, ours[nr / 4] / theirs[nr / 4], nr);
	fflush(stdout);
}

static double ours[MAX_BATCHES], theirs[MAX_BATCHES];

static void run_pair(const char *what, void (*libc)(uint64_t n),
		     void (*raw)(uint64_t n), unsigned int ms)
{
	uint64_t end = bench_now() + ms * UINT64_C(7000000), began;
	int nr;

	for (nr = 0; nr < MAX_BATCHES && (nr < 4 || bench_now() < end); nr++) {
		began = bench_now();
		raw(BATCH);
		theirs[nr] = (double)(bench_now() - began) / BATCH;
		began = bench_now();
		libc(BATCH);
		ours[nr] = (double)(bench_now() - began) / BATCH;
	}
	report(what, ours, theirs, nr);
}

static void run_munmap(const char *what, unsigned int ms)
{
	uint64_t end = bench_now() + ms * UINT64_C(7000000);
	int nr;

	for (nr = 0; nr < MAX_BATCHES && (nr < 4 || bench_now() < end); nr++) {
		theirs[nr] = one_munmap(false);
		ours[nr] = one_munmap(true);
	}
	report(what, ours, theirs, nr);
}

static bool ignore(struct mmn_range_subscription *sub,
		   const struct mmn_invalidate_desc *desc, uint64_t seq)
{
	(void)desc;
	mmn_range_set_seq(sub, seq);
	return true;
}

static int install_times(struct mmn_state *state)
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
	struct mmn_state *state;
	int ret;

	ret = mmn_state_create(&state);
	if (ret || install_times(state) ||
	    mmn_range_subscription_init(&far, &config) ||
	    mmn_range_subscription_init(&all, &config))
		return 1;
	run_munmap("munmap of a touched page, source off (noise)", ms);
	if (mmn_intercept_start(state, NULL, NULL))
		return 1;
	run_munmap("munmap of a touched page, nobody subscribed", ms);
	if (mmn_range_subscription_insert(&far, state, 1ul << 60,
					  (1ul << 60) + PAGE))
		return 1;
	run_munmap("munmap of a touched page, somebody elsewhere", ms);
	run_pair("munmap of nothing, delivery alone", libc_nothing, raw_nothing,
		 ms);
	run_pair("munmap that is refused, passed on", libc_refused, raw_refused,
		 ms);
	run_pair("fault and madvise DONTNEED of a page", libc_dontneed,
		 raw_dontneed, ms);
	if (mmn_range_subscription_insert(&all, state, 0, UINTPTR_MAX >> 1))
		return 1;
	run_munmap("munmap of a touched page, one callback", ms);
	mmn_range_subscription_remove(&all);
	mmn_range_subscription_remove(&far);
	mmn_intercept_stop();
	mmn_state_put(state);
	return 0;
}
