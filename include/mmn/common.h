/* SPDX-License-Identifier: MIT */
#ifndef MMN_COMMON_H
#define MMN_COMMON_H
/*
 * What every public header of libmmn shares.
 *
 * Conventions of the whole interface: commands return 0 or a negative errno
 * and never set errno; predicates return bool; ret_ parameters are written on
 * success only; destructors take NULL; ranges are [start, last], both ends
 * inclusive, in bytes; the library never prints and never exits.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define MMN_BEGIN_DECLS extern "C" {
#define MMN_END_DECLS }
#else
#define MMN_BEGIN_DECLS
#define MMN_END_DECLS
#endif

#ifndef MMN_PUBLIC
#define MMN_PUBLIC __attribute__((visibility("default")))
#endif
#define MMN_MUST_CHECK __attribute__((warn_unused_result))

#define MMN_VERSION_MAJOR 0
#define MMN_VERSION_MINOR 1
#define MMN_VERSION_PATCH 0

MMN_BEGIN_DECLS

/**
 * mmn_version - the version of the library that was loaded
 *
 * Context: any, also from callbacks and signal handlers.
 * Return: a constant string such as "0.1.0".
 */
MMN_PUBLIC
const char *mmn_version(void);

MMN_END_DECLS

#endif
