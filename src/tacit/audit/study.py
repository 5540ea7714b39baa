"""What an audit looks at, computed once: texts, votes, scores, members and features, as arrays.

Every kind of evidence that says which completion is better becomes comparisons: rankings all their pairs, outcomes and
ratings the pairs of one prompt whose labels or scores differ. Sections of the report are functions of a `Study`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from tacit.audit import ranking
from tacit.audit.arrays import Items, Pairs, item_means, pair_clusters, read_pairs, read_values
from tacit.audit.bootstrap import Array, Clusters, Index, interval, share_interval
from tacit.audit.tuning_log import Log
from tacit.errors import EvidenceError
from tacit.evidence.records import Kind, Record
from tacit.improve.select import Candidates
from tacit.rewards.contract import Reward, Uncertain

Share = tuple[float | None, list[float] | None]
"""A mean and its 95% interval."""

PAIR_LIMIT = 200_000
"""Pairs made of outcomes and ratings: a random sample of this size stands for more."""


@dataclass
class Study:
    """A reward and the evidence it is measured on."""

    reward: Reward
    kind: Kind
    source: str
    pairs: Pairs
    columns: list[dict[str, Any]]
    """(n,) the further columns of each comparison's row, for slices and groups."""
    row: Index
    """(n,) the record that each comparison came from, counted from 1."""
    resamples: int = 1000
    seed: int = 0
    candidates: Sequence[Candidates] = ()
    """Completions to choose from, with a gold score, for the over-optimisation curve."""
    domains: str | None = None
    """The column that says which domain a row is of; found by its name unless given."""
    log: Log | None = None
    """KL, reward and gold score at the steps of a tuning run."""

    @classmethod
    def of(
        cls,
        reward: Reward,
        evidence: Iterable[Record],
        kind: Kind,
        source: str,
        *,
        resamples: int = 1000,
        seed: int = 0,
        candidates: Sequence[Candidates] = (),
        domains: str | None = None,
        log: Log | None = None,
    ) -> Study:
        """Read `evidence` once; raises `EvidenceError` where it is empty or does not say which completion is better."""
        records = list(evidence)
        if kind in ("comparison", "ranking"):
            pairs = read_pairs(records)
            counts = [1 if kind == "comparison" else len(r.ranks) * (len(r.ranks) - 1) // 2 for r in records]  # type: ignore[attr-defined]
            row = np.repeat(np.arange(1, len(records) + 1), counts)
        elif kind in ("outcome", "rating"):
            pairs, row = _pairs_of_values(records, np.random.default_rng(seed))
        else:
            raise EvidenceError(
                f"evidence of kind {kind} does not say which completion is better",
                mend="Audit with comparisons, rankings, outcomes or ratings.",
                source=source,
            )
        if len(pairs.a) == 0:
            raise EvidenceError("no comparison to audit with", mend="Give at least one.", source=source)
        extra = [(record.model_extra or {}) | _named(record) for record in records]
        return cls(
            reward, kind, source, pairs, [extra[i - 1] for i in row], row, resamples, seed, candidates, domains, log
        )

    def under(self, reward: Reward) -> Study:
        """The same evidence under another reward; what depends on the evidence alone is not computed again."""
        other = replace(self, reward=reward)
        for name in ("lengths", "prompt_of", "blocks", "clusters"):
            other.__dict__[name] = getattr(self, name)
        return other

    @property
    def n(self) -> int:
        """Comparisons."""
        return len(self.pairs.a)

    @property
    def items(self) -> Items:
        """Distinct (prompt, completion)."""
        return self.pairs.items

    def rng(self, stream: int = 0) -> np.random.Generator:
        """Random numbers of one section; sections do not disturb each other."""
        return np.random.default_rng([self.seed, stream])

    @cached_property
    def members(self) -> Array | None:
        """(members, items) scores of each member; None for a reward with one."""
        if not isinstance(self.reward, Uncertain):
            return None
        members = np.asarray(self.reward.score_members(self.items.prompts, self.items.completions), np.float64)
        return members if len(members) > 1 else None

    @cached_property
    def scores(self) -> Array:
        """(items,) the reward of every item."""
        return self.items.score(self.reward) if self.members is None else self.members.mean(0)

    @cached_property
    def delta(self) -> Array:
        """(n,) log-odds that a is preferred to b, by the reward."""
        return self.pairs.forecast(self.reward, self.scores)

    @property
    def core(self) -> Any:
        """The reward itself, where it is read with pessimism the one inside."""
        return getattr(self.reward, "inner", self.reward)

    @cached_property
    def features(self) -> Array | None:
        """(items, d) vectors of the reward's own encoder; None for a reward without one."""
        encoder = getattr(self.core, "encoder", None)
        if encoder is None:
            return None
        from tacit.features import FeatureStore

        store = FeatureStore(encoder, getattr(self.core, "cache", None))
        vectors: Array = store.features(self.items.texts)
        return vectors

    @cached_property
    def lengths(self) -> Array:
        """(items,) characters of each completion."""
        return np.array(self.items.lengths, dtype=np.float64)

    @cached_property
    def prompt_of(self) -> Index:
        """(items,) the number of each item's prompt."""
        return np.array(self.items.prompt_of, dtype=np.intp)

    @cached_property
    def blocks(self) -> Index:
        """(n,) what a comparison belongs to when folds are made: its prompt, or where there is one prompt or none its
        lesser item."""
        if self.items.one_prompt:
            return np.minimum(self.pairs.a, self.pairs.b)
        return self.prompt_of[self.pairs.a]

    @cached_property
    def clusters(self) -> Clusters:
        """What the bootstrap resamples: prompts (items, where there is one or none), and people where any is named."""
        return pair_clusters(self.pairs, self.prompt_of)

    @cached_property
    def undecided(self) -> str:
        """Why no comparison can be ordered rightly or wrongly; empty where some can."""
        telling = (self.pairs.tie == 0) & (self.pairs.a != self.pairs.b) & (self.pairs.weight > 0)
        return (
            "" if telling.any() else "every comparison is a tie, or of two equal answers: no order is right or wrong."
        )

    @cached_property
    def credit(self) -> Array:
        """(n,) 1 where the reward orders the comparison as people did, 1/2 for ties of either, else 0."""
        return np.where(self.pairs.tie > 0, 0.5, (np.sign(self.delta) + 1) / 2)

    def share(self, value: Array, counts: Array | None = None) -> Share:
        """Weighted mean of `value` (n,) over the comparisons that count, with its clustered 95% interval."""
        return self.shares([(value, counts)])[0]

    def shares(self, columns: Sequence[tuple[Array, Array | None]]) -> list[Share]:
        """Several means at once, each as `share` gives it: values (n,) and which rows count (n,), all unless given.

        The resamples of all are one pass, and most of the time of an audit is in such passes.
        """
        if not columns:
            return []
        which: dict[int, int] = {}
        weights: list[Array] = []
        for _, counts in columns:
            if id(counts) not in which:
                which[id(counts)] = len(weights)
                weights.append(self.pairs.weight * (1.0 if counts is None else counts))
        of = [which[id(counts)] for _, counts in columns]
        values = np.stack([value for value, _ in columns], axis=1).astype(np.float64)
        clusters, smallest = self.clusters, self.clusters.smallest
        resamples = self.resamples if smallest >= 2 else 1
        means, draws = clusters.means(values, np.stack(weights, axis=1), resamples, self.rng(99), weight_of=of)
        return [
            (None, None)
            if not weights[of[k]].sum()
            else (float(means[k]), self._ends(columns[k][0], float(means[k]), draws[:, k]) if smallest >= 2 else None)
            for k in range(len(columns))
        ]

    def _ends(self, value: Array, mean: float, draws: Array) -> list[float] | None:
        smallest = self.clusters.smallest
        return share_interval(mean, draws, smallest) if value is self.credit else interval(draws, clusters=smallest)


def _named(record: Record) -> dict[str, Any]:
    names = ("group", "annotator", "template")
    return {name: value for name in names if (value := getattr(record, name, None)) is not None}


def _pairs_of_values(records: list[Record], rng: np.random.Generator) -> tuple[Pairs, Index]:
    """Outcomes or ratings of one prompt as comparisons of its items, the better one first."""
    rows = read_values(records)
    item, value = item_means(rows.item, rows.value)
    prompt_of = np.array(rows.items.prompt_of, dtype=np.intp)
    i, j = ranking.pairs_within(prompt_of[item], limit=PAIR_LIMIT, rng=rng)
    differ = value[i] != value[j]
    i, j = i[differ], j[differ]
    better = value[i] > value[j]
    a, b = np.where(better, item[i], item[j]), np.where(better, item[j], item[i])
    n = len(a)
    first = {int(k): number for number, k in reversed(list(enumerate(rows.item.tolist(), 1)))}
    row = np.array([first[int(k)] for k in a], dtype=np.intp)
    people = np.arange(n, dtype=np.intp)
    none = np.full((n, 2), np.nan)
    group = prompt_of[item]
    return Pairs(rows.items, a, b, np.zeros(n), np.ones(n), people, none, item, group, value, "value"), row
