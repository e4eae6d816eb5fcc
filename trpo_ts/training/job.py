"""One call that builds a whole training: algorithm, environments, collectors, trainer parameters."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import torch
from tianshou.data import BaseCollector, CollectStats, VectorReplayBuffer
from tianshou.env import BaseVectorEnv, VectorEnvNormObs
from tianshou.trainer import OnPolicyTrainerParams

from trpo_ts.autodiff.ranks import Ranks
from trpo_ts.choices import EnvBackend
from trpo_ts.collectors import RolloutCollector
from trpo_ts.distributed.ranks_of_process import current_ranks
from trpo_ts.envs.tasks import spaces_of_task
from trpo_ts.policies.policy_description import set_task
from trpo_ts.presets import Settings
from trpo_ts.presets.selection import observation_kind
from trpo_ts.training.job_config import JobConfig, resolve
from trpo_ts.training.job_overrides import JobOverrides
from trpo_ts.training.learner import make_learner
from trpo_ts.training.task_environments import described_task, environment_seeds, environments_of_task
from trpo_ts.training.trainer_params import trainer_params
from trpo_ts.trpo import TRPO
from trpo_ts.validation.parameter_values import check_integer

__all__ = ["Job", "build_job", "make_job"]

_MOST_TEST_ENVS = 10


@dataclass(frozen=True)
class Job:
    """A training, ready to run.

    :param config: what it was made from.
    :param algorithm: TRPO, with its policy and critic.
    :param training_envs: the training environments; with normalised observations, they own the running statistics.
    :param test_envs: the test environments, which read these statistics and never change them; None for no tests.
    :param training_collector: collects the rollouts.
    :param test_collector: plays the tests; None for no tests.
    :param params: the trainer's parameters: ``algorithm.run_training(params)``, or
        ``trpo_ts.checkpoints.ResumableTrainer(algorithm, params, folder).run()``.
    """

    config: JobConfig
    algorithm: TRPO
    training_envs: BaseVectorEnv
    test_envs: BaseVectorEnv | None
    training_collector: BaseCollector[CollectStats]
    test_collector: BaseCollector[CollectStats] | None
    params: OnPolicyTrainerParams

    def close(self) -> None:
        """Close the environments."""
        for envs in (self.training_envs, self.test_envs):
            if envs is not None:
                envs.close()


def make_job(
    task: str,
    preset: str | None = None,
    seed: int = 0,
    *,
    env_backend: EnvBackend = "auto",
    env_threads: int | None = None,
    **overrides: Unpack[JobOverrides],
) -> Job:
    """Return a whole training of a task: algorithm, environments, collectors and trainer parameters.

    >>> from trpo_ts.training import make_job
    >>> job = make_job("CartPole-v1", steps=2048, test_every=0, max_kl=0.03)
    >>> job.config.preset
    'classic_control'

    It seeds the global random generators of Python, NumPy and torch, from which networks, actions and minibatches are
    drawn, so that a seed gives one training.

    :param task: the id of an environment that is registered with gymnasium, or that EnvPool has.
    :param preset: the name of a preset (``docs/presets.md``); None takes the one for the task.
    :param seed: of networks, actions and environments, >= 0.
    :param env_backend: who runs the environments: ``"gymnasium"``; ``"envpool"``, which is faster and whose episodes
        no checkpoint can hold; ``"ray"``, in Ray's processes on this or other machines, likewise; or ``"auto"``:
        EnvPool for the tasks that only EnvPool has.
    :param env_threads: the threads in which EnvPool simulates, >= 1. They change no result. None takes one for every
        eight environments, and at most the cores that the process may use; take 1 where other work uses the cores.
    :param overrides: settings in place of the preset's, such as ``max_kl=0.02`` or
        ``critic_fit=GaussNewtonFit(steps=2)``; :class:`trpo_ts.presets.Settings` lists them.
    :raises ValueError: for an unknown task or preset, missing packages, and settings that are out of range or do not
        suit the task; the message says what to do.
    :raises TypeError: for a name that is no setting.
    """
    config = resolve(task, preset, seed, env_backend=env_backend, **overrides)
    if env_threads is not None and config.env_backend != "envpool":
        raise ValueError(
            f'env_threads={env_threads} is for env_backend="envpool", got "{config.env_backend}"; leave it out'
        )
    return build_job(config, env_threads=env_threads)


def build_job(config: JobConfig, *, env_threads: int | None = None) -> Job:
    """Return the training that a configuration describes; see :func:`make_job`.

    On several ranks it is this rank's part of it: its share of the environments, the same networks, seeds of its own.
    """
    settings, ranks = config.settings, current_ranks()
    if env_threads is not None:
        check_integer("env_threads", env_threads, 1)
    envs = _share(settings.num_envs, ranks)
    random.seed(config.seed)
    np.random.seed(config.seed)  # noqa: NPY002  Tianshou draws from NumPy's global generator
    torch.manual_seed(config.seed)
    observation_space, action_space = spaces_of_task(config.task, config.env_backend, **settings.shaping())
    if settings.normalise_observations and observation_kind(observation_space) != "vector":
        raise ValueError(
            f"normalise_observations must be False for observations that are no vectors of real numbers, got True for "
            f"{observation_space}"
        )
    algorithm = make_learner(settings, observation_space, action_space)
    set_task(algorithm.policy, described_task(config))
    _seed_rank(config.seed, ranks.rank)
    seeds = environment_seeds(config.seed, 0, settings.num_envs)[envs.start : envs.stop]
    training_envs = _vector_env(config, seeds, env_threads)
    training_collector = _collector(algorithm, training_envs, settings.segment)
    test_envs, test_collector = None, None
    if settings.test_every:
        count = min(_test_episodes(settings, ranks), _MOST_TEST_ENVS)
        test_seeds = environment_seeds(config.seed, 1, count * ranks.size)[count * ranks.rank :][:count]
        test_envs = _vector_env(config, test_seeds, env_threads)
        _share_statistics(training_envs, test_envs)
        test_collector = _collector(algorithm, test_envs, None)
    return Job(
        config=config,
        algorithm=algorithm,
        training_envs=training_envs,
        test_envs=test_envs,
        training_collector=training_collector,
        test_collector=test_collector,
        params=_params(config, training_collector, test_collector, ranks),
    )


def _share(num_envs: int, ranks: Ranks) -> range:
    """Return the numbers of this rank's environments."""
    if num_envs < ranks.size:
        raise ValueError(f"num_envs must be at least 1 for each of {ranks.size} ranks, got {num_envs}")
    return range(num_envs * ranks.rank // ranks.size, num_envs * (ranks.rank + 1) // ranks.size)


def _test_episodes(settings: Settings, ranks: Ranks) -> int:
    """Return how many episodes of a test a rank plays."""
    return math.ceil(settings.test_episodes / ranks.size)


def _seed_rank(seed: int, rank: int) -> None:
    """Let ranks that have built the same networks draw other actions."""
    if rank > 0:
        python, numpys, torchs = environment_seeds(seed, 2 + rank, 3)
        random.seed(python)
        np.random.seed(numpys)  # noqa: NPY002  see build_job
        torch.manual_seed(torchs)


def _vector_env(config: JobConfig, seeds: Sequence[int], threads: int | None) -> BaseVectorEnv:
    """Return an environment for each seed, normalised where the settings say so."""
    envs = environments_of_task(described_task(config), seeds, threads=threads)
    return VectorEnvNormObs(envs) if config.settings.normalise_observations else envs


def _collector(algorithm: TRPO, envs: BaseVectorEnv, segment: int | None) -> RolloutCollector[CollectStats]:
    """Return a collector; for training, with a buffer of so many steps of each environment."""
    buffer = None if segment is None else VectorReplayBuffer(segment * len(envs), len(envs))
    return RolloutCollector[CollectStats](algorithm, envs, buffer)


def _share_statistics(training_envs: BaseVectorEnv, test_envs: BaseVectorEnv) -> None:
    """Let the test environments read the running statistics of the training ones."""
    if isinstance(training_envs, VectorEnvNormObs) and isinstance(test_envs, VectorEnvNormObs):
        test_envs.update_obs_rms = False
        test_envs.set_obs_rms(training_envs.get_obs_rms())


def _params(
    config: JobConfig,
    training_collector: BaseCollector[CollectStats],
    test_collector: BaseCollector[CollectStats] | None,
    ranks: Ranks,
) -> OnPolicyTrainerParams:
    settings = config.settings
    rollout = settings.rollout
    updates = settings.whole_steps // rollout
    updates_per_epoch = min(updates, math.ceil((settings.test_every or settings.steps) / rollout))
    return trainer_params(
        training_collector=training_collector,
        test_collector=test_collector,
        test_seed=None if test_collector is None else environment_seeds(config.seed, 2, ranks.rank + 1)[-1],
        test_step_num_episodes=_test_episodes(settings, ranks),
        batch_size=settings.batch_size,
        update_step_num_repetitions=settings.repeat,
        collection_step_num_env_steps=settings.segment * len(training_collector.env),
        epoch_num_steps=updates_per_epoch * rollout,
        max_epochs=math.ceil(updates / updates_per_epoch),
        verbose=False,
        show_progress=False,
    )
