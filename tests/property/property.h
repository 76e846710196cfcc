/* SPDX-License-Identifier: MIT */
#ifndef PROPERTY_PROPERTY_H
#define PROPERTY_PROPERTY_H
/*
 * One property, several drivers.
 *
 * A property is one function: bytes say what is done, and whatever the bytes
 * are, what comes out must be what a simple model says.  Every sequence of bytes
 * means something, so that anybody may make them up:
 *
 *	property-table-test.c	the examples of the property, and bytes of a
 *				random generator with fixed seeds; in the suites
 *	fuzzer.c		libFuzzer, which keeps what reaches new code
 *
 * Where both differ property_broken() ends the run.  `meson test` runs the first;
 * doc/PROOF.md says how to run the second and how to look at what it has found.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The library under the bytes @data, or both: does nothing, or does not return. */
void property(const uint8_t *data, size_t size);

/* What is worth being tried each time; ends with a NULL. */
struct property_example {
	const char *what;
	/* pairs of digits, blanks between */
	const char *bytes;
};
extern const struct property_example property_examples[];

/* How many inputs of the random generator are tried, and how long they are. */
extern const unsigned int property_nr_random;
extern const unsigned int property_random_size;

/* May the library keep a thread, with its stack, which frees in the background? */
extern const bool property_keeps_a_thread;

/* ---- from the driver ---- */

__attribute__((noreturn, format(printf, 3, 4))) void
property_broken(const char *file, int line, const char *format, ...);

/* A line about what is done, for who looks at one input. */
__attribute__((format(printf, 1, 2))) void property_say(const char *format,
							...);
extern bool property_speaks;

#define hold(condition, format, ...)                                       \
	do {                                                               \
		if (!(condition))                                          \
			property_broken(__FILE__, __LINE__, "%s: " format, \
					#condition, ##__VA_ARGS__);        \
	} while (0)

#define say(...)                                   \
	do {                                       \
		if (property_speaks)               \
			property_say(__VA_ARGS__); \
	} while (0)

/* ---- bytes ---- */

struct bytes {
	const uint8_t *at;
	const uint8_t *end;
};

static inline bool bytes_left(const struct bytes *bytes)
{
	return bytes->at < bytes->end;
}

/* 0 after the end, which must mean something that ends. */
static inline uint8_t next_byte(struct bytes *bytes)
{
	return bytes_left(bytes) ? *bytes->at++ : 0;
}

static inline uint64_t next_word(struct bytes *bytes, unsigned int nr_bytes)
{
	uint64_t word = 0;

	while (nr_bytes--)
		word = word << 8 | next_byte(bytes);
	return word;
}

#endif
