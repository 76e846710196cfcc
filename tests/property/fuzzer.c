/* SPDX-License-Identifier: MIT */
/*
 * A property under libFuzzer, which begins with the examples when it is given a
 * folder for them: PROPERTY_SEEDS=folder, and that as its corpus.
 */
#include "property/property.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

bool property_speaks;

void property_say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

void property_broken(const char *file, int line, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "%s:%d: ", file, line);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	abort();
}

static void write_bytes(const char *text, FILE *file)
{
	unsigned int byte;
	int length;

	for (; sscanf(text, "%2x%n", &byte, &length) == 1; text += length)
		fputc((int)byte, file);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *folder = getenv("PROPERTY_SEEDS");
	char path[4096];
	unsigned int i;
	FILE *file;

	(void)argc;
	(void)argv;
	for (i = 0; folder && property_examples[i].what; i++) {
		snprintf(path, sizeof(path), "%s/example-%u", folder, i);
		file = fopen(path, "w");
		if (!file) {
			perror(path);
			return 1;
		}
		write_bytes(property_examples[i].bytes, file);
		fclose(file);
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	property(data, size);
	return 0;
}
