/* SPDX-License-Identifier: MIT */
/*
 * The notifier under stress, judged by what a device would see.
 *
 * A memory of PAGES pages, each with an age that only grows.  Devices mirror
 * windows of it: a device is a range subscription, a lock and a shadow table
 * with the age that each page had when it was installed.  Three kinds of thread
 * do at random whatever the interface allows:
 *
 *	writers   open a change (blocking or not, by the owner of some device
 *		  or by nobody, nested, ended by somebody else, given up), grow
 *		  the ages of its pages, end it
 *	readers   read_begin, look at the ages, lock, read_retry, install; and
 *		  use what is installed, as the device does
 *	movers    remove a device, plainly or deferred, poison its memory, and
 *		  insert it over another window
 *
 * The check is physical.  Whoever holds a device's lock and finds an entry
 * there compares it with the memory: start has not returned for any change
 * that could have grown the age, so they are equal, or the device works with
 * memory that is gone.  Nothing is asserted about the library's own state.
 *
 * The tester is tested: in each broken flavour one rule of the protocol is
 * left out, by the driver or by the library, and the check must find it.
 *
 * T_TORTURE_SECONDS and T_TORTURE_SEED in the environment: longer, or again.
 * What has a count instead of a time runs to its end when the first is given.
 * T_OPERATIONS: how many operations must leave nothing behind.
 */
#include "t/tap.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <mmn/inject.h>
#include <mmn/notifier.h>

#include "base/atomic.h"

enum {
	PAGES = 256,
	PAGE = 4096,
	DEVICES = 12,
	/* Pages of the largest window. */
	WINDOW = 24,
	WRITERS = 3,
	READERS = 3,
	MOVERS = 2,
	THREADS = WRITERS + READERS + MOVERS,
	/*
	 * Changes that one writer hands to another to end: more than there are
	 * places for changes that nobody heard of.
	 */
	PARKED = 48,
};

/* What the driver of a broken flavour leaves out. */
enum flavour {
	REAL = 0,
	NO_RETRY = 1 << 0,
	NO_SET_SEQ = 1 << 1,
	NO_TEARDOWN = 1 << 2,
	END_EARLY = 1 << 3,
	NO_WAIT = 1 << 4,
	NO_NOTIFY = 1 << 5,
};

struct device {
	struct mmn_range_subscription sub;
	pthread_mutex_t lock;
	/* Where the window is; written under @moving while not inserted. */
	unsigned int first, pages;
	/* lock: the age of each page of the window, 0 for no entry */
	uint64_t shadow[WINDOW];
	/* lock: what the last callback was given */
	uint64_t last_seq;
	/* lock: the finish object is in use */
	bool is_stopping;
	/* lock: the next callback removes it */
	bool wants_out;
	struct mmn_range_finish finish;
	/* atomic: 1 once the release op has run */
	uint32_t is_released;
	/* Held by movers, and for reading by readers: "readers must be gone". */
	pthread_rwlock_t moving;
	bool is_inserted;
	bool is_two_pass;
};

struct counts {
	uint64_t changes, refused, misses, installs, retries, uses, moves;
};

static struct world {
	struct mmn_state *state;
	enum flavour flavour;
	uint64_t seed;
	struct device *device;
	/* atomic: what the pages hold */
	uint64_t age[PAGES];
	/* atomic */
	uint32_t stop;
	uint32_t next_thread;
	/* atomic: the first stale entry */
	uint32_t stale;
	unsigned int stale_page;
	uint64_t stale_age, true_age;

	pthread_mutex_t parked_lock;
	struct mmn_invalidate_desc *parked[PARKED];
	struct counts total;
} world;

struct thread {
	uint64_t random;
	struct counts counts;
};

static uint64_t random_of(struct thread *thread)
{
	/* xorshift64star */
	thread->random ^= thread->random >> 12;
	thread->random ^= thread->random << 25;
	thread->random ^= thread->random >> 27;
	return thread->random * UINT64_C(0x2545f4914f6cdd1d);
}

static unsigned int below(struct thread *thread, unsigned int limit)
{
	return (random_of(thread) >> 33) % limit;
}

static bool one_in(struct thread *thread, unsigned int n)
{
	return below(thread, n) == 0;
}

static bool is_over(void)
{
	/* relaxed: a hint to finish */
	return mmn_load_relaxed(&world.stop) || mmn_load_relaxed(&world.stale);
}

/* Stretch the place where others may come in between. */
static void linger(struct thread *thread)
{
	unsigned int spins = below(thread, 64);

	if (one_in(thread, 4))
		sched_yield();
	if (one_in(thread, 1024))
		usleep(1);
	while (spins--)
		mmn_cpu_relax();
}

/* --- the device ----------------------------------------------------------- */

static uint64_t age_of(unsigned int page)
{
	/* relaxed: what orders it is what is being tested */
	return mmn_load_relaxed(&world.age[page]);
}

/* lock held */
static void use(struct device *device, struct thread *thread)
{
	unsigned int i = below(thread, device->pages);
	uint64_t seen = device->shadow[i];
	uint64_t now = age_of(device->first + i);
	uint32_t none = 0;

	if (!seen)
		return;
	thread->counts.uses++;
	if (seen == now)
		return;
	/* relaxed: the threads are joined before it is looked at */
	if (!mmn_cmpxchg_relaxed(&world.stale, &none, 1))
		return;
	world.stale_page = device->first + i;
	world.stale_age = seen;
	world.true_age = now;
}

static struct device *device_of(struct mmn_range_subscription *sub)
{
	return (struct device *)sub;
}

/* lock held */
static void tear_down(struct device *device,
		      const struct mmn_invalidate_desc *desc)
{
	uintptr_t first = desc->start / PAGE, last = desc->last / PAGE;

	if (world.flavour & NO_TEARDOWN)
		return;
	for (unsigned int i = 0; i < device->pages; i++)
		if (device->first + i >= first && device->first + i <= last)
			device->shadow[i] = 0;
}

static bool told(struct device *device, const struct mmn_invalidate_desc *desc,
		 uint64_t cur_seq, struct mmn_range_finish **ret_finish)
{
	bool leave;
	int err;

	if (mmn_invalidate_is_blockable(desc))
		pthread_mutex_lock(&device->lock);
	else if (pthread_mutex_trylock(&device->lock))
		return false;
	if (!(world.flavour & NO_SET_SEQ))
		mmn_range_set_seq(&device->sub, cur_seq);
	device->last_seq = cur_seq;
	tear_down(device, desc);
	leave = device->wants_out;
	if (ret_finish && !device->is_stopping) {
		device->is_stopping = true;
		*ret_finish = &device->finish;
	}
	pthread_mutex_unlock(&device->lock);
	/* Several may come here at once: one of them removes it. */
	if (leave) {
		err = mmn_range_subscription_remove_deferred(&device->sub);
		t_ok(err == 0 || err == -ENOENT);
	}
	return true;
}

static bool one_pass(struct mmn_range_subscription *sub,
		     const struct mmn_invalidate_desc *desc, uint64_t cur_seq)
{
	return told(device_of(sub), desc, cur_seq, NULL);
}

/* All in the first pass when the one finish object is in use. */
static bool first_pass(struct mmn_range_subscription *sub,
		       const struct mmn_invalidate_desc *desc, uint64_t cur_seq,
		       struct mmn_range_finish **ret_finish)
{
	return told(device_of(sub), desc, cur_seq, ret_finish);
}

static void second_pass(struct mmn_range_finish *finish)
{
	struct device *device = device_of(finish->sub);

	pthread_mutex_lock(&device->lock);
	t_ok(device->is_stopping);
	device->is_stopping = false;
	pthread_mutex_unlock(&device->lock);
}

static void released(struct mmn_range_subscription *sub)
{
	/*
	 * pair(torture_release): release, with the acquire in wait_released().
	 * Without it the mover poisons the device before the last callback's
	 * accesses to it are over.
	 */
	mmn_store_release(&device_of(sub)->is_released, 1);
}

static const struct mmn_range_ops one_pass_ops = {
	.invalidate = one_pass,
	.release = released,
};

static const struct mmn_range_ops two_pass_ops = {
	.invalidate_start = first_pass,
	.invalidate_finish = second_pass,
	.release = released,
};

/* moving held for writing */
static void insert(struct device *device, struct thread *thread)
{
	bool two_pass = one_in(thread, 2);
	struct mmn_range_config config = {
		.size = sizeof(config),
		.ops = two_pass ? &two_pass_ops : &one_pass_ops,
		.lock = mmn_driver_mutex(&device->lock),
		.owner = one_in(thread, 4) ? device : NULL,
	};

	t_err(mmn_range_subscription_init(&device->sub, &config), 0);
	device->pages = 1 + below(thread, WINDOW);
	device->first = below(thread, PAGES - device->pages);
	memset(device->shadow, 0, sizeof(device->shadow));
	device->last_seq = 0;
	device->is_stopping = false;
	device->wants_out = false;
	device->is_released = 0;
	t_err(mmn_range_subscription_insert(
		      &device->sub, world.state, device->first * PAGE,
		      (uintptr_t)(device->first + device->pages) * PAGE - 1),
	      0);
	device->is_inserted = true;
}

static void wait_released(struct device *device)
{
	/*
	 * pair(torture_release): acquire, with the release in released().
	 * Without it the device is poisoned while its last callback runs.
	 */
	while (!mmn_load_acquire(&device->is_released))
		sched_yield();
}

/* Let its own callback remove it; moving held for writing. */
static void throw_out(struct device *device)
{
	uintptr_t start = (uintptr_t)device->first * PAGE;
	struct mmn_invalidate_desc desc;

	pthread_mutex_lock(&device->lock);
	device->wants_out = true;
	pthread_mutex_unlock(&device->lock);
	mmn_invalidate_desc_init(&desc, world.state, MMN_EVENT_CLEAR, start,
				 start);
	t_err(mmn_invalidate_start(&desc), 0);
	t_err(mmn_invalidate_end(&desc), 0);
	wait_released(device);
}

/* moving held for writing */
static void take_out(struct device *device, struct thread *thread)
{
	if (one_in(thread, 2)) {
		t_err(mmn_range_subscription_remove(&device->sub), 0);
	} else if (one_in(thread, 2)) {
		throw_out(device);
	} else {
		t_err(mmn_range_subscription_remove_deferred(&device->sub), 0);
		wait_released(device);
	}
	t_err(mmn_range_subscription_remove(&device->sub), -ENOENT);
	device->is_inserted = false;
	memset(&device->sub, 0xa5, sizeof(device->sub));
	memset(&device->finish, 0xa5, sizeof(device->finish));
}

/* --- the threads ---------------------------------------------------------- */

static struct device *any_device(struct thread *thread)
{
	return &world.device[below(thread, DEVICES)];
}

/*
 * A read_begin that does not wait returns what the last callback has set, while
 * the change of that callback is open.
 */
static uint64_t begin_without_wait(struct device *device)
{
	uint64_t seq;

	pthread_mutex_lock(&device->lock);
	seq = device->last_seq;
	pthread_mutex_unlock(&device->lock);
	if (!seq && mmn_range_read_begin_try(&device->sub, &seq))
		return 0;
	return seq;
}

static void read_once(struct device *device, struct thread *thread)
{
	unsigned int i = below(thread, device->pages);
	uint64_t seq, age;
	bool collided;

	if (world.flavour & NO_WAIT)
		seq = begin_without_wait(device);
	else
		seq = mmn_range_read_begin(&device->sub);
	age = age_of(device->first + i);
	linger(thread);
	if (one_in(thread, 3) && !(world.flavour & NO_RETRY) &&
	    mmn_range_check_retry(&device->sub, seq))
		goto retry;
	pthread_mutex_lock(&device->lock);
	collided = mmn_range_read_retry(&device->sub, seq);
	if (!collided || world.flavour & NO_RETRY)
		device->shadow[i] = age;
	pthread_mutex_unlock(&device->lock);
	if (collided)
		goto retry;
	thread->counts.installs++;
	return;
retry:
	thread->counts.retries++;
}

static void reader(struct thread *thread)
{
	struct device *device = any_device(thread);

	pthread_rwlock_rdlock(&device->moving);
	if (device->is_inserted) {
		for (int i = 0; i < 4; i++)
			read_once(device, thread);
		for (int i = 0; i < 8; i++) {
			linger(thread);
			pthread_mutex_lock(&device->lock);
			use(device, thread);
			pthread_mutex_unlock(&device->lock);
		}
	}
	pthread_rwlock_unlock(&device->moving);
}

static void mover(struct thread *thread)
{
	struct device *device = any_device(thread);

	linger(thread);
	if (pthread_rwlock_trywrlock(&device->moving))
		return;
	if (device->is_inserted)
		take_out(device, thread);
	else
		insert(device, thread);
	thread->counts.moves++;
	pthread_rwlock_unlock(&device->moving);
}

/* Give @desc to whoever comes next; take another, or NULL. */
static struct mmn_invalidate_desc *swap_parked(struct thread *thread,
					       struct mmn_invalidate_desc *desc)
{
	struct mmn_invalidate_desc **slot, *other;

	slot = &world.parked[below(thread, PARKED)];
	pthread_mutex_lock(&world.parked_lock);
	other = *slot;
	*slot = desc;
	pthread_mutex_unlock(&world.parked_lock);
	return other;
}

static void grow(const struct mmn_invalidate_desc *desc)
{
	for (uintptr_t i = desc->start / PAGE; i <= desc->last / PAGE; i++)
		/* relaxed: as in age_of() */
		mmn_fetch_add_relaxed(&world.age[i], 1);
}

static bool start(struct mmn_invalidate_desc *desc, struct thread *thread)
{
	int err;

	if (world.flavour & NO_NOTIFY) {
		if (!mmn_invalidate_open(desc))
			thread->counts.misses++;
		return true;
	}
	if (one_in(thread, 3)) {
		/* In two halves, as sources do. */
		if (!mmn_invalidate_open(desc)) {
			thread->counts.misses++;
			return true;
		}
		linger(thread);
		err = mmn_invalidate_notify(desc);
	} else if (one_in(thread, 2)) {
		err = mmn_invalidate_start_nonblock(desc);
	} else {
		err = mmn_invalidate_start(desc);
	}
	if (!err)
		return true;
	t_err(err, -EAGAIN);
	thread->counts.refused++;
	return false;
}

static void end(struct mmn_invalidate_desc *desc)
{
	if (mmn_invalidate_close(desc))
		return;
	t_err(mmn_invalidate_end(desc), 0);
}

static struct mmn_invalidate_desc *new_desc(struct thread *thread)
{
	struct mmn_invalidate_desc *desc = malloc(sizeof(*desc));
	unsigned int first = below(thread, PAGES), pages;

	t_ne(desc, NULL);
	pages = one_in(thread, 16) ? PAGES : 1 + below(thread, 8);
	if (pages > PAGES - first)
		pages = PAGES - first;
	mmn_invalidate_desc_init(desc, world.state, MMN_EVENT_CLEAR,
				 (uintptr_t)first * PAGE,
				 (uintptr_t)(first + pages) * PAGE - 1);
	if (one_in(thread, 8))
		desc->owner = any_device(thread);
	return desc;
}

static void change(struct thread *thread, unsigned int depth)
{
	struct mmn_invalidate_desc *desc = new_desc(thread);

	if (!start(desc, thread)) {
		free(desc);
		return;
	}
	thread->counts.changes++;
	if (world.flavour & END_EARLY)
		end(desc);
	linger(thread);
	/*
	 * Sometimes it is given up: nothing changes.  Nor when it has an owner,
	 * who is not told, and would have to look after itself.
	 */
	if (!desc->owner && !one_in(thread, 16))
		grow(desc);
	if (depth < 3 && one_in(thread, 4))
		change(thread, depth + 1);
	linger(thread);
	if (world.flavour & END_EARLY)
		goto out;
	if (one_in(thread, 4))
		desc = swap_parked(thread, desc);
	if (!desc)
		return;
	end(desc);
out:
	free(desc);
}

static void writer(struct thread *thread)
{
	struct mmn_invalidate_desc *desc;

	change(thread, 0);
	/* Nobody shall be held back for ever. */
	desc = swap_parked(thread, NULL);
	if (desc) {
		end(desc);
		free(desc);
	}
	linger(thread);
}

static void add_counts(const struct counts *counts)
{
	const uint64_t *from = (const uint64_t *)counts;
	uint64_t *to = (uint64_t *)&world.total;

	for (size_t i = 0; i < sizeof(*counts) / sizeof(*from); i++)
		/* relaxed: read after the threads were joined */
		mmn_fetch_add_relaxed(&to[i], from[i]);
}

static void *thread_main(void *arg)
{
	/* relaxed: a number for each */
	unsigned int number = mmn_fetch_add_relaxed(&world.next_thread, 1);
	struct thread thread = {
		.random = world.seed + number * UINT64_C(0x9e3779b97f4a7c15),
	};
	void (*run)(struct thread * thread);

	run = number < WRITERS		   ? writer
	      : number < WRITERS + READERS ? reader
					   : mover;
	while (!is_over())
		run(&thread);
	/* Let sleeping readers go. */
	if (run == writer)
		for (int i = 0; i < PARKED; i++) {
			struct mmn_invalidate_desc *desc;

			pthread_mutex_lock(&world.parked_lock);
			desc = world.parked[i];
			world.parked[i] = NULL;
			pthread_mutex_unlock(&world.parked_lock);
			if (desc) {
				end(desc);
				free(desc);
			}
		}
	add_counts(&thread.counts);
	return NULL;
}

static void world_init(enum flavour flavour)
{
	const char *seed = getenv("T_TORTURE_SEED");
	struct thread thread;

	t_may_keep_mapped(8u << 20, "memory for callbacks is kept");
	memset(&world, 0, sizeof(world));
	world.flavour = flavour;
	world.seed = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL);
	world.seed |= 1;
	pthread_mutex_init(&world.parked_lock, NULL);
	t_err(mmn_state_create(&world.state), 0);
	world.device = aligned_alloc(_Alignof(struct device),
				     DEVICES * sizeof(*world.device));
	t_ne(world.device, NULL);
	memset(world.device, 0, DEVICES * sizeof(*world.device));
	for (int i = 0; i < PAGES; i++)
		world.age[i] = 1;
	thread.random = world.seed;
	for (int i = 0; i < DEVICES; i++) {
		pthread_mutex_init(&world.device[i].lock, NULL);
		pthread_rwlock_init(&world.device[i].moving, NULL);
		insert(&world.device[i], &thread);
	}
}

static void world_fini(void)
{
	uint64_t seq;

	for (int i = 0; i < DEVICES; i++) {
		struct device *device = &world.device[i];

		if (!device->is_inserted)
			continue;
		/* Nothing is left open. */
		t_err(mmn_range_read_begin_try(&device->sub, &seq), 0);
		t_err(mmn_range_subscription_remove(&device->sub), 0);
	}
	mmn_state_put(world.state);
	free(world.device);
}

/* Two seconds in all, or the whole count when more time is given. */
static bool within_time(unsigned int round)
{
	static struct timespec start;
	struct timespec now;

	if (getenv("T_TORTURE_SECONDS") || round % 64)
		return true;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (!round)
		start = now;
	return now.tv_sec - start.tv_sec < 2;
}

/* Run for @seconds, or until a stale entry is found. */
static void torture(enum flavour flavour, unsigned int seconds)
{
	const char *longer = getenv("T_TORTURE_SECONDS");
	pthread_t thread[THREADS];
	struct timespec tick = { .tv_nsec = 10 * 1000 * 1000 };

	if (longer)
		seconds = atoi(longer);
	world_init(flavour);
	t_note("torture: seed %#llx, %u s, %d devices, %d writers, "
	       "%d readers, %d movers",
	       (unsigned long long)world.seed, seconds, DEVICES, WRITERS,
	       READERS, MOVERS);
	for (int i = 0; i < THREADS; i++)
		t_eq(pthread_create(&thread[i], NULL, thread_main, NULL), 0);
	for (unsigned int i = 0; i < seconds * 100 && !is_over(); i++)
		nanosleep(&tick, NULL);
	/* relaxed: a hint to finish */
	mmn_store_relaxed(&world.stop, 1);
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	t_note("torture: %llu changes, %llu refused, %llu missed, "
	       "%llu installs, %llu retries, %llu uses, %llu moves",
	       (unsigned long long)world.total.changes,
	       (unsigned long long)world.total.refused,
	       (unsigned long long)world.total.misses,
	       (unsigned long long)world.total.installs,
	       (unsigned long long)world.total.retries,
	       (unsigned long long)world.total.uses,
	       (unsigned long long)world.total.moves);
	if (world.stale)
		t_note("torture: page %u was used with age %llu, it has %llu",
		       world.stale_page, (unsigned long long)world.stale_age,
		       (unsigned long long)world.true_age);
	t_note("torture: %s", world.stale ? "FAILURE" : "SUCCESS");
	world_fini();
}

static void expect_caught(enum flavour flavour)
{
	torture(flavour, 10);
	t_ok(world.stale);
}

TEST(no_device_uses_a_stale_entry, .timeout = 24 * 3600)
{
	torture(REAL, 2);
	t_ok(!world.stale);
	t_gt(world.total.changes, 0);
	t_gt(world.total.installs, 0);
	t_gt(world.total.retries, 0);
	t_gt(world.total.uses, 0);
	t_gt(world.total.moves, 0);
}

static void *flood_main(void *arg)
{
	while (!is_over()) {
		struct mmn_invalidate_desc desc;

		mmn_invalidate_desc_init(&desc, world.state, MMN_EVENT_CLEAR, 0,
					 (uintptr_t)PAGES * PAGE - 1);
		t_err(mmn_invalidate_start(&desc), 0);
		t_err(mmn_invalidate_end(&desc), 0);
	}
	return NULL;
}

static void expect_poison(const struct device *device)
{
	const unsigned char *bytes = (const unsigned char *)&device->sub;

	for (size_t i = 0; i < sizeof(device->sub); i++)
		if (bytes[i] != 0xa5)
			t_fail("byte %zu was written after remove", i);
}

/*
 * case 79 in full: each round inserts one device and removes another, which is
 * poisoned and looked at again a round later.
 */
TEST(nothing_is_written_to_a_device_after_its_removal, .timeout = 24 * 3600)
{
	enum { ROUNDS = 1000 * 1000 };
	struct thread thread = { .random = 1 };
	pthread_t flood;

	world_init(REAL);
	for (int i = 0; i < DEVICES; i++)
		take_out(&world.device[i], &thread);
	t_eq(pthread_create(&flood, NULL, flood_main, NULL), 0);
	for (unsigned int i = 0; i < ROUNDS && within_time(i); i++) {
		struct device *device = &world.device[i % 2];

		expect_poison(device);
		insert(device, &thread);
		expect_poison(&world.device[!(i % 2)]);
		take_out(device, &thread);
	}
	/* relaxed: a hint to finish */
	mmn_store_relaxed(&world.stop, 1);
	pthread_join(flood, NULL);
	world_fini();
}

/* case 69 in full: as many refusals as acceptances, and nothing adds up. */
TEST(refusals_leave_no_trace_however_many, .timeout = 24 * 3600)
{
	enum { ROUNDS = 1000 * 1000 };
	struct thread thread = { .random = 1 };
	struct mmn_invalidate_desc desc;
	unsigned int refused = 0, i;

	world_init(REAL);
	for (i = 0; i < ROUNDS && within_time(i); i++) {
		struct device *device = &world.device[below(&thread, DEVICES)];

		if (i & 1)
			pthread_mutex_lock(&device->lock);
		mmn_invalidate_desc_init(&desc, world.state, MMN_EVENT_CLEAR, 0,
					 (uintptr_t)PAGES * PAGE - 1);
		if (mmn_invalidate_start_nonblock(&desc))
			refused++;
		else
			t_err(mmn_invalidate_end(&desc), 0);
		if (i & 1)
			pthread_mutex_unlock(&device->lock);
	}
	t_eq(refused, i / 2);
	world_fini();
}

static unsigned long pages_mapped(void)
{
	unsigned long pages = 0;
	FILE *file = fopen("/proc/self/statm", "r");

	t_ne(file, NULL);
	t_eq(fscanf(file, "%lu", &pages), 1);
	fclose(file);
	return pages;
}

/* Nobody else is there: insert, many changes of both kinds, remove. */
static void many_operations(unsigned long nr)
{
	struct thread thread = { .random = 1 };
	struct mmn_invalidate_desc desc[2];
	struct device *device;
	unsigned long i;

	for (i = 0; i < nr; i += 8) {
		device = &world.device[i / 8 % DEVICES];
		take_out(device, &thread);
		insert(device, &thread);
		for (int n = 0; n < 2; n++) {
			mmn_invalidate_desc_init(
				&desc[n], world.state, MMN_EVENT_CLEAR,
				(uintptr_t)device->first * PAGE,
				(uintptr_t)device->first * PAGE + n);
			t_err(mmn_invalidate_start(&desc[n]), 0);
		}
		for (int n = 0; n < 2; n++)
			t_err(mmn_invalidate_end(&desc[n]), 0);
		mmn_invalidate_desc_init(&desc[0], world.state, MMN_EVENT_CLEAR,
					 (uintptr_t)PAGES * PAGE,
					 (uintptr_t)PAGES * PAGE);
		t_err(mmn_invalidate_start(&desc[0]), 0);
		t_err(mmn_invalidate_end(&desc[0]), 0);
	}
}

TEST(many_operations_leave_nothing_behind, .timeout = 24 * 3600)
{
	const char *given = getenv("T_OPERATIONS");
	unsigned long nr = given ? strtoul(given, NULL, 0) : 40000;
	unsigned long pages;

	world_init(REAL);
	many_operations(nr / 16);
	pages = pages_mapped();
	many_operations(nr);
	t_le(pages_mapped(), pages);
	world_fini();
}

/* Threads stop at the places where they race, and are refused for nothing. */
TEST(no_device_uses_a_stale_entry_when_threads_are_held_up,
     .timeout = 24 * 3600)
{
	t_err(mmn_inject_set(MMN_INJECT_DELAY, 20, 1), 0);
	t_err(mmn_inject_set(MMN_INJECT_RETRY, 50, 2), 0);
	t_err(mmn_inject_set(MMN_INJECT_REFUSE, 50, 3), 0);
	torture(REAL, 2);
	t_ok(!world.stale);
	t_gt(mmn_inject_hits(MMN_INJECT_DELAY), 0);
	t_gt(mmn_inject_hits(MMN_INJECT_RETRY), 0);
	t_gt(mmn_inject_hits(MMN_INJECT_REFUSE), 0);
	t_gt(world.total.installs, 0);
}

/* The same by the library's own hand. */
TEST(library_that_skips_the_retry_is_caught)
{
	t_err(mmn_inject_set(MMN_INJECT_RETRY_SKIP, 1, 1), 0);
	expect_caught(REAL);
}

TEST(library_that_skips_set_seq_is_caught)
{
	t_err(mmn_inject_set(MMN_INJECT_SEQ_SKIP, 1, 1), 0);
	expect_caught(REAL);
}

TEST(install_without_retry_is_caught)
{
	expect_caught(NO_RETRY);
}

TEST(callback_without_set_seq_is_caught)
{
	expect_caught(NO_SET_SEQ);
}

TEST(callback_without_teardown_is_caught)
{
	expect_caught(NO_TEARDOWN);
}

TEST(reader_that_does_not_wait_is_caught)
{
	expect_caught(NO_WAIT);
}

TEST(end_before_the_change_is_caught)
{
	expect_caught(END_EARLY);
}

TEST(change_that_is_not_told_is_caught)
{
	expect_caught(NO_NOTIFY);
}
