"""Evidence as arrays: every distinct (prompt, completion) is an item with a number, and rows refer to items."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from tacit.audit.bootstrap import Array, Clusters, Index, ratio
from tacit.conversation import Completion, Prompt, texts
from tacit.errors import TacitError
from tacit.evidence.records import Comparison, Outcome, Ranking, Rating, Record
from tacit.rewards.contract import Comparing, Reward
from tacit.rewards.scoring import require_scores

_PROMPT, _ANNOTATOR, _ITEM = 0, 1, 2


@dataclass
class Items:
    """Distinct (prompt, completion) texts in order of first appearance, and the numbers given to names."""

    prompts: list[Prompt] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    prompt_of: list[int] = field(default_factory=list)
    _index: dict[tuple[str, str], int] = field(default_factory=dict)
    _names: dict[tuple[int, str], int] = field(default_factory=dict)
    _counts: dict[int, int] = field(default_factory=dict)
    _annotators: set[str] = field(default_factory=set)

    def add(self, prompt: Prompt, completion: Completion) -> int:
        """The number of this item; the same texts always get the same one."""
        key = texts(prompt, completion)
        found = self._index.setdefault(key, len(self.prompts))
        if found == len(self.prompts):
            self.prompts.append(prompt)
            self.completions.append(completion)
            self.lengths.append(len(key[1]))
            self.prompt_of.append(self.name(_PROMPT, key[0]))
        return found

    def name(self, table: int, text: str) -> int:
        """A number for a name, counted from 0 in each table."""
        number = self._names.setdefault((table, text), self._counts.get(table, 0))
        self._counts[table] = max(self._counts.get(table, 0), number + 1)
        return number

    def annotator(self, record: Any, row: int) -> int:
        """The person's number; a row without one is a person of its own."""
        if record.annotator is None:
            return self.name(_ANNOTATOR, f"\0{row}")
        self._annotators.add(record.annotator)
        return self.name(_ANNOTATOR, record.annotator)

    @property
    def annotators(self) -> int:
        """How many people are named."""
        return len(self._annotators)

    @property
    def texts(self) -> list[tuple[str, str]]:
        """Prompt and completion of every item as text, in order: what an encoder takes."""
        return list(self._index)

    @property
    def promptless(self) -> bool:
        """Whether no item has a prompt."""
        return all(not texts(prompt, "")[0] for prompt in self.prompts)

    @property
    def one_prompt(self) -> bool:
        """Whether all items have the same prompt, or none: folds and resamples then go by item."""
        return max(self.prompt_of, default=0) == 0

    def score(self, reward: Reward) -> Array:
        """The reward of every item, (items,), each scored once."""
        scores = np.asarray(reward.score(self.prompts, self.completions), dtype=np.float64)
        require_scores(reward.name, scores, self.completions)
        return scores


@dataclass
class Pairs:
    """Comparisons: a was preferred to b (or tied), n rows of numbers of items and people."""

    items: Items
    a: Index
    b: Index
    tie: Array
    weight: Array
    annotator: Index
    gold: Array
    """(n, 2) gold scores of a and b, nan where absent."""
    target_item: Index
    target_group: Index
    target: Array
    """What people said of each item: rows (item, group within which to rank, value)."""
    against: str
    first: Array | None = None
    """(n,) 1 where a was shown first, 0 where b was, nan where nobody noted it; None for other kinds of evidence."""

    def forecast(self, reward: Reward, scores: Array) -> Array:
        """Log-odds (n,) that a is preferred to b: differences of `scores` (items,), or, of a reward that looks at two
        completions of one prompt at once (`Comparing`), what it says of the two."""
        delta: Array = scores[self.a] - scores[self.b]
        if not isinstance(reward, Comparing):
            return delta
        prompt_of = np.array(self.items.prompt_of, dtype=np.intp)
        both, inverse = np.unique(np.stack([self.a, self.b], axis=1), axis=0, return_inverse=True)
        same = prompt_of[both[:, 0]] == prompt_of[both[:, 1]]
        asked = both[same].tolist()
        odds = reward.compare(
            [self.items.prompts[i] for i, _ in asked],
            [self.items.completions[i] for i, _ in asked],
            [self.items.completions[j] for _, j in asked],
        )
        if odds.shape != (len(asked),) or not np.isfinite(odds).all():
            raise TacitError(
                f"reward `{reward.name}` gave log-odds that are not finite, or not one a comparison. Fit it again"
            )
        found = np.full(len(both), np.nan)
        found[same] = odds
        found = found[inverse.reshape(-1)]
        return np.where(np.isfinite(found), found, delta)


def read_pairs(evidence: Iterable[Record]) -> Pairs:
    """Comparisons, and rankings as all pairs of their completions, as arrays."""
    items = Items()
    rows: list[tuple[float, ...]] = []
    ranked: list[tuple[int, int, float]] = []
    for number, record in enumerate(evidence):
        if isinstance(record, Comparison):
            extra = record.model_extra or {}
            second_prompt = record.prompt if record.rejected_prompt is None else record.rejected_prompt
            better, worse = items.add(record.prompt, record.chosen), items.add(second_prompt, record.rejected)
            truth = (_number(extra.get("gold_chosen")), _number(extra.get("gold_rejected")))
            shown = np.nan if record.chosen_first is None else float(record.chosen_first)
            rows.append((better, worse, record.tie, record.weight, items.annotator(record, number), *truth, shown))
        elif isinstance(record, Ranking):
            found = [items.add(record.prompt, completion) for completion in record.completions]
            person = items.annotator(record, number)
            ranked.extend((i, number, -float(rank)) for i, rank in zip(found, record.ranks, strict=True))
            for (i, rank_i), (j, rank_j) in combinations(zip(found, record.ranks, strict=True), 2):
                better, worse = (i, j) if rank_i <= rank_j else (j, i)
                rows.append((better, worse, rank_i == rank_j, 1.0, person, np.nan, np.nan, np.nan))
    table = np.array(rows, dtype=np.float64).reshape(-1, 8)
    a, b = table[:, 0].astype(np.intp), table[:, 1].astype(np.intp)
    gold = table[:, 5:7]
    prompt_of = np.array(items.prompt_of, dtype=np.intp)
    if ranked:
        listed = np.array(ranked, dtype=np.float64)
        item, group, value = listed[:, 0].astype(np.intp), listed[:, 1].astype(np.intp), listed[:, 2]
        against = "ranks"
    else:
        both, known = np.r_[a, b], np.isfinite(gold).T.ravel()
        if known.any():
            item, value = item_means(both[known], gold.T.ravel()[known])
            against = "gold"
        else:
            won = np.where(table[:, 2] > 0, 0.5, 1.0)
            item, value = item_means(both, np.r_[won, 1 - won], np.r_[table[:, 3], table[:, 3]])
            against = "win_share"
        group = prompt_of[item]
    who, first = table[:, 4].astype(np.intp), None if ranked else table[:, 7]
    return Pairs(items, a, b, table[:, 2], table[:, 3], who, gold, item, group, value, against, first)


def pair_clusters(pairs: Pairs, prompt_of: Index) -> Clusters:
    """What stands and falls together: prompts (both, where they differ) or, where there is one prompt or none, both
    items; and people where any is named."""
    if pairs.items.one_prompt:
        factors, tables = [pairs.a, pairs.b], [_ITEM, _ITEM]
    else:
        first, second = prompt_of[pairs.a], prompt_of[pairs.b]
        factors, tables = [first], [_PROMPT]
        if (first != second).any():
            factors, tables = [first, np.where(first == second, -1, second)], [_PROMPT, _PROMPT]
    if people(pairs.items, pairs.annotator) is not None:
        factors, tables = [*factors, pairs.annotator], [*tables, _ANNOTATOR]
    return Clusters.of(*factors, tables=tables)


def people(items: Items, person: Index) -> Index | None:
    """The people as a factor, or None where nobody is named or every row is a person of its own, which tells nothing,
    and where one person made all rows: intervals then speak of that person alone."""
    return person if items.annotators and 1 < len(np.unique(person)) < len(person) else None


def resampled(items: Items, person: Index) -> str:
    """What the intervals resample, in words."""
    return ("item" if items.one_prompt else "prompt") + (" and annotator" if people(items, person) is not None else "")


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def item_means(item: Index, value: Array, weight: Array | None = None) -> tuple[Index, Array]:
    """Distinct items (m,) and the weighted mean of their values (m,); items without weight are left out."""
    weights = np.ones(len(item)) if weight is None else weight
    seen, which = np.unique(item, return_inverse=True)
    which = which.reshape(-1)
    means = ratio(np.bincount(which, weights * value, len(seen)), np.bincount(which, weights, len(seen)))
    return seen[np.isfinite(means)], means[np.isfinite(means)]


@dataclass
class Values:
    """Rows of outcomes or ratings: items, (n,) item, person and value, and per attribute its rows (item, value)."""

    items: Items
    item: Index
    annotator: Index
    value: Array
    attributes: dict[str, tuple[Index, Array]]


def read_values(evidence: Iterable[Record]) -> Values:
    """Outcomes (1 or 0) and ratings (a number, or the mean of the attributes that were rated) as arrays."""
    items = Items()
    rows: list[tuple[int, int, float]] = []
    by_attribute: dict[str, list[tuple[int, float]]] = {}
    for number, record in enumerate(evidence):
        if isinstance(record, Outcome):
            rows.append((items.add(record.prompt, record.completion), items.annotator(record, number), record.label))
        elif isinstance(record, Rating):
            item = items.add(record.prompt, record.completion)
            if isinstance(record.score, dict):
                given = {name: value for name, value in record.score.items() if value is not None}
                for name, value in given.items():
                    by_attribute.setdefault(name, []).append((item, value))
                if not given:
                    continue
                overall = sum(given.values()) / len(given)
            else:
                overall = record.score
            rows.append((item, items.annotator(record, number), overall))
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)
    attributes = {
        name: (np.array([i for i, _ in given], dtype=np.intp), np.array([v for _, v in given], dtype=np.float64))
        for name, given in sorted(by_attribute.items())
    }
    return Values(items, table[:, 0].astype(np.intp), table[:, 1].astype(np.intp), table[:, 2], attributes)
