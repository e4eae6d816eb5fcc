"""Learning curves of this package: the training that ``trpo-ts train`` runs."""

from __future__ import annotations

from curves.protocol import TEST_EPISODES, Curve, Plan
from trpo_ts.diagnostics import TrainingRecorder
from trpo_ts.training import make_job

__all__ = ["curve_of", "train"]


def train(plan: Plan) -> Curve:
    """Train by the task's preset, and return the curve."""
    job = make_job(
        plan.task,
        seed=plan.seed,
        **{
            "steps": plan.steps,
            "test_every": plan.test_every,
            "test_episodes": TEST_EPISODES,
            **plan.overrides,
        },
    )
    recorder = TrainingRecorder()
    job.params.logger = recorder
    job.algorithm.run_training(job.params)
    job.close()
    return curve_of(recorder)


def curve_of(recorder: TrainingRecorder) -> Curve:
    """Return the curve that a recorder has seen."""
    curve, last = Curve(), -1
    for test in recorder.tests:
        between = [update for update in recorder.updates if last < update.env_steps <= test.env_steps]
        curve.add(test.env_steps, test.return_mean, [r for update in between for r in update.episode_returns])
        last = test.env_steps
    return curve
