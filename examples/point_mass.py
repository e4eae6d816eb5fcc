"""Train TRPO on the point mass and write a report: what `make demo` runs.

    python examples/point_mass.py --seed 0 --steps 400000 --out runs/point_mass

A one-dimensional mass is pushed to the origin and shall stop there. Training uses Tianshou's collector and
on-policy trainer on 64 environments, whole episodes per update; the report is one self-contained HTML file.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import plotly.graph_objects as go
import torch
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch, Collector, CollectStats, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.trainer import OnPolicyTrainerParams

from trpo_ts import TRPO
from trpo_ts.critics import GaussNewtonFit, make_critic
from trpo_ts.diagnostics import (
    PolicySnapshot,
    RolloutRecord,
    TrainingRecorder,
    policy_snapshot_figure,
    rollout_figure,
    save_records,
    write_json,
)
from trpo_ts.envs import POINT_MASS_BEST_RETURN, POINT_MASS_HORIZON
from trpo_ts.policies import make_policy
from trpo_ts.reports import RecordedRun, report_runs

N_ENVS = 64
N_EPOCHS = 10
MAX_KL = 0.02
POSITIONS = np.linspace(-2.0, 2.0, 101, dtype=np.float32)


def make_env() -> gym.Env:
    """Return one point mass with its time limit."""
    # The checker would look at every step of all environments; the tests of the package look once.
    return gym.make("PointMass1D-v0", disable_env_checker=True)


def make_algorithm() -> TRPO:
    """Return the policy, the critic and TRPO around them."""
    env = make_env()
    return TRPO(
        policy=make_policy(env.observation_space, env.action_space),
        critic=make_critic(env.observation_space),
        optim=AdamOptimizerFactory(),
        # Returns span four orders of magnitude between a mass that runs away and one at the goal: a Gauss-Newton
        # fit follows them, while steps of Adam need a learning rate for each.
        critic_fit=GaussNewtonFit(steps=2, cg_iters=2),
        max_kl=MAX_KL,
        gae_lambda=0.97,
        gamma=0.99,
        max_batchsize=N_ENVS * POINT_MASS_HORIZON,
    )


def random_rollout(seed: int) -> RolloutRecord:
    """Return one episode of uniformly random actions."""
    env = make_env()
    env.action_space.seed(seed)
    obs, _ = env.reset(seed=seed)
    observations, actions, rewards, done = [obs], [], [], False
    while not done:
        action = env.action_space.sample()
        obs, reward, terminated, truncated, _ = env.step(action)
        observations.append(obs)
        actions.append(action)
        rewards.append(float(reward))
        done = terminated or truncated
    return RolloutRecord(observations, actions, rewards, ("position x", "velocity v"), ("action a",))


def snapshot(algorithm: TRPO, iteration: int) -> PolicySnapshot:
    """Return the policy's mean action at rest over the positions, as the environment receives it."""
    obs = np.stack([POSITIONS, np.zeros_like(POSITIONS)], axis=1)
    with torch.no_grad():
        (mean, _), _ = algorithm.policy.actor(obs, info=Batch())
    return PolicySnapshot(iteration, POSITIONS.tolist(), algorithm.policy.map_action(mean)[:, 0].tolist())


def train(seed: int, steps: int) -> tuple[TRPO, TrainingRecorder, list[PolicySnapshot]]:
    """Train for ``steps`` environment steps and a line per epoch; the last update may exceed them by its episodes."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  Tianshou draws from NumPy's global generator
    algorithm = make_algorithm()
    envs = DummyVectorEnv([make_env] * N_ENVS)
    envs.seed([seed * N_ENVS + i for i in range(N_ENVS)])  # no two runs share an environment's starts
    collector = Collector[CollectStats](
        algorithm.policy, envs, VectorReplayBuffer(2 * N_ENVS * POINT_MASS_HORIZON, N_ENVS)
    )
    recorder = TrainingRecorder()
    params = OnPolicyTrainerParams(
        training_collector=collector,
        collection_step_num_env_steps=None,
        collection_step_num_episodes=N_ENVS,  # whole episodes: every update sees starts and ends alike
        batch_size=None,
        logger=recorder,
        verbose=False,
    )
    trainer = algorithm.create_trainer(params)
    trainer.reset()
    snapshots = [snapshot(algorithm, 0)]
    for epoch in range(N_EPOCHS):
        env_steps = recorder.updates[-1].env_steps if recorder.updates else 0
        if env_steps >= steps:
            break
        params.epoch_num_steps = max(1, (steps - env_steps) // (N_EPOCHS - epoch))
        trainer.execute_epoch()
        snapshots.append(snapshot(algorithm, len(recorder.updates)))
        print(describe(epoch + 1, recorder), flush=True)
    return algorithm, recorder, snapshots


def describe(epoch: int, recorder: TrainingRecorder) -> str:
    """Return the line of an epoch: its last update and the mean return of its last five."""
    last = recorder.updates[-1]
    return (
        f"epoch {epoch:2d} | env steps {last.env_steps:7d} | return {final_return(recorder):9.2f} | "
        f"KL {last.kl:.4f} | step fraction {last.step_fraction:.2f} | std {last.policy_std:.2f} | "
        f"explained variance {last.explained_variance:5.2f}"
    )


def final_return(recorder: TrainingRecorder) -> float:
    """Return the mean return of the episodes that ended in the last five updates."""
    return float(np.mean([r for record in recorder.updates[-5:] for r in record.episode_returns]))


def drawings(rollout: RolloutRecord, snapshots: list[PolicySnapshot]) -> dict[str, tuple[go.Figure, str]]:
    """Return figures with captions, by heading."""
    return {
        "A random rollout": (
            rollout_figure(rollout),
            "One episode of uniformly random actions. Its return depends on the start: what training has to raise is "
            "the mean of many.",
        ),
        "The policy over training": (
            policy_snapshot_figure(
                snapshots, grid_title="position x (velocity 0)", action_title="mean action", title=None
            ),
            "The mean action at rest. Left of the goal the mass is pushed right, right of it left; training makes the "
            "push sharp.",
        ),
    }


def report(out: Path, seed: int, recorder: TrainingRecorder, snapshots: list[PolicySnapshot], seconds: float) -> None:
    """Write records, report and summary into the folder."""
    summary = {
        "seed": seed,
        "env_steps": recorder.updates[-1].env_steps,
        "wall_seconds": round(seconds, 2),
        "final_return_mean": round(final_return(recorder), 3),
        "max_kl_seen": max(record.kl or 0.0 for record in recorder.updates),
        "report": "report.html",
    }
    rollout = random_rollout(seed)
    run = RecordedRun(
        recorder.updates,
        settings={"task": "PointMass1D-v0", "seed": seed, "max_kl": MAX_KL},
        summary={name: value for name, value in summary.items() if name != "report"},
        reference=("best controller", POINT_MASS_BEST_RETURN),
    )
    report_runs(
        out / "report.html",
        run,
        title="TRPO on the point mass",
        description=f"{len(recorder.updates)} updates of trpo_ts.TRPO, {N_ENVS} episodes each. The best controller was "
        "found by dynamic programming.",
        figures=drawings(rollout, snapshots),
    )
    save_records(out / "records.jsonl", [rollout, *recorder.updates, *snapshots])
    write_json(out / "summary.json", summary)
    print(f"final return {summary['final_return_mean']} (best controller {POINT_MASS_BEST_RETURN}), ", end="")
    print(f"{summary['env_steps']} steps in {summary['wall_seconds']} s; report: {out / 'report.html'}")


def main() -> None:
    """Parse the options, train, report."""
    parser = argparse.ArgumentParser(description="Train TRPO on the point mass and write a report.")
    parser.add_argument("--seed", type=int, default=0, help="seed of networks, actions and environments")
    parser.add_argument("--steps", type=int, default=400_000, help="environment steps to train for")
    parser.add_argument("--out", type=Path, default=Path("runs/point_mass"), help="folder for the results")
    args = parser.parse_args()
    if args.seed < 0:
        parser.error(f"--seed must be >= 0, got {args.seed}")
    if args.steps < 1:
        parser.error(f"--steps must be >= 1, got {args.steps}")
    torch.set_num_threads(1)  # the networks are too small to be worth a second thread
    start = time.perf_counter()
    _, recorder, snapshots = train(args.seed, args.steps)
    report(args.out, args.seed, recorder, snapshots, time.perf_counter() - start)


if __name__ == "__main__":
    main()
