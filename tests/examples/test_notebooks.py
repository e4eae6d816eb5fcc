"""The notebooks: scripts and notebooks agree, they run, and their stored outputs can be shown anywhere."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import pytest
from notebook_outputs import differences, lines_said, numbers
from repository import ROOT

EXAMPLES = ROOT / "examples"
TEACHING, SWAP, FAILING = "trpo_from_scratch", "tianshou_swap", "failing_runs"
PLOTLY, PNG = "application/vnd.plotly.v1+json", "image/png"
FIGURES = {TEACHING: 8, SWAP: 2, FAILING: 5}
MOST_BYTES = 1_500_000
DETERMINISTIC = {
    TEACHING: r"\d+ parameters|[\d,]+ rows|(natural|plain) gradient|[{ ]'",
    SWAP: r"records of the whole run|files:|max_kl",
}
"""Lines whose numbers no training has made: in a training, rounding that differs soon gives another course."""
EATEN_BY_MARKDOWN = re.compile(r"\\[,;:!{}|\\_%#]")
"""What Markdown takes out of a formula before it is rendered, on GitHub."""

notebooks = pytest.mark.parametrize("name", FIGURES)


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "tools" / "notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stored(name):
    return nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)


def cells(notebook):
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def texts(notebook):
    """Return what the outputs say, images left out."""
    return [
        json.dumps({kind: value for kind, value in output.get("data", {}).items() if kind != PNG})
        + output.get("text", "")
        for output in outputs(notebook)
    ]


def assert_runs(tool, name, monkeypatch):
    # The kernel inherits the environment; what the tool changes in it is undone after the test.
    for variable in ("PLOTLY_RENDERER", "OMP_NUM_THREADS"):
        monkeypatch.setenv(variable, "")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = tool.executed(name)
    kinds = [output.output_type for output in outputs(notebook)]
    assert "error" not in kinds
    assert not [output.text for output in outputs(notebook) if output.get("name") == "stderr"]
    assert len(list(tool.figures(notebook))) == FIGURES[name]
    assert_nothing_private(notebook)
    assert_repeats(notebook, stored(name), DETERMINISTIC.get(name))
    return notebook


def assert_repeats(notebook, before, deterministic):
    """Words and figures are those stored; so are the numbers that come before a training."""
    assert differences(before, notebook) == [], "type: make notebooks"
    pairs = list(zip(lines_said(before), lines_said(notebook), strict=True))
    compared = [pair for pair in pairs if deterministic and re.match(deterministic, pair[0])]
    assert len(compared) >= 3 or deterministic is None
    for old, new in compared:
        np.testing.assert_allclose(numbers(new), numbers(old), rtol=0.02, err_msg=f"{old}; type: make notebooks")


def assert_nothing_private(notebook):
    for text in texts(notebook):
        assert not re.search(r"/(work|root|home|tmp|usr|Users)/|site-packages|Warning", text), text[:500]


def test_all_scripts_that_are_notebooks_are_known(tool):
    scripts = {path.stem for path in EXAMPLES.glob("*.py") if "jupytext" in path.read_text()[:200]}
    assert scripts == {path.stem for path in EXAMPLES.glob("*.ipynb")} == set(FIGURES) == set(tool.NAMES)


@notebooks
def test_script_and_notebook_agree(name):
    assert cells(jupytext.read(EXAMPLES / f"{name}.py")) == cells(stored(name))


@notebooks
def test_stored_outputs_show_without_javascript_or_network(name):
    notebook = stored(name)
    assert (EXAMPLES / f"{name}.ipynb").stat().st_size <= MOST_BYTES
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    figures = [output.data for output in outputs(notebook) if PLOTLY in output.get("data", {})]
    assert len(figures) == FIGURES[name]
    for data in figures:
        assert base64.b64decode(data[PNG])[:8] == b"\x89PNG\r\n\x1a\n"
        assert "text/html" not in data  # a copy of plotly.js, or a link to one
        layout = data[PLOTLY]["layout"]
        assert layout["title"]["text"]
        visible = [value for key, value in layout.items() if re.fullmatch(r"[xy]axis\d*", key)]
        assert all(axis["title"]["text"] for axis in visible)
    assert_nothing_private(notebook)
    assert not [output for output in outputs(notebook) if output.get("name") == "stderr"]


@notebooks
def test_links_and_mathematics_hold(name):
    notebook = stored(name)
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    headings = {heading.replace("`", "").replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", prose, re.MULTILINE)}
    for target in re.findall(r"\]\(([^()\s]+)\)", prose):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif "://" not in target:
            assert Path(EXAMPLES, target.partition("#")[0]).resolve().exists(), target
    for formula in re.findall(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", re.sub(r"```.*?```|`[^`]*`", "", prose, flags=re.DOTALL)):
        assert not EATEN_BY_MARKDOWN.search("".join(formula)), formula


def test_the_teaching_notebook_runs(tool, monkeypatch):
    notebook = assert_runs(tool, TEACHING, monkeypatch)
    said = "".join(output.get("text", "") for output in outputs(notebook))
    # Every part of the step was compared with the package's.
    for part in (
        "KL divergence",
        "generalised advantages",
        "surrogate objective",
        "mean KL divergence",
        "policy gradient",
    ):
        assert re.search(rf"^{part} +relative difference", said, re.MULTILINE), part
    for part in ("Fisher product 3", "search direction x", "curvature", "step size alpha", "change of parameters"):
        assert re.search(rf"^{part} +relative difference", said, re.MULTILINE), part
    returns = [float(value) for value in re.findall(r"last five updates: mean return (-?[\d.]+)", said)]
    assert len(returns) == 2
    assert min(returns) > -35.0  # the best controller has -22, random actions about -300


@pytest.mark.slow
def test_the_notebook_of_the_pipeline_runs(tool, monkeypatch):
    notebook = assert_runs(tool, SWAP, monkeypatch)
    said = "".join(output.get("text", "") for output in outputs(notebook))
    for claim in ("same episodes: True", "equal to the run in one go: True", "trpo_ts.TRPO keeps it: True"):
        assert claim in said
    before, after = re.search(r"before ([\d.]+), after loading ([\d.]+)", said).groups()
    assert before == after


@pytest.mark.slow
def test_the_notebook_of_failing_runs_runs(tool, monkeypatch):
    notebook = assert_runs(tool, FAILING, monkeypatch)
    healthy, wild, too_large, too_small, no_noise, raw, normalised, no_reward = tables(notebook)
    for table in (healthy, normalised):
        assert table["explained"][-1] > 0.9
        assert table["return"][-1] > -60.0
    assert table_max(healthy, "vf_loss", last=1) < 10.0 < 1000.0 < table_max(wild, "vf_loss", last=1)
    assert table_max(too_large, "KL") > 0.1
    assert np.mean(too_large["achieved"]) < 0.5 * np.mean(too_large["expected"])
    assert table_max(too_small, "KL") <= 1e-5
    np.testing.assert_allclose(too_small["achieved"], too_small["expected"], rtol=0.05, atol=1e-4)
    assert set(no_noise["std"]) == {0.010}
    assert no_noise["return"][-1] < -150.0
    assert table_max(raw, "explained") < 0.05
    assert raw["return"][-1] < raw["return"][0]
    assert set(no_reward["return"]) == {0.0}


def tables(notebook):
    """Return the columns of each table of updates, by name."""
    found = []
    for line in lines_said(notebook):
        if line.startswith("update "):
            found.append({name: [] for name in line.split()})
        elif found and not line.startswith("outcomes: "):
            for column, number in zip(found[-1].values(), line.split(), strict=True):
                column.append(float(number))
    return found


def table_max(table, column, *, last=0):
    return max(table[column][-last:])
