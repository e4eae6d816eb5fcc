"""Environments with all that a collector meets, and comparisons with Tianshou's collector, which is the oracle."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, is_dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from tianshou.algorithm.algorithm_base import Policy
from tianshou.data import Batch, Collector, CollectStats, ReplayBuffer, ReplayBufferManager
from tianshou.utils.torch_utils import policy_within_training_step

from trpo_ts.collectors import RolloutCollector

OBSERVATIONS: dict[str, gym.Space[Any]] = {
    "box": spaces.Box(-np.inf, np.inf, (3,), np.float32),
    "float64": spaces.Box(-np.inf, np.inf, (3,), np.float64),
    "discrete": spaces.Discrete(5),
    "image": spaces.Box(0, 255, (16, 16, 1), np.uint8),
    "dict": spaces.Dict(
        {
            "place": spaces.Box(-np.inf, np.inf, (2,), np.float32),
            "inner": spaces.Dict({"count": spaces.Discrete(4), "flag": spaces.MultiBinary(2)}),
        }
    ),
    "masked": spaces.Dict(
        {"seen": spaces.Box(-np.inf, np.inf, (2,), np.float32), "mask": spaces.Box(0, 1, (4,), np.int8)}
    ),
}
ACTIONS: dict[str, gym.Space[Any]] = {
    "box": spaces.Box(-2.0, 2.0, (2,), np.float32),
    "discrete": spaces.Discrete(4),
    "several": spaces.MultiDiscrete([3, 2]),
}


class Unsteady(gym.Env[Any, Any]):
    """Observations from its own generator, episodes of any length, and whatever infos are asked for.

    ``ends`` is "random", "never", or "every" step; "both" ends by termination and truncation in one step. ``infos`` is
    "none", "numbers", "some" (a key at some steps only), "nested", "reused" (one dictionary, changed in place) or
    "first" (at reset only). With ``own_arrays`` a Dict's arrays are the environment's own, changed in place.
    """

    def __init__(
        self,
        obs: str = "box",
        act: str = "box",
        ends: str = "random",
        infos: str = "numbers",
        own_arrays: bool = False,
    ) -> None:
        self.observation_space, self.action_space = OBSERVATIONS[obs], ACTIONS[act]
        self._obs, self._ends, self._infos, self._own_arrays = obs, ends, infos, own_arrays
        self._info: dict[str, Any] = {}
        self._arrays: dict[str, np.ndarray] = {}  # made where they are used: Ray would make them read-only
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self._steps = 0
        return self._observe(), {"first": 1.5} if self._infos == "first" else self._inform()

    def step(self, action: Any) -> Any:
        assert np.shape(action) == self.action_space.shape, action
        self._steps += 1
        reward = float(np.sum(action)) + self.np_random.standard_normal()
        draw = self.np_random.random()
        terminated = {"random": draw < 0.15, "every": draw < 0.5, "both": draw < 0.2, "never": False}[self._ends]
        truncated = {"random": draw > 0.9, "every": draw >= 0.5, "both": draw < 0.2, "never": False}[self._ends]
        return self._observe(), reward, bool(terminated), bool(truncated), self._inform()

    def _observe(self) -> Any:
        rng = self.np_random
        if self._obs in ("box", "float64"):
            return rng.standard_normal(3).astype(self.observation_space.dtype)
        if self._obs == "discrete":
            return int(rng.integers(5))
        if self._obs == "image":
            return rng.integers(0, 256, (16, 16, 1), dtype=np.uint8)
        if self._obs == "masked":
            mask = rng.integers(0, 2, 4).astype(np.int8)
            mask[rng.integers(4)] = 1
            return {"seen": self._array("seen"), "mask": mask}
        flag = rng.integers(0, 2, 2).astype(np.int8)
        return {"place": self._array("place"), "inner": {"count": int(rng.integers(4)), "flag": flag}}

    def _array(self, name: str) -> np.ndarray:
        array = self._arrays.setdefault(name, np.zeros(2, np.float32))
        array[:] = self.np_random.standard_normal(2)
        return array if self._own_arrays else array.copy()

    def _inform(self) -> dict[str, Any]:
        numbers: dict[str, Any] = {"steps": self._steps, "draw": float(self._steps) / 3, "even": self._steps % 2 == 0}
        if self._infos in ("none", "first"):
            return {}
        if self._infos == "some" and self._steps % 3:
            del numbers["draw"]
        if self._infos == "nested":
            numbers["inner"] = {"array": np.arange(3.0) * self._steps, "count": np.int32(self._steps)}
        if self._infos == "reused":
            self._info.update(numbers)
            return self._info
        return numbers


@dataclass
class Collected:
    """What a collector did."""

    buffer: ReplayBuffer
    stats: list[CollectStats]
    collector: Collector[CollectStats]
    generator: torch.Tensor


Kind = type[Collector[CollectStats]]


def collected(
    kind: Kind,
    make_policy: Callable[[], Policy],
    make_env: Callable[[], Any],
    make_buffer: Callable[[], ReplayBuffer],
    collects: Sequence[dict[str, Any]],
    training: bool = True,
    **options: Any,
) -> Collected:
    """Return what a kind of collector does, from the same seeds."""
    torch.manual_seed(0)
    policy = make_policy()
    collector = kind(policy, make_env(), make_buffer(), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of n_step that is no multiple, and of few episodes
        collector.reset(gym_reset_kwargs={"seed": 7})
        with policy_within_training_step(policy) if training else nullcontext():
            stats = [collector.collect(**arguments) for arguments in collects]
    return Collected(collector.buffer, stats, collector, torch.get_rng_state())


def assert_as_tianshou(*arguments: Any, **options: Any) -> Collected:
    """Check that ``RolloutCollector`` does what Tianshou's collector does, bit for bit; return what it did."""
    theirs, ours = (collected(kind, *arguments, **options) for kind in (Collector, RolloutCollector))
    assert_equal(theirs.buffer._meta, ours.buffer._meta)
    for their_part, our_part in zip(positions(theirs.buffer), positions(ours.buffer), strict=True):
        assert_equal(their_part, our_part)
    for their_stats, our_stats in zip(theirs.stats, ours.stats, strict=True):
        for name, value in vars(their_stats).items():
            if name not in ("collect_time", "collect_speed"):
                assert_equal(value, getattr(our_stats, name), name)
    assert torch.equal(theirs.generator, ours.generator)
    for name in ("_pre_collect_obs_RO", "_pre_collect_info_R", "_pre_collect_hidden_state_RH", "collect_step"):
        assert_equal(getattr(theirs.collector, name), getattr(ours.collector, name), name)
    assert theirs.collector.collect_episode == ours.collector.collect_episode
    return ours


def positions(buffer: ReplayBuffer) -> list[dict[str, Any]]:
    """Return where a buffer, and each of its parts, will write next, and the episodes that run."""
    parts = list(buffer.buffers) if isinstance(buffer, ReplayBufferManager) else [buffer]
    names = ("_insertion_idx", "_size", "_ep_return", "_ep_len", "_ep_start_idx", "last_index")
    found = [{name: np.asarray(getattr(part, name), dtype=float) for name in names} for part in parts]
    whole = {"length": len(buffer), "last": buffer.last_index, "indices": buffer.sample_indices(0)}
    return [*found, whole]


def assert_equal(left: Any, right: Any, name: str = "") -> None:
    """Check that two values are equal, in dtype and bit for bit."""
    if isinstance(left, Batch | dict):
        assert set(left.keys()) == set(right.keys()), (name, set(left.keys()) ^ set(right.keys()))
        for key in left.keys():  # noqa: SIM118  a Batch is not iterated by its keys
            assert_equal(left[key], right[key], f"{name}.{key}")
    elif is_dataclass(left):
        assert type(left) is type(right), name
        assert_equal(vars(left), vars(right), name)
    elif isinstance(left, torch.Tensor):
        assert left.dtype == right.dtype, name
        assert torch.equal(left, right), name
    elif isinstance(left, np.ndarray):
        assert (left.dtype, left.shape) == (right.dtype, right.shape), (name, left.dtype, right.dtype)
        if left.dtype == object:
            for one, other in zip(left.ravel(), right.ravel(), strict=True):
                assert_equal(one, other, name)
        else:
            assert left.tobytes() == right.tobytes(), (name, left, right)
    elif isinstance(left, list):
        np.testing.assert_array_equal(left, right, name)
    else:
        assert left == right or (left != left and right != right), (name, left, right)
