"""The Merkle tree against the definition of RFC 6962, word for word, and against its published answers."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.relay.merkle import (
    Range,
    consistency_proof,
    inclusion_proof,
    is_consistent,
    leaf_hash,
    root_of_inclusion,
    spans,
    subtree_of,
)

#: Test vectors of Certificate Transparency's reference implementation (github.com/transparency-dev/merkle, testonly).
ENTRIES = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")] + [
    bytes(range(0x60, 0x70))
]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
N00 = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
N01 = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
N02 = "0298d122906dcfc10892cb53a73992fc5b9f493ea4c9badb27b791b4127a7fe7"
N04 = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
N10 = "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
N11 = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
N12 = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
N13 = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
N20 = "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"
N21 = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
INCLUSION = {(0, 8): [N01, N11, N21], (5, 8): [N04, N13, N20], (2, 3): [N10], (1, 5): [N00, N11, N04]}
INCLUSION |= {(3, 8): [N02, N10, N21], (0, 1): []}
CONSISTENCY = {(1, 1): [], (1, 8): [N01, N11, N21], (6, 8): [N12, N13, N20], (2, 5): [N11, N04]}

hashes = st.lists(st.binary(max_size=2).map(leaf_hash), max_size=70)


def tree(leaves: Sequence[bytes]) -> Range:
    grown = Range()
    for leaf in leaves:
        grown = grown.append(leaf)
    return grown


def naive_root(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, as it is written there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\1" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH of RFC 6962, 2.1.1."""
    if len(leaves) <= 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m < k:
        return [*naive_path(m, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(m - k, leaves[k:]), naive_root(leaves[:k])]


def naive_proof(m: int, leaves: Sequence[bytes], whole: bool = True) -> list[bytes]:
    """SUBPROOF of RFC 6962, 2.1.2."""
    if m == len(leaves):
        return [] if whole else [naive_root(leaves)]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m <= k:
        return [*naive_proof(m, leaves[:k], whole), naive_root(leaves[k:])]
    return [*naive_proof(m - k, leaves[k:], False), naive_root(leaves[:k])]


@pytest.mark.parametrize("size", range(9))
def test_the_published_roots(size: int) -> None:
    assert tree(LEAVES[:size]).root().hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_the_published_audit_paths(index: int, size: int) -> None:
    path = inclusion_proof(index, size, subtree_of(LEAVES))
    assert [node.hex() for node in path] == INCLUSION[index, size]


@pytest.mark.parametrize(("old", "size"), CONSISTENCY)
def test_the_published_consistency_proofs(old: int, size: int) -> None:
    path = consistency_proof(old, size, subtree_of(LEAVES))
    assert [node.hex() for node in path] == CONSISTENCY[old, size]


@settings(deadline=None)
@given(hashes)
def test_a_tree_that_grew_has_the_root_of_one_that_is_computed_anew(leaves: list[bytes]) -> None:
    grown = tree(leaves)
    assert grown.root() == naive_root(leaves)
    assert len(grown.nodes) == len(leaves).bit_count()


@settings(deadline=None)
@given(hashes, st.lists(st.integers(0, 70), max_size=6))
def test_ranges_join_to_the_same_tree_wherever_they_are_cut(leaves: list[bytes], cuts: list[int]) -> None:
    edges = sorted({0, len(leaves), *(cut for cut in cuts if cut < len(leaves))})
    joined = Range()
    for begin, end in itertools.pairwise(edges):
        part = Range(begin, begin)
        for leaf in leaves[begin:end]:
            part = part.append(leaf)
        assert len(part.nodes) == len(list(spans(begin, end)))
        assert all(at % size == 0 for at, size in spans(begin, end))
        joined = joined.join(part)
    assert joined == tree(leaves)


def test_ranges_that_are_no_neighbours_do_not_join() -> None:
    with pytest.raises(ValueError, match="does not continue"):
        tree(LEAVES).join(Range(9, 9))
    with pytest.raises(ValueError, match="no whole tree"):
        Range(3, 3).append(LEAVES[3]).root()


@settings(deadline=None)
@given(hashes.filter(bool), st.data())
def test_an_audit_path_proves_its_leaf_and_no_other(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = inclusion_proof(index, len(leaves), subtree_of(leaves))
    assert path == naive_path(index, leaves)
    root = naive_root(leaves)
    assert root_of_inclusion(leaves[index], index, len(leaves), path) == root
    assert root_of_inclusion(bytes(31) + b"x", index, len(leaves), path) != root
    assert root_of_inclusion(leaves[index], index, len(leaves), [*path, bytes(32)]) != root
    assert root_of_inclusion(leaves[index], len(leaves), len(leaves), path) is None
    if path:
        assert root_of_inclusion(leaves[index], index, len(leaves), path[:-1]) != root
        assert root_of_inclusion(leaves[index], index ^ 1, len(leaves), path) != root or leaves[index] == path[0]


@settings(deadline=None)
@given(hashes.filter(bool), st.data())
def test_a_consistency_proof_shows_that_a_tree_grew_and_nothing_else(leaves: list[bytes], data: st.DataObject) -> None:
    size = len(leaves)
    old = data.draw(st.integers(1, size))
    path = consistency_proof(old, size, subtree_of(leaves))
    assert path == naive_proof(old, leaves)
    before, after = naive_root(leaves[:old]), naive_root(leaves)
    assert is_consistent(old, size, before, after, path)
    assert not is_consistent(old, size, bytes(32), after, path)
    assert not is_consistent(old, size, before, bytes(32), path)
    assert not is_consistent(old, size, before, after, [*path, bytes(32)])
    assert not is_consistent(0, size, before, after, path)
    if path:
        place = data.draw(st.integers(0, len(path) - 1))
        changed = [bytes(32) if number == place else node for number, node in enumerate(path)]
        assert changed == path or not is_consistent(old, size, before, after, changed)
        assert not is_consistent(old, size, before, after, path[:-1])
