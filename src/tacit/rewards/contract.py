"""What a reward is.

`Reward` is the heart of the project: fitting, audit, serving and tuning all score through it. Further abilities are
small protocols of their own. `check_reward` in `tacit.rewards.check` is this contract made executable.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

import numpy as np

from tacit.conversation import Completion, Prompt


@runtime_checkable
class Reward(Protocol):
    """A scalar reward r(x, y) for a completion y of a prompt x."""

    name: str

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores, shape (n,), float32, finite, higher is better.

        Deterministic, and row i depends on row i alone: not on its neighbours, the batch size or the order. For a
        reward that was fitted on preferences the unit is the logit: P(a preferred to b) = sigma(score(a) - score(b)).
        """
        ...


@runtime_checkable
class Uncertain(Protocol):
    """A reward with several members (an ensemble), whose spread says how sure it is."""

    def score_members(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores of each member, shape (members, n), float32; their mean over axis 0 is `score`."""
        ...


@runtime_checkable
class Saved(Protocol):
    """A reward that lives in a folder."""

    def save(self, folder: str | Path) -> None:
        """Write the folder atomically, without pickle."""
        ...

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read it back with equal scores; raises `ArtefactError` where that cannot be."""
        ...
