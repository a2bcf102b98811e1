"""What runs on a CUDA device only: `make gpu`. Elsewhere every test here is skipped, loudly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch


@pytest.fixture(scope="session")
def cuda(require: Callable[[str, bool, str], None]) -> torch.device:
    """Return the device."""
    require("cuda", torch.cuda.is_available(), "no CUDA device")
    return torch.device("cuda")
