"""Encoders: (prompt, completion) texts to vectors, and the names they go by.

| name | what it is | needs |
|---|---|---|
| `hashed` | hashed words and characters with surface statistics (`tacit.features.hashed`) | nothing |
| `minilm` | MiniLM-L6, layers 3 and 6, 768 dimensions (`tacit.features.transformer`) | the extra `minilm` |
| `hf:PATH` | hidden states of any transformers model folder, `hf:PATH?pool=last` or `pool=mean` | the extra `hf` |
| `array:FILE` | vectors that were computed elsewhere (`tacit.features.arrays`) | the file |
| `auto` | `minilm` where it is installed, else `hashed` | |

Transformer names take options after a question mark: `pool=last|mean`, `max_length=N`, `dtype=float32|bfloat16`,
`normalize=true|false`, `layers=last|all|0,3,6`, joined by `&`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable
from urllib.parse import parse_qsl

import numpy as np

from tacit.errors import FeatureError

Text = tuple[str, str]
"""(prompt text, completion text), as `tacit.conversation.texts` renders them."""

NAMES = ("auto", "hashed", "minilm", "hf:PATH", "array:FILE")


@runtime_checkable
class Encoder(Protocol):
    """A deterministic map from one (prompt, completion) to one vector."""

    @property
    def name(self) -> str:
        """The name that `load_encoder` takes."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digest that changes whenever the vectors would: weights, tokenizer, options, code version."""
        ...

    def encode(self, texts: Sequence[Text]) -> np.ndarray:
        """Vectors, shape (n, dim), float32. Row i depends on text i alone, to 1e-5 whatever the batch or the order."""
        ...

    def config(self) -> dict[str, Any]:
        """JSON-ready description from which `encoder_from_config` rebuilds this encoder."""
        ...


@runtime_checkable
class Precomputed(Protocol):
    """An encoder whose vectors exist already: to keep them again would only copy them."""

    def known(self, texts: Sequence[Text]) -> np.ndarray:
        """Which of these texts have a vector, (n,) bool."""
        ...


@runtime_checkable
class Truncates(Protocol):
    """An encoder that reads a number of tokens, and cuts longer texts."""

    @property
    def name(self) -> str:
        """The name that `load_encoder` takes."""
        ...

    @property
    def max_length(self) -> int:
        """Tokens that it reads, special ones included."""
        ...

    def cuts(self, texts: Sequence[Text]) -> np.ndarray:
        """Which of these texts it cuts, (n,) bool."""
        ...

    def token_ids(self, texts: Sequence[Text]) -> list[list[int]]:
        """Token ids that it reads of each text."""
        ...


def load_encoder(name: str) -> Encoder:
    """The encoder of that name (see the table of this module). Weights are read at the first `encode`, not here.

    Raises `MissingExtra` where a package is absent, `FeatureError` where the name, an option or a path is wrong.
    """
    base, _, query = name.partition("?")
    if base in ("hf:", "array:"):
        raise FeatureError(f"encoder `{name}` names no path. Use one of: {', '.join(NAMES)}")
    if base == "auto":
        from tacit.features.transformer import minilm_installed

        base = "minilm" if minilm_installed() else "hashed"
        if base == "hashed" and query:
            raise FeatureError(f"encoder `{name}`: `minilm` is not installed and `hashed` takes no options. Drop them")
    if base == "hashed":
        if query:
            raise FeatureError(f"encoder `{name}`: `hashed` takes no options. Use --encoder hashed")
        from tacit.features.hashed import HashedEncoder

        return HashedEncoder()
    if base == "minilm":
        from tacit.features.transformer import load_minilm

        return load_minilm(**_options(name, query))
    if base.startswith("hf:"):
        from tacit.features.transformer import TransformerEncoder

        return TransformerEncoder(base[3:], **_options(name, query))
    if name.startswith("array:"):
        from tacit.features.arrays import read_precomputed

        return read_precomputed(name[6:])
    raise FeatureError(f"there is no encoder `{name}`. Use one of: {', '.join(NAMES)}")


def reloadable(encoder: Encoder) -> bool:
    """Whether `encoder_from_config` of its description gives this encoder back: it is one of ours, by its name."""
    ours = type(encoder).__module__.startswith("tacit.features.")
    return ours and bool(getattr(encoder, "reloadable", False))


def encoder_from_config(config: Mapping[str, Any], *, items: Mapping[str, str] | None = None) -> Encoder:
    """Rebuild the encoder that `Encoder.config` described; `items` are the texts behind the ids of an array.

    Raises `FeatureError` where what is found now would give other vectors than those the description was made from.
    """
    name = str(config["name"])
    if "items" in config:
        from tacit.features.arrays import read_precomputed

        if items is None:
            raise FeatureError(f"encoder `{name}` goes by ids. Give the texts behind them, as items")
        encoder: Encoder = read_precomputed(name.removeprefix("array:"), items=items, items_from=config["items"])
    else:
        encoder = load_encoder(name)
    stored = config.get("fingerprint")
    if stored is not None and stored != encoder.fingerprint:
        raise FeatureError(
            f"encoder `{config['name']}` is not the one this was fitted with (fingerprint {encoder.fingerprint}, "
            f"expected {stored}), so scores would drift. Restore the model it was fitted with, or fit again"
        )
    return encoder


def _options(name: str, query: str) -> dict[str, Any]:
    """Options of a transformer's name, checked: `pool=last&max_length=512` to keyword arguments."""
    options: dict[str, Any] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key == "pool" and value in ("last", "mean"):
            options[key] = value
        elif key == "max_length" and value.isdecimal() and int(value) > 0:
            options[key] = int(value)
        elif key == "dtype" and value in ("float32", "bfloat16"):
            options[key] = value
        elif key == "normalize" and value in ("true", "false"):
            options[key] = value == "true"
        elif key == "layers":
            options[key] = value
        else:
            raise FeatureError(
                f"encoder `{name}`: unknown option `{key}={value}`. Options are pool=last|mean, max_length=N, "
                "dtype=float32|bfloat16, normalize=true|false, layers=last|all|0,3,6"
            )
    return options
