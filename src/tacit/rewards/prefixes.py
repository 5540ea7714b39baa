"""Prefix rewards: what an unfinished completion is worth, for decoding that is guided token by token.

Bradley-Terry on whole completions says nothing of prefixes. Rashid et al. 2024 (PARGS, arXiv 2406.07780) fit it on all
pairs of prefixes of equal length,

    L = -sum over comparisons sum_{i = 1..m} w/m log sigma(r(x, y+_{1..i}) - r(x, y-_{1..i})),

m the length of the shorter side. Here lengths are counted in words, every `stride` of them makes a prefix, the two
whole completions are a pair as well, and each comparison weighs w in all, however long it is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tacit.conversation import Completion, Prompt, completion_text
from tacit.errors import EvidenceError, TacitError
from tacit.evidence.records import Comparison, Record
from tacit.features import Encoder
from tacit.rewards.feature_reward import FeatureReward
from tacit.rewards.feature_reward import fit as fit_features
from tacit.rewards.saving import open_reward, save_reward

_WORD = re.compile(r"\S+")
_INNER = "prefix"


@dataclass(eq=False)
class PrefixReward:
    """r(x, y_1..t): the same reward for whole and for unfinished completions, whose differences are log-odds.

    Satisfies `Reward`, `Uncertain`, `PrefixLevel` and `Saved`.
    """

    prefix: FeatureReward
    name: str = "prefix"
    report: dict[str, Any] = field(default_factory=dict)

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores (n,) float32."""
        return self.prefix.score(prompts, completions)

    def score_members(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores of each member, (K, n) float32."""
        return self.prefix.score_members(prompts, completions)

    def score_prefixes(self, prompts: Sequence[Prompt], prefixes: Sequence[Completion]) -> np.ndarray:
        """Scores (n,) float32 of unfinished completions; compare those of equal length."""
        return self.prefix.score(prompts, prefixes)

    def save(self, folder: str | Path) -> None:
        """Write reward.json, a model card and the reward of features in a folder inside, atomically."""
        save_reward(
            folder,
            "prefix",
            self.name,
            config={},
            parts={_INNER: self.prefix},
            report=self.report,
            meaning="Score differences of prefixes of equal length are log-odds that people prefer the first.",
        )

    @classmethod
    def load(cls, folder: str | Path, *, cache: str | Path | None = None) -> PrefixReward:
        """Read a saved folder; raises `ArtefactError` as `FeatureReward.load` does."""
        manifest, _ = open_reward(folder, "prefix")
        return cls(FeatureReward.load(Path(folder) / _INNER, cache=cache), manifest["name"], manifest["report"])


def fit(
    evidence: Iterable[Record],
    *,
    encoder: str | Encoder = "auto",
    cache: str | Path | None = None,
    name: str = "prefix",
    seed: int = 0,
    stride: int = 8,
    **options: Any,
) -> PrefixReward:
    """Learn a prefix reward from comparisons; `options` are those of `FitOptions`.

    `stride` is the number of words between prefixes; 1 takes all, and costs an encoding each.
    """
    start = time.perf_counter()
    source = getattr(evidence, "source", "memory")
    count = 0

    def pairs() -> Iterable[Record]:
        nonlocal count
        for count, record in enumerate(evidence, 1):
            if not isinstance(record, Comparison):
                raise EvidenceError(
                    f"a prefix reward is fitted on comparisons, not on {record.plural()}",
                    mend="Give rows with `prompt`, `chosen` and `rejected`",
                    source=source,
                    row=count,
                )
            yield from prefix_pairs(record, stride)

    inner = fit_features(list(pairs()), encoder=encoder, cache=cache, name=name, seed=seed, **options)
    pairs_fitted = inner.report["n_train"]
    report = {**inner.report, "n_train": count, "n_prefix_pairs": pairs_fitted, "stride": stride}
    report["seconds"] = time.perf_counter() - start
    return PrefixReward(inner, name, report)


def prefix_pairs(record: Comparison, stride: int = 8) -> list[Comparison]:
    """The pairs of prefixes of a comparison, equally long in words, and the pair itself; weights add up to its own.

    Pairs of equal prefixes, which tell nothing, are left out.
    """
    if stride < 1:
        raise TacitError(f"option `stride` is {stride}. Give 1 word or more")
    chosen, rejected = completion_text(record.chosen), completion_text(record.rejected)
    a, b = ([match.end() for match in _WORD.finditer(text)] for text in (chosen, rejected))
    short = [(chosen[: a[i]], rejected[: b[i]]) for i in range(stride - 1, min(len(a), len(b)), stride)]
    sides = [(c, r) for c, r in short if c != r and (c, r) != (chosen, rejected)]
    weight = record.weight / (len(sides) + 1)
    cut = [record.model_copy(update={"chosen": c, "rejected": r, "weight": weight}) for c, r in sides]
    return [*cut, record.model_copy(update={"weight": weight})]
