/* SPDX-License-Identifier: MIT */
/* Conformance group IV: changes that overlap, nest and run in parallel. */
#include "unit/conformance.h"

#include <stdlib.h>

/* case 41 */
TEST(reader_waits_for_the_outer_of_two_nested_changes)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc outer, inner;
	struct reader reader;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	change_open(&outer, state, 0, 49);
	change_open(&inner, state, 50, 99);
	t_eq(driver_calls(&a), 2);
	reader_start(&reader, &a.sub);
	reader_expect_asleep(&reader);
	change_end(&inner);
	t_ok(must_wait(&a));
	reader_expect_asleep(&reader);
	change_end(&outer);
	t_ok(!driver_retry(&a, reader_join(&reader)));
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 42 */
TEST(nested_change_elsewhere_does_not_count)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc outer, inner;
	struct driver a, b;

	driver_add(&a, NULL, state, 0, 99);
	driver_add(&b, NULL, state, 200, 299);
	change_open(&outer, state, 0, 99);
	change_open(&inner, state, 200, 299);
	t_eq(driver_calls(&a), 1);
	change_end(&inner);
	t_ok(must_wait(&a));
	t_ok(!must_wait(&b));
	change_end(&outer);
	t_ok(!must_wait(&a));

	/* And the other way round: only the outer one counts. */
	change_open(&outer, state, 0, 99);
	change_open(&inner, state, 200, 299);
	change_end(&outer);
	t_ok(!must_wait(&a));
	t_ok(must_wait(&b));
	change_end(&inner);
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}

/* case 43: a kernel-style epoch makes B's reader wait for A's change. */
TEST(reader_hit_inside_a_foreign_change_waits_for_its_own_only)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc on_a, on_b;
	struct reader reader;
	struct driver a, b;
	uint64_t seq;

	driver_add(&a, NULL, state, 0, 99);
	driver_add(&b, NULL, state, 200, 299);
	change_open(&on_a, state, 0, 99);

	change_open(&on_b, state, 200, 299);
	reader_start(&reader, &b.sub);
	reader_expect_asleep(&reader);
	change_end(&on_b);
	t_ok(!driver_retry(&b, reader_join(&reader)));

	seq = begin(&b);
	t_ok(!driver_retry(&b, seq));
	t_ok(must_wait(&a));
	change_end(&on_a);
	t_ok(!driver_retry(&b, seq));
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}

/* case 44 */
TEST(reader_never_hit_does_not_wait)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc on_a;
	struct driver a, b;

	driver_add(&a, NULL, state, 0, 99);
	driver_add(&b, NULL, state, 200, 299);
	change_open(&on_a, state, 0, 99);
	begin(&b);
	change_end(&on_a);
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}

/*
 * case 45, in small; 'mmn torture notifier' has it in full.
 *
 * Each page of the memory has a version.  A change raises the version of the
 * pages of its range after start has returned; therefore an entry that is
 * found under the driver's lock has the version that the page has now.
 */
enum { PAGES = 64, WRITERS = 4, READERS = 4, ROUNDS = 4000 };

struct page {
	struct mmn_range_subscription sub;
	pthread_mutex_t lock;
	/* atomic: the memory */
	uint32_t version;
	/* lock: the shadow entry, 0 is none */
	uint32_t entry;
	uint32_t installed;
};

struct field {
	struct mmn_state *state;
	struct page page[PAGES];
	/* atomic */
	uint32_t writers_done;
};

static bool page_invalidate(struct mmn_range_subscription *sub,
			    const struct mmn_invalidate_desc *desc,
			    uint64_t cur_seq)
{
	struct page *page = (struct page *)sub;

	pthread_mutex_lock(&page->lock);
	mmn_range_set_seq(sub, cur_seq);
	page->entry = 0;
	pthread_mutex_unlock(&page->lock);
	return true;
}

static const struct mmn_range_ops page_ops = { .invalidate = page_invalidate };

static unsigned int step(unsigned int *seed, unsigned int below)
{
	*seed = *seed * 1103515245 + 12345;
	return (*seed >> 16) % below;
}

static void write_pages(struct field *field, unsigned int first,
			unsigned int last)
{
	struct mmn_invalidate_desc desc;

	change_open(&desc, field->state, first * 4096UL, last * 4096UL + 4095);
	for (unsigned int i = first; i <= last; i++)
		count_up(&field->page[i].version);
	change_end(&desc);
}

static void *writer_main(void *arg)
{
	static uint32_t number;
	struct field *field = arg;
	unsigned int seed;

	count_up(&number);
	seed = count_of(&number);
	for (int i = 0; i < ROUNDS; i++) {
		unsigned int first = step(&seed, PAGES);
		unsigned int last = first + step(&seed, 4);

		write_pages(field, first, last < PAGES ? last : PAGES - 1);
	}
	count_up(&field->writers_done);
	return NULL;
}

static void read_page(struct page *page)
{
	uint64_t seq = mmn_range_read_begin(&page->sub);
	uint32_t version = count_of(&page->version);

	pthread_mutex_lock(&page->lock);
	if (!mmn_range_read_retry(&page->sub, seq)) {
		page->entry = version;
		page->installed++;
	}
	pthread_mutex_unlock(&page->lock);

	/* The device looks at it a while later. */
	pthread_mutex_lock(&page->lock);
	if (page->entry)
		t_eq(page->entry, count_of(&page->version));
	pthread_mutex_unlock(&page->lock);
}

static void *page_reader_main(void *arg)
{
	static uint32_t number;
	struct field *field = arg;
	unsigned int seed;

	count_up(&number);
	seed = count_of(&number) * 77;
	while (count_of(&field->writers_done) < WRITERS)
		read_page(&field->page[step(&seed, PAGES)]);
	return NULL;
}

/* case 45 */
TEST(no_entry_is_older_than_the_last_change_of_its_page, .timeout = 60)
{
	struct field *field =
		aligned_alloc(_Alignof(struct field), sizeof(*field));
	pthread_t thread[WRITERS + READERS];
	unsigned int installed = 0;

	t_ne(field, NULL);
	field->state = new_state();
	field->writers_done = 0;
	for (uintptr_t i = 0; i < PAGES; i++) {
		struct page *page = &field->page[i];
		struct mmn_range_config config = {
			.size = sizeof(config),
			.ops = &page_ops,
			.lock = mmn_driver_mutex(&page->lock),
		};

		pthread_mutex_init(&page->lock, NULL);
		page->version = 1;
		page->entry = 0;
		page->installed = 0;
		t_err(mmn_range_subscription_init(&page->sub, &config), 0);
		t_err(mmn_range_subscription_insert(&page->sub, field->state,
						    i * 4096, i * 4096 + 4095),
		      0);
	}
	for (int i = 0; i < WRITERS + READERS; i++)
		t_eq(pthread_create(&thread[i], NULL,
				    i < WRITERS ? writer_main
						: page_reader_main,
				    field),
		     0);
	for (int i = 0; i < WRITERS + READERS; i++)
		pthread_join(thread[i], NULL);
	for (int i = 0; i < PAGES; i++) {
		installed += field->page[i].installed;
		t_err(mmn_range_subscription_remove(&field->page[i].sub), 0);
	}
	t_gt(installed, 0);
	t_note("%u entries installed during %u changes", installed,
	       WRITERS * ROUNDS);
	mmn_state_put(field->state);
	free(field);
}

static struct gate meeting = GATE_INITIALIZER;

static void meet(struct driver *driver, const struct mmn_invalidate_desc *desc)
{
	gate_pass(&meeting);
}

/* case 46 */
TEST(two_changes_call_the_same_subscriber_in_parallel)
{
	struct mmn_state *state = new_state();
	struct changer one, two;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	a.hook = meet;
	changer_start(&one, state, 0, 9);
	changer_start(&two, state, 5, 99);
	/* Both are in the callback at the same time. */
	gate_wait_arrived(&meeting, 2);
	gate_open(&meeting);
	t_err(changer_join(&one), 0);
	t_err(changer_join(&two), 0);
	t_eq(driver_calls(&a), 2);
	change_end(&one.desc);
	t_ok(must_wait(&a));
	change_end(&two.desc);
	t_ok(!must_wait(&a));
	driver_remove(&a);
	mmn_state_put(state);
}

struct ender {
	struct actor actor;
	struct mmn_invalidate_desc *desc;
};

static void ender_run(void *arg)
{
	change_end(((struct ender *)arg)->desc);
}

static void end_elsewhere(struct mmn_invalidate_desc *desc)
{
	struct ender ender = { .desc = desc };

	actor_start(&ender.actor, ender_run, &ender);
	actor_join(&ender.actor);
}

/* case 47 */
TEST(changes_end_in_any_order_and_in_any_thread)
{
	struct mmn_state *state = new_state();
	struct changer changer[3];
	struct mmn_invalidate_desc own;
	struct reader reader;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	for (int i = 0; i < 3; i++) {
		changer_start(&changer[i], state, i * 10, i * 10 + 50);
		t_err(changer_join(&changer[i]), 0);
	}
	change_open(&own, state, 0, 99);
	reader_start(&reader, &a.sub);
	reader_expect_asleep(&reader);

	change_end(&changer[1].desc);
	end_elsewhere(&own);
	change_end(&changer[0].desc);
	reader_expect_asleep(&reader);
	t_ok(must_wait(&a));
	end_elsewhere(&changer[2].desc);
	t_ok(!driver_retry(&a, reader_join(&reader)));
	t_ok(!must_wait(&a));
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 48 */
TEST(end_without_a_start_is_an_error_and_reported)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc, open;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	change_open(&open, state, 0, 99);
	mmn_invalidate_desc_init(&desc, state, MMN_EVENT_UNMAP, 0, 99);
	report_expected("ended that is not open");
	t_err(mmn_invalidate_end(&desc), -EINVAL);
	t_ok(must_wait(&a));
	change_end(&open);
	t_ok(!must_wait(&a));
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 48, the other way to get there */
TEST(second_end_is_an_error_and_reported)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc hit, miss, open;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	change_open(&open, state, 0, 99);
	change_open(&hit, state, 0, 99);
	change_end(&hit);
	report_expected("ended that is not open");
	t_err(mmn_invalidate_end(&hit), -EINVAL);
	change_open(&miss, state, 500, 599);
	change_end(&miss);
	report_expected("ended that is not open");
	t_err(mmn_invalidate_end(&miss), -EINVAL);
	/* No count went wrong. */
	t_ok(must_wait(&a));
	change_end(&open);
	t_ok(!must_wait(&a));
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(end_of_a_change_that_could_not_start_is_an_error)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;

	mmn_invalidate_desc_init(&desc, state, MMN_EVENT_UNMAP, 99, 0);
	t_err(mmn_invalidate_start(&desc), -EINVAL);
	report_expected("ended that is not open");
	t_err(mmn_invalidate_end(&desc), -EINVAL);
	mmn_state_put(state);
}

/*
 * A chain of changes over [1000, 1999] of which at least one is open at any
 * moment.  @link is called with each link open.
 */
enum { LINKS = 200 };

struct chain {
	struct mmn_state *state;
	struct mmn_invalidate_desc desc[2];
	unsigned int length;
};

static void chain_begin(struct chain *chain, struct mmn_state *state)
{
	chain->state = state;
	chain->length = 0;
	change_open(&chain->desc[0], state, 1000, 1999);
}

static void chain_link(struct chain *chain)
{
	unsigned int next = ++chain->length & 1;

	change_open(&chain->desc[next], chain->state, 1000, 1999);
	change_end(&chain->desc[!next]);
}

static void chain_end(struct chain *chain)
{
	change_end(&chain->desc[chain->length & 1]);
}

/* case 49 */
TEST(chain_of_changes_elsewhere_holds_no_reader)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc first;
	struct reader reader;
	struct driver a, b;
	struct chain chain;
	uint64_t seq;

	driver_add(&a, NULL, state, 0, 99);
	driver_add(&b, NULL, state, 1000, 1999);
	/* A was hit at the beginning, and its own change ends. */
	change_open(&first, state, 0, 99);
	chain_begin(&chain, state);
	reader_start(&reader, &a.sub);
	reader_expect_asleep(&reader);
	change_end(&first);
	seq = reader_join(&reader);
	for (int i = 0; i < LINKS; i++) {
		chain_link(&chain);
		t_eq(begin(&a), seq);
		t_ok(!driver_retry(&a, seq));
		t_ok(must_wait(&b));
	}
	chain_end(&chain);
	t_ok(!must_wait(&b));
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}

/* case 50 */
TEST(insert_during_a_chain_is_held_by_its_own_overlaps_only)
{
	struct mmn_state *state = new_state();
	struct driver a, b, c;
	struct chain chain;

	driver_add(&b, NULL, state, 1000, 1999);
	chain_begin(&chain, state);
	for (int i = 0; i < LINKS; i++) {
		struct mmn_invalidate_desc desc;
		uint64_t seq;

		driver_add(&c, NULL, state, 3000, 3999);
		seq = begin(&c);
		t_ok(!driver_retry(&c, seq));
		change(state, 3000, 3000);
		t_eq(driver_calls(&c), 1);
		t_ok(driver_retry(&c, seq));

		/* One that does overlap: held by the link that is open now. */
		driver_add(&a, NULL, state, 1500, 1500);
		t_ok(must_wait(&a));
		change_open(&desc, state, 3000, 3999);
		driver_remove(&c);
		change_end(&desc);
		driver_remove(&a);
		chain_link(&chain);
	}
	chain_end(&chain);
	driver_remove(&b);
	mmn_state_put(state);
}

/* case 51 */
TEST(remove_during_a_chain_does_not_wait_for_it)
{
	struct mmn_state *state = new_state();
	struct driver b, untouched, hit;
	struct chain chain;

	driver_add(&b, NULL, state, 1000, 1999);
	chain_begin(&chain, state);
	for (int i = 0; i < LINKS; i++) {
		driver_add(&untouched, NULL, state, 3000, 3999);
		driver_add(&hit, NULL, state, 1500, 1500);
		chain_link(&chain);
		t_eq(driver_calls(&hit), 1);
		driver_remove(&untouched);
		driver_remove(&hit);
	}
	chain_end(&chain);
	t_eq(driver_calls(&b), LINKS + 1);
	driver_remove(&b);
	mmn_state_put(state);
}

/* case 52 */
TEST(change_opened_before_an_insert_holds_its_readers)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct reader reader;
	struct driver a;
	uint64_t seq;

	change_open(&desc, state, 50, 149);
	driver_add(&a, NULL, state, 0, 99);
	t_ok(must_wait(&a));
	reader_start(&reader, &a.sub);
	reader_expect_asleep(&reader);
	change_end(&desc);
	seq = reader_join(&reader);
	t_ok(!driver_retry(&a, seq));
	t_eq(driver_calls(&a), 0);
	change(state, 0, 0);
	t_eq(driver_calls(&a), 1);
	t_ok(driver_retry(&a, seq));
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 53 */
TEST(change_opened_before_an_insert_elsewhere_does_not_matter)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc below, above;
	struct driver a;
	uint64_t seq;

	change_open(&below, state, 0, 99);
	change_open(&above, state, 200, 299);
	driver_add(&a, NULL, state, 100, 199);
	seq = begin(&a);
	t_ok(!driver_retry(&a, seq));
	change_end(&below);
	change_end(&above);
	t_ok(!driver_retry(&a, seq));
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 54 */
TEST(insert_while_a_change_is_open_that_hit_nobody_takes_effect)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a, b;
	uint64_t seq;

	driver_add(&b, NULL, state, 1000, 1999);
	change_open(&desc, state, 0, 99);
	driver_add(&a, NULL, state, 0, 199);
	/* Effective at once, not when the change ends. */
	change(state, 150, 150);
	t_eq(driver_calls(&a), 1);
	change_end(&desc);
	seq = begin(&a);
	t_ok(!driver_retry(&a, seq));
	change(state, 0, 0);
	t_eq(driver_calls(&a), 1);
	t_ok(driver_retry(&a, seq));
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}

/* case 55: the kernel defers the insert, and does not call it. */
TEST(insert_is_called_by_a_change_that_starts_while_an_older_one_is_open)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc first, second;
	struct driver a, b;

	driver_add(&b, NULL, state, 1000, 1999);
	change_open(&first, state, 1000, 1999);
	t_eq(driver_calls(&b), 1);
	driver_add(&a, NULL, state, 0, 99);
	change_open(&second, state, 0, 99);
	t_eq(driver_calls(&a), 1);
	t_ok(must_wait(&a));
	change_end(&first);
	t_ok(must_wait(&a));
	change_end(&second);
	t_ok(!must_wait(&a));
	t_eq(driver_calls(&b), 0);
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}

static void insert_below_and_above(struct driver *b,
				   const struct mmn_invalidate_desc *desc)
{
	struct driver *others = b->arg;

	b->hook = NULL;
	driver_add(&others[0], "below", desc->state, 50, 59);
	driver_add(&others[1], "same", desc->state, 100, 199);
	driver_add(&others[2], "above", desc->state, 300, 399);
}

TEST(walk_goes_on_right_when_the_tree_changes_under_it)
{
	struct mmn_state *state = new_state();
	struct driver b, c, inserted[3];
	struct mmn_invalidate_desc desc;

	driver_add(&b, "b", state, 100, 199);
	driver_add(&c, "c", state, 200, 299);
	b.hook = insert_below_and_above;
	b.arg = inserted;
	change_open(&desc, state, 0, 999);
	/* Those born in the change are held by it, not told of it. */
	t_streq(journal(), "b c");
	for (int i = 0; i < 3; i++)
		t_ok(must_wait(&inserted[i]));
	change_end(&desc);
	for (int i = 0; i < 3; i++)
		t_ok(!must_wait(&inserted[i]));

	journal_clear();
	change(state, 0, 999);
	t_streq(journal(), "below b same c above");
	for (int i = 0; i < 3; i++)
		driver_remove(&inserted[i]);
	driver_remove(&b);
	driver_remove(&c);
	mmn_state_put(state);
}

static void change_something_else(struct driver *driver,
				  const struct mmn_invalidate_desc *desc)
{
	change(desc->state, 500, 599);
}

TEST(callback_may_change_memory_that_its_subscriber_does_not_watch)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a, b;

	driver_add(&a, "a", state, 0, 99);
	driver_add(&b, "b", state, 500, 599);
	a.hook = change_something_else;
	change_open(&desc, state, 0, 99);
	t_streq(journal(), "a b");
	t_ok(!must_wait(&b));
	t_ok(must_wait(&a));
	change_end(&desc);
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}

TEST(very_many_changes_may_be_open_at_once)
{
	enum { COUNT = 5000 };
	static struct mmn_invalidate_desc desc[COUNT];
	struct mmn_state *state = new_state();
	struct driver a, b;

	/* Half of them over A; B comes when all are open. */
	driver_add(&a, NULL, state, 0, 99);
	for (uintptr_t i = 0; i < COUNT; i++) {
		uintptr_t at = i % 2 ? 50 : 1000 + i * 10;

		change_open(&desc[i], state, at, at + 9);
	}
	t_eq(driver_calls(&a), COUNT / 2);
	driver_add(&b, NULL, state, 0, UINTPTR_MAX);
	t_ok(must_wait(&b));
	for (int i = 0; i < COUNT; i++) {
		t_ok(must_wait(&b));
		t_ok(must_wait(&a));
		change_end(&desc[i]);
	}
	t_ok(!must_wait(&a));
	t_ok(!must_wait(&b));
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}
