"""What the documentation says of the command line is so."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
from repository import ROOT

from trpo_ts.cli.commands import Evaluate, Report, Resume, Tasks, Train
from trpo_ts.presets import Settings

PAGE = ROOT / "docs" / "command_line.md"
COMMANDS = {"train": Train, "resume": Resume, "evaluate": Evaluate, "report": Report, "tasks": Tasks}


def options(command: type) -> set[str]:
    names = {field.name for field in fields(command)} | (set(Settings.names()) if command is Train else set())
    return {f"--{name.replace('_', '-')}" for name in names}


def test_every_option_exists():
    known = set.union(*map(options, COMMANDS.values()), {"--help"})
    named = set(re.findall(r"--[a-z][a-z-]+", PAGE.read_text())) - {"--logdir"}  # TensorBoard's
    assert named <= known, named - known


def test_every_option_of_train_beside_the_settings_is_explained():
    text = PAGE.read_text()
    for field in fields(Train):
        if field.name != "settings":
            assert f"--{field.name.replace('_', '-')}" in text, field.name


@pytest.mark.parametrize("page", [PAGE, ROOT / "README.md"], ids=lambda page: page.name)
def test_the_lines_to_type_are_of_commands_that_exist(page):
    lines = re.findall(r"^trpo-ts (.*?)(?:\s+#.*)?$", page.read_text(), flags=re.MULTILINE)
    assert lines
    for line in lines:
        command, *words = line.split()
        assert {word for word in words if word.startswith("--")} <= options(COMMANDS[command]), line


def test_every_command_is_in_the_table():
    rows = re.findall(r"^\| `(\w+)[ `]", PAGE.read_text(), flags=re.MULTILINE)
    assert [row for row in rows if row in COMMANDS] == ["train", "resume", "evaluate", "report", "tasks"]


def test_the_readmes_training_learns(capsys):
    (code,) = re.findall(r"## Train\n.*?```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    exec(code, {})
    text, value = capsys.readouterr().out.split(": ")
    assert text == "best test return"
    assert float(value) >= 195.0
