"""Numbers and features: forms, copies, projection and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from infoplane.agent.projection import Projection, projection_matrix
from infoplane.agent.rewards.device import to_host
from infoplane.agent.rewards.errors import EventError
from infoplane.agent.rewards.numbers import hold_features, hold_numbers

PROJECTION = Projection(4, 9)


def features(values: Any, size: int = 2) -> Any:
    return to_host(hold_features("features", values, size, PROJECTION), torch.float32)


@pytest.mark.parametrize(
    "values",
    [
        [0.5, float("nan")],
        (0.5, np.float32("nan")),
        np.array([0.5, np.nan], dtype=np.float16),
        torch.tensor([0.5, float("nan")], dtype=torch.bfloat16, requires_grad=True),
        [torch.tensor(0.5), torch.tensor([float("nan")])],
    ],
)
def test_numbers_become_float64_and_nan_passes(values: Any) -> None:
    found = to_host(hold_numbers("reward", values, 2), torch.float64)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [0.5, np.nan])


def test_booleans_and_integers_are_numbers() -> None:
    for values in ([True, False], [1, 0], torch.tensor([True, False])):
        found = to_host(hold_numbers("reward", values, 2), torch.float64)
        np.testing.assert_array_equal(found, [1.0, 0.0])


@pytest.mark.parametrize(
    "values",
    [
        [1.0],
        [1.0, None],
        ["secret", 1.0],
        [[1.0], [2.0]],
        [[1.0], 2.0],
        torch.ones(2, 1),
        torch.ones(2, dtype=torch.complex64),
        [torch.ones(()), 1.0],
        [torch.ones(2), torch.ones(2)],
        1.0,
        "secret",
        [2**70, 1],
    ],
)
def test_what_are_no_numbers_is_refused_without_quoting_it(values: Any) -> None:
    with pytest.raises(EventError) as caught:
        hold_numbers("reward", values, 2)
    assert "secret" not in str(caught.value)


def test_wide_features_are_projected_and_narrow_ones_pass() -> None:
    wide = torch.arange(12, dtype=torch.float64).reshape(2, 6)
    expected = wide.numpy() @ projection_matrix(6, 4, 9)
    for form in (wide, wide.numpy(), wide.to(torch.bfloat16), wide.requires_grad_()):
        np.testing.assert_allclose(features(form), expected, rtol=1e-6)
    for width in (1, 4):
        narrow = wide.detach()[:, :width]
        np.testing.assert_array_equal(features(narrow), narrow.numpy())
        np.testing.assert_array_equal(features(narrow.numpy()), narrow.numpy())
    assert features(wide).dtype == np.float32


def test_the_projection_is_exact_under_autocast_and_usable_after_inference_mode() -> None:
    projection, wide = (
        Projection(4, 9),
        torch.rand(2, 300, generator=torch.Generator().manual_seed(0)),
    )
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = hold_features("features", wide, 2, projection)
    np.testing.assert_allclose(
        found.numpy(), wide.numpy() @ projection_matrix(300, 4, 9), atol=1e-5
    )
    assert not projection.matrix(300, torch.device("cpu")).is_inference()


def test_copies_do_not_follow_the_caller() -> None:
    tensor, array = torch.ones(2, 3), np.ones((2, 3), dtype=np.float32)
    held = [hold_features("features", v, 2, PROJECTION) for v in (tensor, array)]
    numbers = [hold_numbers("reward", v, 2) for v in (tensor[:, 0], array[:, 0])]
    tensor.zero_()
    array[:] = 0
    assert all(bool((to_host(h, torch.float32) == 1).all()) for h in (*held, *numbers))


def test_read_only_and_reversed_arrays_and_overflows_pass() -> None:
    array = np.arange(6.0).reshape(2, 3)[::-1]
    array.flags.writeable = False
    np.testing.assert_array_equal(features(array), array)
    assert np.isinf(features(np.full((2, 1), 1e300))).all()


@pytest.mark.parametrize(
    "values",
    [
        torch.ones(2),
        torch.ones(3, 4),
        torch.ones(2, 0),
        torch.ones(2, 3, dtype=torch.complex64),
        [[1.0], [2.0]],
        np.array([["secret"], ["b"]]),
    ],
)
def test_what_are_no_features_is_refused(values: Any) -> None:
    with pytest.raises(EventError) as caught:
        features(values)
    assert "secret" not in str(caught.value)
