/* SPDX-License-Identifier: MIT */
/*
 * Range subscriptions, judged by what a device would see.
 *
 * A memory of PAGES pages, each with an age that only grows.  Devices mirror
 * windows of it: a device is a range subscription, a lock and a shadow table
 * with the age that each page had when it was installed.  Three kinds of actor:
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
 * memory that is gone.  Nothing is asserted about the library's own state.  The
 * poison is looked at when the device is next inserted: nothing may have been
 * written to a device after its removal.
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include <mmn/notifier.h>

#include "torture.h"

enum {
	PAGES = 256,
	PAGE = 4096,
	DEVICES = 12,
	/* Pages of the largest window. */
	WINDOW = 24,
	/*
	 * Changes that one writer hands to another to end: more than there are
	 * places for changes that nobody heard of.
	 */
	PARKED = 48,
	POISON = 0xa5,
};

enum {
	NO_RETRY = 1 << 0,
	NO_SET_SEQ = 1 << 1,
	NO_TEARDOWN = 1 << 2,
	END_EARLY = 1 << 3,
	NO_WAIT = 1 << 4,
	NO_NOTIFY = 1 << 5,
};

static const struct flavour flavours[] = {
	BROKEN("no-retry", "an entry is installed without read_retry",
	       NO_RETRY),
	BROKEN("no-set-seq", "callbacks do not set the sequence", NO_SET_SEQ),
	BROKEN("no-teardown", "callbacks leave the entries", NO_TEARDOWN),
	BROKEN("no-wait", "readers do not wait for open changes", NO_WAIT),
	BROKEN("no-notify", "callbacks of changes are not called", NO_NOTIFY),
	BROKEN("end-early", "changes are ended before they are made",
	       END_EARLY),
	BROKEN_LIBRARY("retry-skip", "the library does not report collisions",
		       MMN_INJECT_RETRY_SKIP, 1),
	BROKEN_LIBRARY("seq-skip", "the library does not set the sequence",
		       MMN_INJECT_SEQ_SKIP, 1),
	{ 0 },
};

enum {
	CHANGES,
	INSTALLS,
	RETRIES,
	USES,
	MOVES,
	REFUSED,
	MISSES,
};

struct device {
	struct mmn_range_subscription sub;
	pthread_mutex_t lock;
	/* Where the window is; written under @moving while not inserted. */
	uint32_t first, pages;
	/* lock: the age of each page of the window, 0 for no entry */
	uint64_t shadow[WINDOW];
	/* lock: what the last callback was given */
	uint64_t last_seq;
	/* lock: the finish object is in use */
	bool is_stopping;
	/* lock: the next callback removes it */
	bool wants_out;
	/* lock: the release op has run */
	bool is_released;
	struct mmn_range_finish finish;
	/* Held by movers, and for reading by readers: "readers must be gone". */
	pthread_rwlock_t moving;
	bool is_inserted;
};

static struct world {
	struct mmn_state *state;
	struct device *devices;
	/* atomic: what the pages hold */
	uint64_t age[PAGES];
	pthread_mutex_t parked_lock;
	/* parked_lock */
	struct mmn_invalidate_desc *parked[PARKED];
} world;

/* --- the device ----------------------------------------------------------- */

static uint64_t age_of(uint32_t page)
{
	/* relaxed: what orders it is what is being tested */
	return mmn_load_relaxed(&world.age[page]);
}

/* lock held */
static void use(struct device *device)
{
	uint32_t i = below(device->pages), page = device->first + i;
	uint64_t seen = device->shadow[i], age = age_of(page);

	if (!seen)
		return;
	tally(USES);
	note_lag(age - seen);
	if (seen == age)
		return;
	note("use", page, seen);
	fail(page, "page %u was used with age %llu, it has %llu", page,
	     (unsigned long long)seen, (unsigned long long)age);
}

static struct device *device_of(struct mmn_range_subscription *sub)
{
	return (struct device *)sub;
}

/* lock held */
static void tear_down_range(struct device *device,
			    const struct mmn_invalidate_desc *desc)
{
	uint32_t first = (uint32_t)(desc->start / PAGE);
	uint32_t last = (uint32_t)(desc->last / PAGE), i;

	if (is_broken(NO_TEARDOWN))
		return;
	note_range("tear", first, last, NO_VALUE);
	for (i = 0; i < device->pages; i++)
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
	if (!is_broken(NO_SET_SEQ))
		mmn_range_set_seq(&device->sub, cur_seq);
	device->last_seq = cur_seq;
	tear_down_range(device, desc);
	leave = device->wants_out;
	if (ret_finish && !device->is_stopping) {
		device->is_stopping = true;
		*ret_finish = &device->finish;
	}
	pthread_mutex_unlock(&device->lock);
	/* Several may come here at once: one of them removes it. */
	if (leave) {
		err = mmn_range_subscription_remove_deferred(&device->sub);
		must(err == 0 || err == -ENOENT);
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
	must(device->is_stopping);
	device->is_stopping = false;
	pthread_mutex_unlock(&device->lock);
}

static void released(struct mmn_range_subscription *sub)
{
	struct device *device = device_of(sub);

	pthread_mutex_lock(&device->lock);
	device->is_released = true;
	pthread_mutex_unlock(&device->lock);
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

static void expect_poison(const struct device *device)
{
	const unsigned char *bytes = (const unsigned char *)&device->sub;
	size_t i;

	for (i = 0; i < sizeof(device->sub); i++)
		if (bytes[i] != POISON)
			fail(NOWHERE, "byte %zu was written after remove", i);
}

/* moving held for writing */
static void insert(struct device *device)
{
	struct mmn_range_config config = {
		.size = sizeof(config),
		.ops = one_in(2) ? &two_pass_ops : &one_pass_ops,
		.lock = mmn_driver_mutex(&device->lock),
		.owner = one_in(4) ? device : NULL,
	};

	expect_poison(device);
	must(!mmn_range_subscription_init(&device->sub, &config));
	device->pages = 1 + below(WINDOW);
	device->first = below(PAGES - device->pages);
	memset(device->shadow, 0, sizeof(device->shadow));
	device->last_seq = 0;
	device->is_stopping = false;
	device->wants_out = false;
	device->is_released = false;
	must(!mmn_range_subscription_insert(
		&device->sub, world.state, (uintptr_t)device->first * PAGE,
		(uintptr_t)(device->first + device->pages) * PAGE - 1));
	note_range("insert", device->first, device->first + device->pages - 1,
		   NO_VALUE);
	device->is_inserted = true;
}

static void wait_released(struct device *device)
{
	bool is_released = false;

	while (!is_released) {
		sched_yield();
		pthread_mutex_lock(&device->lock);
		is_released = device->is_released;
		pthread_mutex_unlock(&device->lock);
	}
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
	must(!mmn_invalidate_start(&desc));
	must(!mmn_invalidate_end(&desc));
	wait_released(device);
}

/* moving held for writing */
static void take_out(struct device *device)
{
	if (one_in(2)) {
		must(!mmn_range_subscription_remove(&device->sub));
	} else if (one_in(2)) {
		throw_out(device);
	} else {
		must(!mmn_range_subscription_remove_deferred(&device->sub));
		wait_released(device);
	}
	must(mmn_range_subscription_remove(&device->sub) == -ENOENT);
	note_range("remove", device->first, device->first + device->pages - 1,
		   NO_VALUE);
	device->is_inserted = false;
	memset(&device->sub, POISON, sizeof(device->sub));
	memset(&device->finish, POISON, sizeof(device->finish));
}

/* --- the actors ----------------------------------------------------------- */

static struct device *any_device(void)
{
	return &world.devices[below(DEVICES)];
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

static void read_once(struct device *device)
{
	uint32_t i = below(device->pages), page = device->first + i;
	uint64_t seq, age;
	bool collided;

	if (is_broken(NO_WAIT))
		seq = begin_without_wait(device);
	else
		seq = mmn_range_read_begin(&device->sub);
	age = age_of(page);
	note("look", page, age);
	linger();
	if (one_in(3) && !is_broken(NO_RETRY) &&
	    mmn_range_check_retry(&device->sub, seq))
		goto retry;
	pthread_mutex_lock(&device->lock);
	collided = mmn_range_read_retry(&device->sub, seq);
	if (!collided || is_broken(NO_RETRY)) {
		note("install", page, age);
		device->shadow[i] = age;
	}
	pthread_mutex_unlock(&device->lock);
	if (collided)
		goto retry;
	tally(INSTALLS);
	return;
retry:
	note("retry", page, NO_VALUE);
	tally(RETRIES);
}

static void reader(void)
{
	struct device *device = any_device();
	int i;

	pthread_rwlock_rdlock(&device->moving);
	for (i = 0; i < 4 && device->is_inserted; i++)
		read_once(device);
	for (i = 0; i < 8 && device->is_inserted; i++) {
		linger();
		pthread_mutex_lock(&device->lock);
		use(device);
		pthread_mutex_unlock(&device->lock);
	}
	pthread_rwlock_unlock(&device->moving);
}

static void mover(void)
{
	struct device *device = any_device();

	linger();
	if (pthread_rwlock_trywrlock(&device->moving))
		return;
	if (device->is_inserted)
		take_out(device);
	else
		insert(device);
	tally(MOVES);
	pthread_rwlock_unlock(&device->moving);
}

/* Give @desc to whoever comes next; take another, or NULL. */
static struct mmn_invalidate_desc *swap_parked(uint32_t slot,
					       struct mmn_invalidate_desc *desc)
{
	struct mmn_invalidate_desc *other;

	pthread_mutex_lock(&world.parked_lock);
	other = world.parked[slot];
	world.parked[slot] = desc;
	pthread_mutex_unlock(&world.parked_lock);
	return other;
}

static void note_change(const char *what,
			const struct mmn_invalidate_desc *desc)
{
	note_range(what, (uint32_t)(desc->start / PAGE),
		   (uint32_t)(desc->last / PAGE), NO_VALUE);
}

static void grow(const struct mmn_invalidate_desc *desc)
{
	uintptr_t i;

	note_change("change", desc);
	for (i = desc->start / PAGE; i <= desc->last / PAGE; i++)
		/* relaxed: as in age_of() */
		mmn_fetch_add_relaxed(&world.age[i], 1);
}

/* In two halves, as sources do. */
static int start_halves(struct mmn_invalidate_desc *desc)
{
	if (!mmn_invalidate_open(desc)) {
		tally(MISSES);
		return 0;
	}
	if (is_broken(NO_NOTIFY))
		return 0;
	linger();
	return mmn_invalidate_notify(desc);
}

static bool start(struct mmn_invalidate_desc *desc)
{
	int err;

	note_change("start", desc);
	if (is_broken(NO_NOTIFY) || one_in(3))
		err = start_halves(desc);
	else if (one_in(2))
		err = mmn_invalidate_start_nonblock(desc);
	else
		err = mmn_invalidate_start(desc);
	if (!err)
		return true;
	note_change("refused", desc);
	must(err == -EAGAIN);
	tally(REFUSED);
	return false;
}

static void end(struct mmn_invalidate_desc *desc)
{
	if (!desc)
		return;
	note_change("end", desc);
	if (!mmn_invalidate_close(desc))
		must(!mmn_invalidate_end(desc));
}

static void end_and_free(struct mmn_invalidate_desc *desc)
{
	end(desc);
	free(desc);
}

static struct mmn_invalidate_desc *new_desc(void)
{
	struct mmn_invalidate_desc *desc = malloc(sizeof(*desc));
	uint32_t first = below(PAGES), pages;

	if (!desc)
		return NULL;
	pages = one_in(16) ? PAGES : 1 + below(8);
	if (pages > PAGES - first)
		pages = PAGES - first;
	mmn_invalidate_desc_init(desc, world.state, MMN_EVENT_CLEAR,
				 (uintptr_t)first * PAGE,
				 (uintptr_t)(first + pages) * PAGE - 1);
	if (one_in(8))
		desc->owner = any_device();
	return desc;
}

static void change(uint32_t depth)
{
	struct mmn_invalidate_desc *desc = new_desc();

	if (!desc)
		return;
	if (!start(desc)) {
		free(desc);
		return;
	}
	tally(CHANGES);
	if (is_broken(END_EARLY))
		end(desc);
	linger();
	/*
	 * Sometimes it is given up: nothing changes.  Nor when it has an owner,
	 * who is not told, and would have to look after itself.
	 */
	if (!desc->owner && !one_in(16))
		grow(desc);
	if (depth < 3 && one_in(4))
		change(depth + 1);
	linger();
	if (is_broken(END_EARLY)) {
		free(desc);
		return;
	}
	if (one_in(4))
		desc = swap_parked(below(PARKED), desc);
	end_and_free(desc);
}

static void writer(void)
{
	change(0);
	/* Nobody shall be held back for ever. */
	end_and_free(swap_parked(below(PARKED), NULL));
	linger();
}

/* Let sleeping readers go. */
static void end_parked(void)
{
	uint32_t i;

	for (i = 0; i < PARKED; i++)
		end_and_free(swap_parked(i, NULL));
}

/* --- beginning and end ---------------------------------------------------- */

static int set_up(void)
{
	struct device *device;
	uint32_t i;
	int err;

	memset(&world, 0, sizeof(world));
	err = mmn_state_create(&world.state);
	if (err)
		return err;
	world.devices = aligned_alloc(_Alignof(struct device),
				      DEVICES * sizeof(*world.devices));
	if (!world.devices) {
		mmn_state_put(world.state);
		return -ENOMEM;
	}
	memset(world.devices, 0, DEVICES * sizeof(*world.devices));
	pthread_mutex_init(&world.parked_lock, NULL);
	for (i = 0; i < PAGES; i++)
		world.age[i] = 1;
	for (i = 0; i < DEVICES; i++) {
		device = &world.devices[i];
		pthread_mutex_init(&device->lock, NULL);
		pthread_rwlock_init(&device->moving, NULL);
		memset(&device->sub, POISON, sizeof(device->sub));
		insert(device);
	}
	return 0;
}

static void tear_down(void)
{
	struct device *device;
	uint64_t seq;
	uint32_t i;

	for (i = 0; i < DEVICES; i++) {
		device = &world.devices[i];
		if (device->is_inserted) {
			/* Nothing is left open, refusals left no trace. */
			must(!mmn_range_read_begin_try(&device->sub, &seq));
			must(!mmn_range_subscription_remove(&device->sub));
		} else {
			expect_poison(device);
		}
		pthread_rwlock_destroy(&device->moving);
		pthread_mutex_destroy(&device->lock);
	}
	pthread_mutex_destroy(&world.parked_lock);
	mmn_state_put(world.state);
	free(world.devices);
}

const struct scenario notifier_scenario = {
	.name = "notifier",
	.what = "range subscriptions, judged by what a device would see",
	.place = "page",
	.flavours = flavours,
	.roles = { ROLE("writer", 3, writer, end_parked),
		   ROLE("reader", 3, reader, NULL),
		   ROLE("mover", 2, mover, NULL) },
	.counters = { "changes", "installs", "retries", "uses", "moves",
		      "refused", "missed" },
	.nr_musts = MOVES + 1,
	.set_up = set_up,
	.tear_down = tear_down,
};
