"""A reward on fixed text features: an encoder and a small head with K members."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tacit.conversation import Completion, Prompt, texts
from tacit.errors import ArtefactError, TacitError
from tacit.evidence.records import Record
from tacit.features import Encoder, FeatureStore, load_encoder
from tacit.rewards import heads
from tacit.rewards.examples import collect
from tacit.rewards.fitting import fit as fit_head
from tacit.rewards.heads import Parameters
from tacit.rewards.objectives import objective_for
from tacit.rewards.options import FitOptions
from tacit.rewards.saving import encoder_config, encoder_of, open_reward, save_reward


@dataclass(eq=False)
class FeatureReward:
    """r(x, y) = mean over members of head_k(encoder(x, y)).

    Scores are calibrated log-odds where the evidence allows it: P(a preferred to b) = sigma(score(a) - score(b)).
    Satisfies `Reward`, `Uncertain` and `Saved`.
    """

    encoder: Encoder
    parameters: Parameters
    name: str = "feature"
    report: dict[str, Any] = field(default_factory=dict)
    """How it was fitted: objective, options, sizes, held-out loss, temperature, seconds."""
    cache: Path | None = None
    """Folder of encoded texts, shared with the fit; None encodes what is asked and keeps nothing."""

    @property
    def members(self) -> int:
        """K, the number of members."""
        return len(self.parameters["bias"])

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores (n,) float32; raises `TacitError` where there are not as many prompts as completions."""
        result: np.ndarray = self.score_members(prompts, completions).mean(0)
        return result

    def score_members(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores of each member, (K, n) float32."""
        if len(prompts) != len(completions):
            raise TacitError(f"{len(prompts)} prompts for {len(completions)} completions: give one prompt each")
        if len(prompts) == 0:
            return np.zeros((self.members, 0), dtype=np.float32)
        pairs = [texts(p, c) for p, c in zip(prompts, completions, strict=True)]
        return self.score_features(FeatureStore(self.encoder, self.cache).features(pairs))

    def score_features(self, features: np.ndarray) -> np.ndarray:
        """Scores of each member, (K, n) float32, from vectors (n, d) of this reward's encoder; any float dtype."""
        if features.ndim != 2 or features.shape[1] != self.parameters["linear"].shape[1]:
            raise TacitError(
                f"features of shape {features.shape}, this reward takes (n, {self.parameters['linear'].shape[1]})"
            )
        return heads.score_in_chunks(self.parameters, features)

    def save(self, folder: str | Path) -> None:
        """Write reward.json, head.safetensors and a model card, atomically; a former reward there is replaced."""
        odds = "Score differences are log-odds: P(a preferred to b) = sigma(score(a) - score(b))."
        save_reward(
            folder,
            "feature",
            self.name,
            config=encoder_config(self.encoder) | {"members": self.members},
            tensors=self.parameters,
            report=self.report,
            meaning=odds if self.report.get("kind") in ("comparison", "ranking") else "Higher is better.",
        )

    @classmethod
    def load(cls, folder: str | Path, *, cache: str | Path | None = None) -> FeatureReward:
        """Read a saved folder.

        Raises `ArtefactError` where it is missing, damaged or newer, or where its encoder is not the one it was fitted
        on any more (other weights or another version), since the scores would drift.
        """
        manifest, parameters = open_reward(folder, "feature")
        if "bias" not in parameters:
            raise ArtefactError(f"{folder} holds no head. Fit the reward again")
        encoder = encoder_of(manifest, folder)
        return cls(encoder, parameters, manifest["name"], manifest["report"], None if cache is None else Path(cache))


def fit(
    evidence: Iterable[Record],
    *,
    encoder: str | Encoder = "auto",
    cache: str | Path | None = None,
    name: str = "feature",
    **options: Any,
) -> FeatureReward:
    """Learn a reward from comparisons, rankings, outcomes or ratings.

    `options` are the fields of `FitOptions`. `cache` is a folder for encoded texts: a second fit on the same texts
    encodes nothing, and a fit that was killed goes on where it stopped.
    """
    start = time.perf_counter()
    chosen = _options(options)
    examples = collect(evidence, getattr(evidence, "source", "memory"))
    objective_for(examples.kind, chosen.objective)  # before an hour of encoding, not after
    encoder = load_encoder(encoder) if isinstance(encoder, str) else encoder
    features = FeatureStore(encoder, cache).features(examples.texts)
    fitted = fit_head(features, examples, chosen)
    report = {
        "kind": examples.kind,
        "objective": fitted.objective.name,
        "options": asdict(chosen) | {"hidden": list(chosen.hidden)},
        "n_train": len(examples),
        "n_responses": len(examples.texts),
        **fitted.report,
        "seconds": time.perf_counter() - start,
    }
    return FeatureReward(encoder, fitted.parameters, name, report, None if cache is None else Path(cache))


def _options(options: dict[str, Any]) -> FitOptions:
    unknown = options.keys() - FitOptions.__dataclass_fields__.keys()
    if unknown:
        raise TacitError(
            f"no fit option `{sorted(unknown)[0]}`. Choose from: {', '.join(FitOptions.__dataclass_fields__)}"
        )
    return FitOptions(**options)
