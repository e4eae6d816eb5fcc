"""Search settings for a task with Optuna, starting from its preset.

    python examples/tuning.py --task Pendulum-v1 --trials 30 --steps 60000 --seeds 3
    python examples/tuning.py --task Pendulum-v1 --storage sqlite:///tuning.db    # continues, in several processes too

A trial trains once for each seed. Its score is the mean return over all tests of a training, which rewards learning
fast and staying good, and then over the seeds. A trial whose first seeds are worse than the median of the others ends
early. The first trial is the preset itself. Needs the extra `tuning`.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import optuna
import torch

from trpo_ts.diagnostics import TrainingRecorder
from trpo_ts.presets import choose_preset
from trpo_ts.training import make_job


def suggested(trial: optuna.Trial) -> dict[str, Any]:
    """Return the settings of a trial; the range of each is where TRPO usually works."""
    return {
        "max_kl": trial.suggest_float("max_kl", 0.003, 0.1, log=True),
        "gamma": 1.0 - 1.0 / trial.suggest_float("horizon", 5.0, 10_000.0, log=True),
        "gae_lambda": trial.suggest_float("gae_lambda", 0.9, 0.99),
        "cg_damping": trial.suggest_float("cg_damping", 0.01, 1.0, log=True),
        "segment": trial.suggest_categorical("segment", [32, 64, 128, 256]),
    }


def preset_values(task: str) -> dict[str, Any]:
    """Return what :func:`suggested` would have to draw for the settings of the task's preset."""
    settings = choose_preset(task).settings(task)
    own = {name: getattr(settings, name) for name in ("max_kl", "gae_lambda", "cg_damping", "segment")}
    return {**own, "horizon": 1.0 / (1.0 - settings.gamma)}


def score(task: str, seed: int, steps: int, settings: dict[str, Any]) -> float:
    """Train once, and return the mean return over all tests."""
    job = make_job(task, seed=seed, steps=steps, test_every=max(steps // 10, 1), **settings)
    recorder = TrainingRecorder()
    job.params.logger, job.params.show_progress, job.params.verbose = recorder, False, False
    job.algorithm.run_training(job.params)
    job.close()
    return float(np.mean([test.return_mean for test in recorder.tests]))


def search(task: str, *, trials: int, steps: int, seeds: int, storage: str | None = None) -> optuna.Study:
    """Run a study and return it."""

    def objective(trial: optuna.Trial) -> float:
        settings = suggested(trial)
        scores: list[float] = []
        for seed in range(seeds):
            scores.append(score(task, seed, steps, settings))
            trial.report(float(np.mean(scores)), step=seed)
            if trial.should_prune():
                raise optuna.TrialPruned
        return float(np.mean(scores))

    study = optuna.create_study(
        study_name=f"{task}, {steps} steps, {seeds} seeds",
        storage=storage,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=0),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
        load_if_exists=True,
    )
    if not study.trials:
        study.enqueue_trial(preset_values(task))
    study.optimize(objective, n_trials=trials)
    return study


def command(task: str, values: dict[str, Any]) -> str:
    """Return the command that trains with the values of a trial."""
    options = {**values, "gamma": 1.0 - 1.0 / values["horizon"]}
    del options["horizon"]
    words = (f"--{name.replace('_', '-')} {value:.5g}" for name, value in options.items())
    return " ".join(["trpo-ts train --task", task, *words])


def main() -> None:
    """Search, and print the best settings as a command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="Pendulum-v1")
    parser.add_argument("--trials", type=int, default=30, help="how many settings to try in this process")
    parser.add_argument("--steps", type=int, default=60_000, help="environment steps of each training")
    parser.add_argument("--seeds", type=int, default=3, help="trainings for each trial")
    parser.add_argument("--storage", help="an address for Optuna, such as sqlite:///tuning.db; it can then continue")
    args = parser.parse_args()
    torch.set_num_threads(1)
    study = search(args.task, trials=args.trials, steps=args.steps, seeds=args.seeds, storage=args.storage)
    print(f"preset: {study.trials[0].value:.1f}, best of {len(study.trials)}: {study.best_value:.1f}")
    print(command(args.task, study.best_params))


if __name__ == "__main__":
    main()
