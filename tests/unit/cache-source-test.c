/* SPDX-License-Identifier: MIT */
/*
 * The cache under real changes of real mappings, private and shared ones.
 */
#include <fcntl.h>

#include <mmn/source.h>

#include "unit/cache-help.h"

#define PAGES 8

static struct mmn_cache_region *get_at(struct fixture *x, void *at,
				       uint32_t access)
{
	struct mmn_cache_region *region = NULL;

	t_err(mmn_cache_get(x->cache, (uintptr_t)at, PAGES * PAGE, access,
			    &region),
	      0);
	return region;
}

static void *map(int fd, int flags)
{
	void *memory =
		mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);

	t_ok(memory != MAP_FAILED);
	return memory;
}

/* Everything that takes the pages of a file mapping away. */
static void change_mapping(int flags)
{
	struct mmn_cache_region *reader, *writer;
	struct fixture x;
	char *memory, *beside;
	int fd;

	fd = memfd_create("mapped", 0);
	t_ge(fd, 0);
	t_eq(ftruncate(fd, PAGES * PAGE), 0);
	set_up(&x);
	t_err(mmn_intercept_start(x.state, NULL, NULL), 0);
	memory = map(fd, flags);
	beside = map(fd, flags);

	reader = get_at(&x, memory, READ);
	writer = get_at(&x, beside, WRITE);
	t_eq(mprotect(memory, PAGE, PROT_READ), 0);
	t_eq(mprotect(beside, PAGE, PROT_READ), 0);
	t_ok(mmn_cache_region_is_valid(reader));
	t_ok(!mmn_cache_region_is_valid(writer));
	mmn_cache_put(x.cache, writer);

	writer = get_at(&x, beside, WRITE);
	t_eq(ftruncate(fd, PAGE), 0);
	t_ok(!mmn_cache_region_is_valid(reader));
	t_ok(!mmn_cache_region_is_valid(writer));
	mmn_cache_put(x.cache, reader);
	mmn_cache_put(x.cache, writer);

	reader = get_at(&x, memory, READ);
	t_eq(munmap(memory, PAGES * PAGE), 0);
	t_ok(!mmn_cache_region_is_valid(reader));
	mmn_cache_put(x.cache, reader);
	t_eq(munmap(beside, PAGES * PAGE), 0);
	t_err(mmn_intercept_stop(), 0);
	tear_down(&x);
	t_eq(close(fd), 0);
}

/* By the descriptor, without the address: who has it mapped is found. */
TEST(a_hole_in_a_file_that_is_mapped)
{
	struct mmn_cache_region *region;
	struct fixture x;
	char *memory;
	int fd;

	t_may_keep_mapped(8 << 20, "the stubs of the intercepted calls");
	fd = memfd_create("mapped", 0);
	t_ge(fd, 0);
	t_eq(ftruncate(fd, 2 * PAGES * PAGE), 0);
	set_up(&x);
	t_err(mmn_intercept_start(x.state, NULL, NULL), 0);
	memory = map(fd, MAP_SHARED);
	region = get_at(&x, memory, READ);
	/* Behind what is mapped. */
	t_eq(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		       PAGES * PAGE, PAGE),
	     0);
	t_ok(mmn_cache_region_is_valid(region));
	t_eq(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		       (PAGES - 1) * PAGE, PAGE),
	     0);
	t_ok(!mmn_cache_region_is_valid(region));
	mmn_cache_put(x.cache, region);

	region = get_at(&x, memory, READ);
	t_eq(madvise(memory, PAGE, MADV_REMOVE), 0);
	t_ok(!mmn_cache_region_is_valid(region));
	mmn_cache_put(x.cache, region);
	t_eq(munmap(memory, PAGES * PAGE), 0);
	t_err(mmn_intercept_stop(), 0);
	tear_down(&x);
	t_eq(close(fd), 0);
}

TEST(shared_file_mappings)
{
	t_may_keep_mapped(8 << 20, "the stubs of the intercepted calls");
	change_mapping(MAP_SHARED);
}

TEST(private_file_mappings)
{
	t_may_keep_mapped(8 << 20, "the stubs of the intercepted calls");
	change_mapping(MAP_PRIVATE);
}
