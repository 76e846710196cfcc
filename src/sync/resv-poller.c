/* SPDX-License-Identifier: MIT */
/*
 * A descriptor for a reservation object.
 *
 *	idle --arm, nothing pending--> raised
 *	     --arm, pending----------> armed --all of that signals--> raised
 *
 * Arming begins with removing the callback; from there on nobody else writes the
 * descriptor, and there is no race to think of.
 *
 *	CPU0: arm                          CPU1: signals
 *
 *	                                   callback: write
 *	remove_callback: waits             returns
 *	clear
 *	look: pending
 *	add_callback
 *	                                   callback: write
 *
 * R1  busy is set by whoever arms; the rest is his meanwhile.
 * R2  fence has a reference, and the callback was added to it, if it is not NULL.
 * R3  after an arming the descriptor is readable, or fence is not NULL.
 */
#include <stdlib.h>

#include "base/inject.h"
#include "sync/event.h"
#include "sync/sync.h"

struct mmn_resv_poller {
	/* const after create, all four */
	uint32_t generation;
	uint32_t access;
	struct dma_resv *resv;
	int fd;
	/* atomic */
	uint32_t busy;
	struct dma_fence *fence;
	struct dma_fence_cb cb;
};

static bool is_stale(const struct mmn_resv_poller *poller)
{
	return poller->generation != mmn_process_generation();
}

int mmn_resv_poller_create(struct dma_resv *resv, uint32_t access,
			   struct mmn_resv_poller **ret_poller)
{
	struct mmn_resv_poller *poller = NULL;
	int ret;

	if (!resv || !access ||
	    access & ~(MMN_ACCESS_READ | MMN_ACCESS_WRITE) || !ret_poller)
		return -EINVAL;
	if (!MMN_INJECT(MMN_INJECT_ALLOC))
		poller = calloc(1, sizeof(*poller));
	if (!poller)
		return -ENOMEM;
	ret = event_open(EVENT_PLAIN, &poller->fd);
	if (ret) {
		free(poller);
		return ret;
	}
	poller->generation = mmn_process_adopt();
	poller->resv = resv;
	poller->access = access;
	*ret_poller = poller;
	return 0;
}

static bool claim(struct mmn_resv_poller *poller)
{
	uint32_t found = 0;

	/*
	 * pair(poller_busy): acquire, with the release in let_go().  Without it
	 * who arms next sees the fence from before, and removes its callback
	 * from the wrong one.
	 */
	return mmn_cmpxchg_acquire(&poller->busy, &found, 1);
}

static void let_go(struct mmn_resv_poller *poller)
{
	/*
	 * pair(poller_busy): release, with the acquire in claim().  Without it
	 * who arms next sees the fence from before, and removes its callback
	 * from the wrong one.
	 */
	mmn_store_release(&poller->busy, 0);
}

/* After it nobody else writes the descriptor. */
static void disarm(struct mmn_resv_poller *poller)
{
	if (!poller->fence)
		return;
	dma_fence_remove_callback(poller->fence, &poller->cb);
	dma_fence_put(poller->fence);
	poller->fence = NULL;
}

void mmn_resv_poller_destroy(struct mmn_resv_poller *poller)
{
	bool claimed;

	if (!poller)
		return;
	if (is_stale(poller)) {
		event_close(poller->fd);
		return;
	}
	claimed = claim(poller);
	mmn_bug_on(!claimed, "a poller is destroyed while it is armed");
	if (!claimed)
		return;
	disarm(poller);
	event_close(poller->fd);
	free(poller);
}

int mmn_resv_poller_get_fd(struct mmn_resv_poller *poller, int *ret_fd)
{
	if (!poller || !ret_fd)
		return -EINVAL;
	if (is_stale(poller))
		return -ESTALE;
	*ret_fd = poller->fd;
	return 0;
}

static void look_again(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	struct mmn_resv_poller *poller =
		container_of(cb, struct mmn_resv_poller, cb);

	(void)fence;
	if (!is_stale(poller))
		event_raise(poller->fd, EVENT_PLAIN);
}

static uint32_t free_access(struct mmn_resv_poller *poller)
{
	static const uint32_t kinds[] = { MMN_ACCESS_READ, MMN_ACCESS_WRITE };
	uint32_t found = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		if (poller->access & kinds[i] &&
		    dma_resv_test_signaled_strict(
			    poller->resv,
			    dma_resv_usage_rw(kinds[i] == MMN_ACCESS_WRITE)))
			found |= kinds[i];
	return found;
}

/* The one that is free first. */
static uint32_t first_access(const struct mmn_resv_poller *poller)
{
	return poller->access & MMN_ACCESS_READ ? MMN_ACCESS_READ
						: MMN_ACCESS_WRITE;
}

/* Exact, and perhaps not without waiting. */
static bool is_idle(struct dma_resv *resv, enum dma_resv_usage usage)
{
	bool idle;

	if (dma_resv_held(resv))
		return dma_resv_test_signaled(resv, usage);
	if (dma_resv_lock(resv, NULL))
		return false;
	idle = dma_resv_test_signaled(resv, usage);
	dma_resv_unlock(resv);
	return idle;
}

/*
 * 1: armed, or *@ret_access is free; 0: neither, fences came and went meanwhile.
 */
static int try_to_arm(struct mmn_resv_poller *poller, uint32_t *ret_access)
{
	enum dma_resv_usage usage =
		dma_resv_usage_rw(first_access(poller) == MMN_ACCESS_WRITE);
	struct dma_fence *fence;
	int ret;

	*ret_access = free_access(poller);
	if (*ret_access)
		return 1;
	ret = dma_resv_get_singleton(poller->resv, usage, &fence);
	if (ret)
		return ret;
	if (!fence) {
		/* Nothing is pending, but was there such a moment? */
		if (is_idle(poller->resv, usage))
			*ret_access = first_access(poller);
		return *ret_access != 0;
	}
	if (dma_fence_add_callback(fence, &poller->cb, look_again)) {
		dma_fence_put(fence);
		return 0;
	}
	poller->fence = fence;
	return 1;
}

static int arm(struct mmn_resv_poller *poller, uint32_t *ret_access)
{
	uint32_t access = 0;
	int ret;

	disarm(poller);
	event_clear(poller->fd);
	do {
		ret = try_to_arm(poller, &access);
	} while (!ret);
	if (ret < 0 || access)
		event_raise(poller->fd, EVENT_PLAIN);
	if (ret < 0)
		return ret;
	*ret_access = access;
	return 0;
}

int mmn_resv_poller_arm(struct mmn_resv_poller *poller, uint32_t *ret_access)
{
	int ret;

	if (!poller || !ret_access)
		return -EINVAL;
	if (is_stale(poller))
		return -ESTALE;
	if (!claim(poller))
		return -EBUSY;
	ret = arm(poller, ret_access);
	let_go(poller);
	return ret;
}
