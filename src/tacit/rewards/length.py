"""Length as a nuisance: it explains what it can while a reward is fitted, and has no part in the score.

A column L = log2(1 + characters) stands beside the features of every response, so that for comparisons

    logit P(a preferred to b) = s(a) - s(b) + beta (L_a - L_b),

and the score is s alone: the forecast for two completions of one length, as in length-controlled AlpacaEval (Dubois et
al. 2024, arXiv 2404.04475) and in the spirit of ODIN (Chen et al. 2024, arXiv 2402.07319). In a linear fit the column
has a hundredth of the others' ridge, so that what both could explain is given to length. What honest quality owes to
length is lost with it: this is a remedy where length misleads, not a default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tacit.rewards.heads import Parameters, Standardiser

BOOST = 10.0
"""How much larger the standardised column is than others: its ridge is that of the others / BOOST^2."""


def doublings(texts: Sequence[tuple[str, str]]) -> Tensor:
    """log2(1 + characters of the completion) of each (prompt text, completion text), (u,) float32."""
    return torch.from_numpy(np.log2(1.0 + np.array([len(completion) for _, completion in texts])).astype(np.float32))


def with_length(matrix: Tensor, texts: Sequence[tuple[str, str]], *, boost: float) -> tuple[Tensor, Standardiser]:
    """Features (u, d) with the column of length after them, (u, d + 1), and their standardiser."""
    wide = torch.cat([matrix.float(), doublings(texts)[:, None]], dim=1)
    standardise = Standardiser.of(wide)
    scale = standardise.scale.clone()
    scale[-1] /= boost
    return wide, replace(standardise, scale=scale)


def without_length(parameters: Parameters, mean: Tensor) -> tuple[Parameters, Tensor]:
    """A head on raw features and length, as a head on the features alone that takes every length for the mean.

    Also the coefficient of length in the linear part, (members,): score per doubling.
    """
    coefficient = parameters["linear"][:, -1].clone()
    kept = dict(parameters)
    kept["linear"] = parameters["linear"][:, :-1]
    kept["bias"] = parameters["bias"] + coefficient * mean
    if "hidden.0.weight" in parameters:
        weight = parameters["hidden.0.weight"]
        kept["hidden.0.weight"] = weight[:, :-1]
        kept["hidden.0.bias"] = parameters["hidden.0.bias"] + weight[:, -1:] * mean
    return kept, coefficient
