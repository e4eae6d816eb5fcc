"""Trainer parameters that suit a trust region."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tianshou.data import BaseCollector, Collector
from tianshou.trainer import OnPolicyTrainerParams

from trpo_ts.validation.parameter_values import check_instance, check_integer
from trpo_ts.whole_rollouts import check_rollout_fits

__all__ = ["trainer_params"]


def trainer_params(
    *,
    training_collector: BaseCollector[Any],
    test_collector: BaseCollector[Any] | None = None,
    test_seed: int | None = None,
    batch_size: int | None = None,
    test_step_num_episodes: int = 10,
    **others: Any,
) -> OnPolicyTrainerParams:
    """Return Tianshou's ``OnPolicyTrainerParams`` with other defaults.

    :param training_collector: collects the rollouts.
    :param test_collector: plays the tests; None for no tests.
    :param test_seed: every test plays the episodes of this seed, so that scores differ by the policy alone; None
        plays new ones each time.
    :param batch_size: the critic's minibatch size; None, unlike Tianshou's 64, fits it on the whole rollout.
    :param test_step_num_episodes: episodes per test; Tianshou plays one.
    :param others: any other field of ``OnPolicyTrainerParams``.
    :raises ValueError: for a test seed without a collector to seed, or beside a ``test_fn`` of your own, and for a
        buffer of the training collector that does not hold a rollout.
    """
    if test_seed is not None:
        check_integer("test_seed", test_seed, 0)
        check_instance("test_collector", test_collector, Collector, "test_seed seeds its environments")
        if others.get("test_fn") is not None:
            raise ValueError("test_seed must be None beside a test_fn, which may seed the environments itself")
        others["test_fn"] = _seeded(test_collector, test_seed)
    params = OnPolicyTrainerParams(
        training_collector=training_collector,
        test_collector=test_collector,
        batch_size=batch_size,
        test_step_num_episodes=test_step_num_episodes,
        **others,
    )
    check_rollout_fits(training_collector, params.collection_step_num_env_steps)
    return params


def _seeded(collector: Any, seed: int) -> Callable[[int, int | None], None]:
    def test_fn(epoch: int, env_step: int | None) -> None:
        # Tianshou calls this after it has reset the environments: without a second reset, the first actions would
        # answer observations of other episodes.
        collector.env.seed(seed)
        collector.reset_env()

    return test_fn
