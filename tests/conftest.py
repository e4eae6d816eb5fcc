"""Settings for all tests."""

import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import settings

# The networks of the tests are small: more threads only wait for each other.
torch.set_num_threads(1)

# A shell that starts the tests in the background lets them ignore Ctrl-C, and what they start too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# `make test` tries the same cases each time. `make nightly` draws new ones, ten times as many.
settings.register_profile("ci", derandomize=True, deadline=None, max_examples=100)
settings.register_profile("nightly", derandomize=False, deadline=None, max_examples=1000, print_blob=True)
settings.load_profile("ci")


def pytest_collection_finish() -> None:
    """Keep what numba compiles for Tianshou, as the command line does: each process would compile it anew."""
    if "tianshou" in sys.modules:
        from trpo_ts.cli.compiled_functions import keep_compiled

        keep_compiled()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Run a headless browser; without one the test is skipped."""
    from browser import browser

    with browser() as running:
        yield running


@pytest.fixture
def seeded() -> None:
    """Start torch's generator at one place: for networks that are made with its numbers."""
    torch.manual_seed(0)
