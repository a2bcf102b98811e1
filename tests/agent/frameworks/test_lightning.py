"""The callback in real trainers of `lightning.pytorch` and `pytorch_lightning`, on the CPU."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from every_step import EVERY_STEP
from torch import nn
from torch.utils.data import DataLoader

from infoplane.wire import decode
from infoplane.wire import infoplane_pb2 as pb

VOCABULARY = 61
PACKAGES = ("lightning.pytorch", "pytorch_lightning")
TAPS = {"embed", "final_norm"} | {f"0{i}/{site}" for i in range(3) for site in ("block", "act")}
MakeModel = Callable[..., nn.Module]

pytestmark = [
    pytest.mark.skipif(find_spec("lightning") is None, reason="needs lightning"),
    pytest.mark.filterwarnings("ignore"),  # of the libraries, which are not ours to mend
]


@pytest.fixture(params=PACKAGES)
def package(request: pytest.FixtureRequest) -> Any:
    return import_module(request.param)


def module_of(package: Any, network: nn.Module, breaks_at: int = -1) -> Any:
    class Training(package.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.network = network
            self.losses: list[float] = []

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.network(ids[:, :-1], ids[:, 1:])

        def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
            if index == breaks_at:
                raise RuntimeError("out of luck")
            loss = self(batch)
            self.losses.append(float(loss))
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch: torch.Tensor, index: int) -> None:
            self.log("validation_loss", self(batch))

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=1e-2)

    return Training()


def fit(package: Any, folder: Path, module: Any, watched: Any, **arguments: Any) -> Any:
    keywords: dict[str, Any] = {"max_steps": 6, "limit_val_batches": 0, "log_every_n_steps": 1}
    path = arguments.pop("ckpt_path", None)
    keywords |= arguments
    trainer = package.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[watched] if watched else [],
        **keywords,
    )
    ids = torch.randint(VOCABULARY, (32, 17), generator=torch.Generator().manual_seed(1))
    trainer.fit(
        module, DataLoader(ids, batch_size=2), DataLoader(ids[:4], batch_size=4), ckpt_path=path
    )
    return trainer


def callback(**keywords: Any) -> Any:
    from infoplane.agent.frameworks.lightning import InfoplaneCallback

    return InfoplaneCallback(config=EVERY_STEP, **keywords)


def records(watched: Any) -> list[pb.Record]:
    return [decode(message.value, pb.Record) for message in watched.monitor.messages]


def sketched(watched: Any) -> dict[int, set[str]]:
    found: dict[int, set[str]] = defaultdict(set)
    for record in records(watched):
        found[record.step] |= {tap.tap for tap in record.sketch.taps}
    # Probes may add to the taps of every model.
    return {step: taps & TAPS for step, taps in found.items() if taps}


def rows_a_step(watched: Any) -> set[int]:
    found = [record.sketch for record in records(watched)]
    return {one.rows_total for one in found if any(tap.tap in TAPS for tap in one.taps)}


def test_every_step_is_sketched_and_training_is_the_same_bit_by_bit(
    package: Any, tmp_path: Path, make_model: MakeModel
) -> None:
    watched = callback()
    trained = []
    for one in (watched, None):
        torch.manual_seed(0)
        trained.append(module_of(package, make_model()))
        fit(package, tmp_path, trained[-1], one)
    assert sketched(watched) == dict.fromkeys(range(6), TAPS)
    assert records(watched)[-1].bye.last_step == 5
    assert trained[0].losses == trained[1].losses
    assert len(set(trained[0].losses)) == 6
    for one, other in zip(*(module.parameters() for module in trained), strict=True):
        assert torch.equal(one, other)


def test_the_loss_and_what_the_module_logs_become_scalars(
    package: Any, tmp_path: Path, make_model: MakeModel
) -> None:
    watched, module = callback(), module_of(package, make_model())
    fit(package, tmp_path, module, watched)
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for record in records(watched):
        for value in record.scalars.values:
            found[value.name][value.step] = value.value
    assert found["loss"] == pytest.approx(dict(enumerate(module.losses)))
    assert found["train_loss"] == pytest.approx(found["loss"])


def test_accumulation_counts_optimizer_steps(
    package: Any, tmp_path: Path, make_model: MakeModel
) -> None:
    watched, module = callback(), module_of(package, make_model())
    fit(package, tmp_path, module, watched, max_steps=4, accumulate_grad_batches=3)
    assert len(module.losses) == 12
    assert set(sketched(watched)) == set(range(4))


def test_validation_in_between_is_not_sampled(
    package: Any, tmp_path: Path, make_model: MakeModel
) -> None:
    watched, module = callback(), module_of(package, make_model())
    fit(package, tmp_path, module, watched, limit_val_batches=1, val_check_interval=1)
    assert set(sketched(watched)) == set(range(6))
    assert rows_a_step(watched) == {2 * 16}  # of a training batch; validation has 4 sequences


def test_a_resumed_training_goes_on_counting(
    package: Any, tmp_path: Path, make_model: MakeModel
) -> None:
    trainer = fit(package, tmp_path, module_of(package, make_model()), callback(), max_steps=4)
    trainer.save_checkpoint(tmp_path / "four.ckpt")
    watched = callback()
    module = module_of(package, make_model())
    fit(package, tmp_path, module, watched, max_steps=7, ckpt_path=tmp_path / "four.ckpt")
    assert set(sketched(watched)) == {4, 5, 6}


def test_an_exception_closes(package: Any, tmp_path: Path, make_model: MakeModel) -> None:
    watched = callback()
    with pytest.raises(RuntimeError, match="out of luck"):
        fit(package, tmp_path, module_of(package, make_model(), breaks_at=3), watched)
    assert set(sketched(watched)) == {0, 1, 2}
    assert records(watched)[-1].bye.last_step == 2


def test_a_module_that_is_its_own_network_is_watched_as_a_whole(tmp_path: Path) -> None:
    package = import_module(PACKAGES[0])

    class Own(package.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(VOCABULARY, 8)
            self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
            self.head = nn.Linear(8, VOCABULARY)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            x = self.embed(ids)
            for block in self.blocks:
                x = block(x)
            return self.head(x)

        def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
            logits = self(batch[:, :-1])
            return nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=1e-2)

    watched = callback()
    fit(package, tmp_path, Own(), watched)
    taps = {"embed", "00/block", "01/block"}
    assert sketched(watched) == dict.fromkeys(range(6), taps)


def test_a_child_can_be_named(tmp_path: Path, make_model: MakeModel) -> None:
    package = import_module(PACKAGES[0])
    module = module_of(package, make_model())
    module.frozen_copy = make_model()
    watched = callback(module="network")
    fit(package, tmp_path, module, watched)
    assert sketched(watched) == dict.fromkeys(range(6), TAPS)
