"""The memory that an update takes above its rollout, in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import torch

from updates.sides import build
from updates.start import synthetic_start

__all__ = ["peak", "peak_in_fresh_process"]

HIDDEN = (64, 64)


def peak(name: str, samples: int) -> float:
    """Return the megabytes by which an update of so many samples exceeds what is resident before it (Linux)."""
    first = build(name, synthetic_start(64, HIDDEN))
    first.reset()
    first.update()  # what any first update compiles and loads
    side = build(name, synthetic_start(samples, HIDDEN))
    side.reset()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins at what is resident now
    before = _status("VmRSS")
    side.update()
    return (_status("VmHWM") - before) / 1024


def peak_in_fresh_process(name: str, samples: int) -> float:
    """Return the same, undisturbed by what this process did before."""
    command = [sys.executable, "-m", "updates.memory", name, str(samples)]
    folder = Path(__file__).parent.parent
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder).stdout
    return float(json.loads(output.splitlines()[-1]))


def _status(field: str) -> int:
    """Return a field of the process's status, in kilobytes."""
    match = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if match is None:
        raise RuntimeError(f"/proc/self/status must have {field}; this benchmark needs Linux")
    return int(match.group(1))


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(peak(sys.argv[1], int(sys.argv[2]))))
