/* SPDX-License-Identifier: MIT */
#include "base/rcu.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/lock.h"
#include "base/syscall.h"
#include "base/thread.h"
#include "base/wait.h"

extern __thread struct urcu_reader urcu_memb_reader;

__thread struct urcu_reader *mmn_rcu_reader
	__attribute__((tls_model("initial-exec"), visibility("hidden")));

char mmn_rcu_sections;

static pthread_key_t thread_key;

/*
 * liburcu cannot be told of a fork: in the child it waits for readers that did not
 * come along, and leaves deferred functions to a thread that did not, either.
 * So the child waits for nobody as long as it has no other reader, which is right,
 * and for no deferred function, which may never be called.
 */

/* atomic: threads of this process that are registered */
static uint32_t nr_readers;
/*
 * The library's own thread that calls what is deferred, in the order in which it
 * came; liburcu's may be one for each processor, if the program wants that.  Set
 * once; NULL: nothing was deferred.
 */
static struct call_rcu_data *caller;
static pthread_once_t caller_once = PTHREAD_ONCE_INIT;
/* Some of this was lost in a fork; changed while there is one thread. */
static bool lost_threads;
/* So was the caller, whose memory liburcu's own handlers may have freed. */
static bool lost_caller;

/* Registered for a fork, and for nothing else so far. */
static __thread bool for_fork __attribute__((tls_model("initial-exec")));

static uint32_t nr_other_readers(void)
{
	/* relaxed: who comes later is not waited for */
	return mmn_load_relaxed(&nr_readers) - (mmn_rcu_reader != NULL);
}

static void lose_threads(void)
{
	for_fork = false;
	if (caller)
		lost_caller = true;
	if (nr_other_readers() || lost_caller)
		lost_threads = true;
	/* relaxed: there is one thread */
	mmn_store_relaxed(&nr_readers, mmn_rcu_reader != NULL);
}

/* Who has registered a thread with liburcu: values of the key. */
static char by_program, by_library;

/* A handler that has a section of its own must not find it half done. */
static void unregister_thread(void *by)
{
	struct mmn_sigmask saved;

	mmn_signals_block(&saved);
	mmn_rcu_reader = NULL;
	if (by == &by_library)
		urcu_memb_unregister_thread();
	/* relaxed: a count */
	mmn_fetch_sub_relaxed(&nr_readers, 1);
	mmn_signals_restore(&saved);
}

/*
 *	CPU0: fork()                     CPU1: a grace period
 *
 *	                                 locks liburcu's list of readers
 *	the child is made
 *	the child, its first section:
 *	  to be on the list, it waits    [in the child nobody gives it back]
 *
 * So who is to be the only thread of the child is on the list before.
 */
static void register_before_fork(void)
{
	/* relaxed, both: who has not used it yet is not in the middle of it */
	if (mmn_rcu_reader ||
	    (!mmn_load_relaxed(&nr_readers) && !mmn_load_relaxed(&caller)))
		return;
	mmn_rcu_register_thread();
	for_fork = true;
}

/* In the parent: the program may want to register the thread itself. */
static void unregister_after_fork(void)
{
	void *by = pthread_getspecific(thread_key);

	if (!for_fork)
		return;
	for_fork = false;
	pthread_setspecific(thread_key, NULL);
	unregister_thread(by);
}

/*
 * Not by the first thread that has a section: a fork may be waiting for it, with
 * the lock taken that pthread_atfork() takes.  After the first constructor.
 */
__attribute__((constructor(102))) static void make_key(void)
{
	pthread_key_create(&thread_key, unregister_thread);
	pthread_atfork(register_before_fork, unregister_after_fork,
		       lose_threads);
}

/*
 * What liburcu allocates once for a thread, or for the process, is not what the
 * checks of signalling sections are after.
 */
static void register_thread(void)
{
	bool signalling = mmn_order_signalling();
	bool before = urcu_memb_reader.registered;

	mmn_order_set_signalling(false);
	/* relaxed: a count */
	mmn_fetch_add_relaxed(&nr_readers, 1);
	if (!before)
		urcu_memb_register_thread();
	mmn_rcu_reader = &urcu_memb_reader;
	pthread_setspecific(thread_key, before ? &by_program : &by_library);
	mmn_order_set_signalling(signalling);
}

/* A handler may have done it since the caller looked; and none comes in between. */
void mmn_rcu_register_thread(void)
{
	struct mmn_sigmask saved;
	int saved_errno = errno;

	mmn_signals_block(&saved);
	if (!mmn_rcu_reader)
		register_thread();
	mmn_signals_restore(&saved);
	errno = saved_errno;
}

void mmn_rcu_synchronize(void)
{
	mmn_might_sleep();
	if (mmn_rcu_reader && urcu_memb_read_ongoing()) {
		/* Waiting would be for ever. */
		mmn_bug("waits for a grace period inside a read section");
		return;
	}
	if (!lost_threads || nr_other_readers())
		urcu_memb_synchronize_rcu();
	mmn_rcu_tsan_acquire(&mmn_rcu_sections);
}

static void run_deferred(struct rcu_head *head)
{
	struct mmn_rcu_head *deferred =
		container_of(head, struct mmn_rcu_head, head);

	mmn_rcu_tsan_acquire(&mmn_rcu_sections);
	mmn_rcu_tsan_acquire(deferred);
	deferred->function(deferred);
}

static void make_caller(void)
{
	struct mmn_sigmask saved;
	int saved_errno = errno;

	mmn_thread_mask(&saved);
	/* relaxed: pthread_once() orders it, but for who only wonders */
	mmn_store_relaxed(&caller, urcu_memb_create_call_rcu_data(0, -1));
	mmn_signals_restore(&saved);
	errno = saved_errno;
}

static void *say_number(void *ret_number)
{
	*(long *)ret_number = mmn_syscall0(__NR_gettid);
	return NULL;
}

/*
 * Is there one to be had?  liburcu ends the process where there is none.  One that
 * was joined counts until the kernel has forgotten its number.
 */
static int try_thread(void)
{
	int err, cancel, pid = getpid();
	pthread_t thread;
	uint32_t turn = 0;
	long number;

	err = mmn_thread_create(&thread, NULL, say_number, &number);
	if (err)
		return err;
	/* Not a place to be cancelled at. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	pthread_join(thread, NULL);
	pthread_setcancelstate(cancel, NULL);
	while (!mmn_syscall3(__NR_tgkill, pid, number, 0))
		mmn_give_way(turn++);
	return 0;
}

/*
 *	CPU0: fork()                    CPU1: completes work
 *
 *	libc has the heap locked
 *	a change is told of;
 *	  a callback waits for F2
 *	                                dma_fence_signal(F1)
 *	                                dma_fence_put(F1), the last one
 *	                                  deferred: a thread is made, by the heap
 *	                                dma_fence_signal(F2) never comes
 */
int mmn_rcu_prepare(void)
{
	int err = 0, saved_errno = errno;
	struct mmn_sigmask saved;

	/* relaxed: who uses it asks by pthread_once() */
	if (!mmn_load_relaxed(&caller))
		err = try_thread();
	if (!err) {
		/* A handler must not wait for what it has interrupted. */
		mmn_signals_block(&saved);
		pthread_once(&caller_once, make_caller);
		mmn_signals_restore(&saved);
	}
	errno = saved_errno;
	return err;
}

/* liburcu gives it to the thread that the calling one has chosen. */
static void give_to_caller(struct rcu_head *head)
{
	struct call_rcu_data *before = urcu_memb_get_thread_call_rcu_data();

	urcu_memb_set_thread_call_rcu_data(caller);
	urcu_memb_call_rcu(head, run_deferred);
	urcu_memb_set_thread_call_rcu_data(before);
}

void mmn_rcu_defer(struct mmn_rcu_head *head,
		   void (*function)(struct mmn_rcu_head *head))
{
	bool signalling = mmn_order_signalling();

	/* Nobody would call it. */
	if (unlikely(lost_caller))
		return;
	head->function = function;
	mmn_rcu_tsan_release(head);
	mmn_order_set_signalling(false);
	pthread_once(&caller_once, make_caller);
	give_to_caller(&head->head);
	mmn_order_set_signalling(signalling);
}

struct marker {
	struct mmn_rcu_head rcu;
	/* atomic: 1 when everything deferred before has been called */
	uint32_t reached;
};

static void reach_marker(struct mmn_rcu_head *head)
{
	struct marker *marker = container_of(head, struct marker, rcu);

	/*
	 * pair(rcu_barrier): release, with the acquire in mmn_rcu_barrier().
	 * Without it what a deferred function wrote may be missing there.
	 */
	mmn_store_release(&marker->reached, 1);
	/* The marker may be gone; waking looks at the address only. */
	mmn_wake(&marker->reached, 1);
}

/* One thread calls deferred functions, in the order they came in. */
void mmn_rcu_barrier(void)
{
	struct marker marker = { .reached = 0 };

	if (lost_threads)
		return;
	mmn_rcu_defer(&marker.rcu, reach_marker);
	/*
	 * pair(rcu_barrier): acquire, with the release in reach_marker().
	 * Without it what a deferred function wrote may be missing here.
	 */
	while (!mmn_load_acquire(&marker.reached))
		mmn_wait_on(&marker.reached, 0, NULL);
}
