"""Reasoning, verifiers and combinations from the command line, as a user types it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numerics import assert_float32_close


def lines(name: str, rows: list[dict[str, Any]]) -> Path:
    path = Path(name)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def steps(n: int = 120, continuations: bool = False) -> list[dict[str, Any]]:
    rng = random.Random(0)
    rows = []
    for i in range(n):
        count = rng.randint(2, 4)
        bad = rng.choice([None, rng.randrange(count)])
        said = [f"{'so we guess' if k == bad else 'the sum is clear'} {rng.randint(1, 99)}." for k in range(count)]
        sound = [bad is None or k < bad for k in range(count)]
        row: dict[str, Any] = {"prompt": f"problem {i % 40}", "completions": said}
        if continuations:
            row["continuations"] = [[rng.random() < (0.8 if s else 0.05) for _ in range(4)] for s in sound]
        else:
            row["labels"] = sound
        rows.append(row)
    return rows


PROBLEMS = [{"prompt": f"What is {i} + {i}?", "answer": str(2 * i)} for i in range(1, 41)]
ANSWERS = [
    {
        "prompt": f"What is {i} + {i}?",
        "completions": [f"It is {2 * i}.", f"It is {2 * i + 1}!", f"A: {2 * i}", f"no idea, {i}"],
        "labels": [True, False, True, False],
    }
    for i in range(1, 41)
]
SINGLE = [
    {"prompt": row["prompt"], "completion": completion, "label": label}
    for row in ANSWERS
    for completion, label in zip(row["completions"], row["labels"], strict=True)
]


def test_fit_score_audit_steps(tacit: Any) -> None:
    data = lines("steps.jsonl", steps())
    done = tacit(
        "fit", data, "--out", "r", "--encoder", "hashed", "--aggregate", "product", "--json", "--resamples", 20
    )
    assert done.code == 0, done.err
    result = done.json
    assert result["fit"]["aggregate"] == "product"
    assert result["step_accuracy"] > 0.95
    assert result["first_error"] > 0.9 > result["first_error_chance"]
    assert result["step_accuracy_ci"][0] <= result["step_accuracy"] <= result["step_accuracy_ci"][1]
    rows = lines("whole.jsonl", [{"prompt": "p", "completion": "the sum is clear 5.\nso we guess 7."}])
    assert tacit("score", "r", rows, "--out", "scored.jsonl").code == 0
    assert json.loads(Path("scored.jsonl").read_text())["score"] < 0
    assert tacit("score", "r", data, "--out", "steps-scored.jsonl").code == 0
    for row in map(json.loads, Path("steps-scored.jsonl").read_text().splitlines()):
        odds = 1 / (1 + np.exp(-np.array(row["step_scores"])))
        assert len(odds) == len(row["completions"])
        assert 1 / (1 + np.exp(-row["score"])) == pytest.approx(odds.prod(), rel=1e-3, abs=1e-6)
    audit = tacit("audit", "r", data, "--json", "--resamples", 20)
    assert audit.json["kind"] == "steps"
    assert audit.json["step_nll"] < audit.json["step_nll_base_rate"]


def test_steps_labelled_by_continuations(tacit: Any) -> None:
    data = lines("steps.jsonl", steps(continuations=True))
    done = tacit("fit", data, "--out", "r", "--encoder", "hashed", "--step-labels", "soft", "--json", "--resamples", 20)
    assert done.code == 0, done.err
    assert done.json["fit"]["step_labels"] == "soft"
    assert done.json["step_accuracy"] > 0.8
    lines("bad.jsonl", [{"prompt": "p", "completions": ["a"], "continuations": [True]}])
    bad = tacit("fit", "bad.jsonl", "--out", "b")
    assert bad.code == 2
    assert "bad.jsonl, row 1, column `continuations`" in bad.err


def test_several_answers_of_a_prompt_are_outcomes(tacit: Any) -> None:
    data = lines("answers.jsonl", ANSWERS)
    for model in ("auto", "within"):
        done = tacit(
            "fit", data, "--kind", "outcome", "--out", model, "--model", model, "--encoder", "hashed", "--json"
        )
        assert done.code == 0, done.err
        assert done.json["accuracy_is"] == "within prompts"
        assert done.json["n_test"] == 32  # four answers of 8 of the 40 prompts
        assert done.json["accuracy"] > 0.9  # doubt and shouting tell
    candidates = lines("candidates.jsonl", [{k: row[k] for k in ("prompt", "completions")} for row in ANSWERS])
    assert tacit("select", "within", candidates, "--out", "best.jsonl").code == 0
    best = [json.loads(line)["index"] for line in Path("best.jsonl").read_text().splitlines()]
    assert sum(index in (0, 2) for index in best) > 36


def test_a_verifier_from_problems(tacit: Any) -> None:
    problems, answers = lines("problems.jsonl", PROBLEMS), lines("answers.jsonl", SINGLE)
    done = tacit("fit", problems, "--out", "v", "--test-data", answers, "--json", "--resamples", 20)
    assert done.code == 0, done.err
    assert (done.json["accuracy"], done.json["n_train"], done.json["n_test"]) == (1.0, 40, 160)
    assert tacit("audit", "v", answers, "--json", "--resamples", 20).json["accuracy"] == 1.0
    lines("other.jsonl", [{"prompt": "What is love?", "completion": "4"}])
    unknown = tacit("score", "v", "other.jsonl", "--out", "s.jsonl")
    assert unknown.code == 2
    assert "knows no answer to the prompt 'What is love?'" in unknown.err
    assert tacit("fit", problems, "--out", "v2", "--unknown", 0.5).code == 0
    assert tacit("score", "v2", "other.jsonl", "--out", "s.jsonl").code == 0
    assert json.loads(Path("s.jsonl").read_text())["score"] == 0.5
    wrong = tacit("fit", problems, "--out", "v3", "--check", "nmber")
    assert wrong.code == 2
    assert "no check `nmber`" in wrong.err


def test_code_runs_only_where_the_flag_is_given(tacit: Any) -> None:
    lines("problems.jsonl", [{"prompt": "double", "answer": "assert double(2) == 4"}])
    lines("code.jsonl", [{"prompt": "double", "completion": f"def double(x): return {k} * x"} for k in (2, 3)])
    assert tacit("fit", "problems.jsonl", "--out", "v", "--check", "unit_tests").code == 0
    refused = tacit("score", "v", "code.jsonl", "--out", "s.jsonl")
    assert refused.code == 2
    assert "no sandbox" in refused.err
    assert tacit("score", "v", "code.jsonl", "--out", "s.jsonl", "--run-code").code == 0
    assert [json.loads(line)["score"] for line in Path("s.jsonl").read_text().splitlines()] == [1.0, 0.0]
    assert tacit("score", "v", "code.jsonl", "--out", "again.jsonl").code == 2  # a former permission does not last


def test_a_recipe_in_every_consumer(tacit: Any) -> None:
    lines("problems.jsonl", PROBLEMS)
    answers = lines("answers.jsonl", SINGLE)
    fitted = tacit("fit", answers, "--out", "style", "--model", "within", "--encoder", "hashed", "--resamples", 20)
    assert fitted.code == 0, fitted.err
    Path("mix.yaml").write_text(
        "type: sum\nparts:\n"
        "  - {reward: style, scale: z}\n"
        "  - {type: number, answers: problems.jsonl, weight: 3}\n"
        "  - {type: random, weight: 0.01}\n"
    )
    unmeasured = tacit("audit", "mix.yaml", answers)
    assert unmeasured.code == 2
    assert "tacit combine" in unmeasured.err
    combined = tacit("combine", "mix.yaml", "--data", answers, "--out", "mix", "--json")
    assert combined.code == 0, combined.err
    part = combined.json["parts"][0]
    text = Path("mix.yaml").read_text()
    Path("mix.yaml").write_text(text.replace("scale: z", f"scale: z, mean: {part['mean']}, std: {part['std']}"))
    scores = []
    for reward in ("mix.yaml", "mix"):
        assert tacit("audit", reward, answers, "--json", "--resamples", 20).json["accuracy"] == 1.0
        assert tacit("score", reward, answers, "--out", "s.jsonl").code == 0
        scores.append([json.loads(line)["score"] for line in Path("s.jsonl").read_text().splitlines()])
    assert_float32_close(scores[0], scores[1])
    candidates = lines("candidates.jsonl", [{k: row[k] for k in ("prompt", "completions")} for row in ANSWERS])
    assert tacit("select", "mix.yaml", candidates, "--out", "best.jsonl").code == 0
    assert all(json.loads(line)["index"] in (0, 2) for line in Path("best.jsonl").read_text().splitlines())
    Path("mix.yaml").write_text(text.replace("weight: 3", "weight: lots"))
    wrong = tacit("score", "mix.yaml", answers, "--out", "s.jsonl")
    assert wrong.code == 2
    assert "mix.yaml, key `parts.1.weight`: wrong value (found 'lots'). Give a number" in wrong.err


def test_a_prefix_reward_from_comparisons(tacit: Any) -> None:
    rows = [
        {
            "prompt": f"q{i % 30}",
            "chosen": f"kindly we say that number {i} is a fine one to have",
            "rejected": f"rudely we say that number {i} is no fine one to have",
        }
        for i in range(90)
    ]
    data = lines("votes.jsonl", rows)
    done = tacit("fit", data, "--out", "r", "--model", "prefix", "--stride", 3, "--encoder", "hashed", "--json")
    assert done.code == 0, done.err
    assert done.json["fit"]["n_prefix_pairs"] > 3 * done.json["n_train"]
    assert tacit("audit", "r", data, "--json", "--resamples", 20).json["accuracy"] > 0.95
    refused = tacit("fit", data, "--out", "x", "--cut", "newline", "--encoder", "hashed")
    assert refused.code == 2
    assert "`cut`" in refused.err
