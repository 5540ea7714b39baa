"""A latent user: rewards that vary around the pooled one along a few directions, and an encoder that finds a person's.

Variational preference learning (Poddar et al. 2024) in spirit. Person p has z_p ~ N(0, I) of size L, and

    linear:  r_p(x) = w_0 . phi(x) + (B z_p) . P phi(x),
    mlp:     r_p(x) = w_0 . phi(x) + v . relu(A P phi(x) + C z_p + c),

with w_0 the pooled reward and P the projection on the first principal directions of feature differences, whitened. A
pair encoder turns each comparison of a context into evidence on z, which is pooled into q(z) = N(mu, diag s^2):

    product:    s^-2 = 1 + sum_i lambda_i,  mu = s^2 sum_i m_i       each comparison is one Gaussian factor
                                                                     (Bayesian aggregation, Volpp et al. 2021)
    attention:  one layer of self-attention over the pairs, then their mean, then mu and log s (as published)

Training draws, for each person, a context of random size and tests on the person's other comparisons (neural-process
episodes, so that the encoder never sees what it predicts), and minimises their Bradley-Terry loss
+ beta KL(q | N(0, I)) with beta annealed from 0. Adapting is one pass of the encoder: no optimisation at test time.
"""

from __future__ import annotations

import math
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
from tacit.progress import track
from tacit.rewards.heads import Parameters
from tacit.rewards.people.adapting import Context
from tacit.rewards.people.crowd import Crowd, padded, pooled_head, read_crowd
from tacit.rewards.people.decomposed import components
from tacit.rewards.people.personal import PersonalReward, known_options


@dataclass(frozen=True)
class LatentOptions:
    """The size of the model and how it is trained."""

    latent: int = 8
    """L, the size of z."""
    decoder: Literal["linear", "mlp"] = "linear"
    """How a person's reward departs from the pooled one."""
    pooling: Literal["product", "attention"] = "product"
    """How a person's comparisons become one q(z)."""
    projection: int = 64
    """Principal directions that the encoder sees and a person's reward may move along."""
    width: int = 64
    """Hidden units of the encoder, and of the mlp decoder."""
    kl: float = 0.1
    """beta, the weight of the KL term a comparison at the end of annealing; 1 is the evidence bound of one person."""
    steps: int = 600
    """Most optimiser steps."""
    people_a_step: int = 128
    """People of one step."""
    pairs_a_step: int = 64
    """Most comparisons of a person in one step, context and target together."""
    learning_rate: float = 3e-3
    l2: float | None = None
    """Ridge of the pooled reward; None chooses it by cross-fitting."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("latent", "projection", "width", "steps", "people_a_step"):
            if getattr(self, name) < 1:
                raise TacitError(f"option `{name}` is {getattr(self, name)}, give 1 or more")
        for name, allowed in (("decoder", ("linear", "mlp")), ("pooling", ("product", "attention"))):
            if getattr(self, name) not in allowed:
                raise TacitError(f"option `{name}` is {getattr(self, name)!r}. Choose one of: {', '.join(allowed)}")
        if self.kl < 0:
            raise TacitError(f"option `kl` is {self.kl}, give 0 or more")


@dataclass(frozen=True)
class Latent:
    """The fitted model: `weights` of encoder and decoder, the pooled head and the projection."""

    pooled: Tensor
    """(d,) w_0."""
    projection: Tensor
    """(k, d): P, acting on standardised features."""
    weights: dict[str, Tensor]
    decoder: str = "linear"
    pooling: str = "product"

    def encode(self, context: Context) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of q(z), each (P, L)."""
        x, odds = context.gaps @ self.projection.T, context.gaps @ self.pooled
        return _encode(self.weights, self.pooling, x, odds, context.weight)

    def adapt(self, context: Context) -> Parameters:
        """Heads of P people at the mean of q(z)."""
        with torch.no_grad():
            return self.decode(self.encode(context)[0])

    def decode(self, z: Tensor) -> Parameters:
        """The head of each z (P, L); z = 0 is the head for everybody."""
        w, people = self.weights, len(z)
        if self.decoder == "linear":
            own = self.pooled * w["scale"] + (z @ w["basis"].T) @ self.projection
            return {"linear": own, "bias": own.new_zeros(people)}
        first = (self.projection.T @ w["dec_x"]).expand(people, -1, -1).contiguous()
        shift = z @ w["dec_z"] + w["dec_b"]
        return {
            "linear": (self.pooled * w["scale"]).expand(people, -1).contiguous(),
            # The zero of the score is at the mean response, as for every other people model.
            "bias": -(shift.relu() @ w["dec_out"]),
            "hidden.0.weight": first,
            "hidden.0.bias": shift[:, None],
            "out": w["dec_out"].expand(people, -1).contiguous(),
        }

    def tensors(self) -> dict[str, Tensor]:
        """Everything learnt."""
        return {"pooled": self.pooled, "projection": self.projection} | {
            f"weights.{key}": value for key, value in self.weights.items()
        }

    def options(self) -> dict[str, Any]:
        """The shape of the model."""
        return {"decoder": self.decoder, "pooling": self.pooling}

    @classmethod
    def restore(cls, options: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """As saved."""
        weights = {key.removeprefix("weights."): v for key, v in tensors.items() if key.startswith("weights.")}
        return cls(tensors["pooled"], tensors["projection"], weights, **options)


def _encode(w: dict[str, Tensor], pooling: str, x: Tensor, odds: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """q(z) of P people from projected gaps x (P, n, k), pooled log-odds (P, n) and weights (P, n)."""
    surprise = torch.sigmoid(-odds * w["scale"])[..., None]
    along = x @ w["basis"]  # (P, n, L): the reward's direction of change in z, where the decoder is linear
    state = torch.relu(torch.cat([x, along, surprise], dim=2) @ w["enc_1"] + w["enc_1b"])
    if pooling == "attention":
        present = weight > 0
        query, key, value = (state @ w[f"enc_{name}"] for name in ("q", "k", "v"))
        logits = query @ key.transpose(1, 2) / math.sqrt(query.shape[2])
        shares = torch.softmax(logits.masked_fill(~present[:, None], -1e9), dim=2)
        state = state + shares @ value
        count = weight.sum(1, keepdim=True)
        mean = (state * weight[..., None]).sum(1) / count.clamp_min(1e-6)
        # How many comparisons there are says how sure one may be; without any the person is the average one.
        out = torch.cat([mean, torch.log1p(count)], dim=1) @ w["enc_2"] + w["enc_2b"]
        mu, log_s = out.chunk(2, dim=1)
        known = (count > 0).to(mu)
        return mu * known, torch.exp(log_s.clamp(-6, 2) * known)
    out = state @ w["enc_2"] + w["enc_2b"]
    push, precision = out.chunk(2, dim=2)
    push = (push + w["enc_skip"] * surprise * along) * weight[..., None]
    total = 1 + (softplus(precision) * weight[..., None]).sum(1)
    return push.sum(1) / total, total.rsqrt()


def _start(k: int, options: LatentOptions, generator: torch.Generator) -> dict[str, Tensor]:
    """First weights."""
    size, h = options.latent, options.width

    def normal(*shape: int, scale: float) -> Tensor:
        return torch.randn(*shape, generator=generator) * scale

    inputs = k + size + 1
    w = {
        "scale": torch.ones(()),
        "basis": normal(k, size, scale=0.5 / math.sqrt(k)),
        "enc_1": normal(inputs, h, scale=1 / math.sqrt(inputs)),
        "enc_1b": torch.zeros(h),
        "enc_2": normal(h + (options.pooling == "attention"), 2 * size, scale=0.1 / math.sqrt(h)),
        "enc_2b": torch.cat([torch.zeros(size), torch.full((size,), -2.0)]),
    }
    if options.pooling == "product":
        w["enc_skip"] = torch.ones(())
    else:
        w |= {f"enc_{name}": normal(h, h, scale=1 / math.sqrt(h)) for name in ("q", "k", "v")}
    if options.decoder == "mlp":
        w |= {
            "dec_x": normal(k, h, scale=1 / math.sqrt(k)),
            "dec_z": normal(size, h, scale=1 / math.sqrt(size)),
            "dec_b": torch.zeros(h),
            "dec_out": normal(h, scale=0.3 / math.sqrt(h)),
        }
    return w


@dataclass(frozen=True)
class _Data:
    """What training needs of a crowd, projected once: k numbers a comparison in place of d."""

    x: Tensor
    """(n, k) projected gaps."""
    odds: Tensor
    """(n,) log-odds of the pooled reward."""
    weight: Tensor
    points: Tensor
    """(u, k) projected responses."""
    rows: Tensor
    table: Tensor
    """(people, longest) rows of each person, padded with -1."""


def _loss(
    w: dict[str, Tensor], data: _Data, rows: Tensor, context: Tensor, options: LatentOptions, noise: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Mean target loss and mean KL a target, of rows (P, m) of which `context` (P, m) bool is given."""
    present = (rows >= 0).to(data.x)
    kept = rows.clamp_min(0)
    x, odds, weight = data.x[kept], data.odds[kept], data.weight[kept] * present
    mu, s = _encode(w, options.pooling, x, odds, weight * context)
    z = mu if noise is None else mu + s * noise
    logit = odds * w["scale"]
    if options.decoder == "linear":
        logit = logit + torch.einsum("pmk,pk->pm", x, z @ w["basis"].T)
    else:
        shift = (z @ w["dec_z"] + w["dec_b"])[:, None]
        chosen, rejected = (
            torch.relu(data.points[data.rows[kept][..., i]] @ w["dec_x"] + shift) @ w["dec_out"] for i in (0, 1)
        )
        logit = logit + chosen - rejected
    target = weight * ~context
    total = target.sum().clamp_min(1e-6)
    kl = 0.5 * (mu.square() + s.square() - 1 - 2 * s.log()).sum()
    return (softplus(-logit) * target).sum() / total, kl / total


def _episode(table: Tensor, most: int, generator: torch.Generator, fixed: int | None = None) -> tuple[Tensor, Tensor]:
    """Rows (P, m) of these people in random order and which of them (P, m) are context: 1 up to half, or `fixed`."""
    keys = torch.rand(table.shape, generator=generator).masked_fill(table < 0, 2.0)
    rows = table.gather(1, keys.argsort(1))[:, :most]
    had = (rows >= 0).sum(1)
    if fixed is None:
        size = 1 + (torch.rand(len(rows), generator=generator) * (had * 0.7)).long()
    else:
        size = torch.full((len(rows),), fixed)
    size = torch.minimum(size, (had - 1).clamp_min(0))
    return rows, torch.arange(rows.shape[1]) < size[:, None]


def train(crowd: Crowd, pooled: Tensor, options: LatentOptions) -> tuple[Latent, dict[str, Any]]:
    """Fit encoder and decoder; a tenth of the people (of 20 or more) say when to stop.

    Raises `EvidenceError` where annotators are not named or there are fewer than two.
    """
    crowd.require_people(2, "a latent-user model")
    generator = torch.Generator().manual_seed(options.seed)
    directions, _ = components(crowd, options.projection, centred=False)
    gaps = crowd.gaps()
    x = gaps @ directions.T
    whiten = x.square().mean(0).sqrt().clamp_min(1e-9)
    projection = directions / whiten[:, None]
    k = len(projection)
    x = x / whiten
    every = padded(torch.arange(len(crowd)), crowd.person, len(crowd.people))
    every = every[(every >= 0).sum(1) >= 2]
    if not len(every):
        raise TacitError("nobody compared twice, so nothing tells people apart. Give more comparisons of each person")
    data = _Data(x, gaps @ pooled, crowd.weight, crowd.features @ projection.T, crowd.rows, every)
    order = torch.randperm(len(every), generator=generator)
    watched = order[: len(order) // 10 if len(order) >= 20 else 0]
    learning = order[len(watched) :]
    w = {key: value.requires_grad_(True) for key, value in _start(k, options, generator).items()}
    optimiser = torch.optim.AdamW(w.values(), lr=options.learning_rate, weight_decay=0.01)
    trials = [_episode(every[watched], 4 * options.pairs_a_step, generator, fixed) for fixed in (5, 15, 40)]
    best, kept, waited, path = math.inf, {key: value.detach().clone() for key, value in w.items()}, 0, []
    for step in track(range(options.steps), "latent users", options.steps):
        warm = min(1.0, (step + 1) / 50)
        rate = options.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / options.steps))
        optimiser.param_groups[0]["lr"] = rate
        chosen = learning[torch.randperm(len(learning), generator=generator)[: options.people_a_step]]
        rows, context = _episode(every[chosen], options.pairs_a_step, generator)
        noise = torch.randn(len(rows), options.latent, generator=generator)
        loss, kl = _loss(w, data, rows, context, options, noise)
        beta = options.kl * min(1.0, 2 * step / options.steps)
        optimiser.zero_grad()
        (loss + beta * kl).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(w.values(), 5.0)
        optimiser.step()
        if len(watched) and (step + 1) % 25 == 0:
            with torch.no_grad():
                value = sum(float(_loss(w, data, *trial, options, None)[0]) for trial in trials) / len(trials)
            path.append(round(value, 5))
            waited += 1
            if value < best:
                best, waited = value, 0
                kept = {key: tensor.detach().clone() for key, tensor in w.items()}
            if waited >= 8:
                break
    final = kept if len(watched) else {key: tensor.detach().clone() for key, tensor in w.items()}
    report = {"steps": step + 1, "held_out_path": path, "held_out_loss": best if path else None}
    return Latent(pooled, projection, final, options.decoder, options.pooling), report


def fit(
    evidence: Iterable[Record],
    *,
    encoder: str | Encoder = "auto",
    cache: str | Path | None = None,
    name: str = "latent",
    **options: Any,
) -> PersonalReward:
    """Learn a latent-user model; `options` are the fields of `LatentOptions`.

    The reward scores at z = 0 until it is adapted to a person.
    """
    start = time.perf_counter()
    chosen = known_options(LatentOptions, options)
    encoder = load_encoder(encoder) if isinstance(encoder, str) else encoder
    crowd = read_crowd(evidence, encoder, cache)
    pooled, report = pooled_head(crowd, l2=chosen.l2, seed=chosen.seed)
    model, found = train(crowd, pooled, chosen)
    report |= {"options": asdict(chosen), **found}
    default = model.decode(torch.zeros(1, chosen.latent))
    return PersonalReward.of(crowd, encoder, "latent", model, pooled, default, name, report, cache, start)
