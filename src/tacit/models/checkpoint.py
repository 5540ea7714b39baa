"""A transformers model folder: what its settings say, its tokenizer, its weights, and texts as batches of token ids.

Shared by the encoders (`tacit.features.transformer`) and by whole language models as rewards.

A text longer than `max_length` tokens keeps its special tokens, the whole completion and the end of the prompt; a
completion that alone is too long keeps its beginning, and the prompt goes. Batches are right padded, sorted by length
and filled up to a number of tokens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic_core import from_json

from tacit import conversation
from tacit.errors import FeatureError, TacitError
from tacit.models.kinds import no_model

DEFAULT_MAX_LENGTH = 2048
"""Tokens kept where neither the user nor the model says less."""

# On a processor activations should stay in its cache: 1,600 tokens of MiniLM run a tenth faster than 3,200 or more.
_TOKENS_PER_BATCH = {"cpu": 1_600, "cuda": 131_072}
WEIGHTS = ("*.safetensors", "*.bin")
SETTINGS = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.*",
    "merges.txt",
)
_HIDDEN_SIZE_KEYS = ("hidden_size", "n_embd", "d_model", "dim")
_LAYER_COUNT_KEYS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")


class Parts(NamedTuple):
    """A text as a tokenizer gets it, `lead + completion + tail`: what may be cut first, the answer, what closes it."""

    lead: str
    completion: str
    tail: str = ""


def joined(prompt: str, completion: str) -> Parts:
    """The parts of `conversation.join(prompt, completion)`."""
    whole = conversation.join(prompt, completion)
    start = len(whole) - len(completion)
    return Parts(whole[:start], completion)


def model_folder(folder: str | Path) -> Path:
    """The folder itself, or the local cache's copy of a hub id."""
    path = Path(folder).expanduser()
    if reason := no_model(path):
        raise FeatureError(reason)
    if (path / "config.json").is_file():
        return path.resolve()
    if not path.exists() and str(folder).count("/") == 1:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return Path(snapshot_download(str(folder), local_files_only=True))
        except (LocalEntryNotFoundError, ValueError):
            pass
    raise FeatureError(
        f"{folder} holds no config.json. Give the folder of a transformers model (an encoder as hf:FOLDER)"
    )


def read_settings(folder: Path) -> dict[str, Any]:
    """config.json, with the text part of a multimodal model lifted to the top; encoder-decoders are refused."""
    settings = json_object(folder / "config.json")
    if settings.get("is_encoder_decoder"):
        raise FeatureError(f"{folder} is an encoder-decoder model. Use an encoder or a causal language model")
    return (
        {**settings.get("text_config", {}), **settings} if isinstance(settings.get("text_config"), dict) else settings
    )


def hidden_size(folder: Path, settings: dict[str, Any]) -> int:
    """Width of the model's states."""
    for key in _HIDDEN_SIZE_KEYS:
        if isinstance(settings.get(key), int):
            return int(settings[key])
    raise FeatureError(
        f"{folder / 'config.json'} names no hidden size ({', '.join(_HIDDEN_SIZE_KEYS)}). Use another model"
    )


def layer_count(folder: Path, settings: dict[str, Any]) -> int:
    """Number of layers above the embedding of the tokens."""
    for key in _LAYER_COUNT_KEYS:
        if isinstance(settings.get(key), int):
            return int(settings[key])
    raise FeatureError(
        f"{folder / 'config.json'} names no number of layers ({', '.join(_LAYER_COUNT_KEYS)}). Use layers=last"
    )


def json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file beside a model; raises `FeatureError` where there is none."""
    try:
        value = from_json(path.read_bytes())
    except ValueError as error:
        raise FeatureError(f"{path} is not JSON ({error}). Save the model again") from error
    if not isinstance(value, dict):
        raise FeatureError(f"{path} holds no object of settings. Save the model again")
    return value


def default_max_length(folder: Path, settings: dict[str, Any]) -> int:
    """The least of what the sentence-transformers settings, the tokenizer and the position table allow."""
    limits = [DEFAULT_MAX_LENGTH]
    for file, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        path = folder / file
        stated = json_object(path).get(key) if path.is_file() else None
        if isinstance(stated, int | float) and stated > 0:
            limits.append(int(min(stated, DEFAULT_MAX_LENGTH)))
    for key in ("max_position_embeddings", "n_positions"):
        if isinstance(settings.get(key), int) and settings[key] > 0:
            # RoBERTa's positions begin after its padding id, so its table serves that many fewer tokens.
            offset = int(settings.get("pad_token_id") or 0) + 1 if "roberta" in str(settings.get("model_type")) else 0
            limits.append(settings[key] - offset)
    return min(limits)


def content_digest(folder: Path, options: Sequence[Any], patterns: Sequence[str] = (*SETTINGS, *WEIGHTS)) -> str:
    """Digest of options and of the files that match; the folder's place does not enter."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(options).encode())
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            with path.open("rb") as stream:
                content = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16))
            digest.update(path.name.encode() + b"\0" + content.digest())
    return digest.hexdigest()


def load_tokenizer(folder: Path, *, chat_template: str | None = None) -> Any:
    """The fast tokenizer of a folder as transformers wraps it, truncation and padding off.

    `chat_template` (Jinja) takes the place of its own, in what is saved of it as well.
    """
    from transformers import AutoTokenizer

    try:
        wrapper = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise FeatureError(
            f"{folder} holds no tokenizer that transformers can read ({error}). Save one beside the model"
        ) from error
    if getattr(wrapper, "backend_tokenizer", None) is None:
        raise FeatureError(f"{folder} has only a slow tokenizer. Save a tokenizer.json beside the model")
    wrapper.backend_tokenizer.no_truncation()
    wrapper.backend_tokenizer.no_padding()
    if chat_template is not None:
        wrapper.chat_template = chat_template
    return wrapper


@contextmanager
def quietly() -> Iterator[None]:
    """transformers without bars and advice."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def device_named(name: str | None) -> str:
    """This device, CUDA or the processor where none is named; raises `TacitError` where nothing can compute on it."""
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).cpu()
    except (RuntimeError, NotImplementedError, AssertionError) as error:  # unknown, not built for, or without memory
        reason = str(error).splitlines()[0][:120] if str(error) else "it is not there"
        raise TacitError(f"--device {name} cannot be computed on ({reason}). Give cpu or cuda") from error
    return name


def load_weights(
    factory: Any, folder: Path, *, dtype: str, device: str, may_lack: tuple[str, ...] = ("pooler.",), **options: Any
) -> Any:
    """`factory.from_pretrained(folder)` in evaluation mode on its device, without chatter.

    Raises `FeatureError` where the folder cannot be read, or lacks weights that would then be drawn at random; those
    that begin with one of `may_lack` may.
    """
    import torch

    try:
        with quietly():
            model, info = factory.from_pretrained(
                folder, local_files_only=True, dtype=getattr(torch, dtype), output_loading_info=True, **options
            )
    except Exception as error:  # transformers and safetensors raise many kinds for a bad folder
        raise FeatureError(
            f"{folder} is not a model that transformers can read ({error}). Save one with its safetensors"
        ) from error
    missing = sorted(key for key in info["missing_keys"] if not key.startswith(may_lack))
    if missing:
        raise FeatureError(
            f"{folder} lacks weights of its model ({', '.join(missing[:3])}). Save the whole model again"
        )
    return model.to(device).eval()


def token_ids(
    tokenizer: Any,
    texts: Sequence[Parts],
    max_length: int,
    *,
    special: bool = True,
    keep: Collection[int] = (),
) -> list[list[int]]:
    """Token ids of each text, cut to `max_length` as the head of this module says; an empty text gives no ids.

    `special` lets the tokenizer add its special tokens; ids in `keep` that open a text are never cut either.
    """
    sound = [Parts(*(_sound_unicode(part) for part in text)) for text in texts]
    encodings = tokenizer.encode_batch(["".join(text) for text in sound], add_special_tokens=special)
    return [
        encoding.ids if len(encoding.ids) <= max_length else _cut(encoding, text, max_length, keep)
        for text, encoding in zip(sound, encodings, strict=True)
    ]


def quick_tokenizer(folder: Path) -> Any:
    """The tokenizer in a folder's tokenizer.json, which loads in a tenth of a second; None where there is none."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        return None
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception:  # of no type of its own; whoever loads the folder says what is wrong with it
        return None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def token_counts(tokenizer: Any, texts: Sequence[str]) -> np.ndarray:
    """How many tokens each text has, special ones included, (n,)."""
    encodings = tokenizer.encode_batch([_sound_unicode(text) for text in texts])
    return np.array([len(encoding.ids) for encoding in encodings], dtype=np.int64)


def batches(lengths: Sequence[int], tokens: int) -> Iterator[np.ndarray]:
    """Row numbers of each batch: sorted by length, longest first, so that rows x longest stays within `tokens`."""
    sorted_lengths = np.asarray(lengths)
    order = np.argsort(-sorted_lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, tokens // int(sorted_lengths[order[start]]))
        yield order[start : start + rows]
        start += rows


def tokens_per_batch(device: str) -> int:
    """How many tokens, padding included, one forward pass takes on a device of this type."""
    return _TOKENS_PER_BATCH.get(device, 16_384)


def right_padded(ids: Sequence[Sequence[int]], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids (B, T) int64 with `pad_id` on the right, and which of them are real, (B, T) bool."""
    lengths = np.array([len(row) for row in ids])
    real_BT = np.arange(lengths.max()) < lengths[:, None]
    ids_BT = np.full(real_BT.shape, pad_id, np.int64)
    ids_BT[real_BT] = np.concatenate([np.asarray(row, np.int64) for row in ids])
    return ids_BT, real_BT


def _sound_unicode(text: str) -> str:
    """The text with lone surrogates, which JSON allows and tokenizers refuse, as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _cut(encoding: Any, text: Parts, max_length: int, keep: Collection[int]) -> list[int]:
    """Ids of a text that is too long: special tokens, the end of the prompt, the completion (if alone, its start)."""
    ids = np.array(encoding.ids)
    special = np.array(encoding.special_tokens_mask, bool)
    starts, ends = np.array(encoding.offsets).T
    closing = special | (starts >= len(text.lead) + len(text.completion))
    opening = special | np.isin(ids, list(keep))
    first = int(np.argmin(opening)) if not opening.all() else 0
    last = len(ids) - int(np.argmin(closing[::-1])) if not closing.all() else len(ids)
    room = max_length - first - (len(ids) - last)
    if room < 1 or last <= first:
        return [int(token) for token in ids[:max_length]]
    completion_tokens = int((ends[first:last] > len(text.lead)).sum())
    start = last - max(room, completion_tokens)
    return [int(token) for token in np.concatenate([ids[:first], ids[start : start + room], ids[last:]])]
