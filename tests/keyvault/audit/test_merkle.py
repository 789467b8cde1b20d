"""RFC 6962 trees, against the published vectors and against the definition itself."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyvault.audit import merkle

# The inputs and roots of the Certificate Transparency reference implementation.
INPUTS = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


class Store:
    """Every stored subtree of a tree, as the database keeps them."""

    def __init__(self, leaves):
        self.frontier, self.nodes = merkle.Frontier(), {}
        for index, leaf in enumerate(leaves):
            self.nodes[0, index] = leaf
            for height, place, node in self.frontier.append(leaf):
                self.nodes[height, place] = node

    def read(self, height, start, stop):
        return [self.nodes[height, i] for i in range(start, stop) if (height, i) in self.nodes]


def _leaves(count):
    return [merkle.leaf_hash(i.to_bytes(4, "big")) for i in range(count)]


def _by_definition(leaves):
    """RFC 6962 section 2.1, written down as it stands there."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return merkle.node_hash(_by_definition(leaves[:k]), _by_definition(leaves[k:]))


@pytest.mark.parametrize("size", range(1, 9))
def test_r52_the_published_roots_are_reached(size):
    frontier = merkle.Frontier()
    for data in INPUTS[:size]:
        frontier.append(merkle.leaf_hash(data))

    assert frontier.root().hex() == ROOTS[size - 1]


def test_the_empty_tree_has_the_hash_of_nothing():
    assert merkle.Frontier().root() == sha256(b"").digest()


def test_r52_the_published_inclusion_paths_are_reached():
    store = Store([merkle.leaf_hash(data) for data in INPUTS])

    assert [node.hex() for node in merkle.inclusion_proof(0, 8, store.read)] == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]
    assert [node.hex() for node in merkle.inclusion_proof(1, 5, store.read)] == [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ]


def test_r52_the_published_consistency_paths_are_reached():
    store = Store([merkle.leaf_hash(data) for data in INPUTS])

    assert merkle.consistency_proof(1, 1, store.read) == []
    assert [node.hex() for node in merkle.consistency_proof(6, 8, store.read)] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


@given(st.integers(0, 700))
def test_a_frontier_agrees_with_the_definition(size):
    leaves = _leaves(size)
    store = Store(leaves)

    assert store.frontier.root() == _by_definition(leaves)
    assert merkle.root(size, store.read) == store.frontier.root()


@given(st.data())
def test_every_leaf_is_proved_and_no_other(data):
    size = data.draw(st.integers(1, 1200))
    index = data.draw(st.integers(0, size - 1))
    leaves = _leaves(size)
    store = Store(leaves)
    proof = {
        "index": index,
        "size": size,
        "leaf": leaves[index],
        "path": merkle.inclusion_proof(index, size, store.read),
        "root": store.frontier.root(),
    }

    merkle.check_inclusion(**proof)

    for wrong in (
        {"leaf": merkle.leaf_hash(b"another")},
        {"path": [*proof["path"], proof["root"]]},
        {"path": proof["path"][1:] or [proof["root"]]},
        {"root": merkle.leaf_hash(b"another")},
        {"index": size},
        {"index": index + 1 if index + 1 < size else index - 1},
    ):
        with pytest.raises(merkle.InvalidProof):
            merkle.check_inclusion(**{**proof, **wrong})


@given(st.data())
def test_growth_is_proved_and_a_rewritten_past_is_not(data):
    new = data.draw(st.integers(1, 900))
    old = data.draw(st.integers(1, new))
    leaves = _leaves(new)
    proof = {
        "old": old,
        "new": new,
        "old_root": Store(leaves[:old]).frontier.root(),
        "new_root": Store(leaves).frontier.root(),
        "path": merkle.consistency_proof(old, new, Store(leaves).read),
    }

    merkle.check_consistency(**proof)

    rewritten = [*leaves]
    rewritten[data.draw(st.integers(0, old - 1))] = merkle.leaf_hash(b"another")
    forked = Store(rewritten)
    with pytest.raises(merkle.InvalidProof):
        merkle.check_consistency(**{**proof, "new_root": forked.frontier.root()})
    with pytest.raises(merkle.InvalidProof):
        merkle.check_consistency(
            **{
                **proof,
                "new_root": forked.frontier.root(),
                "path": merkle.consistency_proof(old, new, forked.read),
            }
        )


def test_a_proof_over_ten_million_leaves_stays_under_a_kilobyte():
    assert (10_000_000 - 1).bit_length() * merkle.HASH_BYTES <= 1024


def test_a_frontier_refuses_peaks_of_another_size():
    with pytest.raises(ValueError, match="peaks"):
        merkle.Frontier(size=3, peaks=[b"x" * 32])


def test_a_missing_hash_is_said():
    store = Store(_leaves(300))
    del store.nodes[8, 0]

    with pytest.raises(LookupError):
        merkle.root(300, store.read)


@given(st.data())
def test_a_frontier_may_skip_over_whole_subtrees(data):
    size = data.draw(st.integers(1, 900))
    shown = sorted(data.draw(st.sets(st.integers(0, size - 1), max_size=5)))
    store, frontier = Store(_leaves(size)), merkle.Frontier()

    for index in [*shown, size]:
        for height, position in merkle.cover(frontier.size, index):
            frontier.push(height, merkle.subtree(height, position, store.read))
        if index < size:
            frontier.append(store.nodes[0, index])

    assert frontier.root() == store.frontier.root()


def test_a_subtree_begins_only_where_it_is_aligned():
    with pytest.raises(ValueError, match="begins"):
        merkle.Frontier(size=1, peaks=[b"x" * 32]).push(1, b"y" * 32)
