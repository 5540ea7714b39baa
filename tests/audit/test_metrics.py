import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.audit.metrics import evaluate
from tacit.errors import EvidenceError
from tacit.evidence import Evidence
from tacit.evidence.records import Comparison, Demonstration, Outcome, Ranking, Rating


class Rows(list):
    """Records in memory, with what `evaluate` needs to know of an Evidence."""

    source = "memory"

    def __init__(self, kind, records):
        super().__init__(records)
        self.kind = kind


class Value:
    """Reads the score out of the completion: "3.5 any words" scores 3.5. Counts what it is asked."""

    name = "value"

    def __init__(self, scale=1.0):
        self.scale, self.asked = scale, []

    def score(self, prompts, completions):
        self.asked += list(zip(prompts, completions, strict=True))
        return np.array([self.scale * float(c.split()[0]) for c in completions], dtype=np.float32)


def compare(prompt, chosen, rejected, **columns):
    return Comparison(prompt=prompt, chosen=chosen, rejected=rejected, **columns)


def noisy_comparisons(n, seed=0, prompts=100, **columns):
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        a, b = rng.normal(size=2)
        if rng.random() > 1 / (1 + np.exp(b - a)):
            a, b = b, a
        extra = {name: make(rng) for name, make in columns.items()}
        rows.append(compare(f"p{i % prompts}" if prompts else "", f"{a:.6f}", f"{b:.6f}", **extra))
    return rows


def test_accuracy_ties_and_length_by_hand():
    rows = [
        compare("p", "2", "1"),  # right; same length
        compare("p", "1 and more", "2"),  # wrong; the longer is preferred
        compare("q", "3", "3 words"),  # equal scores: half; the shorter is preferred
        compare("q", "5", "1 words", tie=True),  # people saw no difference: half for every reward
    ]
    got = evaluate(Value(), Rows("comparison", rows), resamples=50)
    assert got["accuracy"] == pytest.approx((1 + 0 + 0.5 + 0.5) / 4)
    assert got["accuracy_decided"] == pytest.approx(1.5 / 3)
    assert got["length_accuracy"] == pytest.approx((0.5 + 1 + 0 + 0.5) / 4)
    assert (got["ties"], got["tie_share"], got["score_ties"], got["n_test"], got["n_prompts"]) == (1, 0.25, 1, 4, 2)
    assert got["order_consistency"] is got["order_consistency_against"] is None  # no gold, no pair judged twice
    s = lambda d: np.log1p(np.exp(-d))  # noqa: E731
    assert got["nll"] == pytest.approx((s(1) + s(-1) + np.log(2) + (s(4) + s(-4)) / 2) / 4)


def test_weights_count_rows():
    light = [compare("p", "2", "1", weight=3.0), compare("q", "1", "2", weight=1.0), compare("r", "0", "9", weight=0.0)]
    assert evaluate(Value(), Rows("comparison", light), resamples=20)["accuracy"] == pytest.approx(0.75)


def test_gold_columns_take_over_order_and_spearman():
    rows = [
        compare("p", "1", "2", gold_chosen=0.1, gold_rejected=0.7),  # people err, the reward agrees with gold
        compare("p", "2", "3", gold_chosen=0.7, gold_rejected=0.2),
        compare("q", "1", "2", gold_chosen=5, gold_rejected=5),  # gold does not say
    ]
    got = evaluate(Value(), Rows("comparison", rows), resamples=20)
    assert got["order_consistency"] == pytest.approx(0.5)
    assert got["order_consistency_against"] == got["spearman_against"] == "gold"
    assert got["spearman"] == pytest.approx(0.5)  # scores 1 2 3, gold .1 .7 .2; prompt q has one gold value
    assert got["spearman_groups"] == 1


def test_order_consistency_without_gold_is_with_the_majority_of_repeated_votes():
    rows = [
        *[compare("p", "2", "1")] * 3,  # three to one for 2: in order
        compare("p", "1", "2"),
        *[compare("p", "3", "4", weight=2.0)] * 2,  # both for 3: out of order, and one pair however many votes
        compare("q", "5", "6"),  # one each: people do not say
        compare("q", "6", "5"),
        compare("q", "8", "7"),  # judged once
        compare("r", "9", "9 words"),  # equal scores: half
        compare("r", "9", "9 words", tie=True),
    ]
    got = evaluate(Value(), Rows("comparison", rows), resamples=20)
    assert got["order_consistency"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert got["order_consistency_against"] == "majority"


def test_every_item_is_scored_once_and_the_result_is_json():
    reward = Value()
    rows = [compare("p", "1", "2"), compare("p", "2", "1"), compare("p", "1", "3"), compare("q", "1", "2")]
    got = evaluate(reward, Rows("comparison", rows), resamples=20)
    assert len(reward.asked) == len(set(reward.asked)) == 5 == got["n_items"]
    assert json.loads(json.dumps(got, allow_nan=False)) == got
    needed = [
        "accuracy",
        "length_accuracy",
        "spearman",
        "nll",
        "ece",
        "order_consistency",
        "n_test",
        "ties",
        "tie_share",
    ]
    assert all(key in got for key in needed)


def test_messages_and_strings_are_one_item():
    chat = [{"role": "user", "content": "p"}]
    rows = [compare("p", "1", "2"), compare(chat, [{"role": "assistant", "content": "1"}], "2")]

    class Constant:
        name = "constant"

        def score(self, prompts, completions):
            assert len(prompts) == 2
            return np.zeros(2, dtype=np.float32)

    assert evaluate(Constant(), Rows("comparison", rows), resamples=10)["accuracy"] == 0.5


@settings(max_examples=25)
@given(st.integers(0, 1000))
def test_monotone_rewards_share_every_order_metric(seed):
    rows = Rows("comparison", noisy_comparisons(40, seed, prompts=7))
    one, two = (evaluate(Value(scale), rows, resamples=10) for scale in (1.0, 5.0))
    for key in ("accuracy", "accuracy_ci", "spearman", "order_consistency", "length_accuracy"):
        assert one[key] == two[key]


def test_a_true_reward_is_calibrated_and_a_sharp_one_is_not():
    rows = Rows("comparison", noisy_comparisons(4000, prompts=1000))
    true, sharp = evaluate(Value(), rows, resamples=100), evaluate(Value(4.0), rows, resamples=100)
    assert true["temperature"] == pytest.approx(1.0, abs=0.1)
    assert sharp["temperature"] == pytest.approx(4 * true["temperature"], rel=0.01)
    assert true["ece_binned"] < true["ece_floor_95"]
    assert true["ece_ci"][0] == 0.0
    assert sharp["ece_binned"] > 5 * sharp["ece_floor"]
    assert sharp["ece"] == pytest.approx(sharp["ece_binned"], rel=0.05)
    assert sharp["ece_ci"][0] > sharp["ece_floor_95"]
    assert sharp["ece_scaled"] == pytest.approx(true["ece_scaled"], abs=1e-3)
    assert true["nll"] < sharp["nll"]
    assert true["accuracy_ci"][0] < true["accuracy"] < true["accuracy_ci"][1]


def test_intervals_widen_with_the_size_of_clusters():
    rows = noisy_comparisons(600, prompts=600)
    copies = [compare(f"p{i}", r.chosen, r.rejected) for i, r in enumerate(rows) for _ in range(4)]
    width = lambda got: np.diff(got["accuracy_ci"])[0]  # noqa: E731
    single = width(evaluate(Value(), Rows("comparison", rows)))
    clustered = width(evaluate(Value(), Rows("comparison", copies)))
    assert clustered == pytest.approx(single, rel=0.15)


def test_annotators_are_a_second_factor():
    rows = noisy_comparisons(400, prompts=200, annotator=lambda rng: int(rng.integers(20)))
    rude = [
        r if r.annotator not in ("3", "5") else compare(r.prompt, r.rejected, r.chosen, annotator=r.annotator)
        for r in rows
    ]
    blind = [compare(r.prompt, r.chosen, r.rejected) for r in rude]
    known, unknown = (evaluate(Value(), Rows("comparison", each)) for each in (rude, blind))
    assert known["n_annotators"] == 20
    assert unknown["n_annotators"] is None
    assert known["accuracy"] == unknown["accuracy"]
    assert np.diff(known["accuracy_ci"])[0] > 1.1 * np.diff(unknown["accuracy_ci"])[0]


def test_comparisons_without_prompts_are_resampled_by_both_items():
    rows = [compare("", f"{i}", f"{j}") for i in range(12) for j in range(i)]
    got = evaluate(Value(), Rows("comparison", rows), resamples=100)
    assert got["n_prompts"] == 0
    assert got["accuracy"] == 1.0
    assert got["spearman"] == pytest.approx(1.0)
    assert got["spearman_against"] == "win_share"


def test_order_of_sides_and_rows_does_not_matter():
    rows = noisy_comparisons(300, tie=lambda rng: bool(rng.random() < 0.3))
    turned = [compare(r.prompt, r.rejected, r.chosen, tie=True) if r.tie else r for r in rows]
    one, two = (evaluate(Value(), Rows("comparison", each), resamples=10) for each in (rows, turned))
    for key in ("accuracy", "nll", "ece_binned", "spearman"):
        assert one[key] == pytest.approx(two[key], abs=1e-9)
    back = evaluate(Value(), Rows("comparison", rows[::-1]), resamples=10)
    for key in ("accuracy", "nll", "ece_binned", "spearman"):
        assert one[key] == pytest.approx(back[key], abs=1e-9)


def test_cross_prompt_comparisons():
    rows = [compare(f"p{i}", "2", "1", rejected_prompt=f"p{i + 1}") for i in range(10)]
    got = evaluate(Value(), Rows("comparison", rows), resamples=50)
    assert got["accuracy"] == 1.0
    assert got["n_prompts"] == 11


def test_rankings_are_all_their_pairs():
    rows = [
        Ranking(prompt="p", completions=["3", "1", "2"], ranks=[1, 2, 3]),
        Ranking(prompt="q", completions=["1", "2"], ranks=[1, 1]),
    ]
    got = evaluate(Value(), Rows("ranking", rows), resamples=20)
    assert (got["n_test"], got["ties"]) == (4, 1)
    assert got["accuracy"] == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert got["spearman"] == pytest.approx(0.5)  # scores 3 1 2 against ranks 1 2 3
    assert got["spearman_against"] == "ranks"


def test_annotators_are_counted_by_name():
    """Every pair of a ranking has its annotator, and a ranking without one is nobody's: rows are no people."""

    def ranking(i, **columns):
        return Ranking(prompt=f"p{i}", completions=["1 a", "2 b", "3 c"], ranks=[3, 2, 1], **columns)

    def result(*records):
        return evaluate(Value(), Evidence.from_records(records), resamples=50)

    anonymous = result(*(ranking(i) for i in range(6)))
    assert (anonymous["n_annotators"], anonymous["resampled"]) == (None, "prompt")
    named = result(*(ranking(i, annotator=f"w{i % 3}") for i in range(6)))
    assert (named["n_annotators"], named["resampled"]) == (3, "prompt and annotator")
    assert result(*(ranking(i, annotator="one") for i in range(6)))["n_annotators"] == 1
    assert result(*(ranking(i, annotator=f"w{i}") for i in range(6)))["n_annotators"] == 6
    some = [ranking(0, annotator="a"), ranking(1), ranking(2, annotator="b"), ranking(3)]
    assert result(*some)["n_annotators"] == 2
    pairs = [compare(f"p{i}", "2 x", "1 y", annotator=f"w{i}") for i in range(5)]
    assert result(*pairs)["n_annotators"] == 5
    rated = [Rating(prompt="p", completion=f"{i} x", score=i, annotator=f"w{i}") for i in range(4)]
    assert result(*rated)["n_annotators"] == 4


@pytest.mark.parametrize("kind", ["comparison", "outcome", "rating", "ranking"])
def test_one_constant_prompt_is_audited_as_no_prompt_is(kind):
    rng = np.random.default_rng(0)

    def record(prompt, a, b, good):
        one, other = f"{a / 7:.3f} joke {a}", f"{b / 7:.3f} joke {b}"
        return {
            "comparison": lambda: compare(prompt, one, other),
            "outcome": lambda: Outcome(prompt=prompt, completion=one, label=good),
            "rating": lambda: Rating(prompt=prompt, completion=one, score=a + 5 * good),
            "ranking": lambda: Ranking(prompt=prompt, completions=[one, other, "0 c"], ranks=[1, 2, 2 + good]),
        }[kind]()

    votes = [(*rng.choice(40, 2, replace=False).tolist(), bool(rng.random() < 0.6)) for _ in range(300)]
    with_one, without = (
        evaluate(Value(), Evidence.from_records([record(prompt, *vote) for vote in votes]), resamples=100)
        for prompt in ("Tell a joke", "")
    )
    assert with_one["resampled"] == without["resampled"] == "item"
    assert (with_one["n_prompts"], without["n_prompts"]) == (1, 0)
    assert with_one["accuracy_ci"] is not None
    assert with_one["spearman_ci"] is not None
    told = {"n_prompts", "accuracy_is"}
    assert {k: v for k, v in with_one.items() if k not in told} == {k: v for k, v in without.items() if k not in told}


def test_outcomes_within_and_across_prompts_by_hand():
    rows = [
        Outcome(prompt="p", completion="2", label=True),
        Outcome(prompt="p", completion="1", label=False),
        Outcome(prompt="q", completion="7", label=True),
        Outcome(prompt="q", completion="9 long", label=False),
        Outcome(prompt="r", completion="0", label=False),
    ]
    got = evaluate(Value(), Rows("outcome", rows), resamples=50)
    assert (got["accuracy"], got["pairs"], got["accuracy_is"]) == (0.5, 2, "within prompts")
    assert got["accuracy_across_prompts"] == pytest.approx(4 / 6)  # 2 > 1, 0; 7 > 1, 0; 9 beats both
    assert got["length_accuracy"] == pytest.approx(0.25)
    p = 1 / (1 + np.exp(-np.array([2.0, 1, 7, 9, 0])))
    assert got["nll"] == pytest.approx(-np.mean(np.log([p[0], 1 - p[1], p[2], 1 - p[3], 1 - p[4]])))
    assert got["spearman_groups"] == 2


def test_outcomes_of_one_label_are_refused():
    rows = Rows("outcome", [Outcome(prompt="p", completion="2", label=True)] * 3)
    with pytest.raises(EvidenceError, match="every outcome has label True"):
        evaluate(Value(), rows)


def test_ratings_by_hand():
    rows = [
        Rating(prompt="p", completion="1", score=1),
        Rating(prompt="p", completion="2", score=3),
        Rating(prompt="p", completion="3 long", score=2),
        Rating(prompt="q", completion="5", score={"help": 4, "fun": 2, "other": None}),
        Rating(prompt="q", completion="4", score={"help": 1, "fun": 5, "other": None}),
    ]
    got = evaluate(Value(), Rows("rating", rows), resamples=50)
    assert got["pairs"] == 3  # q ties at 3 on the mean of its attributes
    assert got["ties"] == 1
    assert got["accuracy"] == pytest.approx(2 / 3)
    assert got["spearman"] == pytest.approx(0.5)
    assert got["attributes"]["help"]["spearman"] == 1.0
    assert got["attributes"]["fun"]["spearman"] == -1.0
    assert got["nll"] is None


def test_kinds_without_a_better_side_and_empty_evidence_are_refused():
    with pytest.raises(EvidenceError, match="does not say which completion is better"):
        evaluate(Value(), Rows("demonstration", [Demonstration(prompt="p", completion="1")]))
    with pytest.raises(EvidenceError, match="no row to audit"):
        evaluate(Value(), Rows("comparison", []))


def test_the_same_seed_gives_the_same_numbers():
    rows = Rows("comparison", noisy_comparisons(100))
    assert evaluate(Value(), rows, seed=4) == evaluate(Value(), rows, seed=4)
    assert evaluate(Value(), rows, seed=4)["nll_ci"] != evaluate(Value(), rows, seed=5)["nll_ci"]


class RockPaperScissors:
    """Every score is 0; of two completions, the one that is next in the circle wins by 2 log-odds."""

    name = "circle"
    order = ("rock", "paper", "scissors")

    def score(self, prompts, completions):
        return np.zeros(len(prompts), np.float32)

    def compare(self, prompts, first, second):
        steps = [(self.order.index(a) - self.order.index(b)) % 3 for a, b in zip(first, second, strict=True)]
        return np.array([(0.0, 2.0, -2.0)[step] for step in steps], np.float32)


def test_a_reward_that_looks_at_both_completions_is_asked_about_both():
    wins = [("paper", "rock"), ("scissors", "paper"), ("rock", "scissors"), ("rock", "paper")]
    rows = [{"prompt": f"p{i}", "chosen": a, "rejected": b} for i, (a, b) in enumerate(wins)]
    result = evaluate(RockPaperScissors(), Evidence.from_records(rows), resamples=50)
    assert result["accuracy"] == 0.75
    assert result["nll"] == pytest.approx((3 * np.logaddexp(0, -2) + np.logaddexp(0, 2)) / 4)
    across = [{"prompt": "p", "chosen": "paper", "rejected": "rock", "rejected_prompt": "q"}]
    assert evaluate(RockPaperScissors(), Evidence.from_records(across), resamples=50)["accuracy"] == 0.5
