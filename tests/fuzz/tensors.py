"""What can happen to arrays and saved weights: names, types, shapes, numbers that are not finite, pickles, bytes."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
from mutations import mutated_bytes

Arrays = dict[str, np.ndarray]


def mutated_arrays(arrays: Arrays, rng: random.Random) -> Arrays:
    """A copy with one array dropped, renamed, retyped, reshaped, cut, or with a number that is not finite."""
    changed = {name: array.copy() for name, array in arrays.items()}
    name = rng.choice(sorted(changed))
    array = changed.pop(name)
    match rng.randrange(8):
        case 0:
            pass
        case 1:
            changed[rng.choice(["x", "linear", "vectors", "texts", "prompts", "completions", "ids", "bias"])] = array
        case 2:
            kinds = ("float16", "float64", "int64", "uint16", "bool", "complex64", ">f4", "S8", "U8", "int8", "M8[s]")
            changed[name] = _as(array, rng.choice(kinds))
        case 3:
            shapes = ((-1,), (1, -1), (-1, 1), (1, 1, -1), (*array.shape, 1), array.shape[::-1])
            changed[name] = array.reshape(rng.choice(shapes))
        case 4:
            changed[name] = array[: rng.choice([0, 1, len(array) // 2])] if array.ndim else array
        case 5:
            changed[name] = np.concatenate([array, array]) if array.ndim else array.reshape(1)
        case 6 if array.dtype.kind == "f" and array.size:
            array.reshape(-1)[rng.randrange(array.size)] = rng.choice([np.nan, np.inf, -np.inf, 1e38, 0])
            changed[name] = array
        case 6:
            changed[name] = array.astype(object)
        case 7:
            changed[name] = np.zeros((0, *array.shape[1:]), array.dtype)
    return changed


def _as(array: np.ndarray, kind: str) -> np.ndarray:
    with np.errstate(all="ignore"):
        try:
            return array.astype(kind)
        except (ValueError, TypeError):
            return np.zeros(array.shape, kind)


def mutated_npz(path: Path, rng: random.Random) -> bytes:
    """The bytes of an .npz or .npy file after a mutation; arrays of objects are pickled, as numpy does unasked."""
    content = path.read_bytes()
    if rng.random() < 0.4:
        return mutated_bytes(content, rng)
    sink = io.BytesIO()
    if path.suffix == ".npy":
        arrays = mutated_arrays({"array": np.load(path)}, rng)
        np.save(sink, next(iter(arrays.values()), np.array([None])), allow_pickle=True)
    else:
        with np.load(path) as archive:
            whole = {name: archive[name] for name in archive.files}
        np.savez(sink, **mutated_arrays(whole, rng))
    return sink.getvalue()


def mutated_safetensors(path: Path, rng: random.Random) -> bytes:
    """The bytes of a safetensors file after a mutation."""
    from safetensors.numpy import load_file, save

    content = path.read_bytes()
    if rng.random() < 0.4:
        return mutated_bytes(content, rng)
    arrays: dict[str, Any] = mutated_arrays(load_file(path), rng)
    kept = {name: np.ascontiguousarray(a) for name, a in arrays.items() if a.dtype.kind in "fiub" and a.dtype.isnative}
    return bytes(save(kept))
