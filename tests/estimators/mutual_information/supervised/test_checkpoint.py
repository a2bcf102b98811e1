"""The shipped weights: small, of this version, and read back as written."""

from __future__ import annotations

import io

import torch

from infoplane.estimators.mutual_information.supervised.checkpoint import (
    PATH,
    read,
    shipped,
    write,
)
from infoplane.estimators.mutual_information.supervised.estimate import VERSION
from infoplane.estimators.mutual_information.supervised.network import SetToInformation, Sizes


def test_the_shipped_file_is_small_and_of_this_version() -> None:
    assert PATH.stat().st_size <= 5_000_000
    assert shipped().version == VERSION
    assert 3.5 <= shipped().ceiling <= 5.0


def test_the_shipped_file_names_its_splits_and_they_share_no_seed() -> None:
    splits = shipped().metadata["splits"]
    ranges = [range(*splits[name]) for name in ("training", "validation", "seen", "unseen")]
    assert len(ranges[0]) >= 1000
    assert len({seed for seeds in ranges for seed in seeds}) == sum(len(seeds) for seeds in ranges)
    families = shipped().metadata["families"]
    assert not set(families["training"]) & set(families["unseen"])


def test_weights_and_metadata_survive_the_file() -> None:
    with torch.random.fork_rng(devices=[]):
        network = SetToInformation(Sizes(statistics=4))
    file = io.BytesIO()
    write(file, network, Sizes(statistics=4), {"version": 7, "ceiling": 2.5})
    file.seek(0)
    back = read(file)
    assert (back.version, back.ceiling) == (7, 2.5)
    assert not back.network.training
    for name, value in network.state_dict().items():
        assert torch.equal(back.network.state_dict()[name], value.double())
    assert not any(p.requires_grad for p in back.network.parameters())
