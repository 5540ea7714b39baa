"""Does adapting help? Every personal reward beside the controls that it must beat, on comparisons it has not seen.

A person is adapted on n comparisons and tested on others of the same person, never on the same pair. Controls, all
adapted on the same comparisons:

- `pooled`: the reward of everybody, not adapted;
- `gaussian heads`, `uniform heads`: random directions weighed as decomposed rewards weigh theirs;
- `logistic`: plain logistic regression on the n comparisons, its ridge chosen by cross-fitting on them;
- `logistic, pooled prior`: the same around the pooled reward.

Intervals are percentiles of a bootstrap over people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from tacit.errors import TacitError
from tacit.evidence.records import Record
from tacit.rewards.contract import Personal
from tacit.rewards.people.adapting import Adapting, Fixed, Logistic, person_metrics, query_odds
from tacit.rewards.people.crowd import UNKNOWN, Crowd, Episodes, read_crowd
from tacit.rewards.people.decomposed import Decomposed, DecomposedOptions, decompose
from tacit.rewards.people.personal import PersonalReward

SHOTS = (10, 30, 100)


def controls(
    crowd: Crowd, pooled: Tensor, options: DecomposedOptions, *, gain: float | None = None
) -> dict[str, Adapting]:
    """The controls; random heads are as many as `options` has components, scaled on the differences of `crowd`.

    Their gain is fitted on the people of `crowd`, so it must be given where these are the people tested on.
    """
    gaussian = decompose(crowd, pooled, replace(options, directions="gaussian"), gain=gain)[0]
    uniform = decompose(crowd, pooled, replace(options, directions="uniform"), gain=gain)[0]
    return {
        "pooled": Fixed(pooled).adapt,
        "gaussian heads": gaussian.adapt,
        "uniform heads": uniform.adapt,
        "logistic": Logistic().adapt,
        "logistic, pooled prior": Logistic(pooled).adapt,
    }


def adaptation(crowd: Crowd, methods: Mapping[str, Adapting], episodes: Episodes) -> dict[str, dict[str, np.ndarray]]:
    """`accuracy` and `nll` of each person (P,) by each method, on the query rows of the same episodes."""
    return {name: person_metrics(*query_odds(crowd, episodes, adapt)) for name, adapt in methods.items()}


def rows_of(
    found: Mapping[str, Mapping[str, np.ndarray]], *, resamples: int = 1000, seed: int = 0, **shared: Any
) -> list[dict[str, Any]]:
    """One row a method with means over people, 95% intervals, and the gain in accuracy over `pooled`, paired."""
    people = len(found["pooled"]["accuracy"])
    draws = np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), size=resamples) / people
    rows = []
    for name, metrics in found.items():
        row: dict[str, Any] = {**shared, "reward": name, "people": people}
        for key, values in metrics.items():
            row[key] = float(values.mean())
            row[f"{key}_ci"] = np.quantile(draws @ values, [0.025, 0.975]).tolist()
        gain = metrics["accuracy"] - found["pooled"]["accuracy"]
        row["gain"], row["gain_ci"] = float(gain.mean()), np.quantile(draws @ gain, [0.025, 0.975]).tolist()
        rows.append(row)
    return rows


def personal_table(
    reward: Personal,
    evidence: Iterable[Record],
    *,
    shots: Sequence[int] = SHOTS,
    resamples: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Rows of `reward` and all controls for each number of shots that enough people have.

    None where nobody is named, nor for a reward that adapts in a way of its own (no `PersonalReward`). `evidence` holds
    comparisons that the reward was not fitted on. Random heads are scaled on it, without its labels.
    """
    if not isinstance(reward, PersonalReward):
        return []
    crowd = read_crowd(evidence, reward.encoder, reward.cache, standardise=reward.standardise)
    if bool((crowd.person == UNKNOWN).all()):
        return []
    adapter = reward.adapter
    options, gain = DecomposedOptions(seed=seed), 1.0
    if isinstance(adapter, Decomposed):
        count = max(1, len(adapter.heads) // 2)
        options = DecomposedOptions(
            components=count,
            temperature=adapter.temperature,
            reduction=adapter.reduction,  # type: ignore[arg-type]
            seed=seed,
        )
        gain = adapter.gain
    methods = {reward.people: adapter.adapt, **controls(crowd, reward.pooled, options, gain=gain)}
    rows: list[dict[str, Any]] = []
    for count in shots:
        try:
            episodes = Episodes.draw(crowd, count, seed)
        except TacitError:
            break
        rows += rows_of(adaptation(crowd, methods, episodes), resamples=resamples, seed=seed, shots=count)
    return rows


def narrow(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows with each interval in the cell of its value, for a terminal or a page."""
    kept = []
    for row in rows:
        cells = {key: value for key, value in row.items() if not key.endswith("_ci")}
        for key in cells.keys() & {key.removesuffix("_ci") for key in row if key.endswith("_ci")}:
            low, high = row[f"{key}_ci"]
            cells[key] = f"{row[key]:.3f} [{low:.3f}, {high:.3f}]"
        kept.append(cells)
    return kept
