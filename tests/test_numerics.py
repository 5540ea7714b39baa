"""What float32 rounding explains passes, whatever its magnitude; a mistake of the formula does not."""

from __future__ import annotations

import numpy as np
import pytest

from numerics import ROUNDING, assert_float32_close


@pytest.mark.parametrize("magnitude", [1e-20, 1e-3, 1.0, 8.0, 1e6])
def test_the_tolerance_follows_the_magnitude(magnitude: float) -> None:
    right = magnitude * np.array([1.0, -0.5, 1e-6])
    assert_float32_close(right + 0.9 * ROUNDING * magnitude, right)
    with pytest.raises(AssertionError, match="roundings"):
        assert_float32_close(right + 1.1 * ROUNDING * magnitude, right)
    with pytest.raises(AssertionError, match=r"1 of 3 numbers .* at \(1,\)"):
        assert_float32_close(right + np.array([0, 2 * ROUNDING * magnitude, 0]), right)


def test_sums_in_two_orders_are_close_by_the_size_of_their_terms() -> None:
    terms = np.random.default_rng(0).normal(0, 100, (2000, 300)).astype(np.float32)
    forth, back = np.float32(0) * terms[:, 0], np.float32(0) * terms[:, 0]
    for k in range(300):
        forth, back = forth + terms[:, k], back + terms[:, -1 - k]
    size = float(np.sqrt((terms.astype(float) ** 2).sum(1)).max())
    assert np.abs(forth - back).max() > 1e-4  # an absolute tolerance of this kind would depend on the order
    assert_float32_close(forth, terms.astype(float).sum(1), scale=size)


def test_what_is_no_number_is_never_close() -> None:
    assert_float32_close([np.inf, -np.inf, 1.0], [np.inf, -np.inf, 1.0])
    assert_float32_close([], [])
    for found, right in ((np.nan, np.nan), (np.inf, 1.0), (1.0, np.inf), (np.inf, -np.inf), (1e-30, 0.0)):
        with pytest.raises(AssertionError):
            assert_float32_close(found, right)
    with pytest.raises(AssertionError, match="shapes"):
        assert_float32_close([1.0], [1.0, 1.0])


def test_tensors_and_numbers_are_taken_as_they_are() -> None:
    torch = pytest.importorskip("torch")
    one = torch.tensor([1.0, 2.0], requires_grad=True)
    assert_float32_close(one * 1, [np.float32(1.0), torch.tensor(2.0)])
    assert_float32_close(3, 3.0000001)
