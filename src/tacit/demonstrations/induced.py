"""The reward that a discriminator and a divergence induce, as any other reward: scored, saved, audited, tuned on.

    r(x, y) = (reward_f(h(x, y)) - offset) / scale,    h = log rho_demo / rho_pi, clipped,

with `reward_f` of `divergences` and an affine normalisation that no policy can tell from none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tacit.conversation import Completion, Prompt, texts
from tacit.demonstrations.divergences import Kind, divergence
from tacit.errors import ArtefactError, TacitError
from tacit.features import Encoder, FeatureStore
from tacit.rewards import heads
from tacit.rewards.heads import Parameters
from tacit.rewards.saving import encoder_config, encoder_of, open_reward, save_reward


@dataclass(eq=False)
class InducedReward:
    """A discriminator's logit through a divergence. Satisfies `Reward` and `Saved`."""

    TYPE: ClassVar[str] = "induced"

    encoder: Encoder
    parameters: Parameters
    divergence: str = "reverse_kl"
    alpha: float = 0.5
    kind: Kind = "formal"
    clip: float = 10.0
    offset: float = 0.0
    scale: float = 1.0
    name: str = "induced"
    report: dict[str, Any] = field(default_factory=dict)
    cache: Path | None = None

    def __post_init__(self) -> None:
        self._divergence = divergence(self.divergence, alpha=self.alpha)
        self._divergence.reward(np.zeros(1), self.kind, clip=self.clip)  # wrong options show now

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores (n,) float32."""
        values = (self.raw(self.logits(prompts, completions)) - self.offset) / self.scale
        return np.asarray(values, np.float32)

    def logits(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """h (n,) float64, not clipped: the discriminator's log-odds that an answer is a demonstration."""
        if len(prompts) != len(completions):
            raise TacitError(f"{len(prompts)} prompts for {len(completions)} completions: give one prompt each")
        if not len(prompts):
            return np.zeros(0)
        pairs = [texts(p, c) for p, c in zip(prompts, completions, strict=True)]
        features = FeatureStore(self.encoder, self.cache).features(pairs)
        found: np.ndarray = heads.score_in_chunks(self.parameters, features).mean(0).astype(np.float64)
        return found

    def raw(self, logits: np.ndarray) -> np.ndarray:
        """The divergence's reward of logits, before it is normalised."""
        return np.asarray(self._divergence.reward(logits, self.kind, clip=self.clip))

    def save(self, folder: str | Path) -> None:
        """Write reward.json, head.safetensors and a model card, atomically."""
        save_reward(
            folder,
            self.TYPE,
            self.name,
            config=encoder_config(self.encoder)
            | {"divergence": self.divergence, "alpha": self.alpha, "induced": self.kind, "clip": self.clip}
            | {"offset": self.offset, "scale": self.scale},
            tensors=self.parameters,
            report=self.report,
            meaning=f"Higher is more like the demonstrations, in the measure of {self.divergence}, where it was learnt:"
            " near the answers of the policy that it was tuned against.",
        )

    @classmethod
    def load(cls, folder: str | Path, *, cache: str | Path | None = None) -> InducedReward:
        """Read a saved folder; raises `ArtefactError` where it is damaged or its encoder has changed."""
        manifest, tensors = open_reward(folder, cls.TYPE)
        encoder = encoder_of(manifest, folder)
        if "linear" not in tensors or tensors["linear"].shape[-1] != encoder.dim:
            raise ArtefactError(f"{folder} holds no head for {encoder.dim} features. Fit the reward again")
        return cls(
            encoder, tensors, manifest["divergence"], manifest["alpha"], manifest["induced"], manifest["clip"],
            manifest["offset"], manifest["scale"], manifest["name"], manifest["report"],
            None if cache is None else Path(cache),
        )  # fmt: skip


class InducedPrefixReward(InducedReward):
    """One whose discriminator has seen unfinished answers as well. Satisfies `PrefixLevel`."""

    TYPE: ClassVar[str] = "induced_prefix"

    def score_prefixes(self, prompts: Sequence[Prompt], prefixes: Sequence[Completion]) -> np.ndarray:
        """Scores (n,) float32 of unfinished completions."""
        return self.score(prompts, prefixes)
