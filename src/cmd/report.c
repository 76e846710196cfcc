/* SPDX-License-Identifier: MIT */
/*
 * The report of mmn run: one page for people, the same facts as JSON for
 * programs, and the status line.
 */
#include <mmn/source.h>

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd.h"

/* Processes that the text names; JSON has all of them. */
#define MAX_LINES 12u

/* Long enough for every number below, with its unit. */
struct text {
	char text[40];
};

/* ------------------------------------------------------------------ */
/* Numbers for people                                                 */
/* ------------------------------------------------------------------ */

static struct text count(uint64_t value)
{
	struct text ret;
	char digits[24];
	size_t length, i, used = 0;

	length = (size_t)snprintf(digits, sizeof(digits), "%llu",
				  (unsigned long long)value);
	for (i = 0; i < length; i++) {
		if (i && (length - i) % 3 == 0)
			ret.text[used++] = ',';
		ret.text[used++] = digits[i];
	}
	ret.text[used] = '\0';
	return ret;
}

static struct text scaled(double value, const char *unit)
{
	struct text ret;

	snprintf(ret.text, sizeof(ret.text), "%.*f %s",
		 value < 10    ? 2
		 : value < 100 ? 1
			       : 0,
		 value, unit);
	return ret;
}

static struct text bytes(uint64_t value)
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB" };
	double number = (double)value / 1024;
	struct text ret;
	unsigned int i = 0;

	if (value < 1024) {
		snprintf(ret.text, sizeof(ret.text), "%llu B",
			 (unsigned long long)value);
		return ret;
	}
	while (number >= 1024 && i < 3) {
		number /= 1024;
		i++;
	}
	return scaled(number, units[i]);
}

static struct text duration(uint64_t ns)
{
	struct text ret;

	if (ns < 1000) {
		snprintf(ret.text, sizeof(ret.text), "%llu ns",
			 (unsigned long long)ns);
		return ret;
	}
	if (ns < 1000000)
		return scaled((double)ns / 1e3, "us");
	if (ns < 1000000000)
		return scaled((double)ns / 1e6, "ms");
	return scaled((double)ns / 1e9, "s");
}

/* ------------------------------------------------------------------ */
/* Facts worked out from the figures                                  */
/* ------------------------------------------------------------------ */

static uint64_t nr_changes(const struct area_slot *slot)
{
	uint64_t sum = 0;
	unsigned int i;

	for (i = 0; i < MMN_NR_CALLS; i++)
		if (i != MMN_CALL_MAP)
			sum += slot->calls[i];
	return sum;
}

/* The latency that @per_thousand of the changes stay within. */
static uint64_t latency(const struct area_slot *slot, unsigned int per_thousand)
{
	uint64_t total = 0, seen = 0, end;
	unsigned int i;

	for (i = 0; i < AREA_BUCKETS; i++)
		total += slot->latency[i];
	if (!total)
		return 0;
	for (i = 0; i < AREA_BUCKETS; i++) {
		seen += slot->latency[i];
		if (seen * 1000 >= total * per_thousand)
			break;
	}
	end = area_bucket_end(i);
	return end < slot->latency_max ? end : slot->latency_max;
}

/*
 * How much longer the followed processes took because of libmmn: what it took
 * to rewrite their call sites, and the whole time of every change that met the
 * mirror, the system call itself included, against the rest of their lives.
 */
static double slow_down(const struct area_slot *sum)
{
	uint64_t ours = sum->install_ns + sum->held_ns;

	if (sum->end_ns <= ours)
		return 1;
	return (double)sum->end_ns / (double)(sum->end_ns - ours);
}

static const char *state_name(uint32_t state)
{
	switch (state) {
	case SLOT_FOLLOWED:
		return "followed";
	case SLOT_COUNTED:
		return "counted";
	case SLOT_NOT_FOLLOWED:
		return "not followed";
	}
	return "?";
}

static void count_states(const struct report *report, unsigned int counts[4])
{
	unsigned int i;

	memset(counts, 0, 4 * sizeof(*counts));
	for (i = 0; i < report->nr_processes; i++)
		counts[report->processes[i].slot.state & 3]++;
}

/* The rows of the self-check that came out so, as a list. */
static unsigned int list_checks(const struct area_slot *slot, uint8_t result,
				char *list, size_t size)
{
	unsigned int i, found = 0;
	size_t used = 0;

	*list = '\0';
	for (i = 0; i < MMN_NR_CHECKS && i < AREA_CHECKS; i++) {
		if (slot->self_check[i] != result)
			continue;
		used += (size_t)snprintf(list + used, size - used, "%s%s",
					 found ? ", " : "", mmn_check_name(i));
		found++;
		if (used >= size)
			break;
	}
	return found;
}

/* ------------------------------------------------------------------ */
/* For people                                                         */
/* ------------------------------------------------------------------ */

struct page {
	FILE *to;
	const char *bold;
	const char *good;
	const char *bad;
	const char *dim;
	const char *plain;
};

__attribute__((format(printf, 4, 5))) static void row(const struct page *page,
						      const char *name,
						      const char *value,
						      const char *format, ...)
{
	va_list args;

	fprintf(page->to, "  %s%-20s%s %11s", page->dim, name, page->plain,
		value);
	if (*format) {
		fputs("  ", page->to);
		va_start(args, format);
		vfprintf(page->to, format, args);
		va_end(args);
	}
	fputc('\n', page->to);
}

static void title(const struct page *page, const struct report *report)
{
	int status = report->status;
	size_t used = 0;
	char line[160];
	char **word;

	for (word = report->argv; *word && used < 60; word++)
		used += (size_t)snprintf(line + used, sizeof(line) - used,
					 "%s%.60s", used ? " " : "", *word);
	fprintf(page->to, "\n%smmn run%s: %.60s%s\n", page->bold, page->plain,
		line, used > 60 || *word ? "..." : "");
	if (WIFSIGNALED(status))
		fprintf(page->to, "  killed by signal %d (%s) after %s\n\n",
			WTERMSIG(status), strsignal(WTERMSIG(status)),
			duration(report->elapsed_ns).text);
	else
		fprintf(page->to, "  exit status %d after %s\n\n",
			WEXITSTATUS(status), duration(report->elapsed_ns).text);
}

static void changes(const struct page *page, const struct area_slot *sum)
{
	const char *name;
	char list[400] = "";
	size_t used = 0, line = 0;
	unsigned int i;

	for (i = 0; i < MMN_NR_CALLS; i++) {
		name = mmn_call_name(i);
		if (!sum->calls[i] || i == MMN_CALL_MAP || !name)
			continue;
		if (used + 80 > sizeof(list))
			break;
		if (used)
			used += (size_t)snprintf(list + used,
						 sizeof(list) - used, ", ");
		if (used - line > 34) {
			used += (size_t)snprintf(list + used - 1,
						 sizeof(list) - used, "\n%36s",
						 "") -
				1;
			line = used;
		}
		used += (size_t)snprintf(list + used, sizeof(list) - used,
					 "%s %s", name,
					 count(sum->calls[i]).text);
	}
	row(page, "changes seen", count(nr_changes(sum)).text, "%s", list);
	if (sum->hits) {
		row(page, "  met the mirror", count(sum->hits).text,
		    "the device let go of %s pages first",
		    count(sum->torn_pages).text);
		row(page, "  held up for", duration(latency(sum, 500)).text,
		    "median; 99 %% within %s, longest %s",
		    duration(latency(sum, 990)).text,
		    duration(sum->latency_max).text);
	} else {
		row(page, "  met the mirror", "0", "%s", "");
	}
	row(page, "collisions retried", count(sum->collisions).text,
	    "entries thrown away: memory changed meanwhile");
}

static void device(const struct page *page, const struct report *report,
		   const struct area_slot *sum)
{
	const char *name = "";
	unsigned int i;

	for (i = 0; i < report->nr_processes && !*name; i++)
		name = report->processes[i].slot.device;
	row(page, "device", *name ? name : "none", "%s",
	    !strcmp(name, "uring") ? "io_uring: the kernel pins the pages"
	    : *name		   ? "in software, holding the physical pages"
				   : "");
	row(page, "transfers", count(sum->transfers).text,
	    "%s read, %s written", bytes(sum->read_bytes).text,
	    bytes(sum->written_bytes).text);
	if (sum->ended_by_change)
		row(page, "  cut short", count(sum->ended_by_change).text,
		    "by a change");
	if (sum->overtaken)
		row(page, "  overtaken", count(sum->overtaken).text,
		    "by a change before they could be checked");
	row(page, "mirrored pages", count(sum->filled_pages).text,
	    "in %s windows, one after another", count(sum->windows).text);
	row(page, "pinned memory", bytes(sum->pinned_peak).text,
	    "at its peak, %s now; budget %s", bytes(sum->pinned).text,
	    bytes(report->options->budget).text);
	if (sum->play_changes)
		row(page, "playground", count(sum->play_writes).text,
		    "device writes; that memory changed %s times",
		    count(sum->play_changes).text);
}

static void cost(const struct page *page, const struct report *report,
		 const struct area_slot *sum)
{
	char ratio[32];

	snprintf(ratio, sizeof(ratio), "%.3f x", slow_down(sum));
	row(page, "slow-down, estimated", ratio,
	    "install %s, held up %s, of %s", duration(sum->install_ns).text,
	    duration(sum->held_ns).text, duration(sum->end_ns).text);
	row(page, "processor time", duration(sum->agent_ns).text,
	    "for the mirror, of %s in all",
	    duration(report->user_ns + report->system_ns).text);
}

static void process_lines(const struct page *page, const struct report *report)
{
	const struct area_slot *slot;
	unsigned int i;

	if (report->nr_processes < 2)
		return;
	fprintf(page->to, "\n  %s%8s  %-15s %12s %12s %8s%s\n", page->dim,
		"pid", "program", "changes", "checked", "stale", page->plain);
	for (i = 0; i < report->nr_processes && i < MAX_LINES; i++) {
		slot = &report->processes[i].slot;
		fprintf(page->to, "  %8u  %-15.15s %12s %12s %8s%s\n",
			slot->pid, slot->name, count(nr_changes(slot)).text,
			count(slot->checked).text, count(slot->stale).text,
			report->processes[i].ended ? "" : "   still running");
	}
	if (report->nr_processes > MAX_LINES)
		fprintf(page->to, "  %8s  and %u more; --json lists them all\n",
			"", report->nr_processes - MAX_LINES);
}

/* Everything that was not as it should be, once for each text. */
static void reasons(const struct page *page, const struct report *report)
{
	const struct area_slot *slot, *other;
	unsigned int i, k, same;
	char list[256];

	for (i = 0; i < report->nr_processes; i++) {
		slot = &report->processes[i].slot;
		if (!*slot->reason)
			continue;
		for (k = 0, same = 0; k < report->nr_processes; k++) {
			other = &report->processes[k].slot;
			if (strcmp(slot->reason, other->reason))
				continue;
			if (k < i)
				break;
			same++;
		}
		if (k < i)
			continue;
		fprintf(page->to, "  note: %s (%u%s): %s: %s\n", slot->name,
			slot->pid, same > 1 ? " and others" : "",
			state_name(slot->state), slot->reason);
	}
	for (i = 0; i < report->nr_processes; i++) {
		slot = &report->processes[i].slot;
		if (!*slot->remark)
			continue;
		fprintf(page->to, "  note: %s (%u): %s\n", slot->name,
			slot->pid, slot->remark);
		break;
	}
	for (i = 0; i < report->nr_remarks; i++)
		fprintf(page->to, "  note: %s\n", report->remarks[i]);
	for (i = 0; i < report->nr_processes; i++) {
		slot = &report->processes[i].slot;
		if (!list_checks(slot, MMN_CHECK_MISSING, list, sizeof(list)))
			continue;
		fprintf(page->to,
			"  note: self-check: these changes go unseen on this "
			"machine: %s\n",
			list);
		break;
	}
	if (report->overflow)
		fprintf(page->to,
			"  note: %s processes found no room for figures\n",
			count(report->overflow).text);
}

static void coverage(const struct page *page, const struct report *report,
		     const struct area_slot *sum)
{
	unsigned int states[4];
	char total[24];

	count_states(report, states);
	snprintf(total, sizeof(total), "%u", report->nr_processes);
	row(page, "processes", total,
	    "%u followed, %u counted, %u not; forked %s", states[SLOT_FOLLOWED],
	    states[SLOT_COUNTED], states[SLOT_NOT_FOLLOWED],
	    count(sum->forks).text);
	row(page, "call sites", count(sum->nr_patched).text,
	    "rewritten; left alone %s, unknown %s", count(sum->nr_refused).text,
	    count(sum->nr_unknown).text);
}

static void verdict(const struct page *page, const struct report *report,
		    const struct area_slot *sum)
{
	char how[128] = "";

	if (sum->checked_frames && sum->checked_contents)
		snprintf(how, sizeof(how),
			 "by frame %s, by contents %s (some by both)",
			 count(sum->checked_frames).text,
			 count(sum->checked_contents).text);
	else if (sum->checked)
		snprintf(how, sizeof(how), "%s",
			 sum->checked_frames ? "each by its page frame"
					     : "each by its contents");
	row(page, "accesses checked", count(sum->checked).text, "%s", how);
	fprintf(page->to, "  %s%-20s %11s%s",
		sum->stale ? page->bad : page->good, "STALE ACCESSES",
		count(sum->stale).text, page->plain);
	if (sum->stale)
		fprintf(page->to, "  first in %s (%u):\n    %s\n", sum->name,
			sum->pid, sum->stale_text);
	else if (sum->checked)
		fputs("  no access to a page the program had "
		      "lost\n",
		      page->to);
	else
		fputs("  nothing was checked\n", page->to);
	if (report->options->want_break && sum->stale)
		fprintf(page->to,
			"    libmmn was broken on purpose (--break %s), and the "
			"checker found it\n",
			break_names[report->options->want_break]);
	else if (report->options->want_break)
		fprintf(page->to,
			"    libmmn was broken on purpose (--break %s), and the "
			"checker did not find it\n",
			break_names[report->options->want_break]);
}

static bool wants_colour(FILE *to)
{
	const char *term = getenv("TERM");
	const char *no = getenv("NO_COLOR");

	return isatty(fileno(to)) && term && strcmp(term, "dumb") &&
	       !(no && *no);
}

static void write_page(const struct report *report, FILE *to, bool colour)
{
	struct page page = { to, "", "", "", "", "" };
	struct area_slot sum;

	if (colour)
		page = (struct page){ to,	    "\033[1m", "\033[1;32m",
				      "\033[1;31m", "\033[2m", "\033[0m" };
	report_sum(report, &sum);
	title(&page, report);
	changes(&page, &sum);
	device(&page, report, &sum);
	cost(&page, report, &sum);
	coverage(&page, report, &sum);
	process_lines(&page, report);
	fputc('\n', to);
	verdict(&page, report, &sum);
	reasons(&page, report);
	fputc('\n', to);
}

/* Written as one piece, so that nothing comes in between. */
void report_text(const struct report *report, FILE *to)
{
	char *text = NULL;
	size_t size = 0;
	FILE *memory = open_memstream(&text, &size);

	if (!memory)
		return;
	write_page(report, memory, wants_colour(to));
	if (!fclose(memory))
		fwrite(text, 1, size, to);
	free(text);
	fflush(to);
}

void report_status(const struct report *report, char *line, size_t width)
{
	struct area_slot sum;
	int length;

	report_sum(report, &sum);
	length = snprintf(line, width,
			  "  mmn: %s changes, %s checked, %s stale, %s pinned",
			  count(nr_changes(&sum)).text, count(sum.checked).text,
			  count(sum.stale).text, bytes(sum.pinned).text);
	if (length < 0)
		*line = '\0';
}

/* ------------------------------------------------------------------ */
/* For programs                                                       */
/* ------------------------------------------------------------------ */

/* JSON text: UTF-8 is not checked, bytes above 127 are written as \u00xx. */
static void quoted(FILE *to, const char *text)
{
	const unsigned char *byte;

	fputc('"', to);
	for (byte = (const unsigned char *)text; *byte; byte++) {
		if (*byte == '"' || *byte == '\\')
			fprintf(to, "\\%c", *byte);
		else if (*byte < 0x20 || *byte > 0x7e)
			fprintf(to, "\\u%04x", *byte);
		else
			fputc(*byte, to);
	}
	fputc('"', to);
}

static void number(FILE *to, const char *name, uint64_t value)
{
	fprintf(to, "\"%s\": %llu", name, (unsigned long long)value);
}

static void json_changes(FILE *to, const struct area_slot *slot)
{
	unsigned int i;

	fputs("{", to);
	number(to, "total", nr_changes(slot));
	for (i = 0; i < MMN_NR_CALLS; i++) {
		if (i == MMN_CALL_MAP)
			continue;
		fputs(", ", to);
		number(to, mmn_call_name(i), slot->calls[i]);
	}
	fputs("}", to);
}

static void json_figures(FILE *to, const struct area_slot *slot,
			 const char *margin)
{
	const struct {
		const char *name;
		uint64_t value;
	} table[] = {
		{ "changes_hit", slot->hits },
		{ "latency_median_ns", latency(slot, 500) },
		{ "latency_p99_ns", latency(slot, 990) },
		{ "latency_max_ns", slot->latency_max },
		{ "held_ns", slot->held_ns },
		{ "install_ns", slot->install_ns },
		{ "agent_cpu_ns", slot->agent_ns },
		{ "sites_found", slot->nr_found },
		{ "sites_patched", slot->nr_patched },
		{ "sites_refused", slot->nr_refused },
		{ "sites_unknown", slot->nr_unknown },
		{ "windows", slot->windows },
		{ "filled_pages", slot->filled_pages },
		{ "torn_down_pages", slot->torn_pages },
		{ "collisions", slot->collisions },
		{ "pinned_bytes", slot->pinned },
		{ "pinned_peak_bytes", slot->pinned_peak },
		{ "transfers", slot->transfers },
		{ "read_bytes", slot->read_bytes },
		{ "written_bytes", slot->written_bytes },
		{ "ended_by_change", slot->ended_by_change },
		{ "checked", slot->checked },
		{ "checked_by_frame", slot->checked_frames },
		{ "checked_by_contents", slot->checked_contents },
		{ "overtaken", slot->overtaken },
		{ "undecided", slot->undecided },
		{ "stale", slot->stale },
		{ "playground_changes", slot->play_changes },
		{ "playground_writes", slot->play_writes },
		{ "playground_checked", slot->play_checked },
		{ "forked_copies", slot->forks },
	};
	unsigned int i;

	fprintf(to, "%s\"changes\": ", margin);
	json_changes(to, slot);
	for (i = 0; i < sizeof(table) / sizeof(*table); i++) {
		fprintf(to, ",\n%s", margin);
		number(to, table[i].name, table[i].value);
	}
}

static void json_checks(FILE *to, const struct area_slot *slot)
{
	static const char *const results[] = { "untested", "delivered",
					       "missing" };
	unsigned int i;

	fputs("{", to);
	for (i = 0; i < MMN_NR_CHECKS && i < AREA_CHECKS; i++)
		fprintf(to, "%s\"%s\": \"%s\"", i ? ", " : "",
			mmn_check_name(i),
			slot->self_check[i] < 3 ? results[slot->self_check[i]]
						: "?");
	fputs("}", to);
}

static void json_process(FILE *to, const struct figures *process)
{
	const struct area_slot *slot = &process->slot;

	fputs("    {\n      ", to);
	number(to, "pid", slot->pid);
	fputs(",\n      \"name\": ", to);
	quoted(to, slot->name);
	fputs(",\n      \"state\": ", to);
	quoted(to, state_name(slot->state));
	fputs(",\n      \"reason\": ", to);
	quoted(to, slot->reason);
	fputs(",\n      \"remark\": ", to);
	quoted(to, slot->remark);
	fputs(",\n      \"device\": ", to);
	quoted(to, slot->device);
	fprintf(to, ",\n      \"ended\": %s",
		process->ended ? "true" : "false");
	fputs(",\n      \"self_check\": ", to);
	json_checks(to, slot);
	fputs(",\n", to);
	json_figures(to, slot, "      ");
	fputs(",\n      \"first_stale\": ", to);
	quoted(to, slot->stale_text);
	fputs("\n    }", to);
}

void report_json(const struct report *report, FILE *to)
{
	struct area_slot sum;
	unsigned int i, states[4];

	report_sum(report, &sum);
	count_states(report, states);
	fputs("{\n  \"mmn\": ", to);
	quoted(to, mmn_version());
	fputs(",\n  \"program\": [", to);
	for (i = 0; report->argv[i]; i++) {
		fputs(i ? ", " : "", to);
		quoted(to, report->argv[i]);
	}
	fputs("],\n", to);
	if (WIFSIGNALED(report->status))
		fprintf(to, "  \"exit_status\": null,\n  \"signal\": %d,\n",
			WTERMSIG(report->status));
	else
		fprintf(to, "  \"exit_status\": %d,\n  \"signal\": null,\n",
			WEXITSTATUS(report->status));
	fputs("  \"break\": ", to);
	if (report->options->want_break)
		quoted(to, break_names[report->options->want_break]);
	else
		fputs("null", to);
	fputs(",\n  ", to);
	number(to, "elapsed_ns", report->elapsed_ns);
	fputs(",\n  ", to);
	number(to, "cpu_ns", report->user_ns + report->system_ns);
	fputs(",\n  ", to);
	number(to, "budget_bytes", report->options->budget);
	fprintf(to, ",\n  \"slow_down\": %.4f,\n  ", slow_down(&sum));
	number(to, "processes_followed", states[SLOT_FOLLOWED]);
	fputs(",\n  ", to);
	number(to, "processes_counted", states[SLOT_COUNTED]);
	fputs(",\n  ", to);
	number(to, "processes_not_followed", states[SLOT_NOT_FOLLOWED]);
	fputs(",\n  ", to);
	number(to, "processes_without_room", report->overflow);
	fputs(",\n", to);
	json_figures(to, &sum, "  ");
	fputs(",\n  \"first_stale\": ", to);
	quoted(to, sum.stale_text);
	fputs(",\n  \"remarks\": [", to);
	for (i = 0; i < report->nr_remarks; i++) {
		fputs(i ? ", " : "", to);
		quoted(to, report->remarks[i]);
	}
	fputs("],\n  \"processes\": [\n", to);
	for (i = 0; i < report->nr_processes; i++) {
		json_process(to, &report->processes[i]);
		fputs(i + 1 < report->nr_processes ? ",\n" : "\n", to);
	}
	fputs("  ]\n}\n", to);
}
