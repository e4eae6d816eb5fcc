"""Every line to type in the documentation is a command that exists, with options that it takes."""

from __future__ import annotations

import re
import shlex
import tomllib
from dataclasses import fields

import pytest
from repository import ROOT

from trpo_ts.cli.commands import Evaluate, Report, Resume, Tasks, Train
from trpo_ts.presets import Settings

PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
COMMANDS = {kind.__name__.lower(): kind for kind in (Train, Resume, Evaluate, Report, Tasks)}
TENSORBOARD = {"--logdir"}


def lines() -> list[str]:
    blocks = (re.findall(r"^```sh\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE) for page in PAGES)
    return sorted({line for found in blocks for block in found for line in block.splitlines() if line.strip()})


def options_of(command: str) -> set[str]:
    kind = COMMANDS[command]
    names = {field.name for field in fields(kind)} | (set(Settings.names()) if kind is Train else set())
    return {f"--{name.replace('_', '-')}" for name in names} | {"--help"}


def check_script(path: str, options: set[str]) -> None:
    assert (ROOT / path).is_file(), path
    text = (ROOT / path).read_text()
    parsed = set(re.findall(r'"(--[a-z][a-z-]*)"', text))
    fields_of_arguments = {f"--{name.replace('_', '-')}" for name in re.findall(r"^    (\w+): ", text, re.MULTILINE)}
    assert options <= parsed | fields_of_arguments | {"--help"}


def check(words: list[str]) -> None:
    program, *rest = words
    options = {word for word in rest if word.startswith("--")}
    if program == "make":
        assert {word for word in rest if "=" not in word} <= TARGETS
    elif program == "pip":
        assert set(re.findall(r"\w+", rest[-1].partition("[")[2])) <= set(EXTRAS)
        assert (ROOT / rest[rest.index("-c") + 1]).is_file()
    elif program in ("python", ".venv/bin/python"):
        check_script(rest[0], options)
    elif program == "trpo-ts":
        assert options <= options_of(rest[0])
    elif program == "tensorboard":
        assert options <= TENSORBOARD
    elif program == "torchrun":
        module = rest.index("-m")
        assert rest[module + 1] == "trpo_ts"
        check(["trpo-ts", *rest[module + 2 :]])
    elif program == "wandb":
        assert rest == ["login"]
    else:
        assert (ROOT / program).is_file(), program


@pytest.mark.parametrize("line", lines())
def test_the_line_can_be_typed(line):
    check(shlex.split(line, comments=True))
