/* SPDX-License-Identifier: MIT */
/* Objects with references and descriptors; events are not explored. */
/* NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "sync/resv-poller.c"

#include "ladder/gallery/gallery.h"
#include "ladder/gallery/help.h"
#include "ladder/scenario.h"

int event_open(enum event_kind kind, int *ret_fd)
{
	(void)kind;
	*ret_fd = 1;
	return 0;
}

void event_raise(int fd, enum event_kind kind)
{
	(void)fd;
	(void)kind;
}

void event_clear(int fd)
{
	(void)fd;
}

void event_close(int fd)
{
	(void)fd;
}

struct shared {
	struct sync_ref ref;
	int content;
};

static struct {
	struct shared *shared;
	struct dma_resv resv;
	struct mmn_resv_poller *poller;
} sync;

static void set_up_shared(void)
{
	sync.shared = calloc(1, sizeof(*sync.shared));
	sync_ref_init(&sync.shared->ref);
	sync_ref_get(&sync.shared->ref);
	ladder_name(&sync.shared->ref.count, "references");
	ladder_name(&sync.shared->content, "content");
}

static void put_shared(void)
{
	if (sync_ref_put(&sync.shared->ref))
		free(sync.shared);
}

static void use_and_put(void)
{
	sync.shared->content = 1;
	put_shared();
}

/* It was armed, and its fence has signalled. */
static void set_up_poller(void)
{
	struct dma_fence *fence = make_fence(&gallery_ops, 1, 1);

	dma_resv_init(&sync.resv);
	ladder_assert(!mmn_resv_poller_create(&sync.resv, MMN_ACCESS_READ,
					      &sync.poller));
	ladder_assert(
		!dma_fence_add_callback(fence, &sync.poller->cb, look_again));
	sync.poller->fence = fence;
	dma_fence_signal(fence);
	ladder_name(&sync.poller->busy, "busy");
	ladder_name(&sync.poller->fence, "poller's fence");
}

static void arm_poller(void)
{
	uint32_t access;
	int ret = mmn_resv_poller_arm(sync.poller, &access);

	ladder_assert(ret == -EBUSY || (!ret && access == MMN_ACCESS_READ));
}

const struct ladder_scenario sync_last_put = {
	.name = "sync-put",
	.what = "two put the references to an object, the last one frees it",
	.explanation = "The last one comes behind what was done with the "
		       "others.",
	.setup = set_up_shared,
	.threads = { use_and_put, put_shared },
	.titles = { "uses it", "drops it" },
};

const struct ladder_scenario sync_poller = {
	.name = "sync-poller",
	.what = "two threads arm one poller",
	.explanation = "One at a time arms; the other is told to try again, or "
		       "comes after it.",
	.setup = set_up_poller,
	.each = number_thread,
	.threads = { arm_poller, arm_poller },
	.titles = { "arms", "arms" },
};
