"""Rewards: the contract, how one is learnt, and how it is read back."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tacit.errors import ArtefactError, EvidenceError, TacitError, choices, flag, flags

if TYPE_CHECKING:
    from tacit.evidence.records import Record
    from tacit.features import Encoder
    from tacit.rewards.contract import FittedReward, Reward
    from tacit.rewards.feature_reward import FeatureReward
    from tacit.rewards.uncertainty import How

__all__ = ["FeatureReward", "fit", "load"]

MODELS = {
    "scalar": "tacit.rewards.feature_reward:fit",
    "mean_variance": "tacit.rewards.distributional:fit_mean_variance",
    "categorical": "tacit.rewards.distributional:fit_categorical",
    "pairwise": "tacit.rewards.pairwise:fit",
    "attributes": "tacit.rewards.attributes:fit",
    "boosted": "tacit.rewards.boosted:fit",
    "process": "tacit.rewards.steps:fit",
    "prefix": "tacit.rewards.prefixes:fit",
    "within": "tacit.rewards.within:fit",
    "verifier": "tacit.rewards.verifiers:fit",
    "judge": "tacit.rewards.judge:fit",
    "decomposed": "tacit.rewards.people.decomposed:fit",
    "groups": "tacit.rewards.people.groups:fit",
    "latent": "tacit.rewards.people.latent:fit",
    "reliability": "tacit.rewards.people.reliability:fit",
}
"""What `fit` can learn: a function from evidence and options to a `FittedReward` each."""

TYPES = {
    "language_model": "tacit.rewards.language_model:LanguageModelReward",
    "judge": "tacit.rewards.judge:Judge",
    "feature": "tacit.rewards.feature_reward:FeatureReward",
    "distributional": "tacit.rewards.distributional:DistributionalReward",
    "pairwise": "tacit.rewards.pairwise:PairwiseReward",
    "attributes": "tacit.rewards.attributes:AttributeReward",
    "boosted": "tacit.rewards.boosted:BoostedReward",
    "process": "tacit.rewards.steps:ProcessReward",
    "prefix": "tacit.rewards.prefixes:PrefixReward",
    "verifier": "tacit.rewards.verifiers:Verifier",
    "personal": "tacit.rewards.people.personal:PersonalReward",
    "random": "tacit.rewards.controls:RandomReward",
    "length_control": "tacit.rewards.controls:LengthReward",
    "inverted": "tacit.rewards.controls:InvertedReward",
    "induced": "tacit.demonstrations.induced:InducedReward",
    "induced_prefix": "tacit.demonstrations.induced:InducedPrefixReward",
    "induced_language_model": "tacit.demonstrations.induced:InducedLanguageReward",
    "induced_language_model_prefix": "tacit.demonstrations.induced:InducedLanguagePrefixReward",
    "soft_q": "tacit.demonstrations.inverse_q:SoftQReward",
    "sum": "tacit.rewards.combination:WeightedSum",
    "gate": "tacit.rewards.combination:Gate",
    "veto": "tacit.rewards.combination:Veto",
}
"""What `load` can read: a class with `load(folder, cache=)` for each type that a reward.json may name."""

NATURAL = {"steps": "process", "problem": "verifier"}
"""The model that `auto` takes for a kind of evidence; `scalar` for every other."""


def fit(
    evidence: Iterable[Record],
    *,
    model: str = "auto",
    pessimism: How = "none",
    strength: float | None = None,
    **options: Any,
) -> FittedReward:
    """Learn a reward from evidence.

    `model` says what is learnt (`tacit fit --help` describes each); the options are those of its own `fit`, for
    `scalar` the ones of `tacit.rewards.feature_reward.fit`. `pessimism` and its `strength` are how the scores are read
    (`tacit.rewards.uncertainty`); the reading is saved with the reward. Raises `TacitError` for an unknown model, and
    where there is nothing to be pessimistic by.
    """
    from tacit.rewards.encoding import encoder_in, require_vectors
    from tacit.rewards.truncation import numbered, truncation

    if model == "auto":
        evidence, model = _natural(evidence)
    if model not in MODELS:
        raise TacitError(f"no model `{model}`. {choices(model, ('auto', *MODELS))}")
    source = getattr(evidence, "source", "memory")
    require_vectors(source, options.get("encoder"))
    evidence = list(evidence) if iter(evidence) is evidence else evidence
    try:
        reward = _learnt(evidence, model, pessimism, strength, options)
    except EvidenceError as error:
        if source == "memory" or error.source not in (None, "memory"):
            raise
        raise error.at(source) from error
    if (cut := truncation(encoder_in(reward), numbered(evidence))) is not None:
        reward.report["truncated"] = cut.to_dict()
        reward.report["warnings"] = [*reward.report.get("warnings", ()), *cut.sentences()]
    return reward


def _learnt(
    evidence: Iterable[Record], model: str, pessimism: How, strength: float | None, options: dict[str, Any]
) -> FittedReward:
    learner = _named(MODELS[model])
    parameters = inspect.signature(learner).parameters
    unknown = sorted(options.keys() - parameters.keys())
    if unknown and all(known.kind is not inspect.Parameter.VAR_KEYWORD for known in parameters.values()):
        takes = [name for name in parameters if name not in ("evidence", "encoder", "cache", "name", "seed")]
        raise TacitError(f"`--model {model}` takes no {flag(unknown[0])}. It takes {flags(takes)}")
    if pessimism != "none" or strength is not None:
        from tacit.rewards.uncertainty import pessimistic, require

        options = require(pessimism, strength, options) if model == "scalar" else options
        read: FittedReward = pessimistic(learner(evidence, **options), pessimism, strength)
        return read
    learnt: FittedReward = learner(evidence, **options)
    return learnt


def load(
    path: str | Path,
    *,
    cache: str | Path | None = None,
    encoder: str | Encoder | None = None,
    chat_template: str | Path | None = None,
    pessimism: How | None = None,
    strength: float | None = None,
) -> Reward:
    """Read a saved reward of any type, or a YAML file that describes a combination of rewards.

    A folder with config.json and no reward.json is a Hugging Face checkpoint, read as a `language_model`. `cache` is a
    folder of encoded texts that it may use. `encoder` is the one that it was fitted on, where that is an object of your
    own or has moved; or, for a reward that was fitted on `array:FILE`, an array of vectors of other texts by the same
    model. `chat_template` is a file of a chat template (Jinja) in place of the one of a Hugging Face checkpoint.

    `pessimism` and `strength` replace the reading that was saved with it ("none" drops it). Raises `ArtefactError`
    where the folder is missing, damaged or from a newer version, and `TacitError` where there is nothing to be
    pessimistic by.
    """
    from tacit.rewards.encoding import open_encoder
    from tacit.rewards.saved_encoder import given_encoder

    with given_encoder(open_encoder(encoder) if isinstance(encoder, str) else encoder):
        reward, saved = _read(path, cache, chat_template)
    if saved is None and pessimism is None and strength is None:
        return reward
    from tacit.rewards.uncertainty import read_as_saved

    read: Reward = read_as_saved(reward, saved, pessimism, strength)
    return read


def _read(path: str | Path, cache: str | Path | None, chat_template: str | Path | None) -> tuple[Reward, Any]:
    """The reward itself, and the reading that was saved with it."""
    from tacit.artefacts import read_manifest
    from tacit.models.kinds import no_reward

    folder = Path(path)
    checkpoint = (folder / "config.json").is_file() and not (folder / "reward.json").is_file()
    if chat_template is not None and not checkpoint:
        raise TacitError(
            f"--chat-template is for the folder of a language model, and {path} is a reward that keeps its own rule."
            " Leave it out"
        )
    if folder.suffix in (".yaml", ".yml"):
        from tacit.rewards.recipe import read_recipe

        return read_recipe(path, cache=cache), None
    if reason := no_reward(folder):
        raise ArtefactError(reason)
    if chat_template is not None:
        from tacit.rewards.language_model import LanguageModelReward

        return LanguageModelReward.of_checkpoint(folder, chat_template=chat_template), None
    manifest = {"type": "language_model"} if checkpoint else read_manifest(path)
    kind = manifest.get("type")
    if not (isinstance(kind, str) and kind in TYPES):
        raise ArtefactError(f"{path} holds a reward of type {kind!r}. Upgrade tacit to read it")
    return _loaded(kind, folder, manifest, cache), manifest.get("pessimism")


def _loaded(kind: str, folder: Path, manifest: Mapping[str, Any], cache: str | Path | None) -> Any:
    """The reward of type `kind` in a folder; raises `ArtefactError` where the folder is not as it was saved."""
    from tacit.rewards.saving import is_as_saved

    damaged = f"{folder} holds a damaged reward.json"
    try:
        reward = _named(TYPES[kind]).load(folder, cache=cache)
    except (TacitError, OSError, MemoryError):
        raise
    except (KeyError, TypeError) as error:  # a manifest that lacks a key, or holds another type under it
        lacks = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ArtefactError(f"{damaged} ({lacks}). Fit the reward again") from error
    except Exception as error:
        if is_as_saved(folder, manifest):
            raise
        raise ArtefactError(f"{damaged} ({error}). Fit the reward again") from error
    if is_as_saved(folder, manifest) is False:
        raise ArtefactError(f"{folder / 'reward.json'} was changed since it was saved. Fit the reward again")
    return reward


def _natural(evidence: Iterable[Record]) -> tuple[Iterable[Record], str]:
    """The evidence, and the model that `auto` takes for its kind."""
    kind = getattr(evidence, "kind", None)
    if kind is None:
        evidence = list(evidence)
        kind = type(evidence[0]).__name__.lower() if evidence else ""
    return evidence, NATURAL.get(kind, "scalar")


def _named(place: str) -> Any:
    module, name = place.split(":")
    return getattr(import_module(module), name)


def __getattr__(name: str) -> Any:
    if name == "FeatureReward":
        return _named(TYPES["feature"])
    raise AttributeError(f"module 'tacit.rewards' has no attribute {name!r}")
