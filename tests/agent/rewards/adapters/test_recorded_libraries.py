"""OpenRLHF, veRL and DeepSpeed-Chat: what their objects hold arrives as rollouts.

Each test runs on a recorded object, with exactly the fields of the version that is named, and where the library is
installed on its own class. Without Ray's and vLLM's weight, in an environment of its own:

    pip install --no-deps openrlhf==0.11.2 pylatexenc
    pip install --no-deps verl==0.9.1 tensordict ray orjson pyvers omegaconf antlr4-python3-runtime==4.9.3
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from infoplane.agent.rewards.adapters import deepspeed_chat, openrlhf, verl
from infoplane.agent.rewards.hashes import Hasher

pytestmark = pytest.mark.filterwarnings("ignore")
Make = Callable[..., Any]

PROMPTS = [[11, 12, 13], [14, 15]]
RESPONSES = [[21, 22], [23, 24, 25]]
PAD = 0
RNG = np.random.default_rng(0)

# openrlhf.trainer.ppo_utils.experience.Experience of 0.11.2
EXPERIENCE_FIELDS = (
    "sequences", "attention_mask", "action_mask", "action_log_probs", "base_action_log_probs",
    "rollout_log_probs", "values", "returns", "advantages", "kl", "rewards", "scores",
    "response_length", "truncated", "total_length", "index", "prompts", "labels", "images",
    "mm_train_inputs", "info",
)  # fmt: skip


def hashes(rows: list[list[int]]) -> list[int]:
    return [int.from_bytes(Hasher(0).tokens(np.array(row, np.int64)), "little") for row in rows]


def numbers(mask: torch.Tensor) -> tuple[torch.Tensor, list[float]]:
    """Return numbers of tokens with NaN wherever the mask is 0, and their sums under it."""
    found = torch.from_numpy(RNG.normal(size=mask.shape)).float()
    sums = (found * mask).sum(1).tolist()
    return found.masked_fill(mask == 0, torch.nan), sums


def of_library(require: Any, module: str, name: str) -> Any:
    library = module.split(".")[0]
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        require(library, False, f"{library} cannot be imported: {error}")


def experience(make: Callable[..., Any]) -> tuple[Any, dict[str, list[float]], torch.Tensor]:
    """Return an experience of two responses, padded on the right, what was summed, and its action mask."""
    rows = [p + r for p, r in zip(PROMPTS, RESPONSES, strict=True)]
    width = max(map(len, rows)) + 1
    ids = torch.tensor([row + [PAD] * (width - len(row)) for row in rows])
    attention = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    actions = torch.zeros_like(attention)
    for place, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        actions[place, len(prompt) : len(prompt) + len(response)] = 1
    actions = actions[:, 1:]
    given, sums = {}, {}
    for field, column in (
        ("action_log_probs", "log_prob"),
        ("base_action_log_probs", "reference_log_prob"),
        ("rollout_log_probs", "rollout_log_prob"),
        ("values", "value"),
        ("advantages", "advantage"),
    ):
        given[field], sums[column] = numbers(actions)
    made = make(
        sequences=ids,
        attention_mask=attention,
        action_mask=actions.bool(),
        rewards=torch.tensor([1.0, -2.0]),
        info={"reward": torch.tensor([1.0, -2.0])},
        **given,
    )
    return made, sums, actions


def recorded_experience(**given: Any) -> Any:
    blank: dict[str, Any] = dict.fromkeys(EXPERIENCE_FIELDS)
    lists = {name: [] for name in ("prompts", "labels", "images", "mm_train_inputs")}
    return SimpleNamespace(**{**blank, **lists, **given})


def check(found: dict[str, Any], sums: dict[str, list[float]], counts: list[int]) -> None:
    assert found["tokens"].tolist() == counts
    for column, expected in sums.items():
        is_mean = column in ("value", "advantage")
        wanted = np.array(expected) / (counts if is_mean else 1)
        np.testing.assert_allclose(found[column], wanted, rtol=1e-5, err_msg=column)


@pytest.mark.parametrize("source", ["recorded", "library"])
def test_an_experience_of_openrlhf(source: str, require: Any, watch: Make) -> None:
    make: Any = recorded_experience
    if source == "library":
        make = of_library(require, "openrlhf.trainer.ppo_utils.experience", "Experience")
        assert tuple(make.__dataclass_fields__) == EXPERIENCE_FIELDS
    made, sums, _ = experience(make)
    watched = watch(nn.Identity())
    openrlhf.observe_experience(watched.monitor, made, step=3)
    made.prompts = ["first", "second"]
    openrlhf.observe_experience(watched.monitor, made, step=3, stream="texts")
    events = watched.events()
    for found in events.values():
        assert found["response"].tolist() == hashes(RESPONSES)
        assert found["reward"].tolist() == [1.0, -2.0]
        assert found["step"].tolist() == [3, 3]
        check(found, sums, [2, 3])
    assert events["rollouts"]["prompt"].tolist() == hashes(PROMPTS)
    assert len(set(events["texts"]["prompt"]) - set(events["rollouts"]["prompt"])) == 2


@pytest.mark.parametrize("source", ["recorded", "library"])
def test_nested_columns_of_verl(source: str, require: Any, watch: Make) -> None:
    padded, sums = verl_columns(True)
    scores = padded.pop("token_level_scores")
    columns: dict[str, Any] = {"rm_scores": nested(scores, RESPONSES)}
    for field in verl.FIELDS:
        if field in padded and field != "prompts":
            columns[field] = nested(padded[field], RESPONSES)
    rows = [torch.tensor(row) for row in PROMPTS]
    columns["prompts"] = torch.nested.nested_tensor(rows, layout=torch.jagged)
    data: Any = columns
    if source == "library":
        data = of_library(require, "tensordict", "TensorDict")(columns, batch_size=2)
    watched = watch(nn.Identity())
    verl.observe_batch(watched.monitor, data, step=5)
    found = watched.events()["rollouts"]
    assert found["prompt"].tolist() == hashes(PROMPTS)
    assert found["response"].tolist() == hashes(RESPONSES)
    assert found["reward"].tolist() == [0.0, 1.5]
    check(found, sums, [2, 2])


def nested(padded: torch.Tensor, rows: list[list[int]]) -> torch.Tensor:
    parts = [part[: len(row)] for part, row in zip(padded, rows, strict=True)]
    return torch.nested.nested_tensor(parts, layout=torch.jagged)


@pytest.mark.parametrize("source", ["recorded", "library"])
@pytest.mark.parametrize("has_critic", [True, False])
def test_a_batch_of_verl(source: str, has_critic: bool, require: Any, watch: Make) -> None:
    columns, sums = verl_columns(has_critic)
    if source == "library":
        proto = of_library(require, "verl.protocol", "DataProto")
        data = proto.from_dict(tensors=columns, non_tensors={"uid": np.array(["a", "b"], object)})
    else:
        data = SimpleNamespace(batch=columns)
    watched = watch(nn.Identity())
    verl.observe_batch(watched.monitor, data, step=5)
    found = watched.events()["rollouts"]
    assert found["prompt"].tolist() == hashes(PROMPTS)
    assert found["response"].tolist() == hashes(RESPONSES)
    assert found["reward"].tolist() == [0.0, 1.5]
    assert found["step"].tolist() == [5, 5]
    # The tool's token is content, but not the policy's.
    check(found, sums, [2, 2])
    assert ("value" in found) == has_critic


def verl_columns(has_critic: bool) -> tuple[dict[str, torch.Tensor], dict[str, list[float]]]:
    """Return columns of a DataProto of 0.9.1 after compute_advantage: prompts padded left, responses right."""
    prompts = torch.tensor([[PAD] * (4 - len(row)) + row for row in PROMPTS])
    responses = torch.tensor([row + [PAD] * (4 - len(row)) for row in RESPONSES])
    attention = torch.tensor([[0, 1, 1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1, 1, 0]])
    mask = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0]])
    scores = torch.zeros(2, 4)
    scores[1, 2] = 1.5
    columns = {
        "prompts": prompts,
        "responses": responses,
        "input_ids": torch.cat([prompts, responses], 1),
        "attention_mask": attention,
        "position_ids": attention.cumsum(1),
        "response_mask": mask,
        "token_level_scores": scores,
        "token_level_rewards": scores - 0.1 * mask,
    }
    sums = {}
    for field, column in (
        ("old_log_probs", "log_prob"),
        ("ref_log_prob", "reference_log_prob"),
        ("rollout_log_probs", "rollout_log_prob"),
        ("advantages", "advantage"),
        *((("values", "value"), ("returns", "")) if has_critic else ()),
    ):
        columns[field], found = numbers(mask)
        if column:
            sums[column] = found
    return columns, sums


def test_an_experience_of_deepspeed_chat(watch: Make) -> None:
    # Prompts are padded on the left; the second of three was dropped, as its answer was too short.
    ids = torch.tensor([[11, 12, 13, 21, 22, PAD], [PAD, 14, 15, 23, 24, 25]])
    attention = (ids != PAD).long()
    given, sums = {}, {}
    for field, column in (
        ("logprobs", "log_prob"),
        ("ref_logprobs", "reference_log_prob"),
        ("value", "value"),
    ):
        answer, sums[column] = numbers(attention[:, 3:])
        given[field] = torch.cat([torch.full((2, 2), torch.nan), answer], 1)
    made = {
        "prompts": torch.tensor([[11, 12, 13], [7, 8, 9], [PAD, 14, 15]]),
        "input_ids": ids,
        "attention_mask": attention,
        "rewards": torch.tensor([0.5, 0.25]),
        **given,
    }
    watched = watch(nn.Identity())
    deepspeed_chat.observe_experience(watched.monitor, made)
    found = watched.events()["rollouts"]
    assert found["prompt"].tolist() == hashes(PROMPTS)
    assert found["response"].tolist() == hashes(RESPONSES)
    assert found["reward"].tolist() == [0.5, 0.25]
    check(found, sums, [2, 3])


def test_what_a_library_has_renamed_is_said_once_and_goes_on(
    watch: Make, caplog: pytest.LogCaptureFixture
) -> None:
    watched = watch(nn.Identity())
    for _ in range(2):
        openrlhf.observe_experience(watched.monitor, SimpleNamespace())
        verl.observe_batch(watched.monitor, SimpleNamespace(batch={}))
        verl.observe_batch(watched.monitor, object())
        deepspeed_chat.observe_experience(watched.monitor, {})
    for name in ("OpenRLHF's Experience", "veRL's batch", "DeepSpeed-Chat's experience"):
        assert caplog.text.count(f"{name} is not observed") == 1
    assert watched.events() == {}
