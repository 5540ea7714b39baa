"""Vectors that were computed elsewhere as an encoder: `array:FILE`, a table of vectors by text or by id.

| keys in an .npz or .safetensors file | the vectors belong to |
|---|---|
| `prompts` (n,), `completions` (n,) | exchanges |
| `prompts` (P,), `completions` (P, R) | exchanges; vectors (P, R, dim), (R, P, dim) or (P * R, dim) |
| `texts` (n,) | whole texts, prompt and completion as Tacit renders them |
| `ids` (n,) or (P, R) | completions of these ids: those of the file `--items`, or the completions of the data itself |
| none, with `?ids=rows` | completions `0`, `1`, ... of (n, dim); `0/0`, `0/1`, ... (prompt/response) of (P, R, dim) |

The vectors are called vectors, features, embeddings or emb. Beside an .npy or .safetensors file texts may stand in
`<stem>.texts.jsonl`, a JSON string or {"prompt": .., "completion": ..} a line. Where nothing else says which of two
axes of rows comes first, `?order=prompts` or `?order=responses` does; `?ids=rows&responses=R` counts (P * R, dim) by
prompt.
`tacit.array_files` says what is read how.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import parse_qsl

import numpy as np
from pydantic_core import from_json

from tacit import conversation
from tacit.array_files import (
    CHUNK_ROWS,
    Order,
    by_prompt,
    open_arrays,
    read_array,
    require_numbers,
    rows_of,
    to_float32,
)
from tacit.artefacts import resolved
from tacit.errors import FeatureError
from tacit.features.encoders import Text
from tacit.features.store import text_keys

By = Literal["text", "completion"]
"""What finds a vector: the whole rendered text, or the completion alone, whatever its prompt."""
_KEYS = "`prompts` and `completions`, `texts` or `ids`"


class PrecomputedEncoder:
    """An encoder that looks vectors up by text.

    Parameters
    ----------
    texts: n (prompt, completion) pairs or whole texts; a pair is known by its rendered text.
    vectors: shape (n, dim), or (P, R, dim) for n = P * R texts of one prompt after the other; of any dtype of
        `tacit.array_files`; may be a memory map, of which only the rows that are asked for are read.
    source: the file they came from, for messages and for `config`.
    by: "text", or "completion" for vectors of completions alone, whatever the prompt is.
    options: what else `load_encoder` must know to find the same vectors again.
    ids: whether the texts are ids, which stand for texts in the data (`tacit.evidence.read` takes them as `items`).
    items: where the texts behind the ids were read, for `config`.

    Raises `FeatureError` where the numbers of rows differ, or where equal texts have different vectors.
    """

    def __init__(
        self,
        texts: Sequence[Text] | Sequence[str],
        vectors: np.ndarray,
        *,
        source: str | None = None,
        by: By = "text",
        options: Mapping[str, str] | None = None,
        ids: bool = False,
        items: Mapping[str, Any] | None = None,
    ) -> None:
        self.source, self.by, self.items = source, by, items
        self.reloadable = source is not None
        """Whether the file alone (and that of the items) gives this encoder back."""
        self._source = source or "the given array"
        query = "&".join(f"{key}={value}" for key, value in sorted((options or {}).items()))
        self.name = f"array:{source or 'memory'}" + (f"?{query}" if query else "")
        require_numbers(vectors, self._source)
        rows = int(np.prod(vectors.shape[:-1]))
        if vectors.ndim not in (2, 3) or rows != len(texts) or not vectors.shape[-1]:
            raise FeatureError(
                f"{self._source}: vectors of shape {vectors.shape} do not match {len(texts)} texts. Give one row per "
                "text, in the order of the texts"
            )
        self.dim = int(vectors.shape[-1])
        self.ids: Mapping[str, str] | None = {text: text for text in map(_completion, texts)} if ids else None
        """Every id as its own text, where the texts are ids."""
        self._vectors = vectors
        keys = self._keys_of(texts)
        self._keys, self._rows, inverse = np.unique(keys, return_index=True, return_inverse=True)
        self._require_one_vector_per_text(inverse)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of texts and vectors; the file is read a piece at a time."""
        digest = hashlib.blake2b(self._keys.tobytes(), digest_size=16)
        digest.update(f"{self.dim} {self._vectors.dtype.str}{'' if self.by == 'text' else ' ' + self.by}".encode())
        for start in range(0, len(self._rows), CHUNK_ROWS):
            digest.update(np.ascontiguousarray(self._take(self._rows[start : start + CHUNK_ROWS])).tobytes())
        return digest.hexdigest()

    def encode(self, texts: Sequence[Text]) -> np.ndarray:
        """Vectors of these texts, shape (n, dim), float32; `FeatureError` names the first text that has none."""
        keys = self._keys_of(texts)
        spot = np.minimum(np.searchsorted(self._keys, keys), max(len(self._keys) - 1, 0))
        absent = self._keys[spot] != keys if len(self._keys) else np.ones(len(keys), bool)
        if absent.any():
            raise FeatureError(self._no_vector(texts, absent))
        vectors = np.empty((len(texts), self.dim), np.float32)
        for start in range(0, len(texts), CHUNK_ROWS):
            rows = self._rows[spot[start : start + CHUNK_ROWS]]
            part = vectors[start : start + CHUNK_ROWS] = to_float32(self._take(rows))
            sound = np.isfinite(part).all(axis=1)
            if not sound.all():
                row = int(rows[np.flatnonzero(~sound)[0]])
                raise FeatureError(
                    f"{self._source}: row {row + 1} has a feature that is not finite. Fix or remove that row"
                )
        return vectors

    def known(self, texts: Sequence[Text]) -> np.ndarray:
        """Which of these texts have a vector, (n,) bool."""
        return np.isin(self._keys_of(texts), self._keys)

    def config(self) -> dict[str, Any]:
        """JSON-ready description; `encoder_from_config` reads the file again and refuses one that has changed."""
        config = {"encoder": "array", "name": self.name, "dim": self.dim, "fingerprint": self.fingerprint}
        return config if self.items is None else config | {"items": dict(self.items)}

    def _no_vector(self, texts: Sequence[Text], absent: np.ndarray) -> str:
        prompt, completion = texts[int(np.flatnonzero(absent)[0])]
        shown = completion if self.by == "completion" else conversation.join(prompt, completion)
        mend = "Add its row, or use an encoder that computes vectors"
        if self.ids is not None:
            mend = f"It knows ids such as {next(iter(self.ids), '')!r}: give the texts behind them with --items"
        return (
            f"{self._source} has no vector for {int(absent.sum())} of {len(texts)} texts, the first being "
            f"{shown[:60]!r}. {mend}"
        )

    def _take(self, rows: np.ndarray) -> np.ndarray:
        """A copy of some rows of (n, dim), counted by prompt where there are three axes."""
        return rows_of(self._vectors, rows)

    def _keys_of(self, texts: Sequence[Text] | Sequence[str]) -> np.ndarray:
        if self.by == "completion":
            return text_keys([("", _completion(text)) for text in texts])
        return text_keys([("", text if isinstance(text, str) else conversation.join(*text)) for text in texts])

    def _require_one_vector_per_text(self, inverse: np.ndarray) -> None:
        again = np.setdiff1d(np.arange(len(inverse)), self._rows)
        for start in range(0, len(again), CHUNK_ROWS):
            rows = again[start : start + CHUNK_ROWS]
            first = self._rows[inverse[rows]]
            same = (self._take(rows) == self._take(first)).all(axis=1)
            if not same.all():
                bad = int(np.flatnonzero(~same)[0])
                raise FeatureError(
                    f"{self._source}: rows {int(first[bad]) + 1} and {int(rows[bad]) + 1} have the same text but "
                    "different vectors. Keep one of them"
                )


def read_precomputed(
    path: str | Path,
    *,
    items: Mapping[str, str] | None = None,
    items_from: Mapping[str, Any] | None = None,
    counts: tuple[int, int] | None = None,
) -> PrecomputedEncoder:
    """The encoder `array:PATH[?order=prompts|responses][&ids=rows]`; the head of this module says what a file holds.

    `items` are the texts behind the ids of the file, and `items_from` says where they were read. `counts`, the numbers
    of prompts and of responses of each, give the order of the axes where they are known, and rows go by their numbers
    where the file holds no texts.

    Raises `FeatureError` where anything is missing or does not match.
    """
    file, options = _parsed(str(path))
    source = str(resolved(file.expanduser()))
    vectors, found = read_array(source), open_arrays(source)
    about: dict[str, Any] = {"source": source}
    arrays = found if isinstance(found, dict) else {}
    if options.get("ids") == "rows" or (counts is not None and not _has_texts(arrays, Path(source))):
        vectors, options = _by_rows(vectors, options, counts, source)
        texts = [("", "/".join(map(str, index))) for index in np.ndindex(vectors.shape[:-1])]
        return PrecomputedEncoder(texts, vectors, by="completion", ids=True, options=options, **about)
    name, texts, shape = _texts_of(arrays, source)
    if len(shape) == 2:
        vectors = by_prompt(vectors, *shape, order=_order(options), source=source)
    elif vectors.ndim != 2:
        raise FeatureError(
            f"{source}: `{name}` has one axis and the vectors of shape {vectors.shape} have two of rows. Give `{name}`"
            " of shape (prompts, responses)"
        )
    if name == "ids":
        about |= {"by": "completion", "ids": items is None}
        if items is not None:
            texts = _behind(texts, items, source)
            about["items"] = items_from
    encoder = PrecomputedEncoder(texts, vectors, options=options, **about)
    encoder.reloadable = name != "ids" or items is None or items_from is not None
    return encoder


def _parsed(path: str) -> tuple[Path, dict[str, str]]:
    """The file and the options after its question mark."""
    base, mark, query = path.rpartition("?")
    if not mark or Path(path).is_file():
        return Path(path), {}
    options = dict(parse_qsl(query, keep_blank_values=True))
    allowed = {"order": get_args(Order), "ids": ("rows",)}
    for key, value in options.items():
        sound = value.isdecimal() and int(value) > 0 if key == "responses" else value in allowed.get(key, ())
        if not sound:
            raise FeatureError(
                f"encoder `array:{path}`: unknown option `{key}={value}`. Options are order=prompts|responses, ids=rows"
                " and responses=N"
            )
    return Path(base), options


def _by_rows(
    vectors: np.ndarray, options: Mapping[str, str], counts: tuple[int, int] | None, source: str
) -> tuple[np.ndarray, dict[str, str]]:
    """Vectors (n, dim) or (P, R, dim) whose rows go by their numbers, and the options that say so again."""
    order = _order(options)
    rows, dim = int(np.prod(vectors.shape[:-1])), vectors.shape[-1]
    if counts is None and "responses" in options:
        counts = rows // int(options["responses"]), int(options["responses"])
    if counts is not None and counts[1] > 1:
        view = by_prompt(vectors, *counts, order=order, source=source)
        first: Order = "prompts" if vectors.shape[0] == counts[0] else "responses"
        flat = vectors.ndim == 2
        return view, {"ids": "rows", **({"responses": str(counts[1])} if flat else {"order": order or first})}
    if vectors.ndim == 2 or (counts is not None and counts[0] == rows):
        if counts is not None and counts[0] != rows:
            raise FeatureError(f"{source}: {rows} vectors for {counts[0]} responses. Give one row for each")
        return vectors.reshape(rows, dim), {"ids": "rows"}
    if order is None:
        raise FeatureError(
            f"{source}: shape {vectors.shape} does not say whether prompts or responses come first. Say"
            " ?ids=rows&order=prompts or ?ids=rows&order=responses"
        )
    return np.swapaxes(vectors, 0, 1) if order == "responses" else vectors, {"ids": "rows", "order": order}


def _behind(ids: Sequence[Text], items: Mapping[str, str], source: str) -> list[Text]:
    """The texts that ids stand for. An id without one is kept as what no text can be."""
    texts = [("", items.get(name, f"\0{name}")) for _, name in ids]
    if ids and not any(name in items for _, name in ids):
        raise FeatureError(
            f"{source}: none of its ids, such as {ids[0][1]!r}, is among the ids of --items, such as"
            f" {next(iter(items), '')!r}. Give the items that the vectors were computed of"
        )
    return texts


def _has_texts(found: dict[str, np.ndarray], file: Path) -> bool:
    """Whether anything says which texts the vectors belong to."""
    return bool(found.keys() & {"completions", "texts", "ids"}) or file.with_suffix(".texts.jsonl").is_file()


def _texts_of(found: dict[str, np.ndarray], source: str) -> tuple[str, list[Text], tuple[int, ...]]:
    """What finds the vectors: the name of the array, its texts in the order of rows, and its shape."""
    if "completions" in found:
        completions, shape = _strings(found, "completions", source, (1, 2)), found["completions"].shape
        width = shape[1] if len(shape) == 2 else 1
        prompts = _strings(found, "prompts", source, (1,)) if "prompts" in found else None
        if prompts is not None and len(prompts) != shape[0]:
            raise FeatureError(f"{source}: {len(prompts)} prompts but {shape[0]} completions. Give as many of both")
        texts = [("" if prompts is None else prompts[row // width], text) for row, text in enumerate(completions)]
        return "completions", texts, shape
    for name in ("texts", "ids"):
        if name in found:
            return name, [("", text) for text in _strings(found, name, source, (1, 2))], found[name].shape
    file = Path(source)
    beside = file.with_suffix(".texts.jsonl")
    if beside.is_file():
        texts = _texts_beside(beside)
        return beside.name, texts, (len(texts),)
    if file.suffix == ".npz":
        raise FeatureError(
            f"{source} holds {sorted(found)} but no texts to find vectors by. Add {_KEYS}; or say"
            f" array:{source}?ids=rows where the data names rows"
        )
    raise FeatureError(
        f"{source} needs its texts in {beside.name} beside it, one JSON string a line; or say array:{source}?ids=rows"
        " where the data names rows"
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


def _texts_beside(beside: Path) -> list[Text]:
    texts: list[Text] = []
    with beside.open("rb") as lines:
        for row, line in enumerate(lines, start=1):
            try:
                value = from_json(line)
                pair = ("", value) if isinstance(value, str) else (value.get("prompt", ""), value["completion"])
                texts.append(conversation.texts(*pair))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise FeatureError(
                    f'{beside}, row {row}: not a JSON string or {{"prompt": .., "completion": ..}} ({error}). Fix it'
                ) from error
    return texts


def _order(options: Mapping[str, str]) -> Order | None:
    match options.get("order"):
        case "prompts":
            return "prompts"
        case "responses":
            return "responses"
    return None


def _completion(text: Text | str) -> str:
    return text if isinstance(text, str) else text[1]
