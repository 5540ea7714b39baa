"""Pol.is conversations as comparisons: a person prefers each statement agreed with to each disagreed with.

Data: compdemocracy/openData, CC BY 4.0 (Pol.is), as NAME.comments.csv.gz and NAME.participants-votes.csv.gz.
"""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tacit.errors import TacitError

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Conversation:
    """Statements and who voted what on them."""

    name: str
    statements: list[str]
    votes: npt.NDArray[np.int8]
    """(people, statements): 1 agree, -1 disagree, 0 pass or unseen."""


def read_conversations(folder: Path) -> list[Conversation]:
    """Every conversation in the folder; raises `TacitError` where there is none or a column is missing."""
    suffix = ".participants-votes.csv.gz"
    names = sorted(path.name.removesuffix(suffix) for path in folder.glob(f"*{suffix}"))
    if not names:
        raise TacitError(f"{folder} holds no *{suffix}. Give --data the folder of Pol.is conversations")
    return [_read(folder, name) for name in names]


def pairs(
    votes: npt.NDArray[np.int8], allowed: npt.NDArray[np.bool_], each: int, rng: np.random.Generator
) -> tuple[Ints, Ints, Ints]:
    """Up to `each` distinct random pairs of each person: (person, agreed statement, disagreed statement), each (n,).

    Only statements that `allowed` (people, statements) names for the person are used; people without both an agreed and
    a disagreed one give no pair.
    """
    sides = []
    for vote in (1, -1):
        mask = (votes == vote) & allowed
        owner, statement = np.nonzero(mask)
        sides.append((mask.sum(1), np.concatenate([[0], mask.sum(1).cumsum()[:-1]]), statement, owner))
    able = np.flatnonzero((sides[0][0] > 0) & (sides[1][0] > 0))
    who = np.repeat(able, 3 * each)
    drawn = []
    for count, first, statement, _ in sides:
        drawn.append(statement[first[who] + (rng.random(len(who)) * count[who]).astype(np.int64)])
    rows = np.unique(np.stack([who, *drawn]), axis=1)
    rows = rows[:, rng.permutation(rows.shape[1])]
    order = np.argsort(rows[0], kind="stable")
    rows = rows[:, order]
    position = np.arange(rows.shape[1]) - np.searchsorted(rows[0], rows[0])
    person, agreed, disagreed = rows[:, position < each]
    return person, agreed, disagreed


def factors(votes: npt.NDArray[np.int8], size: int) -> npt.NDArray[np.float32]:
    """Statements as the voters see them, (statements, size + 1): mean vote, and loadings of a singular decomposition.

    Votes are centred by statement over those who voted; what nobody said counts as the mean.
    """
    given = votes != 0
    mean = votes.sum(0) / np.maximum(given.sum(0), 1)
    centred = np.where(given, votes - mean, 0.0)
    _, values, loadings = np.linalg.svd(centred, full_matrices=False)
    scaled = loadings[:size].T * values[:size] / np.sqrt(max(len(votes), 1))
    return np.concatenate([mean[:, None], scaled], axis=1).astype(np.float32)


def _read(folder: Path, name: str) -> Conversation:
    with gzip.open(folder / f"{name}.comments.csv.gz", "rt", encoding="utf-8", newline="") as lines:
        text = {row["comment-id"]: row["comment-body"].strip() for row in csv.DictReader(lines)}
    with gzip.open(folder / f"{name}.participants-votes.csv.gz", "rt", encoding="utf-8", newline="") as lines:
        table = csv.reader(lines)
        header = next(table)
        columns = [i for i, column in enumerate(header) if column in text]
        rows = [[row[i] for i in columns] for row in table]
    if not columns:
        raise TacitError(f"{folder}/{name}.participants-votes.csv.gz has no column named by a statement's number")
    votes = np.array([[int(float(cell)) if cell else 0 for cell in row] for row in rows], dtype=np.int8)
    return Conversation(name, [text[header[i]] for i in columns], votes)
