"""No text of a prompt is lost, and none is said twice."""

from __future__ import annotations

from typing import Any

import pytest

from tacit.conversation import completion_text, prompt_text, render
from tacit.errors import EvidenceError
from tacit.evidence import Evidence, check

USER = {"role": "user", "content": "Name a colour."}
TAILS: dict[str, dict[str, Any]] = {
    "comparison": {"chosen": "red", "rejected": "blue"},
    "two_sided": {"response_a": "red", "response_b": "blue", "winner": "A"},
    "outcome": {"response": "red", "thumbs": "up"},
    "rating": {"completion": "red", "score": 3},
    "demonstration": {"output": "red"},
    "problem": {"answer": "red"},
    "ranking": {"completions": ["red", "blue"], "ranks": [1, 2]},
    "steps": {"completions": ["red", "blue"], "labels": [True, False]},
}


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("main", ["prompt", "question", "instruction", "query", "Prompt"])
@pytest.mark.parametrize(
    ("beside", "text"),
    [
        ({"system": "Answer in French."}, "Answer in French."),
        ({"system_prompt": "Answer in French."}, "Answer in French."),
        ({"input": "A warm one."}, "A warm one."),
        ({"context": "You are a painter."}, "You are a painter."),
        ({"history": [["Hi", "Hello"]]}, "Hello"),
        ({"system": "Be brief.", "input": "e", "context": "Art class."}, "Art class."),
    ],
)
def test_every_layout_keeps_the_whole_prompt(tail: str, main: str, beside: dict[str, Any], text: str) -> None:
    record: Any = next(iter(Evidence.from_records([{main: "Name a colour.", **beside, **TAILS[tail]}])))
    whole = prompt_text(record.prompt)
    assert "Name a colour." in whole
    assert text in whole
    for value in beside.values():
        assert not isinstance(value, str) or whole.split().count(value.split()[0]) >= 1, "short texts are kept too"


def test_a_text_that_the_prompt_holds_already_is_not_said_twice() -> None:
    row = {"prompt": "Translate this sentence, please: the dog sleeps", "input": "the dog sleeps soundly"}
    (record,) = Evidence.from_records([{**row, "completion": "x"}])
    assert prompt_text(record.prompt).count("the dog sleeps") == 2  # type: ignore[attr-defined]
    row["input"] = "this sentence, please: the dog sleeps"
    (record,) = Evidence.from_records([{**row, "completion": "x"}])
    assert record.prompt == row["prompt"]  # type: ignore[attr-defined]


def test_the_letter_that_is_asked_about_is_kept() -> None:
    (record,) = Evidence.from_records([{"instruction": "Count this letter in letter", "input": "e", "output": "2"}])
    assert record.prompt == "Count this letter in letter\n\ne"  # type: ignore[attr-defined]


def sides(prompt: Any, chosen: Any, rejected: Any) -> Any:
    (record,) = Evidence.from_records([{"prompt": prompt, "chosen": chosen, "rejected": rejected}])
    return record


def turns(*texts: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("prompt", "before"),
    [
        ("a question", ["a question"]),
        ("a question ", ["a question"]),
        (turns("a question"), ["a question"]),
        ("a question", ["hi", "hello", "a question"]),
        ([{"role": "system", "content": "s"}, *turns("a question")], ["a question"]),
        ("\n\nHuman: a question\n\nAssistant:", ["a question"]),
    ],
)
def test_a_prompt_inside_the_conversations_of_both_sides(prompt: Any, before: list[str]) -> None:
    record = sides(prompt, turns(*before, "x"), turns(*before, "y"))
    assert (completion_text(record.chosen), completion_text(record.rejected)) == ("x", "y")
    for text in before:
        assert text in prompt_text(record.prompt)
    assert prompt_text(record.prompt).count("a question") == 1
    if isinstance(prompt, list) and len(prompt) == 2:
        assert record.prompt[0]["content"] == "s"


def test_texts_that_begin_with_the_prompt() -> None:
    for prompt in ("Question: q\nAnswer:", "\n\nHuman: q\n\nAssistant:", "Tell me a story. "):
        record = sides(prompt, f"{prompt} x", f"{prompt.strip()} y")
        assert (record.chosen, record.rejected) == ("x", "y"), prompt
    record = sides("Yes", "Yes, of course", "Yes?")
    assert (record.chosen, record.rejected) == ("Yes, of course", "Yes?"), "by chance"
    record = sides("Tell me a story", "Tell me a story first", "No")
    assert record.chosen == "Tell me a story first", "one side alone does not repeat it"


def test_a_prompt_that_is_not_in_the_conversations_is_refused() -> None:
    with pytest.raises(EvidenceError, match="the prompt is not in the conversations"):
        sides("another question", turns("q", "x"), turns("q", "y"))


def test_transcripts_with_carriage_returns() -> None:
    text = "\r\n\r\nHuman: q\r\n\r\nAssistant: "
    (record,) = Evidence.from_records([{"chosen": text + "x", "rejected": text + "y"}])
    assert (prompt_text(record.prompt), record.chosen, record.rejected) == ("q", "x", "y")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        ([{"role": "user", "content": "q", "name": None}, *turns("", "x")[1:]], turns("q", "y")),
        (turns("q", "x"), [{"role": "user", "content": [{"type": "text", "text": "q"}]}, *turns("", "y")[1:]]),
        (turns("q", "x"), turns("q", "x", "more", "y")),
        (turns("q", "x"), turns("q", "x")),
    ],
)
def test_a_shared_prompt_is_found_however_it_is_written(chosen: Any, rejected: Any) -> None:
    (record,) = Evidence.from_records([{"chosen": chosen, "rejected": rejected}])
    assert prompt_text(record.prompt) == "q"  # type: ignore[attr-defined]
    assert completion_text(record.chosen) == "x"  # type: ignore[attr-defined]


def test_answers_alone_and_system_texts_that_differ() -> None:
    (record,) = Evidence.from_records([{"chosen": turns("", "x")[1:], "rejected": turns("", "y")[1:]}])
    assert record.prompt == ""  # type: ignore[attr-defined]
    pair = [
        [{"role": "system", "content": text}, *turns("q", answer)] for text, answer in (("kind", "x"), ("rude", "y"))
    ]
    (record,) = Evidence.from_records([{"chosen": pair[0], "rejected": pair[1]}])
    assert "kind" in prompt_text(record.prompt)  # type: ignore[attr-defined]
    assert "rude" in prompt_text(record.rejected_prompt)  # type: ignore[attr-defined]


def test_images_are_named_and_never_the_word_none() -> None:
    parts = [{"type": "image", "text": None}, {"type": "text", "text": "What is it?"}]
    row = {"prompt": [{"role": "user", "content": parts}], "chosen": "a dog", "rejected": "a cat"}
    report = check(Evidence.from_records([row]))
    assert [(f.code, f.count) for f in report.warnings if f.code == "unread_parts"] == [("unread_parts", 1)]
    evidence = Evidence.from_records([row])
    assert [prompt_text(r.prompt) for r in evidence] == ["What is it?"]  # type: ignore[attr-defined]
    assert evidence.notes == ["memory: 1 records hold images or other parts that are no text; not read"]


def call(name: str, arguments: Any) -> dict[str, Any]:
    calls = [{"type": "function", "function": {"name": name, "arguments": arguments}}]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def test_tool_calls_are_rendered_by_name_and_arguments() -> None:
    oslo = completion_text([call("weather", {"city": "Oslo", "day": 1})])
    assert oslo == 'weather({"city": "Oslo", "day": 1})'
    assert completion_text([call("weather", '{"day": 1, "city": "Oslo"}')]) == oslo, "as JSON text, in any order"
    assert completion_text([call("weather", {"city": "Oslo", "day": 1, "unit": None})]) == oslo, "as Arrow fills it"
    assert completion_text([call("weather", {"city": "Rome", "day": 1})]) != oslo
    assert completion_text([call("news", {"city": "Oslo", "day": 1})]) != oslo
    two = {
        "role": "assistant",
        "content": "So:",
        "tool_calls": [*call("a", {})["tool_calls"], *call("b", {})["tool_calls"]],
    }
    assert completion_text([two]) == "So:\na({})\nb({})"
    assert render([USER], [two]).endswith("So:\na({})\nb({})")
    legacy = {
        "role": "assistant",
        "content": None,
        "function_call": {"name": "weather", "arguments": '{"city": "Oslo", "day": 1}'},
    }
    assert completion_text([legacy]) == oslo
    row = {
        "prompt": [USER],
        "chosen": [call("weather", {"city": "Oslo"})],
        "rejected": [call("weather", {"city": "Rome"})],
    }
    assert [f.code for f in check(Evidence.from_records([row, {**row, "prompt": "other"}])).findings] == []
