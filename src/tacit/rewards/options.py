"""The options of a fit; a flag of `tacit fit` each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from tacit.errors import TacitError, flag


@dataclass(frozen=True)
class FitOptions:
    """How to fit; the defaults suit 1,000 to 100,000 examples of text features."""

    head: Literal["linear", "mlp"] = "linear"
    """`linear` is hard to beat under 20,000 examples of sentence vectors; `mlp` adds hidden layers beside it."""
    objective: str = "auto"
    """`auto` takes the natural objective of the kind of evidence: Bradley-Terry for comparisons."""
    members: int = 1
    """Bootstrap members, fitted as one tensor."""
    shared_trunk: bool = False
    """Members share the hidden layers and differ in their last layer."""
    hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the hidden layers of `mlp`."""
    l2: float | None = None
    """Ridge of the linear part; None chooses it by cross-fitting over prompts."""
    weight_decay: float = 0.1
    """Decoupled weight decay of `mlp`."""
    learning_rate: float = 1e-3
    """Peak learning rate of `mlp`."""
    batch_size: int = 1024
    """Examples a step of `mlp`; smaller data take smaller batches, so that an epoch has at least 40 steps."""
    epochs: int | None = None
    """Most epochs of `mlp`; None takes 3 from 30,000 examples on and more below, up to 10."""
    patience: int = 2
    """Half epochs without a better validation loss before `mlp` stops."""
    validation: float = 0.1
    """Share of blocks (prompts) that `mlp` holds out for early stopping and temperature."""
    label_smoothing: float = 0.0
    """Share of labels assumed flipped, for the objectives that allow it."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Matrix products of `mlp`; `auto` is bf16 where the processor multiplies it natively."""
    laplace: bool = False
    """Keep the posterior of the last layer, so that every score has a standard deviation."""
    robust: Literal["none", "flips", "gce", "symmetric"] = "none"
    """Loss for wrong labels, see `tacit.rewards.robust`: flips models them, gce and symmetric bound what each costs."""
    flip_rate: float | None = None
    """Share of labels turned round, for `robust="flips"`; learnt unless given."""
    length_regressed: bool = False
    """Let the length of a completion explain what it can, and leave its part out of the score."""
    augment: float = 0.0
    """Comparisons to add with answers of other prompts, as a share of the comparisons that people made."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, bad in (
            ("members", self.members < 1),
            ("validation", not 0 < self.validation < 0.9),
            ("label_smoothing", not 0 <= self.label_smoothing < 0.5),
            ("l2", self.l2 is not None and not 0 <= self.l2 <= 1e9),
            ("weight_decay", not 0 <= self.weight_decay <= 1e9),
            ("learning_rate", not 0 < self.learning_rate <= 1e9),
            ("hidden", not self.hidden or min(self.hidden) < 1),
            ("batch_size", self.batch_size < 1),
            ("seed", not 0 <= self.seed < 2**63),
            ("flip_rate", self.flip_rate is not None and not 0 < self.flip_rate < 0.5),
            ("augment", not 0 <= self.augment <= 10),
        ):
            if bad:
                raise TacitError(f"option `{name}` is {getattr(self, name)!r}, outside its range")
        if self.label_smoothing and self.robust != "none":
            raise TacitError("label smoothing and a robust loss are two answers to one question. Give one of them")


HIDDEN = (
    *("hidden", "weight_decay", "learning_rate", "batch_size", "epochs", "patience", "validation", "precision"),
    "shared_trunk",
)
"""Options of the hidden layers: without any (`head="linear"`) they have no effect."""
SMOOTHED = ("bradley_terry", "classification", "outcome")
"""Objectives whose labels can be smoothed."""


def options_of(given: Mapping[str, Any]) -> FitOptions:
    """Options by name; raises `TacitError` for one that has no effect beside the others."""
    options = FitOptions(**given)
    changed = [f.name for f in fields(FitOptions) if f.name in given and given[f.name] != f.default]
    for name in changed:
        if name in HIDDEN and options.head == "linear":
            raise TacitError(
                f"{flag(name)} is about hidden layers, and --head linear has none. Give --head mlp, or leave it out"
            )
        if name == "shared_trunk" and options.members < 2:
            raise TacitError("--shared-trunk shares layers between members. Give --members of 2 or more")
    return options


def require_smoothing(options: FitOptions, objective: str) -> None:
    """Raise `TacitError` where labels are to be smoothed and the objective has none."""
    if options.label_smoothing and objective not in SMOOTHED:
        raise TacitError(
            f"--label-smoothing has no effect on objective `{objective}`. Leave it out, or take one of: "
            f"{', '.join(SMOOTHED)}"
        )
