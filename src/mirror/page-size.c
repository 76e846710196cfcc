/* SPDX-License-Identifier: MIT */
/* How large a base page is; libc has it from the kernel since exec. */
#include <unistd.h>

#include <mmn/mirror.h>

size_t mmn_page_size(void)
{
	return (size_t)getpagesize();
}
