r"""The encoder `hashed`: words, characters and surface statistics, with no model and no download.

Each text becomes counts c_f of its features f: words and pairs of adjacent words, and runs of 3, 4 and 5 UTF-8 bytes of
the lowercased text. Weighted w_f = 1 + ln c_f and scaled to unit Euclidean length, they are projected by signed feature
hashing (Weinberger et al. 2009, equation 2; with R = 4 hash pairs per feature, the sparse Johnson-Lindenstrauss
transform of Dasgupta, Kumar & Sarlos 2010),

    z_j = R^{-1/2} \sum_f \sum_{r=1}^{R} sign_r(f) [bucket_r(f) = j] w_f,      E <z, z'> = <w, w'>,

apart for completion words, completion characters and prompt words. `STATISTICS` numbers about lengths, punctuation,
layout and the overlap of prompt and completion follow, on scales near 1.

All hashes are 64-bit integer arithmetic on bytes, vectorised over many texts at once: a run s..e of bytes b hashes to
\sum_i b_i p^{i-s} mod 2^64, which prefix sums give for all runs together. So a vector is the same, bit for bit, in
every process, whatever its neighbours. There is no state: nothing is fitted, and a saved reward needs only this
encoder's name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tacit.features.encoders import Text

VERSION = 2
"""Part of the fingerprint: raised whenever this file would give other vectors."""

COMPLETION_WORDS, COMPLETION_CHARACTERS, PROMPT_WORDS = 256, 128, 96
STATISTICS = 32
CHARACTER_RUNS = (3, 4, 5)
PROJECTIONS = 4

_MULTIPLIER = 0x9E3779B97F4A7C15  # odd, so that it can be inverted modulo 2^64
_INVERSE = pow(_MULTIPLIER, -1, 1 << 64)
_CHUNK_BYTES = 2 << 20
_TEXT_BYTES = 8  # what a text weighs beside its characters, so that a chunk has fewer than 2^18 rows
_CODE_BITS = 44
_SPACE, _NEWLINE = 32, 10
_PUNCTUATION = b".,!?:;'\"()-*#`%/"

_KIND = np.zeros(256, np.uint8)  # 1 in a word, 0 between words; bytes of non-ASCII letters count as letters
_KIND[[*range(48, 58), *range(97, 123), *range(128, 256)]] = 1


class HashedEncoder:
    """Hashed features of (prompt, completion); see the module for the formula. 512 dimensions, no parameters."""

    name = "hashed"
    dim = COMPLETION_WORDS + COMPLETION_CHARACTERS + PROMPT_WORDS + STATISTICS

    reloadable = True

    @property
    def fingerprint(self) -> str:
        """Digest of the version and the sizes."""
        parts = (
            VERSION,
            COMPLETION_WORDS,
            COMPLETION_CHARACTERS,
            PROMPT_WORDS,
            STATISTICS,
            CHARACTER_RUNS,
            PROJECTIONS,
        )
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()

    def config(self) -> dict[str, Any]:
        """JSON-ready description for `encoder_from_config`."""
        return {"encoder": "hashed", "name": self.name, "dim": self.dim, "fingerprint": self.fingerprint}

    def encode(self, texts: Sequence[Text]) -> np.ndarray:
        """Vectors of (prompt, completion) texts, shape (n, dim), float32."""
        vectors = np.empty((len(texts), self.dim), np.float32)
        for rows in _chunks(texts):
            vectors[rows] = _encode([texts[row] for row in range(rows.start, rows.stop)])
        return vectors


def _encode(texts: Sequence[Text]) -> np.ndarray:
    prompts, completions = (_Buffer([text[side] for text in texts]) for side in (0, 1))
    prompt_words, completion_words = prompts.words(), completions.words()
    blocks = [
        _project(completion_words.with_pairs(), COMPLETION_WORDS),
        _project(completions.characters(), COMPLETION_CHARACTERS),
        _project(prompt_words.with_pairs(), PROMPT_WORDS),
        _statistics(prompts, completions, prompt_words, completion_words),
    ]
    return np.concatenate(blocks, axis=1).astype(np.float32)


class _Features:
    """Features with their rows: `row` (m,) int64 ascending, `code` (m,) uint64, of `rows` texts."""

    def __init__(self, row: np.ndarray, code: np.ndarray, rows: int) -> None:
        self.row, self.code, self.rows = row, code, rows

    def with_pairs(self) -> _Features:
        """These, and each pair of neighbours in one row."""
        same = self.row[1:] == self.row[:-1]
        pairs = _mix(self.code[:-1][same] * np.uint64(_MULTIPLIER) + self.code[1:][same])
        return _Features(np.concatenate([self.row, self.row[:-1][same]]), np.concatenate([self.code, pairs]), self.rows)

    def distinct(self) -> tuple[np.ndarray, np.ndarray]:
        """Distinct keys, sorted, and their counts: a key is the row above the upper `_CODE_BITS` of the code."""
        key = np.sort((self.row.astype(np.uint64) << np.uint64(_CODE_BITS)) | (self.code >> np.uint64(64 - _CODE_BITS)))
        new = np.ones(len(key), bool)
        new[1:] = key[1:] != key[:-1]
        start = np.flatnonzero(new)
        return key[start], np.diff(np.append(start, len(key)))


class _Buffer:
    """Lowercased texts end to end as bytes, with prefix sums of the polynomial hash."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        pieces = [text.lower().encode("utf-8", "surrogatepass") for text in texts]
        self.rows = len(pieces)
        self.lengths = np.array([len(piece) for piece in pieces], np.int64)
        self.bytes = np.frombuffer(b"".join(pieces), np.uint8)
        self.row = np.repeat(np.arange(self.rows), self.lengths)
        size = len(self.bytes)
        self._inverse_power = _powers(_INVERSE, size)
        # One is added to each byte, so that a run of zero bytes does not hash to nothing.
        terms = (self.bytes.astype(np.uint64) + np.uint64(1)) * _powers(_MULTIPLIER, size)
        self._prefix = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)])

    def run_codes(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Hash of the bytes start..end (end not included) of each run."""
        return _mix((self._prefix[end] - self._prefix[start]) * self._inverse_power[start])

    def words(self) -> _Features:
        """Runs of letters and digits."""
        inside = _KIND[self.bytes].astype(bool)
        first, last = inside.copy(), inside.copy()
        same_row = self.row[1:] == self.row[:-1]
        first[1:] &= ~(inside[:-1] & same_row)
        last[:-1] &= ~(inside[1:] & same_row)
        start, end = np.flatnonzero(first), np.flatnonzero(last) + 1
        return _Features(self.row[start], self.run_codes(start, end), self.rows)

    def characters(self) -> _Features:
        """Runs of `CHARACTER_RUNS` bytes."""
        rows, codes = [], []
        for length in CHARACTER_RUNS:
            start = np.arange(max(0, len(self.bytes) - length + 1))
            start = start[self.row[start] == self.row[start + length - 1]]
            rows.append(self.row[start])
            codes.append(self.run_codes(start, start + length) + np.uint64(length))
        return _Features(np.concatenate(rows), np.concatenate(codes), self.rows)

    def count(self, hit: np.ndarray) -> np.ndarray:
        """Number of bytes of each row where `hit` is true, shape (rows,)."""
        return np.bincount(self.row[hit], minlength=self.rows).astype(np.float64)


def _project(features: _Features, dim: int) -> np.ndarray:
    """Signed feature hashing of unit-length log counts, shape (rows, dim)."""
    key, count = features.distinct()
    row, code = _row_of(key), key & np.uint64((1 << _CODE_BITS) - 1)
    weight = 1.0 + np.log(count)
    norm = np.sqrt(np.bincount(row, weight * weight, minlength=features.rows))
    weight = weight / norm[row] / np.sqrt(PROJECTIONS)
    total = np.zeros(features.rows * dim)
    for projection in range(PROJECTIONS):
        hashed = _mix(code + np.uint64((projection + 1) * _MULTIPLIER % (1 << 64)))
        sign = np.where(hashed >> np.uint64(63), -1.0, 1.0)
        bucket = (hashed & np.uint64(0xFFFFFFFF)).astype(np.int64) % dim
        total += np.bincount(row * dim + bucket, sign * weight, minlength=features.rows * dim)
    return total.reshape(features.rows, dim)


def _statistics(prompts: _Buffer, completions: _Buffer, prompt_words: _Features, words: _Features) -> np.ndarray:
    """Surface statistics, shape (rows, STATISTICS): log lengths, shares per byte and overlaps, on scales near 1."""
    rows = completions.rows
    size = np.maximum(completions.lengths, 1)
    word_count = np.bincount(words.row, minlength=rows).astype(np.float64)
    prompt_count = np.bincount(prompt_words.row, minlength=rows).astype(np.float64)
    vocabulary, prompt_vocabulary = words.distinct()[0], prompt_words.distinct()[0]
    both = np.intersect1d(vocabulary, prompt_vocabulary, assume_unique=True)
    distinct, shared = (np.bincount(_row_of(keys), minlength=rows) for keys in (vocabulary, both))
    raw = completions.bytes
    lines = completions.count(raw == _NEWLINE)
    starts_line = np.ones(len(raw), bool)
    starts_line[1:] = (raw[:-1] == _NEWLINE) | (completions.row[1:] != completions.row[:-1])
    bullet = np.isin(raw, np.frombuffer(b"-*#0123456789", np.uint8))
    upper = np.array([sum(map(str.isupper, text)) for text in completions.texts], np.float64)
    ends = [text.rstrip()[-1:] for text in completions.texts]
    columns = [
        np.log1p(completions.lengths) / 5,
        np.log1p(word_count) / 4,
        np.log1p(prompts.lengths) / 5,
        np.log1p(prompt_count) / 4,
        completions.lengths / (completions.lengths + prompts.lengths + 1),
        completions.lengths / np.maximum(word_count, 1) / 6,
        distinct / np.maximum(word_count, 1),
        shared / np.maximum(distinct, 1),
        np.log1p(lines) / 2,
        np.log1p(completions.count(starts_line & bullet)) / 2,
        5 * upper / size,
        5 * completions.count((raw >= 48) & (raw <= 57)) / size,
        completions.count(raw >= 128) / size,
        5 * completions.count(raw == _SPACE) / size,
        *(np.log1p(completions.count(raw == mark)) / 2 for mark in _PUNCTUATION),
        np.array([end in (".", "!", '"', ")") for end in ends], np.float64),
        np.array([end == "?" for end in ends], np.float64),
    ]
    return np.stack(columns, axis=1)


def _row_of(key: np.ndarray) -> np.ndarray:
    return (key >> np.uint64(_CODE_BITS)).astype(np.int64)


def _powers(base: int, count: int) -> np.ndarray:
    """1, base, base^2, ... modulo 2^64, shape (count,)."""
    powers = np.full(count, base, np.uint64)
    powers[:1] = 1
    return np.cumprod(powers, dtype=np.uint64)


def _mix(code: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele, Lea & Flood 2014): spreads every bit over the word."""
    code = (code ^ (code >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    code = (code ^ (code >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(code ^ (code >> np.uint64(31)))


def _chunks(texts: Sequence[Text]) -> Iterator[slice]:
    """Slices of texts of about `_CHUNK_BYTES` each, so that memory does not grow with their number."""
    start, size = 0, 0
    for row, (prompt, completion) in enumerate(texts):
        size += len(prompt) + len(completion) + _TEXT_BYTES
        if size >= _CHUNK_BYTES:
            yield slice(start, row + 1)
            start, size = row + 1, 0
    if start < len(texts):
        yield slice(start, len(texts))
