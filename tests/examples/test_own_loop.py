"""The own loop learns, needs no Tianshou, and the code of its page runs."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys

import pytest
import torch
from repository import ROOT


@pytest.fixture(scope="module")
def example() -> dict:
    return runpy.run_path(str(ROOT / "examples" / "own_loop.py"))


@pytest.mark.parametrize(
    ("options", "threshold"),
    [
        ({"env_id": "CartPole-v1", "total_steps": 45_000}, 475.0),
        (
            {"env_id": "Pendulum-v1", "total_steps": 100_000, "gamma": 0.9, "reward_scale": 0.1},
            -250.0,
        ),
    ],
    ids=["CartPole-v1", "Pendulum-v1"],
)
def test_it_learns(example: dict, options: dict, threshold: float):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            policy = example["train"](example["Args"](**options))
    finally:
        torch.set_num_threads(threads)
    assert example["evaluate"](policy, options["env_id"]) >= threshold


def test_it_needs_no_tianshou():
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1]); "
        "assert not [name for name in sys.modules if name.startswith('tianshou')]"
    )
    subprocess.run([sys.executable, "-c", code, str(ROOT / "examples" / "own_loop.py")], check=True)


def test_the_code_of_the_page_runs(capsys: pytest.CaptureFixture[str]):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "own_loop.md").read_text(), re.DOTALL | re.MULTILINE)
    scope: dict = {"__name__": "page"}
    with torch.random.fork_rng():
        for block in blocks:
            exec(compile(block, "own_loop.md", "exec"), scope)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == lines[-1].replace(" True", " True True", 1) == "ACCEPTED True True"
    assert all("False" not in line for line in lines)
