/* SPDX-License-Identifier: MIT */
#ifndef MMN_DEVICE_H
#define MMN_DEVICE_H
/*
 * A device that works on memory of this process: the small interface between a
 * mirror and whatever holds the other end of its entries.
 *
 * A map is the device's hold on a run of pages: a pinned registration, an
 * entry of its page table.  It is taken before the driver's lock, used by
 * transfers, and given up in two steps that fit the two passes of an
 * invalidation:
 *
 *	map()  ->  LIVE  -- unmap_begin() -->  DYING  -- unmap_finish() -->  gone
 *	            |  transfers may be          |  no new transfer is taken,
 *	            |  submitted                 |  those under way complete
 *
 * unmap_begin() and unmap_finish() are called in invalidation callbacks: they
 * use no heap, take no lock that is held across a call that changes memory, and
 * finish whatever the thread they interrupted was doing.
 */
#include <mmn/common.h>

MMN_BEGIN_DECLS

struct mmn_device;

/* What the device may do with the pages. */
#define MMN_DEVICE_READ (1u << 0)  /* it reads memory of the process */
#define MMN_DEVICE_WRITE (1u << 1) /* it writes memory of the process */

/**
 * struct mmn_device_map - the device's hold on a run of pages
 * @device: whose
 * @start: first byte, page aligned
 * @last: last byte, page aligned end, inclusive
 * @access: MMN_DEVICE_READ, MMN_DEVICE_WRITE or both
 *
 * The device's memory; read-only for others.
 */
struct mmn_device_map {
	struct mmn_device *device;
	uintptr_t start;
	uintptr_t last;
	uint32_t access;
	uint32_t reserved;
};

/**
 * struct mmn_device_transfer - one piece of work
 * @map: a live map of the device
 * @offset: bytes from the start of the map
 * @length: bytes, at least 1, inside the map
 * @access: MMN_DEVICE_READ: from the process to @buffer; MMN_DEVICE_WRITE:
 *	from @buffer to the process
 * @buffer: the other end, memory that nobody unmaps before @done
 * @done: called once, in the device's thread, or in the thread that submits
 *	or polls; may submit again; the rules for invalidation callbacks hold
 * @result: bytes moved or a negative errno, valid from @done on
 *
 * The caller's memory until @done has been called.
 */
struct mmn_device_transfer {
	struct mmn_device_map *map;
	size_t offset;
	size_t length;
	uint32_t access;
	uint32_t reserved;
	void *buffer;
	void (*done)(struct mmn_device_transfer *transfer);
	int64_t result;
	/* private: */
	uint64_t private_[4];
};

/**
 * struct mmn_device_ops - what a kind of device does
 *
 * @name: for reports: "uring", "soft"
 * @map: see mmn_device_map()
 * @unmap_begin: see mmn_device_unmap_begin()
 * @unmap_finish: see mmn_device_unmap_finish()
 * @submit: see mmn_device_submit()
 * @poll: see mmn_device_poll(); NULL when the device completes by itself
 * @destroy: see mmn_device_destroy()
 */
struct mmn_device_ops {
	const char *name;
	int (*map)(struct mmn_device *device, uintptr_t start, uintptr_t last,
		   uint32_t access, struct mmn_device_map **ret_map);
	void (*unmap_begin)(struct mmn_device_map *map);
	void (*unmap_finish)(struct mmn_device_map *map);
	int (*submit)(struct mmn_device_transfer *transfer);
	int (*poll)(struct mmn_device *device);
	void (*destroy)(struct mmn_device *device);
};

/** struct mmn_device - first member of every kind of device */
struct mmn_device {
	const struct mmn_device_ops *ops;
};

/**
 * mmn_device_map - let the device take hold of pages
 * @device: the device
 * @start: first byte, page aligned
 * @last: last byte, end of a page, inclusive
 * @access: what it may do; at least one bit
 * @ret_map: the hold
 *
 * Holds whatever is mapped at the moment; whether that is still right when it
 * returns is for the caller's read section to tell.
 *
 * Context: may sleep; not from callbacks; without the driver's lock.
 * Return: 0; -EINVAL (alignment, empty, no or unknown access); -EFAULT
 * (nothing mapped there, or memory this kind of device cannot hold);
 * -ENOMEM, -ENOSPC (no room in the device); -EDQUOT (more pinned memory than
 * the process may have); -EIO (the device has broken down); -ESTALE (in a fork
 * child).
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_device_map(struct mmn_device *device, uintptr_t start,
				  uintptr_t last, uint32_t access,
				  struct mmn_device_map **ret_map);

/**
 * mmn_device_unmap_begin - take the pages away from the device, first pass
 * @map: a live map
 *
 * No transfer that is submitted afterwards reaches the pages (-ESTALE).  Does
 * not wait.
 * Context: also invalidation callbacks, blockable or not; once per map.
 */
MMN_PUBLIC
void mmn_device_unmap_begin(struct mmn_device_map *map);

/**
 * mmn_device_unmap_finish - take the pages away, second pass
 * @map: a map that unmap_begin was called on; gone on return
 *
 * Waits until the transfers under way are done and the pages are given back.
 * Context: also blockable invalidation callbacks; may sleep.
 */
MMN_PUBLIC
void mmn_device_unmap_finish(struct mmn_device_map *map);

/**
 * mmn_device_submit - start a transfer
 * @transfer: filled in by the caller
 *
 * Context: any thread but invalidation callbacks.
 * Return: 0, and @transfer->done will be called; or an error, and it will
 * not: -EINVAL (outside the map, access not allowed), -ESTALE (the map is being
 * taken away, or this is a fork child), -EBUSY (the device's queue is full: poll
 * and try again).
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_device_submit(struct mmn_device_transfer *transfer);

/**
 * mmn_device_poll - complete what can be completed
 * @device: the device
 *
 * Return: transfers completed by this call, or 0; devices that complete by
 * themselves always say 0.
 */
MMN_PUBLIC
int mmn_device_poll(struct mmn_device *device);

/**
 * mmn_device_destroy - done with the device
 * @device: may be NULL; without maps and transfers
 *
 * Context: may sleep; not from callbacks.
 */
MMN_PUBLIC
void mmn_device_destroy(struct mmn_device *device);

/* ------------------------------------------------------------------ */
/* The software device                                                */
/* ------------------------------------------------------------------ */

/**
 * struct mmn_soft_config - how to set up a software device
 * @size: sizeof(struct mmn_soft_config)
 * @flags: 0
 * @queue_depth: transfers accepted and not yet done; 0 means 1024
 * @reserved: 0
 * @transfer_ns: each transfer takes at least this long, to act a slow device
 */
struct mmn_soft_config {
	uint32_t size;
	uint32_t flags;
	uint32_t queue_depth;
	uint32_t reserved;
	uint64_t transfer_ns;
};

/**
 * mmn_soft_device_create - a page-table walker in software
 * @config: may be NULL
 * @ret_device: the device
 *
 * For tests, and for machines without io_uring.  A map holds references to the
 * physical pages that were there when it was made (they sit in a pipe,
 * vmsplice(2)), and transfers read those pages, not the addresses: an entry that
 * should have been torn down shows old contents.  Pages of writable private
 * mappings are made the process's own first, so that a later write does not
 * replace them.
 *
 * MMN_DEVICE_WRITE works on shared mappings only (memfd, shared files, shared
 * anonymous memory), through a second mapping of the same object; elsewhere
 * map() says -EFAULT.
 *
 * One thread per device does all the work, with all signals blocked and with a
 * descriptor table of its own: the process's other threads do not see its
 * descriptors, cannot close them, and fork children do not inherit them.  One
 * descriptor per 64 pages.  The references do not keep pages from being swapped
 * out: without swap, or with locked memory, a map is exact.
 *
 * A transfer that waits in the queue when its map is taken away is done with
 * -ESTALE.  Copying from or to a bad @buffer gives -EFAULT.
 *
 * Context: may sleep; not from callbacks.
 * Return: 0; -EINVAL, -E2BIG (@config); -ENOMEM; -EAGAIN (no thread to be
 * had); -ENOSPC, -EDQUOT (no pipe to be had); what unshare(CLONE_FILES) gave
 * (-EPERM, -ENOMEM); -EMFILE and the others of mmn_pages_open().
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_soft_device_create(const struct mmn_soft_config *config,
					  struct mmn_device **ret_device);

MMN_END_DECLS

#endif
