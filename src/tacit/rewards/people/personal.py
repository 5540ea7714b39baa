"""A reward that becomes one person's own: what it scores before it knows anyone, and an adapter."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from tacit.conversation import Completion, Prompt
from tacit.errors import ArtefactError, TacitError, flags
from tacit.evidence.records import Comparison
from tacit.features import Encoder
from tacit.rewards.feature_reward import FeatureReward
from tacit.rewards.heads import Parameters, Standardiser
from tacit.rewards.origin import Origin
from tacit.rewards.people.adapting import Adapter, Context
from tacit.rewards.people.crowd import Crowd, read_crowd
from tacit.rewards.saved_encoder import encoder_config, encoder_of
from tacit.rewards.saving import open_reward, read_origin, save_reward

ADAPTERS = {
    "decomposed": "tacit.rewards.people.decomposed:Decomposed",
    "groups": "tacit.rewards.people.groups:Grouped",
    "latent": "tacit.rewards.people.latent:Latent",
}

Options = TypeVar("Options")


@dataclass(eq=False)
class PersonalReward:
    """Scores for everybody by `parameters`; `adapt` gives the reward of one person.

    Satisfies `Reward`, `Saved` and `Personal`.
    """

    encoder: Encoder
    standardise: Standardiser
    people: str
    """Which adapter this is: a key of `ADAPTERS`."""
    adapter: Adapter
    pooled: Tensor
    """(d,) the reward of everybody together, in standardised features: the control beside every adaptation."""
    parameters: Parameters
    """A head with one member in standardised features: what it scores before it knows anyone."""
    name: str = "personal"
    report: dict[str, Any] = field(default_factory=dict)
    cache: Path | None = None
    origin: Origin | None = None
    """Which texts it was fitted on."""

    @classmethod
    def of(
        cls,
        crowd: Crowd,
        encoder: Encoder,
        people: str,
        adapter: Adapter,
        pooled: Tensor,
        parameters: Parameters,
        name: str,
        report: dict[str, Any],
        cache: str | Path | None,
        start: float,
    ) -> PersonalReward:
        """What a fit on `crowd` that began at `start` (time.perf_counter) found."""
        report = {
            "kind": "comparison",
            "people": people,
            "n_train": len(crowd.examples),
            "n_responses": len(crowd.features),
            "n_annotators": len(crowd.people),
            **report,
            "seconds": time.perf_counter() - start,
        }
        place = None if cache is None else Path(cache)
        origin = Origin.of_texts(crowd.examples.texts)
        return cls(encoder, crowd.standardise, people, adapter, pooled, parameters, name, report, place, origin)

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores (n,) float32 for everybody."""
        return self.with_head(self.parameters, self.name, self.report).score(prompts, completions)

    def adapt(self, comparisons: Sequence[Comparison]) -> FeatureReward:
        """The reward of the person who made these comparisons; raises `TacitError` where there are none."""
        if not comparisons:
            raise TacitError("there are no comparisons to adapt to. Give at least one row with `chosen` and `rejected`")
        crowd = read_crowd(comparisons, self.encoder, self.cache, standardise=self.standardise)
        adapted = self.adapter.adapt(Context.of(crowd, torch.arange(len(crowd))[None]))
        report = {"kind": "comparison", "people": self.people, "n_train": len(comparisons), "seconds": 0.0}
        return self.with_head(adapted, f"{self.name} (personal)", report)

    def with_head(self, parameters: Parameters, name: str, report: dict[str, Any]) -> FeatureReward:
        """The reward of a head in standardised features: one person's, say, or one group's."""
        folded = self.standardise.fold(parameters)
        return FeatureReward(self.encoder, folded, name, report, self.cache)

    def save(self, folder: str | Path) -> None:
        """Write reward.json, head.safetensors and a model card, atomically; a former reward there is replaced."""
        tensors = {
            "mean": self.standardise.mean,
            "scale": self.standardise.scale,
            "pooled": self.pooled,
            **{f"parameters.{key}": value for key, value in self.parameters.items()},
            **{f"adapter.{key}": value for key, value in self.adapter.tensors().items()},
        }
        save_reward(
            folder,
            "personal",
            self.name,
            config=encoder_config(self.encoder) | {"people": self.people, "adapter": self.adapter.options()},
            tensors={key: value.clone() for key, value in tensors.items()},  # safetensors shares no memory
            report=self.report,
            origin=self.origin,
            meaning="Score differences are log-odds: P(a preferred to b) = sigma(score(a) - score(b)), for everybody "
            "or, after `reward.adapt(comparisons)`, for the person who made these comparisons.",
        )

    @classmethod
    def load(cls, folder: str | Path, *, cache: str | Path | None = None) -> PersonalReward:
        """Read a saved folder; raises `ArtefactError` where it is missing, damaged or newer."""
        manifest, tensors = open_reward(folder, "personal")
        people = manifest.get("people")
        if people not in ADAPTERS:
            raise ArtefactError(f"{folder} holds a personal reward of kind {people!r}. Upgrade tacit to read it")
        if not {"mean", "scale", "pooled"} <= tensors.keys():
            raise ArtefactError(f"{folder} holds no head. Fit the reward again")
        module, name = ADAPTERS[people].split(":")
        kind: type[Adapter] = getattr(import_module(module), name)
        return cls(
            encoder_of(manifest, folder),
            Standardiser(tensors["mean"], tensors["scale"]),
            people,
            kind.restore(manifest["adapter"], _under("adapter.", tensors)),
            tensors["pooled"],
            _under("parameters.", tensors),
            manifest["name"],
            manifest["report"],
            None if cache is None else Path(cache),
            read_origin(folder),
        )


def known_options(kind: type[Options], options: dict[str, Any]) -> Options:
    """`options` as the dataclass `kind`; raises `TacitError` for one that it has not got."""
    known = tuple(kind.__dataclass_fields__)  # type: ignore[attr-defined]
    if unknown := sorted(options.keys() - set(known)):
        raise TacitError(f"no option `{unknown[0]}` for these people models. Choose from: {flags(known)}")
    return kind(**options)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
