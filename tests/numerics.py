"""Closeness of float32 results that were computed along two routes.

A float32 number carries 24 bits, so a sum of terms of size s has an error of about eps s, eps = 2^-23 = 1.2e-7, that
depends on the order in which the terms are added: it is at most n eps times the sum of the terms' magnitudes (Higham,
Accuracy and Stability of Numerical Algorithms, 2002, section 3.1), and grows as sqrt(n) where roundings are random. The
order is the processor's, the number of threads' and the batch shape's. So the error follows the magnitude of the
*terms*: a log-probability of -8 may differ by 1e-5, and one of -0.01 in the same rows just as much, since both are
differences of the same logits. A tolerance for each element by itself is too tight where terms cancel; one absolute
number for all is too tight for what is large and blind to mistakes in what is small.

Two routes through the *same* kernel on the same shapes give the same bytes, and are compared as bytes. Float64 results
(tables of the lab, by hand) need no helper: their tolerances of 1e-9 are a thousand times what rounding explains.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

EPS = 2.0**-23
ROUNDING = 128 * EPS
"""1.5e-5: what a few layers of dot products, norms and softmaxes make of one rounding each, with room to spare."""
BFLOAT16 = 2.0**-8
"""The same of products in bfloat16, whose numbers carry 8 bits and are added up in float32."""


def as_array(values: Any) -> np.ndarray:
    """Numbers, lists of numbers, arrays and tensors as float64."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    elif isinstance(values, (list, tuple)):
        values = [as_array(value) for value in values]
    return np.asarray(values, np.float64)


def assert_float32_close(
    actual: Any, expected: Any, *, rtol: float = ROUNDING, scale: float | None = None, msg: str = ""
) -> None:
    """|actual - expected| <= rtol * max(|expected|), where the largest is that of the whole array.

    Give `scale` in place of that maximum where the terms are larger than what they add up to: the logits behind one
    log-probability, the scores behind a difference, the parts of a gradient. Infinities must be equal; NaN never is.
    """
    found, right = as_array(actual), as_array(expected)
    assert found.shape == right.shape, f"{msg} shapes {found.shape} and {right.shape}"
    size = float(np.abs(right[np.isfinite(right)]).max(initial=0.0)) if scale is None else scale
    with np.errstate(invalid="ignore"):
        error = np.where(found == right, 0.0, np.abs(found - right))
    wrong = ~(error <= rtol * size)
    if wrong.any():
        index = np.unravel_index(int(np.where(np.isnan(error), np.inf, error).argmax()), error.shape)
        raise AssertionError(
            f"{msg} {int(wrong.sum())} of {wrong.size} numbers differ by more than {rtol / EPS:.4g} roundings of "
            f"{size:.4g}: {float(found[index])!r} for {float(right[index])!r} at {tuple(map(int, index))}, "
            f"{error[index] / (EPS * size) if size else np.inf:.4g} roundings"
        )


def assert_gradients_close(
    actual: Mapping[str, Any], expected: Mapping[str, Any], *, rtol: float = 2 * ROUNDING
) -> None:
    """Each gradient by its own largest entry: rounding went in twice, forth and back.

    A gradient that cancels to nothing, as that of the keys' biases, which move all scores of a query alike, is only the
    rounding of terms as large as in other gradients: a 32nd of the largest among all is added to each one's own.
    """
    assert actual.keys() == expected.keys()
    largest = {name: float(np.abs(as_array(gradient)).max(initial=0.0)) for name, gradient in expected.items()}
    for name, gradient in expected.items():
        scale = largest[name] + max(largest.values()) / 32
        assert_float32_close(actual[name], gradient, rtol=rtol, scale=scale, msg=name)
