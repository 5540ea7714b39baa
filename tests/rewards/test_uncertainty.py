"""Readings of members, the last layer's posterior, and the reward that reads itself with pessimism."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit

import tacit
from numerics import assert_float32_close
from tacit.cli import main
from tacit.errors import ArtefactError, TacitError
from tacit.evidence.records import Comparison, Outcome, Ranking, Rating
from tacit.rewards import heads, laplace
from tacit.rewards.check import check_reward
from tacit.rewards.examples import collect
from tacit.rewards.fitting import fit
from tacit.rewards.objectives import OBJECTIVES, Targets
from tacit.rewards.options import FitOptions
from tacit.rewards.scoring import member_scores
from tacit.rewards.uncertainty import Pessimistic, below, moderated, read_members

MEMBERS = np.array([[1.0, 4.0], [2.0, 4.0], [6.0, 4.0]])


# --- readings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "strength", "right"),
    [
        ("none", None, [3.0, 4.0]),
        ("min", None, [1.0, 4.0]),
        ("variance", None, [3 - 0.5 * 14 / 3, 4.0]),  # squares about the mean: 4 + 1 + 9
        ("variance", 3.0, [3 - 14.0, 4.0]),
        ("quantile", 0.25, [1.5, 4.0]),
        ("quantile", 0.0, [1.0, 4.0]),
        ("quantile", None, [1.2, 4.0]),
    ],
)
def test_readings_by_hand(how, strength, right):
    np.testing.assert_allclose(read_members(MEMBERS, how, strength), right)


def test_a_deviation_is_taken_off():
    np.testing.assert_allclose(below([1.0, 2.0], [0.5, 0.0], 2.0), [0.0, 2.0])


@pytest.mark.parametrize(
    ("how", "strength", "said"),
    [
        ("worst", None, "no pessimism `worst`"),
        ("min", 0.5, "takes no --pessimism-strength"),
        ("quantile", 1.5, "outside 0..1"),
        ("variance", -1.0, "outside 0..inf"),
        ("laplace", None, "posterior"),
    ],
)
def test_wrong_readings_are_named(how, strength, said):
    with pytest.raises(TacitError, match=said):
        read_members(MEMBERS, how, strength)
    with pytest.raises(TacitError, match="--members"):
        read_members(MEMBERS[:1], "min")


@pytest.mark.parametrize("d", [0.3, 1.5, 4.0])
@pytest.mark.parametrize("v", [0.1, 1.0, 9.0])
def test_moderation_is_close_to_the_integral(d, v):
    def weighted(x):
        return expit(x) * math.exp(-((x - d) ** 2) / (2 * v)) / math.sqrt(2 * math.pi * v)

    exact = quad(weighted, d - 12 * math.sqrt(v), d + 12 * math.sqrt(v))[0]
    assert moderated(d, v) == pytest.approx(exact, abs=0.02)
    assert 0.5 < moderated(d, v) < expit(d)
    assert moderated(-d, v) == pytest.approx(1 - moderated(d, v))


# --- the posterior ----------------------------------------------------------------------------------------------------


def comparisons(n=400, dim=6, seed=0):
    """Features of 2n responses and comparisons of them by a linear truth, the chosen side first."""
    rng = np.random.default_rng(seed)
    features = (rng.normal(size=(2 * n, dim)) * np.arange(1, dim + 1) + 3).astype(np.float32)
    weight = np.linspace(-1, 1, dim) / np.arange(1, dim + 1)
    gap = (features[0::2] - features[1::2]) @ weight
    first = rng.random(n) < expit(gap)
    sides = [(f"{2 * i}", f"{2 * i + 1}") if f else (f"{2 * i + 1}", f"{2 * i}") for i, f in enumerate(first)]
    examples = collect([Comparison(prompt=f"p{i}", chosen=c, rejected=r) for i, (c, r) in enumerate(sides)])
    order = [int(text) for _, text in examples.texts]
    return features[order], examples, weight


def test_bradley_terry_has_the_precision_of_the_textbook():
    features, examples, _ = comparisons()
    result = fit(features, examples, FitOptions(laplace=True))
    difference = (features[examples.rows[:, 0]] - features[examples.rows[:, 1]]).astype(np.float64)
    scale = features.astype(np.float64).std(0)
    p = expit(difference @ result.parameters["linear"][0].double().numpy() * result.temperature)
    z = difference / scale
    precision = (z * (p * (1 - p))[:, None]).T @ z + len(z) * result.report["l2"] * np.eye(6)
    covariance = np.linalg.inv(precision) / np.outer(scale, scale) / result.temperature**2
    assert result.posterior is not None
    ours = result.posterior.deviations(result.parameters, features)
    centred = features - features.mean(0)
    np.testing.assert_allclose(ours, np.sqrt(np.einsum("nd,de,ne->n", centred, covariance, centred)), rtol=2e-3)
    ours = result.posterior.deviations(result.parameters, features[:9], features[9:18])
    gap = features[:9] - features[9:18]
    np.testing.assert_allclose(ours, np.sqrt(np.einsum("nd,de,ne->n", gap, covariance, gap)), rtol=2e-3)


def test_regression_has_the_posterior_of_ridge_regression():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(500, 4)).astype(np.float32)
    values = features @ [1.0, -1, 0.5, 0] + 2 + 0.7 * rng.normal(size=500)
    examples = collect([Rating(prompt=f"p{i}", completion=f"{i}", score=float(v)) for i, v in enumerate(values)])
    result = fit(features, examples, FitOptions(laplace=True, l2=0.01))
    scale = features.std(0)
    design = np.c_[(features - features.mean(0)) / scale, np.ones(500)].astype(np.float64)
    gram, ridge = design.T @ design, np.diag([5.0] * 4 + [0.0])
    coefficient = np.linalg.solve(gram + ridge, design.T @ values)
    used = np.trace(np.linalg.solve(gram + ridge, gram))
    noise = np.square(values - design @ coefficient).sum() / (500 - used)
    covariance = noise * np.linalg.inv(gram + ridge)
    assert result.posterior is not None
    ours = result.posterior.deviations(result.parameters, features)
    np.testing.assert_allclose(ours, np.sqrt(np.einsum("nd,de,ne->n", design, covariance, design)), rtol=2e-3)
    assert noise == pytest.approx(0.49, rel=0.15)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_curvature_is_the_second_derivative(name):
    objective = OBJECTIVES[name]
    rng = np.random.default_rng(1)
    k = {"comparison": 2, "ranking": 3}.get(objective.kind, 1)
    ranks = torch.tensor([[1, 2, 3], [1, 1, 2], [1, 2, 0]], dtype=torch.int32) if k == 3 else torch.zeros(3, 0)
    targets = Targets(torch.tensor([1.0, 0.0, 1.0]), ranks, torch.tensor([False, k == 2, False]), torch.zeros(3))
    own = torch.tensor([objective.initial]) if objective.initial else torch.zeros(1, 0)
    scores = torch.from_numpy(rng.normal(size=(3, k)))
    found = laplace.curvature(scores, targets, objective, own.double())
    h = 1e-4
    for i in range(k):
        for j in range(k):
            total = 0.0
            for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                moved = scores.clone()
                moved[:, i] += a * h
                moved[:, j] += b * h
                total = total + a * b * objective.loss(moved[None], targets, own.double())[0]
            torch.testing.assert_close(found[:, i, j], total / (4 * h * h), atol=1e-4, rtol=1e-3)


def kinds():
    texts = [f"answer {i}" for i in range(60)]
    return {
        "outcome": [Outcome(prompt=f"p{i}", completion=t, label=i % 3 > 0) for i, t in enumerate(texts)],
        "ranking": [Ranking(prompt=f"p{i}", completions=texts[3 * i : 3 * i + 3], ranks=[1, 2, 2]) for i in range(20)],
    }


@pytest.mark.parametrize("kind", ["outcome", "ranking"])
def test_more_rows_make_scores_surer(kind):
    features = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    examples = collect(kinds()[kind])
    deviations = []
    for times in (1, 4):
        many = examples.take(np.tile(np.arange(len(examples)), times))
        posterior = fit(features, many, FitOptions(laplace=True, l2=0.1 / times)).posterior
        assert posterior is not None
        deviations.append(posterior.deviations(heads.linear(1, 5), features))
    assert (deviations[1] < deviations[0]).all()
    assert deviations[0].mean() / deviations[1].mean() == pytest.approx(2, rel=0.35)  # n times 4, deviations halved


def test_the_posterior_of_a_perceptron_sees_its_hidden_states():
    features, examples, _ = comparisons()
    for shared, width in ((False, 6 + 2 * 8), (True, 6 + 8)):
        options = FitOptions(laplace=True, head="mlp", hidden=(16, 8), members=2, shared_trunk=shared)
        result = fit(features, examples, options)
        assert result.posterior is not None
        assert result.posterior.factor.shape == (width, width)
        far = result.posterior.deviations(result.parameters, features * 10)
        assert far.mean() > 3 * result.posterior.deviations(result.parameters, features).mean()


@pytest.mark.statistical
def test_deviations_cover_the_truth():
    inside = []
    for seed in range(20):
        features, examples, weight = comparisons(n=300, seed=seed)
        result = fit(features, examples, FitOptions(laplace=True))
        gap = features[:200] - features[200:400]
        difference = gap @ result.parameters["linear"][0].numpy()
        assert result.posterior is not None
        deviation = result.posterior.deviations(result.parameters, features[:200], features[200:400])
        inside.append(np.abs(difference - gap @ weight) < 2 * deviation)
    # Two deviations hold .954 of a normal; pairs of one world are right or wrong together: standard error .02.
    assert 0.89 < np.mean(inside) < 0.99


# --- the reward -------------------------------------------------------------------------------------------------------


def records(n=120):
    rng = np.random.default_rng(0)
    good, bad = ["Certainly: {}.", "Yes. {}, step by step."], ["no idea about {}", "go away, {} bores me"]
    return [
        Comparison(
            prompt=f"topic {i}",
            chosen=good[rng.integers(2)].format(f"topic {i}"),
            rejected=bad[rng.integers(2)].format(f"topic {i}"),
        )
        for i in range(n)
    ]


@pytest.fixture(scope="module")
def reward():
    return tacit.fit(records(), encoder="hashed", members=4, laplace=True)


@pytest.mark.parametrize("how", ["min", "variance", "quantile", "laplace"])
def test_the_contract_holds(reward, how):
    failed = [str(f) for f in check_reward(Pessimistic(reward, how), new_process=how == "laplace") if not f.ok]
    assert failed == []


def test_it_is_what_it_says(reward):
    prompts, completions = ["topic 1"] * 3, ["Yes. topic 1", "go away", "something else entirely"]
    members = reward.score_members(prompts, completions)
    np.testing.assert_array_equal(Pessimistic(reward, "min").score(prompts, completions), members.min(0))
    mean, deviation = reward.score_deviation(prompts, completions)
    low = Pessimistic(reward, "laplace", 2.0).score(prompts, completions)
    size = float(np.abs(members).max())
    assert_float32_close(low, mean - 2 * deviation, scale=size + float(deviation.max()))
    gap, doubt = reward.difference_deviation(prompts[:1], completions[:1], completions[1:2])
    assert_float32_close(gap[0], mean[0] - mean[1], scale=size)
    assert 0 < doubt[0] < deviation[0] + deviation[1]
    scores, found = member_scores(Pessimistic(reward, "quantile", 0.25), prompts, completions)
    assert_float32_close(scores, np.quantile(members, 0.25, axis=0))
    np.testing.assert_array_equal(found, members)


def test_pessimism_is_saved_and_can_be_replaced(reward, tmp_path):
    folder = tmp_path / "r"
    Pessimistic(reward, "variance", 0.3).save(folder)
    manifest = json.loads((folder / "reward.json").read_text())
    assert manifest["pessimism"] == {"how": "variance", "strength": 0.3}
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    again = tacit.load(folder)
    assert isinstance(again, Pessimistic)
    assert (again.how, again.strength) == ("variance", 0.3)
    assert tacit.load(folder, strength=0.9).strength == 0.9
    assert tacit.load(folder, pessimism="quantile").strength == 0.1
    assert tacit.load(folder, pessimism="laplace").how == "laplace"
    plain = tacit.load(folder, pessimism="none")
    np.testing.assert_array_equal(plain.score(["p"], ["c"]), reward.score(["p"], ["c"]))
    np.testing.assert_array_equal(Pessimistic.load(folder).score(["p"], ["c"]), again.score(["p"], ["c"]))
    reward.save(folder)
    with pytest.raises(ArtefactError, match="without pessimism"):
        Pessimistic.load(folder)
    (folder / "reward.json").write_text(json.dumps(manifest | {"pessimism": {"how": "worst"}}))
    with pytest.raises(ArtefactError, match="was changed since it was saved"):
        tacit.load(folder)


def test_nothing_to_be_pessimistic_by_is_an_error():
    single = tacit.fit(records(40), encoder="hashed")
    with pytest.raises(TacitError, match="spread of members, and there is one"):
        Pessimistic(single, "min")
    with pytest.raises(TacitError, match="no posterior of its last layer"):
        Pessimistic(single, "laplace")
    with pytest.raises(TacitError, match="Fit it again with --laplace"):
        single.score_deviation(["p"], ["c"])
    with pytest.raises(TacitError, match="--members"):
        tacit.fit(records(40), encoder="hashed", pessimism="quantile")
    assert tacit.fit(records(40), encoder="hashed", pessimism="laplace").report["pessimism"]["strength"] == 1.0


def test_the_command_line_reads_a_reward_so_everywhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TACIT_CACHE", str(tmp_path / "cache"))
    rows = [{"prompt": r.prompt, "chosen": r.chosen, "rejected": r.rejected} for r in records()]
    (tmp_path / "v.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    many = [{"prompt": row["prompt"], "completions": [row["rejected"], row["chosen"]]} for row in rows[:5]]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in many))
    fitted = ["fit", "v.jsonl", "--encoder", "hashed", "--resamples", "10", "--members", "3", "--out", "r", "--json"]
    main([*fitted, "--pessimism", "laplace", "--pessimism-strength", "0.5"])
    assert json.loads(capsys.readouterr().out)["fit"]["pessimism"] == {"how": "laplace", "strength": 0.5}
    found = {}
    for how in (None, "none", "min", "laplace"):
        flags = [] if how is None else ["--pessimism", how]
        main(["audit", "r", "v.jsonl", "--json", "--resamples", "10", *flags])
        found[how] = json.loads(capsys.readouterr().out)["nll"]
        main(["score", "r", "v.jsonl", "--out", f"{how}.jsonl", "--json", *flags])
        main(["select", "r", "c.jsonl", "--out", f"best-{how}.jsonl", "--json", *flags])
        capsys.readouterr()
        best = [json.loads(line) for line in (tmp_path / f"best-{how}.jsonl").read_text().splitlines()]
        assert [row["completion"] for row in best] == [row["chosen"] for row in rows[:5]]
    assert found[None] == found["laplace"]
    assert len(set(found.values())) == 3
    first = {how: json.loads((tmp_path / f"{how}.jsonl").read_text().splitlines()[0]) for how in ("none", "min")}
    assert first["min"]["score_chosen"] < first["none"]["score_chosen"]
    with pytest.raises(SystemExit):
        main(["score", "r", "v.jsonl", "--out", "x.jsonl", "--pessimism", "min", "--pessimism-strength", "1"])
    assert "takes no --pessimism-strength" in capsys.readouterr().err
