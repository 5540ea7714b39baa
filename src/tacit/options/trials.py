"""Trying things out: `tacit demo`, `bench` and `lab`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from tacit.options.common import Many, Writing


class DemoOptions(Writing):
    """Options of `tacit demo`."""

    out: Path = Path("demo")
    """Folder of the page and the reward."""
    n: Annotated[int, Field(ge=100)] = 5000
    """Comparisons that the simulated people make."""
    tuning: bool = True
    """Tune a small language model with the learnt reward as well: a minute, and the extra hf."""


class BenchOptions(Writing):
    """Options of `tacit bench`; each suite takes some of them."""

    out: Path | None = None
    """JSON file for the result."""
    pairs: Annotated[int | None, Field(ge=100)] = None
    """Comparisons to fit on."""
    dims: Annotated[tuple[int, ...] | None, Many] = None
    """Sizes of the feature vectors."""
    epochs: Annotated[int | None, Field(ge=1)] = None
    """Epochs of the research loop."""
    repeats: Annotated[int | None, Field(ge=1)] = None
    """Times that each side runs; medians are reported."""
    rows: Annotated[int | None, Field(ge=1)] = None
    """Rows to read or score."""
    texts: Annotated[int | None, Field(ge=1)] = None
    """Texts to encode."""
    tokens: Annotated[int | None, Field(ge=1)] = None
    """Tokens of each text, about."""
    rounds: Annotated[int | None, Field(ge=1)] = None
    """Rounds of encoding on each side."""
    sizes: Annotated[tuple[int, ...] | None, Many] = None
    """Numbers of comparisons with flipped labels, for the suite `recovery`."""
    flip: Annotated[float | None, Field(ge=0.01, le=0.99)] = None
    """Share of those labels that are turned round."""
    works: Annotated[tuple[str, ...] | None, Many] = None
    """Some of the steps that the suite `tune` compares, such as `grpo` or `sft, ragged`."""
    seeds: Annotated[int | None, Field(ge=2)] = None
    """Repetitions behind each interval, with seeds that count up from --seed."""
    data: Path | None = None
    """Folder of real data, for the suite `real`."""
    cache: Path | None = None
    """Folder of encoded texts for it; kept in memory only unless given."""


class LabOptions(Writing):
    """Options of `tacit lab`; each experiment takes some of them."""

    out: Path | None = None
    """JSON file for the result, with its picture beside it where there is one; NAME.svg for the picture alone."""
    seeds: Annotated[int | None, Field(ge=2)] = None
    """Repetitions behind each interval, with seeds that count up from --seed."""
    data: Path | None = None
    """Folder of real data, for the experiments on it."""
