"""A saved reward that somebody edited is refused in one sentence: no traceback, and no other scores."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tacit
from tacit.errors import ArtefactError, TacitError
from tacit.evidence import Evidence
from tacit.rewards import fit
from tacit.rewards.recipe import read_recipe

RNG = random.Random(0)
VOTES = Evidence.from_records(
    [
        {
            "prompt": f"q{i % 20}",
            "chosen": f"thank you {RNG.random()}",
            "rejected": f"NO {RNG.random()}",
            "annotator": f"a{i % 4}",
        }
        for i in range(80)
    ],
    kind="comparison",
)
RATINGS = Evidence.from_records(
    [
        {"prompt": f"q{i % 20}", "completion": f"c{i}", "score": {"kind": float(i % 3), "long": float(i % 5)}}
        for i in range(60)
    ],
    kind="rating",
)
STEPS = Evidence.from_records(
    [{"prompt": f"q{i % 20}", "completions": ["good", "BAD"], "labels": [True, i % 2 == 0]} for i in range(60)],
    kind="steps",
)
PROBLEMS = Evidence.from_records([{"prompt": f"q{i}", "answer": str(i)} for i in range(5)], kind="problem")
RECIPE = """
type: gate
when: {prompt: q1}
then:
  type: sum
  parts:
    - reward: scalar
      weight: 2
    - type: length_control
otherwise:
  type: veto
  of: {type: random}
  unless: {type: inverted, of: {type: random, seed: 1}}
  floor: 0
"""


def recipe(folder: Path) -> Any:
    fit(VOTES, encoder="hashed").save(folder.parent / "scalar")
    (folder.parent / "recipe.yaml").write_text(RECIPE)
    return read_recipe(folder.parent / "recipe.yaml")


MAKERS: dict[str, Callable[[Path], Any]] = {
    "scalar": lambda _: fit(VOTES, encoder="hashed"),
    "mlp": lambda _: fit(VOTES, encoder="hashed", head="mlp", hidden=(8,), epochs=1, members=2, pessimism="min"),
    "laplace": lambda _: fit(VOTES, encoder="hashed", pessimism="laplace"),
    "mean_variance": lambda _: fit(VOTES, encoder="hashed", model="mean_variance"),
    "categorical": lambda _: fit(VOTES, encoder="hashed", model="categorical", atoms=4),
    "pairwise": lambda _: fit(VOTES, encoder="hashed", model="pairwise", rank=1, references=8),
    "groups": lambda _: fit(VOTES, encoder="hashed", model="groups", groups=2),
    "attributes": lambda _: fit(RATINGS, encoder="hashed", model="attributes"),
    "process": lambda _: fit(STEPS, encoder="hashed"),
    "prefix": lambda _: fit(VOTES, encoder="hashed", model="prefix"),
    "verifier": lambda _: fit(PROBLEMS),
    "recipe": recipe,
}
BAD: list[Any] = [None, "x", -1, 0, 1.5, True, [], {}, [1, "a"], {"a": 1}, 10**30, 1e308, -1e308, "", "../..", [[]]]


def use(folder: Path) -> np.ndarray:
    from tacit.rewards.scoring import member_scores

    return member_scores(tacit.load(folder), ["q1", "q2", "q3"], ["thank you", "NO", "3"])[0]


def edited_json(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every place of a manifest with every bad value, or without it."""

    def changed(new: Any, drop: bool = False) -> Any:
        whole = copy.deepcopy(value)
        place = whole
        for key in path[:-1]:
            place = place[key]
        if drop:
            del place[path[-1]]
        else:
            place[path[-1]] = new
        return whole

    inner = value
    for key in path:
        inner = inner[key]
    if path:
        for bad in BAD:
            yield f"{'.'.join(map(str, path))} = {bad!r}", changed(bad)
        yield f"without {'.'.join(map(str, path))}", changed(None, drop=True)
    if isinstance(inner, dict | list) and path[:1] != ("report",):
        for key in inner if isinstance(inner, dict) else range(min(2, len(inner))):
            yield from edited_json(value, (*path, key))


def edited_tensors(tensors: dict[str, np.ndarray]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Every tensor with another type or shape, with other numbers, or not at all."""
    for name, array in tensors.items():
        shapes = {
            "T": array.T if array.ndim > 1 else array[None],
            "shorter": array[..., :-1] if array.ndim else array[None],
            "longer": np.concatenate([array, array]) if array.ndim else np.stack([array, array]),
            "flat": array.reshape(-1) if array.ndim != 1 else array.reshape(1, -1),
            "empty": array[:0] if array.ndim else np.zeros(0, array.dtype),
            "scalar": np.zeros((1,) if array.ndim == 0 else (), array.dtype),
            "one dimension more": array[None],
            "huge": np.full_like(array, 3e38) if array.dtype == np.float32 else array - 7,
            "halved": (array / 2 + 1).astype(array.dtype),
        }
        kinds = [np.float16, np.float32, np.float64, np.int64, np.uint8, np.bool_]
        shapes |= {kind.__name__: array.astype(kind) for kind in kinds if kind != array.dtype}
        for what, new in shapes.items():
            yield f"{name} {what}", {**tensors, name: np.ascontiguousarray(new).reshape(new.shape)}
        yield f"without {name}", {key: value for key, value in tensors.items() if key != name}
    yield "no tensors", {}


def edits(folder: Path) -> Iterator[tuple[str, Path, Callable[[Path], Any]]]:
    for path in sorted(folder.rglob("reward.json")):
        for what, value in edited_json(json.loads(path.read_text())):
            yield what, path, lambda place, value=value: place.write_text(json.dumps(value))
    for path in sorted(folder.rglob("*.safetensors")):
        for what, tensors in edited_tensors(load_file(path)):
            yield what, path, lambda place, tensors=tensors: save_file(tensors, place)
        for seed in range(20):
            yield f"bytes {seed}", path, lambda place, seed=seed: flip(place, seed)
    yield (
        "no head",
        folder / "reward.json",
        lambda place: [path.unlink() for path in place.parent.glob("*.safetensors")],
    )


def flip(path: Path, seed: int) -> None:
    rng, content = random.Random(seed), bytearray(path.read_bytes())
    if seed % 2:
        content = content[: rng.randrange(len(content))]
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


@pytest.mark.parametrize("name", MAKERS)
def test_an_edited_reward_is_refused_or_scores_as_before(tmp_path: Path, name: str) -> None:
    saved = tmp_path / "saved"
    MAKERS[name](saved).save(saved)
    before = use(saved)
    every = list(edits(saved))
    sentences = []
    for what, path, edit in random.Random(1).sample(every, min(120, len(every))):
        shutil.copytree(saved, tmp_path / "edited")
        edit(tmp_path / "edited" / path.relative_to(saved))
        try:
            after = use(tmp_path / "edited")
        except TacitError as error:
            sentences.append(str(error))
        except Exception as error:
            raise AssertionError(f"{path.name}: {what}") from error
        else:
            np.testing.assert_array_equal(after, before, err_msg=what)
        shutil.rmtree(tmp_path / "edited")
    assert len(sentences) > 0.7 * min(120, len(every))


def test_the_sentence_names_the_file_and_the_mend(tmp_path: Path) -> None:
    fit(VOTES, encoder="hashed").save(tmp_path / "r")
    manifest = json.loads((tmp_path / "r/reward.json").read_text())
    (tmp_path / "r/reward.json").write_text(json.dumps(manifest | {"members": 7}))
    with pytest.raises(ArtefactError, match=r"r/reward\.json was changed since it was saved.*Fit the reward again"):
        tacit.load(tmp_path / "r")
    (tmp_path / "r/reward.json").write_text(json.dumps(manifest))
    tensors = load_file(tmp_path / "r/head.safetensors")
    save_file({**tensors, "bias": tensors["bias"] + 1}, tmp_path / "r/head.safetensors")
    with pytest.raises(ArtefactError, match=r"r/head\.safetensors is damaged.*Fit the reward again"):
        tacit.load(tmp_path / "r")


def test_a_bug_in_a_reward_that_is_as_it_was_saved_keeps_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tacit.rewards.feature_reward import FeatureReward

    fit(VOTES, encoder="hashed").save(tmp_path / "r")

    def broken(*_: Any, **__: Any) -> None:
        raise IndexError("a bug")

    monkeypatch.setattr(FeatureReward, "load", broken)
    with pytest.raises(IndexError, match="a bug"):
        tacit.load(tmp_path / "r")
    manifest = json.loads((tmp_path / "r/reward.json").read_text())
    (tmp_path / "r/reward.json").write_text(json.dumps(manifest | {"members": 7}))
    with pytest.raises(ArtefactError, match="damaged"):
        tacit.load(tmp_path / "r")


def test_a_reward_that_was_saved_before_there_were_seals_is_read(tmp_path: Path) -> None:
    fit(VOTES, encoder="hashed").save(tmp_path / "r")
    before = use(tmp_path / "r")
    manifest = json.loads((tmp_path / "r/reward.json").read_text())
    old = {key: value for key, value in manifest.items() if key not in ("seal", "files", "contents")}
    (tmp_path / "r/reward.json").write_text(json.dumps(old))
    np.testing.assert_array_equal(use(tmp_path / "r"), before)
