/* SPDX-License-Identifier: MIT */
#include "ladder/gallery/gallery.h"

const struct ladder_scenario *const ladder_gallery[] = {
	/* mail.c */
	&bool_valid,
	&bool_counter,
	&bool_counter_stale,
	&bool_wait,
	&bool_reader,
	/* notifier.c */
	&notifier_mail,
	&notifier_fault,
	&notifier_insert,
	&notifier_remove,
	&notifier_crowded,
	&notifier_move,
	/* kernel.c */
	&kernel_seq,
	&kernel_seq_plain,
	&kernel_seq_locked,
	/* life.c */
	&range_life,
	&range_again,
	&range_edit,
	&range_edit_again,
	&range_elsewhere,
	&range_resize,
	&range_leaves,
	&slot_again,
	&slot_look,
	&slot_twice,
	&filter_grow,
	&filter_free,
	&insert_first,
	&insert_after,
	&insert_granule,
	&insert_wide,
	&insert_new_map,
	&state_put,
	&classic_life,
	&classic_released,
	&shared_put,
	&shared_last,
	&shared_free,
	/* agent.c */
	&agent_begins,
	&agent_fails,
	&agent_silent,
	&agent_checks,
	/* arena.c */
	&arena_block,
	&arena_retry,
#if MMN_HAVE_INTERCEPT
	/* dispatch.c */
	&source_on,
	&source_off,
#endif
	/* heap.c */
	&heap_first,
	/* cache.c */
	&cache_get,
	&cache_get_alone,
	&cache_get_none,
	&cache_put,
	&cache_put_other,
	&cache_evict,
	&cache_destroy,
	&cache_register,
	&cache_block,
	&cache_block_beside,
	&cache_block_leave,
	&cache_block_again,
	&cache_give_way,
	&cache_replace,
	&cache_change,
	&cache_kick,
	&cache_bell,
	&cache_dead,
	&cache_purge,
	&cache_fence,
	&cache_land,
	&cache_entry,
	/* hold.c */
	&hold_list,
	&hold_lists,
	&hold_ended,
	&hold_taken,
	&hold_child,
	/* inject.c */
	&inject_armed,
	/* mirror.c */
	&mirror_dying,
	/* rcu.c */
	&rcu_barrier_wait,
	&rcu_pointer,
	/* report.c */
	&report_handler_set,
	/* translation.c */
	&translation,
#if MMN_HAVE_URING
	/* uring.c */
	&uring_call,
	&uring_slot,
#endif
	/* lookup.c */
	&fence_naive,
	&fence_safe,
	&fence_safe_made,
	&fence_four_lines,
	&fence_four_lines_rcu,
	&fence_slot_get,
	&fence_slot_made,
	&fence_slot_test,
	&fence_slot_test_done,
	&fence_slot_test_made,
	&fence_pool_end,
	/* fence.c */
	&fence_signal,
	&fence_callback,
	&fence_remove,
	&fence_sleeper,
	&fence_wait_any,
	&fence_enable_op,
	&fence_leave,
	&fence_last_put,
	&fence_array_signal,
	&fence_array_ask,
	&fence_array_arm,
	&fence_chain_signal,
	&fence_chain_arm,
	&fence_chain_walk,
	&fence_chain_past,
	/* spinlock.c */
	&spin_lock,
	/* resv.c */
	&resv_test,
	&resv_strict,
	&resv_idle,
	&resv_made,
	&resv_dropped,
	&resv_emptied,
	/* ww.c */
	&ww_hand_over,
	&ww_cancel,
	&ww_die,
	&ww_wound,
	/* sync.c */
	&sync_last_put,
	&sync_poller,
	NULL,
};
