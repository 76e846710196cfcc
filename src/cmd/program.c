/* SPDX-License-Identifier: MIT */
/*
 * Is this a program that the agent can be loaded into?
 *
 * Everything that would make the dynamic linker ignore the preloaded library or
 * die of it is found out before anything starts, so that the program is never
 * run half-followed by surprise, nor harmed: static programs have no dynamic
 * linker, another architecture or libc cannot load the library, and a program
 * that gains privileges ignores LD_PRELOAD.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cmd.h"

#if __SIZEOF_POINTER__ != 8
#error "the command is for 64-bit machines"
#endif

/* What Linux itself follows (bprm recursion). */
#define MAX_SCRIPTS 4

/* Set by the build: where `ninja install` puts the agent. */
#ifndef MMN_AGENT_DIR
#error "MMN_AGENT_DIR: where the agent is installed"
#endif

static int not_found(const char *name, int error)
{
	if (error == ENOENT || error == ENOTDIR) {
		complain("%s: no such program", name);
		return EXIT_NOT_FOUND;
	}
	complain("%s: %s", name, strerror(error));
	return EXIT_NOT_RUNNABLE;
}

/* As execvp(): a name without a slash is searched for in PATH. */
static int search(const char *name, char *path)
{
	const char *dirs = getenv("PATH");
	int denied = 0;
	size_t length;
	struct stat st;

	if (!*name)
		return not_found("(empty name)", ENOENT);
	if (strchr(name, '/')) {
		if (snprintf(path, PATH_MAX, "%s", name) >= PATH_MAX)
			return not_found(name, ENAMETOOLONG);
		if (stat(path, &st))
			return not_found(name, errno);
		if (S_ISDIR(st.st_mode))
			return not_found(name, EISDIR);
		if (access(path, X_OK))
			return not_found(name, EACCES);
		return 0;
	}
	if (!dirs)
		dirs = "/usr/local/bin:/bin:/usr/bin";
	for (;; dirs += length + 1) {
		length = strcspn(dirs, ":");
		if (snprintf(path, PATH_MAX, "%.*s%s%s", (int)length, dirs,
			     length ? "/" : "./", name) < PATH_MAX &&
		    !stat(path, &st) && S_ISREG(st.st_mode)) {
			if (!access(path, X_OK))
				return 0;
			denied = EACCES;
		}
		if (!dirs[length])
			break;
	}
	return not_found(name, denied ? denied : ENOENT);
}

static bool gains_privileges(int fd, const struct stat *st)
{
	char capability[64];

	if ((st->st_mode & S_ISUID) && st->st_uid != geteuid())
		return true;
	if ((st->st_mode & S_ISGID) && (st->st_mode & S_IXGRP) &&
	    st->st_gid != getegid())
		return true;
	return geteuid() != 0 && fgetxattr(fd, "security.capability",
					   capability, sizeof(capability)) > 0;
}

/* The dynamic linker that an ELF file asks for; "" if it asks for none. */
static int elf_interpreter(int fd, const ElfW(Ehdr) * ehdr, char *name,
			   size_t size)
{
	ElfW(Phdr) phdr;
	unsigned int i;

	*name = '\0';
	if (ehdr->e_phentsize != sizeof(phdr))
		return -1;
	for (i = 0; i < ehdr->e_phnum; i++) {
		if (pread(fd, &phdr, sizeof(phdr),
			  (off_t)(ehdr->e_phoff + i * sizeof(phdr))) !=
		    sizeof(phdr))
			return -1;
		if (phdr.p_type != PT_INTERP)
			continue;
		if (!phdr.p_filesz || phdr.p_filesz > size ||
		    pread(fd, name, phdr.p_filesz, (off_t)phdr.p_offset) !=
			    (ssize_t)phdr.p_filesz)
			return -1;
		name[phdr.p_filesz - 1] = '\0';
		return 0;
	}
	return 0;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* The command itself is what a program must be like. */
static void own_header(ElfW(Ehdr) * ehdr, char *interpreter, size_t size)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	memset(ehdr, 0, sizeof(*ehdr));
	*interpreter = '\0';
	if (fd < 0)
		return;
	if (pread(fd, ehdr, sizeof(*ehdr), 0) == sizeof(*ehdr))
		elf_interpreter(fd, ehdr, interpreter, size);
	close(fd);
}

static int check_elf(const char *path, int fd, const ElfW(Ehdr) * ehdr)
{
	char own_interpreter[PATH_MAX];
	char interpreter[PATH_MAX];
	ElfW(Ehdr) own;

	own_header(&own, own_interpreter, sizeof(own_interpreter));
	if (ehdr->e_ident[EI_CLASS] != own.e_ident[EI_CLASS] ||
	    ehdr->e_ident[EI_DATA] != own.e_ident[EI_DATA] ||
	    ehdr->e_machine != own.e_machine) {
		complain("%s is a program for another machine (ELF class %d, "
			 "machine %d)\n"
			 "     hint: mmn must be built for the same one",
			 path, ehdr->e_ident[EI_CLASS] == ELFCLASS32 ? 32 : 64,
			 ehdr->e_machine);
		return EXIT_NOT_RUNNABLE;
	}
	if (elf_interpreter(fd, ehdr, interpreter, sizeof(interpreter))) {
		complain("%s: broken ELF file", path);
		return EXIT_NOT_RUNNABLE;
	}
	/* The dynamic linker itself is started as a program: it will load. */
	if (!*interpreter &&
	    !strcmp(base_name(path), base_name(own_interpreter)))
		return 0;
	if (!*interpreter) {
		complain("%s is statically linked: nothing can be preloaded "
			 "into it\n"
			 "     hint: link it dynamically (without -static), or "
			 "let it start libmmn itself",
			 path);
		return EXIT_NOT_RUNNABLE;
	}
	if (strcmp(base_name(interpreter), base_name(own_interpreter))) {
		complain("%s is for another C library (%s; mmn is for %s)\n"
			 "     hint: build libmmn with the C library of the "
			 "program",
			 path, interpreter, own_interpreter);
		return EXIT_NOT_RUNNABLE;
	}
	return 0;
}

/* "#!INTERPRETER..." in @line: put the interpreter into @path. */
static bool script_interpreter(char *line, char *path)
{
	char *name = line + 2 + strspn(line + 2, " \t");

	name[strcspn(name, " \t\n")] = '\0';
	if (!*name)
		return false;
	return snprintf(path, PATH_MAX, "%s", name) < PATH_MAX;
}

static int check_file(char *path, int depth)
{
	union {
		char line[256];
		ElfW(Ehdr) ehdr;
	} head;
	struct stat st;
	ssize_t got;
	int fd, ret = EXIT_NOT_RUNNABLE;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		complain(
			"%s: %s\n"
			"     hint: mmn must be able to read the program to see "
			"whether it can follow it",
			path, strerror(errno));
		return EXIT_NOT_RUNNABLE;
	}
	memset(&head, 0, sizeof(head));
	got = pread(fd, &head, sizeof(head) - 1, 0);
	if (fstat(fd, &st) || got < 0) {
		complain("%s: %s", path, strerror(errno));
		goto out;
	}
	if (got >= 2 && head.line[0] == '#' && head.line[1] == '!') {
		if (depth == MAX_SCRIPTS) {
			complain("%s: too many interpreters", path);
			goto out;
		}
		if (!script_interpreter(head.line, path)) {
			complain("%s: no interpreter after #!", path);
			goto out;
		}
		close(fd);
		if (access(path, X_OK)) {
			complain("interpreter %s: %s", path, strerror(errno));
			return errno == ENOENT ? EXIT_NOT_FOUND
					       : EXIT_NOT_RUNNABLE;
		}
		return check_file(path, depth + 1);
	}
	if (got < (ssize_t)sizeof(head.ehdr) ||
	    memcmp(head.line, ELFMAG, SELFMAG)) {
		complain("%s is neither an ELF program nor a script with #!",
			 path);
		goto out;
	}
	if (gains_privileges(fd, &st)) {
		complain("%s gains privileges when it starts (set-user-id, "
			 "set-group-id or capabilities),\n"
			 "     and such programs preload nothing\n"
			 "     hint: run mmn as the user that the program runs "
			 "as",
			 path);
		goto out;
	}
	ret = check_elf(path, fd, &head.ehdr);
out:
	close(fd);
	return ret;
}

int program_find(const char *name, char *path)
{
	char file[PATH_MAX];
	int ret = search(name, path);

	if (ret)
		return ret;
	strcpy(file, path);
	return check_file(file, 0);
}

int program_find_agent(char *path)
{
	static const char file[] = "libmmn-run.so";
	const char *wish = getenv("MMN_RUN_LIBRARY");
	char self[PATH_MAX];
	ssize_t length;
	char *slash;

	if (wish) {
		if (!realpath(wish, path)) {
			complain("MMN_RUN_LIBRARY=%s: %s", wish,
				 strerror(errno));
			return EXIT_INTERNAL;
		}
		goto found;
	}
	length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (length > 0) {
		self[length] = '\0';
		slash = strrchr(self, '/');
		if (slash)
			*slash = '\0';
		/* A build tree has both in one folder. */
		if (snprintf(path, PATH_MAX, "%s/%s", self, file) < PATH_MAX &&
		    !access(path, R_OK))
			goto found;
	}
	if (snprintf(path, PATH_MAX, "%s/%s", MMN_AGENT_DIR, file) < PATH_MAX &&
	    !access(path, R_OK))
		goto found;
	complain(
		"cannot find %s, which is loaded into the program\n"
		"     hint: install libmmn, or set MMN_RUN_LIBRARY to its path",
		file);
	return EXIT_INTERNAL;
found:
	if (strpbrk(path, " :")) {
		complain(
			"%s: a path with a space or colon cannot be preloaded\n"
			"     hint: set MMN_RUN_LIBRARY to a path without",
			path);
		return EXIT_INTERNAL;
	}
	return 0;
}
