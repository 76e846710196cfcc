/* SPDX-License-Identifier: MIT */
/* The small parts: lists, lines of text, time, system calls, probes. */
#include "t/tap.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/list.h"
#include "base/probe.h"
#include "base/syscall.h"
#include "base/text.h"
#include "base/time.h"

struct item {
	int value;
	struct list_head link;
};

/* The list as a number: 3 items 1, 2, 3 are 123; backwards must agree. */
static int digits(const struct list_head *head)
{
	const struct list_head *link;
	int forward = 0;
	int backward = 0;
	int scale = 1;

	for (link = head->next; link != head; link = link->next)
		forward = forward * 10 +
			  list_entry(link, struct item, link)->value;
	for (link = head->prev; link != head; link = link->prev) {
		backward += scale * list_entry(link, struct item, link)->value;
		scale *= 10;
	}
	t_eq(forward, backward);
	return forward;
}

TEST(list_keeps_order_at_both_ends)
{
	struct list_head head = LIST_HEAD_INIT(head);
	struct item items[4] = {
		{ .value = 1 }, { .value = 2 }, { .value = 3 }, { .value = 4 }
	};

	t_ok(list_is_empty(&head));
	t_ok(!list_first_entry(&head, struct item, link));
	list_add(&items[1].link, &head);
	list_add(&items[0].link, &head);
	list_add_tail(&items[2].link, &head);
	t_eq(digits(&head), 123);
	t_ok(list_first_entry(&head, struct item, link) == &items[0]);
	list_del(&items[1].link);
	t_eq(digits(&head), 13);
	/* On no list: a second removal touches nobody. */
	list_del(&items[1].link);
	t_eq(digits(&head), 13);
	t_ok(list_is_empty(&items[1].link));
}

TEST(splice_moves_everything_and_empties_the_source)
{
	struct list_head to = LIST_HEAD_INIT(to);
	struct list_head from = LIST_HEAD_INIT(from);
	struct item items[4] = {
		{ .value = 1 }, { .value = 2 }, { .value = 3 }, { .value = 4 }
	};

	list_splice_tail(&from, &to);
	t_ok(list_is_empty(&to));
	list_add_tail(&items[0].link, &to);
	list_add_tail(&items[1].link, &from);
	list_add_tail(&items[2].link, &from);
	list_splice_tail(&from, &to);
	t_eq(digits(&to), 123);
	t_ok(list_is_empty(&from));
	list_add(&items[3].link, &from);
	t_eq(digits(&from), 4);
}

TEST(safe_walk_survives_removal_of_every_item)
{
	struct list_head head = LIST_HEAD_INIT(head);
	struct item items[5];
	struct item *item;
	struct item *next;
	int sum = 0;
	int i;

	for (i = 0; i < 5; i++) {
		items[i].value = i + 1;
		list_add_tail(&items[i].link, &head);
	}
	list_for_each (item, &head, link)
		sum = sum * 10 + item->value;
	t_eq(sum, 12345);
	list_for_each_safe (item, next, &head, link) {
		list_del(&item->link);
		memset(item, 0xee, sizeof(*item));
	}
	t_ok(list_is_empty(&head));
}

TEST(text_is_put_together_from_words_and_numbers)
{
	struct mmn_text text;

	mmn_text_init(&text);
	mmn_text_add(&text, "a ");
	mmn_text_add_number(&text, 0);
	mmn_text_add(&text, " ");
	mmn_text_add_number(&text, UINT64_MAX);
	mmn_text_add(&text, " ");
	mmn_text_add_place(&text, "../src/base/lock.c", 12);
	mmn_text_add(&text, " ");
	mmn_text_add_place(&text, "lock.c", 7);
	t_streq(text.buffer, "a 0 18446744073709551615 lock.c:12 lock.c:7");
	t_eq(text.length, strlen(text.buffer));
}

TEST(text_that_does_not_fit_is_cut_off)
{
	struct mmn_text text;
	int i;

	mmn_text_init(&text);
	for (i = 0; i < 200; i++)
		mmn_text_add(&text, "1234567");
	t_eq(text.length, sizeof(text.buffer) - 1);
	t_eq(strlen(text.buffer), sizeof(text.buffer) - 1);
}

TEST(time_goes_forward_and_splits)
{
	uint64_t first = mmn_now_ns();
	struct timespec split = mmn_timespec(UINT64_C(3999999999));

	t_le(first, mmn_now_ns());
	t_eq(split.tv_sec, 3);
	t_eq(split.tv_nsec, 999999999);
}

TEST(system_calls_return_results_and_errors)
{
	char byte = 'x';
	int ends[2];

	errno = 4711;
	t_eq(mmn_syscall0(__NR_getpid), getpid());
	t_err(mmn_syscall1(__NR_close, -1), -EBADF);
	t_ok(mmn_syscall_failed(-EBADF));
	t_ok(!mmn_syscall_failed(0));
	t_eq(errno, 4711);
	t_err(pipe(ends), 0);
	t_eq(mmn_syscall3(__NR_write, ends[1], &byte, 1), 1);
	t_eq(mmn_syscall3(__NR_read, ends[0], &byte, 1), 1);
	close(ends[0]);
	close(ends[1]);
}

TEST(probes_leave_their_arguments_alone)
{
	uint64_t number = 5;
	const char *name = "name";

	MMN_PROBE(parts_none);
	MMN_PROBE(parts_six, number, name, 1, 2u, &number, (void *)0);
	t_eq(number, 5);
	t_streq(name, "name");
}
