"""Tools for rewards that are mostly zero: what to ask, where to start, what failures teach, and what is new.

| tool | what it does | source |
|---|---|---|
| `Curriculum` | asks prompts whose success is uncertain more often | Florensa et al. 2018; p (1 - p) as in 2504.03380 |
| `ReverseCurriculum` | begins from a solution's last part, and moves the start back | Florensa 2017; R3, 2402.05808 |
| `relabelled` | teaches an answer to the instruction that it did satisfy | HIR, Zhang et al. 2023, 2302.05206 |
| `CountBonus` | weight / sqrt(visits of the answer's hash) | #Exploration, Tang et al. 2017, 1611.04717 |
| `NoveltyBonus` | weight times a predictor's error on random features | RND, Burda et al. 2018, 1810.12894 |

Demonstrations mixed into the batch are `supervised.Demonstrations`. A bonus changes what is optimal while it lasts;
it fades as answers repeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from tacit.conversation import Prompt, texts
from tacit.errors import TacitError
from tacit.features import Encoder
from tacit.tuning.loop import State


class Curriculum:
    """Prompts drawn without replacement in a round, with weight p (1 - p) + floor for a success rate p.

    p (1 - p) is the variance of a right-or-wrong reward, and so the size of the policy gradient that a prompt can give.
    The rate of each prompt is a fading mean that starts at 1/2 with the weight of two answers; a response succeeds
    where its reward passes `threshold`.
    """

    def __init__(
        self, count: int, *, threshold: float = 0.5, floor: float = 0.02, memory: float = 0.9, seed: int = 0
    ) -> None:
        self.threshold, self.floor, self.memory, self.seed = threshold, floor, memory, seed
        self.successes = np.full(count, 1.0)
        self.answers = np.full(count, 2.0)
        self.drawn = 0

    @property
    def rates(self) -> np.ndarray:
        """Estimated success of each prompt, (prompts,)."""
        found: np.ndarray = self.successes / self.answers
        return found

    def weights(self) -> np.ndarray:
        """Chance of each prompt to be drawn first, (prompts,)."""
        raw = self.rates * (1 - self.rates) + self.floor
        found: np.ndarray = raw / raw.sum()
        return found

    def next(self, count: int) -> list[int]:
        """Prompts of a round; where there are fewer than asked for, all of them come before any comes again."""
        generator = np.random.default_rng((self.seed, self.drawn))
        self.drawn += 1
        found: list[int] = []
        while len(found) < count:
            # The order of exponential clocks is drawing without replacement (Efraimidis and Spirakis 2006).
            clocks = generator.exponential(size=len(self.answers)) / self.weights()
            found += np.argsort(clocks, kind="stable")[: count - len(found)].tolist()
        return found

    def learn(self, indices: Sequence[int], rewards: Tensor) -> None:
        """Take over rewards (P, n) of these prompts."""
        right = (rewards > self.threshold).double().sum(1).numpy()
        for index, successes in zip(indices, right, strict=True):
            self.successes[index] = self.memory * self.successes[index] + successes
            self.answers[index] = self.memory * self.answers[index] + rewards.shape[1]

    def state(self) -> State:
        """Counts and draws."""
        tensors = {"successes": torch.from_numpy(self.successes), "answers": torch.from_numpy(self.answers)}
        return State({"drawn": self.drawn}, tensors)

    def restore(self, state: State) -> None:
        """Take it over."""
        self.drawn = int(state.values["drawn"])
        self.successes = state.tensors["successes"].numpy().copy()
        self.answers = state.tensors["answers"].numpy().copy()


class ReverseCurriculum:
    """Answers that go on from the first part of a known solution; the part shrinks as they succeed.

    `solutions` holds a solution or None for each prompt. The share that is given begins at `start` and falls by `step`
    for a prompt whenever more than `target` of its responses pass `threshold`, down to nothing: then the task is whole.
    """

    def __init__(
        self, solutions: Sequence[str | None], *, threshold: float = 0.5, target: float = 0.5, start: float = 0.8,
        step: float = 0.2,
    ) -> None:  # fmt: skip
        if not any(solutions):
            raise TacitError("the reverse curriculum needs solutions to its prompts. Give --demonstrations for them")
        self.solutions, self.threshold, self.target, self.step = list(solutions), threshold, target, step
        self.shares = np.array([start if solution else 0.0 for solution in solutions])

    def prefix(self, index: int) -> str:
        """The part of the solution that is given, cut at a word."""
        solution = self.solutions[index] or ""
        cut = round(len(solution) * float(self.shares[index]))
        while 0 < cut < len(solution) and not solution[cut - 1].isspace():
            cut -= 1
        return solution[:cut]

    def learn(self, indices: Sequence[int], rewards: Tensor) -> None:
        """Move the start of prompts that succeed back."""
        rates = (rewards > self.threshold).double().mean(1).numpy()
        for index, rate in zip(indices, rates, strict=True):
            if rate > self.target:
                self.shares[index] = max(0.0, self.shares[index] - self.step)

    def state(self) -> State:
        """Shares of all prompts."""
        return State({}, {"shares": torch.from_numpy(self.shares)})

    def restore(self, state: State) -> None:
        """Take it over."""
        self.shares = state.tensors["shares"].numpy().copy()


def relabelled(
    prompts: Sequence[Prompt], rewards: np.ndarray, instructions: Sequence[str], edges: Sequence[float]
) -> list[Prompt]:
    """Prompts with the instruction that their answers did satisfy in front of them, (B,).

    `instructions` go from the lowest reward to the highest, and `edges`, one fewer, part them: an answer with reward R
    gets instruction number sum(R > edges). Raises `TacitError` where their numbers do not fit, and for a prompt that is
    a list of messages.
    """
    if len(instructions) != len(edges) + 1 or len(instructions) < 2:
        raise TacitError(f"{len(instructions)} instructions need {len(instructions) - 1} edges (found {len(edges)})")
    level = (np.asarray(rewards)[:, None] > np.asarray(edges)[None]).sum(1)
    return [instructed(prompt, instructions[place]) for prompt, place in zip(prompts, level, strict=True)]


def instructed(prompt: Prompt, instruction: str) -> Prompt:
    """The prompt with an instruction in front."""
    if not isinstance(prompt, str):
        raise TacitError("hindsight instructions are put before prompts that are texts, not messages")
    return f"{instruction}\n{prompt}"


@dataclass
class CountBonus:
    """weight / sqrt(N(h)) with N the times that an answer's hash h was seen, this time included.

    The hash is the signs of `bits` random projections of the answer's feature vector (SimHash, Charikar 2002), so that
    like answers share their count; that of a prompt is not mixed with another's. Vectors are centred by the mean of the
    first answers seen, without which all signs would agree.
    """

    encoder: Encoder
    weight: float = 1.0
    bits: int = 16
    seed: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    centre: np.ndarray | None = None

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> np.ndarray:
        """The bonus of each answer (B,) float32; answers of one call count one after the other."""
        vectors = np.asarray(self.encoder.encode([("", texts("", text)[1]) for text in completions]), np.float64)
        if self.centre is None:
            self.centre = vectors.mean(0)
        axes = np.random.default_rng(self.seed).standard_normal((vectors.shape[1], self.bits))
        codes = ((vectors - self.centre) @ axes > 0) @ (1 << np.arange(self.bits))
        found = np.empty(len(codes), np.float32)
        for row, (prompt, code) in enumerate(zip(prompts, codes, strict=True)):
            key = f"{code:x} {texts(prompt, '')[0]}"
            self.counts[key] = self.counts.get(key, 0) + 1
            found[row] = self.weight / np.sqrt(self.counts[key])
        return found

    def state(self) -> State:
        """The counts, and the centre."""
        return State({"counts": self.counts}, {} if self.centre is None else {"centre": torch.from_numpy(self.centre)})

    def restore(self, state: State) -> None:
        """Take it over."""
        self.counts = {str(key): int(count) for key, count in state.values["counts"].items()}
        self.centre = state.tensors["centre"].numpy().copy() if "centre" in state.tensors else None


class NoveltyBonus:
    """Random network distillation: weight times the error with which a predictor knows random features of an answer.

    Target t(x) = tanh(A x + c) with random A and c of `width` outputs; the predictor is the ridge regression of t on
    tanh(B x + d), another random layer, over all answers seen so far: what was seen often is known. Errors are divided
    by their running mean, so that the bonus begins near `weight` and falls.
    """

    def __init__(
        self, encoder: Encoder, weight: float = 1.0, *, width: int = 64, ridge: float = 1.0, seed: int = 0
    ) -> None:
        self.encoder, self.weight, self.ridge, self.seed, self.width = encoder, weight, ridge, seed, width
        self.gram = np.zeros((width, width))
        self.cross = np.zeros((width, width))
        self.scale, self.seen = 0.0, 0

    def _layers(self, dim: int) -> list[tuple[np.ndarray, np.ndarray]]:
        drawn = np.random.default_rng(self.seed)
        return [(drawn.standard_normal((dim, self.width)), drawn.standard_normal(self.width)) for _ in range(2)]

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> np.ndarray:
        """The bonus of each answer (B,) float32, by what was known before this call."""
        pairs = [texts(prompt, text) for prompt, text in zip(prompts, completions, strict=True)]
        vectors = np.asarray(self.encoder.encode(pairs), np.float64)
        target, given = (np.tanh(vectors @ a + c) for a, c in self._layers(vectors.shape[1]))
        weights = np.linalg.solve(self.gram + self.ridge * np.eye(self.width), self.cross)
        errors = np.square(given @ weights - target).mean(1)
        self.gram += given.T @ given
        self.cross += given.T @ target
        self.scale = (self.scale * self.seen + errors.sum()) / (self.seen + len(errors))
        self.seen += len(errors)
        return np.asarray(self.weight * errors / max(self.scale, 1e-12), np.float32)

    def state(self) -> State:
        """Sums of products, the scale and how many were seen."""
        tensors = {"gram": torch.from_numpy(self.gram), "cross": torch.from_numpy(self.cross)}
        return State({"scale": self.scale, "seen": self.seen}, tensors)

    def restore(self, state: State) -> None:
        """Take it over."""
        self.gram, self.cross = (state.tensors[name].numpy().copy() for name in ("gram", "cross"))
        self.scale, self.seen = float(state.values["scale"]), int(state.values["seen"])
