r"""Solutions in steps: how a completion is cut, how labels and scores of steps become those of a whole. All pure.

A completion of T steps y_1..y_T has the prefixes y_1..y_t, joined as it was cut.

| cut | a step is | joined by |
|---|---|---|
| `newline` | a line that is not blank | a line break |
| `paragraph` | what stands between blank lines | a blank line |
| `sentence` | a sentence: up to `.`, `!` or `?` and white space | a space |
| `list` | a message of a list of messages; a text is one step | a blank line |
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from tacit.conversation import Completion, completion_text, message_text
from tacit.errors import TacitError

Cut = Literal["newline", "paragraph", "sentence", "list"]
Aggregate = Literal["min", "product", "last"]
AfterError = Literal["drop", "keep", "wrong"]
StepLabels = Literal["given", "hard", "soft"]

_JOIN: dict[str, str] = {"newline": "\n", "paragraph": "\n\n", "sentence": " ", "list": "\n\n"}
_SPLIT = {
    "newline": re.compile(r"\n"),
    "paragraph": re.compile(r"\n[^\S\n]*\n"),
    "sentence": re.compile(r"(?<=[.!?])\s+"),
}
_LEAST = 1e-7
"""The least probability of a wrong step that a product reckons with, so that its log-odds are finite."""


def cut_steps(completion: Completion, cut: Cut) -> list[str]:
    """The steps of a completion, at least one; an empty completion is one empty step."""
    check_choice("cut", cut, get_args(Cut))
    if cut == "list":
        listed = [completion] if isinstance(completion, str) else [message_text(m) for m in completion]
        return [step.strip() for step in listed] or [""]
    steps = (step.strip() for step in _SPLIT[cut].split(completion_text(completion)))
    return [step for step in steps if step] or [""]


def join_steps(steps: Sequence[str], cut: Cut) -> str:
    """Steps as one text; `cut_steps` takes it apart again, unless a step holds the separator itself."""
    return _JOIN[cut].join(step.strip() for step in steps)


def whole_solution(steps: Sequence[str], cut: Cut) -> Completion:
    """A completion that `cut_steps` takes apart into these steps: messages for cut `list`, else a text."""
    if cut == "list":
        return [{"role": "assistant", "content": step} for step in steps]
    return join_steps(steps, cut)


def prefixes(steps: Sequence[str], cut: Cut) -> list[str]:
    """The texts of y_1, y_1 y_2, ..., one for each step."""
    return [join_steps(steps[: t + 1], cut) for t in range(len(steps))]


def natural_cut(solutions: Sequence[Sequence[str]]) -> Cut:
    """The first of newline, paragraph and list that takes these solutions apart into their own steps again."""
    for cut in ("newline", "paragraph"):
        if not any(_SPLIT[cut].search(step.strip()) for steps in solutions for step in steps):
            return cut
    return "list"


def aggregate_steps(logits: npt.ArrayLike, lengths: npt.ArrayLike, how: Aggregate) -> npt.NDArray[np.float32]:
    """Scores of whole solutions (..., n) from step logits (..., sum of lengths), the solutions one after another.

    - `min`: the log-odds of the worst step (Wang et al. 2024, Math-Shepherd, arXiv 2312.08935);
    - `product`: the log-odds of P = prod_t sigma(s_t), the probability that every step is right (Lightman et al. 2023,
      arXiv 2305.20050), computed as L - log(1 - e^L) with L = sum_t log sigma(s_t); it falls with the number of steps;
    - `last`: the log-odds of the last step, for rewards whose later steps know of earlier errors.

    With one step all three are equal. Raises `TacitError` for another `how`, `ValueError` for lengths that do not fit.
    """
    check_choice("aggregate", how, get_args(Aggregate))
    s, n = np.asarray(logits, dtype=np.float64), np.asarray(lengths, dtype=np.intp)
    if n.sum() != s.shape[-1] or (n < 1).any():
        raise ValueError(f"{s.shape[-1]} steps for lengths that add up to {n.sum()}; each must be 1 or more")
    if len(n) == 0:
        return np.zeros((*s.shape[:-1], 0), dtype=np.float32)
    starts = np.cumsum(n) - n
    if how == "min":
        whole = np.minimum.reduceat(s, starts, axis=-1)
    elif how == "last":
        whole = s[..., starts + n - 1]
    else:
        # log sigma(s) = -log(1 + e^-s); 1 - e^L by expm1, so that neither end loses digits
        log_p = np.minimum(np.add.reduceat(-np.logaddexp(0.0, -s), starts, axis=-1), -_LEAST)
        whole = log_p - np.log(-np.expm1(log_p))
    return whole.astype(np.float32)


def continuation_labels(outcomes: npt.ArrayLike, how: Literal["hard", "soft"] = "hard") -> npt.NDArray[np.float64]:
    """Labels of steps from N sampled continuations of each: outcomes (..., steps, N) in {0, 1} to (..., steps).

    Math-Shepherd (arXiv 2312.08935, equations 3 and 4): a step is as good as what can follow it.
    `hard`: 1 if any of the N continuations reaches the right answer; `soft`: the share that does.

    Raises `TacitError` for no continuations and for values other than 0 and 1.
    """
    check_choice("how", how, ("hard", "soft"))
    values = np.asarray(outcomes, dtype=np.float64)
    if values.ndim == 0 or values.shape[-1] == 0:
        raise TacitError(f"outcomes of continuations have shape {values.shape}. Give N >= 1 for each step")
    if not np.isin(values, (0.0, 1.0)).all():
        raise TacitError("an outcome of a continuation is neither 0 nor 1. Give whether its answer was right")
    result: npt.NDArray[np.float64] = values.max(-1) if how == "hard" else values.mean(-1)
    return result


def treat_after_error(
    labels: npt.ArrayLike, how: AfterError = "drop"
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Labels (steps,) of one solution and which of them to learn from (steps,), after its first error.

    - `drop`: steps after the first wrong one are left out, as in PRM800K, whose people stopped labelling there;
    - `keep`: every label as it was given;
    - `wrong`: steps after the first wrong one are wrong too: the label says that all is right so far.

    A step is wrong where its label is 0; a soft label above 0 is not.
    """
    check_choice("after_error", how, get_args(AfterError))
    values = np.asarray(labels, dtype=np.float64)
    after = np.r_[False, np.cumsum(values == 0)[:-1] > 0] if len(values) else np.zeros(0, dtype=bool)
    if how == "drop":
        return values, ~after
    return np.where(after, 0.0, values) if how == "wrong" else values, np.ones(len(values), dtype=bool)


def check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raise `TacitError` naming the choices where `value` is none of them."""
    if value not in known:
        raise TacitError(f"`{name}` is {value!r}. Choose one of: {', '.join(known)}")
