"""The documentation names what exists: files, functions, parameters, defaults, fields and outcomes."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
from functools import cache
from pathlib import Path

import pytest
import tianshou.algorithm
from repository import ROOT
from tianshou.trainer import OnPolicyTrainerParams

from trpo_ts import KFAC, TRPO, TRPOTrainingStats
from trpo_ts.diagnostics import EvaluationRecord, UpdateRecord
from trpo_ts.diagnostics.storage import record_line
from trpo_ts.solver.outcomes import StepOutcome

PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
TRPO_PAGE = ROOT / "docs" / "trpo.md"
METRICS_PAGE = ROOT / "docs" / "metrics.md"

LINK = re.compile(r"""(?:\]\(|(?:src|href)=")([^()\s"]+)""")
NAMED_LINK = re.compile(r"\]\(([^()\s]+\.py)\)\s+(`[\w.]+`(?:,\s+`[\w.]+`)*)")
EATEN_BY_MARKDOWN = re.compile(r"\\[,;:!{}|\\_%#]|\}_|\*")
"""What GitHub's Markdown takes for itself, or may, before the mathematics is rendered."""

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@cache
def defined_names(path: Path) -> frozenset[str]:
    names: set[str] = set()

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(prefix + node.name)
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names.update(prefix + target.id for target in targets if isinstance(target, ast.Name))

    visit(ast.parse(path.read_text()).body, "")
    return frozenset(names)


def tables(page: Path, first_header: str) -> list[list[list[str]]]:
    """Return the rows, without the header, of each table whose first column is called ``first_header``."""
    found = []
    for block in re.findall(r"(?:^\|.*\|\n)+", page.read_text(), flags=re.MULTILINE):
        header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines())
        if header[0] == first_header:
            assert all(len(row) == len(header) for row in rows), f"ragged table {first_header!r}"
            found.append(rows)
    return found


def code(cell: str) -> str:
    match = re.match(r"`([^`]+)`", cell)
    assert match, f"no code at the start of {cell!r}"
    return match.group(1)


def default(cell: str) -> object:
    if cell == "required":
        return inspect.Parameter.empty
    return KFAC() if code(cell) == "KFAC()" else ast.literal_eval(code(cell))


def same(value: object, expected: object) -> bool:
    return value == expected and type(value) is type(expected)  # True is not 1.0


# All pages


@pages
def test_links_lead_somewhere(page):
    for target in LINK.findall(prose(page)):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.is_relative_to(ROOT), f"{target} leaves the repository"
        assert path.exists(), f"{target} does not exist"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{target}: no such heading"


@pages
def test_names_behind_code_links_exist_in_the_file(page):
    for target, names in NAMED_LINK.findall(prose(page)):
        if "://" in target:
            continue
        path = (page.parent / target).resolve()
        for name in re.findall(r"`([\w.]+)`", names):
            assert name in defined_names(path), f"{target} does not define {name}"


@pages
def test_mathematics_survives_markdown(page):
    text = prose(page)
    assert text.count("$$") % 2 == 0, "an equation is not closed"
    without_code = re.sub(r"`[^`]*`", "", text)
    for block, inline in re.findall(r"\$\$(.+?)\$\$|\$([^$]+)\$", without_code, flags=re.DOTALL):
        formula = block or inline
        assert "\n" not in formula, f"{formula!r} is broken over lines"
        assert not EATEN_BY_MARKDOWN.search(formula), formula


# The pages of TRPO and of its metrics


def test_every_constructor_parameter_and_its_default():
    ours, _ = tables(TRPO_PAGE, "Parameter")
    signature = dict(inspect.signature(TRPO).parameters)
    assert [code(row[0]) for row in ours] == list(signature)
    for row in ours:
        name = code(row[0])
        assert same(default(row[1]), signature[name].default), f"default of {name}"


def test_every_trainer_parameter_and_its_default():
    _, trainers = tables(TRPO_PAGE, "Parameter")
    fields = {field.name: field.default for field in dataclasses.fields(OnPolicyTrainerParams)}
    for row in trainers:
        name = code(row[0])
        assert same(default(row[1]), fields[name]), f"default of {name}"


def test_tianshous_names_and_defaults():
    ours, _ = tables(TRPO_PAGE, "Parameter")
    signature = dict(inspect.signature(tianshou.algorithm.TRPO).parameters)
    named = {code(row[4]): row[4] for row in ours if row[4].startswith("`")}
    assert set(named) == set(signature)
    for name, cell in named.items():
        _, _, value = cell.partition(" = ")
        expected = signature[name].default
        assert same(ast.literal_eval(value) if value else inspect.Parameter.empty, expected), f"default of {name}"


def test_every_field_of_the_training_stats():
    (rows,) = tables(METRICS_PAGE, "Field")
    fields = {field.name: str(field.type) for field in dataclasses.fields(TRPOTrainingStats)}
    assert sorted(code(row[0]) for row in rows) == sorted(fields)
    for row in rows:
        name = code(row[0])
        assert row[0].endswith("*s*") == ("SequenceSummaryStats" in fields[name]), f"summary or number: {name}"


def test_every_key_of_a_metrics_file():
    (rows,) = tables(METRICS_PAGE, "Key")
    (statistics,) = tables(METRICS_PAGE, "Field")
    explained = {code(row[0]) for row in [*rows, *statistics]} - {"smoothed_loss"}
    lines = [record_line(UpdateRecord(1, 8, (1.0,))), record_line(EvaluationRecord(8, (1.0,)))]
    assert set.union(*(set(json.loads(line)) for line in lines)) == explained


def test_every_step_outcome_and_its_code():
    (rows,) = tables(METRICS_PAGE, "Code")
    assert {code(row[1]): int(row[0]) for row in rows} == {outcome.name: outcome.value for outcome in StepOutcome}
