/* SPDX-License-Identifier: MIT */
/*
 * What a range fault costs per page against a plain read of pagemap, what a fill
 * of a mirror costs, and how many bytes a mirrored page takes.
 *
 * The plain read is the alternative that is wrong: it has no read section, no
 * permissions and no orders.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <mmn/mirror.h>

#include "bench.h"

enum { NR_PAGES = 16384 };

static uint64_t words[NR_PAGES];
static struct mmn_pages *pages;
static int pagemap;
static char *memory;

static void plain(void *arg, uint64_t n)
{
	off_t pos = (off_t)((uintptr_t)memory / mmn_page_size() * 8);
	ssize_t got;

	for (; n; n--) {
		got = pread(pagemap, words, sizeof(words), pos);
		bench_use(got);
	}
}

static void snapshot(void *arg, uint64_t n)
{
	struct mmn_range_fault fault = {
		.size = sizeof(fault),
		.start = (uintptr_t)memory,
		.last = (uintptr_t)memory + NR_PAGES * mmn_page_size() - 1,
		.words = words,
	};
	int err;

	for (; n; n--) {
		err = mmn_range_fault(pages, &fault);
		bench_use(err);
	}
}

/* Everything is there already: what asking for it adds. */
static void request(void *arg, uint64_t n)
{
	struct mmn_range_fault fault = {
		.size = sizeof(fault),
		.flags = MMN_FAULT_SETTLE,
		.start = (uintptr_t)memory,
		.last = (uintptr_t)memory + NR_PAGES * mmn_page_size() - 1,
		.words = words,
		.default_flags = MMN_PFN_REQ_FAULT,
	};
	int err;

	for (; n; n--) {
		err = mmn_range_fault(pages, &fault);
		bench_use(err);
	}
}

static struct bench_result per_page(void (*run)(void *arg, uint64_t n),
				    void *arg, unsigned int ms)
{
	struct bench_result result = bench_measure(run, arg, ms);

	result.min /= NR_PAGES;
	result.median /= NR_PAGES;
	result.max /= NR_PAGES;
	return result;
}

static void compare(const char *name, unsigned int ms, bool with_request)
{
	struct bench_result base = per_page(plain, NULL, ms);
	char what[64];

	snprintf(what, sizeof(what), "snapshot, %s, a page", name);
	bench_line(what, per_page(snapshot, NULL, ms), "pagemap", base);
	if (!with_request)
		return;
	snprintf(what, sizeof(what), "request, %s, a page", name);
	bench_line(what, per_page(request, NULL, ms), "pagemap", base);
}

static void map_memory(int advice)
{
	size_t huge = mmn_page_size() * mmn_page_size() / 8;
	size_t bytes = NR_PAGES * mmn_page_size();

	memory = mmap(NULL, bytes + huge, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		exit(1);
	memory = (char *)(((uintptr_t)memory + huge - 1) & ~(huge - 1));
	madvise(memory, bytes, advice);
}

static void discard(void)
{
	madvise(memory, NR_PAGES * mmn_page_size(), MADV_DONTNEED);
}

static void touch(size_t step)
{
	size_t i;

	for (i = 0; i < NR_PAGES; i += step)
		memory[i * mmn_page_size()] = 1;
}

/* Let the device take hold of everything and give it up again. */
struct filling {
	struct mmn_mirror *mirror;
};

static void fill_and_evict(void *arg, uint64_t n)
{
	struct filling *filling = arg;
	struct mmn_mirror_fill fill = {
		.size = sizeof(fill),
		.start = (uintptr_t)memory,
		.last = (uintptr_t)memory + NR_PAGES * mmn_page_size() - 1,
		.budget_ns = MMN_MIRROR_NO_LIMIT,
	};

	for (; n; n--) {
		if (mmn_mirror_fill(filling->mirror, pages, &fill))
			exit(1);
		mmn_mirror_evict(filling->mirror, fill.start, fill.last, NULL);
	}
}

static void mirror_cost(unsigned int ms, struct mmn_device *device,
			uint32_t run_pages)
{
	struct mmn_mirror_stats stats = { .size = sizeof(stats) };
	struct mmn_mirror_config config = {
		.size = sizeof(config),
		.device = device,
		.access = MMN_DEVICE_READ,
		.run_pages = run_pages,
	};
	struct mmn_mirror_fill fill = {
		.size = sizeof(fill),
		.start = (uintptr_t)memory,
		.last = (uintptr_t)memory + NR_PAGES * mmn_page_size() - 1,
		.budget_ns = MMN_MIRROR_NO_LIMIT,
	};
	struct bench_result base = per_page(plain, NULL, ms);
	struct bench_result result;
	struct mmn_state *state;
	struct filling filling;
	char what[64];

	if (mmn_state_create(&state) ||
	    mmn_mirror_create(state, fill.start, fill.last, &config,
			      &filling.mirror) ||
	    mmn_mirror_fill(filling.mirror, pages, &fill) ||
	    mmn_mirror_get_stats(filling.mirror, &stats))
		exit(1);
	mmn_mirror_evict(filling.mirror, fill.start, fill.last, NULL);
	result = per_page(fill_and_evict, &filling, ms);
	snprintf(what, sizeof(what), "fill+evict, %u pages a map, a page",
		 run_pages);
	bench_line(what, result, "pagemap", base);
	printf("{\"what\": \"table, %u pages a map\", \"bytes_per_page\": "
	       "%.1f}\n",
	       run_pages, (double)stats.table_bytes / (double)stats.pages);
	mmn_mirror_destroy(filling.mirror);
	mmn_state_put(state);
}

int main(int argc, char **argv)
{
	unsigned int ms = bench_begin("mirror", argc, argv);
	struct mmn_device *device;

	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (pagemap < 0 || mmn_pages_open(NULL, &pages) ||
	    mmn_soft_device_create(NULL, &device))
		return 1;
	map_memory(MADV_NOHUGEPAGE);
	compare("empty", ms, false);
	touch(2);
	compare("every other page", ms, false);
	discard();
	touch(64);
	compare("one page in 64", ms, false);
	touch(1);
	compare("all present", ms, true);
	mirror_cost(ms, device, 64);
	mirror_cost(ms, device, 1024);
	map_memory(MADV_HUGEPAGE);
	touch(1);
	compare("all present, huge pages", ms, true);
	mmn_device_destroy(device);
	mmn_pages_close(pages);
	close(pagemap);
	return 0;
}
