import json
import re
from html.parser import HTMLParser

import pytest

from tacit.lab.demo import LongestReply, RandomChoice, run
from tacit.lab.speaker import Size
from tacit.policies.contract import Sampling
from tacit.policies.transformer import TransformerPolicy
from tacit.rewards import load

SMALL = {
    "size": Size(hidden=32, layers=1, vocabulary=600, replies=120),
    **{"learn_on": 32, "ask": 12, "n": 2, "rounds": 2, "max_kl": None},
}


def small_demo(folder):
    return run(folder, n=1500, seed=3, head="linear", prompts=60, samples=16, resamples=200, speaker=SMALL)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "out"
    return folder, small_demo(folder)


def test_the_road_arrives(demo):
    _, result = demo
    judges = result["judges"]
    assert result["n_train"] + result["n_test"] == 1500
    assert judges["random"]["accuracy"] < judges["learnt"]["accuracy"]
    assert judges["length"]["accuracy"] == judges["length"]["length_accuracy"] > 0.5
    assert judges["truth"]["spearman_truth"] == pytest.approx(1.0)
    assert judges["truth"]["order_consistency"] == pytest.approx(1.0)
    assert judges["learnt"]["spearman_truth"] > 0.4
    assert abs(judges["random"]["spearman_truth"]) < 0.1


def test_best_of_n_lies_between_chance_and_the_truth(demo):
    curve = demo[1]["curve"]
    assert curve["n"] == [1, 2, 4, 8, 16]
    for i in range(1, 5):
        assert curve["random"][i] < curve["gold"][i] < curve["oracle"][i]
    assert curve["longest"][-1] < curve["gold"][-1]


def test_everything_is_written(demo):
    folder, result = demo
    assert json.loads((folder / "metrics.json").read_text("utf-8")) == json.loads(json.dumps(result))
    votes = [json.loads(line) for line in (folder / "comparisons.jsonl").read_text("utf-8").splitlines()]
    assert len(votes) == 1500
    assert not any(key.startswith("gold") for vote in votes for key in vote)
    score = load(folder / "reward").score([votes[0]["prompt"]], [votes[0]["chosen"]])
    assert score.shape == (1,)


def test_the_page_is_whole_and_loads_nothing(demo):
    folder, result = demo
    page = (folder / "index.html").read_text("utf-8")
    assert not re.search(r"(src|href)=|url\(|@import|<script", page)

    class Balanced(HTMLParser):
        void = frozenset(("meta", "br"))

        def __init__(self):
            super().__init__()
            self.open = []

        def handle_starttag(self, tag, attrs):
            if tag not in self.void:
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert page.count("<polyline") == 5
    assert result["summary"][0]["people"] in page
    assert "nan" not in re.sub("[a-z]+nan|nan[a-z]+", "", page)


def test_the_same_seed_gives_the_same_numbers(demo, tmp_path):
    again = small_demo(tmp_path / "again")
    assert again["curve"] == demo[1]["curve"]
    assert again["tuning"] == demo[1]["tuning"]
    assert again["summary"] == demo[1]["summary"]


def test_the_language_model_is_measured_before_and_after(demo):
    folder, result = demo
    rows = {row["policy"]: row for row in result["tuning"]["rows"]}
    assert list(rows) == ["untuned", "learnt", "random"]
    assert rows["untuned"]["kl"] == pytest.approx(0, abs=0.05)
    assert rows["untuned"]["gain"] == 0
    assert rows["learnt"]["kl"] != rows["untuned"]["kl"]
    assert rows["learnt"]["gain"] == pytest.approx(rows["learnt"]["truth"] - rows["untuned"]["truth"])
    prompt = result["tuning"]["prompt"]
    policy = TransformerPolicy.load(folder / "policy", dtype="float32")
    assert policy.generate([prompt], 1, Sampling(max_new_tokens=8))[0][0]
    page = (folder / "index.html").read_text("utf-8")
    assert all(row["true reward"] in page and row["95%"] in page for row in result["tuning_table"])


@pytest.mark.slow
def test_tuning_with_the_learnt_reward_gains_true_reward_and_random_numbers_do_not(tmp_path):
    rows = {row["policy"]: row for row in run(tmp_path / "whole")["tuning"]["rows"]}
    assert rows["learnt"]["gain_ci"][0] > 0
    assert rows["random"]["gain"] < rows["learnt"]["gain_ci"][0]


def test_controls():
    assert LongestReply().score(["p", "p"], ["aa", "b"]).tolist() == [2, 1]
    one = RandomChoice().score(["p", "p"], ["aa", "b"])
    assert one.tolist() == RandomChoice().score(["p", "p"], ["b", "aa"])[::-1].tolist()
