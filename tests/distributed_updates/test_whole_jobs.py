"""Trainings on several ranks: one count, one set of statistics, one checkpoint; and ranks that are lost."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rank_jobs import lose_a_rank, raise_in_the_middle, train_job
from rank_pool import RankPool


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    pairs = zip([*a["parameters"], *a["statistics"]], [*b["parameters"], *b["statistics"]], strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def files(folder: Path | str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def test_ranks_count_together_and_an_interrupted_run_ends_where_a_whole_one_does(ranks: RankPool, tmp_path: Path):
    whole = ranks.results(2, train_job, str(tmp_path / "whole"), 512)
    assert [result["steps"] for result in whole] == [512, 512]
    # Each step's observation, each first one: of four environments, whichever rank has them. Reset observations of new
    # episodes, 24 of them, count as well.
    assert whole[0]["statistics"][2] == 512 + 4 + 24
    assert whole[0]["episodes"] == whole[1]["episodes"] == 24
    assert same(*whole)
    assert whole[0]["draw"] != whole[1]["draw"]
    assert whole[0]["best"] == whole[1]["best"]
    interrupted = str(tmp_path / "interrupted")
    ranks.results(2, train_job, interrupted, 256)
    resumed = ranks.results(2, train_job, interrupted, 512)
    for result, expected in zip(resumed, whole, strict=True):
        assert same(result, expected)
        assert result["draw"] == expected["draw"]
    assert files(interrupted) == files(tmp_path / "whole")


@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2), (2, 3)])
def test_a_run_resumes_on_another_number_of_ranks(ranks: RankPool, tmp_path: Path, first: int, then: int):
    before = ranks.results(first, train_job, str(tmp_path), 256)
    after = ranks.results(then, train_job, str(tmp_path), 512)
    assert [result["steps"] for result in after] == [512] * then
    assert all(same(after[0], other) for other in after)
    assert not same(after[0], before[0])
    assert len({result["draw"] for result in after}) == then


def test_a_rank_that_is_gone_is_an_error_on_the_others_that_changes_nothing(ranks: RankPool):
    results = ranks.results(3, lose_a_rank, "leaves", seconds=3)
    for rank in (0, 2):
        assert f"RankError: rank {rank} of 3 lost another one" in results[rank]


def test_a_rank_that_hangs_is_an_error_after_the_timeout(ranks: RankPool):
    results = ranks.results(2, lose_a_rank, "hangs", seconds=1)
    assert "did not answer within the timeout" in results[0]


@pytest.mark.parametrize("shared", [True, False])
def test_an_error_in_the_middle_of_an_update_is_said_by_the_others(ranks: RankPool, shared: bool):
    began = time.monotonic()
    first, second = ranks.results(2, raise_in_the_middle, shared, seconds=50)
    assert time.monotonic() - began < 30
    assert second == "MemoryError: no room for the candidate"
    assert "RankError: rank 0 of 2 lost another one" in first
    assert "rank 1 raised MemoryError: no room for the candidate" in first
