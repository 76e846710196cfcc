/* SPDX-License-Identifier: MIT */
/*
 * A property under the examples that came with it, and under random bytes that
 * are the same ones each time.
 *
 * PROPERTY_INPUT=0a0b... in the environment: that input alone, told step by step.
 */
#include "property/property.h"

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "t/tap.h"

#define MAX_SIZE 4096

static const uint8_t *input;
static size_t input_size;
bool property_speaks;

void property_say(const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	t_note("%s", text);
}

static void tell_input(void)
{
	static char text[2 * MAX_SIZE + 1];
	size_t i;

	for (i = 0; i < input_size; i++)
		sprintf(text + 2 * i, "%02x", input[i]);
	t_note("to see it step by step: PROPERTY_INPUT=%s", text);
}

/* It dies again when this returns, of the same. */
static void die(int number)
{
	(void)number;
	tell_input();
}

void property_broken(const char *file, int line, const char *format, ...)
{
	char text[256];
	va_list args;

	tell_input();
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	t_fail_at(file, line, "%s", text);
}

static void run(const uint8_t *data, size_t size)
{
	struct sigaction action = { .sa_handler = die,
				    .sa_flags = SA_RESETHAND };
	/* Of its own size: who reads past the end is seen by sanitizers. */
	uint8_t *copy = malloc(size + !size);

	t_ok(copy);
	if (size)
		memcpy(copy, data, size);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGABRT, &action, NULL);
	input = copy;
	input_size = size;
	property(copy, size);
	free(copy);
}

static unsigned int digit(char c)
{
	if (isdigit((unsigned char)c))
		return c - '0';
	if (!isxdigit((unsigned char)c))
		t_fail("'%c' is no hexadecimal digit", c);
	return tolower((unsigned char)c) - 'a' + 10;
}

static void run_text(const char *text)
{
	static uint8_t data[MAX_SIZE];
	size_t size = 0;

	while (*text) {
		if (isspace((unsigned char)*text)) {
			text++;
			continue;
		}
		t_lt(size, MAX_SIZE);
		t_ok(text[1]);
		data[size++] = digit(text[0]) << 4 | digit(text[1]);
		text += 2;
	}
	run(data, size);
}

static void allow_a_thread(void)
{
	if (property_keeps_a_thread)
		t_may_keep_mapped(64 << 20, "the thread that frees stays");
}

TEST(holds_in_the_examples)
{
	const struct property_example *example;
	const char *given = getenv("PROPERTY_INPUT");

	allow_a_thread();
	if (given) {
		property_speaks = true;
		run_text(given);
		return;
	}
	for (example = property_examples; example->what; example++) {
		t_note("%s", example->what);
		run_text(example->bytes);
	}
}

/* Which of them, does not matter: they must be the same everywhere. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

/* Fewer where each step costs a multiple. */
static unsigned int nr_random(void)
{
	return T_TSAN || t_is_emulated() ? property_nr_random / 10
					 : property_nr_random;
}

TEST(holds_under_random_bytes)
{
	uint8_t data[MAX_SIZE];
	uint64_t state = 0;
	unsigned int n, i, size;

	allow_a_thread();
	for (n = 0; n < nr_random(); n++) {
		state = n;
		size = 1 + next_random(&state) % property_random_size;
		for (i = 0; i < size; i++)
			data[i] = (uint8_t)next_random(&state);
		run(data, size);
	}
}
