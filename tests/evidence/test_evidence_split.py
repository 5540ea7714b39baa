"""Splits do not leak: for any data, any share, any seed."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.errors import EvidenceError
from tacit.evidence import (
    Comparison,
    Demonstration,
    Evidence,
    Outcome,
    Problem,
    Ranking,
    Rating,
    Steps,
    split,
)
from tacit.evidence.split import effective_by

texts = st.sampled_from(["", "a", "b", "c", "d", "é", "a\n"])
pairs = st.lists(
    st.builds(Comparison, prompt=texts, chosen=texts, rejected=texts, rejected_prompt=st.none() | texts),
    min_size=1,
    max_size=40,
)


def prompts(evidence: Evidence) -> set[Any]:
    return {p for r in evidence for p in (r.prompt, r.rejected_prompt) if p is not None}  # type: ignore[attr-defined]


def items(evidence: Evidence) -> set[Any]:
    fields = [getattr(record, name, None) for record in evidence for name in ("chosen", "rejected", "completion")]
    listed = [text for record in evidence for text in getattr(record, "completions", [])]
    return {text for text in (*fields, *listed) if text is not None}


@settings(max_examples=200)
@given(pairs, st.sampled_from(["prompt", "item"]), st.floats(0.05, 0.95), st.integers(0, 5))
def test_no_key_is_on_both_sides_and_no_record_is_lost(records: Any, by: Any, share: float, seed: int) -> None:
    whole = Evidence.from_records(records)
    try:
        train, test = split(whole, by=by, test=share, seed=seed)
    except EvidenceError:
        return
    keys = items if by == "item" or len(prompts(whole)) == 1 else prompts
    assert not keys(train) & keys(test)
    assert len(train) + len(test) + train.dropped == len(records)
    assert len(train) > 0
    assert len(test) > 0
    assert train.dropped == test.dropped


def many(n: int, seed: int = 0) -> list[Comparison]:
    rng = random.Random(seed)
    return [Comparison(prompt=f"p{rng.randrange(n)}", chosen="c", rejected="r") for _ in range(2 * n)]


def test_the_share_is_of_prompts_and_exact_where_they_are_few() -> None:
    records = [Comparison(prompt=f"p{i % 10}", chosen="c", rejected="r") for i in range(100)]
    train, test = split(Evidence.from_records(records), test=0.3)
    assert (len(prompts(train)), len(prompts(test))) == (7, 3)
    train, test = split(Evidence.from_records(many(20_000)), test=0.3)
    assert len(prompts(test)) / len(prompts(train) | prompts(test)) == pytest.approx(0.3, abs=0.015)


def test_sides_depend_on_the_prompt_and_the_seed_alone() -> None:
    records = many(3000)
    _, test = split(Evidence.from_records(records), seed=1)
    shuffled = random.Random(5).sample(records, len(records))
    assert prompts(split(Evidence.from_records(shuffled), seed=1)[1]) == prompts(test)
    more = [*records, *(Comparison(prompt=f"new {i}", chosen="c", rejected="r") for i in range(500))]
    assert prompts(test) == {p for p in prompts(split(Evidence.from_records(more), seed=1)[1]) if p.startswith("p")}
    assert prompts(split(Evidence.from_records(records), seed=2)[1]) != prompts(test)


def test_the_same_prompt_as_text_and_as_message_is_one_prompt() -> None:
    records = [
        Comparison(prompt=prompt, chosen="c", rejected="r")
        for i in range(50)
        for prompt in (f"p{i}", [{"role": "user", "content": f"p{i}"}])
    ]
    train, test = split(Evidence.from_records(records))
    sides = [{r.prompt if isinstance(r.prompt, str) else r.prompt[0]["content"] for r in e} for e in (train, test)]  # type: ignore[attr-defined]
    assert not sides[0] & sides[1]
    assert len(train) == 80


def test_promptless_comparisons_are_split_by_item() -> None:
    rng = random.Random(0)
    records = [Comparison(chosen=f"i{rng.randrange(200)}", rejected=f"j{rng.randrange(200)}") for _ in range(4000)]
    train, test = split(Evidence.from_records(records), test=0.2)
    assert not items(train) & items(test)
    assert len(test) / 4000 == pytest.approx(0.04, abs=0.02)
    assert len(train) / 4000 == pytest.approx(0.64, abs=0.05)


@pytest.mark.parametrize("prompt", ["Tell a joke", ""])
@pytest.mark.parametrize("kind", ["comparison", "outcome", "rating", "ranking", "demonstration", "steps"])
def test_under_one_prompt_a_split_by_prompt_is_one_by_item(prompt: str, kind: str) -> None:
    def record(i: int) -> Any:
        one, other = f"joke {i % 40}", f"joke {(i * 7 + 3) % 40}"
        return {
            "comparison": lambda: Comparison(prompt=prompt, chosen=one, rejected=other),
            "outcome": lambda: Outcome(prompt=prompt, completion=one, label=i % 3 == 0),
            "rating": lambda: Rating(prompt=prompt, completion=one, score=i % 5),
            "ranking": lambda: Ranking(prompt=prompt, completions=[one, other], ranks=[1, 2]),
            "demonstration": lambda: Demonstration(prompt=prompt, completion=one),
            "steps": lambda: Steps(prompt=prompt, completions=[one, "so 4"], labels=[True, i % 2 == 0]),
        }[kind]()

    evidence = Evidence.from_records([record(i) for i in range(400)])
    assert effective_by(evidence) == "item"
    train, test = split(evidence, seed=3)
    assert len(train)
    assert len(test)
    assert not items(train) & items(test) - {"so 4"}
    assert len(train) + len(test) + train.dropped == 400
    if kind in ("outcome", "rating", "demonstration", "steps"):
        assert (len(train), len(test)) == (320, 80)
    other = Evidence.from_records(
        [*evidence, type(record(0)).model_validate({**record(0).model_dump(), "prompt": "x"})]
    )
    assert effective_by(other) == "prompt"


def test_by_annotator_and_group() -> None:
    records = [Comparison(prompt="p", chosen="c", rejected="r", annotator=f"w{i % 10}", group=i % 4) for i in range(80)]
    for by, expected in (("annotator", 8), ("group", 3)):
        train, test = split(Evidence.from_records(records), by=by, test=0.2)  # type: ignore[arg-type]
        mine, theirs = ({getattr(r, by) for r in side} for side in (train, test))
        assert not mine & theirs
        assert len(mine) == expected


def test_other_kinds_by_item() -> None:
    ratings = [Rating(prompt="p", completion=f"c{i % 20}", score=i) for i in range(100)]
    train, test = split(Evidence.from_records(ratings), by="item")
    assert (len(train), len(test), train.dropped) == (80, 20, 0)
    rankings = [Ranking(prompt="p", completions=[f"a{i}", f"b{i}"], ranks=[1, 2]) for i in range(100)]
    train, test = split(Evidence.from_records(rankings), by="item")
    assert len(train) + len(test) + train.dropped == 100


def test_what_cannot_be_split_says_why() -> None:
    one = Evidence.from_records([Comparison(prompt="p", chosen="c", rejected="r")] * 5)
    with pytest.raises(EvidenceError, match=r"split by item is empty.*--test 0"):
        split(one)
    with pytest.raises(EvidenceError, match=r"at least two of them \(found 1\).*--test 0"):
        split(Evidence.from_records([Problem(prompt="p", answer="1")] * 5))
    with pytest.raises(EvidenceError, match="row 1, column `annotator`: no annotator to split by"):
        split(one, by="annotator")
    with pytest.raises(
        EvidenceError, match=r"the train side of a split by item is empty \(2 distinct keys, 5 records, 5 across"
    ):
        split(one, by="item")
    with pytest.raises(ValueError, match="between 0 and 1"):
        split(one, test=1.0)
    with pytest.raises(ValueError, match="found 'row'"):
        split(one, by="row")  # type: ignore[arg-type]
