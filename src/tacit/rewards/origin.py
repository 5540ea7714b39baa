r"""What a reward remembers of the data it was fitted on: enough to say how far other data lies, and which of it is the
same; no text.

Features are scaled to unit variance in each dimension. With mean m, the r leading principal directions V and their
variances l_1..l_r, and the mean variance s of the d - r others, the covariance is shrunk to

    C = V diag(l) V^T + s (I - V V^T)

(probabilistic principal components, Tipping and Bishop 1999), and the distance of a response x from the data is

    D(x) = \sqrt{ (x - m)^T C^{-1} (x - m) / d },

about 1 for data like it. Three tenths of the prompts give m and V, two tenths l and s (along the directions that fit
one sample best, its own variance is too large); of the other half a sketch is kept: the coordinates and distances of
one response for each of up to 512 prompts. So the sketch had no part in the statistics, as new data had none, and a
two-sample test between the two is exact.

Of every prompt and every exchange there is a hash of 8 bytes, by which an audit tells that it is asked about rows of
the fit. By chance a new text among a million has the hash of one of a million with probability 5e-14.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

    from tacit.rewards.examples import Examples

Floats = npt.NDArray[np.float32]
Hashes = npt.NDArray[np.int64]

DIRECTIONS = 32
SKETCH = 512
_ROWS = 1000
_FEWEST = 40
"""Prompts below which nothing is kept."""
_CHUNK = 4096


def _none() -> Hashes:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class Origin:
    """Statistics of the features (n, d) that a reward was fitted on, float32, and hashes of the texts.

    Without features, or with fewer than 40 prompts, the statistics are empty.
    """

    mean: Floats
    """(d,)."""
    scale: Floats
    """(d,) standard deviations; 1 where a dimension hardly varies."""
    directions: Floats
    """(d, r) orthonormal, of scaled features."""
    variances: Floats
    """(r,) along them."""
    rest: Floats
    """(3,): mean variance of the other dimensions; mean and spread of the root mean square there."""
    sketch: Floats
    """(m, r + 1) `coordinates` of one response for each of m other prompts."""
    distances: Floats
    """(m,) their `distance`."""
    prompts: Hashes = field(default_factory=_none)
    """Sorted hashes of the prompts."""
    responses: Hashes = field(default_factory=_none)
    """Sorted hashes of prompt and completion."""

    @classmethod
    def of(cls, features: np.ndarray, prompt: np.ndarray, *, seed: int = 0) -> Origin | None:
        """From features (u, d) of responses and the number of each one's prompt (u,); None for fewer than 40 prompts.

        At most 1,000 responses of each part are looked at.
        """
        rng = np.random.default_rng([seed, 1])
        names, code = np.unique(prompt, return_inverse=True)
        if len(names) < _FEWEST:
            return None
        order = rng.permutation(len(features))
        place = (rng.permutation(len(names)) / len(names))[code.reshape(-1)][order]
        rows, checked = np.sort(order[place < 0.3][:_ROWS]), np.sort(order[(place >= 0.3) & (place < 0.5)][:_ROWS])
        mine = order[place >= 0.5]
        first = np.unique(code.reshape(-1)[mine], return_index=True)[1]
        kept = np.sort(mine[np.sort(first)[:SKETCH]])
        x = np.asarray(features[rows], dtype=np.float64)
        mean, scale = x.mean(0), x.std(0)
        scale = np.where(scale < 1e-3 * np.sqrt(np.mean(scale**2)) + 1e-12, 1.0, scale)
        x = (x - mean) / scale
        count, dim = x.shape
        r = max(1, min(DIRECTIONS, count // 20, dim - 1))
        if count < dim:
            directions = x.T @ np.linalg.eigh(x @ x.T)[1][:, ::-1][:, :r]
        else:
            directions = np.linalg.eigh(x.T @ x)[1][:, ::-1][:, :r]
        directions = np.linalg.qr(directions)[0]  # so that a vanishing eigenvalue leaves them orthonormal
        x = (np.asarray(features[checked], dtype=np.float64) - mean) / scale
        values = np.maximum(((x @ directions) ** 2).mean(0), 1e-6)
        left_over = _left_over(x, directions, dim - r)
        rest = np.array([max(float(np.mean(left_over**2)), 1e-6), left_over.mean(), left_over.std() or 1.0])
        none = np.zeros((0, r + 1))
        empty = cls(*_floats(mean, scale, directions, values, rest, none, none[:, 0]))
        coordinates, distances = empty.place(features[kept])
        return cls(*_floats(mean, scale, directions, values, rest, coordinates, distances))

    @classmethod
    def of_texts(cls, texts: Sequence[tuple[str, str]]) -> Origin:
        """Of (prompt, completion) texts alone: the hashes, and no statistics."""
        none = np.zeros(0, np.float32)
        flat = none.reshape(0, 0)
        return cls(none, none, flat, none, none, flat, none, *(np.unique(column) for column in _hashed(texts)))

    @classmethod
    def of_examples(cls, features: np.ndarray, examples: Examples, *, seed: int = 0) -> Origin:
        """From the features (u, d) of `examples.texts`, of those that the examples refer to."""
        used = np.unique(examples.rows[examples.rows >= 0])
        known = cls.of_texts([examples.texts[i] for i in used.tolist()])
        if not len(used):
            return known
        # A response without a prompt, or with that of all others, is a prompt of its own.
        same = examples.one_prompt
        names = [
            "\0" + said if same or not asked else asked for asked, said in (examples.texts[i] for i in used.tolist())
        ]
        order = dict.fromkeys(names)
        number = dict(zip(order, range(len(order)), strict=True))
        made = cls.of(np.asarray(features)[used], np.array([number[name] for name in names]), seed=seed)
        return known if made is None else replace(made, prompts=known.prompts, responses=known.responses)

    def knows(self, texts: Sequence[tuple[str, str]]) -> tuple[np.ndarray, np.ndarray]:
        """Of which (prompt, completion) texts the prompt, and of which the whole, was fitted on: (n,) bool each.

        No prompt is no prompt that was fitted on.
        """
        prompts, responses = _hashed(texts)
        asked = np.array([bool(prompt) for prompt, _ in texts], dtype=bool)
        return np.isin(prompts, self.prompts) & asked, np.isin(responses, self.responses)

    def place(self, features: np.ndarray) -> tuple[Floats, Floats]:
        """`coordinates` (n, r + 1) and `distance` (n,) of features (n, d) of the same encoder.

        The coordinates are whitened: those along the principal directions, and the size of what is left, each of about
        unit variance over the fitting data.
        """
        dim, r = self.directions.shape
        coordinates, distances = [np.zeros((0, r + 1), np.float32)], [np.zeros(0, np.float32)]
        for start in range(0, len(features), _CHUNK):
            x = (np.asarray(features[start : start + _CHUNK], dtype=np.float32) - self.mean) / self.scale
            along = x @ self.directions / np.sqrt(self.variances)
            left = _left_over(x, self.directions, dim - r)
            square = (along**2).sum(1) + (dim - r) * left**2 / self.rest[0]
            distances.append(np.sqrt(square / dim))
            coordinates.append(np.concatenate([along, ((left - self.rest[1]) / self.rest[2])[:, None]], axis=1))
        return np.concatenate(coordinates), np.concatenate(distances)

    def tensors(self) -> dict[str, Tensor]:
        """As named tensors for a file."""
        import torch

        return {f.name: torch.from_numpy(np.ascontiguousarray(getattr(self, f.name))) for f in fields(self)}

    @classmethod
    def of_tensors(cls, tensors: dict[str, Tensor]) -> Origin:
        """Back from `tensors`; raises `KeyError` where one is missing. Folders before hashes were kept have none."""
        hashes: dict[str, Any] = {
            name: tensors[name].numpy() if name in tensors else _none() for name in ("prompts", "responses")
        }
        statistics = {f.name: tensors[f.name].numpy() for f in fields(cls) if f.name not in hashes}
        return cls(**(statistics | hashes))


def origins_of(reward: Any) -> Iterator[Origin]:
    """What a reward, and every reward inside it, remembers of its fit."""
    origin = getattr(reward, "origin", None)
    if isinstance(origin, Origin):
        yield origin
    for value in vars(reward).values() if hasattr(reward, "__dict__") else ():
        for inner in value if isinstance(value, list | tuple) else (value,):
            if hasattr(inner, "score") or hasattr(inner, "reward"):
                yield from origins_of(inner)


def _hashed(texts: Sequence[tuple[str, str]]) -> tuple[Hashes, Hashes]:
    """Hashes (n,) of the prompts, and of prompt and completion together."""
    from tacit.features import text_keys

    def first_half(keys: np.ndarray) -> Hashes:
        return np.frombuffer(keys.tobytes(), "<i8")[::2].astype(np.int64)

    return first_half(text_keys([(prompt, "") for prompt, _ in texts])), first_half(text_keys(texts))


def _left_over(x: np.ndarray, directions: np.ndarray, count: int) -> np.ndarray:
    """Root mean square (n,) of scaled rows (n, d) outside the directions, over `count` dimensions."""
    square = (x**2).sum(1) - ((x @ directions) ** 2).sum(1)
    return np.asarray(np.sqrt(np.maximum(square, 0.0) / max(1, count)))


def _floats(*arrays: np.ndarray) -> list[Any]:
    return [np.asarray(array, dtype=np.float32) for array in arrays]
