/* SPDX-License-Identifier: MIT */
/*
 * What reports call the kinds of call, on machines without interception too.
 */
#include <mmn/source.h>
#include <stddef.h>

static const char *const call_names[MMN_NR_CALLS] = {
	[MMN_CALL_MUNMAP] = "munmap",
	[MMN_CALL_MMAP_FIXED] = "mmap-fixed",
	[MMN_CALL_MREMAP] = "mremap",
	[MMN_CALL_MADVISE] = "madvise",
	[MMN_CALL_PROCESS_MADVISE] = "process_madvise",
	[MMN_CALL_MPROTECT] = "mprotect",
	[MMN_CALL_BRK] = "brk",
	[MMN_CALL_SHMDT] = "shmdt",
	[MMN_CALL_SHMAT] = "shmat-remap",
	[MMN_CALL_REMAP_FILE_PAGES] = "remap_file_pages",
	[MMN_CALL_FALLOCATE] = "fallocate",
	[MMN_CALL_TRUNCATE] = "truncate",
	[MMN_CALL_FORK] = "fork",
	[MMN_CALL_EXEC] = "exec",
	[MMN_CALL_MAP] = "map",
};

const char *mmn_call_name(uint32_t call)
{
	return call < MMN_NR_CALLS ? call_names[call] : NULL;
}

const char *mmn_check_name(uint32_t check)
{
	switch (check) {
	case MMN_CHECK_FREE:
		return "free";
	case MMN_CHECK_THREAD_EXIT:
		return "thread-exit";
	case MMN_CHECK_DLCLOSE:
		return "dlclose";
	case MMN_CHECK_SYSCALL:
		return "syscall";
	}
	return check < MMN_CALL_MAP ? call_names[check] : NULL;
}
