"""Saved folders: JSON and safetensors, written to a temporary name and renamed, never pickle."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tacit.errors import ArtefactError

FORMAT = 1
"""Version of the folder layout. A reader refuses a newer one and keeps reading every older one."""


def require_writable(path: str | Path, *, folder: bool = False) -> None:
    """Raise `ArtefactError` where no file (or folder) can be put at `path`; ask before an hour of work, not after."""
    target = Path(path)
    if folder and (target.exists() or target.is_symlink()) and not target.is_dir():
        raise ArtefactError(f"{target} is a file. Choose another --out or move the file away")
    if not folder and target.is_dir():
        raise ArtefactError(f"{target} is a folder. Give --out the name of a file")
    above = next((place for place in target.absolute().parents if place.exists()), target)
    if not above.is_dir():
        raise ArtefactError(f"{target} lies below {above}, which is a file. Choose another path")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ArtefactError(f"{target} cannot be written: {above} is read-only. Choose another path")


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling folder that replaces `path` when the block ends well, and vanishes when it does not."""
    target = Path(path)
    require_writable(target, folder=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield temporary
        os.chmod(temporary, 0o755)
        if target.exists():
            retired = temporary.with_name(temporary.name + ".old")
            target.rename(retired)
            temporary.rename(target)
            shutil.rmtree(retired)
        else:
            temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling path that replaces `path` when the block ends well."""
    target = Path(path)
    require_writable(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix="".join(target.suffixes), dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o644)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write sorted, indented JSON; NaN is refused."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n", "utf-8")


def read_manifest(folder: str | Path, name: str = "reward.json") -> dict[str, Any]:
    """The manifest of a saved folder, after checking that this version can read it.

    Raises `ArtefactError` where the folder is missing, damaged, or from a newer version.
    """
    path = Path(folder) / name
    if not path.is_file():
        raise ArtefactError(f"{folder} holds no {name}. Give a folder that `tacit fit --out` wrote")
    try:
        manifest = json.loads(path.read_text("utf-8"))
        version = int(manifest["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{path} is damaged ({error}). Fit the reward again") from error
    if version > FORMAT:
        raise ArtefactError(
            f"{path} has format {version}, this tacit reads up to {FORMAT}. Upgrade with: pip install -U tacit"
        )
    return dict(manifest)
