"""Comparisons with the people who made them, as tensors; and who is adapted on what, who is tested on what.

A tie becomes two comparisons of half the weight, one in each order, so that every model here meets decided rows alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tacit.errors import EvidenceError, TacitError
from tacit.evidence.records import Comparison, Record
from tacit.features import Encoder, FeatureStore
from tacit.rewards.examples import Examples, collect
from tacit.rewards.fitting import fit
from tacit.rewards.heads import Standardiser
from tacit.rewards.options import FitOptions

UNKNOWN = -1


@dataclass(frozen=True)
class Crowd:
    """n decided comparisons of u distinct responses by people."""

    features: Tensor
    """(u, d) float32, standardised: the space in which all people models work."""
    standardise: Standardiser
    """From raw features to that space."""
    examples: Examples
    """The comparisons as they were given, ties whole."""
    rows: Tensor
    """(n, 2) int64: chosen and rejected response."""
    weight: Tensor
    """(n,) float32."""
    person: Tensor
    """(n,) int64 index into `people`; -1 where nobody is named."""
    group: Tensor
    """(n,) int64 index into `groups`; -1 where none is named."""
    people: tuple[str, ...]
    groups: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def dim(self) -> int:
        """d, the number of features."""
        return self.features.shape[1]

    @property
    def pair(self) -> Tensor:
        """(n,) int64: a code of the unordered pair of responses."""
        low, high = self.rows.min(1).values, self.rows.max(1).values
        return low * len(self.features) + high

    def gaps(self, rows: Tensor | None = None) -> Tensor:
        """Differences of features, chosen minus rejected, (..., d), of all or of some rows (any shape; -1 gives 0)."""
        if rows is None:
            return self.features[self.rows[:, 0]] - self.features[self.rows[:, 1]]
        pairs = self.rows[rows.clamp_min(0)]
        gaps = self.features[pairs[..., 0]] - self.features[pairs[..., 1]]
        return gaps * (rows >= 0)[..., None]

    def take(self, keep: Tensor) -> Crowd:
        """The crowd of some rows (mask (n,)); names stay whole. `examples` keep those with both orders of a tie."""
        kept = self.rows[keep]
        return replace(
            self,
            rows=kept,
            weight=self.weight[keep],
            person=self.person[keep],
            group=self.group[keep],
            examples=self.examples.take(keep[: len(self.examples)].numpy()),
        )

    def of_people(self, chosen: Sequence[int] | np.ndarray) -> Crowd:
        """The comparisons of some people, by index."""
        return self.take(torch.from_numpy(np.isin(self.person.numpy(), np.asarray(chosen))))

    def without_groups(self) -> Crowd:
        """The same comparisons with no group named."""
        return replace(self, group=torch.full_like(self.group, UNKNOWN), groups=())

    def per_person(self, values: Tensor) -> Tensor:
        """Sums over each person's rows: (..., n) to (..., people)."""
        total = values.new_zeros(*values.shape[:-1], len(self.people))
        return total.index_add_(-1, self.person, values)

    def require_people(self, least: int, purpose: str, source: str = "memory") -> None:
        """Raise `EvidenceError` unless every row names its annotator and there are `least` of them."""
        if bool((self.person == UNKNOWN).any()):
            row = int((self.person == UNKNOWN).nonzero()[0, 0]) % len(self.examples) + 1
            raise EvidenceError(
                f"{purpose} needs to know who compared",
                mend="Fill the column `annotator` in every row",
                source=source,
                row=row,
                column="annotator",
            )
        if len(self.people) < least:
            raise EvidenceError(
                f"{purpose} needs {least} annotators or more and there are {len(self.people)}",
                mend="Give comparisons of more people",
                source=source,
                column="annotator",
            )


def crowd_of(
    features: np.ndarray | Tensor,
    examples: Examples,
    annotators: Sequence[str | None],
    groups: Sequence[str | None] | None = None,
    *,
    standardise: Standardiser | None = None,
) -> Crowd:
    """A crowd from raw features (u, d), comparisons and one annotator (and group) each."""
    matrix = torch.as_tensor(np.asarray(features), dtype=torch.float32)
    standardise = Standardiser.of(matrix) if standardise is None else standardise
    tied = torch.from_numpy(np.flatnonzero(examples.tie))
    rows, weight = torch.from_numpy(examples.rows), torch.from_numpy(examples.weight).float()
    person, people = _codes(annotators)
    group, names = _codes(groups if groups is not None else [None] * len(examples))
    weight = torch.where(torch.from_numpy(examples.tie), weight / 2, weight)
    return Crowd(
        features=standardise(matrix),
        standardise=standardise,
        examples=examples,
        rows=torch.cat([rows, rows[tied].flip(1)]),
        weight=torch.cat([weight, weight[tied]]),
        person=torch.cat([person, person[tied]]),
        group=torch.cat([group, group[tied]]),
        people=people,
        groups=names,
    )


def compared(
    features: np.ndarray,
    chosen: np.ndarray,
    rejected: np.ndarray,
    annotators: Sequence[str | None],
    groups: Sequence[str | None] | None = None,
    *,
    tie: np.ndarray | None = None,
    blocks: np.ndarray | None = None,
    standardise: Standardiser | None = None,
) -> Crowd:
    """A crowd from indices (n,) of chosen and rejected responses among raw features (u, d), without any text.

    `blocks` (n, 2) says what must not be on both sides when a ridge is chosen; the responses themselves unless given.
    """
    n, rows = len(chosen), np.stack([chosen, rejected], axis=1).astype(np.int64)
    nothing = np.zeros(n, np.float32)
    examples = Examples(
        kind="comparison",
        texts=[("", str(i)) for i in range(len(features))],
        rows=rows,
        target=nothing,
        ranks=np.zeros((n, 0), np.int32),
        tie=np.zeros(n, bool) if tie is None else tie,
        margin=nothing,
        weight=np.ones(n, np.float32),
        blocks=rows if blocks is None else blocks,
    )
    return crowd_of(features, examples, annotators, groups, standardise=standardise)


def read_crowd(
    evidence: Iterable[Record],
    encoder: Encoder,
    cache: str | Path | None = None,
    *,
    standardise: Standardiser | None = None,
) -> Crowd:
    """Comparisons with their annotators and groups, encoded; raises `EvidenceError` for any other kind."""
    source = getattr(evidence, "source", "memory")
    annotators: list[str | None] = []
    groups: list[str | None] = []

    def noted() -> Iterator[Record]:
        for number, record in enumerate(evidence, 1):
            if not isinstance(record, Comparison):
                raise EvidenceError(
                    f"people's rewards are learnt from comparisons, not from {record.plural()}",
                    mend="Give rows with `chosen`, `rejected` and `annotator`",
                    source=source,
                    row=number,
                )
            annotators.append(record.annotator)
            groups.append(record.group)
            yield record

    examples = collect(noted(), source)
    features = FeatureStore(encoder, cache).features(examples.texts)
    return crowd_of(features, examples, annotators, groups, standardise=standardise)


def pooled_head(crowd: Crowd, *, l2: float | None = None, seed: int = 0) -> tuple[Tensor, dict[str, Any]]:
    """The reward of everybody together: a calibrated linear head (d,) in standardised features, and its report."""
    raw = crowd.features * crowd.standardise.scale + crowd.standardise.mean
    found = fit(raw.numpy(), crowd.examples, FitOptions(l2=l2, seed=seed))
    return found.parameters["linear"][0] * crowd.standardise.scale, found.report


@dataclass(frozen=True)
class Episodes:
    """P people: the rows that each is adapted on, and the rows that the adapted reward is tested on.

    Both are (P, ...) int64 rows of a crowd, padded with -1. No pair of responses is in a person's context and query,
    in either order: `check` raises otherwise, and `draw` and whoever evaluates calls it.
    """

    context: Tensor
    query: Tensor

    @classmethod
    def draw(
        cls,
        crowd: Crowd,
        shots: int,
        seed: int,
        *,
        least: int = 5,
        most: int = 200,
        contexts: Tensor | None = None,
        queries: Tensor | None = None,
    ) -> Episodes:
        """`shots` random pairs of each person as context, up to `most` others as query.

        People with fewer than `least` others are left out. Masks (n,) `contexts` and `queries` say which rows may serve
        as either; the order of a person's pairs is drawn by `seed` alone, so that more shots extend fewer. Raises
        `TacitError` where nobody has enough comparisons.
        """
        named = (crowd.person >= 0).numpy()
        may_adapt = named & (np.ones(len(crowd), bool) if contexts is None else contexts.numpy())
        may_test = named & (np.ones(len(crowd), bool) if queries is None else queries.numpy())
        unit = crowd.person.numpy() * len(crowd.features) ** 2 + crowd.pair.numpy()
        distinct, code = np.unique(unit, return_inverse=True)
        chance = np.random.default_rng(seed).permutation(len(distinct))
        owner = np.zeros(len(distinct), np.int64)
        owner[code] = crowd.person.numpy()
        able = np.zeros(len(distinct), bool)
        able[code[may_adapt]] = True
        rank = _rank_within(owner, np.where(able, chance, len(distinct) + chance))
        in_context = able & (rank < shots)
        testable = np.zeros(len(distinct), bool)
        testable[code[may_test]] = True
        testable &= ~in_context
        testable &= _rank_within(owner, np.where(testable, chance, len(distinct) + chance)) < most
        adapts, tests = may_adapt & in_context[code], may_test & testable[code]
        count = len(crowd.people)
        had = np.bincount(owner[in_context & (owner >= 0)], minlength=count)
        left = np.bincount(owner[testable], minlength=count)
        people = np.flatnonzero((had >= shots) & (left >= least))
        if not len(people):
            raise TacitError(
                f"nobody has {shots} comparisons to adapt on and {least} others to test on. "
                "Give more comparisons of each person, or fewer shots"
            )
        place = np.full(count, -1)
        place[people] = np.arange(len(people))
        parts = []
        for mask in (adapts, tests):
            rows = np.flatnonzero(mask)
            home = place[crowd.person.numpy()[rows]]
            parts.append(padded(torch.from_numpy(rows[home >= 0]), torch.from_numpy(home[home >= 0]), len(people)))
        episodes = cls(*parts)
        episodes.check(crowd)
        return episodes

    def check(self, crowd: Crowd) -> None:
        """Raise `TacitError` where a row that somebody was adapted on, or its mirror image, is tested on."""
        span = len(crowd.features) ** 2

        def keys(rows: Tensor) -> np.ndarray:
            owner = torch.arange(len(rows))[:, None].expand_as(rows)
            kept = rows >= 0
            result: np.ndarray = (owner[kept] * span + crowd.pair[rows[kept]]).numpy()
            return result

        if len(both := np.intersect1d(keys(self.context), keys(self.query))):
            raise TacitError(
                f"person {int(both[0] // span)} is tested on a comparison that adapted the reward. "
                "Test on other comparisons of that person"
            )


def padded(values: Tensor, owner: Tensor, count: int) -> Tensor:
    """Values (n,) by owner (n,) as (count, longest), padded with -1, in their order."""
    order = owner.argsort(stable=True)
    sizes = torch.bincount(owner, minlength=count)
    start = sizes.cumsum(0) - sizes
    place = torch.arange(len(values)) - start.repeat_interleave(sizes)
    result = torch.full((count, int(sizes.max()) if len(values) else 0), -1, dtype=torch.int64)
    result[owner[order], place] = values[order]
    return result


def _rank_within(owner: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Rank of each entry among those of its owner, by key."""
    order = np.lexsort((key, owner))
    sorted_owner = owner[order]
    first = np.searchsorted(sorted_owner, sorted_owner, side="left")
    rank = np.empty(len(owner), np.int64)
    rank[order] = np.arange(len(owner)) - first
    return rank


def _codes(names: Sequence[str | None]) -> tuple[Tensor, tuple[str, ...]]:
    known: dict[str, int] = {}
    codes = [UNKNOWN if name is None else known.setdefault(name, len(known)) for name in names]
    return torch.tensor(codes, dtype=torch.int64), tuple(known)
