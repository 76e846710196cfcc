/* SPDX-License-Identifier: MIT */
#ifndef MMN_TREE_ITREE_H
#define MMN_TREE_ITREE_H
/*
 * Interval index: which inclusive ranges overlap [start, last]?
 *
 * A height-balanced (AVL) search tree in the order of the key (start, birth);
 * each node knows the largest end below it, so that a subtree without an overlap
 * is recognised at its root.  Insert, remove and each search step cost
 * O(log n), in the worst case too.
 *
 * Searches go on by key, not by node: the tree may have changed in between, and
 * the node that the search stands on may be gone.
 *
 * No lock and no atomics: the caller serialises.  No allocation; general
 * registers only.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * struct itree_node - one range; embed it in what the range belongs to
 *
 * The caller sets @start, @last and @birth before itree_insert() and leaves them
 * alone until itree_remove().  The pair (start, birth) is unique in a tree.
 * 56 bytes.
 *
 * Invariants of a node in a tree, where h(NULL) = 0:
 *
 * T1  start <= last.
 * T2  keys in the left subtree < (start, birth) < keys in the right subtree.
 * T3  height = 1 + max(h(left), h(right)).
 * T4  h(left) and h(right) differ by at most 1.
 * T5  max_last is the largest last of this node and both subtrees.
 */
struct itree_node {
	uintptr_t start;
	uintptr_t last;
	uint64_t birth;

	/* private: */
	uintptr_t max_last;
	struct itree_node *left;
	struct itree_node *right;
	uint32_t height;
	/* the caller's: the tree leaves it alone */
	uint32_t mark;
};

/*
 * struct itree - all zero is an empty tree
 *
 * T6  nr is the number of nodes.
 */
struct itree {
	struct itree_node *root;
	size_t nr;
};

static inline void itree_init(struct itree *tree)
{
	tree->root = NULL;
	tree->nr = 0;
}

static inline bool itree_is_empty(const struct itree *tree)
{
	return !tree->root;
}

/* The key must not be in the tree; otherwise reported, and no effect. */
void itree_insert(struct itree *tree, struct itree_node *node);

/* @node must be in the tree; otherwise reported, and no effect. */
void itree_remove(struct itree *tree, struct itree_node *node);

/* The overlapping node with the smallest key, or NULL. */
struct itree_node *itree_first_overlap(const struct itree *tree,
				       uintptr_t start, uintptr_t last);

/*
 * The overlapping node with the smallest key above (@cursor_start,
 * @cursor_birth), or NULL.  The cursor need not be in the tree.
 */
struct itree_node *itree_next_overlap(const struct itree *tree,
				      uintptr_t cursor_start,
				      uint64_t cursor_birth, uintptr_t start,
				      uintptr_t last);

/* More levels than there are nodes in memory; see itree.c. */
#define ITREE_MAX_HEIGHT 64

/*
 * struct itree_iter - every overlapping node in ascending order
 *
 * A step costs O(1) on the average of a whole walk.  Valid as long as the tree
 * does not change; then itree_iter_seek() makes it so again.
 */
struct itree_iter {
	uintptr_t start;
	uintptr_t last;
	/* Nodes still to come, each with its right subtree; deepest on top. */
	uint32_t depth;
	struct itree_node *path[ITREE_MAX_HEIGHT];
};

/* Before the first one. */
void itree_iter_init(struct itree_iter *iter, const struct itree *tree,
		     uintptr_t start, uintptr_t last);

/* Before the first one above the cursor, which need not be in the tree. */
void itree_iter_seek(struct itree_iter *iter, const struct itree *tree,
		     uintptr_t cursor_start, uint64_t cursor_birth);

/*
 * The next overlapping nodes, up to @max of them.  Less than that: it is over.
 */
uint32_t itree_iter_take(struct itree_iter *iter, struct itree_node **ret_nodes,
			 uint32_t max);

/* The next overlapping node, or NULL. */
static inline struct itree_node *itree_iter_next(struct itree_iter *iter)
{
	struct itree_node *node;

	return itree_iter_take(iter, &node, 1) ? node : NULL;
}

/* Is the key of @node above the cursor? */
static inline bool itree_is_above(const struct itree_node *node,
				  uintptr_t cursor_start, uint64_t cursor_birth)
{
	if (node->start != cursor_start)
		return node->start > cursor_start;
	return node->birth > cursor_birth;
}

/* Smallest key, key above that of @node (which may be gone), largest key. */
struct itree_node *itree_first(const struct itree *tree);
struct itree_node *itree_next(const struct itree *tree,
			      const struct itree_node *node);
struct itree_node *itree_last(const struct itree *tree);

/*
 * The smallest start and the largest last of all; false, and nothing written,
 * when the tree is empty.
 */
bool itree_hull(const struct itree *tree, uintptr_t *ret_lo, uintptr_t *ret_hi);

/* T1 to T6 hold in the whole tree; O(n). */
bool itree_check(const struct itree *tree);

/* Every node in ascending order; @node may be removed in the body, not freed. */
#define itree_for_each(node, tree)                   \
	for (node = itree_first(tree); node != NULL; \
	     node = itree_next((tree), node))

/* Every overlapping node in ascending order; as above. */
#define itree_for_each_overlap(node, tree, first_byte, last_byte)           \
	for (node = itree_first_overlap((tree), (first_byte), (last_byte)); \
	     node != NULL;                                                  \
	     node = itree_next_overlap((tree), node->start, node->birth,    \
				       (first_byte), (last_byte)))

#endif
