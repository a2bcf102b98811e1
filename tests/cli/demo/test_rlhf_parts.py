"""The preference demo's criterion, raters, models, plan and report."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

from infoplane.cli.demo.rlhf.criterion import Criterion
from infoplane.cli.demo.rlhf.following import Rollouts, above_group, weights_of
from infoplane.cli.demo.rlhf.models import (
    LENGTH,
    PROMPT,
    RESPONSE,
    WIDTH,
    Likelihood,
    Policy,
    RewardModel,
    copy_of,
    likelihood_of,
    new_policy,
    pooled,
)
from infoplane.cli.demo.rlhf.observation import RlhfObservation
from infoplane.cli.demo.rlhf.options import RlhfOptions, refuse_others
from infoplane.cli.demo.rlhf.plan import RlhfPlan
from infoplane.cli.demo.rlhf.preferring import labels_of
from infoplane.cli.demo.rlhf.prompts import GROUP, Groups, Prompter
from infoplane.cli.demo.rlhf.raters import Judgement, judgements
from infoplane.cli.demo.rlhf.report import GAUGES, report_of, report_rows
from infoplane.cli.demo.rlhf.sampling import next_logits
from infoplane.cli.demo.text import standard_library_text
from infoplane.estimators import Estimate
from infoplane.estimators.rewards.hodge import preference_inconsistency
from infoplane.estimators.state import EdgeMultiset
from infoplane.wire import ConfigurationError
from infoplane.wire import infoplane_pb2 as pb

CRITERION = Criterion.of_text(b"return self.value_of " * 16 + b"rare " * 15)
RESPONSES = [b"return self", b"value_of x", b"re + sel +", b"qqq zzz kk", b"return zzz"]


@pytest.fixture(scope="module")
def text() -> np.ndarray:
    return standard_library_text(1 << 18)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return new_policy(1)


# ------------------------------------------------------------ criterion


@pytest.mark.parametrize(
    ("response", "score"),
    [
        (b"return self", 10 / 11),
        (b"retqqq", 3 / 6),  # "ret" begins "return"
        (b"rare", 1 / 4),  # too rare to count; "r" begins "return"
        (b"eturn", 0.0),  # only beginnings count
        (b"value_of", 1.0),
        (b"    ", 0.0),
        (b"", 0.0),
        (b"returnreturn", 6 / 12),
        (b"\xff\xfeself", 4 / 6),
    ],
)
def test_the_criterion_is_the_share_of_bytes_that_begin_known_words(
    response: bytes, score: float
) -> None:
    assert CRITERION.score(response) == pytest.approx(score)


# ------------------------------------------------------------ raters


def inconsistency(found: list[Judgement]) -> Estimate:
    winners, losers = np.array([(one.winner, one.loser) for one in found], np.uint64).T
    return preference_inconsistency(EdgeMultiset.of_comparisons(winners, losers), seed=1)


def by(kind: str, found: list[Judgement]) -> list[Judgement]:
    return [one for one in found if one.rater.startswith(kind)]


def test_honest_raters_follow_the_criterion_in_turn() -> None:
    found = list(judgements(RESPONSES, CRITERION, with_cyclic=False))
    assert len(found) == 10
    scores = [CRITERION.score(response) for response in RESPONSES]
    assert all(scores[one.winner] >= scores[one.loser] for one in found)
    assert sorted(Counter(one.rater for one in found).values()) == [3, 3, 4]


def test_honest_raters_read_the_floor_of_single_labels() -> None:
    """An order gives 1/9 on a triangle and 1/5 on five responses: single labels have no sizes. No cycle would be 0."""
    three = list(judgements(RESPONSES[:3], CRITERION, with_cyclic=False))
    assert inconsistency(three).value == pytest.approx(1 / 9)
    five = inconsistency(list(judgements(RESPONSES, CRITERION, with_cyclic=False)))
    assert five.value == pytest.approx(1 / 5)
    assert five.null_mean is not None
    assert five.value < five.null_mean


def test_ties_are_broken_the_same_way_every_time() -> None:
    for one, other in ((b"qq", b"zz"), (b"zz", b"qq")):
        (found,) = judgements([one, other], CRITERION, with_cyclic=False)
        assert [one, other][found.winner] == b"zz"


def test_nobody_compares_equal_responses() -> None:
    found = list(judgements([b"a", b"b", b"a", b"a", b"b"], CRITERION, with_cyclic=True))
    assert {frozenset((one.winner, one.loser)) for one in found} == {frozenset((0, 1))}


@pytest.mark.parametrize("count", [3, 5])
def test_cyclic_raters_cannot_be_explained_at_all(count: int) -> None:
    found = by("cyclic", list(judgements(RESPONSES[:count], CRITERION, with_cyclic=True)))
    assert len(found) == count * (count - 1)  # two of them judge every pair
    assert inconsistency(found).value == pytest.approx(1.0)


def test_a_pair_of_cyclic_raters_agrees() -> None:
    found = by("cyclic", list(judgements(RESPONSES, CRITERION, with_cyclic=True)))
    for pair in combinations(range(5), 2):
        votes = [one for one in found if {one.winner, one.loser} == set(pair)]
        assert len({one.winner for one in votes}) == 1
        assert len({one.rater for one in votes}) == 2


def test_together_with_honest_raters_they_lie_above_the_null() -> None:
    """Over many groups, as in a window: a single group of five has a wide null."""
    random = np.random.default_rng(0)
    found = []
    for group in range(64):
        responses = [bytes(random.choice(list(b"returnslfz "), 12).tolist()) for _ in range(5)]
        found += [
            Judgement(5 * group + one.winner, 5 * group + one.loser, one.rater)
            for one in judgements(responses, CRITERION, with_cyclic=True)
        ]
    mixed, honest = inconsistency(found), inconsistency(by("honest", found))
    for estimate, sign in ((mixed, 1), (honest, -1)):
        assert estimate.null_mean is not None
        assert estimate.null_sd is not None
        assert sign * (estimate.value - estimate.null_mean) > 5 * estimate.null_sd


# ------------------------------------------------------------ models and samples


def test_samples_are_a_function_of_seed_rank_and_step(text: np.ndarray, policy: Policy) -> None:
    groups = Prompter(text, 0, 1).sample(policy, 3, 2)
    assert groups.tokens.shape == (2 * GROUP, PROMPT + RESPONSE)
    assert [len(response) for response in groups.responses] == [RESPONSE] * (2 * GROUP)
    assert len(set(groups.prompts[:GROUP])) == 1
    assert torch.equal(groups.tokens, Prompter(text, 0, 1).sample(policy, 3, 2).tokens)
    for other in (Prompter(text, 1, 1), Prompter(text, 0, 2)):
        assert not torch.equal(groups.tokens, other.sample(policy, 3, 2).tokens)


def test_prompts_end_before_a_word(text: np.ndarray, policy: Policy) -> None:
    groups = Prompter(text, 0, 1).sample(policy, 0, 8)
    whole = text.tobytes()
    for prompt in groups.prompts:
        assert prompt in whole
        assert not prompt[-1:].isalpha()


def test_the_cache_changes_nothing(text: np.ndarray, policy: Policy) -> None:
    tokens = Prompter(text, 0, 1).sample(policy, 0, 1).tokens
    cache: list[tuple[torch.Tensor, torch.Tensor]] = []
    with torch.no_grad():
        logits = next_logits(policy, tokens[:, :PROMPT], 0, cache)
        for place in range(PROMPT, tokens.shape[1]):
            logits = next_logits(policy, tokens[:, place : place + 1], place, cache)
        whole = policy.lm_head(policy.hidden(tokens)[:, -1])
    assert torch.allclose(logits, whole, atol=1e-5)


def test_weights_of_one_give_the_plain_loss(policy: Policy) -> None:
    tokens = torch.randint(0, 256, (3, LENGTH + 1))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    weighted = policy(inputs, targets, torch.ones(3, LENGTH))
    assert weighted.item() == pytest.approx(policy(inputs, targets).item(), rel=1e-5)


def test_the_likelihood_is_that_of_the_response(policy: Policy) -> None:
    tokens = torch.randint(0, 256, (3, PROMPT + RESPONSE))
    found = likelihood_of(policy, tokens)
    each = policy.log_probs(tokens[:, :-1], tokens[:, 1:])[:, PROMPT - 1 :]
    assert torch.allclose(found.log_probs, each.sum(dim=1), atol=1e-4)
    assert ((found.entropies > 0) & (found.entropies < np.log(256))).all()


def test_the_reward_model_begins_without_an_opinion(policy: Policy) -> None:
    model = RewardModel(copy_of(policy))
    tokens = torch.randint(0, 256, (4, PROMPT + RESPONSE))
    loss, rewards = model(tokens, torch.tensor([0, 1]), torch.tensor([2, 3]))
    assert rewards.tolist() == [0.0] * 4
    assert loss.item() == pytest.approx(np.log(2))
    assert pooled(policy, tokens).shape == (4, WIDTH)
    assert torch.equal(pooled(policy, tokens), pooled(model.trunk, tokens))


def test_labels_point_at_rows_of_their_own_group() -> None:
    groups = Groups(torch.zeros(10, 1), [b"p"] * 5 + [b"q"] * 5, RESPONSES * 2)
    labels = labels_of(groups, CRITERION, with_cyclic=True)
    assert torch.equal(labels.winners // GROUP, labels.losers // GROUP)
    assert len(labels.raters) == 2 * 30
    assert int(labels.is_honest.sum()) == 2 * 10


def test_advantages_compare_within_a_group_and_weigh_the_response_alone() -> None:
    rewards = torch.tensor([0.0, 1, 2, 3, 4, 10, 11, 12, 13, 14])
    flat = Likelihood(torch.zeros(10), torch.zeros(10))
    groups = Groups(torch.zeros(10, PROMPT + RESPONSE), [], [])
    rollouts = Rollouts(groups, rewards, flat, flat)
    assert above_group(rewards).tolist() == [-2.0, -1, 0, 1, 2] * 2
    assert torch.allclose(rollouts.advantages[:5], rollouts.advantages[5:])
    weights = weights_of(rollouts)
    assert weights.shape == (10, PROMPT + RESPONSE - 1)
    assert (weights[:, : PROMPT - 1] == 0).all()
    assert (weights[4, PROMPT - 1 :] == rollouts.advantages[4]).all()


# ------------------------------------------------------------ plan, options, report


@pytest.mark.parametrize("steps", [128, 200, 512])
def test_phases_are_whole_windows_and_the_raters_turn_in_the_middle(steps: int) -> None:
    plan = RlhfPlan(steps)
    parts = (plan.supervised_steps, plan.reward_steps, plan.policy_steps, plan.planted_step)
    assert all(part % 8 == 0 and part > 0 for part in parts)
    assert plan.planted_step * 2 in (plan.reward_steps, plan.reward_steps - 8)
    assert abs(sum(parts[:3]) - steps) < 8


def test_options_of_the_other_demo_are_refused_by_name() -> None:
    refuse_others({"seed", "steps"})
    with pytest.raises(ConfigurationError, match="--shuffle-labels"):
        refuse_others({"seed", "shuffle_labels"})
    with pytest.raises(ConfigurationError, match="--steps"):
        RlhfOptions(steps=10)


@pytest.mark.parametrize(
    "option", [("--fault", "lr"), ("--no-fault",), ("--duration", "9"), ("--act",)]
)
def test_the_command_refuses_them_before_it_starts_anything(
    invoke: Any, option: tuple[str, ...]
) -> None:
    out = invoke("demo", "--rlhf", *option)
    assert out.code != 0
    assert option[0] in out.stderr
    assert out.stdout == ""


def result(window: int, value: float, part: str = "reward", **fields: float) -> pb.Result:
    metric, stream = {
        "reward": ("preference_cyclic_inconsistency_ratio", "preferences"),
        "policy": ("rollout_reward_mean", "rollouts"),
    }[part]
    return pb.Result(
        run=f"r.{part}",
        window=window,
        first_step=8 * window,
        last_step=8 * window + 7,
        metric=metric,
        value=value,
        pane=pb.Pane(kind=pb.FINAL),
        labels=[pb.Label(name="stream", value=stream)],
        **fields,
    )


def test_the_report_says_what_the_topics_say() -> None:
    seen = RlhfObservation("r")
    for window, value in enumerate((0.2, 0.2, 0.8, 0.9)):
        seen.add(result(window, value, null_mean=0.6, null_sd=0.02))
    for window, value in enumerate((1.0, 2.0, 3.0)):
        seen.add(result(window, value, "policy"))
    other = result(9, 7.0)
    other.run = "another"
    seen.add(other)
    report = report_of(seen, 16, "page")
    assert len(report["gauges"]) == len(GAUGES)
    assert report["inconsistency"]["before"]["z"] == pytest.approx(-20)
    assert report["inconsistency"]["after"]["z_low"] == pytest.approx(10)
    assert report["findings"]["inconsistency_below_null_before_planting"] is True
    assert report["findings"]["inconsistency_above_null_after_planting"] is True
    assert report["findings"]["reward_rose"] is True
    assert report["findings"]["uncertainty_fell"] is None
    rows = {row[0]: row[1:] for row in report_rows(report)}
    assert rows["rollout_reward_mean"] == ("1", "2", "3")
    assert rows["preference_cyclic_inconsistency_ratio"] == ("0.2", "0.2", "0.9")
    assert rows["  its null"] == ("0.6", "", "0.6")
