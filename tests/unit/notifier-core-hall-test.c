/* SPDX-License-Identifier: MIT */
/*
 * Changes that are readers of S, those that add and take away, who are writers,
 * and signal handlers that find their own thread in the middle of either.
 *
 * No test measures time: that somebody need not wait is shown by making the one
 * it could wait for depend on it.
 */
#include "t/tap.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <mmn/notifier.h>

#include "notifier/state.h"

enum { NR = 8, STEP = 0x10000, SIZE = 0x1000, ROUNDS = 2000 };

struct device {
	struct mmn_range_subscription sub;
	pthread_mutex_t lock;
	/* lock, where there is one */
	uint32_t calls;
	/* atomic */
	uint32_t released;
	void (*in_callback)(struct device *device);
};

static struct mmn_state *state;
static struct device devices[NR];

static struct device *device_of(struct mmn_range_subscription *sub)
{
	return container_of(sub, struct device, sub);
}

static bool tear_down(struct mmn_range_subscription *sub,
		      const struct mmn_invalidate_desc *desc, uint64_t cur_seq)
{
	struct device *device = device_of(sub);

	(void)desc;
	pthread_mutex_lock(&device->lock);
	mmn_range_set_seq(sub, cur_seq);
	device->calls++;
	pthread_mutex_unlock(&device->lock);
	if (device->in_callback)
		device->in_callback(device);
	return true;
}

/* A filter that only counts takes no lock, and may be interrupted. */
static bool take_note(struct mmn_range_subscription *sub,
		      const struct mmn_invalidate_desc *desc, uint64_t cur_seq)
{
	struct device *device = device_of(sub);

	(void)desc;
	mmn_range_set_seq(sub, cur_seq);
	/* relaxed: counted only */
	mmn_fetch_add_relaxed(&device->calls, 1);
	if (device->in_callback)
		device->in_callback(device);
	return true;
}

static void released(struct mmn_range_subscription *sub)
{
	/* relaxed: a flag */
	mmn_fetch_add_relaxed(&device_of(sub)->released, 1);
}

static const struct mmn_range_ops locked_ops = {
	.invalidate = tear_down,
	.release = released,
};
static const struct mmn_range_ops counting_ops = {
	.invalidate = take_note,
	.release = released,
};

static uintptr_t start_of(const struct device *device)
{
	return (uintptr_t)(device - devices + 1) * STEP;
}

static int insert(struct device *device)
{
	return mmn_range_subscription_insert(&device->sub, state,
					     start_of(device),
					     start_of(device) + SIZE - 1);
}

static void init(struct device *device, bool is_locked)
{
	struct mmn_range_config config = {
		.size = sizeof(config),
		.flags = is_locked ? 0 : MMN_RANGE_INTERRUPTIBLE,
		.ops = is_locked ? &locked_ops : &counting_ops,
	};

	if (is_locked)
		config.lock = mmn_driver_mutex(&device->lock);
	pthread_mutex_init(&device->lock, NULL);
	t_err(mmn_range_subscription_init(&device->sub, &config), 0);
}

/* Devices with odd numbers take a lock. */
static void begin(void)
{
	int i;

	t_may_keep_mapped(4 << 20, "memory for callbacks is kept for reuse");
	t_err(mmn_state_create(&state), 0);
	for (i = 0; i < NR; i++) {
		init(&devices[i], i & 1);
		t_err(insert(&devices[i]), 0);
	}
}

static void finish(void)
{
	int i;

	for (i = 0; i < NR; i++) {
		t_eq(open_count(range_of(&devices[i].sub)->open), 0);
		mmn_range_subscription_remove(&devices[i].sub);
	}
	t_ok(state_is_idle(state));
	mmn_state_put(state);
}

static void open_change(struct mmn_invalidate_desc *desc, uintptr_t start,
			uintptr_t last)
{
	mmn_invalidate_desc_init(desc, state, MMN_EVENT_UNMAP, start, last);
	t_err(mmn_invalidate_start(desc), 0);
}

static void change(uintptr_t start, uintptr_t last)
{
	struct mmn_invalidate_desc desc;

	open_change(&desc, start, last);
	t_err(mmn_invalidate_end(&desc), 0);
}

static void change_device(struct device *device)
{
	change(start_of(device), start_of(device));
}

static void *run_change(void *device)
{
	change_device(device);
	return NULL;
}

static void start_thread(pthread_t *thread, void *(*run)(void *), void *arg)
{
	t_eq(pthread_create(thread, NULL, run, arg), 0);
}

static void join(pthread_t thread)
{
	t_eq(pthread_join(thread, NULL), 0);
}

/* ------------------------------------------------------------------ */
/* Nobody waits for what does not concern it                          */
/* ------------------------------------------------------------------ */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool is_reached, is_open;
} place = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, false };

static void stop_here(struct device *device)
{
	(void)device;
	pthread_mutex_lock(&place.lock);
	place.is_reached = true;
	pthread_cond_broadcast(&place.changed);
	while (!place.is_open)
		pthread_cond_wait(&place.changed, &place.lock);
	pthread_mutex_unlock(&place.lock);
}

static void await_stopped(void)
{
	pthread_mutex_lock(&place.lock);
	while (!place.is_reached)
		pthread_cond_wait(&place.changed, &place.lock);
	pthread_mutex_unlock(&place.lock);
}

static void let_go(void)
{
	pthread_mutex_lock(&place.lock);
	place.is_open = true;
	pthread_cond_broadcast(&place.changed);
	pthread_mutex_unlock(&place.lock);
}

TEST(others_go_on_while_a_callback_runs)
{
	pthread_t thread;
	int i;

	begin();
	devices[1].in_callback = stop_here;
	start_thread(&thread, run_change, &devices[1]);
	await_stopped();
	for (i = 0; i < 100; i++) {
		change_device(&devices[2]);
		change_device(&devices[3]);
		t_err(mmn_range_subscription_remove(&devices[4].sub), 0);
		t_err(insert(&devices[4]), 0);
	}
	t_eq(devices[2].calls, 100);
	t_eq(devices[3].calls, 100);
	let_go();
	join(thread);
	finish();
}

/* ------------------------------------------------------------------ */
/* Nobody is starved                                                  */
/* ------------------------------------------------------------------ */

static bool stop;

static bool is_stopped(void)
{
	/* relaxed: a flag */
	return mmn_load_relaxed(&stop);
}

static void stop_all(void)
{
	/* relaxed: a flag */
	mmn_store_relaxed(&stop, true);
}

static void *flood(void *device)
{
	while (!is_stopped())
		change(start_of(device), start_of(device) + 2 * STEP);
	return NULL;
}

static void *come_and_go(void *device)
{
	while (!is_stopped()) {
		t_err(mmn_range_subscription_remove(
			      &((struct device *)device)->sub),
		      0);
		t_err(insert(device), 0);
	}
	return NULL;
}

TEST(writers_come_in_among_endless_changes, .timeout = 60)
{
	pthread_t threads[3];
	int i;

	begin();
	for (i = 0; i < 3; i++)
		start_thread(&threads[i], flood, &devices[i]);
	for (i = 0; i < ROUNDS; i++) {
		t_err(mmn_range_subscription_remove(&devices[2].sub), 0);
		t_err(insert(&devices[2]), 0);
	}
	stop_all();
	for (i = 0; i < 3; i++)
		join(threads[i]);
	finish();
}

TEST(changes_come_in_among_endless_writers, .timeout = 60)
{
	pthread_t threads[3];
	int i;

	begin();
	for (i = 0; i < 3; i++)
		start_thread(&threads[i], come_and_go, &devices[i]);
	for (i = 0; i < ROUNDS; i++)
		change_device(&devices[4 + i % 4]);
	stop_all();
	for (i = 0; i < 3; i++)
		join(threads[i]);
	for (i = 4; i < NR; i++)
		t_eq(devices[i].calls, ROUNDS / 4);
	finish();
}

/* ------------------------------------------------------------------ */
/* Many hits, and more changes than slots                             */
/* ------------------------------------------------------------------ */

TEST(ids_of_changes_lie_between_the_births_around_them)
{
	struct mmn_invalidate_desc desc[3 * NR];
	uint64_t id, last = 0;
	uint32_t i, n;

	begin();
	for (i = 0; i < ARRAY_SIZE(desc); i++) {
		struct range_sub *sub = range_of(&devices[i % NR].sub);

		t_err(mmn_range_subscription_remove(&devices[i % NR].sub), 0);
		t_err(insert(&devices[i % NR]), 0);
		t_gt(sub->node.birth, last);
		for (n = 0; n < 3; n++) {
			if (n)
				t_err(mmn_invalidate_end(&desc[i]), 0);
			open_change(&desc[i], 0, UINTPTR_MAX);
			id = change_of(&desc[i])->id;
			t_gt(id, sub->node.birth);
			t_ok(id & 1);
			last = id > last ? id : last;
		}
	}
	for (i = 0; i < NR; i++)
		t_eq(open_count(range_of(&devices[i].sub)->open),
		     ARRAY_SIZE(desc));
	for (i = 0; i < ARRAY_SIZE(desc); i++)
		t_err(mmn_invalidate_end(&desc[i]), 0);
	finish();
}

static struct device *removed;

static void remove_next(struct device *device)
{
	device->in_callback = NULL;
	t_err(mmn_range_subscription_remove_deferred(&removed->sub), 0);
	/* It is not running, so it was released by the call itself. */
	t_eq(removed->released, 1);
}

TEST(a_walk_goes_on_behind_what_is_removed_in_front_of_it)
{
	begin();
	removed = &devices[3];
	devices[2].in_callback = remove_next;
	change(0, UINTPTR_MAX);
	t_eq(devices[2].calls, 1);
	t_eq(devices[3].calls, 0);
	t_eq(devices[4].calls, 1);
	t_eq(devices[7].calls, 1);
	finish();
}

/* Several are found at a time: around each number where that begins anew. */
static struct device herd[3 * HERD_SIZE];
static uint32_t turn, removed_nr;

static bool take_turn(struct mmn_range_subscription *sub,
		      const struct mmn_invalidate_desc *desc, uint64_t cur_seq)
{
	(void)desc;
	mmn_range_set_seq(sub, cur_seq);
	device_of(sub)->calls = ++turn;
	if (turn == removed_nr)
		t_err(mmn_range_subscription_remove_deferred(
			      &herd[turn + 1].sub),
		      0);
	return true;
}

static const struct mmn_range_ops turn_ops = {
	.invalidate = take_turn,
	.release = released,
};

static void insert_herd(uint32_t nr)
{
	struct mmn_range_config config = { .size = sizeof(config),
					   .ops = &turn_ops };
	uint32_t i;

	for (i = 0; i < nr; i++) {
		t_err(mmn_range_subscription_init(&herd[i].sub, &config), 0);
		t_err(mmn_range_subscription_insert(&herd[i].sub, state,
						    (i + 1) * STEP,
						    (i + 1) * STEP),
		      0);
		herd[i].calls = 0;
	}
	turn = 0;
}

static void remove_herd(uint32_t nr)
{
	uint32_t i;

	for (i = 0; i < nr; i++) {
		t_eq(open_count(range_of(&herd[i].sub)->open), 0);
		mmn_range_subscription_remove(&herd[i].sub);
	}
}

TEST(a_walk_over_many_calls_each_once_in_order)
{
	struct mmn_invalidate_desc desc;
	uint32_t nr, i;

	t_may_keep_mapped(4 << 20, "memory for callbacks is kept for reuse");
	t_err(mmn_state_create(&state), 0);
	for (nr = 1; nr <= ARRAY_SIZE(herd); nr++) {
		insert_herd(nr);
		open_change(&desc, 0, UINTPTR_MAX);
		t_eq(turn, nr);
		for (i = 0; i < nr; i++) {
			t_eq(herd[i].calls, i + 1);
			t_eq(open_count(range_of(&herd[i].sub)->open), 1);
		}
		t_err(mmn_invalidate_end(&desc), 0);
		remove_herd(nr);
	}
	mmn_state_put(state);
}

TEST(a_walk_over_many_forgets_what_it_has_found_when_somebody_leaves)
{
	uint32_t nr = ARRAY_SIZE(herd);

	t_may_keep_mapped(4 << 20, "memory for callbacks is kept for reuse");
	t_err(mmn_state_create(&state), 0);
	for (removed_nr = 1; removed_nr < nr - 1; removed_nr++) {
		insert_herd(nr);
		change(0, UINTPTR_MAX);
		t_eq(turn, nr - 1);
		t_eq(herd[removed_nr + 1].calls, 0);
		t_eq(herd[removed_nr].calls, removed_nr + 1);
		t_eq(herd[nr - 1].calls, removed_nr + 2 == nr ? 0 : nr - 1);
		remove_herd(nr);
	}
	removed_nr = 0;
	mmn_state_put(state);
}

/* ------------------------------------------------------------------ */
/* A handler finds its own thread in S                                */
/* ------------------------------------------------------------------ */

static void *reinsert(void *arg)
{
	struct device *device = arg;

	t_err(mmn_range_subscription_remove(&device->sub), 0);
	t_err(insert(device), 0);
	return NULL;
}

static void await_closed(void)
{
	/* relaxed: looked at only */
	while (!(mmn_load_relaxed(&state->hall.phase) & 1))
		sched_yield();
}

static struct slot *slot_taken(struct mmn_invalidate_desc *desc)
{
	return slot_of(state, change_of(desc));
}

TEST(a_handler_inside_a_reader_does_not_wait_for_a_writer)
{
	struct mmn_invalidate_desc desc;
	struct visit visit;
	pthread_t thread;

	begin();
	open_change(&desc, 0, 0);
	visit_begin(&visit, state, slot_taken(&desc));
	start_thread(&thread, reinsert, &devices[0]);
	await_closed();
	/* What the handler does; the writer waits for us. */
	change_device(&devices[1]);
	change_device(&devices[2]);
	t_eq(devices[1].calls, 1);
	t_eq(devices[2].calls, 1);
	t_ok(mmn_load_relaxed(&state->hall.phase) & 1);
	visit_leave(&visit);
	visit_end(&visit);
	join(thread);
	t_err(mmn_invalidate_end(&desc), 0);
	finish();
}

TEST(a_reader_that_is_on_its_way_lets_the_writer_of_a_handler_past)
{
	struct mmn_invalidate_desc desc;
	struct hall_pass pass = { 0 };
	pthread_t thread;

	begin();
	open_change(&desc, 0, 0);
	/* Interrupted between the two steps of hall_go_in(). */
	pass.hall = &state->hall;
	pass.door = &slot_taken(&desc)->door;
	*pass.door = DOOR_INSIDE;
	mmn_context.pass = &pass;
	start_thread(&thread, reinsert, &devices[0]);
	await_closed();
	change_device(&devices[1]);
	t_eq(devices[1].calls, 1);
	t_ok(pass.is_undone);
	mmn_context.pass = NULL;
	join(thread);
	t_err(mmn_invalidate_end(&desc), 0);
	finish();
}

static void await_asleep(uint32_t *door)
{
	/* relaxed: looked at only; for longer than it takes to fall asleep */
	while (!(mmn_load_relaxed(door) & DOOR_WAITER))
		sched_yield();
	usleep(10 * 1000);
}

TEST(a_reader_that_has_left_but_not_woken_the_writer_does_so_in_a_handler)
{
	struct mmn_invalidate_desc desc;
	struct hall_pass pass;
	uint32_t *door;
	pthread_t thread;

	begin();
	open_change(&desc, 0, 0);
	door = &slot_taken(&desc)->door;
	hall_enter(&state->hall, &pass, door);
	start_thread(&thread, reinsert, &devices[0]);
	await_asleep(door);
	/* Interrupted between the two steps of hall_lower_own(). */
	pass.is_inside = false;
	/* relaxed: what was read inside is nothing */
	mmn_store_relaxed(door, 0);
	change_device(&devices[1]);
	t_eq(devices[1].calls, 1);
	mmn_context.pass = NULL;
	join(thread);
	t_err(mmn_invalidate_end(&desc), 0);
	finish();
}

static void insert_and_remove(struct device *device)
{
	struct mmn_range_edit edit = {
		.op = MMN_RANGE_INSERT,
		.sub = &devices[5].sub,
		.start = 1,
		.last = 2,
	};

	device->in_callback = NULL;
	t_err(insert(&devices[5]), -EDEADLK);
	t_err(mmn_range_subscription_edit(state, &edit, 1), -EDEADLK);
	t_err(mmn_range_subscription_resize(&device->sub, 1, 2), -EDEADLK);
	t_err(mmn_range_subscription_remove_deferred(&removed->sub), 0);
	t_eq(removed->released, 0);
	t_err(mmn_range_subscription_remove_deferred(&removed->sub), -ENOENT);
}

TEST(a_callback_in_a_handler_inside_a_reader_cannot_insert)
{
	struct mmn_invalidate_desc desc;
	struct visit visit;

	begin();
	t_err(mmn_range_subscription_remove(&devices[5].sub), 0);
	removed = &devices[3];
	devices[2].in_callback = insert_and_remove;
	open_change(&desc, 0, 0);
	visit_begin(&visit, state, slot_taken(&desc));
	change_device(&devices[2]);
	t_eq(devices[2].calls, 1);
	t_eq(removed->released, 0);
	visit_leave(&visit);
	/* It goes when the reader does. */
	t_eq(removed->released, 1);
	visit_end(&visit);
	change_device(removed);
	t_eq(removed->calls, 0);
	t_err(mmn_invalidate_end(&desc), 0);
	t_err(insert(&devices[5]), 0);
	finish();
}

static void change_in_handler(int signal)
{
	(void)signal;
	change(start_of(&devices[1]), start_of(&devices[4]));
}

static void *flood_and_count(void *arg)
{
	while (!is_stopped()) {
		change(0, UINTPTR_MAX);
		change_device(arg);
	}
	return NULL;
}

/* Through the doors, in callbacks with and without a lock, in the end. */
TEST(handlers_change_memory_in_the_middle_of_hits, .timeout = 60)
{
	struct sigaction action = { .sa_handler = change_in_handler };
	pthread_t threads[2];
	int i;

	if (MMN_TSAN)
		t_skip("ThreadSanitizer keeps signals back and runs their "
		       "handlers inside pthread_mutex_lock()");
	begin();
	t_eq(sigaction(SIGUSR1, &action, NULL), 0);
	for (i = 0; i < 2; i++)
		start_thread(&threads[i], flood_and_count, &devices[i]);
	for (i = 0; i < ROUNDS; i++) {
		pthread_kill(threads[i & 1], SIGUSR1);
		t_err(mmn_range_subscription_remove(&devices[2].sub), 0);
		pthread_kill(threads[!(i & 1)], SIGUSR1);
		t_err(insert(&devices[2]), 0);
	}
	stop_all();
	for (i = 0; i < 2; i++)
		join(threads[i]);
	finish();
}
