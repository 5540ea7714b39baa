"""Checkpoints of a run, and going on from one along the same trajectory.

    OUT/checkpoints/step-000100/
        weights.safetensors     parameters that are trained, and buffers
        optimiser.safetensors   AdamW's moments and counts
        method.safetensors      what the method keeps, and the random states of every process
        state.json              step, settings, what the method keeps as JSON

A folder is written under a temporary name and renamed, so that a kill leaves the last whole one; nothing is pickled.
Tensors are whole, whether or not the run shards them: another number of processes may go on.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tacit.artefacts import FORMAT, atomic_directory, read_manifest, remove_leftovers, remove_saved, write_json
from tacit.errors import ArtefactError
from tacit.tuning.processes import Processes
from tacit.tuning.sharding import shared_like, whole_of

if TYPE_CHECKING:
    from tacit.tuning.loop import Method

INSIDE = "checkpoints"
MANIFEST = "state.json"


def latest(out: Path) -> Path | None:
    """The newest whole checkpoint of a run, if there is one."""
    found = sorted(path for path in (out / INSIDE).glob("step-*") if (path / MANIFEST).is_file())
    return found[-1] if found else None


def save(
    out: Path,
    step: int,
    method: Method,
    parameters: Mapping[str, Any],
    optimiser: torch.optim.Optimizer,
    settings: Mapping[str, Any],
    held: Mapping[str, Any],
    processes: Processes,
) -> None:
    """Write a checkpoint; every process must call it, the main one writes."""
    from safetensors.torch import save_file

    state = method.state()
    randoms = processes.gather(random_states())
    moments, groups = flattened(optimiser.state_dict())
    weights = _whole({**parameters, **_buffers(method)}, keep=processes.main)
    moments = _whole(moments, keep=processes.main)
    if processes.main:
        tensors = {f"method.{name}": value for name, value in state.tensors.items()}
        for rank, (drawn, _) in enumerate(randoms):
            tensors |= {f"random.{rank}.{name}": value for name, value in drawn.items()}
        with atomic_directory(out / INSIDE / f"step-{step:06d}", MANIFEST) as folder:
            save_file(weights, folder / "weights.safetensors")
            save_file(moments, folder / "optimiser.safetensors")
            save_file(_whole(tensors), folder / "method.safetensors")
            write_json(
                folder / MANIFEST,
                {
                    "format": FORMAT,
                    "step": step,
                    "settings": json.loads(json.dumps(settings, default=str)),
                    "method": state.values,
                    "held": held,
                    "groups": groups,
                    "random": [values for _, values in randoms],
                },
            )
    processes.wait()


def load(
    folder: Path,
    method: Method,
    parameters: Mapping[str, Any],
    optimiser: torch.optim.Optimizer,
    settings: Mapping[str, Any],
    processes: Processes,
) -> tuple[int, dict[str, Any]]:
    """Take over a checkpoint; returns its step and what the loop had kept.

    Raises `ArtefactError` where it is damaged, newer, of other settings or of another model.
    """
    from safetensors.torch import load_file

    from tacit.tuning.loop import State

    manifest = read_manifest(folder, MANIFEST)
    ours = json.loads(json.dumps(settings, default=str))
    for name in sorted(ours.keys() | manifest["settings"].keys()):
        was, now = manifest["settings"].get(name), ours.get(name)
        if was != now:
            raise ArtefactError(
                f"{folder} was made with {name} = {was}, not {now}. Give the same options, or another --out"
            )
    try:
        weights = load_file(folder / "weights.safetensors")
        moments = load_file(folder / "optimiser.safetensors")
        tensors = load_file(folder / "method.safetensors")
    except Exception as error:  # safetensors raises several kinds
        raise ArtefactError(f"{folder} is damaged ({error}). Delete it, and the one before is taken") from error
    with torch.no_grad():
        for name, target in {**parameters, **_buffers(method)}.items():
            if name not in weights or weights[name].shape != target.shape:
                raise ArtefactError(
                    f"{folder} holds no weights {name} of shape {tuple(target.shape)}. Resume with its policy"
                )
            target.copy_(shared_like(weights[name], target))
    order = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    own_moments = {key: shared_like(value, order[int(key.partition(".")[0])]) for key, value in moments.items()}
    optimiser.load_state_dict(nested(own_moments, manifest["groups"]))
    ahead = "method."
    kept = {name.removeprefix(ahead): value for name, value in tensors.items() if name.startswith(ahead)}
    method.restore(State(manifest["method"], kept))
    own = f"random.{processes.rank}."
    drawn = {name.removeprefix(own): value for name, value in tensors.items() if name.startswith(own)}
    if drawn:  # a process that was not there before keeps the random state of its start
        set_random_states(drawn, manifest["random"][processes.rank])
    return int(manifest["step"]), dict(manifest["held"])


def prune(out: Path, limit: int, processes: Processes) -> None:
    """Delete all but the `limit` newest checkpoints, and what a kill left half written."""
    if not processes.main:
        return
    remove_leftovers(out / INSIDE)
    for path in sorted((out / INSIDE).glob("step-*"))[: -max(1, limit)]:
        remove_saved(path)


def seed_random(seed: int, rank: int = 0) -> None:
    """Seed every random generator that `random_states` keeps, so that equal runs leave equal checkpoints."""
    number = seed * 1000 + rank
    torch.manual_seed(number % 2**63)
    random.seed(number)
    np.random.seed(number % 2**32)  # noqa: NPY002


def random_states() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The states of every random generator of this process, as tensors and JSON."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    tensors = {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(np.asarray(keys, np.int64))}
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    version, inner, following = random.getstate()
    tensors["python"] = torch.tensor(inner, dtype=torch.int64)
    return tensors, {"python": [version, following], "numpy": [kind, int(position), int(has_gauss), float(gauss)]}


def set_random_states(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Put back what `random_states` took."""
    torch.set_rng_state(tensors["torch"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])
    kind, position, has_gauss, gauss = values["numpy"]
    np.random.set_state((kind, tensors["numpy"].numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    version, following = values["python"]
    random.setstate((version, tuple(tensors["python"].tolist()), following))


def _buffers(method: Method) -> dict[str, Tensor]:
    """Buffers of the modules that would be saved with them."""
    found: dict[str, Tensor] = {}
    for module, held in method.modules().items():
        keep = held.state_dict(keep_vars=True)
        found |= {f"{module}.{name}": value for name, value in held.named_buffers() if name in keep}
    return found


def _whole(tensors: Mapping[str, Any], *, keep: bool = True) -> dict[str, Tensor]:
    """Contiguous copies that share no memory, as safetensors wants them; none where they are not kept.

    Every process must call it where a tensor is sharded.
    """
    whole: dict[str, Tensor] = {}
    for name, value in tensors.items():
        found = whole_of(value)
        if keep:
            whole[name] = found.cpu().contiguous().clone()
    return whole


def flattened(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """An optimiser's state as flat tensors `index.name` and its groups as JSON."""
    tensors = {f"{index}.{name}": value for index, held in state["state"].items() for name, value in held.items()}
    return tensors, [dict(group) for group in state["param_groups"]]


def nested(tensors: Mapping[str, Tensor], groups: list[dict[str, Any]]) -> dict[str, Any]:
    """An optimiser's state from what `flattened` made of it."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    return {"state": state, "param_groups": groups}
