"""Arrays of rewards as evidence: one number for each response, as embedding research stores them beside its vectors.

| array | rows |
|---|---|
| (P, R), or (P, R, 1) | one for each of P prompts: `prompt`, R `completions` and their `scores` |
| (P,), or (P, 1) | one for each of P prompts: `prompt`, `completion` and `score` |

It is the array of an .npy file, or the one called rewards, scores, ratings or gold in an .npz or .safetensors file.
Texts stand beside it as `prompts` (P,) and `completions` (P, R), or completions go by `ids` (P, R). Without them prompt
p is the text `p`, and response r of it `p/r` (of one alone `p`), by which `array:FILE?ids=rows` finds its vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tacit.array_files import open_arrays
from tacit.errors import EvidenceError, FeatureError

REWARD_NAMES = ("rewards", "scores", "ratings", "gold")


def read_rewards(path: str | Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The rewards, (P, R) or (P,), and the other arrays of the file; raises `EvidenceError` where it holds none."""
    try:
        found = open_arrays(path)
    except FeatureError as error:
        raise EvidenceError(str(error).rstrip("."), mend="Give rewards as an array", source=str(path)) from error
    arrays = found if isinstance(found, dict) else {"rewards": found}
    name = next((known for known in REWARD_NAMES if known in arrays), next(iter(arrays)) if len(arrays) == 1 else None)
    if name is None:
        raise EvidenceError(
            f"it holds the arrays {', '.join(sorted(arrays))} and no rewards",
            mend=f"Call the rewards {', '.join(REWARD_NAMES[:-1])} or {REWARD_NAMES[-1]}",
            source=str(path),
        )
    rewards = arrays.pop(name)
    if rewards.ndim > 1 and rewards.shape[-1] == 1:
        rewards = rewards[..., 0]
    if rewards.dtype.kind not in "fiu" or rewards.ndim not in (1, 2) or not rewards.size:
        raise EvidenceError(
            f"`{name}` holds {rewards.dtype} of shape {rewards.shape}, which are no rewards of responses",
            mend="Give numbers of shape (prompts, responses) or (prompts, responses, 1), and vectors with --encoder"
            " array:FILE",
            source=str(path),
        )
    return rewards, arrays


def counts(path: str | Path) -> tuple[int, int]:
    """How many prompts there are, and responses of each."""
    rewards, _ = read_rewards(path)
    return rewards.shape[0], 1 if rewards.ndim == 1 else rewards.shape[1]


def numbered(path: str | Path) -> bool:
    """Whether its responses go by their numbers, since neither texts nor ids stand beside the rewards."""
    return not read_rewards(path)[1].keys() & {"completions", "ids"}


def reward_rows(path: str | Path) -> Iterator[tuple[int, dict[str, Any] | EvidenceError]]:
    """(row, values) for each prompt, or what is wrong with its row."""
    rewards, arrays = read_rewards(path)
    prompts = _texts(arrays, "prompts", rewards.shape[:1], str(path))
    name = next((known for known in ("completions", "ids") if known in arrays), "completions")
    said = _texts(arrays, name, rewards.shape, str(path))
    for p, scores in enumerate(rewards):
        prompt = str(p) if prompts is None else prompts[p]
        if not np.isfinite(scores).all():
            which = int(np.flatnonzero(~np.isfinite(np.atleast_1d(scores)))[0])
            yield p + 1, EvidenceError(
                "the reward is not finite", mend="Fix or remove it", source=str(path), row=p + 1,
                column=f"response {which + 1}", value=float(np.atleast_1d(scores)[which]),
            )  # fmt: skip
        elif rewards.ndim == 1:
            completion = str(p) if said is None else said[p]
            yield p + 1, {"prompt": prompt, "completion": completion, "score": scores.item()}
        else:
            completions = [f"{p}/{r}" for r in range(len(scores))] if said is None else said[p]
            yield p + 1, {"prompt": prompt, "completions": completions, "scores": scores.tolist()}


def _texts(arrays: dict[str, np.ndarray], name: str, shape: tuple[int, ...], source: str) -> Any:
    """The texts (or whole numbers, as ids) of an array as nested lists; None where there is none."""
    if name not in arrays:
        return None
    array = arrays[name]
    if array.ndim > len(shape) and array.shape[-1] == 1:
        array = array[..., 0]
    if array.shape != shape or array.dtype.kind not in "USiu":
        raise EvidenceError(
            f"`{name}` holds {array.dtype} of shape {array.shape} beside rewards of shape {shape}",
            mend=f"Give texts of shape {shape}",
            source=source,
        )
    try:
        return np.char.decode(array, "utf-8").tolist() if array.dtype.kind == "S" else array.astype(str).tolist()
    except UnicodeDecodeError as error:
        raise EvidenceError(
            f"`{name}` holds a text that is not UTF-8", mend="Save it as UTF-8", source=source
        ) from error
