/* SPDX-License-Identifier: MIT */
#ifndef MMN_REAPER_H
#define MMN_REAPER_H
/*
 * Free buffers when the device is done with them, without waiting for it.
 *
 * The last reference to a buffer may be dropped by anybody: also by a thread that
 * holds the locks of other reservation objects, and must not wait for the one of
 * this buffer, nor for a fence.  And buffers may share one reservation object, in
 * which others go on adding fences.  So the buffer gets a copy of the fences of
 * this moment, made without the lock, in a reservation object of its own, and when
 * these have signalled it is released, by one thread for all of them.
 *
 *	static void last_reference_is_gone(struct buffer *buffer)
 *	{
 *		mmn_reaper_add(reaper, &buffer->entry, &buffer->own,
 *			       &buffer->vm->resv, free_buffer);
 *	}
 */
#include <mmn/common.h>
#include <mmn/dma-resv.h>

MMN_BEGIN_DECLS

struct mmn_reaper;
struct mmn_reaper_entry;

/**
 * mmn_reaper_func_t - nothing uses the buffer any more
 * @entry: the function may free what it is embedded in; before that it ends the
 *	reservation object with dma_resv_fini()
 *
 * Runs in the thread of the reaper, or in the caller of mmn_reaper_add().  It
 * must not wait for reservation objects or fences.
 */
typedef void (*mmn_reaper_func_t)(struct mmn_reaper_entry *entry);

/**
 * struct mmn_reaper_entry - one buffer that is to be released
 * @pending: private
 * @ready: private
 * @cb: private
 * @reaper: private
 * @fence: private
 * @own: private
 * @shared: private
 * @release: private
 * @ticket: private
 *
 * Embed it.  It need not be initialised.
 */
struct mmn_reaper_entry {
	struct dma_fence_link pending;
	struct dma_fence_link ready;
	struct dma_fence_cb cb;
	struct mmn_reaper *reaper;
	struct dma_fence *fence;
	struct dma_resv *own;
	struct dma_resv *shared;
	mmn_reaper_func_t release;
	uint64_t ticket;
};

/**
 * mmn_reaper_create - make a reaper, with a thread
 * @ret_reaper: the reaper
 *
 * The thread has all signals blocked.  A fork child has no such thread: entries
 * that are added there are not released.
 *
 * Context: may sleep; uses the heap.
 * Return: 0; -ENOMEM; -EAGAIN (no thread can be made).
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_reaper_create(struct mmn_reaper **ret_reaper);

/**
 * mmn_reaper_destroy - wait until everything is released, and end it
 * @reaper: nobody adds any more, but release functions; or NULL
 *
 * What release functions add meanwhile is waited for, too.  Nothing is done in a fork
 * child.
 *
 * Context: may sleep, as long as the fences take; not in a release function
 * (reported, without effect).
 */
MMN_PUBLIC
void mmn_reaper_destroy(struct mmn_reaper *reaper);

/**
 * mmn_reaper_add - release a buffer when it is not used any more
 * @reaper: will do it
 * @entry: of the buffer
 * @own: the buffer's own reservation object, which nobody else locks (or it is
 *	reported)
 * @shared: whose fences the buffer has, and which stays until the release; they
 *	take the place of those in @own.  NULL, or @own, if it is not shared.
 * @release: called once
 *
 * Only fences that were there when it was called are waited for, of any usage; if
 * there is no memory for a copy of them, perhaps later ones as well.  If there are
 * none @release has been called on return.
 *
 * Context: does not block, whatever reservation locks the caller holds; uses the
 * heap; not on the way to a signal, not in callbacks of the notifier.
 * Return: true when it has been released already.
 */
MMN_PUBLIC
bool mmn_reaper_add(struct mmn_reaper *reaper, struct mmn_reaper_entry *entry,
		    struct dma_resv *own, struct dma_resv *shared,
		    mmn_reaper_func_t release);

/**
 * mmn_reaper_flush - wait until what was added before has been released
 * @reaper: may be added to meanwhile; that is not waited for
 * @deadline: CLOCK_MONOTONIC, nanoseconds; the past asks only; DMA_FENCE_NEVER
 *
 * Context: may sleep; as dma_fence_wait().
 * Ordering: what the release functions did is visible.
 * Return: 0; -ETIMEDOUT; -EDEADLK (called in a release function); -ESTALE (in a
 * fork child).
 */
MMN_PUBLIC
int mmn_reaper_flush(struct mmn_reaper *reaper, int64_t deadline);

MMN_END_DECLS

#endif
