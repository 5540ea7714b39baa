"""What a reward is for: `tacit score`, `audit`, `select` and `export`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tacit import terminal
from tacit.cli.app import app, usage
from tacit.options.common import pairs
from tacit.options.use import AUDIT_OPTIONS, AuditOptions, ExportOptions, ScoreOptions, SelectOptions

if TYPE_CHECKING:
    from tacit.audit.report import Report
    from tacit.demonstrations.audit import Imitated
    from tacit.outputs import Files


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
    with (
        options.files("score", options.out, reward=reward, data=data) as files,
        row_writer(files.new(options.out)) as write,
    ):
        own, choices = options.load_own(reward, data)
        evidence = options.read_for(own, data, judged=options.kind in ("outcome", "rating"))
        for batch in marked_rows(own, evidence, choices) if choices else scored_rows(own, evidence):
            write(batch)
            rows += len(batch)
    terminal.print_notes(evidence.notes)
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
    named = [reward, *map(Path, (data, *more)[:-1]), *options.others]
    data = (data, *more)[-1]
    if len(named) > 1:
        return _compare(named, data, options)
    start = time.perf_counter()
    with _audit_files(options, reward=reward, data=data) as files:
        report, result, against = _audit(reward, data, options, start)
        if files is not None:
            _write_audit(report, result, options, files)
    options.show(result, terminal.metric_rows(result), f"{reward} on {data}")
    if against is not None and not options.json_:
        terminal.print_table(against.rows, f"How well demonstrations are told from answers of {options.policy}")
    if report is not None and (fell := [f for _, f in report.findings if f.key.startswith("fell_")]):
        for finding in fell:
            print(f"tacit: {finding.sentence}", file=sys.stderr)
        sys.exit(1)


def _audit(
    reward: Path, data: str, options: AuditOptions, start: float
) -> tuple[Report | None, dict[str, Any], Imitated | None]:
    """The report where there is one, all numbers, and how demonstrations compare where DATA are some."""
    from tacit.audit.metrics import evaluate
    from tacit.audit.overlap import warning
    from tacit.audit.run import run

    loaded, choices = options.load_own(reward, data)
    evidence = options.read_for(loaded, data)
    if choices:
        from tacit.rewards.people.choices import leave_out

        evidence = leave_out(evidence, choices)
    against = options.imitated(loaded, evidence, options.read, options.seed)
    evidence = evidence if against is None else against.comparisons
    metrics = evaluate(loaded, evidence, resamples=options.resamples, seed=options.seed)
    terminal.print_notes(evidence.notes)
    if said := warning(metrics, data):
        print(f"tacit: {said}", file=sys.stderr)
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
    return report, result, against


def _compare(paths: Sequence[Path], data: str, options: AuditOptions) -> None:
    """Several rewards on the same data."""
    from tacit.audit.compare import compare

    start = time.perf_counter()
    options.alone()
    with _audit_files(options, reward=paths[0], data=data, others=[str(path) for path in paths[1:]]) as files:
        loaded = [options.load_for(path, data, **options.texts_of_ids()) for path in paths]
        called = [reward.name for reward in loaded]
        names = called if len(set(called)) == len(called) else [str(path) for path in paths]
        evidence = options.read_for(loaded[0], data)
        report = compare(loaded, evidence, names=names, resamples=options.resamples, seed=options.seed)
        result = {**report.to_dict(), "seconds": time.perf_counter() - start}
        if files is not None:
            _write_audit(report, result, options, files)
    options.show(result, report.sections[1].tables[0].rows, f"{', '.join(names)} on {data}")


def _audit_files(options: AuditOptions, **arguments: Any) -> AbstractContextManager[Files | None]:
    """The files of an audit, of which there are none without --out."""
    if options.out is None:
        return nullcontext()
    numbers = [options.out.with_name("metrics.json")] if options.out.suffix == ".html" else []
    return options.files("audit", options.out, *numbers, **arguments)


def _write_audit(report: Report | None, result: dict[str, Any], options: AuditOptions, files: Files) -> None:
    """The page with its numbers beside it, or the numbers alone."""
    assert options.out is not None
    if report is None or options.out.suffix != ".html":
        terminal.write_result(files.new(options.out), result)
        return
    files.new(options.out).write_text(report.html(), "utf-8")
    result["out"] = str(options.out)
    terminal.write_result(files.new(options.out.with_name("metrics.json")), result)
    if not options.json_:
        for _, finding in report.findings[: report.SENTENCES]:
            print(f"{finding.severity}: {finding.sentence}")


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
    curve, beside = None, terminal.beside(options.out, ".curve.json")
    with options.files("select", options.out, *([beside] if options.curve else ()), reward=reward, data=data) as files:
        candidates = selection.read_candidates(data, gold=options.gold, columns=pairs("--columns", options.columns))
        with row_writer(files.new(options.out)) as write:
            loaded = options.load_for(reward, data)
            for batch in selection.select(loaded, candidates, n=options.n):
                write([choice.row() for choice in batch])
                prompts += len(batch)
                kept += batch if options.curve else []
            if options.curve:
                curve = selection.curve(kept, seed=options.seed)
                terminal.write_result(files.new(beside), curve)
    result = {"prompts": prompts, "out": str(options.out), "seconds": time.perf_counter() - start}
    whole = result | {"curve": curve} | usage(loaded)
    if curve is not None:
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
    with options.folder_and_file("export", options.out, "config.json", reward=reward) as folder:
        result = to_hf(rewards.load(reward), folder, form=options.form)
    result |= {"out": str(options.out), "seconds": time.perf_counter() - start}
    result["load"] = result["load"].replace(str(folder), str(options.out))
    options.show(result, [{name: value for name, value in result.items() if name != "load"}])
    if not options.json_:
        print(f"Without Tacit: {result['load']}")
