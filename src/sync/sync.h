/* SPDX-License-Identifier: MIT */
#ifndef MMN_SYNC_SYNC_H
#define MMN_SYNC_SYNC_H
/*
 * What the objects of this layer share.  doc/SYNC.md has the rules.
 */
#include <mmn/sync.h>
#include <string.h>

#include "base/atomic.h"
#include "base/bug.h"
#include "base/compiler.h"
#include "base/process.h"
#include "fence/fence.h"

/* References, and the process that the object belongs to. */
struct sync_ref {
	/* atomic */
	uint32_t count;
	/* const after init */
	uint32_t generation;
};

static inline void sync_ref_init(struct sync_ref *ref)
{
	ref->count = 1;
	ref->generation = mmn_process_adopt();
}

/* A copy in a fork child. */
static inline bool sync_ref_is_stale(const struct sync_ref *ref)
{
	return ref->generation != mmn_process_generation();
}

static inline void sync_ref_get(struct sync_ref *ref)
{
	/* relaxed: the caller has a reference already */
	uint32_t was = mmn_fetch_add_relaxed(&ref->count, 1);

	mmn_bug_on(!was, "a reference to an object without references");
}

/* True for the last one. */
static inline bool sync_ref_put(struct sync_ref *ref)
{
	/*
	 * pair(sync_ref): release and acquire, with itself in sync_ref_put()
	 * of another thread.  Without it the object is freed under the last
	 * accesses of whoever dropped his reference before.
	 */
	uint32_t was = mmn_fetch_sub_acq_rel(&ref->count, 1);

	mmn_bug_on(!was, "an object without references is put");
	return was == 1;
}

/* With the rest zero, whatever its length. */
static inline void sync_name_copy(char name[MMN_SYNC_NAME_SIZE],
				  const char *from)
{
	size_t length = from ? strnlen(from, MMN_SYNC_NAME_SIZE - 1) : 0;

	memset(name, 0, MMN_SYNC_NAME_SIZE);
	memcpy(name, from ?: "", length);
}

/*
 * A caller's struct that begins with its size: is it one that the library knows,
 * or newer without asking for more?
 *
 * Return: 0; -EINVAL (shorter than any version); -E2BIG.
 */
static inline int sync_check_size(const void *args, size_t known)
{
	const unsigned char *bytes = args;
	uint32_t size;
	size_t i;

	memcpy(&size, bytes, sizeof(size));
	if (size < known)
		return -EINVAL;
	for (i = known; i < size; i++)
		if (bytes[i])
			return -E2BIG;
	return 0;
}

#endif
