"""Decomposed rewards: the directions in which people's preferences vary, weighed for each person.

With z_i = phi(chosen_i) - phi(rejected_i) the heads are the first K principal components w_k of the z_i and their
negatives (DRM, Luo et al. 2025). "Centred" takes the eigenvectors of the covariance, as published; that removes the
mean of z, which is the direction on which people agree most, so "uncentred" takes those of the second moment E[z z^T].
The pooled reward is kept as one more head. From n comparisons of one person the heads are weighed by hypothesis
reweighting (HyRe, Lee et al. 2024):

    k_m = softmax_m(-L_m / temperature),    L_m = sum or mean over i of -log sigma(w_m . z_i / scale_m).

Random directions in place of components are a strong control: `directions="gaussian"` or `"uniform"`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor
from torch.nn.functional import softplus

from tacit.errors import TacitError
from tacit.evidence.records import Record
from tacit.features import Encoder, load_encoder
from tacit.rewards.heads import Parameters
from tacit.rewards.people.adapting import Context, linear_head, query_odds
from tacit.rewards.people.crowd import UNKNOWN, Crowd, Episodes, pooled_head, read_crowd
from tacit.rewards.people.personal import PersonalReward, known_options

Directions = Literal["centred", "uncentred", "gaussian", "uniform"]


@dataclass(frozen=True)
class DecomposedOptions:
    """How to decompose and to weigh."""

    components: int = 50
    """Directions; each gives two heads, one of either sign."""
    directions: Directions = "centred"
    """`centred` as published, `uncentred` keeps the mean; `gaussian` and `uniform` are random controls."""
    temperature: float = 1.0
    """Of the softmax over heads: below 1 trusts the person's comparisons more."""
    reduction: Literal["sum", "mean"] = "sum"
    """Log-losses of a person's comparisons are summed or averaged before the softmax."""
    population: bool = True
    """Keep the pooled reward as one more head."""
    l2: float | None = None
    """Ridge of the pooled reward; None chooses it by cross-fitting."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.components < 1:
            raise TacitError(f"option `components` is {self.components}, give 1 or more")
        if self.temperature <= 0:
            raise TacitError(f"option `temperature` is {self.temperature}, give a number above 0")
        for name, allowed in (
            ("directions", ("centred", "uncentred", "gaussian", "uniform")),
            ("reduction", ("sum", "mean")),
        ):
            if getattr(self, name) not in allowed:
                raise TacitError(f"option `{name}` is {getattr(self, name)!r}. Choose one of: {', '.join(allowed)}")


@dataclass(frozen=True)
class Decomposed:
    """M heads in standardised features and how a person weighs them."""

    heads: Tensor
    """(M, d), each divided by its scale: the root mean square of its score differences in the fitted comparisons."""
    temperature: float = 1.0
    reduction: str = "sum"
    gain: float = 1.0
    """Factor that makes the weighed score log-odds, found on the fitted people."""

    def weigh(self, context: Context) -> Tensor:
        """Weights k (P, M) of the heads."""
        losses = torch.einsum("pnm,pn->pm", softplus(-(context.gaps @ self.heads.T)), context.weight)
        if self.reduction == "mean":
            losses = losses / context.weight.sum(1, keepdim=True).clamp_min(1e-12)
        return torch.softmax(-losses / self.temperature, dim=1)

    def adapt(self, context: Context) -> Parameters:
        """Heads of P people: sum_m k_m w_m / scale_m, times the gain."""
        return linear_head(self.gain * (self.weigh(context) @ self.heads))

    def tensors(self) -> dict[str, Tensor]:
        """The heads."""
        return {"heads": self.heads}

    def options(self) -> dict[str, Any]:
        """Everything else."""
        return {"temperature": self.temperature, "reduction": self.reduction, "gain": self.gain}

    @classmethod
    def restore(cls, options: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """As saved."""
        return cls(tensors["heads"], **options)


def components(crowd: Crowd, count: int, *, centred: bool) -> tuple[Tensor, Tensor]:
    """The first principal directions of raw feature differences, (k, d), and the share of variance of each, (k,).

    They act on standardised features: w . z_raw = (w * scale) . z. Each is signed so that the pooled comparisons agree
    with it on the whole; k is at most the rank. Ties count in both orders.
    """
    scale = crowd.standardise.scale
    total = crowd.weight.sum()
    moment = torch.zeros(crowd.dim, crowd.dim, dtype=torch.float64)
    mean = torch.zeros(crowd.dim, dtype=torch.float64)
    for start in range(0, len(crowd), 8192):
        part = torch.arange(start, min(start + 8192, len(crowd)))
        gaps, weight = crowd.gaps(part) * scale, crowd.weight[part]
        moment += ((gaps * weight[:, None]).T @ gaps).double()
        mean += (weight @ gaps).double()
    moment, mean = moment / total, mean / total
    values, vectors = torch.linalg.eigh(moment - torch.outer(mean, mean) if centred else moment)
    values, vectors = values.flip(0), vectors.flip(1)
    kept = values[:count] > 1e-7 * values[0]
    values, directions = values[:count][kept], vectors[:, :count][:, kept].T
    agreement = directions @ mean
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))[:, 0]
    sign = torch.where(agreement.abs() > 1e-12, agreement, largest).sign()
    share = values / (moment.trace() - (mean @ mean if centred else 0.0))
    return (directions * sign[:, None]).float() * scale, share.float()


def random_directions(crowd: Crowd, count: int, kind: str, seed: int) -> Tensor:
    """Random directions (count, d) of raw features, for standardised ones: the control for components."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "uniform":
        drawn = 2 * torch.rand(count, crowd.dim, generator=generator) - 1
    else:
        drawn = torch.randn(count, crowd.dim, generator=generator)
    return drawn * crowd.standardise.scale


def decompose(
    crowd: Crowd, pooled: Tensor, options: DecomposedOptions, *, gain: float | None = None
) -> tuple[Decomposed, dict[str, Any]]:
    """The adapter of a crowd whose pooled reward is `pooled` (d,), and what to report of it.

    The gain is fitted on the crowd's people unless given.
    """
    report: dict[str, Any] = {}
    if options.directions in ("gaussian", "uniform"):
        found = random_directions(crowd, options.components, options.directions, options.seed)
    else:
        found, share = components(crowd, options.components, centred=options.directions == "centred")
        report["explained"] = [round(float(s), 5) for s in share]
    heads = torch.cat([found, -found, *([pooled[None]] if options.population else [])])
    square, agree = torch.zeros(len(heads)), torch.zeros(len(heads))
    for start in range(0, len(crowd), 8192):
        part = torch.arange(start, min(start + 8192, len(crowd)))
        scores = crowd.gaps(part) @ heads.T
        square += crowd.weight[part] @ scores.square()
        agree += crowd.weight[part] @ (scores > 0).float()
    scale = (square / crowd.weight.sum()).sqrt().clamp_min(1e-12)
    report["agreement"] = [round(float(a), 4) for a in (agree / crowd.weight.sum())[: len(found)]]
    report["heads"] = len(heads)
    adapter = Decomposed(heads / scale[:, None], options.temperature, options.reduction)
    gain = _gain(crowd, adapter, options.seed) if gain is None else gain
    return Decomposed(adapter.heads, options.temperature, options.reduction, gain), report | {"gain": gain}


def _gain(crowd: Crowd, adapter: Decomposed, seed: int, shots: int = 15) -> float:
    """The factor on adapted scores with the least loss on further comparisons of fitted people; 1 where unknown."""
    from scipy.optimize import minimize_scalar

    if bool((crowd.person == UNKNOWN).all()):
        return 1.0
    try:
        episodes = Episodes.draw(crowd, shots, seed)
    except TacitError:
        return 1.0
    odds, weight = query_odds(crowd, episodes, adapter.adapt)
    kept = weight > 0
    scores, weights = odds[kept].double(), weight[kept].double()

    def loss(log_gain: float) -> float:
        return float((softplus(-scores * torch.tensor(log_gain).exp()) * weights).mean())

    found = minimize_scalar(loss, bounds=(-4.0, 3.0), method="bounded", options={"xatol": 1e-3})
    return float(torch.tensor(float(found.x)).exp())


def fit(
    evidence: Iterable[Record],
    *,
    encoder: str | Encoder = "auto",
    cache: str | Path | None = None,
    name: str = "decomposed",
    **options: Any,
) -> PersonalReward:
    """Learn heads from comparisons of many people; `options` are the fields of `DecomposedOptions`.

    The reward scores by the pooled head until it is adapted. Annotators need not be named: then the adapted score is
    an order, not log-odds.
    """
    start = time.perf_counter()
    chosen = known_options(DecomposedOptions, options)
    encoder = load_encoder(encoder) if isinstance(encoder, str) else encoder
    crowd = read_crowd(evidence, encoder, cache)
    pooled, report = pooled_head(crowd, l2=chosen.l2, seed=chosen.seed)
    adapter, found = decompose(crowd, pooled, chosen)
    report |= {"options": asdict(chosen), **found}
    return PersonalReward.of(
        crowd, encoder, "decomposed", adapter, pooled, linear_head(pooled[None]), name, report, cache, start
    )
