"""The contract over ranks, on random policies, settings, shares and faults of one rank."""

from __future__ import annotations

import pytest
from random_ranks import broken, run_case
from rank_pool import RankPool


@pytest.mark.parametrize("number", range(6))
def test_the_contract_holds_over_ranks(ranks: RankPool, number: int):
    result = run_case(ranks, number)
    assert not broken(result), result


@pytest.mark.slow
@pytest.mark.parametrize("number", range(200, 230))
def test_the_contract_holds_over_ranks_in_more_cases(ranks: RankPool, number: int):
    result = run_case(ranks, number)
    assert not broken(result), result
