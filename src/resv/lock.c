/* SPDX-License-Identifier: MIT */
/* The lock of reservation objects. */
#include "resv/resv.h"
#include "resv/ww-mutex.h"

static DEFINE_WD_CLASS(reservation_class);

struct ww_class *dma_resv_class(void)
{
	return &reservation_class;
}

int dma_resv_lock(struct dma_resv *obj, struct ww_acquire_ctx *ctx)
{
	return ww_mutex_lock(&obj->lock, ctx);
}

int dma_resv_lock_interruptible(struct dma_resv *obj,
				struct ww_acquire_ctx *ctx)
{
	return ww_mutex_lock_interruptible(&obj->lock, ctx);
}

void dma_resv_lock_slow(struct dma_resv *obj, struct ww_acquire_ctx *ctx)
{
	ww_mutex_lock_slow(&obj->lock, ctx);
}

int dma_resv_lock_slow_interruptible(struct dma_resv *obj,
				     struct ww_acquire_ctx *ctx)
{
	return ww_mutex_lock_slow_interruptible(&obj->lock, ctx);
}

bool dma_resv_trylock(struct dma_resv *obj)
{
	return ww_mutex_trylock(&obj->lock, NULL);
}

void dma_resv_unlock(struct dma_resv *obj)
{
	if (dma_resv_held(obj))
		resv_end_of_lock(obj);
	ww_mutex_unlock(&obj->lock);
}

bool dma_resv_is_locked(struct dma_resv *obj)
{
	return ww_mutex_is_locked(&obj->lock);
}

struct ww_acquire_ctx *dma_resv_locking_ctx(struct dma_resv *obj)
{
	return ww_mutex_locking_ctx(&obj->lock);
}

bool dma_resv_held(struct dma_resv *obj)
{
	return ww_mutex_is_held(&obj->lock);
}

void dma_resv_assert_held(struct dma_resv *obj)
{
	mmn_bug_on(!dma_resv_held(obj),
		   "a reservation object is used without its lock");
}
