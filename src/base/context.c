/* SPDX-License-Identifier: MIT */
#include "base/context.h"

__thread struct mmn_context mmn_context
	__attribute__((tls_model("initial-exec"), visibility("hidden")));

uint64_t mmn_context_last_serial;
