/* SPDX-License-Identifier: MIT */
/*
 * Who gets a lock of a set, who waits and who backs off.  The numbers in comments
 * are those of the conformance cases.
 */
#include "t/tap.h"

#include <mmn/dma-fence.h>
#include <mmn/inject.h>
#include <mmn/ww-mutex.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"
#include "resv/ww-mutex.h"

static DEFINE_WD_CLASS(wait_die);
static DEFINE_WW_CLASS(wound_wait);

/* Somebody is in the queue of @lock, and will sleep unless he backs off. */
static void await_queue(struct ww_mutex *lock)
{
	/* relaxed: nothing is read but this */
	while (!(mmn_load_relaxed(&lock->word) & WW_QUEUED))
		usleep(100);
}

static void await_flag(uint32_t *flag)
{
	/* pairs with set_flag() */
	while (!mmn_load_acquire(flag))
		usleep(100);
}

static void set_flag(uint32_t *flag)
{
	mmn_store_release(flag, 1);
}

static void lock_ok(struct ww_mutex *lock, struct ww_acquire_ctx *ctx)
{
	t_err(ww_mutex_lock(lock, ctx), 0);
}

TEST(a_lock_is_held_from_lock_to_unlock)
{
	DEFINE_WW_MUTEX(lock, &wait_die);

	t_ok(!ww_mutex_is_locked(&lock));
	lock_ok(&lock, NULL);
	t_ok(ww_mutex_is_locked(&lock));
	t_eq(ww_mutex_trylock(&lock, NULL), 0);
	ww_mutex_unlock(&lock);
	t_ok(!ww_mutex_is_locked(&lock));
	t_eq(ww_mutex_trylock(&lock, NULL), 1);
	ww_mutex_unlock(&lock);
	ww_mutex_destroy(&lock);
	ww_mutex_destroy(NULL);
}

/* 89 */
TEST(a_context_cannot_lock_twice)
{
	struct ww_acquire_ctx ctx;
	struct ww_mutex lock;

	ww_mutex_init(&lock, &wound_wait);
	ww_acquire_init(&ctx, &wound_wait);
	lock_ok(&lock, &ctx);
	t_err(ww_mutex_lock(&lock, &ctx), -EALREADY);
	t_err(ww_mutex_lock_interruptible(&lock, &ctx), -EALREADY);
	t_eq(ww_mutex_trylock(&lock, &ctx), 0);
	ww_mutex_unlock(&lock);
	t_eq(ww_mutex_trylock(&lock, &ctx), 1);
	t_err(ww_mutex_lock(&lock, &ctx), -EALREADY);
	ww_mutex_unlock(&lock);
	ww_acquire_done(&ctx);
	ww_acquire_fini(&ctx);
}

/* Two threads, two locks.  The main thread's context is the older one. */
struct pair {
	struct ww_class *ww_class;
	struct ww_mutex a;
	struct ww_mutex b;
	uint32_t has_b;
	uint32_t main_waits;
	bool wait_first;
	pthread_t thread;
};

static void *younger(void *arg)
{
	struct pair *pair = arg;
	struct ww_acquire_ctx ctx;

	ww_acquire_init(&ctx, pair->ww_class);
	lock_ok(&pair->b, &ctx);
	set_flag(&pair->has_b);
	if (!pair->wait_first)
		await_queue(&pair->b);
	t_err(ww_mutex_lock(&pair->a, &ctx), -EDEADLK);
	ww_mutex_unlock(&pair->b);
	ww_mutex_lock_slow(&pair->a, &ctx);
	t_err(ww_mutex_lock(&pair->a, &ctx), -EALREADY);
	lock_ok(&pair->b, &ctx);
	ww_mutex_unlock(&pair->a);
	ww_mutex_unlock(&pair->b);
	ww_acquire_fini(&ctx);
	return NULL;
}

static void cross(struct ww_class *ww_class, bool wait_first)
{
	struct pair pair = { .ww_class = ww_class, .wait_first = wait_first };
	struct ww_acquire_ctx ctx;

	ww_mutex_init(&pair.a, ww_class);
	ww_mutex_init(&pair.b, ww_class);
	ww_acquire_init(&ctx, ww_class);
	lock_ok(&pair.a, &ctx);
	t_err(pthread_create(&pair.thread, NULL, younger, &pair), 0);
	await_flag(&pair.has_b);
	if (wait_first)
		await_queue(&pair.a);
	lock_ok(&pair.b, &ctx);
	ww_mutex_unlock(&pair.b);
	ww_mutex_unlock(&pair.a);
	ww_acquire_fini(&ctx);
	t_err(pthread_join(pair.thread, NULL), 0);
	t_ok(!ww_mutex_is_locked(&pair.a));
	t_ok(!ww_mutex_is_locked(&pair.b));
}

/* 90 */
TEST(wait_die_has_the_younger_of_two_back_off)
{
	cross(&wait_die, false);
}

/* 90 */
TEST(wound_wait_has_the_younger_of_two_back_off)
{
	cross(&wound_wait, false);
}

/* 90, 95: it sleeps already when it is wounded for another lock */
TEST(a_wounded_context_is_woken)
{
	cross(&wound_wait, true);
}

/* 95 */
static void *wounds(void *arg)
{
	struct pair *pair = arg;
	struct ww_acquire_ctx ctx;

	ww_acquire_init(&ctx, pair->ww_class);
	set_flag(&pair->has_b);
	await_flag(&pair->main_waits);
	lock_ok(&pair->b, &ctx);
	lock_ok(&pair->a, &ctx);
	ww_mutex_unlock(&pair->a);
	ww_mutex_unlock(&pair->b);
	ww_acquire_fini(&ctx);
	return NULL;
}

/* 95 */
TEST(a_wound_is_felt_at_the_next_wait_only)
{
	struct pair pair = { .ww_class = &wound_wait };
	struct ww_mutex other;
	struct ww_acquire_ctx ctx;

	ww_mutex_init(&pair.a, &wound_wait);
	ww_mutex_init(&pair.b, &wound_wait);
	ww_mutex_init(&other, &wound_wait);
	t_err(pthread_create(&pair.thread, NULL, wounds, &pair), 0);
	await_flag(&pair.has_b);
	ww_acquire_init(&ctx, &wound_wait);
	lock_ok(&pair.a, &ctx);
	set_flag(&pair.main_waits);
	await_queue(&pair.a);
	/* A free lock needs no wait. */
	lock_ok(&other, &ctx);
	t_err(ww_mutex_lock(&pair.b, &ctx), -EDEADLK);
	ww_mutex_unlock(&other);
	ww_mutex_unlock(&pair.a);
	/* Without locks the wound is healed. */
	ww_mutex_lock_slow(&pair.b, &ctx);
	lock_ok(&pair.a, &ctx);
	ww_mutex_unlock(&pair.a);
	ww_mutex_unlock(&pair.b);
	ww_acquire_fini(&ctx);
	t_err(pthread_join(pair.thread, NULL), 0);
}

static void *die_in_the_queue(void *arg)
{
	struct pair *pair = arg;
	struct ww_acquire_ctx ctx;

	ww_acquire_init(&ctx, pair->ww_class);
	lock_ok(&pair->b, &ctx);
	t_err(ww_mutex_lock(&pair->a, &ctx), -EDEADLK);
	ww_mutex_unlock(&pair->b);
	ww_acquire_fini(&ctx);
	return NULL;
}

static void *queue_up(void *arg)
{
	struct pair *pair = arg;
	struct ww_acquire_ctx ctx;

	ww_acquire_init(&ctx, pair->ww_class);
	set_flag(&pair->has_b);
	await_flag(&pair->main_waits);
	lock_ok(&pair->a, &ctx);
	ww_mutex_unlock(&pair->a);
	ww_acquire_fini(&ctx);
	return NULL;
}

/* 90: an older one that queues up later disturbs who waits with locks */
TEST(wait_die_has_the_younger_back_off_in_the_queue)
{
	struct pair pair = { .ww_class = &wait_die };
	pthread_t older;

	ww_mutex_init(&pair.a, &wait_die);
	ww_mutex_init(&pair.b, &wait_die);
	lock_ok(&pair.a, NULL);
	t_err(pthread_create(&older, NULL, queue_up, &pair), 0);
	await_flag(&pair.has_b);
	t_err(pthread_create(&pair.thread, NULL, die_in_the_queue, &pair), 0);
	await_queue(&pair.a);
	set_flag(&pair.main_waits);
	t_err(pthread_join(pair.thread, NULL), 0);
	ww_mutex_unlock(&pair.a);
	t_err(pthread_join(older, NULL), 0);
}

/* 91 */
static void waits_with_nothing(struct ww_class *ww_class)
{
	struct pair pair = { .ww_class = ww_class };
	struct ww_acquire_ctx ctx;

	ww_mutex_init(&pair.a, ww_class);
	ww_acquire_init(&ctx, ww_class);
	lock_ok(&pair.a, &ctx);
	set_flag(&pair.main_waits);
	t_err(pthread_create(&pair.thread, NULL, queue_up, &pair), 0);
	await_queue(&pair.a);
	ww_mutex_unlock(&pair.a);
	ww_acquire_fini(&ctx);
	t_err(pthread_join(pair.thread, NULL), 0);
}

/* 91 */
TEST(a_context_that_holds_nothing_waits)
{
	waits_with_nothing(&wait_die);
	waits_with_nothing(&wound_wait);
}

enum { NR_LOCKS = 16, MAX_THREADS = 64 };

struct crowd {
	struct ww_class *ww_class;
	struct ww_mutex locks[NR_LOCKS];
	/* guarded by the lock of the same number */
	unsigned int counts[NR_LOCKS];
	unsigned int rounds;
	unsigned int nr_threads;
	pthread_barrier_t all_have_one;
};

struct member {
	struct crowd *crowd;
	pthread_t thread;
	unsigned int nr;
};

static void crowd_init(struct crowd *crowd, struct ww_class *ww_class)
{
	unsigned int i;

	crowd->ww_class = ww_class;
	memset(crowd->counts, 0, sizeof(crowd->counts));
	for (i = 0; i < NR_LOCKS; i++)
		ww_mutex_init(&crowd->locks[i], ww_class);
}

static void run_crowd(struct crowd *crowd, void *(*work)(void *arg))
{
	struct member members[MAX_THREADS];
	unsigned int i;

	pthread_barrier_init(&crowd->all_have_one, NULL, crowd->nr_threads);
	for (i = 0; i < crowd->nr_threads; i++) {
		members[i] = (struct member){ .crowd = crowd, .nr = i };
		t_err(pthread_create(&members[i].thread, NULL, work,
				     &members[i]),
		      0);
	}
	for (i = 0; i < crowd->nr_threads; i++)
		t_err(pthread_join(members[i].thread, NULL), 0);
	pthread_barrier_destroy(&crowd->all_have_one);
}

/* Lock the set, with back-off, by hand. */
static void lock_set(struct crowd *crowd, struct ww_acquire_ctx *ctx,
		     const unsigned int *set, unsigned int count)
{
	unsigned int contended = count;
	unsigned int i;
	unsigned int j;
	int ret = 0;

	do {
		if (contended < count)
			ww_mutex_lock_slow(&crowd->locks[set[contended]], ctx);
		for (i = 0; i < count; i++) {
			ret = i == contended
				      ? 0
				      : ww_mutex_lock(&crowd->locks[set[i]],
						      ctx);
			if (ret)
				break;
		}
		if (!ret)
			break;
		t_err(ret, -EDEADLK);
		for (j = 0; j < i; j++)
			if (j != contended)
				ww_mutex_unlock(&crowd->locks[set[j]]);
		if (contended < count)
			ww_mutex_unlock(&crowd->locks[set[contended]]);
		contended = i;
	} while (ret);
}

static void *ring_member(void *arg)
{
	struct member *member = arg;
	struct crowd *crowd = member->crowd;
	unsigned int next = (member->nr + 1) % crowd->nr_threads;
	struct ww_acquire_ctx ctx;
	struct ww_mutex *held = &crowd->locks[member->nr];
	struct ww_mutex *wanted = &crowd->locks[next];

	ww_acquire_init(&ctx, crowd->ww_class);
	lock_ok(held, &ctx);
	pthread_barrier_wait(&crowd->all_have_one);
	while (ww_mutex_lock(wanted, &ctx) == -EDEADLK) {
		struct ww_mutex *contended = wanted;

		ww_mutex_unlock(held);
		ww_mutex_lock_slow(contended, &ctx);
		wanted = held;
		held = contended;
	}
	crowd->counts[member->nr]++;
	crowd->counts[next]++;
	ww_mutex_unlock(held);
	ww_mutex_unlock(wanted);
	ww_acquire_fini(&ctx);
	return NULL;
}

static void run_ring(struct ww_class *ww_class, unsigned int nr)
{
	struct crowd crowd;
	unsigned int i;

	crowd_init(&crowd, ww_class);
	crowd.nr_threads = nr;
	run_crowd(&crowd, ring_member);
	for (i = 0; i < nr; i++)
		t_eq(crowd.counts[i], 2);
}

/* 92 */
TEST(a_ring_of_threads_resolves)
{
	unsigned int max = (unsigned int)sysconf(_SC_NPROCESSORS_ONLN) + 1;
	unsigned int nr;

	for (nr = 2; nr <= max && nr <= NR_LOCKS; nr++) {
		run_ring(&wait_die, nr);
		run_ring(&wound_wait, nr);
	}
}

static unsigned int random_below(unsigned int *state, unsigned int limit)
{
	*state = *state * 1103515245 + 12345;
	return (*state >> 16) % limit;
}

static void *random_member(void *arg)
{
	struct member *member = arg;
	struct crowd *crowd = member->crowd;
	unsigned int seed = member->nr + 1;
	unsigned int set[] = { 0, 0, 0 };
	unsigned int round;
	unsigned int i;

	for (round = 0; round < crowd->rounds; round++) {
		struct ww_acquire_ctx ctx;

		set[0] = random_below(&seed, NR_LOCKS);
		set[1] = (set[0] + 1 + random_below(&seed, 7)) % NR_LOCKS;
		set[2] = (set[1] + 1 + random_below(&seed, 7)) % NR_LOCKS;
		ww_acquire_init(&ctx, crowd->ww_class);
		lock_set(crowd, &ctx, set, 3);
		ww_acquire_done(&ctx);
		for (i = 0; i < 3; i++)
			crowd->counts[set[i]]++;
		for (i = 0; i < 3; i++)
			ww_mutex_unlock(&crowd->locks[set[i]]);
		ww_acquire_fini(&ctx);
	}
	return NULL;
}

static void run_random(struct ww_class *ww_class, unsigned int rounds)
{
	struct crowd crowd;
	unsigned int sum = 0;
	unsigned int i;

	crowd_init(&crowd, ww_class);
	crowd.nr_threads = MAX_THREADS;
	crowd.rounds = rounds;
	run_crowd(&crowd, random_member);
	for (i = 0; i < NR_LOCKS; i++)
		sum += crowd.counts[i];
	t_eq(sum, 3 * MAX_THREADS * rounds);
}

/* 93 */
TEST(sixty_four_threads_share_sixteen_locks)
{
	run_random(&wait_die, 50);
	run_random(&wound_wait, 50);
}

struct contest {
	struct ww_mutex lock;
	/* atomic */
	uint32_t over;
};

static void *lock_with_contexts(void *arg)
{
	struct contest *contest = arg;

	/* pairs with set_flag() */
	while (!mmn_load_acquire(&contest->over)) {
		struct ww_acquire_ctx ctx;

		ww_acquire_init(&ctx, &wait_die);
		lock_ok(&contest->lock, &ctx);
		ww_mutex_unlock(&contest->lock);
		ww_acquire_fini(&ctx);
	}
	return NULL;
}

/* 94 */
TEST(who_has_no_context_is_not_starved)
{
	struct contest contest = { .lock = WW_MUTEX_INIT(&wait_die) };
	pthread_t threads[4];
	int i;

	for (i = 0; i < 4; i++)
		t_err(pthread_create(&threads[i], NULL, lock_with_contexts,
				     &contest),
		      0);
	/* Were it overtaken for ever the test would not end. */
	for (i = 0; i < 100; i++) {
		lock_ok(&contest.lock, NULL);
		ww_mutex_unlock(&contest.lock);
	}
	set_flag(&contest.over);
	for (i = 0; i < 4; i++)
		t_err(pthread_join(threads[i], NULL), 0);
	t_ok(!ww_mutex_is_locked(&contest.lock));
}

struct arrival {
	struct ww_mutex *lock;
	struct ww_acquire_ctx *ctx;
	unsigned int *nr_served;
	unsigned int place;
};

static void *arrive(void *arg)
{
	struct arrival *arrival = arg;

	/* The context was begun by this thread's parent, for its age. */
	if (arrival->ctx)
		arrival->ctx->owner = mmn_context_self();
	lock_ok(arrival->lock, arrival->ctx);
	t_eq((*arrival->nr_served)++, arrival->place);
	ww_mutex_unlock(arrival->lock);
	return NULL;
}

static unsigned int count_queue(struct ww_mutex *lock)
{
	struct dma_fence_link *first;
	struct dma_fence_link *link;
	unsigned int count = 0;

	/* A waiter begins with its links. */
	mmn_spin_lock(&lock->guard);
	first = (struct dma_fence_link *)lock->queue;
	for (link = first; link && (link != first || !count); link = link->next)
		count++;
	mmn_spin_unlock(&lock->guard);
	return count;
}

/* Contexts by age; who has none is passed only by those older than who was there. */
TEST(waiters_are_served_in_order)
{
	enum { COUNT = 5 };
	/* Who arrives: the age of the context or 0, and the place that it gets. */
	static const unsigned int ages[COUNT] = { 0, 4, 0, 3, 1 };
	static const unsigned int places[COUNT] = { 0, 3, 4, 2, 1 };
	DEFINE_WW_MUTEX(lock, &wound_wait);
	struct ww_acquire_ctx ctxs[COUNT];
	struct arrival arrivals[COUNT];
	pthread_t threads[COUNT];
	unsigned int nr_served = 0;
	unsigned int i;

	for (i = 0; i < COUNT; i++)
		ww_acquire_init(&ctxs[i], &wound_wait);
	lock_ok(&lock, NULL);
	for (i = 0; i < COUNT; i++) {
		arrivals[i] = (struct arrival){
			.lock = &lock,
			.ctx = ages[i] ? &ctxs[ages[i]] : NULL,
			.nr_served = &nr_served,
			.place = places[i],
		};
		t_err(pthread_create(&threads[i], NULL, arrive, &arrivals[i]),
		      0);
		while (count_queue(&lock) < i + 1)
			usleep(100);
	}
	ww_mutex_unlock(&lock);
	for (i = 0; i < COUNT; i++)
		t_err(pthread_join(threads[i], NULL), 0);
	t_eq(nr_served, COUNT);
}

static void *lock_and_free(void *arg)
{
	struct ww_mutex *lock = arg;

	lock_ok(lock, NULL);
	memset(lock, 0xee, sizeof(*lock));
	free(lock);
	return NULL;
}

/* Sanitizers see it if the one who gave it away still touches it. */
TEST(the_next_holder_may_free_the_lock)
{
	int i;

	for (i = 0; i < 50; i++) {
		struct ww_mutex *lock = malloc(sizeof(*lock));
		pthread_t thread;

		t_ok(lock);
		ww_mutex_init(lock, &wait_die);
		lock_ok(lock, NULL);
		t_err(pthread_create(&thread, NULL, lock_and_free, lock), 0);
		if (i % 2)
			await_queue(lock);
		ww_mutex_unlock(lock);
		t_err(pthread_join(thread, NULL), 0);
	}
}

/* 96 */
TEST(injected_back_offs_change_no_result)
{
	t_err(mmn_inject_set(MMN_INJECT_WW_DEADLOCK, 3, 1), 0);
	run_random(&wait_die, 10);
	run_random(&wound_wait, 10);
	t_gt(mmn_inject_hits(MMN_INJECT_WW_DEADLOCK), 0);
	mmn_inject_clear();
}
