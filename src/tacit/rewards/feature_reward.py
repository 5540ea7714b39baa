"""A reward on fixed text features: an encoder and a small head with K members."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tacit.artefacts import FORMAT, atomic_directory, read_manifest, write_json
from tacit.conversation import RENDERING, Completion, Prompt, texts
from tacit.errors import ArtefactError, TacitError
from tacit.evidence.records import Record
from tacit.features import Encoder, FeatureStore, encoder_from_config, load_encoder
from tacit.rewards import heads
from tacit.rewards.examples import collect
from tacit.rewards.fitting import fit as fit_head
from tacit.rewards.heads import Parameters
from tacit.rewards.objectives import objective_for
from tacit.rewards.options import FitOptions


@dataclass(eq=False)
class FeatureReward:
    """r(x, y) = mean over members of head_k(encoder(x, y)).

    Scores are calibrated log-odds where the evidence allows it: P(a preferred to b) = sigma(score(a) - score(b)).
    Satisfies `Reward`, `Uncertain` and `Saved`.
    """

    encoder: Encoder
    parameters: Parameters
    name: str = "feature"
    report: dict[str, Any] = field(default_factory=dict)
    """How it was fitted: objective, options, sizes, held-out loss, temperature, seconds."""
    cache: Path | None = None
    """Folder of encoded texts, shared with the fit; None encodes what is asked and keeps nothing."""

    @property
    def members(self) -> int:
        """K, the number of members."""
        return len(self.parameters["bias"])

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores (n,) float32; raises `TacitError` where there are not as many prompts as completions."""
        result: np.ndarray = self.score_members(prompts, completions).mean(0)
        return result

    def score_members(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores of each member, (K, n) float32."""
        if len(prompts) != len(completions):
            raise TacitError(f"{len(prompts)} prompts for {len(completions)} completions: give one prompt each")
        if len(prompts) == 0:
            return np.zeros((self.members, 0), dtype=np.float32)
        pairs = [texts(p, c) for p, c in zip(prompts, completions, strict=True)]
        return self.score_features(FeatureStore(self.encoder, self.cache).features(pairs))

    def score_features(self, features: np.ndarray) -> np.ndarray:
        """Scores of each member, (K, n) float32, from vectors (n, d) of this reward's encoder; any float dtype."""
        if features.ndim != 2 or features.shape[1] != self.parameters["linear"].shape[1]:
            raise TacitError(
                f"features of shape {features.shape}, this reward takes (n, {self.parameters['linear'].shape[1]})"
            )
        return heads.score_in_chunks(self.parameters, features)

    def save(self, folder: str | Path) -> None:
        """Write reward.json, head.safetensors and a model card, atomically; a former reward there is replaced."""
        from safetensors.torch import save_file

        target = Path(folder)
        if target.is_dir() and any(target.iterdir()) and not (target / "reward.json").is_file():
            raise ArtefactError(f"{target} holds other files. Choose another --out, or empty it first")
        manifest = {
            "format": FORMAT,
            "type": "feature",
            "name": self.name,
            "rendering": RENDERING,
            "encoder": self.encoder.config(),
            "encoder_fingerprint": self.encoder.fingerprint,
            "members": self.members,
            "report": self.report,
        }
        with atomic_directory(target) as temporary:
            save_file({k: v.detach().contiguous() for k, v in self.parameters.items()}, temporary / "head.safetensors")
            write_json(temporary / "reward.json", manifest)
            (temporary / "README.md").write_text(_model_card(manifest), "utf-8")

    @classmethod
    def load(cls, folder: str | Path, *, cache: str | Path | None = None) -> FeatureReward:
        """Read a saved folder.

        Raises `ArtefactError` where it is missing, damaged or newer, or where its encoder is not the one it was fitted
        on any more (other weights or another version), since the scores would drift.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        manifest = read_manifest(folder)
        if manifest.get("type") != "feature":
            raise ArtefactError(f"{folder} holds a reward of type {manifest.get('type')!r}. Upgrade tacit to read it")
        if manifest["rendering"] != RENDERING:
            raise ArtefactError(
                f"{folder} renders text by rule {manifest['rendering']!r}, this tacit by {RENDERING!r}. Fit it again"
            )
        try:
            parameters = load_file(Path(folder) / "head.safetensors")
        except (OSError, SafetensorError) as error:
            raise ArtefactError(f"{folder}/head.safetensors is damaged ({error}). Fit the reward again") from error
        encoder = encoder_from_config(manifest["encoder"])
        if encoder.fingerprint != manifest["encoder_fingerprint"]:
            raise ArtefactError(
                f"{folder} was fitted with another version of encoder `{encoder.name}`, scores would drift. Fit again"
            )
        return cls(encoder, parameters, manifest["name"], manifest["report"], None if cache is None else Path(cache))


def fit(
    evidence: Iterable[Record],
    *,
    encoder: str | Encoder = "auto",
    cache: str | Path | None = None,
    name: str = "feature",
    **options: Any,
) -> FeatureReward:
    """Learn a reward from comparisons, rankings, outcomes or ratings.

    `options` are the fields of `FitOptions`. `cache` is a folder for encoded texts: a second fit on the same texts
    encodes nothing, and a fit that was killed goes on where it stopped.
    """
    start = time.perf_counter()
    chosen = _options(options)
    examples = collect(evidence, getattr(evidence, "source", "memory"))
    objective_for(examples.kind, chosen.objective)  # before an hour of encoding, not after
    encoder = load_encoder(encoder) if isinstance(encoder, str) else encoder
    features = FeatureStore(encoder, cache).features(examples.texts)
    fitted = fit_head(features, examples, chosen)
    report = {
        "kind": examples.kind,
        "objective": fitted.objective.name,
        "options": asdict(chosen) | {"hidden": list(chosen.hidden)},
        "n_train": len(examples),
        "n_responses": len(examples.texts),
        **fitted.report,
        "seconds": time.perf_counter() - start,
    }
    return FeatureReward(encoder, fitted.parameters, name, report, None if cache is None else Path(cache))


def _options(options: dict[str, Any]) -> FitOptions:
    unknown = options.keys() - FitOptions.__dataclass_fields__.keys()
    if unknown:
        raise TacitError(
            f"no fit option `{sorted(unknown)[0]}`. Choose from: {', '.join(FitOptions.__dataclass_fields__)}"
        )
    return FitOptions(**options)


def _model_card(manifest: dict[str, Any]) -> str:
    report = manifest["report"]
    options = report.get("options", {})
    meaning = (
        "Score differences are log-odds: P(a preferred to b) = sigma(score(a) - score(b))."
        if report.get("kind") in ("comparison", "ranking")
        else "Higher is better."
    )
    loss = report.get("held_out_loss")
    held_out = "not measured" if loss is None else f"{loss:.4f}"
    return f"""# Reward `{manifest["name"]}`

Fitted by Tacit from {report.get("n_train", "?")} rows of kind `{report.get("kind", "?")}`
({report.get("n_responses", "?")} distinct responses).

| | |
|---|---|
| encoder | `{manifest["encoder"].get("name", "?")}` |
| head | {options.get("head", "?")}, {manifest["members"]} member(s) |
| objective | {report.get("objective", "?")} |
| held-out loss (nats) | {held_out} |
| temperature | {report.get("temperature", 1.0):.3f} |
| rendering rule | `{manifest["rendering"]}` |

{meaning}
The reward knows only what its data showed: measure it with `tacit audit` on data like yours before you use it.

```python
import tacit

reward = tacit.load("this folder")
reward.score(["prompt"], ["completion"])
```
"""
