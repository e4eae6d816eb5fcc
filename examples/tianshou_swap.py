# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # TRPO in a Tianshou pipeline
#
# You have a Tianshou script. This notebook changes one import in it, and shows what you get: the same training with
# statistics that explain each update, a faster collector, and runs that resume.
#
# 1. [The script](#1.-The-script), and the line that changes
# 2. [Two runs](#2.-Two-runs): Tianshou's TRPO and this one, from the same networks
# 3. [Read the statistics](#3.-Read-the-statistics): in Python, as figures, in TensorBoard
# 4. [Collect faster](#4.-Collect-faster)
# 5. [Stop, resume, take the policy along](#5.-Stop,-resume,-take-the-policy-along)
#
# The task is CartPole-v1, which needs no download. You can read everything without running it. A run takes less than a
# minute on one core.

# %%
# Installs the package where it is missing, as in Colab. This is the only cell that needs a network.
import importlib.util
import subprocess
import sys
from pathlib import Path

if importlib.util.find_spec("trpo_ts") is None:
    SOURCE = ".." if Path("../pyproject.toml").exists() else "trpo-ts"  # or the address of the repository
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", SOURCE], check=True)

# %%
import time
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import plotly.graph_objects as go
import tianshou.algorithm
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tianshou.algorithm.algorithm_base import OnPolicyAlgorithm
from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.trainer import OnPolicyTrainerParams
from tianshou.utils.net.common import Net
from tianshou.utils.net.discrete import DiscreteActor, DiscreteCritic
from torch import nn

import trpo_ts
from trpo_ts.checkpoints import ResumableTrainer, load_checkpoint, save_checkpoint
from trpo_ts.collectors import RolloutCollector
from trpo_ts.diagnostics import TrainingRecorder, UpdateRecord, learning_figure
from trpo_ts.diagnostics.style import BLUE, VERMILLION, Panel, line, stack_panels
from trpo_ts.training import tensorboard_logger, trainer_params

torch.set_num_threads(1)  # networks of this size are faster on one
RUNS = Path("runs", "tianshou_swap", time.strftime("%Y%m%d-%H%M%S"))  # each execution has a folder of its own

# %% [markdown]
# ## 1. The script
#
# This is how Tianshou's own examples build an on-policy training: an actor and a critic, environments, collectors, a
# trainer. The only argument of `make_algorithm` is the class. In a script of your own the change is
#
# ```diff
# - from tianshou.algorithm import TRPO
# + from trpo_ts import TRPO
# ```
#
# and the rest stays: both classes take the same arguments.

# %%
TASK, NUM_ENVS, ROLLOUT, SEED = "CartPole-v1", 16, 1024, 1


def make_algorithm(algorithm_class: type[OnPolicyAlgorithm]) -> OnPolicyAlgorithm:
    """Return TRPO of a class around Tianshou's networks, always with the same first parameters."""
    torch.manual_seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002  Tianshou draws from NumPy's global generator
    env = gym.make(TASK)
    actor_net, critic_net = (Net(state_shape=(4,), hidden_sizes=(64, 64), activation=nn.Tanh) for _ in range(2))
    actor = DiscreteActor(preprocess_net=actor_net, action_shape=env.action_space.n, softmax_output=False)
    return algorithm_class(
        policy=DiscreteActorPolicy(actor=actor, action_space=env.action_space),
        critic=DiscreteCritic(preprocess_net=critic_net),
        optim=AdamOptimizerFactory(lr=3e-3),
        optim_critic_iters=20,
        max_kl=0.02,
        gamma=0.99,
        gae_lambda=0.95,
    )


def make_envs(count: int, seed: int) -> DummyVectorEnv:
    """Return environments that are stepped one after the other in this process."""
    envs = DummyVectorEnv([lambda: gym.make(TASK)] * count)
    envs.seed([seed + i for i in range(count)])
    return envs


def make_params(
    algorithm: OnPolicyAlgorithm, recorder: TrainingRecorder, *, epochs: int, collector_class: type = Collector
) -> OnPolicyTrainerParams:
    """Return the trainer's parameters: five updates and a test per epoch."""
    envs, test_envs = make_envs(NUM_ENVS, seed=0), make_envs(5, seed=1000)
    return trainer_params(
        training_collector=collector_class(algorithm, envs, VectorReplayBuffer(ROLLOUT, NUM_ENVS)),
        test_collector=Collector(algorithm, test_envs),
        test_step_num_episodes=5,
        max_epochs=epochs,
        epoch_num_steps=5 * ROLLOUT,
        collection_step_num_env_steps=ROLLOUT,
        logger=recorder,
        verbose=False,
        show_progress=False,
    )


# %% [markdown]
# `trainer_params` returns Tianshou's `OnPolicyTrainerParams`. Its one deviation that matters here is `batch_size=None`:
# Tianshou's default of 64 would cut the rollout into minibatches, and Tianshou's TRPO then takes a policy step on each.
#
# ## 2. Two runs
#
# The recorder is a logger. It keeps every update in memory and forwards it to TensorBoard. Tianshou's logger alone would
# write one update in a thousand; `tensorboard_logger` writes all.


# %%
@dataclass
class Run:
    """A finished training."""

    algorithm: OnPolicyAlgorithm
    recorder: TrainingRecorder
    cpu_seconds: float


def run(name: str, algorithm_class: type[OnPolicyAlgorithm], collector_class: type = Collector) -> Run:
    """Train for three epochs, and print what the trainer says about them."""
    algorithm = make_algorithm(algorithm_class)
    recorder = TrainingRecorder(forward_to=tensorboard_logger(RUNS / name))
    params = make_params(algorithm, recorder, epochs=3, collector_class=collector_class)
    begin = time.process_time()
    result = algorithm.run_training(params)
    seconds = time.process_time() - begin
    print(f"{name:10s} best test return {result.best_reward:.0f} after {result.train_step:,} steps")
    return Run(algorithm, recorder, seconds)


tianshous, ours = run("tianshou", tianshou.algorithm.TRPO), run("trpo_ts", trpo_ts.TRPO)


# %%
def returns_figure(runs: dict[str, Run]) -> go.Figure:
    """Draw the mean return of each run over its environment steps."""
    traces = []
    for (name, one), color, dash in zip(runs.items(), (VERMILLION, BLUE), ("dash", "solid"), strict=True):
        ended = [record for record in one.recorder.updates if record.episode_returns]
        steps, means = [record.env_steps for record in ended], [record.return_mean for record in ended]
        traces.append(line(steps, means, color=color, dash=dash, name=name))
    panel = Panel("Mean return of the episodes that ended", "episode return", traces, height=260)
    return stack_panels([panel], x_title="environment steps", title="CartPole-v1, one seed", tickformat="~s")


returns_figure({"tianshou.algorithm.TRPO": tianshous, "trpo_ts.TRPO": ours}).show()

# %% [markdown]
# One seed says that both learn, and not which one learns better. Over several seeds the differences
# [are within chance](../docs/benchmarks.md#learning). What differs is the [time of an update](../docs/benchmarks.md), and
# what an update tells you. With minibatches the KL bound differs too: Tianshou's holds for each minibatch, this one for
# the rollout.
#
# ## 3. Read the statistics
#
# `update()` returns a dataclass, and the recorder has it for each update. These are the statistics of the last one:

# %%
last = ours.recorder.updates[-1]
told = {name: getattr(last, name) for name in UpdateRecord.statistics() if getattr(last, name) is not None}
for name, value in told.items():
    if not name.endswith("_time"):  # seconds, which differ from machine to machine
        print(f"{name:22s} {value:10.4g}")

# %%
by_tianshou = [name for name in told if getattr(tianshous.recorder.updates[-1], name) is not None]
print("Tianshou's TRPO reports", ", ".join(by_tianshou))
print("and keeps the KL bound on its rollout:", max(record.kl for record in tianshous.recorder.updates) <= 0.02)
print("trpo_ts.TRPO keeps it:", max(record.kl for record in ours.recorder.updates) <= 0.02)

# %% [markdown]
# A figure shows the course of all of them. [trpo.md](../docs/trpo.md#4-the-logged-metrics) has the healthy range of each,
# and [`failing_runs.ipynb`](failing_runs.ipynb) what they look like when a run goes wrong.

# %%
learning_figure(
    ours.recorder.updates, max_kl=0.02, tests=ours.recorder.tests, title="trpo_ts.TRPO on CartPole-v1"
).show()

# %% [markdown]
# A policy over discrete actions has no standard deviation; its entropy takes that place.
#
# The same numbers are in the event files. To look at them, start `tensorboard --logdir runs`. Here they are read back:

# %%
events = EventAccumulator(str(RUNS / "trpo_ts")).Reload()
for tag in ("update/kl/mean", "update/explained_variance", "update/step_fraction"):
    values = [event.value for event in events.Scalars(tag)]
    print(f"{tag:28s} {len(values)} updates, last value {values[-1]:.4f}")

# %% [markdown]
# ## 4. Collect faster
#
# Most of a training's time is collecting. `RolloutCollector` is another swap: same constructor, same buffer, same random
# numbers, so the same episodes. Only the time differs.

# %%
faster = run("collector", trpo_ts.TRPO, RolloutCollector)
same = [
    a.episode_returns == b.episode_returns for a, b in zip(ours.recorder.updates, faster.recorder.updates, strict=True)
]
print("same episodes:", all(same))
print(
    f"CPU time of the whole run: {ours.cpu_seconds:.1f} s with Collector, {faster.cpu_seconds:.1f} s with RolloutCollector"
)

# %% [markdown]
# The tests are part of both times; they use Tianshou's collector here.
#
# ## 5. Stop, resume, take the policy along
#
# `ResumableTrainer(algorithm, params, folder).run()` takes the place of `algorithm.run_training(params)`. It writes
# checkpoints as it goes. The same call, in another process too, continues where the run was. Here, one epoch first, then
# the rest with a new algorithm that has learned nothing:

# %%
folder = RUNS / "resumable"
first = make_algorithm(trpo_ts.TRPO)
ResumableTrainer(first, make_params(first, TrainingRecorder(), epochs=1), folder).run()

second, recorder = make_algorithm(trpo_ts.TRPO), TrainingRecorder()
ResumableTrainer(second, make_params(second, recorder, epochs=3), folder).run()
print("records of the whole run:", len(recorder.updates), "updates")
print("equal to the run in one go:", [r.kl for r in recorder.updates] == [r.kl for r in ours.recorder.updates])
print("files:", ", ".join(sorted(path.name for path in folder.iterdir())))

# %% [markdown]
# To take only the policy along, save the learner and load it into a new one. The file holds numbers and no code; it is
# no pickle.

# %%
path = save_checkpoint(RUNS / "learner.ckpt", algorithm=second)
loaded = make_algorithm(trpo_ts.TRPO)
load_checkpoint(path, algorithm=loaded)


def evaluate(algorithm: OnPolicyAlgorithm, episodes: int = 5) -> float:
    """Return the mean return of episodes from fixed starts."""
    torch.manual_seed(SEED)
    collector = Collector(algorithm, make_envs(5, seed=2000))
    return float(collector.collect(n_episode=episodes, reset_before_collect=True).returns_stat.mean)


print(f"before {evaluate(second):.1f}, after loading {evaluate(loaded):.1f}")

# %% [markdown]
# ## Where next
#
# * [`tianshou_pipeline.py`](tianshou_pipeline.py): the whole script, for Pendulum too.
# * [checkpoints.md](../docs/checkpoints.md), [collecting.md](../docs/collecting.md),
#   [parameters.md](../docs/parameters.md).
# * [`trpo_from_scratch.ipynb`](trpo_from_scratch.ipynb): what happens inside an update.
