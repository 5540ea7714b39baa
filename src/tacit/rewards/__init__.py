"""Rewards: the contract, how one is learnt, and how it is read back."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tacit.errors import ArtefactError, TacitError

if TYPE_CHECKING:
    from tacit.evidence.records import Record
    from tacit.rewards.contract import FittedReward, Reward
    from tacit.rewards.feature_reward import FeatureReward

__all__ = ["FeatureReward", "fit", "load"]

MODELS = {
    "scalar": "tacit.rewards.feature_reward:fit",
}
"""What `fit` can learn: a function from evidence and options to a `FittedReward` each."""

TYPES = {
    "feature": "tacit.rewards.feature_reward:FeatureReward",
}
"""What `load` can read: a class with `load(folder, cache=)` for each type that a reward.json may name."""


def fit(evidence: Iterable[Record], *, model: str = "scalar", **options: Any) -> FittedReward:
    """Learn a reward from evidence.

    `model` says what is learnt (`tacit fit --help` describes each); the options are those of its own `fit`, for
    `scalar` the ones of `tacit.rewards.feature_reward.fit`. Raises `TacitError` for an unknown model.
    """
    if model not in MODELS:
        raise TacitError(f"no model `{model}`. Choose one of: {', '.join(MODELS)}")
    learnt: FittedReward = _named(MODELS[model])(evidence, **options)
    return learnt


def load(path: str | Path, *, cache: str | Path | None = None) -> Reward:
    """Read a saved reward of any type; `cache` is a folder of encoded texts that it may use.

    Raises `ArtefactError` where the folder is missing, damaged or from a newer version.
    """
    from tacit.artefacts import read_manifest

    kind = read_manifest(path).get("type")
    if kind not in TYPES:
        raise ArtefactError(f"{path} holds a reward of type {kind!r}. Upgrade tacit to read it")
    reward: Reward = _named(TYPES[kind]).load(path, cache=cache)
    return reward


def _named(place: str) -> Any:
    module, name = place.split(":")
    return getattr(import_module(module), name)


def __getattr__(name: str) -> Any:
    if name == "FeatureReward":
        return _named(TYPES["feature"])
    raise AttributeError(f"module 'tacit.rewards' has no attribute {name!r}")
