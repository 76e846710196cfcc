/* SPDX-License-Identifier: MIT */
#include <linux/shim.h>
