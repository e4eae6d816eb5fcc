"""From the words on the command line to a subcommand, with errors of one line."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, cast

import tyro

from trpo_ts.choices import EnvBackend
from trpo_ts.cli.commands import Train, command_type
from trpo_ts.cli.usage import UsageError, refused_values
from trpo_ts.envs.tasks import backend_of
from trpo_ts.presets import Settings, choose_preset
from trpo_ts.validation.argument_names import ALGORITHM_NAMES, NETWORK_NAMES

__all__ = ["PROGRAM", "parse"]

PROGRAM = "trpo-ts"

_FOREIGN = {
    **ALGORITHM_NAMES,
    **NETWORK_NAMES,
    **dict.fromkeys(("env", "env_id", "env_name", "environment"), "task"),
    **dict.fromkeys(("total_timesteps", "timesteps", "n_timesteps", "total_steps", "max_steps"), "steps"),
    **dict.fromkeys(("n_envs", "num_training_envs", "training_num"), "num_envs"),
    **dict.fromkeys(("n_steps", "num_steps", "rollout_steps"), "segment"),
    **dict.fromkeys(("learning_rate", "vf_lr", "critic_lr"), "lr"),
    **dict.fromkeys(("logdir", "log_dir", "output", "output_dir", "tensorboard_log", "save_dir"), "out"),
    **dict.fromkeys(("normalize", "norm_obs", "obs_norm", "normalize_observations"), "normalise_observations"),
    **dict.fromkeys(("recurrent", "lstm", "rnn"), "memory"),
    **dict.fromkeys(("eval_freq", "test_interval"), "test_every"),
    **dict.fromkeys(("n_eval_episodes", "eval_episodes"), "test_episodes"),
    **dict.fromkeys(("num_threads", "torch_threads"), "threads"),
}
"""What other libraries call a flag, and what it is called here."""

_FLAGS = {*Settings.names(), *(field.name for field in fields(Train))}

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
    """Return the defaults of ``train``: they are those of the preset, which depends on some of its options."""
    task = _value_of("--task", arguments) or Train.task
    name = _value_of("--preset", arguments)
    with refused_values():
        word = cast(EnvBackend, _value_of("--env-backend", arguments) or Train.env_backend)
        backend = backend_of(task, word)  # refuses other words
        preset = choose_preset(task, None if name == "None" else name, backend=backend)
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
    """Return what tyro says of an error, in a box of several lines, as one line.

    A title is followed by parts between rules; they are drawn as ``-`` where the output has no Unicode.
    """
    lines = [re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯]", "", line).strip() for line in box.splitlines()]
    _title, *lines = [line for line in lines if line]
    if not lines[0].strip("-"):
        del lines[0]
    rules = [i for i, line in enumerate(lines) if not line.strip("─-")]
    problem = re.sub(r"'\('([\w-]+)',\)'", r"\1", " ".join(lines[: rules[0]] if rules else lines))
    shown = [line for line in lines[rules[0] if rules else 0 :] if re.match(r"--\w", line)]
    hints = {"Perhaps you meant:": "did you mean", "Argument helptext:": "write"}
    hint = next((f"; {word} {shown[0]}" for line, word in hints.items() if line in lines and shown), "")
    if problem.startswith("Unrecognized"):
        hint = _own_flag(problem) or hint
    known = arguments[:1] and arguments[0] in ("train", "resume", "evaluate", "report", "tasks")
    command = f"{PROGRAM} {arguments[0]}" if known else PROGRAM
    return f"{problem.rstrip('.')}{hint} ({command} --help lists all options)"


def _own_flag(problem: str) -> str:
    """Return what to write for a flag that other libraries have; empty where that is not known."""
    flag = re.search(r"--([\w-]+)", problem)
    if flag is None:
        return ""
    fix = re.match(r'(\w+)(?:="(\w+)")?', _FOREIGN.get(flag[1].replace("-", "_"), ""))
    if fix is None or fix[1] not in _FLAGS:
        return ""
    return f"; write --{fix[1].replace('_', '-')} {fix[2] or ''}".rstrip()
