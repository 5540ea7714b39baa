"""The stability experiment: what counts as a failure, its table, and a run at a size that only shows that it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from real_data import DATA
from tacit.lab.experiments import stability
from tacit.lab.experiments.stability import SETTINGS, Scale, failures, once, table

START: dict[str, Any] = {"gold": [0.0, 0.2, -0.2, 0.1], "kl": 0.0, "told_apart": 0.7, "told_apart_ci": [0.6, 0.8]}


@pytest.mark.parametrize(
    ("change", "stopped", "named"),
    [
        ({}, "", []),
        ({"kl": 10.5}, "", ["far"]),
        ({"kl": 9.5}, "collapsed: ...", ["stopped"]),
        ({"gold": [-1.0, -0.8, -1.3, -0.9]}, "", ["worse"]),
        ({"gold": [-1.0, 1.2, -1.3, 0.9]}, "", []),  # as many better as worse: no difference can be shown
        ({"told_apart_ci": [0.71, 0.9]}, "", ["told apart"]),
        ({"told_apart_ci": [0.69, 0.9], "kl": 11}, "", ["far"]),
    ],
)
def test_a_failure_is_what_the_docstring_says(change: dict[str, Any], stopped: str, named: list[str]) -> None:
    assert failures({**START, **change}, START, stopped) == named


def test_the_table_counts_failures_with_wilson_intervals() -> None:
    runs = [
        {"setting": "a", "seed": i, "why": why, "gain": gain, "kl": 2.0, "told_apart": 0.5}
        for i, (why, gain) in enumerate([([], 0.5), (["far", "worse"], 0.1), ([], 0.3), (["not finite"], None)])
    ]
    (row,) = table(runs)
    assert row["failed"] == "2 of 4"
    assert row["failure_rate"] == 0.5
    # Wilson for 2 of 4: (.5 + z^2/8 -+ z sqrt(.25/4 + z^2/64)) / (1 + z^2/4), z = 1.96
    assert np.allclose(row["failure_rate_ci"], [0.1500, 0.8500], atol=2e-4)
    assert row["why"] == "1 far, 1 worse, 1 not finite"
    assert row["gain"] == pytest.approx(0.3)
    assert (
        table([{"setting": "b", "why": ["not finite"], "gain": None, "kl": None, "told_apart": None}])[0]["kl"] is None
    )


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "tiny-lm").is_dir(), reason="needs stories260K (TACIT_DATA)")
def test_settings_run(tmp_path: Path) -> None:
    scale = Scale(rounds=2, tokens=8, prompts=24, held_out=10, rows=16, resamples=20)
    names = ("demonstrations", "no training", "js", "per token", "reward not normalised", "language model, per token")
    rows = once(DATA, tmp_path, 0, scale, names)
    assert [row["setting"] for row in rows] == list(names)
    assert all(np.isfinite([row["gain"], row["kl"], row["told_apart"]]).all() for row in rows[1:])
    assert rows[1]["kl"] == pytest.approx(0.0, abs=1e-3)
    assert rows[2]["kl"] != rows[1]["kl"]


def test_errors_are_failures_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tacit.errors import TacitError

    def broken(*_: Any) -> Any:
        raise TacitError("the loss of step 3 is nan")

    monkeypatch.setattr(stability, "_load", lambda folder: None)
    monkeypatch.setattr(stability, "_method", broken)

    class World:
        base = tmp_path

    row = stability._tried("js", SETTINGS["js"], World(), None, START, tmp_path, 0, Scale())
    assert row["why"] == ["not finite"]
    assert "step 3" in row["said"]
