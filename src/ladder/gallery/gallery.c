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
	NULL,
};
