/* SPDX-License-Identifier: MIT */
#ifndef MMN_LADDER_GALLERY_GALLERY_H
#define MMN_LADDER_GALLERY_GALLERY_H
/* The scenarios of the gallery; gallery.c lists them. */
#include "ladder/ladder.h"

/* mail.c */
extern const struct ladder_scenario bool_valid;
extern const struct ladder_scenario bool_counter;
extern const struct ladder_scenario bool_counter_stale;
extern const struct ladder_scenario bool_reader;

/* notifier.c */
extern const struct ladder_scenario notifier_fault;
extern const struct ladder_scenario notifier_insert;
extern const struct ladder_scenario notifier_remove;

#endif
