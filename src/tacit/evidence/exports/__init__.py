"""What labelling tools, loggers and published data sets write: one short file each, found by its name in this folder.

Each file has a tuple `LAYOUTS`. These are tried before the general layouts, on the columns as they stand, so that each
must recognise its rows by columns (and values) that nothing else has.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from tacit.evidence.layout import Layout


@cache
def export_layouts() -> tuple[Layout, ...]:
    """The layouts of all files of this folder, by file name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(entry for name in names for entry in import_module(f"{__name__}.{name}").LAYOUTS)
