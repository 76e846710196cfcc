/* SPDX-License-Identifier: MIT */
#ifndef MMN_URING_H
#define MMN_URING_H
/*
 * Fixed buffers of io_uring for any memory of the process (library libmmn-uring,
 * pkg-config name mmn-uring).
 *
 * The ring stays the caller's, and so does the loop around it.  A table of fixed
 * buffers is run as a registration cache (<mmn/cache.h>): memory is registered
 * when it is first used, found again in nanoseconds, and forgotten when the
 * mapping changes.
 *
 *	mmn_uring_attach(state, &ring, NULL, &uring);
 *
 *	sqe = io_uring_get_sqe(&ring);
 *	mmn_uring_prep_read(uring, sqe, fd, buffer, length, offset, &r->fence);
 *	io_uring_sqe_set_data(sqe, r);
 *	io_uring_submit(&ring);
 *
 *	for each cqe:
 *		if (!mmn_uring_cqe(uring, cqe->user_data)) {
 *			r = io_uring_cqe_get_data(cqe);
 *			mmn_uring_complete(r->fence, cqe->res);
 *		}
 *		io_uring_cqe_seen(&ring, cqe);
 *
 * A slot is filled with a tag.  When it has been cleared and the last request that
 * uses the old pages is over, the kernel unpins them and posts the tag to the ring.
 * That is what mmn_uring_cqe() takes out of the caller's completions, by the upper
 * 16 bits of user_data, which no pointer and no small number has.
 *
 * When memory changes while a transfer is under way, the change either waits for
 * the transfer's fence (options.wait_ns) or goes on at once, which is the
 * default: then the transfer ends in the old pages, which nobody has mapped any
 * more, and these are unpinned when it has ended.
 *
 * Threads: all calls may be made by any thread, as far as the ring allows it.
 * Who submits to a ring and reads its completions is the caller's business; the
 * table is changed by the thread that gets and by the cache's own thread, which
 * io_uring allows.  Rings made with IORING_SETUP_SINGLE_ISSUER allow it to one
 * thread only: there that thread clears slots as well, in whatever it calls
 * here, and a completion is posted to wake it up for it.
 */
#include <mmn/cache.h>
#include <mmn/common.h>

MMN_BEGIN_DECLS

struct io_uring;
struct io_uring_sqe;
struct mmn_uring;

/* The kernel's limits. */
#define MMN_URING_MAX_SLOTS 16384u
#define MMN_URING_MAX_BUFFER ((uint64_t)1 << 30)

/* The upper 16 bits of user_data of the library's completions. */
#define MMN_URING_USER_DATA ((uint64_t)0x6d6e << 48)

/*
 * options.flags: the ring has a table, of which the slots from first_slot on are
 * empty and left to the library.
 */
#define MMN_URING_HAS_TABLE (1u << 0)

/**
 * struct mmn_uring_options - how the table of a ring is used
 * @size: sizeof(struct mmn_uring_options)
 * @flags: MMN_URING_HAS_TABLE or 0
 * @nr_slots: how many; 0 for 1024
 * @first_slot: the first of them; 0 unless MMN_URING_HAS_TABLE
 * @max_bytes: most bytes pinned at once; 0 for MMN_CACHE_NO_LIMIT.  Without
 *	CAP_IPC_LOCK the kernel besides enforces RLIMIT_MEMLOCK.
 * @wait_ns: how long a change of memory waits for transfers; 0: not at all;
 *	MMN_CACHE_NO_LIMIT: until they are over.  Not in programs in which the
 *	thread that reads completions also changes memory.
 * @timeout_ns: the time budget of one mmn_uring_get(); 0 for one second; 1 for
 *	one attempt that does not wait
 * @user_data: what the library's completions have in the upper 16 bits of their
 *	user_data, and the caller's have not; 0 for MMN_URING_USER_DATA.  The
 *	lower bits are 0 here.
 */
struct mmn_uring_options {
	uint32_t size;
	uint32_t flags;
	uint32_t nr_slots;
	uint32_t first_slot;
	uint64_t max_bytes;
	uint64_t wait_ns;
	uint64_t timeout_ns;
	uint64_t user_data;
};

/**
 * mmn_uring_attach - let the library run a ring's fixed buffers
 * @state: the address space
 * @ring: of liburing; stays where it is until mmn_uring_detach()
 * @options: NULL for the defaults
 * @ret_uring: what the other calls take
 *
 * Registers a sparse table, unless there is one.  Starts one thread (see
 * mmn_cache_create()), which shares the descriptors of the calling one.
 *
 * Context: may sleep; not from callbacks.  On a ring with a single issuer: the
 * thread that submits.
 * Return: 0; -EINVAL (no state or ring, unknown flags, slots out of range, lower
 * bits in user_data, MMN_URING_HAS_TABLE without such a table); -E2BIG
 * (@options is newer than the library and asks for something); -EBUSY (the ring
 * has a table); -EEXIST (a ring of another thread only); -ENOTSUP (the
 * kernel has no sparse tables of tagged buffers, or the ring has no descriptor);
 * -EACCES (the ring is restricted); -ENOMEM; -EAGAIN (no thread is to be had);
 * whatever else the kernel said.
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_uring_attach(struct mmn_state *state,
				    struct io_uring *ring,
				    const struct mmn_uring_options *options,
				    struct mmn_uring **ret_uring);

/**
 * mmn_uring_detach - give the table back
 * @uring: nobody gets from it any more; gone on success.  Or NULL
 *
 * Clears all slots.  As long as transfers, references or tags are outstanding, it
 * says so and every one of them is followed by a completion with a tag: so that
 *
 *	while (mmn_uring_detach(uring) == -EBUSY) {
 *		io_uring_wait_cqe(&ring, &cqe);
 *		...
 *	}
 *
 * ends.  To be called before io_uring_queue_exit().  A table that
 * mmn_uring_attach() registered is unregistered.
 *
 * Context: may sleep; not from callbacks.
 * Return: 0; -EBUSY (fetch completions and call it again; mmn_uring_get() says
 * -ENOSPC from now on); -EEXIST (on a ring with a single issuer by another
 * thread); -ESTALE (in a fork child: no effect).
 */
MMN_PUBLIC
int mmn_uring_detach(struct mmn_uring *uring);

/**
 * mmn_uring_get - a slot whose buffer contains some memory
 * @uring: the table
 * @addr: first byte
 * @length: bytes, at least 1
 * @access: MMN_CACHE_READ for WRITE_FIXED and the like, MMN_CACHE_WRITE for
 *	READ_FIXED, or both
 * @ret_region: a reference: the slot is not used for other memory before
 *	mmn_uring_put()
 *
 * The kernel pins for both directions, so that memory must be writable whatever
 * @access says.  What @access decides is whether losing the permission to write
 * counts as a change.  Requests name addresses of the process:
 * io_uring_prep_read_fixed(sqe, fd, addr, length, offset, slot).
 *
 * The cheapest way to use a slot: keep the reference until the completion.  A
 * change does not wait for references; the transfer ends in the old pages.  To
 * make changes wait for it, use mmn_uring_prep_read() or mmn_cache_add_fence().
 *
 * Context: as mmn_cache_get(); on a ring with a single issuer, by other threads
 * than the issuer only to find what is there.
 * Return: the slot, from 0 on; -EINVAL (@length is 0, bad @access); -EOVERFLOW
 * (the range wraps); -E2BIG (more than MMN_URING_MAX_BUFFER); -EFAULT (something
 * there is not mapped, cannot be written, or cannot be pinned for long, as
 * shared mappings of files on disk); -ENOSPC (everything is in use: fetch
 * completions, or use plain I/O); -ENOMEM (RLIMIT_MEMLOCK or memory, with
 * nothing left to evict; as with -ENOSPC, what is on its way out has been waited
 * for, until the end of the budget); -ETIMEDOUT (until the end of the budget changes kept
 * colliding or were open, or there was no room); -EEXIST (not there, and this is
 * not the only thread that may register); -EDEADLK (not there, and called from a
 * callback); -ESTALE (in a fork child); or whatever else the kernel said.
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_uring_get(struct mmn_uring *uring, const void *addr,
				 size_t length, uint32_t access,
				 struct mmn_cache_region **ret_region);

/**
 * mmn_uring_put - give the reference back
 * @uring: where @region is from
 * @region: from mmn_uring_get(); or NULL
 *
 * Context: as mmn_cache_put().
 */
MMN_PUBLIC
void mmn_uring_put(struct mmn_uring *uring, struct mmn_cache_region *region);

/**
 * mmn_uring_prep_read - fill in an entry that reads into memory of the process
 * @uring: the table of the ring that @sqe is of
 * @sqe: filled in but for user_data; untouched on failure: make something else of
 *	it, such as a plain read
 * @fd: what to read
 * @addr: where to; any memory of the process
 * @length: bytes, at least 1
 * @offset: in the file
 * @ret_fence: signals when the transfer is over; with a reference, which
 *	mmn_uring_complete() takes back
 *
 * Gets the slot and adds the fence to the region's reservation object as
 * DMA_RESV_USAGE_WRITE, so that no change overlooks it.  From here on @sqe must
 * be submitted or the fence be completed.
 *
 * Context: as mmn_uring_get(); uses the heap.
 * Return: 0; or as mmn_uring_get().
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_uring_prep_read(struct mmn_uring *uring,
				       struct io_uring_sqe *sqe, int fd,
				       void *addr, uint32_t length,
				       uint64_t offset,
				       struct dma_fence **ret_fence);

/**
 * mmn_uring_prep_write - fill in an entry that writes memory of the process out
 * @uring: the table of the ring that @sqe is of
 * @sqe: as in mmn_uring_prep_read()
 * @fd: what to write
 * @addr: from where
 * @length: bytes, at least 1
 * @offset: in the file
 * @ret_fence: as in mmn_uring_prep_read(); added as DMA_RESV_USAGE_READ
 *
 * Context: as mmn_uring_prep_read().
 * Return: 0; or as mmn_uring_get().
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_uring_prep_write(struct mmn_uring *uring,
					struct io_uring_sqe *sqe, int fd,
					const void *addr, uint32_t length,
					uint64_t offset,
					struct dma_fence **ret_fence);

/**
 * mmn_uring_complete - the completion of a transfer has come, or it will not be
 * @fence: from mmn_uring_prep_read() or _write(); the reference ends here.  Or
 *	NULL
 * @result: cqe->res; if negative it becomes the fence's error
 *
 * Pages that wait for this transfer only are then unpinned by the cache's thread.
 *
 * Context: any but signal handlers.
 */
MMN_PUBLIC
void mmn_uring_complete(struct dma_fence *fence, int32_t result);

/**
 * mmn_uring_cqe - take the library's own completions out of the caller's
 * @uring: the table of the ring that it is of
 * @user_data: cqe->user_data
 *
 * Each completion that is true for is passed once.
 *
 * Context: any but signal handlers.
 * Return: true when it was the library's: nothing is left to do with it but
 * io_uring_cqe_seen().
 */
MMN_PUBLIC
MMN_MUST_CHECK bool mmn_uring_cqe(struct mmn_uring *uring, uint64_t user_data);

/**
 * mmn_uring_cache - the cache underneath
 * @uring: the table
 *
 * For mmn_cache_get_stats(), mmn_cache_purge() and mmn_cache_add_fence().
 * region->key is the slot.
 *
 * Context: any.
 * Return: the cache, which goes with @uring.
 */
MMN_PUBLIC
struct mmn_cache *mmn_uring_cache(struct mmn_uring *uring);

MMN_END_DECLS

#endif
