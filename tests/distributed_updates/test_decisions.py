"""What one rank finds is decided for all of them, before anything is changed."""

from __future__ import annotations

import numpy as np
import pytest
from rank_cases import FAULTS, constant_rewards, train_from_other_seeds, train_with_fault
from rank_pool import RankPool

from trpo_ts.solver.outcomes import StepOutcome

NAMED = {
    "observations": "batch.obs must be finite",
    "rewards": "batch.rew must be finite",
    "no transition": "buffer must hold at least one transition",
    "critic": "critic must return one value per observation",
    "other settings": "the settings of the algorithm must be the same on all ranks",
    "other parameters": "parameters and return statistics must be the same on all ranks",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_on_one_rank_is_an_error_on_all_and_changes_nothing(ranks: RankPool, fault: str):
    results = ranks.results(3, train_with_fault, "gaussian", fault, 1)
    for rank, result in enumerate(results):
        assert NAMED[fault] in result["error"]
        assert not result["changed"]
        if not fault.startswith("other"):
            assert ("rank 1 raised ValueError" in result["error"]) == (rank != 1)
        else:
            assert "on rank 1;" in result["error"]


def test_ranks_start_with_the_parameters_of_the_first(ranks: RankPool):
    first, *others = ranks.results(3, train_from_other_seeds)
    for other in others:
        assert all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_advantages_are_constant_where_they_are_on_all_ranks(ranks: RankPool):
    somewhere = ranks.results(2, constant_rewards, False)
    assert [result["accepted"] for result in somewhere] == [1.0, 1.0]
    everywhere = ranks.results(2, constant_rewards, True)
    assert [result["outcome"] for result in everywhere] == [StepOutcome.CONSTANT_ADVANTAGES] * 2
