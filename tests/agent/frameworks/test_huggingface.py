"""The callback in a real Trainer: a tiny random Llama on synthetic tokens, on the CPU."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from every_step import EVERY_STEP

from infoplane.wire import ConfigurationError, decode
from infoplane.wire import infoplane_pb2 as pb

pytestmark = [
    pytest.mark.skipif(find_spec("transformers") is None, reason="needs transformers"),
    pytest.mark.filterwarnings("ignore"),  # of the libraries, which are not ours to mend
]
TAPS = {"embed", "final_norm", "00/block", "00/act", "01/block", "01/act"}


def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=61, num_hidden_layers=2, attention_dropout=0.1, **shape)
    return LlamaForCausalLM(config)


def tokens(count: int = 64) -> list[dict[str, torch.Tensor]]:
    ids = torch.randint(61, (count, 12), generator=torch.Generator().manual_seed(1))
    return [{"input_ids": row, "labels": row} for row in ids]


def letters() -> Any:
    """Return a tokenizer with one token for each of 26 letters and the space."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {letter: i for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz ")}
    words |= {"<pad>": 27, "<end>": 28, "<unknown>": 29}
    made = Tokenizer(models.WordLevel(words, unk_token="<unknown>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<end>", unk_token="<unknown>"
    )


def trainer(folder: Path, *callbacks: Any, model: Any = None, **arguments: Any) -> Any:
    from transformers import Trainer, TrainingArguments

    chosen: dict[str, Any] = {
        "max_steps": 6,
        "per_device_train_batch_size": 2,
        "logging_steps": 1,
        "save_strategy": "no",
        **arguments,
    }
    made = TrainingArguments(
        output_dir=str(folder), use_cpu=True, report_to=[], disable_tqdm=True, **chosen
    )
    data = tokens()
    return Trainer(
        model=model or llama(),
        args=made,
        train_dataset=data,
        eval_dataset=data[:4],
        callbacks=list(callbacks),
    )


def callback(**keywords: Any) -> Any:
    from infoplane.agent.frameworks.huggingface import InfoplaneCallback

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


def bye(watched: Any) -> set[int]:
    return {r.bye.last_step for r in records(watched) if r.WhichOneof("body") == "bye"}


def fingerprint(model: Any) -> str:
    digest = hashlib.sha256()
    for parameter in model.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    return digest.hexdigest()


def losses(trained: Any) -> list[float]:
    return [entry["loss"] for entry in trained.state.log_history if "loss" in entry]


def test_every_step_is_sketched_and_training_is_the_same_bit_by_bit(tmp_path: Path) -> None:
    watched = callback()
    with_it = trainer(tmp_path, watched)
    with_it.train()
    # Made afterwards: a trainer sets the seed when it is made, and there is dropout.
    without = trainer(tmp_path)
    without.train()
    assert sketched(watched) == dict.fromkeys(range(6), TAPS)
    assert bye(watched) == {5}
    assert losses(with_it) == losses(without)
    assert len(set(losses(with_it))) == 6
    assert fingerprint(with_it.model) == fingerprint(without.model)
    assert not with_it.model._forward_pre_hooks


def test_what_the_trainer_logs_becomes_scalars_of_its_step(tmp_path: Path) -> None:
    watched = callback()
    trained = trainer(tmp_path, watched)
    trained.train()
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for record in records(watched):
        for value in record.scalars.values:
            found[value.name][value.step] = value.value
    assert {"loss", "learning_rate", "grad_norm"} <= set(found)
    # What is logged after the last sampled step has no record to travel with.
    assert found["loss"] == pytest.approx(dict(enumerate(losses(trained)[:-1])))


def test_accumulation_counts_optimizer_steps_and_sketches_the_first_micro_batch(
    tmp_path: Path,
) -> None:
    watched = callback()
    trained = trainer(tmp_path, watched, gradient_accumulation_steps=3, max_steps=4)
    trained.train()
    assert set(sketched(watched)) == set(range(4))
    assert rows_a_step(watched) == {2 * 12}


def test_evaluation_in_between_is_not_sampled(tmp_path: Path) -> None:
    watched = callback()
    trained = trainer(tmp_path, watched, eval_strategy="steps", eval_steps=1, eval_on_start=True)
    trained.train()
    assert sketched(watched) == dict.fromkeys(range(6), TAPS)
    assert rows_a_step(watched) == {2 * 12}  # of a training batch; evaluation has 4 sequences


def test_a_resumed_training_goes_on_counting(tmp_path: Path) -> None:
    first, second = callback(), callback()
    saving = {"save_strategy": "steps", "save_steps": 4}
    trainer(tmp_path, first, **saving).train()
    resumed = trainer(tmp_path, second, max_steps=8, **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert set(sketched(first)) == set(range(6))
    assert set(sketched(second)) == {4, 5, 6, 7}
    assert second.monitor.attempt > first.monitor.attempt


def test_an_exception_leaves_a_trainer_that_can_train_again(tmp_path: Path) -> None:
    from transformers import TrainerCallback

    class Breaks(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 3:
                raise RuntimeError("out of luck")

    watched = callback()
    broken = trainer(tmp_path, watched, Breaks())
    with pytest.raises(RuntimeError, match="out of luck"):
        broken.train()
    interrupted = watched.monitor
    broken.remove_callback(Breaks)
    broken.train()
    assert [decode(m.value, pb.Record).WhichOneof("body") for m in interrupted.messages][
        -1
    ] == "bye"
    assert set(sketched(watched)) == set(range(6))


def test_two_callbacks_count_once(tmp_path: Path) -> None:
    first, second = callback(), callback()
    trainer(tmp_path, first, second).train()
    assert second.monitor is first.monitor
    assert set(sketched(first)) == set(range(6))


@pytest.mark.skipif(find_spec("trl") is None, reason="needs trl")
def test_grpo_samples_the_training_forward_and_not_the_generation(tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    watched = callback()
    arguments = GRPOConfig(
        output_dir=str(tmp_path),
        max_steps=3,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=6,
        use_cpu=True,
        bf16=False,
        report_to=[],
        disable_tqdm=True,
    )
    GRPOTrainer(
        model=llama(),
        reward_funcs=lambda completions, **_: [float(len(set(text))) for text in completions],
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": ["abc def"] * 8}),
        processing_class=letters(),
        callbacks=[watched],
    ).train()
    assert set(sketched(watched)) == set(range(3))
    assert rows_a_step(watched) == {
        4 * (7 + 6)
    }  # prompt and completion; generation begins with the prompt


def test_a_wrong_setting_raises_before_the_first_step_and_off_is_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from infoplane.agent.frameworks.huggingface import InfoplaneCallback

    with pytest.raises(ConfigurationError, match="transport = 'pigeon'"):
        trainer(tmp_path, InfoplaneCallback(transport="pigeon")).train()
    monkeypatch.setenv("INFOPLANE_ENABLED", "0")
    watched = InfoplaneCallback()
    trainer(tmp_path, watched).train()
    assert not watched.monitor.enabled


def test_a_signed_stop_and_checkpoint_reach_the_trainer() -> None:
    from transformers import TrainerControl

    class Stopping:
        should_stop = True

        def step(self) -> None:
            """Do nothing."""

    watched, control = callback(), TrainerControl()
    watched.monitor = Stopping()
    watched._save(3)
    watched.on_step_end(None, None, control)
    assert (control.should_training_stop, control.should_save) == (True, True)
    control.should_save = False
    watched.on_step_end(None, None, control)
    assert control.should_save is False
