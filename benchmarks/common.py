"""What the benchmarks share: the command line, results, the machine, tables and images in the documents."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import torch

from trpo_ts.diagnostics import write_json

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
IMAGE_WIDTH = 1100
PACKAGES = ("torch", "numpy", "tianshou", "gymnasium", "mujoco", "sb3-contrib", "skrl")


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return the command line of every benchmark: it measures, unless only the documents are asked for."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--table", action="store_true", help="only write the documents, from the committed results")
    return found


def environment() -> dict[str, Any]:
    """Return the versions and the machine, which every result file holds."""
    versions = {}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
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


def save(name: str, data: dict[str, Any]) -> None:
    """Write ``data`` as ``results/name.json``."""
    write_json(RESULTS / f"{name}.json", data)


def load(name: str) -> Any:
    """Return what :func:`save` wrote; an empty dictionary if there is no such file."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_between_markers(document: Path, name: str, text: str) -> None:
    """Print a text, and write it between ``<!-- name -->`` and ``<!-- /name -->`` in a document."""
    print(text, end="\n\n")
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    content = document.read_text()
    if content.count(start) != 1 or content.count(end) != 1:
        raise ValueError(f"{document.name} must hold {start} and {end} once each")
    before, rest = content.split(start)
    _, after = rest.split(end)
    document.write_text(f"{before}{start}\n{text}\n{end}{after}")


def save_image(figure: go.Figure, name: str) -> None:
    """Draw a figure as `docs/images/name` with an installed browser, without a network."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"no browser of {', '.join(BROWSERS)} is installed: {name} stays as it is")
        return
    path, height = ROOT / "docs" / "images" / name, int(figure.layout.height or 450)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "figure.html")
        still = go.Figure(figure).update_layout(width=IMAGE_WIDTH, height=height)
        drawing = still.to_html(full_html=False, include_plotlyjs=True, config={"displayModeBar": False})
        page.write_text(f"<html><body style='margin: 0'>{drawing}</body></html>")
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--screenshot={path}"]
        command += [f"--user-data-dir={folder}", f"--window-size={IMAGE_WIDTH},{height}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
