/* SPDX-License-Identifier: MIT */
#ifndef MMN_SYNC_H
#define MMN_SYNC_H
/*
 * Fences as objects: to poll, to pass on, to count.
 *
 *	mmn_sync_file	one fence, for good; merge, information, descriptor
 *	mmn_sw_sync	a timeline that a program advances itself
 *
 * They are what sync_file and sw_sync are in Linux.  There each is a
 * file or the handle of one; here each is a pointer with a count of references,
 * that libraries of one process pass to each other, and there is a descriptor only
 * where one is asked for.
 *
 * In a fork child the copies are inert: calls that return int return -ESTALE, and
 * dropping references is harmless.  Descriptors that it has inherited may be
 * polled.
 */
#include <mmn/dma-fence.h>

MMN_BEGIN_DECLS

/* With the zero at the end. */
#define MMN_SYNC_NAME_SIZE 32u

/* One fence */

struct mmn_sync_file;

/**
 * mmn_sync_file_create - a handle of a fence
 * @fence: gets a reference more
 * @name: cut off at MMN_SYNC_NAME_SIZE; or NULL for one that is made of the
 *	fence's driver, timeline, context and number
 * @ret_file: with one reference
 *
 * Context: uses the heap.
 * Return: 0; -EINVAL (NULL); -ENOMEM.
 */
MMN_PUBLIC
int mmn_sync_file_create(struct dma_fence *fence, const char *name,
			 struct mmn_sync_file **ret_file);

/**
 * mmn_sync_file_get - one more reference
 * @file: or NULL
 *
 * Context: any.
 * Return: @file.
 */
MMN_PUBLIC
struct mmn_sync_file *mmn_sync_file_get(struct mmn_sync_file *file);

/**
 * mmn_sync_file_put - one reference less
 * @file: or NULL
 *
 * The last one closes the descriptor.
 *
 * Context: any but signal handlers and callbacks of subscriptions; uses the heap.
 */
MMN_PUBLIC
void mmn_sync_file_put(struct mmn_sync_file *file);

/**
 * mmn_sync_file_get_fence - the fence in it
 * @file: the caller has a reference
 *
 * Context: any.
 * Return: a reference to it; NULL in a fork child.
 */
MMN_PUBLIC
struct dma_fence *mmn_sync_file_get_fence(struct mmn_sync_file *file);

/**
 * mmn_sync_file_get_fd - a descriptor that is readable once it has signalled
 * @file: the caller has a reference
 * @ret_fd: belongs to @file and is open as long as that lives; do not close it
 *
 * The first call makes it, and enables signalling.  It stays readable whatever is
 * read from it; any number of pollers may wait, level or edge triggered.  It is
 * closed by exec().
 *
 * Context: any but signal handlers.
 * Return: 0; -EINVAL (NULL); -EMFILE, -ENFILE; -ENOMEM; -ESTALE.
 */
MMN_PUBLIC
int mmn_sync_file_get_fd(struct mmn_sync_file *file, int *ret_fd);

/**
 * mmn_sync_file_merge - one for two
 * @name: see mmn_sync_file_create()
 * @a: the caller has a reference
 * @b: the caller has a reference; may be @a
 * @ret_file: has signalled when both have
 *
 * See dma_fence_unwrap_merge() for what becomes of the fences.
 *
 * Context: uses the heap.
 * Return: 0; -EINVAL (NULL); -ENOMEM; -ESTALE.
 */
MMN_PUBLIC
int mmn_sync_file_merge(const char *name, struct mmn_sync_file *a,
			struct mmn_sync_file *b,
			struct mmn_sync_file **ret_file);

/**
 * mmn_sync_file_set_deadline - hint when it is wanted
 * @file: the caller has a reference
 * @deadline: CLOCK_MONOTONIC, nanoseconds
 *
 * Context: any but signal handlers.
 * Return: 0; -EINVAL (NULL); -ESTALE.
 */
MMN_PUBLIC
int mmn_sync_file_set_deadline(struct mmn_sync_file *file, int64_t deadline);

/**
 * struct mmn_sync_fence_info - about one fence that is not made of others
 * @driver: whose it is
 * @timeline: which of his timelines
 * @status: 0 pending, 1 done, or a negative errno
 * @reserved: 0
 * @timestamp: when it signalled, CLOCK_MONOTONIC nanoseconds; 0 while pending
 */
struct mmn_sync_fence_info {
	char driver[MMN_SYNC_NAME_SIZE];
	char timeline[MMN_SYNC_NAME_SIZE];
	int32_t status;
	uint32_t reserved;
	int64_t timestamp;
};

/**
 * struct mmn_sync_file_info - about a sync file
 * @size: in: sizeof(struct mmn_sync_file_info)
 * @num_fences: in: room in @fences, 0 to ask only how many; out: how many
 * @status: out: 0 pending, 1 done, or the errno of the first that failed
 * @reserved: out: 0
 * @name: out
 * @fences: filled in, if there is room for all
 */
struct mmn_sync_file_info {
	uint32_t size;
	uint32_t num_fences;
	int32_t status;
	uint32_t reserved;
	char name[MMN_SYNC_NAME_SIZE];
	struct mmn_sync_fence_info *fences;
};

/**
 * mmn_sync_file_get_info - what is in it, and how far it is
 * @file: the caller has a reference
 * @info: see there
 *
 * Context: as dma_fence_is_signaled().
 * Return: 0; -EINVAL (NULL, a @size that never was, less room than fences);
 * -E2BIG (@size); -ESTALE.
 */
MMN_PUBLIC
int mmn_sync_file_get_info(struct mmn_sync_file *file,
			   struct mmn_sync_file_info *info);

/* A timeline without a device */

struct mmn_sw_sync;

/**
 * mmn_sw_sync_create - a timeline at 0
 * @name: cut off at MMN_SYNC_NAME_SIZE; what dma_fence_timeline_name() says
 * @ret_timeline: for mmn_sw_sync_destroy()
 *
 * Whoever has it decides when its fences signal.  Do not give it, nor its fences
 * to where others rely on a bounded time, to those who are not trusted with that.
 *
 * Context: uses the heap.
 * Return: 0; -EINVAL (NULL); -ENOMEM.
 */
MMN_PUBLIC
int mmn_sw_sync_create(const char *name, struct mmn_sw_sync **ret_timeline);

/**
 * mmn_sw_sync_destroy - no more steps
 * @timeline: or NULL; used by nobody else
 *
 * Fences that are pending signal with the error -ENOENT.
 *
 * Context: any but signal handlers and callbacks of subscriptions; uses the heap.
 */
MMN_PUBLIC
void mmn_sw_sync_destroy(struct mmn_sw_sync *timeline);

/**
 * mmn_sw_sync_create_fence - a fence that signals at a value
 * @timeline: any thread
 * @value: one that has been reached gives a fence that has signalled; values
 *	wrap, and are reached if they are less than 2^31 steps behind
 * @ret_fence: a reference; the same fence for the same value while that is pending
 *
 * Context: uses the heap.
 * Return: 0; -EINVAL (NULL); -ENOMEM; -ESTALE.
 */
MMN_PUBLIC
int mmn_sw_sync_create_fence(struct mmn_sw_sync *timeline, uint32_t value,
			     struct dma_fence **ret_fence);

/**
 * mmn_sw_sync_inc - so many steps
 * @timeline: any thread, also from callbacks of its fences
 * @steps: 0 does nothing
 *
 * Signals what is reached, in the order of the values.
 *
 * Context: any but signal handlers.
 * Return: 0; -EINVAL (NULL); -ESTALE.
 */
MMN_PUBLIC
int mmn_sw_sync_inc(struct mmn_sw_sync *timeline, uint32_t steps);

/**
 * mmn_sw_sync_get_deadline - when a fence of a timeline is wanted
 * @fence: of some mmn_sw_sync
 * @ret_deadline: the earliest one that dma_fence_set_deadline() gave
 *
 * Context: any but signal handlers.
 * Return: 0; -EINVAL (NULL, another kind of fence); -ENOENT (none was given);
 * -ESTALE.
 */
MMN_PUBLIC
int mmn_sw_sync_get_deadline(struct dma_fence *fence, int64_t *ret_deadline);

MMN_END_DECLS

#endif
