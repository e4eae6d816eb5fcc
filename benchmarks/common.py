"""What the benchmarks share: where results lie, what they ran on, tables and images in the documents, seeds."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import gymnasium as gym
import plotly.graph_objects as go
import torch

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
IMAGE_WIDTH = 1100
PACKAGES = ("torch", "numpy", "tianshou", "gymnasium", "mujoco", "sb3-contrib", "skrl")


def environment() -> dict[str, Any]:
    """Return the versions and the machine, which every result file holds."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "versions": versions,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def save(name: str, data: Any) -> Path:
    """Write ``data`` as ``results/name.json``."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n")
    return path


def load(name: str) -> Any:
    """Return what :func:`save` wrote."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_between_markers(document: Path, name: str, text: str) -> None:
    """Replace what stands between ``<!-- name -->`` and ``<!-- /name -->`` in a document."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    content = document.read_text()
    if content.count(start) != 1 or content.count(end) != 1:
        raise ValueError(f"{document.name} must hold {start} and {end} once each")
    before, rest = content.split(start)
    _, after = rest.split(end)
    document.write_text(f"{before}{start}\n{text}\n{end}{after}")


def write_table(name: str, text: str) -> None:
    """Write a table between its markers in docs/benchmarks.md, and print it."""
    write_between_markers(ROOT / "docs" / "benchmarks.md", name, text)
    print(text, end="\n\n")


def asked_to_measure(description: str) -> bool:
    """Read the command line, and return whether to measure, or to write tables from the committed results only."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--table", action="store_true", help="only write the tables, from the committed results")
    return not parser.parse_args().table


def measure_seeds(
    name: str, run: Callable[[str, int], Iterable[dict[str, Any]]], seeds: Iterable[int], tasks: Sequence[str]
) -> None:
    """Measure with each seed on each task, on one thread, and save what ``run`` returns after each."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    gym.logger.min_level = gym.logger.ERROR
    rows: list[dict[str, Any]] = []
    for seed, task in product(seeds, tasks):
        rows += run(task, seed)
        save(name, {"environment": environment(), "rows": rows})
        print(task, seed, flush=True)


def save_image(figure: go.Figure, name: str) -> Path | None:
    """Draw a figure as `docs/images/name` with an installed browser, without a network; None where there is none."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"no browser of {', '.join(BROWSERS)} is installed: {name} stays as it is")
        return None
    path, height = ROOT / "docs" / "images" / name, int(figure.layout.height or 450)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "figure.html")
        still = go.Figure(figure).update_layout(width=IMAGE_WIDTH, height=height)
        drawing = still.to_html(full_html=False, include_plotlyjs=True, config={"displayModeBar": False})
        page.write_text(f"<html><body style='margin: 0'>{drawing}</body></html>")
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--screenshot={path}"]
        command += [f"--user-data-dir={folder}", f"--window-size={IMAGE_WIDTH},{height}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    return path
