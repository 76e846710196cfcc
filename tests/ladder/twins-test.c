/* SPDX-License-Identifier: MIT */
/*
 * Each line of twins.tsv that is for the explorer: the scenario must fail when
 * the order is taken away from this one access, in the way that the line says.
 *
 * usage: twins-test TABLE [TAG]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ladder/ladder.h"

enum field { TAG, SIDE, ACCESS, REJECTER, BY, SEEN, NR_FIELDS };

/* Whoever has not failed then does not. */
#define MAX_RUNS 2000000

static bool split(char *line, char *fields[NR_FIELDS])
{
	int i;

	line[strcspn(line, "\n")] = 0;
	if (!*line || *line == '#')
		return false;
	for (i = 0; i < NR_FIELDS; i++)
		if (!(fields[i] = strsep(&line, "\t")))
			return false;
	return true;
}

static const struct ladder_scenario *find(const char *name)
{
	const struct ladder_scenario *const *scenario;

	for (scenario = ladder_gallery; *scenario; scenario++)
		if (!strcmp((*scenario)->name, name))
			return *scenario;
	return NULL;
}

static bool is_rejected(char *fields[NR_FIELDS])
{
	struct ladder_options options = {
		.weaken = { .tag = fields[TAG],
			    .side = fields[SIDE],
			    .function = fields[ACCESS] },
		.max_executions = MAX_RUNS,
		.verdict_only = true,
	};
	const struct ladder_scenario *scenario = find(fields[BY]);
	struct ladder_result result;
	const char *failure;

	if (scenario->fails) {
		printf("# %s fails as it is\n", fields[BY]);
		return false;
	}
	if (!ladder_weakening_fits(&options.weaken) ||
	    ladder_explore(scenario, &options, &result))
		return false;
	failure = ladder_failure_name(result.failure);
	printf("# %s: %s; %llu accesses weakened, %llu runs, %.3f s\n", failure,
	       result.text, (unsigned long long)result.weakened,
	       (unsigned long long)result.runs, (double)result.ns / 1e9);
	return result.weakened && result.failure &&
	       !strncmp(fields[SEEN], failure, strlen(failure)) &&
	       fields[SEEN][strlen(failure)] == ':';
}

/* In a child: code with an order too few may do anything. */
static bool try(char *fields[NR_FIELDS])
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		alarm(60);
		status = !is_rejected(fields);
		fflush(stdout);
		_exit(status);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && !status;
}

int main(int argc, char **argv)
{
	char *fields[NR_FIELDS], line[500];
	unsigned int nr = 0, nr_bad = 0;
	FILE *table;
	bool good;

	if (argc < 2 || !(table = fopen(argv[1], "r")))
		return 2;
	while (fgets(line, sizeof(line), table)) {
		if (!split(line, fields) ||
		    strcmp(fields[REJECTER], "ladder") ||
		    (argc > 2 && strcmp(fields[TAG], argv[2])))
			continue;
		/* check-pairs.py has found it among all there are. */
		if (!find(fields[BY])) {
			printf("ok %u # SKIP %s is not in this build\n", ++nr,
			       fields[BY]);
			continue;
		}
		good = try(fields);
		nr_bad += !good;
		printf("%sok %u - %s without %s of %s in %s\n",
		       good ? "" : "not ", ++nr, fields[BY], fields[SIDE],
		       fields[TAG], fields[ACCESS]);
	}
	fclose(table);
	printf("1..%u\n", nr);
	return nr_bad != 0;
}
