"""A discriminator on text features whose logit estimates h = log(rho_demo / rho_pi).

    L(h) = E_demo softplus(-h) / 2 + E_pi softplus(h) / 2 + penalty / 2 E |grad_x h|^2

with demonstrations by their weights, and the slope at points between a demonstration and an answer (Gulrajani et al.
2017 with the target 0 of Mescheder et al. 2018, arXiv 1801.04406): for a linear head that is a ridge. Both sides weigh
the same, so that h = 0 where they are as likely. Features are standardised and fixed, so that a round of fitting is a
few passes of L-BFGS over all of them, from where the last one ended: near the best response, and without a learning
rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from tacit.errors import TacitError
from tacit.rewards.heads import Parameters, Standardiser, scores


@dataclass(frozen=True)
class DiscriminatorOptions:
    """How a discriminator is fitted."""

    hidden: int = 0
    """Width of a hidden layer beside the linear part; 0 for none."""
    gradient_penalty: float = 1.0
    replay: int = 512
    """Answers of earlier rounds that are seen again."""
    passes: int = 25
    """Most iterations of L-BFGS in a round."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.hidden < 0 or self.gradient_penalty < 0 or self.replay < 0 or self.passes < 1:
            raise TacitError(f"an option of the discriminator is outside its range: {self}")


class Discriminator:
    """Demonstrations (m, d) against answers that come round by round."""

    def __init__(
        self,
        demonstrations: np.ndarray,
        answers: np.ndarray,
        options: DiscriminatorOptions,
        weights: Sequence[float] | None = None,
    ) -> None:
        self.options = options
        given = torch.ones(len(demonstrations)) if weights is None else torch.tensor(weights, dtype=torch.float32)
        if float(given.sum()) <= 0:
            raise TacitError("every demonstration has the weight 0. Give some a positive weight")
        self.weights = given / given.mean()
        """(m,) of the demonstrations; their mean is 1."""
        both = torch.from_numpy(np.concatenate([demonstrations, answers]).astype(np.float32))
        self.standardise = Standardiser.of(both)
        self.raw = both[: len(demonstrations)]
        self.demonstrations = self.standardise(self.raw)
        self.kept = torch.zeros(0, both.shape[1])
        self.rounds = 0
        drawn = torch.Generator().manual_seed(options.seed)
        dim, width = both.shape[1], options.hidden
        self.head: Parameters = {"linear": torch.zeros(1, dim), "bias": torch.zeros(1)}
        if width:
            self.head |= {
                "hidden.0.weight": torch.randn(1, dim, width, generator=drawn) / dim**0.5,
                "hidden.0.bias": torch.zeros(1, 1, width),
                "out": torch.randn(1, width, generator=drawn) * 0.1 / width**0.5,
            }

    def learn(self, answers: np.ndarray, more: np.ndarray | None = None) -> dict[str, float]:
        """Fit on fresh answers (n, d) and those kept; `more` (m, d) are the demonstrations again, in this round alone.

        Returns `discriminator/loss` (nats), `discriminator/accuracy` on both sides of this round, and the mean logits.
        """
        fresh = self.standardise(torch.from_numpy(np.asarray(answers, np.float32)))
        theirs = self.demonstrations
        if more is not None:
            theirs = torch.cat([theirs, self.standardise(torch.from_numpy(np.asarray(more, np.float32)))])
        ours = torch.cat([fresh, self.kept])
        loss = self._fit(theirs, ours)
        self.kept = ours[: self.options.replay].clone()
        self.rounds += 1
        with torch.no_grad():
            good, bad = scores(self.head, theirs)[0], scores(self.head, fresh)[0]
        return {
            "discriminator/loss": loss,
            "discriminator/accuracy": float(((good > 0).float().mean() + (bad < 0).float().mean()) / 2),
            "discriminator/demonstrations": float(good.mean()),
            "discriminator/answers": float(bad.mean()),
        }

    def parameters(self) -> Parameters:
        """The head on raw features, as `FeatureReward` holds one."""
        return {name: value.detach().clone() for name, value in self.standardise.fold(self.head).items()}

    def tensors(self) -> dict[str, Tensor]:
        """What a resumed run needs."""
        scale = {"mean": self.standardise.mean, "scale": self.standardise.scale}
        return {**{f"head.{k}": v for k, v in self.head.items()}, **scale, "kept": self.kept}

    def restore(self, tensors: dict[str, Tensor], rounds: int) -> None:
        """Take over what `tensors` gave."""
        # Copies are aligned in memory as the originals were, without which sums are rounded otherwise.
        self.standardise = Standardiser(tensors["mean"].clone(), tensors["scale"].clone())
        self.demonstrations = self.standardise(self.raw)
        self.head = {name: tensors[f"head.{name}"].clone() for name in self.head}
        self.kept, self.rounds = tensors["kept"].clone(), rounds

    def _fit(self, good: Tensor, bad: Tensor) -> float:
        head = {name: value.clone().requires_grad_(True) for name, value in self.head.items()}
        optimiser = torch.optim.LBFGS(
            list(head.values()), max_iter=self.options.passes, history_size=10, line_search_fn="strong_wolfe",
            tolerance_grad=1e-5, tolerance_change=1e-8,
        )  # fmt: skip
        between = self._between(good, bad)
        weight = self.weights.repeat(len(good) // len(self.weights))

        def evaluate() -> Tensor:
            optimiser.zero_grad()
            value = ((weight * softplus(-scores(head, good)[0])).mean() + softplus(scores(head, bad)[0]).mean()) / 2
            total = value + self.options.gradient_penalty / 2 * self._slope(head, between)
            total.backward()  # type: ignore[no-untyped-call]
            evaluate.value = float(value.detach())  # type: ignore[attr-defined]
            return total

        with torch.enable_grad():
            optimiser.step(evaluate)  # type: ignore[no-untyped-call]
        found = {name: value.detach() for name, value in head.items()}
        if not all(bool(torch.isfinite(value).all()) for value in found.values()):
            raise TacitError("the discriminator diverged: its weights are not finite. Raise --gradient-penalty")
        self.head = found
        return float(evaluate.value)  # type: ignore[attr-defined]

    def _between(self, good: Tensor, bad: Tensor) -> Tensor:
        """A random point between as many demonstrations and answers."""
        drawn = torch.Generator().manual_seed(self.options.seed * 1_000_003 + self.rounds)
        count = min(len(good), len(bad))
        a = good[torch.randperm(len(good), generator=drawn)[:count]]
        b = bad[torch.randperm(len(bad), generator=drawn)[:count]]
        share = torch.rand(count, 1, generator=drawn)
        return share * a + (1 - share) * b

    def _slope(self, head: Parameters, points: Tensor) -> Tensor:
        """E |grad_x h|^2 at these points."""
        if not self.options.hidden:
            return head["linear"].square().sum()
        x = points.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(scores(head, x).sum(), x, create_graph=True)
        return slope.square().sum(1).mean()
