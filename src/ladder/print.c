/* SPDX-License-Identifier: MIT */
/* The ladder as text. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "ladder/pairs.h"
#include "ladder/trace.h"

#define WIDTH 80
#define MARGIN 4

const char *ladder_failure_name(enum ladder_failure failure)
{
	static const char *const failure_names[] = {
		[LADDER_NONE] = "no failure",
		[LADDER_ASSERTION] = "assertion",
		[LADDER_RACE] = "data race",
		[LADDER_DEADLOCK] = "deadlock",
		[LADDER_LOST_WAKEUP] = "lost wake-up",
		[LADDER_USE_AFTER_FREE] = "use after free",
		[LADDER_BAD_FREE] = "bad free",
		[LADDER_UNSUPPORTED] = "not supported",
	};

	return failure_names[failure];
}

const char *ladder_model_name(enum ladder_model model)
{
	static const char *const model_names[] = { "c11", "tso", "sc" };

	return model_names[model];
}

/* How much of the text fits into a column: up to a blank, if there is one. */
static size_t part_that_fits(const char *text, size_t width)
{
	size_t length = strlen(text), i;

	if (length <= width)
		return length;
	for (i = width; i > width / 2; i--)
		if (text[i] == ' ')
			return i;
	return width;
}

static void print_cell(FILE *to, const struct ladder_trace *trace,
		       uint32_t number, uint8_t thread, const char *text)
{
	size_t width = (WIDTH - MARGIN) / trace->nr_threads - 1;
	bool first = true;

	while (*text) {
		size_t indent = first ? 0 : 4;
		size_t part = part_that_fits(text, width - indent);

		if (number && first)
			fprintf(to, "%3u ", number);
		else
			fprintf(to, "    ");
		fprintf(to, "%*s%*s%.*s\n", (int)((width + 1) * thread), "",
			(int)indent, "", (int)part, text);
		text += part;
		while (*text == ' ')
			text++;
		first = false;
	}
}

static void print_heads(FILE *to, const struct ladder_trace *trace)
{
	size_t width = (WIDTH - MARGIN) / trace->nr_threads - 1;
	char head[WIDTH];
	uint8_t t;

	fprintf(to, "   ");
	for (t = 0; t < trace->nr_threads; t++) {
		const char *title = trace_title(trace, t);

		snprintf(head, sizeof(head), "CPU%u%s%s", t, *title ? ": " : "",
			 title);
		fprintf(to, " %.*s", (int)width, head);
		if (t + 1 < trace->nr_threads && strlen(head) < width)
			fprintf(to, "%*s", (int)(width - strlen(head)), "");
	}
	fputc('\n', to);
}

/* A path is told from where the project begins. */
static const char *short_path(const char *path)
{
	while (!strncmp(path, "../", 3))
		path += 3;
	return path;
}

/* With @head in front of the first line, and as wide as the ladder. */
static void print_wrapped(FILE *to, const char *head, const char *text)
{
	size_t width = WIDTH - strlen(head);

	for (;;) {
		size_t part = part_that_fits(text, width);

		fprintf(to, "%s%.*s\n", head, (int)part, text);
		text += part;
		while (*text == ' ')
			text++;
		if (!*text)
			return;
		head = "        ";
		width = WIDTH - strlen(head);
	}
}

static void print_sites(FILE *to, const struct ladder_trace *trace)
{
	char head[MARGIN + 8], text[256];
	bool any = false;
	uint32_t i;

	for (i = 0; i < trace->nr_lines; i++) {
		const struct access_site *site = trace->lines[i].site;
		const struct pair *pair;

		if (!site)
			continue;
		if (!any)
			fputc('\n', to);
		any = true;
		pair = pair_of(site, NULL);
		snprintf(head, sizeof(head), "%3u ", i + 1);
		snprintf(text, sizeof(text), "%s:%d %s(): %s%s%s%s",
			 short_path(site->file), site->line, site->function,
			 site->macro, pair ? ", pair(" : "",
			 pair ? pair->tag : "", pair ? ")" : "");
		print_wrapped(to, head, text);
	}
}

void ladder_print(const struct ladder_result *result, FILE *to)
{
	const struct ladder_trace *trace = result->trace;
	char text[256];
	uint32_t i;

	if (!trace)
		return;
	print_heads(to, trace);
	fputc('\n', to);
	for (i = 0; i < trace->nr_lines; i++)
		print_cell(to, trace, i + 1, trace->lines[i].thread,
			   trace->lines[i].text);
	fputc('\n', to);
	snprintf(text, sizeof(text), "%s: %s",
		 ladder_failure_name(result->failure), result->text);
	print_wrapped(to, "    *** ", text);
	print_sites(to, trace);
}

void ladder_result_fini(struct ladder_result *result)
{
	if (result->trace)
		graph_destroy(result->trace->graph);
	free(result->trace);
	result->trace = NULL;
}
