"""What runs on a CUDA device only: `make gpu`. Elsewhere every test here is skipped, loudly."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def cuda(require: Callable[[str, bool, str], None]) -> torch.device:
    """Return the device."""
    require("cuda", torch.cuda.is_available(), "no CUDA device")
    return torch.device("cuda")
