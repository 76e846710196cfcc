/* SPDX-License-Identifier: MIT */
/*
 * Intercepted calls, while the source is turned on or off: source/dispatch.c
 * itself.  What a call does between its beginning and its end is a word here.
 */
#define NR_STRIPES 1u
/* NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "source/dispatch.c"

#include "ladder/gallery/gallery.h"
#include "ladder/scenario.h"

static struct {
	struct mmn_source *source;
	/* plain: for the state that calls are announced to */
	int *state;
} calls;

static void set_up(void)
{
	calls.source = calloc(1, sizeof(*calls.source));
	calls.state = calloc(1, sizeof(*calls.state));
	memset(&shared, 0, sizeof(shared));
	ladder_name(&shared.active, "active");
	ladder_name(&shared.stripe[0].entered, "entered");
	ladder_name(&shared.stripe[0].left[MMN_CALL_MUNMAP], "left");
	ladder_name(&shared.wants_maps, "wants maps");
	ladder_name(&calls.source->state, "source.state");
	ladder_name(calls.state, "state");
}

static void turn_on(void)
{
	calls.source->state = (struct mmn_state *)calls.state;
	mmn_dispatch_on(calls.source);
}

static void set_up_on(void)
{
	set_up();
	turn_on();
}

static void call(void)
{
	const struct mmn_source *source = enter(&shared.stripe[0]);

	if (source) {
		ladder_note("inside");
		*(int *)source->state = 1;
	}
	leave(&shared.stripe[0], MMN_CALL_MUNMAP);
}

static void turn_off(void)
{
	ladder_assert(!mmn_dispatch_off(0));
	ladder_note("frees the state");
	free(calls.state);
}

const struct ladder_scenario source_on = {
	.name = "source-on",
	.what = "interception is turned on while a call begins",
	.explanation = "Whom the call is announced to is there.",
	.setup = set_up,
	.threads = { turn_on, call },
	.titles = { "on", "call" },
};

const struct ladder_scenario source_off = {
	.name = "source-off",
	.what = "interception is turned off, its state freed, while a call "
		"begins and ends",
	.explanation =
		"The call counts itself, then looks whether it is on; who turns "
		"it off says so, then\ncounts: one of them sees the other.",
	.setup = set_up_on,
	.threads = { turn_off, call },
	.titles = { "off", "call" },
};
