"""Divergences between a demonstrator and a policy, and the reward that each induces (survey section 2.4, Table 4).

With u = rho_demo / rho_pi, h = log u and T the discriminator (Nowozin et al. 2016; survey equations 2-4)

    D_f(rho_demo || rho_pi) = E_pi f(u) = max_T E_demo T - E_pi f*(T),    T* = f'(u).

The policy that minimises this maximises E_pi of the induced reward f*(f'(u)) = u f'(u) - f(u), the exact functional
gradient: `reward(h, "formal")`. Some papers plug in -f(u) instead, which treats u as given: `reward(h, "direct")`.
That is no property of the divergence: f and f + c (u - 1) are one divergence, and the direct reward changes with c, its
order included. `tacit lab induced` shows what comes of it: of the direct rewards only that of reverse_kl imitates.

| name | f(u) | formal reward, up to a constant | direct reward | |
|---|---|---|---|---|
| reverse_kl | -log u | h | h | AIRL |
| js | u log u - (u+1) log((u+1)/2) | log(1 + e^h), that is -log(1 - D) | -f(u) | GAIL |
| forward_kl | u log u | e^h | -h e^h | FAIRL publishes the direct one |
| chi2 | (u-1)^2 | u^2 | -(u-1)^2 | |
| hellinger | (sqrt u - 1)^2 | sqrt u | -(sqrt u - 1)^2 | |
| tv | |u-1| / 2 | sign(h) / 2 | -|u-1| / 2 | |
| alpha | (u^a - 1 - a (u-1)) / (a (a-1)) | u^a / a | -f(u) | a -> 1 forward_kl, a -> 0 reverse_kl |

`js` is the f of the survey's Table 4, which gives *twice* the Jensen-Shannon divergence. In practice a discriminator is
fitted by logistic loss and its logit is h; both are clipped, since e^h has no bound. All functions take numpy arrays or
torch tensors and give what they were given.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tacit.errors import TacitError

Kind = Literal["formal", "direct"]
NAMES = ("reverse_kl", "js", "forward_kl", "chi2", "hellinger", "tv", "alpha")
ALIASES = {"airl": "reverse_kl", "gail": "js", "fairl": "forward_kl", "rkl": "reverse_kl", "kl": "forward_kl"}


class DivergenceError(TacitError):
    """A divergence that does not exist, or a parameter outside its domain."""


@dataclass(frozen=True)
class Divergence:
    """One f-divergence. u > 0 is the density ratio demonstrator / policy, t a value of the discriminator."""

    name: str
    f: Callable[[Any], Any]
    """f(u): convex with f(1) = 0."""
    derivative: Callable[[Any], Any]
    """f'(u), the best discriminator T*."""
    second: Callable[[Any], Any]
    """f''(u) >= 0; how much a ratio u weighs in the curvature. 0 almost everywhere for total variation."""
    conjugate: Callable[[Any], Any]
    """f*(t) = sup_u>0 [u t - f(u)] for t in `domain`."""
    domain: tuple[float, float]
    """Open interval of t in which f* is finite; closed at +1/2 for total variation."""
    formal: Callable[[Any], Any]
    """f*(f'(e^h)) from h."""
    at_zero: float
    """f(0): what mass of the policy costs where the demonstrator has none."""
    at_infinity: float
    """lim f'(u): what mass of the demonstrator costs where the policy has none."""

    def reward(self, h: Any, kind: Kind = "formal", *, clip: float = 10.0, limit: float = 100.0) -> Any:
        """The reward of log-ratios h: h clipped to +-clip first, the reward to +-limit after.

        Higher is better for the policy. `formal` is f*(T*) with its constant, `direct` is -f(u): for forward_kl the
        published FAIRL reward -h e^h, which falls above h = -1 and so *punishes* what the demonstrator does more often.
        """
        if kind not in ("formal", "direct"):
            raise DivergenceError(f"no reward `{kind}`. Take formal or direct")
        if not (clip > 0 and limit > 0):
            raise DivergenceError(f"clip {clip} and limit {limit} must be above 0")
        xp = _space(h)
        held = xp.clip(h, -clip, clip)
        value = self.formal(held) if kind == "formal" else -self.f(xp.exp(held))
        return xp.clip(value, -limit, limit)

    def dual(self, demonstrator: Any, policy: Any) -> Any:
        """E_demo T - E_pi f*(T) from values T of the discriminator on samples: a lower bound of the divergence."""
        return demonstrator.mean() - self.conjugate(policy).mean()

    def between(self, demonstrator: Any, policy: Any) -> npt.NDArray[np.float64]:
        """(...) D_f of two distributions (..., n) over the same n outcomes; infinite where the supports say so."""
        p, q = np.broadcast_arrays(np.asarray(demonstrator, np.float64), np.asarray(policy, np.float64))
        both = (p > 0) & (q > 0)
        with np.errstate(over="ignore"):
            inner = np.where(both, q * self.f(np.where(both, p, 1) / np.where(both, q, 1)), 0).sum(-1)
        return np.asarray(
            inner
            + _weighed(np.where(p > 0, 0, q).sum(-1), self.at_zero)
            + _weighed(np.where(q > 0, 0, p).sum(-1), self.at_infinity)
        )


def divergence(name: str, *, alpha: float = 0.5) -> Divergence:
    """The divergence of this name, or of the method that uses it (airl, gail, fairl); `alpha` only for `alpha`.

    Raises `DivergenceError` for an unknown name and for alpha 0 or 1, which are reverse_kl and forward_kl.
    """
    name = ALIASES.get(name, name)
    if name == "alpha":
        return _alpha(alpha)
    if name not in _KNOWN:
        raise DivergenceError(f"no divergence `{name}`. Take one of: {', '.join((*NAMES, *ALIASES))}")
    return _KNOWN[name]


def _alpha(alpha: float) -> Divergence:
    a = float(alpha)
    if a in (0.0, 1.0) or not math.isfinite(a):
        raise DivergenceError(f"alpha {alpha} is not allowed. Its limits are reverse_kl (0) and forward_kl (1)")
    edge = 1 / (1 - a)

    def conjugate(t: Any) -> Any:
        base = 1 + (a - 1) * t
        held = _space(t).clip(base, 0, None) if a > 1 else base
        return (held ** (a / (a - 1)) - 1) / a

    return Divergence(
        name="alpha",
        f=lambda u: (u**a - 1 - a * (u - 1)) / (a * (a - 1)),
        derivative=lambda u: (u ** (a - 1) - 1) / (a - 1),
        second=lambda u: u ** (a - 2),
        conjugate=conjugate,
        domain=(-math.inf, edge) if a < 1 else (-math.inf, math.inf),
        formal=lambda h: _space(h).expm1(a * h) / a,
        at_zero=1 / a if a > 0 else math.inf,
        at_infinity=edge if a < 1 else math.inf,
    )


def _space(x: Any) -> Any:
    """The library of an array: torch for its tensors, without loading torch for anything else."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(x, torch.Tensor) else np


def _softplus(h: Any) -> Any:
    xp = _space(h)
    return xp.clip(h, 0, None) + xp.log1p(xp.exp(-abs(h)))


def _js(u: Any) -> Any:
    xp = _space(u)
    return u * xp.log(u) - (u + 1) * xp.log((u + 1) / 2)


def _weighed(mass: Any, cost: float) -> Any:
    """Mass times cost with 0 times infinity = 0."""
    return np.where(mass > 0, np.where(mass > 0, mass, 1) * cost, 0.0)


_KNOWN = {
    "reverse_kl": Divergence(
        name="reverse_kl",
        f=lambda u: -_space(u).log(u),
        derivative=lambda u: -1 / u,
        second=lambda u: 1 / u**2,
        conjugate=lambda t: -1 - _space(t).log(-t),
        domain=(-math.inf, 0.0),
        formal=lambda h: h - 1,
        at_zero=math.inf,
        at_infinity=0.0,
    ),
    "js": Divergence(
        name="js",
        f=_js,
        derivative=lambda u: _space(u).log(2 * u / (1 + u)),
        second=lambda u: 1 / (u * (1 + u)),
        conjugate=lambda t: -_space(t).log(2 - _space(t).exp(t)),
        domain=(-math.inf, math.log(2)),
        formal=lambda h: _softplus(h) - math.log(2),
        at_zero=math.log(2),
        at_infinity=math.log(2),
    ),
    "forward_kl": Divergence(
        name="forward_kl",
        f=lambda u: u * _space(u).log(u),
        derivative=lambda u: 1 + _space(u).log(u),
        second=lambda u: 1 / u,
        conjugate=lambda t: _space(t).exp(t - 1),
        domain=(-math.inf, math.inf),
        formal=lambda h: _space(h).exp(h),
        at_zero=0.0,
        at_infinity=math.inf,
    ),
    "chi2": Divergence(
        name="chi2",
        f=lambda u: (u - 1) ** 2,
        derivative=lambda u: 2 * (u - 1),
        second=lambda u: 2 + 0 * u,
        conjugate=lambda t: (1 + _space(t).clip(t, -2, None) / 2) ** 2 - 1,
        domain=(-math.inf, math.inf),
        formal=lambda h: _space(h).expm1(2 * h),
        at_zero=1.0,
        at_infinity=math.inf,
    ),
    "hellinger": Divergence(
        name="hellinger",
        f=lambda u: (u**0.5 - 1) ** 2,
        derivative=lambda u: 1 - u**-0.5,
        second=lambda u: 0.5 * u**-1.5,
        conjugate=lambda t: t / (1 - t),
        domain=(-math.inf, 1.0),
        formal=lambda h: _space(h).expm1(h / 2),
        at_zero=1.0,
        at_infinity=1.0,
    ),
    "tv": Divergence(
        name="tv",
        f=lambda u: abs(u - 1) / 2,
        derivative=lambda u: _space(u).sign(u - 1) / 2,
        second=lambda u: 0 * u,
        conjugate=lambda t: _space(t).clip(t, -0.5, None),
        domain=(-math.inf, 0.5),
        formal=lambda h: _space(h).sign(h) / 2,
        at_zero=0.5,
        at_infinity=0.5,
    ),
}
