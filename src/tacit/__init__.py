"""Tacit: infer the reward that people's behaviour implies, say how far it can be trusted, and use it.

The names below are the main road; each loads its module when it is first used, so that `import tacit` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tacit.audit.metrics import evaluate
    from tacit.errors import TacitError
    from tacit.evidence import Evidence, check, read, split
    from tacit.features.encoders import load_encoder
    from tacit.improve.best_of_n import best_of_n_curve, choose, kl_best_of_n
    from tacit.rewards import fit, load
    from tacit.rewards.check import check_reward
    from tacit.rewards.contract import Reward

__version__ = "0.1.0"

__all__ = [
    "Evidence",
    "Reward",
    "TacitError",
    "best_of_n_curve",
    "check",
    "check_reward",
    "choose",
    "evaluate",
    "fit",
    "kl_best_of_n",
    "load",
    "load_encoder",
    "read",
    "split",
]

_HOMES = {
    "Evidence": "tacit.evidence",
    "Reward": "tacit.rewards.contract",
    "TacitError": "tacit.errors",
    "best_of_n_curve": "tacit.improve.best_of_n",
    "check": "tacit.evidence",
    "check_reward": "tacit.rewards.check",
    "choose": "tacit.improve.best_of_n",
    "evaluate": "tacit.audit.metrics",
    "fit": "tacit.rewards",
    "kl_best_of_n": "tacit.improve.best_of_n",
    "load": "tacit.rewards",
    "load_encoder": "tacit.features.encoders",
    "read": "tacit.evidence",
    "split": "tacit.evidence",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tacit' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
