/* SPDX-License-Identifier: MIT */
#ifndef MMN_BASE_RCU_H
#define MMN_BASE_RCU_H
/*
 * Read-copy-update: the only file that knows liburcu.
 *
 * A reader may follow a published pointer inside a read section; a writer that
 * has unpublished it may free the object after a grace period.
 *
 *	CPU0: reader                       CPU1: writer
 *
 *	mmn_rcu_read_lock()
 *	p = mmn_rcu_dereference(slot)
 *	                                   old = slot
 *	                                   mmn_rcu_publish(slot, new)
 *	use *p                             mmn_rcu_synchronize()   waits
 *	mmn_rcu_read_unlock()                                      returns
 *	                                   free(old)
 *
 * Threads are registered on their first read section (the memb flavour needs
 * that) and leave when they end.  Those that a program has registered before, to
 * use liburcu itself, are left to it.  The first read section of a thread uses the
 * heap; inside a callback, or a signal handler that may interrupt the heap, use
 * sections only in threads that had one before.
 *
 * In the fork child of a process with other readers, or with something deferred,
 * deferred functions may never be called, and once the child has other readers, too,
 * it waits as liburcu does, which is not made for that.
 *
 * ThreadSanitizer does not see liburcu's grace periods (Debian's 0.13 is not
 * annotated).  They are told to it here: what a reader did before
 * read_unlock() happens before what follows synchronize() and before deferred
 * functions.  A removed grace period or a relaxed publication is still found.
 */
#include <stdbool.h>

#include "base/atomic.h"
#include "base/compiler.h"

#if defined(MMN_LADDER_RCU)

/* The explorer has sections and grace periods of its own. */
void mmn_rcu_read_lock(void);
void mmn_rcu_read_unlock(void);

struct mmn_rcu_head {
	void (*function)(struct mmn_rcu_head *head);
};

#else

#include <urcu/urcu-memb.h>

/*
 * liburcu's data of the calling thread, once it is registered.  The pointer is
 * found without a call, as all thread-local data of the library; of the data
 * itself there is too much for that where the library is loaded late.
 */
extern __thread struct urcu_reader *mmn_rcu_reader
	__attribute__((tls_model("initial-exec"), visibility("hidden")));

/*
 * Entering and leaving a section are a few instructions that liburcu offers to
 * programs of any licence because they are so few.  As calls they would be most of
 * what a look at a fence costs.
 */
#define urcu_memb_reader (*mmn_rcu_reader)
#include <urcu/static/urcu-memb.h>
#undef urcu_memb_reader

/* ThreadSanitizer must not see one half, when the other is in the library. */
#if MMN_TSAN
#define mmn_urcu_read_lock() urcu_memb_read_lock()
#define mmn_urcu_read_unlock() urcu_memb_read_unlock()
#else
#define mmn_urcu_read_lock() _urcu_memb_read_lock()
#define mmn_urcu_read_unlock() _urcu_memb_read_unlock()
#endif

#if MMN_TSAN
void __tsan_acquire(void *token);
void __tsan_release(void *token);
#define mmn_rcu_tsan_acquire(token) __tsan_acquire(token)
#define mmn_rcu_tsan_release(token) __tsan_release(token)
#else
#define mmn_rcu_tsan_acquire(token) ((void)(token))
#define mmn_rcu_tsan_release(token) ((void)(token))
#endif

/* What the address stands for: every read section there has been. */
extern char mmn_rcu_sections __attribute__((visibility("hidden")));

void mmn_rcu_register_thread(void);

/* Sections nest.  Inside one: no synchronize(), no waiting for others. */
static inline void mmn_rcu_read_lock(void)
{
	if (unlikely(!mmn_rcu_reader))
		mmn_rcu_register_thread();
	mmn_urcu_read_lock();
}

static inline void mmn_rcu_read_unlock(void)
{
	mmn_rcu_tsan_release(&mmn_rcu_sections);
	mmn_urcu_read_unlock();
}

struct mmn_rcu_head {
	struct rcu_head head;
	void (*function)(struct mmn_rcu_head *head);
};

#endif

/* A pointer to anything. */
#define MMN_RCU_POINTER void *__attribute__((may_alias))

static inline void mmn_rcu_store_pointer(void *slot, void *pointer)
{
	MMN_RCU_POINTER *word = slot;

	/*
	 * pair(rcu_publish): release, with the acquire in
	 * mmn_rcu_load_pointer().  Without it a reader follows the pointer to
	 * an object that is not filled in.
	 */
	mmn_store_release(word, pointer);
}

static inline void *mmn_rcu_load_pointer(const void *slot)
{
	MMN_RCU_POINTER const *word = slot;

	/*
	 * pair(rcu_publish): acquire, with the release in
	 * mmn_rcu_store_pointer().  Without it the object may be read before
	 * the pointer to it.  (Consume would do; every compiler treats it as
	 * acquire.)
	 */
	return mmn_load_acquire(word);
}

#define mmn_rcu_publish(slot, pointer) \
	mmn_rcu_store_pointer(&(slot), 1 ? (pointer) : (slot))
#define mmn_rcu_dereference(slot) \
	((__typeof__(slot))mmn_rcu_load_pointer(&(slot)))

/*
 * mmn_rcu_synchronize - wait until every read section that has begun is over
 *
 * Context: may sleep; not in a read section, not in callbacks.
 */
void mmn_rcu_synchronize(void);

/*
 * mmn_rcu_prepare - start the thread that calls what is deferred
 *
 * For those who make what later defers in places where waiting for the heap could
 * be waiting for oneself.
 *
 * Context: uses the heap; any but signal handlers.
 * Return: 0, also in a fork child that has lost it; -EAGAIN: no thread is to be had.
 */
int mmn_rcu_prepare(void);

/*
 * mmn_rcu_defer - call @function(@head) after a grace period, in another thread
 *
 * In a fork child that has lost the thread: never.
 *
 * Context: any but signal handlers; the first call of the process does what
 * mmn_rcu_prepare() does, and ends the process when it cannot.
 */
void mmn_rcu_defer(struct mmn_rcu_head *head,
		   void (*function)(struct mmn_rcu_head *head));

/*
 * mmn_rcu_barrier - wait until everything deferred so far has been called
 *
 * Context: may sleep; not in a read section, not in deferred functions.
 */
void mmn_rcu_barrier(void);

#endif
