"""Weights & Biases."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tianshou.utils import WandbLogger

from trpo_ts.loggers.env_step_logger import EnvStepLogger
from trpo_ts.loggers.sent_steps import SentSteps

__all__ = ["EnvStepWandbLogger", "check_wandb", "wandb_logger"]


def check_wandb() -> None:
    """Check that Weights & Biases is installed.

    :raises ValueError: when it is not; the message says what to install.
    """
    if importlib.util.find_spec("wandb") is None:
        raise ValueError('the logger wandb needs the package wandb; type pip install "trpo-ts[wandb]"')


def wandb_logger(
    folder: str | os.PathLike[str],
    *,
    project: str | None = None,
    name: str | None = None,
    entity: str | None = None,
    group: str | None = None,
    job_type: str | None = None,
    config: Mapping[str, Any] | None = None,
    run_id: str | None = None,
    save_interval: int | None = 1,
    upload_checkpoints: bool = False,
) -> EnvStepWandbLogger:
    """Return a logger that begins a run of Weights & Biases, or continues the one that was begun in the same folder.

    The folder holds the run's id and what was sent, so that a training that resumes continues its run, and sends
    nothing twice. ``WANDB_MODE=offline`` sends nothing: ``wandb sync`` does so later. Where a run of wandb is open
    already, it is used, and the parameters from ``project`` to ``run_id`` have no effect.

    :param folder: the training's own; made if missing.
    :param project: None takes ``WANDB_PROJECT``, or ``"trpo-ts"``.
    :param name: the name of the run; None lets wandb draw one.
    :param entity: the account or the team; None takes that of the login.
    :param group: the name that runs with several seeds share.
    :param job_type: wandb's kind of the run.
    :param config: settings, which wandb shows with the run.
    :param run_id: another id than the one in the folder.
    :param save_interval: epochs between two calls of ``save_checkpoint_fn``; None for no calls.
    :param upload_checkpoints: whether the file that it wrote is uploaded.
    :raises ValueError: when wandb is not installed.
    """
    check_wandb()
    import wandb

    folder = Path(folder)
    sent = SentSteps(folder / "wandb_run.json")
    begin = partial(
        _begin_run,
        folder,
        project=project or os.environ.get("WANDB_PROJECT", "trpo-ts"),
        name=name,
        entity=entity,
        group=group,
        job_type=job_type,
        config=None if config is None else dict(config),
    )
    is_own = wandb.run is None
    if is_own:
        begin(run_id or sent.run_id)
    return EnvStepWandbLogger(
        sent,
        begin_run=begin if is_own and run_id is None else None,
        save_interval=save_interval,
        upload_checkpoints=upload_checkpoints,
    )


def _begin_run(folder: Path, run_id: str | None, **settings: Any) -> None:
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    # An absolute path: the process of wandb that writes there may have begun in another folder.
    wandb.init(id=run_id, resume="allow", dir=folder.resolve(), **settings)


class EnvStepWandbLogger(EnvStepLogger, WandbLogger):
    """Tianshou's logger for the run of wandb that is open, with everything over environment steps.

    Rows go to the run itself, not by way of TensorBoard's files: each has ``global_step``, which is the axis of all
    charts. What a resumed training does again is not sent again.

    :param sent: remembers what was sent.
    :param begin_run: opens a run with an id, or a new one with None; with None in its place, no other run is opened.
    :param save_interval: see :func:`wandb_logger`.
    :param upload_checkpoints: see :func:`wandb_logger`.
    """

    def __init__(
        self,
        sent: SentSteps,
        *,
        begin_run: Callable[[str | None], None] | None = None,
        save_interval: int | None = 1,
        upload_checkpoints: bool = False,
    ) -> None:
        super().__init__(save_interval=save_interval)
        self.begin_counting()
        self._sent, self._begin_run, self._upload_checkpoints = sent, begin_run, upload_checkpoints
        self._take_run()

    def write_scalars(self, scope: str, env_step: int, values: dict[str, Any]) -> None:
        """Send a row, unless a resumed training had sent it before."""
        if self._sent.are_anothers:
            self._begin_anew()
        if self._sent.is_new(scope, env_step):
            self.wandb_run.log({"global_step": env_step, **values})
            self._sent.add(scope, env_step)

    def _take_run(self) -> None:
        self.wandb_run.define_metric("*", step_metric="global_step")
        if self.wandb_run.id != self._sent.run_id:
            self._sent.begin(self.wandb_run.id)

    def _begin_anew(self) -> None:
        """Leave the run of a training that this one does not continue."""
        import wandb

        before = self._sent.run_id
        if self._begin_run is not None:
            self.wandb_run.finish()
            self._begin_run(None)
            assert wandb.run is not None
            self.wandb_run = wandb.run
            warnings.warn(f"run {before} of wandb is another training's; this one is run {wandb.run.id}", stacklevel=5)
        self._sent.begin(self.wandb_run.id)
        self._take_run()

    def save_data(
        self,
        epoch: int,
        env_step: int,
        update_step: int,
        save_checkpoint_fn: Callable[[int, int, int], str] | None = None,
    ) -> None:
        """Call ``save_checkpoint_fn``, and upload what it wrote if that is wanted."""
        if self._upload_checkpoints:
            super().save_data(epoch, env_step, update_step, save_checkpoint_fn)
        else:
            self.save_if_due(epoch, env_step, update_step, save_checkpoint_fn)

    def restore_data(self) -> tuple[int, int, int]:
        """Return the counters of the newest checkpoint that was uploaded; zeros where none is."""
        if not self._upload_checkpoints:
            return 0, 0, 0
        epoch, env_step, update_step = super().restore_data()
        self.cut_after(epoch=epoch, env_step=env_step, update_step=update_step)
        return epoch, env_step, update_step

    def cut_after(self, *, epoch: int, env_step: int, update_step: int) -> None:
        """Continue after these environment steps; what was sent stays, and is not sent again."""
        self._sent.resume()
        self.last_save_step = epoch
        self.continue_after(env_step, env_step)
