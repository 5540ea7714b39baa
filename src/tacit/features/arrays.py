"""Vectors that were computed elsewhere: reading them, finding their axes, and using them as an encoder.

Layouts, for P prompts with R responses each:

    (rows, dim)      one vector per row; rows = P * R runs over the responses of the first prompt, then of the second
    (P, R, dim)      prompts first
    (R, P, dim)      responses first, as embedding research stores them; rewards alongside as (P, R) or (R, P)

Numbers may be float16, float32, float64, or bfloat16 kept as uint16 (the upper half of a float32). Arrays of .npy files
stay memory-mapped until rows are asked for; no file is ever unpickled.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic_core import from_json

from tacit import conversation
from tacit.errors import FeatureError
from tacit.features.encoders import Text
from tacit.features.store import text_keys

Order = Literal["prompts", "responses"]
"""Which axis comes first."""

_VECTOR_NAMES = ("vectors", "features", "embeddings", "emb")
_CHUNK_ROWS = 65_536


def read_array(path: str | Path, name: str | None = None) -> np.ndarray:
    """An array of numbers from `path`: a memory map of an .npy file, or the array `name` of an .npz file.

    Without a name, the .npz array called vectors, features, embeddings or emb, or its only one. Raises `FeatureError`.
    """
    found = _open(path)
    if isinstance(found, dict):
        name = name or next((known for known in _VECTOR_NAMES if known in found), None)
        if name is None and len(found) == 1:
            name = next(iter(found))
        if name is None or name not in found:
            raise FeatureError(f"{path} holds {sorted(found)}, none of which is `{name or 'vectors'}`. Name the array")
        found = found[name]
    return _require_numbers(found, str(path))


def to_float32(array: np.ndarray) -> np.ndarray:
    """The same numbers as float32; uint16 is read as bfloat16, whose bits are the upper half of a float32's."""
    if array.dtype == np.uint16:
        return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return np.asarray(array, np.float32)


def by_prompt(
    vectors: np.ndarray, prompts: int, responses: int, *, order: Order | None = None, source: str = "the array"
) -> np.ndarray:
    """A view of vectors as (prompts, responses, dim), whichever of the layouts above they are in.

    The axis order is found from the counts; where prompts == responses it must be given, "prompts" or "responses" for
    the first axis. Raises `FeatureError` where the shape does not match the counts or the order is ambiguous.
    """
    return _arrange(vectors, prompts, responses, order, source, trailing=1)


def rewards_by_prompt(
    rewards: np.ndarray, prompts: int, responses: int, *, order: Order | None = None, source: str = "the array"
) -> np.ndarray:
    """A view of rewards (P, R), (R, P) or (P * R,) as (prompts, responses); as `by_prompt`, without the dim axis."""
    return _arrange(rewards, prompts, responses, order, source, trailing=0)


def require_finite(vectors: np.ndarray, source: str = "the array") -> None:
    """Raise `FeatureError` naming the first row (counted from 1) with a number that is not finite."""
    for start in range(0, len(vectors), _CHUNK_ROWS):
        part = to_float32(vectors[start : start + _CHUNK_ROWS])
        sound = np.isfinite(part.reshape(len(part), -1)).all(axis=1)
        if not sound.all():
            row = start + int(np.flatnonzero(~sound)[0])
            raise FeatureError(_not_finite(source, row))


class PrecomputedEncoder:
    """An encoder that looks vectors up by text.

    Parameters
    ----------
    texts: n (prompt, completion) pairs or whole texts; a pair is known by its rendered text.
    vectors: shape (n, dim), of any dtype of this module; may be a memory map.
    source: the file they came from, for messages and for `config`.

    Raises `FeatureError` where the numbers of rows differ, or where equal texts have different vectors.
    """

    def __init__(
        self, texts: Sequence[Text] | Sequence[str], vectors: np.ndarray, *, source: str | None = None
    ) -> None:
        self._source = source or "the given array"
        self.name = f"array:{source or 'memory'}"
        _require_numbers(vectors, self._source)
        if vectors.ndim != 2 or len(vectors) != len(texts) or not vectors.shape[1]:
            raise FeatureError(
                f"{self._source}: vectors of shape {vectors.shape} do not match {len(texts)} texts. Give one row per "
                "text, in the order of the texts"
            )
        self.dim = int(vectors.shape[1])
        self._vectors = vectors
        keys = _whole_keys(texts)
        self._keys, self._rows, inverse = np.unique(keys, return_index=True, return_inverse=True)
        self._require_one_vector_per_text(inverse)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of texts and vectors."""
        digest = hashlib.blake2b(self._keys.tobytes(), digest_size=16)
        digest.update(f"{self.dim} {self._vectors.dtype.str}".encode())
        for start in range(0, len(self._rows), _CHUNK_ROWS):
            digest.update(np.ascontiguousarray(self._vectors[self._rows[start : start + _CHUNK_ROWS]]).tobytes())
        return digest.hexdigest()

    def encode(self, texts: Sequence[Text]) -> np.ndarray:
        """Vectors of these texts, shape (n, dim), float32; `FeatureError` names the first text that has none."""
        keys = _whole_keys(texts)
        spot = np.minimum(np.searchsorted(self._keys, keys), max(len(self._keys) - 1, 0))
        absent = self._keys[spot] != keys if len(self._keys) else np.ones(len(keys), bool)
        if absent.any():
            prompt, completion = texts[int(np.flatnonzero(absent)[0])]
            raise FeatureError(
                f"{self._source} has no vector for {int(absent.sum())} of {len(keys)} texts, the first being "
                f"{conversation.join(prompt, completion)[:60]!r}. Add its row, or use an encoder that computes vectors"
            )
        rows = self._rows[spot]
        vectors = to_float32(self._vectors[rows])
        sound = np.isfinite(vectors).all(axis=1)
        if not sound.all():
            row = int(rows[np.flatnonzero(~sound)[0]])
            raise FeatureError(
                f"{self._source}: row {row + 1} has a feature that is not finite. Mend or remove that row"
            )
        return vectors

    def config(self) -> dict[str, Any]:
        """JSON-ready description; `encoder_from_config` reads the file again and refuses one that has changed."""
        return {"encoder": "array", "name": self.name, "dim": self.dim, "fingerprint": self.fingerprint}

    def _require_one_vector_per_text(self, inverse: np.ndarray) -> None:
        again = np.setdiff1d(np.arange(len(inverse)), self._rows)
        for start in range(0, len(again), _CHUNK_ROWS):
            rows = again[start : start + _CHUNK_ROWS]
            first = self._rows[inverse[rows]]
            same = (self._vectors[rows] == self._vectors[first]).all(axis=1)
            if not same.all():
                bad = int(np.flatnonzero(~same)[0])
                raise FeatureError(
                    f"{self._source}: rows {int(first[bad]) + 1} and {int(rows[bad]) + 1} have the same text but "
                    "different vectors. Keep one of them"
                )


def read_precomputed(path: str | Path) -> PrecomputedEncoder:
    """The encoder `array:PATH`: vectors with the texts they belong to.

    - .npz with the vectors (see `read_array`) and one of: `texts` (n,), whole rendered texts; `prompts` (n,) and
      `completions` (n,); `prompts` (P,) and `completions` (P, R) with vectors in any layout above; `ids` (n,), for data
      that holds these ids in place of texts.
    - .npy with the texts beside it in `<stem>.texts.jsonl`, a JSON string or {"prompt": .., "completion": ..} a line.

    Raises `FeatureError` where anything is missing or does not match.
    """
    source = str(Path(path).expanduser().resolve())
    vectors = read_array(source)
    found = _open(source)
    texts = _texts_of_npz(found, source) if isinstance(found, dict) else _texts_beside(Path(source))
    if isinstance(found, dict) and found.get("completions", np.empty(0)).ndim == 2:
        prompts, responses = found["completions"].shape
        vectors = by_prompt(vectors, prompts, responses, source=source).reshape(prompts * responses, -1)
    return PrecomputedEncoder(texts, vectors, source=source)


def _open(path: str | Path) -> np.ndarray | dict[str, np.ndarray]:
    file = Path(path)
    if not file.is_file():
        raise FeatureError(f"there is no file {path}. Give an .npy or .npz file of vectors")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that Python 2 wrote it
            if file.suffix == ".npz":
                with np.load(file, allow_pickle=False) as archive:
                    arrays = {name: archive[name] for name in archive.files}
                if strange := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
                    raise ValueError(f"`{strange[0]}` is no array")
                return arrays
            mapped: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
            return mapped
    except Exception as error:  # numpy, zipfile and tokenize raise many kinds for a damaged header
        # NumPy takes whatever it does not know for pickled objects, and its advice is to load them: never here.
        reason = "not an array file" if "pickle" in str(error) else str(error).rstrip(".") or type(error).__name__
        raise FeatureError(
            f"{path} cannot be read ({reason}). Save plain arrays with numpy.save or numpy.savez"
        ) from error


def _require_numbers(array: np.ndarray, source: str) -> np.ndarray:
    if array.dtype.kind != "f" and array.dtype != np.uint16:
        raise FeatureError(
            f"{source} holds {array.dtype}, not feature vectors. Save float16, float32, or bfloat16 as uint16"
        )
    return array


def _arrange(
    array: np.ndarray, prompts: int, responses: int, order: Order | None, source: str, *, trailing: int
) -> np.ndarray:
    if order not in (None, "prompts", "responses"):
        raise FeatureError(f"there is no order {order!r}. Say 'prompts' or 'responses' for the first axis")
    counts = array.shape[: array.ndim - trailing]
    tail = array.shape[array.ndim - trailing :]
    if counts == (prompts * responses,) and order != "responses":
        return array.reshape(prompts, responses, *tail)
    first = {"prompts": (prompts, responses), "responses": (responses, prompts)}
    fits = [axis for axis, shape in first.items() if shape == counts and order in (None, axis)]
    if len(fits) == 2 and prompts == 1:
        fits = fits[:1]
    if len(fits) == 2:
        raise FeatureError(
            f"{source}: with {prompts} prompts and as many responses, shape {array.shape} does not say which axis "
            "is which. Say order='prompts' or order='responses'"
        )
    if not fits:
        dim = ", dim" if trailing else ""
        raise FeatureError(
            f"{source}: shape {array.shape} does not match {prompts} prompts with {responses} responses each. Give "
            f"({prompts}, {responses}{dim}), ({responses}, {prompts}{dim}) or ({prompts * responses}{dim or ','})"
        )
    return array if fits == ["prompts"] else np.swapaxes(array, 0, 1)


def _not_finite(source: str, row: int) -> str:
    return f"{source}: row {row + 1} has a feature that is not finite. Mend or remove that row"


def _whole_keys(texts: Sequence[Text] | Sequence[str]) -> np.ndarray:
    return text_keys([("", text if isinstance(text, str) else conversation.join(*text)) for text in texts])


def _texts_of_npz(found: dict[str, np.ndarray], source: str) -> list[Text]:
    if "completions" in found:
        completions = _strings(found, "completions", source, (1, 2))
        width = found["completions"].shape[1] if found["completions"].ndim == 2 else 1
        prompts = _strings(found, "prompts", source, (1,)) if "prompts" in found else None
        if prompts is not None and len(prompts) != len(found["completions"]):
            raise FeatureError(
                f"{source}: {len(prompts)} prompts but {len(found['completions'])} completions. Give as many of both"
            )
        return [("" if prompts is None else prompts[row // width], text) for row, text in enumerate(completions)]
    for name in ("texts", "ids"):
        if name in found:
            return [("", text) for text in _strings(found, name, source, (1, 2))]
    raise FeatureError(
        f"{source} holds {sorted(found)} but no texts to find vectors by. Add `texts`, `ids` or `completions`"
    )


def _strings(found: dict[str, np.ndarray], name: str, source: str, axes: tuple[int, ...]) -> list[str]:
    """The texts of an array in the order of its rows; bytes are read as UTF-8, and whole numbers are ids.

    Raises `FeatureError` for an array of anything else, or with another number of axes.
    """
    array = found[name]
    if array.ndim not in axes or array.dtype.kind not in "USiu":
        wanted = " or ".join(map(str, axes))
        raise FeatureError(
            f"{source}: `{name}` holds {array.dtype} of shape {array.shape}. Give texts, as an array of {wanted} axes"
        )
    try:
        return [text.decode() if isinstance(text, bytes) else str(text) for text in array.reshape(-1).tolist()]
    except UnicodeDecodeError as error:
        raise FeatureError(f"{source}: `{name}` holds a text that is not UTF-8. Save it as UTF-8") from error


def _texts_beside(file: Path) -> list[Text]:
    beside = file.with_suffix(".texts.jsonl")
    if not beside.is_file():
        raise FeatureError(f"{file} needs its texts in {beside.name} beside it. Write one JSON string a line")
    texts: list[Text] = []
    with beside.open("rb") as lines:
        for row, line in enumerate(lines, start=1):
            try:
                value = from_json(line)
                pair = ("", value) if isinstance(value, str) else (value.get("prompt", ""), value["completion"])
                texts.append(conversation.texts(*pair))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise FeatureError(
                    f'{beside}, row {row}: not a JSON string or {{"prompt": .., "completion": ..}} ({error}). Mend it'
                ) from error
    return texts
