/* SPDX-License-Identifier: MIT */
#include <mmn/common.h>

#include "config.h"

const char *mmn_version(void)
{
	return MMN_VERSION_STRING;
}
