"""Over-optimisation in the report: named where it is measured, called a forecast where it is one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tacit.audit.optimised import over_optimisation
from tacit.audit.overoptimisation import study_curve
from tacit.improve.select import Candidates


def section(study_of: Any, known: Any, gold_of: Any, *, prompts: int = 200, samples: int = 64) -> Any:
    """Candidates whose proxy is a standard normal number, and whose gold is a function of it and of noise."""
    rng = np.random.default_rng(0)
    proxy, noise = rng.normal(size=(2, prompts, samples))
    gold = gold_of(proxy, noise)
    names = [[f"{p} {i}" for i in range(samples)] for p in range(prompts)]
    scores = {name: float(v) for own, row in zip(names, proxy, strict=True) for name, v in zip(own, row, strict=True)}
    candidates = [Candidates(p, f"prompt {p}", list(own), gold[p].tolist()) for p, own in enumerate(names)]
    rows = [{"prompt": "prompt 0", "chosen": "0 0", "rejected": "0 1"}]
    return over_optimisation(study_of(rows, known(scores), candidates=candidates))


def test_a_reward_that_lies_in_its_tail_is_named(study_of, known):
    found = section(study_of, known, lambda p, e: p - 0.6 * np.maximum(p, 0) ** 2 + 0.3 * e)
    keys = {finding.key: finding for finding in found.findings}
    assert keys["over_optimised"].severity == "fault"
    assert "below its best (95%" in keys["over_optimised"].sentence
    assert keys["over_optimised"].detail["measured_peak_n"] < 16
    assert "Do not tune past KL" in keys["kl_budget"].sentence


def test_a_curve_that_is_flat_at_its_end_is_no_fault(study_of, known):
    """Beyond a bound all are equally good: by chance the highest point lies anywhere, and nothing is lost."""
    found = section(study_of, known, lambda p, e: np.minimum(p, 1.0) + 0.5 * e)
    assert "over_optimised" not in {finding.key for finding in found.findings}


def test_a_peak_beyond_what_was_tried_is_called_a_forecast(study_of, known):
    found = section(study_of, known, lambda p, e: p - 0.05 * np.maximum(p, 0) ** 2 + e)
    (budget,) = (finding for finding in found.findings if finding.key == "kl_budget")
    curve = found.numbers["curves"]["none"]
    assert curve["peak_kl"] > curve["kl"][-1]
    assert "a forecast, not a measurement" in budget.sentence


@pytest.mark.parametrize("samples", [4, 5, 6, 7])
def test_four_candidates_of_a_prompt_give_a_report_that_ends_with_all_of_them(study_of, known, samples):
    found = section(study_of, known, lambda p, e: p + 0.3 * e, samples=samples)
    assert not found.absent
    curve = found.numbers["curves"]["none"]
    assert curve["n"][-1] == samples
    assert curve["kl"][-1] == pytest.approx(np.log(samples) - (samples - 1) / samples)
    assert {"best_of_n"} <= {finding.key for finding in found.findings}
    assert f"up to n = {samples}" in found.findings[0].sentence


@pytest.mark.parametrize(("prompts", "samples", "why"), [(50, 3, "4 candidates"), (1, 8, "one prompt alone")])
def test_too_few_candidates_say_so_in_place_of_a_curve(study_of, known, prompts, samples, why):
    found = section(study_of, known, lambda p, e: p + 0.3 * e, prompts=prompts, samples=samples)
    assert why in found.absent


def test_what_is_lost_by_hand():
    proxy = np.tile([1.0, 2.0, 3.0, 4.0], (3, 1))
    gold = np.tile([0.0, 1.0, 3.0, 0.0], (3, 1))
    curve = study_curve(proxy, gold, [1, 2, 3, 4], resamples=20)
    # Best of 2: pairs have winners 2, 3, 3, 4, 4, 4; best of 3: 3, 4, 4, 4; best of 4: the last
    mean, sd = 1.0, np.sqrt(1.5)
    assert np.array(curve["gold"]) * sd + mean == pytest.approx([1.0, 7 / 6, 3 / 4, 0.0])
    assert curve["lost"] == pytest.approx(7 / 6 / sd)
    assert curve["lost_ci"] == pytest.approx([7 / 6 / sd] * 2)
