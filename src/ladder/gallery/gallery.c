/* SPDX-License-Identifier: MIT */
#include "ladder/gallery/gallery.h"

const struct ladder_scenario *const ladder_gallery[] = {
	&bool_valid, &bool_counter, &bool_counter_stale, &bool_reader, NULL,
};
