"""Rows to look at, and the flip model: planted flips are counted and found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tacit.audit.bootstrap import Clusters
from tacit.audit.flips import fit_flips
from tacit.audit.rows import mislabelled_score, rows_to_look_at


def test_the_flip_model_tells_flips_from_noise() -> None:
    """Votes by P = (1 - 2 e) sigma(k d) + e: k and e come back, and none are found where there are none."""
    rng = np.random.default_rng(0)
    n = 6000
    d = rng.normal(0, 3, n)
    for slope, flips in ((1.0, 0.0), (1.0, 0.1), (0.5, 0.0)):
        p = (1 - 2 * flips) / (1 + np.exp(-slope * d)) + flips
        delta = np.where(rng.random(n) < p, d, -d)
        found = fit_flips(delta, np.ones(n), Clusters.of(np.arange(n)), rng)
        assert found.flips == pytest.approx(flips, abs=0.02)
        assert found.slope == pytest.approx(slope, rel=0.15)
        assert found.flips_ci is not None
        assert found.flips_ci[0] <= flips <= found.flips_ci[1]


def test_rows_without_weight_do_not_count_and_one_cluster_has_no_interval() -> None:
    delta = np.r_[np.full(50, 4.0), np.full(50, -4.0)]
    weight = np.r_[np.ones(50), np.zeros(50)]
    found = fit_flips(delta, weight, Clusters.of(np.zeros(100, dtype=int)), np.random.default_rng(0))
    assert (found.flips, found.flips_ci) == (0.0, None)


def test_doubt_is_the_mean_over_members() -> None:
    delta = np.array([[0.0, 2.0], [np.log(3), 2.0]])
    assert mislabelled_score(delta) == pytest.approx([(0.5 + 0.25) / 2, 1 / (1 + np.exp(2.0))])


def test_planted_flips_are_counted_and_come_first(study_of: Any) -> None:
    rng = np.random.default_rng(1)
    n = 900
    x = rng.normal(size=(2 * n, 5)).astype(np.float32)
    better = (x[:n] - x[n:]) @ np.array([4.0, -3.0, 0, 0, 0]) > 0
    flipped = rng.random(n) < 0.1
    first = better != flipped
    rows = [
        {"prompt": f"p{i}", "chosen": str(i if first[i] else n + i), "rejected": str(n + i if first[i] else i)}
        for i in range(n)
    ]
    study = study_of(rows, float)
    study.__dict__["features"] = x[[int(c) for _, c in study.items.texts]]
    section = rows_to_look_at(study)
    numbers = section.numbers
    assert {f.key for f in section.findings} == {"mislabelled"}
    assert numbers["flips_ci"][0] <= 0.1 <= numbers["flips_ci"][1]
    listed = np.array(numbers["mislabelled_rows"]) - 1
    assert flipped[listed].mean() > 0.85
    # The most influential rows are those that the fit would be better off without, or that it rests on: signs differ.
    assert flipped[np.array(numbers["influential_rows"])[np.array(numbers["influence"]) < 0] - 1].mean() > 0.5
    assert len(section.tables) == 3
    assert section.tables[0].rows[0]["row"] == numbers["mislabelled_rows"][0]


def test_rows_need_features_and_decisions(study_of: Any) -> None:
    rows = [{"prompt": f"p{i}", "chosen": "1", "rejected": "0", "tie": True} for i in range(60)]
    assert "no text features" in rows_to_look_at(study_of(rows, float)).absent
    study = study_of(rows, float)
    study.__dict__["features"] = np.zeros((len(study.items.prompts), 2), np.float32)
    assert "fewer than 50 decided" in rows_to_look_at(study).absent
