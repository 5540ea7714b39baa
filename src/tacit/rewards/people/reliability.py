"""How far each annotator can be trusted, estimated together with the reward.

Annotator a votes by the shared reward with rationality beta_a, and a share eps_a of the votes is recorded the wrong way
round (Crowd-BT, Chen et al. 2013, has the second alone; the rationality is that of simulated annotators):

    P(i) = eps_a + (1 - 2 eps_a) sigma(beta_a w . z_i),
    log beta_a ~ N(0, tau^2),    logit eps_a ~ N(m, upsilon^2).

w, beta and eps are the joint maximum of the posterior (L-BFGS over all of them at once); tau, m and upsilon are found
by empirical Bayes from the annotators' Laplace posteriors, so that people with few votes are shrunk towards the crowd.
The prior mean 0 of log beta fixes the scale: score differences are the log-odds of the typical annotator before flips,
and a held-out temperature makes them those of the crowd. To first order a vote tells of the reward in proportion to
(1 - 2 eps_a) beta_a, which is reported as the annotator's weight.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from tacit.errors import TacitError
from tacit.evidence.records import Record
from tacit.features import Encoder, load_encoder
from tacit.rewards.feature_reward import FeatureReward
from tacit.rewards.linear import gram_factor
from tacit.rewards.origin import Origin
from tacit.rewards.people.adapting import linear_head
from tacit.rewards.people.crowd import Crowd, pooled_head, read_crowd
from tacit.rewards.people.personal import known_options

_REFERENCE = 2000
"""Pairs on which an annotator's agreement with the reward is averaged."""
_TINY = 1e-6
_MULTIPLES = (10.0, 3.0, 1.0, 0.3)
"""Ridges that are tried, in multiples of the pooled reward's."""


@dataclass(frozen=True)
class ReliabilityOptions:
    """What is estimated of each annotator."""

    rationality: bool | None = None
    """Estimate beta_a; else 1 for everybody, which is Crowd-BT. None takes the better on held-out pairs."""
    flips: bool = True
    """Estimate eps_a; else 0 for everybody."""
    l2: float | None = None
    """Ridge of the reward; None takes the best of four about that of the pooled reward, on held-out pairs."""
    rounds: int = 5
    """Rounds of empirical Bayes."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise TacitError(f"option `rounds` is {self.rounds}, give 1 or more")


@dataclass(frozen=True)
class Reliability:
    """The joint fit; `log_rationality` and `logit_flip` (A,) with their posterior covariance (A, 2, 2)."""

    head: Tensor
    """(d,) the reward in standardised features, for the typical annotator before flips."""
    log_rationality: Tensor
    logit_flip: Tensor
    covariance: Tensor
    prior: dict[str, float]
    """tau, m (as a flip rate) and upsilon."""

    @property
    def rationality(self) -> Tensor:
        """(A,) beta."""
        return self.log_rationality.exp()

    @property
    def flip(self) -> Tensor:
        """(A,) eps."""
        return self.logit_flip.sigmoid()

    @property
    def weight(self) -> Tensor:
        """(A,) what a vote tells of the reward: (1 - 2 eps) beta, 0 where it would be negative."""
        return ((1 - 2 * self.flip) * self.rationality).clamp_min(0)


def estimate(
    crowd: Crowd, pooled: Tensor, ridge: float, options: ReliabilityOptions, *, start: Reliability | None = None
) -> Reliability:
    """The joint maximum; `ridge` is in units of the summed log-likelihood.

    tau is kept below 1: a few people of enormous rationality would otherwise make the reward their own.
    """
    from scipy.optimize import minimize

    gaps, who, weight = crowd.gaps(), crowd.person, crowd.weight
    d, people = crowd.dim, len(crowd.people)
    if start is None:
        wrong = crowd.per_person(weight * (gaps @ pooled < 0).float())
        # People who mostly vote against the crowd start beyond one half, or they would be stuck at no rationality.
        against = (wrong + 1) / (crowd.per_person(weight) + 4)
        t, u = torch.zeros(people), torch.logit(torch.where(against > 0.6, against, torch.tensor(0.05)))
        start = Reliability(pooled.clone(), t, u, torch.zeros(people, 2, 2), {})
    tau, mean, upsilon = start.prior.get("tau", 0.7), start.prior.get("mean", -2.9), start.prior.get("upsilon", 1.5)
    head, t, u = start.head, start.log_rationality, start.logit_flip
    free_t, free_u = float(options.rationality is not False), float(options.flips)

    def parts(score: Tensor, t: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        eps = u.sigmoid()[who] * free_u
        beta = (t * free_t).exp()[who]
        inner = torch.sigmoid(beta * score)
        return eps, beta, inner, (eps + (1 - 2 * eps) * inner).clamp(_TINY, 1 - _TINY)

    covariance = start.covariance
    whiten = _Whitening.of(gaps, float(weight.sum()), ridge, options.seed)
    for _ in range(options.rounds):
        prior = (tau, mean, upsilon)

        def objective(theta: np.ndarray, prior: tuple[float, float, float] = prior) -> tuple[float, np.ndarray]:
            point = torch.from_numpy(theta).float()
            w, t, u = whiten.head(point[:d]), point[d : d + people], point[d + people :]
            score = gaps @ w
            eps, beta, inner, chance = parts(score, t, u)
            pull = -weight / chance  # of the loss in P
            slope = (1 - 2 * eps) * inner * (1 - inner)  # of P in beta * score
            by_score, by_t = pull * slope * beta, pull * slope * beta * score * free_t
            by_u = pull * (1 - 2 * inner) * eps * (1 - eps) * free_u
            off = (u - prior[1]) / prior[2]
            value = (
                -(weight * chance.log()).sum()
                + ridge / 2 * w.square().sum()
                + (t / prior[0]).square().sum() / 2
                + off.square().sum() / 2
            )
            gradient = torch.cat(
                [
                    whiten.gradient(by_score @ gaps + ridge * w),
                    crowd.per_person(by_t) + t / prior[0] ** 2,
                    crowd.per_person(by_u) + off / prior[2],
                ]
            )
            return float(value), gradient.double().numpy()

        first = torch.cat([whiten.coordinates(head), t, u]).double().numpy()
        # Beyond this the value, a float32 sum, is noise.
        found = minimize(objective, first, jac=True, method="L-BFGS-B", options={"maxiter": 200, "ftol": 1e-7})
        point = torch.from_numpy(found.x).float()
        head, t, u = whiten.head(point[:d]), point[d : d + people], point[d + people :]
        covariance = _posterior(crowd, parts(gaps @ head, t, u), gaps @ head, free_t, free_u, prior)
        if free_t:
            shift = t.mean()  # the scale belongs to the reward
            head, t = head * shift.exp(), t - shift
            tau = float((t.square() + covariance[:, 0, 0]).mean().sqrt().clamp(0.05, 1.0))
        if options.flips:
            mean = float(u.mean().clamp(-6, 0))
            upsilon = float(((u - mean).square() + covariance[:, 1, 1]).mean().sqrt().clamp(0.3, 4.0))
    if not options.flips:
        u = torch.full_like(u, -30.0)
    return Reliability(head, t, u, covariance, {"tau": tau, "mean": mean, "upsilon": upsilon})


@dataclass(frozen=True)
class _Whitening:
    """Coordinates v = L^T w in which the loss is about round: L L^T = curvature of logistic loss at 0 + ridge."""

    factor: Tensor | None

    @classmethod
    def of(cls, gaps: Tensor, total: float, ridge: float, seed: int) -> _Whitening:
        gram = gram_factor(gaps, seed)
        if gram is None:
            return cls(None)
        curvature = total * (gram / 4 + 1e-4 * gram.diagonal().mean() * torch.eye(len(gram)))
        factor: Tensor = torch.linalg.cholesky(curvature + ridge * torch.eye(len(gram)))
        return cls(factor)

    def coordinates(self, w: Tensor) -> Tensor:
        return w if self.factor is None else self.factor.T @ w

    def head(self, v: Tensor) -> Tensor:
        if self.factor is None:
            return v
        solved: Tensor = torch.linalg.solve_triangular(self.factor.T, v[:, None], upper=True)[:, 0]
        return solved

    def gradient(self, by_w: Tensor) -> Tensor:
        if self.factor is None:
            return by_w
        solved: Tensor = torch.linalg.solve_triangular(self.factor, by_w[:, None], upper=False)[:, 0]
        return solved


def _posterior(
    crowd: Crowd,
    parts: tuple[Tensor, Tensor, Tensor, Tensor],
    score: Tensor,
    free_t: float,
    free_u: float,
    prior: tuple[float, float, float],
) -> Tensor:
    """Covariance (A, 2, 2) of (log beta, logit eps) given the reward: the inverse of Fisher information + prior."""
    eps, beta, inner, chance = parts
    by_t = (1 - 2 * eps) * inner * (1 - inner) * beta * score * free_t
    by_u = (1 - 2 * inner) * eps * (1 - eps) * free_u
    sure = crowd.weight / (chance * (1 - chance))
    entries = crowd.per_person(torch.stack([by_t * by_t, by_t * by_u, by_u * by_u]) * sure)
    information = torch.stack(
        [entries[0] + prior[0] ** -2, entries[1], entries[1], entries[2] + prior[2] ** -2], dim=1
    ).view(-1, 2, 2)
    covariance: Tensor = torch.linalg.inv(information)
    return covariance


def fit_known(crowd: Crowd, rationality: Tensor, flip: Tensor, ridge: float) -> Tensor:
    """The reward (d,) where each annotator's rationality and flip rate (A,) are known."""
    from scipy.optimize import minimize

    gaps, weight = crowd.gaps(), crowd.weight
    beta, eps = rationality[crowd.person], flip[crowd.person]

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        w = torch.from_numpy(theta).float()
        inner = torch.sigmoid(beta * (gaps @ w))
        chance = (eps + (1 - 2 * eps) * inner).clamp(_TINY, 1 - _TINY)
        value = -(weight * chance.log()).sum() + ridge / 2 * w.square().sum()
        by_score = -weight / chance * (1 - 2 * eps) * inner * (1 - inner) * beta
        return float(value), (by_score @ gaps + ridge * w).double().numpy()

    found = minimize(objective, np.zeros(crowd.dim), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return torch.from_numpy(found.x).float()


def annotator_rows(crowd: Crowd, found: Reliability, *, draws: int = 400, seed: int = 0) -> list[dict[str, Any]]:
    """One row per annotator: votes, rationality, flip rate, agreement and weight, with 95% posterior intervals.

    `agreement` is the chance that the annotator votes with the reward on a pair of the data, averaged over pairs.
    """
    rng = np.random.default_rng(seed)
    people = len(crowd.people)
    score = (crowd.gaps() @ found.head).abs().numpy()
    reference = score if len(score) <= _REFERENCE else rng.choice(score, _REFERENCE, replace=False)
    grid = np.linspace(-6.0, 4.0, 101)
    curve = (1 / (1 + np.exp(-np.exp(grid)[:, None] * reference))).mean(1)
    centre = torch.stack([found.log_rationality, found.logit_flip], dim=1).numpy()
    root = torch.linalg.cholesky(found.covariance).numpy()
    drawn = centre + np.einsum("aij,saj->sai", root, rng.standard_normal((draws, people, 2)))

    def quantities(points: np.ndarray) -> dict[str, np.ndarray]:
        flip = 1 / (1 + np.exp(-points[..., 1]))
        return {
            "rationality": np.exp(points[..., 0]),
            "flip": flip,
            "agreement": flip + (1 - 2 * flip) * np.interp(points[..., 0], grid, curve),
        }

    middle, spread = quantities(centre), quantities(drawn)
    bounds = {key: np.quantile(value, [0.025, 0.975], axis=0).T for key, value in spread.items()}
    votes, weight = crowd.per_person(crowd.weight).tolist(), found.weight.tolist()
    return [
        {"annotator": name, "votes": round(votes[a], 1)}
        | {k: v for key in middle for k, v in ((key, float(middle[key][a])), (f"{key}_ci", bounds[key][a].tolist()))}
        | {"weight": weight[a]}
        for a, name in enumerate(crowd.people)
    ]


def fit_reliability(crowd: Crowd, options: ReliabilityOptions) -> tuple[Reliability, float, dict[str, Any]]:
    """The joint fit, the temperature that makes its scores the crowd's log-odds, and what to report.

    A fifth of the blocks (prompts, or responses where there are none) is held out to choose the ridge, whether
    rationality is estimated, and the temperature; then all is fitted.
    """
    crowd.require_people(2, "reliability")
    pooled, report = pooled_head(crowd, l2=options.l2, seed=options.seed)
    own = np.unique(crowd.examples.blocks)
    rng = np.random.default_rng(options.seed)
    out = np.isin(crowd.examples.blocks, own[rng.random(len(own)) < 0.2])
    tied = np.flatnonzero(crowd.examples.tie)

    def rows(mask: np.ndarray) -> Tensor:
        return torch.from_numpy(np.concatenate([mask, mask[tied]]))

    train, test = rows(np.asarray(~out.any(1))), rows(np.asarray(out[:, 0]))
    base = float(report["l2"])
    best, temperature, held_out, rational = base, 1.0, None, options.rationality is not False
    if bool(train.any()) and bool(test.any()):
        fitted, tested = crowd.take(train), crowd.take(test)
        gaps = tested.gaps()
        path = []
        tried = (False, True) if options.rationality is None and options.flips else (rational,)
        for multiple, free in product((1.0,) if options.l2 is not None else _MULTIPLES, tried):
            ridge = base * multiple * float(fitted.weight.sum())
            trial = estimate(fitted, pooled, ridge, replace(options, rationality=free, rounds=min(2, options.rounds)))
            heat, loss = _temperature(gaps @ trial.head, tested.weight)
            path.append((loss, base * multiple, heat, free))
        held_out, best, temperature, rational = min(path)
    options = replace(options, rationality=rational)
    found = estimate(crowd, pooled, best * float(crowd.weight.sum()), options)
    report = {"l2": best, "held_out_loss": held_out, "temperature": temperature, "prior": found.prior}
    report["rationality_estimated"] = rational
    return found, temperature, report


def _temperature(scores: Tensor, weight: Tensor) -> tuple[float, float]:
    """The T with the least mean loss of scores / T, and that loss."""
    from scipy.optimize import minimize_scalar

    values, weights = scores.double(), weight.double() / weight.sum()

    def loss(log_heat: float) -> float:
        return float((softplus(-values / np.exp(log_heat)) * weights).sum())

    found = minimize_scalar(loss, bounds=(-2.3, 3.0), method="bounded", options={"xatol": 1e-3})
    return float(np.exp(found.x)), float(found.fun)


def fit(
    evidence: Iterable[Record],
    *,
    encoder: str | Encoder = "auto",
    cache: str | Path | None = None,
    name: str = "reliability",
    **options: Any,
) -> FeatureReward:
    """Learn one reward and each annotator's reliability; `options` are the fields of `ReliabilityOptions`.

    `report["annotators"]` has a row for each. Raises `EvidenceError` where annotators are not named.
    """
    start = time.perf_counter()
    chosen = known_options(ReliabilityOptions, options)
    encoder = load_encoder(encoder) if isinstance(encoder, str) else encoder
    crowd = read_crowd(evidence, encoder, cache)
    found, temperature, report = fit_reliability(crowd, chosen)
    report |= {
        "kind": "comparison",
        "people": "reliability",
        "objective": "bradley_terry",
        "options": asdict(chosen),
        "n_train": len(crowd.examples),
        "n_responses": len(crowd.features),
        "n_annotators": len(crowd.people),
        "annotators": annotator_rows(crowd, found, seed=chosen.seed),
        "seconds": time.perf_counter() - start,
    }
    parameters = crowd.standardise.fold(linear_head(found.head[None] / temperature))
    raw = (crowd.features * crowd.standardise.scale + crowd.standardise.mean).numpy()
    origin = Origin.of_examples(raw, crowd.examples, seed=chosen.seed)
    return FeatureReward(encoder, parameters, name, report, None if cache is None else Path(cache), origin=origin)
