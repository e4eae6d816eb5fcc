"""Learning curves on MuJoCo tasks: which solver and which unit of returns pay.

    python benchmarks/solver_learning.py --jobs 2    # the runs that the results lack, the table and the figure
    python benchmarks/solver_learning.py --table     # the table and the figure, from the committed results

The settings are those of Tianshou's own MuJoCo example (16 environments of 64 steps per update, normalised
observations and returns, 20 full-batch critic steps). The arms differ only in what their name says. Every 50,000
steps ten test episodes are played with the mean action.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
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

from trpo_ts import KFAC, TRPO
from trpo_ts.critics import make_critic
from trpo_ts.diagnostics import TrainingRecorder
from trpo_ts.policies import make_policy
from trpo_ts.rollout import Rollout

TASKS = ("HalfCheetah-v4", "Walker2d-v4")
STEPS, TEST_EVERY, N_ENVS, ROLLOUT = 1_000_000, 50_000, 16, 1024
SOLVER_OF_TIANSHOU = {"preconditioner": None, "cg_iters": 10, "cg_damping": 0.1, "cg_tolerance": 0.0}
CLOSE = {"preconditioner": KFAC(relative_damping=0.0), "cg_tolerance": 0.5}
RESULTS = common.RESULTS / "solver_learning.jsonl"

Runs = dict[tuple[str, str], dict[int, Any]]
"""By task and arm: something of each seed's run."""


class TianshousUnit(TRPO):
    """Divides scaled targets as Tianshou does: by the deviation of the returns before this rollout."""

    def _rollout(self, *args: Any) -> Rollout:
        before = self._return_unit()
        rollout = super()._rollout(*args)
        ratio = self._return_unit() / before
        return replace(rollout, returns=rollout.returns * ratio, values=rollout.values * ratio)


@dataclass(frozen=True)
class Arm:
    """What is trained, with how many seeds, and the colour of its curve."""

    kind: type[TRPO]
    settings: dict[str, Any]
    seeds: int
    colour: str


BASELINE, SOLVER = "Tianshou's settings", "Tianshou's solver"
ARMS = {
    BASELINE: Arm(TianshousUnit, SOLVER_OF_TIANSHOU, 16, "#D55E00"),
    SOLVER: Arm(TRPO, SOLVER_OF_TIANSHOU, 16, "#E69F00"),
    "defaults": Arm(TRPO, {}, 16, "#0072B2"),
    "default solver": Arm(TianshousUnit, {}, 16, "#56B4E9"),
    "close solve": Arm(TianshousUnit, CLOSE, 6, "#009E73"),
    "close solve, damping 1, full budget": Arm(
        TianshousUnit, {**CLOSE, "cg_damping": 1.0, "full_budget": True}, 6, "#CC79A7"
    ),
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
    return {
        "arm": arm,
        "task": task,
        "seed": seed,
        "steps": [test.env_steps for test in recorder.tests],
        "returns": [round(test.return_mean, 1) for test in recorder.tests],
        "seconds": round(time.perf_counter() - start, 1),
        "products": round(float(np.mean([update.cg_iterations for update in recorder.updates])), 2),
        "environment": common.environment(),
    }


def done() -> Runs:
    """Return the runs in the results file."""
    found: Runs = defaultdict(dict)
    for line in RESULTS.read_text().splitlines() if RESULTS.exists() else []:
        one = json.loads(line)
        found[one["task"], one["arm"]][one["seed"]] = one
    return found


def missing(runs: Runs) -> Iterator[tuple[str, str, int]]:
    """Yield the jobs that are not done, seed by seed, so that pairs are whole wherever it stops."""
    seeds = range(max(arm.seeds for arm in ARMS.values()))
    for seed, task, (name, arm) in product(seeds, TASKS, ARMS.items()):
        if seed < arm.seeds and seed not in runs[task, name]:
            yield name, task, seed


def table(runs: Runs) -> str:
    """Return means and standard deviations over seeds, and differences in pairs of seeds with their standard errors."""
    figures = {key: {seed: _figures(one) for seed, one in seeds.items()} for key, seeds in runs.items()}
    rows = []
    for task, (name, arm) in product(TASKS, ARMS.items()):
        own = figures[task, name]
        values = np.array(list(own.values()))
        others = (BASELINE, SOLVER if arm.kind is TRPO else name)
        rows.append(
            [task, name, _with_errors(values.mean(0), values.std(0))]
            + ["" if other == name else _in_pairs(own, figures[task, other]) for other in others]
            + [f"{np.mean([one['products'] for one in runs[task, name].values()]):.1f}", str(len(own))]
        )
    header = ["task", "arm", "largest, last, mean return", f"less {BASELINE}", f"less {SOLVER}"]
    return common.markdown_table([*header, "products per update", "seeds"], rows)


def _figures(one: dict[str, Any]) -> np.ndarray:
    """Return a run's largest and last return, and its mean over the training."""
    return np.array([max(one["returns"]), one["returns"][-1], np.mean(one["returns"])])


def _in_pairs(own: dict[int, np.ndarray], other: dict[int, np.ndarray]) -> str:
    """Return the mean differences by seed of two arms' figures, with standard errors."""
    differences = np.array([own[seed] - other[seed] for seed in own if seed in other])
    return _with_errors(differences.mean(0), differences.std(0, ddof=1) / np.sqrt(len(differences)))


def _with_errors(means: np.ndarray, errors: np.ndarray) -> str:
    return ", ".join(f"{mean:.0f}±{error:.0f}" for mean, error in zip(means, errors, strict=True))


def figure(runs: Runs) -> go.Figure:
    """Return the curves: each seed thin, the mean thick."""
    plot = make_subplots(rows=1, cols=len(TASKS), subplot_titles=TASKS, horizontal_spacing=0.08)
    for (column, task), (name, arm) in product(enumerate(TASKS, start=1), ARMS.items()):
        curves = {seed: (one["steps"], one["returns"]) for seed, one in runs[task, name].items()}
        steps, returns = zip(*curves.values(), strict=True)
        thin, thick = ({"color": arm.colour, "width": width} for width in (1, 3))
        place = {"row": 1, "col": column}
        for x, y in curves.values():
            plot.add_scatter(x=x, y=y, line=thin, opacity=0.35, showlegend=False, **place)
        mean = np.mean(returns, axis=0)
        plot.add_scatter(x=steps[0], y=mean, name=name, line=thick, showlegend=column == 1, **place)
    plot.update_xaxes(title_text="environment steps").update_yaxes(title_text="test return", row=1, col=1)
    return plot.update_layout(template="plotly_white", width=1100, height=460, legend={"orientation": "h", "y": -0.2})


def main() -> None:
    """Run what is missing unless only the table is asked for."""
    parser = common.parser(__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    args = parser.parse_args()
    if not args.table:
        os.environ["OMP_NUM_THREADS"] = "1"
        with ProcessPoolExecutor(args.jobs, max_tasks_per_child=1) as pool:
            for result in pool.map(run, list(missing(done()))):
                with RESULTS.open("a") as file:
                    file.write(json.dumps(result) + "\n")
                print({k: v for k, v in result.items() if k not in ("steps", "returns", "environment")}, flush=True)
    common.write_between_markers(common.ROOT / "docs" / "benchmarks.md", "solver-learning", table(done()))
    common.save_image(figure(done()), "solver_learning.png")


if __name__ == "__main__":
    main()
