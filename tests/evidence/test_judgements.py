"""What people say of one answer is read with the right kind and sign under any name and value, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tacit.errors import EvidenceError, TacitError
from tacit.evidence import Evidence, check, read
from tacit.evidence.names import CONTEXT, INVERTED, LABELS, SCORES, is_named
from tacit.evidence.values import BAD, GOOD

BINARY: list[tuple[Any, Any]] = [
    *[("up", "down"), ("👍", "👎"), ("👍🏽", "👎🏻"), (1, 0), (1, -1), ("1", "0"), ("+1", "-1"), (1.0, 0.0)],
    *[("yes", "no"), ("Yes", "No"), ("Y", "N"), (True, False), ("True", "False"), ("TRUE", "FALSE"), ("t", "f")],
    *[("positive", "negative"), ("Thumbs up", "Thumbs down"), ("thumbs-up", "thumbs-down"), ("like", "dislike")],
    *[("correct", "incorrect"), ("right", "wrong"), ("accepted", "rejected"), ("pass", "fail"), ("good", "bad")],
    *[("✅", "❌"), ("upvote", "downvote"), ("helpful", "not helpful")],
]
ORDERED: list[list[Any]] = [
    *[[1, 2, 3, 4, 5], ["1", "2", "3", "4", "5"], ["★☆☆☆☆", "★★★☆☆", "★★★★☆", "★★★★★"], ["⭐", "⭐⭐", "⭐⭐⭐"]],
    *[
        ["1/5", "3/5", "5/5"],
        ["1 of 5", "4 of 5"],
        ["1 star", "3 stars", "5 stars"],
        [1.5, 2.0, 4.5],
        list(range(1, 11)),
    ],
]
SCORED: list[list[Any]] = [[-3.5, 0.25, 7.0], ["-0.5", "1e-3", "2.25"], [0, 50, 100], [10, 200, 3000]]
OTHER: list[list[Any]] = [
    *[["ok", "meh"], ["class 1", "class 2"], [0, 1, 2], [-1, 0, 1], [3, 7, 400], ["a long remark", "another one"]],
    *[["1/5", "3/4"], ["up", 0], [True, "perhaps"], ["B2", "A1"], ["up", "down", "sideways"], ["7/10", "★★"]],
]
LAYOUTS = (
    ("prompt", "completion"), ("prompt", "response"), ("question", "answer"), ("instruction", "output"),
    ("messages", ""), ("Prompt", "Response"), ("query", "reply"), ("problem", "solution"),
)  # fmt: skip


def rows_of(layout: tuple[str, str], column: str, values: list[Any]) -> list[dict[str, Any]]:
    asked, answered = layout
    rows = []
    for i, value in enumerate(values):
        texts: dict[str, Any] = {asked: f"ask {i}", answered: f"say {i}"}
        if asked == "messages":
            turns = (("user", f"ask {i}"), ("assistant", f"say {i}"))
            texts = {"messages": [{"role": role, "content": text} for role, text in turns]}
        rows.append({**texts, column: value})
    return rows


def read_or_refuse(rows: list[dict[str, Any]]) -> tuple[str, Evidence | None]:
    try:
        return "", Evidence.from_records(rows)
    except EvidenceError as error:
        return str(error), None


def test_a_thousand_columns_are_read_with_the_right_kind_and_sign_or_refused() -> None:
    rng = np.random.default_rng(0)
    names = [
        *sorted(LABELS),
        *sorted(SCORES),
        *sorted(INVERTED),
        "mood",
        "Thumbs?",
        "User Rating",
        "IsCorrect",
        "opinion",
    ]
    outcomes = {"read": 0, "refused": 0}
    for _ in range(1000):
        layout = LAYOUTS[rng.integers(len(LAYOUTS))]
        name = names[rng.integers(len(names))]
        family = rng.choice(["binary", "ordered", "scored", "other"], p=[0.4, 0.25, 0.15, 0.2])
        if family == "binary":
            good, bad = BINARY[rng.integers(len(BINARY))]
            order = [int(v) for v in rng.permutation([0, 1, 0, 1, 1])]
            values = [good if v else bad for v in order]
        else:
            table = {"ordered": ORDERED, "scored": SCORED, "other": OTHER}[str(family)]
            scale = table[rng.integers(len(table))]
            order = [int(v) for v in rng.permutation([*range(len(scale)), *range(len(scale))])]
            values = [scale[v] for v in order]
        if rng.random() < 0.3:
            blank = rng.choice(np.array(["", None, float("nan"), "n/a"], object))
            values, order = [*values, blank], [*order, -1]
        judged = [v for v in order if v >= 0]
        refusal, evidence = read_or_refuse(rows_of(layout, name, values))
        if evidence is None:
            outcomes["refused"] += 1
            assert f"`{name}`" in refusal
            assert "--ignore" in refusal or "--labels" in refusal
            readable = family == "binary" and name in LABELS | SCORES
            assert not readable, (layout, values, refusal)
            assert not (family in ("ordered", "scored") and name in SCORES), (layout, values, refusal)
            continue
        outcomes["read"] += 1
        assert name not in INVERTED, (name, values)
        records: list[Any] = list(evidence)
        if evidence.kind in ("outcome", "rating"):
            assert len(records) == len(judged), "a blank cell says nothing, and every other one is a record"
        if evidence.kind == "outcome":
            assert family == "binary", (layout, name, values)
            assert [r.label for r in records] == [bool(v) for v in judged], (layout, name, values)
        else:
            if evidence.kind in ("demonstration", "problem"):
                assert not is_named(name), "what judges is never dropped"
                assert family in ("scored", "other"), (layout, name, values)
                continue
            assert evidence.kind == "rating", (layout, name, values, evidence.kind)
            scores = [r.score for r in records]
            assert all(
                (a < b) == (c < d)
                for a, c in zip(scores, judged, strict=True)
                for b, d in zip(scores, judged, strict=True)
            )
    assert min(outcomes.values()) > 200, outcomes


@pytest.mark.parametrize("name", ["thumbs", "rating", "label", "score"])
def test_judgements_of_a_second_person_are_not_left_out_without_a_word(name: str) -> None:
    rows = [{"prompt": f"q{i}", "response": "x", name: value, f"{name}_2": 1 - value} for i, value in enumerate((0, 1))]
    with pytest.raises(EvidenceError, match=rf"`{name}`, `{name}_2` all judge the answer.*--ignore {name}_2"):
        Evidence.from_records(rows)
    for row in rows:
        row[f"{name}_2"] = "seen"
    assert len(list(Evidence.from_records(rows))) == 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_column_of_any_name_whose_values_all_judge_stops(layout: tuple[str, str]) -> None:
    for values in (["up", "down"], [0, 1, 1], [1, -1], ["★★", "★★★"], [4, 1, 5], ["👍", "👎", None]):
        with pytest.raises(EvidenceError, match=r"column `mood`.*--columns (label|score)=mood.*--ignore mood"):
            Evidence.from_records(rows_of(layout, "mood", values))
    for values in (
        ["open_qa", "closed_qa"],
        ["up", "up"],
        ["Level 1", "Level 5"],
        ["en", "de"],
        [17, 4000],
        [3, 400],
        [0.5, 2],
    ):
        assert Evidence.from_records(rows_of(layout, "mood", values)).kind in ("demonstration", "problem")


def test_columns_that_describe_a_row_stay_silent() -> None:
    for name, values in {
        "level": [1, 2, 3],
        "type": ["a", "b"],
        "split": [0, 1],
        "id": [1, 2, 3],
        "turns": [1, 2],
    }.items():
        assert name in CONTEXT
        evidence = Evidence.from_records(rows_of(("prompt", "completion"), name, values))
        assert evidence.kind == "demonstration"
        assert evidence.columns.unused == [name]


def test_a_flag_names_the_column_and_another_the_meanings(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    rows = rows_of(("prompt", "response"), "mood", ["ok", "meh", "dunno", "ok"])
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    labelled = read(file, columns={"label": "mood"}, labels=["ok=good", "meh=bad,dunno=blank"])
    assert [record.label for record in labelled] == [True, False, True]  # type: ignore[attr-defined]
    rated = read(file, columns={"score": "mood"}, labels={"ok": 3, "meh": 1, "dunno": 2})
    assert [record.score for record in rated] == [3.0, 1.0, 2.0, 3.0]  # type: ignore[attr-defined]
    with pytest.raises(EvidenceError, match=r"row 3, column `mood`.*dunno.*--labels ok=good,meh=bad,dunno=\.\.\. "):
        read(file, columns={"label": "mood"}, labels=["ok=good", "meh=bad"])
    with pytest.raises(TacitError, match="give VALUE=MEANING, where the meaning is good, bad, blank or a number"):
        read(file, columns={"label": "mood"}, labels=["ok=fine"])
    with pytest.raises(EvidenceError, match="mixes good and bad with numbers"):
        read(file, columns={"label": "mood"}, labels=["ok=good", "meh=1", "dunno=blank"])


def test_a_flag_that_has_no_effect_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"prompt": "p", "chosen": "c", "rejected": "r", "mood": "ok"}) + "\n")
    with pytest.raises(EvidenceError, match=r"--columns label=mood has no effect: .*comparison"):
        read(file, columns={"label": "mood"})
    with pytest.raises(EvidenceError, match="--labels has no effect"):
        read(file, labels=["ok=good"])
    with pytest.raises(EvidenceError, match="--verdict has no effect"):
        read(file, verdict=["0=first", "1=second"])
    with pytest.raises(EvidenceError, match="no column `moood` to ignore"):
        read(file, ignore=["moood"])


def test_zero_beside_plus_and_minus_one_is_refused_with_both_readings() -> None:
    with pytest.raises(EvidenceError, match=r"--labels 1=good,-1=bad,0=blank .*--labels 1=1,0=0,-1=-1"):
        Evidence.from_records(rows_of(("prompt", "completion"), "thumbs", [1, 0, -1]))


def test_two_columns_that_judge_are_refused_and_attributes_are_one_rating() -> None:
    rows = [{**row, "stars": 3} for row in rows_of(("prompt", "response"), "thumbs", ["up", "down"])]
    with pytest.raises(EvidenceError, match=r"`thumbs`, `stars` all judge the answer.*--ignore stars"):
        Evidence.from_records(rows)
    (record,) = Evidence.from_records([{"prompt": "p", "response": "r", "clarity": 4, "safety": "2"}])
    assert record.score == {"clarity": 4.0, "safety": 2.0}  # type: ignore[attr-defined]
    labelled = Evidence.from_records([{**row, "label": True} for row in rows])
    assert labelled.kind == "outcome"
    assert set(labelled.columns.unused) == {"thumbs", "stars"}


def test_good_examples_with_a_judgement_are_no_demonstrations(tmp_path: Path) -> None:
    rows = rows_of(("prompt", "response"), "thumbs", ["up", "down"])
    with pytest.raises(EvidenceError, match=r"`thumbs` judges these answers.*--ignore thumbs"):
        Evidence.from_records(rows, kind="demonstration")
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept = read(file, ignore=["thumbs"])
    assert kept.kind == "demonstration"
    assert [record.thumbs for record in kept] == ["up", "down"]  # type: ignore[attr-defined]


def test_a_rejected_answer_beside_a_good_one_is_never_dropped() -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "x"}]
    for row in ({"messages": turns, "rejected_response": "y"}, {"prompt": "q", "response": "x", "rejected": "y"}):
        (record,) = Evidence.from_records([row])
        assert (record.chosen, record.rejected) in (("x", "y"), (turns[1:], "y"))  # type: ignore[attr-defined]


def test_several_answers_with_scores_are_ratings() -> None:
    row = {"instruction": "q", "generations": ["x", "y", "z"], "ratings": [5, None, 2]}
    assert [(r.completion, r.score) for r in Evidence.from_records([row])] == [("x", 5.0), ("z", 2.0)]  # type: ignore[attr-defined]
    (ranking,) = Evidence.from_records([row], kind="ranking")
    assert (ranking.completions, ranking.ranks) == (["x", "z"], [1, 2])  # type: ignore[attr-defined]


def test_the_tables_do_not_contradict_each_other() -> None:
    assert not GOOD & BAD
    assert not LABELS & SCORES
    assert not (LABELS | SCORES) & INVERTED
    assert not (LABELS | SCORES | INVERTED) & CONTEXT
    assert is_named("Thumbs up?")
    assert not is_named("category")


def test_check_says_which_column_became_what() -> None:
    rows = [
        {"question": "q", "answer": "a", "Thumb": "up", "city": "Oslo"},
        {"question": "p", "answer": "b", "Thumb": "down", "city": "Bern"},
    ]
    report = check(Evidence.from_records(rows))
    assert report.columns == {
        "read": {"question": "prompt", "answer": "completion", "Thumb": "label"},
        "unused": ["city"],
    }
