"""Imports point one way: mathematics <- trust-region step <- algorithms <- checkpoints, diagnostics, high-level API."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT

FOLDERS = {"trpo_ts": "trpo_ts", "policies": "trpo_ts.policies", "critics": "trpo_ts.critics"}

ABOVE = ("trpo_ts.checkpoints", "trpo_ts.training")


def modules() -> dict[str, Path]:
    found = {}
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            relative = path.relative_to(ROOT / folder)
            if folder == "trpo_ts" and relative.parts[0] in ("policies", "critics"):
                continue  # the symlinks for static tools
            parts = [package, *relative.with_suffix("").parts]
            found[".".join(p for p in parts if p != "__init__")] = path
    return found


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def forbidden(module: str) -> tuple[str, ...]:
    if module.startswith("trpo_ts.natural_gradient"):
        return ("trpo_ts.", "tianshou", "gymnasium", "numpy", "plotly")
    if module == "trpo_ts.trust_region":
        return ("trpo_ts.npg", "trpo_ts.trpo", "trpo_ts.rollout", "trpo_ts.stats", "trpo_ts.diagnostics", "tianshou")
    if module.startswith(("trpo_ts.policies", "trpo_ts.critics")):
        return ("trpo_ts.npg", "trpo_ts.trpo", "trpo_ts.diagnostics", "trpo_ts.stats")
    if module.startswith("trpo_ts.envs"):
        return ("trpo_ts.npg", "trpo_ts.trpo", "tianshou", "torch")
    if module.startswith("trpo_ts.diagnostics"):
        return ("trpo_ts.npg", "trpo_ts.trpo", "torch")
    return ("trpo_ts.diagnostics",)


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_point_one_way(module):
    own_package = "trpo_ts.natural_gradient"
    above = () if module.startswith(ABOVE) else ABOVE
    for name in imports(modules()[module]):
        assert not name.startswith(above), f"{module} imports {name}"
        if module.startswith(own_package) and name.startswith((own_package, "trpo_ts.checks")):
            continue  # the checks of values know nothing of the package
        assert not name.startswith(forbidden(module)), f"{module} imports {name}"
        if not module.startswith("trpo_ts.highlevel"):
            assert not name.startswith("trpo_ts.highlevel"), f"{module} imports {name}"
        assert name.split(".")[0] not in ("policies", "critics"), f"{module} imports {name}"


def test_every_package_is_listed_for_the_wheel():
    text = (ROOT / "pyproject.toml").read_text()
    for module, path in modules().items():
        if path.name == "__init__.py":
            assert f'"{module}"' in text, module


def test_import_needs_no_extra():
    """Importing the package loads none of the optional dependencies."""
    code = (
        "import sys, trpo_ts, trpo_ts.policies, trpo_ts.critics; "
        "bad = {'mujoco', 'envpool', 'rliable', 'joblib', 'sb3_contrib', 'skrl'} & set(sys.modules); "
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
