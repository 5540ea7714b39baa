"""What `tacit audit` asks for, from paths: candidates, a gold reward, the log of a run, a reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tacit import rewards
from tacit.audit import report
from tacit.audit.domains import domains as domain_section
from tacit.audit.imitation import imitation
from tacit.audit.optimised import candidates_of, over_optimisation, scored_by
from tacit.audit.reference import against_reference, parse_allowed
from tacit.audit.sections import Section
from tacit.audit.study import Study
from tacit.audit.tuning_log import read_log, tuning_run
from tacit.errors import TacitError
from tacit.evidence import Evidence
from tacit.improve.select import Candidates, read_candidates
from tacit.rewards.contract import Reward


def run(
    reward: Reward,
    evidence: Evidence,
    *,
    page: bool,
    candidates: Path | None = None,
    gold: str = "gold",
    log: Path | None = None,
    domains: str | None = None,
    reference: Path | None = None,
    allow: Sequence[str] = (),
    resamples: int = 1000,
    seed: int = 0,
    cache: Path | None = None,
    imitated: Mapping[str, Any] | None = None,
) -> report.Report | None:
    """Every section for a page; without one those alone that an option asks for, or None where none does.

    `gold` is a column of `candidates`, or the path of a reward that scores them (or, without a file of candidates, the
    completions of the evidence). `imitated` is what was measured of a policy against demonstrations. Raises
    `TacitError` for bounds without a reference or on an unknown metric, and where a path cannot be read.
    """
    allowed = parse_allowed(allow)
    if allow and reference is None:
        raise TacitError("--allow says how much worse than a reference a metric may be. Give --reference FOLDER")
    former = None if reference is None else rewards.load(reference, cache=cache)
    options: dict[str, Any] = {
        "candidates": _candidates(evidence, candidates, gold, cache),
        "domains": domains,
        "log": None if log is None else read_log(log),
        "resamples": resamples,
        "seed": seed,
    }
    more = [] if imitated is None else [partial(imitation, measured=imitated)]
    if page:
        return report.audit(reward, evidence, reference=former, allowed=allowed, more=more, **options)
    sections: list[Callable[[Study], Section]] = []
    if former is not None:
        sections.append(partial(against_reference, reference=former, allowed=allowed))
    asked = {over_optimisation: options["candidates"], tuning_run: options["log"], domain_section: domains}
    sections += [section for section, given in asked.items() if given]
    sections += more
    return report.run_sections(report.study_of(reward, evidence, **options), sections) if sections else None


def _candidates(evidence: Evidence, file: Path | None, gold: str, cache: Path | None) -> list[Candidates]:
    """Candidates with the gold score of a column, or of the reward that `gold` names."""
    path = Path(gold)
    saved = path.is_dir() and any((path / name).is_file() for name in ("reward.json", "config.json"))
    if not saved and not (path.suffix in (".yaml", ".yml") and path.is_file()):
        if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
            raise TacitError(f"--gold {gold}: there is no such reward. Give a folder, a YAML file, or a column's name")
        return [] if file is None else list(read_candidates(file, gold=gold))
    found = candidates_of(evidence) if file is None else list(read_candidates(file))
    return scored_by(rewards.load(path, cache=cache), found)
