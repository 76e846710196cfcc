/* SPDX-License-Identifier: MIT */
#include <linux/shim.h>
#include <mmn/ww-mutex.h>
