"""The feature store: no text is ever encoded twice, and a kill loses at most the shard in flight.

A text's key is the 16-byte blake2b digest of its prompt and completion. With a root, shards live in
`root/<encoder fingerprint>/` as pairs of files of unique names, vectors (rows, dim) float32 and keys (rows,) 16 bytes:

    shard-<id>.vectors.npy    written first, memory-mapped when read
    shard-<id>.keys.npy       written last: a shard exists when its keys do

Each file is written under a temporary name and renamed, shards are never changed, and their names are random, so that
several processes can fill one store; at worst both encode a text that neither had finished. A damaged shard is left out
and its texts are encoded again.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tacit.artefacts import atomic_file, remove_leftovers, workspace, write_json
from tacit.errors import FeatureError
from tacit.features.encoders import Encoder, Precomputed, Text
from tacit.progress import track

log = logging.getLogger(__name__)

_KEY = np.dtype("S16")
_FIRST_SHARD_ROWS = 32
"""Few, so that a kill soon after the start loses few."""
_SHARD_SECONDS = 5.0
_SHARD_BYTES = 64 << 20
_IN_MEMORY_BYTES = 1 << 30
_STALE_SECONDS = 86_400.0
_LOOKED_UP_ROWS = 65_536


def text_keys(texts: Sequence[Text]) -> np.ndarray:
    """Keys of texts, shape (n,), 16 bytes each: blake2b of the prompt's length, the prompt and the completion."""
    digests = []
    for prompt, completion in texts:
        head = prompt.encode("utf-8", "surrogatepass")
        body = b"%d:%b%b" % (len(head), head, completion.encode("utf-8", "surrogatepass"))
        digests.append(hashlib.blake2b(body, digest_size=16).digest())
    return np.frombuffer(b"".join(digests), _KEY)


class FeatureStore:
    """Vectors of texts by content, in memory or in a folder.

    Parameters
    ----------
    encoder: what turns texts into vectors. Those of a `Precomputed` one are looked up, and not kept again.
    root: folder of the store, shared by all encoders; None keeps vectors in memory only.
    """

    def __init__(self, encoder: Encoder, root: str | Path | None = None) -> None:
        self.encoder = encoder
        self._precomputed = encoder if isinstance(encoder, Precomputed) else None
        self._root = None if root is None else Path(root)
        self.folder = None if self._root is None or self._precomputed else self._root / encoder.fingerprint
        self._shards: list[np.ndarray] = []
        self._names: set[str] = set()
        self._keys = np.empty(0, _KEY)  # sorted
        self._where = np.empty(0, np.int64)  # place of each sorted key: shards in order, rows within
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / "encoder.json").exists():
                with atomic_file(self.folder / "encoder.json") as path:
                    write_json(path, encoder.config())
            self._remove_stale()

    def __len__(self) -> int:
        return len(self._keys)

    def features(self, texts: Sequence[Text], *, description: str = "encoding") -> np.ndarray:
        """Vectors of texts, shape (n, dim), float32, in the order given; equal texts are encoded once.

        Results above 1 GiB of a store with a folder are memory-mapped from an unnamed file there. Raises `FeatureError`
        naming the row where an encoder returns a wrong shape or a number that is not finite.
        """
        if self._precomputed:
            return self._looked_up(texts)
        where, inverse = self._unique(texts, description)
        return self._gather(where[inverse])

    def unique(self, texts: Sequence[Text], *, description: str = "encoding") -> tuple[np.ndarray, np.ndarray]:
        """Vectors of the distinct texts, shape (u, dim), and the row of each text among them, shape (n,), int64.

        `features(texts)` equals `vectors[index]`; a fit on pairs keeps `vectors` and indexes it.
        """
        if self._precomputed:
            first, inverse = _distinct(text_keys(texts))
            return self._looked_up([texts[i] for i in first]), inverse
        where, inverse = self._unique(texts, description)
        return self._gather(where), inverse

    def missing(self, texts: Sequence[Text]) -> int:
        """Number of distinct texts that are not in the store yet."""
        if self._precomputed:
            first, _ = _distinct(text_keys(texts))
            return int((~self._precomputed.known([texts[i] for i in first])).sum())
        self._refresh()
        return int((self._find(np.unique(text_keys(texts))) < 0).sum())

    def _unique(self, texts: Sequence[Text], description: str) -> tuple[np.ndarray, np.ndarray]:
        """Places of the distinct texts by first appearance, and each text's row among them; encodes what is missing."""
        self._refresh()
        all_keys = text_keys(texts)
        first, inverse = _distinct(all_keys)
        keys = all_keys[first]
        todo = first[self._find(keys) < 0]
        # Each item is one row, so that the bar counts texts; a shard advances it in one go.
        for _ in track(self._encode(texts, todo), description, total=len(todo)):
            pass
        return self._find(keys), inverse

    def _encode(self, texts: Sequence[Text], todo: np.ndarray) -> Iterator[int]:
        """Encode rows `todo` of `texts` in shards that take about `_SHARD_SECONDS` each; yield each row when stored."""
        most = max(1, _SHARD_BYTES // (4 * self.encoder.dim))
        size, start = min(_FIRST_SHARD_ROWS, most), 0
        while start < len(todo):
            rows = todo[start : start + size]
            began = time.monotonic()
            shard_texts = [texts[row] for row in rows]
            vectors = self.encoder.encode(shard_texts)
            self._require_sound(vectors, rows, shard_texts)
            self._append(text_keys(shard_texts), np.ascontiguousarray(vectors, np.float32))
            took = time.monotonic() - began
            yield from (int(row) for row in rows)
            start += len(rows)
            if took < _SHARD_SECONDS / 2:
                size = min(most, 2 * size)
            elif took > 2 * _SHARD_SECONDS:
                size = max(1, size // 2)

    def _require_sound(self, vectors: np.ndarray, rows: np.ndarray, texts: Sequence[Text]) -> None:
        if vectors.shape != (len(rows), self.encoder.dim):
            raise FeatureError(
                f"encoder `{self.encoder.name}` gave shape {vectors.shape} for {len(rows)} texts of {self.encoder.dim} "
                "dimensions. Return one row per text"
            )
        sound = np.isfinite(vectors).all(axis=1)
        if not sound.all():
            bad = int(np.flatnonzero(~sound)[0])
            raise FeatureError(
                f"text {int(rows[bad]) + 1} has a feature that is not finite (encoder `{self.encoder.name}`, "
                f"completion {texts[bad][1][:60]!r}). Fix or remove that row, or use another encoder"
            )

    def _append(self, keys: np.ndarray, vectors: np.ndarray) -> None:
        if self.folder is not None:
            name = f"shard-{uuid.uuid4().hex}"
            with workspace(self.folder / name) as scratch:
                files = {scratch / f"{name}.vectors.npy": vectors, scratch / f"{name}.keys.npy": keys}
                for path, array in files.items():
                    np.save(path, array)
                for path in files:  # the keys last: vectors without them are nobody's
                    path.rename(self.folder / path.name)
            self._names.add(name)
            vectors = np.load(self.folder / f"{name}.vectors.npy", mmap_mode="r")
        self._index([(keys, vectors)])

    def _index(self, shards: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """Add shards to the sorted table of keys; of equal keys the first is kept."""
        if not shards:
            return
        rows = sum(len(shard) for shard in self._shards)
        keys = np.concatenate([self._keys, *(keys for keys, _ in shards)])
        added = sum(len(keys) for keys, _ in shards)
        where = np.concatenate([self._where, np.arange(rows, rows + added)])
        self._keys, first = np.unique(keys, return_index=True)
        self._where = where[first]
        self._shards.extend(vectors for _, vectors in shards)

    def _find(self, keys: np.ndarray) -> np.ndarray:
        """Place of each key, -1 where the store has not got it."""
        if not len(self._keys):
            return np.full(len(keys), -1, np.int64)
        spot = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[spot] == keys, self._where[spot], -1)

    def _gather(self, where: np.ndarray) -> np.ndarray:
        """Rows at these places, shape (n, dim), read from the shards in turn."""
        vectors = self._empty(len(where))
        ends = np.cumsum([len(shard) for shard in self._shards])
        owner = np.searchsorted(ends, where, side="right")
        for number in np.unique(owner):
            mine = np.flatnonzero(owner == number)
            shard = self._shards[number]
            vectors[mine] = shard[where[mine] - (ends[number] - len(shard))]
        return vectors

    def _looked_up(self, texts: Sequence[Text]) -> np.ndarray:
        """Vectors of texts from an encoder that has them, a piece at a time."""
        vectors = self._empty(len(texts))
        for start in range(0, len(texts), _LOOKED_UP_ROWS):
            part = texts[start : start + _LOOKED_UP_ROWS]
            vectors[start : start + len(part)] = self.encoder.encode(part)
        return vectors

    def _empty(self, count: int) -> np.ndarray:
        """Room for vectors, (count, dim) float32, in a file where it is large and there is a folder."""
        shape = (count, self.encoder.dim)
        if self._root is not None and 4 * shape[0] * shape[1] > _IN_MEMORY_BYTES:
            self._root.mkdir(parents=True, exist_ok=True)
            # The file is unlinked at once and lives as long as the array: pages can be dropped under memory pressure.
            with tempfile.TemporaryFile(dir=self._root) as file:
                mapped: np.ndarray = np.memmap(file, np.float32, "w+", shape=shape)
            return mapped
        return np.empty(shape, np.float32)

    def _refresh(self) -> None:
        """Take in the shards that were finished since the last look, by this process or others."""
        if self.folder is None:
            return
        found = []
        for path in sorted(self.folder.glob("shard-*.keys.npy")):
            name = path.name.removesuffix(".keys.npy")
            if name in self._names:
                continue
            self._names.add(name)
            try:
                keys = np.load(path)
                vectors = np.load(self.folder / f"{name}.vectors.npy", mmap_mode="r")
            except (OSError, ValueError, EOFError) as error:
                log.warning("%s: left out a damaged shard of features (%s); its texts are encoded again", path, error)
                continue
            if keys.dtype != _KEY or vectors.shape != (len(keys), self.encoder.dim) or vectors.dtype != np.float32:
                log.warning("%s: left out a shard of features of another shape; its texts are encoded again", path)
                continue
            found.append((keys, vectors))
        self._index(found)

    def _remove_stale(self) -> None:
        """Remove what killed processes left: their workspaces, and vectors that have been without keys for a day."""
        assert self.folder is not None
        remove_leftovers(self.folder)
        finished = {path.name.removesuffix(".keys.npy") for path in self.folder.glob("shard-*.keys.npy")}
        for path in self.folder.glob("shard-*.vectors.npy"):
            if path.name.removesuffix(".vectors.npy") in finished:
                continue
            with contextlib.suppress(FileNotFoundError):  # another process may be renaming it
                if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                    path.unlink()


def _distinct(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The place of the first of each distinct key, by first appearance, and each key's number among them."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[inverse]
