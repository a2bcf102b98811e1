"""The observe_* methods for what is said about responses: comparisons, votes, scores."""

from __future__ import annotations

from infoplane.agent.rewards.contents import Contents
from infoplane.agent.rewards.kinds import PREFERENCES, SCORES, VOTES
from infoplane.agent.rewards.numbers import Features, Numbers
from infoplane.agent.rewards.observer import Observer


class Judgements(Observer):
    """What raters, judges and reward models say."""

    def observe_preferences(
        self,
        prompts: Contents,
        chosen: Contents,
        rejected: Contents,
        *,
        rewards_chosen: Numbers | None = None,
        rewards_rejected: Numbers | None = None,
        log_probs_chosen: Numbers | None = None,
        log_probs_rejected: Numbers | None = None,
        reference_log_probs_chosen: Numbers | None = None,
        reference_log_probs_rejected: Numbers | None = None,
        features_chosen: Features | None = None,
        features_rejected: Features | None = None,
        raters: Contents | None = None,
        weights: Numbers | None = None,
        stream: str = "preferences",
        step: int | None = None,
    ) -> None:
        """Publish m judgements "of these two responses, the first is better": training a reward model, or DPO.

        The same judgement seen again, in another epoch or on another rank, has the same id and counts once.
        Everything is copied before this returns; a tensor on a device is copied there and read later. All calls of a
        stream have the same columns. Pausing does not stop events. A wrong call is logged once per stream and
        counted, never raised. Cost: docs/rewards.md.

            monitor.observe_preferences(batch["prompt"], batch["chosen"], batch["rejected"],
                                        rewards_chosen=good, rewards_rejected=bad)

        Args:
            prompts: m contents: text, bytes, an int of your own, or token ids (a list, or a 1-D array or tensor),
                one per event; an array or tensor of two dimensions has the token ids of one event per row, `Padded`
                says which of them count. Columns `prompt`, `chosen`, `rejected` are uint64 hashes (m,).
            chosen: the better responses.
            rejected: the worse ones.
            rewards_chosen: the reward model's scores, (m,); column `reward_chosen`, float64.
            rewards_rejected: likewise; column `reward_rejected`.
            log_probs_chosen: sum of the policy's log-probabilities over the response, nats, (m,); column
                `log_prob_chosen`.
            log_probs_rejected: likewise; column `log_prob_rejected`.
            reference_log_probs_chosen: the same of the reference policy; column `reference_log_prob_chosen`.
            reference_log_probs_rejected: likewise; column `reference_log_prob_rejected`.
            features_chosen: pooled embeddings (m, d); column `features_chosen`, float32 (m, k), projected to k =
                sampling.projection_dim columns where wider.
            features_rejected: likewise; column `features_rejected`.
            raters: who judged, m contents or None each; column `rater`, uint64 hashes, 0 = not told.
            weights: how much each counts, (m,); column `weight`, float64, 1 by default.
            stream: name of the source; its windows are unit `events/<stream>`.
            step: step that the events belong to; the step of the last training forward by default.
        """
        self._tell(
            PREFERENCES,
            stream,
            step,
            contents={
                "prompt": prompts,
                "chosen": chosen,
                "rejected": rejected,
                "rater": raters,
            },
            numbers={
                "weight": weights,
                "reward_chosen": rewards_chosen,
                "reward_rejected": rewards_rejected,
                "log_prob_chosen": log_probs_chosen,
                "log_prob_rejected": log_probs_rejected,
                "reference_log_prob_chosen": reference_log_probs_chosen,
                "reference_log_prob_rejected": reference_log_probs_rejected,
            },
            features={
                "features_chosen": features_chosen,
                "features_rejected": features_rejected,
            },
        )

    def observe_votes(
        self,
        prompts: Contents,
        responses: Contents,
        raters: Contents,
        *,
        votes: Numbers,
        truths: Numbers | None = None,
        stream: str = "votes",
        step: int | None = None,
    ) -> None:
        """Publish m votes of raters or judges over candidate responses. As `observe_preferences` otherwise.

        A rater votes once on a candidate: the same vote seen again counts once, and a second vote of theirs, in
        a later window, does not replace the first. A judge that is sampled several times is several raters.

            monitor.observe_votes(prompts, candidates, judges, votes=[1.0, 0.0, 1.0])

        Args:
            prompts: m contents; column `prompt`, uint64 hashes (m,). One row for each vote.
            responses: the candidates, m contents; column `response`.
            raters: who votes, m contents; column `rater`.
            votes: the vote, (m,): a grade, or 1 and 0; column `vote`, float64.
            truths: what a jury that is always right would say, (m,), NaN where not known; column `truth`.
            stream: name of the source.
            step: step that the events belong to.
        """
        self._tell(
            VOTES,
            stream,
            step,
            contents={"prompt": prompts, "response": responses, "rater": raters},
            numbers={"vote": votes, "truth": truths},
        )

    def observe_scores(
        self,
        prompts: Contents,
        responses: Contents,
        *,
        rewards: Numbers,
        features: Features | None = None,
        stream: str = "scores",
        step: int | None = None,
    ) -> None:
        """Publish m scores that a reward model or a verifier gave. As `observe_rollouts` otherwise.

            monitor.observe_scores(prompts, responses, rewards=reward_model(batch))

        Args:
            prompts: m contents; column `prompt`, uint64 hashes (m,).
            responses: m contents; column `response`.
            rewards: (m,); column `reward`, float64.
            features: (m, d); column `features`, float32 (m, k), projected where wider.
            stream: name of the source: one per reward function.
            step: step that the events belong to.
        """
        self._tell(
            SCORES,
            stream,
            step,
            contents={"prompt": prompts, "response": responses},
            numbers={"reward": rewards},
            features={"features": features},
        )
