"""The encoder of a reward on disk: how it is described, how it is found again, and one that is given instead.

An encoder by name (`hashed`, `minilm`, `hf:FOLDER`, `array:FILE`) is loaded again from its description. An encoder of
one's own, any Python object with the methods of `tacit.features.Encoder`, cannot be: its reward is marked so, and
`tacit.load(folder, encoder=...)` takes the object. The same argument takes an array of vectors of other texts for a
reward that was fitted on an array, and an encoder that has moved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tacit.errors import ArtefactError, TacitError

if TYPE_CHECKING:
    from tacit.features import Encoder


@dataclass
class _Given:
    encoder: Encoder
    used: bool = False


_GIVEN: ContextVar[_Given | None] = ContextVar("given encoder", default=None)


@contextmanager
def given_encoder(encoder: Encoder | None) -> Iterator[None]:
    """Rewards that are loaded in the block take this encoder, inside others as well, where it is theirs.

    Raises `TacitError` at the end where none took it.
    """
    if encoder is None:
        yield
        return
    given = _Given(encoder)
    token = _GIVEN.set(given)
    try:
        yield
    finally:
        _GIVEN.reset(token)
    if not given.used:
        raise TacitError(f"this reward was not fitted on the encoder `{encoder.name}`, or on none. Leave it out")


def encoder_config(encoder: Encoder) -> dict[str, Any]:
    """What `config` of a reward on text features says of its encoder; `own` marks one that cannot be loaded by name."""
    from tacit.features.encoders import reloadable

    own = {} if reloadable(encoder) else {"own": True}
    return {"encoder": {**encoder.config(), **own}, "encoder_fingerprint": encoder.fingerprint}


def encoder_of(manifest: Mapping[str, Any], folder: str | Path) -> Encoder:
    """The encoder of a saved reward, or the one that is given in its place.

    Raises `ArtefactError` where it is not the one that the reward was fitted on any more, and where it is one's own
    and none is given.
    """
    from tacit.features import encoder_from_config

    saved, fingerprint = manifest["encoder"], manifest["encoder_fingerprint"]
    given = _GIVEN.get()
    if given is not None and _fits(given.encoder, saved, fingerprint):
        given.used = True
        return given.encoder
    if saved.get("own"):
        name = saved.get("name", "?")
        wrong = f", and `{given.encoder.name}` is not it (other vectors)" if given is not None else ""
        raise ArtefactError(
            f"{folder} was fitted on an encoder of your own, `{name}`{wrong}. Give that object:"
            " tacit.load(folder, encoder=...)"
        )
    if given is not None and saved.get("encoder") == "array":
        raise ArtefactError(
            f"{folder} was fitted on `{saved.get('name')}`, vectors of {saved.get('dim')} numbers, and"
            f" `{given.encoder.name}` gives {given.encoder.dim}. Give an array of vectors of the same model"
        )
    encoder = encoder_from_config(saved, items=_items(saved))
    if encoder.fingerprint != fingerprint:
        raise ArtefactError(
            f"{folder} was fitted with another version of encoder `{encoder.name}`, scores would drift. Fit again"
        )
    return encoder


def _fits(encoder: Encoder, saved: Mapping[str, Any], fingerprint: str) -> bool:
    """Whether a reward can be read with this encoder: its own, or, of an array, vectors of the same length."""
    if encoder.fingerprint == fingerprint:
        return True
    arrays = saved.get("encoder") == "array" and encoder.config().get("encoder") == "array"
    return arrays and encoder.dim == saved.get("dim")


def _items(saved: Mapping[str, Any]) -> Mapping[str, str] | None:
    """The texts behind the ids of an array, where it was fitted on such."""
    if "items" not in saved:
        return None
    from tacit.evidence.read import item_texts

    return item_texts(saved["items"]["file"], saved["items"].get("columns") or {})
