"""What ranks send each other arrives, whatever its length and on whichever way."""

from __future__ import annotations

import pytest
from rank_jobs import exchange_long_messages, sum_other_lengths
from rank_pool import RankPool


@pytest.mark.parametrize("shared", [True, False])
def test_long_messages_arrive_whole(ranks: RankPool, shared: bool):
    for found in ranks.results(3, exchange_long_messages, shared):
        assert found == {"sums": [6.0, 6.0], "lengths": [200, 1, 130], "numbers": [199.0, 0.0, 129.0], "first": 0.0}


def test_messages_of_other_lengths_are_an_error_on_all(ranks: RankPool):
    for text in ranks.results(2, sum_other_lengths):
        assert "the ranks sent [10, 11] numbers" in text
