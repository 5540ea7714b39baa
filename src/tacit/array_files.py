"""Files of arrays (.npy, .npz, .safetensors), memory-mapped, and the axes of what they hold.

Layouts, for P prompts with R responses each:

    (rows, dim)      one vector per row; rows = P * R runs over the responses of the first prompt, then of the second
    (P, R, dim)      prompts first
    (R, P, dim)      responses first, as embedding research stores them; rewards alongside as (P, R), (R, P) or with a
                     last axis of one

Numbers may be float16, float32, float64 or bfloat16 (in .npy and .npz kept as uint16, the upper half of a float32).
Arrays of .npy and .safetensors files, and large ones of .npz files that are not compressed, stay on disk until rows are
asked for. No file is ever unpickled.
"""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tacit.errors import FeatureError

Order = Literal["prompts", "responses"]
"""Which axis comes first."""

ENDINGS = (".npy", ".npz", ".safetensors")
VECTOR_NAMES = ("vectors", "features", "embeddings", "emb")
CHUNK_ROWS = 4096
_MAPPED_BYTES = 16 << 20
"""Arrays inside an .npz file that are larger, and not compressed, are mapped; others are read, and their checksums."""
_SAFETENSORS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "?",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1",
}  # fmt: skip
_LONGEST_HEADER = 100 << 20


def open_arrays(path: str | Path) -> np.ndarray | dict[str, np.ndarray]:
    """The array of an .npy file, or the arrays of an .npz or .safetensors file by name; bfloat16 comes as uint16.

    Raises `FeatureError` where there is no such file, or it is damaged or holds objects.
    """
    file = Path(path)
    if not file.is_file():
        raise FeatureError(f"there is no file {path}. Give an .npy, .npz or .safetensors file of vectors")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that Python 2 wrote it
            if file.suffix == ".npz":
                return _npz(file)
            if file.suffix == ".safetensors":
                return _safetensors(file)
            mapped: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
            return mapped
    except Exception as error:  # numpy, zipfile and tokenize raise many kinds for a damaged header
        # NumPy takes whatever it does not know for pickled objects, and its advice is to load them: never here.
        reason = "not an array file" if "pickle" in str(error) else str(error).rstrip(".") or type(error).__name__
        raise FeatureError(
            f"{path} cannot be read ({reason}). Save plain arrays with numpy.save, numpy.savez or safetensors"
        ) from error


def read_array(
    path: str | Path, name: str | None = None, *, names: Sequence[str] = VECTOR_NAMES, what: str = "vectors"
) -> np.ndarray:
    """An array of numbers from `path`: that of an .npy file, or the array `name` of an .npz or .safetensors file.

    Without a name, the array called by one of `names` (vectors, features, embeddings or emb), or the only one. Raises
    `FeatureError`, which says that `what` was wanted.
    """
    found = open_arrays(path)
    if isinstance(found, dict):
        name = name or next((known for known in names if known in found), None)
        if name is None and len(found) == 1:
            name = next(iter(found))
        if name is None or name not in found:
            raise FeatureError(f"{path} holds {sorted(found)}, none of which is `{name or what}`. Name the array")
        found = found[name]
    return require_numbers(found, str(path))


def require_numbers(array: np.ndarray, source: str) -> np.ndarray:
    """The array itself; raises `FeatureError` where it holds no vectors."""
    if array.dtype.kind != "f" and array.dtype != np.uint16:
        raise FeatureError(
            f"{source} holds {array.dtype}, not feature vectors. Save float16, float32, or bfloat16 as uint16"
        )
    return array


def to_float32(array: np.ndarray) -> np.ndarray:
    """The same numbers as float32; uint16 is read as bfloat16, whose bits are the upper half of a float32's."""
    if array.dtype == np.uint16:
        return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return np.asarray(array, np.float32)


def rows_of(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A copy of rows (k, dim) of an array (n, dim), or of one (P, R, dim) whose rows are counted by prompt.

    Rows of a mapped file are read from it, and not through the map, which would bring their neighbours into memory and
    in the end the file.
    """
    index = np.unravel_index(rows, array.shape[:-1])
    owner: Any = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    whole = array.strides[-1] == array.itemsize and hasattr(os, "pread")
    if not (isinstance(owner, np.memmap) and owner.filename and whole):
        return np.array(array[index])
    size = array.shape[-1] * array.itemsize
    start = int(owner.offset) + array.__array_interface__["data"][0] - owner.__array_interface__["data"][0]
    places = start + sum(part * stride for part, stride in zip(index, array.strides[:-1], strict=True))
    content = bytearray(len(rows) * size)
    with open(owner.filename, "rb", buffering=0) as file:
        for number, place in enumerate(places.tolist()):
            piece = os.pread(file.fileno(), size, place)
            if len(piece) != size:
                raise FeatureError(f"{owner.filename} has become shorter since it was opened. Read it again")
            content[number * size : (number + 1) * size] = piece
    return np.frombuffer(content, array.dtype).reshape(len(rows), array.shape[-1])


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
    """A view of rewards (P, R), (R, P) or (P * R,), each also with a last axis of one, as (prompts, responses)."""
    if rewards.ndim > 1 and rewards.shape[-1] == 1 and rewards.size == prompts * responses:
        rewards = rewards[..., 0] if rewards.ndim == 3 or responses > 1 else rewards
    return _arrange(rewards, prompts, responses, order, source, trailing=0)


def order_of(vectors: np.ndarray, prompts: int, responses: int, *, source: str = "the array") -> Order:
    """The order of the first two axes of vectors (P, R, dim) or (R, P, dim); raises as `by_prompt`."""
    by_prompt(vectors, prompts, responses, source=source)
    return "prompts" if vectors.ndim == 2 or vectors.shape[0] == prompts else "responses"


def require_finite(vectors: np.ndarray, source: str = "the array") -> None:
    """Raise `FeatureError` naming the first row (counted from 1) with a number that is not finite."""
    for start in range(0, len(vectors), CHUNK_ROWS):
        part = to_float32(vectors[start : start + CHUNK_ROWS])
        sound = np.isfinite(part.reshape(len(part), -1)).all(axis=1)
        if not sound.all():
            row = start + int(np.flatnonzero(~sound)[0])
            raise FeatureError(f"{source}: row {row + 1} has a feature that is not finite. Fix or remove that row")


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
            "is which. Say order='prompts' or order='responses' (on the command line `?order=prompts` after the path)"
        )
    if not fits:
        dim = ", dim" if trailing else ""
        raise FeatureError(
            f"{source}: shape {array.shape} does not match {prompts} prompts with {responses} responses each. Give "
            f"({prompts}, {responses}{dim}), ({responses}, {prompts}{dim}) or ({prompts * responses}{dim or ','})"
        )
    return array if fits == ["prompts"] else np.swapaxes(array, 0, 1)


def _npz(file: Path) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as archive:
        infos = {info.filename.removesuffix(".npy"): info for info in archive.zip.infolist()}
        large = {
            name
            for name in archive.files
            if infos[name].compress_type == zipfile.ZIP_STORED and infos[name].file_size > _MAPPED_BYTES
        }
        arrays = {name: _stored(file, infos[name]) if name in large else archive[name] for name in archive.files}
    if strange := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise ValueError(f"`{strange[0]}` is no array")
    return arrays


def _stored(file: Path, info: zipfile.ZipInfo) -> np.ndarray:
    """A memory map of an array that lies uncompressed in a zip archive."""
    with file.open("rb") as stream:
        stream.seek(info.header_offset)
        local = stream.read(30)  # the local header, whose name and extra field may differ from the directory's
        if local[:4] != b"PK\x03\x04":
            raise ValueError("an entry does not begin where the directory says")
        stream.seek(int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little"), 1)
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        if dtype.hasobject:
            raise ValueError("it holds pickled objects")
        return np.memmap(file, dtype, "r", stream.tell(), shape, "F" if fortran else "C")


def _safetensors(file: Path) -> dict[str, np.ndarray]:
    """Memory maps of the tensors: 8 bytes of length, a JSON header with dtype, shape and offsets, then the data."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(_LONGEST_HEADER, file.stat().st_size - 8):
            raise ValueError("its header is cut off")
        header: dict[str, Any] = json.loads(stream.read(length))
    arrays: dict[str, np.ndarray] = {}
    for name, about in header.items():
        if name == "__metadata__":
            continue
        dtype, shape = np.dtype(_SAFETENSORS[about["dtype"]]), tuple(int(size) for size in about["shape"])
        start, end = about["data_offsets"]
        if end - start != dtype.itemsize * int(np.prod(shape, dtype=np.int64)):
            raise ValueError(f"`{name}` is cut off")
        empty = start == end
        arrays[name] = np.zeros(shape, dtype) if empty else np.memmap(file, dtype, "r", 8 + length + start, shape)
    return arrays
