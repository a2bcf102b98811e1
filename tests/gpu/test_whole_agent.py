"""Everything the agent sends says the same on a CPU and on a CUDA device, and costs training no wait."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from watched import batches, faults_of, llama, records_of, train, values, watch

from infoplane.wire import infoplane_pb2 as pb

CPU = torch.device("cpu")
STEPS = 18
BODIES = {"sketch", "tokens", "scalars"}


@pytest.fixture(autouse=True)
def exact_products() -> Any:
    """Let no product be rounded to TF32: the devices are compared."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


def told(records: list[pb.Record]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return what the records say, by unit and step."""
    return {
        (record.unit, record.step, record.WhichOneof("body")): dict(values(record))
        for record in records
        if record.WhichOneof("body") in BODIES
    }


def assert_alike(found: Any, expected: Any, where: str) -> None:
    if not isinstance(expected, np.ndarray):
        if isinstance(expected, float):
            assert found == pytest.approx(expected, rel=1e-3, abs=1e-5), where
        else:
            assert found == expected, where
    elif expected.dtype.kind in "iu":
        # A value at the border of a bucket, or of a rank, may fall on either side.
        off = np.abs(found.astype(np.int64) - expected.astype(np.int64)).sum()
        assert off <= max(4, 2e-3 * np.abs(expected.astype(np.int64)).sum()), where
    else:
        scale = float(np.nanmax(np.abs(expected), initial=0.0))
        np.testing.assert_allclose(
            found, expected, rtol=2e-3, atol=2e-3 * scale + 1e-6, err_msg=where
        )


def test_every_record_says_the_same_on_both(cuda: torch.device) -> None:
    found = []
    for device in (CPU, cuda):
        model = llama().to(device)
        monitor = watch(model)
        monitor.anchor(batches(1, device)[0][:2], every_windows=1)
        train(model, monitor, batches(STEPS, device))
        found.append(told(records_of(monitor)))
        assert not faults_of(monitor)
    on_cpu, on_cuda = found
    assert on_cpu.keys() == on_cuda.keys()
    assert len({unit for unit, _, _ in on_cpu}) > 5
    for record, expected in on_cpu.items():
        assert on_cuda[record].keys() == expected.keys(), record
        for path, value in expected.items():
            assert_alike(on_cuda[record][path], value, f"{record} {path}")


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("publisher", ["thread", "sidecar"])
def test_whole_steps_of_every_probe_never_wait(
    cuda: torch.device, dtype: torch.dtype | None, publisher: str
) -> None:
    model = llama().to(cuda)
    monitor = watch(model, publisher=publisher)
    train(model, monitor, batches(16, cuda), warm=8, dtype=dtype)
    monitor.close()
    assert not faults_of(monitor)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_losses_are_bit_equal_with_every_probe(cuda: torch.device, implementation: str) -> None:
    ids = batches(STEPS, cuda)
    expected = train(llama(implementation, attention_dropout=0.1).to(cuda), None, ids)
    model = llama(implementation, attention_dropout=0.1).to(cuda)
    monitor = watch(model)
    monitor.anchor(ids[0][:2], every_windows=1)  # extra forwards keep the random state
    assert train(model, monitor, ids) == expected
    monitor.close()
    assert not faults_of(monitor)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable:FutureWarning")
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_recomputed_layers_count_once(cuda: torch.device, use_reentrant: bool) -> None:
    ids = batches(STEPS, cuda)
    counts, losses = [], []
    for is_recomputed in (False, True):
        model = llama().to(cuda)
        if is_recomputed:
            model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
        monitor = watch(model)
        losses.append(train(model, monitor, ids))
        counts.append(
            {
                (r.step, tap.tap): tap.moments.n
                for r in records_of(monitor)
                if r.WhichOneof("body") == "sketch"
                for tap in r.sketch.taps
                if tap.HasField("moments")
            }
        )
        assert not faults_of(monitor)
    assert losses[0] == losses[1]
    assert counts[0] == counts[1]
    assert counts[0]


def test_attention_entropy_is_that_of_the_weights(cuda: torch.device) -> None:
    """What eager attention shows of itself, the fused kernel's inputs show too."""
    found = []
    for kind in ("eager", "sdpa"):
        model = llama(kind).to(cuda)
        monitor = watch(model)
        train(model, monitor, batches(1, cuda, 128))
        found.append(
            {
                (tap.tap, summary.name): dict(values(summary))
                for r in records_of(monitor)
                if r.unit == "attention" and r.WhichOneof("body") == "sketch"
                for tap in r.sketch.taps
                for summary in tap.summaries
            }
        )
        assert not faults_of(monitor)
    assert found[0].keys() == found[1].keys()
    assert found[0]
    for name, expected in found[0].items():
        for path, value in expected.items():
            assert_alike(found[1][name][path], value, f"{name} {path}")


@pytest.mark.filterwarnings("ignore:_compile flag on create_block_mask:DeprecationWarning")
def test_flex_attention_compiles_itself_and_probes_step_back(cuda: torch.device) -> None:
    model = llama("flex_attention").to(cuda)
    monitor = watch(model)
    train(model, monitor, batches(STEPS, cuda, 128))
    records = records_of(monitor)
    assert not faults_of(monitor)
    sketched = {r.unit for r in records if r.WhichOneof("body") == "sketch"}
    assert "attention" not in sketched
    assert any(unit.startswith("layers") for unit in sketched)
