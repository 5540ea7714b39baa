"""Comparisons that nobody made: what they may say, and where they come from."""

from collections import Counter

import pytest

from tacit.errors import EvidenceError
from tacit.evidence.augment import augment, pair_across
from tacit.evidence.records import Comparison, Outcome, Rating

GIVEN = [
    Comparison(prompt=f"p{i % 7}", chosen=f"good {i % 7} {i}", rejected=f"bad {i % 7} {i}", weight=1.0 + (i % 7))
    for i in range(70)
]


def topic(text):
    return text.split()[1]


def test_an_own_answer_beats_a_foreign_one_and_two_foreign_ones_tie():
    made = augment(GIVEN, 20.0, seed=1)
    assert len(made) == 1400
    kinds = Counter()
    for record in made:
        assert record.rejected_prompt is None
        assert record.weight == 1.0 + int(record.prompt[1:])
        own = record.prompt[1:]
        assert topic(record.rejected) != own
        if record.tie:
            assert topic(record.chosen) == topic(record.rejected) != own
            assert (record.chosen.split()[0], record.rejected.split()[0]) == ("good", "bad")
        else:
            assert topic(record.chosen) == own
        kinds[record.tie, record.chosen.split()[0], record.rejected.split()[0]] += 1
    assert kinds[True, "good", "bad"] == pytest.approx(700, abs=80)
    for pair in (("good", "good"), ("good", "bad"), ("bad", "good"), ("bad", "bad")):
        assert kinds[False, *pair] == pytest.approx(175, abs=50)


def test_the_shares_are_kept_and_the_seed_repeats():
    assert augment(GIVEN, 0.0) == []
    assert len(augment(GIVEN, 0.5)) == 35
    assert all(record.tie for record in augment(GIVEN, 1.0, ties=1.0))
    assert not any(record.tie for record in augment(GIVEN, 1.0, ties=0.0))
    assert augment(GIVEN, 1.0, seed=3) == augment(GIVEN, 1.0, seed=3) != augment(GIVEN, 1.0, seed=4)
    with pytest.raises(ValueError, match="share"):
        augment(GIVEN, -1)


def test_equal_sides_are_drawn_again():
    same = [Comparison(prompt=f"p{i}", chosen="yes", rejected="no" if i else "yes") for i in range(4)]
    made = augment(same, 50.0)
    assert len(made) == 200
    assert all(record.chosen != record.rejected for record in made)


@pytest.mark.parametrize(
    "given",
    [
        [],
        [Comparison(chosen="a", rejected="b"), Comparison(chosen="c", rejected="d")],
        [Comparison(prompt="p", chosen="a", rejected="b"), Comparison(prompt="p", chosen="c", rejected="d")],
        [Comparison(prompt=p, chosen="a", rejected="b", rejected_prompt="q") for p in "xy"],
    ],
)
def test_one_prompt_gives_nothing_to_augment_with(given):
    with pytest.raises(EvidenceError, match="at least two prompts"):
        augment(given, 1.0)
    with pytest.raises(EvidenceError, match="one text"):
        augment([Comparison(prompt=p, chosen="a", rejected="a") for p in "xy"], 1.0)


def test_ratings_are_paired_across_prompts():
    rated = [Rating(prompt=f"p{i // 3}", completion=f"c{i}", score=float(i % 4)) for i in range(30)]
    scores = {r.completion: r.score for r in rated}
    made = pair_across(rated, 500, seed=0)
    assert len(made) == 500
    seen = set()
    for record in made:
        assert record.rejected_prompt not in (None, record.prompt)
        assert scores[record.chosen] >= scores[record.rejected]
        assert record.tie == (scores[record.chosen] == scores[record.rejected])
        seen |= {record.chosen, record.rejected}
    assert seen == set(scores)
    labelled = [Outcome(prompt=p, completion=p, label=p == "x") for p in "xy"]
    assert {(r.chosen, r.rejected, r.tie) for r in pair_across(labelled, 5)} == {("x", "y", False)}
    with pytest.raises(EvidenceError, match="two prompts"):
        pair_across(rated[:2], 3)
    with pytest.raises(EvidenceError, match="row 1, column `score`"):
        pair_across([Rating(prompt="p", completion="c", score={"a": 1.0})], 3)
