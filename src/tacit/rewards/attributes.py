"""Several ratings at once: a head for each attribute, and one score made of them.

Ratings y_ia of attribute a, missing where nobody gave one (m_ia = 0), are standardised and fitted at once,

    L = (1/n) sum_i sum_a m_ia 1/2 (h_a(x_i) - y_ia)^2,

with a ridge for each attribute, chosen by cross-fitting over prompts (one solve for all attributes and members). Each
attribute's score r_a is in the unit of its ratings. They become one score

- by weights: score = sum_a w_a r_a, equal weights unless given;
- by a gate learnt from comparisons, as in ArmoRM (Wang et al. 2024, arXiv 2406.12845): with z_a = (r_a - mean) / sd
  over the rated responses and g(x) = softmax of a linear map of the prompt's features,

      score = b sum_a g_a(x) w_a z_a,    P(y1 over y2 | x) = sigma(score(y1) - score(y2)),

  b > 0 and g by maximum likelihood, their ridge chosen by cross-fitting over prompts. Mixtures add: an attribute that
  should count against a response needs a weight of -1.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from tacit.conversation import Completion, Prompt
from tacit.errors import EvidenceError, TacitError
from tacit.evidence.records import Record
from tacit.features import Encoder, FeatureStore, load_encoder
from tacit.rewards import heads
from tacit.rewards.encoding import encode
from tacit.rewards.examples import Examples, bootstrap_weights, collect
from tacit.rewards.fitting import check_features
from tacit.rewards.heads import Parameters, Standardiser, by_output
from tacit.rewards.linear import Design, gram_factor, minimise
from tacit.rewards.objectives import Objective, Targets, bradley_terry
from tacit.rewards.options import FitOptions, require_smoothing
from tacit.rewards.origin import Origin
from tacit.rewards.ridge import RIDGES, Folds, choose_ridge
from tacit.rewards.saved_encoder import encoder_config, encoder_of
from tacit.rewards.saving import open_reward, read_origin, save_reward
from tacit.rewards.several import fit_several, shared_options, targets_of

_ONE = 0.5413
"""softplus of it is 1."""


def attribute_loss(scores: Tensor, targets: Targets, own: Tensor) -> Tensor:
    """sum_a m_a 1/2 (h_a - y_a)^2, (members, n), of scores (members, n, 1, A) and targets (2, A, n): y above m."""
    value, there = targets.target.movedim(1, -1)  # (n, A) each; (members, n, A) in a batch of the perceptron
    guess = scores[..., 0, :] if scores.dim() == 4 else scores
    loss: Tensor = 0.5 * (there * (guess - value).square()).sum(-1)
    return loss


def gate_loss(scores: Tensor, targets: Targets, own: Tensor) -> Tensor:
    """Bradley-Terry's loss of b sum_a g_a w_a z_a; scores (members, n, 2, A) of both sides' prompts, target (2, A, n)
    holds w_a z_a of both sides, and own (members, 1) the b."""
    values = targets.target.permute(2, 0, 1)  # (n, 2, A)
    scores = scores if scores.dim() == 4 else scores[..., None]
    mixed = (scores.softmax(-1) * values).sum(-1) * softplus(own)[:, :, None]
    return bradley_terry(mixed, targets, own)


@dataclass(frozen=True)
class PromptGate:
    """Mixing weights from a prompt: softmax of a linear map, and the factor that makes the mixture log-odds."""

    parameters: Parameters
    """`linear` (A, d) and `bias` (A,) on features of (prompt, "")."""
    factor: float

    def mix(self, features: np.ndarray) -> Tensor:
        """(n, A) of features (n, d); rows add up to one."""
        return torch.from_numpy(heads.score_in_chunks(self.parameters, features)).T.softmax(-1)


@dataclass(eq=False)
class AttributeReward:
    """One score from several attributes'. Satisfies `Reward`, `Uncertain`, `Detailed` and `Saved`."""

    encoder: Encoder
    parameters: Parameters
    """(K * A) rows, in units of the ratings."""
    attributes: tuple[str, ...]
    weights: tuple[float, ...]
    centre: Tensor
    """(A,) mean and, in `unit`, standard deviation of each attribute's score over the rated responses."""
    unit: Tensor
    gate: PromptGate | None = None
    name: str = "attributes"
    report: dict[str, Any] = field(default_factory=dict)
    cache: Path | None = None
    origin: Origin | None = None
    """Small statistics of the features it was fitted on."""

    @property
    def members(self) -> int:
        """K, the number of members."""
        return len(self.parameters["bias"]) // len(self.attributes)

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """The combined score (n,) float32, averaged over members."""
        result: np.ndarray = self.score_members(prompts, completions).mean(0)
        return result

    def score_members(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """The same for each member, (K, n) float32."""
        values = self._attributes(encode(self.encoder, self.cache, prompts, completions))
        signs = torch.tensor(self.weights)
        if self.gate is None:
            return np.asarray((values @ signs).numpy(), np.float32)
        mix = self.mixture(prompts)
        standard = (values - self.centre) / self.unit * signs
        return np.asarray((standard * torch.from_numpy(mix)).sum(-1).numpy() * self.gate.factor, np.float32)

    def mixture(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """The gate's mixing weights (n, A) of prompts; equal where there is no gate."""
        if self.gate is None:
            return np.full((len(prompts), len(self.attributes)), 1 / len(self.attributes), np.float32)
        return np.asarray(self.gate.mix(encode(self.encoder, self.cache, prompts, [""] * len(prompts))).numpy())

    def score_attributes(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Each attribute's score (n, A) in the unit of its ratings, averaged over members."""
        features = encode(self.encoder, self.cache, prompts, completions)
        return np.asarray(self._attributes(features).mean(0).numpy(), np.float32)

    def details(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> dict[str, np.ndarray]:
        """Each attribute's score (n,) by its name."""
        return dict(zip(self.attributes, self.score_attributes(prompts, completions).T, strict=True))

    def _attributes(self, features: np.ndarray) -> Tensor:
        raw = by_output(torch.from_numpy(heads.score_in_chunks(self.parameters, features)), len(self.attributes))
        return raw if len(self.attributes) > 1 else raw[..., None]

    def save(self, folder: str | Path) -> None:
        """Write the folder atomically; a former reward there is replaced."""
        tensors = self.parameters | {"centre": self.centre, "unit": self.unit}
        if self.gate is not None:
            tensors |= {f"gate.{key}": value for key, value in self.gate.parameters.items()}
        terms = ", ".join(f"{w:g} x {a}" for a, w in zip(self.attributes, self.weights, strict=True))
        save_reward(
            folder,
            "attributes",
            self.name,
            config=encoder_config(self.encoder)
            | {"members": self.members, "attributes": list(self.attributes), "weights": list(self.weights)}
            | {"gate": None if self.gate is None else self.gate.factor},
            tensors=tensors,
            report=self.report,
            origin=self.origin,
            meaning=f"Scores are the sum of {terms}."
            if self.gate is None
            else f"Scores are log-odds: a mixture, by the prompt, of {terms}.",
        )

    @classmethod
    def load(cls, folder: str | Path, *, cache: str | Path | None = None) -> AttributeReward:
        """Read it back; raises `ArtefactError` where it is damaged or its encoder has changed."""
        manifest, tensors = open_reward(folder, "attributes")
        centre, unit = tensors.pop("centre"), tensors.pop("unit")
        own = {key.removeprefix("gate."): tensors.pop(key) for key in list(tensors) if key.startswith("gate.")}
        return cls(
            encoder_of(manifest, folder),
            tensors,
            tuple(manifest["attributes"]),
            tuple(manifest["weights"]),
            centre,
            unit,
            PromptGate(own, manifest["gate"]) if own else None,
            manifest["name"],
            manifest["report"],
            None if cache is None else Path(cache),
            read_origin(folder),
        )


def fit(
    evidence: Iterable[Record],
    *,
    encoder: str | Encoder = "auto",
    cache: str | Path | None = None,
    name: str = "attributes",
    weights: Mapping[str, float] | Sequence[str] | None = None,
    gate: str | Path | Iterable[Record] | None = None,
    **options: Any,
) -> AttributeReward:
    """Learn a score from ratings of several attributes.

    `weights` are numbers by attribute, or texts as "helpful=1"; an attribute without one gets 0, and without any
    weights each gets an equal share (1 under a gate). `gate` are comparisons, or a file of them. `options` are fields
    of `FitOptions` (`several.SHARED`). Raises `TacitError` for a weight of an unknown attribute and an unknown option,
    and `EvidenceError` for evidence of another kind or an attribute that cannot be learnt.
    """
    start = time.perf_counter()
    chosen = shared_options(options, ("weights", "gate"), "attributes")
    if gate is None:  # ratings have no labels that could be wrong
        require_smoothing(chosen, "attributes")
    source = getattr(evidence, "source", "memory")
    given: list[Mapping[str, float | None]] = []
    examples = collect(evidence, source, attributes=given)
    if examples.kind != "rating":
        raise EvidenceError(
            f"model `attributes` learns from ratings, these are {examples.kind}s", mend="Give ratings", source=source
        )
    names, value, there = table(given, source)
    by = parse_weights(weights, names, 1.0 if gate is not None else 1 / len(names))
    encoder = load_encoder(encoder) if isinstance(encoder, str) else encoder
    compared = None if gate is None else _comparisons(gate)  # before an hour of encoding, not after
    store = FeatureStore(encoder, cache)
    features = store.features(examples.texts)
    parameters, report = fit_heads(features, examples, value, there, chosen)
    learnt = by_output(torch.from_numpy(heads.score_in_chunks(parameters, features)), len(names)).mean(0)
    learnt = learnt.view(len(features), len(names))
    reward = AttributeReward(
        encoder, parameters, names, by, learnt.mean(0), learnt.std(0).clamp_min(1e-6), None, name, cache=_path(cache)
    )
    if compared is not None:
        reward.gate, report["gate"] = _fit_gate(reward, compared, store, chosen)
    reward.origin = Origin.of_examples(features, examples, seed=chosen.seed)
    reward.report = {
        "kind": "rating" if compared is None else "comparison",
        "objective": "attributes",
        "options": asdict(chosen) | {"hidden": list(chosen.hidden)},
        "attributes": {a: {"ratings": int(there[:, i].sum()), "weight": by[i]} for i, a in enumerate(names)},
        "n_train": len(examples),
        "n_responses": len(examples.texts),
        **report,
        "seconds": time.perf_counter() - start,
    }
    return reward


def table(
    given: Sequence[Mapping[str, float | None]], source: str = "memory"
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Attributes by name, their ratings (n, A) with 0 where missing, and where there is one (n, A) float32.

    Raises `EvidenceError` for an attribute with fewer than two distinct ratings.
    """
    names = tuple(sorted({name for rating in given for name in rating}))
    value = np.array([[np.nan if (v := r.get(a)) is None else v for a in names] for r in given], dtype=np.float64)
    there = np.isfinite(value).reshape(len(given), len(names))
    for i, attribute in enumerate(names):
        rated = value[there[:, i], i]
        if len(rated) == 0 or np.ptp(rated) == 0:
            raise EvidenceError(
                f"attribute `{attribute}` has {len(rated)} ratings and no two of them differ",
                mend="Leave it out, or add rows with other ratings",
                source=source,
                column="score",
            )
    if not names:
        raise EvidenceError("no row rates anything", mend='Give ratings, as {"helpful": 4}', source=source)
    return names, np.where(there, value, 0.0).astype(np.float32), there.astype(np.float32)


def parse_weights(
    weights: Mapping[str, float] | Sequence[str] | None, names: Sequence[str], default: float
) -> tuple[float, ...]:
    """The weight of each attribute; raises `TacitError` for one that is unknown or no number."""
    if not weights:
        return tuple(default for _ in names)
    if not isinstance(weights, Mapping):
        parsed = {}
        for part in (part for text in weights for part in text.split(",")):
            attribute, _, number = part.partition("=")
            try:
                parsed[attribute.strip()] = float(number)
            except ValueError:
                raise TacitError(f"--weights {part}: give attribute=number, as helpful=1 verbose=-0.5") from None
        weights = parsed
    if unknown := weights.keys() - set(names):
        raise TacitError(f"there is no attribute `{min(unknown)}` to weigh. The ratings have: {', '.join(names)}")
    if not np.isfinite(list(weights.values())).all() or not any(weights.values()):
        raise TacitError("weights must be finite numbers, not all of them 0")
    return tuple(float(weights.get(a, 0.0)) for a in names)


def fit_heads(
    features: np.ndarray, examples: Examples, value: np.ndarray, there: np.ndarray, options: FitOptions
) -> tuple[Parameters, dict[str, Any]]:
    """Heads of all attributes on raw features, (K * A) rows in the unit of the ratings, and a report."""
    check_features(features, examples)
    count = value.shape[1]
    weight = examples.weight[:, None] * there
    mean = (weight * value).sum(0) / weight.sum(0)
    sd = np.sqrt((weight * (value - mean) ** 2).sum(0) / weight.sum(0))
    standard = np.stack([((value - mean) / sd * there).T, there.T]).astype(np.float32)  # (2, A, n)
    objective = Objective("attributes", "rating", attribute_loss, relative=False, logits=False, outputs=count)
    fitter = _linear if options.head == "linear" else _perceptron
    parameters, report = fitter(features, examples, standard, objective, options)
    scale, shift = torch.from_numpy(sd).float(), torch.from_numpy(mean).float()
    rows = scale.repeat(options.members)
    for part in ("linear", "out"):
        if part in parameters:
            parameters[part] = parameters[part] * rows[:, None]
    parameters["bias"] = parameters["bias"] * rows + shift.repeat(options.members)
    return {k: v.contiguous() for k, v in parameters.items()}, report


def _linear(
    features: np.ndarray, examples: Examples, standard: np.ndarray, objective: Objective, options: FitOptions
) -> tuple[Parameters, dict[str, Any]]:
    matrix = torch.from_numpy(np.ascontiguousarray(features))
    standardise = Standardiser.of(matrix)
    design = Design.of(matrix, standardise, torch.from_numpy(examples.rows), objective)
    gram = gram_factor(design.matrix, options.seed)
    targets, weight = targets_of(examples, target=standard), torch.from_numpy(examples.weight)
    report: dict[str, Any] = {}
    if options.l2 is None:
        l2, losses = _choose_ridges(design, targets, weight, objective, gram, examples.blocks, options.seed)
        report["held_out_r2"] = (1 - losses).tolist()
    else:
        l2 = torch.full((objective.outputs,), options.l2)
    rng = np.random.default_rng(options.seed)
    weights = weight * torch.from_numpy(bootstrap_weights(examples.blocks, options.members, rng))
    solution = minimise(design, targets, weights, objective, l2, gram=gram)
    report |= {"l2": l2.tolist(), "iterations": solution.iterations}
    return standardise.fold(solution.parameters), report


def _choose_ridges(
    design: Design,
    targets: Targets,
    weight: Tensor,
    objective: Objective,
    gram: Tensor | None,
    blocks: np.ndarray,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """The ridge (A,) of each attribute with the least held-out squared error (A,), the latter in variances."""
    folds = Folds.of(blocks, np.random.default_rng(seed))
    dim, n = design.matrix.shape[1], len(weight)
    ridges = [multiple * dim / n for multiple in RIDGES]
    start, errors = None, []
    for ridge in ridges:
        solution = folds.solve(design, targets, weight, objective, ridge, gram, start)
        start = solution.theta
        scores, scored = folds.scores(design, solution)
        value, there = targets.target[0].T[scored], targets.target[1].T[scored] * weight[scored, None]
        guess = scores[0, :, 0] if objective.outputs > 1 else scores[0]
        errors.append((there * (guess - value).square()).sum(0) / there.sum(0).clamp_min(1e-12))
    best = torch.stack(errors).min(0)
    return torch.tensor(ridges)[best.indices], best.values


def _perceptron(
    features: np.ndarray, examples: Examples, standard: np.ndarray, objective: Objective, options: FitOptions
) -> tuple[Parameters, dict[str, Any]]:
    found = fit_several(features, examples, objective, options, target=standard)
    return found.parameters, found.report


def _comparisons(gate: str | Path | Iterable[Record]) -> Examples:
    if isinstance(gate, str | Path):
        from tacit.evidence import read

        gate = read(gate)
    source = getattr(gate, "source", "memory")
    examples = collect(gate, source)
    if examples.kind != "comparison":
        raise EvidenceError(
            f"a gate learns from comparisons, these are {examples.kind}s", mend="Give comparisons", source=source
        )
    return examples


def _fit_gate(
    reward: AttributeReward, examples: Examples, store: FeatureStore, options: FitOptions
) -> tuple[PromptGate, dict[str, Any]]:
    """The gate that explains comparisons best, given the attributes' scores."""
    count = len(reward.attributes)
    values = reward._attributes(store.features(examples.texts)).mean(0)  # (u, A)
    standard = ((values - reward.centre) / reward.unit * torch.tensor(reward.weights)).numpy()
    sides = np.stack([standard[examples.rows[:, k]].T for k in (0, 1)])  # (2, A, n)
    asked = [(prompt, "") for prompt, _ in examples.texts]
    vectors, prompt_of = store.unique(asked)
    matrix = torch.from_numpy(np.ascontiguousarray(vectors))
    standardise = Standardiser.of(matrix)
    objective = Objective("gate", "comparison", gate_loss, initial=(_ONE,), relative=False, logits=False, outputs=count)
    targets = targets_of(examples, options.label_smoothing, sides)
    design = Design.of(matrix, standardise, torch.from_numpy(prompt_of[examples.rows]), objective)
    gram, weight = gram_factor(design.matrix, options.seed), torch.from_numpy(examples.weight)
    rng = np.random.default_rng(options.seed)
    l2, path = choose_ridge(design, targets, weight, objective, gram, examples.blocks, rng)
    solution = minimise(design, targets, weight[None], objective, l2, gram=gram)
    gate = PromptGate(standardise.fold(solution.parameters), float(softplus(solution.own)[0, 0]))
    mean = gate.mix(vectors).mean(0)
    report = {
        "n_comparisons": len(examples),
        "held_out_loss": min(step["held_out_loss"] for step in path),
        "factor": gate.factor,
        "mean_mixture": dict(zip(reward.attributes, mean.tolist(), strict=True)),
        "l2": l2,
    }
    return gate, report


def _path(cache: str | Path | None) -> Path | None:
    return None if cache is None else Path(cache)
