"""A policy by its name: a folder, a llama2.c file, or the address of a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tacit.policies.contract import Policy
from tacit.policies.tokens import PolicyError


def open_policy(
    source: str,
    *,
    model: str | None = None,
    api: Literal["chat", "completions"] = "chat",
    key_env: str | None = None,
    concurrency: int = 16,
    timeout: float = 300.0,
    logprobs: bool = False,
    dtype: str = "auto",
    device: str | None = None,
    chat_template: str | Path | None = None,
) -> Policy:
    """The policy that `source` means.

    http://... or https://... is a server (`tacit.policies.endpoint`), which needs `model`; anything else is a
    transformers folder or a llama2.c file (`tacit.policies.transformer`), for which `dtype`, `device` and
    `chat_template` count.
    """
    options: dict[str, Any]
    if source.startswith(("http://", "https://")):
        from tacit.policies.endpoint import EndpointPolicy

        if model is None:
            raise PolicyError(f"{source} serves models by their names. Say which one: --model")
        if chat_template is not None:
            raise PolicyError("--chat-template is for a model's folder: a server applies its own. Leave it out")
        options = {"api": api, "key_env": key_env, "concurrency": concurrency, "timeout": timeout}
        return EndpointPolicy(source, model, logprobs=logprobs, **options)
    if model is not None:
        raise PolicyError(f"--model is for servers, and {source} is a path. Leave it out")
    from tacit.policies.transformer import TransformerPolicy

    return TransformerPolicy.load(source, dtype=dtype, device=device, chat_template=chat_template)
