/* SPDX-License-Identifier: MIT */
/*
 * A buffer that is registered once, until its memory changes.
 *
 * prints:
 *	registered
 *	the same registration
 *	the memory changes
 *	registered
 *	deregistered 2 of 2
 */
#include <mmn/cache.h>
#include <mmn/notifier.h>

#include <stdio.h>
#include <stdlib.h>

#define SIZE 65536

static unsigned int nr_registered, nr_deregistered;

static int register_region(void *arg, struct mmn_cache_region *region)
{
	(void)arg;
	/* Here the device would pin [region->start, region->last]. */
	region->key = ++nr_registered;
	printf("registered\n");
	return 0;
}

/* In the cache's own thread. */
static struct dma_fence *deregister_region(void *arg,
					   struct mmn_cache_region *region)
{
	(void)arg;
	(void)region;
	nr_deregistered++;
	return NULL;
}

static const struct mmn_cache_ops ops = {
	.register_region = register_region,
	.deregister_region = deregister_region,
};

/* What a send of the buffer would do; the key of the registration it used. */
static uint64_t use(struct mmn_cache *cache, const void *buffer)
{
	struct mmn_cache_region *region;
	uint64_t key;

	if (mmn_cache_get(cache, (uintptr_t)buffer, SIZE, MMN_CACHE_READ,
			  &region))
		abort();
	key = region->key;
	mmn_cache_put(cache, region);
	return key;
}

int main(void)
{
	struct mmn_cache_config config = { .size = sizeof(config),
					   .ops = &ops };
	char *buffer = aligned_alloc(4096, SIZE);
	struct mmn_invalidate_desc desc;
	struct mmn_state *state;
	struct mmn_cache *cache;

	if (!buffer || mmn_state_create(&state) ||
	    mmn_cache_create(state, &config, &cache))
		return 1;
	if (use(cache, buffer) == use(cache, buffer))
		printf("the same registration\n");
	/* Or mmn_intercept_start(), once: then nobody has to say so. */
	mmn_invalidate_desc_init(&desc, state, MMN_EVENT_UNMAP,
				 (uintptr_t)buffer,
				 (uintptr_t)buffer + SIZE - 1);
	if (mmn_invalidate_start(&desc))
		return 1;
	printf("the memory changes\n");
	mmn_invalidate_end(&desc);
	use(cache, buffer);
	mmn_cache_destroy(cache);
	printf("deregistered %u of %u\n", nr_deregistered, nr_registered);
	mmn_state_put(state);
	free(buffer);
	return 0;
}
