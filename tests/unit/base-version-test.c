/* SPDX-License-Identifier: MIT */
#include "t/tap.h"

#include <mmn/common.h>
#include <stdio.h>

TEST(loaded_library_has_the_version_of_the_header)
{
	char text[32];

	snprintf(text, sizeof(text), "%d.%d.%d", MMN_VERSION_MAJOR,
		 MMN_VERSION_MINOR, MMN_VERSION_PATCH);
	t_streq(mmn_version(), text);
}
