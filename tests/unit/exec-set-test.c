/* SPDX-License-Identifier: MIT */
/* Sets of locks that are taken in a loop. */
#include "t/tap.h"

#include <mmn/debug.h>
#include <mmn/exec.h>
#include <mmn/inject.h>
#include <pthread.h>
#include <unistd.h>

#include "base/atomic.h"
#include "resv/ww-mutex.h"

enum { NR = 40 };

static struct dma_resv objs[NR];

static void make_objects(void)
{
	int i;

	for (i = 0; i < NR; i++)
		dma_resv_init(&objs[i]);
}

static void drop_objects(void)
{
	int i;

	for (i = 0; i < NR; i++) {
		t_ok(!dma_resv_is_locked(&objs[i]));
		dma_resv_fini(&objs[i]);
	}
}

static void begin(struct mmn_exec *exec, uint32_t flags)
{
	mmn_exec_init(exec, &reservation_ww_class, flags);
}

static void expect(const char *text)
{
	if (mmn_debug_is_enabled())
		t_bug_expected(text);
}

TEST(a_set_is_locked_until_the_end)
{
	struct mmn_exec exec;
	int runs = 0;
	int i;

	make_objects();
	begin(&exec, 0);
	mmn_exec_until_all_locked(&exec)
	{
		for (i = 0; i < NR; i++)
			t_err(mmn_exec_prepare(&exec, &objs[i], 1), 0);
		mmn_exec_retry_on_contention(&exec);
		runs++;
	}
	t_eq(runs, 1);
	t_eq(exec.num_locks, NR);
	for (i = 0; i < NR; i++)
		t_ok(dma_resv_held(&objs[i]));
	mmn_exec_unlock(&exec, &objs[3].lock);
	t_ok(!dma_resv_held(&objs[3]));
	expect("not in the set");
	mmn_exec_unlock(&exec, &objs[3].lock);
	expect("a context that is done");
	t_err(mmn_exec_lock_resv(&exec, &objs[3]), -EINVAL);
	mmn_exec_fini(&exec);
	mmn_exec_fini(&exec);
	drop_objects();
}

TEST(a_duplicate_is_an_error_or_ignored)
{
	struct mmn_exec exec;

	make_objects();
	begin(&exec, 0);
	mmn_exec_until_all_locked(&exec)
	{
		t_err(mmn_exec_lock_resv(&exec, &objs[0]), 0);
		t_err(mmn_exec_lock_resv(&exec, &objs[0]), -EALREADY);
	}
	mmn_exec_fini(&exec);
	begin(&exec, MMN_EXEC_IGNORE_DUPLICATES);
	mmn_exec_until_all_locked(&exec)
	{
		struct dma_resv *twice[] = { &objs[0], &objs[1], &objs[0] };

		t_err(mmn_exec_prepare_array(&exec, twice, 3, 1), 0);
		t_err(mmn_exec_prepare_array(&exec, NULL, 0, 1), 0);
	}
	t_eq(exec.num_locks, 2);
	mmn_exec_fini(&exec);
	drop_objects();
}

TEST(a_failed_preparation_leaves_the_object_unlocked)
{
	struct mmn_exec exec;

	make_objects();
	begin(&exec, MMN_EXEC_IGNORE_DUPLICATES);
	mmn_exec_until_all_locked(&exec)
	{
		expect("no fences are reserved");
		t_err(mmn_exec_prepare(&exec, &objs[0], 0), -EINVAL);
		t_ok(!dma_resv_held(&objs[0]));
		t_err(mmn_exec_lock_resv(&exec, &objs[0]), 0);
		/* A duplicate stays. */
		expect("no fences are reserved");
		t_err(mmn_exec_prepare(&exec, &objs[0], 0), -EINVAL);
		t_ok(dma_resv_held(&objs[0]));
	}
	mmn_exec_fini(&exec);
	drop_objects();
}

TEST(no_memory_for_a_long_list_leaves_the_others_locked)
{
	struct mmn_exec exec;
	int ret = 0;
	int i;

	make_objects();
	begin(&exec, 0);
	t_err(mmn_inject_set(MMN_INJECT_ALLOC, 1, 0), 0);
	mmn_exec_until_all_locked(&exec)
	{
		for (i = 0; i < NR && !ret; i++)
			ret = mmn_exec_lock_resv(&exec, &objs[i]);
		mmn_exec_retry_on_contention(&exec);
		if (ret)
			break;
	}
	mmn_inject_clear();
	t_err(ret, -ENOMEM);
	t_eq(exec.num_locks, MMN_EXEC_NR_INLINE);
	mmn_exec_fini(&exec);
	drop_objects();
}

TEST(an_unknown_flag_is_reported)
{
	struct mmn_exec exec;

	expect("unknown flag");
	begin(&exec, 1u << 20);
	t_eq(exec.flags, 0);
	mmn_exec_fini(&exec);
}

TEST(contention_unlocks_all_and_begins_again)
{
	struct mmn_exec exec;
	int runs = 0;

	make_objects();
	begin(&exec, 0);
	mmn_exec_until_all_locked(&exec)
	{
		if (!runs++) {
			t_err(mmn_exec_lock_resv(&exec, &objs[0]), 0);
			mmn_inject_set(MMN_INJECT_WW_DEADLOCK, 1, 0);
			t_err(mmn_exec_lock_resv(&exec, &objs[1]), -EDEADLK);
			mmn_inject_clear();
			t_ok(mmn_exec_is_contended(&exec));
			/* Further ones have no effect. */
			t_err(mmn_exec_lock_resv(&exec, &objs[2]), -EDEADLK);
			t_ok(!dma_resv_held(&objs[2]));
			continue;
		}
		t_eq(exec.num_locks, 0);
		/* The contended one comes first, whatever is asked for. */
		t_err(mmn_exec_lock_resv(&exec, &objs[2]), 0);
		t_ok(dma_resv_held(&objs[1]));
		t_ok(!dma_resv_held(&objs[0]));
		t_err(mmn_exec_prepare(&exec, &objs[1], 1), 0);
		t_err(mmn_exec_lock_resv(&exec, &objs[1]), -EALREADY);
		t_err(mmn_exec_lock_resv(&exec, &objs[0]), 0);
	}
	t_eq(runs, 2);
	t_eq(exec.num_locks, 3);
	mmn_exec_fini(&exec);
	drop_objects();
}

static void *lock_interruptibly(void *arg)
{
	struct mmn_exec exec;
	int ret = 0;

	dma_fence_cancel_bind(arg);
	begin(&exec, MMN_EXEC_INTERRUPTIBLE);
	mmn_exec_until_all_locked(&exec)
	{
		ret = mmn_exec_lock_resv(&exec, &objs[0]);
		mmn_exec_retry_on_contention(&exec);
		if (ret)
			break;
	}
	mmn_exec_fini(&exec);
	t_err(ret, -EINTR);
	return NULL;
}

TEST(a_set_that_may_be_interrupted_is)
{
	struct dma_fence_cancel cancel = { 0 };
	pthread_t thread;

	make_objects();
	t_err(dma_resv_lock(&objs[0], NULL), 0);
	t_err(pthread_create(&thread, NULL, lock_interruptibly, &cancel), 0);
	/* relaxed: nothing is read but this */
	while (!(mmn_load_relaxed(&objs[0].lock.word) & WW_QUEUED))
		usleep(100);
	dma_fence_cancel_raise(&cancel);
	t_err(pthread_join(thread, NULL), 0);
	dma_resv_unlock(&objs[0]);
	drop_objects();
}

enum { NR_THREADS = 8, NR_SHARED = 5, NR_ROUNDS = 200 };

static unsigned int counts[NR_SHARED];

/* Every thread wants all of them, each in an order of its own. */
static void *lock_all(void *arg)
{
	unsigned int nr = (unsigned int)(uintptr_t)arg;
	unsigned int round;
	unsigned int i;

	for (round = 0; round < NR_ROUNDS; round++) {
		struct mmn_exec exec;
		int ret = 0;

		begin(&exec, 0);
		mmn_exec_until_all_locked(&exec)
		{
			ret = 0;
			for (i = 0; i < NR_SHARED && !ret; i++)
				ret = mmn_exec_prepare(
					&exec,
					&objs[(i * (nr % 4 + 1) + nr + round) %
					      NR_SHARED],
					1);
			mmn_exec_retry_on_contention(&exec);
			t_err(ret, 0);
		}
		for (i = 0; i < NR_SHARED; i++)
			counts[i]++;
		mmn_exec_fini(&exec);
	}
	return NULL;
}

static void run_crowd(void)
{
	pthread_t threads[NR_THREADS];
	uintptr_t i;

	for (i = 0; i < NR_THREADS; i++)
		t_err(pthread_create(&threads[i], NULL, lock_all, (void *)i),
		      0);
	for (i = 0; i < NR_THREADS; i++)
		t_err(pthread_join(threads[i], NULL), 0);
	for (i = 0; i < NR_SHARED; i++)
		t_eq(counts[i], NR_THREADS * NR_ROUNDS);
	drop_objects();
}

/* 92, 93 */
TEST(sets_in_any_order_get_on)
{
	make_objects();
	run_crowd();
}

/* 96 */
TEST(sets_get_on_with_injected_contention)
{
	make_objects();
	mmn_inject_set(MMN_INJECT_WW_DEADLOCK, 5, 1);
	run_crowd();
	t_gt(mmn_inject_hits(MMN_INJECT_WW_DEADLOCK), 0);
	mmn_inject_clear();
}
