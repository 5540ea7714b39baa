"""Who compared what, and that nobody is tested on what adapted the reward."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from numerics import assert_float32_close
from tacit.errors import EvidenceError, TacitError
from tacit.evidence.records import Comparison, Outcome
from tacit.features import load_encoder
from tacit.rewards.people.crowd import Episodes, compared, padded, read_crowd


def crowd(people=6, each=12, responses=30, seed=0, **columns):
    rng = np.random.default_rng(seed)
    n = people * each
    first = rng.integers(responses, size=n)
    second = (first + 1 + rng.integers(responses - 1, size=n)) % responses
    points = rng.standard_normal((responses, 4)).astype(np.float32)
    return compared(points, first, second, [f"p{i}" for i in np.repeat(np.arange(people), each)], **columns)


def test_a_tie_is_half_a_comparison_in_each_order():
    points = np.array([[0.0, 1.0], [2.0, 0.0], [1.0, 1.0]], np.float32)
    made = compared(points, np.array([0, 1]), np.array([1, 2]), ["a", "b"], tie=np.array([False, True]))
    assert made.rows.tolist() == [[0, 1], [1, 2], [2, 1]]
    assert made.weight.tolist() == [1.0, 0.5, 0.5]
    assert made.person.tolist() == [0, 1, 1]
    assert made.per_person(made.weight).tolist() == [1.0, 1.0]
    raw = made.gaps() * made.standardise.scale
    assert_float32_close(raw, [[-2.0, 1.0], [1.0, -1.0], [-1.0, 1.0]])


def test_padding_keeps_order_and_gives_zero_gaps():
    rows = padded(torch.tensor([5, 6, 7]), torch.tensor([1, 0, 1]), 3)
    assert rows.tolist() == [[6, -1], [5, 7], [-1, -1]]
    made = crowd()
    assert made.gaps(torch.tensor([[0, -1]]))[0, 1].abs().max() == 0


@pytest.mark.parametrize("tied", [False, True])
def test_no_row_that_adapts_is_tested_on_nor_its_mirror_image(tied):
    tie = np.random.default_rng(1).random(72) < 0.3 if tied else None
    made = crowd(responses=7, tie=tie)  # 21 pairs: repeats are certain
    episodes = Episodes.draw(made, 4, seed=3, least=1)
    assert len(episodes.context)
    for context, query in zip(episodes.context.tolist(), episodes.query.tolist(), strict=True):
        used = {frozenset(made.rows[i].tolist()) for i in context if i >= 0}
        tested = {frozenset(made.rows[i].tolist()) for i in query if i >= 0}
        assert len(used) == 4
        assert tested
        assert not used & tested
        assert len({int(made.person[i]) for i in context + query if i >= 0}) == 1


def test_a_leak_is_refused():
    made = compared(np.eye(3, dtype=np.float32), np.array([0, 1]), np.array([1, 0]), ["a", "a"])
    with pytest.raises(TacitError, match="tested on a comparison that adapted the reward"):
        Episodes(torch.tensor([[0]]), torch.tensor([[1]])).check(made)


def test_more_shots_extend_fewer_and_masks_are_kept():
    made = crowd(each=30)
    few, many = (Episodes.draw(made, shots, seed=0, least=1).context for shots in (3, 8))
    assert {*few[0].tolist()} <= {*many[0].tolist()}
    allowed = torch.arange(len(made)) % 2 == 0
    episodes = Episodes.draw(made, 3, seed=0, least=1, contexts=allowed, queries=~allowed)
    assert allowed[episodes.context[episodes.context >= 0]].all()
    assert not allowed[episodes.query[episodes.query >= 0]].any()


def test_too_few_comparisons_of_anybody_are_said():
    with pytest.raises(TacitError, match="nobody has 40 comparisons to adapt on"):
        Episodes.draw(crowd(), 40, seed=0)


def test_reading_keeps_names_and_refuses_other_kinds():
    encoder = load_encoder("hashed")
    rows = [
        Comparison(prompt="q", chosen="a", rejected="b", annotator="ann", group="x"),
        Comparison(prompt="q", chosen="c", rejected="b", annotator="bob"),
    ]
    made = read_crowd(rows, encoder)
    assert (made.people, made.groups) == (("ann", "bob"), ("x",))
    assert made.group.tolist() == [0, -1]
    with pytest.raises(EvidenceError, match="not from outcomes"):
        read_crowd([Outcome(prompt="q", completion="a", label=True)], encoder)
    with pytest.raises(EvidenceError, match="column `annotator`"):
        read_crowd([Comparison(chosen="a", rejected="b")], encoder).require_people(2, "reliability")
