/* SPDX-License-Identifier: MIT */
/* The public face of base/lock-order.h. */
#include "fence/signalling.h"

#include <mmn/dma-fence.h>

#include "base/bug.h"
#include "base/lock-order.h"

#if MMN_SELFCHECK

__thread uint32_t signalling_nr_spins
	__attribute__((tls_model("initial-exec"), visibility("hidden")));

bool dma_fence_begin_signalling(void)
{
	if (mmn_order_signalling())
		return true;
	mmn_order_set_signalling(true);
	return false;
}

void dma_fence_end_signalling(bool cookie)
{
	mmn_bug_on(!mmn_order_signalling(),
		   "ends a signalling section outside one");
	if (!cookie)
		mmn_order_set_signalling(false);
}

void dma_fence_might_wait(void)
{
	mmn_bug_on(signalling_nr_spins, "waits with a spin lock held");
	mmn_order_waiting(MMN_SITE());
}

void dma_fence_lock_acquired(const void *lock, const char *file, uint32_t line)
{
	struct mmn_site site = { .file = file,
				 .function = "dma_fence_lock_acquired",
				 .line = line };
	struct mmn_held_lock held = { .lock = lock,
				      .kind = lock,
				      .place = mmn_place(&site) };

	mmn_order_taking(&held, &site);
	mmn_order_taken(&held, &site);
}

void dma_fence_lock_released(const void *lock)
{
	mmn_order_released(lock);
}

#else

bool dma_fence_begin_signalling(void)
{
	return true;
}

void dma_fence_end_signalling(bool cookie)
{
	(void)cookie;
}

void dma_fence_might_wait(void)
{
}

void dma_fence_lock_acquired(const void *lock, const char *file, uint32_t line)
{
	(void)lock;
	(void)file;
	(void)line;
}

void dma_fence_lock_released(const void *lock)
{
	(void)lock;
}

#endif
