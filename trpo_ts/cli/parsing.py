"""From the words on the command line to a subcommand, with errors of one line."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import tyro

from trpo_ts.cli.commands import Train, command_type
from trpo_ts.cli.usage import UsageError, refused_values
from trpo_ts.presets import choose_preset

__all__ = ["PROGRAM", "parse"]

PROGRAM = "trpo-ts"

_DESCRIPTION = "Trust Region Policy Optimization: train on any gymnasium environment, resume, evaluate, report."


def parse(arguments: Sequence[str]) -> Any:
    """Return the subcommand that the words say.

    :raises UsageError: for words that say none.
    :raises SystemExit: after ``--help`` has been printed.
    """
    defaults = _train_defaults(arguments) if arguments[:1] == ["train"] else Train()
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(
                command_type(defaults),
                prog=PROGRAM,
                description=_DESCRIPTION,
                args=list(arguments),
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as end:
        if not end.code:
            raise
        raise UsageError(_one_line(errors.getvalue(), arguments)) from end


def _train_defaults(arguments: Sequence[str]) -> Train:
    """Return the defaults of ``train``: they are those of the preset, which depends on two of its options."""
    task = _value_of("--task", arguments) or Train.task
    name = _value_of("--preset", arguments)
    with refused_values():
        preset = choose_preset(task, None if name == "None" else name)
        return replace(Train(), settings=preset.settings(task))


def _value_of(flag: str, arguments: Sequence[str]) -> str | None:
    """Return the last value of a flag."""
    value = None
    for word, following in zip(arguments, [*arguments[1:], None], strict=True):
        if word == flag:
            value = following
        elif word.startswith(f"{flag}="):
            value = word.partition("=")[2]
    return value


def _one_line(box: str, arguments: Sequence[str]) -> str:
    """Return what tyro says of an error, in a box of several lines, as one line."""
    lines = [re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯]", "", line).strip() for line in box.splitlines()]
    lines = [line for line in lines[1:] if line]
    rules = [i for i, line in enumerate(lines) if not line.strip("─")]
    problem = " ".join(lines[: rules[0]] if rules else lines)
    shown = [line for line in lines[rules[0] if rules else 0 :] if line.startswith("--")]
    hints = {"Perhaps you meant:": "did you mean", "Argument helptext:": "write"}
    hint = next((f"; {word} {shown[0]}" for line, word in hints.items() if line in lines and shown), "")
    known = arguments[:1] and arguments[0] in ("train", "resume", "evaluate", "report", "tasks")
    command = f"{PROGRAM} {arguments[0]}" if known else PROGRAM
    return f"{problem.rstrip('.')}{hint} ({command} --help lists all options)"
