/* SPDX-License-Identifier: MIT */
/* Threads that allocate, use, resize and free, and check what they wrote. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 4, ROUNDS = 1200, KEPT = 16 };

struct block {
	unsigned char *bytes;
	size_t size;
	unsigned char value;
};

static int is_whole(const struct block *block)
{
	size_t i;

	for (i = 0; i < block->size; i += 997)
		if (block->bytes[i] != block->value)
			return 0;
	return 1;
}

static void *churn(void *arg)
{
	struct block kept[KEPT] = { { NULL, 0, 0 } };
	struct block *block;
	uint32_t random = (uint32_t)(uintptr_t)arg * 2654435761u + 1;
	intptr_t bad = 0;
	int i;

	for (i = 0; i < ROUNDS; i++) {
		random = random * 1664525u + 1013904223u;
		block = &kept[random >> 28];
		if (block->bytes)
			bad += !is_whole(block);
		block->size = (random >> 8) % (1u << (8 + (random >> 4) % 14));
		block->size++;
		if (random & 1 << 7) {
			block->bytes = realloc(block->bytes, block->size);
		} else {
			free(block->bytes);
			block->bytes = malloc(block->size);
		}
		if (!block->bytes)
			return (void *)1;
		block->value = (unsigned char)(random >> 16);
		memset(block->bytes, block->value, block->size);
	}
	for (i = 0; i < KEPT; i++)
		free(kept[i].bytes);
	return (void *)bad;
}

int main(void)
{
	pthread_t threads[THREADS];
	intptr_t round, i, bad = 0;
	void *ret;

	for (round = 0; round < 2; round++) {
		for (i = 0; i < THREADS; i++)
			if (pthread_create(&threads[i], NULL, churn,
					   (void *)(round * THREADS + i)))
				return 1;
		for (i = 0; i < THREADS; i++) {
			pthread_join(threads[i], &ret);
			bad += (intptr_t)ret;
		}
	}
	printf("%d threads, %ld bad\n", THREADS * 2, (long)bad);
	return bad != 0;
}
