"""`tacit bench real`: what fits reach on real comparisons, over splits, beside one linear fit on sentence vectors.

Needs a folder of the data described in the documentation (`--data`) and the extra `minilm`; texts are encoded once and
kept (`--cache`). Splits are by prompt for dialogues and by item for one-liners, a fifth of them unseen.

Each row is one way to fit, in the mean over splits. `X_gain` is that row's X less the first row's on the same splits,
and `X_gain_ci` its 95% interval. Splits share their data, so that Student's interval over them would be far too short;
this is the corrected one of Nadeau and Bengio 2003 ("Inference for the generalization error", section 3.3):

    mean +- t_{J-1} sqrt((1/J + n_test / n_train) s^2),    J splits, s^2 the variance of the gains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tacit.audit.metrics import evaluate
from tacit.audit.ranking import spearman
from tacit.conversation import texts
from tacit.errors import MissingExtra
from tacit.evidence import Evidence, split
from tacit.evidence.records import Comparison
from tacit.features import FeatureStore, load_encoder
from tacit.features.arrays import PrecomputedEncoder
from tacit.features.transformer import TransformerEncoder, minilm_installed
from tacit.lab.dialogues import dialogues
from tacit.lab.humour import one_liners
from tacit.progress import track
from tacit.rewards.feature_reward import FeatureReward, fit

TEST = 0.2
"""Share of prompts or items that no fit sees."""

SENTENCE, DEFAULT, ALL = "sentence vectors", "minilm", "all layers"
HASHED, BOTH = "hashed", "sentence vectors and hashed"

FITS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear, sentence vectors": (SENTENCE, {}),
    "linear, hashed": (HASHED, {}),
    "linear, sentence vectors and hashed": (BOTH, {}),
    "classification, sentence vectors": (SENTENCE, {"objective": "classification"}),
    "mlp, sentence vectors": (SENTENCE, {"head": "mlp"}),
    "linear, minilm": (DEFAULT, {}),
    "linear, minilm, 10 members": (DEFAULT, {"members": 10}),
    "mlp, minilm": (DEFAULT, {"head": "mlp"}),
    "linear, all layers": (ALL, {}),
}
"""What is fitted: the features, and the options of `tacit fit`. The first row is what the others are compared with."""

_GAINS = ("accuracy", "spearman")


@dataclass(frozen=True)
class World:
    """Comparisons, their vectors by name of the features, and a gold score by text where there is one."""

    name: str
    evidence: Evidence
    encoders: Mapping[str, PrecomputedEncoder]
    by: Any
    gold: Mapping[str, float] | None = None


def run(*, data: Path, repeats: int = 10, seed: int = 0, cache: Path | None = None) -> dict[str, Any]:
    """Rows of every data set and fit over `repeats` splits, from `seed` on, and `transfer` between values.

    `cache` is a folder of encoded texts; without one nothing is kept. Raises `TacitError` where the data are absent and
    `MissingExtra` without MiniLM.
    """
    if not minilm_installed():
        raise MissingExtra("minilm", "`bench real`")
    worlds = [_dialogues(data, name, cache) for name in ("helpful", "harmless")]
    evidence, stored, gold = one_liners(data)
    worlds.append(World("humour", evidence, _encoders(_known(evidence), stored, cache), "item", gold))
    rows = [row for world in worlds for row in _table(world, repeats, seed)]
    return {"suite": "real", "repeats": repeats, "rows": rows, "transfer": _transfer(worlds[:2], seed)}


def corrected_interval(gains: Sequence[float], test: float = TEST) -> list[float] | None:
    """95% interval of the mean of `gains` over random splits with a share `test` unseen; None for fewer than two."""
    from scipy.stats import t

    count = len(gains)
    if count < 2:
        return None
    spread = np.sqrt((1 / count + test / (1 - test)) * np.var(gains, ddof=1))
    mean, half = float(np.mean(gains)), float(t.ppf(0.975, count - 1) * spread)
    return [mean - half, mean + half]


def _table(world: World, repeats: int, seed: int) -> list[dict[str, Any]]:
    found: dict[str, dict[str, list[float]]] = {}
    for s in track(range(seed, seed + repeats), world.name, repeats):
        train, test = split(world.evidence, by=world.by, test=TEST, seed=s)
        for name, (features, options) in FITS.items():
            reward = fit(train, encoder=world.encoders[features], seed=s, **options)
            for shown, values in _measured(name, reward, test, world.gold, s).items():
                for key, value in values.items():
                    found.setdefault(shown, {}).setdefault(key, []).append(value)
    first = found[next(iter(FITS))]
    rows = []
    for name, several in found.items():
        row: dict[str, Any] = {"data": world.name, "reward": name}
        for key, each in several.items():
            row[key] = float(np.mean(each))
            if key in _GAINS and name in FITS and several is not first:
                gains = [own - other for own, other in zip(each, first[key], strict=True)]
                row[f"{key}_gain"], row[f"{key}_gain_ci"] = float(np.mean(gains)), corrected_interval(gains)
        rows.append(row)
    return rows


def _measured(
    name: str, reward: FeatureReward, test: Evidence, gold: Mapping[str, float] | None, seed: int
) -> dict[str, dict[str, float]]:
    """Rows of one split: the reward's, and what length alone and the gold score reach on the same votes."""
    metrics = evaluate(reward, test, resamples=10, seed=seed)
    own = {key: metrics[key] for key in ("accuracy", "nll", "ece_binned", "ece_floor")}
    controls = {"length alone": {"accuracy": metrics["length_accuracy"]}}
    if gold is not None:
        pairs = [(str(r.chosen), str(r.rejected)) for r in test if isinstance(r, Comparison)]
        items = sorted({text for pair in pairs for text in pair})
        own["spearman"] = spearman(reward.score([""] * len(items), items), [gold[text] for text in items])
        controls["the gold score"] = {"accuracy": float(np.mean([gold[a] > gold[b] for a, b in pairs]))}
    return {name: own | {"fit_seconds": reward.report["fit_seconds"]}, **controls}


def _dialogues(data: Path, name: str, cache: Path | None) -> World:
    """One split of HH; what is encoded is the last human turn and the answer."""
    evidence, stored = dialogues(data, name)
    return World(f"hh {name}-base", evidence, _encoders(_known(evidence), stored, cache), "prompt")


def _known(evidence: Evidence) -> dict[tuple[str, str], tuple[str, str]]:
    """Every (prompt, completion) of the comparisons, and the text that stands for it: the prompt's last turn alone."""
    known: dict[tuple[str, str], tuple[str, str]] = {}
    for record in evidence:
        assert isinstance(record, Comparison)
        last = record.prompt if isinstance(record.prompt, str) else record.prompt[-1:]
        for completion in (record.chosen, record.rejected):
            known[texts(record.prompt, completion)] = texts(last, completion)
    return known


def _encoders(
    known: Mapping[tuple[str, str], tuple[str, str]], stored: PrecomputedEncoder, cache: Path | None
) -> dict[str, PrecomputedEncoder]:
    """All features of the same texts; the layers come from one forward pass, the sentence vectors from the data."""
    every = load_encoder("minilm?layers=all")
    assert isinstance(every, TransformerEncoder)
    usual = load_encoder("minilm")
    assert isinstance(usual, TransformerEncoder)
    keys = list(known)
    layers = np.asarray(FeatureStore(every, cache).features([known[key] for key in keys]), dtype=np.float32)
    width = layers.shape[1] // len(every.layer_numbers)
    hashed = FeatureStore(load_encoder("hashed"), cache).features([known[key] for key in keys])
    sentence = stored.encode(keys)
    vectors = {
        SENTENCE: sentence,
        DEFAULT: np.concatenate([layers[:, k * width : (k + 1) * width] for k in usual.layer_numbers], axis=1),
        ALL: layers,
        HASHED: np.asarray(hashed),
        BOTH: np.concatenate([sentence, np.asarray(hashed, dtype=np.float32)], axis=1),
    }
    return {name: PrecomputedEncoder(keys, values) for name, values in vectors.items()}


def _transfer(worlds: Sequence[World], seed: int) -> list[dict[str, Any]]:
    """A reward of one kind of dialogue on the other: below one half where the values conflict."""
    rows = []
    for source, target in (worlds, worlds[::-1]):
        for features in (SENTENCE, DEFAULT):
            reward = fit(source.evidence, encoder=source.encoders[features], seed=seed)
            abroad = FeatureReward(target.encoders[features], reward.parameters, reward.name, reward.report)
            metrics = evaluate(abroad, target.evidence, seed=seed)
            measured = {key: metrics[key] for key in ("accuracy", "accuracy_ci")}
            rows.append({"fitted_on": source.name, "tested_on": target.name, "features": features, **measured})
    return rows
