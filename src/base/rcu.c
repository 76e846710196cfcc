/* SPDX-License-Identifier: MIT */
#include "base/rcu.h"

#include <pthread.h>

#include "base/bug.h"
#include "base/lock.h"

__thread bool mmn_rcu_registered
	__attribute__((tls_model("initial-exec"), visibility("hidden")));

#if MMN_TSAN
char mmn_rcu_token;
#endif

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t thread_key;

static void unregister_thread(void *unused)
{
	(void)unused;
	mmn_rcu_registered = false;
	urcu_memb_unregister_thread();
}

static void make_key(void)
{
	pthread_key_create(&thread_key, unregister_thread);
}

void mmn_rcu_register_thread(void)
{
	pthread_once(&key_once, make_key);
	urcu_memb_register_thread();
	mmn_rcu_registered = true;
	/* Any value but NULL has the destructor called. */
	pthread_setspecific(thread_key, &key_once);
}

void mmn_rcu_synchronize(void)
{
	mmn_might_sleep();
	mmn_bug_on(urcu_memb_read_ongoing(),
		   "waits for a grace period inside a read section");
	urcu_memb_synchronize_rcu();
	mmn_rcu_tsan_acquire();
}

static void run_deferred(struct rcu_head *head)
{
	struct mmn_rcu_head *deferred =
		container_of(head, struct mmn_rcu_head, head);

	mmn_rcu_tsan_acquire();
	deferred->function(deferred);
}

void mmn_rcu_defer(struct mmn_rcu_head *head,
		   void (*function)(struct mmn_rcu_head *head))
{
	head->function = function;
	urcu_memb_call_rcu(&head->head, run_deferred);
}

void mmn_rcu_barrier(void)
{
	mmn_might_sleep();
	urcu_memb_barrier();
}
