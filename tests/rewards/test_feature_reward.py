"""The reward as a user holds it: fit, score, save, load, check."""

import json

import numpy as np
import pytest

import tacit
from tacit.errors import ArtefactError, TacitError
from tacit.evidence.records import Comparison
from tacit.rewards.check import check_reward
from tacit.rewards.feature_reward import FeatureReward

GOOD = ["Certainly, here is how: {}.", "Yes. {}, step by step.", "Here you are: {}."]
BAD = ["no idea about {}", "go away, {} bores me", "whatever, {}"]


@pytest.fixture(scope="module")
def reward():
    rng = np.random.default_rng(0)
    records = [
        Comparison(
            prompt=f"Tell me about topic {i}",
            chosen=GOOD[rng.integers(3)].format(f"topic {i}"),
            rejected=BAD[rng.integers(3)].format(f"topic {i}"),
        )
        for i in range(200)
    ]
    return tacit.fit(records, encoder="hashed", members=3)


def test_it_learns_what_was_preferred(reward):
    good = reward.score(["Tell me about tea"] * 3, [g.format("tea") for g in GOOD])
    bad = reward.score(["Tell me about tea"] * 3, [b.format("tea") for b in BAD])
    assert good.min() > bad.max()


def test_the_contract_holds(reward):
    failed = [str(f) for f in check_reward(reward, new_process=True) if not f.ok]
    assert failed == []


def test_the_checker_finds_what_is_wrong():
    class Faulty:
        name = "faulty"
        calls = 0

        def score(self, prompts, completions):
            self.calls += 1
            values = np.array([len(str(c)) for c in completions], dtype=np.float32)
            return values - values.mean() + self.calls if len(values) else values

    failed = {f.demand for f in check_reward(Faulty()) if not f.ok}
    assert {"scoring twice gives the same scores", "batch size does not matter", "neighbours do not matter"} <= failed

    class Wrong:
        name = "wrong"

        def score(self, prompts, completions):
            return [float("nan")] * len(prompts)

    assert not check_reward(Wrong())[0].ok


def test_save_and_load_keep_scores_and_card(reward, tmp_path):
    reward.save(tmp_path / "r")
    again = tacit.load(tmp_path / "r")
    np.testing.assert_array_equal(again.score(["p"], ["a reply"]), reward.score(["p"], ["a reply"]))
    assert sorted(p.name for p in (tmp_path / "r").iterdir()) == [
        "README.md",
        "head.safetensors",
        "origin.safetensors",
        "reward.json",
    ]
    assert "comparison" in (tmp_path / "r" / "README.md").read_text()
    reward.save(tmp_path / "r")
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


class Shifted:
    """The length in some unit, and in it an error that a score has on its own and not with others."""

    name = "shifted"

    def __init__(self, unit: float, error: float) -> None:
        self.unit, self.error = unit, error

    def score(self, prompts, completions):
        lengths = np.array([len(str(completion)) - 20.0 for completion in completions])
        return (self.unit * (lengths + self.error * (len(lengths) == 1))).astype(np.float32)


@pytest.mark.parametrize("unit", [1e-9, 1e-4, 1.0, 1e4])
def test_the_checker_tolerates_rounding_of_the_scores_size_alone(unit):
    """The median of |length - 20| is 15 here, of which 2e-5 are allowed, or 4e-4 where that is small; also of a 0."""
    examples = [("p", "a" * length) for length in (20, 5, 35, 20, 1, 3)]
    for error, right in ((1e-4, True), (1e-2, False)):
        findings = {f.demand: f for f in check_reward(Shifted(unit, error), examples)}
        assert findings["batch size does not matter"].ok == right, findings
        assert findings["order does not matter"].ok


def test_a_folder_that_cannot_be_read_says_why(reward, tmp_path):
    folder = tmp_path / "r"
    with pytest.raises(ArtefactError, match="holds no reward"):
        tacit.load(folder)
    reward.save(folder)
    manifest = json.loads((folder / "reward.json").read_text())
    for change, message in (
        ({"format": 99}, "Upgrade"),
        ({"encoder_fingerprint": "0"}, "drift"),
        ({"rendering": "other"}, "renders text"),
    ):
        (folder / "reward.json").write_text(json.dumps(manifest | change))
        with pytest.raises(ArtefactError, match=message):
            tacit.load(folder)
    (folder / "reward.json").write_text(json.dumps(manifest))
    (folder / "head.safetensors").write_bytes(b"torn")
    with pytest.raises(ArtefactError, match="damaged"):
        tacit.load(folder)


def test_saving_never_overwrites_other_files(reward, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ArtefactError, match="other files"):
        reward.save(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_failed_save_leaves_nothing(reward, tmp_path, monkeypatch):
    monkeypatch.setattr("tacit.rewards.saving._model_card", lambda manifest, meaning: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        reward.save(tmp_path / "r")
    assert list(tmp_path.iterdir()) == []


def test_a_cache_is_used_again(tmp_path):
    records = [Comparison(prompt=f"p{i}", chosen=f"good {i}", rejected=f"bad {i}") for i in range(40)]
    first = tacit.fit(records, encoder="hashed", cache=tmp_path)
    second = tacit.fit(records, encoder="hashed", cache=tmp_path)
    np.testing.assert_array_equal(first.score(["p"], ["good"]), second.score(["p"], ["good"]))


def test_wrong_calls_are_named(reward):
    with pytest.raises(TacitError, match="2 prompts for 1 completions"):
        reward.score(["a", "b"], ["c"])
    with pytest.raises(TacitError, match="no fit option `heads`"):
        tacit.fit([], encoder="hashed", heads="mlp")
    with pytest.raises(TacitError, match="this reward takes"):
        reward.score_features(np.zeros((2, 3), np.float32))
    assert isinstance(reward, FeatureReward)
