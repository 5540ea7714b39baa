"""What a reward is.

`Reward` is the heart of the project: fitting, audit, serving and tuning all score through it. Further abilities are
small protocols of their own. `check_reward` in `tacit.rewards.check` is this contract made executable.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from tacit.conversation import Completion, Prompt
from tacit.evidence.records import Comparison


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
class Doubting(Protocol):
    """A reward that may know the posterior of its last layer, and with it how well a score is determined."""

    @property
    def doubts(self) -> bool:
        """Whether it does."""
        ...

    def score_deviation(
        self, prompts: Sequence[Prompt], completions: Sequence[Completion]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores and their posterior standard deviations, each (n,) float32."""
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


@runtime_checkable
class FittedReward(Reward, Protocol):
    """A reward that was learnt from evidence: it can be saved, and says how it was fitted."""

    report: dict[str, Any]
    """At least `kind`, `n_train` and `seconds`."""

    def save(self, folder: str | Path) -> None:
        """Write the folder atomically, without pickle."""
        ...


@runtime_checkable
class Comparing(Protocol):
    """A reward that looks at two completions at once, and whose preferences need not be transitive."""

    def compare(
        self, prompts: Sequence[Prompt], first: Sequence[Completion], second: Sequence[Completion]
    ) -> np.ndarray:
        """Log-odds (n,) float32 that the first completion is preferred; exchanging the two changes the sign alone."""
        ...


@runtime_checkable
class BothOrders(Protocol):
    """A reward that asks somebody who is shown two completions at once, and asks in either order."""

    def both_orders(
        self, prompts: Sequence[Prompt], first: Sequence[Completion], second: Sequence[Completion]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log-odds (n,) for the side shown as A, with the first completion as A, and with the second one as A."""
        ...


@runtime_checkable
class Detailed(Protocol):
    """A reward whose score has parts, or company, worth seeing beside it."""

    def details(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> dict[str, np.ndarray]:
        """Named numbers for each row, (n,) each, under the demands that `score` meets."""
        ...


@runtime_checkable
class StepLevel(Protocol):
    """A reward that judges every step of a solution."""

    def score_steps(self, prompts: Sequence[Prompt], solutions: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Scores of each step, one (steps,) float32 for each solution; step t depends on the prompt and steps 1..t."""
        ...


@runtime_checkable
class PrefixLevel(Protocol):
    """A reward that has learnt what unfinished completions are worth, as decoding that it guides needs."""

    def score_prefixes(self, prompts: Sequence[Prompt], prefixes: Sequence[Completion]) -> np.ndarray:
        """Scores (n,) float32 of unfinished completions, comparable between those of equal length."""
        ...


@runtime_checkable
class Personal(Protocol):
    """A reward that can be made one person's own."""

    def adapt(self, comparisons: Sequence[Comparison]) -> Reward:
        """The reward of the person who made these comparisons."""
        ...
