/* SPDX-License-Identifier: MIT */
/* A test that takes the runner down with it: the plan is not kept. */
#include "t/tap.h"

#include <signal.h>
#include <unistd.h>

TEST(first_passes)
{
	t_ok(true);
}

TEST(second_kills_the_runner)
{
	t_err(kill(getppid(), SIGKILL), 0);
	pause();
}

TEST(third_is_never_reached)
{
	t_ok(true);
}
