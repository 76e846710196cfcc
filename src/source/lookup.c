/* SPDX-License-Identifier: MIT */
/*
 * Ranges that the registers of a call do not tell.  See lookup.h.
 */
#include "source/lookup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/syscall.h"

#ifndef OVERLAYFS_SUPER_MAGIC
#define OVERLAYFS_SUPER_MAGIC 0x794c7630
#endif

/* The kernel's interface since 6.11; older headers lack it. */
struct map_query {
	uint64_t size;
	uint64_t flags;
	uint64_t addr;
	uint64_t start;
	uint64_t end;
	uint64_t vma_flags;
	uint64_t page_size;
	uint64_t offset;
	uint64_t inode;
	uint32_t dev_major;
	uint32_t dev_minor;
	uint32_t name_size;
	uint32_t build_id_size;
	uint64_t name_addr;
	uint64_t build_id_addr;
};

#define MAP_QUERY _IOWR('f', 17, struct map_query)
#define MAP_QUERY_NEXT 0x10u
#define MAP_QUERY_FILES 0x20u
#define MAP_QUERY_EXEC 0x04u

#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif

int mmn_lookup_peek(uint64_t addr, void *to, size_t length)
{
	struct iovec local = { to, length };
	struct iovec remote = { (void *)addr, length };
	long ret;

	ret = mmn_syscall6(SYS_process_vm_readv, mmn_syscall0(SYS_getpid),
			   &local, 1, &remote, 1, 0);
	if (ret < 0)
		return (int)ret;
	return (size_t)ret == length ? 0 : -EFAULT;
}

/* ---- walking the mappings ---- */

static int walk_by_query(int fd, uintptr_t addr, bool only_files,
			 bool (*visit)(void *arg, const struct mmn_vma *vma),
			 void *arg)
{
	struct mmn_vma vma;
	struct map_query query;
	long ret;

	for (;;) {
		query = (struct map_query){
			.size = sizeof(query),
			.flags = MAP_QUERY_NEXT |
				 (only_files ? MAP_QUERY_FILES : 0),
			.addr = addr,
		};
		ret = mmn_syscall3(SYS_ioctl, fd, MAP_QUERY, &query);
		if (ret == -ENOENT)
			return 0;
		if (ret < 0)
			return (int)ret;
		vma.start = query.start;
		vma.last = query.end - 1;
		vma.offset = query.offset;
		vma.inode = query.inode;
		vma.is_exec = query.vma_flags & MAP_QUERY_EXEC;
		if (!visit(arg, &vma) || query.end <= addr)
			return 0;
		addr = query.end;
	}
}

/* Fields of a line of /proc/self/maps, in their order. */
enum maps_field {
	MAPS_START,
	MAPS_END,
	MAPS_MODE,
	MAPS_OFFSET,
	MAPS_DEV,
	MAPS_INODE,
	MAPS_REST
};

struct maps_parser {
	enum maps_field field;
	uint64_t value;
	/* Not by the inode: that of the first SysV segment is 0. */
	bool is_file;
	struct mmn_vma vma;
};

static uint64_t hex_digit(char c)
{
	return c <= '9' ? (uint64_t)(c - '0') : (uint64_t)(c - 'a' + 10);
}

/* True when a line is complete. */
static bool maps_feed(struct maps_parser *p, char c)
{
	if (c == '\n') {
		p->field = MAPS_START;
		p->value = 0;
		return true;
	}
	switch (p->field) {
	case MAPS_START:
		if (c == '-') {
			p->vma.start = p->value;
			p->vma.is_exec = false;
			p->is_file = false;
			break;
		}
		p->value = p->value << 4 | hex_digit(c);
		return false;
	case MAPS_END:
		if (c == ' ') {
			p->vma.last = p->value - 1;
			break;
		}
		p->value = p->value << 4 | hex_digit(c);
		return false;
	case MAPS_MODE:
		if (c == ' ')
			break;
		if (c == 'x')
			p->vma.is_exec = true;
		return false;
	case MAPS_OFFSET:
		if (c == ' ') {
			p->vma.offset = p->value;
			break;
		}
		p->value = p->value << 4 | hex_digit(c);
		return false;
	case MAPS_DEV:
		if (c == ' ')
			break;
		if (c != '0' && c != ':')
			p->is_file = true;
		return false;
	case MAPS_INODE:
		if (c == ' ')
			break;
		p->value = p->value * 10 + (uint64_t)(c - '0');
		p->vma.inode = p->value;
		if (p->value)
			p->is_file = true;
		return false;
	case MAPS_REST:
		return false;
	}
	p->field++;
	p->value = 0;
	return false;
}

static int walk_by_text(int fd, uintptr_t addr, bool only_files,
			bool (*visit)(void *arg, const struct mmn_vma *vma),
			void *arg)
{
	struct maps_parser parser = { .field = MAPS_START };
	char buffer[1024];
	long got, i;

	for (;;) {
		got = mmn_syscall3(SYS_read, fd, buffer, sizeof(buffer));
		if (got == -EINTR)
			continue;
		if (got <= 0)
			return (int)got;
		for (i = 0; i < got; i++) {
			if (!maps_feed(&parser, buffer[i]))
				continue;
			if (parser.vma.last < addr ||
			    (only_files && !parser.is_file))
				continue;
			if (!visit(arg, &parser.vma))
				return 0;
		}
	}
}

int mmn_lookup_walk(uintptr_t addr, bool only_files,
		    bool (*visit)(void *arg, const struct mmn_vma *vma),
		    void *arg)
{
	int fd, ret;

	fd = (int)mmn_syscall4(SYS_openat, AT_FDCWD, "/proc/self/maps",
			       O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	ret = walk_by_query(fd, addr, only_files, visit, arg);
	if (ret == -ENOTTY || ret == -EINVAL)
		ret = walk_by_text(fd, addr, only_files, visit, arg);
	mmn_syscall1(SYS_close, fd);
	return ret;
}

/* ---- one rule per kind ---- */

bool mmn_lookup_break(struct mmn_change *change)
{
	uintptr_t now = (uintptr_t)mmn_syscall1(SYS_brk, 0);
	uintptr_t from, to;

	from = (change->span[0].start + MMN_PAGE_SIZE - 1) &
	       ~(MMN_PAGE_SIZE - 1);
	to = (now + MMN_PAGE_SIZE - 1) & ~(MMN_PAGE_SIZE - 1);
	if (from >= to)
		return false;
	change->span[0].start = from;
	change->span[0].last = to - 1;
	return true;
}

struct segment {
	uintptr_t base;
	uintptr_t start;
	uintptr_t last;
	bool found;
};

/*
 * The pieces that are left of one attachment: same slope.  Which file is not
 * told: a piece may have given way to another file at the same offset.
 */
static bool visit_segment(void *arg, const struct mmn_vma *vma)
{
	struct segment *segment = arg;

	if (vma->start < segment->base ||
	    vma->start - vma->offset != segment->base)
		return true;
	if (!segment->found)
		segment->start = vma->start;
	segment->found = true;
	segment->last = vma->last;
	return true;
}

static bool lookup_shmdt(struct mmn_change *change)
{
	struct segment segment = { .base = change->span[0].start };

	if (mmn_lookup_walk(segment.base, true, visit_segment, &segment))
		return false;
	change->nr_spans = 0;
	if (segment.found)
		mmn_change_add(change, segment.start, segment.last);
	return true;
}

static bool lookup_shmat(struct mmn_change *change)
{
	struct shmid_ds info;
	uint64_t size;

	if (mmn_syscall3(SYS_shmctl, change->id, IPC_STAT, &info) < 0)
		return false;
	size = mmn_classify_round_up(change->span[0].start, info.shm_segsz);
	return mmn_classify_span(change->span[0].start, size, &change->span[0]);
}

struct file_range {
	struct mmn_change *change;
	/* 0: any file */
	uint64_t inode;
	uint64_t start;
	uint64_t last;
};

/* Where bytes @start to @last of a file are in a mapping of it, if anywhere. */
static bool part_of_vma(const struct mmn_vma *vma, uint64_t start,
			uint64_t last, struct mmn_span *ret_span)
{
	uint64_t end = vma->offset + (vma->last - vma->start);

	if (end < start || vma->offset > last)
		return false;
	if (start < vma->offset)
		start = vma->offset;
	if (last > end)
		last = end;
	ret_span->start = vma->start + (start - vma->offset);
	ret_span->last = vma->start + (last - vma->offset);
	return true;
}

static bool visit_file(void *arg, const struct mmn_vma *vma)
{
	struct file_range *range = arg;
	struct mmn_span span;

	if ((!range->inode || vma->inode == range->inode) &&
	    part_of_vma(vma, range->start, range->last, &span))
		mmn_change_add(range->change, span.start, span.last);
	return true;
}

/*
 * Only the inode is compared: st_dev is not what the list of mappings shows on
 * every file system, and a second file of that number costs an event too
 * many.  On overlays not even the number is reliable.
 */
static bool lookup_file(struct mmn_change *change)
{
	struct file_range range = { .change = change };
	uint64_t length = change->span[0].start;
	struct statfs fs;
	struct stat st;
	long ret;

	range.start = change->span[0].start;
	range.last = change->span[0].last;
	change->nr_spans = 0;
	if (change->need == MMN_NEED_PATH_SHRINK)
		ret = mmn_syscall2(SYS_stat, change->id, &st);
	else
		ret = mmn_syscall2(SYS_fstat, change->id, &st);
	/* The call itself will fail in the same way. */
	if (ret < 0)
		return true;
	if (change->need != MMN_NEED_FILE) {
		if ((uint64_t)st.st_size <= length)
			return true;
		range.start = length & ~(MMN_PAGE_SIZE - 1);
	}
	if (change->need == MMN_NEED_PATH_SHRINK)
		ret = mmn_syscall2(SYS_statfs, change->id, &fs);
	else
		ret = mmn_syscall2(SYS_fstatfs, change->id, &fs);
	if (ret == 0 && fs.f_type != OVERLAYFS_SUPER_MAGIC)
		range.inode = st.st_ino;
	return mmn_lookup_walk(0, true, visit_file, &range) == 0;
}

/* A file of huge pages is mapped in such, whatever length was asked for. */
static bool lookup_file_pages(struct mmn_change *change)
{
	struct mmn_span *span = &change->span[0];
	struct statfs fs;
	long ret;

	ret = mmn_syscall2(SYS_fstatfs, change->id, &fs);
	if (ret == 0 && fs.f_type == HUGETLBFS_MAGIC)
		span->last |= (uint64_t)fs.f_bsize - 1;
	return ret == 0 || ret == -EBADF;
}

/* A part of a file that is mapped in one of the ranges. */
struct file_part {
	uint64_t inode;
	uint64_t start;
	uint64_t last;
};

#define MAX_PARTS 8u

/*
 * struct aliases - other mappings of what is mapped in some ranges
 *
 * Not told: on which device a file is.  A second file of that number costs an
 * event too many.
 */
struct aliases {
	struct mmn_change *change;
	struct mmn_change told;
	uint32_t nr_parts;
	struct file_part part[MAX_PARTS];
	bool is_full;
};

static void add_part(struct aliases *aliases, const struct mmn_vma *vma,
		     const struct mmn_span *span)
{
	uintptr_t from = span->start > vma->start ? span->start : vma->start;
	uintptr_t to = span->last < vma->last ? span->last : vma->last;

	if (from > to)
		return;
	aliases->is_full = aliases->nr_parts == MAX_PARTS;
	if (aliases->is_full)
		return;
	aliases->part[aliases->nr_parts++] = (struct file_part){
		.inode = vma->inode,
		.start = vma->offset + (from - vma->start),
		.last = vma->offset + (to - vma->start),
	};
}

static bool visit_parts(void *arg, const struct mmn_vma *vma)
{
	struct aliases *aliases = arg;
	uint32_t i;

	for (i = 0; i < aliases->told.nr_spans && !aliases->is_full; i++)
		add_part(aliases, vma, &aliases->told.span[i]);
	return !aliases->is_full;
}

static bool is_told(const struct mmn_change *told, uintptr_t start,
		    uintptr_t last)
{
	uint32_t i;

	for (i = 0; i < told->nr_spans; i++)
		if (told->span[i].start <= start && told->span[i].last >= last)
			return true;
	return false;
}

static bool visit_aliases(void *arg, const struct mmn_vma *vma)
{
	struct aliases *aliases = arg;
	const struct file_part *part;
	struct mmn_span span;
	uint32_t i;

	for (i = 0; i < aliases->nr_parts; i++) {
		part = &aliases->part[i];
		if (part->inode == vma->inode &&
		    part_of_vma(vma, part->start, part->last, &span) &&
		    !is_told(&aliases->told, span.start, span.last))
			mmn_change_add(aliases->change, span.start, span.last);
	}
	return true;
}

/* MADV_REMOVE takes pages out of the file, wherever that is mapped. */
static bool lookup_aliases(struct mmn_change *change)
{
	struct aliases aliases = { .change = change, .told = *change };

	if (mmn_lookup_walk(0, true, visit_parts, &aliases) || aliases.is_full)
		return false;
	return !aliases.nr_parts ||
	       mmn_lookup_walk(0, true, visit_aliases, &aliases) == 0;
}

struct grows_down {
	uintptr_t addr;
	uintptr_t start;
};

static bool visit_first(void *arg, const struct mmn_vma *vma)
{
	struct grows_down *find = arg;

	find->start = vma->start;
	return false;
}

static bool lookup_growsdown(struct mmn_change *change)
{
	struct grows_down find = { change->span[0].start, UINTPTR_MAX };

	if (mmn_lookup_walk(find.addr, false, visit_first, &find))
		return false;
	if (find.start < change->span[0].start)
		change->span[0].start = find.start;
	return true;
}

/* Appends a number; returns the new end. */
static char *put_number(char *to, unsigned long value)
{
	char digits[20];
	int n = 0;

	do {
		digits[n++] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	while (n)
		*to++ = digits[--n];
	return to;
}

static char *put_text(char *to, const char *text)
{
	while (*text)
		*to++ = *text++;
	return to;
}

/* The number after "\nPid:\t", -1 when there is none. */
static long find_pid(const char *text, long length)
{
	static const char key[] = "\nPid:\t";
	long i, j, value = 0;

	for (i = 0; i + (long)sizeof(key) <= length; i++) {
		for (j = 0; key[j] && text[i + j] == key[j]; j++)
			;
		if (key[j])
			continue;
		for (i += j; i < length && text[i] >= '0' && text[i] <= '9';
		     i++)
			value = value * 10 + (text[i] - '0');
		return value;
	}
	return -1;
}

/* Does this pidfd stand for our own process?  When in doubt it does. */
static bool is_own_pidfd(int pidfd)
{
	char path[64], text[512];
	long fd, got, pid;
	char *end;

	/* Some negative numbers are names of ours, and not always the same. */
	if (pidfd < 0)
		return true;
	end = put_text(path, "/proc/self/fdinfo/");
	*put_number(end, (unsigned long)pidfd) = 0;
	fd = mmn_syscall4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return true;
	got = mmn_syscall3(SYS_read, fd, text, sizeof(text));
	mmn_syscall1(SYS_close, fd);
	pid = got > 0 ? find_pid(text, got) : -1;
	if (pid <= 0 || pid == mmn_syscall0(SYS_getpid))
		return true;
	/* It may stand for one of our threads. */
	end = put_text(path, "/proc/self/task/");
	*put_number(end, (unsigned long)pid) = 0;
	return mmn_syscall3(SYS_faccessat, AT_FDCWD, path, F_OK) == 0;
}

static bool lookup_iovec(struct mmn_change *change, const uint64_t args[6],
			 struct mmn_iovec_copy *copy)
{
	uint64_t count = args[2];
	struct mmn_span span;
	uint32_t i;
	int ret;

	if (!is_own_pidfd((int)args[0])) {
		change->nr_spans = 0;
		return true;
	}
	if (count > MMN_MAX_IOVECS)
		return false;
	ret = mmn_lookup_peek(args[1], copy->iov, count * sizeof(struct iovec));
	if (ret == -EFAULT) {
		change->nr_spans = 0;
		return true;
	}
	if (ret)
		return false;
	copy->count = (uint32_t)count;
	change->nr_spans = 0;
	for (i = 0; i < copy->count; i++)
		if (mmn_classify_reach((uintptr_t)copy->iov[i].iov_base,
				       copy->iov[i].iov_len, &span))
			mmn_change_add(change, span.start, span.last);
	return true;
}

/* execvp() tries every directory of PATH: most of them have no such file. */
static bool lookup_program(struct mmn_change *change, uint64_t nr,
			   const uint64_t args[6])
{
	long ret;

	if (nr == SYS_execveat)
		ret = mmn_syscall4(SYS_faccessat2, args[0], args[1], X_OK,
				   (args[4] & AT_EMPTY_PATH) | AT_EACCESS);
	else
		ret = mmn_syscall4(SYS_faccessat2, AT_FDCWD, args[0], X_OK,
				   AT_EACCESS);
	if (ret == -ENOENT || ret == -EACCES || ret == -ENOTDIR ||
	    ret == -EFAULT || ret == -ENAMETOOLONG || ret == -ELOOP)
		change->nr_spans = 0;
	return true;
}

bool mmn_lookup_spans(struct mmn_change *change, uint64_t nr,
		      const uint64_t args[6], struct mmn_iovec_copy *copy)
{
	bool known = true;

	copy->count = 0;
	switch (change->need) {
	case MMN_NEED_SHMDT:
		known = lookup_shmdt(change);
		break;
	case MMN_NEED_SHMAT:
		known = lookup_shmat(change);
		break;
	case MMN_NEED_FILE:
	case MMN_NEED_FILE_SHRINK:
	case MMN_NEED_PATH_SHRINK:
		known = lookup_file(change);
		break;
	case MMN_NEED_FILE_PAGES:
		known = lookup_file_pages(change);
		break;
	case MMN_NEED_ALIASES:
		known = lookup_aliases(change);
		break;
	case MMN_NEED_GROWSDOWN:
		known = lookup_growsdown(change);
		break;
	case MMN_NEED_IOVEC:
		known = lookup_iovec(change, args, copy);
		break;
	case MMN_NEED_IOVEC_ALIASES:
		known = lookup_iovec(change, args, copy) &&
			(!change->nr_spans || lookup_aliases(change));
		break;
	case MMN_NEED_PROGRAM:
		known = lookup_program(change, nr, args);
		break;
	}
	if (!known)
		mmn_change_whole(change);
	return known;
}
