"""Updates on several ranks are those of one process that holds the same rows, and leave all ranks bitwise equal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from rank_cases import CASES, train, train_through_sockets
from rank_pool import RankPool

UPDATES = 20
TOLERANCE = 1e-10

QUICK = [
    ("gaussian", 2),
    ("gaussian", 4),
    ("categorical", 2),
    ("few rows", 4),
    ("minibatches", 2),
    ("l-bfgs", 2),
    ("shared trunk", 2),
    ("masks", 2),
    ("recurrent, few rows", 2),
]
OTHERS = [(name, size) for name in CASES for size in (2, 4) if (name, size) not in QUICK]
EXACT = ("kl", "max_kl", "surrogate_improvement", "entropy", "explained_variance", "cg_iterations", "vf_loss")


@cache
def alone(name: str) -> dict[str, Any]:
    return train(name, torch.float64, UPDATES)


def assert_equal(ranks: RankPool, name: str, size: int, job: Callable[..., dict[str, Any]] = train) -> None:
    wanted = alone(name)
    assert sum(stats["accepted"] for stats in wanted["stats"]) >= UPDATES / 2
    results = ranks.results(size, job, name, torch.float64, UPDATES)
    for result in results:
        for ours, one in zip(result["parameters"], wanted["parameters"], strict=True):
            np.testing.assert_allclose(ours, one, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(result["returns"], wanted["returns"], rtol=1e-10)
        for stats, expected in zip(result["stats"], wanted["stats"], strict=True):
            for key in EXACT:
                value, other = (s[key]["mean"] if isinstance(s[key], dict) else s[key] for s in (stats, expected))
                assert value == pytest.approx(other, rel=1e-7, abs=1e-9), key
        assert result["stats"] == results[0]["stats"]


@pytest.mark.parametrize(("name", "size"), QUICK)
def test_ranks_end_where_one_process_with_the_same_rows_does(ranks: RankPool, name: str, size: int):
    assert_equal(ranks, name, size)


def test_ranks_that_meet_through_sockets_end_there_too(ranks: RankPool):
    assert_equal(ranks, "categorical", 3, train_through_sockets)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), OTHERS)
def test_more_ranks_end_where_one_process_with_the_same_rows_does(ranks: RankPool, name: str, size: int):
    assert_equal(ranks, name, size)


@pytest.mark.parametrize("name", ["gaussian", "categorical"])
def test_float32_ranks_are_bitwise_equal(ranks: RankPool, name: str):
    first, *others = ranks.results(3, train, name, torch.float32, 5, 2)
    assert first["parameters"][0].dtype == np.float32
    for other in others:
        assert all(np.array_equal(a, b) for a, b in zip(first["parameters"], other["parameters"], strict=True))
        assert other["stats"] == first["stats"]


def test_the_number_of_reductions_is_that_in_the_documentation(ranks: RankPool):
    """docs/distributed.md: 4 + products + candidates of the policy, 2 + products + candidates of the critic's fit."""
    first, *later = ranks.results(2, train, "categorical", torch.float64, 3)[0]["stats"]
    for stats, layers in ((first, 2), *((stats, 0) for stats in later)):
        assert stats["cg_iterations"] == 1.0
        assert stats["reductions"] == 4 + 1 + (stats["backtracks"] + 1) + 2 + 2 + 1 + layers
    assert alone("gaussian")["stats"][0]["reductions"] == 0


def test_a_single_process_imports_nothing_of_the_ranks():
    alone("gaussian")
    assert "trpo_ts.distributed.process_group" not in sys.modules
