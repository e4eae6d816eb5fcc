"""What the outputs of a notebook say, and where two executions of it differ."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from nbformat import NotebookNode

__all__ = ["differences", "figure_parts", "lines_said", "numbers"]

PLOTLY = "application/vnd.plotly.v1+json"
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
_COUNTS = re.compile(r"(?<=^outcomes: ).*")
"""Which outcomes updates have is a matter of rounding, as the numbers of a training are."""


def lines_said(notebook: NotebookNode) -> list[str]:
    """Return the lines that were printed or shown as text."""
    return [
        line
        for output in _outputs(notebook)
        if not output.get("data", {}).get(PLOTLY)
        for line in (output.get("text", "") or output.get("data", {}).get("text/plain", "")).splitlines()
    ]


def numbers(line: str) -> list[float]:
    """Return the numbers in a line."""
    return [float(number.replace(",", "")) for number in _NUMBER.findall(line)]


def figure_parts(notebook: NotebookNode) -> list[str]:
    """Return the titles of each figure and its axes, and the names of its traces."""
    parts = []
    for output in _outputs(notebook):
        if figure := output.get("data", {}).get(PLOTLY):
            layout = figure["layout"]
            axes = [layout[axis]["title"]["text"] for axis in sorted(layout) if re.match("[xy]axis", axis)]
            headings = [note["text"] for note in layout.get("annotations", ())]
            names = [trace.get("name", "") for trace in figure["data"]]
            parts.append(str([layout["title"]["text"], headings, axes, names]))
    return parts


def differences(one: NotebookNode, other: NotebookNode) -> list[str]:
    """Return where two executions differ in more than numbers."""
    return [
        line
        for part in (_words, figure_parts)
        for line in difflib.unified_diff(part(one), part(other), "one", "other", lineterm="", n=0)
    ]


def _words(notebook: NotebookNode) -> list[str]:
    lines = (_NUMBER.sub("#", _COUNTS.sub("#", line)) for line in lines_said(notebook))
    return [" ".join(line.split()) for line in lines]


def _outputs(notebook: NotebookNode) -> Iterator[NotebookNode]:
    for cell in notebook.cells:
        yield from cell.get("outputs", ())
