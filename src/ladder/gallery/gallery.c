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
	/* kernel.c */
	&kernel_seq,
	&kernel_seq_plain,
	&kernel_seq_locked,
	/* life.c */
	&range_life,
	&range_again,
	&slot_again,
	&slot_look,
	&slot_twice,
	&filter_grow,
	&state_put,
	&classic_life,
	&classic_released,
	&shared_put,
	&shared_last,
	&shared_free,
	/* arena.c */
	&arena_block,
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
	NULL,
};
