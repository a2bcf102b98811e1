"""What others do in forward hooks, written anew after their pattern, to be measured beside the agent.

HostCopies   every tapped tensor goes to the host as it is (smdebug's hook)
HostReads    a few statistics of every tapped tensor, each read by `.item()` (Composer's ActivationMonitor)

Both act at every `interval`-th step, on the same modules as the agent's taps. On a CPU a copy "to the host" is a
clone, and `.item()` waits for nothing; on a GPU both also make the host wait for the device.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn


class Rival:
    """Hooks that stay in the model, as theirs do, and act in sampled steps."""

    def __init__(self, modules: list[tuple[str, nn.Module]], interval: int) -> None:
        self.interval = interval
        self.step = 0
        self.kept: dict[str, Any] = {}
        self._handles = [module.register_forward_hook(self._hook(name)) for name, module in modules]

    def look(self, name: str, tensor: torch.Tensor) -> None:
        """Take from `tensor` what is wanted."""
        raise NotImplementedError

    def advance(self) -> None:
        """Begin the next step."""
        self.step += 1
        self.kept.clear()

    def close(self) -> None:
        """Take the hooks out."""
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if self.step % self.interval == 0:
                self.look(name, output.detach())

        return hook


class HostCopies(Rival):
    """Keeps a copy of every tensor in host memory."""

    def look(self, name: str, tensor: torch.Tensor) -> None:
        """Copy it."""
        self.kept[name] = tensor.to("cpu", copy=True)


class HostReads(Rival):
    """Reads mean, norm, skewness, kurtosis and the largest element of every tensor."""

    def look(self, name: str, tensor: torch.Tensor) -> None:
        """Compute and read them one by one."""
        rows = tensor.float().reshape(-1, tensor.shape[-1])
        mean = rows.mean(dim=-1, keepdim=True)
        centred = rows - mean
        variance = centred.square().mean(dim=-1).clamp_min(1e-12)
        self.kept[f"{name}/mean"] = mean.mean().item()
        self.kept[f"{name}/norm"] = rows.norm(dim=-1).mean().item()
        self.kept[f"{name}/skewness"] = (
            (centred.pow(3).mean(dim=-1) / variance.pow(1.5)).mean().item()
        )
        self.kept[f"{name}/kurtosis"] = (
            (centred.pow(4).mean(dim=-1) / variance.square()).mean().item()
        )
        self.kept[f"{name}/max"] = rows.abs().max().item()
        assert math.isfinite(self.kept[f"{name}/norm"])


def tapped(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the modules whose outputs the agent taps: blocks, activations, the final norm, and the embedding."""
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.GELU) or name.rsplit(".", maxsplit=1)[0] == "layers"
    ]
    ends = [
        (name, module) for name, module in model.named_children() if name in {"embed", "final_norm"}
    ]
    return found + ends
