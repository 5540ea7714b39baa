"""The reward that a discriminator and a divergence induce, as any other reward: scored, saved, audited, tuned on.

    r(x, y) = (reward_f(h(x, y)) - offset) / scale,    h = log rho_demo / rho_pi, clipped,

with `reward_f` of `divergences` and an affine normalisation that no policy can tell from none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from tacit.conversation import Completion, Prompt, completion_text, texts
from tacit.demonstrations.divergences import Kind, divergence
from tacit.errors import ArtefactError
from tacit.features import Encoder, FeatureStore
from tacit.models.checkpoint import Parts, token_ids
from tacit.rewards import heads
from tacit.rewards.chat import TextRule, chat_parts
from tacit.rewards.heads import Parameters
from tacit.rewards.inputs import require_rows
from tacit.rewards.language_model import LanguageModelReward
from tacit.rewards.saved_encoder import encoder_config, encoder_of
from tacit.rewards.saving import open_reward, save_reward

_INSIDE = "log_ratio"


class _Shaped:
    """From logits to a reward, for whatever gives the logits."""

    divergence: str
    alpha: float
    kind: Kind
    clip: float
    offset: float
    scale: float

    def __post_init__(self) -> None:
        self._divergence = divergence(self.divergence, alpha=self.alpha)
        self._divergence.reward(np.zeros(1), self.kind, clip=self.clip)  # wrong options show now

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores (n,) float32."""
        return self.valued(self.logits(prompts, completions))

    def logits(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """h (n,) float64, not clipped: the discriminator's log-odds that an answer is a demonstration."""
        raise NotImplementedError

    def raw(self, logits: np.ndarray) -> np.ndarray:
        """The divergence's reward of logits, before it is normalised."""
        return np.asarray(self._divergence.reward(logits, self.kind, clip=self.clip))

    def valued(self, logits: np.ndarray) -> np.ndarray:
        """Scores (n,) float32 of logits (n,)."""
        return np.asarray((self.raw(logits) - self.offset) / self.scale, np.float32)

    def _config(self) -> dict[str, Any]:
        shape = {"divergence": self.divergence, "alpha": self.alpha, "induced": self.kind, "clip": self.clip}
        return {**shape, "offset": self.offset, "scale": self.scale}

    def _meaning(self) -> str:
        return (
            f"Higher is more like the demonstrations, in the measure of {self.divergence}, where it was learnt:"
            " near the answers of the policy that it was tuned against."
        )


@dataclass(eq=False)
class InducedReward(_Shaped):
    """The logit of a discriminator on text features through a divergence. Satisfies `Reward` and `Saved`."""

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

    def logits(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """h (n,) float64, not clipped: the discriminator's log-odds that an answer is a demonstration."""
        require_rows(prompts, completions)
        if not len(prompts):
            return np.zeros(0)
        pairs = [texts(p, c) for p, c in zip(prompts, completions, strict=True)]
        features = FeatureStore(self.encoder, self.cache).features(pairs)
        found: np.ndarray = heads.score_in_chunks(self.parameters, features).mean(0).astype(np.float64)
        return found

    def save(self, folder: str | Path) -> None:
        """Write reward.json, head.safetensors and a model card, atomically."""
        save_reward(
            folder,
            self.TYPE,
            self.name,
            config=encoder_config(self.encoder) | self._config(),
            tensors=self.parameters,
            report=self.report,
            meaning=self._meaning(),
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


class LogRatio(Protocol):
    """What gives h as its score and saves itself: a discriminator in training, or a `LanguageModelReward`."""

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """h (n,) float32."""
        ...

    def save(self, folder: str | Path) -> None:
        """Write a `LanguageModelReward` whose score is h."""
        ...


@dataclass(eq=False)
class InducedLanguageReward(_Shaped):
    """The logit of a language model through a divergence. Satisfies `Reward` and `Saved`.

    The folder `log_ratio` inside a saved one is a `LanguageModelReward` of its own, whose score is h.
    """

    TYPE: ClassVar[str] = "induced_language_model"

    inner: LogRatio
    divergence: str = "reverse_kl"
    alpha: float = 0.5
    kind: Kind = "formal"
    clip: float = 10.0
    offset: float = 0.0
    scale: float = 1.0
    name: str = "induced"
    report: dict[str, Any] = field(default_factory=dict)

    def logits(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """h (n,) float64, not clipped."""
        return np.asarray(self.inner.score(prompts, completions), np.float64)

    def save(self, folder: str | Path) -> None:
        """Write reward.json, a model card and the language model inside, atomically."""
        save_reward(
            folder,
            self.TYPE,
            self.name,
            config=self._config(),
            parts={_INSIDE: self.inner},
            report=self.report,
            meaning=self._meaning(),
        )

    @classmethod
    def load(cls, folder: str | Path, *, cache: str | Path | None = None) -> InducedLanguageReward:
        """Read a saved folder; raises `ArtefactError` where it is damaged. Nothing is cached."""
        manifest, _ = open_reward(folder, cls.TYPE)
        return cls(
            LanguageModelReward.load(Path(folder) / _INSIDE), manifest["divergence"], manifest["alpha"],
            manifest["induced"], manifest["clip"], manifest["offset"], manifest["scale"], manifest["name"],
            manifest["report"],
        )  # fmt: skip


class InducedLanguagePrefixReward(InducedLanguageReward):
    """One whose discriminator has judged every beginning of an answer. Satisfies `PrefixLevel`."""

    TYPE: ClassVar[str] = "induced_language_model_prefix"

    def score_prefixes(self, prompts: Sequence[Prompt], prefixes: Sequence[Completion]) -> np.ndarray:
        """Scores (n,) float32 of unfinished completions, which nothing closes."""
        inner: Any = self.inner
        if not isinstance(inner, LanguageModelReward):
            return self.valued(inner.score_prefixes(prompts, prefixes))
        ids = unfinished_ids(inner.rule, inner.tokenizer, prompts, prefixes)
        return self.valued(inner.logits_of(ids)[:, 0].astype(np.float64) + inner.offset)


def unfinished_ids(
    rule: TextRule, wrapper: Any, prompts: Sequence[Prompt], prefixes: Sequence[Completion]
) -> list[list[int]]:
    """Token ids of exchanges that break off: by the rule, without what closes an answer. None is without ids."""
    require_rows(prompts, prefixes)
    if rule.template == "chat":
        parts = [
            _open(chat_parts(wrapper, p, c, rule.chat_template), c) for p, c in zip(prompts, prefixes, strict=True)
        ]
        keep = {wrapper.bos_token_id} - {None}
        rows = token_ids(wrapper.backend_tokenizer, parts, rule.max_length, special=False, keep=keep)
    else:
        rows = replace(rule, eos=False).token_ids(wrapper, prompts, prefixes)
    end = wrapper.eos_token_id
    return [row[:-1] if len(row) > 1 and row[-1] == end else row or [wrapper.pad_token_id or 0] for row in rows]


def _open(parts: Parts, completion: Completion) -> Parts:
    return Parts(parts.lead, parts.completion if completion_text(completion).strip() else "")
