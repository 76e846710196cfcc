/* SPDX-License-Identifier: MIT */
/*
 * What compilers call when they are told -fsanitize=thread.
 *
 * Code under test is compiled with that flag, but not linked with the runtime of
 * ThreadSanitizer: the calls that its compiler puts before each plain access and
 * in place of each atomic one come here.  So the code is the library's own, not
 * one line of it changed, and the explorer sees all it does to shared memory.
 *
 * The orders come as arguments, numbered as __ATOMIC_RELAXED and so on are.
 */
#include <stddef.h>

#include "ladder/engine.h"

/* ------------------------------------------------------------------ */
/* Plain accesses                                                     */
/* ------------------------------------------------------------------ */

#define PLAIN(size)                                        \
	void __tsan_read##size(void *p);                   \
	void __tsan_write##size(void *p);                  \
	void __tsan_unaligned_read##size(void *p);         \
	void __tsan_unaligned_write##size(void *p);        \
	void __tsan_volatile_read##size(void *p);          \
	void __tsan_volatile_write##size(void *p);         \
	void __tsan_read##size(void *p)                    \
	{                                                  \
		engine_plain((uintptr_t)p, (size), false); \
	}                                                  \
	void __tsan_write##size(void *p)                   \
	{                                                  \
		engine_plain((uintptr_t)p, (size), true);  \
	}                                                  \
	void __tsan_unaligned_read##size(void *p)          \
	{                                                  \
		engine_plain((uintptr_t)p, (size), false); \
	}                                                  \
	void __tsan_unaligned_write##size(void *p)         \
	{                                                  \
		engine_plain((uintptr_t)p, (size), true);  \
	}                                                  \
	void __tsan_volatile_read##size(void *p)           \
	{                                                  \
		engine_plain((uintptr_t)p, (size), false); \
	}                                                  \
	void __tsan_volatile_write##size(void *p)          \
	{                                                  \
		engine_plain((uintptr_t)p, (size), true);  \
	}

PLAIN(1)
PLAIN(2)
PLAIN(4)
PLAIN(8)
PLAIN(16)

#define READ_WRITE(size)                                  \
	void __tsan_read_write##size(void *p);            \
	void __tsan_read_write##size(void *p)             \
	{                                                 \
		engine_plain((uintptr_t)p, (size), true); \
	}

READ_WRITE(1)
READ_WRITE(2)
READ_WRITE(4)
READ_WRITE(8)
READ_WRITE(16)

void __tsan_read_range(void *p, size_t size);
void __tsan_write_range(void *p, size_t size);
void __tsan_func_entry(void *caller);
void __tsan_func_exit(void);
void __tsan_init(void);
void __tsan_vptr_update(void **p, void *value);
void __tsan_vptr_read(void **p);

void __tsan_read_range(void *p, size_t size)
{
	engine_plain((uintptr_t)p, size, false);
}

void __tsan_write_range(void *p, size_t size)
{
	engine_plain((uintptr_t)p, size, true);
}

void __tsan_func_entry(void *caller)
{
	(void)caller;
}

void __tsan_func_exit(void)
{
}

void __tsan_init(void)
{
}

/* ------------------------------------------------------------------ */
/* Atomic accesses                                                    */
/* ------------------------------------------------------------------ */

static bool exchange(const struct op *op, uint64_t old, uint64_t *ret_new)
{
	*ret_new = op->value;
	return true;
}

static bool add(const struct op *op, uint64_t old, uint64_t *ret_new)
{
	*ret_new = old + op->value;
	return true;
}

static bool subtract(const struct op *op, uint64_t old, uint64_t *ret_new)
{
	*ret_new = old - op->value;
	return true;
}

static bool bits_and(const struct op *op, uint64_t old, uint64_t *ret_new)
{
	*ret_new = old & op->value;
	return true;
}

static bool bits_or(const struct op *op, uint64_t old, uint64_t *ret_new)
{
	*ret_new = old | op->value;
	return true;
}

static bool bits_xor(const struct op *op, uint64_t old, uint64_t *ret_new)
{
	*ret_new = old ^ op->value;
	return true;
}

static bool bits_nand(const struct op *op, uint64_t old, uint64_t *ret_new)
{
	*ret_new = ~(old & op->value);
	return true;
}

static bool compare_exchange(const struct op *op, uint64_t old,
			     uint64_t *ret_new)
{
	*ret_new = op->value;
	return old == op->expected;
}

static uint64_t rmw(const volatile void *p, uint8_t size, uint64_t value,
		    int order, rmw_function *function)
{
	struct op op = {
		.kind = OP_RMW,
		.address = (uintptr_t)p,
		.size = size,
		.order = (uint8_t)order,
		.order_failed = (uint8_t)order,
		.value = value,
		.function = function,
	};
	bool written;

	return engine_access(&op, &written);
}

static uint64_t load(const volatile void *p, uint8_t size, int order)
{
	struct op op = {
		.kind = OP_LOAD,
		.address = (uintptr_t)p,
		.size = size,
		.order = (uint8_t)order,
	};
	bool written;

	return engine_access(&op, &written);
}

static void store(volatile void *p, uint8_t size, uint64_t value, int order)
{
	struct op op = {
		.kind = OP_STORE,
		.address = (uintptr_t)p,
		.size = size,
		.order = (uint8_t)order,
		.value = value,
	};
	bool written;

	engine_access(&op, &written);
}

static bool cmpxchg(volatile void *p, uint8_t size, uint64_t *expected,
		    uint64_t value, int order, int failed)
{
	struct op op = {
		.kind = OP_RMW,
		.address = (uintptr_t)p,
		.size = size,
		.order = (uint8_t)order,
		.order_failed = (uint8_t)failed,
		.value = value,
		.expected = *expected,
		.function = compare_exchange,
	};
	bool written;

	*expected = engine_access(&op, &written);
	return written;
}

#define FETCH(bits, name, function)                                            \
	uint##bits##_t __tsan_atomic##bits##_##name(                           \
		volatile uint##bits##_t *p, uint##bits##_t v, int order);      \
	uint##bits##_t __tsan_atomic##bits##_##name(                           \
		volatile uint##bits##_t *p, uint##bits##_t v, int order)       \
	{                                                                      \
		return (uint##bits##_t)rmw(p, (bits) / 8, v, order, function); \
	}

#define CMPXCHG(bits, name)                                                  \
	int __tsan_atomic##bits##_compare_exchange_##name(                   \
		volatile uint##bits##_t *p, uint##bits##_t *e,               \
		uint##bits##_t v, int order, int failed);                    \
	int __tsan_atomic##bits##_compare_exchange_##name(                   \
		volatile uint##bits##_t *p, uint##bits##_t *e,               \
		uint##bits##_t v, int order, int failed)                     \
	{                                                                    \
		uint64_t expected = *e;                                      \
		bool done =                                                  \
			cmpxchg(p, (bits) / 8, &expected, v, order, failed); \
		*e = (uint##bits##_t)expected;                               \
		return done;                                                 \
	}

#define ATOMIC(bits)                                                   \
	uint##bits##_t __tsan_atomic##bits##_load(                     \
		const volatile uint##bits##_t *p, int order);          \
	uint##bits##_t __tsan_atomic##bits##_load(                     \
		const volatile uint##bits##_t *p, int order)           \
	{                                                              \
		return (uint##bits##_t)load(p, (bits) / 8, order);     \
	}                                                              \
	void __tsan_atomic##bits##_store(volatile uint##bits##_t *p,   \
					 uint##bits##_t v, int order); \
	void __tsan_atomic##bits##_store(volatile uint##bits##_t *p,   \
					 uint##bits##_t v, int order)  \
	{                                                              \
		store(p, (bits) / 8, v, order);                        \
	}                                                              \
	FETCH(bits, exchange, exchange)                                \
	FETCH(bits, fetch_add, add)                                    \
	FETCH(bits, fetch_sub, subtract)                               \
	FETCH(bits, fetch_and, bits_and)                               \
	FETCH(bits, fetch_or, bits_or)                                 \
	FETCH(bits, fetch_xor, bits_xor)                               \
	FETCH(bits, fetch_nand, bits_nand)                             \
	CMPXCHG(bits, strong)                                          \
	CMPXCHG(bits, weak)                                            \
	uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(     \
		volatile uint##bits##_t *p, uint##bits##_t e,          \
		uint##bits##_t v, int order, int failed);              \
	uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(     \
		volatile uint##bits##_t *p, uint##bits##_t e,          \
		uint##bits##_t v, int order, int failed)               \
	{                                                              \
		uint64_t expected = e;                                 \
		cmpxchg(p, (bits) / 8, &expected, v, order, failed);   \
		return (uint##bits##_t)expected;                       \
	}

ATOMIC(8)
ATOMIC(16)
ATOMIC(32)
ATOMIC(64)

void __tsan_atomic_thread_fence(int order);
void __tsan_atomic_signal_fence(int order);

void __tsan_atomic_thread_fence(int order)
{
	engine_fence((uint8_t)order);
}

/* Nothing interrupts a thread here. */
void __tsan_atomic_signal_fence(int order)
{
	(void)order;
}
