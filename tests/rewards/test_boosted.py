"""Boosted trees: what they learn that a linear head cannot, how they are saved, and what is said without LightGBM."""

import json
import sys

import numpy as np
import pytest

import tacit
from tacit import rewards
from tacit.errors import ArtefactError, EvidenceError, MissingExtra, TacitError
from tacit.evidence.records import Comparison, Outcome, Ranking, Rating
from tacit.features.arrays import PrecomputedEncoder
from tacit.rewards.boosted import responses
from tacit.rewards.check import check_reward
from tacit.rewards.examples import collect

pytest.importorskip("lightgbm", reason="the extra `boost` is not installed")


def test_labels_of_a_response_are_its_share_of_wins():
    votes = [
        Comparison(prompt="p", chosen="a", rejected="b", weight=3),
        Comparison(prompt="q", chosen="b", rejected="a"),
        Comparison(prompt="p", chosen="a", rejected="c", tie=True),
        Comparison(prompt="p", chosen="a", rejected="d", weight=0),
    ]
    examples = collect(votes)
    rows, label, weight = responses(examples)
    named = {examples.texts[row]: (y, w) for row, y, w in zip(rows, label, weight, strict=True)}
    assert named == {
        ("p", "a"): (pytest.approx(3.5 / 4), 4),
        ("p", "b"): (0, 3),
        ("q", "b"): (1, 1),
        ("q", "a"): (0, 1),
        ("p", "c"): (0.5, 1),
    }


def world(n=3000, seed=0):
    """Features z of responses whose worth is 2 |z_0| + z_1: half of it nothing that a linear head sees."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(2 * n, 4)).astype(np.float32)
    worth = 2 * np.abs(z[:, 0]) + z[:, 1]
    names = [str(i) for i in range(2 * n)]
    prompts = [f"p{i // 2}" for i in range(2 * n)]
    return z, worth, prompts, names, PrecomputedEncoder(list(zip(prompts, names, strict=True)), z), rng


def compared(worth, names, rng):
    first = rng.random(len(worth) // 2) < 1 / (1 + np.exp(worth[1::2] - worth[::2]))
    return [
        Comparison(prompt=f"p{i}", chosen=names[2 * i + (not won)], rejected=names[2 * i + int(won)])
        for i, won in enumerate(first.tolist())
    ]


def test_comparisons_outcomes_and_ratings_are_learnt_where_a_linear_head_cannot():
    z, worth, prompts, names, encoder, rng = world()
    centred = worth - worth.mean()
    kinds = {
        "comparison": compared(worth, names, rng),
        "outcome": [
            Outcome(prompt=p, completion=c, label=bool(won))
            for p, c, won in zip(prompts, names, rng.random(len(z)) < 1 / (1 + np.exp(-2 * centred)), strict=True)
        ],
        "rating": [
            Rating(prompt=p, completion=c, score=float(y))
            for p, c, y in zip(prompts, names, 7 + worth + 0.3 * rng.normal(size=len(z)), strict=True)
        ],
    }
    for kind, evidence in kinds.items():
        trees = rewards.fit(evidence, model="boosted", encoder=encoder)
        linear = rewards.fit(evidence, model="scalar", encoder=encoder)
        score = trees.score(prompts, names)
        found, beside = (np.corrcoef(r.score(prompts, names), worth)[0, 1] for r in (trees, linear))
        assert found > 0.93 > beside + 0.1, kind
        slope = np.polyfit(worth, score, 1)[0]
        assert slope == pytest.approx({"comparison": 1, "outcome": 2, "rating": 1}[kind], rel=0.35), kind
        if kind == "rating":
            assert score.mean() == pytest.approx(7 + worth.mean(), abs=0.1)
        if kind == "comparison":
            assert 0.7 < trees.report["order_consistency"] < 0.95


def test_the_contract_holds_and_trees_are_saved_as_text(tmp_path):
    rng = np.random.default_rng(0)
    good, bad = ("Certainly: {}.", "Here you are: {}."), ("no idea about {}", "go away with {}")
    votes = [
        Comparison(prompt=f"About {i}", chosen=good[rng.integers(2)].format(i), rejected=bad[rng.integers(2)].format(i))
        for i in range(100)
    ]
    reward = rewards.fit(votes, model="boosted", encoder="hashed", members=2, trees=30)
    assert [str(f) for f in check_reward(reward, new_process=True) if not f.ok] == []
    reward.save(tmp_path / "r")
    assert sorted(p.name for p in (tmp_path / "r").iterdir()) == [
        "README.md",
        "origin.safetensors",
        "reward.json",
        "trees.0.txt",
        "trees.1.txt",
    ]
    assert (tmp_path / "r" / "trees.0.txt").read_text().startswith("tree\n")
    np.testing.assert_array_equal(
        tacit.load(tmp_path / "r").score(["About 3"], ["Certainly: 3."]), reward.score(["About 3"], ["Certainly: 3."])
    )
    (tmp_path / "r" / "trees.1.txt").unlink()
    with pytest.raises(ArtefactError, match=r"lacks its file trees\.1\.txt"):
        tacit.load(tmp_path / "r")
    json.dumps(reward.report)


def test_the_same_seed_gives_the_same_trees():
    *_, names, encoder, rng = world(n=300)
    votes = compared(world(n=300)[1], names, rng)
    one, two, other = (rewards.fit(votes, model="boosted", encoder=encoder, members=2, seed=s) for s in (1, 1, 2))
    assert [t.model_to_string() for t in one.trees] == [t.model_to_string() for t in two.trees]
    assert one.trees[0].model_to_string() != other.trees[0].model_to_string()


def test_without_lightgbm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    votes = [Comparison(prompt=f"p{i}", chosen="a", rejected="b") for i in range(9)]
    with pytest.raises(MissingExtra, match=r"needs the extra `boost`. Install it with: pip install 'tacit\[boost\]'"):
        rewards.fit(votes, model="boosted", encoder="hashed")


def test_what_does_not_fit_is_named():
    votes = [Comparison(prompt=f"p{i}", chosen="a", rejected="b") for i in range(9)]
    with pytest.raises(TacitError, match="no fit option `hidden`"):
        rewards.fit(votes, model="boosted", encoder="hashed", hidden=(4,))
    with pytest.raises(TacitError, match="by objective `classification`, not `bradley_terry`"):
        rewards.fit(votes, model="boosted", encoder="hashed", objective="bradley_terry")
    with pytest.raises(EvidenceError, match="does not learn from rankings"):
        rewards.fit(
            [Ranking(prompt=f"p{i}", completions=["a", "b"], ranks=[1, 2]) for i in range(9)],
            model="boosted",
            encoder="hashed",
        )
