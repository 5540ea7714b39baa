"""Control rewards: what a reward that knows nothing, or the wrong thing, would reach.

Gains that a random, inverted, length or format reward reaches as well are not owed to the reward under test (Spurious
Rewards, 2025, found most of the gain of reinforcement learning on one model family with such rewards). "Format only" is
`Verifier(FormatCheck(answer=("boxed",)))`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from tacit.conversation import Completion, Prompt, completion_text, texts
from tacit.errors import ArtefactError, TacitError
from tacit.rewards.contract import Reward, Saved
from tacit.rewards.inputs import require_rows
from tacit.rewards.saving import open_reward, save_reward
from tacit.rewards.scoring import member_scores
from tacit.rewards.verifiers.checks import measure

_INNER = "of"


@dataclass(eq=False)
class RandomReward:
    """Uniform on [0, 1), from a hash of the prompt, the completion and a seed: the same text always scores the same."""

    seed: int = 0
    name: str = "random"

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores (n,) float32."""
        require_rows(prompts, completions)
        key = str(self.seed).encode()
        draws = bytearray()
        for pair in zip(prompts, completions, strict=True):
            prompt, completion = (text.encode("utf-8", "surrogatepass") for text in texts(*pair))
            body = b"%d:%b%b" % (len(prompt), prompt, completion)
            draws += blake2b(body, digest_size=8, key=key).digest()
        whole = np.frombuffer(bytes(draws), "<u8") >> np.uint64(40)  # 24 bits: exact in float32, below 1
        return whole.astype(np.float32) / np.float32(1 << 24)

    def save(self, folder: str | Path) -> None:
        """Write reward.json and a model card, atomically."""
        save_reward(folder, "random", self.name, config={"seed": self.seed}, meaning="A control: it means nothing.")

    @classmethod
    def load(cls, folder: str | Path, *, cache: str | Path | None = None) -> RandomReward:
        """Read a saved folder."""
        manifest, _ = open_reward(folder, "random")
        return cls(manifest["seed"], manifest["name"])


@dataclass(eq=False)
class LengthReward:
    """The length of the completion in words, characters or tokens-ish; with `shorter` its negative."""

    unit: str = "words"
    shorter: bool = False
    name: str = "length_control"

    def __post_init__(self) -> None:
        if self.unit not in ("words", "characters", "tokens"):
            raise TacitError(f"unit {self.unit!r}: give words, characters or tokens")

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores (n,) float32."""
        require_rows(prompts, completions)
        lengths = np.array([measure(completion_text(c), self.unit) for c in completions], dtype=np.float32)
        return -lengths if self.shorter else lengths

    def save(self, folder: str | Path) -> None:
        """Write reward.json and a model card, atomically."""
        config = {"unit": self.unit, "shorter": self.shorter}
        save_reward(
            folder, "length_control", self.name, config=config, meaning="A control: the length of the completion."
        )

    @classmethod
    def load(cls, folder: str | Path, *, cache: str | Path | None = None) -> LengthReward:
        """Read a saved folder."""
        manifest, _ = open_reward(folder, "length_control")
        return cls(manifest["unit"], manifest["shorter"], manifest["name"])


@dataclass(eq=False)
class InvertedReward:
    """-r(x, y) of another reward: what it takes for the worst is this one's best."""

    of: Reward
    name: str = "inverted"

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores (n,) float32."""
        return -self.of.score(prompts, completions)

    def score_members(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores of the members of the other reward, (members, n); one member where it has none."""
        mean, members = member_scores(self.of, prompts, completions)
        return -(mean[None] if members is None else members)

    def save(self, folder: str | Path) -> None:
        """Write reward.json, a model card and the other reward in a folder inside, atomically."""
        if not isinstance(self.of, Saved):
            raise ArtefactError(f"reward `{self.of.name}` cannot be saved, so neither can its inverse")
        save_reward(
            folder,
            "inverted",
            self.name,
            config={},
            parts={_INNER: self.of},
            meaning=f"A control: the negative of reward `{self.of.name}`.",
        )

    @classmethod
    def load(cls, folder: str | Path, *, cache: str | Path | None = None) -> InvertedReward:
        """Read a saved folder."""
        from tacit.rewards import load

        manifest, _ = open_reward(folder, "inverted")
        return cls(load(Path(folder) / _INNER, cache=cache), manifest["name"])
