/* SPDX-License-Identifier: MIT */
/*
 * Classic subscribers.
 *
 * A memory of pages with ages that only grow, and guests that map them as
 * virtual machines do: the start of a change raises a count and takes entries
 * down, its end lowers the count and raises a number; a fault reads the number,
 * looks at the age, and installs it under the lock unless the count is not 0 or
 * the number has moved.  Whoever uses an entry under the lock compares it with
 * the memory.  Beside them come and go subscribers that keep a list of the
 * changes that they were told the start of, and check what the contract
 * promises:
 *
 *   - an end comes only for a change whose start it was told of and accepted,
 *     and once;
 *   - no callback comes before register, after unregister, or after the free;
 *   - release is called once, free once, and synchronize waits for it.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <mmn/memory.h>
#include <mmn/notifier.h>

#include "torture.h"

enum {
	PAGES = 64,
	PAGE = 4096,
	GUESTS = 3,
	/* Changes that one changer leaves for another to end. */
	PARKED = 6,
	MAX_OPEN = PARKED + MAX_CROWD + 1,
	LIVE = 0x6c697665,
};

enum {
	NO_COUNT = 1 << 0,
	NO_NUMBER = 1 << 1,
	NO_ZAP = 1 << 2,
	POISON_EARLY = 1 << 3,
	USE_AFTER_PUT = 1 << 4,
};

static const struct flavour flavours[] = {
	BROKEN("no-count", "guests install while a change is open", NO_COUNT),
	BROKEN("no-number", "guests do not notice a change that is over",
	       NO_NUMBER),
	BROKEN("no-zap", "guests keep their entries", NO_ZAP),
	BROKEN("poison-early", "a subscriber goes before it is unregistered",
	       POISON_EARLY),
	BROKEN("use-after-put", "a subscriber is used without a reference",
	       USE_AFTER_PUT),
	{ 0 },
};

enum {
	CHANGES,
	STARTS,
	ENDS,
	REFUSED,
	REGISTERED,
	SHARED,
	INSTALLS,
	USES,
	NO_MEMORY,
};

struct guest {
	struct mmn_subscription sub;
	pthread_mutex_t lock;
	/* lock */
	uint32_t nr_open;
	uint64_t number;
	/* lock: the age of each page when it was installed, 0 for no entry */
	uint64_t entry[PAGES];
};

struct subscriber {
	struct mmn_subscription sub;
	pthread_mutex_t lock;
	/* lock */
	const struct mmn_invalidate_desc *open[MAX_OPEN];
	/* atomic: LIVE from before register to after unregister */
	uint32_t magic;
	/* atomic */
	uint32_t releases;
	struct subscriber *next;
};

static struct world {
	struct mmn_state *state;
	struct guest guests[GUESTS];
	/* atomic: what the pages hold */
	uint64_t age[PAGES];
	pthread_mutex_t parked_lock;
	/* parked_lock */
	struct mmn_invalidate_desc *parked[PARKED];
	/* parked_lock: poisoned, and looked at all the same */
	struct subscriber *kept;
	/* atomic */
	uint64_t allocated, freed;
} world;

static uint64_t age_of(uint32_t page)
{
	/* relaxed: what orders it is what is being tested */
	return mmn_load_relaxed(&world.age[page]);
}

static void note_change(const char *what,
			const struct mmn_invalidate_desc *desc)
{
	note_range(what, (uint32_t)(desc->start / PAGE),
		   (uint32_t)(desc->last / PAGE), NO_VALUE);
}

/* --- guests --------------------------------------------------------------- */

static int guest_start(struct mmn_subscription *sub,
		       const struct mmn_invalidate_desc *desc)
{
	struct guest *guest = (struct guest *)sub;
	uintptr_t i;

	pthread_mutex_lock(&guest->lock);
	guest->nr_open++;
	for (i = desc->start / PAGE; i <= desc->last / PAGE; i++)
		if (!is_broken(NO_ZAP))
			guest->entry[i] = 0;
	note_change("zap", desc);
	pthread_mutex_unlock(&guest->lock);
	return 0;
}

static void guest_end(struct mmn_subscription *sub,
		      const struct mmn_invalidate_desc *desc)
{
	struct guest *guest = (struct guest *)sub;

	(void)desc;
	pthread_mutex_lock(&guest->lock);
	must(guest->nr_open > 0);
	guest->nr_open--;
	guest->number++;
	pthread_mutex_unlock(&guest->lock);
}

static const struct mmn_subscription_ops guest_ops = {
	.invalidate_range_start = guest_start,
	.invalidate_range_end = guest_end,
};

static void guest_use(struct guest *guest, uint32_t page)
{
	uint64_t seen, age;

	pthread_mutex_lock(&guest->lock);
	seen = guest->entry[page];
	age = age_of(page);
	if (seen) {
		tally(USES);
		note_lag(age - seen);
	}
	if (seen && seen != age) {
		note("use", page, seen);
		fail(page, "page %u was used with age %llu, it has %llu", page,
		     (unsigned long long)seen, (unsigned long long)age);
	}
	pthread_mutex_unlock(&guest->lock);
}

static void guest_fault(struct guest *guest, uint32_t page)
{
	uint64_t number, age;

	pthread_mutex_lock(&guest->lock);
	number = guest->number;
	pthread_mutex_unlock(&guest->lock);
	age = age_of(page);
	note("look", page, age);
	linger();
	pthread_mutex_lock(&guest->lock);
	if ((!guest->nr_open || is_broken(NO_COUNT)) &&
	    (number == guest->number || is_broken(NO_NUMBER))) {
		tally(INSTALLS);
		note("install", page, age);
		guest->entry[page] = age;
	}
	pthread_mutex_unlock(&guest->lock);
}

static void virtual_cpu(void)
{
	struct guest *guest = &world.guests[below(GUESTS)];
	uint32_t first = below(PAGES), i;

	for (i = 0; i < 4; i++)
		guest_fault(guest, (first + i) % PAGES);
	linger();
	for (i = 0; i < 8; i++)
		guest_use(guest, (first + i) % PAGES);
}

/* --- subscribers ---------------------------------------------------------- */

static struct subscriber *subscriber_of(struct mmn_subscription *sub)
{
	struct subscriber *subscriber = (struct subscriber *)sub;

	/* relaxed: a callback that comes too late is not ordered, but wrong */
	if (mmn_load_relaxed(&subscriber->magic) != LIVE)
		fail(NOWHERE, "a subscriber was used that is gone");
	return subscriber;
}

/* Where @desc is in the list, or an empty place for NULL; lock held. */
static uint32_t find(struct subscriber *subscriber,
		     const struct mmn_invalidate_desc *desc)
{
	uint32_t i;

	for (i = 0; i < MAX_OPEN; i++)
		if (subscriber->open[i] == desc)
			return i;
	return MAX_OPEN;
}

static int told_start(struct mmn_subscription *sub,
		      const struct mmn_invalidate_desc *desc)
{
	struct subscriber *subscriber = subscriber_of(sub);
	uint32_t at;

	tally(STARTS);
	pthread_mutex_lock(&subscriber->lock);
	must(find(subscriber, desc) == MAX_OPEN);
	at = find(subscriber, NULL);
	if (must(at < MAX_OPEN))
		subscriber->open[at] = desc;
	pthread_mutex_unlock(&subscriber->lock);
	return 0;
}

static void told_end(struct mmn_subscription *sub,
		     const struct mmn_invalidate_desc *desc)
{
	struct subscriber *subscriber = subscriber_of(sub);
	uint32_t at;

	tally(ENDS);
	pthread_mutex_lock(&subscriber->lock);
	at = find(subscriber, desc);
	if (must(at < MAX_OPEN))
		subscriber->open[at] = NULL;
	pthread_mutex_unlock(&subscriber->lock);
}

/* Refuses one change in four that may not sleep. */
static int refuse_start(struct mmn_subscription *sub,
			const struct mmn_invalidate_desc *desc)
{
	subscriber_of(sub);
	if (mmn_invalidate_is_blockable(desc) || desc->start / PAGE % 4)
		return 0;
	return -EAGAIN;
}

static void released(struct mmn_subscription *sub, struct mmn_state *state)
{
	struct subscriber *subscriber = subscriber_of(sub);

	must(state == world.state);
	/* relaxed: it is once, or wrong */
	must(mmn_fetch_add_relaxed(&subscriber->releases, 1) == 0);
}

static const struct mmn_subscription_ops telling_ops = {
	.release = released,
	.invalidate_range_start = told_start,
	.invalidate_range_end = told_end,
};

static const struct mmn_subscription_ops refusing_ops = {
	.release = released,
	.invalidate_range_start = refuse_start,
};

static void subscriber_init(struct subscriber *subscriber)
{
	memset(subscriber, 0, sizeof(*subscriber));
	pthread_mutex_init(&subscriber->lock, NULL);
	subscriber->magic = LIVE;
}

static int allocate(struct mmn_state *state, struct mmn_subscription **ret_sub)
{
	struct subscriber *subscriber = mmn_callback_alloc(sizeof(*subscriber));

	(void)state;
	if (!subscriber)
		return -ENOMEM;
	subscriber_init(subscriber);
	/* relaxed: compared when the threads are joined */
	mmn_fetch_add_relaxed(&world.allocated, 1);
	*ret_sub = &subscriber->sub;
	return 0;
}

/* A change may be open still: an unregistered one sees no end of it. */
static void poison(struct subscriber *subscriber)
{
	/* relaxed: who reads it now is wrong already */
	mmn_store_relaxed(&subscriber->magic, 0xa5a5a5a5);
	pthread_mutex_destroy(&subscriber->lock);
}

static void keep(struct subscriber *subscriber)
{
	pthread_mutex_lock(&world.parked_lock);
	subscriber->next = world.kept;
	world.kept = subscriber;
	pthread_mutex_unlock(&world.parked_lock);
}

static void free_shared(struct mmn_subscription *sub)
{
	struct subscriber *subscriber = subscriber_of(sub);

	poison(subscriber);
	if (is_broken(USE_AFTER_PUT))
		keep(subscriber);
	else
		mmn_callback_free(subscriber);
	/* relaxed: as in allocate() */
	mmn_fetch_add_relaxed(&world.freed, 1);
}

static const struct mmn_subscription_ops shared_ops[2] = {
	{
		.invalidate_range_start = told_start,
		.invalidate_range_end = told_end,
		.alloc_subscription = allocate,
		.free_subscription = free_shared,
	},
	{
		.invalidate_range_start = refuse_start,
		.alloc_subscription = allocate,
		.free_subscription = free_shared,
	},
};

/* --- the actors ----------------------------------------------------------- */

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

static void end(struct mmn_invalidate_desc *desc)
{
	if (!desc)
		return;
	note_change("end", desc);
	must(!mmn_invalidate_end(desc));
	free(desc);
}

static void grow(const struct mmn_invalidate_desc *desc)
{
	uintptr_t i;

	note_change("change", desc);
	for (i = desc->start / PAGE; i <= desc->last / PAGE; i++)
		/* relaxed: as in age_of() */
		mmn_fetch_add_relaxed(&world.age[i], 1);
}

static void changer(void)
{
	struct mmn_invalidate_desc *desc = malloc(sizeof(*desc));
	uint32_t page = below(PAGES), last = page + below(PAGES - page);
	int err;

	if (!desc)
		return;
	mmn_invalidate_desc_init(desc, world.state, MMN_EVENT_CLEAR,
				 (uintptr_t)page * PAGE,
				 (uintptr_t)last * PAGE + PAGE - 1);
	note_change("start", desc);
	err = one_in(2) ? mmn_invalidate_start_nonblock(desc)
			: mmn_invalidate_start(desc);
	if (err) {
		must(err == -EAGAIN);
		tally(REFUSED);
		free(desc);
		return;
	}
	tally(CHANGES);
	linger();
	grow(desc);
	linger();
	end(one_in(4) ? swap_parked(below(PARKED), desc) : desc);
	/* Nobody who registers shall wait for ever. */
	end(swap_parked(below(PARKED), NULL));
}

static void end_parked(void)
{
	uint32_t i;

	for (i = 0; i < PARKED; i++)
		end(swap_parked(i, NULL));
}

static void registrar(void)
{
	struct subscriber subscriber;
	uint32_t i;
	int err;

	subscriber_init(&subscriber);
	subscriber.sub.ops = one_in(3) ? &refusing_ops : &telling_ops;
	err = mmn_subscription_register(&subscriber.sub, world.state);
	if (err) {
		must(err == -ENOMEM);
		tally(NO_MEMORY);
		return;
	}
	tally(REGISTERED);
	note("register", NOWHERE, NO_VALUE);
	for (i = below(20); i; i--)
		linger();
	note("unregister", NOWHERE, NO_VALUE);
	if (is_broken(POISON_EARLY))
		/* relaxed: as in poison() */
		mmn_store_relaxed(&subscriber.magic, 0xa5a5a5a5);
	must(!mmn_subscription_unregister(&subscriber.sub));
	must(subscriber.releases == 1);
	must(mmn_subscription_unregister(&subscriber.sub) == -ENOENT);
	poison(&subscriber);
}

static void put(struct mmn_subscription *sub)
{
	note("put", NOWHERE, NO_VALUE);
	subscriber_of(sub);
	must(!mmn_subscription_put(sub));
	if (!is_broken(USE_AFTER_PUT))
		return;
	mmn_subscription_synchronize();
	subscriber_of(sub);
}

static void sharer(void)
{
	struct mmn_subscription *sub[3];
	uint32_t nr = 1 + below(3), i;
	int err;

	for (i = 0; i < nr; i++) {
		err = mmn_subscription_get(&shared_ops[below(2)], world.state,
					   &sub[i]);
		if (!err)
			continue;
		must(err == -ENOMEM);
		tally(NO_MEMORY);
		nr = i;
	}
	tally(SHARED);
	linger();
	while (nr--)
		put(sub[nr]);
	if (one_in(8))
		must(!mmn_subscription_synchronize());
}

/* --- beginning and end ---------------------------------------------------- */

static int set_up(void)
{
	uint32_t i;
	int err;

	memset(&world, 0, sizeof(world));
	err = mmn_state_create(&world.state);
	if (err)
		return err;
	pthread_mutex_init(&world.parked_lock, NULL);
	for (i = 0; i < PAGES; i++)
		world.age[i] = 1;
	for (i = 0; i < GUESTS; i++) {
		pthread_mutex_init(&world.guests[i].lock, NULL);
		world.guests[i].sub.ops = &guest_ops;
		err = mmn_subscription_register(&world.guests[i].sub,
						world.state);
		if (err)
			return err;
	}
	return 0;
}

static void tear_down(void)
{
	struct subscriber *subscriber;
	uint32_t i;

	must(!mmn_subscription_synchronize());
	while ((subscriber = world.kept)) {
		world.kept = subscriber->next;
		mmn_callback_free(subscriber);
	}
	must(world.allocated == world.freed);
	for (i = 0; i < GUESTS; i++) {
		must(world.guests[i].nr_open == 0);
		must(!mmn_subscription_unregister(&world.guests[i].sub));
		pthread_mutex_destroy(&world.guests[i].lock);
	}
	must(!mmn_state_has_subscriptions(world.state));
	pthread_mutex_destroy(&world.parked_lock);
	mmn_state_put(world.state);
}

const struct scenario classic_scenario = {
	.name = "classic",
	.what = "subscribers of everything: guests, and their coming and going",
	.place = "page",
	.flavours = flavours,
	.roles = { ROLE("changer", 3, changer, end_parked),
		   ROLE("vcpu", 2, virtual_cpu, NULL),
		   ROLE("registrar", 2, registrar, NULL),
		   ROLE("sharer", 2, sharer, NULL) },
	.counters = { "changes", "starts", "ends", "refused", "registered",
		      "shared", "installs", "uses", "no-memory" },
	.nr_musts = USES + 1,
	.set_up = set_up,
	.tear_down = tear_down,
};
