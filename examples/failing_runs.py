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
# # Reading a run that fails
#
# An agent that does not learn gives no error. This notebook trains on one task again and again: once as it should be, then
# with one thing wrong at a time. For each it shows the statistics of the updates, what to conclude, and what to try.
#
# 1. [A healthy run](#1.-A-healthy-run)
# 2. [The critic's learning rate is absurd](#2.-The-critic's-learning-rate-is-absurd)
# 3. [`max_kl` is far too large](#3.-max_kl-is-far-too-large)
# 4. [`max_kl` is far too small](#4.-max_kl-is-far-too-small)
# 5. [The standard deviation has vanished](#5.-The-standard-deviation-has-vanished)
# 6. [Observations are not normalised](#6.-Observations-are-not-normalised)
# 7. [The reward never changes](#7.-The-reward-never-changes)
# 8. [In which order to look](#8.-In-which-order-to-look)
#
# The task is the [point mass](../docs/point_mass.md): push a mass to the origin and stop it there. The best controller
# has a mean return of -22, random actions one of about -300. You can read everything without running it. A run takes
# less than a minute on one core.

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
from collections import Counter
from typing import Any

import gymnasium as gym
import numpy as np
import plotly.graph_objects as go
import torch

from trpo_ts.diagnostics import TrainingRecorder, UpdateRecord
from trpo_ts.diagnostics.style import GREY, VERMILLION, Panel, line, stack_panels
from trpo_ts.envs import POINT_MASS_HORIZON, PointMass1DEnv
from trpo_ts.solver import StepOutcome
from trpo_ts.training import make_job

torch.set_num_threads(1)  # networks of this size are faster on one


def train(task: str = "PointMass1D-v0", **settings: Any) -> list[UpdateRecord]:
    """Train on the point mass with some settings changed, and return the records of the updates."""
    usual = {"preset": "point_mass", "seed": 0, "steps": 80_000, "num_envs": 32, "segment": 128, "test_every": 0}
    job = make_job(task, **(usual | settings))
    recorder = TrainingRecorder()
    job.params.logger, job.params.verbose, job.params.show_progress = recorder, False, False
    job.algorithm.run_training(job.params)
    job.close()
    return recorder.updates


# %% [markdown]
# Two helpers. `show_table` prints the statistics that matter most, for a few updates. `comparison` draws a failing run
# over the healthy one.

# %%
COLUMNS = {
    "return": ("return_mean", "9.1f"),
    "KL": ("kl", "9.5f"),
    "fraction": ("step_fraction", "9.2f"),
    "expected": ("expected_improvement", "9.4f"),
    "achieved": ("surrogate_improvement", "9.4f"),
    "explained": ("explained_variance", "10.2f"),
    "vf_loss": ("vf_loss", "9.2g"),
    "std": ("policy_std", "8.3f"),
}


def show_table(records: list[UpdateRecord]) -> None:
    """Print six updates and how the policy steps ended."""
    print("update", *(f"{name:>{spec.split('.')[0]}}" for name, (_, spec) in COLUMNS.items()))
    for i in np.linspace(1, len(records) - 1, 6).round().astype(int):
        values = ((getattr(records[i], field), spec) for field, spec in COLUMNS.values())
        cells = ["-".rjust(int(spec.split(".")[0])) if value is None else f"{value:{spec}}" for value, spec in values]
        print(f"{records[i].iteration:6d}", *cells)
    outcomes = Counter(StepOutcome(int(record.outcome)).name for record in records)
    print("outcomes:", ", ".join(f"{name} {count}" for name, count in outcomes.items()))


def comparison(failing: list[UpdateRecord], panels: dict[str, tuple[str, str]], title: str) -> go.Figure:
    """Draw some statistics of a failing run over those of the healthy one; panels: field -> heading, axis title."""
    drawn = []
    for field, (heading, unit) in panels.items():
        traces = []
        for records, name, color, dash in (
            (healthy, "healthy", GREY, "dot"),
            (failing, "this run", VERMILLION, "solid"),
        ):
            known = [record for record in records if getattr(record, field) is not None]
            steps, values = [r.env_steps for r in known], [getattr(r, field) for r in known]
            traces.append(line(steps, values, color=color, dash=dash, name=name))
        drawn.append(Panel(heading, unit, traces, height=150))
    return stack_panels(drawn, x_title="environment steps", title=title, tickformat="~s")


RETURN = ("Mean return of the episodes that ended", "episode return")
EXPLAINED = ("Variance of the returns that the critic explains", "share (at most 1)")
KL = ("Mean KL divergence per update", "KL (nats)")
ACHIEVED = ("Achieved improvement of the surrogate", "std of the advantage")

# %% [markdown]
# ## 1. A healthy run

# %%
healthy = train()
show_table(healthy)

# %% [markdown]
# What healthy looks like, column by column:
#
# * **return** rises, with noise.
# * **KL** is above zero, at most `max_kl` = 0.02, and of its order.
# * **fraction**, the accepted part of the full step, is 1 or one factor less.
# * **expected** is what the linear model promised, **achieved** what the step gained. They are close in most updates.
# * **explained**, the variance of the returns that the critic explains, goes towards 1.
# * **vf_loss**, the critic's error, falls.
# * **std**, the policy's standard deviation, falls slowly.
# * **outcomes** are `ACCEPTED`.
#
# ## 2. The critic's learning rate is absurd
#
# Adam with a learning rate of 100 instead of 0.001.

# %%
wild_critic = train(critic_fit=None, lr=100.0, optim_critic_iters=5, batch_size=128)
show_table(wild_critic)
comparison(
    wild_critic, {"return_mean": RETURN, "explained_variance": EXPLAINED}, "A learning rate of 100 for the critic"
).show()

# %% [markdown]
# **What you see.** The return rises at first, then falls by hundreds. *Explained* jumps around zero: the critic
# predicts no better than a constant. *vf_loss* rises to tens of thousands, where the healthy run has less than ten.
# The policy steps look healthy, and are all accepted.
#
# **What it means.** The trust region bounds the step. It does not make the advantages true. Advantages from a bad critic
# are mostly noise, and the policy follows them within its bound.
#
# **What to try.** Divide the learning rate by ten until *vf_loss* falls smoothly. Or use `critic_fit=GaussNewtonFit()`, which
# has no learning rate; the healthy run uses it.

# %% [markdown]
# ## 3. `max_kl` is far too large
#
# Two nats instead of 0.02: a hundred times the divergence, ten times the step.

# %%
too_large = train(max_kl=2.0)
show_table(too_large)
comparison(too_large, {"return_mean": RETURN, "kl": KL}, "max_kl = 2").show()

# %% [markdown]
# **What you see.** The return falls by thousands, then jumps back. *Achieved* is a fraction of *expected*: the step has left the region
# where the linear model holds. The standard deviation jumps too. *Explained* does not settle near 1, since the critic
# cannot follow a policy that changes so much.
#
# **What it means.** Every step was `ACCEPTED`: the surrogate did improve *on the rollout*. It says nothing about the
# states that the new policy goes to. That is what `max_kl` is for.
#
# **What to try.** Halve `max_kl` until *achieved* is close to *expected*. More steps per update help in the same way.

# %% [markdown]
# ## 4. `max_kl` is far too small
#
# $10^{-5}$ nats instead of 0.02.

# %%
too_small = train(max_kl=1e-5)
show_table(too_small)
comparison(too_small, {"return_mean": RETURN, "kl": KL}, "max_kl = 0.00001").show()

# %% [markdown]
# **What you see.** All is well, but the return hardly moves. *Achieved* equals *expected* to the last digit, the standard
# deviation stays where it was, and the critic gets better and better: it learns a policy that does not change.
#
# **What it means.** A bound of 1/2000 allows 1/45 of the step.
#
# **What to try.** Double `max_kl` as long as *achieved* follows *expected*. If `max_kl` is right but *KL* stays far below
# it, look at *fraction*: at 1, the damping takes the budget (`full_budget=True`, or less `cg_damping`).

# %% [markdown]
# ## 5. The standard deviation has vanished
#
# Here the policy starts with a standard deviation of 0.01. In practice it shrinks to that during training, and learning
# stops in the same way.

# %%
no_noise = train(initial_std=0.01)
show_table(no_noise)
comparison(no_noise, {"return_mean": RETURN, "surrogate_improvement": ACHIEVED}, "A standard deviation of 0.01").show()

# %% [markdown]
# **What you see.** KL, line search, surrogate and critic are as in the healthy run. Only the return stays, and *std* says
# why.
#
# **What it means.** Moving the mean by one standard deviation costs half a nat. With 0.02 nats the mean can move by
# $\sqrt{2 \cdot 0.02} \approx 0.2$ standard deviations per update, which is 0.002 here. The policy also tries nothing new:
# all actions in a state are nearly the same. A discrete policy fails alike; look at its `entropy`.
#
# **What to try.** A larger `initial_std`. If the standard deviation shrank during training: first a better critic, since
# noisy advantages shrink it; then a smaller `max_kl`, more steps per update, a small `ent_coef` such as 0.001.

# %% [markdown]
# ## 6. Observations are not normalised
#
# The same task with positions in millimetres, measured from a mark 100 m away.


# %%
def far_away(**kwargs: Any) -> gym.Env:
    """Return the point mass with observations in mm and mm/s, and the origin 100 m off."""
    env = PointMass1DEnv(**kwargs)
    shift, scale = np.float32([100.0, 0.0]), np.float32(1000.0)
    return gym.wrappers.TransformObservation(env, lambda obs: scale * (obs + shift), env.observation_space)


gym.register("PointMassFarAway-v0", entry_point=far_away, max_episode_steps=POINT_MASS_HORIZON)
raw = train("PointMassFarAway-v0")
show_table(raw)

# %%
normalised = train("PointMassFarAway-v0", normalise_observations=True)
show_table(normalised)
comparison(raw, {"return_mean": RETURN, "explained_variance": EXPLAINED}, "Observations around 100,000").show()

# %% [markdown]
# **What you see.** *Explained* is 0.00 from the first to the last update (first table). The policy step uses its KL, and
# the return gets worse.
#
# **What it means.** The tanh units are saturated: they give the same output in every state. The critic can only predict
# a constant, and the policy can only choose one action for all states.
#
# **What to try.** `normalise_observations=True`, or Tianshou's `VectorEnvNormObs` in a script of your own: the second
# table. In its run one update went wrong, and the table shows that too: the return and *explained* fall together and
# *vf_loss* leaps. It recovers by itself. Falls that last call for a smaller `max_kl`.

# %% [markdown]
# ## 7. The reward never changes
#
# A bug in the environment: every reward is zero.


# %%
def silent(**kwargs: Any) -> gym.Env:
    """Return the point mass without rewards."""
    return gym.wrappers.TransformReward(PointMass1DEnv(**kwargs), lambda reward: 0.0)


gym.register("PointMassSilent-v0", entry_point=silent, max_episode_steps=POINT_MASS_HORIZON)
no_reward = train("PointMassSilent-v0")
show_table(no_reward)

# %% [markdown]
# **What you see.** The figures of the policy step could not look better. The critic explains nearly all variance. But the
# return is the same in every episode, and *vf_loss* is a ten-thousandth.
#
# **What it means.** The critic's own errors are the only variance that is left, in the values and in the targets that
# contain them. Advantages are normalised, so these errors become advantages of full size, and the policy follows noise.
# Only if the critic is constant too does the outcome say `CONSTANT_ADVANTAGES`.
#
# **What to try.** Look at the rewards themselves: `rew` of a rollout, its mean and its spread. Then the environment, the
# wrappers, and whether an episode ever reaches what is rewarded.
#
# ## 8. In which order to look
#
# Later statistics depend on earlier ones, so start at the top.
#
# | Question | Statistic | If not | Try |
# | --- | --- | --- | --- |
# | Do rewards vary? | return, `vf_loss` | section 7 | look at rewards, wrappers, episode ends |
# | Does the policy move? | `accepted`, `outcome` | [outcome codes](../docs/trpo.md#4-the-logged-metrics) | what `StepOutcome(code).advice` says |
# | Does it use its KL? | `kl` near `max_kl` | section 4, or damping | larger `max_kl`; `full_budget=True` |
# | Does the gain hold? | `surrogate_improvement` near `expected_improvement` | section 3 | smaller `max_kl`, more steps per update |
# | Does the critic know the states? | `explained_variance` towards 1 | sections 2 and 6 | normalise observations; another learning rate; `GaussNewtonFit()` |
# | Does it still explore? | `policy_std`, `entropy` | section 5 | larger `initial_std`, `ent_coef` |
# | Is it luck? | several seeds | one seed proves nothing | `trpo-ts train --seeds 3` |
#
# If all answers are yes and the return stays low, the task is not what you think: watch an episode. Then look at `gamma`,
# at the time limit, and at whether the observations tell the state.
#
# [trpo.md](../docs/trpo.md#6-troubleshooting) has more symptoms, and
# [`trpo_from_scratch.ipynb`](trpo_from_scratch.ipynb) explains where each number comes from.
