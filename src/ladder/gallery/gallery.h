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
extern const struct ladder_scenario notifier_crowded;
extern const struct ladder_scenario notifier_move;

/* kernel.c */
extern const struct ladder_scenario kernel_seq;
extern const struct ladder_scenario kernel_seq_plain;
extern const struct ladder_scenario kernel_seq_locked;

/* life.c */
extern const struct ladder_scenario range_life;
extern const struct ladder_scenario range_again;
extern const struct ladder_scenario range_edit;
extern const struct ladder_scenario range_edit_again;
extern const struct ladder_scenario range_elsewhere;
extern const struct ladder_scenario range_resize;
extern const struct ladder_scenario range_leaves;
extern const struct ladder_scenario slot_again;
extern const struct ladder_scenario slot_look;
extern const struct ladder_scenario slot_twice;
extern const struct ladder_scenario filter_grow;
extern const struct ladder_scenario filter_free;
extern const struct ladder_scenario insert_first;
extern const struct ladder_scenario insert_after;
extern const struct ladder_scenario insert_granule;
extern const struct ladder_scenario insert_wide;
extern const struct ladder_scenario insert_new_map;
extern const struct ladder_scenario state_put;
extern const struct ladder_scenario classic_life;
extern const struct ladder_scenario classic_released;
extern const struct ladder_scenario shared_put;
extern const struct ladder_scenario shared_last;
extern const struct ladder_scenario shared_free;

/* agent.c */
extern const struct ladder_scenario agent_begins;
extern const struct ladder_scenario agent_fails;
extern const struct ladder_scenario agent_silent;
extern const struct ladder_scenario agent_checks;

/* arena.c */
extern const struct ladder_scenario arena_block;
extern const struct ladder_scenario arena_retry;

/* dispatch.c, where calls can be intercepted */
extern const struct ladder_scenario source_on;
extern const struct ladder_scenario source_off;

/* heap.c */
extern const struct ladder_scenario heap_first;

/* cache.c */
extern const struct ladder_scenario cache_get;
extern const struct ladder_scenario cache_get_alone;
extern const struct ladder_scenario cache_get_none;
extern const struct ladder_scenario cache_put;
extern const struct ladder_scenario cache_put_other;
extern const struct ladder_scenario cache_evict;
extern const struct ladder_scenario cache_destroy;
extern const struct ladder_scenario cache_register;
extern const struct ladder_scenario cache_block;
extern const struct ladder_scenario cache_block_beside;
extern const struct ladder_scenario cache_block_leave;
extern const struct ladder_scenario cache_block_again;
extern const struct ladder_scenario cache_give_way;
extern const struct ladder_scenario cache_replace;
extern const struct ladder_scenario cache_change;
extern const struct ladder_scenario cache_kick;
extern const struct ladder_scenario cache_bell;
extern const struct ladder_scenario cache_dead;
extern const struct ladder_scenario cache_purge;
extern const struct ladder_scenario cache_fence;
extern const struct ladder_scenario cache_land;
extern const struct ladder_scenario cache_entry;

/* hold.c */
extern const struct ladder_scenario hold_list;
extern const struct ladder_scenario hold_lists;
extern const struct ladder_scenario hold_ended;
extern const struct ladder_scenario hold_taken;
extern const struct ladder_scenario hold_child;

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
/* lookup.c */
extern const struct ladder_scenario fence_naive;
extern const struct ladder_scenario fence_safe;
extern const struct ladder_scenario fence_safe_made;
extern const struct ladder_scenario fence_four_lines;
extern const struct ladder_scenario fence_four_lines_rcu;
extern const struct ladder_scenario fence_slot_get;
extern const struct ladder_scenario fence_slot_made;
extern const struct ladder_scenario fence_slot_test;
extern const struct ladder_scenario fence_slot_test_done;
extern const struct ladder_scenario fence_slot_test_made;
extern const struct ladder_scenario fence_pool_end;

/* fence.c */
extern const struct ladder_scenario fence_signal;
extern const struct ladder_scenario fence_callback;
extern const struct ladder_scenario fence_remove;
extern const struct ladder_scenario fence_sleeper;
extern const struct ladder_scenario fence_wait_any;
extern const struct ladder_scenario fence_enable_op;
extern const struct ladder_scenario fence_leave;
extern const struct ladder_scenario fence_last_put;
extern const struct ladder_scenario fence_array_signal;
extern const struct ladder_scenario fence_array_ask;
extern const struct ladder_scenario fence_array_arm;
extern const struct ladder_scenario fence_chain_signal;
extern const struct ladder_scenario fence_chain_arm;
extern const struct ladder_scenario fence_chain_walk;
extern const struct ladder_scenario fence_chain_past;

/* spinlock.c */
extern const struct ladder_scenario spin_lock;

/* resv.c */
extern const struct ladder_scenario resv_test;
extern const struct ladder_scenario resv_strict;
extern const struct ladder_scenario resv_idle;
extern const struct ladder_scenario resv_made;
extern const struct ladder_scenario resv_dropped;
extern const struct ladder_scenario resv_emptied;

/* ww.c */
extern const struct ladder_scenario ww_hand_over;
extern const struct ladder_scenario ww_cancel;
extern const struct ladder_scenario ww_die;
extern const struct ladder_scenario ww_wound;

/* sync.c */
extern const struct ladder_scenario sync_last_put;
extern const struct ladder_scenario sync_poller;

#endif
