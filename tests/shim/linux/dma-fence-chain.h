/* SPDX-License-Identifier: MIT */
#include <linux/shim.h>
#include <mmn/dma-fence-chain.h>
