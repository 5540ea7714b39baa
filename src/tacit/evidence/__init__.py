"""What people gave: files of any layout to validated records, what is wrong with them, and splits that do not leak."""

from tacit.evidence.annotators import Annotator, comparisons, prefer
from tacit.evidence.check import Finding, Report, check
from tacit.evidence.dataset import Evidence
from tacit.evidence.read import read, read_rows
from tacit.evidence.records import (
    KINDS,
    Comparison,
    Demonstration,
    Kind,
    Outcome,
    Problem,
    Ranking,
    Rating,
    Record,
    Steps,
)
from tacit.evidence.split import split

__all__ = [
    "KINDS",
    "Annotator",
    "Comparison",
    "Demonstration",
    "Evidence",
    "Finding",
    "Kind",
    "Outcome",
    "Problem",
    "Ranking",
    "Rating",
    "Record",
    "Report",
    "Steps",
    "check",
    "comparisons",
    "prefer",
    "read",
    "read_rows",
    "split",
]
