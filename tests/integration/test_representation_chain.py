"""Every metric of representations: from a training that the agent watches to the results, and from arrays."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from infoplane.agent import attach
from infoplane.cli.offline import OfflineEstimate
from infoplane.collector.assemble.machine import assemble_stage
from infoplane.collector.drivers.replay import replay
from infoplane.collector.estimate.compute import EstimateSettings
from infoplane.collector.estimate.machine import estimate_stage
from infoplane.collector.metrics import METRICS
from infoplane.collector.metrics.representation_metrics import REPRESENTATION_METRICS
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.log import read_log
from infoplane.wire.topics import RESULTS

WINDOWS, WIDTH, VOCABULARY = 8, 2, 48
ON = frozenset(m.name for m in METRICS if any(s.tier == "opt" for s in m.sources))
# What a window says in `undefined` where it is right: steps need a window before them, integrity five, mixtures two
# checkpoints, and a path within chance has no length to divide by; few tokens make rows of the first layers repeat.
EXPECTED_REASONS = {"history", "n", "checkpoints", "null", "duplicates"}


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.act, self.down = (
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(self.act(self.up(x)))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.places = nn.Embedding(VOCABULARY, 80), nn.Embedding(160, 80)
        self.blocks = nn.ModuleList(Block(80) for _ in range(3))
        self.final_norm, self.lm_head = nn.LayerNorm(80), nn.Linear(80, VOCABULARY)

    def forward(self, ids: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        x = self.embed(ids) + self.places.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = self.lm_head(self.final_norm(x))
        if targets is None:
            return logits
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def train(folder: Path) -> None:
    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    config = {
        "transport": "file", "file.path": str(folder / "run.iplog"), "run": "chain", "profile": "deep",
        "sampling.base_level": 0, "sampling.width": WIDTH, "sampling.rows_per_window": 512,
        "governor.enabled": False, "buffers.slots": 16,
    }  # fmt: skip
    data = torch.Generator().manual_seed(1)
    with attach(model, config=config) as monitor:
        monitor.anchor(torch.randint(0, VOCABULARY, (2, 64), generator=data), every_windows=1)
        for _ in range(WINDOWS * WIDTH):
            start = torch.randint(0, VOCABULARY, (6, 1), generator=data)
            ids = (start + 7 * torch.arange(161)) % VOCABULARY  # the next token can be learned
            loss = model(ids[:, :-1], ids[:, 1:])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss.detach(), eval_loss=loss.detach() + 0.1)
            monitor.step()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[pb.Result]]:
    folder = tmp_path_factory.mktemp("chain")
    train(folder)
    settings = EstimateSettings(METRICS, on=ON)
    stages = [assemble_stage(), estimate_stage(settings)]
    found: dict[str, list[pb.Result]] = defaultdict(list)
    for emission in replay(list(read_log(folder)), stages):
        if emission.topic is RESULTS:
            found[emission.message.metric].append(emission.message)
    return found


@pytest.mark.parametrize("metric", REPRESENTATION_METRICS, ids=lambda metric: metric.name)
def test_a_training_gives_every_metric(results: dict[str, list[pb.Result]], metric: Any) -> None:
    found = results[metric.name]
    defined = [one for one in found if not one.undefined]
    assert defined, {one.undefined for one in found}
    assert {one.undefined for one in found} <= {"", *EXPECTED_REASONS}
    for one in defined:
        assert math.isfinite(one.value)
        assert one.unit == metric.unit
        assert one.n > 0
        assert one.estimator
        assert {label.name for label in one.labels} == set(metric.labels)


def test_second_opinions_stand_beside_the_default(results: dict[str, list[pb.Result]]) -> None:
    by_estimator: dict[str, set[str]] = defaultdict(set)
    for one in results["mutual_information_nats"]:
        labels = {label.name: label.value for label in one.labels}
        by_estimator[labels["estimator"]].add(one.undefined)
    assert {"heldout_ksg", "gaussian", "compressed_knn", "supervised"} <= by_estimator.keys()
    # The trained estimator refuses pairs that are wider than what it has seen.
    assert by_estimator["supervised"] <= {"", "shape"}
    assert "" in by_estimator["compressed_knn"]


def test_what_was_fixed_by_the_first_window_stays(results: dict[str, list[pb.Result]]) -> None:
    fixed = defaultdict(set)
    for one in results["diffusion_spectral_entropy_bits"]:
        labels = tuple(label.value for label in one.labels)
        parameters = {p.name: p.value for p in one.parameters}
        if not one.undefined:
            fixed[labels].add((parameters["bandwidth"], one.n))
    assert fixed
    assert all(len(values) == 1 for values in fixed.values())


def test_code_length_adds_up(results: dict[str, list[pb.Result]]) -> None:
    lengths = [
        one.value for one in sorted(results["prequential_code_length_nats"], key=lambda r: r.window)
    ]
    surprisal = {one.window: one.value * one.n for one in results["token_surprisal_nats"]}
    assert lengths == pytest.approx(np.cumsum([surprisal[w] for w in sorted(surprisal)]), rel=1e-6)


OFFLINE = [m for m in REPRESENTATION_METRICS if any(s.need.arrays for s in m.sources)]


@pytest.mark.parametrize("metric", OFFLINE, ids=lambda metric: metric.name)
def test_the_offline_door_opens(tmp_path: Path, metric: Any) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(256, 8)).astype(np.float32)
    log_probs = -generator.exponential(size=(3, 256)) if "checkpoint" in metric.name else None
    everything = {
        "x": -np.abs(x[:, 0]) if metric.name.startswith("prequential") else x,
        "y": x + generator.normal(size=x.shape).astype(np.float32),
        "labels": generator.integers(0, 4, 256),
        "runs": generator.normal(size=(2, 128, 8)),
        "widths": np.array([4, 4]),
        "tap": np.array([1]),
        "inputs": x,
        "function": np.array([2]),
        "log_probs": log_probs,
    }
    wanted = max((s.need.arrays for s in metric.sources), key=len)
    path = tmp_path / "arrays.npz"
    np.savez(path, **{name: everything[name] for name in wanted})
    found = OfflineEstimate(metric, []).of_file(path)
    assert found["unit"] == metric.unit
    assert found["value"] is not None or found["undefined"] in EXPECTED_REASONS
