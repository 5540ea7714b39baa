"""What every verb of the command line shares: configuration files, results on stdout, one sentence for an error.

Nothing here knows what a verb does.
"""

from __future__ import annotations

import difflib
import inspect
import io
import math
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from tacit.artefacts import atomic_file, json_text, no_room, resolved, write_json
from tacit.errors import TacitError, choices, flag, flags
from tacit.plain_yaml import read_yaml, write_yaml

_LONGEST = 2000
"""Characters of an error's sentence."""


def load_configuration(
    path: str | Path, known: Iterable[str], paths: Mapping[str, bool] | None = None
) -> dict[str, Any]:
    """The options in a YAML file: flat snake_case keys, the flags' own names.

    Keys without a value (`kind:` or `kind: null`) mean the default and are left out. Those in `paths` are relative to
    the file, always or (False) where there is such a file or folder. Raises `TacitError` where the file
    is missing, is not YAML, is not one flat mapping, or has a key that is not in `known`; the message names the close
    match.
    """
    path, names = Path(path), sorted(known)
    if not path.is_file():
        raise TacitError(f"{path}: there is no such configuration file. Give --config a YAML file")
    values = read_yaml(path)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise TacitError(f"{path}: holds a {type(values).__name__}, not options. Write one `key: value` a line")
    for key, value in values.items():
        if key not in names:
            close = difflib.get_close_matches(str(key), names, n=1, cutoff=0.5)
            mend = f"Did you mean `{close[0]}`?" if close else f"Known keys: {', '.join(names)}"
            raise TacitError(f"{path}: unknown key `{key}`. {mend}")
        if isinstance(value, dict):
            raise TacitError(f"{path}: key `{key}` holds a mapping. Keys are flat: write one `key: value` a line")
    paths = paths or {}
    return {
        key: _located(value, path, always=paths[key]) if key in paths else value
        for key, value in values.items()
        if value is not None
    }


def configuration_text(options: Mapping[str, Any]) -> str:
    """Options as YAML that `load_configuration` reads back; those without a value are left out."""
    return write_yaml({key: value for key, value in options.items() if value is not None})


def save_configuration(path: Path, options: Mapping[str, Any]) -> None:
    """Write options as YAML that `--config` reads back; those without a value are left out."""
    with atomic_file(path) as temporary:
        temporary.write_text(configuration_text(options), "utf-8")


def relative(value: Any, folder: Path, *, always: bool) -> Any:
    """A path, or a list of them, as it is written in a configuration in `folder`: relative to it, unless absolute.

    Without `always` the text may be something else, and is a path only where there is such a file or folder.
    """
    if isinstance(value, list | tuple):
        return [relative(one, folder, always=always) for one in value]
    scheme, path, query = _split(value)
    if not path or os.path.isabs(path) or not (always or os.path.lexists(path)):
        return value
    place = Path(path)
    return scheme + os.path.relpath(resolved(place.parent) / place.name, resolved(folder)) + query


def _located(value: Any, configuration: Path, *, always: bool) -> Any:
    """A path of a configuration as it is seen from here; the counterpart of `relative`."""
    if isinstance(value, list):
        return [_located(one, configuration, always=always) for one in value]
    scheme, path, query = _split(value)
    if not path or os.path.isabs(path):
        return value
    place = os.path.normpath(resolved(configuration.parent) / path)
    if not (always or os.path.lexists(place)):
        return value
    return scheme + (place if configuration.is_absolute() else os.path.relpath(place)) + query


def _split(value: Any) -> tuple[str, str, str]:
    """The word that says how to read a path (`hf:`, `array:`, else nothing), the path, and the options of an encoder
    from their question mark on; no path for other values."""
    if not isinstance(value, str):
        return "", "", ""
    scheme = next((known for known in ("hf:", "array:") if value.startswith(known)), "")
    path, mark, query = value.removeprefix(scheme).partition("?") if scheme else (value, "", "")
    return scheme, path, mark + query


def beside(path: Path, ending: str) -> Path:
    """The neighbour of an output file: `beside(scores.jsonl.gz, ".config.yaml")` is `scores.config.yaml`."""
    name = path.name.removesuffix(".gz")
    return path.with_name(Path(name).stem + ending)


def cache_folder(name: str) -> Path:
    """Where work that need not be done twice is kept: `$TACIT_CACHE`, else the user's cache folder."""
    root = os.environ.get("TACIT_CACHE")
    base = Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tacit"
    return base / name


def write_result(path: Path, value: Any) -> None:
    """Write a result as JSON, in place only when complete."""
    with atomic_file(path) as temporary:
        write_json(temporary, finite(value))


def print_notes(notes: Iterable[str]) -> None:
    """Sentences on stderr, one a line, each once."""
    for note in dict.fromkeys(notes):
        print(f"tacit: {note}", file=sys.stderr)


def print_json(value: Any) -> None:
    """One JSON document on stdout; a number that is not finite becomes null."""
    print(json_text(finite(value)))


def print_table(rows: Sequence[Mapping[str, Any]], title: str = "") -> None:
    """Rows as a table on stdout; a column for each key that some row fills, in order of first appearance.

    An interval `x_ci` stands behind its `x`.
    """
    from rich.console import Console
    from rich.table import Table

    filled = {key: value for row in reversed(rows) for key, value in row.items() if value is not None}
    keys = [key for key in dict.fromkeys(key for row in rows for key in row) if key in filled]
    keys = [key for key in keys if not (key.endswith("_ci") and key.removesuffix("_ci") in keys)]
    names = [key.replace("_", " ") for key in keys]
    cells = [[(show(row.get(key)), show(row.get(f"{key}_ci"))) for key in keys] for row in rows]
    widths = [
        max(len(name), *(len(a) + len(b) + 1 for a, b in column))
        for name, column in zip(names, zip(*cells, strict=True), strict=True)
    ]
    console = Console(markup=False)
    between = " " if sum(widths) + 3 * len(widths) < console.width else "\n"
    table = Table(title=title or None, title_justify="left", title_style="bold", header_style="bold")
    for key, name in zip(keys, names, strict=True):
        table.add_column(name, justify="left" if isinstance(filled[key], str) else "right", overflow="fold")
    for row in cells:
        table.add_row(*(f"{value}{between}{interval}" if interval else value for value, interval in row))
    console.print(table)


def metric_rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A metric, its value and its interval a row: `accuracy` and `accuracy_ci` go together.

    Values that are neither numbers nor text are left to --json.
    """
    return [
        {"metric": key.replace("_", " "), "value": value, "95% interval": metrics.get(f"{key}_ci")}
        for key, value in metrics.items()
        if not key.endswith("_ci") and isinstance(value, int | float | str)
    ]


def named_rows(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A name and its value a row."""
    return [{"": name.replace("_", " "), "value": value} for name, value in values.items()]


def show(value: Any) -> str:
    """A value as a table shows it: three decimals, thousands apart, an interval in brackets, nothing for None."""
    match value:
        case None:
            return ""
        case bool() | str():
            return str(value)
        case int():
            return f"{value:,}"
        case float():
            return f"{value:z.3f}" if abs(value) < 1000 else f"{value:,.0f}"
        case Mapping():
            return "\n".join(
                f"{str(name).replace('_', ' ')} {show(inner)}" for name, inner in value.items() if inner is not None
            )
        case [None, None]:
            return ""
        case [first, last]:
            return f"[{show(first)}, {show(last)}]"
        case _:
            return str(value)


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn what a user can mend into one sentence on stderr and exit code 2; a bug keeps its traceback.

    A file or folder that cannot be read or written counts as mendable. Ctrl-C ends with 130, a closed pipe with 141, as
    shells expect.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, io.TextIOWrapper
        ):  # half a surrogate pair, or what another encoding lacks, is shown escaped
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
        sys.stdout.flush()
    except TacitError as error:
        fail(str(error))
    except MemoryError:
        fail("the memory is full. Give fewer rows, shorter texts or a smaller batch")
    except BrokenPipeError:
        _discard_output()
        sys.exit(141)
    except OSError as error:
        if reason := no_room(error):
            _discard_output()
            fail(f"{error.filename or 'what is written'}: {reason}. Free some space, and run it again")
        if error.filename is None or error.strerror is None:
            raise
        fail(f"{error.filename}: {error.strerror.lower()}. Give a path that can be read and written")
    except KeyboardInterrupt:
        sys.exit(130)


def _discard_output() -> None:
    """Let what is left for stdout go nowhere, so that the end of the process does not fail on it again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(message: str) -> None:
    """Say what is wrong in one line on stderr, shortened in its middle if it is long, and exit with status 2."""
    line = " ".join(message.split())
    print("tacit: " + (line if len(line) <= _LONGEST else f"{line[: _LONGEST - 500]} … {line[-500:]}"), file=sys.stderr)
    sys.exit(2)


def finite(value: Any) -> Any:
    """`value` as JSON has it: numbers that are not finite become None, arrays lists, paths text."""
    if isinstance(value, Mapping):
        return {str(key): finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays, without importing numpy
        return finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def suites(package: ModuleType) -> list[str]:
    """The modules of a package of suites, such as `tacit.bench`, without importing them."""
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def suite_figure(package: ModuleType, suite: str, out: Path | None) -> Callable[[dict[str, Any]], str] | None:
    """The function `figure` of a suite, which draws its result as SVG, where a file is asked for and there is one.

    Raises `TacitError` where `out` names an SVG file and the suite draws nothing.
    """
    if out is None or suite not in suites(package):
        return None
    module = import_module(f"{package.__name__}.{suite}")
    figure: Callable[[dict[str, Any]], str] | None = getattr(module, "figure", None)
    if figure is None and out.suffix == ".svg":
        raise TacitError(f"`{suite}` draws no picture. Give --out the name of a JSON file")
    return figure


def suite_options(package: ModuleType, suite: str) -> list[str] | None:
    """The options of `run` of a suite; None where there is no such suite."""
    if suite not in suites(package):
        return None
    return list(inspect.signature(import_module(f"{package.__name__}.{suite}").run).parameters)


def run_suite(package: ModuleType, suite: str, **options: Any) -> dict[str, Any]:
    """Run `run` of a suite with these options; its JSON-ready result has a list `rows`, or is one row itself.

    Raises `TacitError` for a suite that does not exist and an option that it does not take.
    """
    if suite not in suites(package):
        raise TacitError(f"there is no `{suite}`. {choices(suite, suites(package))}")
    function = import_module(f"{package.__name__}.{suite}").run
    known = inspect.signature(function).parameters
    if unknown := options.keys() - known.keys():
        raise TacitError(f"`{suite}` takes no option `{min(unknown)}`. It takes: {flags(known) or 'none'}")
    needed = [name for name, parameter in known.items() if parameter.default is parameter.empty]
    if missing := [name for name in needed if name not in options]:
        raise TacitError(f"`{suite}` needs {flag(missing[0])}")
    result: dict[str, Any] = function(**options)
    return result
