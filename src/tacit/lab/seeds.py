"""Repetition: the same experiment under several seeds, as means with 95% intervals."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from tacit.progress import track


def mean_interval(values: Sequence[float]) -> tuple[float, list[float]]:
    """The mean and its 95% interval by Student's t over seeds."""
    from scipy.stats import t

    sample = np.asarray(values, dtype=np.float64)
    half = float(t.ppf(0.975, len(sample) - 1) * sample.std(ddof=1) / np.sqrt(len(sample)))
    mean = float(sample.mean())
    return mean, [mean - half, mean + half]


def wilson(count: int, of: int) -> list[float]:
    """The 95% interval of a share `count` / `of` (Wilson 1927): never outside 0..1, and not empty at its ends."""
    z, p = 1.959964, count / of
    middle, half = p + z**2 / (2 * of), z * np.sqrt(p * (1 - p) / of + z**2 / (4 * of**2))
    return [float(max(0.0, end / (1 + z**2 / of))) for end in (middle - half, middle + half)]


def repeat(
    once: Callable[[int], list[dict[str, Any]]], seeds: int, seed: int, title: str, shares: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Run `once(seed)` for `seeds` seeds from `seed` on, and join the rows that they have in common.

    Each run gives the same rows in the same order. Their numbers become the mean and `X_ci`; a truth value becomes how
    often it was true; texts stay. The intervals of `shares` are cut to 0..1.
    """
    runs = [once(s) for s in track(range(seed, seed + seeds), title, seeds)]
    joined = []
    for rows in zip(*runs, strict=True):
        row: dict[str, Any] = {}
        for key, first in rows[0].items():
            values = [own[key] for own in rows]
            if isinstance(first, bool):
                row[key] = f"{sum(values)} of {len(values)}"
            elif isinstance(first, int | float):
                row[key], interval = mean_interval(values)
                row[f"{key}_ci"] = [min(max(end, 0.0), 1.0) for end in interval] if key in shares else interval
            else:
                row[key] = first
        joined.append(row)
    return joined
