"""`infoplane run` around real launchers: training scripts that know nothing of the agent, two ranks on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from rank_processes import free_port, rank_environment

from infoplane.wire import decode
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.log import read_log

STEPS = 5
LIMIT_S = 200
RUN = "no-change"
CLI = [sys.executable, "-m", "infoplane.cli.main", "run"]

pytestmark = pytest.mark.integration

DEEPSPEED = f"""
import os, sys
import deepspeed, torch
from torch import nn

deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # compiled for a minute otherwise
deepspeed.init_distributed(dist_backend="gloo", verbose=False)
torch.manual_seed(3)
hidden = [nn.Sequential(nn.Linear(16, 16), nn.GELU()) for _ in range(2)]
model = nn.Sequential(nn.Embedding(61, 16), nn.Sequential(*hidden), nn.Linear(16, 61))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
config = {{
    "train_micro_batch_size_per_gpu": 2,
    "zero_optimization": {{"stage": 1}},
    "zero_allow_untested_optimizer": True,
}}
engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
reference, *_ = deepspeed.initialize(model=nn.Linear(2, 2), config={{"train_micro_batch_size_per_gpu": 2}})
for step in range({STEPS}):
    ids = torch.randint(61, (2, 9), generator=torch.Generator().manual_seed(step))
    logits = engine(ids[:, :-1])
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    engine.backward(loss)
    engine.step()
print(f"rank {{torch.distributed.get_rank()}} is done", flush=True)
torch.distributed.barrier()
engine.destroy()
os._exit(0)  # native threads of gloo may abort an orderly exit
"""

TRAINER = f"""
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

shape = {{"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}}
model = LlamaForCausalLM(LlamaConfig(vocab_size=61, **shape))
data = [{{"input_ids": row, "labels": row}} for row in torch.randint(61, (32, 12))]
arguments = TrainingArguments("out", max_steps={STEPS}, use_cpu=True, report_to=[], logging_steps=1)
Trainer(model=model, args=arguments, train_dataset=data).train()
"""

LIGHTNING = f"""
import torch
from torch import nn
import lightning.pytorch as pl

class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        hidden = [nn.Sequential(nn.Linear(8, 8), nn.GELU()) for _ in range(2)]
        self.net = nn.Sequential(nn.Embedding(61, 8), nn.Sequential(*hidden), nn.Linear(8, 61))

    def training_step(self, batch, index):
        return nn.functional.cross_entropy(self.net(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

data = torch.utils.data.DataLoader(torch.randint(61, (32, 9)), batch_size=2)
quiet = {{"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}}
pl.Trainer(max_steps={STEPS}, accelerator="cpu", devices=2, strategy="ddp", **quiet).fit(Module(), data)
"""

# Stands for pdsh and ssh: starts what the launcher says on every host, each with an environment of its own.
PDSH = """#!/bin/sh
while [ "$1" != "-w" ]; do shift; done
hosts=$(echo "$2" | tr , ' '); shift 2
node=0; code=0; pids=
for host in $hosts; do
  env -i PATH="$PATH" HOME="$HOME" DS_ACCELERATOR=cpu OMP_NUM_THREADS=1 \\
    sh -c "$(echo "$*" | sed "s/%n/$node/g")" &
  pids="$pids $!"; node=$((node + 1))
done
for pid in $pids; do wait $pid || code=$?; done
exit $code
"""


def run(
    folder: Path, *command: str, flags: tuple[str, ...] = (), **own: str
) -> subprocess.CompletedProcess[str]:
    """Run `command` in `folder` under `infoplane run`, writing to a file for each rank."""
    settings = [
        *("--run", RUN, "--transport", "file"),
        *("--set", f"file.path={folder}/{{run}}-{{rank}}.iplog", "--set", "sampling.base_level=0"),
        *("--set", "buffers.slots=16"),
    ]
    return subprocess.run(
        [*CLI, *settings, *flags, "--", *command],
        cwd=folder,
        env=rank_environment(**own),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


def records(path: Path) -> list[pb.Record]:
    return [decode(entry.value, pb.Record) for entry in read_log(path)]


def assert_both_ranks_were_watched(folder: Path, done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr[-3000:]
    assert "nothing was watched" not in done.stderr
    assert sorted(path.name for path in folder.glob("*.iplog")) == [
        f"{RUN}-{rank}.iplog" for rank in range(2)
    ]
    found = [records(folder / f"{RUN}-{rank}.iplog") for rank in range(2)]
    for rank, own in enumerate(found):
        assert {(r.run, r.sender.index, r.sender.count) for r in own} == {(RUN, rank, 2)}
        for body in ("sketch", "scalars"):
            assert {r.step for r in own if r.WhichOneof("body") == body} == set(range(STEPS))
        assert own[-1].WhichOneof("body") == "bye"
    assert len({r.attempt for own in found for r in own}) == 1


@pytest.fixture
def script(tmp_path: Path, require: Any) -> str:
    require("deepspeed", find_spec("deepspeed") is not None, "DeepSpeed is not installed")
    (tmp_path / "train.py").write_text(DEEPSPEED)
    return "train.py"


def test_torchrun_with_an_unmodified_script(tmp_path: Path, script: str) -> None:
    done = run(tmp_path, "torchrun", "--standalone", "--nproc_per_node", "2", script)
    assert_both_ranks_were_watched(tmp_path, done)


def test_the_deepspeed_launcher_on_one_host(tmp_path: Path, script: str) -> None:
    launcher = ("deepspeed", "--num_gpus", "2", "--master_port", str(free_port()))
    assert_both_ranks_were_watched(tmp_path, run(tmp_path, *launcher, script))


@pytest.fixture
def hosts(tmp_path: Path) -> tuple[str, ...]:
    """Return a DeepSpeed launcher for two hosts: the real one; only what reaches the hosts is a stand-in."""
    (tmp_path / "hosts").write_text("one slots=1\ntwo slots=1\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pdsh").write_text(PDSH)
    (tmp_path / "bin" / "pdsh").chmod(0o755)
    where = ("--master_addr", "127.0.0.1", "--master_port", str(free_port()))
    return ("deepspeed", "--hostfile", "hosts", "--no_ssh_check", *where)


def with_stand_in(folder: Path) -> dict[str, str]:
    return {"PATH": f"{folder / 'bin'}:{rank_environment()['PATH']}", "HOME": str(folder)}


def test_the_wrapper_takes_the_settings_to_other_hosts(
    tmp_path: Path, script: str, hosts: tuple[str, ...]
) -> None:
    flags = ("--set", r"taps.block=0|1|blocks\.\d+$")  # what a remote shell could take apart
    done = run(tmp_path, *hosts, script, flags=flags, **with_stand_in(tmp_path))
    assert_both_ranks_were_watched(tmp_path, done)


def test_the_dry_run_makes_a_file_that_the_launcher_takes_to_other_hosts(
    tmp_path: Path, script: str, hosts: tuple[str, ...]
) -> None:
    dry = run(tmp_path, flags=("--dry-run",))
    (tmp_path / ".deepspeed_env").write_text(dry.stdout)
    own = rank_environment(**with_stand_in(tmp_path))
    done = subprocess.run(
        [*hosts, script], cwd=tmp_path, env=own, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert_both_ranks_were_watched(tmp_path, done)


def test_a_hugging_face_trainer_gets_the_callback(tmp_path: Path) -> None:
    if find_spec("transformers") is None:
        pytest.skip("needs transformers")
    (tmp_path / "train.py").write_text(TRAINER)
    done = run(tmp_path, sys.executable, "train.py")
    assert done.returncode == 0, done.stderr[-3000:]
    found = records(tmp_path / f"{RUN}-0.iplog")
    assert {r.step for r in found if r.WhichOneof("body") == "sketch"} == set(range(STEPS))
    assert "loss" in {value.name for r in found for value in r.scalars.values}
    assert found[-1].WhichOneof("body") == "bye"


def test_a_lightning_trainer_and_the_rank_that_it_starts_get_the_callback(tmp_path: Path) -> None:
    if find_spec("lightning") is None:
        pytest.skip("needs lightning")
    (tmp_path / "train.py").write_text(LIGHTNING)
    assert_both_ranks_were_watched(tmp_path, run(tmp_path, sys.executable, "train.py"))


def test_a_loop_that_cannot_be_watched_says_so_and_trains(tmp_path: Path) -> None:
    done = run(tmp_path, sys.executable, "-c", "import torch; print(torch.ones(2).sum().item())")
    assert (done.returncode, done.stdout) == (0, "2.0\n")
    assert "nothing was watched" in done.stderr


def test_a_broken_hook_never_fails_the_training(tmp_path: Path) -> None:
    """A module that calls itself deepspeed and has nothing of it."""
    (tmp_path / "deepspeed.py").write_text("name = 'another one'\n")
    code = "import deepspeed; print(deepspeed.name)"
    done = run(tmp_path, sys.executable, "-c", code)
    assert (done.returncode, done.stdout) == (0, "another one\n")
    assert "deepspeed is not watched" in done.stderr


def test_a_rank_that_is_killed_ends_as_without_us(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    launcher = ("torchrun", "--standalone", "--nproc_per_node", "2", "train.py")
    bare = subprocess.run(
        launcher, cwd=tmp_path, env=rank_environment(), capture_output=True, timeout=LIMIT_S
    )
    assert run(tmp_path, *launcher).returncode == bare.returncode != 0
    assert os.listdir(tmp_path) == ["train.py"]
