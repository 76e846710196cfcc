/* SPDX-License-Identifier: MIT */
#ifndef MMN_URING_DEVICE_H
#define MMN_URING_DEVICE_H
/*
 * io_uring as a device that holds memory of this process (library libmmn-uring,
 * pkg-config name mmn-uring).
 *
 * A map is a registered buffer: the kernel pins its pages, so that the device
 * goes on reading and writing the pages the program had, whatever the program
 * has mapped there since.  A transfer is a fixed-buffer read or write of the
 * ring.  unmap_begin() clears the buffer's slot; unmap_finish() sleeps until
 * the kernel reports the slot's tag, which it does once the last transfer
 * is done and the pages are unpinned.  That report is the fence.
 *
 * All of it happens in one service thread that has a descriptor table of its
 * own: the program can neither see nor close the ring, and the device keeps no
 * pipe or socket of the program open.
 */
#include <mmn/common.h>
#include <mmn/device.h>

MMN_BEGIN_DECLS

/*
 * Leave the service thread in the program's descriptor table: what
 * mmn_uring_device_create() falls back to where a table of its own is refused.
 * The descriptors are then numbered as high as the limit allows and closed on
 * exec, but the program can see and close them.
 */
#define MMN_URING_SHARED_FILES (1u << 0)

#define MMN_URING_MAX_MAPS 16384u
#define MMN_URING_MAX_DEPTH 256u
#define MMN_URING_MAX_MAP_BYTES ((uint64_t)1 << 30)

/**
 * struct mmn_uring_config - what kind of device
 * @size: sizeof(struct mmn_uring_config)
 * @flags: MMN_URING_SHARED_FILES or 0
 * @nr_maps: maps that can exist at a time, up to MMN_URING_MAX_MAPS (the
 *	kernel's own limit); 0 means 1024
 * @queue_depth: transfers that can be under way at a time, up to
 *	MMN_URING_MAX_DEPTH; 0 means 32.  Each costs a pipe.
 * @max_pinned: bytes of memory that the device may hold, 0 for no limit of its
 *	own.  RLIMIT_MEMLOCK is respected besides, unless the process has
 *	CAP_IPC_LOCK.
 */
struct mmn_uring_config {
	uint32_t size;
	uint32_t flags;
	uint32_t nr_maps;
	uint32_t queue_depth;
	uint64_t max_pinned;
};

/**
 * struct mmn_uring_stats - what the device has done so far
 * @size: sizeof(struct mmn_uring_stats), set by the caller
 * @private_files: 1 when the service thread has a descriptor table of its own,
 *	0 when it shares the program's (see MMN_URING_SHARED_FILES)
 * @nr_maps: maps that exist now, dying ones included
 * @nr_transfers: transfers under way now
 * @pinned: bytes held now
 * @maps: maps made
 * @unmaps: maps given up, their fence included
 * @transfers: transfers completed, failed ones included
 * @read_bytes: bytes the device read from the process
 * @written_bytes: bytes the device wrote to the process
 * @fence_ns_max: longest time from a cleared slot to its tag
 * @fence_ns_total: sum of these times
 *
 * Each number is right by itself; together they are not one moment.
 */
struct mmn_uring_stats {
	uint32_t size;
	uint32_t private_files;
	uint32_t nr_maps;
	uint32_t nr_transfers;
	uint64_t pinned;
	uint64_t maps;
	uint64_t unmaps;
	uint64_t transfers;
	uint64_t read_bytes;
	uint64_t written_bytes;
	uint64_t fence_ns_max;
	uint64_t fence_ns_total;
};

/**
 * mmn_uring_device_create - make a device of an io_uring
 * @config: NULL for the defaults
 * @ret_device: the device; mmn_device_destroy() gives it back
 *
 * What the device asks of mmn_device_map() beyond its general rules: memory
 * that can be written (the kernel pins for both directions, whatever @access
 * says) and that can be pinned for long: anonymous memory, memfd, tmpfs and
 * huge pages, but not files of disk file systems (-EFAULT); at most
 * MMN_URING_MAX_MAP_BYTES in one map (-ENOSPC).  mmn_device_map() touches every
 * page for writing, as the device would.  Called in a transfer's done function
 * it fails with -EDEADLK.
 *
 * A transfer longer than a pipe holds (64 KiB, less for a user with very many
 * pipes) is done in pieces.  When its map is taken away between two of
 * them it ends there: @result is then shorter than @length.
 *
 * After fork() the device of the child is inert: maps and transfers are
 * refused (-ESTALE), unmapping and destroying do nothing that the parent
 * could notice.
 *
 * Context: may sleep; not from callbacks.  Makes a thread with all signals
 * blocked.
 * Return: 0; -EINVAL (a size, flag or number out of range); -E2BIG (@config is
 * of a newer version and asks for what this one lacks); -EPERM
 * (io_uring is forbidden: sysctl kernel.io_uring_disabled or a system call
 * filter); -ENOSYS (the kernel has none); -ENOTSUP (a kernel before 5.19,
 * without sparse tables of tagged buffers); -EMFILE, -ENFILE (the limits
 * on descriptors leave no room for two per transfer and one more); -EDQUOT
 * (RLIMIT_MEMLOCK leaves no room for the ring itself); -ENOMEM; -EAGAIN
 * (no more threads).
 */
MMN_PUBLIC
MMN_MUST_CHECK int
mmn_uring_device_create(const struct mmn_uring_config *config,
			struct mmn_device **ret_device);

/**
 * mmn_uring_device_stats - what has this device done
 * @device: made by mmn_uring_device_create()
 * @stats: @size set by the caller; as much as it covers is filled in
 *
 * Context: any thread, also callbacks.
 * Return: 0; -EINVAL (another kind of device, or @size too small for the
 * first two members); -ESTALE (in a fork child).
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_uring_device_stats(const struct mmn_device *device,
					  struct mmn_uring_stats *stats);

/**
 * mmn_uring_device_hold - let transfers begin and not end
 * @device: made by mmn_uring_device_create()
 *
 * For tests of code that waits for a device.  Every transfer that the device
 * starts from now on stays in the kernel, with the pages of its map held, until
 * mmn_uring_device_release().  Takes effect before any later submit of
 * this thread.
 *
 * Context: may sleep; not from callbacks.
 * Return: 0; -EINVAL (another kind of device); -ESTALE (in a fork child);
 * -EDEADLK (called in a done function).
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_uring_device_hold(struct mmn_device *device);

/**
 * mmn_uring_device_release - let held transfers go on
 * @device: made by mmn_uring_device_create()
 *
 * Does nothing when nothing is held.
 *
 * Context: may sleep; not from callbacks.
 * Return: 0; -EINVAL (another kind of device); -ESTALE (in a fork child);
 * -EDEADLK (called in a done function).
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_uring_device_release(struct mmn_device *device);

MMN_END_DECLS

#endif
