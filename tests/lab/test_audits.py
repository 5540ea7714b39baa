"""What an audit promises, in worlds where the truth is known: intervals that cover, faults that are named, peaks."""

from __future__ import annotations

import numpy as np
import pytest

from real_data import DATA
from tacit.lab.experiments import audit_faults, coverage, over_optimisation
from tacit.lab.humour import one_liners
from tacit.lab.seeds import wilson
from tacit.lab.worlds import World


def test_wilson_interval_by_hand():
    # 10 of 10: lower end 10 / (10 + 1.959964^2) = .7225; 5 of 10: .5 -+ .2634
    assert wilson(10, 10) == pytest.approx([0.72247, 1.0], abs=1e-5)
    assert wilson(5, 10) == pytest.approx([0.23659, 0.76341], abs=1e-5)
    assert wilson(0, 10) == pytest.approx([0.0, 1 - 0.72247], abs=1e-5)


# Coverage


@pytest.mark.parametrize("design", coverage.DESIGNS.values(), ids=list(coverage.DESIGNS))
def test_truths_agree_with_large_samples(design):
    """The truth by probabilities of votes, and the plain mean over other votes that were drawn."""
    truth = coverage.true_values(design, np.random.default_rng(0))
    votes = coverage.simulate(design, np.random.default_rng(1), scale=400)
    few = 4 * 0.5 / np.sqrt(400 * design.groups)
    assert votes.credit.mean() == pytest.approx(truth["accuracy"], abs=few)
    assert votes.gain.mean() == pytest.approx(truth["gain"], abs=2 * few)
    assert (truth["ece"] == 0) == design.calibrated


def test_an_audit_of_a_simulated_data_set_measures_what_was_drawn():
    design = coverage.DESIGNS["prompts and people"]
    votes = coverage.simulate(design, np.random.default_rng(0))
    found = coverage.audited(design, votes, 50, 0)
    assert found["accuracy"][0] == pytest.approx(votes.credit.mean())
    assert found["gain"][0] == pytest.approx(votes.gain.mean())
    for value, (low, high) in found.values():
        assert low <= value <= high


@pytest.mark.statistical
def test_intervals_of_an_audit_cover():
    """150 data sets: a standard error of .018; intervals that ignore prompts do worse on the same data."""
    design, rng = coverage.DESIGNS["prompts"], np.random.default_rng(0)
    truth = coverage.true_values(design, np.random.default_rng(1))
    held, naive = dict.fromkeys(coverage.METRICS, 0), 0
    for s in range(150):
        votes = coverage.simulate(design, rng)
        for name, (_, (low, high)) in coverage.audited(design, votes, 200, s).items():
            held[name] += low <= truth[name] <= high
        rows = votes.credit
        naive += abs(rows.mean() - truth["accuracy"]) <= 1.96 * rows.std() / np.sqrt(len(rows))
    assert all(0.88 <= count / 150 <= 0.99 for count in held.values()), held
    assert naive / 150 < 0.91


@pytest.mark.slow
def test_intervals_of_an_audit_cover_95_in_100():
    """With 80 prompts or 120 items; 20 prompts are too few for the loss and the calibration error, as is published."""
    rows = coverage.run(seeds=600)["rows"]
    for row in rows:
        low, high = row["coverage_ci"]
        if row["data"] != "few prompts":
            assert low <= 0.97, row
            assert high >= 0.93, row
        else:
            assert row["coverage"] >= 0.87, row


# Planted faults


@pytest.mark.statistical
def test_planted_faults_are_named_and_no_others():
    found = audit_faults.run(seeds=2, faults=("none", "position bias", "mislabelled rows"))
    for row in found["rows"]:
        assert row["false_alarms"] == "0 of 2", row
        assert row.get("named", "2 of 2") == "2 of 2", row
    turned = {row["order"]: row["turned"] for row in found["mislabelled"]}
    assert turned["cross-fitted members"] > 3 * turned["random"]


@pytest.mark.slow
def test_every_planted_fault_is_named_over_ten_seeds():
    found = audit_faults.run(seeds=10)
    for row in found["rows"]:
        alarms, of = map(int, row["false_alarms"].split(" of "))
        assert alarms <= 1, row
        if "named" in row and not row["planted"].startswith("half "):
            assert row["named"] == f"{of} of {of}", row


# Over-optimisation


def test_curves_of_a_pool_of_items_and_of_prompts_by_hand():
    """Gold 0, 1, 2 of which the proxy likes the middle one best: the best of two draws."""
    features, even = np.zeros((3, 1), np.float32), np.zeros(3)
    pool = over_optimisation.Pool("items", np.array([0.0, 1.0, 2.0]), features, even, even, (1, 2))
    (curve,) = pool.curves(np.array([0.0, 2.0, 1.0]), np.ones((1, 3)))
    # With replacement: worst 1/9, second (gold 2) 3/9, best (gold 1) 5/9; mean 11/9, plain sampling 1; sd sqrt(2/3)
    assert curve[0] == pytest.approx([0.0, (11 / 9 - 1) / np.sqrt(2 / 3)])
    pool = over_optimisation.Pool("prompts", np.array([[0.0, 1.0, 2.0]]), features, even, even, (1, 2))
    (curve,) = pool.curves(np.array([[0.0, 2.0, 1.0]]), np.ones((1, 1)))
    # Without: gold 1 wins two of three pairs, gold 2 the other; mean 4/3
    assert curve[0] == pytest.approx([0.0, (4 / 3 - 1) / np.sqrt(2 / 3)])


def test_a_lengthened_reply_goes_on_in_sentences_of_the_world():
    rng = np.random.default_rng(0)
    more = [over_optimisation.lengthened("Start.", rng) for _ in range(300)]
    assert all(text.startswith("Start. ") and text.endswith(".") for text in more)
    counts = World().read([""] * 300, more)
    assert counts[:, :9].sum() > 300 * 6  # clauses that the world knows
    assert np.mean([text.count(".") - 1 for text in more]) == pytest.approx(8, abs=1)


@pytest.mark.statistical
def test_a_long_tail_makes_choosing_harder_hurt():
    found = over_optimisation.run(seeds=2, sizes=(300,), prompts=12, samples=1024, heads=("linear",))
    rows = {
        (gained["pool"], gained["noise"], gained["reading"]): gained | peaks
        for gained, peaks in zip(found["rows"], found["peaks"], strict=True)
    }
    tail, plain = rows["long tail", "0.0", "single"], rows["replies", "0.0", "single"]
    assert tail["best"] - tail["final"] > plain["best"] - plain["final"]
    assert tail["regret_last"] > tail["regret"]  # the law is of use
    for pool in ("replies", "long tail"):
        gold, lot = rows[pool, "", "gold"], rows[pool, "", "by lot"]
        assert gold["final"] == gold["best"] > plain["final"]
        assert abs(lot["final"]) < 0.5
        assert gold["regret_last"] == pytest.approx(0)


@pytest.mark.skipif(not (DATA / "humour").is_dir(), reason="the shared data is not here (set TACIT_DATA)")
def test_one_liners_of_the_pool_were_not_voted_on():
    evidence, encoder, gold = one_liners(DATA)
    rows = over_optimisation._humour(evidence, encoder, gold, 0, (300,))
    found = {(row["noise"], row["reading"]): row for row in rows}
    assert found["", "gold"]["final"] > 1.5 > found["0.0", "single"]["final"] > 0.2
    assert abs(found["", "by lot"]["final"]) < 0.4
