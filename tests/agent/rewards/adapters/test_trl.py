"""TRL: real trainers on the CPU, a few steps each; what they know arrives, and they do not notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from infoplane.agent import Monitor
from infoplane.agent.rewards.adapters.trl import observe_trainer

pytestmark = pytest.mark.filterwarnings("ignore")
Make = Callable[..., Any]


class Judge:
    """A reward function that remembers what it was asked: length of the text, modulo 7."""

    __name__ = "judge"

    def __init__(self) -> None:
        self.rewards: list[float] = []
        self.prompts: list[str] = []
        self.ids: list[list[int]] = []

    def __call__(
        self, prompts: list[str], completions: list[str], completion_ids: Any, **_: Any
    ) -> list[float]:
        found = [float(len(text) % 7) for text in completions]
        self.rewards += found
        self.prompts += prompts
        self.ids += [list(ids) for ids in completion_ids]
        return found


def picky(completions: list[str], **_: Any) -> list[float | None]:
    return [0.5 if i % 2 else None for i in range(len(completions))]


GROUPS = {"num_generations": 2, "max_completion_length": 8}


def trained(lab: Any, watch: Make, name: str, **more: Any) -> tuple[Any, dict[str, dict[str, Any]]]:
    trainer = lab.trainer(name, **more)
    watched = watch(trainer.model)
    observe_trainer(trainer, watched.monitor)
    trainer.train()
    return trainer, watched.events()


def logged(trainer: Any, name: str) -> list[float]:
    return [row[name] for row in trainer.state.log_history if name in row]


def log_probs(lab: Any, prompt: str, ids: list[int]) -> float:
    """Return what the untrained model gives the tokens after the prompt."""
    start = lab.ids(prompt)
    with torch.no_grad():
        logits = lab.model()(torch.tensor([start + ids])).logits[0]
    rows = torch.log_softmax(logits.float(), -1)[len(start) - 1 : -1]
    return float(rows.gather(1, torch.tensor(ids)[:, None]).sum())


def test_grpo_tells_every_response_with_the_reward_that_the_function_gave(
    lab: Any, watch: Make
) -> None:
    judge = Judge()
    trainer, events = trained(lab, watch, "GRPO", rewards=judge, **GROUPS)
    rollouts = events["rollouts"]
    assert len(judge.rewards) == lab.batch * lab.steps == len(set(rollouts["id"].tolist()))
    assert rollouts["step"].tolist() == np.repeat(range(lab.steps), lab.batch).tolist()
    assert rollouts["reward"].tolist() == judge.rewards
    assert rollouts["prompt"].tolist() == [lab.hash(lab.ids(text)) for text in judge.prompts]
    assert rollouts["response"].tolist() == [lab.hash(ids) for ids in judge.ids]
    assert rollouts["tokens"].tolist() == [len(ids) for ids in judge.ids]
    assert logged(trainer, "reward") == pytest.approx(
        rollouts["reward"].reshape(lab.steps, -1).mean(1).tolist()
    )
    # One function: its scores are the rewards.
    assert set(events) == {"rollouts", "rollouts.loss"}


def test_grpo_tells_the_log_probs_and_entropies_of_each_pass_of_the_loss(
    lab: Any, watch: Make
) -> None:
    judge = Judge()
    trainer, events = trained(
        lab, watch, "GRPO", rewards=judge, beta=0.1, gradient_accumulation_steps=2, **GROUPS
    )
    rollouts, loss = events["rollouts"], events["rollouts.loss"]
    count = 2 * lab.batch * lab.steps
    assert len(set(loss["id"].tolist())) == len(loss["id"]) == count == len(judge.ids)
    asked = zip(judge.prompts, judge.ids, strict=True)
    known = dict(zip(rollouts["response"].tolist(), asked, strict=True))
    first = loss["step"] == 0
    expected = [log_probs(lab, *known[response]) for response in loss["response"][first].tolist()]
    np.testing.assert_allclose(loss["log_prob"][first], expected, rtol=1e-5)
    np.testing.assert_allclose(loss["reference_log_prob"][first], expected, rtol=1e-5)
    assert (loss["log_prob"][~first] != loss["reference_log_prob"][~first]).any()
    for step, entropy in enumerate(logged(trainer, "entropy")):
        rows = loss["step"] == step
        mean = np.average(loss["entropy"][rows], weights=loss["tokens"][rows])
        assert mean == pytest.approx(entropy, rel=1e-3)
    for step in range(lab.steps):
        parts = [np.sort(part["advantage"][part["step"] == step]) for part in (rollouts, loss)]
        np.testing.assert_allclose(*parts)


def test_grpo_tells_the_sampler_s_log_probs_where_it_computes_them(lab: Any, watch: Make) -> None:
    judge = Judge()
    _, events = trained(lab, watch, "GRPO", rewards=judge, num_iterations=2, **GROUPS)
    rollouts = events["rollouts"]
    # Two passes over each generation.
    assert sorted(set(rollouts["step"].tolist())) == [0, 2]
    assert len(events["rollouts.loss"]["id"]) == lab.batch * lab.steps
    expected = [log_probs(lab, *row) for row in zip(judge.prompts, judge.ids, strict=True)]
    np.testing.assert_allclose(rollouts["log_prob"][: lab.batch], expected[: lab.batch], rtol=1e-5)
    assert "reference_log_prob" not in rollouts


def test_several_reward_functions_have_streams_of_their_own(lab: Any, watch: Make) -> None:
    judge = Judge()
    functions, weights = [judge, picky, picky], [2.0, 1.0, 4.0]
    _, events = trained(lab, watch, "GRPO", rewards=functions, reward_weights=weights, **GROUPS)
    names = {"scores.judge", "scores.picky", "scores.picky.2"}
    assert set(events) == {"rollouts", "rollouts.loss", *names}
    assert events["scores.judge"]["reward"].tolist() == judge.rewards
    half = [np.nan, 0.5] * (len(judge.rewards) // 2)
    np.testing.assert_array_equal(events["scores.picky.2"]["reward"], half)
    expected = 2 * np.array(judge.rewards) + 5 * np.nan_to_num(half)
    np.testing.assert_allclose(events["rollouts"]["reward"], expected)
    for name in names:
        np.testing.assert_array_equal(events[name]["response"], events["rollouts"]["response"])


def test_what_no_function_scores_has_no_reward(lab: Any, watch: Make) -> None:
    _, events = trained(lab, watch, "GRPO", rewards=picky, **GROUPS)
    assert np.isnan(events["rollouts"]["reward"][::2]).all()


def test_rloo_tells_responses_rewards_and_log_probs(lab: Any, watch: Make) -> None:
    judge = Judge()
    trainer, events = trained(lab, watch, "RLOO", rewards=judge, beta=0.1, **GROUPS)
    rollouts = events["rollouts"]
    assert rollouts["reward"].tolist() == judge.rewards
    assert rollouts["response"].tolist() == [lab.hash(ids) for ids in judge.ids]
    expected = [log_probs(lab, *row) for row in zip(judge.prompts, judge.ids, strict=True)]
    np.testing.assert_allclose(rollouts["reference_log_prob"], expected, rtol=1e-5)
    np.testing.assert_allclose(rollouts["log_prob"][: lab.batch], expected[: lab.batch], rtol=1e-5)
    for step, kl in enumerate(logged(trainer, "kl")):
        rows = rollouts["step"] == step
        ratio = (rollouts["log_prob"] - rollouts["reference_log_prob"])[rows].sum()
        assert ratio / rollouts["tokens"][rows].sum() == pytest.approx(kl, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("precomputed", [False, True])
def test_dpo_tells_pairs_rewards_and_log_probs(lab: Any, watch: Make, precomputed: bool) -> None:
    trainer, events = trained(lab, watch, "DPO", beta=0.3, precompute_ref_log_probs=precomputed)
    found = events["preferences"]
    assert len(found["id"]) == lab.batch * lab.steps
    texts = lab.pairs
    known = {
        lab.hash(lab.ids(prompt)): [lab.hash(lab.ids(text, end=True)) for text in pair]
        for prompt, *pair in zip(texts["prompt"], texts["chosen"], texts["rejected"], strict=True)
    }
    pairs = zip(found["chosen"].tolist(), found["rejected"].tolist(), strict=True)
    assert dict(zip(found["prompt"].tolist(), map(list, pairs), strict=True)) == known
    by_step = {name: found[name].reshape(lab.steps, -1).mean(1) for name in found if "_" in name}
    for side in ("chosen", "rejected"):
        rewards, sums = by_step[f"reward_{side}"], by_step[f"log_prob_{side}"]
        np.testing.assert_allclose(rewards, logged(trainer, f"rewards/{side}"), atol=1e-5)
        np.testing.assert_allclose(sums, logged(trainer, f"logps/{side}"), rtol=1e-5)
        reference = by_step[f"reference_log_prob_{side}"]
        np.testing.assert_allclose(rewards, 0.3 * (sums - reference), atol=1e-4)
    assert np.abs(by_step["reward_chosen"][1:]).min() > 0.01


def test_the_reward_trainer_tells_pairs_rewards_and_embeddings(lab: Any, watch: Make) -> None:
    trainer, events = trained(lab, watch, "Reward")
    found = events["preferences"]
    rewards = np.stack([found["reward_chosen"], found["reward_rejected"]], 1)
    by_step = rewards.reshape(lab.steps, -1)
    np.testing.assert_allclose(by_step.mean(1), logged(trainer, "mean_reward"), rtol=1e-5)
    np.testing.assert_allclose(by_step.min(1), logged(trainer, "min_reward"), rtol=1e-5)
    margins = (rewards[:, 0] - rewards[:, 1]).reshape(lab.steps, -1).mean(1)
    np.testing.assert_allclose(margins, logged(trainer, "margin"), rtol=1e-4)
    head = lab.model("LlamaForSequenceClassification").score.weight.detach().numpy()[0]
    for side in ("chosen", "rejected"):
        made = found[f"features_{side}"][: lab.batch] @ head
        np.testing.assert_allclose(made, found[f"reward_{side}"][: lab.batch], rtol=1e-4)
        texts = zip(lab.pairs["prompt"], lab.pairs[side], strict=True)
        whole = {lab.hash(lab.ids(prompt + text, end=True)) for prompt, text in texts}
        assert set(found[side].tolist()) == whole
    assert len(set(found["prompt"].tolist())) == 1


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("GRPO", {"rewards": picky, "beta": 0.1, **GROUPS}),
        ("RLOO", {"rewards": picky, **GROUPS}),
        ("DPO", {}),
        ("Reward", {}),
    ],
)
def test_training_is_bit_for_bit_the_same_with_the_adapter(
    lab: Any, watch: Make, name: str, more: dict[str, Any]
) -> None:
    ends = []
    for observes in (True, False):
        trainer = lab.trainer(name, **more)
        watched = watch(trainer.model)
        undo = observe_trainer(trainer, watched.monitor) if observes else lambda: None
        trainer.train()
        assert bool(watched.events()) == observes
        undo()
        flat = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
        ends.append((logged(trainer, "loss"), flat))
    assert ends[0][0] == ends[1][0]
    assert len(ends[0][0]) == lab.steps
    assert torch.equal(ends[0][1], ends[1][1])


@pytest.mark.parametrize("name", ["GRPO", "DPO", "Reward"])
def test_undo_gives_the_trainer_back(lab: Any, watch: Make, name: str) -> None:
    trainer = lab.trainer(name, **({"rewards": picky, **GROUPS} if name == "GRPO" else {}))
    before = set(vars(trainer))
    watched = watch(trainer.model)
    undo = observe_trainer(trainer, watched.monitor)
    assert observe_trainer(trainer, watched.monitor) is undo
    trainer.evaluate()
    undo()
    undo()
    added = set(vars(trainer)) - before
    assert not {attribute for attribute in added if hasattr(type(trainer), attribute)}
    assert not {attribute for attribute in added if "infoplane" in attribute}
    trainer.train()
    found = watched.events()
    assert found
    assert all(stream.endswith(".eval") for stream in found)


def test_a_callback_s_monitor_is_found_once_training_begins(lab: Any, watch: Make) -> None:
    from transformers import TrainerCallback

    class Late(TrainerCallback):  # type: ignore[misc]
        monitor = Monitor()

        def on_train_begin(self, *_: Any, model: Any, **__: Any) -> None:
            self.watched = watch(model)
            self.monitor = self.watched.monitor

    late, trainer = Late(), lab.trainer("DPO")
    trainer.add_callback(late)
    observe_trainer(trainer, late)
    trainer.train()
    assert len(late.watched.events()["preferences"]["id"]) == lab.batch * lab.steps


def test_the_callback_for_the_trainer_is_a_source(lab: Any, watch: Make) -> None:
    from infoplane.agent.frameworks.huggingface import InfoplaneCallback

    callback = InfoplaneCallback(run="test", transport="memory")
    trainer = lab.trainer("GRPO", rewards=Judge(), **GROUPS)
    trainer.add_callback(callback)
    observe_trainer(trainer, callback)
    trainer.train()
    sent = [m for m in callback.monitor.messages if m.topic == "infoplane.events"]
    assert sum(message.events for message in sent) == 2 * lab.batch * lab.steps


def test_what_is_no_trainer_is_left_alone_and_said(caplog: pytest.LogCaptureFixture) -> None:
    class GRPOTrainer:
        """Not TRL's, or of a version that has other methods."""

    for thing in (GRPOTrainer(), object()):
        observe_trainer(thing, Monitor())()
    assert "GRPOTrainer is not observed: AttributeError" in caplog.text
    assert "object is not observed: expected one of" in caplog.text
