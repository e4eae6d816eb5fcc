"""What a run leaves on disk to be restored from: one file, written whole, read without running code from it."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tianshou.env import BaseVectorEnv, VectorEnvNormObs, VectorEnvWrapper
from tianshou.highlevel.module.core import TDevice
from tianshou.highlevel.persistence import Persistence, PersistEvent, PolicyPersistence, RestoreEvent
from tianshou.highlevel.world import World
from tianshou.utils import RunningMeanStd

from trpo_ts.atomic_write import atomic_write
from trpo_ts.state_dict import plain

__all__ = ["StatePersistence"]


class StatePersistence(PolicyPersistence):
    """Persists the state of the algorithm together with the running statistics of the observations.

    The best policy of the test steps is saved in ``state_best.pt``; with a ``save_interval`` of the logger, epoch n is
    saved in ``state_epoch_n.pt``. Tianshou pickles the algorithm instead, into a file that torch refuses to load since
    version 2.6, and leaves out the statistics, without which a restored policy sees other observations. A file is
    replaced as a whole, and read by torch's restricted loader, in memory that its own length bounds: one from an
    untrusted source cannot run code.

    :param additional_persistence: handlers that are called besides, such as those of an environment factory.
    :param enabled: whether anything is saved; restoring always works.
    :param continued: whether the run continues in the folder it restores from: then it restores the latest epoch, and
        replaces the best state only by one with a higher score.
    """

    BEST = "state_best.pt"
    _EPOCH = re.compile(r"state_epoch_(\d+)\.pt")

    def __init__(
        self, additional_persistence: Persistence | None = None, enabled: bool = True, continued: bool = False
    ) -> None:
        super().__init__(additional_persistence, enabled, PolicyPersistence.Mode.POLICY_STATE_DICT)
        self.continued = continued
        self._best_score = -math.inf

    def persist(self, policy: torch.nn.Module, world: World) -> None:
        """Save the state as the best so far."""
        # Tianshou's trainer counts its first test as the best, which it need not be where a run is continued.
        score = float(world.trainer._best_score) if world.trainer is not None else math.nan
        if self.enabled and not score < self._best_score:
            self._best_score = score
            self._save(self.BEST, world, score)

    def get_save_checkpoint_fn(self, world: World) -> Callable[[int, int, int], str] | None:
        """Return the function that saves the state of an epoch."""
        if not self.enabled:
            return None
        return lambda epoch, env_step, update_step: self._save(f"state_epoch_{epoch}.pt", world, math.nan)

    def restore(self, policy: torch.nn.Module, world: World, device: TDevice) -> None:
        """Load the best state, or the latest where the run is continued, into the algorithm and the environments.

        :raises FileNotFoundError: when there is none.
        :raises ValueError: for a file that is no such state, or that has observation statistics where the environments
            normalise nothing, or the other way round; nothing has changed then.
        """
        folder = Path(world.restore_path(""))
        best = folder / self.BEST
        path = (self._latest(folder) or best) if self.continued else best
        state = _read(path)
        statistics = None if state["observations"] is None else _statistics(state["observations"])
        normalisers = _normalisers(world)
        if (statistics is None) == bool(normalisers):
            raise ValueError(
                f"{path} must hold observation statistics exactly if the environments normalise, got "
                f"{'none' if normalisers else 'some for environments that do not'}; set obs_norm as in the saved run"
            )
        policy.load_state_dict(state["algorithm"])
        if self.additional_persistence is not None:
            self.additional_persistence.restore(RestoreEvent.RESTORE_POLICY, world)
        if statistics is not None:
            for normaliser in normalisers:
                normaliser.set_obs_rms(statistics)
        if self.continued and best.exists():
            self._best_score = _read(best)["score"]

    def _save(self, name: str, world: World, score: float) -> str:
        path = world.persist_path(name)
        training = _normaliser(world.envs.training_envs)
        state = {
            "algorithm": plain(world.algorithm.state_dict()),
            "observations": None if training is None else _plain_statistics(training.get_obs_rms()),
            "score": score,
        }
        content = BytesIO()
        torch.save(state, content)
        atomic_write(path, content.getvalue())
        if self.additional_persistence is not None:
            self.additional_persistence.persist(PersistEvent.PERSIST_POLICY, world)
        return path

    def _latest(self, folder: Path) -> Path | None:
        epochs = {int(m[1]): path for path in folder.iterdir() if (m := self._EPOCH.fullmatch(path.name))}
        return epochs[max(epochs)] if epochs else None


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; restore from the folder of a run of trpo_ts.highlevel")
    problem = f"{path} must be a whole state that a run of trpo_ts.highlevel saved"
    if not path.is_file():  # to open a pipe would wait for a writer
        raise ValueError(f"{problem}, got a folder, a device or a pipe")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_size(archive, path.stat().st_size)
            damaged = archive.testzip()  # torch does not look whether numbers are those that were written
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file ends in whatever its bytes happen to mean
        raise ValueError(f"{problem}, got another or damaged file ({error})") from error
    if damaged or not isinstance(state, dict) or not {"algorithm", "observations", "score"} <= state.keys():
        raise ValueError(f"{problem}, got {f'a damaged {damaged}' if damaged else f'a {type(state).__name__}'}")
    return state


def _check_size(archive: zipfile.ZipFile, length: int) -> None:
    """Check that what an archive holds is no longer than its file, as of those that torch writes.

    :raises ValueError: for compressed records, or such as overlap: a small file could fill the memory by them.
    """
    records = archive.infolist()
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise ValueError("its records are compressed")
    if sum(record.file_size for record in records) > length:
        raise ValueError("its records are longer than the file")


def _normalisers(world: World) -> list[VectorEnvNormObs]:
    venvs = (world.envs.training_envs, world.envs.test_envs, world.envs.watch_env)
    return [normaliser for venv in venvs if (normaliser := _normaliser(venv)) is not None]


def _normaliser(venv: BaseVectorEnv | None) -> VectorEnvNormObs | None:
    while isinstance(venv, VectorEnvWrapper) and not isinstance(venv, VectorEnvNormObs):
        venv = venv.venv
    return venv if isinstance(venv, VectorEnvNormObs) else None


def _plain_statistics(statistics: RunningMeanStd) -> dict[str, Any]:
    # In NumPy's precision, which is that of the observations: another rounds a normalised observation differently.
    return {
        "mean": torch.as_tensor(np.asarray(statistics.mean)),
        "var": torch.as_tensor(np.asarray(statistics.var)),
        "count": int(statistics.count),
        "clip_max": statistics.clip_max,
        "eps": float(statistics.eps),
    }


def _statistics(state: dict[str, Any]) -> RunningMeanStd:
    statistics = RunningMeanStd(state["mean"].numpy(), state["var"].numpy(), state["clip_max"], state["eps"])
    statistics.count = state["count"]
    return statistics
