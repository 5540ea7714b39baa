"""A preference model that looks at two completions at once, and need not be transitive.

P(y1 over y2 | x) = sigma(d(y1, y2)) with

    d(y1, y2) = s(y1) - s(y2) + sum_r [u_r(y1) v_r(y2) - v_r(y1) u_r(y2)],

s, u and v being outputs of one head on the features of (x, y): a scalar reward and a skew-symmetric form of rank
2 `rank`, u(y1)^T J u(y2) in the terms of general preference models (Zhang et al. 2024, arXiv 2410.02197). d changes its
sign when the two are exchanged, by construction, and a rank of 1 can hold a circle of rock, paper and scissors.

u and v have no bias: one in u is the score bias * v, past the ridge of s.

The circular part has a ridge of its own, as a multiple of that of s, and the multiple is chosen by cross-fitting over
prompts. Since 1/2 (|u|^2 + |v|^2) bounds the nuclear norm of the form, a large multiple makes it zero. A scalar reward
is among the choices, and is preferred unless another gains more than a standard error, and more than .001 nats a vote:
so cycles are found and not invented.

A score needs an opponent: `score` is the log-odds of winning against a random completion of a reference set, sampled
from the fitting data and kept with the reward.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tacit.conversation import Completion, Prompt
from tacit.errors import EvidenceError, TacitError
from tacit.evidence.records import Record
from tacit.features import Encoder, FeatureStore, load_encoder
from tacit.rewards import cycles, heads
from tacit.rewards.distributional import clustered_mean
from tacit.rewards.encoding import encode, encode_two
from tacit.rewards.examples import Examples, collect
from tacit.rewards.heads import Parameters, by_output
from tacit.rewards.objectives import OBJECTIVES, Objective, Targets, bradley_terry
from tacit.rewards.options import FitOptions
from tacit.rewards.origin import Origin
from tacit.rewards.saved_encoder import encoder_config, encoder_of
from tacit.rewards.saving import open_reward, read_origin, save_reward
from tacit.rewards.several import SeveralFit, fit_several, shared_options, targets_of
from tacit.rewards.temperature import temperature_of

MULTIPLES = (1.0, 10.0, 100.0)
"""Ridges of the circular part to choose from, in multiples of that of the scalar part; beside no circular part."""

MATTERS = 0.001
"""Nats a vote that a circular part must gain on held-out votes to be kept."""


def log_odds(first: Tensor, second: Tensor) -> Tensor:
    """d (...) of outputs (..., 1 + 2 rank) of two completions: s, then u, then v."""
    rank = (first.shape[-1] - 1) // 2
    u1, v1, u2, v2 = (
        first[..., 1 : 1 + rank],
        first[..., 1 + rank :],
        second[..., 1 : 1 + rank],
        second[..., 1 + rank :],
    )
    return first[..., 0] - second[..., 0] + (u1 * v2 - v1 * u2).sum(-1)


def pairwise_loss(scores: Tensor, targets: Targets, own: Tensor) -> Tensor:
    """Bradley-Terry's loss, with its ties, margins and smoothing, of d between the two completions."""
    gap = log_odds(scores[..., 0, :], scores[..., 1, :])
    return bradley_terry(torch.stack([gap, torch.zeros_like(gap)], dim=-1), targets, own)


def objective_of(rank: int, multiple: float) -> Objective:
    """The likelihood of votes, with the ridge of the circular part."""
    return Objective(
        "pairwise",
        "comparison",
        pairwise_loss,
        relative=False,
        logits=False,
        outputs=1 + 2 * rank,
        spread=0.3,
        unbiased=tuple(range(1 + 2 * rank)),
        penalties=(1.0, *[multiple] * (2 * rank)),
    )


@dataclass(eq=False)
class PairwiseReward:
    """`compare` is the model, `score` its log-odds against the reference set.

    Satisfies `Reward`, `Uncertain`, `Comparing` and `Saved`.
    """

    encoder: Encoder
    parameters: Parameters
    """(K * outputs) rows; calibrated."""
    rank: int
    """0 where cross-fitting found no circular part."""
    reference: Tensor
    """(K, references, outputs) of the reference completions."""
    references: list[list[str]] = field(default_factory=list)
    """Their (prompt text, completion text)."""
    name: str = "pairwise"
    report: dict[str, Any] = field(default_factory=dict)
    cache: Path | None = None
    origin: Origin | None = None
    """Small statistics of the features it was fitted on."""

    @property
    def outputs(self) -> int:
        """1 + 2 rank."""
        return 1 + 2 * self.rank

    @property
    def members(self) -> int:
        """K, the number of members."""
        return len(self.parameters["bias"]) // self.outputs

    def compare(
        self, prompts: Sequence[Prompt], first: Sequence[Completion], second: Sequence[Completion]
    ) -> np.ndarray:
        """Log-odds (n,) float32 that the first is preferred, averaged over members."""
        result: np.ndarray = self.compare_members(prompts, first, second).mean(0)
        return result

    def compare_members(
        self, prompts: Sequence[Prompt], first: Sequence[Completion], second: Sequence[Completion]
    ) -> np.ndarray:
        """The same for each member, (K, n)."""
        vectors = encode_two(self.encoder, self.cache, prompts, first, second)
        raw = self._outputs(vectors.reshape(-1, vectors.shape[-1])).view(self.members, len(prompts), 2, self.outputs)
        return np.asarray(log_odds(raw[:, :, 0], raw[:, :, 1]).numpy(), np.float32)

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Log-odds (n,) float32 of winning against a random reference, averaged over members."""
        result: np.ndarray = self.score_members(prompts, completions).mean(0)
        return result

    def score_members(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """The same for each member, (K, n) float32."""
        raw = self._outputs(encode(self.encoder, self.cache, prompts, completions))
        return np.asarray(_against(raw, self.reference).numpy(), np.float32)

    def win_rate(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Probability (n,) of winning against a random reference, averaged over members."""
        members = torch.from_numpy(self.score_members(prompts, completions)).sigmoid()
        return np.asarray(members.mean(0).numpy())

    def against(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> PairwiseReward:
        """The same model, scoring against another reference set."""
        if not len(completions):
            raise TacitError("a reference set needs a completion. Give one or more")
        reference = self._outputs(encode(self.encoder, self.cache, prompts, completions))
        pairs = [[str(p), str(c)] for p, c in zip(prompts, completions, strict=True)]
        return PairwiseReward(
            self.encoder, self.parameters, self.rank, reference, pairs, self.name, self.report, self.cache
        )

    def cycles(self, prompt: Prompt, completions: Sequence[Completion], *, at_least: float = 0.0) -> dict[str, Any]:
        """Cycles among completions of one prompt, as `tacit.rewards.cycles.describe`, with the members' support."""
        raw = self._outputs(encode(self.encoder, self.cache, [prompt] * len(completions), completions))
        return _cycles(raw, at_least)

    def _outputs(self, features: np.ndarray) -> Tensor:
        raw = by_output(torch.from_numpy(heads.score_in_chunks(self.parameters, features)), self.outputs)
        return raw if self.outputs > 1 else raw[..., None]

    def save(self, folder: str | Path) -> None:
        """Write the folder atomically; a former reward there is replaced."""
        lines = "".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in self.references)
        save_reward(
            folder,
            "pairwise",
            self.name,
            config=encoder_config(self.encoder) | {"members": self.members, "rank": self.rank},
            tensors=self.parameters | {"reference": self.reference},
            texts={"references.jsonl": lines},
            report=self.report,
            origin=self.origin,
            meaning="Scores are log-odds of winning against a random completion of references.jsonl. "
            "To know which of two is preferred, use `compare`: preferences may go in circles.",
        )

    @classmethod
    def load(cls, folder: str | Path, *, cache: str | Path | None = None) -> PairwiseReward:
        """Read it back; raises `ArtefactError` where it is damaged or its encoder has changed."""
        manifest, tensors = open_reward(folder, "pairwise")
        reference = tensors.pop("reference")
        lines = (Path(folder) / "references.jsonl").read_text("utf-8").splitlines()
        references = [[row["prompt"], row["completion"]] for row in map(json.loads, lines)]
        return cls(
            encoder_of(manifest, folder),
            tensors,
            manifest["rank"],
            reference,
            references,
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
    name: str = "pairwise",
    rank: int = 2,
    references: int = 256,
    **options: Any,
) -> PairwiseReward:
    """Learn preferences between two completions from comparisons.

    `rank` is the number of circles (planes of rotation) that the circular part may hold, `references` the size of the
    reference set. `options` are fields of `FitOptions` (`several.SHARED`). Raises `TacitError` for an option or a kind
    of evidence that does not fit.
    """
    start = time.perf_counter()
    chosen = shared_options(options, ("rank", "references"), "pairwise")
    for option, value in (("rank", rank), ("references", references)):
        if value < 1:
            raise TacitError(f"option `{option}` is {value}. Give 1 or more")
    source = getattr(evidence, "source", "memory")
    examples = collect(evidence, source)
    if examples.kind != "comparison":
        raise EvidenceError(
            f"model `pairwise` learns from comparisons, these are {examples.kind}s",
            mend="Give comparisons",
            source=source,
        )
    encoder = load_encoder(encoder) if isinstance(encoder, str) else encoder
    features = FeatureStore(encoder, cache).features(examples.texts)
    found, chosen_rank, report = choose(features, examples, chosen, rank)
    targets, weight = targets_of(examples), torch.from_numpy(examples.weight)
    gap = _gap(found)
    temperature = temperature_of(
        torch.stack([gap, torch.zeros_like(gap)], dim=-1).mean(0, keepdim=True),
        targets[found.held],
        weight[found.held],
        OBJECTIVES["bradley_terry"],
    )
    parameters = _tempered(found.parameters, chosen_rank, temperature)
    sample = np.random.default_rng(chosen.seed).permutation(len(features))[:references]
    sample.sort()
    reward = PairwiseReward(encoder, parameters, chosen_rank, torch.empty(0), name=name)
    reward.cache = None if cache is None else Path(cache)
    reward.reference = reward._outputs(features[sample])
    reward.references = [list(examples.texts[i]) for i in sample]
    known = _cycles(reward.reference[:, : cycles.MOST], 0.0)
    reward.origin = Origin.of_examples(features, examples, seed=chosen.seed)
    reward.report = {
        "kind": "comparison",
        "objective": "pairwise",
        "options": asdict(chosen) | {"hidden": list(chosen.hidden), "rank": rank, "references": references},
        "n_train": len(examples),
        "n_responses": len(examples.texts),
        **found.report,
        **report,
        "temperature": temperature,
        "reference_cycles": {key: known[key] for key in ("items", "triples", "intransitive_triples", "chance")},
        "circular_share": known["circular_share"],
        "seconds": time.perf_counter() - start,
    }
    return reward


def choose(
    features: np.ndarray, examples: Examples, options: FitOptions, rank: int
) -> tuple[SeveralFit, int, dict[str, Any]]:
    """The fit with the ridge of the circular part that forecasts held-out votes best, its rank, and the gain over the
    scalar reward in nats a vote; the scalar one where no other gains more than a standard error."""
    scalar = fit_several(features, examples, OBJECTIVES["bradley_terry"], options)
    targets = targets_of(examples)[scalar.held]
    weight = examples.weight[scalar.held.numpy()]
    blocks = examples.blocks[scalar.held.numpy(), 0]
    plain = bradley_terry(scalar.held_scores, targets, torch.zeros(1, 0)).mean(0)
    path = []
    best, best_gain, best_low = None, 0.0, 0.0
    for multiple in MULTIPLES:
        # The ridge of the scalar part is known: only the circular part's remains to be chosen.
        own = options if options.head == "mlp" else FitOptions(**{**asdict(options), "l2": scalar.report["l2"]})
        tried = fit_several(features, examples, objective_of(rank, multiple), own)
        losses = pairwise_loss(tried.held_scores, targets, torch.zeros(1, 0)).mean(0)
        gain, low, high = clustered_mean((plain - losses).numpy(), weight, blocks)
        path.append({"multiple": multiple, "gain": gain, "gain_ci": [low, high]})
        if gain > max(best_gain, MATTERS, (high - gain) / 1.96):
            best, best_gain, best_low = tried, gain, low
    report = {"circular_path": path, "circular_gain": best_gain, "circular": best is not None and best_low > 0}
    return (scalar, 0, report) if best is None else (best, rank, report)


def _gap(found: SeveralFit) -> Tensor:
    """Held-out log-odds (members, m)."""
    held = found.held_scores
    return held[..., 0] - held[..., 1] if held.dim() == 3 else log_odds(held[..., 0, :], held[..., 1, :])


def _tempered(parameters: Parameters, rank: int, temperature: float) -> Parameters:
    """The head of d / T: s / T, and both factors of the circular part by the root of T."""
    outputs = 1 + 2 * rank
    by = torch.full((outputs,), temperature**0.5)
    by[0] = temperature
    result = dict(parameters)
    for part in ("linear", "bias", "out"):
        if part in result:
            rows = by.repeat(len(result[part]) // outputs)
            result[part] = result[part] / (rows if part == "bias" else rows[:, None])
    return result


def _against(raw: Tensor, reference: Tensor, chunk: int = 4096) -> Tensor:
    """Log-odds (K, n) of the mean probability of winning against reference (K, R, outputs); `raw` (K, n, outputs)."""
    rank = (raw.shape[-1] - 1) // 2
    s, u, v = reference[..., 0], reference[..., 1 : 1 + rank], reference[..., 1 + rank :]
    parts = []
    for start in range(0, raw.shape[1], chunk):
        own = raw[:, start : start + chunk]
        gap = own[..., :1] - s[:, None]  # (K, n, R)
        gap = gap + own[..., 1 : 1 + rank] @ v.transpose(1, 2) - own[..., 1 + rank :] @ u.transpose(1, 2)
        win = torch.nn.functional.logsigmoid(gap).logsumexp(-1)
        parts.append(win - torch.nn.functional.logsigmoid(-gap).logsumexp(-1))
    return torch.cat(parts, dim=1) if parts else raw.new_zeros(len(raw), 0)


def _cycles(raw: Tensor, at_least: float) -> dict[str, Any]:
    """`cycles.describe` of the members' mean log-odds of outputs (K, m, outputs), with each cycle's support."""
    members = log_odds(raw[:, :, None], raw[:, None]).double().numpy()
    found = cycles.describe(members.mean(0), at_least=at_least)
    return found | {"cycles": cycles.supported(found["cycles"], members)}
