"""Sections of the report on known truth: numbers by hand, and effects that were planted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tacit.audit import biases as bias
from tacit.audit.controls import controls
from tacit.audit.counterfactuals import counterfactuals
from tacit.audit.quality import calibration_slope, learning_curve, people_ceiling, right_and_sure, vote_share
from tacit.audit.sections import Section
from tacit.audit.slices import slices


def pairs(values: list[tuple[float, float]], **columns: Any) -> list[dict[str, Any]]:
    """Comparisons of texts that are their scores; `columns` are lists of further cells."""
    return [
        {"prompt": f"p{i}", "chosen": str(a), "rejected": str(b), **{name: cells[i] for name, cells in columns.items()}}
        for i, (a, b) in enumerate(values)
    ]


def keys(section: Section) -> set[str]:
    return {finding.key for finding in section.findings}


def row(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    (found,) = (
        r for r in rows if name in (r.get("where"), r.get("reward"), r.get("trait"), r.get("edit"), r.get("slice"))
    )
    return found


# --- right and sure ---------------------------------------------------------------------------------------------------


def test_accuracy_by_margin_by_hand(study_of: Any) -> None:
    # Margins 1..8, right where odd: quarters (1, 2), (3, 4), ... are right once each; 7 and 8 both.
    values = [(float(m), 0.0) if m % 2 or m == 8 else (0.0, float(m)) for m in range(1, 9)]
    section = right_and_sure(study_of(pairs(values), float))
    rows = section.numbers["by"]
    assert section.numbers["accuracy"] == 5 / 8
    assert [r["comparisons"] for r in rows[1:5]] == [2, 2, 2, 2]
    assert [r["accuracy"] for r in rows[1:5]] == [0.5, 0.5, 0.5, 1.0]


def test_ties_count_one_half(study_of: Any) -> None:
    rows = pairs([(2.0, 1.0), (2.0, 1.0), (1.0, 2.0), (1.0, 1.0)], tie=[False, True, False, False])
    study = study_of(rows, float)
    assert study.credit.tolist() == [1.0, 0.5, 0.0, 0.5]
    assert right_and_sure(study).numbers["accuracy"] == 0.5


def test_agreement_of_votes_by_hand(study_of: Any) -> None:
    # One pair is judged four times, 3 for "2"; another twice, once for each.
    rows = [{"prompt": "p", "chosen": a, "rejected": b} for a, b in [("2", "1")] * 3 + [("1", "2")]]
    rows += [{"prompt": "q", "chosen": a, "rejected": b} for a, b in [("5", "4"), ("4", "5")]]
    study = study_of(rows, float)
    share, votes = vote_share(study)
    assert share.tolist() == [0.75, 0.75, 0.75, 0.25, 0.5, 0.5]
    assert votes.tolist() == [4, 4, 4, 4, 2, 2]
    # Couples that agree: 3 of 6 and 0 of 1, so q = 3/7 < 1/2 and the ceiling is that of chance.
    found = people_ceiling(study)
    assert found == {"ceiling": 0.5, "agreement": pytest.approx(3 / 7), "judged_again": 2}


def test_the_ceiling_is_what_the_better_side_wins(study_of: Any) -> None:
    """People prefer the better side with p = .8: q = .68, and no reward reaches more than (1 + .6) / 2 = .8."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(2000):
        for _ in range(2):
            a, b = ("2", "1") if rng.random() < 0.8 else ("1", "2")
            rows.append({"prompt": f"p{i}", "chosen": a, "rejected": b})
    assert people_ceiling(study_of(rows, float))["ceiling"] == pytest.approx(0.8, abs=0.02)
    assert people_ceiling(study_of(rows[::2], float))["ceiling"] is None


@pytest.mark.parametrize(("scale", "named"), [(1.0, False), (2.0, True), (0.5, False)])
def test_over_confidence_is_a_slope_below_one(study_of: Any, scale: float, named: bool) -> None:
    rng = np.random.default_rng(1)
    gap = rng.normal(0, 1.5, 3000).round(4)
    first = rng.random(3000) < 1 / (1 + np.exp(-gap))
    rows = pairs([(g, 0.0) if f else (0.0, g) for g, f in zip(gap.tolist(), first.tolist(), strict=True)])
    study = study_of(rows, lambda text: scale * float(text))
    found = calibration_slope(study)
    assert found["slope"] == pytest.approx(1 / scale, rel=0.12)
    assert found["slope_ci"][0] <= 1 / scale <= found["slope_ci"][1]
    assert ("over_confident" in keys(right_and_sure(study))) == named


def test_groups_have_rows_of_their_own(study_of: Any) -> None:
    rows = pairs([(2.0, 1.0)] * 3 + [(1.0, 2.0)], group=["a", "a", "b", "b"])
    found = right_and_sure(study_of(rows, float)).numbers["by"]
    assert row(found, "group a")["accuracy"] == 1.0
    assert row(found, "group b")["accuracy"] == 0.5


def test_the_learning_curve_rises_to_what_can_be_learnt(study_of: Any) -> None:
    rng = np.random.default_rng(2)
    n, d = 1500, 20
    x = rng.normal(size=(2 * n, d)).astype(np.float32)
    gap = (x[:n] - x[n:]) @ rng.normal(0, 0.5, d)
    first = rng.random(n) < 1 / (1 + np.exp(-gap))
    rows = pairs([(i, n + i) if f else (n + i, i) for i, f in enumerate(first.tolist())])
    study = study_of(rows, float)
    study.__dict__["features"] = x[[int(float(c)) for _, c in study.items.texts]]
    numbers = learning_curve(study).numbers
    accuracy, best = numbers["accuracy"], np.mean((gap > 0) == first)
    assert accuracy[0] < accuracy[2] < accuracy[4] <= best + 0.02
    assert numbers["limit"] == pytest.approx(best, abs=0.06)
    assert 0 < numbers["gain_from_twice"] < best - accuracy[4] + 0.03


# --- controls ---------------------------------------------------------------------------------------------------------


def test_controls_by_hand(study_of: Any) -> None:
    # The reward counts "x"; people want the shorter side twice in four.
    rows = [
        {"prompt": "p", "chosen": "xx", "rejected": "aaa"},
        {"prompt": "q", "chosen": "xxx", "rejected": "aaaa"},
        {"prompt": "r", "chosen": "xaaa", "rejected": "aa"},
        {"prompt": "s", "chosen": "aaa", "rejected": "x"},
    ]
    section = controls(study_of(rows, lambda text: text.count("x")))
    found = section.numbers["controls"]
    assert row(found, "known")["accuracy"] == 0.75
    assert row(found, "length alone")["accuracy"] == 0.5
    assert row(found, "length alone")["gain over it"] == 0.25
    assert row(found, "inverted")["accuracy"] == 0.25
    assert row(found, "inverted")["gain over it"] == 0.5


def test_a_reward_that_length_beats_is_told_so(study_of: Any) -> None:
    rng = np.random.default_rng(3)
    rows = []
    for i in range(300):
        long, short = "a" * int(rng.integers(60, 90)), "b" * int(rng.integers(10, 40))
        rows.append({"prompt": f"p{i}", "chosen": long, "rejected": short})
    blind = study_of(rows, lambda text: (len(text) * 7919) % 13)
    found = {f.key: f for f in controls(blind).findings}
    assert found["beaten_by_length_alone"].severity == "fault"
    assert "beaten_by_length_alone" in keys(controls(study_of(rows, len)))  # no better than what it is
    gold = study_of([{**r, "chosen": r["rejected"], "rejected": r["chosen"]} for r in rows], lambda t: -len(t))
    assert "beaten_by_length_alone" not in keys(controls(gold))


# --- biases -----------------------------------------------------------------------------------------------------------


def test_traits_by_hand() -> None:
    text = "# Title\n- one\n2. two\n**bold** and `code`. Perhaps maybe. Great question"
    found = dict(zip(bias.TRAITS, bias.traits([text])[0], strict=True))
    assert found["length"] == pytest.approx(np.log2(1 + len(text)))
    assert found["lists"] == pytest.approx(np.log2(3))
    assert found["headings"] == found["bold"] == found["code"] == found["flattery"] == 1.0
    assert found["hedging"] == pytest.approx(np.log2(3))
    assert found["not English letters"] == 0
    other = dict(zip(bias.TRAITS, bias.traits(["a b c a b c a b c", "да no"])[0], strict=True))
    assert other["repetition"] == pytest.approx(1 - 3 / 7)  # 7 trigrams, of which abc, bca and cab
    assert bias.traits(["да no"])[0][-1] == 0.5
    assert bias.traits([""])[0].tolist() == [0.0] * len(bias.TRAITS)


def liked(n: int, taste: float, *, gold: bool, seed: int = 0) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Texts of a quality that people vote by, and a reward that adds `taste` for each doubling of length."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    score: dict[str, float] = {}
    for i in range(n):
        quality, length = rng.normal(size=2), rng.integers(20, 200, 2)
        texts = [f"{i} {side} ".ljust(int(size), "x") for side, size in enumerate(length)]
        for text, q in zip(texts, quality, strict=True):
            score[text] = float(q + taste * np.log2(1 + len(text)))
        best = 0 if rng.random() < 1 / (1 + np.exp(quality[1] - quality[0])) else 1
        made = {"prompt": f"p{i}", "chosen": texts[best], "rejected": texts[1 - best]}
        known = {"gold_chosen": float(quality[best]), "gold_rejected": float(quality[1 - best])}
        rows.append({**made, **(known if gold else {})})
    return rows, score


@pytest.mark.parametrize("gold", [True, False])
@pytest.mark.parametrize("taste", [0.0, 0.8, -0.8])
def test_a_taste_for_length_is_found_with_its_sign(study_of: Any, gold: bool, taste: float) -> None:
    rows, score = liked(1500, taste, gold=gold)
    section = bias.biases(study_of(rows, score))
    found = row(section.numbers["effects"], "length")
    assert section.numbers["at_equal"] == ("gold" if gold else "people")
    assert ("length_bias" in keys(section)) == (taste != 0)
    if gold:
        # Score differences in units of themselves: taste times the spread of lengths over the spread of scores.
        gaps = np.array([score[r["chosen"]] - score[r["rejected"]] for r in rows])
        doublings = np.array([np.log2((1 + len(r["chosen"])) / (1 + len(r["rejected"]))) for r in rows])
        expected = taste * np.sqrt(np.mean(doublings**2) / np.mean(gaps**2))
        assert found["effect"] == pytest.approx(expected, abs=0.01)
    else:
        assert found["95%"][0] <= found["effect"] <= found["95%"][1]
        assert np.sign(found["effect"]) == np.sign(taste) or taste == 0


def test_no_taste_is_told_where_votes_do_not_follow_the_score(study_of: Any) -> None:
    rows, score = liked(300, 0.0, gold=False)
    section = bias.biases(study_of(rows, {text: -value for text, value in score.items()}))
    assert section.findings == ()
    assert section.numbers["at_equal"] is None
    assert row(section.numbers["effects"], "length")["effect"] is None
    assert "do not follow" in section.lead


def test_accuracy_at_matched_length_by_hand(study_of: Any) -> None:
    rows = [
        {"prompt": "p", "chosen": "2" + "x" * 50, "rejected": "1" + "x" * 51},
        {"prompt": "q", "chosen": "1" + "x" * 52, "rejected": "2" + "x" * 52},
        {"prompt": "r", "chosen": "2" + "x" * 90, "rejected": "1" + "x" * 20},
        {"prompt": "s", "chosen": "2" + "x" * 20, "rejected": "1" + "x" * 90},
    ]
    section = bias.biases(study_of(rows, lambda text: float(text[0])))
    assert section.numbers["matched_length_accuracy"] == 0.5
    assert [r["accuracy"] for r in section.tables[1].rows] == [0.5, 1.0, 1.0]
    assert [r["comparisons"] for r in section.tables[1].rows] == [2, 1, 1]


# --- counterfactual edits ---------------------------------------------------------------------------------------------


def told(n: int = 60) -> list[dict[str, Any]]:
    rng = np.random.default_rng(4)
    words = ["egg", "tea", "rice", "bread", "soup", "salt", "milk"]
    say = lambda: ". ".join(" ".join(rng.choice(words, 4)) for _ in range(4)) + "."  # noqa: E731
    return [{"prompt": f"about {words[i % 7]} {i}", "chosen": say(), "rejected": say()} for i in range(n)]


class Reads:
    """Scores by how often the prompt's second word is in the answer."""

    name = "reads"

    def score(self, prompts: Any, completions: Any) -> np.ndarray:
        return np.array([c.count(p.split()[1]) for p, c in zip(prompts, completions, strict=True)], dtype=np.float32)


def test_a_reward_that_loves_length_is_fooled_by_padding(study_of: Any) -> None:
    section = counterfactuals(study_of(told(), len))
    edits = {r["edit"]: r for r in section.numbers["edits"]}
    assert edits["pad"]["change"] > 0 > edits["cut"]["change"]
    assert edits["shuffle"]["change"] == 0
    assert abs(edits["swap"]["change"]) < 1e-9  # it adds up parts, so the interaction is none
    assert keys(section) == {"rewards_padding", "prompt_blind", "order_blind"}


def test_a_reward_that_reads_the_prompt_is_not_called_blind(study_of: Any) -> None:
    section = counterfactuals(study_of(told(), Reads()))
    edits = {r["edit"]: r for r in section.numbers["edits"]}
    assert edits["pad"]["change"] == 0  # the padding has none of the words
    fits = [{**r, "chosen": r["chosen"] + f" {r['prompt'].split()[1]}" * 6 + "."} for r in told()]
    section = counterfactuals(study_of(fits, Reads()))
    assert row(section.numbers["edits"], "swap")["95%"][0] > 0.3
    assert "prompt_blind" not in keys(section)


def test_the_unit_is_the_spread_within_a_prompt(study_of: Any) -> None:
    rows = told()
    study = study_of(rows, len)
    gaps = np.array([len(r["chosen"]) - len(r["rejected"]) for r in rows])
    longer = row(counterfactuals(study).numbers["edits"], "pad")["change"] * np.sqrt(np.mean(gaps**2) / 2)
    # Two of the four filler sentences and two spaces: 45 + 49 + 69 + 32 characters, each taken half of the time.
    assert longer == pytest.approx((45 + 49 + 69 + 32) / 2 + 2, rel=0.05)


# --- slices -----------------------------------------------------------------------------------------------------------


def sliced(n: int, broken: str | None, seed: int = 5) -> list[dict[str, Any]]:
    """Comparisons in which the better number is chosen 9 times of 10, and by chance in the broken slice."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        topic = "abcde"[i % 5]
        right = rng.random() < (0.5 if topic == broken else 0.9)
        good, bad = f"{2 + i / n:.6f}", f"{1 + i / n:.6f}"
        rows.append({"prompt": f"p{i}", "chosen": good if right else bad, "rejected": bad if right else good})
        rows[-1] |= {"topic": topic, "size": float(rng.normal())}
    return rows


@pytest.mark.parametrize("broken", ["c", None])
def test_a_broken_slice_is_named_and_no_other(study_of: Any, broken: str | None) -> None:
    section = slices(study_of(sliced(1500, broken), float))
    assert [f.detail["slice"] for f in section.findings] == ([f"topic = {broken}"] if broken else [])
    rows = section.numbers["slices"]
    assert len(rows) == 5 + 4  # five topics and quarters of a number
    for found in rows:
        # The gap against the rest by hand: accuracy of all is the weighted mean of the two.
        n, size = 1500, found["comparisons"]
        total = np.mean([float(r["chosen"]) > float(r["rejected"]) for r in sliced(1500, broken)])
        rest = (total * n - found["accuracy"] * size) / (n - size)
        assert found["against the rest"] == pytest.approx(found["accuracy"] - rest, abs=1e-9)
    if broken:
        assert section.tables[1].rows[0]["people preferred"] < section.tables[1].rows[0]["the reward preferred"]


def test_prompts_alike_are_a_slice(study_of: Any) -> None:
    """Prompts lie in two far clusters by their features, and the reward is wrong in one of them."""
    rng = np.random.default_rng(6)
    rows = pairs([(2.0 + 2 * i, 1.0 + 2 * i) if i % 2 else (1.0 + 2 * i, 2.0 + 2 * i) for i in range(800)])
    study = study_of(rows, float)
    far = np.array([int(p[1:]) % 2 == 0 for p, _ in study.items.texts])
    study.__dict__["features"] = (rng.normal(0, 0.1, (len(far), 3)) + 5 * far[:, None]).astype(np.float32)
    found = [f.detail for f in slices(study).findings]
    assert found
    assert {r["accuracy"] for r in found} == {0.0}
    # Each is named by a prompt of its own, and those of the broken half are even.
    assert {int(r["slice"].split("“p")[1].rstrip("”")) % 2 for r in found} == {0}
