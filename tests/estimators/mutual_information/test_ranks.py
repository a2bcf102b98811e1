"""Normal scores."""

from __future__ import annotations

import torch
from scipy.stats import norm, rankdata

from infoplane.estimators.mutual_information.ranks import JITTER, normal_scores


def test_scores_are_quantiles_of_average_ranks() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 9, (2, 50, 3), generator=generator).double()
    expected = norm.ppf((rankdata(x.numpy(), axis=1) - 0.5) / 50)
    torch.testing.assert_close(normal_scores(x), torch.from_numpy(expected))


def test_constant_columns_become_zero_and_noise_is_small_and_seeded() -> None:
    x = torch.randn(2, 40, 2, generator=torch.Generator().manual_seed(1))
    x[..., 1] = 5.0
    first, second = normal_scores(x, seeds=[3, 4]), normal_scores(x, seeds=[3, 4])
    assert torch.equal(first, second)
    assert torch.equal(first[..., 1], torch.zeros(2, 40, dtype=torch.float64))
    assert 0 < float((first - normal_scores(x)).abs().max()) < 6 * JITTER
