"""The observe_* methods for what a policy generates: rollouts, nodes of a search, chains of thought."""

from __future__ import annotations

from infoplane.agent.rewards.contents import Contents
from infoplane.agent.rewards.kinds import COT, ROLLOUTS, SEARCH
from infoplane.agent.rewards.masks import Mask
from infoplane.agent.rewards.numbers import Features, Numbers
from infoplane.agent.rewards.observer import Observer


class Generations(Observer):
    """What a policy samples."""

    def observe_rollouts(
        self,
        prompts: Contents,
        responses: Contents,
        *,
        rewards: Numbers | None = None,
        entropies: Numbers | None = None,
        log_probs: Numbers | None = None,
        reference_log_probs: Numbers | None = None,
        rollout_log_probs: Numbers | None = None,
        null_log_probs: Numbers | None = None,
        tokens: Numbers | None = None,
        advantages: Numbers | None = None,
        values: Numbers | None = None,
        features: Features | None = None,
        prefixes: Contents | None = None,
        mask: Mask | None = None,
        stream: str = "rollouts",
        step: int | None = None,
    ) -> None:
        """Publish m responses that the policy sampled: PPO, GRPO and the like. As `observe_preferences` otherwise.

        Every call makes events of its own: the id holds step, rank and place in the call. Call it on one rank of
        those that hold the same rollouts. Numbers are (m,); with a `mask` also (m, s), one per token: they are reduced
        on their device, and nothing waits for it.

            monitor.observe_rollouts(prompts, Padded(ids, mask), rewards=rewards, mask=mask,
                                     log_probs=token_log_probs, entropies=token_entropies)

        Args:
            prompts: m contents; column `prompt`, uint64 hashes (m,). Repeat a prompt for each of its responses.
            responses: m contents; column `response`.
            rewards: column `reward`, float64 as all numbers; of tokens: summed.
            entropies: mean entropy of the policy over the response's tokens, nats; column `entropy`.
            log_probs: sum of the policy's log-probabilities over the response's tokens, nats; column `log_prob`.
            reference_log_probs: the same of the reference policy; column `reference_log_prob`.
            rollout_log_probs: the same of the engine that sampled; column `rollout_log_prob`.
            null_log_probs: the same of the policy without the prompt; column `null_log_prob`.
            tokens: tokens of the response; column `tokens`, counted in `mask` by default.
            advantages: column `advantage`; of tokens: averaged.
            values: the critic's; column `value`; of tokens: averaged.
            features: (m, d); column `features`, float32 (m, k), projected where wider.
            prefixes: what a response shares with others, m contents, e.g. a turn or a shared beginning; column
                `prefix`, uint64 hashes (m,).
            mask: which tokens are the response's, (m, s), where the numbers of tokens are.
            stream: name of the source.
            step: step that the events belong to.
        """
        self._tell(
            ROLLOUTS,
            stream,
            step,
            contents={"prompt": prompts, "response": responses, "prefix": prefixes},
            numbers={
                "reward": rewards,
                "entropy": entropies,
                "log_prob": log_probs,
                "reference_log_prob": reference_log_probs,
                "rollout_log_prob": rollout_log_probs,
                "null_log_prob": null_log_probs,
                "tokens": tokens,
                "advantage": advantages,
                "value": values,
            },
            features={"features": features},
            mask=mask,
        )

    def observe_search(
        self,
        prompts: Contents,
        nodes: Contents,
        *,
        parents: Contents | None = None,
        prefixes: Contents | None = None,
        depths: Numbers | None = None,
        values: Numbers | None = None,
        visits: Numbers | None = None,
        rewards: Numbers | None = None,
        stream: str = "search",
        step: int | None = None,
    ) -> None:
        """Publish m nodes of a search over responses: best of n, beams, a tree. As `observe_rollouts` otherwise.

        Every call makes events of its own, so a node may be told again when its visits have changed.

            monitor.observe_search(prompts, leaves, values=scores)  # best of n: no parents
            monitor.observe_search(prompts, nodes, parents=parents, depths=depths, values=q, visits=n)

        Args:
            prompts: m contents; column `prompt`, uint64 hashes (m,).
            nodes: what names a node, m contents: its id, or its text or tokens so far; column `node`.
            parents: the same of the node above, None at a root; column `parent`, 0 = none.
            prefixes: text or tokens from the prompt's end to the node, m contents; column `prefix`.
            depths: 0 at a root, (m,); column `depth`, float64 as all numbers.
            values: what the search thinks of the node, (m,); column `value`.
            visits: how often it was visited, (m,); column `visits`.
            rewards: what the finished response got, (m,), NaN where not finished; column `reward`.
            stream: name of the source.
            step: step that the events belong to.
        """
        self._tell(
            SEARCH,
            stream,
            step,
            contents={"prompt": prompts, "node": nodes, "parent": parents, "prefix": prefixes},
            numbers={"depth": depths, "value": values, "visits": visits, "reward": rewards},
        )

    def observe_cot(
        self,
        prompts: Contents,
        prefixes: Contents,
        *,
        indices: Numbers,
        thoughts: Contents | None = None,
        responses: Contents | None = None,
        answer_log_probs: Numbers | None = None,
        is_final: Numbers | None = None,
        rewards: Numbers | None = None,
        stream: str = "cot",
        step: int | None = None,
    ) -> None:
        """Publish m steps of chains of thought. As `observe_rollouts` otherwise.

            monitor.observe_cot(prompts, prefixes, indices=[0, 1, 2], thoughts=texts,
                                answer_log_probs=given_prefix, is_final=[0, 0, 1], rewards=rewards)

        Args:
            prompts: m contents; column `prompt`, uint64 hashes (m,). One row for each step of a chain.
            prefixes: the chain up to this step's end, m contents; column `prefix`.
            indices: place of the step in its chain, from 0, (m,); column `index`, float64 as all numbers.
            thoughts: the step's own text or tokens, m contents or None each; column `thought`, 0 = not told.
            responses: the whole chain, m contents; column `response`, the same hash as the rollout's.
            answer_log_probs: log-probability of the right answer given prompt and prefix, nats, (m,); column
                `answer_log_prob`.
            is_final: whether it is the chain's last step, (m,); column `is_final`, 0 or 1.
            rewards: of the whole chain, (m,), NaN where not known; column `reward`.
            stream: name of the source.
            step: step of the training that the events belong to.
        """
        self._tell(
            COT,
            stream,
            step,
            contents={
                "prompt": prompts,
                "prefix": prefixes,
                "thought": thoughts,
                "response": responses,
            },
            numbers={
                "index": indices,
                "answer_log_prob": answer_log_probs,
                "is_final": is_final,
                "reward": rewards,
            },
        )
