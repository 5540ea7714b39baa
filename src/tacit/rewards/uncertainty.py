"""What to make of a reward that is not sure: readings of members, and a reward that counts what it doubts.

Choosing the best of many by a learnt reward favours what the reward overrates; a pessimistic reading takes the doubt
off first. Of member scores R (members, n), with the strength in brackets:

    none       mean_k R_k
    min        min_k R_k                                     worst case, WCO
    variance   mean_k R_k - lambda * mean_k (R_k - mean R)^2 (lambda = .5), UWO
    quantile   the q-quantile over members (q = .1)
    laplace    mean_k R_k - lambda * sd                      (lambda = 1), sd of the last layer's posterior

WCO and UWO are Coste et al. 2024 (arXiv 2310.02743; lambda .5 for best-of-n and .1 for PPO); the posterior is that of
`tacit.rewards.laplace`. Members of a reward that was learnt from preferences each have their zero at the mean of the
fitted responses, so that their scores can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from tacit.artefacts import atomic_directory, read_manifest, write_json
from tacit.conversation import Completion, Prompt
from tacit.errors import ArtefactError, TacitError
from tacit.rewards.contract import Detailed, Doubting, Reward, Saved, Uncertain
from tacit.rewards.saving import seal_of

How = Literal["none", "min", "variance", "quantile", "laplace"]
STRENGTHS: dict[str, float] = {"variance": 0.5, "quantile": 0.1, "laplace": 1.0}
"""The strength of each reading that has one, where none is given."""
OF_MEMBERS = ("min", "variance", "quantile")


def read_members(members: npt.ArrayLike, how: How = "none", strength: float | None = None) -> np.ndarray:
    """Scores (n,) from member scores (members, n), by a reading of this module's table other than `laplace`.

    Raises `TacitError` for an unknown reading, a strength out of range, and one member where several are needed.
    """
    values = np.asarray(members)
    amount = checked_strength(how, strength)
    if how == "laplace":
        raise TacitError("`laplace` reads the posterior of the last layer, not members. Use below(scores, sd)")
    if how != "none" and len(values) < 2:
        raise TacitError(_one_member(how))
    match how:
        case "none":
            read = values.mean(0)
        case "min":
            read = values.min(0)
        case "variance":
            read = values.mean(0) - amount * values.var(0)
        case "quantile":
            read = np.quantile(values, amount, axis=0)
    result: np.ndarray = np.asarray(read, dtype=values.dtype)
    return result


def below(scores: npt.ArrayLike, deviation: npt.ArrayLike, strength: float | None = None) -> np.ndarray:
    """scores - lambda * deviation, each (n,)."""
    amount = checked_strength("laplace", strength)
    return np.asarray(np.asarray(scores) - amount * np.asarray(deviation), dtype=np.asarray(scores).dtype)


def moderated(difference: npt.ArrayLike, variance: npt.ArrayLike) -> np.ndarray:
    """P(a preferred to b) with the doubt about the difference d ~ N(d, v) averaged over, (n,).

    E sigma(d) is about sigma(d / sqrt(1 + pi v / 8)) (MacKay 1992, "The evidence framework applied to classification
    networks", equation 10), within .02 for every d and v: never further from 1/2 than sigma(d).
    """
    logit = moderated_logit(difference, variance)
    small = np.exp(-np.abs(logit))
    result: np.ndarray = np.where(logit >= 0, 1.0, small) / (1.0 + small)
    return result


def moderated_logit(difference: npt.ArrayLike, variance: npt.ArrayLike) -> np.ndarray:
    """d / sqrt(1 + pi v / 8), the log-odds of `moderated`, (n,)."""
    d, v = np.asarray(difference, np.float64), np.asarray(variance, np.float64)
    return np.asarray(d / np.sqrt(1 + math.pi / 8 * v))


def checked_strength(how: str, strength: float | None) -> float:
    """The strength of a reading, its default where none is given; raises `TacitError` where it is out of range."""
    if how not in get_args(How):
        raise TacitError(f"no pessimism `{how}`. Choose one of: {', '.join(get_args(How))}")
    if strength is None:
        return STRENGTHS.get(how, 0.0)
    if how not in STRENGTHS:
        raise TacitError(
            f"--pessimism {how} takes no --pessimism-strength (found {strength}). Those that do: {', '.join(STRENGTHS)}"
        )
    high = 1.0 if how == "quantile" else math.inf
    if not (0 <= strength <= high and math.isfinite(strength)):
        raise TacitError(f"a strength of {strength} for `{how}` lies outside 0..{high}")
    return strength


class Pessimistic:
    """A reward read with pessimism: itself a `Reward`, and `Saved` as the inner reward with one entry more.

    `how` is a reading of this module and `strength` its parameter. Raises `TacitError` at once where the inner reward
    cannot be read so: it has one member, or no posterior.
    """

    def __init__(self, reward: Reward, how: How, strength: float | None = None) -> None:
        self.inner, self.how, self.strength = reward, how, checked_strength(how, strength)
        members = getattr(reward, "members", None)
        if how in OF_MEMBERS and (not isinstance(reward, Uncertain) or members == 1):
            raise TacitError(_one_member(how))
        if how == "laplace" and not (isinstance(reward, Doubting) and reward.doubts):
            raise TacitError(
                f"reward `{reward.name}` has no posterior of its last layer. Fit it again with --laplace, or read "
                f"members with one of: {', '.join(OF_MEMBERS)}"
            )

    @property
    def name(self) -> str:
        """The inner reward's name."""
        return self.inner.name

    @property
    def report(self) -> dict[str, Any]:
        """The inner reward's report, and `pessimism`."""
        return {**getattr(self.inner, "report", {}), "pessimism": {"how": self.how, "strength": self.strength}}

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Pessimistic scores (n,) float32."""
        return self.score_with_members(prompts, completions)[0]

    def score_with_members(
        self, prompts: Sequence[Prompt], completions: Sequence[Completion]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Pessimistic scores (n,), and the members' own (members, n) where they were looked at."""
        given = None if self.how not in STRENGTHS else self.strength
        if self.how == "laplace" and isinstance(self.inner, Doubting):
            return below(*self.inner.score_deviation(prompts, completions), given), None
        if not isinstance(self.inner, Uncertain):
            return self.inner.score(prompts, completions), None
        members = self.inner.score_members(prompts, completions)
        return read_members(members, self.how, given), members

    def details(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> dict[str, np.ndarray]:
        """What the inner reward shows beside its score; nothing where it shows nothing."""
        return self.inner.details(prompts, completions) if isinstance(self.inner, Detailed) else {}

    def save(self, folder: str | Path) -> None:
        """Write the inner reward's folder with `pessimism` in its reward.json, atomically."""
        if not isinstance(self.inner, Saved):
            raise TacitError(f"reward `{self.name}` cannot be saved")
        with atomic_directory(folder, "reward.json", listed=True) as temporary:
            self.inner.save(temporary)
            manifest = read_manifest(temporary)
            manifest["pessimism"] = {"how": self.how, "strength": self.strength}
            if "seal" in manifest:
                manifest["seal"] = seal_of(manifest)
            write_json(temporary / "reward.json", manifest)

    @classmethod
    def load(cls, folder: str | Path, *, cache: str | Path | None = None) -> Pessimistic:
        """Read a folder that `save` wrote; raises `ArtefactError` where it holds no pessimism."""
        from tacit import rewards

        found = rewards.load(folder, cache=cache)
        if not isinstance(found, cls):
            raise ArtefactError(f"{folder} holds a reward without pessimism. Use tacit.load")
        return found


def require(how: str, strength: float | None, options: dict[str, Any]) -> dict[str, Any]:
    """Fit options under which a feature reward can be read so, checked before the fit: laplace switches itself on.

    Raises `TacitError` as `Pessimistic` does, for one member before an hour of fitting.
    """
    checked_strength(how, strength)
    if how in OF_MEMBERS and options.get("members", 1) < 2:
        raise TacitError(_one_member(how))
    return {**options, "laplace": True} if how == "laplace" else options


def pessimistic(reward: Any, how: How | None, strength: float | None = None) -> Any:
    """`reward` read with pessimism, itself for `none`; a strength for a reading that has none raises `TacitError`."""
    if how is None or how == "none":
        checked_strength("none", strength)
        return reward
    return Pessimistic(reward, how, strength)


def read_as_saved(reward: Any, saved: Any, how: How | None = None, strength: float | None = None) -> Any:
    """`reward` read as the entry `saved` of its reward.json says, or as `how` and `strength` say where they are given.

    Raises `ArtefactError` where the entry is unknown here, and `TacitError` as `Pessimistic` does.
    """
    entry = saved or {"how": "none"}
    if not isinstance(entry, dict) or entry.get("how") not in get_args(How):
        raise ArtefactError(f"reward.json has a pessimism of {entry!r}. Upgrade tacit to read it")
    chosen = entry["how"] if how is None else how
    if strength is None and chosen == entry["how"] and chosen in STRENGTHS:
        strength = entry.get("strength")
        if strength is not None and (isinstance(strength, bool) or not isinstance(strength, int | float)):
            raise ArtefactError(f"reward.json has a pessimism of {entry!r}, whose strength is no number. Fit it again")
    return pessimistic(reward, chosen, strength)


def _one_member(how: str) -> str:
    return (
        f"pessimism `{how}` looks at the spread of members, and there is one. Fit with --members 5, or with --laplace"
    )
