"""Learning curves on MuJoCo tasks: which solver and which critic fit pay.

    python benchmarks/learning.py --jobs 2                  # all runs that results/learning.jsonl does not hold yet
    python benchmarks/learning.py --table                   # the table and the figure, from the committed results

The settings are those of Tianshou's own MuJoCo example (16 environments of 64 steps per update, normalised
observations and returns, 20 full-batch critic steps); the arms differ in what their name says only. Every 50,000
steps ten test episodes are played with the mean action.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any

import common
import gymnasium as gym
import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from tianshou.algorithm.optim import AdamOptimizerFactory, LRSchedulerFactoryLinear
from tianshou.data import Collector, CollectStats, VectorReplayBuffer
from tianshou.env import DummyVectorEnv, VectorEnvNormObs
from tianshou.trainer import OnPolicyTrainerParams
from updates.units import TianshousUnit

from trpo_ts import KFAC, TRPO
from trpo_ts.critics import make_critic
from trpo_ts.diagnostics import TrainingRecorder
from trpo_ts.policies import make_policy

TASKS = ("HalfCheetah-v4", "Walker2d-v4")
STEPS, TEST_EVERY, N_ENVS, ROLLOUT = 1_000_000, 50_000, 16, 1024
SOLVER_OF_TIANSHOU = {"preconditioner": None, "cg_iters": 10, "cg_damping": 0.1, "cg_tolerance": 0.0}
CLOSE = {"preconditioner": KFAC(relative_damping=0.0), "cg_tolerance": 0.5}
RESULTS = common.RESULTS / "learning.jsonl"


@dataclass(frozen=True)
class Arm:
    """What is trained, and with how many seeds."""

    kind: type[TRPO]
    settings: dict[str, Any]
    seeds: int


BASELINE = "Tianshou's settings"
ARMS = {
    BASELINE: Arm(TianshousUnit, SOLVER_OF_TIANSHOU, 16),
    "Tianshou's solver": Arm(TRPO, SOLVER_OF_TIANSHOU, 16),
    "defaults": Arm(TRPO, {}, 16),
    "default solver": Arm(TianshousUnit, {}, 16),
    "close solve": Arm(TianshousUnit, CLOSE, 6),
    "close solve, damping 1, full budget": Arm(TianshousUnit, {**CLOSE, "cg_damping": 1.0, "full_budget": True}, 6),
}


def training(task: str, seed: int, arm: Arm, recorder: TrainingRecorder) -> tuple[TRPO, Any]:
    """Return the algorithm and the trainer's parameters."""
    env = gym.make(task)
    envs = VectorEnvNormObs(DummyVectorEnv([lambda: gym.make(task) for _ in range(N_ENVS)]))
    test_envs = VectorEnvNormObs(DummyVectorEnv([lambda: gym.make(task) for _ in range(10)]), update_obs_rms=False)
    test_envs.set_obs_rms(envs.get_obs_rms())
    envs.seed(seed)
    test_envs.seed(seed + 1000)
    schedule = LRSchedulerFactoryLinear(3 * STEPS // TEST_EVERY, TEST_EVERY, ROLLOUT)
    algorithm = arm.kind(
        policy=make_policy(env.observation_space, env.action_space),
        critic=make_critic(env.observation_space),
        optim=AdamOptimizerFactory(lr=1e-3).with_lr_scheduler_factory(schedule),
        optim_critic_iters=20,
        return_scaling=True,
        max_batchsize=ROLLOUT,
        **arm.settings,
    )
    params = OnPolicyTrainerParams(
        training_collector=Collector[CollectStats](algorithm, envs, VectorReplayBuffer(4096, N_ENVS)),
        test_collector=Collector[CollectStats](algorithm, test_envs),
        max_epochs=STEPS // TEST_EVERY,
        epoch_num_steps=TEST_EVERY,
        collection_step_num_env_steps=ROLLOUT,
        test_step_num_episodes=10,
        batch_size=None,
        logger=recorder,
        verbose=False,
        show_progress=False,
    )
    return algorithm, params


def run(job: tuple[str, str, int]) -> dict[str, Any]:
    """Train one arm on one task with one seed, and return its curve."""
    arm, task, seed = job
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  Tianshou draws from NumPy's global generator
    gym.logger.min_level = gym.logger.ERROR
    recorder = TrainingRecorder()
    algorithm, params = training(task, seed, ARMS[arm], recorder)
    start = time.perf_counter()
    algorithm.run_training(params)
    updates = recorder.updates
    return {
        "arm": arm,
        "task": task,
        "seed": seed,
        "steps": [test.env_steps for test in recorder.tests],
        "returns": [round(test.return_mean, 1) for test in recorder.tests],
        "seconds": round(time.perf_counter() - start, 1),
        "largest_kl": max(u.kl or 0.0 for u in updates),
        "rejected": sum(u.rejected for u in updates),
        "products": round(float(np.mean([u.cg_iterations for u in updates])), 2),
        "improvement": round(float(np.mean([u.surrogate_improvement for u in updates])), 5),
        "environment": common.environment(),
    }


def done() -> list[dict[str, Any]]:
    """Return the runs in the results file."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def missing() -> Iterator[tuple[str, str, int]]:
    """Yield the runs that are not in the results file yet."""
    have = {(r["arm"], r["task"], r["seed"]) for r in done()}
    jobs = [
        (arm, task, seed)
        for seed in range(max(arm.seeds for arm in ARMS.values()))
        for task in TASKS
        for arm in ARMS
        if seed < ARMS[arm].seeds
    ]
    yield from (job for job in jobs if job not in have)


def table(runs: list[dict[str, Any]]) -> str:
    """Return means and standard deviations over seeds, and differences in pairs of seeds with their standard errors."""
    figures = {(r["task"], r["arm"], r["seed"]): _figures(r) for r in runs}
    rows = []
    for task, arm in product(TASKS, ARMS):
        chosen = [r for r in runs if (r["arm"], r["task"]) == (arm, task)]
        if not chosen:
            continue
        values = np.array([figures[task, arm, r["seed"]] for r in chosen])
        rows.append(
            [task, arm]
            + [f"{mean:.0f} ± {std:.0f}" for mean, std in zip(values.mean(0), values.std(0), strict=True)]
            + [_in_pairs(figures, task, arm, other) for other in (_with_solver_of_tianshou(arm), BASELINE)]
            + [f"{np.mean([r['products'] for r in chosen]):.1f}", str(len(chosen))]
        )
    header = ["task", "arm", "largest return", "last return", "mean over training"]
    header += ["less Tianshou's solver, unit alike", f"less {BASELINE}", "products per update", "seeds"]
    return common.markdown_table(header, rows)


def _figures(one: dict[str, Any]) -> np.ndarray:
    """Return a run's largest and last return, and its mean over the training."""
    return np.array([max(one["returns"]), one["returns"][-1], np.mean(one["returns"])])


def _with_solver_of_tianshou(arm: str) -> str:
    """Return the arm that differs in the solver alone."""
    return next(n for n, a in ARMS.items() if a.kind is ARMS[arm].kind and a.settings is SOLVER_OF_TIANSHOU)


def _in_pairs(figures: dict[tuple[str, str, int], np.ndarray], task: str, arm: str, other: str) -> str:
    """Return the mean differences by seed of two arms' figures, with standard errors."""
    seeds = [s for s in range(ARMS[arm].seeds) if (task, arm, s) in figures and (task, other, s) in figures]
    if len(seeds) < 2 or arm == other:
        return ""
    differences = np.array([figures[task, arm, s] - figures[task, other, s] for s in seeds])
    errors = differences.std(0, ddof=1) / np.sqrt(len(seeds))
    return ", ".join(f"{mean:.0f} ± {error:.0f}" for mean, error in zip(differences.mean(0), errors, strict=True))


def figure(runs: list[dict[str, Any]]) -> go.Figure:
    """Return the curves: each seed thin, the mean thick."""
    colours = dict(zip(ARMS, ("#D55E00", "#E69F00", "#0072B2", "#56B4E9", "#009E73", "#CC79A7"), strict=True))
    plot = make_subplots(rows=1, cols=len(TASKS), subplot_titles=TASKS, horizontal_spacing=0.08)
    for column, task in enumerate(TASKS, start=1):
        for arm, colour in colours.items():
            chosen = [r for r in runs if (r["arm"], r["task"]) == (arm, task)]
            for r in chosen:
                line = {"color": colour, "width": 1}
                plot.add_scatter(
                    x=r["steps"], y=r["returns"], line=line, opacity=0.35, showlegend=False, row=1, col=column
                )
            if chosen:
                mean = np.mean([r["returns"] for r in chosen], axis=0)
                line = {"color": colour, "width": 3}
                plot.add_scatter(
                    x=chosen[0]["steps"], y=mean, name=arm, line=line, showlegend=column == 1, row=1, col=column
                )
        plot.update_xaxes(title_text="environment steps", row=1, col=column)
    plot.update_yaxes(title_text="test return", row=1, col=1)
    return plot.update_layout(template="plotly_white", width=1100, height=460, legend={"orientation": "h", "y": -0.2})


def main() -> None:
    """Run what is missing unless only the table is asked for."""
    parser = argparse.ArgumentParser(description="Learning curves on MuJoCo tasks.")
    parser.add_argument("--table", action="store_true", help="only write table and figure from the committed results")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    args = parser.parse_args()
    if not args.table:
        os.environ["OMP_NUM_THREADS"] = "1"
        with ProcessPoolExecutor(args.jobs, max_tasks_per_child=1) as pool:
            for result in pool.map(run, list(missing())):
                with RESULTS.open("a") as file:
                    file.write(json.dumps(result) + "\n")
                print({k: v for k, v in result.items() if k not in ("steps", "returns", "environment")}, flush=True)
    common.write_table("learning", table(done()))
    path = common.ROOT / "runs" / "learning.html"
    path.parent.mkdir(exist_ok=True)
    figure(done()).write_html(path)
    common.save_image(figure(done()), "learning.png")


if __name__ == "__main__":
    main()
