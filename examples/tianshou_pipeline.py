"""A usual Tianshou training script, in which TRPO is one import.

    python examples/tianshou_pipeline.py --task Pendulum-v1
    python examples/tianshou_pipeline.py --task CartPole-v1
    tensorboard --logdir runs

Networks and collectors are Tianshou's; its trainer saves checkpoints here, so that the same command continues where a
stopped run was, and its logger writes every update. To compare, change the import of TRPO to
`from tianshou.algorithm import TRPO`: the rest of the script stays as it is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy, ProbabilisticActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, CollectStats, InfoStats, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.utils.net.common import Net
from tianshou.utils.net.continuous import ContinuousActorProbabilistic, ContinuousCritic
from tianshou.utils.net.discrete import DiscreteActor
from tianshou.utils.space_info import SpaceInfo
from torch import nn
from torch.distributions import Independent, Normal

from trpo_ts import TRPO
from trpo_ts.checkpoints import ResumableTrainer
from trpo_ts.training import tensorboard_logger, trainer_params

THRESHOLDS = {"Pendulum-v1": -250.0, "CartPole-v1": 195.0}
SETTINGS = {
    "Pendulum-v1": {"gamma": 0.95, "max_kl": 0.005, "return_scaling": True},
    "CartPole-v1": {"gamma": 0.99, "max_kl": 0.01, "return_scaling": False},
}


def make_net(env: gym.Env) -> Net:
    """Return the trunk of an actor or a critic."""
    state_shape = SpaceInfo.from_env(env).observation_info.obs_shape
    return Net(state_shape=state_shape, hidden_sizes=(64, 64), activation=nn.Tanh)


def make_policy(env: gym.Env) -> ProbabilisticActorPolicy:
    """Return Tianshou's Gaussian policy for a Box, and its categorical one for Discrete."""
    action_shape = SpaceInfo.from_env(env).action_info.action_shape
    if isinstance(env.action_space, gym.spaces.Discrete):
        discrete_actor = DiscreteActor(preprocess_net=make_net(env), action_shape=action_shape, softmax_output=False)
        return DiscreteActorPolicy(actor=discrete_actor, action_space=env.action_space)
    actor = ContinuousActorProbabilistic(preprocess_net=make_net(env), action_shape=action_shape, unbounded=True)
    return ProbabilisticActorPolicy(
        actor=actor,
        dist_fn=lambda loc_scale: Independent(Normal(*loc_scale), 1),
        action_space=env.action_space,
    )


def train(task: str, seed: int, epochs: int, logdir: Path) -> InfoStats:
    """Train until the task's threshold is reached, at most ``epochs`` of 50,000 steps."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  Tianshou draws from NumPy's global generator
    env = gym.make(task)
    training_envs = DummyVectorEnv([lambda: gym.make(task) for _ in range(16)])
    test_envs = DummyVectorEnv([lambda: gym.make(task) for _ in range(10)])
    training_envs.seed(seed)
    test_envs.seed(seed)

    algorithm = TRPO(
        policy=make_policy(env),
        critic=ContinuousCritic(preprocess_net=make_net(env)),
        optim=AdamOptimizerFactory(lr=1e-3),
        optim_critic_iters=5,
        **SETTINGS[task],
    )
    folder = logdir / task / f"seed{seed}"
    params = trainer_params(
        training_collector=Collector[CollectStats](algorithm, training_envs, VectorReplayBuffer(50_000, 16)),
        test_collector=Collector[CollectStats](algorithm, test_envs),
        max_epochs=epochs,
        epoch_num_steps=50_000,
        collection_step_num_env_steps=2048,
        update_step_num_repetitions=2,
        test_in_training=True,
        stop_fn=lambda score: score >= THRESHOLDS[task],
        logger=tensorboard_logger(folder),
    )
    # Called again, it continues a stopped run; algorithm.run_training(params) would begin anew.
    return ResumableTrainer(algorithm, params, folder).run()


def main() -> None:
    """Parse the options, train, say whether the threshold was reached."""
    parser = argparse.ArgumentParser(description="A Tianshou training script in which only one import differs.")
    parser.add_argument("--task", choices=sorted(THRESHOLDS), default="Pendulum-v1")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=5, help="of 50,000 environment steps each")
    parser.add_argument("--logdir", type=Path, default=Path("runs/tianshou_pipeline"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    result = train(args.task, args.seed, args.epochs, args.logdir)
    reached = "reached" if result.best_reward >= THRESHOLDS[args.task] else "missed"
    print(
        f"{args.task}: best test return {result.best_reward:.1f}, threshold {THRESHOLDS[args.task]} {reached} "
        f"after {result.train_step} steps in {result.timing.total_time:.1f} s"
    )


if __name__ == "__main__":
    main()
