/* SPDX-License-Identifier: MIT */
#ifndef MMN_LADDER_GALLERY_GALLERY_H
#define MMN_LADDER_GALLERY_GALLERY_H
/* The scenarios of the gallery; gallery.c lists them. */
#include "ladder/ladder.h"

/* mail.c */
extern const struct ladder_scenario bool_valid;
extern const struct ladder_scenario bool_counter;
extern const struct ladder_scenario bool_counter_stale;
extern const struct ladder_scenario bool_wait;
extern const struct ladder_scenario bool_reader;

/* notifier.c */
extern const struct ladder_scenario notifier_mail;
extern const struct ladder_scenario notifier_fault;
extern const struct ladder_scenario notifier_insert;
extern const struct ladder_scenario notifier_remove;

/* kernel.c */
extern const struct ladder_scenario kernel_seq;
extern const struct ladder_scenario kernel_seq_plain;
extern const struct ladder_scenario kernel_seq_locked;

/* life.c */
extern const struct ladder_scenario range_life;
extern const struct ladder_scenario range_again;
extern const struct ladder_scenario slot_again;
extern const struct ladder_scenario slot_look;
extern const struct ladder_scenario slot_twice;
extern const struct ladder_scenario filter_grow;
extern const struct ladder_scenario state_put;
extern const struct ladder_scenario classic_life;
extern const struct ladder_scenario classic_released;
extern const struct ladder_scenario shared_put;
extern const struct ladder_scenario shared_last;
extern const struct ladder_scenario shared_free;

/* arena.c */
extern const struct ladder_scenario arena_block;

/* inject.c */
extern const struct ladder_scenario inject_armed;

/* mirror.c */
extern const struct ladder_scenario mirror_dying;

/* rcu.c */
extern const struct ladder_scenario rcu_barrier_wait;
extern const struct ladder_scenario rcu_pointer;

/* report.c */
extern const struct ladder_scenario report_handler_set;

/* translation.c */
extern const struct ladder_scenario translation;

/* uring, where there is liburing */
extern const struct ladder_scenario uring_call;
extern const struct ladder_scenario uring_slot;

#endif
