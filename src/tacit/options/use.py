"""What a reward is for: `tacit score`, `audit`, `select` and `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from pydantic import Field

from tacit.errors import TacitError
from tacit.options.common import Asking, Flag, ForOne, Many, Writing
from tacit.options.demonstrations import AuditDemonstrations


class ScoreOptions(ForOne, Writing):
    """Options of `tacit score`."""

    out: Path
    """File to write: .jsonl, .csv, .tsv (each also .gz) or .parquet."""


class AuditOptions(ForOne, AuditDemonstrations, Writing):
    """Options of `tacit audit`."""

    out: Path | None = None
    """report.html for the whole report, with metrics.json beside it; or a JSON file for the metrics alone."""
    candidates: Path | None = None
    """File of candidates with a gold score, as for `tacit select`: how far to choose or tune by this reward."""
    gold: str = "gold"
    """Column of the gold score in --candidates; or a reward (folder or YAML file) that scores them as gold, or, without
    --candidates, the completions of DATA."""
    log: Path | None = None
    """metrics.jsonl of a tuning run, with `kl`, `reward` and, where known, `gold`: was it tuned too far?"""
    others: Annotated[tuple[Path, ...], Many] = ()
    """Further rewards to compare it with; the same as naming them before DATA."""
    domains: str | None = None
    """Column of the domains that are compared; domain, source, group, template or annotator unless given."""
    reference: Path | None = None
    """Folder of a reward that this one must not fall below: ends with 1 where it does."""
    allow: Annotated[tuple[str, ...], Many] = ()
    """How much worse than --reference a metric may be, as accuracy=0.01; accuracy=0 nll=0 unless given."""
    resamples: Annotated[int, Field(ge=10)] = 1000
    """Bootstrap draws behind each interval."""

    def alone(self) -> None:
        """Raise `TacitError` for options that say something of one reward only, where several are compared."""
        given = {
            "for_": "for",
            "candidates": "candidates",
            "log": "log",
            "domains": "domains",
            "reference": "reference",
        }
        for name, flag in given.items():
            if getattr(self, name) is not None:
                raise TacitError(f"--{flag} is about one reward. Leave it out where several are compared")


AUDIT_OPTIONS = (*("candidates", "gold", "log", "domains", "reference", "allow", "resamples", "seed"),)
"""The options of `tacit audit` that go to `tacit.audit.run.run`."""


class SelectOptions(Asking, Writing):
    """Options of `tacit select`."""

    out: Path
    """File of the choices: .jsonl, .csv, .tsv (each also .gz) or .parquet."""
    n: Annotated[int | None, Field(ge=1)] = None
    """How many candidates of each prompt to look at; all unless given."""
    curve: Annotated[bool, Flag] = False
    """Estimate what best-of-n gains in true reward for n = 1, 2, 4, ... and all; needs the gold column."""
    gold: str = "gold"
    """Column of the true reward."""
    columns: Annotated[tuple[str, ...], Parameter(group="Reading"), Many] = ()
    """Columns under other names, as prompt=question completion=answer."""


class ExportOptions(Writing):
    """Options of `tacit export`."""

    out: Path
    """Folder for the checkpoint; one that is there already is replaced."""
    to: Literal["hf"] = "hf"
    """hf: what AutoModelForSequenceClassification reads."""
    form: Literal["auto", "stock", "custom"] = "auto"
    """stock: a class of transformers itself; custom: one whose code lies in the folder; auto: stock where it can be."""
