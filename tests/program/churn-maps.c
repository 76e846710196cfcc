/* SPDX-License-Identifier: MIT */
/*
 * Changes its memory in every way there is, for as many milliseconds as its
 * argument says, and checks that it always finds what it wrote.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 48, BYTES = PAGES * PAGE };

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

static char *map(char *at, int more)
{
	return mmap(at, BYTES, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | more, -1, 0);
}

/* The memory may be somewhere else afterwards, and is empty or as it was. */
static char *change(char *memory, int how)
{
	char *other;

	switch (how) {
	case 0:
		madvise(memory, BYTES, MADV_DONTNEED);
		break;
	case 1:
		map(memory, MAP_FIXED);
		break;
	case 2:
		other = map(NULL, 0);
		memory = mremap(memory, BYTES, BYTES,
				MREMAP_MAYMOVE | MREMAP_FIXED, other);
		break;
	case 3:
		munmap(memory, BYTES);
		memory = map(memory, 0);
		break;
	case 4:
		munmap(memory + BYTES / 4, BYTES / 4);
		mmap(memory + BYTES / 4, BYTES / 4, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		break;
	case 5:
		mprotect(memory, BYTES, PROT_READ);
		mprotect(memory, BYTES, PROT_READ | PROT_WRITE);
		break;
	case 6:
		other = sbrk(BYTES);
		memset(other, how, BYTES);
		sbrk(-BYTES);
		break;
	case 7:
		memory = mremap(memory, BYTES, BYTES / 2, 0);
		memory = mremap(memory, BYTES / 2, BYTES, MREMAP_MAYMOVE);
		break;
	}
	return memory;
}

static void pause_us(long us)
{
	struct timespec time = { 0, us * 1000 };

	nanosleep(&time, NULL);
}

int main(int argc, char **argv)
{
	double end = now() + (argc > 1 ? atof(argv[1]) : 300);
	char *memory = map(NULL, 0);
	int round, i;

	for (round = 0; now() < end || round < 64; round++) {
		memset(memory, round & 0xff, BYTES);
		pause_us(100);
		memory = change(memory, round % 8);
		if (memory == MAP_FAILED)
			return 2;
		for (i = 0; i < BYTES; i += PAGE)
			if (memory[i] && memory[i] != (char)(round & 0xff))
				return 1;
	}
	puts("whole");
	return 0;
}
