/* SPDX-License-Identifier: MIT */
#ifndef MMN_NOTIFIER_H
#define MMN_NOTIFIER_H
/*
 * Notifiers: be told before memory of an address space changes.
 *
 * Somebody who keeps a second view of memory (a registration, a device page
 * table) subscribes to a range of it.  Whoever changes the memory opens a
 * change over the range it touches, makes the change, and ends it:
 *
 *	CPU0: the change                  CPU1: a device fault
 *
 *	                                  seq = read_begin(sub)
 *	                                  look at the memory, holding nothing
 *	invalidate_start(desc)
 *	  callback of sub:
 *	    lock(driver)
 *	    set_seq(sub, cur_seq)
 *	    wait for the device,
 *	    tear the entries down
 *	    unlock(driver)
 *	                                  lock(driver)
 *	                                  read_retry(sub, seq) == true:
 *	munmap()                            the look was too early, start over
 *	invalidate_end(desc)              unlock(driver)
 *
 * One rule carries it: "set_seq + tear down" and "read_retry + install" are
 * both done under one lock, the driver's; everything before that lock is
 * optimistic.  Either the reader sees the new sequence and starts over, or it
 * installed first and the callback tears the entry down before the memory
 * changes.
 *
 * The scheme is that of Linux's mmu_interval_notifier (J. Gunthorpe, 2019); the
 * names are those its author proposed for it.  What differs, and is a promise:
 *
 *   - a reader waits only for open changes that overlap its own range;
 *   - insert and remove take effect at once, nothing is deferred to a quiet
 *     moment; remove waits only for callbacks of that very subscription;
 *   - read_begin, check_retry and read_retry take no lock and write no shared
 *     memory when no change is open on the range;
 *   - a change that overlaps no subscription takes no lock;
 *   - a refused change is closed on every side;
 *   - wrong use is an error code, or a report of the debug build, not
 *     corruption.
 *
 * Ranges are [start, last] in bytes, both ends inclusive, so that the last byte
 * of the address space can be named.  Any two addresses are a range as long as
 * start <= last; nothing here needs page alignment.
 *
 * Fork: the child's copy of every object is inert.  No callback runs there, not
 * even a release, read_begin() returns 0 at once, read_retry() is always true,
 * removal is harmless, and inserts into a copied state fail with -ESTALE.  What
 * the child makes itself works.
 */
#include <mmn/common.h>

MMN_BEGIN_DECLS

struct mmn_state;
struct mmn_subscription;
struct mmn_range_subscription;

/* ------------------------------------------------------------------ */
/* One change                                                         */
/* ------------------------------------------------------------------ */

/*
 * What kind of change.  A hint: treating every event as MMN_EVENT_UNMAP is
 * correct.  The values are Linux's.
 */
#define MMN_EVENT_UNMAP 0u	     /* unmapped or moved away */
#define MMN_EVENT_CLEAR 1u	     /* pages discarded or replaced */
#define MMN_EVENT_PROTECTION_VMA 2u  /* permission of the whole range */
#define MMN_EVENT_PROTECTION_PAGE 3u /* permission page by page (fork) */
#define MMN_EVENT_SOFT_DIRTY 4u	     /* same pages, same permission */
#define MMN_EVENT_RELEASE 5u	     /* end of the address space */
#define MMN_EVENT_MIGRATE 6u	     /* pages move to or from a device */
#define MMN_EVENT_EXCLUSIVE 7u	     /* device takes exclusive access */
#define MMN_NR_EVENTS 8u

/* May a callback sleep?  Set by mmn_invalidate_desc_init(). */
#define MMN_INVALIDATE_BLOCKABLE (1u << 0)
/* Pages may vanish at any time after the end as well (MADV_FREE). */
#define MMN_INVALIDATE_LAZY (1u << 1)

/**
 * struct mmn_invalidate_desc - one change of an address space
 * @state: the address space
 * @start: first byte that changes
 * @last: last byte that changes, inclusive
 * @event: MMN_EVENT_*
 * @flags: MMN_INVALIDATE_*
 * @owner: who makes the change, NULL for nobody; a range subscription with the
 *	same non-NULL owner is neither told of the change nor waits for it
 *
 * Lives in the caller's memory (usually the stack) from
 * mmn_invalidate_desc_init() until the change has ended, and is not written by
 * the caller in between.  Callbacks see the caller's own object.
 */
struct mmn_invalidate_desc {
	struct mmn_state *state;
	uintptr_t start;
	uintptr_t last;
	uint32_t event;
	uint32_t flags;
	const void *owner;
	/* private: */
	uint64_t private_[8];
};

/**
 * mmn_invalidate_desc_init - describe a change
 * @desc: the caller's memory, written whole
 * @state: the address space
 * @event: MMN_EVENT_*
 * @start: first byte
 * @last: last byte, inclusive
 *
 * Sets MMN_INVALIDATE_BLOCKABLE and no owner; write @desc->owner or
 * @desc->flags afterwards to change that.  Arguments are checked when the change
 * is started.
 *
 * Context: any, also signal handlers.
 */
MMN_PUBLIC
void mmn_invalidate_desc_init(struct mmn_invalidate_desc *desc,
			      struct mmn_state *state, uint32_t event,
			      uintptr_t start, uintptr_t last);

/**
 * mmn_invalidate_start - tell everybody that memory is about to change
 * @desc: an initialised descriptor that is not open
 *
 * Calls every overlapping range subscription in ascending order of start
 * address, each once; then the second pass of those that asked for one, in the
 * same order; then the classic subscriptions.  On return nobody uses the old
 * contents of the range any more, and nobody can install it again before
 * mmn_invalidate_end().  Any number of changes may be open at once, nested in
 * one thread, overlapping, and ended in any order and by any thread.
 *
 * A callback that refuses (returns false) although it may sleep is defective:
 * the debug build reports it, the others are still called, and the change is
 * open as usual.
 *
 * Context: may sleep.  May be called from a signal handler, which may have
 * interrupted the library anywhere, but must not leave it by a jump: see
 * struct mmn_range_ops.  Not from a callback for a range whose subscriber is
 * being called; hold no lock that a callback takes.  No blockable change from a
 * handler that may have interrupted mmn_invalidate_start(), _notify(), _end() or
 * _abandon() of the same state, unless none of the callbacks it makes waits for a
 * lock that anybody holds while he adds, removes, resizes or edits subscriptions
 * of that state: he waits for the interrupted thread, and it for him.  Who cannot
 * tell blocks signals around those calls, see mmn_signal_section_begin(), as the
 * intercepting source does.
 * Ordering: what the caller did before is visible to the callbacks; what a
 * callback did is visible to the caller on return.
 * Return: 0, or -EINVAL (last < start, no state, unknown event, already
 * open): then nothing is open and mmn_invalidate_end() must not be called.
 */
MMN_PUBLIC
int mmn_invalidate_start(struct mmn_invalidate_desc *desc);

/**
 * mmn_invalidate_start_nonblock - as mmn_invalidate_start(), without sleeping
 * @desc: as there; MMN_INVALIDATE_BLOCKABLE is cleared in it
 *
 * A range subscriber that would have to sleep refuses; those after it are not
 * called, second passes of those before it run, and the change is closed on
 * every side by the library.  Subscribers already called stay invalidated.  If
 * a classic subscriber refuses, the other classic ones are still called, those
 * that accepted get their end call, and everything is closed too.
 *
 * Context: does not sleep, apart from the library's own short locks.
 * Return: 0; -EAGAIN when somebody refused: do not change the memory, do not
 * call mmn_invalidate_end(); -EINVAL as for mmn_invalidate_start().
 */
MMN_PUBLIC
MMN_MUST_CHECK int
mmn_invalidate_start_nonblock(struct mmn_invalidate_desc *desc);

/**
 * mmn_invalidate_end - the change has been made, or was given up
 * @desc: the started descriptor
 *
 * Context: any thread, not only the one that started; also signal handlers.
 * Sleeps only if the change is blockable and a classic end callback does.
 * Ordering: release: what was done to the memory before is visible to every
 * reader whose mmn_range_read_begin() no longer waits for this change.
 * Return: 0, or -EINVAL when @desc is not open (ended twice, or never
 * started): no effect, reported in debug builds.
 */
MMN_PUBLIC
int mmn_invalidate_end(struct mmn_invalidate_desc *desc);

/**
 * mmn_invalidate_open - first half of mmn_invalidate_start()
 * @desc: an initialised descriptor with start <= last, not open
 *
 * For event sources that sit in the middle of foreign code.  Opens the change
 * and tells whether anybody could be interested.  Takes no lock, makes no system
 * call, uses general registers only (no vector state), and does not touch errno.
 * False means the change is open and everybody who must know does: go
 * on, and close it with mmn_invalidate_end().  True means mmn_invalidate_notify()
 * must be called before the change is made; the source can save what callbacks
 * may clobber first.
 *
 * Context: any, also signal handlers; never sleeps.
 * Return: true when mmn_invalidate_notify() must follow.
 */
MMN_PUBLIC
MMN_MUST_CHECK bool mmn_invalidate_open(struct mmn_invalidate_desc *desc);

/**
 * mmn_invalidate_notify - second half of mmn_invalidate_start()
 * @desc: a descriptor for which mmn_invalidate_open() returned true
 *
 * Blocks or not as MMN_INVALIDATE_BLOCKABLE says.  Context and ordering as for
 * mmn_invalidate_start() and mmn_invalidate_start_nonblock().
 * Return: 0; -EAGAIN (not blockable, refused: closed, do not end); -EINVAL
 * (@desc is not open, or was notified already).
 */
MMN_PUBLIC
int mmn_invalidate_notify(struct mmn_invalidate_desc *desc);

/**
 * mmn_invalidate_close - mmn_invalidate_end() for changes nobody heard of
 * @desc: an open descriptor
 *
 * The counterpart of mmn_invalidate_open(), with the same restrictions on
 * itself: no lock, no system call, general registers only.
 *
 * Context: any, also signal handlers; never sleeps.
 * Return: true when the change is closed; false when somebody has come to
 * depend on it in the meantime and mmn_invalidate_end() must be called.
 */
MMN_PUBLIC
MMN_MUST_CHECK bool mmn_invalidate_close(struct mmn_invalidate_desc *desc);

/**
 * mmn_invalidate_abandon - end a change whose user has vanished
 * @desc: a descriptor that was initialised, perhaps opened, perhaps closed
 *
 * A signal handler that leaves by a jump can leave mmn_invalidate_open() or
 * mmn_invalidate_close() at any instruction.  Who keeps descriptors where they
 * outlive that calls this when he finds one: whatever became of the change, it
 * is closed afterwards and @desc is ready for another one.  Nobody is told.  Not
 * for changes that were notified: no jump may leave mmn_invalidate_notify(), nor
 * mmn_invalidate_end() then; who cannot tell what the handlers of a program do
 * blocks signals around both, as the intercepting source does.
 *
 * Context: nobody else uses @desc; may sleep; also signal handlers.
 */
MMN_PUBLIC
void mmn_invalidate_abandon(struct mmn_invalidate_desc *desc);

/**
 * mmn_invalidate_is_blockable - may this callback sleep?
 * @desc: as the callback got it
 */
static inline bool
mmn_invalidate_is_blockable(const struct mmn_invalidate_desc *desc)
{
	return desc->flags & MMN_INVALIDATE_BLOCKABLE;
}

/**
 * mmn_range_last - turn (start, length) into an inclusive end
 * @start: first byte
 * @length: bytes
 * @ret_last: the last byte
 *
 * Return: 0; -EINVAL (length 0); -EOVERFLOW (the range would wrap).
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_range_last(uintptr_t start, size_t length,
				  uintptr_t *ret_last);

/* ------------------------------------------------------------------ */
/* One address space                                                  */
/* ------------------------------------------------------------------ */

/**
 * mmn_state_create - begin to follow an address space
 * @ret_state: the new state, with one reference
 *
 * A state stands for one address space: the process's own, a guest's, a
 * simulator's.  States are independent of each other in every respect.
 *
 * Context: may sleep; not from callbacks.
 * Return: 0 or -ENOMEM.
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_state_create(struct mmn_state **ret_state);

/**
 * mmn_state_get - take a reference
 * @state: a state the caller already holds a reference to
 *
 * Every inserted subscription holds one of its own.
 * Context: any.
 * Return: @state.
 */
MMN_PUBLIC
struct mmn_state *mmn_state_get(struct mmn_state *state);

/**
 * mmn_state_put - drop a reference; the last one frees the state
 * @state: may be NULL
 *
 * Does not announce the end of the address space: see mmn_state_release().
 * Context: any, also callbacks and signal handlers that own the reference.
 */
MMN_PUBLIC
void mmn_state_put(struct mmn_state *state);

/**
 * mmn_state_release - the address space ends
 * @state: the state
 *
 * One blockable change with MMN_EVENT_RELEASE over everything: each range
 * subscription is called once and stays inserted (it may be called again until
 * its owner removes it); then each classic subscription's release op is called
 * once and it is unregistered.  Later inserts fail with -EINVAL.  Changes may
 * still be opened and ended.  Does not drop the caller's reference.
 *
 * Context: may sleep; not from callbacks; hold no lock that a callback takes.
 * Return: 0; -EALREADY when it was released before.
 */
MMN_PUBLIC
int mmn_state_release(struct mmn_state *state);

/**
 * mmn_state_has_subscriptions - is anybody subscribed at all?
 * @state: the state
 *
 * A hint without ordering, for sources that would have to work hard to find out
 * which range a change touches.  A change for which this was false must still
 * be opened if a later subscriber has to see it.
 *
 * Context: any, also signal handlers.
 */
MMN_PUBLIC
bool mmn_state_has_subscriptions(const struct mmn_state *state);

/**
 * struct mmn_signal_section - signals of one thread, blocked for a while
 *
 * The caller's memory, from mmn_signal_section_begin() to
 * mmn_signal_section_end().
 */
struct mmn_signal_section {
	/* private: */
	uint64_t private_;
};

/**
 * mmn_signal_section_begin - block all signals for many calls at once
 * @section: the caller's memory
 *
 * Inserts, removes and edits block all signals of their thread for a moment, and
 * so do changes around callbacks without MMN_RANGE_INTERRUPTIBLE: a signal
 * handler may change memory, and must not find its own thread in the middle of
 * that.  It takes two system calls each time, which is more than the rest.
 * Inside a section the library knows that no handler can come, and makes none.
 *
 * Sections nest.  Signals that arrive are handled after the outermost one; so
 * keep it short: setuid() and the like wait for it in other threads.  Threads
 * that are made inside begin with all signals blocked.  Do not unblock signals
 * inside, nor leave by a jump.
 *
 * Context: any, also callbacks; never sleeps.
 */
MMN_PUBLIC
void mmn_signal_section_begin(struct mmn_signal_section *section);

/**
 * mmn_signal_section_end - let signals through as before
 * @section: that this thread has begun last
 *
 * Without a section nothing happens; reported in debug builds.
 *
 * Context: any, also callbacks; never sleeps.
 */
MMN_PUBLIC
void mmn_signal_section_end(const struct mmn_signal_section *section);

/* ------------------------------------------------------------------ */
/* The driver's lock                                                  */
/* ------------------------------------------------------------------ */

#define MMN_DRIVER_LOCK_NONE 0u
#define MMN_DRIVER_LOCK_MUTEX 1u
#define MMN_DRIVER_LOCK_RWLOCK 2u
#define MMN_DRIVER_LOCK_PREDICATE 3u

/**
 * struct mmn_driver_lock - which lock makes "check and install" one step
 *
 * Bound to a subscription so that debug builds can assert that it is held in
 * mmn_range_set_seq() and mmn_range_read_retry(), and that it is not held by a
 * thread that is about to call a callback which takes it.  (The idea is
 * D. Vetter's, October 2019.)  The library never takes this lock.
 */
struct mmn_driver_lock {
	uint32_t kind;
	uint32_t reserved;
	/* pthread_mutex_t *, pthread_rwlock_t *, or the predicate's argument */
	void *lock;
	/* PREDICATE only: does the calling thread hold it? */
	bool (*is_held)(void *lock);
};

/** mmn_driver_no_lock - nothing to assert (filters that only count) */
static inline struct mmn_driver_lock mmn_driver_no_lock(void)
{
	struct mmn_driver_lock lock = { MMN_DRIVER_LOCK_NONE, 0, NULL, NULL };

	return lock;
}

/** mmn_driver_mutex - bind a pthread_mutex_t */
static inline struct mmn_driver_lock mmn_driver_mutex(void *mutex)
{
	struct mmn_driver_lock lock = { MMN_DRIVER_LOCK_MUTEX, 0, mutex, NULL };

	return lock;
}

/**
 * mmn_driver_rwlock - bind a pthread_rwlock_t
 *
 * Callbacks hold it for writing; read_retry and the install may hold it for
 * reading when installs of different readers do not disturb each other.
 */
static inline struct mmn_driver_lock mmn_driver_rwlock(void *rwlock)
{
	struct mmn_driver_lock lock = { MMN_DRIVER_LOCK_RWLOCK, 0, rwlock,
					NULL };

	return lock;
}

/** mmn_driver_predicate - bind any other lock by a question about it */
static inline struct mmn_driver_lock
mmn_driver_predicate(bool (*is_held)(void *lock), void *arg)
{
	struct mmn_driver_lock lock = { MMN_DRIVER_LOCK_PREDICATE, 0, arg,
					is_held };

	return lock;
}

/* ------------------------------------------------------------------ */
/* Range subscriptions                                                */
/* ------------------------------------------------------------------ */

/**
 * struct mmn_range_finish - a second pass that a callback asked for
 * @sub: filled in by the library
 *
 * The subscriber's memory, one per concurrent call; embed it in what the second
 * pass needs.  A change that calls a subscription again because it has moved, see
 * mmn_range_subscription_resize(), may be given the same one again: it is called
 * once.
 */
struct mmn_range_finish {
	struct mmn_range_subscription *sub;
	/* private: */
	struct mmn_range_finish *next;
};

/**
 * struct mmn_range_ops - what a range subscriber does
 *
 * Callbacks run in the thread that makes the change, in the middle of whatever
 * it was doing: perhaps inside free() with the allocator's lock held, perhaps in
 * a signal handler.  All signals are blocked, unless the subscription asked for
 * MMN_RANGE_INTERRUPTIBLE.  Hence the rule, which is the kernel's rule for
 * reclaim: a callback does not allocate from the heap (use
 * mmn_callback_alloc()), does not use stdio, and takes no lock that is ever held
 * across a call that changes memory.  It may wait for the device.  The same
 * subscription may be called by several threads at once.  A callback never
 * calls read_begin, remove, unregister or synchronize; insert and
 * remove_deferred it may call.
 *
 * @invalidate: on return no entry in the intersection may be used any more.
 *	May sleep if and only if the change is blockable.  Return false only to
 *	refuse a change that is not.  @cur_seq is for mmn_range_set_seq().
 * @invalidate_start: first of two passes, instead of @invalidate: tell the
 *	device to stop, do not wait.  *@ret_finish is NULL on entry; leave it to
 *	say that all is done, or set it to have @invalidate_finish called after
 *	every overlapping subscriber has been started.  Refuses like
 *	@invalidate; a finish set together with false is dropped.
 * @invalidate_finish: second pass: wait.  Cannot refuse.
 * @release: for mmn_range_subscription_remove_deferred(): the memory is the
 *	caller's again.
 */
struct mmn_range_ops {
	bool (*invalidate)(struct mmn_range_subscription *sub,
			   const struct mmn_invalidate_desc *desc,
			   uint64_t cur_seq);
	bool (*invalidate_start)(struct mmn_range_subscription *sub,
				 const struct mmn_invalidate_desc *desc,
				 uint64_t cur_seq,
				 struct mmn_range_finish **ret_finish);
	void (*invalidate_finish)(struct mmn_range_finish *finish);
	void (*release)(struct mmn_range_subscription *sub);
};

/*
 * Signals need not be blocked around the callbacks, which saves two system calls
 * of each change that calls no others.  A handler that makes a change may then
 * call the subscription again in the middle of its own callback, in the same
 * thread.  For callbacks that take no lock, or only where no handler of the
 * program makes changes, or that block signals themselves while they hold it.
 */
#define MMN_RANGE_INTERRUPTIBLE (1u << 0)

/**
 * struct mmn_range_config - how to set up a range subscription
 * @size: sizeof(struct mmn_range_config)
 * @flags: MMN_RANGE_INTERRUPTIBLE or 0
 * @ops: @invalidate, or both of @invalidate_start and @invalidate_finish
 * @lock: the driver's lock
 * @owner: changes with the same non-NULL owner are left out altogether: no
 *	callback, no retry, no wait.  For drivers that cause changes themselves.
 */
struct mmn_range_config {
	uint32_t size;
	uint32_t flags;
	const struct mmn_range_ops *ops;
	struct mmn_driver_lock lock;
	const void *owner;
};

/**
 * struct mmn_range_subscription - an interval of an address space
 *
 * The caller's memory, to be embedded in what the callback needs.  Life:
 * init, then any number of (insert, remove), then gone.  No fini is needed.
 */
struct mmn_range_subscription {
	/* private: */
	uint64_t private_[24];
} __attribute__((aligned(64)));

/**
 * mmn_range_subscription_init - prepare an object for insertion
 * @sub: the caller's memory, not inserted
 * @config: copied; the ops must outlive @sub
 *
 * Context: any.
 * Return: 0; -EINVAL (no ops; neither form, or half of the two-pass form, or
 * both; unknown flags; a lock kind without its lock); -E2BIG (@config->size is
 * newer than the library and asks for something).
 */
MMN_PUBLIC
int mmn_range_subscription_init(struct mmn_range_subscription *sub,
				const struct mmn_range_config *config);

/**
 * mmn_range_subscription_insert - subscribe to a range
 * @sub: initialised, not inserted
 * @state: the address space, live; a reference is taken
 * @start: first byte
 * @last: last byte, inclusive
 *
 * Takes effect at once, also while changes are open: the callback is called for
 * every change that starts after this returns, and mmn_range_read_begin()
 * waits for those already open that overlap.  Several subscriptions may cover
 * the same range.  Insert last, when the object around @sub is complete.
 *
 * Context: may sleep for the library's own short locks; allowed in callbacks and
 * with any lock of the caller held; not in signal handlers.
 * Ordering: full with respect to changes: each change either is seen as open
 * or calls back.
 * Return: 0; -EINVAL (last < start, not initialised, state released);
 * -EEXIST (already inserted, here or elsewhere); -ESTALE (in a fork child);
 * -EDEADLK (in a callback of a change that a signal handler makes after it has
 * interrupted another one of its thread inside the library: try again later).
 * After a failure @sub is as before and remove is a harmless error.
 */
MMN_PUBLIC
MMN_MUST_CHECK int
mmn_range_subscription_insert(struct mmn_range_subscription *sub,
			      struct mmn_state *state, uintptr_t start,
			      uintptr_t last);

/**
 * mmn_range_subscription_remove - unsubscribe and wait for callbacks
 * @sub: an inserted subscription
 *
 * On return no callback of @sub runs and none will; the memory may be freed or
 * inserted again.  Waits for running callbacks of @sub only, never for a change
 * to end.  Readers must be gone; one that still sleeps in read_begin is woken
 * with 0, and reported in debug builds.
 *
 * Context: may sleep.  Not from any callback; hold no lock that the callback of
 * @sub takes.
 * Return: 0; -ENOENT (not inserted, or removed by somebody else);
 * -EDEADLK (called from a callback: no effect, reported in debug builds).
 */
MMN_PUBLIC
int mmn_range_subscription_remove(struct mmn_range_subscription *sub);

/**
 * mmn_range_subscription_remove_deferred - unsubscribe, also from callbacks
 * @sub: an inserted subscription whose ops have a release
 *
 * Returns at once.  No callback of @sub starts after this returns; when none
 * runs any more ops->release(@sub) is called, exactly once, by whichever thread
 * is last, perhaps by this call itself.  Where insert would say -EDEADLK it takes
 * effect when the handler has returned.
 *
 * Context: any but signal handlers; also callbacks, of @sub and of others.
 * Return: 0; -ENOENT (not inserted); -EINVAL (no release op).
 */
MMN_PUBLIC
int mmn_range_subscription_remove_deferred(struct mmn_range_subscription *sub);

/**
 * mmn_range_subscription_resize - let a subscription cover another range
 * @sub: an inserted subscription
 * @start: first byte of the new range
 * @last: its last byte, inclusive
 *
 * One step: the bytes that both ranges have in common are subscribed to at every
 * moment.  Takes effect at once, also while changes are open:
 *
 *   - readers that began before start over, whatever range they read;
 *   - readers that begin afterwards wait for the open changes over the new range
 *     and for no others;
 *   - changes that start afterwards call back if they overlap the new range;
 *   - a change that is under way and overlaps the old range still calls back, if
 *     it overlaps the new one as well and both have bytes in common.  It may call
 *     @sub, and others that have moved, again; all calls come before its end.
 *
 * What is mirrored outside of the new range is the driver's to tear down.  Lock
 * the driver's lock, tear down, resize, unlock: then no reader installs there in
 * between, and no callback is missed.  Two resizes of the same subscription at
 * the same time take effect one after the other.
 *
 * Context: as mmn_range_subscription_insert(), also in callbacks, of @sub and of
 * others, and with the driver's lock held.  Somebody holds a reference to the
 * state, or knows that nobody removes @sub meanwhile.
 * Ordering: full with respect to changes, as insert.
 * Return: 0; -EINVAL (last < start); -ENOENT (not inserted, or being
 * removed); -EDEADLK (in a signal handler that has interrupted the library);
 * -ESTALE (in a fork child).  After a failure nothing has changed.
 */
MMN_PUBLIC
MMN_MUST_CHECK int
mmn_range_subscription_resize(struct mmn_range_subscription *sub,
			      uintptr_t start, uintptr_t last);

/* What an edit does. */
#define MMN_RANGE_INSERT 0u
#define MMN_RANGE_REMOVE 1u
#define MMN_RANGE_REMOVE_DEFERRED 2u
#define MMN_RANGE_RESIZE 3u

/**
 * struct mmn_range_edit - one part of mmn_range_subscription_edit()
 * @op: MMN_RANGE_*
 * @flags: 0
 * @sub: the subscription, in no other edit of the same call
 * @start: first byte of the new range, for MMN_RANGE_INSERT and _RESIZE
 * @last: its last byte, inclusive
 */
struct mmn_range_edit {
	uint32_t op;
	uint32_t flags;
	struct mmn_range_subscription *sub;
	uintptr_t start;
	uintptr_t last;
};

/**
 * mmn_range_subscription_edit - several inserts, removes and resizes in one step
 * @state: the address space, of all of them
 * @edits: what to do; the order does not matter
 * @nr: how many; 0 is allowed
 *
 * All of it takes effect at one moment, or nothing does.  An address that is
 * subscribed to before and after is subscribed to at every moment in between:
 * this is how to punch a hole (resize, insert), to split, to merge, and to
 * replace one subscription by others.
 *
 * An inserted range takes over from the removed and resized ones whose old range
 * it overlaps: changes under way that would have called those call it as well.
 * So what was mirrored under the old subscription may be handed over to the new
 * one: under the driver's lock, around this call.  For the rest each part is as
 * the call of its own.
 *
 * MMN_RANGE_REMOVE waits, after the step, until no callback of its subscription
 * runs any more: hold no lock then that the callback takes.  MMN_RANGE_REMOVE_
 * DEFERRED may call the release op: hold no lock that it takes.
 *
 * Context: as mmn_range_subscription_insert(); in callbacks without
 * MMN_RANGE_REMOVE.  The caller has a reference to @state.
 * Ordering: full with respect to changes, as insert.
 * Return: 0; -EINVAL (last < start, no subscription or one that is not
 * initialised, unknown op or flags, one subscription twice, insert into a state that was
 * released, deferred removal without a release op); -EEXIST (insert: already
 * inserted); -ENOENT (remove or resize: not inserted, or not in @state);
 * -EDEADLK (MMN_RANGE_REMOVE in a callback, reported in debug builds; or in a
 * signal handler that has interrupted the library);
 * -ESTALE (in a fork child).  After a failure nothing has changed.
 */
MMN_PUBLIC
MMN_MUST_CHECK int
mmn_range_subscription_edit(struct mmn_state *state,
			    const struct mmn_range_edit *edits, size_t nr);

/**
 * mmn_range_subscription_start - first byte of the subscribed range
 * mmn_range_subscription_last - last byte, inclusive
 * @sub: an inserted subscription
 *
 * Context: any, while the caller keeps @sub inserted.
 */
MMN_PUBLIC
uintptr_t
mmn_range_subscription_start(const struct mmn_range_subscription *sub);
MMN_PUBLIC
uintptr_t mmn_range_subscription_last(const struct mmn_range_subscription *sub);

/**
 * mmn_range_read_begin - begin a read section
 * @sub: an inserted subscription
 *
 * Waits while changes that overlap @sub's range are open, and no others.  To
 * compose several reads, keep the value of the first begin: it is the one to
 * check at the end.
 *
 * Context: may sleep.  Not from callbacks, not inside a change this thread has
 * open over @sub, and without any lock that the callback takes.
 * Ordering: acquire: every change that has ended is visible to what follows.
 * Return: an odd number, to be given to the two retry functions; 0 when @sub
 * is not inserted, was removed during the wait, or belongs to a fork parent: for
 * 0 the retry functions always say true.
 */
MMN_PUBLIC
uint64_t mmn_range_read_begin(const struct mmn_range_subscription *sub);

/**
 * mmn_range_read_begin_try - begin a read section if that needs no wait
 * @sub: an inserted subscription
 * @ret_seq: as mmn_range_read_begin() returns
 *
 * Context: any, also callbacks; never sleeps.
 * Return: 0; -EAGAIN when an overlapping change is open.
 */
MMN_PUBLIC
MMN_MUST_CHECK int
mmn_range_read_begin_try(const struct mmn_range_subscription *sub,
			 uint64_t *ret_seq);

/**
 * mmn_range_read_begin_timed - begin a read section, wait no longer than
 * @sub: an inserted subscription
 * @deadline_ns: on CLOCK_MONOTONIC, in nanoseconds
 * @ret_seq: as mmn_range_read_begin() returns
 *
 * Context: as mmn_range_read_begin().
 * Return: 0; -ETIMEDOUT when an overlapping change was still open at the
 * deadline.  Success is never reported as a time-out.
 */
MMN_PUBLIC
MMN_MUST_CHECK int
mmn_range_read_begin_timed(const struct mmn_range_subscription *sub,
			   uint64_t deadline_ns, uint64_t *ret_seq);

/**
 * mmn_range_read_retry - end a read section and tell whether it collided
 * @sub: the subscription the section was begun on
 * @seq: what that begin returned, in this thread or another
 *
 * Hold the driver's lock, and keep it until the entries are written: the answer
 * is worth nothing once the lock is dropped.
 *
 * Context: any; never sleeps; with the driver's lock held (asserted in debug
 * builds).
 * Ordering: none of its own; the driver's lock orders it.
 * Return: true when a change overlapped the section and everything read in it
 * must be thrown away; false when it may be installed.
 */
MMN_PUBLIC
MMN_MUST_CHECK bool
mmn_range_read_retry(const struct mmn_range_subscription *sub, uint64_t seq);

/**
 * mmn_range_check_retry - has the section collided already?
 * @sub: the subscription the section was begun on
 * @seq: what that begin returned
 *
 * For leaving early, before expensive work.  True is final: a later
 * mmn_range_read_retry() will be true.  False is only a hint.
 *
 * Context: any; never sleeps; no lock needed.
 */
MMN_PUBLIC
MMN_MUST_CHECK bool
mmn_range_check_retry(const struct mmn_range_subscription *sub, uint64_t seq);

/**
 * mmn_range_set_seq - make readers that began earlier start over
 * @sub: the subscription whose callback is running
 * @cur_seq: as the callback got it
 *
 * Called by the callback under the driver's lock, before anything is torn down.
 * A callback that finds that the change does not concern it may leave it out:
 * then readers do not start over.
 *
 * Context: in the callback (or a thread that works for it), driver's lock held
 * (asserted in debug builds).
 * Ordering: release; the driver's lock orders it for read_retry.
 */
MMN_PUBLIC
void mmn_range_set_seq(struct mmn_range_subscription *sub, uint64_t cur_seq);

/* ------------------------------------------------------------------ */
/* Statistics                                                         */
/* ------------------------------------------------------------------ */

/**
 * struct mmn_range_stats - what happened to a range subscription
 * @size: sizeof(struct mmn_range_stats), set by the caller
 * @open: open changes that its readers wait for
 * @callbacks: calls of @invalidate or @invalidate_start
 * @retries: how often mmn_range_read_retry() was true
 * @waits: calls of mmn_range_read_begin() and mmn_range_read_begin_timed() that
 *	had to wait
 * @longest_wait_ns: the longest of those waits, in nanoseconds
 *
 * All but @open since mmn_range_subscription_init(), from insert to insert.
 */
struct mmn_range_stats {
	uint32_t size;
	uint32_t open;
	uint64_t callbacks;
	uint64_t retries;
	uint64_t waits;
	uint64_t longest_wait_ns;
};

/**
 * mmn_range_get_stats - what happened to a range subscription
 * @sub: initialised; inserted or not
 * @ret_stats: size set; filled as far as size reaches
 *
 * Nothing is counted for it that costs time while nothing happens: not in a read
 * section without a collision, nor in a change that misses.
 *
 * Context: any, also callbacks and signal handlers; takes no lock.
 * Ordering: none.  The number of callbacks is exact while none is about to begin,
 * and may be wrong by some dozens otherwise.
 * Return: 0; -EINVAL (no @sub or one that is not initialised, no @ret_stats or
 * one whose size is less than that of @size); -ESTALE (in a fork child).
 */
MMN_PUBLIC
int mmn_range_get_stats(const struct mmn_range_subscription *sub,
			struct mmn_range_stats *ret_stats);

/**
 * struct mmn_state_stats - what happened in an address space
 * @size: sizeof(struct mmn_state_stats), set by the caller
 * @open: changes that are open now; exact while none begins or ends, else a
 *	thread that ends one and begins another may be counted twice
 * @ranges: range subscriptions inserted now
 * @classics: classic subscriptions registered now
 * @hits: changes that called range subscriptions; changes that nobody had
 *	subscribed to are not counted
 * @callbacks: the calls they made; second passes are not counted
 * @longest_wait_ns: the longest wait of a reader, of any range, in nanoseconds
 * @memory_bytes: memory the library has allocated for the state, with what it
 *	knows of the subscribed ranges; the subscriptions are not in it
 *
 * All since mmn_state_create().
 */
struct mmn_state_stats {
	uint32_t size;
	uint32_t open;
	uint64_t ranges;
	uint64_t classics;
	uint64_t hits;
	uint64_t callbacks;
	uint64_t longest_wait_ns;
	uint64_t memory_bytes;
};

/**
 * mmn_state_get_stats - what happened in an address space
 * @state: the caller has a reference
 * @ret_stats: size set; filled as far as size reaches
 *
 * Who comes and goes is one picture, the rest a sum over counters that go on
 * meanwhile.  The threads that make changes are not disturbed.
 *
 * Context: any, also callbacks and signal handlers; takes short locks of the
 * library only.
 * Ordering: none.
 * Return: 0; -EINVAL (no @state, no @ret_stats or one whose size is less than
 * that of @size); -ESTALE (in a fork child).
 */
MMN_PUBLIC
int mmn_state_get_stats(struct mmn_state *state,
			struct mmn_state_stats *ret_stats);

/* ------------------------------------------------------------------ */
/* Classic subscriptions: the whole address space                     */
/* ------------------------------------------------------------------ */

/**
 * struct mmn_subscription_ops - what a classic subscriber does
 *
 * The rules for callbacks are those of struct mmn_range_ops.
 *
 * @release: the address space ends, or the subscription is unregistered: stop
 *	using its memory.  Called once.
 * @clear_flush_young: was the range used by the device?  Forget that it was.
 * @clear_young: same, a lazy answer is good enough.
 * @test_young: was the page at @addr used?  Forget nothing.
 * @invalidate_range_start: before a change.  0, or -EAGAIN to refuse a
 *	change that is not blockable.  One that can refuse has no end.
 * @invalidate_range_end: after a change whose start this subscriber was
 *	called for and accepted.
 * @invalidate_secondary_tlbs: for devices that walk the CPU's own
 *	tables; excludes start and end.  Does not sleep.
 * @alloc_subscription: mmn_subscription_get() needs a new object: 0 and
 *	*@ret_sub, or a negative errno.
 * @free_subscription: the last user has put it and no callback runs.
 */
struct mmn_subscription_ops {
	void (*release)(struct mmn_subscription *sub, struct mmn_state *state);
	bool (*clear_flush_young)(struct mmn_subscription *sub,
				  struct mmn_state *state, uintptr_t start,
				  uintptr_t last);
	bool (*clear_young)(struct mmn_subscription *sub,
			    struct mmn_state *state, uintptr_t start,
			    uintptr_t last);
	bool (*test_young)(struct mmn_subscription *sub,
			   struct mmn_state *state, uintptr_t addr);
	int (*invalidate_range_start)(struct mmn_subscription *sub,
				      const struct mmn_invalidate_desc *desc);
	void (*invalidate_range_end)(struct mmn_subscription *sub,
				     const struct mmn_invalidate_desc *desc);
	void (*invalidate_secondary_tlbs)(struct mmn_subscription *sub,
					  struct mmn_state *state,
					  uintptr_t start, uintptr_t last);
	int (*alloc_subscription)(struct mmn_state *state,
				  struct mmn_subscription **ret_sub);
	void (*free_subscription)(struct mmn_subscription *sub);
};

/**
 * struct mmn_subscription - a subscriber to a whole address space
 * @ops: set by the caller before registration
 *
 * The caller's memory.  Zero everything but @ops before the first
 * registration.
 */
struct mmn_subscription {
	const struct mmn_subscription_ops *ops;
	/* private: */
	uint64_t private_[11];
};

/**
 * mmn_subscription_register - subscribe to a whole address space
 * @sub: not registered
 * @state: live; a reference is taken
 *
 * Every change that starts after this returns is told to @sub, and it sees no
 * end without its start.  Waits until the changes that were open when it was
 * called have ended.
 *
 * Context: may sleep; not from callbacks, not inside a change that this thread
 * has open.
 * Return: 0; -EINVAL (no ops, secondary_tlbs together with start or end,
 * state released); -EEXIST (already registered); -EDEADLK (from a callback
 * or inside an own change); -ESTALE (in a fork child).
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_subscription_register(struct mmn_subscription *sub,
					     struct mmn_state *state);

/**
 * mmn_subscription_unregister - unsubscribe, call release, wait
 * @sub: a registered subscription
 *
 * ops->release is called once, by this or by mmn_state_release(), whichever
 * comes first.  On return no callback of @sub runs and none will.  @sub may see
 * a start without its end.
 *
 * Context: may sleep; not from callbacks.
 * Return: 0; -ENOENT (not registered; also after mmn_state_release() has
 * unregistered it: then everything is over as well); -EDEADLK (from a
 * callback).
 */
MMN_PUBLIC
int mmn_subscription_unregister(struct mmn_subscription *sub);

/**
 * mmn_subscription_get - one shared subscription per (state, ops)
 * @ops: with alloc_subscription and free_subscription
 * @state: live
 * @ret_sub: the subscription, one user more
 *
 * Context: may sleep; not from callbacks.
 * Return: 0; -EOVERFLOW (too many users); what alloc_subscription
 * returned; else as mmn_subscription_register().
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_subscription_get(const struct mmn_subscription_ops *ops,
					struct mmn_state *state,
					struct mmn_subscription **ret_sub);

/**
 * mmn_subscription_put - one user less
 * @sub: from mmn_subscription_get()
 *
 * The last put unsubscribes; free_subscription runs when no callback of @sub
 * does, perhaps later and in another thread.  release is not called: the user
 * must have stopped the device before.
 *
 * Context: any but signal handlers; also callbacks.
 * Return: 0; -ENOENT when there is no user left (reported in debug builds).
 */
MMN_PUBLIC
int mmn_subscription_put(struct mmn_subscription *sub);

/**
 * mmn_subscription_synchronize - wait for outstanding frees
 *
 * On return free_subscription has run for every mmn_subscription_put() that
 * returned before this was called.  Before a plug-in that holds the ops is
 * unloaded.
 *
 * Context: may sleep; not from callbacks.
 * Return: 0; -EDEADLK (from a callback).
 */
MMN_PUBLIC
int mmn_subscription_synchronize(void);

/**
 * mmn_clear_flush_young - was the range used by any device?  Forget it.
 * mmn_clear_young - same, lazily
 * @state: the address space
 * @start: first byte
 * @last: last byte, inclusive
 *
 * Every classic subscriber is asked.
 * Context: does not sleep if the subscribers do not.
 * Return: true when any of them said so.
 */
MMN_PUBLIC
bool mmn_clear_flush_young(struct mmn_state *state, uintptr_t start,
			   uintptr_t last);
MMN_PUBLIC
bool mmn_clear_young(struct mmn_state *state, uintptr_t start, uintptr_t last);

/**
 * mmn_test_young - was the page at @addr used by any device?
 * @state: the address space
 * @addr: any byte of it
 *
 * Stops at the first subscriber that says so.
 */
MMN_PUBLIC
bool mmn_test_young(struct mmn_state *state, uintptr_t addr);

/**
 * mmn_invalidate_secondary_tlbs - flush what devices cache of the CPU's tables
 * @state: the address space
 * @start: first byte
 * @last: last byte, inclusive
 *
 * Inside a change or outside one.
 * Context: does not sleep.
 */
MMN_PUBLIC
void mmn_invalidate_secondary_tlbs(struct mmn_state *state, uintptr_t start,
				   uintptr_t last);

MMN_END_DECLS

#endif
