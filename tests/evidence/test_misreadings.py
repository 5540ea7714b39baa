"""Files whose owner may mean something else than what stands there at first sight: read as meant, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tacit.conversation import prompt_text
from tacit.errors import EvidenceError
from tacit.evidence import Evidence, read
from tacit.evidence.names import MEASURES

USER = {"role": "user", "content": "Name a colour."}
PAIR = {"response_a": "red", "response_b": "blue"}
ONE = {"prompt": "q", "completion": "red"}


def records(*rows: dict[str, Any], **options: Any) -> list[Any]:
    return list(Evidence.from_records(list(rows), **options))


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


# --- which of two answers ---


@pytest.mark.parametrize(
    "row",
    [
        {"response_a": "B", "response_b": "A", "winner": "A"},
        {**PAIR, "model_a": "B", "model_b": "A", "winner": "B"},
        {"response_a": "Tie", "response_b": "Win", "winner": "tie"},
        {"response_1": "second", "response_2": "first", "winner": "first"},
    ],
)
def test_a_letter_that_is_an_answer_or_a_model_too_is_refused(row: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match=r"can be read in two ways.*--verdict"):
        records({"prompt": "q", **row})
    (record,) = read(written(tmp_path, {"prompt": "q", **row}), verdict=[f"{row['winner']}=second"])
    assert record.chosen == list(row.values())[1]  # type: ignore[attr-defined]


def test_a_letter_that_means_the_same_as_answer_and_as_letter_is_read() -> None:
    (record,) = records({"prompt": "q", "response_a": "A", "response_b": "B", "winner": "B"})
    assert (record.chosen, record.rejected) == ("B", "A")


@pytest.mark.parametrize("word", ["one", "Response 1", "option two", "2"])
def test_ordinal_words_are_ambiguous_where_columns_count_from_zero(word: str) -> None:
    with pytest.raises(EvidenceError, match="--verdict"):
        records({"prompt": "q", "answer_0": "x", "answer_1": "y", "winner": word})
    (record,) = records({"prompt": "q", "answer_0": "x", "answer_1": "y", "winner": "answer_1"})
    assert record.chosen == "y"


@pytest.mark.parametrize("third", ["response_0", "response_3"])
def test_three_numbered_answers_are_not_two(third: str) -> None:
    row = {"prompt": "q", "response_1": "x", "response_2": "y", third: "z", "winner": "response_1"}
    with pytest.raises(EvidenceError, match="no layout that is known"):
        records(row)


@pytest.mark.parametrize("names", [("response_left", "response_right"), ("left_answer", "right_answer")])
def test_columns_left_and_right_beside_answers_are_refused(names: tuple[str, str], tmp_path: Path) -> None:
    row = {"prompt": "q", "left": "gpt", "right": "claude", names[0]: "x", names[1]: "y", "winner": "left"}
    with pytest.raises(EvidenceError, match=r"`left` and `right` may be the two answers.*--ignore left"):
        records(row)
    (record,) = read(written(tmp_path, row), ignore=["left", "right"])
    assert record.chosen == "x"  # type: ignore[attr-defined]


def test_ids_in_place_of_two_answers_are_refused() -> None:
    rows = [{"item_a": 17, "item_b": 4, "winner": "A"}, {"item_a": 3, "item_b": 4, "winner": "B"}]
    with pytest.raises(EvidenceError, match=r"look like ids of texts.*--items FILE"):
        records(*rows)


@pytest.mark.parametrize("names", [("B", "A"), ("response_b", "response_a"), ("Response B", "Response A")])
def test_names_of_answers_are_no_answers(names: tuple[str, str], tmp_path: Path) -> None:
    row = {"prompt": "q", **PAIR, "chosen": names[0], "rejected": names[1]}
    with pytest.raises(EvidenceError, match=r"names an answer and is none.*--columns winner=chosen"):
        records(row)
    (record,) = read(written(tmp_path, row), columns={"winner": "chosen"})
    assert (record.chosen, record.rejected) == ("blue", "red")  # type: ignore[attr-defined]
    with pytest.raises(EvidenceError, match="names an answer"):
        records(*({"prompt": f"q{i}", "winner": "A", "loser": "B"} for i in range(3)))


def test_letters_that_answer_multiple_choice_questions_are_answers() -> None:
    (first, _) = records(
        {"prompt": "q: A) 1, B) 2", "chosen": "A", "rejected": "B"},
        {"prompt": "p: A) 3, B) 4", "chosen": "B", "rejected": "A"},
    )
    assert (first.chosen, first.rejected) == ("A", "B")


def test_a_verdict_for_the_rejected_answer_is_refused(tmp_path: Path) -> None:
    row = {"prompt": "q", "chosen": "x", "rejected": "y", "preference": "rejected"}
    with pytest.raises(EvidenceError, match="says that the rejected answer is the better one"):
        records(row)
    columns, verdict = {"response_a": "chosen", "response_b": "rejected"}, ["chosen=first", "rejected=second"]
    (record,) = read(written(tmp_path, row), columns=columns, verdict=verdict)
    assert record.chosen == "y"  # type: ignore[attr-defined]


def test_pairs_of_columns_that_belong_together_are_the_answers() -> None:
    (record,) = records({"prompt": "q", "winner": "model_a", "preferred_response": "x", "rejected_response": "y"})
    assert (record.chosen, record.rejected) == ("x", "y")
    with pytest.raises(EvidenceError, match=r"may each be `chosen`.*--ignore winner"):
        records({"prompt": "q", "winner": "m", "loser": "n", "chosen_response": "x", "rejected_response": "y"})


def test_columns_can_be_swapped(tmp_path: Path) -> None:
    file = written(tmp_path, {"prompt": "q", "chosen": "x", "rejected": "y"})
    (record,) = read(file, columns={"chosen": "rejected", "rejected": "chosen"})
    assert (record.chosen, record.rejected) == ("y", "x")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("names", "shown"),
    [(("left", "right"), True), (("left_reply", "right_reply"), True), (("output_1", "output_2"), None)],
)
def test_where_an_answer_stood_is_noted_where_the_columns_say_so(names: tuple[str, str], shown: bool | None) -> None:
    rows = [{"prompt": "q", names[0]: "x", names[1]: "y", "winner": name} for name in names]
    assert [r.chosen_first for r in records(*rows)] == [shown, None if shown is None else not shown]


# --- what judges one answer ---


def test_labels_change_the_meaning_of_values_that_need_none(tmp_path: Path) -> None:
    """True and false, and numbers, took the fast path of records as they stand: the flag had no effect."""
    file = written(tmp_path, {**ONE, "label": True}, {**ONE, "label": False})
    assert [r.label for r in read(file, labels=["true=bad", "false=good"])] == [False, True]  # type: ignore[attr-defined]
    file = written(tmp_path, *({**ONE, "score": score} for score in (1, 2, 3)))
    assert [r.score for r in read(file, labels=["1=3", "3=blank"])] == [3.0, 2.0]  # type: ignore[attr-defined]


def test_labels_that_explain_no_value_are_refused(tmp_path: Path) -> None:
    file = written(tmp_path, {**ONE, "label": "up"}, {**ONE, "label": "down"})
    with pytest.raises(EvidenceError, match=r"--labels explains upp, and no row has such a value.*down, up"):
        read(file, labels=["upp=good"])
    assert len(read(file, labels=["up=good", "sideways=bad"])) == 2
    assert len(read(file, labels=["=bad"])) == 2
    named = written(tmp_path, *({**ONE, "score": {"helpful": i, "brief": -i}} for i in range(2)))
    with pytest.raises(EvidenceError, match=r"column `score`: --labels explains ok.*--columns label=score\.NAME"):
        read(named, labels=["ok=good"])
    assert [r.label for r in read(named, labels=["0=bad", "1=good"], columns={"label": "score.helpful"})] == [0, 1]


def test_numbers_for_some_values_of_a_label_make_the_others_a_scale(tmp_path: Path) -> None:
    evidence = read(written(tmp_path, *({**ONE, "label": label} for label in (0, 50, 99))), labels=["99=100"])
    assert (evidence.kind, [r.score for r in evidence]) == ("rating", [0, 50, 100])  # type: ignore[attr-defined]


def test_values_with_commas_and_equals_signs(tmp_path: Path) -> None:
    file = written(tmp_path, *({**ONE, "label": value} for value in ("ok, fine", "a=b", "down", "")))
    evidence = read(file, labels={"ok, fine": "good", "a=b": "bad", "": "bad"})
    assert [r.label for r in evidence] == [True, False, False, False]  # type: ignore[attr-defined]
    evidence = read(written(tmp_path, {**ONE, "label": "a=b"}, {**ONE, "label": "up"}), labels=["a=b=bad"])
    assert [r.label for r in evidence] == [False, True]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        *[("feedback", ["up", "-", "down"]), ("thumbs", ["👍", "-"]), ("liked", ["-", "-"]), ("label", ["good", "n"])],
        *[("stars", ["☆", "☆☆", "☆☆☆"]), ("stars", ["★★", "☆☆☆"]), ("sentiment", ["positive", "negative"])],
        *[("grade", [1, 2, 5]), ("grade", ["A", "F"]), ("rating", ["80%", "50%"]), ("rating", ["1 (worst)", "5"])],
        *[("score", ["1,5", "2,5"]), ("thumbs_up", [12, 30]), ("toxicity", [0.2, 0.9])],
        *[(name, [0.9, 0.25]) for name in ("perplexity", "toxicity_score", "error_rate", "Loss", "quality_score")],
        *[(name, [120, 3]) for name in ("upvotes", "num_likes", "dislikes", "human_feedback_score", "avgRating")],
    ],
)
def test_judgements_that_are_not_certain_are_refused(name: str, values: list[Any], tmp_path: Path) -> None:
    rows = [{**ONE, name: value} for value in values]
    with pytest.raises(EvidenceError, match=rf"column `{name}`.*--(labels|ignore)"):
        records(*rows)
    assert read(written(tmp_path, *rows), ignore=[name]).kind == "demonstration"


@pytest.mark.parametrize("values", [["+", "-"], ["y", "n"], ["Y", "no"], ["t", "false"]])
def test_signs_and_letters_beside_their_opposite_are_read(values: list[str]) -> None:
    assert [r.label for r in records(*({**ONE, "label": value} for value in values))] == [True, False]


def test_stars_out_of_one_number_are_read() -> None:
    assert [r.score for r in records(*({**ONE, "stars": s} for s in ("☆☆☆", "★☆☆", "★★☆")))] == [0, 1, 2]


@pytest.mark.parametrize("name", ["quality_score", "num_likes"])
def test_a_column_that_measures_is_read_by_its_flag_and_one_of_words_is_context(name: str, tmp_path: Path) -> None:
    assert set(name.split("_")) & MEASURES
    file = written(tmp_path, {**ONE, name: 0.5}, {**ONE, name: 0.25})
    assert [r.score for r in read(file, columns={"score": name})] == [0.5, 0.25]  # type: ignore[attr-defined]
    assert Evidence.from_records([{**ONE, name: "low"}, {**ONE, name: 3}]).kind == "demonstration"
    many = [{**ONE, name: i / 7} for i in range(1500)]
    with pytest.raises(EvidenceError, match=f"column `{name}`"):
        records(*many)
    assert Evidence.from_records([*many, {**ONE, name: "none"}]).kind == "demonstration"


def test_a_blank_label_beside_a_score_judges_nothing() -> None:
    rows = [{**ONE, "label": None, "score": 0.5}, {**ONE, "label": None, "score": 0.25}]
    assert [r.score for r in records(*rows)] == [0.5, 0.25]
    late = Evidence.from_records([rows[0]] * 150 + [{**ONE, "label": False, "score": 0.1}])
    assert (late.kind, [r.label for r in late]) == ("outcome", [False])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "names", [("output", "prediction"), ("solution", "generation"), ("response", "model_response")]
)
def test_two_columns_that_may_be_the_answer_are_refused(names: tuple[str, str], tmp_path: Path) -> None:
    row = {"question": "q", names[0]: "gold", names[1]: "guess", "correct": False}
    with pytest.raises(EvidenceError, match=rf"`{names[0]}`, `{names[1]}` may each be `completion`.*--columns"):
        records(row)
    (record,) = read(written(tmp_path, row), columns={"completion": names[1]})
    assert (record.completion, record.label) == ("guess", False)  # type: ignore[attr-defined]
    (record,) = records({**row, names[0]: None})
    assert record.completion == "guess"


def test_a_models_answer_is_no_reference(tmp_path: Path) -> None:
    row = {"question": "q", "answer": "a guess", "ground_truth": "gold"}
    with pytest.raises(EvidenceError, match=r"`answer`, `ground_truth` may each be the reference.*--ignore answer"):
        records(row)
    (record,) = read(written(tmp_path, row), ignore=["answer"])
    assert record.answer == "gold"  # type: ignore[attr-defined]
    assert records({**row, "ground_truth": "a guess"})[0].answer == "a guess"


@pytest.mark.parametrize("name", ["responses", "generations", "candidates"])
def test_labels_of_several_answers_are_outcomes_and_no_steps(name: str) -> None:
    evidence = Evidence.from_records([{"prompt": "q", name: ["x", "y"], "labels": [True, False]}])
    assert [(r.completion, r.label) for r in evidence] == [("x", True), ("y", False)]  # type: ignore[attr-defined]
    evidence = Evidence.from_records([{"question": "q", "answer": "42", name: ["x", "y"], "is_correct": [0, 1]}])
    assert [(r.completion, r.label) for r in evidence] == [("x", False), ("y", True)]  # type: ignore[attr-defined]


def test_a_list_of_judgements_beside_completions_may_be_steps(tmp_path: Path) -> None:
    row = {"question": "q", "answer": "42", "completions": ["x", "y"], "correct": [True, False]}
    with pytest.raises(EvidenceError, match=r"each step of one.*--kind outcome.*--columns labels=correct"):
        records(row)
    assert [r.label for r in records(row, kind="outcome")] == [True, False]
    assert read(written(tmp_path, row), columns={"labels": "correct"}).kind == "steps"


def test_ranks_of_scores_that_are_texts() -> None:
    (ranking,) = records({"prompt": "q", "completions": ["x", "y"], "scores": ["3", "10"]}, kind="ranking")
    assert ranking.ranks == [2, 1]
    with pytest.raises(EvidenceError, match="a number for each answer"):
        records({"prompt": "q", "completions": ["x", "y"], "scores": ["3", "high"]}, kind="ranking")


def test_good_and_bad_for_some_numbers_of_a_scale_are_refused(tmp_path: Path) -> None:
    file = written(tmp_path, *({**ONE, "score": score} for score in (1, 2, 3)))
    with pytest.raises(EvidenceError, match=r"row 2, column `score`.*--labels 2=blank"):
        read(file, labels=["1=bad", "3=good"])
    evidence = read(file, labels=["1=bad", "2=blank", "3=good"])
    assert (evidence.kind, [r.label for r in evidence]) == ("outcome", [False, True])  # type: ignore[attr-defined]


@pytest.mark.parametrize("values", [("yes", "no"), ("True", "False"), ("1", "0")])
def test_a_column_of_words_that_the_answers_are_too_may_be_the_right_answers(
    values: tuple[str, str], tmp_path: Path
) -> None:
    rows = [{"question": f"q{i}", "response": values[i % 2], "label": values[i // 2]} for i in range(4)]
    good, bad = (value.lower() for value in values)
    with pytest.raises(EvidenceError, match=rf"may hold the right answers.*--labels {good}=good.*--ignore label"):
        records(*rows)
    evidence = read(written(tmp_path, *rows), labels=[f"{good}=good", f"{bad}=bad"])
    assert [r.label for r in evidence] == [True, True, False, False]  # type: ignore[attr-defined]
    assert [r.label for r in records(*({**row, "label": bool(i)} for i, row in enumerate(rows)))] == [False] + [
        True
    ] * 3


def test_a_column_of_ties_beside_a_verdict() -> None:
    row = {"prompt": "q", **PAIR}
    assert records({**row, "winner": None, "tie": True}, {**row, "winner": "B", "tie": None})[0].tie
    assert not records({**row, "winner": "A", "tie": False})[0].tie
    with pytest.raises(EvidenceError, match="column `tie`: the row is a tie by this column, and not by the verdict"):
        records({**row, "winner": "A", "tie": True})


# --- columns that not every row has, and that come twice ---


@pytest.mark.parametrize(
    "tail",
    [
        {"chosen": "x", "rejected": "y"},
        {**PAIR, "winner": "A"},
        {"completion": "x"},
        {"completion": "x", "label": True},
        {"completion": "x", "thumbs": "up"},
        {"answer": "x"},
        {"completions": ["x", "y"], "ranks": [1, 2]},
    ],
)
@pytest.mark.parametrize("beside", ["system", "input", "context", "history"])
def test_a_part_of_the_prompt_that_the_first_row_lacks(tail: dict[str, Any], beside: str) -> None:
    row = {"prompt": "q", **tail}
    more = {**row, beside: [["Speak", "Yes"]] if beside == "history" else "Speak French."}
    assert ["Speak" in prompt_text(r.prompt) for r in records(row, more, row)] == [False, True, False]
    with pytest.raises(EvidenceError, match=rf"row 301, column `{beside}`: the column is in none of the first rows"):
        records(*[row] * 300, more)


@pytest.mark.parametrize("name", ["label", "thumbs", "rating", "toxicity", "rejected"])
def test_a_judgement_that_the_first_rows_lack_is_never_dropped(name: str) -> None:
    late = {**ONE, name: "down"}
    with pytest.raises(EvidenceError, match=f"`{name}`"):
        records(ONE, late)
    with pytest.raises(EvidenceError, match=f"row 151, column `{name}`: the column is in none of the first rows"):
        records(*[ONE] * 150, late)
    assert len(records(*[ONE] * 150, {**ONE, "remark": "down"})) == 151, "other columns are kept"


def test_rows_to_score_may_be_judged_late(tmp_path: Path) -> None:
    rows = [ONE] * 150 + [{**ONE, "label": False}]
    assert len(read(written(tmp_path, *rows), judged=False)) == 151
    with pytest.raises(EvidenceError, match="row 151, column `system`"):
        list(read(written(tmp_path, *rows[:150], {**ONE, "system": "s"}), judged=False))


def test_a_person_that_the_first_rows_lack_under_another_name() -> None:
    row = {"prompt": "q", "chosen": "x", "rejected": "y"}
    assert [r.annotator for r in records(row, {**row, "worker_id": 3})] == [None, "3"]
    with pytest.raises(EvidenceError, match="row 151, column `worker_id`"):
        records(*[row] * 150, {**row, "worker_id": 3})
    assert records(*[row] * 150, {**row, "annotator": 3})[-1].annotator == "3"


@pytest.mark.parametrize(
    "row",
    [
        {**ONE, "Prompt": "another"},
        {**ONE, "Label": True, "label": False},
        {"prompt": "q", "Response": "x", "response": "y"},
        {"prompt": "q", "chosen": "x", "rejected": "y", "Chosen": "z"},
        {"prompt": "q", **PAIR, "winner": "A", "Winner": "B"},
    ],
)
def test_columns_that_differ_in_case_alone_are_refused(row: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match=r"differ in case and punctuation alone.*--ignore") as caught:
        records(row)
    name = str(caught.value).split("--ignore ")[1].split(",")[0]
    assert len(read(written(tmp_path, row), ignore=[name])) == 1


def test_a_flag_names_one_of_two_columns_that_differ_in_case(tmp_path: Path) -> None:
    file = written(tmp_path, {"Prompt": "an id", "text": "q", "completion": "x", "label": True})
    (record,) = read(file, columns={"prompt": "text"})
    assert record.prompt == "q"  # type: ignore[attr-defined]
    assert len(records({**ONE, "Note": "a", "note": "b"})) == 1, "names that are not read may differ as they like"


# --- prompts ---


@pytest.mark.parametrize(
    "tail",
    [
        {"chosen": "x", "rejected": "y"},
        {**PAIR, "winner": "A"},
        {"response": "x"},
        {"response": "x", "thumbs": "up"},
        {"completions": ["x", "y"], "ranks": [1, 2]},
        {"responses": ["x", "y"], "ratings": [1, 2]},
    ],
)
@pytest.mark.parametrize("name", ["messages", "conversation"])
def test_a_conversation_beside_answers_is_their_prompt(tail: dict[str, Any], name: str) -> None:
    record = records({name: [USER], **tail})[0]
    assert prompt_text(record.prompt) == "Name a colour."
    record = records({"system": "Be brief.", name: [USER], **tail})[0]
    assert [m["content"] for m in record.prompt] == ["Be brief.", "Name a colour."]
    answered = [USER, {"role": "assistant", "content": "x"}]
    with pytest.raises(EvidenceError, match=rf"ends with an answer.*--ignore {name}"):
        records({name: answered, **tail})
    record = records({"prompt": "q", name: answered, **tail})[0]
    assert record.prompt == "q", "a whole conversation beside a prompt would tell the answer"
    record = records({"prompt": "Name a colour.", name: [*answered, USER], **tail})[0]
    assert [m["content"] for m in record.prompt] == ["Name a colour.", "x", "Name a colour."]


def test_parts_of_a_prompt_of_other_types() -> None:
    (record,) = records({"question": "q", "context": ["one", "two"], "completion": "x"})
    assert record.prompt == "q\n\none\n\ntwo"
    (record,) = records({"instruction": "Square it.", "input": 7, "output": "49"})
    assert record.prompt == "Square it.\n\n7"
    (record,) = records({"question": "q", "contexts": ["one"], "completion": "x"})
    assert record.prompt == "q\n\none"
    for value in (float("nan"), None, "", " ", []):
        (record,) = records({**ONE, "system": value, "context": value})
        assert record.prompt == "q"
    for value in ({"title": "t"}, [{"title": "t"}], True):
        with pytest.raises(EvidenceError, match=r"column `context`.*--ignore context"):
            records({**ONE, "context": value})
    with pytest.raises(EvidenceError, match=r"second column of messages.*--ignore context"):
        records({"prompt": [USER], "context": [{"role": "user", "content": "another"}], "completion": "x"})
    (record,) = records({"prompt": [USER], "instruction": [USER], "completion": "x"})
    assert record.prompt == [USER]
    for value in (float("nan"), None):
        with pytest.raises(EvidenceError, match="the prompt is missing"):
            records({"prompt": value, "chosen": "x", "rejected": "y"})


def test_an_instruction_that_stands_somewhere_in_the_input_is_kept() -> None:
    row = {"instruction": "Summarise the article", "input": "How to Summarise the article: a guide", "output": "x"}
    assert records(row)[0].prompt == f"{row['instruction']}\n\n{row['input']}"
    row["input"] = "Summarise the article\n\nIt rained."
    assert records(row)[0].prompt == row["input"]


# --- columns of published data beside others ---


def test_a_judgement_beside_the_columns_of_a_data_set_is_read_or_refused() -> None:
    pair = {"prompt": "q", "response_1": "x", "response_2": "y", "preference_strength": 2}
    assert records(pair)[0].chosen == "y"
    assert records({**pair, "winner": "response_1"})[0].chosen == "x", "a strength without a sign"
    safe = {"prompt": "q", "response": "x", "is_safe": True}
    assert records(safe)[0].label
    assert records({**safe, "rating": 1}, {**safe, "rating": 4})[1].score == 4


@pytest.mark.parametrize(
    "row",
    [
        {"subreddit": "a", "title": "t", "post": "p", "summary": "s"},
        {"prompt": "p TL;DR:", "label": "s"},
        {"Body": "b", "Question": "q", "Answer": "5"},
    ],
)
def test_examples_of_data_sets_that_somebody_judged_are_refused(row: dict[str, Any], tmp_path: Path) -> None:
    assert len(records(row)) == 1
    assert len(records({**row, "rating": None})) == 1
    with pytest.raises(EvidenceError, match=r"column `rating`: a column that judges beside.*--ignore rating"):
        records({**row, "rating": 1})
    assert len(read(written(tmp_path, {**row, "rating": 1}), ignore=["rating"])) == 1


def test_late_columns_that_the_kind_does_not_read_are_kept() -> None:
    pair, judged = {"prompt": "q", "chosen": "x", "rejected": "y"}, {**ONE, "label": True}
    voted = {"prompt": "q", **PAIR, "winner": "A"}
    for row, name in ((ONE, "worker_id"), (pair, "rank"), (pair, "winner"), (voted, "note"), (voted, "label")):
        assert len(records(*[row] * 150, {**row, name: "3"})) == 151, name
    for row, name in ((judged, "worker_id"), (pair, "worker_id"), (voted, "choice"), (judged, "thumbs")):
        with pytest.raises(EvidenceError, match=f"row 151, column `{name}`"):
            records(*[row] * 150, {**row, name: "3"})


def test_one_rated_answer_is_no_ranking_and_one_rated_attribute_a_rating() -> None:
    row = {"prompt": "q", "completions": ["x", "y"], "scores": [1, 2]}
    assert len(records(row, {**row, "scores": [1, None]}, kind="ranking")) == 1
    rows = [{"prompt": "q", "response": "x", "clarity": 4, "safety": value} for value in (2, None)]
    assert [r.score for r in records(*rows)] == [{"clarity": 4, "safety": 2}, {"clarity": 4, "safety": None}]


def test_lists_of_one_value_stand_for_it() -> None:
    assert [r.label for r in records({**ONE, "thumbs": ["up"]}, {**ONE, "thumbs": ["down"]})] == [True, False]
    with pytest.raises(EvidenceError):
        records({**ONE, "label": ["up", "down"]}, {**ONE, "label": ["down", "down"]})


def test_a_transcript_on_one_side_alone_is_a_text() -> None:
    texts = "\n\nHuman: q\n\nAssistant: x", "y"
    (record,) = records({"chosen": texts[0], "rejected": texts[1]})
    assert (record.prompt, record.chosen, record.rejected) == ("", *texts)


def test_a_history_of_another_shape_is_refused() -> None:
    for history in (["Hi", "Hello"], [["Hi", "Hello", "Bye"]], [["Hi"]], {"Hi": "Hello"}):
        with pytest.raises(EvidenceError, match="neither messages nor pairs of texts"):
            records({**ONE, "history": history})


def test_an_answer_of_several_messages_after_the_prompt() -> None:
    answer = [{"role": "assistant", "content": "f()"}, {"role": "tool", "content": "red"}]
    row = {"prompt": "Name a colour.", "chosen": [USER, *answer], "rejected": [USER, *answer[:1]]}
    (record,) = records(row)
    assert (record.prompt, record.chosen, record.rejected) == ([USER], answer, answer[:1])


def test_rows_are_of_no_kind_that_they_do_not_have() -> None:
    for kind in ("rating", "outcome", "ranking", "comparison", "steps", "demonstration"):
        with pytest.raises(EvidenceError, match=f"no layout that is known as kind {kind}"):
            records({"question": "q", "answer": "x"}, kind=kind)


def test_a_better_answer_needs_a_worse_one() -> None:
    with pytest.raises(EvidenceError, match="column `winner`: the column seems to judge"):
        records({**ONE, "accepted": "yes", "winner": "m"}, {**ONE, "accepted": "no", "winner": "n"})
