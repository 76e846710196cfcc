/* SPDX-License-Identifier: MIT */
#ifndef MMN_BASE_LIST_H
#define MMN_BASE_LIST_H
/*
 * Circular list with a head of the same shape as its links.
 *
 * A link that is on no list points to itself, so removing twice and asking
 * list_is_empty() of a link are both harmless.  Whoever owns the list locks it.
 */
#include <stdbool.h>

#include "base/compiler.h"

struct list_head {
	struct list_head *next;
	struct list_head *prev;
};

#define LIST_HEAD_INIT(name)     \
	{                        \
		&(name), &(name) \
	}

static inline void list_init(struct list_head *head)
{
	head->next = head;
	head->prev = head;
}

static inline bool list_is_empty(const struct list_head *head)
{
	return head->next == head;
}

static inline void list_insert_between(struct list_head *link,
				       struct list_head *before,
				       struct list_head *after)
{
	link->prev = before;
	link->next = after;
	before->next = link;
	after->prev = link;
}

static inline void list_add(struct list_head *link, struct list_head *head)
{
	list_insert_between(link, head, head->next);
}

static inline void list_add_tail(struct list_head *link, struct list_head *head)
{
	list_insert_between(link, head->prev, head);
}

static inline void list_del(struct list_head *link)
{
	link->prev->next = link->next;
	link->next->prev = link->prev;
	list_init(link);
}

/* Move everything on @from to the end of @to; @from is empty afterwards. */
static inline void list_splice_tail(struct list_head *from,
				    struct list_head *to)
{
	if (list_is_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	list_init(from);
}

#define list_entry(link, type, member) container_of(link, type, member)

/* NULL when the list is empty. */
#define list_first_entry(head, type, member) \
	(list_is_empty(head) ? NULL : list_entry((head)->next, type, member))

/* @pos is the link itself; for heads that are aligned less than the objects. */
#define list_for_each_link(pos, head) \
	for (pos = (head)->next; pos != (head); pos = pos->next)

/* @pos is a pointer to the object around the link; nothing may be removed. */
#define list_for_each(pos, head, member)                               \
	for (pos = list_entry((head)->next, __typeof__(*pos), member); \
	     &pos->member != (head);                                   \
	     pos = list_entry(pos->member.next, __typeof__(*pos), member))

/* The same; @pos itself may be removed and freed in the body. */
#define list_for_each_safe(pos, tmp, head, member)                        \
	for (pos = list_entry((head)->next, __typeof__(*pos), member),    \
	    tmp = list_entry(pos->member.next, __typeof__(*pos), member); \
	     &pos->member != (head); pos = tmp,                           \
	    tmp = list_entry(tmp->member.next, __typeof__(*pos), member))

#endif
