"""Inner products: the same by every library, in every shape."""

from __future__ import annotations

import pytest
import torch

from infoplane.estimators.mutual_information import row_products as module
from infoplane.estimators.mutual_information.row_products import full_precision, row_products

SHAPES = [((3, 5), (4, 5)), ((200, 66), (300, 66)), ((1, 1, 200, 66), (1, 1, 300, 66)),
          ((2, 3, 200, 66), (2, 3, 300, 66)), ((2, 0, 66), (2, 300, 66))]  # fmt: skip


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("door", ["as found", "closed"])
def test_equals_float64(
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    dtype: torch.dtype,
    door: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if door == "closed":
        monkeypatch.setattr(module, "_one_dnn", lambda: None)
    generator = torch.Generator().manual_seed(len(shapes[0]))
    left, right = (torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes)
    expected = left.double() @ right.double().mT
    memory = torch.full(expected.shape, torch.nan, dtype=dtype)
    for found in (row_products(left, right), row_products(left, right, out=lambda: memory)):
        assert found.shape == expected.shape
        assert found.is_contiguous()
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)


def test_rows_that_want_gradients_are_taken_as_numbers() -> None:
    left = torch.randn(200, 66, generator=torch.Generator().manual_seed(0), requires_grad=True)
    found = row_products(left, left)
    assert torch.allclose(found, left @ left.mT, atol=1e-4)


def test_a_door_of_another_shape_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        @staticmethod
        def default(left: torch.Tensor, *_: object) -> torch.Tensor:
            return left

    module._one_dnn.cache_clear()
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", Wrong, raising=False)
    try:
        assert module._one_dnn() is None
    finally:
        module._one_dnn.cache_clear()


def test_precision_that_torch_will_not_tell_is_not_full(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise RuntimeError("mixed settings")

    assert full_precision()
    monkeypatch.setattr(torch, "get_float32_matmul_precision", refuse)
    assert not full_precision()
