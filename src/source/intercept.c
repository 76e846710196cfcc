/* SPDX-License-Identifier: MIT */
/*
 * Install the intercept source, remove it, and say what became of it.
 *
 * Three locks, in this order:
 *
 *	install_lock   one mmn_intercept_start/stop at a time; sleeps
 *	the dynamic linker's, by being inside dl_iterate_phdr(): as long as it is
 *	               held no object goes away under the scan
 *	table_lock     the tables below; short, signals blocked, because it is
 *	               also taken in the middle of mmap() calls
 *
 * A site stays in the table for the life of the process, with its stub: a
 * thread may be on its way through a stub long after the site was put back, and
 * an object that is loaded again to the same place gets the same stubs.
 */
#include <errno.h>
#include <link.h>
#include <mmn/notifier.h>
#include <mmn/source.h>
#include <stddef.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/bug.h"
#include "base/lock.h"
#include "base/process.h"
#include "base/syscall.h"
#include "base/time.h"
#include "source/classify.h"
#include "source/patch.h"
#include "source/scan.h"
#include "source/self-check.h"
#include "source/source.h"

#define MAX_SITES 2048u
#define MAX_OBJECTS 256u
/* Sites that one pass over one object can find. */
#define MAX_BATCH 512u

#define NO_OBJECT UINT32_MAX
#define ALL_OBJECTS UINT32_MAX

#define STOP_TIMEOUT_NS (2 * MMN_NSEC_PER_SEC)

#define KNOWN_FLAGS                                           \
	(MMN_INTERCEPT_SELF_CHECK | MMN_INTERCEPT_NO_FOLLOW | \
	 MMN_INTERCEPT_LIBC_ONLY)

/*
 * struct site - a place, rewritten or put back
 *
 * T1  no two sites have the same @at.
 */
struct site {
	uint8_t *at;
	uint8_t *resume;
	uint8_t *stub;
	uintptr_t text_start;
	uintptr_t text_last;
	int text_prot;
	uint8_t old[MMN_PATCH_BYTES];
	bool is_patched;
	/* NO_OBJECT: not found by this installation */
	uint32_t object;
};

_Static_assert(sizeof(struct mmn_source) <= MMN_PAGE_SIZE,
	       "a source has a page");

struct object {
	uintptr_t start;
	uintptr_t last;
	uint32_t nr_found;
	uint32_t nr_patched;
	uint32_t nr_refused;
	uint32_t nr_unknown;
	uint32_t reason;
	char name[sizeof(((struct mmn_intercept_object *)0)->name)];
};

/* struct tables - under table_lock; pages of it are used as they are needed */
static struct tables {
	uint32_t nr_sites;
	uint32_t nr_objects;
	/* Objects looked at, also those with nothing in them. */
	uint32_t nr_seen;
	struct site site[MAX_SITES];
	struct object object[MAX_OBJECTS];
	/* What one pass works on. */
	uint32_t nr_batch;
	struct mmn_found batch[MAX_BATCH];
	struct mmn_patch patch[MAX_SITES];
} tables;

static struct mmn_mutex table_lock = MMN_MUTEX_INIT(MMN_RANK_SOURCE_TABLE);
static struct mmn_mutex install_lock = MMN_MUTEX_INIT(MMN_RANK_SOURCE_INSTALL);

/* install_lock: NULL when off */
static struct mmn_source *source;
/* install_lock: those that are off, but calls may be stuck in them */
static struct mmn_source *retired;
static bool is_on;
/* Of the source; outlives it for those who ask without the lock. */
static uint32_t generation;
static struct mmn_intercept_report report;

/* ---- one object ---- */

static struct site *find_site(const uint8_t *at)
{
	uint32_t i;

	for (i = 0; i < tables.nr_sites; i++)
		if (tables.site[i].at == at)
			return &tables.site[i];
	return NULL;
}

/* Of a place that prepare_batch() has entered. */
static struct site *known_site(const uint8_t *at)
{
	struct site *site = find_site(at);

	mmn_bug_on(!site, "a place is rewritten that is in no table");
	if (!site)
		__builtin_unreachable();
	return site;
}

static void copy_name(char *to, size_t size, const char *from)
{
	size_t length = strlen(from);

	if (length >= size)
		length = size - 1;
	memcpy(to, from, length);
	to[length] = 0;
}

/*
 * The last place is for all that have none of their own.  Its addresses are
 * nobody's, so that no object takes it for one that it stands for.
 */
static struct object *other_objects(void)
{
	struct object *others = &tables.object[MAX_OBJECTS - 1];

	if (tables.nr_objects < MAX_OBJECTS) {
		tables.nr_objects = MAX_OBJECTS;
		memset(others, 0, sizeof(*others));
		copy_name(others->name, sizeof(others->name), "(others)");
	}
	return others;
}

/* An object that stands where another one was takes its place. */
static struct object *add_object(uintptr_t start, uintptr_t last,
				 const char *name)
{
	struct object *object = NULL;
	uint32_t i;

	for (i = 0; i < tables.nr_objects; i++)
		if (tables.object[i].start <= last &&
		    tables.object[i].last >= start)
			object = &tables.object[i];
	if (!object) {
		if (tables.nr_objects >= MAX_OBJECTS - 1)
			return other_objects();
		object = &tables.object[tables.nr_objects++];
	}
	memset(object, 0, sizeof(*object));
	object->start = start;
	object->last = last;
	copy_name(object->name, sizeof(object->name), name);
	return object;
}

static void collect(void *arg, const struct mmn_found *found)
{
	struct object *object = arg;

	if (found->is_unknown) {
		object->nr_unknown++;
		object->reason = found->reason;
		return;
	}
	object->nr_found++;
	if (found->reason == MMN_REFUSE_NONE && tables.nr_batch == MAX_BATCH) {
		object->nr_refused++;
		object->reason = MMN_REFUSE_FULL;
	} else if (found->reason != MMN_REFUSE_NONE) {
		object->nr_refused++;
		object->reason = found->reason;
	} else {
		tables.batch[tables.nr_batch++] = *found;
	}
}

static void refuse(struct object *object, uint32_t nr, uint32_t reason)
{
	object->nr_refused += nr;
	object->reason = reason;
}

/* Places of the batch that are not in the table yet, or whose table is full. */
static uint32_t count_new(void)
{
	uint32_t i, nr = 0;

	for (i = 0; i < tables.nr_batch; i++)
		if (!find_site(tables.batch[i].at))
			nr++;
	return nr;
}

/* The code at a known place may be another one now: then its stub is wrong. */
static bool is_same_code(const struct site *site, const struct mmn_found *found)
{
	return site->resume == found->resume &&
	       !memcmp(site->old, found->moved, MMN_PATCH_BYTES) &&
	       !memcmp(site->stub, found->moved, found->nr_moved);
}

/*
 * Every place of the batch gets a stub and an entry in the table.  Returns how
 * many, or a negative errno.
 */
static int prepare_batch(struct object *object, uintptr_t start, uintptr_t last)
{
	uint32_t i, used = 0, nr_new = count_new(), nr_kept = 0;
	struct mmn_found *found;
	uint8_t *stubs = NULL;
	struct site *site;

	for (i = 0; i < tables.nr_batch; i++) {
		site = find_site(tables.batch[i].at);
		if (site && !is_same_code(site, &tables.batch[i]))
			nr_new++;
	}
	if (nr_new) {
		stubs = mmn_patch_alloc_stubs(start, last, nr_new);
		if (!stubs) {
			refuse(object, tables.nr_batch, MMN_REFUSE_FULL);
			tables.nr_batch = 0;
			return 0;
		}
	}
	for (i = 0; i < tables.nr_batch; i++) {
		found = &tables.batch[i];
		site = find_site(found->at);
		if (!site && tables.nr_sites == MAX_SITES) {
			refuse(object, 1, MMN_REFUSE_FULL);
			continue;
		}
		if (!site || !is_same_code(site, found)) {
			if (!site)
				site = &tables.site[tables.nr_sites++];
			site->at = found->at;
			site->resume = found->resume;
			site->text_start = found->text_start;
			site->text_last = found->text_last;
			site->text_prot = found->text_prot;
			memcpy(site->old, found->moved, MMN_PATCH_BYTES);
			site->stub = mmn_patch_emit(stubs, used++, found);
		}
		site->is_patched = false;
		site->object = (uint32_t)(object - tables.object);
		nr_kept++;
	}
	if (stubs && mmn_patch_seal(stubs, nr_new)) {
		/* They were never reached: forget them. */
		for (i = 0; i < tables.nr_sites;) {
			site = &tables.site[i];
			if (site->stub >= stubs &&
			    site->stub < stubs + (nr_new + 1ul) * MMN_STUB_SIZE)
				*site = tables.site[--tables.nr_sites];
			else
				i++;
		}
		mmn_patch_free_stubs(stubs, nr_new);
		return -EPERM;
	}
	return (int)nr_kept;
}

/*
 * Look for places, and make everything ready for rewriting them.  *@ret_index is
 * the object, NO_OBJECT when there is nothing in it.
 */
static int scan_object(const struct mmn_image *image, uintptr_t start,
		       uintptr_t last, const char *name, uint32_t *ret_index)
{
	struct object *object;
	int ret;

	*ret_index = NO_OBJECT;
	object = add_object(start, last, name);
	tables.nr_batch = 0;
	mmn_scan_image(image, collect, object);
	if (!object->nr_found && !object->nr_unknown &&
	    object == &tables.object[tables.nr_objects - 1]) {
		tables.nr_objects--;
		return 0;
	}
	ret = prepare_batch(object, start, last);
	if (ret > 0)
		*ret_index = (uint32_t)(object - tables.object);
	return ret < 0 ? ret : 0;
}

/* ---- rewriting ---- */

/*
 * Rewrites what is not rewritten yet, of one object or of all
 * (ALL_OBJECTS), or puts everything back.
 */
static int write_sites(uint32_t object, bool patch, bool live, uint32_t *mode)
{
	struct mmn_patch *p;
	struct object *owner;
	struct site *site;
	uint32_t i, nr = 0;
	int ret;

	for (i = 0; i < tables.nr_sites; i++) {
		site = &tables.site[i];
		if (site->is_patched == patch ||
		    (patch && site->object == NO_OBJECT) ||
		    (object != ALL_OBJECTS && site->object != object))
			continue;
		p = &tables.patch[nr++];
		p->at = site->at;
		p->text_start = site->text_start;
		p->text_last = site->text_last;
		p->text_prot = site->text_prot;
		memcpy(p->old, site->old, MMN_PATCH_BYTES);
		mmn_patch_jump(p->new, site->at, site->stub);
		if (!patch) {
			memcpy(p->old, p->new, MMN_PATCH_BYTES);
			memcpy(p->new, site->old, MMN_PATCH_BYTES);
		}
	}
	if (!nr)
		return 0;
	ret = mmn_patch_write(tables.patch, nr, live, mode);
	if (ret)
		return ret;
	for (i = 0; i < nr; i++) {
		p = &tables.patch[i];
		site = known_site(p->at);
		if (patch) {
			owner = &tables.object[site->object];
			site->is_patched = !p->reason;
			if (p->reason)
				refuse(owner, 1, p->reason);
			else
				owner->nr_patched++;
		} else if (p->reason != MMN_REFUSE_CACHE_LINE) {
			/* Back, or not ours any more. */
			site->is_patched = false;
		}
	}
	return 0;
}

/* ---- all loaded objects ---- */

struct pass {
	uint32_t flags;
	bool stop;
	int error;
	uint64_t vdso;
};

static bool is_libc(const char *name)
{
	return strstr(name, "/libc.so") || strstr(name, "/libc-2.") ||
	       strstr(name, "/ld-linux") || strstr(name, "/ld-2.") ||
	       strstr(name, "/ld-musl") || strstr(name, "/libpthread");
}

/* The executable segments of an object, in whole pages. */
static bool text_bounds(const struct mmn_image *image, uintptr_t *ret_start,
			uintptr_t *ret_last)
{
	const uintptr_t page = MMN_PAGE_SIZE - 1;
	const struct mmn_image_segment *segment;
	bool found = false;
	uint32_t i;

	for (i = 0; i < image->nr_segments; i++) {
		segment = &image->segment[i];
		if (!segment->is_exec || !segment->size)
			continue;
		if (!found)
			*ret_start = (segment->vaddr + image->bias) & ~page;
		*ret_last = (segment->vaddr + image->bias + segment->size - 1) |
			    page;
		found = true;
	}
	return found;
}

static int visit_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct pass *pass = arg;
	const char *name = info->dlpi_name ? info->dlpi_name : "";
	struct mmn_image image;
	uintptr_t start, last;
	uint32_t index;

	(void)size;
	mmn_image_from_loaded(&image, info);
	if (info->dlpi_addr == pass->vdso ||
	    !text_bounds(&image, &start, &last))
		return 0;
	/* A static program has its libc in itself. */
	if ((pass->flags & MMN_INTERCEPT_LIBC_ONLY) && !is_libc(name) && *name)
		return 0;
	tables.nr_seen++;
	pass->error = scan_object(&image, start, last, name, &index);
	return pass->error;
}

/* Inside the dynamic linker's lock: nothing is unloaded while this runs. */
static int install_pass(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct pass *pass = arg;
	struct mmn_sigmask saved;
	bool live;

	(void)info;
	(void)size;
	mmn_signals_block(&saved);
	mmn_mutex_lock(&table_lock);
	if (!pass->stop)
		dl_iterate_phdr(visit_object, pass);
	live = mmn_patch_has_threads();
	report.was_live = live;
	if (!pass->error)
		pass->error = write_sites(ALL_OBJECTS, !pass->stop, live,
					  &report.write_mode);
	mmn_mutex_unlock(&table_lock);
	mmn_signals_restore(&saved);
	return 1;
}

static uint32_t nr_patched(void)
{
	uint32_t i, nr = 0;

	for (i = 0; i < tables.nr_sites; i++)
		nr += tables.site[i].is_patched;
	return nr;
}

static int rewrite_all(uint32_t flags, bool stop)
{
	struct pass pass = {
		.flags = flags,
		.stop = stop,
		.vdso = getauxval(AT_SYSINFO_EHDR),
	};

	dl_iterate_phdr(install_pass, &pass);
	return pass.error;
}

/* ---- code that is mapped later ---- */

struct view {
	const uint8_t *bytes;
	uintptr_t size;
};

static bool map_view(int fd, struct view *ret)
{
	struct stat st;
	long at;

	if (mmn_syscall2(SYS_fstat, fd, &st) || st.st_size <= 0)
		return false;
	at = mmn_syscall6(SYS_mmap, 0, st.st_size, PROT_READ, MAP_PRIVATE, fd,
			  0);
	if (mmn_syscall_failed(at))
		return false;
	ret->bytes = (const uint8_t *)at;
	ret->size = (uintptr_t)st.st_size;
	return true;
}

/* "/proc/self/fd/N" says what the file is called. */
static void name_of_file(int fd, char *name, size_t size)
{
	char link[32] = "/proc/self/fd/", digits[12];
	size_t at = strlen(link), n = 0;
	long length;

	do {
		digits[n++] = (char)('0' + fd % 10);
		fd /= 10;
	} while (fd);
	while (n)
		link[at++] = digits[--n];
	link[at] = 0;
	length = mmn_syscall3(SYS_readlink, link, name, size - 1);
	name[length > 0 ? length : 0] = 0;
}

/*
 * In the middle of mmap(), most likely inside dlopen(): nobody runs the new code
 * yet, so it is simply written, whatever threads there are.
 */
void mmn_intercept_follow(uintptr_t start, uintptr_t last, int fd,
			  uint64_t offset)
{
	char name[128];
	struct mmn_image image;
	struct view view;
	uintptr_t first = 0, end = 0;
	uint32_t mode, object;

	if (fd < 0)
		return;
	/* Most objects have no system call of their own at all. */
	if (!map_view(fd, &view))
		return;
	if (offset >= view.size ||
	    !mmn_scan_has_candidate(view.bytes + offset,
				    last - start < view.size - offset
					    ? last - start
					    : view.size - offset) ||
	    !mmn_image_from_file(&image, view.bytes, view.size, start,
				 offset) ||
	    !text_bounds(&image, &first, &end))
		goto unmap;
	if (first < start || end > (last | (MMN_PAGE_SIZE - 1)))
		goto unmap;
	name_of_file(fd, name, sizeof(name));
	mmn_mutex_lock(&table_lock);
	tables.nr_seen++;
	if (!scan_object(&image, first, end, name, &object) &&
	    object != NO_OBJECT)
		write_sites(object, true, false, &mode);
	mmn_mutex_unlock(&table_lock);
unmap:
	mmn_syscall2(SYS_munmap, view.bytes, view.size);
}

/* ---- the public calls ---- */

static int check_options(const struct mmn_intercept_options *options,
			 struct mmn_intercept_options *ret)
{
	const uint8_t *bytes = (const uint8_t *)options;
	uint32_t i;

	memset(ret, 0, sizeof(*ret));
	if (!options)
		return 0;
	if (options->size < offsetof(struct mmn_intercept_options, observe))
		return -EINVAL;
	for (i = sizeof(*ret); i < options->size; i++)
		if (bytes[i])
			return -E2BIG;
	memcpy(ret, options,
	       options->size < sizeof(*ret) ? options->size : sizeof(*ret));
	if ((ret->flags & ~KNOWN_FLAGS) || ret->reserved ||
	    ret->observe_calls >> MMN_NR_CALLS ||
	    (ret->observe_calls && !ret->observe))
		return -EINVAL;
	return 0;
}

static void fill_report(struct mmn_intercept_report *to)
{
	const struct object *object;
	struct mmn_sigmask saved;
	uint32_t i;

	mmn_signals_block(&saved);
	mmn_mutex_lock(&table_lock);
	report.size = sizeof(report);
	report.nr_objects = tables.nr_seen;
	report.nr_found = 0;
	report.nr_patched = 0;
	report.nr_refused = 0;
	report.nr_unknown = 0;
	for (i = 0; i < tables.nr_objects; i++) {
		object = &tables.object[i];
		report.nr_found += object->nr_found;
		report.nr_patched += object->nr_patched;
		report.nr_refused += object->nr_refused;
		report.nr_unknown += object->nr_unknown;
	}
	*to = report;
	mmn_mutex_unlock(&table_lock);
	mmn_signals_restore(&saved);
}

static bool is_inherited(void)
{
	return is_on && generation != mmn_process_generation();
}

static void forget_objects(void)
{
	uint32_t i;

	for (i = 0; i < tables.nr_sites; i++)
		tables.site[i].object = NO_OBJECT;
	tables.nr_objects = 0;
	tables.nr_seen = 0;
}

/* Never by malloc(): that may be the program's, and changes memory. */
static struct mmn_source *alloc_source(void)
{
	long at =
		mmn_syscall6(SYS_mmap, 0, MMN_PAGE_SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return mmn_syscall_failed(at) ? NULL : (struct mmn_source *)at;
}

static void free_retired(void)
{
	struct mmn_source *it;

	while ((it = retired)) {
		retired = it->older;
		mmn_state_put(it->state);
		mmn_syscall2(SYS_munmap, it, MMN_PAGE_SIZE);
	}
}

/*
 * A call that is stuck comes back to the source it began with, however many
 * were started since: each start takes a new one, and all that are off are freed
 * when a stop finds nobody inside.
 */
static int turn_off(void)
{
	int ret = mmn_dispatch_off(STOP_TIMEOUT_NS);

	source->older = retired;
	retired = source;
	source = NULL;
	if (!ret)
		free_retired();
	return ret;
}

static int install(struct mmn_state *state,
		   const struct mmn_intercept_options *options)
{
	uint64_t begin = mmn_now_ns();
	int ret;

	source = alloc_source();
	if (!source)
		return -ENOMEM;
	mmn_vector_state_init();
	memset(&report, 0, sizeof(report));
	source->state = mmn_state_get(state);
	source->observe = options->observe;
	source->observe_arg = options->observe_arg;
	source->observe_calls = options->observe_calls;
	source->follow = !(options->flags &
			   (MMN_INTERCEPT_NO_FOLLOW | MMN_INTERCEPT_LIBC_ONLY));
	source->pid = (int32_t)mmn_syscall0(SYS_getpid);
	generation = mmn_process_adopt();
	source->generation = generation;
	forget_objects();
	mmn_dispatch_on(source);
	ret = rewrite_all(options->flags, false);
	if (!ret && !nr_patched())
		ret = -ENOTSUP;
	if (ret) {
		turn_off();
		return ret;
	}
	is_on = true;
	report.install_ns = mmn_now_ns() - begin;
	if (options->flags & MMN_INTERCEPT_SELF_CHECK)
		mmn_self_check(state, report.check);
	return 0;
}

int mmn_intercept_start(struct mmn_state *state,
			const struct mmn_intercept_options *options,
			struct mmn_intercept_report *ret_report)
{
	struct mmn_intercept_options opt;
	int ret;

	if (!state || (ret_report && ret_report->size != sizeof(report)))
		return -EINVAL;
	ret = check_options(options, &opt);
	if (ret)
		return ret;
	if (mmn_dispatch_is_inside() || mmn_context_in_callback())
		return -EBUSY;
	if (is_inherited())
		return -ESTALE;
	mmn_mutex_lock(&install_lock);
	if (is_on)
		ret = state == source->state ? -EALREADY : -EBUSY;
	else
		ret = install(state, &opt);
	if (!ret && ret_report)
		fill_report(ret_report);
	mmn_mutex_unlock(&install_lock);
	return ret;
}

int mmn_intercept_stop(void)
{
	int ret;

	if (mmn_dispatch_is_inside() || mmn_context_in_callback())
		return -EBUSY;
	if (is_inherited())
		return -ESTALE;
	mmn_mutex_lock(&install_lock);
	ret = is_on ? rewrite_all(0, true) : -ENOENT;
	if (!ret) {
		is_on = false;
		ret = turn_off();
	}
	mmn_mutex_unlock(&install_lock);
	return ret;
}

int mmn_intercept_get_report(struct mmn_intercept_report *ret_report)
{
	int ret = 0;

	if (!ret_report || ret_report->size != sizeof(report))
		return -EINVAL;
	mmn_mutex_lock(&install_lock);
	if (is_on)
		fill_report(ret_report);
	else
		ret = -ENOENT;
	mmn_mutex_unlock(&install_lock);
	return ret;
}

int mmn_intercept_get_object(uint32_t index,
			     struct mmn_intercept_object *ret_object)
{
	struct mmn_sigmask saved;
	const struct object *object;
	int ret = 0;

	if (!ret_object || ret_object->size != sizeof(*ret_object))
		return -EINVAL;
	mmn_mutex_lock(&install_lock);
	mmn_signals_block(&saved);
	mmn_mutex_lock(&table_lock);
	if (is_on && index < tables.nr_objects) {
		object = &tables.object[index];
		ret_object->reason = object->reason;
		ret_object->start = object->start;
		ret_object->last = object->last;
		ret_object->nr_found = object->nr_found;
		ret_object->nr_patched = object->nr_patched;
		ret_object->nr_refused = object->nr_refused;
		ret_object->nr_unknown = object->nr_unknown;
		copy_name(ret_object->name, sizeof(ret_object->name),
			  object->name);
	} else {
		ret = -ENOENT;
	}
	mmn_mutex_unlock(&table_lock);
	mmn_signals_restore(&saved);
	mmn_mutex_unlock(&install_lock);
	return ret;
}

int mmn_intercept_get_stats(struct mmn_intercept_stats *ret_stats)
{
	uint32_t size = sizeof(*ret_stats);

	if (!ret_stats || ret_stats->size != size)
		return -EINVAL;
	memset(ret_stats, 0, size);
	ret_stats->size = size;
	mmn_dispatch_get_stats(ret_stats);
	return 0;
}
