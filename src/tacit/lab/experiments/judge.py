"""`tacit lab judge`: what calibration, both orders and votes are worth, with a judge whose faults are known.

The judge is simulated behind the same interface as an endpoint: it sees the true reward r of the built-in world through
noise, and it is too sure of itself. Its log-odds for one answer are 3 (r / scale + e), e being normal with standard
deviation .5 and a function of the text; for two answers 3 (difference of the two) + bias in favour of answer A. People
choose with log-odds r / scale. Tested on 1,000 choices that nothing was fitted on.

- `calibration`: yes_no on n choices: NLL of raw and calibrated scores; beside them the truth's own (`nll_truth`, no
  reward can do better), that of the best slope for this judge, found on the test itself (`nll_best`), and of a coin.
- `order`: pairwise with a bias: accuracy when one order is asked, drawn by chance for each pair, and when both are.
- `votes`: rank correlation with r of the share of k votes, beside the probabilities themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tacit.evidence.records import Comparison
from tacit.lab.seeds import repeat
from tacit.lab.worlds import World
from tacit.rewards.judge import Judge, JudgeSettings, PairwiseJudge
from tacit.rewards.judge.calibration import calibrate, nll
from tacit.rewards.judge.calls import Call, Desk, Reply
from tacit.rewards.judge.questions import Messages

SIZES = (10, 30, 100, 300)
BIASES = (0.0, 1.0, 3.0)
VOTES = (1, 4, 16)
SURE = 3.0
NOISE = 0.5
TEST = 1000
_MARK = "\x1f"


def run(*, seeds: int = 10, seed: int = 0) -> dict[str, Any]:
    """The table, means and intervals over `seeds`."""
    rows = repeat(_once, seeds, seed, "judge")
    return {"experiment": "judge", "seeds": seeds, "sure": SURE, "noise": NOISE, "rows": rows}


@dataclass
class SimulatedJudge:
    """A `Backend` that knows the true reward of a world, with noise, bias and too much confidence."""

    seed: int
    bias: float = 0.0
    world: World = field(default_factory=World)

    @property
    def identity(self) -> dict[str, Any]:
        """Seed and bias."""
        return {"seed": self.seed, "bias": self.bias}

    def answers(self, calls: Sequence[Call]) -> Generator[tuple[int, Reply], None, None]:
        """Replies in order."""
        asked = [call.messages[-1][1].split(_MARK)[1:-1] for call in calls]  # prompt, answer(s)
        for number, (call, odds) in enumerate(zip(calls, self._odds(asked), strict=True)):
            if call.labels is None:
                yes = _uniform(f"{call.seed} {asked[number]} {self.seed}") < 1 / (1 + np.exp(-odds))
                yield number, Reply("Yes" if yes else "No")
            else:
                first, second = call.labels
                yield (
                    number,
                    Reply(first, {first: -float(np.logaddexp(0, -odds)), second: -float(np.logaddexp(0, odds))}),
                )

    def excess(self, messages: Messages, reserve: int) -> int:
        """Nothing is too long."""
        return 0

    def cut(self, text: str, excess: int, *, end: bool) -> tuple[str, int]:
        """Nothing is cut."""
        return text, 0

    def _odds(self, asked: Sequence[Sequence[str]]) -> np.ndarray:
        felt = [self._felt([texts[0] for texts in asked], [texts[side] for texts in asked]) for side in (1, -1)]
        return SURE * (felt[0] - felt[1]) + self.bias if asked and len(asked[0]) == 3 else SURE * felt[0]

    def _felt(self, prompts: Sequence[str], completions: Sequence[str]) -> np.ndarray:
        reward = self.world.true_reward(prompts, completions) / self.world.scale
        noise = [_normal(f"{self.seed} {p} {c}") for p, c in zip(prompts, completions, strict=True)]
        return np.asarray(reward + NOISE * np.array(noise))


def judge_of(seed: int, *, bias: float = 0.0, **settings: Any) -> Judge:
    """A judge of the world's answers that asks the simulated one."""
    answers = "{first}\x1f{second}" if settings.get("mode") == "pairwise" else "{completion}"
    chosen = JudgeSettings(model="simulated", template=f"\x1f{{prompt}}\x1f{answers}\x1f", **settings)
    kind = PairwiseJudge if chosen.mode == "pairwise" else Judge
    return kind(chosen, Desk(SimulatedJudge(seed, bias)))


def _once(seed: int) -> list[dict[str, Any]]:
    world, rng = World(), np.random.default_rng(seed)
    votes = [Comparison(**row) for row in world.compare(TEST + max(SIZES), rng)]
    test, train = votes[:TEST], votes[TEST:]
    return [*_calibration(seed, train, test, world), *_orders(seed, test, rng), *_votes(seed, test, world)]


def _calibration(
    seed: int, train: Sequence[Comparison], test: Sequence[Comparison], world: World
) -> list[dict[str, Any]]:
    judge = judge_of(seed)
    learn, check = _differences(judge, train), _differences(judge, test)
    truth = np.array([row.gold_chosen - row.gold_rejected for row in test]) / world.scale  # type: ignore[attr-defined]
    ones = np.ones(len(check))
    best = calibrate("comparison", check, ones, ones)
    rows = []
    for n in SIZES:
        found = calibrate("comparison", learn[:n], np.ones(n), np.ones(n))
        rows.append(
            {
                "part": "calibration",
                "n": str(n),
                "slope": found.slope,
                "nll_raw": nll(check, ones, ones),
                "nll": nll(found(check), ones, ones),
                "nll_best": nll(best(check), ones, ones),
                "nll_truth": nll(truth, ones, ones),
                "nll_coin": float(np.log(2)),
            }
        )
    return rows


def _differences(judge: Judge, votes: Sequence[Comparison]) -> np.ndarray:
    """Raw score differences (n,), chosen less rejected."""
    prompts = [row.prompt for row in votes]
    chosen, rejected = [row.chosen for row in votes], [row.rejected for row in votes]
    return np.asarray(judge.raw_scores(prompts, chosen) - judge.raw_scores(prompts, rejected))


def _orders(seed: int, test: Sequence[Comparison], rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for bias in BIASES:
        judge = judge_of(seed, bias=SURE * bias, mode="pairwise")
        assert isinstance(judge, PairwiseJudge)
        prompts = [row.prompt for row in test]
        forth, back = judge.both_orders(prompts, [row.chosen for row in test], [row.rejected for row in test])
        one = np.where(rng.random(len(test)) < 0.5, forth, -back)
        rows.append(
            {
                "part": "order",
                "bias": f"{bias:g}",
                "accuracy_one_order": float((one > 0).mean()),
                "accuracy_both": float((forth - back > 0).mean()),
            }
        )
    return rows


def _votes(seed: int, test: Sequence[Comparison], world: World) -> list[dict[str, Any]]:
    from scipy.stats import spearmanr

    prompts, completions = [row.prompt for row in test], [row.chosen for row in test]
    truth = world.true_reward(prompts, completions)
    judges = {f"{k} votes": judge_of(seed, read="text", samples=k, temperature=1.0) for k in VOTES}
    judges["probabilities"] = judge_of(seed)
    return [
        {"part": "votes", "read": name, "spearman": float(spearmanr(judge.score(prompts, completions), truth)[0])}
        for name, judge in judges.items()
    ]


def _uniform(text: str) -> float:
    return (int.from_bytes(_digest(text)[:7], "big") + 0.5) / 2**56


def _normal(text: str) -> float:
    """A standard normal number that is a function of the text (Box & Muller 1958)."""
    digest = _digest(text)
    u, v = ((int.from_bytes(digest[i : i + 7], "big") + 0.5) / 2**56 for i in (0, 7))
    return float(np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v))


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
