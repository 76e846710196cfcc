/* SPDX-License-Identifier: MIT */
/* mmn ladder: explore a scenario, and show the shortest failing execution. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "ladder/ladder.h"

/* A shorter one is looked for among so many more. */
#define DEFAULT_MORE 2000

struct request {
	const char *name;
	bool list;
	bool explain;
	const char *svg;
	struct ladder_options options;
};

void ladder_usage(FILE *to)
{
	fputs("usage: mmn ladder --list\n"
	      "       mmn ladder [OPTION...] SCENARIO\n"
	      "\n"
	      "  --explain        say in words what goes wrong, and what would "
	      "forbid it\n"
	      "  --model MODEL    c11 (default), tso, or sc\n"
	      "  --weaken TAG     make the accesses of pair(TAG) relaxed; "
	      "TAG:acquire,\n"
	      "                   TAG:release: one side; TAG:seq_cst: what "
	      "orders more\n"
	      "                   than these; TAG@FUNCTION: there only; "
	      "TAG@FUNCTION.2:\n"
	      "                   only the second one there\n"
	      "  --runs N         stop after so many runs\n"
	      "  --events N       end an execution when a thread has made so "
	      "many accesses\n"
	      "  --svg FILE       draw the failing execution\n"
	      "  --list           the scenarios\n"
	      "\n"
	      "See mmn-ladder(1).\n",
	      to);
}

static int list_scenarios(void)
{
	const struct ladder_scenario *const *scenario;

	for (scenario = ladder_gallery; *scenario; scenario++)
		printf("%-20s %-6s %s\n", (*scenario)->name,
		       (*scenario)->fails ? "fails" : "holds",
		       (*scenario)->what);
	return 0;
}

static const struct ladder_scenario *find_scenario(const char *name)
{
	const struct ladder_scenario *const *scenario;

	for (scenario = ladder_gallery; *scenario; scenario++)
		if (!strcmp((*scenario)->name, name))
			return *scenario;
	return NULL;
}

static bool parse_model(const char *text, enum ladder_model *ret_model)
{
	enum ladder_model model;

	for (model = LADDER_C11; model <= LADDER_SC; model++) {
		if (strcmp(text, ladder_model_name(model)))
			continue;
		*ret_model = model;
		return true;
	}
	complain("--model: c11, tso, or sc, not %s", text);
	return false;
}

static bool parse_number(const char *option, const char *text, uint64_t max,
			 uint64_t *ret_number)
{
	unsigned long long number;
	char *end;

	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || !number ||
	    number > max) {
		complain("--%s: a number from 1 to %llu, not %s", option,
			 (unsigned long long)max, text);
		return false;
	}
	*ret_number = number;
	return true;
}

/* TAG[:SIDE][@FUNCTION]; the text is taken apart. */
static bool parse_weakening(char *text, struct ladder_weakening *weaken)
{
	char *at = strchr(text, '@'), *colon;

	if (at)
		*at++ = 0;
	colon = strchr(text, ':');
	if (colon)
		*colon++ = 0;
	if (colon && strcmp(colon, "acquire") && strcmp(colon, "release") &&
	    strcmp(colon, "seq_cst")) {
		complain("--weaken: the side is acquire, release, or seq_cst, "
			 "not %s",
			 colon);
		return false;
	}
	weaken->tag = text;
	weaken->side = colon;
	weaken->function = at;
	if (ladder_weakening_fits(weaken))
		return true;
	complain("--weaken: there is no pair(%s)%s%s", text,
		 at ? " in the function " : "", at ? at : "");
	return false;
}

static bool parse_option(struct request *request, int option)
{
	uint64_t number = 0;

	switch (option) {
	case 'l':
		request->list = true;
		return true;
	case 'e':
		request->explain = true;
		return true;
	case 'm':
		return parse_model(optarg, &request->options.model);
	case 'w':
		return parse_weakening(optarg, &request->options.weaken);
	case 'r':
		return parse_number("runs", optarg, UINT64_MAX,
				    &request->options.max_executions);
	case 'n':
		if (!parse_number("events", optarg, LADDER_MAX_EVENTS, &number))
			return false;
		request->options.max_events = (uint32_t)number;
		return true;
	case 's':
		request->svg = optarg;
		return true;
	case 'h':
		return true;
	}
	return false;
}

static bool parse(struct request *request, int argc, char **argv)
{
	static const struct option options[] = {
		{ "list", no_argument, NULL, 'l' },
		{ "explain", no_argument, NULL, 'e' },
		{ "model", required_argument, NULL, 'm' },
		{ "weaken", required_argument, NULL, 'w' },
		{ "runs", required_argument, NULL, 'r' },
		{ "events", required_argument, NULL, 'n' },
		{ "svg", required_argument, NULL, 's' },
		{ 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
		if (!parse_option(request, option))
			return false;
	if (request->list)
		return optind == argc;
	if (optind + 1 != argc) {
		complain("ladder: name one scenario; --list shows them");
		return false;
	}
	request->name = argv[optind];
	return true;
}

static int draw(const struct request *request,
		const struct ladder_result *result)
{
	FILE *file = fopen(request->svg, "w");

	if (!file) {
		complain("%s: %s", request->svg, strerror(errno));
		return EXIT_INTERNAL;
	}
	ladder_print_svg(result, file);
	if (fclose(file)) {
		complain("%s: %s", request->svg, strerror(errno));
		return EXIT_INTERNAL;
	}
	return 0;
}

static void print_figures(const struct request *request,
			  const struct ladder_result *result)
{
	uint64_t all = result->executions + result->blocked + result->cut +
		       result->failing;
	const char *verdict = "no failure found";

	if (result->failure)
		verdict = "FAILS";
	else if (result->complete)
		verdict = "holds";
	printf("%s, model %s: %s\n", request->name,
	       ladder_model_name(request->options.model), verdict);
	printf("%" PRIu64 " executions, %s: %" PRIu64 " complete, %" PRIu64
	       " waiting, %" PRIu64 " failing, %" PRIu64 " cut short; %" PRIu64
	       " runs, %.3f s\n",
	       all, result->complete ? "all there are" : "not all there are",
	       result->executions, result->blocked, result->failing,
	       result->cut, result->runs, (double)result->ns / 1e9);
}

static int report(const struct request *request,
		  const struct ladder_scenario *scenario,
		  const struct ladder_result *result)
{
	int ret = 0;

	printf("%s: %s\n\n", scenario->name, scenario->what);
	if (result->failure) {
		ladder_print(result, stdout);
		putchar('\n');
	}
	if (request->explain && scenario->explanation &&
	    !request->options.weaken.tag)
		printf("%s\n\n", scenario->explanation);
	if (request->explain && result->failure) {
		ladder_print_remedy(result, stdout);
		putchar('\n');
	}
	print_figures(request, result);
	if (request->svg && result->trace)
		ret = draw(request, result);
	else if (request->svg)
		complain("nothing failed: %s is not written", request->svg);
	if (ret)
		return ret;
	if (result->failure)
		return EXIT_LADDER_FAILS;
	return result->complete ? 0 : EXIT_LADDER_BOUND;
}

int ladder_main(int argc, char **argv)
{
	struct request request = { .options.max_more = DEFAULT_MORE };
	const struct ladder_scenario *scenario;
	struct ladder_result result;
	int ret;

	if (!parse(&request, argc, argv)) {
		ladder_usage(stderr);
		return EXIT_USAGE;
	}
	if (request.list)
		return list_scenarios();
	scenario = find_scenario(request.name);
	if (!scenario) {
		complain("no such scenario: %s; --list shows them",
			 request.name);
		return EXIT_USAGE;
	}
	ret = ladder_explore(scenario, &request.options, &result);
	if (ret) {
		complain("%s: %s", request.name, strerror(-ret));
		return EXIT_INTERNAL;
	}
	ret = report(&request, scenario, &result);
	ladder_result_fini(&result);
	return ret;
}
