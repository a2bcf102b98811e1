"""One rank of two that share a Llama: `python attention_job.py MODE RANK PORT FOLDER`, MODE tp, vocabulary or sp.

One step is trained under the agent; the records of the units `attention` and `tokens` are written to FOLDER.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch

VOCABULARY, LENGTH, BATCH, RANKS = 62, 48, 2, 2


def llama(*, is_heavy: bool = True) -> Any:
    """Return a Llama of two layers with grouped heads, whose heads look at some keys more than at others."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=LENGTH,
        attn_implementation="sdpa", use_cache=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if is_heavy and parameter.ndim == 2 and "embed" not in name:
                parameter.mul_(8)
    return model.train()


def batch() -> torch.Tensor:
    """Return token ids (BATCH, LENGTH + 1)."""
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, VOCABULARY, (BATCH, LENGTH + 1), generator=generator)


SETTINGS = {
    "transport": "memory", "run": "ranks", "attempt": 1, "sampling.base_level": 0,
    "governor.enabled": False, "tokens.mode": "ids", "exit_timeout_s": 60,
}  # fmt: skip


def run(mode: str, rank: int) -> list[bytes]:
    """Train one step; return the records of both units."""
    import deepspeed

    from infoplane.agent import attach
    from infoplane.wire import decode
    from infoplane.wire import infoplane_pb2 as pb

    model = llama()
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": BATCH,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
    keywords = {}
    if mode == "sp":
        from deepspeed.runtime.sequence_parallel.ulysses_sp import UlyssesSPAttentionHF

        keywords["mpu"] = UlyssesSPAttentionHF.register_with_transformers(
            model_name_or_path=model, core_attn_implementation="sdpa",
            sequence_parallel_size=RANKS, micro_batch_size=BATCH,
        )  # fmt: skip
    else:
        config["tensor_parallel"] = {
            "autotp_size": RANKS, "vocab_parallel_lm_head": mode == "vocabulary"
        }  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config, **keywords)
    monitor = attach(engine, config=SETTINGS)
    ids, targets = batch()[:, :-1], batch()[:, 1:]
    if mode == "sp":
        positions = torch.arange(LENGTH).expand(ids.shape)
        ids, targets, positions = (
            part.chunk(RANKS, dim=1)[rank].contiguous() for part in (ids, targets, positions)
        )
        logits = engine(input_ids=ids, position_ids=positions, shift_labels=targets).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    else:
        loss = engine(input_ids=ids.contiguous(), labels=ids.contiguous()).loss
    engine.backward(loss)
    engine.step()
    monitor.close()
    records = [decode(message.value, pb.Record) for message in monitor.messages]
    return [
        record.SerializeToString() for record in records
        if record.unit in ("attention", "tokens")
        and record.WhichOneof("body") in ("sketch", "tokens")
    ]  # fmt: skip


def main(mode: str, rank: int, port: str, folder: Path) -> None:
    """Run as one of two ranks, and leave without a finalisation that gloo may abort."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(RANKS)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    import deepspeed
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo")
    for place, record in enumerate(run(mode, rank)):
        (folder / f"{rank}-{place}.record").write_bytes(record)
    torch.distributed.barrier()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
