/* SPDX-License-Identifier: MIT */
/* What the command has to say when it is used wrongly. */
#include <stdarg.h>

#include "cmd.h"

void complain(const char *format, ...)
{
	va_list args;

	fputs("mmn: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}
