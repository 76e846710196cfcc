/* SPDX-License-Identifier: MIT */
#ifndef MMN_SYNC_H
#define MMN_SYNC_H
/*
 * Fences as objects: to poll, to pass on, to count, and to wait for before they
 * are there.
 *
 *	mmn_sync_file	one fence, for good; merge, information, descriptor
 *	mmn_sw_sync	a timeline that a program advances itself
 *	mmn_syncobj	the fence that is here at present, or a timeline of them
 *	mmn_resv_poller	who wants to be told when a buffer may be used
 *
 * They are what sync_file, sw_sync, drm_syncobj and dma_buf_poll() are in Linux.  There each is a
 * file or the handle of one; here each is a pointer with a count of references,
 * that libraries of one process pass to each other, and there is a descriptor only
 * where one is asked for.
 *
 * In a fork child the copies are inert: calls that return int return -ESTALE, and
 * dropping references is harmless.  Descriptors that it has inherited may be
 * polled.
 */
#include <mmn/dma-resv.h>

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
 * The first one of a process starts the thread that frees fences.
 *
 * Context: uses the heap.
 * Return: 0; -EINVAL (NULL); -ENOMEM; -EAGAIN (no thread is to be had).
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
 *	wrap, and are reached if they are at most 2^31 steps behind
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

/* The fence that is here at present */

struct mmn_syncobj;

/* Flags of mmn_syncobj_create(): begin with a fence that has signalled. */
#define MMN_SYNCOBJ_SIGNALED 1u

/* Flags of waits; those that do not take all of them say so. */
/* for all objects, not for one of them */
#define MMN_SYNCOBJ_WAIT_ALL 1u
/* also for fences that are not there yet */
#define MMN_SYNCOBJ_WAIT_FOR_SUBMIT 2u
/* only until they are there */
#define MMN_SYNCOBJ_WAIT_AVAILABLE 4u
/* tell producers the hint */
#define MMN_SYNCOBJ_WAIT_DEADLINE 8u

/* Flags of mmn_syncobj_query(): what was submitted, not what has signalled. */
#define MMN_SYNCOBJ_QUERY_LAST_SUBMITTED 1u

/**
 * mmn_syncobj_create - an object
 * @flags: 0 or MMN_SYNCOBJ_SIGNALED
 * @ret_object: with one reference
 *
 * It is binary, with one fence or none, or, once it was given a point, a timeline.
 * A point is a number that is not 0; where a point is asked for, 0 means the
 * fence that is there.
 *
 * Context: uses the heap.
 * Return: 0; -EINVAL (NULL, unknown flags); -ENOMEM.
 */
MMN_PUBLIC
int mmn_syncobj_create(uint32_t flags, struct mmn_syncobj **ret_object);

/**
 * mmn_syncobj_get - one more reference
 * @object: or NULL
 *
 * Context: any.
 * Return: @object.
 */
MMN_PUBLIC
struct mmn_syncobj *mmn_syncobj_get(struct mmn_syncobj *object);

/**
 * mmn_syncobj_put - one reference less
 * @object: or NULL
 *
 * With the last one its eventfds are forgotten.
 *
 * Context: any but signal handlers and callbacks of subscriptions; uses the heap.
 */
MMN_PUBLIC
void mmn_syncobj_put(struct mmn_syncobj *object);

/**
 * mmn_syncobj_replace_fence - what is here from now on
 * @object: the caller has a reference
 * @fence: gets a reference more; or NULL for none
 *
 * Waits that have found what was there before go on waiting for that.
 *
 * Context: any but signal handlers.
 * Return: 0; -EINVAL (NULL @object); -ESTALE.
 */
MMN_PUBLIC
int mmn_syncobj_replace_fence(struct mmn_syncobj *object,
			      struct dma_fence *fence);

/**
 * mmn_syncobj_reset - nothing is here
 * @object: the caller has a reference
 *
 * Context: any but signal handlers.
 * Return: 0; -EINVAL (NULL); -ESTALE.
 */
MMN_PUBLIC
int mmn_syncobj_reset(struct mmn_syncobj *object);

/**
 * mmn_syncobj_signal - what is here has signalled now
 * @object: the caller has a reference
 *
 * Context: uses the heap.
 * Return: 0; -EINVAL (NULL); -ENOMEM; -ESTALE.
 */
MMN_PUBLIC
int mmn_syncobj_signal(struct mmn_syncobj *object);

/**
 * mmn_syncobj_add_point - append to the timeline
 * @object: the caller has a reference
 * @point: above the last one; if not, a timeline begins that is not ordered
 *	with what was before, see dma_fence_chain_init()
 * @fence: signals the point once all before have; gets a reference more
 *
 * Context: uses the heap.
 * Return: 0; -EINVAL (NULL, point 0, @fence is a chain); -ENOMEM; -ESTALE.
 */
MMN_PUBLIC
int mmn_syncobj_add_point(struct mmn_syncobj *object, uint64_t point,
			  struct dma_fence *fence);

/**
 * mmn_syncobj_timeline_signal - append a point that has signalled
 * @object: the caller has a reference
 * @point: 0 is mmn_syncobj_signal()
 *
 * Context: uses the heap.
 * Return: 0; -EINVAL (NULL); -ENOMEM; -ESTALE.
 */
MMN_PUBLIC
int mmn_syncobj_timeline_signal(struct mmn_syncobj *object, uint64_t point);

/**
 * mmn_syncobj_query - how far a timeline is
 * @object: the caller has a reference
 * @flags: 0: the last point that has signalled with all before;
 *	MMN_SYNCOBJ_QUERY_LAST_SUBMITTED: the last one that was appended
 * @ret_point: 0 if there is no timeline
 *
 * Context: as dma_fence_is_signaled().
 * Return: 0; -EINVAL (NULL, unknown flags); -ESTALE.
 */
MMN_PUBLIC
int mmn_syncobj_query(struct mmn_syncobj *object, uint32_t flags,
		      uint64_t *ret_point);

/**
 * mmn_syncobj_find_fence - what is here
 * @object: the caller has a reference
 * @point: of a timeline, or 0
 * @flags: 0 or MMN_SYNCOBJ_WAIT_FOR_SUBMIT
 * @deadline: of the latter; CLOCK_MONOTONIC, nanoseconds, or DMA_FENCE_NEVER
 * @ret_fence: a reference; a fence that has signalled, if the point was collected
 *
 * Context: with MMN_SYNCOBJ_WAIT_FOR_SUBMIT it may sleep.
 * Return: 0; -EINVAL (NULL, unknown flags, nothing is there); -ETIMEDOUT;
 * -ERESTARTSYS (cancelled, see dma_fence_cancel_bind()); -ESTALE.
 */
MMN_PUBLIC
int mmn_syncobj_find_fence(struct mmn_syncobj *object, uint64_t point,
			   uint32_t flags, int64_t deadline,
			   struct dma_fence **ret_fence);

/**
 * struct mmn_syncobj_transfer - from one object to another
 * @size: sizeof(struct mmn_syncobj_transfer)
 * @flags: 0 or MMN_SYNCOBJ_WAIT_FOR_SUBMIT
 * @from: where the fence is
 * @from_point: of a timeline, or 0
 * @to: where it goes
 * @to_point: appended there; 0 replaces what is there
 * @deadline: see mmn_syncobj_find_fence()
 */
struct mmn_syncobj_transfer {
	uint32_t size;
	uint32_t flags;
	struct mmn_syncobj *from;
	uint64_t from_point;
	struct mmn_syncobj *to;
	uint64_t to_point;
	int64_t deadline;
};

/**
 * mmn_syncobj_transfer - take a fence from one object to another
 * @transfer: what and where; the caller has references
 *
 * A chain is not put into another: its leaves are merged.
 *
 * Context: uses the heap; with MMN_SYNCOBJ_WAIT_FOR_SUBMIT it may sleep.
 * Return: 0; -EINVAL (NULL, unknown flags, a @size that never was, nothing is
 * there); -E2BIG (@size); -ENOMEM; -ETIMEDOUT; -ERESTARTSYS (cancelled); -ESTALE.
 */
MMN_PUBLIC
int mmn_syncobj_transfer(const struct mmn_syncobj_transfer *transfer);

/**
 * mmn_syncobj_import_file - what is here from now on is the fence of a sync file
 * @object: the caller has a reference
 * @point: appended; 0 replaces what is there
 * @file: the caller has a reference
 *
 * Context: uses the heap.
 * Return: 0; -EINVAL (NULL); -ENOMEM; -ESTALE.
 */
MMN_PUBLIC
int mmn_syncobj_import_file(struct mmn_syncobj *object, uint64_t point,
			    struct mmn_sync_file *file);

/**
 * mmn_syncobj_export_file - a sync file of what is here
 * @object: the caller has a reference
 * @point: of a timeline, or 0
 * @ret_file: does not follow the object
 *
 * Context: uses the heap.
 * Return: 0; -EINVAL (NULL, nothing is there); -ENOMEM; -ESTALE.
 */
MMN_PUBLIC
int mmn_syncobj_export_file(struct mmn_syncobj *object, uint64_t point,
			    struct mmn_sync_file **ret_file);

/**
 * struct mmn_syncobj_wait - what to wait for
 * @size: sizeof(struct mmn_syncobj_wait)
 * @flags: MMN_SYNCOBJ_WAIT_*
 * @objects: the caller has references
 * @points: one for each object; NULL: all are 0
 * @count: how many objects; none is a success
 * @first: out: without MMN_SYNCOBJ_WAIT_ALL: the lowest index that was found
 *	signalled
 * @deadline: CLOCK_MONOTONIC, nanoseconds; the past asks only; or DMA_FENCE_NEVER
 * @hint: with MMN_SYNCOBJ_WAIT_DEADLINE: for dma_fence_set_deadline()
 */
struct mmn_syncobj_wait {
	uint32_t size;
	uint32_t flags;
	struct mmn_syncobj *const *objects;
	const uint64_t *points;
	uint32_t count;
	uint32_t first;
	int64_t deadline;
	int64_t hint;
};

/**
 * mmn_syncobj_wait - sleep until fences in objects have signalled
 * @wait: see there
 *
 * What was found in an object is waited for, whatever happens to the object
 * afterwards.
 *
 * Context: may sleep; uses the heap for more than 16 objects.
 * Ordering: as dma_fence_is_signaled().
 * Return: 0; -EINVAL (NULL, unknown flags, a @size that never was, without one of
 * FOR_SUBMIT and AVAILABLE: nothing is there); -E2BIG (@size); -ENOMEM;
 * -ETIMEDOUT; -ERESTARTSYS (cancelled, see dma_fence_cancel_bind()); -ESTALE.
 */
MMN_PUBLIC
int mmn_syncobj_wait(struct mmn_syncobj_wait *wait);

/**
 * mmn_syncobj_eventfd - have 1 added to an eventfd, once
 * @object: the caller has a reference
 * @point: of a timeline, or 0 for the fence that is there, or the next one
 * @flags: 0: when it has signalled; MMN_SYNCOBJ_WAIT_AVAILABLE: when it is there
 * @fd: an eventfd; a duplicate is kept until then, or as long as the object
 *
 * Does not enable signalling before there is a fence.
 *
 * Context: uses the heap.
 * Return: 0; -EINVAL (NULL, unknown flags, @fd is something else); -EBADF;
 * -EMFILE; -ENOMEM; -ESTALE.
 */
MMN_PUBLIC
int mmn_syncobj_eventfd(struct mmn_syncobj *object, uint64_t point,
			uint32_t flags, int fd);

/* Reservation objects and descriptors */

/* How a buffer is going to be used, or is used. */
#define MMN_ACCESS_READ 1u
#define MMN_ACCESS_WRITE 2u

struct mmn_resv_poller;

/**
 * mmn_resv_poller_create - be told when a buffer may be used
 * @resv: outlives the poller
 * @access: MMN_ACCESS_READ: when nobody writes any more, EPOLLIN of a dma-buf;
 *	MMN_ACCESS_WRITE: when nobody reads either, EPOLLOUT; both: either
 * @ret_poller: not armed
 *
 * One for each who polls: they do not disturb each other.
 *
 * Context: uses the heap.
 * Return: 0; -EINVAL (NULL, no or unknown @access); -ENOMEM; -EMFILE, -ENFILE.
 */
MMN_PUBLIC
int mmn_resv_poller_create(struct dma_resv *resv, uint32_t access,
			   struct mmn_resv_poller **ret_poller);

/**
 * mmn_resv_poller_destroy - be told no more
 * @poller: or NULL; not being armed, or it is reported and stays
 *
 * Closes the descriptor.
 *
 * Context: any but signal handlers and callbacks of subscriptions; uses the heap.
 */
MMN_PUBLIC
void mmn_resv_poller_destroy(struct mmn_resv_poller *poller);

/**
 * mmn_resv_poller_get_fd - what to poll
 * @poller: the descriptor belongs to it; do not close it
 * @ret_fd: readable, level or edge, once it is worth while to look again
 *
 * What is read from it does not matter: the next arming says what is so.
 *
 * Context: any.
 * Return: 0; -EINVAL (NULL); -ESTALE.
 */
MMN_PUBLIC
int mmn_resv_poller_get_fd(struct mmn_resv_poller *poller, int *ret_fd);

/**
 * mmn_resv_poller_arm - look, and be told if there is nothing yet
 * @poller: one thread at a time
 * @ret_access: which of the wanted kinds of access are free: at one moment during
 *	the call no fence was pending that forbids them.  0: none; the descriptor
 *	is not readable, and will be when what is pending now has signalled
 *
 * Call it before polling, and again when the descriptor is readable: fences may
 * have been added meanwhile.  After an error the descriptor is readable.
 *
 * Context: uses the heap; may sleep for the lock of the reservation object when
 * that is contended, so hold no other one; runs callbacks as
 * dma_fence_is_signaled() does.
 * Ordering: as dma_resv_test_signaled_strict().
 * Return: 0; -EINVAL (NULL); -EBUSY (being armed by another thread, or by the
 * caller of this callback); -ENOMEM; -ESTALE.
 */
MMN_PUBLIC
int mmn_resv_poller_arm(struct mmn_resv_poller *poller, uint32_t *ret_access);

/**
 * mmn_resv_export_file - a sync file of what a buffer's next user has to wait for
 * @resv: locked or not
 * @access: what the next user does; with MMN_ACCESS_WRITE he waits for readers
 * @ret_file: does not follow @resv; has signalled if there is nothing to wait for
 *
 * Context: uses the heap; else as dma_fence_is_signaled().
 * Return: 0; -EINVAL (NULL, no or unknown @access); -ENOMEM.
 */
MMN_PUBLIC
int mmn_resv_export_file(struct dma_resv *resv, uint32_t access,
			 struct mmn_sync_file **ret_file);

/**
 * mmn_resv_import_file - a buffer is used until a sync file signals
 * @resv: not locked by the caller; this locks it
 * @access: what the work behind @file does; with MMN_ACCESS_WRITE readers wait
 * @file: the caller has a reference
 *
 * Context: uses the heap; may sleep for the lock, so hold no other one.
 * Return: 0; -EINVAL (NULL, no or unknown @access); -EBUSY (the caller has locked
 * it); -ENOMEM; -ESTALE.
 */
MMN_PUBLIC
int mmn_resv_import_file(struct dma_resv *resv, uint32_t access,
			 struct mmn_sync_file *file);

MMN_END_DECLS

#endif
