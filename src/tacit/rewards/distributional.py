"""Rewards that know that people differ: a distribution of scores for each response (see `tacit.rewards.distributions`).

The score is the mean, or with `risk` a lower quantile, in log-odds as near as can be: scores are multiplied by the one
factor under which sigma(score(a) - score(b)) is the best forecast of held-out votes. The exact forecast, which also
knows the spreads, is `compare`.

**Hidden context** (what makes people differ and is not in the data) shows in three numbers of the report:

- `explained_variance`: r^2 of the paper. It falls with hidden context, and with careless votes as well.
- `context_gain`: nats a vote by which the distribution forecasts held-out votes better than the better of the scalar
  models, Bradley-Terry and Thurstone (every spread the same), with a 95% interval clustered by prompt. More careless
  votes do not raise it, since a scalar model knows about those.
- `hidden_context`: whether that interval lies above .001 nats.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tacit.conversation import Completion, Prompt
from tacit.errors import EvidenceError, TacitError
from tacit.evidence.records import Record
from tacit.features import Encoder, FeatureStore, load_encoder
from tacit.rewards import heads
from tacit.rewards.distributions import THURSTONE, explained_variance, family, objective_of
from tacit.rewards.encoding import encode, encode_two
from tacit.rewards.examples import Examples, collect
from tacit.rewards.heads import Parameters, by_output
from tacit.rewards.objectives import OBJECTIVES, Objective, Targets
from tacit.rewards.options import FitOptions
from tacit.rewards.origin import Origin
from tacit.rewards.saved_encoder import encoder_config, encoder_of
from tacit.rewards.saving import open_reward, read_origin, save_reward
from tacit.rewards.several import SeveralFit, fit_several, shared_options, targets_of
from tacit.rewards.temperature import temperature_of

MATTERS = 0.001
"""Nats a vote that the lower end of `context_gain` must exceed before people are said to differ."""

_MOST = 1e-6
"""Least probability that a forecast of an ensemble gives a vote, so that its log-odds are finite."""


@dataclass(eq=False)
class DistributionalReward:
    """A distribution of scores for each response; `Reward`, `Uncertain`, `Comparing`, `Detailed` and `Saved`."""

    encoder: Encoder
    parameters: Parameters
    family_name: str
    outputs: int
    scale: float = 1.0
    """Log-odds in a unit of the family's own mean."""
    risk: float | None = None
    """The quantile that is the score; None takes the mean."""
    name: str = "distributional"
    report: dict[str, Any] = field(default_factory=dict)
    cache: Path | None = None
    origin: Origin | None = None
    """Small statistics of the features it was fitted on."""

    def __post_init__(self) -> None:
        self.family = family(self.family_name, self.outputs)
        if self.risk is not None and not 0 < self.risk < 1:
            raise TacitError(f"option `risk` is {self.risk}. Give a quantile between 0 and 1, as 0.1")

    @property
    def members(self) -> int:
        """K, the number of members."""
        return len(self.parameters["bias"]) // self.family.outputs

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """The mean (or the quantile `risk`) of each response's scores, (n,) float32, averaged over members."""
        result: np.ndarray = self.score_members(prompts, completions).mean(0)
        return result

    def score_members(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """The same for each member, (K, n) float32."""
        raw = self._outputs(encode(self.encoder, self.cache, prompts, completions))
        value = self.family.moments(raw)[0] if self.risk is None else self.family.quantile(raw, self.risk)
        return np.asarray((value * self.scale).numpy(), np.float32)

    def moments(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each response's scores over people, (K, n) each, in the unit of `score`."""
        mean, sd = self.family.moments(self._outputs(encode(self.encoder, self.cache, prompts, completions)))
        return (mean * self.scale).numpy(), (sd * self.scale).numpy()

    def details(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> dict[str, np.ndarray]:
        """`disagreement`: the standard deviation (n,) of a response's scores over people, averaged over members."""
        return {"disagreement": self.moments(prompts, completions)[1].mean(0)}

    def compare(
        self, prompts: Sequence[Prompt], first: Sequence[Completion], second: Sequence[Completion]
    ) -> np.ndarray:
        """Log-odds (n,) float32 that a person prefers the first, by the mean of the members' probabilities.

        With `risk` the reward is not about the next vote, and this is the difference of the scores.
        """
        if self.risk is not None:
            gap: np.ndarray = self.score(prompts, first) - self.score(prompts, second)
            return gap
        vectors = encode_two(self.encoder, self.cache, prompts, first, second)
        raw = self._outputs(vectors.reshape(-1, vectors.shape[-1])).view(self.members, len(prompts), 2, self.outputs)
        win, lose = self.family.votes(raw)
        size = math.log(self.members)
        total, against = win.logsumexp(0) - size, lose.logsumexp(0) - size
        return np.asarray((total - against).clamp(math.log(_MOST), -math.log(_MOST)).numpy(), np.float32)

    def explained_variance(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """r^2 of each member over these responses, (K,)."""
        raw = self._outputs(encode(self.encoder, self.cache, prompts, completions))
        return np.asarray(explained_variance(*self.family.moments(raw)).numpy())

    def _outputs(self, features: np.ndarray) -> Tensor:
        """The head's outputs (K, n, outputs)."""
        return by_output(torch.from_numpy(heads.score_in_chunks(self.parameters, features)), self.family.outputs)

    def save(self, folder: str | Path) -> None:
        """Write the folder atomically; a former reward there is replaced."""
        save_reward(
            folder,
            "distributional",
            self.name,
            config=encoder_config(self.encoder)
            | {"members": self.members, "family": self.family_name, "outputs": self.outputs}
            | {"scale": self.scale, "risk": self.risk},
            tensors=self.parameters,
            report=self.report,
            origin=self.origin,
            meaning="Scores are means of what different people would give, in log-odds as near as can be."
            if self.risk is None
            else f"Scores are quantile {self.risk} of what different people would give: low where people differ.",
        )

    @classmethod
    def load(cls, folder: str | Path, *, cache: str | Path | None = None) -> DistributionalReward:
        """Read it back; raises `ArtefactError` where it is damaged or its encoder has changed."""
        manifest, parameters = open_reward(folder, "distributional")
        return cls(
            encoder_of(manifest, folder),
            parameters,
            manifest["family"],
            manifest["outputs"],
            manifest["scale"],
            manifest["risk"],
            manifest["name"],
            manifest["report"],
            None if cache is None else Path(cache),
            read_origin(folder),
        )


def fit_mean_variance(evidence: Iterable[Record], **options: Any) -> DistributionalReward:
    """Learn a normal distribution of scores from comparisons; options as in `fit`."""
    return fit(evidence, "mean_variance", **options)


def fit_categorical(evidence: Iterable[Record], **options: Any) -> DistributionalReward:
    """Learn a distribution over `atoms` values from comparisons; options as in `fit`."""
    return fit(evidence, "categorical", **options)


def fit(
    evidence: Iterable[Record],
    model: str,
    *,
    encoder: str | Encoder = "auto",
    cache: str | Path | None = None,
    name: str | None = None,
    risk: float | None = None,
    atoms: int | None = None,
    entropy: float | None = None,
    **options: Any,
) -> DistributionalReward:
    """Learn a distribution of scores from comparisons.

    `atoms` (10) and `entropy` (.1) are the number of values and the entropy coefficient of `categorical`; `risk` makes
    that quantile the score. `options` are fields of `FitOptions` (`several.SHARED`). Raises `TacitError` for an option
    or a kind of evidence that does not fit.
    """
    start = time.perf_counter()
    chosen = shared_options(options, ("risk", "atoms", "entropy"), model)
    if model == "mean_variance" and (atoms is not None or entropy is not None):
        raise TacitError("options `atoms` (--atoms) and `entropy` (--entropy) are for model `categorical`")
    described = family(model, atoms or 10)
    objective = objective_of(described, 0.1 if entropy is None else entropy)
    source = getattr(evidence, "source", "memory")
    examples = collect(evidence, source)
    if examples.kind != "comparison":
        raise EvidenceError(
            f"model `{model}` learns from comparisons, these are {examples.kind}s",
            mend="Give comparisons",
            source=source,
        )
    encoder = load_encoder(encoder) if isinstance(encoder, str) else encoder
    features = FeatureStore(encoder, cache).features(examples.texts)
    fitted = fit_several(features, examples, objective, chosen)
    held_mean, _ = described.moments(fitted.held_scores)
    reward = DistributionalReward(
        encoder,
        fitted.parameters,
        model,
        described.outputs,
        log_odds_scale(held_mean, targets_of(examples)[fitted.held], torch.from_numpy(examples.weight)[fitted.held]),
        risk,
        name or model,
        cache=None if cache is None else Path(cache),
    )
    _centre(reward, features)
    mean, sd = described.moments(reward._outputs(features))
    reward.origin = Origin.of_examples(features, examples, seed=chosen.seed)
    reward.report = {
        "kind": "comparison",
        "objective": objective.name,
        "options": asdict(chosen) | {"hidden": list(chosen.hidden), "atoms": described.outputs, "risk": risk},
        "n_train": len(examples),
        "n_responses": len(examples.texts),
        **fitted.report,
        "explained_variance": float(explained_variance(mean, sd).mean()),
        **_context(features, examples, objective, chosen, fitted),
        "seconds": time.perf_counter() - start,
    }
    return reward


def log_odds_scale(mean: Tensor, targets: Targets, weight: Tensor) -> float:
    """The factor c > 0 under which sigma(c (mean_a - mean_b)) forecasts votes best; `mean` is (members, m, 2)."""
    unit = float((mean[..., 0] - mean[..., 1]).square().mean().sqrt().clamp_min(1e-12))
    return 1 / unit / temperature_of(mean.mean(0, keepdim=True) / unit, targets, weight, OBJECTIVES["bradley_terry"])


def _centre(reward: DistributionalReward, features: np.ndarray) -> None:
    """Put the zero of the mean, which votes leave free, at the mean of the fitted responses."""
    if reward.family_name == "mean_variance":
        mean, _ = reward.family.moments(reward._outputs(features[:: max(1, len(features) // 5_000)]))
        reward.parameters["bias"][0::2] -= mean.mean(1)


def _context(
    features: np.ndarray, examples: Examples, objective: Objective, options: FitOptions, fitted: SeveralFit
) -> dict[str, Any]:
    """What the distribution adds to the forecast of held-out votes, beside scalar models on the same rows."""
    targets, weight = targets_of(examples)[fitted.held], torch.from_numpy(examples.weight)[fitted.held]
    nothing = torch.zeros(1, 0)

    def held_out(which: Objective, fit: SeveralFit) -> Tensor:
        return which.loss(fit.held_scores, targets, nothing).mean(0)

    losses = held_out(objective, fitted)
    scalar = {}
    for rival in (OBJECTIVES["bradley_terry"], THURSTONE):
        scalar[rival.name] = held_out(rival, _at_its_best(features, examples, rival, options))
    best = min(scalar, key=lambda which: float((scalar[which] * weight).sum()))
    gain, low, high = clustered_mean(
        (scalar[best] - losses).numpy(), weight.numpy(), examples.blocks[fitted.held.numpy(), 0]
    )
    return {
        "context_gain": gain,
        "context_gain_ci": [low, high],
        "context_gain_over": best,
        "hidden_context": low > MATTERS,
    }


def _at_its_best(features: np.ndarray, examples: Examples, rival: Objective, options: FitOptions) -> SeveralFit:
    """The scalar fit, with a ridge below the usual path where that helps on held-out rows.

    Without it a scalar reward of nearly faultless votes is too flat for want of slope, and a spread that varies, which
    mends the slope here and there, would pass for people who differ.
    """
    best = fit_several(features, examples, rival, options)
    for _ in range(3 if options.l2 is None else 0):
        lower = fit_several(features, examples, rival, replace(options, l2=best.report["l2"] / 10))
        if lower.report["held_out_loss"] >= best.report["held_out_loss"]:
            break
        best = lower
    return best


def clustered_mean(values: np.ndarray, weight: np.ndarray, cluster: np.ndarray) -> tuple[float, float, float]:
    """Weighted mean of (n,) values with its 95% interval under dependence within clusters (n,), by their sums."""
    share = weight.astype(np.float64) / weight.sum()
    mean = float((share * values).sum())
    _, codes = np.unique(cluster, return_inverse=True)
    sums = np.bincount(codes.reshape(-1), share * (values - mean))
    half = 1.96 * math.sqrt(float((sums**2).sum()) * len(sums) / max(1, len(sums) - 1))
    return mean, mean - half, mean + half
