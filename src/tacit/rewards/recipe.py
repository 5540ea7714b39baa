"""Recipes: a YAML file that describes a reward made of rewards.

    type: sum                        # or gate, veto, a check, a control
    name: helpful and right
    parts:
      - reward: ../helpful           # a folder (or another recipe), relative to this file
        weight: 1.0
        scale: z                     # none, z, logit or log_sigmoid; statistics by `tacit combine --data`
      - type: number                 # a verifier, with the answers of a file of problems
        answers: problems.jsonl
        weight: 2.0

| type | keys |
|---|---|
| `sum` | `parts`: each a reward with `weight`, `scale`, `mean`, `std` |
| `gate` | `when` (`prompt`: a regular expression, or `score`: a reward and `above`), `then`, `otherwise` |
| `veto` | `of`, `unless`, `floor`, `above` (0.5) |
| `inverted` | `of` |
| `random` | `seed` |
| `length_control` | `unit`, `shorter` |
| `judge` | at the top of a file of its own: those of `tacit.rewards.judge.settings` |
| a check of `tacit.rewards.verifiers` | its options, `answers` (a file of problems), `unknown` |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tacit.artefacts import resolved
from tacit.errors import TacitError
from tacit.plain_yaml import YamlError, read_yaml
from tacit.rewards.combination import (
    Gate,
    Part,
    PromptCondition,
    Scale,
    ScoreCondition,
    Veto,
    WeightedSum,
    measure_parts,
)
from tacit.rewards.contract import Reward, Saved
from tacit.rewards.controls import InvertedReward, LengthReward, RandomReward
from tacit.rewards.scoring import require_completions, responses
from tacit.rewards.verifiers import CHECKS, Verifier, make_check
from tacit.rewards.verifiers import fit as fit_verifier
from tacit.rewards.verifiers.checks import needs_answer

if TYPE_CHECKING:
    from tacit.evidence import Evidence

_MISSING: Any = object()
_DEEPEST = 32


def read_recipe(path: str | Path, *, cache: str | Path | None = None) -> Reward:
    """The reward that a YAML file describes; `cache` is a folder of encoded texts that its parts may use.

    Raises `RecipeError` naming the file, the key and the value, and what would be right.
    """
    return _read(Path(path), cache, ())


def _read(path: Path, cache: str | Path | None, above: tuple[Path, ...]) -> Reward:
    if resolved(path) in above or len(above) > _DEEPEST:
        raise RecipeError(f"{path}: this recipe is a part of itself. Break the circle")
    if not path.is_file():
        raise RecipeError(f"{path}: there is no such file. Give a YAML file that describes a reward")
    try:
        value = read_yaml(path, mend="Fix it")
    except YamlError as error:
        raise RecipeError(str(error)) from error
    if isinstance(value, Mapping) and value.get("type") == "judge":
        from tacit.rewards.judge import Judge

        return Judge.load(path, cache=cache)
    node = _Node(path, "", value, cache, (*above, resolved(path)))
    reward = _reward(node)
    node.finish()
    return reward


def combined(reward: Reward, evidence: Evidence | None = None) -> tuple[Saved, dict[str, Any]]:
    """The reward with the parts of its sums measured on evidence, and what is to be told of it, JSON-ready.

    Raises `TacitError` for a reward that cannot be saved, a part whose scale needs statistics that nobody gave, and
    evidence without answers.
    """
    rows = 0
    if evidence is not None:
        require_completions(evidence)
        pairs = [pair for record in evidence for pair in responses(record)]
        rows = len(pairs)
        reward = measure_parts(reward, [prompt for prompt, _ in pairs], [completion for _, completion in pairs])
    parts = reward.parts if isinstance(reward, WeightedSum) else ()
    for part in parts:
        part.scaled(np.zeros(0))  # raises where it was not measured
    if not isinstance(reward, Saved):
        raise TacitError(f"reward `{reward.name}` cannot be saved. Make it of rewards that can")
    told = [{"part": p.reward.name, "weight": p.weight, "scale": p.scale, "mean": p.mean, "std": p.std} for p in parts]
    return reward, {"reward": reward.name, "measured_on": rows, "parts": told or [{"part": reward.name}]}


class RecipeError(TacitError):
    """A recipe that describes no reward: names the file, the key and the value, and what would be right."""


class _Node:
    """A mapping of a recipe, with its place for errors; a key that nobody takes is an error."""

    def __init__(self, file: Path, key: str, value: Any, cache: str | Path | None, above: tuple[Path, ...]) -> None:
        self.file, self.key, self.cache, self.above = file, key, cache, above
        if not isinstance(value, Mapping):
            raise self.error("holds no keys", "Give `reward: FOLDER` or `type: NAME`, with its options", value)
        self.left: dict[str, Any] = {str(k): v for k, v in value.items()}
        self.taken: list[str] = []

    def error(self, reason: str, mend: str, value: Any = _MISSING, key: str = "") -> RecipeError:
        """An error that names file, key and value."""
        shown = "" if value is _MISSING else f" (found {str(value)[:80]!r})"
        return RecipeError(f"{self.place(key)}: {reason}{shown}. {mend}")

    def place(self, key: str = "") -> str:
        """The file, and the path of a key from the top of it."""
        whole = ".".join(part for part in (self.key, key) if part)
        return f"{self.file}, key `{whole}`" if whole else str(self.file)

    def take(self, key: str, kind: type | tuple[type, ...], default: Any = _MISSING) -> Any:
        """The value of a key, checked for its type; whole numbers are floats as well, true and false are neither."""
        self.taken.append(key)
        if key not in self.left:
            if default is _MISSING:
                raise self.error("the key is missing", f"Add `{key}:`", key=key)
            return default
        value = self.left.pop(key)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        number = float in kinds and isinstance(value, int) and not isinstance(value, bool)
        if not (number or (isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds))):
            names = " or ".join(_TYPES.get(k, k.__name__) for k in kinds)
            raise self.error("wrong value", f"Give {names}", value, key)
        return float(value) if number else value

    def node(self, key: str) -> _Node:
        """The mapping under a key."""
        self.taken.append(key)
        if key not in self.left:
            raise self.error("the key is missing", f"Add `{key}:` with a reward", key=key)
        return self.inner(key, self.left.pop(key))

    def inner(self, key: str, value: Any) -> _Node:
        """A mapping inside this one."""
        return _Node(self.file, ".".join(part for part in (self.key, key) if part), value, self.cache, self.above)

    def reward(self, key: str) -> Reward:
        """The reward under a key."""
        node = self.node(key)
        reward = _reward(node)
        node.finish()
        return reward

    def path(self, key: str) -> Path:
        """A path, relative to the file."""
        return self.file.parent / str(self.take(key, str))

    def finish(self) -> None:
        """Raise for the first key that nobody took."""
        for key, value in self.left.items():
            raise self.error("unknown key", f"Known here: {', '.join(dict.fromkeys(self.taken))}", value, key)


_TYPES = {str: "a text", float: "a number", int: "a whole number", bool: "true or false", list: "a list"}


def _reward(node: _Node) -> Reward:
    """The reward of a node; keys beside its own (weight, say) are left to the caller."""
    if "reward" in node.left and "type" in node.left:
        raise node.error("both `reward` and `type`", "Keep one of them", key="type")
    if "reward" in node.left:
        return _saved(node)
    kind = str(node.take("type", str, "")) if "type" in node.left else ""
    makers: dict[str, Callable[[_Node], Reward]] = {
        **{"sum": _sum, "gate": _gate, "veto": _veto, "inverted": _inverted},
        **{"random": _random, "length_control": _length},
    }
    try:
        if kind in makers:
            return makers[kind](node)
        if kind in CHECKS:
            return _verifier(node, kind)
    except RecipeError:
        raise
    except TacitError as error:
        raise RecipeError(f"{node.place()}: {error}") from error
    reason = "no such type" if kind else "neither `reward` nor `type`"
    raise node.error(reason, f"Choose one of: {', '.join((*makers, *CHECKS))}", kind or _MISSING, "type")


def _saved(node: _Node) -> Reward:
    from tacit.rewards import load

    path = node.path("reward")
    if path.suffix in (".yaml", ".yml"):
        return _read(path, node.cache, node.above)
    try:
        return load(path, cache=node.cache)
    except TacitError as error:
        raise RecipeError(f"{node.place('reward')}: {error}") from error


def _sum(node: _Node) -> Reward:
    listed = node.take("parts", list)
    name = node.take("name", str, "sum")
    parts = []
    for i, value in enumerate(listed):
        inner = node.inner(f"parts.{i}", value)
        weight = inner.take("weight", float, 1.0)
        scale: Scale = inner.take("scale", str, "none")
        mean, std = inner.take("mean", float, None), inner.take("std", float, None)
        try:
            parts.append(Part(_reward(inner), weight, scale, mean, std))
        except RecipeError:
            raise
        except TacitError as error:
            raise RecipeError(f"{inner.place()}: {error}") from error
        inner.finish()
    return WeightedSum(parts, name)


def _gate(node: _Node) -> Reward:
    when = node.node("when")
    condition: PromptCondition | ScoreCondition
    if "prompt" in when.left:
        condition = PromptCondition(when.take("prompt", str))
    else:
        condition = ScoreCondition(when.reward("score"), when.take("above", float, 0.5))
    when.finish()
    return Gate(condition, node.reward("then"), node.reward("otherwise"), node.take("name", str, "gate"))


def _veto(node: _Node) -> Reward:
    floor, above = node.take("floor", float), node.take("above", float, 0.5)
    return Veto(node.reward("of"), node.reward("unless"), floor, above, node.take("name", str, "veto"))


def _inverted(node: _Node) -> Reward:
    return InvertedReward(node.reward("of"), node.take("name", str, "inverted"))


def _random(node: _Node) -> Reward:
    return RandomReward(node.take("seed", int, 0), node.take("name", str, "random"))


def _length(node: _Node) -> Reward:
    unit, shorter = node.take("unit", str, "words"), node.take("shorter", bool, False)
    return LengthReward(unit, shorter, node.take("name", str, "length_control"))


def _verifier(node: _Node, kind: str) -> Reward:
    from tacit.evidence import read

    name, unknown = node.take("name", str, kind), node.take("unknown", float, None)
    options = {key: node.take(key, object) for key in [f.name for f in fields(CHECKS[kind])] if key in node.left}
    check = make_check(kind, options)
    if needs_answer(check):
        problems = read(node.path("answers"), kind="problem")
        return fit_verifier(problems, check=check, unknown=unknown, name=name)
    return Verifier(check, name=name)
