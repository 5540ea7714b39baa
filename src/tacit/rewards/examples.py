"""Evidence as arrays: distinct texts once, examples as indices into them.

Every kind becomes the same shape, so that one fit loop serves all: `rows` (n, k) names the distinct responses of each
example, k = 2 for comparisons (preferred first), 1 for outcomes and ratings, and the longest list for rankings
(best first, padded with -1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from tacit.conversation import Completion, Prompt, texts
from tacit.errors import EvidenceError
from tacit.evidence.records import Comparison, Kind, Outcome, Ranking, Rating, Record

FITTABLE: tuple[Kind, ...] = ("comparison", "outcome", "rating", "ranking")


@dataclass(frozen=True)
class Examples:
    """n examples over u distinct responses."""

    kind: Kind
    texts: list[tuple[str, str]]
    """The u distinct (prompt text, completion text)."""
    rows: np.ndarray
    """(n, k) int64: indices into `texts`; -1 pads short rankings."""
    target: np.ndarray
    """(n,) float32: outcome label or rating; unused otherwise."""
    ranks: np.ndarray
    """(n, k) int32: ranks of the row's completions, 0 where padded; only for rankings, else (n, 0)."""
    tie: np.ndarray
    """(n,) bool."""
    margin: np.ndarray
    """(n,) float32, 0 where none was given."""
    weight: np.ndarray
    """(n,) float32."""
    blocks: np.ndarray
    """(n, 2) int64: what must not lie on both sides of a split: the prompt twice, or, for comparisons across prompts or
    without prompts, the two prompts or the two responses. Where all rows have the same prompt or none, the responses:
    of a ranking the best two."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def one_prompt(self) -> bool:
        """Whether all responses have the same prompt, or none: `blocks` are then the responses."""
        return len({prompt for prompt, _ in self.texts}) == 1

    def take(self, keep: np.ndarray) -> Examples:
        """The chosen examples (indices or mask); `texts` stay whole, so that features need no second look-up."""
        arrays = {f.name: getattr(self, f.name)[keep] for f in fields(self) if f.name not in ("kind", "texts")}
        return replace(self, **arrays)


def collect(
    evidence: Iterable[Record],
    source: str = "memory",
    *,
    attributes: list[Mapping[str, float | None]] | None = None,
) -> Examples:
    """Gather records of one kind into `Examples`.

    Ratings of several attributes are appended to the list `attributes`, where one is given, and leave `target` at 0.

    Raises `EvidenceError` for kinds that no reward is fitted on here, for mixed kinds, and where nothing could be
    learnt: no examples, one class only, all ratings equal, only ties.
    """
    index: dict[tuple[str, str], int] = {}
    rows: list[list[int]] = []
    ranks: list[list[int]] = []
    columns: list[tuple[float, bool, float, float]] = []
    asked: list[tuple[str, str]] = []
    kind: type[Record] | None = None

    def row(prompt: Prompt, completion: Completion) -> int:
        return index.setdefault(texts(prompt, completion), len(index))

    for number, record in enumerate(evidence, 1):
        if kind is None:
            kind = type(record)
        if type(record) is not kind:
            raise EvidenceError(
                f"a {type(record).__name__.lower()} among {kind.plural()}",
                mend="Give one kind of evidence at a time.",
                source=source,
                row=number,
            )
        match record:
            case Comparison():
                other = record.prompt if record.rejected_prompt is None else record.rejected_prompt
                pair = [row(record.prompt, record.chosen), row(other, record.rejected)]
                asked.append((texts(record.prompt, "")[0], texts(other, "")[0]))
                rows.append(pair)
                columns.append((0.0, record.tie, record.margin or 0.0, record.weight))
            case Outcome():
                rows.append([row(record.prompt, record.completion)])
                columns.append((float(record.label), False, 0.0, 1.0))
            case Rating():
                if attributes is not None:
                    given = record.score if isinstance(record.score, dict) else {"score": record.score}
                    attributes.append(given)
                elif isinstance(record.score, dict):
                    raise EvidenceError(
                        "ratings with several attributes need one attribute named",
                        mend="Give --model attributes, or keep one number per row in column `score`.",
                        source=source,
                        column="score",
                        value=record.score,
                    )
                rows.append([row(record.prompt, record.completion)])
                score = 0.0 if isinstance(record.score, dict) else record.score
                columns.append((float(score), False, 0.0, 1.0))
            case Ranking():
                order = sorted(range(len(record.ranks)), key=lambda i: record.ranks[i])
                rows.append([row(record.prompt, record.completions[i]) for i in order])
                ranks.append([record.ranks[i] for i in order])
                columns.append((0.0, False, 0.0, 1.0))
            case _:
                raise EvidenceError(
                    f"this reward is not fitted on evidence of kind {type(record).__name__.lower()}",
                    mend=f"Give one of: {', '.join(FITTABLE)}",
                    source=source,
                )
        if not isinstance(record, Comparison):
            asked.append((texts(record.prompt, "")[0],) * 2)
    if kind is None:
        raise EvidenceError("no evidence", mend="Give at least one row.", source=source)
    widest = max(map(len, rows))
    values = np.array(columns, dtype=np.float64)
    examples = Examples(
        kind=kind.__name__.lower(),  # type: ignore[arg-type]
        texts=list(index),
        rows=np.array([r + [-1] * (widest - len(r)) for r in rows], dtype=np.int64),
        target=values[:, 0].astype(np.float32),
        ranks=np.array([r + [0] * (widest - len(r)) for r in ranks], dtype=np.int32).reshape(len(rows), -1),
        tie=values[:, 1].astype(bool),
        margin=values[:, 2].astype(np.float32),
        weight=values[:, 3].astype(np.float32),
        blocks=_blocks(asked, rows, list(index)),
    )
    if attributes is None:
        _learnable(examples, source)
    return examples


def _blocks(asked: list[tuple[str, str]], rows: list[list[int]], responses: list[tuple[str, str]]) -> np.ndarray:
    """Numbers (n, 2) of what must not leak, from the prompts of each example's sides and its responses."""
    if len({prompt for sides in asked for prompt in sides}) == 1:
        return np.array([(row[0], row[min(1, len(row) - 1)]) for row in rows], dtype=np.int64)
    numbers: dict[str, int] = {}

    def block(prompt: str, row: int) -> int:
        # Without a prompt the response itself must not leak, so it is the block.
        return numbers.setdefault(prompt or "\0" + responses[row][1], len(numbers))

    pairs = zip(asked, rows, strict=True)
    return np.array([(block(a, row[0]), block(b, row[min(1, len(row) - 1)])) for (a, b), row in pairs], dtype=np.int64)


def held_out(blocks: np.ndarray, folds: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Assign examples to folds so that no block is trained on and validated on.

    Returns `fold` (n,), the fold that validates each example (that of its first block), and `train` (folds, n) bool:
    whether an example may be fitted when a fold is held out, which is when neither of its blocks lies in that fold.
    """
    assigned = np.arange(int(blocks.max()) + 1) % folds
    rng.shuffle(assigned)
    of_block = assigned[blocks]  # (n, 2)
    train = (of_block[None] != np.arange(folds)[:, None, None]).all(-1)
    return of_block[:, 0], train


def bootstrap_weights(blocks: np.ndarray, members: int, rng: np.random.Generator) -> np.ndarray:
    """Weights (members, n) of a bootstrap over blocks: Poisson(1) copies of each first block, shared by its examples.

    One member keeps the data as they are.
    """
    if members == 1:
        return np.ones((1, len(blocks)), dtype=np.float32)
    copies = rng.poisson(1.0, size=(members, int(blocks.max()) + 1)).astype(np.float32)
    weights = copies[:, blocks[:, 0]]
    weights[weights.sum(1) == 0] = 1.0
    return weights


def _learnable(examples: Examples, source: str) -> None:
    reason = mend = None
    if examples.kind == "outcome" and len(np.unique(examples.target)) < 2:
        value = bool(examples.target[0])
        reason, mend = f"every label is {value}: one class only", f"Add rows with label {not value}."
    elif examples.kind == "rating" and np.ptp(examples.target) == 0:
        reason, mend = "every score is the same", "Add rows with other scores."
    elif examples.kind == "ranking" and (examples.ranks <= examples.ranks[:, :1]).all():  # best first, padded with 0
        reason, mend = "every ranking ties all of its completions", "Add rankings with a preference."
    elif examples.kind == "comparison" and examples.tie.all():
        reason, mend = "every comparison is a tie", "Add comparisons with a preference."
    elif examples.kind == "comparison" and (examples.rows[:, 0] == examples.rows[:, 1]).all():
        reason, mend = "chosen equals rejected in every row", "Run `tacit check` on the file."
    elif examples.weight.sum() == 0:
        reason, mend = "every weight is zero", "Give some rows a positive weight."
    if reason and mend:
        raise EvidenceError(reason, mend=mend, source=source)
