/* SPDX-License-Identifier: MIT */
#include "ladder/gallery/gallery.h"

const struct ladder_scenario *const ladder_gallery[] = {
	/* mail.c */
	&bool_valid,
	&bool_counter,
	&bool_counter_stale,
	&bool_reader,
	/* notifier.c */
	&notifier_fault,
	&notifier_insert,
	&notifier_remove,
	NULL,
};
