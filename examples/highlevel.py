"""Tianshou's high-level API: several seeds, their evaluation, and the best policy of one of them from disk.

    pip install -c constraints.txt ".[highlevel]"
    python examples/highlevel.py --task Pendulum-v1 --seeds 5 --out runs/highlevel

Each seed is an experiment with a folder of its own. The evaluation draws the interquartile mean of the test returns
with its confidence interval, as the `rliable` package recommends, into the folder above; it takes some seconds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from tianshou.data import Collector
from tianshou.evaluation.rliable_evaluation import load_and_eval_experiment
from tianshou.highlevel.config import OnPolicyTrainingConfig
from tianshou.highlevel.experiment import ExperimentConfig

from trpo_ts.critics import GaussNewtonFit
from trpo_ts.highlevel import EnvFactoryRegistered, TRPOExperimentBuilder, TRPOParams

PARAMS = {
    "Pendulum-v1": {"gamma": 0.95, "max_kl": 0.03},
    "CartPole-v1": {"gamma": 0.99, "max_kl": 0.02},
}


def make_builder(task: str, steps: int, config: ExperimentConfig) -> TRPOExperimentBuilder:
    """Return the builder of an experiment with five test steps on the way."""
    training = OnPolicyTrainingConfig(
        max_epochs=5,
        epoch_num_steps=max(1, steps // 5),
        collection_step_num_env_steps=2048,
        num_training_envs=16,
        num_test_envs=10,
        batch_size=None,
    )
    environments = EnvFactoryRegistered(task=task, obs_norm=task == "Pendulum-v1", render_mode_watch=None)
    params = TRPOParams(critic_fit=GaussNewtonFit(), deterministic_eval=True, **PARAMS[task])
    return TRPOExperimentBuilder(environments, config, training).with_name(task).with_trpo_params(params)


def train(task: str, seeds: int, steps: int, out: Path, launcher: str) -> None:
    """Run an experiment for each seed and print the course of the test return over all of them."""
    config = ExperimentConfig(seed=0, persistence_base_dir=str(out), watch=False)
    make_builder(task, steps, config).build_seeded_collection(seeds).run(launcher)
    if seeds < 2:
        return
    load_and_eval_experiment(str(out / task), show_plots=False)
    for entry in json.loads((out / task / "rliable_evaluation_test.json").read_text()):
        low, high = entry["iqm_confidence_interval"]
        print(f"{entry['env_step']:8.0f} steps: interquartile mean {entry['iqm']:.1f}, 95 % in [{low:.1f}, {high:.1f}]")


def evaluate(task: str, folder: Path) -> float:
    """Return the mean return, over 20 episodes, of the best policy that an experiment stored.

    The experiment is built anew, so that nothing but the state is read from the folder.
    """
    config = ExperimentConfig(
        policy_restore_directory=str(folder), persistence_enabled=False, train=False, watch=False, seed=1_000
    )
    world = make_builder(task, 1, config).build().create_experiment_world()
    collector = Collector(world.algorithm, world.envs.test_envs)
    return float(collector.collect(n_episode=20, reset_before_collect=True).returns_stat.mean)


def main() -> None:
    """Parse the options, train, evaluate what was stored."""
    parser = argparse.ArgumentParser(description="TRPO through Tianshou's high-level API.")
    parser.add_argument("--task", choices=sorted(PARAMS), default="Pendulum-v1")
    parser.add_argument("--seeds", type=int, default=5, help="experiments to run, with the seeds 0, 1, ...")
    parser.add_argument("--steps", type=int, default=100_000, help="environment steps of each")
    parser.add_argument("--launcher", choices=("sequential", "joblib"), default="sequential", help="joblib: parallel")
    parser.add_argument("--out", type=Path, default=Path("runs/highlevel"), help="folder for the results")
    args = parser.parse_args()
    for name in ("seeds", "steps"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be >= 1, got {getattr(args, name)}")
    if (args.out / args.task).exists():
        parser.error(f"--out must be a folder without results, got {args.out}, which has {args.task}")
    torch.set_num_threads(1)
    train(args.task, args.seeds, args.steps, args.out, args.launcher)
    folder = args.out / args.task / "exp_seed=0"
    print(f"{args.task}: mean return {evaluate(args.task, folder):.1f} over 20 episodes; results in {folder.parent}")


if __name__ == "__main__":
    main()
