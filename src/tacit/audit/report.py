"""The audit of a reward as one page, offline, and as numbers.

`audit` runs every section on one `Study`; the verdict is made of their findings, worst first. Nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Any

from tacit.audit.biases import biases
from tacit.audit.controls import controls
from tacit.audit.counterfactuals import counterfactuals
from tacit.audit.disagreement import disagreement
from tacit.audit.distance import distance
from tacit.audit.domains import domains as domains_section
from tacit.audit.invariance import invariance
from tacit.audit.optimised import over_optimisation
from tacit.audit.position import position
from tacit.audit.quality import learning_curve, right_and_sure
from tacit.audit.reference import against_reference
from tacit.audit.rows import rows_to_look_at
from tacit.audit.sections import Finding, Section
from tacit.audit.seen import rows_of_the_fit
from tacit.audit.slices import slices
from tacit.audit.steps import whole_solutions
from tacit.audit.study import Study
from tacit.audit.tuning_log import Log, tuning_run
from tacit.evidence import Evidence
from tacit.improve.select import Candidates
from tacit.progress import track
from tacit.rewards.contract import Reward

_ORDER = {"fault": 0, "warning": 1, "advice": 2, "good": 3}


@dataclass(frozen=True)
class Report:
    """What an audit found; `verdict` is at most `SENTENCES` findings, worst first."""

    reward: str
    source: str
    comparisons: int
    resamples: int
    seed: int
    sections: tuple[Section, ...]
    title: str = ""
    """What stands above the page, where it is not about one reward."""

    SENTENCES = 5

    @property
    def heading(self) -> str:
        """The question that the page answers."""
        return self.title or f"How far can “{self.reward}” be trusted?"

    @property
    def findings(self) -> list[tuple[Section, Finding]]:
        """Every finding with its section, worst first, in the order of the page within one severity."""
        found = [(section, finding) for section in self.sections for finding in section.findings]
        return sorted(found, key=lambda pair: _ORDER[pair[1].severity])

    @property
    def faults(self) -> set[str]:
        """Keys of the faults and warnings that were found."""
        return {finding.key for _, finding in self.findings if finding.severity in ("fault", "warning")}

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON: verdict, and the numbers of each section by its key."""
        return {
            "reward": self.reward,
            "source": self.source,
            "comparisons": self.comparisons,
            "interval": f"95% percentile bootstrap, clustered, {self.resamples} resamples, seed {self.seed}",
            "verdict": [
                {"key": f.key, "severity": f.severity, "sentence": f.sentence, "section": s.key, "detail": f.detail}
                for s, f in self.findings
            ],
            "sections": {section.key: section.numbers for section in self.sections},
        }

    def html(self) -> str:
        """The page: inline style and SVG, nothing is loaded from anywhere."""
        from jinja2 import Environment, StrictUndefined

        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        environment.filters["cell"] = cell
        template = environment.from_string(files("tacit.audit").joinpath("report.html.j2").read_text("utf-8"))
        shown = self.findings
        return template.render(report=self, verdict=shown[: self.SENTENCES], more=shown[self.SENTENCES :])


def audit(
    reward: Reward,
    evidence: Evidence,
    *,
    candidates: Sequence[Candidates] = (),
    domains: str | None = None,
    log: Log | None = None,
    reference: Reward | None = None,
    allowed: Mapping[str, float] | None = None,
    more: Sequence[Callable[[Study], Section]] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> Report:
    """Every section on `evidence` that the reward has not seen; a progress bar counts them.

    With `candidates` that hold a gold score, or the `log` of a tuning run, also over-optimisation. `domains` names the
    column of the section on other domains; `reference` is a reward that this one must not fall below by more than
    `allowed` (`tacit.audit.reference`); `more` are further sections, which stand last.
    """
    study = study_of(reward, evidence, candidates=candidates, domains=domains, log=log, resamples=resamples, seed=seed)
    sections: list[Callable[[Study], Section]] = [
        right_and_sure,
        rows_of_the_fit,
        controls,
        biases,
        position,
        counterfactuals,
        over_optimisation,
        slices,
        domains_section,
        distance,
        disagreement,
        rows_to_look_at,
        learning_curve,
        invariance,
    ]
    if reference is not None:
        sections.insert(0, partial(against_reference, reference=reference, allowed=allowed))
    sections += more
    if log is not None:
        sections.insert(sections.index(over_optimisation) + 1, tuning_run)
    return run_sections(study, track(sections, "auditing", len(sections)))


def study_of(reward: Reward, evidence: Evidence, **options: Any) -> Study:
    """What an audit of `evidence` looks at; solutions in steps are whole ones here. Options are those of `Study.of`."""
    if evidence.kind == "steps":
        evidence = whole_solutions(reward, evidence)
    return Study.of(reward, evidence, evidence.kind, evidence.source, **options)


def run_sections(study: Study, sections: Iterable[Any]) -> Report:
    """Each section function applied to the study, in order."""
    made: Sequence[Section] = [section(study) for section in sections]
    return Report(study.reward.name, study.source, study.n, study.resamples, study.seed, tuple(made))


def cell(value: Any) -> str:
    """A table's cell: three decimals for a float, `low to high` for a pair of floats, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(v, int | float) for v in value):
        low, high = value if all(isinstance(v, int) for v in value) else map(float, value)
        return f"{cell(low)} to {cell(high)}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {cell(v)}" for key, v in value.items())
    return str(value)
