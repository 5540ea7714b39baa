"""Preferences that may go in circles: by hand, by contract, and circles found where they are and only there."""

import numpy as np
import pytest
import torch

import tacit
from numerics import assert_float32_close
from tacit import rewards
from tacit.errors import EvidenceError, TacitError
from tacit.evidence.records import Comparison, Outcome
from tacit.features.arrays import PrecomputedEncoder
from tacit.rewards import cycles
from tacit.rewards.check import check_reward
from tacit.rewards.objectives import Targets
from tacit.rewards.pairwise import log_odds, pairwise_loss

ROCK_PAPER_SCISSORS = np.array([[0, -2, 1], [2, 0, -3], [-1, 3, 0]], dtype=float)


def test_log_odds_are_a_score_difference_and_a_rotation():
    a, b = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, -1.0, 4.0])  # s, u, v
    assert log_odds(a, b).item() == pytest.approx(0.5 + 2 * 4 - 3 * -1)
    assert log_odds(b, a).item() == pytest.approx(-log_odds(a, b).item())
    assert log_odds(a, a).item() == 0


def test_rank_one_holds_rock_paper_scissors():
    angle = 2 * np.pi * np.arange(3) / 3
    raw = torch.from_numpy(np.stack([np.zeros(3), np.cos(angle), np.sin(angle)], axis=1))
    assert (log_odds(raw[[0, 1, 2]], raw[[1, 2, 0]]) > 0.8).all()


def test_the_loss_is_that_of_bradley_terry_on_the_log_odds():
    outputs = torch.tensor([[[[1.0, 2.0, 3.0], [0.5, -1.0, 4.0]]]])  # d = 11.5
    said = Targets(torch.zeros(1), torch.zeros(1, 0), torch.tensor([True]), torch.zeros(1))
    loss = pairwise_loss(outputs, said, torch.zeros(1, 0))
    assert loss.item() == pytest.approx((np.logaddexp(0, -11.5) + np.logaddexp(0, 11.5)) / 2, rel=1e-6)


def test_one_circle_of_three_is_found_with_its_weakest_link():
    assert cycles.intransitive_triples(ROCK_PAPER_SCISSORS) == 1
    (cycle,) = cycles.strongest_cycles(ROCK_PAPER_SCISSORS)
    assert cycle.items == (0, 2, 1)  # 0 over 2 by 1, 2 over 1 by 3, 1 over 0 by 2
    assert cycle.strength == 1
    assert cycles.strongest_cycles(ROCK_PAPER_SCISSORS, at_least=1.0) == []
    assert cycles.count_cycles(ROCK_PAPER_SCISSORS, at_least=0.9) == 1
    assert cycles.groups(ROCK_PAPER_SCISSORS) == [[0, 1, 2]]


def test_scores_have_no_circles():
    score = np.random.default_rng(0).normal(size=30)
    found = cycles.describe(score[:, None] - score[None])
    assert (found["intransitive_triples"], found["groups"], found["cycles"]) == (0, [], [])
    assert found["circular_share"] == pytest.approx(0, abs=1e-12)
    assert found["triples"] == 30 * 29 * 28 // 6


def test_coin_flips_have_a_quarter_of_all_triples_and_wins_tell_how_many():
    rng = np.random.default_rng(0)
    matrix = np.triu(rng.choice([-1.0, 1.0], size=(60, 60)), 1)
    matrix -= matrix.T
    found = cycles.describe(matrix)
    assert found["intransitive_triples"] == pytest.approx(found["chance"], rel=0.05)
    wins = (matrix > 0).sum(1)
    assert found["intransitive_triples"] == found["triples"] - (wins * (wins - 1) // 2).sum()  # Kendall's count
    assert len(found["cycles"]) == 20
    for cycle in found["cycles"]:
        i, j, k = cycle.items
        assert min(matrix[i, j], matrix[j, k], matrix[k, i]) == cycle.strength == 1


def test_the_strongest_of_many_circles_come_first():
    rng = np.random.default_rng(1)
    matrix = np.triu(rng.normal(size=(25, 25)), 1)
    matrix -= matrix.T
    every = sorted(
        (
            min(matrix[i, j], matrix[j, k], matrix[k, i])
            for i in range(25)
            for j in range(25)
            for k in range(25)
            if i < j and i < k and j != k
        ),
        reverse=True,
    )
    strengths = [cycle.strength for cycle in cycles.strongest_cycles(matrix, most=20)]
    assert strengths == pytest.approx(every[:20])


def test_pure_rotation_is_all_circular():
    assert cycles.circular_share(np.sign(ROCK_PAPER_SCISSORS)) == pytest.approx(1)
    mixed = np.sign(ROCK_PAPER_SCISSORS) + np.subtract.outer([2.0, 0.0, -2.0], [2.0, 0.0, -2.0])
    assert cycles.circular_share(mixed) == pytest.approx(6 / (6 + 2 * (4 + 4 + 16)))


def test_a_matrix_that_is_none_is_refused():
    with pytest.raises(TacitError, match="antisymmetric"):
        cycles.describe(np.ones((3, 3)))
    with pytest.raises(TacitError, match="too many"):
        cycles.describe(np.zeros((401, 401)))
    for size in (1e-6, 1.0, 1e6):  # float32 rounding of its numbers is no reason, a difference of a thousandth is
        matrix = size * np.sign(ROCK_PAPER_SCISSORS)
        assert cycles.describe(matrix * (1 + 1e-6 * np.tri(3)))["intransitive_triples"] == 1
        with pytest.raises(TacitError, match="antisymmetric"):
            cycles.describe(matrix * (1 + 1e-3 * np.tri(3)))


def world(n=1500, circular=2.5, seed=0, dim=6):
    """Comparisons of items z with d = z_0 - z'_0 + circular (z_1 z'_2 - z_2 z'_1)."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(2 * n + 60, dim)).astype(np.float32)
    a, b = z[: 2 * n : 2], z[1 : 2 * n : 2]
    d = a[:, 0] - b[:, 0] + circular * (a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1])
    first = rng.random(n) < 1 / (1 + np.exp(-d))
    names = [str(i) for i in range(len(z))]
    sides = [(2 * i + (not won), 2 * i + int(won)) for i, won in enumerate(first.tolist())]
    return [Comparison(chosen=names[c], rejected=names[r]) for c, r in sides], PrecomputedEncoder(names, z), z, names


@pytest.fixture(scope="module")
def circle():
    votes, encoder, z, names = world()
    return rewards.fit(votes, model="pairwise", encoder=encoder, members=3, references=50), z, names


def test_circles_are_learnt_and_found(circle):
    reward, z, names = circle
    last = list(range(len(z) - 60, len(z)))
    i, j = np.triu_indices(60, 1)
    a, b = z[last][i], z[last][j]
    true = a[:, 0] - b[:, 0] + 2.5 * (a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1])
    odds = reward.compare([""] * len(i), [names[last[k]] for k in i], [names[last[k]] for k in j])
    assert (np.sign(odds) == np.sign(true)).mean() > 0.9
    assert reward.report["circular"]
    found = reward.cycles("", [names[k] for k in last])
    assert found["intransitive_triples"] > 0.03 * found["triples"]
    assert found["cycles"][0].support == 1.0
    matrix = np.zeros((60, 60))
    matrix[i, j], matrix[j, i] = true, -true
    assert all(
        min(matrix[c.items[0], c.items[1]], matrix[c.items[1], c.items[2]], matrix[c.items[2], c.items[0]]) > 0
        for c in found["cycles"]
    )


def test_log_odds_are_calibrated(circle):
    reward, z, names = circle
    a, b = z[2900:2960], z[3000:3060]
    true = a[:, 0] - b[:, 0] + 2.5 * (a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1])
    odds = reward.compare([""] * 60, names[2900:2960], names[3000:3060])
    assert np.polyfit(true, odds, 1)[0] == pytest.approx(1, abs=0.25)


def test_a_score_is_the_log_odds_of_the_win_rate_against_the_references(circle):
    reward, _, names = circle
    (rate,) = reward.win_rate([""], [names[0]])
    opponents = [c for _, c in reward.references]
    odds = reward.compare_members([""] * 50, [names[0]] * 50, opponents)  # (3, 50)
    by_hand = (1 / (1 + np.exp(-odds.astype(np.float64)))).mean(1)
    assert_float32_close(rate, by_hand.mean())
    size = float(np.abs(odds).max())
    assert_float32_close(reward.score([""], [names[0]])[0], np.log(by_hand / (1 - by_hand)).mean(), scale=size)
    best = reward.against([""], [opponents[0]])
    assert_float32_close(best.score([""], [names[0]])[0], odds[:, 0].mean(), scale=size)


def test_a_transitive_world_has_no_circles_and_costs_nothing():
    votes, encoder, _, names = world(circular=0.0)
    pairwise = rewards.fit(votes, model="pairwise", encoder=encoder)
    scalar = rewards.fit(votes, model="scalar", encoder=encoder)
    assert not pairwise.report["circular"]
    assert pairwise.cycles("", names[-60:])["intransitive_triples"] == 0
    d = pairwise.compare([""] * 60, names[:60], names[60:120])
    np.testing.assert_allclose(
        d, scalar.score([""] * 60, names[:60]) - scalar.score([""] * 60, names[60:120]), rtol=0.02, atol=0.02
    )


def separable_votes():
    rng = np.random.default_rng(0)
    good, bad = ("Certainly: {}.", "Here you are: {}."), ("no idea about {}", "go away with {}")
    return [
        Comparison(prompt=f"About {i}", chosen=good[rng.integers(2)].format(i), rejected=bad[rng.integers(2)].format(i))
        for i in range(80)
    ]


def test_the_circular_part_cannot_hold_a_score_past_its_ridge():
    """A bias in u is the score bias * v, whose ridge goes to zero as the bias grows: votes of one score gain by it."""
    votes = separable_votes()
    reward = rewards.fit(votes, model="pairwise", encoder="hashed", members=2, references=20)
    assert reward.rank == 0
    assert all(tried["gain"] < 0 for tried in reward.report["circular_path"])


def test_hidden_layers_learn_circles_too():
    votes, encoder, z, names = world(n=2500)
    reward = rewards.fit(
        votes, model="pairwise", encoder=encoder, head="mlp", hidden=(32,), learning_rate=3e-3, batch_size=256
    )
    i, j = np.triu_indices(60, 1)
    a, b = z[-60:][i], z[-60:][j]
    true = a[:, 0] - b[:, 0] + 2.5 * (a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1])
    odds = reward.compare([""] * len(i), [names[-60:][k] for k in i], [names[-60:][k] for k in j])
    assert (np.sign(odds) == np.sign(true)).mean() > 0.85


def test_the_contract_holds_and_saving_keeps_comparisons(tmp_path):
    votes = separable_votes()
    reward = rewards.fit(votes, model="pairwise", encoder="hashed", members=2, references=20)
    assert [str(f) for f in check_reward(reward, new_process=True) if not f.ok] == []
    ask = (["About 3"] * 2, ["Certainly: 3.", "no idea about 3"], ["no idea about 3", "Certainly: 3."])
    odds = reward.compare(*ask)
    assert_float32_close(odds[0], -odds[1])
    reward.save(tmp_path / "r")
    again = tacit.load(tmp_path / "r")
    assert_float32_close(again.compare(*ask), odds)
    assert again.references == reward.references
    assert len(again.references) == 20


def test_what_does_not_fit_is_named():
    pair = [Comparison(prompt=f"p{i}", chosen="a", rejected="b") for i in range(4)]
    with pytest.raises(TacitError, match="rank"):
        rewards.fit(pair, model="pairwise", encoder="hashed", rank=0)
    labels = [Outcome(prompt="p", completion=str(i), label=bool(i)) for i in range(2)]
    with pytest.raises(EvidenceError, match="learns from comparisons"):
        rewards.fit(labels, model="pairwise", encoder="hashed")


@pytest.mark.slow
def test_pairwise_wins_in_circles_and_loses_nothing_elsewhere():
    from tacit.lab.experiments.intransitive import run

    rows = {(row["world"], row["model"]): row for row in run(seeds=10)["rows"]}
    assert rows["circular", "pairwise"]["won_ci"][0] > 0.1
    assert rows["circular", "pairwise"]["real"] > 0.9
    low, high = rows["transitive", "pairwise"]["won_ci"]
    assert low <= 0 <= high
    assert rows["transitive", "pairwise"]["cycles"] == 0
