"""Hugging Face Trainer and Accelerate over DeepSpeed ZeRO-2 on two gloo ranks under torchrun.

Two micro-batches a step, evaluation in between. This file is the worker too: `torchrun ... test_trainer_ranks.py
FOLDER CASE...`, where a case is `plain` (no callback in the script), `callback` or `accelerate`.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from rank_processes import rank_environment

from infoplane.wire import decode
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.log import read_log

STEPS = 6
RANKS = 2
LIMIT_S = 250
RUN = "trainer"
TAPS = {"embed", "final_norm", "00/block", "00/act", "01/block", "01/act"}

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(find_spec("transformers") is None, reason="needs transformers"),
]


@pytest.fixture(autouse=True)
def _deepspeed(require: Any) -> None:
    require("deepspeed", find_spec("deepspeed") is not None, "DeepSpeed is not installed")


def run_ranks(folder: Path, *cases: str, wrapper: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Run the cases on both ranks, one after the other, and return what each rank wrote."""
    launcher = ("torchrun", "--standalone", "--nproc_per_node", str(RANKS))
    with (folder / "log").open("wb") as log:
        done = subprocess.run(
            [*wrapper, *launcher, __file__, str(folder), *cases],
            cwd=folder,
            env=rank_environment(),
            stdout=log,
            stderr=log,
            timeout=LIMIT_S,
        )
    said = (folder / "log").read_text()
    assert done.returncode == 0, said[-4000:]
    results = [json.loads((folder / f"result-{rank}.json").read_text()) for rank in range(RANKS)]
    return [{**result, "log": said} for result in results]


def assert_every_step_was_sketched(path: Path, rank: int) -> None:
    found = [decode(entry.value, pb.Record) for entry in read_log(path)]
    sketches = [r for r in found if r.WhichOneof("body") == "sketch"]
    assert {(r.run, r.sender.index, r.sender.count) for r in found} == {(RUN, rank, RANKS)}
    for step in range(STEPS):
        taps = {tap.tap for r in sketches if r.step == step for tap in r.sketch.taps}
        assert taps >= TAPS
    assert {r.step for r in sketches} == set(range(STEPS))
    # Micro-batches of training have 2 sequences, those of evaluation 4.
    rows = {r.sketch.rows_total for r in sketches if any(t.tap in TAPS for t in r.sketch.taps)}
    assert rows == {2 * 12}
    logged = {value.name for r in found for value in r.scalars.values}
    assert {"loss", "eval_loss", "learning_rate"} <= logged
    assert found[-1].bye.last_step == STEPS - 1


def test_the_callback_watches_the_engine_and_changes_nothing(tmp_path: Path) -> None:
    for rank, result in enumerate(run_ranks(tmp_path, "plain", "callback")):
        plain, watched = result["plain"], result["callback"]
        assert watched["trained"] == plain["trained"]
        assert len(set(plain["trained"]["losses"])) == STEPS
        assert (plain["adapter"], watched["adapter"]) == ("", "deepspeed")
        assert_every_step_was_sketched(tmp_path / f"section-{rank}.iplog", rank)


def test_the_wrapper_attaches_to_the_same_engine_once(tmp_path: Path) -> None:
    log = str(tmp_path / "wrapper-{rank}.iplog")
    wrapper = (
        *(sys.executable, "-m", "infoplane.cli.main", "run", "--run", RUN, "--transport", "file"),
        *("--set", f"file.path={log}", "--set", "sampling.base_level=0"),
        *("--set", "buffers.slots=16", "--"),
    )
    for rank, result in enumerate(run_ranks(tmp_path, "plain", wrapper=wrapper)):
        assert result["plain"]["adapter"] == "deepspeed"
        assert "nothing was watched" not in result["log"]
        assert_every_step_was_sketched(tmp_path / f"wrapper-{rank}.iplog", rank)
    assert not list(tmp_path.glob("section-*"))


def test_accelerate_hands_over_its_engine(tmp_path: Path) -> None:
    for rank, result in enumerate(run_ranks(tmp_path, "accelerate")):
        assert result["accelerate"]["adapter"] == "deepspeed"
        found = [decode(e.value, pb.Record) for e in read_log(tmp_path / f"section-{rank}.iplog")]
        assert {r.step for r in found if r.WhichOneof("body") == "sketch"} == set(range(STEPS))
        assert found[-1].bye.last_step == STEPS - 1


# ---------------------------------------------------------------- the worker


def _model() -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=61, num_hidden_layers=2, attention_dropout=0.1, **shape)
    return LlamaForCausalLM(config)


def _trainer(folder: Path, callbacks: list[Any]) -> Any:
    import torch
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(
        output_dir=str(folder / "out"),
        max_steps=STEPS,
        per_device_train_batch_size=2,
        per_device_eval_batch_size=4,
        gradient_accumulation_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        logging_steps=1,
        save_strategy="no",
        use_cpu=True,
        ddp_backend="gloo",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        deepspeed=_deepspeed_config(folder),
    )
    ids = torch.randint(61, (64, 12), generator=torch.Generator().manual_seed(1))
    data = [{"input_ids": row, "labels": row} for row in ids]
    return Trainer(
        model=_model(),
        args=arguments,
        train_dataset=data,
        eval_dataset=data[:8],
        callbacks=callbacks,
    )


def _deepspeed_config(folder: Path) -> dict[str, Any]:
    section = {
        "run": RUN,
        "transport": "file",
        "file": {"path": str(folder / "section-{rank}.iplog")},
        "sampling": {"base_level": 0},
        "buffers": {"slots": 16},
    }
    return {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "zero_optimization": {"stage": 2, "reduce_bucket_size": 10_000},
        "optimizer": {"type": "AdamW", "params": {"lr": "auto", "torch_adam": True}},
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
        "infoplane": section,
    }


def _case(folder: Path, name: str) -> dict[str, Any]:
    from infoplane.agent.frameworks.huggingface import InfoplaneCallback

    added = [InfoplaneCallback()] if name == "callback" else []
    trainer = _trainer(folder, added)
    trainer.train()
    present = [
        one for one in trainer.callback_handler.callbacks if isinstance(one, InfoplaneCallback)
    ]
    session = present[0].monitor._session if present else None
    digest = hashlib.sha256()
    for parameter in trainer.model.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    history = trainer.state.log_history
    losses = [entry["loss"].hex() for entry in history if "loss" in entry]
    return {
        "trained": {"losses": losses, "parameters": digest.hexdigest()},
        "adapter": session.parts.adapter.name if session else "",
    }


def _accelerate(folder: Path) -> dict[str, Any]:
    import torch
    from accelerate import Accelerator, DeepSpeedPlugin

    from infoplane.agent.frameworks.accelerate import attach_to

    config = {**_deepspeed_config(folder), "train_micro_batch_size_per_gpu": 2}
    config |= {"gradient_accumulation_steps": 2, "optimizer": None}
    plugin = DeepSpeedPlugin(hf_ds_config={k: v for k, v in config.items() if v is not None})
    accelerator = Accelerator(deepspeed_plugin=plugin)
    model = _model()
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=1e-2))
    monitor = attach_to(accelerator, model, optimizer)
    for _ in range(2 * STEPS):
        ids = torch.randint(61, (2, 12))
        with accelerator.accumulate(model):
            accelerator.backward(model(input_ids=ids, labels=ids).loss)
            optimizer.step()
            optimizer.zero_grad()
    monitor.close()
    assert monitor._session is not None
    return {"adapter": monitor._session.parts.adapter.name}


def _work(folder: Path, cases: list[str]) -> None:
    import deepspeed.ops
    import torch.distributed as dist

    # It would be compiled, and serves inference only.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    result = {n: _accelerate(folder) if n == "accelerate" else _case(folder, n) for n in cases}
    (folder / f"result-{os.environ['RANK']}.json").write_text(json.dumps(result))
    dist.barrier()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # native threads of gloo may abort an orderly exit


if __name__ == "__main__":
    _work(Path(sys.argv[1]), sys.argv[2:])
