/* SPDX-License-Identifier: MIT */
/*
 * Two drivers of the kernel register with ops of their own, which are translated
 * once: compat/mmu_notifier.c itself.
 */
#include "ladder/gallery/gallery.h"
#include "ladder/scenario.h"

/* NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "compat/mmu_notifier.c"

static const struct mmu_notifier_ops driver_ops;

static void set_up(void)
{
	translations = NULL;
	ladder_name(&translations, "translations");
}

static void translate_them(void)
{
	ladder_assert(translation_of(&driver_ops, false) != NULL);
}

const struct ladder_scenario translation = {
	.name = "translation",
	.what = "two threads register the same kernel ops",
	.explanation = "Who finds a translated table finds it filled in.",
	.setup = set_up,
	.threads = { translate_them, translate_them },
	.titles = { "register", "register" },
};
