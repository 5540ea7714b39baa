"""Rewards made of rewards: weighted sums, gates and vetoes. Each is a `Reward`, so they nest.

Parts with several members keep them: with K the most members of any part, member k of the whole is made of member
k mod K_p of each part, or of the part's mean where K_p does not divide K. A part without members is the same in each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from tacit.conversation import Completion, Prompt, prompt_text
from tacit.errors import ArtefactError, TacitError
from tacit.rewards.contract import Reward, Saved
from tacit.rewards.inputs import require_rows
from tacit.rewards.saving import open_reward, save_reward
from tacit.rewards.scoring import member_scores
from tacit.rewards.verifiers.limits import check_pattern, pattern_found

Scale = Literal["none", "z", "logit", "log_sigmoid"]
Array = npt.NDArray[np.float64]
_EDGE = 1e-4
"""Probabilities are kept this far from 0 and 1, so that log-odds stay within 9.2."""


@dataclass(frozen=True)
class Part:
    """A part of a sum: weight * scale(r).

    - `none`: r as it is;
    - `z`: (r - mean) / std, so that weights compare parts of any unit;
    - `logit`: log(p / (1 - p)) of a score p in [0, 1], such as a verifier's or a judge's, clipped to [1e-4, 1 - 1e-4];
    - `log_sigmoid`: log sigma(r - mean), so that what one part lacks no other makes up for (Wang et al. 2024,
      arXiv 2402.00742, with `mean` as the reference value).
    """

    reward: Reward
    weight: float = 1.0
    scale: Scale = "none"
    mean: float | None = None
    """Of the part's scores on the data it was measured on; needed by z and log_sigmoid."""
    std: float | None = None
    """Likewise, needed by z."""

    def __post_init__(self) -> None:
        if self.scale not in get_args(Scale):
            raise TacitError(f"scale is {self.scale!r}. Choose one of: {', '.join(get_args(Scale))}")
        if not np.isfinite(self.weight):
            raise TacitError(f"weight is {self.weight}. Give a finite number")
        if self.std is not None and not self.std > 0:
            raise TacitError(f"std is {self.std}. Give a number above 0: a part that does not vary has no z-score")

    @property
    def measured(self) -> bool:
        """Whether the statistics that the scale needs are there."""
        return (self.mean is not None or self.scale not in ("z", "log_sigmoid")) and (
            self.std is not None or self.scale != "z"
        )

    def scaled(self, scores: Array) -> Array:
        """weight * scale(scores), any shape."""
        if self.scale == "logit":
            if scores.size and (scores.min() < 0 or scores.max() > 1):
                bad = scores.min() if scores.min() < 0 else scores.max()
                raise TacitError(f"part `{self.reward.name}` scores {bad:g}, outside [0, 1]: no logit. Scale it with z")
            p = np.clip(scores, _EDGE, 1 - _EDGE)
            scores = np.log(p) - np.log1p(-p)
        elif self.scale != "none":
            if not self.measured:
                raise TacitError(
                    f"part `{self.reward.name}` has scale {self.scale} and was not measured. Give its mean and std, or"
                    " measure the parts with `tacit combine RECIPE --data DATA --out DIR`"
                )
            centred = scores - float(self.mean or 0.0)
            scores = centred / float(self.std or 1.0) if self.scale == "z" else -np.logaddexp(0.0, -centred)
        return self.weight * scores


class _Combined:
    """What sums, gates and vetoes share: scores from members, members (K, n) in float64 from `_members`."""

    name: str

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores (n,) float32; raises `TacitError` where there are not as many prompts as completions."""
        result: np.ndarray = self.score_members(prompts, completions).mean(0)
        return result

    def score_members(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores by each member, (K, n) float32; see this module for how members of parts meet."""
        require_rows(prompts, completions)
        return self._members(prompts, completions).astype(np.float32)

    def _members(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> Array:
        raise NotImplementedError

    def _save(
        self, folder: str | Path, kind: str, config: Mapping[str, Any], parts: Mapping[str, Reward], meaning: str
    ) -> None:
        saved: dict[str, Saved] = {}
        for place, part in parts.items():
            if not isinstance(part, Saved):
                raise ArtefactError(f"part `{part.name}` cannot be saved, so neither can the whole")
            saved[place] = part
        save_reward(folder, kind, self.name, config=config, parts=saved, meaning=meaning)


@dataclass(eq=False)
class WeightedSum(_Combined):
    """r(x, y) = sum over parts of weight_p * scale_p(r_p(x, y))."""

    parts: Sequence[Part]
    name: str = "sum"

    def __post_init__(self) -> None:
        if not self.parts:
            raise TacitError("a sum has no parts. Give at least one")

    def _members(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> Array:
        scored = [part.scaled(members_of(part.reward, prompts, completions)) for part in self.parts]
        most = max(map(len, scored))
        total: Array = np.sum([spread_members(scores, most) for scores in scored], axis=0)
        return total

    def measured(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> WeightedSum:
        """The same sum with the mean and standard deviation of its parts' scores on these rows.

        Statistics that were given stay. Raises `TacitError` for a part with scale z whose scores do not vary.
        """
        parts = []
        for part in self.parts:
            if not part.measured:
                scores = part.reward.score(prompts, completions).astype(np.float64)
                std = float(scores.std())
                if part.scale == "z" and not std > 1e-6 * float(np.abs(scores).max(initial=0.0)):
                    raise TacitError(
                        f"part `{part.reward.name}` scores {scores[0]:g} on every row: no z-score. Drop it"
                    )
                part = replace(
                    part,
                    mean=float(scores.mean()) if part.mean is None else part.mean,
                    std=std if part.scale == "z" and part.std is None else part.std,
                )
            parts.append(part)
        return WeightedSum(parts, self.name)

    def save(self, folder: str | Path) -> None:
        """Write reward.json, a model card, and each part in a folder inside, atomically."""
        config = [{"weight": p.weight, "scale": p.scale, "mean": p.mean, "std": p.std} for p in self.parts]
        parts = {f"part-{i}": part.reward for i, part in enumerate(self.parts)}
        terms = " + ".join(f"{p.weight:g} {p.scale if p.scale != 'none' else ''}({p.reward.name})" for p in self.parts)
        self._save(folder, "sum", {"parts": config}, parts, f"The sum {terms}.")

    @classmethod
    def load(cls, folder: str | Path, *, cache: str | Path | None = None) -> Self:
        """Read a saved folder with its parts."""
        manifest, _ = open_reward(folder, "sum")
        return cls(
            [Part(_part(folder, f"part-{i}", cache), **options) for i, options in enumerate(manifest["parts"])],
            manifest["name"],
        )


@dataclass(frozen=True)
class PromptCondition:
    """Holds where a regular expression is found in the text of the prompt."""

    pattern: str

    def __post_init__(self) -> None:
        check_pattern(self.pattern)

    def holds(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> npt.NDArray[np.bool_]:
        """(n,) bool; raises `TacitError` naming a pattern that takes too long."""
        return np.array([pattern_found(self.pattern, prompt_text(prompt)) for prompt in prompts], dtype=bool)


@dataclass(frozen=True)
class ScoreCondition:
    """Holds where another reward scores `above` or more."""

    reward: Reward
    above: float = 0.5

    def holds(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> npt.NDArray[np.bool_]:
        """(n,) bool."""
        result: npt.NDArray[np.bool_] = self.reward.score(prompts, completions) >= self.above
        return result


@dataclass(eq=False)
class Gate(_Combined):
    """r(x, y) = then(x, y) where the condition holds, otherwise(x, y) elsewhere; each scores its own rows alone."""

    when: PromptCondition | ScoreCondition
    then: Reward
    otherwise: Reward
    name: str = "gate"

    def _members(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> Array:
        holds = self.when.holds(prompts, completions)
        sides = []
        for reward, rows in ((self.then, np.flatnonzero(holds)), (self.otherwise, np.flatnonzero(~holds))):
            sides.append(
                (rows, members_of(reward, [prompts[int(i)] for i in rows], [completions[int(i)] for i in rows]))
            )
        most = max(len(scores) for _, scores in sides)
        result = np.empty((most, len(prompts)))
        for rows, scores in sides:
            result[:, rows] = spread_members(scores, most)
        return result

    def save(self, folder: str | Path) -> None:
        """Write reward.json, a model card, and each part in a folder inside, atomically."""
        parts = {"then": self.then, "otherwise": self.otherwise}
        if isinstance(self.when, PromptCondition):
            config: dict[str, Any] = {"prompt": self.when.pattern}
        else:
            config, parts["when"] = {"above": self.when.above}, self.when.reward
        meaning = f"Reward `{self.then.name}` where the condition holds, `{self.otherwise.name}` elsewhere."
        self._save(folder, "gate", {"when": config}, parts, meaning)

    @classmethod
    def load(cls, folder: str | Path, *, cache: str | Path | None = None) -> Self:
        """Read a saved folder with its parts."""
        manifest, _ = open_reward(folder, "gate")
        when = manifest["when"]
        condition = (
            PromptCondition(when["prompt"])
            if "prompt" in when
            else ScoreCondition(_part(folder, "when", cache), when["above"])
        )
        return cls(condition, _part(folder, "then", cache), _part(folder, "otherwise", cache), manifest["name"])


@dataclass(eq=False)
class Veto(_Combined):
    """r(x, y) where `unless` scores `above` or more, min(r(x, y), floor) elsewhere: a veto never raises a score."""

    of: Reward
    unless: Reward
    floor: float
    above: float = 0.5
    name: str = "veto"

    def _members(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> Array:
        passes = ScoreCondition(self.unless, self.above).holds(prompts, completions)
        scores = members_of(self.of, prompts, completions)
        return np.where(passes, scores, np.minimum(scores, self.floor))

    def save(self, folder: str | Path) -> None:
        """Write reward.json, a model card, and both parts in folders inside, atomically."""
        meaning = f"Reward `{self.of.name}`, at most {self.floor:g} where `{self.unless.name}` is below {self.above:g}."
        config = {"floor": self.floor, "above": self.above}
        self._save(folder, "veto", config, {"of": self.of, "unless": self.unless}, meaning)

    @classmethod
    def load(cls, folder: str | Path, *, cache: str | Path | None = None) -> Self:
        """Read a saved folder with both parts."""
        manifest, _ = open_reward(folder, "veto")
        of, unless = _part(folder, "of", cache), _part(folder, "unless", cache)
        return cls(of, unless, manifest["floor"], manifest["above"], manifest["name"])


def members_of(reward: Reward, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> Array:
    """Scores by each member, (members, n) float64; one row where a reward has no members."""
    mean, members = member_scores(reward, prompts, completions)
    return (mean[None] if members is None else members).astype(np.float64)


def spread_members(scores: Array, most: int) -> Array:
    """Scores (k, n) as (most, n): repeated where k divides `most`, else the mean in every row."""
    if most % len(scores):
        return np.broadcast_to(scores.mean(0), (most, scores.shape[1]))
    return np.tile(scores, (most // len(scores), 1))


def measure_parts(reward: Reward, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> Reward:
    """The same reward with every sum inside it measured on these rows (`WeightedSum.measured`), innermost first."""

    def inside(part: Reward) -> Reward:
        return measure_parts(part, prompts, completions)

    if isinstance(reward, WeightedSum):
        parts = [replace(part, reward=inside(part.reward)) for part in reward.parts]
        return WeightedSum(parts, reward.name).measured(prompts, completions)
    if isinstance(reward, Gate):
        when = reward.when
        when = replace(when, reward=inside(when.reward)) if isinstance(when, ScoreCondition) else when
        return Gate(when, inside(reward.then), inside(reward.otherwise), reward.name)
    if isinstance(reward, Veto):
        return Veto(inside(reward.of), inside(reward.unless), reward.floor, reward.above, reward.name)
    return reward


def _part(folder: str | Path, place: str, cache: str | Path | None) -> Reward:
    from tacit.rewards import load

    return load(Path(folder) / place, cache=cache)
