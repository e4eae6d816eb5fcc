"""The updates that are compared: rollout, networks, how long they trained before, and who takes part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import gymnasium as gym

from updates.catch import Catch, convolutional_networks
from updates.sides import ALL, BASELINE, CLOSE, GAUSS_NEWTON, MINIBATCHES, OURS
from updates.start import Start, perceptrons, synthetic_start, trained_start


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


def trained(task: str, hidden: tuple[int, ...], samples: int, updates: int) -> Callable[[], Start]:
    """Return what makes the start of a policy that trained on a task for so many updates."""
    return partial(trained_start, partial(gym.make, task), partial(perceptrons, hidden=hidden), samples, updates)


def images(samples: int, updates: int) -> Callable[[], Start]:
    """Return the same for a policy that sees images."""
    return partial(trained_start, Catch, convolutional_networks, samples, updates, normalise=False)


SMALL, LARGE = "1,024 samples, 17-64-64-6", "16,384 samples, 376-256-256-17"
WITH_MINIBATCHES = (*ALL[:2], MINIBATCHES, *ALL[2:], CLOSE)
ON_IMAGES = (BASELINE, OURS, GAUSS_NEWTON)  # the peers' networks for images share layers between policy and critic
CASES = (
    Case(SMALL, trained("HalfCheetah-v4", (64, 64), 1024, 200), 41, WITH_MINIBATCHES),
    Case(f"{SMALL}, Walker2d", trained("Walker2d-v4", (64, 64), 1024, 200), 41, WITH_MINIBATCHES),
    Case(LARGE, trained("Humanoid-v4", (256, 256), 16_384, 8), 7, (*ALL, CLOSE)),
    Case("200,000 samples, 17-64-64-6, synthetic", partial(synthetic_start, 200_000, (64, 64)), 3),
    Case("512 images of 4 x 42 x 42, convolutions", images(512, 50), 7, ON_IMAGES),
)
SAMPLES, WIDTH = 4096, 64
GROWTH = dict.fromkeys(
    [(1024 * 2**i, WIDTH) for i in range(7)] + [(SAMPLES, width) for width in (32, 64, 128, 256, 512)]
)
"""Samples and widths: along each of both, while the other is :data:`SAMPLES` or :data:`WIDTH`."""
