"""Ranks for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rank_pool import RankPool


@pytest.fixture(scope="session")
def ranks() -> Iterator[RankPool]:
    """Four processes that wait for work."""
    pool = RankPool(4)
    yield pool
    pool.close()
