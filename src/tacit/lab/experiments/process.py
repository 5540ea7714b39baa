"""`tacit lab process`: solutions in steps with planted first errors, judged whole or step by step.

The world has 30 rules, each with one right result and two wrong ones. A problem names 3 to 8 rules, and a solution
applies them in turn, a line each, in words that vary and mean nothing. A rule goes wrong with a probability of its own
(.02 to .3). The answer is right where no step is wrong, and in one of twenty others by luck; wrong answers follow from
the first error, so that solutions with the same error agree on theirs. Answers are not in the text.

Rewards are fitted on the same solutions of the same text features: `outcome` on whether the answer is right, `process`
on step labels up to the first error (as in PRM800K), or on labels of all steps where those after an error are wrong,
or on labels from 8 continuations of each step sampled from the world (Math-Shepherd). They choose among 16 solutions
of each of 150 new problems.

- `sound`: the share of choices without a wrong step; `answer`: of those with the right answer.
- `won`: how much more often sound than the choice of the outcome reward, fitted on the same solutions.

Controls, whose `won` is to the outcome reward on most solutions: choice by lot, fewest words, a random reward, the
majority's answer; the outcome reward inverted; and the truth (any sound solution).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tacit import rewards
from tacit.evidence.records import Outcome, Steps
from tacit.features import load_encoder
from tacit.lab.seeds import repeat
from tacit.rewards.controls import InvertedReward, LengthReward, RandomReward
from tacit.rewards.solutions import Aggregate, aggregate_steps, cut_steps
from tacit.rewards.steps import ProcessReward

Array = npt.NDArray[np.float64]
RULES, WRONG, LUCK, CONTINUATIONS = 30, 2, 0.05, 8
OPENINGS = ("", "then", "so", "next", "now", "hence", "here", "and then", "after that", "from this")
VARIANTS: tuple[tuple[str, dict[str, Any], tuple[Aggregate, ...]], ...] = (
    ("process", {}, ("min", "product", "last")),
    ("process, all steps", {"after_error": "wrong"}, ("min", "product", "last")),
    ("process, hard continuations", {"step_labels": "hard"}, ("min", "product", "last")),
    ("process, soft continuations", {"step_labels": "soft"}, ("min", "product", "last")),
)


@dataclass(frozen=True)
class Solutions:
    """m solutions: the rules of each, whether each step went wrong, and how the answer came out."""

    problem: npt.NDArray[np.intp]
    """(m,) which problem."""
    rules: list[npt.NDArray[np.intp]]
    results: list[npt.NDArray[np.intp]]
    """For each step 0 where right, 1 or 2 where wrong."""
    right: npt.NDArray[np.bool_]
    """(m,) whether the answer is right."""
    answer: npt.NDArray[np.intp]
    """(m,) the answer itself; 0 is right."""

    @property
    def sound(self) -> Array:
        """(m,) 1 where no step is wrong."""
        return np.array([not results.any() for results in self.results], dtype=np.float64)


def run(
    *, seeds: int = 10, seed: int = 0, sizes: tuple[int, ...] = (100, 400), problems: int = 150, n: int = 16
) -> dict[str, Any]:
    """The table: best of n by each reward and control, means and intervals over seeds."""
    rows = repeat(lambda s: _once(s, sizes, problems, n), seeds, seed, "process")
    return {"experiment": "process", "seeds": seeds, "problems": problems, "n": n, "rows": rows}


def solve(rules: list[npt.NDArray[np.intp]], copies: int, hard: Array, rng: np.random.Generator) -> Solutions:
    """`copies` solutions of each problem, one problem after another."""
    problem = np.repeat(np.arange(len(rules)), copies)
    listed = [rules[i] for i in problem]
    results = [np.where(rng.random(len(r)) < hard[r], rng.integers(1, WRONG + 1, len(r)), 0) for r in listed]
    lucky = rng.random(len(listed)) < LUCK
    answer = np.zeros(len(listed), dtype=np.intp)
    for i, steps in enumerate(results):
        if steps.any() and not lucky[i]:
            first = int(np.argmax(steps > 0))
            answer[i] = 1 + WRONG * int(listed[i][first]) + int(steps[first])
    return Solutions(problem, listed, results, answer == 0, answer)


def _once(seed: int, sizes: tuple[int, ...], problems: int, n: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    hard = rng.uniform(0.02, 0.3, RULES)
    names = _names(RULES * (WRONG + 2), rng)

    def sample(count: int) -> list[npt.NDArray[np.intp]]:
        return [rng.choice(RULES, size=rng.integers(3, 9), replace=False) for _ in range(count)]

    def prompt(rules: npt.NDArray[np.intp]) -> str:
        return "Apply " + ", ".join(names[r] for r in rules)

    def lines(rules: npt.NDArray[np.intp], results: npt.NDArray[np.intp]) -> list[str]:
        openings = rng.choice(OPENINGS, size=len(rules))
        said = [f"{names[r]} {names[RULES + (WRONG + 1) * r + k]}." for r, k in zip(rules, results, strict=True)]
        return [f"{opening} {line}".strip() for opening, line in zip(openings, said, strict=True)]

    test = solve(sample(problems), n, hard, rng)
    asked = [prompt(rules) for rules in test.rules]
    said = ["\n".join(lines(*pair)) for pair in zip(test.rules, test.results, strict=True)]
    rows: list[dict[str, Any]] = []

    def row(fitted_on: int, choice: str, scores: Array, base: Array | None = None) -> Array:
        grid = scores.reshape(problems, n)
        top = grid == grid.max(1, keepdims=True)
        share = top / top.sum(1, keepdims=True)
        sound = (share * test.sound.reshape(problems, n)).sum(1)
        answer = (share * test.right.reshape(problems, n)).sum(1)
        rows.append(
            {"fitted_on": f"{fitted_on} solutions" if fitted_on else "", "choice": choice, "sound": float(sound.mean())}
        )
        rows[-1] |= {"answer": float(answer.mean()), "won": float((sound - (sound if base is None else base)).mean())}
        return np.asarray(sound)

    encoder = load_encoder("hashed")
    for size in sizes:
        train = solve(sample(size), 1, hard, rng)
        prompts = [prompt(rules) for rules in train.rules]
        steps = [lines(*pair) for pair in zip(train.rules, train.results, strict=True)]
        outcome = rewards.fit(
            [
                Outcome(prompt=p, completion="\n".join(s), label=bool(right))
                for p, s, right in zip(prompts, steps, train.right, strict=True)
            ],
            encoder=encoder,
            seed=seed,
        )
        base = row(size, "outcome", np.asarray(outcome.score(asked, said), np.float64))
        evidence = [
            Steps.model_validate(
                {
                    **{"prompt": p, "completions": s, "labels": (results == 0).tolist()},
                    "continuations": continuations(rules, results, hard, rng),
                }
            )
            for p, s, rules, results in zip(prompts, steps, train.rules, train.results, strict=True)
        ]
        for name, options, aggregates in VARIANTS:
            process = rewards.fit(evidence, encoder=encoder, seed=seed, **options)
            assert isinstance(process, ProcessReward)
            scored = process.score_steps(asked, [cut_steps(text, process.cut) for text in said])
            for how in aggregates:
                whole = aggregate_steps(np.concatenate(scored), [len(own) for own in scored], how)
                row(size, f"{name}, {how}", whole.astype(np.float64), base)
        row(size, "outcome inverted", np.asarray(InvertedReward(outcome).score(asked, said), np.float64), base)
    same = test.answer.reshape(problems, n)
    controls = {
        "by lot": np.zeros(len(said)),
        "random reward": RandomReward(seed).score(asked, said),
        "fewest words": LengthReward(shorter=True).score(asked, said),
        "majority": (same[:, :, None] == same[:, None, :]).sum(2).ravel(),
        "any sound (truth)": test.sound,
    }
    for choice, scores in controls.items():
        row(0, choice, np.asarray(scores, np.float64), base)
    return rows


def continuations(
    rules: npt.NDArray[np.intp], results: npt.NDArray[np.intp], hard: Array, rng: np.random.Generator
) -> list[list[bool]]:
    """After each step, whether each of N sampled ends reaches the right answer: soundly, or by luck."""
    drawn = rng.random((len(rules), CONTINUATIONS, len(rules))) < hard[rules]  # (steps, N, steps): later steps wrong
    later = np.triu(np.ones((len(rules), len(rules)), dtype=bool), 1)[:, None, :]
    wrong_before = np.cumsum(results > 0) > 0
    sound = ~(drawn & later).any(2) & ~wrong_before[:, None]
    listed: list[list[bool]] = (sound | (rng.random(sound.shape) < LUCK)).tolist()
    return listed


def _names(count: int, rng: np.random.Generator) -> list[str]:
    """Distinct made-up words."""
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    found: dict[str, None] = {}
    while len(found) < count:
        found.setdefault("".join(rng.choice(syllables, 3)))
    return list(found)
