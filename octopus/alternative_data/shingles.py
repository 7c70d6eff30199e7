"""Texts as sets of short byte runs, and which of them are nearly alike.

Belongs here: plain text for comparison, MinHash signatures, candidate pairs and their exact similarity. Does not: time,
and what follows from a likeness (duplicates.py, bursts.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from octopus.core.errors import MissingDataError
from octopus.core.types import BoolArray, FloatArray, IntArray

Hashes = NDArray[np.uint64]

WIDTH = 5
"""Bytes of a shingle: short enough for posts, long enough that two texts on one subject do not share most of them."""
ROWS = 4
BANDS = 20
"""Of two texts with a Jaccard similarity of s, ``1 - (1 - s**ROWS)**BANDS`` are compared: .996 at .7, .94 at .6."""
_CHUNK = 1 << 18
_ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#39;": "'", "&apos;": "'", "&nbsp;": " "}


def plain(text: pl.Expr) -> pl.Expr:
    """``text`` without what changes from copy to copy: the mark of a repost, links, user names, case, punctuation.

    Numbers and cashtags stay: two texts that differ in them say different things. Of a text that was cut off ("…") the
    last word goes too, for it may be half a word.
    """
    bare = (
        text.fill_null("")
        .str.replace_many(list(_ENTITIES), list(_ENTITIES.values()))
        .str.to_lowercase()
        .str.replace(r"^(?:\s*rt\s+@\w+:?\s*)+", "")
        .str.replace_all(r"(?:https?:?|www\.)\S*", " ")
        .str.replace(r"\S*(?:…|\.\.\.)\s*$", "")
        .str.replace_all(r"@\w+", " ")
        .str.replace_all(r"[^\p{L}\p{N}$%.+\-]", " ")
        .str.replace_all(r"[.\-+]+(?:\s|$)", " ")
    )
    return bare.str.replace_all(r"\s+", " ").str.strip_chars()


def is_cut(text: pl.Expr) -> pl.Expr:
    """Whether ``text`` was cut off at its end: it ends in an ellipsis."""
    return text.fill_null("").str.contains(r"(?:…|\.\.\.)\s*$")


def facts(text: pl.Expr) -> pl.Expr:
    """The distinct numbers and cashtags of a plain text, sorted, as a list."""
    return text.str.extract_all(r"\$[a-z][a-z.\-]*|\d[\d.]*%?").list.unique().list.sort()


@dataclass(frozen=True, eq=False)
class Shingles:
    """The distinct byte runs of many texts, one after the other.

    Attributes:
        values: runs of `WIDTH` bytes as numbers, each once within its text, ascending within it.
        bounds: text i has ``values[bounds[i]:bounds[i + 1]]``, shape (texts + 1,).
    """

    values: Hashes
    bounds: IntArray

    @property
    def sizes(self) -> IntArray:
        return np.diff(self.bounds)


def shingles(texts: pl.Series) -> Shingles:
    """Every run of `WIDTH` bytes of each text; a shorter text has none.

    Raises:
        MissingDataError: 2**24 texts or more: compare them by parts.
    """
    if len(texts) >= 1 << (64 - 8 * WIDTH):
        raise MissingDataError(f"texts: {len(texts):,} are too many for one comparison; give fewer than 16,777,216")
    raw = np.frombuffer("".join(texts).encode(), np.uint8)
    lengths = texts.str.len_bytes().to_numpy().astype(np.int64)
    counts = np.maximum(lengths - WIDTH + 1, 0)
    owner = np.repeat(np.arange(len(texts)), counts)
    starts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + starts[owner]
    # The text's number above its runs' bytes: one sort puts both in order.
    values = owner.astype(np.uint64)
    for step in range(WIDTH):
        values = (values << np.uint64(8)) | raw[place + step]
    values.sort()
    values = values[np.concatenate([[True], values[1:] != values[:-1]])[: len(values)]]
    bounds = np.searchsorted(values, np.arange(len(texts) + 1, dtype=np.uint64) << np.uint64(8 * WIDTH))
    return Shingles(values & np.uint64((1 << 8 * WIDTH) - 1), bounds.astype(np.int64))


def signatures(sets: Shingles) -> Hashes:
    """MinHash signatures, shape (texts, BANDS); each folds `ROWS` minima into one number; 0 for a text without runs.

    Source: Broder, On the resemblance and containment of documents (1997); Indyk and Motwani (1998) for the bands.
    """
    found = np.zeros((len(sets.sizes), BANDS), np.uint64)
    multipliers = np.random.default_rng(7).integers(1, 1 << 63, (BANDS, ROWS), dtype=np.uint64) * np.uint64(
        2
    ) + np.uint64(1)
    filled = np.flatnonzero(sets.sizes)
    starts = sets.bounds[filled]
    # Chunks that stay in the processor's cache: the minima of one are taken for every hash before the next is read.
    cuts = np.unique(np.searchsorted(starts, np.arange(0, len(sets.values) + _CHUNK, _CHUNK)))
    for low, high in pairwise(cuts):
        first, last = starts[low], sets.bounds[filled[high - 1] + 1]
        mixed = _mixed(sets.values[first:last])
        within = starts[low:high] - first
        for band in range(BANDS):
            folded = np.zeros(high - low, np.uint64)
            for factor in multipliers[band]:
                least: Hashes = np.minimum.reduceat((mixed * factor) >> np.uint64(24), within)
                folded = _mixed(folded ^ least)
            found[filled[low:high], band] = folded
    return found


def _mixed(values: Hashes) -> Hashes:
    """The finaliser of SplitMix64: every bit of the input moves every bit of the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Hashes = values ^ (values >> np.uint64(31))
    return mixed


def shared(sets: Shingles, left: IntArray, right: IntArray) -> FloatArray:
    """How many runs the texts of each pair have in common, shape (pairs,)."""
    from scipy.sparse import csr_array

    # 31 bits of a good hash as columns: two of a text's hundred runs meet by chance once in half a million texts.
    columns = (_mixed(sets.values) >> np.uint64(33)).astype(np.int32)
    table = csr_array(
        (np.ones(len(columns), np.float32), columns, sets.bounds), shape=(len(sets.sizes), np.iinfo(np.int32).max)
    )
    table.sort_indices()
    counts = [
        np.asarray(table[left[at : at + _CHUNK]].multiply(table[right[at : at + _CHUNK]]).sum(axis=1), np.float64)
        for at in range(0, len(left), _CHUNK)
    ]
    return np.concatenate(counts) if counts else np.zeros(0)


def alike(sets: Shingles, cut: BoolArray, left: IntArray, right: IntArray, similarity: float) -> BoolArray:
    """Whether the texts of each pair share enough runs, shape (pairs,).

    A Jaccard similarity of at least ``similarity``; where the shorter text was cut off, nine tenths of its runs.
    """
    both = shared(sets, left, right)
    sizes = sets.sizes.astype(np.float64)
    union = sizes[left] + sizes[right] - both
    shorter = np.where(sizes[left] <= sizes[right], left, right)
    jaccard = both / np.maximum(union, 1)
    held = both / np.maximum(sizes[shorter], 1)
    result: BoolArray = (jaccard >= similarity) | (cut[shorter] & (held >= 0.9) & (sizes[shorter] >= 4 * WIDTH))
    return result
