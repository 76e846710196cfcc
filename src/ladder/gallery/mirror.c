/* SPDX-License-Identifier: MIT */
/*
 * The mirror's second pass, and a start that waits for it: mirror/mirror.c
 * itself, with a device that has nothing to do.
 */
#include "ladder/gallery/gallery.h"
#include "ladder/scenario.h"

/* What is not run need not be there. */
#pragma weak mmn_device_map
#pragma weak mmn_device_submit
#pragma weak mmn_device_unmap_begin
#pragma weak mmn_page_size
#pragma weak mmn_range_fault

#define mmn_device_unmap_finish finish_map_
/* NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "mirror/mirror.c"

static struct {
	struct mmn_mirror mirror;
	struct run *run;
	/* plain: the device's last access */
	uint32_t device;
} dying;

void mmn_device_unmap_finish(struct mmn_device_map *map)
{
	dying.device = 1;
}

static void no_lock(void *arg)
{
}

static void set_up(void)
{
	dying.run = malloc(sizeof(*dying.run));
	dying.run->next = NULL;
	dying.run->counted = &dying.mirror;
	dying.run->map = NULL;
	dying.mirror.nr_dying = 1;
	dying.mirror.lock_ops.lock = no_lock;
	dying.mirror.lock_ops.unlock = no_lock;
	dying.device = 0;
	ladder_name(&dying.mirror.nr_dying, "nr_dying");
	ladder_name(&dying.device, "device");
}

static void finish(void)
{
	chain_finish(dying.run);
}

static void wait(void)
{
	wait_for_dying(&dying.mirror);
	ladder_assert(dying.device);
}

const struct ladder_scenario mirror_dying = {
	.name = "mirror-dying",
	.what = "a change waits for runs of pages that another one takes away",
	.explanation = "When the wait is over the device has stopped.",
	.setup = set_up,
	.threads = { finish, wait },
	.titles = { "finish", "wait" },
};
