"""The Merkle tree of RFC 6962, kept as compact ranges, and its proofs.

A leaf hash is SHA-256(0x00 ‖ entry), a node hash SHA-256(0x01 ‖ left ‖ right) (RFC 6962, 2.1). A `Range` stands for a
run of leaves and holds nothing but the fewest whole subtrees that cover it, at most two for each level. The whole tree
is the range from leaf 0; a stretch of leaves that is no longer kept is a range too, and joining neighbours gives the
same tree as if every leaf were still there. So appending costs one hash on average, and no tree is computed anew.

Leaves are counted from 0, and a span [begin, end) leaves out its end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

HASH_BYTES = 32

#: The hash of the leaves [begin, end), where begin and end are those of a node of the tree.
Subtree = Callable[[int, int], bytes]


def leaf_hash(entry: bytes) -> bytes:
    """The hash of a leaf."""
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node above two others."""
    return hashlib.sha256(b"\1" + left + right).digest()


def spans(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """The fewest whole subtrees that cover the leaves [begin, end): first leaf and number of leaves of each."""
    while begin < end:
        size = begin & -begin or 1 << (end - begin).bit_length()
        while begin + size > end:
            size >>= 1
        yield begin, size
        begin += size


@dataclass(frozen=True, slots=True)
class Range:
    """A run of leaves.

    Attributes:
        begin: First leaf.
        end: First leaf behind it.
        nodes: Hashes of the subtrees of `spans(begin, end)`.
    """

    begin: int = 0
    end: int = 0
    nodes: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> Range:
        """The range with one leaf more behind it."""
        nodes = list(self.nodes)
        self._push(nodes, self.end, 1, leaf)
        return Range(self.begin, self.end + 1, tuple(nodes))

    def join(self, other: Range) -> Range:
        """The range with another one behind it, which begins where this one ends."""
        if other.begin != self.end:
            raise ValueError(f"a range from {other.begin} does not continue one up to {self.end}")
        nodes = list(self.nodes)
        for (at, size), node in zip(spans(other.begin, other.end), other.nodes, strict=True):
            self._push(nodes, at, size, node)
        return Range(self.begin, other.end, tuple(nodes))

    def _push(self, nodes: list[bytes], at: int, size: int, node: bytes) -> None:
        """Put the subtree of `size` leaves from `at` behind the others, and merge it with each whole left neighbour."""
        while at & size and at - size >= self.begin:
            node = node_hash(nodes.pop(), node)
            at -= size
            size <<= 1
        nodes.append(node)

    def root(self) -> bytes:
        """The root of the tree that has these leaves (Merkle Tree Hash of RFC 6962); the range must begin at 0."""
        if self.begin:
            raise ValueError(f"leaves from {self.begin} on are no whole tree")
        if not self.nodes:
            return hashlib.sha256().digest()
        node = self.nodes[-1]
        for left in reversed(self.nodes[:-1]):
            node = node_hash(left, node)
        return node


def split(size: int) -> int:
    """Leaves left of the root: the largest power of two below their number, which must be at least 2."""
    return 1 << (size - 1).bit_length() - 1


def subtree_of(leaves: Sequence[bytes]) -> Subtree:
    """The subtrees above some leaf hashes."""

    def subtree(begin: int, end: int) -> bytes:
        if end - begin == 1:
            return leaves[begin]
        middle = begin + split(end - begin)
        return node_hash(subtree(begin, middle), subtree(middle, end))

    return subtree


def inclusion_proof(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """The audit path of a leaf (RFC 6962, 2.1.1), from the leaf up.

    Args:
        index: The leaf.
        size: Leaves of the tree.
        subtree: Its nodes.
    """
    begin, end, path = 0, size, []
    while end - begin > 1:
        middle = begin + split(end - begin)
        if index < middle:
            path.append(subtree(middle, end))
            end = middle
        else:
            path.append(subtree(begin, middle))
            begin = middle
    return path[::-1]


def root_of_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that a leaf and its audit path give; None where the path does not have the length of that place."""
    if not 0 <= index < size:
        return None
    node, last = leaf, size - 1
    for sibling in path:
        if last == 0:
            return None
        if index & 1 or index == last:
            while not index & 1:  # no sibling on these levels: the node moves up as it is
                index >>= 1
                last >>= 1
            node = node_hash(sibling, node)
        else:
            node = node_hash(node, sibling)
        index >>= 1
        last >>= 1
    return node if last == 0 else None


def consistency_proof(old: int, size: int, subtree: Subtree) -> list[bytes]:
    """That a tree grew out of the tree of its first `old` leaves (RFC 6962, 2.1.2).

    Args:
        old: Leaves of the older tree, at least 1.
        size: Leaves of the newer tree.
        subtree: Nodes of the newer tree.
    """
    begin, end, path = 0, size, []
    while old != end:
        middle = begin + split(end - begin)
        if old <= middle:
            path.append(subtree(middle, end))
            end = middle
        else:
            path.append(subtree(begin, middle))
            begin = middle
    if begin:
        path.append(subtree(begin, end))
    return path[::-1]


def is_consistent(old: int, size: int, old_root: bytes, root: bytes, path: Sequence[bytes]) -> bool:
    """Whether the proof shows that the newer tree begins with all leaves of the older one (RFC 9162, 2.1.4.2)."""
    if not 0 < old <= size:
        return False
    if old == size:
        return not path and old_root == root
    nodes = list(path)
    if old & (old - 1) == 0:
        nodes.insert(0, old_root)
    if not nodes:
        return False
    at, last = old - 1, size - 1
    while at & 1:
        at >>= 1
        last >>= 1
    older = newer = nodes[0]
    for node in nodes[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            older, newer = node_hash(node, older), node_hash(node, newer)
            while at and not at & 1:
                at >>= 1
                last >>= 1
        else:
            newer = node_hash(newer, node)
        at >>= 1
        last >>= 1
    return last == 0 and older == old_root and newer == root
