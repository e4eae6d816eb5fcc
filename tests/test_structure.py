"""Imports point one way: distributions <- autodiff <- kfac <- solver <- algorithms <- checkpoints <- command line."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest
from repository import ROOT

FOLDERS = {"trpo_ts": "trpo_ts", "policies": "trpo_ts.policies", "critics": "trpo_ts.critics"}

MATHEMATICS = {
    "trpo_ts.distributions": ("trpo_ts.validation.parameter_values",),
    "trpo_ts.autodiff": ("trpo_ts.distributions", "trpo_ts.validation.trainable_parameters"),
    "trpo_ts.kfac": ("trpo_ts.autodiff", "trpo_ts.distributions", "trpo_ts.validation.parameter_values"),
    "trpo_ts.solver": (
        "trpo_ts.kfac",
        "trpo_ts.autodiff",
        "trpo_ts.distributions",
        "trpo_ts.validation.parameter_values",
        "trpo_ts.validation.distribution_checks",
        "trpo_ts.validation.policy_function_checks",
        "trpo_ts.validation.requires_grad_checks",
        "trpo_ts.validation.autocast_check",
        "trpo_ts.validation.trainable_parameters",
        "trpo_ts.concurrent_updates",
        "trpo_ts.network_snapshot",
        "trpo_ts.runtime",
    ),
}
"""What each package of the mathematics may import of ``trpo_ts`` beside itself."""

ALGORITHMS = ("trpo_ts.npg", "trpo_ts.trpo", "trpo_ts.stats")
ABOVE = ("trpo_ts.agents", "trpo_ts.checkpoints", "trpo_ts.training")
COMMAND_LINE = ("trpo_ts.cli", "trpo_ts.__main__")
"""Imports everything, and is imported by nothing."""
FORBIDDEN = {
    **dict.fromkeys(MATHEMATICS, ("tianshou", "gymnasium", "numpy", "plotly")),
    "trpo_ts.policies": (*ALGORITHMS, "trpo_ts.diagnostics"),
    "trpo_ts.critics": (*ALGORITHMS, "trpo_ts.diagnostics"),
    "trpo_ts.networks": (*ALGORITHMS, "trpo_ts.diagnostics", "trpo_ts.policies", "trpo_ts.critics"),
    "trpo_ts.recurrent": (*ALGORITHMS, "trpo_ts.diagnostics", "trpo_ts.policies", "trpo_ts.critics"),
    "trpo_ts.validation": (*ALGORITHMS, "trpo_ts.diagnostics", "trpo_ts.policies", "trpo_ts.critics"),
    "trpo_ts.runtime": ("tianshou", "gymnasium", "plotly", *ALGORITHMS, "trpo_ts.diagnostics"),
    "trpo_ts.envs": (*ALGORITHMS, "tianshou", "torch"),
    "trpo_ts.presets": (*ALGORITHMS, "tianshou", "torch"),
    "trpo_ts.diagnostics": (*ALGORITHMS, "torch", "trpo_ts.reports"),
    "trpo_ts.reports": (*ALGORITHMS, "torch", "tianshou", "gymnasium"),
    "trpo_ts.loggers": (*ALGORITHMS, "trpo_ts.policies", "trpo_ts.critics"),
}
"""What a package may not import; others may not import the diagnostics."""

MOST_LINES = 40


@cache
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


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text())


@cache
def imports(module: str) -> frozenset[str]:
    names = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def package_of(module: str, packages: Iterable[str]) -> str | None:
    return next((package for package in packages if is_in(module, package)), None)


every_module = pytest.mark.parametrize("module", sorted(modules()))


@every_module
def test_imports_point_one_way(module: str):
    if package_of(module, COMMAND_LINE) is not None:
        return
    forbidden = (*FORBIDDEN.get(package_of(module, FORBIDDEN), ("trpo_ts.diagnostics",)), "trpo_ts.cli")
    # The package itself imports what is above when it is asked for it, and here for type checkers.
    if module != "trpo_ts" and not any(is_in(module, package) for package in ABOVE):
        forbidden += ABOVE
    if not is_in(module, "trpo_ts.highlevel"):
        forbidden += ("trpo_ts.highlevel",)
    for name in imports(module):
        assert not any(is_in(name, package) for package in forbidden), f"{module} imports {name}"
        assert name.split(".")[0] not in ("policies", "critics"), f"{module} imports {name}"


@pytest.mark.parametrize("module", [m for m in sorted(modules()) if package_of(m, MATHEMATICS)])
def test_the_mathematics_imports_what_is_below_it(module: str):
    package = package_of(module, MATHEMATICS)
    allowed = (package, *MATHEMATICS[package])
    for name in imports(module):
        if name.split(".")[0] == "trpo_ts":
            assert any(is_in(name, other) for other in allowed), f"{module} imports {name}"


@pytest.mark.parametrize("package", MATHEMATICS)
def test_what_the_mathematics_imports_knows_no_tianshou_either(package: str):
    todo = [module for module in modules() if is_in(module, package)]
    reached = set(todo)
    while todo:
        following = (imports(todo.pop()) & modules().keys()) - reached - {"trpo_ts"}
        reached |= following
        todo += following
    for module in reached:
        for name in imports(module):
            assert name.split(".")[0] not in ("tianshou", "gymnasium", "plotly"), f"{package} reaches {module}: {name}"


def executed(module: str) -> set[str]:
    """Return the modules that an import of ``module`` executes next: those it names, and the packages they are in."""
    named = {name for name in imports(module) if name in modules()}
    parents = {".".join(name.split(".")[:n]) for name in named for n in range(2, name.count(".") + 1)}
    return {name for name in named | parents if name != "trpo_ts" and not is_in(module, name)}


def test_no_module_imports_itself_by_way_of_others():
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " <- ".join((*path, module))
        if module not in done:
            for name in executed(module) & modules().keys():
                visit(name, (*path, module))
            done.add(module)

    for module in sorted(modules()):
        visit(module, ())


def test_no_two_modules_have_one_name():
    names = Counter(path.stem for path in modules().values() if path.name != "__init__.py")
    assert [name for name, count in names.items() if count > 1] == []


def functions(module: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(tree_of(module)) if isinstance(node, kinds)]


@every_module
def test_functions_fit_on_a_screen(module: str):
    for function in functions(module):
        statements = function.body[1:] if ast.get_docstring(function) is not None else function.body
        lines = statements[-1].end_lineno - statements[0].lineno + 1 if statements else 0
        assert lines <= MOST_LINES, f"{module}.{function.name} has {lines} lines"


@every_module
def test_what_is_public_has_a_docstring(module: str):
    assert ast.get_docstring(tree_of(module)), module
    for node in tree_of(module).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{module}.{node.name}"


def test_every_package_is_listed_for_the_wheel():
    text = (ROOT / "pyproject.toml").read_text()
    for module, path in modules().items():
        if path.name == "__init__.py":
            assert f'"{module}"' in text, module


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("trpo_ts", {"torch", "tianshou", "plotly"}),
        ("trpo_ts.distributions, trpo_ts.autodiff, trpo_ts.kfac, trpo_ts.solver", {"tianshou", "plotly"}),
    ],
    ids=["the package", "the mathematics"],
)
def test_an_import_loads_no_more_than_it_needs(modules: str, absent: set[str]):
    code = f"import sys, {modules}; bad = {absent} & set(sys.modules); assert not bad, bad"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_import_needs_no_extra():
    """Importing the package loads none of the optional dependencies."""
    code = (
        "import sys, trpo_ts.trpo, trpo_ts.policies, trpo_ts.critics; "
        "extras = {'mujoco', 'envpool', 'onnx', 'imageio_ffmpeg', 'wandb', 'rliable', 'joblib'}; "
        "extras |= {'sb3_contrib', 'skrl'}; "
        "bad = extras & set(sys.modules); "
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
