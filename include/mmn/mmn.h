/* SPDX-License-Identifier: MIT */
#ifndef MMN_MMN_H
#define MMN_MMN_H
/*
 * The whole interface of libmmn.  Devices of other libraries have headers of
 * their own: <mmn/uring-device.h>.
 */
#include <mmn/cache.h>
#include <mmn/common.h>
#include <mmn/debug.h>
#include <mmn/device.h>
#include <mmn/dma-fence-array.h>
#include <mmn/dma-fence-chain.h>
#include <mmn/dma-fence-pool.h>
#include <mmn/dma-fence-unwrap.h>
#include <mmn/dma-fence.h>
#include <mmn/dma-resv.h>
#include <mmn/exec.h>
#include <mmn/inject.h>
#include <mmn/memory.h>
#include <mmn/mirror.h>
#include <mmn/notifier.h>
#include <mmn/reaper.h>
#include <mmn/source.h>
#include <mmn/spinlock.h>
#include <mmn/sync.h>
#include <mmn/ww-mutex.h>

#endif
