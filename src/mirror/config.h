/* SPDX-License-Identifier: MIT */
#ifndef MMN_MIRROR_CONFIG_H
#define MMN_MIRROR_CONFIG_H
/*
 * Structs whose first member is their size, so that they can grow.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/*
 * config_copy - take over a caller's struct of any version
 * @to: of the library's version, @known bytes
 * @from: the caller's, @from_size bytes by its own account
 * @least: the smallest version there ever was
 *
 * Members that an older caller does not know are 0.
 * Return: 0; -EINVAL (shorter than any version); -E2BIG (asks for something
 * the library does not know).
 */
static inline int config_copy(void *to, size_t known, size_t least,
			      const void *from, size_t from_size)
{
	const unsigned char *bytes = from;
	size_t i;

	if (from_size < least)
		return -EINVAL;
	for (i = known; i < from_size; i++)
		if (bytes[i])
			return -E2BIG;
	memset(to, 0, known);
	memcpy(to, from, from_size < known ? from_size : known);
	return 0;
}

#endif
