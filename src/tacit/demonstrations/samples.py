"""Answers of a policy, kept on disk: JSONL that is drawn once and read again.

A file's name is a digest of everything that decides what is drawn: the weights and the tokenizer, the prompts, how many
answers and how they are drawn. So another policy or another seed never finds the wrong answers, and the same question
never costs twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from tacit.artefacts import atomic_file
from tacit.conversation import Prompt, prompt_text
from tacit.policies.contract import Policy, Sampling

_CHUNK = 256
"""Prompts of one call of `generate`."""


def fingerprint(policy: Any) -> str:
    """Digest of a policy's weights and tokenizer; its name, where it has no model (an endpoint, say)."""
    model = getattr(policy, "model", None)
    digest = hashlib.blake2b(digest_size=16)
    if model is None:
        digest.update(policy.name.encode())
        return digest.hexdigest()
    import torch

    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().cpu().contiguous().view(-1)
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    backend = getattr(getattr(policy, "tokenizer", None), "backend_tokenizer", None)
    digest.update(b"" if backend is None else backend.to_str().encode())
    return digest.hexdigest()


def draw(
    policy: Policy, prompts: Sequence[Prompt], n: int, sampling: Sampling, folder: str | Path | None = None
) -> tuple[list[list[str]], Path | None]:
    """n completions of each prompt and the file that holds them; read where they were drawn before.

    Without a folder nothing is kept. Row i of a file is answer i % n of prompt i // n: `prompt`, `completion`.
    """
    path = None
    if folder is not None:
        asked = [prompt_text(prompt) for prompt in prompts]
        key = json.dumps([fingerprint(policy), asked, n, asdict(sampling)], sort_keys=True)
        path = Path(folder) / f"{hashlib.blake2b(key.encode(), digest_size=12).hexdigest()}.jsonl"
        if (rows := _kept(path, n * len(prompts))) is not None:
            return [rows[i : i + n] for i in range(0, len(rows), n)], path
    drawn: list[list[str]] = []
    for start in range(0, len(prompts), _CHUNK):
        part = list(prompts[start : start + _CHUNK])
        numbered: dict[str, int] = (
            {"first": start * n} if start else {}
        )  # rows keep their own noise, whatever the chunks
        drawn += policy.generate(part, n, sampling, **numbered)
    if path is not None:
        with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            for prompt, answers in zip(prompts, drawn, strict=True):
                for answer in answers:
                    file.write(json.dumps({"prompt": prompt, "completion": answer}, ensure_ascii=False) + "\n")
    return drawn, path


def _kept(path: Path, count: int) -> list[str] | None:
    """The answers in a file; None where there is none, or a damaged one, so that they are drawn again."""
    try:
        rows = [from_json(line)["completion"] for line in path.read_bytes().split(b"\n") if line]
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
    return rows if len(rows) == count and all(isinstance(text, str) for text in rows) else None
