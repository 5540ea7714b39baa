"""`tacit lab humour-pessimism`: does doubt make better forecasts? Ensembles and Laplace against a single linear fit.

Votes on one-liners (`--data`), split by item a number of times: no item of the test is in the fit, and the temperature
is chosen by cross-fitting inside the fit's side. Each row reads one of two fits, a single one with the posterior of its
last layer and ten bootstrap members, and forecasts P(a funnier than b) = sigma(difference of the scores read so); the
moderated rows average the forecast over the doubt about the difference instead.

- `nll`, `ece`, `accuracy` on the unseen votes; `floor` is the ECE that chance alone would give these very forecasts if
  they were perfectly calibrated, and `above_floor` = `ece` - `floor`.
- `nll_gain` and `ece_gain`: the single fit's less this row's, on the same votes, positive where this row is better;
  intervals are Student's t over splits, which share items and so are not independent: read them as a description.
- `spearman` with the gold score over the unseen items.

`calibrated` says in how many splits the single fit's ECE lies within .01 of its floor.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tacit.audit import calibration
from tacit.audit.metrics import pair_accuracy
from tacit.audit.ranking import spearman
from tacit.evidence import split
from tacit.evidence.records import Comparison
from tacit.lab.humour import one_liners
from tacit.lab.seeds import repeat
from tacit.rewards.feature_reward import fit
from tacit.rewards.uncertainty import below, moderated_logit, read_members

WITHIN = 0.01
"""How far above its floor a calibrated ECE may lie."""


def run(*, data: Path, seeds: int = 10, seed: int = 0, members: int = 10, simulations: int = 200) -> dict[str, Any]:
    """The table over `seeds` splits of the votes in `data`."""
    evidence, encoder, gold = one_liners(data)

    def once(s: int) -> list[dict[str, Any]]:
        train, test = split(evidence, by="item", test=0.2, seed=s)
        pairs = [(str(r.chosen), str(r.rejected)) for r in test if isinstance(r, Comparison)]
        items = sorted({text for pair in pairs for text in pair})
        number = {text: i for i, text in enumerate(items)}
        a, b = np.array([(number[c], number[r]) for c, r in pairs]).T
        nothing = [""] * len(items)
        single = fit(train, encoder=encoder, seed=s, laplace=True)
        several = fit(train, encoder=encoder, seed=s, members=members)
        score, doubt = single.score_deviation(nothing, items)
        _, doubt_of_pair = single.difference_deviation(
            nothing[:1] * len(a), [items[i] for i in a], [items[i] for i in b]
        )
        each = several.score_members(nothing, items).astype(np.float64)
        spread = (each[:, a] - each[:, b]).var(0, ddof=1)

        def of(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return values[a] - values[b], values

        rows = {
            "single": of(score),
            "single, moderated": (moderated_logit(score[a] - score[b], doubt_of_pair**2), score),
            "single, laplace": of(below(score, doubt)),
            "ensemble": of(each.mean(0)),
            "ensemble, moderated": (moderated_logit(each.mean(0)[a] - each.mean(0)[b], spread), each.mean(0)),
            "ensemble, min": of(read_members(each, "min")),
            "ensemble, variance": of(read_members(each, "variance")),
            "ensemble, quantile": of(read_members(each, "quantile")),
        }
        rng = np.random.default_rng(s)
        return _rows(rows, np.array([gold[text] for text in items]), rng, simulations, len(train))

    rows = repeat(once, seeds, seed, "humour-pessimism")
    return {"experiment": "humour-pessimism", "splits": seeds, "members": members, "rows": rows}


def _rows(
    forecasts: dict[str, tuple[np.ndarray, np.ndarray]],
    gold: np.ndarray,
    rng: np.random.Generator,
    simulations: int,
    n_train: int,
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, (logit, values) in forecasts.items():
        delta = np.asarray(logit, np.float64)
        ones = np.ones(len(delta))
        ece, floor = calibration.ece(delta, ones), calibration.ece_noise_floor(delta, rng, simulations=simulations)
        nll = float(calibration.nll(delta, ones).mean())
        first = rows[0] if rows else {"nll": nll, "ece": ece}
        rows.append(
            {
                "reading": name,
                "nll": nll,
                "nll_gain": first["nll"] - nll,
                "ece": ece,
                "ece_gain": first["ece"] - ece,
                "floor": floor,
                "above_floor": ece - floor,
                "calibrated": ece - floor <= WITHIN,
                "accuracy": float(pair_accuracy(delta, np.zeros(len(delta))).mean()),
                "spearman": float(spearman(values, gold)),
                "n_train": n_train,
                "n_test": len(delta),
            }
        )
    return rows
