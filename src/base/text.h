/* SPDX-License-Identifier: MIT */
#ifndef MMN_BASE_TEXT_H
#define MMN_BASE_TEXT_H
/*
 * One line of text put together without stdio, in any context.
 *
 * What does not fit is cut off; the text always ends with a NUL.
 */
#include <stdint.h>
#include <string.h>

struct mmn_text {
	/* Bytes in @buffer before the NUL; < sizeof(buffer). */
	uint32_t length;
	char buffer[508];
};

static inline void mmn_text_init(struct mmn_text *text)
{
	text->length = 0;
	text->buffer[0] = '\0';
}

static inline void mmn_text_add(struct mmn_text *text, const char *word)
{
	while (*word && text->length < sizeof(text->buffer) - 1)
		text->buffer[text->length++] = *word++;
	text->buffer[text->length] = '\0';
}

static inline void mmn_text_add_number(struct mmn_text *text, uint64_t number)
{
	char digits[24];
	uint32_t i = sizeof(digits) - 1;

	digits[i] = '\0';
	do {
		digits[--i] = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	mmn_text_add(text, &digits[i]);
}

static inline void mmn_text_add_address(struct mmn_text *text, uintptr_t where)
{
	char digits[2 * sizeof(where) + 1];
	uint32_t i = sizeof(digits) - 1;

	digits[i] = '\0';
	do {
		digits[--i] = "0123456789abcdef"[where % 16];
		where /= 16;
	} while (where);
	mmn_text_add(text, "0x");
	mmn_text_add(text, &digits[i]);
}

/* "lock.c:12": the folder is the same for everybody who builds. */
static inline void mmn_text_add_place(struct mmn_text *text, const char *file,
				      uint32_t line)
{
	const char *slash = strrchr(file, '/');

	mmn_text_add(text, slash ? slash + 1 : file);
	mmn_text_add(text, ":");
	mmn_text_add_number(text, line);
}

#endif
