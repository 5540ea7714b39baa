import math

import numpy as np
import pytest

from tacit.bench import recovery
from tacit.bench.recovery import DIFFERENCE, flipped, run, summarise
from tacit.errors import TacitError


def found(objective, *values, reward="linear"):
    cell = {"pairs": 2000, "flips": 0.3, "reward": reward, "objective": objective}
    return [{**cell, "seed": seed, "spearman": value} for seed, value in enumerate(values)]


def test_means_have_students_interval():
    (row,) = summarise(found(None, 0.80, 0.82, 0.87, reward="length"))
    # mean .83, standard deviation .03606, t(.975, 2) = 4.30265, half-width 4.30265 * .03606 / sqrt(3)
    assert row["spearman"] == pytest.approx(0.83)
    assert row["spearman_ci"] == pytest.approx([0.83 - 0.08957, 0.83 + 0.08957], abs=1e-5)


def test_objectives_are_paired_by_seed_and_not_by_place():
    pairs = found("bradley_terry", 0.5, 0.7, 0.9) + found("classification", 0.48, 0.69, 0.87)[::-1]
    rows = {row["objective"]: row for row in summarise(pairs)}
    assert list(rows) == ["bradley_terry", "classification", DIFFERENCE]
    # differences .02, .01, .03: mean .02, standard deviation .01, half-width 4.30265 * .01 / sqrt(3)
    assert rows[DIFFERENCE]["spearman"] == pytest.approx(0.02)
    assert rows[DIFFERENCE]["spearman_ci"] == pytest.approx([0.02 - 0.024841, 0.02 + 0.024841], abs=1e-5)
    low, high = rows["bradley_terry"]["spearman_ci"]
    assert high - low > 0.9  # the spread between seeds is not in the difference


def test_one_objective_alone_has_no_difference():
    assert [row["objective"] for row in summarise(found("bradley_terry", 0.5, 0.6))] == ["bradley_terry"]


def test_flipping_turns_a_share_of_the_comparisons_round():
    rows = [
        {"prompt": f"{i}", "chosen": "good", "rejected": "bad", "gold_chosen": 1.0, "gold_rejected": -1.0}
        for i in range(4000)
    ]
    turned = [row["chosen"] == "bad" for row in flipped(rows, 0.3, np.random.default_rng(0))]
    assert np.mean(turned) == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / 4000))
    assert flipped(rows, 0.0, np.random.default_rng(0)) == rows
    assert flipped(rows, 1.0, np.random.default_rng(0))[7] == {
        "prompt": "7",
        "chosen": "bad",
        "rejected": "good",
        "gold_chosen": -1.0,
        "gold_rejected": 1.0,
    }


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"seeds": 1}, "--seeds 1"),
        ({"pairs": 1000, "sizes": (500, 2000)}, "--sizes 2000"),
        ({"flip": 1.5}, "--flip 1.5"),
    ],
)
def test_numbers_out_of_range_are_named(options, named):
    with pytest.raises(TacitError, match=named):
        run(**options)


def test_a_small_run_gives_every_row_once(monkeypatch):
    monkeypatch.setattr(recovery, "PROMPTS", 40)
    result = run(pairs=200, sizes=(100,), seeds=2, seed=3)
    assert len(result["by_seed"]) == 2 * (2 + 2 + 4)
    rows = {(row["pairs"], row["flips"], row["reward"], row["objective"]): row for row in result["rows"]}
    assert len(rows) == len(result["rows"]) == 2 + 2 + 6
    assert rows[200, 0.0, "linear", "bradley_terry"]["spearman"] > 0.3
    assert abs(rows[None, None, "random", None]["spearman"]) < 0.15
