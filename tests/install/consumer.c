/* SPDX-License-Identifier: MIT */
/* A user's program: knows libmmn from pkg-config only.  C and C++. */
#include <mmn/mmn.h>

#include <stdio.h>
#include <string.h>

int main(void)
{
	char version[32];

	snprintf(version, sizeof(version), "%d.%d.%d", MMN_VERSION_MAJOR,
		 MMN_VERSION_MINOR, MMN_VERSION_PATCH);
	if (strcmp(mmn_version(), version)) {
		printf("headers of %s, library of %s\n", version,
		       mmn_version());
		return 1;
	}
	printf("%s\n", mmn_version());
	return 0;
}
