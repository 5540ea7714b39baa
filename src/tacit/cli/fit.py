"""Evidence to reward: `tacit check`, `fit` and `combine`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tacit import terminal
from tacit.cli.app import app
from tacit.errors import TacitError
from tacit.options.fit import (
    FIT_OPTIONS,
    JUDGE_OPTIONS,
    PEOPLE_OPTIONS,
    REASONING_OPTIONS,
    SHAPE_OPTIONS,
    CheckOptions,
    CombineOptions,
    FitOptions,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tacit.evidence import Evidence, Finding, Report
    from tacit.features import Encoder


@app.command
def check(data: str, *, options: Annotated[CheckOptions, Parameter(name="*")] = CheckOptions()) -> None:  # noqa: B008
    """What is wrong with the data, row by row, and how to fix it; ends with 2 where something is.

    Parameters
    ----------
    data
        File, folder or hub:owner/name of evidence.
    """
    from tacit.evidence import check as check_evidence
    from tacit.rewards.encoding import ids_of

    against = None if options.against is None else options.read(options.against)
    encoder = options.opened(data)
    evidence = options.read(data, ids=ids_of(encoder))
    report = check_evidence(evidence, against=against, limit=options.limit)
    report.findings.extend(_unread(encoder, evidence, report, options.limit))
    if options.json_:
        terminal.print_json(report.to_dict())
    else:
        for finding in report.findings:
            print(finding)
        terminal.print_table(terminal.named_rows(report.statistics), f"{report.source}: {report.kind}")
        read = report.columns.get("read", {})
        if read:
            named = (name if name == role else f"{name} as {role}" for name, role in read.items())
            print(f"columns read: {', '.join(named)}")
        if unused := report.columns.get("unused"):
            print(f"columns kept and not used: {', '.join(unused)}")
    if not report.ok:
        count = len(report.errors)
        found = "an error" if count == 1 else f"{count} kinds of errors"
        raise TacitError(f"{data}: {found} in the data. Fix {'it' if count == 1 else 'them'} as said above")


def _unread(encoder: Encoder, evidence: Evidence, report: Report, limit: int) -> Sequence[Finding]:
    """What an encoder would not read of evidence whose rows are sound."""
    from tacit.rewards.truncation import truncation, without_vector

    if any(finding.code == "broken_rows" for finding in report.findings) or not report.statistics["records"]:
        return []
    cut = truncation(encoder, evidence.rows(), limit=limit)
    return [*without_vector(encoder, evidence.rows(), limit=limit), *([] if cut is None else cut.findings())]


@app.command
def fit(data: str, *, options: Annotated[FitOptions, Parameter(name="*")]) -> None:
    """Evidence to reward, with a report on prompts that it has not seen.

    Parameters
    ----------
    data
        File, folder or hub:owner/name of evidence of any kind.
    """
    from tacit import rewards
    from tacit.artefacts import write_json
    from tacit.audit.metrics import evaluate
    from tacit.audit.overlap import warning
    from tacit.rewards.contract import Personal

    options.output("fit", options.out, data=data).require_folder("reward.json")
    start = time.perf_counter()
    options.permit()
    encoder = options.vectors(data)
    train, test = _sides(data, options, encoder)
    cache = options.encoded()
    prepared = options.imitates(train, test, encoder=encoder, cache=cache, seed=options.seed)
    if prepared is not None:
        train, test = prepared.train, prepared.test
    own = set(FIT_OPTIONS + SHAPE_OPTIONS + REASONING_OPTIONS + PEOPLE_OPTIONS + JUDGE_OPTIONS)
    # A saved configuration names every option: those at their defaults say nothing, and a model may lack them.
    chosen = options.model_dump(include=own, exclude_defaults=True) | {"seed": options.seed}
    chosen |= {"pessimism": options.pessimism or "none", "strength": options.pessimism_strength}
    reward = rewards.fit(
        train, model=options.learns(), encoder=encoder, cache=cache, name=options.out.absolute().name, **chosen
    )
    shown = []
    if prepared is not None:
        from tacit.demonstrations.fit import tested

        shown = tested(reward, prepared, evaluate, resamples=options.resamples, seed=options.seed)
        reward.report["demonstrations"] = {**prepared.report, "held_out": shown}
        reward.report["warnings"] = [*reward.report.get("warnings", ()), *prepared.report.get("warnings", ())]
    terminal.print_notes([*train.notes, *reward.report.get("warnings", ())])
    metrics = evaluate(reward, test, resamples=options.resamples, seed=options.seed) if test is not None else {}
    if options.test_data is not None and (said := warning(metrics, options.test_data)):
        print(f"tacit: {said}", file=sys.stderr)
    people = []
    if test is not None and isinstance(reward, Personal):
        from tacit.rewards.people.table import narrow, personal_table

        people = personal_table(reward, test, resamples=options.resamples, seed=options.seed)
    result = {
        **metrics,
        **({"people": people} if people else {}),
        "n_train": reward.report["n_train"],
        "n_test": metrics.get("n_test", 0),
        "n_dropped": train.dropped,
        "fit": reward.report,
        "out": str(options.out),
        "seconds": time.perf_counter() - start,
    }
    with options.folder("fit", options.out, "reward.json", data=data) as folder:
        reward.save(folder)
        write_json(folder / "metrics.json", terminal.finite(result))
    options.show(result, terminal.metric_rows(result), f"Reward in {options.out}")
    if shown and not options.json_:
        terminal.print_table(shown, "Held-out demonstrations against answers of the policies")
    if people and not options.json_:
        terminal.print_table(narrow(people), "Adapted to one person from that many comparisons, tested on others")


def _sides(data: str, options: FitOptions, encoder: str | Encoder) -> tuple[Evidence, Evidence | None]:
    """What to fit on and what to report on; says where a split by prompt is none."""
    from tacit.evidence import split
    from tacit.evidence.split import effective_by
    from tacit.rewards.encoding import ids_of, require_vectors

    train = options.read(data, ids=ids_of(encoder))
    options.refuse_unused(train.kind)
    if options.test_data is not None:
        require_vectors(options.test_data, encoder, given=Path(options.test_data) == Path(data))
        return train, options.read(options.test_data, ids=ids_of(encoder))
    if options.test and train.kind != "problem":  # a verifier learns nothing that a split could test
        by = effective_by(train, options.by)
        sides = split(train, by=by, test=options.test, seed=options.seed)
        if by != options.by:
            said = f"all rows have the same prompt, or none. Split by {by}: no answer is on both sides"
            print(f"tacit: {data}: {said}", file=sys.stderr)
        return sides
    return train, None


@app.command
def combine(recipe: Path, *, options: Annotated[CombineOptions, Parameter(name="*")]) -> None:
    """A YAML file of rewards (sums, gates, vetoes, verifiers) as one folder that needs no other.

    Parameters
    ----------
    recipe
        YAML file that describes the reward; score, audit and select take it as it is, too.
    """
    from tacit.artefacts import write_json
    from tacit.rewards.recipe import combined

    with options.folder("combine", options.out, "reward.json", recipe=recipe) as folder:
        reward, result = combined(
            options.load(recipe, options.encoded()), None if options.data is None else options.read(options.data)
        )
        reward.save(folder)
        write_json(folder / "metrics.json", terminal.finite(result))
    options.show(result, result["parts"], f"Reward in {options.out}")
