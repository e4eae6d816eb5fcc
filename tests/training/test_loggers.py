"""The logger of a training."""

from __future__ import annotations

from runs import STEPS, UPDATES, make_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trpo_ts.training import tensorboard_logger


def test_the_logger_writes_every_update_and_saves_after_every_epoch(tmp_path):
    saved = []
    algorithm, params = make_run(
        logger=tensorboard_logger(tmp_path),
        save_checkpoint_fn=lambda epoch, env_step, update: saved.append((epoch, env_step, update)) or "",
    )
    algorithm.run_training(params)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.step for event in events.Scalars("update/kl/mean")] == list(range(1, UPDATES + 1))
    assert len(events.Scalars("training/n_collected_steps")) == UPDATES
    assert saved == [(1, STEPS, 3), (2, 2 * STEPS, 6)]
