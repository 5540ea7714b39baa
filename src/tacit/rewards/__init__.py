"""Rewards: the contract, how one is learnt, and how it is read back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tacit.rewards.contract import Reward
    from tacit.rewards.feature_reward import FeatureReward, fit

__all__ = ["FeatureReward", "fit", "load"]


def load(folder: str | Path, *, cache: str | Path | None = None) -> Reward:
    """Read a saved reward of any type; `cache` is a folder of encoded texts that it may use.

    Raises `ArtefactError` where the folder is missing, damaged or from a newer version.
    """
    from tacit.rewards.feature_reward import FeatureReward

    return FeatureReward.load(folder, cache=cache)


def __getattr__(name: str) -> Any:
    if name in ("FeatureReward", "fit"):
        from tacit.rewards import feature_reward

        return getattr(feature_reward, name)
    raise AttributeError(f"module 'tacit.rewards' has no attribute {name!r}")
