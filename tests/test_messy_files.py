"""Files as people have them, read by a new user's first lines: each ends in a reward that prefers what they preferred,
or in one sentence whose flags, typed as they stand there, lead to one."""

from __future__ import annotations

import json
import random
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tacit import load

TOPICS = ["boil an egg", "fix a tyre", "learn Python", "train a puppy", "bake bread", "reset a router", "fold a shirt"]
POLITE = ["Happy to help! To {}, take it step by step, please.", "Of course, thank you for asking how to {}."]
RUDE = ["Google it, nobody cares how to {}.", "What a stupid question. Just {} and go away, idiot."]


def answers(n: int) -> list[tuple[str, str, bool]]:
    """Prompt, answer and whether it is polite."""
    rng = random.Random(0)
    rows = []
    for i in range(n):
        topic, good = TOPICS[i % len(TOPICS)], rng.random() < 0.5
        rows.append((f"How do I {topic}, {i % 20}?", rng.choice(POLITE if good else RUDE).format(topic), good))
    return rows


def pairs(n: int) -> list[tuple[str, str, str, bool]]:
    """Prompt, two answers and whether the first is the polite one."""
    rng = random.Random(1)
    rows = []
    for i in range(n):
        topic, first = TOPICS[i % len(TOPICS)], rng.random() < 0.7
        sides = [rng.choice(POLITE).format(topic), rng.choice(RUDE).format(topic)]
        rows.append((f"How do I {topic}, {i % 20}?", *(sides if first else sides[::-1]), first))
    return rows


def table(header: str, rows: list[list[Any]], delimiter: str = ",", end: str = "\n") -> str:
    def cell(value: Any) -> str:
        text = str(value)
        return '"' + text.replace('"', '""') + '"' if delimiter in text or '"' in text else text

    return end.join([header, *(delimiter.join(map(cell, row)) for row in rows), ""])


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def thumbs(values: tuple[Any, Any], header: str, delimiter: str = ",") -> str:
    rows = [
        [1000 + i, f"2024-03-{i % 28 + 1:02d} 10:00:00+00", f"{i % 9}.0", prompt, answer, values[not good], "en"]
        for i, (prompt, answer, good) in enumerate(answers(60))
    ]
    for row in rows[::7]:
        row[5] = ""
    return "\ufeff" + table(header, rows, delimiter, "\r\n")


def stars(written: Callable[[int, int], Any], column: str) -> str:
    rows = [
        [prompt, answer, written((4 if good else 1) + i % 2, i), "", "Ann" if i % 2 else ""]
        for i, (prompt, answer, good) in enumerate(answers(60))
    ]
    return table(f'Question,Response,"{column}",Comments,Reviewer', rows)


def votes(first: str, second: str, tie: str, column: str = "Which is better?", sides: str = "Answer A;Answer B") -> str:
    rows = [
        [
            prompt,
            a,
            b,
            "" if i % 11 == 4 else tie if i % 9 == 4 else first if better else second,
            "Ann" if i % 2 else "Ben",
        ]
        for i, (prompt, a, b, better) in enumerate(pairs(60))
    ]
    return table(f"Question;{sides};{column};Rater", rows, ";")


def chats(
    place: Callable[[dict[str, Any], list[dict[str, Any]], Any], None],
    good: Any = "thumbs_up",
    bad: Any = "thumbs_down",
) -> str:
    rows = []
    for i, (prompt, answer, polite) in enumerate(answers(60)):
        call = {"id": "c", "type": "function", "function": {"name": "look_up", "arguments": '{"rating": 5}'}}
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": "You are a helpful bot."},
            {"role": "user", "content": [{"type": "text", "text": prompt}]},
            *([{"role": "assistant", "content": None, "tool_calls": [call]}] if i % 4 == 0 else []),
            *([{"role": "tool", "tool_call_id": "c", "content": "3 results"}] if i % 4 == 0 else []),
            {"role": "assistant", "content": answer},
        ]
        row: dict[str, Any] = {"conversation_id": f"c{i}", "created": 1700000000 + i, "messages": messages}
        place(row, messages, None if i % 6 == 5 else good if polite else bad)
        rows.append(row)
    return lines(rows)


def judged(say: Callable[[int, bool], dict[str, Any]]) -> str:
    return lines([{"prompt": p, "response": a, **say(i, good)} for i, (p, a, good) in enumerate(answers(60))])


def compared(say: Callable[[bool], dict[str, Any]]) -> str:
    return lines([{"question": p, "answer_a": a, "answer_b": b, **say(first)} for p, a, b, first in pairs(60)])


LOG = "Msg ID,created_at,user_id,User Message,Bot Reply,{},lang"
LIKERT = ["Terrible", "Poor", "Okay", "Good", "Excellent"]
GRADE = "Grade (1=best, 5=worst)"

READ: dict[str, tuple[str, str]] = {
    "thumbs": ("a.csv", thumbs(("👍", "👎"), LOG.format("Thumbs up?"))),
    "thumbs, semicolons": ("a.csv", thumbs((1, -1), LOG.format("user_feedback").replace(",", ";"), ";")),
    "thumbs, tabs": ("a.tsv", thumbs(("LIKE", "DISLIKE"), LOG.format("Was this helpful?").replace(",", "\t"), "\t")),
    "stars in a named range": ("a.csv", stars(lambda s, i: s, "Rating (1-5)")),
    "stars in every form": (
        "a.csv", stars(lambda s, i: [s, f"{s} stars", "★" * s, f"{s}/5", f"{s}.0"][i % 5], "Your rating (1-5)"),
    ),
    "verdicts in letters": ("a.csv", votes("A", "B", "both bad")),
    "verdicts in words": ("a.csv", votes("A is much better", "B is slightly better", "About the same")),
    "verdicts name the columns": ("a.csv", votes("gpt-4", "llama-2", "tie", sides="gpt-4;llama-2")),
    "a form's question": ("a.csv", votes("Answer A", "Answer B", "No preference", "Which one do you prefer?")),
    "chat, feedback beside it": ("a.jsonl", chats(lambda row, messages, value: row.update(feedback=value))),
    "judge, numbers and NaN": (
        "a.jsonl", judged(lambda i, good: {"judge": "j", "score": float("nan") if i % 9 == 2 else 9 - 7 * (not good)}),
    ),
    "judge, marked numbers": (
        "a.jsonl", judged(lambda i, good: {"judgment": f"On a scale of 10. Rating: [[{9 if good else i % 3 + 1}]]"}),
    ),
    "judge, marked letters": (
        "a.jsonl", compared(lambda first: {"judgment": f"B is fine, A too. [[{'A' if first else 'B'}]]"}),
    ),
    "judge, a score each": (
        "a.jsonl", compared(lambda first: {"score_a": 9 if first else 2, "score_b": 3 if first else 8}),
    ),
}  # fmt: skip

REFUSED: dict[str, tuple[str, ...]] = {
    "thumbs by another name": ("a.csv", thumbs(("up", "down"), LOG.format("fb")), "--columns label=fb"),
    "grades, 1 is best": (
        "a.csv", stars(lambda s, i: 6 - s, GRADE), f"--columns 'score={GRADE}'", "--labels 1=5,2=4,4=2,5=1",
    ),
    "words in order": (
        "a.csv", stars(lambda s, i: LIKERT[s - 1], "Overall quality"),
        "--labels terrible=1,poor=2,good=4,excellent=5",
    ),
    "decimal commas": (
        "a.csv", stars(lambda s, i: f"{s},0", "Bewertung"), "--columns score=Bewertung",
        "--labels 1,0=1,5,0=5,4,0=4,2,0=2",
    ),
    "verdicts 0 and 1": ("a.csv", votes("0", "1", "2"), "--verdict 0=first,1=second,2=tie"),
    "verdicts -1 and 1": ("a.csv", votes("-1", "1", "0"), "--verdict=-1=first,0=tie,1=second"),
    "verdicts in another language": ("a.csv", votes("A", "B", "Unentschieden"), "--verdict unentschieden=tie"),
    "a rater a column": ("a.csv", votes("A", "B", "tie", "Ann says"), "--columns 'winner=Ann says'"),
    "chat, feedback in metadata": (
        "a.jsonl", chats(lambda row, messages, value: row.update(metadata={"feedback": {"thumb": value}, "ms": 3})),
        "--columns label=metadata.feedback.thumb",
    ),
    "chat, feedback on the message": (
        "a.jsonl", chats(lambda row, messages, value: messages[-1].update(feedback=value)),
        "--columns label=messages.feedback",
    ),
    "chat, a list of feedback": (
        "a.jsonl", chats(lambda row, messages, value: row.update(feedback=[{"type": "thumb", "value": value}]), 5, 1),
        "--columns score=feedback.value",
    ),
    "judge, JSON in a text": (
        "a.jsonl", judged(lambda i, good: {"judge_output": json.dumps({"score": 9 if good else i % 3, "why": "x"})}),
        "--columns score=judge_output.score",
    ),
    "judge, attributes": (
        "a.jsonl", judged(lambda i, good: {"scores": {"tone": 9 if good else 2, "depth": i % 4}}), "--model attributes",
    ),
    "judge, pass and fail": (
        "a.jsonl", judged(lambda i, good: {"judge_verdict": "PASS" if good else "FAIL"}),
        "--columns label=judge_verdict",
    ),
}  # fmt: skip


def preference(folder: Path) -> float:
    """How often a reward prefers a polite answer to a rude one."""
    reward = load(folder)
    prompts = [f"How do I {topic}?" for topic in TOPICS for _ in POLITE]
    polite = reward.score(prompts, [text.format(topic) for topic in TOPICS for text in POLITE])
    rude = reward.score(prompts, [text.format(topic) for topic in TOPICS for text in RUDE])
    return float((polite > rude).mean())


@pytest.mark.parametrize("name", READ)
def test_a_messy_file_is_read_as_people_meant_it(tacit: Any, tmp_path: Path, name: str) -> None:
    file, text = READ[name]
    (tmp_path / file).write_text(text, "utf-8", newline="")
    checked = tacit("check", file)
    assert checked.code == 0, checked.err
    done = tacit("fit", file, "--out", "reward", "--encoder", "hashed", "--resamples", 20)
    assert done.code == 0, done.err
    assert preference(tmp_path / "reward") > 0.9


@pytest.mark.parametrize("name", REFUSED)
def test_or_one_sentence_says_the_flag_which_then_works(tacit: Any, tmp_path: Path, name: str) -> None:
    file, text, *flags = REFUSED[name]
    (tmp_path / file).write_text(text, "utf-8", newline="")
    fit = ("fit", file, "--out", "reward", "--encoder", "hashed", "--resamples", 20)
    refused = tacit(*fit)
    assert refused.code == 2
    assert refused.err.count("\n") == 1, "one sentence, once"
    assert refused.err.startswith(f"tacit: {file}, ")
    assert all(flag in refused.err for flag in flags), refused.err
    done = tacit(*fit, *shlex.split(" ".join(flags)))
    assert done.code == 0, done.err
    assert preference(tmp_path / "reward") > 0.9


@pytest.mark.parametrize("name", ["chat, feedback on the message", "judge, JSON in a text", "words in order"])
def test_what_is_kept_aside_by_the_flag_is_a_good_example(tacit: Any, tmp_path: Path, name: str) -> None:
    file, text, *_ = REFUSED[name]
    (tmp_path / file).write_text(text, "utf-8", newline="")
    aside = re.search(r"(--ignore (?:'[^']+'|\S+))", tacit("check", file).err)
    assert aside is not None
    done = tacit("check", file, *shlex.split(aside[1]), "--json")
    assert done.code == 0, done.err
    assert done.json["kind"] == "demonstration"
