"""The Merkle tree as it lies in the database: its state, its stored hashes, its proofs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings

from keyvault.audit import merkle
from keyvault.audit.models import LedgerLeaf, LedgerNode, LedgerTree


@dataclass(frozen=True, slots=True)
class Inclusion:
    """The proof that one leaf stands in the tree of `size` leaves with this root."""

    seq: int
    size: int
    leaf: bytes
    path: tuple[bytes, ...]
    root: bytes

    def check(self) -> None:
        """Raise merkle.InvalidProof unless the path leads from the leaf to the root."""
        merkle.check_inclusion(
            index=self.seq - 1, size=self.size, leaf=self.leaf, path=self.path, root=self.root
        )


def state() -> LedgerTree:
    """Return where the tree stands; the first call names it after the public address."""
    tree, _ = LedgerTree.objects.get_or_create(
        id=1, defaults={"origin": f"{settings.PUBLIC_HOST}/ledger"}
    )
    return tree


def frontier(tree: LedgerTree) -> merkle.Frontier:
    """Return the growing edge of the tree."""
    raw, width = bytes(tree.peaks), merkle.HASH_BYTES
    return merkle.Frontier(
        size=tree.size, peaks=[raw[i : i + width] for i in range(0, len(raw), width)]
    )


def read(height: int, start: int, stop: int) -> Sequence[bytes]:
    """Return stored hashes: the `merkle.Reader` over the tables."""
    if height == 0:
        leaves = LedgerLeaf.objects.filter(seq__gt=start, seq__lte=stop).order_by("seq")
        return [bytes(found) for found in leaves.values_list("leaf_hash", flat=True)]
    nodes = LedgerNode.objects.filter(height=height, index__gte=start, index__lt=stop)
    return [bytes(found) for found in nodes.order_by("index").values_list("hash", flat=True)]


def root(size: int) -> bytes:
    """Return the root over the first `size` leaves. Raises LookupError when hashes are missing."""
    return merkle.root(size, read)


def inclusion(seq: int, *, size: int) -> Inclusion:
    """Return the proof of event `seq` in the tree of `size` leaves, recomputed from the tables.

    Raises IndexError outside the tree, LookupError when hashes are missing.
    """
    path = merkle.inclusion_proof(seq - 1, size, read)
    leaf = read(0, seq - 1, seq)[0]
    return Inclusion(seq=seq, size=size, leaf=leaf, path=tuple(path), root=root(size))


def check_growth(*, old: int, old_root: bytes, new: int, new_root: bytes) -> None:
    """Raise merkle.InvalidProof unless the tree at `new` only adds to the tree at `old`."""
    if old:
        path = merkle.consistency_proof(old, new, read)
        merkle.check_consistency(old=old, new=new, old_root=old_root, new_root=new_root, path=path)
