"""Speed, side by side with what a user would use instead: each file is a suite with a function `run`."""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module
from typing import Any

from tacit.errors import TacitError


def names() -> list[str]:
    """The suites there are, without importing them."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def run(suite: str, **options: Any) -> dict[str, Any]:
    """Run `tacit.bench.<suite>.run` with these options; its JSON-ready result has a list `rows`, or is one row itself.

    Raises `TacitError` for a suite that does not exist and an option that it does not take.
    """
    if suite not in names():
        raise TacitError(f"there is no suite `{suite}`. Choose one of: {', '.join(names())}")
    function = import_module(f"{__name__}.{suite}").run
    known = inspect.signature(function).parameters
    if unknown := options.keys() - known.keys():
        raise TacitError(f"suite `{suite}` takes no option `{min(unknown)}`. It takes: {', '.join(known)}")
    needed = [name for name, parameter in known.items() if parameter.default is parameter.empty]
    if missing := [name for name in needed if name not in options]:
        raise TacitError(f"suite `{suite}` needs --{missing[0]}")
    result: dict[str, Any] = function(**options)
    return result
