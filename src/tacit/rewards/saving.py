"""How every reward lies on disk: reward.json (its type and options), head.safetensors, a model card; never pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tacit.artefacts import FORMAT, atomic_directory, files_in, read_manifest, write_json
from tacit.conversation import RENDERING
from tacit.errors import ArtefactError

if TYPE_CHECKING:
    from torch import Tensor

    from tacit.rewards.origin import Origin

TENSORS = "head.safetensors"
ORIGIN = "origin.safetensors"


class Part(Protocol):
    """What saves itself in a folder: a reward that another is made of, say."""

    def save(self, folder: str | Path) -> None:
        """Write the folder."""
        ...


def save_reward(
    folder: str | Path,
    kind: str,
    name: str,
    *,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor] | None = None,
    texts: Mapping[str, str] | None = None,
    parts: Mapping[str, Part] | None = None,
    report: Mapping[str, Any] | None = None,
    origin: Origin | None = None,
    meaning: str = "Higher is better.",
    sealed: bool = True,
) -> None:
    """Write a reward of type `kind` atomically; a former reward there is replaced.

    `config` is what its `load` needs beside the tensors, `texts` are further files by name (LightGBM's trees, say),
    `parts` what else saves itself, in folders inside, `origin` small statistics of the features it was fitted on, and
    `meaning` says on the model card what a score is. Where it is `sealed`, `load` notices whatever is changed later.
    Raises `ArtefactError` where the folder holds anything else.
    """
    from safetensors.torch import save_file

    manifest = {
        "format": FORMAT,
        "type": kind,
        "name": name,
        "rendering": RENDERING,
        "report": dict(report or {}),
        **config,
    }
    with atomic_directory(folder, "reward.json", listed=True) as temporary:
        if tensors is not None:
            save_file({key: value.detach().contiguous() for key, value in tensors.items()}, temporary / TENSORS)
        if origin is not None:
            save_file(origin.tensors(), temporary / ORIGIN)
        for file, text in (texts or {}).items():
            (temporary / file).write_text(text, "utf-8")
        manifest["files"] = {path.name: _digest(path) for path in sorted(temporary.iterdir())}
        for place, part in (parts or {}).items():
            part.save(temporary / place)
        manifest["contents"] = sorted([*files_in(temporary), "README.md", "reward.json"])
        if sealed:
            manifest["seal"] = seal_of(manifest)
        write_json(temporary / "reward.json", manifest)
        (temporary / "README.md").write_text(_model_card(manifest, meaning), "utf-8")


def is_as_saved(folder: str | Path, manifest: Mapping[str, Any]) -> bool | None:
    """Whether reward.json is as it was saved, and those of the rewards inside; None where it does not say.

    Their tensors and texts have digests in it, and `report` decides no score.
    """
    if "seal" not in manifest:
        return None
    try:
        inner = [read_manifest(path.parent) for path in Path(folder).glob("*/**/reward.json")]
    except ArtefactError:
        return False
    return all(stated["seal"] == seal_of(stated) for stated in [manifest, *inner] if "seal" in stated)


def seal_of(manifest: Mapping[str, Any]) -> str:
    """Digest of a manifest without `report`."""
    stated = {key: value for key, value in manifest.items() if key not in ("seal", "report")}
    return hashlib.blake2b(json.dumps(stated, sort_keys=True).encode("utf-8"), digest_size=16).hexdigest()


def open_reward(folder: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The manifest and the tensors of a reward of type `kind`.

    Raises `ArtefactError` where it is missing, damaged, newer, of another type, renders text by another rule, since its
    scores would drift, or where a file is not the one that was saved with it: a flipped bit of a weight has no other
    sign than other scores.
    """
    manifest = read_manifest(folder)
    if manifest.get("type") != kind:
        raise ArtefactError(f"{folder} holds a reward of type {manifest.get('type')!r}, not {kind!r}")
    if manifest.get("rendering") != RENDERING:
        raise ArtefactError(
            f"{folder} renders text by rule {manifest.get('rendering')!r}, this tacit by {RENDERING!r}. Fit it again"
        )
    if not isinstance(manifest.get("report"), dict):
        raise ArtefactError(f"{folder} holds a damaged reward.json (`report` is no object). Fit the reward again")
    files = manifest.get("files", {})
    for name, digest in files.items() if isinstance(files, dict) else ():
        path = Path(folder) / Path(name).name
        if not path.is_file():
            raise ArtefactError(f"{folder} lacks its file {path.name}. Copy the whole folder, or fit the reward again")
        if _digest(path) != digest:
            raise ArtefactError(f"{path} is damaged: it is not the file that was saved. Fit the reward again")
    return manifest, _read_tensors(Path(folder) / TENSORS)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def read_origin(folder: str | Path) -> Origin | None:
    """What a saved reward remembers of the features it was fitted on; None for folders written before it did.

    Raises `ArtefactError` where the file is damaged.
    """
    from tacit.rewards.origin import Origin

    tensors = _read_tensors(Path(folder) / ORIGIN)
    if not tensors:
        return None
    try:
        return Origin.of_tensors(tensors)
    except KeyError as error:
        raise ArtefactError(f"{Path(folder) / ORIGIN} is damaged (lacks {error}). Fit the reward again") from error


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, none where there is no such file."""
    if not path.exists():
        return {}
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtefactError(f"{path} is damaged ({error}). Fit the reward again") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ArtefactError(f"{path} is damaged (`{name}` is not finite). Fit the reward again")
    return tensors


def _model_card(manifest: Mapping[str, Any], meaning: str) -> str:
    report = manifest["report"]
    options = report.get("options", {})
    facts = {
        "type": f"`{manifest['type']}`",
        "encoder": f"`{manifest['encoder'].get('name', '?')}`" if "encoder" in manifest else None,
        "head": options.get("head"),
        "members": manifest.get("members"),
        "objective": report.get("objective"),
        "fitted on": f"{report['n_train']} rows of kind `{report.get('kind', '?')}`" if "n_train" in report else None,
        "held-out loss (nats)": _number(report.get("held_out_loss")),
        "temperature": _number(report.get("temperature")),
        "rendering rule": f"`{manifest['rendering']}`",
    }
    own = manifest.get("encoder", {}).get("own", False)
    table = "\n".join(f"| {fact} | {value} |" for fact, value in facts.items() if value is not None)
    return f"""# Reward `{manifest["name"]}`

Made by Tacit.

| | |
|---|---|
{table}

{meaning}
The reward knows only what its data showed: measure it with `tacit audit` on data like yours before you use it.

```python
import tacit

reward = tacit.load("this folder"{", encoder=the encoder that it was fitted on" if own else ""})
reward.score(["prompt"], ["completion"])
```
"""


def _number(value: Any) -> str | None:
    return None if value is None else f"{value:.4f}"
