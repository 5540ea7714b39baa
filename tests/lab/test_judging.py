"""A judge with known faults: the claims of `tacit lab judge`."""

from __future__ import annotations

import numpy as np
import pytest

from tacit.evidence.records import Comparison
from tacit.lab.experiments import judge
from tacit.lab.worlds import World


def test_the_simulated_judge_has_the_faults_that_it_is_said_to_have() -> None:
    world = World()
    votes = [Comparison(**row) for row in world.compare(300, np.random.default_rng(0))]
    prompts, first, second = ([getattr(row, key) for row in votes] for key in ("prompt", "chosen", "rejected"))
    truth = world.true_reward(prompts, first) / world.scale
    noise = judge.judge_of(0).raw_scores(prompts, first) / judge.SURE - truth
    assert noise.mean() == pytest.approx(0, abs=0.1)
    assert noise.std() == pytest.approx(judge.NOISE, abs=0.06)
    biased = judge.judge_of(0, bias=2.0, mode="pairwise")
    forth, back = biased.both_orders(prompts, first, second)  # type: ignore[attr-defined]
    np.testing.assert_allclose((forth + back) / 2, 2.0, atol=1e-9)
    plain = judge.judge_of(0).raw_scores(prompts, first) - judge.judge_of(0).raw_scores(prompts, second)
    np.testing.assert_allclose((forth - back) / 2, plain, atol=1e-9)


@pytest.mark.slow
def test_the_claims_hold_over_ten_seeds() -> None:
    rows = judge.run(seeds=10)["rows"]
    calibrated = {row["n"]: row for row in rows if row["part"] == "calibration"}
    for row in calibrated.values():
        assert row["nll_raw_ci"][0] > row["nll_coin"]  # too sure of itself: worse than a coin
        assert row["nll_ci"][1] < row["nll_coin"]
    assert calibrated["300"]["nll"] - calibrated["300"]["nll_best"] < 0.01
    orders = {row["bias"]: row for row in rows if row["part"] == "order"}
    assert orders["3"]["accuracy_both_ci"][0] > orders["3"]["accuracy_one_order_ci"][1] + 0.1
    assert orders["0"]["accuracy_both"] == pytest.approx(orders["3"]["accuracy_both"], abs=1e-9)
    votes = [row["spearman"] for row in rows if row["part"] == "votes"]
    assert votes == sorted(votes)
