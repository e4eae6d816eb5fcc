"""Execute the notebooks in examples/ and write them with their outputs: python tools/notebooks.py [NAME...].

The script beside each notebook is what people edit (jupytext, percent format). Figures are stored twice: as Plotly's
own description, for whoever can draw it, and as a PNG, for GitHub and other pages without JavaScript.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jupytext
import kaleido
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NAMES = ("trpo_from_scratch", "tianshou_swap", "failing_runs")
PLOTLY = "application/vnd.plotly.v1+json"


def executed(name: str) -> NotebookNode:
    """Return a notebook, made from its script and executed in an empty folder.

    :raises CellExecutionError: for the first cell that raises.
    """
    notebook = jupytext.read(EXAMPLES / f"{name}.py")
    # No renderer that would store a copy of plotly.js, and one thread, as for all small networks.
    os.environ |= {"PLOTLY_RENDERER": "plotly_mimetype", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=600,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            coalesce_streams=True,
            record_timing=False,
        ).execute()
    return tidy(notebook)


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Leave out what differs from machine to machine and says nothing, so that a new execution is a small diff."""
    notebook.metadata.pop("language_info", None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata.clear()
    return notebook


def figures(notebook: NotebookNode) -> Iterator[dict]:
    """Yield the outputs that are figures, by type of content."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if PLOTLY in output.get("data", {}):
                yield output.data


def add_images(notebook: NotebookNode) -> None:
    """Store a PNG beside each figure."""
    for data in figures(notebook):
        description = data[PLOTLY]
        size = {side: description["layout"].get(side, default) for side, default in (("width", 900), ("height", 450))}
        png = kaleido.calc_fig_sync(description, opts={"format": "png", **size})
        palette, few_colours = Image.open(io.BytesIO(png)).convert("RGB").quantize(128), io.BytesIO()
        palette.save(few_colours, "PNG", optimize=True)  # less than half the bytes
        data["image/png"] = base64.b64encode(few_colours.getvalue()).decode()


def main() -> None:
    """Execute the named notebooks, or all."""
    parser = argparse.ArgumentParser(description="Execute the notebooks and store their outputs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all")
    names = parser.parse_args().names or NAMES
    if unknown := set(names) - set(NAMES):
        parser.error(f"no notebook is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    kaleido.start_sync_server(silence_warnings=True)  # one browser for all images
    try:
        for name in names:
            notebook = executed(name)
            add_images(notebook)
            path = EXAMPLES / f"{name}.ipynb"
            nbformat.write(notebook, path)
            print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")
    finally:
        kaleido.stop_sync_server(silence_warnings=True)


if __name__ == "__main__":
    main()
