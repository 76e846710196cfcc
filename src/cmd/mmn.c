/* SPDX-License-Identifier: MIT */
/* The mmn command: which subcommand? */
#include <mmn/common.h>

#include <string.h>

#include "cmd.h"

static void usage(FILE *to)
{
	fputs("usage: mmn run [OPTION...] -- PROGRAM [ARGUMENT...]\n"
	      "       mmn ladder --list\n"
	      "       mmn ladder [OPTION...] SCENARIO\n"
	      "       mmn torture [OPTION...] [SCENARIO...]\n"
	      "       mmn help [run | ladder | torture]\n"
	      "       mmn version\n"
	      "\n"
	      "run      run a program, mirror part of its memory into a device, "
	      "and prove\n"
	      "         that the device never touches a page the program has "
	      "lost\n"
	      "ladder   explore a small concurrent program completely, and "
	      "show how it fails\n"
	      "torture  disturb every layer of the library for a while, and "
	      "look for harm\n"
	      "\n"
	      "See mmn(1).\n",
	      to);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (!strcmp(what, "run"))
		return run_main(argc - 1, argv + 1);
#ifdef MMN_HAS_LADDER
	if (!strcmp(what, "ladder"))
		return ladder_main(argc - 1, argv + 1);
#endif
	if (!strcmp(what, "torture"))
		return torture_main(argc - 1, argv + 1);
	if (!strcmp(what, "version") || !strcmp(what, "--version") ||
	    !strcmp(what, "-V")) {
		printf("mmn %s\n", mmn_version());
		return 0;
	}
	if (!strcmp(what, "help") || !strcmp(what, "--help") ||
	    !strcmp(what, "-h")) {
		if (argc > 2 && !strcmp(argv[2], "run"))
			run_usage(stdout);
		else if (argc > 2 && !strcmp(argv[2], "torture"))
			torture_usage(stdout);
#ifdef MMN_HAS_LADDER
		else if (argc > 2 && !strcmp(argv[2], "ladder"))
			ladder_usage(stdout);
#endif
		else
			usage(stdout);
		return 0;
	}
	if (*what)
		complain("no such subcommand: %s", what);
	usage(stderr);
	return EXIT_USAGE;
}
