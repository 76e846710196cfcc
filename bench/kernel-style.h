/* SPDX-License-Identifier: MIT */
#ifndef BENCH_KERNEL_STYLE_H
#define BENCH_KERNEL_STYLE_H
/*
 * The opponent of the benchmarks: a notifier that works as Linux's does, with
 * one lock, one sequence and one wait queue for each address space.
 *
 *	open changes  sequence  tree     state
 *	0             even      changes  idle
 *	> 0           even      changes  partial: nobody was hit
 *	> 0           odd       frozen   full: somebody was hit
 *
 * A change that hits makes the sequence odd; the end that leaves no change open
 * makes it even again, carries out the inserts and removes that were
 * put off meanwhile, and wakes everybody.  A reader whose subscription was hit
 * under the present number sleeps until then, whoever keeps it open.  Classic
 * subscribers are a list under RCU, called after the ranges.
 *
 * The tree is libmmn's own, so that what differs is the scheme; the lock is an
 * adaptive mutex, the nearest thing to a spinlock that survives in user space.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "tree/itree.h"

struct kernel_style_sub;

/* One change, both ends inclusive. */
struct kernel_style_desc {
	uintptr_t start;
	uintptr_t last;
	bool blockable;
};

typedef bool kernel_style_invalidate(struct kernel_style_sub *sub,
				     const struct kernel_style_desc *desc,
				     uint64_t cur_seq);

struct kernel_style_sub {
	struct itree_node node;
	kernel_style_invalidate *invalidate;
	struct kernel_style_sub *next_deferred;
	uint64_t seq;
	bool in_tree;
	bool is_deferred;
};

struct kernel_style_classic {
	void (*start)(struct kernel_style_classic *classic,
		      const struct kernel_style_desc *desc);
	void (*end)(struct kernel_style_classic *classic,
		    const struct kernel_style_desc *desc);
	struct kernel_style_classic *next;
};

struct kernel_style {
	pthread_mutex_t lock;
	uint64_t seq;
	uint64_t open;
	uint64_t births;
	struct itree tree;
	struct kernel_style_sub *deferred;
	struct kernel_style_classic *classics;
	pthread_mutex_t wait_lock;
	pthread_cond_t wait;
};

void kernel_style_init(struct kernel_style *state);
void kernel_style_destroy(struct kernel_style *state);

void kernel_style_insert(struct kernel_style *state,
			 struct kernel_style_sub *sub, uintptr_t start,
			 uintptr_t last, kernel_style_invalidate *invalidate);
void kernel_style_remove(struct kernel_style *state,
			 struct kernel_style_sub *sub);

/* False: a change that is not blockable was refused, and is closed. */
bool kernel_style_start(struct kernel_style *state,
			const struct kernel_style_desc *desc);
void kernel_style_end(struct kernel_style *state,
		      const struct kernel_style_desc *desc);

uint64_t kernel_style_read_begin(struct kernel_style *state,
				 struct kernel_style_sub *sub);
/* With the driver's lock held. */
bool kernel_style_read_retry(const struct kernel_style_sub *sub, uint64_t seq);
void kernel_style_set_seq(struct kernel_style_sub *sub, uint64_t cur_seq);

/* Not while a change is open, and without a lock that start or end take. */
void kernel_style_register(struct kernel_style *state,
			   struct kernel_style_classic *classic);
void kernel_style_unregister(struct kernel_style *state,
			     struct kernel_style_classic *classic);

#endif
