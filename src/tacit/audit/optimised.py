"""Over-optimisation in the report: how far to choose or tune by this reward, where a gold score says what is true."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tacit.audit.bootstrap import Array
from tacit.audit.figures import Line, line_chart
from tacit.audit.overoptimisation import study_curve
from tacit.audit.sections import Figure, Finding, Section, Table
from tacit.audit.study import Study
from tacit.conversation import Completion, Prompt, completion_text, texts
from tacit.evidence.records import Record
from tacit.improve.select import Candidates
from tacit.rewards.contract import Reward
from tacit.rewards.scoring import member_scores, responses
from tacit.rewards.uncertainty import How, read_members

_TITLE = "Over-optimisation"
_FEWEST = 4
_READINGS: tuple[How, ...] = ("none", "min", "variance")


def over_optimisation(study: Study) -> Section:
    """Gold against proxy under best-of-n, the fitted law, its peak, and what pessimism changes."""
    found = _scores(study)
    if isinstance(found, str):
        return Section.missing("optimised", _TITLE, found)
    members, gold, lengths = found
    curves: dict[str, dict[str, Any]] = {
        how: study_curve(read_members(members, how), gold, resamples=study.resamples, seed=study.seed)
        for how in (_READINGS if len(members) > 1 else _READINGS[:1])
    }
    control = study_curve(lengths, gold, resamples=study.resamples, seed=study.seed)
    main = curves["none"]
    kl = main["kl"]
    low, high = ([ends[side] for ends in main["gold_ci"]] for side in (0, 1))
    lines = [
        Line("delivered: gold score of its choice", kl, main["gold"], low, high),
        Line("promised: the reward itself", kl, main["proxy"], dashed=True),
        Line("the fitted law d (α − β d)", kl, main["law"], dashed=True, colour=4),
        Line("length alone", kl, control["gold"], colour=3),
    ]
    lines += [Line(f"with pessimism {name}", kl, c["gold"], colour=2) for name, c in curves.items() if name == "min"]
    marks = [] if main["peak_kl"] is None or main["peak_kl"] > kl[-1] else [(main["peak_kl"], "predicted peak")]
    chart = line_chart(
        lines,
        title="Gold score against KL",
        x_label="KL bound of best of n, nats",
        y_label="standard deviations",
        marks=marks,
        upper=[(at, f"n = {n}" if k == 0 else str(n)) for k, (at, n) in enumerate(zip(kl, main["n"], strict=True))],
    )
    rows = [_row(name, curve) for name, curve in {**curves, "none: length alone": control}.items()]
    return Section(
        "optimised",
        _TITLE,
        "The more candidates the reward chooses among, the further the choice lies from plain sampling (KL), and the "
        "more it finds the reward's errors. Where the delivered curve turns down, choosing harder hurts.",
        {"curves": curves, "length": control},
        (
            Figure(
                chart,
                f"{_shape(gold)}. 95% band, resampled by {'prompt' if gold.ndim == 2 else 'item'}, seed {study.seed}.",
            ),
        ),
        (Table(rows, "Best of n by this reward"),),
        tuple(_findings(main)),
    )


def candidates_of(evidence: Iterable[Record]) -> list[Candidates]:
    """The distinct completions of each prompt of some evidence, as candidates without a gold score."""
    found: dict[str, dict[str, tuple[Prompt, Completion]]] = {}
    for record in evidence:
        for prompt, completion in responses(record):
            asked, said = texts(prompt, completion)
            found.setdefault(asked, {}).setdefault(said, (prompt, completion))
    return [
        Candidates(row, next(iter(own.values()))[0], [completion for _, completion in own.values()])
        for row, own in enumerate(found.values(), 1)
    ]


def scored_by(gold: Reward, candidates: Sequence[Candidates]) -> list[Candidates]:
    """Candidates with the scores of another reward as gold."""
    prompts = [c.prompt for c in candidates for _ in c.completions]
    scores = gold.score(prompts, [text for c in candidates for text in c.completions]).astype(np.float64)
    ends = np.cumsum([len(c.completions) for c in candidates])
    return [
        replace(c, gold=scores[end - len(c.completions) : end].tolist())
        for c, end in zip(candidates, ends, strict=True)
    ]


def _scores(study: Study) -> tuple[Array, Array, Array] | str:
    """Members' scores (k, ...), gold (...) and lengths (...) of candidates by prompt or of one pool of items; or why
    there are none."""
    listed = [c for c in study.candidates if c.gold is not None and len(c.completions) >= _FEWEST]
    if len(listed) == 1:
        return "one prompt alone has candidates with a gold score, and intervals need two or more."
    if listed:
        most = min(len(c.completions) for c in listed)
        prompts = [c.prompt for c in listed for _ in range(most)]
        completions = [text for c in listed for text in c.completions[:most]]
        mean, members = member_scores(study.reward, prompts, completions)
        shape = (len(listed), most)
        gold = np.array([c.gold[:most] for c in listed if c.gold is not None], dtype=np.float64)
        lengths = np.array([len(completion_text(text)) for text in completions], dtype=np.float64).reshape(shape)
        every = mean[None] if members is None else members
        return every.reshape(-1, *shape).astype(np.float64), gold, lengths
    pairs = study.pairs
    if pairs.against == "gold" and study.items.one_prompt and len(pairs.target_item) >= 50:
        item = pairs.target_item
        every = study.scores[None] if study.members is None else study.members
        return every[:, item], pairs.target, study.lengths[item]
    if study.candidates:
        return f"no prompt has {_FEWEST} candidates with a gold score."
    return "there are no candidates with a gold score. Give --candidates FILE with a column `gold`, or --gold REWARD."


def _findings(curve: dict[str, Any]) -> list[Finding]:
    numbers = {
        key: curve[key] for key in ("peak_kl", "peak_kl_ci", "peak_n", "measured_peak_n", "measured_peak_n_ci", "gap")
    }
    most, best = curve["n"][-1], int(curve["measured_peak_n"])
    low, high = curve["measured_peak_n_ci"]
    if high < most and curve["lost_ci"] is not None and curve["lost_ci"][0] > 0:
        sentence = (
            f"Use it for best-of-n up to n = {best} (95% {low:.0f} to {high:.0f}): at n = {most} the gold score is "
            f"{curve['lost']:.2f} standard deviations below its best (95% {curve['lost_ci'][0]:.2f} to "
            f"{curve['lost_ci'][1]:.2f})."
        )
        findings = [Finding("over_optimised", "fault", sentence, numbers)]
    else:
        gain, ends = curve["final_gold"], curve["final_gold_ci"]
        sentence = (
            f"Best-of-n helps up to n = {most}, the most that was tried: {gain:+z.2f} standard deviations of gold score"
        )
        sentence += f" (95% {ends[0]:+z.2f} to {ends[1]:+z.2f})."
        severity: Any = "good" if ends[0] > 0 else "warning"
        findings = [Finding("best_of_n", severity, sentence, numbers)]
    if curve["peak_kl"] is not None:
        ends = curve["peak_kl_ci"]
        upper = "beyond measure" if ends is None or ends[1] is None else f"{ends[1]:.1f}"
        lower = "?" if ends is None or ends[0] is None else f"{ends[0]:.1f}"
        peak, tried = curve["peak_kl"], curve["kl"][-1]
        if peak <= tried:
            sentence = f"Do not tune past KL {peak:.1f} nats (95% {lower} to {upper}), where the fitted law peaks."
        else:
            sentence = (
                f"The fitted law peaks at KL {peak:.1f} nats (95% {lower} to {upper}), and {tried:.1f} were tried: "
                "a forecast, not a measurement. Do not tune past what was tried without a gold score beside the run."
            )
        findings.append(Finding("kl_budget", "advice", sentence, numbers))
    return findings


def _row(name: str, curve: dict[str, Any]) -> dict[str, Any]:
    return {
        "pessimism": name,
        "gain at the largest n": curve["final_gold"],
        "95%": curve["final_gold_ci"],
        "best n": int(curve["measured_peak_n"]),
        "best n 95%": [int(end) for end in curve["measured_peak_n_ci"]],
        "predicted peak, KL": "none in reach" if curve["peak_kl"] is None else curve["peak_kl"],
        "promised minus delivered": curve["gap"],
    }


def _shape(gold: Array) -> str:
    return (
        f"{len(gold):,} prompts with {gold.shape[1]} candidates each"
        if gold.ndim == 2
        else f"one pool of {len(gold):,} items"
    )
