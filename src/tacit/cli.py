"""The command line: one thin function per verb, no logic.

Results go to stdout, progress and errors to stderr. Heavy imports live inside the verbs: `tacit --help` loads none.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, ArgumentCollection, CycloptsError, Parameter
from pydantic import ValidationError

from tacit import __version__, terminal
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
from tacit.options.policy import ConvertOptions, GenerateOptions
from tacit.options.trials import BenchOptions, DemoOptions, LabOptions
from tacit.options.tune import TuneOptions
from tacit.options.use import AUDIT_OPTIONS, AuditOptions, ExportOptions, ScoreOptions, SelectOptions

if TYPE_CHECKING:
    from tacit.audit.report import Report
    from tacit.rewards.contract import Reward


def _configure(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill what no flag gave from the file that --config names."""
    from cyclopts.config import Dict

    tokens = [token.value for argument in arguments if argument.name == "--config" for token in argument.tokens]
    if not commands or not tokens:
        return
    known = {argument.name.removeprefix("--").replace("-", "_").lower() for argument in arguments} - {"config"}
    values = terminal.load_configuration(tokens[0], known)
    Dict(values, source=tokens[0], use_commands_as_keys=False)(app, commands, arguments)


app = App(
    name="tacit",
    help="Infer the reward that people's behaviour implies, say how far it can be trusted, and use it.",
    version=__version__,
    config=_configure,
)


@app.command
def demo(*, options: Annotated[DemoOptions, Parameter(name="*")] = DemoOptions()) -> None:  # noqa: B008
    """The whole road on a built-in world whose true reward is known; writes a page."""
    from tacit.lab import demo as lab

    terminal.require_free(options.out, "metrics.json")
    result = lab.run(options.out, n=options.n, seed=options.seed, tuning=options.tuning)
    options.keep(options.out / "config.yaml")
    if not options.json_:
        terminal.print_table(result["summary"], "On prompts it has not seen: agreement with people, with the truth")
    options.show(result, result["table"], "Best of n, in standard deviations of true reward")
    if not options.json_:
        if result["tuning_table"]:
            terminal.print_table(result["tuning_table"], "A small language model tuned with the learnt reward")
        print(f"The page: {result['page']}   ({result['seconds']:.0f} seconds)")


@app.command
def check(data: str, *, options: Annotated[CheckOptions, Parameter(name="*")] = CheckOptions()) -> None:  # noqa: B008
    """What is wrong with the data, row by row, and how to mend it; ends with 2 where something is.

    Parameters
    ----------
    data
        File, folder or hub:owner/name of evidence.
    """
    from tacit.evidence import check as check_evidence

    against = None if options.against is None else options.read(options.against)
    report = check_evidence(options.read(data), against=against, limit=options.limit)
    if options.json_:
        terminal.print_json(report.to_dict())
    else:
        for finding in report.findings:
            print(finding)
        terminal.print_table(terminal.named_rows(report.statistics), f"{report.source}: {report.kind}")
    if not report.ok:
        count = len(report.errors)
        found = "an error" if count == 1 else f"{count} kinds of errors"
        raise TacitError(f"{data}: {found} in the data. Mend {'it' if count == 1 else 'them'} as said above")


@app.command
def fit(data: str, *, options: Annotated[FitOptions, Parameter(name="*")]) -> None:
    """Evidence to reward, with a report on prompts that it has not seen.

    Parameters
    ----------
    data
        File, folder or hub:owner/name of evidence of any kind.
    """
    from tacit import rewards
    from tacit.artefacts import atomic_directory, write_json
    from tacit.audit.metrics import evaluate
    from tacit.evidence import split
    from tacit.rewards.contract import Personal

    terminal.require_free(options.out, "reward.json")
    start = time.perf_counter()
    options.permit()
    train, test = options.read(data), None
    if options.test_data is not None:
        test = options.read(options.test_data)
    elif options.test and train.kind != "problem":  # a verifier learns nothing that a split could test
        train, test = split(train, by=options.by, test=options.test, seed=options.seed)
    cache = None if options.no_cache else options.cache or terminal.cache_folder("features")
    prepared = options.imitates(train, test, encoder=options.encoder, cache=cache, seed=options.seed)
    if prepared is not None:
        train, test = prepared.train, prepared.test
    own = set(FIT_OPTIONS + SHAPE_OPTIONS + REASONING_OPTIONS + PEOPLE_OPTIONS + JUDGE_OPTIONS)
    # A saved configuration names every option: those at their defaults say nothing, and a model may lack them.
    chosen = options.model_dump(include=own, exclude_defaults=True) | {"seed": options.seed}
    chosen |= {"pessimism": options.pessimism or "none", "strength": options.pessimism_strength}
    reward = rewards.fit(
        train, model=options.learns(), encoder=options.encoder, cache=cache, name=options.out.name, **chosen
    )
    shown = []
    if prepared is not None:
        from tacit.demonstrations.fit import tested

        shown = tested(reward, prepared, evaluate, resamples=options.resamples, seed=options.seed)
        reward.report["demonstrations"] = {**prepared.report, "held_out": shown}
        reward.report["warnings"] = [*reward.report.get("warnings", ()), *prepared.report.get("warnings", ())]
    for warning in reward.report.get("warnings", ()):
        print(f"tacit: {warning}", file=sys.stderr)
    metrics = evaluate(reward, test, resamples=options.resamples, seed=options.seed) if test is not None else {}
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
    with atomic_directory(options.out) as folder:
        reward.save(folder)
        write_json(folder / "metrics.json", terminal.finite(result))
        options.keep(folder / "config.yaml", data=data)
    options.show(result, terminal.metric_rows(result), f"Reward in {options.out}")
    if shown and not options.json_:
        terminal.print_table(shown, "Held-out demonstrations against answers of the policies")
    if people and not options.json_:
        terminal.print_table(narrow(people), "Adapted to one person from that many comparisons, tested on others")


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

    terminal.require_free(options.out, "reward.json")
    reward, result = combined(
        options.load(recipe, options.cache), None if options.data is None else options.read(options.data)
    )
    reward.save(options.out)
    write_json(options.out / "metrics.json", terminal.finite(result))
    options.keep(options.out / "config.yaml", recipe=recipe)
    options.show(result, result["parts"], f"Reward in {options.out}")


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
        own, choices = options.load_own(reward, options.cache)
        evidence = options.read(data)
        for batch in marked_rows(own, evidence, choices) if choices else scored_rows(own, evidence):
            write(batch)
            rows += len(batch)
    options.keep(terminal.beside(options.out, ".config.yaml"), reward=reward, data=data)
    result = {"rows": rows, "out": str(options.out), "seconds": time.perf_counter() - start}
    options.show(result | _usage(own), [result])


def _usage(reward: Reward) -> dict[str, Any]:
    """Calls, tokens and cost of a reward that asks others."""
    used = getattr(reward, "usage", None)
    return {} if used is None else {"usage": used}


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
    loaded, choices = options.load_own(reward, options.cache)
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
    result |= _usage(loaded)
    page = options.out is not None and options.out.suffix == ".html"
    imitated = None if against is None else against.numbers
    result |= {} if imitated is None else {"demonstrations": imitated}
    asked = {name: getattr(options, name) for name in AUDIT_OPTIONS}
    report = run(loaded, evidence, page=page, imitated=imitated, **asked)
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
    loaded = [options.load(path, options.cache) for path in paths]
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
    candidates = selection.read_candidates(data, gold=options.gold)
    with row_writer(options.out) as write:
        loaded = options.load(reward, options.cache)
        for batch in selection.select(loaded, candidates, n=options.n):
            write([choice.row() for choice in batch])
            prompts += len(batch)
            kept += batch if options.curve else []
        curve = selection.curve(kept, seed=options.seed) if options.curve else None
    options.keep(terminal.beside(options.out, ".config.yaml"), reward=reward, data=data)
    result = {"prompts": prompts, "out": str(options.out), "seconds": time.perf_counter() - start}
    whole = result | {"curve": curve} | _usage(loaded)
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


@app.command
def tune(method: str, *, options: Annotated[TuneOptions, Parameter(name="*")]) -> None:
    """A reward (or examples, or preferences) into the weights of a policy.

    Parameters
    ----------
    method
        sft, reward, dpo, rejection, reinforce, remax, rloo, grpo or ppo; from demonstrations alone spin, adversarial
        or iq.
    """
    from functools import partial

    from tacit.demonstrations import run as imitation
    from tacit.rewards.controls import RandomReward
    from tacit.tuning.processes import Processes
    from tacit.tuning.run import Job
    from tacit.tuning.run import tune as run

    processes, given = Processes.joined(), options.reward
    if not options.resume and processes.main:
        terminal.require_free(options.out, "metrics.jsonl")

    def opened() -> Reward:
        if given == "random":
            return RandomReward(options.seed)
        return options.load(Path(str(given)), options.cache)

    reward = None if given is None else opened
    kept = partial(options.model_copy(update={"resume": False}).keep, options.out / "config.yaml", method=method)
    about = (options.policy, options.data, options.out, options.chosen(), options.read, reward, options.eval_data)
    if method in imitation.METHODS:
        job = imitation.DemonstrationJob(method, *about, processes, options.cache)
        result = imitation.tune(job, resume=options.resume)
    else:
        result = run(Job(method, *about, processes, begun=kept), resume=options.resume)
    if processes.main:
        kept()
        terminal.write_result(options.out / "result.json", result)
        options.show(result, terminal.metric_rows(result), f"{method} in {options.out}")


@app.command
def generate(policy: str, prompts: str, *, options: Annotated[GenerateOptions, Parameter(name="*")]) -> None:
    """Samples of a policy for the prompts of a file, scored by a reward, or the best of them.

    Parameters
    ----------
    policy
        Folder of a transformers causal language model, a llama2.c file, or the address of a server (http://...).
    prompts
        File, folder or hub:owner/name of rows with `prompt`, or of any evidence.
    """
    from tacit.evidence.write import row_writer
    from tacit.improve import generate as generation

    start, tally = time.perf_counter(), generation.Tally()
    terminal.require_apart(options.out, prompts)
    with row_writer(options.out) as write:
        asked = generation.read_prompts(
            prompts, kind=options.kind, columns=options.named(), items=options.items, limit=options.limit
        )
        opened = options.open(policy)
        reward = None if options.reward is None else options.load(options.reward, options.cache)
        for samples in generation.sampled(opened, asked, options.n, options.sampling(), reward=reward, source=prompts):
            write([samples.best(keep_all=options.all_)] if options.best else samples.rows())
            tally.add(samples)
    options.keep(terminal.beside(options.out, ".config.yaml"), policy=policy, prompts=prompts)
    result = tally.result(scored=reward is not None) | {"out": str(options.out), "seconds": time.perf_counter() - start}
    options.show(result | ({} if reward is None else _usage(reward)), [result])


@app.command
def convert(source: Path, *, options: Annotated[ConvertOptions, Parameter(name="*")]) -> None:
    """A model in the file format of llama2.c as a transformers folder, with its tokenizer.

    Parameters
    ----------
    source
        The .bin file of the model, or a folder with it and its tokenizer.
    """
    from tacit.errors import MissingExtra, extra_installed

    if not extra_installed("transformers"):
        raise MissingExtra("hf", "`convert`")
    from tacit.policies import llama2c

    terminal.require_free(options.out, "config.json")
    result = {**llama2c.convert(source, options.out, options.tokenizer), "out": str(options.out)}
    options.keep(terminal.beside(options.out, ".config.yaml"), source=source)
    options.show(result, [result])


@app.command
def bench(suite: str, *, options: Annotated[BenchOptions, Parameter(name="*")] = BenchOptions()) -> None:  # noqa: B008
    """Speed, side by side with what a user would use instead.

    Parameters
    ----------
    suite
        What to time: fit, encode, ...
    """
    from tacit import bench as suites

    _suite(suites, "bench", suite, options)


@app.command
def lab(experiment: str, *, options: Annotated[LabOptions, Parameter(name="*")] = LabOptions()) -> None:  # noqa: B008
    """Claims put to the test where the truth is known, with confidence intervals and controls.

    Parameters
    ----------
    experiment
        What to try; an unknown name lists all.
    """
    from tacit.lab import experiments

    _suite(experiments, "lab", experiment, options)


def _suite(package: ModuleType, verb: str, name: str, options: BenchOptions | LabOptions) -> None:
    terminal.require_apart(options.out)
    given = options.model_dump(exclude={"config", "json_", "out"}, exclude_none=True)
    figure = terminal.suite_figure(package, name.replace("-", "_"), options.out)
    result = terminal.run_suite(package, name.replace("-", "_"), **given)
    if options.out is not None:
        if figure is not None:
            terminal.write_picture(terminal.beside(options.out, ".svg"), figure(result))
        if options.out.suffix != ".svg":
            terminal.write_result(options.out, result)
        options.keep(terminal.beside(options.out, ".config.yaml"), suite=name)
    options.show(result, result.get("rows") or terminal.metric_rows(result), f"{verb} {name}")


def main(tokens: Sequence[str] | None = None) -> None:
    """Entry point: what a user can mend ends in one sentence on stderr and exit code 2."""
    with terminal.one_sentence():
        try:
            app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        except CycloptsError as error:
            if error.msg is None and isinstance(error.__cause__, ValidationError):
                first = error.__cause__.errors()[0]
                named = [part.strip("_") for part in first["loc"] if isinstance(part, str)]
                name = "--" + "-".join(named).replace("_", "-")
                raise TacitError(f"{name} {first['input']}: {first['msg'].lower()}") from None
            command = " ".join(["tacit", *(error.command_chain or ())])
            raise TacitError(f"{' '.join(str(error).split())} See {command} --help") from None


if __name__ == "__main__":
    main(sys.argv[1:])
