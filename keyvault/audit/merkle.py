"""Merkle trees as RFC 6962 section 2.1 defines them: hashes, growth and proofs.

Pure. A tree is grown by a `Frontier`, which holds one hash for each perfect
subtree, at most 64 of them. Proofs are made from any reader that returns the
stored hashes of perfect subtrees at heights 0, 8, 16 and so on, so that a proof
over ten million leaves touches a few hundred hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from hashlib import sha256
from typing import NamedTuple

HASH_BYTES = 32
STRIDE = 8  # Subtrees are stored at every eighth height: one more row for 256 leaves.
EMPTY_ROOT = sha256(b"").digest()

Reader = Callable[[int, int, int], Sequence[bytes]]
"""`read(height, start, stop)` returns stored subtree hashes; height is a multiple of STRIDE."""


class InvalidProof(ValueError):
    """A proof does not lead from the hashes given to the root given."""


class Subtree(NamedTuple):
    """The root of a perfect subtree over leaves `position << height` and the following."""

    height: int
    position: int
    hash: bytes


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf (RFC 6962 section 2.1: the prefix 0x00)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node (RFC 6962 section 2.1: the prefix 0x01)."""
    return sha256(b"\x01" + left + right).digest()


@dataclass(slots=True)
class Frontier:
    """A tree that can grow: its size, and its perfect subtrees from the largest to the smallest."""

    size: int = 0
    peaks: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuse peaks that cannot belong to a tree of this size."""
        if len(self.peaks) != self.size.bit_count():
            raise ValueError(f"a tree of {self.size} leaves has {self.size.bit_count()} peaks")

    def append(self, leaf: bytes) -> list[Subtree]:
        """Add one leaf hash; return the subtrees to store that this leaf completed."""
        return self.push(0, leaf)

    def push(self, height: int, node: bytes) -> list[Subtree]:
        """Add the root of a whole subtree of `1 << height` leaves at once.

        Raises ValueError where a subtree of that height cannot begin.
        """
        if self.size & ((1 << height) - 1):
            raise ValueError(f"no subtree of height {height} begins after {self.size} leaves")
        completed: list[Subtree] = []
        self.size += 1 << height
        position = (self.size >> height) - 1
        while position & 1:
            node = node_hash(self.peaks.pop(), node)
            position >>= 1
            height += 1
            if height % STRIDE == 0:
                completed.append(Subtree(height, position, node))
        self.peaks.append(node)
        return completed

    def root(self) -> bytes:
        """Return the tree head at this size."""
        return _fold(self.peaks)


def over(leaves: Sequence[bytes]) -> Reader:
    """Return the reader of a tree whose leaf hashes are all in memory."""
    levels = [list(leaves)]

    def read(height: int, start: int, stop: int) -> Sequence[bytes]:
        while len(levels) <= height:
            below = levels[-1]
            levels.append([node_hash(*below[i : i + 2]) for i in range(0, len(below) - 1, 2)])
        return levels[height][start:stop]

    return read


def root(size: int, read: Reader) -> bytes:
    """Return the tree head over the first `size` leaves."""
    return _span(0, size, read)


def inclusion_proof(index: int, size: int, read: Reader) -> list[bytes]:
    """Return the audit path of leaf `index` (from 0) in a tree of `size` leaves.

    Raises IndexError outside the tree. Source: RFC 6962 section 2.1.1.
    """
    if not 0 <= index < size:
        raise IndexError(f"leaf {index} is not in a tree of {size} leaves")
    path, start, stop = [], 0, size
    while stop - start > 1:
        split = start + _split(stop - start)
        if index < split:
            path.append(_span(split, stop, read))
            stop = split
        else:
            path.append(_span(start, split, read))
            start = split
    return path[::-1]


def check_inclusion(
    *, index: int, size: int, leaf: bytes, path: Sequence[bytes], root: bytes
) -> None:
    """Raise InvalidProof unless `path` leads from `leaf` to `root`.

    Source: RFC 9162 section 2.1.3.2.
    """
    if not 0 <= index < size:
        raise InvalidProof(f"leaf {index} is not in a tree of {size} leaves")
    node, last, found = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise InvalidProof("the path is too long")
        if node & 1 or node == last:
            found = node_hash(sibling, found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        node, last = node >> 1, last >> 1
    if last or found != root:
        raise InvalidProof("the path does not lead to the root")


def consistency_proof(old: int, new: int, read: Reader) -> list[bytes]:
    """Return the proof that the tree of `old` leaves is a prefix of the tree of `new`.

    Raises IndexError unless 0 < old <= new. Source: RFC 6962 section 2.1.2.
    """
    if not 0 < old <= new:
        raise IndexError(f"no proof leads from {old} to {new} leaves")
    path, start, stop = [], 0, new
    while old != stop:
        split = start + _split(stop - start)
        if old <= split:
            path.append(_span(split, stop, read))
            stop = split
        else:
            path.append(_span(start, split, read))
            start = split
    if start:
        path.append(_span(start, stop, read))
    return path[::-1]


def check_consistency(
    *, old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]
) -> None:
    """Raise InvalidProof unless `path` shows that the new tree only added to the old one.

    Source: RFC 9162 section 2.1.4.2.
    """
    if not 0 < old <= new:
        raise InvalidProof(f"no proof leads from {old} to {new} leaves")
    if old == new:
        if path or old_root != new_root:
            raise InvalidProof("two roots for one size")
        return
    if old & (old - 1) == 0:
        path = [old_root, *path]
    if not path:
        raise InvalidProof("the path is empty")
    found_old, found_new = _climb(old, new, path)
    if found_old != old_root or found_new != new_root:
        raise InvalidProof("the path does not lead to both roots")


def _climb(old: int, new: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    found_old = found_new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise InvalidProof("the path is too long")
        if node & 1 or node == last:
            found_old, found_new = node_hash(sibling, found_old), node_hash(sibling, found_new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found_new = node_hash(found_new, sibling)
        node, last = node >> 1, last >> 1
    if last:
        raise InvalidProof("the path is too short")
    return found_old, found_new


def cover(start: int, stop: int) -> list[tuple[int, int]]:
    """Return height and position of the fewest subtrees over leaves start to stop, in order."""
    found = []
    while start < stop:
        height = (stop - start).bit_length() - 1
        if start:
            height = min(height, (start & -start).bit_length() - 1)
        found.append((height, start >> height))
        start += 1 << height
    return found


def _split(width: int) -> int:
    """Return the largest power of two below `width`."""
    return 1 << ((width - 1).bit_length() - 1)


def _fold(peaks: Sequence[bytes]) -> bytes:
    if not peaks:
        return EMPTY_ROOT
    return reduce(lambda right, left: node_hash(left, right), reversed(peaks))


def _span(start: int, stop: int, read: Reader) -> bytes:
    """Return the root over leaves start to stop, where start is aligned to the span's width."""
    return _fold([subtree(height, position, read) for height, position in cover(start, stop)])


def subtree(height: int, index: int, read: Reader) -> bytes:
    """Return the root of a perfect subtree. Raises LookupError when stored hashes are missing."""
    above = height % STRIDE
    nodes = list(read(height - above, index << above, (index + 1) << above))
    if len(nodes) != 1 << above:
        raise LookupError(f"hashes are missing below height {height}, index {index}")
    while len(nodes) > 1:
        nodes = [node_hash(nodes[i], nodes[i + 1]) for i in range(0, len(nodes), 2)]
    return nodes[0]
