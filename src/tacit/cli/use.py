"""What a reward is for: `tacit score`, `audit`, `select` and `export`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tacit import terminal
from tacit.cli.app import app, usage
from tacit.options.common import pairs
from tacit.options.use import AUDIT_OPTIONS, AuditOptions, ExportOptions, ScoreOptions, SelectOptions

if TYPE_CHECKING:
    from tacit.audit.report import Report


@app.command
def score(reward: Path, data: str, *, options: Annotated[ScoreOptions, Parameter(name="*")]) -> None:
    """Scores, and their spread over members, beside every row; with --for those of one person.

    Parameters
    ----------
    reward
        Folder that `tacit fit` wrote.
    data
        File, folder or hub:owner/name of evidence; rows with `prompt` and `completion` are enough.
    """
    from tacit.evidence.write import row_writer
    from tacit.rewards.people.choices import marked_rows
    from tacit.rewards.scoring import scored_rows

    start, rows = time.perf_counter(), 0
    terminal.require_apart(options.out, data, options.for_, options.items)
    with row_writer(options.out) as write:
        own, choices = options.load_own(reward, options.encoded())
        evidence = options.read(data)
        for batch in marked_rows(own, evidence, choices) if choices else scored_rows(own, evidence):
            write(batch)
            rows += len(batch)
    options.keep(terminal.beside(options.out, ".config.yaml"), reward=reward, data=data)
    result = {"rows": rows, "out": str(options.out), "seconds": time.perf_counter() - start}
    options.show(result | usage(own), [result])


@app.command
def audit(
    reward: Path,
    data: str,
    *more: str,
    options: Annotated[AuditOptions, Parameter(name="*")] = AuditOptions(),  # noqa: B008
) -> None:
    """How far a reward can be trusted: metrics with intervals on evidence that it has not seen.

    Parameters
    ----------
    reward
        Folder that `tacit fit` wrote.
    data
        File, folder or hub:owner/name of comparisons, rankings, outcomes, ratings, steps, or demonstrations (--policy).
    more
        To compare several rewards, `tacit audit A B ... DATA`: each with the others, on the same data.
    """
    from tacit.audit.metrics import evaluate
    from tacit.audit.run import run

    named = [reward, *map(Path, (data, *more)[:-1]), *options.others]
    data = (data, *more)[-1]
    if len(named) > 1:
        return _compare(named, data, options)
    start = time.perf_counter()
    terminal.require_apart(options.out, data, options.for_, options.items)
    loaded, choices = options.load_own(reward, options.encoded())
    evidence = options.read(data)
    if choices:
        from tacit.rewards.people.choices import leave_out

        evidence = leave_out(evidence, choices)
    against = options.imitated(loaded, evidence, options.read, options.seed)
    evidence = evidence if against is None else against.comparisons
    metrics = evaluate(loaded, evidence, resamples=options.resamples, seed=options.seed)
    trained = getattr(loaded, "report", {}).get("n_train")
    result = {**metrics, "n_train": trained, "seconds": time.perf_counter() - start}
    result |= {"n_adapted": len(choices), "n_left_out": evidence.dropped} if choices else {}
    result |= usage(loaded)
    page = options.out is not None and options.out.suffix == ".html"
    imitated = None if against is None else against.numbers
    result |= {} if imitated is None else {"demonstrations": imitated}
    asked = {name: getattr(options, name) for name in AUDIT_OPTIONS}
    report = run(loaded, evidence, page=page, imitated=imitated, cache=options.encoded(), **asked)
    result |= {} if report is None else {"audit": report.to_dict()}
    _write_audit(report, result, options, reward=reward, data=data)
    options.show(result, terminal.metric_rows(result), f"{reward} on {data}")
    if against is not None and not options.json_:
        terminal.print_table(against.rows, f"How well demonstrations are told from answers of {options.policy}")
    if report is not None and (fell := [f for _, f in report.findings if f.key.startswith("fell_")]):
        for finding in fell:
            print(f"tacit: {finding.sentence}", file=sys.stderr)
        sys.exit(1)


def _compare(paths: Sequence[Path], data: str, options: AuditOptions) -> None:
    """Several rewards on the same data."""
    from tacit.audit.compare import compare

    start = time.perf_counter()
    options.alone()
    terminal.require_apart(options.out, data, options.items)
    loaded = [options.load(path, options.encoded()) for path in paths]
    called = [reward.name for reward in loaded]
    names = called if len(set(called)) == len(called) else [str(path) for path in paths]
    report = compare(loaded, options.read(data), names=names, resamples=options.resamples, seed=options.seed)
    result = {**report.to_dict(), "seconds": time.perf_counter() - start}
    _write_audit(report, result, options, reward=paths[0], data=data, others=[str(path) for path in paths[1:]])
    options.show(result, report.sections[1].tables[0].rows, f"{', '.join(names)} on {data}")


def _write_audit(report: Report | None, result: dict[str, Any], options: AuditOptions, **arguments: Any) -> None:
    """The page with its numbers beside it, or the numbers alone, and the configuration."""
    if options.out is None:
        return
    if report is not None and options.out.suffix == ".html":
        from tacit.artefacts import atomic_file

        with atomic_file(options.out) as temporary:
            temporary.write_text(report.html(), "utf-8")
        result["out"] = str(options.out)
        terminal.write_result(options.out.with_name("metrics.json"), result)
        if not options.json_:
            for _, finding in report.findings[: report.SENTENCES]:
                print(f"{finding.severity}: {finding.sentence}")
    else:
        terminal.write_result(options.out, result)
    options.keep(terminal.beside(options.out, ".config.yaml"), **arguments)


@app.command
def select(reward: Path, data: Path, *, options: Annotated[SelectOptions, Parameter(name="*")]) -> None:
    """The best of n candidates for each prompt, and with --curve what that gains.

    Parameters
    ----------
    reward
        Folder that `tacit fit` wrote.
    data
        File of candidates: rows of `prompt` and a list `completions`, or of `prompt` and `completion` sorted by prompt.
    """
    from tacit.evidence.write import row_writer
    from tacit.improve import select as selection

    start, prompts = time.perf_counter(), 0
    kept: list[selection.Selected] = []
    terminal.require_apart(options.out, data)
    candidates = selection.read_candidates(data, gold=options.gold, columns=pairs("--columns", options.columns))
    with row_writer(options.out) as write:
        loaded = options.load(reward, options.encoded())
        for batch in selection.select(loaded, candidates, n=options.n):
            write([choice.row() for choice in batch])
            prompts += len(batch)
            kept += batch if options.curve else []
        curve = selection.curve(kept, seed=options.seed) if options.curve else None
    options.keep(terminal.beside(options.out, ".config.yaml"), reward=reward, data=data)
    result = {"prompts": prompts, "out": str(options.out), "seconds": time.perf_counter() - start}
    whole = result | {"curve": curve} | usage(loaded)
    if curve is not None:
        terminal.write_result(terminal.beside(options.out, ".curve.json"), curve)
        options.show(whole, selection.curve_rows(curve), f"Best of n over {prompts} prompts, true reward")
    else:
        options.show(whole, [result])


@app.command
def export(reward: Path, *, options: Annotated[ExportOptions, Parameter(name="*")]) -> None:
    """A reward as a checkpoint for other programs, with equal scores.

    Parameters
    ----------
    reward
        Folder of a reward on a transformer's features (minilm or hf:PATH), or of a language model.
    """
    from tacit import rewards
    from tacit.rewards.export import to_hf

    start = time.perf_counter()
    terminal.require_free(options.out, "config.json")
    result = to_hf(rewards.load(reward), options.out, form=options.form)
    result |= {"out": str(options.out), "seconds": time.perf_counter() - start}
    options.keep(terminal.beside(options.out, ".config.yaml"), reward=reward)
    options.show(result, [result])
