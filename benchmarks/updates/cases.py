"""The updates that are compared: rollout, networks, how long they trained before, and who takes part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import gymnasium as gym

from updates.catch import Catch, convolutional_networks
from updates.sides import ALL, BASELINE, CLOSE, GAUSS_NEWTON, OURS, available
from updates.start import Start, synthetic_start, trained_start
from updates.training import networks

__all__ = ["CASES", "LARGE", "SMALL", "Case", "quick_cases"]

SMALL, LARGE = "1,024 samples, 17-64-64-6", "16,384 samples, 376-256-256-17"
WITH_CLOSE = (*ALL, CLOSE)
WITH_MINIBATCHES = (*WITH_CLOSE[:2], "SB3-contrib, 10 epochs of minibatches", *WITH_CLOSE[2:])
ON_IMAGES = (BASELINE, OURS, GAUSS_NEWTON)  # the peers' networks for images share layers between policy and critic


@dataclass(frozen=True)
class Case:
    """An update.

    :param name: as the tables call it.
    :param start: makes what the sides begin with.
    :param rounds: how often each side updates.
    :param sides: who takes part.
    """

    name: str
    start: Callable[[], Start]
    rounds: int
    sides: tuple[str, ...] = ALL


def _trained(task: str, hidden: tuple[int, ...], samples: int, updates: int) -> Callable[[], Start]:
    return partial(trained_start, partial(gym.make, task), partial(networks, hidden=hidden), samples, updates)


def _images(samples: int, updates: int) -> Callable[[], Start]:
    return partial(trained_start, Catch, convolutional_networks, samples, updates, normalise=False)


CASES = (
    Case(SMALL, _trained("HalfCheetah-v4", (64, 64), 1024, 200), 41, WITH_MINIBATCHES),
    Case(f"{SMALL}, Walker2d", _trained("Walker2d-v4", (64, 64), 1024, 200), 41, WITH_MINIBATCHES),
    Case(LARGE, _trained("Humanoid-v4", (256, 256), 16_384, 8), 7, WITH_CLOSE),
    Case("200,000 samples, 17-64-64-6, synthetic", partial(synthetic_start, 200_000, (64, 64)), 3),
    Case("512 images of 4 x 42 x 42, convolutions", _images(512, 50), 7, ON_IMAGES),
)


def quick_cases() -> tuple[Case, ...]:
    """Return cases of some seconds, without MuJoCo, for the sides whose libraries are installed."""
    return (
        Case("quick", _trained("Pendulum-v1", (8, 8), 128, 2), 1, available(WITH_MINIBATCHES)),
        Case("quick, synthetic", partial(synthetic_start, 256, (8, 8)), 1, available(ALL)),
        Case("quick, images", _images(16, 0), 1, ON_IMAGES),
    )
