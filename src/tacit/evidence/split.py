"""Splits that do not leak: a key belongs to one side, whatever the order of the rows.

Each distinct key (prompt, annotator, group, item) is hashed with the seed to a number in [0, 2^64). With 1,000
distinct keys or more a key is on the test side where its number lies below `test` * 2^64, so a key keeps its side when
rows are added later; with fewer the share is exact: the `round(test * keys)` smallest numbers are there (at least one,
and not all). The side is a function of the key alone, so no key can be on both sides. One pass over the data; 16 bytes
are held for each key of each record.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Literal

import numpy as np
import numpy.typing as npt

from tacit.conversation import completion_text, prompt_text
from tacit.errors import EvidenceError
from tacit.evidence.dataset import Evidence
from tacit.evidence.records import Record, Steps

By = Literal["prompt", "annotator", "group", "item"]
_FEW = 1000


def split(evidence: Evidence, *, by: By = "prompt", test: float = 0.2, seed: int = 0) -> tuple[Evidence, Evidence]:
    """Split evidence into (train, test) so that no key is on both sides.

    `by` is what must not leak: "prompt" (as rendered text), "annotator", "group", or "item" (completion texts, of steps
    the whole solution). Where all records have the same prompt, or none, a split by prompt is one by item
    (`effective_by`). A record with several keys, as a comparison has two items and a
    cross-prompt comparison two prompts, goes where all of them are; records across both sides are left out and counted
    in `dropped` of both results. `test` is the share of keys, not of records: by item about test² of the comparisons of
    random pairs are on the test side and (1 - test)² on the train side.

    Raises `EvidenceError` where a record has no annotator or group, or where a side would be empty, and `ValueError`
    for an unknown `by` or a share outside (0, 1).
    """
    if by not in ("prompt", "annotator", "group", "item"):
        raise ValueError(f"by must be prompt, annotator, group or item (found {by!r})")
    if not 0 < test < 1:
        raise ValueError(f"test must lie between 0 and 1 (found {test})")
    by = effective_by(evidence, by)
    keys_E, record_E, n = _hashed(evidence, by, seed)
    tested_E = _on_test_side(keys_E, test, evidence, by)
    tested = np.bincount(record_E[tested_E], minlength=n)
    total = np.bincount(record_E, minlength=n)
    in_test, in_train = tested == total, tested == 0
    dropped = n - int(in_test.sum()) - int(in_train.sum())
    for side, mask in (("train", in_train), ("test", in_test)):
        if not mask.any():
            raise EvidenceError(
                f"the {side} side of a split by {by} is empty ({len(np.unique(keys_E))} distinct keys, {n} records,"
                f" {dropped} across both sides)",
                mend=f"{_FINER[by]}, choose another share, or hold nothing out (--test 0)",
                source=evidence.source,
            )
    return evidence.select(in_train, dropped=dropped), evidence.select(in_test, dropped=dropped)


def effective_by(evidence: Evidence, by: By = "prompt") -> By:
    """What a split by `by` goes by: "item" in place of "prompt" where all records have the same prompt, or none.

    Problems, which hold no answers, keep "prompt". Looks no further than the first record with another prompt.
    """
    if by != "prompt" or evidence.kind == "problem":
        return by
    seen: set[str] = set()
    for chunk in evidence.sound():
        for record in chunk.records:
            seen.update(_prompts(record))
            if len(seen) > 1:
                return by
    return "item" if seen else by


_FINER: dict[str, str] = {
    "prompt": "Give evidence on more prompts, split by item",
    "item": "Give evidence on more answers",
    "annotator": "Give evidence of more people, split by prompt",
    "group": "Give evidence of more groups, split by prompt",
}
"""The mend of a split that has too little to split by."""


def _on_test_side(keys_E: npt.NDArray[np.uint64], test: float, evidence: Evidence, by: str) -> npt.NDArray[np.bool_]:
    distinct = np.unique(keys_E)
    if len(distinct) < 2:
        raise EvidenceError(
            f"a split by {by} needs at least two of them (found {len(distinct)})",
            mend=f"{_FINER[by]}, or hold nothing out (--test 0)",
            source=evidence.source,
        )
    if len(distinct) >= _FEW:
        return keys_E < np.uint64(int(test * 2**64))
    count = min(max(round(test * len(distinct)), 1), len(distinct) - 1)
    return np.asarray(keys_E <= distinct[count - 1])


def _hashed(evidence: Evidence, by: By, seed: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], int]:
    """Hashed keys (entries,), the record of each (entries,), and the number of records."""
    salt, keys_of = str(seed).encode(), _KEYS[by]
    parts: list[npt.NDArray[np.uint64]] = []
    owners: list[npt.NDArray[np.int64]] = []
    n = 0
    for chunk in evidence.sound():
        hashes = bytearray()
        counts: list[int] = []
        for row, record in zip(chunk.rows, chunk.records, strict=True):
            keys = keys_of(record)
            if not keys:
                raise EvidenceError(
                    f"no {by} to split by",
                    mend=f"Give every record a column `{by}`, or split by prompt",
                    source=evidence.source,
                    row=row,
                    column=by,
                )
            counts.append(len(keys))
            for key in keys:
                hashes += blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, key=salt).digest()
        parts.append(np.frombuffer(bytes(hashes), dtype="<u8").astype(np.uint64))
        owners.append(np.repeat(np.arange(n, n + len(chunk.records)), counts))
        n += len(chunk.records)
    if not n:
        raise EvidenceError("there are no records to split", mend="Give at least two", source=evidence.source)
    return np.concatenate(parts), np.concatenate(owners), n


def _prompts(record: Record) -> list[str]:
    other = getattr(record, "rejected_prompt", None)
    first = prompt_text(record.prompt)  # type: ignore[attr-defined]
    return [first] if other is None else [first, prompt_text(other)]


def _items(record: Record) -> list[str]:
    if isinstance(record, Steps):
        return ["\n".join(record.completions)]
    texts = [getattr(record, name, None) for name in ("chosen", "rejected", "completion")]
    listed = getattr(record, "completions", [])
    return [completion_text(text) for text in (*texts, *listed) if text is not None]


def _named(field: str) -> Callable[[Record], list[str]]:
    def keys(record: Record) -> list[str]:
        value = getattr(record, field, None)
        return [] if value is None else [str(value)]

    return keys


_KEYS: dict[str, Callable[[Record], list[str]]] = {
    "prompt": _prompts,
    "item": _items,
    "annotator": _named("annotator"),
    "group": _named("group"),
}
