"""A reward on fixed text features: an encoder and a small head with K members."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from tacit.conversation import Completion, Prompt
from tacit.errors import ArtefactError, EvidenceError, TacitError, flags
from tacit.evidence.augment import WARNING, augment
from tacit.evidence.records import Comparison, Record
from tacit.features import Encoder, FeatureStore, load_encoder
from tacit.rewards import heads
from tacit.rewards.encoding import encode
from tacit.rewards.examples import Examples, collect
from tacit.rewards.fitting import fit as fit_head
from tacit.rewards.heads import Parameters
from tacit.rewards.laplace import Posterior
from tacit.rewards.objectives import objective_for
from tacit.rewards.options import FitOptions, options_of, require_smoothing
from tacit.rewards.origin import Origin
from tacit.rewards.robust import robust_objective
from tacit.rewards.saved_encoder import encoder_config, encoder_of
from tacit.rewards.saving import open_reward, read_origin, save_reward


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
    posterior: Posterior | None = None
    """Of the last layer, where the fit was asked for it (`laplace`)."""
    origin: Origin | None = None
    """Small statistics of the features it was fitted on; None where they are not known."""

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
        return self.score_features(self._features(prompts, completions))

    def score_features(self, features: np.ndarray) -> np.ndarray:
        """Scores of each member, (K, n) float32, from vectors (n, d) of this reward's encoder; any float dtype."""
        if features.ndim != 2 or features.shape[1] != self.parameters["linear"].shape[1]:
            raise TacitError(
                f"features of shape {features.shape}, this reward takes (n, {self.parameters['linear'].shape[1]})"
            )
        return heads.score_in_chunks(self.parameters, features)

    @property
    def doubts(self) -> bool:
        """Whether there is a posterior of the last layer."""
        return self.posterior is not None

    def score_deviation(
        self, prompts: Sequence[Prompt], completions: Sequence[Completion]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores and their posterior standard deviations, each (n,) float32.

        The deviation is relative to the mean of the fitted responses where only differences of scores mean anything.
        Raises `TacitError` where the fit kept no posterior.
        """
        features = self._features(prompts, completions)
        deviation = self._posterior().deviations(self.parameters, features)
        return self.score_features(features).mean(0), deviation

    def difference_deviation(
        self, prompts: Sequence[Prompt], first: Sequence[Completion], second: Sequence[Completion]
    ) -> tuple[np.ndarray, np.ndarray]:
        """score(first) - score(second) under the same prompts, and its posterior standard deviation, each (n,)."""
        a, b = self._features(prompts, first), self._features(prompts, second)
        deviation = self._posterior().deviations(self.parameters, a, b)
        return self.score_features(a).mean(0) - self.score_features(b).mean(0), deviation

    def _posterior(self) -> Posterior:
        if self.posterior is None:
            raise TacitError(f"reward `{self.name}` has no posterior of its last layer. Fit it again with --laplace")
        return self.posterior

    def _features(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        return encode(self.encoder, self.cache, prompts, completions)

    def save(self, folder: str | Path) -> None:
        """Write reward.json, head.safetensors and a model card, atomically; a former reward there is replaced."""
        odds = "Score differences are log-odds: P(a preferred to b) = sigma(score(a) - score(b))."
        save_reward(
            folder,
            "feature",
            self.name,
            config=encoder_config(self.encoder) | {"members": self.members},
            tensors=self.parameters | (self.posterior.tensors() if self.posterior else {}),
            report=self.report,
            origin=self.origin,
            meaning=odds if self.report.get("kind") in ("comparison", "ranking") else "Higher is better.",
        )

    @classmethod
    def load(cls, folder: str | Path, *, cache: str | Path | None = None) -> FeatureReward:
        """Read a saved folder.

        Raises `ArtefactError` where it is missing, damaged or newer, or where its encoder is not the one it was fitted
        on any more (other weights or another version), since the scores would drift.
        """
        manifest, tensors = open_reward(folder, "feature")
        parameters, posterior = Posterior.split(tensors)
        if "bias" not in parameters:
            raise ArtefactError(f"{folder} holds no head. Fit the reward again")
        encoder = encoder_of(manifest, folder)
        if parameters["linear"].shape[-1] != encoder.dim:
            raise ArtefactError(
                f"{folder} holds a head for {parameters['linear'].shape[-1]} features, and its encoder gives "
                f"{encoder.dim}. Fit the reward again"
            )
        where = None if cache is None else Path(cache)
        return cls(encoder, parameters, manifest["name"], manifest["report"], where, posterior, read_origin(folder))


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
    source = getattr(evidence, "source", "memory")
    made: list[Comparison] = []
    if chosen.augment:
        evidence = list(evidence)
        made = augment(_comparisons(evidence, source), chosen.augment, seed=chosen.seed, source=source)
    examples = collect(chain(evidence, made), source)
    said = np.arange(len(examples)) < len(examples) - len(made)
    # Wrong options are found before an hour of encoding, not after.
    objective = objective_for(examples.kind, chosen.objective)
    robust_objective(objective, chosen.robust, chosen.flip_rate)
    require_smoothing(chosen, objective.name)
    _require_prompts(examples, chosen, source)
    encoder = load_encoder(encoder) if isinstance(encoder, str) else encoder
    features = FeatureStore(encoder, cache).features(examples.texts)
    fitted = fit_head(features, examples, chosen, said=said)
    report = {
        "kind": examples.kind,
        "objective": fitted.objective.name,
        "options": asdict(chosen) | {"hidden": list(chosen.hidden)},
        "n_train": int(said.sum()),
        "n_augmented": len(made),
        "n_responses": len(examples.texts),
        "folds_by": "item" if examples.one_prompt else "prompt",
        **fitted.report,
        "seconds": time.perf_counter() - start,
    }
    if across := _across_prompts(examples):
        report["warnings"] = [WARNING.format(share=across)]
    where = None if cache is None else Path(cache)
    origin = Origin.of_examples(features, examples.take(said), seed=chosen.seed)
    return FeatureReward(encoder, fitted.parameters, name, report, where, fitted.posterior, origin)


def _require_prompts(examples: Examples, options: FitOptions, source: str) -> None:
    """Raise where too few prompts are left to choose the ridge, and to stop an mlp, on some that are held out."""
    found, needed = len(np.unique(examples.blocks)), 1 + (options.l2 is None) + (options.head == "mlp")
    if found < needed:
        unit = "answer" if examples.one_prompt else "prompt"
        ways = [f"give rows of more {unit}s", *(["set --l2"] if options.l2 is None else [])]
        ways += ["fit with --head linear"] if options.head == "mlp" else []
        raise EvidenceError(
            f"{found} {unit}{'s' * (found != 1)} to fit on, and {needed} are needed to hold some out",
            mend=", or ".join(ways).capitalize(),
            source=source,
        )


def _across_prompts(examples: Examples) -> float:
    """Share of comparisons whose two sides have different prompts."""
    if examples.kind != "comparison":
        return 0.0
    _, prompt = np.unique(np.array([prompt for prompt, _ in examples.texts], dtype=object), return_inverse=True)
    return float((prompt[examples.rows[:, 0]] != prompt[examples.rows[:, 1]]).mean())


def _comparisons(records: Sequence[Record], source: str) -> list[Comparison]:
    for row, record in enumerate(records, 1):
        if not isinstance(record, Comparison):
            raise EvidenceError(
                f"a {type(record).__name__.lower()} cannot be augmented with answers of other prompts",
                mend="Give comparisons, or fit without --augment",
                source=source,
                row=row,
            )
    return [record for record in records if isinstance(record, Comparison)]


def _options(options: dict[str, Any]) -> FitOptions:
    unknown = options.keys() - FitOptions.__dataclass_fields__.keys()
    if unknown:
        raise TacitError(f"no fit option `{sorted(unknown)[0]}`. Choose from: {flags(FitOptions.__dataclass_fields__)}")
    return options_of(options)
