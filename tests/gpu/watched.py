"""Models that the tests of the GPU lane train, on either device, and what the agent sent about them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from google.protobuf.message import Message

from infoplane.agent import attach
from infoplane.wire import decode, from_tensor
from infoplane.wire import infoplane_pb2 as pb

VOCABULARY, BATCH, LENGTH = 83, 4, 160
# What differs between two runs of the same training.
OWN = {"time_ms", "clock_ms", "attempt", "seq"}


def llama(implementation: str = "sdpa", **changes: Any) -> Any:
    """Return a small Llama with sharp attention, from a configuration alone."""
    transformers = pytest.importorskip("transformers")
    sizes = {
        "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
    }  # fmt: skip
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**(sizes | changes))
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation=implementation
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "embed" not in name:
                parameter.mul_(4)
    return model.train()


def watch(model: Any, **settings: Any) -> Any:
    """Attach with every probe on and every second step sampled."""
    fixed = {"transport": "memory", "sampling.base_level": 1, "governor.enabled": False}
    return attach(model, config={**fixed, "run": "gpu", "profile": "deep", **settings})


def batches(steps: int, device: torch.device, length: int = LENGTH) -> list[torch.Tensor]:
    data = torch.Generator().manual_seed(3)
    shape = (BATCH, length)
    return [torch.randint(0, VOCABULARY, shape, generator=data).to(device) for _ in range(steps)]


@contextmanager
def never_waiting() -> Iterator[None]:
    """Let torch raise where anything in this process waits for the device."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def train(
    model: Any,
    monitor: Any,
    ids: list[torch.Tensor],
    *,
    warm: int | None = None,
    dtype: torch.dtype | None = None,
) -> list[float]:
    """Return the losses, read only at the end; after `warm` steps anything that waits for the device raises."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    losses = []
    torch.manual_seed(5)
    for step, batch in enumerate(ids):
        with never_waiting() if warm is not None and step >= warm else nullcontext():
            with torch.autocast(batch.device.type, dtype=dtype, enabled=dtype is not None):
                loss = model(input_ids=batch, labels=batch).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
            if monitor is not None:
                monitor.log(loss=losses[-1])
                monitor.step()
    return [loss.item() for loss in losses]


def records_of(monitor: Any) -> list[pb.Record]:
    """Close, and return every record."""
    monitor.close()
    return [decode(message.value, pb.Record) for message in monitor.messages]


def faults_of(monitor: Any) -> dict[str, float]:
    """Return the agent's own counts of errors and drops that are not zero."""
    return {n: v for n, v in monitor.stats().items() if ("error" in n or "dropped" in n) and v}


def values(message: Message, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a message with its path; tensors as arrays, rows as they read back."""
    if isinstance(message, pb.Tensor):
        yield path, from_tensor(message)
        return
    if isinstance(message, pb.Rows) and message.scaled.data:
        scaled = from_tensor(message.scaled).astype(np.float64)
        yield f"{path}.rows", scaled * from_tensor(message.scale)[:, None]
    for field, value in message.ListFields():
        at = f"{path}.{field.name}"
        if field.name in OWN or (isinstance(message, pb.Rows) and field.name == "scaled"):
            continue
        for index, one in enumerate(value if field.is_repeated else [value]):
            name = getattr(one, "name", "") or getattr(one, "tap", "") or str(index)
            if isinstance(one, Message):
                yield from values(one, f"{at}[{name}]")
            else:
                yield f"{at}[{index}]", one
