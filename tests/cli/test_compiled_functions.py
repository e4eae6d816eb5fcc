"""Tianshou's compiled functions are kept from one start to the next."""

from __future__ import annotations

import os
import subprocess
import sys

CODE = """
from trpo_ts.cli.compiled_functions import keep_compiled
from tianshou.data import VectorReplayBuffer
from tianshou.data.buffer import manager
keep_compiled()
VectorReplayBuffer(4, 2)
statistics = getattr(manager._next_index, "stats", None)
print(sum(statistics.cache_hits.values()) if statistics else "plain")
"""


def hits(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", CODE], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_second_start_compiles_nothing(tmp_path):
    assert hits(NUMBA_CACHE_DIR=str(tmp_path)) == "0"
    assert hits(NUMBA_CACHE_DIR=str(tmp_path)) != "0"


def test_where_nothing_is_compiled_nothing_is_kept():
    assert hits(NUMBA_DISABLE_JIT="1") == "plain"
