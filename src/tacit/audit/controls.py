"""Rewards that know nothing, beside the one under audit: one that does not beat them is told so."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from tacit.audit.bootstrap import Array, Index
from tacit.audit.crossfit import cross_fit
from tacit.audit.figures import Interval, interval_chart
from tacit.audit.sections import Figure, Finding, Section, Table
from tacit.audit.study import Study
from tacit.errors import TacitError

_PAIRS = 20_000


def controls(study: Study) -> Section:
    """Length alone, random, the reward inverted, and a bag of words fitted on these comparisons by cross-fitting."""
    if study.undecided:
        return Section.missing("controls", "Beside rewards that know nothing", study.undecided)
    credits: dict[str, Array] = {
        "length alone": _credit(study, study.lengths[study.pairs.a] - study.lengths[study.pairs.b])
    }
    lot = np.array([zlib.crc32("\0".join(pair).encode()) for pair in study.items.texts], dtype=np.float64)
    credits["random"] = _credit(study, lot[study.pairs.a] - lot[study.pairs.b])
    credits["inverted"] = 1 - study.credit
    words, why = _bag_of_words(study)
    if words is not None:
        credits["bag of words"] = _credit(study, words)
    columns: list[tuple[Array, Array | None]] = [(study.credit, None)]
    for credit in credits.values():
        known = np.isfinite(credit).astype(np.float64)
        columns += [(np.nan_to_num(credit), known), (np.nan_to_num(study.credit - credit), known)]
    (own, own_ci), *rest = study.shares(columns)
    rows: list[dict[str, Any]] = [
        {"reward": study.reward.name, "accuracy": own, "95%": own_ci, "gain over it": None, "gain 95%": None}
    ]
    findings = []
    for name, (accuracy, ends), (gain, gain_ci) in zip(credits, rest[::2], rest[1::2], strict=True):
        rows.append({"reward": name, "accuracy": accuracy, "95%": ends, "gain over it": gain, "gain 95%": gain_ci})
        if accuracy is None or gain is None or gain_ci is None or gain_ci[0] > 0:
            continue
        key = "beaten_by_" + name.replace(" ", "_")
        if gain_ci[1] < 0:
            sentence = f"{name.capitalize()} beats it: {accuracy:.1%} against {own:.1%} of comparisons"
        elif gain < 0:
            sentence = (
                f"{name.capitalize()} does better, by chance or not: {accuracy:.1%} against {own:.1%} of comparisons"
            )
        else:
            sentence = f"It is not shown to beat {name}: {own:.1%} against {accuracy:.1%} of comparisons"
        sentence += f" (difference {gain:+.1%}, 95% {gain_ci[0]:+.1%} to {gain_ci[1]:+.1%})."
        findings.append(
            Finding(key, "fault" if gain_ci[1] < 0 else "warning", sentence, {"gain": gain, "gain_ci": gain_ci})
        )
    chart = interval_chart(
        [Interval(row["reward"], row["accuracy"], row["95%"], int(k > 0)) for k, row in enumerate(rows)],
        title="Accuracy beside control rewards",
        x_label="accuracy",
        reference=(0.5, "chance"),
    )
    return Section(
        "controls",
        "Beside rewards that know nothing",
        "Differences are paired: the same comparisons, the same resamples. " + why,
        {"controls": rows},
        (Figure(chart, f"Points with 95% intervals. n = {study.n:,}; clustered bootstrap, seed {study.seed}."),),
        (Table(rows),),
        tuple(findings),
    )


def _credit(study: Study, delta: Array) -> Array:
    """(n,) credit as of `Study.credit`; NaN where the control has no opinion of its own."""
    known = np.where(study.pairs.tie > 0, 0.5, (np.sign(np.nan_to_num(delta)) + 1) / 2)
    return np.where(np.isfinite(delta), known, np.nan)


def _bag_of_words(study: Study) -> tuple[Array | None, str]:
    """Log-odds (n,) of a linear fit on hashed words, NaN outside the sample; and what was done, in words."""
    rng = study.rng(10)
    keep = np.sort(rng.permutation(study.n)[:_PAIRS])
    used, place = np.unique(np.r_[study.pairs.a[keep], study.pairs.b[keep]], return_inverse=True)
    try:
        found = cross_fit(
            _hashed(study, used),
            place[: len(keep)],
            place[len(keep) :],
            study.pairs.tie[keep],
            study.blocks[keep],
            rng=rng,
        )[0]
    except TacitError as error:
        return None, f"No bag of words: {error}."
    delta = np.full(study.n, np.nan)
    delta[keep] = found.delta[0]
    return delta, "The bag of words is fitted on these comparisons, each predicted from other prompts."


def _hashed(study: Study, used: Index) -> Array:
    """Hashed words (used, d): those of the reward where it reads them itself, else encoded, with its cache."""
    from tacit.features import FeatureStore, load_encoder

    encoder = load_encoder("hashed")
    own = getattr(study.core, "encoder", None)
    if own is not None and study.features is not None and own.fingerprint == encoder.fingerprint:
        return study.features[used]
    texts = study.items.texts
    vectors: Array = FeatureStore(encoder, getattr(study.core, "cache", None)).features([texts[i] for i in used])
    return vectors
