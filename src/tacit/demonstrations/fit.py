"""From demonstrations to comparisons that any reward can be fitted on: what `tacit fit --from demonstrations` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tacit.demonstrations.extrapolation import SIDES, AnswerOptions, Demos, Extrapolation, Pairing, supervised
from tacit.errors import EvidenceError, TacitError
from tacit.evidence import Evidence
from tacit.rewards.contract import Reward
from tacit.tuning.data import answerable


@dataclass
class Prepared:
    """Comparisons in place of demonstrations."""

    train: Evidence
    test: Evidence | None
    """The same pairing on prompts that were held out; the SFT policy has not seen their demonstrations either."""
    others: dict[str, Evidence] = field(default_factory=dict)
    """Held-out demonstrations against answers of each policy, whatever the pairing."""
    report: dict[str, Any] = field(default_factory=dict)


def prepare(
    train: Evidence,
    test: Evidence | None = None,
    *,
    pairing: Pairing | None = None,
    policy: str | Path | Any = None,
    sft: str | Path | Any = None,
    options: AnswerOptions = AnswerOptions(),  # noqa: B008
    work: str | Path | None = None,
    encoder: str | Any = "auto",
    cache: str | Path | None = None,
    device: str | None = None,
) -> Prepared:
    """Make comparisons of demonstrations.

    Args:
        train: demonstrations (or comparisons, whose chosen sides are taken) to learn from.
        test: demonstrations of other prompts.
        pairing: see `extrapolation`; `init-sft` where there is a policy, `mismatched` where there is none.
        policy: the initial policy: a transformers folder, or anything that generates.
        sft: the SFT policy; trained on `train`, and kept in `work`, where a pairing needs it and none is given.
        options: how answers are drawn, and how the SFT policy is trained.
        work: folder of samples and of the SFT policy, which are found there again.
        encoder: of the features that heterogeneity is measured on.
        cache: folder of encoded texts.
        device: where policies run.

    Raises `TacitError` for a pairing that lacks its policy, and `EvidenceError` where nothing is left to compare.
    """
    from tacit.features import load_encoder

    way: Pairing = pairing or ("mismatched" if policy is None and sft is None else "init-sft")
    if way == "mismatched" and (policy is not None or sft is not None):
        raise TacitError("pairing mismatched asks no policy. Leave --policy and --sft out, or take another pairing")
    learnt = Demos.of(train, train.source)
    encoder = load_encoder(encoder) if isinstance(encoder, str) else encoder
    folder = None if work is None else Path(work)
    init = _policy(policy, device)
    trained = None
    if "sft" in SIDES.get(way, ()) and sft is None and init is not None:
        sft = trained = _trained(init, learnt, folder, options)
    made = Extrapolation(way, init, _policy(sft, device), options, folder)
    learnt, left_out = _readable(made, learnt)
    found = made.pairs(learnt, encoder=encoder, cache=cache)
    report = {**found.report, "sft_trained": None if trained is None else str(trained), "left_out": left_out}
    if left_out:
        said = f"{left_out} of {left_out + len(learnt)} demonstrations have prompts that leave no room for an answer"
        report["warnings"] = [*report.get("warnings", ()), f"{said}; they are left out"]
    held, others = None, {}
    if test is not None:
        unseen, _ = _readable(made, Demos.of(test, test.source))
        try:
            held = made.pairs(unseen).evidence(test.source)
        except EvidenceError:  # too few prompts to test on is no reason not to learn
            held = None
        others = _others(made, unseen, test.source)
    return Prepared(found.evidence(train.source), held, others, report)


def tested(reward: Reward, prepared: Prepared, evaluate: Any, *, resamples: int, seed: int) -> list[dict[str, Any]]:
    """A row for each policy: how often held-out demonstrations score above its answers; length alone beside it.

    `evaluate` is `tacit.audit.metrics.evaluate`, which lies on the same floor as this room and so is handed in.
    """
    rows = []
    for name, evidence in prepared.others.items():
        found = evaluate(reward, evidence, resamples=resamples, seed=seed)
        rows.append(
            {
                "demonstration against": name,
                "accuracy": found["accuracy"],
                "accuracy_ci": found["accuracy_ci"],
                "length_accuracy": found["length_accuracy"],
                "pairs": found["n_test"],
            }
        )
    return rows


def _others(made: Extrapolation, demos: Demos, source: str) -> dict[str, Evidence]:
    found: dict[str, Evidence] = {}
    ways: Sequence[tuple[str, Pairing, Any]] = (
        ("initial policy", "init-demo", made.init),
        ("SFT policy", "sft-demo", made.sft),
    )
    for name, way, policy in ways:
        if policy is not None and way != made.pairing:
            pairs = Extrapolation(way, made.init, made.sft, made.options, made.work).pairs(demos)
            if pairs.comparisons:
                found[name] = pairs.evidence(source)
    return found


def _readable(made: Extrapolation, demos: Demos) -> tuple[Demos, int]:
    """Demonstrations whose prompts leave every policy room for an answer, and how many others there are."""
    room = np.full(len(demos), True)
    for policy in (made.init, made.sft):
        if policy is not None:
            room &= answerable(policy, demos.prompts)
    return demos.take(room.nonzero()[0].tolist()), int((~room).sum())


def _policy(given: Any, device: str | None) -> Any:
    """A policy, loaded where a folder is named."""
    if given is None or not isinstance(given, str | Path):
        return given
    from tacit.policies.transformer import TransformerPolicy

    return TransformerPolicy.load(given, device=device)


def _trained(init: Any, demos: Demos, work: Path | None, options: AnswerOptions) -> Any:
    """The SFT policy: its folder in `work`, or, where nothing is kept, the policy itself."""
    if work is not None:
        return supervised(init, demos, work, options)
    import tempfile

    from tacit.policies.transformer import TransformerPolicy

    with tempfile.TemporaryDirectory() as folder:
        return TransformerPolicy.load(supervised(init, demos, folder, options), device=str(init.device))
