"""What an audit on demonstrations looks at: how far a policy's answers lie from demonstrations that nobody learnt from.

- Can they be told apart? `distance.discriminate` by length alone, by surface alone and by all features; MMD with its
  p-value.
- Held-out likelihood: nats a token that the policy gives the demonstrations.
- Memorisation, where the demonstrations that were learnt from are given: are answers nearer to them than demonstrations
  that were held out are?

The reward's own part comes as comparisons, each demonstration over an answer to its prompt, which the rest of the audit
takes like any others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tacit.conversation import completion_text, texts
from tacit.demonstrations.distance import FOLDS, heterogeneity, memorisation
from tacit.demonstrations.extrapolation import AnswerOptions, Demos, Extrapolation
from tacit.demonstrations.samples import draw
from tacit.errors import EvidenceError
from tacit.evidence import Evidence

_MOST = 2000
"""Answers and demonstrations that distances are taken of."""


@dataclass
class Imitated:
    """Comparisons for the audit of the reward, and what was measured of the policy."""

    comparisons: Evidence
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The discriminators as a table."""
        found: list[dict[str, Any]] = self.numbers["told_apart"]
        return found


def imitated(
    policy: Any,
    evidence: Evidence,
    *,
    learnt: Evidence | None = None,
    encoder: str | Any = "auto",
    options: AnswerOptions = AnswerOptions(),  # noqa: B008
    work: str | Path | None = None,
    cache: str | Path | None = None,
    device: str | None = None,
) -> Imitated:
    """Compare answers of a policy (or of the transformers folder of one) with demonstrations that it has not seen.

    `learnt` are the demonstrations that it, or the reward, learnt from. Raises `EvidenceError` for fewer than five
    prompts.
    """
    from tacit.features import FeatureStore, load_encoder

    if isinstance(policy, str | Path):
        from tacit.policies.transformer import TransformerPolicy

        policy = TransformerPolicy.load(policy, device=device)
    encoder = load_encoder(encoder) if isinstance(encoder, str) else encoder
    demos = Demos.of(evidence, evidence.source)
    prompts, said, _ = demos.grouped()
    if len(prompts) < FOLDS:
        raise EvidenceError(
            f"{len(prompts)} prompts are too few to tell answers from demonstrations on prompts held out",
            mend=f"Give demonstrations of at least {FOLDS} prompts",
            source=evidence.source,
            column="prompt",
        )
    folder = None if work is None else Path(work)
    made = Extrapolation("init-demo", policy, options=options, work=folder).pairs(demos)
    answers, _ = draw(policy, prompts, options.answers, options.sampling(1), folder)
    ours = [texts(p, one) for p, every in zip(prompts, answers, strict=True) for one in every][:_MOST]
    theirs = [texts(p, one) for p, every in zip(prompts, said, strict=True) for one in every][:_MOST]
    apart = heterogeneity(ours, theirs, encoder, cache=cache, seed=options.seed)
    numbers: dict[str, Any] = {
        "policy": policy.name,
        "prompts": len(prompts),
        "demonstrations": len(demos),
        "told_apart": apart["rows"],
        "mmd2": apart["mmd2"],
        "mmd_p": apart["mmd_p"],
    }
    if hasattr(policy, "logprobs"):
        from tacit.tuning.processes import Processes
        from tacit.tuning.supervised import encode, nll

        context = getattr(getattr(policy, "codec", None), "context", None)
        rows = encode(policy, demos.prompts, demos.completions, demos.weights, context)
        numbers["nats_per_token"] = nll(policy, rows, 32, Processes())
    if learnt is not None:
        store = FeatureStore(encoder, cache)
        known = Demos.of(learnt, learnt.source)
        sides = (
            [("", completion) for _, completion in ours],
            [("", completion) for _, completion in theirs],
            [("", completion_text(completion)) for completion in known.completions],
        )
        numbers["memorisation"] = memorisation(*(store.features(side) for side in sides), seed=options.seed)
    return Imitated(made.evidence(evidence.source), numbers)
