"""Trying things out: `tacit demo`, `bench` and `lab`."""

from __future__ import annotations

from types import ModuleType
from typing import Annotated, Any

from cyclopts import Parameter

from tacit import terminal
from tacit.cli.app import app
from tacit.options.trials import BenchOptions, DemoOptions, LabOptions


@app.command
def demo(*, options: Annotated[DemoOptions, Parameter(name="*")] = DemoOptions()) -> None:  # noqa: B008
    """The whole road on a built-in world whose true reward is known; writes a page."""
    from tacit.lab import demo as lab

    with options.folder("demo", options.out, "index.html") as folder:
        result = lab.run(folder, n=options.n, seed=options.seed, tuning=options.tuning)
    if not options.json_:
        terminal.print_table(result["summary"], "On prompts it has not seen: agreement with people, with the truth")
    options.show(result, result["table"], "Best of n, in standard deviations of true reward")
    if not options.json_:
        if result["tuning_table"]:
            terminal.print_table(result["tuning_table"], "A small language model tuned with the learnt reward")
        print(f"The page: {result['page']}   ({result['seconds']:.0f} seconds)")


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
    module = name.replace("-", "_")
    given = options.model_dump(exclude={"config", "json_", "out", "overwrite"}, exclude_none=True)
    if options.out is None:
        result = terminal.run_suite(package, module, **given)
    else:
        figure = terminal.suite_figure(package, module, options.out)
        pictures = [] if figure is None else [terminal.beside(options.out, ".svg")]
        numbers = [] if options.out.suffix == ".svg" else [options.out]
        arguments: dict[str, Any] = {"suite" if verb == "bench" else "experiment": name}
        with options.files(verb, *(numbers + pictures or [options.out]), **arguments) as files:
            result = terminal.run_suite(package, module, **given)
            for target in numbers:
                terminal.write_result(files.new(target), result)
            if figure is not None:
                files.new(pictures[0]).write_text(figure(result), "utf-8")
    options.show(result, result.get("rows") or terminal.metric_rows(result), f"{verb} {name}")
