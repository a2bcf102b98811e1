"""The trained weights, and what they were trained on, in one file beside this module.

The file is a plain ``.npz`` without pickled objects: one array per parameter, and the metadata
as text in JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from infoplane.estimators.mutual_information.supervised.network import SetToInformation, Sizes

PATH = Path(__file__).with_name("checkpoint.npz")
_METADATA = "metadata"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A network that is ready to answer, in float64 on the CPU, and its metadata.

    Attributes:
        network: Without gradients.
        metadata: ``version``, ``ceiling`` (largest truth of the training sets, nats),
            ``trained`` and ``unseen`` families, ``splits`` (ranges of seeds), ``commit`` ...
    """

    network: SetToInformation
    metadata: Mapping[str, Any]

    @property
    def version(self) -> int:
        """Version of the estimator that the weights belong to."""
        return int(self.metadata["version"])

    @property
    def ceiling(self) -> float:
        """Largest information that the network was trained on, in nats."""
        return float(self.metadata["ceiling"])


@cache
def shipped() -> Checkpoint:
    """Return the checkpoint of this package, read once."""
    with PATH.open("rb") as file:
        return read(file)


def read(file: BinaryIO) -> Checkpoint:
    """Return the checkpoint in a file that `write` wrote."""
    with np.load(file, allow_pickle=False) as arrays:
        metadata = json.loads(str(arrays[_METADATA]))
        weights = {
            name: torch.from_numpy(arrays[name].astype(np.float64))
            for name in arrays.files
            if name != _METADATA
        }
    network = SetToInformation(Sizes(**metadata["sizes"])).to(torch.float64)
    network.load_state_dict(weights)
    return Checkpoint(network.eval().requires_grad_(False), metadata)


def write(
    file: BinaryIO, network: SetToInformation, sizes: Sizes, metadata: Mapping[str, Any]
) -> None:
    """Write weights in float32 and metadata to a file."""
    arrays: dict[str, Any] = {
        name: value.float().numpy() for name, value in network.state_dict().items()
    }
    widths = {name: getattr(sizes, name) for name in sizes.__slots__}
    text = json.dumps({**metadata, "sizes": widths}, sort_keys=True)
    np.savez_compressed(file, **(arrays | {_METADATA: np.array(text)}))
