"""What a model folder is, where something else was asked for: one sentence that says so, and which verb takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic_core import from_json

_CAUSAL = ("CausalLM", "LMHeadModel", "ForConditionalGeneration")
_HEADLESS = ("Model", "ForMaskedLM", "ForPreTraining")
_MERGE = "merge it into its model first (merge_and_unload and save_pretrained of the package peft)"


def no_reward(folder: Path) -> str | None:
    """Why a folder with no reward.json cannot score texts: an adapter, a causal model, an encoder; None if it may."""
    if (folder / "reward.json").is_file():
        return None
    if adapter := no_model(folder):
        return adapter
    names = _settings(folder / "config.json").get("architectures") or []
    name = str(names[0]) if names and not _has_head(folder) else ""
    if name.endswith(_CAUSAL):
        return (
            f"{folder} is a causal language model ({name}), which writes texts and has no head that scores them. Give"
            " it to `tacit generate` or as --policy of `tacit tune`, or ask it as a judge (`folder:` in a judge's YAML)"
        )
    if name.endswith(_HEADLESS) and "Reward" not in name:
        return (
            f"{folder} is an encoder ({name}) without a head that scores texts. Fit a reward on its features: tacit fit"
            f" DATA --encoder hf:{folder} --out DIR"
        )
    for inside in ("reward", "policy"):
        if (folder / "metrics.jsonl").is_file() and (folder / inside).is_dir():
            if inside == "reward":
                return f"{folder} is the folder of a tuning run. The reward that it tuned is {folder / inside}"
            return (
                f"{folder} is the folder of a tuning run, whose policy ({folder / inside}) is no reward. Give a reward"
            )
    return None


def no_model(folder: Path) -> str | None:
    """Why a folder cannot be loaded as a model: it is an adapter, or a reward; None if it may."""
    if (folder / "adapter_config.json").is_file() and not any(folder.glob("model*.safetensors")):
        base = _settings(folder / "adapter_config.json").get("base_model_name_or_path") or "another model"
        return f"{folder} is an adapter (LoRA or its like) of {base}, and no model of its own: {_MERGE}"
    if (folder / "reward.json").is_file() and not (folder / "config.json").is_file():
        return f"{folder} is a reward, which scores texts, and no language model. Give the folder of a model"
    return None


def _has_head(folder: Path) -> bool:
    """Whether the weights hold a head that scores texts, whatever the settings call the model."""
    from safetensors import SafetensorError, safe_open

    try:
        names = set(_settings(folder / "model.safetensors.index.json").get("weight_map") or ())
        for path in () if names else folder.glob("model*.safetensors"):
            with safe_open(path, "np") as tensors:
                names |= set(tensors.keys())
    except (OSError, SafetensorError):  # whoever loads the weights will say so
        return False
    return any(name.startswith(("score.", "classifier.")) for name in names)


def _settings(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is none, or another thing."""
    try:
        value = from_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
