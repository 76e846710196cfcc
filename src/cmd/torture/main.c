/* SPDX-License-Identifier: MIT */
/* mmn torture: which scenarios, which flavour, how long? */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../cmd.h"
#include "torture.h"

#define DEFAULT_SECONDS 10
#define DEFAULT_STALL 60

static const struct scenario *const scenarios[] = {
	&notifier_scenario, &classic_scenario, &fence_scenario,
	&ww_scenario,	    &resv_scenario,    &sync_scenario,
	&cache_scenario,    &process_scenario,
};

#define NR_SCENARIOS (sizeof(scenarios) / sizeof(*scenarios))

struct request {
	struct torture_options options;
	double seconds;
	const char *flavour;
	bool list;
	bool wanted[NR_SCENARIOS];
};

void torture_usage(FILE *to)
{
	fputs("usage: mmn torture [OPTION...] [SCENARIO...]\n"
	      "       mmn torture --flavour list\n"
	      "\n"
	      "  --flavour NAME      real (default), or one that is broken on "
	      "purpose\n"
	      "  --seconds N         for all scenarios together (10)\n"
	      "  --seed N            what is done at random (from the clock)\n"
	      "  --threads N         so many of each role, 1 to 16\n"
	      "  --stat-interval N   print figures every N seconds\n"
	      "  --stall N           fail when somebody makes no progress for "
	      "N s (60)\n"
	      "  --disturb LIST      of delay,preempt,shuffle,stutter,inject; "
	      "all; none\n"
	      "  --inject POINT=N    let a point fire one time in N; 0 never\n"
	      "\n"
	      "Without scenarios: all of them.  See mmn(1).\n",
	      to);
}

static const struct flavour *find_flavour(const struct scenario *scenario,
					  const char *name)
{
	const struct flavour *flavour;

	for (flavour = scenario->flavours; flavour->name; flavour++)
		if (!strcmp(flavour->name, name))
			return flavour;
	return NULL;
}

static int list_flavours(void)
{
	const struct flavour *flavour;
	size_t i;

	for (i = 0; i < NR_SCENARIOS; i++) {
		printf("%-10s %-16s %s\n", scenarios[i]->name, "real",
		       scenarios[i]->what);
		for (flavour = scenarios[i]->flavours; flavour->name; flavour++)
			printf("%-10s %-16s %s\n", scenarios[i]->name,
			       flavour->name, flavour->what);
	}
	return 0;
}

/* --- options -------------------------------------------------------------- */

static bool parse_seconds(const char *option, const char *text,
			  double *ret_seconds)
{
	double seconds;
	char *end;

	errno = 0;
	seconds = strtod(text, &end);
	if (errno || end == text || *end || !(seconds > 0 && seconds <= 1e7)) {
		complain("--%s: seconds, more than 0 and at most 1e7, not %s",
			 option, text);
		return false;
	}
	*ret_seconds = seconds;
	return true;
}

static bool parse_number(const char *option, const char *text, uint64_t min,
			 uint64_t max, uint64_t *ret_number)
{
	unsigned long long number;
	char *end;

	errno = 0;
	number = strtoull(text, &end, 0);
	if (errno || end == text || *end || strchr(text, '-') || number < min ||
	    number > max) {
		complain("--%s: a number from %" PRIu64 " to %" PRIu64
			 ", not %s",
			 option, min, max, text);
		return false;
	}
	*ret_number = number;
	return true;
}

static bool parse_inject(struct torture_options *options, char *text)
{
	char *equals = strchr(text, '=');
	uint64_t number;
	int point;

	if (equals)
		*equals = 0;
	point = mmn_inject_find(text);
	if (!equals || point < 0) {
		complain("--inject: %s%s", text,
			 equals ? " is no point of the library"
				: ": POINT=N is wanted");
		return false;
	}
	if (!parse_number("inject", equals + 1, 0, UINT32_MAX, &number))
		return false;
	options->one_in[point] = (uint32_t)number;
	options->asked |= 1u << point;
	return true;
}

static uint32_t disturbance_bits(const char *name, size_t size)
{
	const struct disturbance *disturbance = torture_disturbances;

	if (size == 3 && !strncmp(name, "all", size))
		return DISTURB_ALL;
	for (; disturbance->name; disturbance++)
		if (strlen(disturbance->name) == size &&
		    !strncmp(name, disturbance->name, size))
			return disturbance->bit;
	return 0;
}

static bool parse_disturb(struct torture_options *options, const char *text)
{
	const char *name = text;
	uint32_t bits;
	size_t size;

	options->disturb = 0;
	if (!strcmp(text, "none"))
		return true;
	for (;; name += size + 1) {
		size = strcspn(name, ",");
		bits = disturbance_bits(name, size);
		if (!bits) {
			complain("--disturb: a list of delay, preempt, "
				 "shuffle, stutter and inject, not %s",
				 text);
			return false;
		}
		options->disturb |= bits;
		if (!name[size])
			return true;
	}
}

static bool parse_option(struct request *request, int option)
{
	struct torture_options *options = &request->options;
	uint64_t number;

	switch (option) {
	case 'f':
		request->flavour = optarg;
		return true;
	case 's':
		return parse_seconds("seconds", optarg, &request->seconds);
	case 'r':
		return parse_number("seed", optarg, 0, UINT64_MAX,
				    &options->seed);
	case 't':
		if (!parse_number("threads", optarg, 1, MAX_CROWD, &number))
			return false;
		options->crowd = (uint32_t)number;
		return true;
	case 'i':
		return parse_seconds("stat-interval", optarg,
				     &options->stat_interval);
	case 'l':
		return parse_seconds("stall", optarg, &options->stall_seconds);
	case 'd':
		return parse_disturb(options, optarg);
	case 'j':
		return parse_inject(options, optarg);
	}
	return false;
}

static bool want(struct request *request, const char *name)
{
	size_t i;

	for (i = 0; i < NR_SCENARIOS; i++)
		if (!strcmp(scenarios[i]->name, name))
			return request->wanted[i] = true;
	complain("no such scenario: %s; --flavour list shows them", name);
	return false;
}

/* Without names: all that have the flavour. */
static bool choose(struct request *request, int argc, char **argv)
{
	bool all = optind == argc, some = false;
	size_t i;

	for (; optind < argc; optind++)
		if (!want(request, argv[optind]))
			return false;
	for (i = 0; i < NR_SCENARIOS; i++) {
		bool has = !request->flavour ||
			   find_flavour(scenarios[i], request->flavour);

		if (request->wanted[i] && !has) {
			complain("%s has no flavour %s", scenarios[i]->name,
				 request->flavour);
			return false;
		}
		request->wanted[i] |= all && has;
		some |= request->wanted[i];
	}
	if (!some)
		complain("no such flavour: %s; --flavour list shows them",
			 request->flavour);
	return some;
}

static bool parse(struct request *request, int argc, char **argv)
{
	static const struct option options[] = {
		{ "flavour", required_argument, NULL, 'f' },
		{ "seconds", required_argument, NULL, 's' },
		{ "seed", required_argument, NULL, 'r' },
		{ "threads", required_argument, NULL, 't' },
		{ "stat-interval", required_argument, NULL, 'i' },
		{ "stall", required_argument, NULL, 'l' },
		{ "disturb", required_argument, NULL, 'd' },
		{ "inject", required_argument, NULL, 'j' },
		{ 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
		if (!parse_option(request, option))
			return false;
	if (request->flavour && !strcmp(request->flavour, "list")) {
		request->list = true;
		return optind == argc;
	}
	if (request->flavour && !strcmp(request->flavour, "real"))
		request->flavour = NULL;
	return choose(request, argc, argv);
}

/* --- running -------------------------------------------------------------- */

/* Ends at the first failure. */
static int run_all(struct request *request)
{
	uint32_t nr = 0, nr_done = 0;
	size_t i;

	for (i = 0; i < NR_SCENARIOS; i++)
		nr += request->wanted[i];
	request->options.seconds = request->seconds / nr;
	for (i = 0; i < NR_SCENARIOS; i++) {
		if (!request->wanted[i])
			continue;
		if (torture_run(scenarios[i],
				request->flavour
					? find_flavour(scenarios[i],
						       request->flavour)
					: NULL,
				&request->options)) {
			printf("torture: FAILURE: %s, flavour %s: %s\n",
			       scenarios[i]->name,
			       request->flavour ? request->flavour : "real",
			       torture_failure());
			return EXIT_TORTURE_FAILS;
		}
		nr_done++;
	}
	printf("torture: SUCCESS: %u of %u scenarios, seed %#" PRIx64 "\n",
	       nr_done, nr, request->options.seed);
	return 0;
}

int torture_main(int argc, char **argv)
{
	struct request request = {
		.seconds = DEFAULT_SECONDS,
		.options = {
			.seed = (uint64_t)time(NULL),
			.stall_seconds = DEFAULT_STALL,
			.disturb = DISTURB_ALL,
			.one_in = {
				[MMN_INJECT_ALLOC] = 200,
				[MMN_INJECT_REFUSE] = 50,
				[MMN_INJECT_RETRY] = 50,
				[MMN_INJECT_DELAY] = 50,
				[MMN_INJECT_WW_DEADLOCK] = 50,
			},
		},
	};
	int ret;

	if (!parse(&request, argc, argv)) {
		torture_usage(stderr);
		return EXIT_USAGE;
	}
	if (request.list)
		return list_flavours();
	ret = run_all(&request);
	fflush(stdout);
	/* Nothing that they use may be taken apart. */
	if (torture_is_stuck())
		_Exit(ret);
	return ret;
}
