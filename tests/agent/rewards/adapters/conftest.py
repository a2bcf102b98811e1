"""A tiny language model and tokenizer made in code, real trainers of TRL, and monitors whose events can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from every_step import EVERY_STEP

from infoplane.agent import Monitor, attach
from infoplane.agent.rewards.hashes import Hasher
from infoplane.wire import decode, from_tensor
from infoplane.wire import infoplane_pb2 as pb

BATCH, STEPS = 4, 3
PROMPTS = [f"count {n}: " for n in "1234567890ab"]
PAIRS = {
    "prompt": PROMPTS,
    "chosen": [f"yes {i}" for i in range(12)],
    "rejected": [f"no, {i}!" for i in range(12)],
}


class Lab:
    """Makes models, tokenizers and trainers; everything is local, small and seeded."""

    batch, steps, prompts, pairs = BATCH, STEPS, PROMPTS, PAIRS

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokenizer = _tokenizer()

    def model(self, kind: str = "LlamaForCausalLM", **more: Any) -> Any:
        """Return a model that was saved and loaded, as trainers load their references themselves."""
        import transformers

        path, made = self.folder / kind, getattr(transformers, kind)
        if not path.exists():
            made(_config(**more)).save_pretrained(path)
        return made.from_pretrained(path)

    def trainer(self, name: str, **more: Any) -> Any:
        """Return a trainer of TRL: `rewards` are its reward functions, the rest goes to its configuration."""
        import trl
        from datasets import Dataset

        functions = {"reward_funcs": more.pop("rewards")} if "rewards" in more else {}
        rows = {"prompt": PROMPTS} if functions else PAIRS
        heads = {"Reward": ("LlamaForSequenceClassification", {"num_labels": 1})}
        kind, shape = heads.get(name, ("LlamaForCausalLM", {}))
        return getattr(trl, f"{name}Trainer")(
            self.model(kind, **shape),
            args=getattr(trl, f"{name}Config")(**self._shared(), **more),
            train_dataset=Dataset.from_dict(rows),
            eval_dataset=Dataset.from_dict({k: v[:BATCH] for k, v in rows.items()}),
            processing_class=self.tokenizer,
            **functions,
        )

    def ids(self, text: str, end: bool = False) -> list[int]:
        """Return the tokens of `text`, with the one that ends a response."""
        found: list[int] = self.tokenizer(text)["input_ids"]
        return [*found, self.tokenizer.eos_token_id] if end else found

    def hash(self, ids: list[int]) -> int:
        """Return the hash of token ids under the default key."""
        return int.from_bytes(Hasher(0).tokens(np.array(ids, np.int64)), "little")

    def _shared(self) -> dict[str, Any]:
        return {
            "output_dir": str(self.folder / "out"),
            "per_device_train_batch_size": BATCH,
            "per_device_eval_batch_size": BATCH,
            "max_steps": STEPS,
            "learning_rate": 1e-2,
            "bf16": False,
            "report_to": [],
            "use_cpu": True,
            "logging_steps": 1,
            "save_strategy": "no",
            "disable_tqdm": True,
            "seed": 7,
        }


def _tokenizer() -> Any:
    """Return one token a byte, and three special ones."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bare = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=bare, **special)


def _config(**more: Any) -> Any:
    from transformers import LlamaConfig

    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    special = {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258}
    return LlamaConfig(
        vocab_size=259, max_position_embeddings=64, **size, **heads, **special, **more
    )


class Watched:
    """A monitor whose events can be read."""

    def __init__(self, model: Any) -> None:
        self.monitor: Monitor = attach(model, config=EVERY_STEP)

    def events(self) -> dict[str, dict[str, Any]]:
        """Close, and return the columns of every stream, joined, with `step` of each event; nothing may be lost."""
        self.monitor.close()
        stats = self.monitor.stats()
        assert not {k: v for k, v in stats.items() if k.startswith("events_dropped") and v}
        return events_of(self.monitor)


def events_of(monitor: Monitor) -> dict[str, dict[str, Any]]:
    """Return the columns of every stream that was sent so far."""
    found: dict[str, list[pb.EventBatch]] = {}
    for message in monitor.messages:
        if message.topic == "infoplane.events":
            batch = decode(message.value, pb.EventBatch)
            found.setdefault(batch.stream, []).append(batch)
    return {stream: _joined(batches) for stream, batches in found.items()}


def _joined(batches: list[pb.EventBatch]) -> dict[str, Any]:
    tables: dict[str, list[Any]] = {"id": [], "step": []}
    for batch in batches:
        ids = from_tensor(batch.table.ids)
        tables["id"].append(ids)
        tables["step"].append(np.full(len(ids), batch.step))
        for column in batch.table.columns:
            tables.setdefault(column.name, []).append(from_tensor(column.values))
    return {name: np.concatenate(parts) for name, parts in tables.items()}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Return what makes models, tokenizers and trainers."""
    pytest.importorskip("trl")
    return Lab(tmp_path)


@pytest.fixture
def watch() -> Iterator[Callable[..., Watched]]:
    """Return what puts a model under a monitor; closes the monitors."""
    made: list[Watched] = []

    def make(model: Any) -> Watched:
        made.append(Watched(model))
        return made[-1]

    yield make
    for watched in made:
        watched.monitor.close()
