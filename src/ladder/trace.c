/* SPDX-License-Identifier: MIT */
#include "ladder/trace.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "ladder/engine.h"
#include "ladder/scenario.h"

/* ------------------------------------------------------------------ */
/* Names                                                              */
/* ------------------------------------------------------------------ */

#define MAX_NAMES 64

static struct {
	uint64_t address;
	size_t size;
	const char *name;
} names[MAX_NAMES];
static unsigned int nr_names;

void names_reset(void)
{
	nr_names = 0;
}

void ladder_name_at(const volatile void *p, size_t size, const char *name)
{
	if (!engine || nr_names == MAX_NAMES)
		return;
	names[nr_names].address = (uintptr_t)p;
	names[nr_names].size = size;
	names[nr_names++].name = name;
}

/* As the source calls it, without what does not tell. */
static const char *word_of(const struct access_site *site)
{
	const char *word = site->word;

	while (*word == '&' || *word == '(')
		word++;
	return word;
}

const char *name_of(uint64_t address, const struct access_site *site,
		    char *buffer, size_t size)
{
	unsigned int i;
	size_t end;

	for (i = nr_names; i-- > 0;) {
		if (address < names[i].address ||
		    address >= names[i].address + names[i].size)
			continue;
		if (address == names[i].address)
			snprintf(buffer, size, "%s", names[i].name);
		else
			snprintf(buffer, size, "%s+%u", names[i].name,
				 (unsigned int)(address - names[i].address));
		return buffer;
	}
	if (site) {
		snprintf(buffer, size, "%s", word_of(site));
		end = strlen(buffer);
		while (end && buffer[end - 1] == ')' && !strchr(buffer, '('))
			buffer[--end] = 0;
	} else {
		memory_describe(address, buffer, size);
	}
	return buffer;
}

static bool has_name(uint64_t address)
{
	unsigned int i;

	for (i = 0; i < nr_names; i++)
		if (address >= names[i].address &&
		    address < names[i].address + names[i].size)
			return true;
	return false;
}

/* ------------------------------------------------------------------ */
/* Lines                                                              */
/* ------------------------------------------------------------------ */

static struct trace_line *new_line(uint8_t thread)
{
	struct ladder_trace *trace = engine->trace;
	struct trace_line *line;

	/* The end is what matters. */
	if (trace->nr_lines == MAX_TRACE_LINES)
		trace->nr_lines--;
	line = &trace->lines[trace->nr_lines++];
	memset(line, 0, sizeof(*line));
	line->thread = thread;
	line->from = UINT32_MAX;
	line->event = NO_EVENT;
	return line;
}

__attribute__((format(printf, 2, 3))) static void
line_add(struct trace_line *line, const char *format, ...)
{
	size_t length = strlen(line->text);
	va_list args;

	va_start(args, format);
	vsnprintf(line->text + length, TRACE_TEXT - length, format, args);
	va_end(args);
}

static void line_add_value(struct trace_line *line, uint64_t value)
{
	if (value < 100000)
		line_add(line, "%llu", (unsigned long long)value);
	else if (value > UINT64_MAX - 100000)
		line_add(line, "%lld", (long long)value);
	else
		line_add(line, "0x%llx", (unsigned long long)value);
}

static const char *const order_suffixes[] = {
	[ORDER_RELAXED] = "",	  [ORDER_CONSUME] = ".con",
	[ORDER_ACQUIRE] = ".acq", [ORDER_RELEASE] = ".rel",
	[ORDER_ACQ_REL] = ".a+r", [ORDER_SEQ_CST] = ".sc",
};

static uint32_t line_of_event(uint16_t id)
{
	const struct ladder_trace *trace = engine->trace;
	const struct graph *graph = engine->graph;
	uint32_t i;

	for (i = 0; id != NO_EVENT && i < trace->nr_lines; i++) {
		uint16_t event = trace->lines[i].event;

		if (event == id)
			return i;
		/* An RMW is one line, named by its read half. */
		if (event != NO_EVENT && graph->events[id].rmw &&
		    graph->events[event].thread == graph->events[id].thread &&
		    graph->events[event].index + 1 == graph->events[id].index)
			return i;
	}
	return UINT32_MAX;
}

/* The write half joins the line of the read half. */
static void trace_second_half(const struct event *e)
{
	struct ladder_trace *trace = engine->trace;
	struct trace_line *line;
	char name[64];

	line = &trace->lines[trace->nr_lines - 1];
	if (e->what)
		return;
	name_of(engine->graph->locations[e->loc].address, e->site, name,
		sizeof(name));
	line->text[0] = 0;
	line_add(line, "[RMW%s] %s: ", order_suffixes[e->order], name);
	line_add_value(line, engine->graph->events[line->event].value);
	line_add(line, " -> ");
	line_add_value(line, e->value);
}

static void trace_access(struct trace_line *line, const struct event *e)
{
	const struct location *loc = &engine->graph->locations[e->loc];
	char name[64];

	name_of(loc->address, e->site, name, sizeof(name));
	if (e->what) {
		line_add(line, "%s %s", e->what, name);
		return;
	}
	line_add(line, "[%s%s] %s = ", e->kind == EVENT_READ ? "R" : "W",
		 order_suffixes[e->order], name);
	line_add_value(line, e->value);
}

void trace_event(const struct event *e, bool stale, uint64_t newest)
{
	struct trace_line *line;

	if (e->kind == EVENT_WRITE && e->rmw) {
		trace_second_half(e);
		return;
	}
	line = new_line(e->thread);
	line->site = e->site;
	line->event = (uint16_t)(e - engine->graph->events);
	if (e->kind == EVENT_FENCE) {
		line_add(line, "fence%s", order_suffixes[e->order]);
		return;
	}
	if (e->kind == EVENT_CHOICE) {
		line_add(line, "chooses %u", (unsigned int)e->value);
		return;
	}
	trace_access(line, e);
	if (e->kind == EVENT_READ)
		line->from = line_of_event(e->rf);
	line->stale = stale;
	if (!stale)
		return;
	line_add(line, " (old: is ");
	line_add_value(line, newest);
	line_add(line, ")");
}

uint32_t trace_plain(uint64_t address, uint64_t size, bool write)
{
	struct trace_line *line;
	char name[64];

	if (!has_name(address))
		return 0;
	line = new_line(engine->current);
	name_of(address, NULL, name, sizeof(name));
	line_add(line, "%s", name);
	if (size > 8) {
		line_add(line, write ? " is written" : " is read");
		return 0;
	}
	line_add(line, write ? " = " : " is ");
	if (!write)
		line_add_value(line, memory_get(address, (uint8_t)size));
	return engine->trace->nr_lines;
}

void trace_value(uint32_t number, uint64_t value)
{
	line_add_value(&engine->trace->lines[number - 1], value);
}

void ladder_note(const char *text)
{
	struct trace_line *line;

	if (!engine || !engine->trace || engine->mode == MODE_ALONE)
		return;
	line = new_line(engine->current);
	line->note = true;
	line_add(line, "// %s", text);
}

void trace_begin(void)
{
	struct ladder_trace *trace = calloc(1, sizeof(*trace));

	if (!trace)
		return;
	trace->scenario = engine->scenario;
	trace->model = engine->options->model;
	trace->nr_threads = engine->nr_threads;
	engine->trace = trace;
}

void trace_end(void)
{
	engine->trace->sequential = engine->trace_is_sequential;
	engine->trace->graph = graph_copy(engine->graph);
	engine->trace->second = engine->failed_thread;
	engine->trace->first = engine->other_thread;
	engine->trace->first_done = engine->other_done;
}

const char *trace_title(const struct ladder_trace *trace, uint8_t thread)
{
	const char *title = trace->scenario->titles[thread];

	return title ? title : "";
}
