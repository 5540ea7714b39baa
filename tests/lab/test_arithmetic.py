"""Arithmetic with a verifier: the world by hand, and what the experiment claims."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tacit.evidence import Demonstration, read
from tacit.lab.experiments.arithmetic import VARIANTS, Sizes, one_seed, run
from tacit.lab.sums import KINDS, Kind, Problem, Worked, problems, split, write
from tacit.rewards import verifiers


def test_sums_in_columns_by_hand() -> None:
    up, down = Problem(3147, 1285, "+"), Problem(3247, 1118, "-")
    assert (up.prompt, up.answer) == ("7+5 4+8 1+2 3+1 =", "4432")
    assert up.solution == "012\n113\n104\n004\n04432"
    assert (down.prompt, down.answer) == ("7-8 4-1 2-1 3-1 =", "2129")
    assert down.solution == "091\n120\n010\n020\n02129"
    # whoever forgets goes on with what is written: 7 + 5 = 12, and 4 + 8 without the one
    assert up.worked(lambda: True) == "012\n012\n003\n004\n04322"
    assert Problem(9999, 1111, "+").solution.endswith("\n11110")


def test_kinds_carry_as_often_as_they_say_and_teachers_slip_as_often() -> None:
    rng = np.random.default_rng(0)
    for kind in KINDS:
        found = problems(kind, 400, rng)
        assert len({p.prompt for p in found}) == 400
        assert all(p.solution.split()[-1].lstrip("0") == p.answer for p in found)
        carried = [sum(line[0] == "1" for line in p.solution.split()[1:-1]) for p in found]
        assert set(carried) == {kind.carries}
        slips = partial(_slips, rng, kind.forget)
        right = [p.worked(slips) == p.solution for p in found]
        chance = (1 - kind.forget) ** kind.carries
        assert np.mean(right) == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 400) ** 0.5)


def _slips(rng: np.random.Generator, forget: float) -> bool:
    return bool(rng.random() < forget)


def test_no_problem_is_in_two_parts() -> None:
    found = split(600, 20, 10, np.random.default_rng(1))
    parts = [[p for p, _ in found.taught], found.tuned, [p for own in found.held.values() for p in own]]
    assert [len(part) for part in parts] == [600, 120, 60]
    assert len({p.prompt for part in parts for p in part}) == 780


def test_lines_are_checked_up_to_the_first_that_is_wrong() -> None:
    one = Problem(3147, 1285, "+")
    said = [one.solution, "012\n113\n004\n004\n04432", "112", ""]
    prompts = [one.prompt] * len(said)
    lines = Worked({one.prompt: one.solution})
    assert lines.score(prompts, said).tolist() == pytest.approx([1, 0.4, 0, 0])
    # a line that is not closed may still go wrong
    assert lines.score_prefixes(prompts[:3], ["012\n113", "012\n113\n", "012\n113\n0"]).tolist() == pytest.approx(
        [0.2, 0.4, 0.4]
    )


def test_the_files_are_what_tune_reads(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    write(tmp_path, taught=60, tuned=5, held=5)
    verifier = verifiers.fit(read(tmp_path / "problems.jsonl"))
    solutions = [row for row in read(tmp_path / "solutions.jsonl") if isinstance(row, Demonstration)]
    scores = verifier.score([s.prompt for s in solutions], [s.completion for s in solutions])
    assert scores.tolist() == [1.0] * 30
    lessons = [json.loads(line) for line in (tmp_path / "taught.jsonl").read_text().splitlines()]
    assert sum(row["prompt"].startswith("right\n") for row in lessons) == 30


def test_a_verifier_teaches_and_a_random_reward_does_not(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    chosen = {name: VARIANTS[name] for name in ("grpo", "grpo, random reward")}
    easy = (Kind("+", 1, 0.6, digits=2),)
    table = one_seed(tmp_path, 0, Sizes(taught=2400, rounds=16, kinds=easy, hidden=64), chosen)
    assert [row["method"] for row in table] == ["no tuning", *chosen]
    assert list(table[0]) == ["method", "greedy", "sampled", "any_of_8", "against_grpo", "+1"]
    start, tuned, control = (row["sampled"] for row in table)
    assert tuned > start + 0.08
    assert tuned > control + 0.08
    assert table[2]["against_grpo"] == pytest.approx(control - tuned)
    assert all(row["any_of_8"] >= row["sampled"] == row["+1"] for row in table)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_tools_on_the_whole_task() -> None:
    pytest.importorskip("transformers")
    names = ("grpo, random reward", "grpo", "solutions known: sft", "sft, the same teachers")
    table = {row["method"]: row for row in run(seeds=2, variants={name: VARIANTS[name] for name in names})["rows"]}
    start = table["no tuning"]
    assert table["grpo"]["sampled"] > start["sampled"] + 0.15
    assert table["grpo"]["+3"] > start["+3"] + 0.3
    assert table["grpo, random reward"]["sampled"] < start["sampled"] + 0.05
    assert table["sft, the same teachers"]["sampled"] < start["sampled"] + 0.1
