/* SPDX-License-Identifier: MIT */
/*
 * Drivers that were written against the kernel's headers of two generations run
 * with a shim for kernel primitives only: tests/shim.
 */
#include "t/tap.h"

#include <mmn/dma-fence.h>

#include "../shim/shim.h"

static void run(const char *(*driver)(void))
{
	const char *wrong = driver();

	if (wrong)
		t_fail("does not hold: %s", wrong);
	t_ok(!wrong);
	t_may_keep_mapped(64 << 20, "the thread that frees stays");
	dma_fence_barrier();
}

TEST(jobs_of_linux_6_12_signal)
{
	run(v612_jobs);
}

TEST(buffers_of_linux_6_12_are_waited_for)
{
	run(v612_buffers);
}

TEST(containers_of_linux_6_12_hold_fences)
{
	run(v612_containers);
}

TEST(several_buffers_of_linux_6_12_are_locked)
{
	run(v612_two_buffers);
}

TEST(functions_may_be_named_as_the_structs)
{
	run(v612_names);
}

TEST(jobs_of_2026_signal_with_an_inline_lock)
{
	run(v2026_jobs);
}

TEST(fences_of_2026_let_go_of_their_driver)
{
	run(v2026_detached);
}

TEST(containers_of_2026_hold_fences)
{
	run(v2026_containers);
}
