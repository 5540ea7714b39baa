"""What each tool's export is read as: both votes, rows without one, values that nothing explains."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Any

import pytest

import tacit
from evidence import export_samples_tools as of
from evidence.export_samples_tools import ANSWER, ASSISTANT, OTHER, QUESTION, TOOLS, USER
from tacit.errors import EvidenceError
from tacit.evidence import Evidence, Kind

ELSE = {"role": "assistant", "content": OTHER}


def read(*rows: dict[str, Any], kind: Kind | None = None) -> tuple[Evidence, list[dict[str, Any]]]:
    evidence = Evidence.from_records(list(rows), kind=kind)
    return evidence, [record.model_dump(exclude_none=True) for record in evidence]


def texts(record: dict[str, Any]) -> tuple[Any, Any]:
    """The prompt's and the completion's texts, where each is one message or a text."""
    sides = (record["prompt"], record["completion"])
    return tuple(side if isinstance(side, str) else side[-1]["content"] for side in sides)  # type: ignore[return-value]


@pytest.mark.parametrize("name", TOOLS)
def test_a_csv_file_of_it_says_the_same(name: str, tmp_path: Path) -> None:
    row, path = TOOLS[name], tmp_path / "rows.csv"
    cells = {key: json.dumps(cell) if isinstance(cell, dict | list | bool) else cell for key, cell in row.items()}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, cells)
        writer.writeheader()
        writer.writerow(cells)
    again = [record.model_dump(exclude_none=True) for record in tacit.read(path)]
    assert [judged(record) for record in again] == [judged(record) for record in read(row)[1]]


@pytest.mark.parametrize("name", TOOLS)
def test_cells_may_be_json_texts(name: str) -> None:
    row = TOOLS[name]
    cells = {key: json.dumps(cell) if isinstance(cell, dict | list) else cell for key, cell in row.items()}
    assert [judged(record) for record in read(cells)[1]] == [judged(record) for record in read(row)[1]]


@pytest.mark.parametrize("name", TOOLS)
def test_an_object_may_span_lines(name: str, tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(TOOLS[name], indent=2) + "\n", "utf-8")
    again = [record.model_dump(exclude_none=True) for record in tacit.read(path)]
    assert [judged(record) for record in again] == [judged(record) for record in read(TOOLS[name])[1]]


def test_objects_that_span_lines_follow_each_other_or_break_off(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    log = json.dumps(of.inspect_log(*[of.inspect_sample(match="C")] * 2000), indent=1)  # more than a block
    path.write_text(f"\n{log}\n{log}\n", "utf-8")
    assert len(tacit.read(path)) == 4000
    for text, row in ((log[:-9], 1), (f"{log}\n]", 2), (log.replace(":", ";", 1), 1)):
        path.write_text(text, "utf-8")
        with pytest.raises(EvidenceError, match=f"row {row}: broken JSON"):
            list(tacit.read(path))


def paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The keys that lead to every value inside a value."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*before, key)
        yield from paths(value[key], (*before, key))


def changed(value: Any, path: tuple[Any, ...], odd: Any) -> Any:
    """A copy of a value with another one at the end of a path."""
    if not path:
        return odd
    again = copy(value)
    again[path[0]] = changed(value[path[0]], path[1:], odd)
    return again


@pytest.mark.parametrize("name", TOOLS)
def test_an_odd_value_anywhere_ends_in_records_or_in_a_sentence(name: str) -> None:
    sentences = []
    for path in paths(TOOLS[name]):
        for odd in (None, [], {}, 7, True, "x", "[", [{}], 10**400):
            try:
                read(TOOLS[name], changed(TOOLS[name], path, odd))
            except EvidenceError as error:
                sentences.append(str(error))
    assert not [sentence for sentence in sentences if "\n" in sentence]


def judged(record: dict[str, Any]) -> dict[str, Any]:
    """The part of a record that has a meaning."""
    names = ("label", "score", "chosen", "rejected", "tie", "ranks", "prompt", "completion", "completions", "annotator")
    return {name: record[name] for name in names if name in record}


def refused(*rows: dict[str, Any], kind: Kind | None = None) -> str:
    with pytest.raises(EvidenceError) as caught:
        read(*rows, kind=kind)
    return str(caught.value)


# --- Open WebUI ---


def test_open_webui_thumbs_and_details() -> None:
    evidence, records = read(of.open_webui(1), of.open_webui(-1), of.open_webui(None))
    assert evidence.kind == "outcome"
    assert [(texts(r), r["label"], r["annotator"]) for r in records] == [
        ((QUESTION, ANSWER), True, "u1"),
        ((QUESTION, ANSWER), False, "u1"),
    ]
    _, ratings = read(of.open_webui(), of.open_webui(details={"rating": None}), kind="rating")
    assert [r["score"] for r in ratings] == [8]
    assert "column `data`" in refused(of.open_webui(3))
    assert "(found 11)" in refused(of.open_webui(details={"rating": 11}), kind="rating")


@pytest.mark.parametrize(("rating", "chosen"), [(1, ANSWER), (-1, OTHER), ("1", ANSWER)])
def test_open_webui_siblings_won_or_lost(rating: Any, chosen: str) -> None:
    _, (record,) = read(of.open_webui(rating), kind="comparison")
    assert record["chosen"] == chosen
    assert record["prompt"] == [USER]
    assert record["other_model"] == "phi4"


def test_open_webui_chats_hold_the_ratings_of_their_messages() -> None:
    evidence, records = read(of.open_webui_chat(1), of.open_webui_chat(-1), of.open_webui()["snapshot"]["chat"])
    assert evidence.kind == "outcome"
    assert [(texts(r), r["label"]) for r in records] == [((QUESTION, ANSWER), True), ((QUESTION, ANSWER), False)]
    assert read(of.open_webui_chat(-1), kind="comparison")[1][0]["chosen"] == OTHER
    assert "column `data`" in refused(of.open_webui_chat("good"))


def test_open_webui_without_the_conversation_is_refused() -> None:
    assert "snapshot" in refused({**of.open_webui(), "snapshot": None})


# --- Langfuse ---


def test_langfuse_booleans_are_outcomes_and_numbers_ratings() -> None:
    evidence, records = read(of.langfuse(of.thumb(1, authorUserId="ann")), of.langfuse(of.thumb(0)), of.langfuse())
    assert evidence.kind == "outcome"
    assert [(texts(r), r["label"], r["criterion"]) for r in records] == [
        ((QUESTION, ANSWER), True, "user-feedback"),
        ((QUESTION, ANSWER), False, "user-feedback"),
    ]
    assert records[0]["annotator"] == "ann"
    quality = {"name": "quality", "dataType": "NUMERIC", "value": 0.8}
    evidence, (record,) = read(of.langfuse(quality, of.thumb(0)), kind="rating")
    assert record["score"] == {"quality": 0.8, "user-feedback": 0.0}
    assert read(of.langfuse(quality))[0].kind == "rating"
    assert "--kind rating" in refused(of.langfuse(of.thumb(1)), of.langfuse(quality))
    polite = of.langfuse({"name": "polite", "dataType": "BOOLEAN", "value": 1})
    assert "`polite` is no verdict" in refused(of.langfuse(of.thumb(1)), polite)
    assert read(polite)[0].kind == "rating"
    assert read(polite, kind="outcome")[1][0]["criterion"] == "polite"


def test_langfuse_thumbs_sent_as_numbers() -> None:
    thumbs = [of.langfuse({"name": "user-feedback", "dataType": "NUMERIC", "value": value}) for value in (1, 0)]
    assert [r["score"] for r in read(*thumbs)[1]] == [{"user-feedback": 1.0}, {"user-feedback": 0.0}]
    assert [r["label"] for r in read(*thumbs, kind="outcome")[1]] == [True, False]
    stars = of.langfuse({"name": "user-feedback", "dataType": "NUMERIC", "value": 4})
    assert "says neither good nor bad" in refused(*thumbs, stars, kind="outcome")


def test_langfuse_words_and_other_criteria() -> None:
    word = {"name": "user-feedback", "dataType": "CATEGORICAL", "value": 0, "stringValue": "thumbs-down"}
    topic = {"name": "topic", "dataType": "CATEGORICAL", "value": 1, "stringValue": "billing"}
    inner = {**of.thumb(1), "observationId": "o9"}
    _, (record,) = read(of.langfuse(word, topic, inner))
    assert record["label"] is False
    assert [score["name"] for score in record["scores"]] == ["user-feedback", "topic", "user-feedback"]
    assert read(of.langfuse(word), of.langfuse(topic))[1][0]["label"] is False
    vague = {**topic, "name": "quality", "stringValue": "partly"}
    assert "column `scores`: `quality` says neither good nor bad" in refused(of.langfuse(vague))
    polite = {"name": "polite", "dataType": "BOOLEAN", "value": 1}
    brief = {"name": "brief", "dataType": "BOOLEAN", "value": 0}
    assert "several criteria (`polite`, `brief`)" in refused(of.langfuse(polite, brief), kind="outcome")
    _, (record,) = read(of.langfuse(polite, brief, {**polite, "name": "toxicity"}))
    assert record["score"] == {"polite": 1.0, "brief": 0.0}
    assert "toxicity" in refused(of.langfuse({**polite, "name": "toxicity"}))
    assert "(found 'RANK')" in refused(of.langfuse({**polite, "dataType": "RANK"}))


def test_langfuse_tables_have_a_column_for_each_score() -> None:
    rows = [of.langfuse_table(**{"user-feedback": value, "topic": ["x"]}) for value in ([1], [0, 1], None)]
    evidence, records = read(*rows)
    assert (evidence.layout, evidence.kind) == ("langfuse_table", "rating")
    assert [r["score"] for r in records] == [{"user-feedback": 1.0}, {"user-feedback": 0.0}, {"user-feedback": 1.0}]
    assert [r["label"] for r in read(*rows[:2], kind="outcome")[1]] == [True, False, True]
    words = [of.langfuse_table(vote=[value]) for value in ("up", "down")]
    assert [r["label"] for r in read(*words)[1]] == [True, False]
    observation = {**of.langfuse_table(vote=["up"]), "traceId": "t1", "parentObservationId": None}
    del observation["bookmarked"], observation["sessionId"]
    assert read(observation)[1][0]["label"] is True


def test_langfuse_judgements_of_one_trace_that_make_it_a_rating_or_an_outcome() -> None:
    quality = {"name": "quality", "dataType": "NUMERIC", "value": 0}
    polite = {"name": "polite", "dataType": "BOOLEAN", "value": 1}
    half = {"name": "user-feedback", "dataType": "NUMERIC", "value": 0.5}
    assert [r["score"] for r in read(of.langfuse(of.thumb(1), half))[1]] == [
        {"user-feedback": 1.0},
        {"user-feedback": 0.5},
    ]
    assert read(of.langfuse(of.thumb(1), {**polite, "name": "correct"}))[0].kind == "rating"
    page = {"data": [of.langfuse(of.thumb(1)), of.langfuse(quality)], "meta": {}}
    assert [r["score"] for r in read(page)[1]] == [{"user-feedback": 1.0}, {"quality": 0.0}]
    assert read(of.langfuse(quality, polite), kind="outcome")[1][0]["criterion"] == "polite"


def test_langfuse_people_have_a_record_each() -> None:
    quality = {"name": "quality", "dataType": "NUMERIC", "value": 0.8, "authorUserId": "bob"}
    scores = (of.thumb(1, authorUserId="ann"), of.thumb(0, authorUserId="bob"), quality)
    assert [(r["annotator"], r["score"]) for r in read(of.langfuse(*scores), kind="rating")[1]] == [
        ("ann", {"user-feedback": 1.0}),
        ("bob", {"user-feedback": 0.0, "quality": 0.8}),
    ]


def test_langfuse_criteria_that_are_better_where_they_are_low_are_no_outcomes() -> None:
    toxic = {"name": "toxicity", "dataType": "BOOLEAN", "value": 1}
    assert "`toxicity` may be better where it is low" in refused(of.langfuse(toxic), kind="outcome")
    severe = {"name": "toxicity", "dataType": "CATEGORICAL", "value": 0, "stringValue": "severe"}
    assert "`toxicity` says neither" in refused(of.langfuse(of.thumb(1)), of.langfuse(severe))


# --- LangSmith ---


def test_langsmith_averages_are_ratings_and_words_outcomes() -> None:
    runs = [of.langsmith({"user_score": of.stats(1.0)}), of.langsmith({"user_score": of.stats(0.0)}), of.langsmith()]
    evidence, records = read(*runs)
    assert evidence.kind == "rating" or evidence.kind == "outcome"
    runs.sort(key=lambda run: run["feedback_stats"] is None)
    evidence, records = read(*runs)
    assert evidence.kind == "rating"
    assert [(texts(r), r["score"]["user_score"]) for r in records] == [
        ((QUESTION, ANSWER), 1.0),
        ((QUESTION, ANSWER), 0.0),
    ]
    assert [r["label"] for r in read(*runs, kind="outcome")[1]] == [True, False]
    words = [of.langsmith({"vote": of.stats(None, good=1)}), of.langsmith({"vote": of.stats(None, bad=2)})]
    assert [r["label"] for r in read(*words)[1]] == [True, False, False]
    note = of.langsmith({"note": {**of.stats(None), "comments": ["see below"]}})
    assert read(*words, note)[1] == read(*words)[1]


def test_langsmith_messages_failures_and_json_texts() -> None:
    human = {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain", "schema", "HumanMessage"],
        "kwargs": {"content": QUESTION},
    }
    ai = {"lc": 1, "type": "constructor", "id": ["langchain", "AIMessage"], "kwargs": {"content": ANSWER}}
    run = of.langsmith({"correct": of.stats(None, yes=1)}, inputs={"messages": [[human]]})
    run["outputs"] = {"generations": [[{"text": ANSWER, "message": ai}]], "llm_output": None}
    assert texts(read(run)[1][0]) == (QUESTION, ANSWER)
    failed = of.langsmith({"correct": of.stats(None, no=1)}, outputs=None, error="TimeoutError")
    assert len(read(run, failed)[1]) == 1
    cut = of.langsmith({"correct": of.stats(None, no=1)}, outputs=None)
    assert "column `outputs`: the output is empty" in refused(run, cut)
    parquet = {name: json.dumps(cell) if isinstance(cell, dict) else cell for name, cell in run.items()}
    assert texts(read(parquet)[1][0]) == (QUESTION, ANSWER)


def test_langsmith_results_of_an_experiment() -> None:
    row = {**TOOLS["langsmith_results"], "feedback.brevity": "0.25", "feedback.note": "fine"}
    _, (record,) = read(row)
    assert (texts(record), record["score"]) == ((QUESTION, ANSWER), {"correctness": 1.0, "brevity": 0.25})
    for nothing in ("nan", "inf", "-"):
        assert read({**row, "feedback.brevity": nothing})[1][0]["score"] == {"correctness": 1.0}
    vague = {**row, "feedback.correctness": "partly"}
    assert "`brevity` is a number" in refused(vague, kind="outcome")
    empty = {**row, "feedback.correctness": None, "feedback.brevity": ""}
    assert len(read(row, empty)[1]) == 1
    assert "feedback.correctness" in refused(
        {**row, "feedback.correctness": 0.5, "feedback.brevity": ""}, kind="outcome"
    )


CALL = {"type": "function", "function": {"name": "search", "arguments": {"q": "sky"}}}
OF_LANGCHAIN = {"name": "search", "args": {"q": "sky"}, "id": "c1", "type": "tool_call"}
CALLING = {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL]}
BRIEF = {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("inputs", "prompt"),
    [
        ({"system": "Be brief.", "messages": [USER]}, [BRIEF, USER]),
        ({"messages": [{"role": "User", "content": QUESTION}]}, [USER]),
        ({"messages": [USER, {"note": "ünsure"}]}, f'[{json.dumps(USER)}, {{"note": "ünsure"}}]'),
        ({"question": QUESTION, "model": "m", "user_id": "u", "top_k": 3, "tone": "kind"}, f"{QUESTION}\n\nkind"),
        ({"args": [QUESTION, 3], "kwargs": {"tone": "kind"}}, f"{QUESTION}\n\nkind"),
    ],
)
def test_the_prompt_among_the_inputs_of_a_call(inputs: Any, prompt: Any) -> None:
    assert read(of.langsmith({"score": of.stats(1.0)}, inputs=inputs))[1][0]["prompt"] == prompt


@pytest.mark.parametrize(
    ("outputs", "completion"),
    [
        ({"lc": 1, "type": "constructor", "id": ["AIMessageChunk"], "kwargs": {"content": ANSWER}}, ANSWER),
        ({"messages": [USER, ELSE, {"role": "user", "content": "Sure?"}, ASSISTANT]}, ANSWER),
        ({**CALLING, "tool_calls": [OF_LANGCHAIN]}, [CALLING]),
        ({"type": "ai", "content": "Let me look.", "additional_kwargs": {"tool_calls": [CALL]}}, [CALLING]),
        ({"generations": [[{"text": "Let me look.", "message": CALLING}]]}, [CALLING]),
        ({"text": "Let me look.", "message": CALLING}, [CALLING]),
        ({"generations": [[{"text": ANSWER}]]}, ANSWER),
        ({"choices": [{"text": ANSWER}]}, ANSWER),
        ({"final_answer": ANSWER}, ANSWER),
        ({"answer": ANSWER, "sources": ["a book"]}, ANSWER),
        ({"result": "ja", "sure": True}, '{"result": "ja", "sure": true}'),
        ({"output": ""}, ""),
    ],
)
def test_the_answer_among_the_outputs_of_a_call(outputs: Any, completion: Any) -> None:
    assert read(of.langsmith({"score": of.stats(1.0)}, outputs=outputs))[1][0]["completion"] == completion


@pytest.mark.parametrize("outputs", [{}, [], {"output": None}, {"messages": [USER]}])
def test_a_call_that_gave_nothing_is_refused(outputs: Any) -> None:
    assert "column `outputs`: the output is empty" in refused(of.langsmith({"score": of.stats(1.0)}, outputs=outputs))


@pytest.mark.parametrize("inputs", [{}, {"model": "m"}, {"question": " "}])
def test_a_call_that_was_given_nothing_is_refused(inputs: Any) -> None:
    assert "column `inputs`: the input is empty" in refused(of.langsmith({"score": of.stats(1.0)}, inputs=inputs))


# --- MLflow ---


def test_mlflow_assessments() -> None:
    rows = [of.mlflow(of.assessment("correctness", value)) for value in (True, False)]
    evidence, records = read(*rows, of.mlflow())
    assert evidence.kind == "outcome"
    assert [(texts(r), r["label"], r["annotator"]) for r in records] == [
        ((QUESTION, ANSWER), True, "ann@example.com"),
        ((QUESTION, ANSWER), False, "ann@example.com"),
    ]
    several = of.mlflow(of.assessment("correctness", "yes"), of.assessment("style", 3.5), of.assessment("safe", "no"))
    assert read(several, kind="rating")[1][0]["score"] == {"correctness": 1.0, "style": 3.5, "safe": 0.0}
    assert read(several)[1][0]["label"] is True
    overridden = of.mlflow(of.assessment("correctness", True, valid=False), of.assessment("correctness", False))
    assert [r["label"] for r in read(overridden)[1]] == [False]
    expected = {"assessment_name": "expected_response", "expectation": {"value": ANSWER}}
    inner = of.assessment("correctness", False, span_id="ef")
    root = of.assessment("correctness", True, span_id="abcd")
    assert [r["label"] for r in read(of.mlflow(expected, inner, root))[1]] == [True]
    assert "`correctness` says neither" in refused(of.mlflow(of.assessment("correctness", "partly")))


# --- Phoenix ---


def test_phoenix_labels_and_scores() -> None:
    good, bad = of.annotation("correctness", "correct", 1.0), of.annotation("correctness", "incorrect", 0.0)
    bare = of.phoenix()
    del bare["annotations"]
    evidence, records = read(of.phoenix(good), of.phoenix(bad), bare, of.phoenix(of.annotation("note", "see below")))
    assert evidence.kind == "outcome"
    assert [(texts(r), r["label"], r["annotator"]) for r in records] == [
        ((QUESTION, ANSWER), True, "u1"),
        ((QUESTION, ANSWER), False, "u1"),
    ]
    scored = of.phoenix(of.annotation("quality", "fair", 0.6), good)
    assert read(scored, kind="rating")[1][0]["score"] == {"quality": 0.6, "correctness": 1.0}
    assert "disagree (correct, 0)" in refused(of.phoenix(of.annotation("correctness", "correct", 0.0)))
    assert "`quality` says neither" in refused(of.phoenix(of.annotation("quality", "formal")))
    assert read(of.phoenix(good), of.phoenix(of.annotation("tone", "formal")))[1] == records[:1]


def test_phoenix_people_are_named_as_pandas_writes_their_numbers() -> None:
    table = [{**TOOLS["phoenix_table"], "user_id": user} for user in (17.0, float("nan"), 18)]
    assert [record.get("annotator") for record in read(*table)[1]] == ["17", None, "18"]


def test_phoenix_annotations_of_a_trace_judge_its_root() -> None:
    root, leaf = of.phoenix(), {**of.phoenix(), "parent_id": "s1"}
    trace = {"traceId": "t1", "spans": [leaf, root], "annotations": [of.annotation("thumb", "down")]}
    _, (record,) = read(trace)
    assert record["label"] is False
    assert record["parent_id" if "parent_id" in record else "name"] == "chat"


def test_phoenix_requests_and_replies_of_a_model() -> None:
    request = {"messages": [{"role": "system", "content": "Be brief."}, USER], "model": "m", "temperature": 0}
    reply = {"id": "x", "choices": [{"index": 0, "message": ASSISTANT}], "usage": {}}
    span = of.phoenix(of.annotation("thumb", "up"))
    span["attributes"] = {
        "input": {"value": json.dumps(request), "mime_type": "application/json"},
        "output": {"value": json.dumps(reply), "mime_type": "application/json"},
    }
    _, (record,) = read(span)
    assert record["prompt"] == [{"role": "system", "content": "Be brief."}, USER]
    assert record["completion"] == ANSWER
    text = of.phoenix(of.annotation("thumb", "up"))
    text["attributes"]["output.value"] = '{"answer": 42}'
    assert read(text)[1][0]["completion"] == '{"answer": 42}'


# --- Inspect, promptfoo, DeepEval, lm-eval ---


def test_inspect_letters_numbers_and_several_scorers() -> None:
    log = of.inspect_log(
        *(of.inspect_sample(match=value) for value in ("C", "I", "N", float("nan"))), of.inspect_sample()
    )
    evidence, records = read(log)
    assert evidence.kind == "outcome"
    assert [(texts(r), r["label"], r["criterion"]) for r in records] == [
        ((QUESTION, ANSWER), label, "match") for label in (True, False, False)
    ]
    evidence, records = read(of.inspect_log(of.inspect_sample(match="P", f1={"en": 0.5, "de": "C"})))
    assert evidence.kind == "rating"
    assert records[0]["score"] == {"match": 0.5, "f1.en": 0.5, "f1.de": 1.0}
    several = of.inspect_sample(match="C", includes="I")
    assert "in `samples[1]`" in refused(of.inspect_log(of.inspect_sample(match="C"), several), kind="outcome")
    assert "`quality` says neither" in refused(of.inspect_log(of.inspect_sample(quality="maybe")))
    assert "samples" in refused({**of.inspect_log(), "samples": None})


def test_inspect_conversations_tools_and_attachments() -> None:
    call = {"id": "c1", "function": "search", "arguments": {"q": "sky"}, "type": "function"}
    sample = of.inspect_sample(match="C")
    sample["messages"] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "attachment://ab"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "scattering", "tool_call_id": "c1", "function": "search"},
        ASSISTANT,
    ]
    sample["attachments"] = {"ab": QUESTION}
    _, (record,) = read(of.inspect_log(sample))
    assert record["prompt"] == [{"role": "system", "content": "Be brief."}, USER]
    assert [m["role"] for m in record["completion"]] == ["assistant", "tool", "assistant"]
    assert record["completion"][0]["tool_calls"][0]["function"] == {"name": "search", "arguments": {"q": "sky"}}


def test_promptfoo_passes_scores_errors_and_tests_without_assertions() -> None:
    nothing = of.promptfoo(gradingResult={"pass": True, "score": 1, "reason": "No assertions"})
    error = of.promptfoo(False, failureReason=2, error="429", response={"output": None})
    rows = [of.promptfoo(True), of.promptfoo(False), nothing, error, of.promptfoo(gradingResult=None)]
    evidence, records = read(*rows)
    assert evidence.kind == "outcome"
    assert [(texts(r), r["label"]) for r in records] == [((QUESTION, ANSWER), True), ((QUESTION, ANSWER), False)]
    assert read(of.promptfoo_file(*rows))[1] == records
    assert [r["score"] for r in read(*rows, kind="rating")[1]] == [1.0, 0.0]
    grade = {"pass": "maybe", "score": 1, "reason": ""}
    assert "column `gradingResult`" in refused(of.promptfoo(gradingResult=grade))
    chat = of.promptfoo(prompt={"raw": json.dumps([USER]), "label": "chat"}, response={"output": {"a": 1}})
    _, (record,) = read(chat)
    assert (record["prompt"], record["completion"]) == ([USER], '{"a": 1}')


def test_promptfoo_compares_outputs_of_one_test() -> None:
    file = of.promptfoo_file(
        of.compared(False, OTHER),
        of.compared(True, ANSWER),
        of.compared(True, "Yes.", test=1),
        of.compared(False, "No.", test=1, raw="Again: why?"),
        of.promptfoo(),
    )
    _, records = read(file, kind="comparison")
    assert [(r["chosen"], r["rejected"], r.get("rejected_prompt")) for r in records] == [
        (ANSWER, OTHER, None),
        ("Yes.", "No.", "Again: why?"),
    ]


def test_deepeval_success_and_metrics() -> None:
    low = {"name": "Toxicity", "score": 0.1, "success": True, "threshold": 0.5}
    broken = {"name": "Faithfulness", "score": None, "success": False, "error": "timeout"}
    quality = {"name": "Quality [GEval]", "score": 0.4, "success": False, "threshold": 0.5}
    rows = [of.deepeval(True), of.deepeval(False), of.deepeval(None), of.deepeval(False, broken)]
    evidence, records = read(*rows)
    assert evidence.kind == "outcome"
    assert [(texts(r), r["label"]) for r in records] == [((QUESTION, ANSWER), True), ((QUESTION, ANSWER), False)]
    _, (record,) = read(of.deepeval(False, low, broken, quality), kind="rating")
    assert record["score"] == {"Quality [GEval]": 0.4}
    assert record["metricsData"][0]["name"] == "Toxicity"
    assert "column `success`" in refused(of.deepeval("perhaps"))
    turns = [{"order": 0, **USER}, {"order": 1, **ASSISTANT}, {"order": 2, "role": "user", "content": "Thanks"}]
    talk = {"name": "talk", "success": True, "turns": turns, "metricsData": [{**quality, "success": True}]}
    _, (record,) = read({"testCases": [], "conversationalTestCases": [talk]})
    assert (record["prompt"], len(record["completion"]), record["label"]) == ([USER], 2, True)
    snake = {"name": "t", "success": False, "input": QUESTION, "actual_output": ANSWER, "metrics_data": [quality]}
    assert read({"test_results": [snake], "confident_link": None})[1][0]["label"] is False


def test_lm_eval_generations() -> None:
    rows = [of.lm_eval(exact_match=value) for value in (1.0, 0.0)]
    evidence, records = read(*rows)
    assert evidence.kind == "outcome"
    assert [(texts(r), r["label"], r["criterion"]) for r in records] == [
        ((QUESTION, ANSWER), True, "exact_match"),
        ((QUESTION, ANSWER), False, "exact_match"),
    ]
    filtered = {**of.lm_eval(exact_match=1), "filter": "strict-match"}
    assert read(filtered)[1][0]["criterion"] == "exact_match,strict-match"
    assert "column `exact_match`" in refused(of.lm_eval(exact_match=0.5))
    evidence, (record,) = read(of.lm_eval(f1=0.5, bleu=12.0, perplexity=3.0))
    assert (evidence.kind, record["score"]) == ("rating", {"f1": 0.5, "bleu": 12.0})
    assert read(rows[0], of.lm_eval(perplexity=3.0))[1] == records[:1]
    assert "2 replies together" in refused({**rows[0], "resps": [[ANSWER, OTHER]]})
    old = {**rows[0], "arguments": [[QUESTION, {"until": []}]]}
    assert texts(read(old)[1][0]) == (QUESTION, ANSWER)


def test_lm_eval_choices_answer_with_the_likeliest_text() -> None:
    right, wrong = of.lm_eval_choice(1.0, -1.5, -20.0), of.lm_eval_choice(0.0, -9.0, -2.0, -30.0)
    _, records = read(right, wrong)
    assert [(r["completion"], r["label"]) for r in records] == [(f" {ANSWER}", True), (f" {OTHER}", False)]
    assert "how likely one text is" in refused(of.lm_eval_choice(0.0, -9.0))


# --- people's tools ---


def test_argilla_labels_name_an_answer() -> None:
    for write in (of.argilla, of.argilla_columns):
        rows = [write(("preference", value)) for value in ("response_1", "response_2", "2", "Tie")]
        evidence, records = read(*rows, write())
        assert evidence.kind == "comparison"
        assert [(r["chosen"], r["tie"]) for r in records] == [
            (ANSWER, False),
            (OTHER, False),
            (OTHER, False),
            (ANSWER, True),
        ]
        assert {r["prompt"] for r in records} == {QUESTION}
        assert {r["annotator"] for r in records} == {"u1"}
        assert "names none of the answers `response_1`, `response_2`" in refused(write(("preference", 1)))
        assert "(found 'maybe')" in refused(write(("preference", "maybe")))


def test_argilla_drafts_and_discarded_responses_do_not_count() -> None:
    said = of.argilla_columns(("preference", "response_1"))
    for status in ("draft", "discarded"):
        assert len(read(said, of.argilla_columns(("preference", "response_2"), status=status))[1]) == 1


def test_argilla_rankings_need_ranks() -> None:
    _, (record,) = read(of.argilla(("ranking", of.RANKED)), kind="ranking")
    assert (record["completions"], record["ranks"]) == ([OTHER, ANSWER], [2, 1])
    assert read(of.argilla(("ranking", of.RANKED)))[0].kind == "ranking"
    for write in (of.argilla, of.argilla_columns):
        assert "the ranking has no ranks" in refused(write(("ranking", ["response_1", "response_2"])))


def test_argilla_judgements_of_one_answer() -> None:
    for write in (of.argilla, of.argilla_columns):
        rows = [write(("correct", value), **of.ONE) for value in ("yes", "no")]
        evidence, records = read(*rows, write(**of.ONE))
        assert evidence.kind == "outcome"
        assert [(texts(r), r["label"]) for r in records] == [((QUESTION, ANSWER), True), ((QUESTION, ANSWER), False)]
        evidence, (record,) = read(write(("quality", 4), ("style", 2), **of.ONE))
        assert (evidence.kind, record["score"]) == ("rating", {"quality": 4.0, "style": 2.0})
        text = write(("correction", "Air scatters blue light more strongly than it scatters red light."), **of.ONE)
        assert read(*rows, text)[1] == records
        assert "`quality` says neither" in refused(write(("quality", "fair"), **of.ONE))
        assert "Give --kind rating" in refused(rows[0], write(("quality", 4), **of.ONE))


def test_argilla_version_1() -> None:
    record = {
        "fields": {"prompt": QUESTION, "response-1": OTHER, "response-2": ANSWER},
        "responses": [
            {"user_id": "u1", "status": "submitted", "values": {"preference": {"value": "response-2"}}},
            {"user_id": "u2", "status": "discarded", "values": {"preference": {"value": "response-1"}}},
        ],
        "external_id": "1",
    }
    _, (said,) = read(record)
    assert (said["chosen"], said["annotator"]) == (ANSWER, "u1")
    ranked = [{"value": "response-1", "rank": 2}, {"value": "response-2", "rank": 1}]
    row = {**record["fields"], "order": [{"user_id": "u1", "value": ranked, "status": "submitted"}], "external_id": "1"}
    _, (said,) = read(row)
    assert (said["completions"], said["ranks"]) == ([OTHER, ANSWER], [2, 1])
    lists = {**record["fields"], "best": {"user_id": ["u1"], "value": ["response-1"], "status": ["submitted"]}}
    assert read(lists)[1][0]["chosen"] == OTHER


def test_label_studio_choices_ratings_and_numbers_judge_one_answer() -> None:
    rows = [of.label_studio(("quality", "choices", [word])) for word in ("Good answer", "Bad")]
    evidence, records = read(*rows)
    assert evidence.kind == "outcome"
    assert [(texts(r), r["label"], r["annotator"]) for r in records] == [
        ((QUESTION, ANSWER), True, "3"),
        ((QUESTION, ANSWER), False, "3"),
    ]
    evidence, (record,) = read(of.label_studio(("stars", "rating", 4), ("depth", "number", 7)))
    assert (evidence.kind, record["score"]) == ("rating", {"stars": 4.0, "depth": 7.0})
    assert "`quality` says neither" in refused(of.label_studio(("quality", "choices", ["Neutral answer"])))
    cancelled = of.label_studio(("quality", "choices", ["Good"]))
    cancelled["annotations"][0]["was_cancelled"] = True
    assert read(*rows, cancelled)[1] == read(*rows)[1]


def test_label_studio_choices_between_two_answers() -> None:
    two = {"prompt": QUESTION, "answer1": ANSWER, "answer2": OTHER}
    rows = [of.label_studio(("best", "choices", [word]), **two) for word in ("left", "right", "tie")]
    _, records = read(*rows)
    assert [(r["chosen"], r["tie"]) for r in records] == [(ANSWER, False), (OTHER, False), (ANSWER, True)]


def test_tinker() -> None:
    rows = [{**TOOLS["tinker"], "label": label} for label in ("A", "B", "Tie", None)]
    _, records = read(*rows)
    assert [(r["chosen"], r["tie"]) for r in records] == [([ASSISTANT], False), ([ELSE], False), ([ASSISTANT], True)]
    assert records[0]["prompt"] == [USER]
    assert "(found 'C')" in refused({**TOOLS["tinker"], "label": "C"})


# --- formats of trainers ---


KTO = {"conversations": of.TURNS, "kto_tag": True}
ALPACA = {"instruction": "Explain.", "input": QUESTION, "history": [["Hi", "Hello"]], "system": "Be kind."}


def test_sharegpt_of_llama_factory() -> None:
    _, (record,) = read({**TOOLS["sharegpt_preference"], "system": "Be brief."})
    assert record["prompt"] == [{"role": "system", "content": "Be brief."}, USER]
    assert (record["chosen"], record["rejected"]) == ([ASSISTANT], [ELSE])
    assert "column `rejected`: it must be a message" in refused({**TOOLS["sharegpt_preference"], "rejected": 3})
    rows = [{**KTO, "kto_tag": tag} for tag in (True, False, None)]
    assert [(texts(r), r["label"]) for r in read(*rows)[1]] == [
        ((QUESTION, ANSWER), True),
        ((QUESTION, ANSWER), False),
    ]
    assert "column `kto_tag`" in refused(KTO, {**KTO, "kto_tag": "maybe"})
    evidence, (record,) = read({"conversations": of.TURNS})
    assert (evidence.kind, texts(record)) == ("demonstration", (QUESTION, [ASSISTANT][-1]["content"]))


@pytest.mark.parametrize(
    "answers", [{"output": ANSWER}, {"chosen": ANSWER, "rejected": OTHER}, {"output": ANSWER, "kto_tag": True}]
)
def test_turns_before_an_instruction_of_llama_factory(answers: dict[str, Any]) -> None:
    assert read({**ALPACA, **answers})[1][0]["prompt"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": f"Explain.\n\n{QUESTION}"},
    ]


def test_ms_swift_and_openai() -> None:
    for name in ("ms_swift", "openai_preference"):
        _, (record,) = read(TOOLS[name])
        assert (record["prompt"], record["chosen"], record["rejected"]) == ([USER], [ASSISTANT], [ELSE])
    assert read(TOOLS["openai_preference"])[1][0]["parallel_tool_calls"] is True
    _, (record,) = read({"messages": [USER, ASSISTANT], "rejected_response": OTHER})
    assert (record["prompt"], record["chosen"], record["rejected"]) == ([USER], [ASSISTANT], OTHER)
    query = {"query": QUESTION, "response": ANSWER, "rejected_response": OTHER, "history": [["Hi", "Hello"]]}
    _, (record,) = read({**query, "system": "Be brief."})
    assert [m["content"] for m in record["prompt"]] == ["Be brief.", "Hi", "Hello", QUESTION]
    assert (record["chosen"], record["rejected"]) == (ANSWER, OTHER)
    other = [{"role": "user", "content": "When?"}, ELSE]
    assert "same first messages" in refused({**TOOLS["ms_swift"], "rejected_messages": other})


def test_outcomes_by_two_criteria_are_not_one_data_set() -> None:
    rows = [
        of.mlflow(of.assessment(name, value))
        for name, value in (("correct", True), ("correct", False), ("liked", True))
    ]
    assert len(Evidence.from_records(rows[:2], kind="outcome")) == 2
    with pytest.raises(
        EvidenceError, match=r"row 3: answers are judged by `liked` here and by `correct` in row 1.*rating"
    ):
        list(Evidence.from_records(rows, kind="outcome"))
