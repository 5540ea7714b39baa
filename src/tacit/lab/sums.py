"""Arithmetic in columns, taught by people who slip, and a language model small enough to learn it in place.

A problem is two numbers of four digits in columns, the last digits first: `7+5 4+8 1+2 3+1 =` is 3147 + 1285. Its
solution has a line for each column, and then the answer:

    012             carried into the column, and the sum of the column
    113
    104
    004
    04432

Of `7-8 4-1 2-1 3-1 =` the first line is `091`: borrowed by the column, the digit of the answer, and 1 where the next
column has to lend. The people who teach forget to carry (or borrow) every so often, and go on from there: who imitates
them is right with probability (1 - forget)^carries, so that a reward for right answers is rare where much is to be
carried. `write` makes the files that `tacit tune` reads; `Worked` rewards solutions line by line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tacit.conversation import Completion, Prompt, completion_text, prompt_text
from tacit.rewards.contract import Reward


@dataclass(frozen=True)
class Kind:
    """Problems of one kind."""

    operation: str
    carries: int
    """Times that one is carried or borrowed between columns."""
    forget: float
    """How often a teacher forgets one of them."""
    digits: int = 4
    """Of both numbers."""

    @property
    def name(self) -> str:
        """As in a table: `+2`."""
        return f"{self.operation}{self.carries}"


KINDS = tuple(Kind(sign, carries, forget) for sign, forget in (("+", 0.4), ("-", 0.8)) for carries in (1, 2, 3))


@dataclass(frozen=True)
class Problem:
    """One calculation."""

    a: int
    b: int
    operation: str
    digits: int = 4

    @property
    def columns(self) -> list[tuple[int, int]]:
        """Digits of both numbers, the last ones first."""
        return [(self.a // 10**place % 10, self.b // 10**place % 10) for place in range(self.digits)]

    @property
    def prompt(self) -> str:
        """In columns, see the module."""
        return "".join(f"{x}{self.operation}{y} " for x, y in self.columns) + "="

    @property
    def answer(self) -> str:
        """In digits."""
        return str(self.a + self.b if self.operation == "+" else self.a - self.b)

    @property
    def solution(self) -> str:
        """Line by line, the answer in the last one."""
        return self.worked(lambda: False)

    def worked(self, forgets: Callable[[], bool]) -> str:
        """A solution by somebody who leaves out what is to be carried whenever `forgets` says so."""
        lines, digits, carry = [], "", 0
        for x, y in self.columns:
            if carry and forgets():
                carry = 0
            value = x + y + carry if self.operation == "+" else x - y - carry
            lines.append(f"{carry}{value:02d}" if self.operation == "+" else f"{carry}{value % 10}{int(value < 0)}")
            carry, digits = int(not 0 <= value < 10), str(value % 10) + digits
        top = str(carry) if self.operation == "+" else "0"
        return "\n".join([*lines, top + digits])


def problems(kind: Kind, count: int, rng: np.random.Generator) -> list[Problem]:
    """Distinct problems of a kind in random order; no answer is negative."""
    a, b = rng.integers(10 ** (kind.digits - 1), 10**kind.digits, (2, 40 * count))
    ends = 10 ** np.arange(1, kind.digits)[:, None]
    carried = a % ends + b % ends >= ends if kind.operation == "+" else a % ends < b % ends
    kept = (carried.sum(0) == kind.carries) & ((kind.operation == "+") | (a >= b))
    pairs = dict.fromkeys(zip(a[kept].tolist(), b[kept].tolist(), strict=True))
    return [Problem(x, y, kind.operation, kind.digits) for x, y in list(pairs)[:count]]


@dataclass(frozen=True)
class Split:
    """Problems that share none: to learn from by likelihood, to tune on, and to be judged on."""

    taught: list[tuple[Problem, str]]
    """With what a teacher wrote."""
    tuned: list[Problem]
    held: dict[str, list[Problem]]
    """By the name of their kind."""


def split(taught: int, tuned: int, held: int, rng: np.random.Generator, kinds: Sequence[Kind] = KINDS) -> Split:
    """`taught` problems to learn from in equal parts, `tuned` and `held` of each kind."""
    found = Split([], [], {})

    def lesson(problem: Problem, forget: float) -> tuple[Problem, str]:
        return problem, problem.worked(lambda: rng.random() < forget)

    for kind in kinds:
        own = problems(kind, held + tuned + taught // len(kinds), rng)
        found.held[kind.name] = own[:held]
        found.tuned.extend(own[held : held + tuned])
        found.taught.extend(lesson(problem, kind.forget) for problem in own[held + tuned :])
    return found


@dataclass(eq=False)
class Worked:
    """Solutions judged line by line: the share of lines that are right before the first that is not, in 0..1.

    `score` is what `whole` says of a finished solution, or that share where it is None. `score_prefixes` is the share
    that an unfinished solution has reached: a potential for credit by differences.
    """

    solutions: Mapping[str, str]
    """By prompt."""
    whole: Reward | None = None
    name: str = "worked"
    report: dict[str, Any] = field(default_factory=dict)

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores (n,) float32."""
        if self.whole is not None:
            return self.whole.score(prompts, completions)
        return self._shares(prompts, [completion_text(text) + "\n" for text in completions])

    def score_prefixes(self, prompts: Sequence[Prompt], prefixes: Sequence[Completion]) -> np.ndarray:
        """Scores (n,) float32; a line counts once it is closed."""
        return self._shares(prompts, [completion_text(text) for text in prefixes])

    def _shares(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> np.ndarray:
        shares = np.zeros(len(texts), np.float32)
        for row, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
            known = self.solutions[prompt_text(prompt)].split("\n")
            said = text.split("\n")[:-1]
            right = [a == b for a, b in zip(said, known, strict=False)]
            shares[row] = (right.index(False) if False in right else len(right)) / len(known)
        return shares


def model(folder: Path, *, hidden: int = 96, layers: int = 2, seed: int = 0) -> None:
    """Write a Llama with random weights that reads characters; it has 265,000 weights at the sizes given."""
    from tacit.lab.speaker import Size, untaught

    characters = 2 + 256  # the end, the padding, and every byte
    policy = untaught(["0"], seed=seed, size=Size(hidden=hidden, layers=layers, vocabulary=characters, spread=0.1))
    policy.tokenizer.chat_template = None
    policy.save(folder)


def write(
    folder: str | Path,
    *,
    taught: int = 8_400,
    tuned: int = 30,
    held: int = 40,
    seed: int = 0,
    kinds: Sequence[Kind] = KINDS,
    hidden: int = 96,
    layers: int = 2,
) -> Split:
    """The files of an experiment: a model that knows nothing, what it is taught, tuned on and judged on.

    `base` is the model; `taught.jsonl` has solutions to learn from, `problems.jsonl` (and `solutions.jsonl`) what to
    tune on, `held.jsonl` problems apart from both. Half of what is taught stands under the instruction `right`, so that
    the model knows instructions.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, 11])
    found = split(taught, tuned, held, rng, kinds)
    model(place / "base", hidden=hidden, layers=layers, seed=seed)
    order = rng.permutation(len(found.taught))
    lessons = [
        {"prompt": ("right\n" if i % 2 else "") + found.taught[i][0].prompt, "completion": found.taught[i][1]}
        for i in order.tolist()
    ]
    write_rows(place / "taught.jsonl", lessons)
    write_rows(place / "problems.jsonl", [{"prompt": p.prompt, "answer": p.answer} for p in found.tuned])
    write_rows(place / "solutions.jsonl", [{"prompt": p.prompt, "completion": p.solution} for p in found.tuned])
    every = [p for own in found.held.values() for p in own]
    write_rows(place / "held.jsonl", [{"prompt": p.prompt, "answer": p.answer} for p in every])
    return found


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
