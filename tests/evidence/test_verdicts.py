"""A verdict between two answers names the right side in every form, or is refused with the flag that explains it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tacit.errors import EvidenceError
from tacit.evidence import Evidence, read

PAIRS = (
    ("response_a", "response_b"), ("Answer A", "Answer B"), ("output_1", "output_2"), ("response1", "response2"),
    ("left", "right"), ("first", "second"), ("a", "b"), ("answer_0", "answer_1"), ("left_reply", "right_reply"),
    ("responseA", "responseB"), ("completion_one", "completion_two"),
)  # fmt: skip
COLUMNS = ("winner", "preference", "Vote", "choice", "preferred", "Which is better?", "verdict", "Best")
FIRST, SECOND, TIE, NOTHING = 1.0, 0.0, 0.5, None
WORDS: list[tuple[str, float | None]] = [
    *[("A", FIRST), ("b", SECOND), ("left", FIRST), ("Right", SECOND), ("first", FIRST), ("SECOND", SECOND)],
    *[("Response A", FIRST), ("answer b", SECOND), ("Model A", FIRST), ("assistant_b", SECOND), ("[[A]]", FIRST)],
    *[("A is better", FIRST), ("Response B is slightly better than Response A", SECOND), ("A wins", FIRST)],
    *[("I prefer answer B", SECOND), ("A > B", FIRST), ("A<<B", SECOND), ("B>A", SECOND), ("A=B", TIE)],
    *[("Tie", TIE), ("both bad", TIE), ("tie (bothbad)", TIE), ("Equal", TIE), ("C", TIE), ("neither", TIE)],
    *[("", NOTHING), ("n/a", NOTHING), ("skipped", NOTHING)],
]
UNREADABLE = ("D", "response c", "x", "A is worse", "not A", "A or B", "maybe A", "none", "unsure", "AB", "yes")


def one(pair: tuple[str, str], column: str, value: Any, **more: Any) -> list[Any]:
    row = {"prompt": "q", pair[0]: "one", pair[1]: "two", column: value, **more}
    return list(Evidence.from_records([row, {**row, column: "A", "prompt": "other"}]))[:-1]


def share(records: list[Any]) -> float | None:
    if not records:
        return None
    return 0.5 if records[0].tie else float(records[0].chosen == "one")


def test_words_letters_and_names_of_columns_in_every_layout() -> None:
    for pair in PAIRS:
        for column in COLUMNS:
            for value, expected in WORDS:
                assert share(one(pair, column, value)) == expected, (pair, column, value)
        for value, expected in ((pair[0], FIRST), (pair[1], SECOND), (pair[1].upper().replace("_", " "), SECOND)):
            if "0" not in pair[0] or value in pair:
                assert share(one(pair, "winner", value)) == expected, (pair, value)


@pytest.mark.parametrize("value", UNREADABLE)
def test_what_names_no_side_is_refused(value: str) -> None:
    with pytest.raises(EvidenceError, match=r"column `winner`: the verdict names no side.*--verdict"):
        one(("response_a", "response_b"), "winner", value)


def test_models_and_answers_name_a_side() -> None:
    models = {"model_a": "gpt", "model_b": "claude"}
    assert share(one(("response_a", "response_b"), "winner", "Claude", **models)) == SECOND
    assert share(one(("response_a", "response_b"), "winner", "model_a", **models)) == FIRST
    assert share(one(("response_a", "response_b"), "winner", "two")) == SECOND
    with pytest.raises(EvidenceError, match="names a model that gave both answers"):
        one(("response_a", "response_b"), "winner", "gpt", model_a="gpt", model_b="gpt")


def test_numbers_name_a_side_only_by_a_known_layout_or_a_flag(tmp_path: Path) -> None:
    """A thousand tables: numbers are refused with both readings, and each reading of the refusal gives its own sign."""
    rng = np.random.default_rng(1)
    scales: list[list[Any]] = [
        [0, 1],
        [1, 2],
        [-1, 1],
        [-1, 0, 1],
        [1, 2, 3],
        [-3, -1, 2, 3],
        [1, 7],
        [1, 2, 3, 4, 5],
        [False, True],
    ]
    for trial in range(1000):
        pair, column = PAIRS[rng.integers(len(PAIRS))], COLUMNS[rng.integers(len(COLUMNS))]
        scale = scales[rng.integers(len(scales))]
        values = [scale[i] for i in rng.permutation([*range(len(scale)), *range(len(scale))])]
        if rng.random() < 0.5:
            values = [str(value) for value in values]
        rows = [{"prompt": f"q{i}", pair[0]: "one", pair[1]: "two", column: value} for i, value in enumerate(values)]
        known = pair == ("output_1", "output_2") and column == "preference" and scale == [1, 2]
        if known:
            assert [share([r]) for r in Evidence.from_records(rows)] == [2.0 - float(value) for value in values]
            continue
        with pytest.raises(
            EvidenceError, match=rf"column `{column.replace('?', '.')}`.*do not say which answer"
        ) as caught:
            Evidence.from_records(rows)
        if trial % 20:
            continue
        flags = [part.split()[0] for part in re.split(r"--verdict[ =]", str(caught.value))[1:]]
        assert len(flags) == 2, "both readings"
        file = tmp_path / f"{trial}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        first, second = ([share([r]) for r in read(file, verdict=[flag])] for flag in flags)
        assert [None if a is None else 1 - a for a in first] == second
        lowest = str(values).replace("'", "")
        assert (
            first[
                values.index(
                    min(values, key=lambda v: float(v) if str(v).lstrip("-").isdigit() else v == "True" or v is True)
                )
            ]
            == FIRST
        ), lowest


def test_a_mixture_of_no_second_and_draws_is_no_alpaca_eval() -> None:
    rows = [{"instruction": "q", "output_1": "one", "output_2": "two", "preference": value} for value in (0, 1, 0)]
    with pytest.raises(EvidenceError, match="--verdict 0=first,1=second"):
        Evidence.from_records(rows)
    rows[2]["preference"] = 1.7
    assert [(r.chosen, r.tie) for r in Evidence.from_records(rows)] == [("one", True), ("one", False), ("two", False)]  # type: ignore[attr-defined]


def test_all_values_are_seen_and_not_only_the_first_hundred() -> None:
    row = {"prompt": "q", "response_a": "one", "response_b": "two"}
    rows = [{**row, "winner": "A"}] * 500 + [{**row, "winner": 1}]
    with pytest.raises(EvidenceError, match=r"row 501, column `winner`: numbers in a verdict \(a, 1\)"):
        Evidence.from_records(rows)


def test_a_flag_explains_words_as_well_and_must_explain_something(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("prompt,gpt answer,claude answer,pick\nq,one,two,mine\np,one,two,theirs\nr,one,two,dunno\n")
    names = {"response_a": "gpt answer", "response_b": "claude answer"}
    evidence = read(file, columns=names, verdict=["mine=first", "theirs=second", "dunno=tie"])
    assert [share([record]) for record in evidence] == [FIRST, SECOND, TIE]
    with pytest.raises(EvidenceError, match=r"--verdict explains 0, and no row has such a verdict.*mine, theirs"):
        read(file, columns=names, verdict=["0=first"])


def test_two_verdicts_and_three_answers_are_refused(tmp_path: Path) -> None:
    row = {"prompt": "q", "response_a": "one", "response_b": "two", "winner": "A", "choice": "B"}
    with pytest.raises(EvidenceError, match=r"`winner`, `choice` all say which answer is better.*--ignore"):
        Evidence.from_records([row])
    row["winner_2"] = row.pop("choice")
    file = tmp_path / "raters.jsonl"
    file.write_text("".join(json.dumps({**row, "winner_2": side}) + "\n" for side in "BA"))
    with pytest.raises(EvidenceError, match=r"`winner`, `winner_2` all say .*a row of its own.*--ignore winner_2"):
        read(file)
    assert share(list(read(file, ignore=["winner_2"]))) == FIRST
    assert share(list(Evidence.from_records([{**row, "winner_2": "long ago"}]))) == FIRST
    three = {"prompt": "q", "response_a": "one", "response_b": "two", "response_c": "three", "winner": "A"}
    with pytest.raises(EvidenceError, match="no layout that is known"):
        Evidence.from_records([three])


@pytest.mark.parametrize(
    "rows", [[{"winner": 17, "loser": 4}], [{"chosen": "17", "rejected": "4"}, {"chosen": "3", "rejected": "9"}]]
)
def test_ids_without_their_texts_are_refused(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match=r"look like ids of texts.*--items FILE"):
        Evidence.from_records(rows)
    asked = [{**row, "prompt": f"What is {i} plus 13?"} for i, row in enumerate(rows)]
    if len(rows) > 1:
        assert [r.chosen for r in Evidence.from_records(asked)] == ["17", "3"]  # type: ignore[attr-defined]
    file, items = tmp_path / "votes.jsonl", tmp_path / "jokes.csv"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    items.write_text("joke,number\n" + "".join(f"text {i},{i}.0\n" for i in range(20)))
    evidence = read(file, items=items, item_columns={"id": "number", "text": "joke"})
    assert next(iter(evidence)).chosen == "text 17"  # type: ignore[attr-defined]
    with pytest.raises(EvidenceError, match=r"needs the columns `id` and `text`; name others with --item-columns"):
        read(file, items=items)
