/* SPDX-License-Identifier: MIT */
/*
 * The notifier from inside: slots, promotion, counts, the wrap of sequences.
 */
#include "t/tap.h"

#include <pthread.h>
#include <stdlib.h>

#include <mmn/notifier.h>

#include "notifier/state.h"

struct driver {
	struct mmn_range_subscription sub;
	pthread_mutex_t lock;
	int calls;
	bool refuse;
	uint64_t seqs[64];
	uint64_t ids[64];
};

static struct driver *driver_of(struct mmn_range_subscription *sub)
{
	return container_of(sub, struct driver, sub);
}

static bool invalidate(struct mmn_range_subscription *sub,
		       const struct mmn_invalidate_desc *desc, uint64_t cur_seq)
{
	struct driver *driver = driver_of(sub);

	(void)desc;
	pthread_mutex_lock(&driver->lock);
	driver->ids[driver->calls++ % 64] = cur_seq;
	mmn_range_set_seq(sub, cur_seq);
	pthread_mutex_unlock(&driver->lock);
	return !driver->refuse || mmn_invalidate_is_blockable(desc);
}

static const struct mmn_range_ops ops = { .invalidate = invalidate };

static void driver_init(struct driver *driver)
{
	struct mmn_range_config config = {
		.size = sizeof(config),
		.ops = &ops,
		.lock = mmn_driver_mutex(&driver->lock),
	};

	driver->calls = 0;
	driver->refuse = false;
	pthread_mutex_init(&driver->lock, NULL);
	t_err(mmn_range_subscription_init(&driver->sub, &config), 0);
}

static struct mmn_state *new_state(void)
{
	struct mmn_state *state;

	t_may_keep_mapped(4 << 20, "memory for callbacks is kept for reuse");
	t_err(mmn_state_create(&state), 0);
	return state;
}

static bool retry(struct driver *driver, uint64_t seq)
{
	bool collided;

	pthread_mutex_lock(&driver->lock);
	collided = mmn_range_read_retry(&driver->sub, seq);
	pthread_mutex_unlock(&driver->lock);
	return collided;
}

static unsigned int slots_used(struct mmn_state *state)
{
	unsigned int i, nr = 0;

	for (i = 0; i < NR_SLOTS; i++)
		nr += !!state->slots[i].word;
	return nr;
}

static unsigned int changes_counted(struct mmn_state *state)
{
	struct change *change;
	unsigned int i, nr = 0;

	for (i = 0; i < NR_SLOTS; i++)
		nr += !!(state->slots[i].word & SLOT_COUNTED);
	list_for_each (change, &state->overflow, link)
		nr++;
	return nr;
}

static bool try_begin(struct driver *driver)
{
	uint64_t seq;

	return mmn_range_read_begin_try(&driver->sub, &seq) == 0;
}

TEST(a_miss_lives_in_a_slot_and_nowhere_else)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;

	mmn_invalidate_desc_init(&desc, state, MMN_EVENT_UNMAP, 100, 199);
	t_ok(!mmn_invalidate_open(&desc));
	t_eq(slots_used(state), 1);
	t_eq(changes_counted(state), 0);
	t_ok(mmn_invalidate_close(&desc));
	t_eq(slots_used(state), 0);
	mmn_state_put(state);
}

TEST(a_hit_is_counted_in_its_slot)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a;

	driver_init(&a);
	t_err(mmn_range_subscription_insert(&a.sub, state, 100, 199), 0);
	mmn_invalidate_desc_init(&desc, state, MMN_EVENT_UNMAP, 150, 150);
	t_err(mmn_invalidate_start(&desc), 0);
	t_eq(a.calls, 1);
	t_eq(slots_used(state), 1);
	t_eq(changes_counted(state), 1);
	t_ok(!try_begin(&a));
	t_err(mmn_invalidate_end(&desc), 0);
	t_eq(changes_counted(state), 0);
	t_ok(try_begin(&a));
	t_err(mmn_range_subscription_remove(&a.sub), 0);
	mmn_state_put(state);
}

TEST(a_change_between_subscriptions_stays_in_its_slot)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a, b;

	driver_init(&a);
	driver_init(&b);
	t_err(mmn_range_subscription_insert(&a.sub, state, 100, 199), 0);
	t_err(mmn_range_subscription_insert(&b.sub, state, 1000, 1099), 0);
	mmn_invalidate_desc_init(&desc, state, MMN_EVENT_UNMAP, 500, 599);
	t_err(mmn_invalidate_start(&desc), 0);
	t_eq(slots_used(state), 1);
	t_ok(mmn_invalidate_close(&desc));
	t_eq(a.calls + b.calls, 0);
	t_err(mmn_range_subscription_remove(&a.sub), 0);
	t_err(mmn_range_subscription_remove(&b.sub), 0);
	mmn_state_put(state);
}

TEST(an_insert_adopts_the_overlapping_changes_and_no_others)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc over, beside;
	struct driver a;
	uint64_t seq;

	mmn_invalidate_desc_init(&over, state, MMN_EVENT_UNMAP, 100, 199);
	mmn_invalidate_desc_init(&beside, state, MMN_EVENT_UNMAP, 300, 399);
	t_ok(!mmn_invalidate_open(&over));
	t_ok(!mmn_invalidate_open(&beside));
	driver_init(&a);
	t_err(mmn_range_subscription_insert(&a.sub, state, 150, 250), 0);
	t_eq(slots_used(state), 2);
	t_eq(changes_counted(state), 1);
	t_ok(!try_begin(&a));
	t_ok(mmn_invalidate_close(&beside));
	t_ok(!mmn_invalidate_close(&over));
	t_err(mmn_invalidate_end(&over), 0);
	t_eq(a.calls, 0);
	t_err(mmn_range_read_begin_try(&a.sub, &seq), 0);
	t_ok(!retry(&a, seq));
	t_err(mmn_range_subscription_remove(&a.sub), 0);
	mmn_state_put(state);
}

TEST(a_change_adopted_before_it_was_told_tells_the_older_ones)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a, b;

	driver_init(&a);
	driver_init(&b);
	t_err(mmn_range_subscription_insert(&a.sub, state, 100, 199), 0);
	mmn_invalidate_desc_init(&desc, state, MMN_EVENT_UNMAP, 100, 199);
	t_ok(mmn_invalidate_open(&desc));
	t_err(mmn_range_subscription_insert(&b.sub, state, 100, 199), 0);
	t_eq(changes_counted(state), 1);
	t_err(mmn_invalidate_notify(&desc), 0);
	t_eq(a.calls, 1);
	t_eq(b.calls, 0);
	t_ok(!try_begin(&a) && !try_begin(&b));
	t_err(mmn_invalidate_notify(&desc), -EINVAL);
	t_err(mmn_invalidate_end(&desc), 0);
	t_ok(try_begin(&a) && try_begin(&b));
	t_err(mmn_range_subscription_remove(&a.sub), 0);
	t_err(mmn_range_subscription_remove(&b.sub), 0);
	mmn_state_put(state);
}

TEST(more_changes_than_slots_go_to_the_list)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc[NR_SLOTS + 8];
	struct driver a;
	unsigned int i;

	for (i = 0; i < NR_SLOTS + 8; i++) {
		mmn_invalidate_desc_init(&desc[i], state, MMN_EVENT_UNMAP,
					 i * 10, i * 10 + 9);
		t_err(mmn_invalidate_start(&desc[i]), 0);
	}
	t_eq(slots_used(state), NR_SLOTS);
	t_eq(changes_counted(state), 8);
	driver_init(&a);
	t_err(mmn_range_subscription_insert(&a.sub, state, 0, UINTPTR_MAX), 0);
	t_eq(open_count(range_of(&a.sub)->open), NR_SLOTS + 8);
	for (i = 0; i < NR_SLOTS + 8; i++) {
		t_ok(!try_begin(&a));
		t_err(mmn_invalidate_end(&desc[i]), 0);
	}
	t_ok(try_begin(&a));
	t_err(mmn_range_subscription_remove(&a.sub), 0);
	mmn_state_put(state);
}

TEST(sequences_are_odd_and_never_zero_across_the_wrap)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a;
	uint64_t seq, last = 0;
	int i;

	state->next_seq = UINT64_MAX - 8;
	t_ok(state->next_seq & 1);
	driver_init(&a);
	t_err(mmn_range_subscription_insert(&a.sub, state, 0, 99), 0);
	for (i = 0; i < 12; i++) {
		seq = mmn_range_read_begin(&a.sub);
		t_ok(seq & 1);
		t_ne(seq, last);
		last = seq;
		mmn_invalidate_desc_init(&desc, state, MMN_EVENT_UNMAP, 0, 9);
		t_err(mmn_invalidate_start(&desc), 0);
		t_ok(retry(&a, seq));
		t_err(mmn_invalidate_end(&desc), 0);
		t_ok(retry(&a, seq));
	}
	t_eq(a.calls, 12);
	t_lt(last, 100);
	t_err(mmn_range_subscription_remove(&a.sub), 0);
	mmn_state_put(state);
}

/* Each change sees the map it was opened with; none of them waits for all. */
TEST(an_old_map_is_freed_although_some_change_is_always_open)
{
	static struct driver drivers[600];
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc first, second;
	int i;

	mmn_invalidate_desc_init(&first, state, MMN_EVENT_UNMAP, 1, 1);
	mmn_invalidate_desc_init(&second, state, MMN_EVENT_UNMAP, 1, 1);
	t_ok(!mmn_invalidate_open(&first));
	for (i = 0; i < 600; i++) {
		driver_init(&drivers[i]);
		t_err(mmn_range_subscription_insert(&drivers[i].sub, state,
						    (i + 1) * 0x10000,
						    (i + 1) * 0x10000),
		      0);
	}
	t_ok(state->filter.retired != NULL);
	t_eq(state->lookers, 1u << change_of(&first)->slot);
	t_ok(!mmn_invalidate_open(&second));
	t_ok(mmn_invalidate_close(&first));
	t_ok(state->filter.retired != NULL);
	t_err(mmn_range_subscription_remove(&drivers[0].sub), 0);
	t_ok(!state->filter.retired && !state->lookers && !state->unused);
	t_ok(mmn_invalidate_close(&second));
	for (i = 1; i < 600; i++)
		t_err(mmn_range_subscription_remove(&drivers[i].sub), 0);
	mmn_state_put(state);
}

/* All behind what the next map is filled with so far. */
static void insert_many(struct mmn_state *state, struct driver *drivers, int nr)
{
	struct mmn_range_edit edits[50];
	int i;

	for (i = 0; i < 50; i++) {
		driver_init(&drivers[i]);
		edits[i] = (struct mmn_range_edit){
			.op = MMN_RANGE_INSERT,
			.sub = &drivers[i].sub,
			.start = (uintptr_t)(nr + i + 1) * 0x10000,
			.last = (uintptr_t)(nr + i + 1) * 0x10000,
		};
	}
	t_err(mmn_range_subscription_edit(state, edits, 50), 0);
}

TEST(maps_keep_up_with_edits_of_many)
{
	static struct driver drivers[4000];
	struct mmn_state *state = new_state();
	const struct filter_map *map;
	int i;

	for (i = 0; i < 4000; i += 50) {
		insert_many(state, &drivers[i], i);
		map = state->filter.current;
		t_le(map->nr, (size_t)2 * FILTER_LINE_GRANULES << map->order);
	}
	for (i = 0; i < 4000; i++)
		t_err(mmn_range_subscription_remove(&drivers[i].sub), 0);
	mmn_state_put(state);
}

TEST(the_hull_shrinks_again)
{
	struct mmn_state *state = new_state();
	struct driver a, b;

	driver_init(&a);
	driver_init(&b);
	t_ok(!mmn_state_has_subscriptions(state));
	t_err(mmn_range_subscription_insert(&a.sub, state, 0, UINTPTR_MAX), 0);
	t_err(mmn_range_subscription_insert(&b.sub, state, 100, 199), 0);
	t_err(mmn_range_subscription_remove(&a.sub), 0);
	t_eq(state->filter.hull_lo, 100);
	t_eq(state->filter.hull_hi, 199);
	t_err(mmn_range_subscription_remove(&b.sub), 0);
	t_ok(!mmn_state_has_subscriptions(state));
	mmn_state_put(state);
}

/* ------------------------------------------------------------------ */
/* Threads                                                            */
/* ------------------------------------------------------------------ */

struct race {
	struct mmn_state *state;
	struct driver driver;
	/* what the change writes and the reader mirrors */
	uint32_t memory;
	uint32_t shadow;
	bool stop;
};

static bool tear_down(struct mmn_range_subscription *sub,
		      const struct mmn_invalidate_desc *desc, uint64_t cur_seq)
{
	struct race *race = container_of(driver_of(sub), struct race, driver);

	(void)desc;
	pthread_mutex_lock(&race->driver.lock);
	mmn_range_set_seq(sub, cur_seq);
	race->shadow = 0;
	pthread_mutex_unlock(&race->driver.lock);
	return true;
}

static const struct mmn_range_ops race_ops = { .invalidate = tear_down };

static void race_init(struct race *race)
{
	struct mmn_range_config config = {
		.size = sizeof(config),
		.ops = &race_ops,
		.lock = mmn_driver_mutex(&race->driver.lock),
	};

	race->state = new_state();
	race->memory = 1;
	race->shadow = 0;
	race->stop = false;
	pthread_mutex_init(&race->driver.lock, NULL);
	t_err(mmn_range_subscription_init(&race->driver.sub, &config), 0);
}

static uint32_t shadow_of(struct race *race)
{
	uint32_t shadow;

	pthread_mutex_lock(&race->driver.lock);
	shadow = race->shadow;
	pthread_mutex_unlock(&race->driver.lock);
	return shadow;
}

static void *change_memory(void *arg)
{
	struct mmn_invalidate_desc desc;
	struct race *race = arg;
	uint32_t i, shadow;

	for (i = 2; i < 30000; i++) {
		mmn_invalidate_desc_init(&desc, race->state, MMN_EVENT_CLEAR,
					 1000, 1999);
		t_err(mmn_invalidate_start(&desc), 0);
		/* relaxed: the notifier orders it, that is the test */
		mmn_store_relaxed(&race->memory, i);
		t_eq(shadow_of(race), 0);
		t_err(mmn_invalidate_end(&desc), 0);
		shadow = shadow_of(race);
		t_ok(shadow == 0 || shadow == i);
	}
	/* relaxed: a flag */
	mmn_store_relaxed(&race->stop, true);
	return NULL;
}

/* One device fault. */
static void mirror_once(struct race *race)
{
	uint64_t seq = mmn_range_read_begin(&race->driver.sub);
	/* relaxed: as above */
	uint32_t seen = mmn_load_relaxed(&race->memory);

	pthread_mutex_lock(&race->driver.lock);
	if (!mmn_range_read_retry(&race->driver.sub, seq))
		race->shadow = seen;
	pthread_mutex_unlock(&race->driver.lock);
}

static void clear_shadow(struct race *race)
{
	pthread_mutex_lock(&race->driver.lock);
	race->shadow = 0;
	pthread_mutex_unlock(&race->driver.lock);
}

TEST(nothing_stale_is_mirrored_while_inserts_race_with_changes, .timeout = 60)
{
	struct race race;
	pthread_t thread;
	int i;

	race_init(&race);
	t_eq(pthread_create(&thread, NULL, change_memory, &race), 0);
	while (!mmn_load_relaxed(&race.stop)) {
		t_err(mmn_range_subscription_insert(&race.driver.sub,
						    race.state, 1500, 1600),
		      0);
		for (i = 0; i < 4; i++)
			mirror_once(&race);
		/* A driver drops its entries before it unsubscribes. */
		clear_shadow(&race);
		t_err(mmn_range_subscription_remove(&race.driver.sub), 0);
	}
	t_eq(pthread_join(thread, NULL), 0);
	t_eq(slots_used(race.state), 0);
	t_eq(changes_counted(race.state), 0);
	mmn_state_put(race.state);
}

struct flood {
	struct mmn_state *state;
	unsigned int seed;
};

static void *open_and_close(void *arg)
{
	struct flood *flood = arg;
	struct mmn_invalidate_desc desc[3];
	int i, j;

	for (i = 0; i < 20000; i++) {
		for (j = 0; j < 3; j++) {
			uintptr_t start = (uintptr_t)rand_r(&flood->seed) % 64;

			mmn_invalidate_desc_init(&desc[j], flood->state,
						 MMN_EVENT_UNMAP, start,
						 start + 3);
			t_err(mmn_invalidate_start(&desc[j]), 0);
		}
		for (j = 0; j < 3; j++)
			t_err(mmn_invalidate_end(&desc[(j + i) % 3]), 0);
	}
	return NULL;
}

TEST(counts_never_drift_under_inserts_removes_and_changes, .timeout = 60)
{
	struct mmn_state *state = new_state();
	struct flood floods[2] = { { state, 1 }, { state, 2 } };
	pthread_t threads[2];
	struct driver drivers[6];
	unsigned int seed = 3, i, n;
	bool in[6] = { false };

	for (i = 0; i < 6; i++)
		driver_init(&drivers[i]);
	for (i = 0; i < 2; i++)
		t_eq(pthread_create(&threads[i], NULL, open_and_close,
				    &floods[i]),
		     0);
	for (n = 0; n < 20000; n++) {
		i = (unsigned int)rand_r(&seed) % 6;
		if (in[i])
			t_err(mmn_range_subscription_remove(&drivers[i].sub),
			      0);
		else
			t_err(mmn_range_subscription_insert(&drivers[i].sub,
							    state, i * 10,
							    i * 10 + 12),
			      0);
		in[i] = !in[i];
	}
	for (i = 0; i < 2; i++)
		t_eq(pthread_join(threads[i], NULL), 0);
	for (i = 0; i < 6; i++) {
		if (!in[i])
			continue;
		t_eq(open_count(range_of(&drivers[i].sub)->open), 0);
		t_err(mmn_range_subscription_remove(&drivers[i].sub), 0);
	}
	t_eq(slots_used(state), 0);
	t_eq(changes_counted(state), 0);
	mmn_state_put(state);
}
