"""Boosted trees on text features, by LightGBM (the extra `boost`): for features whose meaning is not linear.

Three objectives, one for each kind of evidence:

- comparison: `classification`. Each response alone, 1 where it was chosen and 0 where it was rejected, 1/2 for a tie,
  by cross-entropy. Trees need no differences then, and the order is kept (order consistency, Sun, Shen and Ton 2024,
  arXiv 2411.04991): score differences become log-odds by a temperature fitted on held-out prompts.
- outcome: cross-entropy of the label; the score is its log-odds.
- rating: squared error; the score is in the unit of the ratings.

The number of trees is where the loss on held-out prompts is least. Saved as LightGBM's own text, never pickled.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tacit.conversation import Completion, Prompt
from tacit.errors import ArtefactError, EvidenceError, MissingExtra, TacitError, flags
from tacit.evidence.records import Record
from tacit.features import Encoder, FeatureStore, load_encoder
from tacit.rewards.encoding import encode
from tacit.rewards.examples import Examples, bootstrap_weights, collect
from tacit.rewards.fitting import check_features
from tacit.rewards.objectives import OBJECTIVES
from tacit.rewards.origin import Origin
from tacit.rewards.perceptron import validation_split
from tacit.rewards.saved_encoder import encoder_config, encoder_of
from tacit.rewards.saving import open_reward, read_origin, save_reward
from tacit.rewards.several import targets_of
from tacit.rewards.temperature import temperature_of

OBJECTIVE = {"comparison": "classification", "outcome": "outcome", "rating": "regression"}
"""The objective of each kind of evidence that trees are fitted on."""


@dataclass(frozen=True)
class BoostOptions:
    """How to boost."""

    objective: str = "auto"
    """`auto`, or the one of the kind of evidence: classification, outcome or regression."""
    trees: int = 1000
    """Most trees; the loss on held-out prompts says how many are kept."""
    leaves: int = 15
    """Most leaves of a tree."""
    shrinkage: float = 0.05
    """Step of each tree."""
    smallest: int = 20
    """Fewest responses in a leaf."""
    members: int = 1
    """Bootstrap members."""
    validation: float = 0.1
    """Share of blocks (prompts) held out to choose the number of trees and the temperature."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, bad in (
            ("trees", self.trees < 1),
            ("leaves", self.leaves < 2),
            ("shrinkage", not 0 < self.shrinkage <= 1),
            ("smallest", self.smallest < 1),
            ("members", self.members < 1),
            ("validation", not 0 < self.validation < 0.9),
        ):
            if bad:
                raise TacitError(f"option `{name}` is {getattr(self, name)!r}, outside its range")


@dataclass(eq=False)
class BoostedReward:
    """The mean over members of the trees' sum, divided by the temperature. `Reward`, `Uncertain` and `Saved`."""

    encoder: Encoder
    trees: list[Any]
    """A `lightgbm.Booster` for each member."""
    temperature: float = 1.0
    name: str = "boosted"
    report: dict[str, Any] = field(default_factory=dict)
    cache: Path | None = None
    origin: Origin | None = None
    """Small statistics of the features it was fitted on."""

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores (n,) float32."""
        result: np.ndarray = self.score_members(prompts, completions).mean(0)
        return result

    def score_members(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores of each member, (K, n) float32."""
        return self.score_features(encode(self.encoder, self.cache, prompts, completions))

    def score_features(self, features: np.ndarray) -> np.ndarray:
        """Scores of each member, (K, n) float32, from vectors (n, d) of this reward's encoder."""
        if not len(features):
            return np.zeros((len(self.trees), 0), np.float32)
        raw = np.stack([trees.predict(features, raw_score=True, num_threads=1) for trees in self.trees])
        return np.asarray(raw / self.temperature, np.float32)

    def save(self, folder: str | Path) -> None:
        """Write the folder atomically; a former reward there is replaced."""
        odds = "Score differences are log-odds: P(a preferred to b) = sigma(score(a) - score(b))."
        save_reward(
            folder,
            "boosted",
            self.name,
            config=encoder_config(self.encoder) | {"members": len(self.trees), "temperature": self.temperature},
            texts={_file(k): trees.model_to_string() for k, trees in enumerate(self.trees)},
            report=self.report,
            origin=self.origin,
            meaning=odds if self.report.get("kind") == "comparison" else "Higher is better.",
        )

    @classmethod
    def load(cls, folder: str | Path, *, cache: str | Path | None = None) -> BoostedReward:
        """Read it back; raises `ArtefactError` where it is damaged or its encoder has changed, and `MissingExtra`."""
        manifest, _ = open_reward(folder, "boosted")
        lightgbm = _lightgbm()
        trees = []
        for k in range(manifest["members"]):
            try:
                trees.append(lightgbm.Booster(model_str=(Path(folder) / _file(k)).read_text("utf-8")))
            except (OSError, UnicodeDecodeError, lightgbm.basic.LightGBMError) as error:
                raise ArtefactError(f"{Path(folder) / _file(k)} is damaged ({error}). Fit the reward again") from error
        return cls(
            encoder_of(manifest, folder),
            trees,
            manifest["temperature"],
            manifest["name"],
            manifest["report"],
            None if cache is None else Path(cache),
            read_origin(folder),
        )


def fit(
    evidence: Iterable[Record],
    *,
    encoder: str | Encoder = "auto",
    cache: str | Path | None = None,
    name: str = "boosted",
    **options: Any,
) -> BoostedReward:
    """Learn a reward by boosted trees from comparisons, outcomes or ratings; `options` are fields of `BoostOptions`.

    Raises `MissingExtra` without LightGBM, `TacitError` for an option and `EvidenceError` for evidence that do not fit.
    """
    start = time.perf_counter()
    if unknown := options.keys() - BoostOptions.__dataclass_fields__.keys():
        known = flags(BoostOptions.__dataclass_fields__)
        raise TacitError(f"model `boosted` has no fit option `{min(unknown)}`. Choose from: {known}")
    chosen = BoostOptions(**options)
    _lightgbm()
    source = getattr(evidence, "source", "memory")
    examples = collect(evidence, source)
    if examples.kind not in OBJECTIVE:
        raise EvidenceError(
            f"model `boosted` does not learn from {examples.kind}s",
            mend="Give comparisons, outcomes or ratings",
            source=source,
        )
    objective = OBJECTIVE[examples.kind]
    if chosen.objective not in ("auto", objective):
        raise TacitError(f"trees learn from {examples.kind}s by objective `{objective}`, not `{chosen.objective}`")
    encoder = load_encoder(encoder) if isinstance(encoder, str) else encoder
    features = FeatureStore(encoder, cache).features(examples.texts)
    check_features(features, examples)
    reward = BoostedReward(encoder, [], name=name, cache=None if cache is None else Path(cache))
    reward.trees, report = boost(features, examples, chosen)
    held = report.pop("held")
    said, weight = targets_of(examples)[held], torch.from_numpy(examples.weight)[held]
    raw = torch.from_numpy(reward.score_features(features).mean(0))[torch.from_numpy(examples.rows)[held]][None]
    reward.temperature = temperature_of(raw, said, weight, OBJECTIVES[objective])
    if examples.kind == "comparison":
        report["order_consistency"] = _order_consistency(raw[0].numpy(), examples.take(held.numpy()))
    reward.origin = Origin.of_examples(features, examples, seed=chosen.seed)
    reward.report = {
        "kind": examples.kind,
        "objective": objective,
        "options": asdict(chosen),
        "n_train": len(examples),
        "n_responses": len(examples.texts),
        **report,
        "temperature": reward.temperature,
        "seconds": time.perf_counter() - start,
    }
    return reward


def boost(features: np.ndarray, examples: Examples, options: BoostOptions) -> tuple[list[Any], dict[str, Any]]:
    """A booster for each member, and a report with `held`, the examples that chose the number of trees."""
    lightgbm = _lightgbm()
    rng = np.random.default_rng(options.seed)
    train, held = validation_split(examples, options.validation, rng)
    weights = examples.weight * bootstrap_weights(examples.blocks, options.members, rng)
    parameters = {
        "objective": "regression" if examples.kind == "rating" else "cross_entropy",
        "learning_rate": options.shrinkage,
        "num_leaves": options.leaves,
        "min_data_in_leaf": options.smallest,
        "seed": options.seed,
        "num_threads": torch.get_num_threads(),
        "deterministic": True,
        "force_row_wise": True,
        "verbose": -1,
    }
    boosters, losses = [], []
    for own in weights:
        sides = []
        for part in (train, held):
            rows, label, weight = responses(replace(examples.take(part), weight=own[part]))
            if not len(rows):  # a bootstrap that left the whole of it out
                rows, label, weight = responses(examples.take(part))
            sides.append(lightgbm.Dataset(features[rows], label, weight=weight, params={"verbose": -1}))
        log: dict[str, dict[str, list[float]]] = {}
        booster = lightgbm.train(
            parameters,
            sides[0],
            options.trees,
            valid_sets=[sides[1]],
            valid_names=["held"],
            callbacks=[lightgbm.early_stopping(50, verbose=False), lightgbm.record_evaluation(log)],
        )
        # Trees after the best one are dropped, so that what is saved is what scores.
        boosters.append(lightgbm.Booster(model_str=booster.model_to_string(num_iteration=booster.best_iteration)))
        losses.append(min(next(iter(log["held"].values()))))
    report = {
        "trees": [int(booster.num_trees()) for booster in boosters],
        "held_out_loss": float(np.mean(losses)),
        "n_validation": len(held),
        "held": torch.from_numpy(held),
    }
    return boosters, report


def responses(examples: Examples) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct responses (m,) with a positive weight, their weighted mean label (m,) and their weight (m,).

    Of a comparison the chosen side is labelled 1, the rejected 0, and both 1/2 in a tie. Cross-entropy and squared
    error are least for a response's many labels where they are least for the mean of them.
    """
    rows, target = examples.rows[:, 0], examples.target.astype(np.float64)
    weight = examples.weight.astype(np.float64)
    if examples.kind == "comparison":
        won = np.where(examples.tie, 0.5, 1.0)
        rows, target, weight = examples.rows.T.reshape(-1), np.r_[won, 1 - won], np.r_[weight, weight]
    seen, which = np.unique(rows, return_inverse=True)
    which = which.reshape(-1)
    total = np.bincount(which, weight, len(seen))
    mean = np.bincount(which, weight * target, len(seen)) / np.maximum(total, 1e-30)
    return seen[total > 0], mean[total > 0], total[total > 0]


def _order_consistency(raw: np.ndarray, held: Examples) -> float:
    """The share of held-out decided comparisons in which the chosen side scores higher; equal scores count a half."""
    right = (np.sign(raw[:, 0] - raw[:, 1]) + 1) / 2
    weight = held.weight * ~held.tie
    return float((right * weight).sum() / max(weight.sum(), 1e-12))


def _file(member: int) -> str:
    return f"trees.{member}.txt"


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError as error:
        raise MissingExtra("boost", "model `boosted`") from error
    lightgbm.register_logger(logging.getLogger("tacit.lightgbm"))  # what it would print is in its exceptions as well
    return lightgbm
