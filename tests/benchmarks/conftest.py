"""What benchmarks and the libraries that they compare with change in the whole process is put back."""

from collections.abc import Iterator

import gymnasium as gym
import pytest
from torch.distributions import Distribution


@pytest.fixture(scope="module", autouse=True)
def settings_of_the_process() -> Iterator[None]:
    """Stable-Baselines3 switches the checks of distributions off when it is imported; jobs quieten Gymnasium."""
    validate, level = Distribution._validate_args, gym.logger.min_level
    yield
    Distribution.set_default_validate_args(validate)
    gym.logger.min_level = level
