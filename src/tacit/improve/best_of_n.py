"""Best of n: sample n completions, keep the one that the reward likes best.

How much it helps, and when the learnt reward (the proxy) stops being a good guide to the true one (the gold), is
estimated without bias from N >= n samples of each prompt: for a random subset of n of the N, the winner is the i-th
smallest by proxy with probability C(i-1, n-1) / C(N, n), so

    E[gold | n] = sum_{i=n}^{N} C(i-1, n-1) / C(N, n) gold_(i),      gold sorted by proxy

(Nakano et al. 2021, WebGPT, appendix I; Gao et al. 2023). Where proxies tie, the winner is one of the tied at random,
and a run of ties at places a..b shares its probability (C(b, n) - C(a-1, n)) / C(N, n) evenly. The distance moved from
plain sampling is at most KL(n) = log n - (n-1)/n nats (Stiennon et al. 2020; that it is a bound: Beirami et al. 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tacit.conversation import Completion, Prompt
from tacit.errors import TacitError
from tacit.rewards.contract import Reward

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """The completion chosen, its place among the candidates, and the scores of all that were looked at."""

    completion: Completion
    index: int
    score: float
    scores: Array


def choose(reward: Reward, prompt: Prompt, candidates: Sequence[Completion], n: int | None = None) -> Choice:
    """The best of the first `n` candidates (of all by default) by `reward`; the first of equals.

    Raises `TacitError` for no candidates, or fewer than `n`, and for one text in place of a list.
    """
    if isinstance(candidates, str):
        raise TacitError(f"candidates is the text {candidates[:40]!r}. Give a list of texts to choose from")
    count = len(candidates) if n is None else n
    if not 1 <= count <= len(candidates):
        raise TacitError(f"best of {count} from {len(candidates)} candidates. Choose n within 1..{len(candidates)}")
    looked_at = list(candidates[:count])
    scores = np.asarray(reward.score([prompt] * count, looked_at), dtype=np.float64)
    best = int(np.argmax(scores))
    return Choice(looked_at[best], best, float(scores[best]), scores)


def kl_best_of_n(n: npt.ArrayLike) -> Array:
    """KL(best of n || one sample) <= log n - (n - 1) / n in nats, exact for continuous rewards without ties: (...)."""
    count = np.asarray(n, dtype=np.float64)
    return np.asarray(np.log(count) - (count - 1) / count)


def expected_best_of_n(proxy: npt.ArrayLike, gold: npt.ArrayLike, ns: Sequence[int]) -> Array:
    """Unbiased E[gold of the proxy's best of n] of each prompt: (prompts, N), (prompts, N) to (prompts, len(ns)).

    Exactly the mean over all C(N, n) subsets, ties in the proxy broken evenly. O(N log N) per prompt, plus one product
    for all n. Raises `TacitError` for shapes that differ, n outside 1..N or values that are not finite.
    """
    p, g = _checked(proxy, gold)
    n_samples = p.shape[1]
    counts = _checked_ns(ns, n_samples)
    order = np.argsort(p, axis=1, kind="stable")
    sorted_p, sorted_g = np.take_along_axis(p, order, axis=1), np.take_along_axis(g, order, axis=1)
    return _share_ties(sorted_p, sorted_g) @ place_probabilities(n_samples, counts)


def place_probabilities(n_samples: int, ns: Sequence[int]) -> Array:
    """P(the winner of a random subset of n is at place i) = C(i-1, n-1) / C(N, n), places by proxy: (N, len(ns))."""
    from scipy.special import gammaln

    place, n = np.arange(1, n_samples + 1)[:, None], np.asarray(ns)[None, :]

    def log_binomial(top: npt.ArrayLike, bottom: npt.ArrayLike) -> Array:
        t, b = np.broadcast_arrays(np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64))
        safe = np.maximum(t, b)
        return np.where(t >= b, gammaln(safe + 1) - gammaln(b + 1) - gammaln(safe - b + 1), -np.inf)

    return np.exp(log_binomial(place - 1, n - 1) - log_binomial(n_samples, n))


def curve_ns(n_samples: int) -> list[int]:
    """The n of a curve over N samples: powers of two and N itself; every n up to N where N is at most 4."""
    if n_samples <= 4:
        return list(range(1, n_samples + 1))
    powers = [2**k for k in range(n_samples.bit_length())]
    return powers if powers[-1] == n_samples else [*powers, n_samples]


def best_of_n_curve(
    proxy: npt.ArrayLike,
    gold: npt.ArrayLike,
    ns: Sequence[int] | None = None,
    *,
    lengths: npt.ArrayLike | None = None,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Any]:
    """The over-optimisation curve over n, mean over prompts, with intervals clustered by prompt; JSON-ready.

    Args:
        proxy: the reward that chooses, (prompts, N).
        gold: the reward that counts, (prompts, N).
        ns: which n, 1..N; by default those of `curve_ns`, the last of which is N, all candidates.
        lengths: of the completions, (prompts, N), for the control that always takes the longest.
        resamples: bootstrap draws of prompts; the same draws for every curve, so that curves can be compared.
        seed: of the bootstrap.
        level: of the intervals.

    Returns lists over n: `n`, `kl`, `gold` and `gold_ci` (true reward of the proxy's choice), `proxy` (what the proxy
    promises), `random` (choice by lot, the mean of all samples at every n), `oracle` (choice by gold itself), `longest`
    where lengths are given, and `prompts`, `samples`. Curves but `gold` have their `_ci` as well.
    """
    p, g = _checked(proxy, gold)
    n_prompts, n_samples = p.shape
    counts = _checked_ns(curve_ns(n_samples) if ns is None else ns, n_samples)
    curves = {
        "gold": expected_best_of_n(p, g, counts),
        "proxy": expected_best_of_n(p, p, counts),
        "random": np.repeat(g.mean(axis=1, keepdims=True), len(counts), axis=1),
        "oracle": expected_best_of_n(g, g, counts),
    }
    if lengths is not None:
        curves["longest"] = expected_best_of_n(lengths, g, counts)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(n_prompts, np.full(n_prompts, 1 / n_prompts), size=resamples) / n_prompts
    result: dict[str, Any] = {
        "n": counts,
        "kl": kl_best_of_n(counts).tolist(),
        "prompts": n_prompts,
        "samples": n_samples,
    }
    for name, curve in curves.items():
        result[name] = curve.mean(axis=0).tolist()
        ends = np.quantile(weights @ curve, [(1 - level) / 2, (1 + level) / 2], axis=0)
        result[f"{name}_ci"] = ends.T.tolist() if n_prompts > 1 else None
    return result


def _share_ties(sorted_proxy: Array, values: Array) -> Array:
    """Replace the values of every run of equal proxies in a row by their mean: (prompts, N) to (prompts, N).

    The winner of a run of ties is any of its members with equal probability, so the expectation over the run's places
    is their total probability times the mean value.
    """
    rows, columns = sorted_proxy.shape
    starts = np.ones((rows, columns), dtype=bool)
    starts[:, 1:] = sorted_proxy[:, 1:] != sorted_proxy[:, :-1]
    run = np.cumsum(starts.ravel()) - 1
    total = np.bincount(run, weights=values.ravel())
    shared: Array = (total / np.bincount(run))[run].reshape(rows, columns)
    return shared


def _checked(proxy: npt.ArrayLike, gold: npt.ArrayLike) -> tuple[Array, Array]:
    p, g = np.asarray(proxy, dtype=np.float64), np.asarray(gold, dtype=np.float64)
    if p.ndim != 2 or p.shape != g.shape or p.size == 0:
        raise TacitError(
            f"proxy has shape {p.shape} and gold {g.shape}. Give two arrays of the same shape (prompts, samples)"
        )
    if not (np.isfinite(p).all() and np.isfinite(g).all()):
        raise TacitError("proxy or gold holds a value that is not finite. Score every sample first")
    return p, g


def _checked_ns(ns: Sequence[int], n_samples: int) -> list[int]:
    counts = [int(n) for n in ns]
    if not counts or min(counts) < 1 or max(counts) > n_samples:
        raise TacitError(f"n = {counts} with {n_samples} samples of each prompt. Choose every n within 1..{n_samples}")
    return counts
