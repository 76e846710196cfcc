/* SPDX-License-Identifier: MIT */
/*
 * What is deferred, and who waits for it: base/rcu.c itself over a thread that
 * calls what it is given; grace periods are liburcu's and not explored.
 */
#include "ladder/gallery/gallery.h"
#include "ladder/gallery/help.h"
#include "ladder/scenario.h"

/* Other scenarios have the explorer's. */
#undef MMN_LADDER_RCU
#define mmn_rcu_synchronize own_rcu_synchronize
#define mmn_rcu_prepare own_rcu_prepare
#define mmn_rcu_defer own_rcu_defer
#define mmn_rcu_barrier own_rcu_barrier
#include "base/rcu.h"

static void call_later(struct rcu_head *head,
		       void (*function)(struct rcu_head *head));
#undef urcu_memb_call_rcu
#define urcu_memb_call_rcu call_later
/* The only other thread is the scenario's. */
#define pthread_once(once, function) ((void)(once), (void)(function))
/* Nor does it fork or end: its constructor is one of the command's, too. */
#define pthread_key_create(key, function) ((void)(key), (void)(function))
#define pthread_atfork(prepare, parent, child) \
	((void)(prepare), (void)(parent), (void)(child))
#undef urcu_memb_get_thread_call_rcu_data
#define urcu_memb_get_thread_call_rcu_data() NULL
#undef urcu_memb_set_thread_call_rcu_data
#define urcu_memb_set_thread_call_rcu_data(data) ((void)(data))
/* It is compiled as for ThreadSanitizer, and not told of. */
#undef mmn_rcu_tsan_acquire
#define mmn_rcu_tsan_acquire(token) ((void)(token))
#undef mmn_rcu_tsan_release
#define mmn_rcu_tsan_release(token) ((void)(token))
/* NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "base/rcu.c"

struct later {
	struct rcu_head *head;
	void (*function)(struct rcu_head *head);
};

static struct {
	/* atomic: what the thread is to call */
	struct later *later;
	/* plain: of a callback that was deferred before the barrier */
	uint32_t called;
	/* an object, plain inside, that is published */
	uint32_t *published;
} deferred;

static void call_later(struct rcu_head *head,
		       void (*function)(struct rcu_head *head))
{
	struct later *later = malloc(sizeof(*later));

	later->head = head;
	later->function = function;
	mmn_rcu_publish(deferred.later, later);
}

static void set_up(void)
{
	deferred.later = NULL;
	deferred.called = 0;
	deferred.published = NULL;
	ladder_name(&deferred.later, "queue");
	ladder_name(&deferred.called, "called");
	ladder_name(&deferred.published, "published");
}

static void await_barrier(void)
{
	mmn_rcu_barrier();
	ladder_assert(deferred.called);
}

static void call_deferred(void)
{
	struct later *later;

	deferred.called = 1;
	for (;;) {
		later = mmn_rcu_dereference(deferred.later);
		if (later)
			break;
		mmn_cpu_relax();
	}
	later->function(later->head);
}

const struct ladder_scenario rcu_barrier_wait = {
	.name = "rcu-barrier",
	.what = "a thread waits until what was deferred has been called",
	.explanation = "What a callback wrote is there when the wait is over.",
	.setup = set_up,
	.each = number_thread,
	.threads = { await_barrier, call_deferred },
	.titles = { "barrier", "calls" },
};

static void publish_object(void)
{
	uint32_t *object = malloc(sizeof(*object));

	*object = 1;
	mmn_rcu_publish(deferred.published, object);
}

static void read_object(void)
{
	uint32_t *object = mmn_rcu_dereference(deferred.published);

	if (object)
		ladder_assert(*object == 1);
}

const struct ladder_scenario rcu_pointer = {
	.name = "rcu-pointer",
	.what = "an object is published and read",
	.explanation = "Who finds it finds it made.",
	.setup = set_up,
	.each = number_thread,
	.threads = { publish_object, read_object },
	.titles = { "publish", "read" },
};
