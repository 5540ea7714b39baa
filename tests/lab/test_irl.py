"""Sampled trajectories against exact visits, and rewards recovered from them; the claims of three experiments."""

import numpy as np
import pytest
from scipy.optimize import check_grad

from tacit.cli import main
from tacit.errors import TacitError
from tacit.lab import identifiability as idf
from tacit.lab import irl
from tacit.lab.experiments import drift, identifiability, modes
from tacit.lab.mdp import WorldError, frozen_lake, grid, lock
from tacit.lab.simulate import draw, gather, simulate
from tacit.lab.solve import occupancy, returns, soft_optimal, total_variation, visits
from tacit.lab.tokens import sky


@pytest.mark.statistical
def test_samples_have_the_exact_visits_and_returns():
    world = frozen_lake(discount=0.9)
    policies = np.stack([world.uniform(), soft_optimal(world, temperature=0.05).policy])
    seen = simulate(world, policies, 20_000, np.random.default_rng(0), steps=80)
    assert seen.visits() == pytest.approx(visits(world, policies), abs=0.03)
    assert seen.returns(world.reward).mean(1) == pytest.approx(returns(world, policies), abs=0.01)
    total, dynamics = seen.moves()
    assert total == pytest.approx(seen.counts())
    often = total > 3000
    assert dynamics[often] == pytest.approx(np.broadcast_to(world.dense, dynamics.shape)[often], abs=0.04)


def test_time_dependent_policies_and_ends():
    world = lock(3)
    opened = np.zeros((1, 3, 4, 2))
    opened[..., 0] = 1
    seen = simulate(world, opened, 2, np.random.default_rng(0))
    assert seen.states[0, 0].tolist() == [0, 1, 2]
    assert seen.following[0, 0].tolist() == [1, 2, 3]
    assert seen.returns(world.reward).tolist() == [[1.0, 1.0]]
    long = simulate(world, opened, 2, np.random.default_rng(0), steps=6)
    assert long.alive[0, 0].tolist() == [True] * 3 + [False] * 3
    assert long.counts().sum() == 6
    with pytest.raises(ValueError, match="steps"):
        simulate(frozen_lake(), opened, 2, np.random.default_rng(0))


def test_draw_and_gather():
    rng = np.random.default_rng(0)
    assert (draw(np.array([[0.0, 1.0, 0.0]]), rng, (5,)) == 1).all()
    table = np.arange(12).reshape(2, 3, 2)
    assert gather(table, np.array([[2], [0]]), np.array([[1], [0]])).tolist() == [[5], [6]]


@pytest.mark.parametrize("features", [irl.move_features, irl.state_features, irl.arrival_features])
def test_exact_behaviour_gives_the_reward_back(features):
    world = grid(["S..", ".H.", "..G"], slip=0.3, discount=0.9)
    rng = np.random.default_rng(1)
    table = features(world)
    truth = irl.linear(table, rng.normal(size=(3, table.shape[-1])))
    policy = soft_optimal(world, truth, temperature=0.5).policy
    found = irl.linear(table, irl.maximum_entropy(world, visits(world, policy), table, temperature=0.5, l2=1e-9))
    again = soft_optimal(world, found, temperature=0.5).policy
    assert total_variation(occupancy(world, again), occupancy(world, policy)) == pytest.approx(0, abs=2e-3)
    if features is not irl.move_features:  # moves that are never made say little
        assert idf.gap(world, found, truth) == pytest.approx(0, abs=0.05)


def test_the_gradient_is_that_of_the_likelihood(monkeypatch):
    world = frozen_lake()
    counts = np.random.default_rng(0).integers(0, 9, size=(2, world.states, world.actions)).astype(float)
    caught = {}

    def instead(loss, zero, **_):
        caught.update(loss=loss, zero=zero)
        return type("Found", (), {"x": zero})

    monkeypatch.setattr(irl, "minimize", instead)
    irl.maximum_entropy(world, counts, irl.arrival_features(world), l2=0.1)
    loss, point = caught["loss"], np.random.default_rng(1).normal(size=caught["zero"].shape)
    assert check_grad(lambda x: loss(x)[0], lambda x: loss(x)[1], point) < 1e-5
    # the value is the mean negative log-likelihood of the counted moves
    weights = point.reshape(2, -1)
    policy = soft_optimal(world, irl.linear(irl.arrival_features(world), weights)).policy
    held = counts * world.live[:, None]
    nll = -(held * np.log(policy)).sum((1, 2)) / held.sum((1, 2))
    assert loss(point)[0] == pytest.approx((nll + 0.05 * (weights**2).sum(1)).sum())


def test_a_reward_for_each_move_is_behaviour_cloning():
    world = frozen_lake()
    counts = np.random.default_rng(0).integers(1, 9, size=(world.states, world.actions)).astype(float)
    table = irl.move_features(world)
    reward = irl.linear(table, irl.maximum_entropy(world, counts, table, l2=1e-10))
    policy = soft_optimal(world, reward).policy
    cloned = counts / counts.sum(-1, keepdims=True)
    assert policy[world.live] == pytest.approx(cloned[world.live], abs=2e-3)


def test_shapes_that_do_not_fit():
    world = frozen_lake()
    with pytest.raises(WorldError, match="states and actions"):
        irl.maximum_entropy(world, np.ones((3, 3)), irl.state_features(world))
    with pytest.raises(WorldError, match="without a horizon"):
        irl.maximum_entropy(lock(2), np.ones((3, 2)), irl.state_features(lock(2)))


def test_drift_by_hand():
    road = drift.lanes(3)
    wrong = np.zeros((1, drift.LANES + 1))
    wrong[0, 0], wrong[0, 1:] = 0.1, 1.0  # never comes back
    # off the road after step 1 with .1, after step 2 with .19: costs .1 at step 2 and .19 at step 3
    assert -returns(road, drift._policy(wrong)) == pytest.approx([0.29])


@pytest.mark.statistical
def test_cloning_drifts_and_asking_does_not():
    result = drift.run(seeds=3)
    slope = {row["learner"]: row["slope"] for row in result["rows"]}
    assert slope["behaviour cloning"] > 1.75
    assert slope["DAgger"] < 1.4
    assert slope["noise injected"] < 1.4
    assert all(row["largest_share_of_bound"] <= 1 for row in result["rows"][:3])


@pytest.mark.statistical
def test_forward_covers_and_reverse_seeks():
    rows = {(row["world"], row["divergence"]): row for row in modes.run(seeds=2)["rows"]}
    for world in ("line", "texts"):
        covers, seeks = rows[world, "forward KL"], rows[world, "reverse KL"]
        assert covers["both_modes"] > 0.6
        assert covers["invented"] > 0.2
        assert seeks["both_modes"] < 0.05
        assert seeks["invented"] < 0.02


def test_fitted_words_are_the_marginals_under_forward_kl():
    target = np.random.default_rng(0).dirichlet(np.ones(81))
    starts = np.random.default_rng(1).normal(size=(3, modes.LENGTH, modes.WORDS))
    fit = modes._fit_texts(modes.divergence("forward_kl"), target, starts)
    marginals = np.einsum("t,tlw->lw", target, np.eye(3)[modes.TEXTS])
    assert fit == pytest.approx(np.einsum("tlw,lw->tl", np.eye(3)[modes.TEXTS], marginals).prod(1), abs=1e-4)


@pytest.mark.statistical
def test_state_rewards_carry_over_and_move_rewards_do_not():
    rows = {row["reward"]: row for row in identifiability.run(seeds=3, demonstrations=300)["rows"]}
    for name in ("truth, shaped", "log policy"):
        assert rows[name]["tv_here"] < 1e-6
        assert rows[name]["distance"] < 1e-6
        assert rows[name]["tv_turned"] > 0.5
    assert rows["IRL, a reward for each state"]["tv_turned"] < 0.05
    assert rows["IRL, a reward for each move"]["tv_turned"] > 0.2


def test_pictures_are_written_beside_the_result(tmp_path):
    main(["lab", "modes", "--seeds", "2", "--out", str(tmp_path / "m.json")])
    drawn = (tmp_path / "m.svg").read_text("utf-8")
    assert drawn.startswith("<?xml")
    assert "reverse KL" in drawn
    main(["lab", "modes", "--seeds", "2", "--out", str(tmp_path / "n.svg")])
    assert (tmp_path / "n.svg").read_text("utf-8") == drawn
    assert not (tmp_path / "n.json").exists()
    with pytest.raises(SystemExit):
        main(["lab", "groups", "--seeds", "2", "--out", str(tmp_path / "g.svg")])


def test_an_experiment_without_picture_says_so(tmp_path):
    from tacit.lab import experiments
    from tacit.terminal import suite_figure

    with pytest.raises(TacitError, match="draws no picture"):
        suite_figure(experiments, "groups", tmp_path / "g.svg")


def test_texts_have_features_too():
    world = sky()
    assert irl.arrival_features(world).shape == (world.states, world.actions, world.states)
