"""A Hugging Face Trainer, watched: one callback.

python examples/huggingface_trainer.py
"""

from __future__ import annotations

import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from infoplane.agent.frameworks.huggingface import InfoplaneCallback


def main(steps: int = 256) -> None:
    """Train a tiny random Llama on periodic tokens; with the default level, 128 steps make a window."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
    )
    starts = torch.randint(64, (1024, 1))
    rows = (starts + torch.arange(32) * 7) % 64
    trainer = Trainer(
        model=LlamaForCausalLM(config),
        args=TrainingArguments(
            "trainer-example", max_steps=steps, logging_steps=8, save_strategy="no", report_to=[]
        ),
        train_dataset=[{"input_ids": row, "labels": row} for row in rows],
        callbacks=[InfoplaneCallback(run="trainer-example")],
    )
    trainer.train()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
