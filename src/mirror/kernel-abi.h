/* SPDX-License-Identifier: MIT */
#ifndef MMN_MIRROR_KERNEL_ABI_H
#define MMN_MIRROR_KERNEL_ABI_H
/*
 * Kernel interfaces that are newer than the headers this is built with:
 * documented in proc_pid_pagemap(5), madvise(2) and the kernel's
 * admin-guide/mm/pagemap.rst.
 */
#include <stdint.h>
#include <sys/ioctl.h>

/* A word of /proc/PID/pagemap. */
#define PAGEMAP_PRESENT (1ull << 63)
#define PAGEMAP_FILE (1ull << 61)      /* page cache or shared anonymous */
#define PAGEMAP_GUARD (1ull << 58)     /* MADV_GUARD_INSTALL */
#define PAGEMAP_UFFD_WP (1ull << 57)   /* write-protected by userfaultfd */
#define PAGEMAP_EXCLUSIVE (1ull << 56) /* mapped here and nowhere else */
#define PAGEMAP_FRAME ((1ull << 55) - 1)

/* ioctl of /proc/PID/pagemap, Linux 6.7 */
struct pagemap_scan {
	uint64_t size;
	uint64_t flags;
	uint64_t start;
	uint64_t end;
	uint64_t walk_end;
	uint64_t regions;
	uint64_t nr_regions;
	uint64_t max_pages;
	uint64_t category_inverted;
	uint64_t category_mask;
	uint64_t category_anyof_mask;
	uint64_t return_mask;
};

struct pagemap_region {
	uint64_t start;
	uint64_t end;
	uint64_t categories;
};

#define PAGEMAP_SCAN_IOCTL _IOWR('f', 16, struct pagemap_scan)
#define PAGE_IS_PRESENT_BIT (1ull << 3)
#define PAGE_IS_SWAPPED_BIT (1ull << 4)
#define PAGE_IS_HUGE_BIT (1ull << 6)

/* ioctl of /proc/PID/maps, Linux 6.11 */
struct maps_query {
	uint64_t size;
	uint64_t query_flags;
	uint64_t query_addr;
	uint64_t vma_start;
	uint64_t vma_end;
	uint64_t vma_flags;
	uint64_t vma_page_size;
	uint64_t vma_offset;
	uint64_t inode;
	uint32_t dev_major;
	uint32_t dev_minor;
	uint32_t vma_name_size;
	uint32_t build_id_size;
	uint64_t vma_name_addr;
	uint64_t build_id_addr;
};

#define MAPS_QUERY_IOCTL _IOWR('f', 17, struct maps_query)
#define MAPS_QUERY_READABLE 0x01
#define MAPS_QUERY_WRITABLE 0x02
#define MAPS_QUERY_EXECUTABLE 0x04
#define MAPS_QUERY_SHARED 0x08
#define MAPS_QUERY_COVERING_OR_NEXT 0x10

/* madvise, Linux 5.14 */
#define ADVICE_POPULATE_READ 22
#define ADVICE_POPULATE_WRITE 23

#endif
