/* SPDX-License-Identifier: MIT */
/*
 * UCX's registration cache, ucs_rcache, by the headers that libucx-dev installs.
 *
 * Changes are told to it by ucm_vm_munmap(), the door it has for programs that
 * supply the events themselves, so neither side pays for hooks here.
 */
#include "cache-contestant.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <ucm/api/ucm.h>
#include <ucs/memory/rcache.h>

#define HOOKS "UCX_MEM_MMAP_HOOK_MODE"

static ucs_status_t do_register(void *context, ucs_rcache_t *cache, void *arg,
				ucs_rcache_region_t *region, uint16_t flags)
{
	(void)context;
	(void)cache;
	(void)arg;
	(void)region;
	(void)flags;
	return UCS_OK;
}

static void do_deregister(void *context, ucs_rcache_t *cache,
			  ucs_rcache_region_t *region)
{
	(void)context;
	(void)cache;
	(void)region;
}

static void describe(void *context, ucs_rcache_t *cache,
		     ucs_rcache_region_t *region, char *text, size_t size)
{
	(void)context;
	(void)cache;
	(void)region;
	if (size)
		*text = 0;
}

static const ucs_rcache_ops_t ops = {
	.mem_reg = do_register,
	.mem_dereg = do_deregister,
	.dump_region = describe,
};

static void *create(size_t max_unreleased)
{
	ucs_rcache_params_t params;
	ucs_rcache_t *cache;

	memset(&params, 0, sizeof(params));
	params.region_struct_size = sizeof(ucs_rcache_region_t);
	params.alignment = 4096;
	params.max_alignment = 4096;
	params.ucm_events = UCM_EVENT_VM_UNMAPPED;
	params.ucm_event_priority = 1000;
	params.ops = &ops;
	params.flags = UCS_RCACHE_FLAG_NO_PFN_CHECK;
	/* As UCX sets them itself: then there is no LRU list to lock. */
	params.max_regions = ULONG_MAX;
	params.max_size = SIZE_MAX;
	params.max_unreleased = max_unreleased;
	if (ucs_rcache_create(&params, "bench", NULL, &cache) != UCS_OK)
		abort();
	return cache;
}

static void *ucx_create(uint64_t regions)
{
	(void)regions;
	return create(SIZE_MAX);
}

static void *ucx_create_prompt(uint64_t regions)
{
	(void)regions;
	return create(0);
}

static void *ucx_get(void *cache, uintptr_t addr, size_t length)
{
	ucs_rcache_region_t *region;

	if (ucs_rcache_get(cache, (void *)addr, length, PROT_READ | PROT_WRITE,
			   NULL, &region) != UCS_OK)
		abort();
	return region;
}

static void ucx_put(void *cache, void *region)
{
	ucs_rcache_region_put(cache, region);
}

static void ucx_change(void *cache, uintptr_t addr, size_t length)
{
	(void)cache;
	ucm_vm_munmap((void *)addr, length);
}

static void ucx_destroy(void *cache)
{
	ucs_rcache_destroy(cache);
}

const struct contestant ucx_contestant = { "UCX",   ucx_create, ucx_get,
					   ucx_put, ucx_change, ucx_destroy,
					   false };
const struct contestant ucx_prompt_contestant = {
	"UCX, prompt", ucx_create_prompt, ucx_get, ucx_put,
	ucx_change,    ucx_destroy,	  true
};

void ucx_prepare(char **argv)
{
	/* libucs patches libc in a constructor, unless told not to. */
	if (!getenv(HOOKS)) {
		setenv(HOOKS, "none", 1);
		execv("/proc/self/exe", argv);
	}
	ucm_set_external_event(UCM_EVENT_VM_UNMAPPED);
}
