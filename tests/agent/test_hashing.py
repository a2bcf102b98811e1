from __future__ import annotations

import numpy as np
import pytest
import torch

from infoplane.agent.hashing import chain, mix, mix_array, mix_tensor, shift_right, signed

# The first outputs of the published splitmix64 generator for seed 0.
GAMMA = 0x9E3779B97F4A7C15
PUBLISHED = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]


def test_mix_gives_the_published_sequence() -> None:
    assert [mix(i * GAMMA) for i in range(4)] == PUBLISHED


def test_the_three_twins_agree_bit_by_bit() -> None:
    values = np.random.default_rng(0).integers(0, 2**64, size=10_000, dtype=np.uint64)
    values[:4] = [0, 1, 2**63, 2**64 - 1]
    by_numpy = mix_array(values)
    by_torch = mix_tensor(torch.from_numpy(values.view(np.int64))).numpy().view(np.uint64)
    assert by_numpy.tolist() == [mix(int(v)) for v in values]
    np.testing.assert_array_equal(by_torch, by_numpy)


@pytest.mark.parametrize("bits", [1, 27, 30, 31, 63])
def test_shift_right_brings_in_zeros(bits: int) -> None:
    value = torch.tensor([-1, -(2**63), 5], dtype=torch.int64)
    expected = [(v & (2**64 - 1)) >> bits for v in value.tolist()]
    assert [v & (2**64 - 1) for v in shift_right(value, bits).tolist()] == expected


def test_signed_is_the_same_bits() -> None:
    for value in (0, 1, 2**63 - 1, 2**63, 2**64 - 1):
        assert signed(value) % 2**64 == value
        assert -(2**63) <= signed(value) < 2**63


def test_chain_depends_on_every_part_and_on_order() -> None:
    hashes = {chain(1, 2, 3), chain(3, 2, 1), chain(1, 2), chain(1, 2, 4), chain(1, 2, 3, 0)}
    assert len(hashes) == 5
