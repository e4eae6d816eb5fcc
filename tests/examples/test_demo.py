"""``make demo`` as it is typed: it learns in less than a minute, and its page is whole."""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from subprocess import run

import pytest
from browser import whole_page
from repository import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Return the folder of the demo and the seconds of CPU time that it took."""
    home = tmp_path_factory.mktemp("demo")
    for name in ("examples", "pyproject.toml", "constraints.txt"):
        (home / name).symlink_to(ROOT / name)
    (home / "installed").touch()  # newer than pyproject.toml: nothing is installed
    command = ["make", "-f", ROOT / "Makefile", "demo", f"BIN={Path(sys.executable).parent}", "STAMP=installed"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(command, cwd=home, env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return home / "runs" / "point_mass", after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_demo_learns_in_less_than_a_minute(demo):
    folder, cpu_seconds = demo
    summary = json.loads((folder / "summary.json").read_text())
    print(f"training {summary['wall_seconds']} s; all with imports and report {cpu_seconds:.1f} s of CPU time")
    assert summary["env_steps"] >= 400_000
    assert summary["final_return_mean"] > -26.0  # random actions have about -300, the best controller has -22
    assert summary["max_kl_seen"] <= 0.02
    assert cpu_seconds < 60.0  # what the clock says where nothing else runs


@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_of_the_demo_is_whole(demo, chromium, width):
    with whole_page(chromium, demo[0] / "report.html", width) as page:
        assert page.value("document.querySelectorAll('.chart').length") >= 14
