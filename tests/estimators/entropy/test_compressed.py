from __future__ import annotations

import math

import pytest
import torch

from infoplane.estimators.entropy.compressed import compressed_entropy


def normal(t: int, n: int, spreads: list[float], seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(t, n, len(spreads), generator=generator, dtype=torch.float64)
    return x * torch.tensor(spreads, dtype=torch.float64)


def test_entropy_of_the_leading_columns_of_a_normal(data):
    """Turned in space, so that the components have to be found; the small columns do not count."""
    spreads = [4.0, 3.0, 2.0, 1.0, *[1e-3] * 12]
    x = data.rotated(normal(3, 2000, spreads, 1), 2)
    truth = 2 * math.log(2 * math.pi * math.e) + math.log(4 * 3 * 2)
    for one in compressed_entropy(x, seeds=range(3)):
        assert one.value == pytest.approx(truth, abs=0.15)
        assert one.parameters["retained"] == pytest.approx(1.0, abs=1e-4)
        assert one.band[0] < one.value < one.band[1]


def test_scaling_adds_its_logarithm():
    x = normal(1, 500, [3.0, 2.0, 1.0, 0.5, 0.1], 3)
    (one,), (two,) = (compressed_entropy(z, seeds=[0]) for z in (x, 8 * x))
    assert two.value - one.value == pytest.approx(4 * math.log(8), abs=1e-6)


def test_a_batch_gives_what_its_items_give():
    x = normal(3, 200, [3.0, 2.0, 1.0, 1.0, 0.5], 4)
    together = compressed_entropy(x, seeds=[5, 6, 7])
    alone = [compressed_entropy(x[i : i + 1], seeds=[5 + i])[0] for i in range(3)]
    assert [a.value for a in together] == pytest.approx([a.value for a in alone], abs=1e-9)


@pytest.mark.parametrize(
    ("x", "reasons"),
    [
        (torch.full((1, 100, 8), torch.nan), {"nan"}),
        (torch.ones(1, 100, 8), {"constant"}),
        (torch.randn(1, 3, 8), {"n"}),
        (torch.randn(1, 0, 8), {"n"}),
        (torch.randn(1, 100, 1).expand(1, 100, 8), {"singular"}),
        (torch.randn(1, 4, 8).repeat_interleave(50, 1), {"singular"}),
    ],
)
def test_rows_without_an_entropy_say_why(x: torch.Tensor, reasons: set[str]):
    (one,) = compressed_entropy(x.double(), seeds=[0])
    assert one.undefined in reasons
    assert math.isnan(one.value)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"x, components: expected \(t, n, d\)"):
        compressed_entropy(torch.ones(3, 4), seeds=[0])
