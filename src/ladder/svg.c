/* SPDX-License-Identifier: MIT */
/*
 * The ladder as SVG: a box per step, an arrow from the write to each read in
 * another column that got its value, dashed where that value was old.
 */
#include "ladder/trace.h"

#define COLUMN 300
#define ROW 30
#define TOP 70
#define BOX 250
#define BOX_HEIGHT 22

static void print_text(FILE *to, const char *text)
{
	for (; *text; text++) {
		if (*text == '<')
			fputs("&lt;", to);
		else if (*text == '>')
			fputs("&gt;", to);
		else if (*text == '&')
			fputs("&amp;", to);
		else
			fputc(*text, to);
	}
}

static int column_of(uint8_t thread)
{
	return 20 + thread * COLUMN;
}

static int row_of(uint32_t line)
{
	return TOP + (int)line * ROW;
}

static void draw_heads(FILE *to, const struct ladder_trace *trace)
{
	uint8_t t;

	for (t = 0; t < trace->nr_threads; t++) {
		int x = column_of(t) + BOX / 2;

		fprintf(to,
			"<line class=\"rail\" x1=\"%d\" y1=\"%d\" x2=\"%d\" "
			"y2=\"%d\"/>\n<text class=\"head\" x=\"%d\" "
			"y=\"%d\">CPU%u ",
			x, TOP - 20, x, row_of(trace->nr_lines), x, TOP - 30,
			t);
		print_text(to, trace_title(trace, t));
		fprintf(to, "</text>\n");
	}
}

static void draw_step(FILE *to, const struct trace_line *line, uint32_t number)
{
	int x = column_of(line->thread), y = row_of(number);

	if (!line->note)
		fprintf(to,
			"<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%d\" "
			"height=\"%d\" rx=\"4\"/>\n",
			line->stale ? "stale" : "step", x, y, BOX, BOX_HEIGHT);
	fprintf(to, "<text class=\"%s\" x=\"%d\" y=\"%d\">",
		line->note ? "note" : "what", x + BOX / 2, y + 15);
	print_text(to, line->text);
	fprintf(to, "</text>\n");
}

static void draw_arrow(FILE *to, const struct ladder_trace *trace,
		       uint32_t number)
{
	const struct trace_line *read = &trace->lines[number];
	const struct trace_line *write;
	bool right;

	if (read->from == UINT32_MAX)
		return;
	write = &trace->lines[read->from];
	if (write->thread == read->thread)
		return;
	right = read->thread > write->thread;
	fprintf(to,
		"<line class=\"%s\" x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" "
		"marker-end=\"url(#tip)\"/>\n",
		read->stale ? "old" : "rf",
		column_of(write->thread) + (right ? BOX : 0),
		row_of(read->from) + BOX_HEIGHT / 2,
		column_of(read->thread) + (right ? 0 : BOX),
		row_of(number) + BOX_HEIGHT / 2);
}

static const char style[] =
	"<style>\n"
	"text { font: 13px monospace; text-anchor: middle; fill: #222 }\n"
	".head { font-weight: bold }\n"
	".note { font-style: italic; fill: #555 }\n"
	".rail { stroke: #ccc }\n"
	".step { fill: #eef3fa; stroke: #7a93b8 }\n"
	".stale { fill: #fdeaea; stroke: #c03030 }\n"
	".rf { stroke: #3a7a3a }\n"
	".old { stroke: #c03030; stroke-dasharray: 5 3 }\n"
	".wrong { fill: #c03030; font-weight: bold; text-anchor: start }\n"
	"</style>\n"
	"<defs><marker id=\"tip\" markerWidth=\"8\" markerHeight=\"8\" "
	"refX=\"7\" refY=\"3\" orient=\"auto\"><path d=\"M0,0 L7,3 L0,6 z\"/>"
	"</marker></defs>\n";

void ladder_print_svg(const struct ladder_result *result, FILE *to)
{
	const struct ladder_trace *trace = result->trace;
	int width, height;
	uint32_t i;

	if (!trace)
		return;
	width = column_of(trace->nr_threads);
	height = row_of(trace->nr_lines) + 50;
	fprintf(to,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" "
		"height=\"%d\" viewBox=\"0 0 %d %d\">\n",
		width, height, width, height);
	fputs(style, to);
	fprintf(to, "<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n",
		width, height);
	draw_heads(to, trace);
	for (i = 0; i < trace->nr_lines; i++)
		draw_step(to, &trace->lines[i], i);
	for (i = 0; i < trace->nr_lines; i++)
		draw_arrow(to, trace, i);
	fprintf(to, "<text class=\"wrong\" x=\"20\" y=\"%d\">",
		row_of(trace->nr_lines) + 30);
	print_text(to, ladder_failure_name(result->failure));
	print_text(to, ": ");
	print_text(to, result->text);
	fprintf(to, "</text>\n</svg>\n");
}
