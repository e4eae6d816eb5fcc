"""Films of an agent's episodes."""

from __future__ import annotations

import itertools
import math
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from trpo_ts.agents.acting_agent import ActingAgent
from trpo_ts.agents.evaluation import check_spaces, forget_noise
from trpo_ts.envs.tasks import with_flat_spaces
from trpo_ts.runtime import preserved_generators
from trpo_ts.training.job_config import check_seed
from trpo_ts.training.task_environments import environment_seeds
from trpo_ts.validation.parameter_values import check_bool, check_instance, check_integer, check_real

__all__ = ["film_agent"]

_MODE = "rgb_array"

_FASTEST_GIF = 50.0
"""Frames per second: GIF counts in hundredths of a second, and viewers slow shorter delays down."""

_USUAL_FPS = 30.0

_MP4: dict[str, Any] = {"macro_block_size": 2}
"""The sides of an H.264 film are even."""

_GIF: dict[str, Any] = {
    "codec": "gif",
    "macro_block_size": 1,
    "pix_fmt_out": "pal8",
    # A palette for each frame, in bounded memory.
    "output_params": ["-filter_complex", "split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1"],
}


def film_agent(
    agent: ActingAgent,
    path: str | os.PathLike[str],
    *,
    episodes: int,
    seed: int,
    env: gym.Env[Any, Any] | None,
    fps: float | None,
    deterministic: bool,
) -> Path:
    """Film episodes; see :meth:`trpo_ts.agents.Agent.record_video`."""
    file = Path(path)
    if file.suffix not in (".mp4", ".gif"):
        raise ValueError(f"path must end in .mp4 or .gif, got {os.fspath(path)!r}")
    check_integer("episodes", episodes, 1)
    check_seed("seed", seed)
    check_bool("deterministic", deterministic)
    if fps is not None:
        check_real("fps", fps, 0.0, low_open=True)
    _check_packages()
    filmed = _drawn(agent) if env is None else env
    try:
        _check_drawable(agent, filmed)
        rate = float(fps or filmed.metadata.get("render_fps") or _USUAL_FPS)
        with preserved_generators():
            torch.manual_seed(seed)
            frames = _frames(agent.fresh(), filmed, environment_seeds(seed, 0, episodes), bool(deterministic))
            return _write(file, frames, rate)
    finally:
        forget_noise(agent)
        if env is None:
            filmed.close()


def _check_packages() -> None:
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise ValueError('record_video needs packages; type: pip install "trpo-ts[video]"') from error


def _drawn(agent: ActingAgent) -> gym.Env[Any, Any]:
    """Return the agent's environment, which draws itself.

    :raises ValueError: where it cannot.
    """
    plain = agent.make_env()
    modes = plain.metadata.get("render_modes") or []
    plain.close()
    if _MODE not in modes:
        raise ValueError(
            f"task {agent.known_task().task} must be able to draw itself as {_MODE!r}, got the render_modes {modes}; "
            "pass env=... with a wrapper that draws"
        )
    return agent.make_env(render_mode=_MODE)


def _check_drawable(agent: ActingAgent, env: gym.Env[Any, Any]) -> None:
    check_instance("env", env, gym.Env, 'pass env=gymnasium.make(..., render_mode="rgb_array")')
    if env.render_mode != _MODE:
        raise ValueError(
            f"env must have render_mode {_MODE!r}, got {env.render_mode!r}; "
            'pass env=gymnasium.make(..., render_mode="rgb_array")'
        )
    check_spaces(agent, with_flat_spaces(env))


def _frames(agent: ActingAgent, env: gym.Env[Any, Any], seeds: list[int], deterministic: bool) -> Iterator[np.ndarray]:
    """Play an episode from each seed and yield what is seen, the first and the last observation too."""
    for seed in seeds:
        agent.reset()
        obs, _ = env.reset(seed=seed)
        yield _frame(env)
        over = False
        while not over:
            obs, _, terminated, truncated, _ = env.step(agent.act(obs, deterministic))
            over = bool(terminated or truncated)
            yield _frame(env)


def _frame(env: gym.Env[Any, Any]) -> np.ndarray:
    """Return the picture of an environment, bytes ``(H, W, 3)``."""
    try:
        frame: Any = env.render()
    except Exception as error:  # whatever draws may raise anything, as without a display
        raise ValueError(
            f'env cannot draw itself: {error}; MuJoCo without a display needs the variable MUJOCO_GL="egl" or "osmesa"'
        ) from error
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.dtype != np.uint8:
        raise ValueError(f"env.render() must return bytes of shape (H, W, 3), got {type(frame).__name__}")
    return frame


def _write(file: Path, frames: Iterator[np.ndarray], fps: float) -> Path:
    """Write a film, which is there as a whole or not at all."""
    from imageio_ffmpeg import write_frames

    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.stem}.{uuid.uuid4().hex}{file.suffix}")
    every, options = 1, _MP4
    if file.suffix == ".gif":
        every, options = math.ceil(fps / _FASTEST_GIF), _GIF
    first = next(frames)
    height, width, _ = first.shape
    writer = write_frames(os.fspath(unfinished), (width, height), fps=fps / every, **options)
    try:
        writer.send(None)
        for number, frame in enumerate(itertools.chain([first], frames)):
            if frame.shape != first.shape:
                raise ValueError(f"env.render() must return pictures of one shape, got {first.shape} and {frame.shape}")
            if number % every == 0:
                writer.send(np.ascontiguousarray(frame))
        writer.close()
        os.replace(unfinished, file)
    finally:
        writer.close()
        unfinished.unlink(missing_ok=True)
    return file
