"""The configuration of a job: all that decides how a training runs, as values that a file can hold."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Unpack, get_args

from trpo_ts.choices import Activation, Backend, EnvBackend, Memory
from trpo_ts.envs.tasks import SHAPING, backend_of
from trpo_ts.presets import Settings, choose_preset
from trpo_ts.presets.job_settings import SCHEDULED
from trpo_ts.training.components import critic_fit_of, number_or_schedule_of, preconditioner_of
from trpo_ts.training.job_overrides import JobOverrides
from trpo_ts.validation.parameter_values import check_bool, check_choice, check_instance, check_integer

__all__ = ["JobConfig", "check_seed", "resolve"]

_LARGEST_SEED = 2**32 - 1
"""The largest that NumPy's global generator takes."""

_COMPONENTS: dict[str, Callable[[Any], Any]] = {
    "critic_fit": critic_fit_of,
    "preconditioner": preconditioner_of,
    **{name: partial(number_or_schedule_of, name) for name in SCHEDULED},
}


@dataclass(frozen=True, kw_only=True)
class JobConfig:
    """What decides how a training runs: task, seed, preset, who runs the environments, and all settings.

    :raises ValueError: for a value outside its range; what is TRPO's and the networks' is checked when they are built.
    """

    task: str
    seed: int
    preset: str
    env_backend: Backend
    settings: Settings

    def __post_init__(self) -> None:
        for name in ("task", "preset"):
            check_instance(name, getattr(self, name), str, "such as 'CartPole-v1'" if name == "task" else "its name")
        check_seed("seed", self.seed)
        check_choice("env_backend", self.env_backend, get_args(Backend))
        for name in ("steps", "test_episodes", "num_envs", "segment", "frame_stack", "memory_size", "repeat"):
            check_integer(name, getattr(self.settings, name), 1)
        if self.settings.max_episode_steps is not None:
            check_integer("max_episode_steps", self.settings.max_episode_steps, 1)
        check_integer("test_every", self.settings.test_every, 0)
        if self.settings.batch_size is not None:
            check_integer("batch_size", self.settings.batch_size, 1)
        check_bool("normalise_observations", self.settings.normalise_observations)
        check_choice("memory", self.settings.memory, get_args(Memory))
        check_choice("activation", self.settings.activation, get_args(Activation))

    def as_dict(self) -> dict[str, Any]:
        """Return everything by name, the settings among them, as JSON holds it."""
        own = {"task": self.task, "seed": self.seed, "preset": self.preset, "env_backend": self.env_backend}
        return {**own, **asdict(self.settings)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> JobConfig:
        """Return what :meth:`as_dict` wrote.

        :raises TypeError: for a name that is missing, or no setting.
        """
        settings = {name: value for name, value in values.items() if name in Settings.names()}
        own = {name: value for name, value in values.items() if name not in settings}
        return cls(settings=Settings.of(settings), **own)


def resolve(
    task: str,
    preset: str | None = None,
    seed: int = 0,
    *,
    env_backend: EnvBackend = "auto",
    **overrides: Unpack[JobOverrides],
) -> JobConfig:
    """Return the configuration of a job: the preset's settings, and those that are given in place of them.

    :param task: the id of a registered environment.
    :param preset: the name of a preset; None takes the one that names the task, else the one for its observations.
    :param seed: seeds networks, actions and environments, >= 0.
    :param env_backend: ``"gymnasium"``, ``"envpool"``, ``"ray"``, or ``"auto"``: EnvPool for what only it has.
    :param overrides: settings; critic fits and preconditioners as objects or as texts.
    :raises ValueError: for an unknown task or preset, missing packages, a preset for other observations, and values
        out of range.
    :raises TypeError: for a name that is no setting.
    """
    check_instance("task", task, str, "the id of a registered environment, such as 'CartPole-v1'")
    if preset is not None:
        check_instance("preset", preset, str, "the name of a preset, or None for the task's")
    backend = backend_of(task, env_backend)
    given: dict[str, Any] = {**overrides}
    shaping = {name: given[name] for name in SHAPING if name in given}
    chosen = choose_preset(task, preset, backend=backend, **shaping)
    settings = chosen.settings(task, **{name: _text(name, value) for name, value in given.items()})
    return JobConfig(task=task, seed=seed, preset=chosen.name, env_backend=backend, settings=settings)


def check_seed(name: str, value: int) -> None:
    """Check that a number can seed all random generators.

    :raises ValueError: otherwise.
    """
    if check_integer(name, value, 0) > _LARGEST_SEED:
        raise ValueError(f"{name} must be an integer <= {_LARGEST_SEED}, got {value}")


def _text(name: str, value: Any) -> Any:
    """Return a component as the text that describes it; other values, and texts, as they are."""
    if name not in _COMPONENTS or value is None or isinstance(value, numbers.Real):
        return value
    text = value if isinstance(value, str) else repr(value)
    _COMPONENTS[name](text)  # raises for what no file could hold
    return text
