"""`check_reward`: the contract of `tacit.rewards.contract` made executable, in the manner of Gymnasium's checker."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tacit.conversation import Completion, Prompt
from tacit.rewards.contract import Comparing, Reward, Saved, Uncertain

TOLERANCE = 2e-5
"""Largest difference allowed between two scores of the same row, relative to the size of scores (`allowed`)."""

EXAMPLES: tuple[tuple[Prompt, Completion], ...] = (
    ("What is the capital of France?", "Paris."),
    ("What is the capital of France?", "I think that it may be Lyon, but please check this."),
    ("Write a haiku.", "An old silent pond\nA frog jumps into the pond\nSplash! Silence again."),
    ("", "A completion without a prompt."),
    ("A prompt without a completion.", ""),
    ("日本の首都は?", "東京です 🗼"),
    ("Repeat the word.", "word " * 4000),
    ("A long prompt. " * 2000, "A short answer."),
    ([{"role": "user", "content": "Hello"}], [{"role": "assistant", "content": "Hi, how can I help?"}]),
)


@dataclass(frozen=True)
class Finding:
    """One demand of the contract, whether it holds, and how to fix it where it does not."""

    demand: str
    ok: bool
    detail: str = ""
    mend: str = ""

    def __str__(self) -> str:
        return f"{'ok  ' if self.ok else 'FAIL'} {self.demand}" + ("" if self.ok else f": {self.detail}. {self.mend}")


def check_reward(
    reward: Reward, examples: Sequence[tuple[Prompt, Completion]] = EXAMPLES, *, new_process: bool = False
) -> list[Finding]:
    """Try every demand of the contract on `examples` and return one finding each; none raises.

    `new_process` also loads the saved reward in a fresh interpreter, which takes seconds.
    """
    prompts, completions = [p for p, _ in examples], [c for _, c in examples]
    findings: list[Finding] = []

    def demand(text: str, mend: str, test: Callable[[], str]) -> bool:
        try:
            detail = test()
        except Exception as error:
            detail = f"raised {type(error).__name__}: {error}"
        findings.append(Finding(text, not detail, detail, mend if detail else ""))
        return not detail

    def score(order: Sequence[int]) -> np.ndarray:
        return reward.score([prompts[i] for i in order], [completions[i] for i in order])

    every = list(range(len(examples)))
    shape_mend = "Return one float32 NumPy array of shape (n,)"
    if not demand("scores are a finite float32 array (n,)", shape_mend, lambda: _shape(score(every), len(every))):
        return findings
    base = score(every)
    demand("no rows give no scores", shape_mend, lambda: _shape(reward.score([], []), 0))
    demand(
        "scoring twice gives the same scores",
        "Switch dropout off and draw no random numbers while scoring",
        lambda: "" if np.array_equal(score(every), base) else _difference(score(every), base),
    )
    demand(
        "batch size does not matter",
        "Mask padding, pad on the right, and normalise nothing over the batch",
        lambda: _difference(np.concatenate([score([i]) for i in every]), base),
    )
    demand(
        "order does not matter",
        "Put scores back in the order of the rows after sorting by length",
        lambda: _difference(score(every[::-1])[::-1], base),
    )
    demand(
        "neighbours do not matter",
        "Score each row from its own text alone",
        lambda: _difference(score(every + every[:3] * 5)[: len(every)], base),
    )
    demand(
        "a conversation scores as the same two strings",
        "Render text with tacit.conversation",
        lambda: _conversation(reward, examples),
    )
    if isinstance(reward, Uncertain):
        members = reward.score_members(prompts, completions)
        demand(
            "the score is the mean of the members",
            "Return members of shape (members, n), before any pessimism",
            lambda: (
                f"members have shape {members.shape}"
                if members.ndim != 2 or members.shape[1] != len(every)
                else _difference(members.mean(0), base)
            ),
        )
    if isinstance(reward, Comparing):
        demand(
            "exchanging two completions changes the sign of their log-odds alone",
            "Return finite float32 log-odds (n,) that are antisymmetric by construction, as f(a, b) - f(b, a)",
            lambda: _comparing(reward, prompts, completions),
        )
    if isinstance(reward, Saved):
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "reward"
            mend = "Save every tensor and option that a score depends on"

            def reload() -> str:
                reward.save(folder)
                return _difference(type(reward).load(folder).score(prompts, completions), base)

            saved = demand("saving and loading keeps the scores", mend, reload)
            forbidden = [p.name for p in folder.rglob("*") if p.suffix in {".pkl", ".pickle", ".pt", ".bin", ".joblib"}]
            demand(
                "no pickle on disk",
                "Write JSON and safetensors",
                lambda: f"found {', '.join(forbidden)}" if forbidden else "",
            )
            if new_process and saved:
                demand("a new process gives the same scores", mend, lambda: _fresh(folder, examples, base))
    return findings


def allowed(scores: np.ndarray) -> np.ndarray:
    """How far scores (n,) may be from the same ones computed another way, (n,).

        TOLERANCE * max(|s_i|, min(20 m, max(m, 1))),    m = median |s|

    Float32 carries 24 bits: 2e-5 is 170 roundings of a number. A score near 0 may differ as much as others, since it is
    the sum of terms of their size. Terms may also be larger than what they add up to, as the constant of a reward is:
    20 times as large is allowed for, up to a unit of log-odds. Where all scores are small, small differences count.
    """
    size = np.abs(np.asarray(scores, np.float64))
    usual = float(np.median(size)) if size.size else 0.0
    return TOLERANCE * np.maximum(size, min(20 * usual, max(usual, 1.0)))


def _shape(scores: np.ndarray, n: int) -> str:
    if not isinstance(scores, np.ndarray):
        return f"got a {type(scores).__name__}"
    if scores.shape != (n,) or scores.dtype != np.float32:
        return f"got shape {scores.shape} and dtype {scores.dtype} for {n} rows"
    bad = np.flatnonzero(~np.isfinite(scores))
    return f"row {bad[0]} is {scores[bad[0]]}" if len(bad) else ""


def _conversation(reward: Reward, examples: Sequence[tuple[Prompt, Completion]]) -> str:
    """The first examples of two texts as messages, since a verifier knows no other prompts."""
    both = [(p, c) for p, c in examples if isinstance(p, str) and isinstance(c, str) and p][:2]
    asked = [[{"role": "user", "content": prompt}] for prompt, _ in both]
    said = [[{"role": "assistant", "content": completion}] for _, completion in both]
    return _difference(reward.score(asked, said), reward.score([p for p, _ in both], [c for _, c in both]))


def _comparing(reward: Comparing, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> str:
    others = [*completions[1:], *completions[:1]]
    odds = reward.compare(prompts, completions, others)
    bad = _shape(odds, len(prompts)) or _shape(reward.compare([], [], []), 0)
    return bad or _difference(-reward.compare(prompts, others, completions), odds)


def _difference(scores: np.ndarray, base: np.ndarray) -> str:
    change = np.abs(np.asarray(scores, np.float64) - base)
    over = np.flatnonzero(~(change <= allowed(base)))
    worst = over[np.nan_to_num(change[over], nan=np.inf).argmax()] if len(over) else 0
    return f"row {worst} differs by {change[worst]:.2g} from {base[worst]:.4g}" if len(over) else ""


_FRESH = """
import json, sys
import numpy as np
import tacit
examples = json.load(sys.stdin)
scores = tacit.load(sys.argv[1]).score([p for p, _ in examples], [c for _, c in examples])
print(json.dumps(scores.astype(float).tolist()))
"""


def _fresh(folder: Path, examples: Sequence[tuple[Prompt, Completion]], base: np.ndarray) -> str:
    import json

    done = subprocess.run(
        [sys.executable, "-c", _FRESH, str(folder)],
        input=json.dumps([list(e) for e in examples]),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return f"the new process failed: {done.stderr.strip().splitlines()[-1]}"
    return _difference(np.array(json.loads(done.stdout), dtype=np.float32), base)
