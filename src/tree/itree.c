/* SPDX-License-Identifier: MIT */
/*
 * Why the searches are right, in one place.
 *
 * First overlap in a subtree.  Let A be the nodes with last >= start, in key
 * order.  An overlap is a node of A with node.start <= last; starts ascend with
 * the keys, so if the first node of A is too far right, all are.  The first node
 * of A is found by max_last alone, with no way back: go left if the left
 * subtree's max_last >= start, else take this node if its last >= start, else go
 * right.
 *
 * Next overlap above a cursor.  The keys above the cursor are, in ascending
 * order from the end of the search path for the cursor back to the root: each
 * path node with a key above it, followed by that node's right subtree.  The
 * smallest overlap is therefore in the *deepest* group that has a node with
 * last >= start: if that node starts too far right, so do all that follow.  So
 * the way down remembers the last such group, and one search in it decides.
 *
 * Both go down once: O(height), and T4 bounds the height by 1.44 log2(n + 2): 64
 * levels hold more nodes than there is memory.  Insert and remove go down once
 * and back up as far as something changes, mostly a few steps: above that no
 * node is written, and none beside the way is read.
 */
#include "tree/itree.h"

#include "base/bug.h"

static uint32_t height_of(const struct itree_node *node)
{
	return node ? node->height : 0;
}

static bool reaches(const struct itree_node *node, uintptr_t start)
{
	return node && node->max_last >= start;
}

static bool key_above(const struct itree_node *node, uintptr_t start,
		      uint64_t birth)
{
	return itree_is_above(node, start, birth);
}

static bool node_below(const struct itree_node *a, const struct itree_node *b)
{
	return key_above(b, a->start, a->birth);
}

/* Establishes T3 and T5 for @node from its children. */
static void update(struct itree_node *node)
{
	const struct itree_node *left = node->left;
	const struct itree_node *right = node->right;
	uint32_t left_height = height_of(left);
	uint32_t right_height = height_of(right);

	node->height =
		1 + (left_height > right_height ? left_height : right_height);
	node->max_last = node->last;
	if (left && left->max_last > node->max_last)
		node->max_last = left->max_last;
	if (right && right->max_last > node->max_last)
		node->max_last = right->max_last;
}

/*
 *	      b                  a
 *	     / \                / \
 *	    a   Z   rotate     X   b
 *	   / \       -->          / \
 *	  X   Y     right        Y   Z
 */
static struct itree_node *rotate_right(struct itree_node *b)
{
	struct itree_node *a = b->left;

	b->left = a->right;
	a->right = b;
	update(b);
	update(a);
	return a;
}

static struct itree_node *rotate_left(struct itree_node *a)
{
	struct itree_node *b = a->right;

	a->right = b->left;
	b->left = a;
	update(a);
	update(b);
	return b;
}

/*
 * T3 to T5 hold in both subtrees, whose heights differ by at most 2: makes them
 * hold for the whole, whose new root is returned.
 */
static struct itree_node *rebalance(struct itree_node *node)
{
	uint32_t left = height_of(node->left);
	uint32_t right = height_of(node->right);

	if (left > right + 1) {
		if (height_of(node->left->left) < height_of(node->left->right))
			node->left = rotate_left(node->left);
		return rotate_right(node);
	}
	if (right > left + 1) {
		if (height_of(node->right->right) <
		    height_of(node->right->left))
			node->right = rotate_right(node->right);
		return rotate_left(node);
	}
	update(node);
	return node;
}

/*
 * struct descent - the way from the root to a place in the tree
 *
 * Each link is the pointer that leads to the node one step further down, so
 * that what a rotation puts there can be stored.
 */
struct descent {
	struct itree_node **links[ITREE_MAX_HEIGHT];
	uint32_t depth;
};

static struct itree_node **step_down(struct descent *way,
				     struct itree_node **link, bool left)
{
	way->links[way->depth++] = link;
	return left ? &(*link)->left : &(*link)->right;
}

/* The link to the node with this key, or the empty one where it would be. */
static struct itree_node **find_link(struct descent *way, struct itree *tree,
				     uintptr_t start, uint64_t birth)
{
	struct itree_node **link = &tree->root, *at;

	way->depth = 0;
	while ((at = *link) && (at->start != start || at->birth != birth))
		link = step_down(way, link, key_above(at, start, birth));
	return link;
}

/*
 * Back up to the root.  Further up than @must, the number of links above which
 * everything is as it was but for what hangs below, it is over with the first
 * node whose height and end stay: that is all its parent knows of it.
 */
static void climb(const struct descent *way, uint32_t must)
{
	uint32_t i = way->depth;

	while (i--) {
		struct itree_node **link = way->links[i];
		uintptr_t max_last = (*link)->max_last;
		uint32_t height = (*link)->height;

		*link = rebalance(*link);
		if (i <= must && (*link)->height == height &&
		    (*link)->max_last == max_last)
			return;
	}
}

void itree_insert(struct itree *tree, struct itree_node *node)
{
	struct itree_node **link;
	struct descent way;

	if (node->start > node->last) {
		mmn_bug("a range ends before it starts");
		return;
	}
	link = find_link(&way, tree, node->start, node->birth);
	if (*link) {
		mmn_bug("a key is inserted twice");
		return;
	}
	node->left = NULL;
	node->right = NULL;
	update(node);
	*link = node;
	tree->nr++;
	climb(&way, way.depth);
}

/* The next larger one, which has no left subtree, takes the node's place. */
static void replace_by_next(struct descent *way, struct itree_node **link)
{
	struct itree_node *node = *link, *next;
	uint32_t place = way->depth;
	struct itree_node **at = step_down(way, link, false);

	while ((*at)->left)
		at = step_down(way, at, true);
	next = *at;
	*at = next->right;
	next->left = node->left;
	next->right = node->right;
	next->height = node->height;
	next->max_last = node->max_last;
	*link = next;
	if (way->depth > place + 1)
		way->links[place + 1] = &next->right;
}

void itree_remove(struct itree *tree, struct itree_node *node)
{
	struct itree_node **link;
	struct descent way;
	uint32_t place;

	link = find_link(&way, tree, node->start, node->birth);
	if (*link != node) {
		mmn_bug("a node is removed from a tree it is not in");
		return;
	}
	place = way.depth;
	if (node->right)
		replace_by_next(&way, link);
	else
		*link = node->left;
	tree->nr--;
	climb(&way, place);
}

/* See the head of the file. */
static struct itree_node *first_in(struct itree_node *root, uintptr_t start,
				   uintptr_t last)
{
	while (root) {
		if (reaches(root->left, start))
			root = root->left;
		else if (root->last >= start)
			return root->start <= last ? root : NULL;
		else
			root = reaches(root->right, start) ? root->right : NULL;
	}
	return NULL;
}

struct itree_node *itree_first_overlap(const struct itree *tree,
				       uintptr_t start, uintptr_t last)
{
	return first_in(tree->root, start, last);
}

/* See the head of the file. */
struct itree_node *itree_next_overlap(const struct itree *tree,
				      uintptr_t cursor_start,
				      uint64_t cursor_birth, uintptr_t start,
				      uintptr_t last)
{
	struct itree_node *at = tree->root;
	struct itree_node *group = NULL;

	while (at) {
		if (!key_above(at, cursor_start, cursor_birth)) {
			at = at->right;
			continue;
		}
		if (at->last >= start || reaches(at->right, start))
			group = at;
		at = at->left;
	}
	if (!group)
		return NULL;
	if (group->last >= start)
		return group->start <= last ? group : NULL;
	return first_in(group->right, start, last);
}

/*
 * The path holds nodes whose left subtree is done with.  Subtrees that do not
 * reach @start never get there, and the first node that starts behind @last ends
 * it all, because whatever is left on the path starts further behind.
 */
static void push_left(struct itree_iter *iter, struct itree_node *node)
{
	for (; reaches(node, iter->start); node = node->left) {
		/* Its turn comes after those to the left of it. */
		__builtin_prefetch(node->right);
		iter->path[iter->depth++] = node;
	}
}

void itree_iter_init(struct itree_iter *iter, const struct itree *tree,
		     uintptr_t start, uintptr_t last)
{
	iter->start = start;
	iter->last = last;
	iter->depth = 0;
	push_left(iter, tree->root);
}

void itree_iter_seek(struct itree_iter *iter, const struct itree *tree,
		     uintptr_t cursor_start, uint64_t cursor_birth)
{
	struct itree_node *at = tree->root;

	iter->depth = 0;
	while (reaches(at, iter->start)) {
		if (key_above(at, cursor_start, cursor_birth)) {
			iter->path[iter->depth++] = at;
			at = at->left;
		} else {
			at = at->right;
		}
	}
}

uint32_t itree_iter_take(struct itree_iter *iter, struct itree_node **ret_nodes,
			 uint32_t max)
{
	uintptr_t start = iter->start, last = iter->last;
	uint32_t depth = iter->depth, nr = 0;

	while (depth && nr < max) {
		struct itree_node *node = iter->path[--depth], *at;

		if (node->start > last) {
			depth = 0;
			break;
		}
		/* As push_left(), whose depth would be in memory. */
		for (at = node->right; reaches(at, start); at = at->left) {
			__builtin_prefetch(at->right);
			iter->path[depth++] = at;
		}
		if (node->last >= start)
			ret_nodes[nr++] = node;
	}
	iter->depth = depth;
	return nr;
}

struct itree_node *itree_first(const struct itree *tree)
{
	struct itree_node *node = tree->root;

	while (node && node->left)
		node = node->left;
	return node;
}

struct itree_node *itree_next(const struct itree *tree,
			      const struct itree_node *node)
{
	return itree_next_overlap(tree, node->start, node->birth, 0,
				  UINTPTR_MAX);
}

struct itree_node *itree_last(const struct itree *tree)
{
	struct itree_node *node = tree->root;

	while (node && node->right)
		node = node->right;
	return node;
}

bool itree_hull(const struct itree *tree, uintptr_t *ret_lo, uintptr_t *ret_hi)
{
	if (!tree->root)
		return false;
	*ret_lo = itree_first(tree)->start;
	*ret_hi = tree->root->max_last;
	return true;
}

/*
 * T1 to T5 in a subtree whose keys must lie strictly between those of @low and
 * @high (NULL: no bound).  Adds the nodes to *@nr.
 */
static bool check_below(const struct itree_node *node,
			const struct itree_node *low,
			const struct itree_node *high, size_t *nr)
{
	struct itree_node fresh;
	uint32_t left;
	uint32_t right;

	if (!node)
		return true;
	if (!check_below(node->left, low, node, nr) ||
	    !check_below(node->right, node, high, nr))
		return false;
	++*nr;
	left = height_of(node->left);
	right = height_of(node->right);
	fresh = *node;
	update(&fresh);
	return node->start <= node->last &&		 /* T1 */
	       (!low || node_below(low, node)) &&	 /* T2 */
	       (!high || node_below(node, high)) &&	 /* T2 */
	       node->height == fresh.height &&		 /* T3 */
	       left <= right + 1 && right <= left + 1 && /* T4 */
	       node->max_last == fresh.max_last;	 /* T5 */
}

bool itree_check(const struct itree *tree)
{
	size_t nr = 0;

	return check_below(tree->root, NULL, NULL, &nr) &&
	       nr == tree->nr; /* T6 */
}
